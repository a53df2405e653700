//! Scripts that other interpreters, and the engine, leave for an interpreter to run: callbacks that
//! are due. They run at the end of its present command of ours, else as events of its thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::interp::Bell;

/// The scripts that wait for one interpreter.
#[derive(Debug)]
pub(super) struct Mailbox {
    letters: Mutex<Vec<String>>,
    has_letters: AtomicBool,
    /// The interpreter is gone, or the process ends.
    is_closed: AtomicBool,
    bell: Bell,
}

impl Mailbox {
    /// An empty one; `bell` makes the interpreter's thread look into it.
    pub(super) fn new(bell: Bell) -> Mailbox {
        Mailbox {
            letters: Mutex::default(),
            has_letters: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            bell,
        }
    }

    /// Leaves a script; from any thread.
    pub(super) fn post(&self, script: String) {
        if self.is_closed.load(Ordering::Acquire) {
            return;
        }
        let mut letters = self.letters();
        letters.push(script);
        self.has_letters.store(true, Ordering::Relaxed);
        drop(letters);
        self.bell.ring();
    }

    /// Whether there are any scripts.
    #[inline]
    pub(super) fn has_letters(&self) -> bool {
        self.has_letters.load(Ordering::Relaxed)
    }

    /// Takes the scripts out, in the order in which they came.
    pub(super) fn take(&self) -> Vec<String> {
        let mut letters = self.letters();
        self.has_letters.store(false, Ordering::Relaxed);
        std::mem::take(&mut letters)
    }

    /// Nothing is taken in from here on, nor given out. Waits for nobody: the process may be a
    /// forked child that ends, and who was posting as it was forked is not there.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.has_letters.store(false, Ordering::Relaxed);
        if let Ok(mut letters) = self.letters.try_lock() {
            letters.clear();
        }
    }

    /// Nothing panics while it holds this.
    fn letters(&self) -> MutexGuard<'_, Vec<String>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
