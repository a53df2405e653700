//! Getting a page: from the cache, from the file, or by recycling another.

use super::page::PinMark;
use super::state::State;
use super::{PageInfo, PageMut, PageRef, Pager, Stamp, Storage};
use crate::error::{Error, Result};
use crate::format::{FileHeader, PageNumber};

/// Pins.
impl<X: PageInfo> Pager<X> {
    /// The present top of the stack of transient pins.
    #[inline]
    pub fn mark(&self) -> PinMark {
        PinMark(self.cache.pin_depth())
    }

    /// Releases the transient pins taken since `mark`.
    #[inline]
    pub fn release(&mut self, mark: PinMark) {
        self.cache.release(mark.0);
    }

    /// Pins `page` until [`Pager::unpin`], beyond the transient pin it has.
    #[inline]
    pub fn pin(&mut self, page: PageRef) {
        self.cache.pin(page.frame);
    }

    /// Whether somebody has pinned the page beyond the operation that is going on, and not merely
    /// by its number.
    pub fn is_held(&self, number: PageNumber) -> bool {
        self.cache.find(number.get()).is_some_and(|frame| self.cache.is_held(frame))
    }

    /// The same, or for the operation that is going on.
    pub fn is_in_use(&self, number: PageNumber) -> bool {
        self.cache.find(number.get()).is_some_and(|frame| self.cache.is_in_use(frame))
    }

    /// Takes back one [`Pager::pin`].
    #[inline]
    pub fn unpin(&mut self, page: PageRef) {
        self.cache.unpin(page.frame);
    }
}

/// Fetching.
impl<X: PageInfo> Pager<X> {
    /// The page `number`, from the cache or from the file, with a transient pin. Needs a
    /// transaction. A page beyond the end of the image is all zeros.
    ///
    /// # Errors
    /// [`Corrupt`](crate::Error::Corrupt) for the lock page, [`Busy`](crate::Error::Busy) if the
    /// cache has to spill and cannot get its lock, [`Io`](crate::Error::Io),
    /// [`NoMemory`](crate::Error::NoMemory).
    #[inline]
    pub fn fetch(&mut self, number: PageNumber) -> Result<PageRef> {
        if self.gate
            && let Some(frame) = self.cache.find(number.get())
        {
            self.counters.hits += 1;
            self.cache.pin_transient(frame)?;
            return Ok(PageRef { frame });
        }
        self.fetch_missing(number, true)
    }

    /// The page `number` if it is in the cache and writable already, without a pin: good until the
    /// next page is fetched.
    #[inline]
    pub(crate) fn peek_writable(&mut self, number: PageNumber) -> Option<PageRef> {
        let frame = self.cache.find(number.get()).filter(|_| self.gate)?;
        if self.cache.frame(frame).write_serial != self.serial {
            return None;
        }
        self.counters.hits += 1;
        self.cache.touch(frame);
        Some(PageRef { frame })
    }

    /// The page `number`, pinned until [`Pager::unpin`]; otherwise as [`Pager::fetch`].
    ///
    /// # Errors
    /// As [`Pager::fetch`].
    #[inline]
    pub fn fetch_held(&mut self, number: PageNumber) -> Result<PageRef> {
        if self.gate
            && let Some(frame) = self.cache.find(number.get())
        {
            self.counters.hits += 1;
            self.cache.pin(frame);
            return Ok(PageRef { frame });
        }
        self.hold_missing(number)
    }

    #[cold]
    #[inline(never)]
    fn hold_missing(&mut self, number: PageNumber) -> Result<PageRef> {
        let mark = self.mark();
        let page = self.fetch_missing(number, true)?;
        self.pin(page);
        self.release(mark);
        Ok(page)
    }

    /// The page `number` with content that does not matter: it was just allocated. Not read from
    /// the file and, when made writable, not journaled, unless it had content when the
    /// transaction began. Its bytes are zeros, or what was there.
    ///
    /// # Errors
    /// As [`Pager::fetch`].
    pub fn fetch_blank(&mut self, number: PageNumber) -> Result<PageRef> {
        self.check_transaction()?;
        if !self.state.is_writing() || self.content_matters(number.get()) {
            return self.fetch(number);
        }
        if number.get() <= self.transaction.original_pages {
            self.transaction.saved.insert(number.get())?;
            for savepoint in &mut self.savepoints {
                savepoint.seen.insert(number.get())?;
            }
        }
        if self.cache.find(number.get()).is_some() {
            return self.fetch(number);
        }
        self.fetch_missing(number, false)
    }

    /// Whether something may have to be restored that stood on page `number` when the transaction
    /// or a savepoint began.
    fn content_matters(&self, number: u32) -> bool {
        let transaction = &self.transaction;
        let in_savepoint = || self.savepoints.iter().any(|savepoint| number <= savepoint.pages);
        if transaction.freed.contains(number) {
            return true;
        }
        if number > transaction.original_pages {
            return in_savepoint();
        }
        // Cut off and grown again in this transaction, or written in it already.
        number > transaction.low_water || (transaction.saved.contains(number) && in_savepoint())
    }

    /// The bytes of page `number`, neither pinned nor put into the cache: where a page is read
    /// once, such as one of a long payload, it should not drive others out. `None` if the page is
    /// better fetched, because the cache has room for it or its bytes are not those of the file.
    ///
    /// # Errors
    /// Those of [`Pager::fetch`].
    pub fn peek(&mut self, number: PageNumber) -> Result<Option<&[u8]>> {
        if !self.gate {
            return Ok(None);
        }
        if let Some(frame) = self.cache.find(number.get()) {
            self.counters.hits += 1;
            return Ok(Some(self.cache.parts(frame).0));
        }
        let in_file = number.get() <= self.file_pages.min(self.image);
        let has_room = self.cache.len() < self.cache_limit() || self.storage == Storage::Memory;
        let plain = in_file && !self.header_ignored && self.codec.is_none();
        if !plain || has_room || self.lock_page.is(number.get()) {
            return Ok(None);
        }
        // Reading fills all of it, so only a first use has to clear it.
        if self.scratch.len() != self.page_size.bytes() {
            self.prepare_scratch(self.page_size.bytes())?;
        }
        self.counters.misses += 1;
        self.file.read_at(&mut self.scratch, number.offset(self.page_size))?;
        self.counters.reads += 1;
        Ok(Some(&self.scratch))
    }

    /// The page `number` if it is in the cache, not pinned: good for hints only, since another page
    /// may take its place at any call.
    #[inline]
    pub fn cached(&self, number: PageNumber) -> Option<PageRef> {
        self.cache.find(number.get()).map(|frame| PageRef { frame })
    }

    /// A page that is not in the cache will be fetched soon: asks the disk for it, without waiting.
    pub fn will_fetch(&self, number: PageNumber) {
        self.file.will_read(number.offset(self.page_size), self.page_size.bytes());
    }

    /// The page `number` if it is in the cache, with a transient pin.
    pub fn lookup(&mut self, number: PageNumber) -> Option<PageRef> {
        if !self.gate {
            return None;
        }
        let frame = self.cache.find(number.get())?;
        self.cache.pin_transient(frame).ok()?;
        Some(PageRef { frame })
    }

    /// A page that is not in the cache.
    #[cold]
    #[inline(never)]
    fn fetch_missing(&mut self, number: PageNumber, read: bool) -> Result<PageRef> {
        if !self.gate {
            self.check_transaction()?;
        }
        if self.lock_page.is(number.get()) || number.get() == u32::MAX {
            return Err(Error::corrupt("the lock page is not a page").on_page(number.get()));
        }
        self.size_known = true;
        self.counters.misses += 1;
        if self.discard.is_some() {
            self.discard_some();
        }
        let frame = self.load(number, read)?;
        if let Err(error) = self.cache.pin_transient(frame) {
            self.cache.remove(frame);
            return Err(error);
        }
        Ok(PageRef { frame })
    }

    /// Puts page `number` into a frame of its own, unpinned, with its bytes as the file has them.
    pub(super) fn load(&mut self, number: PageNumber, read: bool) -> Result<u32> {
        self.expect_pages(number.get());
        self.make_room()?;
        let frame = self.cache.insert(number.get())?;
        match self.fill(frame, read) {
            Ok(()) => Ok(frame),
            Err(error) => {
                self.cache.remove(frame);
                Err(error)
            }
        }
    }

    /// Gives a frame the bytes that the file has for its page: zeros beyond image or file.
    pub(super) fn fill(&mut self, frame: u32, read: bool) -> Result<()> {
        let number = self.cache.frame(frame).number;
        let in_file = number <= self.file_pages;
        let offset = (u64::from(number).saturating_sub(1)) * u64::from(self.page_size.get());
        let (bytes, info) = self.cache.parts_mut(frame);
        info.reset();
        if read && in_file && number <= self.image {
            let there = self.file.read_at(bytes, offset)?;
            if let Some(codec) = self.codec.as_deref().filter(|_| there > 0) {
                codec.decode(number, bytes);
            }
            self.counters.reads += 1;
        } else {
            bytes.fill(0);
        }
        if number == 1 {
            self.stamp = stamp_of(bytes);
        }
        self.cache.frame_mut(frame).hollow = in_file && number > self.image;
        Ok(())
    }

    /// Says how many pages there may come to be in the cache when page `number` is loaded: while
    /// those of the file are read, not more than it has.
    fn expect_pages(&mut self, number: u32) {
        let limit = match self.storage {
            Storage::Memory => u32::MAX,
            _ => self.cache_limit(),
        };
        let is_new = number > self.file_pages;
        self.cache.set_expected(if is_new { limit } else { limit.min(self.file_pages) });
    }

    /// Recycles pages until one more is within the limit, as far as that is possible.
    fn make_room(&mut self) -> Result<()> {
        // A database in memory has nowhere else to keep its pages.
        if self.storage == Storage::Memory {
            return Ok(());
        }
        let limit = self.cache_limit();
        while self.cache.len() >= limit {
            // Before the file was written to, spilling takes a lock that a reader may be in the way
            // of: then a clean page is worth a longer look.
            let spills = self.state == State::FileChanged && self.cache.is_mostly_dirty();
            let clean = if spills { None } else { self.cache.oldest_clean() };
            match clean {
                Some(frame) => self.cache.remove(frame),
                None if self.recycle_dirty()? => {}
                None => return Ok(()),
            }
            self.counters.recycled += 1;
            if self.header_ignored {
                return Ok(()); // One buffer is taken over for another; none is given back.
            }
        }
        Ok(())
    }

    /// Recycles a page of a cache in which hardly any is clean: a dirty one, or else one of those
    /// few. Returns whether there was one.
    fn recycle_dirty(&mut self) -> Result<bool> {
        if self.may_spill() {
            match self.spill() {
                Ok(true) => return Ok(true),
                // A reader in the way is no reason to fail a change half-way: the cache grows
                // until it leaves. Pages without a database header keep to the limit.
                Err(Error::Busy) if !self.header_ignored => {}
                Ok(false) => {}
                Err(error) => return Err(error),
            }
        }
        let clean = self.cache.oldest_clean();
        if let Some(frame) = clean {
            self.cache.remove(frame);
        }
        Ok(clean.is_some())
    }

    /// Whether dirty pages may be written to make room.
    fn may_spill(&self) -> bool {
        matches!(self.state, State::CacheChanged | State::FileChanged)
            && self.error.is_none()
            && !self.transaction.spill_forbidden
    }

    /// Gives up to `wanted` bytes of memory back, or a page more: first of frames without a page,
    /// then of pages that are clean and that nobody holds, least recently used first. They are
    /// read again when they are wanted. Returns how many bytes it were.
    pub fn release_memory(&mut self, wanted: u64) -> u64 {
        self.cache.give_back(wanted)
    }

    /// From now on pages that are clean and that nobody holds are dropped at random when another
    /// is missing and when a read transaction begins, each with `chance` percent; 0 ends it. For
    /// tests: whoever keeps more than pins is found out.
    pub fn set_random_discard(&mut self, chance: u32, seed: u64) {
        self.discard = (chance > 0).then_some((chance.min(100), seed));
    }

    /// See [`Pager::set_random_discard`].
    pub(super) fn discard_some(&mut self) {
        let Some((chance, mut dice)) = self.discard else { return };
        for index in self.cache.indices() {
            let frame = self.cache.frame(index);
            let may_go = frame.number != 0 && !frame.is_pinned() && !frame.is_dirty();
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            if may_go && (dice >> 33) % 100 < u64::from(chance) {
                self.cache.remove(index);
            }
        }
        self.discard = Some((chance, dice));
    }

    /// Throws every page out of the cache that nobody holds.
    pub(super) fn drop_unpinned(&mut self) {
        for frame in self.cache.indices() {
            if !self.cache.frame(frame).is_pinned() {
                self.cache.remove(frame);
            }
        }
    }
}

/// The validation bytes of page 1.
pub(super) fn stamp_of(page: &[u8]) -> Stamp {
    let bytes = page.get(FileHeader::VALIDATION).and_then(|bytes| bytes.try_into().ok());
    bytes.unwrap_or_default()
}

/// What a page is made of.
impl<X: PageInfo> Pager<X> {
    /// The number of `page`.
    #[inline]
    pub fn number(&self, page: PageRef) -> PageNumber {
        // A frame that was given back since has no number; the caller broke the rule of pins.
        PageNumber::new(self.cache.frame(page.frame).number).unwrap_or(PageNumber::ONE)
    }

    /// The bytes of `page`: exactly one page size.
    #[inline]
    pub fn bytes(&self, page: PageRef) -> &[u8] {
        self.cache.parts(page.frame).0
    }

    /// What the layer above keeps beside `page`.
    #[inline]
    pub fn info(&self, page: PageRef) -> &X {
        &self.cache.frame(page.frame).info
    }

    /// Bytes and information of `page`.
    #[inline]
    pub fn parts(&self, page: PageRef) -> (&[u8], &X) {
        self.cache.parts(page.frame)
    }

    /// Bytes of `page` beside its information, the latter for changing.
    #[inline]
    pub fn parts_info_mut(&mut self, page: PageRef) -> (&[u8], &mut X) {
        let (bytes, info) = self.cache.parts_mut(page.frame);
        (bytes, info)
    }

    /// The bytes of `page` for changing.
    #[inline]
    pub fn bytes_mut(&mut self, page: PageMut) -> &mut [u8] {
        self.cache.parts_mut(page.frame).0
    }

    /// Bytes and information of `page` for changing.
    #[inline]
    pub fn parts_mut(&mut self, page: PageMut) -> (&mut [u8], &mut X) {
        self.cache.parts_mut(page.frame)
    }

    /// Resets the information of every page in the cache: what it was learnt from has changed.
    pub fn reset_infos(&mut self) {
        for frame in self.cache.indices() {
            self.cache.frame_mut(frame).info.reset();
        }
    }

    /// Exchanges all bytes of two pages, and their information.
    pub fn exchange_pages(&mut self, one: PageMut, other: PageMut) {
        self.cache.exchange(one.frame, other.frame);
    }

    /// Copies all bytes of `from` over those of `to` and resets the information of `to`.
    pub fn copy_page(&mut self, from: PageRef, to: PageMut) {
        self.cache.copy(from.frame, to.frame);
    }
}
