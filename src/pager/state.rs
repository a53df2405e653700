//! Where a pager stands in its transaction.
//!
//! ```text
//!            begin_read               begin_write
//!   Open ─────────────────▶ Reader ─────────────────▶ WriterLocked
//!    ▲ ▲ ◀───────────────── │  ▲ ▲                         │ first page made writable
//!    │ │      end_read         │ │                         ▼
//!    │ │                       │ └─── rollback ────── CacheChanged
//!    │ │                       │                           │ journal synced: spill or commit
//!    │ │                       │                           ▼
//!    │ │                       ├────── rollback ────── FileChanged
//!    │ │                       │                           │ phase one done
//!    │ │                       │                           ▼
//!    │ │                       └─ phase two, rollback ─ Finished
//!    │ │
//!    │ └── end_read ── Failed ◀── a rollback that failed
//! ```
//!
//! | state | lock on the file | journal |
//! | --- | --- | --- |
//! | `Open` | none | none |
//! | `Reader` | shared | none |
//! | `WriterLocked` | reserved, or exclusive if asked for | none, or open with its header |
//! | `CacheChanged` | as before, or pending after a refused commit | open, not synced |
//! | `FileChanged` | exclusive | its records protect what was written |
//! | `Finished` | exclusive | synced; database written, and synced unless that failed or waits |
//! | `Failed` | unknown | left for the next reader to find |

use super::Pager;
use super::page::PageInfo;
use crate::error::{Error, Result};

/// The states, in the order in which a transaction passes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Open,
    Reader,
    WriterLocked,
    CacheChanged,
    FileChanged,
    Finished,
    Failed,
}

impl State {
    /// Whether a write transaction is open.
    pub(super) fn is_writing(self) -> bool {
        self > State::Reader && self < State::Failed
    }
}

impl<X: PageInfo> Pager<X> {
    /// Goes over to another state; the gate of `fetch` follows (invariant P2).
    pub(super) fn enter(&mut self, state: State) {
        self.state = state;
        self.set_gate();
    }

    /// Remembers an error after which the cache or the file cannot be trusted, and returns it.
    #[cold]
    pub(super) fn latch(&mut self, error: Error) -> Error {
        if self.error.is_none() {
            self.error = Some(error);
        }
        self.serial += 1; // No page stays writable by the short cut.
        self.cache_trusted = false;
        self.set_gate();
        error
    }

    /// As [`Pager::latch`], for an error of writing that leaves a file in an unknown condition.
    /// A full disk leaves the cache true, so reading goes on (D282).
    #[cold]
    pub(super) fn latch_if_serious(&mut self, error: Error) -> Error {
        match error {
            Error::Full => {
                let trusted = self.error.is_none() || self.cache_trusted;
                self.latch(error);
                self.cache_trusted = trusted;
                self.set_gate();
                error
            }
            Error::Io { .. } => self.latch(error),
            _ => error,
        }
    }

    fn set_gate(&mut self) {
        let readable = self.error.is_none() || self.cache_trusted;
        self.gate = readable && !matches!(self.state, State::Open | State::Failed);
    }

    /// The lasting error, or the complaint that there is no transaction.
    ///
    /// # Errors
    /// Either.
    pub fn check_transaction(&self) -> Result<()> {
        match self.error {
            Some(error) => Err(error),
            None if self.state == State::Open => Err(Error::State("no transaction is open")),
            None => Ok(()),
        }
    }
}
