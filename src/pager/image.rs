//! The image: how many pages it has, and what happens to those that are cut off.

use super::state::State;
use super::{PageInfo, Pager, Regrouping};
use crate::error::{Error, Result};
use crate::format::PageNumber;

/// The size of the image.
impl<X: PageInfo> Pager<X> {
    /// Number of pages of the image, changes of the open transaction included. 0 without a
    /// transaction.
    #[inline]
    pub fn page_count(&self) -> u32 {
        self.image
    }

    /// Length of the database file in pages, a partial last page counted. Needs a transaction.
    pub fn file_page_count(&self) -> u32 {
        self.file_pages
    }

    /// Sets the number of pages to what the header says, when a transaction has just begun.
    pub fn trust_page_count(&mut self, pages: u32) {
        if self.state == State::Open {
            return;
        }
        self.image = pages;
        self.page_limit = self.page_limit.max(pages);
        self.count_trusted = true;
        self.size_known = true;
    }

    /// Makes the image `pages` long, which is more than now.
    ///
    /// # Errors
    /// [`Full`](crate::Error::Full) above the page limit.
    pub fn grow(&mut self, pages: u32) -> Result<()> {
        if pages > self.page_limit {
            return Err(Error::Full);
        }
        self.image = self.image.max(pages);
        Ok(())
    }

    /// Makes pages between the image and page `number`, which is about to be added, all zeros:
    /// those that were cut off but are still in the file must not come back with what they held.
    ///
    /// # Errors
    /// As [`Pager::make_writable`].
    pub fn blank_before(&mut self, number: u32) -> Result<()> {
        let last = self.file_pages.min(number.saturating_sub(1));
        for between in self.image.saturating_add(1)..=last {
            let page = PageNumber::new(between).filter(|_| !self.lock_page.is(between));
            let Some(page) = page else { continue };
            let mark = self.mark();
            let made = self.fetch(page).and_then(|page| self.make_writable(page));
            self.release(mark);
            made?;
        }
        Ok(())
    }

    /// Makes the image `pages` long, which is less than now. The file is cut at commit. Pages cut
    /// off leave the cache; those that are pinned become zeros.
    pub fn truncate_image(&mut self, pages: u32) {
        if !self.state.is_writing() || pages >= self.image {
            return;
        }
        let few = self.image - pages < self.cache.len();
        if few {
            for number in pages + 1..=self.image {
                if let Some(frame) = self.cache.find(number) {
                    self.cut_off_or_latch(frame);
                }
            }
        } else {
            for frame in self.cache.indices() {
                if self.cache.frame(frame).number > pages {
                    self.cut_off_or_latch(frame);
                }
            }
        }
        self.image = pages;
        self.serial += 1; // A page cut off while pinned must grow the image when it changes again.
        self.transaction.low_water = self.transaction.low_water.min(pages);
    }

    /// Says that the image is made of pages of another size, byte by byte, from the commit of this
    /// transaction on; the page count in the header becomes theirs. The page size of the pager has
    /// to be set anew after the transaction. Not for a database in memory only.
    pub fn regroup(&mut self, other: Regrouping) {
        if self.state.is_writing() {
            self.transaction.regrouping = Some(other);
        }
    }

    /// As [`Pager::cut_off`]. If that fails, what a savepoint needs is lost, so that only the
    /// rollback of all is safe.
    fn cut_off_or_latch(&mut self, frame: u32) {
        if let Err(error) = self.cut_off(frame) {
            self.latch(error);
        }
    }

    /// Saves what a rollback needs of a page that is being cut off, and empties its frame.
    fn cut_off(&mut self, frame: u32) -> Result<()> {
        if !self.cache.frame(frame).is_pinned() {
            if !self.savepoints.is_empty() && self.cache.frame(frame).is_dirty() {
                self.save_for_savepoints(frame)?;
            }
            self.cache.remove(frame);
            return Ok(());
        }
        self.save_original(frame)?;
        let (bytes, info) = self.cache.parts_mut(frame);
        bytes.fill(0);
        info.reset();
        Ok(())
    }
}
