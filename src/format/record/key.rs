//! Records as keys: how the entries of an index order, and how one is searched for.
//!
//! Records compare field by field: null, then numbers by their value, then texts by the collation
//! of the field, then bytes. A descending field turns that round. If one of two records is at its
//! end and nothing has decided, the shorter one is smaller.
//!
//! A search takes its key apart once, into a [`RecordKey`], and holds it against the bytes of
//! each entry that it meets. The beginning of an entry is enough as long as it decides, so that
//! overflow pages are read only as far as needed. Nothing is believed about these bytes: what
//! cannot be a record is [`Error::Corrupt`](crate::Error::Corrupt), unless fields ahead of the
//! damage decide.

use std::cmp::Ordering;

use super::collation::{Collation, TextEncoding, compare_bytes};
use super::{Field, RESERVED, SHORT, Value, body_length, value_of, values};
use crate::error::Result;
use crate::format::varint;

/// Whether a field of a key is in its usual order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Small values first.
    #[default]
    Ascending,
    /// Large values first, nulls last.
    Descending,
}

/// What the keys of an index are: records, with a collation and a direction for each field.
///
/// Fields without a description are binary and ascending.
///
/// ```
/// use tclbtree::format::record::{self, Collation, Direction, Field, IntegerForms, KeyInfo};
/// use tclbtree::{Btree, INDEX, Key, MemoryVfs, Options, TransactionKind};
/// use std::sync::Arc;
///
/// # fn main() -> tclbtree::Result<()> {
/// let mut db = Btree::open(Arc::new(MemoryVfs::new()), "example.db", &Options::default())?;
/// db.begin(TransactionKind::Write)?;
/// let root = db.create_table(INDEX)?;
/// // As for CREATE INDEX i ON t(name COLLATE NOCASE, year DESC).
/// let info = KeyInfo::new()
///     .with(Collation::NoCase, Direction::Ascending)
///     .with(Collation::Binary, Direction::Descending);
/// let cursor = db.open_index_cursor(root, true, info)?;
/// for (name, year) in [("Bach", 1685), ("abel", 1723), ("bach", 1735)] {
///     let fields = [Field::Text(name.into()), Field::Integer(year)];
///     db.insert(cursor, Key::Bytes(&record::encode(&fields, IntegerForms::All)), &[], 0)?;
/// }
/// let mut years = Vec::new();
/// let mut more = db.first(cursor)?;
/// while more {
///     years.push(record::decode(&db.key(cursor)?)?[1].clone());
///     more = db.next(cursor)?;
/// }
/// assert_eq!(years, [1723, 1735, 1685].map(Field::Integer));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyInfo {
    fields: Vec<(Collation, Direction)>,
    encoding: TextEncoding,
}

impl KeyInfo {
    /// Records of which every field is binary and ascending, with texts in UTF-8.
    pub fn new() -> KeyInfo {
        KeyInfo::default()
    }

    /// The same with a description of one more field.
    #[must_use]
    pub fn with(mut self, collation: Collation, direction: Direction) -> KeyInfo {
        self.fields.push((collation, direction));
        self
    }

    /// The same with texts in another encoding.
    #[must_use]
    pub fn in_encoding(mut self, encoding: TextEncoding) -> KeyInfo {
        self.encoding = encoding;
        self
    }

    /// Collation and direction of field `index`.
    fn field(&self, index: usize) -> (Collation, Direction) {
        self.fields.get(index).copied().unwrap_or_default()
    }
}

/// Which entries a search takes for equal to its key. By default those with the same fields.
///
/// `increment_key` wins over `prefix_match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SearchMode {
    /// The last field of every entry, its rowid, is treated as absent.
    pub ignore_rowid: bool,
    /// The key counts as just above every entry that begins with it, so no entry is equal.
    pub increment_key: bool,
    /// An entry that begins with the fields of the key is equal.
    pub prefix_match: bool,
    /// The last field of the key is a rowid. If an entry differs from the key in that alone, its
    /// rowid is reported; what is found is the same as without.
    pub prefix_search: bool,
}

/// What the beginning of an entry says about its order to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// How the entry compares with the key.
    Decided(Ordering),
    /// That takes at least this many bytes of the entry, more than there were.
    Undecided(usize),
}

/// A key to search for, taken apart.
#[derive(Debug)]
pub(crate) struct RecordKey<'k> {
    info: &'k KeyInfo,
    mode: SearchMode,
    fields: Vec<Value<'k>>,
    rowid: Option<i64>,
}

impl<'k> RecordKey<'k> {
    /// The key that is encoded in `record`.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) if that is no record.
    pub(crate) fn decode(record: &'k [u8], info: &'k KeyInfo) -> Result<RecordKey<'k>> {
        Ok(RecordKey { info, mode: SearchMode::default(), fields: values(record)?, rowid: None })
    }

    /// The key of these fields.
    pub(crate) fn new(fields: &'k [Field], info: &'k KeyInfo, mode: SearchMode) -> RecordKey<'k> {
        let fields = fields.iter().map(Field::as_value).collect();
        RecordKey { info, mode, fields, rowid: None }
    }

    /// The rowid of the first entry met that differs from the key in its rowid alone; only in the
    /// mode that asks for it.
    pub(crate) fn reported_rowid(&self) -> Option<i64> {
        self.rowid
    }

    /// How an entry compares with the key. `stored` are the first bytes of the entry, or all of
    /// them, `size` the number of all.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) if the entry cannot be a record.
    pub(crate) fn compare(&mut self, stored: &[u8], size: usize) -> Result<Comparison> {
        let mut entry = match Entry::new(stored, size)? {
            Ok(entry) => entry,
            Err(wanted) => return Ok(Comparison::Undecided(wanted)),
        };
        for (index, &wanted) in self.fields.iter().enumerate() {
            let Some(field) = entry.next(self.mode.ignore_rowid)? else {
                return Ok(Comparison::Decided(Ordering::Less));
            };
            let (collation, direction) = self.info.field(index);
            let found = match field.compare(wanted, collation, self.info.encoding) {
                Some(Ordering::Equal) => continue,
                Some(found) => found,
                // At least one more byte; a number is needed whole.
                None => return Ok(Comparison::Undecided(field.end.min(stored.len() + 8))),
            };
            let is_rowid = index + 1 == self.fields.len() && entry.types.is_empty();
            if self.mode.prefix_search && is_rowid && self.rowid.is_none() {
                self.rowid = field.integer();
            }
            let is_descending = direction == Direction::Descending;
            return Ok(Comparison::Decided(if is_descending { found.reverse() } else { found }));
        }
        let has_more = entry.next(self.mode.ignore_rowid)?.is_some();
        Ok(Comparison::Decided(match (self.mode, has_more) {
            (SearchMode { increment_key: true, .. }, _) => Ordering::Less,
            (SearchMode { prefix_match: true, .. }, _) | (_, false) => Ordering::Equal,
            _ => Ordering::Greater,
        }))
    }
}

/// A stored record that is read from its start.
struct Entry<'s> {
    /// The bytes at hand.
    stored: &'s [u8],
    /// Length of the record.
    size: usize,
    /// Types of the fields that were not read yet.
    types: &'s [u8],
    /// Where the body of the next field begins; at most `size`.
    body: usize,
}

impl<'s> Entry<'s> {
    /// The record that begins with `stored` and is `size` bytes long; the inner error is the number
    /// of bytes that it takes to read its header.
    fn new(stored: &'s [u8], size: usize) -> Result<Result<Entry<'s>, usize>> {
        let is_short = stored.len() < size;
        let Some((length, first)) = varint::decode(stored) else {
            let longest = size.min(varint::MAX_LENGTH);
            return if is_short && stored.len() < longest { Ok(Err(longest)) } else { Err(SHORT) };
        };
        let body = usize::try_from(length).map_err(|_| SHORT)?;
        if body < first || body > size {
            return Err(SHORT);
        }
        Ok(match stored.get(first..body) {
            Some(types) => Ok(Entry { stored, size, types, body }),
            None => Err(body),
        })
    }

    /// The next field; `None` at the end, and for a last field that is not wanted.
    #[inline]
    fn next(&mut self, ignore_last: bool) -> Result<Option<StoredField<'s>>> {
        if self.types.is_empty() {
            return Ok(None);
        }
        let (kind, taken) = varint::decode(self.types).ok_or(SHORT)?;
        self.types = self.types.get(taken..).unwrap_or_default();
        if ignore_last && self.types.is_empty() {
            return Ok(None);
        }
        let length = usize::try_from(body_length(kind).ok_or(RESERVED)?).map_err(|_| SHORT)?;
        let start = self.body;
        let end = start.checked_add(length).filter(|&end| end <= self.size).ok_or(SHORT)?;
        self.body = end;
        let at_hand = end.min(self.stored.len());
        let bytes = self.stored.get(start..at_hand).unwrap_or_default();
        Ok(Some(StoredField { kind, length, end, bytes }))
    }
}

/// A field of a stored record, perhaps without its end.
struct StoredField<'s> {
    /// The type.
    kind: u64,
    /// Bytes of its body.
    length: usize,
    /// Where it ends in the record.
    end: usize,
    /// The bytes of its body that are at hand.
    bytes: &'s [u8],
}

impl StoredField<'_> {
    /// Whether nothing of the body is missing.
    fn is_whole(&self) -> bool {
        self.bytes.len() == self.length
    }

    /// The value if it is an integer.
    fn integer(&self) -> Option<i64> {
        match value_of(self.kind, self.bytes) {
            Value::Integer(value) if self.is_whole() => Some(value),
            _ => None,
        }
    }

    /// How the field compares with `wanted`; `None` if that takes more than what is at hand.
    #[inline]
    fn compare(
        &self,
        wanted: Value<'_>,
        collation: Collation,
        encoding: TextEncoding,
    ) -> Option<Ordering> {
        // A number that is not whole may yet be a null.
        if self.kind < 12 && !self.is_whole() {
            return None;
        }
        let (stored, length) = (value_of(self.kind, self.bytes), self.length);
        match (stored, wanted) {
            (Value::Integer(stored), Value::Integer(wanted)) => Some(stored.cmp(&wanted)),
            (Value::Text(stored), Value::Text(wanted)) => {
                collation.compare(stored, length, wanted, encoding)
            }
            (Value::Blob(stored), Value::Blob(wanted)) => compare_bytes(stored, length, wanted),
            (Value::Integer(stored), Value::Real(wanted)) => Some(compare_exactly(stored, wanted)),
            (Value::Real(stored), Value::Integer(wanted)) => {
                Some(compare_exactly(wanted, stored).reverse())
            }
            (Value::Real(stored), Value::Real(wanted)) => stored.partial_cmp(&wanted),
            _ => Some(class(stored).cmp(&class(wanted))),
        }
    }
}

/// The place of the type of a value among types.
fn class(value: Value<'_>) -> u8 {
    match value {
        Value::Null => 0,
        Value::Integer(_) | Value::Real(_) => 1,
        Value::Text(_) => 2,
        Value::Blob(_) => 3,
    }
}

/// Compares an integer with a number that is not not-a-number, by their values: neither is rounded.
fn compare_exactly(integer: i64, real: f64) -> Ordering {
    /// 2^63, the first number above all integers.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if real >= BEYOND {
        return Ordering::Less;
    }
    if real < -BEYOND {
        return Ordering::Greater;
    }
    let whole = real.trunc();
    match integer.cmp(&(whole as i64)) {
        Ordering::Equal if real > whole => Ordering::Less,
        Ordering::Equal if real < whole => Ordering::Greater,
        decided => decided,
    }
}

#[cfg(test)]
mod tests;
