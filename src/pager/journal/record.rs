//! Journal header, page record and checksum as bytes. Pure.
//!
//! A header stands at the start of a sector; the rest of that sector is zero:
//!
//! | offset | length | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic |
//! | 8 | 4 | number of records in this segment; 0xffffffff: all there are |
//! | 12 | 4 | nonce: start of the checksums of this segment |
//! | 16 | 4 | length of the database file in pages when the transaction began |
//! | 20 | 4 | sector size |
//! | 24 | 4 | page size; 0 in very old journals: that of the database |
//!
//! Magic and number are zero until the segment is synced, so an unsynced segment is never valid.
//!
//! A page record follows its predecessor, or the header's sector, without a gap:
//!
//! | offset | length | field |
//! | --- | --- | --- |
//! | 0 | 4 | page number |
//! | 4 | S | the page as it was |
//! | S + 4 | 4 | checksum |
//!
//! All integers are big-endian. Source: SQLite file format, "The Rollback Journal".

use crate::error::Result;
use crate::format::PageSize;
use crate::format::bytes::{slice, u32_at};

/// The first bytes of every valid header, and the last of a super-journal record.
pub(in crate::pager) const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// The number of records that means "all that are in the file".
pub(in crate::pager) const ENDLESS: u32 = u32::MAX;

/// Bytes of a header that carry meaning.
pub(in crate::pager) const HEADER_LENGTH: usize = 28;
/// Bytes at the start of a header that stay zero until the segment is synced.
pub(in crate::pager) const SEAL_LENGTH: usize = 12;
/// Bytes of a record beside the page.
pub(in crate::pager) const RECORD_EXTRA: usize = 8;

const NONCE: usize = SEAL_LENGTH;
const ORIGINAL_PAGES: usize = NONCE + 4;
const SECTOR_SIZE: usize = ORIGINAL_PAGES + 4;
const PAGE_SIZE: usize = SECTOR_SIZE + 4;
const _: () = assert!(MAGIC.len() + 4 == SEAL_LENGTH);
const _: () = assert!(PAGE_SIZE + 4 == HEADER_LENGTH && HEADER_LENGTH <= SECTOR_MIN as usize);

/// Smallest sector size that a reader accepts.
const SECTOR_MIN: u32 = 32;
/// Largest sector size that a reader accepts.
const SECTOR_MAX: u32 = 65536;

/// A decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pager) struct Header {
    /// Number of records, or [`ENDLESS`].
    pub(in crate::pager) records: u32,
    /// Start of the checksums.
    pub(in crate::pager) nonce: u32,
    /// Length of the database file in pages when the transaction began.
    pub(in crate::pager) original_pages: u32,
    /// Sector size in bytes.
    pub(in crate::pager) sector: u32,
    /// Page size; `None` means that of the database.
    pub(in crate::pager) page_size: Option<PageSize>,
}

impl Header {
    /// The header of a segment that is being filled, or, if `sealed`, the finished one.
    pub(in crate::pager) fn encode(&self, sealed: bool) -> [u8; HEADER_LENGTH] {
        let seal = if sealed { seal(self.records) } else { [0; SEAL_LENGTH] };
        let words =
            [self.nonce, self.original_pages, self.sector, self.page_size.map_or(0, PageSize::get)];
        let mut bytes = [0; HEADER_LENGTH];
        let (front, rest) = bytes.split_at_mut(SEAL_LENGTH);
        front.copy_from_slice(&seal);
        for (target, word) in rest.chunks_exact_mut(4).zip(words) {
            target.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// Decodes the header of the first segment; `None` if it is not a valid one.
    pub(in crate::pager) fn decode(bytes: &[u8; HEADER_LENGTH]) -> Option<Header> {
        Self::decode_fields(bytes, true).ok().flatten()
    }

    /// Decodes the header of a later segment, for which the sizes that the first one says hold.
    pub(in crate::pager) fn decode_later(bytes: &[u8; HEADER_LENGTH]) -> Option<Header> {
        Self::decode_fields(bytes, false).ok().flatten()
    }

    fn decode_fields(bytes: &[u8], is_first: bool) -> Result<Option<Header>> {
        let sector = u32_at(bytes, SECTOR_SIZE)?;
        let page_size = u32_at(bytes, PAGE_SIZE)?;
        let has_sizes = sector.is_power_of_two()
            && (SECTOR_MIN..=SECTOR_MAX).contains(&sector)
            && (page_size == 0 || PageSize::new(page_size).is_some());
        let valid = slice(bytes, 0, MAGIC.len())? == MAGIC && (has_sizes || !is_first);
        Ok(valid.then_some(Header {
            records: u32_at(bytes, MAGIC.len())?,
            nonce: u32_at(bytes, NONCE)?,
            original_pages: u32_at(bytes, ORIGINAL_PAGES)?,
            sector,
            page_size: PageSize::new(page_size),
        }))
    }
}

/// What makes a header valid: magic and number of records.
pub(in crate::pager) fn seal(records: u32) -> [u8; SEAL_LENGTH] {
    let mut bytes = [0; SEAL_LENGTH];
    let (magic, count) = bytes.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    count.copy_from_slice(&records.to_be_bytes());
    bytes
}

/// The checksum of a page record: the nonce and every 200th byte, counted back from the end of the
/// page; byte 0 never counts.
pub(in crate::pager) fn checksum(nonce: u32, page: &[u8]) -> u32 {
    let tail = page.get(1..).unwrap_or_default();
    let sampled = tail.iter().rev().skip(199).step_by(200);
    sampled.fold(nonce, |sum, byte| sum.wrapping_add(u32::from(*byte)))
}

/// The number that a record begins with, if the checksum at its end is right for its page.
pub(in crate::pager) fn decode_record(record: &[u8], nonce: u32) -> Option<u32> {
    let length = record.len().checked_sub(RECORD_EXTRA)?;
    let page = slice(record, 4, length).ok()?;
    let stored = u32_at(record, 4 + length).ok()?;
    let number = u32_at(record, 0).ok()?;
    (stored == checksum(nonce, page)).then_some(number)
}

/// The next multiple of `sector` that is not below `offset`.
pub(in crate::pager) fn next_sector(offset: u64, sector: u32) -> u64 {
    offset.next_multiple_of(u64::from(sector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_bytes_are_those_of_the_format() {
        // D514: a segment in the making has twelve zeros at its front.
        let header = Header {
            records: 6,
            nonce: 0x0102_0304,
            original_pages: 58,
            sector: 512,
            page_size: Some(PageSize::HISTORIC),
        };
        let rest = [1, 2, 3, 4, 0, 0, 0, 58, 0, 0, 2, 0, 0, 0, 4, 0];
        assert_eq!(header.encode(false)[..12], [0; 12]);
        assert_eq!(header.encode(false)[12..], rest);
        let sealed = header.encode(true);
        let front = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7, 0, 0, 0, 6];
        assert_eq!((&sealed[..12], &sealed[12..]), (&front[..], &rest[..]));
        assert_eq!(Header::decode(&sealed), Some(header));
        assert_eq!(Header::decode(&header.encode(false)), None);
    }

    #[test]
    fn only_possible_geometries_are_accepted() {
        // D516.
        let encode = |sector, page_size: u32| {
            let header =
                Header { records: 0, nonce: 0, original_pages: 1, sector, page_size: None };
            let mut bytes = header.encode(true);
            bytes[24..].copy_from_slice(&page_size.to_be_bytes());
            bytes
        };
        for sector in [32, 64, 512, 65536] {
            assert!(Header::decode(&encode(sector, 0)).is_some());
        }
        for (sector, page_size) in
            [(0, 0), (16, 0), (513, 0), (131_072, 0), (512, 1000), (512, 256)]
        {
            let bytes = encode(sector, page_size);
            assert_eq!(Header::decode(&bytes), None, "{sector} {page_size}");
            assert!(Header::decode_later(&bytes).is_some(), "{sector} {page_size}");
        }
    }

    #[test]
    fn checksums_sample_every_200th_byte_from_the_end() {
        // D515: the indices that the format names, for the smallest to the largest page.
        let examples: [(usize, &[usize]); 3] =
            [(512, &[312, 112]), (1024, &[824, 624, 424, 224, 24]), (400, &[200])];
        for (size, indices) in examples {
            for at in 0..size {
                let mut page = vec![0u8; size];
                page[at] = 7;
                let expected = if indices.contains(&at) { 12 } else { 5 };
                assert_eq!(checksum(5, &page), expected, "size {size} byte {at}");
            }
        }
        let ones = |size| checksum(u32::MAX, &vec![1u8; size]);
        assert_eq!((ones(4096), ones(65536)), (19, 326));
    }

    #[test]
    fn sectors_are_rounded_up() {
        assert_eq!(next_sector(512 + 6 * 1032, 512), 7168);
        assert_eq!((next_sector(0, 512), next_sector(512, 512)), (0, 512));
    }
}
