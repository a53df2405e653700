//! The queue itself: entries in one order, and what they weigh.
//!
//! # Invariants
//!
//! 1. Positions rise along the queue; only a barrier may repeat the one before it.
//! 2. `live` and `bytes` are those of the entries that are not done.
//! 3. The head is not done.
//! 4. There is room for the closing of every handle that is open: closing cannot fail.

use std::collections::VecDeque;

use super::super::pending::Position;
use super::entry::{Entry, Progress};
use crate::error::Result;
use crate::memory;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    last: Position,
    live: usize,
    bytes: u64,
}

impl Queue {
    /// Sees to it that one more entry, and the reserved ones, can be pushed.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(super) fn reserve(&mut self, reserved: usize) -> Result<()> {
        memory::admit()?; // For what an entry holds and what is noted about it.
        memory::reserve(&mut self.entries, reserved.saturating_add(1))
    }

    /// The position that the next entry will have.
    pub(super) fn next_position(&self) -> Position {
        self.last + 1
    }

    /// Appends an entry, which has the next position.
    pub(super) fn push(&mut self, entry: Entry) {
        self.last = entry.position;
        self.live += 1;
        self.bytes += entry.op.payload();
        self.entries.push_back(entry);
    }

    /// Puts a barrier behind everything up to its position.
    pub(super) fn insert_barrier(&mut self, barrier: Entry) {
        let at = self.entries.partition_point(|entry| entry.position <= barrier.position);
        self.live += 1;
        self.entries.insert(at, barrier);
    }

    /// Operations that are not done.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Bytes to be written by them.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The entries from the head on, those that are done included.
    pub(super) fn entries(&self) -> &VecDeque<Entry> {
        &self.entries
    }

    /// The same, to be changed.
    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }

    /// The operation (no barrier) at `position`.
    pub(super) fn at_mut(&mut self, position: Position) -> Option<&mut Entry> {
        let at = self.entries.partition_point(|entry| entry.position < position);
        self.entries.range_mut(at..).find(|entry| entry.position == position && !entry.is_barrier())
    }

    /// The head.
    pub(super) fn head_mut(&mut self) -> Option<&mut Entry> {
        self.entries.front_mut()
    }

    /// An entry of so many bytes is done; [`Queue::trim`] follows.
    pub(super) fn account_done(&mut self, payload: u64) {
        self.live = self.live.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(payload);
    }

    /// An entry that stays was relieved of its bytes.
    pub(super) fn account_relieved(&mut self, payload: u64) {
        self.bytes = self.bytes.saturating_sub(payload);
    }

    /// Removes from the head what is done.
    pub(super) fn trim(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.progress == Progress::Done) {
            self.entries.pop_front();
        }
        if self.entries.is_empty() && self.entries.capacity() > SPARE_MAX {
            self.entries.shrink_to(SPARE_MAX);
        }
    }

    /// Exchanges the entries; for tests that show what a wrong order does.
    pub(super) fn rearrange(&mut self, change: impl FnOnce(Vec<Entry>) -> Vec<Entry>) {
        let entries = change(std::mem::take(&mut self.entries).into());
        self.live = entries.len();
        self.bytes = entries.iter().map(|entry| entry.op.payload()).sum();
        self.last = entries.last().map_or(self.last, |entry| entry.position);
        self.entries = entries.into();
    }
}

/// Room for entries that an empty queue keeps.
const SPARE_MAX: usize = 4096;
