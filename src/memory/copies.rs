//! Copies of bytes that wait to be written, cut from blocks.
//!
//! A queue of writes grows and shrinks by megabytes. With allocations for each copy, the system
//! would be asked for every 4 KiB of it by a page fault, which takes several times as long as
//! copying them. So copies are cut from blocks one after the other: small ones while there is
//! little to be kept, then larger ones for which the system sets all memory aside at once. Since a
//! queue is emptied in the order in which it was filled, whole blocks become free; a few of them
//! are used again.
//!
//! Invariants, which the `unsafe` blocks rest on:
//!
//! * C1: the parts of a block that were cut from it are disjoint, but for clones and slices of a
//!   [`Bytes`]; a part is written by its [`Space`], and only read once it is a [`Bytes`].
//! * C2: a block lives as long as any part of it: each holds a reference to it. Cutting begins
//!   anew only when no part is left.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc};
use std::ops::{Deref, Range};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::{LINE, admit};
use crate::error::{Error, Result};

/// Size of a block while little is kept.
const SMALL: usize = 64 << 10;

/// Size of a block while much is kept. Huge pages would be had by one fault each, but the memory
/// of virtual machines may be such that clearing one takes milliseconds.
const LARGE: usize = 256 << 10;

/// So many bytes in blocks are much.
const MUCH: usize = 256 << 10;

/// Large blocks that are kept to be used again.
const SPARE: usize = 8;

/// Makes copies.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    common: Arc<Common>,
    /// The block that is being cut, and how many bytes of it are given out.
    block: Option<(Arc<Block>, usize)>,
}

/// What the blocks of one maker share.
#[derive(Debug, Default)]
struct Common {
    /// Bytes of all blocks.
    held: AtomicUsize,
    /// Memory for large blocks that none is on, or null.
    spare: [AtomicPtr<u8>; SPARE],
}

impl Copies {
    /// Room for a copy of `size` bytes. With `alone` its memory is freed with it, whatever
    /// becomes of the copies made before and after.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn make_room(&mut self, size: usize, alone: bool) -> Result<Space> {
        admit()?;
        let is_much = self.common.held.load(Ordering::Relaxed) >= MUCH;
        let next = if is_much { LARGE } else { SMALL };
        if alone || size > next / 4 {
            return Ok(Space::new(Arc::new(Block::new(size, false, &self.common)?), 0, size));
        }
        let begun = self.block.take().map(|(mut block, used)| {
            let is_free = Arc::get_mut(&mut block).is_some(); // C2
            (block, if is_free { 0 } else { used })
        });
        let (block, used) = match begun {
            Some((block, used)) if used + size <= block.layout.size() => (block, used),
            _ => (Arc::new(Block::new(next, is_much, &self.common)?), 0),
        };
        let space = Space::new(Arc::clone(&block), used, size);
        self.block = Some((block, used + size)); // C1
        Ok(space)
    }
}

impl Drop for Common {
    fn drop(&mut self) {
        let spare = self.spare.iter_mut().filter_map(|place| NonNull::new(*place.get_mut()));
        // SAFETY: mapped by `map`; no block is on it.
        spare.for_each(|start| unsafe { unmap(start) });
    }
}

/// Memory that copies are cut from. Only what was cut and written is initialised.
#[derive(Debug)]
struct Block {
    start: NonNull<u8>,
    layout: Layout,
    /// It is [`LARGE`], and from the system.
    is_large: bool,
    common: Arc<Common>,
}

impl Block {
    fn new(size: usize, is_large: bool, common: &Arc<Common>) -> Result<Block> {
        let layout = Layout::from_size_align(size.max(1), LINE).map_err(|_| Error::NoMemory)?;
        let start = match is_large {
            true => common.take_spare().or_else(map),
            // SAFETY: the size is not 0.
            false => NonNull::new(unsafe { alloc(layout) }),
        };
        let start = start.ok_or(Error::NoMemory)?;
        common.held.fetch_add(layout.size(), Ordering::Relaxed);
        Ok(Block { start, layout, is_large, common: Arc::clone(common) })
    }
}

impl Common {
    fn take_spare(&self) -> Option<NonNull<u8>> {
        let take = |place: &AtomicPtr<u8>| NonNull::new(place.swap(null_mut(), Ordering::Acquire));
        self.spare.iter().find_map(take)
    }

    /// Keeps the memory of a large block. `false` if there is enough.
    fn keep(&self, start: NonNull<u8>) -> bool {
        let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
        let keep = |place: &AtomicPtr<u8>| {
            place.compare_exchange(null_mut(), start.as_ptr(), release, relaxed).is_ok()
        };
        self.spare.iter().any(keep)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.common.held.fetch_sub(self.layout.size(), Ordering::Relaxed);
        if !self.is_large {
            // SAFETY: allocated with this layout; no part of it is left (C2).
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
        } else if !self.common.keep(self.start) {
            // SAFETY: mapped by `map`; no part of it is left (C2).
            unsafe { unmap(self.start) };
        }
    }
}

/// Maps [`LARGE`] bytes of new memory, all of it there.
fn map() -> Option<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: maps new memory wherever there is room.
    let mapped = unsafe { libc::mmap(null_mut(), LARGE, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED { None } else { NonNull::new(mapped.cast()) }
}

/// Gives memory from [`map`] back.
///
/// # Safety
/// It is from there, and nobody uses it any more.
unsafe fn unmap(start: NonNull<u8>) {
    // SAFETY: as the caller promises; `map` maps so many bytes.
    unsafe { libc::munmap(start.as_ptr().cast(), LARGE) };
}

// SAFETY: a block is memory without an owner among the threads; nothing is read or written through
// it, only through its parts.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// Room for a copy.
#[derive(Debug)]
pub(crate) struct Space(Bytes);

impl Space {
    /// `used` and the size behind it are within the block.
    fn new(block: Arc<Block>, used: usize, size: usize) -> Space {
        // SAFETY: within the block, or at its end.
        let start = unsafe { block.start.add(used) };
        Space(Bytes { start, size, block })
    }

    /// Copies as many of `bytes` as there is room for.
    pub(crate) fn fill(mut self, bytes: &[u8]) -> Bytes {
        self.0.size = self.0.size.min(bytes.len());
        // SAFETY: the space is nobody else's (C1), alive (C2), and as large as what is copied.
        unsafe { self.0.start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), self.0.size) };
        self.0
    }
}

/// Bytes that never change. Clones and slices are the same memory.
#[derive(Debug, Clone)]
pub(crate) struct Bytes {
    start: NonNull<u8>,
    size: usize,
    /// Keeps the memory alive (C2).
    block: Arc<Block>,
}

impl Bytes {
    /// A copy by itself.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    #[cfg(test)]
    pub(crate) fn copy_of(bytes: &[u8]) -> Result<Bytes> {
        Copies::default().make_room(bytes.len(), true).map(|space| space.fill(bytes))
    }

    /// A part of them; what `range` has beyond the end is left out.
    pub(crate) fn slice(&self, range: Range<usize>) -> Bytes {
        let end = range.end.min(self.size);
        let begin = range.start.min(end);
        // SAFETY: not beyond the end of these bytes.
        let start = unsafe { self.start.add(begin) };
        Bytes { start, size: end - begin, block: Arc::clone(&self.block) }
    }
}

// SAFETY: the bytes are only read, by whatever thread (C1).
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: written when it was a space (C1), alive (C2), and never changed again.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(copies: &mut Copies, byte: u8, size: usize) -> Bytes {
        copies.make_room(size, false).unwrap().fill(&vec![byte; size])
    }

    #[test]
    fn copies_are_disjoint_and_outlive_their_maker() {
        let mut copies = Copies::default();
        let sizes = (0..3000).map(|index| [0, 1, 28, 4096, 20_000][index % 5]);
        let all: Vec<Bytes> =
            sizes.enumerate().map(|(index, size)| copy(&mut copies, index as u8, size)).collect();
        drop(copies);
        for (index, bytes) in all.iter().enumerate().rev() {
            assert_eq!(bytes.len(), [0, 1, 28, 4096, 20_000][index % 5]);
            assert!(bytes.iter().all(|&byte| byte == index as u8));
        }
        let part = all[4].slice(100..30_000);
        let (nothing, one) = (all[3].slice(5000..6000), all[3].slice(7..8));
        drop(all);
        assert_eq!((part.len(), nothing.len(), &*one), (19_900, 0, &[3][..]));
        assert!(part.iter().all(|&byte| byte == 4));
    }

    #[test]
    fn memory_follows_what_is_kept() {
        let mut copies = Copies::default();
        let held = |copies: &Copies| copies.common.held.load(Ordering::Relaxed);
        // While there is no more than one copy at a time, one block does.
        for _ in 0..1000 {
            copy(&mut copies, 1, 10_000);
        }
        assert_eq!(held(&copies), SMALL);
        let mut all: Vec<Bytes> = (0..5000).map(|_| copy(&mut copies, 1, 4096)).collect();
        let kept = all.len() * 4096;
        assert!((kept..kept + kept / 5).contains(&held(&copies)), "{} for {kept}", held(&copies));
        all.drain(..4000);
        let kept = all.len() * 4096;
        assert!(held(&copies) < kept + 2 * LARGE, "{} for {kept}", held(&copies));
        let spare = copies.common.spare.each_ref().map(|place| place.load(Ordering::Relaxed));
        assert!(spare.iter().all(|place| !place.is_null()));
        all.clear();
        all.extend((0..1000).map(|_| copy(&mut copies, 2, 4096)));
        let again = all.iter().filter(|copy| spare.contains(&copy.block.start.as_ptr()));
        assert!(again.count() > 100, "no block was used again");
        // A copy that stays long keeps no others.
        drop((all, copies.block.take()));
        let stays = copies.make_room(100, true).unwrap().fill(&[3; 100]);
        assert_eq!((held(&copies), stays.len()), (100, 100));
    }
}
