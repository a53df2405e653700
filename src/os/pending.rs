//! Changes of one file that are not on disk yet, and reading *through* them.
//!
//! ```text
//!   offset     0        4096      8192      12288
//!   pieces               [ 17 ----)[ 23 ----)           newest queued bytes, by offset
//!   disk       ##########################|              hidden from `floor` on
//!                                        floor          the lowest pending truncation
//! ```
//!
//! An operation is known by its [`Position`] in the queue. Finding the bytes of a range costs
//! the logarithm of what is pending, not its number.
//!
//! # Invariants
//!
//! 1. Pieces are not empty and do not overlap.
//! 2. Each byte of a piece is that of the newest pending write of this byte, and no pending
//!    truncation behind that write cuts it.
//! 3. `truncations` rises from front to back both in position and in size: an older truncation
//!    to a larger or equal size hides nothing that a newer one does not. Its back is the newest.
//! 4. `size` is the length of the file after everything pending, as long as a truncation is.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::memory::Bytes;

/// The place of an operation in the order of the queue.
pub(super) type Position = u64;

/// A part of the bytes of one write.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// Where it lies in the file.
    pub(super) range: Range<u64>,
    /// The write that it is of.
    pub(super) position: Position,
    data: Bytes,
}

impl Piece {
    /// The bytes.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// The part of it inside `range`; empty if they do not meet.
    fn cut(&self, range: &Range<u64>) -> Piece {
        let start = self.range.start.max(range.start);
        let end = self.range.end.min(range.end).max(start);
        let skipped = length(&(self.range.start..start));
        Piece {
            range: start..end,
            position: self.position,
            data: self.data.slice(skipped..skipped.saturating_add(length(&(start..end)))),
        }
    }
}

fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}

/// What is pending on one file.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// By first offset.
    pieces: BTreeMap<u64, Piece>,
    truncations: VecDeque<(Position, u64)>,
    size: u64,
}

impl Overlay {
    /// Adds a write; `position` is above all before.
    pub(super) fn write(&mut self, position: Position, offset: u64, data: &Bytes) {
        let end = offset.saturating_add(data.len() as u64);
        if end == offset {
            return;
        }
        self.clear_range(&(offset..end));
        let piece = Piece { range: offset..end, position, data: data.clone() };
        self.pieces.insert(offset, piece);
        self.size = self.size.max(end);
    }

    /// Adds a truncation; `position` is above all before.
    pub(super) fn truncate(&mut self, position: Position, size: u64) {
        self.clear_range(&(size..u64::MAX));
        while self.truncations.back().is_some_and(|&(_, other)| other >= size) {
            self.truncations.pop_back();
        }
        self.truncations.push_back((position, size));
        self.size = size;
    }

    /// The write at `position`, which had this range, is on disk, or will never be.
    pub(super) fn forget_write(&mut self, position: Position, range: Range<u64>) {
        let mut at = range.start;
        while at < range.end {
            let Some((&start, piece)) = self.pieces.range(at..range.end).next() else { return };
            at = piece.range.end;
            if piece.position == position {
                self.pieces.remove(&start);
            }
        }
    }

    /// Whether any byte of the write at `position`, which had this range, is still the newest.
    pub(super) fn shows(&self, position: Position, range: Range<u64>) -> bool {
        self.pieces.range(range).any(|(_, piece)| piece.position == position)
    }

    /// The bytes of `range`, if they are pending as one piece.
    pub(super) fn piece(&self, range: Range<u64>) -> Option<Bytes> {
        let piece = self.pieces.get(&range.start).filter(|piece| piece.range == range)?;
        Some(piece.data.clone())
    }

    /// The truncation at `position`, and all before it, are done, or never will be.
    pub(super) fn forget_truncation(&mut self, position: Position) {
        while self.truncations.front().is_some_and(|&(other, _)| other <= position) {
            self.truncations.pop_front();
        }
    }

    /// Whether nothing is pending that a reader would notice.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.truncations.is_empty()
    }

    /// Length of the file after everything pending, if that does not depend on the disk.
    pub(super) fn exact_size(&self) -> Option<u64> {
        (!self.truncations.is_empty()).then_some(self.size)
    }

    /// End of the last pending byte; 0 if there is none.
    pub(super) fn end(&self) -> u64 {
        self.pieces.last_key_value().map_or(0, |(_, piece)| piece.range.end)
    }

    /// What a reader of `range` needs, now.
    pub(super) fn snapshot(&self, range: Range<u64>) -> Snapshot {
        let before = self.pieces.range(..range.start).next_back();
        let inside = self.pieces.range(range.clone());
        let pieces = before.into_iter().chain(inside);
        Snapshot {
            pieces: pieces
                .map(|(_, piece)| piece.cut(&range))
                .filter(|piece| !piece.range.is_empty())
                .collect(),
            floor: self.truncations.front().map_or(u64::MAX, |&(_, size)| size),
            exact_size: self.exact_size(),
            end: self.end(),
            range,
        }
    }

    /// All pieces, by offset.
    pub(super) fn into_pieces(self) -> impl Iterator<Item = Piece> {
        self.pieces.into_values()
    }

    /// Cuts `range` out of all pieces.
    fn clear_range(&mut self, range: &Range<u64>) {
        if let Some((&start, piece)) = self.pieces.range(..range.start).next_back()
            && piece.range.end > range.start
        {
            let (left, right) = (piece.cut(&(0..range.start)), piece.cut(&(range.end..u64::MAX)));
            self.pieces.insert(start, left);
            if !right.range.is_empty() {
                self.pieces.insert(right.range.start, right);
            }
        }
        while let Some((&start, piece)) = self.pieces.range(range.clone()).next() {
            let right = piece.cut(&(range.end..u64::MAX));
            self.pieces.remove(&start);
            if !right.range.is_empty() {
                self.pieces.insert(right.range.start, right);
            }
        }
    }
}

/// What was pending in a range of a file at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    range: Range<u64>,
    pieces: Vec<Piece>,
    /// Bytes of the disk from here on do not exist any more.
    floor: u64,
    exact_size: Option<u64>,
    /// End of the last pending byte of the file.
    end: u64,
}

impl Snapshot {
    /// The parts of the range that only the disk knows.
    pub(super) fn gaps(&self) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = self.range.start;
        let ends = self.pieces.iter().map(|piece| piece.range.clone());
        for next in ends.chain(std::iter::once(self.range.end..self.range.end)) {
            let gap = at..next.start.min(self.floor);
            if gap.start < gap.end {
                gaps.push(gap);
            }
            at = next.end;
        }
        gaps
    }

    /// Whether anything pending lies in the range.
    pub(super) fn covers_any(&self) -> bool {
        !self.pieces.is_empty() || self.floor < self.range.end
    }

    /// Lays the pending bytes over `buffer`, which is the range with what the disk had in the
    /// gaps and zeros elsewhere. `disk_end` is where the file ends as far as these gaps tell.
    /// Returns how many bytes from the start of the range are inside the file.
    pub(super) fn assemble(&self, buffer: &mut [u8], disk_end: u64) -> usize {
        for piece in &self.pieces {
            let start = length(&(self.range.start..piece.range.start));
            let end = start.saturating_add(length(&piece.range));
            if let Some(target) = buffer.get_mut(start..end) {
                piece.bytes().copy_to(target);
            }
        }
        let size = self.exact_size.unwrap_or(disk_end.max(self.end));
        length(&(self.range.start..size)).min(buffer.len())
    }
}

#[cfg(test)]
mod tests;
