//! Cursors: what points at an entry of a tree.
//!
//! A cursor keeps the path of pages from the root of its tree to the page it is on, every one of
//! them pinned. Invariants:
//!
//! * C1: `path[0]` is the root of the tree, pinned as long as the cursor is usable.
//! * C2: `path[i].index` is the child of `path[i]` that leads to `path[i + 1]`; in the last level
//!   it is the cell the cursor is on.
//! * C3: before a tree changes, every cursor on it but the one that changes it lets go of its path
//!   and remembers its key instead ([`Position::Saved`]); nothing ever reads through a stale path.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::PageNumber;
use crate::format::record::KeyInfo;
use crate::pager::PageRef;

use super::node::NodeKind;
use super::store::Store;
use super::table_lock::SessionId;

mod api;
mod group;
mod locked;
mod payload;
mod placed;
mod position;
mod records;
mod seek;
mod walk;

pub use locked::LockedCursor;
pub(super) use position::Position;

/// Deepest tree that is followed, in pages from root to leaf.
pub(super) const DEPTH_MAX: usize = 20;

/// Names an open cursor of a [`Btree`](super::Btree); never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CursorId(u64);

impl CursorId {
    /// A number that is unique within the connection.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// One page of a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    /// The page.
    pub(super) page: PageRef,
    /// The child that the path takes, or the cell that the cursor is on.
    pub(super) index: usize,
}

/// An open cursor.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The connection that opened it.
    pub(super) owner: SessionId,
    /// Root of its tree.
    pub(super) root: PageNumber,
    /// Opened for writing.
    pub(super) writable: bool,
    /// Where it is.
    pub(super) position: Position,
    /// The entry inserted last went behind all others, so the next one is tried there first.
    pub(super) appending: bool,
    /// The leaf it went to, and [`Store::shape`] then.
    pub(super) appended_to: Option<(PageNumber, u64)>,
    /// What the keys of its index are; `None`: byte strings, or integers.
    key_info: Option<Arc<KeyInfo>>,
    /// A number that the callers keep here, see [`Btree::set_cached_rowid`](super::Btree).
    cached_rowid: i64,
    /// The pages from the root on (invariants C1, C2).
    pub(super) path: Vec<Level>,
}

impl Cursor {
    /// A cursor on no entry of the tree at `root`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the page cannot be a root; errors of the pager.
    pub(super) fn open(
        store: &mut Store,
        owner: SessionId,
        root: PageNumber,
        writable: bool,
    ) -> Result<Cursor> {
        let mut path = Vec::new();
        crate::memory::reserve_exact(&mut path, DEPTH_MAX)?;
        let mut cursor = Cursor {
            owner,
            root,
            writable,
            position: Position::Nowhere,
            appending: false,
            appended_to: None,
            key_info: None,
            cached_rowid: 0,
            path,
        };
        cursor.hold_root(store)?;
        Ok(cursor)
    }

    /// Fetches the root and pins it (C1).
    fn hold_root(&mut self, store: &mut Store) -> Result<()> {
        let page = store.fetch_root(self.root)?;
        store.pager.pin(page);
        self.path.push(Level { page, index: 0 });
        Ok(())
    }

    /// Lets go of every page.
    pub(super) fn let_go(&mut self, store: &mut Store) {
        self.truncate(store, 0);
    }

    /// Shortens the path to `levels` pages.
    #[inline]
    pub(super) fn truncate(&mut self, store: &mut Store, levels: usize) {
        while self.path.len() > levels {
            if let Some(level) = self.path.pop() {
                store.pager.unpin(level.page);
            }
        }
    }

    /// The level the cursor is on.
    #[inline]
    pub(super) fn level(&self) -> Result<Level> {
        self.path.last().copied().ok_or(Error::Internal("cursor without a path"))
    }

    /// The kind of the tree, as its root page says.
    #[inline]
    pub(super) fn kind(&self, store: &Store) -> Result<NodeKind> {
        let root = self.path.first().ok_or(Error::Internal("cursor without a path"))?;
        Ok(store.node(root.page).kind())
    }

    /// Levels of the path that count as the root: two if page 1 has no cells and the path goes on
    /// to its only child, else one.
    pub(super) fn root_levels(&self, store: &Store) -> usize {
        match self.path.as_slice() {
            [root, _, ..] if store.node(root.page).cell_count() == 0 => 2,
            _ => 1,
        }
    }

    /// Puts the cursor where a write leaves it: on cell 0 of the root, without looking for it
    /// (or, under a page 1 without cells, on cell 0 of its only child).
    pub(super) fn park(&mut self, store: &mut Store) -> Result<()> {
        self.go_to_root(store)?;
        self.position = Position::Parked;
        Ok(())
    }

    /// Forgets the position: the cursor is on no entry.
    pub(super) fn forget(&mut self, store: &mut Store) {
        self.truncate(store, 1);
        if let Some(root) = self.path.first_mut() {
            root.index = 0;
        }
        if !matches!(self.position, Position::Fault(_)) {
            self.position = Position::Nowhere;
        }
    }

    /// Whether the cursor is on a cell: an entry, or, when parked, a divider.
    #[inline]
    pub(super) fn is_on_cell(&self, store: &Store) -> bool {
        match self.position {
            Position::OnEntry | Position::Beside(_) => true,
            Position::Parked => {
                self.path.last().is_some_and(|level| store.node(level.page).cell_count() > 0)
            }
            _ => false,
        }
    }
}

/// The open cursors of a page cache, by slot; a [`CursorId`] is slot and serial number.
#[derive(Debug, Default)]
pub(super) struct CursorTable {
    slots: Vec<Option<(u32, Cursor)>>,
    serial: u32,
    open: usize,
}

impl CursorTable {
    const SLOT_BITS: u32 = 32;

    /// Number of open cursors.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// Makes room for one more, so that [`CursorTable::insert`] cannot fail.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(super) fn reserve(&mut self) -> Result<()> {
        crate::memory::reserve(&mut self.slots, 1)
    }

    /// Adds a cursor, in the room that was reserved.
    pub(super) fn insert(&mut self, cursor: Cursor) -> CursorId {
        self.serial = self.serial.wrapping_add(1);
        self.open += 1;
        let entry = Some((self.serial, cursor));
        match self.slots.iter_mut().enumerate().find(|(_, slot)| slot.is_none()) {
            Some((index, slot)) => {
                *slot = entry;
                Self::id(index, self.serial)
            }
            None => {
                self.slots.push(entry);
                Self::id(self.slots.len() - 1, self.serial)
            }
        }
    }

    fn id(slot: usize, serial: u32) -> CursorId {
        CursorId(u64::from(serial) << Self::SLOT_BITS | slot as u64)
    }

    fn split(id: CursorId) -> (usize, u32) {
        (id.0 as u32 as usize, (id.0 >> Self::SLOT_BITS) as u32)
    }

    /// The cursor `id`.
    ///
    /// # Errors
    /// [`Error::Misuse`] if it was closed.
    #[inline]
    pub(super) fn get(&self, id: CursorId) -> Result<&Cursor> {
        let (slot, serial) = Self::split(id);
        match self.slots.get(slot) {
            Some(Some((found, cursor))) if *found == serial => Ok(cursor),
            _ => Err(Error::Misuse("the cursor is closed")),
        }
    }

    /// The cursor `id`, for changing.
    ///
    /// # Errors
    /// [`Error::Misuse`] if it was closed.
    #[inline]
    pub(super) fn get_mut(&mut self, id: CursorId) -> Result<&mut Cursor> {
        let (slot, serial) = Self::split(id);
        match self.slots.get_mut(slot) {
            Some(Some((found, cursor))) if *found == serial => Ok(cursor),
            _ => Err(Error::Misuse("the cursor is closed")),
        }
    }

    /// Takes the cursor `id` out.
    pub(super) fn remove(&mut self, id: CursorId) -> Option<Cursor> {
        self.get(id).ok()?;
        let (slot, _) = Self::split(id);
        self.open -= 1;
        self.slots.get_mut(slot)?.take().map(|(_, cursor)| cursor)
    }

    /// All cursors, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (CursorId, &Cursor)> {
        self.slots.iter().enumerate().filter_map(|(slot, entry)| {
            entry.as_ref().map(|(serial, cursor)| (Self::id(slot, *serial), cursor))
        })
    }

    /// All cursors for changing, in no order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (CursorId, &mut Cursor)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, entry)| {
            entry.as_mut().map(|(serial, cursor)| (Self::id(slot, *serial), cursor))
        })
    }
}
