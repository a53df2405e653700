//! Overwriting a part of the data of an entry where it is.

use crate::error::{Error, ReadOnlyReason, Result};

use super::Btree;
use super::cursor::{Cursor, CursorId, Position};
use super::store::Store;

impl Btree {
    /// Overwrites the data of the entry that the cursor is on with `bytes`, from byte `offset` of
    /// it on. The length stays, and with it the place of every byte: no cursor moves.
    ///
    /// # Errors
    /// [`State`](Error::State) without a write transaction; [`ReadOnly`](Error::ReadOnly) for a
    /// read-only database or cursor; [`Locked`](Error::Locked) and
    /// [`LockedSharedCache`](Error::LockedSharedCache) as [`Btree::insert`];
    /// [`Misuse`](Error::Misuse) in trees without data; [`Abort`](Error::Abort) on no entry;
    /// [`Corrupt`](Error::Corrupt) for a range that the data do not have: nothing is changed then;
    /// [`Corrupt`](Error::Corrupt) and errors of the pager, as [`Btree::insert`].
    #[doc(alias = "sqlite3BtreePutData")]
    pub fn put_data(&mut self, cursor: CursorId, offset: u32, bytes: &[u8]) -> Result<()> {
        self.check_may_put(cursor)?;
        let mark = self.store.pager.mark();
        let result = self.cursors.get_mut(cursor).and_then(|cursor| {
            cursor.restore(&mut self.store)?;
            cursor.check_may_put(&self.store, offset as usize, bytes.len())?;
            Ok(cursor)
        });
        let result = match result {
            Ok(cursor) => {
                let put = cursor.put_data(&mut self.store, offset as usize, bytes);
                self.note_failure(put)
            }
            Err(error) => Err(error),
        };
        self.store.pager.release(mark);
        result
    }

    /// What can be said without looking for the entry.
    fn check_may_put(&mut self, id: CursorId) -> Result<()> {
        if let Position::Fault(error) = self.cursors.get(id)?.position {
            return Err(error);
        }
        self.check_may_change()?;
        let cursor = self.cursors.get(id)?;
        if !cursor.writable {
            return Err(Error::ReadOnly(ReadOnlyReason::Cursor));
        }
        let root = cursor.root;
        if self.is_blocked_by_reader(root, Some(id)) {
            return Err(Error::Locked);
        }
        self.check_no_foreign_cursor(Some(root))
    }
}

impl Cursor {
    /// Whether the cursor is on an entry with as much data.
    fn check_may_put(&self, store: &Store, offset: usize, length: usize) -> Result<()> {
        let kind = self.kind(store)?;
        if !kind.as_leaf().has_data() {
            return Err(Error::Misuse("the tree has no data"));
        }
        let gone = matches!(self.position, Position::Beside(_));
        if gone || !self.is_on_cell(store) || self.is_on_divider(store) {
            return Err(Error::Abort("the cursor is on no entry"));
        }
        let cell = self.cell(store)?;
        if offset.saturating_add(length) > cell.data as usize {
            return Err(Error::corrupt("range beyond the end of the data"));
        }
        Ok(())
    }

    fn put_data(&self, store: &mut Store, offset: usize, bytes: &[u8]) -> Result<()> {
        let level = self.level()?;
        let cell = self.cell(store)?;
        let start = (cell.payload - cell.data) as usize + offset;
        let (local, overflow) = (cell.local.len(), cell.overflow);
        let (on_page, beyond) = bytes.split_at(local.saturating_sub(start).min(bytes.len()));
        if !on_page.is_empty() {
            let page = store.pager.make_writable(level.page)?;
            store.node_mut(page).overwrite_payload(level.index, start, on_page)?;
        }
        if beyond.is_empty() {
            return Ok(());
        }
        store.overwrite_overflow(overflow, (start + on_page.len()) - local, beyond)
    }
}
