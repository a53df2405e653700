//! The cells of a node as bytes: sized up, and copied.

use std::ops::Range;

use super::{Node, NodeKind, Span, cell};
use crate::error::{Error, Result};

impl<'a> Node<'a> {
    /// The cells, to be sized up one by one.
    #[inline]
    pub(crate) fn cells(&self) -> Cells<'a> {
        let pointers = usize::from(self.info.pointers)..self.info.pointers_end();
        let (pointers, _) = self.bytes.get(pointers).unwrap_or_default().as_chunks();
        let page = self.bytes.get(..self.format.usable).unwrap_or_default();
        let max = self.quick_max();
        Cells { node: *self, page, pointers, content: self.info.content as usize, max }
    }
}

/// The cells of a node as bytes, those that are parked among them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cells<'a> {
    node: Node<'a>,
    /// The usable part of the page.
    page: &'a [u8],
    pointers: &'a [[u8; 2]],
    content: usize,
    /// Up to this many bytes of payload a cell of the kind is of the usual sort; 0 if none is.
    max: usize,
}

impl<'a> Cells<'a> {
    /// Where cell `index` of the body is on the page.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it does not lie within the content area.
    #[inline]
    pub(crate) fn place(&self, index: usize) -> Result<Range<usize>> {
        match self.node.info.kind {
            NodeKind::TABLE_LEAF => self.place_on::<{ NodeKind::TABLE_LEAF.byte() }>(index),
            NodeKind::INDEX_LEAF => self.place_on::<{ NodeKind::INDEX_LEAF.byte() }>(index),
            NodeKind::TABLE_INTERIOR => self.place_on::<{ NodeKind::TABLE_INTERIOR.byte() }>(index),
            NodeKind::INDEX_INTERIOR => self.place_on::<{ NodeKind::INDEX_INTERIOR.byte() }>(index),
            _ => self.place_slowly(index),
        }
    }

    /// The same on a page of kind `KIND`.
    #[inline(always)]
    fn place_on<const KIND: u8>(&self, index: usize) -> Result<Range<usize>> {
        if let Some(pointer) = self.pointers.get(index) {
            let at = usize::from(u16::from_be_bytes(*pointer));
            if let Some(size) = cell::quick_size::<KIND>(self.page, at, self.max)
                && at >= self.content
            {
                return Ok(at..at.wrapping_add(size));
            }
        }
        self.place_slowly(index)
    }

    #[inline(never)]
    fn place_slowly(&self, index: usize) -> Result<Range<usize>> {
        let at = self.node.cell_position(index)?;
        Ok(at..at + self.node.size_slowly(at, self.node.info.layout)?)
    }

    /// The index in the body of cell `index` counted with the parked ones, or the parked cell.
    #[inline(always)]
    fn find(&self, index: usize) -> std::result::Result<usize, &'a [u8]> {
        let mut body = index;
        for parked in &self.node.info.parked {
            if parked.index == index {
                return Err(&parked.bytes);
            }
            body -= usize::from(parked.index < index);
        }
        Ok(body)
    }

    /// The bytes that cell `index`, counted with the parked ones, takes on the page.
    ///
    /// # Errors
    /// As [`Cells::place`].
    #[inline]
    pub(crate) fn size(&self, index: usize) -> Result<usize> {
        match self.find(index) {
            Ok(body) => self.place(body).map(|place| place.len()),
            Err(parked) => Ok(parked.len()),
        }
    }

    /// The same on a page of kind `KIND`.
    #[inline(always)]
    pub(crate) fn size_on<const KIND: u8>(&self, index: usize) -> Result<usize> {
        match self.find(index) {
            Ok(body) => self.place_on::<KIND>(body).map(|place| place.len()),
            Err(parked) => Ok(parked.len()),
        }
    }

    /// Appends copies of the cells `range`, counted with the parked ones, to `bytes`, and their
    /// places there to `copies`. The places on the page of those that are not parked are appended
    /// to `places`.
    ///
    /// # Errors
    /// As [`Cells::place`]; [`Error::NoMemory`].
    pub(crate) fn copy(
        &self,
        range: Range<usize>,
        bytes: &mut Vec<u8>,
        copies: &mut Vec<Span>,
        places: &mut Vec<Span>,
    ) -> Result<()> {
        // Each loop is compiled for the fields that its cells have.
        const OTHER: u8 = NodeKind::INTEGER_LEAF.byte();
        let copy = match self.node.info.kind {
            NodeKind::TABLE_LEAF => Self::copy_on::<{ NodeKind::TABLE_LEAF.byte() }>,
            NodeKind::INDEX_LEAF => Self::copy_on::<{ NodeKind::INDEX_LEAF.byte() }>,
            NodeKind::TABLE_INTERIOR => Self::copy_on::<{ NodeKind::TABLE_INTERIOR.byte() }>,
            NodeKind::INDEX_INTERIOR => Self::copy_on::<{ NodeKind::INDEX_INTERIOR.byte() }>,
            _ => Self::copy_on::<OTHER>,
        };
        copy(self, range, bytes, copies, places)
    }

    /// The same on a page of kind `KIND`.
    #[inline]
    fn copy_on<const KIND: u8>(
        &self,
        range: Range<usize>,
        bytes: &mut Vec<u8>,
        copies: &mut Vec<Span>,
        places: &mut Vec<Span>,
    ) -> Result<()> {
        crate::memory::reserve(copies, range.len())?;
        crate::memory::reserve(places, range.len())?;
        for index in range {
            let cell = match self.find(index) {
                Ok(body) => {
                    let place = self.place_on::<KIND>(body)?;
                    places.push(Span { start: place.start as u32, size: place.len() as u32 });
                    self.page.get(place).ok_or(Error::corrupt("cell reaches beyond the page"))?
                }
                Err(parked) => parked,
            };
            copies.push(Span { start: bytes.len() as u32, size: cell.len() as u32 });
            crate::memory::reserve(bytes, cell.len())?;
            bytes.extend_from_slice(cell);
        }
        Ok(())
    }

    /// Cell `index`, counted with the parked ones: as many bytes as it takes on the page.
    ///
    /// # Errors
    /// As [`Cells::place`].
    #[inline(always)]
    pub(crate) fn bytes(&self, index: usize) -> Result<&'a [u8]> {
        match self.find(index) {
            Ok(body) => {
                let place = self.place(body)?;
                self.page.get(place).ok_or(Error::corrupt("cell reaches beyond the page"))
            }
            Err(parked) => Ok(parked),
        }
    }
}
