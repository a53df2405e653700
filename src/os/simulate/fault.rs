//! A disk that fails the n-th call, once or for good, or is full.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::super::{
    DeviceTraits, File, Hint, LockLevel, OpenKind, OpenRequest, Opened, SyncKind, Vfs,
};
use crate::error::Result;

mod knobs;
mod unsynced;

use unsynced::Record;

pub use knobs::{Arguments, FaultKnobs, LoggedCall, OpKind, PlannedFault, SharedKnobs, Suspension};

/// A disk that lets the calls through to another one, but counts, logs, delays or fails them as
/// its [`FaultKnobs`] say.
///
/// A vectored write counts as one call; a deletion with a directory sync as two. `full_path`,
/// `random`, `has_moved` and the queries without I/O are passed on unseen. A close cannot fail:
/// a fault planned for one is used up without effect.
#[derive(Debug)]
pub struct FaultVfs {
    inner: Arc<dyn Vfs>,
    knobs: SharedKnobs,
}

impl FaultVfs {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Vfs>, knobs: impl Into<SharedKnobs>) -> FaultVfs {
        FaultVfs { inner, knobs: knobs.into() }
    }

    /// The knobs.
    pub fn knobs(&self) -> &FaultKnobs {
        &self.knobs
    }

    fn before_directory_sync(&self, path: &Path) -> Result<()> {
        self.knobs.sync_count.fetch_add(1, Relaxed);
        Ok(self.knobs.before(OpKind::SyncDirectory, Some(path), Arguments::None)?)
    }
}

impl Vfs for FaultVfs {
    fn open(&self, path: Option<&Path>, request: OpenRequest) -> Result<Opened> {
        self.knobs.before(OpKind::Open, path, Arguments::Open(request))?;
        let opened = self.inner.open(path, request)?;
        self.knobs.open_file_count.fetch_add(1, Relaxed);
        // The journal of a temporary database was no temporary file to the original's count.
        if path.is_none() && request.kind != OpenKind::TemporaryJournal {
            self.knobs.opentemp_count.fetch_add(1, Relaxed);
        }
        let file = FaultFile {
            inner: opened.file,
            path: path.map(Path::to_owned),
            knobs: self.knobs.clone(),
            directory: None,
            vfs: Arc::clone(&self.inner),
        };
        Ok(Opened { file: Box::new(file), read_only: opened.read_only })
    }

    fn delete(&self, path: &Path, sync_directory: bool) -> Result<()> {
        self.knobs.before(OpKind::Delete, Some(path), Arguments::None)?;
        self.knobs.record(|record| {
            record.forget(path);
            Ok(())
        })?;
        if sync_directory && let Err(strike) = self.before_directory_sync(path) {
            self.inner.delete(path, false)?;
            return Err(strike);
        }
        self.inner.delete(path, sync_directory)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.knobs.before(OpKind::Exists, Some(path), Arguments::None)?;
        self.inner.exists(path)
    }

    fn is_taken(&self, path: &Path) -> Result<bool> {
        self.knobs.before(OpKind::Exists, Some(path), Arguments::None)?;
        self.inner.is_taken(path)
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        self.before_directory_sync(path)?;
        self.inner.sync_directory(path)
    }

    fn open_directory(&self, path: &Path) -> Result<()> {
        before_directory_open(&self.knobs, path)?;
        self.inner.open_directory(path)
    }

    fn full_path(&self, name: &Path) -> Result<PathBuf> {
        self.inner.full_path(name)
    }

    fn random(&self) -> u32 {
        self.inner.random()
    }
}

fn before_directory_open(knobs: &FaultKnobs, entry: &Path) -> Result<(), knobs::Strike> {
    let directory = entry.parent().unwrap_or(entry);
    knobs.before(OpKind::OpenDirectory, Some(directory), Arguments::None)
}

/// An open file of a [`FaultVfs`].
#[derive(Debug)]
struct FaultFile {
    inner: Box<dyn File>,
    path: Option<PathBuf>,
    knobs: SharedKnobs,
    /// A file in the directory that the next sync also makes durable.
    directory: Option<PathBuf>,
    vfs: Arc<dyn Vfs>,
}

impl FaultFile {
    /// Syncs the directory that was opened for the file. That it fails is no error of the file.
    fn sync_opened_directory(&mut self) {
        let Some(entry) = self.directory.take() else { return };
        self.knobs.sync_count.fetch_add(1, Relaxed);
        let struck = self.knobs.before(OpKind::SyncDirectory, Some(&entry), Arguments::None);
        if struck.is_ok() {
            let _ = self.vfs.sync_directory(&entry);
        }
    }

    fn before(&self, kind: OpKind, arguments: Arguments) -> Result<(), knobs::Strike> {
        self.knobs.before(kind, self.path.as_deref(), arguments)
    }

    /// Before the bytes from `offset` on are changed, `length` of them or all.
    fn note_old(&self, offset: u64, length: Option<u64>) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let note =
            |record: &mut Record| record.note(&self.vfs, path, self.inner.as_ref(), offset, length);
        self.knobs.record(note)
    }

    /// Before a write; a torn one does the first half of `pieces` here.
    fn before_write(&mut self, pieces: &[IoSlice<'_>], offset: u64) -> Result<()> {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.note_old(offset, Some(length))?;
        let Err(strike) = self.before(OpKind::Write, Arguments::Range { offset, length }) else {
            return Ok(());
        };
        let mut left = if strike.torn { length / 2 } else { 0 };
        let mut at = offset;
        for piece in pieces {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            let part = piece.get(..count).unwrap_or_default();
            // The error to report is the simulated one, whatever becomes of the half.
            if left == 0 || self.inner.write_at(part, at).is_err() {
                break;
            }
            left = left.saturating_sub(count as u64);
            at = at.saturating_add(count as u64);
        }
        Err(strike.error)
    }
}

impl File for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let length = buffer.len() as u64;
        self.before(OpKind::Read, Arguments::Range { offset, length })?;
        self.inner.read_at(buffer, offset)
    }

    fn will_read(&self, offset: u64, length: usize) {
        self.inner.will_read(offset, length);
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.before_write(&[IoSlice::new(bytes)], offset)?;
        self.inner.write_at(bytes, offset)
    }

    fn write_vectored_at(&mut self, pieces: &[IoSlice<'_>], offset: u64) -> Result<()> {
        self.before_write(pieces, offset)?;
        self.inner.write_vectored_at(pieces, offset)
    }

    fn truncate(&mut self, size: u64) -> Result<()> {
        self.note_old(size, None)?;
        self.before(OpKind::Truncate, Arguments::Size(size))?;
        self.inner.truncate(size)
    }

    fn sync(&mut self, kind: SyncKind) -> Result<()> {
        self.knobs.sync_count.fetch_add(1, Relaxed);
        if kind == SyncKind::Full {
            self.knobs.fullsync_count.fetch_add(1, Relaxed);
        }
        self.before(OpKind::Sync, Arguments::Sync(kind))?;
        self.inner.sync(kind)?;
        if let Some(path) = &self.path {
            self.knobs.record(|record| {
                record.forget(path);
                Ok(())
            })?;
        }
        self.sync_opened_directory();
        Ok(())
    }

    fn size(&self) -> Result<u64> {
        self.before(OpKind::Size, Arguments::None)?;
        self.inner.size()
    }

    fn lock(&mut self, level: LockLevel) -> Result<()> {
        self.before(OpKind::Lock, Arguments::Level(level))?;
        self.inner.lock(level)
    }

    fn unlock(&mut self, level: LockLevel) -> Result<()> {
        self.before(OpKind::Unlock, Arguments::Level(level))?;
        self.inner.unlock(level)
    }

    fn lock_level(&self) -> LockLevel {
        self.inner.lock_level()
    }

    fn check_reserved_lock(&self) -> Result<bool> {
        self.before(OpKind::CheckReservedLock, Arguments::None)?;
        self.inner.check_reserved_lock()
    }

    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }

    fn device(&self) -> DeviceTraits {
        self.inner.device()
    }

    fn has_moved(&self) -> Result<bool> {
        self.inner.has_moved()
    }

    fn check_process(&self) -> Result<()> {
        self.inner.check_process()
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.inner.identity()
    }

    fn descriptor(&self) -> Option<i32> {
        self.inner.descriptor()
    }

    fn open_directory(&mut self, entry: &Path) -> Result<()> {
        let opened = before_directory_open(&self.knobs, entry);
        self.directory = opened.is_ok().then(|| entry.to_owned());
        Ok(())
    }

    fn hint(&mut self, hint: Hint<'_>) {
        self.inner.hint(hint);
    }
}

impl Drop for FaultFile {
    fn drop(&mut self) {
        // The file is closed right after, by the drop of `inner`, whatever the knobs say.
        let _ = self.before(OpKind::Close, Arguments::None);
        self.knobs.open_file_count.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
