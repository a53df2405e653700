//! Reading a journal: the records of an interrupted transaction, up to the first invalid one.

use super::record::{ENDLESS, HEADER_LENGTH, Header, RECORD_EXTRA, decode_record, next_sector};
use crate::error::Result;
use crate::format::bytes::u32_at;
use crate::format::{LockPage, PageNumber, PageSize};
use crate::memory;
use crate::os::File;

/// Records of one segment that lie one behind the other.
#[derive(Debug, Clone, Copy)]
pub(in crate::pager) struct RecordRange {
    /// Offset of the first record in bytes.
    pub(in crate::pager) start: u64,
    pub(in crate::pager) records: u64,
    /// Bytes from one record to the next.
    pub(in crate::pager) step: u64,
    pub(in crate::pager) nonce: u32,
}

/// Reads the record at `offset` into `record`, whose length is that of a record. `None` if the
/// file ends before it does, or its checksum is wrong.
///
/// # Errors
/// Those of reading.
pub(in crate::pager) fn read_record(
    file: &dyn File,
    offset: u64,
    nonce: u32,
    record: &mut [u8],
) -> Result<Option<PageNumber>> {
    if file.read_at(record, offset)? < record.len() {
        return Ok(None);
    }
    Ok(decode_record(record, nonce).and_then(PageNumber::new))
}

/// The journal of a transaction that somebody did not finish.
#[derive(Debug)]
pub(in crate::pager) struct HotJournal<'a> {
    file: &'a dyn File,
    size: u64,
    offset: u64,
    left: u64,
    nonce: u32,
    sector: u32,
    lock_page: LockPage,
    record: Vec<u8>,
    /// Page size of the journal.
    pub(in crate::pager) page_size: PageSize,
    /// Length of the database file in pages before the transaction.
    pub(in crate::pager) original_pages: u32,
}

impl<'a> HotJournal<'a> {
    /// Reads the first header; `None` if it is not valid. `page_size` is used if the header says
    /// nothing; `lock_offset` is the position of the first lock byte.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; those of reading.
    pub(in crate::pager) fn open(
        file: &'a dyn File,
        page_size: PageSize,
        lock_offset: u32,
    ) -> Result<Option<HotJournal<'a>>> {
        let size = file.size()?;
        let Some(header) = read_header(file, 0, Header::decode)? else { return Ok(None) };
        if size < u64::from(header.sector) {
            return Ok(None);
        }
        let page_size = header.page_size.unwrap_or(page_size);
        let mut journal = HotJournal {
            file,
            size,
            offset: 0,
            left: 0,
            nonce: 0,
            sector: header.sector,
            lock_page: LockPage::new(lock_offset, page_size),
            record: Vec::new(),
            page_size,
            original_pages: header.original_pages,
        };
        let length = page_size.bytes() + RECORD_EXTRA;
        memory::reserve_exact(&mut journal.record, length)?;
        journal.record.resize(length, 0);
        journal.enter_segment(header);
        Ok(Some(journal))
    }

    fn enter_segment(&mut self, header: Header) {
        self.offset += u64::from(self.sector);
        self.nonce = header.nonce;
        self.left = match header.records {
            ENDLESS => self.size.saturating_sub(self.offset) / self.record.len() as u64,
            records => u64::from(records),
        };
    }

    /// The next segment: at the next sector boundary, if a valid header stands there and its
    /// sector lies within the file.
    fn next_segment(&mut self) -> Result<bool> {
        let at = next_sector(self.offset, self.sector);
        if at + u64::from(self.sector) > self.size {
            return Ok(false);
        }
        let header = read_header(self.file, at, Header::decode_later)?;
        let Some(header) = header else { return Ok(false) };
        self.offset = at;
        self.enter_segment(header);
        Ok(true)
    }

    /// The next valid record: number and old content of a page that belongs to the database.
    /// `None` at the end, which is the first record that is cut short or not valid.
    ///
    /// # Errors
    /// Those of reading.
    pub(in crate::pager) fn next(&mut self) -> Result<Option<(PageNumber, &[u8])>> {
        loop {
            while self.left == 0 {
                if !self.next_segment()? {
                    return Ok(None);
                }
            }
            if self.file.read_at(&mut self.record, self.offset)? < self.record.len() {
                return Ok(None);
            }
            self.left -= 1;
            self.offset += self.record.len() as u64;
            let Some(number) = PageNumber::new(u32_at(&self.record, 0)?) else { return Ok(None) };
            if self.lock_page.is(number.get()) {
                return Ok(None);
            }
            if number.get() > self.original_pages {
                continue; // Its checksum is not examined either.
            }
            if decode_record(&self.record, self.nonce).is_none() {
                return Ok(None);
            }
            let page = crate::format::bytes::slice(&self.record, 4, self.page_size.bytes())?;
            return Ok(Some((number, page)));
        }
    }
}

fn read_header(
    file: &dyn File,
    at: u64,
    decode: impl Fn(&[u8; HEADER_LENGTH]) -> Option<Header>,
) -> Result<Option<Header>> {
    let mut bytes = [0; HEADER_LENGTH];
    let there = file.read_at(&mut bytes, at)?;
    Ok(if there == bytes.len() { decode(&bytes) } else { None })
}
