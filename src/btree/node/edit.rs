//! Changing a node: insert and remove a cell, park the one that does not fit.

use std::ops::Range;

use super::cell::{Front, SIZE_MIN};
use super::header::field;
use super::{NodeInfo, NodeKind, NodeMut, ParkedCell, Span, header_start};
use crate::error::{Error, Result};
use crate::format::PageNumber;
use crate::format::bytes::{put_u8, put_u16, put_u32, slice, slice_mut, u16_at};

/// So many cells are inserted at once.
const BATCH: usize = 32;

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
    /// [`Error::Internal`] if they do not fit; the page is then not usable.
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
        let size = cell.len().max(SIZE_MIN);
        let count = usize::from(self.info.cells);
        if !self.info.parked.is_empty() || size + 2 > self.info.free as usize {
            return self.info.park(index, cell);
        }
        if index > count {
            return Err(Error::corrupt("no such place on the page"));
        }
        let at = self.allocate(size)?;
        write_cell(self.bytes, at, cell)?;
        let pointer = self.info.pointer_position(index);
        let behind = 2 * (count - index);
        slice_mut(self.bytes, pointer, behind + 2)?.copy_within(..behind, 2);
        put_u16(self.bytes, pointer, at as u16)?;
        self.info.free -= (size + 2) as u32;
        if self.info.has_heads() {
            let head = self.node().head_of_cell(cell);
            self.info.insert_head(index, head);
        }
        self.set_count(count + 1)
    }

    /// Writes a cell behind all others, made of its integers, the parts of its payload and `zeros`
    /// zero bytes, if there is room in one piece; `false` if not, or if a cell is parked.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the free space is not what the page says.
    #[inline]
    pub(crate) fn append(
        &mut self,
        front: Front,
        payload: [&[u8]; 2],
        zeros: usize,
    ) -> Result<bool> {
        let front = front.bytes();
        let [key, data] = payload;
        let size = (front.len() + key.len() + data.len() + zeros).max(SIZE_MIN);
        if !self.info.parked.is_empty() || size + 2 > self.info.free as usize {
            return Ok(false);
        }
        let Some(at) = self.find_room(size, 2)? else { return Ok(false) };
        let cell = slice_mut(self.bytes, at, size)?;
        let (cell_front, rest) = cell.split_at_mut(front.len());
        let (cell_key, rest) = rest.split_at_mut(key.len());
        let (cell_data, rest) = rest.split_at_mut(data.len());
        cell_front.copy_from_slice(front);
        cell_key.copy_from_slice(key);
        cell_data.copy_from_slice(data);
        if !rest.is_empty() {
            rest.fill(0);
        }
        put_u16(self.bytes, self.info.pointers_end(), at as u16)?;
        self.info.free -= (size + 2) as u32;
        let count = usize::from(self.info.cells);
        if self.info.has_heads() {
            let head = self.node().head_of_cell(slice(self.bytes, at, size)?);
            self.info.insert_head(count, head);
        }
        self.set_count(count + 1)?;
        Ok(true)
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
        let count = usize::from(self.info.cells);
        if range.is_empty() {
            return Ok(());
        }
        if !self.info.parked.is_empty() || range.end > count {
            return Err(Error::corrupt("no such cells on the page"));
        }
        if range.len() == count {
            return self.reset_body();
        }
        // From the last one on, since pages that were filled in order have that first in memory:
        // then the gap grows cell by cell, and no free blocks are made. What lies together is
        // released together.
        let mut freed = 0;
        let mut index = range.end;
        let mut next = None;
        while index > range.start || next.is_some() {
            let cells = self.node().cells();
            let mut run = 0..0;
            loop {
                let place = match next.take() {
                    Some(place) => place,
                    None if index > range.start => {
                        index -= 1;
                        cells.place(index)?
                    }
                    None => break,
                };
                if run.is_empty() {
                    run = place.clone();
                } else if place.start == run.end {
                    run.end = place.end;
                } else if place.end == run.start {
                    run.start = place.start;
                } else {
                    next = Some(place);
                    break;
                }
                freed += place.len() + 2;
            }
            self.release(run.start, run.end)?;
        }
        let free = self.info.free as usize + freed;
        if free > self.format.usable - (self.info.pointers_end() - 2 * range.len()) {
            return Err(Error::corrupt("free bytes are miscounted"));
        }
        let pointer = self.info.pointer_position(range.start);
        let pointers = slice_mut(self.bytes, pointer, 2 * (count - range.start))?;
        pointers.copy_within(2 * range.len().., 0);
        self.info.free = free as u32;
        self.info.remove_heads(range.clone());
        self.set_count(count - range.len())
    }

    /// Inserts `cells`, each a part of `source`, one after the other, the first at `index`. No cell
    /// may be parked, and all of them must fit.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if they do not, or the free space is not what the page says.
    pub(crate) fn insert_all(&mut self, index: usize, source: &[u8], cells: &[Span]) -> Result<()> {
        if cells.is_empty() || self.insert_below(index, source, cells)? {
            return Ok(());
        }
        let mut index = index;
        for cells in cells.chunks(BATCH) {
            let placed = self.insert_batch(index, source, cells)?;
            for (number, cell) in cells.iter().enumerate().skip(placed) {
                let bytes = source.get(cell.range()).unwrap_or_default();
                self.insert(index + number, bytes)?;
            }
            index += cells.len();
        }
        match self.info.parked.is_empty() {
            true => Ok(()),
            false => Err(Error::corrupt("free bytes are miscounted")),
        }
    }

    /// Inserts all of `cells` at the end of the gap; `false` if they do not fit there, or if there
    /// are free blocks to be used first.
    fn insert_below(&mut self, index: usize, source: &[u8], cells: &[Span]) -> Result<bool> {
        let count = usize::from(self.info.cells);
        let size: usize = cells.iter().map(|cell| cell.size as usize).sum();
        let end = self.info.pointers_end();
        let taken = size + 2 * cells.len();
        let first_free = u16_at(self.bytes, self.info.header() + field::FIRST_FREE)?;
        let content = self.info.content as usize;
        let fits = content.checked_sub(end).is_some_and(|gap| gap >= taken);
        if !fits || first_free != 0 || !self.info.parked.is_empty() || index > count {
            return Ok(false);
        }
        let pointer = self.info.pointer_position(index);
        let behind = 2 * (count - index);
        let pointers = slice_mut(self.bytes, pointer, behind + 2 * cells.len())?;
        pointers.copy_within(..behind, 2 * cells.len());
        let floor = end + 2 * cells.len();
        let content = lay_down(self.bytes, pointer, floor, content, source, cells)?;
        self.set_content(content)?;
        self.info.free -= taken as u32;
        self.set_count(count + cells.len())?;
        if self.info.has_heads() {
            self.add_heads(index..index + cells.len());
        }
        Ok(true)
    }

    /// Inserts the first of `cells`, as many as there is room for without moving others, and
    /// returns their number. Their pointers are written at once, and their heads.
    fn insert_batch(&mut self, index: usize, source: &[u8], cells: &[Span]) -> Result<usize> {
        let count = usize::from(self.info.cells);
        if !self.info.parked.is_empty() || index > count {
            return Err(Error::corrupt("no such place on the page"));
        }
        let mut places = [[0; 2]; BATCH];
        let (mut placed, mut taken) = (0, 0);
        for (cell, place) in cells.iter().zip(&mut places) {
            let size = cell.size as usize;
            if taken + size + 2 > self.info.free as usize {
                break;
            }
            let Some(at) = self.find_room(size, 2 * cells.len())? else { break };
            write_cell(self.bytes, at, source.get(cell.range()).unwrap_or_default())?;
            *place = (at as u16).to_be_bytes();
            taken += size + 2;
            placed += 1;
        }
        let pointer = self.info.pointer_position(index);
        let behind = 2 * (count - index);
        let pointers = slice_mut(self.bytes, pointer, behind + 2 * placed)?;
        pointers.copy_within(..behind, 2 * placed);
        let new = places.get(..placed).unwrap_or_default().as_flattened();
        slice_mut(pointers, 0, 2 * placed)?.copy_from_slice(new);
        self.info.free -= taken as u32;
        self.set_count(count + placed)?;
        if self.info.has_heads() {
            self.add_heads(index..index + placed);
        }
        Ok(placed)
    }

    /// Replaces the cells `old` of the body by `new`, one after the other; no cell may be parked
    /// before. Those of equal size take the places of the old ones.
    ///
    /// # Errors
    /// As [`NodeMut::remove`] and [`NodeMut::insert`].
    pub(crate) fn replace<'c>(
        &mut self,
        old: Range<usize>,
        new: impl Iterator<Item = &'c [u8]>,
    ) -> Result<()> {
        let mut index = old.start;
        let mut new = new.peekable();
        while index < old.end
            && let Some(cell) = new.peek()
            && self.node().cells().size(index)? == cell.len().max(SIZE_MIN)
        {
            self.overwrite(index, cell)?;
            new.next();
            index += 1;
        }
        self.remove_all(index..old.end)?;
        for cell in new {
            self.insert(index, cell)?;
            index += 1;
        }
        Ok(())
    }

    fn set_count(&mut self, count: usize) -> Result<()> {
        self.info.cells = count as u16;
        put_u16(self.bytes, self.info.header() + field::CELL_COUNT, count as u16)
    }

    /// Replaces the bytes of cell `index` of the body by `cell`, which takes just as many.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the old cell does not lie within the content area.
    pub(crate) fn overwrite(&mut self, index: usize, cell: &[u8]) -> Result<()> {
        let at = self.node().cell_position(index)?;
        if self.node().size_at(at, self.info.layout)? != cell.len().max(SIZE_MIN) {
            return Err(Error::Internal("cells of different sizes"));
        }
        write_cell(self.bytes, at, cell)?;
        if self.info.has_heads() {
            let head = self.node().head_of_cell(cell);
            self.info.replace_head(index, head);
        }
        Ok(())
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
        self.node().cell(body)?;
        let at = self.node().cell_position(body)?;
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
    /// Keeps a copy of `cell` aside, as number `index` of all cells (N4).
    fn park(&mut self, index: usize, cell: &[u8]) -> Result<()> {
        let size = cell.len().max(SIZE_MIN);
        if index > usize::from(self.cells) + self.parked.len() {
            return Err(Error::corrupt("no such place on the page"));
        }
        let mut bytes = Vec::new();
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

/// Copies `cell` to `at`, padded with zeros to the smallest size that a cell may have.
#[inline]
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
    const FULL: Error = Error::Internal("cells do not fit on the page");
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

fn write_cell(bytes: &mut [u8], at: usize, cell: &[u8]) -> Result<()> {
    slice_mut(bytes, at, cell.len())?.copy_from_slice(cell);
    if cell.len() < SIZE_MIN {
        slice_mut(bytes, at + cell.len(), SIZE_MIN - cell.len())?.fill(0);
    }
    Ok(())
}
