//! Raising and lowering the lock on the database file.
//!
//! ```text
//!   None ──begin_read──▶ Shared ──begin_write──▶ Reserved ──commit, spill──▶ Exclusive
//!                          │                                (Pending while readers are in)
//!                          └───────────────── recovery ────────────────────▶ Exclusive
//! ```

use super::state::State;
use super::{LockingMode, PageInfo, Pager};
use crate::error::{Error, Result};
use crate::os::LockLevel;

impl<X: PageInfo> Pager<X> {
    /// Raises the lock; while somebody else is in the way, the busy handler decides.
    ///
    /// # Errors
    /// [`Error::Busy`], others of locking.
    pub(super) fn lock_patiently(&mut self, level: LockLevel) -> Result<()> {
        if !self.is_file() {
            return Ok(());
        }
        let mut tries = 0u32;
        loop {
            match self.file.lock(level) {
                Err(Error::Busy) if self.ask_busy_handler(tries) => {
                    tries = tries.saturating_add(1);
                }
                result => return result,
            }
        }
    }

    /// Takes the lock that a commit needs ahead of it, for a caller that has changes to make which
    /// must not be left half-way because the cache cannot spill.
    ///
    /// # Errors
    /// [`Busy`](crate::Error::Busy): it can be tried again.
    pub fn lock_for_commit(&mut self) -> Result<()> {
        self.check_transaction()?;
        if self.state.is_writing() { self.lock_patiently(LockLevel::Exclusive) } else { Ok(()) }
    }

    /// Raises the lock, or fails at once.
    ///
    /// # Errors
    /// [`Error::Busy`], others of locking.
    pub(super) fn lock_at_once(&mut self, level: LockLevel) -> Result<()> {
        if self.is_file() { self.file.lock(level) } else { Ok(()) }
    }

    /// Lowers the lock. A failure is remembered: nobody knows then which locks are held, and the
    /// next reader assumes the worst.
    pub(super) fn unlock(&mut self, level: LockLevel) {
        if !self.is_file() || (self.file.lock_level() <= level && !self.lock_unknown) {
            return;
        }
        self.counter_raised = false;
        if let Some(kept) = &mut self.kept_journal {
            kept.is_locked = false;
        }
        let stays = matches!(level, LockLevel::Shared | LockLevel::Reserved);
        let level = if stays { level } else { LockLevel::None };
        self.lock_unknown = self.file.unlock(level).is_err();
    }

    /// Lowers the lock to what reading needs, after a write transaction.
    pub(super) fn unlock_writer(&mut self) {
        if self.locking_mode == LockingMode::Normal {
            let reads_on = !self.no_read_lock && !self.ends_reading;
            self.unlock(if reads_on { LockLevel::Shared } else { LockLevel::None });
        }
    }

    /// Ends a read transaction. Locks fall by locking mode; the cache is kept for validation.
    /// Nothing happens without one. A write transaction must be ended by commit or rollback.
    pub fn end_read(&mut self) {
        if self.state == State::Failed {
            self.leave_failure();
        }
        if self.state != State::Reader {
            return;
        }
        if self.locking_mode == LockingMode::Normal {
            self.unlock(LockLevel::None);
        }
        self.size_known = false;
        self.count_trusted = false;
        self.image = 0;
        self.enter(State::Open);
    }

    /// Leaves the state after a failed rollback, when nobody holds a page any more: nothing of the
    /// cache is trusted, the journal is left where it is, and every lock falls, so that the next
    /// reader finds the journal hot.
    pub(super) fn leave_failure(&mut self) {
        if self.state != State::Failed || self.cache.pinned() > 0 {
            return;
        }
        self.drop_unpinned();
        self.shape_known = false;
        if let Some(journal) = self.transaction.journal.take() {
            self.journal_buffer = journal.close();
        }
        self.unlock(LockLevel::None);
        self.size_known = false;
        self.count_trusted = false;
        self.image = 0;
        self.error = None;
        self.enter(State::Open);
    }
}
