//! Records: lists of values, as SQLite stores rows and index entries.
//!
//! A record is a header and a body. The header is its own length (varint, counting itself) and one
//! type (varint) for each field; the body is the fields' bytes in order.
//!
//! | type | body bytes | value |
//! | --- | --- | --- |
//! | 0 | 0 | null |
//! | 1, 2, 3, 4 | 1, 2, 3, 4 | signed integer, big-endian |
//! | 5, 6 | 6, 8 | signed integer, big-endian |
//! | 7 | 8 | IEEE 754 double, big-endian; not-a-number reads as null |
//! | 8, 9 | 0 | the integers 0 and 1, from schema format 4 on |
//! | 10, 11 | | reserved |
//! | n ≥ 12, even | (n − 12) / 2 | bytes |
//! | n ≥ 13, odd | (n − 13) / 2 | text |
//!
//! Source: SQLite file format, "Record Format".

use super::varint;
use crate::error::{Error, Result};

mod collation;
mod key;

pub use collation::{Collation, TextEncoding};
pub(crate) use key::{Comparison, RecordKey};
pub use key::{Direction, KeyInfo, SearchMode};

/// One value of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// No value.
    Null,
    /// An integer.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text in the encoding of the database.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Field {
    /// The same value, borrowed. What is not a number reads as null, as it does when stored.
    pub(crate) fn as_value(&self) -> Value<'_> {
        match self {
            Field::Null => Value::Null,
            Field::Integer(value) => Value::Integer(*value),
            Field::Real(value) => Value::real(*value),
            Field::Text(bytes) => Value::Text(bytes),
            Field::Blob(bytes) => Value::Blob(bytes),
        }
    }
}

/// One value of a record that stays where it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// No value.
    Null,
    /// An integer.
    Integer(i64),
    /// A floating-point number, never not-a-number.
    Real(f64),
    /// Text in the encoding of the database.
    Text(&'a [u8]),
    /// Bytes.
    Blob(&'a [u8]),
}

impl Value<'_> {
    fn real(value: f64) -> Self {
        if value.is_nan() { Value::Null } else { Value::Real(value) }
    }

    fn to_field(self) -> Field {
        match self {
            Value::Null => Field::Null,
            Value::Integer(value) => Field::Integer(value),
            Value::Real(value) => Field::Real(value),
            Value::Text(bytes) => Field::Text(bytes.to_vec()),
            Value::Blob(bytes) => Field::Blob(bytes.to_vec()),
        }
    }
}

/// Which types an encoder may use for integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegerForms {
    /// All of them: schema format 4.
    All,
    /// Not the two without a body: schema formats 1 to 3.
    NoBodiless,
}

/// Encodes a record, each integer in the shortest form allowed.
pub fn encode(fields: &[Field], forms: IntegerForms) -> Vec<u8> {
    let (mut types, mut body) = (Vec::new(), Vec::new());
    for field in fields {
        varint::push(push_body(field, forms, &mut body), &mut types);
    }
    // The length counts itself, so one more byte of it may need one more byte.
    let mut length = types.len() as u64 + 1;
    while varint::length(length) + types.len() > length as usize {
        length += 1;
    }
    let mut record = Vec::with_capacity(length as usize + body.len());
    varint::push(length, &mut record);
    record.extend_from_slice(&types);
    record.extend_from_slice(&body);
    record
}

/// Appends the bytes of `field` to `body` and returns its type.
fn push_body(field: &Field, forms: IntegerForms, body: &mut Vec<u8>) -> u64 {
    match field {
        Field::Null => 0,
        Field::Integer(value) => {
            let kind = integer_type(*value, forms);
            let bytes = value.to_be_bytes();
            let skip = bytes.len() - body_length(kind).unwrap_or(0) as usize;
            body.extend(bytes.iter().skip(skip));
            kind
        }
        Field::Real(value) if value.is_nan() => 0,
        Field::Real(value) => {
            body.extend_from_slice(&value.to_be_bytes());
            7
        }
        Field::Blob(bytes) => {
            body.extend_from_slice(bytes);
            12 + 2 * bytes.len() as u64
        }
        Field::Text(bytes) => {
            body.extend_from_slice(bytes);
            13 + 2 * bytes.len() as u64
        }
    }
}

fn integer_type(value: i64, forms: IntegerForms) -> u64 {
    let magnitude = if value < 0 { !value } else { value };
    match (magnitude, value) {
        (_, 0) if forms == IntegerForms::All => 8,
        (_, 1) if forms == IntegerForms::All => 9,
        (0..=0x7f, _) => 1,
        (0x80..=0x7fff, _) => 2,
        (0x8000..=0x7f_ffff, _) => 3,
        (0x80_0000..=0x7fff_ffff, _) => 4,
        (0x8000_0000..=0x7fff_ffff_ffff, _) => 5,
        _ => 6,
    }
}

/// Bytes of the body of a field of this type; `None` for the reserved types.
fn body_length(kind: u64) -> Option<u64> {
    match kind {
        0 | 8 | 9 => Some(0),
        1..=4 => Some(kind),
        5 => Some(6),
        6 | 7 => Some(8),
        10 | 11 => None,
        _ => Some((kind - 12) / 2),
    }
}

/// Decodes a record.
///
/// # Errors
/// [`Error::Corrupt`] if a length does not fit, or a type is reserved.
pub fn decode(record: &[u8]) -> Result<Vec<Field>> {
    Ok(values(record)?.into_iter().map(Value::to_field).collect())
}

const SHORT: Error = Error::corrupt("record is cut short");
const RESERVED: Error = Error::corrupt("reserved type in a record");

/// The values of a record, which stay where they are.
///
/// # Errors
/// As [`decode`].
fn values(record: &[u8]) -> Result<Vec<Value<'_>>> {
    let (length, first) = varint::decode(record).ok_or(SHORT)?;
    let length = usize::try_from(length).map_err(|_| SHORT)?;
    let mut types = record.get(first..length).ok_or(SHORT)?;
    let mut body = record.get(length..).ok_or(SHORT)?;
    let mut values = Vec::new();
    while !types.is_empty() {
        let (kind, taken) = varint::decode(types).ok_or(SHORT)?;
        types = types.get(taken..).unwrap_or_default();
        let size = body_length(kind).ok_or(RESERVED)?;
        let size = usize::try_from(size).map_err(|_| SHORT)?;
        let (bytes, rest) = body.split_at_checked(size).ok_or(SHORT)?;
        values.push(value_of(kind, bytes));
        body = rest;
    }
    if body.is_empty() { Ok(values) } else { Err(Error::corrupt("bytes behind the last field")) }
}

/// The value of a type and as many bytes as that has.
fn value_of(kind: u64, bytes: &[u8]) -> Value<'_> {
    match kind {
        0 => Value::Null,
        1..=6 => Value::Integer(signed(bytes)),
        7 => Value::real(f64::from_bits(signed(bytes) as u64)),
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        _ if kind.is_multiple_of(2) => Value::Blob(bytes),
        _ => Value::Text(bytes),
    }
}

/// A signed big-endian integer of 1 to 8 bytes.
fn signed(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|&byte| byte >= 0x80) { -1 } else { 0 };
    bytes.iter().fold(sign, |value, &byte| value << 8 | i64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D505: the type codes and the shortest form of every integer.
    #[test]
    fn integers_take_the_shortest_form_at_every_bound() {
        let bounds = [(1, 7), (2, 15), (3, 23), (4, 31), (5, 47), (6, 63)];
        for (kind, bits) in bounds {
            let largest = ((1u64 << bits) - 1) as i64;
            for value in [largest, !largest] {
                let record = encode(&[Field::Integer(value)], IntegerForms::All);
                assert_eq!(record[..2], [2, kind], "{value}");
                assert_eq!(record.len() as u64, 2 + body_length(u64::from(kind)).unwrap());
                assert_eq!(decode(&record), Ok(vec![Field::Integer(value)]));
            }
        }
        assert_eq!(encode(&[Field::Integer(1)], IntegerForms::All), [2, 9]);
        assert_eq!(encode(&[Field::Integer(0)], IntegerForms::All), [2, 8]);
        assert_eq!(encode(&[Field::Integer(1)], IntegerForms::NoBodiless), [2, 1, 1]);
    }

    #[test]
    fn every_kind_of_field_comes_back() {
        let fields = [
            Field::Null,
            Field::Integer(-129),
            Field::Real(-0.5),
            Field::Text(b"text".to_vec()),
            Field::Blob(vec![0, 0xff]),
            Field::Blob(Vec::new()),
        ];
        let record = encode(&fields, IntegerForms::All);
        assert_eq!(record[..7], [7, 0, 2, 7, 21, 16, 12]);
        assert_eq!(decode(&record), Ok(fields.to_vec()));
        let nan = encode(&[Field::Real(f64::NAN)], IntegerForms::All);
        assert_eq!(decode(&nan), Ok(vec![Field::Null]));
    }

    #[test]
    fn the_header_length_counts_itself() {
        for (count, length) in [(126, 1), (127, 2), (16_381, 2), (16_382, 3)] {
            let record = encode(&vec![Field::Null; count], IntegerForms::All);
            assert_eq!(record.len(), count + length);
            assert_eq!(varint::decode(&record), Some(((count + length) as u64, length)));
            assert_eq!(decode(&record).map(|fields| fields.len()), Ok(count));
        }
    }

    #[test]
    fn damaged_records_are_corrupt() {
        let fields = [Field::Text(b"abc".to_vec()), Field::Integer(300)];
        let record = encode(&fields, IntegerForms::All);
        for cut in 0..record.len() {
            assert!(decode(&record[..cut]).is_err(), "cut to {cut}");
        }
        let longer = [record.as_slice(), &[0]].concat();
        for bad in [&longer[..], &[2, 10], &[2, 11], &[0], &[5, 0], &[2, 0xff], &[1, 0]] {
            assert!(decode(bad).is_err(), "{bad:?}");
        }
        let huge = [10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(decode(&huge).is_err());
    }
}
