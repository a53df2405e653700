use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::simulate::{FaultKnobs, FaultVfs};
use super::super::{
    Access, File, Hint, LockLevel, MemoryVfs, OpenKind, OpenRequest, SyncKind, Vfs,
};
use super::*;
use crate::error::{Error, IoCall};

mod errors;
mod forego;
mod limits;
mod locking;
#[cfg(loom)]
mod model;
mod names;
mod order;
mod reading;
mod room;
mod rules;
mod sharing;
mod threads;

/// A queue over a disk in memory, whose calls are logged.
pub(super) struct Bench {
    pub(super) memory: MemoryVfs,
    pub(super) knobs: Arc<FaultKnobs>,
    pub(super) control: WriteBehind,
    pub(super) vfs: WriteBehindVfs,
}

impl Bench {
    pub(super) fn new() -> Bench {
        let memory = MemoryVfs::new();
        let knobs = Arc::new(FaultKnobs::default());
        let base = FaultVfs::new(Arc::new(memory.clone()), Arc::clone(&knobs));
        let control = WriteBehind::new();
        let vfs = WriteBehindVfs::new(Arc::new(base), &control);
        Bench { memory, knobs, control, vfs }
    }

    pub(super) fn open_kind(&self, path: &str, kind: OpenKind, access: Access) -> Box<dyn File> {
        self.vfs.open(Some(Path::new(path)), request(kind, access)).unwrap().file
    }

    pub(super) fn database(&self, path: &str) -> Box<dyn File> {
        self.open_kind(path, OpenKind::Database, Access::Create)
    }

    pub(super) fn journal(&self, path: &str) -> Box<dyn File> {
        self.open_kind(path, OpenKind::Journal, Access::Create)
    }

    pub(super) fn flush(&self) {
        self.control.flush(None, Durability::Written, None).unwrap();
    }

    pub(super) fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.memory.content(Path::new(path))
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.control.queue().iter().map(|op| op.name).collect()
    }

    pub(super) fn check_statistics(&self) {
        let s = self.control.statistics(None);
        assert_eq!(s.pushed, s.executed + s.merged + s.elided + s.dropped + s.queued_ops, "{s:?}");
        assert_eq!(s.queued_ops, self.control.status().ops);
    }

    /// Halts and waits for the writer, which does what is queued.
    pub(super) fn stop(&self) {
        self.control.set_halt(Halt::Idle);
        self.control.wait().unwrap();
        self.control.set_halt(Halt::Never);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.control.set_halt(Halt::Now);
        self.control.wait().unwrap();
        self.check_statistics();
    }
}

pub(super) fn request(kind: OpenKind, access: Access) -> OpenRequest {
    OpenRequest { kind, access, exclusive: false, delete_on_close: false, lock_offset: 0x4000_0000 }
}

pub(super) fn read(file: &dyn File, offset: u64, length: usize) -> Vec<u8> {
    let mut buffer = vec![0xee; length];
    let count = file.read_at(&mut buffer, offset).unwrap();
    buffer.truncate(count);
    buffer
}

pub(super) fn path(path: &str) -> PathBuf {
    PathBuf::from(path)
}
