//! Four threads on one page cache, each with a connection of its own, against a model.
//!
//! Who wants a table locks it first, waits to be told when somebody is in the way, and gives its
//! transaction up when waiting would be a deadlock. What a lock promises is compared with a map for
//! each table; what needs no lock, reading what is uncommitted, must still give keys in order.
//! Nobody waits for ever: who is not told within [`PATIENCE`] fails the test.
//!
//! Seeds as in `support::Seeds`: they decide what each thread wants, not who comes first.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use parking_lot::Mutex;
use support::random::Random;
use support::{Directory, Seeds};
use tclbtree::format::PageNumber;
use tclbtree::os::Vfs;
use tclbtree::{
    Btree, CacheRegistry, Error, Key, MemoryVfs, Options, Result, SharedConnection, TABLE,
    TransactionKind, UnixVfs,
};

const THREADS: usize = 4;
const TABLES: usize = 3;
/// Transactions of each thread for each seed.
const TRANSACTIONS: usize = 40;
/// Keys are below this.
const KEYS: usize = 400;
/// How long anybody may have to wait for anybody.
const PATIENCE: Duration = Duration::from_secs(120);

/// Entries of a table.
type Entries = BTreeMap<i64, Vec<u8>>;

/// A table, and what it holds according to all committed transactions.
struct Table {
    root: PageNumber,
    model: Mutex<Entries>,
}

/// A database and what is known of it.
struct Database {
    disk: Arc<dyn Vfs>,
    path: PathBuf,
    registry: CacheRegistry,
    tables: Vec<Table>,
}

/// Waiting any longer would be for ever, so the transaction is given up.
#[derive(Debug)]
struct Deadlock;

impl Database {
    fn new(disk: Arc<dyn Vfs>, path: PathBuf, tables: usize) -> Database {
        let mut database =
            Database { disk, path, registry: CacheRegistry::new(), tables: Vec::new() };
        let connection = database.connect();
        let mut btree = connection.enter().unwrap();
        btree.begin(TransactionKind::Write).unwrap();
        for _ in 0..tables {
            let root = btree.create_table(TABLE).unwrap();
            database.tables.push(Table { root, model: Mutex::default() });
        }
        btree.commit().unwrap();
        drop(btree);
        database
    }

    /// A connection of a client of its own, to a cache so small that it spills.
    fn connect(&self) -> SharedConnection {
        let options = Options { cache_size: 15, ..Options::default() };
        self.registry.client().open(Arc::clone(&self.disk), &self.path, &options).unwrap()
    }

    /// Compares every table with its model, on a page cache that has seen nothing yet, and has the
    /// whole file checked.
    fn check(&self) {
        let options = Options::default();
        let mut btree = Btree::open(Arc::clone(&self.disk), &self.path, &options).unwrap();
        let roots: Vec<i64> = [1].into_iter().chain(self.roots()).collect();
        assert_eq!(btree.integrity_check(&roots, 20).unwrap(), Vec::<String>::new());
        for table in &self.tables {
            assert_eq!(entries(&mut btree, table.root), *table.model.lock());
        }
    }

    fn roots(&self) -> impl Iterator<Item = i64> {
        self.tables.iter().map(|table| i64::from(table.root.get()))
    }
}

fn entries(btree: &mut Btree, root: PageNumber) -> Entries {
    let cursor = btree.open_cursor(root, false).unwrap();
    let mut entries = Entries::new();
    let mut there = btree.first(cursor).unwrap();
    while there {
        entries.insert(btree.integer_key(cursor).unwrap(), btree.data(cursor).unwrap());
        there = btree.next(cursor).unwrap();
    }
    btree.close_cursor(cursor);
    entries
}

/// Calls until nobody is in the way any more, being told in between.
fn patiently<T>(
    connection: &SharedConnection,
    mut call: impl FnMut(&mut Btree) -> Result<T>,
) -> Result<T, Deadlock> {
    loop {
        let result = call(&mut connection.enter().unwrap());
        match result {
            Ok(value) => return Ok(value),
            Err(Error::LockedSharedCache) => wait(connection)?,
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Waits for the end of what was in the way.
fn wait(connection: &SharedConnection) -> Result<(), Deadlock> {
    let (teller, told) = channel();
    match connection.client().on_unlock(Box::new(move || _ = teller.send(()))) {
        Ok(()) => {
            told.recv_timeout(PATIENCE).expect("told when the transaction in the way has ended");
            Ok(())
        }
        Err(Error::Locked) => Err(Deadlock),
        Err(error) => panic!("{error:?}"),
    }
}

/// One thread: its connection, what it wants, and how often it had to give up.
struct Worker<'a> {
    database: &'a Database,
    connection: SharedConnection,
    random: Random,
    deadlocks: &'a AtomicU32,
}

impl Worker<'_> {
    fn run(&mut self) {
        for _ in 0..TRANSACTIONS {
            let done = match self.random.below(10) {
                0..4 => self.write(),
                4..7 => self.read(),
                7..9 => self.read_then_write(),
                _ => {
                    self.read_uncommitted();
                    Ok(())
                }
            };
            if done.is_err() {
                self.deadlocks.fetch_add(1, Ordering::Relaxed);
                self.connection.enter().unwrap().rollback().unwrap();
            }
            let btree = self.connection.enter().unwrap();
            assert!(!btree.is_reading() && btree.cursors().is_empty());
        }
    }

    /// Some tables, in an order that others do not keep to.
    fn some_tables(&mut self) -> Vec<usize> {
        let first = self.random.below(TABLES);
        let count = self.random.between(1, TABLES);
        let step = self.random.between(1, 2);
        (0..count).map(|index| (first + index * step) % TABLES).collect()
    }

    fn begin(&self, kind: TransactionKind) -> Result<(), Deadlock> {
        patiently(&self.connection, |btree| btree.begin(kind))
    }

    fn lock(&self, table: usize, for_writing: bool) -> Result<(), Deadlock> {
        let root = self.database.tables[table].root.get();
        patiently(&self.connection, |btree| btree.lock_table(root, for_writing))
    }

    /// A table that is locked for reading is as the last commit has left it, until the end of the
    /// transaction.
    fn check_locked(&self, table: usize) {
        let table = &self.database.tables[table];
        let found = entries(&mut self.connection.enter().unwrap(), table.root);
        assert_eq!(found, *table.model.lock());
    }

    fn read(&mut self) -> Result<(), Deadlock> {
        self.begin(TransactionKind::Read)?;
        let tables = self.some_tables();
        for &table in &tables {
            self.lock(table, false)?;
            self.check_locked(table);
        }
        tables.iter().for_each(|&table| self.check_locked(table));
        self.connection.enter().unwrap().commit().unwrap();
        Ok(())
    }

    fn read_then_write(&mut self) -> Result<(), Deadlock> {
        self.begin(TransactionKind::Read)?;
        let table = self.random.below(TABLES);
        self.lock(table, false)?;
        self.check_locked(table);
        self.begin(TransactionKind::Write)?;
        self.check_locked(table);
        self.change_and_end()
    }

    fn write(&mut self) -> Result<(), Deadlock> {
        self.begin(TransactionKind::Write)?;
        self.change_and_end()
    }

    /// Changes some tables, locked for writing, and commits or rolls back.
    fn change_and_end(&mut self) -> Result<(), Deadlock> {
        let mut changed: BTreeMap<usize, Entries> = BTreeMap::new();
        for table in self.some_tables() {
            self.lock(table, true)?;
            let model = self.database.tables[table].model.lock().clone();
            let mut model = changed.remove(&table).unwrap_or(model);
            self.change(table, &mut model);
            changed.insert(table, model);
        }
        if self.random.percent(25) {
            self.connection.enter().unwrap().rollback().unwrap();
            return Ok(());
        }
        // Nobody can look before the locks go with the commit.
        for (table, entries) in changed {
            *self.database.tables[table].model.lock() = entries;
        }
        self.connection.enter().unwrap().commit().unwrap();
        Ok(())
    }

    /// Some changes of a table, and others that a savepoint takes back. Others have their turn
    /// between any two calls.
    fn change(&mut self, table: usize, model: &mut Entries) {
        let root = self.database.tables[table].root;
        let connection = &self.connection;
        let cursor = connection.enter().unwrap().open_cursor(root, true).unwrap();
        let kept = model.clone();
        let undone = self.random.percent(20);
        if undone {
            connection.enter().unwrap().open_savepoints(1).unwrap();
        }
        for _ in 0..self.random.below(30) {
            let key = self.random.below(KEYS) as i64;
            let mut btree = connection.enter().unwrap();
            if self.random.percent(60) {
                let length = self.random.pick(&[0, 10, 100, 300, 5000]);
                let data = self.random.bytes(length);
                btree.insert(cursor, Key::Integer(key), &data, 0).unwrap();
                model.insert(key, data);
            } else if btree.seek(cursor, Key::Integer(key)).unwrap().is_eq() {
                btree.delete(cursor).unwrap();
                assert!(model.remove(&key).is_some());
            } else {
                assert!(!model.contains_key(&key));
            }
        }
        let mut btree = connection.enter().unwrap();
        btree.close_cursor(cursor);
        if undone {
            btree.rollback_savepoint(Some(0)).unwrap();
            btree.release_savepoint(0).unwrap();
            *model = kept;
        }
    }

    /// Reads without a lock while others change the table, one entry at a time.
    fn read_uncommitted(&mut self) {
        let root = self.database.tables[self.random.below(TABLES)].root;
        let enter = || self.connection.enter().unwrap();
        enter().set_reads_uncommitted(true);
        let cursor = enter().open_cursor(root, false).unwrap();
        let mut last = i64::MIN;
        let mut there = enter().first(cursor).unwrap();
        while there {
            let mut btree = enter();
            // An entry may go between two calls; within one turn it cannot.
            if !btree.cursor_has_moved(cursor).unwrap() {
                let key = btree.integer_key(cursor).unwrap();
                assert!(key > last && key < KEYS as i64, "{key} behind {last}");
                last = key;
                btree.data(cursor).unwrap();
            }
            there = btree.next(cursor).unwrap();
        }
        enter().close_cursor(cursor);
        enter().set_reads_uncommitted(false);
    }
}

/// Runs all of them at once, to their end. Each is joined by itself: a scope that ends does so too,
/// but ThreadSanitizer cannot follow it.
fn side_by_side<T: FnOnce() + Send>(threads: impl Iterator<Item = T>) {
    std::thread::scope(|scope| {
        let threads: Vec<_> = threads.map(|thread| scope.spawn(thread)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Every thread wants every table: L50016 to L50021, D158, D199, D242 to D244, D246, D248.
fn overlapping(database: &Database, seed: u64) -> u32 {
    let deadlocks = AtomicU32::new(0);
    side_by_side((0..THREADS).map(|thread| {
        let mut worker = Worker {
            database,
            connection: database.connect(),
            random: Random::new(seed * 100 + thread as u64),
            deadlocks: &deadlocks,
        };
        move || worker.run()
    }));
    database.check();
    deadlocks.into_inner()
}

/// D246: four threads share tables, against a model.
#[test]
fn threads_with_locks_see_what_was_committed() {
    let directory = Directory::new("shared");
    let (mut deadlocks, mut runs) = (0, 0);
    for seed in Seeds::from_environment(12) {
        let on_disk = seed % 3 == 0;
        let (disk, path): (Arc<dyn Vfs>, PathBuf) = if on_disk {
            (Arc::new(UnixVfs::new()), directory.file(&format!("{seed}.db")))
        } else {
            (Arc::new(MemoryVfs::new()), "x".into())
        };
        deadlocks += overlapping(&Database::new(disk, path, TABLES), seed);
        runs += 1;
    }
    println!("{runs} runs, {deadlocks} deadlocks found and left");
}

/// D246: each thread has a table to itself and no lock but the one on writing.
#[test]
fn threads_with_tables_of_their_own_lose_nothing() {
    const ROUNDS: i64 = 25;
    const EACH: i64 = 20;
    let database = Database::new(Arc::new(MemoryVfs::new()), "x".into(), THREADS);
    side_by_side(database.tables.iter().enumerate().map(|(thread, table)| {
        let connection = database.connect();
        move || {
            for round in 0..ROUNDS {
                patiently(&connection, |btree| btree.begin(TransactionKind::Write)).unwrap();
                let cursor = connection.enter().unwrap().open_cursor(table.root, true).unwrap();
                for key in round * EACH..(round + 1) * EACH {
                    let data = vec![thread as u8; 50 + key as usize];
                    let mut btree = connection.enter().unwrap();
                    btree.insert(cursor, Key::Integer(key), &data, 0).unwrap();
                    table.model.lock().insert(key, data);
                }
                let mut btree = connection.enter().unwrap();
                btree.close_cursor(cursor);
                btree.commit().unwrap();
            }
        }
    }));
    let full = database.tables.iter().all(|table| table.model.lock().len() == 500);
    assert!(full);
    database.check();
}

/// D245, H50070: threads that come and go, their transactions open or not.
#[test]
fn connections_come_and_go() {
    let database = Database::new(Arc::new(MemoryVfs::new()), "x".into(), 1);
    let table = &database.tables[0];
    side_by_side((0..THREADS).map(|thread| {
        let database = &database;
        move || {
            let mut random = Random::new(thread as u64);
            for round in 0..100 {
                let connection = database.connect();
                if patiently(&connection, |btree| btree.begin(TransactionKind::Write)).is_err() {
                    continue;
                }
                let mut btree = connection.enter().unwrap();
                let cursor = btree.open_cursor(table.root, true).unwrap();
                let key = (round * THREADS + thread) as i64;
                let data = random.bytes(40);
                btree.insert(cursor, Key::Integer(key), &data, 0).unwrap();
                // Otherwise closing rolls back, and tells who waits.
                if random.percent(50) {
                    table.model.lock().insert(key, data);
                    btree.close_cursor(cursor);
                    btree.commit().unwrap();
                }
            }
        }
    }));
    database.check();
}
