//! What the handles, the commands and the writer share.

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::sync::{Arc, OnceLock};

use super::super::INHERITED;
use super::super::unix::Home;
use super::state::State;
use super::sync::{Condvar, Guard, Mutex};
use crate::error::Result;

/// Is told of every event, one line each, without the thread that it happened in.
pub type Trace = Arc<dyn Fn(&str) + Send + Sync>;

/// The queue and everybody's way to it.
///
/// Order of the mutexes: the locks of a file, then the state; the mutex of a base handle is taken
/// last, and never while the state is locked.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something for the writer to notice: an operation, a halt, a hurry.
    pub(super) work: Condvar,
    /// Something for everybody else to notice: an operation is over, or a role changed hands.
    pub(super) progress: Condvar,
    /// The process that the queue belongs to; a forked child has a copy that nobody works on.
    home: Home,
    is_traced: AtomicBool,
    trace: Mutex<Option<Trace>>,
    /// Events are told while this is not 0.
    trace_switch: OnceLock<&'static AtomicI32>,
    /// For tests: a read trusts what it found on disk without looking a second time.
    pub(super) looks_once: AtomicBool,
    /// For tests: copies that succeed before one fails for lack of memory; negative: all do.
    pub(super) copies_left: std::sync::atomic::AtomicI64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind").finish_non_exhaustive()
    }
}

impl Shared {
    /// An empty queue without a writer.
    pub(super) fn new() -> Shared {
        Shared {
            state: Mutex::new(State::new()),
            work: Condvar::new(),
            progress: Condvar::new(),
            home: Home::new(),
            is_traced: AtomicBool::new(false),
            trace: Mutex::new(None),
            trace_switch: OnceLock::new(),
            looks_once: AtomicBool::new(false),
            copies_left: std::sync::atomic::AtomicI64::new(-1),
        }
    }

    /// Whether this is a forked child of the process that the queue belongs to.
    pub(super) fn is_forked(&self) -> bool {
        !self.home.is_here()
    }

    /// To be asked before any mutex is taken: whoever holds one may not exist in a forked child.
    ///
    /// # Errors
    /// [`Misuse`](crate::Error::Misuse) in a forked child.
    pub(super) fn check_process(&self) -> Result<()> {
        if self.is_forked() { Err(INHERITED) } else { Ok(()) }
    }

    /// The state.
    ///
    /// # Errors
    /// Those of [`Shared::check_process`].
    pub(super) fn enter(&self) -> Result<Guard<'_, State>> {
        self.check_process()?;
        Ok(self.state.lock())
    }

    /// The state, for threads that cannot be in a forked child.
    pub(super) fn state(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    /// Sets who is told of events.
    pub(super) fn set_trace(&self, trace: Option<Trace>) {
        let mut place = self.trace.lock();
        self.is_traced.store(trace.is_some(), Relaxed);
        *place = trace;
    }

    /// Sets the integer that switches tracing; the first one stays.
    pub(super) fn set_trace_switch(&self, switch: &'static AtomicI32) {
        let _ = self.trace_switch.set(switch);
    }

    /// Tells of an event, if anybody wants to know. Not to be called with the state locked.
    pub(super) fn trace(&self, line: impl FnOnce() -> String) {
        let is_on = |switch: &&AtomicI32| switch.load(Relaxed) != 0;
        if !self.is_traced.load(Relaxed) || !self.trace_switch.get().is_none_or(is_on) {
            return;
        }
        let trace = self.trace.lock().clone();
        if let Some(trace) = trace {
            trace(&line());
        }
    }

    /// Whether the next copy is to fail.
    pub(super) fn fails_copy(&self) -> bool {
        self.copies_left.load(Relaxed) >= 0 && self.copies_left.fetch_sub(1, Acquire) == 0
    }
}
