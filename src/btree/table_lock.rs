//! Advisory locks on trees, by which the connections of one page cache keep out of each other's
//! way. Pure bookkeeping: who holds what, and who would be in the way of whom.
//!
//! | wanted | another has read | another has write |
//! | --- | --- | --- |
//! | read | granted | refused |
//! | write | refused | refused |
//!
//! A tree is named by the number of its root page, which need not exist. Locks are held to the end
//! of the transaction; the only ways back are [`TableLocks::release`] and
//! [`TableLocks::downgrade`], for all locks of a connection at once.
//!
//! Invariants:
//!
//! * A1: a connection has at most one lock on a tree, of the strongest kind it was granted.
//! * A2: if a connection has a write lock on a tree, no other has any lock on it.

use crate::error::Result;
use crate::format::PageNumber;

/// Names a connection of a page cache, among those that it has at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct SessionId(pub(super) u32);

/// Kinds of lock, the stronger one last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TableLock {
    /// Others may read too.
    Read,
    /// Nobody else may do anything.
    Write,
}

/// A lock that is held.
#[derive(Debug, Clone, Copy)]
struct Held {
    owner: SessionId,
    root: PageNumber,
    lock: TableLock,
}

/// The locks of all connections of one page cache.
#[derive(Debug, Default)]
pub(super) struct TableLocks {
    held: Vec<Held>,
}

impl TableLocks {
    /// Who keeps `owner` from getting this lock; `None`: nobody.
    pub(super) fn in_the_way(
        &self,
        owner: SessionId,
        root: PageNumber,
        lock: TableLock,
    ) -> Option<SessionId> {
        let conflicts = |held: &&Held| {
            held.owner != owner
                && held.root == root
                && (lock == TableLock::Write || held.lock == TableLock::Write)
        };
        self.held.iter().find(conflicts).map(|held| held.owner)
    }

    /// Gives a lock with which nobody is in the way; a lock that is there is raised, never lowered.
    ///
    /// # Errors
    /// [`NoMemory`](crate::error::Error::NoMemory).
    pub(super) fn grant(
        &mut self,
        owner: SessionId,
        root: PageNumber,
        lock: TableLock,
    ) -> Result<()> {
        debug_assert_eq!(self.in_the_way(owner, root, lock), None, "A2");
        let own = self.held.iter_mut().find(|held| held.owner == owner && held.root == root);
        if let Some(held) = own {
            held.lock = held.lock.max(lock);
            return Ok(());
        }
        crate::memory::reserve(&mut self.held, 1)?;
        self.held.push(Held { owner, root, lock });
        Ok(())
    }

    /// Takes all locks of a connection away: its transaction is over.
    pub(super) fn release(&mut self, owner: SessionId) {
        self.held.retain(|held| held.owner != owner);
    }

    /// Turns the write locks of a connection into read locks: its transaction goes on for reading.
    pub(super) fn downgrade(&mut self, owner: SessionId) {
        for held in self.held.iter_mut().filter(|held| held.owner == owner) {
            held.lock = TableLock::Read;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const OWNERS: u32 = 3;
    const ROOTS: u32 = 2;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ask(SessionId, PageNumber, TableLock),
        Release(SessionId),
        Downgrade(SessionId),
    }

    fn steps() -> Vec<Step> {
        let mut steps = Vec::new();
        for owner in (0..OWNERS).map(SessionId) {
            for root in (1..=ROOTS).filter_map(PageNumber::new) {
                steps.push(Step::Ask(owner, root, TableLock::Read));
                steps.push(Step::Ask(owner, root, TableLock::Write));
            }
            steps.push(Step::Release(owner));
            steps.push(Step::Downgrade(owner));
        }
        steps
    }

    /// What is held, by owner and root, as a map.
    type Model = BTreeMap<(SessionId, PageNumber), TableLock>;

    fn in_the_way_by_definition(
        model: &Model,
        owner: SessionId,
        root: PageNumber,
        lock: TableLock,
    ) -> bool {
        model.iter().any(|(&(other, other_root), &held)| {
            let readers = held == TableLock::Read && lock == TableLock::Read;
            other != owner && other_root == root && !readers
        })
    }

    fn run(locks: &mut TableLocks, model: &mut Model, step: Step) {
        match step {
            Step::Ask(owner, root, lock) => {
                let refused = locks.in_the_way(owner, root, lock);
                let expected = in_the_way_by_definition(model, owner, root, lock);
                assert_eq!(refused.is_some(), expected, "{step:?} with {model:?}");
                match refused {
                    Some(other) => assert!(model.contains_key(&(other, root)), "{step:?}"),
                    None => {
                        locks.grant(owner, root, lock).unwrap();
                        let held = model.entry((owner, root)).or_insert(lock);
                        *held = (*held).max(lock);
                    }
                }
            }
            Step::Release(owner) => {
                locks.release(owner);
                model.retain(|&(held_by, _), _| held_by != owner);
            }
            Step::Downgrade(owner) => {
                locks.downgrade(owner);
                for ((held_by, _), lock) in model.iter_mut() {
                    if *held_by == owner {
                        *lock = TableLock::Read;
                    }
                }
            }
        }
        let held: Model = locks.held.iter().map(|h| ((h.owner, h.root), h.lock)).collect();
        assert_eq!(held.len(), locks.held.len(), "A1");
        assert_eq!(&held, model, "{step:?}");
        for (&(owner, root), &lock) in model.iter() {
            assert!(!in_the_way_by_definition(model, owner, root, lock), "A2 after {step:?}");
        }
    }

    /// L50016 to L50021, D356: every sequence of four steps of three connections on two trees.
    #[test]
    fn every_short_history_is_that_of_the_definition() {
        let steps = steps();
        let mut histories = 0;
        let mut sequence = [0; 4];
        loop {
            let (mut locks, mut model) = (TableLocks::default(), Model::new());
            for &step in &sequence {
                run(&mut locks, &mut model, steps[step]);
            }
            histories += 1;
            let Some(at) = sequence.iter().rposition(|&step| step + 1 < steps.len()) else { break };
            sequence[at] += 1;
            sequence[at + 1..].fill(0);
        }
        assert_eq!(histories, steps.len().pow(4));
    }
}
