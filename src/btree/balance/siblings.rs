//! Gather up to three siblings, spread their cells again, rewrite.
//!
//! First everything is read and copied and the outcome is computed ([`Gathered`],
//! [`Plan`](super::distribute::Plan)); then pages are allocated, filled, and hung under the parent.

use crate::error::{Error, Result};
use crate::format::{PageNumber, varint};
use crate::pager::{PageMut, PageRef};

use super::super::node::NodeKind;
use super::super::pointer_map::Owner;
use super::super::store::Store;
use super::distribute::{Plan, distribute};

/// Most siblings that are spread over at once.
const SIBLINGS_MAX: usize = 3;

/// The siblings and what is on them, copied.
struct Gathered {
    /// The pages, from left to right.
    pages: Vec<PageRef>,
    /// Kind of all of them.
    kind: NodeKind,
    /// Index, among the children of the parent, of the first page.
    first: usize,
    /// Cells in key order, as they stand on a sibling; the dividers between siblings among them,
    /// unless the siblings are leaves that keep all entries.
    cells: Vec<Span>,
    /// Their bytes.
    bytes: Vec<u8>,
    /// Right-most child of the last sibling, on interior pages.
    right_child: u32,
}

/// A cell within [`Gathered::bytes`].
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    size: usize,
}

impl Gathered {
    fn cell(&self, index: usize) -> &[u8] {
        let span = self.cells[index];
        &self.bytes[span.start..span.start + span.size]
    }

    /// No cell is used up as divider: dividers are copies of keys.
    fn keeps_all(&self) -> bool {
        self.kind.is_leaf() && self.kind.is_leaf_data()
    }

    fn push(&mut self, parts: [&[u8]; 2]) -> Result<()> {
        let start = self.bytes.len();
        let size = parts[0].len() + parts[1].len();
        // A cell that is shorter on a leaf than on an interior page is padded again.
        let padded = size.max(4);
        self.bytes.try_reserve(padded).map_err(|_| Error::NoMemory)?;
        self.cells.try_reserve(1).map_err(|_| Error::NoMemory)?;
        self.bytes.extend_from_slice(parts[0]);
        self.bytes.extend_from_slice(parts[1]);
        self.bytes.resize(start + padded, 0);
        self.cells.push(Span { start, size: padded });
        Ok(())
    }
}

/// Spreads the cells of `page`, child `index` of `parent`, and of its neighbours over as few
/// pages as can hold them. The parent may be over- or underfull afterwards.
///
/// # Errors
/// [`Error::Corrupt`]; those of allocating and of making pages writable.
#[doc(alias = "balance_nonroot")]
pub(super) fn rebalance(
    store: &mut Store,
    page: PageRef,
    parent: PageRef,
    index: usize,
) -> Result<()> {
    let gathered = gather(store, page, parent, index)?;
    let sizes: Vec<usize> = gathered.cells.iter().map(|span| span.size).collect();
    let capacity = store.format.usable - gathered.kind.header_length();
    let plan = distribute(&sizes, capacity, gathered.keeps_all());
    let pages = take_pages(store, &gathered, plan.ends.len())?;
    fill_pages(store, &gathered, &plan, &pages)?;
    let dividers = build_dividers(store, &gathered, &plan, &pages)?;
    hang_under_parent(store, &gathered, parent, &dividers, &pages)?;
    store.balance_buffer = gathered.bytes;
    Ok(())
}

/// Which siblings take part: up to three children all of them; at an end the three there; else
/// the page and one neighbour on each side.
fn choose_siblings(children: usize, index: usize) -> std::ops::Range<usize> {
    let count = children.min(SIBLINGS_MAX);
    let first = index.saturating_sub(1).min(children - count);
    first..first + count
}

/// Reads and copies the siblings of `page` and the dividers between them.
fn gather(store: &mut Store, page: PageRef, parent: PageRef, index: usize) -> Result<Gathered> {
    let kind = store.node(page).kind();
    let parent_cells = store.node(parent).total_count();
    let range = choose_siblings(parent_cells + 1, index);
    let mut gathered = Gathered {
        pages: Vec::new(),
        kind,
        first: range.start,
        cells: Vec::new(),
        bytes: std::mem::take(&mut store.balance_buffer),
        right_child: 0,
    };
    gathered.bytes.clear();
    for child in range.clone() {
        let number = store.checked_number(store.child_of(parent, child)?)?;
        let sibling = store.fetch_node(number)?;
        if store.node(sibling).kind() != kind || sibling == parent {
            return Err(Error::corrupt("siblings of different kinds").on_page(number.get()));
        }
        if gathered.pages.contains(&sibling) {
            return Err(Error::corrupt("two siblings are one page").on_page(number.get()));
        }
        gathered.pages.push(sibling);
    }
    if !gathered.pages.contains(&page) {
        return Err(Error::Internal("page is not the child it should be"));
    }
    for (position, child) in range.clone().enumerate() {
        let sibling = gathered.pages[position];
        let node = store.node(sibling);
        for cell in 0..node.total_count() {
            gathered.push([node.cell_bytes(cell)?, &[]])?;
        }
        if !kind.is_leaf() {
            gathered.right_child = node.right_child()?;
        }
        if child + 1 < range.end && !gathered.keeps_all() {
            gather_divider(store, &mut gathered, parent, child)?;
        }
    }
    Ok(gathered)
}

/// Copies the divider behind child `index` of `parent`, as it would stand on a sibling.
fn gather_divider(
    store: &Store,
    gathered: &mut Gathered,
    parent: PageRef,
    index: usize,
) -> Result<()> {
    let node = store.node(parent);
    let divider = node.cell_bytes(index)?;
    let size = store.unpadded_size(divider, node.kind())?;
    let body = divider.get(4..size).ok_or(Error::corrupt("divider without a child"))?;
    if gathered.kind.is_leaf() {
        gathered.push([body, &[]])
    } else {
        // The divider's own child is the sibling; among the siblings' cells it leads to what was
        // right of the last cell there.
        let child = gathered.right_child.to_be_bytes();
        gathered.push([&child, body])
    }
}

/// Reuses the old pages from the left, allocates missing ones, frees surplus ones, and puts the
/// pages in ascending order.
fn take_pages(
    store: &mut Store,
    gathered: &Gathered,
    count: usize,
) -> Result<Vec<(PageNumber, PageMut)>> {
    let mut pages = Vec::with_capacity(count);
    for &old in gathered.pages.iter().take(count) {
        pages.push((store.pager.number(old), store.pager.make_writable(old)?));
    }
    while pages.len() < count {
        let near = pages.last().map(|&(number, _)| number);
        pages.push(store.allocate_page(near)?);
    }
    for &old in gathered.pages.iter().skip(count) {
        let writable = store.pager.make_writable(old)?;
        store.node_mut(writable).take_parked();
        store.free_page(store.pager.number(old), Some(old))?;
    }
    pages.sort_by_key(|&(number, _)| number);
    Ok(pages)
}

/// Where page `page` of the plan begins in the list of cells.
fn start_of(gathered: &Gathered, plan: &Plan, page: usize) -> usize {
    match page.checked_sub(1) {
        Some(before) => plan.ends[before] + usize::from(!gathered.keeps_all()),
        None => 0,
    }
}

/// Gives each page its cells and, on interior pages, its right-most child: that of the divider
/// behind it, or of the last old page.
fn fill_pages(
    store: &mut Store,
    gathered: &Gathered,
    plan: &Plan,
    pages: &[(PageNumber, PageMut)],
) -> Result<()> {
    for (index, &(number, page)) in pages.iter().enumerate() {
        let (start, end) = (start_of(gathered, plan, index), plan.ends[index]);
        let mut cells = (start..end).map(|cell| gathered.cell(cell));
        store.node_mut(page).rebuild(number, gathered.kind, &mut cells)?;
        if !gathered.kind.is_leaf() {
            let right = if index + 1 < pages.len() {
                crate::format::bytes::u32_at(gathered.cell(end), 0)?
            } else {
                gathered.right_child
            };
            let right = store.checked_number(right)?;
            store.node_mut(page).set_right_child(right)?;
        }
    }
    Ok(())
}

/// The dividers for the parent: the cell behind each page but the last with the page as child, or
/// a copy of the page's largest key where leaves keep all entries.
fn build_dividers(
    store: &Store,
    gathered: &Gathered,
    plan: &Plan,
    pages: &[(PageNumber, PageMut)],
) -> Result<Vec<Vec<u8>>> {
    let mut dividers = Vec::with_capacity(pages.len());
    for (index, &(number, page)) in pages.iter().enumerate().take(pages.len() - 1) {
        let mut divider = number.get().to_be_bytes().to_vec();
        if gathered.keeps_all() {
            let node = store.node(page.into());
            let last = node.cell_count().checked_sub(1).ok_or(Error::Internal("empty page"))?;
            varint::push(node.integer_key(last)? as u64, &mut divider);
        } else {
            let cell = gathered.cell(plan.ends[index]);
            let size = store.unpadded_size(cell, gathered.kind)?;
            let skip = if gathered.kind.is_leaf() { 0 } else { 4 };
            divider.extend_from_slice(cell.get(skip..size).unwrap_or_default());
        }
        dividers.push(divider);
    }
    Ok(dividers)
}

/// Exchanges the old dividers in the parent for the new ones, points it at the last page, and
/// brings the pointer map up to date.
fn hang_under_parent(
    store: &mut Store,
    gathered: &Gathered,
    parent: PageRef,
    dividers: &[Vec<u8>],
    pages: &[(PageNumber, PageMut)],
) -> Result<()> {
    let parent_number = store.pager.number(parent);
    let kind = store.node(parent).kind();
    let first = gathered.first;
    let parent = store.pager.make_writable(parent)?;
    splice(store, parent, first..first + gathered.pages.len() - 1, dividers)?;
    let &(last, _) = pages.last().ok_or(Error::Internal("no page"))?;
    store.node_mut(parent).set_child(first + dividers.len(), last)?;
    if store.has_pointer_map() {
        for &(number, page) in pages {
            store.set_owner(number, Owner::Child(parent_number))?;
            store.claim_children(page.into())?;
        }
        for divider in dividers {
            store.claim_cell(divider, kind, parent_number)?;
        }
    }
    Ok(())
}

/// Replaces the cells `old` of a node by `new`. A node with parked cells is laid out anew: as many
/// cells as fit, the others parked.
fn splice(
    store: &mut Store,
    page: PageMut,
    old: std::ops::Range<usize>,
    new: &[Vec<u8>],
) -> Result<()> {
    if store.node(page.into()).parked_count() == 0 {
        for _ in old.clone() {
            store.node_mut(page).remove(old.start)?;
        }
        for (index, cell) in new.iter().enumerate() {
            store.node_mut(page).insert(old.start + index, cell)?;
        }
        return Ok(());
    }
    let number = store.pager.number(page.into());
    let node = store.node(page.into());
    let (kind, right) = (node.kind(), node.right_child()?);
    let mut cells = Vec::new();
    for index in 0..node.total_count() {
        if index == old.start {
            cells.extend(new.iter().cloned());
        }
        if !old.contains(&index) {
            cells.push(node.cell_bytes(index)?.to_vec());
        }
    }
    if old.start >= node.total_count() {
        cells.extend(new.iter().cloned());
    }
    let right = store.checked_number(right)?;
    let mut node = store.node_mut(page);
    node.initialize(number, kind);
    node.set_right_child(right)?;
    for (index, cell) in cells.iter().enumerate() {
        node.insert(index, cell)?;
    }
    Ok(())
}

impl Store {
    /// Child `index` of a node whose cells may be parked.
    fn child_of(&self, page: PageRef, index: usize) -> Result<u32> {
        let node = self.node(page);
        if node.parked_count() == 0 {
            return node.child(index);
        }
        if index >= node.total_count() {
            return node.right_child();
        }
        crate::format::bytes::u32_at(node.cell_bytes(index)?, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::choose_siblings;

    #[test]
    fn the_page_and_its_neighbours_take_part() {
        // D440: parents of 1, 2, 3 and 6 children.
        assert_eq!(choose_siblings(1, 0), 0..1);
        assert_eq!(choose_siblings(2, 1), 0..2);
        for index in 0..3 {
            assert_eq!(choose_siblings(3, index), 0..3);
        }
        let six: Vec<usize> = (0..6).map(|index| choose_siblings(6, index).start).collect();
        assert_eq!(six, [0, 0, 1, 2, 3, 3]);
    }
}
