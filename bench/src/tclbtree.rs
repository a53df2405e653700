//! This engine through its public Rust interface.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tclbtree::format::{PageNumber, PageSize};
use tclbtree::pager::{JournalMode, LockingMode, SafetyLevel};
use tclbtree::{Btree, CursorId, Key, LockedCursor, Options, TransactionKind, UnixVfs};

use crate::data::{Entry, Piece, RecordBuffer, split_record, sum_words};
use crate::store::{Durability, Failure, Journal, KeyKind, Result, Settings, Store};

/// The tree is the first one made in the file, and without auto-vacuum it gets page 2.
const ROOT: u32 = 2;

/// Ours.
pub struct Tclbtree {
    btree: Btree,
    cursor: Option<CursorId>,
    kind: KeyKind,
    record: RecordBuffer,
}

impl From<tclbtree::Error> for Failure {
    fn from(error: tclbtree::Error) -> Failure {
        Failure(error.to_string())
    }
}

fn no_transaction() -> Failure {
    Failure("no transaction".into())
}

fn root() -> Result<PageNumber> {
    PageNumber::new(ROOT).ok_or_else(|| Failure("no page 2".into()))
}

impl Tclbtree {
    fn begin(&mut self, kind: TransactionKind) -> Result<()> {
        self.btree.begin(kind)?;
        let writable = kind != TransactionKind::Read;
        self.cursor = Some(self.btree.open_cursor(root()?, writable)?);
        Ok(())
    }

    #[inline]
    fn cursor(&self) -> Result<CursorId> {
        self.cursor.ok_or_else(no_transaction)
    }

    fn create_tree(&mut self) -> Result<()> {
        self.btree.begin(TransactionKind::Write)?;
        let made = self.btree.create_table(match self.kind {
            KeyKind::Int => tclbtree::TABLE,
            KeyKind::Key => tclbtree::btree::INDEX,
        })?;
        if made != root()? {
            return Err(Failure(format!("the first tree got page {made}")));
        }
        Ok(self.btree.commit()?)
    }
}

/// Hands key and value of the entry to `each`, as [`Store::scan`] does.
#[inline(always)]
fn visit(
    cursor: &mut LockedCursor<'_>,
    kind: KeyKind,
    each: &mut impl FnMut(u64, Piece<'_>),
) -> Result<()> {
    match (cursor.local_entry()?, kind) {
        (Some((key, payload)), KeyKind::Int) => each(key as u64, Piece::whole(payload)),
        (Some((_, payload)), KeyKind::Key) => {
            let (key, value) = split_record(payload);
            each(sum_words(key), Piece::whole(value));
        }
        (None, KeyKind::Int) => {
            let mut key = cursor.integer_key()? as u64;
            visit_long(cursor, kind, None, |_, value| each(std::mem::take(&mut key), value))?;
        }
        (None, KeyKind::Key) => {
            visit_long(cursor, kind, None, |key, value| each(sum_words(key), value))?;
        }
    }
    Ok(())
}

/// Hands the value of an entry that has overflow pages to `each`, in pieces where they lie, the
/// first one with its key if that is a string, which is always on the leaf. `false` if that is not
/// the one that is wanted; nothing is handed over then.
fn visit_long(
    cursor: &mut LockedCursor<'_>,
    kind: KeyKind,
    wanted: Option<&[u8]>,
    mut each: impl FnMut(&[u8], Piece<'_>),
) -> Result<bool> {
    let mut left = cursor.payload_size()? as usize;
    let mut is_first = true;
    let is_other = cursor.visit_payload(|bytes| {
        left -= bytes.len();
        let (key, bytes) = match kind {
            KeyKind::Key if is_first => split_record(bytes),
            _ => (&[][..], bytes),
        };
        if is_first && wanted.is_some_and(|wanted| wanted != key) {
            return ControlFlow::Break(());
        }
        is_first = false;
        each(key, Piece { bytes, is_last: left == 0 });
        ControlFlow::Continue(())
    })?;
    Ok(is_other.is_none())
}

/// Puts the cursor on the first record that is not smaller than the wanted one, the beginning of a
/// record; `false` if there is none.
#[inline]
fn seek_record(cursor: &mut LockedCursor<'_>, wanted: &[u8]) -> Result<bool> {
    // A prefix is smaller than every record that begins with it, so the search ends just before
    // the record or on it.
    Ok(cursor.seek(Key::Bytes(wanted))? != Ordering::Less || cursor.next()?)
}

/// Puts the cursor on the first entry that is not smaller than this one; `false` if there is none.
/// The rows that use it ask for entries that exist.
#[inline(always)]
fn seek(
    cursor: &mut LockedCursor<'_>,
    kind: KeyKind,
    record: &mut RecordBuffer,
    entry: &Entry<'_>,
) -> Result<bool> {
    match kind {
        KeyKind::Int => Ok(cursor.seek(Key::Integer(entry.rowid))?.is_eq()),
        KeyKind::Key => seek_record(cursor, record.prefix(entry)),
    }
}

impl Store for Tclbtree {
    const NAME: &'static str = "tclbtree";

    const IS_BARE_SQLITE: bool = true;

    fn suits(settings: &Settings) -> bool {
        settings.journal != Journal::Wal
    }

    fn open(path: &Path, settings: &Settings, is_new: bool) -> Result<Tclbtree> {
        let page_size = PageSize::new(settings.page_size)
            .ok_or_else(|| Failure(format!("no page size: {}", settings.page_size)))?;
        let cache_size = i32::try_from(settings.cache_pages).unwrap_or(i32::MAX);
        let options = Options { page_size, cache_size, ..Options::default() };
        let mut btree = Btree::open(Arc::new(UnixVfs::new()), path, &options)?;
        let safety = match settings.durability {
            Durability::NoSync => SafetyLevel::Off,
            Durability::Durable => SafetyLevel::Full,
        };
        btree.set_safety_level(safety, false);
        btree.set_journal_mode(match settings.journal {
            Journal::Delete | Journal::Wal => JournalMode::Delete,
            Journal::Truncate => JournalMode::Truncate,
            Journal::Persist => JournalMode::Persist,
            Journal::Memory => JournalMode::Memory,
        })?;
        if settings.exclusive {
            btree.set_locking_mode(LockingMode::Exclusive);
        }
        let mut store =
            Tclbtree { btree, cursor: None, kind: settings.kind, record: RecordBuffer::default() };
        if is_new {
            store.create_tree()?;
        }
        Ok(store)
    }

    fn close(self) -> Result<()> {
        self.btree.close();
        Ok(())
    }

    fn begin_read(&mut self) -> Result<()> {
        self.begin(TransactionKind::Read)
    }

    fn begin_write(&mut self) -> Result<()> {
        self.begin(TransactionKind::Write)
    }

    fn commit(&mut self) -> Result<()> {
        if let Some(cursor) = self.cursor.take() {
            self.btree.close_cursor(cursor);
        }
        Ok(self.btree.commit()?)
    }

    #[inline]
    fn put(&mut self, entry: &Entry<'_>) -> Result<()> {
        let cursor = self.cursor()?;
        match self.kind {
            KeyKind::Int => {
                self.btree.insert(cursor, Key::Integer(entry.rowid), entry.value, 0)?;
            }
            KeyKind::Key => {
                self.btree.insert(cursor, Key::Bytes(self.record.record(entry)), &[], 0)?;
            }
        }
        Ok(())
    }

    fn replace(&mut self, entry: &Entry<'_>) -> Result<()> {
        if self.kind == KeyKind::Key {
            // The tree compares whole records: the one with this key is found first, and another
            // value usually belongs in the same place.
            let id = self.cursor()?;
            if !seek(&mut self.btree.lock_cursor(id)?, self.kind, &mut self.record, entry)? {
                return Err(Failure("the entry to replace was not found".into()));
            }
            if self.btree.replace(id, Key::Bytes(self.record.record(entry)), &[], 0)? {
                return Ok(());
            }
            self.btree.delete(id)?;
        }
        self.put(entry)
    }

    fn get(&mut self, entry: &Entry<'_>, read: impl FnMut(Piece<'_>)) -> Result<bool> {
        Ok(self.get_each(std::iter::once(*entry), read)? == 1)
    }

    fn get_each<'e>(
        &mut self,
        entries: impl Iterator<Item = Entry<'e>>,
        mut read: impl FnMut(Piece<'_>),
    ) -> Result<u64> {
        let id = self.cursor()?;
        let mut cursor = self.btree.lock_cursor(id)?;
        let (kind, record) = (self.kind, &mut self.record);
        let mut found = 0;
        for wanted in entries {
            if !seek(&mut cursor, kind, record, &wanted)? {
                continue;
            }
            let key = (kind == KeyKind::Key).then_some(&wanted.key[..]);
            found += u64::from(match cursor.local_entry()? {
                None => visit_long(&mut cursor, kind, key, |_, value| read(value))?,
                Some((_, payload)) => {
                    let (is_it, value) = match key {
                        None => (true, payload),
                        Some(wanted) => {
                            let (key, value) = split_record(payload);
                            (key == wanted, value)
                        }
                    };
                    if is_it {
                        read(Piece::whole(value));
                    }
                    is_it
                }
            });
        }
        Ok(found)
    }

    fn scan(&mut self, mut each: impl FnMut(u64, Piece<'_>)) -> Result<()> {
        let id = self.cursor()?;
        let mut cursor = self.btree.lock_cursor(id)?;
        let mut on_entry = cursor.first()?;
        while on_entry {
            visit(&mut cursor, self.kind, &mut each)?;
            on_entry = cursor.next()?;
        }
        Ok(())
    }

    fn scan_back(&mut self, mut each: impl FnMut(u64, Piece<'_>)) -> Result<()> {
        let id = self.cursor()?;
        let mut cursor = self.btree.lock_cursor(id)?;
        let mut on_entry = cursor.last()?;
        while on_entry {
            visit(&mut cursor, self.kind, &mut each)?;
            on_entry = cursor.previous()?;
        }
        Ok(())
    }

    fn range(
        &mut self,
        start: &Entry<'_>,
        count: usize,
        mut each: impl FnMut(u64, Piece<'_>),
    ) -> Result<()> {
        let id = self.cursor()?;
        let mut cursor = self.btree.lock_cursor(id)?;
        let mut on_entry = seek(&mut cursor, self.kind, &mut self.record, start)?;
        for _ in 0..count {
            if !on_entry {
                break;
            }
            visit(&mut cursor, self.kind, &mut each)?;
            on_entry = cursor.next()?;
        }
        Ok(())
    }

    fn delete(&mut self, entry: &Entry<'_>) -> Result<()> {
        let id = self.cursor()?;
        let found = seek(&mut self.btree.lock_cursor(id)?, self.kind, &mut self.record, entry)?;
        match found {
            true => Ok(self.btree.delete(id)?),
            false => Err(Failure("the entry to delete was not found".into())),
        }
    }

    fn check(&mut self) -> Result<()> {
        let messages = self.btree.integrity_check(&[1, i64::from(ROOT)], 100)?;
        match messages.is_empty() {
            true => Ok(()),
            false => Err(Failure(messages.join("\n"))),
        }
    }
}
