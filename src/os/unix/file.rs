//! `UnixFile`: positioned read and write, truncate, size, sync.

use std::cell::RefCell;
use std::io::IoSlice;
use std::path::PathBuf;

use super::super::{File, INHERITED, LockLevel, SyncKind};
use super::lock::LockedFile;
use super::mapped::MappedReads;
use super::sys::{self, Errno};
use crate::error::{Error, IoCall, Result};

/// An open file of the machine.
#[derive(Debug)]
pub(super) struct UnixFile {
    file: LockedFile,
    /// The name it was opened by; `None` if that was removed at once.
    path: Option<PathBuf>,
    /// Nothing that is called while this is borrowed comes back to the file.
    mapped: RefCell<MappedReads>,
}

impl UnixFile {
    /// A file just opened, by the name `path` if it keeps one.
    pub(super) fn new(file: LockedFile, path: Option<PathBuf>, mapped: MappedReads) -> UnixFile {
        UnixFile { file, path, mapped: RefCell::new(mapped) }
    }

    /// The file, for this process to use.
    #[inline]
    fn own(&self) -> Result<&LockedFile> {
        if self.file.is_inherited() { Err(INHERITED) } else { Ok(&self.file) }
    }

    /// The same, for changing its locks.
    fn own_mut(&mut self) -> Result<&mut LockedFile> {
        if self.file.is_inherited() { Err(INHERITED) } else { Ok(&mut self.file) }
    }

    fn read_by_calls(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(filled as u64);
            match sys::read(self.file.descriptor(), rest, at).map_err(failed(IoCall::Read))? {
                0 => {
                    rest.fill(0);
                    break;
                }
                count => filled += count,
            }
        }
        Ok(filled)
    }

    fn write_all(&self, mut bytes: &[u8], mut at: u64) -> Result<()> {
        while !bytes.is_empty() {
            let count = sys::write(self.file.descriptor(), bytes, at).map_err(write_error)?;
            if count == 0 {
                return Err(Error::Full);
            }
            bytes = bytes.get(count..).unwrap_or_default();
            at = at.saturating_add(count as u64);
        }
        self.mapped.borrow_mut().note_write(at);
        Ok(())
    }
}

fn failed(call: IoCall) -> impl Fn(Errno) -> Error {
    move |Errno(errno)| match errno {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG
            if matches!(call, IoCall::Write | IoCall::Truncate) =>
        {
            Error::Full
        }
        _ => Error::Io { call, errno },
    }
}

fn write_error(errno: Errno) -> Error {
    failed(IoCall::Write)(errno)
}

impl File for UnixFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let descriptor = self.own()?.descriptor();
        let mut mapped = self.mapped.borrow_mut();
        if mapped.read(buffer, offset) {
            return Ok(buffer.len());
        }
        let count = self.read_by_calls(buffer, offset)?;
        mapped.note_call(descriptor);
        Ok(count)
    }

    fn will_read(&self, offset: u64, length: usize) {
        self.mapped.borrow().will_read(offset, length);
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.own()?;
        self.write_all(bytes, offset)
    }

    fn write_vectored_at(&mut self, pieces: &[IoSlice<'_>], offset: u64) -> Result<()> {
        let descriptor = self.own()?.descriptor();
        let mut pieces = pieces;
        let mut at = offset;
        while !pieces.is_empty() {
            let mut count = sys::write_vectored(descriptor, pieces, at).map_err(write_error)?;
            at = at.saturating_add(count as u64);
            let offered = pieces.len().min(sys::PIECES_MAX);
            let mut done = 0;
            // Every piece that was written in whole, then the rest of one written in part.
            while let Some(piece) = pieces.get(done).filter(|_| done < offered) {
                if piece.len() > count {
                    let rest = piece.get(count..).unwrap_or_default();
                    self.write_all(rest, at)?;
                    at = at.saturating_add(rest.len() as u64);
                    done += 1;
                    break;
                }
                count -= piece.len();
                done += 1;
            }
            pieces = pieces.get(done..).unwrap_or_default();
        }
        self.mapped.get_mut().note_write(at);
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> Result<()> {
        let descriptor = self.own()?.descriptor();
        self.mapped.get_mut().note_size(size);
        sys::truncate(descriptor, size).map_err(failed(IoCall::Truncate))
    }

    fn sync(&mut self, kind: SyncKind) -> Result<()> {
        let descriptor = self.own()?.descriptor();
        match kind {
            SyncKind::Normal => sys::sync_data(descriptor),
            SyncKind::Full => sys::sync_all(descriptor),
        }
        .map_err(failed(IoCall::Sync))
    }

    fn size(&self) -> Result<u64> {
        let status = sys::status(self.own()?.descriptor()).map_err(failed(IoCall::Size))?;
        self.mapped.borrow_mut().note_size(status.size);
        Ok(if status.size == 1 { 0 } else { status.size })
    }

    fn lock(&mut self, level: LockLevel) -> Result<()> {
        self.own_mut()?.lock(level)
    }

    fn unlock(&mut self, level: LockLevel) -> Result<()> {
        self.own_mut()?.unlock(level)
    }

    fn lock_level(&self) -> LockLevel {
        self.file.level()
    }

    fn check_reserved_lock(&self) -> Result<bool> {
        self.own()?.check_reserved_lock()
    }

    fn has_moved(&self) -> Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        match sys::status_of(path) {
            Ok(status) => Ok(status.identity != self.file.identity()),
            Err(Errno(libc::ENOENT | libc::ENOTDIR)) => Ok(true),
            Err(errno) => Err(failed(IoCall::Size)(errno)),
        }
    }

    fn check_process(&self) -> Result<()> {
        self.own().map(|_| ())
    }

    fn identity(&self) -> Option<(u64, u64)> {
        Some(self.file.identity())
    }

    fn descriptor(&self) -> Option<i32> {
        Some(self.file.descriptor().get())
    }
}
