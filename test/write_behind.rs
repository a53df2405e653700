//! The b-tree over the write-behind layer: same result, and after any crash a committed prefix
//! (A103, A104, A933; the disk records what the writer really did).
//!
//! | level | kill | power loss |
//! | --- | --- | --- |
//! | off | yes | not promised |
//! | normal | yes | not swept |
//! | full | yes | any sector of what was not synced in any state since |
//!
//! Every rule that the queue must keep is also broken on purpose: the sweep must see it.
//! `TCLBTREE_STREAMS` sets the number of streams per setting (2).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::path::Path;
use std::sync::Arc;

use support::book::{Book, Change, Content, Form};
use support::random::Random;
use support::{Directory, number_from, stock};
use tclbtree::format::AutoVacuum;
use tclbtree::os::simulate::{CrashDisk, DiskImage, Unsynced};
use tclbtree::os::write_behind::{Coalesce, Durability, Forbidden, Halt, WriteBehind};
use tclbtree::os::{MemoryVfs, WriteBehindVfs};
use tclbtree::pager::{JournalMode, LockingMode, SafetyLevel};
use tclbtree::{Btree, Options, TransactionKind};

const MODES: [JournalMode; 3] = [JournalMode::Delete, JournalMode::Truncate, JournalMode::Persist];

/// How a stream is made.
#[derive(Debug, Clone, Copy)]
struct Setting {
    seed: u64,
    level: SafetyLevel,
    mode: JournalMode,
    locking: LockingMode,
    coalesce: Coalesce,
    broken: Option<Forbidden>,
}

/// What the writer did to a disk, and the states that were committed.
struct Stream {
    disk: CrashDisk,
    states: Vec<Content>,
    /// Changes of the disk when the first state was on it.
    start: usize,
    setting: Setting,
}

const FORM: Form = Form { page_size: 512, reserved: 0, auto_vacuum: AutoVacuum::None };

impl Stream {
    /// Everything but the first state is queued as a whole, and worked off at the end.
    fn record(setting: Setting) -> Stream {
        let mut random = Random::new(setting.seed);
        let disk = CrashDisk::new();
        let control = WriteBehind::new();
        control.set_coalesce(setting.coalesce);
        let vfs = WriteBehindVfs::new(Arc::new(disk.clone()), &control);
        let mut db = FORM.open(Arc::new(vfs), Path::new("t.db"), 10).unwrap();
        db.set_safety_level(setting.level, false);
        db.set_journal_mode(setting.mode).unwrap();
        db.set_locking_mode(setting.locking);
        let mut book = Book::create(db).unwrap();
        let mut content = Content::default();
        for number in 0..2 {
            transaction(&mut book, &mut content, &mut random, 20 + number);
        }
        control.flush(None, Durability::Durable, None).unwrap();
        let start = disk.change_count();
        let mut states = vec![content.clone()];
        for _ in 0..6 {
            let mut wanted = content.clone();
            let length = random.between(1, 40);
            if random.percent(80) {
                transaction(&mut book, &mut content, &mut random, length);
                states.push(content.clone());
            } else {
                change(&mut book, &mut wanted, &mut random, length);
                book.db.rollback().unwrap();
            }
        }
        assert!(book.checked_content().unwrap() == content, "{setting:?}");
        if let Some(rule) = setting.broken {
            control.break_rule(rule);
        }
        let flushed = control.flush(None, Durability::Written, None);
        assert!(flushed.is_ok() || setting.broken.is_some(), "{flushed:?} {setting:?}");
        if setting.broken.is_none() {
            book.db.close();
            control.flush(None, Durability::Written, None).unwrap();
        }
        Stream { disk, states, start, setting }
    }

    /// The state that an image recovers to, by this engine, and at times by stock SQLite.
    fn recovered(&self, image: &DiskImage, by_stock: bool) -> Result<usize, String> {
        // The check of the content panics where something is wrong.
        let content = std::panic::catch_unwind(|| recover(image));
        let content = content.unwrap_or_else(|_| Err("the check fails".to_owned()))?;
        if by_stock {
            let directory = Directory::new("behind");
            directory.show(image);
            let connection = stock::open(&directory.file("t.db"));
            let verdict = stock::integrity(&connection);
            if verdict != "ok" {
                return Err(format!("stock: {verdict}"));
            }
            if Content::by_stock(&connection) != Ok(content.clone()) {
                return Err("stock disagrees".to_owned());
            }
        }
        let found = self.states.iter().position(|state| *state == content);
        found.ok_or_else(|| format!("{} is no committed state", content.summary()))
    }

    /// Looks at every prefix. Returns how many images there were, and the bad ones.
    fn sweep(&self, power: bool, stock_every: usize) -> (usize, Vec<String>) {
        let (mut images, mut bad, mut newest) = (0, Vec::new(), 0);
        for after in self.start..=self.disk.change_count() {
            let mut fates = vec![("kill", self.disk.killed(after, None))];
            if let Some(length) = self.disk.write_length(after) {
                for cut in [0, 1, length / 2, length.saturating_sub(1)] {
                    fates.push(("cut", self.disk.killed(after, Some(cut))));
                }
            }
            if power {
                fates.push(("lose", self.disk.power_lost(after, Unsynced::Lose)));
                for seed in 0..3 {
                    let seed = seed + 31 * after as u64;
                    fates.push(("part", self.disk.power_lost(after, Unsynced::Part { seed })));
                }
            }
            for (fate, image) in fates {
                images += 1;
                let by_stock = stock_every > 0 && images % stock_every == 0;
                let state = self.recovered(&image, by_stock);
                match state {
                    Err(what) => bad.push(format!("{fate} after {after}: {what}")),
                    Ok(state) if fate == "kill" && state < newest => {
                        bad.push(format!("{fate} after {after}: {state} after {newest}"));
                    }
                    Ok(state) if fate == "kill" => newest = state,
                    Ok(_) => {}
                }
            }
        }
        if self.setting.broken.is_none() && newest + 1 != self.states.len() {
            bad.push("the last state never came".to_owned());
        }
        (images, bad)
    }
}

fn recover(image: &DiskImage) -> Result<Content, String> {
    let disk = CrashDisk::starting_from(image);
    let open = Btree::open(Arc::new(disk), "t.db", &Options::default());
    let mut book = open.and_then(Book::attach).map_err(|error| error.to_string())?;
    let content = book.checked_content().map_err(|error| error.to_string())?;
    book.db.close();
    Ok(content)
}

fn change(book: &mut Book, wanted: &mut Content, random: &mut Random, length: usize) {
    book.db.begin(TransactionKind::Write).unwrap();
    for _ in 0..length {
        let change = Change::random(random, wanted, FORM.page_size as usize);
        change.expect(wanted);
        book.apply(&change).unwrap();
    }
}

fn transaction(book: &mut Book, content: &mut Content, random: &mut Random, length: usize) {
    change(book, content, random, length);
    book.db.commit().unwrap();
}

/// A103, A933: 0 bad states with coalescing off, safe and full.
#[test]
fn every_crash_leaves_a_committed_prefix() {
    let mut total = 0;
    for seed in 0..number_from("TCLBTREE_STREAMS", 2) {
        for coalesce in [Coalesce::Off, Coalesce::Safe, Coalesce::Full] {
            for mode in MODES {
                for level in [SafetyLevel::Off, SafetyLevel::Normal, SafetyLevel::Full] {
                    let locking = LockingMode::Normal;
                    let broken = None;
                    let setting = Setting { seed, level, mode, locking, coalesce, broken };
                    let stream = Stream::record(setting);
                    let (images, bad) = stream.sweep(level == SafetyLevel::Full, 23);
                    assert!(bad.is_empty(), "{setting:?}: {} of {images}: {bad:?}", bad.len());
                    total += images;
                }
            }
        }
    }
    println!("{total} crash states checked");
}

/// 1.3: each rule, broken on purpose, is seen by the same sweep.
#[test]
fn broken_rules_are_caught() {
    use JournalMode::{Delete, Persist};
    use LockingMode::{Exclusive, Normal};
    let rules = [
        (Forbidden::LogReversed, SafetyLevel::Off, Persist, Exclusive, false),
        (Forbidden::AbsorbedAcrossCommit, SafetyLevel::Off, Delete, Normal, false),
        (Forbidden::DataBeforeLog, SafetyLevel::Off, Delete, Normal, false),
        (Forbidden::DataAfterCommit, SafetyLevel::Off, Delete, Normal, false),
        (Forbidden::DataNotSynced, SafetyLevel::Full, Delete, Normal, true),
        (Forbidden::CommitBeforeSync, SafetyLevel::Full, Delete, Normal, true),
        (Forbidden::DeletionCancelled, SafetyLevel::Full, Delete, Normal, true),
    ];
    let mut missed = Vec::new();
    // Here the panics of the check are what is looked for.
    std::panic::set_hook(Box::new(|_| {}));
    for (rule, level, mode, locking, power) in rules {
        let mut caught = 0;
        for seed in 0..6 {
            let (coalesce, broken) = (Coalesce::Off, Some(rule));
            let setting = Setting { seed, level, mode, locking, coalesce, broken };
            let (images, bad) = Stream::record(setting).sweep(power, 0);
            caught += bad.len();
            if caught > 0 {
                println!("{rule:?}: {} of {images}, first {}", bad.len(), bad[0]);
                break;
            }
        }
        if caught == 0 {
            missed.push(rule);
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "{missed:?}");
}

/// A104: the file is that of the same work without the queue, whatever the writer was doing.
#[test]
fn the_result_is_that_of_the_same_work_without_the_queue() {
    let work = |vfs: Arc<dyn tclbtree::os::Vfs>| {
        let mut book = Book::create(FORM.open(vfs, Path::new("t.db"), 10).unwrap()).unwrap();
        let (mut content, mut random) = (Content::default(), Random::new(7));
        for _ in 0..20 {
            transaction(&mut book, &mut content, &mut random, 25);
        }
        book.db.close();
    };
    let direct = MemoryVfs::new();
    work(Arc::new(direct.clone()));
    for coalesce in [Coalesce::Off, Coalesce::Safe, Coalesce::Full] {
        for runs in [true, false] {
            let disk = MemoryVfs::new();
            let control = WriteBehind::new();
            control.set_coalesce(coalesce);
            if runs {
                control.start().unwrap();
            }
            work(Arc::new(WriteBehindVfs::new(Arc::new(disk.clone()), &control)));
            control.set_halt(Halt::Idle);
            control.start().unwrap();
            control.wait().unwrap();
            assert_eq!(disk.paths(), direct.paths());
            for path in disk.paths() {
                assert!(disk.content(&path) == direct.content(&path), "{coalesce:?} {runs}");
            }
        }
    }
}
