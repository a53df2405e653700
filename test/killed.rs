//! Transactions of stock SQLite cut off at each of its system calls, and within its writes: this
//! engine recovers what a killed writer left, to the bytes that stock SQLite would make of it.
//!
//! So is what is left where stock SQLite is killed while it recovers.
//!
//! In the normal run a sample of the places in each setting, all of them with `TCLBTREE_LONG=1`;
//! each seed brings other data, page sizes and ways to vacuum.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "killed/calls.rs"]
mod calls;
mod support;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use calls::Cut;
use rusqlite::Connection;
use support::book::{Book, Content, schema_roots};
use support::random::Random;
use support::{Directory, Seeds, is_long, stock};
use tclbtree::{Btree, Options, TransactionKind, UnixVfs};

/// What the transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// The file gets longer; entries change, come and go.
    Grow,
    /// Most entries go, and pages with them.
    Shrink,
    /// There is no database before.
    Create,
    /// Every page is written anew.
    Vacuum,
    /// Two files change together, which takes a super-journal.
    TwoFiles,
}

const SHAPES: [Shape; 5] =
    [Shape::Grow, Shape::Shrink, Shape::Create, Shape::Vacuum, Shape::TwoFiles];

/// How stock SQLite is set up.
#[derive(Debug, Clone, Copy)]
struct Setting {
    shape: Shape,
    mode: &'static str,
    synchronous: &'static str,
    locking: &'static str,
    page_size: usize,
    auto_vacuum: usize,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { shape, mode, synchronous, locking, page_size, auto_vacuum } = self;
        write!(f, "{shape:?}, {mode}, {synchronous}, {locking}, page {page_size}, ")?;
        write!(f, "vacuum {auto_vacuum}")
    }
}

impl Setting {
    /// Every file of the transaction.
    fn names(&self) -> &'static [&'static str] {
        if self.shape == Shape::TwoFiles { &["t.db", "u.db"] } else { &["t.db"] }
    }

    /// A connection to the first file, and to the second by the name `u`. Its cache is so small
    /// that changes go to the file before the commit.
    fn connect(&self, directory: &Directory) -> Connection {
        let connection = stock::open(&directory.file("t.db"));
        if self.shape == Shape::TwoFiles {
            let other = directory.file("u.db");
            connection.execute("ATTACH ? AS u", [other.to_str().unwrap()]).unwrap();
        }
        let Setting { mode, synchronous, locking, page_size, auto_vacuum, .. } = self;
        for schema in &["main", "u"][..self.names().len()] {
            connection
                .execute_batch(&format!(
                    "PRAGMA {schema}.page_size = {page_size};
                     PRAGMA {schema}.auto_vacuum = {auto_vacuum};
                     PRAGMA {schema}.journal_mode = {mode};
                     PRAGMA {schema}.locking_mode = {locking};
                     PRAGMA {schema}.synchronous = {synchronous};
                     PRAGMA {schema}.cache_size = 5;"
                ))
                .unwrap();
        }
        connection
    }

    /// Two trees with their first entries.
    fn creation(&self, schema: &str) -> String {
        let part = self.page_size / 5;
        format!(
            "CREATE TABLE {schema}.t(a INTEGER PRIMARY KEY, b BLOB);
             CREATE TABLE {schema}.w(k BLOB PRIMARY KEY) WITHOUT ROWID;
             WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 80)
                 INSERT INTO {schema}.t SELECT i, randomblob({part} + i) FROM n;
             WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 80)
                 INSERT INTO {schema}.w SELECT CAST(x'00000014' || randomblob(16) AS BLOB) FROM n;"
        )
    }

    /// Changes of the trees.
    fn changes(&self, schema: &str) -> String {
        let [part, long] = [self.page_size / 4, self.page_size * 4];
        if self.shape == Shape::Shrink {
            return format!(
                "DELETE FROM {schema}.t WHERE a > 25;
                 UPDATE {schema}.t SET b = randomblob({part});
                 DELETE FROM {schema}.w WHERE substr(k, 5, 1) > x'40';"
            );
        }
        format!(
            "UPDATE {schema}.t SET b = randomblob({part}) WHERE a % 3 = 0;
             DELETE FROM {schema}.t WHERE a % 5 = 1;
             INSERT INTO {schema}.t(b) SELECT randomblob({part}) FROM {schema}.t;
             INSERT INTO {schema}.t(b) VALUES(randomblob({long}));
             DELETE FROM {schema}.w WHERE substr(k, 5, 1) > x'a0';
             INSERT INTO {schema}.w SELECT CAST(x'00000014' || randomblob(16) AS BLOB)
                 FROM {schema}.t;"
        )
    }

    /// What comes before the transaction that is cut.
    fn preparation(&self) -> String {
        match self.shape {
            Shape::Create => String::new(),
            // Free pages between used ones.
            Shape::Vacuum => self.creation("main") + "DELETE FROM t WHERE a % 2 = 0;",
            Shape::TwoFiles => self.creation("main") + &self.creation("u"),
            Shape::Grow | Shape::Shrink => self.creation("main"),
        }
    }

    /// The transaction that is cut.
    fn transaction(&self) -> String {
        let work = match self.shape {
            Shape::Create => self.creation("main"),
            Shape::Vacuum => return "VACUUM".to_owned(),
            Shape::TwoFiles => self.changes("main") + &self.changes("u"),
            Shape::Grow | Shape::Shrink => self.changes("main"),
        };
        format!("BEGIN; {work} COMMIT")
    }
}

/// The content of every file, by stock SQLite; `None` is a file without a table.
fn contents(setting: &Setting, directory: &Directory) -> Vec<Option<Content>> {
    let content = |name: &&str| Content::by_stock(&stock::open(&directory.file(name))).ok();
    setting.names().iter().map(content).collect()
}

/// Recovers by stock SQLite, file by file.
fn recover_by_stock(path: &Path, context: &str) {
    let connection = stock::open(path);
    assert_eq!(stock::integrity(&connection), "ok", "{}: {context}", path.display());
}

/// Recovers with this engine; `None` if there is no table.
fn recover_here(path: &Path, context: &str) -> Option<Content> {
    let fail = |error: tclbtree::Error| -> ! { panic!("{}: {error}: {context}", path.display()) };
    let mut db = Btree::open(Arc::new(UnixVfs::new()), path, &Options::default()).unwrap();
    db.begin(TransactionKind::Read).unwrap_or_else(|error| fail(error));
    let roots = if db.page_count() == 0 { Ok(Vec::new()) } else { schema_roots(&mut db) };
    if roots.unwrap_or_else(|error| fail(error)).is_empty() {
        db.close();
        return None;
    }
    let mut book = Book::attach(db).unwrap_or_else(|error| fail(error));
    let content = book.checked_content().unwrap_or_else(|error| fail(error));
    assert_eq!(book.db.stats().pinned, 0, "{context}");
    book.db.close();
    Some(content)
}

/// How many images were recovered, at how many of them the transaction was already in force, and
/// in how many of them recovery had to change a file.
#[derive(Debug, Default)]
struct Count {
    images: usize,
    in_force: usize,
    undone: usize,
}

/// Cuts the transaction of `setting` at its system calls.
fn cut_everywhere(setting: &Setting, random: &mut Random) -> Count {
    let directory = Directory::new("killed");
    let connection = setting.connect(&directory);
    connection.execute_batch(&setting.preparation()).unwrap();
    drop(connection);
    let old = contents(setting, &directory);
    let connection = setting.connect(&directory);
    let cuts = calls::cuts(directory.path(), random.bits(), || {
        connection.execute_batch(&setting.transaction()).unwrap();
    });
    drop(connection);
    let new = contents(setting, &directory);
    let unchanged = old == new;
    assert_eq!(unchanged, setting.shape == Shape::Vacuum, "{setting}");

    let mut count = Count::default();
    for (number, cut) in cuts.iter().enumerate() {
        if !is_chosen(number, cuts.len(), random) {
            continue;
        }
        let context = format!("{setting}, cut {number} of {}: {}", cuts.len(), cut.at);
        let (here, is_undone) = recover(setting, &directory, cut, &context);
        let may_be_old = unchanged || count.in_force == 0;
        assert!(here == old && may_be_old || here == new, "neither old nor new: {context}");
        count.images += 1;
        count.in_force += usize::from(here == new);
        count.undone += usize::from(is_undone);
        if is_undone && random.percent(4) {
            count.images += cut_recovery(setting, &directory, cut, &here, random, &context);
        }
    }
    count
}

/// Stock SQLite is killed once more, while it recovers what `cut` left; returns at how many places.
fn cut_recovery(
    setting: &Setting,
    directory: &Directory,
    cut: &Cut,
    expected: &[Option<Content>],
    random: &mut Random,
    context: &str,
) -> usize {
    directory.show(&cut.image);
    let cuts = calls::cuts(directory.path(), random.bits(), || {
        let names = setting.names().iter();
        names.for_each(|name| recover_by_stock(&directory.file(name), context));
    });
    let mut images = 0;
    for (number, again) in cuts.iter().enumerate() {
        if is_chosen(number, cuts.len(), random) {
            let context = format!("{context}; recovery cut at {number}: {}", again.at);
            let (here, _) = recover(setting, directory, again, &context);
            assert!(here == expected, "not what it was: {context}");
            images += 1;
        }
    }
    images
}

/// In a normal run: what is around the commit point, and here and there one before it.
fn is_chosen(number: usize, count: usize, random: &mut Random) -> bool {
    is_long() || count - number <= 14 || random.below(count) < 25
}

/// Both engines recover the files of `cut`; returns the content, which this engine reads, and
/// whether a database had to be changed for it.
fn recover(
    setting: &Setting,
    directory: &Directory,
    cut: &Cut,
    context: &str,
) -> (Vec<Option<Content>>, bool) {
    let paths: Vec<_> = setting.names().iter().map(|name| directory.file(name)).collect();
    directory.show(&cut.image);
    paths.iter().for_each(|path| recover_by_stock(path, context));
    let by_stock = calls::image_of(directory.path());
    directory.show(&cut.image);
    let content = paths.iter().map(|path| recover_here(path, context)).collect();
    let here = calls::image_of(directory.path());
    for (path, bytes) in here.files() {
        let same = by_stock.content(path) == Some(bytes);
        assert!(same, "{} is not as stock leaves it: {context}", path.display());
    }
    let names = |image: &calls::DiskImage| image.files().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&here), names(&by_stock), "{context}");
    let is_undone =
        |name: &&str| here.content(Path::new(name)) != cut.image.content(Path::new(name));
    (content, setting.names().iter().any(is_undone))
}

/// D175, for every place at which stock SQLite can be killed.
#[test]
fn stock_killed_at_any_system_call_is_recovered_here() {
    let synchronous = ["OFF", "NORMAL", "FULL", "EXTRA"];
    let (mut images, mut round) = (0, 0);
    for seed in Seeds::from_environment(1) {
        let mut random = Random::new(seed);
        for shape in SHAPES {
            for mode in ["DELETE", "TRUNCATE", "PERSIST"] {
                round += 1;
                // Without syncs there is no super-journal, and two files are two transactions.
                let lowest = usize::from(shape == Shape::TwoFiles);
                let setting = Setting {
                    shape,
                    mode,
                    synchronous: synchronous[lowest + round % (4 - lowest)],
                    locking: random.pick(&["NORMAL", "NORMAL", "EXCLUSIVE"]),
                    page_size: random.pick(&[512, 1024, 4096]),
                    auto_vacuum: random.below(3),
                };
                let count = cut_everywhere(&setting, &mut random);
                assert!(count.in_force > 0 && count.undone > 0, "{setting}: {count:?}");
                images += count.images;
            }
        }
    }
    println!("{images} images of a killed stock SQLite recovered");
}
