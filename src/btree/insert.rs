//! Insert or replace.

use std::cmp::Ordering;

use crate::error::{Error, Result};
use crate::format::{PageNumber, varint};
use crate::pager::PageRef;

use super::balance;
use super::cursor::{Cursor, CursorId, DEPTH_MAX, Position};
use super::node::{Front, Node, NodeKind, SIZE_MIN, head_of_bytes, head_of_integer};
use super::pointer_map::Owner;
use super::store::Store;
use super::{Btree, InsertHints, Key};

/// Bytes left free ahead of a cell that is being built, for the child pointer it gets if it
/// replaces one on an interior page.
const CHILD_SIZE: usize = 4;

/// Longest payload in bytes.
const PAYLOAD_MAX: usize = i32::MAX as usize;

impl Btree {
    /// Inserts an entry, replacing the one with an equal key. In trees with integer keys the data
    /// is `data` followed by `zeros` zero bytes; in trees without data both are ignored. The
    /// cursor is left on cell 0 of the root, which is unspecified as far as callers go.
    ///
    /// # Errors
    /// [`State`](Error::State) without a write transaction, [`ReadOnly`](Error::ReadOnly);
    /// [`Permission`](Error::Permission) for a read-only cursor; [`Locked`](Error::Locked) if
    /// another, read-only cursor is open on the tree (see [`Btree::set_cursor_locks`]);
    /// [`LockedSharedCache`](Error::LockedSharedCache) if another connection of a shared page cache
    /// has a cursor open on it and does not read what is uncommitted;
    /// [`Misuse`](Error::Misuse) for a key of the wrong type or an entry of more than 2^31−1
    /// bytes; [`Corrupt`](Error::Corrupt), [`Full`](Error::Full) and errors of the pager: if
    /// something was changed by then, further changes repeat the error until it is rolled back.
    #[doc(alias = "sqlite3BtreeInsert")]
    #[inline]
    pub fn insert(
        &mut self,
        cursor: CursorId,
        key: Key<'_>,
        data: &[u8],
        zeros: u32,
    ) -> Result<()> {
        self.insert_with_hints(cursor, key, data, zeros, InsertHints::default())
    }

    /// As [`Btree::insert`], for a caller who knows something about the place of the entry. A
    /// wrong hint costs time and does no harm.
    ///
    /// # Errors
    /// As [`Btree::insert`].
    pub fn insert_with_hints(
        &mut self,
        cursor: CursorId,
        key: Key<'_>,
        data: &[u8],
        zeros: u32,
        hints: InsertHints,
    ) -> Result<()> {
        self.check_write_through(cursor, |_| Ok(()))?;
        let payload = check_payload(key, data, zeros)?;
        let mark = self.store.pager.mark();
        let result = match self.insert_behind(cursor, key, data, zeros, payload) {
            Ok(false) => self.insert_anywhere(cursor, key, data, zeros, hints),
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        };
        self.store.pager.release(mark);
        result
    }

    /// The short way for an entry that follows one which this cursor has put behind all others: it
    /// is written straight into the same leaf. `false` if there is no such leaf, or no room in
    /// one piece there; then nothing has changed.
    #[inline]
    fn insert_behind(
        &mut self,
        id: CursorId,
        key: Key<'_>,
        data: &[u8],
        zeros: u32,
        payload: usize,
    ) -> Result<bool> {
        // Others on the tree would have to be saved first (cursor invariant C3).
        if self.cursors.len() > 1 {
            return Ok(false);
        }
        let (cursor, store) = (self.cursors.get_mut(id)?, &mut self.store);
        let Some(leaf) = cursor.leaf_to_append(store, key, payload)? else { return Ok(false) };
        let count = store.node(leaf).cell_count();
        let appended = write_entry(store, leaf, count, key, data, zeros as usize);
        match cursor.position {
            Position::Parked if appended.is_ok() => appended,
            _ => {
                let parked = cursor.park(store);
                self.note_failure(appended.and_then(|appended| parked.map(|()| appended)))
            }
        }
    }

    /// Inserts after a search for the place.
    fn insert_anywhere(
        &mut self,
        id: CursorId,
        key: Key<'_>,
        data: &[u8],
        zeros: u32,
        hints: InsertHints,
    ) -> Result<()> {
        let found = self.prepare_insert(id, key, hints)?;
        let cursor = self.cursors.get_mut(id)?;
        let inserted = cursor.insert(&mut self.store, key, data, zeros as usize, found);
        let parked = cursor.park(&mut self.store);
        match (inserted, parked) {
            (Ok(()), Ok(())) => Ok(()),
            (inserted, parked) => self.note_failure(inserted.and(parked)),
        }
    }

    /// Puts another entry in the place of the one that the cursor is on, if it belongs just there:
    /// between its neighbours. `false` if it does not, or that takes a search to tell; then nothing
    /// has changed. Replaces records of an index whose key proper is only their beginning: one of
    /// the same size is written over the old one. The cursor is left as by [`Btree::insert`].
    ///
    /// ```
    /// # fn main() -> tclbtree::Result<()> {
    /// # use tclbtree::{Btree, Key, Options, TransactionKind};
    /// # let vfs = std::sync::Arc::new(tclbtree::MemoryVfs::new());
    /// # let mut btree = Btree::open(vfs, "doc.db", &Options::default())?;
    /// # btree.begin(TransactionKind::Write)?;
    /// # let root = btree.create_table(tclbtree::INDEX)?;
    /// # let id = btree.open_cursor(root, true)?;
    /// # for key in [b"a=1", b"b=1", b"c=1"] { btree.insert(id, Key::Bytes(key), &[], 0)?; }
    /// btree.seek(id, Key::Bytes(b"b=1"))?;
    /// assert!(btree.replace(id, Key::Bytes(b"b=2"), &[], 0)?);
    /// btree.seek(id, Key::Bytes(b"b=2"))?;
    /// assert!(!btree.replace(id, Key::Bytes(b"d=1"), &[], 0)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`State`](Error::State) on no entry; else as [`Btree::insert`].
    pub fn replace(
        &mut self,
        cursor: CursorId,
        key: Key<'_>,
        data: &[u8],
        zeros: u32,
    ) -> Result<bool> {
        let mark = self.store.pager.mark();
        let result = self.replace_entry(cursor, key, data, zeros);
        self.store.pager.release(mark);
        result
    }

    fn replace_entry(
        &mut self,
        id: CursorId,
        key: Key<'_>,
        data: &[u8],
        zeros: u32,
    ) -> Result<bool> {
        self.check_write_through(id, |btree| btree.check_on_entry(id))?;
        check_payload(key, data, zeros)?;
        self.save_cursors_on_tree_of(id)?;
        let (cursor, store) = (self.cursors.get_mut(id)?, &mut self.store);
        if !cursor.may_become(store, key)? {
            return Ok(false);
        }
        // This leaf may be any one, not that of the entries that were put behind all others.
        cursor.note_insert_place(store, Ordering::Equal);
        let replaced = cursor.insert(store, key, data, zeros as usize, Ordering::Equal);
        let parked = cursor.park(store);
        self.note_failure(replaced.and(parked))?;
        Ok(true)
    }

    /// Puts the cursor where an entry with `key` goes, and tells what is there as a search does,
    /// all other cursors on the tree being saved; nothing has changed yet if this fails.
    fn prepare_insert(
        &mut self,
        id: CursorId,
        key: Key<'_>,
        hints: InsertHints,
    ) -> Result<Ordering> {
        self.save_cursors_on_tree_of(id)?;
        let (cursor, store) = (self.cursors.get_mut(id)?, &mut self.store);
        if let Some(found) = hints.sought
            && cursor.is_placed(store, key, found)?
        {
            cursor.note_insert_place(store, found);
            return Ok(found);
        }
        cursor.appending |= hints.behind_all;
        cursor.seek_to_insert(store, key)
    }

    /// What every write through a cursor needs. `check_entry` is what deleting asks in between.
    ///
    /// # Errors
    /// As [`Btree::insert`].
    pub(super) fn check_write_through(
        &mut self,
        id: CursorId,
        check_entry: impl FnOnce(&mut Btree) -> Result<()>,
    ) -> Result<()> {
        if let Position::Fault(error) = self.cursors.get(id)?.position {
            return Err(error);
        }
        self.check_may_change()?;
        check_entry(self)?;
        let cursor = self.cursors.get(id)?;
        if !cursor.writable {
            return Err(Error::Permission);
        }
        let (root, owner) = (cursor.root, cursor.owner);
        if owner != self.session.id {
            return Err(Error::Misuse("the cursor belongs to another connection"));
        }
        if self.is_blocked_by_reader(root, Some(id)) {
            return Err(Error::Locked);
        }
        self.check_no_foreign_cursor(Some(root))
    }

    /// Saves every other cursor on the tree of cursor `id` (cursor invariant C3).
    pub(super) fn save_cursors_on_tree_of(&mut self, id: CursorId) -> Result<()> {
        if self.cursors.len() > 1 {
            let root = self.cursors.get(id)?.root;
            for (other, cursor) in self.cursors.iter_mut() {
                if other != id && cursor.root == root {
                    cursor.save(&mut self.store)?;
                }
            }
        }
        Ok(())
    }
}

/// The bytes of an entry, key and data.
fn check_payload(key: Key<'_>, data: &[u8], zeros: u32) -> Result<usize> {
    let key_size = if let Key::Bytes(key) = key { key.len() } else { 0 };
    let size = data.len().saturating_add(zeros as usize).saturating_add(key_size);
    match size {
        0..=PAYLOAD_MAX => Ok(size),
        _ => Err(Error::Misuse("entry of more than 2147483647 bytes")),
    }
}

/// Writes an entry, all of which may be on the page, to place `index` of a leaf; `false` if there
/// is no room in one piece.
#[inline(always)]
fn write_entry(
    store: &mut Store,
    leaf: PageRef,
    index: usize,
    key: Key<'_>,
    data: &[u8],
    zeros: usize,
) -> Result<bool> {
    let kind = store.node(leaf).kind();
    let page = store.pager.make_writable(leaf)?;
    let (data, zeros) = if kind.has_data() { (data, zeros) } else { (&[][..], 0) };
    let front = front_of(kind, key, data.len() + zeros);
    let head = || match key {
        Key::Integer(key) => head_of_integer(key),
        Key::Bytes(key) => head_of_bytes(key),
    };
    let key = if let Key::Bytes(key) = key { key } else { &[] };
    store.node_mut(page).insert_parts(index, front, [key, data], zeros, head)
}

/// The integers of the cell of an entry.
#[inline]
fn front_of(kind: NodeKind, key: Key<'_>, data: usize) -> Front {
    let key = match key {
        Key::Integer(key) => key as u64,
        Key::Bytes(key) => key.len() as u64,
    };
    Front { data: kind.as_leaf().has_data().then_some(data), key }
}

impl Cursor {
    /// Inserts where the cursor is, which found this when it searched for the key.
    fn insert(
        &mut self,
        store: &mut Store,
        key: Key<'_>,
        data: &[u8],
        zeros: usize,
        found: Ordering,
    ) -> Result<()> {
        let number = store.pager.number(self.level()?.page);
        let shape = store.shape;
        let result = match self.insert_local(store, key, data, zeros, found) {
            Ok(true) => Ok(()),
            Ok(false) => self.insert_built(store, key, data, zeros, found),
            Err(error) => Err(error),
        };
        // The next may follow an append, on the page that balancing has made the right-most one.
        self.appended_to = match self.appending && result.is_ok() {
            true if shape == store.shape => Some((number, shape)),
            true => store.rightmost_leaf(self.root).ok().map(|leaf| (leaf, store.shape)),
            false => None,
        };
        result
    }

    /// The short way for most entries: a new one on a leaf that has room for all of it in one
    /// piece. `false` if this is another; then nothing has changed.
    #[inline]
    fn insert_local(
        &mut self,
        store: &mut Store,
        key: Key<'_>,
        data: &[u8],
        zeros: usize,
        found: Ordering,
    ) -> Result<bool> {
        let level = self.level()?;
        let node = store.node(level.page);
        let kind = node.kind();
        let key_size = if let Key::Bytes(key) = key { key.len() } else { 0 };
        let data_size = if kind.has_data() { data.len() + zeros } else { 0 };
        let payload = key_size + data_size;
        let is_local = store.format.local_size(payload, kind.is_leaf_data()) == payload;
        if found.is_eq() || !kind.is_leaf() || !is_local {
            return Ok(false);
        }
        let behind = found.is_lt() && node.cell_count() > 0;
        let index = level.index + usize::from(behind);
        write_entry(store, level.page, index, key, data, zeros)
    }

    /// The long way: the cell is built, then put where it goes.
    fn insert_built(
        &mut self,
        store: &mut Store,
        key: Key<'_>,
        data: &[u8],
        zeros: usize,
        found: Ordering,
    ) -> Result<()> {
        let page = self.level()?.page;
        let (kind, number) = (store.node(page).kind(), store.pager.number(page));
        let mut cell = std::mem::take(&mut store.cell_buffer);
        let built = store.build_cell(&mut cell, kind, key, data, zeros);
        let result = built.and_then(|overflow| {
            if let Some(first) = overflow {
                store.set_owner(first, Owner::OverflowFirst(number))?;
            }
            self.put_cell(store, &mut cell, found)
        });
        store.cell_buffer = cell;
        result
    }

    /// Puts the finished cell in the place of the old one, or beside the neighbour that was found.
    fn put_cell(&mut self, store: &mut Store, cell: &mut [u8], found: Ordering) -> Result<()> {
        let level = self.level()?;
        let page = store.pager.make_writable(level.page)?;
        let node = store.node(level.page);
        let mut start = CHILD_SIZE;
        let mut index = level.index;
        if found.is_eq() {
            let old = node.cell(index)?;
            if !node.is_leaf() {
                cell[..CHILD_SIZE].copy_from_slice(&old.child.to_be_bytes());
                start = 0;
            }
            let (overflow, tail) = (old.overflow, old.payload as usize - old.local.len());
            if overflow != 0 {
                let first = store.checked_number(overflow)?;
                store.free_overflow(first, tail)?;
            }
            if store.node_mut(page).overwrite(index, cell[start..].into())? {
                return Ok(());
            }
            store.node_mut(page).remove(index)?;
        } else if found.is_lt() && node.cell_count() > 0 {
            index += 1;
        }
        let mut work = store.workspace.take().unwrap_or_default();
        let inserted = store.node_mut(page).insert_or_park(index, &cell[start..], work.spare());
        store.workspace = Some(work);
        inserted?;
        if store.node(level.page).parked_count() > 0 {
            balance::balance(store, &self.path)?;
        }
        Ok(())
    }
}

impl Store {
    /// The right-most leaf of the tree at `root`.
    fn rightmost_leaf(&mut self, root: PageNumber) -> Result<PageNumber> {
        let mut page = self.fetch_node(root)?;
        for _ in 0..DEPTH_MAX {
            let node = self.node(page);
            if node.is_leaf() {
                return Ok(self.pager.number(page));
            }
            let child = node.right_child()?;
            page = self.fetch_child(page, child)?;
        }
        Err(Error::corrupt("tree is too deep"))
    }

    /// Builds the cell of an entry in `out`, behind room for a child pointer, with its overflow
    /// chain allocated and filled. Returns the first page of the chain.
    fn build_cell(
        &mut self,
        out: &mut Vec<u8>,
        kind: NodeKind,
        key: Key<'_>,
        data: &[u8],
        zeros: usize,
    ) -> Result<Option<PageNumber>> {
        let has_data = kind.as_leaf().has_data();
        let (data, zeros) = if has_data { (data, zeros) } else { (&[][..], 0) };
        let key_bytes = if let Key::Bytes(key) = key { key } else { &[] };
        let data_size = data.len() + zeros;
        let payload = key_bytes.len() + data_size;
        let local = self.format.local_size(payload, kind.is_leaf_data());
        out.clear();
        crate::memory::reserve(out, CHILD_SIZE + 2 * varint::MAX_LENGTH + local + 4)?;
        out.extend([0; CHILD_SIZE]);
        front_of(kind, key, data_size).append_to(out);
        let end = out.len() + local;
        for piece in [key_bytes, data] {
            let room = end - out.len();
            out.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        out.resize(end, 0);
        if local == payload {
            return Ok(None);
        }
        let explicit = key_bytes.len() + data.len();
        let zeros_beyond = zeros - local.saturating_sub(explicit);
        let first = self.write_overflow(&[key_bytes, data], local.min(explicit), zeros_beyond)?;
        out.extend(first.get().to_be_bytes());
        Ok(Some(first))
    }

    /// The bytes of a cell, which takes these on its page, without padding: what is left when it
    /// moves to a page where other rules for padding hold.
    #[inline]
    pub(super) fn unpadded_size(&self, cell: &[u8], kind: NodeKind) -> Result<usize> {
        if cell.len() > SIZE_MIN { Ok(cell.len()) } else { self.decoded_size(cell, kind) }
    }

    #[cold]
    fn decoded_size(&self, cell: &[u8], kind: NodeKind) -> Result<usize> {
        let decoded = Node::decode_cell(cell, kind, &self.format)?;
        let link = if decoded.overflow != 0 { 4 } else { 0 };
        Ok(decoded.header + decoded.local.len() + link)
    }
}

#[cfg(test)]
mod tests;
