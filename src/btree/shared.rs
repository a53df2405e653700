//! Several connections on one page cache, from several threads.
//!
//! ```text
//!   CacheRegistry ── caches by disk and path (weak) ──▶ SharedCache ◀── SharedConnection
//!        │                                               turn, Mutex<Btree>      │
//!        └── who waits for whom ◀──────────────────────── Client ◀───────────────┘
//! ```
//!
//! A call on a connection takes the turn at its cache, puts its session in place of the neutral one
//! and works on the `Btree` as if it were its own ([`Entered`]); at the end of the call the session
//! is parked again. Between such calls a thread may keep the turn ([`SharedConnection::hold`]).
//!
//! Invariants:
//!
//! * SC1: `SharedCache::state` is locked only by a thread that has the turn, so never waited for.
//! * SC2: mutexes are taken in this order: turns by the number of their cache, then `state`, then
//!   `WaitGraph`. `caches` is never held while a turn is waited for, and callbacks run when none of
//!   these but turns of their thread is held.
//! * SC3: outside of [`Entered`] no session is in place.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, TryLockError, Weak};
use std::time::Duration;

use super::session::Session;
use super::sync::{Mutex, MutexGuard};
use super::table_lock::SessionId;
use super::turn::Turn;
use super::waiting::{ClientId, Registration, WaitGraph};
use super::{Btree, BusyHandler, Options};
use crate::error::{Error, Result};
use crate::os::{Home, INHERITED, PerProcess, Vfs};

/// Runs when a client that waited may try again; see [`Client::on_unlock`].
pub type UnlockCallback = Box<dyn FnOnce() + Send>;

/// Knows the page caches that can be joined, and which client waits for which. Programs have one;
/// clones are the same registry.
///
/// ```
/// use tclbtree::{CacheRegistry, MemoryVfs, Options, TransactionKind};
/// use std::sync::Arc;
///
/// # fn main() -> tclbtree::Result<()> {
/// let registry = CacheRegistry::new();
/// let disk = Arc::new(MemoryVfs::new());
/// let one = registry.client().open(disk.clone(), "example.db", &Options::default())?;
/// let other = registry.client().open(disk, "example.db", &Options::default())?;
/// one.enter()?.begin(TransactionKind::Write)?;
/// assert!(other.enter()?.begin(TransactionKind::Write).is_err());
/// std::thread::scope(|scope| {
///     scope.spawn(|| other.enter()?.begin(TransactionKind::Read));
/// });
/// one.enter()?.commit()
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct CacheRegistry {
    shared: Arc<Registry>,
}

struct Registry {
    /// A forked child has no use for what others may be at in its parent: there every connection
    /// gets a page cache of its own, and nobody is told of anything.
    home: Home,
    caches: Mutex<HashMap<CacheKey, Weak<SharedCache>>>,
    waiting: Mutex<WaitGraph<UnlockCallback>>,
    /// Numbers of caches and of clients.
    last_number: AtomicU64,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry {
            home: Home::new(),
            caches: Mutex::default(),
            waiting: Mutex::default(),
            last_number: AtomicU64::default(),
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

/// A file: the address of its disk, which a cache keeps alive, and the absolute path on that disk.
type CacheKey = (usize, PathBuf);

impl Registry {
    fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Who waits for whom; `None` in a forked child.
    fn waiting(&self) -> Option<MutexGuard<'_, WaitGraph<UnlockCallback>>> {
        let waiting = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.home.is_here().then(waiting)
    }
}

impl CacheRegistry {
    /// A registry that knows nothing yet.
    pub fn new() -> CacheRegistry {
        CacheRegistry::default()
    }

    /// A new client: somebody whose connections wait as one, and who has at most one connection to
    /// each page cache. Clones are the same client.
    pub fn client(&self) -> Client {
        let registry = Arc::clone(&self.shared);
        let id = ClientId(registry.next_number());
        Client { shared: Arc::new(ClientState { id, registry, held: PerProcess::new() }) }
    }
}

/// Who opens connections to shared page caches.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<ClientState>,
}

#[derive(Debug)]
struct ClientState {
    id: ClientId,
    registry: Arc<Registry>,
    /// The caches whose turn its connections hold, or held and have not told.
    held: PerProcess<Mutex<Vec<Arc<SharedCache>>>>,
}

impl ClientState {
    /// The caches whose turn its connections hold.
    fn held(&self) -> MutexGuard<'_, Vec<Arc<SharedCache>>> {
        self.held.get().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClientState {
    fn drop(&mut self) {
        let _unregistered = self.registry.waiting().map(|mut waiting| waiting.remove(self.id));
    }
}

impl Client {
    /// Opens a connection. If a connection of the registry is open to that file, on the same disk
    /// and by whatever path, the new one joins its page cache, and of the options only
    /// `cache_size`, which is the cache's from then on, `cursor_locks` and `journal_at_begin`
    /// matter. Temporary databases are never shared, and in a process that was forked since the
    /// registry was made no other is either.
    ///
    /// # Errors
    /// Those of [`Btree::open`]; [`Constraint`](Error::Constraint) if the client has a connection
    /// to that page cache already.
    pub fn open(
        &self,
        vfs: Arc<dyn Vfs>,
        name: impl AsRef<Path>,
        options: &Options,
    ) -> Result<SharedConnection> {
        let cache = self.find_or_open(vfs, name.as_ref(), options)?;
        let session = cache.attach(self.shared.id, options)?;
        Ok(SharedConnection { cache, client: self.clone(), session, held: Mutex::new(0) })
    }

    fn find_or_open(
        &self,
        vfs: Arc<dyn Vfs>,
        name: &Path,
        options: &Options,
    ) -> Result<Arc<SharedCache>> {
        let registry = &self.shared.registry;
        let open = |vfs, name: &Path| {
            let mut btree = Btree::open(vfs, name, options)?;
            btree.sharing = Some(Box::default());
            Ok(Arc::new(SharedCache {
                home: Home::new(),
                number: registry.next_number(),
                turn: Turn::default(),
                state: Mutex::new(btree),
                orphans: Mutex::default(),
            }))
        };
        if matches!(name.to_str(), Some("" | ":memory:")) || !registry.home.is_here() {
            return open(vfs, name);
        }
        let path = vfs.full_path(name)?;
        let key = (Arc::as_ptr(&vfs).cast::<()>() as usize, path);
        let mut caches = registry.caches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = caches.get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        caches.retain(|_, cache| cache.strong_count() > 0);
        let cache = open(vfs, &key.1)?;
        caches.insert(key, Arc::downgrade(&cache));
        Ok(cache)
    }

    /// Registers what is to run once, when the transaction ends because of which this client was
    /// refused with [`LockedSharedCache`](Error::LockedSharedCache) last. It takes the place of
    /// what was registered before. If that transaction has ended already it runs at once, else on
    /// the thread that ends it, which holds no page cache by then but those it [holds] on purpose.
    /// That something is not refused any more is not promised.
    ///
    /// # Errors
    /// [`Locked`](Error::Locked) if who is in the way waits for this client, directly or through
    /// others, so that nobody would ever be told. Nothing is registered then, what was before
    /// stays. [`Misuse`](Error::Misuse) in a process forked since the registry was made.
    ///
    /// [holds]: SharedConnection::hold
    #[doc(alias = "sqlite3_unlock_notify")]
    pub fn on_unlock(&self, callback: UnlockCallback) -> Result<()> {
        let mut waiting = self.shared.registry.waiting().ok_or(INHERITED)?;
        let registration = waiting.register(self.shared.id, callback);
        drop(waiting);
        match registration {
            Registration::Waiting(_) => Ok(()),
            Registration::Due(callback, _) => {
                callback();
                Ok(())
            }
            Registration::Deadlock(_) => Err(Error::Locked),
        }
    }

    /// Takes back what [`Client::on_unlock`] has registered.
    pub fn cancel_on_unlock(&self) {
        let waiting = self.shared.registry.waiting();
        let _cancelled = waiting.map(|mut waiting| waiting.cancel(self.shared.id));
    }

    /// Waits for the turn at `cache` without ever waiting for a cache while keeping a later one
    /// from others: those are given back first, and taken again (SC2).
    fn take_turn(&self, cache: &Arc<SharedCache>) {
        if cache.turn.try_take() {
            return;
        }
        let mut later: Vec<Arc<SharedCache>> = {
            let held = self.shared.held();
            held.iter().filter(|other| other.number > cache.number).cloned().collect()
        };
        later.sort_by_key(|cache| cache.number);
        // Neither what another thread holds, nor a cache that is entered, can be given to others.
        later.retain(|cache| cache.turn.is_mine() && !cache.is_entered());
        let depths: Vec<u32> = later.iter().map(|cache| cache.turn.give_all()).collect();
        cache.turn.take();
        for (cache, depth) in later.iter().zip(depths) {
            cache.turn.take_times(depth);
        }
    }
}

/// A page cache and whose turn it is.
#[derive(Debug)]
struct SharedCache {
    home: Home,
    /// The place in the order in which turns are taken.
    number: u64,
    turn: Turn,
    state: Mutex<Btree>,
    /// Sessions of connections that were dropped inside of the cache, to be ended when it is left.
    orphans: Mutex<Vec<(SessionId, Client)>>,
}

impl SharedCache {
    /// Whether this thread, which has the turn, is inside of it.
    fn is_entered(&self) -> bool {
        matches!(self.state.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// The page cache, for a thread that has the turn (SC1).
    ///
    /// # Errors
    /// [`Error::Misuse`] if this thread has entered it already; [`Error::Internal`] if a panic has
    /// left it half-changed.
    fn state(&self) -> Result<MutexGuard<'_, Btree>> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::WouldBlock) => {
                Err(Error::Misuse("this thread is inside of the page cache already"))
            }
            Err(TryLockError::Poisoned(_)) => {
                Err(Error::Internal("a defect has left this page cache unusable"))
            }
        }
    }

    /// Adds a session for a client.
    fn attach(&self, client: ClientId, options: &Options) -> Result<SessionId> {
        self.turn.take();
        let _turn = OwnTurn(self);
        let mut btree = self.state()?;
        let Some(sharing) = &mut btree.sharing else {
            return Err(Error::Internal("a shared page cache that is not"));
        };
        if sharing.parked.iter().flatten().any(|other| other.client == client) {
            return Err(Error::Constraint("the client has this database open already"));
        }
        let free = sharing.parked.iter().position(Option::is_none);
        let index = free.unwrap_or(sharing.parked.len());
        let id = SessionId(u32::try_from(index).map_err(|_| Error::Full)?);
        let mut session = Session::new(options.cursor_locks, options.journal_at_begin);
        (session.id, session.client) = (id, client);
        match sharing.parked.get_mut(index) {
            Some(slot) => *slot = Some(session),
            None => {
                crate::memory::reserve(&mut sharing.parked, 1)?;
                sharing.parked.push(Some(session));
            }
        }
        btree.set_cache_size(options.cache_size);
        Ok(id)
    }
}

/// Gives the turn at a cache back at the end of a block. That of a parent process stays its own:
/// who waits for it may not be here.
#[derive(Debug)]
struct OwnTurn<'a>(&'a SharedCache);

impl Drop for OwnTurn<'_> {
    fn drop(&mut self) {
        if self.0.home.is_here() {
            self.0.turn.give();
        }
    }
}

/// A connection to a page cache that others may share. It can be used from any thread, by
/// [entering](SharedConnection::enter) it; dropping it closes it.
pub struct SharedConnection {
    cache: Arc<SharedCache>,
    client: Client,
    session: SessionId,
    /// How many turns it holds.
    held: Mutex<u32>,
}

impl fmt::Debug for SharedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cache = self.cache.number;
        f.debug_struct("SharedConnection").field("cache", &cache).finish_non_exhaustive()
    }
}

impl SharedConnection {
    /// Waits until no other thread uses the page cache, and gives it: what is called on it is
    /// called as this connection. No other thread gets in as long as the result lives. Cursors
    /// belong to the connection that opened them.
    ///
    /// A thread that is inside of one cache and enters another may wait for a thread that does it
    /// the other way round, for ever; [hold](SharedConnection::hold) both before.
    ///
    /// # Errors
    /// [`Misuse`](Error::Misuse) if this thread is inside of the cache already, or if this process
    /// was forked from the one that opened it; [`Internal`](Error::Internal) after a panic inside
    /// of it, as long as it is open.
    pub fn enter(&self) -> Result<Entered<'_>> {
        if self.is_inherited() {
            return Err(INHERITED);
        }
        self.client.take_turn(&self.cache);
        let turn = OwnTurn(&self.cache);
        let mut btree = self.cache.state()?;
        btree.put_in_place(self.session)?;
        Ok(Entered { connection: self, btree, _turn: turn, due: Due::default() })
    }

    /// Keeps other threads out of the page cache until [`SharedConnection::let_go`] was called as
    /// often, by this thread. A client that holds several never waits for one while it keeps a
    /// later one in the order of their opening from others: that one is given back for the time.
    ///
    /// # Errors
    /// [`Misuse`](Error::Misuse) if this process was forked from the one that opened the cache.
    #[doc(alias = "sqlite3BtreeEnter")]
    pub fn hold(&self) -> Result<()> {
        if self.is_inherited() {
            return Err(INHERITED);
        }
        self.client.take_turn(&self.cache);
        self.note_held();
        Ok(())
    }

    /// As [`SharedConnection::hold`], if no other thread is in the way any more before `limit` is
    /// over; whether. Nothing is given back for the time of waiting.
    pub fn hold_within(&self, limit: Duration) -> bool {
        let is_held = !self.is_inherited() && self.cache.turn.take_within(limit);
        if is_held {
            self.note_held();
        }
        is_held
    }

    /// Whether the cache is a parent process's: who has its turn there may not be here.
    fn is_inherited(&self) -> bool {
        !self.cache.home.is_here()
    }

    fn note_held(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held += 1;
        if *held == 1 {
            self.client.shared.held().push(Arc::clone(&self.cache));
        }
    }

    /// Takes back one [`SharedConnection::hold`].
    ///
    /// # Errors
    /// [`Misuse`](Error::Misuse) if the connection is not held, or by another thread, or if this
    /// process was forked from the one that opened the cache.
    #[doc(alias = "sqlite3BtreeLeave")]
    pub fn let_go(&self) -> Result<()> {
        if self.is_inherited() {
            return Err(INHERITED);
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if *held == 0 || !self.cache.turn.give() {
            return Err(Error::Misuse("this thread does not hold the connection"));
        }
        *held -= 1;
        if *held == 0 {
            let mut caches = self.client.shared.held();
            if let Some(at) = caches.iter().position(|cache| Arc::ptr_eq(cache, &self.cache)) {
                caches.remove(at);
            }
        }
        Ok(())
    }

    /// The number of the page cache, the same for all its connections: its place in the order in
    /// which several are to be held.
    pub fn cache_number(&self) -> u64 {
        self.cache.number
    }

    /// Whose connection it is.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for SharedConnection {
    /// Closes the connection: its transaction is rolled back, its cursors and locks go; with the
    /// last connection the page cache.
    fn drop(&mut self) {
        if self.is_inherited() {
            // A thread that is not here may have left it half-changed: it is never looked at again.
            std::mem::forget(Arc::clone(&self.cache));
            return;
        }
        match self.enter() {
            Ok(mut entered) => entered.btree.end_session(),
            // Whoever is inside of the cache ends it on the way out.
            Err(Error::Misuse(_)) => {
                let mut orphans = self.cache.orphans.lock().unwrap_or_else(PoisonError::into_inner);
                orphans.push((self.session, self.client.clone()));
            }
            // Broken by a panic: the session goes with the cache.
            Err(_) => {}
        }
        while self.let_go().is_ok() {}
    }
}

/// A shared page cache, used as one of its connections: see [`SharedConnection::enter`].
#[derive(Debug)]
pub struct Entered<'a> {
    connection: &'a SharedConnection,
    // In the order in which they go.
    btree: MutexGuard<'a, Btree>,
    _turn: OwnTurn<'a>,
    due: Due,
}

impl Deref for Entered<'_> {
    type Target = Btree;

    fn deref(&self) -> &Btree {
        &self.btree
    }
}

impl DerefMut for Entered<'_> {
    fn deref_mut(&mut self) -> &mut Btree {
        &mut self.btree
    }
}

impl Drop for Entered<'_> {
    /// Parks the session, and tells who waits for it; in a forked child neither.
    fn drop(&mut self) {
        if self.connection.is_inherited() {
            return;
        }
        self.leave(&self.connection.client);
        let orphans = &self.connection.cache.orphans;
        let orphans = std::mem::take(&mut *orphans.lock().unwrap_or_else(PoisonError::into_inner));
        for (session, client) in orphans {
            if self.btree.put_in_place(session).is_ok() {
                self.btree.end_session();
                self.leave(&client);
            }
        }
    }
}

impl Entered<'_> {
    /// Parks the session in place, which is the client's.
    fn leave(&mut self, client: &Client) {
        let (blocked_by, has_ended) = self.btree.park();
        if blocked_by.is_none() && !has_ended {
            return;
        }
        let Some(mut waiting) = client.shared.registry.waiting() else { return };
        if let Some(other) = blocked_by {
            waiting.block(client.shared.id, other);
        }
        if has_ended {
            self.due.0.extend(waiting.end(client.shared.id));
        }
    }
}

/// Callbacks, run at the end of a block, when nothing is held any more (SC2).
#[derive(Default)]
struct Due(Vec<UnlockCallback>);

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Due({})", self.0.len())
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        for callback in self.0.drain(..) {
            callback();
        }
    }
}

/// Exchanging sessions (SC3).
impl Btree {
    /// Puts a parked session in place.
    fn put_in_place(&mut self, id: SessionId) -> Result<()> {
        let parked = self.sharing.as_mut().and_then(|sharing| {
            (sharing.blocked_by, sharing.has_ended) = (None, false);
            sharing.parked.get_mut(id.0 as usize)?.take()
        });
        let mut session = parked.ok_or(Error::Internal("the session is not there"))?;
        let handler: Option<BusyHandler> = session.busy_handler.take();
        self.store.pager.set_busy_handler(handler);
        self.session = session;
        Ok(())
    }

    /// Closes what the session in place has open; it will not be parked any more.
    fn end_session(&mut self) {
        self.let_everything_go();
        self.unwatch_all();
        // An error here leaves the journal behind, which is where the next reader recovers from.
        let _ = self.rollback();
        self.set_busy_handler(None);
        self.session.client = ClientId::default();
    }

    /// Parks the session in place, unless it has ended. Returns who was in its way, and whether a
    /// transaction of it has ended.
    fn park(&mut self) -> (Option<ClientId>, bool) {
        let neutral = Session::new(false, false);
        let mut session = std::mem::replace(&mut self.session, neutral);
        session.busy_handler = self.store.pager.take_busy_handler();
        let Some(sharing) = &mut self.sharing else { return (None, false) };
        if session.client != ClientId::default()
            && let Some(slot) = sharing.parked.get_mut(session.id.0 as usize)
        {
            *slot = Some(session);
        }
        (sharing.blocked_by.take(), std::mem::take(&mut sharing.has_ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btree::{Backup, Key, TABLE, TransactionKind};
    use crate::os::MemoryVfs;

    fn two() -> (SharedConnection, SharedConnection) {
        let (registry, disk) = (CacheRegistry::new(), Arc::new(MemoryVfs::new()));
        let open = || registry.client().open(disk.clone(), "x", &Options::default()).unwrap();
        (open(), open())
    }

    #[test]
    fn connections_can_be_used_from_any_thread() {
        fn check<T: Send + Sync>() {}
        check::<SharedConnection>();
        check::<CacheRegistry>();
        check::<Client>();
    }

    /// H50040, H50050, D103: who has a cache in common with whom.
    #[test]
    fn one_cache_for_each_file_of_a_disk() {
        let (registry, disk) = (CacheRegistry::new(), Arc::new(MemoryVfs::new()));
        let open = |disk: &Arc<MemoryVfs>, name: &str| {
            registry.client().open(disk.clone(), name, &Options::default()).unwrap()
        };
        let (a, b) = (open(&disk, "a"), open(&disk, "b"));
        assert_eq!(open(&disk, "a").cache_number(), a.cache_number());
        assert_ne!(b.cache_number(), a.cache_number());
        assert_ne!(open(&Arc::new(MemoryVfs::new()), "a").cache_number(), a.cache_number());
        for name in ["", ":memory:"] {
            assert_ne!(open(&disk, name).cache_number(), open(&disk, name).cache_number());
        }
        let number = a.cache_number();
        drop(a);
        assert_ne!(open(&disk, "a").cache_number(), number, "the last one has closed it");
    }

    /// D125.
    #[test]
    fn a_client_is_in_a_cache_once() {
        let (registry, disk) = (CacheRegistry::new(), Arc::new(MemoryVfs::new()));
        let client = registry.client();
        let open = |name: &str| client.open(disk.clone(), name, &Options::default());
        let first = open("a").unwrap();
        assert!(matches!(open("a"), Err(Error::Constraint(_))));
        open("b").unwrap();
        drop(first);
        open("a").unwrap();
    }

    #[test]
    fn a_thread_is_inside_of_a_cache_once() {
        let (a, b) = two();
        let inside = a.enter().unwrap();
        assert!(matches!(b.enter().map(drop), Err(Error::Misuse(_))));
        drop(inside);
        b.enter().unwrap();
    }

    /// A connection that is dropped where it cannot be closed is closed on the way out.
    #[test]
    fn dropped_inside_is_closed_outside() {
        let (a, b) = two();
        b.enter().unwrap().begin(TransactionKind::Write).unwrap();
        let inside = a.enter().unwrap();
        drop(b);
        drop(inside);
        a.enter().unwrap().begin(TransactionKind::Exclusive).unwrap();
    }

    /// D314: a backup reads through one connection, and what it watches goes with that.
    #[test]
    fn a_backup_is_that_of_its_connection() {
        let (a, b) = two();
        let disk = Arc::new(MemoryVfs::new());
        let mut copy = Btree::open(disk, "copy", &Options::default()).unwrap();
        let backup = Backup::start(&mut copy, &mut a.enter().unwrap()).unwrap();
        assert!(a.enter().unwrap().is_in_backup() && !b.enter().unwrap().is_in_backup());
        let watches = || b.enter().unwrap().store.pager.watch_count();
        assert_eq!(watches(), 1);
        drop(a);
        assert_eq!(watches(), 0);
        backup.abandon(&mut copy).unwrap();
    }

    #[test]
    fn after_a_panic_inside_the_cache_is_unusable() {
        let (a, b) = two();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _inside = a.enter().unwrap();
            panic!("a defect");
        }));
        assert!(panicked.is_err());
        assert!(matches!(b.enter().map(drop), Err(Error::Internal(_))));
        drop(a);
        drop(b);
    }

    /// A cursor works through the connection that opened it alone.
    #[test]
    fn cursors_belong_to_their_connection() {
        let (a, b) = two();
        let (root, cursor) = {
            let mut a = a.enter().unwrap();
            a.begin(TransactionKind::Write).unwrap();
            let root = a.create_table(TABLE).unwrap();
            (root, a.open_cursor(root, true).unwrap())
        };
        let mut b = b.enter().unwrap();
        b.begin(TransactionKind::Read).unwrap();
        assert!(b.insert(cursor, Key::Integer(1), b"", 0).is_err());
        b.close_cursor(cursor);
        assert!(b.cursors().is_empty());
        drop(b);
        a.enter().unwrap().insert(cursor, Key::Integer(1), b"", 0).unwrap();
        assert_eq!(a.enter().unwrap().cursors()[0].root, root);
    }

    /// D347: what is held stays held between calls, and is given back by its holder alone.
    #[test]
    fn a_held_cache_keeps_other_threads_out() {
        let (a, b) = two();
        assert!(a.let_go().is_err());
        a.hold().unwrap();
        a.hold().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                sender.send(b.let_go().is_err()).unwrap();
                drop(b.enter().unwrap());
                sender.send(true).unwrap();
            });
            assert!(receiver.recv().unwrap());
            a.enter().unwrap();
            a.let_go().unwrap();
            assert!(receiver.recv_timeout(Duration::from_millis(20)).is_err());
            a.let_go().unwrap();
            assert!(receiver.recv().unwrap());
            other.join().unwrap();
        });
    }

    #[test]
    fn waiting_for_a_cache_can_have_a_limit() {
        let (a, b) = two();
        a.hold().unwrap();
        let held = |limit| {
            let held = || b.hold_within(limit) && b.let_go().is_ok();
            std::thread::scope(|scope| scope.spawn(held).join().unwrap())
        };
        assert!(!held(Duration::ZERO) && !held(Duration::from_millis(5)));
        a.let_go().unwrap();
        assert!(held(Duration::ZERO) && held(Duration::from_secs(60)));
    }

    /// D242, D243: told when the transaction in the way has ended, or at once.
    #[test]
    fn who_was_refused_is_told() {
        let (a, b) = two();
        let told = Arc::new(AtomicU64::new(0));
        let tell = || -> UnlockCallback {
            let told = Arc::clone(&told);
            Box::new(move || _ = told.fetch_add(1, Ordering::Relaxed))
        };
        a.enter().unwrap().begin(TransactionKind::Write).unwrap();
        let refused = b.enter().unwrap().begin(TransactionKind::Write);
        assert_eq!(refused, Err(Error::LockedSharedCache));
        b.client().on_unlock(tell()).unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 0);
        a.enter().unwrap().rollback().unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 1);
        b.client().on_unlock(tell()).unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 2);
    }

    /// D247: two threads that hold two caches in opposite order.
    #[test]
    fn holding_two_caches_in_any_order_does_not_deadlock() {
        let (registry, disk) = (CacheRegistry::new(), Arc::new(MemoryVfs::new()));
        let names = [["a", "b"], ["b", "a"]];
        std::thread::scope(|scope| {
            let threads = names.map(|names| {
                let (client, disk) = (registry.client(), disk.clone());
                scope.spawn(move || {
                    let open = |name| client.open(disk.clone(), name, &Options::default()).unwrap();
                    let both = names.map(open);
                    for _ in 0..20_000 {
                        both.iter().for_each(|shared| shared.hold().unwrap());
                        both.iter().for_each(|one| one.let_go().unwrap());
                    }
                })
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}
