//! Kill and power-loss images of random transactions: the content is that of a committed prefix
//! (D152, D154, D280).
//!
//! | level | kill | power loss |
//! | --- | --- | --- |
//! | off | yes | not promised |
//! | normal | yes | all of what was not synced is lost, or all is kept |
//! | full, extra | yes | any sector of what was not synced in any state since |
//!
//! Normal syncs the journal's records together with their count, so a medium that reorders sectors
//! can defeat it; that is why full exists. `TCLBTREE_IMAGES` sets the images per stream (60),
//! seeds as in `support::Seeds`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::path::Path;
use std::sync::Arc;

use support::book::{Book, Change, Content, Form};
use support::random::Random;
use support::{Directory, Seeds, number_from, stock};
use tclbtree::format::AutoVacuum;
use tclbtree::os::simulate::{CrashDisk, DiskImage, Unsynced};
use tclbtree::pager::{JournalMode, SafetyLevel};
use tclbtree::{Btree, Options, TransactionKind};

const MODES: [JournalMode; 3] = [JournalMode::Delete, JournalMode::Truncate, JournalMode::Persist];
const LEVELS: [SafetyLevel; 4] =
    [SafetyLevel::Off, SafetyLevel::Normal, SafetyLevel::Full, SafetyLevel::Extra];

/// What was done to a disk, and what its content was to be.
struct Stream {
    disk: CrashDisk,
    /// Content after each commit, the empty database with its schema first.
    states: Vec<Content>,
    /// Number of changes of the disk when each of them was committed.
    finished: Vec<usize>,
    level: SafetyLevel,
    mode: JournalMode,
    context: String,
}

impl Stream {
    fn record(seed: u64, level: SafetyLevel, mode: JournalMode) -> Stream {
        let mut random = Random::new(seed);
        let form = Form {
            page_size: random.pick(&[512, 1024, 4096]),
            reserved: random.pick(&[0, 0, 32]),
            auto_vacuum: random.pick(&[
                AutoVacuum::None,
                AutoVacuum::Full,
                AutoVacuum::Incremental,
            ]),
        };
        // The stream begins on a disk on which the new database is durable: below the highest
        // levels the end of a first journal may be undone, and with it everything.
        let maker = CrashDisk::new();
        let db = form.open(Arc::new(maker.clone()), Path::new("t.db"), 10).unwrap();
        Book::create(db).unwrap().db.close();
        let disk = CrashDisk::starting_from(&maker.killed(maker.change_count(), None));
        let vfs: Arc<dyn tclbtree::os::Vfs> = Arc::new(disk.clone());
        let mut db = Btree::open(vfs, "t.db", &form.options(10)).unwrap();
        db.set_safety_level(level, false);
        db.set_journal_mode(mode).unwrap();
        let mut book = Book::attach(db).unwrap();
        let mut content = Content::default();
        let (mut states, mut finished) = (vec![content.clone()], vec![disk.change_count()]);
        for _ in 0..6 {
            let mut wanted = content.clone();
            book.db.begin(TransactionKind::Write).unwrap();
            for _ in 0..random.between(1, 40) {
                let change = Change::random(&mut random, &wanted, form.page_size as usize);
                change.expect(&mut wanted);
                book.apply(&change).unwrap();
            }
            if form.auto_vacuum == AutoVacuum::Incremental && random.percent(50) {
                while book.db.incremental_vacuum().unwrap() {}
            }
            if random.percent(80) {
                book.db.commit().unwrap();
                let is_other = wanted != content;
                content = wanted;
                // A commit of nothing is no state of its own to fall back to, even if a journal
                // came and went.
                if is_other && disk.change_count() > finished[finished.len() - 1] {
                    states.push(content.clone());
                    finished.push(disk.change_count());
                }
            } else {
                book.db.rollback().unwrap();
            }
        }
        book.db.close();
        let context = format!("seed {seed}, {form:?}, {level:?}, {mode:?}");
        Stream { disk, states, finished, level, mode, context }
    }

    /// Number of the last state that was committed when `changes` of the disk were done.
    fn committed(&self, changes: usize) -> usize {
        self.finished.iter().filter(|&&count| count <= changes).count() - 1
    }

    /// `content` must be a state no older than `oldest` and at most one beyond `committed`.
    fn assert_prefix(&self, content: &Content, oldest: usize, committed: usize, context: &str) {
        let newest = (committed + 1).min(self.states.len() - 1);
        let found = self.states[oldest..=newest].contains(content);
        assert!(found, "{} is no state of {oldest}..={newest}: {context}", content.summary());
    }
}

/// Recovers the files on `disk` with this engine.
fn recover(disk: &CrashDisk, context: &str) -> Content {
    let db = Btree::open(Arc::new(disk.clone()), "t.db", &Options::default()).unwrap();
    let mut book = Book::attach(db).unwrap_or_else(|error| panic!("{error}: {context}"));
    let lines = book.check().unwrap_or_else(|error| panic!("{error}: {context}"));
    assert!(lines.is_empty(), "{lines:?}: {context}");
    let content = book.content().unwrap_or_else(|error| panic!("{error}: {context}"));
    assert_eq!(book.db.stats().pinned, 0, "{context}");
    book.db.close();
    content
}

/// Recovers `image`; now and then stock SQLite does it as well, or power goes once more in the
/// middle of it.
fn examine(
    stream: &Stream,
    image: &DiskImage,
    oldest: usize,
    committed: usize,
    random: &mut Random,
    context: &str,
) {
    let disk = CrashDisk::starting_from(image);
    let content = recover(&disk, context);
    stream.assert_prefix(&content, oldest, committed, context);
    match random.below(10) {
        0 | 1 => {
            let directory = Directory::new("crash");
            directory.show(image);
            let connection = stock::open(&directory.file("t.db"));
            assert_eq!(stock::integrity(&connection), "ok", "{context}");
            let theirs = Content::by_stock(&connection);
            assert!(theirs == Ok(content), "stock disagrees: {context}");
        }
        2 | 3 => {
            let cut = random.between(0, disk.change_count());
            let again = if stream.level >= SafetyLevel::Full {
                disk.power_lost(cut, Unsynced::Part { seed: random.bits() })
            } else {
                disk.killed(cut, None)
            };
            let context = format!("{context}, again in recovery at {cut}");
            let content = recover(&CrashDisk::starting_from(&again), &context);
            stream.assert_prefix(&content, oldest, committed, &context);
        }
        _ => {}
    }
}

fn crash(stream: &Stream, images: u64, random: &mut Random) {
    let end = stream.disk.change_count();
    for _ in 0..images {
        let after = random.between(stream.finished[0], end);
        let committed = stream.committed(after);
        let cut = stream.disk.write_length(after).map(|length| random.below(length + 1));
        let context = format!("{}, killed after {after} of {end} at {cut:?}", stream.context);
        // The change that ends a commit may be the one that is cut.
        let oldest = committed.saturating_sub(usize::from(cut.is_some()));
        examine(stream, &stream.disk.killed(after, cut), oldest, committed, random, &context);
        if stream.level >= SafetyLevel::Normal {
            lose_power(stream, after, random);
        }
    }
}

fn lose_power(stream: &Stream, after: usize, random: &mut Random) {
    let committed = stream.committed(after);
    // The last commit may be lost where its commit point is not synced: a deletion below extra, a
    // truncation below full.
    let is_durable = match stream.mode {
        JournalMode::Truncate => stream.level >= SafetyLevel::Full,
        JournalMode::Delete => stream.level == SafetyLevel::Extra,
        _ => true,
    };
    let mut fates = vec![Unsynced::Keep, Unsynced::Lose];
    if stream.level >= SafetyLevel::Full {
        fates.push(Unsynced::Part { seed: random.bits() });
        fates.push(Unsynced::Part { seed: random.bits() });
    }
    for fate in fates {
        let kept = is_durable || fate == Unsynced::Keep;
        let oldest = if kept { committed } else { committed.saturating_sub(1) };
        let context = format!("{}, power lost after {after}, {fate:?}", stream.context);
        let image = stream.disk.power_lost(after, fate);
        examine(stream, &image, oldest, committed, random, &context);
    }
}

#[test]
fn every_crash_leaves_a_committed_prefix() {
    let images = number_from("TCLBTREE_IMAGES", 60);
    for seed in Seeds::from_environment(5) {
        for level in LEVELS {
            for mode in MODES {
                let stream = Stream::record(seed, level, mode);
                crash(&stream, images, &mut Random::new(seed ^ 0xc4a5));
            }
        }
    }
}

/// D154: what was committed survives the loss of everything that was not synced, at once.
///
/// In mode delete that takes level extra: below it the deletion of the journal is not synced, as
/// in stock SQLite.
#[test]
fn a_full_commit_is_durable_when_it_returns() {
    for (mode, level) in [
        (JournalMode::Delete, SafetyLevel::Extra),
        (JournalMode::Truncate, SafetyLevel::Full),
        (JournalMode::Persist, SafetyLevel::Full),
    ] {
        let stream = Stream::record(99, level, mode);
        for (number, &after) in stream.finished.iter().enumerate() {
            let image = stream.disk.power_lost(after, Unsynced::Lose);
            let content = recover(&CrashDisk::starting_from(&image), &stream.context);
            assert!(content == stream.states[number], "commit {number}: {}", stream.context);
        }
    }
}
