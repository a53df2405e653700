//! Copying a whole database into another one, page by page.
//!
//! A [`Backup`] goes on over many calls, between which both connections stay usable:
//!
//! ```text
//!   start ── step ── step ── … ── step: done ── finish
//!            │ destination locked        │ destination committed
//!            └──────── finish before that: destination rolled back
//! ```
//!
//! Invariants:
//!
//! * B1: between steps the pages below `next` are in the destination as they were when they were
//!   read; those that changed since are marked in the watch that the source's pager keeps.
//! * B2: once `locked`, the destination is in an exclusive write transaction until the backup ends.
//! * B3: what a step commits is one state of the source: it holds a read transaction of the
//!   source from before the last mark was looked at until the destination is committed.
//!
//! Neither connection knows the backup: it is handed both at each call.

use super::Btree;
use super::node::NodeKind;
use super::store::Store;
use crate::error::{Error, ReadOnlyReason, Result};
use crate::format::bytes::put_u32;
use crate::format::{AutoVacuum, FileHeader, PageNumber};
use crate::memory;
use crate::pager::{PageInfo, Regrouping, WatchId};

/// The meta value that counts changes of the schema.
const SCHEMA_COOKIE: usize = 1;

/// A copy of one database into another, under way.
#[derive(Debug)]
#[doc(alias = "sqlite3_backup")]
pub struct Backup {
    watch: WatchId,
    /// The first page that was not copied yet.
    next: u32,
    /// Pages of the source at the last step.
    pages: u32,
    remaining: u32,
    /// The destination's schema cookie before it was overwritten.
    cookie: u32,
    /// B2.
    locked: bool,
    done: bool,
    /// The error that has ended it.
    error: Option<Error>,
}

impl Backup {
    /// Begins to copy `source` into `destination`. Nothing is read or locked yet. Every further
    /// call is given the same two connections.
    ///
    /// # Errors
    /// [`State`](Error::State) if the destination has a transaction open;
    /// [`NoMemory`](Error::NoMemory).
    #[doc(alias = "sqlite3_backup_init")]
    pub fn start(destination: &mut Btree, source: &mut Btree) -> Result<Backup> {
        if destination.is_reading() {
            return Err(Error::State("the destination is in use"));
        }
        Ok(Backup {
            watch: source.watch()?,
            next: 1,
            pages: 0,
            remaining: 0,
            cookie: 0,
            locked: false,
            done: false,
            error: None,
        })
    }

    /// Copies up to `pages` further pages, all that are left with `None`. Pages that were copied
    /// and have been changed through `source` since are copied again and not counted; if the
    /// source was changed from outside, the copy starts over. With the last page the destination
    /// is committed. Returns whether it is done.
    ///
    /// # Errors
    /// [`Busy`](Error::Busy), also while the source is being written through its own cache, and
    /// [`Locked`](Error::Locked), also while the destination has cursors open: the step can be
    /// repeated. [`ReadOnly`](Error::ReadOnly) for a destination in memory, or with a codec, that
    /// has pages of another size. Every error but the first two is final, and every further step
    /// repeats it.
    #[doc(alias = "sqlite3_backup_step")]
    pub fn step(
        &mut self,
        destination: &mut Btree,
        source: &mut Btree,
        pages: Option<u32>,
    ) -> Result<bool> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.done {
            return Ok(true);
        }
        let result = self.step_in_transaction(destination, source, pages);
        match result {
            Ok(()) | Err(Error::Busy | Error::BusyRecovery) => {}
            Err(Error::Locked | Error::LockedSharedCache) => {}
            Err(error) => self.error = Some(error),
        }
        result.map(|()| self.done)
    }

    /// Pages of the source that were not copied yet, as of the last step.
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// Pages of the source, as of the last step.
    pub fn page_count(&self) -> u32 {
        self.pages
    }

    /// Ends the backup. If it is not done, the destination is rolled back.
    ///
    /// # Errors
    /// The final error of a step; those of [`Btree::rollback`].
    #[doc(alias = "sqlite3_backup_finish")]
    pub fn finish(self, destination: &mut Btree, source: &mut Btree) -> Result<()> {
        source.unwatch(self.watch);
        self.abandon(destination)
    }

    /// As [`Backup::finish`], when the source is there no more.
    ///
    /// # Errors
    /// As there.
    pub fn abandon(self, destination: &mut Btree) -> Result<()> {
        let undone = if self.locked && !self.done { destination.rollback() } else { Ok(()) };
        self.error.map_or(undone, Err)
    }

    fn step_in_transaction(
        &mut self,
        destination: &mut Btree,
        source: &mut Btree,
        pages: Option<u32>,
    ) -> Result<()> {
        if source.store.pager.is_writing() {
            return Err(Error::Busy);
        }
        let implicit = source.begin_implicit_read()?;
        let result = self
            .lock(destination, source)
            .and_then(|()| self.copy(&mut destination.store, &mut source.store, pages))
            .and_then(|()| self.complete(destination, source));
        if implicit {
            source.end_implicit_read();
        }
        result
    }

    /// Takes the destination (B2). One without pages gets the source's page size.
    fn lock(&mut self, destination: &mut Btree, source: &Btree) -> Result<()> {
        if !self.locked {
            if destination.is_reading() {
                return Err(Error::State("the destination is in use"));
            }
            let (size, reserved) = (source.page_size(), source.reserved());
            // A destination whose page size is fixed keeps it.
            let _ = destination.set_page_size(Some(size), Some(reserved), false);
            destination.begin(super::TransactionKind::Exclusive)?;
            self.locked = true;
            self.cookie = destination.meta(SCHEMA_COOKIE)?;
        }
        if !destination.is_writing() {
            return Err(Error::Abort("the destination's transaction was ended"));
        }
        check_pair(destination, source)
    }

    fn copy(&mut self, to: &mut Store, from: &mut Store, pages: Option<u32>) -> Result<()> {
        if from.pager.take_replaced(self.watch) {
            self.next = 1;
        }
        let count = from.pager.page_count();
        let mut at = 1;
        while let Some(page) = from.pager.next_changed(self.watch, at) {
            if page <= count {
                copy_page(to, from, page)?;
            }
            from.pager.has_reread(self.watch, page);
            at = page;
        }
        let end = match pages {
            Some(pages) => count.min(self.next.saturating_add(pages).saturating_sub(1)),
            None => count,
        };
        while self.next <= end {
            copy_page(to, from, self.next)?;
            self.next += 1;
            from.pager.has_read(self.watch, self.next);
        }
        self.pages = count;
        self.remaining = count.saturating_add(1).saturating_sub(self.next);
        Ok(())
    }

    /// Commits the destination if every page was copied.
    fn complete(&mut self, destination: &mut Btree, source: &mut Btree) -> Result<()> {
        if self.remaining == 0 {
            commit_copy(destination, &mut source.store, self.cookie)?;
            self.done = true;
        }
        Ok(())
    }
}

impl Btree {
    /// Makes this database a copy of `source` and commits it. Both have a transaction open, this
    /// one for writing; what the source has changed and not committed is copied as well. The page
    /// size becomes that of the source.
    ///
    /// # Errors
    /// [`State`](Error::State) without these transactions; [`Locked`](Error::Locked) while this
    /// connection has cursors open; [`LockedSharedCache`](Error::LockedSharedCache) while another
    /// one of a shared page cache has a transaction; [`ReadOnly`](Error::ReadOnly) for a database
    /// in memory with pages of another size: nothing was changed. Any other: the transaction must
    /// be rolled back.
    #[doc(alias = "sqlite3BtreeCopyFile")]
    pub fn copy_from(&mut self, source: &mut Btree) -> Result<()> {
        if !self.is_writing() || !source.is_reading() {
            return Err(Error::State("a copy needs a transaction on both sides"));
        }
        self.check_may_change()?;
        self.check_others_allow(super::TransactionKind::Exclusive)?;
        check_pair(self, source)?;
        let cookie = self.meta(SCHEMA_COOKIE)?;
        let mut result = Ok(());
        for page in 1..=source.store.pager.page_count() {
            result = result.and_then(|()| copy_page(&mut self.store, &mut source.store, page));
        }
        let result = result.and_then(|()| commit_copy(self, &mut source.store, cookie));
        self.note_failure(result)
    }

    /// Whether a backup reads through this connection.
    #[doc(alias = "sqlite3BtreeIsInBackup")]
    pub fn is_in_backup(&self) -> bool {
        !self.session.watches.is_empty()
    }

    fn watch(&mut self) -> Result<WatchId> {
        memory::reserve(&mut self.session.watches, 1)?;
        let watch = self.store.pager.watch()?;
        self.session.watches.push(watch);
        Ok(watch)
    }

    fn unwatch(&mut self, watch: WatchId) {
        self.session.watches.retain(|&other| other != watch);
        self.store.pager.unwatch(watch);
    }

    /// Ends what backups watch through this connection, which is being closed: nobody will tell.
    pub(super) fn unwatch_all(&mut self) {
        for watch in std::mem::take(&mut self.session.watches) {
            self.store.pager.unwatch(watch);
        }
    }
}

/// What must hold whenever pages are copied.
fn check_pair(destination: &Btree, source: &Btree) -> Result<()> {
    if destination.cursors.len() > 0 {
        return Err(Error::Locked);
    }
    // A codec sees pages of one size before the commit and of another one after it.
    let keeps_size = destination.is_memory() || destination.store.pager.has_codec();
    if keeps_size && destination.page_size() != source.page_size() {
        return Err(Error::ReadOnly(ReadOnlyReason::Fixed));
    }
    Ok(())
}

/// Copies page `number` of one database to where its bytes belong in another, whose pages may have
/// another size. The lock pages of both are left out.
fn copy_page(to: &mut Store, from: &mut Store, number: u32) -> Result<()> {
    let Some(page) = PageNumber::new(number).filter(|_| !from.format.lock_page.is(number)) else {
        return Ok(());
    };
    let mark = from.pager.mark();
    let copied = from.pager.fetch(page).and_then(|read| {
        let offset = page.offset(from.format.page_size);
        copy_bytes(to, from.pager.bytes(read), offset)
    });
    from.pager.release(mark);
    copied
}

fn copy_bytes(to: &mut Store, mut bytes: &[u8], mut offset: u64) -> Result<()> {
    let size = u64::from(to.format.page_size.get());
    while !bytes.is_empty() {
        let within = (offset % size) as usize;
        let length = bytes.len().min(size as usize - within);
        let (piece, rest) = bytes.split_at(length);
        let number = u32::try_from(offset / size + 1).map_err(|_| Error::Full)?;
        if let Some(page) = PageNumber::new(number).filter(|_| !to.format.lock_page.is(number)) {
            let mark = to.pager.mark();
            let put = put_piece(to, page, within, piece);
            to.pager.release(mark);
            put?;
        }
        bytes = rest;
        offset += length as u64;
    }
    Ok(())
}

fn put_piece(to: &mut Store, page: PageNumber, within: usize, piece: &[u8]) -> Result<()> {
    let page = to.pager.fetch(page)?;
    let page = to.pager.make_writable(page)?;
    let (bytes, info) = to.pager.parts_mut(page);
    info.reset();
    match bytes.get_mut(within..within + piece.len()) {
        Some(place) => place.copy_from_slice(piece),
        None => return Err(Error::Internal("a piece crosses the end of a page")),
    }
    Ok(())
}

/// Gives the copy its length and header and commits it. Nothing of the b-tree layer is done on the
/// way: the pages are the source's by now, but this connection still knows them as its own.
fn commit_copy(destination: &mut Btree, from: &mut Store, cookie: u32) -> Result<()> {
    let mark = destination.store.pager.mark();
    let made = make_whole(&mut destination.store, from, cookie);
    let committed = made.and_then(|()| destination.store.pager.commit_phase_one(None));
    destination.store.pager.release(mark);
    committed?;
    destination.vacuum_choice = None;
    destination.commit_phase_two()?;
    // Learns page size and kind of vacuum; if that fails now, the next transaction tells.
    if let Ok(true) = destination.begin_implicit_read() {
        destination.end_implicit_read();
    }
    Ok(())
}

fn make_whole(to: &mut Store, from: &mut Store, cookie: u32) -> Result<()> {
    let pages = from.pager.page_count();
    let (size, other) = (from.format.page_size, to.format.page_size);
    let first = to.pager.fetch(PageNumber::ONE)?;
    let first = to.pager.make_writable(first)?;
    if pages == 0 {
        // A database without pages makes one without tables.
        to.pager.truncate_image(1);
        let reserved = to.format.reserved();
        let (bytes, info) = to.pager.parts_mut(first);
        info.reset();
        bytes.fill(0);
        FileHeader::create(bytes, other, reserved, AutoVacuum::None)?;
        to.node_mut(first).initialize(PageNumber::ONE, NodeKind::TABLE_LEAF);
    } else if size == other {
        to.pager.truncate_image(pages);
    } else {
        let bytes = u64::from(pages) * u64::from(size.get());
        let image = bytes.div_ceil(u64::from(other.get()));
        let image = u32::try_from(image).map_err(|_| Error::Full)?;
        to.pager.truncate_image(image - u32::from(to.format.lock_page.is(image)));
        let around_lock = read_around_lock(to, from)?;
        to.pager.regroup(Regrouping { pages, bytes, around_lock });
    }
    let bytes = to.pager.bytes_mut(first);
    put_u32(bytes, FileHeader::PAGE_COUNT, pages.max(1))?;
    put_u32(bytes, FileHeader::meta_offset(SCHEMA_COOKIE), cookie.wrapping_add(1))
}

/// The source's pages that lie in the destination's lock page, which is larger.
fn read_around_lock(to: &Store, from: &mut Store) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut pieces = Vec::new();
    let size = u64::from(from.format.page_size.get());
    let start = to.format.lock_page.number().offset(to.format.page_size);
    let end = start + u64::from(to.format.page_size.get());
    for number in start / size + 1..=end / size {
        let number = u32::try_from(number).map_err(|_| Error::Full)?;
        let Some(page) = PageNumber::new(number) else { continue };
        let is_page = number <= from.pager.page_count() && !from.format.lock_page.is(number);
        if !is_page {
            continue;
        }
        let mark = from.pager.mark();
        let read = from.pager.fetch(page);
        let piece = read.and_then(|read| memory::copy_of(from.pager.bytes(read)));
        from.pager.release(mark);
        memory::reserve(&mut pieces, 1)?;
        pieces.push((page.offset(from.format.page_size), piece?));
    }
    Ok(pieces)
}
