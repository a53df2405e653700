//! Commit: phase one makes the transaction durable, phase two makes it final.
//!
//! ```text
//!   exclusive lock ─ change counter ─ super-journal record ─ journal synced ─ pages written ─
//!   database synced ═ phase one done ═ journal ends: the commit point ─ file cut ─ lock lowered
//! ```

use std::path::Path;

use super::begin::KeptJournal;
use super::journal::Journal;
use super::state::State;
use super::temporary::MemoryFile;
use super::together::SuperJournal;
use super::{JournalMode, LockingMode, PageInfo, Pager, SafetyLevel, Storage};
use crate::error::{Error, Result};
use crate::format::bytes::{put_u32, u32_at};
use crate::format::{FileHeader, LIBRARY_VERSION, MAGIC, PageNumber};
use crate::os::{Access, Hint, LockLevel, OpenKind};

impl<X: PageInfo> Pager<X> {
    /// Makes the transaction durable, but not final: journal synced, change counter raised, pages
    /// written, database synced. `super_journal` is the one that this transaction hangs on.
    /// Does nothing but count if no page was changed.
    ///
    /// # Errors
    /// [`Busy`](crate::Error::Busy): the transaction stays open and can be tried again.
    /// [`Full`](crate::Error::Full), [`Io`](crate::Error::Io): it must be rolled back.
    pub fn commit_phase_one(&mut self, super_journal: Option<&Path>) -> Result<()> {
        self.prepare_commit(super_journal, true)
    }

    /// The same without syncing the database: [`Pager::sync`] must do that before phase two (P6).
    ///
    /// # Errors
    /// As [`Pager::commit_phase_one`].
    pub fn commit_phase_one_unsynced(&mut self, super_journal: Option<&Path>) -> Result<()> {
        self.prepare_commit(super_journal, false)
    }

    fn prepare_commit(&mut self, super_journal: Option<&Path>, sync: bool) -> Result<()> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if !self.is_changed() || self.state == State::Finished {
            return Ok(());
        }
        let mark = self.mark();
        let result = if self.header_ignored {
            self.raise_bare_counter()
        } else {
            self.lock_patiently(LockLevel::Exclusive).and_then(|()| self.update_page_one())
        };
        self.release(mark);
        result?;
        if let Some(path) = super_journal {
            self.name_super_journal(path).map_err(|error| self.latch_if_serious(error))?;
        }
        if self.storage == Storage::Temporary && self.image > self.cache_limit() {
            self.materialise().map_err(|error| self.latch_if_serious(error))?;
        }
        self.protect_originals()?;
        self.write_dirty_pages()?;
        self.extend_file().map_err(|error| self.latch_if_serious(error))?;
        if self.header_ignored {
            self.cut_bare_file().map_err(|error| self.latch_if_serious(error))?;
        }
        let synced = if sync { self.sync() } else { Ok(()) };
        // All is written, whether or not it is synced: an error of that stays until the rollback.
        // One that does not stay lets the whole be tried again.
        if synced.is_ok() || self.error.is_some() {
            self.enter(State::Finished);
        }
        synced
    }

    /// Whether phase one is done and phase two is not: what is changed now would not be committed.
    pub fn is_half_committed(&self) -> bool {
        self.state == State::Finished
    }

    /// Whether the open write transaction has changed anything.
    pub(super) fn is_changed(&self) -> bool {
        self.state.is_writing()
            && (self.state > State::WriterLocked || self.image != self.transaction.original_image)
    }

    /// Raises the change counter and stores what goes with it, as far as page 1 is a file header.
    fn update_page_one(&mut self) -> Result<()> {
        let page = self.fetch(PageNumber::ONE)?;
        let bytes = self.bytes(page);
        let is_header = bytes.starts_with(&MAGIC);
        let image = match &self.transaction.regrouping {
            Some(other) => other.pages,
            None => self.image,
        };
        if !is_header && self.storage == Storage::Memory {
            return Ok(());
        }
        // One less for the page that would be made writable here for nothing but its counter.
        let counted = u32_at(bytes, FileHeader::PAGE_COUNT)? == image || !is_header;
        if !self.owes_counter() && counted && !self.cache.frame(page.frame).is_dirty() {
            return Ok(());
        }
        let raise = u32::from(self.owes_counter());
        let counter = u32_at(&self.stamp, 0)?.wrapping_add(raise);
        let page = self.make_writable(page)?;
        let bytes = self.bytes_mut(page);
        put_u32(bytes, FileHeader::CHANGE_COUNTER, counter)?;
        if is_header {
            put_u32(bytes, FileHeader::PAGE_COUNT, image)?;
            put_u32(bytes, FileHeader::VERSION_VALID_FOR, counter)?;
            put_u32(bytes, FileHeader::LIBRARY_VERSION, LIBRARY_VERSION)?;
        }
        Ok(())
    }

    /// Raises the counter of a page 1 that is no file header. A refused lock leaves it as it was,
    /// so that it goes up once however often the commit is tried.
    fn raise_bare_counter(&mut self) -> Result<()> {
        if self.storage == Storage::Memory {
            return Ok(());
        }
        let page = self.fetch(PageNumber::ONE)?;
        self.lock_patiently(LockLevel::Exclusive)?;
        let page = self.make_writable(page)?;
        let bytes = self.bytes_mut(page);
        let counter = u32_at(bytes, FileHeader::CHANGE_COUNTER)?.wrapping_add(1);
        put_u32(bytes, FileHeader::CHANGE_COUNTER, counter)
    }

    /// Cuts a file whose length alone says how many pages it has. What is cut off is in the
    /// journal, so a commit that does not become final can be undone.
    fn cut_bare_file(&mut self) -> Result<()> {
        if self.storage != Storage::Memory && self.shrinks_file() {
            self.file.truncate(self.final_size())?;
            self.file_pages = self.image;
        }
        Ok(())
    }

    fn name_super_journal(&mut self, path: &Path) -> Result<()> {
        let aligned = self.syncs_twice();
        if !self.keeps_journal_file() || !self.is_file() {
            return Ok(());
        }
        self.file.hint(Hint::JoinSuperJournal(path));
        self.transaction.super_journal = SuperJournal::Named(path.to_owned());
        match &mut self.transaction.journal {
            Some(journal) => journal.append_super_journal(path, aligned),
            None => Ok(()),
        }
    }

    /// Gives the file its full length.
    fn extend_file(&mut self) -> Result<()> {
        if self.file_pages < self.image {
            self.write_zero_page(self.image)?;
        }
        for (offset, piece) in self.transaction.regrouping.iter().flat_map(|r| &r.around_lock) {
            self.file.write_at(piece, *offset)?;
        }
        Ok(())
    }

    fn sync_file(&mut self) -> Result<()> {
        if !self.is_sync_disabled() {
            self.file.sync(self.sync_kind())?;
        }
        Ok(())
    }

    /// Makes the database file durable, unless syncing is off.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io). In a write transaction it must be rolled back then: what a failed
    /// sync has lost, the next one does not bring back.
    pub fn sync(&mut self) -> Result<()> {
        let result = self.sync_file();
        if !self.state.is_writing() {
            return result;
        }
        result.map_err(|error| self.latch_if_serious(error))
    }

    /// Writes a page of zeros straight to the file, to make it long enough.
    pub(super) fn write_zero_page(&mut self, number: u32) -> Result<()> {
        self.prepare_scratch(self.page_size.bytes())?;
        if let Some(codec) = &self.codec {
            codec.encode(number, &mut self.scratch);
        }
        let offset = u64::from(number.saturating_sub(1)) * u64::from(self.page_size.get());
        self.file.write_at(&self.scratch, offset)?;
        self.file_pages = self.file_pages.max(number);
        Ok(())
    }

    /// Makes the transaction final: the journal goes; the file is cut if the image got shorter.
    /// The read transaction stays open.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io): the journal is still there; roll back. Only at safety level
    /// extra, and when the file gets shorter, can the transaction be final and an error tell that
    /// it may not outlive the power.
    pub fn commit_phase_two(&mut self) -> Result<()> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if !self.state.is_writing() {
            return Ok(());
        }
        if self.is_changed() && self.state != State::Finished {
            return Err(Error::State("phase one of commit was not done"));
        }
        let changed = self.state == State::Finished;
        if let Err(error) = self.end_journal(changed) {
            self.leave_journal_behind().map_err(|_| self.latch(error))?;
        }
        let durable = self.sync_journal_directory(changed);
        // The commit point is behind us. A file that stays too long is legal, its header says
        // how much of it counts (a file without was cut in phase one); one that was cut
        // while its journal can still come back with a power loss is not: the journal lacks what
        // was cut off.
        if self.shrinks_file()
            && changed
            && durable.is_ok()
            && self.file.truncate(self.final_size()).is_ok()
        {
            self.file_pages = self.image;
        }
        self.counter_raised |= changed && self.locking_mode == LockingMode::Exclusive;
        self.clean_dirty();
        // A journal that comes back does no harm if what it names does not.
        let settled = matches!(self.transaction.super_journal, SuperJournal::Gone);
        self.end_transaction();
        if settled { Ok(()) } else { durable }
    }

    /// Ending the journal has failed. If it names a super-journal that is gone, the transaction is
    /// committed all the same, and the journal is left to the next reader to remove.
    ///
    /// # Errors
    /// Any: the journal is still needed.
    fn leave_journal_behind(&mut self) -> Result<()> {
        if !self.is_committed_elsewhere()? {
            return Err(Error::Internal("the journal is hot"));
        }
        if let Some(journal) = self.transaction.journal.take() {
            self.journal_buffer = journal.close();
        }
        self.journal_left = true;
        Ok(())
    }

    /// As [`Pager::commit_phase_two`], for a caller that ends the read transaction next: no lock
    /// is kept for it in between.
    ///
    /// # Errors
    /// As [`Pager::commit_phase_two`].
    pub fn commit_phase_two_for_good(&mut self) -> Result<()> {
        self.ends_reading = true;
        let result = self.commit_phase_two();
        self.ends_reading = false;
        result
    }

    /// Whether the file is longer than the image, so that this commit cuts it.
    fn shrinks_file(&self) -> bool {
        u64::from(self.file_pages) * u64::from(self.page_size.get()) > self.final_size()
    }

    /// Length in bytes of the file behind the commit.
    fn final_size(&self) -> u64 {
        match &self.transaction.regrouping {
            Some(other) => other.bytes,
            None => u64::from(self.image) * u64::from(self.page_size.get()),
        }
    }

    /// Makes the deletion of the journal durable, where that is asked for or the file is going
    /// to be cut. If it fails, the transaction is final all the same, until the power goes.
    fn sync_journal_directory(&self, changed: bool) -> Result<()> {
        let asked =
            self.safety == SafetyLevel::Extra || self.shrinks_file() && !self.is_sync_disabled();
        let wanted = changed && asked && self.is_file();
        match &self.journal_path {
            Some(path) if wanted && self.transaction.mode == JournalMode::Delete => {
                self.vfs.sync_directory(path)
            }
            _ => Ok(()),
        }
    }

    /// Takes the pages that were not written, because nobody needs them, out of the cache.
    fn clean_dirty(&mut self) {
        while let Some(&frame) = self.cache.dirty().first() {
            if self.cache.frame(frame).is_pinned() {
                self.cache.mark_clean(frame);
            } else {
                self.cache.remove(frame);
            }
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

    /// Forgets the transaction and goes back to reading.
    pub(super) fn end_transaction(&mut self) {
        self.transaction = std::mem::take(&mut self.transaction).recycled();
        self.savepoints.clear();
        self.undo = None;
        self.serial += 1;
        self.size_known = false;
        self.enter(State::Reader);
        self.unlock_writer();
    }

    /// Ends the journal by the mode of its transaction. `used` tells that it may have become
    /// valid, so that its end must be durable.
    ///
    /// # Errors
    /// Those of I/O; the journal is then still open.
    pub(super) fn end_journal(&mut self, used: bool) -> Result<()> {
        let keeps_file = self.keeps_journal_file() && self.is_file();
        let mode = self.transaction.mode;
        let sync = used && !self.is_sync_disabled();
        let (kind, full) = (self.sync_kind(), self.syncs_twice() || self.shrinks_file());
        let Some(journal) = &mut self.transaction.journal else { return Ok(()) };
        journal.begin_end();
        if keeps_file {
            let limit = u64::try_from(self.journal_limit).ok();
            match mode {
                JournalMode::Truncate => {
                    journal.cut(0)?;
                    if sync && full {
                        journal.sync_file(kind)?;
                    }
                }
                JournalMode::Persist => persist(journal, limit, sync.then_some(kind))?,
                JournalMode::Delete | JournalMode::Memory | JournalMode::Off => {
                    self.delete_journal()?;
                }
            }
        }
        if let Some(journal) = self.transaction.journal.take() {
            let stays = matches!(mode, JournalMode::Persist | JournalMode::Truncate);
            let is_kept = stays && keeps_file && !journal.undoes();
            let name_durable = journal.is_name_durable();
            let (file, buffer) = journal.into_parts();
            self.journal_buffer = buffer;
            let is_cut = mode == JournalMode::Truncate;
            let kept = KeptJournal { file, name_durable, is_cut, is_locked: true };
            self.kept_journal = is_kept.then_some(kept);
        }
        Ok(())
    }
}

impl<X: PageInfo> Pager<X> {
    /// Deletes the journal of the transaction. It is closed before that: a file that loses its
    /// name while it is open costs the system half as much again. If the name cannot be removed,
    /// the file is opened once more, for the rollback that follows, which tries that as well if it
    /// cannot be done here.
    fn delete_journal(&mut self) -> Result<()> {
        let (Some(journal), Some(path)) = (&mut self.transaction.journal, &self.journal_path)
        else {
            return Ok(());
        };
        self.file.check_process()?;
        if journal.undoes() {
            return self.vfs.delete(path, false);
        }
        journal.replace_file(MemoryFile::boxed());
        let deleted = self.vfs.delete(path, false);
        if deleted.is_err() {
            let _ = self.reattach_journal();
        }
        deleted
    }

    /// Opens the journal of the transaction again, which was closed to be deleted.
    ///
    /// # Errors
    /// Those of opening.
    pub(super) fn reattach_journal(&mut self) -> Result<()> {
        let Some(path) = &self.journal_path else { return Ok(()) };
        let opened = self.open_beside(path, OpenKind::Journal, Access::ReadWrite)?;
        if let Some(journal) = &mut self.transaction.journal {
            journal.replace_file(opened.file);
        }
        Ok(())
    }
}

/// Leaves a void journal file behind.
fn persist(
    journal: &mut Journal,
    limit: Option<u64>,
    sync: Option<crate::os::SyncKind>,
) -> Result<()> {
    if journal.names_super_journal() || limit == Some(0) {
        journal.cut(0)?;
    } else {
        journal.void()?;
    }
    if let Some(kind) = sync {
        journal.sync_file(kind)?;
    }
    match limit {
        Some(limit) if limit > 0 => journal.cut(limit),
        _ => Ok(()),
    }
}
