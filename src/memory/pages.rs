//! Memory for cached pages: buffers of one size, cut from chunks.
//!
//! A buffer of its own for each page costs a call of the allocator and, for a new one, a page
//! fault; and a cache of thousands of them in memory pages of 4 KiB keeps the processor busy with
//! looking up addresses. So buffers come in chunks: small ones while there are few buffers,
//! then 2 MiB each, aligned, for which the system is asked to use one huge page. Some of those are
//! kept for the next cache when one closes. Measured with 100 000 entries of 100 bytes: random gets
//! take a sixth less time, scans backwards a tenth.
//!
//! Invariants, which the `unsafe` blocks rest on:
//!
//! * P1: the buffers of a chunk are disjoint parts of its memory, and each is given out once.
//! * P2: a chunk lives as long as any of its buffers: each holds a reference to it.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use super::{LINE, admit};
use crate::error::{Error, Result};

/// Size and alignment of a huge page.
const HUGE: usize = 2 << 20;

/// So many bytes of buffers are made in small chunks first: a small cache takes no more memory
/// than it needs.
const SMALL_TOTAL: usize = 4 << 20;

/// The largest of the small chunks.
const SMALL_MAX: usize = 64 << 10;

/// Makes buffers of one size.
#[derive(Debug)]
pub(crate) struct PagePool {
    size: usize,
    /// Buffers made so far.
    made: usize,
    /// The chunk that buffers are being cut from, and how many bytes of it are given out.
    chunk: Option<(Arc<Chunk>, usize)>,
    /// Buffers that were given back, of chunks that others still use.
    spare: Vec<PageBuffer>,
}

impl PagePool {
    /// A pool of buffers of `size` bytes, a power of two.
    pub(crate) fn new(size: usize) -> PagePool {
        PagePool { size, made: 0, chunk: None, spare: Vec::new() }
    }

    /// A new buffer with any content. About `limit` of them are expected in all: memory for many
    /// more than that is not set aside.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn take(&mut self, limit: usize) -> Result<PageBuffer> {
        admit()?;
        if let Some(buffer) = self.spare.pop() {
            return Ok(buffer);
        }
        let (chunk, used) = match self.chunk.take() {
            Some((chunk, used)) if used + self.size <= chunk.layout.size() => (chunk, used),
            _ => (Arc::new(self.make_chunk(limit)?), 0),
        };
        // SAFETY: `used` and the size behind it are within the chunk (checked above, or the chunk
        // is new and holds one buffer at least).
        let start = unsafe { chunk.start.add(used) };
        let buffer = PageBuffer { start, size: self.size, chunk: Arc::clone(&chunk) };
        self.chunk = Some((chunk, used + self.size)); // P1
        self.made += 1;
        Ok(buffer)
    }

    /// Takes a buffer back. Its memory goes to the system at once if it is from a huge page, else
    /// with the next [`PagePool::trim`] that finds its whole chunk unused.
    pub(crate) fn give_back(&mut self, buffer: PageBuffer) {
        buffer.forget_content();
        // Without memory for the list, the buffer is gone until its chunk is.
        if self.spare.try_reserve(1).is_ok() {
            self.spare.push(buffer);
        }
    }

    /// Frees the chunks of which all buffers have been given back.
    pub(crate) fn trim(&mut self) {
        self.chunk = None;
        self.spare.sort_unstable_by_key(|buffer| buffer.chunk.start);
        let mut from = 0;
        while let Some(first) = self.spare.get(from) {
            let here = first.chunk.start;
            let same = self.spare.iter().skip(from).take_while(|other| other.chunk.start == here);
            let count = same.count();
            if Arc::strong_count(&first.chunk) == count {
                self.spare.drain(from..from + count);
                self.made -= count.min(self.made);
            } else {
                from += count;
            }
        }
    }

    /// The next chunk: a quarter of what there is, within bounds, or a huge page.
    fn make_chunk(&self, limit: usize) -> Result<Chunk> {
        let left = limit.saturating_sub(self.made).saturating_mul(self.size);
        if self.made * self.size >= SMALL_TOTAL && left >= HUGE && self.size <= HUGE {
            return Chunk::new(HUGE, HUGE);
        }
        let bytes = (self.made * self.size / 4).min(left).clamp(self.size, SMALL_MAX);
        // Each buffer begins on a line of memory.
        Chunk::new((bytes / self.size).max(1) * self.size, LINE)
    }
}

/// Memory that buffers are cut from, all of it initialised: by the system, the allocator, or the
/// cache that had it before.
#[derive(Debug)]
struct Chunk {
    start: NonNull<u8>,
    layout: Layout,
}

impl Chunk {
    fn new(size: usize, align: usize) -> Result<Chunk> {
        let layout = Layout::from_size_align(size, align).map_err(|_| Error::NoMemory)?;
        let start = match align {
            HUGE => {
                let kept = unused().and_then(|mut unused| unused.pop());
                kept.map(|chunk| chunk.0).or_else(map_huge)
            }
            // SAFETY: the size is not 0: a chunk holds one buffer at least.
            _ => NonNull::new(unsafe { alloc_zeroed(layout) }),
        };
        Ok(Chunk { start: start.ok_or(Error::NoMemory)?, layout })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.layout.align() != HUGE {
            // SAFETY: allocated with this layout; no buffer is left (P2).
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
            return;
        }
        let count = unused().map_or(UNUSED_MAX, |unused| unused.len());
        if (KEPT_MAX..UNUSED_MAX).contains(&count) {
            // SAFETY: mapped by `map_huge` with this size, and no buffer is left (P2); what is read
            // there later is what was there, or zeros.
            unsafe { libc::madvise(self.start.as_ptr().cast(), HUGE, libc::MADV_FREE) };
        }
        if count < UNUSED_MAX
            && let Some(mut unused) = unused()
            && unused.try_reserve(1).is_ok()
        {
            unused.push(Unused(self.start));
            return;
        }
        // SAFETY: mapped by `map_huge` with this size; no buffer is left (P2).
        unsafe { libc::munmap(self.start.as_ptr().cast(), HUGE) };
    }
}

/// A huge page that no chunk is on.
struct Unused(NonNull<u8>);

// SAFETY: the memory is nobody's.
unsafe impl Send for Unused {}

/// So many huge pages are kept for the next cache: a new one is cleared by the system, which takes
/// longer than filling it with entries, and a virtual machine may have to ask its host for it
/// first, which was seen to take 5 ms: a gigabyte of entries was inserted in a quarter of the time
/// when the memory of the cache before was still there.
const KEPT_MAX: usize = 16;

/// So many in all; but those above [`KEPT_MAX`] the system takes back as soon as it is short of
/// memory.
const UNUSED_MAX: usize = 1024;

/// Those that are kept. Of the process, as its heap is.
static UNUSED: Mutex<Vec<Unused>> = Mutex::new(Vec::new());

/// The list, unless somebody else is at it. Nobody waits for it: a child that is forked while
/// another thread has it finds it taken for ever.
fn unused() -> Option<MutexGuard<'static, Vec<Unused>>> {
    match UNUSED.try_lock() {
        Ok(unused) => Some(unused),
        Err(TryLockError::Poisoned(unused)) => Some(unused.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Gives the memory back to the system that was kept for the next page cache. Returns how many
/// bytes it were.
pub fn free_unused() -> u64 {
    let mut freed = 0;
    for chunk in unused().map(|mut unused| std::mem::take(&mut *unused)).unwrap_or_default() {
        // SAFETY: mapped by `map_huge` with this size; nobody has it.
        unsafe { libc::munmap(chunk.0.as_ptr().cast(), HUGE) };
        freed += HUGE as u64;
    }
    freed
}

/// Maps [`HUGE`] bytes at a multiple of [`HUGE`], on a huge page if the system has one.
fn map_huge() -> Option<NonNull<u8>> {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: maps new memory wherever there is room.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 2 * HUGE, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return None;
    }
    let before = mapped.addr().next_multiple_of(HUGE) - mapped.addr();
    // SAFETY: all of it lies within the two huge pages just mapped; what is kept is the aligned
    // one, and the advice changes nothing but speed.
    unsafe {
        let kept = mapped.byte_add(before);
        if before > 0 {
            libc::munmap(mapped, before);
        }
        libc::munmap(kept.byte_add(HUGE), HUGE - before);
        libc::madvise(kept, HUGE, libc::MADV_HUGEPAGE);
        NonNull::new(kept.cast())
    }
}

// SAFETY: a chunk is memory without an owner among the threads; nothing is read or written through
// it, only through its buffers.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

/// Memory for one page.
#[derive(Debug)]
pub(crate) struct PageBuffer {
    start: NonNull<u8>,
    size: usize,
    /// Keeps the memory alive (P2).
    #[allow(dead_code, reason = "held for its lifetime")]
    chunk: Arc<Chunk>,
}

impl PageBuffer {
    /// Lets the system have the memory of whole memory pages back until they are written again.
    fn forget_content(&self) {
        if self.chunk.layout.align() == HUGE && self.size.is_multiple_of(memory_page()) {
            // SAFETY: all of it belongs to this buffer (P1), whole memory pages, since buffers
            // begin at multiples of their size; and it reads as zeros afterwards.
            unsafe { libc::madvise(self.start.as_ptr().cast(), self.size, libc::MADV_DONTNEED) };
        }
    }
}

/// Bytes of the system's pages of memory: the least that can be given back.
fn memory_page() -> usize {
    // SAFETY: takes a number and returns one.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).ok().filter(|size| *size > 0).unwrap_or(HUGE)
}

// SAFETY: a buffer is the only way to its bytes (P1), as a box is.
unsafe impl Send for PageBuffer {}
// SAFETY: as above.
unsafe impl Sync for PageBuffer {}

impl Deref for PageBuffer {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: initialised when the chunk was made, alive (P2), and nobody else's (P1).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.size) }
    }
}

impl DerefMut for PageBuffer {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; the borrow of the buffer is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_disjoint_and_outlive_their_pool() {
        let mut pool = PagePool::new(4096);
        let mut buffers: Vec<PageBuffer> = (0..3000).map(|_| pool.take(3000).unwrap()).collect();
        drop(pool);
        for (index, buffer) in buffers.iter_mut().enumerate() {
            assert_eq!(buffer.len(), 4096);
            buffer.fill(index as u8);
        }
        for (index, buffer) in buffers.iter().enumerate().rev() {
            assert!(buffer.iter().all(|&byte| byte == index as u8));
        }
        buffers.drain(..1500);
        buffers.swap_remove(7);
        assert!(buffers.iter().all(|buffer| buffer[0] == buffer[4095]));
    }

    #[test]
    fn what_is_given_back_is_used_again_or_freed() {
        let mut pool = PagePool::new(4096);
        let mut buffers: Vec<PageBuffer> = (0..2000).map(|_| pool.take(2000).unwrap()).collect();
        for mut buffer in buffers.drain(100..) {
            buffer.fill(7);
            pool.give_back(buffer);
        }
        assert_eq!(pool.spare.len(), 1900);
        drop(pool.take(2000).unwrap());
        pool.trim();
        assert!(pool.spare.len() < 64, "{} of 1900 buffers are left", pool.spare.len());
        buffers.into_iter().for_each(|buffer| pool.give_back(buffer));
        pool.trim();
        assert!(pool.spare.is_empty() && pool.made <= 1, "{pool:?}");
    }

    #[test]
    fn a_child_forked_while_the_list_is_taken_goes_without_it() {
        let buffers = || {
            let mut pool = PagePool::new(65536);
            (0..500).map(|_| pool.take(500).unwrap()).collect::<Vec<_>>().len()
        };
        let taken = UNUSED.lock().unwrap();
        assert_eq!(crate::os::in_child(|| buffers() as i32), Some(500 & 0xff));
        drop(taken);
    }

    #[test]
    fn memory_follows_the_number_of_buffers() {
        for (size, limit) in [(512, 100), (4096, 10), (4096, 2000), (65536, 5000), (1024, 9000)] {
            let mut pool = PagePool::new(size);
            let buffers: Vec<PageBuffer> = (0..limit).map(|_| pool.take(limit).unwrap()).collect();
            let mut chunks: Vec<_> = buffers.iter().map(|buffer| &*buffer.chunk).collect();
            chunks.dedup_by_key(|chunk| chunk.start);
            let held: usize = chunks.iter().map(|chunk| chunk.layout.size()).sum();
            assert!(held <= limit * size + limit * size / 10, "{size} {limit}: {held}");
        }
    }
}
