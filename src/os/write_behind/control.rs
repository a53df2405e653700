//! `WriteBehind`: everything that can be asked of and told to a queue.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::failure::ErrorReport;
use super::flush::ExitReport;
use super::rules::Rule;
use super::settings::{Coalesce, Durability, Halt, LimitPolicy, OnExit, Settings};
use super::shared::{Shared, Trace};
use super::state::State;
use super::stats::Statistics;
use crate::error::{Error, Result};

/// A queue and its writer, as its owner sees them. Clones are the same queue.
///
/// Every method may be called from every thread. In a forked child all of them do nothing, or
/// report [`Error::Misuse`]: the queue and its writer stayed in the parent.
#[derive(Debug, Clone)]
pub struct WriteBehind {
    shared: Arc<Shared>,
}

impl Default for WriteBehind {
    fn default() -> WriteBehind {
        WriteBehind::new()
    }
}

/// How things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// A writer thread has the queue.
    pub running: bool,
    /// When it ends.
    pub halt: Halt,
    /// Pause after each operation, in milliseconds.
    pub delay_ms: u64,
    /// Handles that are open as far as their owners know.
    pub files: u64,
    /// Operations in the queue, the one in hand included.
    pub ops: u64,
    /// Bytes to be written by them.
    pub bytes: u64,
    /// The first latched error of all groups.
    pub error: Option<Error>,
}

/// An operation in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedOperation {
    /// The number of the operation: 0 to 9 are the original's.
    pub code: u32,
    /// Its name.
    pub name: &'static str,
    /// The file it is about, if that has a name.
    pub file: Option<PathBuf>,
    /// Where a write begins, a truncated file ends; else the flag or level, or 0.
    pub offset: u64,
    /// Bytes to be written.
    pub bytes: u64,
}

impl WriteBehind {
    /// An empty queue without a writer, all settings at their defaults.
    pub fn new() -> WriteBehind {
        WriteBehind { shared: Arc::new(Shared::new()) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    // ---- the writer

    /// Starts the writer; when this returns it has the queue. Nothing happens if one runs.
    ///
    /// # Errors
    /// [`Error::State`] `failed to create the thread`.
    pub fn start(&self) -> Result<()> {
        self.shared.start()
    }

    /// Sets when the writer ends; one that sleeps notices at once.
    pub fn set_halt(&self, halt: Halt) {
        let Ok(mut state) = self.shared.enter() else { return };
        state.halt = halt;
        self.shared.work.notify_all();
        self.shared.progress.notify_all();
    }

    /// When the writer ends.
    pub fn halt(&self) -> Halt {
        self.shared.enter().map_or(Halt::Never, |state| state.halt)
    }

    /// Waits until no writer runs.
    ///
    /// # Errors
    /// [`Error::State`] `would block forever` if the halt is `Never`.
    pub fn wait(&self) -> Result<()> {
        self.shared.wait()
    }

    /// Does up to `count` operations in the caller, each by itself, whatever the halt says.
    /// Returns how many there were.
    ///
    /// # Errors
    /// [`Error::Busy`] if a writer runs. An operation that fails counts, and is latched.
    pub fn step(&self, count: u64) -> Result<u64> {
        self.shared.step(count)
    }

    /// Waits until everything that is queued by now is done, in all or in the group of `path`
    /// (a full path); with [`Durability::Durable`], and synced. Without a writer the caller works.
    ///
    /// # Errors
    /// The first error at or before its place; [`Error::State`] `halted` if the halt is `Now`,
    /// `timeout`. [`Durability::None`] does nothing.
    pub fn flush(
        &self,
        path: Option<&Path>,
        how: Durability,
        timeout: Option<Duration>,
    ) -> Result<()> {
        match how {
            Durability::None => Ok(()),
            Durability::Written => self.shared.flush(path, false, timeout),
            Durability::Durable => self.shared.flush(path, true, timeout),
        }
    }

    /// The process ends: works off the queue, whatever halt and delay say, for as long as the
    /// settings allow. From here on opens go straight to the disk beneath, and handles that are
    /// still open do their work before each call returns. To be called once.
    pub fn exit(&self) -> ExitReport {
        self.shared.exit()
    }

    // ---- what is going on

    /// How things stand.
    pub fn status(&self) -> Status {
        let empty = Status {
            running: false,
            halt: Halt::Never,
            delay_ms: 0,
            files: 0,
            ops: 0,
            bytes: 0,
            error: None,
        };
        self.shared.enter().map_or(empty, |state| Status {
            running: state.has_writer(),
            halt: state.halt,
            delay_ms: state.settings.delay_ms,
            files: state.open_handles as u64,
            ops: state.queue.live() as u64,
            bytes: state.queue.bytes(),
            error: state.groups.first_latch(),
        })
    }

    /// The queue from its head.
    pub fn queue(&self) -> Vec<QueuedOperation> {
        let Ok(state) = self.shared.enter() else { return Vec::new() };
        let live = state.queue.all().filter(|entry| !entry.is_done());
        let file_of = |entry: &super::entry::Entry| match entry.op.path() {
            Some(path) => Some(path.to_owned()),
            None => state.files.get(&entry.file?)?.path.clone(),
        };
        live.map(|entry| QueuedOperation {
            code: entry.op.code(),
            name: entry.op.name(),
            file: file_of(entry),
            offset: entry.op.offset(),
            bytes: entry.op.payload(),
        })
        .collect()
    }

    /// The latched error of the group of `path` (a full path), or the first of all.
    pub fn error(&self, path: Option<&Path>) -> Option<Error> {
        let state = self.shared.enter().ok()?;
        match path {
            Some(path) => state.groups.known(path).and_then(|group| state.groups.latch(group)),
            None => state.groups.first_latch(),
        }
    }

    /// The errors since this was last asked, in all or in the present group of `path`; they are
    /// kept when the latch is cleared, until read.
    pub fn take_history(&self, path: Option<&Path>) -> Vec<ErrorReport> {
        let Ok(mut state) = self.shared.enter() else { return Vec::new() };
        let history = std::mem::take(&mut state.history);
        let Some(path) = path else { return history.into() };
        let (asked, kept): (Vec<_>, Vec<_>) =
            history.into_iter().partition(|report| concerns(report, path));
        state.history = kept.into();
        asked
    }

    /// The counters, of all or of the group of `path` (a full path).
    pub fn statistics(&self, path: Option<&Path>) -> Statistics {
        let Ok(mut state) = self.shared.enter() else { return Statistics::default() };
        statistics(&mut state, path)
    }

    /// The counters as they are, which then start anew.
    pub fn reset_statistics(&self, path: Option<&Path>) -> Statistics {
        let Ok(mut state) = self.shared.enter() else { return Statistics::default() };
        let before = statistics(&mut state, path);
        let group = path.map(|path| state.groups.known(path));
        let counters = match group {
            None => Some(&mut state.counters),
            Some(group) => group.and_then(|group| state.groups.counters(group)),
        };
        if let Some(counters) = counters {
            counters.reset(before.queued_ops, before.queued_bytes);
        }
        before
    }

    /// Whether this process was forked from the one that the queue belongs to. It has a copy of
    /// the queue, which nobody works on.
    pub fn is_forked(&self) -> bool {
        self.shared.is_forked()
    }

    /// Sets who is told of every event; see [`Trace`].
    pub fn set_trace(&self, trace: Option<Trace>) {
        if !self.shared.is_forked() {
            self.shared.set_trace(trace);
        }
    }

    /// Lets an integer switch tracing: events are told while it is not 0. It is read at every
    /// event, and cannot be exchanged for another one.
    pub fn set_trace_switch(&self, switch: &'static AtomicI32) {
        self.shared.set_trace_switch(switch);
    }

    // ---- settings

    fn get<T: Default>(&self, get: impl FnOnce(&Settings) -> T) -> T {
        self.shared.enter().map_or_else(|_| T::default(), |state| get(&state.settings))
    }

    fn set(&self, set: impl FnOnce(&mut Settings)) {
        let Ok(mut state) = self.shared.enter() else { return };
        set(&mut state.settings);
        self.shared.work.notify_all();
        self.shared.progress.notify_all();
    }

    /// Pause of the writer after each operation, in milliseconds.
    pub fn delay_ms(&self) -> u64 {
        self.get(|settings| settings.delay_ms)
    }

    /// Sets the pause; a running writer takes it over.
    pub fn set_delay_ms(&self, delay: u64) {
        self.set(|settings| settings.delay_ms = delay);
    }

    /// The most bytes that may be queued, 0 for any number, and what becomes of a write beyond.
    pub fn limit(&self) -> (u64, LimitPolicy) {
        self.get(|settings| (settings.limit, settings.policy))
    }

    /// Sets the limit.
    pub fn set_limit(&self, bytes: u64, policy: LimitPolicy) {
        self.set(|settings| (settings.limit, settings.policy) = (bytes, policy));
    }

    /// Whether other processes see the locks.
    pub fn lock_files(&self) -> bool {
        self.get(|settings| settings.lock_files)
    }

    /// Sets whether other processes see the locks.
    ///
    /// # Errors
    /// [`Error::Misuse`] while a file is open or something is queued.
    pub fn set_lock_files(&self, lock_files: bool) -> Result<()> {
        let mut state = self.shared.enter()?;
        if state.open_handles > 0 || state.queue.live() > 0 {
            return Err(Error::Misuse("files are open, or operations queued"));
        }
        state.settings.lock_files = lock_files;
        Ok(())
    }

    /// Whether a database gets a base handle of its own for the writer.
    pub fn two_handles(&self) -> bool {
        self.get(|settings| settings.two_handles)
    }

    /// Sets that, for files opened from here on.
    pub fn set_two_handles(&self, two_handles: bool) {
        self.set(|settings| settings.two_handles = two_handles);
    }

    /// How much the writer joins and leaves out.
    pub fn coalesce(&self) -> Coalesce {
        self.get(|settings| settings.coalesce)
    }

    /// Sets how much the writer joins and leaves out.
    pub fn set_coalesce(&self, coalesce: Coalesce) {
        self.set(|settings| settings.coalesce = coalesce);
    }

    /// How long an operation may wait for company, in milliseconds; 0: not at all.
    pub fn max_lag_ms(&self) -> u64 {
        self.get(|settings| settings.max_lag_ms)
    }

    /// Sets how long an operation may wait for company.
    pub fn set_max_lag_ms(&self, lag: u64) {
        self.set(|settings| settings.max_lag_ms = lag);
    }

    /// How long a real lock may last across transactions, in milliseconds; 0: for ever.
    pub fn max_hold_ms(&self) -> u64 {
        self.get(|settings| settings.max_hold_ms)
    }

    /// Sets how long a real lock may last across transactions.
    pub fn set_max_hold_ms(&self, hold: u64) {
        self.set(|settings| settings.max_hold_ms = hold);
    }

    /// What the end of the process does to the queue.
    pub fn on_exit(&self) -> OnExit {
        self.get(|settings| settings.on_exit)
    }

    /// Sets what the end of the process does to the queue.
    pub fn set_on_exit(&self, on_exit: OnExit) {
        self.set(|settings| settings.on_exit = on_exit);
    }

    /// How long the end of the process may take, in milliseconds; 0: as long as it needs.
    pub fn exit_timeout_ms(&self) -> u64 {
        self.get(|settings| settings.exit_timeout_ms)
    }

    /// Sets how long the end of the process may take.
    pub fn set_exit_timeout_ms(&self, timeout: u64) {
        self.set(|settings| settings.exit_timeout_ms = timeout);
    }

    /// What the last close of a database waits for.
    pub fn on_close(&self) -> Durability {
        self.get(|settings| settings.on_close)
    }

    /// Sets what the last close of a database waits for.
    pub fn set_on_close(&self, on_close: Durability) {
        self.set(|settings| settings.on_close = on_close);
    }

    // ---- for tests

    /// Lets copies of written bytes fail for lack of memory, after `successes` more; `None`: no
    /// more. One failure, then all is well again.
    pub fn fail_copy_after(&self, successes: Option<u32>) {
        let left = successes.map_or(-1, i64::from);
        self.shared.copies_left.store(left, Relaxed);
    }

    /// Follows one rule of joining and leaving out by itself, whatever is set; `None`: no more.
    #[doc(hidden)]
    pub fn follow_only(&self, rule: Option<Rule>) {
        self.set(|settings| settings.only_rule = rule);
    }

    /// Breaks a rule in what is queued; nothing may be read from it afterwards.
    #[doc(hidden)]
    pub fn break_rule(&self, rule: super::Forbidden) {
        if let Ok(mut state) = self.shared.enter() {
            state.break_rule(rule);
        }
    }

    /// Bytes that the queued writes keep in memory, what they share once.
    #[cfg(test)]
    pub(super) fn kept_memory(&self) -> usize {
        let state = self.shared.state();
        let mut kept = std::collections::HashMap::new();
        for entry in state.queue.all() {
            if let super::entry::Op::Write { data, .. } = &entry.op {
                data.note_memory(&mut kept);
            }
        }
        kept.values().sum()
    }

    /// Lets reads trust what they found on disk without looking again whether it was being
    /// changed: wrong on purpose.
    #[doc(hidden)]
    pub fn set_looks_once(&self, looks_once: bool) {
        self.shared.looks_once.store(looks_once, Relaxed);
    }
}

fn concerns(report: &ErrorReport, path: &Path) -> bool {
    report.file.as_deref().is_some_and(|file| {
        file == path || super::groups::database_of(file).is_some_and(|database| database == path)
    })
}

fn statistics(state: &mut State, path: Option<&Path>) -> Statistics {
    let oldest = |oldest: Option<&super::entry::Entry>| {
        oldest.map_or(Duration::ZERO, |entry| entry.pushed.elapsed())
    };
    let Some(path) = path else {
        let age = oldest(state.queue.entries().iter().find(|entry| !entry.is_done()));
        let (ops, bytes) = (state.queue.live() as u64, state.queue.bytes());
        return Statistics::new(&state.counters, ops, bytes, age);
    };
    let Some(group) = state.groups.known(path) else { return Statistics::default() };
    let groups = &state.groups;
    let in_group =
        |entry: &&super::entry::Entry| !entry.is_done() && groups.find(entry.group) == group;
    let of_group = || state.queue.all().filter(in_group);
    let (ops, bytes) =
        (of_group().count() as u64, of_group().map(|entry| entry.op.payload()).sum());
    let age = oldest(of_group().next());
    let counters = state.groups.counters(group).copied().unwrap_or_default();
    Statistics::new(&counters, ops, bytes, age)
}
