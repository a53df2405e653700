//! Records of the file format, as far as the tests need them: integers, texts and blobs.

use tclbtree::format::varint;

/// A column of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column<'a> {
    /// The null value.
    Null,
    /// An integer.
    Integer(i64),
    /// A text.
    Text(&'a str),
    /// A blob.
    Blob(&'a [u8]),
}

/// The record that holds `columns`.
pub(crate) fn encode(columns: &[Column<'_>]) -> Vec<u8> {
    let (mut kinds, mut body) = (Vec::new(), Vec::new());
    for column in columns {
        let kind = match *column {
            Column::Null => 0,
            Column::Integer(value) => push_integer(value, &mut body),
            Column::Text(text) => {
                body.extend(text.as_bytes());
                13 + 2 * text.len() as u64
            }
            Column::Blob(blob) => {
                body.extend(blob);
                12 + 2 * blob.len() as u64
            }
        };
        varint::push(kind, &mut kinds);
    }
    let mut size = kinds.len() + 1;
    if size > 127 {
        size += 1;
    }
    let mut record = Vec::with_capacity(size + body.len());
    varint::push(size as u64, &mut record);
    record.extend(kinds);
    record.extend(body);
    record
}

/// Appends the shortest form of `value` and returns its serial type.
fn push_integer(value: i64, body: &mut Vec<u8>) -> u64 {
    let folded = value ^ value >> 63;
    let (kind, length) = match folded {
        0..=0x7f => (1, 1),
        0x80..=0x7fff => (2, 2),
        0x8000..=0x7f_ffff => (3, 3),
        0x80_0000..=0x7fff_ffff => (4, 4),
        0x8000_0000..=0x7fff_ffff_ffff => (5, 6),
        _ => (6, 8),
    };
    body.extend(&value.to_be_bytes()[8 - length..]);
    kind
}

/// The columns of `record` as bytes: of integers the stored bytes, of the rest the content.
pub(crate) fn split(record: &[u8]) -> Vec<Vec<u8>> {
    let (size, mut at) = varint::decode(record).expect("header size");
    let mut body = size as usize;
    let mut columns = Vec::new();
    while at < size as usize {
        let (kind, length) = varint::decode(&record[at..]).expect("serial type");
        at += length;
        let bytes = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            _ => ((kind - 12) / 2) as usize,
        };
        columns.push(record[body..body + bytes].to_vec());
        body += bytes;
    }
    columns
}
