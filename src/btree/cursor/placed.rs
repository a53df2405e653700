//! Inserting where a search has left the cursor.
//!
//! A caller that has searched for a key already says so, with what the search has found. It is not
//! believed: the entry that the cursor is on and its neighbour on the other side of the key are
//! compared with it. That takes two comparisons on pages that the cursor holds, in place of a
//! search from the root.

use std::cmp::Ordering;

use super::super::Key;
use super::super::store::Store;
use super::{Cursor, DEPTH_MAX, Level, Position};
use crate::error::{Error, Result};
use crate::pager::PageRef;

impl Cursor {
    /// Whether the cursor is on the entry with `key`, or beside the place of that on its leaf, and
    /// the entry is `found` in comparison with it. The cursor does not move.
    ///
    /// # Errors
    /// [`Error::Misuse`](crate::Error::Misuse) for a key of the wrong type;
    /// [`Error::Corrupt`](crate::Error::Corrupt) and errors of the pager.
    pub(in crate::btree) fn is_placed(
        &mut self,
        store: &mut Store,
        key: Key<'_>,
        found: Ordering,
    ) -> Result<bool> {
        self.check_key(store, key)?;
        if self.has_records() {
            return self.is_placed_for_record(store, key, found);
        }
        match key {
            Key::Integer(wanted) => self.is_beside(store, found, |store, page, index| {
                store.node(page).integer_key(index).map(|key| key.cmp(&wanted))
            }),
            Key::Bytes(wanted) => self.is_beside(store, found, |store, page, index| {
                store.compare_key(page, index, wanted)
            }),
        }
    }

    /// Whether the entry that the cursor is on could have this key instead: that lies between its
    /// neighbours. `false` also where keys are records, since there an insert finds an
    /// equal one itself.
    ///
    /// # Errors
    /// As [`Cursor::is_placed`].
    pub(in crate::btree) fn may_become(&mut self, store: &mut Store, key: Key<'_>) -> Result<bool> {
        self.check_key(store, key)?;
        let here = self.level()?;
        if self.has_records() {
            return Ok(false);
        }
        let is_leaf = store.node(here.page).is_leaf();
        for side in [Ordering::Less, Ordering::Greater] {
            let other = match is_leaf {
                true => self.beyond(store, side),
                false => Some(store.next_below(here, side)?),
            };
            let Some(other) = other else { continue };
            let found = match key {
                Key::Integer(wanted) => {
                    store.node(other.page).integer_key(other.index)?.cmp(&wanted)
                }
                Key::Bytes(wanted) => store.compare_key(other.page, other.index, wanted)?,
            };
            if found != side.reverse() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The same, with the comparison of a cell with the key given.
    pub(super) fn is_beside(
        &self,
        store: &mut Store,
        found: Ordering,
        mut compare: impl FnMut(&mut Store, PageRef, usize) -> Result<Ordering>,
    ) -> Result<bool> {
        let (Position::OnEntry, Some(&here)) = (&self.position, self.path.last()) else {
            return Ok(false);
        };
        let node = store.node(here.page);
        let (is_leaf, leaf_data) = (node.is_leaf(), node.kind().is_leaf_data());
        if compare(store, here.page, here.index)? != found {
            return Ok(false);
        }
        if !is_leaf || found.is_eq() {
            return Ok(found.is_eq() && (is_leaf || !leaf_data));
        }
        let Some(other) = self.beyond(store, found) else { return Ok(true) };
        Ok(match compare(store, other.page, other.index)? {
            // The upper bound of a leaf of a table may be a key that has gone.
            Ordering::Equal => leaf_data && other.page != here.page && found.is_lt(),
            side => side == found.reverse(),
        })
    }

    /// The cell next to the one that the cursor is on, above it if that is `Less`: on the same
    /// leaf, or the one on a page above that bounds the leaf. `None` at the end of the tree.
    fn beyond(&self, store: &Store, found: Ordering) -> Option<Level> {
        let (here, above) = self.path.split_last()?;
        if found.is_lt() {
            let has = |level: &&Level| level.index < store.node(level.page).cell_count();
            let next = Level { index: here.index + 1, ..*here };
            [&next].into_iter().chain(above.iter().rev()).find(has).copied()
        } else {
            let before = self.path.iter().rev().find(|level| level.index > 0)?;
            Some(Level { index: before.index - 1, ..*before })
        }
    }
}

impl Store {
    /// The leaf cell next to one on an interior page, above it if that is `Less`: the first or last
    /// one of the subtree beside it. Its page is pinned transiently.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and errors of the pager.
    fn next_below(&mut self, interior: Level, found: Ordering) -> Result<Level> {
        let first = found.is_lt();
        let (mut page, mut child) = (interior.page, interior.index + usize::from(first));
        for _ in 0..DEPTH_MAX {
            let number = self.node(page).child(child)?;
            page = self.fetch_child(page, number)?;
            let (is_leaf, cells) = (self.node(page).is_leaf(), self.node(page).cell_count());
            if is_leaf {
                let index = if first { 0 } else { cells - 1 };
                return Ok(Level { page, index });
            }
            child = if first { 0 } else { cells };
        }
        Err(Error::corrupt("more levels than a tree can have"))
    }
}
