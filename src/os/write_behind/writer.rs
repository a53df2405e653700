//! Doing the head of the queue: the writer thread, and callers who take its place.
//!
//! ```text
//!   None ──start──► Starting ──the thread registers──► Thread ──halted, or a panic──► None
//!     └──flush, step, room for a write, exit──► Caller ──done──► None
//! ```
//!
//! Only who has the role executes; everybody changes it under the mutex of the state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::pending::Position;
use super::batch::{self, Outcome};
use super::finish;
use super::rules::Rules;
use super::settings::Halt;
use super::shared::Shared;
use super::state::{Executor, State};
use super::sync::{Guard, spawn};
use crate::error::{Error, Result};

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The queue was empty.
    Empty,
    /// Something was done; `delays` if it was an operation and no remains of an error.
    Done { delays: bool },
    /// The disk beneath panicked.
    Died,
}

impl Shared {
    /// Does the head of the queue, and what may go along with it. Only for who has the role.
    pub(super) fn execute_next(&self, one_at_a_time: bool) -> Step {
        let mut state = self.state();
        while batch::waits_for_reader(&state) {
            state = self.progress.wait(state);
        }
        let settings = state.settings;
        let is_plain = one_at_a_time || settings.delay_ms > 0 && !state.exiting;
        let rules = if is_plain { Rules::NONE } else { settings.rules() };
        let Some(batch) = batch::take(&mut state, rules) else { return Step::Empty };
        drop(state);
        let performed = catch_unwind(AssertUnwindSafe(|| batch.perform(self)));
        let died = performed.is_err();
        let outcome = performed.unwrap_or_else(|_| Outcome::died());
        let delays = batch.is_operation();
        let mut state = self.state();
        let errors_seen = state.errors_seen;
        finish::finish(&mut state, batch, outcome, died);
        let report = state.history.back().filter(|_| state.errors_seen > errors_seen).cloned();
        self.progress.notify_all();
        drop(state);
        if let Some(report) = report {
            self.trace(|| {
                let file = report.file.as_deref().unwrap_or(std::path::Path::new("(temporary)"));
                let code = report.error.code().name;
                let (file, lost) = (file.display(), report.lost_operations);
                format!("ERROR {} {file} {code} lost {lost}", report.operation)
            });
        }
        if died { Step::Died } else { Step::Done { delays } }
    }

    /// Starts the writer, and returns when it has its role. Nothing happens if one runs.
    ///
    /// # Errors
    /// [`Error::State`] if the system gives no thread; [`Error::Misuse`] in a forked child.
    pub(super) fn start(self: &Arc<Shared>) -> Result<()> {
        let mut state = self.enter()?;
        while state.executor == Executor::Caller {
            state = self.progress.wait(state);
        }
        if state.executor == Executor::None {
            state.executor = Executor::Starting;
            let shared = Arc::clone(self);
            if !spawn(move || shared.run_writer()) {
                state.executor = Executor::None;
                self.progress.notify_all();
                return Err(Error::State("failed to create the thread"));
            }
        }
        while state.executor == Executor::Starting {
            state = self.progress.wait(state);
        }
        Ok(())
    }

    /// The thread. A panic ends it, but fails everybody who relies on it first.
    pub(super) fn run_writer(&self) {
        let mut state = self.state();
        state.executor = Executor::Thread;
        self.progress.notify_all();
        drop(state);
        let ended = catch_unwind(AssertUnwindSafe(|| self.write_until_halted()));
        if ended.is_err() {
            let mut state = self.state();
            finish::fail_all(&mut state, Error::Internal("the writer panicked"));
            self.give_up_role(&mut state);
        }
    }

    /// Lets go of the role and tells everybody.
    pub(super) fn give_up_role(&self, state: &mut State) {
        state.queue.release(None);
        state.executor = Executor::None;
        self.progress.notify_all();
    }

    fn write_until_halted(&self) {
        loop {
            let mut state = self.state();
            loop {
                let halt = if state.exiting { Halt::Idle } else { state.halt };
                state.keep_back();
                let is_empty = state.queue.live() == state.queue.kept().0;
                if halt == Halt::Now || halt == Halt::Idle && is_empty {
                    self.give_up_role(&mut state);
                    return;
                }
                state = match self.lag(&mut state, Instant::now()) {
                    _ if is_empty => self.idle(state),
                    Some(rest) => self.work.wait_for(state, rest),
                    None => break,
                };
            }
            drop(state);
            match self.execute_next(false) {
                Step::Died => {
                    self.give_up_role(&mut self.state());
                    return;
                }
                Step::Done { delays: true } => self.delay(),
                Step::Done { delays: false } | Step::Empty => {}
            }
        }
    }

    fn idle<'a>(&'a self, state: Guard<'a, State>) -> Guard<'a, State> {
        drop(state);
        self.trace(|| "IDLE".to_owned());
        let mut state = self.state();
        state.keep_back();
        let is_empty = state.queue.live() == state.queue.kept().0;
        if is_empty && state.halt == Halt::Never && !state.exiting {
            state = self.work.wait(state);
        }
        drop(state);
        self.trace(|| "WAKEUP".to_owned());
        self.state()
    }

    /// How long the head may still wait for company; `None` if it is to be started now.
    fn lag(&self, state: &mut State, now: Instant) -> Option<Duration> {
        if state.settings.max_lag_ms == 0
            || state.hurry > 0
            || state.halt != Halt::Never
            || state.exiting
        {
            return None;
        }
        let head = state.queue.entries().front()?;
        if state.queue.has_barrier() || head.position <= state.burst_until {
            return None;
        }
        let lag = Duration::from_millis(state.settings.max_lag_ms);
        let rest = lag.saturating_sub(now.saturating_duration_since(head.pushed));
        if rest.is_zero() {
            state.burst_until = state.queue.next_position() - 1;
            return None;
        }
        Some(rest)
    }

    /// The pause after each operation. Without one others get their turn all the same, since
    /// nothing is locked while the disk works. To yield the processor as well would let a writer
    /// on a busy machine do one operation for each turn of everybody else.
    fn delay(&self) {
        let began = Instant::now();
        let mut state = self.state();
        loop {
            let delay = Duration::from_millis(state.settings.delay_ms);
            let rest = delay.saturating_sub(began.elapsed());
            if rest.is_zero() || state.halt == Halt::Now || state.exiting {
                return;
            }
            state = self.work.wait_for(state, rest);
        }
    }

    /// Does the work in the caller's thread until `is_enough`, or until the queue is empty. The
    /// caller has seen, under the lock that it hands over, that nobody has the role.
    pub(super) fn work_in_place<'a>(
        &'a self,
        mut state: Guard<'a, State>,
        one_at_a_time: bool,
        mut is_enough: impl FnMut(&mut State) -> bool,
    ) -> Guard<'a, State> {
        state.executor = Executor::Caller;
        while !is_enough(&mut state) {
            drop(state);
            let step = self.execute_next(one_at_a_time);
            state = self.state();
            if matches!(step, Step::Empty | Step::Died) {
                break;
            }
        }
        self.give_up_role(&mut state);
        state
    }

    /// Works until what is at `position` is over, or waits for whoever does.
    ///
    /// # Errors
    /// [`Error::Busy`] if nobody may work, because the queue is halted.
    pub(super) fn reach<'a>(
        &'a self,
        mut state: Guard<'a, State>,
        position: Position,
    ) -> Result<Guard<'a, State>> {
        let is_over = |state: &State| {
            state.queue.entries().front().is_none_or(|head| head.position > position)
        };
        while !is_over(&state) {
            if state.executor != Executor::None {
                self.work.notify_one();
                state = self.progress.wait(state);
            } else if state.halt == Halt::Now && !state.exiting {
                return Err(Error::Busy);
            } else {
                state = self.work_in_place(state, false, |state| is_over(state));
            }
        }
        Ok(state)
    }
}
