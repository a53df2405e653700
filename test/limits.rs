//! Cells near every limit of their size, in trees of every kind, against a `BTreeMap`.
//!
//! Where payload begins to leave the page, where a chain gets one page more, cells of 0 to 4 bytes
//! and cells of which just so many fit: each run inserts, replaces and deletes such cells one by
//! one and in rows, in nested savepoints that are kept or undone, with a cache that holds next to
//! nothing, and lets changes fail half-way, for want of pages or memory or for an error of the
//! disk. The integrity checker and a comparison of all entries follow every few steps. Every fourth
//! run has records and a schema, and stock SQLite is asked about the file of each commit.
//!
//! `TCLBTREE_OPERATIONS` sets the steps per seed; seeds as in `support::Seeds`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use support::book::Form;
use support::random::Random;
use support::record::{Field, blob, encode, text};
use support::tree::{KINDS, OwnedKey, Tree};
use support::{Directory, Seeds, number_from, stock};
use tclbtree::btree::{InsertHints, JournalMode};
use tclbtree::format::{AutoVacuum, PageNumber};
use tclbtree::memory::fail_nth;
use tclbtree::os::Vfs;
use tclbtree::os::simulate::{FaultKnobs, FaultVfs};
use tclbtree::{
    Btree, CursorId, Error, INDEX, Key, KeyInfo, MemoryVfs, Result, TABLE, TransactionKind,
};

/// The name of the database, where it has one.
const FILE: &str = "limits.db";

/// With so many bytes in all, trees begin to shrink.
const CROWDED: usize = 400_000;

impl Tree {
    fn bytes(&self) -> usize {
        let bytes = |(key, data): (&OwnedKey, &Vec<u8>)| match key {
            OwnedKey::Integer(_) => 8 + data.len(),
            OwnedKey::Bytes(key) => key.len() + data.len(),
        };
        self.entries.iter().map(bytes).sum()
    }
}

type World = Vec<Tree>;

/// Where payload is cut, computed anew here: see SQLite file format, "B-tree Cell Format".
#[derive(Debug, Clone, Copy)]
struct Limits {
    usable: usize,
    min_local: usize,
    max_local: usize,
    max_leaf: usize,
}

impl Limits {
    fn of(form: Form) -> Limits {
        let usable = form.page_size as usize - usize::from(form.reserved);
        Limits {
            usable,
            min_local: (usable - 12) * 32 / 255 - 23,
            max_local: (usable - 12) * 64 / 255 - 23,
            max_leaf: usable - 35,
        }
    }
}

/// Why a change fails half-way.
#[derive(Debug, Clone, Copy)]
enum Reason {
    Pages,
    Memory,
    Disk,
}

/// What sizes the entries have for a while.
#[derive(Debug, Clone, Copy)]
enum Taste {
    Tiny,
    Edges,
    Chains,
    Shares(usize),
    Whole,
    Mixed,
}

impl Taste {
    fn any(random: &mut Random) -> Taste {
        let share = random.between(1, 9);
        random.pick(&[
            Taste::Tiny,
            Taste::Edges,
            Taste::Chains,
            Taste::Shares(share),
            Taste::Whole,
            Taste::Mixed,
            Taste::Mixed,
        ])
    }

    /// Bytes of payload.
    fn size(self, random: &mut Random, limits: Limits) -> usize {
        let near = |at: usize, random: &mut Random| (at + random.below(7)).saturating_sub(3);
        let edges = [limits.min_local, limits.max_local, limits.max_leaf];
        match self {
            Taste::Tiny => random.below(6),
            Taste::Edges => {
                let edge = random.pick(&edges);
                near(edge, random)
            }
            Taste::Chains => {
                let most = if limits.usable > 30_000 { 2 } else { 4 };
                let edge = random.pick(&edges) + random.below(most) * (limits.usable - 4);
                near(edge, random)
            }
            // So many fit on a page, or do not.
            Taste::Shares(count) => near((limits.usable - 8) / count, random).saturating_sub(5),
            Taste::Whole => random.below(limits.max_leaf + 1),
            Taste::Mixed => match random.below(12) {
                0..4 => Taste::Tiny.size(random, limits),
                4 => Taste::Chains.size(random, limits),
                5..7 => Taste::Edges.size(random, limits),
                7 => Taste::Whole.size(random, limits),
                count => Taste::Shares(count - 5).size(random, limits),
            },
        }
    }
}

struct Run {
    random: Random,
    form: Form,
    limits: Limits,
    taste: Taste,
    disk: Arc<MemoryVfs>,
    knobs: Arc<FaultKnobs>,
    db: Btree,
    world: World,
    committed: World,
    savepoints: Vec<World>,
    cursors: BTreeMap<u32, CursorId>,
    /// Whether stock SQLite can read the file: records, and a schema.
    records: bool,
    directory: Option<Directory>,
    step: u64,
    growing: bool,
    refused: u32,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let page_size = random.pick(&[512, 512, 512, 1024, 1024, 4096, 65536]);
        let reserved = match page_size {
            1024.. if random.percent(30) => random.below(256) as u8,
            _ => random.pick(&[0, 0, 1, 4, 32]),
        };
        let form = Form {
            page_size,
            reserved,
            auto_vacuum: match seed % 3 {
                0 => AutoVacuum::Full,
                1 => AutoVacuum::None,
                _ => AutoVacuum::Incremental,
            },
        };
        let disk = Arc::new(MemoryVfs::new());
        let knobs = Arc::new(FaultKnobs::new());
        let vfs = Arc::new(FaultVfs::new(Arc::clone(&disk) as _, Arc::clone(&knobs)));
        let cache_size = random.pick(&[10, 10, 20, 500]);
        let records = seed.is_multiple_of(4);
        let name = if records { FILE } else { random.pick(&[FILE, FILE, FILE, "", ":memory:"]) };
        let mut options = form.options(cache_size);
        if !records && random.percent(30) {
            // The lock page is among the first ones.
            options.lock_offset = page_size * random.between(2, 60) as u32;
        }
        let mut db = Btree::open(vfs, name, &options).unwrap();
        db.set_page_size(Some(options.page_size), Some(reserved), false).unwrap();
        db.set_auto_vacuum(form.auto_vacuum).unwrap();
        let mode = random.pick(&[
            JournalMode::Delete,
            JournalMode::Truncate,
            JournalMode::Persist,
            JournalMode::Memory,
        ]);
        db.set_journal_mode(mode).unwrap();
        db.set_undo_in_memory(random.percent(30));
        if random.percent(40) {
            db.set_random_discard(30, seed);
        }
        let mut run = Run {
            random,
            form,
            limits: Limits::of(form),
            taste: Taste::Mixed,
            disk,
            knobs,
            db,
            world: World::new(),
            committed: World::new(),
            savepoints: Vec::new(),
            cursors: BTreeMap::new(),
            records,
            directory: records.then(|| Directory::new("limits")),
            step: 0,
            growing: true,
            refused: 0,
        };
        run.db.begin(TransactionKind::Write).unwrap();
        if !records {
            // On page 1 there is less room than on any other.
            run.world.push(Tree { kind: TABLE, root: PageNumber::ONE, entries: BTreeMap::new() });
        }
        for _ in 0..run.random.between(1, 3) {
            run.create_tree();
        }
        if records {
            for (slot, value) in [(1, 1), (2, 4), (5, 1)] {
                run.db.set_meta(slot, value).unwrap();
            }
        }
        run.commit();
        run
    }

    fn all(&mut self, steps: u64) {
        while self.step < steps {
            self.db.begin(TransactionKind::Write).unwrap();
            for _ in 0..self.random.between(1, 40) {
                self.step += 1;
                self.operation();
                if self.random.percent(25) {
                    self.check();
                }
            }
            if self.random.percent(70) {
                self.commit()
            } else {
                self.roll_back()
            }
            self.db.begin(TransactionKind::Read).unwrap();
            self.check();
            self.close_cursors();
            self.db.commit().unwrap();
            assert_eq!(self.db.stats().pinned, 0, "{:?}", self.db.pinned_pages());
        }
    }

    fn operation(&mut self) {
        if self.random.percent(3) {
            self.taste = Taste::any(&mut self.random);
        }
        let bytes: usize = self.world.iter().map(Tree::bytes).sum();
        let crowded = CROWDED.min(150 * self.limits.usable).max(4 * self.limits.usable);
        self.growing = if self.growing { bytes < crowded } else { bytes < crowded / 20 };
        let tree = self.random.below(self.world.len());
        match self.random.below(100) {
            0..3 if !self.records => self.create_tree(),
            3 if !self.records => self.drop_tree(tree),
            4 => self.clear_tree(tree),
            5..17 => self.savepoint(),
            17..20 => drop(self.db.incremental_vacuum().unwrap()),
            20..24 => self.fail_half_way(tree),
            24..30 => self.put_data(tree),
            30..36 => self.replace(tree),
            36..42 => self.look(tree),
            42..47 => self.row(tree),
            47..85 if self.growing => self.insert(tree),
            47..85 => self.remove(tree),
            85..95 if self.growing => self.remove(tree),
            _ => self.insert(tree),
        }
    }

    fn cursor(&mut self, tree: usize) -> CursorId {
        let root = self.world[tree].root;
        let db = &mut self.db;
        // Keys that are records are in the same order as their bytes here.
        let is_index = self.records && self.world[tree].kind == INDEX;
        let compare = is_index && root.get().is_multiple_of(2);
        *self.cursors.entry(root.get()).or_insert_with(|| match compare {
            true => db.open_index_cursor(root, true, KeyInfo::new()).unwrap(),
            false => db.open_cursor(root, true).unwrap(),
        })
    }

    fn close_cursors(&mut self) {
        for cursor in std::mem::take(&mut self.cursors).into_values() {
            self.db.close_cursor(cursor);
        }
    }
}

/// Entries.
impl Run {
    fn payload(&mut self, size: usize) -> Vec<u8> {
        if !self.records {
            return self.random.bytes(size);
        }
        let header = match size {
            0..60 => 2,
            60..8190 => 3,
            _ => 4,
        };
        encode(&[blob(&self.random.bytes(size.saturating_sub(header)))])
    }

    fn key(&mut self, tree: usize, size: usize) -> OwnedKey {
        let random = &mut self.random;
        if self.world[tree].has_integer_keys() {
            return OwnedKey::Integer(match random.below(20) {
                0 => random.bits() as i64,
                1 => random.pick(&[i64::MIN, i64::MAX, -1, 0]),
                _ => random.below(3000) as i64 - 20,
            });
        }
        if self.records {
            // See `support::book` on the order of keys.
            let size = size.max(10) - if size < 60 { 2 } else { 4 };
            let mut key = (size as u32).to_be_bytes().to_vec();
            key.extend((random.below(1000) as u16).to_be_bytes());
            key.resize(size.max(6), b'k');
            return OwnedKey::Bytes(encode(&[blob(&key)]));
        }
        let mut key = random.below(2000).to_be_bytes()[6..].to_vec();
        key.resize(size, b'k');
        OwnedKey::Bytes(key)
    }

    /// A new entry for `tree`, whose payload is of the size that is liked now.
    fn entry(&mut self, tree: usize) -> (OwnedKey, Vec<u8>) {
        let size = self.taste.size(&mut self.random, self.limits);
        let (integers, has_data) =
            (self.world[tree].has_integer_keys(), self.world[tree].has_data());
        let for_key = match (integers, has_data) {
            (false, true) => self.random.below(size + 1),
            _ => size,
        };
        let key = self.key(tree, for_key);
        let data = match has_data {
            true if integers => self.payload(size),
            true => self.payload(size - for_key),
            false => Vec::new(),
        };
        (key, data)
    }

    fn present(&mut self, tree: usize) -> Option<OwnedKey> {
        let entries = &self.world[tree].entries;
        let index = self.random.below(entries.len());
        match self.random.below(4) {
            0 => entries.keys().next().cloned(),
            1 => entries.keys().next_back().cloned(),
            _ => entries.keys().nth(index).cloned(),
        }
    }

    fn try_insert(&mut self, tree: usize, key: &OwnedKey, data: &[u8]) -> Result<()> {
        let cursor = self.cursor(tree);
        let zeros = data.iter().rev().take_while(|&&byte| byte == 0).count();
        let data = &data[..data.len() - zeros];
        let hints = match self.random.below(4) {
            0 => InsertHints { behind_all: true, sought: None },
            1 => {
                let sought = self.db.seek(cursor, key.as_key())?;
                InsertHints { behind_all: false, sought: Some(sought) }
            }
            // A wrong hint costs time and does no harm.
            2 => {
                let (other, _) = self.entry(tree);
                let sought = self.db.seek(cursor, other.as_key())?;
                InsertHints { behind_all: self.random.percent(20), sought: Some(sought) }
            }
            _ => InsertHints::default(),
        };
        self.db.insert_with_hints(cursor, key.as_key(), data, zeros as u32, hints)
    }

    fn insert(&mut self, tree: usize) {
        let (mut key, data) = self.entry(tree);
        if self.random.percent(25)
            && let Some(present) = self.present(tree)
        {
            key = present;
        }
        self.try_insert(tree, &key, &data).unwrap();
        self.world[tree].entries.insert(key, data);
    }

    fn remove(&mut self, tree: usize) {
        let Some(key) = self.present(tree) else { return };
        let cursor = self.cursor(tree);
        assert!(self.db.seek(cursor, key.as_key()).unwrap().is_eq());
        self.db.delete(cursor).unwrap();
        self.world[tree].entries.remove(&key);
    }

    /// Many neighbours come or go, one after the other.
    fn row(&mut self, tree: usize) {
        let count = self.random.below(60);
        let forward = self.random.percent(50);
        let from = self.key(tree, 8);
        for step in 0..count as i64 {
            if self.growing {
                let (mut key, data) = self.entry(tree);
                if let (OwnedKey::Integer(key), OwnedKey::Integer(from)) = (&mut key, &from) {
                    *key = from.wrapping_add(if forward { step } else { -step });
                }
                self.try_insert(tree, &key, &data).unwrap();
                self.world[tree].entries.insert(key, data);
            } else {
                let entries = &mut self.world[tree].entries;
                let next = match forward {
                    true => entries.range(from.clone()..).next(),
                    false => entries.range(..from.clone()).next_back(),
                };
                let Some((key, _)) = next else { return };
                let key = key.clone();
                entries.remove(&key);
                let cursor = self.cursor(tree);
                assert!(self.db.seek(cursor, key.as_key()).unwrap().is_eq());
                self.db.delete(cursor).unwrap();
            }
        }
    }

    fn put_data(&mut self, tree: usize) {
        let Some(key) = self.present(tree) else { return };
        let data = self.world[tree].entries.get_mut(&key).unwrap();
        if data.is_empty() || self.records {
            return;
        }
        let start = self.random.below(data.len());
        let end = self.random.between(start, data.len());
        let bytes = self.random.bytes(end - start);
        data[start..end].copy_from_slice(&bytes);
        let cursor = self.cursor(tree);
        assert!(self.db.seek(cursor, key.as_key()).unwrap().is_eq());
        self.db.put_data(cursor, start as u32, &bytes).unwrap();
    }

    fn replace(&mut self, tree: usize) {
        let Some(old) = self.present(tree) else { return };
        let (new, data) = self.entry(tree);
        let cursor = self.cursor(tree);
        assert!(self.db.seek(cursor, old.as_key()).unwrap().is_eq());
        let entries = &mut self.world[tree].entries;
        let below = entries.range(..old.clone()).next_back().map(|(key, _)| key < &new);
        let above = (std::ops::Bound::Excluded(old.clone()), std::ops::Bound::Unbounded);
        let above = entries.range(above).next().map(|(key, _)| *key > new);
        let fits = below.unwrap_or(true) && above.unwrap_or(true);
        if self.db.replace(cursor, new.as_key(), &data, 0).unwrap() {
            assert!(fits, "{old:?} became {new:?}");
            entries.remove(&old);
            entries.insert(new, data);
        }
    }

    /// Searches, many of them at times, so that heads are made.
    fn look(&mut self, tree: usize) {
        let cursor = self.cursor(tree);
        for _ in 0..self.random.pick(&[1, 3, 50]) {
            let (mut key, _) = self.entry(tree);
            if self.random.percent(50)
                && let Some(present) = self.present(tree)
            {
                key = present;
            }
            let found = self.db.seek(cursor, key.as_key()).unwrap();
            let there = self.world[tree].entries.get(&key);
            assert_eq!(found.is_eq(), there.is_some(), "{key:?}");
            if let Some(data) = there {
                assert_eq!(&self.db.data(cursor).unwrap(), data);
            }
        }
    }
}

/// Trees, transactions, savepoints.
impl Run {
    fn create_tree(&mut self) {
        if self.world.len() >= 6 {
            return;
        }
        let kinds: &[u8] = if self.records { &[TABLE, INDEX] } else { &KINDS };
        let kind = self.random.pick(kinds);
        let root = self.db.create_table(kind).unwrap();
        if self.records {
            let name = format!("t{root}");
            let sql = match kind {
                TABLE => format!("CREATE TABLE {name}(a INTEGER PRIMARY KEY, b BLOB)"),
                _ => format!("CREATE TABLE {name}(k BLOB PRIMARY KEY) WITHOUT ROWID"),
            };
            let number = Field::Integer(i64::from(root.get()));
            let row = encode(&[text("table"), text(&name), text(&name), number, text(&sql)]);
            let schema = self.db.open_cursor(PageNumber::ONE, true).unwrap();
            self.db.insert(schema, Key::Integer(i64::from(root.get())), &row, 0).unwrap();
            self.db.close_cursor(schema);
        }
        // What was on the same page before is gone.
        if let Some(cursor) = self.cursors.remove(&root.get()) {
            self.db.close_cursor(cursor);
        }
        self.world.push(Tree { kind, root, entries: BTreeMap::new() });
    }

    fn drop_tree(&mut self, tree: usize) {
        if self.world.len() < 2 {
            return;
        }
        self.close_cursors();
        if self.world[tree].root == PageNumber::ONE {
            assert_eq!(self.db.drop_table(1), Ok(None));
            // It stays, and is of another kind.
            let tree = &mut self.world[tree];
            (tree.kind, tree.entries) = (1, BTreeMap::new());
            return;
        }
        let dropped = self.world.remove(tree);
        if let Some(moved) = self.db.drop_table(dropped.root.get()).unwrap() {
            let tree = self.world.iter_mut().find(|tree| tree.root == moved);
            tree.expect("the root that moved is one of ours").root = dropped.root;
        }
    }

    fn clear_tree(&mut self, tree: usize) {
        if self.random.percent(20) {
            let tree = &mut self.world[tree];
            let removed = self.db.clear_table(tree.root.get()).unwrap();
            assert_eq!(removed, tree.entries.len() as u64);
            tree.entries.clear();
        }
    }

    fn savepoint(&mut self) {
        let open = self.savepoints.len();
        match self.random.below(5) {
            0 | 1 if open < 6 => {
                // Some are opened together with others.
                let more = self.random.pick(&[1, 1, 1, 2]);
                self.db.open_savepoints(open + more).unwrap();
                self.savepoints.extend(std::iter::repeat_n(self.world.clone(), more));
            }
            2 if open > 0 => {
                let index = self.random.below(open);
                self.db.release_savepoint(index).unwrap();
                self.savepoints.truncate(index);
            }
            3 | 4 if open > 0 => {
                let index = self.random.below(open);
                self.undo_to(index);
            }
            _ => {}
        }
    }

    fn undo_to(&mut self, index: usize) {
        if let Err(error) = self.db.rollback_savepoint(Some(index)) {
            // Some errors leave only the rollback of all.
            assert!(matches!(error, Error::Io { .. } | Error::Full | Error::NoMemory), "{error:?}");
            self.roll_back();
            return self.db.begin(TransactionKind::Write).unwrap();
        }
        self.world = self.savepoints[index].clone();
        self.savepoints.truncate(index + 1);
        // A root may have gone, or have been another tree's.
        self.close_cursors();
    }

    /// Changes until one fails half-way, for want of pages or memory or for an error of the disk,
    /// and its savepoint, or one before, is undone; all, if that is asked for.
    fn fail_half_way(&mut self, tree: usize) {
        let open = self.savepoints.len();
        self.db.open_savepoints(open + 1).unwrap();
        self.savepoints.push(self.world.clone());
        self.cursor(tree);
        let pages = self.db.page_count();
        let reason = self.random.pick(&[Reason::Pages, Reason::Memory, Reason::Disk]);
        let chance = self.random.between(1, 60) as u32;
        match reason {
            Reason::Pages => drop(self.db.set_page_limit(pages + chance % 3)),
            Reason::Memory => drop(fail_nth(chance, 1 + chance % 2)),
            Reason::Disk => self.knobs.io_error_pending.store(chance as i32, Ordering::Relaxed),
        }
        let mut failed = false;
        for _ in 0..30 {
            let change = if self.random.percent(70) { Run::try_entry } else { Run::try_remove };
            if let Err(error) = change(self, tree) {
                let known = matches!(error, Error::Full | Error::NoMemory | Error::Io { .. });
                assert!(known, "{error:?}");
                failed = true;
                break;
            }
        }
        self.db.set_page_limit(u32::MAX - 1);
        fail_nth(0, 0);
        self.knobs.io_error_pending.store(0, Ordering::Relaxed);
        if failed {
            self.refused += 1;
            let index = self.random.between(0, open);
            let index = if self.random.percent(70) { open } else { index };
            self.undo_to(index);
        }
    }

    fn try_entry(&mut self, tree: usize) -> Result<()> {
        let (key, data) = self.entry(tree);
        self.try_insert(tree, &key, &data)?;
        self.world[tree].entries.insert(key, data);
        Ok(())
    }

    fn try_remove(&mut self, tree: usize) -> Result<()> {
        let Some(key) = self.present(tree) else { return Ok(()) };
        let cursor = self.cursor(tree);
        if self.db.seek(cursor, key.as_key())?.is_eq() {
            self.db.delete(cursor)?;
            self.world[tree].entries.remove(&key);
        }
        Ok(())
    }

    fn commit(&mut self) {
        self.db.commit().unwrap();
        self.committed = self.world.clone();
        self.savepoints.clear();
        let Some(directory) = &self.directory else { return };
        let path = self.disk.full_path(Path::new(FILE)).unwrap();
        let copy = directory.file(FILE);
        std::fs::write(&copy, self.disk.content(&path).unwrap()).unwrap();
        let answer = stock::integrity(&stock::open(&copy));
        assert_eq!(answer, "ok", "stock SQLite");
    }

    fn roll_back(&mut self) {
        self.db.rollback().unwrap();
        self.world = self.committed.clone();
        self.savepoints.clear();
        self.close_cursors();
    }

    fn check(&mut self) {
        let mut roots: Vec<_> = self.world.iter().map(|tree| i64::from(tree.root.get())).collect();
        if self.records {
            roots.push(1);
        }
        let lines = self.db.integrity_check(&roots, 10).unwrap();
        assert!(lines.is_empty(), "integrity check: {lines:?}");
        for tree in 0..self.world.len() {
            let id = self.cursor(tree);
            let mut cursor = self.db.lock_cursor(id).unwrap();
            let mut there = cursor.first().unwrap();
            for (key, data) in &self.world[tree].entries {
                assert!(there, "an entry is missing");
                match key {
                    OwnedKey::Integer(key) => assert_eq!(cursor.integer_key(), Ok(*key)),
                    OwnedKey::Bytes(key) => {
                        let found = cursor.key().unwrap();
                        assert!(
                            found == *key,
                            "{:x?} of {} for {:x?} of {}",
                            &found[..found.len().min(12)],
                            found.len(),
                            &key[..key.len().min(12)],
                            key.len()
                        );
                    }
                }
                assert!(cursor.data().unwrap() == *data);
                there = cursor.next().unwrap();
            }
            assert!(!there, "an entry too many");
        }
    }
}

#[test]
fn cells_near_every_limit() {
    let steps = number_from("TCLBTREE_OPERATIONS", 400);
    for seed in Seeds::from_environment(24) {
        let mut run = Run::new(seed);
        let outcome = catch_unwind(AssertUnwindSafe(|| run.all(steps)));
        let Run { form, step, records, refused, .. } = &run;
        println!("seed {seed}, {form:?}, records {records}: {refused} refused");
        assert!(outcome.is_ok(), "seed {seed}, {form:?} failed at step {step}");
    }
}
