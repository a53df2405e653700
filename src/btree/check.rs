//! The integrity check: reports everything, trusts nothing.
//!
//! Every page is looked at through its raw bytes; each page number is followed at most once, which
//! bounds the work and breaks cycles. The texts, and the order in which they come, are those that
//! scripts have compared since 2006; what this check finds beyond them has texts of its own, which
//! come after all others:
//!
//! | text | meaning |
//! | --- | --- |
//! | `On tree page P cell I: key is out of order` | not above its neighbour or outside the parents' bounds |
//! | `On tree page P cell I: child page depth differs from that of the page` | leaves at unequal depth |
//! | `On page P at right child: child page depth differs` | the same, for the right child |
//! | `Page P: type differs from that of its parent` | mixed kinds of page in one tree |
//! | `Page P: more than 20 levels` | deeper than any tree can be; not followed further |
//! | `… overflow list starting at P continues behind N pages` | chain or free list too long |
//! | `Largest root page is P, but the header says Q` | auto-vacuum databases only |

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::cmp::Ordering;

use super::freelist::{LEAF_COUNT, LEAVES};
use super::node::{Cell, Node, NodeInfo, NodeKind, content_start, field, header_start};
use super::pointer_map::Owner;
use super::store::Store;
use crate::error::{Error, Result};
use crate::format::bytes::{u8_at, u16_at, u32_at};
use crate::format::{FileHeader, PageNumber};

/// Levels of the deepest tree that is followed.
const LEVELS_MAX: usize = 20;

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
        };
        check.run(roots)?;
        let mut report = check.report;
        let after = self.pager.stats().pinned;
        if pinned != after {
            report.say(
                "",
                format_args!(
                    "Outstanding page count goes from {pinned} to {after} during this analysis"
                ),
            );
        }
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
        bits.try_reserve_exact(words).map_err(|_| Error::NoMemory)?;
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

    fn is_full(&self) -> bool {
        self.lines.len() >= self.limit
    }
}

/// A key, to be compared with others of its tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum KeyValue {
    Integer(i64),
    Bytes(Vec<u8>),
}

/// Where the keys of a subtree must lie: behind `lower`, and before `upper` or at it.
#[derive(Debug, Clone, Default)]
struct Bounds {
    lower: Option<KeyValue>,
    upper: Option<KeyValue>,
}

/// From where a page of a tree was reached.
#[derive(Debug, Clone, Copy)]
struct Parent {
    number: PageNumber,
    kind: NodeKind,
}

/// A page of a tree being checked: a copy of its bytes would be safe but slow, so they are looked
/// up again after each descent.
struct TreePage {
    number: PageNumber,
    info: NodeInfo,
    kind: NodeKind,
    header: usize,
    cells: usize,
}

struct Check<'s> {
    store: &'s mut Store,
    pages: u32,
    /// Pages that something refers to.
    used: PageSet,
    report: Report,
}

impl Check<'_> {
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
            self.tree_page(number, None, prefix, 1, &Bounds::default());
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

    /// In auto-vacuum databases, compares the roots with the largest one that the header names. A
    /// caller may leave roots out: then their pages are reported as never used, and not here.
    fn largest_root(&mut self, roots: &[i64]) -> Result<()> {
        if !self.store.has_pointer_map() {
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
        match self.store.owner_entry(page) {
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

    /// The first `words` words of a page that is in a list; `None` if it cannot be read.
    fn list_page(&mut self, page: u32, prefix: &str) -> Option<(u32, Vec<u32>)> {
        let number = PageNumber::new(page)?;
        let mark = self.store.pager.mark();
        let words = self.store.pager.fetch(number).map(|page| {
            let bytes = self.store.pager.bytes(page);
            bytes.chunks_exact(4).map(|word| u32_at(word, 0).unwrap_or(0)).collect::<Vec<u32>>()
        });
        self.store.pager.release(mark);
        match words {
            Ok(words) => Some((words.first().copied().unwrap_or(0), words)),
            Err(_) => {
                self.report.say(prefix, format_args!("failed to get page {page}"));
                None
            }
        }
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
            let Some((next, words)) = self.list_page(page, prefix) else { return };
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
            page = next;
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
            let Some((next, _)) = self.list_page(page, prefix) else { return false };
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

    /// The tree page `number` on level `level` and everything below; its height, if it was looked
    /// at.
    fn tree_page(
        &mut self,
        number: u32,
        parent: Option<Parent>,
        prefix: &str,
        level: usize,
        bounds: &Bounds,
    ) -> Option<usize> {
        if self.report.is_full() || !self.refer(number, prefix) {
            return None;
        }
        let number = PageNumber::new(number)?;
        let own = format!("Page {number}: ");
        if level > LEVELS_MAX {
            self.report.say_later(&own, format_args!("more than {LEVELS_MAX} levels"));
            return None;
        }
        let mark = self.store.pager.mark();
        let height = match self.open_tree_page(number, parent, &own) {
            Some(page) => {
                if parent.is_some_and(|parent| parent.kind.as_leaf() != page.kind.as_leaf()) {
                    self.report
                        .say_later(&own, format_args!("type differs from that of its parent"));
                }
                let height = self.children(&page, level, bounds);
                self.coverage(&page);
                Some(height)
            }
            None => None,
        };
        self.store.pager.release(mark);
        height
    }

    fn open_tree_page(
        &mut self,
        number: PageNumber,
        parent: Option<Parent>,
        own: &str,
    ) -> Option<TreePage> {
        let page = match self.store.pager.fetch(number) {
            Ok(page) => page,
            Err(error) => {
                let code = error.code().primary;
                self.report.say(own, format_args!("unable to get the page. error code={code}"));
                return None;
            }
        };
        let bytes = self.store.pager.bytes(page);
        let mut info = NodeInfo::default();
        let ready = info.prepare_for_check(bytes, number, &self.store.format);
        let node = Node::new(bytes, &info, &self.store.format);
        let (kind, cells) = (node.kind(), node.cell_count());
        let childless = cells == 0 && parent.is_some_and(|p| p.number != PageNumber::ONE);
        if ready.is_err() || childless {
            self.report.say(own, format_args!("initPage() returns error code 11"));
            return None;
        }
        Some(TreePage { number, info, kind, header: header_start(number), cells })
    }

    /// What `look` finds on a page of a tree, which is fetched for it; `None` if it cannot be.
    fn look<T>(
        &mut self,
        page: &TreePage,
        look: impl FnOnce(&[u8], Node<'_>) -> Option<T>,
    ) -> Option<T> {
        let mark = self.store.pager.mark();
        let found = self.store.pager.fetch(page.number).ok().and_then(|reference| {
            let bytes = self.store.pager.bytes(reference);
            look(bytes, Node::new(bytes, &page.info, &self.store.format))
        });
        self.store.pager.release(mark);
        found
    }

    /// Everything that the cells of `page` point at, and the order of their keys. Returns the
    /// height of the page.
    fn children(&mut self, page: &TreePage, level: usize, bounds: &Bounds) -> usize {
        let parent = Some(Parent { number: page.number, kind: page.kind });
        let mut depth = 0;
        // Height of the first child that was looked at.
        let mut height = None;
        let mut order = Order { last: bounds.lower.clone(), broken: false };
        for index in 0..page.cells {
            if self.report.is_full() {
                break;
            }
            let prefix = format!("On tree page {} cell {index}: ", page.number);
            let sound = self.cell_overflow(page, index, &prefix);
            let key = if sound { self.key(page, index) } else { None };
            if page.kind.is_leaf() {
                self.order(page, &mut order, key, bounds, &prefix);
                continue;
            }
            let below = Bounds { lower: order.last.clone(), upper: key.clone() };
            self.order(page, &mut order, key, bounds, &prefix);
            let child =
                self.look(page, |bytes, node| u32_at(bytes, node.cell_position(index).ok()?).ok());
            let child = child.unwrap_or(0);
            self.map_entry(child, (5, page.number.get()), &prefix);
            let found = self.tree_page(child, parent, &prefix, level + 1, &below);
            if index > 0 && found.unwrap_or(0) != depth {
                self.report.say(&prefix, format_args!("Child page depth differs"));
            }
            depth = found.unwrap_or(0);
            height = height.or(found);
        }
        if page.kind.is_leaf() {
            return 1;
        }
        let prefix = format!("On page {} at right child: ", page.number);
        let header = page.header;
        let child = self.look(page, |bytes, _| u32_at(bytes, header + field::RIGHT_CHILD).ok());
        let child = child.unwrap_or(0);
        self.map_entry(child, (5, page.number.get()), "");
        let below = Bounds { lower: order.last, upper: bounds.upper.clone() };
        let found = self.tree_page(child, parent, &prefix, level + 1, &below);
        if height.is_some() && found.is_some() && height != found {
            self.report.say_later(&prefix, format_args!("child page depth differs"));
        }
        let own = if page.cells == 0 { found.unwrap_or(0) } else { depth };
        own + 1
    }

    /// Follows the overflow chain of a cell. Whether the cell, and its chain if there is one, are
    /// sound.
    fn cell_overflow(&mut self, page: &TreePage, index: usize, prefix: &str) -> bool {
        let format = self.store.format;
        let chain = self.look(page, |bytes, node| {
            let cell = loose_cell(bytes, node, index, page.kind, &format)?;
            let beyond = cell.payload as usize - cell.local.len();
            Some((cell.overflow, beyond.div_ceil(format.overflow_capacity()) as u32))
        });
        match chain {
            None => false,
            Some((_, 0)) => true,
            Some((first, count)) => {
                self.map_entry(first, (3, page.number.get()), prefix);
                self.chain(first, count, prefix)
            }
        }
    }

    /// The key of a sound cell, if keys of this kind of tree have a known order.
    fn key(&mut self, page: &TreePage, index: usize) -> Option<KeyValue> {
        let (kind, format) = (page.kind, self.store.format);
        if kind.has_integer_keys() {
            return self.look(page, |bytes, node| {
                let cell = loose_cell(bytes, node, index, kind, &format)?;
                Some(KeyValue::Integer(cell.key))
            });
        }
        if kind.as_leaf().byte() != 8 {
            return None;
        }
        // The key is no longer than its chain, which was just walked and is used by nobody else.
        let (mut key, missing, first) = self.look(page, |bytes, node| {
            let cell = loose_cell(bytes, node, index, kind, &format)?;
            let length = usize::try_from(cell.key).ok()?;
            let local = cell.local.get(..length.min(cell.local.len()))?;
            Some((local.to_vec(), length - local.len(), cell.overflow))
        })?;
        if missing > 0 {
            key.try_reserve_exact(missing).ok()?;
            let start = key.len();
            key.resize(start + missing, 0);
            let first = PageNumber::new(first)?;
            self.store.read_overflow(first, 0, key.get_mut(start..)?).ok()?;
        }
        Some(KeyValue::Bytes(key))
    }

    /// Compares a key with the one before and with the bounds of the page; reports the first on a
    /// page that is out of order.
    fn order(
        &mut self,
        page: &TreePage,
        order: &mut Order,
        key: Option<KeyValue>,
        bounds: &Bounds,
        prefix: &str,
    ) {
        let Some(key) = key else { return };
        let behind_last = order.last.as_ref().is_none_or(|last| key > *last);
        let within = bounds.upper.as_ref().is_none_or(|upper| match key.cmp(upper) {
            Ordering::Less => true,
            Ordering::Equal => page.kind.is_leaf_data(),
            Ordering::Greater => false,
        });
        if !(order.broken || behind_last && within) {
            order.broken = true;
            self.report.say_later(prefix, format_args!("key is out of order"));
        }
        order.last = Some(key);
    }

    /// Whether cells and free blocks cover the content area of `page`, each byte once.
    fn coverage(&mut self, page: &TreePage) {
        let (number, format) = (page.number, self.store.format);
        let usable = format.usable;
        let mut lines = Vec::new();
        let counted = self.look(page, |bytes, node| {
            let mut hits = vec![0u8; usable];
            let content = content_start(bytes, page.header).ok()?.min(usable);
            hits.get_mut(..content)?.fill(1);
            let mut cover = |label: usize, start: usize, size: Option<usize>| {
                let covered = size.and_then(|size| hits.get_mut(start..start + size));
                match covered {
                    Some(bytes) => {
                        bytes.iter_mut().for_each(|hit| *hit = hit.saturating_add(1));
                    }
                    None => {
                        lines.push(format!("Corruption detected in cell {label} on page {number}"))
                    }
                }
            };
            for index in 0..page.cells {
                let start = node.cell_position(index).ok()?;
                let cell = loose_cell(bytes, node, index, page.kind, &format);
                cover(index, start, cell.map(|cell| cell.size));
            }
            let mut block = usize::from(u16_at(bytes, page.header + field::FIRST_FREE).ok()?);
            while block > 0 && block + 4 <= usable {
                cover(block, block, u16_at(bytes, block + 2).ok().map(usize::from));
                let next = usize::from(u16_at(bytes, block).ok()?);
                block = if next > block { next } else { 0 };
            }
            let twice = hits.iter().position(|&hit| hit > 1);
            let scanned = hits.get(..twice.unwrap_or(usable))?;
            let holes = scanned.iter().filter(|&&hit| hit == 0).count();
            Some((twice, holes, u8_at(bytes, page.header + field::FRAGMENTS).ok()?))
        });
        for line in lines {
            self.report.say("", format_args!("{line}"));
        }
        let Some((twice, holes, stored)) = counted else { return };
        if let Some(byte) = twice {
            self.report.say("", format_args!("Multiple uses for byte {byte} of page {number}"));
        }
        if holes != usize::from(stored) {
            self.report.say(
                "",
                format_args!(
                    "Fragmented space is {holes} byte reported as {stored} on page {number}"
                ),
            );
        }
    }
}

/// The state of a walk over the keys of one page.
struct Order {
    /// The key before, or the lower bound of the page.
    last: Option<KeyValue>,
    /// A key out of order was reported.
    broken: bool,
}

/// Cell `index` of a page that is only looked at: anywhere on the page.
fn loose_cell<'a>(
    bytes: &'a [u8],
    node: Node<'a>,
    index: usize,
    kind: NodeKind,
    format: &super::store::PageFormat,
) -> Option<Cell<'a>> {
    let start = node.cell_position(index).ok()?;
    let cell = Node::decode_cell(bytes.get(start..format.usable)?, kind, format).ok()?;
    (start + cell.size <= format.usable).then_some(cell)
}

#[cfg(test)]
mod tests;
