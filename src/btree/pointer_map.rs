//! Who points at this page, for databases that vacuum.
use super::store::Store;
use crate::error::Result;
use crate::format::PageNumber;
use crate::pager::PageRef;

/// What a page is, and who points at it: the entry of the pointer map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// 1: root of a tree.
    Root,
    /// 2: on the free list.
    Free,
    /// 3: first page of the overflow chain of a cell on this page.
    OverflowFirst(PageNumber),
    /// 4: later page of a chain; this is the page before it.
    OverflowNext(PageNumber),
    /// 5: b-tree page that is no root; this is its parent.
    Child(PageNumber),
}

impl Store {
    /// Whether the database has pointer maps.
    pub(crate) fn has_pointer_map(&self) -> bool {
        todo!()
    }
    /// Whether `page` is a page of the pointer map (in a database that has one).
    pub(crate) fn is_map_page(&self, page: u32) -> bool {
        let _ = page;
        todo!()
    }
    /// Stores who owns `page`; nothing without pointer maps.
    pub(crate) fn set_owner(&mut self, page: PageNumber, owner: Owner) -> Result<()> {
        let _ = (page, owner);
        todo!()
    }
    /// Who owns `page`.
    pub(crate) fn owner(&mut self, page: PageNumber) -> Result<Owner> {
        let _ = page;
        todo!()
    }
    /// Sets the entries of everything that the node on `page` points at: children and first
    /// overflow pages of all cells, parked ones included, and the right child. Nothing without
    /// pointer maps.
    pub(crate) fn claim_children(&mut self, page: PageRef) -> Result<()> {
        let _ = page;
        todo!()
    }
    /// Sets the entries of what one cell, as it stands on a page of the given number and kind,
    /// points at.
    pub(crate) fn claim_cell(
        &mut self,
        cell: &[u8],
        kind: super::node::NodeKind,
        page: PageNumber,
    ) -> Result<()> {
        let _ = (cell, kind, page);
        todo!()
    }
}
