//! Writing a journal: headers, records, and the syncs that make a segment valid.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::record::{
    ENDLESS, Header, MAGIC, RECORD_EXTRA, SEAL_LENGTH, checksum, next_sector, seal,
};
use super::super_journal::encode_super_record;
use super::{GatheredFile, Journal, JournalSetup, RecordRange, Segment};
use crate::error::{Error, Result};
use crate::memory;
use crate::os::{File, Hint, SyncKind};

/// How the journal is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pager) enum Syncs {
    /// Not at all.
    None,
    /// Once, records and record count together.
    Once,
    /// Before and after the record count is written.
    Twice,
}

/// How, and by which kind of sync.
#[derive(Debug, Clone, Copy)]
pub(in crate::pager) struct SyncRule {
    pub(in crate::pager) syncs: Syncs,
    pub(in crate::pager) kind: SyncKind,
}

impl Journal {
    /// Starts a journal in `file` by writing the first header. `buffer` is an old one for reuse.
    ///
    /// # Errors
    /// [`Error::Full`] if the header is beyond the size limit; those of writing.
    pub(in crate::pager) fn start(
        file: Box<dyn File>,
        setup: JournalSetup,
        nonce: u32,
        buffer: Vec<u8>,
    ) -> Result<Journal> {
        let mut journal = Journal {
            out: GatheredFile::new(file, buffer),
            setup,
            segment: None,
            sealed: Vec::new(),
            directory_synced: setup.name_durable,
            names_super_journal: false,
            ending: false,
            undoes: false,
        };
        journal.begin_segment(nonce)?;
        Ok(journal)
    }

    /// Whether a new segment has to be begun before the next record.
    pub(in crate::pager) fn wants_segment(&self) -> bool {
        self.segment.is_none()
    }

    /// Whether the header of a further segment is within the size limit.
    pub(in crate::pager) fn has_room_for_segment(&self) -> bool {
        let start = next_sector(self.out.end(), self.setup.sector);
        self.check_limit(start + u64::from(self.setup.sector)).is_ok()
    }

    /// Appends the header of the next segment, a whole sector. It waits for its records.
    ///
    /// # Errors
    /// [`Error::Full`] if it is beyond the size limit; [`Error::NoMemory`]; those of writing.
    pub(in crate::pager) fn begin_segment(&mut self, nonce: u32) -> Result<()> {
        let at = next_sector(self.out.end(), self.setup.sector);
        let sector = self.setup.sector as usize;
        self.check_limit(at + sector as u64)?;
        memory::reserve(&mut self.sealed, 1)?;
        let header = self.header(ENDLESS, nonce).encode(self.setup.endless);
        if at > self.out.end() {
            self.out.skip_to(at)?;
        }
        self.out.append_padded(&header, sector)?;
        let (start, page_size) = (self.out.end(), self.setup.page_size.get());
        self.out.file_mut().hint(Hint::PageRecords { start, page_size });
        self.segment = Some(Segment { at, nonce, records: 0 });
        Ok(())
    }

    fn header(&self, records: u32, nonce: u32) -> Header {
        Header {
            records,
            nonce,
            original_pages: self.setup.original_pages,
            sector: self.setup.sector,
            page_size: Some(self.setup.page_size),
        }
    }

    /// Appends the record of one page. A segment must have been begun.
    ///
    /// # Errors
    /// [`Error::Full`] if it is beyond the size limit; [`Error::NoMemory`]; those of writing.
    pub(in crate::pager) fn append(&mut self, number: u32, page: &[u8]) -> Result<()> {
        let end = self.out.end() + (page.len() + RECORD_EXTRA) as u64;
        self.check_limit(end)?;
        let Some(segment) = &mut self.segment else {
            return Err(Error::Internal("journal record without a header"));
        };
        let sum = checksum(segment.nonce, page);
        self.out.append(&[&number.to_be_bytes(), page, &sum.to_be_bytes()])?;
        segment.records += 1;
        Ok(())
    }

    fn check_limit(&self, end: u64) -> Result<()> {
        match self.setup.limit {
            Some(limit) if end > limit => Err(Error::Full),
            _ => Ok(()),
        }
    }

    /// Appends the record that names the super-journal, on a sector of its own if `aligned`, and
    /// cuts the file behind it, where a reader looks for it.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub(in crate::pager) fn append_super_journal(
        &mut self,
        path: &Path,
        aligned: bool,
    ) -> Result<()> {
        let lock_page = self.setup.lock_page.number().get();
        let record = encode_super_record(path.as_os_str().as_bytes(), lock_page)?;
        let end = self.out.end();
        let at = if aligned { next_sector(end, self.setup.sector) } else { end };
        self.check_limit(at + record.len() as u64)?;
        self.names_super_journal = true;
        self.out.skip_to(at)?;
        self.out.append(&[&record])?;
        self.out.flush()?;
        let end = self.out.end();
        self.out.file_mut().truncate(end)
    }

    /// Closes the file and goes on with another one.
    pub(in crate::pager) fn replace_file(&mut self, file: Box<dyn File>) {
        self.out.replace_file(file);
    }

    /// Whether the directory entry of the file is durable.
    pub(in crate::pager) fn is_name_durable(&self) -> bool {
        self.directory_synced
    }

    /// Whether the journal has a super-journal record.
    pub(in crate::pager) fn names_super_journal(&self) -> bool {
        self.names_super_journal
    }

    /// Whether something was appended that no sync has made valid yet.
    pub(in crate::pager) fn is_unsealed(&self) -> bool {
        match self.segment {
            Some(segment) => {
                segment.records > 0 || self.sealed.is_empty() || self.names_super_journal
            }
            None => self.names_super_journal,
        }
    }

    /// Makes the present segment valid: from here on its records can undo what they protect.
    /// `sync_directory` makes the name of the journal durable.
    ///
    /// # Errors
    /// Those of writing and syncing.
    pub(in crate::pager) fn seal_segment(
        &mut self,
        rule: SyncRule,
        sync_directory: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        if self.setup.in_memory {
            return Ok(()); // It protects nothing from a crash; a rollback reads what was gathered.
        }
        self.out.flush()?;
        let Some(segment) = self.segment else { return self.sync(rule, sync_directory) };
        if self.setup.endless {
            return self.sync(rule, sync_directory);
        }
        if !self.names_super_journal {
            self.break_stale_header()?;
        }
        if rule.syncs == Syncs::Twice {
            self.sync(rule, sync_directory)?;
        }
        self.out.file_mut().write_at(&seal(segment.records), segment.at)?;
        self.sync(rule, sync_directory)?;
        self.segment = None;
        self.sealed.push(segment);
        Ok(())
    }

    fn sync(&mut self, rule: SyncRule, sync_directory: &dyn Fn() -> Result<()>) -> Result<()> {
        if rule.syncs == Syncs::None {
            return Ok(());
        }
        self.out.file_mut().sync(rule.kind)?;
        if !self.directory_synced {
            sync_directory()?;
            self.directory_synced = true;
        }
        Ok(())
    }

    /// An older, longer journal may have left a header exactly where a reader looks for the next
    /// segment: it must not be taken for one of ours. Where nothing is, zeros are read.
    fn break_stale_header(&mut self) -> Result<()> {
        let at = next_sector(self.out.end(), self.setup.sector);
        let mut magic = [0; MAGIC.len()];
        self.out.file().read_at(&mut magic, at)?;
        if magic == MAGIC { self.out.file_mut().write_at(&[0], at) } else { Ok(()) }
    }

    /// Offset of the next record, for [`Journal::ranges_from`].
    pub(in crate::pager) fn position(&self) -> u64 {
        self.out.end()
    }

    /// The records at or behind `offset`, in order; with `sealed_only` without those of which
    /// nothing can have reached the database file yet. An endless journal counts as sealed.
    pub(in crate::pager) fn ranges_from(
        &self,
        offset: u64,
        sealed_only: bool,
    ) -> impl Iterator<Item = RecordRange> {
        let step = u64::from(self.setup.page_size.get()) + RECORD_EXTRA as u64;
        let sector = u64::from(self.setup.sector);
        let endless = self.setup.endless;
        let open = self.segment.iter().filter(move |_| !sealed_only || endless);
        self.sealed.iter().chain(open).filter_map(move |segment| {
            let start = segment.at + sector;
            let skipped = offset.saturating_sub(start).div_ceil(step);
            let records = u64::from(segment.records).saturating_sub(skipped);
            let start = start + skipped * step;
            let range = RecordRange { start, records, step, nonce: segment.nonce };
            (records > 0).then_some(range)
        })
    }

    /// Writes what was gathered, so that the length of the file is exact.
    ///
    /// # Errors
    /// Those of writing.
    pub(in crate::pager) fn flush(&mut self) -> Result<()> {
        self.out.flush()
    }

    /// Writes what was gathered as far as a rollback reads it. Records that are not sealed protect
    /// nothing, and on a full disk there may be no room for them.
    ///
    /// # Errors
    /// Those of writing.
    pub(in crate::pager) fn flush_for_rollback(&mut self) -> Result<()> {
        if self.setup.endless { self.out.flush() } else { Ok(()) }
    }

    /// The file; see [`Journal::flush`].
    pub(in crate::pager) fn file(&self) -> &dyn File {
        self.out.file()
    }

    /// Tells the disk that the writes that follow serve a rollback: it must not refuse them for
    /// want of room in a queue, or the transaction could not be left.
    pub(in crate::pager) fn begin_undo(&mut self) {
        self.undoes = true;
        self.out.file_mut().hint(Hint::Undoing(true));
    }

    /// Whether the transaction is being rolled back.
    pub(in crate::pager) fn undoes(&self) -> bool {
        self.undoes
    }

    /// Notes that the journal is about to end.
    pub(in crate::pager) fn begin_end(&mut self) {
        self.ending = true;
    }

    /// Whether the journal may be void, because ending it was begun and failed.
    pub(in crate::pager) fn is_ending(&self) -> bool {
        self.ending
    }

    /// Whether the file has all that was written to it.
    ///
    /// # Errors
    /// Those of asking for its size.
    pub(in crate::pager) fn is_whole(&self) -> Result<bool> {
        Ok(self.out.file().size()? >= self.out.end())
    }

    /// Makes a journal valid again whose end has failed. The caller syncs it. `false`: its records
    /// are gone.
    ///
    /// # Errors
    /// Those of writing.
    pub(in crate::pager) fn revive(&mut self) -> Result<bool> {
        self.out.flush()?;
        if !self.is_whole()? {
            return Ok(false);
        }
        if let Some(&first) = self.sealed.first().or(self.segment.as_ref()) {
            let records = if self.setup.endless { ENDLESS } else { first.records };
            let header = self.header(records, first.nonce).encode(true);
            self.out.file_mut().write_at(&header, first.at)?;
        }
        self.ending = false;
        Ok(true)
    }

    /// Makes the journal void by overwriting its front, without changing its length.
    ///
    /// # Errors
    /// Those of writing.
    pub(in crate::pager) fn void(&mut self) -> Result<()> {
        // Sealing may have failed half-way, so the front is not known to be zero even then.
        self.out.file_mut().write_at(&[0; super::record::HEADER_LENGTH], 0)
    }

    /// Cuts the file to `size` bytes.
    ///
    /// # Errors
    /// Those of truncation.
    pub(in crate::pager) fn cut(&mut self, size: u64) -> Result<()> {
        // No file is shorter than nothing, so the usual cut needs no look at it.
        match size {
            0 => self.out.file_mut().truncate(0),
            _ if self.out.file().size()? > size => self.out.file_mut().truncate(size),
            _ => Ok(()),
        }
    }

    /// Syncs the file.
    ///
    /// # Errors
    /// Those of syncing.
    pub(in crate::pager) fn sync_file(&mut self, kind: SyncKind) -> Result<()> {
        self.out.file_mut().sync(kind)
    }

    /// Closes the file and gives the buffer back for reuse.
    pub(in crate::pager) fn close(self) -> Vec<u8> {
        self.out.into_parts().1
    }

    /// The file, for the journal of the next transaction, and the buffer for reuse.
    pub(in crate::pager) fn into_parts(self) -> (Box<dyn File>, Vec<u8>) {
        self.out.into_parts()
    }
}

const _: () = assert!(SEAL_LENGTH <= 32, "the seal lies in one sector of any size");
