//! The five lock levels as byte ranges, and the table of inodes that POSIX locks force on us.
//!
//! POSIX gives a lock to the *process*, not to the descriptor, which has two consequences:
//!
//! * Two handles of one process never conflict in the system's eyes, so the rules between them
//!   are kept here, per file ([`LockState`]).
//! * Closing *any* descriptor of a file drops all locks that the process has on it. So while any
//!   handle of the file holds a lock, the descriptor of a closed handle is *parked*; the last
//!   unlock closes it, unless an open of the same file has taken it over before.
//!
//! Bytes, counted from the lock offset:
//!
//! | byte | held as | means |
//! | --- | --- | --- |
//! | 0 | write | `Pending`: no new readers |
//! | 1 | write | `Reserved` |
//! | 2..=511 | read | `Shared` |
//! | 2..=511 | write | `Exclusive` |
//!
//! Stock SQLite holds a read lock on the pending byte while it takes the shared lock. Here it
//! is only looked at before, which saves a call. The byte keeps new readers from starving a
//! writer; what keeps data safe are the shared bytes alone, which cannot be had beside an
//! exclusive lock. A writer that comes between the look and the lock meets a reader that was
//! there first, as it can in stock SQLite.
//!
//! A handle whose process reads already joins that lock without a call, as in stock SQLite, also
//! while another process waits with a pending lock.
//!
//! # Invariants
//!
//! 1. A descriptor of a file in the table is closed only under the mutex of its inode, and only
//!    while no handle of the file holds a lock.
//! 2. An inode is in the table exactly as long as it has handles. It cannot be given to another
//!    file meanwhile, since a descriptor of it is open.
//! 3. Order of the mutexes: the table before an inode.
//! 4. A forked child leaves its parent's table, and the handles and inodes in it, alone: whoever
//!    calls a method that takes a mutex has asked [`LockedFile::is_inherited`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::super::LockLevel;
use super::super::lock_state::{LockState, SystemLocks};
use super::sys::{self, Descriptor, Errno, OfProcess, PerProcess, RangeLock};
use crate::error::{Error, IoCall, Result};

const PENDING: u64 = 0;
const RESERVED: u64 = 1;
const SHARED: u64 = 2;
const SHARED_LENGTH: u64 = 510;

/// Device and inode.
type Identity = (u64, u64);

/// All files that this process has open. Global because the locks are the process's: a forked
/// child has none of its parent's.
static TABLE: PerProcess<Table> = PerProcess::new();

type Inodes = BTreeMap<Identity, Arc<Inode>>;

#[derive(Debug, Default)]
struct Table {
    inodes: Mutex<Inodes>,
    /// Parked descriptors of all inodes: while it is 0 no open has to look for one.
    parked: AtomicUsize,
}

/// A file, whatever the number of its handles.
#[derive(Debug)]
struct Inode {
    identity: Identity,
    state: Mutex<InodeState>,
}

#[derive(Debug)]
struct InodeState {
    locks: LockState,
    handles: usize,
    parked: Vec<Parked>,
}

/// The descriptor of a closed handle that must stay open for the locks of others.
#[derive(Debug)]
struct Parked {
    file: Descriptor,
    writable: bool,
}

impl InodeState {
    /// Closes what was parked, once nothing can be lost by it.
    fn close_parked(&mut self, table: &Table) {
        if self.locks.is_held() {
            return;
        }
        for parked in self.parked.drain(..) {
            sys::close(parked.file);
            table.parked.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A descriptor with its place in the table, and the lock that its handle holds.
#[derive(Debug)]
pub(super) struct LockedFile {
    file: Descriptor,
    writable: bool,
    lock_offset: u64,
    level: LockLevel,
    inode: Arc<Inode>,
    /// The table that the inode is in.
    table: &'static OfProcess<Table>,
}

impl LockedFile {
    /// Enters a descriptor that was just opened; `identity` is its device and inode.
    pub(super) fn new(
        file: Descriptor,
        identity: Identity,
        writable: bool,
        lock_offset: u32,
    ) -> LockedFile {
        let table = TABLE.get();
        let inode = match table.inodes.lock().entry(identity) {
            Entry::Occupied(known) => {
                known.get().state.lock().handles += 1;
                Arc::clone(known.get())
            }
            Entry::Vacant(place) => {
                let state = InodeState { locks: LockState::new(), handles: 1, parked: Vec::new() };
                Arc::clone(place.insert(Arc::new(Inode { identity, state: Mutex::new(state) })))
            }
        };
        LockedFile {
            file,
            writable,
            lock_offset: u64::from(lock_offset),
            level: LockLevel::None,
            inode,
            table,
        }
    }

    /// Takes over a parked descriptor of the file that `path` leads to, if there is one of the
    /// same access. Opening another would be right too, but programs that open and close in a
    /// loop while a lock is held elsewhere would run out of descriptors.
    pub(super) fn take_parked(path: &Path, writable: bool, lock_offset: u32) -> Option<LockedFile> {
        let table = TABLE.get();
        if table.parked.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let identity = sys::status_of(path).ok()?.identity;
        let inodes = table.inodes.lock();
        let inode = Arc::clone(inodes.get(&identity)?);
        let mut state = inode.state.lock();
        let index = state.parked.iter().position(|parked| parked.writable == writable)?;
        let file = state.parked.swap_remove(index).file;
        table.parked.fetch_sub(1, Ordering::Relaxed);
        state.handles += 1;
        drop(state);
        let lock_offset = u64::from(lock_offset);
        Some(LockedFile { file, writable, lock_offset, level: LockLevel::None, inode, table })
    }

    /// Whether a parent process has opened it: this one has none of its locks then, and the
    /// bookkeeping may be held by a thread that is not here.
    #[inline]
    pub(super) fn is_inherited(&self) -> bool {
        !self.table.is_here()
    }

    /// The descriptor.
    pub(super) fn descriptor(&self) -> Descriptor {
        self.file
    }

    /// Device and inode.
    pub(super) fn identity(&self) -> Identity {
        self.inode.identity
    }

    /// The lock this handle holds.
    pub(super) fn level(&self) -> LockLevel {
        self.level
    }

    fn ranges(&self) -> Ranges {
        Ranges { file: self.file, offset: self.lock_offset }
    }

    /// See [`File::lock`](super::super::File::lock).
    pub(super) fn lock(&mut self, wanted: LockLevel) -> Result<()> {
        // Nobody else changes this handle's level, so the common case needs no mutex.
        if self.level >= wanted {
            return Ok(());
        }
        let ranges = self.ranges();
        self.inode.state.lock().locks.raise(&mut self.level, wanted, &ranges)
    }

    /// See [`File::unlock`](super::super::File::unlock).
    pub(super) fn unlock(&mut self, wanted: LockLevel) -> Result<()> {
        let ranges = self.ranges();
        let mut state = self.inode.state.lock();
        let result = state.locks.lower(&mut self.level, wanted, &ranges);
        state.close_parked(self.table);
        result
    }

    /// See [`File::check_reserved_lock`](super::super::File::check_reserved_lock).
    pub(super) fn check_reserved_lock(&self) -> Result<bool> {
        let state = self.inode.state.lock();
        if state.locks.strongest() > LockLevel::Shared {
            return Ok(true);
        }
        sys::is_blocked(self.file, RangeLock::Write, self.lock_offset + RESERVED, 1)
            .map_err(|Errno(errno)| Error::Io { call: IoCall::CheckReservedLock, errno })
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if self.is_inherited() {
            // Closing its descriptor would take the locks that this process may have on the file.
            return;
        }
        let (table, ranges) = (self.table, self.ranges());
        let mut inodes = table.inodes.lock();
        let mut state = self.inode.state.lock();
        // An error leaves nothing to do: the system drops the locks with the descriptor.
        let _ = state.locks.lower(&mut self.level, LockLevel::None, &ranges);
        state.handles = state.handles.saturating_sub(1);
        if state.locks.is_held() {
            state.parked.push(Parked { file: self.file, writable: self.writable });
            table.parked.fetch_add(1, Ordering::Relaxed);
        } else {
            sys::close(self.file);
            state.close_parked(table);
        }
        if state.handles == 0 {
            inodes.remove(&self.inode.identity);
        }
    }
}

/// The lock bytes of one file.
struct Ranges {
    file: Descriptor,
    offset: u64,
}

impl Ranges {
    fn acquire(&self, kind: RangeLock, first: u64, length: u64) -> Result<()> {
        sys::set_lock(self.file, kind, self.offset + first, length)
            .map_err(|errno| lock_error(errno, IoCall::Lock))
    }

    fn release(&self, start: u64, length: u64) -> Result<()> {
        sys::set_lock(self.file, RangeLock::Unlock, start, length)
            .map_err(|Errno(errno)| Error::Io { call: IoCall::Unlock, errno })
    }
}

fn lock_error(Errno(errno): Errno, call: IoCall) -> Error {
    match errno {
        libc::EACCES
        | libc::EAGAIN
        | libc::EBUSY
        | libc::EINTR
        | libc::ETIMEDOUT
        | libc::ENOLCK => Error::Busy,
        libc::EPERM => Error::Permission,
        _ => Error::Io { call, errno },
    }
}

impl SystemLocks for Ranges {
    fn acquire_shared(&self) -> Result<()> {
        let waits = sys::is_blocked(self.file, RangeLock::Read, self.offset + PENDING, 1)
            .map_err(|errno| lock_error(errno, IoCall::Lock))?;
        if waits {
            return Err(Error::Busy); // A writer waits for the readers to leave.
        }
        self.acquire(RangeLock::Read, SHARED, SHARED_LENGTH)
    }

    fn acquire_reserved(&self) -> Result<()> {
        self.acquire(RangeLock::Write, RESERVED, 1)
    }

    fn acquire_pending(&self) -> Result<()> {
        self.acquire(RangeLock::Write, PENDING, 1)
    }

    fn acquire_exclusive(&self) -> Result<()> {
        self.acquire(RangeLock::Write, SHARED, SHARED_LENGTH)
    }

    /// The pending, reserved and shared bytes lie side by side, and the middle one is ours.
    fn leaps_to_exclusive(&self) -> bool {
        self.acquire(RangeLock::Write, PENDING, SHARED + SHARED_LENGTH).is_ok()
    }

    /// Recovery becomes exclusive without the reserved byte, so that is taken first; nobody can
    /// hold it, since that takes a shared lock.
    fn release_to_reserved(&self) -> Result<()> {
        self.acquire(RangeLock::Write, RESERVED, 1)?;
        sys::set_lock(self.file, RangeLock::Read, self.offset + SHARED, SHARED_LENGTH)
            .map_err(|errno| lock_error(errno, IoCall::Unlock))?;
        self.release(self.offset + PENDING, 1)
    }

    fn release_to_shared(&self) -> Result<()> {
        sys::set_lock(self.file, RangeLock::Read, self.offset + SHARED, SHARED_LENGTH)
            .map_err(|errno| lock_error(errno, IoCall::Unlock))?;
        self.release(self.offset + PENDING, 2)
    }

    fn release_all(&self) -> Result<()> {
        self.release(0, 0)
    }
}

#[cfg(test)]
mod tests;
