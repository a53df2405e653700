//! Searching an index whose keys are records, in the order that its description gives them.
//!
//! The search is that of byte strings, see [`seek`](super::seek), with another comparison: the key
//! is taken apart once, and each entry that is probed is compared where it lies. Only if the bytes
//! on its page do not decide is the chain read, and as much of it as does.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::super::Key;
use super::super::node::NodeKind;
use super::super::store::Store;
use super::{Cursor, Position};
use crate::error::{Error, Result};
use crate::format::record::{Comparison, Field, KeyInfo, RecordKey, SearchMode};
use crate::pager::PageRef;

const UNDECIDED: Error = Error::Internal("a whole record decides");

impl Cursor {
    /// Says what the keys of the index are. On a tree that is no index every use of the cursor is
    /// damage from now on: whoever wrote the description meant another page.
    pub(super) fn describe_keys(&mut self, store: &mut Store, info: KeyInfo) {
        let index = NodeKind::INDEX_INTERIOR;
        if !self.kind(store).is_ok_and(|kind| kind.as_interior() == index) {
            self.fail(store, Error::corrupt("description of keys for a tree that is no index"));
        }
        self.key_info = Some(Arc::new(info));
    }

    /// Whether keys compare as records.
    #[inline]
    pub(super) fn has_records(&self) -> bool {
        self.key_info.is_some()
    }

    fn key_info(&self) -> Result<Arc<KeyInfo>> {
        self.key_info.clone().ok_or(Error::Misuse("the cursor has no description of keys"))
    }

    /// As [`Cursor::seek`](super::Cursor), for a key that is an encoded record.
    #[cold]
    pub(super) fn seek_record(&mut self, store: &mut Store, key: Key<'_>) -> Result<Ordering> {
        let info = self.key_info()?;
        let mut key = RecordKey::decode(bytes_of(key)?, &info)?;
        self.seek_key(store, &mut key)
    }

    /// As [`Cursor::seek_to_insert`](super::Cursor) after an insert behind the last entry.
    #[cold]
    pub(super) fn seek_record_to_append(
        &mut self,
        store: &mut Store,
        key: Key<'_>,
    ) -> Result<Ordering> {
        let info = self.key_info()?;
        let mut key = RecordKey::decode(bytes_of(key)?, &info)?;
        let found = self.compare_with_last(store, &mut key);
        if found.is_err() {
            self.forget(store);
        }
        if found? == Some(Ordering::Less) {
            return Ok(Ordering::Less);
        }
        let found = self.seek_key(store, &mut key)?;
        self.note_insert_place(store, found);
        Ok(found)
    }

    /// Whether the record in cell `index` of `page` is smaller than `wanted`.
    ///
    /// # Errors
    /// As [`Cursor::seek`](super::Cursor).
    pub(super) fn is_record_before(
        &self,
        store: &mut Store,
        page: PageRef,
        index: usize,
        wanted: &[u8],
    ) -> Result<bool> {
        let info = self.key_info()?;
        let mut key = RecordKey::decode(wanted, &info)?;
        Ok(store.compare_record(page, index, &mut key)?.is_lt())
    }

    /// Goes to the last entry and compares it with the key; `None` in an empty tree.
    fn compare_with_last(
        &mut self,
        store: &mut Store,
        key: &mut RecordKey<'_>,
    ) -> Result<Option<Ordering>> {
        if !self.last(store)? {
            return Ok(None);
        }
        let level = self.level()?;
        store.compare_record(level.page, level.index, key).map(Some)
    }

    /// Goes to an entry that is equal to the key of these fields, or to a neighbour of its place,
    /// and tells how the entry compares with the key; and the rowid that a prefix search reports.
    ///
    /// # Errors
    /// [`Error::Misuse`] without a description of keys; else as [`Cursor::seek`](super::Cursor).
    pub(super) fn seek_fields(
        &mut self,
        store: &mut Store,
        fields: &[Field],
        mode: SearchMode,
    ) -> Result<(Ordering, Option<i64>)> {
        if let Position::Fault(error) = self.position {
            return Err(error);
        }
        let info = self.key_info()?;
        let mut key = RecordKey::new(fields, &info, mode);
        let found = self.seek_key(store, &mut key)?;
        Ok((found, key.reported_rowid()))
    }

    fn seek_key(&mut self, store: &mut Store, key: &mut RecordKey<'_>) -> Result<Ordering> {
        let result = self.search(store, key);
        if result.is_err() {
            self.forget(store);
        }
        result
    }

    /// The binary search from the root.
    fn search(&mut self, store: &mut Store, key: &mut RecordKey<'_>) -> Result<Ordering> {
        self.start_move(store)?;
        loop {
            let page = self.level()?.page;
            let node = store.node(page);
            let is_leaf = node.is_leaf();
            let (mut low, mut high) = (0, node.cell_count());
            let mut probe = 0;
            let mut found = Ordering::Less;
            while low < high {
                probe = (low + high - 1) / 2;
                found = store.compare_record(page, probe, key)?;
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

    /// As [`Cursor::is_placed`](super::Cursor), for a key that is an encoded record.
    pub(super) fn is_placed_for_record(
        &self,
        store: &mut Store,
        key: Key<'_>,
        found: Ordering,
    ) -> Result<bool> {
        let info = self.key_info()?;
        let mut key = RecordKey::decode(bytes_of(key)?, &info)?;
        self.is_beside(store, found, |store, page, index| {
            store.compare_record(page, index, &mut key)
        })
    }
}

fn bytes_of(key: Key<'_>) -> Result<&[u8]> {
    match key {
        Key::Bytes(bytes) => Ok(bytes),
        Key::Integer(_) => Err(Error::Misuse("key of the wrong type")),
    }
}

impl Store {
    /// Compares the record in cell `index` of an index with `key`.
    #[inline]
    fn compare_record(
        &mut self,
        page: PageRef,
        index: usize,
        key: &mut RecordKey<'_>,
    ) -> Result<Ordering> {
        if let Some(record) = self.node(page).quick_payload(index) {
            return match key.compare(record, record.len()) {
                Ok(Comparison::Decided(found)) => Ok(found),
                Ok(Comparison::Undecided(_)) => Err(UNDECIDED),
                Err(error) => Err(error.on_page(self.pager.number(page).get())),
            };
        }
        let number = self.pager.number(page).get();
        self.compare_long_record(page, index, key).map_err(|error| error.on_page(number))
    }

    /// The same for a record with an overflow chain, or that is otherwise unusual.
    #[cold]
    fn compare_long_record(
        &mut self,
        page: PageRef,
        index: usize,
        key: &mut RecordKey<'_>,
    ) -> Result<Ordering> {
        let cell = self.node(page).cell(index)?;
        let (size, first, local) = (cell.payload as usize, cell.overflow, cell.local);
        let mut wanted = match key.compare(local, size)? {
            Comparison::Decided(found) => return Ok(found),
            Comparison::Undecided(wanted) => wanted,
        };
        let mut record = Vec::new();
        append(&mut record, local)?;
        let decided = self.visit_overflow(first, size - record.len(), |piece| {
            append(&mut record, piece)?;
            if record.len() < wanted && record.len() < size {
                return Ok(ControlFlow::Continue(()));
            }
            Ok(match key.compare(&record, size)? {
                Comparison::Decided(found) => ControlFlow::Break(found),
                // What was compared is compared again, so it must not happen for every page.
                Comparison::Undecided(more) => {
                    wanted = more.max(record.len().saturating_mul(2));
                    ControlFlow::Continue(())
                }
            })
        })?;
        decided.ok_or(UNDECIDED)
    }
}

/// Appends bytes of a record, which may be as long as the database.
fn append(record: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    record.try_reserve(bytes.len()).map_err(|_| Error::NoMemory)?;
    record.extend_from_slice(bytes);
    Ok(())
}
