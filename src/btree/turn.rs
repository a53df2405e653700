//! Whose turn it is to use a page cache: a mutex that its owner may take again, and whose owner is
//! a thread rather than a value, so that a turn can last from one call to another.

use std::sync::PoisonError;
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::sync::{Condvar, Mutex, MutexGuard};

/// The turn at one page cache.
#[derive(Debug, Default)]
pub(super) struct Turn {
    taken: Mutex<Taken>,
    free: Condvar,
}

#[derive(Debug, Default)]
struct Taken {
    by: Option<ThreadId>,
    /// How often the owner has taken it; 0 exactly while there is no owner.
    depth: u32,
}

impl Turn {
    /// Takes the turn once more, waiting for another thread to give it back.
    pub(super) fn take(&self) {
        self.take_times(1);
    }

    /// The same, `times` times at once.
    pub(super) fn take_times(&self, times: u32) {
        let me = thread::current().id();
        let mut taken = self.taken();
        while taken.by.is_some_and(|owner| owner != me) {
            taken = self.free.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        taken.by = Some(me);
        taken.depth = taken.depth.saturating_add(times);
    }

    /// Takes the turn once more, unless another thread has it.
    pub(super) fn try_take(&self) -> bool {
        self.take_within(Duration::ZERO)
    }

    /// Takes the turn once more, unless another thread has it until `limit` is over.
    pub(super) fn take_within(&self, limit: Duration) -> bool {
        let me = thread::current().id();
        let taken = self.taken();
        let is_taken = |taken: &mut Taken| taken.by.is_some_and(|owner| owner != me);
        let waited = self.free.wait_timeout_while(taken, limit, is_taken);
        let (mut taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if is_taken(&mut taken) {
            return false;
        }
        taken.by = Some(me);
        taken.depth = taken.depth.saturating_add(1);
        true
    }

    /// Whether this thread has it.
    pub(super) fn is_mine(&self) -> bool {
        self.taken().by == Some(thread::current().id())
    }

    /// Gives it back once. `false`: this thread does not have it.
    pub(super) fn give(&self) -> bool {
        let mut taken = self.taken();
        if taken.by != Some(thread::current().id()) {
            return false;
        }
        taken.depth -= 1;
        if taken.depth == 0 {
            taken.by = None;
            drop(taken);
            self.free.notify_one();
        }
        true
    }

    /// Gives it back altogether; returns how often this thread had taken it.
    pub(super) fn give_all(&self) -> u32 {
        let mut taken = self.taken();
        if taken.by != Some(thread::current().id()) {
            return 0;
        }
        let depth = std::mem::take(&mut taken.depth);
        taken.by = None;
        drop(taken);
        self.free.notify_one();
        depth
    }

    /// No code of ours panics while it holds this, so a poisoned state is as good as any.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// D347: what is taken three times is free after the third return, and not before.
    #[test]
    fn turns_nest_by_thread() {
        let turn = Arc::new(Turn::default());
        assert!(!turn.give(), "nobody has it");
        turn.take();
        turn.take();
        assert!(turn.try_take());
        let probe = || {
            let turn = Arc::clone(&turn);
            thread::spawn(move || (turn.give(), turn.give_all(), turn.try_take() && turn.give()))
                .join()
                .unwrap()
        };
        for _ in 0..3 {
            assert_eq!(probe(), (false, 0, false));
            assert!(turn.give());
        }
        assert_eq!(probe(), (false, 0, true));
        turn.take_times(2);
        assert_eq!(turn.give_all(), 2);
        assert!(!turn.give());
    }
}
