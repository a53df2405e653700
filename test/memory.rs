//! The n-th allocation fails, for every n: `NoMemory` or a clean success, then old or new content,
//! and nothing is left pinned or open (D284, A305, A807).
//!
//! The counter belongs to the process, so all of it is one test. `TCLBTREE_SEED` and
//! `TCLBTREE_SEEDS` choose other workloads (one).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use support::book::{Book, Change, Content, Form, key_record, schema_roots, with_cursor};
use support::random::Random;
use support::{Directory, Seeds};
use tclbtree::btree::Backup;
use tclbtree::format::{AutoVacuum, LockPage};
use tclbtree::memory::fail_nth;
use tclbtree::os::simulate::{FaultKnobs, FaultVfs};
use tclbtree::os::write_behind::{Durability, Halt};
use tclbtree::os::{Access, Hint, OpenKind, OpenRequest, Vfs};
use tclbtree::pager::JournalMode;
use tclbtree::{
    Btree, CacheRegistry, Error, MemoryVfs, Options, Result, SharedConnection, TransactionKind,
    UnixVfs, WriteBehind, WriteBehindVfs,
};

const OFF: (u32, u32) = (0, 0);

/// A disk in memory that counts its open files.
struct Disk {
    files: Arc<MemoryVfs>,
    knobs: Arc<FaultKnobs>,
}

impl Disk {
    fn with(file: &[u8]) -> Disk {
        let files = Arc::new(MemoryVfs::new());
        files.put("/t.db", file.to_vec());
        Disk { files, knobs: Arc::new(FaultKnobs::new()) }
    }

    fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(FaultVfs::new(Arc::clone(&self.files) as _, Arc::clone(&self.knobs)))
    }

    fn open_files(&self) -> i32 {
        self.knobs.open_file_count.load(Ordering::Relaxed)
    }
}

struct Workload {
    form: Form,
    mode: JournalMode,
    cache: i32,
    file: Vec<u8>,
    old: Content,
    new: Content,
    /// What stays, what is undone with a statement, what stays.
    changes: [Vec<Change>; 3],
}

fn changes(random: &mut Random, content: &mut Content, form: Form, count: usize) -> Vec<Change> {
    let one = |_| {
        let change = Change::random(random, content, form.page_size as usize);
        change.expect(content);
        change
    };
    (0..count).map(one).collect()
}

impl Workload {
    fn new(seed: u64, form: Form, mode: JournalMode, cache: i32) -> Workload {
        let mut random = Random::new(seed);
        let disk = Disk::with(b"");
        let mut book =
            Book::create(form.open(disk.vfs(), Path::new("t.db"), 200).unwrap()).unwrap();
        let mut old = Content::default();
        book.commit(&changes(&mut random, &mut old, form, 80)).unwrap();
        book.db.close();
        let file = disk.files.content(Path::new("/t.db")).unwrap();
        let mut new = old.clone();
        let first = changes(&mut random, &mut new, form, 12);
        let undone = changes(&mut random, &mut new.clone(), form, 12);
        let last = changes(&mut random, &mut new, form, 12);
        Workload { form, mode, cache, file, old, new, changes: [first, undone, last] }
    }

    fn open(&self, vfs: Arc<dyn Vfs>) -> Result<Book> {
        let options = Options { cache_size: self.cache, ..Options::default() };
        let mut book = Book::attach(Btree::open(vfs, "t.db", &options)?)?;
        book.db.set_journal_mode(self.mode)?;
        Ok(book)
    }

    fn run(&self, book: &mut Book) -> Result<()> {
        let [first, undone, last] = &self.changes;
        book.db.begin(TransactionKind::Write)?;
        first.iter().try_for_each(|change| book.apply(change))?;
        book.db.begin_statement()?;
        undone.iter().try_for_each(|change| book.apply(change))?;
        book.db.rollback_statement()?;
        last.iter().try_for_each(|change| book.apply(change))?;
        let root = book.db.create_table(0)?;
        let cursor = book.db.open_cursor(root, true)?;
        let result = book.db.insert(cursor, tclbtree::Key::Bytes(b"key"), &[7; 3000], 100);
        book.db.close_cursor(cursor);
        result?;
        book.db.drop_table(root.get())?;
        if self.form.auto_vacuum == AutoVacuum::Incremental {
            while book.db.incremental_vacuum()? {}
        }
        book.db.commit()
    }
}

/// One run with the allocations from the `n`-th on failing, `repeat` of them; whether one did.
fn run(work: &Workload, n: u32, repeat: u32) -> bool {
    let context = format!("{:?}, {:?}, allocation {n}, {repeat}", work.form, work.mode);
    let disk = Disk::with(&work.file);
    fail_nth(n, repeat);
    let opened = work.open(disk.vfs());
    let mut found = work.old.clone();
    let mut failed = 0;
    match opened {
        Err(error) => {
            assert_eq!(error, Error::NoMemory, "{context}");
            failed = fail_nth(OFF.0, OFF.1);
        }
        Ok(mut book) => {
            let result = work.run(&mut book);
            let undone = if result.is_err() { book.db.rollback() } else { Ok(()) };
            failed += fail_nth(OFF.0, OFF.1);
            assert!(matches!(result, Ok(()) | Err(Error::NoMemory)), "{result:?}: {context}");
            assert!(undone.is_ok() || repeat > 1, "rollback: {undone:?}: {context}");
            assert!(!book.db.is_writing(), "{context}");
            assert_eq!(book.db.stats().pinned, 0, "{:?}: {context}", book.db.pinned_pages());
            let here = book.checked_content().unwrap_or_else(|error| panic!("{error}: {context}"));
            let wanted = if result.is_ok() { &work.new } else { &work.old };
            assert!(here == *wanted, "{result:?}, {}: {context}", here.summary());
            if result.is_err() {
                work.run(&mut book).unwrap_or_else(|error| panic!("again: {error}: {context}"));
                assert!(book.checked_content().unwrap() == work.new, "again: {context}");
            }
            found = work.new.clone();
        }
    }
    assert_eq!(disk.open_files(), 0, "{context}");
    let mut book = work.open(disk.vfs()).unwrap_or_else(|error| panic!("{error}: {context}"));
    assert!(book.checked_content().unwrap() == found, "reopened: {context}");
    failed > 0
}

/// What a round came to whose allocations failed: it says so, or nothing went wrong.
fn assert_failed_or_done<T>(result: Result<T>, context: &str) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::NoMemory) => None,
        Err(error) => panic!("{error}: {context}"),
    }
}

/// Opening, checking, counting, seeking and reading with failing allocations, all of it cold.
fn read(work: &Workload, n: u32, repeat: u32) -> bool {
    let context = format!("reading {:?}, allocation {n}, {repeat}", work.form);
    let disk = Disk::with(&work.file);
    let options = Options { cache_size: work.cache, ..Options::default() };
    fail_nth(n, repeat);
    let mut opened = Btree::open(disk.vfs(), "t.db", &options);
    let result = match &mut opened {
        Ok(db) => look_at_everything(db, work, &context),
        Err(error) => Err(*error),
    };
    let failed = fail_nth(OFF.0, OFF.1);
    assert_failed_or_done(result, &context);
    if let Ok(mut db) = opened {
        let _ = db.rollback();
        assert_eq!(db.stats().pinned, 0, "{:?}: {context}", db.pinned_pages());
        let mut book = Book::attach(db).unwrap_or_else(|error| panic!("{error}: {context}"));
        assert!(book.checked_content().unwrap() == work.old, "afterwards: {context}");
    }
    assert_eq!(disk.open_files(), 0, "{context}");
    failed > 0
}

fn look_at_everything(db: &mut Btree, work: &Workload, context: &str) -> Result<()> {
    let roots = schema_roots(db)?;
    let numbers: Vec<i64> = roots.iter().map(|(_, root)| i64::from(root.get())).collect();
    let lines = db.integrity_check(&[&[1], &numbers[..]].concat(), 10)?;
    assert!(lines.is_empty(), "{lines:?}: {context}");
    for (name, root) in roots {
        let counts = [work.old.rows.len(), work.old.keys.len()];
        let wanted = counts[usize::from(name == "w")] as u64;
        with_cursor(db, root, false, |db, cursor| {
            assert_eq!(db.count(cursor)?, wanted, "{context}");
            db.last(cursor)?;
            db.previous(cursor).map(drop)
        })?;
        if name == "t" {
            for (&key, data) in &work.old.rows {
                let found = with_cursor(db, root, false, |db, cursor| {
                    assert!(db.seek(cursor, tclbtree::Key::Integer(key))?.is_eq(), "{context}");
                    db.data(cursor)
                })?;
                assert!(found.ends_with(data), "row {key}: {context}");
            }
        } else {
            for key in &work.old.keys {
                let record = key_record(key);
                let key = tclbtree::Key::Bytes(&record);
                let order = with_cursor(db, root, false, |db, cursor| db.seek(cursor, key))?;
                assert!(order.is_eq(), "{context}");
            }
        }
    }
    Ok(())
}

/// A hot journal that is played back with failing allocations: it stays until it is played back.
fn recover(work: &Workload, n: u32, repeat: u32) -> bool {
    let context = format!("recovery of {:?}, allocation {n}, {repeat}", work.form);
    let died = Disk::with(&work.file);
    let mut book = work.open(died.vfs()).unwrap();
    book.db.begin(TransactionKind::Write).unwrap();
    work.changes[0].iter().for_each(|change| book.apply(change).unwrap());
    book.db.commit_phase_one(None).unwrap();
    let disk = Disk::with(b"");
    for name in ["/t.db", "/t.db-journal"] {
        disk.files.put(name, died.files.content(Path::new(name)).unwrap());
    }
    let open = || work.open(disk.vfs()).and_then(|mut book| book.checked_content());
    fail_nth(n, repeat);
    let result = open();
    let failed = fail_nth(OFF.0, OFF.1);
    if let Some(content) = assert_failed_or_done(result, &context) {
        assert!(content == work.old, "{context}");
    }
    assert_eq!(disk.open_files(), 0, "{context}");
    assert!(open().unwrap_or_else(|error| panic!("{error}: {context}")) == work.old, "{context}");
    assert!(disk.files.content(Path::new("/t.db-journal")).is_none(), "{context}");
    failed > 0
}

/// Two databases in one transaction (D161): both are new, or both are old.
fn commit_together(work: &Workload, n: u32, repeat: u32) -> bool {
    let context = format!("two of {:?}, allocation {n}, {repeat}", work.form);
    let disk = Disk::with(&work.file);
    disk.files.put("/u.db", work.file.clone());
    let open = |name: &str| {
        let options = Options { cache_size: work.cache, ..Options::default() };
        Book::attach(Btree::open(disk.vfs(), name, &options).unwrap()).unwrap()
    };
    let mut books = ["t.db", "u.db"].map(open);
    for book in &mut books {
        book.db.begin(TransactionKind::Write).unwrap();
        let [first, _, last] = &work.changes;
        first.iter().chain(last).for_each(|change| book.apply(change).unwrap());
    }
    fail_nth(n, repeat);
    let [one, two] = &mut books;
    let result = Btree::commit_all(&mut [&mut one.db, &mut two.db]);
    let failed = fail_nth(OFF.0, OFF.1);
    let is_done = assert_failed_or_done(result, &context).is_some();
    let wanted = if is_done { &work.new } else { &work.old };
    for (mut book, name) in books.into_iter().zip(["t.db", "u.db"]) {
        assert!(book.checked_content().unwrap() == *wanted, "{name}, {result:?}: {context}");
        assert_eq!(book.db.stats().pinned, 0, "{context}");
        drop(book);
        assert!(open(name).checked_content().unwrap() == *wanted, "{name} again: {context}");
    }
    assert_eq!(disk.open_files(), 0, "{context}");
    failed > 0
}

/// Two connections on one page cache, one of which reads while the other writes.
fn share(work: &Workload, n: u32, repeat: u32) -> bool {
    let context = format!("shared {:?}, allocation {n}, {repeat}", work.form);
    let disk = Disk::with(&work.file);
    let vfs = disk.vfs();
    let registry = CacheRegistry::new();
    let open = || registry.client().open(Arc::clone(&vfs), "t.db", &Options::default());
    fail_nth(n, repeat);
    let opened = open().and_then(|writer| Ok((writer, open()?)));
    let result = match &opened {
        Ok((writer, reader)) => write_beside(writer, reader),
        Err(error) => Err(*error),
    };
    let failed = fail_nth(OFF.0, OFF.1);
    let is_done = assert_failed_or_done(result, &context).is_some();
    drop(opened);
    assert_eq!(disk.open_files(), 0, "{context}");
    let mut book = work.open(disk.vfs()).unwrap();
    let cookie = book.db.meta(6).unwrap();
    assert!(cookie == 7 || cookie == 0 && !is_done, "{cookie}: {context}");
    assert!(book.checked_content().unwrap() == work.old, "{context}");
    failed > 0
}

fn write_beside(writer: &SharedConnection, reader: &SharedConnection) -> Result<()> {
    reader.enter()?.begin(TransactionKind::Read)?;
    let mut inside = writer.enter()?;
    inside.begin(TransactionKind::Write)?;
    (2..40).try_for_each(|root| inside.lock_table(root, root % 2 == 0))?;
    inside.set_meta(6, 7)?;
    drop(inside);
    let mut inside = reader.enter()?;
    assert_eq!(inside.lock_table(2, false), Err(Error::LockedSharedCache));
    (3..40).step_by(2).try_for_each(|root| inside.lock_table(root, false))?;
    inside.commit()?;
    drop(inside);
    writer.enter()?.commit()
}

/// One backup with failing allocations: the destination is the copy, or what it was.
fn back_up(work: &Workload, n: u32, repeat: u32) -> bool {
    let context = format!("backup of {:?}, allocation {n}, {repeat}", work.form);
    let disk = Disk::with(&work.file);
    let mut source = work.open(disk.vfs()).unwrap();
    let form = Form::plain(2048);
    let destination = form.open(disk.vfs(), Path::new("copy.db"), 10).unwrap();
    let mut destination = Book::create(destination).unwrap().db;
    fail_nth(n, repeat);
    let result = (|| {
        let mut backup = Backup::start(&mut destination, &mut source.db)?;
        let mut step = || backup.step(&mut destination, &mut source.db, Some(5));
        let result = loop {
            match step() {
                Ok(false) => {}
                other => break other,
            }
        };
        let ended = backup.finish(&mut destination, &mut source.db);
        result.map(|_| ()).and(ended)
    })();
    let failed = fail_nth(OFF.0, OFF.1);
    assert!(matches!(result, Ok(()) | Err(Error::NoMemory)), "{result:?}: {context}");
    assert!(!source.db.is_in_backup(), "{context}");
    let mut copy = Book::attach(destination).unwrap_or_else(|error| panic!("{error}: {context}"));
    let wanted = if result.is_ok() { work.old.clone() } else { Content::default() };
    assert!(copy.checked_content().unwrap() == wanted, "{result:?}: {context}");
    drop((copy, source));
    assert_eq!(disk.open_files(), 0, "{context}");
    failed > 0
}

/// The same behind a queue, whose writer may be the one to fail (A807): what it could not do is
/// old or new as a whole, and the next one to open the database goes on.
fn run_behind(work: &Workload, n: u32, repeat: u32) -> bool {
    let context = format!("queue, {:?}, allocation {n}, {repeat}", work.form);
    let disk = Disk::with(&work.file);
    let queue = WriteBehind::new();
    let vfs: Arc<dyn Vfs> = Arc::new(WriteBehindVfs::new(disk.vfs(), &queue));
    let opened = work.open(Arc::clone(&vfs));
    let mut book = opened.unwrap();
    fail_nth(n, repeat);
    let result = work.run(&mut book);
    if result.is_err() {
        let _ = book.db.rollback();
    }
    assert!(matches!(result, Ok(()) | Err(Error::NoMemory)), "{result:?}: {context}");
    book.db.close();
    let flushed = queue.flush(None, Durability::Written, None);
    let failed = fail_nth(OFF.0, OFF.1);
    let _ = queue.flush(None, Durability::Written, None);
    drop(vfs);
    let mut book = work.open(disk.vfs()).unwrap_or_else(|error| panic!("{error}: {context}"));
    let content = book.checked_content().unwrap();
    let sound = content == work.old || content == work.new;
    assert!(sound, "{}, {result:?}, {flushed:?}: {context}", content.summary());
    let kept = result.is_err() || flushed.is_err() || content == work.new;
    assert!(kept, "lost without a word: {context}");
    failed > 0
}

/// What is queued was reported as written, and the writer needs no memory for it: not for one page
/// that differs little from one before it, nor for several, nor for a journal's record of a page.
fn write_without_memory() {
    const PAGE: usize = 1024;
    let directory = Directory::new("memory");
    for pages in [1, 3] {
        let paths = [directory.file("t.db"), directory.file("t.db-journal")];
        let queue = WriteBehind::new();
        let vfs = WriteBehindVfs::new(Arc::new(UnixVfs::new()), &queue);
        let open = |path: &Path, kind| {
            let request = OpenRequest {
                kind,
                access: Access::Create,
                exclusive: false,
                delete_on_close: false,
                lock_offset: LockPage::STANDARD_OFFSET,
            };
            vfs.open(Some(path), request).unwrap().file
        };
        let mut database = open(&paths[0], OpenKind::Database);
        let mut journal = open(&paths[1], OpenKind::Journal);
        journal.hint(Hint::PageRecords { start: 0, page_size: PAGE as u32 });
        let (mut content, mut records) = (vec![7; pages * PAGE], Vec::new());
        for version in 0..3 {
            for (index, page) in content.chunks_mut(PAGE).enumerate() {
                let number = (index as u32 + 1).to_be_bytes();
                records.extend([&number, &*page, &[version; 4]].concat());
                page[300] = version;
                database.write_at(page, (index * PAGE) as u64).unwrap();
            }
            let at = version as usize * pages * (PAGE + 8);
            journal.write_at(&records[at..], at as u64).unwrap();
        }
        // Nobody but the writer asks for memory meanwhile.
        queue.set_halt(Halt::Idle);
        fail_nth(1, u32::MAX);
        let worked = queue.start().and_then(|()| queue.wait());
        fail_nth(OFF.0, OFF.1);
        assert_eq!(worked, Ok(()));
        assert_eq!((queue.status().ops, queue.status().error), (0, None));
        for (path, content) in paths.iter().zip([&content, &records]) {
            assert!(std::fs::read(path).unwrap() == *content, "{}", path.display());
        }
    }
}

fn sweep(work: &Workload, round: fn(&Workload, u32, u32) -> bool, least: u32) {
    for repeat in [1, u32::MAX] {
        let mut n = if repeat == 1 { 1 } else { 2 };
        while round(work, n, repeat) {
            n += 1;
        }
        println!("{:?}, {repeat}: {n} allocations", work.form);
        assert!(n > least, "only {n} allocations fail");
    }
}

#[test]
fn d284_every_failing_allocation() {
    write_without_memory();
    for seed in Seeds::from_environment(1) {
        let plain = Workload::new(seed, Form::plain(1024), JournalMode::Delete, 10);
        sweep(&plain, run, 60);
        sweep(&plain, read, 20);
        sweep(&plain, recover, 20);
        sweep(&plain, commit_together, 3);
        sweep(&plain, share, 10);
        sweep(&plain, back_up, 20);
        sweep(&plain, run_behind, 60);
        let form = Form { page_size: 512, reserved: 8, auto_vacuum: AutoVacuum::Incremental };
        sweep(&Workload::new(seed, form, JournalMode::Memory, 200), run, 60);
        let form = Form { auto_vacuum: AutoVacuum::Full, ..form };
        let full = Workload::new(seed, form, JournalMode::Persist, 10);
        sweep(&full, run, 60);
        sweep(&full, read, 20);
        sweep(&full, commit_together, 3);
    }
}
