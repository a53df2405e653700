//! What was done is entered in the books, and whoever it concerns is told.

use std::path::Path;
use std::sync::Arc;

use super::super::Vfs;
use super::batch::{Batch, Outcome, Target, Work, watch_of};
use super::coalesce::{Call, Plan};
use super::entry::{Role, Ticket};
use super::failure::Failed;
use super::groups::GroupId;
use super::state::{State, SyncMark};
use crate::error::{Error, Result};

/// Enters the outcome in the books. With `died`, no operation can be trusted any more.
pub(super) fn finish(state: &mut State, batch: Batch, outcome: Outcome, died: bool) {
    let result = outcome.result;
    match &batch.work {
        Work::Barrier { .. } => return finish_barrier(state, batch, outcome, died),
        Work::Write { plan, .. } => finish_write(state, &batch, plan),
        Work::SkippedSync => state.leave(batch.position, |counters| {
            counters.elided += 1;
            counters.syncs_skipped += 1;
        }),
        Work::Foregone => state.leave(batch.position, |counters| counters.elided += 1),
        Work::Open { stillborn, .. } if outcome.foregone => {
            if let Some(file) = batch.file.and_then(|id| state.files.get_mut(&id)) {
                file.unsynced = false;
            }
            for &position in stillborn {
                state.leave(position, |counters| counters.elided += 1);
            }
        }
        Work::Nothing if batch.operation == "NOOP" => {
            state.leave(batch.position, |counters| counters.dropped += 1);
        }
        work => {
            let is_sync = u64::from(matches!(work, Work::Sync { .. }));
            if result.is_ok() {
                finish_effect(state, &batch, &outcome);
            } else if matches!(work, Work::Open { .. }) {
                state.give_up(batch.file);
            }
            if matches!(work, Work::Close { .. }) {
                finish_close(state, &batch);
            }
            state.leave(batch.position, |counters| {
                counters.executed += 1;
                counters.syncs += is_sync;
                counters.errors += u64::from(outcome.lacks_directory);
            });
        }
    }
    state.queue.trim();
    if let Err(error) = result {
        let failed = Failed {
            operation: batch.operation,
            file: batch.path,
            position: batch.position,
            is_commit: batch.is_commit,
        };
        state.fail_group(batch.group, error, failed);
        if died {
            fail_all(state, error);
        }
    }
}

fn finish_write(state: &mut State, batch: &Batch, plan: &Plan) {
    let calls = plan.calls.len() as u64;
    let bytes: u64 = plan.calls.iter().map(Call::length).sum();
    state.count(batch.group, |counters| {
        counters.write_calls += calls;
        counters.bytes_written += bytes;
    });
    for &position in &plan.members {
        let is_merged = u64::from(plan.merged.binary_search(&position).is_ok());
        let is_elided = u64::from(plan.elided.binary_search(&position).is_ok());
        state.leave(position, |counters| {
            counters.merged += is_merged;
            counters.elided += is_elided;
            counters.executed += 1 - is_merged - is_elided;
        });
    }
}

fn finish_effect(state: &mut State, batch: &Batch, outcome: &Outcome) {
    match &batch.work {
        Work::Open { path: Some(path), request, base, .. } => {
            if let Some(file) = batch.file {
                state.set_identity(file, outcome.identity);
            }
            if !request.delete_on_close {
                note_directory(state, path, base);
            }
        }
        Work::Delete { path, sync_directory, base } => {
            state.unsynced_closed.remove(path);
            if *sync_directory {
                state.unsynced_directories.remove(path.parent().unwrap_or(path));
            } else {
                note_directory(state, path, base);
            }
        }
        Work::SyncDirectory { path, .. } => {
            state.unsynced_directories.remove(path.parent().unwrap_or(path));
        }
        Work::OpenDirectory { path, base } => {
            let handle = batch.handle.and_then(|id| state.handles.get_mut(&id));
            if let Some(handle) = handle.filter(|_| !outcome.lacks_directory) {
                handle.directory = Some((path.clone(), Arc::clone(base)));
            }
        }
        Work::Sync { kind, .. } => {
            let Some(id) = batch.file else { return };
            let watch = watch_of(state, id).unwrap_or(0);
            if let Some(file) = state.files.get_mut(&id) {
                file.unsynced = false;
                file.synced = Some(SyncMark { kind: *kind, group: batch.group, watch });
            }
        }
        _ => {}
    }
}

fn note_directory(state: &mut State, path: &Path, base: &Arc<dyn Vfs>) {
    let directory = path.parent().unwrap_or(path).to_owned();
    state.unsynced_directories.insert(directory, (path.to_owned(), Arc::clone(base)));
}

fn finish_close(state: &mut State, batch: &Batch) {
    let Some(handle) = batch.handle.and_then(|id| state.handles.remove(&id)) else { return };
    let Some(file) = state.files.get_mut(&handle.file) else { return };
    file.handles = file.handles.saturating_sub(1);
    if file.handles == 0
        && file.unsynced
        && file.role != Role::Temporary
        && let Some(path) = &file.path
    {
        state.unsynced_closed.insert(path.clone(), (file.role, handle.base));
    }
}

fn finish_barrier(state: &mut State, batch: Batch, outcome: Outcome, died: bool) {
    let Work::Barrier { ticket, scope, targets } = batch.work else { return };
    let mut syncs = 0;
    for target in targets.iter().take(outcome.synced) {
        syncs += 1;
        match target {
            Target::Open { file, .. } => {
                if let Some(file) = state.files.get_mut(file) {
                    file.unsynced = false;
                }
            }
            Target::Closed { path, .. } => {
                state.unsynced_closed.remove(path);
            }
            Target::Directory { directory, .. } => {
                state.unsynced_directories.remove(directory);
            }
        }
    }
    state.count(batch.group, |counters| counters.syncs += syncs);
    if let Err(error) = outcome.result {
        let (group, file) = match targets.into_iter().nth(outcome.synced) {
            Some(Target::Open { group, path, .. }) => (group, path),
            Some(Target::Closed { path, .. } | Target::Directory { path, .. }) => {
                (state.groups.of_path(&path), Some(path))
            }
            None => (batch.group, None),
        };
        let failed = Failed { operation: "SYNC", file, position: batch.position, is_commit: false };
        state.fail_group(group, error, failed);
        if died {
            fail_all(state, error);
        }
    }
    let seen = state.tickets.get(&ticket).map_or(u64::MAX, |waiting| waiting.errors_seen);
    let result = outcome.result.and_then(|()| error_in_scope(state, scope, seen));
    state.leave_barrier(ticket, result);
    state.queue.trim();
}

/// The first error that a flush has to report: one that came since it began, or one that is
/// still latched.
fn error_in_scope(state: &State, scope: Option<GroupId>, seen: u64) -> Result<()> {
    let scope = scope.map(|group| state.groups.find(group));
    let latched = match scope {
        Some(group) => state.groups.latch(group),
        None => state.groups.first_latch(),
    };
    let mut recent = state.history.iter().filter(|report| {
        report.number > seen && scope.is_none_or(|scope| state.groups.find(report.group) == scope)
    });
    match latched.or_else(|| recent.next().map(|report| report.error)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Nothing can be trusted any more: every group fails, and whoever waits is told.
pub(super) fn fail_all(state: &mut State, error: Error) {
    for group in state.groups.ids() {
        state.groups.set_latch(group, error);
        state.drop_queued(group);
    }
    let waiting: Vec<Ticket> = state.tickets.keys().copied().collect();
    for ticket in waiting {
        state.leave_barrier(ticket, Err(error));
    }
    state.queue.trim();
}
