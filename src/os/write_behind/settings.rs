//! What can be set, and the defaults.

use super::rules::{Rule, Rules};

/// When the writer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Halt {
    /// Not by itself.
    #[default]
    Never,
    /// As soon as the queue is empty.
    Idle,
    /// After the operation in hand; what is queued stays.
    Now,
}

/// What becomes of a write for which the queue has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitPolicy {
    /// It waits for the writer; without one it is [`Busy`](crate::Error::Busy).
    #[default]
    Block,
    /// It is [`Full`](crate::Error::Full).
    Refuse,
    /// As `Block`, but without a writer the caller makes room itself.
    Inline,
}

/// How much the writer may join and leave out; each includes the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Coalesce {
    /// Every operation is a call of its own, in the order of the queue.
    Off,
    /// Neighbouring writes of one file become one call; bytes that are overwritten at once are
    /// not written; a sync of what is synced is left out.
    #[default]
    Safe,
    /// Rules that look further ahead: a page that is written again in the same transaction is
    /// written once; a journal that never had to protect anything, and a temporary file that is
    /// closed before its turn, are not made. Temporary files wait for that in memory, up to 4 MiB
    /// of all of them, while the writer runs and nobody waits for room or for the whole queue;
    /// with [`LimitPolicy::Refuse`] they do not.
    Full,
}

/// What the end of the process does to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExit {
    /// It is worked off.
    #[default]
    Drain,
    /// It is lost.
    Discard,
}

/// How sure a flush, a commit or a last close wants to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Nothing is waited for.
    #[default]
    None,
    /// The operations are done: their effect survives the process.
    Written,
    /// And synced: it survives a loss of power.
    Durable,
}

/// Everything that can be set but the halt, which takes effect by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) delay_ms: u64,
    /// Bytes; 0: no limit.
    pub(super) limit: u64,
    pub(super) policy: LimitPolicy,
    pub(super) lock_files: bool,
    pub(super) two_handles: bool,
    pub(super) coalesce: Coalesce,
    /// For tests: this rule by itself, whatever `coalesce` says.
    pub(super) only_rule: Option<Rule>,
    /// 0: nothing is held back.
    pub(super) max_lag_ms: u64,
    /// 0: a real lock is never given up in between.
    pub(super) max_hold_ms: u64,
    pub(super) on_exit: OnExit,
    /// 0: no bound.
    pub(super) exit_timeout_ms: u64,
    pub(super) on_close: Durability,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            delay_ms: 0,
            limit: 0,
            policy: LimitPolicy::default(),
            lock_files: true,
            two_handles: true,
            coalesce: Coalesce::default(),
            only_rule: None,
            max_lag_ms: 0,
            max_hold_ms: 0,
            on_exit: OnExit::default(),
            exit_timeout_ms: 10_000,
            on_close: Durability::default(),
        }
    }
}

impl Settings {
    /// The rules of joining and leaving out that are in force.
    pub(super) fn rules(&self) -> Rules {
        Rules::new(self.coalesce, self.only_rule)
    }
}
