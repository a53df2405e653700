//! Dirty pages to the file: the journal is made durable, the lock raised, pages go by number.

use std::io::IoSlice;

use super::fetch::stamp_of;
use super::journal::{RECORD_EXTRA, SyncRule, Syncs};
use super::state::State;
use super::{PageInfo, Pager};
use crate::error::{Error, Result};
use crate::memory;
use crate::os::LockLevel;

/// Most pages in one write.
const PIECES_MAX: usize = 128;
/// Most bytes in one write.
const RUN_MAX: usize = 1 << 20;
/// One in so many pages of the cache is written when room is needed.
const SPILL_SHARE: u32 = 8;

/// A page that may be written to make room: whether the journal must be synced before, when the
/// page was last used, its frame. They go in the order of these.
pub(super) type Victim = (bool, u64, u32);

impl<X: PageInfo> Pager<X> {
    /// Takes the exclusive lock and makes the journal durable, so that the file may be changed.
    ///
    /// # Errors
    /// [`Error::Busy`] changes nothing; errors of I/O are latched.
    pub(super) fn protect_originals(&mut self) -> Result<()> {
        // What undoing will need is had now, or a rollback could fail for want of it.
        let record = self.page_size.bytes() + RECORD_EXTRA;
        let more = record.saturating_sub(self.scratch.len());
        memory::reserve_exact(&mut self.scratch, more)?;
        self.lock_patiently(LockLevel::Exclusive)?;
        self.seal_journal().map_err(|error| self.latch_if_serious(error))?;
        self.transaction.unsealed.clear();
        for at in 0..self.cache.dirty().len() {
            let frame = self.cache.dirty()[at];
            self.cache.frame_mut(frame).needs_sync = false;
        }
        self.enter(State::FileChanged);
        Ok(())
    }

    fn seal_journal(&mut self) -> Result<()> {
        let kind = self.sync_kind();
        let syncs = match self.file.device().sequential {
            _ if self.is_sync_disabled() || !self.keeps_journal_file() => Syncs::None,
            true => Syncs::None,
            false if self.syncs_twice() => Syncs::Twice,
            false => Syncs::Once,
        };
        let (vfs, path) = (&self.vfs, &self.journal_path);
        let sync_directory = || path.as_deref().map_or(Ok(()), |path| vfs.sync_directory(path));
        match &mut self.transaction.journal {
            Some(journal) if journal.is_unsealed() => {
                journal.seal_segment(SyncRule { syncs, kind }, &sync_directory)
            }
            _ => Ok(()),
        }
    }

    /// Makes room by writing dirty pages that nobody holds, least recently used first, and
    /// removing the first of them. Returns `false` if there is none.
    ///
    /// # Errors
    /// [`Error::Busy`] if the exclusive lock cannot be had; errors of I/O are latched.
    pub(super) fn spill(&mut self) -> Result<bool> {
        let Some((victim, needs_sync)) = self.choose_victims()? else { return Ok(false) };
        if self.cache.frame(victim).forgotten {
            self.cache.remove(victim);
            return Ok(true);
        }
        self.materialise().map_err(|error| self.latch_if_serious(error))?;
        self.lock_to_spill()?;
        if needs_sync || self.state == State::CacheChanged {
            self.protect_originals()?;
            self.begin_next_segment().map_err(|error| self.latch_if_serious(error))?;
        }
        self.order.clear();
        memory::reserve(&mut self.order, self.victims.len())?;
        let numbered = |&(_, _, frame): &Victim| (self.cache.frame(frame).number, frame);
        self.order.extend(self.victims.iter().map(numbered));
        self.write_ordered()?;
        self.cache.remove(victim);
        Ok(true)
    }

    /// Takes the exclusive lock for a spill. The busy handler is asked once for all spills of a
    /// transaction: they can go without, and each page more would cost all of its patience again.
    ///
    /// # Errors
    /// [`Error::Busy`]; others of locking.
    fn lock_to_spill(&mut self) -> Result<()> {
        if self.transaction.spill_refused {
            return self.lock_at_once(LockLevel::Exclusive);
        }
        let locked = self.lock_patiently(LockLevel::Exclusive);
        self.transaction.spill_refused = locked == Err(Error::Busy);
        locked
    }

    /// After a spill the journal goes on with a new segment. Without room for its header it is
    /// left to the next record to fail.
    fn begin_next_segment(&mut self) -> Result<()> {
        let nonce = self.next_nonce();
        match &mut self.transaction.journal {
            Some(journal) if journal.wants_segment() && journal.has_room_for_segment() => {
                journal.begin_segment(nonce)?;
                journal.flush()
            }
            _ => Ok(()),
        }
    }

    /// Lists in `victims` the dirty pages to write: those that need no sync of the journal if there
    /// are any, then the least recently used; in a small cache one. Returns the first of all, which
    /// is to be recycled, and whether it needs that sync. One whose content was forgotten goes
    /// before all others, since it costs no write. Page 1 is never taken: commit changes it once
    /// more.
    fn choose_victims(&mut self) -> Result<Option<(u32, bool)>> {
        self.victims.clear();
        memory::reserve(&mut self.victims, self.cache.dirty().len())?;
        for &index in self.cache.dirty() {
            let frame = self.cache.frame(index);
            if frame.is_pinned() || frame.number == 1 {
                continue;
            }
            if frame.forgotten {
                return Ok(Some((index, false)));
            }
            self.victims.push((frame.needs_sync, self.cache.released(index), index));
        }
        let share = (self.cache_limit() / SPILL_SHARE).max(1) as usize;
        if self.victims.len() > share {
            self.victims.select_nth_unstable(share - 1);
            self.victims.truncate(share);
        }
        let Some(&(needs_sync, _, first)) = self.victims.iter().min() else { return Ok(None) };
        // If one can go without that sync, those that cannot stay.
        self.victims.retain(|victim| victim.0 == needs_sync);
        Ok(Some((first, needs_sync)))
    }

    /// Writes every dirty page of the image, but those whose content was forgotten.
    ///
    /// # Errors
    /// Those of I/O, latched; [`Error::NoMemory`].
    pub(super) fn write_dirty_pages(&mut self) -> Result<()> {
        self.order.clear();
        memory::reserve(&mut self.order, self.cache.dirty().len())?;
        for &index in self.cache.dirty() {
            let frame = self.cache.frame(index);
            let wanted = !frame.forgotten || frame.is_pinned();
            if frame.number <= self.image && wanted {
                self.order.push((frame.number, index));
            }
        }
        self.write_ordered()
    }

    /// Writes the pages of `order` by number, neighbours in one call, and marks them clean.
    fn write_ordered(&mut self) -> Result<()> {
        self.order.sort_unstable();
        self.transaction.file_written = true; // P4
        let mut start = 0;
        while start < self.order.len() {
            let length = self.run_length(start);
            self.write_run(start, length).map_err(|error| self.latch_if_serious(error))?;
            start += length;
        }
        Ok(())
    }

    /// How many entries of `order` from `start` on are neighbours that go into one write.
    fn run_length(&self, start: usize) -> usize {
        let most = PIECES_MAX.min(RUN_MAX / self.page_size.bytes());
        let run = &self.order[start..];
        let neighbours = run.windows(2).take_while(|pair| pair[0].0 + 1 == pair[1].0).count();
        (neighbours + 1).min(most)
    }

    fn write_run(&mut self, start: usize, length: usize) -> Result<()> {
        if self.codec.is_some() {
            self.write_encoded(start, length)?;
        } else {
            self.write_plain(start, length)?;
        }
        let run = &self.order[start..start + length];
        let first = run[0].0;
        for &(number, frame) in run {
            if number == 1 {
                self.stamp = stamp_of(self.cache.parts(frame).0);
            }
            self.cache.mark_clean(frame);
        }
        if !self.watches.is_empty() {
            self.note_written(first, length as u32);
        }
        self.counters.writes += length as u64;
        self.file_pages = self.file_pages.max(first - 1 + length as u32);
        Ok(())
    }

    /// Writes neighbours of `order` in one call.
    fn write_plain(&mut self, start: usize, length: usize) -> Result<()> {
        let run = &self.order[start..start + length];
        let (first, first_frame) = run[0];
        let offset = u64::from(first - 1) * u64::from(self.page_size.get());
        debug_assert!(run.iter().all(|entry| !self.cache.frame(entry.1).needs_sync), "P3");
        if length == 1 {
            return self.file.write_at(self.cache.parts(first_frame).0, offset);
        }
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        for (piece, entry) in pieces.iter_mut().zip(run) {
            *piece = IoSlice::new(self.cache.parts(entry.1).0);
        }
        self.file.write_vectored_at(&pieces[..length], offset)
    }
}
