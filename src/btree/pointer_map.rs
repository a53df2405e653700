//! Who points at this page, for databases that vacuum.
//!
//! Page 2 and every J+1-th page after it is a page of the pointer map, where J is the number of
//! entries that fit; each holds the entries of the J pages behind it. Where a map page would fall
//! on the lock page it is the page after that; the later map pages do not shift.
//!
//! An entry is 5 bytes: type (1), parent (4).
//!
//! | type | the page is | parent |
//! | --- | --- | --- |
//! | 1 | root of a tree (page 1 has no entry) | 0 |
//! | 2 | free, trunk or leaf | 0 |
//! | 3 | first page of an overflow chain | the page with the cell |
//! | 4 | later page of a chain | the page before it |
//! | 5 | b-tree page that is no root | its parent |
//!
//! Source: SQLite file format, "Pointer Map or Ptrmap Pages".

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::node::{Node, NodeKind};
use super::store::{PageFormat, Store};
use crate::error::{Error, Result};
use crate::format::bytes::{put_u8, put_u32, u8_at, u32_at};
use crate::format::{AutoVacuum, PageNumber};
use crate::pager::PageRef;

/// Bytes of one entry.
const ENTRY_SIZE: usize = 5;

/// What a page is, and who points at it: the entry of the pointer map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "ptrmap")]
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

impl Owner {
    /// Type and parent as they are stored.
    pub(crate) fn entry(self) -> (u8, u32) {
        match self {
            Owner::Root => (1, 0),
            Owner::Free => (2, 0),
            Owner::OverflowFirst(page) => (3, page.get()),
            Owner::OverflowNext(page) => (4, page.get()),
            Owner::Child(page) => (5, page.get()),
        }
    }

    /// The owner that an entry names, if it can be one.
    fn of_entry(entry: (u8, u32)) -> Option<Owner> {
        match (entry.0, PageNumber::new(entry.1)) {
            (1, _) => Some(Owner::Root),
            (2, _) => Some(Owner::Free),
            (3, Some(page)) => Some(Owner::OverflowFirst(page)),
            (4, Some(page)) => Some(Owner::OverflowNext(page)),
            (5, Some(page)) => Some(Owner::Child(page)),
            _ => None,
        }
    }
}

impl PageFormat {
    /// Entries on one page of the pointer map.
    pub(crate) fn map_entries(&self) -> u32 {
        (self.usable / ENTRY_SIZE) as u32
    }

    /// The page of the pointer map that has the entry of `page`, or is `page`; 0 for page 1.
    pub(crate) fn map_page(&self, page: u32) -> u32 {
        let Some(behind) = page.checked_sub(2) else { return 0 };
        let group = self.map_entries() + 1;
        let map = behind / group * group + 2;
        if self.lock_page.is(map) { map + 1 } else { map }
    }

    /// Where in its map page the entry of `page` stands; `None` if it can have none.
    fn map_position(&self, page: u32) -> Option<(PageNumber, usize)> {
        let map = PageNumber::new(self.map_page(page))?;
        let index = page.checked_sub(map.get())?.checked_sub(1)?;
        Some((map, ENTRY_SIZE * index as usize))
    }
}

impl Store {
    /// Whether the database has pointer maps.
    #[inline]
    pub(crate) fn has_pointer_map(&self) -> bool {
        self.auto_vacuum != AutoVacuum::None
    }

    /// Whether `page` is a page of the pointer map (in a database that has one).
    pub(crate) fn is_map_page(&self, page: u32) -> bool {
        self.has_pointer_map() && page >= 2 && self.format.map_page(page) == page
    }

    /// Fetches the map page with the entry of `page`; the second result is where it stands.
    fn fetch_map(&mut self, page: u32) -> Result<(PageRef, usize)> {
        const NO_ENTRY: Error = Error::corrupt("page cannot have a pointer-map entry");
        let (map, position) = self.format.map_position(page).ok_or(NO_ENTRY)?;
        if map.get() > self.pager.page_count() {
            return Err(NO_ENTRY.on_page(page));
        }
        Ok((self.pager.fetch(map)?, position))
    }

    /// Stores who owns `page`; nothing without pointer maps, or if it is stored already.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if `page` cannot have an entry; those of the pager.
    pub(crate) fn set_owner(&mut self, page: PageNumber, owner: Owner) -> Result<()> {
        if !self.has_pointer_map() {
            return Ok(());
        }
        let mark = self.pager.mark();
        let result = self.store_entry(page, owner.entry());
        self.pager.release(mark);
        result
    }

    fn store_entry(&mut self, page: PageNumber, entry: (u8, u32)) -> Result<()> {
        let (map, at) = self.fetch_map(page.get())?;
        let bytes = self.pager.bytes(map);
        if (u8_at(bytes, at)?, u32_at(bytes, at + 1)?) == entry {
            return Ok(());
        }
        let map = self.pager.make_writable(map)?;
        let bytes = self.pager.bytes_mut(map);
        put_u8(bytes, at, entry.0)?;
        put_u32(bytes, at + 1, entry.1)
    }

    /// The entry of `page` as it is stored: type and parent, not interpreted.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if `page` cannot have an entry; those of the pager.
    pub(crate) fn owner_entry(&mut self, page: u32) -> Result<(u8, u32)> {
        let mark = self.pager.mark();
        let entry = self.fetch_map(page).and_then(|(map, at)| {
            let bytes = self.pager.bytes(map);
            Ok((u8_at(bytes, at)?, u32_at(bytes, at + 1)?))
        });
        self.pager.release(mark);
        entry
    }

    /// Who owns `page`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if `page` cannot have an entry, or has an impossible one.
    pub(crate) fn owner(&mut self, page: PageNumber) -> Result<Owner> {
        let entry = self.owner_entry(page.get())?;
        Owner::of_entry(entry)
            .ok_or(Error::corrupt("impossible entry of the pointer map").on_page(page.get()))
    }

    /// Sets the entries of everything that the node on `page` points at: children and first
    /// overflow pages of all cells, parked ones included, and the right child. Nothing without
    /// pointer maps.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a cell is broken or points outside of the database.
    pub(crate) fn claim_children(&mut self, page: PageRef) -> Result<()> {
        if !self.has_pointer_map() {
            return Ok(());
        }
        let number = self.pager.number(page);
        let (kind, count) = (self.node(page).kind(), self.node(page).total_count());
        for index in 0..count {
            let bytes = self.node(page).cell_bytes(index)?;
            let targets = targets_of(bytes, kind, &self.format)?;
            self.claim_targets(targets, number)?;
        }
        if !kind.is_leaf() {
            let child = self.checked_number(self.node(page).right_child()?)?;
            self.set_owner(child, Owner::Child(number))?;
        }
        Ok(())
    }

    /// Sets the entries of what one cell, as it stands on a page of the given number and kind,
    /// points at.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the cell is broken or points outside of the database.
    pub(crate) fn claim_cell(
        &mut self,
        cell: &[u8],
        kind: NodeKind,
        page: PageNumber,
    ) -> Result<()> {
        if !self.has_pointer_map() {
            return Ok(());
        }
        let targets = targets_of(cell, kind, &self.format)?;
        self.claim_targets(targets, page)
    }

    fn claim_targets(&mut self, (child, overflow): (u32, u32), page: PageNumber) -> Result<()> {
        if child != 0 {
            let child = self.checked_number(child)?;
            self.set_owner(child, Owner::Child(page))?;
        }
        if overflow != 0 {
            let first = self.checked_number(overflow)?;
            self.set_owner(first, Owner::OverflowFirst(page))?;
        }
        Ok(())
    }
}

/// Left child and first overflow page of a cell; 0 where there is none.
fn targets_of(cell: &[u8], kind: NodeKind, format: &PageFormat) -> Result<(u32, u32)> {
    let cell = Node::decode_cell(cell, kind, format)?;
    Ok((cell.child, cell.overflow))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{LockPage, PageSize};

    fn format(size: u32, lock_offset: u32) -> PageFormat {
        PageFormat::new(PageSize::new(size).unwrap(), 0, lock_offset).unwrap()
    }

    fn maps(format: &PageFormat, pages: u32) -> Vec<u32> {
        (1..=pages).filter(|&page| format.map_page(page) == page).collect()
    }

    /// D513: where the map pages are.
    #[test]
    fn map_pages_come_at_fixed_distances() {
        let far = LockPage::STANDARD_OFFSET;
        assert_eq!(maps(&format(512, far), 400), [2, 105, 208, 311]);
        assert_eq!(maps(&format(1024, far), 700), [2, 207, 412, 617]);
        // The lock page pushes its own map page aside, and none of the others.
        assert_eq!(maps(&format(1024, 206 * 1024), 500), [2, 208, 412]);
    }

    #[test]
    fn every_other_page_has_a_place_of_its_own() {
        for lock_offset in [LockPage::STANDARD_OFFSET, 206 * 1024, 100 * 1024] {
            let format = format(1024, lock_offset);
            let mut taken = std::collections::HashSet::new();
            for page in 1..2000 {
                let place = format.map_position(page);
                let is_map = format.map_page(page) == page;
                let hidden = page == 1 || is_map || place.is_none();
                assert!(!hidden || page == 1 || is_map || format.lock_page.is(page), "{page}");
                if let Some((map, at)) = place {
                    assert!(at + ENTRY_SIZE <= format.usable);
                    assert!(taken.insert((map, at)));
                }
            }
        }
        assert_eq!(format(512, LockPage::STANDARD_OFFSET).map_page(u32::MAX) % 103, 2);
    }

    #[test]
    fn entries_convert_both_ways() {
        let page = PageNumber::new(9).unwrap();
        let owners = [
            Owner::Root,
            Owner::Free,
            Owner::OverflowFirst(page),
            Owner::OverflowNext(page),
            Owner::Child(page),
        ];
        for (index, owner) in owners.into_iter().enumerate() {
            assert_eq!(usize::from(owner.entry().0), index + 1);
            assert_eq!(Owner::of_entry(owner.entry()), Some(owner));
        }
        for entry in [(0, 0), (6, 1), (3, 0), (4, 0), (5, 0), (255, 7)] {
            assert_eq!(Owner::of_entry(entry), None);
        }
    }
}
