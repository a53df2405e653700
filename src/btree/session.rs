//! What belongs to one connection and not to the page cache, and what connections of one cache
//! have to do with each other.
//!
//! A [`Btree`] is a page cache with its trees and the [`Session`] of the connection that uses it at
//! the moment. A private one has that session for good and no [`Sharing`]; every question about
//! others is then answered by one comparison. A shared one has the sessions of the others parked in
//! `Sharing`, and `shared.rs` exchanges them under the mutex of the cache.
//!
//! Invariants:
//!
//! * B1: at most one session of a cache has a write transaction.
//! * B2: every session in a transaction has at least a read lock on table 1, so a write lock on
//!   table 1 keeps all others out of any transaction.
//! * B3: the pager is in a transaction while any session is, page 1 pinned as long.
//! * B4: every open cursor names the session that opened it, and `Session::cursors` counts them.

use crate::error::{Error, Result};
use crate::format::PageNumber;
use crate::pager::{BusyHandler, HeldPages, WatchId};

use super::table_lock::{SessionId, TableLock, TableLocks};
use super::transaction::Transaction;
use super::waiting::ClientId;
use super::{Btree, TransactionKind};

/// The state of one connection.
pub(super) struct Session {
    pub(super) id: SessionId,
    /// Whose connection it is.
    pub(super) client: ClientId,
    pub(super) transaction: Transaction,
    /// Transaction invariant T2.
    pub(super) read_ends_with_cursors: bool,
    /// Number of its open cursors (B4).
    pub(super) cursors: usize,
    /// Pages that its user holds by their numbers.
    pub(super) held: HeldPages,
    pub(super) cursor_locks: bool,
    pub(super) journal_at_begin: bool,
    pub(super) read_uncommitted: bool,
    /// Savepoints that a write transaction opens at once.
    pub(super) savepoints: usize,
    /// What savepoints need is kept in memory and not in a file.
    pub(super) undo_in_memory: bool,
    /// Its busy handler, while another session is in place; else the pager has it.
    pub(super) busy_handler: Option<BusyHandler>,
    /// What the backups that read through this connection watch; others of the cache have theirs.
    pub(super) watches: Vec<WatchId>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("transaction", &self.transaction)
            .field("cursors", &self.cursors)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A connection without a transaction.
    pub(super) fn new(cursor_locks: bool, journal_at_begin: bool) -> Session {
        Session {
            id: SessionId::default(),
            client: ClientId::default(),
            transaction: Transaction::None,
            read_ends_with_cursors: false,
            cursors: 0,
            held: HeldPages::default(),
            cursor_locks,
            journal_at_begin,
            read_uncommitted: false,
            savepoints: 0,
            undo_in_memory: false,
            busy_handler: None,
            watches: Vec::new(),
        }
    }

    /// Whether a cursor, or a page that its user holds, keeps a transaction open.
    pub(super) fn is_in_use(&self) -> bool {
        self.cursors > 0 || !self.held.is_empty()
    }
}

/// The other connections of a shared page cache.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// By the number of the session. Free numbers are empty, and so is that of the session in
    /// place.
    pub(super) parked: Vec<Option<Session>>,
    pub(super) locks: TableLocks,
    /// Whose connection was in the way when something was refused; the last one.
    pub(super) blocked_by: Option<ClientId>,
    /// A transaction of the session in place has ended, or turned into one for reading.
    pub(super) has_ended: bool,
}

impl Sharing {
    /// The sessions that are not in place.
    fn others(&self) -> impl Iterator<Item = &Session> {
        self.parked.iter().flatten()
    }

    fn other(&self, id: SessionId) -> Option<&Session> {
        self.parked.get(id.0 as usize)?.as_ref()
    }

    /// Remembers who is in the way and gives the error that says so.
    fn refuse(&mut self, by: Option<ClientId>) -> Error {
        self.blocked_by = by;
        Error::LockedSharedCache
    }
}

/// Other connections of the same page cache.
impl Btree {
    /// Whether another connection has a transaction open.
    #[inline]
    pub(super) fn is_another_in_transaction(&self) -> bool {
        let in_transaction = |other: &Session| other.transaction != Transaction::None;
        self.sharing.as_ref().is_some_and(|sharing| sharing.others().any(in_transaction))
    }

    /// Whether the others leave room for a transaction of this kind (B1, B2).
    ///
    /// # Errors
    /// [`Error::LockedSharedCache`].
    pub(super) fn check_others_allow(&mut self, kind: TransactionKind) -> Result<()> {
        let Some(sharing) = &mut self.sharing else { return Ok(()) };
        let own = self.session.id;
        let excludes = |other: &&Session| match kind {
            TransactionKind::Read => false,
            TransactionKind::Write => other.transaction == Transaction::Write,
            TransactionKind::Exclusive => other.transaction != Transaction::None,
        };
        let in_the_way = sharing.others().find(excludes).map(|other| other.client);
        if in_the_way.is_some() {
            return Err(sharing.refuse(in_the_way));
        }
        if let Some(holder) = sharing.locks.in_the_way(own, PageNumber::ONE, TableLock::Read) {
            let client = sharing.other(holder).map(|other| other.client);
            return Err(sharing.refuse(client));
        }
        Ok(())
    }

    /// Takes the lock on table 1 that comes with a transaction (B2): for writing, if it is to be
    /// exclusive. [`Btree::check_others_allow`] has seen to it that nobody is in the way.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(super) fn lock_schema(&mut self, exclusive: bool) -> Result<()> {
        let lock = if exclusive { TableLock::Write } else { TableLock::Read };
        match &mut self.sharing {
            Some(sharing) => sharing.locks.grant(self.session.id, PageNumber::ONE, lock),
            None => Ok(()),
        }
    }

    /// The transaction of this connection is over: its locks go.
    pub(super) fn release_table_locks(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.locks.release(self.session.id);
            sharing.has_ended = true;
        }
    }

    /// The write transaction of this connection goes on for reading, and so do its locks.
    pub(super) fn downgrade_table_locks(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.locks.downgrade(self.session.id);
            sharing.has_ended = true;
        }
    }

    /// Whether another connection that minds has a cursor open on the tree, or on any with `None`.
    /// One that reads what is not committed does not mind.
    ///
    /// # Errors
    /// [`Error::LockedSharedCache`].
    pub(super) fn check_no_foreign_cursor(&mut self, root: Option<PageNumber>) -> Result<()> {
        let Some(sharing) = &mut self.sharing else { return Ok(()) };
        let own = self.session.id;
        let minds = |other: &&Session| root.is_none() || !other.read_uncommitted;
        let in_the_way = self.cursors.iter().find_map(|(_, cursor)| {
            let is_there = cursor.owner != own && root.is_none_or(|root| cursor.root == root);
            let owner = if is_there { sharing.other(cursor.owner) } else { None };
            owner.filter(minds).map(|other| other.client)
        });
        match in_the_way {
            Some(client) => Err(sharing.refuse(Some(client))),
            None => Ok(()),
        }
    }
}

/// Advisory locks on trees; they decide between the connections of one shared page cache.
impl Btree {
    /// Locks the tree at page `root`, which need not exist, for reading or for writing, until the
    /// transaction ends. Without a shared page cache nothing is asked or done. A connection that
    /// reads what is not committed needs no read locks but on table 1, and gets none.
    ///
    /// # Errors
    /// [`LockedSharedCache`](Error::LockedSharedCache) if another connection holds a lock that is
    /// in the way; [`Misuse`](Error::Misuse) for page 0; [`State`](Error::State) without a
    /// transaction, and for a write lock without a write transaction;
    /// [`NoMemory`](Error::NoMemory).
    #[doc(alias = "sqlite3BtreeLockTable")]
    pub fn lock_table(&mut self, root: u32, for_writing: bool) -> Result<()> {
        let Some(sharing) = &mut self.sharing else { return Ok(()) };
        let session = &self.session;
        let root = PageNumber::new(root).ok_or(Error::Misuse("there is no page 0"))?;
        match session.transaction {
            Transaction::None => return Err(Error::State("no transaction is open")),
            Transaction::Read if for_writing => {
                return Err(Error::State("no write transaction is open"));
            }
            _ => {}
        }
        if session.read_uncommitted && !for_writing && root != PageNumber::ONE {
            return Ok(());
        }
        let lock = if for_writing { TableLock::Write } else { TableLock::Read };
        if let Some(holder) = sharing.locks.in_the_way(session.id, root, lock) {
            let client = sharing.other(holder).map(|other| other.client);
            return Err(sharing.refuse(client));
        }
        sharing.locks.grant(session.id, root, lock)
    }

    /// Whether another connection of the page cache holds a write lock on table 1, where the
    /// schema is.
    #[doc(alias = "sqlite3BtreeSchemaLocked")]
    pub fn is_schema_locked(&mut self) -> bool {
        self.check_others_allow(TransactionKind::Read).is_err()
    }

    /// Whether this connection reads what others have not committed.
    pub fn reads_uncommitted(&self) -> bool {
        self.session.read_uncommitted
    }

    /// Sets whether this connection reads what others have not committed: it then needs no read
    /// locks but on table 1, and its cursors keep nobody from writing.
    pub fn set_reads_uncommitted(&mut self, on: bool) {
        self.session.read_uncommitted = on;
    }

    /// Sets whether write transactions of this connection that begin from now on keep what their
    /// savepoints need in memory, and not in a temporary file.
    #[doc(alias = "sqlite3PagerSetTempStore")]
    pub fn set_undo_in_memory(&mut self, on: bool) {
        self.session.undo_in_memory = on;
    }

    /// Sets how many savepoints a write transaction of this connection opens at once.
    pub fn set_initial_savepoints(&mut self, count: usize) {
        self.session.savepoints = count;
    }
}
