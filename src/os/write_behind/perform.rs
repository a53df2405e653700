//! The work of the executor at the disk beneath, with nothing locked but the base handle.

use std::borrow::Cow;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::pending::Piece;
use super::super::{File, OpenRequest, SyncKind, Vfs};
use super::batch::{Batch, Outcome, Target, Work};
use super::coalesce::Call;
use super::entry::HandleId;
use super::locks::{FileLocks, Slot};
use super::shared::Shared;
use super::state::Identity;
use super::sync::Mutex;
use crate::error::{Error, Result};
use crate::memory;

impl Batch {
    /// Does the work.
    pub(super) fn perform(&self, shared: &Shared) -> Outcome {
        let mut outcome = Outcome::new(Ok(()));
        outcome.result = match &self.work {
            Work::Nothing | Work::SkippedSync | Work::Foregone => {
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
                let synced = use_file(slot, |file| file.sync(*kind));
                synced
                    .and_then(|()| sync_along(directory))
                    .map(|is_there| outcome.lacks_directory = !is_there)
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
            Work::Open { path: Some(path), base, stillborn, .. }
                if !stillborn.is_empty() && base.exists(path) == Ok(false) =>
            {
                shared.trace(|| format!("OPEN {} delFlag=0", self.name()));
                outcome.foregone = true;
                Ok(())
            }
            Work::Open { path, request, base, slot, .. } => {
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
            Work::OpenDirectory { path, base } => {
                let directory = path.parent().unwrap_or(path);
                shared.trace(|| format!("OPENDIR {}", directory.display()));
                outcome.lacks_directory = base.open_directory(path).is_err();
                Ok(())
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
            [piece] => match piece.bytes().contiguous() {
                Ok(bytes) => file.write_at(&bytes, call.offset),
                Err(_) => write_as_stored(file, call),
            },
            pieces => {
                let mut slices = Vec::new();
                let contiguous = contiguous(pieces).and_then(|bytes| {
                    memory::reserve_exact(&mut slices, bytes.len()).map(|()| bytes)
                });
                let Ok(contiguous) = contiguous else { return write_as_stored(file, call) };
                slices.extend(contiguous.iter().map(|bytes| IoSlice::new(bytes)));
                file.write_vectored_at(&slices, call.offset)
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

/// Each piece in one.
fn contiguous(pieces: &[Piece]) -> Result<Vec<Cow<'_, [u8]>>> {
    let mut contiguous = Vec::new();
    memory::reserve_exact(&mut contiguous, pieces.len())?;
    for piece in pieces {
        contiguous.push(piece.bytes().contiguous()?);
    }
    Ok(contiguous)
}

/// Writes what there is no memory to put together, as it is stored, from first to last. It was
/// reported as written long ago, so it must not be lost for that.
fn write_as_stored(file: &mut dyn File, call: &Call) -> Result<()> {
    let (mut at, mut result) = (call.offset, Ok(()));
    for piece in &call.pieces {
        piece.bytes().visit(|bytes| {
            if result.is_ok() {
                result = file.write_at(bytes, at);
            }
            at += bytes.len() as u64;
        });
    }
    result
}

fn use_file(slot: &Slot, call: impl FnOnce(&mut dyn File) -> Result<()>) -> Result<()> {
    slot.with(call).unwrap_or(Err(Error::Internal("an operation on a file that is not open")))
}

/// A directory that cannot be opened is none of the file's business. Returns whether it could.
fn sync_along(directory: &Option<(PathBuf, Arc<dyn Vfs>)>) -> Result<bool> {
    match directory.as_ref().map(|(path, base)| base.sync_directory(path)) {
        None | Some(Ok(())) => Ok(true),
        Some(Err(Error::CannotOpen(_))) => Ok(false),
        Some(Err(error)) => Err(error),
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
