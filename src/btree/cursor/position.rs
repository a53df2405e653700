//! Where a cursor is; saving that before a change and finding it again.
//!
//! ```text
//!            first, last, next, previous, seek
//!   Nowhere ───────────────────────────────────▶ OnEntry ◀──┐ found again
//!      ▲   ◀─────────────── clear ──────────────  │  │  ▲   │
//!      │                                          │  │  │   │
//!      │ tree is empty          past an end ──────┘  │  │   │
//!      │                        OffStart, OffEnd     │  │   │
//!      │                                             │  │   │
//!      │          another cursor changes the tree ───┘  │   │
//!      └───────────────────────── Saved ────────────────┼───┘
//!                                   │ entry is gone     │ a step
//!                                   └───▶ Beside ───────┘
//!
//!   own insert or delete: Parked        rollback, tripping: Fault, for good
//! ```

use std::cmp::Ordering;

use crate::error::{Error, Result};

use super::super::Key;
use super::super::store::Store;
use super::Cursor;

/// Where a cursor is.
#[derive(Debug)]
pub(in crate::btree) enum Position {
    /// On no entry: just opened, cleared, or in an empty tree.
    Nowhere,
    /// On the cell that the last level of the path names.
    OnEntry,
    /// On the neighbour of the entry it was on, which is gone; the neighbour is `Less` or
    /// `Greater` than that. A step towards the neighbour is already done.
    Beside(Ordering),
    /// On cell 0 of the root, where a write leaves its cursor; an entry, a divider, or nothing.
    Parked,
    /// Stepped back from the first entry.
    OffStart,
    /// Stepped on from the last entry.
    OffEnd,
    /// Path given up because the tree was about to change.
    Saved {
        /// Key of the entry it was on.
        key: SavedKey,
        /// That entry is only the neighbour of one that is gone, as in `Beside`.
        beside: Option<Ordering>,
    },
    /// Unusable: every use but closing gives this error.
    Fault(Error),
}

/// The key of an entry, kept apart from its page.
#[derive(Debug, Clone)]
pub(in crate::btree) enum SavedKey {
    /// Integer key.
    Integer(i64),
    /// Byte-string key.
    Bytes(Vec<u8>),
}

impl SavedKey {
    /// The key, to search for.
    pub(in crate::btree) fn as_key(&self) -> Key<'_> {
        match self {
            SavedKey::Integer(key) => Key::Integer(*key),
            SavedKey::Bytes(key) => Key::Bytes(key),
        }
    }
}

impl Cursor {
    /// Gives up the path and remembers the key instead (C3). A cursor whose entry is damaged
    /// becomes unusable: it must not come back to another one.
    ///
    /// # Errors
    /// Those of the pager and [`Error::NoMemory`]; the cursor is as it was, and the change that it
    /// was to be saved for must not be made.
    pub(in crate::btree) fn save(&mut self, store: &mut Store) -> Result<()> {
        let on_entry = match self.position {
            Position::OnEntry => true,
            Position::Parked => self.is_on_cell(store) && !self.is_on_divider(store),
            Position::Beside(_) => true,
            _ => false,
        };
        if !on_entry {
            self.truncate(store, 1);
            return Ok(());
        }
        let beside = match self.position {
            Position::Beside(side) => Some(side),
            _ => None,
        };
        self.position = match self.saved_key(store) {
            Ok(key) => Position::Saved { key, beside },
            Err(error @ Error::Corrupt { .. }) => Position::Fault(error),
            Err(error) => return Err(error),
        };
        self.truncate(store, 1);
        Ok(())
    }

    /// The key of the cell the cursor is on.
    fn saved_key(&self, store: &mut Store) -> Result<SavedKey> {
        if self.kind(store)?.has_integer_keys() {
            Ok(SavedKey::Integer(self.cell(store)?.key))
        } else {
            Ok(SavedKey::Bytes(self.read_whole_key(store)?))
        }
    }

    /// Whether [`Cursor::restore`] has anything to do or to say.
    #[inline]
    pub(in crate::btree) fn is_unsettled(&self) -> bool {
        matches!(self.position, Position::Saved { .. } | Position::Fault(_))
    }

    /// Finds a saved position again.
    ///
    /// # Errors
    /// The fault of an unusable cursor; errors of the search, which leave the position saved.
    #[inline]
    pub(in crate::btree) fn restore(&mut self, store: &mut Store) -> Result<()> {
        match self.position {
            Position::Saved { .. } => self.find_again(store),
            Position::Fault(error) => Err(error),
            _ => Ok(()),
        }
    }

    #[cold]
    fn find_again(&mut self, store: &mut Store) -> Result<()> {
        let position = std::mem::replace(&mut self.position, Position::Nowhere);
        let Position::Saved { key, beside } = position else {
            self.position = position;
            return Ok(());
        };
        match self.seek(store, key.as_key()) {
            Ok(Ordering::Equal) => {
                if let Some(side) = beside {
                    self.position = Position::Beside(side);
                }
                Ok(())
            }
            Ok(side) => {
                if matches!(self.position, Position::OnEntry) {
                    self.position = Position::Beside(side);
                }
                Ok(())
            }
            Err(error) => {
                self.truncate(store, 1);
                self.position = Position::Saved { key, beside };
                Err(error)
            }
        }
    }

    /// Whether the cursor is no longer on the entry it was left on.
    ///
    /// # Errors
    /// Those of [`Cursor::restore`].
    pub(in crate::btree) fn has_moved(&mut self, store: &mut Store) -> Result<bool> {
        self.restore(store)?;
        Ok(match self.position {
            Position::OnEntry => false,
            Position::Parked => !self.is_on_cell(store),
            _ => true,
        })
    }

    /// Makes the cursor unusable and lets go of its pages.
    pub(in crate::btree) fn fail(&mut self, store: &mut Store, error: Error) {
        self.let_go(store);
        self.position = Position::Fault(error);
    }

    /// Takes the path up again after a rollback: the root may be another page's content by now,
    /// or gone.
    pub(in crate::btree) fn take_up(&mut self, store: &mut Store) {
        if matches!(self.position, Position::Fault(_)) {
            return;
        }
        if self.hold_root(store).is_err() {
            self.position = Position::Fault(Error::Abort("the tree of the cursor was rolled back"));
        }
    }
}
