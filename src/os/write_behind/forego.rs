//! What need not be done at all: rules that look further ahead than one run; pure.
//!
//! ```text
//!   covered     D(7) · J J · sync J · D(7)            the first D(7) is left out
//!   stillborn   open J · J J · close J · delete J     no D in between: all is left out
//!   invisible   open T · T T · close T                all but the closing is left out
//!   kept        open T · T T                          passed over until closed, or in the way
//! ```
//!
//! The older content of a covered page is still undone by the journal, because nothing between the
//! two writes makes the transaction final, syncs the database or lets others see it. A stillborn
//! journal protects nothing. A temporary file is invisible after any crash, and without a handle
//! before.

use std::collections::{HashMap, VecDeque};

use super::super::OpenKind;
use super::super::pending::Position;
use super::entry::{Entry, FileId, Op, Role};
use super::rules::Rule;
use super::settings::{Halt, LimitPolicy};
use super::state::State;

/// Entries that are looked at, those of other groups included.
const SCAN_MAX: usize = 8192;

/// Bytes of temporary files that are kept back, at most.
const KEPT_MAX: u64 = 4 << 20;

/// The first byte of a journal that is valid; see [`may_commit`].
const VALID_JOURNAL: u8 = 0xd9;

/// Bytes of a journal's first header that can make the journal invalid.
const HEADER_SIZE: u64 = 28;

/// Of `members`, the indexes of a run on a database, the positions of those that a later write of
/// the same transaction covers.
pub(super) fn covered(state: &State, members: &[usize]) -> Vec<Position> {
    let entries = state.queue.entries();
    let members: Vec<&Entry> = members.iter().filter_map(|&index| entries.get(index)).collect();
    let Some((head, last)) = members.first().zip(members.last()) else { return Vec::new() };
    let Some(file) = head.file.and_then(|id| state.files.get(&id)) else { return Vec::new() };
    let is_newest = |entry: &&Entry| {
        let range = entry.op.range();
        range.is_some_and(|range| file.overlay.shows(entry.position, range))
    };
    if file.role != Role::Database || members.iter().all(is_newest) {
        return Vec::new();
    }
    let later = later_writes(state, entries, head, last.position);
    let is_covered = |entry: &&&Entry| {
        let range = entry.op.range();
        range.is_some_and(|range| later.get(&range.start).is_some_and(|&end| end >= range.end))
    };
    members.iter().filter(is_covered).map(|entry| entry.position).collect()
}

/// Ends, by offset, of the writes to the file of `head` behind `after`, as far as the transaction
/// certainly goes and nobody was promised what it had written.
fn later_writes(
    state: &State,
    entries: &VecDeque<Entry>,
    head: &Entry,
    after: Position,
) -> HashMap<u64, u64> {
    let group = state.groups.find(head.group);
    let mut later = HashMap::new();
    // A barrier may share the position of what it stands behind.
    let is_before = |entry: &Entry| entry.position < after;
    let start = entries.partition_point(|entry| {
        is_before(entry) || entry.position == after && !entry.is_barrier()
    });
    for entry in entries.range(start..).take(SCAN_MAX).filter(|entry| !entry.is_done()) {
        if entry.is_barrier() {
            break;
        }
        if state.groups.find(entry.group) != group {
            continue;
        }
        match (&entry.op, role_of(state, entry)) {
            (Op::Write { .. }, Role::Database) if entry.file == head.file => {
                let Some(range) = entry.op.range() else { continue };
                let end = later.entry(range.start).or_insert(range.end);
                *end = range.end.max(*end);
            }
            (Op::Write { .. }, Role::Log) if may_commit(&entry.op) => break,
            (Op::Write { .. } | Op::Noop | Op::SetFullSync(_) | Op::OpenDirectory { .. }, _)
            | (Op::Sync(_), Role::Log) => {}
            _ => break,
        }
    }
    later
}

/// Whether a write to a log may be the commit point of a journal that is kept: it reaches the
/// first header, and not to make it valid.
fn may_commit(op: &Op) -> bool {
    match op {
        Op::Write { offset, data } => *offset < HEADER_SIZE && data.first() != Some(VALID_JOURNAL),
        _ => false,
    }
}

fn role_of(state: &State, entry: &Entry) -> Role {
    entry.file.and_then(|id| state.files.get(&id)).map_or(Role::Log, |file| file.role)
}

/// If the head opens a journal that is closed and deleted again before any database of its group
/// is changed: everything of it but the closing.
pub(super) fn stillborn(state: &State) -> Vec<Position> {
    let entries = state.queue.entries();
    let Some(head) = entries.front() else { return Vec::new() };
    let Op::OpenExclusive { path: Some(path), request, .. } = &head.op else { return Vec::new() };
    // Who still has it open, through another handle, reads what was written to it.
    let file = head.file.and_then(|id| state.files.get(&id));
    let is_open = file.is_none_or(|file| file.open_handles > 0);
    if request.kind != OpenKind::Journal || request.delete_on_close || is_open {
        return Vec::new();
    }
    let group = state.groups.find(head.group);
    let mut members = vec![head.position];
    let mut is_closed = false;
    for entry in entries.iter().take(SCAN_MAX).skip(1).filter(|entry| !entry.is_done()) {
        if entry.is_barrier() {
            break;
        }
        match &entry.op {
            _ if state.groups.find(entry.group) != group => {}
            Op::Delete { path: deleted, .. } if is_closed && deleted == path => {
                members.push(entry.position);
                return members;
            }
            Op::Close if entry.file == head.file && !is_closed => {
                is_closed = true;
                if entry.handle != head.handle {
                    break;
                }
            }
            op if entry.file == head.file => match op {
                Op::Close | Op::Unlock(_) => break,
                _ if is_closed => break,
                _ => members.push(entry.position),
            },
            Op::Unlock(_) | Op::SetFullSync(_) | Op::OpenDirectory { .. } | Op::Noop => {}
            Op::Sync(_) => {}
            Op::Write { .. } | Op::Truncate { .. } if role_of(state, entry) != Role::Database => {}
            _ => break,
        }
    }
    Vec::new()
}

/// Whether `op`, of a file that goes with its last handle, can be noticed by nobody.
pub(super) fn is_invisible(state: &State, file: Option<FileId>, op: &Op) -> bool {
    let file = file.and_then(|id| state.files.get(&id));
    file.is_some_and(|file| file.vanishes && file.open_handles == 0)
        && !matches!(op, Op::Close | Op::Unlock(_) | Op::Delete { .. } | Op::Barrier { .. })
}

impl State {
    /// Passes over temporary files at the head: the longer they wait, the likelier they are closed
    /// before anything of them is done. They take their turn as soon as their room is wanted, or
    /// somebody waits for the whole queue.
    pub(super) fn keep_back(&mut self) {
        if !self.may_keep_back() {
            if self.queue.kept().0 > 0 {
                self.queue.release(None);
                self.keep_after = self.queue.next_position() - 1;
            }
            return;
        }
        while let Some(head) = self.queue.entries().front() {
            let file = head.file.and_then(|id| self.files.get(&id));
            let Some(file) = file.filter(|file| file.vanishes && file.path.is_none()) else {
                return;
            };
            if matches!(head.op, Op::Close) {
                // Nobody can read it any more: now all of it can go.
                let file = head.file;
                return self.queue.release(file);
            }
            let fits = self.queue.kept().1.saturating_add(head.op.payload()) <= KEPT_MAX;
            let is_kept = file.open_handles > 0
                && head.position > self.keep_after
                && !matches!(head.op, Op::Noop | Op::Unlock(_) | Op::Barrier { .. });
            if !is_kept || !fits {
                if is_kept {
                    self.queue.release(None);
                    self.keep_after = self.queue.next_position() - 1;
                }
                return;
            }
            if !self.queue.keep_head() {
                return;
            }
        }
    }

    fn may_keep_back(&self) -> bool {
        let settings = &self.settings;
        settings.rules().allow(Rule::Invisible)
            && settings.delay_ms == 0
            && (settings.limit == 0 || settings.policy != LimitPolicy::Refuse)
            && self.halt == Halt::Never
            && self.hurry == 0
            && !self.exiting
            && !self.queue.has_barrier()
    }
}
