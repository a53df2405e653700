//! The queue itself: entries in one order, and what they weigh.
//!
//! # Invariants
//!
//! 1. Positions rise along the queue; only a barrier may repeat the one before it.
//! 2. `live`, `barriers` and `bytes` are those of the entries that are not done.
//! 3. The head is not done.
//! 4. What is kept back was at the head once: it rises too, and is empty unless a thread writes.
//! 5. There is room for the closing of every handle that is open: closing cannot fail.

use std::collections::VecDeque;

use super::super::pending::Position;
use super::entry::{Entry, FileId, Progress};
use crate::error::Result;
use crate::memory;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    /// Passed over at the head, to be done later or never.
    kept: VecDeque<Entry>,
    kept_bytes: u64,
    last: Position,
    live: usize,
    barriers: usize,
    bytes: u64,
}

impl Queue {
    /// Sees to it that one more entry, the reserved ones and those kept back can be pushed.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(super) fn reserve(&mut self, reserved: usize) -> Result<()> {
        memory::admit()?; // For what an entry holds and what is noted about it.
        let wanted = reserved.saturating_add(self.kept.len()).saturating_add(1);
        memory::reserve(&mut self.entries, wanted)
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
        self.barriers += 1;
        self.entries.insert(at, barrier);
    }

    /// Operations that are kept back, and their bytes.
    pub(super) fn kept(&self) -> (usize, u64) {
        (self.kept.len(), self.kept_bytes)
    }

    /// Keeps the head back. Without memory it stays, and is done like any other.
    pub(super) fn keep_head(&mut self) -> bool {
        if self.kept.try_reserve(1).is_err() {
            return false;
        }
        let Some(head) = self.entries.pop_front() else { return false };
        self.kept_bytes += head.op.payload();
        self.kept.push_back(head);
        self.trim();
        true
    }

    /// What was kept back, of one file or all, takes its place in the queue again.
    pub(super) fn release(&mut self, file: Option<FileId>) {
        let kept = std::mem::take(&mut self.kept);
        self.kept_bytes = 0;
        // The last one first: most find their place at the very front.
        for entry in kept.into_iter().rev() {
            if file.is_some() && entry.file != file {
                self.kept_bytes += entry.op.payload();
                self.kept.push_front(entry);
                continue;
            }
            let at = self.entries.partition_point(|other| other.position < entry.position);
            self.entries.insert(at, entry);
        }
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

    /// All entries, those that are kept back first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.kept.iter().chain(&self.entries)
    }

    /// The same, to be changed.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.kept.iter_mut().chain(&mut self.entries)
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

    /// A barrier is done; [`Queue::trim`] follows.
    pub(super) fn account_barrier_done(&mut self) {
        self.live = self.live.saturating_sub(1);
        self.barriers = self.barriers.saturating_sub(1);
    }

    /// Whether somebody waits for a flush.
    pub(super) fn has_barrier(&self) -> bool {
        self.barriers > 0
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
        let is_empty = self.entries.is_empty() && self.kept.is_empty();
        if is_empty && self.entries.capacity() > SPARE_MAX {
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
