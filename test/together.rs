//! Three databases in one transaction: all of it survives, or nothing, wherever the process dies,
//! the power goes or the disk fails, and whoever recovers which database first (D161, D152, D280).
//!
//! The images of a crash have the paths of a real directory, so that stock SQLite finds the
//! super-journal under the name that the journals have for it. `TCLBTREE_IMAGES` sets how many
//! crashes each stream gets (40); with `TCLBTREE_LONG` it is one at every change of the disk.
//! Seeds as in `support::Seeds`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use support::book::{Book, Change, Content, Form};
use support::random::Random;
use support::{Directory, Seeds, is_long, number_from, stock};
use tclbtree::format::AutoVacuum;
use tclbtree::os::Vfs;
use tclbtree::os::simulate::{
    CrashDisk, DiskImage, FaultKnobs, FaultVfs, OpKind, PlannedFault, Unsynced,
};
use tclbtree::pager::{JournalMode, SafetyLevel};
use tclbtree::{Btree, Error, MemoryVfs, Options, Result, TransactionKind, UnixVfs};

const NAMES: [&str; 3] = ["a.db", "b.db", "c.db"];
const MODES: [JournalMode; 3] = [JournalMode::Delete, JournalMode::Truncate, JournalMode::Persist];
const LEVELS: [SafetyLevel; 3] = [SafetyLevel::Normal, SafetyLevel::Full, SafetyLevel::Extra];
/// The end of a journal that names a super-journal.
const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

type State = [Content; 3];

/// Three databases on one disk.
struct Library {
    books: Vec<Book>,
    forms: Vec<Form>,
}

impl Library {
    fn create(vfs: &Arc<dyn Vfs>, paths: &[PathBuf], random: &mut Random) -> Library {
        let kinds = [AutoVacuum::None, AutoVacuum::Full, AutoVacuum::Incremental];
        let forms: Vec<Form> = (0..3)
            .map(|_| Form {
                page_size: random.pick(&[512, 1024]),
                reserved: 0,
                auto_vacuum: random.pick(&kinds),
            })
            .collect();
        let open = |(form, path): (&Form, &PathBuf)| {
            Book::create(form.open(Arc::clone(vfs), path, 10).unwrap()).unwrap()
        };
        Library { books: forms.iter().zip(paths).map(open).collect(), forms }
    }

    fn attach(vfs: &Arc<dyn Vfs>, paths: &[PathBuf], forms: Vec<Form>) -> Result<Library> {
        let open = |(form, path): (&Form, &PathBuf)| {
            Book::attach(Btree::open(Arc::clone(vfs), path, &form.options(10))?)
        };
        let books = forms.iter().zip(paths).map(open).collect::<Result<_>>()?;
        Ok(Library { books, forms })
    }

    fn set(&mut self, level: SafetyLevel, mode: JournalMode) {
        for book in &mut self.books {
            book.db.set_safety_level(level, false);
            book.db.set_journal_mode(mode).unwrap();
        }
    }

    /// Changes at least two databases, so that one cannot commit without the other.
    fn change(&mut self, random: &mut Random, state: &mut State, length: usize) -> Result<()> {
        let left_out = random.below(6);
        for (index, book) in self.books.iter_mut().enumerate() {
            if index == left_out {
                continue;
            }
            book.db.begin(TransactionKind::Write)?;
            let page_size = self.forms[index].page_size as usize;
            let mark = Change::Put(500, random.bytes(8));
            mark.expect(&mut state[index]);
            book.apply(&mark)?;
            for _ in 0..random.between(0, length) {
                let change = Change::random(random, &state[index], page_size);
                change.expect(&mut state[index]);
                book.apply(&change)?;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        let mut all: Vec<&mut Btree> = self.books.iter_mut().map(|book| &mut book.db).collect();
        Btree::commit_all(&mut all)
    }

    fn contents(&mut self) -> State {
        std::array::from_fn(|index| {
            let content = self.books[index].checked_content().unwrap();
            assert_eq!(self.books[index].db.stats().pinned, 0);
            content
        })
    }
}

/// What was done to a disk, and what its databases were to hold.
struct Stream {
    disk: CrashDisk,
    directory: Directory,
    paths: Vec<PathBuf>,
    /// Content after each commit, and how many changes of the disk were made by then.
    states: Vec<State>,
    finished: Vec<usize>,
    context: String,
    level: SafetyLevel,
}

impl Stream {
    fn record(seed: u64, level: SafetyLevel, mode: JournalMode) -> Stream {
        let mut random = Random::new(seed);
        let directory = Directory::new("together");
        let paths: Vec<PathBuf> = NAMES.iter().map(|name| directory.file(name)).collect();
        let maker = CrashDisk::new();
        let vfs: Arc<dyn Vfs> = Arc::new(maker.clone());
        let forms = Library::create(&vfs, &paths, &mut random).forms;
        let disk = CrashDisk::starting_from(&maker.killed(maker.change_count(), None));
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let mut library = Library::attach(&vfs, &paths, forms).unwrap();
        library.set(level, mode);
        let mut state = State::default();
        let (mut states, mut finished) = (vec![state.clone()], vec![disk.change_count()]);
        for _ in 0..4 {
            let mut wanted = state.clone();
            library.change(&mut random, &mut wanted, 12).unwrap();
            if random.percent(85) {
                library.commit().unwrap();
                state = wanted;
                states.push(state.clone());
                finished.push(disk.change_count());
            } else {
                library.books.iter_mut().for_each(|book| book.db.rollback().unwrap());
            }
        }
        drop(library);
        let context = format!("seed {seed}, {level:?}, {mode:?}");
        Stream { disk, directory, paths, states, finished, context, level }
    }

    fn crash(&self, images: u64, random: &mut Random) {
        let (start, end) = (self.finished[0], self.disk.change_count());
        if is_long() {
            (start..=end).for_each(|after| self.crash_at(after, random));
        } else {
            (0..images).for_each(|_| self.crash_at(random.between(start, end), random));
        }
    }

    fn crash_at(&self, after: usize, random: &mut Random) {
        let cut = self.disk.write_length(after).map(|length| random.below(length + 1));
        let context = format!("{}, killed after {after} at {cut:?}", self.context);
        self.examine(&self.disk.killed(after, cut), after, true, random, &context);
        let mut fates = vec![Unsynced::Lose, Unsynced::Keep];
        if self.level >= SafetyLevel::Full {
            fates.extend([0; 2].map(|_| Unsynced::Part { seed: random.bits() }));
        }
        for fate in fates {
            let context = format!("{}, power lost after {after}, {fate:?}", self.context);
            let image = self.disk.power_lost(after, fate);
            self.examine(&image, after, false, random, &context);
        }
    }

    /// Recovers the databases one by one in some order. The end of a transaction through a
    /// super-journal is durable at every level: its deletion is synced.
    fn examine(
        &self,
        image: &DiskImage,
        after: usize,
        killed: bool,
        random: &mut Random,
        context: &str,
    ) {
        let committed = self.finished.iter().filter(|&&count| count <= after).count() - 1;
        let newest = (committed + 1).min(self.states.len() - 1);
        let mut order = [0, 1, 2];
        order.swap(0, random.below(3));
        order.swap(1, random.between(1, 2));
        let state = if random.percent(20) {
            self.recover_on_disk(image, order, random, context)
        } else {
            self.recover_in_memory(image, order, killed, random, context)
        };
        let found = self.states[committed..=newest].contains(&state);
        let summary = state.each_ref().map(Content::summary);
        assert!(found, "{summary:?} is no state of {committed}..={newest}: {context}");
    }

    fn recover_in_memory(
        &self,
        image: &DiskImage,
        order: [usize; 3],
        killed: bool,
        random: &mut Random,
        context: &str,
    ) -> State {
        let disk = CrashDisk::starting_from(image);
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let mut state = State::default();
        for index in order {
            state[index] = recover(&vfs, &self.paths[index], context);
        }
        let left = disk.killed(disk.change_count(), None);
        assert_cleaned_up(image, &left, context);
        if random.percent(25) {
            // The recovery does not live to its end; somebody else does it again.
            let cut = random.between(0, disk.change_count());
            let full = self.level >= SafetyLevel::Full && !killed;
            let again = if full {
                disk.power_lost(cut, Unsynced::Part { seed: random.bits() })
            } else {
                disk.killed(cut, None)
            };
            let context = format!("{context}, again in recovery at {cut}");
            let vfs: Arc<dyn Vfs> = Arc::new(CrashDisk::starting_from(&again));
            for index in [order[2], order[0], order[1]] {
                let content = recover(&vfs, &self.paths[index], &context);
                assert!(content == state[index], "{}: {context}", NAMES[index]);
            }
        }
        state
    }

    /// A crash at every change of the disk in the first commit, recovered once by stock SQLite
    /// alone and once by this engine alone: the same for both, and nothing or all of it.
    fn crash_at_every_change(&self) {
        let (start, end) = (self.finished[0], self.finished[1]);
        for after in start..=end {
            let cut = self.disk.write_length(after).map(|length| length / 2);
            for image in [
                self.disk.killed(after, cut),
                self.disk.power_lost(after, Unsynced::Lose),
                self.disk.power_lost(after, Unsynced::Keep),
            ] {
                let context = format!("{}, after {after} of {start}..={end}", self.context);
                let by_stock = self.recover_all(&image, |path| {
                    let connection = stock::open(path);
                    assert_eq!(stock::integrity(&connection), "ok", "{context}");
                    Content::by_stock(&connection).unwrap()
                });
                let vfs: Arc<dyn Vfs> = Arc::new(UnixVfs::new());
                let here = self.recover_all(&image, |path| recover(&vfs, path, &context));
                assert!(by_stock == here, "stock and this engine differ: {context}");
                // A transaction may end with what it began with.
                let (is_old, is_new) = (here == self.states[0], here == self.states[1]);
                assert!(is_old || after > start && is_new, "neither of the two: {context}");
                assert!(is_new || after < end, "what was committed is lost: {context}");
            }
        }
    }

    /// The contents, one database after the other, when each is opened by `open`.
    fn recover_all(&self, image: &DiskImage, open: impl Fn(&Path) -> Content) -> State {
        self.directory.clear();
        image.write_to(Path::new("/")).unwrap();
        std::array::from_fn(|index| open(&self.paths[index]))
    }

    /// Some of the databases are recovered by stock SQLite, the others by this engine.
    fn recover_on_disk(
        &self,
        image: &DiskImage,
        order: [usize; 3],
        random: &mut Random,
        context: &str,
    ) -> State {
        self.directory.clear();
        image.write_to(Path::new("/")).unwrap();
        let vfs: Arc<dyn Vfs> = Arc::new(UnixVfs::new());
        let mut state = State::default();
        for index in order {
            let path = &self.paths[index];
            state[index] = if random.percent(60) {
                let connection = stock::open(path);
                assert_eq!(stock::integrity(&connection), "ok", "{context}");
                Content::by_stock(&connection).unwrap()
            } else {
                recover(&vfs, path, context)
            };
        }
        state
    }
}

/// The content of a database that is opened after a crash.
fn recover(vfs: &Arc<dyn Vfs>, path: &Path, context: &str) -> Content {
    let db = Btree::open(Arc::clone(vfs), path, &Options::default()).unwrap();
    let mut book = Book::attach(db).unwrap_or_else(|error| panic!("{error}: {context}"));
    let lines = book.check().unwrap_or_else(|error| panic!("{error}: {context}"));
    assert!(lines.is_empty(), "{lines:?}: {context}");
    book.content().unwrap_or_else(|error| panic!("{error}: {context}"))
}

/// No journal is hot any more. A super-journal is gone if one that named it was hot; a journal
/// that was not sealed yet and names it keeps it, as with stock SQLite.
fn assert_cleaned_up(before: &DiskImage, after: &DiskImage, context: &str) {
    let is_hot = |content: &[u8]| content.first().is_some_and(|&first| first != 0);
    let is_journal = |path: &Path| path.to_string_lossy().ends_with("-journal");
    for (path, content) in after.files() {
        let is_left = is_journal(path) && is_hot(content);
        assert!(!is_left, "{} is left: {context}", path.display());
        let name = path.as_os_str().as_bytes();
        let journals = before.files().iter().filter(|(path, _)| is_journal(path));
        let names_it = |content: &[u8]| {
            let front = content.strip_suffix(&MAGIC).unwrap_or_default();
            front.get(..front.len().saturating_sub(8)).unwrap_or_default().ends_with(name)
        };
        let named = journals.filter(|(_, content)| names_it(content));
        let (hot, cold): (Vec<_>, Vec<_>) = named.partition(|(_, content)| is_hot(content));
        assert!(hot.is_empty() || !cold.is_empty(), "{} is left: {context}", path.display());
    }
}

#[test]
fn d161_a_crash_leaves_all_of_a_transaction_or_nothing() {
    let images = number_from("TCLBTREE_IMAGES", 40);
    for seed in Seeds::from_environment(3) {
        for (at, mode) in MODES.into_iter().enumerate() {
            for (turn, level) in LEVELS.into_iter().enumerate() {
                if is_long() || (turn + at) as u64 % 3 == seed % 3 {
                    let stream = Stream::record(seed, level, mode);
                    stream.crash(images, &mut Random::new(seed ^ 0x3a11));
                }
            }
        }
    }
}

/// Every crash of one commit, for each engine by itself.
#[test]
fn d161_both_engines_recover_every_crash_to_the_same() {
    for seed in Seeds::from_environment(4) {
        for mode in MODES {
            Stream::record(seed, SafetyLevel::Full, mode).crash_at_every_change();
        }
    }
}

/// The n-th call of the disk fails, for every n of a transaction that is committed: if the call
/// says so all are committed, else none, for this connection and for the next.
#[test]
fn d161_a_failing_disk_leaves_all_of_a_transaction_or_nothing() {
    let paths: Vec<PathBuf> = NAMES.iter().map(|name| Path::new("/").join(name)).collect();
    for (number, mode) in MODES.into_iter().enumerate() {
        let step = if is_long() { 1 } else { 2 };
        for persist in [false, true] {
            let mut n = 1 + number as u64 % step;
            while fail_at(n, persist, mode, &paths) {
                n += step;
            }
            assert!(n > 30, "{mode:?} never failed late");
        }
    }
}

/// Whether there was an `n`-th call to fail.
fn fail_at(n: u64, persist: bool, mode: JournalMode, paths: &[PathBuf]) -> bool {
    let context = format!("{mode:?}, call {n}, persist {persist}");
    let mut random = Random::new(77);
    let (files, knobs) = (Arc::new(MemoryVfs::new()), Arc::new(FaultKnobs::new()));
    let vfs: Arc<dyn Vfs> = Arc::new(FaultVfs::new(Arc::clone(&files) as _, Arc::clone(&knobs)));
    let mut library = Library::create(&vfs, paths, &mut random);
    library.set(SafetyLevel::Full, mode);
    let mut old = State::default();
    library.change(&mut random, &mut old, 10).unwrap();
    library.commit().unwrap();
    let mut new = old.clone();
    library.change(&mut random, &mut new, 10).unwrap();
    knobs.plan(OpKind::Any, n, PlannedFault { error: None, persist, torn: false });
    let last = knobs.calls(OpKind::Any) + n;
    let result = library.commit();
    let was_hit = knobs.calls(OpKind::Any) >= last;
    knobs.plan(OpKind::Any, 0, PlannedFault::default());
    let wanted = if result.is_ok() { &new } else { &old };
    let here = library.contents();
    assert!(here == *wanted, "{result:?}: {context}");
    // The connections can go on with what there is.
    let mut next = here;
    library.change(&mut random, &mut next, 5).unwrap();
    library.commit().unwrap_or_else(|error| panic!("{error}: {context}"));
    assert!(library.contents() == next, "{context}");
    let forms = std::mem::take(&mut library.forms);
    drop(library);
    let vfs: Arc<dyn Vfs> = files;
    assert!(Library::attach(&vfs, paths, forms).unwrap().contents() == next, "{context}");
    assert!(result.is_ok() || was_hit, "{context}");
    was_hit
}

/// A lock that cannot be had stops everything before anything happened, and it can be tried again.
#[test]
fn d161_a_reader_in_the_way_is_no_end() {
    let paths: Vec<PathBuf> = NAMES.iter().map(|name| Path::new("/").join(name)).collect();
    let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    let mut random = Random::new(5);
    let mut library = Library::create(&vfs, &paths, &mut random);
    let mut reader = Btree::open(Arc::clone(&vfs), &paths[2], &Options::default()).unwrap();
    let (old, mut new) = (State::default(), State::default());
    library.change(&mut Random::new(4), &mut new, 10).unwrap();
    assert!(library.books.iter().all(|book| book.db.is_writing()), "the seed leaves one out");
    reader.begin(TransactionKind::Read).unwrap();
    assert_eq!(library.commit(), Err(Error::Busy));
    let content = Book::attach(Btree::open(vfs, &paths[2], &Options::default()).unwrap());
    assert!(content.is_err_and(|error| error == Error::Busy), "a writer waits");
    reader.commit().unwrap();
    assert!(old != new);
    library.commit().unwrap();
    assert!(library.contents() == new);
}
