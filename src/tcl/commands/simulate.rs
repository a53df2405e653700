//! The disks that scripts open files on, and the variables that make them fail.
//!
//! Each variable is an integer of the process: all interpreters see one value. Tcl reads and
//! writes it in place, and so do the disks.

use std::ffi::CStr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use super::super::command::{Call, Outcome};
use super::super::result_code::Failure;
use crate::error::Error;
use crate::format::LockPage;
use crate::memory;
use crate::os::simulate::{FaultKnobs, FaultVfs, Suspension};
use crate::os::{MemoryVfs, UnixVfs, Vfs};

/// Faults and counters of every disk here.
static KNOBS: FaultKnobs = FaultKnobs::new();
/// Where the lock bytes are in files opened from now on.
static PENDING_BYTE: AtomicI32 = AtomicI32::new(LockPage::STANDARD_OFFSET as i32);
/// Tracing of b-trees and of references to pages: there is none, and scripts may switch it.
static BTREE_TRACE: AtomicI32 = AtomicI32::new(0);
static PAGER_REFINFO_ENABLE: AtomicI32 = AtomicI32::new(0);

/// What `sqlite3_config_alt_pcache` has set.
static DISCARD_CHANCE: AtomicU32 = AtomicU32::new(0);
static DISCARD_SEED: AtomicU32 = AtomicU32::new(0);

static DISK: LazyLock<Arc<dyn Vfs>> =
    LazyLock::new(|| Arc::new(FaultVfs::new(Arc::new(UnixVfs::new()), &KNOBS)));
static UNMAPPED_DISK: LazyLock<Arc<dyn Vfs>> =
    LazyLock::new(|| Arc::new(FaultVfs::new(Arc::new(UnixVfs::unmapped()), &KNOBS)));

/// The linked variables of disks and tracing: their names, and the integers behind them.
pub(super) fn variables() -> impl Iterator<Item = (&'static CStr, &'static AtomicI32)> {
    [
        (c"btree_trace", &BTREE_TRACE),
        (c"pager_refinfo_enable", &PAGER_REFINFO_ENABLE),
        (c"sqlite_pending_byte", &PENDING_BYTE),
        (c"sqlite_io_error_pending", &KNOBS.io_error_pending),
        (c"sqlite_io_error_hit", &KNOBS.io_error_hit),
        (c"sqlite_io_error_persist", &KNOBS.io_error_persist),
        (c"sqlite_io_error_hardhit", &KNOBS.io_error_hardhit),
        (c"sqlite_diskfull_pending", &KNOBS.diskfull_pending),
        (c"sqlite_diskfull", &KNOBS.diskfull),
        (c"sqlite_open_file_count", &KNOBS.open_file_count),
        (c"sqlite_sync_count", &KNOBS.sync_count),
        (c"sqlite_fullsync_count", &KNOBS.fullsync_count),
        (c"sqlite_opentemp_count", &KNOBS.opentemp_count),
    ]
    .into_iter()
}

/// Faults and counters of every disk here.
pub(super) fn knobs() -> &'static FaultKnobs {
    &KNOBS
}

/// The machine's disk; one for all interpreters, as its files are.
pub(super) fn disk() -> Arc<dyn Vfs> {
    Arc::clone(&DISK)
}

/// The same, of which no file is mapped into memory.
pub(super) fn unmapped_disk() -> Arc<dyn Vfs> {
    Arc::clone(&UNMAPPED_DISK)
}

/// An empty disk in memory.
pub(super) fn memory_disk() -> Arc<dyn Vfs> {
    Arc::new(FaultVfs::new(Arc::new(MemoryVfs::new()), &KNOBS))
}

/// Position of the first lock byte, for a file that is opened now. A negative one is ignored.
pub(super) fn lock_offset() -> u32 {
    let set = PENDING_BYTE.load(Ordering::Relaxed);
    u32::try_from(set).unwrap_or(LockPage::STANDARD_OFFSET)
}

/// Simulated faults are neither counted nor raised while the guard lives.
pub(super) fn suspend() -> Suspension<'static> {
    KNOBS.suspend()
}

/// `sqlite3_test_control_pending_byte N`, as later releases set the variable; 0 only asks for it.
pub(super) fn set_pending_byte(call: &mut Call<'_>) -> Outcome {
    let position = call.int(1)?;
    let before = match position {
        0 => PENDING_BYTE.load(Ordering::Relaxed),
        _ => PENDING_BYTE.swap(position, Ordering::Relaxed),
    };
    Ok(before.into())
}

/// `sqlite3_memdebug_fail N ?-repeat N?`: how many allocations have failed since the last call.
pub(super) fn fail_allocation(call: &mut Call<'_>) -> Outcome {
    let nth = u32::try_from(call.int(1)?).unwrap_or(0);
    let repeat = match call.count() {
        1 => 1,
        3 if call.string(2)? == "-repeat" => u32::try_from(call.int(3)?).unwrap_or(0).max(1),
        _ => return Err(Failure::WrongArgumentCount),
    };
    Ok(memory::fail_nth(nth, repeat).cast_signed().into())
}

/// `sqlite3_release_memory N`: the bytes that caches of this interpreter gave back.
pub(super) fn release_memory(call: &mut Call<'_>) -> Outcome {
    let wanted = u64::try_from(call.wide(1)?).unwrap_or(0);
    let freed = call.session.release_memory(wanted);
    memory::free_unused();
    Ok(i64::try_from(freed).unwrap_or(i64::MAX).into())
}

/// `sqlite3_config_alt_pcache INSTALL CHANCE SEED`: databases opened from now on drop pages that
/// are not in use at random.
pub(super) fn random_discard(call: &mut Call<'_>) -> Outcome {
    let (install, chance, seed) = (call.boolean(1)?, call.int(2)?, call.int(3)?);
    let chance = u32::try_from(chance).ok().filter(|chance| *chance <= 100);
    let chance = chance.ok_or(Error::Misuse("the chance is not 0 to 100"))?;
    DISCARD_CHANCE.store(if install { chance } else { 0 }, Ordering::Relaxed);
    DISCARD_SEED.store(seed.cast_unsigned(), Ordering::Relaxed);
    Ok(().into())
}

/// The chance in percent with which unused pages are dropped, and the seed.
pub(super) fn discard() -> (u32, u64) {
    (DISCARD_CHANCE.load(Ordering::Relaxed), DISCARD_SEED.load(Ordering::Relaxed).into())
}
