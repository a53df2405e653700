//! Content that has no file, or none yet: `:memory:`, temporary databases, journals in memory.

use super::page::PageInfo;
use super::{Pager, Storage};
use crate::error::{Error, Result};
use crate::memory;
use crate::os::{Access, File, LockLevel, OpenKind, OpenRequest, SyncKind};

/// Bytes per piece of a file in memory.
const PIECE: usize = 1 << 16;

/// A private file in memory: pieces where something was written, zeros elsewhere.
#[derive(Debug, Default)]
pub(super) struct MemoryFile {
    pieces: Vec<Option<Box<[u8]>>>,
    size: u64,
}

impl MemoryFile {
    /// An empty file.
    pub(super) fn boxed() -> Box<dyn File> {
        Box::new(MemoryFile::default())
    }

    fn piece(&mut self, index: usize) -> Result<&mut [u8]> {
        if index >= self.pieces.len() {
            let more = index + 1 - self.pieces.len();
            memory::reserve(&mut self.pieces, more)?;
            self.pieces.resize_with(index + 1, || None);
        }
        let slot = &mut self.pieces[index];
        if slot.is_none() {
            let mut bytes = Vec::new();
            memory::reserve_exact(&mut bytes, PIECE)?;
            bytes.resize(PIECE, 0);
            *slot = Some(bytes.into_boxed_slice());
        }
        slot.as_deref_mut().ok_or(Error::NoMemory)
    }
}

/// Piece and offset in it.
fn locate(offset: u64) -> Result<(usize, usize)> {
    let piece = usize::try_from(offset / PIECE as u64).map_err(|_| Error::Full)?;
    Ok((piece, (offset % PIECE as u64) as usize))
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let there = self.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let (wanted, rest) = buffer.split_at_mut(there);
        rest.fill(0);
        let mut done = 0;
        while done < wanted.len() {
            let (piece, at) = locate(offset + done as u64)?;
            let length = (PIECE - at).min(wanted.len() - done);
            let target = &mut wanted[done..done + length];
            match self.pieces.get(piece) {
                Some(Some(bytes)) => target.copy_from_slice(&bytes[at..at + length]),
                _ => target.fill(0),
            }
            done += length;
        }
        Ok(there)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(Error::Full)?;
        let mut done = 0;
        while done < bytes.len() {
            let (piece, at) = locate(offset + done as u64)?;
            let length = (PIECE - at).min(bytes.len() - done);
            self.piece(piece)?[at..at + length].copy_from_slice(&bytes[done..done + length]);
            done += length;
        }
        self.size = self.size.max(end);
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> Result<()> {
        if size < self.size {
            let (piece, at) = locate(size)?;
            if at > 0
                && let Some(Some(bytes)) = self.pieces.get_mut(piece)
            {
                bytes[at..].fill(0);
            }
            self.pieces.truncate(piece + usize::from(at > 0));
        }
        self.size = size;
        Ok(())
    }

    fn sync(&mut self, _kind: SyncKind) -> Result<()> {
        Ok(())
    }

    fn size(&self) -> Result<u64> {
        Ok(self.size)
    }

    fn lock(&mut self, _level: LockLevel) -> Result<()> {
        Ok(())
    }

    fn unlock(&mut self, _level: LockLevel) -> Result<()> {
        Ok(())
    }

    fn lock_level(&self) -> LockLevel {
        LockLevel::Exclusive
    }

    fn check_reserved_lock(&self) -> Result<bool> {
        Ok(false)
    }
}

/// Temporary databases.
impl<X: PageInfo> Pager<X> {
    /// Gives a temporary database its unnamed file, if it has none yet.
    pub(super) fn materialise(&mut self) -> Result<()> {
        if self.storage != Storage::Temporary || self.materialised {
            return Ok(());
        }
        let mut file = self.open_temporary(OpenKind::TemporaryDatabase)?;
        let size = self.file.size()?;
        let mut piece = Vec::new();
        memory::reserve_exact(&mut piece, PIECE)?;
        piece.resize(PIECE, 0);
        let mut at = 0;
        while at < size {
            let there = self.file.read_at(&mut piece, at)?;
            file.write_at(piece.get(..there).unwrap_or_default(), at)?;
            at += there as u64;
        }
        self.file = file;
        self.materialised = true;
        Ok(())
    }

    /// Opens an unnamed file that vanishes when it is closed.
    pub(super) fn open_temporary(&self, kind: OpenKind) -> Result<Box<dyn File>> {
        let request = OpenRequest {
            kind,
            access: Access::Create,
            exclusive: true,
            delete_on_close: true,
            lock_offset: self.lock_offset,
        };
        Ok(self.vfs.open(None, request)?.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_memory_reads_what_was_written() {
        let mut file = MemoryFile::default();
        let bytes: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        file.write_at(&bytes, 70_000).unwrap();
        assert_eq!(file.size(), Ok(270_000));
        let mut buffer = vec![1; 1000];
        assert_eq!(file.read_at(&mut buffer, 69_500), Ok(1000));
        assert_eq!((&buffer[..500], &buffer[500..]), (&[0; 500][..], &bytes[..500]));
        file.truncate(100_000).unwrap();
        file.truncate(140_000).unwrap();
        assert_eq!(file.read_at(&mut buffer, 99_500), Ok(1000));
        assert_eq!((&buffer[..500], &buffer[500..]), (&bytes[29_500..30_000], &[0; 500][..]));
        assert_eq!(file.read_at(&mut buffer, 139_900), Ok(100));
        assert_eq!(file.read_at(&mut buffer, 1 << 40), Ok(0));
    }
}
