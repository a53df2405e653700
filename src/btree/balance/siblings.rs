//! Spread the cells of up to three siblings again, moving only those that change pages.
//!
//! ```text
//!          parent  [ .. | d0 | d1 | .. ]
//!                      /    |    \
//!              [ a b c ] [ d e f ] [ g h ]          the list: a b c (d0) d e f (d1) g h
//! ```
//!
//! The cells of the siblings, and the dividers between them unless those are copies of keys, are
//! one list; a cell is named by its number in it. Where the pages are to end in the list is
//! computed from what the siblings hold in all ([`distribute`]). Page i of the outcome is sibling i
//! as long as there is one, so what is in both stays where it is. First everything that leaves its
//! page is copied ([`choose_moves`]), then pages are allocated and changed, brought into ascending
//! order, and hung under the parent.
//!
//! Between what stays on one page and what stays on the next there is a run of cells that move:
//!
//! ```text
//!     siblings   a b c d    (d0)  e f    (d1)  g h i j k         ends of the plan: e, h
//!     stays      a b c d    . . . . f    . . . . . i j k
//!     runs                   d0 e         d1 g h
//!     outcome    a b c d d0 (e)   f d1 g    (h)    i j k         e and h are the new dividers
//! ```

use std::ops::Range;

use crate::error::{Error, Result};
use crate::format::{PageNumber, varint};
use crate::pager::{PageMut, PageRef};

use super::super::node::{
    Cells, Copies, Moves, NewCell, Node, NodeKind, ParkedCell, SIZE_MIN, Span, append,
    head_of_integer,
};
use super::super::pointer_map::Owner;
use super::super::store::Store;
use super::distribute::{Group, Plan, distribute};
use super::list::{Bodies, CellSizes, Part, Place, SIBLINGS_MAX, add_cells, add_part};

/// A sibling as it was found.
#[derive(Debug)]
struct Sibling {
    page: PageRef,
    /// The numbers of its cells.
    cells: Range<usize>,
    /// Where those of its cells stand that leave the page: numbers of [`Copies::places`].
    leaving: Range<usize>,
}

/// A page as it is to become.
#[derive(Debug)]
struct Target {
    number: PageNumber,
    page: PageRef,
    /// The numbers of the cells that stay on it.
    kept: Range<usize>,
    /// Those that come to it ahead of them, and behind them: numbers of [`Copies::cells`].
    before: Range<usize>,
    behind: Range<usize>,
    /// The cell behind it that becomes a divider. Empty if there is none, or it is a copy of a key.
    divider: Span,
}

/// What balancing works with. Kept from one balance to the next for its memory.
#[derive(Debug, Default)]
pub(in crate::btree) struct Workspace {
    /// The siblings, from left to right.
    siblings: Vec<Sibling>,
    /// The list of their cells and of the dividers between them.
    parts: Vec<Part>,
    /// What they and the dividers hold.
    groups: Vec<Group>,
    /// Kind of all of them.
    kind: NodeKind,
    /// Index, among the children of the parent, of the first page.
    first: usize,
    /// Right-most child of the last sibling, on interior pages.
    right_child: u32,
    /// Which cell goes on which page.
    plan: Plan,
    /// The pages that the cells go to, from left to right.
    targets: Vec<Target>,
    /// Copies of the cells that do not stay on their page, and of the old dividers.
    copies: Copies,
    /// See [`Moves::spare`].
    spare: Vec<ParkedCell>,
    /// The dividers between the pages, in `divider_bytes`, each with its head if that is known.
    dividers: Vec<(Span, Option<u64>)>,
    divider_bytes: Vec<u8>,
}

impl Workspace {
    /// Memory for the next cell that is parked.
    pub(in crate::btree) fn spare(&mut self) -> &mut Vec<ParkedCell> {
        &mut self.spare
    }

    /// No cell is used up as divider: dividers are copies of keys.
    fn keeps_all(&self) -> bool {
        self.kind.is_leaf() && self.kind.is_leaf_data()
    }

    /// The new dividers, as they are to stand on the parent.
    fn new_dividers(&self) -> impl Iterator<Item = NewCell<'_>> {
        let bytes = |place: Span| &self.divider_bytes[place.range()];
        self.dividers.iter().map(move |&(place, head)| NewCell { bytes: bytes(place), head })
    }

    /// Adds a sibling with its cells.
    fn add_sibling(&mut self, page: PageRef, node: &Node<'_>) -> Result<()> {
        let start = self.groups.last().map_or(0, |group| group.end);
        let cells = start..start + node.total_count();
        add_cells(&mut self.parts, self.siblings.len(), node)?;
        self.add_group(cells.end, node.used())?;
        crate::memory::reserve(&mut self.siblings, 1)?;
        self.siblings.push(Sibling { page, cells, leaving: 0..0 });
        Ok(())
    }

    /// Adds the divider behind the last sibling: its child, if the siblings have children, and what
    /// follows.
    fn add_divider(&mut self, child: Option<u32>, rest: &[u8]) -> Result<()> {
        let divider = self.copies.append(child, rest, SIZE_MIN)?;
        let behind = self.siblings.len().saturating_sub(1);
        add_part(&mut self.parts, behind, 1, Place::Divider(divider))?;
        let end = self.groups.last().map_or(0, |group| group.end) + 1;
        self.add_group(end, divider.size as usize + 2)
    }

    fn add_group(&mut self, end: usize, used: usize) -> Result<()> {
        crate::memory::reserve(&mut self.groups, 1)?;
        self.groups.push(Group { end, used });
        Ok(())
    }

    /// Copies a run of cells that move, `numbers` of the list.
    #[inline]
    fn lift(&mut self, bodies: &Bodies<'_>, numbers: Range<usize>) -> Result<()> {
        if numbers.is_empty() { Ok(()) } else { self.lift_run(bodies, numbers) }
    }

    fn lift_run(&mut self, bodies: &Bodies<'_>, numbers: Range<usize>) -> Result<()> {
        let copies = &mut self.copies;
        for part in &self.parts {
            if part.start >= numbers.end {
                break;
            }
            if part.end <= numbers.start {
                continue;
            }
            let gone = Error::Internal("no sibling for a part of the list");
            let cells = bodies.get(part.sibling).ok_or(gone)?;
            match part.place {
                Place::Body(first) => {
                    let start = part.start.max(numbers.start);
                    let (count, first) =
                        (part.end.min(numbers.end) - start, first + (start - part.start));
                    let sibling = self.siblings.get_mut(part.sibling).ok_or(gone)?;
                    if sibling.leaving.is_empty() {
                        sibling.leaving.start = copies.places.len();
                    }
                    cells.copy(first..first + count, copies)?;
                    sibling.leaving.end = copies.places.len();
                }
                Place::Parked(nth) => {
                    let parked = copies.append(None, cells.node().parked_bytes(nth)?, 0)?;
                    copies.push(cells.node(), parked)?;
                }
                Place::Divider(divider) => copies.push(cells.node(), divider)?,
            }
        }
        Ok(())
    }

    /// What the siblings have on their pages; where there are fewer than three, the last one again.
    #[inline]
    fn bodies<'a>(&self, store: &'a Store) -> Result<Bodies<'a>> {
        let last = self.siblings.last().ok_or(Error::Internal("no page"))?;
        let cells = |index| store.node(self.siblings.get(index).unwrap_or(last).page).cells();
        Ok(std::array::from_fn(cells))
    }

    /// Where page `page` of the plan begins in the list.
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
        cells.push(crate::memory::copy_of(divider.bytes)?);
    }
    Ok(())
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
    let mut work = store.workspace.take().unwrap_or_default();
    let result = rebalance_in(&mut work, store, page, parent, index);
    store.workspace = Some(work);
    result
}

fn rebalance_in(
    work: &mut Workspace,
    store: &mut Store,
    page: PageRef,
    parent: PageRef,
    index: usize,
) -> Result<()> {
    find_siblings(work, store, page, parent, index)?;
    let capacity = store.format.usable - work.kind.header_length();
    let bodies = work.bodies(store)?;
    let mut plan = std::mem::take(&mut work.plan);
    let planned = make_plan(&mut plan, work, &bodies, capacity);
    work.plan = plan;
    planned?;
    choose_moves(work, store, &bodies)?;
    take_pages(work, store)?;
    for index in 0..work.targets.len() {
        change_page(work, store, index)?;
    }
    put_in_order(&mut work.targets, store)?;
    build_dividers(work, store)?;
    hang_under_parent(work, store, parent)
}

/// Computes where the pages are to end. Written out so that the search for the ends is compiled for
/// the fields that the cells have.
fn make_plan(
    plan: &mut Plan,
    work: &Workspace,
    bodies: &Bodies<'_>,
    capacity: usize,
) -> Result<()> {
    const OTHER: u8 = NodeKind::INTEGER_LEAF.byte();
    let make = match work.kind {
        NodeKind::TABLE_LEAF => make_plan_on::<{ NodeKind::TABLE_LEAF.byte() }>,
        NodeKind::INDEX_LEAF => make_plan_on::<{ NodeKind::INDEX_LEAF.byte() }>,
        NodeKind::TABLE_INTERIOR => make_plan_on::<{ NodeKind::TABLE_INTERIOR.byte() }>,
        NodeKind::INDEX_INTERIOR => make_plan_on::<{ NodeKind::INDEX_INTERIOR.byte() }>,
        _ => make_plan_on::<OTHER>,
    };
    make(plan, work, bodies, capacity)
}

fn make_plan_on<const KIND: u8>(
    plan: &mut Plan,
    work: &Workspace,
    bodies: &Bodies<'_>,
    capacity: usize,
) -> Result<()> {
    let mut sizes = CellSizes::<KIND>::new(&work.parts, bodies);
    distribute(plan, &work.groups, &mut sizes, capacity, work.keeps_all())
}

/// Which siblings take part: up to three children all of them; at an end the three there; else
/// the page and one neighbour on each side.
fn choose_siblings(children: usize, index: usize) -> Range<usize> {
    let count = children.min(SIBLINGS_MAX);
    let first = index.saturating_sub(1).min(children - count);
    first..first + count
}

/// Makes the list of the cells of `page`, of its neighbours, and of the dividers between them.
fn find_siblings(
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
    work.siblings.clear();
    work.parts.clear();
    work.groups.clear();
    work.copies.bytes.clear();
    for child in range.clone() {
        let number = store.checked_number(store.child_of(parent, child)?)?;
        // Pages may be exchanged below, and the file header stays where it is.
        if number == PageNumber::ONE {
            return Err(Error::corrupt("page 1 is nobody's child").on_page(1));
        }
        let sibling = store.fetch_node(number)?;
        let node = store.node(sibling);
        node.prefetch_pointers();
        if node.kind() != kind || sibling == parent {
            return Err(Error::corrupt("siblings of different kinds").on_page(number.get()));
        }
        if work.siblings.iter().any(|other| other.page == sibling) {
            return Err(Error::corrupt("two siblings are one page").on_page(number.get()));
        }
        work.add_sibling(sibling, &node)?;
        if !kind.is_leaf() {
            work.right_child = node.right_child()?;
        }
        if child + 1 < range.end && !work.keeps_all() {
            list_divider(work, store, parent, child)?;
        }
    }
    if !work.siblings.iter().any(|sibling| sibling.page == page) {
        return Err(Error::corrupt("page is not the child it should be"));
    }
    Ok(())
}

/// Copies the divider behind child `index` of `parent`, as it would stand on a sibling.
fn list_divider(work: &mut Workspace, store: &Store, parent: PageRef, index: usize) -> Result<()> {
    let node = store.node(parent);
    let divider = node.cell_bytes(index)?;
    let size = store.unpadded_size(divider, node.kind())?;
    let body = divider.get(4..size).ok_or(Error::corrupt("divider without a child"))?;
    // The divider's own child is the sibling; among the siblings' cells it leads to what was right
    // of the last cell there.
    let child = (!work.kind.is_leaf()).then_some(work.right_child);
    work.add_divider(child, body)
}

/// Says for each page of the plan which cells stay there, and copies all others.
fn choose_moves(work: &mut Workspace, store: &Store, bodies: &Bodies<'_>) -> Result<()> {
    work.targets.clear();
    work.copies.clear(bodies.iter().any(|cells| !cells.node().heads().is_empty()));
    let pages = work.plan.ends.len();
    crate::memory::reserve(&mut work.targets, pages)?;
    // The number behind the cells that stay on the pages before.
    let mut behind_kept = 0;
    for index in 0..pages {
        let (start, end) = (work.start_of(index), work.plan.ends[index]);
        let old = work.siblings.get(index);
        let mut kept = old.map_or(start..start, |sibling| {
            start.max(sibling.cells.start)..end.min(sibling.cells.end)
        });
        // A parked cell has no place on the page that it could keep.
        let has_parked = bodies.get(index).is_some_and(|cells| cells.node().parked_count() > 0);
        let only_parked = |(sibling, cells): (&Sibling, &Cells<'_>)| {
            let first = sibling.cells.start;
            let range = kept.start.saturating_sub(first)..kept.end.saturating_sub(first);
            cells.node().parked_among(range) == kept.len()
        };
        if kept.is_empty() || has_parked && old.zip(bodies.get(index)).is_some_and(only_parked) {
            kept = start..start;
        }
        // A page that is missing is allocated later.
        let page = old.or(work.siblings.first()).ok_or(Error::Internal("no page"))?.page;
        let number = store.pager.number(page);
        work.lift(bodies, behind_kept..kept.start)?;
        behind_kept = kept.end;
        let moved = work.copies.cells.len();
        let (before, behind) = (moved + start - kept.start..moved, moved..moved + end - kept.end);
        let divider = Span { start: 0, size: 0 };
        work.targets.push(Target { number, page, kept, before, behind, divider });
    }
    let all = work.groups.last().map_or(0, |group| group.end);
    work.lift(bodies, behind_kept..all)?;
    if !work.keeps_all() {
        let between = pages.saturating_sub(1);
        for target in work.targets.iter_mut().take(between) {
            let divider = work.copies.cells.get(target.behind.end);
            target.divider = *divider.ok_or(Error::Internal("no divider"))?;
        }
    }
    Ok(())
}

/// Allocates pages that are missing and frees surplus ones.
fn take_pages(work: &mut Workspace, store: &mut Store) -> Result<()> {
    let old = work.siblings.len();
    for index in old..work.targets.len() {
        let near = work.targets.get(index - 1).map(|target| target.number);
        let (number, page) = store.allocate_page(near)?;
        if let Some(target) = work.targets.get_mut(index) {
            (target.number, target.page) = (number, page.into());
        }
    }
    for sibling in work.siblings.iter().skip(work.targets.len()) {
        let writable = store.pager.make_writable(sibling.page)?;
        store.node_mut(writable).drop_parked();
        store.free_page(store.pager.number(sibling.page), Some(sibling.page))?;
    }
    Ok(())
}

/// Takes what leaves a page away from it, puts there what comes to it, and, on interior pages, sets
/// the right-most child: that of the divider behind it, or of the last old page.
fn change_page(work: &mut Workspace, store: &mut Store, index: usize) -> Result<()> {
    let target = work.targets.get(index).ok_or(Error::Internal("no page"))?;
    let (leaving, first) = match work.siblings.get(index) {
        Some(sibling) => (sibling.leaving.clone(), sibling.cells.start),
        None => (0..0, 0),
    };
    let arriving = target.before.start..target.behind.end;
    if target.kept.is_empty() {
        let cells = work.copies.cells.get(arriving.clone()).unwrap_or_default();
        let page = store.pager.make_writable(target.page)?;
        let mut node = store.node_mut(page);
        node.rebuild(target.number, work.kind, &work.copies.bytes, cells)?;
        let (heads, children) =
            (work.copies.heads(arriving.clone()), work.copies.children(arriving));
        node.give_heads(heads, children);
    } else if !arriving.is_empty()
        || !leaving.is_empty()
        || store.node(target.page).parked_count() > 0
    {
        let before = target.before.len();
        let (copies, spare) = (&work.copies, &mut work.spare);
        let mut moves = Moves { copies, leaving, arriving, before, spare };
        let kept = target.kept.start - first..target.kept.end - first;
        let page = store.pager.make_writable(target.page)?;
        let mut node = store.node_mut(page);
        node.exchange_with_parked(kept, &mut moves)?;
        if node.node().parked_count() > 0 {
            return Err(Error::corrupt("free bytes are miscounted").on_page(target.number.get()));
        }
    }
    if work.kind.is_leaf() {
        return Ok(());
    }
    let right = match index + 1 < work.targets.len() {
        true => crate::format::bytes::u32_at(&work.copies.bytes[target.divider.range()], 0)?,
        false => work.right_child,
    };
    let right = store.checked_number(right)?;
    let page = store.pager.make_writable(target.page)?;
    store.node_mut(page).set_right_child(right)
}

/// Exchanges what is on the pages until their numbers ascend.
fn put_in_order(targets: &mut [Target], store: &mut Store) -> Result<()> {
    let ascends = |pair: &[Target]| matches!(pair, [a, b] if a.number.get() < b.number.get());
    if targets.windows(2).all(ascends) {
        return Ok(());
    }
    for index in 0..targets.len() {
        let (_, rest) = targets.split_at_mut(index);
        let Some((place, rest)) = rest.split_first_mut() else { break };
        let Some(lowest) = rest.iter_mut().min_by_key(|target| target.number) else { break };
        if lowest.number < place.number {
            let one = store.pager.make_writable(place.page)?;
            let other = store.pager.make_writable(lowest.page)?;
            store.pager.exchange_pages(one, other);
            std::mem::swap(&mut place.page, &mut lowest.page);
            std::mem::swap(&mut place.number, &mut lowest.number);
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
    crate::memory::reserve(&mut work.dividers, between)?;
    for target in work.targets.iter().take(between) {
        let child = Some(target.number.get());
        let divider = if work.keeps_all() {
            let node = store.node(target.page);
            let last = node.cell_count().checked_sub(1).ok_or(Error::corrupt("empty page"))?;
            let key = node.integer_key(last)?;
            let mut bytes = [0; varint::MAX_LENGTH];
            let length = varint::encode(key as u64, &mut bytes);
            let place = append(&mut work.divider_bytes, child, &bytes[..length], 0)?;
            (place, Some(head_of_integer(key)))
        } else {
            let cell = &work.copies.bytes[target.divider.range()];
            let size = store.unpadded_size(cell, work.kind)?;
            let skip = if work.kind.is_leaf() { 0 } else { 4 };
            let rest = cell.get(skip..size).unwrap_or_default();
            (append(&mut work.divider_bytes, child, rest, 0)?, None)
        };
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
    splice(work, store, parent, first..first + work.siblings.len() - 1)?;
    let last = work.targets.last().ok_or(Error::Internal("no page"))?.number;
    store.node_mut(parent).set_child(first + work.dividers.len(), last)?;
    if store.has_pointer_map() {
        for target in &work.targets {
            store.set_owner(target.number, Owner::Child(parent_number))?;
            store.claim_children(target.page)?;
        }
        for divider in work.new_dividers() {
            store.claim_cell(divider.bytes, kind, parent_number)?;
        }
    }
    Ok(())
}

/// Replaces the cells `old` of a node by the new dividers. A node with parked cells is laid out
/// anew: as many cells as fit, the others parked.
fn splice(work: &Workspace, store: &mut Store, page: PageMut, old: Range<usize>) -> Result<()> {
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
    use crate::btree::store::testing::{database, peek, poke};
    use crate::btree::{Key, TABLE};
    use crate::error::Error;
    use crate::format::AutoVacuum;

    /// A root that has page 1 as its child: the file header stays on page 1, wherever the entry is
    /// put that makes a leaf too full.
    #[test]
    fn page_one_is_no_sibling() {
        let mut refused = 0;
        for place in (1..72).step_by(2) {
            let mut db = database(512, AutoVacuum::None);
            let root = db.create_table(TABLE).unwrap();
            let cursor = db.open_cursor(root, true).unwrap();
            for key in 1..=36 {
                db.insert(cursor, Key::Integer(2 * key), &[b'x'; 30], 0).unwrap();
            }
            assert_eq!(peek(&mut db, root.get())[0], 5, "the root is an interior page");
            let header = peek(&mut db, 1)[..100].to_vec();
            poke(&mut db, root.get(), 8, &1u32.to_be_bytes());
            // The old one would look at the right-most leaf first.
            let cursor = db.open_cursor(root, true).unwrap();
            let result = db.insert(cursor, Key::Integer(place), &[b'y'; 30], 0);
            refused += usize::from(result.is_err());
            assert_eq!(peek(&mut db, 1)[..100], header[..], "entry {place}: {result:?}");
        }
        assert!(refused > 0);
    }

    /// Two leaves that have few cells, but take as much room as many: whatever sums balancing makes
    /// of them, it only refuses.
    #[test]
    fn leaves_with_fewer_cells_than_bytes_are_refused() {
        let mut refused = 0;
        for (one, other) in (1..=14).flat_map(|one| (1..=14).map(move |other| (one, other))) {
            let mut db = database(512, AutoVacuum::None);
            let root = db.create_table(TABLE).unwrap();
            let cursor = db.open_cursor(root, true).unwrap();
            for key in 1..=40 {
                db.insert(cursor, Key::Integer(key), &[b'x'; 30], 0).unwrap();
            }
            let parent = peek(&mut db, root.get());
            for (pointer, count) in [(12, one), (14, other)] {
                let cell = usize::from(u16::from_be_bytes([parent[pointer], parent[pointer + 1]]));
                let child = u32::from_be_bytes(*parent[cell..].first_chunk().unwrap());
                poke(&mut db, child, 3, &[0, count]);
            }
            let cursor = db.open_cursor(root, true).unwrap();
            for key in (1..=40).rev() {
                let result = match db.seek(cursor, Key::Integer(key)) {
                    Ok(std::cmp::Ordering::Equal) => db.delete(cursor),
                    other => other.map(|_| ()),
                };
                match result {
                    Ok(()) => {}
                    Err(Error::Corrupt { .. }) => {
                        refused += 1;
                        break;
                    }
                    Err(error) => panic!("{one} and {other} cells: {error:?}"),
                }
            }
        }
        assert!(refused > 0);
    }

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
