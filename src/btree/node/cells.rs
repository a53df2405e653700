//! The cells of a node as bytes: sized up, and copied.

use std::ops::Range;

use super::edit::child_of_cell;
use super::{Node, NodeKind, Span, cell};
use crate::error::{Error, Result};

const BEYOND: Error = Error::corrupt("cell reaches beyond the page");
const MISSING: Error = Error::corrupt("no such cell on the page");

impl<'a> Node<'a> {
    /// The cells, to be sized up one by one.
    #[inline]
    pub(crate) fn cells(&self) -> Cells<'a> {
        let pointers = usize::from(self.info.pointers)..self.info.pointers_end();
        let (pointers, _) = self.bytes.get(pointers).unwrap_or_default().as_chunks();
        let page = self.bytes.get(..self.format.usable).unwrap_or_default();
        let (content, max) = (self.info.content as usize, self.quick_max());
        Cells { node: *self, body: Run { page, pointers, content, max } }
    }
}

/// The cells of a node as bytes, but for those that are parked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cells<'a> {
    node: Node<'a>,
    body: Run<'a>,
}

/// Neighbouring cells on the body of a page.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Run<'a> {
    /// The usable part of the page.
    page: &'a [u8],
    pointers: &'a [[u8; 2]],
    /// Where the content of the page begins.
    content: usize,
    /// Up to this many bytes of payload a cell of the page's kind is of the usual sort.
    max: usize,
}

impl Run<'_> {
    /// Where cell `index` of the run is, which is on a page of kind `KIND`. `None` if there is no
    /// such cell, or it takes a closer look.
    #[inline(always)]
    fn quick_place<const KIND: u8>(&self, index: usize) -> Option<Range<usize>> {
        self.quick_place_at::<KIND>(*self.pointers.get(index)?)
    }

    /// The same for the cell to which this pointer leads.
    #[inline(always)]
    fn quick_place_at<const KIND: u8>(&self, pointer: [u8; 2]) -> Option<Range<usize>> {
        let at = usize::from(u16::from_be_bytes(pointer));
        let size = cell::quick_size::<KIND>(self.page, at, self.max)?;
        (at >= self.content).then_some(at..at.wrapping_add(size))
    }

    /// The bytes that it takes.
    #[inline(always)]
    pub(crate) fn quick_size<const KIND: u8>(&self, index: usize) -> Option<usize> {
        self.quick_place::<KIND>(index).map(|place| place.len())
    }
}

impl<'a> Cells<'a> {
    /// What they are the cells of.
    #[inline]
    pub(crate) fn node(&self) -> &Node<'a> {
        &self.node
    }

    /// The cells `range`; none if there are fewer.
    #[inline]
    pub(crate) fn run(&self, range: Range<usize>) -> Run<'a> {
        Run { pointers: self.body.pointers.get(range).unwrap_or_default(), ..self.body }
    }

    /// Where cell `index` is on the page.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it does not lie within the content area.
    #[inline]
    pub(crate) fn place(&self, index: usize) -> Result<Range<usize>> {
        let body = &self.body;
        let quick = match self.node.info.kind {
            NodeKind::TABLE_LEAF => body.quick_place::<{ NodeKind::TABLE_LEAF.byte() }>(index),
            NodeKind::INDEX_LEAF => body.quick_place::<{ NodeKind::INDEX_LEAF.byte() }>(index),
            NodeKind::TABLE_INTERIOR => {
                body.quick_place::<{ NodeKind::TABLE_INTERIOR.byte() }>(index)
            }
            NodeKind::INDEX_INTERIOR => {
                body.quick_place::<{ NodeKind::INDEX_INTERIOR.byte() }>(index)
            }
            _ => None,
        };
        match quick {
            Some(place) => Ok(place),
            None => self.place_slowly(index),
        }
    }

    #[inline(never)]
    fn place_slowly(&self, index: usize) -> Result<Range<usize>> {
        let at = self.node.cell_position(index)?;
        Ok(at..at + self.node.size_slowly(at, self.node.info.layout)?)
    }

    /// Copies the cells `range`.
    ///
    /// # Errors
    /// As [`Cells::place`]; [`Error::NoMemory`].
    pub(crate) fn copy(&self, range: Range<usize>, copies: &mut Copies) -> Result<()> {
        // Each loop is compiled for the fields that its cells have.
        const OTHER: u8 = NodeKind::INTEGER_LEAF.byte();
        let copy = match self.node.info.kind {
            NodeKind::TABLE_LEAF => Self::copy_on::<{ NodeKind::TABLE_LEAF.byte() }>,
            NodeKind::INDEX_LEAF => Self::copy_on::<{ NodeKind::INDEX_LEAF.byte() }>,
            NodeKind::TABLE_INTERIOR => Self::copy_on::<{ NodeKind::TABLE_INTERIOR.byte() }>,
            NodeKind::INDEX_INTERIOR => Self::copy_on::<{ NodeKind::INDEX_INTERIOR.byte() }>,
            _ => Self::copy_on::<OTHER>,
        };
        copy(self, range, copies)
    }

    /// The same on a page of kind `KIND`.
    #[inline]
    fn copy_on<const KIND: u8>(&self, range: Range<usize>, copies: &mut Copies) -> Result<()> {
        let pointers = self.body.pointers.get(range.clone()).ok_or(MISSING)?;
        crate::memory::reserve(&mut copies.cells, pointers.len())?;
        crate::memory::reserve(&mut copies.places, pointers.len())?;
        let copied = copies.cells.len();
        for (nth, pointer) in pointers.iter().enumerate() {
            let place = match self.body.quick_place_at::<KIND>(*pointer) {
                Some(place) => place,
                None => self.place_slowly(range.start + nth)?,
            };
            let (start, size) = (copies.bytes.len() as u32, place.len() as u32);
            copies.places.push(Span { start: place.start as u32, size });
            copies.cells.push(Span { start, size });
            let cell = self.body.page.get(place).ok_or(BEYOND)?;
            crate::memory::reserve(&mut copies.bytes, cell.len())?;
            copies.bytes.extend_from_slice(cell);
        }
        copies.add_heads(&self.node, range, copied)
    }
}

/// Copies of cells, one behind the other in key order.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// What they are parts of; other things may be in between.
    pub(crate) bytes: Vec<u8>,
    /// Each of them.
    pub(crate) cells: Vec<Span>,
    /// Where those stand on their pages that are not parked, those of one page together.
    pub(crate) places: Vec<Span>,
    /// Their heads; none if they are not wanted, or one is broken.
    heads: Vec<u64>,
    wants_heads: bool,
}

impl Copies {
    /// Forgets all cells. Heads will be kept beside those that are copied from now on if they are
    /// `wanted`.
    pub(crate) fn clear(&mut self, wanted: bool) {
        self.cells.clear();
        self.places.clear();
        self.heads.clear();
        self.wants_heads = wanted;
    }

    /// Appends a cell to the bytes: its child, if it has one, and what follows, padded with zeros
    /// to `size_min`.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    #[inline]
    pub(crate) fn append(
        &mut self,
        child: Option<u32>,
        rest: &[u8],
        size_min: usize,
    ) -> Result<Span> {
        super::append(&mut self.bytes, child, rest, size_min)
    }

    /// Adds a cell that is in the bytes already, as it stands on `node` or another of its kind.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn push(&mut self, node: &Node<'_>, cell: Span) -> Result<()> {
        let index = self.cells.len();
        crate::memory::reserve(&mut self.cells, 1)?;
        self.cells.push(cell);
        self.add_heads(node, 0..0, index)
    }

    /// Adds the heads of the cells from number `first` on: those of the cells `body` of `node`, if
    /// it has them; else they are made.
    #[inline]
    fn add_heads(&mut self, node: &Node<'_>, body: Range<usize>, first: usize) -> Result<()> {
        if !self.wants_heads {
            return Ok(());
        }
        let new = self.cells.get(first..).unwrap_or_default();
        crate::memory::reserve(&mut self.heads, new.len())?;
        match node.heads().get(body) {
            Some(&[head]) if new.len() == 1 => self.heads.push(head),
            Some(heads) if heads.len() == new.len() => self.heads.extend_from_slice(heads),
            _ => self.make_heads(node, first),
        }
        Ok(())
    }

    /// Makes the heads of the cells from number `first` on.
    #[inline(never)]
    fn make_heads(&mut self, node: &Node<'_>, first: usize) {
        for cell in self.cells.get(first..).unwrap_or_default() {
            let cell = self.bytes.get(cell.range()).unwrap_or_default();
            let Some(head) = node.head_of_cell(cell) else { return self.clear_heads() };
            self.heads.push(head);
        }
    }

    /// There are no heads: one is broken.
    fn clear_heads(&mut self) {
        self.heads.clear();
        self.wants_heads = false;
    }

    /// The children of the cells `range`; of no meaning for those of a leaf.
    pub(crate) fn children(&self, range: Range<usize>) -> impl Iterator<Item = u32> {
        let cells = self.cells.get(range).unwrap_or_default();
        cells.iter().map(|cell| child_of_cell(self.bytes.get(cell.range()).unwrap_or_default()))
    }

    /// The heads of the cells `range`, if they are kept.
    #[inline]
    pub(crate) fn heads(&self, range: Range<usize>) -> Option<&[u64]> {
        if self.wants_heads { self.heads.get(range) } else { None }
    }
}
