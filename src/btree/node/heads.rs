//! Heads: the keys of a node, or what they begin with, side by side beside the page.
//!
//! A binary search over the cells themselves touches two places of memory per step, the cell
//! pointer and then the cell, and decodes each key it meets. The head of a key is a number that
//! orders as the keys do: an integer key with its sign bit inverted, or the first eight bytes of a
//! byte string, filled up with zeros. The heads of a node take few lines of memory, and most steps
//! are decided by them alone.
//!
//! Invariant H1: either there are no heads, or one for each cell of the body, in order.
//!
//! They are made when a node has been searched often enough for it to pay, and kept up to date from
//! then on as cells come and go, until the node is laid out anew.

use std::ops::Range;

use super::{Node, NodeInfo, NodeMut, cell};
use crate::error::Result;

/// Searches after which heads are made: one for this many cells. Making the heads of a leaf costs
/// about as much as one search that misses the processor's caches at every probe; but between two
/// balances of a page in random inserts there are hardly more than one or two searches.
const CELLS_PER_SEARCH: usize = 8;

/// Up to this many heads, one of every line is looked at first.
const COUNTED_MAX: usize = 64;

/// Heads on one line of memory, and parts that more heads are divided into.
const LINE: usize = 8;

/// The number of heads below `head`: the place of that among them.
///
/// They are not simply bisected: what a bisection loads next depends on what it loaded last, so it
/// waits for memory at each of its steps. Looking at the last heads of several parts loads them all
/// at once, and leaves one part to look into.
#[inline]
pub(crate) fn place_of(head: u64, heads: &[u64]) -> usize {
    let (mut rest, mut place) = (heads, 0);
    while rest.len() > COUNTED_MAX {
        let size = rest.len() / LINE;
        let parts = rest.chunks_exact(size).take(LINE - 1);
        let smaller = size * parts.filter(|part| part.last().is_some_and(|&l| l < head)).count();
        let last = smaller == size * (LINE - 1);
        let end = if last { rest.len() } else { smaller + size };
        place += smaller;
        rest = rest.get(smaller..end).unwrap_or_default();
    }
    let (lines, _) = rest.as_chunks::<LINE>();
    let smaller = lines.iter().filter(|[.., last]| *last < head).count() * LINE;
    let line = rest.get(smaller..rest.len().min(smaller + LINE)).unwrap_or_default();
    place + smaller + line.iter().filter(|&&other| other < head).count()
}

/// Stands for more searches than are counted: heads are not made any more.
const NEVER: u16 = u16::MAX;

/// The head of an integer key.
#[inline]
pub(crate) fn head_of_integer(key: i64) -> u64 {
    (key as u64) ^ 1 << 63
}

/// The head of a byte string. Different heads order as the strings; strings with equal ones must
/// be compared.
#[inline]
pub(crate) fn head_of_bytes(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => key
            .iter()
            .zip([56, 48, 40, 32, 24, 16, 8])
            .fold(0, |head, (&byte, shift)| head | u64::from(byte) << shift),
    }
}

impl NodeInfo {
    /// Whether the next search should make heads first. Counts the searches.
    #[inline]
    pub(crate) fn wants_heads(&mut self) -> bool {
        if !self.heads.is_empty() || self.searches == NEVER {
            return false;
        }
        self.searches += 1;
        usize::from(self.searches) * CELLS_PER_SEARCH > usize::from(self.cells)
    }

    /// Forgets the heads: the cells are others now.
    #[inline]
    pub(super) fn drop_heads(&mut self) {
        self.heads.clear();
        self.searches = 0;
    }

    /// Takes over the heads that were made for this node (H1). If one could not be made there will
    /// be none, so that a search meets damage only where it looks.
    pub(crate) fn set_heads(&mut self, heads: Vec<u64>) {
        self.heads = heads;
        if self.heads.len() != usize::from(self.cells) {
            self.heads.clear();
            self.searches = NEVER;
        }
    }

    /// The memory of earlier heads.
    pub(crate) fn take_heads(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.heads)
    }

    /// A cell with this head was put at `index` (H1). Without memory there are no heads.
    #[inline]
    pub(super) fn insert_head(&mut self, index: usize, head: Option<u64>) {
        match head {
            Some(head) if index <= self.heads.len() && self.heads.try_reserve(1).is_ok() => {
                self.heads.insert(index, head);
            }
            _ => self.drop_heads(),
        }
    }

    /// The cell at `index` is another one now, with this head (H1).
    #[inline]
    pub(super) fn replace_head(&mut self, index: usize, head: Option<u64>) {
        match (head, self.heads.get_mut(index)) {
            (Some(head), Some(place)) => *place = head,
            _ => self.drop_heads(),
        }
    }

    /// The cell at `index` was taken out (H1).
    #[inline]
    pub(super) fn remove_head(&mut self, index: usize) {
        if index < self.heads.len() {
            self.heads.remove(index);
        }
    }

    /// The heads after an exchange of cells (H1): those of the cells `kept`, with others ahead of
    /// them and behind them. There are none if those are not known, or without memory.
    pub(super) fn exchange_heads(
        &mut self,
        kept: Range<usize>,
        before: Option<&[u64]>,
        behind: Option<&[u64]>,
    ) {
        let (Some(before), Some(behind)) = (before, behind) else { return self.drop_heads() };
        let heads = &mut self.heads;
        let (start, end) = (before.len(), before.len() + kept.len());
        if kept.end > heads.len() || heads.try_reserve(start + behind.len()).is_err() {
            return self.drop_heads();
        }
        heads.truncate(kept.end);
        heads.resize(end.max(kept.end), 0);
        heads.copy_within(kept, start);
        heads.truncate(end);
        if let Some(first) = heads.get_mut(..start) {
            first.copy_from_slice(before);
        }
        heads.extend_from_slice(behind);
    }

    /// Whether there are heads.
    #[inline]
    pub(super) fn has_heads(&self) -> bool {
        !self.heads.is_empty()
    }
}

impl NodeMut<'_> {
    /// Takes over the heads of all cells, if they are known already (H1).
    pub(crate) fn give_heads(&mut self, heads: Option<&[u64]>) {
        let count = usize::from(self.info.cells);
        if let Some(heads) = heads.filter(|heads| heads.len() == count)
            && self.info.heads.try_reserve(count).is_ok()
        {
            self.info.drop_heads();
            self.info.heads.extend_from_slice(heads);
        }
    }
}

impl<'a> Node<'a> {
    /// The heads of all cells; empty if there are none.
    #[inline]
    pub(crate) fn heads(&self) -> &'a [u64] {
        &self.info.heads
    }

    /// Fills `heads` with the heads of all cells; none, if one is broken.
    pub(crate) fn make_heads(&self, heads: &mut Vec<u64>) {
        heads.clear();
        if heads.try_reserve(self.cell_count()).is_err() {
            return;
        }
        let mut broken = false;
        let cells = 0..self.cell_count();
        let head_or_break = |head: Result<u64>| {
            broken |= head.is_err();
            head.unwrap_or_default()
        };
        match self.kind().has_integer_keys() {
            true => heads.extend(
                cells.map(|index| self.integer_key(index).map(head_of_integer)).map(head_or_break),
            ),
            false => heads.extend(
                cells.map(|index| self.key_start(index).map(head_of_bytes)).map(head_or_break),
            ),
        }
        if broken {
            heads.clear();
        }
    }

    /// The key of cell `index` of a byte-string tree, or the part of it that is on the page.
    #[inline]
    fn key_start(&self, index: usize) -> Result<&'a [u8]> {
        match self.quick_payload(index) {
            Some(key) => Ok(key),
            None => Ok(self.cell(index)?.local_key()),
        }
    }

    /// The head of the cell in `bytes`, as it stands on this node; `None` if it is broken.
    #[inline]
    pub(super) fn head_of_cell(&self, bytes: &[u8]) -> Option<u64> {
        if self.kind().has_integer_keys() {
            return cell::integer_key(bytes, self.info.layout).ok().map(head_of_integer);
        }
        if let Some(extent) = cell::quick_extent(bytes, self.info.layout, self.format) {
            return bytes.get(extent.header..extent.end()).map(head_of_bytes);
        }
        let cell = cell::decode(bytes, self.info.layout, self.format).ok()?;
        Some(head_of_bytes(cell.local_key()))
    }
}
