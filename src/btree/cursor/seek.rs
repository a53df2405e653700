//! Binary search from the root, one page after the other.
//!
//! Where a search without a match ends can be observed, so the probes are fixed: on each page the
//! middle one of the cells that are left; in a tree with integer keys the last one instead, as
//! long as no probe of this search has hit a larger key.

use std::cmp::Ordering;

use crate::error::{Error, Result};

use super::super::Key;
use super::super::store::Store;
use super::{Cursor, Position};

impl Cursor {
    /// Goes to the entry with `key`, or to a neighbour of its place on the leaf where it would be.
    /// Tells how the entry compares with the key; `Less` also if the tree is empty.
    ///
    /// # Errors
    /// [`Error::Misuse`] if the tree has keys of the other type; the cursor is then where it was.
    /// [`Error::Corrupt`] and errors of the pager leave it on no entry.
    pub(in crate::btree) fn seek(&mut self, store: &mut Store, key: Key<'_>) -> Result<Ordering> {
        if let Position::Fault(error) = self.position {
            return Err(error);
        }
        if self.path.is_empty() {
            self.hold_root(store)?;
        }
        let integer_keys = self.kind(store)?.has_integer_keys();
        if integer_keys != matches!(key, Key::Integer(_)) {
            return Err(Error::Misuse("key of the wrong type"));
        }
        if let (Key::Integer(wanted), Position::OnEntry) = (key, &self.position)
            && let Some(found) = self.seek_shortcut(store, wanted)?
        {
            return Ok(found);
        }
        let result = match key {
            Key::Integer(wanted) => self.seek_integer(store, wanted),
            Key::Bytes(wanted) => self.seek_bytes(store, wanted),
        };
        if result.is_err() {
            self.forget(store);
        }
        result
    }

    /// Answers without a search if the cursor is on the wanted entry already, or on the last one
    /// with a larger key wanted.
    fn seek_shortcut(&self, store: &Store, wanted: i64) -> Result<Option<Ordering>> {
        let level = self.level()?;
        let node = store.node(level.page);
        if !node.is_leaf() {
            return Ok(None);
        }
        match node.integer_key(level.index)?.cmp(&wanted) {
            Ordering::Equal => Ok(Some(Ordering::Equal)),
            Ordering::Less if self.is_on_last(store) => Ok(Some(Ordering::Less)),
            _ => Ok(None),
        }
    }

    /// Whether the cursor is on the last entry of its tree.
    fn is_on_last(&self, store: &Store) -> bool {
        self.path.iter().all(|level| {
            let node = store.node(level.page);
            level.index + usize::from(node.is_leaf()) >= node.cell_count()
        })
    }

    fn seek_integer(&mut self, store: &mut Store, wanted: i64) -> Result<Ordering> {
        self.start_move(store)?;
        let mut rightmost_first = true;
        loop {
            let page = self.level()?.page;
            let node = store.node(page);
            let (mut low, mut high) = (0usize, node.cell_count());
            let mut probe = 0;
            let mut found = Ordering::Less;
            while low < high {
                probe = if rightmost_first { high - 1 } else { (low + high - 1) / 2 };
                found = node.integer_key(probe)?.cmp(&wanted);
                match found {
                    Ordering::Less => low = probe + 1,
                    Ordering::Greater => {
                        high = probe;
                        rightmost_first = false;
                    }
                    Ordering::Equal => {
                        low = probe;
                        break;
                    }
                }
            }
            let arrived = node.is_leaf() || found.is_eq() && !node.kind().is_leaf_data();
            if let Some(done) = self.settle_or_descend(store, arrived, probe, low, found)? {
                return Ok(done);
            }
        }
    }

    fn seek_bytes(&mut self, store: &mut Store, wanted: &[u8]) -> Result<Ordering> {
        self.start_move(store)?;
        loop {
            let page = self.level()?.page;
            let node = store.node(page);
            let is_leaf = node.is_leaf();
            let (mut low, mut high) = (0usize, node.cell_count());
            let mut probe = 0;
            let mut found = Ordering::Less;
            while low < high {
                probe = (low + high - 1) / 2;
                found = store.compare_key(page, probe, wanted)?;
                match found {
                    Ordering::Less => low = probe + 1,
                    Ordering::Greater => high = probe,
                    Ordering::Equal => break,
                }
            }
            let arrived = is_leaf || found.is_eq();
            if let Some(done) = self.settle_or_descend(store, arrived, probe, low, found)? {
                return Ok(done);
            }
        }
    }

    /// Ends the search on the cell probed last, or goes down left of cell `low`.
    #[inline]
    fn settle_or_descend(
        &mut self,
        store: &mut Store,
        arrived: bool,
        probe: usize,
        low: usize,
        found: Ordering,
    ) -> Result<Option<Ordering>> {
        let level = self.path.last_mut().ok_or(Error::Internal("cursor without a path"))?;
        let node = store.node(level.page);
        if arrived {
            level.index = probe;
            if node.cell_count() > 0 {
                self.position = Position::OnEntry;
            }
            return Ok(Some(found));
        }
        level.index = low;
        let child = node.child(low)?;
        self.descend(store, child)?;
        Ok(None)
    }
}

impl Store {
    /// Compares the byte-string key of cell `index` with `wanted`, reading overflow pages only if
    /// the bytes on the page do not decide.
    #[inline]
    fn compare_key(
        &mut self,
        page: crate::pager::PageRef,
        index: usize,
        wanted: &[u8],
    ) -> Result<Ordering> {
        let cell = self.node(page).cell(index)?;
        let key_size = cell.key as usize;
        let local = cell.local.get(..key_size).unwrap_or(cell.local);
        let common = local.len().min(wanted.len());
        match local[..common].cmp(&wanted[..common]) {
            Ordering::Equal => {}
            decided => return Ok(decided),
        }
        if common == wanted.len() || local.len() == key_size {
            return Ok(key_size.cmp(&wanted.len()));
        }
        let (overflow, local_size) = (cell.overflow, local.len());
        self.compare_overflow(overflow, key_size - local_size, &wanted[common..])
    }

    /// Compares the rest of a key, `size` bytes on the chain at `first`, with `wanted`.
    #[cold]
    fn compare_overflow(&mut self, first: u32, size: usize, wanted: &[u8]) -> Result<Ordering> {
        let first = self.checked_number(first)?;
        let mark = self.pager.mark();
        let mut offset = 0;
        let mut buffer = [0u8; 1024];
        let common = size.min(wanted.len());
        while offset < common {
            let length = buffer.len().min(common - offset);
            let piece = &mut buffer[..length];
            self.read_overflow(first, offset, piece)?;
            self.pager.release(mark);
            match piece[..].cmp(&wanted[offset..offset + length]) {
                Ordering::Equal => offset += length,
                decided => return Ok(decided),
            }
        }
        Ok(size.cmp(&wanted.len()))
    }
}
