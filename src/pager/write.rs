//! Saving the original of a page before its first change.

use super::journal::Journal;
use super::state::State;
use super::{PageInfo, PageMut, PageRef, Pager};
use crate::error::{Error, ReadOnlyReason, Result};
use crate::format::PageNumber;
use crate::memory;

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
    pub(super) fn save_original(&mut self, frame: u32) -> Result<()> {
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
            self.open_journal(false)?;
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
            return Ok(!self.must_wait(number));
        }
        self.transaction.unsealed.reserve(number)?;
        self.transaction.saved.reserve(number)?;
        if self.transaction.journal.is_some() {
            self.read_hollow(frame)?;
            self.begin_wanted_segment()?;
            let hollow = self.cache.frame(frame).hollow;
            let coded = !hollow && self.encode(frame)?;
            let journal = self.transaction.journal.as_mut();
            let journal = journal.ok_or(Error::Internal("the journal vanished"))?;
            let bytes = match (hollow, coded) {
                (true, _) => &self.scratch,
                (false, true) => &self.coded,
                (false, false) => self.cache.parts(frame).0,
            };
            journal.append(number, bytes)?;
            for savepoint in &mut self.savepoints {
                // Without the mark the undo file gets the page once more, which does no harm.
                let _ = savepoint.seen.insert(number);
            }
        }
        self.transaction.saved.insert(number)?;
        if self.transaction.journal.is_some() {
            self.transaction.unsealed.insert(number)?;
        }
        self.cache.frame_mut(frame).needs_sync = true;
        Ok(self.transaction.journal.is_none())
    }

    /// Begins the segment that the next record goes into, unless one is open.
    fn begin_wanted_segment(&mut self) -> Result<()> {
        if self.transaction.journal.as_ref().is_some_and(Journal::wants_segment) {
            let nonce = self.next_nonce();
            if let Some(journal) = &mut self.transaction.journal {
                journal.begin_segment(nonce)?;
            }
        }
        Ok(())
    }

    /// Whether a page that is saved, or new, may be written only after the journal was synced:
    /// nothing has been written yet, or its own record is in the part that is not durable, or
    /// that of a page in the same sector may be.
    pub(super) fn must_wait(&self, number: u32) -> bool {
        let Some(journal) = &self.transaction.journal else {
            return self.state != State::FileChanged;
        };
        let grouped = self.sector_size() > self.page_size.get();
        self.state != State::FileChanged
            || self.transaction.unsealed.contains(number)
            || grouped && journal.is_unsealed()
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
        memory::reserve_exact(&mut self.scratch, length)?;
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
        } else if self.state.is_writing()
            && let Err(error) = self.transaction.freed.insert(number.get())
        {
            self.latch(error);
        }
    }

    /// `number` has become a page of the free list whose content matters, a trunk.
    ///
    /// # Errors
    /// [`NoMemory`](crate::Error::NoMemory).
    pub fn note_freed(&mut self, number: PageNumber) -> Result<()> {
        self.transaction.freed.insert(number.get()).map(|_| ())
    }

    /// Whether the page became free in this transaction, at some time or other.
    pub fn was_freed(&self, number: PageNumber) -> bool {
        self.transaction.freed.contains(number.get())
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
}
