//! Changing a node: insert and remove a cell, park the one that does not fit.

use std::ops::Range;

use super::cell::{Front, SIZE_MIN};
use super::header::field;
use super::{Copies, NodeInfo, NodeKind, NodeMut, ParkedCell, Span, header_start};
use crate::error::{Error, Result};
use crate::format::PageNumber;
use crate::format::bytes::{put_u8, put_u16, put_u32, slice_mut, u32_at};

const MISCOUNTED: Error = Error::corrupt("free bytes are miscounted");

/// Cells that come to a page and go from it.
#[derive(Debug)]
pub(crate) struct Moves<'m> {
    /// What the ranges below are numbers in.
    pub(crate) copies: &'m Copies,
    /// The places, on the page, of those that leave.
    pub(crate) leaving: Range<usize>,
    /// The cells that come.
    pub(crate) arriving: Range<usize>,
    /// So many of them are to stand ahead of those that stay, the others behind.
    pub(crate) before: usize,
    /// Where the memory of a cell that was parked goes.
    pub(crate) spare: &'m mut Vec<ParkedCell>,
}

/// A cell that is to stand on a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewCell<'c> {
    /// Its bytes, complete with its child pointer.
    pub(crate) bytes: &'c [u8],
    /// Its head, if somebody knows it already.
    pub(crate) head: Option<u64>,
}

impl<'c> From<&'c [u8]> for NewCell<'c> {
    fn from(bytes: &'c [u8]) -> NewCell<'c> {
        NewCell { bytes, head: None }
    }
}

impl<'m> Moves<'m> {
    fn leaving(&self) -> &'m [Span] {
        self.copies.places.get(self.leaving.clone()).unwrap_or_default()
    }

    /// Those that are to stand ahead, and behind.
    fn arriving(&self) -> (&'m [Span], &'m [Span]) {
        let cells = self.copies.cells.get(self.arriving.clone()).unwrap_or_default();
        cells.split_at_checked(self.before).unwrap_or((cells, &[]))
    }
}

impl NodeMut<'_> {
    /// Formats the page as an empty node of type `kind` (page 1 keeps its file header; reserved
    /// bytes are kept). Parked cells are forgotten; an interior page has no right child yet. Marks
    /// the page ready.
    pub(crate) fn initialize(&mut self, number: PageNumber, kind: NodeKind) {
        self.info.parked.clear();
        self.info.describe(header_start(number), kind);
        let header = self.info.header();
        let length = kind.header_length();
        if let Some(bytes) = self.bytes.get_mut(header..header + length) {
            bytes.fill(0);
            if let Some(first) = bytes.first_mut() {
                *first = kind.byte();
            }
        }
        // Cannot fail: a page is longer than its header.
        let _ = self.reset_body();
    }

    /// Makes the body empty: no cells, all of it one gap.
    fn reset_body(&mut self) -> Result<()> {
        let header = self.info.header();
        put_u16(self.bytes, header + field::FIRST_FREE, 0)?;
        put_u16(self.bytes, header + field::CELL_COUNT, 0)?;
        put_u8(self.bytes, header + field::FRAGMENTS, 0)?;
        self.info.cells = 0;
        self.info.drop_heads();
        self.info.free = (self.format.usable - self.info.pointers_end()) as u32;
        self.set_content(self.format.usable)
    }

    /// Formats the page as `kind` and fills it with `cells`, each a part of `source`, in order,
    /// packed at the end of the page, the first cell last in memory (as a fresh page grows).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if they do not fit; the page is then not usable.
    pub(crate) fn rebuild(
        &mut self,
        number: PageNumber,
        kind: NodeKind,
        source: &[u8],
        cells: &[Span],
    ) -> Result<()> {
        self.initialize(number, kind);
        let pointers = usize::from(self.info.pointers);
        let pointers_end = pointers + 2 * cells.len();
        let usable = self.format.usable;
        let content = lay_down(self.bytes, pointers, pointers_end, usable, source, cells)?;
        self.set_content(content)?;
        self.info.free = (content - pointers_end) as u32;
        self.set_count(cells.len())
    }

    /// Inserts `cell` (complete with its child pointer) at `index`, or parks a copy of it if it
    /// does not fit or another is parked already. `index` counts parked cells.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the free space is not what the page says; [`Error::NoMemory`].
    pub(crate) fn insert(&mut self, index: usize, cell: &[u8]) -> Result<()> {
        self.insert_or_park(index, cell, &mut Vec::new())
    }

    /// The same; a cell is parked in the memory of those in `spare`, as far as there are any.
    ///
    /// # Errors
    /// As [`NodeMut::insert`].
    pub(crate) fn insert_or_park(
        &mut self,
        index: usize,
        cell: &[u8],
        spare: &mut Vec<ParkedCell>,
    ) -> Result<()> {
        let size = cell.len().max(SIZE_MIN);
        let count = usize::from(self.info.cells);
        if !self.info.parked.is_empty() || size + 2 > self.info.free as usize {
            return self.info.park(index, cell, spare);
        }
        if index > count {
            return Err(Error::corrupt("no such place on the page"));
        }
        let at = self.allocate(size)?;
        write_cell(self.bytes, at, cell)?;
        self.insert_pointer(index, count - index, at)?;
        self.info.free -= (size + 2) as u32;
        if self.info.has_heads() {
            let head = self.node().head_of_cell(cell);
            self.info.insert_head(index, head, child_of_cell(cell));
        }
        self.set_count(count + 1)
    }

    /// Writes a cell to `index`, made of its integers, the parts of its payload and `zeros` zero
    /// bytes, if there is room in one piece; `false` if not, or if a cell is parked. `head`
    /// makes the head of the key.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the free space is not what the page says.
    #[inline(always)]
    pub(crate) fn insert_parts(
        &mut self,
        index: usize,
        front: Front,
        payload: [&[u8]; 2],
        zeros: usize,
        head: impl FnOnce() -> u64,
    ) -> Result<bool> {
        let front_length = front.length();
        let [key, data] = payload;
        let size = (front_length + key.len() + data.len() + zeros).max(SIZE_MIN);
        let count = usize::from(self.info.cells);
        let behind = count.checked_sub(index);
        if !self.info.parked.is_empty() || size + 2 > self.info.free as usize {
            return Ok(false);
        }
        let behind = behind.ok_or(Error::corrupt("no such place on the page"))?;
        let Some(at) = self.find_room(size, self.info.pointers_end() + 2)? else {
            return Ok(false);
        };
        let cell = slice_mut(self.bytes, at, size)?;
        front.write(cell);
        let (_, rest) = cell.split_at_mut(front_length);
        let (cell_key, rest) = rest.split_at_mut(key.len());
        let (cell_data, rest) = rest.split_at_mut(data.len());
        cell_key.copy_from_slice(key);
        cell_data.copy_from_slice(data);
        if !rest.is_empty() {
            rest.fill(0);
        }
        self.insert_pointer(index, behind, at)?;
        self.info.free -= (size + 2) as u32;
        if self.info.has_heads() {
            self.info.insert_head(index, Some(head()), 0);
        }
        self.set_count(count + 1)?;
        Ok(true)
    }

    /// Puts the pointer to a cell at `at` ahead of the last `behind` pointers, to `index`.
    #[inline]
    fn insert_pointer(&mut self, index: usize, behind: usize, at: usize) -> Result<()> {
        let pointer = self.info.pointer_position(index);
        if behind > 0 {
            slice_mut(self.bytes, pointer, 2 * behind + 2)?.copy_within(..2 * behind, 2);
        }
        put_u16(self.bytes, pointer, at as u16)
    }

    /// Removes cell `index` of the body. No cell may be parked.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the cell does not lie within the content area, or is free already.
    pub(crate) fn remove(&mut self, index: usize) -> Result<()> {
        if !self.info.parked.is_empty() {
            return Err(Error::corrupt("a cell is parked"));
        }
        let pointer = self.info.pointer_position(index);
        let at = self.node().cell_position(index)?;
        let size = self.node().size_at(at, self.info.layout)?;
        let count = usize::from(self.info.cells);
        if count == 1 {
            return self.reset_body();
        }
        let free = self.info.free as usize + size + 2;
        if free > self.format.usable - (self.info.pointers_end() - 2) {
            return Err(Error::corrupt("free bytes are miscounted"));
        }
        self.release(at, at + size)?;
        let behind = 2 * (count - index - 1);
        slice_mut(self.bytes, pointer, behind + 2)?.copy_within(2.., 0);
        self.info.free = free as u32;
        self.info.remove_head(index);
        self.set_count(count - 1)
    }

    /// Removes the cells `range` of the body. No cell may be parked.
    ///
    /// # Errors
    /// As [`NodeMut::remove`].
    pub(crate) fn remove_all(&mut self, range: Range<usize>) -> Result<()> {
        for index in range.rev() {
            self.remove(index)?;
        }
        Ok(())
    }

    /// Takes all cells of the body away but those in `kept`, of which there must be some, and puts
    /// others ahead of them and behind them. No cell may be parked.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if they do not fit, or the free space is not what the page says.
    pub(crate) fn exchange(&mut self, kept: Range<usize>, moves: &Moves<'_>) -> Result<()> {
        let old = usize::from(self.info.cells);
        if !self.info.parked.is_empty() || kept.is_empty() || kept.end > old {
            return Err(Error::corrupt("no such cells on the page"));
        }
        let (before, behind) = moves.arriving();
        let count = before.len() + kept.len() + behind.len();
        let pointers_end = self.info.pointer_position(count.max(old));
        if pointers_end > self.info.content as usize {
            return self.lay_out_anew(kept, moves);
        }
        let pointers = self.info.pointer_position(0);
        let stay = before.len()..before.len() + kept.len();
        if kept.start != stay.start {
            let (from, to) = (2 * kept.start..2 * kept.end, 2 * stay.start);
            slice_mut(self.bytes, pointers, pointers_end - pointers)?.copy_within(from, to);
        }
        self.info.cells = count.max(old) as u16;
        match self.settle(moves, before, behind, stay.clone(), pointers_end) {
            Ok(true) => {}
            Ok(false) => return self.lay_out_anew(stay, moves),
            Err(error) => {
                self.info.drop_heads(); // H1
                return Err(error);
            }
        }
        if self.info.has_heads() {
            self.exchange_heads(old, kept, moves);
        }
        self.set_count(count)
    }

    /// Brings the heads up to date after an exchange on a node that had `old` cells (H1).
    fn exchange_heads(&mut self, old: usize, kept: Range<usize>, moves: &Moves<'_>) {
        let (from, to) = (moves.arriving.start, moves.arriving.end);
        let middle = from + moves.before;
        let heads = |range| moves.copies.heads(range);
        match (heads(from..middle), heads(middle..to)) {
            (Some(before), Some(behind)) if self.info.kind.is_leaf() => {
                self.info.exchange_heads(kept, before, behind);
            }
            (Some(before), Some(behind)) => {
                let children = moves.copies.children(moves.arriving.clone());
                self.info.exchange_heads_and_children(old, kept, before, behind, children);
            }
            _ => self.info.drop_heads(),
        }
    }

    /// The same for a page of which cells may be parked: `kept` counts them, and those among it get
    /// their places in the body.
    ///
    /// # Errors
    /// As [`NodeMut::exchange`].
    pub(crate) fn exchange_with_parked(
        &mut self,
        kept: Range<usize>,
        moves: &mut Moves<'_>,
    ) -> Result<()> {
        if self.info.parked.is_empty() {
            return self.exchange(kept, moves);
        }
        let parked = self.take_parked();
        // Index in the body, where parked cells do not count.
        let in_body =
            |index: usize| index - parked.iter().filter(|parked| parked.index < index).count();
        let body = in_body(kept.start)..in_body(kept.end);
        if body.is_empty() {
            return Err(Error::corrupt("no cell fits on the page"));
        }
        self.exchange(body, moves)?;
        for cell in parked.iter().filter(|parked| kept.contains(&parked.index)) {
            let index = cell.index - kept.start + moves.before;
            self.insert(index, &cell.bytes)?;
        }
        *moves.spare = parked;
        Ok(())
    }

    /// Finds places for the cells that come, `before` and `behind` the pointers `stay`, and writes
    /// them and their pointers there; the places of those that leave are free afterwards, or taken.
    /// `false` if there is no room for all without moving others, and below the cell pointers,
    /// which end at `pointers_end`; the cells that stay are as they were then, but nothing else
    /// need be.
    fn settle(
        &mut self,
        moves: &Moves<'_>,
        before: &[Span],
        behind: &[Span],
        stay: Range<usize>,
        pointers_end: usize,
    ) -> Result<bool> {
        let leaving = moves.leaving();
        let source = &*moves.copies.bytes;
        let places = (0..stay.start).chain(stay.end..);
        let mut arriving = before.iter().chain(behind).zip(places);
        let mut leaving = leaving.iter();
        // Most cells are of one size with those that they make room for.
        let mut next = arriving.next();
        while let Some((cell, index)) = next
            && let [left, ..] = leaving.as_slice()
            && left.size == cell.size
        {
            self.put(left.start as usize, cell_in(source, *cell), index)?;
            leaving.next();
            next = arriving.next();
        }
        self.release_all(leaving.as_slice())?;
        while let Some((cell, index)) = next {
            let Some(at) = self.find_room(cell.size as usize, pointers_end)? else {
                return Ok(false);
            };
            self.put(at, cell_in(source, *cell), index)?;
            self.info.free = self.info.free.checked_sub(cell.size + 2).ok_or(MISCOUNTED)?;
            next = arriving.next();
        }
        Ok(true)
    }

    /// Writes a cell to `at`, and its pointer as number `index`.
    #[inline]
    fn put(&mut self, at: usize, cell: &[u8], index: usize) -> Result<()> {
        slice_mut(self.bytes, at, cell.len())?.copy_from_slice(cell);
        put_u16(self.bytes, self.info.pointer_position(index), at as u16)
    }

    /// Gives back the places of cells and of their pointers; those that lie together at once.
    fn release_all(&mut self, places: &[Span]) -> Result<()> {
        // From the last one on, since pages that were filled in order have that first in memory:
        // then the gap grows cell by cell, and no free blocks are made.
        let mut rest = places.iter().rev().map(|place| place.range());
        let Some(mut run) = rest.next() else { return Ok(()) };
        let mut free = self.info.free as usize + 2 * places.len();
        for place in rest {
            if place.start == run.end {
                run.end = place.end;
            } else if place.end == run.start {
                run.start = place.start;
            } else {
                free += run.len();
                self.release(run.start, run.end)?;
                run = place;
            }
        }
        free += run.len();
        self.release(run.start, run.end)?;
        if free > self.format.usable {
            return Err(MISCOUNTED);
        }
        self.info.free = free as u32;
        Ok(())
    }

    /// Builds the page from the cells `kept` of its body and those that come.
    fn lay_out_anew(&mut self, kept: Range<usize>, moves: &Moves<'_>) -> Result<()> {
        let mut stay = Copies::default();
        crate::memory::reserve_exact(&mut stay.bytes, self.format.usable)?;
        self.node().cells().copy(kept, &mut stay)?;
        self.reset_body()?;
        let (come, (before, behind)) = (&*moves.copies.bytes, moves.arriving());
        let arriving = [(come, before), (&*stay.bytes, &*stay.cells), (come, behind)];
        let count: usize = arriving.iter().map(|(_, cells)| cells.len()).sum();
        let floor = self.info.pointer_position(count);
        let (mut index, mut content) = (0, self.format.usable);
        for (source, cells) in arriving {
            let pointer = self.info.pointer_position(index);
            content = lay_down(self.bytes, pointer, floor, content, source, cells)?;
            index += cells.len();
        }
        self.set_content(content)?;
        self.info.free = (content - floor) as u32;
        self.set_count(count)
    }

    /// Replaces the cells `old` of the body by `new`, one after the other; no cell may be parked
    /// before. Those of equal size take the places of the old ones.
    ///
    /// # Errors
    /// As [`NodeMut::remove`] and [`NodeMut::insert`].
    pub(crate) fn replace<'c>(
        &mut self,
        old: Range<usize>,
        new: impl Iterator<Item = NewCell<'c>>,
    ) -> Result<()> {
        let mut index = old.start;
        let mut new = new.peekable();
        while index < old.end
            && let Some(cell) = new.peek()
            && self.overwrite(index, *cell)?
        {
            new.next();
            index += 1;
        }
        self.remove_all(index..old.end)?;
        for cell in new {
            self.insert(index, cell.bytes)?;
            index += 1;
        }
        Ok(())
    }

    fn set_count(&mut self, count: usize) -> Result<()> {
        self.info.cells = count as u16;
        put_u16(self.bytes, self.info.header() + field::CELL_COUNT, count as u16)
    }

    /// Replaces the bytes of cell `index` of the body by `cell`, if that takes just as many;
    /// `false` if not.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the old cell does not lie within the content area.
    pub(crate) fn overwrite(&mut self, index: usize, cell: NewCell<'_>) -> Result<bool> {
        let NewCell { bytes, head } = cell;
        let place = self.node().cells().place(index)?;
        if place.len() != bytes.len().max(SIZE_MIN) {
            return Ok(false);
        }
        write_cell(self.bytes, place.start, bytes)?;
        if self.info.has_heads() {
            let head = head.or_else(|| self.node().head_of_cell(bytes));
            self.info.replace_head(index, head, child_of_cell(bytes));
        }
        Ok(true)
    }

    /// Overwrites a part of the payload of cell `index` of the body that is on the page, from byte
    /// `offset` of the payload on. It must not be a part of the key.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the cell does not lie within the content area.
    pub(crate) fn overwrite_payload(
        &mut self,
        index: usize,
        offset: usize,
        bytes: &[u8],
    ) -> Result<()> {
        let at = self.node().cell_position(index)?;
        let header = self.node().cell(index)?.header;
        slice_mut(self.bytes, at + header + offset, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Replaces the child pointer of cell `index` (parked ones counted; `total_count()`: the
    /// right child).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the cell does not lie within the content area.
    pub(crate) fn set_child(&mut self, index: usize, child: PageNumber) -> Result<()> {
        if self.info.kind.is_leaf() {
            return Err(Error::corrupt("a leaf has no children"));
        }
        if index == self.node().total_count() {
            return self.set_right_child(child);
        }
        let mut body = index;
        for parked in &mut self.info.parked {
            if parked.index == index {
                return put_u32(&mut parked.bytes, 0, child.get());
            }
            if parked.index < index {
                body -= 1;
            }
        }
        let at = self.node().content_position(body)?;
        if self.info.has_heads() {
            self.info.replace_child(body, child.get());
        }
        put_u32(self.bytes, at, child.get())
    }

    /// Replaces the right child.
    ///
    /// # Errors
    /// [`Error::Corrupt`] on a leaf.
    pub(crate) fn set_right_child(&mut self, child: PageNumber) -> Result<()> {
        if self.info.kind.is_leaf() {
            return Err(Error::corrupt("a leaf has no children"));
        }
        put_u32(self.bytes, self.info.header() + field::RIGHT_CHILD, child.get())
    }

    /// Replaces the first overflow page of cell `index` of the body.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the cell does not lie within the content area or has no such page.
    pub(crate) fn set_overflow(&mut self, index: usize, first: PageNumber) -> Result<()> {
        let node = self.node();
        let cell = node.cell(index)?;
        if cell.overflow == 0 {
            return Err(Error::corrupt("cell without overflow pages"));
        }
        let at = node.cell_position(index)? + cell.header + cell.local.len();
        put_u32(self.bytes, at, first.get())
    }

    /// Forgets the parked cells: they have gone elsewhere.
    pub(crate) fn drop_parked(&mut self) {
        self.info.parked.clear();
    }

    /// Takes the parked cells away from the page, to be put on another (balance deeper).
    pub(crate) fn take_parked(&mut self) -> Vec<ParkedCell> {
        std::mem::take(&mut self.info.parked)
    }

    /// The reverse of [`NodeMut::take_parked`].
    pub(crate) fn put_parked(&mut self, parked: Vec<ParkedCell>) {
        self.info.parked = parked;
    }
}

impl NodeInfo {
    /// Keeps a copy of `cell` aside, as number `index` of all cells (N4), in memory of `spare` if
    /// that has any.
    fn park(&mut self, index: usize, cell: &[u8], spare: &mut Vec<ParkedCell>) -> Result<()> {
        let size = cell.len().max(SIZE_MIN);
        if index > usize::from(self.cells) + self.parked.len() {
            return Err(Error::corrupt("no such place on the page"));
        }
        let mut bytes = spare.pop().unwrap_or_default().bytes;
        if self.parked.is_empty() {
            spare.clear();
            std::mem::swap(&mut self.parked, spare);
        }
        bytes.clear();
        crate::memory::reserve_exact(&mut bytes, size)?;
        bytes.extend_from_slice(cell);
        bytes.resize(size, 0);
        let place = self.parked.partition_point(|parked| parked.index < index);
        crate::memory::reserve(&mut self.parked, 1)?;
        for parked in self.parked.iter_mut().skip(place) {
            parked.index += 1;
        }
        self.parked.insert(place, ParkedCell { index, bytes });
        Ok(())
    }
}

/// Copies cells, each a part of `source`, to a page, one ahead of the other and the first one right
/// ahead of `content`, but none below `floor`, and writes their pointers from `pointer` on. Returns
/// where the last one begins.
///
/// Cells that come from a page filled like this lie in the source as they will lie here, each right
/// ahead of the one before it, so they are copied in runs.
fn lay_down(
    bytes: &mut [u8],
    pointer: usize,
    floor: usize,
    content: usize,
    source: &[u8],
    cells: &[Span],
) -> Result<usize> {
    // Cells of a damaged page may overlap, and then take more room than the page says.
    const FULL: Error = Error::corrupt("cells do not fit on the page");
    let (front, body) = bytes.split_at_mut_checked(floor).ok_or(FULL)?;
    let (slots, _) = slice_mut(front, pointer, 2 * cells.len())?.as_chunks_mut();
    // The run that is being gathered: where it is in the source, and, at `content`, on the page.
    let mut run = 0..0;
    let mut content = content;
    let mut flush = |run: &Range<u32>, content: usize| {
        let piece = source.get(run.start as usize..run.end as usize).ok_or(FULL)?;
        let at = content.checked_sub(floor).ok_or(FULL)?;
        slice_mut(body, at, piece.len()).map(|place| place.copy_from_slice(piece))
    };
    for (cell, slot) in cells.iter().zip(slots) {
        let end = cell.start.wrapping_add(cell.size);
        if end != run.start {
            flush(&run, content)?;
            run.end = end;
        }
        run.start = cell.start;
        content = content.checked_sub(cell.size as usize).ok_or(FULL)?;
        *slot = (content as u16).to_be_bytes();
    }
    flush(&run, content)?;
    Ok(content)
}

/// The cell at a place in `source`.
#[inline]
fn cell_in(source: &[u8], place: Span) -> &[u8] {
    source.get(place.range()).unwrap_or_default()
}

/// Copies `cell` to `at`, padded with zeros to the smallest size that a cell may have.
#[inline]
fn write_cell(bytes: &mut [u8], at: usize, cell: &[u8]) -> Result<()> {
    slice_mut(bytes, at, cell.len())?.copy_from_slice(cell);
    if cell.len() < SIZE_MIN {
        slice_mut(bytes, at + cell.len(), SIZE_MIN - cell.len())?.fill(0);
    }
    Ok(())
}

/// What a cell of an interior node has for its child; of no meaning for that of a leaf.
#[inline]
pub(super) fn child_of_cell(cell: &[u8]) -> u32 {
    u32_at(cell, 0).unwrap_or_default()
}
