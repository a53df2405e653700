//! Savepoints: undoing a part of a transaction.
//!
//! What a page held when a savepoint was opened is found in the rollback journal, if the page was
//! first changed after that, else in the undo file, to which pages go that change once more. Undo
//! records are page number and bytes, nothing else: they are never needed after a crash.

use super::journal::{GatheredFile, RecordRange, read_record};
use super::page_set::PageSet;
use super::rollback::LOST;
use super::state::State;
use super::temporary::MemoryFile;
use super::{JournalMode, PageInfo, Pager, Storage};
use crate::error::{Error, Result};
use crate::format::PageNumber;
use crate::format::bytes::u32_at;
use crate::memory;
use crate::os::OpenKind;

/// Savepoints that were opened at one moment: undoing one of them undoes the others.
#[derive(Debug)]
pub(super) struct Savepoint {
    /// How many they are, at least one.
    copies: usize,
    /// Pages of the image when it was opened.
    pub(super) pages: u32,
    /// Where the next record of the rollback journal went.
    journal_at: u64,
    /// Number of undo records.
    undo_records: u64,
    /// Pages whose content at that time is in the journal or the undo file behind these points.
    pub(super) seen: PageSet,
}

/// The undo file of all savepoints of a transaction.
#[derive(Debug)]
pub(super) struct UndoFile {
    out: GatheredFile,
    records: u64,
}

impl<X: PageInfo> Pager<X> {
    /// Number of open savepoints.
    pub fn savepoint_count(&self) -> usize {
        self.savepoints.iter().map(|savepoint| savepoint.copies).sum()
    }

    /// Opens savepoints until there are `count`. With `open_file` the undo file is opened now,
    /// else when the first page needs it.
    ///
    /// # Errors
    /// [`NoMemory`](crate::Error::NoMemory), [`CannotOpen`](crate::Error::CannotOpen).
    pub fn open_savepoints(&mut self, count: usize, open_file: bool) -> Result<()> {
        self.check_transaction()?;
        if !self.state.is_writing() {
            return Err(Error::State("no write transaction is open"));
        }
        let missing = count.saturating_sub(self.savepoint_count());
        if missing == 0 {
            return Ok(());
        }
        memory::reserve(&mut self.savepoints, 1)?;
        if open_file {
            self.open_undo()?;
        }
        let journal = self.transaction.journal.as_ref();
        self.savepoints.push(Savepoint {
            copies: missing,
            pages: self.image,
            journal_at: journal.map_or(0, |journal| journal.position()),
            undo_records: self.undo.as_ref().map_or(0, |undo| undo.records),
            seen: PageSet::default(),
        });
        self.serial += 1; // P1: the next change of any page has to be looked at.
        Ok(())
    }

    /// Drops savepoint `index` and all later ones, keeping their changes.
    pub fn release_savepoint(&mut self, index: usize) {
        self.keep_savepoints(index);
        if let (true, Some(undo)) = (self.savepoints.is_empty(), &mut self.undo) {
            undo.out.restart();
            undo.records = 0;
        }
    }

    /// Drops all but the oldest `count` savepoints.
    fn keep_savepoints(&mut self, count: usize) {
        let mut left = count;
        for savepoint in &mut self.savepoints {
            savepoint.copies = savepoint.copies.min(left);
            left -= savepoint.copies;
        }
        self.savepoints.retain(|savepoint| savepoint.copies > 0);
    }

    /// Undoes everything since savepoint `index` was opened, drops later savepoints and keeps
    /// this one. `None`: everything since the transaction began, with no savepoint left.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    pub fn rollback_savepoint(&mut self, index: Option<usize>) -> Result<()> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if !self.state.is_writing() || index.is_some_and(|index| index >= self.savepoint_count()) {
            return Ok(());
        }
        if self.state == State::Finished {
            return Err(Error::State("the transaction is being committed"));
        }
        let result = match index {
            Some(index) => self.undo_to(index),
            None => self.undo_all(),
        };
        self.serial += 1;
        result.map_err(|error| self.latch(error))
    }

    fn undo_all(&mut self) -> Result<()> {
        let lost = self.restore_image()?;
        self.release_savepoint(0);
        self.transaction.low_water = self.transaction.low_water.min(self.image);
        if lost { Err(LOST) } else { Ok(()) }
    }

    fn undo_to(&mut self, index: usize) -> Result<()> {
        let mut before = 0;
        let is_it = |savepoint: &&Savepoint| {
            before += savepoint.copies;
            index < before
        };
        let Some(savepoint) = self.savepoints.iter().find(is_it) else { return Ok(()) };
        let (pages, undo_from) = (savepoint.pages, savepoint.undo_records);
        let journal_from = savepoint.journal_at;
        self.image = pages;
        self.transaction.low_water = self.transaction.low_water.min(pages);
        self.drop_stale()?;
        let mut done = PageSet::default();
        let mut record = std::mem::take(&mut self.scratch);
        let result = self
            .undo_from_journal(journal_from, pages, &mut done, &mut record)
            .and_then(|()| self.undo_from_file(undo_from, pages, &mut done, &mut record));
        self.scratch = record;
        result?;
        self.keep_savepoints(index.saturating_add(1));
        Ok(())
    }

    /// Pages beyond the image leave the cache; those that are pinned become zeros. So do hollow
    /// pages, which may be within the image again: their bytes are in the file.
    fn drop_stale(&mut self) -> Result<()> {
        for index in self.cache.indices() {
            let frame = self.cache.frame(index);
            if frame.number == 0 || frame.number <= self.image && !frame.hollow {
                continue;
            }
            if self.cache.frame(index).is_pinned() {
                self.cache.mark_clean(index);
                self.fill(index, true)?;
            } else {
                self.cache.remove(index);
            }
        }
        Ok(())
    }

    fn undo_from_journal(
        &mut self,
        from: u64,
        pages: u32,
        done: &mut PageSet,
        record: &mut Vec<u8>,
    ) -> Result<()> {
        let Some(journal) = &mut self.transaction.journal else { return Ok(()) };
        journal.flush()?;
        let mut ranges = Vec::new();
        for range in journal.ranges_from(from, false) {
            memory::reserve(&mut ranges, 1)?;
            ranges.push(range);
        }
        resize(record, self.page_size.bytes() + 8)?;
        for range in ranges {
            self.undo_range(range, pages, done, record)?;
        }
        Ok(())
    }

    fn undo_range(
        &mut self,
        range: RecordRange,
        pages: u32,
        done: &mut PageSet,
        record: &mut [u8],
    ) -> Result<()> {
        for at in 0..range.records {
            let Some(journal) = &self.transaction.journal else { return Ok(()) };
            let offset = range.start + at * range.step;
            let number = read_record(journal.file(), offset, range.nonce, record)?;
            let number = number.ok_or(Error::corrupt("the journal was damaged meanwhile"))?;
            if number.get() > pages || !done.insert(number.get())? {
                continue;
            }
            // A page that left the cache before its record was sealed never reached the file. That
            // is asked anew for each page: restoring one may spill another.
            let cached = self.cache.find(number.get()).is_some();
            let unsealed = self.transaction.unsealed.contains(number.get());
            let unwritten = unsealed || !self.transaction.file_written;
            if cached || !unwritten {
                self.restore_page(number, record)?;
            }
        }
        Ok(())
    }

    fn undo_from_file(
        &mut self,
        from: u64,
        pages: u32,
        done: &mut PageSet,
        record: &mut Vec<u8>,
    ) -> Result<()> {
        let length = self.page_size.bytes() + 4;
        let Some(undo) = &mut self.undo else { return Ok(()) };
        undo.out.flush()?;
        let records = undo.records;
        resize(record, length)?;
        for at in from..records {
            let Some(undo) = &self.undo else { return Ok(()) };
            undo.out.file().read_at(record, at * length as u64)?;
            let Some(number) = PageNumber::new(u32_at(record, 0)?) else { continue };
            if number.get() <= pages && done.insert(number.get())? {
                self.restore_page(number, record)?;
            }
        }
        Ok(())
    }

    /// Gives a page the content that `record` has from byte 4 on, in the cache; it is dirty then.
    fn restore_page(&mut self, number: PageNumber, record: &[u8]) -> Result<()> {
        let frame = match self.cache.find(number.get()) {
            Some(frame) => frame,
            None => self.load(number, false)?,
        };
        let size = self.page_size.bytes();
        let content = crate::format::bytes::slice(record, 4, size)?;
        let (bytes, info) = self.cache.parts_mut(frame);
        bytes.copy_from_slice(content);
        if let Some(codec) = &self.codec {
            codec.decode(number.get(), bytes);
        }
        info.reset();
        self.cache.mark_dirty(frame);
        let must_wait = self.transaction.journal.is_some() && self.must_wait(number.get());
        self.cache.frame_mut(frame).needs_sync |= must_wait;
        Ok(())
    }

    /// Puts the present content of a page into the undo file, if a savepoint lacks it.
    pub(super) fn save_for_savepoints(&mut self, frame: u32) -> Result<()> {
        let number = self.cache.frame(frame).number;
        let lacking =
            |savepoint: &Savepoint| number <= savepoint.pages && !savepoint.seen.contains(number);
        if !self.savepoints.iter().any(lacking) {
            return Ok(());
        }
        self.open_undo()?;
        for savepoint in &mut self.savepoints {
            savepoint.seen.reserve(number)?;
        }
        self.read_hollow(frame)?;
        let hollow = self.cache.frame(frame).hollow;
        let coded = !hollow && self.encode(frame)?;
        let Some(undo) = &mut self.undo else {
            return Err(Error::Internal("the undo file vanished"));
        };
        let bytes = match (hollow, coded) {
            (true, _) => &self.scratch,
            (false, true) => &self.coded,
            (false, false) => self.cache.parts(frame).0,
        };
        undo.out.append(&[&number.to_be_bytes(), bytes])?;
        undo.records += 1;
        for savepoint in &mut self.savepoints {
            savepoint.seen.insert(number)?;
        }
        Ok(())
    }

    fn open_undo(&mut self) -> Result<()> {
        if self.undo.is_some() {
            return Ok(());
        }
        let mode = self.transaction.mode;
        let in_memory = self.undo_in_memory
            || (!matches!(self.storage, Storage::File(_)) && !self.header_ignored)
            || matches!(mode, JournalMode::Memory | JournalMode::Off);
        let file = if in_memory {
            MemoryFile::boxed()
        } else {
            self.open_temporary(OpenKind::SubJournal)?
        };
        self.undo = Some(UndoFile { out: GatheredFile::new(file, Vec::new()), records: 0 });
        Ok(())
    }
}

fn resize(buffer: &mut Vec<u8>, length: usize) -> Result<()> {
    buffer.clear();
    memory::reserve_exact(buffer, length)?;
    buffer.resize(length, 0);
    Ok(())
}
