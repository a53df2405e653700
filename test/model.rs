//! Random operations against a `BTreeMap`: trees of every kind, several cursors, savepoints,
//! rollbacks, commits; the integrity checker after every transaction, no page pinned at the end.
//!
//! `TCLBTREE_OPERATIONS` sets the operations per seed (10 000); seeds as in `support::Seeds`.
//! The model knows for each cursor which entry it is on and therefore where the next step leads,
//! whatever other cursors did to the tree in between (D194 to D198).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use support::book::Form;
use support::random::Random;
use support::tree::{KINDS, OwnedKey, Tree};
use support::{Seeds, number_from};
use tclbtree::format::{AutoVacuum, PageNumber};
use tclbtree::os::Vfs;
use tclbtree::{Btree, CursorId, Error, LockedCursor, MemoryVfs, TransactionKind};

/// With so many entries in all, trees begin to shrink.
const CROWDED: usize = 1000;

impl Tree {
    fn above(&self, key: &OwnedKey) -> Option<OwnedKey> {
        self.entries.range((Excluded(key), Unbounded)).next().map(|(key, _)| key.clone())
    }

    fn below(&self, key: &OwnedKey) -> Option<OwnedKey> {
        self.entries.range(..key).next_back().map(|(key, _)| key.clone())
    }
}

/// The trees by a number that is never used again.
type World = BTreeMap<u32, Tree>;

/// Where a cursor is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// On no entry: never placed, or run off an end.
    Nowhere,
    /// On the entry with this key.
    On(OwnedKey),
    /// Its entry was deleted; `asked`: the cursor was made to look for it since, so a further
    /// change of the tree makes the neighbourhood unpredictable.
    Gone { key: OwnedKey, asked: bool },
    /// Somewhere that no promise covers, as after an insert through this cursor.
    Unknown,
    /// Invalid since a rollback (D173).
    Dead,
}

#[derive(Debug)]
struct Cursor {
    id: CursorId,
    tree: u32,
    root: PageNumber,
    writable: bool,
    place: Place,
}

#[derive(Debug)]
struct Run {
    random: Random,
    form: Form,
    vfs: Arc<dyn Vfs>,
    name: PathBuf,
    db: Btree,
    world: World,
    committed: World,
    savepoints: Vec<World>,
    cursors: Vec<Cursor>,
    next_tree: u32,
    step: u64,
    growing: bool,
    /// The most entries that a tree has had, to see that the test is worth its time.
    largest: usize,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let form = Form {
            page_size: 512 << ((seed - 1) % 8),
            reserved: random.pick(&[0, 0, 8, 32]),
            auto_vacuum: match seed % 3 {
                0 => AutoVacuum::Full,
                1 => AutoVacuum::None,
                _ => AutoVacuum::Incremental,
            },
        };
        let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
        let name =
            PathBuf::from(random.pick(&["model.db", "model.db", "model.db", "", ":memory:"]));
        let db = form.open(Arc::clone(&vfs), &name, 10).unwrap();
        Run {
            random,
            form,
            vfs,
            name,
            db,
            world: World::new(),
            committed: World::new(),
            savepoints: Vec::new(),
            cursors: Vec::new(),
            next_tree: 0,
            step: 0,
            growing: true,
            largest: 0,
        }
    }

    fn page_size(&self) -> usize {
        self.form.page_size as usize
    }

    fn all(&mut self, operations: u64) {
        while self.step < operations {
            self.transaction();
        }
        self.close_all_cursors();
        self.compare_everything();
        assert_eq!(
            self.db.stats().pinned,
            0,
            "pages pinned at the end: {:?}",
            self.db.pinned_pages()
        );
    }

    fn transaction(&mut self) {
        self.db.begin(TransactionKind::Write).unwrap();
        self.savepoints.clear();
        // Trees grow over a while and shrink over a while, or they would stay small.
        let entries: usize = self.world.values().map(|tree| tree.entries.len()).sum();
        match entries {
            0..30 => self.growing = true,
            CROWDED.. => self.growing = false,
            _ => {}
        }
        for _ in 0..self.random.between(1, 50) {
            self.step += 1;
            self.operation();
        }
        if self.random.percent(75) {
            self.commit()
        } else {
            self.roll_back()
        }
        self.check();
        match self.random.below(24) {
            0 => self.compare_everything(),
            1 => {
                self.close_all_cursors();
                assert_eq!(self.db.stats().pinned, 0, "after closing all cursors");
                self.reopen();
            }
            2 => self.close_all_cursors(),
            _ => {}
        }
    }

    fn operation(&mut self) {
        let change = if self.growing { Run::insert } else { Run::delete };
        let other = if self.growing { Run::delete } else { Run::insert };
        match self.random.below(1000) {
            0..10 => self.create_tree(),
            10..13 => self.drop_tree(),
            13..16 => self.clear_tree(),
            16..40 => self.savepoint(),
            40..50 => self.vacuum_step(),
            50..150 => self.open_cursor(),
            150..160 => self.close_cursor(),
            160..560 => change(self),
            560..660 => other(self),
            660..750 => self.seek(),
            750..955 => self.walk(),
            955..980 => self.walk_locked(),
            _ => self.count(),
        }
    }

    fn commit(&mut self) {
        self.db.commit().unwrap();
        self.committed = self.world.clone();
        self.savepoints.clear();
        if self.form.auto_vacuum == AutoVacuum::Full {
            self.db.begin(TransactionKind::Read).unwrap();
            assert_eq!(self.db.free_pages().unwrap(), [], "free pages after a full vacuum");
            self.db.commit().unwrap();
        }
    }

    fn roll_back(&mut self) {
        self.db.rollback().unwrap();
        self.world = self.committed.clone();
        self.savepoints.clear();
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.writable) {
            cursor.place = Place::Dead;
        }
        self.after_undo();
    }

    /// Cursors over an undo look for their key again; those whose tree is gone are of no use.
    fn after_undo(&mut self) {
        let mut kept = Vec::new();
        for mut cursor in std::mem::take(&mut self.cursors) {
            // A cursor is bound to a root page, which may be that of another tree by now.
            let tree = self.world.get(&cursor.tree).filter(|tree| tree.root == cursor.root);
            let Some(tree) = tree else {
                self.db.close_cursor(cursor.id);
                continue;
            };
            cursor.place = match cursor.place {
                Place::On(key) | Place::Gone { key, asked: false } => {
                    if tree.entries.contains_key(&key) {
                        Place::On(key)
                    } else {
                        Place::Gone { key, asked: false }
                    }
                }
                Place::Gone { asked: true, .. } => Place::Unknown,
                place => place,
            };
            kept.push(cursor);
        }
        self.cursors = kept;
        self.visit_the_dead();
    }

    /// D173: a write cursor that was open over a rollback answers nothing any more.
    fn visit_the_dead(&mut self) {
        let (dead, alive) = std::mem::take(&mut self.cursors)
            .into_iter()
            .partition::<Vec<_>, _>(|cursor| cursor.place == Place::Dead);
        self.cursors = alive;
        for cursor in dead {
            assert!(self.db.is_at_end(cursor.id), "dead cursor");
            let answer = self.db.next(cursor.id);
            assert!(matches!(answer, Err(Error::Abort(_))), "dead cursor: {answer:?}");
            self.db.close_cursor(cursor.id);
        }
    }

    fn check(&mut self) {
        let mut roots = vec![1];
        roots.extend(self.world.values().map(|tree| i64::from(tree.root.get())));
        let lines = self.db.integrity_check(&roots, 10).unwrap();
        assert!(lines.is_empty(), "integrity check: {lines:?}");
    }

    fn reopen(&mut self) {
        if self.name.as_os_str() == "model.db" {
            self.db.rollback().unwrap();
            self.db = self.form.open(Arc::clone(&self.vfs), &self.name, 10).unwrap_or_else(|_| {
                // The settings of an existing file are fixed; that is no reason not to open it.
                Btree::open(Arc::clone(&self.vfs), &self.name, &self.form.options(10)).unwrap()
            });
        }
    }

    fn close_all_cursors(&mut self) {
        for cursor in self.cursors.drain(..) {
            self.db.close_cursor(cursor.id);
        }
    }

    fn compare_everything(&mut self) {
        self.db.begin(TransactionKind::Read).unwrap();
        for tree in self.committed.values() {
            let cursor = self.db.open_cursor(tree.root, false).unwrap();
            let mut expected = tree.entries.iter();
            let mut more = self.db.first(cursor).unwrap();
            while more {
                let (key, data) = expected.next().expect("an entry too many");
                assert_entry(&mut self.db, cursor, tree, key, data);
                more = self.db.next(cursor).unwrap();
            }
            assert_eq!(expected.next(), None, "entries missing");
            self.db.close_cursor(cursor);
        }
        self.db.commit().unwrap();
    }
}

/// Trees.
impl Run {
    fn create_tree(&mut self) {
        if self.world.len() >= 7 {
            return;
        }
        self.close_all_cursors();
        let kind = self.random.pick(&KINDS);
        let root = self.db.create_table(kind).unwrap();
        for tree in self.world.values() {
            assert_ne!(tree.root, root, "root handed out twice");
        }
        self.world.insert(self.next_tree, Tree { kind, root, entries: BTreeMap::new() });
        self.next_tree += 1;
    }

    fn drop_tree(&mut self) {
        let Some(number) = self.any_tree() else { return };
        self.close_all_cursors();
        let dropped = self.world.remove(&number).unwrap();
        if let Some(moved) = self.db.drop_table(dropped.root.get()).unwrap() {
            let tree = self.world.values_mut().find(|tree| tree.root == moved);
            tree.expect("the root that moved is one of ours").root = dropped.root;
        }
    }

    fn clear_tree(&mut self) {
        let Some(number) = self.any_tree() else { return };
        let tree = self.world.get_mut(&number).unwrap();
        let removed = self.db.clear_table(tree.root.get()).unwrap();
        assert_eq!(removed, tree.entries.len() as u64, "entries removed by clear");
        tree.entries.clear();
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.tree == number) {
            cursor.place = Place::Nowhere;
        }
    }

    fn vacuum_step(&mut self) {
        if self.form.auto_vacuum == AutoVacuum::Incremental {
            self.db.incremental_vacuum().unwrap();
        }
    }

    fn any_tree(&mut self) -> Option<u32> {
        let index = self.random.below(self.world.len());
        self.world.keys().nth(index).copied()
    }

    fn savepoint(&mut self) {
        let open = self.savepoints.len();
        match self.random.below(4) {
            0 | 1 if open < 4 => {
                self.db.open_savepoints(open + 1).unwrap();
                self.savepoints.push(self.world.clone());
            }
            2 if open > 0 => {
                let index = self.random.below(open);
                self.db.release_savepoint(index).unwrap();
                self.savepoints.truncate(index);
            }
            3 if open > 0 => {
                let index = self.random.below(open);
                self.db.rollback_savepoint(Some(index)).unwrap();
                self.world = self.savepoints[index].clone();
                self.savepoints.truncate(index + 1);
                self.after_undo();
            }
            3 if self.random.percent(20) => {
                self.db.rollback_savepoint(None).unwrap();
                self.world = self.committed.clone();
                self.savepoints.clear();
                self.after_undo();
            }
            _ => {}
        }
    }
}

/// Cursors.
impl Run {
    fn open_cursor(&mut self) {
        if self.cursors.len() >= 6 {
            return;
        }
        let Some(number) = self.any_tree() else { return };
        let writable = self.random.percent(70);
        let root = self.world[&number].root;
        let id = self.db.open_cursor(root, writable).unwrap();
        assert!(self.db.is_at_end(id), "a new cursor is on no entry");
        self.cursors.push(Cursor { id, tree: number, root, writable, place: Place::Nowhere });
    }

    fn close_cursor(&mut self) {
        if !self.cursors.is_empty() {
            let index = self.random.below(self.cursors.len());
            self.db.close_cursor(self.cursors.swap_remove(index).id);
        }
    }

    fn any_cursor(&mut self, writable: bool) -> Option<usize> {
        let fitting: Vec<_> = (0..self.cursors.len())
            .filter(|&index| self.cursors[index].writable || !writable)
            .collect();
        (!fitting.is_empty()).then(|| self.random.pick(&fitting))
    }

    /// A key for `tree`: often one that is there.
    fn any_key(&mut self, tree: u32, present: usize) -> OwnedKey {
        let page_size = self.page_size();
        let tree = &self.world[&tree];
        if self.random.percent(present) && !tree.entries.is_empty() {
            let index = self.random.below(tree.entries.len());
            return tree.entries.keys().nth(index).unwrap().clone();
        }
        if tree.has_integer_keys() {
            return OwnedKey::Integer(match self.random.below(40) {
                0 => self.random.pick(&[i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX]),
                1 => self.random.bits() as i64,
                _ => self.random.below(900) as i64 - 100,
            });
        }
        let number = self.random.below(900);
        let mut key = vec![b'a' + (number % 26) as u8];
        if number > 60 {
            key.extend((number as u16).to_be_bytes());
            let longest =
                if number.is_multiple_of(50) { page_size.min(9000) * 2 } else { page_size / 6 };
            let length = 3 + Random::new(number as u64).below(longest);
            key.resize(length, b'x');
        }
        OwnedKey::Bytes(key)
    }

    fn any_data(&mut self) -> Vec<u8> {
        let page_size = self.page_size();
        let length = match self.random.below(25) {
            0 => self.random.below(3 * page_size.min(12_000)),
            1..4 => page_size - self.random.below(50),
            4..8 => self.random.below(page_size / 3),
            8..11 => 0,
            _ => self.random.below(100),
        };
        self.random.bytes(length)
    }

    /// A tree is about to change: a lost position that was looked up once is unpredictable then.
    fn before_change(&mut self, tree: u32) {
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.tree == tree) {
            if matches!(cursor.place, Place::Gone { asked: true, .. }) {
                cursor.place = Place::Unknown;
            }
        }
    }

    fn insert(&mut self) {
        let Some(index) = self.any_cursor(true) else { return };
        let (id, number) = (self.cursors[index].id, self.cursors[index].tree);
        let key = self.any_key(number, 20);
        let mut data = self.any_data();
        let zeros = if self.random.percent(5) { self.random.below(2000) } else { 0 };
        self.before_change(number);
        self.db.insert(id, key.as_key(), &data, zeros as u32).unwrap();
        let tree = self.world.get_mut(&number).unwrap();
        data.resize(data.len() + zeros, 0);
        if !tree.has_data() {
            data.clear();
        }
        tree.entries.insert(key.clone(), data);
        self.largest = self.largest.max(tree.entries.len());
        self.cursors[index].place = Place::Unknown;
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.tree == number) {
            if cursor.place == (Place::Gone { key: key.clone(), asked: false }) {
                cursor.place = Place::On(key.clone());
            }
        }
    }

    fn delete(&mut self) {
        let Some(index) = self.any_cursor(true) else { return };
        let (id, number) = (self.cursors[index].id, self.cursors[index].tree);
        let key = match self.cursors[index].place.clone() {
            Place::On(key) => key,
            _ if self.world[&number].entries.is_empty() => return,
            _ => {
                let key = self.any_key(number, 100);
                assert_eq!(self.db.seek(id, key.as_key()).unwrap(), Ordering::Equal);
                key
            }
        };
        self.before_change(number);
        self.db.delete(id).unwrap();
        self.world.get_mut(&number).unwrap().entries.remove(&key).expect("it was there");
        self.cursors[index].place = Place::Unknown;
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.tree == number) {
            if cursor.place == Place::On(key.clone()) {
                cursor.place = Place::Gone { key: key.clone(), asked: false };
            }
        }
    }

    fn seek(&mut self) {
        let Some(index) = self.any_cursor(false) else { return };
        let (id, number) = (self.cursors[index].id, self.cursors[index].tree);
        let wanted = self.any_key(number, 50);
        let order = self.db.seek(id, wanted.as_key()).unwrap();
        let tree = &self.world[&number];
        let landed = if tree.entries.is_empty() {
            assert_eq!(order, Ordering::Less, "seek in an empty tree (L50011)");
            None
        } else if tree.entries.contains_key(&wanted) {
            assert_eq!(order, Ordering::Equal, "seek of a key that is there (L50008)");
            Some(wanted)
        } else if order == Ordering::Less {
            Some(tree.below(&wanted).expect("nothing below the key (L50010)"))
        } else {
            assert_eq!(order, Ordering::Greater, "seek of a key that is not there");
            Some(tree.above(&wanted).expect("nothing above the key (L50010)"))
        };
        self.arrive(index, landed);
    }

    fn walk(&mut self) {
        let Some(index) = self.any_cursor(false) else { return };
        let (id, number) = (self.cursors[index].id, self.cursors[index].tree);
        let tree = &self.world[&number];
        let place = self.cursors[index].place.clone();
        let (answer, expected) = match (self.random.below(9), place) {
            (0, _) => (self.db.first(id), tree.entries.keys().next().cloned()),
            (1, _) => (self.db.last(id), tree.entries.keys().next_back().cloned()),
            (2, place) if place != Place::Unknown => return self.ask_whether_moved(index),
            (3..6, Place::On(key) | Place::Gone { key, .. }) => {
                (self.db.next(id), tree.above(&key))
            }
            (_, Place::On(key) | Place::Gone { key, .. }) => {
                (self.db.previous(id), tree.below(&key))
            }
            (3..6, Place::Nowhere) => (self.db.next(id), None),
            (_, Place::Nowhere) => (self.db.previous(id), None),
            _ => (self.db.first(id), tree.entries.keys().next().cloned()),
        };
        assert_eq!(answer.unwrap(), expected.is_some(), "step of {:?}", self.cursors[index]);
        self.arrive(index, expected);
    }

    /// Many moves and looks through a locked cursor; afterwards the cursor must be where those
    /// ended.
    fn walk_locked(&mut self) {
        let Some(index) = self.any_cursor(false) else { return };
        let (id, number) = (self.cursors[index].id, self.cursors[index].tree);
        let tree = self.world[&number].clone();
        let mut here = match self.cursors[index].place.clone() {
            Place::On(key) => Some(key),
            _ => None,
        };
        let is_known = here.is_some();
        let mut cursor = self.db.lock_cursor(id).unwrap();
        for step in 0..self.random.below(60) {
            // A cursor in the middle of nowhere is put somewhere first.
            let choice = if step == 0 && !is_known { 0 } else { self.random.below(20) };
            let (answer, expected) = match (choice, &here) {
                (0, _) => (cursor.first().unwrap(), tree.entries.keys().next().cloned()),
                (1, _) => (cursor.last().unwrap(), tree.entries.keys().next_back().cloned()),
                (2..10, Some(key)) => (cursor.next().unwrap(), tree.above(key)),
                (10..17, Some(key)) => (cursor.previous().unwrap(), tree.below(key)),
                (_, Some(key)) => {
                    // In order: this key, and often the one behind it.
                    let wanted = tree.above(key).filter(|_| choice < 19).unwrap_or(key.clone());
                    (cursor.seek(wanted.as_key()).unwrap().is_eq(), Some(wanted))
                }
                (_, None) => (cursor.next().unwrap(), None),
            };
            assert_eq!(answer, expected.is_some(), "locked step {step} ({choice})");
            assert_eq!(cursor.is_at_end(), expected.is_none());
            here = expected;
            if let Some(key) = &here {
                assert_locked_entry(&mut cursor, key, &tree.entries[key]);
            }
        }
        drop(cursor);
        if is_known || here.is_some() {
            self.arrive(index, here);
        } else if self.cursors[index].place != Place::Dead {
            self.cursors[index].place = Place::Unknown;
        }
    }

    /// D194.
    fn ask_whether_moved(&mut self, index: usize) {
        let cursor = &mut self.cursors[index];
        let moved = self.db.cursor_has_moved(cursor.id).unwrap();
        assert_eq!(moved, !matches!(cursor.place, Place::On(_)), "moved: {cursor:?}");
        if let Place::Gone { asked, .. } = &mut cursor.place {
            *asked = true;
        }
    }

    /// The cursor must be on the entry with key `key` now, or on none.
    fn arrive(&mut self, index: usize, key: Option<OwnedKey>) {
        let cursor = &mut self.cursors[index];
        assert_eq!(self.db.is_at_end(cursor.id), key.is_none(), "eof of {cursor:?}");
        cursor.place = match key {
            Some(key) => {
                let tree = &self.world[&cursor.tree];
                assert_entry(&mut self.db, cursor.id, tree, &key, &tree.entries[&key]);
                Place::On(key)
            }
            None => Place::Nowhere,
        };
    }

    fn count(&mut self) {
        let Some(index) = self.any_cursor(false) else { return };
        let cursor = &mut self.cursors[index];
        let expected = self.world[&cursor.tree].entries.len() as u64;
        assert_eq!(self.db.count(cursor.id).unwrap(), expected, "count of {cursor:?}");
        cursor.place = Place::Unknown;
    }
}

/// Compares everything that can be read of the entry under `cursor`.
fn assert_entry(db: &mut Btree, cursor: CursorId, tree: &Tree, key: &OwnedKey, data: &[u8]) {
    let key_length = match key {
        OwnedKey::Integer(key) => {
            assert_eq!(db.integer_key(cursor).unwrap(), *key, "integer key");
            assert_eq!(db.key_size(cursor).unwrap(), *key as u64);
            0
        }
        OwnedKey::Bytes(key) => {
            assert!(db.key(cursor).unwrap() == *key, "key bytes");
            assert_eq!(db.key_size(cursor).unwrap(), key.len() as u64);
            let half = key.len() / 2;
            let mut tail = vec![0; key.len() - half];
            db.read_key(cursor, half as u32, &mut tail).unwrap();
            assert!(tail == key[half..], "second half of the key");
            let local = db.local_key(cursor).unwrap();
            assert!(key.starts_with(local), "local part of the key");
            key.len()
        }
    };
    assert!(db.data(cursor).unwrap() == data, "data bytes of kind {}", tree.kind);
    assert_eq!(db.data_size(cursor).unwrap() as usize, data.len());
    assert_eq!(db.payload_size(cursor).unwrap() as usize, key_length + data.len());
    let third = data.len() / 3;
    let mut middle = vec![0; third];
    db.read_data(cursor, third as u32, &mut middle).unwrap();
    assert!(middle == data[third..2 * third], "middle of the data");
    assert!(data.starts_with(db.local_data(cursor).unwrap()), "local part of the data");
}

/// Compares what a locked cursor can read of its entry, the whole of it in one piece or by parts.
fn assert_locked_entry(cursor: &mut LockedCursor<'_>, key: &OwnedKey, data: &[u8]) {
    let (number, bytes) = match key {
        OwnedKey::Integer(key) => (*key, &[][..]),
        OwnedKey::Bytes(key) => (0, &key[..]),
    };
    let payload = [bytes, data].concat();
    if let Some((key, local)) = cursor.local_entry().unwrap() {
        assert!((key, local) == (number, &payload[..]), "local entry");
    }
    assert_eq!(cursor.integer_key().unwrap(), number);
    assert_eq!(cursor.payload_size().unwrap() as usize, payload.len());
    assert!(cursor.key().unwrap() == bytes, "key bytes");
    assert!(cursor.data().unwrap() == data, "data bytes");
}

#[test]
fn random_operations_agree_with_a_map() {
    let operations = number_from("TCLBTREE_OPERATIONS", 10_000);
    for seed in Seeds::from_environment(40) {
        let mut run = Run::new(seed);
        let outcome = catch_unwind(AssertUnwindSafe(|| run.all(operations)));
        let Run { form, name, step, largest, .. } = &run;
        println!("seed {seed}, {form:?}, {name:?}: largest tree {largest} entries");
        assert!(outcome.is_ok(), "seed {seed}, {form:?}, {name:?} failed at operation {step}");
    }
}
