//! Kill and power-loss images of random transactions: the content is that of a committed prefix
//! (D152, D154, D280).
//!
//! | level | kill | power loss |
//! | --- | --- | --- |
//! | off | yes | not promised |
//! | normal | yes | unsynced operations of a file kept in order, up to any point |
//! | full | yes | any sector of what was not synced in any state since |
//!
//! Normal syncs the journal's records together with their count, so a medium that reorders sectors
//! can defeat it; that is why full exists. `TCLBTREE_IMAGES` sets the images per stream (60),
//! seeds as in `support::Seeds`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::path::Path;

use support::book::{Book, Change, Content, Form};
use support::disk::{Disk, Image, Loss, Op, Replay};
use support::random::Random;
use support::{Directory, Seeds, number_from, stock};
use tclbtree::format::AutoVacuum;
use tclbtree::pager::{JournalMode, SafetyLevel};
use tclbtree::{Btree, Options, TransactionKind};

const MODES: [JournalMode; 3] = [JournalMode::Delete, JournalMode::Truncate, JournalMode::Persist];
const LEVELS: [SafetyLevel; 4] =
    [SafetyLevel::Off, SafetyLevel::Normal, SafetyLevel::Full, SafetyLevel::Extra];

/// What was done to a disk, and what its content was to be.
struct Stream {
    log: Vec<Op>,
    /// Content after each commit, the empty database with its schema first.
    states: Vec<Content>,
    /// Length of the log when each of them was committed.
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
        let disk = Disk::new();
        let mut db = form.open(disk.vfs(), Path::new("t.db"), 10).unwrap();
        db.set_safety_level(level, false);
        db.set_journal_mode(mode).unwrap();
        let mut book = Book::create(db).unwrap();
        let mut content = Content::default();
        let (mut states, mut finished) = (vec![content.clone()], vec![disk.mark()]);
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
                content = wanted;
                states.push(content.clone());
                finished.push(disk.mark());
            } else {
                book.db.rollback().unwrap();
            }
        }
        book.db.close();
        let context = format!("seed {seed}, {form:?}, {level:?}, {mode:?}");
        Stream { log: disk.log(), states, finished, level, mode, context }
    }

    /// Number of the last state that was committed when `length` operations were done.
    fn committed(&self, length: usize) -> usize {
        self.finished.iter().filter(|&&mark| mark <= length).count() - 1
    }

    /// `content` must be a state no older than `oldest` and at most one beyond `committed`.
    fn assert_prefix(&self, content: &Content, oldest: usize, committed: usize, context: &str) {
        let newest = (committed + 1).min(self.states.len() - 1);
        let found = self.states[oldest..=newest].contains(content);
        assert!(found, "{} is no state of {oldest}..={newest}: {context}", content.summary());
    }
}

/// Recovers `image` with this engine and returns the disk and the content.
fn recover(image: &Image, context: &str) -> (Disk, Content) {
    let disk = Disk::new();
    for (path, bytes) in image {
        disk.install(path, bytes).unwrap();
    }
    let db = Btree::open(disk.vfs(), "t.db", &Options::default()).unwrap();
    let mut book = Book::attach(db).unwrap_or_else(|error| panic!("{error}: {context}"));
    let content = book.checked_content().unwrap_or_else(|error| panic!("{error}: {context}"));
    assert_eq!(book.db.stats().pinned, 0, "{context}");
    book.db.close();
    (disk, content)
}

/// The same by stock SQLite.
fn recover_by_stock(image: &Image, directory: &Directory, context: &str) -> Content {
    directory.clear();
    for (path, bytes) in image {
        std::fs::write(directory.file(path.file_name().unwrap().to_str().unwrap()), bytes).unwrap();
    }
    let connection = stock::open(&directory.file("t.db"));
    assert_eq!(stock::integrity(&connection), "ok", "{context}");
    Content::by_stock(&connection).unwrap_or_else(|error| panic!("{error}: {context}"))
}

/// Power goes once more, in the middle of the recovery of `image`.
fn crash_again(image: &Image, loss: Loss, random: &mut Random, context: &str) -> Content {
    let (disk, _) = recover(image, context);
    let log = disk.log();
    // Installing the image took three operations for each file.
    let start = (4 * image.len()).min(log.len());
    let cut = random.between(start, log.len());
    let mut replay = Replay::new();
    log[..cut].iter().for_each(|op| replay.apply(op));
    replay.apply(&Op::SyncDirectory);
    recover(&replay.power_loss(loss, false, random), &format!("{context}, again at {cut}")).1
}

fn crash(stream: &Stream, images: u64, random: &mut Random) {
    let directory = Directory::new("crash");
    let mut cuts: Vec<_> = (0..images)
        .map(|_| random.between(stream.finished[0], stream.log.len()))
        .collect();
    cuts.sort_unstable();
    let (mut replay, mut done) = (Replay::new(), 0);
    for cut in cuts {
        stream.log[done..cut].iter().for_each(|op| replay.apply(op));
        done = cut;
        let committed = stream.committed(cut);
        let context = format!("{}, cut at {cut} of {}", stream.context, stream.log.len());
        let context = format!("{context}, killed");
        let image = replay.kill();
        let (_, content) = recover(&image, &context);
        stream.assert_prefix(&content, committed, committed, &context);
        if random.percent(20) {
            let theirs = recover_by_stock(&image, &directory, &context);
            assert!(theirs == content, "stock disagrees: {context}");
        }
        if stream.level >= SafetyLevel::Normal {
            lose_power(stream, &replay, cut, &directory, random);
        }
    }
}

fn lose_power(
    stream: &Stream,
    replay: &Replay,
    cut: usize,
    directory: &Directory,
    random: &mut Random,
) {
    let committed = stream.committed(cut);
    let partial = if stream.level == SafetyLevel::Normal { Loss::Tail } else { Loss::Sectors };
    for (loss, undo) in [(Loss::All, false), (partial, false), (partial, true)] {
        let context = format!("{}, cut at {cut}, {loss:?}, undo {undo}", stream.context);
        // The last commit may be lost where its commit point is not synced: a deletion below
        // extra, a truncation below full.
        let durable = match stream.mode {
            JournalMode::Truncate => stream.level >= SafetyLevel::Full,
            JournalMode::Delete => !undo || stream.level == SafetyLevel::Extra,
            _ => true,
        };
        let oldest = if durable { committed } else { committed.saturating_sub(1) };
        let image = replay.power_loss(loss, undo, random);
        let (_, content) = recover(&image, &context);
        stream.assert_prefix(&content, oldest, committed, &context);
        match random.below(10) {
            0 | 1 => {
                let theirs = recover_by_stock(&image, directory, &context);
                assert!(theirs == content, "stock disagrees: {context}");
            }
            2 | 3 => {
                let content = crash_again(&image, partial, random, &context);
                stream.assert_prefix(&content, oldest, committed, &context);
            }
            _ => {}
        }
    }
}

#[test]
fn every_crash_leaves_a_committed_prefix() {
    let images = number_from("TCLBTREE_IMAGES", 60);
    for seed in Seeds::from_environment(3) {
        for level in LEVELS {
            for mode in MODES {
                let stream = Stream::record(seed, level, mode);
                crash(&stream, images, &mut Random::new(seed ^ 0xc4a5));
            }
        }
    }
}

/// D154: what was committed survives the loss of everything that was not synced, at once.
#[test]
fn a_full_commit_is_durable_when_it_returns() {
    for mode in MODES {
        let stream = Stream::record(99, SafetyLevel::Full, mode);
        let mut replay = Replay::new();
        let mut done = 0;
        for (number, &mark) in stream.finished.iter().enumerate() {
            stream.log[done..mark].iter().for_each(|op| replay.apply(op));
            done = mark;
            let image = replay.power_loss(Loss::All, false, &mut Random::new(1));
            let (_, content) = recover(&image, &stream.context);
            assert!(content == stream.states[number], "commit {number}: {}", stream.context);
        }
    }
}
