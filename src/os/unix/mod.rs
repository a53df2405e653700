//! `UnixVfs`: open, delete, exists, full path, directory sync.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::{Access, OpenKind, OpenRequest, Opened, Vfs};
use crate::error::{Error, IoCall, Result};

mod file;
mod lock;
mod mapped;
mod mapping;
mod sys;

use file::UnixFile;
use lock::LockedFile;
use mapped::MappedReads;
use sys::{Descriptor, Errno};

pub(crate) use sys::{Home, PerProcess};
#[cfg(test)]
pub(crate) use sys::{in_child, in_unannounced_child};
#[cfg(test)]
pub(crate) use tests::is_run_alone;

/// What a rollback journal's name has behind the database's.
const JOURNAL_SUFFIX: &[u8] = b"-journal";
/// Permission bits of a new file, before the process's mask.
const MODE: u32 = 0o644;
/// The same, of files that are nobody else's business.
const MODE_PRIVATE: u32 = 0o600;
/// Symbolic links that one path may lead through; more is taken for a ring.
const LINKS_MAX: u32 = 100;
/// Names tried for a temporary file before giving up on a directory.
const NAMES_MAX: u32 = 10;

/// The file system of the machine.
///
/// A database that is read again and again is mapped into memory, on processors and file systems
/// where that is known to work (x86-64; ext, XFS, Btrfs, F2FS, bcachefs, tmpfs), and its pages are
/// copied from there rather than read by calls. The first such file sets a handler of SIGBUS, with
/// which a disk that fails, or a file that is cut, stays an error; other signals of that kind go on
/// to the handler that was there before. If the handler is replaced later, or a thread blocks the
/// signal, mappings are given up, but not before that is noticed, within some hundred reads. A
/// library that links this crate must not be unloaded once it has opened a file.
///
/// A forked child cannot use the files, and so the connections, that its parent has open:
/// [`Misuse`](crate::Error::Misuse). It may drop them; nothing happens then.
#[derive(Debug, Default, Clone, Copy)]
pub struct UnixVfs {
    unmapped: bool,
}

impl UnixVfs {
    /// The file system of the machine.
    pub fn new() -> UnixVfs {
        UnixVfs::default()
    }

    /// The same with every read made by a call: no file is mapped, and no signal handled.
    pub fn unmapped() -> UnixVfs {
        UnixVfs { unmapped: true }
    }

    /// How a file of this kind is read: a journal is read once.
    fn reads_of(self, kind: OpenKind) -> MappedReads {
        if self.unmapped || !is_lockable(kind) {
            MappedReads::never()
        } else {
            MappedReads::default()
        }
    }
}

impl Vfs for UnixVfs {
    fn open(&self, path: Option<&Path>, request: OpenRequest) -> Result<Opened> {
        match path {
            Some(path) => open_named(path, request, self.reads_of(request.kind)),
            None => open_temporary(request, self.reads_of(request.kind), || self.random()),
        }
    }

    fn delete(&self, path: &Path, sync_directory: bool) -> Result<()> {
        match sys::unlink(path) {
            Ok(()) if sync_directory => self.sync_directory(path),
            Ok(()) | Err(Errno(libc::ENOENT | libc::ENOTDIR)) => Ok(()),
            Err(Errno(errno)) => Err(Error::Io { call: IoCall::Delete, errno }),
        }
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        Ok(status_of(path)?.is_some_and(|status| status.is_regular && status.size > 0))
    }

    fn is_taken(&self, path: &Path) -> Result<bool> {
        Ok(status_of(path)?.is_some())
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) => Path::new("."),
            None => path,
        };
        let opened = sys::open_unlocked(directory, libc::O_RDONLY | libc::O_DIRECTORY, 0)
            .map_err(|_| Error::CannotOpen("the directory cannot be opened"))?;
        let synced = sys::sync_all(opened);
        sys::close(opened);
        match synced {
            // The file system has no use for syncing directories.
            Ok(()) | Err(Errno(libc::EINVAL)) => Ok(()),
            Err(Errno(errno)) => Err(Error::Io { call: IoCall::SyncDirectory, errno }),
        }
    }

    fn full_path(&self, name: &Path) -> Result<PathBuf> {
        let mut resolver = Resolver { path: PathBuf::from("/"), links: 0 };
        if name.is_relative() {
            let here = std::env::current_dir()
                .map_err(|_| Error::CannotOpen("the working directory is gone"))?;
            resolver.walk(&here)?;
        }
        resolver.walk(name)?;
        let length = resolver.path.as_os_str().len().saturating_add(JOURNAL_SUFFIX.len());
        if length >= usize::try_from(libc::PATH_MAX).unwrap_or(usize::MAX) {
            return Err(Error::CannotOpen("the name is too long"));
        }
        Ok(resolver.path)
    }

    fn random(&self) -> u32 {
        // A hasher's seed, where the system gives nothing: no secret, but different each time.
        sys::random().unwrap_or_else(|| RandomState::new().build_hasher().finish() as u32)
    }
}

/// A path on its way to being free of links, `.` and `..`.
struct Resolver {
    path: PathBuf,
    links: u32,
}

impl Resolver {
    fn walk(&mut self, way: &Path) -> Result<()> {
        for component in way.components() {
            match component {
                Component::RootDir | Component::Prefix(_) => self.path = PathBuf::from("/"),
                Component::CurDir => {}
                Component::ParentDir => {
                    self.path.pop();
                }
                Component::Normal(name) => self.step(name)?,
            }
        }
        Ok(())
    }

    /// What does not exist yet, or cannot be looked at, is no link.
    fn step(&mut self, name: &OsStr) -> Result<()> {
        self.path.push(name);
        let Ok(target) = std::fs::read_link(&self.path) else { return Ok(()) };
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Error::CannotOpen("too many symbolic links"));
        }
        self.path.pop();
        self.walk(&target)
    }
}

/// Whether a file that cannot be opened for writing is tried for reading: whatever the reason,
/// but a directory is none to be read either.
fn may_be_readable(errno: Errno) -> bool {
    !matches!(errno, Errno(libc::EISDIR))
}

fn open_error(errno: Errno) -> Error {
    Error::CannotOpen(match errno {
        Errno(libc::ENOENT) => "no such file or directory",
        Errno(libc::EISDIR) => "it is a directory",
        Errno(libc::ENOTDIR) => "part of its path is not a directory",
        Errno(libc::EEXIST) => "it exists already",
        Errno(libc::ELOOP) => "it is a symbolic link",
        Errno(libc::EMFILE | libc::ENFILE) => "too many open files",
        Errno(libc::EACCES | libc::EPERM | libc::EROFS) => "permission denied",
        Errno(libc::ENOSPC | libc::EDQUOT) => "no space for a new file",
        Errno(libc::ENAMETOOLONG) => "the name is too long",
        _ => "the system refuses",
    })
}

/// What there is under a name, `None` for nothing.
fn status_of(path: &Path) -> Result<Option<sys::Status>> {
    match sys::status_of(path) {
        Ok(status) => Ok(Some(status)),
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(Errno(errno)) => Err(Error::Io { call: IoCall::Exists, errno }),
    }
}

/// Databases are locked, and their names resolved; journals are neither, so a link by the name of
/// one was put there by somebody who means harm.
fn is_lockable(kind: OpenKind) -> bool {
    matches!(kind, OpenKind::Database | OpenKind::TemporaryDatabase)
}

/// Whether nobody locks files of this kind, in whatever process.
fn is_never_locked(kind: OpenKind) -> bool {
    matches!(kind, OpenKind::Journal | OpenKind::SuperJournal)
}

fn open_named(path: &Path, request: OpenRequest, reads: MappedReads) -> Result<Opened> {
    let wants_write = request.access != Access::ReadOnly;
    if is_lockable(request.kind)
        && !request.exclusive
        && !request.delete_on_close
        && let Some(file) = LockedFile::take_parked(path, wants_write, request.lock_offset)
    {
        let file = Box::new(UnixFile::new(file, Some(path.to_owned()), reads));
        return Ok(Opened { file, read_only: !wants_write });
    }
    // A journal that may be made takes after its database.
    let database = match (request.kind, request.access) {
        (OpenKind::Journal, Access::Create) => database_beside(path),
        _ => None,
    };
    let mode = creation_mode(request, database.as_ref());
    let (descriptor, writable) = open_descriptor(path, request, mode)?;
    let status = match sys::status(descriptor) {
        Ok(status) if !status.is_directory => status,
        refused => {
            sys::close(descriptor);
            return Err(open_error(refused.err().unwrap_or(Errno(libc::EISDIR))));
        }
    };
    let file = LockedFile::new(descriptor, status.identity, writable, request.lock_offset);
    if let Some(database) = database.filter(|_| writable && status.size == 0) {
        take_after_database(descriptor, status, database);
    }
    let mut name = Some(path.to_owned());
    if request.delete_on_close {
        name = None;
        sys::unlink(path).map_err(|Errno(errno)| Error::Io { call: IoCall::Delete, errno })?;
    }
    Ok(Opened { file: Box::new(UnixFile::new(file, name, reads)), read_only: !writable })
}

/// Opens as wanted, or for reading if writing is refused. Returns whether writing is possible.
fn open_descriptor(path: &Path, request: OpenRequest, mode: u32) -> Result<(Descriptor, bool)> {
    let mut flags = match request.access {
        Access::ReadOnly => libc::O_RDONLY,
        Access::ReadWrite => libc::O_RDWR,
        Access::Create => libc::O_RDWR | libc::O_CREAT,
    };
    if request.exclusive {
        flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    }
    let follow = if is_lockable(request.kind) { 0 } else { libc::O_NOFOLLOW };
    let writable = flags & libc::O_RDWR != 0;
    let open = if is_never_locked(request.kind) { sys::open_unlocked } else { sys::open };
    match open(path, flags | follow, mode) {
        Ok(descriptor) => Ok((descriptor, writable)),
        Err(errno) if writable && !request.exclusive && may_be_readable(errno) => {
            let opened = open(path, libc::O_RDONLY | follow, 0);
            // The first answer says more than "no such file" of a file that cannot be made.
            opened.map(|descriptor| (descriptor, false)).map_err(|_| open_error(errno))
        }
        Err(errno) => Err(open_error(errno)),
    }
}

/// The permissions of a file that is made; those of a journal are its database's.
fn creation_mode(request: OpenRequest, database: Option<&sys::Status>) -> u32 {
    match request.kind {
        _ if request.delete_on_close => MODE_PRIVATE,
        OpenKind::TemporaryDatabase | OpenKind::TemporaryJournal | OpenKind::SubJournal => {
            MODE_PRIVATE
        }
        OpenKind::Journal => database.map_or(MODE, |status| status.mode),
        OpenKind::Database | OpenKind::SuperJournal | OpenKind::Plain => MODE,
    }
}

/// The status of the database whose journal `path` is.
fn database_beside(path: &Path) -> Option<sys::Status> {
    let database = path.as_os_str().as_bytes().strip_suffix(JOURNAL_SUFFIX)?;
    sys::status_of(Path::new(OsStr::from_bytes(database))).ok()
}

/// Gives a new journal the owner and the permissions of its database, so that whoever may write
/// that one can also recover it. Best effort: without it the journal still serves its maker.
fn take_after_database(journal: Descriptor, own: sys::Status, database: sys::Status) {
    if own.owner != database.owner && sys::is_superuser() {
        let _ = sys::set_owner(journal, database.owner);
    }
    if own.mode != database.mode {
        let _ = sys::set_mode(journal, database.mode);
    }
}

/// Makes a file of no name, in the first directory that lets us.
fn open_temporary(
    request: OpenRequest,
    reads: MappedReads,
    random: impl Fn() -> u32,
) -> Result<Opened> {
    let chosen = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(std::env::var_os);
    let standard = ["/var/tmp", "/tmp"].into_iter().map(OsString::from);
    for directory in chosen.chain(standard).filter(|directory| !directory.is_empty()) {
        for _ in 0..NAMES_MAX {
            let name = format!("tclbtree-{:08x}{:08x}", random(), random());
            let path = Path::new(&directory).join(name);
            let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
            let descriptor = match sys::open(&path, flags, MODE_PRIVATE) {
                Ok(descriptor) => descriptor,
                Err(Errno(libc::EEXIST)) => continue,
                Err(_) => break,
            };
            let status = sys::unlink(&path).and_then(|()| sys::status(descriptor));
            let status = status.map_err(|errno| {
                sys::close(descriptor);
                open_error(errno)
            })?;
            let file = LockedFile::new(descriptor, status.identity, true, request.lock_offset);
            let file = Box::new(UnixFile::new(file, None, reads));
            return Ok(Opened { file, read_only: false });
        }
    }
    Err(Error::CannotOpen("no directory for temporary files"))
}

#[cfg(test)]
mod tests;
