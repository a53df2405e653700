//! The locks of a shared page cache: those of the standard library.
//!
//! With `--cfg tsan`, for a ThreadSanitizer that knows only part of that library, each also shows
//! by an atomic of its own that who takes it comes after who had it.

#[cfg(not(tsan))]
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};

#[cfg(tsan)]
pub(super) use shown::{Condvar, Mutex, MutexGuard};

#[cfg(tsan)]
mod shown {
    use std::ops::{Deref, DerefMut};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};
    use std::time::{Duration, Instant};

    #[derive(Debug, Default)]
    pub(in super::super) struct Mutex<T> {
        lock: sync::Mutex<T>,
        turn: AtomicBool,
    }

    #[derive(Debug)]
    pub(in super::super) struct MutexGuard<'a, T> {
        /// Shows that the lock is let go, before it is.
        shown: Shown<'a>,
        held: sync::MutexGuard<'a, T>,
    }

    #[derive(Debug)]
    struct Shown<'a>(&'a AtomicBool);

    #[derive(Debug, Default)]
    pub(in super::super) struct Condvar(sync::Condvar);

    impl<T> Mutex<T> {
        pub(in super::super) fn new(value: T) -> Mutex<T> {
            Mutex { lock: sync::Mutex::new(value), turn: AtomicBool::new(false) }
        }

        pub(in super::super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            let held = self.lock.lock();
            Ok(MutexGuard::new(held.unwrap_or_else(PoisonError::into_inner), &self.turn))
        }

        pub(in super::super) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
            let shown = |held| MutexGuard::new(held, &self.turn);
            self.lock.try_lock().map(shown).map_err(|error| match error {
                TryLockError::WouldBlock => TryLockError::WouldBlock,
                TryLockError::Poisoned(poisoned) => {
                    TryLockError::Poisoned(PoisonError::new(shown(poisoned.into_inner())))
                }
            })
        }
    }

    impl<'a, T> MutexGuard<'a, T> {
        fn new(held: sync::MutexGuard<'a, T>, turn: &'a AtomicBool) -> MutexGuard<'a, T> {
            turn.load(Ordering::Acquire);
            MutexGuard { shown: Shown(turn), held }
        }

        fn hand_over(self) -> (sync::MutexGuard<'a, T>, &'a AtomicBool) {
            (self.held, self.shown.0)
        }
    }

    impl Drop for Shown<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.held
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.held
        }
    }

    impl Condvar {
        pub(in super::super) fn wait<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
        ) -> LockResult<MutexGuard<'a, T>> {
            let (held, turn) = guard.hand_over();
            let held = self.0.wait(held);
            Ok(MutexGuard::new(held.unwrap_or_else(PoisonError::into_inner), turn))
        }

        pub(in super::super) fn wait_timeout_while<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            limit: Duration,
            mut condition: impl FnMut(&mut T) -> bool,
        ) -> LockResult<(MutexGuard<'a, T>, bool)> {
            let began = Instant::now();
            while condition(&mut guard) {
                let rest = limit.saturating_sub(began.elapsed());
                if rest.is_zero() {
                    return Ok((guard, true));
                }
                let (held, turn) = guard.hand_over();
                let waited = self.0.wait_timeout(held, rest);
                guard = MutexGuard::new(waited.unwrap_or_else(PoisonError::into_inner).0, turn);
            }
            Ok((guard, false))
        }

        pub(in super::super) fn notify_one(&self) {
            self.0.notify_one();
        }
    }
}
