//! Simulated disks: the fault model, stated, and the knobs that tests turn.
//!
//! # What can go wrong, and who simulates it
//!
//! * **A call fails** ([`FaultVfs`]). The n-th call of a kind reports an error, once or from then
//!   on. A failed write has changed nothing, or the first half of its range; every other failed
//!   call has done nothing.
//! * **The disk is full** ([`FaultVfs`]). Every write from some point on reports it.
//! * **The process dies** ([`FaultKnobs::end_process_at`] in earnest, where it can also take along
//!   what was not synced, [`CrashDisk::killed`] as an image). The disk holds the calls made so
//!   far, in order; the last write may be cut at any byte.
//! * **The power fails** ([`CrashDisk::power_lost`]). Of each file, what was written before its
//!   last sync is there. Since then each sector of 512 bytes has, independently of the others,
//!   some version between that and the latest, and the size is any that the file had; a size
//!   changes as a whole: what a truncation cut off comes back with the old size, or not. Names
//!   made or removed since the last sync of their directory may be as before, the last change
//!   undone first.
//!
//! Not simulated: bytes that change by themselves, sectors that a write tears in the middle, and
//! writes that go to the wrong place.
//!
//! The simulated disks are always compiled in and do nothing until asked to.

mod crash;
mod fault;

pub use crash::{CrashDisk, DiskImage, Unsynced};
pub use fault::{
    Arguments, FaultKnobs, FaultVfs, LoggedCall, OpKind, PlannedFault, SharedKnobs, Suspension,
};

/// Spreads the bits of `seed`: equal seeds give equal numbers, neighbouring ones unrelated ones.
pub(in crate::os) fn scramble(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
