//! Gather up to three siblings, spread their cells again, rewrite.
//!
//! First everything is read and copied and the outcome is computed ([`Workspace`], [`Plan`]); then
//! pages are allocated, filled, and hung under the parent.

use crate::error::{Error, Result};
use crate::format::{PageNumber, varint};
use crate::pager::{PageMut, PageRef};

use super::super::node::{NodeKind, SIZE_MIN, Span};
use super::super::pointer_map::Owner;
use super::super::store::Store;
use super::distribute::{Plan, distribute};

/// Most siblings that are spread over at once.
const SIBLINGS_MAX: usize = 3;

/// What balancing works with: the siblings and what is on them, copied, and what is to become of
/// it. Kept from one balance to the next for its memory.
#[derive(Debug, Default)]
pub(in crate::btree) struct Workspace {
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
    /// Which cell goes on which page.
    plan: Plan,
    /// The pages that the cells go to, from left to right.
    targets: Vec<(PageNumber, PageMut)>,
    /// The dividers between them, in `divider_bytes`.
    dividers: Vec<Span>,
    divider_bytes: Vec<u8>,
}

impl Workspace {
    fn cell(&self, index: usize) -> &[u8] {
        self.cells.get(index).map_or(&[], |cell| &self.bytes[cell.range()])
    }

    /// No cell is used up as divider: dividers are copies of keys.
    fn keeps_all(&self) -> bool {
        self.kind.is_leaf() && self.kind.is_leaf_data()
    }

    /// The new dividers, as they are to stand on the parent.
    fn new_dividers(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        self.dividers.iter().map(|divider| &self.divider_bytes[divider.range()])
    }

    /// Adds a cell made of two parts.
    fn push(&mut self, parts: [&[u8]; 2]) -> Result<()> {
        let span = append(&mut self.bytes, parts, SIZE_MIN)?;
        crate::memory::reserve(&mut self.cells, 1)?;
        self.cells.push(span);
        Ok(())
    }

    /// Where page `page` of the plan begins in the list of cells.
    fn start_of(&self, page: usize) -> usize {
        match page.checked_sub(1) {
            Some(before) => self.plan.ends[before] + usize::from(!self.keeps_all()),
            None => 0,
        }
    }
}

fn copy_dividers(work: &Workspace, cells: &mut Vec<Vec<u8>>) -> Result<()> {
    for divider in work.new_dividers() {
        crate::memory::reserve(cells, 1)?;
        cells.push(crate::memory::copy_of(divider)?);
    }
    Ok(())
}

/// Appends two parts to `bytes`, padded with zeros to `size_min`.
fn append(bytes: &mut Vec<u8>, parts: [&[u8]; 2], size_min: usize) -> Result<Span> {
    let start = bytes.len();
    let size = (parts[0].len() + parts[1].len()).max(size_min);
    crate::memory::reserve(bytes, size)?;
    bytes.extend_from_slice(parts[0]);
    bytes.extend_from_slice(parts[1]);
    bytes.resize(start + size, 0);
    Ok(Span { start: start as u32, size: size as u32 })
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
    store.change_shape();
    let mut work = std::mem::take(&mut store.workspace);
    let result = rebalance_in(&mut work, store, page, parent, index);
    store.workspace = work;
    result
}

fn rebalance_in(
    work: &mut Workspace,
    store: &mut Store,
    page: PageRef,
    parent: PageRef,
    index: usize,
) -> Result<()> {
    gather(work, store, page, parent, index)?;
    let capacity = store.format.usable - work.kind.header_length();
    let keeps_all = work.keeps_all();
    distribute(&mut work.plan, &work.cells, capacity, keeps_all);
    take_pages(work, store)?;
    fill_pages(work, store)?;
    build_dividers(work, store)?;
    hang_under_parent(work, store, parent)
}

/// Which siblings take part: up to three children all of them; at an end the three there; else
/// the page and one neighbour on each side.
fn choose_siblings(children: usize, index: usize) -> std::ops::Range<usize> {
    let count = children.min(SIBLINGS_MAX);
    let first = index.saturating_sub(1).min(children - count);
    first..first + count
}

/// Reads and copies the siblings of `page` and the dividers between them.
fn gather(
    work: &mut Workspace,
    store: &mut Store,
    page: PageRef,
    parent: PageRef,
    index: usize,
) -> Result<()> {
    let kind = store.node(page).kind();
    let parent_cells = store.node(parent).total_count();
    let range = choose_siblings(parent_cells + 1, index);
    (work.kind, work.first, work.right_child) = (kind, range.start, 0);
    work.pages.clear();
    work.cells.clear();
    work.bytes.clear();
    for child in range.clone() {
        let number = store.checked_number(store.child_of(parent, child)?)?;
        let sibling = store.fetch_node(number)?;
        if store.node(sibling).kind() != kind || sibling == parent {
            return Err(Error::corrupt("siblings of different kinds").on_page(number.get()));
        }
        if work.pages.contains(&sibling) {
            return Err(Error::corrupt("two siblings are one page").on_page(number.get()));
        }
        work.pages.push(sibling);
    }
    if !work.pages.contains(&page) {
        return Err(Error::corrupt("page is not the child it should be"));
    }
    for (position, child) in range.clone().enumerate() {
        let node = store.node(work.pages[position]);
        node.gather(&mut work.bytes, &mut work.cells)?;
        if !kind.is_leaf() {
            work.right_child = node.right_child()?;
        }
        if child + 1 < range.end && !work.keeps_all() {
            gather_divider(work, store, parent, child)?;
        }
    }
    Ok(())
}

/// Copies the divider behind child `index` of `parent`, as it would stand on a sibling.
fn gather_divider(
    work: &mut Workspace,
    store: &Store,
    parent: PageRef,
    index: usize,
) -> Result<()> {
    let node = store.node(parent);
    let divider = node.cell_bytes(index)?;
    let size = store.unpadded_size(divider, node.kind())?;
    let body = divider.get(4..size).ok_or(Error::corrupt("divider without a child"))?;
    if work.kind.is_leaf() {
        work.push([body, &[]])
    } else {
        // The divider's own child is the sibling; among the siblings' cells it leads to what was
        // right of the last cell there.
        let child = work.right_child.to_be_bytes();
        work.push([&child, body])
    }
}

/// Reuses the old pages from the left, allocates missing ones, frees surplus ones, and puts the
/// pages in ascending order.
fn take_pages(work: &mut Workspace, store: &mut Store) -> Result<()> {
    let count = work.plan.ends.len();
    let (pages, targets) = (&work.pages, &mut work.targets);
    targets.clear();
    for &old in pages.iter().take(count) {
        targets.push((store.pager.number(old), store.pager.make_writable(old)?));
    }
    while targets.len() < count {
        let near = targets.last().map(|&(number, _)| number);
        targets.push(store.allocate_page(near)?);
    }
    for &old in pages.iter().skip(count) {
        let writable = store.pager.make_writable(old)?;
        store.node_mut(writable).drop_parked();
        store.free_page(store.pager.number(old), Some(old))?;
    }
    targets.sort_unstable_by_key(|&(number, _)| number);
    Ok(())
}

/// Gives each page its cells and, on interior pages, its right-most child: that of the divider
/// behind it, or of the last old page.
fn fill_pages(work: &Workspace, store: &mut Store) -> Result<()> {
    for (index, &(number, page)) in work.targets.iter().enumerate() {
        let (start, end) = (work.start_of(index), work.plan.ends[index]);
        let cells = work.cells.get(start..end).ok_or(Error::Internal("impossible plan"))?;
        store.node_mut(page).rebuild(number, work.kind, &work.bytes, cells)?;
        if !work.kind.is_leaf() {
            let right = if index + 1 < work.targets.len() {
                crate::format::bytes::u32_at(work.cell(end), 0)?
            } else {
                work.right_child
            };
            let right = store.checked_number(right)?;
            store.node_mut(page).set_right_child(right)?;
        }
    }
    Ok(())
}

/// The dividers for the parent: the cell behind each page but the last with the page as child, or
/// a copy of the page's largest key where leaves keep all entries.
fn build_dividers(work: &mut Workspace, store: &Store) -> Result<()> {
    work.dividers.clear();
    work.divider_bytes.clear();
    let between = work.targets.len().saturating_sub(1);
    for (index, &(number, page)) in work.targets.iter().enumerate().take(between) {
        let child = number.get().to_be_bytes();
        let mut key = [0; varint::MAX_LENGTH];
        let body = if work.keeps_all() {
            let node = store.node(page.into());
            let last = node.cell_count().checked_sub(1).ok_or(Error::corrupt("empty page"))?;
            let length = varint::encode(node.integer_key(last)? as u64, &mut key);
            &key[..length]
        } else {
            let span = work.cells[work.plan.ends[index]];
            let cell = &work.bytes[span.range()];
            let size = store.unpadded_size(cell, work.kind)?;
            let skip = if work.kind.is_leaf() { 0 } else { 4 };
            cell.get(skip..size).unwrap_or_default()
        };
        let divider = append(&mut work.divider_bytes, [&child, body], 0)?;
        work.dividers.push(divider);
    }
    Ok(())
}

/// Exchanges the old dividers in the parent for the new ones, points it at the last page, and
/// brings the pointer map up to date.
fn hang_under_parent(work: &Workspace, store: &mut Store, parent: PageRef) -> Result<()> {
    let parent_number = store.pager.number(parent);
    let kind = store.node(parent).kind();
    let first = work.first;
    let parent = store.pager.make_writable(parent)?;
    splice(work, store, parent, first..first + work.pages.len() - 1)?;
    let &(last, _) = work.targets.last().ok_or(Error::Internal("no page"))?;
    store.node_mut(parent).set_child(first + work.dividers.len(), last)?;
    if store.has_pointer_map() {
        for &(number, page) in &work.targets {
            store.set_owner(number, Owner::Child(parent_number))?;
            store.claim_children(page.into())?;
        }
        for divider in work.new_dividers() {
            store.claim_cell(divider, kind, parent_number)?;
        }
    }
    Ok(())
}

/// Replaces the cells `old` of a node by the new dividers. A node with parked cells is laid out
/// anew: as many cells as fit, the others parked.
fn splice(
    work: &Workspace,
    store: &mut Store,
    page: PageMut,
    old: std::ops::Range<usize>,
) -> Result<()> {
    if store.node(page.into()).parked_count() == 0 {
        return store.node_mut(page).replace(old, work.new_dividers());
    }
    let number = store.pager.number(page.into());
    let node = store.node(page.into());
    let (kind, right) = (node.kind(), node.right_child()?);
    let mut cells = Vec::new();
    for index in 0..node.total_count() {
        if index == old.start {
            copy_dividers(work, &mut cells)?;
        }
        if !old.contains(&index) {
            crate::memory::reserve(&mut cells, 1)?;
            cells.push(crate::memory::copy_of(node.cell_bytes(index)?)?);
        }
    }
    if old.start >= node.total_count() {
        copy_dividers(work, &mut cells)?;
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
