//! Moving pages to the front and cutting the tail, in databases with pointer maps.
//!
//! The pointer map tells who points at a page, so that the last page of the database can be copied
//! to a free place and its owner corrected. Cursors must have been saved before: they know pages
//! by number.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::pointer_map::Owner;
use super::store::{PageFormat, Store};
use crate::error::{Error, Result};
use crate::format::bytes::{put_u32, u32_at};
use crate::format::{AutoVacuum, FileHeader, PageNumber};

impl PageFormat {
    /// The number of pages that a database of `pages`, of which `free` are free, shrinks to: the
    /// free pages go, and with them the map pages that have nothing left to map. `None` if there
    /// cannot be as many free pages.
    fn final_size(&self, pages: u32, free: u32) -> Option<u32> {
        let entries = self.map_entries();
        // Free pages beyond those behind the last map page empty one map page for each J of them.
        let behind_last_map = pages.checked_sub(self.map_page(pages))?;
        let maps = free.checked_add(entries)?.checked_sub(behind_last_map)? / entries;
        let mut size = pages.checked_sub(free)?.checked_sub(maps)?;
        let lock_page = self.lock_page.number().get();
        if pages > lock_page && size < lock_page {
            size = size.checked_sub(1)?;
        }
        while self.is_hole(size) {
            size -= 1;
        }
        (size > 0).then_some(size)
    }

    /// Whether `page` is a map page or the lock page, which nothing can be moved from or to.
    fn is_hole(&self, page: u32) -> bool {
        page >= 2 && (self.map_page(page) == page || self.lock_page.is(page))
    }
}

impl Store {
    /// Copies page `from` to page `to`, which was allocated for it, and corrects everything that
    /// points at it: its owner, and the pointer-map entries of what it points at itself. Page
    /// `from` is left to the caller. With [`Owner::Root`] there is nobody to correct but the
    /// caller's own notes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the owner does not own the page; those of the pager.
    pub(crate) fn relocate_page(
        &mut self,
        from: PageNumber,
        to: PageNumber,
        owner: Owner,
    ) -> Result<()> {
        self.change_shape();
        if from == PageNumber::ONE || to == PageNumber::ONE || from == to {
            return Err(Error::corrupt("page cannot be moved").on_page(from.get()));
        }
        let mark = self.pager.mark();
        match owner {
            Owner::Root | Owner::Child(_) => self.copy_node(from, to)?,
            Owner::OverflowFirst(_) | Owner::OverflowNext(_) => self.copy_overflow(from, to)?,
            Owner::Free => return Err(Error::corrupt("page in use is free").on_page(from.get())),
        }
        match owner {
            Owner::Child(parent) => self.repoint_child(parent, from, to)?,
            Owner::OverflowFirst(page) => self.repoint_cell(page, from, to)?,
            Owner::OverflowNext(page) => self.repoint_chain(page, from, to)?,
            Owner::Root | Owner::Free => {}
        }
        self.set_owner(to, owner)?;
        self.pager.release(mark);
        Ok(())
    }

    fn copy_node(&mut self, from: PageNumber, to: PageNumber) -> Result<()> {
        let source = self.fetch_node(from)?;
        let target = self.pager.fetch(to)?;
        let target = self.pager.make_writable(target)?;
        self.pager.copy_page(source, target);
        let target = self.fetch_node(to)?;
        self.claim_children(target)
    }

    fn copy_overflow(&mut self, from: PageNumber, to: PageNumber) -> Result<()> {
        let source = self.pager.fetch(from)?;
        let next = u32_at(self.pager.bytes(source), 0)?;
        let target = self.pager.fetch(to)?;
        let target = self.pager.make_writable(target)?;
        self.pager.copy_page(source, target);
        if next == 0 {
            return Ok(());
        }
        let next = self.checked_number(next)?;
        if self.owner(next)? != Owner::OverflowNext(from) {
            return Err(not_owned(from));
        }
        self.set_owner(next, Owner::OverflowNext(to))
    }

    /// Makes the child `from` of the node on `parent` the child `to`.
    fn repoint_child(
        &mut self,
        parent: PageNumber,
        from: PageNumber,
        to: PageNumber,
    ) -> Result<()> {
        let parent = self.checked_number(parent.get())?;
        let page = self.fetch_node(parent)?;
        let node = self.node(page);
        for index in 0..=node.cell_count() {
            if node.child(index)? == from.get() {
                let page = self.pager.make_writable(page)?;
                return self.node_mut(page).set_child(index, to);
            }
        }
        Err(not_owned(from))
    }

    /// Makes the chain of a cell on `page` that begins at `from` begin at `to`.
    fn repoint_cell(&mut self, page: PageNumber, from: PageNumber, to: PageNumber) -> Result<()> {
        let number = self.checked_number(page.get())?;
        let page = self.fetch_node(number)?;
        let node = self.node(page);
        for index in 0..node.cell_count() {
            if node.cell(index)?.overflow == from.get() {
                let page = self.pager.make_writable(page)?;
                return self.node_mut(page).set_overflow(index, to);
            }
        }
        Err(not_owned(from))
    }

    /// Makes the chain that goes from `before` to `from` go to `to`.
    fn repoint_chain(
        &mut self,
        before: PageNumber,
        from: PageNumber,
        to: PageNumber,
    ) -> Result<()> {
        let before = self.checked_number(before.get())?;
        let page = self.pager.fetch(before)?;
        if u32_at(self.pager.bytes(page), 0)? != from.get() {
            return Err(not_owned(from));
        }
        let page = self.pager.make_writable(page)?;
        put_u32(self.pager.bytes_mut(page), 0, to.get())
    }

    /// Takes the last page of the image out of use, if there is a free page (D464): a free page
    /// leaves the free list, a used one moves to a free place; the image gets shorter by it and by
    /// what is then superfluous behind it. `false`: nothing to do.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the pager.
    pub(crate) fn vacuum_step(&mut self) -> Result<bool> {
        let free = self.free_count()?;
        if free == 0 || !self.has_pointer_map() {
            return Ok(false);
        }
        let mark = self.pager.mark();
        let pages = self.pager.page_count();
        let size = self.final_size(pages, free)?;
        let last = self.checked_number(pages)?;
        match self.owner(last)? {
            Owner::Root => return Err(not_owned(last)),
            Owner::Free => self.remove_free(last)?,
            owner => {
                let place = self.allocate_at_most(size)?;
                let (to, _) = place.ok_or(Error::corrupt("free list contradicts itself"))?;
                self.relocate_page(last, to, owner)?;
            }
        }
        let mut shorter = pages - 1;
        while self.format.is_hole(shorter) {
            shorter -= 1;
        }
        self.pager.truncate_image(shorter);
        self.pager.release(mark);
        Ok(true)
    }

    /// In full auto-vacuum mode, moves pages until nothing is free and cuts the image (D465).
    /// Does nothing in other modes.
    ///
    /// # Errors
    /// [`Error::Busy`], before anything was moved; [`Error::Corrupt`]; those of the pager.
    pub(crate) fn vacuum_for_commit(&mut self) -> Result<()> {
        if self.auto_vacuum != AutoVacuum::Full {
            return Ok(());
        }
        let free = self.free_count()?;
        if free == 0 {
            return Ok(());
        }
        // Without the lock a full cache could not spill when pages are half-way moved.
        self.pager.lock_for_commit()?;
        let pages = self.pager.page_count();
        let size = self.final_size(pages, free)?;
        for last in (size + 1..=pages).rev().filter_map(PageNumber::new) {
            if !self.format.is_hole(last.get()) {
                let mark = self.pager.mark();
                self.vacate(last, size)?;
                self.pager.release(mark);
            }
        }
        self.set_header_word(FileHeader::FREELIST_TRUNK, 0)?;
        self.set_header_word(FileHeader::FREELIST_COUNT, 0)?;
        self.pager.truncate_image(size);
        Ok(())
    }

    /// Moves page `last`, if it is in use, to a free place up to `size`. Free pages beyond it that
    /// come first are dropped from the list: they will be cut off.
    fn vacate(&mut self, last: PageNumber, size: u32) -> Result<()> {
        let owner = self.owner(last)?;
        match owner {
            Owner::Free => return Ok(()),
            Owner::Root => return Err(not_owned(last)),
            _ => {}
        }
        loop {
            if self.free_count()? == 0 {
                return Err(Error::corrupt("free list contradicts itself"));
            }
            let (to, _) = self.allocate_page(None)?;
            if to.get() <= size {
                return self.relocate_page(last, to, owner);
            }
        }
    }

    fn final_size(&self, pages: u32, free: u32) -> Result<u32> {
        if self.format.is_hole(pages) {
            return Err(Error::corrupt("last page of the database is a pointer map"));
        }
        let size = self.format.final_size(pages, free).filter(|&size| size < pages);
        size.ok_or(Error::corrupt("more free pages than pages"))
    }
}

#[cold]
fn not_owned(page: PageNumber) -> Error {
    Error::corrupt("pointer map and pages contradict each other").on_page(page.get())
}

#[cfg(test)]
mod tests;
