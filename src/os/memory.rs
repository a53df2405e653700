//! `MemoryVfs`: files in memory, for in-memory databases and fast tests.
//!
//! Named files are shared by all handles of one `MemoryVfs` and its clones, under the lock rules
//! that hold between handles of one process. A file without a name belongs to its handle.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::lock_state::{LockState, NoSystem};
use super::{Access, File, LockLevel, OpenRequest, Opened, SyncKind, Vfs};
use crate::error::{Error, Result};
use crate::memory;

/// Files in memory. Clones and handles share them; they vanish with the last of both.
#[derive(Debug, Default, Clone)]
pub struct MemoryVfs {
    disk: Arc<Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    files: Mutex<BTreeMap<PathBuf, Arc<Inode>>>,
    /// How many random numbers were given out.
    drawn: AtomicU64,
}

/// A file, whatever the number of its names (one or none) and handles.
#[derive(Debug)]
struct Inode {
    content: Mutex<Vec<u8>>,
    locks: Mutex<LockState>,
}

impl Inode {
    fn new(content: Vec<u8>) -> Arc<Inode> {
        Arc::new(Inode { content: Mutex::new(content), locks: Mutex::new(LockState::new()) })
    }
}

impl MemoryVfs {
    /// An empty file system.
    pub fn new() -> MemoryVfs {
        MemoryVfs::default()
    }

    /// Puts a file of this content under `path`, which is spelled as [`Vfs::full_path`] does. A
    /// file that was there before lives on in its handles only.
    pub fn put(&self, path: impl Into<PathBuf>, content: Vec<u8>) {
        self.disk.files.lock().insert(path.into(), Inode::new(content));
    }

    /// The content of the file `path`, `None` if there is none.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.disk.files.lock().get(path).map(|inode| inode.content.lock().clone())
    }

    /// The names of all files, in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.disk.files.lock().keys().cloned().collect()
    }
}

impl Vfs for MemoryVfs {
    fn open(&self, path: Option<&Path>, request: OpenRequest) -> Result<Opened> {
        let mut name = None;
        let inode = match path {
            None => Inode::new(Vec::new()),
            Some(path) => {
                let mut files = self.disk.files.lock();
                let inode = match files.get(path) {
                    Some(_) if request.exclusive => {
                        return Err(Error::CannotOpen("it exists already"));
                    }
                    Some(inode) => Arc::clone(inode),
                    None if request.exclusive || request.access == Access::Create => {
                        let inode = Inode::new(Vec::new());
                        files.insert(path.to_owned(), Arc::clone(&inode));
                        inode
                    }
                    None => return Err(Error::CannotOpen("no such file or directory")),
                };
                if request.delete_on_close {
                    files.remove(path);
                } else {
                    name = Some((Arc::clone(&self.disk), path.to_owned()));
                }
                inode
            }
        };
        let read_only = request.access == Access::ReadOnly && !request.exclusive;
        let file = MemoryFile { inode, name, read_only, level: LockLevel::None };
        Ok(Opened { file: Box::new(file), read_only })
    }

    fn delete(&self, path: &Path, _sync_directory: bool) -> Result<()> {
        self.disk.files.lock().remove(path);
        Ok(())
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        Ok(self.disk.files.lock().get(path).is_some_and(|inode| !inode.content.lock().is_empty()))
    }

    fn is_taken(&self, path: &Path) -> Result<bool> {
        Ok(self.disk.files.lock().contains_key(path))
    }

    fn sync_directory(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    /// There are no links and no working directory: a relative name starts at the root.
    fn full_path(&self, name: &Path) -> Result<PathBuf> {
        let mut path = PathBuf::from("/");
        for component in name.components() {
            match component {
                Component::Normal(part) => path.push(part),
                Component::ParentDir => {
                    path.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Ok(path)
    }

    /// The same row of numbers in each new `MemoryVfs`.
    fn random(&self) -> u32 {
        let drawn = self.disk.drawn.fetch_add(1, Ordering::Relaxed);
        (super::simulate::scramble(drawn) >> 32) as u32
    }
}

/// An open file in memory.
#[derive(Debug)]
struct MemoryFile {
    inode: Arc<Inode>,
    /// Where it was found, and by what name.
    name: Option<(Arc<Disk>, PathBuf)>,
    read_only: bool,
    level: LockLevel,
}

impl MemoryFile {
    fn check_writable(&self) -> Result<()> {
        if self.read_only { Err(Error::Permission) } else { Ok(()) }
    }
}

/// Lengthens `content` to `length` bytes, if it is shorter.
fn extend(content: &mut Vec<u8>, length: usize) -> Result<()> {
    let missing = length.saturating_sub(content.len());
    if missing > 0 {
        memory::reserve(content, missing)?;
        content.resize(length, 0);
    }
    Ok(())
}

fn in_memory(position: u64) -> Result<usize> {
    usize::try_from(position).map_err(|_| Error::Full)
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let content = self.inode.content.lock();
        let there = usize::try_from(offset).ok().and_then(|start| content.get(start..));
        let there = there.unwrap_or_default();
        let count = there.len().min(buffer.len());
        let (found, missing) = buffer.split_at_mut(count);
        found.copy_from_slice(there.get(..count).unwrap_or_default());
        missing.fill(0);
        Ok(count)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.check_writable()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let start = in_memory(offset)?;
        let end = start.checked_add(bytes.len()).ok_or(Error::Full)?;
        let mut content = self.inode.content.lock();
        if start == content.len() {
            memory::reserve(&mut *content, bytes.len())?;
            content.extend_from_slice(bytes);
            return Ok(());
        }
        extend(&mut content, end)?;
        if let Some(range) = content.get_mut(start..end) {
            range.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> Result<()> {
        self.check_writable()?;
        let size = in_memory(size)?;
        let mut content = self.inode.content.lock();
        content.truncate(size);
        extend(&mut content, size)
    }

    fn sync(&mut self, _kind: SyncKind) -> Result<()> {
        Ok(())
    }

    fn size(&self) -> Result<u64> {
        let length = self.inode.content.lock().len() as u64;
        Ok(if length == 1 { 0 } else { length })
    }

    fn lock(&mut self, level: LockLevel) -> Result<()> {
        self.inode.locks.lock().raise(&mut self.level, level, &NoSystem)
    }

    fn unlock(&mut self, level: LockLevel) -> Result<()> {
        self.inode.locks.lock().lower(&mut self.level, level, &NoSystem)
    }

    fn lock_level(&self) -> LockLevel {
        self.level
    }

    fn check_reserved_lock(&self) -> Result<bool> {
        Ok(self.inode.locks.lock().strongest() > LockLevel::Shared)
    }

    fn has_moved(&self) -> Result<bool> {
        let Some((disk, path)) = &self.name else { return Ok(false) };
        let files = disk.files.lock();
        Ok(!files.get(path).is_some_and(|inode| Arc::ptr_eq(inode, &self.inode)))
    }

    /// The address of what all handles of the file share.
    fn identity(&self) -> Option<(u64, u64)> {
        Some((0, Arc::as_ptr(&self.inode).addr() as u64))
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        // Without a system beneath, lowering to nothing cannot fail.
        let _ = self.inode.locks.lock().lower(&mut self.level, LockLevel::None, &NoSystem);
    }
}

#[cfg(test)]
mod tests;
