//! Records, by the project's own encoder: what is written here, stock SQLite must read.

pub(crate) use tclbtree::format::record::Field;
use tclbtree::format::record::{self, IntegerForms};

/// The record that holds `fields`, in the form of schema format 4.
pub(crate) fn encode(fields: &[Field]) -> Vec<u8> {
    record::encode(fields, IntegerForms::All)
}

/// A text field.
pub(crate) fn text(text: &str) -> Field {
    Field::Text(text.as_bytes().to_vec())
}

/// A field of bytes.
pub(crate) fn blob(bytes: &[u8]) -> Field {
    Field::Blob(bytes.to_vec())
}

/// The fields of a record of a sound database.
pub(crate) fn decode(bytes: &[u8]) -> Vec<Field> {
    record::decode(bytes).expect("a record")
}

/// The integer in `field`.
pub(crate) fn integer(field: &Field) -> i64 {
    match field {
        Field::Integer(value) => *value,
        other => panic!("not an integer: {other:?}"),
    }
}

/// The bytes of a text or blob; of an integer its eight bytes.
pub(crate) fn bytes(field: &Field) -> Vec<u8> {
    match field {
        Field::Text(bytes) | Field::Blob(bytes) => bytes.clone(),
        Field::Integer(value) => value.to_be_bytes().to_vec(),
        other => panic!("no bytes: {other:?}"),
    }
}
