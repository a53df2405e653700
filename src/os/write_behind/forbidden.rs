//! What the queue must never do, done on purpose: so that a test can show that it would notice.

use std::cmp::Reverse;
use std::path::Path;

use super::super::pending::Overlay;
use super::entry::{Entry, Op, Progress, Role};
use super::groups::database_of;
use super::state::State;

/// A rearrangement of the queue that breaks the promise of a committed prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum Forbidden {
    /// Neighbouring writes of a log, last one first, as if closing it between two transactions
    /// were nothing: inside one, this pager gives a reader no means to notice.
    LogReversed,
    /// A database's write is left out if a later transaction covers it.
    AbsorbedAcrossCommit,
    /// A database's writes move before the journal's writes and syncs.
    DataBeforeLog,
    /// A database's writes and syncs move behind the deletion of the journal.
    DataAfterCommit,
    /// The database is not synced.
    DataNotSynced,
    /// The deletion of the journal moves before the sync of the database.
    CommitBeforeSync,
    /// The deletion of a journal is left out if it is made again.
    DeletionCancelled,
    /// Two databases that commit together have a queue each; here the last one's comes first.
    SeparateQueues,
    /// The journal's records are not synced before the header counts them.
    RecordsNotSynced,
}

/// What an entry is to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    DataWrite,
    DataSync,
    LogWrite,
    LogSync,
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
        let part = |entry: &Entry| match (&entry.op, role(entry)) {
            (Op::Write { .. }, Role::Database) => Part::DataWrite,
            (Op::Sync(_), Role::Database) => Part::DataSync,
            (Op::Write { .. }, Role::Log) => Part::LogWrite,
            (Op::Sync(_), Role::Log) => Part::LogSync,
            (Op::Close, Role::Log) => Part::LogClose,
            (Op::Delete { .. }, _) => Part::Deletion,
            _ => Part::Other,
        };
        let path = |entry: &Entry| match entry.op.path() {
            Some(path) => path.to_owned(),
            None => {
                let file = entry.file.and_then(|id| self.files.get(&id));
                file.and_then(|file| file.path.clone()).unwrap_or_default()
            }
        };
        self.queue.rearrange(|mut entries| {
            if rule == Forbidden::SeparateQueues {
                entries.sort_by_cached_key(|entry| {
                    let path = path(entry);
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
        Forbidden::DataNotSynced => {
            for (entry, part) in entries.iter_mut().zip(&parts) {
                if *part == Part::DataSync {
                    entry.op = Op::Noop;
                }
            }
        }
        Forbidden::AbsorbedAcrossCommit => {
            for at in 0..entries.len() {
                let (Some(entry), rest) = (entries.get(at), entries.iter().skip(at + 1)) else {
                    continue;
                };
                let covers = |later: &Entry| {
                    later.file == entry.file && later.op.range() == entry.op.range()
                };
                let is_data = parts.get(at) == Some(&Part::DataWrite);
                let is_covered = is_data && rest.into_iter().any(covers);
                if let Some(entry) = entries.get_mut(at).filter(|_| is_covered) {
                    entry.op = Op::Noop;
                }
            }
        }
        Forbidden::SeparateQueues => {}
        Forbidden::RecordsNotSynced => drop_first_syncs(&mut entries, &parts),
        Forbidden::DeletionCancelled => cancel_deletions(&mut entries),
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

fn cancel_deletions(entries: &mut [Entry]) {
    let created = |entry: &Entry, name: &std::path::Path| match &entry.op {
        Op::OpenExclusive { path, .. } => path.as_deref() == Some(name),
        _ => false,
    };
    for at in 0..entries.len() {
        let (done, rest) = entries.split_at_mut(at + 1);
        let Some(entry) = done.last_mut() else { continue };
        if let Op::Delete { path, .. } = &entry.op
            && rest.iter().any(|later| created(later, path))
        {
            entry.op = Op::Noop;
        }
    }
}

/// Drops each sync of a log that its next operation follows with the header.
fn drop_first_syncs(entries: &mut [Entry], parts: &[Part]) {
    for (at, part) in parts.iter().enumerate() {
        let (done, rest) = entries.split_at_mut(at + 1);
        let Some(entry) = done.last_mut().filter(|_| *part == Part::LogSync) else { continue };
        let next = rest.iter().find(|later| later.file == entry.file);
        if next.is_some_and(|later| matches!(&later.op, Op::Write { data, .. } if data.len() == 12))
        {
            entry.op = Op::Noop;
        }
    }
}
