//! `os_*`: files and names as the engine uses them, asynchronous ones included.
//!
//! The files of the OS layer have no current offset. These commands have one, as the handles of
//! the original did; it is kept here.

use std::cell::{Cell, RefCell, RefMut};
use std::path::{Path, PathBuf};

use super::super::super::command::{Call, Command, Outcome};
use super::super::super::handle::AnyPager;
use super::super::super::result_code::Failure;
use super::super::super::value::Obj;
use super::super::{simulate, write_behind};
use crate::error::Error;
use crate::os::{Access, File, Hint, LockLevel, OpenKind, OpenRequest, SyncKind};

/// A file that a script has open, or that of a pager, which it can only look at.
#[derive(Debug)]
pub(in super::super::super) struct OsFile {
    source: Source,
    /// Where the next read or write begins, in bytes.
    offset: Cell<u64>,
    /// Whether every sync is a full one.
    full_sync: Cell<bool>,
}

#[derive(Debug)]
enum Source {
    Own(RefCell<Box<dyn File>>),
    Pager(AnyPager),
}

impl OsFile {
    fn new(file: Box<dyn File>) -> OsFile {
        OsFile::from(Source::Own(RefCell::new(file)))
    }

    /// The file of a pager.
    pub(in super::super::super) fn of_pager(pager: AnyPager) -> OsFile {
        OsFile::from(Source::Pager(pager))
    }

    fn from(source: Source) -> OsFile {
        OsFile { source, offset: Cell::new(0), full_sync: Cell::new(false) }
    }

    /// The number in the handle of the pager whose file it is.
    pub(in super::super::super) fn pager(&self) -> Option<u64> {
        match &self.source {
            Source::Own(_) => None,
            Source::Pager(pager) => Some(pager.number()),
        }
    }

    /// Takes the file into use.
    ///
    /// # Errors
    /// [`Error::Misuse`] if it is that of a pager; [`Error::Internal`] if it is in use.
    fn enter(&self) -> Result<RefMut<'_, Box<dyn File>>, Error> {
        match &self.source {
            Source::Own(file) => file.try_borrow_mut().map_err(|_| Error::Internal("file in use")),
            Source::Pager(_) => Err(Error::Misuse("the file belongs to a pager")),
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, Error> {
        match &self.source {
            Source::Own(_) => self.enter()?.read_at(bytes, offset),
            Source::Pager(AnyPager::Own(pager)) => pager.enter()?.read_file(bytes, offset),
            Source::Pager(AnyPager::Below(database)) => database.enter()?.read_file(bytes, offset),
        }
    }

    fn size(&self) -> Result<u64, Error> {
        match &self.source {
            Source::Own(_) => self.enter()?.size(),
            Source::Pager(AnyPager::Own(pager)) => Ok(pager.enter()?.file_size()?.unwrap_or(0)),
            Source::Pager(AnyPager::Below(database)) => {
                Ok(database.enter()?.file_size()?.unwrap_or(0))
            }
        }
    }

    fn descriptor(&self) -> Result<Option<i32>, Error> {
        match &self.source {
            Source::Own(_) => Ok(self.enter()?.descriptor()),
            Source::Pager(AnyPager::Own(pager)) => Ok(pager.enter()?.descriptor()),
            Source::Pager(AnyPager::Below(database)) => Ok(database.enter()?.descriptor()),
        }
    }
}

/// The commands.
pub(in super::super) const COMMANDS: &[Command] = &[
    Command::new(
        c"os_open_readwrite",
        1..=1,
        c"FILE",
        "opens or makes a file: its handle, and whether it is read-only",
        open_read_write,
    ),
    Command::new(c"os_open_readonly", 1..=1, c"FILE", "opens a file to read it", open_read_only),
    Command::new(
        c"os_open_exclusive",
        2..=2,
        c"FILE DELETE-ON-CLOSE",
        "makes a file that does not exist",
        open_exclusive,
    ),
    Command::new(c"os_delete", 1..=1, c"FILE", "deletes a file", delete),
    Command::new(c"os_file_exists", 1..=1, c"FILE", "whether there is such a file", exists),
    Command::new(
        c"os_sync_directory",
        1..=1,
        c"DIRECTORY",
        "makes names in a directory durable",
        sync_directory,
    ),
    Command::new(c"os_close", 1..=1, c"HANDLE", "closes a file", close),
    Command::new(
        c"os_open_directory",
        2..=2,
        c"HANDLE DIRECTORY",
        "lets the next sync of the file make its name durable",
        open_directory,
    ),
    Command::new(
        c"os_read",
        2..=3,
        c"HANDLE N ?VARIABLE?",
        "bytes from the offset on; a variable gets them also if there are fewer",
        read,
    ),
    Command::new(c"os_write", 2..=2, c"HANDLE BYTES", "writes bytes at the offset", write),
    Command::new(c"os_seek", 2..=2, c"HANDLE OFFSET", "sets the offset", seek),
    Command::new(c"os_truncate", 2..=2, c"HANDLE SIZE", "sets the size", truncate),
    Command::new(c"os_sync", 1..=2, c"HANDLE ?FULL?", "makes the content durable", sync),
    Command::new(
        c"os_set_full_sync",
        2..=2,
        c"HANDLE BOOL",
        "whether every sync is the strongest there is",
        set_full_sync,
    ),
    Command::new(
        c"os_file_handle",
        1..=1,
        c"HANDLE",
        "the system's descriptor, -1 if there is none",
        descriptor,
    ),
    Command::new(c"os_file_size", 1..=1, c"HANDLE", "the size in bytes", size),
    Command::new(
        c"os_lock",
        2..=2,
        c"HANDLE LEVEL",
        "raises the lock: 1 shared, 2 reserved, 4 exclusive",
        lock,
    ),
    Command::new(c"os_unlock", 2..=2, c"HANDLE LEVEL", "lowers the lock: 0 none, 1 shared", unlock),
    Command::new(c"os_lock_state", 1..=1, c"HANDLE", "the lock that the handle has", lock_state),
    Command::new(
        c"os_check_reserved_lock",
        1..=1,
        c"HANDLE",
        "whether anybody has a reserved lock or more",
        check_reserved_lock,
    ),
];

/// The most bytes that one read may ask for.
const READ_MAX: usize = 1 << 30;

/// `os_open_readwrite FILE`: `HANDLE READONLY`
fn open_read_write(call: &mut Call<'_>) -> Outcome {
    let (handle, is_read_only) = open(call, Access::Create, None)?;
    Ok(Obj::list([handle.into(), is_read_only.into()]).into())
}

/// `os_open_readonly FILE`
fn open_read_only(call: &mut Call<'_>) -> Outcome {
    Ok(open(call, Access::ReadOnly, None)?.0.into())
}

/// `os_open_exclusive FILE DELETE-ON-CLOSE`
fn open_exclusive(call: &mut Call<'_>) -> Outcome {
    let delete_on_close = call.boolean(2)?;
    Ok(open(call, Access::Create, Some(delete_on_close))?.0.into())
}

/// Opens the file in word 1, with `exclusive` as a new one that may vanish when it is closed.
/// Returns its handle, and whether it could be opened for reading only.
fn open(
    call: &mut Call<'_>,
    access: Access,
    exclusive: Option<bool>,
) -> Result<(String, bool), Failure> {
    let request = OpenRequest {
        kind: OpenKind::Plain,
        access,
        exclusive: exclusive.is_some(),
        delete_on_close: exclusive.unwrap_or(false),
        lock_offset: simulate::lock_offset(),
    };
    let path = full_path(call)?;
    let opened = write_behind::default_disk().open(Some(&path), request)?;
    Ok((call.session.add_file(OsFile::new(opened.file)), opened.read_only))
}

/// `os_delete FILE`
fn delete(call: &mut Call<'_>) -> Outcome {
    let path = full_path(call)?;
    Ok(write_behind::default_disk().delete(&path, false)?.into())
}

/// `os_file_exists FILE`
fn exists(call: &mut Call<'_>) -> Outcome {
    let path = full_path(call)?;
    Ok(write_behind::default_disk().exists(&path)?.into())
}

/// `os_sync_directory DIRECTORY`
fn sync_directory(call: &mut Call<'_>) -> Outcome {
    let entry = entry_of(&full_path(call)?);
    Ok(write_behind::default_disk().sync_directory(&entry)?.into())
}

/// `os_close HANDLE`
fn close(call: &mut Call<'_>) -> Outcome {
    if call.file(1)?.pager().is_some() {
        return Err(Error::Misuse("the file belongs to a pager").into());
    }
    let handle = call.word(1)?.text(&mut call.interp);
    drop(call.session.remove_file(handle)?);
    Ok(().into())
}

/// `os_open_directory HANDLE DIRECTORY`
fn open_directory(call: &mut Call<'_>) -> Outcome {
    let file = call.file(1)?;
    let directory = simulate::disk().full_path(&call.path(2)?)?;
    Ok(file.enter()?.open_directory(&entry_of(&directory))?.into())
}

/// `os_read HANDLE N ?VARIABLE?`: missing bytes are zeros, and an error (D536).
fn read(call: &mut Call<'_>) -> Outcome {
    let file = call.file(1)?;
    let count = usize::try_from(call.int(2)?).map_err(|_| NEGATIVE)?;
    let mut bytes = Vec::new();
    if count > READ_MAX || bytes.try_reserve_exact(count).is_err() {
        return Err(Error::NoMemory.into());
    }
    bytes.resize(count, 0);
    let offset = file.offset.get();
    let found = file.read_at(&mut bytes, offset)?;
    file.offset.set(offset.saturating_add(count as u64));
    let bytes = Obj::bytes(&bytes)?;
    if call.has(3) {
        call.interp.set_variable(call.word(3)?, &bytes)?;
    }
    if found < count {
        let (name, text) = ("SQLITE_IOERR_SHORT_READ", "the file ends before");
        return Err(Failure::message(name, &["SQLITE", name, "522", text]));
    }
    Ok(bytes.into())
}

/// `os_write HANDLE BYTES`: the offset moves if the write was accepted (A513).
fn write(call: &mut Call<'_>) -> Outcome {
    let file = call.file(1)?;
    let bytes = call.word(2)?.bytes(&mut call.interp)?;
    let offset = file.offset.get();
    file.enter()?.write_at(bytes, offset)?;
    file.offset.set(offset.saturating_add(bytes.len() as u64));
    Ok(().into())
}

/// `os_seek HANDLE OFFSET`
fn seek(call: &mut Call<'_>) -> Outcome {
    let file = call.file(1)?;
    file.offset.set(u64::try_from(call.wide(2)?).map_err(|_| NEGATIVE)?);
    Ok(().into())
}

/// `os_truncate HANDLE SIZE`
fn truncate(call: &mut Call<'_>) -> Outcome {
    let file = call.file(1)?;
    let size = u64::try_from(call.wide(2)?).map_err(|_| NEGATIVE)?;
    Ok(file.enter()?.truncate(size)?.into())
}

/// `os_sync HANDLE ?FULL?`
fn sync(call: &mut Call<'_>) -> Outcome {
    let file = call.file(1)?;
    let is_full = call.has(2) && call.boolean(2)? || file.full_sync.get();
    let kind = if is_full { SyncKind::Full } else { SyncKind::Normal };
    Ok(file.enter()?.sync(kind)?.into())
}

/// `os_set_full_sync HANDLE BOOL`
fn set_full_sync(call: &mut Call<'_>) -> Outcome {
    let file = call.file(1)?;
    let is_full = call.boolean(2)?;
    file.enter()?.hint(Hint::FullSync(is_full));
    file.full_sync.set(is_full);
    Ok(().into())
}

/// `os_file_handle HANDLE`
fn descriptor(call: &mut Call<'_>) -> Outcome {
    Ok(call.file(1)?.descriptor()?.unwrap_or(-1).into())
}

/// `os_file_size HANDLE`
fn size(call: &mut Call<'_>) -> Outcome {
    Ok(call.file(1)?.size()?.into())
}

/// `os_lock HANDLE LEVEL`
fn lock(call: &mut Call<'_>) -> Outcome {
    let file = call.file(1)?;
    let level = level(call)?;
    if level == LockLevel::Pending {
        return Err(Error::Misuse("pending is a stage on the way to exclusive").into());
    }
    Ok(file.enter()?.lock(level)?.into())
}

/// `os_unlock HANDLE LEVEL`
fn unlock(call: &mut Call<'_>) -> Outcome {
    let file = call.file(1)?;
    let level = level(call)?;
    if level > LockLevel::Shared {
        return Err(Error::Misuse("a lock is lowered to shared or none").into());
    }
    Ok(file.enter()?.unlock(level)?.into())
}

/// `os_lock_state HANDLE`
fn lock_state(call: &mut Call<'_>) -> Outcome {
    let level = call.file(1)?.enter()?.lock_level();
    Ok((LEVELS.iter().position(|&(_, known)| known == level).unwrap_or(0) as u64).into())
}

/// `os_check_reserved_lock HANDLE`
fn check_reserved_lock(call: &mut Call<'_>) -> Outcome {
    Ok(call.file(1)?.enter()?.check_reserved_lock()?.into())
}

const NEGATIVE: Error = Error::Misuse("negative number");

/// Each at its number.
const LEVELS: [(&str, LockLevel); 5] = [
    ("none", LockLevel::None),
    ("shared", LockLevel::Shared),
    ("reserved", LockLevel::Reserved),
    ("pending", LockLevel::Pending),
    ("exclusive", LockLevel::Exclusive),
];

/// The level in word 2, by name or number.
fn level(call: &mut Call<'_>) -> Result<LockLevel, Failure> {
    let word = call.string(2)?;
    if let Some(&(_, level)) = LEVELS.iter().find(|(name, _)| *name == word) {
        return Ok(level);
    }
    let number = usize::try_from(call.int(2)?).ok();
    let found = number.and_then(|number| LEVELS.get(number));
    found.map(|&(_, level)| level).ok_or_else(|| Error::Misuse("no such lock level").into())
}

/// The full path of the file in word 1.
fn full_path(call: &mut Call<'_>) -> Result<PathBuf, Failure> {
    Ok(simulate::disk().full_path(&call.path(1)?)?)
}

/// A name in the directory, by which the OS layer names the directory itself.
fn entry_of(directory: &Path) -> PathBuf {
    directory.join("*")
}
