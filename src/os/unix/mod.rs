//! `UnixVfs`: open, delete, exists, full path, directory sync.

use std::path::{Path, PathBuf};

use super::{OpenRequest, Opened, Vfs};
use crate::error::Result;

/// The file system of the machine.
#[derive(Debug, Default)]
pub struct UnixVfs {}

impl UnixVfs {
    /// The file system of the machine.
    pub fn new() -> UnixVfs {
        UnixVfs::default()
    }
}

impl Vfs for UnixVfs {
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
