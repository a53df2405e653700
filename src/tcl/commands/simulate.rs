//! The linked variables, and the disk that listens to them.
//!
//! Each variable is an integer of the process: all interpreters see one value.

use std::ffi::CStr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, LazyLock};

use crate::format::LockPage;
use crate::os::{UnixVfs, Vfs};

/// Where the lock bytes are in files opened from now on.
static PENDING_BYTE: AtomicI32 = AtomicI32::new(LockPage::STANDARD_OFFSET as i32);
/// Tracing; writing is accepted.
static BTREE_TRACE: AtomicI32 = AtomicI32::new(0);
static PAGER_REFINFO_ENABLE: AtomicI32 = AtomicI32::new(0);

/// The disk of every file that a script opens.
static DISK: LazyLock<Arc<dyn Vfs>> = LazyLock::new(|| Arc::new(UnixVfs::new()));

/// Every linked variable.
pub(super) fn variables() -> impl Iterator<Item = (&'static CStr, &'static AtomicI32)> {
    [
        (c"sqlite_pending_byte", &PENDING_BYTE),
        (c"btree_trace", &BTREE_TRACE),
        (c"pager_refinfo_enable", &PAGER_REFINFO_ENABLE),
    ]
    .into_iter()
}

/// The disk of every file that a script opens.
pub(super) fn disk() -> Arc<dyn Vfs> {
    Arc::clone(&DISK)
}

/// Position of the first lock byte, for a file that is opened now. A negative one is ignored.
pub(super) fn lock_offset() -> u32 {
    let set = PENDING_BYTE.load(Ordering::Relaxed);
    u32::try_from(set).unwrap_or(LockPage::STANDARD_OFFSET)
}

/// Simulated faults are not counted while the guard lives.
pub(super) fn suspend() -> Suspended {
    Suspended
}

/// See [`suspend`].
pub(super) struct Suspended;
