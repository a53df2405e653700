//! This engine through its public Rust interface.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use tclbtree::format::{PageNumber, PageSize};
use tclbtree::pager::{JournalMode, LockingMode, SafetyLevel};
use tclbtree::{Btree, CursorId, Key, Options, TransactionKind, UnixVfs};

use crate::data::{Entry, RecordBuffer, split_record, sum_words};
use crate::store::{Durability, Failure, Journal, KeyKind, Result, Settings, Store};

/// The tree is the first one made in the file, and without auto-vacuum it gets page 2.
const ROOT: u32 = 2;

/// Ours.
pub struct Tclbtree {
    btree: Btree,
    cursor: Option<CursorId>,
    kind: KeyKind,
    record: RecordBuffer,
    overflow: Vec<u8>,
}

impl From<tclbtree::Error> for Failure {
    fn from(error: tclbtree::Error) -> Failure {
        Failure(error.to_string())
    }
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
        self.cursor.ok_or_else(|| Failure("no transaction".into()))
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

    /// Hands key and data of a table row, or 0 and the record of an index entry, to `read`;
    /// overflow included.
    #[inline]
    fn entry<T>(&mut self, cursor: CursorId, read: impl FnOnce(i64, &[u8]) -> T) -> Result<T> {
        if let Some((key, payload)) = self.btree.local_entry(cursor)? {
            return Ok(read(key, payload));
        }
        let key = self.btree.integer_key(cursor)?;
        self.overflow.resize(self.btree.payload_size(cursor)? as usize, 0);
        match self.kind {
            KeyKind::Int => self.btree.read_data(cursor, 0, &mut self.overflow)?,
            KeyKind::Key => self.btree.read_key(cursor, 0, &mut self.overflow)?,
        }
        Ok(read(key, &self.overflow))
    }

    /// Hands key and value of the entry to `each`, as [`Store::scan`] does.
    #[inline]
    fn visit(&mut self, cursor: CursorId, each: &mut impl FnMut(u64, &[u8])) -> Result<()> {
        let kind = self.kind;
        self.entry(cursor, |key, payload| match kind {
            KeyKind::Int => each(key as u64, payload),
            KeyKind::Key => {
                let (key, value) = split_record(payload);
                each(sum_words(key), value);
            }
        })
    }

    /// Puts the cursor on the first entry that is not smaller than this one; `false` if there is
    /// none. The rows that use it ask for entries that exist.
    fn seek(&mut self, cursor: CursorId, entry: &Entry<'_>) -> Result<bool> {
        match self.kind {
            KeyKind::Int => Ok(self.btree.seek(cursor, Key::Integer(entry.rowid))?.is_eq()),
            KeyKind::Key => self.seek_record(cursor, entry),
        }
    }

    /// Puts the cursor on the first record that is not smaller than the entry's key; `false` if
    /// there is none.
    fn seek_record(&mut self, cursor: CursorId, entry: &Entry<'_>) -> Result<bool> {
        // A prefix is smaller than every record that begins with it, so the search ends just
        // before the record or on it.
        let order = self.btree.seek(cursor, Key::Bytes(self.record.prefix(entry)))?;
        if order == Ordering::Less && !self.btree.next(cursor)? {
            return Ok(false);
        }
        Ok(true)
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
        let mut store = Tclbtree {
            btree,
            cursor: None,
            kind: settings.kind,
            record: RecordBuffer::default(),
            overflow: Vec::new(),
        };
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
            // The tree compares whole records, so another value is another entry.
            let cursor = self.cursor()?;
            if !self.seek_record(cursor, entry)? {
                return Err(Failure("the entry to replace was not found".into()));
            }
            self.btree.delete(cursor)?;
        }
        self.put(entry)
    }

    #[inline]
    fn get(&mut self, entry: &Entry<'_>, mut read: impl FnMut(&[u8])) -> Result<bool> {
        let cursor = self.cursor()?;
        match self.kind {
            KeyKind::Int => {
                if self.btree.seek(cursor, Key::Integer(entry.rowid))? != Ordering::Equal {
                    return Ok(false);
                }
                self.entry(cursor, |_, value| read(value))?;
                Ok(true)
            }
            KeyKind::Key => {
                if !self.seek_record(cursor, entry)? {
                    return Ok(false);
                }
                // The key is always on the page: no value is read for one that is absent.
                if !self.btree.local_key(cursor)?.starts_with(self.record.prefix(entry)) {
                    return Ok(false);
                }
                self.entry(cursor, |_, record| {
                    let (key, value) = split_record(record);
                    let found = key == entry.key;
                    if found {
                        read(value);
                    }
                    found
                })
            }
        }
    }

    fn scan(&mut self, mut each: impl FnMut(u64, &[u8])) -> Result<()> {
        let cursor = self.cursor()?;
        let mut on_entry = self.btree.first(cursor)?;
        while on_entry {
            self.visit(cursor, &mut each)?;
            on_entry = self.btree.next(cursor)?;
        }
        Ok(())
    }

    fn scan_back(&mut self, mut each: impl FnMut(u64, &[u8])) -> Result<()> {
        let cursor = self.cursor()?;
        let mut on_entry = self.btree.last(cursor)?;
        while on_entry {
            self.visit(cursor, &mut each)?;
            on_entry = self.btree.previous(cursor)?;
        }
        Ok(())
    }

    fn range(
        &mut self,
        start: &Entry<'_>,
        count: usize,
        mut each: impl FnMut(u64, &[u8]),
    ) -> Result<()> {
        let cursor = self.cursor()?;
        let mut on_entry = self.seek(cursor, start)?;
        for _ in 0..count {
            if !on_entry {
                break;
            }
            self.visit(cursor, &mut each)?;
            on_entry = self.btree.next(cursor)?;
        }
        Ok(())
    }

    fn delete(&mut self, entry: &Entry<'_>) -> Result<()> {
        let cursor = self.cursor()?;
        match self.seek(cursor, entry)? {
            true => Ok(self.btree.delete(cursor)?),
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
