//! Rollback: what the journal yields goes back into the file, what the file has into the cache.

use super::journal::{Journal, read_record};
use super::state::State;
use super::{JournalMode, PageInfo, Pager};
use crate::error::{Error, Result};
use crate::format::PageNumber;
use crate::format::bytes::slice;
use crate::os::{File, Hint};

/// What had been written to the file cannot be undone without a journal.
pub(super) const LOST: Error = Error::Abort("changes that had reached the file cannot be undone");

impl<X: PageInfo> Pager<X> {
    /// Undoes the write transaction; the read transaction stays open. Pinned pages get their old
    /// content, or zeros beyond the old end.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io): the pager is in its error state, the journal stays for the next
    /// opener. [`Abort`](crate::Error::Abort): no journal, and pages had been spilled. The
    /// transaction is over in every case but one: [`Misuse`](crate::Error::Misuse) in a process
    /// that was forked since, where nothing happens, for it is the parent's.
    pub fn rollback(&mut self) -> Result<()> {
        if !self.state.is_writing() {
            return Ok(());
        }
        self.file.check_process()?;
        if let Some(journal) = &mut self.transaction.journal {
            journal.begin_undo();
        }
        // A journal that could not be sealed may be valid all the same.
        let used = self.state > State::CacheChanged || self.error.is_some();
        let result = self.restore_image().and_then(|lost| {
            self.end_journal(used)?;
            Ok(lost)
        });
        self.savepoints.clear();
        self.undo = None;
        match result {
            Ok(lost) => {
                self.error = None;
                self.end_transaction();
                if lost { Err(LOST) } else { Ok(()) }
            }
            Err(error) => {
                self.error = None; // The present one tells more than the one that led here.
                self.latch(error);
                self.enter(State::Failed);
                Err(error)
            }
        }
    }

    /// Brings file and cache back to the beginning of the transaction, which stays open. Returns
    /// whether that was not possible because there is no journal.
    pub(super) fn restore_image(&mut self) -> Result<bool> {
        let written = self.transaction.file_written;
        let lost = written && self.transaction.journal.is_none();
        if written && !lost {
            self.file.hint(Hint::Undoing(true));
            let result = self.restore_file();
            self.file.hint(Hint::Undoing(false));
            result?;
        }
        self.image = self.transaction.original_image;
        self.stamp = self.transaction.original_stamp;
        self.file_pages = self.count_file_pages()?;
        self.reload(written)?;
        self.transaction.file_written = lost;
        Ok(lost)
    }

    /// Plays the journal back into the file, as far as its pages can have been written, gives the
    /// file its old length and makes it durable: the journal may end only after that (P6).
    fn restore_file(&mut self) -> Result<()> {
        let page_size = self.page_size.bytes();
        self.prepare_scratch(page_size + 8)?;
        self.revive_journal()?;
        if let Some(journal) = &mut self.transaction.journal {
            journal.flush_for_rollback()?;
            play_back(journal, &mut *self.file, &mut self.scratch)?;
        }
        self.set_file_length(self.transaction.original_pages)?;
        if !self.is_sync_disabled() {
            self.file.sync(self.sync_kind())?;
        }
        Ok(())
    }

    /// Makes sure that the journal can undo the transaction in case this rollback is cut short: a
    /// commit that failed in phase two may have made it void. If it is gone, the transaction is
    /// committed after all.
    fn revive_journal(&mut self) -> Result<()> {
        const GONE: Error = Error::Abort("the journal is gone: the transaction is committed");
        // Half of a rollback would stay if it were cut short: nobody would finish it.
        if self.is_committed_elsewhere()? {
            return Err(GONE);
        }
        let keeps_file = self.keeps_journal_file() && self.is_file();
        let sync = (!self.is_sync_disabled()).then(|| self.sync_kind());
        let Some(journal) = &mut self.transaction.journal else { return Ok(()) };
        if !journal.is_ending() || !keeps_file {
            return Ok(());
        }
        let there = match &self.journal_path {
            Some(path) => self.vfs.exists(path)?,
            None => true,
        };
        if !there {
            return Err(GONE);
        }
        let is_cut = matches!(self.transaction.mode, JournalMode::Truncate | JournalMode::Persist);
        if !is_cut && !journal.is_whole()? {
            // It could neither be deleted nor opened again. Without it nothing is undone here, and
            // whoever reads next finds it hot.
            self.reattach_journal()?;
        }
        let Some(journal) = &mut self.transaction.journal else { return Ok(()) };
        if !journal.revive()? {
            return Err(GONE);
        }
        match sync {
            Some(kind) => journal.sync_file(kind),
            None => Ok(()),
        }
    }

    /// Cuts the file to `pages` pages, or lengthens it if it is shorter by a page or more.
    pub(super) fn set_file_length(&mut self, pages: u32) -> Result<()> {
        let page_size = u64::from(self.page_size.get());
        let wanted = u64::from(pages) * page_size;
        let size = self.file.size()?;
        if size > wanted {
            self.file.truncate(wanted)?;
        } else if size + page_size <= wanted {
            self.write_zero_page(pages)?;
        }
        Ok(())
    }

    /// Gives the cache the content of the file again. Pages that were changed, or all if the file
    /// was, leave it; those that are pinned are read again.
    fn reload(&mut self, all: bool) -> Result<()> {
        let reads = self.counters.reads;
        let result = self.reload_frames(all);
        self.counters.reads = reads; // Requests are counted, not repairs.
        self.serial += 1;
        result
    }

    fn reload_frames(&mut self, all: bool) -> Result<()> {
        for index in self.cache.indices() {
            let frame = self.cache.frame(index);
            if frame.number == 0 || !(all || frame.is_dirty() || frame.hollow) {
                continue;
            }
            if !frame.is_pinned() {
                self.cache.remove(index);
                continue;
            }
            self.cache.mark_clean(index);
            self.fill(index, true)?;
        }
        Ok(())
    }

    /// Throws away what is not pinned, of a cache without changes that may be older than the file.
    pub(super) fn discard_unpinned(&mut self) {
        self.shape_known = false; // P7
        self.note_replaced();
        self.drop_unpinned();
        self.serial += 1;
    }

    /// Whether the pages in use are as the file has them.
    ///
    /// # Errors
    /// [`Io`](Error::Io), [`NoMemory`](Error::NoMemory).
    pub(super) fn are_pinned_pages_true(&mut self) -> Result<bool> {
        let length = self.page_size.bytes();
        let mut bytes = Vec::new();
        crate::memory::reserve_exact(&mut bytes, length)?;
        for index in self.cache.indices() {
            let frame = self.cache.frame(index);
            let Some(number) = PageNumber::new(frame.number).filter(|_| frame.is_pinned()) else {
                continue;
            };
            bytes.clear();
            bytes.resize(length, 0);
            let there = self.file.read_at(&mut bytes, offset_of(number, length))?;
            if let Some(codec) = self.codec.as_deref().filter(|_| there > 0) {
                codec.decode(number.get(), &mut bytes);
            }
            if self.cache.parts(index).0 != bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Throws the cache away; what is pinned is read again.
    pub(super) fn discard_cache(&mut self) -> Result<()> {
        self.reload(true)
    }
}

/// Writes the pages of all records that may have been overwritten in the file back to it.
fn play_back(journal: &Journal, file: &mut dyn File, record: &mut [u8]) -> Result<()> {
    let length = record.len() - 8;
    for range in journal.ranges_from(0, true) {
        for index in 0..range.records {
            let offset = range.start + index * range.step;
            let page = read_record(journal.file(), offset, range.nonce, record)?;
            let number = page.ok_or(Error::corrupt("the journal was damaged meanwhile"))?;
            file.write_at(slice(record, 4, length)?, offset_of(number, length))?;
        }
    }
    Ok(())
}

/// Where a page starts in a file of pages of `size` bytes.
fn offset_of(number: PageNumber, size: usize) -> u64 {
    u64::from(number.get() - 1) * size as u64
}
