//! `Btree`: one connection to one database; open, close, settings.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, ReadOnlyReason, Result};
use crate::format::{AutoVacuum, FileHeader, PageNumber, PageSize};
use crate::os::Vfs;
use crate::pager::{
    BusyHandler, JournalMode, LockingMode, PageCodec, Pager, PagerOptions, PagerStats, SafetyLevel,
    Storage,
};

use super::cursor::{CursorId, CursorTable};
use super::schema::Schema;
use super::session::{Session, Sharing};
use super::store::{PageFormat, Store};
use super::transaction::{FailedChange, NewRoot};
use super::{Options, PageDetails};

/// A connection to one database.
#[derive(Debug)]
pub struct Btree {
    pub(super) store: Store,
    pub(super) cursors: CursorTable,
    /// The connection that uses it at the moment, for a private one the only one.
    pub(super) session: Session,
    /// The other connections of a shared page cache.
    pub(super) sharing: Option<Box<Sharing>>,
    /// Transaction invariant T3.
    pub(super) failed: Option<FailedChange>,
    /// Transaction invariant T4.
    pub(super) new_roots: Vec<NewRoot>,
    /// Page size, reserved bytes and vacuum kind cannot be chosen any more.
    pub(super) page_size_fixed: bool,
    /// They were fixed on request, not by the database having pages.
    pub(super) page_size_fixed_by_caller: bool,
    /// Full or incremental vacuum, chosen since the last commit: no rollback takes it back.
    pub(super) vacuum_choice: Option<AutoVacuum>,
    pub(super) lock_offset: u32,
    /// What the caller has hung on the page cache.
    pub(super) schema: Option<Schema>,
}

/// Opening and closing.
impl Btree {
    /// Opens a database: `":memory:"` one in memory, the empty name a temporary one, any other
    /// name that file. Nothing is locked, and the content is not checked.
    ///
    /// # Errors
    /// [`CannotOpen`](Error::CannotOpen), [`NoMemory`](Error::NoMemory), [`Io`](Error::Io).
    #[doc(alias = "sqlite3BtreeOpen")]
    pub fn open(vfs: Arc<dyn Vfs>, name: impl AsRef<Path>, options: &Options) -> Result<Btree> {
        let name = name.as_ref();
        let storage = match name.to_str() {
            Some("") => Storage::Temporary,
            Some(":memory:") => Storage::Memory,
            _ => Storage::File(vfs.full_path(name)?),
        };
        let pager_options = PagerOptions {
            page_size: options.page_size,
            cache_size: options.cache_size,
            omit_journal: options.omit_journal,
            no_read_lock: options.no_read_lock,
            access: options.access,
            exclusive: options.exclusive,
            delete_on_close: options.delete_on_close,
            lock_offset: options.lock_offset,
        };
        let mut pager = Pager::open(vfs, &storage, &pager_options)?;
        let (mut page_size, mut reserved, mut auto_vacuum) =
            (options.page_size, 0, AutoVacuum::None);
        let mut page_size_fixed = false;
        if let Some(found) = FileHeader::peek(&pager.peek_header()?)
            && FileHeader::usable_size(found.0, found.1).is_ok()
        {
            (page_size, reserved, auto_vacuum) = found;
            page_size_fixed = true;
            pager.set_page_size(page_size)?;
        }
        let format = PageFormat::new(page_size, reserved, options.lock_offset)?;
        Ok(Btree {
            store: Store {
                pager,
                format,
                auto_vacuum,
                page_one: None,
                cell_buffer: Vec::new(),
                workspace: Some(Box::default()),
                shape: 0,
            },
            cursors: CursorTable::default(),
            session: Session::new(options.cursor_locks, options.journal_at_begin),
            sharing: None,
            failed: None,
            new_roots: Vec::new(),
            page_size_fixed,
            page_size_fixed_by_caller: false,
            vacuum_choice: None,
            lock_offset: options.lock_offset,
            schema: None,
        })
    }

    /// Closes the connection: an open transaction is rolled back, cursors are closed, locks fall.
    /// Errors leave a hot journal to the next one who opens the database. Dropping does the same.
    #[doc(alias = "sqlite3BtreeClose")]
    pub fn close(self) {}
}

impl Btree {
    /// Closes the cursors of this connection and lets its pages go.
    pub(super) fn let_everything_go(&mut self) {
        let open: Vec<CursorId> = self.cursors.iter().map(|(id, _)| id).collect();
        for cursor in open {
            self.close_cursor(cursor);
        }
        self.session.held.let_all_go(&mut self.store.pager);
    }
}

impl Drop for Btree {
    fn drop(&mut self) {
        self.let_everything_go();
        // An error here leaves the journal behind, which is where the next reader recovers from.
        let _ = self.rollback();
        self.schema = None;
    }
}

/// Settings.
impl Btree {
    /// Absolute path of the database; `None` for temporary ones.
    pub fn path(&self) -> Option<&Path> {
        self.store.pager.path()
    }

    /// Absolute path that the journal has or would have; `None` for temporary databases.
    pub fn journal_path(&self) -> Option<&Path> {
        self.store.pager.journal_path()
    }

    /// Whether the database is in memory only.
    pub fn is_memory(&self) -> bool {
        *self.store.pager.storage() == Storage::Memory
    }

    /// Whether the database goes away with the connection.
    pub fn is_temporary(&self) -> bool {
        !matches!(self.store.pager.storage(), Storage::File(_))
    }

    /// Whether the database can only be read.
    pub fn is_read_only(&self) -> bool {
        self.store.pager.is_read_only()
    }

    /// Wanted number of cached pages, as it was set.
    pub fn cache_size(&self) -> i32 {
        self.store.pager.cache_size()
    }

    /// Sets the wanted number of cached pages; values below 11 mean 10. Frees nothing by itself.
    pub fn set_cache_size(&mut self, pages: i32) {
        self.store.pager.set_cache_size(pages);
    }

    /// Page size.
    pub fn page_size(&self) -> PageSize {
        self.store.format.page_size
    }

    /// Reserved bytes at the end of each page.
    pub fn reserved(&self) -> u8 {
        self.store.format.reserved()
    }

    /// Sets page size and reserved bytes of a database that has no pages yet; `None` keeps them.
    /// With `fix` they cannot be changed afterwards.
    ///
    /// # Errors
    /// [`ReadOnly`](Error::ReadOnly) once they are fixed; [`Misuse`](Error::Misuse) if fewer than
    /// 480 bytes of a page would be left, or in a transaction.
    #[doc(alias = "sqlite3BtreeSetPageSize")]
    pub fn set_page_size(
        &mut self,
        size: Option<PageSize>,
        reserved: Option<u8>,
        fix: bool,
    ) -> Result<()> {
        self.check_not_fixed()?;
        self.adopt_page_size(
            size.unwrap_or(self.page_size()),
            reserved.unwrap_or(self.reserved()),
        )?;
        if fix {
            self.page_size_fixed = true;
            self.page_size_fixed_by_caller = true;
        }
        Ok(())
    }

    fn check_not_fixed(&self) -> Result<()> {
        if self.page_size_fixed {
            return Err(Error::ReadOnly(ReadOnlyReason::Fixed));
        }
        Ok(())
    }

    /// Kind of automatic vacuum.
    pub fn auto_vacuum(&self) -> AutoVacuum {
        self.store.auto_vacuum
    }

    /// Sets the kind of automatic vacuum. Once the database has pages, only full and incremental
    /// may be exchanged, which is stored by the next write transaction that is open or begins.
    ///
    /// # Errors
    /// [`ReadOnly`](Error::ReadOnly) if that is fixed.
    #[doc(alias = "sqlite3BtreeSetAutoVacuum")]
    pub fn set_auto_vacuum(&mut self, mode: AutoVacuum) -> Result<()> {
        let capable = |mode| mode != AutoVacuum::None;
        if capable(mode) != capable(self.store.auto_vacuum) {
            self.check_not_fixed()?;
        }
        self.store.auto_vacuum = mode;
        if !capable(mode) {
            self.vacuum_choice = None;
        } else {
            if self.is_writing() {
                self.set_meta(7, u32::from(mode == AutoVacuum::Incremental))?;
            }
            self.vacuum_choice = Some(mode);
        }
        Ok(())
    }

    /// Largest number of pages that the database may have.
    pub fn page_limit(&self) -> u32 {
        self.store.pager.page_limit()
    }

    /// Sets the largest number of pages, raised to the present number, and returns it.
    #[doc(alias = "sqlite3BtreeMaxPageCount")]
    pub fn set_page_limit(&mut self, pages: u32) -> u32 {
        self.store.pager.set_page_limit(pages)
    }

    /// Locking mode in force.
    pub fn locking_mode(&self) -> LockingMode {
        self.store.pager.locking_mode()
    }

    /// Sets the locking mode and returns the one in force.
    pub fn set_locking_mode(&mut self, mode: LockingMode) -> LockingMode {
        self.store.pager.set_locking_mode(mode)
    }

    /// Journal mode of the next write transaction.
    pub fn journal_mode(&self) -> JournalMode {
        self.store.pager.journal_mode()
    }

    /// Sets the journal mode of the next write transaction and returns the one in force.
    ///
    /// # Errors
    /// [`Io`](Error::Io) while a left-over journal is deleted.
    pub fn set_journal_mode(&mut self, mode: JournalMode) -> Result<JournalMode> {
        self.store.pager.set_journal_mode(mode)
    }

    /// Largest size of the journal file in bytes; negative: none.
    pub fn journal_size_limit(&self) -> i64 {
        self.store.pager.journal_size_limit()
    }

    /// Sets the largest size of the journal file in bytes; negative: none.
    pub fn set_journal_size_limit(&mut self, bytes: i64) {
        self.store.pager.set_journal_size_limit(bytes);
    }

    /// How much is synced.
    pub fn safety_level(&self) -> SafetyLevel {
        self.store.pager.safety_level()
    }

    /// Puts a codec between the pages and their files, or removes it; what the database is is
    /// learnt anew.
    ///
    /// # Errors
    /// [`Misuse`](Error::Misuse) in a transaction; [`Io`](Error::Io).
    pub fn set_codec(&mut self, codec: Option<Arc<dyn PageCodec>>) -> Result<()> {
        self.store.pager.set_codec(codec)?;
        let found = FileHeader::peek(&self.store.pager.peek_header()?);
        self.page_size_fixed = self.page_size_fixed_by_caller;
        if let Some((size, reserved, auto_vacuum)) = found
            && FileHeader::usable_size(size, reserved).is_ok()
        {
            self.adopt_page_size(size, reserved)?;
            self.store.auto_vacuum = auto_vacuum;
            self.page_size_fixed = true;
        }
        Ok(())
    }

    /// Gives memory of pages that are clean and not in use back, about `wanted` bytes. Returns how
    /// many it were.
    #[doc(alias = "sqlite3_release_memory")]
    pub fn release_memory(&mut self, wanted: u64) -> u64 {
        self.store.pager.release_memory(wanted)
    }

    /// Drops pages that are clean and not in use at random, with `chance` percent; 0 ends it. For
    /// tests.
    pub fn set_random_discard(&mut self, chance: u32, seed: u64) {
        self.store.pager.set_random_discard(chance, seed);
    }

    /// Sets how much is synced, and whether every sync is the strongest of the platform.
    #[doc(alias = "sqlite3BtreeSetSafetyLevel")]
    pub fn set_safety_level(&mut self, level: SafetyLevel, full_sync: bool) {
        self.store.pager.set_safety_level(level, full_sync);
    }

    /// Whether nothing is ever synced.
    #[doc(alias = "sqlite3BtreeSyncDisabled")]
    pub fn is_sync_disabled(&self) -> bool {
        self.store.pager.is_sync_disabled()
    }

    /// Sets or removes the handler that is asked when a lock is held by somebody else.
    pub fn set_busy_handler(&mut self, handler: Option<BusyHandler>) {
        self.store.pager.set_busy_handler(handler);
    }

    /// Whether writes refuse while a read-only cursor is open on the tree.
    pub fn cursor_locks(&self) -> bool {
        self.session.cursor_locks
    }

    /// Sets whether opening a writable cursor, inserting, deleting and clearing refuse with
    /// [`Locked`](Error::Locked) while a read-only cursor is open on the tree, and creating a tree
    /// while any cursor is open.
    pub fn set_cursor_locks(&mut self, on: bool) {
        self.session.cursor_locks = on;
    }

    /// Whether a read-only cursor of this connection other than `except` is open on the tree, and
    /// that matters.
    pub(super) fn is_blocked_by_reader(&self, root: PageNumber, except: Option<CursorId>) -> bool {
        let own = self.session.id;
        self.cursors.len() > usize::from(except.is_some())
            && self.session.cursor_locks
            && self.cursors.iter().any(|(id, cursor)| {
                cursor.root == root && !cursor.writable && Some(id) != except && cursor.owner == own
            })
    }
}

/// Looking inside.
impl Btree {
    /// The counters of the page cache.
    pub fn stats(&self) -> PagerStats {
        self.store.pager.stats()
    }

    /// Number and pin count of each pinned page, most recently created buffer first.
    pub fn pinned_pages(&self) -> Vec<(PageNumber, u32)> {
        self.store.pager.pinned_pages()
    }

    /// Number of pages, changes of the open transaction included; 0 without a transaction.
    pub fn page_count(&self) -> u32 {
        self.store.pager.page_count()
    }

    /// Runs `work` in a transaction, opened for it if there is none, and lets go of its pages.
    fn inspect<T>(&mut self, work: impl FnOnce(&mut Store) -> Result<T>) -> Result<T> {
        let implicit = self.begin_implicit_read()?;
        let mark = self.store.pager.mark();
        let result = work(&mut self.store);
        self.store.pager.release(mark);
        if implicit {
            self.end_implicit_read();
        }
        result
    }

    /// Checks every page of the database, given the roots of its trees; 0 is skipped. Returns a
    /// line for each problem, at most `limit` of them; none for a sound database. That the lock
    /// cannot be had is a line too.
    ///
    /// # Errors
    /// [`NoMemory`](Error::NoMemory).
    #[doc(alias = "sqlite3BtreeIntegrityCheck")]
    pub fn integrity_check(&mut self, roots: &[i64], limit: usize) -> Result<Vec<String>> {
        let implicit = match self.begin_implicit_read() {
            Ok(implicit) => implicit,
            Err(Error::NoMemory) => return Err(Error::NoMemory),
            Err(_) => {
                return Ok(vec!["Unable to acquire a read lock on the database".to_owned()]);
            }
        };
        let result = self.store.check(roots, limit);
        if implicit {
            self.end_implicit_read();
        }
        result
    }

    /// Appends a listing of one page to `out`, whatever kind of page it is.
    ///
    /// # Errors
    /// [`Corrupt`](Error::Corrupt) for the lock page; errors of [`Btree::begin`] and the pager.
    pub fn dump_page(&mut self, page: PageNumber, out: &mut String) -> Result<()> {
        self.inspect(|store| store.dump_page(page, out))
    }

    /// Appends a listing of a page and of all pages below it to `out`.
    ///
    /// # Errors
    /// As [`Btree::dump_page`].
    pub fn dump_tree(&mut self, root: PageNumber, out: &mut String) -> Result<()> {
        self.inspect(|store| store.dump_tree(root, out))
    }

    /// The page, decoded as a b-tree page.
    ///
    /// # Errors
    /// [`Corrupt`](Error::Corrupt) if it is none; errors of [`Btree::begin`] and the pager.
    pub fn page_details(&mut self, page: PageNumber) -> Result<PageDetails> {
        self.inspect(|store| store.page_details(page))
    }

    /// Type (1 to 5) and parent that the pointer map has for the page.
    ///
    /// # Errors
    /// [`Misuse`](Error::Misuse) without pointer maps; [`Corrupt`](Error::Corrupt).
    pub fn pointer_map_entry(&mut self, page: PageNumber) -> Result<(u8, u32)> {
        self.inspect(|store| {
            if !store.has_pointer_map() {
                return Err(Error::Misuse("the database has no pointer map"));
            }
            store.owner(page).map(|owner| owner.entry())
        })
    }

    /// The numbers of all free pages, trunks included.
    ///
    /// # Errors
    /// [`Corrupt`](Error::Corrupt); errors of [`Btree::begin`] and the pager.
    pub fn free_pages(&mut self) -> Result<Vec<PageNumber>> {
        self.inspect(
            |store| if store.page_one.is_none() { Ok(Vec::new()) } else { store.free_pages() },
        )
    }

    /// Takes the last page of a database with pointer maps out of use, so that the file gets
    /// shorter at the commit. `false`: there is nothing to do.
    ///
    /// # Errors
    /// [`State`](Error::State) without a write transaction; [`Corrupt`](Error::Corrupt) and errors
    /// of the pager.
    #[doc(alias = "sqlite3BtreeIncrVacuum")]
    pub fn incremental_vacuum(&mut self) -> Result<bool> {
        self.check_may_change()?;
        if !self.store.has_pointer_map() {
            return Ok(false);
        }
        self.save_all_cursors()?;
        self.change(|btree| btree.store.vacuum_step())
    }
}
