//! Flush barriers, single steps, room for writes, and the end of the process.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::{HandleId, Ticket};
use super::groups::{GroupId, Groups};
use super::settings::{Halt, LimitPolicy, OnExit};
use super::shared::Shared;
use super::state::{Executor, State};
use super::sync::Guard;
use crate::error::{Error, Result};

/// What the end of the process left undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExitReport {
    /// Operations that were lost, by the time limit or by an error.
    pub lost_operations: u64,
    /// Commits among them that had been reported as successful.
    pub lost_commits: u64,
    /// The first error, if there was one.
    pub error: Option<Error>,
}

impl Shared {
    /// Waits until everything that is queued by now, in all or in the group of `path`, is done;
    /// with `durable`, and synced.
    ///
    /// # Errors
    /// The first error at or before its place; [`Error::State`] `halted` or `timeout`.
    pub(super) fn flush(
        &self,
        path: Option<&Path>,
        durable: bool,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let mut state = self.enter()?;
        let scope = path.map(|path| state.groups.of_path(path));
        self.flush_group(state, scope, durable, timeout)
    }

    /// As [`Shared::flush`], of a group.
    pub(super) fn flush_group<'a>(
        &'a self,
        mut state: Guard<'a, State>,
        scope: Option<GroupId>,
        durable: bool,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let ticket = state.push_barrier(scope, durable)?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.work.notify_one();
        loop {
            if let Some(result) = state.tickets.get(&ticket).and_then(|waiting| waiting.result) {
                state.tickets.remove(&ticket);
                return result;
            }
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if rest.is_some_and(|rest| rest.is_zero()) {
                state.tickets.remove(&ticket);
                return Err(Error::State("timeout"));
            }
            state = match (state.executor, rest) {
                (Executor::None, _) if state.halt == Halt::Now && !state.exiting => {
                    state.tickets.remove(&ticket);
                    return Err(Error::State("halted"));
                }
                (Executor::None, _) => self.work_in_place(state, false, |state| {
                    let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                    is_late || is_over(state, ticket)
                }),
                (_, None) => self.progress.wait(state),
                (_, Some(rest)) => self.progress.wait_for(state, rest),
            };
        }
    }

    /// Does up to `count` operations in the caller, each by itself. Returns how many.
    ///
    /// # Errors
    /// [`Error::Busy`] if a writer runs.
    pub(super) fn step(&self, count: u64) -> Result<u64> {
        let state = self.enter()?;
        if state.executor != Executor::None {
            return Err(Error::Busy);
        }
        let mut done = 0;
        let state = self.work_in_place(state, true, |state| {
            let is_enough = done >= count || state.queue.live() == 0;
            done += u64::from(!is_enough);
            is_enough
        });
        drop(state);
        Ok(done)
    }

    /// Waits until the writer has ended.
    ///
    /// # Errors
    /// [`Error::State`] if nothing will make it end.
    pub(super) fn wait(&self) -> Result<()> {
        let mut state = self.enter()?;
        if state.halt == Halt::Never {
            return Err(Error::State("would block forever"));
        }
        let waits = state.has_writer();
        drop(state);
        self.trace(|| if waits { "WAIT" } else { "NO-WAIT" }.to_owned());
        state = self.enter()?;
        while state.has_writer() {
            self.work.notify_one();
            state = self.progress.wait(state);
        }
        Ok(())
    }

    /// Waits until a write of `length` bytes may be pushed, as the limit's policy has it.
    /// Writes that undo others are never refused: then a full queue could not be left.
    ///
    /// # Errors
    /// [`Error::Full`]; [`Error::Busy`] if nobody makes room; the latched error.
    pub(super) fn make_room<'a>(
        &'a self,
        mut state: Guard<'a, State>,
        handle: HandleId,
        length: u64,
        undoes: bool,
    ) -> Result<Guard<'a, State>> {
        let file = state.handles.get(&handle).map(|handle| handle.file);
        let began = Instant::now();
        let mut has_waited = false;
        let result = loop {
            let latch = file.map_or(Ok(()), |file| state.file_latch(file));
            if latch.is_err() {
                break latch;
            }
            if has_room(&state, length, has_waited) {
                break Ok(());
            }
            let policy = state.settings.policy;
            let (is_halted, works) =
                (state.halt == Halt::Now && !state.exiting, state.has_writer());
            if undoes && (!works || is_halted) {
                break Ok(());
            }
            if policy == LimitPolicy::Refuse && !undoes {
                break Err(Error::Full);
            }
            has_waited = true;
            state = match state.executor {
                _ if works && !is_halted => self.wait_for_room(state),
                Executor::Caller => self.progress.wait(state),
                _ if is_halted || policy != LimitPolicy::Inline => break Err(Error::Busy),
                _ => self.work_in_place(state, false, |state| has_room(state, length, true)),
            };
        };
        if has_waited {
            let waited = began.elapsed();
            let group = file.and_then(|file| state.files.get(&file)).map(|file| file.group);
            let group = group.unwrap_or(Groups::NOBODY);
            state.count(group, |counters| {
                counters.waits += 1;
                counters.waited += waited;
            });
        }
        result.map(|()| state)
    }

    fn wait_for_room<'a>(&'a self, mut state: Guard<'a, State>) -> Guard<'a, State> {
        state.hurry += 1;
        self.work.notify_one();
        let mut state = self.progress.wait(state);
        state.hurry = state.hurry.saturating_sub(1);
        state
    }

    /// The process ends: works off the queue, or gives it up. From here on every operation is
    /// carried out before its call returns.
    pub(super) fn exit(self: &Arc<Shared>) -> ExitReport {
        let Ok(mut state) = self.enter() else { return ExitReport::default() };
        let errors_before = state.errors_seen;
        let limit = Duration::from_millis(state.settings.exit_timeout_ms);
        let deadline = (!limit.is_zero()).then(|| Instant::now().checked_add(limit)).flatten();
        if state.settings.on_exit == OnExit::Discard {
            return ExitReport::default();
        }
        state.exiting = true;
        self.work.notify_all();
        // Another thread works, so that a disk that hangs cannot keep the process.
        while state.queue.live() > 0 {
            if state.executor == Executor::None {
                drop(state);
                let started = self.start();
                state = self.state();
                if started.is_err() {
                    state = self.drain_in_place(state, deadline);
                    break;
                }
                continue;
            }
            state = match deadline {
                None => self.progress.wait(state),
                Some(deadline) => {
                    let rest = deadline.saturating_duration_since(Instant::now());
                    if rest.is_zero() {
                        break;
                    }
                    self.progress.wait_for(state, rest)
                }
            };
        }
        report(&state, errors_before)
    }

    fn drain_in_place<'a>(
        &'a self,
        state: Guard<'a, State>,
        deadline: Option<Instant>,
    ) -> Guard<'a, State> {
        if state.executor != Executor::None {
            return state;
        }
        self.work_in_place(state, false, |state| {
            state.queue.live() == 0 || deadline.is_some_and(|deadline| Instant::now() >= deadline)
        })
    }
}

fn is_over(state: &State, ticket: Ticket) -> bool {
    state.tickets.get(&ticket).is_none_or(|waiting| waiting.result.is_some())
}

/// Whether a write fits. Who has waited goes on when the queue is half empty, so that it does not
/// wait again for the next byte.
fn has_room(state: &State, length: u64, has_waited: bool) -> bool {
    let (limit, bytes) = (state.settings.limit, state.queue.bytes());
    if limit == 0 || bytes == 0 {
        return true;
    }
    let fits = bytes.saturating_add(length) <= limit;
    fits && (!has_waited || bytes <= limit / 2)
}

fn report(state: &State, errors_before: u64) -> ExitReport {
    let mut report =
        ExitReport { lost_operations: state.queue.live() as u64, ..ExitReport::default() };
    for entry in state.queue.all() {
        report.lost_commits += u64::from(entry.is_commit);
    }
    for error in state.history.iter().filter(|error| error.number > errors_before) {
        report.error = report.error.or(Some(error.error));
        report.lost_operations += error.lost_operations + 1;
        report.lost_commits += error.lost_commits;
    }
    report
}
