//! First, last, next, previous; child and parent.

use std::cmp::Ordering;

use crate::error::{Error, Result};
use crate::format::PageNumber;

use super::super::store::Store;
use super::{Cursor, DEPTH_MAX, Level, Position};

impl Cursor {
    /// Goes to the root, or to its only child if it has no cells (page 1 only).
    pub(in crate::btree) fn go_to_root(&mut self, store: &mut Store) -> Result<()> {
        if self.path.is_empty() {
            self.hold_root(store)?;
        }
        self.truncate(store, 1);
        let root = self.path.first_mut().ok_or(Error::Internal("cursor without a path"))?;
        root.index = 0;
        let node = store.node(root.page);
        if node.cell_count() > 0 || node.is_leaf() {
            return Ok(());
        }
        if self.root != PageNumber::ONE {
            return Err(Error::corrupt("interior root without cells").on_page(self.root.get()));
        }
        let child = node.right_child()?;
        self.descend(store, child)
    }

    /// Goes down to the page `child`, on its cell 0.
    #[inline]
    pub(in crate::btree) fn descend(&mut self, store: &mut Store, child: u32) -> Result<()> {
        let parent = self.level()?;
        if self.path.len() >= DEPTH_MAX {
            return Err(Error::corrupt("tree is too deep").on_page(child));
        }
        let page = store.hold_child(parent.page, child)?;
        self.path.push(Level { page, index: 0 });
        Ok(())
    }

    /// Goes down from the child the cursor is at to the first cell below it.
    fn leftmost(&mut self, store: &mut Store) -> Result<()> {
        loop {
            let level = self.level()?;
            let node = store.node(level.page);
            if node.is_leaf() {
                return Ok(());
            }
            let child = node.child(level.index)?;
            self.descend(store, child)?;
        }
    }

    /// Goes down along the right-most children to the last cell below the present page.
    fn rightmost(&mut self, store: &mut Store) -> Result<()> {
        loop {
            let level = self.path.last_mut().ok_or(Error::Internal("cursor without a path"))?;
            let node = store.node(level.page);
            let cells = node.cell_count();
            if node.is_leaf() {
                level.index = cells.saturating_sub(1);
                return Ok(());
            }
            level.index = cells;
            let child = node.right_child()?;
            self.descend(store, child)?;
        }
    }

    /// Goes to the first entry; `false` if the tree is empty.
    pub(in crate::btree) fn first(&mut self, store: &mut Store) -> Result<bool> {
        self.start_move(store)?;
        if store.node(self.level()?.page).cell_count() == 0 {
            return Ok(false);
        }
        self.leftmost(store)?;
        self.position = Position::OnEntry;
        Ok(true)
    }

    /// Goes to the last entry; `false` if the tree is empty.
    pub(in crate::btree) fn last(&mut self, store: &mut Store) -> Result<bool> {
        self.start_move(store)?;
        if store.node(self.level()?.page).cell_count() == 0 {
            return Ok(false);
        }
        self.rightmost(store)?;
        self.position = Position::OnEntry;
        Ok(true)
    }

    /// Gives up the position for a new one; until that is found the cursor is on no entry.
    pub(in crate::btree) fn start_move(&mut self, store: &mut Store) -> Result<()> {
        if let Position::Fault(error) = self.position {
            return Err(error);
        }
        self.position = Position::Nowhere;
        self.go_to_root(store)
    }

    /// Steps to the next entry if that is on the same leaf: the usual step, which touches nothing
    /// but an index. The memory of the entry behind it is asked for.
    #[inline]
    pub(super) fn next_on_leaf(&mut self, store: &Store) -> bool {
        if let (Position::OnEntry, Some(level)) = (&self.position, self.path.last_mut()) {
            let node = store.node(level.page);
            if node.is_leaf() && level.index + 1 < node.cell_count() {
                level.index += 1;
                node.prefetch_cell(level.index + 1);
                return true;
            }
        }
        false
    }

    /// Steps to the next entry; `false` if there is none, or the cursor was on none.
    pub(super) fn next_slowly(&mut self, store: &mut Store) -> Result<bool> {
        self.restore(store)?;
        match self.position {
            Position::Beside(Ordering::Greater) => {
                self.position = Position::OnEntry;
                return Ok(true);
            }
            _ if !self.is_on_cell(store) => return Ok(false),
            _ => {}
        }
        let result = self.step_forward(store);
        self.finish_step(store, result, Position::OffEnd)
    }

    /// Steps to the previous entry if that is on the same leaf.
    #[inline]
    pub(super) fn previous_on_leaf(&mut self, store: &Store) -> bool {
        if let (Position::OnEntry, Some(level)) = (&self.position, self.path.last_mut())
            && level.index > 0
            && store.node(level.page).is_leaf()
        {
            level.index -= 1;
            return true;
        }
        false
    }

    /// Steps to the previous entry; `false` if there is none, or the cursor was on none.
    pub(super) fn previous_slowly(&mut self, store: &mut Store) -> Result<bool> {
        self.restore(store)?;
        match self.position {
            Position::Beside(Ordering::Less) => {
                self.position = Position::OnEntry;
                return Ok(true);
            }
            _ if !self.is_on_cell(store) => return Ok(false),
            _ => {}
        }
        let result = self.step_back(store);
        self.finish_step(store, result, Position::OffStart)
    }

    /// Settles the position after a step: on an entry, off the end, or nowhere after an error.
    fn finish_step(
        &mut self,
        store: &mut Store,
        result: Result<bool>,
        off: Position,
    ) -> Result<bool> {
        match result {
            Ok(true) => self.position = Position::OnEntry,
            Ok(false) => {
                self.truncate(store, self.root_levels(store));
                if let Some(root) = self.path.last_mut() {
                    root.index = match off {
                        Position::OffEnd => store.node(root.page).cell_count(),
                        _ => 0,
                    };
                }
                self.position = off;
            }
            Err(_) => self.forget(store),
        }
        result
    }

    /// The step of `next` from a cell of any page: to the first cell right of it.
    fn step_forward(&mut self, store: &mut Store) -> Result<bool> {
        let level = self.path.last_mut().ok_or(Error::Internal("cursor without a path"))?;
        level.index += 1;
        let node = store.node(level.page);
        if !node.is_leaf() {
            self.leftmost(store)?;
            return Ok(true);
        }
        if level.index < node.cell_count() {
            return Ok(true);
        }
        loop {
            if self.path.len() <= self.root_levels(store) {
                return Ok(false);
            }
            self.truncate(store, self.path.len() - 1);
            let level = self.path.last_mut().ok_or(Error::Internal("cursor without a path"))?;
            let node = store.node(level.page);
            if level.index < node.cell_count() {
                if node.kind().is_leaf_data() {
                    level.index += 1;
                    self.leftmost(store)?;
                }
                return Ok(true);
            }
        }
    }

    /// The step of `previous` from a cell of any page: to the last cell left of it.
    fn step_back(&mut self, store: &mut Store) -> Result<bool> {
        let level = self.level()?;
        let node = store.node(level.page);
        if !node.is_leaf() {
            let child = node.child(level.index)?;
            self.descend(store, child)?;
            self.rightmost(store)?;
            return Ok(true);
        }
        loop {
            let level = self.path.last_mut().ok_or(Error::Internal("cursor without a path"))?;
            if level.index > 0 {
                level.index -= 1;
                let node = store.node(level.page);
                if !node.is_leaf() && node.kind().is_leaf_data() {
                    let child = node.child(level.index)?;
                    self.descend(store, child)?;
                    self.rightmost(store)?;
                }
                return Ok(true);
            }
            if self.path.len() <= self.root_levels(store) {
                return Ok(false);
            }
            self.truncate(store, self.path.len() - 1);
        }
    }

    /// Counts the entries of the tree by visiting every page; the position is lost.
    ///
    /// A damaged tree in which subtrees share pages could take for ever: no tree has more leaves
    /// than the database has pages.
    ///
    /// Trees that keep data on leaves only have their entries there; in the others every cell is
    /// one.
    pub(in crate::btree) fn count(&mut self, store: &mut Store) -> Result<u64> {
        self.start_move(store)?;
        let mut entries = 0u64;
        let mut leaves = 0;
        loop {
            leaves += 1;
            if leaves > store.pager.page_count() {
                return Err(Error::corrupt("pages of the tree are used twice"));
            }
            let mark = store.pager.mark();
            self.leftmost(store)?;
            let level = self.level()?;
            let node = store.node(level.page);
            entries += node.cell_count() as u64;
            let leaf_data = node.kind().is_leaf_data();
            store.pager.release(mark);
            loop {
                if self.path.len() == 1 {
                    self.forget(store);
                    return Ok(entries);
                }
                self.truncate(store, self.path.len() - 1);
                let level = self.path.last_mut().ok_or(Error::Internal("cursor without a path"))?;
                if level.index < store.node(level.page).cell_count() {
                    level.index += 1;
                    entries += u64::from(!leaf_data);
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::btree::TABLE;
    use crate::btree::store::testing::{database, page, poke};
    use crate::error::Error;
    use crate::format::AutoVacuum;

    /// Nineteen interior pages, each of which has the next one four times as child: more paths
    /// than anybody can walk.
    #[test]
    fn counting_a_tree_of_shared_pages_comes_to_an_end() {
        let mut db = database(512, AutoVacuum::None);
        for number in 2..=21u32 {
            assert_eq!(db.create_table(TABLE), Ok(page(number)));
        }
        for number in 2..=20u32 {
            let child = (number + 1).to_be_bytes();
            let pointers = [1, 0xf1, 1, 0xf6, 1, 0xfb];
            let header = [&[5, 0, 0, 0, 3, 1, 0xf1, 0], &child[..], &pointers[..]];
            poke(&mut db, number, 0, &header.concat());
            for (index, at) in [0x1f1, 0x1f6, 0x1fb].into_iter().enumerate() {
                poke(&mut db, number, at, &[&child[..], &[index as u8]].concat());
            }
        }
        poke(&mut db, 21, 0, &[13, 0, 0, 0, 1, 1, 0xfc, 0, 1, 0xfc]);
        poke(&mut db, 21, 0x1fc, &[1, 1, b'x', 0]);
        let cursor = db.open_cursor(page(2), false).unwrap();
        assert_eq!(db.first(cursor), Ok(true));
        assert_eq!(db.count(cursor), Err(Error::corrupt("pages of the tree are used twice")));
    }
}
