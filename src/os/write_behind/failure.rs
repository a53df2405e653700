//! An operation failed in the writer: its group is latched, what it has queued is given up.

use std::path::PathBuf;

use super::super::pending::Position;
use super::entry::{FileId, Op, Progress};
use super::groups::GroupId;
use super::state::State;
use crate::error::Error;

/// Reports of errors that are kept.
const HISTORY_MAX: usize = 256;

/// An error in the writer, for those who ask afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReport {
    /// What went wrong.
    pub error: Error,
    /// The name of the operation.
    pub operation: &'static str,
    /// The file that it was about, if it has a name.
    pub file: Option<PathBuf>,
    /// The place of the operation in the order of all.
    pub position: u64,
    /// Operations behind it that were given up.
    pub lost_operations: u64,
    /// Commits that had been reported as successful and were given up, or failed.
    pub lost_commits: u64,
    /// The group that it stopped.
    pub(super) group: GroupId,
    /// How many errors there were before.
    pub(super) number: u64,
}

/// An operation that failed, for the report.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) operation: &'static str,
    pub(super) file: Option<PathBuf>,
    pub(super) position: Position,
    pub(super) is_commit: bool,
}

impl State {
    /// Latches `error` for a group and gives up what it has queued. `failed` describes the
    /// operation that failed.
    pub(super) fn fail_group(&mut self, group: GroupId, error: Error, failed: Failed) {
        let group = self.groups.find(group);
        self.groups.set_latch(group, error);
        self.count(group, |counters| counters.errors += 1);
        let (operations, commits) = self.drop_queued(group);
        self.errors_seen += 1;
        if self.history.len() >= HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(ErrorReport {
            error,
            operation: failed.operation,
            file: failed.file,
            position: failed.position,
            lost_operations: operations,
            lost_commits: commits + u64::from(failed.is_commit),
            group,
            number: self.errors_seen,
        });
    }

    /// The file will not be made.
    pub(super) fn give_up(&mut self, file: Option<FileId>) {
        if let Some(file) = file.and_then(|id| self.files.get_mut(&id)) {
            file.given_up = true;
        }
    }

    /// Turns what a group has queued into nothing. Returns how many operations and commits.
    pub(super) fn drop_queued(&mut self, group: GroupId) -> (u64, u64) {
        let mut dropped = Vec::new();
        let (mut operations, mut commits) = (0, 0);
        let groups = &self.groups;
        for entry in self.queue.all_mut() {
            if entry.progress != Progress::Waiting
                || entry.op.survives_error()
                || groups.find(entry.group) != group
            {
                continue;
            }
            operations += 1;
            commits += u64::from(entry.is_commit);
            let op = std::mem::replace(&mut entry.op, Op::Noop);
            dropped.push((entry.position, entry.file, op));
        }
        for (position, file, op) in dropped {
            self.queue.account_relieved(op.payload());
            self.forget_pending(position, file, &op);
            if matches!(op, Op::OpenExclusive { .. }) {
                self.give_up(file);
            }
        }
        (operations, commits)
    }
}
