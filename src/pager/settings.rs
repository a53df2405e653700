//! What can be asked of a pager and set on it.

use std::path::Path;

use super::cache::Cache;
use super::state::State;
use super::{
    BusyHandler, JournalMode, LockingMode, PageInfo, Pager, PagerStats, SafetyLevel, Storage,
};
use crate::error::{Error, Result};
use crate::format::{LockPage, PageNumber, PageSize};
use crate::os::{LockLevel, SyncKind};

/// Number of pages that even the smallest cache holds.
const CACHE_MIN: u32 = 10;

/// Sizes and places.
impl<X: PageInfo> Pager<X> {
    /// Page size in bytes.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Changes the page size; the cache is emptied. Only while no page is pinned and nothing was
    /// changed, else [`Misuse`](crate::Error::Misuse).
    ///
    /// # Errors
    /// [`Misuse`](crate::Error::Misuse), [`NoMemory`](crate::Error::NoMemory).
    pub fn set_page_size(&mut self, size: PageSize) -> Result<()> {
        if size == self.page_size {
            return Ok(());
        }
        if self.cache.pinned() > 0 || self.state > State::Reader {
            return Err(Error::Misuse("page size changed while pages are in use"));
        }
        self.note_replaced();
        self.cache = Cache::new(size);
        self.scratch = Vec::new();
        self.page_size = size;
        self.lock_page = LockPage::new(self.lock_offset, size);
        if self.state == State::Reader {
            self.file_pages = self.count_file_pages()?;
            self.image = self.file_pages;
        }
        Ok(())
    }

    /// The page that holds the lock bytes.
    #[inline]
    pub fn lock_page(&self) -> LockPage {
        self.lock_page
    }

    /// Absolute path of the database; `None` for temporary ones.
    pub fn path(&self) -> Option<&Path> {
        self.database_path()
    }

    /// Absolute path that the journal has or would have; `None` for temporary databases.
    pub fn journal_path(&self) -> Option<&Path> {
        self.journal_path.as_deref()
    }

    /// Where the database lives.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Whether the file allows reading only.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Declares the database read-only from here on (its header asks for a newer writer).
    pub fn set_read_only(&mut self) {
        self.read_only = true;
    }

    /// Declares that page 1 carries no file header. Commit then raises the counter at byte 24 of
    /// page 1, made if absent, and touches nothing else; in memory not even that. The size of the
    /// file is rounded down to pages, a write-ahead log beside it means nothing, and a full cache
    /// neither grows where spilling takes a lock that cannot be had, nor ever shrinks. A temporary
    /// one has its journals in files from their first byte on.
    pub fn ignore_header(&mut self) {
        self.header_ignored = true;
    }

    /// Size of the database file in bytes; `None` as long as there is no file.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    pub fn file_size(&self) -> Result<Option<u64>> {
        if self.has_file() { self.file.size().map(Some) } else { Ok(None) }
    }

    /// Reads bytes of the database file itself, past the cache; returns how many there were.
    ///
    /// # Errors
    /// [`State`](crate::Error::State) as long as there is no file; [`Io`](crate::Error::Io).
    pub fn read_file(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        if !self.has_file() {
            return Err(Error::State("the database has no file"));
        }
        self.file.read_at(buffer, offset)
    }

    fn has_file(&self) -> bool {
        self.is_file() || self.materialised
    }

    /// The system's descriptor of the database file, where there is one.
    pub fn descriptor(&self) -> Option<i32> {
        self.file.descriptor()
    }
}

/// Parameters.
impl<X: PageInfo> Pager<X> {
    /// Wanted cache size as it was set.
    pub fn cache_size(&self) -> i32 {
        self.cache_size
    }

    /// Sets the wanted cache size in pages; values below 11 mean 10. Frees nothing by itself.
    pub fn set_cache_size(&mut self, pages: i32) {
        self.cache_size = pages;
    }

    /// The number of cached pages above which pages are recycled.
    pub(super) fn cache_limit(&self) -> u32 {
        u32::try_from(self.cache_size).unwrap_or(0).max(CACHE_MIN)
    }

    /// Locking mode in force.
    pub fn locking_mode(&self) -> LockingMode {
        self.locking_mode
    }

    /// Sets the locking mode and returns the one in force; temporary databases are always
    /// exclusive. Back at normal, locks fall at the end of the next transaction.
    pub fn set_locking_mode(&mut self, mode: LockingMode) -> LockingMode {
        if self.is_file() {
            self.locking_mode = mode;
        }
        self.locking_mode
    }

    /// Journal mode of the next write transaction.
    pub fn journal_mode(&self) -> JournalMode {
        self.journal_mode
    }

    /// Sets the journal mode of the next write transaction and returns the one in force. A journal
    /// left by `Persist` or `Truncate` is deleted when it can be.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io) while deleting.
    pub fn set_journal_mode(&mut self, mode: JournalMode) -> Result<JournalMode> {
        use JournalMode::{Delete, Memory, Off, Persist, Truncate};
        let allowed = match self.storage {
            _ if self.omit_journal => mode == Off,
            Storage::Memory => matches!(mode, Memory | Off),
            Storage::File(_) | Storage::Temporary => true,
        };
        if !allowed {
            return Ok(self.journal_mode);
        }
        let before = std::mem::replace(&mut self.journal_mode, mode);
        let leaves_journal = matches!(before, Persist | Truncate);
        if leaves_journal && matches!(mode, Delete | Memory | Off) {
            self.delete_left_over_journal()?;
        }
        Ok(self.journal_mode)
    }

    /// Deletes a void journal, if no transaction is open and its lock can be had at once.
    fn delete_left_over_journal(&mut self) -> Result<()> {
        if !self.is_file() || self.read_only || self.locking_mode == LockingMode::Exclusive {
            return Ok(());
        }
        let was_open = self.state == State::Open;
        // Beginning to read recovers a hot journal, so what is there afterwards is not needed.
        if self.state > State::Reader || self.begin_read().is_err() {
            return Ok(());
        }
        let mut result = Ok(());
        if self.file.lock_level() == LockLevel::Shared
            && self.file.lock(LockLevel::Reserved).is_ok()
        {
            if let Some(path) = &self.journal_path {
                result = self.vfs.delete(path, false);
            }
            self.unlock(LockLevel::Shared);
        }
        if was_open {
            self.end_read();
        }
        result
    }

    /// Largest size of the journal file in bytes as it was set; negative: none.
    pub fn journal_size_limit(&self) -> i64 {
        self.journal_limit
    }

    /// Sets the largest size of the journal file in bytes; negative: none.
    pub fn set_journal_size_limit(&mut self, bytes: i64) {
        self.journal_limit = bytes;
    }

    /// Largest number of pages that the database may have.
    pub fn page_limit(&self) -> u32 {
        self.page_limit
    }

    /// Sets the largest number of pages, raised to the present number, and returns it.
    pub fn set_page_limit(&mut self, pages: u32) -> u32 {
        self.page_limit = pages.max(self.image).max(1);
        self.page_limit
    }

    /// Safety level as it was set.
    pub fn safety_level(&self) -> SafetyLevel {
        self.safety
    }

    /// Sets the safety level, and whether every sync is the strongest of the platform.
    pub fn set_safety_level(&mut self, level: SafetyLevel, full_sync: bool) {
        self.safety = level;
        self.full_sync = full_sync;
    }

    /// Whether this pager syncs at all: not at level off, and not for temporary databases.
    pub fn is_sync_disabled(&self) -> bool {
        self.safety == SafetyLevel::Off || !self.is_file()
    }

    /// The kind of sync in force.
    pub(super) fn sync_kind(&self) -> SyncKind {
        if self.full_sync { SyncKind::Full } else { SyncKind::Normal }
    }

    /// Keeps undo files of savepoints in memory.
    pub fn set_undo_in_memory(&mut self, memory: bool) {
        self.undo_in_memory = memory;
    }

    /// Sets or removes the busy handler.
    pub fn set_busy_handler(&mut self, handler: Option<BusyHandler>) {
        self.busy_handler = handler;
    }

    /// Takes the busy handler away.
    pub fn take_busy_handler(&mut self) -> Option<BusyHandler> {
        self.busy_handler.take()
    }

    /// Asks the busy handler; `false` without one.
    pub fn ask_busy_handler(&mut self, tries: u32) -> bool {
        self.busy_handler.as_mut().is_some_and(|handler| handler(tries))
    }

    /// Whether at least a read transaction is open.
    pub fn is_reading(&self) -> bool {
        self.state != State::Open
    }

    /// Whether a write transaction is open.
    pub fn is_writing(&self) -> bool {
        self.state.is_writing()
    }
}

/// Numbers for people and tests.
impl<X: PageInfo> Pager<X> {
    /// The counters.
    pub fn stats(&self) -> PagerStats {
        let known = self.storage == Storage::Memory || self.size_known;
        let size = if self.state == State::Open { self.file_pages } else { self.image };
        PagerStats {
            pinned: self.cache.pinned(),
            pages: self.cache.len(),
            limit: self.cache_limit(),
            size: known.then_some(size),
            state: self.state_number(),
            error: self.error.map_or(0, |error| error.code().primary),
            hits: self.counters.hits,
            misses: self.counters.misses,
            recycled: self.counters.recycled,
            reads: self.counters.reads,
            writes: self.counters.writes,
        }
    }

    fn state_number(&self) -> u32 {
        let exclusive =
            self.storage == Storage::Memory || (self.is_file() && self.transaction.began_exclusive);
        match self.state {
            State::Open => 0,
            State::Reader => 1,
            State::WriterLocked | State::CacheChanged if !exclusive => 2,
            State::Finished if self.is_file() => 5,
            _ => 4,
        }
    }

    /// Number and pin count of each pinned page, most recently created frame first.
    pub fn pinned_pages(&self) -> Vec<(PageNumber, u32)> {
        let pinned = self.cache.pinned_frames();
        let named = |(number, pins)| PageNumber::new(number).map(|number| (number, pins));
        pinned.into_iter().filter_map(named).collect()
    }
}
