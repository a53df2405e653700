//! Begin, commit, rollback, savepoints and statements.
//!
//! ```text
//!             begin Read, or first cursor                begin Write, Exclusive
//!   None ─────────────────────────────▶ Read ─────────────────────────────▶ Write
//!    ▲                                  │  ▲                                  │
//!    │    commit, rollback without      │  │   commit, rollback with cursors  │
//!    ├──── cursors or held pages ───────┘  └───────── or held pages ──────────┤
//!    └──────────── commit, rollback without cursors or held pages ────────────┘
//! ```
//!
//! Invariants:
//!
//! * T1: page 1 is pinned in `Store::page_one` exactly while a transaction is open, be it another
//!   connection's of a shared page cache, on a database that has pages.
//! * T2: a read transaction that nobody asked for by name (`read_ends_with_cursors`) ends when the
//!   last cursor is closed and the last page that a caller held is let go.
//! * T3: once a change has failed half-way, every further change and the commit repeat its error
//!   until what it did is rolled back (`failed`).
//! * T4: a root that became that of another tree in this transaction is in `new_roots`. Rolling
//!   that back takes the tree from its cursors, whatever the page looks like then.

use std::path::Path;

use crate::error::{Error, ReadOnlyReason, Result};
use crate::format::{AutoVacuum, FileHeader, PageNumber, PageSize};
use crate::pager::Pager;

use super::node::{NodeInfo, NodeKind};
use super::store::PageFormat;
use super::{Btree, TransactionKind};

/// The transaction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transaction {
    /// None.
    None,
    /// For reading.
    Read,
    /// For writing.
    Write,
}

/// A change that failed half-way (T3).
#[derive(Debug, Clone, Copy)]
pub(super) struct FailedChange {
    /// Its error.
    error: Error,
    /// Savepoints that were open: rolling one of them back undoes the change.
    savepoints: usize,
}

/// A page that became the root of a tree in this transaction (T4).
#[derive(Debug, Clone, Copy)]
pub(super) struct NewRoot {
    root: PageNumber,
    /// Savepoints that were open: rolling one of them back undoes it.
    savepoints: usize,
}

impl Btree {
    /// Opens a transaction, or raises the read transaction that is open. Nothing happens if it is
    /// open already; an open write transaction is not made exclusive.
    ///
    /// # Errors
    /// [`Busy`](Error::Busy) if another connection stands in the way and the busy handler gives
    /// up; it is asked only if no transaction was open. [`ReadOnly`](Error::ReadOnly),
    /// [`NotADatabase`](Error::NotADatabase), [`Corrupt`](Error::Corrupt),
    /// [`CannotOpen`](Error::CannotOpen), [`Io`](Error::Io): the transaction is as it was.
    /// [`LockedSharedCache`](Error::LockedSharedCache), without asking the busy handler, if another
    /// connection of a shared page cache is in the way: the one that writes, one that holds a write
    /// lock on table 1, or, for an exclusive transaction, any that is in a transaction.
    #[doc(alias = "sqlite3BtreeBeginTrans")]
    pub fn begin(&mut self, kind: TransactionKind) -> Result<()> {
        if !self.has_transaction_for(kind) {
            self.check_others_allow(kind)?;
        }
        let mark = self.store.pager.mark();
        let result = self.begin_with_retries(kind);
        self.store.pager.release(mark);
        if result.is_ok() && kind == TransactionKind::Read {
            self.session.read_ends_with_cursors = false;
        }
        result
    }

    /// Whether the open transaction will do for what `kind` asks.
    fn has_transaction_for(&self, kind: TransactionKind) -> bool {
        match self.session.transaction {
            Transaction::None => false,
            Transaction::Read => kind == TransactionKind::Read,
            Transaction::Write => true,
        }
    }

    fn begin_with_retries(&mut self, kind: TransactionKind) -> Result<()> {
        let had_none = self.session.transaction == Transaction::None;
        // Waiting while holding a lock, this connection's or another's, could be for ever.
        let may_ask = had_none && !self.is_another_in_transaction();
        let mut tries = 0;
        loop {
            match self.begin_once(kind) {
                Err(Error::Busy | Error::BusyRecovery) if may_ask => {
                    self.end_transaction();
                    if !self.store.pager.ask_busy_handler(tries) {
                        return Err(Error::Busy);
                    }
                    tries += 1;
                }
                Err(error) => {
                    if had_none {
                        self.end_transaction();
                    }
                    return Err(error);
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    fn begin_once(&mut self, kind: TransactionKind) -> Result<()> {
        if self.session.transaction == Transaction::None {
            self.lock_schema(false)?;
            if !self.is_another_in_transaction() {
                self.lock_for_reading()?;
            }
            self.session.transaction = Transaction::Read;
        }
        if self.has_transaction_for(kind) {
            return Ok(());
        }
        if self.is_read_only() {
            return Err(Error::ReadOnly(ReadOnlyReason::File));
        }
        let exclusive = kind == TransactionKind::Exclusive;
        self.store.pager.begin_write(exclusive, self.session.journal_at_begin)?;
        self.store.pager.set_undo_in_memory(self.session.undo_in_memory);
        self.session.transaction = Transaction::Write;
        self.failed = None;
        let created = self
            .lock_schema(exclusive)
            .and_then(|()| self.create_database_if_empty())
            .and_then(|()| self.store_vacuum_choice())
            .and_then(|()| self.open_initial_savepoints());
        if created.is_err() {
            // The failure of the start is what counts; a failed rollback shows at the next one.
            let _ = self.rollback();
        }
        created
    }

    /// Takes the shared lock and learns from the header what the database is. The order of checks
    /// decides which error a damaged file gets.
    fn lock_for_reading(&mut self) -> Result<()> {
        // A page size other than assumed means one more round with the right one; a file that
        // changes its mind more often than that is not a database.
        for _ in 0..3 {
            self.store.pager.begin_read()?;
            match self.read_header() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    self.store.pager.end_read();
                    return Err(error);
                }
            }
        }
        Err(Error::NotADatabase("page size keeps changing"))
    }

    /// Reads and checks the file header; `false` if the page size had to be changed.
    fn read_header(&mut self) -> Result<bool> {
        let pages = self.store.pager.page_count();
        if pages == 0 {
            return Ok(true);
        }
        let mark = self.store.pager.mark();
        let page = self.store.pager.fetch(PageNumber::ONE)?;
        let header = FileHeader::decode(self.store.pager.bytes(page));
        self.store.pager.release(mark);
        let header = header?;
        if header.write_ahead_log {
            return Err(Error::CannotOpen("write-ahead-log mode is not supported"));
        }
        if (header.page_size, header.reserved)
            != (self.store.format.page_size, self.store.format.reserved())
        {
            let format = PageFormat::new(header.page_size, header.reserved, self.lock_offset)?;
            if header.page_size != self.store.format.page_size {
                self.store.pager.end_read();
                self.store.pager.set_page_size(header.page_size)?;
                self.store.format = format;
                return Ok(false);
            }
            self.store.format = format;
        }
        let pages = match header.page_count {
            Some(count) if count > pages => {
                return Err(Error::corrupt("header claims more pages than the file has"));
            }
            Some(count) => count,
            None => pages,
        };
        if header.read_only {
            self.store.pager.set_read_only();
        }
        self.store.pager.trust_page_count(pages);
        self.store.auto_vacuum = match (header.auto_vacuum, self.vacuum_choice) {
            (AutoVacuum::None, _) | (_, None) => header.auto_vacuum,
            (_, Some(choice)) => choice,
        };
        self.page_size_fixed = true;
        self.hold_page_one()?;
        Ok(true)
    }

    /// Pins page 1 for the transaction (T1).
    fn hold_page_one(&mut self) -> Result<()> {
        if self.store.page_one.is_none() {
            let mark = self.store.pager.mark();
            let fetched = self.store.fetch_node(PageNumber::ONE);
            if let Ok(page) = fetched {
                self.store.pager.pin(page);
                self.store.page_one = Some(page);
            }
            self.store.pager.release(mark);
            fetched?;
        }
        Ok(())
    }

    fn let_page_one_go(&mut self) {
        self.store.change_shape();
        if let Some(page) = self.store.page_one.take() {
            self.store.pager.unpin(page);
        }
    }

    /// Lays out page 1 of a database that has no pages.
    fn create_database_if_empty(&mut self) -> Result<()> {
        if self.store.pager.page_count() > 0 {
            return Ok(());
        }
        let store = &mut self.store;
        store.pager.grow(1)?;
        let page = store.pager.fetch_blank(PageNumber::ONE)?;
        let page = store.pager.make_writable(page)?;
        let (size, reserved) = (store.format.page_size, store.format.reserved());
        let bytes = store.pager.bytes_mut(page);
        bytes.fill(0);
        FileHeader::create(bytes, size, reserved, store.auto_vacuum)?;
        store.node_mut(page).initialize(PageNumber::ONE, NodeKind::TABLE_LEAF);
        self.page_size_fixed = true;
        self.hold_page_one()
    }

    /// Stores the choice between full and incremental vacuum that is not committed yet: it was made
    /// outside of a write transaction, or what had stored it was undone.
    fn store_vacuum_choice(&mut self) -> Result<()> {
        let Some(choice) = self.vacuum_choice else { return Ok(()) };
        if self.store.header_word(FileHeader::LARGEST_ROOT)? != 0 {
            self.set_meta(7, u32::from(choice == AutoVacuum::Incremental))?;
            self.vacuum_choice = Some(choice);
        }
        Ok(())
    }

    fn open_initial_savepoints(&mut self) -> Result<()> {
        match self.session.savepoints {
            0 => Ok(()),
            count => self.open_savepoints(count),
        }
    }

    /// Ends the transaction of this connection, which must not be a write one any more; that of
    /// the pager ends with the last (B3).
    fn end_transaction(&mut self) {
        self.session.transaction = Transaction::None;
        self.session.read_ends_with_cursors = false;
        self.release_table_locks();
        if !self.is_another_in_transaction() {
            self.let_page_one_go();
            self.store.pager.end_read();
        }
    }

    /// Opens a read transaction if none is open; tells whether it did.
    pub(super) fn begin_implicit_read(&mut self) -> Result<bool> {
        if self.session.transaction != Transaction::None {
            return Ok(false);
        }
        self.begin(TransactionKind::Read)?;
        self.session.read_ends_with_cursors = true;
        Ok(true)
    }

    /// Ends the transaction that [`Btree::begin_implicit_read`] opened.
    pub(super) fn end_implicit_read(&mut self) {
        self.end_transaction();
    }

    /// Ends a read transaction that nobody asked for by name (T2).
    pub(super) fn end_read_after_last_use(&mut self) {
        if !self.session.is_in_use()
            && self.session.transaction == Transaction::Read
            && self.session.read_ends_with_cursors
        {
            self.end_transaction();
        }
    }

    /// Makes the changes durable and ends the transaction. With cursors open it becomes a read
    /// transaction, which ends with the last of them. Nothing happens without a transaction.
    ///
    /// # Errors
    /// [`Busy`](Error::Busy): the transaction stays open and can be committed again. Any other
    /// error: it must be rolled back.
    #[doc(alias = "sqlite3BtreeCommit")]
    pub fn commit(&mut self) -> Result<()> {
        self.commit_phase_one(None)?;
        self.commit_phase_two()
    }

    /// First half of a commit: everything is on the disk, and still undone by the next one who
    /// opens the database. `super_journal` names the file that several databases commit with.
    ///
    /// # Errors
    /// As [`Btree::commit`].
    #[doc(alias = "sqlite3BtreeCommitPhaseOne")]
    pub fn commit_phase_one(&mut self, super_journal: Option<&Path>) -> Result<()> {
        self.prepare_commit(|pager| pager.commit_phase_one(super_journal))
    }

    /// The first half of a commit, whose part below the trees is `commit`.
    pub(super) fn prepare_commit(
        &mut self,
        commit: impl FnOnce(&mut Pager<NodeInfo>) -> Result<()>,
    ) -> Result<()> {
        if self.session.transaction != Transaction::Write {
            return Ok(());
        }
        self.check_not_failed()?;
        let mark = self.store.pager.mark();
        let mut result = Ok(());
        if self.store.auto_vacuum == AutoVacuum::Full {
            result = self.save_all_cursors().and_then(|()| self.store.vacuum_for_commit());
        }
        let result = result.and_then(|()| commit(&mut self.store.pager));
        self.store.pager.release(mark);
        if result == Err(Error::Busy) {
            return result;
        }
        self.note_failure(result)
    }

    /// Second half of a commit: the journal goes, which is the moment of commit.
    ///
    /// # Errors
    /// [`Io`](Error::Io): the transaction must be rolled back.
    #[doc(alias = "sqlite3BtreeCommitPhaseTwo")]
    pub fn commit_phase_two(&mut self) -> Result<()> {
        if self.session.transaction == Transaction::Write {
            let ends_reading = !self.session.is_in_use() && !self.is_another_in_transaction();
            let pager = &mut self.store.pager;
            let result = if ends_reading {
                pager.commit_phase_two_for_good()
            } else {
                pager.commit_phase_two()
            };
            self.note_failure(result)?;
            self.vacuum_choice = None;
            self.forget_changes();
        }
        self.finish_transaction();
        Ok(())
    }

    /// The changes of the write transaction are committed or undone.
    fn forget_changes(&mut self) {
        self.failed = None;
        self.new_roots.clear();
    }

    /// The transaction is over: it becomes a read transaction if cursors are open, else none.
    fn finish_transaction(&mut self) {
        if self.session.transaction == Transaction::None {
            return;
        }
        self.session.transaction = Transaction::Read;
        if self.session.is_in_use() {
            self.session.read_ends_with_cursors = true;
            self.downgrade_table_locks();
        } else {
            self.end_transaction();
        }
    }

    /// Undoes the changes and ends the transaction as [`Btree::commit`] does. Cursors opened for
    /// writing become unusable, the others find their entry again.
    ///
    /// # Errors
    /// [`Io`](Error::Io): the journal stays for the next one who opens the database;
    /// [`Abort`](Error::Abort): there was no journal. The transaction is over in every case but
    /// one: [`Misuse`](Error::Misuse) in a process that was forked since, whose parent's it is.
    #[doc(alias = "sqlite3BtreeRollback")]
    pub fn rollback(&mut self) -> Result<()> {
        if self.session.transaction != Transaction::Write {
            self.finish_transaction();
            return Ok(());
        }
        let own = self.session.id;
        let fault = Error::Abort("the transaction of the cursor was rolled back");
        for (_, cursor) in self.cursors.iter_mut() {
            if cursor.writable && cursor.owner == own {
                cursor.fail(&mut self.store, fault);
            }
        }
        self.fail_cursors_of_new_roots(None);
        self.let_cursors_go();
        self.let_page_one_go();
        let result = self.store.pager.rollback();
        self.forget_changes();
        self.session.transaction = Transaction::Read;
        let resumed = self.resume_after_rollback();
        self.finish_transaction();
        result.and(resumed)
    }

    /// Makes room for noting one more root, so that [`Btree::note_new_root`] cannot fail.
    ///
    /// # Errors
    /// [`NoMemory`](Error::NoMemory).
    pub(super) fn reserve_new_root(&mut self) -> Result<()> {
        crate::memory::reserve(&mut self.new_roots, 1)
    }

    /// Notes that `root` is the root of another tree than before (T4).
    pub(super) fn note_new_root(&mut self, root: PageNumber) {
        let savepoints = self.store.pager.savepoint_count();
        self.new_roots.push(NewRoot { root, savepoints });
    }

    /// Makes the cursors unusable whose tree goes with the rollback of savepoint `index`, or of
    /// all (T4).
    fn fail_cursors_of_new_roots(&mut self, index: Option<usize>) {
        let fault = Error::Abort("the tree of the cursor was rolled back");
        let undone = |new: &NewRoot| index.is_none_or(|index| index < new.savepoints);
        for (_, cursor) in self.cursors.iter_mut() {
            let is_gone = |new: &NewRoot| new.root == cursor.root && undone(new);
            if self.new_roots.iter().any(is_gone) {
                cursor.fail(&mut self.store, fault);
            }
        }
        self.new_roots.retain(|new| !undone(new));
    }

    /// Saves every cursor and lets go of its pages: nothing may be held over a rollback. It cannot
    /// be called off either, so a cursor that cannot be saved becomes unusable.
    pub(super) fn let_cursors_go(&mut self) {
        for (_, cursor) in self.cursors.iter_mut() {
            match cursor.save(&mut self.store) {
                Ok(()) => cursor.let_go(&mut self.store),
                Err(error) => cursor.fail(&mut self.store, error),
            }
        }
    }

    /// Learns from the restored header again, and gives the cursors their roots back.
    fn resume_after_rollback(&mut self) -> Result<()> {
        let mut result = Ok(());
        if self.store.pager.page_count() == 0 {
            self.page_size_fixed = self.page_size_fixed_by_caller;
        } else {
            result = self.learn_format().and_then(|()| self.hold_page_one());
            result = result.and_then(|()| self.refresh_auto_vacuum());
            if let Some(choice) = self.vacuum_choice
                && self.store.has_pointer_map()
            {
                self.store.auto_vacuum = choice;
            }
        }
        let mark = self.store.pager.mark();
        for (_, cursor) in self.cursors.iter_mut() {
            cursor.take_up(&mut self.store);
        }
        self.store.pager.release(mark);
        result
    }

    /// Auto-vacuum as the header has it now.
    pub(super) fn refresh_auto_vacuum(&mut self) -> Result<()> {
        let largest_root = self.store.header_word(FileHeader::LARGEST_ROOT)?;
        let incremental = self.store.header_word(FileHeader::INCREMENTAL_VACUUM)?;
        self.store.auto_vacuum = match (largest_root, incremental) {
            (0, _) => AutoVacuum::None,
            (_, 0) => AutoVacuum::Full,
            _ => AutoVacuum::Incremental,
        };
        Ok(())
    }

    /// Whether a transaction of either kind is open.
    pub fn is_reading(&self) -> bool {
        self.session.transaction >= Transaction::Read
    }

    /// Whether a write transaction is open.
    pub fn is_writing(&self) -> bool {
        self.session.transaction == Transaction::Write
    }

    /// What every change needs: a write transaction in which none has failed half-way (T3), and
    /// whose commit is not half done.
    ///
    /// # Errors
    /// [`ReadOnly`](Error::ReadOnly), [`State`](Error::State), or the error of the failed change.
    pub(super) fn check_may_change(&self) -> Result<()> {
        self.check_writing()?;
        self.check_not_failed()
    }

    /// # Errors
    /// [`ReadOnly`](Error::ReadOnly) or [`State`](Error::State) without a write transaction;
    /// [`State`](Error::State) between the two halves of a commit.
    fn check_writing(&self) -> Result<()> {
        if self.session.transaction != Transaction::Write {
            return Err(if self.is_read_only() {
                Error::ReadOnly(ReadOnlyReason::File)
            } else {
                Error::State("no write transaction is open")
            });
        }
        if self.store.pager.is_half_committed() {
            return Err(Error::State("the transaction is being committed"));
        }
        Ok(())
    }

    /// # Errors
    /// The error of a change that failed half-way (T3).
    pub(super) fn check_not_failed(&self) -> Result<()> {
        self.failed.map_or(Ok(()), |failed| Err(failed.error))
    }

    /// Remembers that a change failed half-way (T3).
    pub(super) fn note_failure<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = result
            && self.failed.is_none()
        {
            let savepoints = self.store.pager.savepoint_count();
            self.failed = Some(FailedChange { error, savepoints });
        }
        result
    }

    /// Runs a change: nothing of it is left pinned, and a failure is remembered (T3).
    pub(super) fn change<T>(&mut self, work: impl FnOnce(&mut Btree) -> Result<T>) -> Result<T> {
        let mark = self.store.pager.mark();
        let result = work(self);
        self.store.pager.release(mark);
        self.note_failure(result)
    }

    /// Opens savepoints until there are `count`.
    ///
    /// # Errors
    /// [`State`](Error::State) without a write transaction, or if there are that many already;
    /// [`ReadOnly`](Error::ReadOnly), [`NoMemory`](Error::NoMemory).
    #[doc(alias = "sqlite3BtreeBeginStmt")]
    pub fn open_savepoints(&mut self, count: usize) -> Result<()> {
        self.open_savepoints_with(count, false)
    }

    fn open_savepoints_with(&mut self, count: usize, open_file: bool) -> Result<()> {
        self.check_writing()?;
        if count <= self.store.pager.savepoint_count() {
            return Err(Error::State("that many savepoints are open already"));
        }
        self.store.pager.open_savepoints(count, open_file)
    }

    /// Drops savepoint `index` and all later ones, keeping their changes. Nothing happens if it
    /// is not open.
    ///
    /// # Errors
    /// None at present.
    pub fn release_savepoint(&mut self, index: usize) -> Result<()> {
        if self.is_writing() && index < self.store.pager.savepoint_count() {
            self.store.pager.release_savepoint(index);
            if let Some(failed) = &mut self.failed {
                failed.savepoints = failed.savepoints.min(index);
            }
            for new in &mut self.new_roots {
                new.savepoints = new.savepoints.min(index);
            }
        }
        Ok(())
    }

    /// Undoes everything since savepoint `index` was opened, and drops later ones. `None` undoes
    /// everything since the transaction began. Nothing happens if it is not open.
    ///
    /// # Errors
    /// Those of [`Btree::rollback`], after which the transaction must be rolled back.
    pub fn rollback_savepoint(&mut self, index: Option<usize>) -> Result<()> {
        let open = self.store.pager.savepoint_count();
        if !self.is_writing() || index.is_some_and(|index| index >= open) {
            return Ok(());
        }
        self.fail_cursors_of_new_roots(index);
        self.let_cursors_go();
        self.let_page_one_go();
        let result = self.store.pager.rollback_savepoint(index);
        let mark = self.store.pager.mark();
        // A database that was new when the transaction began has lost its page 1 again.
        let result = result.and_then(|()| self.create_database_if_empty());
        self.store.pager.release(mark);
        let resumed = self.resume_after_rollback();
        let result = result.and(resumed);
        let undone = |failed: &FailedChange| index.is_none_or(|index| index < failed.savepoints);
        if result.is_ok() && self.failed.as_ref().is_some_and(undone) {
            self.failed = None;
        }
        // The choice is one of the connection, not of the savepoint. While a failure is left that
        // this has not undone, nothing can be stored; the rollback that undoes it will.
        let result = match self.failed {
            None => result.and_then(|()| self.store_vacuum_choice()),
            Some(_) => result,
        };
        self.note_failure(result)
    }

    /// Opens the one statement of the historic commands: savepoint 0, with its undo file.
    ///
    /// # Errors
    /// As [`Btree::open_savepoints`].
    pub fn begin_statement(&mut self) -> Result<()> {
        self.check_writing()?;
        if self.store.pager.savepoint_count() > 0 {
            return Err(Error::State("a statement is open already"));
        }
        self.open_savepoints_with(1, true)
    }

    /// Ends the statement, keeping its changes.
    ///
    /// # Errors
    /// As [`Btree::release_savepoint`].
    pub fn commit_statement(&mut self) -> Result<()> {
        self.release_savepoint(0)
    }

    /// Ends the statement and undoes its changes.
    ///
    /// # Errors
    /// As [`Btree::rollback_savepoint`].
    pub fn rollback_statement(&mut self) -> Result<()> {
        self.rollback_savepoint(Some(0))?;
        self.release_savepoint(0)
    }

    /// Saves the position of every cursor (cursor invariant C3).
    ///
    /// # Errors
    /// Those of [`Cursor::save`](super::cursor::Cursor::save): the change must not be made.
    pub(super) fn save_all_cursors(&mut self) -> Result<()> {
        self.cursors.iter_mut().try_for_each(|(_, cursor)| cursor.save(&mut self.store))
    }

    /// The page size that a database without pages would get is changed.
    pub(super) fn adopt_page_size(&mut self, size: PageSize, reserved: u8) -> Result<()> {
        let format = PageFormat::new(size, reserved, self.lock_offset)
            .map_err(|_| Error::Misuse("fewer than 480 usable bytes"))?;
        if size != self.store.format.page_size {
            self.store.pager.set_page_size(size)?;
        }
        self.store.format = format;
        Ok(())
    }
}
