//! A disk that records what is done to it, fails on command, and shows what a crash would leave.
//!
//! # Model of a crash
//!
//! - *Kill*: the executed operations are on the disk exactly; of the last write any number of
//!   leading bytes.
//! - *Power loss*: of each file, what was there at its last sync is intact. What was done later
//!   is lost, kept, or kept in part: either in order ([`Loss::Tail`]), or sector by sector and
//!   with any size that the file had since ([`Loss::Sectors`]).
//! - Creations and deletions happen in order; the last ones since the directory was synced may be
//!   undone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tclbtree::error::IoCall;
use tclbtree::os::{
    Access, DeviceTraits, File, Hint, LockLevel, MemoryVfs, OpenKind, OpenRequest, Opened,
    SyncKind, Vfs,
};
use tclbtree::{Error, Result};

use super::random::Random;

/// The unit that power loss damages, in bytes.
const SECTOR: usize = 512;

/// One change of the disk.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// A file appeared under a name.
    Create { path: PathBuf, inode: usize },
    /// Bytes were written.
    Write { inode: usize, offset: u64, bytes: Vec<u8> },
    /// A file was cut or extended.
    Truncate { inode: usize, size: u64 },
    /// A file became durable.
    Sync { inode: usize },
    /// A name vanished.
    Delete { path: PathBuf },
    /// The names became durable.
    SyncDirectory,
}

/// How operations fail, from the chosen one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The chosen operation fails, later ones work.
    Once,
    /// It and all later ones fail.
    Persistent,
    /// It and all later ones that need room fail.
    Full,
    /// The chosen operation fails; if it is a write, half of it reached the disk.
    Torn,
}

#[derive(Debug, Default)]
struct State {
    log: Vec<Op>,
    names: BTreeMap<PathBuf, usize>,
    inodes: usize,
    open_files: usize,
    operations: u64,
    fault: Option<(u64, Fault)>,
    hits: u64,
    random: u32,
}

impl State {
    /// Counts an operation and decides its fate; `grows`: it needs room on the disk.
    fn step(&mut self, call: IoCall, grows: bool) -> Result<()> {
        self.operations += 1;
        let Some((at, fault)) = self.fault else { return Ok(()) };
        let now = self.operations;
        let error = match fault {
            Fault::Once | Fault::Torn if now == at => Error::Io { call, errno: 0 },
            Fault::Persistent if now >= at => Error::Io { call, errno: 0 },
            Fault::Full if now >= at && grows => Error::Full,
            _ => return Ok(()),
        };
        self.hits += 1;
        Err(error)
    }

    fn is_torn(&self) -> bool {
        matches!(self.fault, Some((at, Fault::Torn)) if at == self.operations)
    }

    fn inode(&mut self, path: &Path) -> usize {
        if let Some(&inode) = self.names.get(path) {
            return inode;
        }
        let inode = self.inodes;
        self.inodes += 1;
        self.names.insert(path.to_owned(), inode);
        self.log.push(Op::Create { path: path.to_owned(), inode });
        inode
    }
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    files: Arc<MemoryVfs>,
    state: Arc<Mutex<State>>,
}

impl Disk {
    /// An empty disk that works.
    pub(crate) fn new() -> Disk {
        Disk { files: Arc::new(MemoryVfs::new()), state: Arc::default() }
    }

    /// The disk as the engine wants it.
    pub(crate) fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the lock")
    }

    /// Makes the `at`-th operation from now fail (1 is the next one).
    pub(crate) fn fail(&self, at: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.operations + at, fault));
        state.hits = 0;
    }

    /// Makes the disk work again.
    pub(crate) fn repair(&self) {
        self.state().fault = None;
    }

    /// How many operations failed since the last [`Disk::fail`].
    pub(crate) fn hits(&self) -> u64 {
        self.state().hits
    }

    /// Files that are open now.
    pub(crate) fn open_files(&self) -> usize {
        self.state().open_files
    }

    /// Number of operations that changed the disk so far.
    pub(crate) fn mark(&self) -> usize {
        self.state().log.len()
    }

    /// What changed the disk, from its beginning.
    pub(crate) fn log(&self) -> Vec<Op> {
        self.state().log.clone()
    }

    /// Puts a file on the disk.
    pub(crate) fn install(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut opened = self.open(Some(path), request(OpenKind::Database))?;
        opened.file.truncate(0)?;
        opened.file.write_at(bytes, 0)?;
        opened.file.sync(SyncKind::Full)
    }

    /// All bytes of a file; `None` if it does not exist.
    pub(crate) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let path = self.files.full_path(path).expect("path");
        if !self.state().names.contains_key(&path) {
            return None;
        }
        let opened = self.files.open(Some(&path), request(OpenKind::Database)).expect("open");
        let mut bytes = vec![0; opened.file.size().expect("size") as usize];
        opened.file.read_at(&mut bytes, 0).expect("read");
        Some(bytes)
    }
}

/// How the tests open a file.
pub(crate) fn request(kind: OpenKind) -> OpenRequest {
    OpenRequest {
        kind,
        access: Access::Create,
        exclusive: false,
        delete_on_close: false,
        lock_offset: tclbtree::format::LockPage::STANDARD_OFFSET,
    }
}

impl Vfs for Disk {
    fn open(&self, path: Option<&Path>, request: OpenRequest) -> Result<Opened> {
        self.state().step(IoCall::Open, false).map_err(|_| Error::CannotOpen("simulated"))?;
        let opened = self.files.open(path, request)?;
        let mut state = self.state();
        state.open_files += 1;
        let inode = path.map(|path| state.inode(path));
        drop(state);
        let file = RecordedFile { file: Some(opened.file), inode, disk: self.clone() };
        Ok(Opened { file: Box::new(file), read_only: opened.read_only })
    }

    fn delete(&self, path: &Path, sync_directory: bool) -> Result<()> {
        self.state().step(IoCall::Delete, false)?;
        self.files.delete(path, sync_directory)?;
        let mut state = self.state();
        if state.names.remove(path).is_some() {
            state.log.push(Op::Delete { path: path.to_owned() });
        }
        if sync_directory {
            state.log.push(Op::SyncDirectory);
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.state().step(IoCall::Exists, false)?;
        self.files.exists(path)
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        self.state().step(IoCall::SyncDirectory, false)?;
        self.files.sync_directory(path)?;
        self.state().log.push(Op::SyncDirectory);
        Ok(())
    }

    fn full_path(&self, name: &Path) -> Result<PathBuf> {
        self.files.full_path(name)
    }

    fn random(&self) -> u32 {
        let mut state = self.state();
        state.random = state.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.random
    }
}

#[derive(Debug)]
struct RecordedFile {
    file: Option<Box<dyn File>>,
    inode: Option<usize>,
    disk: Disk,
}

impl RecordedFile {
    fn file(&self) -> &dyn File {
        self.file.as_deref().expect("open until dropped")
    }

    fn file_mut(&mut self) -> &mut Box<dyn File> {
        self.file.as_mut().expect("open until dropped")
    }

    fn record(&self, op: impl FnOnce(usize) -> Op) {
        if let Some(inode) = self.inode {
            self.disk.state().log.push(op(inode));
        }
    }
}

impl Drop for RecordedFile {
    fn drop(&mut self) {
        self.file = None;
        self.disk.state().open_files -= 1;
    }
}

impl File for RecordedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.disk.state().step(IoCall::Read, false)?;
        self.file().read_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let grows = offset + bytes.len() as u64 > self.file().size()?;
        let (fate, torn) = {
            let mut state = self.disk.state();
            (state.step(IoCall::Write, grows), state.is_torn())
        };
        let kept = match fate {
            Ok(()) => bytes,
            Err(_) if torn => &bytes[..bytes.len() / 2],
            Err(error) => return Err(error),
        };
        self.file_mut().write_at(kept, offset)?;
        self.record(|inode| Op::Write { inode, offset, bytes: kept.to_vec() });
        fate
    }

    fn truncate(&mut self, size: u64) -> Result<()> {
        let grows = size > self.file().size()?;
        self.disk.state().step(IoCall::Truncate, grows)?;
        self.file_mut().truncate(size)?;
        self.record(|inode| Op::Truncate { inode, size });
        Ok(())
    }

    fn sync(&mut self, kind: SyncKind) -> Result<()> {
        self.disk.state().step(IoCall::Sync, false)?;
        self.file_mut().sync(kind)?;
        self.record(|inode| Op::Sync { inode });
        Ok(())
    }

    fn size(&self) -> Result<u64> {
        self.disk.state().step(IoCall::Size, false)?;
        self.file().size()
    }

    fn lock(&mut self, level: LockLevel) -> Result<()> {
        self.disk.state().step(IoCall::Lock, false)?;
        self.file_mut().lock(level)
    }

    fn unlock(&mut self, level: LockLevel) -> Result<()> {
        self.file_mut().unlock(level)
    }

    fn lock_level(&self) -> LockLevel {
        self.file().lock_level()
    }

    fn check_reserved_lock(&self) -> Result<bool> {
        self.disk.state().step(IoCall::CheckReservedLock, false)?;
        self.file().check_reserved_lock()
    }

    fn sector_size(&self) -> u32 {
        self.file().sector_size()
    }

    fn device(&self) -> DeviceTraits {
        self.file().device()
    }

    fn has_moved(&self) -> Result<bool> {
        self.file().has_moved()
    }

    fn hint(&mut self, hint: Hint<'_>) {
        self.file_mut().hint(hint);
    }
}

/// How power loss treats what was done since the last sync of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All of it is gone.
    All,
    /// The first so many operations are kept.
    Tail,
    /// Each sector and the size keep any of their states, independently.
    Sectors,
}

/// Files with their content, by path.
pub(crate) type Image = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Debug, Clone, Default)]
struct Inode {
    /// Content at the last sync.
    synced: Vec<u8>,
    /// What was done since.
    since: Vec<Op>,
}

/// Replays a log and shows the disk as a crash at the present position would leave it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replay {
    inodes: BTreeMap<usize, Inode>,
    /// Names since the last directory sync, that state first.
    names: Vec<BTreeMap<PathBuf, usize>>,
}

impl Replay {
    /// An empty disk.
    pub(crate) fn new() -> Replay {
        Replay { inodes: BTreeMap::new(), names: vec![BTreeMap::new()] }
    }

    /// Executes one operation.
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { path, inode } => self.rename(|names| {
                names.insert(path.clone(), *inode);
            }),
            Op::Delete { path } => self.rename(|names| {
                names.remove(path);
            }),
            Op::SyncDirectory => {
                self.names.drain(..self.names.len() - 1);
            }
            Op::Write { inode, .. } | Op::Truncate { inode, .. } => {
                self.inodes.entry(*inode).or_default().since.push(op.clone());
            }
            Op::Sync { inode } => {
                let file = self.inodes.entry(*inode).or_default();
                file.synced = after(&file.synced, &file.since);
                file.since.clear();
            }
        }
    }

    fn rename(&mut self, change: impl FnOnce(&mut BTreeMap<PathBuf, usize>)) {
        let mut names = self.names.last().cloned().unwrap_or_default();
        change(&mut names);
        self.names.push(names);
    }

    fn content(&self, inode: usize, of: impl FnOnce(&Inode) -> Vec<u8>) -> Vec<u8> {
        self.inodes.get(&inode).map(of).unwrap_or_default()
    }

    /// What a kill would leave.
    pub(crate) fn kill(&self) -> Image {
        let names = self.names.last().expect("never empty");
        let latest = |file: &Inode| after(&file.synced, &file.since);
        names.iter().map(|(path, &inode)| (path.clone(), self.content(inode, latest))).collect()
    }

    /// What power loss could leave. Without `undo`, all creations and deletions are durable.
    pub(crate) fn power_loss(&self, loss: Loss, undo: bool, random: &mut Random) -> Image {
        let last = self.names.len() - 1;
        let names = &self.names[if undo { random.below(last + 1) } else { last }];
        let mut image = Image::new();
        for (path, &inode) in names {
            let bytes = self.content(inode, |file| match loss {
                Loss::All => file.synced.clone(),
                Loss::Tail => {
                    after(&file.synced, &file.since[..random.below(file.since.len() + 1)])
                }
                Loss::Sectors => torn(file, random),
            });
            image.insert(path.clone(), bytes);
        }
        image
    }
}

/// `content` after `ops`.
fn after(content: &[u8], ops: &[Op]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    for op in ops {
        change(&mut bytes, op, |_| true);
    }
    bytes
}

/// Executes `op` on those sectors of `bytes` that `keeps` accepts; the size always follows.
fn change(bytes: &mut Vec<u8>, op: &Op, keeps: impl Fn(usize) -> bool) {
    match op {
        Op::Write { offset, bytes: piece, .. } => {
            let start = *offset as usize;
            if bytes.len() < start + piece.len() {
                bytes.resize(start + piece.len(), 0);
            }
            for (index, &byte) in piece.iter().enumerate() {
                if keeps((start + index) / SECTOR) {
                    bytes[start + index] = byte;
                }
            }
        }
        Op::Truncate { size, .. } => bytes.resize(*size as usize, 0),
        _ => {}
    }
}

/// `file` with every sector, and the size, in a state of its own since the last sync.
fn torn(file: &Inode, random: &mut Random) -> Vec<u8> {
    let count = file.since.len();
    let chosen = random.below(count + 1);
    let mut bytes = file.synced.clone();
    let mut size = bytes.len();
    let salt = random.bits();
    for (index, op) in file.since.iter().enumerate() {
        // A truncation must not lose the sectors that another choice of size brings back.
        if !matches!(op, Op::Truncate { size, .. } if (*size as usize) < bytes.len()) {
            change(&mut bytes, op, |sector| {
                index < Random::new(salt ^ sector as u64).below(count + 1)
            });
        }
        if index < chosen {
            size = match op {
                Op::Write { offset, bytes, .. } => size.max(*offset as usize + bytes.len()),
                Op::Truncate { size, .. } => *size as usize,
                _ => size,
            };
        }
    }
    bytes.resize(size, 0);
    bytes
}
