//! Trunk and leaf pages: allocate and free a page.
//!
//! The free list is a chain of trunk pages, each of which lists further free pages, its leaves.
//!
//! | offset in a trunk | length | field |
//! | --- | --- | --- |
//! | 0 | 4 | next trunk, 0 at the end |
//! | 4 | 4 | number of leaves |
//! | 8 | 4·n | the leaves, in no order |
//!
//! The file header has the first trunk and the number of free pages, trunks and leaves together.
//! What is on a leaf does not matter to anybody. Source: SQLite file format, "The Freelist".

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::node::NodeInfo;
use super::store::{PageFormat, Store};
use crate::error::{Error, Result};
use crate::format::bytes::{put_u32, slice, slice_mut, u32_at};
use crate::format::{FileHeader, PageNumber};
use crate::pager::{PageInfo, PageMut, PageRef};

/// Offset of the number of leaves in a trunk.
pub(crate) const LEAF_COUNT: usize = 4;
/// Offset of the first leaf in a trunk.
pub(crate) const LEAVES: usize = 8;

const BROKEN: Error = Error::corrupt("free list contradicts itself");
const IN_USE: Error = Error::corrupt("page is in use and free");

impl PageFormat {
    /// Leaves for which a trunk has room; more is a damaged trunk.
    pub(crate) fn trunk_capacity(&self) -> usize {
        self.usable / 4 - 2
    }

    /// Leaves that are written into a trunk: engines before 2009 take more for damage.
    fn trunk_limit(&self) -> usize {
        self.usable / 4 - 8
    }
}

/// Which page of the free list is wanted.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// That of the first trunk nearest to this number.
    Near(u32),
    /// This one.
    Exactly(PageNumber),
    /// Any up to this number.
    AtMost(u32),
}

impl Wanted {
    fn accepts(self, page: u32) -> bool {
        match self {
            Wanted::Near(_) => true,
            Wanted::Exactly(number) => page == number.get(),
            Wanted::AtMost(limit) => page <= limit,
        }
    }

    /// Index of the leaf to take, if there is one.
    fn choose(self, leaves: &[u8]) -> Option<(usize, u32)> {
        let mut leaves = leaves
            .chunks_exact(4)
            .map(|leaf| u32_at(leaf, 0).unwrap_or(0))
            .enumerate()
            .filter(|&(_, leaf)| self.accepts(leaf));
        match self {
            Wanted::Near(number) => leaves.min_by_key(|&(_, leaf)| leaf.abs_diff(number)),
            _ => leaves.next(),
        }
    }
}

/// A page that was just taken off the free list.
#[derive(Debug, Clone, Copy)]
enum Taken {
    /// A leaf: its content never mattered.
    Leaf(PageNumber),
    /// A trunk, whose content must be restored by a rollback.
    Trunk(PageNumber, PageMut),
}

impl Store {
    /// Takes a page out of the free list (the leaf of the first trunk nearest to `near`, or, with
    /// `None`, nearest to page 1; the trunk itself if it lists none) or grows the image by one
    /// (stepping over the lock page and, with pointer maps, making the map page that is due).
    /// The page is writable and its content is undefined.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the free list is damaged, [`Error::Full`], those of the pager.
    pub(crate) fn allocate_page(
        &mut self,
        near: Option<PageNumber>,
    ) -> Result<(PageNumber, PageMut)> {
        let near = near.map_or(1, PageNumber::get);
        if self.free_count()? == 0 {
            return self.append_page();
        }
        let taken = self.take_free(Wanted::Near(near))?.ok_or(BROKEN)?;
        self.open_taken(taken)
    }

    /// Takes exactly page `wanted` if it is free, else as `allocate_page(Some(wanted))`. Which
    /// pages are free is known only in databases with pointer maps.
    ///
    /// # Errors
    /// As [`Store::allocate_page`].
    pub(crate) fn allocate_exactly(&mut self, wanted: PageNumber) -> Result<(PageNumber, PageMut)> {
        if self.has_pointer_map()
            && wanted.get() <= self.pager.page_count()
            && self.owner(wanted)? == super::pointer_map::Owner::Free
        {
            let taken = self.take_free(Wanted::Exactly(wanted))?.ok_or(BROKEN)?;
            return self.open_taken(taken);
        }
        self.allocate_page(Some(wanted))
    }

    /// Takes a free page with a number up to `limit`; `None` if there is none.
    ///
    /// # Errors
    /// As [`Store::allocate_page`].
    pub(crate) fn allocate_at_most(&mut self, limit: u32) -> Result<Option<(PageNumber, PageMut)>> {
        match self.take_free(Wanted::AtMost(limit))? {
            Some(taken) => self.open_taken(taken).map(Some),
            None => Ok(None),
        }
    }

    /// Takes the free page `number` off the list without doing anything to the page.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the list does not have it; those of the pager.
    pub(crate) fn remove_free(&mut self, number: PageNumber) -> Result<()> {
        self.take_free(Wanted::Exactly(number))?.map(|_| ()).ok_or(BROKEN)
    }

    /// Number of free pages.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there cannot be as many.
    pub(crate) fn free_count(&self) -> Result<u32> {
        let count = self.header_word(FileHeader::FREELIST_COUNT)?;
        if count != 0 && count >= self.pager.page_count() {
            return Err(BROKEN.on_page(1));
        }
        Ok(count)
    }

    /// Fetches the trunk that some link names; the second result is its number of leaves.
    fn fetch_trunk(&mut self, link: u32) -> Result<(PageNumber, PageRef, usize)> {
        let number = self.free_number(link)?;
        let page = self.pager.fetch(number)?;
        let leaves = u32_at(self.pager.bytes(page), LEAF_COUNT)? as usize;
        if leaves > self.format.trunk_capacity() {
            return Err(Error::corrupt("too many leaves in a trunk").on_page(link));
        }
        Ok((number, page, leaves))
    }

    /// The page `number`, if that can be on the free list.
    fn free_number(&self, number: u32) -> Result<PageNumber> {
        if number < 2 || self.format.lock_page.is(number) || self.is_map_page(number) {
            return Err(BROKEN.on_page(number));
        }
        self.checked_number(number)
    }

    /// Unlinks the page that is wanted. Looks at the first trunk only if any page will do.
    fn take_free(&mut self, wanted: Wanted) -> Result<Option<Taken>> {
        let count = self.free_count()?;
        let mut before = None;
        let mut link = self.header_word(FileHeader::FREELIST_TRUNK)?;
        let mut left = count as usize;
        while left > 0 {
            let mark = self.pager.mark();
            let (number, trunk, leaves) = self.fetch_trunk(link)?;
            left = left.checked_sub(leaves + 1).ok_or(BROKEN.on_page(link))?;
            let bytes = self.pager.bytes(trunk);
            let next = u32_at(bytes, 0)?;
            let choice = wanted.choose(slice(bytes, LEAVES, 4 * leaves)?);
            let taken = match choice {
                Some((index, leaf)) => {
                    let leaf = self.free_number(leaf)?;
                    let trunk = self.pager.make_writable(trunk)?;
                    drop_leaf(self.pager.bytes_mut(trunk), leaves, index)?;
                    Some(Taken::Leaf(leaf))
                }
                None if wanted.accepts(number.get()) => {
                    let heir = if leaves == 0 { next } else { self.bequeath(trunk, leaves)? };
                    self.relink(before, heir)?;
                    Some(Taken::Trunk(number, self.pager.make_writable(trunk)?))
                }
                None => None,
            };
            if taken.is_some() {
                self.set_header_word(FileHeader::FREELIST_COUNT, count - 1)?;
                return Ok(taken);
            }
            self.pager.release(mark);
            (before, link) = (Some(number), next);
        }
        Ok(None)
    }

    /// Makes the first leaf of `trunk` a trunk with the others as leaves, and returns its number.
    fn bequeath(&mut self, trunk: PageRef, leaves: usize) -> Result<u32> {
        let heir = self.free_number(u32_at(self.pager.bytes(trunk), LEAVES)?)?;
        self.check_unused(heir)?;
        let page = self.pager.fetch_blank(heir)?;
        let page = self.pager.make_writable(page)?;
        let mut list = Vec::new();
        crate::memory::reserve_exact(&mut list, 4 * leaves)?;
        list.extend_from_slice(slice(self.pager.bytes(trunk), LEAVES + 4, 4 * (leaves - 1))?);
        let next = u32_at(self.pager.bytes(trunk), 0)?;
        let bytes = self.fresh_bytes(page);
        put_u32(bytes, 0, next)?;
        put_u32(bytes, LEAF_COUNT, (leaves - 1) as u32)?;
        slice_mut(bytes, LEAVES, list.len())?.copy_from_slice(&list);
        Ok(heir.get())
    }

    /// Makes the trunk `before`, or the file header, point at trunk `next`.
    fn relink(&mut self, before: Option<PageNumber>, next: u32) -> Result<()> {
        let Some(before) = before else {
            return self.set_header_word(FileHeader::FREELIST_TRUNK, next);
        };
        let page = self.pager.fetch(before)?;
        let page = self.pager.make_writable(page)?;
        put_u32(self.pager.bytes_mut(page), 0, next)
    }

    fn open_taken(&mut self, taken: Taken) -> Result<(PageNumber, PageMut)> {
        self.change_shape();
        match taken {
            Taken::Leaf(number) => {
                self.check_unused(number)?;
                self.open_fresh(number)
            }
            Taken::Trunk(number, page) => {
                // Taking it has pinned it, so only pins that outlast an operation tell anything.
                if self.pager.is_held(number) && !self.pager.was_freed(number) {
                    return Err(IN_USE.on_page(number.get()));
                }
                self.fresh_bytes(page);
                Ok((number, page))
            }
        }
    }

    /// A page of the free list that a cursor or the operation itself works with is used twice: what
    /// is written to it would appear there too. One that was freed in this transaction is not: a
    /// balance may free a page of the cursor's own path and need one further up. Nor is one that is
    /// held by its number only: whoever does so sees what becomes of it.
    fn check_unused(&self, number: PageNumber) -> Result<()> {
        if self.pager.is_in_use(number) && !self.pager.was_freed(number) {
            return Err(IN_USE.on_page(number.get()));
        }
        Ok(())
    }

    /// Page `number`, whose content does not matter, for writing.
    fn open_fresh(&mut self, number: PageNumber) -> Result<(PageNumber, PageMut)> {
        self.change_shape();
        let page = self.pager.fetch_blank(number)?;
        let page = self.pager.make_writable(page)?;
        self.fresh_bytes(page);
        Ok((number, page))
    }

    /// The bytes of a page that is being put to a new use: it is no node until made one.
    pub(super) fn fresh_bytes(&mut self, page: PageMut) -> &mut [u8] {
        let (bytes, info) = self.pager.parts_mut(page);
        NodeInfo::reset(info);
        bytes
    }

    /// Makes the image longer by one page for use, and by what lies in the way.
    fn append_page(&mut self) -> Result<(PageNumber, PageMut)> {
        let mut number = self.next_place(self.pager.page_count())?;
        if self.is_map_page(number.get()) {
            self.pager.grow(number.get())?;
            let (_, map) = self.open_fresh(number)?;
            self.pager.bytes_mut(map).fill(0);
            number = self.next_place(number.get())?;
        }
        self.pager.grow(number.get())?;
        self.open_fresh(number)
    }

    /// The page behind page `last` that is not the lock page.
    fn next_place(&self, last: u32) -> Result<PageNumber> {
        let step = if self.format.lock_page.is(last.saturating_add(1)) { 2 } else { 1 };
        last.checked_add(step).and_then(PageNumber::new).ok_or(Error::Full)
    }

    /// Gives a page back: leaf of the first trunk, or new trunk. `page` may be given if it is at
    /// hand, so that it is not looked up again; a page that becomes a leaf is not read.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the page is free already, as far as the first trunk or the pointer
    /// map tell, or cannot be; those of the pager.
    pub(crate) fn free_page(&mut self, number: PageNumber, page: Option<PageRef>) -> Result<()> {
        self.change_shape();
        let number = self.free_number(number.get())?;
        if self.has_pointer_map() && self.owner_entry(number.get())?.0 == 2 {
            return Err(Error::corrupt("page is free already").on_page(number.get()));
        }
        let mark = self.pager.mark();
        let count = self.free_count()?;
        let listed = count != 0 && self.list_leaf(number)?;
        if listed {
            match page {
                Some(page) => {
                    self.pager.parts_info_mut(page).1.reset();
                    self.pager.forget_content(page);
                }
                None => self.pager.forget_content_of(number),
            }
        } else {
            self.make_trunk(number, page, count)?;
        }
        self.set_header_word(FileHeader::FREELIST_COUNT, count + 1)?;
        self.set_owner(number, super::pointer_map::Owner::Free)?;
        self.pager.release(mark);
        Ok(())
    }

    /// Adds `number` to the leaves of the first trunk; `false` if that is full.
    fn list_leaf(&mut self, number: PageNumber) -> Result<bool> {
        let link = self.header_word(FileHeader::FREELIST_TRUNK)?;
        let (trunk_number, trunk, leaves) = self.fetch_trunk(link)?;
        let list = slice(self.pager.bytes(trunk), LEAVES, 4 * leaves)?;
        let entry = number.get().to_be_bytes();
        // Every leaf is looked at, without a branch on what it is: many at a time.
        let (list, _) = list.as_chunks();
        let listed = list.iter().fold(false, |listed, leaf| listed | (*leaf == entry));
        if trunk_number == number || listed {
            return Err(Error::corrupt("page is free already").on_page(number.get()));
        }
        if leaves >= self.format.trunk_limit() {
            return Ok(false);
        }
        let trunk = self.pager.make_writable(trunk)?;
        let bytes = self.pager.bytes_mut(trunk);
        put_u32(bytes, LEAVES + 4 * leaves, number.get())?;
        put_u32(bytes, LEAF_COUNT, leaves as u32 + 1)?;
        Ok(true)
    }

    /// Makes page `number` the first trunk, without leaves.
    fn make_trunk(&mut self, number: PageNumber, page: Option<PageRef>, count: u32) -> Result<()> {
        let next = if count == 0 { 0 } else { self.header_word(FileHeader::FREELIST_TRUNK)? };
        let page = match page {
            Some(page) => page,
            None => self.pager.fetch(number)?,
        };
        let page = self.pager.make_writable(page)?;
        self.pager.note_freed(number)?;
        let bytes = self.fresh_bytes(page);
        put_u32(bytes, 0, next)?;
        put_u32(bytes, LEAF_COUNT, 0)?;
        self.set_header_word(FileHeader::FREELIST_TRUNK, number.get())
    }

    /// The numbers of all free pages, each trunk ahead of its leaves.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the list is not as long as the header says; those of the pager.
    pub(crate) fn free_pages(&mut self) -> Result<Vec<PageNumber>> {
        let mut left = self.free_count()? as usize;
        let mut link = self.header_word(FileHeader::FREELIST_TRUNK)?;
        let mut pages = Vec::new();
        while left > 0 {
            let mark = self.pager.mark();
            let (number, trunk, leaves) = self.fetch_trunk(link)?;
            left = left.checked_sub(leaves + 1).ok_or(BROKEN.on_page(link))?;
            crate::memory::reserve(&mut pages, leaves + 1)?;
            pages.push(number);
            let bytes = self.pager.bytes(trunk);
            for leaf in slice(bytes, LEAVES, 4 * leaves)?.chunks_exact(4) {
                pages.push(self.free_number(u32_at(leaf, 0)?)?);
            }
            link = u32_at(bytes, 0)?;
            self.pager.release(mark);
        }
        Ok(pages)
    }
}

/// Removes leaf `index` of `leaves` from a trunk: the last one fills the hole.
fn drop_leaf(trunk: &mut [u8], leaves: usize, index: usize) -> Result<()> {
    let last = leaves.checked_sub(1).ok_or(BROKEN)?;
    let moved = u32_at(trunk, LEAVES + 4 * last)?;
    put_u32(trunk, LEAVES + 4 * index, moved)?;
    put_u32(trunk, LEAF_COUNT, last as u32)
}

#[cfg(test)]
mod tests;
