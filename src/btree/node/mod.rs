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
//! Cell pointers are checked one by one when they are followed: a page of many cells is ready
//! in a time that does not depend on their number.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::error::{Error, Result};
use crate::format::bytes::{u8_at, u16_at, u32_at};
use crate::format::{HEADER_SIZE, PageNumber};
use crate::pager::PageInfo;

use super::store::PageFormat;

mod cell;
mod edit;
mod header;
mod space;
#[cfg(test)]
mod tests;

pub(crate) use cell::Cell;
pub(crate) use header::NodeKind;

use cell::Layout;
pub(crate) use header::{content_start, field};

/// What is known about a b-tree page beside its bytes; lives with the cached page.
#[derive(Debug, Default)]
pub(crate) struct NodeInfo {
    ready: bool,
    kind: NodeKind,
    layout: Layout,
    /// Where the node's header begins: 100 on page 1, else 0.
    header: u8,
    /// Where the array of cell pointers begins.
    pointers: u16,
    /// Cells in the body.
    cells: u16,
    /// Free bytes: gap, free blocks, fragments (N3).
    free: u32,
    parked: Vec<ParkedCell>,
}

impl PageInfo for NodeInfo {
    #[inline]
    fn reset(&mut self) {
        self.ready = false;
        self.parked.clear();
    }
}

impl NodeInfo {
    /// Whether the page was validated since its bytes last came from below.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
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
        let free = space::measure(bytes, header, self.pointers_end(), format.usable, loose)?;
        self.free = free as u32;
        self.ready = true;
        Ok(())
    }

    /// Takes over what follows from position and kind.
    fn describe(&mut self, header: usize, kind: NodeKind) {
        self.kind = kind;
        self.layout = Layout::of(kind);
        self.header = header as u8;
        self.pointers = (header + kind.header_length()) as u16;
    }

    #[inline]
    fn header(&self) -> usize {
        usize::from(self.header)
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

    /// Whether the only parked cell stands behind all others.
    pub(crate) fn is_parked_last_only(&self) -> bool {
        matches!(self.info.parked.as_slice(), [only] if only.index == self.cell_count())
    }

    /// Where cell `index` of the body begins, as the page says; not yet checked.
    #[inline]
    pub(crate) fn cell_position(&self, index: usize) -> Result<usize> {
        if index >= self.cell_count() {
            return Err(Error::Internal("no such cell on the page"));
        }
        Ok(usize::from(u16_at(self.bytes, self.info.pointer_position(index))?))
    }

    /// Cell `index` of the body, decoded.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it does not lie within the content area.
    #[inline]
    pub(crate) fn cell(&self, index: usize) -> Result<Cell<'a>> {
        let at = self.cell_position(index)?;
        if at < content_start(self.bytes, self.info.header())? {
            return Err(Error::corrupt("cell outside of the content area"));
        }
        let room = self.bytes.get(at..self.format.usable);
        let cell = cell::decode(room.unwrap_or_default(), self.info.layout, self.format)?;
        if at + cell.size > self.format.usable {
            return Err(Error::corrupt("cell reaches beyond the page"));
        }
        Ok(cell)
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
            if parked.index < index {
                body -= 1;
            }
        }
        let size = self.cell(body)?.size;
        crate::format::bytes::slice(self.bytes, self.cell_position(body)?, size)
    }

    /// The key of cell `index` of an integer tree; touches as few bytes as possible (hot path).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the cell does not lie on the page.
    #[inline]
    pub(crate) fn integer_key(&self, index: usize) -> Result<i64> {
        let at = self.cell_position(index)?;
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
        let at = self.cell_position(index)?;
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
#[derive(Debug)]
#[doc(alias = "overflow cell")]
pub(crate) struct ParkedCell {
    /// Its index among all cells of the node.
    pub(crate) index: usize,
    /// Its bytes, as they would stand on the page.
    pub(crate) bytes: Vec<u8>,
}
