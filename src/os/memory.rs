//! `MemoryVfs`: files in memory, for in-memory databases and fast tests.

use std::path::{Path, PathBuf};

use super::{OpenRequest, Opened, Vfs};
use crate::error::Result;

/// Files in memory. Clones and handles share them; they vanish with the last of both.
#[derive(Debug, Default)]
pub struct MemoryVfs {}

impl MemoryVfs {
    /// An empty file system.
    pub fn new() -> MemoryVfs {
        MemoryVfs::default()
    }
}

impl Vfs for MemoryVfs {
    fn open(&self, _path: Option<&Path>, _request: OpenRequest) -> Result<Opened> {
        todo!()
    }
    fn delete(&self, _path: &Path, _sync_directory: bool) -> Result<()> {
        todo!()
    }
    fn exists(&self, _path: &Path) -> Result<bool> {
        todo!()
    }
    fn sync_directory(&self, _path: &Path) -> Result<()> {
        todo!()
    }
    fn full_path(&self, _name: &Path) -> Result<PathBuf> {
        todo!()
    }
    fn random(&self) -> u32 {
        todo!()
    }
}
