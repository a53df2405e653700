//! What the layer counts.

use std::time::Duration;

/// Counters since the start or the last reset; each is of operations unless its name says else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) pushed: u64,
    pub(super) executed: u64,
    pub(super) merged: u64,
    pub(super) elided: u64,
    pub(super) dropped: u64,
    pub(super) writes: u64,
    pub(super) write_calls: u64,
    pub(super) bytes_written: u64,
    pub(super) syncs: u64,
    pub(super) syncs_skipped: u64,
    pub(super) overlay_reads: u64,
    pub(super) base_reads: u64,
    pub(super) waits: u64,
    pub(super) waited: Duration,
    pub(super) errors: u64,
    pub(super) peak_bytes: u64,
}

impl Counters {
    /// Takes over what another one has counted.
    pub(super) fn add(&mut self, other: &Counters) {
        self.pushed += other.pushed;
        self.executed += other.executed;
        self.merged += other.merged;
        self.elided += other.elided;
        self.dropped += other.dropped;
        self.writes += other.writes;
        self.write_calls += other.write_calls;
        self.bytes_written += other.bytes_written;
        self.syncs += other.syncs;
        self.syncs_skipped += other.syncs_skipped;
        self.overlay_reads += other.overlay_reads;
        self.base_reads += other.base_reads;
        self.waits += other.waits;
        self.waited += other.waited;
        self.errors += other.errors;
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
    }

    /// Starts anew with so much in the queue.
    pub(super) fn reset(&mut self, queued_ops: u64, queued_bytes: u64) {
        *self = Counters { pushed: queued_ops, peak_bytes: queued_bytes, ..Counters::default() };
    }
}

/// The statistics of the queue, or of one ordering group. At every moment
/// `pushed = executed + merged + elided + dropped + queued_ops`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Operations in the queue.
    pub queued_ops: u64,
    /// Bytes to be written in the queue.
    pub queued_bytes: u64,
    /// The most that it was since the last reset.
    pub peak_bytes: u64,
    /// Age of the oldest operation in the queue, in milliseconds.
    pub oldest_age_ms: u64,
    /// Operations pushed.
    pub pushed: u64,
    /// Operations carried out, each by a call of its own.
    pub executed: u64,
    /// Writes that went along with a neighbour's call.
    pub merged: u64,
    /// Operations that turned out needless.
    pub elided: u64,
    /// Operations given up after an error.
    pub dropped: u64,
    /// Writes pushed.
    pub writes: u64,
    /// Write calls at the disk beneath.
    pub write_calls: u64,
    /// Bytes written at the disk beneath.
    pub bytes_written: u64,
    /// Sync calls at the disk beneath.
    pub syncs: u64,
    /// Syncs left out because nothing had changed.
    pub syncs_skipped: u64,
    /// Reads that saw something pending.
    pub overlay_reads: u64,
    /// Read calls at the disk beneath.
    pub base_reads: u64,
    /// Writes that had to wait for room.
    pub waits: u64,
    /// How long they waited, in milliseconds.
    pub wait_ms: u64,
    /// Operations that failed, and directories that a sync could not take along.
    pub errors: u64,
}

impl Statistics {
    /// The counters, with what the queue is like now.
    pub(super) fn new(
        counters: &Counters,
        queued_ops: u64,
        queued_bytes: u64,
        oldest: Duration,
    ) -> Statistics {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Statistics {
            queued_ops,
            queued_bytes,
            peak_bytes: counters.peak_bytes,
            oldest_age_ms: ms(oldest),
            pushed: counters.pushed,
            executed: counters.executed,
            merged: counters.merged,
            elided: counters.elided,
            dropped: counters.dropped,
            writes: counters.writes,
            write_calls: counters.write_calls,
            bytes_written: counters.bytes_written,
            syncs: counters.syncs,
            syncs_skipped: counters.syncs_skipped,
            overlay_reads: counters.overlay_reads,
            base_reads: counters.base_reads,
            waits: counters.waits,
            wait_ms: ms(counters.waited),
            errors: counters.errors,
        }
    }
}
