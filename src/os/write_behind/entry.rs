//! What stands in the queue.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::super::pending::Position;
use super::super::{LockLevel, OpenKind, OpenRequest, SyncKind, Vfs};
use super::groups::GroupId;
use crate::memory::Bytes;

/// A file over all its life in the layer, whatever its name and its handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId(pub(super) u64);

/// A handle of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct HandleId(pub(super) u64);

/// A flush that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ticket(pub(super) u64);

/// What a file is for, as far as the order of its writes is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A database: what it had is in a journal.
    Database,
    /// A journal, or unknown: its writes must arrive in their order.
    Log,
    /// Invisible after any crash.
    Temporary,
}

impl Role {
    /// The role of a file that is opened so.
    pub(super) fn of(request: &OpenRequest) -> Role {
        match request.kind {
            _ if request.delete_on_close => Role::Temporary,
            OpenKind::Database => Role::Database,
            OpenKind::Journal | OpenKind::SuperJournal | OpenKind::Plain => Role::Log,
            OpenKind::TemporaryDatabase | OpenKind::TemporaryJournal | OpenKind::SubJournal => {
                Role::Temporary
            }
        }
    }
}

/// An operation.
#[derive(Debug, Clone)]
#[doc(alias = "AsyncWrite")]
pub(super) enum Op {
    /// What was dropped after an error.
    Noop,
    Write {
        offset: u64,
        data: Bytes,
    },
    Sync(SyncKind),
    Truncate {
        size: u64,
    },
    Close,
    OpenDirectory {
        path: PathBuf,
    },
    SetFullSync(bool),
    Delete {
        path: PathBuf,
        sync_directory: bool,
        base: Arc<dyn Vfs>,
    },
    OpenExclusive {
        path: Option<PathBuf>,
        request: OpenRequest,
        base: Arc<dyn Vfs>,
    },
    SyncDirectory {
        path: PathBuf,
        base: Arc<dyn Vfs>,
    },
    /// A real lock may fall.
    Unlock(LockLevel),
    /// A flush waits; of one group, or of all.
    Barrier {
        ticket: Ticket,
        scope: Option<GroupId>,
        durable: bool,
    },
}

impl Op {
    /// The number of the operation. 0 to 9 are the original's.
    pub(super) fn code(&self) -> u32 {
        match self {
            Op::Noop => 0,
            Op::Write { .. } => 1,
            Op::Sync(_) => 2,
            Op::Truncate { .. } => 3,
            Op::Close => 4,
            Op::OpenDirectory { .. } => 5,
            Op::SetFullSync(_) => 6,
            Op::Delete { .. } => 7,
            Op::OpenExclusive { .. } => 8,
            Op::SyncDirectory { .. } => 9,
            Op::Unlock(_) => 10,
            Op::Barrier { .. } => 11,
        }
    }

    /// The name of the operation.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Op::Noop => "NOOP",
            Op::Write { .. } => "WRITE",
            Op::Sync(_) => "SYNC",
            Op::Truncate { .. } => "TRUNCATE",
            Op::Close => "CLOSE",
            Op::OpenDirectory { .. } => "OPENDIR",
            Op::SetFullSync(_) => "SETFULLSYNC",
            Op::Delete { .. } => "DELETE",
            Op::OpenExclusive { .. } => "OPENEX",
            Op::SyncDirectory { .. } => "SYNCDIR",
            Op::Unlock(_) => "UNLOCK",
            Op::Barrier { .. } => "BARRIER",
        }
    }

    /// Where a write begins, a truncated file ends; the flag or level of what has one; else 0.
    pub(super) fn offset(&self) -> u64 {
        match self {
            Op::Write { offset, .. } => *offset,
            Op::Truncate { size } => *size,
            Op::Sync(kind) => u64::from(*kind == SyncKind::Full),
            Op::SetFullSync(flag) => u64::from(*flag),
            Op::Delete { sync_directory, .. } => u64::from(*sync_directory),
            Op::OpenExclusive { request, .. } => u64::from(request.delete_on_close),
            Op::Unlock(level) => *level as u64,
            Op::Barrier { durable, .. } => u64::from(*durable),
            Op::Noop | Op::Close | Op::OpenDirectory { .. } | Op::SyncDirectory { .. } => 0,
        }
    }

    /// Bytes to be written.
    pub(super) fn payload(&self) -> u64 {
        match self {
            Op::Write { data, .. } => data.len() as u64,
            _ => 0,
        }
    }

    /// The name that the operation is about, if it is about a name.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Op::Delete { path, .. }
            | Op::SyncDirectory { path, .. }
            | Op::OpenDirectory { path } => Some(path),
            Op::OpenExclusive { path, .. } => path.as_deref(),
            _ => None,
        }
    }

    /// The range of a write.
    pub(super) fn range(&self) -> Option<Range<u64>> {
        match self {
            Op::Write { offset, data } => Some(*offset..offset.saturating_add(data.len() as u64)),
            _ => None,
        }
    }

    /// Whether the operation is carried out although its group has failed: what was closed must
    /// be closed, what was unlocked let go, and who waits must hear of it.
    pub(super) fn survives_error(&self) -> bool {
        matches!(self, Op::Noop | Op::Close | Op::Unlock(_) | Op::Barrier { .. })
    }
}

/// How far an entry got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    /// The executor has it in hand. Readers still see it as pending.
    Started,
    /// Over; it leaves the queue as soon as it is at its head.
    Done,
}

/// An operation in the queue.
#[derive(Debug)]
pub(super) struct Entry {
    /// Rises along the queue; a barrier may have the position of the entry before it.
    pub(super) position: Position,
    /// Its group when it was pushed, which may have been joined to another since.
    pub(super) group: GroupId,
    pub(super) file: Option<FileId>,
    pub(super) handle: Option<HandleId>,
    pub(super) op: Op,
    pub(super) progress: Progress,
    pub(super) pushed: Instant,
    /// A transaction that was reported as committed hangs on it.
    pub(super) is_commit: bool,
}

impl Entry {
    pub(super) fn is_done(&self) -> bool {
        self.progress == Progress::Done
    }

    pub(super) fn is_barrier(&self) -> bool {
        matches!(self.op, Op::Barrier { .. })
    }
}
