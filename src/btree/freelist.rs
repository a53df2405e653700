//! Trunk and leaf pages: allocate and free a page.
use super::store::Store;
use crate::error::Result;
use crate::format::PageNumber;
use crate::pager::{PageMut, PageRef};

impl Store {
    /// Takes a page out of the free list (the leaf of the first trunk nearest to `near`, or, with
    /// `None`, nearest to page 1; the trunk itself if it lists none) or grows the image by one
    /// (stepping over the lock page and, with pointer maps, making the map page that is due).
    /// The page is writable and its content is undefined.
    pub(crate) fn allocate_page(
        &mut self,
        near: Option<PageNumber>,
    ) -> Result<(PageNumber, PageMut)> {
        let _ = near;
        todo!()
    }
    /// Takes exactly page `wanted` if it is free, else as `allocate_page(Some(wanted))`.
    pub(crate) fn allocate_exactly(&mut self, wanted: PageNumber) -> Result<(PageNumber, PageMut)> {
        let _ = wanted;
        todo!()
    }
    /// Gives a page back: leaf of the first trunk, or new trunk. `page` may be given if it is at
    /// hand, so that it is not looked up again; a page that becomes a leaf is not read.
    pub(crate) fn free_page(&mut self, number: PageNumber, page: Option<PageRef>) -> Result<()> {
        let _ = (number, page);
        todo!()
    }
}
