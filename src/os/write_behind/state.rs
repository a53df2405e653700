//! Everything under the queue's mutex: files, handles, names, groups, and the queue.
//!
//! # Invariants
//!
//! 1. No call to the disk beneath is made while this is locked.
//! 2. What is pending on a file is in its overlay from the push until its operation is over.
//! 3. A path leads to the newest generation of its file; `names` has what is pending on it.
//! 4. `pushed = executed + merged + elided + dropped + queue.live()`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::super::pending::{Overlay, Position};
use super::super::{SyncKind, Vfs};
use super::entry::{Entry, FileId, HandleId, Op, Progress, Role, Ticket};
use super::failure::ErrorReport;
use super::groups::{GroupId, Groups, database_of};
use super::locks::{FileLocks, Slot};
use super::map::{Map, Names};
use super::queue::Queue;
use super::settings::{Halt, Settings};
use super::stats::Counters;
use super::sync::Mutex;
use crate::error::Result;

/// Device and inode, or what stands for them.
pub(super) type Identity = (u64, u64);

/// Groups that may lie about before they are looked through.
const GROUPS_SPARE: usize = 64;

/// A file with handles, or with something in the queue.
#[derive(Debug)]
pub(super) struct FileState {
    pub(super) path: Option<PathBuf>,
    pub(super) role: Role,
    pub(super) group: GroupId,
    identity: Option<Identity>,
    pub(super) overlay: Overlay,
    /// How many operations that change the file were started.
    pub(super) starts: u64,
    /// Readers for whom no change may be started.
    pub(super) readers: usize,
    /// Handles that are open as far as their owners know.
    pub(super) open_handles: usize,
    /// Once it had a handle.
    pub(super) sector_size: Option<u32>,
    /// The same, with those whose closing is in the queue.
    pub(super) handles: usize,
    queued: usize,
    /// A file that the writer creates has one base handle for all.
    pub(super) shared_slot: Option<Arc<Slot>>,
    pub(super) locks: Arc<Mutex<FileLocks>>,
    /// [`FileLocks::watch`].
    pub(super) watch: Arc<AtomicU64>,
    /// Something was done to it beneath since the last sync.
    pub(super) unsynced: bool,
    pub(super) synced: Option<SyncMark>,
    /// It has no name, or loses it when it is opened: nobody sees it without a handle.
    pub(super) vanishes: bool,
    /// Bytes or size changed since the last commit.
    pub(super) changed: bool,
    /// And were put back.
    pub(super) undone: bool,
    /// The transaction commits with a super-journal.
    pub(super) joined: bool,
    /// The size changed since the file was made.
    pub(super) resized: bool,
    /// The writer was to make it, and never will.
    pub(super) given_up: bool,
}

/// What the last successful sync of a file was, if nothing has happened to it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SyncMark {
    pub(super) kind: SyncKind,
    pub(super) group: GroupId,
    /// What [`FileLocks::watch`] of its database showed.
    pub(super) watch: u64,
}

/// An open handle, or one whose closing is in the queue.
#[derive(Debug)]
pub(super) struct HandleState {
    pub(super) file: FileId,
    pub(super) reader: Arc<Slot>,
    pub(super) writer: Arc<Slot>,
    pub(super) queued: usize,
    pub(super) full_sync: bool,
    /// To be synced along with the first sync, in the writer's time.
    pub(super) directory: Option<(PathBuf, Arc<dyn Vfs>)>,
    /// The disk beneath.
    pub(super) base: Arc<dyn Vfs>,
}

impl FileState {
    /// Length as far as it depends on what is pending.
    pub(super) fn pending_size(&self) -> u64 {
        self.overlay.exact_size().unwrap_or_else(|| self.overlay.end())
    }
}

/// What is pending on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameChange {
    /// It will lead to this file.
    Created(FileId),
    /// It will lead nowhere.
    Gone,
}

/// Who carries out the head of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Executor {
    None,
    /// A thread was asked for.
    Starting,
    /// The writer thread.
    Thread,
    /// Somebody who flushes, steps or waits for room.
    Caller,
}

/// A flush that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// [`State::errors_seen`] when it began.
    pub(super) errors_seen: u64,
    pub(super) result: Option<Result<()>>,
}

/// Everything under the mutex.
#[derive(Debug)]
pub(super) struct State {
    pub(super) queue: Queue,
    pub(super) files: Map<FileId, Box<FileState>>,
    pub(super) by_path: Names<FileId>,
    by_identity: Map<Identity, FileId>,
    pub(super) handles: Map<HandleId, Box<HandleState>>,
    names: Names<VecDeque<(Position, NameChange)>>,
    pub(super) groups: Groups,
    pub(super) settings: Settings,
    pub(super) halt: Halt,
    pub(super) executor: Executor,
    /// The process ends: no delay, no halting, and what comes is done at once.
    pub(super) exiting: bool,
    /// Handles that are open as far as their owners know.
    pub(super) open_handles: usize,
    /// Waits that end batching at once.
    pub(super) hurry: usize,
    /// Everything up to here is done at its turn, and not kept back.
    pub(super) keep_after: Position,
    /// Everything up to here is started without further lag.
    pub(super) burst_until: Position,
    /// Flushes that wait, with their result once it is there.
    pub(super) tickets: Map<Ticket, Waiting>,
    pub(super) counters: Counters,
    pub(super) history: VecDeque<ErrorReport>,
    pub(super) errors_seen: u64,
    /// Closed files that were not synced, by path.
    pub(super) unsynced_closed: Names<(Role, Arc<dyn Vfs>)>,
    /// Names made or removed since their directory was synced: directory → a file in it.
    pub(super) unsynced_directories: Names<(PathBuf, Arc<dyn Vfs>)>,
    next_id: u64,
}

impl State {
    /// Nothing is open and nothing queued.
    pub(super) fn new() -> State {
        State {
            queue: Queue::default(),
            files: Map::default(),
            by_path: Names::default(),
            by_identity: Map::default(),
            handles: Map::default(),
            names: Names::default(),
            groups: Groups::default(),
            settings: Settings::default(),
            halt: Halt::Never,
            executor: Executor::None,
            exiting: false,
            open_handles: 0,
            hurry: 0,
            keep_after: 0,
            burst_until: 0,
            tickets: Map::default(),
            counters: Counters::default(),
            history: VecDeque::new(),
            errors_seen: 0,
            unsynced_closed: Names::default(),
            unsynced_directories: Names::default(),
            next_id: 0,
        }
    }

    /// A number that was not given out before.
    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Whether a writer thread works on the queue, or is about to.
    pub(super) fn has_writer(&self) -> bool {
        matches!(self.executor, Executor::Starting | Executor::Thread)
    }

    /// Counts for the whole queue and for a group.
    pub(super) fn count(&mut self, group: GroupId, count: impl Fn(&mut Counters)) {
        count(&mut self.counters);
        if let Some(counters) = self.groups.counters(group) {
            count(counters);
        }
    }

    /// The latched error of the file's group.
    pub(super) fn file_latch(&self, file: FileId) -> Result<()> {
        let latch = self.files.get(&file).and_then(|file| self.groups.latch(file.group));
        latch.map_or(Ok(()), Err)
    }

    // ---- pushing

    /// Appends an operation. Room for it was made before, or reserved when its handle was opened.
    pub(super) fn push(&mut self, group: GroupId, handle: Option<HandleId>, op: Op) -> Position {
        let position = self.queue.next_position();
        let file = handle.and_then(|id| self.handles.get(&id)).map(|handle| handle.file);
        let is_commit = self.note_change(file, &op);
        if let Some(file) = file.and_then(|id| self.files.get_mut(&id)) {
            match &op {
                Op::Write { offset, data } => file.overlay.write(position, *offset, data),
                Op::Truncate { size } => file.overlay.truncate(position, *size),
                _ => {}
            }
            file.queued += 1;
        }
        if let Some(handle) = handle.and_then(|id| self.handles.get_mut(&id)) {
            handle.queued += 1;
        }
        self.note_name(position, file, &op);
        let writes = u64::from(matches!(op, Op::Write { .. }));
        let of_group = self.groups.pushed(group, position);
        for counters in [Some(&mut self.counters), of_group].into_iter().flatten() {
            counters.pushed += 1;
            counters.writes += writes;
        }
        self.queue.push(Entry {
            position,
            group,
            file,
            handle,
            op,
            progress: Progress::Waiting,
            pushed: Instant::now(),
            is_commit,
        });
        self.counters.peak_bytes = self.counters.peak_bytes.max(self.queue.bytes());
        position
    }

    /// Appends a barrier, or puts it behind the last entry of its group.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(super) fn push_barrier(&mut self, scope: Option<GroupId>, durable: bool) -> Result<Ticket> {
        self.queue.reserve(self.reserved())?;
        let ticket = Ticket(self.new_id());
        let newest = self.queue.next_position() - 1;
        let position = scope.map_or(newest, |group| self.groups.last(group));
        let group = scope.unwrap_or(Groups::NOBODY);
        self.tickets.insert(ticket, Waiting { errors_seen: self.errors_seen, result: None });
        let of_group = self.groups.pushed(group, position);
        for counters in [Some(&mut self.counters), of_group].into_iter().flatten() {
            counters.pushed += 1;
        }
        self.queue.insert_barrier(Entry {
            position,
            group,
            file: None,
            handle: None,
            op: Op::Barrier { ticket, scope, durable },
            progress: Progress::Waiting,
            pushed: Instant::now(),
            is_commit: false,
        });
        Ok(ticket)
    }

    /// Entries that must find room whatever happens: a closing and an unlock per handle.
    pub(super) fn reserved(&self) -> usize {
        self.open_handles.saturating_mul(2)
    }

    /// Makes room for an opening, and for what its handle must be able to push at any time.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(super) fn reserve_handle(&mut self) -> Result<()> {
        self.queue.reserve(self.reserved().saturating_add(3))
    }

    /// Keeps the books of what is changed and what is committed. Returns whether a transaction
    /// is committed by `op`.
    fn note_change(&mut self, file: Option<FileId>, op: &Op) -> bool {
        let file_state = file.and_then(|id| self.files.get_mut(&id));
        match (op, file_state) {
            (Op::Write { data, offset }, Some(file)) => {
                file.changed = true;
                file.resized = true;
                let ends_journal = *offset == 0 && data.len() == 28;
                ends_journal
                    && file.role == Role::Log
                    && *data == [0; 28][..]
                    && file.path.clone().is_some_and(|path| self.end_transaction(&path))
            }
            (Op::Truncate { size }, Some(file)) => {
                file.changed = true;
                file.resized = true;
                *size == 0
                    && file.role == Role::Log
                    && file.path.clone().is_some_and(|path| self.end_transaction(&path))
            }
            (Op::Delete { path, .. }, _) => self.end_transaction(path),
            _ => false,
        }
    }

    /// The journal `path` becomes invalid. Returns whether that makes a transaction final.
    fn end_transaction(&mut self, path: &Path) -> bool {
        let database = database_of(path).and_then(|path| self.by_path.get(path)).copied();
        let Some(file) = database.and_then(|id| self.files.get_mut(&id)) else { return false };
        // With a super-journal it is that one's deletion that makes the transaction final.
        let commits = file.changed && !file.undone && !file.joined;
        file.changed = false;
        file.undone = false;
        file.joined = false;
        commits
    }

    // ---- names

    fn note_name(&mut self, position: Position, file: Option<FileId>, op: &Op) {
        let (path, change) = match (op, file) {
            (Op::Delete { path, .. }, _) => (path, NameChange::Gone),
            (Op::OpenExclusive { path: Some(path), request, .. }, Some(file)) => {
                let created = NameChange::Created(file);
                (path, if request.delete_on_close { NameChange::Gone } else { created })
            }
            _ => return,
        };
        match change {
            NameChange::Created(file) => self.by_path.insert(path.clone(), file),
            NameChange::Gone => _ = self.by_path.remove(path),
        }
        self.names.get_or_default(path).push_back((position, change));
    }

    fn forget_name(&mut self, position: Position, path: &Path) {
        let Some(pending) = self.names.get_mut(path) else { return };
        // In order; and most often the first one, so that this does not depend on their number.
        if let Ok(at) = pending.binary_search_by_key(&position, |&(position, _)| position) {
            pending.remove(at);
        }
        if pending.is_empty() {
            self.names.remove(path);
        }
    }

    /// The newest change that is pending on a path, and where.
    pub(super) fn pending_name(&self, path: &Path) -> Option<(Position, NameChange)> {
        self.names.get(path)?.back().copied()
    }

    /// The file that an open base handle of this identity, or else path, belongs to.
    pub(super) fn known_file(&self, path: &Path, identity: Option<Identity>) -> Option<FileId> {
        match identity {
            Some(identity) => self.by_identity.get(&identity).copied(),
            None => self.by_path.get(path).copied(),
        }
    }

    /// A file was created or opened beneath.
    pub(super) fn set_identity(&mut self, id: FileId, identity: Option<Identity>) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.identity = identity;
        if let Some(identity) = identity {
            self.by_identity.insert(identity, id);
        }
    }

    // ---- files

    /// A file that was not known.
    pub(super) fn add_file(&mut self, path: Option<PathBuf>, role: Role, group: GroupId) -> FileId {
        let id = FileId(self.new_id());
        let locks = FileLocks::new();
        let watch = locks.watch();
        let file = FileState {
            path,
            role,
            group,
            identity: None,
            overlay: Overlay::default(),
            starts: 0,
            readers: 0,
            open_handles: 0,
            sector_size: None,
            handles: 0,
            queued: 0,
            shared_slot: None,
            locks: Arc::new(Mutex::new(locks)),
            watch,
            unsynced: false,
            synced: None,
            vanishes: false,
            changed: false,
            undone: false,
            joined: false,
            resized: false,
            given_up: false,
        };
        self.files.insert(id, Box::new(file));
        id
    }

    /// The group in which `path` is opened now. Errors are forgotten that concern nobody any
    /// more: those of a database that has no open handle.
    pub(super) fn group_to_open(&mut self, path: &Path, is_super_journal: bool) -> GroupId {
        if self.open_handles == 0 {
            self.groups.leave_all();
        }
        if is_super_journal {
            return self.groups.of_super_journal(path);
        }
        let database = database_of(path).unwrap_or(path);
        if !self.is_open(database) && !self.is_open(path) {
            self.groups.leave(path);
        }
        self.groups.of_path(path)
    }

    /// Whether a path leads to a file that is there, or will be.
    pub(super) fn leads_to_file(&self, path: &Path) -> bool {
        let file = self.by_path.get(path).and_then(|id| self.files.get(id));
        file.is_some_and(|file| !file.given_up)
    }

    /// Whether the file of this path has an open handle.
    pub(super) fn is_open(&self, path: &Path) -> bool {
        let file = self.by_path.get(path).and_then(|id| self.files.get(id));
        file.is_some_and(|file| file.open_handles > 0)
    }

    /// Forgets a file that has neither handles nor anything queued.
    fn forget_file(&mut self, id: FileId) {
        let Some(file) = self.files.get(&id) else { return };
        if file.handles > 0 || file.queued > 0 {
            return;
        }
        let Some(file) = self.files.remove(&id) else { return };
        if let Some(identity) = file.identity
            && self.by_identity.get(&identity) == Some(&id)
        {
            self.by_identity.remove(&identity);
        }
        if let Some(path) = &file.path
            && self.by_path.get(path) == Some(&id)
        {
            self.by_path.remove(path);
        }
        self.sweep_groups();
    }

    fn sweep_groups(&mut self) {
        if self.groups.len() <= GROUPS_SPARE + 2 * self.files.len() + self.queue.entries().len() {
            return;
        }
        let of_files = self.files.values().map(|file| file.group);
        let of_entries = self.queue.all().map(|entry| entry.group);
        let used: Vec<GroupId> = of_files.chain(of_entries).collect();
        let mut groups = std::mem::take(&mut self.groups);
        groups.sweep(&used, |path| self.is_open(path));
        self.groups = groups;
    }

    // ---- the end of an operation

    /// The operation at `position` is over; `count` says how it counts.
    pub(super) fn leave(&mut self, position: Position, count: impl Fn(&mut Counters)) {
        let Some(entry) = self.queue.at_mut(position) else { return };
        if entry.progress == Progress::Done {
            return;
        }
        entry.progress = Progress::Done;
        let (group, file, handle) = (entry.group, entry.file, entry.handle);
        let op = std::mem::replace(&mut entry.op, Op::Noop);
        self.queue.account_done(op.payload());
        self.forget_pending(position, file, &op);
        let of_group = self.groups.left(group);
        for counters in [Some(&mut self.counters), of_group].into_iter().flatten() {
            count(counters);
        }
        if let Some(handle) = handle.and_then(|id| self.handles.get_mut(&id)) {
            handle.queued = handle.queued.saturating_sub(1);
        }
        if let Some(id) = file {
            if let Some(file) = self.files.get_mut(&id) {
                file.queued = file.queued.saturating_sub(1);
            }
            self.forget_file(id);
        }
    }

    /// A barrier is over.
    pub(super) fn leave_barrier(&mut self, ticket: Ticket, result: Result<()>) {
        let is_meant = |entry: &&mut Entry| {
            let of_ticket =
                matches!(entry.op, Op::Barrier { ticket: other, .. } if other == ticket);
            of_ticket && !entry.is_done()
        };
        let Some(entry) = self.queue.all_mut().find(is_meant) else { return };
        entry.progress = Progress::Done;
        let group = entry.group;
        self.queue.account_barrier_done();
        let of_group = self.groups.left(group);
        for counters in [Some(&mut self.counters), of_group].into_iter().flatten() {
            counters.executed += 1;
        }
        if let Some(waiting) = self.tickets.get_mut(&ticket) {
            waiting.result = Some(result);
        }
    }

    /// Nothing is pending of an operation any more.
    pub(super) fn forget_pending(&mut self, position: Position, file: Option<FileId>, op: &Op) {
        if let Some(file) = file.and_then(|id| self.files.get_mut(&id)) {
            match op {
                Op::Truncate { .. } => file.overlay.forget_truncation(position),
                _ => {
                    if let Some(range) = op.range() {
                        file.overlay.forget_write(position, range);
                    }
                }
            }
        }
        if let Op::Delete { path, .. } | Op::OpenExclusive { path: Some(path), .. } = op {
            self.forget_name(position, path);
        }
    }
}
