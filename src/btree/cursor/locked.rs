//! A cursor held over many calls: resolved once, and nothing else can happen to its tree meanwhile.
//!
//! Invariant K1: if there is a `page`, it is the leaf that the cursor is on an entry of, with
//! `cells` cells, and the entry is cell `index`. That of the path (cursor invariant C2) is put
//! right before anybody looks at it. Without a `page`, `cells` and `index` are 0.
//!
//! Invariant K2: `entry` is that cell or not known, so each cell is decoded once, whatever is asked
//! of it; `rows` says that there is a page, and that it is the leaf of a table.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::super::node::{NodeKind, QuickEntry};
use super::super::store::Store;
use super::super::{Btree, Key};
use super::payload::Part;
use super::{Cursor, CursorId, Position};
use crate::error::Result;
use crate::memory::prefetch_all;
use crate::pager::PageRef;

/// How many entries ahead of a scan memory is asked for: it arrives in the time of three steps or
/// so.
const PREFETCH_STEPS: usize = 4;

impl Btree {
    /// The cursor, to be used many times: steps along a leaf then touch nothing but an index.
    /// What it does is what the functions of the same names do with a [`CursorId`].
    ///
    /// ```
    /// # fn main() -> tclbtree::Result<()> {
    /// # use tclbtree::{Btree, Key, Options, TransactionKind, format::PageNumber};
    /// # let vfs = std::sync::Arc::new(tclbtree::MemoryVfs::new());
    /// # let mut btree = Btree::open(vfs, "doc.db", &Options::default())?;
    /// # btree.begin(TransactionKind::Write)?;
    /// # let root = btree.create_table(tclbtree::TABLE)?;
    /// # let id = btree.open_cursor(root, true)?;
    /// # for key in 1..=3 { btree.insert(id, Key::Integer(key), b"two", 0)?; }
    /// let mut bytes = 0;
    /// let mut cursor = btree.lock_cursor(id)?;
    /// let mut on_entry = cursor.first()?;
    /// while on_entry {
    ///     bytes += cursor.payload_size()?;
    ///     on_entry = cursor.next()?;
    /// }
    /// assert_eq!(bytes, 9);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Misuse`](crate::Error::Misuse) if it was closed.
    #[inline]
    pub fn lock_cursor(&mut self, cursor: CursorId) -> Result<LockedCursor<'_>> {
        let cursor = self.cursors.get_mut(cursor)?;
        let store = &mut self.store;
        let (entry, ahead) = (QuickEntry::UNKNOWN, None);
        let mut locked = LockedCursor {
            cursor,
            store,
            page: None,
            index: 0,
            cells: 0,
            entry,
            rows: false,
            ahead,
            step: 0,
        };
        locked.look();
        Ok(locked)
    }
}

/// A cursor that is being used, see [`Btree::lock_cursor`].
#[derive(Debug)]
pub struct LockedCursor<'a> {
    cursor: &'a mut Cursor,
    store: &'a mut Store,
    page: Option<PageRef>,
    index: usize,
    cells: usize,
    entry: QuickEntry,
    rows: bool,
    /// The leaf that a scan comes to behind this one, if it is in the cache. Not pinned: good for
    /// prefetching only, where another page in its frame does no harm.
    ahead: Option<PageRef>,
    /// 1 in a scan forward, -1 in one backward that has come to another leaf, else 0.
    step: isize,
}

impl Drop for LockedCursor<'_> {
    #[inline]
    fn drop(&mut self) {
        self.put_back();
    }
}

impl LockedCursor<'_> {
    /// Takes over where the cursor is (K1).
    #[inline]
    fn look(&mut self) {
        (self.page, self.index, self.cells, self.rows) = (None, 0, 0, false);
        self.entry = QuickEntry::UNKNOWN;
        if let (Position::OnEntry, Some(level)) = (&self.cursor.position, self.cursor.path.last()) {
            let node = self.store.node(level.page);
            if node.is_leaf() {
                self.page = Some(level.page);
                self.rows = node.kind() == NodeKind::TABLE_LEAF;
                (self.index, self.cells) = (level.index, node.cell_count());
            }
        }
    }

    /// Puts the path right.
    #[inline]
    fn put_back(&mut self) {
        if self.page.is_some()
            && let Some(level) = self.cursor.path.last_mut()
        {
            level.index = self.index;
        }
    }

    /// Runs `work` on the cursor and lets go of the pages that it fetched.
    fn work<T>(&mut self, work: impl FnOnce(&mut Cursor, &mut Store) -> Result<T>) -> Result<T> {
        self.put_back();
        let mark = self.store.pager.mark();
        let result = work(self.cursor, self.store);
        self.store.pager.release(mark);
        self.look();
        result
    }

    /// As [`Btree::first`].
    ///
    /// # Errors
    /// As there.
    pub fn first(&mut self) -> Result<bool> {
        self.work(Cursor::go_first)
    }

    /// As [`Btree::last`].
    ///
    /// # Errors
    /// As there.
    pub fn last(&mut self) -> Result<bool> {
        self.work(Cursor::go_last)
    }

    /// As [`Btree::next`].
    ///
    /// # Errors
    /// As there.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Result<bool> {
        if self.index + 1 < self.cells {
            self.index += 1;
            self.entry = QuickEntry::UNKNOWN;
            if self.step != 1 {
                self.start_forward();
            }
            self.prefetch_forward();
            return Ok(true);
        }
        self.next_slowly()
    }

    #[inline(never)]
    fn next_slowly(&mut self) -> Result<bool> {
        let result = self.work(Cursor::next_slowly);
        self.look_ahead(1);
        result
    }

    /// Asks for the memory of the entries between this one and the one some steps ahead.
    fn start_forward(&mut self) {
        (self.ahead, self.step) = (None, 1);
        if let Some(page) = self.page {
            let node = self.store.node(page);
            (1..PREFETCH_STEPS).for_each(|steps| node.prefetch_cell(self.index + steps));
        }
    }

    /// Asks for the memory of the entry some steps ahead.
    #[inline(always)]
    fn prefetch_forward(&mut self) {
        let index = self.index + PREFETCH_STEPS;
        if index < self.cells {
            if let Some(page) = self.page {
                self.store.node(page).prefetch_cell(index);
            }
        } else if let Some(ahead) = self.ahead {
            self.store.node(ahead).prefetch_cell(index - self.cells);
        }
    }

    /// The same for a scan backwards.
    #[inline(always)]
    fn prefetch_backward(&mut self) {
        if let Some(index) = self.index.checked_sub(PREFETCH_STEPS) {
            if let Some(page) = self.page {
                self.store.node(page).prefetch_cell(index);
            }
        } else if let Some(ahead) = self.ahead {
            let node = self.store.node(ahead);
            node.prefetch_cell((node.cell_count() + self.index).wrapping_sub(PREFETCH_STEPS));
        }
    }

    /// Asks for the memory of the entry that a scan comes to next, if it has overflow pages: what
    /// is on the leaf, and the first of those pages.
    fn prefetch_overflow(&mut self) {
        let (page, index) = match (self.index.checked_add_signed(self.step), self.ahead) {
            _ if self.step == 0 => return,
            (Some(index), _) if index < self.cells => (self.page, index),
            (Some(_), ahead) => (ahead, 0),
            (None, Some(ahead)) => {
                (self.ahead, self.store.node(ahead).cell_count().wrapping_sub(1))
            }
            (None, None) => return,
        };
        if let Some(page) = page
            && let Ok(cell) = self.store.node(page).cell(index)
            && cell.overflow != 0
        {
            prefetch_all(cell.local);
            self.store.prefetch_page(cell.overflow);
        }
    }

    /// Finds the leaf beside this one, `step` children on in the parent, and asks for the memory
    /// that says where its cells are.
    fn look_ahead(&mut self, step: isize) {
        (self.ahead, self.step) = (None, step);
        let [.., parent, _] = self.cursor.path.as_slice() else { return };
        let Some(index) = parent.index.checked_add_signed(step) else { return };
        if let Ok(child) = self.store.node(parent.page).child(index) {
            self.ahead = self.store.prefetch_node(child);
        }
    }

    /// As [`Btree::previous`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn previous(&mut self) -> Result<bool> {
        if self.index > 0 {
            self.index -= 1;
            self.entry = QuickEntry::UNKNOWN;
            self.prefetch_backward();
            return Ok(true);
        }
        self.previous_slowly()
    }

    #[inline(never)]
    fn previous_slowly(&mut self) -> Result<bool> {
        let result = self.work(Cursor::previous_slowly);
        self.look_ahead(-1);
        result
    }

    /// As [`Btree::seek`].
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn seek(&mut self, key: Key<'_>) -> Result<Ordering> {
        match key {
            Key::Integer(wanted) if self.rows && self.is_step_to(wanted) => Ok(Ordering::Equal),
            _ => self.seek_slowly(key),
        }
    }

    #[inline(never)]
    fn seek_slowly(&mut self, key: Key<'_>) -> Result<Ordering> {
        if let Key::Integer(wanted) = key
            && self.rows
            && self.index + 1 == self.cells
            && self.knows_entry()
            && self.entry.key.checked_add(1) == Some(wanted)
            && self.next_slowly() == Ok(true)
            && self.is_step_to(wanted)
        {
            return Ok(Ordering::Equal); // The first of the next leaf.
        }
        self.step = 0;
        match key {
            Key::Integer(_) if self.rows => {
                self.work(|cursor, store| cursor.seek_anew_to_read(store, key))
            }
            _ => self.work(|cursor, store| cursor.seek_to_read(store, key)),
        }
    }

    /// Goes to the row with this key, if that is the one it is on or the next one on the page, as
    /// when keys are asked for in order.
    #[inline(always)]
    fn is_step_to(&mut self, wanted: i64) -> bool {
        if !self.knows_entry() {
            return false;
        }
        if self.entry.key.wrapping_add(1) != wanted {
            return self.entry.key == wanted;
        }
        let next = self.page.and_then(|page| self.store.node(page).quick_entry(self.index + 1));
        match next {
            Some(next) if next.key == wanted => {
                self.index += 1;
                self.entry = next;
                self.prefetch_forward();
                true
            }
            _ => false,
        }
    }

    /// Decodes the entry unless that was done (K2); `false` if it is of an unusual sort, or none.
    #[inline(always)]
    fn knows_entry(&mut self) -> bool {
        if self.entry.is_unknown()
            && let Some(page) = self.page
            && let Some(entry) = self.store.node(page).quick_entry(self.index)
        {
            self.entry = entry;
        }
        !self.entry.is_unknown()
    }

    /// As [`Btree::is_at_end`].
    pub fn is_at_end(&mut self) -> bool {
        let on_entry = |cursor: &mut Cursor, store: &mut Store| {
            cursor.restore(store)?;
            Ok(cursor.is_on_cell(store))
        };
        self.page.is_none() && !self.work(on_entry).unwrap_or(false)
    }

    /// As [`Btree::local_entry`].
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn local_entry(&mut self) -> Result<Option<(i64, &[u8])>> {
        if self.knows_entry()
            && let Some(page) = self.page
        {
            return Ok(Some((self.entry.key, self.store.node(page).payload_of(self.entry))));
        }
        self.local_entry_slowly()
    }

    #[inline(never)]
    fn local_entry_slowly(&mut self) -> Result<Option<(i64, &[u8])>> {
        self.settle()?;
        self.cursor.local_entry(self.store)
    }

    /// Finds a saved position again and puts the path right, for reading.
    fn settle(&mut self) -> Result<()> {
        self.put_back();
        if self.cursor.is_unsettled() {
            self.work(Cursor::restore)?;
        }
        Ok(())
    }

    /// As [`Btree::integer_key`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn integer_key(&mut self) -> Result<i64> {
        if self.knows_entry() {
            return Ok(self.entry.key);
        }
        self.settle()?;
        self.cursor.integer_key(self.store)
    }

    /// As [`Btree::payload_size`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn payload_size(&mut self) -> Result<u32> {
        if self.knows_entry() {
            return Ok(self.entry.payload_size());
        }
        self.settle()?;
        self.cursor.payload_size(self.store)
    }

    /// As [`Btree::key`].
    ///
    /// # Errors
    /// As there.
    pub fn key(&mut self) -> Result<Vec<u8>> {
        self.read(|cursor, store| cursor.read_whole(store, Part::Key))
    }

    /// As [`Btree::data`].
    ///
    /// # Errors
    /// As there.
    pub fn data(&mut self) -> Result<Vec<u8>> {
        self.read(|cursor, store| cursor.read_whole(store, Part::Data))
    }

    /// As [`Btree::read_key`].
    ///
    /// # Errors
    /// As there.
    pub fn read_key(&mut self, offset: u32, out: &mut [u8]) -> Result<()> {
        self.read(|cursor, store| cursor.read_part(store, Part::Key, offset as usize, out))
    }

    /// As [`Btree::read_data`].
    ///
    /// # Errors
    /// As there.
    pub fn read_data(&mut self, offset: u32, out: &mut [u8]) -> Result<()> {
        self.read(|cursor, store| cursor.read_part(store, Part::Data, offset as usize, out))
    }

    /// As [`Btree::visit_payload`].
    ///
    /// # Errors
    /// As there.
    pub fn visit_payload<T>(
        &mut self,
        visit: impl FnMut(&[u8]) -> ControlFlow<T>,
    ) -> Result<Option<T>> {
        self.read(|cursor, store| cursor.visit_payload(store, visit))
    }

    /// Runs `read` on the cursor, its saved position found again.
    fn read<T>(&mut self, read: impl FnOnce(&mut Cursor, &mut Store) -> Result<T>) -> Result<T> {
        let result =
            self.work(|cursor, store| cursor.restore(store).and_then(|()| read(cursor, store)));
        self.prefetch_overflow();
        result
    }
}
