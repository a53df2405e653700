//! The cursor functions of a connection.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::format::PageNumber;
use crate::format::record::{Field, KeyInfo, SearchMode};

use super::super::{Btree, CursorInfo, CursorSummary, Key};
use super::payload::Part;
use super::{Cursor, CursorId, Position};
use crate::btree::store::Store;

impl Btree {
    /// Opens a cursor on the tree at `root`. Without a transaction a read transaction is opened,
    /// which ends with the last cursor.
    ///
    /// # Errors
    /// [`ReadOnly`](Error::ReadOnly) for a writable cursor on a read-only database;
    /// [`Locked`](Error::Locked) for one on a tree with a read-only cursor (see
    /// [`Btree::set_cursor_locks`]); errors of [`Btree::begin`]; [`Empty`](Error::Empty) if the
    /// database has no pages; [`Corrupt`](Error::Corrupt) if the page is no root.
    pub fn open_cursor(&mut self, root: PageNumber, writable: bool) -> Result<CursorId> {
        self.open_cursor_with(root, writable, None)
    }

    /// The same for an index whose keys are records. Keys of [`Btree::seek`] and [`Btree::insert`]
    /// are encoded ones then, and what is none is [`Corrupt`](Error::Corrupt) there.
    ///
    /// # Errors
    /// As [`Btree::open_cursor`]. If the tree is no index, every use of the cursor will be
    /// [`Corrupt`](Error::Corrupt).
    pub fn open_index_cursor(
        &mut self,
        root: PageNumber,
        writable: bool,
        info: KeyInfo,
    ) -> Result<CursorId> {
        self.open_cursor_with(root, writable, Some(info))
    }

    fn open_cursor_with(
        &mut self,
        root: PageNumber,
        writable: bool,
        info: Option<KeyInfo>,
    ) -> Result<CursorId> {
        if writable && self.is_read_only() {
            return Err(Error::ReadOnly(crate::error::ReadOnlyReason::File));
        }
        if writable && self.is_blocked_by_reader(root, None) {
            return Err(Error::Locked);
        }
        let implicit = self.begin_implicit_read()?;
        let result = self.open_cursor_in_transaction(root, writable, info);
        if result.is_err() && implicit {
            self.end_implicit_read();
        }
        result
    }

    fn open_cursor_in_transaction(
        &mut self,
        root: PageNumber,
        writable: bool,
        info: Option<KeyInfo>,
    ) -> Result<CursorId> {
        if self.store.pager.page_count() == 0 {
            return Err(Error::Empty);
        }
        if root.get() > self.store.pager.page_count() {
            return Err(Error::corrupt("root beyond the end of the database").on_page(root.get()));
        }
        let mark = self.store.pager.mark();
        let opened = Cursor::open(&mut self.store, self.session.id, root, writable);
        self.store.pager.release(mark);
        let mut cursor = opened?;
        if let Some(info) = info {
            cursor.describe_keys(&mut self.store, info);
        }
        match self.cursors.reserve() {
            Ok(()) => {
                self.session.cursors += 1;
                Ok(self.cursors.insert(cursor))
            }
            Err(error) => {
                cursor.let_go(&mut self.store);
                Err(error)
            }
        }
    }

    /// Closes a cursor. One that is closed already, or another connection's, is ignored.
    pub fn close_cursor(&mut self, cursor: CursorId) {
        let own = self.session.id;
        if self.cursors.get(cursor).is_ok_and(|cursor| cursor.owner != own) {
            return;
        }
        if let Some(mut cursor) = self.cursors.remove(cursor) {
            cursor.let_go(&mut self.store);
            self.session.cursors = self.session.cursors.saturating_sub(1);
            self.end_read_after_last_use();
        }
    }

    /// Runs `work` on a cursor, its saved position found again, and lets go of the pages that the
    /// work fetched.
    #[inline]
    fn with_cursor<T>(
        &mut self,
        id: CursorId,
        work: impl FnOnce(&mut Cursor, &mut Store) -> Result<T>,
    ) -> Result<T> {
        let cursor = self.cursors.get_mut(id)?;
        let store = &mut self.store;
        let mark = store.pager.mark();
        let result = cursor.restore(store).and_then(|()| work(cursor, store));
        store.pager.release(mark);
        result
    }

    /// A cursor, its saved position found again, and the pages, for reading.
    #[inline]
    fn settled(&mut self, id: CursorId) -> Result<(&Cursor, &Store)> {
        let (cursor, store) = (self.cursors.get_mut(id)?, &mut self.store);
        if cursor.is_unsettled() {
            cursor.settle_on_entry(store)?;
        }
        Ok((cursor, store))
    }

    /// The same for moves, which do not care where the cursor was.
    #[inline]
    fn move_cursor<T>(
        &mut self,
        id: CursorId,
        work: impl FnOnce(&mut Cursor, &mut Store) -> Result<T>,
    ) -> Result<T> {
        let cursor = self.cursors.get_mut(id)?;
        let store = &mut self.store;
        let mark = store.pager.mark();
        let result = work(cursor, store);
        store.pager.release(mark);
        result
    }

    /// Moves to the first entry. `false`: the tree is empty.
    ///
    /// # Errors
    /// [`Corrupt`](Error::Corrupt) and errors of the pager, after which the cursor is on no entry;
    /// [`Abort`](Error::Abort) if the cursor was open over a rollback. All moves have these.
    pub fn first(&mut self, cursor: CursorId) -> Result<bool> {
        self.move_cursor(cursor, Cursor::go_first)
    }

    /// Moves to the last entry. `false`: the tree is empty.
    ///
    /// # Errors
    /// As [`Btree::first`].
    pub fn last(&mut self, cursor: CursorId) -> Result<bool> {
        self.move_cursor(cursor, Cursor::go_last)
    }

    /// Moves to the next entry. `false`: there is none, or the cursor was on none; it then is on
    /// none.
    ///
    /// # Errors
    /// As [`Btree::first`].
    #[inline]
    pub fn next(&mut self, cursor: CursorId) -> Result<bool> {
        if self.cursors.get_mut(cursor)?.next_on_leaf(&self.store) {
            return Ok(true);
        }
        self.move_cursor(cursor, Cursor::next_slowly)
    }

    /// Moves to the previous entry. `false`: there is none, or the cursor was on none; it then is
    /// on none.
    ///
    /// # Errors
    /// As [`Btree::first`].
    #[inline]
    pub fn previous(&mut self, cursor: CursorId) -> Result<bool> {
        if self.cursors.get_mut(cursor)?.previous_on_leaf(&self.store) {
            return Ok(true);
        }
        self.move_cursor(cursor, Cursor::previous_slowly)
    }

    /// Moves to the entry with `key`, or to a neighbour of its place. Tells how the entry that was
    /// found compares with the key; `Less` also if the tree is empty.
    ///
    /// # Errors
    /// As [`Btree::first`]; [`Misuse`](Error::Misuse) for a key of the wrong type.
    #[doc(alias = "sqlite3BtreeMovetoUnpacked")]
    #[inline]
    pub fn seek(&mut self, cursor: CursorId, key: Key<'_>) -> Result<Ordering> {
        self.move_cursor(cursor, |cursor, store| cursor.seek_to_read(store, key))
    }

    /// Moves to the entry of an index with a key of these fields, or to a neighbour of its place,
    /// as [`Btree::seek`]; `mode` says which entries are equal. The second result is the rowid
    /// that a prefix search reports.
    ///
    /// # Errors
    /// As [`Btree::first`]; [`Misuse`](Error::Misuse) for a cursor that was opened without a
    /// description of the keys.
    #[doc(alias = "sqlite3BtreeMovetoUnpacked")]
    pub fn seek_fields(
        &mut self,
        cursor: CursorId,
        fields: &[Field],
        mode: SearchMode,
    ) -> Result<(Ordering, Option<i64>)> {
        self.move_cursor(cursor, |cursor, store| cursor.seek_fields(store, fields, mode))
    }

    /// Whether the cursor is on no entry.
    pub fn is_at_end(&mut self, cursor: CursorId) -> bool {
        !self.with_cursor(cursor, |cursor, store| Ok(cursor.is_on_cell(store))).unwrap_or(false)
    }

    /// Whether the tree has integer keys.
    ///
    /// # Errors
    /// [`Abort`](Error::Abort) if the cursor was open over a rollback.
    #[inline]
    pub fn has_integer_keys(&self, cursor: CursorId) -> Result<bool> {
        let cursor = self.cursors.get(cursor)?;
        match cursor.position {
            Position::Fault(error) => Err(error),
            _ => Ok(cursor.kind(&self.store)?.has_integer_keys()),
        }
    }

    /// Whether the keys of the tree are records to this cursor.
    ///
    /// # Errors
    /// As [`Btree::has_integer_keys`].
    pub fn has_records(&self, cursor: CursorId) -> Result<bool> {
        self.has_integer_keys(cursor)?;
        Ok(self.cursors.get(cursor)?.has_records())
    }

    /// The integer key of the entry; 0 on no entry, and in byte-string trees.
    ///
    /// # Errors
    /// [`Corrupt`](Error::Corrupt), [`Abort`](Error::Abort) after a rollback.
    #[inline]
    pub fn integer_key(&mut self, cursor: CursorId) -> Result<i64> {
        let (cursor, store) = self.settled(cursor)?;
        cursor.integer_key(store)
    }

    /// Length of the key in bytes; the key itself in integer trees; 0 on no entry.
    ///
    /// # Errors
    /// [`Corrupt`](Error::Corrupt), [`Abort`](Error::Abort) after a rollback.
    pub fn key_size(&mut self, cursor: CursorId) -> Result<u64> {
        self.with_cursor(cursor, |cursor, store| {
            Ok(if cursor.is_on_cell(store) { cursor.cell(store)?.key as u64 } else { 0 })
        })
    }

    /// Length of the data in bytes; 0 on no entry and on a divider.
    ///
    /// # Errors
    /// [`Corrupt`](Error::Corrupt), [`Abort`](Error::Abort) after a rollback.
    pub fn data_size(&mut self, cursor: CursorId) -> Result<u32> {
        self.with_cursor(cursor, |cursor, store| {
            Ok(if cursor.is_on_cell(store) { cursor.cell(store)?.data } else { 0 })
        })
    }

    /// Length of key (in byte-string trees) and data in bytes; 0 on no entry.
    ///
    /// # Errors
    /// [`Corrupt`](Error::Corrupt), [`Abort`](Error::Abort) after a rollback.
    #[inline]
    pub fn payload_size(&mut self, cursor: CursorId) -> Result<u32> {
        let (cursor, store) = self.settled(cursor)?;
        cursor.payload_size(store)
    }

    /// The integer key of the entry (0 in byte-string trees), and its payload, that is key (in
    /// byte-string trees) and data one behind the other, if all of it is on the node; `None` if
    /// some of it has to be read from overflow pages. The quick way to visit entries: one call, and
    /// nothing is copied.
    ///
    /// # Errors
    /// [`Abort`](Error::Abort) on no entry; [`Corrupt`](Error::Corrupt).
    #[inline]
    pub fn local_entry(&mut self, cursor: CursorId) -> Result<Option<(i64, &[u8])>> {
        let (cursor, store) = self.settled(cursor)?;
        match cursor.quick_entry(store) {
            Some(entry) => Ok(Some(entry)),
            None => cursor.local_entry(store),
        }
    }

    /// Key and data of the entry, if the cursor is on a row of the usual sort: on the leaf of a
    /// table, all of it. `None` says nothing; the other functions know.
    #[inline]
    pub fn usual_row(&self, cursor: CursorId) -> Option<(i64, &[u8])> {
        self.cursors.get(cursor).ok()?.usual_row(&self.store)
    }

    /// The key of a byte-string tree.
    ///
    /// # Errors
    /// [`Abort`](Error::Abort) on no entry; [`Corrupt`](Error::Corrupt) and errors of the pager.
    pub fn key(&mut self, cursor: CursorId) -> Result<Vec<u8>> {
        self.with_cursor(cursor, |cursor, store| cursor.read_whole(store, Part::Key))
    }

    /// The data of the entry.
    ///
    /// # Errors
    /// [`Abort`](Error::Abort) on no entry; [`Corrupt`](Error::Corrupt) and errors of the pager.
    pub fn data(&mut self, cursor: CursorId) -> Result<Vec<u8>> {
        self.with_cursor(cursor, |cursor, store| cursor.read_whole(store, Part::Data))
    }

    /// Fills `out` with the bytes of the key from `offset` on.
    ///
    /// # Errors
    /// [`Corrupt`](Error::Corrupt) beyond the end of the key; else as [`Btree::key`].
    pub fn read_key(&mut self, cursor: CursorId, offset: u32, out: &mut [u8]) -> Result<()> {
        self.with_cursor(cursor, |cursor, store| {
            cursor.read_part(store, Part::Key, offset as usize, out)
        })
    }

    /// Fills `out` with the bytes of the data from `offset` on.
    ///
    /// # Errors
    /// [`Corrupt`](Error::Corrupt) beyond the end of the data; else as [`Btree::data`].
    pub fn read_data(&mut self, cursor: CursorId, offset: u32, out: &mut [u8]) -> Result<()> {
        self.with_cursor(cursor, |cursor, store| {
            cursor.read_part(store, Part::Data, offset as usize, out)
        })
    }

    /// Shows the whole payload of the entry, key and data, to `visit`: first the bytes on the node,
    /// then those of one overflow page after the other, each where it lies. Nothing is copied, and
    /// no page is read behind the one at which `visit` breaks off; what it breaks off with is
    /// returned.
    ///
    /// ```
    /// # fn main() -> tclbtree::Result<()> {
    /// # use tclbtree::{Btree, Key, Options, TransactionKind};
    /// # let vfs = std::sync::Arc::new(tclbtree::MemoryVfs::new());
    /// # let mut btree = Btree::open(vfs, "doc.db", &Options::default())?;
    /// # btree.begin(TransactionKind::Write)?;
    /// # let root = btree.create_table(tclbtree::TABLE)?;
    /// # let cursor = btree.open_cursor(root, true)?;
    /// use std::ops::ControlFlow;
    /// btree.insert(cursor, Key::Integer(1), &[7; 10_000], 0)?;
    /// btree.seek(cursor, Key::Integer(1))?;
    /// let (mut pieces, mut bytes) = (0, 0);
    /// let ended = btree.visit_payload(cursor, |piece| {
    ///     (pieces, bytes) = (pieces + 1, bytes + piece.len());
    ///     if bytes < 5_000 { ControlFlow::Continue(()) } else { ControlFlow::Break(pieces) }
    /// })?;
    /// assert!(ended.is_some() && bytes < 10_000);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Abort`](Error::Abort) on no entry; [`Corrupt`](Error::Corrupt) and errors of the pager.
    pub fn visit_payload<T>(
        &mut self,
        cursor: CursorId,
        visit: impl FnMut(&[u8]) -> ControlFlow<T>,
    ) -> Result<Option<T>> {
        self.with_cursor(cursor, |cursor, store| cursor.visit_payload(store, visit))
    }

    /// The bytes of the key that are on the node itself, without overflow pages; empty in integer
    /// trees.
    ///
    /// # Errors
    /// [`Abort`](Error::Abort) on no entry; [`Corrupt`](Error::Corrupt).
    pub fn local_key(&mut self, cursor: CursorId) -> Result<&[u8]> {
        let (cursor, store) = self.settled(cursor)?;
        cursor.local_part(store, Part::Key)
    }

    /// The bytes of the data that are on the node itself, without overflow pages.
    ///
    /// # Errors
    /// [`Abort`](Error::Abort) on no entry; [`Corrupt`](Error::Corrupt).
    #[inline]
    pub fn local_data(&mut self, cursor: CursorId) -> Result<&[u8]> {
        let (cursor, store) = self.settled(cursor)?;
        cursor.local_part(store, Part::Data)
    }

    /// Number of entries of the tree. The cursor is on no entry afterwards.
    ///
    /// # Errors
    /// As [`Btree::first`].
    pub fn count(&mut self, cursor: CursorId) -> Result<u64> {
        self.move_cursor(cursor, |cursor, store| {
            let result = cursor.count(store);
            cursor.settle(store, result)
        })
    }

    /// Forgets the position: the cursor is on no entry, and stays open.
    pub fn clear_cursor(&mut self, cursor: CursorId) {
        if let Ok(cursor) = self.cursors.get_mut(cursor) {
            cursor.forget(&mut self.store);
        }
    }

    /// Whether the cursor is no longer on the entry it was left on: that was deleted, or there
    /// was none.
    ///
    /// # Errors
    /// Those of searching for the entry again.
    pub fn cursor_has_moved(&mut self, cursor: CursorId) -> Result<bool> {
        self.move_cursor(cursor, Cursor::has_moved)
    }

    /// What there is to know about the cursor's page, or the page `up` levels above it.
    ///
    /// # Errors
    /// [`State`](Error::State) if `up` leads above the root; [`Corrupt`](Error::Corrupt).
    pub fn cursor_info(&mut self, cursor: CursorId, up: u32) -> Result<CursorInfo> {
        self.with_cursor(cursor, |cursor, store| cursor.info(store, up as usize))
    }

    /// The overflow pages of the entry, in chain order.
    ///
    /// # Errors
    /// [`Abort`](Error::Abort) on no entry; [`Corrupt`](Error::Corrupt) and errors of the pager.
    pub fn overflow_pages(&mut self, cursor: CursorId) -> Result<Vec<PageNumber>> {
        let mut pages = Vec::new();
        self.list_overflow_pages(cursor, &mut pages)?;
        Ok(pages)
    }

    /// The same, appended to `pages`, which is empty. After [`Io`](Error::Io) the last one there
    /// is the page that could not be read.
    ///
    /// # Errors
    /// As [`Btree::overflow_pages`].
    pub fn list_overflow_pages(
        &mut self,
        cursor: CursorId,
        pages: &mut Vec<PageNumber>,
    ) -> Result<()> {
        self.with_cursor(cursor, |cursor, store| cursor.overflow_pages(store, pages))
    }

    /// All open cursors of this connection, the most recently opened first.
    pub fn cursors(&self) -> Vec<CursorSummary> {
        let mut list: Vec<CursorSummary> = self
            .cursors
            .iter()
            .filter(|(_, cursor)| cursor.owner == self.session.id)
            .map(|(id, cursor)| {
                let level = cursor.path.last();
                CursorSummary {
                    id,
                    root: cursor.root,
                    writable: cursor.writable,
                    page: level.map_or(0, |level| self.store.pager.number(level.page).get()),
                    index: level.map_or(0, |level| level.index as u32),
                    at_end: !cursor.is_on_cell(&self.store),
                }
            })
            .collect();
        list.sort_by_key(|cursor| std::cmp::Reverse(cursor.id));
        list
    }
}

impl Cursor {
    /// Finds a saved position again, for reading.
    #[cold]
    fn settle_on_entry(&mut self, store: &mut Store) -> Result<()> {
        let mark = store.pager.mark();
        let result = self.restore(store);
        store.pager.release(mark);
        result
    }

    /// [`Btree::first`], on the cursor itself.
    pub(super) fn go_first(&mut self, store: &mut Store) -> Result<bool> {
        let result = self.first(store);
        self.settle(store, result)
    }

    /// [`Btree::last`], on the cursor itself.
    pub(super) fn go_last(&mut self, store: &mut Store) -> Result<bool> {
        let result = self.last(store);
        self.settle(store, result)
    }

    /// After a failed move the cursor is on no entry.
    fn settle<T>(&mut self, store: &mut Store, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.forget(store);
        }
        result
    }

    fn info(&self, store: &Store, up: usize) -> Result<CursorInfo> {
        // The child of a page 1 without cells counts as a root.
        let root = self.root_levels(store) - 1;
        let at = (self.path.len().checked_sub(up + 1))
            .filter(|&at| at >= root)
            .ok_or(Error::State("no page that many levels above the cursor"))?;
        let level = self.path[at];
        let node = store.node(level.page);
        let parent = if at > root { store.pager.number(self.path[at - 1].page).get() } else { 0 };
        let mut info = CursorInfo {
            page: store.pager.number(level.page).get(),
            index: level.index as u32,
            cells: node.cell_count() as u32,
            free_bytes: node.free_bytes()? as u32,
            free_blocks: node.free_block_count()? as u32,
            parent,
            ..CursorInfo::default()
        };
        if level.index < node.cell_count() {
            let cell = node.cell(level.index)?;
            info.cell_size = cell.size as u32;
            info.data_size = cell.data;
            info.header_size = cell.header as u32;
            info.local_size = cell.local.len() as u32;
        }
        Ok(info)
    }
}
