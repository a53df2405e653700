//! The n-th operation of the disk fails, for every n: an error or a clean success, and then old
//! or new content (D281 to D285).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use support::book::{Book, Change, Content, Form};
use support::random::Random;
use tclbtree::format::AutoVacuum;
use tclbtree::os::Vfs;
use tclbtree::os::simulate::{FaultKnobs, FaultVfs, OpKind, PlannedFault};
use tclbtree::pager::JournalMode;
use tclbtree::{Btree, Error, MemoryVfs, Options, Result, TransactionKind};

/// How calls of the disk fail, from the chosen one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The chosen call fails, later ones work.
    Once,
    /// It and all later ones fail.
    Persistent,
    /// The chosen write and all later ones find no room.
    Full,
    /// The chosen call fails; if it is a write, half of it reached the disk.
    Torn,
}

const FAULTS: [Fault; 4] = [Fault::Once, Fault::Persistent, Fault::Full, Fault::Torn];

/// A disk in memory whose calls fail on command.
struct Disk {
    files: Arc<MemoryVfs>,
    knobs: Arc<FaultKnobs>,
}

impl Disk {
    fn new() -> Disk {
        Disk { files: Arc::new(MemoryVfs::new()), knobs: Arc::new(FaultKnobs::new()) }
    }

    fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(FaultVfs::new(Arc::clone(&self.files) as _, Arc::clone(&self.knobs)))
    }

    fn path(&self) -> PathBuf {
        self.files.full_path(Path::new("t.db")).unwrap()
    }

    /// Makes the `n`-th call from now fail; returns how to tell whether it was reached.
    fn fail(&self, n: u64, fault: Fault) -> impl Fn() -> bool {
        let kind = if fault == Fault::Full { OpKind::Write } else { OpKind::Any };
        let plan = PlannedFault {
            error: (fault == Fault::Full).then_some(Error::Full),
            persist: matches!(fault, Fault::Persistent | Fault::Full),
            torn: fault == Fault::Torn,
        };
        self.knobs.plan(kind, n, plan);
        let (knobs, last) = (Arc::clone(&self.knobs), self.knobs.calls(kind) + n);
        move || knobs.calls(kind) >= last
    }

    fn open_files(&self) -> i32 {
        self.knobs.open_file_count.load(Ordering::Relaxed)
    }
}

/// The transactions of the workload: changes that stay, and changes that are taken back by a
/// statement rollback in their middle.
struct Workload {
    transactions: Vec<[Vec<Change>; 3]>,
    /// Content before the first transaction and after each.
    states: Vec<Content>,
    form: Form,
    mode: JournalMode,
    /// The file before the first transaction.
    file: Vec<u8>,
}

impl Workload {
    fn new(form: Form, mode: JournalMode) -> Workload {
        let mut random = Random::new(u64::from(form.page_size));
        let disk = Disk::new();
        let mut book =
            Book::create(form.open(disk.vfs(), Path::new("t.db"), 200).unwrap()).unwrap();
        let mut content = Content::default();
        let start = changes(&mut random, &mut content, form, 150);
        book.commit(&start).unwrap();
        book.db.close();
        let file = disk.files.content(&disk.path()).unwrap();
        let mut states = vec![content.clone()];
        let transactions = (0..3)
            .map(|_| {
                let first = changes(&mut random, &mut content, form, 15);
                let undone = changes(&mut random, &mut content.clone(), form, 15);
                let last = changes(&mut random, &mut content, form, 15);
                states.push(content.clone());
                [first, undone, last]
            })
            .collect();
        Workload { transactions, states, form, mode, file }
    }

    /// The disk as it was before the first transaction.
    fn disk(&self) -> Disk {
        let disk = Disk::new();
        disk.files.put(disk.path(), self.file.clone());
        disk
    }

    /// Runs transaction `number`.
    fn run(&self, book: &mut Book, number: usize) -> Result<()> {
        let [first, undone, last] = &self.transactions[number];
        book.db.begin(TransactionKind::Write)?;
        first.iter().try_for_each(|change| book.apply(change))?;
        book.db.begin_statement()?;
        undone.iter().try_for_each(|change| book.apply(change))?;
        book.db.rollback_statement()?;
        last.iter().try_for_each(|change| book.apply(change))?;
        if number == 1 {
            // D285: a tree that comes and goes within the transaction leaves nothing.
            let root = book.db.create_table(0)?;
            let cursor = book.db.open_cursor(root, true)?;
            let result = book.db.insert(cursor, tclbtree::Key::Bytes(b"key"), &[7; 3000], 100);
            book.db.close_cursor(cursor);
            result?;
            book.db.drop_table(root.get())?;
        }
        book.db.commit()
    }
}

fn changes(random: &mut Random, content: &mut Content, form: Form, count: usize) -> Vec<Change> {
    let mut next = || {
        let change = Change::random(random, content, form.page_size as usize);
        change.expect(content);
        change
    };
    (0..count).map(|_| next()).collect()
}

/// Errors that a failing disk may cause.
fn assert_known(error: Error, fault: Fault, context: &str) {
    let known = match error {
        Error::Io { .. } | Error::CannotOpen(_) => fault != Fault::Full,
        Error::Full => fault == Fault::Full,
        _ => false,
    };
    assert!(known, "{error:?}: {context}");
}

/// One run with the `n`-th operation failing; whether it was hit.
fn run_with_fault(work: &Workload, fault: Fault, n: u64) -> bool {
    let context = format!("{:?}, {:?}, {fault:?} at {n}", work.form, work.mode);
    let disk = work.disk();
    let is_hit = disk.fail(n, fault);
    let mut done = 0;
    let outcome = (|| {
        let db =
            Btree::open(disk.vfs(), "t.db", &Options { cache_size: 10, ..Options::default() })?;
        let mut book = Book::attach(db)?;
        book.db.set_journal_mode(work.mode)?;
        while done < work.transactions.len() {
            if let Err(error) = work.run(&mut book, done) {
                after_failure(work, book, error, fault, done, &context);
                return Err(error);
            }
            done += 1;
        }
        assert_eq!(book.db.stats().pinned, 0, "{context}");
        Ok(())
    })();
    let hit = is_hit();
    disk.knobs.clear_plans();
    if let Err(error) = outcome {
        assert_known(error, fault, &context);
    }
    assert_eq!(disk.open_files(), 0, "files left open: {context}");
    reopen(work, &disk, done, &context);
    hit
}

/// A transaction failed: roll back, on the broken disk if it stays broken, and go on if possible.
fn after_failure(
    work: &Workload,
    mut book: Book,
    error: Error,
    fault: Fault,
    done: usize,
    context: &str,
) {
    let context = format!("{context}, {error:?}");
    let undone = book.db.rollback();
    assert!(!book.db.is_writing(), "rollback always ends the transaction: {context}");
    assert_eq!(
        book.db.stats().pinned,
        0,
        "pinned after rollback: {:?}: {context}",
        book.db.pinned_pages()
    );
    if undone.is_ok() && matches!(fault, Fault::Once | Fault::Torn) {
        // The connection is usable again; a commit that failed at its very end may have happened.
        let content = book.checked_content().unwrap_or_else(|error| panic!("{error}: {context}"));
        assert_state(work, &content, done, &context);
        if content == work.states[done] {
            work.run(&mut book, done).unwrap_or_else(|error| panic!("again: {error}: {context}"));
            assert!(book.checked_content().unwrap() == work.states[done + 1], "again: {context}");
        }
    }
    book.db.close();
}

fn assert_state(work: &Workload, content: &Content, done: usize, context: &str) {
    let old = *content == work.states[done];
    let new = work.states.get(done + 1) == Some(content);
    assert!(old || new, "neither old nor new: {}: {context}", content.summary());
}

/// The repaired disk, opened anew.
fn reopen(work: &Workload, disk: &Disk, done: usize, context: &str) {
    let db = Btree::open(disk.vfs(), "t.db", &Options::default()).unwrap();
    let mut book = Book::attach(db).unwrap_or_else(|error| panic!("reopen: {error}: {context}"));
    let content = book.checked_content().unwrap();
    assert_state(work, &content, done, context);
    assert_eq!(book.db.stats().pinned, 0, "after reopening: {context}");
    book.db.close();
    assert_eq!(disk.open_files(), 0, "after reopening: {context}");
}

fn sweep(form: Form, mode: JournalMode) {
    let work = Workload::new(form, mode);
    for fault in FAULTS {
        let mut n = 1;
        while run_with_fault(&work, fault, n) {
            n += 1;
        }
        println!("{form:?}, {mode:?}, {fault:?}: {n} positions");
        assert!(n > 50, "the workload hardly touches the disk");
    }
}

#[test]
fn every_failing_operation_of_a_plain_file() {
    sweep(Form::plain(1024), JournalMode::Delete);
}

#[test]
fn every_failing_operation_with_auto_vacuum_and_a_persistent_journal() {
    let form = Form { page_size: 512, reserved: 8, auto_vacuum: AutoVacuum::Full };
    sweep(form, JournalMode::Persist);
}

#[test]
fn every_failing_operation_of_a_temporary_database() {
    let form = Form::plain(1024);
    let mut random = Random::new(3);
    let mut content = Content::default();
    let first = changes(&mut random, &mut content, form, 120);
    let old = content.clone();
    let second = changes(&mut random, &mut content, form, 60);
    let new = content;
    for fault in FAULTS {
        for n in 1.. {
            let context = format!("{fault:?} at {n}");
            let disk = Disk::new();
            let mut book = Book::create(form.open(disk.vfs(), Path::new(""), 10).unwrap()).unwrap();
            book.commit(&first).unwrap();
            let is_hit = disk.fail(n, fault);
            let outcome = book.commit(&second);
            let undone = if outcome.is_err() { book.db.rollback() } else { Ok(()) };
            let hit = is_hit();
            disk.knobs.clear_plans();
            assert_eq!(book.db.stats().pinned, 0, "{context}");
            match outcome {
                Ok(()) => assert!(book.checked_content().unwrap() == new, "{context}"),
                Err(error) => assert_known(error, fault, &context),
            }
            if outcome.is_err() && undone.is_ok() {
                assert!(book.checked_content().unwrap() == old, "{context}");
            }
            book.db.close();
            assert_eq!(disk.open_files(), 0, "{context}");
            if !hit {
                break;
            }
        }
    }
}

/// A database in memory has nothing that could fail on the disk.
#[test]
fn a_database_in_memory_does_not_touch_the_disk() {
    let disk = Disk::new();
    let is_hit = disk.fail(1, Fault::Persistent);
    let form = Form::plain(1024);
    let mut book = Book::create(form.open(disk.vfs(), Path::new(":memory:"), 10).unwrap()).unwrap();
    let mut content = Content::default();
    let some = changes(&mut Random::new(1), &mut content, form, 200);
    book.commit(&some).unwrap();
    assert!(book.checked_content().unwrap() == content);
    assert!(!is_hit());
}
