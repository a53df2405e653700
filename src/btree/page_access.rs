//! Pages by their numbers, past the trees: for copying a database page by page, and for looking.
//!
//! A held page stays in the cache and keeps a transaction open, as a cursor does (T2). It outlives
//! commit and rollback, and has then the content of that moment. What is written here is examined
//! when the trees come to it, like every page that was read from the file.

use std::path::Path;

use crate::error::{Error, Result};
use crate::format::{FileHeader, PageNumber};
use crate::pager::PageRef;

use super::Btree;
use super::node::NODE_NOTES;
use super::store::PageFormat;

/// Holding pages.
impl Btree {
    /// Takes a reference to page `number`, which is read if it is not in the cache. Beyond the end
    /// a page is all zeros, and becomes part of the database when it is written. A read
    /// transaction is opened if none is open.
    ///
    /// # Errors
    /// [`Corrupt`](Error::Corrupt) for what is no page number, and for the lock page;
    /// [`Full`](Error::Full) above the page limit; errors of [`Btree::begin`] and the pager.
    #[doc(alias = "sqlite3PagerGet")]
    pub fn hold_page(&mut self, number: u32) -> Result<()> {
        let page = self.legal(number).ok_or(Error::corrupt("impossible page number"))?;
        self.begin_implicit_read()?;
        let mark = self.store.pager.mark();
        let fetched = if number > self.page_limit() && number > self.page_count() {
            Err(Error::Full)
        } else {
            self.store.pager.fetch(page)
        };
        let held = fetched.map(|page| self.session.held.hold(&mut self.store.pager, page));
        self.store.pager.release(mark);
        self.end_read_after_last_use();
        held
    }

    /// As [`Btree::hold_page`], if a transaction is open and the page is in the cache; whether.
    #[doc(alias = "sqlite3PagerLookup")]
    pub fn hold_cached_page(&mut self, number: u32) -> bool {
        let Some(page) = self.legal(number) else { return false };
        let mark = self.store.pager.mark();
        let found = self.store.pager.lookup(page);
        if let Some(page) = found {
            self.session.held.hold(&mut self.store.pager, page);
        }
        self.store.pager.release(mark);
        found.is_some()
    }

    /// Gives a reference back; returns whether it was the last to this page.
    #[doc(alias = "sqlite3PagerUnref")]
    pub fn let_page_go(&mut self, number: u32) -> bool {
        let is_last = self.session.held.let_go(&mut self.store.pager, number);
        self.end_read_after_last_use();
        is_last
    }

    /// The page with this number, if there can be one.
    fn legal(&self, number: u32) -> Option<PageNumber> {
        let number = PageNumber::new(number).filter(|_| number <= i32::MAX as u32)?;
        (!self.store.pager.lock_page().is(number.get())).then_some(number)
    }

    /// A page that is held, in a transaction in which its bytes are true.
    fn held_page(&self, number: u32) -> Result<PageRef> {
        let page = self.session.held.find(number).ok_or(Error::Misuse("the page is not held"))?;
        self.store.pager.check_transaction()?;
        Ok(page)
    }
}

/// Reading and writing what is held.
impl Btree {
    /// All bytes of a page that is held.
    ///
    /// # Errors
    /// [`Misuse`](Error::Misuse) if it is not; [`State`](Error::State), [`Io`](Error::Io) if its
    /// transaction has ended with an error.
    #[doc(alias = "sqlite3PagerGetData")]
    pub fn page_bytes(&self, number: u32) -> Result<&[u8]> {
        self.held_page(number).map(|page| self.store.pager.bytes(page))
    }

    /// What the trees remember about a page that is held; zeros as long as they have not looked.
    ///
    /// # Errors
    /// As [`Btree::page_bytes`].
    #[doc(alias = "sqlite3PagerGetExtra")]
    pub fn page_notes(&self, number: u32) -> Result<[u8; NODE_NOTES]> {
        self.held_page(number).map(|page| self.store.pager.info(page).notes())
    }

    /// Replaces the content of a page that is held by `content` and zeros. The journal file has
    /// the original on return. Cursors find their entries again as far as the trees allow it.
    ///
    /// # Errors
    /// [`State`](Error::State) without a write transaction, or if `content` is longer than a page:
    /// nothing has happened. [`ReadOnly`](Error::ReadOnly); [`Misuse`](Error::Misuse) if the page
    /// is not held; errors of the pager.
    #[doc(alias = "sqlite3PagerWrite")]
    pub fn write_page(&mut self, number: u32, content: &[u8]) -> Result<()> {
        self.check_may_change()?;
        if content.len() > self.page_size().bytes() {
            return Err(Error::State("more bytes than the page has"));
        }
        let page = self.held_page(number)?;
        if number > self.page_limit() {
            return Err(Error::Full);
        }
        self.with_cursors_off(|btree| {
            let pager = &mut btree.store.pager;
            pager.blank_before(number)?;
            let page = pager.make_writable(page)?;
            pager.flush_journal_buffer()?;
            let (bytes, info) = pager.parts_mut(page);
            crate::pager::PageInfo::reset(info);
            let (front, rest) = bytes.split_at_mut(content.len());
            front.copy_from_slice(content);
            rest.fill(0);
            if number > 1 {
                return Ok(());
            }
            btree.learn_format()?;
            btree.refresh_auto_vacuum()
        })
    }

    /// Makes the database `pages` pages long, at least 1, if that is less than now. The file is cut
    /// at commit. Pages cut off are zeros where they are held.
    ///
    /// # Errors
    /// [`State`](Error::State) without a write transaction; [`ReadOnly`](Error::ReadOnly); errors
    /// of the pager.
    #[doc(alias = "sqlite3PagerTruncateImage")]
    pub fn truncate_image(&mut self, pages: u32) -> Result<()> {
        self.check_may_change()?;
        self.with_cursors_off(|btree| {
            btree.store.pager.truncate_image(pages.max(1));
            btree.store.pager.flush_journal_buffer()?;
            btree.store.pager.check_transaction()
        })
    }

    /// Runs a change that no cursor can follow: each remembers its entry before and takes up its
    /// root afterwards. A root that is none any more makes it unusable.
    fn with_cursors_off(&mut self, work: impl FnOnce(&mut Btree) -> Result<()>) -> Result<()> {
        self.let_cursors_go();
        self.store.change_shape();
        let result = self.change(work);
        let mark = self.store.pager.mark();
        for (_, cursor) in self.cursors.iter_mut() {
            match self.store.fetch_root(cursor.root) {
                Ok(_) => cursor.take_up(&mut self.store),
                Err(error) => cursor.fail(&mut self.store, error),
            }
        }
        self.store.pager.release(mark);
        result
    }

    /// Page 1 has other content: the reserved bytes that it names count at once. Another page size
    /// counts from the next transaction on.
    pub(super) fn learn_format(&mut self) -> Result<()> {
        let mark = self.store.pager.mark();
        let page = self.store.pager.fetch(PageNumber::ONE);
        let header = page.map(|page| self.store.pager.bytes(page).first_chunk().copied());
        self.store.pager.release(mark);
        let Some((size, reserved, _)) = header?.as_ref().and_then(FileHeader::peek) else {
            return Ok(());
        };
        if size == self.page_size()
            && reserved != self.reserved()
            && let Ok(format) = PageFormat::new(size, reserved, self.lock_offset)
        {
            self.store.format = format;
            self.store.pager.reset_infos();
        }
        Ok(())
    }
}

/// The file, and the two halves of a commit.
impl Btree {
    /// As [`Btree::commit_phase_one`], without syncing the database: [`Btree::sync`] must do that
    /// before the second half.
    ///
    /// # Errors
    /// As [`Btree::commit`].
    pub fn commit_phase_one_unsynced(&mut self, super_journal: Option<&Path>) -> Result<()> {
        self.prepare_commit(|pager| pager.commit_phase_one_unsynced(super_journal))
    }

    /// Makes the database file durable, unless syncing is off.
    ///
    /// # Errors
    /// [`Io`](Error::Io); a write transaction must be rolled back then.
    #[doc(alias = "sqlite3PagerSync")]
    pub fn sync(&mut self) -> Result<()> {
        let result = self.store.pager.sync();
        if self.is_writing() { self.note_failure(result) } else { result }
    }

    /// Size of the database file in bytes; `None` as long as there is no file.
    ///
    /// # Errors
    /// [`Io`](Error::Io).
    #[doc(alias = "sqlite3PagerFile")]
    pub fn file_size(&self) -> Result<Option<u64>> {
        self.store.pager.file_size()
    }

    /// Reads bytes of the database file itself, past the cache; returns how many there were.
    ///
    /// # Errors
    /// [`State`](Error::State) as long as there is no file; [`Io`](Error::Io).
    pub fn read_file(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.store.pager.read_file(buffer, offset)
    }

    /// The system's descriptor of the database file, where there is one.
    pub fn descriptor(&self) -> Option<i32> {
        self.store.pager.descriptor()
    }
}
