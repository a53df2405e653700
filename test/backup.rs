//! Copies of databases that are being written to, between all page sizes, across the lock page,
//! and cut short by a crash (D250 to D257, D342). Seeds as in `support::Seeds`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::path::Path;
use std::sync::Arc;

use support::book::{Book, Change, Content, Form};
use support::random::Random;
use support::{Directory, Seeds, stock};
use tclbtree::btree::Backup;
use tclbtree::format::AutoVacuum;
use tclbtree::os::Vfs;
use tclbtree::os::simulate::{CrashDisk, Unsynced};
use tclbtree::pager::SafetyLevel;
use tclbtree::{Btree, Error, MemoryVfs, Options, TransactionKind, UnixVfs};

const SIZES: [u32; 4] = [512, 1024, 4096, 16384];

/// A source and a destination on one disk, with what they hold.
struct Pair {
    vfs: Arc<dyn Vfs>,
    source: Book,
    content: Content,
    destination: Btree,
    old: Content,
    lock_offset: u32,
}

fn random_form(random: &mut Random) -> Form {
    let kinds = [AutoVacuum::None, AutoVacuum::Full, AutoVacuum::Incremental];
    Form {
        page_size: random.pick(&SIZES),
        reserved: random.pick(&[0, 0, 32]),
        auto_vacuum: random.pick(&kinds),
    }
}

fn options(form: Form, lock_offset: u32) -> Options {
    Options { lock_offset, ..form.options(20) }
}

fn open_new(vfs: &Arc<dyn Vfs>, name: &Path, form: Form, lock_offset: u32) -> Btree {
    let mut db = Btree::open(Arc::clone(vfs), name, &options(form, lock_offset)).unwrap();
    let size = tclbtree::format::PageSize::new(form.page_size);
    db.set_page_size(size, Some(form.reserved), false).unwrap();
    db.set_auto_vacuum(form.auto_vacuum).unwrap();
    db
}

fn changes(random: &mut Random, content: &mut Content, form: Form, count: usize) -> Vec<Change> {
    let one = |_| {
        let change = Change::random(random, content, form.page_size as usize);
        change.expect(content);
        change
    };
    (0..count).map(one).collect()
}

impl Pair {
    /// The destination is empty or has pages of its own.
    fn new(
        vfs: Arc<dyn Vfs>,
        names: [&Path; 2],
        forms: [Form; 2],
        lock_offset: u32,
        random: &mut Random,
    ) -> Pair {
        let mut source = Book::create(open_new(&vfs, names[0], forms[0], lock_offset)).unwrap();
        let mut content = Content::default();
        source.commit(&changes(random, &mut content, forms[0], 120)).unwrap();
        let destination = open_new(&vfs, names[1], forms[1], lock_offset);
        let mut book = Book::create(destination).unwrap();
        let mut old = Content::default();
        let count = random.pick(&[0, 60, 250]);
        book.commit(&changes(random, &mut old, forms[1], count)).unwrap();
        Pair { vfs, source, content, destination: book.db, old, lock_offset }
    }

    fn step(&mut self, backup: &mut Backup, pages: Option<u32>) -> tclbtree::Result<bool> {
        backup.step(&mut self.destination, &mut self.source.db, pages)
    }

    /// The destination holds what the source holds, for its own connection and for a new one.
    fn assert_equal(self, name: &Path, context: &str) {
        assert_eq!(self.destination.page_size(), self.source.db.page_size(), "{context}");
        assert_eq!(self.destination.auto_vacuum(), self.source.db.auto_vacuum(), "{context}");
        let mut book = Book::attach(self.destination).unwrap();
        assert!(book.checked_content().unwrap() == self.content, "{context}");
        assert_eq!(book.db.stats().pinned, 0, "{context}");
        book.db.close();
        let options = options(Form::plain(512), self.lock_offset);
        let mut book = Book::attach(Btree::open(self.vfs, name, &options).unwrap()).unwrap();
        assert!(book.checked_content().unwrap() == self.content, "{context}");
    }
}

/// D250, D253, D254, D255: whatever is done to the source between steps of five pages.
#[test]
fn d250_a_source_that_is_written_to_is_copied_as_it_is_at_the_end() {
    let mut restarts = 0;
    for seed in Seeds::from_environment(24) {
        let random = &mut Random::new(seed);
        let directory = Directory::new("backup");
        let (from, to) = (directory.file("from.db"), directory.file("to.db"));
        let mut forms = [random_form(random), random_form(random)];
        if random.percent(50) {
            forms[1].page_size = forms[0].page_size;
        }
        let context = format!("seed {seed}, {forms:?}");
        let vfs: Arc<dyn Vfs> = Arc::new(UnixVfs::new());
        let mut pair = Pair::new(vfs, [&from, &to], forms, 0x4000_0000, random);
        let mut backup = Backup::start(&mut pair.destination, &mut pair.source.db).unwrap();
        let mut rounds = 0;
        while !pair.step(&mut backup, Some(5)).unwrap() {
            rounds += 1;
            let left = backup.remaining();
            disturb(&mut pair, &mut backup, &from, forms[0], rounds, random);
            let others = pair.vfs.clone();
            let options = options(forms[1], pair.lock_offset);
            let mut other = Btree::open(others, &to, &options).unwrap();
            assert_eq!(other.begin(TransactionKind::Read), Err(Error::Busy), "D252: {context}");
            restarts += u32::from(backup.remaining() > left);
        }
        assert_eq!(backup.remaining(), 0, "{context}");
        backup.finish(&mut pair.destination, &mut pair.source.db).unwrap();
        let content = pair.content.clone();
        pair.assert_equal(&to, &context);
        let connection = stock::open(&to);
        assert_eq!(stock::integrity(&connection), "ok", "{context}");
        assert!(Content::by_stock(&connection) == Ok(content), "{context}");
    }
    assert!(restarts > 0, "nothing ever changed from outside");
}

/// Something that happens to a source between two steps.
fn disturb(
    pair: &mut Pair,
    backup: &mut Backup,
    from: &Path,
    form: Form,
    round: u32,
    random: &mut Random,
) {
    let few = random.between(1, 12);
    match random.below(if round < 40 { 6 } else { 3 }) {
        0 => {}
        1 | 2 => {
            let changes = changes(random, &mut pair.content, form, few);
            pair.source.commit(&changes).unwrap();
        }
        3 => {
            // What is not committed is not copied, and a step has to wait.
            let changes = changes(random, &mut pair.content.clone(), form, few * 10);
            pair.source.db.begin(TransactionKind::Write).unwrap();
            changes.iter().for_each(|change| pair.source.apply(change).unwrap());
            assert_eq!(pair.step(backup, Some(5)), Err(Error::Busy));
            pair.source.db.rollback().unwrap();
        }
        4 => {
            let other = Btree::open(Arc::clone(&pair.vfs), from, &form.options(20)).unwrap();
            let before = pair.content.clone();
            let changes = changes(random, &mut pair.content, form, few);
            Book::attach(other).unwrap().commit(&changes).unwrap();
            if !pair.step(backup, Some(0)).unwrap() && pair.content != before {
                assert_eq!(backup.remaining(), backup.page_count(), "D254: it starts over");
            }
        }
        _ => {
            // Pages that go and come again are other pages.
            let keys: Vec<i64> = pair.content.rows.keys().copied().collect();
            let removed: Vec<Change> = keys.into_iter().map(Change::Remove).collect();
            removed.iter().for_each(|change| change.expect(&mut pair.content));
            pair.source.commit(&removed).unwrap();
            let changes = changes(random, &mut pair.content, form, 60);
            pair.source.commit(&changes).unwrap();
        }
    }
}

/// D256: every pair of page sizes, the lock page in the middle of it all.
#[test]
fn d256_page_sizes_may_differ_on_both_sides_of_the_lock_page() {
    let mut random = Random::new(9);
    for from in SIZES {
        for to in SIZES {
            for lock_offset in [0x4000_0000, 1 << 14, 3 << 14] {
                let context = format!("{from} to {to}, lock bytes at {lock_offset}");
                let names = [Path::new("from.db"), Path::new("to.db")];
                let forms = [Form::plain(from), Form::plain(to)];
                let vfs = Arc::new(MemoryVfs::new());
                let mut pair = Pair::new(vfs, names, forms, lock_offset, &mut random);
                let mut backup = Backup::start(&mut pair.destination, &mut pair.source.db).unwrap();
                while !pair.step(&mut backup, Some(7)).unwrap() {}
                assert_eq!(pair.step(&mut backup, Some(7)), Ok(true), "{context}");
                backup.finish(&mut pair.destination, &mut pair.source.db).unwrap();
                pair.assert_equal(names[1], &context);
            }
        }
    }
}

/// D252, D256: the copy is committed at one moment, also when the size of the pages changes.
#[test]
fn d252_a_crash_leaves_the_old_destination_or_the_whole_copy() {
    for seed in Seeds::from_environment(6) {
        let mut random = Random::new(seed);
        let maker = CrashDisk::new();
        let names = [Path::new("/from.db"), Path::new("/to.db")];
        let forms = [random_form(&mut random), random_form(&mut random)];
        let vfs: Arc<dyn Vfs> = Arc::new(maker.clone());
        drop(Pair::new(vfs, names, forms, 0x4000_0000, &mut random.clone()));
        let disk = CrashDisk::starting_from(&maker.killed(maker.change_count(), None));
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let open = |name, form: Form| Btree::open(Arc::clone(&vfs), name, &form.options(20));
        let (mut source, mut destination) =
            (open(names[0], forms[0]).unwrap(), open(names[1], forms[1]).unwrap());
        destination.set_safety_level(SafetyLevel::Extra, false);
        let (old, new) = (content_on(&disk, names[1]), content_on(&disk, names[0]));
        let mut backup = Backup::start(&mut destination, &mut source).unwrap();
        while !backup.step(&mut destination, &mut source, Some(9)).unwrap() {}
        let end = disk.change_count();
        for after in 0..=end {
            let cut = disk.write_length(after).map(|length| random.below(length + 1));
            let part = Unsynced::Part { seed: random.bits() };
            let images = [
                disk.killed(after, cut),
                disk.power_lost(after, Unsynced::Lose),
                disk.power_lost(after, part),
            ];
            for (kind, image) in images.iter().enumerate() {
                let context = format!("seed {seed}, {forms:?}, {after} of {end}, kind {kind}");
                let found = content_on(&CrashDisk::starting_from(image), names[1]);
                assert!(found == old || found == new, "{}: {context}", found.summary());
                assert!(after < end || found == new, "{context}");
            }
        }
    }
}

fn content_on(disk: &CrashDisk, name: &Path) -> Content {
    let db = Btree::open(Arc::new(disk.clone()), name, &Options::default()).unwrap();
    Book::attach(db).unwrap().checked_content().unwrap()
}

/// D252, D255, D257, D314 and the edges.
#[test]
fn d257_ends_and_edges() {
    let random = &mut Random::new(3);
    let names = [Path::new("from.db"), Path::new("to.db")];
    let forms = [Form::plain(1024), Form::plain(1024)];
    let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    let mut pair = Pair::new(Arc::clone(&vfs), names, forms, 0x4000_0000, random);
    // Given up: the old content is back.
    let mut backup = Backup::start(&mut pair.destination, &mut pair.source.db).unwrap();
    assert!(pair.source.db.is_in_backup() && !pair.destination.is_in_backup());
    assert_eq!(pair.step(&mut backup, Some(5)), Ok(false));
    backup.finish(&mut pair.destination, &mut pair.source.db).unwrap();
    assert!(!pair.source.db.is_in_backup());
    let mut book = Book::attach(pair.destination).unwrap();
    assert!(book.checked_content().unwrap() == pair.old);
    // The schema cookie moves beyond its old value.
    book.db.begin(TransactionKind::Write).unwrap();
    book.db.set_meta(1, 77).unwrap();
    book.db.commit().unwrap();
    pair.destination = book.db;
    let mut backup = Backup::start(&mut pair.destination, &mut pair.source.db).unwrap();
    assert_eq!(pair.step(&mut backup, None), Ok(true));
    backup.finish(&mut pair.destination, &mut pair.source.db).unwrap();
    assert_eq!(pair.destination.meta(1), Ok(78));
    // A destination in use is refused; one that is taken away in the middle ends the backup.
    pair.destination.begin(TransactionKind::Read).unwrap();
    let refused = Backup::start(&mut pair.destination, &mut pair.source.db).map(|_| ());
    assert_eq!(refused.map_err(|error| error.code().primary), Err(1));
    pair.destination.commit().unwrap();
    let mut backup = Backup::start(&mut pair.destination, &mut pair.source.db).unwrap();
    assert_eq!(pair.step(&mut backup, Some(1)), Ok(false));
    pair.destination.rollback().unwrap();
    let ended = pair.step(&mut backup, Some(1)).unwrap_err();
    assert_eq!(ended.code().name, "SQLITE_ABORT");
    assert_eq!(backup.finish(&mut pair.destination, &mut pair.source.db), Err(ended));
    // Into memory, of another size and of the same; an empty source.
    let mut memory = Btree::open(Arc::clone(&vfs), ":memory:", &Options::default()).unwrap();
    Book::create(memory).unwrap().db.close();
    memory = Btree::open(Arc::clone(&vfs), ":memory:", &forms[0].options(20)).unwrap();
    let mut backup = Backup::start(&mut memory, &mut pair.source.db).unwrap();
    assert_eq!(backup.step(&mut memory, &mut pair.source.db, None), Ok(true));
    backup.finish(&mut memory, &mut pair.source.db).unwrap();
    let mut book = Book::attach(memory).unwrap();
    assert!(book.checked_content().unwrap() == pair.content);
    let mut other = open_new(&vfs, Path::new("other.db"), Form::plain(4096), 0x4000_0000);
    other = Book::create(other).unwrap().db;
    let mut backup = Backup::start(&mut book.db, &mut other).unwrap();
    let refused = backup.step(&mut book.db, &mut other, None).unwrap_err();
    assert_eq!(refused.code().name, "SQLITE_READONLY");
    let _ = backup.finish(&mut book.db, &mut other);
    assert!(book.checked_content().unwrap() == pair.content);
    let mut empty = open_new(&vfs, Path::new("empty.db"), Form::plain(4096), 0x4000_0000);
    let mut backup = Backup::start(&mut other, &mut empty).unwrap();
    assert_eq!(backup.step(&mut other, &mut empty, None), Ok(true));
    backup.finish(&mut other, &mut empty).unwrap();
    other.begin(TransactionKind::Read).unwrap();
    assert_eq!((other.page_count(), other.integrity_check(&[1], 9)), (1, Ok(vec![])));
}
