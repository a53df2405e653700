//! Checking the pages of one tree.

#![deny(clippy::indexing_slicing)]

use std::cmp::Ordering;

use super::super::node::{
    BLOCK_MIN, Cell, Node, NodeInfo, NodeKind, content_start, field, header_start,
};
use super::super::store::PageFormat;
use super::Check;
use crate::format::PageNumber;
use crate::format::bytes::{u8_at, u16_at, u32_at};

/// Levels of the deepest tree that is followed.
const LEVELS_MAX: usize = 20;

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

impl Check<'_> {
    /// The tree with this root, to which `prefix` led.
    pub(super) fn tree(&mut self, root: u32, prefix: &str) {
        self.tree_page(root, None, prefix, 1, &Bounds::default());
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
        let page = match self.fetch(number) {
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
        let found = self.fetch(page.number).ok().and_then(|reference| {
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
            let room = crate::memory::reserve_exact(&mut key, missing);
            self.heed(room).ok()?;
            let start = key.len();
            key.resize(start + missing, 0);
            let first = PageNumber::new(first)?;
            let read = self.store.read_overflow(first, 0, key.get_mut(start..)?);
            self.heed(read).ok()?;
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
        let (mut lines, mut broken_blocks) = (Vec::new(), Vec::new());
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
            while block > 0 {
                let size = match block + BLOCK_MIN <= usable {
                    true => usize::from(u16_at(bytes, block + 2).ok()?),
                    false => 0,
                };
                if size < BLOCK_MIN {
                    broken_blocks.push(block);
                    if size == 0 {
                        break;
                    }
                }
                cover(block, block, Some(size));
                let next = usize::from(u16_at(bytes, block).ok()?);
                block = if next > block { next } else { 0 };
            }
            let twice = hits.iter().position(|&hit| hit > 1);
            let scanned = hits.get(..twice.unwrap_or(usable))?;
            let holes = scanned.iter().filter(|&&hit| hit == 0).count();
            Some((twice, holes, u8_at(bytes, page.header + field::FRAGMENTS).ok()?))
        });
        for line in &lines {
            self.report.say("", format_args!("{line}"));
        }
        let is_told = !lines.is_empty();
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
        if is_told || twice.is_some() || holes != usize::from(stored) {
            return;
        }
        // Too short to be seen by what they cover.
        for block in broken_blocks {
            let text = format_args!("Page {number}: free block at {block} is damaged");
            self.report.say_later("", text);
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
    format: &PageFormat,
) -> Option<Cell<'a>> {
    let start = node.cell_position(index).ok()?;
    let cell = Node::decode_cell(bytes.get(start..format.usable)?, kind, format).ok()?;
    (start + cell.size <= format.usable).then_some(cell)
}
