//! The b-tree over the write-behind layer: same result, and after any crash a committed prefix
//! (A103, A104, A933; the disk records what the writer really did).
//!
//! | level | kill | power loss |
//! | --- | --- | --- |
//! | off | yes | not promised |
//! | normal | yes | not swept |
//! | full, extra | yes | any sector of what was not synced in any state since |
//!
//! Streams of one database and of two that commit together with a super-journal, each of them
//! plain, with automatic or incremental vacuum, with savepoints, or beside a temporary database;
//! rolled back and flushed now and then. Every rule of joining is swept by itself as well, and
//! every rule that the queue must keep is also broken on purpose: the sweep must see it.
//! `TCLBTREE_STREAMS` sets the number of streams per setting (1, which makes some 100 000 states);
//! with `TCLBTREE_LONG=1` stock SQLite looks at every image, and not at some of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "write_behind/stream.rs"]
mod stream;
mod support;
#[path = "write_behind/work.rs"]
mod work;

use std::sync::Arc;

use stream::{KINDS, PLAIN, Setting, Stream};
use support::random::Random;
use support::{Directory, is_long, number_from};
use tclbtree::os::write_behind::{Coalesce, Forbidden, Halt, Rule, WriteBehind};
use tclbtree::os::{MemoryVfs, Vfs, WriteBehindVfs};
use tclbtree::pager::{JournalMode, LockingMode, SafetyLevel};
use work::Work;

const LEVELS: [SafetyLevel; 4] =
    [SafetyLevel::Off, SafetyLevel::Normal, SafetyLevel::Full, SafetyLevel::Extra];

const MODES: [JournalMode; 3] = [JournalMode::Delete, JournalMode::Truncate, JournalMode::Persist];

/// Streams of `make torture`, and states that it looks at, at least.
const LONG: (u64, usize) = (10, 100_000);

/// What sweeps came to.
#[derive(Default)]
struct Total {
    states: usize,
    by_stock: usize,
    elided: u64,
}

impl Total {
    /// Sweeps one stream, in which nothing may be bad.
    fn add(&mut self, setting: Setting) {
        let stream = Stream::record(setting);
        let stock_every = if is_long() { 1 } else { 23 };
        let found = stream.sweep(setting.power(), stock_every);
        let (bad, first) = (found.bad.len(), found.bad.first());
        assert!(bad == 0, "{setting:?}: {bad} of {}, first {first:?}", found.images);
        self.states += found.images;
        self.by_stock += found.images / stock_every;
        self.elided += stream.elided;
    }

    fn print(&self, name: &str) {
        let Total { states, by_stock, elided } = self;
        println!("{name}: {states} crash states checked, {by_stock} by stock SQLite too,");
        println!("    0 bad; {elided} operations left out");
        let (streams, wanted) = LONG;
        assert!(*states >= wanted || number_from("TCLBTREE_STREAMS", 1) < streams);
    }
}

/// Sweeps streams of these settings at every level and in every way of joining. Every seed goes
/// through the kinds of streams in another order.
fn sweep_all(databases: usize, modes: &[JournalMode]) -> Total {
    let mut total = Total::default();
    let mut turn = 0;
    for seed in 0..number_from("TCLBTREE_STREAMS", 1) {
        for coalesce in [Coalesce::Off, Coalesce::Safe, Coalesce::Full] {
            for &mode in modes {
                for level in LEVELS {
                    let kind = KINDS[turn % KINDS.len()];
                    total.add(Setting { seed, kind, databases, level, mode, coalesce, ..PLAIN });
                    turn += 1;
                }
            }
        }
        turn += 1;
    }
    total
}

/// A103, A933: 0 bad states with coalescing off, safe and full.
#[test]
fn every_crash_leaves_a_committed_prefix() {
    let total = sweep_all(1, &MODES);
    assert!(total.elided > 0, "the rules were never used");
    total.print("one database");
}

/// 6.9: and both databases of one commit the same.
#[test]
fn every_crash_leaves_a_committed_prefix_of_two_databases() {
    sweep_all(2, &[JournalMode::Delete, JournalMode::Persist]).print("two databases");
}

/// A933: each rule of joining and leaving out by itself.
#[test]
fn every_rule_alone_leaves_a_committed_prefix() {
    let rules =
        [Rule::Join, Rule::Sort, Rule::SkipSync, Rule::Cover, Rule::Stillborn, Rule::Invisible];
    let mut total = Total::default();
    for (turn, rule) in rules.into_iter().enumerate() {
        for seed in 0..number_from("TCLBTREE_STREAMS", 1) {
            for (at, level) in LEVELS.into_iter().enumerate() {
                let turn = turn + at + seed as usize;
                let (kind, mode) = (KINDS[turn % KINDS.len()], MODES[turn % MODES.len()]);
                let rule = Some(rule);
                total.add(Setting { seed, kind, level, mode, rule, ..PLAIN });
            }
        }
    }
    total.print("each rule alone");
}

/// 1.3: each rule, broken on purpose, is seen by the same sweep (L4, L6, L8, L9, L12, L14).
#[test]
fn broken_rules_are_caught() {
    use SafetyLevel::{Full, Off};
    let off = Setting { level: Off, ..PLAIN };
    let full = Setting { level: Full, ..PLAIN };
    let kept = Setting { mode: JournalMode::Persist, locking: LockingMode::Exclusive, ..off };
    let sparse = Setting { sparse: true, ..full };
    let two = |setting| Setting { databases: 2, ..setting };
    let rules = [
        (Forbidden::LogReversed, kept, 0),
        (Forbidden::AbsorbedAcrossCommit, off, 0),
        (Forbidden::DataNotSynced, full, 3),
        (Forbidden::SyncsMerged, full, 3),
        (Forbidden::RecordsNotSynced, sparse, 30),
        (Forbidden::HeaderNotSynced, full, 3),
        (Forbidden::DirectoryNotSynced, full, 3),
        (Forbidden::SuperJournalNotSynced, two(full), 3),
        (Forbidden::DataBeforeLogWrite, off, 0),
        (Forbidden::DataBeforeLogSync, full, 3),
        (Forbidden::DataBeforeLog, off, 0),
        (Forbidden::DataAfterCommit, off, 0),
        (Forbidden::CommitBeforeSync, full, 3),
        (Forbidden::DeletionCancelled, full, 3),
        (Forbidden::DeletionReused, full, 3),
        (Forbidden::SeparateQueues, two(off), 0),
        (Forbidden::SeparateQueues, two(full), 3),
    ];
    let mut missed = Vec::new();
    // Here the panics of the check are what is looked for.
    std::panic::set_hook(Box::new(|_| {}));
    for (rule, setting, power) in rules {
        let sweep = |seed| {
            let found = Stream::record(Setting { seed, broken: Some(rule), ..setting });
            let found = found.sweep(power, 0);
            let first = found.bad.first()?;
            println!("{rule:?}: {} of {}, first {first}", found.bad.len(), found.images);
            Some(())
        };
        if (0..6).find_map(sweep).is_none() {
            missed.push(rule);
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "{missed:?}");
}

/// The streams by which a missing sync of the journal's records is seen are good ones as long as
/// the sync is there.
#[test]
fn sparse_pages_survive_with_all_syncs() {
    let stream = Stream::record(Setting { sparse: true, level: SafetyLevel::Full, ..PLAIN });
    let found = stream.sweep(30, 0);
    assert!(found.bad.is_empty(), "{:?}", found.bad);
    println!("sparse pages: {} crash states checked", found.images);
}

/// A104: the file is that of the same work without the queue, whatever the writer was doing.
#[test]
fn the_result_is_that_of_the_same_work_without_the_queue() {
    let directory = Directory::new("behind");
    let work = |kind, vfs: Arc<dyn Vfs>| {
        let setting = Setting { level: SafetyLevel::Full, kind, ..PLAIN };
        let mut work = Work::create(setting, setting.paths(&directory), &vfs);
        let mut random = Random::new(7);
        for _ in 0..10 {
            work.transaction(&mut random, 25);
        }
        work.check();
        work.close();
    };
    for kind in KINDS {
        let direct = MemoryVfs::new();
        work(kind, Arc::new(direct.clone()));
        for coalesce in [Coalesce::Off, Coalesce::Safe, Coalesce::Full] {
            for runs in [true, false] {
                let disk = MemoryVfs::new();
                let control = WriteBehind::new();
                control.set_coalesce(coalesce);
                if runs {
                    control.start().unwrap();
                }
                work(kind, Arc::new(WriteBehindVfs::new(Arc::new(disk.clone()), &control)));
                control.set_halt(Halt::Idle);
                control.start().unwrap();
                control.wait().unwrap();
                assert_eq!(disk.paths(), direct.paths());
                for path in disk.paths() {
                    let is_same = disk.content(&path) == direct.content(&path);
                    assert!(is_same, "{kind:?} {coalesce:?} {runs}");
                }
            }
        }
    }
}
