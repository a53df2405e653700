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
        let max = match self.info.kind {
            NodeKind::TABLE_LEAF => self.format.max_leaf,
            NodeKind::INDEX_LEAF => self.format.max_local,
            _ => 0,
        };
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
    #[inline(always)]
    pub(crate) fn place(&self, index: usize) -> Result<Range<usize>> {
        if let Some(pointer) = self.pointers.get(index) {
            let at = usize::from(u16::from_be_bytes(*pointer));
            let size = match self.node.info.kind {
                NodeKind::TABLE_LEAF => cell::quick_size::<true>(self.page, at, self.max),
                NodeKind::INDEX_LEAF => cell::quick_size::<false>(self.page, at, self.max),
                _ => None,
            };
            if let Some(size) = size
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

    /// The cells around `index` up to the next parked ones, and the index of the first of them,
    /// counted with the parked ones.
    pub(crate) fn body_around(&self, index: usize) -> (Body<'a>, usize) {
        let parked = &self.node.info.parked;
        let before = parked.partition_point(|parked| parked.index <= index);
        let first = before.checked_sub(1).and_then(|last| parked.get(last));
        let first = first.map_or(0, |parked| parked.index + 1);
        let end = parked.get(before).map_or(self.node.total_count(), |parked| parked.index);
        let pointers = first.saturating_sub(before)..end.saturating_sub(before);
        let pointers = self.pointers.get(pointers).unwrap_or_default();
        let (page, content, max, kind) = (self.page, self.content, self.max, self.node.info.kind);
        (Body { page, pointers, content, max, kind }, first)
    }

    /// The bytes that cell `index`, counted with the parked ones, takes on the page.
    ///
    /// # Errors
    /// As [`Cells::place`].
    #[inline(always)]
    pub(crate) fn size(&self, index: usize) -> Result<usize> {
        match self.find(index) {
            Ok(body) => self.place(body).map(|place| place.len()),
            Err(parked) => Ok(parked.len()),
        }
    }

    /// Appends copies of the cells `range`, counted with the parked ones, to `bytes`, and their
    /// places there to `spans`. Cells that lie right ahead of each other, as on pages that were
    /// filled in order, are copied at once.
    ///
    /// # Errors
    /// As [`Cells::place`]; [`Error::NoMemory`].
    pub(crate) fn copy(
        &self,
        range: Range<usize>,
        bytes: &mut Vec<u8>,
        spans: &mut Vec<Span>,
    ) -> Result<()> {
        crate::memory::reserve(spans, range.len())?;
        let mut run = 0..0;
        let mut first = spans.len();
        for index in range {
            let body = match self.find(index) {
                Ok(body) => body,
                Err(parked) => {
                    self.copy_run(&mut run, bytes, spans.get_mut(first..))?;
                    spans.push(Span { start: bytes.len() as u32, size: parked.len() as u32 });
                    crate::memory::reserve(bytes, parked.len())?;
                    bytes.extend_from_slice(parked);
                    first = spans.len();
                    continue;
                }
            };
            let place = self.place(body)?;
            if place.end != run.start {
                self.copy_run(&mut run, bytes, spans.get_mut(first..))?;
                first = spans.len();
                run.end = place.end;
            }
            run.start = place.start;
            spans.push(Span { start: place.start as u32, size: place.len() as u32 });
        }
        self.copy_run(&mut run, bytes, spans.get_mut(first..))
    }

    /// Appends what is at `run` on the page to `bytes`; `spans` are places in there.
    #[inline]
    fn copy_run(
        &self,
        run: &mut Range<usize>,
        bytes: &mut Vec<u8>,
        spans: Option<&mut [Span]>,
    ) -> Result<()> {
        let moved = (bytes.len() as u32).wrapping_sub(run.start as u32);
        for span in spans.unwrap_or_default() {
            span.start = span.start.wrapping_add(moved);
        }
        let cells = self.page.get(std::mem::take(run));
        let cells = cells.ok_or(Error::corrupt("cell reaches beyond the page"))?;
        crate::memory::reserve(bytes, cells.len())?;
        bytes.extend_from_slice(cells);
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

/// Cells that stand beside each other in the body of a node.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Body<'a> {
    page: &'a [u8],
    pointers: &'a [[u8; 2]],
    content: usize,
    max: usize,
    kind: NodeKind,
}

impl Body<'_> {
    /// The bytes that cell `index` of these takes on the page, if it is of the usual sort.
    #[inline(always)]
    pub(crate) fn quick_size(&self, index: usize) -> Option<usize> {
        let at = usize::from(u16::from_be_bytes(*self.pointers.get(index)?));
        let size = match self.kind {
            NodeKind::TABLE_LEAF => cell::quick_size::<true>(self.page, at, self.max),
            NodeKind::INDEX_LEAF => cell::quick_size::<false>(self.page, at, self.max),
            _ => None,
        };
        size.filter(|_| at >= self.content)
    }
}
