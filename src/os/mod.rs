//! The contract with the world: what the engine needs from files and locks.
//!
//! Everything that touches a disk goes through [`Vfs`] and [`File`], so a wrapper or a simulated
//! disk can stand between the engine and the machine. Wrappers know the disk beneath only as
//! `dyn Vfs` and `dyn File` and stack in any order.
//!
//! # Rules that every implementation keeps
//!
//! 1. I/O is positional: no file has a current offset.
//! 2. A write that reports an error may have changed any part of its range.
//! 3. What was written before a successful [`File::sync`] survives a loss of power; what was
//!    written after it may be lost, kept, or kept in part, sector by sector.
//! 4. A file created since may vanish with the power until its directory is synced.
//! 5. Locks belong to the handle, also between two handles of one process, and fall when the
//!    handle is dropped.
//! 6. Dropping a handle closes the file. Errors of closing are not reported: nothing that matters
//!    is left to closing.

use std::fmt;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

mod lock_state;
mod memory;
mod pending;
pub mod simulate;
mod unix;
pub mod write_behind;

pub use memory::MemoryVfs;
pub use unix::UnixVfs;
#[cfg(test)]
pub(crate) use unix::in_child;
pub(crate) use unix::{Home, PerProcess};
pub use write_behind::{WriteBehind, WriteBehindVfs};

/// A forked child has its parent's files, but none of the locks on them: using one would undo, or
/// mix with, what the parent does.
pub(crate) const INHERITED: Error =
    Error::Misuse("the file belongs to the process that this was forked from");

/// A place where files live.
pub trait Vfs: Send + Sync + fmt::Debug {
    /// Opens a file.
    ///
    /// `path` is what [`Vfs::full_path`] returned; `None` asks for a temporary file that has no
    /// name any more when the call returns, or loses it when it is closed.
    ///
    /// # Errors
    /// [`CannotOpen`](crate::Error::CannotOpen), also for a directory; [`Io`](crate::Error::Io).
    fn open(&self, path: Option<&Path>, request: OpenRequest) -> Result<Opened>;

    /// Deletes a file; a missing file is no error. With `sync_directory` the deletion is durable
    /// on return.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    fn delete(&self, path: &Path, sync_directory: bool) -> Result<()>;

    /// Whether a regular file of at least one byte exists: a journal of length 0 counts as absent.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io) if the file system cannot tell.
    fn exists(&self, path: &Path) -> Result<bool>;

    /// Whether the name is taken, be it by an empty file or by a directory, so that a file of that
    /// name cannot be a new one.
    ///
    /// # Errors
    /// As [`Vfs::exists`].
    fn is_taken(&self, path: &Path) -> Result<bool> {
        self.exists(path)
    }

    /// Makes the directory entry of `path`, a file in it, durable.
    ///
    /// # Errors
    /// [`CannotOpen`](crate::Error::CannotOpen) if the directory is missing,
    /// [`Io`](crate::Error::Io).
    fn sync_directory(&self, path: &Path) -> Result<()>;

    /// Looks whether the directory of `path` can be opened, for a sync that is to come. Disks on
    /// which only that sync can tell have nothing to say.
    ///
    /// # Errors
    /// [`CannotOpen`](crate::Error::CannotOpen), [`Io`](crate::Error::Io).
    fn open_directory(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    /// The absolute path of `name`, symbolic links resolved, so that every spelling of a file
    /// leads to one journal.
    ///
    /// # Errors
    /// [`CannotOpen`](crate::Error::CannotOpen) if it is too long for the journal beside it.
    fn full_path(&self, name: &Path) -> Result<PathBuf>;

    /// 32 random bits, for checksum seeds and names. A simulated disk makes them repeatable.
    fn random(&self) -> u32;
}

/// An open file.
///
/// Reading methods take `&self`, changing ones `&mut self`; the handle may move between threads
/// but is used by one at a time.
pub trait File: Send + fmt::Debug {
    /// Reads `buffer.len()` bytes from `offset`, in bytes from the start of the file. Returns how
    /// many were there; the rest of the buffer is filled with zeros.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;

    /// `length` bytes from `offset` will probably be read soon. A disk that can asks for them, and
    /// does not wait.
    fn will_read(&self, _offset: u64, _length: usize) {}

    /// Writes all of `bytes` at `offset`, extending the file as needed.
    ///
    /// # Errors
    /// [`Full`](crate::Error::Full) if the disk is full, [`Io`](crate::Error::Io).
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()>;

    /// Writes `pieces` one behind the other, from `offset` on.
    ///
    /// # Errors
    /// As [`File::write_at`].
    fn write_vectored_at(&mut self, pieces: &[IoSlice<'_>], offset: u64) -> Result<()> {
        let mut at = offset;
        for piece in pieces {
            self.write_at(piece, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Cuts or extends the file to `size` bytes.
    ///
    /// # Errors
    /// [`Full`](crate::Error::Full), [`Io`](crate::Error::Io).
    fn truncate(&mut self, size: u64) -> Result<()>;

    /// Makes content and size durable.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io). A failed sync is final: what it should have saved must be
    /// assumed lost, whatever a second one says.
    fn sync(&mut self, kind: SyncKind) -> Result<()>;

    /// Length of the file in bytes. A file of one byte counts as empty (stock SQLite does so too).
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    fn size(&self) -> Result<u64>;

    /// Raises this handle's lock to `level`; nothing happens if it has that much already.
    ///
    /// The way up is `None` → `Shared` → `Reserved` → `Exclusive`, with `Pending` passed through
    /// and kept when other readers stand in the way; recovery goes `Shared` → `Exclusive`.
    /// `Pending` is never asked for.
    ///
    /// # Errors
    /// [`Busy`](crate::Error::Busy) if another handle or process stands in the way: the level is
    /// then unchanged, or `Pending`. [`Io`](crate::Error::Io),
    /// [`Permission`](crate::Error::Permission).
    fn lock(&mut self, level: LockLevel) -> Result<()>;

    /// Lowers this handle's lock to `Shared` or `None`; from `Pending` or `Exclusive` also to
    /// `Reserved`, which lets readers in again and keeps other writers out without a gap.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io): the level must then be taken as unknown.
    /// [`Misuse`](crate::Error::Misuse) if that would raise it, or for another level.
    fn unlock(&mut self, level: LockLevel) -> Result<()>;

    /// The lock this handle holds.
    fn lock_level(&self) -> LockLevel;

    /// Whether any handle, here or in another process, holds `Reserved` or more.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    fn check_reserved_lock(&self) -> Result<bool>;

    /// The unit that a torn write can damage, in bytes: a power of two from 32 to 65536.
    fn sector_size(&self) -> u32 {
        512
    }

    /// What the device promises beyond the rules above.
    fn device(&self) -> DeviceTraits {
        DeviceTraits::default()
    }

    /// Whether the path this file was opened by leads to another file, or to none, by now.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    fn has_moved(&self) -> Result<bool> {
        Ok(false)
    }

    /// Refuses in a process that was forked from the one that has opened the file, where this
    /// handle is of no use; dropping it there changes nothing for the parent. For what is done by
    /// the name of a file: all other methods refuse by themselves. What passes calls on to another
    /// file must pass on this one, too.
    ///
    /// # Errors
    /// [`Misuse`](crate::Error::Misuse), and no other.
    fn check_process(&self) -> Result<()> {
        Ok(())
    }

    /// The system's descriptor, where there is one.
    fn descriptor(&self) -> Option<i32> {
        None
    }

    /// Which file this is, whatever its names: two numbers that differ from those of every other
    /// file that is open. `None` if the disk has no such numbers.
    fn identity(&self) -> Option<(u64, u64)> {
        None
    }

    /// Lets the next sync also make the file's name durable: `entry` is any path in its directory.
    /// That this directory cannot be opened is no error. Disks that do not keep such a wish
    /// ignore it.
    ///
    /// # Errors
    /// Those of a layer that could not queue it.
    fn open_directory(&mut self, _entry: &Path) -> Result<()> {
        Ok(())
    }

    /// Tells a layer that delays operations what it cannot see from the calls; others ignore it.
    fn hint(&mut self, _hint: Hint<'_>) {}
}

/// What to open, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRequest {
    /// What the file is for.
    pub kind: OpenKind,
    /// Which access is wanted.
    pub access: Access,
    /// Fail if the name exists already (implies creation).
    pub exclusive: bool,
    /// Delete the file at the latest when it is closed.
    pub delete_on_close: bool,
    /// Position of the first lock byte; [`LockPage::STANDARD_OFFSET`](crate::format::LockPage)
    /// but for tests.
    pub lock_offset: u32,
}

/// What a file is for; a layer that reorders operations depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenKind {
    /// A database.
    Database,
    /// The rollback journal of a database.
    Journal,
    /// A super-journal: the journal that names other journals.
    SuperJournal,
    /// The file of a temporary database.
    TemporaryDatabase,
    /// The rollback journal of a temporary database.
    TemporaryJournal,
    /// The undo file of savepoints.
    SubJournal,
    /// Not said: the file is opened by its name only. Treated with the care that a journal needs.
    Plain,
}

/// The access that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only; the file must exist.
    ReadOnly,
    /// Reading and writing; the file must exist. Falls back to reading only.
    ReadWrite,
    /// Reading and writing; the file is made if absent. Falls back to reading only.
    Create,
}

/// A file just opened.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub file: Box<dyn File>,
    /// Writing was wanted but is not permitted.
    pub read_only: bool,
}

/// The five lock levels, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockLevel {
    /// No lock.
    None,
    /// Reading; shared by many.
    Shared,
    /// Going to write; beside readers, by one.
    Reserved,
    /// Waiting for the readers to leave; keeps new ones out.
    Pending,
    /// Writing; alone.
    Exclusive,
}

/// How strong a sync is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncKind {
    /// What `fdatasync` does.
    Normal,
    /// The strongest that the platform has.
    Full,
}

/// Promises of a device that save the pager work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceTraits {
    /// Appended bytes are on the medium before the size says so.
    pub safe_append: bool,
    /// Writes reach the medium in the order in which they were made.
    pub sequential: bool,
}

/// What a write-behind layer has to know and cannot see from the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint<'a> {
    /// The database's present transaction commits together with all that name this super-journal.
    JoinSuperJournal(&'a Path),
    /// The writes that follow undo others (`true`), until the next such hint (`false`).
    Undoing(bool),
    /// What is written from offset `start` on are records of a journal, one behind the other: the
    /// number of a page of the database in four bytes, the page as it was, and four bytes more.
    PageRecords {
        /// Where the first one begins.
        start: u64,
        /// Bytes of a page.
        page_size: u32,
    },
    /// Every sync from here on is the strongest of the platform, or as it asks to be.
    FullSync(bool),
}
