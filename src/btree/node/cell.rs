//! One cell: which fields it has on which kind of page, and reading them.
//!
//! | kind | fields in order |
//! | --- | --- |
//! | `0d`, `0c` | data length, integer key, local data, \[overflow page\] |
//! | `05`, `04` | child, integer key |
//! | `0a` | key length, local key, \[overflow page\] |
//! | `02` | child, key length, local key, \[overflow page\] |
//! | `08` | data length, key length, local part of key and data, \[overflow page\] |
//! | `00` | child, then as `08` |
//! | `09` | data length, integer key, local data, \[overflow page\] |
//! | `01` | child, then as `09` |
//! | `0b`, `0e`, `0f` | integer key |
//! | `03`, `06`, `07` | child, integer key |
//!
//! Lengths and integer keys are varints; child and overflow page are 4 bytes. The overflow page is
//! there if the payload is longer than its local part. A cell takes at least 4 bytes: a shorter
//! one is padded. Source: SQLite file format, "B-tree Cell Format"; kinds other than `02`, `05`,
//! `0a` and `0d` are those of 2006.

use super::NodeKind;
use crate::btree::store::PageFormat;
use crate::error::{Error, Result};
use crate::format::bytes::{slice, u32_at};
use crate::format::varint;

/// The fewest bytes that a cell takes on a page.
pub(crate) const SIZE_MIN: usize = 4;

const CUT_SHORT: Error = Error::corrupt("cell reaches beyond the page");

/// One cell, decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell<'a> {
    /// Left child, on interior pages (0 on leaves).
    pub(crate) child: u32,
    /// The key of an integer tree, else the length of the key in bytes.
    pub(crate) key: i64,
    /// Bytes of payload in all: key (byte-string trees) and data.
    pub(crate) payload: u32,
    /// Bytes of data.
    pub(crate) data: u32,
    /// Bytes of the cell ahead of the payload: child pointer and integers.
    pub(crate) header: usize,
    /// The part of the payload on this page.
    pub(crate) local: &'a [u8],
    /// First overflow page, 0 if there is none.
    pub(crate) overflow: u32,
    /// Bytes that the cell takes on the page, at least 4.
    pub(crate) size: usize,
}

impl<'a> Cell<'a> {
    /// The key of a byte-string tree, as far as it is on this page.
    #[inline]
    pub(crate) fn local_key(&self) -> &'a [u8] {
        self.local.get(..self.key as usize).unwrap_or(self.local)
    }
}

/// Which fields the cells of a page have; follows from its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Layout {
    /// Bytes of the child pointer: 4 or 0.
    child: u8,
    /// A data length comes first.
    data: bool,
    /// The key is an integer, not a length.
    integer: bool,
    /// Payload is cut by the rule for table leaves.
    table_leaf: bool,
}

impl Layout {
    /// That of the leaves of tables.
    pub(super) const TABLE_LEAF: Layout =
        Layout { child: 0, data: true, integer: true, table_leaf: true };
    /// That of the leaves of indexes.
    pub(super) const INDEX_LEAF: Layout =
        Layout { child: 0, data: false, integer: false, table_leaf: false };

    /// The layout of pages of this kind.
    pub(super) fn of(kind: NodeKind) -> Layout {
        Layout {
            child: if kind.is_leaf() { 0 } else { 4 },
            data: kind.has_data(),
            integer: kind.has_integer_keys(),
            table_leaf: kind.is_leaf_data() && kind.is_leaf(),
        }
    }
}

/// Decodes the cell at the start of `bytes`.
///
/// # Errors
/// [`Error::Corrupt`] if `bytes` ends before the cell does; padding may be missing.
#[inline(always)]
pub(super) fn decode<'a>(bytes: &'a [u8], layout: Layout, format: &PageFormat) -> Result<Cell<'a>> {
    let mut at = usize::from(layout.child);
    let child = if at == 0 { 0 } else { u32_at(bytes, 0)? };
    let mut data = 0;
    if layout.data {
        let (value, length) = varint_at(bytes, at)?;
        data = value as u32;
        at += length;
    }
    let (key, length) = varint_at(bytes, at)?;
    let header = at + length;
    let (key, payload) = if layout.integer {
        (key as i64, data)
    } else {
        // Lengths count modulo 2^32.
        let key = key as u32;
        let both = key.checked_add(data).ok_or(Error::corrupt("payload is too long"))?;
        (i64::from(key), both)
    };
    let kept = format.local_size(payload as usize, layout.table_leaf);
    let local = slice(bytes, header, kept).map_err(|_| CUT_SHORT)?;
    let end = header + kept;
    let (overflow, end) = if kept == payload as usize {
        (0, end)
    } else {
        (u32_at(bytes, end).map_err(|_| CUT_SHORT)?, end + 4)
    };
    Ok(Cell { child, key, payload, data, header, local, overflow, size: end.max(SIZE_MIN) })
}

/// The integer key of the cell at the start of `bytes`, and nothing else of it.
#[inline]
pub(super) fn integer_key(bytes: &[u8], layout: Layout) -> Result<i64> {
    if let Some(start) = bytes.first_chunk()
        && let Some(key) = quick_integer_key(start, layout)
    {
        return Ok(key);
    }
    integer_key_slowly(bytes, layout)
}

#[cold]
fn integer_key_slowly(bytes: &[u8], layout: Layout) -> Result<i64> {
    let mut at = usize::from(layout.child);
    if layout.data {
        at += varint_length(bytes, at)?;
    }
    varint_at(bytes, at).map(|(key, _)| key as i64)
}

/// The first bytes of a cell: its child and its integers, as far as they are of usual length.
type Start = [u8; 24];

/// The eight bytes at `at`, which is at most 16, the first one lowest.
#[inline]
fn word_at(start: &Start, at: usize) -> u64 {
    let tail = start.get(at..).and_then(<[u8]>::first_chunk);
    tail.map_or(0, |word| u64::from_le_bytes(*word))
}

/// The top bits of the eight bytes of `word` that are clear: the lowest ends the varint there.
#[inline]
fn ends(word: u64) -> u64 {
    !word & 0x8080_8080_8080_8080
}

/// The integer key of the usual cell, computed without branches on its length, which the processor
/// would guess wrong in a binary search.
#[inline]
fn quick_integer_key(start: &Start, layout: Layout) -> Option<i64> {
    let mut at = usize::from(layout.child);
    if layout.data {
        let ends = ends(word_at(start, at));
        if ends == 0 {
            return None;
        }
        at += ends.trailing_zeros() as usize / 8 + 1;
    }
    let word = word_at(start, at);
    let ends = ends(word);
    if ends == 0 {
        return None;
    }
    // The groups of the varint at the low end, the last one lowest.
    let length = (ends.trailing_zeros() + 1) & 63;
    let groups = word.swap_bytes() >> ((64 - length) & 63);
    // Seven bits of each byte, drawn together in pairs, fours and eights.
    let pairs = groups & 0x007f_007f_007f_007f | (groups & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    Some((fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4) as i64)
}

/// What most cells come down to; all of the payload is local.
#[derive(Debug, Clone, Copy)]
pub(super) struct QuickExtent {
    /// Where the key stands, an integer or a length.
    key: usize,
    /// Bytes ahead of the payload.
    pub(super) header: usize,
    /// Bytes of payload.
    payload: usize,
}

impl QuickExtent {
    /// Where the cell ends, counted from its start.
    #[inline]
    pub(super) fn end(self) -> usize {
        self.header + self.payload
    }
}

/// Where the parts of the cell at the start of `bytes` are. `None` if the cell is of another sort,
/// or so near the end of the page that it takes a closer look.
#[inline(always)]
pub(super) fn quick_extent(
    bytes: &[u8],
    layout: Layout,
    format: &PageFormat,
) -> Option<QuickExtent> {
    let start: &Start = bytes.first_chunk()?;
    let mut at = usize::from(layout.child);
    let mut payload = 0;
    let length = at;
    if layout.data || !layout.integer {
        let word = word_at(start, at);
        let (first, second) = (word as usize & 0xff, (word >> 8) as usize & 0xff);
        (payload, at) = if first < 0x80 {
            (first, at + 1)
        } else if second < 0x80 {
            ((first & 0x7f) << 7 | second, at + 2)
        } else {
            return None;
        };
    }
    let key = if layout.integer { at } else { length };
    if layout.integer {
        let ends = ends(word_at(start, at));
        if ends == 0 {
            return None;
        }
        at += ends.trailing_zeros() as usize / 8 + 1;
    } else if layout.data {
        return None;
    }
    let max = if layout.table_leaf { format.max_leaf } else { format.max_local };
    let fits = payload <= max && payload <= bytes.len() - at;
    fits.then_some(QuickExtent { key, header: at, payload })
}

/// Key and payload of a cell such as [`quick_extent`] takes; the key is 0 in byte-string trees.
///
/// A scan meets integers of one length for long: branches on it are cheaper here than in a search.
#[inline]
pub(super) fn quick_entry<'a>(
    bytes: &'a [u8],
    layout: Layout,
    format: &PageFormat,
) -> Option<(i64, &'a [u8])> {
    let (size, at) = if layout == Layout::TABLE_LEAF || layout == Layout::INDEX_LEAF {
        short_varint(bytes, 0)?
    } else {
        let extent = quick_extent(bytes, layout, format)?;
        let key = if layout.integer { varint_at(bytes, extent.key).ok()?.0 } else { 0 };
        return Some((key as i64, bytes.get(extent.header..extent.end())?));
    };
    let (key, at, max) = match layout.integer {
        true => short_varint(bytes, at).map(|(key, end)| (key, end, format.max_leaf))?,
        false => (0, at, format.max_local),
    };
    let size = size as usize;
    if size > max {
        return None;
    }
    Some((i64::from(key), bytes.get(at..at + size)?))
}

/// The varint at `at` if it takes up to four bytes, and where it ends.
#[inline]
fn short_varint(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    let &[a, b, c, d] = bytes.get(at..).and_then(<[u8]>::first_chunk)?;
    let group = |byte: u8| u32::from(byte & 0x7f);
    if a < 0x80 {
        Some((u32::from(a), at + 1))
    } else if b < 0x80 {
        Some((group(a) << 7 | u32::from(b), at + 2))
    } else if c < 0x80 {
        Some((group(a) << 14 | group(b) << 7 | u32::from(c), at + 3))
    } else if d < 0x80 {
        Some((group(a) << 21 | group(b) << 14 | group(c) << 7 | u32::from(d), at + 4))
    } else {
        None
    }
}

/// The bytes that the cell at the start of `bytes` takes.
///
/// # Errors
/// [`Error::Corrupt`] as [`decode`].
#[inline(always)]
pub(super) fn size(bytes: &[u8], layout: Layout, format: &PageFormat) -> Result<usize> {
    match quick_extent(bytes, layout, format) {
        Some(extent) => Ok(extent.end().max(SIZE_MIN)),
        None => size_slowly(bytes, layout, format),
    }
}

#[cold]
fn size_slowly(bytes: &[u8], layout: Layout, format: &PageFormat) -> Result<usize> {
    match decode(bytes, layout, format)?.size {
        size if size <= bytes.len() => Ok(size),
        _ => Err(CUT_SHORT),
    }
}

/// The varint at `at`, and its length.
#[inline]
fn varint_at(bytes: &[u8], at: usize) -> Result<(u64, usize)> {
    let tail = bytes.get(at..).unwrap_or_default();
    match *tail {
        [a, ..] if a < 0x80 => Ok((u64::from(a), 1)),
        [a, b, ..] if b < 0x80 => Ok((u64::from(a & 0x7f) << 7 | u64::from(b), 2)),
        [a, b, c, ..] if c < 0x80 => {
            Ok((u64::from(a & 0x7f) << 14 | u64::from(b & 0x7f) << 7 | u64::from(c), 3))
        }
        _ => varint::decode(tail).ok_or(CUT_SHORT),
    }
}

/// The length of the varint at `at`.
#[inline]
fn varint_length(bytes: &[u8], at: usize) -> Result<usize> {
    match *bytes.get(at..).unwrap_or_default() {
        [a, ..] if a < 0x80 => Ok(1),
        [_, b, ..] if b < 0x80 => Ok(2),
        _ => varint_at(bytes, at).map(|(_, length)| length),
    }
}
