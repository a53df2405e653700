//! The integrity check: reports everything, trusts nothing.
//!
//! Every page is looked at through its raw bytes; each page number is followed at most once, which
//! bounds the work and breaks cycles. The texts, and the order in which they come, are those that
//! scripts have compared since 2006; what this check finds beyond them has texts of its own, which
//! come after all others:
//!
//! | text | meaning |
//! | --- | --- |
//! | `On tree page P cell I: key is out of order` | not above its neighbour, or out of bounds |
//! | `On page P at right child: child page depth differs` | leaves at unequal depth |
//! | `Page P: type differs from that of its parent` | mixed kinds of page in one tree |
//! | `Page P: more than 20 levels` | deeper than any tree can be; not followed further |
//! | `… overflow list starting at P continues behind N pages` | chain or free list too long |
//! | `Page P: free block at B is damaged` | it has less than four bytes, and no other text tells |
//! | `Largest root page is P, but the header says Q` | auto-vacuum databases only |
//! | `Incremental vacuum is set, but there are no pointer maps` | header word 64, without word 52 |

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::freelist::{LEAF_COUNT, LEAVES};
use super::pointer_map::Owner;
use super::store::Store;
use crate::error::{Error, Result};
use crate::format::bytes::u32_at;
use crate::format::{FileHeader, PageNumber};
use crate::pager::PageRef;

mod tree;

impl Store {
    /// Checks all pages, given the roots of all trees (0 is skipped), and returns one line per
    /// problem, at most `limit` in all. Changes nothing.
    ///
    /// # Errors
    /// [`Error::NoMemory`]. What cannot be read is a problem, not an error.
    pub(crate) fn check(&mut self, roots: &[i64], limit: usize) -> Result<Vec<String>> {
        let pages = self.pager.page_count();
        if pages == 0 {
            return Ok(Vec::new());
        }
        let pinned = self.pager.stats().pinned;
        let mut check = Check {
            used: PageSet::new(pages)?,
            report: Report { lines: Vec::new(), ours: Vec::new(), limit },
            pages,
            store: self,
            no_memory: false,
        };
        check.run(roots)?;
        if check.no_memory {
            return Err(Error::NoMemory);
        }
        let mut report = check.report;
        report.say_pins(pinned, self.pager.stats().pinned);
        report.lines.append(&mut report.ours);
        report.lines.truncate(limit);
        Ok(report.lines)
    }
}

/// One bit for each page.
struct PageSet(Vec<u64>);

impl PageSet {
    /// An empty set for pages up to `pages`.
    fn new(pages: u32) -> Result<PageSet> {
        let words = pages as usize / 64 + 1;
        let mut bits = Vec::new();
        crate::memory::reserve_exact(&mut bits, words)?;
        bits.resize(words, 0);
        Ok(PageSet(bits))
    }

    fn contains(&self, page: u32) -> bool {
        self.0.get(page as usize / 64).is_some_and(|word| word >> (page % 64) & 1 != 0)
    }

    fn insert(&mut self, page: u32) {
        if let Some(word) = self.0.get_mut(page as usize / 64) {
            *word |= 1 << (page % 64);
        }
    }
}

/// The lines found so far.
struct Report {
    lines: Vec<String>,
    /// Lines that come after all others.
    ours: Vec<String>,
    limit: usize,
}

impl Report {
    fn say(&mut self, prefix: &str, line: std::fmt::Arguments<'_>) {
        if self.lines.len() < self.limit {
            self.lines.push(format!("{prefix}{line}"));
        }
    }

    fn say_later(&mut self, prefix: &str, line: std::fmt::Arguments<'_>) {
        if self.ours.len() < self.limit {
            self.ours.push(format!("{prefix}{line}"));
        }
    }

    /// Pages that the check itself left pinned, which no file can make it do.
    fn say_pins(&mut self, before: u32, after: u32) {
        if before != after {
            let text = format_args!("from {before} to {after} during this analysis");
            self.say("", format_args!("Outstanding page count goes {text}"));
        }
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= self.limit
    }
}

struct Check<'s> {
    store: &'s mut Store,
    pages: u32,
    /// Pages that something refers to.
    used: PageSet,
    report: Report,
    /// An allocation has failed: what was found since may have nothing to do with the database.
    no_memory: bool,
}

impl Check<'_> {
    /// Hands `result` on, and remembers if it is that there was no memory.
    fn heed<T>(&mut self, result: Result<T>) -> Result<T> {
        self.no_memory |= matches!(result, Err(Error::NoMemory));
        result
    }

    fn fetch(&mut self, number: PageNumber) -> Result<PageRef> {
        let page = self.store.pager.fetch(number);
        self.heed(page)
    }

    fn run(&mut self, roots: &[i64]) -> Result<()> {
        let lock_page = self.store.format.lock_page.number().get();
        if lock_page <= self.pages {
            self.used.insert(lock_page);
        }
        let first = self.store.header_word(FileHeader::FREELIST_TRUNK)?;
        let count = self.store.header_word(FileHeader::FREELIST_COUNT)?;
        self.free_list(first, count);
        for &root in roots.iter().filter(|&&root| root != 0) {
            let prefix = "List of tree roots: ";
            let Ok(number) = u32::try_from(root) else {
                self.report.say(prefix, format_args!("invalid page number {root}"));
                continue;
            };
            if self.store.has_pointer_map() && number > 1 {
                self.map_entry(number, Owner::Root.entry(), "");
            }
            self.tree(number, prefix);
        }
        for page in 1..=self.pages {
            if self.report.is_full() {
                break;
            }
            match (self.used.contains(page), self.store.is_map_page(page)) {
                (false, false) => self.report.say("", format_args!("Page {page} is never used")),
                (true, true) => {
                    self.report.say("", format_args!("Pointer map page {page} is referenced"));
                }
                _ => {}
            }
        }
        self.largest_root(roots)
    }

    /// In auto-vacuum databases, compares the roots with the largest one that the header names; in
    /// others, looks that it does not promise any vacuum. A caller may leave roots out: then their
    /// pages are reported as never used, and not here.
    fn largest_root(&mut self, roots: &[i64]) -> Result<()> {
        if !self.store.has_pointer_map() {
            if self.store.header_word(FileHeader::INCREMENTAL_VACUUM)? != 0 {
                let text = "Incremental vacuum is set, but there are no pointer maps";
                self.report.say_later("", format_args!("{text}"));
            }
            return Ok(());
        }
        let stored = self.store.header_word(FileHeader::LARGEST_ROOT)?;
        let largest = roots.iter().copied().max().unwrap_or(0);
        let missing = stored > self.pages || (stored > 1 && self.used.contains(stored));
        if largest > i64::from(stored) || (largest < i64::from(stored) && missing) {
            self.report.say_later(
                "",
                format_args!("Largest root page is {largest}, but the header says {stored}"),
            );
        }
        Ok(())
    }

    /// Notes a reference to `page`; whether it is to be followed.
    fn refer(&mut self, page: u32, prefix: &str) -> bool {
        if page == 0 {
            return false;
        }
        if page > self.pages {
            // Shown as a signed number, as ever.
            self.report.say(prefix, format_args!("invalid page number {}", page as i32));
            return false;
        }
        if self.used.contains(page) {
            self.report.say(prefix, format_args!("2nd reference to page {page}"));
            return false;
        }
        self.used.insert(page);
        true
    }

    /// Compares the pointer-map entry of `page` with what it should be.
    fn map_entry(&mut self, page: u32, expected: (u8, u32), prefix: &str) {
        if !self.store.has_pointer_map() {
            return;
        }
        let entry = self.store.owner_entry(page);
        match self.heed(entry) {
            Ok(found) if found == expected => {}
            Ok(found @ (1..=5, _)) => self.report.say(
                prefix,
                format_args!(
                    "Bad ptr map entry key={} expected=({},{}) got=({},{})",
                    page as i32, expected.0, expected.1 as i32, found.0, found.1 as i32
                ),
            ),
            _ => self.report.say(prefix, format_args!("Failed to read ptrmap key={}", page as i32)),
        }
    }

    /// The first `count` words of a page that is in a list; `None` if it cannot be read.
    fn list_page(&mut self, page: u32, count: usize, prefix: &str) -> Option<Vec<u32>> {
        let number = PageNumber::new(page)?;
        let mark = self.store.pager.mark();
        let words = self.fetch(number).map(|page| {
            let words = self.store.pager.bytes(page).chunks_exact(4).take(count);
            words.map(|word| u32_at(word, 0).unwrap_or(0)).collect::<Vec<u32>>()
        });
        self.store.pager.release(mark);
        if words.is_err() {
            self.report.say(prefix, format_args!("failed to get page {page}"));
        }
        words.ok()
    }

    /// Step 1: the free list, which begins at `first` and should have `count` pages.
    fn free_list(&mut self, first: u32, count: u32) {
        let prefix = "Main freelist: ";
        let mut page = first;
        let mut left = i64::from(count);
        while left > 0 && !self.report.is_full() {
            left -= 1;
            if self.is_cut_short(page, first, left + 1, count, prefix) {
                return;
            }
            if !self.refer(page, prefix) {
                return;
            }
            let whole = LEAVES / 4 + self.store.format.trunk_capacity();
            let Some(words) = self.list_page(page, whole, prefix) else { return };
            self.map_entry(page, Owner::Free.entry(), prefix);
            let leaves = words.get(LEAF_COUNT / 4).copied().unwrap_or(0) as usize;
            if leaves > self.store.format.trunk_capacity() {
                self.report.say(prefix, format_args!("freelist leaf count too big on page {page}"));
                left -= 1;
            } else {
                for &leaf in words.iter().skip(LEAVES / 4).take(leaves) {
                    self.map_entry(leaf, Owner::Free.entry(), prefix);
                    self.refer(leaf, prefix);
                }
                left -= leaves as i64;
            }
            page = words.first().copied().unwrap_or(0);
        }
        if left < 0 || page != 0 {
            self.continues(first, count, prefix);
        }
    }

    /// The overflow chain of `count` pages that begins at `first`. Whether it is sound.
    fn chain(&mut self, first: u32, count: u32, prefix: &str) -> bool {
        let mut page = first;
        for left in (0..count).rev() {
            if self.is_cut_short(page, first, i64::from(left) + 1, count, prefix) {
                return false;
            }
            if !self.refer(page, prefix) {
                return false;
            }
            let Some(words) = self.list_page(page, 1, prefix) else { return false };
            let next = words.first().copied().unwrap_or(0);
            if left > 0 {
                self.map_entry(next, (4, page), prefix);
            }
            page = next;
        }
        if page != 0 {
            self.continues(first, count, prefix);
        }
        page == 0
    }

    fn is_cut_short(&mut self, page: u32, first: u32, left: i64, all: u32, prefix: &str) -> bool {
        // Page numbers that would be negative as 32-bit integers have always been ends as well.
        let short = (page as i32) < 1;
        if short {
            self.report.say(
                prefix,
                format_args!(
                    "{left} of {all} pages missing from overflow list starting at {}",
                    first as i32
                ),
            );
        }
        short
    }

    fn continues(&mut self, first: u32, count: u32, prefix: &str) {
        self.report.say_later(
            prefix,
            format_args!(
                "overflow list starting at {} continues behind {count} pages",
                first as i32
            ),
        );
    }
}

#[cfg(test)]
mod tests;
