//! Page numbers, page sizes, and the page that holds the lock bytes.

use std::fmt;
use std::num::NonZeroU32;

/// The number of a page: 1 to 2^32−2. "No page" is an `Option`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[doc(alias = "Pgno")]
pub struct PageNumber(NonZeroU32);

impl PageNumber {
    /// Page 1: file header and root of the schema table.
    pub const ONE: PageNumber = PageNumber(NonZeroU32::MIN);

    /// The page with this number, `None` for 0.
    #[inline]
    pub const fn new(number: u32) -> Option<PageNumber> {
        match NonZeroU32::new(number) {
            Some(number) => Some(PageNumber(number)),
            None => None,
        }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Where the page starts in the file, in bytes.
    #[inline]
    pub const fn offset(self, size: PageSize) -> u64 {
        (self.get() as u64 - 1) * size.get() as u64
    }
}

impl fmt::Debug for PageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

impl fmt::Display for PageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A page size: a power of two from 512 to 65536 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageSize(u32);

impl PageSize {
    /// The smallest page size.
    pub const MIN: PageSize = PageSize(512);
    /// What the historic commands give to a new file.
    pub const HISTORIC: PageSize = PageSize(1024);
    /// What a new file gets from the Rust API.
    pub const DEFAULT: PageSize = PageSize(4096);
    /// The largest page size.
    pub const MAX: PageSize = PageSize(65536);

    /// The page size of `bytes` bytes, if that is one.
    pub const fn new(bytes: u32) -> Option<PageSize> {
        if bytes.is_power_of_two() && bytes >= 512 && bytes <= 65536 {
            Some(PageSize(bytes))
        } else {
            None
        }
    }

    /// The size in bytes.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The size in bytes, as an index type.
    #[inline]
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }
}

/// The page that the lock bytes occupy: never read, written or allocated.
///
/// With the standard lock offset of 2^30 this is page 2^30 / page size + 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "PENDING_BYTE_PAGE")]
pub struct LockPage(PageNumber);

impl LockPage {
    /// Where SQLite puts the first lock byte.
    pub const STANDARD_OFFSET: u32 = 0x4000_0000;

    /// The lock page of a file whose first lock byte is at `offset`.
    pub const fn new(offset: u32, size: PageSize) -> LockPage {
        match PageNumber::new(offset / size.get() + 1) {
            Some(number) => LockPage(number),
            None => LockPage(PageNumber::ONE),
        }
    }

    /// The page's number.
    #[inline]
    pub const fn number(self) -> PageNumber {
        self.0
    }

    /// Whether `page` is the lock page.
    #[inline]
    pub fn is(self, page: u32) -> bool {
        self.0.get() == page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_pages_of_the_standard_offset() {
        let expected = [(512, 2_097_153), (1024, 1_048_577), (4096, 262_145), (65536, 16_385)];
        for (size, page) in expected {
            let size = PageSize::new(size).unwrap();
            assert!(LockPage::new(LockPage::STANDARD_OFFSET, size).is(page));
        }
        assert!(LockPage::new(0x10000, PageSize::HISTORIC).is(65));
    }

    #[test]
    fn only_powers_of_two_in_range_are_page_sizes() {
        for bytes in [0, 1, 256, 511, 1000, 131_072, u32::MAX] {
            assert_eq!(PageSize::new(bytes), None);
        }
        assert_eq!(PageSize::new(65536), Some(PageSize::MAX));
        assert_eq!(PageNumber::new(3).unwrap().offset(PageSize::MAX), 131_072);
    }
}
