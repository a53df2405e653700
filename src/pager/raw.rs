//! A pager by itself: numbered pages of any file, with no layer above it.
//!
//! Nobody begins a transaction here. The first reference to a page takes the shared lock, the
//! first change starts the journal, and when the last reference goes, everything goes: an open
//! transaction is rolled back, the cache emptied, the lock released.
//!
//! ```text
//!            first get             first write, truncate
//!   nothing ───────────▶ reading ────────────────────────▶ writing
//!      ▲                  │   ▲                             │  │
//!      └── last unref ────┘   └───── commit, rollback ──────┘  │
//!      └────────────────────── last unref ─────────────────────┘
//! ```
//!
//! A database in memory has nowhere else to be: its last reference takes nothing with it.
//!
//! Invariants:
//! - R1. No page but those of `held` is pinned between two calls.
//! - R2. Unless the database is in memory, a transaction is open only while `held` is not empty.

use std::sync::Arc;

use super::state::State;
use super::{
    HeldPages, JournalMode, LockingMode, PageRef, Pager, PagerOptions, PagerStats, Storage,
};
use crate::error::{Error, Result};
use crate::format::{PageNumber, PageSize};
use crate::os::{Access, Vfs};

/// Largest page number.
const PAGE_MAX: u32 = i32::MAX as u32;

/// A pager by itself.
#[derive(Debug)]
pub struct RawPager {
    pager: Pager<()>,
    held: HeldPages,
    /// A statement begins with the transaction.
    statement_wanted: bool,
    /// What the transaction was like before its rollback failed.
    failed_in: Option<State>,
}

/// Opening and closing.
impl RawPager {
    /// Opens a file, made if absent, or read-only where it cannot be had otherwise. Takes no lock.
    /// `cache_size` is in pages, at least 10; `lock_offset` in bytes.
    ///
    /// # Errors
    /// [`CannotOpen`](Error::CannotOpen), [`NoMemory`](Error::NoMemory).
    pub fn open(
        vfs: Arc<dyn Vfs>,
        storage: &Storage,
        page_size: PageSize,
        cache_size: i32,
        lock_offset: u32,
    ) -> Result<RawPager> {
        let options = PagerOptions {
            page_size,
            cache_size,
            omit_journal: false,
            no_read_lock: false,
            access: Access::Create,
            exclusive: false,
            delete_on_close: false,
            lock_offset,
        };
        let mut pager = Pager::open(vfs, storage, &options)?;
        pager.ignore_header();
        pager.set_page_limit(PAGE_MAX);
        Ok(RawPager { pager, held: HeldPages::default(), statement_wanted: false, failed_in: None })
    }

    /// Rolls back, whatever is held, and closes. A rollback that fails leaves the journal hot.
    pub fn close(mut self) {
        self.held.let_all_go(&mut self.pager);
        // What cannot be undone here the next opener undoes.
        let _ = self.undo_transaction();
        self.pager.close();
    }
}

/// Pages.
impl RawPager {
    /// Takes a reference to page `number`. Beyond the end of the file it is all zeros.
    ///
    /// # Errors
    /// [`Corrupt`](Error::Corrupt) for what is no page number, and for the lock page;
    /// [`Busy`](Error::Busy); [`Io`](Error::Io). No reference and no lock is left behind that was
    /// not there before.
    pub fn get(&mut self, number: u32) -> Result<()> {
        let page = self.legal(number).ok_or(Error::corrupt("impossible page number"))?;
        if !self.pager.is_reading() {
            self.pager.begin_read()?;
        }
        let mark = self.pager.mark();
        let fetched = self.pager.fetch(page);
        if let Ok(page) = fetched {
            self.held.hold(&mut self.pager, page);
        }
        self.pager.release(mark);
        if self.held.is_empty() {
            self.let_go();
        }
        fetched.map(|_| ())
    }

    /// Takes a reference to page `number` if it is in the cache; whether it is.
    pub fn lookup(&mut self, number: u32) -> bool {
        let Some(page) = self.legal(number) else { return false };
        let mark = self.pager.mark();
        let found = self.pager.lookup(page);
        if let Some(page) = found {
            self.held.hold(&mut self.pager, page);
        }
        self.pager.release(mark);
        found.is_some()
    }

    /// Gives one reference back; returns whether it was the last to this page. With the last one
    /// to any page everything goes, unless it is in memory only.
    pub fn unref(&mut self, number: u32) -> bool {
        let is_last = self.held.let_go(&mut self.pager, number);
        if self.held.is_empty() {
            self.let_go();
        }
        is_last
    }

    /// The bytes of a page that is held.
    ///
    /// # Errors
    /// [`Misuse`](Error::Misuse) if it is not.
    pub fn read(&self, number: u32) -> Result<&[u8]> {
        self.page(number).map(|page| self.pager.bytes(page))
    }

    /// Replaces the content of a page that is held by `data` and zeros. At least the last byte of
    /// the page is zero: what is longer is cut. The journal file has the original on return.
    ///
    /// # Errors
    /// [`Permission`](Error::Permission) for a file that cannot be written,
    /// [`Busy`](Error::Busy), [`CannotOpen`](Error::CannotOpen): nothing has happened.
    /// [`Full`](Error::Full), [`Io`](Error::Io): the page is unchanged and only rollback is left.
    pub fn write(&mut self, number: u32, data: &[u8]) -> Result<()> {
        let page = self.page(number)?;
        self.begin()?;
        let image = self.pager.image;
        let filled = self.pager.blank_before(number);
        let made = filled.and_then(|()| self.pager.make_writable(page)).and_then(|page| {
            self.pager.flush_journal_buffer()?;
            Ok(page)
        });
        match made {
            Ok(page) => {
                let bytes = self.pager.bytes_mut(page);
                let length = data.len().min(bytes.len().saturating_sub(1));
                let (text, rest) = bytes.split_at_mut(length);
                text.copy_from_slice(data.get(..length).unwrap_or_default());
                rest.fill(0);
                Ok(())
            }
            Err(error) => {
                self.pager.image = image;
                Err(self.pager.latch_if_serious(error))
            }
        }
    }

    fn page(&self, number: u32) -> Result<PageRef> {
        self.held.find(number).ok_or(Error::Misuse("the page is not held"))
    }

    /// The page with this number, if there can be one.
    fn legal(&self, number: u32) -> Option<PageNumber> {
        let number = PageNumber::new(number).filter(|_| number <= PAGE_MAX)?;
        (!self.pager.lock_page.is(number.get())).then_some(number)
    }

    /// Drops everything; nothing is held. Errors are swallowed: the journal stays, and the next
    /// reader finds it hot.
    fn let_go(&mut self) {
        if self.is_memory() {
            return;
        }
        self.statement_wanted = false;
        let _ = self.undo_transaction();
        self.pager.drop_unpinned();
        self.pager.end_read();
        self.failed_in = None;
    }
}

/// Transactions.
impl RawPager {
    /// Starts a transaction if none is open, with the statement that waits for it. If it cannot
    /// be started, nothing has happened.
    fn begin(&mut self) -> Result<()> {
        self.pager.check_transaction()?;
        if self.pager.is_writing() {
            return Ok(());
        }
        if self.pager.is_read_only() {
            return Err(Error::Permission);
        }
        let size_known = self.pager.size_known;
        let mut begun = self.pager.begin_write(false, true);
        if begun.is_ok() && self.statement_wanted {
            begun = self.pager.open_savepoints(1, true);
        }
        if begun.is_ok() {
            self.statement_wanted = false;
        } else {
            // Nothing was changed yet; if even this fails, the error stays.
            let _ = self.undo_transaction();
            self.pager.size_known = size_known;
        }
        begun
    }

    /// Commits. References stay good.
    ///
    /// # Errors
    /// [`State`](Error::State) without a transaction; [`Busy`](Error::Busy): it can be tried
    /// again; [`Full`](Error::Full), [`Io`](Error::Io): only rollback is left.
    pub fn commit(&mut self) -> Result<()> {
        self.check_error()?;
        if !self.pager.is_writing() {
            return Err(Error::State("no transaction is open"));
        }
        self.pager.commit_phase_one(None)?;
        self.statement_wanted = false;
        self.pager.commit_phase_two()
    }

    /// Undoes the transaction; nothing happens without one. References stay good.
    ///
    /// # Errors
    /// [`Io`](Error::Io): the transaction is still there, and the next rollback tries again.
    pub fn rollback(&mut self) -> Result<()> {
        self.statement_wanted = false;
        let result = self.undo_transaction();
        self.pager.size_known = false;
        result
    }

    fn undo_transaction(&mut self) -> Result<()> {
        if let Some(state) = self.failed_in.take() {
            self.pager.enter(state);
        }
        let state = self.pager.state;
        let result = self.pager.rollback();
        if self.pager.state == State::Failed {
            self.failed_in = Some(state);
        }
        result
    }

    fn check_error(&self) -> Result<()> {
        self.pager.error.map_or(Ok(()), Err)
    }
}

/// Statements.
impl RawPager {
    /// Begins a statement, a part of a transaction that can be undone by itself; without a
    /// transaction it begins with the next one.
    ///
    /// # Errors
    /// [`State`](Error::State) if one is open; those of opening its temporary file.
    pub fn begin_statement(&mut self) -> Result<()> {
        let waiting = self.is_memory() && self.statement_wanted;
        if waiting || self.pager.savepoint_count() > 0 {
            return Err(Error::State("a statement is open"));
        }
        if self.pager.is_writing() {
            return self.pager.open_savepoints(1, true);
        }
        self.statement_wanted = true;
        Ok(())
    }

    /// Ends the statement, if there is one, and keeps its changes.
    pub fn commit_statement(&mut self) {
        self.statement_wanted = false;
        self.pager.release_savepoint(0);
    }

    /// Ends the statement, if there is one, and undoes its changes.
    ///
    /// # Errors
    /// [`Io`](Error::Io), [`Full`](Error::Full): only rollback is left.
    pub fn rollback_statement(&mut self) -> Result<()> {
        self.statement_wanted = false;
        let Some(pages) = self.pager.savepoints.first().map(|savepoint| savepoint.pages) else {
            return Ok(());
        };
        self.check_error()?;
        self.cut_file(pages).map_err(|error| self.pager.latch_if_serious(error))?;
        self.pager.rollback_savepoint(Some(0))?;
        self.pager.release_savepoint(0);
        Ok(())
    }

    /// Takes back what was spilled behind page `pages`, but never what the journal counts on.
    fn cut_file(&mut self, pages: u32) -> Result<()> {
        let pages = pages.max(self.pager.transaction.original_pages);
        if self.pager.transaction.file_written && self.pager.file_pages > pages {
            let size = u64::from(pages) * u64::from(self.pager.page_size.get());
            self.pager.file.truncate(size)?;
            self.pager.file_pages = pages;
        }
        Ok(())
    }
}

/// Sizes and numbers.
impl RawPager {
    /// Number of pages, changes of the transaction included; one more if the next would be the
    /// lock page. Takes no lock.
    ///
    /// # Errors
    /// [`Io`](Error::Io).
    pub fn page_count(&mut self) -> Result<u32> {
        let pages = self.size()?;
        Ok(if self.pager.lock_page.is(pages.saturating_add(1)) { pages + 1 } else { pages })
    }

    fn size(&mut self) -> Result<u32> {
        if self.pager.state == State::Open {
            return self.pager.count_file_pages();
        }
        self.pager.size_known = true;
        Ok(self.pager.image)
    }

    /// Cuts the file to `pages` pages if it is longer. Pages that are held and cut off become
    /// zeros. This is part of a transaction, but for a database in memory without one.
    ///
    /// # Errors
    /// [`State`](Error::State) if no page is held; as [`RawPager::write`].
    pub fn truncate(&mut self, pages: u32) -> Result<()> {
        self.check_error()?;
        if pages >= self.size()? {
            return Ok(());
        }
        let is_final = self.is_memory() && !self.pager.is_writing();
        let statement_wanted = self.statement_wanted;
        self.begin()?;
        self.save_from(pages.saturating_add(1))?;
        self.pager.truncate_image(pages);
        self.check_error()?;
        let flushed = self.pager.flush_journal_buffer();
        flushed.map_err(|error| self.pager.latch_if_serious(error))?;
        if is_final {
            self.commit()?;
            self.statement_wanted = statement_wanted;
        }
        Ok(())
    }

    /// Journals the pages of the file from `first` on, which are about to be cut off: this file
    /// has no page count but its length, so it is cut before the transaction is final (P15).
    fn save_from(&mut self, first: u32) -> Result<()> {
        if self.is_memory() {
            return Ok(());
        }
        let (hits, misses) = (self.pager.counters.hits, self.pager.counters.misses);
        let last = self.pager.transaction.original_pages.min(self.pager.image);
        let mut result = Ok(());
        for number in first..=last {
            let number = PageNumber::new(number).filter(|_| !self.pager.lock_page.is(number));
            let Some(number) = number else { continue };
            let mark = self.pager.mark();
            result = self.pager.fetch(number).and_then(|p| self.pager.save_original(p.frame));
            self.pager.release(mark);
            if result.is_err() {
                break;
            }
        }
        // Requests are counted, not precautions.
        (self.pager.counters.hits, self.pager.counters.misses) = (hits, misses);
        result
    }

    /// The counters. The size includes the lock page as soon as the page before it was added.
    pub fn stats(&self) -> PagerStats {
        let mut stats = self.pager.stats();
        let has_grown = self.pager.is_writing()
            && !self.is_memory()
            && self.pager.image > self.pager.transaction.original_image;
        if let Some(size) = stats.size.filter(|_| has_grown)
            && self.pager.lock_page.is(size.saturating_add(1))
        {
            stats.size = Some(size + 1);
        }
        stats
    }
}

/// What else can be asked and set.
impl RawPager {
    /// Whether it is in memory only.
    pub fn is_memory(&self) -> bool {
        self.pager.storage == Storage::Memory
    }

    /// Makes the file durable, unless it is a temporary one.
    ///
    /// # Errors
    /// [`Io`](Error::Io).
    pub fn sync(&mut self) -> Result<()> {
        self.pager.sync()
    }

    /// Size of the file in bytes; `None` as long as there is no file.
    ///
    /// # Errors
    /// [`Io`](Error::Io).
    pub fn file_size(&self) -> Result<Option<u64>> {
        self.pager.file_size()
    }

    /// Reads bytes of the file itself, past the cache; returns how many there were.
    ///
    /// # Errors
    /// [`State`](Error::State) as long as there is no file; [`Io`](Error::Io).
    pub fn read_file(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.pager.read_file(buffer, offset)
    }

    /// The system's descriptor of the file, where there is one.
    pub fn descriptor(&self) -> Option<i32> {
        self.pager.descriptor()
    }

    /// Journal mode of the next transaction.
    pub fn journal_mode(&self) -> JournalMode {
        self.pager.journal_mode()
    }

    /// Sets the journal mode of the next transaction and returns the one in force.
    ///
    /// # Errors
    /// [`Io`](Error::Io) while a left-over journal is deleted.
    pub fn set_journal_mode(&mut self, mode: JournalMode) -> Result<JournalMode> {
        self.pager.set_journal_mode(mode)
    }

    /// Locking mode in force.
    pub fn locking_mode(&self) -> LockingMode {
        self.pager.locking_mode()
    }

    /// Sets the locking mode and returns the one in force.
    pub fn set_locking_mode(&mut self, mode: LockingMode) -> LockingMode {
        self.pager.set_locking_mode(mode)
    }

    /// Largest size of the journal file in bytes; negative: none.
    pub fn journal_size_limit(&self) -> i64 {
        self.pager.journal_size_limit()
    }

    /// Sets the largest size of the journal file in bytes; negative: none.
    pub fn set_journal_size_limit(&mut self, bytes: i64) {
        self.pager.set_journal_size_limit(bytes);
    }
}
