//! Create, clear and drop a tree.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::format::{FileHeader, PageNumber};
use crate::pager::PageRef;

use super::Btree;
use super::cursor::DEPTH_MAX;
use super::node::NodeKind;
use super::pointer_map::Owner;
use super::store::Store;

/// The flag bits of a tree that mean something.
const KNOWN_FLAGS: u8 = 7;

impl Btree {
    /// Makes an empty tree and returns its root. Of `flags`, bit 0 stands for integer keys, bit 1
    /// for no data, bit 2 for data on leaves only; others are ignored. [`TABLE`](super::TABLE) and
    /// [`INDEX`](super::INDEX) are the kinds that every SQLite reads.
    ///
    /// With pointer maps the root follows the largest root so far; a page that is in the way is
    /// moved.
    ///
    /// # Errors
    /// [`State`](Error::State) without a write transaction; [`Locked`](Error::Locked) if a cursor
    /// is open (see [`Btree::set_cursor_locks`]); [`Full`](Error::Full),
    /// [`Corrupt`](Error::Corrupt) and errors of the pager.
    #[doc(alias = "sqlite3BtreeCreateTable")]
    pub fn create_table(&mut self, flags: u8) -> Result<PageNumber> {
        self.check_may_change()?;
        if self.session.cursor_locks {
            if self.session.cursors > 0 {
                return Err(Error::Locked);
            }
            self.check_no_foreign_cursor(None)?;
        }
        let kind = NodeKind::new(flags & KNOWN_FLAGS).unwrap_or_default().as_leaf();
        self.reserve_new_root()?;
        if self.store.has_pointer_map() {
            self.save_all_cursors()?;
        }
        let root = self.change(|btree| {
            if !btree.store.has_pointer_map() {
                let (root, page) = btree.store.allocate_page(None)?;
                btree.store.node_mut(page).initialize(root, kind);
                return Ok(root);
            }
            btree.store.create_root_in_order(kind)
        })?;
        self.note_new_root(root);
        Ok(root)
    }

    /// Removes the tree at `root` with all its pages; table 1 is only emptied, and has integer
    /// keys afterwards. With pointer maps the largest root is moved into the gap; its former
    /// number is returned.
    ///
    /// # Errors
    /// [`State`](Error::State) without a write transaction; [`Locked`](Error::Locked) if any
    /// cursor is open, [`LockedSharedCache`](Error::LockedSharedCache) if only other connections of
    /// a shared page cache have one; [`Corrupt`](Error::Corrupt) if the page is no root; errors of
    /// the pager.
    #[doc(alias = "sqlite3BtreeDropTable")]
    pub fn drop_table(&mut self, root: u32) -> Result<Option<PageNumber>> {
        self.check_may_change()?;
        if self.session.cursors > 0 {
            return Err(Error::Locked);
        }
        self.check_no_foreign_cursor(None)?;
        let root = self.checked_root(root)?;
        self.reserve_new_root()?;
        let moved = self.change(|btree| {
            let store = &mut btree.store;
            store.clear_tree(root)?;
            if root == PageNumber::ONE {
                // As the engine of 2006 did: the kind that is left has integer keys and is no
                // table in the sense of the file format.
                let page = store.pager.make_writable(store.page_one()?)?;
                store.node_mut(page).initialize(root, NodeKind::INTEGER_LEAF);
                return Ok(None);
            }
            if store.has_pointer_map() {
                return store.close_root_gap(root);
            }
            store.free_page(root, None)?;
            Ok(None)
        })?;
        if moved.is_some() {
            self.note_new_root(root);
        }
        Ok(moved)
    }

    /// Removes all entries of the tree at `root`, which stays, and returns how many there were.
    /// Cursors on it end up on no entry.
    ///
    /// # Errors
    /// [`State`](Error::State) without a write transaction; [`Locked`](Error::Locked) if a
    /// read-only cursor is open on it (see [`Btree::set_cursor_locks`]);
    /// [`LockedSharedCache`](Error::LockedSharedCache) as for [`Btree::insert`];
    /// [`Corrupt`](Error::Corrupt) if the page is no root; errors of the pager.
    #[doc(alias = "sqlite3BtreeClearTable")]
    pub fn clear_table(&mut self, root: u32) -> Result<u64> {
        self.check_may_change()?;
        let root = self.checked_root(root)?;
        if self.is_blocked_by_reader(root, None) {
            return Err(Error::Locked);
        }
        self.check_no_foreign_cursor(Some(root))?;
        for (_, cursor) in self.cursors.iter_mut() {
            if cursor.root == root {
                cursor.forget(&mut self.store);
            }
        }
        self.change(|btree| btree.store.clear_tree(root))
    }

    /// The root page `root`, if it can be one: in the file, not free, its header possible.
    fn checked_root(&mut self, root: u32) -> Result<PageNumber> {
        let mark = self.store.pager.mark();
        let result = self.store.checked_root(root);
        self.store.pager.release(mark);
        result
    }
}

impl Store {
    fn checked_root(&mut self, root: u32) -> Result<PageNumber> {
        let number = self.checked_number(root)?;
        self.fetch_root(number)?;
        if number == PageNumber::ONE {
            return Ok(number);
        }
        let is_root = if self.has_pointer_map() {
            self.owner(number)? == Owner::Root
        } else {
            !self.free_pages()?.contains(&number)
        };
        is_root.then_some(number).ok_or(Error::corrupt("page is no root").on_page(root))
    }

    /// Frees all pages of the tree but the root, which becomes an empty leaf of the same kind.
    /// Returns the number of entries.
    fn clear_tree(&mut self, root: PageNumber) -> Result<u64> {
        let page = self.fetch_root(root)?;
        let mut seen = HashSet::new();
        let entries = self.clear_node(page, 0, &mut seen)?;
        let page = self.pager.make_writable(page)?;
        let kind = self.node(page.into()).kind();
        self.node_mut(page).initialize(root, kind.as_leaf());
        Ok(entries)
    }

    /// Frees what hangs on the node: for each cell the subtree and the overflow chain, then the
    /// right-most subtree. `seen` holds the pages visited, since a damaged tree may lead in
    /// circles. Returns the number of entries.
    fn clear_node(
        &mut self,
        page: PageRef,
        depth: usize,
        seen: &mut HashSet<PageNumber>,
    ) -> Result<u64> {
        let number = self.pager.number(page);
        crate::memory::reserve(seen, 1)?;
        if depth >= DEPTH_MAX || !seen.insert(number) {
            return Err(Error::corrupt("tree leads in circles").on_page(number.get()));
        }
        let node = self.node(page);
        let (cells, is_leaf) = (node.cell_count(), node.is_leaf());
        let mut entries = if is_leaf || !node.kind().is_leaf_data() { cells as u64 } else { 0 };
        for index in 0..cells {
            if !is_leaf {
                entries += self.clear_child(page, index, depth, seen)?;
            }
            let cell = self.node(page).cell(index)?;
            let (overflow, length) = (cell.overflow, cell.payload as usize - cell.local.len());
            if overflow != 0 {
                let first = self.checked_number(overflow)?;
                let mark = self.pager.mark();
                self.free_overflow(first, length)?;
                self.pager.release(mark);
            }
        }
        if !is_leaf {
            entries += self.clear_child(page, cells, depth, seen)?;
        }
        Ok(entries)
    }

    /// Clears and frees child `index` of `parent`.
    fn clear_child(
        &mut self,
        parent: PageRef,
        index: usize,
        depth: usize,
        seen: &mut HashSet<PageNumber>,
    ) -> Result<u64> {
        let mark = self.pager.mark();
        let child = self.node(parent).child(index)?;
        let page = self.fetch_child(parent, child)?;
        // Those of this tree have been put away; so it belongs to another one as well.
        if self.pager.is_held(self.pager.number(page)) {
            return Err(Error::corrupt("page of two trees").on_page(child));
        }
        let entries = self.clear_node(page, depth + 1, seen)?;
        self.free_page(self.pager.number(page), Some(page))?;
        self.pager.release(mark);
        Ok(entries)
    }

    /// Makes a root on the first usable page behind the largest root, moving away what is there:
    /// roots come before all other pages of a database with pointer maps.
    fn create_root_in_order(&mut self, kind: NodeKind) -> Result<PageNumber> {
        let largest = self.header_word(FileHeader::LARGEST_ROOT)?;
        let mut wanted = largest.checked_add(1).ok_or(Error::Full)?;
        while self.is_map_page(wanted) || self.format.lock_page.is(wanted) {
            wanted = wanted.checked_add(1).ok_or(Error::Full)?;
        }
        let wanted = PageNumber::new(wanted).ok_or(Error::Full)?;
        let (free, _) = self.allocate_exactly(wanted)?;
        if free != wanted {
            let in_the_way = self.checked_number(wanted.get())?;
            match self.owner(in_the_way)? {
                Owner::Root | Owner::Free => {
                    return Err(
                        Error::corrupt("page is neither free nor in use").on_page(wanted.get())
                    );
                }
                owner => self.relocate_page(in_the_way, free, owner)?,
            }
        }
        let page = self.pager.fetch(wanted)?;
        let page = self.pager.make_writable(page)?;
        self.node_mut(page).initialize(wanted, kind);
        self.set_owner(wanted, Owner::Root)?;
        self.set_header_word(FileHeader::LARGEST_ROOT, wanted.get())?;
        Ok(wanted)
    }

    /// Takes the root page `gap` out of the row of roots: the largest root moves there and its
    /// former place is freed. Returns the number it had, unless `gap` was the largest itself.
    fn close_root_gap(&mut self, gap: PageNumber) -> Result<Option<PageNumber>> {
        let largest = self.header_word(FileHeader::LARGEST_ROOT)?;
        let last = self.checked_number(largest)?;
        let moved = (last != gap).then_some(last);
        if moved.is_some() {
            self.relocate_page(last, gap, Owner::Root)?;
        }
        self.free_page(last, None)?;
        let mut rest = largest - 1;
        while rest > 1 && (self.is_map_page(rest) || self.format.lock_page.is(rest)) {
            rest -= 1;
        }
        self.set_header_word(FileHeader::LARGEST_ROOT, rest)?;
        Ok(moved)
    }
}
