//! Records: lists of values as the rows of a table are stored.
//!
//! A value is written `null`, `{int N}`, `{real X}`, `{text S}` or `{blob BYTES}`. Short forms:
//! integer syntax is an int, other number syntax a real, anything else text.

use super::super::command::{Call, Outcome};
use super::super::interp::Interp;
use super::super::result_code::Failure;
use super::super::value::{Obj, Value, to_utf8};
use crate::format::record::{self, Field, IntegerForms};

/// Schema format from which the integers 0 and 1 take no body bytes.
const SHORT_INTEGERS_SINCE: i32 = 4;

/// `btree_make_record ?-format N? VALUE...`
pub(super) fn make(call: &mut Call<'_>) -> Outcome {
    let has_option = call.has(1) && call.string(1)? == "-format";
    if has_option && !call.has(2) {
        return Err(Failure::WrongArgumentCount);
    }
    let format = if has_option { call.int(2)? } else { SHORT_INTEGERS_SINCE };
    let mut fields = Vec::new();
    for word in call.rest(if has_option { 3 } else { 1 }) {
        fields.push(field(word, &mut call.interp)?);
    }
    let forms =
        if format >= SHORT_INTEGERS_SINCE { IntegerForms::All } else { IntegerForms::NoBodiless };
    Ok(Obj::bytes(&record::encode(&fields, forms))?.into())
}

/// `btree_parse_record BYTES`: the long forms
pub(super) fn parse(call: &mut Call<'_>) -> Outcome {
    let bytes = call.word(1)?.bytes(&mut call.interp)?;
    let mut forms = Vec::new();
    for field in record::decode(bytes)? {
        forms.push(long_form(&field)?);
    }
    Ok(Obj::list(forms).into())
}

/// The fields that these words stand for.
pub(super) fn fields(words: &[Obj], interp: &mut Interp<'_>) -> Result<Vec<Field>, Failure> {
    words.iter().map(|word| field(word, interp)).collect()
}

fn field(word: &Value, interp: &mut Interp<'_>) -> Result<Field, Failure> {
    if word.text(interp) == b"null" {
        return Ok(Field::Null);
    }
    // A text with a lone brace is no list, and so is in its short form.
    if let Ok([kind, value]) = word.list(interp).as_deref() {
        match kind.string(interp).as_str() {
            "int" => return Ok(Field::Integer(value.wide(interp)?)),
            "real" => return real(value, interp).map(Field::Real),
            "text" => return Ok(Field::Text(to_utf8(value.text(interp)))),
            "blob" => return Ok(Field::Blob(value.bytes(interp)?.to_vec())),
            _ => {}
        }
    }
    let short = match (word.wide(interp), word.real(interp)) {
        (Ok(number), _) => Field::Integer(number),
        (Err(_), Some(number)) => Field::Real(number),
        (Err(_), None) => Field::Text(to_utf8(word.text(interp))),
    };
    interp.reset_result();
    Ok(short)
}

fn real(value: &Value, interp: &mut Interp<'_>) -> Result<f64, Failure> {
    value.real(interp).ok_or_else(|| {
        let shown = value.string(interp);
        let text = format!("expected floating-point number but got \"{shown}\"");
        Failure::message(text, &["TCL", "VALUE", "NUMBER"])
    })
}

fn long_form(field: &Field) -> Result<Obj, Failure> {
    let (kind, value) = match field {
        Field::Null => return Ok("null".into()),
        Field::Integer(number) => ("int", (*number).into()),
        Field::Real(number) => ("real", Obj::real(*number)),
        Field::Text(text) => ("text", Obj::utf8(text)),
        Field::Blob(bytes) => ("blob", Obj::bytes(bytes)?),
    };
    Ok(Obj::list([kind.into(), value]))
}
