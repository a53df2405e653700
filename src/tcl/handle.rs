//! Handles: what a script holds in place of a database or a cursor.
//!
//! A handle is a word, `btree7` or `btcur12`, from a counter that never repeats in the process
//! (C1, D133). It is looked up in the [`Session`] of its interpreter and never dereferenced, so a
//! word that is closed, foreign or invented finds nothing (C2, D127).
//!
//! Invariants:
//!
//! H1. A cursor is in the table only while its database is: closing a database takes its cursors
//!     out first.
//! H2. An object is used through [`Use`], one at a time. If a panic ends the use, the object
//!     may be half-changed and is broken for good: every later call on it fails, closing works.
//! H3. No script can run while an object is in use.

mod backups;
mod clients;
mod cursors;
mod pagers;

pub(super) use backups::OpenBackup;
pub(super) use clients::Client;
pub(super) use pagers::{AnyPager, OpenPager, Page};

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cursors::Cursors;

use super::commands::OsFile;
use super::interp::Bell;
use super::mailbox::Mailbox;
use super::result_code::Failure;
use crate::btree::{Btree, CursorId, Entered, SharedConnection};
use crate::error::Error;
use crate::os::Vfs;
use crate::os::write_behind::Durability;

const DATABASE_PREFIX: &[u8] = b"btree";
const CURSOR_PREFIX: &[u8] = b"btcur";
const FILE_PREFIX: &[u8] = b"osfile";

/// How long the end of the process waits for each page cache that another thread uses.
const PATIENCE_AT_EXIT: Duration = Duration::from_secs(2);

/// The number of the next handle of the process.
static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The sessions of this thread's interpreters, to be closed when the process ends.
    static SESSIONS: RefCell<Vec<Weak<Session>>> = const { RefCell::new(Vec::new()) };
}

/// What one interpreter has open.
#[derive(Debug)]
pub(super) struct Session {
    databases: RefCell<Table<Database>>,
    cursors: RefCell<Cursors>,
    files: RefCell<Table<OsFile>>,
    pagers: RefCell<Table<OpenPager>>,
    pages: RefCell<Table<Page>>,
    /// By pager and page number (H4).
    page_numbers: RefCell<HashMap<(u64, u32), u64>>,
    backups: RefCell<Table<OpenBackup>>,
    /// Clients by the name given by `-db`, as long as they have a database open (D132).
    clients: RefCell<HashMap<String, Rc<Client>>>,
    /// Which database's busy handler the engine has asked for.
    asked: clients::Asked,
    /// Lists of databases by the number of their page cache and their own.
    mutex_arrays: RefCell<HashMap<String, Vec<(u64, u64)>>>,
    /// Scripts that are due.
    mailbox: Arc<Mailbox>,
    /// The file system behind `-vfs memory`.
    memory: Arc<dyn Vfs>,
}

/// A database that a script has open.
#[derive(Debug)]
pub(super) struct Database {
    number: u64,
    /// The number in the handle of its pager: that of the first database on its page cache.
    pager: u64,
    connection: Connection,
    /// Who opened it.
    pub(super) client: Rc<Client>,
    /// What a commit waits for.
    pub(super) durability: Cell<Durability>,
    /// Whether it was opened through the write-behind layer.
    pub(super) is_queued: bool,
}

/// How a database is connected to its pages.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "always behind a pointer, and private as a rule")]
enum Connection {
    /// It has a page cache to itself.
    Private(Guarded<Btree>),
    /// It shares one; closed when it is dropped.
    Shared(SharedConnection),
}

/// A database in use.
#[derive(Debug)]
pub(super) enum InUse<'a> {
    /// With a page cache to itself.
    Private(Use<'a, Btree>),
    /// Inside of a page cache that others share. On the heap, so that what the usual case moves
    /// about is small.
    Shared(Box<Entered<'a>>),
}

/// An object that is used by one call at a time; see invariant H2.
#[derive(Debug)]
struct Guarded<T> {
    slot: RefCell<Option<T>>,
    broken: Cell<bool>,
}

/// A cursor that a script has open.
#[derive(Debug)]
pub(super) struct Cursor {
    number: u64,
    /// The database it is on.
    pub(super) database: Rc<Database>,
    /// What the database calls it.
    pub(super) id: CursorId,
}

/// An object in use; see invariant H2.
#[derive(Debug)]
pub(super) struct Use<'a, T> {
    object: RefMut<'a, T>,
    broken: &'a Cell<bool>,
}

impl Session {
    /// An empty session, closed at the latest when the process ends. `memory` is the file system
    /// behind `-vfs memory`; `bell` makes the interpreter look into its mailbox.
    pub(super) fn new(memory: Arc<dyn Vfs>, bell: Bell) -> Rc<Session> {
        let session = Rc::new(Session {
            databases: RefCell::default(),
            cursors: RefCell::default(),
            files: RefCell::default(),
            pagers: RefCell::default(),
            pages: RefCell::default(),
            page_numbers: RefCell::default(),
            backups: RefCell::default(),
            clients: RefCell::default(),
            asked: clients::Asked::default(),
            mutex_arrays: RefCell::default(),
            mailbox: Arc::new(Mailbox::new(bell)),
            memory,
        });
        SESSIONS.with_borrow_mut(|sessions| {
            sessions.retain(|known| known.strong_count() > 0);
            sessions.push(Rc::downgrade(&session));
        });
        session
    }

    /// Closes what the interpreters of the calling thread have open. Does nothing when the thread
    /// is too far in its end to know.
    pub(super) fn close_all_of_thread() {
        let sessions = SESSIONS.try_with(|sessions| sessions.take()).unwrap_or_default();
        for session in sessions.iter().filter_map(Weak::upgrade) {
            session.forget_what_others_hold();
            session.close_all();
        }
    }

    /// The file system behind `-vfs memory`.
    pub(super) fn memory(&self) -> Arc<dyn Vfs> {
        Arc::clone(&self.memory)
    }

    /// Scripts that are due.
    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// A word that stands for something of the engine and is never used again.
    pub(super) fn new_token(&self, prefix: &str) -> String {
        format!("{prefix}{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes a new database with a page cache of its own in, and returns its handle. `is_queued`:
    /// it was opened through the write-behind layer.
    pub(super) fn add_database(&self, btree: Btree, client: Rc<Client>, is_queued: bool) -> String {
        self.add_connection(Connection::Private(Guarded::new(btree)), client, is_queued)
    }

    /// The same for one that may share its page cache.
    pub(super) fn add_shared_database(
        &self,
        connection: SharedConnection,
        client: Rc<Client>,
        is_queued: bool,
    ) -> String {
        self.add_connection(Connection::Shared(connection), client, is_queued)
    }

    fn add_connection(
        &self,
        connection: Connection,
        client: Rc<Client>,
        is_queued: bool,
    ) -> String {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pager = self.pager_of_cache(&connection).unwrap_or(number);
        let durability = Cell::default();
        let database = Database { number, pager, connection, client, durability, is_queued };
        let database = Rc::new(database);
        self.databases.borrow_mut().insert(number, Rc::clone(&database));
        self.join_client(&database);
        database.handle()
    }

    /// The database with this handle.
    ///
    /// # Errors
    /// `no such btree: "X"`.
    pub(super) fn database(&self, handle: &[u8]) -> Result<Rc<Database>, Failure> {
        let databases = self.databases.borrow();
        let found = number_of(handle, DATABASE_PREFIX).and_then(|number| databases.get(&number));
        found.cloned().ok_or_else(|| no_such("btree", handle))
    }

    /// Closes a database and its cursors.
    pub(super) fn close_database(&self, database: Rc<Database>) {
        let number = database.number;
        self.finish_backups_of(&database);
        self.cursors.borrow_mut().retain(|cursor| cursor.database.number != number);
        self.forget_pages(number);
        self.databases.borrow_mut().remove(&number);
        self.leave_client(&database);
        self.leave_mutex_arrays(&database);
        database.close();
    }

    /// Has the page caches give up to `wanted` bytes back; returns how many they gave.
    pub(super) fn release_memory(&self, wanted: u64) -> u64 {
        let mut freed = 0;
        for database in self.databases.borrow().values() {
            if let Ok(mut database) = database.enter() {
                freed += database.release_memory(wanted.saturating_sub(freed));
            }
        }
        freed
    }

    /// Takes a new cursor in and returns its handle.
    pub(super) fn add_cursor(&self, database: Rc<Database>, id: CursorId) -> String {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.cursors.borrow_mut().insert(number, Rc::new(Cursor { number, database, id }));
        cursor_handle(number)
    }

    /// The cursor with this handle.
    ///
    /// # Errors
    /// `no such cursor: "X"`.
    #[inline]
    pub(super) fn cursor(&self, handle: &[u8]) -> Result<Rc<Cursor>, Failure> {
        if let Some(cursor) = self.cursors.borrow().recent(handle) {
            return Ok(Rc::clone(cursor));
        }
        let found = self.cursors.borrow_mut().find(handle);
        found.ok_or_else(|| no_such("cursor", handle))
    }

    /// Takes a cursor out; its handle is dead from here on.
    pub(super) fn remove_cursor(&self, cursor: &Cursor) {
        self.cursors.borrow_mut().remove(cursor.number);
    }

    /// The handle of the cursor that `database` calls `id`.
    pub(super) fn cursor_handle(&self, database: &Database, id: CursorId) -> Option<String> {
        let cursors = self.cursors.borrow();
        let mut known = cursors.iter();
        let found =
            known.find(|cursor| cursor.id == id && cursor.database.number == database.number);
        found.map(|cursor| cursor_handle(cursor.number))
    }

    /// Takes an open file in and returns its handle.
    pub(super) fn add_file(&self, file: OsFile) -> String {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.files.borrow_mut().insert(number, Rc::new(file));
        format!("osfile{number}")
    }

    /// The file with this handle.
    ///
    /// # Errors
    /// `no such file: "X"`.
    pub(super) fn file(&self, handle: &[u8]) -> Result<Rc<OsFile>, Failure> {
        let files = self.files.borrow();
        let found = number_of(handle, FILE_PREFIX).and_then(|number| files.get(&number));
        found.cloned().ok_or_else(|| no_such("file", handle))
    }

    /// The handle of the file of a pager, made when it is first asked for.
    pub(super) fn file_of_pager(&self, pager: &AnyPager) -> String {
        let known = |files: &Table<OsFile>| {
            let mut files = files.iter();
            files.find(|(_, file)| file.pager() == Some(pager.number())).map(|(&number, _)| number)
        };
        let number = known(&self.files.borrow());
        match number {
            Some(number) => format!("osfile{number}"),
            None => self.add_file(OsFile::of_pager(pager.clone())),
        }
    }

    /// Takes the file out, which is closed when the result is dropped; the handle is dead.
    ///
    /// # Errors
    /// As [`Session::file`].
    pub(super) fn remove_file(&self, handle: &[u8]) -> Result<Rc<OsFile>, Failure> {
        let number = number_of(handle, FILE_PREFIX);
        let found = number.and_then(|number| self.files.borrow_mut().remove(&number));
        found.ok_or_else(|| no_such("file", handle))
    }

    /// At the end of the process: a page cache that another thread does not give back is left as it
    /// is. That thread ends with the process, and what it has not committed is rolled back by the
    /// next one who opens the file.
    fn forget_what_others_hold(&self) {
        for database in self.databases.borrow().values() {
            if database.shared().is_some_and(|shared| !shared.hold_within(PATIENCE_AT_EXIT)) {
                std::mem::forget(Rc::clone(database));
                // To end them, their databases would have to be entered.
                std::mem::forget(self.backups.take());
            }
        }
    }

    /// Closes everything; open transactions are rolled back (C3).
    pub(super) fn close_all(&self) {
        self.mailbox.close();
        self.finish_all_backups();
        self.forget_all_pages();
        self.cursors.borrow_mut().retain(|_| false);
        self.clients.borrow_mut().clear();
        self.mutex_arrays.borrow_mut().clear();
        // In the order of opening, which is that of the handles.
        let databases = self.databases.take();
        let mut databases: Vec<_> = databases.into_values().collect();
        databases.sort_by_key(|database| database.number);
        for database in databases {
            database.close();
        }
        let files = self.files.take();
        for file in files.into_values() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(file)));
        }
        self.close_all_pagers();
    }
}

impl Database {
    /// Takes the database into use.
    ///
    /// # Errors
    /// As [`Guarded::enter`].
    #[inline]
    pub(super) fn enter(&self) -> Result<InUse<'_>, Error> {
        match &self.connection {
            Connection::Private(btree) => btree.enter().map(InUse::Private),
            Connection::Shared(connection) => {
                connection.enter().map(|entered| InUse::Shared(Box::new(entered)))
            }
        }
    }

    /// Takes two databases into use, their page caches in the order in which everybody takes them.
    ///
    /// # Errors
    /// As [`Database::enter`]; [`Error::Misuse`] if they share their page cache.
    pub(super) fn enter_both<'a>(
        one: &'a Database,
        other: &'a Database,
    ) -> Result<(InUse<'a>, InUse<'a>), Error> {
        let place = |database: &Database| database.shared().map(SharedConnection::cache_number);
        if place(one) <= place(other) {
            let one = one.enter()?;
            Ok((one, other.enter()?))
        } else {
            let other = other.enter()?;
            Ok((one.enter()?, other))
        }
    }

    /// The connection, if it may share its page cache.
    pub(super) fn shared(&self) -> Option<&SharedConnection> {
        match &self.connection {
            Connection::Private(_) => None,
            Connection::Shared(connection) => Some(connection),
        }
    }

    /// Its handle.
    pub(super) fn handle(&self) -> String {
        format!("btree{}", self.number)
    }

    /// Whether both are the same database.
    pub(super) fn is(&self, other: &Database) -> bool {
        self.number == other.number
    }

    /// Closes it. A shared one closes with its last reference, which this is: the tables have none
    /// any more, and no command but the one that closes runs (H3).
    fn close(self: Rc<Database>) {
        if let Connection::Private(btree) = &self.connection {
            btree.end(Btree::close);
        }
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self)));
    }
}

impl<T> Guarded<T> {
    fn new(object: T) -> Guarded<T> {
        Guarded { slot: RefCell::new(Some(object)), broken: Cell::new(false) }
    }

    /// Takes the object into use.
    ///
    /// # Errors
    /// [`Error::Internal`] if a panic has left it half-changed, or if it is in use.
    #[inline]
    fn enter(&self) -> Result<Use<'_, T>, Error> {
        if self.broken.get() {
            return Err(Error::Internal("a defect has left this object unusable"));
        }
        let slot = self.slot.try_borrow_mut().map_err(|_| Error::Internal("object in use"))?;
        match RefMut::filter_map(slot, Option::as_mut) {
            Ok(object) => Ok(Use { object, broken: &self.broken }),
            Err(_) => Err(Error::Internal("the object is closed")),
        }
    }

    /// Closes the object by `close`, whatever state it is in. Errors are swallowed, as is a
    /// panic: there is nothing left that it could harm.
    fn end<R>(&self, close: impl FnOnce(T) -> R) {
        let Ok(mut slot) = self.slot.try_borrow_mut() else { return };
        if let Some(object) = slot.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| close(object)));
        }
    }
}

impl Cursor {
    /// Takes the cursor's database into use.
    ///
    /// # Errors
    /// As [`Database::enter`].
    #[inline]
    pub(super) fn enter(&self) -> Result<InUse<'_>, Error> {
        self.database.enter()
    }
}

impl Deref for InUse<'_> {
    type Target = Btree;

    #[inline]
    fn deref(&self) -> &Btree {
        match self {
            InUse::Private(btree) => btree,
            InUse::Shared(btree) => btree,
        }
    }
}

impl DerefMut for InUse<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Btree {
        match self {
            InUse::Private(btree) => btree,
            InUse::Shared(btree) => btree,
        }
    }
}

impl<T> Deref for Use<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

impl<T> DerefMut for Use<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.object
    }
}

impl<T> Drop for Use<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.broken.set(true);
        }
    }
}

/// The handle of a cursor.
fn cursor_handle(number: u64) -> String {
    format!("btcur{number}")
}

/// The number in a handle, if it is written as we write it.
#[inline]
fn number_of(handle: &[u8], prefix: &[u8]) -> Option<u64> {
    let digits = handle.strip_prefix(prefix)?;
    let (&first, _) = digits.split_first()?;
    if first == b'0' {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn no_such(kind: &str, handle: &[u8]) -> Failure {
    let handle = String::from_utf8_lossy(&super::value::to_utf8(handle)).into_owned();
    let text = format!("no such {kind}: \"{handle}\"");
    Failure::message(text, &["TCL", "LOOKUP", &kind.to_uppercase(), &handle])
}

/// Numbers of handles to objects.
type Table<T> = HashMap<u64, Rc<T>, BuildHasherDefault<NumberHasher>>;

/// A hash of one number: a multiplication spreads what a counter counts.
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_spelling_is_a_handle() {
        assert_eq!(number_of(b"btree7", DATABASE_PREFIX), Some(7));
        assert_eq!(number_of(b"btcur18446744073709551615", CURSOR_PREFIX), Some(u64::MAX));
        for junk in ["", "btree", "btree07", "btree0", "btree+7", "btree7 ", " btree7", "Btree7"] {
            assert_eq!(number_of(junk.as_bytes(), DATABASE_PREFIX), None, "{junk}");
        }
        assert_eq!(number_of(b"btcur18446744073709551616", CURSOR_PREFIX), None);
        assert_eq!(number_of(b"btcur7", DATABASE_PREFIX), None);
    }

    #[test]
    fn a_dead_handle_is_named_in_the_error() {
        let memory = Arc::new(crate::os::MemoryVfs::new());
        let failure = Session::new(memory, Bell::mute()).database(b"junk").unwrap_err();
        let (text, code) = failure.report().unwrap();
        assert_eq!(text, "no such btree: \"junk\"");
        assert_eq!(code, ["TCL", "LOOKUP", "BTREE", "junk"]);
    }
}
