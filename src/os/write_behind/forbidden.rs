//! What the queue must never do, done on purpose: so that a test can show that it would notice.

use std::cmp::Reverse;
use std::path::Path;

use super::super::pending::Overlay;
use super::entry::{Entry, Op, Progress, Role};
use super::groups::database_of;
use super::state::State;

/// A rearrangement of the queue that breaks the promise of a committed prefix; the numbers are
/// those of `rules.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum Forbidden {
    /// L4: neighbouring writes of a log, last one first, as if closing it between two transactions
    /// were nothing: inside one, this pager gives a reader no means to notice.
    LogReversed,
    /// L6: a database's write is left out if a later transaction covers it.
    AbsorbedAcrossCommit,
    /// L8: the database is not synced.
    DataNotSynced,
    /// L8: the database is synced once, in the last transaction.
    SyncsMerged,
    /// L8: the journal's records are not synced before the header counts them.
    RecordsNotSynced,
    /// L8: the header that counts the records is not synced.
    HeaderNotSynced,
    /// L8: the directory of a journal is not synced.
    DirectoryNotSynced,
    /// L8: a super-journal is not synced.
    SuperJournalNotSynced,
    /// L9: a database's writes move before the journal's writes next to them: the journal's
    /// behind the database's.
    DataBeforeLogWrite,
    /// L9: a database's writes move before the sync of the journal.
    DataBeforeLogSync,
    /// L9: a database's writes move before the journal's writes and syncs.
    DataBeforeLog,
    /// L9: a database's writes and syncs move behind the deletion of the journal.
    DataAfterCommit,
    /// L9: the deletion of the journal moves before the sync of the database.
    CommitBeforeSync,
    /// L12: the deletion of a journal is left out if it is made again.
    DeletionCancelled,
    /// L12: it is cut instead, and used again.
    DeletionReused,
    /// L14: two databases that commit together have a queue each; here the last one's is first.
    SeparateQueues,
}

/// What an entry is to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    DataWrite,
    DataSync,
    LogWrite,
    LogSync,
    SuperSync,
    DirectorySync,
    LogClose,
    Deletion,
    Other,
}

impl State {
    /// Breaks a rule in what is queued. Reads are not served from what was rearranged.
    pub(super) fn break_rule(&mut self, rule: Forbidden) {
        let role = |entry: &Entry| {
            entry.file.and_then(|id| self.files.get(&id)).map_or(Role::Log, |file| file.role)
        };
        let path_of = |entry: &Entry| match entry.op.path() {
            Some(path) => path.to_owned(),
            None => {
                let file = entry.file.and_then(|id| self.files.get(&id));
                file.and_then(|file| file.path.clone()).unwrap_or_default()
            }
        };
        let is_journal = |entry: &Entry| database_of(&path_of(entry)).is_some();
        let part = |entry: &Entry| match (&entry.op, role(entry)) {
            (Op::Write { .. }, Role::Database) => Part::DataWrite,
            (Op::Sync(_), Role::Database) => Part::DataSync,
            (Op::Write { .. }, Role::Log) => Part::LogWrite,
            (Op::Sync(_), Role::Log) if !is_journal(entry) => Part::SuperSync,
            (Op::Sync(_), Role::Log) => Part::LogSync,
            (Op::SyncDirectory { .. }, _) => Part::DirectorySync,
            (Op::Close, Role::Log) => Part::LogClose,
            (Op::Delete { .. }, _) => Part::Deletion,
            _ => Part::Other,
        };
        self.queue.rearrange(|mut entries| {
            if rule == Forbidden::SeparateQueues {
                entries.sort_by_cached_key(|entry| {
                    let path = path_of(entry);
                    Reverse(database_of(&path).map(Path::to_owned).unwrap_or(path))
                });
            }
            let parts = entries.iter().map(part).collect();
            rearranged(rule, entries, parts)
        });
        for file in self.files.values_mut() {
            file.overlay = Overlay::default();
        }
    }
}

fn rearranged(rule: Forbidden, mut entries: Vec<Entry>, mut parts: Vec<Part>) -> Vec<Entry> {
    match rule {
        Forbidden::LogReversed => {
            bubble(&mut entries, &mut parts, |part, before| {
                before == Part::LogClose && part != Part::LogClose
            });
            reverse_runs(&mut entries, &parts);
        }
        Forbidden::DataBeforeLogWrite => bubble(&mut entries, &mut parts, |part, before| {
            part == Part::DataWrite && before == Part::LogWrite
        }),
        Forbidden::DataBeforeLogSync => bubble(&mut entries, &mut parts, |part, before| {
            part == Part::DataWrite && before == Part::LogSync
        }),
        Forbidden::DataBeforeLog => bubble(&mut entries, &mut parts, |part, before| {
            part == Part::DataWrite && matches!(before, Part::LogWrite | Part::LogSync)
        }),
        Forbidden::DataAfterCommit => bubble(&mut entries, &mut parts, |part, before| {
            let data = matches!(before, Part::DataWrite | Part::DataSync);
            data && !matches!(part, Part::DataWrite | Part::DataSync)
        }),
        Forbidden::CommitBeforeSync => bubble(&mut entries, &mut parts, |part, before| {
            before == Part::DataSync && matches!(part, Part::Deletion | Part::LogClose)
        }),
        Forbidden::DataNotSynced => drop_all(&mut entries, &parts, Part::DataSync, 0),
        Forbidden::SyncsMerged => drop_all(&mut entries, &parts, Part::DataSync, 1),
        Forbidden::DirectoryNotSynced => drop_all(&mut entries, &parts, Part::DirectorySync, 0),
        Forbidden::SuperJournalNotSynced => drop_all(&mut entries, &parts, Part::SuperSync, 0),
        Forbidden::AbsorbedAcrossCommit => absorb(&mut entries, &parts),
        Forbidden::SeparateQueues => {}
        Forbidden::RecordsNotSynced => drop_log_syncs(&mut entries, &parts, true),
        Forbidden::HeaderNotSynced => drop_log_syncs(&mut entries, &parts, false),
        Forbidden::DeletionCancelled => cancel_deletions(&mut entries),
        Forbidden::DeletionReused => reuse_deleted(&mut entries),
    }
    for (entry, position) in entries.iter_mut().zip(1..) {
        entry.position = position;
        entry.progress = Progress::Waiting;
    }
    entries
}

/// Moves every entry forward over those before it as long as `passes(it, before)`.
fn bubble(entries: &mut [Entry], parts: &mut [Part], passes: impl Fn(Part, Part) -> bool) {
    for start in 1..entries.len() {
        let mut at = start;
        let may_pass = |at: usize, parts: &[Part]| {
            let Some(before) = at.checked_sub(1) else {
                return false;
            };
            matches!(parts.get(before..=at), Some([one, other]) if passes(*other, *one))
        };
        while may_pass(at, parts) {
            entries.swap(at - 1, at);
            parts.swap(at - 1, at);
            at -= 1;
        }
    }
}

fn reverse_runs(entries: &mut [Entry], parts: &[Part]) {
    let mut start = 0;
    for at in 0..=parts.len() {
        if parts.get(at) != Some(&Part::LogWrite) {
            if let Some(run) = entries.get_mut(start..at) {
                run.reverse();
            }
            start = at + 1;
        }
    }
}

/// Drops the entries of one kind but for the last `kept` ones.
fn drop_all(entries: &mut [Entry], parts: &[Part], kind: Part, kept: usize) {
    let count = parts.iter().filter(|&&part| part == kind).count();
    let of_kind = entries.iter_mut().zip(parts).filter(|&(_, &part)| part == kind);
    for (entry, _) in of_kind.take(count.saturating_sub(kept)) {
        entry.op = Op::Noop;
    }
}

/// Drops every write of a database that a later one covers, whatever lies between.
fn absorb(entries: &mut [Entry], parts: &[Part]) {
    for (at, part) in parts.iter().enumerate() {
        let (done, rest) = entries.split_at_mut(at + 1);
        let Some(entry) = done.last_mut().filter(|_| *part == Part::DataWrite) else { continue };
        let covers =
            |later: &Entry| later.file == entry.file && later.op.range() == entry.op.range();
        if rest.iter().any(covers) {
            entry.op = Op::Noop;
        }
    }
}

fn creates(entry: &Entry, name: &Path) -> bool {
    match &entry.op {
        Op::OpenExclusive { path, .. } => path.as_deref() == Some(name),
        _ => false,
    }
}

fn cancel_deletions(entries: &mut [Entry]) {
    for at in 0..entries.len() {
        let (done, rest) = entries.split_at_mut(at + 1);
        let Some(entry) = done.last_mut() else { continue };
        if let Op::Delete { path, .. } = &entry.op
            && rest.iter().any(|later| creates(later, path))
        {
            entry.op = Op::Noop;
        }
    }
}

/// Turns each deletion of a journal that is made again into cutting it, before it is closed.
fn reuse_deleted(entries: &mut [Entry]) {
    for at in 0..entries.len() {
        let (done, rest) = entries.split_at_mut(at + 1);
        let Some((close, (delete, later))) = done.last_mut().zip(rest.split_first_mut()) else {
            continue;
        };
        let Op::Delete { path, .. } = &delete.op else { continue };
        let Some(again) = later.iter_mut().find(|later| creates(later, path)) else { continue };
        if let (Op::Close, Op::OpenExclusive { request, .. }) = (&close.op, &mut again.op) {
            request.exclusive = false;
            (delete.file, delete.handle) = (close.file, close.handle);
            delete.op = Op::Close;
            close.op = Op::Truncate { size: 0 };
        }
    }
}

/// Drops each sync of a log that its next operation follows with the header (`counts`), or that
/// follows the header.
fn drop_log_syncs(entries: &mut [Entry], parts: &[Part], counts: bool) {
    let counting = |entry: &Entry| matches!(&entry.op, Op::Write { data, .. } if data.len() == 12);
    for (at, part) in parts.iter().enumerate() {
        let (done, rest) = entries.split_at_mut(at + 1);
        let Some((entry, before)) = done.split_last_mut() else { continue };
        if *part != Part::LogSync {
            continue;
        }
        let neighbour = match counts {
            true => rest.iter().find(|later| later.file == entry.file),
            false => before.iter().rev().find(|earlier| earlier.file == entry.file),
        };
        if neighbour.is_some_and(counting) {
            entry.op = Op::Noop;
        }
    }
}
