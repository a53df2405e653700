//! Two levels per handle: *visible*, what the pager sees, and *held*, what the disk still has.
//!
//! ```text
//!   visible   None ──lock──► Exclusive ──unlock──► None ──lock──► Reserved …
//!   queue                              UNLOCK ────────────────────► done: is it the last?
//!   held      None ──lock──► Exclusive ═════════════════════════════► visible, from there on
//! ```
//!
//! Between the handles of the process the visible levels decide, by the same rules as on any
//! disk. Other processes see one lock per file, through the base handle that first asked for it,
//! as strong as the strongest held level.
//!
//! # Invariants
//!
//! 1. `real` is at least the held level of every handle, as long as files are locked and the
//!    file is open beneath.
//! 2. A level is recorded only after the real lock was obtained; what fails changes nothing.
//! 3. `holder` is there exactly if `real` is not `None`; its base handle stays open meanwhile.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::super::lock_state::{LockState, NoSystem, SystemLocks};
use super::super::{File, LockLevel};
use super::entry::HandleId;
use super::sync::Mutex;
use crate::error::{Error, Result};

/// A base handle; empty before the file is opened and after it is closed. One thread at a time
/// uses it, for as long as it holds the mutex.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) file: Mutex<Option<Box<dyn File>>>,
}

impl Slot {
    /// A slot with, or still without, an open file.
    pub(super) fn new(file: Option<Box<dyn File>>) -> Arc<Slot> {
        Arc::new(Slot { file: Mutex::new(file) })
    }

    /// Runs `call` on the open file; `None` if there is none.
    pub(super) fn with<T>(&self, call: impl FnOnce(&mut dyn File) -> T) -> Option<T> {
        let mut file = self.file.lock();
        file.as_mut().map(|file| call(&mut **file))
    }
}

#[derive(Debug)]
struct HandleLock {
    visible: LockLevel,
    /// The strongest visible level since the last time that nothing was held back.
    strongest: LockLevel,
    /// Entries in the queue that will let go of it.
    unlocks: usize,
    slot: Arc<Slot>,
    writable: bool,
}

impl HandleLock {
    fn held(&self) -> LockLevel {
        if self.unlocks > 0 { self.strongest } else { self.visible }
    }
}

#[derive(Debug)]
struct Holder {
    slot: Arc<Slot>,
    writable: bool,
}

/// The locks of one file.
#[derive(Debug)]
pub(super) struct FileLocks {
    visible: LockState,
    handles: BTreeMap<HandleId, HandleLock>,
    real: LockLevel,
    holder: Option<Holder>,
    /// Since when `real` is not `None`.
    since: Option<Instant>,
    watch: Arc<AtomicU64>,
}

/// The way to the other processes, for the rules between handles.
struct RealLock<'a> {
    level: Cell<LockLevel>,
    /// `None`: they are not told.
    slot: Option<&'a Slot>,
}

impl RealLock<'_> {
    fn at_least(&self, wanted: LockLevel) -> Result<()> {
        let Some(slot) = self.slot else { return Ok(()) };
        if self.level.get() >= wanted {
            return Ok(());
        }
        let raised = slot.with(|file| {
            let mut result = Ok(());
            if file.lock_level() == LockLevel::None && wanted > LockLevel::Shared {
                result = file.lock(LockLevel::Shared);
            }
            let result = result.and_then(|()| file.lock(wanted));
            (result, file.lock_level())
        });
        let Some((result, level)) = raised else { return Ok(()) };
        self.level.set(level);
        result
    }
}

impl SystemLocks for RealLock<'_> {
    fn acquire_shared(&self) -> Result<()> {
        self.at_least(LockLevel::Shared)
    }

    fn acquire_reserved(&self) -> Result<()> {
        self.at_least(LockLevel::Reserved)
    }

    /// The way to `Exclusive` leads through `Pending`, which stays if readers are in the way; if
    /// there are none, more than was asked for does no harm.
    fn acquire_pending(&self) -> Result<()> {
        match self.at_least(LockLevel::Exclusive) {
            Err(Error::Busy) if self.level.get() >= LockLevel::Pending => Ok(()),
            other => other,
        }
    }

    fn acquire_exclusive(&self) -> Result<()> {
        self.at_least(LockLevel::Exclusive)
    }

    fn release_to_reserved(&self) -> Result<()> {
        Ok(())
    }

    fn release_to_shared(&self) -> Result<()> {
        Ok(())
    }

    fn release_all(&self) -> Result<()> {
        Ok(())
    }
}

impl FileLocks {
    /// Nobody holds anything.
    pub(super) fn new() -> FileLocks {
        FileLocks {
            visible: LockState::new(),
            handles: BTreeMap::new(),
            real: LockLevel::None,
            holder: None,
            since: None,
            watch: Arc::new(AtomicU64::new(0)),
        }
    }

    /// A handle was opened; its lock calls go through `slot`.
    pub(super) fn add(&mut self, handle: HandleId, slot: Arc<Slot>, writable: bool) {
        let (visible, strongest) = (LockLevel::None, LockLevel::None);
        self.handles.insert(handle, HandleLock { visible, strongest, unlocks: 0, slot, writable });
    }

    /// The level that the owner of the handle sees.
    pub(super) fn level(&self, handle: HandleId) -> LockLevel {
        self.handles.get(&handle).map_or(LockLevel::None, |lock| lock.visible)
    }

    /// The level that other processes see.
    pub(super) fn real(&self) -> LockLevel {
        self.real
    }

    /// A number that is odd while the real lock is at `Reserved` or above, and grows whenever
    /// that begins or ends. Can be looked at without waiting for the locks.
    pub(super) fn watch(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.watch)
    }

    fn set_real(&mut self, level: LockLevel) {
        let keeps_writers_out = |level| level >= LockLevel::Reserved;
        if keeps_writers_out(self.real) != keeps_writers_out(level) {
            self.watch.fetch_add(1, Relaxed);
        }
        self.real = level;
    }

    /// How long other processes have been kept out, at least from writing.
    pub(super) fn held_for(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Raises the visible level, and the real lock as far as it is not there yet.
    ///
    /// # Errors
    /// As [`File::lock`].
    pub(super) fn raise(
        &mut self,
        handle: HandleId,
        wanted: LockLevel,
        lock_files: bool,
    ) -> Result<()> {
        if lock_files && self.level(handle) < wanted {
            self.choose_holder(handle, wanted)?;
        }
        let Some(lock) = self.handles.get_mut(&handle) else {
            return Err(Error::Misuse("the file is closed"));
        };
        let holder = self.holder.as_ref().filter(|_| lock_files);
        let slot = holder.map(|holder| &*holder.slot);
        let real = RealLock { level: Cell::new(self.real), slot };
        let result = self.visible.raise(&mut lock.visible, wanted, &real);
        lock.strongest = lock.strongest.max(lock.visible);
        let level = real.level.get();
        self.set_real(level);
        if self.real == LockLevel::None {
            self.holder = None;
        } else if self.since.is_none() {
            self.since = Some(Instant::now());
        }
        result
    }

    /// Sees to it that there is a base handle for the real lock, and one that can be locked for
    /// writing if that is wanted.
    fn choose_holder(&mut self, handle: HandleId, wanted: LockLevel) -> Result<()> {
        let Some(lock) = self.handles.get(&handle) else { return Ok(()) };
        let chosen = Holder { slot: Arc::clone(&lock.slot), writable: lock.writable };
        match &self.holder {
            None => self.holder = Some(chosen),
            Some(old) if wanted > LockLevel::Shared && !old.writable && chosen.writable => {
                chosen.slot.with(|file| file.lock(LockLevel::Shared)).unwrap_or(Ok(()))?;
                let _ = old.slot.with(|file| file.unlock(LockLevel::None));
                self.holder = Some(chosen);
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Lowers the visible level. Returns whether the real lock would fall below what protects
    /// changes of this handle: then it must not before these are done.
    ///
    /// # Errors
    /// As [`File::unlock`].
    pub(super) fn lower(&mut self, handle: HandleId, wanted: LockLevel) -> Result<bool> {
        let Some(lock) = self.handles.get_mut(&handle) else { return Ok(false) };
        self.visible.lower(&mut lock.visible, wanted, &NoSystem)?;
        Ok(lock.strongest > LockLevel::Shared)
    }

    /// An entry that lets go of the lock of `handle` was queued.
    pub(super) fn unlock_queued(&mut self, handle: HandleId) {
        if let Some(lock) = self.handles.get_mut(&handle) {
            lock.unlocks += 1;
        }
    }

    /// Such an entry has been reached.
    ///
    /// # Errors
    /// As [`File::unlock`].
    pub(super) fn unlock_reached(&mut self, handle: HandleId) -> Result<()> {
        if let Some(lock) = self.handles.get_mut(&handle) {
            lock.unlocks = lock.unlocks.saturating_sub(1);
        }
        self.settle()
    }

    /// The handle is gone.
    ///
    /// # Errors
    /// As [`File::unlock`]; the handle is gone all the same.
    pub(super) fn remove(&mut self, handle: HandleId) -> Result<()> {
        let Some(mut lock) = self.handles.remove(&handle) else { return Ok(()) };
        // What is visible was lowered by whoever closed it; lowering to nothing cannot fail.
        let _ = self.visible.lower(&mut lock.visible, LockLevel::None, &NoSystem);
        self.settle()
    }

    /// Whether the lock of other handles hangs on this base handle.
    pub(super) fn needs(&self, slot: &Arc<Slot>) -> bool {
        self.holder.as_ref().is_some_and(|holder| Arc::ptr_eq(&holder.slot, slot))
    }

    /// Lowers the real lock to the strongest held level; `Pending` counts as `Exclusive`.
    ///
    /// # Errors
    /// As [`File::unlock`].
    pub(super) fn settle(&mut self) -> Result<()> {
        for lock in self.handles.values_mut().filter(|lock| lock.unlocks == 0) {
            lock.strongest = lock.visible;
        }
        let target = self.handles.values().map(HandleLock::held).max();
        let target = target.unwrap_or(LockLevel::None);
        if target > LockLevel::Reserved || target >= self.real {
            return Ok(());
        }
        self.set_real(target);
        let Some(holder) = &self.holder else { return Ok(()) };
        let result = holder.slot.with(|file| file.unlock(target)).unwrap_or(Ok(()));
        if target == LockLevel::None {
            self.holder = None;
            self.since = None;
        }
        result
    }

    /// Whether anybody, here or in another process, is about to write. `slot` is any open base
    /// handle of the file.
    ///
    /// # Errors
    /// As [`File::check_reserved_lock`].
    pub(super) fn check_reserved(&self, slot: &Slot) -> Result<bool> {
        if self.visible.strongest() > LockLevel::Shared {
            return Ok(true);
        }
        if self.real > LockLevel::Shared {
            // It is ours, kept for what is queued: nobody else can have one.
            return Ok(false);
        }
        slot.with(|file| file.check_reserved_lock()).unwrap_or(Ok(false))
    }
}
