//! The pages of one database as the b-tree layer sees them.

use crate::error::{Error, Result};
use crate::format::{AutoVacuum, FileHeader, HEADER_SIZE, LockPage, PageNumber, PageSize};
use crate::memory::prefetch_all;
use crate::pager::{PageMut, PageRef, Pager};

use super::balance::Workspace;
use super::node::{Node, NodeInfo, NodeMut};

/// Sizes that follow from page size and reserved bytes. Source: SQLite file format, "B-tree
/// Cell Format".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageFormat {
    /// Page size.
    pub(crate) page_size: PageSize,
    /// Bytes of a page in use: page size less reserved bytes.
    pub(crate) usable: usize,
    /// Longest payload kept whole on any node but a table leaf.
    pub(crate) max_local: usize,
    /// Shortest part of a longer payload that stays local.
    pub(crate) min_local: usize,
    /// Longest payload kept whole on a table leaf.
    pub(crate) max_leaf: usize,
    /// The lock page.
    pub(crate) lock_page: LockPage,
}

impl PageFormat {
    /// The format for a page size with `reserved` bytes left alone at the end of each page.
    ///
    /// # Errors
    /// [`Error::NotADatabase`] if fewer than 480 bytes are left.
    pub(crate) fn new(page_size: PageSize, reserved: u8, lock_offset: u32) -> Result<PageFormat> {
        let usable = FileHeader::usable_size(page_size, reserved)? as usize;
        Ok(PageFormat {
            page_size,
            usable,
            max_local: (usable - 12) * 64 / 255 - 23,
            min_local: (usable - 12) * 32 / 255 - 23,
            max_leaf: usable - 35,
            lock_page: LockPage::new(lock_offset, page_size),
        })
    }

    /// Reserved bytes at the end of each page.
    pub(crate) fn reserved(&self) -> u8 {
        (self.page_size.bytes() - self.usable) as u8
    }

    /// Payload bytes that one overflow page holds.
    pub(crate) fn overflow_capacity(&self) -> usize {
        self.usable - 4
    }

    /// How much of a payload of `size` bytes is kept on the node, on a table leaf or elsewhere.
    #[inline]
    pub(crate) fn local_size(&self, size: usize, table_leaf: bool) -> usize {
        let max = if table_leaf { self.max_leaf } else { self.max_local };
        if size <= max {
            return size;
        }
        let kept = self.min_local + (size - self.min_local) % self.overflow_capacity();
        if kept <= max { kept } else { self.min_local }
    }
}

/// The pages of one database: nodes, free list, overflow chains, pointer map.
///
/// Invariant S1: every page handed out by `fetch_node` was validated since its bytes last came
/// from below; [`NodeInfo`] records it and the pager resets it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(super) pager: Pager<NodeInfo>,
    pub(super) format: PageFormat,
    pub(super) auto_vacuum: AutoVacuum,
    /// Page 1, pinned while a transaction is open on a database that has pages.
    pub(super) page_one: Option<PageRef>,
    /// Where cells are built, kept for its memory.
    pub(super) cell_buffer: Vec<u8>,
    /// What balancing works with, kept for its memory; `None` while somebody does.
    pub(super) workspace: Option<Box<Workspace>>,
    /// Grows whenever pages of trees come, go, or change places, by a rollback as well.
    pub(super) shape: u64,
}

impl Store {
    /// Pages are about to come, go, or change places: nobody may trust a page that was remembered.
    pub(super) fn change_shape(&mut self) {
        self.shape = self.shape.wrapping_add(1);
    }

    /// Page 1.
    ///
    /// # Errors
    /// [`Error::Empty`] if the database has no pages.
    pub(crate) fn page_one(&self) -> Result<PageRef> {
        self.page_one.ok_or(Error::Empty)
    }

    /// The page with this number as it stands in a file: it must exist and not be the lock page.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    #[inline]
    pub(crate) fn checked_number(&self, number: u32) -> Result<PageNumber> {
        match PageNumber::new(number) {
            Some(page) if number <= self.pager.page_count() => Ok(page),
            _ => Err(Error::corrupt("page number outside of the database")),
        }
    }

    /// Fetches a b-tree page and validates it on first use. Transiently pinned.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the header or the cells are impossible; errors of the pager.
    #[inline]
    pub(crate) fn fetch_node(&mut self, number: PageNumber) -> Result<PageRef> {
        let page = self.pager.fetch(number)?;
        if !self.pager.info(page).is_ready() {
            self.prepare_node(page)?;
        }
        Ok(page)
    }

    /// Validates the page and remembers what was learnt about it.
    #[cold]
    fn prepare_node(&mut self, page: PageRef) -> Result<()> {
        let number = self.pager.number(page);
        let (bytes, info) = self.pager.parts_info_mut(page);
        info.prepare(bytes, number, &self.format).map_err(|error| error.on_page(number.get()))
    }

    /// Fetches a page that is to be the root of a tree.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is an interior page without cells, which only page 1 may be; as
    /// [`Store::fetch_node`].
    pub(crate) fn fetch_root(&mut self, number: PageNumber) -> Result<PageRef> {
        let page = self.fetch_node(number)?;
        let node = self.node(page);
        if node.cell_count() == 0 && !node.is_leaf() && number != PageNumber::ONE {
            return Err(Error::corrupt("interior root without cells").on_page(number.get()));
        }
        Ok(page)
    }

    /// Fetches the page `child` to which the node on `parent` points: it must be in the database,
    /// of the same kind of tree, and not empty.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; as [`Store::fetch_node`].
    #[inline]
    pub(crate) fn fetch_child(&mut self, parent: PageRef, child: u32) -> Result<PageRef> {
        let number = self.checked_number(child)?;
        let kind = self.node(parent).kind().as_leaf();
        let page = self.fetch_node(number)?;
        let node = self.node(page);
        if node.kind().as_leaf() != kind || node.cell_count() == 0 {
            return Err(Error::corrupt("child is empty or of another kind").on_page(child));
        }
        Ok(page)
    }

    /// As [`Store::fetch_child`], but pinned until it is given back.
    ///
    /// # Errors
    /// As [`Store::fetch_child`]; the page is then not pinned.
    #[inline]
    pub(crate) fn hold_child(&mut self, parent: PageRef, child: u32) -> Result<PageRef> {
        let number = self.checked_number(child)?;
        let kind = self.node(parent).kind().as_leaf();
        let page = self.pager.fetch_held(number)?;
        let fits = |node: Node<'_>| {
            node.kind().as_leaf() == kind && node.cell_count() > 0 && node.is_as_described()
        };
        let ready = self.pager.info(page).is_ready() || self.prepare_node(page).is_ok();
        if ready && fits(self.node(page)) {
            return Ok(page);
        }
        self.pager.unpin(page);
        self.hold_child_slowly(parent, child)
    }

    /// The child is not ready, or not what it should be: the long way knows which.
    #[cold]
    #[inline(never)]
    fn hold_child_slowly(&mut self, parent: PageRef, child: u32) -> Result<PageRef> {
        let page = self.fetch_child(parent, child)?;
        self.pager.pin(page);
        Ok(page)
    }

    /// The page `number` if it is in the cache, not pinned: its facts and where its cells are will
    /// be asked for soon. One that is not will be fetched soon.
    pub(crate) fn prefetch_node(&self, number: u32) -> Option<PageRef> {
        let number = PageNumber::new(number)?;
        let page = self.pager.cached(number);
        match page {
            Some(page) => self.node(page).prefetch_pointers(),
            None => self.pager.will_fetch(number),
        }
        page
    }

    /// Asks for the memory of all of page `number`, in the cache or, where a disk can do that, in
    /// the file.
    pub(crate) fn prefetch_page(&self, number: u32) {
        let Some(number) = PageNumber::new(number) else { return };
        match self.pager.cached(number) {
            Some(page) => prefetch_all(self.pager.bytes(page)),
            None => self.pager.will_fetch(number),
        }
    }

    /// The node on a page that [`Store::fetch_node`] handed out.
    #[inline]
    pub(crate) fn node(&self, page: PageRef) -> Node<'_> {
        let (bytes, info) = self.pager.parts(page);
        Node::new(bytes, info, &self.format)
    }

    /// The node on a page for changing.
    #[inline]
    pub(crate) fn node_mut(&mut self, page: PageMut) -> NodeMut<'_> {
        let (bytes, info) = self.pager.parts_mut(page);
        NodeMut::new(bytes, info, &self.format)
    }

    /// The word at `offset` of the file header.
    ///
    /// # Errors
    /// [`Error::Empty`] if the database has no pages.
    pub(crate) fn header_word(&self, offset: usize) -> Result<u32> {
        crate::format::bytes::u32_at(self.pager.bytes(self.page_one()?), offset)
    }

    /// Changes the word at `offset` of the file header.
    ///
    /// # Errors
    /// Those of [`Pager::make_writable`].
    pub(crate) fn set_header_word(&mut self, offset: usize, value: u32) -> Result<()> {
        debug_assert!(offset + 4 <= HEADER_SIZE);
        let page = self.pager.make_writable(self.page_one()?)?;
        crate::format::bytes::put_u32(self.pager.bytes_mut(page), offset, value)
    }
}

/// Databases for the tests of this layer.
#[cfg(test)]
pub(super) mod testing {
    use std::sync::Arc;

    use super::*;
    use crate::btree::{Btree, Key, Options, TransactionKind};
    use crate::os::MemoryVfs;

    /// A database in memory with a write transaction open.
    pub(in crate::btree) fn database(page_size: u32, auto_vacuum: AutoVacuum) -> Btree {
        database_with_lock_page(page_size, auto_vacuum, LockPage::STANDARD_OFFSET)
    }

    /// The same, with the lock bytes elsewhere.
    pub(in crate::btree) fn database_with_lock_page(
        page_size: u32,
        auto_vacuum: AutoVacuum,
        lock_offset: u32,
    ) -> Btree {
        let page_size = PageSize::new(page_size).unwrap();
        let options = Options { page_size, lock_offset, ..Options::default() };
        let mut db = Btree::open(Arc::new(MemoryVfs::new()), "test.db", &options).unwrap();
        db.set_auto_vacuum(auto_vacuum).unwrap();
        db.begin(TransactionKind::Write).unwrap();
        db
    }

    /// The page with this number.
    pub(in crate::btree) fn page(number: u32) -> PageNumber {
        PageNumber::new(number).unwrap()
    }

    /// Inserts entries with integer keys `keys` and data of `length` bytes.
    pub(in crate::btree) fn fill(
        db: &mut Btree,
        root: PageNumber,
        keys: impl Iterator<Item = i64>,
        length: usize,
    ) {
        let cursor = db.open_cursor(root, true).unwrap();
        for key in keys {
            db.insert(cursor, Key::Integer(key), &vec![key as u8; length], 0).unwrap();
        }
        db.close_cursor(cursor);
    }

    /// All entries of a tree with integer keys: key and data.
    pub(in crate::btree) fn entries(db: &mut Btree, root: PageNumber) -> Vec<(i64, Vec<u8>)> {
        let cursor = db.open_cursor(root, false).unwrap();
        let mut entries = Vec::new();
        let mut there = db.first(cursor).unwrap();
        while there {
            entries.push((db.integer_key(cursor).unwrap(), db.data(cursor).unwrap()));
            there = db.next(cursor).unwrap();
        }
        db.close_cursor(cursor);
        entries
    }

    /// Overwrites bytes of a page behind the engine's back.
    pub(in crate::btree) fn poke(db: &mut Btree, number: u32, at: usize, bytes: &[u8]) {
        let mark = db.store.pager.mark();
        let page = db.store.pager.fetch(page(number)).unwrap();
        let page = db.store.pager.make_writable(page).unwrap();
        let (content, info) = db.store.pager.parts_mut(page);
        crate::pager::PageInfo::reset(info);
        content[at..at + bytes.len()].copy_from_slice(bytes);
        db.store.pager.release(mark);
    }

    /// Bytes of a page.
    pub(in crate::btree) fn peek(db: &mut Btree, number: u32) -> Vec<u8> {
        let mark = db.store.pager.mark();
        let page = db.store.pager.fetch(page(number)).unwrap();
        let bytes = db.store.pager.bytes(page).to_vec();
        db.store.pager.release(mark);
        bytes
    }
}
