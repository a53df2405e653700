//! Appending, where the leaf of the last append is tried first, with everything in between that can
//! make another leaf the right-most one.

use std::collections::BTreeMap;

use crate::btree::store::testing::{database, entries, fill, peek};
use crate::btree::{Btree, CursorId, INDEX, Key, TABLE, TransactionKind};
use crate::format::{AutoVacuum, PageNumber};

/// A tree with the keys 1, 2, 3 and so on, as integers or as big-endian bytes, and what it should
/// hold.
struct Tree {
    db: Btree,
    root: PageNumber,
    integers: bool,
    /// One or two; the short way is for one alone.
    cursors: Vec<CursorId>,
    entries: BTreeMap<u32, usize>,
}

/// Key `number` as bytes, long enough that a page of 512 bytes holds few.
fn bytes_of(number: u32, size: usize) -> Vec<u8> {
    let mut key = number.to_be_bytes().to_vec();
    key.resize(4 + size, number as u8);
    key
}

impl Tree {
    fn open_cursors(db: &mut Btree, root: PageNumber, count: usize) -> Vec<CursorId> {
        (0..count).map(|_| db.open_cursor(root, true).unwrap()).collect()
    }

    fn new(kind: u8, auto_vacuum: AutoVacuum, cursors: usize) -> Tree {
        let mut db = database(512, auto_vacuum);
        let root = db.create_table(kind).unwrap();
        let cursors = Tree::open_cursors(&mut db, root, cursors);
        Tree { db, root, integers: kind == TABLE, cursors, entries: BTreeMap::new() }
    }

    fn append(&mut self, cursor: usize, size: usize) {
        let number = self.entries.last_key_value().map_or(1, |(last, _)| last + 1);
        self.insert(cursor, number, size);
    }

    /// Puts an entry back that was deleted, between others.
    fn fill_a_gap(&mut self, cursor: usize, size: usize) {
        let last = self.entries.last_key_value().map_or(1, |(last, _)| *last);
        let gap = (1..last).rev().find(|number| !self.entries.contains_key(number));
        if let Some(number) = gap {
            self.insert(cursor, number, size);
        }
    }

    fn insert(&mut self, cursor: usize, number: u32, size: usize) {
        let (id, bytes) = (self.cursors[cursor], bytes_of(number, size));
        match self.integers {
            true => self.db.insert(id, Key::Integer(number.into()), &bytes, 0).unwrap(),
            false => self.db.insert(id, Key::Bytes(&bytes), &[], 0).unwrap(),
        }
        self.entries.insert(number, size);
    }

    fn seek(&mut self, cursor: usize, number: u32, size: usize) {
        let id = self.cursors[cursor];
        let found = match self.integers {
            true => self.db.seek(id, Key::Integer(number.into())),
            false => self.db.seek(id, Key::Bytes(&bytes_of(number, size))),
        };
        assert!(found.unwrap().is_eq(), "entry {number} is not found");
    }

    fn delete(&mut self, cursor: usize, number: u32) {
        let size = self.entries.remove(&number).unwrap();
        self.seek(cursor, number, size);
        self.db.delete(self.cursors[cursor]).unwrap();
    }

    /// Looks for the last entries, as often as it takes for their leaf to learn its keys by heart.
    fn look_for_the_last(&mut self, cursor: usize) {
        let last: Vec<_> = self.entries.iter().rev().take(9).map(|(&n, &size)| (n, size)).collect();
        for &(number, size) in last.iter().chain(&last) {
            self.seek(cursor, number, size);
        }
    }

    /// After a rollback the cursors are gone.
    fn reopen_cursors(&mut self) {
        let count = self.cursors.len();
        for cursor in self.cursors.drain(..) {
            self.db.close_cursor(cursor);
        }
        self.cursors = Tree::open_cursors(&mut self.db, self.root, count);
    }

    fn compare(&mut self) {
        let roots = [1, i64::from(self.root.get())];
        assert_eq!(self.db.integrity_check(&roots, 9), Ok(Vec::new()));
        let mut cursor = self.db.lock_cursor(self.cursors[0]).unwrap();
        let mut on_entry = cursor.first().unwrap();
        for (&number, &size) in &self.entries {
            assert!(on_entry, "entry {number} is missing");
            let bytes = if self.integers { cursor.data() } else { cursor.key() };
            assert_eq!(bytes, Ok(bytes_of(number, size)));
            on_entry = cursor.next().unwrap();
        }
        assert!(!on_entry, "an entry too many");
    }
}

#[test]
fn appends_go_behind_the_last_entry_whatever_happened_since() {
    for seed in 0..48u64 {
        let kind = if seed % 2 == 0 { TABLE } else { INDEX };
        let auto_vacuum = if seed % 3 == 0 { AutoVacuum::Incremental } else { AutoVacuum::None };
        let cursors = 1 + u64::from(seed % 4 > 1);
        let mut tree = Tree::new(kind, auto_vacuum, cursors as usize);
        let mut state = seed;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
            (state >> 33) % bound
        };
        for _ in 0..400 {
            let (cursor, size) = (below(cursors) as usize, [0, 9, 40, 90, 700][below(5) as usize]);
            let last = tree.entries.last_key_value().map(|(last, _)| *last);
            match (below(14), last) {
                (0, Some(last)) => tree.delete(cursor, last),
                (1, Some(_)) => {
                    let number =
                        *tree.entries.keys().nth(below(9) as usize % tree.entries.len()).unwrap();
                    tree.delete(cursor, number);
                }
                (2, Some(last)) if below(4) == 0 => {
                    // From the end, so that pages there go.
                    for number in (last / 2..=last).rev() {
                        if tree.entries.contains_key(&number) {
                            tree.delete(cursor, number);
                        }
                    }
                    while tree.db.incremental_vacuum().unwrap() {}
                }
                (3, _) => {
                    let before = tree.entries.clone();
                    tree.db.open_savepoints(1).unwrap();
                    for _ in 0..below(30) {
                        tree.append(cursor, size);
                    }
                    tree.db.rollback_savepoint(Some(0)).unwrap();
                    tree.db.release_savepoint(0).unwrap();
                    tree.entries = before;
                    tree.reopen_cursors();
                }
                (4, _) if below(8) == 0 => {
                    tree.db.clear_table(tree.root.get()).unwrap();
                    tree.entries.clear();
                }
                (5, _) => {
                    tree.db.commit().unwrap();
                    tree.db.begin(TransactionKind::Write).unwrap();
                    tree.reopen_cursors();
                }
                (8, _) => {
                    tree.append(cursor, size);
                    tree.fill_a_gap(cursor, size);
                }
                (6 | 7, _) => tree.look_for_the_last(cursor),
                _ => (0..below(6)).for_each(|_| tree.append(cursor, size)),
            }
        }
        tree.compare();
    }
}

/// Records are replaced in place where they may be, whatever becomes of their size.
#[test]
fn a_record_takes_the_place_of_another() {
    let mut db = database(512, AutoVacuum::Full);
    let root = db.create_table(INDEX).unwrap();
    let cursor = db.open_cursor(root, true).unwrap();
    let mut entries = BTreeMap::new();
    for number in 0..300u32 {
        db.insert(cursor, Key::Bytes(&bytes_of(2 * number, 30)), &[], 0).unwrap();
        entries.insert(2 * number, bytes_of(2 * number, 30));
    }
    for number in 0..300u32 {
        let number = number * 7 % 300 * 2;
        assert!(db.seek(cursor, Key::Bytes(&entries[&number])).unwrap().is_eq());
        // Beyond its neighbours, and, every other time, of another size.
        if number < 598 {
            assert!(!db.replace(cursor, Key::Bytes(&bytes_of(number + 3, 9)), &[], 0).unwrap());
        }
        let mut record = bytes_of(number, [30, 90, 700, 2][number as usize / 2 % 4]);
        record.push(b'x');
        assert!(db.replace(cursor, Key::Bytes(&record), &[], 0).unwrap());
        entries.insert(number, record);
    }
    let mut found = Vec::new();
    let mut there = db.first(cursor).unwrap();
    while there {
        found.push(db.key(cursor).unwrap());
        there = db.next(cursor).unwrap();
    }
    assert_eq!(found, entries.into_values().collect::<Vec<_>>());
    assert_eq!(db.integrity_check(&[1, i64::from(root.get())], 10).unwrap(), [""; 0]);
    db.close_cursor(cursor);
    assert!(db.replace(cursor, Key::Bytes(b"x"), &[], 0).is_err());
}

/// What is replaced anywhere does not become the place behind all others.
#[test]
fn an_append_after_a_replacement_goes_to_the_end() {
    let mut db = database(512, AutoVacuum::None);
    let root = db.create_table(INDEX).unwrap();
    let cursor = db.open_cursor(root, true).unwrap();
    for number in 0..60 {
        db.insert(cursor, Key::Bytes(&bytes_of(number, 30)), &[], 0).unwrap();
    }
    // The first leaf gets room.
    for number in [1, 2] {
        assert!(db.seek(cursor, Key::Bytes(&bytes_of(number, 30))).unwrap().is_eq());
        db.delete(cursor).unwrap();
    }
    let mut replacement = bytes_of(0, 29);
    replacement.push(b'x');
    assert!(db.seek(cursor, Key::Bytes(&bytes_of(0, 30))).unwrap().is_eq());
    assert!(db.replace(cursor, Key::Bytes(&replacement), &[], 0).unwrap());
    db.insert(cursor, Key::Bytes(&bytes_of(60, 30)), &[], 0).unwrap();
    assert!(db.last(cursor).unwrap());
    assert_eq!(db.key(cursor), Ok(bytes_of(60, 30)));
}

/// Nor does a leaf that was the last one before somebody wrote pages past the trees.
#[test]
fn an_append_after_pages_were_exchanged_goes_to_the_end() {
    let mut db = database(512, AutoVacuum::None);
    let [first, second] = [1, 100].map(|start| {
        let root = db.create_table(TABLE).unwrap();
        fill(&mut db, root, start..start + 40, 30);
        root
    });
    // From now on this cursor knows where the last leaf of the second tree is.
    let cursor = db.open_cursor(second, true).unwrap();
    for key in [200, 201] {
        db.insert(cursor, Key::Integer(key), b"x", 0).unwrap();
    }
    // The right-most leaves of both trees change places.
    let roots = [first, second].map(PageNumber::get);
    let leaves =
        roots.map(|root| u32::from_be_bytes(*peek(&mut db, root)[8..].first_chunk().unwrap()));
    let mut new = Vec::new();
    for (one, other) in [(0, 1), (1, 0)] {
        let mut root = peek(&mut db, roots[one]);
        root[8..12].copy_from_slice(&leaves[other].to_be_bytes());
        let leaf = peek(&mut db, leaves[one]);
        for (number, bytes) in [(roots[one], root), (leaves[other], leaf)] {
            db.hold_page(number).unwrap();
            new.push((number, bytes));
        }
    }
    for (number, bytes) in new {
        db.write_page(number, &bytes).unwrap();
        db.let_page_go(number);
    }
    db.insert(cursor, Key::Integer(202), b"x", 0).unwrap();
    assert!(db.last(cursor).unwrap());
    assert_eq!(db.integer_key(cursor), Ok(202));
    db.close_cursor(cursor);
    assert_eq!(entries(&mut db, first).len(), 40);
}

/// Entries of an index that are replaced by others of their size stay where they are, also those on
/// interior pages: no page comes or goes, and one that belongs elsewhere is refused.
#[test]
fn entries_on_interior_pages_are_replaced_where_they_are() {
    let mut db = database(512, AutoVacuum::None);
    let root = db.create_table(0).unwrap();
    let cursor = db.open_cursor(root, true).unwrap();
    let entry = |number: u32, tail: &str| format!("{number:05}{tail}{:*<30}", "");
    for number in 0..600 {
        db.insert(cursor, Key::Bytes(entry(number, "a").as_bytes()), &[], 0).unwrap();
    }
    let pages = db.page_count();
    for number in 0..600 {
        let (old, new) = (entry(number, "a"), entry(number, "b"));
        for (elsewhere, key) in [(number + 1, "b"), (number + 2, "a")] {
            assert!(db.seek(cursor, Key::Bytes(old.as_bytes())).unwrap().is_eq());
            let wrong = entry(elsewhere, key);
            let replaced = db.replace(cursor, Key::Bytes(wrong.as_bytes()), &[], 0).unwrap();
            // Behind the last one nothing is in the way.
            assert_eq!(replaced, number == 599, "{number}");
            if replaced {
                db.seek(cursor, Key::Bytes(wrong.as_bytes())).unwrap();
                assert!(db.replace(cursor, Key::Bytes(old.as_bytes()), &[], 0).unwrap());
            }
        }
        assert!(db.seek(cursor, Key::Bytes(old.as_bytes())).unwrap().is_eq());
        assert!(db.replace(cursor, Key::Bytes(new.as_bytes()), &[], 0).unwrap(), "{number}");
        assert!(db.seek(cursor, Key::Bytes(new.as_bytes())).unwrap().is_eq());
    }
    assert_eq!(db.page_count(), pages);
    let complaints = db.integrity_check(&[1, i64::from(root.get())], 10).unwrap();
    assert_eq!(complaints, [""; 0]);
}
