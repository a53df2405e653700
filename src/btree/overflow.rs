//! Reading, writing and freeing overflow chains.
//!
//! An overflow page is the number of the next page (4 bytes, 0 on the last) and as much payload as
//! fits; all pages but the last are full. How many pages a chain has follows from the length of
//! the payload, never from the 0 at its end, so that no chain is walked for ever. Source: SQLite
//! file format, "Cell Payload Overflow Pages".

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::ops::ControlFlow;

use super::pointer_map::Owner;
use super::store::Store;
use crate::error::{Error, Result};
use crate::format::PageNumber;
use crate::format::bytes::{put_u32, slice, slice_mut, u32_at};
use crate::pager::{PageMut, PageRef, PinMark};

/// Offset of the payload on an overflow page.
const PAYLOAD: usize = 4;

/// The bytes that a chain is filled with.
struct Source<'a> {
    pieces: &'a [&'a [u8]],
    /// Bytes of the first piece that were used already.
    used: usize,
    zeros: usize,
}

impl Source<'_> {
    fn left(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum::<usize>() - self.used + self.zeros
    }

    /// Passes over the next `count` bytes.
    fn skip(&mut self, count: usize) {
        let mut left = count;
        while let [first, rest @ ..] = self.pieces {
            let here = (first.len() - self.used).min(left);
            self.used += here;
            left -= here;
            if self.used < first.len() {
                return;
            }
            (self.pieces, self.used) = (rest, 0);
        }
        self.zeros -= left.min(self.zeros);
    }

    /// Fills `out` with the next bytes, and with zeros once there are no more.
    fn fill(&mut self, out: &mut [u8]) {
        let mut out = out;
        while let [first, ..] = self.pieces {
            let piece = first.get(self.used..).unwrap_or_default();
            let here = piece.len().min(out.len());
            let (now, later) = std::mem::take(&mut out).split_at_mut(here);
            now.copy_from_slice(piece.get(..here).unwrap_or_default());
            self.skip(here);
            if later.is_empty() {
                return;
            }
            out = later;
        }
        out.fill(0);
        self.skip(out.len());
    }
}

/// Fills `out` with the bytes of an overflow page from `at` on. Returns the next page's number.
fn copy_piece(page: &[u8], at: usize, out: &mut [u8]) -> Result<u32> {
    out.copy_from_slice(slice(page, at, out.len())?);
    u32_at(page, 0)
}

/// The last page of a chain that is being written; pinned.
struct Tail {
    number: PageNumber,
    page: PageMut,
}

impl Store {
    /// Allocates and fills the chain for the tail of a payload: the parts of `pieces`, one behind
    /// the other, without their first `skip` bytes, then `zeros` zero bytes. Returns the first
    /// page. The pointer-map entry of the first page is left to the caller (its owner is not
    /// known yet); entries of later pages (4, previous) are written. Nothing is left allocated
    /// if it fails only because the transaction is to be rolled back (C28).
    ///
    /// # Errors
    /// Those of [`Store::allocate_page`].
    pub(crate) fn write_overflow(
        &mut self,
        pieces: &[&[u8]],
        skip: usize,
        zeros: usize,
    ) -> Result<PageNumber> {
        let mut source = Source { pieces, used: 0, zeros };
        source.skip(skip);
        let mark = self.pager.mark();
        let (first, page) = self.allocate_page(None)?;
        self.pager.pin(page.into());
        let mut tail = Tail { number: first, page };
        let result = self.fill_chain(&mut tail, &mut source, mark);
        self.pager.unpin(tail.page.into());
        self.pager.release(mark);
        result.map(|()| first)
    }

    /// Fills the chain that begins and ends with `tail`, which moves along. Pins one page at a
    /// time.
    fn fill_chain(&mut self, tail: &mut Tail, source: &mut Source, mark: PinMark) -> Result<()> {
        let usable = self.format.usable;
        loop {
            let bytes = self.pager.bytes_mut(tail.page);
            put_u32(bytes, 0, 0)?;
            source.fill(bytes.get_mut(PAYLOAD..usable).unwrap_or_default());
            if source.left() == 0 {
                return Ok(());
            }
            let (number, page) = self.allocate_page(Some(tail.number))?;
            put_u32(self.pager.bytes_mut(tail.page), 0, number.get())?;
            self.set_owner(number, Owner::OverflowNext(tail.number))?;
            self.pager.pin(page.into());
            self.pager.unpin(tail.page.into());
            *tail = Tail { number, page };
            self.pager.release(mark);
        }
    }

    /// The page `number`, if that can be part of a chain.
    fn chain_page(&self, number: u32) -> Result<PageNumber> {
        if number < 2 || self.format.lock_page.is(number) {
            return Err(Error::corrupt("impossible page in an overflow chain").on_page(number));
        }
        self.checked_number(number)
    }

    /// The page `number`, if that can be part of a chain that is going to change: a page that a
    /// cursor or the operation itself works with is a node, whatever a damaged chain says.
    fn own_chain_page(&self, number: u32) -> Result<PageNumber> {
        let page = self.chain_page(number)?;
        if self.pager.is_in_use(page) {
            return Err(Error::corrupt("page of a chain is in use elsewhere").on_page(number));
        }
        Ok(page)
    }

    /// The number of pages of a chain for `length` bytes.
    fn chain_length(&self, length: usize) -> Result<usize> {
        let pages = length.div_ceil(self.format.overflow_capacity());
        if pages > self.pager.page_count() as usize {
            return Err(Error::corrupt("payload is longer than the database"));
        }
        Ok(pages)
    }

    /// Reads `out.len()` bytes from byte `offset` of the chain that begins at `first`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the chain is too short or leaves the database; those of the pager.
    pub(crate) fn read_overflow(
        &mut self,
        first: PageNumber,
        offset: usize,
        out: &mut [u8],
    ) -> Result<()> {
        let capacity = self.format.overflow_capacity();
        self.chain_length(offset.saturating_add(out.len()))?;
        let (mut skipped, mut from) = (offset / capacity, offset % capacity);
        let mut number = first.get();
        let mut out = out;
        while !out.is_empty() {
            let page = self.chain_page(number)?;
            let here = if skipped > 0 { 0 } else { out.len().min(capacity - from) };
            let (now, later) = std::mem::take(&mut out).split_at_mut(here);
            let from_page = PAYLOAD + from;
            number = match self.pager.peek(page)? {
                Some(bytes) => copy_piece(bytes, from_page, now)?,
                None => {
                    let mark = self.pager.mark();
                    let page = self.pager.fetch(page)?;
                    let next = copy_piece(self.pager.bytes(page), from_page, now);
                    self.pager.release(mark);
                    next?
                }
            };
            (out, from) = (later, if skipped > 0 { from } else { 0 });
            skipped = skipped.saturating_sub(1);
        }
        Ok(())
    }

    /// Shows the `length` bytes of the chain that begins at `first` to `visit`, page by page,
    /// until that breaks off; no page behind the last one shown is read.
    ///
    /// # Errors
    /// Those of [`Store::read_overflow`] and of `visit`.
    pub(crate) fn visit_overflow<T>(
        &mut self,
        first: u32,
        length: usize,
        mut visit: impl FnMut(&[u8]) -> Result<ControlFlow<T>>,
    ) -> Result<Option<T>> {
        self.chain_length(length)?;
        let (mut number, mut left) = (first, length);
        while left > 0 {
            let page = self.chain_page(number)?;
            let here = left.min(self.format.overflow_capacity());
            left -= here;
            let mut show = |bytes: &[u8]| -> Result<_> {
                let next = u32_at(bytes, 0)?;
                let piece = slice(bytes, PAYLOAD, here)?;
                // All of it at once: a processor that notices by itself that lines are read one
                // after the other begins anew on each page.
                crate::memory::prefetch_all(piece);
                Ok((next, visit(piece)))
            };
            let (next, answer) = match self.pager.peek(page)? {
                Some(bytes) => show(bytes)?,
                None => {
                    let mark = self.pager.mark();
                    let page = self.pager.fetch(page)?;
                    let shown = show(self.pager.bytes(page));
                    self.pager.release(mark);
                    shown?
                }
            };
            number = next;
            if let ControlFlow::Break(answer) = answer? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Overwrites bytes of the chain that begins at `first`, from byte `offset` of it on. The
    /// chain stays as it is.
    ///
    /// # Errors
    /// Those of [`Store::read_overflow`] and of [`Pager::make_writable`](crate::pager::Pager).
    pub(crate) fn overwrite_overflow(
        &mut self,
        first: u32,
        offset: usize,
        bytes: &[u8],
    ) -> Result<()> {
        let capacity = self.format.overflow_capacity();
        self.chain_length(offset.saturating_add(bytes.len()))?;
        let (mut skipped, mut from) = (offset / capacity, offset % capacity);
        let (mut number, mut rest) = (first, bytes);
        while !rest.is_empty() {
            let page = self.own_chain_page(number)?;
            let mark = self.pager.mark();
            let page = self.pager.fetch(page)?;
            number = u32_at(self.pager.bytes(page), 0)?;
            if skipped > 0 {
                skipped -= 1;
            } else {
                let (now, later) = rest.split_at(rest.len().min(capacity - from));
                let page = self.pager.make_writable(page)?;
                slice_mut(self.fresh_bytes(page), PAYLOAD + from, now.len())?.copy_from_slice(now);
                (rest, from) = (later, 0);
            }
            self.pager.release(mark);
        }
        Ok(())
    }

    /// The numbers of the pages of the chain for a tail of `length` bytes.
    #[cfg(test)]
    fn overflow_chain(&mut self, first: PageNumber, length: usize) -> Result<Vec<PageNumber>> {
        let mut pages = Vec::new();
        self.list_overflow_chain(first, length, &mut pages).map(|()| pages)
    }

    /// Appends the numbers of the pages of the chain for a tail of `length` bytes to `pages`,
    /// which is empty. After an error of reading the last one there is the page it struck.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the chain is too short or leaves the database; those of the pager.
    pub(crate) fn list_overflow_chain(
        &mut self,
        first: PageNumber,
        length: usize,
        pages: &mut Vec<PageNumber>,
    ) -> Result<()> {
        let count = self.chain_length(length)?;
        crate::memory::reserve_exact(pages, count)?;
        let mut number = first.get();
        while pages.len() < count {
            let page = self.chain_page(number).map_err(|error| error.on_page(number))?;
            pages.push(page);
            if pages.len() < count {
                let mark = self.pager.mark();
                let next = self.next_in_chain(page);
                self.pager.release(mark);
                number = next?.0;
            }
        }
        Ok(())
    }

    /// Reads which page comes behind `page`. Transiently pins it.
    fn next_in_chain(&mut self, page: PageNumber) -> Result<(u32, PageRef)> {
        let page = self.pager.fetch(page)?;
        Ok((u32_at(self.pager.bytes(page), 0)?, page))
    }

    /// Frees the chain for a tail of `length` bytes (D420, D424: never reads the last page; with a
    /// pointer map guesses that the next page follows and confirms it by the map).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the chain is too short or leaves the database; those of the pager.
    pub(crate) fn free_overflow(&mut self, first: PageNumber, length: usize) -> Result<()> {
        let mut number = first.get();
        for left in (0..self.chain_length(length)?).rev() {
            let page = self.own_chain_page(number)?;
            let mark = self.pager.mark();
            let (next, content) = if left == 0 {
                (0, None)
            } else if let Some(next) = self.guess_next(page)? {
                (next, None)
            } else {
                self.next_in_chain(page).map(|(next, page)| (next, Some(page)))?
            };
            self.free_page(page, content)?;
            self.pager.release(mark);
            number = next;
        }
        Ok(())
    }

    /// The page that follows `page` in the file, if the pointer map says that it also follows it
    /// in a chain.
    fn guess_next(&mut self, page: PageNumber) -> Result<Option<u32>> {
        if !self.has_pointer_map() {
            return Ok(None);
        }
        let behind = page.get().saturating_add(1)..=self.pager.page_count();
        let usual = |&page: &u32| !self.is_map_page(page) && !self.format.lock_page.is(page);
        let Some(next) = behind.into_iter().find(usual) else { return Ok(None) };
        let known = self.owner_entry(next)? == Owner::OverflowNext(page).entry();
        Ok(known.then_some(next))
    }
}

#[cfg(test)]
mod tests;
