//! Beginning to write, and saving the original of a page before its first change.

use super::journal::{Journal, JournalSetup};
use super::page_set::PageSet;
use super::state::State;
use super::temporary::MemoryFile;
use super::{JournalMode, LockingMode, PageInfo, PageMut, PageRef, Pager, SafetyLevel, Stamp};
use crate::error::{Error, ReadOnlyReason, Result};
use crate::format::bytes::{put_u32, u32_at};
use crate::format::{FileHeader, PageNumber};
use crate::os::{Access, File, LockLevel, OpenKind, OpenRequest};

/// What a write transaction has to remember.
#[derive(Debug)]
pub(super) struct Transaction {
    /// How its journal ends.
    pub(super) mode: JournalMode,
    pub(super) journal: Option<Journal>,
    /// Length of the file in pages when it began.
    pub(super) original_pages: u32,
    /// Pages of the image when it began.
    pub(super) original_image: u32,
    pub(super) original_stamp: Stamp,
    /// Fewest pages that the image has had since.
    pub(super) low_water: u32,
    /// Pages whose original is in the journal, or will never be needed.
    pub(super) saved: PageSet,
    /// Pages that became free leaves in this transaction.
    pub(super) freed: PageSet,
    /// Whether a page may have been written to the database file.
    pub(super) file_written: bool,
    /// A group of pages is being journaled that must not be parted by a sync of the journal.
    pub(super) spill_forbidden: bool,
}

impl Default for Transaction {
    fn default() -> Transaction {
        Transaction {
            mode: JournalMode::Delete,
            journal: None,
            original_pages: 0,
            original_image: 0,
            original_stamp: Stamp::default(),
            low_water: 0,
            saved: PageSet::default(),
            freed: PageSet::default(),
            file_written: false,
            spill_forbidden: false,
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
            original_pages: self.file_pages,
            original_image: self.image,
            original_stamp: self.stamp,
            low_water: self.image,
            ..Transaction::default()
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
            self.lock_patiently(LockLevel::Shared)?;
            self.lock_at_once(LockLevel::Reserved)?;
            // Without a lock so far, the cache may be older than the file.
            self.validate_cache()?;
        }
        self.lock_at_once(LockLevel::Reserved)?;
        if exclusive { self.lock_patiently(LockLevel::Exclusive) } else { Ok(()) }
    }

    fn prepare_transaction(&mut self, open_journal: bool) -> Result<()> {
        let sector = i64::from(self.sector_size());
        let has_room = self.journal_limit < 0 || self.journal_limit >= sector;
        if open_journal && has_room && self.keeps_journal_file() {
            self.open_journal()?;
        }
        if self.count_trusted && self.image > 0 {
            self.repair_page_count()?;
        }
        Ok(())
    }

    /// Files last written by a very old SQLite have a wrong number of pages in their header.
    fn repair_page_count(&mut self) -> Result<()> {
        let stored = |bytes: &[u8]| u32_at(bytes, FileHeader::PAGE_COUNT);
        if let Some(frame) = self.cache.find(1) {
            if stored(self.cache.parts(frame).0)? == self.image {
                return Ok(());
            }
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
    fn keeps_journal(&self) -> bool {
        !self.omit_journal && self.transaction.mode != JournalMode::Off
    }

    /// Whether this transaction has a journal in a file.
    pub(super) fn keeps_journal_file(&self) -> bool {
        self.keeps_journal()
            && self.transaction.mode != JournalMode::Memory
            && (self.is_file() || self.materialised)
    }

    /// Opens the journal of this transaction and writes its header. If that fails the journal
    /// does not exist, or is void.
    pub(super) fn open_journal(&mut self) -> Result<()> {
        let in_file = self.keeps_journal_file();
        let limit = u64::try_from(self.journal_limit).ok().filter(|_| in_file && self.is_file());
        let device = self.file.device();
        let durable = in_file && !self.is_sync_disabled();
        let setup = JournalSetup {
            page_size: self.page_size,
            lock_page: self.lock_page,
            sector: self.sector_size(),
            original_pages: self.transaction.original_pages,
            endless: !durable || device.safe_append,
            limit,
        };
        if limit.is_some_and(|limit| limit < u64::from(setup.sector)) {
            return Err(Error::Full);
        }
        if self.is_file() && self.file.has_moved()? {
            return Err(Error::ReadOnly(ReadOnlyReason::Moved));
        }
        let file = self.open_journal_file(in_file)?;
        let buffer = std::mem::take(&mut self.journal_buffer);
        match Journal::start(file, setup, self.vfs.random(), buffer) {
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

/// Changing pages.
impl<X: PageInfo> Pager<X> {
    /// Saves the original of `page` in the journal, and in the undo file of savepoints, as far as
    /// that was not done yet; marks it dirty. Needs a write transaction.
    ///
    /// # Errors
    /// [`Full`](crate::Error::Full), also for the journal size limit; [`Io`](crate::Error::Io),
    /// [`CannotOpen`](crate::Error::CannotOpen); [`State`](crate::Error::State) without a write
    /// transaction. The page is then unchanged and clean.
    #[inline]
    pub fn make_writable(&mut self, page: PageRef) -> Result<PageMut> {
        if self.cache.frame(page.frame).write_serial != self.serial {
            self.save_original(page.frame)?;
        }
        Ok(PageMut { frame: page.frame })
    }

    /// The long way of [`Pager::make_writable`].
    #[cold]
    #[inline(never)]
    fn save_original(&mut self, frame: u32) -> Result<()> {
        self.check_transaction()?;
        match self.state {
            State::WriterLocked | State::CacheChanged | State::FileChanged => {}
            _ if self.read_only => return Err(Error::ReadOnly(ReadOnlyReason::File)),
            _ => return Err(Error::State("no write transaction is open")),
        }
        let number = self.cache.frame(frame).number;
        if number > self.page_limit {
            return Err(Error::Full);
        }
        if self.transaction.journal.is_none() && self.keeps_journal() {
            self.open_journal()?;
        }
        if self.sector_size() > self.page_size.get() && self.transaction.journal.is_some() {
            self.journal_neighbours(number)?;
        }
        let synced = self.journal_original(frame)?;
        self.save_for_savepoints(frame)?;
        if self.state == State::WriterLocked {
            self.enter(State::CacheChanged);
        }
        self.cache.mark_dirty(frame);
        let serial = self.serial;
        let frame = self.cache.frame_mut(frame);
        frame.needs_sync |= !synced;
        frame.write_serial = serial;
        self.image = self.image.max(number);
        self.size_known = true;
        Ok(())
    }

    /// Sees to it that the journal has the original of a page, if it needs one. Returns whether
    /// the page may be written without syncing the journal first.
    fn journal_original(&mut self, frame: u32) -> Result<bool> {
        let number = self.cache.frame(frame).number;
        if self.transaction.saved.contains(number) || number > self.transaction.original_pages {
            // A neighbour in a sector may have lost its mark with its frame.
            let unsealed = || self.transaction.journal.as_ref().is_some_and(Journal::is_unsealed);
            let grouped = self.sector_size() > self.page_size.get();
            return Ok(self.state == State::FileChanged && !(grouped && unsealed()));
        }
        self.transaction.saved.reserve(number)?;
        if self.transaction.journal.is_some() {
            self.read_hollow(frame)?;
            let journal = self.transaction.journal.as_mut();
            let journal = journal.ok_or(Error::Internal("the journal vanished"))?;
            if journal.wants_segment() {
                journal.begin_segment(self.vfs.random())?;
            }
            let hollow = self.cache.frame(frame).hollow;
            let bytes = if hollow { &self.scratch } else { self.cache.parts(frame).0 };
            journal.append(number, bytes)?;
            for savepoint in &mut self.savepoints {
                // Without the mark the undo file gets the page once more, which does no harm.
                let _ = savepoint.seen.insert(number);
            }
        }
        self.transaction.saved.insert(number)?;
        self.cache.frame_mut(frame).needs_sync = true;
        Ok(self.transaction.journal.is_none())
    }

    /// Reads what the file has for a hollow page into the scratch buffer.
    pub(super) fn read_hollow(&mut self, frame: u32) -> Result<()> {
        let frame = self.cache.frame(frame);
        if frame.hollow {
            let offset = (u64::from(frame.number) - 1) * u64::from(self.page_size.get());
            self.prepare_scratch(self.page_size.bytes())?;
            self.file.read_at(&mut self.scratch, offset)?;
        }
        Ok(())
    }

    /// Makes the scratch buffer `length` bytes long.
    pub(super) fn prepare_scratch(&mut self, length: usize) -> Result<()> {
        self.scratch.clear();
        self.scratch.try_reserve_exact(length).map_err(|_| Error::NoMemory)?;
        self.scratch.resize(length, 0);
        Ok(())
    }

    /// A torn write damages a whole sector, so all pages of the sector are journaled together, and
    /// none of them is written before all are synced.
    fn journal_neighbours(&mut self, number: u32) -> Result<()> {
        let group = self.sector_size() / self.page_size.get();
        let first = (number - 1) / group * group + 1;
        let last = first.saturating_add(group - 1).min(self.transaction.original_pages);
        let mark = self.mark();
        self.transaction.spill_forbidden = true;
        let result = self.journal_group(first, last);
        self.transaction.spill_forbidden = false;
        self.release(mark);
        result
    }

    fn journal_group(&mut self, first: u32, last: u32) -> Result<()> {
        let mut unsynced = false;
        let lock_page = self.lock_page;
        for number in (first..=last).filter(|number| !lock_page.is(*number)) {
            let Some(number) = PageNumber::new(number) else { continue };
            if !self.transaction.saved.contains(number.get()) {
                let page = self.fetch(number)?;
                unsynced |= !self.journal_original(page.frame)?;
            } else if let Some(frame) = self.cache.find(number.get()) {
                unsynced |= self.cache.frame(frame).needs_sync;
            }
        }
        for number in first..=last {
            if let Some(frame) = self.cache.find(number).filter(|_| unsynced) {
                self.cache.frame_mut(frame).needs_sync = true;
            }
        }
        Ok(())
    }

    /// `page` has become a leaf of the free list: its content will never be needed again, so it
    /// need not be written at commit. It may be allocated again by [`Pager::fetch_blank`].
    pub fn forget_content(&mut self, page: PageRef) {
        let number = self.cache.frame(page.frame).number;
        if !self.state.is_writing() {
            return;
        }
        if let Err(error) = self.transaction.freed.insert(number) {
            // Without the mark, allocating it again could lose what must be restored.
            self.latch(error);
            return;
        }
        if self.savepoints.is_empty() && self.cache.frame(page.frame).is_dirty() {
            let frame = self.cache.frame_mut(page.frame);
            frame.forgotten = true;
            frame.write_serial = 0;
        }
    }

    /// The same for a page that need not be in the cache.
    pub fn forget_content_of(&mut self, number: PageNumber) {
        if let Some(frame) = self.cache.find(number.get()) {
            self.forget_content(PageRef { frame });
        } else if self.state.is_writing() {
            if let Err(error) = self.transaction.freed.insert(number.get()) {
                self.latch(error);
            }
        }
    }
}

/// The size of the image.
impl<X: PageInfo> Pager<X> {
    /// Number of pages of the image, changes of the open transaction included. 0 without a
    /// transaction.
    #[inline]
    pub fn page_count(&self) -> u32 {
        self.image
    }

    /// Length of the database file in pages, a partial last page counted. Needs a transaction.
    pub fn file_page_count(&self) -> u32 {
        self.file_pages
    }

    /// Sets the number of pages to what the header says, when a transaction has just begun.
    pub fn trust_page_count(&mut self, pages: u32) {
        if self.state == State::Open {
            return;
        }
        self.image = pages;
        self.page_limit = self.page_limit.max(pages);
        self.count_trusted = true;
        self.size_known = true;
    }

    /// Makes the image `pages` long, which is more than now.
    ///
    /// # Errors
    /// [`Full`](crate::Error::Full) above the page limit.
    pub fn grow(&mut self, pages: u32) -> Result<()> {
        if pages > self.page_limit {
            return Err(Error::Full);
        }
        self.image = self.image.max(pages);
        Ok(())
    }

    /// Makes the image `pages` long, which is less than now. The file is cut at commit. Pages cut
    /// off leave the cache; those that are pinned become zeros.
    pub fn truncate_image(&mut self, pages: u32) {
        if !self.state.is_writing() || pages >= self.image {
            return;
        }
        for frame in self.cache.indices() {
            if self.cache.frame(frame).number > pages {
                if let Err(error) = self.cut_off(frame) {
                    // Its content is lost for a later rollback: only a full one is safe now.
                    self.latch(error);
                }
            }
        }
        self.image = pages;
        self.transaction.low_water = self.transaction.low_water.min(pages);
        self.serial += 1;
    }

    /// Saves what a rollback needs of a page that is being cut off, and empties its frame.
    fn cut_off(&mut self, frame: u32) -> Result<()> {
        if !self.cache.frame(frame).is_pinned() {
            if !self.savepoints.is_empty() && self.cache.frame(frame).is_dirty() {
                self.save_for_savepoints(frame)?;
            }
            self.cache.remove(frame);
            return Ok(());
        }
        self.save_original(frame)?;
        let (bytes, info) = self.cache.parts_mut(frame);
        bytes.fill(0);
        info.reset();
        Ok(())
    }

    /// Writes what was gathered for the journal, so that the length of its file is exact.
    ///
    /// # Errors
    /// [`Full`](crate::Error::Full), [`Io`](crate::Error::Io): it can be tried again.
    pub fn flush_journal_buffer(&mut self) -> Result<()> {
        match &mut self.transaction.journal {
            Some(journal) => journal.flush(),
            None => Ok(()),
        }
    }

    /// Whether the change counter has to be raised by this commit although page 1 is untouched.
    pub(super) fn owes_counter(&self) -> bool {
        self.locking_mode == LockingMode::Normal || !self.counter_raised
    }

    /// Whether the safety level asks for more than one sync of the journal.
    pub(super) fn syncs_twice(&self) -> bool {
        self.safety >= SafetyLevel::Full
    }
}
