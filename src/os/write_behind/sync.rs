//! The lock types of the write-behind layer, in one place so that a model checker can stand in.
//!
//! Mutexes here do not poison: whoever panics repairs what it left behind before it lets go.

use std::fmt;
use std::time::Duration;

#[cfg(loom)]
use loom::sync as base;
#[cfg(not(loom))]
use parking_lot as base;

/// The lock held on a [`Mutex`].
pub(super) type Guard<'a, T> = base::MutexGuard<'a, T>;

/// Mutual exclusion.
pub(super) struct Mutex<T>(base::Mutex<T>);

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> Mutex<T> {
    /// A mutex around `value`.
    pub(super) fn new(value: T) -> Mutex<T> {
        Mutex(base::Mutex::new(value))
    }

    /// Waits for the lock.
    #[cfg(not(loom))]
    pub(super) fn lock(&self) -> Guard<'_, T> {
        self.0.lock()
    }

    /// Waits for the lock.
    #[cfg(loom)]
    pub(super) fn lock(&self) -> Guard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A place to wait until something changes.
pub(super) struct Condvar(base::Condvar);

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}

impl Condvar {
    /// Nobody waits.
    pub(super) fn new() -> Condvar {
        Condvar(base::Condvar::new())
    }

    /// Lets go of the lock until notified.
    #[cfg(not(loom))]
    pub(super) fn wait<'a, T>(&self, mut guard: Guard<'a, T>) -> Guard<'a, T> {
        self.0.wait(&mut guard);
        guard
    }

    /// Lets go of the lock until notified.
    #[cfg(loom)]
    pub(super) fn wait<'a, T>(&self, guard: Guard<'a, T>) -> Guard<'a, T> {
        self.0.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets go of the lock until notified, at most for `limit`.
    #[cfg(not(loom))]
    pub(super) fn wait_for<'a, T>(&self, mut guard: Guard<'a, T>, limit: Duration) -> Guard<'a, T> {
        self.0.wait_for(&mut guard, limit);
        guard
    }

    /// Time does not pass in a model: waits until notified.
    #[cfg(loom)]
    pub(super) fn wait_for<'a, T>(&self, guard: Guard<'a, T>, _limit: Duration) -> Guard<'a, T> {
        self.wait(guard)
    }

    /// Wakes one that waits.
    pub(super) fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all that wait.
    pub(super) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Starts a thread that is nobody's to join. `false` if the system refuses.
#[cfg(not(loom))]
pub(super) fn spawn(body: impl FnOnce() + Send + 'static) -> bool {
    std::thread::Builder::new().name("write-behind".to_owned()).spawn(body).is_ok()
}

/// Starts a thread of the model.
#[cfg(loom)]
pub(super) fn spawn(body: impl FnOnce() + Send + 'static) -> bool {
    loom::thread::spawn(body);
    true
}
