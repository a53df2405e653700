//! One step of the executor: what is at the head, doing it, and the books afterwards.
//!
//! ```text
//!   take (state locked) ──► perform (nothing locked but the base handle) ──► finish (state locked)
//! ```

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::super::pending::Position;
use super::super::{LockLevel, OpenRequest, SyncKind, Vfs};
use super::coalesce::{self, Call, Plan};
use super::entry::{Entry, FileId, HandleId, Op, Progress, Role, Ticket};
use super::groups::GroupId;
use super::locks::{FileLocks, Slot};
use super::settings::Coalesce;
use super::shared::Shared;
use super::state::{Failed, Identity, State, SyncMark};
use super::sync::Mutex;
use crate::error::{Error, Result};

/// What is to be done at the disk beneath.
#[derive(Debug)]
enum Work {
    /// Nothing.
    Nothing,
    /// A sync of what is synced already.
    SkippedSync,
    Write {
        slot: Arc<Slot>,
        plan: Plan,
    },
    Truncate {
        slot: Arc<Slot>,
        size: u64,
    },
    Sync {
        slot: Arc<Slot>,
        kind: SyncKind,
        directory: Option<(PathBuf, Arc<dyn Vfs>)>,
    },
    Close {
        locks: Arc<Mutex<FileLocks>>,
        slots: Vec<Arc<Slot>>,
    },
    Delete {
        path: PathBuf,
        sync_directory: bool,
        base: Arc<dyn Vfs>,
    },
    Open {
        path: Option<PathBuf>,
        request: OpenRequest,
        base: Arc<dyn Vfs>,
        slot: Arc<Slot>,
    },
    SyncDirectory {
        path: PathBuf,
        base: Arc<dyn Vfs>,
    },
    Unlock {
        locks: Arc<Mutex<FileLocks>>,
    },
    Barrier {
        ticket: Ticket,
        scope: Option<GroupId>,
        targets: Vec<Target>,
    },
}

/// Something that a durable flush has to sync.
#[derive(Debug)]
enum Target {
    Open { slot: Arc<Slot>, file: FileId, group: GroupId, path: Option<PathBuf> },
    Closed { path: PathBuf, base: Arc<dyn Vfs> },
    Directory { directory: PathBuf, path: PathBuf, base: Arc<dyn Vfs> },
}

/// What the executor has in hand.
#[derive(Debug)]
pub(super) struct Batch {
    group: GroupId,
    file: Option<FileId>,
    handle: Option<HandleId>,
    /// The file's name, for traces and reports.
    path: Option<PathBuf>,
    operation: &'static str,
    position: Position,
    is_commit: bool,
    work: Work,
}

/// What `perform` found out.
#[derive(Debug)]
pub(super) struct Outcome {
    result: Result<()>,
    identity: Option<Identity>,
    /// Of a barrier: how many targets were synced.
    synced: usize,
}

impl Outcome {
    fn new(result: Result<()>) -> Outcome {
        Outcome { result, identity: None, synced: 0 }
    }

    /// The disk beneath panicked.
    pub(super) fn died() -> Outcome {
        Outcome::new(Err(Error::Internal("the disk beneath the write-behind queue panicked")))
    }
}

impl Batch {
    /// Whether the operation was one to be followed by the delay.
    pub(super) fn is_operation(&self) -> bool {
        self.operation != "NOOP"
    }

    fn name(&self) -> String {
        self.path.as_deref().unwrap_or(Path::new("(temporary)")).display().to_string()
    }
}

// ---- taking

/// Whether the head must wait for a reader.
pub(super) fn waits_for_reader(state: &State) -> bool {
    let Some(head) = state.queue.entries().front() else { return false };
    let changes = matches!(head.op, Op::Write { .. } | Op::Truncate { .. });
    let file = head.file.and_then(|id| state.files.get(&id));
    changes && file.is_some_and(|file| file.readers > 0)
}

/// Takes the head in hand, with what may go along. `None` if the queue is empty.
pub(super) fn take(state: &mut State, coalesce: Coalesce) -> Option<Batch> {
    state.queue.trim();
    let head = state.queue.entries().front()?;
    let mut batch = Batch {
        group: state.groups.find(head.group),
        file: head.file,
        handle: head.handle,
        path: path_of(state, head),
        operation: head.op.name(),
        position: head.position,
        is_commit: head.is_commit,
        work: Work::Nothing,
    };
    batch.work = match &head.op {
        Op::Write { .. } => take_write(state, &batch, coalesce),
        op => {
            let op = op.clone();
            take_other(state, &batch, op, coalesce)
        }
    };
    if let Work::Write { plan, .. } = &batch.work {
        for &position in &plan.members {
            if let Some(entry) = state.queue.at_mut(position) {
                entry.progress = Progress::Started;
            }
        }
    } else if let Some(head) = state.queue.head_mut() {
        head.progress = Progress::Started;
    }
    let changes =
        matches!(batch.work, Work::Write { .. } | Work::Truncate { .. } | Work::Open { .. });
    if let Some(file) = batch.file.and_then(|id| state.files.get_mut(&id)).filter(|_| changes) {
        file.starts += 1;
        file.unsynced = true;
        file.synced = None;
    }
    Some(batch)
}

fn path_of(state: &State, entry: &Entry) -> Option<PathBuf> {
    if let Some(path) = entry.op.path() {
        return Some(path.to_owned());
    }
    state.files.get(&entry.file?)?.path.clone()
}

fn take_write(state: &State, batch: &Batch, coalesce: Coalesce) -> Work {
    let entries = state.queue.entries();
    let members = match batch.file.and_then(|id| state.files.get(&id)) {
        Some(file) if coalesce != Coalesce::Off => {
            coalesce::run(entries, file.role, |group| state.groups.find(group))
        }
        _ => vec![0],
    };
    let writes = members.iter().filter_map(|&index| entries.get(index));
    let plan = coalesce::plan(writes);
    match batch.handle.and_then(|id| state.handles.get(&id)) {
        Some(handle) => Work::Write { slot: Arc::clone(&handle.writer), plan },
        None => Work::Nothing,
    }
}

fn take_other(state: &mut State, batch: &Batch, op: Op, coalesce: Coalesce) -> Work {
    match op {
        Op::Delete { path, sync_directory, base } => {
            return Work::Delete { path, sync_directory, base };
        }
        Op::SyncDirectory { path, base } => return Work::SyncDirectory { path, base },
        Op::Barrier { ticket, scope, durable } => {
            let targets = if durable { targets(state, scope) } else { Vec::new() };
            return Work::Barrier { ticket, scope, targets };
        }
        _ => {}
    }
    if let Op::Sync(kind) = op {
        return take_sync(state, batch, kind, coalesce);
    }
    let Some(handle) = batch.handle.and_then(|id| state.handles.get_mut(&id)) else {
        return Work::Nothing;
    };
    let Some(file) = state.files.get(&handle.file) else { return Work::Nothing };
    match op {
        Op::Truncate { size } => Work::Truncate { slot: Arc::clone(&handle.writer), size },
        Op::OpenExclusive { path, request, base } => {
            Work::Open { path, request, base, slot: Arc::clone(&handle.writer) }
        }
        Op::Unlock(_) => Work::Unlock { locks: Arc::clone(&file.locks) },
        Op::Close => {
            let mut slots = vec![Arc::clone(&handle.reader), Arc::clone(&handle.writer)];
            if let Some(shared) = &file.shared_slot {
                slots.retain(|slot| !Arc::ptr_eq(slot, shared));
                slots.extend((file.handles <= 1).then(|| Arc::clone(shared)));
            }
            Work::Close { locks: Arc::clone(&file.locks), slots }
        }
        Op::OpenDirectory { path } => {
            handle.directory = Some((path, Arc::clone(&handle.base)));
            Work::Nothing
        }
        Op::SetFullSync(flag) => {
            handle.full_sync = flag;
            Work::Nothing
        }
        _ => Work::Nothing,
    }
}

fn take_sync(state: &mut State, batch: &Batch, kind: SyncKind, coalesce: Coalesce) -> Work {
    let Some(handle) = batch.handle.and_then(|id| state.handles.get_mut(&id)) else {
        return Work::Nothing;
    };
    let kind = if handle.full_sync { SyncKind::Full } else { kind };
    let slot = Arc::clone(&handle.writer);
    let directory = handle.directory.take();
    let skips = coalesce != Coalesce::Off
        && directory.is_none()
        && batch.file.is_some_and(|file| is_synced(state, file, kind));
    if skips { Work::SkippedSync } else { Work::Sync { slot, kind, directory } }
}

/// Whether nothing can have happened to the file since a sync that was at least as strong.
fn is_synced(state: &State, id: FileId, kind: SyncKind) -> bool {
    let Some(file) = state.files.get(&id) else { return false };
    let Some(mark) = file.synced else { return false };
    let is_kept_out =
        watch_of(state, id).is_some_and(|watch| watch % 2 == 1 && watch == mark.watch);
    mark.group == state.groups.find(file.group)
        && (mark.kind == kind || mark.kind == SyncKind::Full)
        && (file.role == Role::Temporary || is_kept_out)
}

/// What the watch on the locks of the file's database shows.
fn watch_of(state: &State, id: FileId) -> Option<u64> {
    let file = state.files.get(&id)?;
    let database = file.path.as_deref().and_then(super::groups::database_of);
    let database = database.and_then(|path| state.by_path.get(path));
    let file = database.and_then(|id| state.files.get(id)).unwrap_or(file);
    Some(file.watch.load(Relaxed))
}

/// What a durable flush has to sync: logs, then databases, then directories.
fn targets(state: &State, scope: Option<GroupId>) -> Vec<Target> {
    let scope = scope.map(|group| state.groups.find(group));
    let mut open = Vec::new();
    for handle in state.handles.values() {
        let Some(file) = state.files.get(&handle.file) else { continue };
        let group = state.groups.find(file.group);
        let is_meant = scope.is_none_or(|scope| scope == group);
        let is_alive = state.groups.latch(group).is_none();
        if file.unsynced && file.role != Role::Temporary && is_meant && is_alive {
            let (slot, path) = (Arc::clone(&handle.writer), file.path.clone());
            open.push((
                file.role != Role::Log,
                Target::Open { slot, file: handle.file, group, path },
            ));
        }
    }
    open.sort_by_key(|(is_database, target)| match target {
        Target::Open { file, .. } => (*is_database, *file),
        _ => (*is_database, FileId(0)),
    });
    open.dedup_by(|(_, one), (_, other)| match (one, other) {
        (Target::Open { file: one, .. }, Target::Open { file: other, .. }) => one == other,
        _ => false,
    });
    let mut targets: Vec<Target> = open.into_iter().map(|(_, target)| target).collect();
    let mut closed: Vec<_> = state.unsynced_closed.iter().collect();
    closed.sort_by_key(|(path, (role, _))| (*role != Role::Log, (*path).clone()));
    targets.extend(
        closed
            .into_iter()
            .map(|(path, (_, base))| Target::Closed { path: path.clone(), base: Arc::clone(base) }),
    );
    targets.extend(state.unsynced_directories.iter().map(|(directory, (path, base))| {
        let (directory, path) = (directory.clone(), path.clone());
        Target::Directory { directory, path, base: Arc::clone(base) }
    }));
    targets
}

// ---- performing

impl Batch {
    /// Does the work.
    pub(super) fn perform(&self, shared: &Shared) -> Outcome {
        let mut outcome = Outcome::new(Ok(()));
        outcome.result = match &self.work {
            Work::Nothing | Work::SkippedSync => {
                shared.trace(|| format!("{} {}", self.operation, self.name()));
                Ok(())
            }
            Work::Write { slot, plan } => {
                plan.calls.iter().try_for_each(|call| self.write(shared, slot, call))
            }
            Work::Truncate { slot, size } => {
                shared.trace(|| format!("TRUNCATE {} to {size} bytes", self.name()));
                use_file(slot, |file| file.truncate(*size))
            }
            Work::Sync { slot, kind, directory } => {
                shared.trace(|| format!("SYNC {}", self.name()));
                use_file(slot, |file| file.sync(*kind)).and_then(|()| sync_along(directory))
            }
            Work::Close { locks, slots } => {
                shared.trace(|| format!("CLOSE {}", self.name()));
                self.close(locks, slots);
                Ok(())
            }
            Work::Delete { path, sync_directory, base } => {
                shared.trace(|| format!("DELETE {}", path.display()));
                base.delete(path, *sync_directory)
            }
            Work::Open { path, request, base, slot } => {
                let flag = u32::from(request.delete_on_close);
                shared.trace(|| format!("OPEN {} delFlag={flag}", self.name()));
                open(path.as_deref(), *request, &**base, slot)
                    .map(|identity| outcome.identity = identity)
            }
            Work::SyncDirectory { path, base } => {
                let directory = path.parent().unwrap_or(path);
                shared.trace(|| format!("SYNCDIR {}", directory.display()));
                base.sync_directory(path)
            }
            Work::Unlock { locks } => {
                shared.trace(|| format!("UNLOCK {}", self.name()));
                let handle = self.handle.unwrap_or(HandleId(0));
                locks.lock().unlock_reached(handle)
            }
            Work::Barrier { targets, .. } => {
                shared.trace(|| "BARRIER".to_owned());
                let mut all = targets.iter();
                all.try_for_each(|target| sync_target(target).map(|()| outcome.synced += 1))
            }
        };
        outcome
    }

    fn write(&self, shared: &Shared, slot: &Slot, call: &Call) -> Result<()> {
        shared
            .trace(|| format!("WRITE {} {} bytes at {}", self.name(), call.length(), call.offset));
        use_file(slot, |file| match call.pieces.as_slice() {
            [piece] => file.write_at(piece.bytes(), call.offset),
            pieces => {
                let pieces: Vec<IoSlice<'_>> =
                    pieces.iter().map(|piece| IoSlice::new(piece.bytes())).collect();
                file.write_vectored_at(&pieces, call.offset)
            }
        })
    }

    /// What the handle held is let go, and its base handles closed, unless the lock of others
    /// hangs on one of them.
    fn close(&self, locks: &Mutex<FileLocks>, slots: &[Arc<Slot>]) {
        let mut locks = locks.lock();
        // Errors of letting go are not reported: closing does so in any case.
        let _ = locks.remove(self.handle.unwrap_or(HandleId(0)));
        for slot in slots.iter().filter(|slot| !locks.needs(slot)) {
            let file = slot.file.lock().take();
            drop(file);
        }
    }
}

fn use_file(
    slot: &Slot,
    call: impl FnOnce(&mut dyn super::super::File) -> Result<()>,
) -> Result<()> {
    slot.with(call).unwrap_or(Err(Error::Internal("an operation on a file that is not open")))
}

/// A directory that cannot be opened is none of the file's business.
fn sync_along(directory: &Option<(PathBuf, Arc<dyn Vfs>)>) -> Result<()> {
    match directory.as_ref().map(|(path, base)| base.sync_directory(path)) {
        None | Some(Ok(()) | Err(Error::CannotOpen(_))) => Ok(()),
        Some(failed) => failed,
    }
}

fn open(
    path: Option<&Path>,
    request: OpenRequest,
    base: &dyn Vfs,
    slot: &Slot,
) -> Result<Option<Identity>> {
    let opened = base.open(path, request)?;
    if opened.read_only {
        return Err(Error::CannotOpen("writing is not permitted"));
    }
    let identity = opened.file.identity();
    *slot.file.lock() = Some(opened.file);
    Ok(identity)
}

fn sync_target(target: &Target) -> Result<()> {
    match target {
        Target::Open { slot, .. } => {
            slot.with(|file| file.sync(SyncKind::Normal)).unwrap_or(Ok(()))
        }
        Target::Closed { path, base } => {
            let request = super::vfs::reopening();
            match base.open(Some(path), request) {
                Ok(mut opened) => opened.file.sync(SyncKind::Normal),
                // It was removed behind our back: nothing is left to be saved.
                Err(Error::CannotOpen(_)) => Ok(()),
                Err(error) => Err(error),
            }
        }
        Target::Directory { path, base, .. } => match base.sync_directory(path) {
            Err(Error::CannotOpen(_)) => Ok(()),
            other => other,
        },
    }
}

// ---- finishing

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
        Work::Nothing if batch.operation == "NOOP" => {
            state.leave(batch.position, |counters| counters.dropped += 1);
        }
        work => {
            let is_sync = u64::from(matches!(work, Work::Sync { .. }));
            if result.is_ok() {
                finish_effect(state, &batch, outcome.identity);
            }
            if matches!(work, Work::Close { .. }) {
                finish_close(state, &batch);
            }
            state.leave(batch.position, |counters| {
                counters.executed += 1;
                counters.syncs += is_sync;
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

fn finish_effect(state: &mut State, batch: &Batch, identity: Option<Identity>) {
    match &batch.work {
        Work::Open { path: Some(path), request, base, .. } => {
            if let Some(file) = batch.file {
                state.set_identity(file, identity);
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

/// The level that an unlocking leaves, as a word for traces.
pub(super) fn level_name(level: LockLevel) -> &'static str {
    match level {
        LockLevel::None => "none",
        LockLevel::Shared => "shared",
        LockLevel::Reserved => "reserved",
        LockLevel::Pending => "pending",
        LockLevel::Exclusive => "exclusive",
    }
}
