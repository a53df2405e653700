//! A disk in memory that remembers every change, and can say afterwards what would be left of it
//! had the process died or the power failed at any point.
//!
//! ```text
//!   run on CrashDisk ─► changes 1 2 3 … n ─► killed(k, cut)      ─┐
//!                                         └► power_lost(k, fate) ─┴► DiskImage ─► recover, check
//! ```
//!
//! Changes are numbered from 1; an image "after k" has seen the first k of them. The fault model
//! is stated in [`simulate`](super).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::{File, LockLevel, MemoryVfs, OpenRequest, Opened, SyncKind, Vfs};
use crate::error::Result;

mod image;

pub use image::{DiskImage, Unsynced};

/// A file over all its life, whatever its name.
type FileId = usize;

/// A change of the disk, or a promise about changes before it.
#[derive(Debug)]
enum Change {
    Create { path: PathBuf, file: FileId },
    Delete { path: PathBuf },
    Write { file: FileId, offset: u64, bytes: Vec<u8> },
    Truncate { file: FileId, size: u64 },
    Sync { file: FileId },
    SyncDirectory { directory: PathBuf },
}

#[derive(Debug, Default)]
struct Record {
    /// What was there, durably, before the first change; its files have the first ids.
    start: BTreeMap<PathBuf, Vec<u8>>,
    changes: Vec<Change>,
    /// The files that have a name now.
    names: BTreeMap<PathBuf, FileId>,
    /// The id of the next file.
    next: FileId,
}

/// A disk in memory that remembers every change. Clones share it.
///
/// Temporary files without a name are not recorded: nothing of them survives in any case.
#[derive(Debug, Default, Clone)]
pub struct CrashDisk {
    live: MemoryVfs,
    /// Taken around each change, so that the record has the order in which they were made.
    record: Arc<Mutex<Record>>,
}

impl CrashDisk {
    /// An empty disk.
    pub fn new() -> CrashDisk {
        CrashDisk::default()
    }

    /// A disk that starts with the files of `image`, all of them durable.
    pub fn starting_from(image: &DiskImage) -> CrashDisk {
        let start = image.files().clone();
        let names = start.keys().cloned().zip(0..).collect();
        let record = Record { next: start.len(), names, changes: Vec::new(), start };
        CrashDisk { live: image.to_memory(), record: Arc::new(Mutex::new(record)) }
    }

    /// How many changes were made so far, syncs included. The number of the latest one.
    pub fn change_count(&self) -> usize {
        self.record.lock().changes.len()
    }

    /// Length in bytes of change `number` (from 1) if it was a write: where it can be cut.
    pub fn write_length(&self, number: usize) -> Option<usize> {
        match self.record.lock().changes.get(number.checked_sub(1)?)? {
            Change::Write { bytes, .. } => Some(bytes.len()),
            _ => None,
        }
    }

    /// What is left when the process dies after the first `after` changes. With `cut`, the last
    /// of them, if it is a write, got no further than so many bytes.
    pub fn killed(&self, after: usize, cut: Option<usize>) -> DiskImage {
        image::killed(&self.record.lock(), after, cut)
    }

    /// What is left when the power fails after the first `after` changes, with this fate for
    /// what was not synced. Equal arguments give equal images.
    pub fn power_lost(&self, after: usize, unsynced: Unsynced) -> DiskImage {
        image::power_lost(&self.record.lock(), after, unsynced)
    }
}

impl Vfs for CrashDisk {
    fn open(&self, path: Option<&Path>, request: OpenRequest) -> Result<Opened> {
        let mut record = self.record.lock();
        let opened = self.live.open(path, request)?;
        let file = path.and_then(|path| record.opened(path, request.delete_on_close));
        let file = CrashFile { inner: opened.file, file, record: Arc::clone(&self.record) };
        Ok(Opened { file: Box::new(file), read_only: opened.read_only })
    }

    fn delete(&self, path: &Path, sync_directory: bool) -> Result<()> {
        let mut record = self.record.lock();
        self.live.delete(path, sync_directory)?;
        record.deleted(path);
        if sync_directory {
            record.directory_synced(path);
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.live.exists(path)
    }

    fn is_taken(&self, path: &Path) -> Result<bool> {
        self.live.is_taken(path)
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        self.record.lock().directory_synced(path);
        Ok(())
    }

    fn full_path(&self, name: &Path) -> Result<PathBuf> {
        self.live.full_path(name)
    }

    fn random(&self) -> u32 {
        self.live.random()
    }
}

impl Record {
    /// Notes a successful open. The id of the file, `None` if it keeps no name.
    fn opened(&mut self, path: &Path, delete_on_close: bool) -> Option<FileId> {
        if delete_on_close {
            self.deleted(path);
            return None;
        }
        if let Some(&file) = self.names.get(path) {
            return Some(file);
        }
        let file = self.next;
        self.next += 1;
        self.names.insert(path.to_owned(), file);
        self.changes.push(Change::Create { path: path.to_owned(), file });
        Some(file)
    }

    fn deleted(&mut self, path: &Path) {
        if self.names.remove(path).is_some() {
            self.changes.push(Change::Delete { path: path.to_owned() });
        }
    }

    fn directory_synced(&mut self, path: &Path) {
        self.changes.push(Change::SyncDirectory { directory: directory_of(path) });
    }
}

fn directory_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// An open file of a [`CrashDisk`].
#[derive(Debug)]
struct CrashFile {
    inner: Box<dyn File>,
    /// `None`: not recorded.
    file: Option<FileId>,
    record: Arc<Mutex<Record>>,
}

impl File for CrashFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut record = self.record.lock();
        self.inner.write_at(bytes, offset)?;
        if let Some(file) = self.file {
            record.changes.push(Change::Write { file, offset, bytes: bytes.to_vec() });
        }
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> Result<()> {
        let mut record = self.record.lock();
        self.inner.truncate(size)?;
        if let Some(file) = self.file {
            record.changes.push(Change::Truncate { file, size });
        }
        Ok(())
    }

    fn sync(&mut self, kind: SyncKind) -> Result<()> {
        let mut record = self.record.lock();
        self.inner.sync(kind)?;
        if let Some(file) = self.file {
            record.changes.push(Change::Sync { file });
        }
        Ok(())
    }

    fn size(&self) -> Result<u64> {
        self.inner.size()
    }

    fn lock(&mut self, level: LockLevel) -> Result<()> {
        self.inner.lock(level)
    }

    fn unlock(&mut self, level: LockLevel) -> Result<()> {
        self.inner.unlock(level)
    }

    fn lock_level(&self) -> LockLevel {
        self.inner.lock_level()
    }

    fn check_reserved_lock(&self) -> Result<bool> {
        self.inner.check_reserved_lock()
    }

    fn has_moved(&self) -> Result<bool> {
        self.inner.has_moved()
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.inner.identity()
    }
}

#[cfg(test)]
mod tests;
