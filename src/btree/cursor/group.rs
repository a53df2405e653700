//! What cursors on one tree have in common, and what strikes all of them.

use super::super::Btree;
use super::{Cursor, CursorId, Position};
use crate::error::{Error, Result};

impl Btree {
    /// The number of bytes of memory that a cursor takes, without the pages it holds.
    #[doc(alias = "sqlite3BtreeCursorSize")]
    pub const fn cursor_size() -> usize {
        size_of::<Cursor>()
    }

    /// The number that callers keep with the cursors on a tree; 0 in a new cursor. Callers use it
    /// for the largest rowid in use; the engine does nothing with it.
    ///
    /// # Errors
    /// The fault of an unusable cursor; [`Misuse`](Error::Misuse) if it was closed.
    #[doc(alias = "sqlite3BtreeGetCachedRowid")]
    pub fn cached_rowid(&self, cursor: CursorId) -> Result<i64> {
        let cursor = self.cursors.get(cursor)?;
        match cursor.position {
            Position::Fault(error) => Err(error),
            _ => Ok(cursor.cached_rowid),
        }
    }

    /// Sets the number of [`Btree::cached_rowid`] for every cursor on the same tree.
    ///
    /// # Errors
    /// As [`Btree::cached_rowid`].
    #[doc(alias = "sqlite3BtreeSetCachedRowid")]
    pub fn set_cached_rowid(&mut self, cursor: CursorId, rowid: i64) -> Result<()> {
        self.cached_rowid(cursor)?;
        let root = self.cursors.get(cursor)?.root;
        for (_, cursor) in self.cursors.iter_mut().filter(|(_, cursor)| cursor.root == root) {
            cursor.cached_rowid = rowid;
        }
        Ok(())
    }

    /// Makes every cursor unusable: each use but closing it returns `error` from now on. Cursors
    /// that were unusable before get the new error.
    #[doc(alias = "sqlite3BtreeTripAllCursors")]
    pub fn trip_all_cursors(&mut self, error: Error) {
        for (_, cursor) in self.cursors.iter_mut() {
            cursor.fail(&mut self.store, error);
        }
    }
}
