//! Delete; an entry on an interior page is replaced by its neighbour from a leaf.

use crate::error::{Error, Result};

use super::Btree;
use super::balance;
use super::cursor::{Cursor, CursorId, Level, Position};
use super::node::NodeKind;
use super::pointer_map::Owner;
use super::store::Store;

impl Btree {
    /// Deletes the entry that the cursor is on. The cursor is left on cell 0 of the root, which
    /// is unspecified as far as callers go.
    ///
    /// # Errors
    /// [`State`](Error::State) without a write transaction and on no entry; else as
    /// [`Btree::insert`].
    #[doc(alias = "sqlite3BtreeDelete")]
    pub fn delete(&mut self, cursor: CursorId) -> Result<()> {
        let mark = self.store.pager.mark();
        let checked = self
            .check_write_through(cursor, |btree| btree.check_on_entry(cursor))
            .and_then(|()| self.save_cursors_on_tree_of(cursor));
        let result = match checked {
            Ok(()) => {
                let cursor = self.cursors.get_mut(cursor)?;
                let deleted = cursor.delete(&mut self.store);
                let parked = cursor.park(&mut self.store);
                self.note_failure(deleted.and(parked))
            }
            Err(error) => Err(error),
        };
        self.store.pager.release(mark);
        result
    }

    /// Whether there is an entry to change, its position found again.
    pub(super) fn check_on_entry(&mut self, id: CursorId) -> Result<()> {
        let cursor = self.cursors.get_mut(id)?;
        cursor.restore(&mut self.store)?;
        let gone = matches!(cursor.position, Position::Beside(_));
        if gone || !cursor.is_on_cell(&self.store) || cursor.is_on_divider(&self.store) {
            return Err(Error::State("the cursor is on no entry"));
        }
        Ok(())
    }
}

impl Cursor {
    fn delete(&mut self, store: &mut Store) -> Result<()> {
        let level = self.level()?;
        let page = store.pager.make_writable(level.page)?;
        let cell = store.node(level.page).cell(level.index)?;
        let (overflow, tail) = (cell.overflow, cell.payload as usize - cell.local.len());
        let is_leaf = store.node(level.page).is_leaf();
        if overflow != 0 {
            let first = store.checked_number(overflow)?;
            store.free_overflow(first, tail)?;
        }
        if is_leaf {
            store.node_mut(page).remove(level.index)?;
            balance::balance(store, &self.path)?;
            return Ok(());
        }
        self.replace_from_leaf(store)
    }

    /// Replaces the cell on an interior page by a neighbour that stands on a leaf: the largest
    /// entry below its child (the predecessor), or, in the historic kinds with data, the smallest
    /// one behind it (the successor), as the engine of 2006 did.
    ///
    /// ```text
    ///            [ .. | entry | .. ]                 [ .. | neighbour | .. ]
    ///                /                                   /
    ///          [ .. | .. ]                         [ .. | .. ]
    ///                    \                                   \
    ///                 [ .. neighbour ]                    [ .. ]
    /// ```
    fn replace_from_leaf(&mut self, store: &mut Store) -> Result<()> {
        let depth = self.path.len();
        let target = self.level()?;
        let kind = store.node(target.page).kind();
        let takes_predecessor = kind.as_interior() == NodeKind::INDEX_INTERIOR;
        let path = leaf_neighbour(store, &self.path, takes_predecessor)?;
        let leaf = *path.last().ok_or(Error::Internal("empty path"))?;
        let leaf_page = store.pager.make_writable(leaf.page)?;
        let leaf_cell = store.node(leaf.page).cell_bytes(leaf.index)?;
        let size = store.unpadded_size(leaf_cell, kind.as_leaf())?;
        let child = store.node(target.page).cell(target.index)?.child;
        let mut replacement = Vec::new();
        crate::memory::reserve_exact(&mut replacement, 4 + size)?;
        replacement.extend(child.to_be_bytes());
        replacement.extend_from_slice(&leaf_cell[..size]);
        let overflow = store.node(leaf.page).cell(leaf.index)?.overflow;
        if overflow != 0 {
            let first = store.checked_number(overflow)?;
            store.set_owner(first, Owner::OverflowFirst(store.pager.number(target.page)))?;
        }
        store.node_mut(leaf_page).remove(leaf.index)?;
        let target_page = store.pager.make_writable(target.page)?;
        store.node_mut(target_page).remove(target.index)?;
        store.node_mut(target_page).insert(target.index, &replacement)?;
        let settled = balance::balance(store, &path)?;
        if settled >= depth {
            balance::balance(store, &path[..depth])?;
        }
        Ok(())
    }
}

/// The path from the root to the leaf entry next to the one that `path` leads to on an interior
/// page, on either side of it.
fn leaf_neighbour(store: &mut Store, path: &[Level], before: bool) -> Result<Vec<Level>> {
    let mut path = path.to_vec();
    let target = path.last_mut().ok_or(Error::Internal("empty path"))?;
    if !before {
        // The child behind the cell; balancing goes up through it.
        target.index += 1;
    }
    loop {
        let level = *path.last().ok_or(Error::Internal("empty path"))?;
        let node = store.node(level.page);
        if node.is_leaf() {
            return Ok(path);
        }
        if path.len() >= super::cursor::DEPTH_MAX {
            return Err(Error::corrupt("tree is too deep"));
        }
        let child = node.child(level.index)?;
        let page = store.fetch_child(level.page, child)?;
        if path.iter().any(|above| above.page == page) {
            return Err(Error::corrupt("tree leads in circles").on_page(child));
        }
        let node = store.node(page);
        let last = if node.is_leaf() { node.cell_count() - 1 } else { node.cell_count() };
        path.push(Level { page, index: if before { last } else { 0 } });
    }
}
