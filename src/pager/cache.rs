//! The page cache: lookup, pins, the dirty list, and whom to recycle. Knows no files.
//!
//! A hit touches the page table and one frame and nothing else: recency is a stamp in the frame,
//! written when its last pin goes. When a page to recycle is wanted, all frames are looked at once
//! and the oldest of them listed, enough for many recyclings; what is used again until its turn
//! comes has another stamp then. So recycling is exactly least recently used.
//!
//! Invariants:
//! - C1. A number other than 0 in a frame and the entry of the page table for it name each other.
//! - C2. While there are candidates, every frame that is in use, unpinned and clean is one of them
//!   with its present stamp, or its stamp is later than theirs.
//! - C3. Candidates, dirty list and free list have room for all frames, so only making a frame, a
//!   chunk of the table or a pin can fail.

use std::cmp::Reverse;

use super::page::PageInfo;
use super::page_set::filled;
use crate::error::{Error, Result};
use crate::format::PageSize;
use crate::memory::{self, PageBuffer, PagePool};

/// No frame, no position.
const NONE: u32 = u32::MAX;

/// For every so many frames one page to recycle is listed at a time.
const CANDIDATE_SHARE: usize = 3;
/// A cache in which fewer than one in so many pages is clean is mostly dirty.
const CLEAN_SHARE: usize = 32;

/// One cached page. With what the b-tree layer keeps beside it, two lines of memory, which the
/// processor fetches together.
#[repr(align(128))]
pub(super) struct Frame<X> {
    /// The bytes of the page; `None` while their memory is given back.
    bytes: Option<PageBuffer>,
    /// What the layer above keeps beside the page.
    pub(super) info: X,
    /// The page's number; 0 while the frame is free.
    pub(super) number: u32,
    pins: u32,
    /// The state of transaction and savepoints for which the page was made writable.
    pub(super) write_serial: u64,
    released: u64,
    created: u64,
    dirty_at: u32,
    /// The page must not be written before the journal was synced.
    pub(super) needs_sync: bool,
    /// The page became a free leaf: its content need not be written.
    pub(super) forgotten: bool,
    /// The page lies beyond the image, but the file has bytes there that are not these.
    pub(super) hollow: bool,
}

const _: () = assert!(size_of::<Frame<[u64; 8]>>() == 128);

impl<X> Frame<X> {
    /// Whether the page was changed since it was last equal to the file.
    #[inline]
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty_at != NONE
    }

    /// Whether anybody holds the page.
    #[inline]
    pub(super) fn is_pinned(&self) -> bool {
        self.pins != 0
    }
}

/// The cache.
pub(super) struct Cache<X> {
    frames: Vec<Frame<X>>,
    table: PageTable,
    pins: Vec<u32>,
    /// Frames with a pin that a caller has taken by the page's number, each as often as it has.
    by_number: Vec<u32>,
    pinned: u32,
    in_use: u32,
    clock: u64,
    /// Stamps and frames of pages to recycle, the oldest last (C2).
    candidates: Vec<(u64, u32)>,
    dirty: Vec<u32>,
    free: Vec<u32>,
    pool: PagePool,
    /// Pages that are expected, see [`Cache::set_expected`].
    expected: usize,
}

impl<X: PageInfo> Cache<X> {
    pub(super) fn new(page_size: PageSize) -> Cache<X> {
        Cache {
            frames: Vec::new(),
            table: PageTable::default(),
            pins: Vec::new(),
            by_number: Vec::new(),
            pinned: 0,
            in_use: 0,
            clock: 0,
            candidates: Vec::new(),
            dirty: Vec::new(),
            free: Vec::new(),
            pool: PagePool::new(page_size.bytes()),
            expected: 0,
        }
    }

    /// Memory is set aside for about so many pages in all, when there come to be so many.
    pub(super) fn set_expected(&mut self, pages: u32) {
        self.expected = pages as usize;
    }

    /// The frame of page `number`.
    #[inline]
    pub(super) fn find(&self, number: u32) -> Option<u32> {
        self.table.get(number)
    }

    /// The frame with this index.
    #[inline]
    pub(super) fn frame(&self, frame: u32) -> &Frame<X> {
        &self.frames[frame as usize]
    }

    /// The frame with this index, for changing its marks.
    #[inline]
    pub(super) fn frame_mut(&mut self, frame: u32) -> &mut Frame<X> {
        &mut self.frames[frame as usize]
    }

    /// Bytes and information of a frame.
    #[inline]
    pub(super) fn parts(&self, frame: u32) -> (&[u8], &X) {
        let frame = &self.frames[frame as usize];
        (frame.bytes.as_deref().unwrap_or_default(), &frame.info)
    }

    /// Bytes and information of a frame, for changing.
    #[inline]
    pub(super) fn parts_mut(&mut self, frame: u32) -> (&mut [u8], &mut X) {
        let frame = &mut self.frames[frame as usize];
        (frame.bytes.as_deref_mut().unwrap_or_default(), &mut frame.info)
    }

    /// Copies the bytes of one frame over those of another.
    pub(super) fn copy(&mut self, from: u32, to: u32) {
        if let Ok([from, to]) = self.frames.get_disjoint_mut([from as usize, to as usize]) {
            if let (Some(from), Some(to)) = (&from.bytes, &mut to.bytes) {
                to.copy_from_slice(from);
            }
            to.info.reset();
        }
    }

    /// Exchanges the bytes of two frames, and what is known about them.
    pub(super) fn exchange(&mut self, one: u32, other: u32) {
        if let Ok([one, other]) = self.frames.get_disjoint_mut([one as usize, other as usize]) {
            std::mem::swap(&mut one.bytes, &mut other.bytes);
            std::mem::swap(&mut one.info, &mut other.info);
        }
    }

    /// Pages in the cache.
    pub(super) fn len(&self) -> u32 {
        self.in_use
    }

    /// Distinct pages pinned.
    pub(super) fn pinned(&self) -> u32 {
        self.pinned
    }

    /// Number and pin count of each pinned page, youngest frame first.
    pub(super) fn pinned_frames(&self) -> Vec<(u32, u32)> {
        let mut pinned: Vec<_> = self.frames.iter().filter(|frame| frame.is_pinned()).collect();
        pinned.sort_unstable_by_key(|frame| Reverse(frame.created));
        pinned.iter().map(|frame| (frame.number, frame.pins)).collect()
    }

    /// Indices of all frames, free ones included.
    pub(super) fn indices(&self) -> std::ops::Range<u32> {
        0..self.frames.len() as u32
    }
}

/// Pins.
impl<X: PageInfo> Cache<X> {
    /// Pins a frame until the stack of pins is released below here.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    #[inline]
    pub(super) fn pin_transient(&mut self, frame: u32) -> Result<()> {
        if self.pins.len() == self.pins.capacity() {
            self.grow_pins()?;
        }
        self.pins.push(frame);
        self.pin(frame);
        Ok(())
    }

    #[cold]
    fn grow_pins(&mut self) -> Result<()> {
        memory::reserve(&mut self.pins, 64)
    }

    /// Depth of the stack of transient pins.
    #[inline]
    pub(super) fn pin_depth(&self) -> usize {
        self.pins.len()
    }

    /// Takes back the transient pins above `depth`.
    #[inline]
    pub(super) fn release(&mut self, depth: usize) {
        while self.pins.len() > depth {
            if let Some(frame) = self.pins.pop() {
                self.unpin(frame);
            }
        }
    }

    /// Pins a frame.
    #[inline]
    pub(super) fn pin(&mut self, frame: u32) {
        let frame = &mut self.frames[frame as usize];
        self.pinned += u32::from(frame.pins == 0);
        frame.pins += 1;
    }

    /// Whether a frame has pins other than those by its number.
    pub(super) fn is_in_use(&self, frame: u32) -> bool {
        self.pins_in_use(frame) > 0
    }

    /// Whether some of them outlive the operation: more than the stack has for it.
    pub(super) fn is_held(&self, frame: u32) -> bool {
        let pins = self.pins_in_use(frame);
        pins > 0 && pins > count_of(frame, &self.pins)
    }

    fn pins_in_use(&self, frame: u32) -> usize {
        let pins = self.frames[frame as usize].pins as usize;
        if pins == 0 { 0 } else { pins.saturating_sub(count_of(frame, &self.by_number)) }
    }

    /// Pins a frame for somebody who knows the number of the page and nothing else of it.
    pub(super) fn pin_by_number(&mut self, frame: u32) {
        self.by_number.push(frame);
        self.pin(frame);
    }

    /// Takes back one such pin.
    pub(super) fn unpin_by_number(&mut self, frame: u32) {
        if let Some(at) = self.by_number.iter().position(|&pinned| pinned == frame) {
            self.by_number.swap_remove(at);
        }
        self.unpin(frame);
    }

    /// Counts as a use of a frame that nobody pins for it.
    #[inline]
    pub(super) fn touch(&mut self, frame: u32) {
        self.clock += 1;
        self.frames[frame as usize].released = self.clock;
    }

    /// Takes back one pin.
    #[inline]
    pub(super) fn unpin(&mut self, index: u32) {
        let frame = &mut self.frames[index as usize];
        debug_assert!(frame.pins > 0, "page {} unpinned too often", frame.number);
        let was_pinned = frame.pins;
        frame.pins = was_pinned.saturating_sub(1);
        if was_pinned == 1 {
            self.pinned -= 1;
            self.clock += 1;
            frame.released = self.clock;
        }
    }
}

fn count_of(frame: u32, list: &[u32]) -> usize {
    list.iter().filter(|&&pinned| pinned == frame).count()
}

/// Frames come and go.
impl<X: PageInfo> Cache<X> {
    /// A frame for page `number`, which is not in the cache. Its bytes are whatever was there
    /// before; it is clean, and neither pinned nor a candidate for recycling before it was pinned.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(super) fn insert(&mut self, number: u32) -> Result<u32> {
        self.table.reserve(number)?;
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.make_frame()?,
        };
        if self.frames[index as usize].bytes.is_none() {
            match self.pool.take(self.expected) {
                Ok(bytes) => self.frames[index as usize].bytes = Some(bytes),
                Err(error) => {
                    self.free.push(index);
                    return Err(error);
                }
            }
        }
        self.clock += 1;
        let frame = &mut self.frames[index as usize];
        frame.number = number;
        frame.created = self.clock;
        frame.released = self.clock;
        self.table.set(number, index);
        self.in_use += 1;
        Ok(index)
    }

    fn make_frame(&mut self) -> Result<u32> {
        let index = self.frames.len();
        memory::reserve(&mut self.frames, 1)?;
        reserve_total(&mut self.dirty, index + 1)?;
        reserve_total(&mut self.free, index + 1)?;
        let missing = index + 1 - self.candidates.len();
        memory::reserve(&mut self.candidates, missing)?;
        let bytes = self.pool.take(self.expected)?;
        self.frames.push(Frame {
            bytes: Some(bytes),
            info: X::default(),
            number: 0,
            pins: 0,
            write_serial: 0,
            released: 0,
            created: 0,
            dirty_at: NONE,
            needs_sync: false,
            forgotten: false,
            hollow: false,
        });
        u32::try_from(index).map_err(|_| Error::NoMemory)
    }

    /// Gives memory of free frames, and then of the pages that are clean and unpinned, back to the
    /// system until `wanted` bytes or more were freed. Returns how many were.
    pub(super) fn give_back(&mut self, wanted: u64) -> u64 {
        let mut freed = 0;
        for at in 0..self.free.len() {
            if freed >= wanted {
                break;
            }
            freed += self.drop_buffer(self.free[at]);
        }
        while freed < wanted {
            let Some(frame) = self.oldest_clean() else { break };
            self.remove(frame);
            freed += self.drop_buffer(frame);
        }
        self.pool.trim();
        freed
    }

    fn drop_buffer(&mut self, frame: u32) -> u64 {
        let Some(bytes) = self.frames[frame as usize].bytes.take() else { return 0 };
        let size = bytes.len() as u64;
        self.pool.give_back(bytes);
        size
    }

    /// Throws an unpinned page out of the cache, whatever its content.
    pub(super) fn remove(&mut self, index: u32) {
        self.mark_clean(index);
        let frame = &mut self.frames[index as usize];
        debug_assert!(!frame.is_pinned(), "page {} is in use", frame.number);
        if frame.number == 0 {
            return;
        }
        self.table.clear(frame.number);
        frame.number = 0;
        frame.hollow = false;
        frame.info.reset();
        self.free.push(index);
        self.in_use -= 1;
    }

    /// Whether so few pages are clean that to look for one costs more than to clean others.
    pub(super) fn is_mostly_dirty(&self) -> bool {
        let clean = (self.in_use as usize).saturating_sub(self.dirty.len());
        self.candidates.is_empty() && clean < self.in_use as usize / CLEAN_SHARE
    }

    /// The least recently used page that is clean and unpinned. The caller removes it.
    pub(super) fn oldest_clean(&mut self) -> Option<u32> {
        loop {
            while let Some((stamp, index)) = self.candidates.pop() {
                let frame = &self.frames[index as usize];
                let is_idle = frame.number != 0 && !frame.is_pinned() && !frame.is_dirty();
                if is_idle && frame.released == stamp {
                    return Some(index);
                }
            }
            self.list_candidates();
            if self.candidates.is_empty() {
                return None;
            }
        }
    }

    /// Lists the oldest pages that are clean and unpinned (C2).
    fn list_candidates(&mut self) {
        for (index, frame) in self.frames.iter().enumerate() {
            if frame.number != 0 && !frame.is_pinned() && !frame.is_dirty() {
                self.candidates.push((frame.released, index as u32));
            }
        }
        // A share of all frames, which were looked at, be it all candidates.
        let share = self.frames.len() / CANDIDATE_SHARE;
        if share > 0 && share < self.candidates.len() {
            self.candidates.select_nth_unstable_by_key(share, |&(stamp, _)| stamp);
            self.candidates.truncate(share);
        }
        self.candidates.sort_unstable_by_key(|&(stamp, _)| Reverse(stamp));
    }

    /// The frames of all changed pages, in no order.
    pub(super) fn dirty(&self) -> &[u32] {
        &self.dirty
    }

    /// When the last pin of a frame went, on a clock that only this cache knows.
    pub(super) fn released(&self, index: u32) -> u64 {
        self.frames[index as usize].released
    }

    /// Puts a frame on the dirty list.
    pub(super) fn mark_dirty(&mut self, index: u32) {
        let frame = &mut self.frames[index as usize];
        if frame.dirty_at == NONE {
            frame.dirty_at = self.dirty.len() as u32;
            self.dirty.push(index);
        }
        frame.forgotten = false;
        frame.hollow = false;
    }

    /// Takes a frame off the dirty list.
    pub(super) fn mark_clean(&mut self, index: u32) {
        let frame = &mut self.frames[index as usize];
        frame.write_serial = 0;
        frame.needs_sync = false;
        frame.forgotten = false;
        let at = std::mem::replace(&mut frame.dirty_at, NONE);
        if at == NONE {
            return;
        }
        if self.candidates.first().is_some_and(|newest| frame.released < newest.0) {
            self.candidates.clear(); // C2: this one's turn is before theirs.
        }
        self.dirty.swap_remove(at as usize);
        if let Some(&moved) = self.dirty.get(at as usize) {
            self.frames[moved as usize].dirty_at = at;
        }
    }
}

fn reserve_total(list: &mut Vec<u32>, total: usize) -> Result<()> {
    let missing = total - list.len();
    memory::reserve(list, missing)
}

/// Entries per chunk of the page table.
const CHUNK: usize = 1024;

/// From page number to frame: chunks made where pages are, found without hashing.
#[derive(Default)]
struct PageTable {
    chunks: Vec<Option<Box<[u32; CHUNK]>>>,
    /// Pages in each chunk.
    used: Vec<u16>,
}

impl PageTable {
    #[inline]
    fn get(&self, number: u32) -> Option<u32> {
        match self.chunks.get(number as usize / CHUNK) {
            Some(Some(chunk)) => {
                let frame = chunk[number as usize % CHUNK];
                (frame != NONE).then_some(frame)
            }
            _ => None,
        }
    }

    fn reserve(&mut self, number: u32) -> Result<()> {
        let at = number as usize / CHUNK;
        if at >= self.chunks.len() {
            let more = at + 1 - self.chunks.len();
            memory::reserve(&mut self.chunks, more)?;
            memory::reserve(&mut self.used, more)?;
            self.chunks.resize_with(at + 1, || None);
            self.used.resize(at + 1, 0);
        }
        if self.chunks[at].is_none() {
            self.chunks[at] = Some(filled(NONE)?);
        }
        Ok(())
    }

    fn set(&mut self, number: u32, frame: u32) {
        let at = number as usize / CHUNK;
        if let Some(Some(chunk)) = self.chunks.get_mut(at) {
            chunk[number as usize % CHUNK] = frame;
            self.used[at] += 1;
        }
    }

    fn clear(&mut self, number: u32) {
        let at = number as usize / CHUNK;
        let Some(Some(chunk)) = self.chunks.get_mut(at) else { return };
        chunk[number as usize % CHUNK] = NONE;
        self.used[at] -= 1;
        // A sparse scan of a large file must not leave one chunk behind per page; the first stays.
        if self.used[at] == 0 && at > 0 {
            self.chunks[at] = None;
        }
    }
}
