//! The b-tree over the write-behind layer: same result, and after any crash a committed prefix
//! (A103, A104, A933; the disk records what the writer really did).
//!
//! | level | kill | power loss |
//! | --- | --- | --- |
//! | off | yes | not promised |
//! | normal | yes | not swept |
//! | full, extra | yes | any sector of what was not synced in any state since |
//!
//! Streams of one database, and of two that commit together with a super-journal. Every rule that
//! the queue must keep is also broken on purpose: the sweep must see it.
//! `TCLBTREE_STREAMS` sets the number of streams per setting (2, which makes some 150 000 states).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use support::book::{Book, Change, Content, Form};
use support::random::Random;
use support::{Directory, number_from, stock};
use tclbtree::os::simulate::{CrashDisk, DiskImage, Unsynced};
use tclbtree::os::write_behind::{Coalesce, Durability, Forbidden, Halt, WriteBehind};
use tclbtree::os::{Access, MemoryVfs, OpenKind, OpenRequest, SyncKind, Vfs, WriteBehindVfs};
use tclbtree::pager::{JournalMode, LockingMode, SafetyLevel};
use tclbtree::{Btree, Options, TransactionKind};

const LEVELS: [SafetyLevel; 4] =
    [SafetyLevel::Off, SafetyLevel::Normal, SafetyLevel::Full, SafetyLevel::Extra];

const MODES: [JournalMode; 3] = [JournalMode::Delete, JournalMode::Truncate, JournalMode::Persist];

/// How a stream is made.
#[derive(Debug, Clone, Copy)]
struct Setting {
    seed: u64,
    /// How many databases commit together.
    databases: usize,
    level: SafetyLevel,
    mode: JournalMode,
    locking: LockingMode,
    coalesce: Coalesce,
    broken: Option<Forbidden>,
    /// Pages of 2048 bytes, nearly all of them zeros: a torn journal record keeps its checksum.
    sparse: bool,
}

/// One database in delete mode, nothing broken.
const PLAIN: Setting = Setting {
    seed: 0,
    databases: 1,
    level: SafetyLevel::Off,
    mode: JournalMode::Delete,
    locking: LockingMode::Normal,
    coalesce: Coalesce::Off,
    broken: None,
    sparse: false,
};

impl Setting {
    fn form(self) -> Form {
        Form::plain(if self.sparse { 2048 } else { 512 })
    }
}

/// What the writer did to a disk, and the states that were committed.
struct Stream {
    disk: CrashDisk,
    /// Where stock SQLite looks at images: journals name files by their full path.
    directory: Directory,
    states: Vec<Vec<Content>>,
    /// Changes of the disk when the first state was on it.
    start: usize,
    setting: Setting,
    /// Writes and journals that `Coalesce::Full` or another rule left out.
    elided: u64,
}

/// What a sweep found.
#[derive(Default)]
struct Findings {
    images: usize,
    bad: Vec<String>,
}

impl Stream {
    /// Everything but the first state is queued as a whole, and worked off at the end.
    fn record(setting: Setting) -> Stream {
        let mut random = Random::new(setting.seed);
        let disk = CrashDisk::new();
        let directory = Directory::new("behind");
        let control = WriteBehind::new();
        control.set_coalesce(setting.coalesce);
        let vfs: Arc<dyn Vfs> = Arc::new(WriteBehindVfs::new(Arc::new(disk.clone()), &control));
        let mut work = Work::create(setting, &directory, &vfs);
        for number in 0..2 {
            work.transaction(&mut random, 20 + number);
        }
        control.flush(None, Durability::Durable, None).unwrap();
        let start = disk.change_count();
        let mut states = vec![work.contents.clone()];
        for _ in 0..6 {
            let length = random.between(1, 40);
            if random.percent(80) {
                work.transaction(&mut random, length);
                states.push(work.contents.clone());
            } else {
                work.change(&mut random, length);
                work.roll_back(&states[states.len() - 1]);
            }
        }
        for (book, content) in work.books.iter_mut().zip(&work.contents) {
            assert!(book.checked_content().unwrap() == *content, "{setting:?}");
        }
        if let Some(rule) = setting.broken {
            control.break_rule(rule);
        }
        let flushed = control.flush(None, Durability::Written, None);
        assert!(flushed.is_ok() || setting.broken.is_some(), "{flushed:?} {setting:?}");
        if setting.broken.is_none() {
            work.books.clear();
            control.flush(None, Durability::Written, None).unwrap();
        }
        let elided = control.statistics(None).elided;
        Stream { disk, directory, states, start, setting, elided }
    }

    /// The state that an image recovers to, by this engine, and at times by stock SQLite.
    fn recovered(&self, image: &DiskImage, by_stock: bool) -> Result<usize, String> {
        let paths = paths(self.setting, &self.directory);
        // The check of the content panics where something is wrong.
        let contents = std::panic::catch_unwind(|| recover(image, &paths));
        let contents = contents.unwrap_or_else(|_| Err("the check fails".to_owned()))?;
        if by_stock {
            self.directory.clear();
            image.write_to(Path::new("/")).unwrap();
            for (path, content) in paths.iter().zip(&contents) {
                let connection = stock::open(path);
                let verdict = stock::integrity(&connection);
                if verdict != "ok" {
                    return Err(format!("stock: {verdict}"));
                }
                if Content::by_stock(&connection).as_ref() != Ok(content) {
                    return Err("stock disagrees".to_owned());
                }
            }
        }
        let found = self.states.iter().position(|state| *state == contents);
        found.ok_or_else(|| {
            let summaries: Vec<String> = contents.iter().map(Content::summary).collect();
            format!("{} is no committed state", summaries.join(" and "))
        })
    }

    /// Looks at every prefix: kills, and with `power` as many partial losses of power.
    fn sweep(&self, power: u64, stock_every: usize) -> Findings {
        let mut found = Findings::default();
        let mut newest = 0;
        for after in self.start..=self.disk.change_count() {
            let mut fates = vec![("kill", self.disk.killed(after, None))];
            if let Some(length) = self.disk.write_length(after) {
                for cut in [0, 1, length / 2, length.saturating_sub(1)] {
                    fates.push(("cut", self.disk.killed(after, Some(cut))));
                }
            }
            if power > 0 {
                fates.push(("lose", self.disk.power_lost(after, Unsynced::Lose)));
            }
            for seed in 0..power {
                let seed = seed + 31 * after as u64;
                fates.push(("part", self.disk.power_lost(after, Unsynced::Part { seed })));
            }
            for (fate, image) in fates {
                found.images += 1;
                let by_stock = stock_every > 0 && found.images.is_multiple_of(stock_every);
                match self.recovered(&image, by_stock) {
                    Err(what) => found.bad.push(format!("{fate} after {after}: {what}")),
                    Ok(state) if fate == "kill" && state < newest => {
                        found.bad.push(format!("{fate} after {after}: {state} after {newest}"));
                    }
                    Ok(state) if fate == "kill" => newest = state,
                    Ok(_) => {}
                }
            }
        }
        if self.setting.broken.is_none() && newest + 1 != self.states.len() {
            found.bad.push("the last state never came".to_owned());
        }
        found
    }
}

fn paths(setting: Setting, directory: &Directory) -> Vec<PathBuf> {
    let names = ["one.db", "two.db"].into_iter().take(setting.databases);
    names.map(|name| directory.file(name)).collect()
}

fn recover(image: &DiskImage, paths: &[PathBuf]) -> Result<Vec<Content>, String> {
    let disk = CrashDisk::starting_from(image);
    let recover = |path: &PathBuf| {
        let open = Btree::open(Arc::new(disk.clone()), path, &Options::default());
        let mut book = open.and_then(Book::attach).map_err(|error| error.to_string())?;
        let content = book.checked_content().map_err(|error| error.to_string())?;
        book.db.close();
        Ok(content)
    };
    paths.iter().map(recover).collect()
}

/// Open databases, and what is in them.
struct Work {
    vfs: Arc<dyn Vfs>,
    paths: Vec<PathBuf>,
    books: Vec<Book>,
    contents: Vec<Content>,
    setting: Setting,
}

impl Work {
    fn create(setting: Setting, directory: &Directory, vfs: &Arc<dyn Vfs>) -> Work {
        let paths = paths(setting, directory);
        let open = |path: &PathBuf| {
            let mut db = setting.form().open(Arc::clone(vfs), path, 10).unwrap();
            db.set_safety_level(setting.level, false);
            db.set_journal_mode(setting.mode).unwrap();
            db.set_locking_mode(setting.locking);
            Book::create(db).unwrap()
        };
        let books: Vec<Book> = paths.iter().map(open).collect();
        let contents = vec![Content::default(); books.len()];
        Work { vfs: Arc::clone(vfs), paths, books, contents, setting }
    }

    fn change(&mut self, random: &mut Random, length: usize) {
        let page_size = self.setting.form().page_size as usize;
        for (book, content) in self.books.iter_mut().zip(&mut self.contents) {
            book.db.begin(TransactionKind::Write).unwrap();
            for _ in 0..length {
                let mut change = Change::random(random, content, page_size);
                if let Change::Put(_, payload) = &mut change
                    && self.setting.sparse
                {
                    let last = payload.len().saturating_sub(1);
                    payload.iter_mut().take(last).for_each(|byte| *byte = 0);
                }
                change.expect(content);
                book.apply(&change).unwrap();
            }
        }
    }

    fn transaction(&mut self, random: &mut Random, length: usize) {
        self.change(random, length);
        if let [book] = self.books.as_mut_slice() {
            return book.db.commit().unwrap();
        }
        let name = format!("{}-mj{:06X}9{:02X}", self.paths[0].display(), random.below(1 << 24), 1);
        let super_journal = PathBuf::from(name);
        let request = OpenRequest {
            kind: OpenKind::SuperJournal,
            access: Access::Create,
            exclusive: true,
            delete_on_close: false,
            lock_offset: 0x4000_0000,
        };
        let mut file = self.vfs.open(Some(&super_journal), request).unwrap().file;
        let journals = self.paths.iter().map(|path| format!("{}-journal\0", path.display()));
        file.write_at(journals.collect::<String>().as_bytes(), 0).unwrap();
        if self.setting.level != SafetyLevel::Off {
            file.sync(SyncKind::Normal).unwrap();
            self.vfs.sync_directory(&super_journal).unwrap();
        }
        for book in &mut self.books {
            book.db.commit_phase_one(Some(&super_journal)).unwrap();
        }
        drop(file);
        self.vfs.delete(&super_journal, true).unwrap();
        for book in &mut self.books {
            book.db.commit_phase_two().unwrap();
        }
    }

    fn roll_back(&mut self, contents: &[Content]) {
        self.books.iter_mut().for_each(|book| book.db.rollback().unwrap());
        self.contents = contents.to_vec();
    }
}

/// Sweeps streams of these settings at every level and in every way of joining; returns the
/// number of states, and how much was left out at `Coalesce::Full`.
fn sweep_all(databases: usize, modes: &[JournalMode]) -> (usize, u64) {
    let (mut total, mut elided) = (0, 0);
    for seed in 0..number_from("TCLBTREE_STREAMS", 2) {
        for coalesce in [Coalesce::Off, Coalesce::Safe, Coalesce::Full] {
            for &mode in modes {
                for level in LEVELS {
                    let setting = Setting { seed, databases, level, mode, coalesce, ..PLAIN };
                    let stream = Stream::record(setting);
                    let has_power = matches!(level, SafetyLevel::Full | SafetyLevel::Extra);
                    let found = stream.sweep(if has_power { 3 } else { 0 }, 23);
                    let count = found.bad.len();
                    assert!(
                        count == 0,
                        "{setting:?}: {count} of {}: {:?}",
                        found.images,
                        found.bad
                    );
                    total += found.images;
                    elided += if coalesce == Coalesce::Full { stream.elided } else { 0 };
                }
            }
        }
    }
    (total, elided)
}

/// A103, A933: 0 bad states with coalescing off, safe and full.
#[test]
fn every_crash_leaves_a_committed_prefix() {
    let (total, elided) = sweep_all(1, &MODES);
    assert!(elided > 0, "the rules of full were never used");
    println!("one database: {total} crash states checked, {elided} operations left out by full");
}

/// 6.9: and both databases of one commit the same.
#[test]
fn every_crash_leaves_a_committed_prefix_of_two_databases() {
    let (total, elided) = sweep_all(2, &[JournalMode::Delete, JournalMode::Persist]);
    println!("two databases: {total} crash states checked, {elided} operations left out by full");
}

/// 1.3: each rule, broken on purpose, is seen by the same sweep.
#[test]
fn broken_rules_are_caught() {
    use SafetyLevel::{Full, Off};
    let off = Setting { level: Off, ..PLAIN };
    let full = Setting { level: Full, ..PLAIN };
    let kept = Setting { mode: JournalMode::Persist, locking: LockingMode::Exclusive, ..off };
    let sparse = Setting { sparse: true, ..full };
    let rules = [
        (Forbidden::LogReversed, kept, 0),
        (Forbidden::AbsorbedAcrossCommit, off, 0),
        (Forbidden::DataBeforeLog, off, 0),
        (Forbidden::DataAfterCommit, off, 0),
        (Forbidden::SeparateQueues, Setting { databases: 2, ..off }, 0),
        (Forbidden::SeparateQueues, Setting { databases: 2, ..full }, 3),
        (Forbidden::DataNotSynced, full, 3),
        (Forbidden::CommitBeforeSync, full, 3),
        (Forbidden::DeletionCancelled, full, 3),
        (Forbidden::RecordsNotSynced, sparse, 30),
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
    let work = |vfs: Arc<dyn Vfs>| {
        let setting = Setting { level: SafetyLevel::Full, ..PLAIN };
        let mut work = Work::create(setting, &directory, &vfs);
        let mut random = Random::new(7);
        for _ in 0..20 {
            work.transaction(&mut random, 25);
        }
        work.books.clear();
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
