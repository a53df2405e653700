//! Which neighbours in the queue may be issued as one; pure.
//!
//! A *run* is a row of writes to one file with no other operation of the same group between
//! them, nor a flush barrier. Its writes are issued where the first of them stood; operations of
//! other groups that lay between come after, and nothing else moves.
//!
//! | file | inside a run |
//! | --- | --- |
//! | database | The journal undoes any subset of it: bytes that a later write of the run covers are left out, and the rest is sorted by offset. |
//! | temporary | The same; nobody sees it after a crash. |
//! | log | Only writes that continue one another join, in their order: cut anywhere, a prefix is left, as without joining. |

use std::collections::VecDeque;

use super::super::pending::{Overlay, Piece, Position};
use super::entry::{Entry, Op, Progress};
use super::groups::GroupId;

/// Bytes of one run, at most (but for a single larger write).
const RUN_BYTES_MAX: u64 = 1 << 20;

/// Writes of one run, at most.
const RUN_WRITES_MAX: usize = 1024;

/// Entries that are looked at for one run, those of other groups included.
const SCAN_MAX: usize = 8192;

/// What a run consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// Writes that continue one another (L1).
    Contiguous,
    /// Any writes (L2, L3).
    Sorted,
}

impl Run {
    /// The widest kind that is allowed.
    pub(super) fn of(sorts: bool, joins: bool) -> Option<Run> {
        let contiguous = joins.then_some(Run::Contiguous);
        if sorts { Some(Run::Sorted) } else { contiguous }
    }
}

/// The indexes of the run that begins at the head, which is a write.
pub(super) fn run(
    entries: &VecDeque<Entry>,
    kind: Run,
    group_of: impl Fn(GroupId) -> GroupId,
) -> Vec<usize> {
    let mut members = Vec::new();
    let Some(head) = entries.front() else { return members };
    let group = group_of(head.group);
    let mut bytes = 0;
    let mut end = head.op.offset();
    for (index, entry) in entries.iter().enumerate().take(SCAN_MAX) {
        if entry.progress == Progress::Done {
            continue;
        }
        if entry.is_barrier() {
            break;
        }
        if group_of(entry.group) != group {
            continue;
        }
        let Some(range) = entry.op.range().filter(|_| entry.file == head.file) else { break };
        if kind == Run::Contiguous && range.start != end {
            break;
        }
        bytes += entry.op.payload();
        let is_full = members.len() >= RUN_WRITES_MAX || bytes > RUN_BYTES_MAX;
        if is_full && !members.is_empty() {
            break;
        }
        end = range.end;
        members.push(index);
    }
    members
}

/// Writes of a run that become one call.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// Where it begins.
    pub(super) offset: u64,
    /// Its bytes, one piece behind the other.
    pub(super) pieces: Vec<Piece>,
}

impl Call {
    /// Bytes of all pieces.
    pub(super) fn length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes().len() as u64).sum()
    }
}

/// What becomes of the members of a run.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) calls: Vec<Call>,
    /// All members, rising.
    pub(super) members: Vec<Position>,
    /// Those whose bytes go along with another's call, rising.
    pub(super) merged: Vec<Position>,
    /// Those of which nothing is left, rising.
    pub(super) elided: Vec<Position>,
}

/// Plans the calls of a run without those at `covered`, rising. A log's run is contiguous, so
/// sorting leaves it as it is.
pub(super) fn plan<'a>(writes: impl Iterator<Item = &'a Entry>, covered: &[Position]) -> Plan {
    let mut overlay = Overlay::default();
    let mut plan = Plan::default();
    for entry in writes {
        plan.members.push(entry.position);
        if covered.binary_search(&entry.position).is_ok() {
            continue;
        }
        if let Op::Write { offset, data } = &entry.op {
            overlay.write(entry.position, *offset, data);
        }
    }
    let mut leaders = Vec::new();
    let mut present = Vec::new();
    let mut end = None;
    for piece in overlay.into_pieces() {
        present.push(piece.position);
        let range = piece.range.clone();
        match plan.calls.last_mut() {
            Some(call) if end == Some(range.start) => call.pieces.push(piece),
            _ => {
                leaders.push(piece.position);
                plan.calls.push(Call { offset: range.start, pieces: vec![piece] });
            }
        }
        end = Some(range.end);
    }
    present.sort_unstable();
    leaders.sort_unstable();
    for &position in &plan.members {
        if present.binary_search(&position).is_err() {
            plan.elided.push(position);
        } else if leaders.binary_search(&position).is_err() {
            plan.merged.push(position);
        }
    }
    plan
}
