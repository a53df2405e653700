//! Pages of a database file: cache, rollback journal, atomic commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::format::{HEADER_SIZE, LockPage, PageNumber, PageSize};
use crate::os::{Access, Vfs};

/// What the layer above keeps beside each cached page; the pager only stores and resets it.
pub trait PageInfo: Default + Send {
    /// Forgets everything: the bytes of the page were replaced from below.
    fn reset(&mut self);
}

impl PageInfo for () {
    fn reset(&mut self) {}
}

/// A page in the cache. Valid while the page is pinned; see [`Pager::mark`] and [`Pager::pin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "PgHdr", alias = "DbPage")]
pub struct PageRef {
    frame: u32,
}

/// A page that may be changed: its original is in the journal. Comes from
/// [`Pager::make_writable`] only, and is good until the end of the call that asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageMut {
    frame: u32,
}

impl From<PageMut> for PageRef {
    fn from(page: PageMut) -> PageRef {
        PageRef { frame: page.frame }
    }
}

/// A point in the stack of transient pins.
#[derive(Debug, Clone, Copy)]
#[must_use = "pins taken after the mark are released only by Pager::release"]
pub struct PinMark(usize);

/// Where a database lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In a named file; the path is absolute.
    File(PathBuf),
    /// In memory, with an unnamed file once the cache overflows.
    Temporary,
    /// In memory only.
    Memory,
}

/// What a pager is opened with.
#[derive(Debug, Clone)]
pub struct PagerOptions {
    /// Page size as long as nothing else is known.
    pub page_size: PageSize,
    /// Wanted number of cached pages; below 11 means 10.
    pub cache_size: i32,
    /// Temporary databases only: no journal at all.
    pub omit_journal: bool,
    /// Files only: lock nothing for reading.
    pub no_read_lock: bool,
    /// How the database file is opened.
    pub access: Access,
    /// Position of the first lock byte.
    pub lock_offset: u32,
}

/// Keeps file locks between transactions, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockingMode {
    /// Every lock falls at the end of a transaction.
    Normal,
    /// Locks are kept until the mode is normal again.
    Exclusive,
}

/// What becomes of the rollback journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalMode {
    /// Deleted at the end of each transaction.
    Delete,
    /// Cut to zero bytes.
    Truncate,
    /// Kept, with its header zeroed.
    Persist,
    /// Kept in memory: no protection against crashes.
    Memory,
    /// There is none.
    Off,
}

/// How much is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SafetyLevel {
    /// Nothing.
    Off,
    /// The journal once, the database once.
    Normal,
    /// The journal twice, the database once.
    Full,
    /// As full, and the directory after the journal was deleted.
    Extra,
}

/// A plain copy of the pager's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PagerStats {
    /// Distinct pages pinned.
    pub pinned: u32,
    /// Pages in the cache.
    pub pages: u32,
    /// Cache limit in pages.
    pub limit: u32,
    /// Size of the database in pages, if it is known at the moment.
    pub size: Option<u32>,
    /// 0 unlocked, 1 shared, 2 reserved, 4 exclusive, 5 all written but not finished.
    pub state: u32,
    /// Number of the lasting error, or 0.
    pub error: u32,
    /// Requests served from the cache.
    pub hits: u64,
    /// Requests that needed a frame.
    pub misses: u64,
    /// Frames recycled because the cache was full.
    pub recycled: u64,
    /// Pages read from the database file.
    pub reads: u64,
    /// Pages written to the database file by commit or by spilling.
    pub writes: u64,
}

/// Asked when a lock is held by somebody else, with the number of times it was asked before for
/// this lock; `true` tries again.
pub type BusyHandler = Box<dyn FnMut(u32) -> bool + Send>;

/// Pages of one database.
#[derive(Debug)]
pub struct Pager<X: PageInfo> {
    _info: std::marker::PhantomData<X>,
}

/// Opening, closing, settings.
impl<X: PageInfo> Pager<X> {
    /// Opens the file, without a lock and without looking at its content.
    ///
    /// # Errors
    /// [`CannotOpen`](crate::Error::CannotOpen), [`NoMemory`](crate::Error::NoMemory).
    pub fn open(vfs: Arc<dyn Vfs>, storage: &Storage, options: &PagerOptions) -> Result<Self> {
        let _ = (vfs, storage, options);
        todo!()
    }

    /// The first 100 bytes of the file as they are, zeros where the file is shorter.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    pub fn peek_header(&self) -> Result<[u8; HEADER_SIZE]> {
        todo!()
    }

    /// Rolls back, lets go of everything and closes; errors leave a hot journal behind.
    pub fn close(self) {
        todo!()
    }

    /// Page size in bytes.
    pub fn page_size(&self) -> PageSize {
        todo!()
    }

    /// Changes the page size; the cache is emptied. Only while no page is pinned and nothing was
    /// changed, else [`Misuse`](crate::Error::Misuse).
    ///
    /// # Errors
    /// [`Misuse`](crate::Error::Misuse), [`NoMemory`](crate::Error::NoMemory).
    pub fn set_page_size(&mut self, size: PageSize) -> Result<()> {
        let _ = size;
        todo!()
    }

    /// The page that holds the lock bytes.
    pub fn lock_page(&self) -> LockPage {
        todo!()
    }

    /// Absolute path of the database; `None` for temporary ones.
    pub fn path(&self) -> Option<&Path> {
        todo!()
    }

    /// Absolute path that the journal has or would have; `None` for temporary databases.
    pub fn journal_path(&self) -> Option<&Path> {
        todo!()
    }

    /// Where the database lives.
    pub fn storage(&self) -> &Storage {
        todo!()
    }

    /// Whether the file allows reading only.
    pub fn is_read_only(&self) -> bool {
        todo!()
    }

    /// Declares the database read-only from here on (its header asks for a newer writer).
    pub fn set_read_only(&mut self) {
        todo!()
    }

    /// Wanted cache size as it was set.
    pub fn cache_size(&self) -> i32 {
        todo!()
    }

    /// Sets the wanted cache size in pages; values below 11 mean 10. Frees nothing by itself.
    pub fn set_cache_size(&mut self, pages: i32) {
        let _ = pages;
        todo!()
    }

    /// Locking mode in force.
    pub fn locking_mode(&self) -> LockingMode {
        todo!()
    }

    /// Sets the locking mode and returns the one in force; temporary databases are always
    /// exclusive.
    pub fn set_locking_mode(&mut self, mode: LockingMode) -> LockingMode {
        let _ = mode;
        todo!()
    }

    /// Journal mode of the next write transaction.
    pub fn journal_mode(&self) -> JournalMode {
        todo!()
    }

    /// Sets the journal mode of the next write transaction and returns the one in force. A journal
    /// left by `Persist` or `Truncate` is deleted when it can be.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io) while deleting.
    pub fn set_journal_mode(&mut self, mode: JournalMode) -> Result<JournalMode> {
        let _ = mode;
        todo!()
    }

    /// Largest size of the journal file in bytes as it was set; negative: none.
    pub fn journal_size_limit(&self) -> i64 {
        todo!()
    }

    /// Sets the largest size of the journal file in bytes; negative: none.
    pub fn set_journal_size_limit(&mut self, bytes: i64) {
        let _ = bytes;
        todo!()
    }

    /// Largest number of pages that the database may have.
    pub fn page_limit(&self) -> u32 {
        todo!()
    }

    /// Sets the largest number of pages, raised to the present number, and returns it.
    pub fn set_page_limit(&mut self, pages: u32) -> u32 {
        let _ = pages;
        todo!()
    }

    /// Safety level as it was set.
    pub fn safety_level(&self) -> SafetyLevel {
        todo!()
    }

    /// Sets the safety level, and whether every sync is the strongest of the platform.
    pub fn set_safety_level(&mut self, level: SafetyLevel, full_sync: bool) {
        let _ = (level, full_sync);
        todo!()
    }

    /// Whether this pager syncs at all: not at level off, and not for temporary databases.
    pub fn is_sync_disabled(&self) -> bool {
        todo!()
    }

    /// Sets or removes the busy handler.
    pub fn set_busy_handler(&mut self, handler: Option<BusyHandler>) {
        let _ = handler;
        todo!()
    }

    /// Asks the busy handler; `false` without one.
    pub fn ask_busy_handler(&mut self, tries: u32) -> bool {
        let _ = tries;
        todo!()
    }

    /// The counters.
    pub fn stats(&self) -> PagerStats {
        todo!()
    }

    /// Number and pin count of each pinned page, most recently created frame first.
    pub fn pinned_pages(&self) -> Vec<(PageNumber, u32)> {
        todo!()
    }
}

/// Transactions.
impl<X: PageInfo> Pager<X> {
    /// Whether at least a read transaction is open.
    pub fn is_reading(&self) -> bool {
        todo!()
    }

    /// Whether a write transaction is open.
    pub fn is_writing(&self) -> bool {
        todo!()
    }

    /// Opens a read transaction: shared lock, rollback of a hot journal, validation of the cache.
    /// Nothing happens if one is open. The number of pages is set from the length of the file;
    /// the layer above corrects it from the header with [`Pager::trust_page_count`].
    ///
    /// # Errors
    /// [`Busy`](crate::Error::Busy), [`CannotOpen`](crate::Error::CannotOpen) for a database in
    /// write-ahead-log mode, [`Io`](crate::Error::Io), [`ReadOnly`](crate::Error::ReadOnly) if a
    /// hot journal cannot be rolled back. No lock is left behind that was not held before.
    pub fn begin_read(&mut self) -> Result<()> {
        todo!()
    }

    /// Ends a read transaction. Locks fall by locking mode; the cache is kept for validation.
    /// Nothing happens without one. A write transaction must be ended by commit or rollback.
    pub fn end_read(&mut self) {
        todo!()
    }

    /// Turns a read transaction into a write transaction: reserved lock, or exclusive at once.
    /// With `open_journal` the journal file is opened and its header written now; without, when
    /// the first page is made writable. Nothing happens if one is open.
    ///
    /// # Errors
    /// [`Busy`](crate::Error::Busy) (the busy handler is asked only on the way to exclusive),
    /// [`ReadOnly`](crate::Error::ReadOnly), [`CannotOpen`](crate::Error::CannotOpen),
    /// [`Io`](crate::Error::Io): the read transaction stays.
    pub fn begin_write(&mut self, exclusive: bool, open_journal: bool) -> Result<()> {
        let _ = (exclusive, open_journal);
        todo!()
    }

    /// Makes the transaction durable, but not final: journal synced, change counter raised, pages
    /// written, database synced. `super_journal` is the one that this transaction hangs on.
    /// Does nothing but count if no page was changed.
    ///
    /// # Errors
    /// [`Busy`](crate::Error::Busy): the transaction stays open and can be tried again.
    /// [`Full`](crate::Error::Full), [`Io`](crate::Error::Io): it must be rolled back.
    pub fn commit_phase_one(&mut self, super_journal: Option<&Path>) -> Result<()> {
        let _ = super_journal;
        todo!()
    }

    /// Makes the transaction final: the journal goes; the file is cut if the image got shorter.
    /// The read transaction stays open.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io): the journal is still there; roll back.
    pub fn commit_phase_two(&mut self) -> Result<()> {
        todo!()
    }

    /// Undoes the write transaction; the read transaction stays open. Pinned pages get their old
    /// content, or zeros beyond the old end.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io): the pager is in its error state, the journal stays for the next
    /// opener. [`Abort`](crate::Error::Abort): no journal, and pages had been spilled. The
    /// transaction is over in every case.
    pub fn rollback(&mut self) -> Result<()> {
        todo!()
    }

    /// Number of open savepoints.
    pub fn savepoint_count(&self) -> usize {
        todo!()
    }

    /// Opens savepoints until there are `count`. With `open_file` the undo file is opened now,
    /// else when the first page needs it.
    ///
    /// # Errors
    /// [`NoMemory`](crate::Error::NoMemory), [`CannotOpen`](crate::Error::CannotOpen).
    pub fn open_savepoints(&mut self, count: usize, open_file: bool) -> Result<()> {
        let _ = (count, open_file);
        todo!()
    }

    /// Drops savepoint `index` and all later ones, keeping their changes.
    pub fn release_savepoint(&mut self, index: usize) {
        let _ = index;
        todo!()
    }

    /// Undoes everything since savepoint `index` was opened, drops later savepoints and keeps
    /// this one. `None`: everything since the transaction began, with no savepoint left.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    pub fn rollback_savepoint(&mut self, index: Option<usize>) -> Result<()> {
        let _ = index;
        todo!()
    }

    /// Keeps undo files of savepoints in memory.
    pub fn set_undo_in_memory(&mut self, memory: bool) {
        let _ = memory;
        todo!()
    }
}

/// Pages.
impl<X: PageInfo> Pager<X> {
    /// Number of pages of the image, changes of the open transaction included. 0 without a
    /// transaction.
    pub fn page_count(&self) -> u32 {
        todo!()
    }

    /// Length of the database file in pages, a partial last page counted. Needs a transaction.
    pub fn file_page_count(&self) -> u32 {
        todo!()
    }

    /// Sets the number of pages to what the header says, when a transaction has just begun.
    pub fn trust_page_count(&mut self, pages: u32) {
        let _ = pages;
        todo!()
    }

    /// Makes the image `pages` long, which is more than now.
    ///
    /// # Errors
    /// [`Full`](crate::Error::Full) above the page limit.
    pub fn grow(&mut self, pages: u32) -> Result<()> {
        let _ = pages;
        todo!()
    }

    /// Makes the image `pages` long, which is less than now. The file is cut at commit.
    pub fn truncate_image(&mut self, pages: u32) {
        let _ = pages;
        todo!()
    }

    /// The present top of the stack of transient pins.
    pub fn mark(&self) -> PinMark {
        todo!()
    }

    /// Releases the transient pins taken since `mark`.
    pub fn release(&mut self, mark: PinMark) {
        let _ = mark;
        todo!()
    }

    /// Pins `page` until [`Pager::unpin`], beyond the transient pin it has.
    pub fn pin(&mut self, page: PageRef) {
        let _ = page;
        todo!()
    }

    /// Takes back one [`Pager::pin`].
    pub fn unpin(&mut self, page: PageRef) {
        let _ = page;
        todo!()
    }

    /// The page `number`, from the cache or from the file, with a transient pin. Needs a
    /// transaction. A page beyond the end of the image is all zeros.
    ///
    /// # Errors
    /// [`Corrupt`](crate::Error::Corrupt) for the lock page, [`Busy`](crate::Error::Busy) if the
    /// cache has to spill and cannot get its lock, [`Io`](crate::Error::Io),
    /// [`NoMemory`](crate::Error::NoMemory).
    pub fn fetch(&mut self, number: PageNumber) -> Result<PageRef> {
        let _ = number;
        todo!()
    }

    /// The page `number` with content that does not matter: it was just allocated. Not read from
    /// the file and, when made writable, not journaled, unless it had content when the
    /// transaction began. Its bytes are zeros, or what was there.
    ///
    /// # Errors
    /// As [`Pager::fetch`].
    pub fn fetch_blank(&mut self, number: PageNumber) -> Result<PageRef> {
        let _ = number;
        todo!()
    }

    /// The page `number` if it is in the cache, with a transient pin.
    pub fn lookup(&mut self, number: PageNumber) -> Option<PageRef> {
        let _ = number;
        todo!()
    }

    /// The number of `page`.
    pub fn number(&self, page: PageRef) -> PageNumber {
        let _ = page;
        todo!()
    }

    /// The bytes of `page`: exactly one page size.
    pub fn bytes(&self, page: PageRef) -> &[u8] {
        let _ = page;
        todo!()
    }

    /// What the layer above keeps beside `page`.
    pub fn info(&self, page: PageRef) -> &X {
        let _ = page;
        todo!()
    }

    /// Bytes and information of `page`.
    pub fn parts(&self, page: PageRef) -> (&[u8], &X) {
        let _ = page;
        todo!()
    }

    /// Bytes of `page` beside its information, the latter for changing.
    pub fn parts_info_mut(&mut self, page: PageRef) -> (&[u8], &mut X) {
        let _ = page;
        todo!()
    }

    /// Saves the original of `page` in the journal, and in the undo file of savepoints, as far as
    /// that was not done yet; marks it dirty. Needs a write transaction.
    ///
    /// # Errors
    /// [`Full`](crate::Error::Full), also for the journal size limit; [`Io`](crate::Error::Io),
    /// [`CannotOpen`](crate::Error::CannotOpen); [`State`](crate::Error::State) without a write
    /// transaction. The page is then unchanged and clean.
    pub fn make_writable(&mut self, page: PageRef) -> Result<PageMut> {
        let _ = page;
        todo!()
    }

    /// The bytes of `page` for changing.
    pub fn bytes_mut(&mut self, page: PageMut) -> &mut [u8] {
        let _ = page;
        todo!()
    }

    /// Bytes and information of `page` for changing.
    pub fn parts_mut(&mut self, page: PageMut) -> (&mut [u8], &mut X) {
        let _ = page;
        todo!()
    }

    /// Copies all bytes of `from` over those of `to` and resets the information of `to`.
    pub fn copy_page(&mut self, from: PageRef, to: PageMut) {
        let _ = (from, to);
        todo!()
    }

    /// `page` has become a leaf of the free list: its content will never be needed again, so it
    /// need not be written at commit. It may be allocated again by [`Pager::fetch_blank`].
    pub fn forget_content(&mut self, page: PageRef) {
        let _ = page;
        todo!()
    }

    /// The same for a page that need not be in the cache.
    pub fn forget_content_of(&mut self, number: PageNumber) {
        let _ = number;
        todo!()
    }
}
