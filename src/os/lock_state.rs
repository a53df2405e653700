//! The lock rules between the handles of one file inside one process.
//!
//! ```text
//!          lock(Shared)        lock(Reserved)          lock(Exclusive)
//!   None ─────────────► Shared ────────────► Reserved ─────► Pending ─────► Exclusive
//!     ▲                  ▲  │                    ▲              ▲              │
//!     │  unlock(None)    │  └── recovery: lock(Exclusive), ─────┴ readers left ─┤
//!     └──────────────────┴── unlock(Shared) ─────┴── unlock(Reserved) ─────────┘
//! ```
//!
//! Only the write-behind layer goes back to `Reserved`: the lock of one transaction outlives it in
//! the queue, while the next one, which only prepares to write, lets others read.
//!
//! A disk whose locks other processes see puts the system's calls under these rules through
//! [`SystemLocks`]; a disk in memory needs the rules alone ([`NoSystem`]).
//!
//! # Invariants
//!
//! 1. `strongest` is the strongest level of any handle, and what the system was told.
//! 2. `holders` is the number of handles at `Shared` or more; it is 0 exactly if `strongest` is
//!    `None`.
//! 3. At most one handle is above `Shared`, and its level is `strongest`.
//! 4. If a handle is at `Exclusive`, `holders` is 1.

use super::LockLevel;
use crate::error::{Error, Result};

/// The calls by which the other processes learn of a lock. Each reports
/// [`Error::Busy`](crate::Error::Busy) if another process stands in the way.
pub(super) trait SystemLocks {
    /// `None` → `Shared`. On an error nothing is held.
    fn acquire_shared(&self) -> Result<()>;
    /// `Shared` → `Reserved`. On an error nothing has changed.
    fn acquire_reserved(&self) -> Result<()>;
    /// `Reserved` → `Pending`. On an error nothing has changed.
    fn acquire_pending(&self) -> Result<()>;
    /// `Shared` or `Pending` → `Exclusive`. On an error nothing has changed.
    fn acquire_exclusive(&self) -> Result<()>;
    /// `Reserved` → `Exclusive` in one step, where the system has one. `false`: it has none, or
    /// somebody is in the way, and nothing has changed; the way leads over `Pending` then.
    fn leaps_to_exclusive(&self) -> bool {
        false
    }
    /// `Pending` or `Exclusive`, however it was reached, → `Reserved`.
    fn release_to_reserved(&self) -> Result<()>;
    /// Anything above → `Shared`.
    fn release_to_shared(&self) -> Result<()>;
    /// Anything → `None`.
    fn release_all(&self) -> Result<()>;
}

/// A disk that no other process sees.
pub(super) struct NoSystem;

impl SystemLocks for NoSystem {
    fn acquire_shared(&self) -> Result<()> {
        Ok(())
    }
    fn acquire_reserved(&self) -> Result<()> {
        Ok(())
    }
    fn acquire_pending(&self) -> Result<()> {
        Ok(())
    }
    fn acquire_exclusive(&self) -> Result<()> {
        Ok(())
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

/// The locks that the handles of one file hold together.
#[derive(Debug)]
pub(super) struct LockState {
    strongest: LockLevel,
    holders: usize,
}

impl LockState {
    /// No handle holds anything.
    pub(super) const fn new() -> LockState {
        LockState { strongest: LockLevel::None, holders: 0 }
    }

    /// Whether any handle holds a lock.
    pub(super) fn is_held(&self) -> bool {
        self.holders > 0
    }

    /// The strongest level of any handle.
    pub(super) fn strongest(&self) -> LockLevel {
        self.strongest
    }

    /// Raises a handle that is at `held` to `wanted`; see [`File::lock`](super::File::lock).
    ///
    /// # Errors
    /// [`Busy`](Error::Busy): `held` is unchanged, or `Pending`. What the system reports.
    /// [`Misuse`](Error::Misuse) for a step that is not in the diagram.
    pub(super) fn raise(
        &mut self,
        held: &mut LockLevel,
        wanted: LockLevel,
        system: &impl SystemLocks,
    ) -> Result<()> {
        if *held >= wanted {
            return Ok(());
        }
        let others_are_stronger = *held != self.strongest;
        if others_are_stronger
            && (self.strongest >= LockLevel::Pending || wanted > LockLevel::Shared)
        {
            return Err(Error::Busy);
        }
        match wanted {
            LockLevel::None | LockLevel::Pending => {
                return Err(Error::Misuse("a pending lock cannot be asked for"));
            }
            LockLevel::Shared => {
                if self.holders == 0 {
                    system.acquire_shared()?;
                    self.strongest = LockLevel::Shared;
                }
                self.holders += 1;
            }
            LockLevel::Reserved if *held == LockLevel::Shared => {
                system.acquire_reserved()?;
                self.strongest = LockLevel::Reserved;
            }
            LockLevel::Exclusive if *held >= LockLevel::Shared => {
                return self.raise_to_exclusive(held, system);
            }
            LockLevel::Reserved | LockLevel::Exclusive => {
                return Err(Error::Misuse("a writing lock needs a shared one first"));
            }
        }
        *held = wanted;
        Ok(())
    }

    /// From `Shared`, which only recovery does, the pending byte is left alone: two readers that
    /// both try to recover must not keep out each other's next attempt.
    fn raise_to_exclusive(
        &mut self,
        held: &mut LockLevel,
        system: &impl SystemLocks,
    ) -> Result<()> {
        let leapt =
            *held == LockLevel::Reserved && self.holders == 1 && system.leaps_to_exclusive();
        if *held == LockLevel::Reserved && !leapt {
            system.acquire_pending()?;
            *held = LockLevel::Pending;
            self.strongest = LockLevel::Pending;
        }
        if self.holders > 1 {
            return Err(Error::Busy);
        }
        if !leapt {
            system.acquire_exclusive()?;
        }
        *held = LockLevel::Exclusive;
        self.strongest = LockLevel::Exclusive;
        Ok(())
    }

    /// Lowers a handle that is at `held`; see [`File::unlock`](super::File::unlock). After an
    /// error on the way to `None` the handle counts as unlocked all the same: it has no way to
    /// try again that could succeed.
    ///
    /// # Errors
    /// What the system reports; [`Misuse`](Error::Misuse) for a step that is not in the diagram.
    pub(super) fn lower(
        &mut self,
        held: &mut LockLevel,
        wanted: LockLevel,
        system: &impl SystemLocks,
    ) -> Result<()> {
        if wanted > LockLevel::Reserved || wanted == LockLevel::Reserved && *held < wanted {
            return Err(Error::Misuse("that does not lower the lock"));
        }
        if *held <= wanted {
            return Ok(());
        }
        if wanted != LockLevel::None {
            match wanted {
                LockLevel::Reserved => system.release_to_reserved()?,
                _ => system.release_to_shared()?,
            }
            self.strongest = wanted;
            *held = wanted;
            return Ok(());
        }
        let was_above_shared = *held > LockLevel::Shared;
        *held = LockLevel::None;
        self.holders = self.holders.saturating_sub(1);
        if self.holders == 0 {
            self.strongest = LockLevel::None;
            return system.release_all();
        }
        if was_above_shared {
            self.strongest = LockLevel::Shared;
            return system.release_to_shared();
        }
        Ok(())
    }
}
