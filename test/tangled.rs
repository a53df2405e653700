//! Damaged files in which a page is two things at once: free and in use, in a tree and in a chain,
//! in two trees; in which chains and trees lead in circles, and cells overlap.
//!
//! Many changes are made to such a file, in nested savepoints, with a cache so small that pages
//! are written early. They may fail, with a code that damage explains; there is no panic, no hang,
//! and no pin left. And what is undone is undone: after a rollback, of a savepoint or of all, every
//! page that was not free has the bytes that it had.
//!
//! Each case has its number as seed; seeds as in `support::Seeds`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use support::book::Form;
use support::random::Random;
use support::{Seeds, cases};
use tclbtree::format::{AutoVacuum, PageNumber};
use tclbtree::os::Vfs;
use tclbtree::{Btree, CursorId, Error, Key, MemoryVfs, Result, TransactionKind};

/// Keys of every tree.
const KEYS: i64 = 400;

/// A sound database, the roots of its trees, and what its pages are.
struct Sample {
    form: Form,
    bytes: Vec<u8>,
    roots: Vec<PageNumber>,
    /// Where numbers of pages stand: children, first pages of chains, next pages of chains, and
    /// the free list.
    links: Vec<usize>,
    /// Where the b-tree part of each page of a tree begins.
    nodes: Vec<usize>,
}

impl Sample {
    fn new(form: Form) -> Sample {
        let disk = Arc::new(MemoryVfs::new());
        let mut random = Random::new(u64::from(form.page_size));
        let mut db = form.open(Arc::clone(&disk) as _, Path::new("t.db"), 100).unwrap();
        db.begin(TransactionKind::Write).unwrap();
        let roots: Vec<_> =
            [5, 2, 0, 1, 5, 2].iter().map(|&kind| db.create_table(kind).unwrap()).collect();
        for &root in &roots {
            let cursor = db.open_cursor(root, true).unwrap();
            for number in 0..KEYS / 2 {
                put(&mut db, cursor, 2 * number, &mut random, form).unwrap();
            }
            for number in (0..KEYS / 4).filter(|number| number % 5 > 1) {
                if seek(&mut db, cursor, 2 * number).unwrap().is_eq() {
                    db.delete(cursor).unwrap();
                }
            }
            db.close_cursor(cursor);
        }
        db.commit().unwrap();
        let mut sample =
            Sample { form, bytes: Vec::new(), roots, links: Vec::new(), nodes: Vec::new() };
        db.begin(TransactionKind::Read).unwrap();
        for root in sample.roots.clone() {
            sample.note_tree(&mut db, root);
        }
        db.commit().unwrap();
        db.close();
        sample.bytes = disk.content(&path(&disk)).unwrap();
        sample.note_free_list();
        sample
    }

    fn size(&self) -> usize {
        self.form.page_size as usize
    }

    fn start_of(&self, page: u32) -> usize {
        (page as usize - 1) * self.size()
    }

    fn note_tree(&mut self, db: &mut Btree, page: PageNumber) {
        let start = self.start_of(page.get());
        let details = db.page_details(page).unwrap();
        self.nodes.push(start);
        let mut children = Vec::new();
        for cell in &details.cells {
            let at = start + cell.offset as usize;
            if cell.child != 0 {
                self.links.push(at);
                children.push(cell.child);
            }
            if cell.overflow != 0 {
                self.links.push(at + cell.size as usize - 4);
                let capacity = self.size() as u32 - u32::from(self.form.reserved) - 4;
                let pages = (cell.payload - cell.local).div_ceil(capacity);
                let mut next = cell.overflow;
                for _ in 0..pages {
                    self.links.push(self.start_of(next));
                    db.hold_page(next).unwrap();
                    let bytes = *db.page_bytes(next).unwrap().first_chunk().unwrap();
                    db.let_page_go(next);
                    next = u32::from_be_bytes(bytes);
                }
            }
        }
        if details.right_child != 0 {
            self.links.push(start + 8);
            children.push(details.right_child);
        }
        for child in children {
            self.note_tree(db, PageNumber::new(child).unwrap());
        }
    }

    fn note_free_list(&mut self) {
        let mut trunk = self.number_at(32);
        self.links.push(32);
        while trunk != 0 {
            let start = self.start_of(trunk);
            let leaves = self.number_at(start + 4) as usize;
            self.links.push(start);
            self.links.extend((0..leaves).map(|leaf| start + 8 + 4 * leaf));
            trunk = self.number_at(start);
        }
    }

    fn number_at(&self, at: usize) -> u32 {
        u32::from_be_bytes(*self.bytes[at..].first_chunk().unwrap())
    }

    /// The file with one to three injuries.
    fn damaged(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let pages = bytes.len() / self.size();
        for _ in 0..random.between(1, 3) {
            let link = random.pick(&self.links);
            match random.below(8) {
                0..3 => {
                    // To where another leads.
                    let other = self.number_at(random.pick(&self.links));
                    bytes[link..link + 4].copy_from_slice(&other.to_be_bytes());
                }
                3 => {
                    // To the page on which it stands, or one of those there.
                    let page = link / self.size() + 1;
                    bytes[link..link + 4].copy_from_slice(&(page as u32).to_be_bytes());
                }
                4 => {
                    let page = (random.pick(&self.nodes) / self.size() + 1) as u32;
                    bytes[link..link + 4].copy_from_slice(&page.to_be_bytes());
                }
                5 => {
                    let page = random.pick(&[0, 1, 2, 3, pages as u32, pages as u32 + 1, u32::MAX]);
                    bytes[link..link + 4].copy_from_slice(&page.to_be_bytes());
                }
                _ => self.damage_node(&mut bytes, random),
            }
        }
        bytes
    }

    /// Makes cells overlap, or sums untrue.
    fn damage_node(&self, bytes: &mut [u8], random: &mut Random) {
        let node = random.pick(&self.nodes);
        let page = &mut bytes[node..node + self.size()];
        let number = |page: &[u8], at| usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
        let count = number(page, 3).max(1);
        let pointers = if page[0] & 8 == 0 { 12 } else { 8 };
        let one = pointers + 2 * random.below(count);
        let other = pointers + 2 * random.below(count);
        let near = |at: usize, random: &mut Random| (at + random.below(9)).saturating_sub(4);
        let (at, value) = match random.below(6) {
            0 => (3, random.below(count + 3)),
            1 => (5, near(number(page, 5), random)),
            2 => (one, number(page, other)),
            3 => (one, near(number(page, other), random)),
            4 => (1, number(page, one)),
            _ => {
                // The first byte of a cell: a length, or a part of a child.
                let at = number(page, one).min(page.len() - 2);
                (at, random.pick(&[0, 0x0100, 0x7f00, 0x8100, 0xffff, 0x8420]))
            }
        };
        page[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
    }
}

fn path(disk: &MemoryVfs) -> PathBuf {
    disk.full_path(Path::new("t.db")).unwrap()
}

fn name(number: i64) -> Vec<u8> {
    let mut name = format!("{number:04} ").into_bytes();
    let length = match number % 16 {
        0 => 700,
        1 | 2 => 90,
        _ => number as usize % 23,
    };
    name.resize(5 + length, b'k');
    name
}

fn seek(db: &mut Btree, cursor: CursorId, number: i64) -> Result<std::cmp::Ordering> {
    match db.has_integer_keys(cursor)? {
        true => db.seek(cursor, Key::Integer(number)),
        false => db.seek(cursor, Key::Bytes(&name(number))),
    }
}

fn put(
    db: &mut Btree,
    cursor: CursorId,
    number: i64,
    random: &mut Random,
    form: Form,
) -> Result<()> {
    let page_size = form.page_size as usize;
    let length = match random.below(12) {
        0 => random.below(4 * page_size),
        1 | 2 => page_size / 4,
        _ => random.below(60),
    };
    let data = random.bytes(length);
    match db.has_integer_keys(cursor)? {
        true => db.insert(cursor, Key::Integer(number), &data, 0),
        false => db.insert(cursor, Key::Bytes(&name(number)), &data, 0),
    }
}

/// An error that a damaged file explains; the others are defects.
fn accept<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(
            Error::Corrupt { .. }
            | Error::NoMemory
            | Error::Full
            | Error::State(_)
            | Error::Abort(_),
        ) => None,
        Err(error) => panic!("damage does not explain {error:?}"),
    }
}

/// All pages but those that are free, as they are now. `None` if nobody can tell which are free.
struct Snapshot {
    pages: Vec<Option<Vec<u8>>>,
}

impl Snapshot {
    fn of(db: &mut Btree) -> Option<Snapshot> {
        let free: BTreeSet<u32> = db.free_pages().ok()?.iter().map(|page| page.get()).collect();
        let count = db.page_count();
        let pages = (1..=count).map(|number| {
            if free.contains(&number) || db.hold_page(number).is_err() {
                return None;
            }
            let bytes = db.page_bytes(number).unwrap().to_vec();
            db.let_page_go(number);
            Some(bytes)
        });
        Some(Snapshot { pages: pages.collect() })
    }

    fn compare(&self, db: &mut Btree, what: &str) {
        assert_eq!(db.page_count() as usize, self.pages.len(), "pages after {what}");
        for (number, expected) in (1..).zip(&self.pages) {
            let Some(expected) = expected else { continue };
            db.hold_page(number).unwrap();
            let same = db.page_bytes(number).unwrap() == expected;
            db.let_page_go(number);
            assert!(same, "page {number} after {what}");
        }
    }
}

struct Run<'s> {
    sample: &'s Sample,
    random: Random,
    db: Btree,
    savepoints: Vec<Option<Snapshot>>,
    cursors: Vec<CursorId>,
}

impl Run<'_> {
    fn transaction(&mut self) {
        if accept(self.db.begin(TransactionKind::Write)).is_none() {
            return;
        }
        let before = Snapshot::of(&mut self.db);
        for _ in 0..self.random.between(10, 120) {
            self.operation();
        }
        self.close_cursors();
        self.savepoints.clear();
        let committed = self.random.percent(20) && accept(self.db.commit()).is_some();
        if !committed {
            accept(self.db.rollback());
            if accept(self.db.begin(TransactionKind::Read)).is_some() {
                if let Some(before) = before {
                    before.compare(&mut self.db, "rollback");
                }
                accept(self.db.commit());
            }
        }
        assert_eq!(self.db.stats().pinned, 0, "pinned: {:?}", self.db.pinned_pages());
    }

    fn close_cursors(&mut self) {
        for cursor in self.cursors.drain(..) {
            self.db.close_cursor(cursor);
        }
    }

    fn cursor(&mut self) -> Option<CursorId> {
        if self.cursors.len() < 4 && self.random.percent(30) || self.cursors.is_empty() {
            let root = self.random.pick(&self.sample.roots);
            self.cursors.push(accept(self.db.open_cursor(root, true))?);
        }
        Some(self.random.pick(&self.cursors))
    }

    fn operation(&mut self) {
        match self.random.below(60) {
            0..3 => self.open_savepoint(),
            3..5 => self.undo(),
            5 => {
                let open = self.savepoints.len();
                let index = self.random.below(open);
                self.db.release_savepoint(index).unwrap();
                self.savepoints.truncate(index);
            }
            6 => drop(accept(self.db.incremental_vacuum())),
            7 if self.random.percent(30) => {
                let root = self.random.pick(&self.sample.roots);
                accept(self.db.clear_table(root.get()));
            }
            8 if self.random.percent(30) => {
                self.close_cursors();
                let root = self.random.pick(&self.sample.roots);
                accept(self.db.drop_table(root.get()));
            }
            9 => {
                self.close_cursors();
                let kind = self.random.below(8) as u8;
                accept(self.db.create_table(kind));
            }
            _ => {
                let Some(cursor) = self.cursor() else { return };
                if self.change(cursor).is_none() && self.random.percent(80) {
                    // Nothing can be changed before this was undone.
                    self.undo();
                }
            }
        }
    }

    fn change(&mut self, cursor: CursorId) -> Option<()> {
        let number = self.random.below(KEYS as usize) as i64;
        let (db, random) = (&mut self.db, &mut self.random);
        match random.below(10) {
            0..4 => accept(put(db, cursor, number, random, self.sample.form)),
            4..7 => {
                for number in number..number + random.between(1, 8) as i64 {
                    if accept(seek(db, cursor, number))?.is_eq() {
                        accept(db.delete(cursor))?;
                    }
                }
                Some(())
            }
            7 => {
                accept(seek(db, cursor, number))?;
                let size = accept(db.data_size(cursor))? as usize;
                if accept(db.has_integer_keys(cursor))? && size > 0 && size < 100_000 {
                    let start = random.below(size);
                    let bytes = random.bytes(size - start);
                    accept(db.put_data(cursor, start as u32, &bytes))?;
                }
                Some(())
            }
            8 => {
                accept(seek(db, cursor, number))?;
                accept(db.key(cursor));
                accept(db.data(cursor));
                for _ in 0..random.below(30) {
                    accept(db.next(cursor))?;
                }
                Some(())
            }
            _ => {
                for number in number..number + 20 {
                    accept(put(db, cursor, number, random, self.sample.form))?;
                }
                Some(())
            }
        }
    }

    fn open_savepoint(&mut self) {
        let open = self.savepoints.len();
        if open < 5 && accept(self.db.open_savepoints(open + 1)).is_some() {
            let snapshot = Snapshot::of(&mut self.db);
            self.savepoints.push(snapshot);
        }
    }

    fn undo(&mut self) {
        let open = self.savepoints.len();
        if open == 0 {
            return;
        }
        let index = self.random.below(open);
        accept(self.db.rollback_savepoint(Some(index)));
        self.savepoints.truncate(index + 1);
        if let Some(Some(snapshot)) = self.savepoints.last() {
            snapshot.compare(&mut self.db, "rollback to a savepoint");
        }
    }
}

fn examine(sample: &Sample, mut random: Random) {
    let bytes = sample.damaged(&mut random);
    let disk = MemoryVfs::new();
    disk.put(path(&disk), bytes);
    let cache_size = random.pick(&[10, 10, 200]);
    let db = Btree::open(Arc::new(disk), "t.db", &sample.form.options(cache_size));
    let Some(db) = accept(db) else { return };
    let mut run = Run { sample, random, db, savepoints: Vec::new(), cursors: Vec::new() };
    for _ in 0..3 {
        run.transaction();
    }
}

#[test]
fn changes_to_tangled_files_are_refused_or_undone() {
    let forms = [
        (512, 0, AutoVacuum::None),
        (512, 4, AutoVacuum::Full),
        (512, 0, AutoVacuum::Incremental),
        (1024, 0, AutoVacuum::None),
    ];
    let samples = forms.map(|(page_size, reserved, auto_vacuum)| {
        Sample::new(Form { page_size, reserved, auto_vacuum })
    });
    cases::run(Seeds::from_environment(400), "TCLBTREE_SEEDS", |case| {
        examine(&samples[case as usize % samples.len()], Random::new(case));
    });
}
