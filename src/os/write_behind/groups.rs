//! Ordering groups: who belongs together, and the latched error.
//!
//! All files that can take part in one commit are one group: a database, its journals, and the
//! databases that a super-journal has joined to it. An error in the writer stops a group, not
//! its neighbours.
//!
//! ```text
//!   fresh ──push──► active ──an operation fails──► latched ──last close, or first open──► gone
//!     ▲                                                                                   │
//!     └───────────────────── the database is given a fresh group ─────────────────────────┘
//! ```
//!
//! # Invariants
//!
//! 1. A latched group stays latched. What clears an error is that the database gets *another*
//!    group: the group is the epoch, and nothing that was queued before can come back to life.
//! 2. A latched group has nothing in the queue that changes the disk.
//! 3. A database with something queued keeps its group unless that is latched: what is queued
//!    behind an operation that fails must fail with it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::super::pending::Position;
use super::map::{Map, Names};
use super::stats::Counters;
use crate::error::Error;

/// What a rollback journal's name has behind the database's.
const JOURNAL_SUFFIX: &[u8] = b"-journal";

/// A group, or rather: what was one until it was joined to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GroupId(u64);

/// One group.
#[derive(Debug, Default)]
struct Group {
    /// The group that this one was joined to.
    joined: Option<GroupId>,
    latch: Option<Error>,
    /// Nobody is left whom the latch could concern.
    is_gone: bool,
    /// Entries in the queue.
    queued: usize,
    /// The last entry that was pushed.
    last: Position,
    counters: Counters,
}

/// All groups.
#[derive(Debug)]
pub(super) struct Groups {
    all: Map<GroupId, Group>,
    /// Databases, by path.
    databases: Names<GroupId>,
    /// Super-journals that are not deleted yet, by path.
    super_journals: Names<GroupId>,
    next: u64,
}

/// The database that a file of this name is the journal of.
pub(super) fn database_of(path: &Path) -> Option<&Path> {
    let name = path.as_os_str().as_bytes().strip_suffix(JOURNAL_SUFFIX)?;
    Some(Path::new(OsStr::from_bytes(name)))
}

impl Default for Groups {
    fn default() -> Groups {
        let nobody = Group { is_gone: true, ..Group::default() };
        Groups {
            all: [(Groups::NOBODY, nobody)].into_iter().collect(),
            databases: Names::default(),
            super_journals: Names::default(),
            next: 0,
        }
    }
}

impl Groups {
    /// The group of what belongs to no file.
    pub(super) const NOBODY: GroupId = GroupId(0);

    /// The group that `id` is part of by now.
    pub(super) fn find(&self, id: GroupId) -> GroupId {
        let mut at = id;
        while let Some(next) = self.all.get(&at).and_then(|group| group.joined) {
            at = next;
        }
        at
    }

    /// A group of its own.
    pub(super) fn fresh(&mut self) -> GroupId {
        self.next += 1;
        let id = GroupId(self.next);
        self.all.insert(id, Group::default());
        id
    }

    /// The group that a file of this name is in: that of the database it is or belongs to.
    pub(super) fn of_path(&mut self, path: &Path) -> GroupId {
        if let Some(found) = self.known(path) {
            return found;
        }
        let id = self.fresh();
        let path = database_of(path).unwrap_or(path);
        self.databases.insert(path.to_owned(), id);
        id
    }

    /// The same, if anything of it is known.
    pub(super) fn known(&self, path: &Path) -> Option<GroupId> {
        let found = self.super_journals.get(path).or_else(|| self.databases.get(path));
        let found = found.or_else(|| self.databases.get(database_of(path)?));
        found.map(|&id| self.find(id))
    }

    /// The group of a super-journal, made if need be.
    pub(super) fn of_super_journal(&mut self, path: &Path) -> GroupId {
        if let Some(&id) = self.super_journals.get(path) {
            return self.find(id);
        }
        let id = self.fresh();
        self.super_journals.insert(path.to_owned(), id);
        id
    }

    /// A super-journal is about to be deleted. One that failed before any database was joined to
    /// it fails nobody: its deletion gets a fresh group.
    pub(super) fn delete_super_journal(&mut self, path: &Path) -> Option<GroupId> {
        let id = self.super_journals.remove(path)?;
        let id = self.find(id);
        let is_joined = self.databases.values().any(|&other| self.find(other) == id);
        let is_dead = self.latch(id).is_some();
        if !is_dead || is_joined {
            return Some(id);
        }
        self.abandon(id);
        Some(self.fresh())
    }

    /// Makes one group of two. Returns it; it carries the latch of either.
    pub(super) fn join(&mut self, one: GroupId, other: GroupId) -> GroupId {
        let (one, other) = (self.find(one), self.find(other));
        if one == other {
            return one;
        }
        let Some(joined) = self.all.get_mut(&other) else { return one };
        joined.joined = Some(one);
        let (latch, queued, last) = (joined.latch, joined.queued, joined.last);
        let counters = joined.counters;
        if let Some(group) = self.all.get_mut(&one) {
            group.latch = group.latch.or(latch);
            group.queued += queued;
            group.last = group.last.max(last);
            group.counters.add(&counters);
        }
        one
    }

    /// The latched error.
    pub(super) fn latch(&self, id: GroupId) -> Option<Error> {
        self.all.get(&self.find(id))?.latch
    }

    /// Latches `error`, unless there is one.
    pub(super) fn set_latch(&mut self, id: GroupId, error: Error) {
        let id = self.find(id);
        if let Some(group) = self.all.get_mut(&id) {
            group.latch = group.latch.or(Some(error));
        }
    }

    /// Every group that is not part of another.
    pub(super) fn ids(&self) -> Vec<GroupId> {
        let whole = self.all.iter().filter(|(_, group)| group.joined.is_none());
        let mut ids: Vec<GroupId> = whole.map(|(&id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// The latch of the oldest group that has one and concerns somebody.
    pub(super) fn first_latch(&self) -> Option<Error> {
        let here = |id: &GroupId| self.all.get(id).is_some_and(|group| !group.is_gone);
        self.ids().into_iter().filter(here).find_map(|id| self.latch(id))
    }

    /// Nobody is left whom an error of the group could concern.
    pub(super) fn abandon(&mut self, id: GroupId) {
        let id = self.find(id);
        if let Some(group) = self.all.get_mut(&id) {
            group.is_gone = true;
        }
    }

    /// A database has no handle any more, or the first one is about to come: it leaves a group
    /// that failed, and one that has nothing left to do.
    pub(super) fn leave(&mut self, path: &Path) {
        let path = database_of(path).unwrap_or(path);
        let Some(&id) = self.databases.get(path) else { return };
        if self.latch(id).is_some() || self.queued(id) == 0 {
            self.databases.remove(path);
            let id = self.find(id);
            let is_meant = |&other: &GroupId| self.find(other) == id;
            if !self.databases.values().chain(self.super_journals.values()).any(is_meant) {
                self.abandon(id);
            }
        }
    }

    /// No file is open: nobody is left whom an error could concern.
    pub(super) fn leave_all(&mut self) {
        let dead: Vec<GroupId> =
            self.ids().into_iter().filter(|&id| self.latch(id).is_some()).collect();
        for &id in &dead {
            self.abandon(id);
        }
        let mut databases = std::mem::take(&mut self.databases);
        databases.retain(|_, &id| !dead.contains(&self.find(id)));
        self.databases = databases;
        let mut super_journals = std::mem::take(&mut self.super_journals);
        super_journals.retain(|_, &id| !dead.contains(&self.find(id)));
        self.super_journals = super_journals;
    }

    /// Entries of the group in the queue.
    pub(super) fn queued(&self, id: GroupId) -> usize {
        self.all.get(&self.find(id)).map_or(0, |group| group.queued)
    }

    /// Position of the last entry that was pushed; 0 if there was none.
    pub(super) fn last(&self, id: GroupId) -> Position {
        self.all.get(&self.find(id)).map_or(0, |group| group.last)
    }

    /// An entry was pushed. Returns the counters of its group.
    pub(super) fn pushed(&mut self, id: GroupId, position: Position) -> Option<&mut Counters> {
        let id = self.find(id);
        let group = self.all.get_mut(&id)?;
        group.queued += 1;
        group.last = group.last.max(position);
        Some(&mut group.counters)
    }

    /// An entry left. Returns the counters of its group.
    pub(super) fn left(&mut self, id: GroupId) -> Option<&mut Counters> {
        let id = self.find(id);
        let group = self.all.get_mut(&id)?;
        group.queued = group.queued.saturating_sub(1);
        Some(&mut group.counters)
    }

    /// The counters of the group.
    pub(super) fn counters(&mut self, id: GroupId) -> Option<&mut Counters> {
        let id = self.find(id);
        self.all.get_mut(&id).map(|group| &mut group.counters)
    }

    /// How many are kept, joined ones included.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Forgets the groups that nobody can ask for any more. `used` are those of files and
    /// entries; `is_open` says whether the database of a path has handles.
    pub(super) fn sweep(&mut self, used: &[GroupId], is_open: impl Fn(&Path) -> bool) {
        let mut databases = std::mem::take(&mut self.databases);
        databases
            .retain(|path, &id| self.queued(id) > 0 || self.latch(id).is_some() || is_open(path));
        self.databases = databases;
        let named = self.databases.values().chain(self.super_journals.values());
        let mut keep: Vec<GroupId> = named.chain(used).copied().chain([Groups::NOBODY]).collect();
        let mut at = 0;
        while let Some(&id) = keep.get(at) {
            keep.extend(self.all.get(&id).and_then(|group| group.joined));
            at += 1;
        }
        keep.sort_unstable();
        self.all.retain(|id, _| keep.binary_search(id).is_ok());
    }
}
