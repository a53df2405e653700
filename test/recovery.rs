//! Journals both ways: what one engine left behind, the other recovers, and both the same way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use support::book::{Book, Change, Content, Form};
use support::random::Random;
use support::{Directory, skipped, stock};
use tclbtree::format::AutoVacuum;
use tclbtree::os::simulate::{CrashDisk, DiskImage};
use tclbtree::pager::JournalMode;
use tclbtree::{Btree, Options, TransactionKind, UnixVfs};

const MODES: [JournalMode; 3] = [JournalMode::Delete, JournalMode::Truncate, JournalMode::Persist];

/// D152: a transaction of this engine, cut off at every operation and within every write.
#[test]
fn a_transaction_cut_anywhere_is_old_or_new_to_both_engines() {
    let mut cuts = 0;
    for (index, mode) in MODES.into_iter().enumerate() {
        for auto_vacuum in [AutoVacuum::None, AutoVacuum::Full] {
            let form = Form { page_size: [1024, 512, 4096][index], reserved: 0, auto_vacuum };
            cuts += cut_everywhere(form, mode);
        }
    }
    println!("{cuts} images recovered by both engines");
}

fn cut_everywhere(form: Form, mode: JournalMode) -> usize {
    let disk = CrashDisk::new();
    let mut random = Random::new(u64::from(form.page_size));
    let vfs = Arc::new(disk.clone());
    let mut book = Book::create(form.open(vfs, Path::new("t.db"), 10).unwrap()).unwrap();
    book.db.set_journal_mode(mode).unwrap();
    let mut old = Content::default();
    let changes = random_changes(&mut random, &mut old, form, 120);
    book.commit(&changes).unwrap();
    let start = disk.change_count();
    let mut new = old.clone();
    let changes = random_changes(&mut random, &mut new, form, 60);
    book.commit(&changes).unwrap();
    book.db.close();

    let directory = Directory::new("cut");
    let mut was_new = false;
    let end = disk.change_count();
    for after in start..=end {
        let context = format!("{form:?}, {mode:?}, cut after {after} of {end}");
        if let Some(length) = disk.write_length(after) {
            let cut = random.below(length);
            let context = format!("{context}, torn at byte {cut}");
            let image = disk.killed(after, Some(cut));
            was_new = recover_by_both(&image, &directory, [&old, &new], was_new, &context);
        }
        let image = disk.killed(after, None);
        was_new = recover_by_both(&image, &directory, [&old, &new], was_new, &context);
    }
    assert!(was_new, "all of it done: {form:?}, {mode:?}");
    end - start
}

fn random_changes(
    random: &mut Random,
    content: &mut Content,
    form: Form,
    count: usize,
) -> Vec<Change> {
    let mut next = || {
        let change = Change::random(random, content, form.page_size as usize);
        change.expect(content);
        change
    };
    (0..count).map(|_| next()).collect()
}

/// Both engines recover `image`; returns whether it had the new content. Once new, always new.
fn recover_by_both(
    image: &DiskImage,
    directory: &Directory,
    [old, new]: [&Content; 2],
    was_new: bool,
    context: &str,
) -> bool {
    directory.show(image);
    let connection = stock::open(&directory.file("t.db"));
    assert_eq!(stock::integrity(&connection), "ok", "{context}");
    let theirs = Content::by_stock(&connection).unwrap();
    drop(connection);

    let vfs = Arc::new(image.to_memory());
    let db = Btree::open(vfs, "t.db", &Options::default()).unwrap();
    let mut book = Book::attach(db).unwrap_or_else(|error| panic!("{error}: {context}"));
    let here = book.checked_content().unwrap();
    let both = format!("here {}, stock {}", here.summary(), theirs.summary());
    assert!(here == theirs, "engines disagree, {both}: {context}");
    assert!(here == *new || here == *old && !was_new, "{both}: {context}");
    here == *new
}

/// A database by stock SQLite, in the middle of a transaction that has spilled: the files' copies.
fn interrupted_by_stock(directory: &Directory, mode: &str, page_size: u32) -> (PathBuf, Content) {
    let path = directory.file("stock.db");
    let connection = stock::open(&path);
    connection
        .execute_batch(&format!(
            "PRAGMA page_size = {page_size}; PRAGMA journal_mode = {mode};
             CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB);
             CREATE TABLE w(k BLOB PRIMARY KEY) WITHOUT ROWID;
             WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 200)
                 INSERT INTO t SELECT i, randomblob(150 + i) FROM n;
             WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 100)
                 INSERT INTO w SELECT CAST(x'00000014' || randomblob(16) AS BLOB) FROM n;"
        ))
        .unwrap();
    let old = Content::by_stock(&connection).unwrap();
    connection
        .execute_batch(
            "PRAGMA cache_size = 5; PRAGMA cache_spill = 1; BEGIN;
             UPDATE t SET b = randomblob(170); DELETE FROM t WHERE a % 3 = 0;
             INSERT INTO t(b) SELECT randomblob(3000) FROM t LIMIT 20;",
        )
        .unwrap();
    let copy = directory.file("copy.db");
    // Another process copies: closing a descriptor here would drop the locks.
    for suffix in ["", "-journal"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        let status = Command::new("cp").args([name(&path), name(&copy)]).status().unwrap();
        assert!(status.success());
    }
    connection.execute_batch("ROLLBACK").unwrap();
    (copy, old)
}

fn journal_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-journal", path.display()))
}

fn attach_here(path: &Path) -> Book {
    let db = Btree::open(Arc::new(UnixVfs::new()), path, &Options::default()).unwrap();
    Book::attach(db).unwrap()
}

/// D175: the journal of a stock transaction is hot, and rolled back before a page is seen.
#[test]
fn a_stock_transaction_interrupted_is_undone_here() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST"] {
        for page_size in [512, 1024, 4096, 8192] {
            let directory = Directory::new("interrupted");
            let (copy, old) = interrupted_by_stock(&directory, mode, page_size);
            let header = std::fs::read(journal_of(&copy)).unwrap();
            assert_eq!(header[0], 0xd9, "the transaction has spilled");
            let mut book = attach_here(&copy);
            assert!(book.checked_content().unwrap() == old, "{mode} {page_size}");
            assert!(!journal_of(&copy).exists(), "{mode} {page_size}: journal still there");
            book.db.close();
            let connection = stock::open(&copy);
            assert_eq!(stock::integrity(&connection), "ok");
            assert!(Content::by_stock(&connection).unwrap() == old);
        }
    }
}

/// D175 with a process that is really killed.
#[test]
fn a_killed_stock_process_is_undone_here() {
    if !stock::has_program() {
        return skipped("a killed stock process", "there is no sqlite3");
    }
    for mode in ["DELETE", "TRUNCATE", "PERSIST"] {
        let directory = Directory::new("killed");
        let (_, old) = interrupted_by_stock(&directory, mode, 1024);
        let path = directory.file("stock.db");
        let mut child = Command::new("sqlite3")
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let script = format!(
            "PRAGMA journal_mode={mode};\nPRAGMA cache_size=5;\nBEGIN;\n\
             UPDATE t SET b = randomblob(100);\nSELECT 'ready';\n"
        );
        child.stdin.as_mut().unwrap().write_all(script.as_bytes()).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ready"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(std::fs::metadata(journal_of(&path)).unwrap().len() > 512);
        let mut book = attach_here(&path);
        assert!(book.checked_content().unwrap() == old, "{mode}");
    }
}

/// How a hot pair of files is spoiled before it is opened.
type Spoil = fn(&mut Vec<u8>, &mut Vec<u8>, &Path);

/// The rows of file-format 4.11, "Outcomes", that need no second process.
const OUTCOMES: &[(&str, Spoil)] = &[
    ("intact", |_, _, _| {}),
    ("journal of length 0", |_, journal, _| journal.clear()),
    ("first byte 0", |_, journal, _| journal[0] = 0),
    ("28 zero bytes", |_, journal, _| journal[..28].fill(0)),
    ("one byte", |_, journal, _| journal.truncate(1)),
    ("magic damaged in byte 2", |_, journal, _| journal[2] ^= 1),
    ("shorter than a sector", |_, journal, _| journal.truncate(300)),
    ("sector size 16", |_, journal, _| put(journal, 20, 16)),
    ("page size 1000", |_, journal, _| put(journal, 24, 1000)),
    ("page size 0", |_, journal, _| put(journal, 24, 0)),
    ("page size 2048", |_, journal, _| put(journal, 24, 2048)),
    ("cut after the first header", |_, journal, _| journal.truncate(512)),
    ("cut inside record 3", |_, journal, _| journal.truncate(512 + 2 * RECORD + 700)),
    ("bad checksum in record 2", |_, journal, _| journal[512 + 2 * RECORD - 1] ^= 1),
    ("page number 0 in record 2", |_, journal, _| put(journal, 512 + RECORD, 0)),
    ("page number beyond the end in record 2", |_, journal, _| {
        put(journal, 512 + RECORD, 1_000_000);
    }),
    ("record count 0", |_, journal, _| put(journal, 8, 0)),
    ("record count 2", |_, journal, _| put(journal, 8, 2)),
    ("record count -1", |_, journal, _| put(journal, 8, u32::MAX)),
    ("sector size 32", |_, journal, _| put(journal, 20, 32)),
    ("sector size 1024", |_, journal, _| put(journal, 20, 1024)),
    ("sector size 48", |_, journal, _| put(journal, 20, 48)),
    ("original size 3 pages", |_, journal, _| put(journal, 16, 3)),
    ("garbage", |_, journal, _| journal.iter_mut().for_each(|byte| *byte = 0x5a)),
    ("super-journal missing", |_, journal, path| name_super_journal(journal, path, None, 0)),
    ("super-journal empty", |_, journal, path| name_super_journal(journal, path, Some(false), 0)),
    ("super-journal present", |_, journal, path| {
        name_super_journal(journal, path, Some(true), 0);
    }),
    ("super-journal record with a bad checksum", |_, journal, path| {
        name_super_journal(journal, path, None, 1);
    }),
    ("database of length 0", |database, _, _| database.clear()),
    ("database of length 1", |database, _, _| database.truncate(1)),
    ("database shorter than it was", |database, _, _| database.truncate(5 * 1024)),
    ("last page of the database in part", |database, _, _| {
        database.truncate(database.len() - 100);
    }),
];

/// Bytes of a journal record for pages of 1024 bytes.
const RECORD: usize = 1024 + 8;

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Appends the record that names a super-journal beside `path`; `content`: it exists, and whether
/// it names this journal.
fn name_super_journal(journal: &mut Vec<u8>, path: &Path, content: Option<bool>, error: u32) {
    let name = format!("{}-mj0123459AB", path.display());
    if let Some(named) = content {
        let line = format!("{}\0", journal_of(path).display());
        std::fs::write(&name, if named { line.as_str() } else { "" }).unwrap();
    }
    let sum = name.bytes().fold(0u32, |sum, byte| sum.wrapping_add(byte as i8 as u32));
    // The lock page of a database with pages of 1024 bytes.
    journal.extend(1_048_577u32.to_be_bytes());
    journal.extend(name.as_bytes());
    journal.extend((name.len() as u32).to_be_bytes());
    journal.extend((sum + error).to_be_bytes());
    journal.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
}

/// What a recovery left: the database, the length of its journal, the super-journal's presence.
#[derive(PartialEq, Eq)]
struct Outcome {
    database: Vec<u8>,
    journal: Option<u64>,
    super_journal: bool,
}

impl Outcome {
    fn of(path: &Path) -> Outcome {
        Outcome {
            database: std::fs::read(path).unwrap(),
            journal: std::fs::metadata(journal_of(path)).ok().map(|meta| meta.len()),
            super_journal: Path::new(&format!("{}-mj0123459AB", path.display())).exists(),
        }
    }

    fn summary(&self) -> String {
        let Outcome { database, journal, super_journal } = self;
        format!("{} bytes, journal {journal:?}, super-journal {super_journal}", database.len())
    }
}

/// D176: both engines draw the same conclusion from each kind of journal.
#[test]
fn both_engines_agree_on_every_spoilt_journal() {
    let directory = Directory::new("outcomes");
    let (copy, _) = interrupted_by_stock(&directory, "DELETE", 1024);
    let database = std::fs::read(&copy).unwrap();
    let journal = std::fs::read(journal_of(&copy)).unwrap();
    for (name, spoil) in OUTCOMES {
        let path = directory.file("case.db");
        let lay_out = || {
            for suffix in ["", "-journal", "-mj0123459AB"] {
                let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
            }
            let (mut database, mut journal) = (database.clone(), journal.clone());
            spoil(&mut database, &mut journal, &path);
            std::fs::write(&path, database).unwrap();
            std::fs::write(journal_of(&path), journal).unwrap();
        };
        lay_out();
        let connection = stock::open(&path);
        // The content may be a mixture by now; what counts is what recovery did.
        let _ = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        drop(connection);
        let by_stock = Outcome::of(&path);
        lay_out();
        let mut db = Btree::open(Arc::new(UnixVfs::new()), &path, &Options::default()).unwrap();
        let _ = db.begin(TransactionKind::Read);
        db.close();
        let here = Outcome::of(&path);
        let (ours, theirs) = (here.summary(), by_stock.summary());
        assert!(here == by_stock, "{name}: here {ours}; stock {theirs}");
    }
}
