//! One step of the executor: what is at the head is taken in hand.
//!
//! ```text
//!   take (state locked) ──► perform (nothing locked but the base handle) ──► finish (state locked)
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::super::pending::Position;
use super::super::{OpenRequest, SyncKind, Vfs};
use super::coalesce::{self, Plan};
use super::entry::{Entry, FileId, HandleId, Op, Progress, Role, Ticket};
use super::forego;
use super::groups::GroupId;
use super::locks::{FileLocks, Slot};
use super::rules::{Rule, Rules};
use super::state::{Identity, State};
use super::sync::Mutex;
use crate::error::{Error, Result};

/// What is to be done at the disk beneath.
#[derive(Debug)]
pub(super) enum Work {
    /// Nothing.
    Nothing,
    /// A sync of what is synced already.
    SkippedSync,
    /// What nobody can notice.
    Foregone,
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
        /// What is left out with it if the name is free on disk.
        stillborn: Vec<Position>,
    },
    SyncDirectory {
        path: PathBuf,
        base: Arc<dyn Vfs>,
    },
    /// For the next sync of the handle.
    OpenDirectory {
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
pub(super) enum Target {
    Open { slot: Arc<Slot>, file: FileId, group: GroupId, path: Option<PathBuf> },
    Closed { path: PathBuf, base: Arc<dyn Vfs> },
    Directory { directory: PathBuf, path: PathBuf, base: Arc<dyn Vfs> },
}

/// What the executor has in hand.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) group: GroupId,
    pub(super) file: Option<FileId>,
    pub(super) handle: Option<HandleId>,
    /// The file's name, for traces and reports.
    pub(super) path: Option<PathBuf>,
    pub(super) operation: &'static str,
    pub(super) position: Position,
    pub(super) is_commit: bool,
    pub(super) work: Work,
}

/// What `perform` found out.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) result: Result<()>,
    pub(super) identity: Option<Identity>,
    /// Of a barrier: how many targets were synced.
    pub(super) synced: usize,
    /// Of a stillborn journal: it was left out.
    pub(super) foregone: bool,
    /// The directory that a sync takes along, or was to, could not be opened.
    pub(super) lacks_directory: bool,
}

impl Outcome {
    /// Nothing is known but the result.
    pub(super) fn new(result: Result<()>) -> Outcome {
        Outcome { result, identity: None, synced: 0, foregone: false, lacks_directory: false }
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

    /// The file, for traces.
    pub(super) fn name(&self) -> String {
        self.path.as_deref().unwrap_or(Path::new("(temporary)")).display().to_string()
    }
}

/// Whether the head must wait for a reader.
pub(super) fn waits_for_reader(state: &State) -> bool {
    let Some(head) = state.queue.entries().front() else { return false };
    let changes = matches!(head.op, Op::Write { .. } | Op::Truncate { .. });
    let file = head.file.and_then(|id| state.files.get(&id));
    changes && file.is_some_and(|file| file.readers > 0)
}

/// Takes the head in hand, with what may go along. `None` if the queue is empty.
pub(super) fn take(state: &mut State, rules: Rules) -> Option<Batch> {
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
        op if rules.allow(Rule::Invisible) && forego::is_invisible(state, head.file, op) => {
            Work::Foregone
        }
        Op::Write { .. } => take_write(state, &batch, rules),
        op => {
            let op = op.clone();
            take_other(state, &batch, op, rules)
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

fn take_write(state: &State, batch: &Batch, rules: Rules) -> Work {
    let entries = state.queue.entries();
    let members = match batch.file.and_then(|id| state.files.get(&id)) {
        Some(file) => {
            let sorts = file.role != Role::Log && rules.allow(Rule::Sort);
            match coalesce::Run::of(sorts, rules.allow(Rule::Join)) {
                Some(kind) => coalesce::run(entries, kind, |group| state.groups.find(group)),
                None => vec![0],
            }
        }
        None => vec![0],
    };
    let covered = match rules.allow(Rule::Cover) {
        true => forego::covered(state, &members),
        false => Vec::new(),
    };
    let writes = members.iter().filter_map(|&index| entries.get(index));
    let plan = coalesce::plan(writes, &covered);
    match batch.handle.and_then(|id| state.handles.get(&id)) {
        Some(handle) => Work::Write { slot: Arc::clone(&handle.writer), plan },
        None => Work::Nothing,
    }
}

fn take_other(state: &mut State, batch: &Batch, op: Op, rules: Rules) -> Work {
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
        return take_sync(state, batch, kind, rules);
    }
    let stillborn = match (&op, rules.allow(Rule::Stillborn)) {
        (Op::OpenExclusive { .. }, true) => forego::stillborn(state),
        _ => Vec::new(),
    };
    let Some(handle) = batch.handle.and_then(|id| state.handles.get_mut(&id)) else {
        return Work::Nothing;
    };
    let Some(file) = state.files.get(&handle.file) else { return Work::Nothing };
    match op {
        Op::Truncate { size } => Work::Truncate { slot: Arc::clone(&handle.writer), size },
        Op::OpenExclusive { path, request, base } => {
            Work::Open { path, request, base, slot: Arc::clone(&handle.writer), stillborn }
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
        Op::OpenDirectory { path } => Work::OpenDirectory { path, base: Arc::clone(&handle.base) },
        Op::SetFullSync(flag) => {
            handle.full_sync = flag;
            Work::Nothing
        }
        _ => Work::Nothing,
    }
}

fn take_sync(state: &mut State, batch: &Batch, kind: SyncKind, rules: Rules) -> Work {
    let Some(handle) = batch.handle.and_then(|id| state.handles.get_mut(&id)) else {
        return Work::Nothing;
    };
    let kind = if handle.full_sync { SyncKind::Full } else { kind };
    let slot = Arc::clone(&handle.writer);
    let directory = handle.directory.take();
    let skips = rules.allow(Rule::SkipSync)
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
pub(super) fn watch_of(state: &State, id: FileId) -> Option<u64> {
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
    closed.sort_by_key(|(path, (role, _))| (*role != Role::Log, *path));
    targets.extend(
        closed.into_iter().map(|(path, (_, base))| Target::Closed {
            path: path.to_owned(),
            base: Arc::clone(base),
        }),
    );
    targets.extend(state.unsynced_directories.iter().map(|(directory, (path, base))| {
        let (directory, path) = (directory.to_owned(), path.clone());
        Target::Directory { directory, path, base: Arc::clone(base) }
    }));
    targets
}
