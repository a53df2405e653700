//! The knobs of a [`FaultVfs`](super::FaultVfs), and what they decide about each call.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::super::{LockLevel, OpenRequest, SyncKind};
use super::super::Unsynced;
use super::unsynced::Record;
use crate::error::{Error, IoCall, Result};

/// How soon a call in hand notices that its delay has changed.
const STALL_SLICE: Duration = Duration::from_millis(2);

/// The kinds of call that can be counted, logged and made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the name of the call")]
pub enum OpKind {
    Open,
    Close,
    Read,
    Write,
    Truncate,
    Sync,
    Size,
    Lock,
    Unlock,
    CheckReservedLock,
    Delete,
    Exists,
    OpenDirectory,
    SyncDirectory,
    /// Stands for each of the others, in plans and counts.
    Any,
}

impl OpKind {
    /// All kinds, [`OpKind::Any`] last.
    pub const ALL: [OpKind; 15] = [
        OpKind::Open,
        OpKind::Close,
        OpKind::Read,
        OpKind::Write,
        OpKind::Truncate,
        OpKind::Sync,
        OpKind::Size,
        OpKind::Lock,
        OpKind::Unlock,
        OpKind::CheckReservedLock,
        OpKind::Delete,
        OpKind::Exists,
        OpKind::OpenDirectory,
        OpKind::SyncDirectory,
        OpKind::Any,
    ];

    /// The word by which scripts name the kind.
    pub fn name(self) -> &'static str {
        match self {
            OpKind::Open => "open",
            OpKind::Close => "close",
            OpKind::Read => "read",
            OpKind::Write => "write",
            OpKind::Truncate => "truncate",
            OpKind::Sync => "sync",
            OpKind::Size => "size",
            OpKind::Lock => "lock",
            OpKind::Unlock => "unlock",
            OpKind::CheckReservedLock => "check_reserved_lock",
            OpKind::Delete => "delete",
            OpKind::Exists => "exists",
            OpKind::OpenDirectory => "open_directory",
            OpKind::SyncDirectory => "sync_directory",
            OpKind::Any => "any",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<OpKind> {
        OpKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The error of a call of this kind that fails for no reason of its own.
    fn error(self) -> Error {
        let call = match self {
            OpKind::Open | OpKind::OpenDirectory => IoCall::Open,
            OpKind::Close => IoCall::Close,
            OpKind::Read | OpKind::Any => IoCall::Read,
            OpKind::Write => IoCall::Write,
            OpKind::Truncate => IoCall::Truncate,
            OpKind::Sync => IoCall::Sync,
            OpKind::Size => IoCall::Size,
            OpKind::Lock => IoCall::Lock,
            OpKind::Unlock => IoCall::Unlock,
            OpKind::CheckReservedLock => IoCall::CheckReservedLock,
            OpKind::Delete => IoCall::Delete,
            OpKind::Exists => IoCall::Exists,
            OpKind::SyncDirectory => IoCall::SyncDirectory,
        };
        Error::Io { call, errno: 0 }
    }

    /// Whether `io_error_pending` counts calls of this kind.
    fn counts_for_io_errors(self) -> bool {
        matches!(
            self,
            OpKind::Read
                | OpKind::Write
                | OpKind::Sync
                | OpKind::SyncDirectory
                | OpKind::Truncate
                | OpKind::Size
        )
    }
}

const KINDS: usize = OpKind::ALL.len();

/// How a planned call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlannedFault {
    /// What it reports; `None`: the I/O error that belongs to the call, with error number 0.
    pub error: Option<Error>,
    /// All later calls of the kind fail as well, until the plan is ended.
    pub persist: bool,
    /// A failing write has written the first half of its bytes.
    pub torn: bool,
}

/// A call that was made, whether it was let through or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedCall {
    /// What was called; never [`OpKind::Any`].
    pub kind: OpKind,
    /// The file, `None` for a temporary one.
    pub path: Option<PathBuf>,
    /// With what arguments.
    pub arguments: Arguments,
    /// In which thread.
    pub thread: ThreadId,
    /// The simulated error that it was given instead of being made.
    pub fault: Option<Error>,
}

/// The arguments of a logged call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arguments {
    /// There are none besides the file.
    None,
    /// Of a read or write, both in bytes.
    Range {
        /// Where it starts.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// The new size of a truncation, in bytes.
    Size(u64),
    /// Of an open.
    Open(OpenRequest),
    /// The wanted level of a lock or unlock.
    Level(LockLevel),
    /// Of a sync.
    Sync(SyncKind),
}

/// A plan: the call after `left` − 1 others of its kind fails. No plan if `left` is 0.
#[derive(Debug, Clone, Copy)]
struct Plan {
    left: u64,
    fault: PlannedFault,
}

const NO_PLAN: Plan =
    Plan { left: 0, fault: PlannedFault { error: None, persist: false, torn: false } };

/// The knobs and counters of a [`FaultVfs`](super::FaultVfs). Those that are public are plain
/// integers which scripts read and set as variables; they are named as those variables are,
/// without `sqlite_`.
///
/// Any number of disks may share one set, in any number of threads.
#[derive(Debug)]
pub struct FaultKnobs {
    /// Not 0: counts down by one at each read, write, sync, directory sync, truncate and size
    /// query; the call that takes it from 1 to 0 fails with an I/O error.
    pub io_error_pending: AtomicI32,
    /// Becomes 1 when a simulated I/O error or full disk strikes; never reset from here.
    pub io_error_hit: AtomicI32,
    /// Not 0: once `io_error_hit` is set, every call that `io_error_pending` counts fails.
    pub io_error_persist: AtomicI32,
    /// How often an error or full disk struck.
    pub io_error_hardhit: AtomicI32,
    /// Not 0: counts down at each write and each seek to an offset other than 0; at 1 it stays,
    /// and every such call fails with [`Error::Full`].
    pub diskfull_pending: AtomicI32,
    /// Becomes 1 when the disk is full.
    pub diskfull: AtomicI32,
    /// Files that are open now.
    pub open_file_count: AtomicI32,
    /// Syncs of files and directories.
    pub sync_count: AtomicI32,
    /// Syncs of the strongest kind; they count in `sync_count` as well.
    pub fullsync_count: AtomicI32,
    /// Temporary files opened.
    pub opentemp_count: AtomicI32,

    /// Guards of [`FaultKnobs::suspend`] that are alive.
    suspended: AtomicU32,
    /// Calls per kind; the last one counts all.
    calls: [AtomicU64; KINDS],
    /// Delay per kind in milliseconds; the last one is for all.
    stalls: [AtomicU32; KINDS],
    /// Whether any plan is set: spares the mutex when none is.
    planned: AtomicBool,
    plans: Mutex<[Plan; KINDS]>,
    /// At this call of any kind, counted from 1, the process ends. 0: at none.
    deadly_call: AtomicU64,
    /// What it then takes along; whether it does, which spares the mutex.
    unsynced: Mutex<Option<Record>>,
    records: AtomicBool,
    logging: AtomicBool,
    log: Mutex<Vec<LoggedCall>>,
}

impl Default for FaultKnobs {
    fn default() -> FaultKnobs {
        FaultKnobs::new()
    }
}

/// What has been decided about a call that must not be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strike {
    /// What the call reports.
    pub(super) error: Error,
    /// A write does its first half nevertheless.
    pub(super) torn: bool,
}

impl From<Strike> for Error {
    fn from(strike: Strike) -> Error {
        strike.error
    }
}

impl FaultKnobs {
    /// Everything off and at 0.
    pub const fn new() -> FaultKnobs {
        FaultKnobs {
            io_error_pending: AtomicI32::new(0),
            io_error_hit: AtomicI32::new(0),
            io_error_persist: AtomicI32::new(0),
            io_error_hardhit: AtomicI32::new(0),
            diskfull_pending: AtomicI32::new(0),
            diskfull: AtomicI32::new(0),
            open_file_count: AtomicI32::new(0),
            sync_count: AtomicI32::new(0),
            fullsync_count: AtomicI32::new(0),
            opentemp_count: AtomicI32::new(0),
            suspended: AtomicU32::new(0),
            calls: [const { AtomicU64::new(0) }; KINDS],
            stalls: [const { AtomicU32::new(0) }; KINDS],
            planned: AtomicBool::new(false),
            plans: Mutex::new([NO_PLAN; KINDS]),
            deadly_call: AtomicU64::new(0),
            unsynced: Mutex::new(None),
            records: AtomicBool::new(false),
            logging: AtomicBool::new(false),
            log: Mutex::new(Vec::new()),
        }
    }

    /// Lets the `io_error_` knobs rest until the guard is dropped: nothing is counted, nothing
    /// fails. For work whose errors nobody hears of. Plans and a full disk are not affected.
    pub fn suspend(&self) -> Suspension<'_> {
        self.suspended.fetch_add(1, Relaxed);
        Suspension { knobs: self }
    }

    /// Makes the `nth` next call of `kind`, counted from 1, fail. Replaces an earlier plan for
    /// this kind; `nth` 0 only ends it.
    pub fn plan(&self, kind: OpKind, nth: u64, fault: PlannedFault) {
        let mut plans = self.plans.lock();
        if let Some(plan) = plans.get_mut(kind as usize) {
            *plan = Plan { left: nth, fault };
        }
        self.planned.store(plans.iter().any(|plan| plan.left > 0), Relaxed);
    }

    /// Ends all plans, delays and the death that was set; the public knobs stay as they are.
    pub fn clear_plans(&self) {
        *self.plans.lock() = [NO_PLAN; KINDS];
        self.planned.store(false, Relaxed);
        self.end_process_at(0, Unsynced::Keep);
        for stall in &self.stalls {
            stall.store(0, Relaxed);
        }
    }

    /// Makes each call of `kind` take `milliseconds` longer; 0 ends it, also for those in hand.
    pub fn stall(&self, kind: OpKind, milliseconds: u32) {
        if let Some(stall) = self.stalls.get(kind as usize) {
            stall.store(milliseconds, Relaxed);
        }
    }

    /// Ends the process in place of the `nth` next call, counted from 1, as a kill would: nothing
    /// is cleaned up. What was written from now on and is not synced by then has the fate
    /// `unsynced`. 0 takes it back.
    pub fn end_process_at(&self, nth: u64, unsynced: Unsynced) {
        let records = nth > 0 && unsynced != Unsynced::Keep;
        *self.unsynced.lock() = records.then(|| Record::new(unsynced));
        self.records.store(records, Relaxed);
        let deadly = if nth == 0 { 0 } else { self.calls(OpKind::Any).saturating_add(nth) };
        self.deadly_call.store(deadly, Relaxed);
    }

    /// Does something with the record of what is not synced, if there is one.
    pub(super) fn record(&self, work: impl FnOnce(&mut Record) -> Result<()>) -> Result<()> {
        if !self.records.load(Relaxed) {
            return Ok(());
        }
        self.unsynced.lock().as_mut().map_or(Ok(()), work)
    }

    /// How many calls of `kind` were made since the beginning, failed ones included.
    pub fn calls(&self, kind: OpKind) -> u64 {
        self.calls.get(kind as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// Turns the log on or off; what is in it stays.
    pub fn set_logging(&self, on: bool) {
        self.logging.store(on, Relaxed);
    }

    /// Whether calls are logged.
    pub fn is_logging(&self) -> bool {
        self.logging.load(Relaxed)
    }

    /// The calls logged so far, in order.
    pub fn log(&self) -> Vec<LoggedCall> {
        self.log.lock().clone()
    }

    /// Empties the log.
    pub fn clear_log(&self) {
        self.log.lock().clear();
    }

    /// Counts a seek, for callers that offer seeking on top of positioned calls.
    ///
    /// # Errors
    /// [`Full`](Error::Full) if the disk is.
    pub fn seek(&self, offset: u64) -> Result<()> {
        if offset != 0 && self.is_disk_full() { Err(Error::Full) } else { Ok(()) }
    }

    /// Called before each call to the disk beneath. An error says that it must not be made.
    pub(super) fn before(
        &self,
        kind: OpKind,
        path: Option<&Path>,
        arguments: Arguments,
    ) -> Result<(), Strike> {
        self.count(kind);
        let strike = self.decide(kind, arguments);
        if self.is_logging() {
            self.log.lock().push(LoggedCall {
                kind,
                path: path.map(Path::to_owned),
                arguments,
                thread: thread::current().id(),
                fault: strike.map(|strike| strike.error),
            });
        }
        // Behind the log, so that a call which is being delayed can be seen there.
        self.delay(kind);
        strike.map_or(Ok(()), Err)
    }

    fn count(&self, kind: OpKind) {
        if let Some(count) = self.calls.get(kind as usize) {
            count.fetch_add(1, Relaxed);
        }
        if let Some(count) = self.calls.last() {
            let number = count.fetch_add(1, Relaxed).wrapping_add(1);
            if number == self.deadly_call.load(Relaxed) {
                if let Some(record) = self.unsynced.lock().as_mut() {
                    record.carry_out();
                }
                std::process::abort();
            }
        }
    }

    fn delay(&self, kind: OpKind) {
        let of = |kind: OpKind| self.stalls.get(kind as usize).map_or(0, |ms| ms.load(Relaxed));
        let wanted = || Duration::from_millis(u64::from(of(kind)) + u64::from(of(OpKind::Any)));
        if wanted().is_zero() {
            return;
        }
        // In slices and without a lock, which a forked child could not get: a delay that is taken
        // back ends for the call in hand too, so that a test can keep it there as long as it likes.
        let began = Instant::now();
        loop {
            let rest = wanted().saturating_sub(began.elapsed());
            if rest.is_zero() {
                return;
            }
            thread::sleep(rest.min(STALL_SLICE));
        }
    }

    /// The first that strikes decides; those behind it do not count the call.
    fn decide(&self, kind: OpKind, arguments: Arguments) -> Option<Strike> {
        let failed = kind.counts_for_io_errors() && self.is_io_error();
        let failed = failed.then(|| Strike { error: kind.error(), torn: false });
        failed.or_else(|| self.full_disk(kind, arguments)).or_else(|| self.planned_fault(kind))
    }

    fn is_io_error(&self) -> bool {
        if self.suspended.load(Relaxed) > 0 {
            return false;
        }
        let persists =
            self.io_error_persist.load(Relaxed) != 0 && self.io_error_hit.load(Relaxed) != 0;
        let is_error = persists || count_down(&self.io_error_pending);
        if is_error {
            self.note_hit();
        }
        is_error
    }

    fn note_hit(&self) {
        self.io_error_hit.store(1, Relaxed);
        self.io_error_hardhit.fetch_add(1, Relaxed);
    }

    /// A positioned write stands for a seek and a write. Reads need no room on the disk and
    /// seek no more.
    fn full_disk(&self, kind: OpKind, arguments: Arguments) -> Option<Strike> {
        if kind != OpKind::Write {
            return None;
        }
        let seeks = matches!(arguments, Arguments::Range { offset: 1.., .. });
        let is_full = (seeks && self.is_disk_full()) || self.is_disk_full();
        is_full.then_some(Strike { error: Error::Full, torn: false })
    }

    fn is_disk_full(&self) -> bool {
        match self.diskfull_pending.load(Relaxed) {
            0 => false,
            1 => {
                self.note_hit();
                self.diskfull.store(1, Relaxed);
                true
            }
            _ => {
                self.diskfull_pending.fetch_sub(1, Relaxed);
                false
            }
        }
    }

    fn planned_fault(&self, kind: OpKind) -> Option<Strike> {
        if !self.planned.load(Relaxed) {
            return None;
        }
        let mut plans = self.plans.lock();
        let mut strike = None;
        for place in [kind as usize, OpKind::Any as usize] {
            let Some(plan) = plans.get_mut(place) else { continue };
            if plan.left == 1 {
                let error = plan.fault.error.unwrap_or(kind.error());
                strike = strike.or(Some(Strike { error, torn: plan.fault.torn }));
            }
            if plan.left > 1 || !plan.fault.persist {
                plan.left = plan.left.saturating_sub(1);
            }
        }
        self.planned.store(plans.iter().any(|plan| plan.left > 0), Relaxed);
        strike
    }
}

/// Counts a knob that is not 0 down; whether that took it from 1 to 0.
fn count_down(knob: &AtomicI32) -> bool {
    let step = |value: i32| (value != 0).then(|| value.wrapping_sub(1));
    knob.fetch_update(Relaxed, Relaxed, step) == Ok(1)
}

/// Keeps the `io_error_` knobs at rest while it lives.
#[derive(Debug)]
pub struct Suspension<'a> {
    knobs: &'a FaultKnobs,
}

impl Drop for Suspension<'_> {
    fn drop(&mut self) {
        self.knobs.suspended.fetch_sub(1, Relaxed);
    }
}

/// Knobs that live for ever, or as long as somebody has a share in them.
#[derive(Debug, Clone)]
pub enum SharedKnobs {
    /// In a `static`, where scripts can be given their addresses.
    Static(&'static FaultKnobs),
    /// Counted.
    Counted(Arc<FaultKnobs>),
}

impl Deref for SharedKnobs {
    type Target = FaultKnobs;

    fn deref(&self) -> &FaultKnobs {
        match self {
            SharedKnobs::Static(knobs) => knobs,
            SharedKnobs::Counted(knobs) => knobs,
        }
    }
}

impl From<&'static FaultKnobs> for SharedKnobs {
    fn from(knobs: &'static FaultKnobs) -> SharedKnobs {
        SharedKnobs::Static(knobs)
    }
}

impl From<Arc<FaultKnobs>> for SharedKnobs {
    fn from(knobs: Arc<FaultKnobs>) -> SharedKnobs {
        SharedKnobs::Counted(knobs)
    }
}
