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

/// The integers ahead of a payload.
///
/// They are encoded where they are wanted: the processor waits when it reads bytes together that it
/// has just written one by one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Front {
    /// Bytes of data, in trees that have data.
    pub(crate) data: Option<usize>,
    /// The integer key, or bytes of key.
    pub(crate) key: u64,
}

impl Front {
    /// Bytes that they take.
    #[inline]
    pub(crate) fn length(self) -> usize {
        self.data.map_or(0, |data| varint::length(data as u64)) + varint::length(self.key)
    }

    /// Writes them to the start of `out`, which has room for them.
    #[inline]
    pub(super) fn write(self, out: &mut [u8]) {
        let data = self.data.map_or(0, |data| varint::write(data as u64, out));
        varint::write(self.key, out.get_mut(data..).unwrap_or_default());
    }

    /// Appends them to `out`.
    pub(crate) fn append_to(self, out: &mut Vec<u8>) {
        if let Some(data) = self.data {
            varint::push(data as u64, out);
        }
        varint::push(self.key, out);
    }
}

/// Which fields the cells of a page have; follows from its kind. One byte, since every cached page
/// has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Layout(u8);

impl Layout {
    const DATA: u8 = 1;
    const INTEGER: u8 = 2;
    /// A child pointer comes first; its bytes are as many as the bit says.
    const CHILD: u8 = 4;
    const TABLE_LEAF: u8 = 8;

    /// The layout of pages of this kind.
    pub(super) fn of(kind: NodeKind) -> Layout {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let table_leaf = kind.is_leaf_data() && kind.is_leaf();
        Layout(
            bit(!kind.is_leaf(), Layout::CHILD)
                | bit(kind.has_data(), Layout::DATA)
                | bit(kind.has_integer_keys(), Layout::INTEGER)
                | bit(table_leaf, Layout::TABLE_LEAF),
        )
    }

    /// Bytes of the child pointer: 4 or 0.
    #[inline(always)]
    fn child(self) -> usize {
        usize::from(self.0 & Layout::CHILD)
    }

    /// Whether a data length comes first.
    #[inline(always)]
    fn data(self) -> bool {
        self.0 & Layout::DATA != 0
    }

    /// Whether the key is an integer, not a length.
    #[inline(always)]
    fn integer(self) -> bool {
        self.0 & Layout::INTEGER != 0
    }

    /// Whether payload is cut by the rule for table leaves.
    #[inline(always)]
    fn table_leaf(self) -> bool {
        self.0 & Layout::TABLE_LEAF != 0
    }
}

/// Decodes the cell at the start of `bytes`.
///
/// # Errors
/// [`Error::Corrupt`] if `bytes` ends before the cell does; padding may be missing.
#[inline(always)]
pub(super) fn decode<'a>(bytes: &'a [u8], layout: Layout, format: &PageFormat) -> Result<Cell<'a>> {
    let mut at = layout.child();
    let child = if at == 0 { 0 } else { u32_at(bytes, 0)? };
    let mut data = 0;
    if layout.data() {
        let (value, length) = varint_at(bytes, at)?;
        data = value as u32;
        at += length;
    }
    let (key, length) = varint_at(bytes, at)?;
    let header = at + length;
    let (key, payload) = if layout.integer() {
        (key as i64, data)
    } else {
        // Lengths count modulo 2^32.
        let key = key as u32;
        let both = key.checked_add(data).ok_or(Error::corrupt("payload is too long"))?;
        (i64::from(key), both)
    };
    let kept = format.local_size(payload as usize, layout.table_leaf());
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
#[inline(always)]
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
    let mut at = layout.child();
    if layout.data() {
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
    let mut at = layout.child();
    if layout.data() {
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
    let mut at = layout.child();
    let mut payload = 0;
    if layout.data() || !layout.integer() {
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
    if layout.integer() {
        let ends = ends(word_at(start, at));
        if ends == 0 {
            return None;
        }
        at += ends.trailing_zeros() as usize / 8 + 1;
    } else if layout.data() {
        return None;
    }
    let max = if layout.table_leaf() { format.max_leaf } else { format.max_local };
    let fits = payload <= max && payload <= bytes.len() - at;
    fits.then_some(QuickExtent { header: at, payload })
}

/// A cell of the usual sort on the leaf of a table or an index: a payload length of up to two
/// bytes, an integer key of up to four, all of it on the page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuickEntry {
    /// The integer key; 0 in byte-string trees.
    pub(crate) key: i64,
    /// Where the payload begins on the page.
    start: u32,
    /// Where it ends, at or before the end of the usable part.
    end: u32,
}

impl QuickEntry {
    /// No entry: none ends where its page begins.
    pub(crate) const UNKNOWN: QuickEntry = QuickEntry { key: 0, start: 0, end: 0 };

    /// Whether this is no entry.
    #[inline(always)]
    pub(crate) fn is_unknown(self) -> bool {
        self.end == 0
    }

    /// Bytes of payload.
    #[inline(always)]
    pub(crate) fn payload_size(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// The payload on the page that the entry was found on.
    #[inline(always)]
    pub(crate) fn payload(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The leaf cell of a table at `at`, if it is of the usual sort.
///
/// A scan meets integers of one length for long: branches on it are cheaper here than in a search.
#[inline(always)]
pub(super) fn quick_row(bytes: &[u8], at: usize, format: &PageFormat) -> Option<QuickEntry> {
    let word = u64::from_le_bytes(bytes.get(at..at.wrapping_add(8))?.try_into().ok()?);
    let (size, length) = short_length(word)?;
    let word = word >> (8 * length);
    let group = |byte: u32| (word >> (8 * byte) & 0x7f) as i64;
    let (key, length) = if word & 0x80 == 0 {
        (group(0), length + 1)
    } else if word & 0x8000 == 0 {
        (group(0) << 7 | group(1), length + 2)
    } else if word & 0x80_0000 == 0 {
        (group(0) << 14 | group(1) << 7 | group(2), length + 3)
    } else if word & 0x8000_0000 == 0 {
        (group(0) << 21 | group(1) << 14 | group(2) << 7 | group(3), length + 4)
    } else {
        return None;
    };
    quick_local(key, at.wrapping_add(length), size, format.max_leaf, format)
}

/// The leaf cell of an index at `at`, in the same way.
#[inline(always)]
pub(super) fn quick_record(bytes: &[u8], at: usize, format: &PageFormat) -> Option<QuickEntry> {
    let word = u16::from_le_bytes(bytes.get(at..at.wrapping_add(2))?.try_into().ok()?);
    let (size, length) = short_length(u64::from(word))?;
    quick_local(0, at.wrapping_add(length), size, format.max_local, format)
}

/// A length of one or two bytes at the low end of `word`, and how many they are.
#[inline(always)]
fn short_length(word: u64) -> Option<(usize, usize)> {
    if word & 0x80 == 0 {
        Some(((word & 0x7f) as usize, 1))
    } else if word & 0x8000 == 0 {
        Some((((word & 0x7f) << 7 | word >> 8 & 0x7f) as usize, 2))
    } else {
        None
    }
}

/// The entry with `size` bytes of payload at `start`, if they may be local as a whole and are on
/// the page.
#[inline(always)]
fn quick_local(
    key: i64,
    start: usize,
    size: usize,
    max: usize,
    format: &PageFormat,
) -> Option<QuickEntry> {
    let end = start.wrapping_add(size);
    let fits = size <= max && end <= format.usable;
    fits.then_some(QuickEntry { key, start: start as u32, end: end as u32 })
}

/// The bytes that the cell at `at` of the usable part of its page takes, if it is of the usual sort
/// on a page of the usual kind `KIND`: a payload of up to `max` bytes, all of it on the page.
/// Balancing asks for many cells, so nothing else of the cell is looked at.
#[inline(always)]
pub(super) fn quick_size<const KIND: u8>(page: &[u8], at: usize, max: usize) -> Option<usize> {
    let kind = NodeKind::new(KIND)?;
    let child = if kind.is_leaf() { 0 } else { 4 };
    let fields = at.wrapping_add(child);
    let word = u64::from_le_bytes(page.get(fields..fields.wrapping_add(8))?.try_into().ok()?);
    let key_length = |word| match ends(word).trailing_zeros() as usize / 8 + 1 {
        length @ 1..=6 => Some(length),
        _ => None,
    };
    let size = match kind {
        NodeKind::TABLE_LEAF => {
            let (payload, length) = short_length(word)?;
            // Six bytes of the word are left for the key at least; beyond them it is zeros.
            let header = length + key_length(word >> (8 * length))?;
            (payload <= max).then_some(header + payload)?
        }
        NodeKind::INDEX_LEAF | NodeKind::INDEX_INTERIOR => {
            let (payload, length) = short_length(word)?;
            (payload <= max).then_some(length + payload)?
        }
        NodeKind::TABLE_INTERIOR => key_length(word)?,
        _ => return None,
    };
    let size = (child + size).max(SIZE_MIN);
    (at.wrapping_add(size) <= page.len()).then_some(size)
}

/// The same for a kind that is not known beforehand.
#[inline]
pub(super) fn quick_size_on(kind: NodeKind, page: &[u8], at: usize, max: usize) -> Option<usize> {
    match kind {
        NodeKind::TABLE_LEAF => quick_size::<{ NodeKind::TABLE_LEAF.byte() }>(page, at, max),
        NodeKind::INDEX_LEAF => quick_size::<{ NodeKind::INDEX_LEAF.byte() }>(page, at, max),
        NodeKind::TABLE_INTERIOR => {
            quick_size::<{ NodeKind::TABLE_INTERIOR.byte() }>(page, at, max)
        }
        NodeKind::INDEX_INTERIOR => {
            quick_size::<{ NodeKind::INDEX_INTERIOR.byte() }>(page, at, max)
        }
        _ => None,
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
