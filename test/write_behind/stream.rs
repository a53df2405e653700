//! Transactions through the write-behind layer, and what is left of them after every crash.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tclbtree::format::AutoVacuum;
use tclbtree::os::simulate::{CrashDisk, DiskImage, Unsynced};
use tclbtree::os::write_behind::{Coalesce, Durability, Forbidden, Rule, WriteBehind};
use tclbtree::os::{Vfs, WriteBehindVfs};
use tclbtree::pager::{JournalMode, LockingMode, SafetyLevel};
use tclbtree::{Btree, Options};

use crate::support::book::{Book, Content, Form};
use crate::support::random::Random;
use crate::support::{Directory, stock};
use crate::work::Work;

/// What the transactions do besides changing rows and keys in more pages than the cache has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Plain,
    /// Free pages leave with every commit.
    AutoVacuum,
    /// They leave when they are told to, some of them.
    Incremental,
    /// Savepoints in each other are kept or rolled back.
    Savepoints,
    /// A temporary database is used beside.
    Temporary,
}

/// All of them.
pub(crate) const KINDS: [Kind; 5] =
    [Kind::Plain, Kind::AutoVacuum, Kind::Incremental, Kind::Savepoints, Kind::Temporary];

/// How a stream is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    /// How many databases commit together.
    pub(crate) databases: usize,
    pub(crate) level: SafetyLevel,
    pub(crate) mode: JournalMode,
    pub(crate) locking: LockingMode,
    pub(crate) coalesce: Coalesce,
    /// One rule of joining and leaving out by itself.
    pub(crate) rule: Option<Rule>,
    pub(crate) broken: Option<Forbidden>,
    /// Pages of 2048 bytes, nearly all of them zeros: a torn journal record keeps its checksum.
    pub(crate) sparse: bool,
}

/// One database in delete mode, nothing broken.
pub(crate) const PLAIN: Setting = Setting {
    seed: 0,
    kind: Kind::Plain,
    databases: 1,
    level: SafetyLevel::Off,
    mode: JournalMode::Delete,
    locking: LockingMode::Normal,
    coalesce: Coalesce::Off,
    rule: None,
    broken: None,
    sparse: false,
};

impl Setting {
    /// The form of the databases.
    pub(crate) fn form(self) -> Form {
        let auto_vacuum = match self.kind {
            Kind::AutoVacuum => AutoVacuum::Full,
            Kind::Incremental => AutoVacuum::Incremental,
            _ => AutoVacuum::None,
        };
        Form { auto_vacuum, ..Form::plain(if self.sparse { 2048 } else { 512 }) }
    }

    /// The databases.
    pub(crate) fn paths(self, directory: &Directory) -> Vec<PathBuf> {
        let names = ["one.db", "two.db"].into_iter().take(self.databases);
        names.map(|name| directory.file(name)).collect()
    }

    /// Partial losses of power that are looked at in each place: only full and extra promise to
    /// survive them.
    pub(crate) fn power(self) -> u64 {
        if matches!(self.level, SafetyLevel::Full | SafetyLevel::Extra) { 3 } else { 0 }
    }
}

/// What the writer did to a disk, and the states that were committed.
pub(crate) struct Stream {
    disk: CrashDisk,
    /// Where stock SQLite looks at images: journals name files by their full path.
    directory: Directory,
    states: Vec<Vec<Content>>,
    /// The states that a durable flush has promised, by the number of changes of the disk.
    promised: Vec<(usize, usize)>,
    setting: Setting,
    /// What the rules of `Coalesce::Full`, or another one, left out.
    pub(crate) elided: u64,
}

/// What a sweep found.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) images: usize,
    pub(crate) bad: Vec<String>,
}

impl Stream {
    /// What is not flushed in between is queued as a whole, and worked off at the end.
    pub(crate) fn record(setting: Setting) -> Stream {
        let mut random = Random::new(setting.seed);
        let disk = CrashDisk::new();
        let directory = Directory::new("behind");
        let control = WriteBehind::new();
        control.set_coalesce(setting.coalesce);
        control.follow_only(setting.rule);
        let vfs: Arc<dyn Vfs> = Arc::new(WriteBehindVfs::new(Arc::new(disk.clone()), &control));
        let mut work = Work::create(setting, setting.paths(&directory), &vfs);
        for number in 0..2 {
            work.transaction(&mut random, 20 + number);
        }
        control.flush(None, Durability::Durable, None).unwrap();
        let mut states = vec![work.contents.clone()];
        let mut promised = vec![(disk.change_count(), 0)];
        for _ in 0..6 {
            let length = random.between(1, 40);
            if random.percent(80) {
                work.transaction(&mut random, length);
                if states.last() != Some(&work.contents) {
                    states.push(work.contents.clone());
                }
            } else {
                work.change(&mut random, length);
                work.roll_back(&states[states.len() - 1]);
            }
            if setting.broken.is_none() && random.percent(10) {
                control.flush(None, Durability::Durable, None).unwrap();
                promised.push((disk.change_count(), states.len() - 1));
            }
        }
        work.check();
        if let Some(rule) = setting.broken {
            control.break_rule(rule);
        }
        let flushed = control.flush(None, Durability::Written, None);
        assert!(flushed.is_ok() || setting.broken.is_some(), "{flushed:?} {setting:?}");
        if setting.broken.is_none() {
            work.close();
            control.flush(None, Durability::Written, None).unwrap();
        }
        let elided = control.statistics(None).elided;
        Stream { disk, directory, states, promised, setting, elided }
    }

    /// The state that an image recovers to, which must be one of `wanted`, by this engine, and at
    /// times by stock SQLite.
    fn recovered(
        &self,
        image: &DiskImage,
        wanted: RangeInclusive<usize>,
        by_stock: bool,
    ) -> Result<usize, String> {
        let paths = self.setting.paths(&self.directory);
        let stray = image.files().keys().find(|file| !is_of(file, &paths));
        if let Some(stray) = stray {
            return Err(format!("{} should not be there", stray.display()));
        }
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
        let oldest = *wanted.start();
        let found = self.states[wanted].iter().position(|state| *state == contents);
        found.map(|found| oldest + found).ok_or_else(|| {
            let summaries: Vec<String> = contents.iter().map(Content::summary).collect();
            format!("{} is no committed state from {oldest} on", summaries.join(" and "))
        })
    }

    /// Looks at every prefix: kills, and `power` partial losses of power; stock SQLite at every
    /// `stock_every`th image, if that is not 0.
    pub(crate) fn sweep(&self, power: u64, stock_every: usize) -> Findings {
        let mut found = Findings::default();
        let mut random = Random::new(!self.setting.seed);
        let (mut newest, last) = (0, self.states.len() - 1);
        for after in self.promised[0].0..=self.disk.change_count() {
            let before = self.promised.iter().rev().find(|&&(changes, _)| changes <= after);
            let promised = before.map_or(0, |&(_, state)| state);
            let mut fates = vec![("kill", self.disk.killed(after, None))];
            if let Some(length) = self.disk.write_length(after) {
                let end = length.saturating_sub(1);
                for cut in [0, 1, length / 2, end, random.below(length)] {
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
                let is_kill = fate == "kill";
                let oldest = if is_kill { newest.max(promised) } else { promised };
                match self.recovered(&image, oldest..=last, by_stock) {
                    Err(what) => found.bad.push(format!("{fate} after {after}: {what}")),
                    Ok(state) if is_kill => newest = state,
                    Ok(_) => {}
                }
            }
        }
        if self.setting.broken.is_none() && newest != last {
            found.bad.push("the last state never came".to_owned());
        }
        found
    }
}

/// Whether a file is a database, its journal or the super-journal.
fn is_of(file: &Path, databases: &[PathBuf]) -> bool {
    let name = file.to_string_lossy();
    databases.iter().any(|database| {
        let rest = name.strip_prefix(&*database.to_string_lossy());
        rest.is_some_and(|rest| ["", "-journal"].contains(&rest) || rest.starts_with("-mj"))
    })
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
