//! Beginning to write: the reserved lock, the memory of the transaction, its journal.

use super::fetch::stamp_of;
use super::journal::{Journal, JournalSetup};
use super::page_set::PageSet;
use super::state::State;
use super::temporary::MemoryFile;
use super::together::SuperJournal;
use super::{JournalMode, PageInfo, Pager, Stamp};
use crate::error::{Error, ReadOnlyReason, Result};
use crate::format::bytes::{put_u32, u32_at};
use crate::format::{FileHeader, PageNumber};
use crate::os::{Access, File, LockLevel, OpenKind, OpenRequest};

/// A file whose bytes are those of pages of another size.
#[derive(Debug)]
pub struct Regrouping {
    /// Number of the other pages.
    pub pages: u32,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Pieces of the lock page that are other pages then, with their offsets in the file.
    pub around_lock: Vec<(u64, Vec<u8>)>,
}

/// What a write transaction has to remember.
#[derive(Debug)]
pub(super) struct Transaction {
    /// How its journal ends.
    pub(super) mode: JournalMode,
    pub(super) journal: Option<Journal>,
    /// Whether it had the exclusive lock from the first.
    pub(super) began_exclusive: bool,
    /// Length of the file in pages when it began.
    pub(super) original_pages: u32,
    /// Pages of the image when it began.
    pub(super) original_image: u32,
    pub(super) original_stamp: Stamp,
    /// Fewest pages that the image has had since.
    pub(super) low_water: u32,
    /// Pages whose original is in the journal, or will never be needed.
    pub(super) saved: PageSet,
    /// Pages whose record is in the part of the journal that is not yet durable. The mark in the
    /// frame does not do: a frame may leave the cache unwritten and come back.
    pub(super) unsealed: PageSet,
    /// Pages that became free leaves in this transaction.
    pub(super) freed: PageSet,
    pub(super) super_journal: SuperJournal,
    /// The pages are to be read as pages of another size from the commit on.
    pub(super) regrouping: Option<Regrouping>,
    /// Whether a page may have been written to the database file.
    pub(super) file_written: bool,
    /// A group of pages is being journaled that must not be parted by a sync of the journal.
    pub(super) spill_forbidden: bool,
    /// A spill was refused its lock after the busy handler had given up, which is not asked by the
    /// spills that follow.
    pub(super) spill_refused: bool,
}

/// The journal file of a commit, for the next one: opening it again would cost the calls, and the
/// knowledge that its directory entry is durable.
#[derive(Debug)]
pub(super) struct KeptJournal {
    pub(super) file: Box<dyn File>,
    pub(super) name_durable: bool,
    /// It was left with a length of zero.
    pub(super) is_cut: bool,
    /// The lock of its commit was kept, so that nobody can have deleted the file.
    pub(super) is_locked: bool,
}

impl Default for Transaction {
    fn default() -> Transaction {
        Transaction {
            mode: JournalMode::Delete,
            journal: None,
            began_exclusive: false,
            original_pages: 0,
            original_image: 0,
            original_stamp: Stamp::default(),
            low_water: 0,
            saved: PageSet::default(),
            unsealed: PageSet::default(),
            freed: PageSet::default(),
            super_journal: SuperJournal::None,
            regrouping: None,
            file_written: false,
            spill_forbidden: false,
            spill_refused: false,
        }
    }
}

impl Transaction {
    /// None at all, with the memory of this one.
    pub(super) fn recycled(self) -> Transaction {
        Transaction {
            saved: self.saved.recycled(),
            unsealed: self.unsealed.recycled(),
            freed: self.freed.recycled(),
            ..Transaction::default()
        }
    }
}

/// Beginning.
impl<X: PageInfo> Pager<X> {
    /// Turns a read transaction into a write transaction: reserved lock, or exclusive at once.
    /// With `open_journal` the journal file is opened and its header written now; without, when
    /// the first page is made writable. Nothing happens if one is open.
    ///
    /// # Errors
    /// [`Busy`](crate::Error::Busy) (the busy handler is asked only on the way to exclusive),
    /// [`ReadOnly`](crate::Error::ReadOnly), [`CannotOpen`](crate::Error::CannotOpen),
    /// [`Io`](crate::Error::Io): the read transaction stays.
    pub fn begin_write(&mut self, exclusive: bool, open_journal: bool) -> Result<()> {
        self.check_transaction()?;
        if self.state.is_writing() {
            return Ok(());
        }
        if self.read_only {
            return Err(Error::ReadOnly(ReadOnlyReason::File));
        }
        let held = self.file.lock_level();
        if let Err(error) = self.lock_for_writing(exclusive) {
            self.unlock(held);
            return Err(error);
        }
        self.serial += 1;
        self.transaction = Transaction {
            mode: self.journal_mode,
            began_exclusive: self.file.lock_level() == LockLevel::Exclusive,
            original_pages: self.file_pages,
            original_image: self.image,
            original_stamp: self.stamp,
            low_water: self.image,
            // One that failed is still there.
            ..std::mem::take(&mut self.transaction).recycled()
        };
        self.size_known = true;
        self.enter(State::WriterLocked);
        let result = self.prepare_transaction(open_journal);
        if result.is_err() {
            // Nothing was changed yet; if even this fails, the pager is in its error state.
            let _ = self.rollback();
        }
        result
    }

    fn lock_for_writing(&mut self, exclusive: bool) -> Result<()> {
        if self.no_read_lock && self.file.lock_level() == LockLevel::None {
            self.lock_after_reading_without()?;
        }
        self.lock_at_once(LockLevel::Reserved)?;
        if exclusive { self.lock_patiently(LockLevel::Exclusive) } else { Ok(()) }
    }

    /// Takes the lock for a reader that held none so far. In the meantime somebody may have written
    /// and even died: a hot journal must not be overwritten by ours, and the cache may be older
    /// than the file.
    ///
    /// # Errors
    /// [`Error::Busy`] if pages are held that are not true any more: the reader must begin anew.
    fn lock_after_reading_without(&mut self) -> Result<()> {
        self.lock_patiently(LockLevel::Shared)?;
        let recovered = self.resolve_journal()?;
        self.lock_patiently(LockLevel::Shared)?;
        self.lock_at_once(LockLevel::Reserved)?;
        if recovered {
            self.stamp = [0xff; 16]; // What was read beside the journal is not to be trusted.
        }
        let is_old = stamp_of(&self.peek_header()?) != self.stamp;
        if is_old && self.cache.pinned() > 0 {
            return Err(Error::Busy);
        }
        // Who has locked the file exclusively changes the stamp once for many commits, between
        // which we may have read.
        if !is_old && !self.are_pinned_pages_true()? {
            return Err(Error::Busy);
        }
        let (image, pages) = (self.image, self.file_pages);
        self.validate_cache()?;
        if is_old {
            return Ok(());
        }
        self.image = image;
        self.discard_unpinned();
        // Somebody may have made the file longer and taken that back. But if our number of pages is
        // the length that it had, it is not true any more.
        if image == pages && pages != self.file_pages { Err(Error::Busy) } else { Ok(()) }
    }

    fn prepare_transaction(&mut self, open_journal: bool) -> Result<()> {
        let sector = i64::from(self.sector_size());
        let has_room = self.journal_limit < 0 || self.journal_limit >= sector;
        if open_journal && has_room && self.keeps_journal_file() {
            self.open_journal(true)?;
        }
        if self.count_trusted && self.image > 0 {
            self.repair_page_count()?;
        }
        Ok(())
    }

    /// Files last written by a very old SQLite have a wrong number of pages in their header.
    fn repair_page_count(&mut self) -> Result<()> {
        let stored = |bytes: &[u8]| u32_at(bytes, FileHeader::PAGE_COUNT);
        if let Some(frame) = self.cache.find(1)
            && stored(self.cache.parts(frame).0)? == self.image
        {
            return Ok(());
        }
        let mark = self.mark();
        let result = self.fetch(PageNumber::ONE).and_then(|page| {
            if stored(self.bytes(page))? == self.image {
                return Ok(());
            }
            let page = self.make_writable(page)?;
            let image = self.image;
            put_u32(self.bytes_mut(page), FileHeader::PAGE_COUNT, image)
        });
        self.release(mark);
        result
    }

    /// The unit that a torn write can damage.
    pub(super) fn sector_size(&self) -> u32 {
        match self.file.sector_size() {
            sector if sector < 32 || !sector.is_power_of_two() => 512,
            sector => sector.min(65536),
        }
    }

    /// Whether this transaction has a rollback journal at all.
    pub(super) fn keeps_journal(&self) -> bool {
        !self.omit_journal && self.transaction.mode != JournalMode::Off
    }

    /// Whether this transaction has a journal in a file.
    pub(super) fn keeps_journal_file(&self) -> bool {
        self.keeps_journal()
            && self.transaction.mode != JournalMode::Memory
            && (self.is_file() || self.materialised || self.header_ignored)
    }

    /// Opens the journal of this transaction. Its header is written now, or with the first records.
    /// If that fails the journal does not exist, or is void.
    pub(super) fn open_journal(&mut self, write_header: bool) -> Result<()> {
        let in_file = self.keeps_journal_file();
        if in_file {
            self.file.check_process()?;
        }
        let limit = u64::try_from(self.journal_limit).ok().filter(|_| in_file && self.is_file());
        let device = self.file.device();
        let durable = in_file && !self.is_sync_disabled();
        let mut setup = JournalSetup {
            page_size: self.page_size,
            lock_page: self.lock_page,
            sector: self.sector_size(),
            original_pages: self.transaction.original_pages,
            endless: !durable || device.safe_append,
            limit,
            in_memory: !in_file,
            name_durable: false,
        };
        if limit.is_some_and(|limit| limit < u64::from(setup.sector)) {
            return Err(Error::Full);
        }
        let kept = if in_file { self.kept_journal.take() } else { None };
        // A journal in memory has no place that could be the wrong one.
        let is_locked = kept.as_ref().is_some_and(|kept| kept.is_locked);
        if in_file && !is_locked && self.is_file() && self.file.has_moved()? {
            return Err(Error::ReadOnly(ReadOnlyReason::Moved));
        }
        let mut file = match kept {
            // The same name leads to the same file still, so it was not gone in between either:
            // nobody else can have its number while it is open here.
            Some(kept) if kept.is_locked || !kept.file.has_moved()? => {
                setup.name_durable = kept.name_durable;
                kept.file
            }
            _ => self.open_journal_file(in_file)?,
        };
        if in_file && self.journal_left {
            file.truncate(0)?;
            self.journal_left = false;
        }
        let buffer = std::mem::take(&mut self.journal_buffer);
        let nonce = self.next_nonce();
        let mut started = Journal::start(file, setup, nonce, buffer);
        if let Ok(journal) = &mut started
            && write_header
            && let Err(error) = journal.flush()
        {
            started = Err(error);
        }
        match started {
            Ok(journal) => self.transaction.journal = Some(journal),
            Err(error) => {
                if let (true, Some(path)) = (in_file, &self.journal_path) {
                    // Half a header is no danger, but it should not lie about.
                    let _ = self.vfs.delete(path, false);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// A start value for the checksums of a segment, different each time so that no record is taken
    /// for one of a later journal in the same file.
    pub(super) fn next_nonce(&mut self) -> u32 {
        if self.nonces == 0 {
            let half = || u64::from(self.vfs.random());
            self.nonces = half() << 32 | half() | 1;
        }
        // Knuth's generator; its upper half is the random one.
        self.nonces = self.nonces.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1 << 33 | 1);
        (self.nonces >> 32) as u32
    }

    fn open_journal_file(&self, in_file: bool) -> Result<Box<dyn File>> {
        let path = match &self.journal_path {
            _ if !in_file => return Ok(MemoryFile::boxed()),
            None => return self.open_temporary(OpenKind::TemporaryJournal),
            Some(path) => path,
        };
        let request = OpenRequest {
            kind: OpenKind::Journal,
            access: Access::Create,
            exclusive: false,
            delete_on_close: false,
            lock_offset: self.lock_offset,
        };
        let opened = self.vfs.open(Some(path), request)?;
        if opened.read_only {
            return Err(Error::CannotOpen("the journal cannot be written"));
        }
        Ok(opened.file)
    }
}
