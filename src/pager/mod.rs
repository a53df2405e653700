//! Pages of a database file: cache, rollback journal, atomic commit.
//!
//! The layer above asks for pages by number, says which of them it is going to change, and ends
//! each transaction by commit or rollback. The pager sees to it that the file holds the state
//! before or the state after, whatever happens in between.
//!
//! | file | what it does |
//! | --- | --- |
//! | `state` | the states of a transaction, drawn |
//! | `cache`, `page` | pages in memory, pins |
//! | `held` | pages that a caller holds by their numbers |
//! | `fetch` | a page from the cache, or from the file, or by recycling another |
//! | `begin` | beginning to write |
//! | `write` | saving the original before the first change |
//! | `image` | the number of pages, cutting pages off |
//! | `flush` | journal synced, then dirty pages to the file |
//! | `commit`, `rollback` | the two ends of a transaction |
//! | `recover` | beginning to read, and what a crashed writer left |
//! | `together` | committing with other databases |
//! | `watch` | which pages changed that somebody has copied |
//! | `codec` | pages that look otherwise in files |
//! | `savepoint` | undoing a part of a transaction |
//! | `journal` | the journal's bytes |
//! | `raw` | a pager without a layer above: references hold its transactions |
//! | `settings` | what can be asked and set |
//!
//! Invariants:
//! - P1. A page that is changed had its original saved in this transaction, unless it had none;
//!   `Frame::write_serial` equals `Pager::serial` exactly while that holds for the transaction
//!   and for every open savepoint.
//! - P2. `gate` is set exactly while a transaction is open and the cache is true, that is, no error
//!   is latched but a full disk; only then does `fetch` hand out pages.
//! - P3. A page whose frame is marked `needs_sync` is not written to the database file.
//! - P4. The database file is changed under the exclusive lock only, after `file_written` was set.
//! - P5. A clean page of the cache has the bytes of the file, or is marked `hollow`, or is a free
//!   leaf whose bytes do not matter.
//! - P6. What is written to the database file in a transaction is synced before the journal ends.
//! - P7. While `shape_known`, a file whose validation bytes are `stamp` has `file_pages` pages and
//!   no write-ahead log: both change with a commit only, and that changes the validation bytes.

#![forbid(unsafe_code)]

mod begin;
mod cache;
mod codec;
mod commit;
mod fetch;
mod flush;
mod held;
mod image;
mod journal;
mod locking;
mod page;
mod page_set;
mod raw;
mod recover;
mod rollback;
mod savepoint;
mod settings;
mod state;
mod stats;
mod temporary;
#[cfg(test)]
mod tests;
mod together;
mod watch;
mod write;

pub use begin::Regrouping;
pub use codec::{PageCodec, Xor};
pub use held::HeldPages;
pub use page::{PageInfo, PageMut, PageRef, PinMark};
pub use raw::RawPager;
pub use stats::PagerStats;
pub use watch::WatchId;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::begin::{KeptJournal, Transaction};
use self::cache::Cache;
use self::flush::Victim;
use self::savepoint::{Savepoint, UndoFile};
use self::state::State;
use self::stats::Counters;
use self::temporary::MemoryFile;
use self::watch::Watch;
use crate::error::{Error, Result};
use crate::format::{HEADER_SIZE, LockPage, PageSize};
use crate::os::{Access, File, OpenKind, OpenRequest, Vfs};

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
    /// Fail if it exists already.
    pub exclusive: bool,
    /// It goes when it is closed, its name at once.
    pub delete_on_close: bool,
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

/// Asked when a lock is held by somebody else, with the number of times it was asked before for
/// this lock; `true` tries again.
pub type BusyHandler = Box<dyn FnMut(u32) -> bool + Send>;

/// Largest number of pages of a database, unless set otherwise.
const PAGE_LIMIT_DEFAULT: u32 = 1_073_741_823;

/// The bytes of the file header that tell whether somebody else has written.
type Stamp = [u8; 16];

/// Pages of one database.
pub struct Pager<X: PageInfo> {
    cache: Cache<X>,
    /// Grows whenever pages that were writable may not be so any more (P1).
    serial: u64,
    /// P2.
    gate: bool,
    /// Pages of the image.
    image: u32,
    counters: Counters,

    state: State,
    /// Every request returns it until the transaction is rolled back.
    error: Option<Error>,
    /// Whether the cache is true in spite of the error.
    cache_trusted: bool,
    transaction: Transaction,
    savepoints: Vec<Savepoint>,
    undo: Option<UndoFile>,

    vfs: Arc<dyn Vfs>,
    file: Box<dyn File>,
    storage: Storage,
    journal_path: Option<PathBuf>,
    wal_path: Option<PathBuf>,
    lock_offset: u32,
    page_size: PageSize,
    lock_page: LockPage,
    /// A temporary database has its file by now.
    materialised: bool,
    read_only: bool,
    no_read_lock: bool,
    omit_journal: bool,
    /// Page 1 is no file header: only the change counter is maintained.
    header_ignored: bool,
    /// Giving back a lock failed, so nobody knows which ones are held.
    lock_unknown: bool,
    /// Length of the file in pages.
    file_pages: u32,
    /// P7.
    shape_known: bool,
    /// Whether that and the image are known at the moment, for the statistics.
    size_known: bool,
    /// Whether the layer above has vouched for the number of pages in this read transaction.
    count_trusted: bool,
    /// Whether the read transaction ends with the commit that is going on.
    ends_reading: bool,
    /// Whether the change counter was raised since the exclusive lock was obtained.
    counter_raised: bool,
    /// The journal file that the last commit left, in a mode that leaves one.
    kept_journal: Option<KeptJournal>,
    /// Generator of the journals' start values; 0 before the first.
    nonces: u64,
    /// A journal was left behind that could not be ended: the next one must not begin inside it.
    journal_left: bool,
    /// Bytes 24 to 39 of the file as last read or written.
    stamp: Stamp,

    cache_size: i32,
    locking_mode: LockingMode,
    journal_mode: JournalMode,
    journal_limit: i64,
    page_limit: u32,
    safety: SafetyLevel,
    full_sync: bool,
    undo_in_memory: bool,
    busy_handler: Option<BusyHandler>,

    /// Who wants to know of changes; mostly nobody.
    watches: Vec<Watch>,
    next_watch: u64,
    /// What stands between cache and files; mostly nothing.
    codec: Option<Arc<dyn PageCodec>>,
    /// Room for one encoded page.
    coded: Vec<u8>,
    /// Pages are dropped at random: the chance in percent, and the state of the dice.
    discard: Option<(u32, u64)>,

    /// Room for one page and for a list of pages to write, kept between calls.
    scratch: Vec<u8>,
    order: Vec<(u32, u32)>,
    victims: Vec<Victim>,
    journal_buffer: Vec<u8>,
}

impl<X: PageInfo> fmt::Debug for Pager<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pager")
            .field("storage", &self.storage)
            .field("state", &self.state)
            .field("image", &self.image)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// Opening and closing.
impl<X: PageInfo> Pager<X> {
    /// Opens the file, without a lock and without looking at its content.
    ///
    /// # Errors
    /// [`CannotOpen`](crate::Error::CannotOpen), [`NoMemory`](crate::Error::NoMemory).
    pub fn open(vfs: Arc<dyn Vfs>, storage: &Storage, options: &PagerOptions) -> Result<Self> {
        let is_file = matches!(storage, Storage::File(_));
        let (file, read_only) = open_database(&*vfs, storage, options)?;
        let omit_journal = options.omit_journal && !is_file;
        Ok(Pager {
            cache: Cache::new(options.page_size),
            serial: 1,
            gate: false,
            image: 0,
            counters: Counters::default(),
            state: State::Open,
            error: None,
            cache_trusted: false,
            transaction: Transaction::default(),
            savepoints: Vec::new(),
            undo: None,
            vfs,
            file,
            storage: storage.clone(),
            journal_path: beside(storage, "-journal"),
            wal_path: beside(storage, "-wal"),
            lock_offset: options.lock_offset,
            page_size: options.page_size,
            lock_page: LockPage::new(options.lock_offset, options.page_size),
            materialised: false,
            read_only,
            no_read_lock: options.no_read_lock && is_file,
            omit_journal,
            header_ignored: false,
            lock_unknown: false,
            file_pages: 0,
            shape_known: false,
            size_known: false,
            count_trusted: false,
            ends_reading: false,
            counter_raised: false,
            kept_journal: None,
            nonces: 0,
            journal_left: false,
            stamp: Stamp::default(),
            cache_size: options.cache_size,
            locking_mode: if is_file { LockingMode::Normal } else { LockingMode::Exclusive },
            journal_mode: match storage {
                _ if omit_journal => JournalMode::Off,
                Storage::Memory => JournalMode::Memory,
                Storage::File(_) | Storage::Temporary => JournalMode::Delete,
            },
            journal_limit: -1,
            page_limit: PAGE_LIMIT_DEFAULT,
            safety: SafetyLevel::Full,
            full_sync: false,
            undo_in_memory: false,
            busy_handler: None,
            watches: Vec::new(),
            next_watch: 0,
            codec: None,
            coded: Vec::new(),
            discard: None,
            scratch: Vec::new(),
            order: Vec::new(),
            victims: Vec::new(),
            journal_buffer: Vec::new(),
        })
    }

    /// The first 100 bytes of the file as they are, zeros where the file is shorter.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    pub fn peek_header(&self) -> Result<[u8; HEADER_SIZE]> {
        let mut header = [0; HEADER_SIZE];
        let there = self.file.read_at(&mut header, 0)?;
        if let Some(codec) = self.codec.as_deref().filter(|_| there > 0) {
            codec.decode(1, &mut header);
        }
        Ok(header)
    }

    /// Rolls back, lets go of everything and closes; errors leave a hot journal behind.
    pub fn close(mut self) {
        // Whatever fails here, the journal stays for the next opener.
        let _ = self.rollback();
        self.cache.release(0);
        self.leave_failure();
        self.end_read();
        if self.is_file() {
            let _ = self.file.unlock(crate::os::LockLevel::None);
        }
    }

    /// Whether the database lives in a named file.
    fn is_file(&self) -> bool {
        matches!(self.storage, Storage::File(_))
    }

    /// Path of the database; `None` for temporary ones.
    fn database_path(&self) -> Option<&Path> {
        match &self.storage {
            Storage::File(path) => Some(path),
            Storage::Temporary | Storage::Memory => None,
        }
    }
}

/// Opens the file of a database; also returns whether it allows reading only.
fn open_database(
    vfs: &dyn Vfs,
    storage: &Storage,
    options: &PagerOptions,
) -> Result<(Box<dyn File>, bool)> {
    let Storage::File(path) = storage else { return Ok((MemoryFile::boxed(), false)) };
    let request = OpenRequest {
        kind: OpenKind::Database,
        access: options.access,
        exclusive: options.exclusive,
        delete_on_close: options.delete_on_close,
        lock_offset: options.lock_offset,
    };
    let opened = vfs.open(Some(path), request)?;
    Ok((opened.file, opened.read_only || options.access == Access::ReadOnly))
}

/// The path of a file that stands beside the database.
fn beside(storage: &Storage, suffix: &str) -> Option<PathBuf> {
    let Storage::File(path) = storage else { return None };
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    Some(PathBuf::from(name))
}
