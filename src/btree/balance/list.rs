//! The list of cells that balancing spreads: those of the siblings from left to right, with the
//! dividers between them where those are cells of their own.
//!
//! ```text
//!     siblings   a b d, c parked as number 2      (d0)   e f g
//!     parts      a b | c | d | d0 | e f g
//!     numbers    0 1   2   3   4    5 6 7
//! ```
//!
//! Invariant L1: each part begins at the number where the one before ends, the first at 0; the
//! cells of a part are in one place, one behind the other.

use crate::error::{Error, Result};

use super::super::node::{Cells, Node, Run, Span};
use super::distribute::Sizes;

/// Most siblings that are spread over at once.
pub(super) const SIBLINGS_MAX: usize = 3;

/// What the siblings have on their pages.
pub(super) type Bodies<'a> = [Cells<'a>; SIBLINGS_MAX];

/// Neighbouring cells of the list that are in one place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// The number of the first.
    pub(super) start: usize,
    /// The number behind the last.
    pub(super) end: usize,
    /// Which sibling they are on, or behind.
    pub(super) sibling: usize,
    pub(super) place: Place,
}

/// Where the cells of a part are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// On the page, from the cell with this index on.
    Body(usize),
    /// Parked: the cell with this index among the parked ones.
    Parked(usize),
    /// A divider, among the copies.
    Divider(Span),
}

/// Adds a part to the list (L1).
#[inline]
pub(super) fn add_part(
    parts: &mut Vec<Part>,
    sibling: usize,
    cells: usize,
    place: Place,
) -> Result<()> {
    crate::memory::reserve(parts, 1)?;
    let start = parts.last().map_or(0, |part| part.end);
    parts.push(Part { start, end: start + cells, sibling, place });
    Ok(())
}

/// Adds the cells of `node`, the sibling with this index.
///
/// # Errors
/// [`Error::NoMemory`].
#[inline]
pub(super) fn add_cells(parts: &mut Vec<Part>, sibling: usize, node: &Node<'_>) -> Result<()> {
    if node.parked().is_empty() {
        return add_part(parts, sibling, node.cell_count(), Place::Body(0));
    }
    // Cells of the body that are listed.
    let mut listed = 0;
    for (nth, parked) in node.parked().iter().enumerate() {
        let ahead = parked.index.saturating_sub(nth).saturating_sub(listed);
        if ahead > 0 {
            add_part(parts, sibling, ahead, Place::Body(listed))?;
            listed += ahead;
        }
        add_part(parts, sibling, 1, Place::Parked(nth))?;
    }
    match node.cell_count().saturating_sub(listed) {
        0 => Ok(()),
        behind => add_part(parts, sibling, behind, Place::Body(listed)),
    }
}

/// The sizes of the cells in the list, on pages of kind `KIND`.
pub(super) struct CellSizes<'a, const KIND: u8> {
    parts: &'a [Part],
    bodies: &'a Bodies<'a>,
    /// The part that the last cell was in, since the next one is mostly beside it, and the number
    /// of its first cell.
    run: Run<'a>,
    first: usize,
}

impl<'a, const KIND: u8> CellSizes<'a, KIND> {
    pub(super) fn new(parts: &'a [Part], bodies: &'a Bodies<'a>) -> CellSizes<'a, KIND> {
        CellSizes { parts, bodies, run: Run::default(), first: 0 }
    }

    /// The long way of [`Sizes::of`]: cell `number` is in another part, or unusual.
    #[inline(never)]
    fn find(&mut self, number: usize) -> Result<usize> {
        let part = self.parts.iter().find(|part| number < part.end);
        let (part, cells) = part
            .and_then(|part| Some((part, self.bodies.get(part.sibling)?)))
            .ok_or(Error::corrupt("no such cell on the pages"))?;
        match part.place {
            Place::Body(first) => {
                let nth = number.wrapping_sub(part.start);
                self.first = part.start;
                self.run = cells.run(first..first + (part.end - part.start));
                match self.run.quick_size::<KIND>(nth) {
                    Some(size) => Ok(size),
                    None => cells.place(first + nth).map(|place| place.len()),
                }
            }
            Place::Parked(nth) => cells.node().parked_bytes(nth).map(<[u8]>::len),
            Place::Divider(divider) => Ok(divider.size as usize),
        }
    }
}

impl<const KIND: u8> Sizes for CellSizes<'_, KIND> {
    #[inline(always)]
    fn of(&mut self, number: usize) -> Result<usize> {
        match self.run.quick_size::<KIND>(number.wrapping_sub(self.first)) {
            Some(size) => Ok(size),
            None => self.find(number),
        }
    }
}
