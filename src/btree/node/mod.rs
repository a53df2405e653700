//! A page read as a b-tree page, validated once.
//!
//! | offset | length | field |
//! | --- | --- | --- |
//! | 0 | 1 | kind |
//! | 1 | 2 | first free block, 0 if there is none |
//! | 3 | 2 | number of cells |
//! | 5 | 2 | where the cell content begins; 0 stands for 65536 |
//! | 7 | 1 | fragmented free bytes |
//! | 8 | 4 | right-most child, on interior pages only |
//! | 8 or 12 | 2·n | where each cell stands, in key order |
//!
//! On page 1 all of it comes behind the 100 bytes of the file header; positions count from the
//! start of the page there as well. Source: SQLite file format, "B-tree Pages".
//!
//! Invariants of a node that is ready:
//!
//! * N1: the kind is one of the sixteen, the cell count is possible for the page size, and the
//!   array of cell pointers ends at or before the cell content, which ends at the usable size.
//! * N2: free blocks ascend, lie within the cell content, and are at least four bytes long and
//!   four bytes apart.
//! * N3: `free` is the gap between pointers and content, plus the free blocks, plus the fragments.
//! * N4: parked cells are sorted by index, and no two have the same.
//!
//! In a damaged file one page can be two things at once, and change under one user because of the
//! other. So "no such cell", "a leaf has no children" and the like are damage, not bugs of ours.
//!
//! Cell pointers are checked one by one when they are followed: a page of many cells is ready
//! in a time that does not depend on their number.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::error::{Error, Result};
use crate::format::bytes::{u8_at, u16_at, u32_at};
use crate::format::{HEADER_SIZE, PageNumber};
use crate::memory::{LINE, prefetch, prefetch_all};
use crate::pager::PageInfo;

use super::store::PageFormat;

mod cell;
mod cells;
mod edit;
mod header;
mod heads;
mod space;
#[cfg(test)]
mod tests;

pub(crate) use cell::{Cell, Front, QuickEntry, SIZE_MIN};
pub(crate) use cells::{Cells, Copies, Run};
pub(crate) use edit::{Moves, NewCell};
pub(crate) use header::NodeKind;
pub(crate) use heads::{head_of_bytes, head_of_integer, place_of};

use cell::Layout;
pub(crate) use header::{content_start, field};
pub(crate) use space::BLOCK_MIN;

/// What is known about a b-tree page beside its bytes; lives with the cached page.
#[derive(Debug, Default)]
pub(crate) struct NodeInfo {
    kind: NodeKind,
    layout: Layout,
    /// Where the array of cell pointers begins; 0 if the page is not ready.
    pointers: u16,
    /// Cells in the body.
    cells: u16,
    /// Free bytes: gap, free blocks, fragments (N3).
    free: u32,
    /// Where the cell content begins, as the header says: every decoded cell is checked against
    /// it, and the header may be on a line of memory that nothing else asks for.
    content: u32,
    parked: Vec<ParkedCell>,
    /// See [`heads`].
    heads: Vec<u64>,
    /// Searches of this node since it has no heads.
    searches: u16,
}

/// So much does the pager expect beside a page.
const _: () = assert!(size_of::<NodeInfo>() <= LINE);

/// Length of [`NodeInfo::notes`].
pub(crate) const NODE_NOTES: usize = 16;

impl PageInfo for NodeInfo {
    #[inline]
    fn reset(&mut self) {
        self.pointers = 0;
        self.parked.clear();
        self.drop_heads();
    }
}

impl NodeInfo {
    /// Whether the page was validated since its bytes last came from below.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.pointers != 0
    }

    /// What is known, as bytes for people to look at: 1, kind, header, 0, pointers, cells, free,
    /// content; all zeros if nothing is known.
    pub(crate) fn notes(&self) -> [u8; NODE_NOTES] {
        let mut notes = [0; NODE_NOTES];
        if self.is_ready() {
            let [p, q] = self.pointers.to_be_bytes();
            let [c, d] = self.cells.to_be_bytes();
            let front = [1, self.kind.byte(), self.header() as u8, 0, p, q, c, d];
            let (free, content) = (self.free.to_be_bytes(), self.content.to_be_bytes());
            let all = front.into_iter().chain(free).chain(content);
            notes.iter_mut().zip(all).for_each(|(note, byte)| *note = byte);
        }
        notes
    }

    /// Validates header and free blocks (D288, N1, N2) and remembers what the header says.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if this cannot be a b-tree page.
    pub(crate) fn prepare(
        &mut self,
        bytes: &[u8],
        number: PageNumber,
        format: &PageFormat,
    ) -> Result<()> {
        self.read(bytes, number, format, false)
    }

    /// As [`NodeInfo::prepare`], but lets sizes of free blocks pass that the integrity check
    /// reports in its own words. Only for looking at the page.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if this cannot be a b-tree page.
    pub(crate) fn prepare_for_check(
        &mut self,
        bytes: &[u8],
        number: PageNumber,
        format: &PageFormat,
    ) -> Result<()> {
        self.read(bytes, number, format, true)
    }

    fn read(
        &mut self,
        bytes: &[u8],
        number: PageNumber,
        format: &PageFormat,
        loose: bool,
    ) -> Result<()> {
        self.reset();
        let header = header_start(number);
        let kind = NodeKind::new(u8_at(bytes, header)?)
            .ok_or(Error::corrupt("page type is not that of a b-tree page"))?;
        let cells = usize::from(u16_at(bytes, header + field::CELL_COUNT)?);
        if cells > (format.page_size.bytes() - 8) / 6 {
            return Err(Error::corrupt("more cells than a page can hold"));
        }
        if cells == 0 && !kind.is_leaf() && number != PageNumber::ONE {
            return Err(Error::corrupt("interior page without cells"));
        }
        self.describe(header, kind);
        self.cells = cells as u16;
        let measured = space::measure(bytes, header, self.pointers_end(), format.usable, loose)
            .and_then(|free| Ok((free, content_start(bytes, header)?)));
        match measured {
            Ok((free, content)) => {
                (self.free, self.content) = (free as u32, content as u32);
                Ok(())
            }
            Err(error) => {
                self.reset();
                Err(error)
            }
        }
    }

    /// Takes over what follows from position and kind; the page counts as ready.
    fn describe(&mut self, header: usize, kind: NodeKind) {
        self.kind = kind;
        self.layout = Layout::of(kind);
        self.pointers = (header + kind.header_length()) as u16;
    }

    /// Where the node's header begins: behind that of the file on page 1.
    #[inline]
    fn header(&self) -> usize {
        if usize::from(self.pointers) > HEADER_SIZE { HEADER_SIZE } else { 0 }
    }

    /// Where the pointer of cell `index` stands.
    #[inline]
    fn pointer_position(&self, index: usize) -> usize {
        usize::from(self.pointers) + 2 * index
    }

    /// Where the array of cell pointers ends and the gap begins.
    #[inline]
    fn pointers_end(&self) -> usize {
        self.pointer_position(usize::from(self.cells))
    }
}

/// Where a cell lies in a buffer of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Its first byte.
    pub(crate) start: u32,
    /// Its bytes, padding included.
    pub(crate) size: u32,
}

impl Span {
    #[inline]
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.size as usize
    }
}

/// Appends a cell to `bytes`: its child, if it has one, and what follows, padded with zeros to
/// `size_min`.
///
/// # Errors
/// [`Error::NoMemory`].
#[inline(always)]
pub(crate) fn append(
    bytes: &mut Vec<u8>,
    child: Option<u32>,
    rest: &[u8],
    size_min: usize,
) -> Result<Span> {
    let start = bytes.len();
    crate::memory::reserve(bytes, 4 + rest.len() + size_min)?;
    if let Some(child) = child {
        bytes.extend_from_slice(&child.to_be_bytes());
    }
    bytes.extend_from_slice(rest);
    if bytes.len() < start + size_min {
        bytes.resize(start + size_min, 0);
    }
    Ok(Span { start: start as u32, size: (bytes.len() - start) as u32 })
}

/// Where the node's header begins on page `number`.
#[inline]
pub(crate) fn header_start(number: PageNumber) -> usize {
    if number == PageNumber::ONE { HEADER_SIZE } else { 0 }
}

/// A b-tree page, for reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a> {
    bytes: &'a [u8],
    info: &'a NodeInfo,
    format: &'a PageFormat,
}

impl<'a> Node<'a> {
    /// The node in `bytes`, of which `info` says that it is ready.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], info: &'a NodeInfo, format: &'a PageFormat) -> Node<'a> {
        Node { bytes, info, format }
    }

    /// The page's type.
    #[inline]
    pub(crate) fn kind(&self) -> NodeKind {
        self.info.kind
    }

    /// Whether the page still says what it was found to be when it became ready. It does; but
    /// asking fetches the line of memory with header and cell pointers, which is wanted soon,
    /// while heads are being searched. So is the line behind it, with the other pointers.
    #[inline]
    pub(crate) fn is_as_described(&self) -> bool {
        prefetch(self.bytes.get(LINE..).unwrap_or_default());
        self.bytes.get(self.info.header()) == Some(&self.info.kind.byte())
    }

    /// Whether the page is a leaf.
    #[inline]
    pub(crate) fn is_leaf(&self) -> bool {
        self.info.kind.is_leaf()
    }

    /// Number of cells in the page's body.
    #[inline]
    pub(crate) fn cell_count(&self) -> usize {
        usize::from(self.info.cells)
    }

    /// Number of cells with the parked ones.
    #[inline]
    pub(crate) fn total_count(&self) -> usize {
        self.cell_count() + self.info.parked.len()
    }

    /// Number of parked cells.
    #[inline]
    pub(crate) fn parked_count(&self) -> usize {
        self.info.parked.len()
    }

    /// The parked cells.
    #[inline]
    pub(crate) fn parked(&self) -> &'a [ParkedCell] {
        &self.info.parked
    }

    /// The bytes of a parked cell, `nth` among them.
    ///
    /// # Errors
    /// [`Error::Internal`] if there are fewer.
    #[inline]
    pub(crate) fn parked_bytes(&self, nth: usize) -> Result<&'a [u8]> {
        let parked = self.info.parked.get(nth).ok_or(Error::Internal("no such parked cell"))?;
        Ok(&parked.bytes)
    }

    /// Number of parked cells among the cells `range`, in which they count.
    #[inline]
    pub(crate) fn parked_among(&self, range: std::ops::Range<usize>) -> usize {
        self.info.parked.iter().filter(|parked| range.contains(&parked.index)).count()
    }

    /// Whether the only parked cell stands behind all others.
    pub(crate) fn is_parked_last_only(&self) -> bool {
        matches!(self.info.parked.as_slice(), [only] if only.index == self.cell_count())
    }

    /// Where cell `index` of the body begins, as the page says; not yet checked.
    #[inline]
    pub(crate) fn cell_position(&self, index: usize) -> Result<usize> {
        if index >= self.cell_count() {
            return Err(Error::corrupt("no such cell on the page"));
        }
        Ok(usize::from(u16_at(self.bytes, self.info.pointer_position(index))?))
    }

    /// The same, checked to lie in the content area or behind it.
    #[inline]
    fn content_position(&self, index: usize) -> Result<usize> {
        let at = self.cell_position(index)?;
        if at < self.info.content as usize {
            return Err(Error::corrupt("cell outside of the content area"));
        }
        Ok(at)
    }

    /// Asks for the memory in which header and cell pointers are.
    #[inline]
    pub(crate) fn prefetch_pointers(&self) {
        prefetch(self.bytes);
        prefetch(self.bytes.get(LINE..).unwrap_or_default());
    }

    /// Asks for the memory of the first free block, which an insert looks at.
    #[inline]
    pub(crate) fn prefetch_room(&self) {
        if let Ok(first) = u16_at(self.bytes, self.info.header() + field::FIRST_FREE) {
            prefetch(self.bytes.get(usize::from(first)..).unwrap_or_default());
        }
    }

    /// Asks for the memory in which cell `index` of the body begins, if there is one.
    #[inline(always)]
    pub(crate) fn prefetch_cell(&self, index: usize) {
        if index >= self.cell_count() {
            return;
        }
        let pointer = self.info.pointer_position(index);
        if let Some(&[high, low]) = self.bytes.get(pointer..).and_then(<[u8]>::first_chunk) {
            let at = usize::from(u16::from_be_bytes([high, low]));
            prefetch(self.bytes.get(at..).unwrap_or_default());
            prefetch(self.bytes.get(at + LINE..).unwrap_or_default());
            prefetch(self.bytes.get(at + 2 * LINE..).unwrap_or_default());
        }
    }

    /// The same for what is behind that, on a page of so few cells that they may well be long.
    #[inline]
    pub(crate) fn prefetch_long_cell(&self, index: usize) {
        const FEW: usize = 16;
        if self.cell_count() < FEW
            && let Ok(at) = self.cell_position(index)
        {
            let size = self.format.usable / self.cell_count().max(1);
            let rest = self.bytes.get(at + 3 * LINE..).unwrap_or_default();
            prefetch_all(rest.get(..size).unwrap_or(rest));
        }
    }

    /// Cell `index` of the body, decoded.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it does not lie within the content area.
    #[inline]
    pub(crate) fn cell(&self, index: usize) -> Result<Cell<'a>> {
        let at = self.cell_position(index)?;
        self.cell_at(at)
    }

    /// The cell that begins at `at`, decoded.
    #[inline(always)]
    fn cell_at(&self, at: usize) -> Result<Cell<'a>> {
        if at < self.info.content as usize {
            return Err(Error::corrupt("cell outside of the content area"));
        }
        let room = self.bytes.get(at..self.format.usable).unwrap_or_default();
        let cell = cell::decode(room, self.info.layout, self.format)?;
        if cell.size > room.len() {
            return Err(Error::corrupt("cell reaches beyond the page"));
        }
        Ok(cell)
    }

    /// The longest payload of a cell of the usual sort on a page of this kind.
    #[inline]
    fn quick_max(&self) -> usize {
        match self.info.kind {
            NodeKind::TABLE_LEAF => self.format.max_leaf,
            _ => self.format.max_local,
        }
    }

    /// The bytes that the cell at `at` takes on the page.
    #[inline]
    fn size_at(&self, at: usize, layout: Layout) -> Result<usize> {
        let page = self.bytes.get(..self.format.usable).unwrap_or_default();
        let quick_size = cell::quick_size_on(self.info.kind, page, at, self.quick_max());
        match quick_size {
            Some(size) if at >= self.info.content as usize => Ok(size),
            _ => self.size_slowly(at, layout),
        }
    }

    #[inline(never)]
    fn size_slowly(&self, at: usize, layout: Layout) -> Result<usize> {
        if at < self.info.content as usize {
            return Err(Error::corrupt("cell outside of the content area"));
        }
        let room = self.bytes.get(at..self.format.usable).unwrap_or_default();
        cell::size(room, layout, self.format)
    }

    /// The payload of cell `index` of the body if the cell is of the usual sort: all of it is on
    /// the page. Faster than [`Node::cell`], which knows the others.
    #[inline]
    pub(crate) fn quick_payload(&self, index: usize) -> Option<&'a [u8]> {
        let at = self.cell_position(index).ok()?;
        if at < self.info.content as usize {
            return None;
        }
        let room = self.bytes.get(at..self.format.usable)?;
        let extent = cell::quick_extent(room, self.info.layout, self.format)?;
        room.get(extent.header..extent.end())
    }

    /// Cell `index` of the body, if it is of the usual sort and on the leaf of a table or an index.
    #[inline(always)]
    pub(crate) fn quick_entry(&self, index: usize) -> Option<QuickEntry> {
        let at = self.cell_position(index).ok()?;
        if at < self.info.content as usize {
            return None;
        }
        match self.info.kind {
            NodeKind::TABLE_LEAF => cell::quick_row(self.bytes, at, self.format),
            NodeKind::INDEX_LEAF => cell::quick_record(self.bytes, at, self.format),
            _ => None,
        }
    }

    /// The payload of an entry that [`Node::quick_entry`] has found on this page.
    #[inline(always)]
    pub(crate) fn payload_of(&self, entry: QuickEntry) -> &'a [u8] {
        entry.payload(self.bytes)
    }

    /// Copies the cells to the end of `bytes`, parked ones included, and lists in `cells` where
    /// each is, in order. The content area is copied as it is, so what lies together on the page
    /// lies together in `bytes`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a cell does not lie within the content area; [`Error::NoMemory`].
    pub(crate) fn gather(&self, bytes: &mut Vec<u8>, cells: &mut Vec<Span>) -> Result<()> {
        let content = (self.info.content as usize).min(self.format.usable);
        let body = self.bytes.get(content..self.format.usable).unwrap_or_default();
        crate::memory::reserve(bytes, body.len())?;
        crate::memory::reserve(cells, self.total_count())?;
        // Added to a position on the page, this gives the position in `bytes`.
        let base = bytes.len().wrapping_sub(content);
        bytes.extend_from_slice(body);
        let first = cells.len();
        for index in 0..self.cell_count() {
            let place = self.cells().place(index)?;
            let (start, size) = (base.wrapping_add(place.start) as u32, place.len() as u32);
            cells.push(Span { start, size });
        }
        for parked in &self.info.parked {
            crate::memory::reserve(bytes, parked.bytes.len())?;
            let span = Span { start: bytes.len() as u32, size: parked.bytes.len() as u32 };
            bytes.extend_from_slice(&parked.bytes);
            cells.insert((first + parked.index).min(cells.len()), span);
        }
        Ok(())
    }

    /// The raw bytes of cell `index` counted with the parked ones: as many as it takes on the
    /// page, padding included.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it does not lie within the content area.
    pub(crate) fn cell_bytes(&self, index: usize) -> Result<&'a [u8]> {
        let mut body = index;
        for parked in &self.info.parked {
            if parked.index == index {
                return Ok(&parked.bytes);
            }
            body -= usize::from(parked.index < index);
        }
        let place = self.cells().place(body)?;
        self.bytes.get(place).ok_or(Error::corrupt("cell reaches beyond the page"))
    }

    /// The bytes that all cells take, parked ones and pointers included.
    pub(crate) fn used(&self) -> usize {
        let body = self.format.usable - self.info.pointers_end();
        let in_body = body.saturating_sub(self.info.free as usize);
        let parked = self.info.parked.iter().map(|parked| parked.bytes.len() + 2);
        in_body + 2 * self.cell_count() + parked.sum::<usize>()
    }

    /// The key of cell `index` of an integer tree; touches as few bytes as possible (hot path).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the cell does not lie within the content area.
    #[inline(always)]
    pub(crate) fn integer_key(&self, index: usize) -> Result<i64> {
        let at = self.content_position(index)?;
        cell::integer_key(self.bytes.get(at..).unwrap_or_default(), self.info.layout)
    }

    /// Child left of cell `index` of the body; right child for `index == cell_count()`. Not 0.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is 0, or on a leaf.
    #[inline]
    pub(crate) fn child(&self, index: usize) -> Result<u32> {
        if index == self.cell_count() {
            return self.right_child();
        }
        match self.child_behind_heads(index) {
            Some(child) => Ok(child),
            None => self.child_on_page(index),
        }
    }

    /// Child left of cell `index` of the body, from the cell itself. Not 0.
    ///
    /// # Errors
    /// As [`Node::child`].
    #[inline]
    fn child_on_page(&self, index: usize) -> Result<u32> {
        let at = self.content_position(index)?;
        self.checked_child(u32_at(self.bytes, at)?)
    }

    /// Right-most child of an interior page.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is 0, or on a leaf.
    #[inline]
    pub(crate) fn right_child(&self) -> Result<u32> {
        let at = self.info.header() + field::RIGHT_CHILD;
        self.checked_child(u32_at(self.bytes, at)?)
    }

    #[inline]
    fn checked_child(&self, child: u32) -> Result<u32> {
        if child == 0 || self.is_leaf() {
            return Err(Error::corrupt("a child is missing"));
        }
        Ok(child)
    }

    /// Free bytes: gap, free blocks, fragments.
    ///
    /// # Errors
    /// None at present: they are counted when the page becomes ready.
    #[inline]
    pub(crate) fn free_bytes(&self) -> Result<usize> {
        Ok(self.info.free as usize)
    }

    /// Number of free blocks.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the chain is broken.
    pub(crate) fn free_block_count(&self) -> Result<usize> {
        space::blocks(self.bytes, self.info.header(), Some(self.format.usable)).try_fold(
            0,
            |count, b| {
                b?;
                Ok(count + 1)
            },
        )
    }

    /// Decodes `bytes`, which begin with a cell as it would stand on a page of type `kind`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if `bytes` ends before the cell does.
    pub(crate) fn decode_cell(
        bytes: &'a [u8],
        kind: NodeKind,
        format: &PageFormat,
    ) -> Result<Cell<'a>> {
        cell::decode(bytes, Layout::of(kind), format)
    }
}

/// A b-tree page, for changing.
#[derive(Debug)]
pub(crate) struct NodeMut<'a> {
    bytes: &'a mut [u8],
    info: &'a mut NodeInfo,
    format: &'a PageFormat,
}

impl<'a> NodeMut<'a> {
    /// The node in `bytes`; except for the calls that format it anew, `info` must be ready.
    #[inline]
    pub(crate) fn new(
        bytes: &'a mut [u8],
        info: &'a mut NodeInfo,
        format: &'a PageFormat,
    ) -> NodeMut<'a> {
        NodeMut { bytes, info, format }
    }

    /// The same page, for reading.
    #[inline]
    pub(crate) fn node(&self) -> Node<'_> {
        Node::new(self.bytes, self.info, self.format)
    }
}

/// A cell that logically belongs to a node but does not fit into its body; exists only inside one
/// operation, until balancing has made room.
#[derive(Debug, Default)]
#[doc(alias = "overflow cell")]
pub(crate) struct ParkedCell {
    /// Its index among all cells of the node.
    pub(crate) index: usize,
    /// Its bytes, as they would stand on the page.
    pub(crate) bytes: Vec<u8>,
}
