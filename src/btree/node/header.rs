//! The kind of a b-tree page, and the fields of its header.

use crate::error::Result;
use crate::format::bytes::u16_at;

/// The type byte of a b-tree page: bit 0 integer keys, bit 1 no data, bit 2 data on leaves only,
/// bit 3 leaf.
///
/// All sixteen combinations are understood. Files of today have four: `0x05` and `0x0d` for
/// tables, `0x02` and `0x0a` for indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct NodeKind(u8);

impl NodeKind {
    /// Leaf of a table: integer keys, data on leaves only.
    pub(crate) const TABLE_LEAF: NodeKind = NodeKind(0x0d);
    /// Leaf of the historic kind with integer keys and data on all pages.
    pub(crate) const INTEGER_LEAF: NodeKind = NodeKind(0x09);
    /// Leaf of an index.
    pub(crate) const INDEX_LEAF: NodeKind = NodeKind(0x0a);
    /// Interior page of a table: integer keys only.
    pub(crate) const TABLE_INTERIOR: NodeKind = NodeKind(0x05);
    /// Interior page of an index: byte-string keys without data.
    pub(crate) const INDEX_INTERIOR: NodeKind = NodeKind(0x02);

    /// The kind with these flag bits; `None` if bits above 3 are set.
    #[inline]
    pub(crate) fn new(byte: u8) -> Option<NodeKind> {
        (byte & !15 == 0).then_some(NodeKind(byte))
    }

    /// The stored byte.
    #[inline]
    pub(crate) const fn byte(self) -> u8 {
        self.0
    }

    /// Leaf page.
    #[inline]
    pub(crate) fn is_leaf(self) -> bool {
        self.0 & 8 != 0
    }

    /// Same tree kind, as a leaf.
    #[inline]
    pub(crate) fn as_leaf(self) -> NodeKind {
        NodeKind(self.0 | 8)
    }

    /// Same tree kind, as an interior page.
    #[inline]
    pub(crate) fn as_interior(self) -> NodeKind {
        NodeKind(self.0 & !8)
    }

    /// Integer keys (bits 0 or 2: LEAFDATA implies integer keys).
    #[inline]
    pub(crate) fn has_integer_keys(self) -> bool {
        self.0 & 5 != 0
    }

    /// Entries on leaves only, interior cells are copies of keys.
    #[inline]
    pub(crate) fn is_leaf_data(self) -> bool {
        self.0 & 4 != 0
    }

    /// Cells of this very page carry data.
    #[inline]
    pub(crate) fn has_data(self) -> bool {
        self.0 & 2 == 0 && (self.is_leaf() || self.0 & 4 == 0)
    }

    /// Bytes of the page header ahead of the cell pointers.
    #[inline]
    pub(crate) fn header_length(self) -> usize {
        if self.is_leaf() { 8 } else { 12 }
    }
}

/// Where the fields of the header stand, counted from its start. The kind is at 0.
pub(crate) mod field {
    /// First free block (2 bytes).
    pub(crate) const FIRST_FREE: usize = 1;
    /// Number of cells (2 bytes).
    pub(crate) const CELL_COUNT: usize = 3;
    /// Start of the cell content (2 bytes).
    pub(crate) const CONTENT: usize = 5;
    /// Fragmented free bytes (1 byte).
    pub(crate) const FRAGMENTS: usize = 7;
    /// Right-most child (4 bytes).
    pub(crate) const RIGHT_CHILD: usize = 8;
}

/// Where the cell content begins on the page whose header is at `header`: the stored 0 is 65536.
#[inline]
pub(crate) fn content_start(bytes: &[u8], header: usize) -> Result<usize> {
    let stored = u16_at(bytes, header + field::CONTENT)?;
    Ok(if stored == 0 { 65536 } else { usize::from(stored) })
}
