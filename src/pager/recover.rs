//! Beginning to read: the shared lock, the rollback of what a crashed writer left, and whether the
//! cache is still true.
//!
//! A journal is *possibly hot* if it exists, nobody holds the reserved lock, the database is not
//! empty, and the first byte of the journal is not zero. Whoever finds one takes the exclusive
//! lock without passing through reserved (a reserved lock would tell other readers that the
//! journal belongs to a living writer), plays it back, and ends it.

use std::path::Path;

use super::fetch::stamp_of;
use super::journal::{HotJournal, is_super_journal_name, listed_journals, read_super_name};
use super::state::State;
use super::{JournalMode, LockingMode, PageInfo, Pager, SafetyLevel};
use crate::error::{Error, ReadOnlyReason, Result};
use crate::os::{Access, File, Hint, LockLevel, OpenKind, OpenRequest, Opened};

impl<X: PageInfo> Pager<X> {
    /// Opens a read transaction: shared lock, rollback of a hot journal, validation of the cache.
    /// Nothing happens if one is open. The number of pages is set from the length of the file;
    /// the layer above corrects it from the header with [`Pager::trust_page_count`].
    ///
    /// # Errors
    /// [`Busy`](crate::Error::Busy), [`CannotOpen`](crate::Error::CannotOpen) for a database in
    /// write-ahead-log mode, [`Io`](crate::Error::Io), [`ReadOnly`](crate::Error::ReadOnly) if a
    /// hot journal cannot be rolled back. No lock is left behind that was not held before.
    pub fn begin_read(&mut self) -> Result<()> {
        self.leave_failure();
        if self.state != State::Open {
            return self.error.map_or(Ok(()), Err);
        }
        self.discard_some();
        let held = self.file.lock_level();
        let result = self.begin_read_locked(held);
        match result {
            Ok(()) => {
                self.size_known = true;
                self.count_trusted = false;
                self.page_limit = self.page_limit.max(self.image);
                self.enter(State::Reader);
                if self.no_read_lock && self.locking_mode == LockingMode::Normal {
                    self.unlock(LockLevel::None);
                }
            }
            Err(_) => {
                self.image = 0;
                self.unlock(held);
            }
        }
        result
    }

    fn begin_read_locked(&mut self, held: LockLevel) -> Result<()> {
        if self.is_file() {
            if !self.no_read_lock {
                self.lock_patiently(LockLevel::Shared)?;
            }
            if held <= LockLevel::Shared || self.lock_unknown {
                return self.examine_file();
            }
        }
        // Under the exclusive lock that was never given back the length is as it was left.
        if !self.is_file() || held < LockLevel::Exclusive || self.header_ignored {
            self.file_pages = self.count_file_pages()?;
        }
        self.image = self.file_pages;
        Ok(())
    }

    /// Sees to it that the file is whole, and learns how long it is. A file that is as this
    /// connection left it needs a look for a journal and at the validation bytes only.
    fn examine_file(&mut self) -> Result<()> {
        let unknown = self.lock_unknown || self.header_ignored;
        let recovered = self.resolve_journal()?;
        if self.shape_known && !unknown && !recovered && self.is_cache_true()? {
            self.image = self.file_pages; // P7
            return Ok(());
        }
        self.shape_known = false;
        self.validate_cache()?;
        self.refuse_write_ahead_log()?;
        self.shape_known = !unknown;
        Ok(())
    }

    /// Whether there is something in the cache, and it is what the file has.
    fn is_cache_true(&self) -> Result<bool> {
        Ok(self.cache.len() > 0 && stamp_of(&self.peek_header()?) == self.stamp)
    }

    /// Length of the file in pages, a partial last page counted; where page 1 is no header, only
    /// if it is the first.
    pub(super) fn count_file_pages(&self) -> Result<u32> {
        let size = self.file.size()?;
        let page_size = u64::from(self.page_size.get());
        let pages = match size {
            // A disk may call a file of one byte empty, which here it is not.
            0 if self.header_ignored => self.file.read_at(&mut [0], 0)? as u64,
            _ if self.header_ignored => (size / page_size).max(1),
            0 | 1 => 0, // A file of one byte counts as empty.
            _ => size.div_ceil(page_size),
        };
        u32::try_from(pages).map_err(|_| Error::corrupt("the file is longer than a database"))
    }

    /// A database beside a write-ahead log must not be read without it.
    fn refuse_write_ahead_log(&self) -> Result<()> {
        let Some(path) = &self.wal_path else { return Ok(()) };
        if self.header_ignored || !self.vfs.exists(path)? {
            return Ok(());
        }
        if self.file_pages == 0 {
            return if self.read_only { Ok(()) } else { self.vfs.delete(path, false) };
        }
        Err(Error::CannotOpen("the database has a write-ahead log"))
    }

    /// Drops the cache if somebody else has changed the file, and sets the number of pages.
    /// Returns whether the file is known to be as it was.
    pub(super) fn validate_cache(&mut self) -> Result<bool> {
        let pages = self.count_file_pages()?;
        let same_length = pages == self.file_pages;
        self.file_pages = pages;
        self.image = pages;
        if self.cache.len() == 0 && self.watches.is_empty() {
            return Ok(false);
        }
        let header = self.peek_header()?;
        if stamp_of(&header) == self.stamp {
            return Ok(same_length);
        }
        self.shape_known = false; // P7
        self.note_replaced();
        self.discard_cache()?;
        Ok(false)
    }
}

/// Hot journals.
impl<X: PageInfo> Pager<X> {
    /// Looks for a hot journal and rolls it back. The lock is what it was afterwards. Returns
    /// whether there was one.
    pub(super) fn resolve_journal(&mut self) -> Result<bool> {
        let Some(path) = self.journal_path.take() else { return Ok(false) };
        let result = match self.is_possibly_hot(&path) {
            Ok(true) => self.recover(&path).map(|()| true),
            unneeded => unneeded,
        };
        self.journal_path = Some(path);
        result
    }

    fn is_possibly_hot(&mut self, path: &Path) -> Result<bool> {
        if self.lock_unknown {
            return Ok(true);
        }
        // What exists has bytes, so a kept journal that was cut needs no look of its own.
        if self.kept_journal.as_ref().is_some_and(|kept| !kept.is_cut)
            && self.is_kept_journal_void()?
        {
            return Ok(false);
        }
        if !self.vfs.exists(path)? || self.file.check_reserved_lock()? {
            return Ok(false);
        }
        if self.count_file_pages()? == 0 {
            self.delete_journal_of_nothing(path);
            return Ok(false);
        }
        let mut first = [0];
        match self.open_beside(path, OpenKind::Journal, Access::ReadOnly) {
            Ok(opened) => {
                opened.file.read_at(&mut first, 0)?;
                Ok(first != [0])
            }
            Err(Error::CannotOpen(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether the journal is the file that this connection left, and void. Nothing has to be
    /// opened to see that.
    fn is_kept_journal_void(&self) -> Result<bool> {
        let Some(kept) = &self.kept_journal else { return Ok(false) };
        let mut first = [0];
        if kept.file.has_moved()? {
            return Ok(false);
        }
        kept.file.read_at(&mut first, 0)?;
        Ok(first == [0])
    }

    /// An empty database has nothing to roll back to. If the journal cannot be deleted now, the
    /// next reader tries again.
    fn delete_journal_of_nothing(&mut self, path: &Path) {
        let locked = self.file.lock(LockLevel::Shared).is_ok()
            && self.file.lock(LockLevel::Reserved).is_ok();
        if locked && !self.read_only {
            let _ = self.vfs.delete(path, false);
        }
        let level = if self.no_read_lock { LockLevel::None } else { LockLevel::Shared };
        self.unlock(level);
    }

    pub(super) fn open_beside(
        &self,
        path: &Path,
        kind: OpenKind,
        access: Access,
    ) -> Result<Opened> {
        let request = OpenRequest {
            kind,
            access,
            exclusive: false,
            delete_on_close: false,
            lock_offset: self.lock_offset,
        };
        self.vfs.open(Some(path), request)
    }

    fn recover(&mut self, path: &Path) -> Result<()> {
        if self.read_only {
            return Err(Error::ReadOnly(ReadOnlyReason::Rollback));
        }
        self.file.lock(LockLevel::Shared)?;
        self.file.lock(LockLevel::Exclusive)?;
        self.lock_unknown = false;
        // Somebody else may have recovered while we were waiting.
        if self.vfs.exists(path)? {
            let opened = self.open_beside(path, OpenKind::Journal, Access::ReadWrite)?;
            if opened.read_only {
                return Err(Error::CannotOpen("a hot journal cannot be written"));
            }
            self.recover_from(path, opened.file)?;
        }
        if self.locking_mode == LockingMode::Normal {
            self.unlock(LockLevel::Shared);
        }
        Ok(())
    }

    fn recover_from(&mut self, path: &Path, mut journal: Box<dyn File>) -> Result<()> {
        if !self.is_sync_disabled() {
            journal.sync(self.sync_kind())?; // Its writer may have died before it did.
        }
        let super_journal = read_super_name(&*journal)?;
        let committed = match &super_journal {
            Some(name) => !self.vfs.exists(name)?,
            None => false,
        };
        if !committed {
            self.file.hint(Hint::Undoing(true));
            let result = self.play_hot(&*journal);
            self.file.hint(Hint::Undoing(false));
            result?;
        }
        journal.hint(Hint::Undoing(true));
        self.end_hot_journal(path, journal, super_journal.is_some())?;
        match super_journal {
            Some(name) if !committed => self.delete_stale_super_journal(&name, path),
            _ => Ok(()),
        }
    }

    /// Plays a journal back into the file and makes the file durable.
    fn play_hot(&mut self, journal: &dyn File) -> Result<()> {
        let hot = HotJournal::open(journal, self.page_size, self.lock_offset)?;
        let Some(mut hot) = hot else { return Ok(()) };
        let page_size = u64::from(hot.page_size.get());
        let wanted = u64::from(hot.original_pages) * page_size;
        let size = self.file.size()?;
        if size > wanted {
            self.file.truncate(wanted)?;
        } else if size + page_size <= wanted {
            self.prepare_scratch(hot.page_size.bytes())?;
            self.file.write_at(&self.scratch, wanted - page_size)?;
        }
        let hot_size = hot.page_size;
        while let Some((number, page)) = hot.next()? {
            self.file.write_at(page, number.offset(hot_size))?;
        }
        if !self.is_sync_disabled() {
            self.file.sync(self.sync_kind())?;
        }
        self.drop_unpinned();
        Ok(())
    }

    /// Ends a journal that was played back, by the mode of this connection.
    fn end_hot_journal(
        &mut self,
        path: &Path,
        mut journal: Box<dyn File>,
        named_super: bool,
    ) -> Result<()> {
        let sync = (!self.is_sync_disabled()).then(|| self.sync_kind());
        match self.journal_mode {
            JournalMode::Truncate => journal.truncate(0)?,
            JournalMode::Persist if named_super || self.journal_limit == 0 => {
                journal.truncate(0)?;
            }
            JournalMode::Persist => journal.write_at(&[0; 28], 0)?,
            JournalMode::Delete | JournalMode::Memory | JournalMode::Off => {
                let directory = sync.is_some() && self.safety == SafetyLevel::Extra;
                return self.vfs.delete(path, directory);
            }
        }
        match sync {
            Some(kind) => journal.sync(kind),
            None => Ok(()),
        }
    }

    /// Deletes a super-journal when no other journal that it lists names it any more.
    fn delete_stale_super_journal(&self, name: &Path, own: &Path) -> Result<()> {
        if !is_super_journal_name(name) || !self.vfs.exists(name)? {
            return Ok(());
        }
        let opened = self.open_beside(name, OpenKind::SuperJournal, Access::ReadOnly)?;
        let listed = listed_journals(&*opened.file)?;
        drop(opened);
        if !listed.iter().any(|journal| journal == own) {
            return Ok(());
        }
        for journal in listed.iter().filter(|journal| *journal != own) {
            if self.journal_names(journal, name)? {
                return Ok(());
            }
        }
        self.vfs.delete(name, false)
    }

    fn journal_names(&self, journal: &Path, super_journal: &Path) -> Result<bool> {
        if !self.vfs.exists(journal)? {
            return Ok(false);
        }
        let opened = self.open_beside(journal, OpenKind::Journal, Access::ReadOnly)?;
        Ok(read_super_name(&*opened.file)?.is_some_and(|name| name == super_journal))
    }
}
