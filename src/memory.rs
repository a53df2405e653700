//! Memory that may not be had: every allocation of the engine whose size comes from a file, a
//! caller or a number of pages goes through here, and its failure is an error like any other.
//!
//! Tests make the n-th of them fail. That is one number for the process, as in the command that
//! scripts have for it: it is looked at only when a buffer really has to grow, so that nothing is
//! paid where memory is used again.

use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::error::{Error, Result};

mod bytes;
mod pages;
mod prefetch;

pub(crate) use bytes::Bytes;
pub use pages::free_unused;
pub(crate) use pages::{PageBuffer, PagePool};
pub(crate) use prefetch::{LINE, prefetch, prefetch_address, prefetch_all};

/// Counts down to the failure: 0 is never, 1 is the next allocation.
static COUNTDOWN: AtomicI64 = AtomicI64::new(0);
/// How many allocations fail from then on.
static REPEAT: AtomicI64 = AtomicI64::new(0);
/// How many have failed since [`fail_nth`] was called.
static FAILED: AtomicI64 = AtomicI64::new(0);

/// Makes the `nth` allocation from now fail, and those behind it, `repeat` in all; 0 makes none
/// fail. Returns how many have failed since the last call. For tests: the whole process counts.
pub fn fail_nth(nth: u32, repeat: u32) -> u64 {
    COUNTDOWN.store(0, Ordering::SeqCst);
    REPEAT.store(i64::from(repeat), Ordering::SeqCst);
    let failed = FAILED.swap(0, Ordering::SeqCst);
    COUNTDOWN.store(i64::from(nth), Ordering::SeqCst);
    failed.unsigned_abs()
}

/// Counts an allocation that is made elsewhere, such as that of an entry in a map.
///
/// # Errors
/// [`Error::NoMemory`] if it is its turn to fail.
#[inline]
pub(crate) fn admit() -> Result<()> {
    if COUNTDOWN.load(Ordering::Relaxed) == 0 { Ok(()) } else { count_down() }
}

#[cold]
fn count_down() -> Result<()> {
    let step = |left: i64| (left > 1).then(|| left - 1);
    let before = COUNTDOWN.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step);
    if before != Err(1) {
        return Ok(()); // Not yet, or switched off meanwhile.
    }
    FAILED.fetch_add(1, Ordering::SeqCst);
    if REPEAT.fetch_sub(1, Ordering::SeqCst) <= 1 {
        COUNTDOWN.store(0, Ordering::SeqCst);
    }
    Err(Error::NoMemory)
}

/// What can be asked to make room.
pub(crate) trait Room {
    /// Elements for which there is room already.
    fn room(&self) -> usize;
    /// Makes room for `more` elements, or for some beyond them if not `exact`; whether it could.
    fn make_room(&mut self, more: usize, exact: bool) -> bool;
}

macro_rules! room {
    ($($list:ident $(: $bound:ident)?),*) => {$(
        impl<T $(: $bound)?> Room for $list<T> {
            #[inline]
            fn room(&self) -> usize {
                self.capacity() - self.len()
            }

            fn make_room(&mut self, more: usize, exact: bool) -> bool {
                let made =
                    if exact { self.try_reserve_exact(more) } else { self.try_reserve(more) };
                made.is_ok()
            }
        }
    )*};
}

room!(Vec, VecDeque, BinaryHeap: Ord);

impl<T: Eq + Hash> Room for HashSet<T> {
    fn room(&self) -> usize {
        self.capacity() - self.len()
    }

    fn make_room(&mut self, more: usize, _exact: bool) -> bool {
        self.try_reserve(more).is_ok()
    }
}

/// Makes room for `more` elements, and for some beyond them if the list has to grow.
///
/// # Errors
/// [`Error::NoMemory`].
#[inline]
pub(crate) fn reserve(list: &mut impl Room, more: usize) -> Result<()> {
    if list.room() >= more { Ok(()) } else { grow(list, more, false) }
}

/// Makes room for `more` elements and no more.
///
/// # Errors
/// [`Error::NoMemory`].
#[inline]
pub(crate) fn reserve_exact(list: &mut impl Room, more: usize) -> Result<()> {
    if list.room() >= more { Ok(()) } else { grow(list, more, true) }
}

#[cold]
fn grow(list: &mut impl Room, more: usize, exact: bool) -> Result<()> {
    admit()?;
    if list.make_room(more, exact) { Ok(()) } else { Err(Error::NoMemory) }
}

/// A copy of `bytes`.
///
/// # Errors
/// [`Error::NoMemory`].
pub(crate) fn copy_of(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    reserve_exact(&mut copy, bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}
