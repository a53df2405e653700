//! Damaged database files: no panic, no hang, no code that damage cannot explain (D286 to D288).
//!
//! `TCLBTREE_CASES` sets the number of cases (2000; the long form is 100 000), `TCLBTREE_SEED`
//! the first one: each case has its number as seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use support::book::{Book, Change, Content, Form};
use support::random::Random;
use support::{Directory, cases, number_from, stock};
use tclbtree::format::{AutoVacuum, PageNumber};
use tclbtree::os::Vfs;
use tclbtree::os::simulate::{FaultKnobs, FaultVfs};
use tclbtree::{Btree, CursorId, Error, Key, MemoryVfs, Options, Result, TransactionKind};

/// No walk over a damaged tree goes on for longer; endless ones are cut off by the checks below.
const STEPS: usize = 3000;

/// A sound database and the roots of its trees.
struct Sample {
    bytes: Vec<u8>,
    roots: Vec<PageNumber>,
}

impl Sample {
    /// All kinds of tree, with overflow, free pages and several levels.
    fn made_here(form: Form) -> Sample {
        let disk = Arc::new(MemoryVfs::new());
        let mut random = Random::new(u64::from(form.page_size) + u64::from(form.reserved));
        let db = form.open(Arc::clone(&disk) as _, Path::new("t.db"), 100).unwrap();
        let mut book = Book::create(db).unwrap();
        let mut content = Content::default();
        let changes: Vec<_> = (0..260)
            .map(|_| {
                let change = Change::random(&mut random, &content, form.page_size as usize);
                change.expect(&mut content);
                change
            })
            .collect();
        book.commit(&changes).unwrap();
        let mut roots = vec![PageNumber::ONE, book.rows, book.keys];
        let mut db = book.db;
        db.begin(TransactionKind::Write).unwrap();
        for kind in [0, 1, 3, 7] {
            let root = db.create_table(kind).unwrap();
            roots.push(root);
            let cursor = db.open_cursor(root, true).unwrap();
            for number in 0..70 {
                let data = random.bytes(if number % 20 == 0 { 2500 } else { 40 });
                let name = format!("{number:03} {}", "k".repeat(number as usize % 90));
                let key = match kind {
                    0 => Key::Bytes(name.as_bytes()),
                    _ => Key::Integer(number * 3),
                };
                db.insert(cursor, key, &data, 0).unwrap();
            }
            db.close_cursor(cursor);
        }
        db.commit().unwrap();
        db.close();
        Sample { bytes: disk.content(&path(&disk)).unwrap(), roots }
    }

    /// A file of stock SQLite with an index and a free list.
    fn made_by_stock(page_size: u32, auto_vacuum: u32) -> Sample {
        let directory = Directory::new("damage");
        let path = directory.file("t.db");
        let connection = stock::open(&path);
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum};
                 CREATE TABLE x(a INTEGER PRIMARY KEY, b TEXT); CREATE INDEX xb ON x(b);
                 WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 300)
                     INSERT INTO x SELECT i, hex(zeroblob(i * 7 % 100)) || i FROM n;
                 UPDATE x SET b = hex(zeroblob(2000)) || a WHERE a % 40 = 0;
                 DELETE FROM x WHERE a % 6 = 0;"
            ))
            .unwrap();
        let query = "SELECT rootpage FROM sqlite_schema";
        let roots = connection
            .prepare(query)
            .unwrap()
            .query_map([], |row| row.get::<_, u32>(0))
            .unwrap()
            .map(|root| PageNumber::new(root.unwrap()).unwrap())
            .chain([PageNumber::ONE])
            .collect();
        drop(connection);
        Sample { bytes: std::fs::read(&path).unwrap(), roots }
    }

    fn all() -> Vec<Sample> {
        let mut samples = Vec::new();
        for (page_size, reserved, auto_vacuum) in [
            (512, 0, AutoVacuum::None),
            (512, 32, AutoVacuum::Full),
            (1024, 0, AutoVacuum::Incremental),
            (4096, 0, AutoVacuum::None),
            (65536, 0, AutoVacuum::None),
        ] {
            samples.push(Sample::made_here(Form { page_size, reserved, auto_vacuum }));
        }
        samples.push(Sample::made_by_stock(512, 0));
        samples.push(Sample::made_by_stock(1024, 1));
        samples
    }

    fn page_size(&self) -> usize {
        match u16::from_be_bytes([self.bytes[16], self.bytes[17]]) {
            1 => 65536,
            size => usize::from(size),
        }
    }
}

/// One to a few injuries.
fn damage(sample: &Sample, random: &mut Random) -> Vec<u8> {
    let mut bytes = sample.bytes.clone();
    let size = sample.page_size();
    let pages = bytes.len() / size;
    for _ in 0..random.between(1, 4) {
        let page = random.below(pages) * size;
        let other = random.below(pages) * size;
        // On page 1 the b-tree page starts behind the file header.
        let head = if page == 0 { 100 } else { page };
        let end = bytes.len();
        match random.below(15) {
            0 => bytes[page + random.below(size)] ^= 1 << random.below(8),
            1..4 => {
                // Page header and cell pointers, where a wrong byte does most.
                let at = (head + random.below(40)).min(end - 1);
                let noise = random_byte(random);
                bytes[at] = random.pick(&[0, 1, 2, 5, 10, 13, 127, 128, 255, noise]);
            }
            4 => {
                let value = random.below(pages + 3) as u32;
                let at = page + random.below(size / 4) * 4;
                bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
            }
            5 => {
                // A right-most child, next trunk or next overflow page that leads elsewhere.
                let at = (head + random.pick(&[0, 4, 8])).min(end - 4);
                let value = random.below(pages + 2) as u32;
                bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
            }
            6 => {
                let copy = bytes[other..other + size].to_vec();
                bytes[page..page + size].copy_from_slice(&copy);
            }
            7 => {
                for index in 0..size {
                    bytes.swap(page + index, other + index);
                }
            }
            8 => {
                let at = 16 + random.below(84);
                bytes[at] = random_byte(random);
            }
            9 => {
                let at = page + random.below(size - 9);
                bytes[at..at + 9].fill(random.pick(&[0, 0x7f, 0x80, 0xff]));
            }
            10 => {
                let at = page + random.below(size);
                let length = random.below(60).min(end - at);
                let noise = random.bytes(length);
                bytes[at..at + length].copy_from_slice(&noise);
            }
            11..14 => damage_body(&mut bytes[head..page + size], random),
            _ => {
                // Freelist head and count, largest root, vacuum flag.
                let at = random.pick(&[28, 32, 36, 52, 64]);
                let value = random.pick(&[0, 1, 2, pages as u32, pages as u32 + 1, u32::MAX]);
                bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
            }
        }
    }
    if random.percent(3) {
        bytes.truncate(random.below(bytes.len()));
    }
    bytes
}

/// Makes sums and places of cells, if this is the b-tree part of a page, untrue, but likely.
fn damage_body(page: &mut [u8], random: &mut Random) {
    let number = |page: &[u8], at| usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
    let (count, content) = (number(page, 3), number(page, 5));
    let pointers = if page[0] & 8 == 0 { 12 } else { 8 };
    let most = (page.len() - pointers) / 2;
    let mut pointer = || pointers + 2 * random.below(count.clamp(1, most));
    let (one, other) = (pointer(), pointer());
    let near = |at: usize, random: &mut Random| (at + random.below(17)).saturating_sub(8);
    let (at, value) = match random.below(5) {
        // Fewer cells than there are, or some more.
        0 => (3, random.below(count + 3)),
        // The cells begin elsewhere.
        1 => (5, near(content, random)),
        // Two pointers to one cell, or to cells that overlap.
        2 => (one, number(page, other)),
        3 => (one, near(number(page, other), random)),
        // Free blocks where cells are.
        _ => (1, number(page, one)),
    };
    page[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
}

fn random_byte(random: &mut Random) -> u8 {
    random.bits() as u8
}

/// An error that a damaged file explains; the others are defects.
fn accept<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(
            Error::Corrupt { .. }
            | Error::NotADatabase(_)
            | Error::Empty
            | Error::NoMemory
            | Error::Full
            // Delete without an entry; a position lost in a rollback.
            | Error::State(_)
            | Error::Abort(_)
            // The header asks for a newer writer, or for write-ahead-log mode.
            | Error::ReadOnly(_)
            | Error::CannotOpen(_),
        ) => None,
        Err(error) => panic!("damage does not explain {error:?}"),
    }
}

/// Everything a script would do with the file.
fn examine(sample: &Sample, bytes: &[u8], random: &mut Random) {
    let knobs = Arc::new(FaultKnobs::new());
    let disk = Arc::new(FaultVfs::new(disk_with(bytes), Arc::clone(&knobs)));
    let options = Options { cache_size: 10, ..Options::default() };
    let Some(mut db) = accept(Btree::open(disk, "t.db", &options)) else { return };
    for slot in 0..=15 {
        accept(db.meta(slot));
    }
    let roots: Vec<_> = sample.roots.iter().map(|root| i64::from(root.get())).collect();
    accept(db.integrity_check(&roots, 1000));
    for _ in 0..2 {
        if accept(db.begin(TransactionKind::Write)).is_none() {
            break;
        }
        for _ in 0..8 {
            let root = random.pick(&sample.roots);
            visit(&mut db, root, random);
        }
        if random.percent(30) {
            accept(db.incremental_vacuum());
        }
        let end = if random.percent(40) { db.commit() } else { db.rollback() };
        if accept(end).is_none() {
            let _ = db.rollback();
        }
        assert_eq!(db.stats().pinned, 0, "pinned: {:?}", db.pinned_pages());
    }
    db.close();
    assert_eq!(knobs.open_file_count.load(Ordering::Relaxed), 0, "files left open");
}

fn path(disk: &MemoryVfs) -> PathBuf {
    disk.full_path(Path::new("t.db")).unwrap()
}

fn disk_with(bytes: &[u8]) -> Arc<MemoryVfs> {
    let disk = MemoryVfs::new();
    disk.put(path(&disk), bytes.to_vec());
    Arc::new(disk)
}

fn visit(db: &mut Btree, root: PageNumber, random: &mut Random) {
    match random.below(12) {
        0 => drop(accept(db.clear_table(root.get()))),
        1 => drop(accept(db.drop_table(root.get()))),
        2 => {
            let mut text = String::new();
            accept(db.dump_tree(root, &mut text));
            accept(db.dump_page(root, &mut text));
            accept(db.page_details(root));
            if db.auto_vacuum() != AutoVacuum::None {
                accept(db.pointer_map_entry(root));
            }
            accept(db.free_pages());
        }
        3 => drop(accept(db.create_table(random.below(8) as u8))),
        _ => {
            let Some(cursor) = accept(db.open_cursor(root, true)) else { return };
            for _ in 0..4 {
                use_cursor(db, cursor, random);
            }
            db.close_cursor(cursor);
        }
    }
}

fn use_cursor(db: &mut Btree, cursor: CursorId, random: &mut Random) {
    let number = random.below(300);
    let text = format!("{number:03} {}", "k".repeat(number % 90));
    let integers = accept(db.has_integer_keys(cursor)).unwrap_or(true);
    let key = if integers { Key::Integer(number as i64) } else { Key::Bytes(text.as_bytes()) };
    match random.below(6) {
        0 => scan(db, cursor, true),
        1 => scan(db, cursor, false),
        2 => {
            let length = random.pick(&[0, 30, 400, 3000]);
            let data = random.bytes(length);
            accept(db.insert(cursor, key, &data, 0));
        }
        3 => {
            if accept(db.seek(cursor, key)).is_some() {
                accept(db.delete(cursor));
            }
        }
        4 => {
            if accept(db.seek(cursor, key)).is_some() {
                read_entry(db, cursor);
                accept(db.cursor_info(cursor, 0));
                accept(db.overflow_pages(cursor));
            }
        }
        _ => drop(accept(db.count(cursor))),
    }
}

/// Walks one way for a bounded number of steps, reading every entry.
fn scan(db: &mut Btree, cursor: CursorId, forward: bool) {
    let mut more = accept(if forward { db.first(cursor) } else { db.last(cursor) });
    for _ in 0..STEPS {
        if more != Some(true) {
            return;
        }
        read_entry(db, cursor);
        more = accept(if forward { db.next(cursor) } else { db.previous(cursor) });
    }
}

fn read_entry(db: &mut Btree, cursor: CursorId) {
    // A claimed size of gigabytes is no reason to allocate them: the read must fail first.
    if accept(db.has_integer_keys(cursor)) == Some(false) {
        accept(db.key(cursor));
        accept(db.local_key(cursor).map(<[u8]>::len));
    } else {
        accept(db.integer_key(cursor));
    }
    accept(db.data(cursor));
    accept(db.payload_size(cursor));
    accept(db.local_data(cursor).map(<[u8]>::len));
}

#[test]
fn damaged_files_cause_known_errors_only() {
    let first = number_from("TCLBTREE_SEED", 1);
    let count = number_from("TCLBTREE_CASES", 2000);
    let samples = Sample::all();
    cases::run(first..first + count, "TCLBTREE_CASES", |case| {
        let mut random = Random::new(case);
        let sample = &samples[random.below(samples.len())];
        let bytes = damage(sample, &mut random);
        examine(sample, &bytes, &mut random);
    });
}

/// D287: a damaged tree does not keep the others from being read.
#[test]
fn damage_of_one_tree_leaves_the_others_readable() {
    let sample = Sample::made_here(Form::plain(1024));
    let root = sample.roots[1];
    let mut bytes = sample.bytes.clone();
    bytes[(root.get() as usize - 1) * 1024] = 0xff;
    let mut db = Btree::open(disk_with(&bytes), "t.db", &Options::default()).unwrap();
    db.begin(TransactionKind::Read).unwrap();
    for _ in 0..2 {
        let damaged = db.open_cursor(root, false).and_then(|cursor| {
            let result = db.first(cursor);
            db.close_cursor(cursor);
            result
        });
        assert!(matches!(damaged, Err(Error::Corrupt { .. })), "{damaged:?}");
        for &other in &sample.roots[2..] {
            let cursor = db.open_cursor(other, false).unwrap();
            assert!(db.first(cursor).unwrap());
            db.close_cursor(cursor);
        }
    }
}
