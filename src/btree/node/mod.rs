//! A page read as a b-tree page, validated once.

use crate::error::Result;
use crate::format::PageNumber;
use crate::pager::PageInfo;

use super::store::PageFormat;

/// The type byte of a b-tree page: bit 0 integer keys, bit 1 no data, bit 2 data on leaves only,
/// bit 3 leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct NodeKind(u8);

impl NodeKind {
    /// The kind with these flag bits; `None` if bits above 3 are set.
    pub(crate) fn new(byte: u8) -> Option<NodeKind> {
        (byte & !15 == 0).then_some(NodeKind(byte))
    }
    /// The stored byte.
    pub(crate) fn byte(self) -> u8 {
        self.0
    }
    /// Leaf page.
    pub(crate) fn is_leaf(self) -> bool {
        self.0 & 8 != 0
    }
    /// Same tree kind, as a leaf.
    pub(crate) fn as_leaf(self) -> NodeKind {
        NodeKind(self.0 | 8)
    }
    /// Same tree kind, as an interior page.
    pub(crate) fn as_interior(self) -> NodeKind {
        NodeKind(self.0 & !8)
    }
    /// Integer keys (bits 0 or 2: LEAFDATA implies integer keys).
    pub(crate) fn has_integer_keys(self) -> bool {
        self.0 & 5 != 0
    }
    /// Entries on leaves only, interior cells are copies of keys.
    pub(crate) fn is_leaf_data(self) -> bool {
        self.0 & 4 != 0
    }
    /// Cells of this very page carry data.
    pub(crate) fn has_data(self) -> bool {
        self.0 & 2 == 0 && (self.is_leaf() || self.0 & 4 == 0)
    }
}

/// What is known about a b-tree page beside its bytes; lives with the cached page.
#[derive(Debug, Default)]
pub(crate) struct NodeInfo {}

impl PageInfo for NodeInfo {
    fn reset(&mut self) {}
}

impl NodeInfo {
    /// Whether the page was validated since its bytes last came from below.
    pub(crate) fn is_ready(&self) -> bool {
        todo!()
    }
    /// Validates header, cell pointers and free blocks (D288) and remembers what the header says.
    pub(crate) fn prepare(
        &mut self,
        bytes: &[u8],
        number: PageNumber,
        format: &PageFormat,
    ) -> Result<()> {
        let _ = (bytes, number, format);
        todo!()
    }
}

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

/// A b-tree page, for reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a> {
    bytes: &'a [u8],
    info: &'a NodeInfo,
    format: &'a PageFormat,
}

impl<'a> Node<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], info: &'a NodeInfo, format: &'a PageFormat) -> Node<'a> {
        Node { bytes, info, format }
    }
    /// The page's type.
    pub(crate) fn kind(&self) -> NodeKind {
        todo!()
    }
    /// Whether the page is a leaf.
    pub(crate) fn is_leaf(&self) -> bool {
        todo!()
    }
    /// Number of cells in the page's body.
    pub(crate) fn cell_count(&self) -> usize {
        todo!()
    }
    /// Number of cells with the parked ones.
    pub(crate) fn total_count(&self) -> usize {
        todo!()
    }
    /// Number of parked cells.
    pub(crate) fn parked_count(&self) -> usize {
        todo!()
    }
    /// Whether the only parked cell stands behind all others.
    pub(crate) fn is_parked_last_only(&self) -> bool {
        todo!()
    }
    /// Cell `index` of the body, decoded. Corrupt if it does not lie within the content area.
    pub(crate) fn cell(&self, index: usize) -> Result<Cell<'a>> {
        let _ = index;
        todo!()
    }
    /// The raw bytes of cell `index` counted with the parked ones, and how many there are is
    /// `cell.size` (padded to 4). `index` runs over `total_count`.
    pub(crate) fn cell_bytes(&self, index: usize) -> Result<&'a [u8]> {
        let _ = index;
        todo!()
    }
    /// The key of cell `index` of an integer tree; touches as few bytes as possible (hot path).
    pub(crate) fn integer_key(&self, index: usize) -> Result<i64> {
        let _ = index;
        todo!()
    }
    /// Child left of cell `index` of the body; right child for `index == cell_count()`. Not 0.
    pub(crate) fn child(&self, index: usize) -> Result<u32> {
        let _ = index;
        todo!()
    }
    /// Right-most child of an interior page.
    pub(crate) fn right_child(&self) -> Result<u32> {
        todo!()
    }
    /// Free bytes: gap, free blocks, fragments.
    pub(crate) fn free_bytes(&self) -> Result<usize> {
        todo!()
    }
    /// Number of free blocks.
    pub(crate) fn free_block_count(&self) -> Result<usize> {
        todo!()
    }
    /// Decodes `bytes`, which begin with a cell as it would stand on a page of type `kind`.
    pub(crate) fn decode_cell(
        bytes: &'a [u8],
        kind: NodeKind,
        format: &PageFormat,
    ) -> Result<Cell<'a>> {
        let _ = (bytes, kind, format);
        todo!()
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
    #[inline]
    pub(crate) fn new(
        bytes: &'a mut [u8],
        info: &'a mut NodeInfo,
        format: &'a PageFormat,
    ) -> NodeMut<'a> {
        NodeMut { bytes, info, format }
    }
    /// The same page, for reading.
    pub(crate) fn node(&self) -> Node<'_> {
        Node::new(self.bytes, self.info, self.format)
    }
    /// Formats the page as an empty node of type `kind` (page 1 keeps its file header; reserved
    /// bytes are kept). Parked cells are forgotten. Marks the page ready.
    pub(crate) fn initialize(&mut self, number: PageNumber, kind: NodeKind) {
        let _ = (number, kind);
        todo!()
    }
    /// Formats the page as `kind` and fills it with `cells`, in order, packed at the end of the
    /// page, the first cell last in memory (as a fresh page grows). Internal error if they do not fit.
    pub(crate) fn rebuild<'c>(
        &mut self,
        number: PageNumber,
        kind: NodeKind,
        cells: &mut dyn Iterator<Item = &'c [u8]>,
    ) -> Result<()> {
        let _ = (number, kind, cells);
        todo!()
    }
    /// Inserts `cell` (complete with its child pointer) at `index`, or parks a copy of it if it
    /// does not fit or another is parked already. `index` counts parked cells.
    /// Only error: Corrupt, NoMemory.
    pub(crate) fn insert(&mut self, index: usize, cell: &[u8]) -> Result<()> {
        let _ = (index, cell);
        todo!()
    }
    /// Removes cell `index` of the body. No cell may be parked.
    pub(crate) fn remove(&mut self, index: usize) -> Result<()> {
        let _ = index;
        todo!()
    }
    /// Replaces the child pointer of cell `index` (parked ones counted; `total_count()`: the
    /// right child).
    pub(crate) fn set_child(&mut self, index: usize, child: PageNumber) -> Result<()> {
        let _ = (index, child);
        todo!()
    }
    /// Replaces the right child.
    pub(crate) fn set_right_child(&mut self, child: PageNumber) -> Result<()> {
        let _ = child;
        todo!()
    }
    /// Takes the parked cells away from the page and into `other` (balance deeper).
    pub(crate) fn take_parked(&mut self) -> Vec<ParkedCell> {
        todo!()
    }
    /// The reverse of `take_parked`.
    pub(crate) fn put_parked(&mut self, parked: Vec<ParkedCell>) {
        let _ = parked;
        todo!()
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
