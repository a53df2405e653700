//! Heads: the keys of a node, or what they begin with, side by side beside the page.
//!
//! A binary search over the cells themselves touches two places of memory per step, the cell
//! pointer and then the cell, and decodes each key it meets. The head of a key is a number that
//! orders as the keys do: an integer key with its sign bit inverted, or the first eight bytes of a
//! byte string, filled up with zeros. The heads of a node take few lines of memory, and most steps
//! are decided by them alone.
//!
//! On an interior node the children of the cells stand behind the heads, so that a search goes down
//! without a look at the page at all: it would be two more places of memory, one known only from
//! the other.
//!
//! Invariant H1: either there are no heads, or one for each cell of the body, in order; on an
//! interior node as many children, none of them 0, follow in the same order. Where cells of a
//! damaged page overlap, changing one changes another, and of that one the head is not known: a
//! search may miss it, as it may on such a page anyway.
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

    /// Takes over the heads that were made for this node of so many cells (H1). If one could not be
    /// made there will be none, so that a search meets damage only where it looks.
    pub(crate) fn set_heads(&mut self, heads: Vec<u64>, cells: usize) {
        self.heads = heads;
        if self.heads.len() != self.numbers_per_cell() * cells {
            self.heads.clear();
            self.searches = NEVER;
        }
    }

    /// The memory of earlier heads.
    pub(crate) fn take_heads(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.heads)
    }

    /// Numbers that stand for a cell: its head, and on an interior node its child.
    #[inline]
    fn numbers_per_cell(&self) -> usize {
        if self.kind.is_leaf() { 1 } else { 2 }
    }

    /// A cell with this head, and on an interior node with this child, is being put at `index`; it
    /// is not counted yet (H1). Without memory there are no heads.
    #[inline]
    pub(super) fn insert_head(&mut self, index: usize, head: Option<u64>, child: u32) {
        let (heads, is_leaf) = (&mut self.heads, self.kind.is_leaf());
        let cells = if is_leaf { heads.len() } else { usize::from(self.cells) };
        match head {
            Some(head) if index <= cells && heads.try_reserve(2).is_ok() => {
                if !is_leaf {
                    if child == 0 || heads.len() != 2 * cells {
                        return self.drop_heads();
                    }
                    heads.insert(cells + index, child.into());
                }
                heads.insert(index, head);
            }
            _ => self.drop_heads(),
        }
    }

    /// The cell at `index` is another one now, with this head, and on an interior node with this
    /// child (H1).
    #[inline]
    pub(super) fn replace_head(&mut self, index: usize, head: Option<u64>, child: u32) {
        match (head, self.heads.get_mut(index)) {
            (Some(head), Some(place)) => *place = head,
            _ => self.drop_heads(),
        }
        if !self.kind.is_leaf() {
            self.replace_child(index, child);
        }
    }

    /// The cell at `index` of an interior node has this child now (H1).
    #[inline]
    pub(super) fn replace_child(&mut self, index: usize, child: u32) {
        match self.heads.get_mut(usize::from(self.cells) + index) {
            Some(place) if child != 0 => *place = child.into(),
            _ => self.drop_heads(),
        }
    }

    /// The cell at `index` is being taken out; it is still counted (H1).
    #[inline]
    pub(super) fn remove_head(&mut self, index: usize) {
        let child = usize::from(self.cells) + index;
        if !self.kind.is_leaf() && child < self.heads.len() {
            self.heads.remove(child);
        }
        if index < self.heads.len() {
            self.heads.remove(index);
        }
    }

    /// The heads of a leaf after an exchange of cells (H1): those of the cells `kept`, with others
    /// ahead of them and behind them. Without memory there are none.
    pub(super) fn exchange_heads(&mut self, kept: Range<usize>, before: &[u64], behind: &[u64]) {
        let heads = &mut self.heads;
        let (start, end) = (before.len(), before.len() + kept.len());
        let more = (end + behind.len()).saturating_sub(heads.len());
        if kept.end > heads.len() || heads.try_reserve(more).is_err() {
            return self.drop_heads();
        }
        if kept.start != start {
            heads.resize(heads.len().max(end), 0);
            heads.copy_within(kept, start);
        }
        heads.truncate(end);
        if let Some(first) = heads.get_mut(..start) {
            first.copy_from_slice(before);
        }
        heads.extend_from_slice(behind);
    }

    /// The same on an interior node, which had `old` cells; `children` are those of the cells
    /// that come.
    pub(super) fn exchange_heads_and_children(
        &mut self,
        old: usize,
        kept: Range<usize>,
        before: &[u64],
        behind: &[u64],
        children: impl Iterator<Item = u32>,
    ) {
        let count = before.len() + kept.len() + behind.len();
        let kept_children = old + kept.start..old + kept.end;
        let mut heads = Vec::new();
        if heads.try_reserve(2 * count).is_err() {
            return self.drop_heads();
        }
        if let (Some(kept), Some(kept_children)) =
            (self.heads.get(kept), self.heads.get(kept_children))
        {
            heads.extend_from_slice(before);
            heads.extend_from_slice(kept);
            heads.extend_from_slice(behind);
            let mut children = children.map(u64::from);
            heads.extend(children.by_ref().take(before.len()));
            heads.extend_from_slice(kept_children);
            heads.extend(children);
        }
        if heads.iter().skip(count).any(|&child| child == 0) {
            heads.clear();
        }
        self.set_heads(heads, count);
    }

    /// Whether there are heads.
    #[inline]
    pub(super) fn has_heads(&self) -> bool {
        !self.heads.is_empty()
    }
}

impl NodeMut<'_> {
    /// Takes over the heads of all cells, if they are known already (H1); `children` are those of
    /// an interior node.
    pub(crate) fn give_heads(
        &mut self,
        heads: Option<&[u64]>,
        children: impl Iterator<Item = u32>,
    ) {
        let count = usize::from(self.info.cells);
        let Some(heads) = heads.filter(|heads| heads.len() == count) else { return };
        if !self.info.kind.is_leaf() {
            return self.info.exchange_heads_and_children(0, 0..0, heads, &[], children);
        }
        // A page that is made anew is half full.
        if self.info.heads.try_reserve(2 * count).is_ok() {
            self.info.drop_heads();
            self.info.heads.extend_from_slice(heads);
        }
    }
}

impl<'a> Node<'a> {
    /// The heads of all cells; empty if there are none.
    #[inline]
    pub(crate) fn heads(&self) -> &'a [u64] {
        self.info.heads.get(..self.cell_count()).unwrap_or_default()
    }

    /// The child left of cell `index`, if it stands behind the heads.
    #[inline]
    pub(super) fn child_behind_heads(&self, index: usize) -> Option<u32> {
        self.info.heads.get(self.cell_count() + index).map(|&child| child as u32)
    }

    /// Fills `heads` with the heads of all cells, and on an interior node with their children
    /// (H1); with none, if one is broken.
    pub(crate) fn make_heads(&self, heads: &mut Vec<u64>) {
        heads.clear();
        if heads.try_reserve(self.info.numbers_per_cell() * self.cell_count()).is_err() {
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
        if !self.is_leaf() {
            let cells = 0..self.cell_count();
            heads.extend(cells.map(|index| self.child_on_page(index).map(u64::from)).map(
                |child| {
                    broken |= child.is_err();
                    child.unwrap_or_default()
                },
            ));
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
