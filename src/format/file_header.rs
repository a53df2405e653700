//! The 100-byte header at the start of page 1.
//!
//! | offset | length | field |
//! | --- | --- | --- |
//! | 0 | 16 | magic |
//! | 16 | 2 | page size; 1 stands for 65536 |
//! | 18, 19 | 1, 1 | write and read version: 1 rollback journal, 2 write-ahead log |
//! | 20 | 1 | reserved bytes at the end of each page |
//! | 21, 22, 23 | 1, 1, 1 | payload fractions: always 64, 32, 32 |
//! | 24 | 4 | file change counter |
//! | 28 | 4 | size of the database in pages |
//! | 32, 36 | 4, 4 | first free-list trunk page; number of free pages |
//! | 36 + 4·k | 4 | meta value k |
//! | 92 | 4 | change counter for which the size at 28 is valid |
//! | 96 | 4 | version of the library that wrote last |
//!
//! Source: SQLite file format, "The Database Header".

use super::bytes::{put_u8, put_u16, put_u32, slice, slice_mut, u8_at, u32_at};
use super::page_number::PageSize;
use crate::error::{Error, Result};

/// Length of the header in bytes; the b-tree page on page 1 starts behind it.
pub const HEADER_SIZE: usize = 100;

/// The first sixteen bytes of every database.
pub const MAGIC: [u8; 16] = *b"SQLite format 3\0";

/// What this engine stores as the library version: a SQLite release that keeps the same fields.
pub const LIBRARY_VERSION: u32 = 3_040_001;

/// The smallest number of usable bytes on a page.
const USABLE_MIN: u32 = 480;

/// How a database gets rid of free pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoVacuum {
    /// Free pages stay in the file; there is no pointer map.
    #[default]
    None,
    /// Every commit moves pages and cuts the file.
    Full,
    /// Free pages are given back on request.
    Incremental,
}

/// The fields of the header that the engine interprets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// Page size.
    pub page_size: PageSize,
    /// Reserved bytes at the end of each page.
    pub reserved: u8,
    /// The file asks for a newer writer than this engine: it may be read only.
    pub read_only: bool,
    /// The file is in write-ahead-log mode.
    pub write_ahead_log: bool,
    /// Change counter.
    pub change_counter: u32,
    /// Number of pages, if the field is to be trusted (see [`FileHeader::decode`]).
    pub page_count: Option<u32>,
    /// Kind of automatic vacuum.
    pub auto_vacuum: AutoVacuum,
}

impl FileHeader {
    /// Offset of the file change counter.
    pub const CHANGE_COUNTER: usize = 24;
    /// Offset of the number of pages.
    pub const PAGE_COUNT: usize = 28;
    /// Offset of the first free-list trunk page.
    pub const FREELIST_TRUNK: usize = 32;
    /// Offset of the number of free pages.
    pub const FREELIST_COUNT: usize = 36;
    /// Offset of the largest root page (non-zero: pointer maps exist).
    pub const LARGEST_ROOT: usize = 52;
    /// Offset of the incremental-vacuum flag.
    pub const INCREMENTAL_VACUUM: usize = 64;
    /// Offset of the change counter for which the number of pages is valid.
    pub const VERSION_VALID_FOR: usize = 92;
    /// Offset of the version of the library that wrote last.
    pub const LIBRARY_VERSION: usize = 96;
    /// The bytes whose change tells that another connection has written the file.
    pub const VALIDATION: std::ops::Range<usize> = 24..40;

    /// Offset of meta value `slot`.
    pub const fn meta_offset(slot: usize) -> usize {
        36 + 4 * slot
    }

    /// What can be learnt before any lock is held: page size, reserved bytes, vacuum kind.
    ///
    /// `None` if the bytes decode to no legal page size, as in an empty or a foreign file.
    pub fn peek(header: &[u8; HEADER_SIZE]) -> Option<(PageSize, u8, AutoVacuum)> {
        let page_size = decode_page_size(header).ok()?;
        Some((page_size, u8_at(header, 20).ok()?, decode_auto_vacuum(header).ok()?))
    }

    /// Decodes the header of a database that is not empty, in the order of checks that decides
    /// which error a damaged file gets.
    ///
    /// The number of pages counts only if the file was last written by somebody who maintains it:
    /// non-zero, and the change counter equal to the one noted beside it.
    ///
    /// # Errors
    /// [`Error::NotADatabase`].
    pub fn decode(header: &[u8]) -> Result<FileHeader> {
        let foreign = |_| Error::NotADatabase("header cut short");
        if slice(header, 0, MAGIC.len()).map_err(foreign)? != MAGIC {
            return Err(Error::NotADatabase("no SQLite magic"));
        }
        let byte = |at| u8_at(header, at).map_err(foreign);
        let word = |at| u32_at(header, at).map_err(foreign);
        if byte(19)? > 2 {
            return Err(Error::NotADatabase("read version is not supported"));
        }
        if (byte(21)?, byte(22)?, byte(23)?) != (64, 32, 32) {
            return Err(Error::NotADatabase("payload fractions are not 64, 32, 32"));
        }
        let page_size = decode_page_size(header)?;
        let reserved = byte(20)?;
        let change_counter = word(Self::CHANGE_COUNTER)?;
        let page_count = word(Self::PAGE_COUNT)?;
        let valid = page_count != 0 && change_counter == word(Self::VERSION_VALID_FOR)?;
        Ok(FileHeader {
            page_size,
            reserved,
            read_only: byte(18)? > 2,
            write_ahead_log: byte(19)? == 2,
            change_counter,
            page_count: valid.then_some(page_count),
            auto_vacuum: decode_auto_vacuum(header)?,
        })
    }

    /// Bytes of each page that are in use: page size less reserved bytes.
    ///
    /// # Errors
    /// [`Error::NotADatabase`] if fewer than 480 are left.
    pub fn usable_size(page_size: PageSize, reserved: u8) -> Result<u32> {
        let usable = page_size.get() - u32::from(reserved);
        if usable < USABLE_MIN {
            return Err(Error::NotADatabase("too many reserved bytes"));
        }
        Ok(usable)
    }

    /// Writes the header of a new database of one page over the first 100 bytes of `page`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if `page` is shorter than the header.
    pub fn create(
        page: &mut [u8],
        page_size: PageSize,
        reserved: u8,
        auto_vacuum: AutoVacuum,
    ) -> Result<()> {
        slice_mut(page, 0, HEADER_SIZE)?.fill(0);
        slice_mut(page, 0, MAGIC.len())?.copy_from_slice(&MAGIC);
        // 65536 does not fit the field and is stored as 1.
        put_u16(page, 16, u16::try_from(page_size.get()).unwrap_or(1))?;
        slice_mut(page, 18, 6)?.copy_from_slice(&[1, 1, reserved, 64, 32, 32]);
        put_u32(page, Self::PAGE_COUNT, 1)?;
        if auto_vacuum != AutoVacuum::None {
            put_u32(page, Self::LARGEST_ROOT, 1)?;
        }
        put_u32(page, Self::INCREMENTAL_VACUUM, u32::from(auto_vacuum == AutoVacuum::Incremental))
    }

    /// Stores the reserved-bytes field.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if `page` is shorter than the header.
    pub fn put_reserved(page: &mut [u8], reserved: u8) -> Result<()> {
        put_u8(page, 20, reserved)
    }
}

fn decode_page_size(header: &[u8]) -> Result<PageSize> {
    let (high, low) = (u8_at(header, 16)?, u8_at(header, 17)?);
    // The low byte counts 65536: the only legal value with it set is `00 01`.
    PageSize::new(u32::from(high) << 8 | u32::from(low) << 16)
        .ok_or(Error::NotADatabase("page size is not a power of two from 512 to 65536"))
}

fn decode_auto_vacuum(header: &[u8]) -> Result<AutoVacuum> {
    Ok(
        match (
            u32_at(header, FileHeader::LARGEST_ROOT)?,
            u32_at(header, FileHeader::INCREMENTAL_VACUUM)?,
        ) {
            (0, _) => AutoVacuum::None,
            (_, 0) => AutoVacuum::Full,
            _ => AutoVacuum::Incremental,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(size: u32) -> Vec<u8> {
        let size = PageSize::new(size).unwrap();
        let mut page = vec![0xee; size.bytes()];
        FileHeader::create(&mut page, size, 0, AutoVacuum::None).unwrap();
        page
    }

    #[test]
    fn a_new_header_decodes_to_itself() {
        for bits in 9..=16 {
            let page = fresh(1 << bits);
            let header = FileHeader::decode(&page).unwrap();
            assert_eq!(header.page_size.get(), 1 << bits);
            assert_eq!(header.page_count, Some(1));
            assert_eq!(header.auto_vacuum, AutoVacuum::None);
            assert!(!header.read_only && !header.write_ahead_log);
        }
        assert_eq!(fresh(1024)[16..24], [0x04, 0, 1, 1, 0, 0x40, 0x20, 0x20]);
    }

    #[test]
    fn the_page_count_needs_its_counter() {
        let mut page = fresh(1024);
        page[95] = 1;
        assert_eq!(FileHeader::decode(&page).unwrap().page_count, None);
    }

    #[test]
    fn foreign_bytes_are_no_database() {
        let not = |page: &[u8]| matches!(FileHeader::decode(page), Err(Error::NotADatabase(_)));
        for (at, value) in [(0, b's'), (15, 1), (17, 1), (19, 3), (21, 63), (22, 0), (23, 33)] {
            let mut page = fresh(4096);
            page[at] = value;
            assert!(not(&page), "byte {at}");
        }
        assert!(not(&[]));
        assert!(not(&[0; 4096]));
        assert!(FileHeader::usable_size(PageSize::MIN, 33).is_err());
        assert_eq!(FileHeader::usable_size(PageSize::MIN, 32), Ok(480));
    }
}
