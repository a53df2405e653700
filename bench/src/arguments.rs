//! The command line, and the groups of rows that it chooses from.

use std::path::{Path, PathBuf};

use crate::store::{Durability, Failure, Journal, KeyKind, Result, Settings};
use crate::workloads::{self, BULK, GROWTH, TRANSACTIONS, Workload};

/// What `--help` prints.
pub const USAGE: &str = "\
usage: tclbtree-bench [OPTION VALUE]...

Runs this engine, SQLite's own b-tree, LMDB, redb and SQL side by side and prints Markdown tables:
nanoseconds per operation (median of the rounds; ~ marks a spread of 10 % or more), in parentheses
the ratio to SQLite's b-tree. What every store reads is compared, and the files are checked.

  --groups LIST    which groups of rows, joined by commas:
                     100B      100 000 entries of 100 bytes, pages of 4096 bytes
                     5000B     20 000 entries of 5000 bytes
                     p1024     100 000 entries of 100 bytes, pages of 1024 bytes
                     txn       transactions that read one entry, opening and closing
                     commit    small commits, durable and not, in every journal mode
                     1M        1 000 000 entries of 100 bytes
                     growth    10 000, 100 000, 1 000 000 and 10 000 000 entries: insert, get, scan
                   without it the first five
  --rounds N       rounds that count (5)
  --keys KIND      int, key or both: integer keys, 16-byte keys, or both after each other
  --stores LIST    only these stores: sqlite-bt, tclbtree, lmdb, redb, sql
  --rows LIST      only these rows, and those that make the files which they read
  --entries N      another number of entries than the group's
  --value BYTES    another length of values
  --page BYTES     another page size
  --dir PATH       where the files of the stores go; should be on a real disk
  --touch GIB      uses so much memory first, and before each row some times as much as the row needs,
                   and gives it back: a virtual machine may be given its memory only when it uses that
                   for the first time, and lose what it leaves unused for seconds, and then waits for
                   it in whatever row comes next
  --docs PATH      also writes the tables and a chart per group (SVG) there: as benchmarks.md, or
                   as bench-GROUP.md if there is only one

  --instructions   counts instead of timing: runs each row under valgrind, for this engine and for
                   SQLite's b-tree, and prints instructions per operation in user mode
  --count          runs the last row once, in a function named `measured`: for counting by hand
  --latency        what the write-behind layer changes, instead
  --calls          rows that wait for the system beside their system calls alone, instead
  --memory PAGES   bytes that one store keeps after a scan, with so many pages of cache, of a file
                   that a run has left: how a run measures it
";

/// A group of rows that work on files of the same kind.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its name on the command line and in file names.
    pub name: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Entries per file, a run for each.
    pub entries: Vec<usize>,
    /// Bytes per value.
    pub value_size: usize,
    /// Bytes per page.
    pub page_size: u32,
    /// Key kinds.
    pub kinds: Vec<KeyKind>,
    /// Rows.
    pub rows: Vec<Workload>,
}

impl Group {
    /// All groups; the first five are run if nothing else is asked for.
    pub fn all() -> Vec<Group> {
        let both = vec![KeyKind::Int, KeyKind::Key];
        let plain = Group {
            name: "100B",
            title: "Values of 100 bytes",
            entries: vec![100_000],
            value_size: 100,
            page_size: 4096,
            kinds: both,
            rows: BULK.to_vec(),
        };
        let integers = Group { kinds: vec![KeyKind::Int], ..plain.clone() };
        vec![
            plain.clone(),
            Group {
                name: "5000B",
                title: "Values of 5000 bytes",
                entries: vec![20_000],
                value_size: 5000,
                ..plain.clone()
            },
            Group { name: "p1024", title: "Pages of 1024 bytes", page_size: 1024, ..plain.clone() },
            Group {
                name: "txn",
                title: "Small transactions",
                rows: TRANSACTIONS.to_vec(),
                ..integers.clone()
            },
            Group {
                name: "commit",
                title: "Commits",
                rows: workloads::commits(),
                ..integers.clone()
            },
            Group {
                name: "1M",
                title: "A million entries",
                entries: vec![1_000_000],
                ..plain.clone()
            },
            Group {
                name: "growth",
                title: "Growing files",
                entries: vec![10_000, 100_000, 1_000_000, 10_000_000],
                rows: GROWTH.to_vec(),
                ..plain
            },
        ]
    }

    /// How files of this group are opened.
    pub fn settings(&self, kind: KeyKind) -> Settings {
        // As many pages as 4 GiB hold: no file of these workloads is larger.
        let cache_pages = (4u64 << 30) / u64::from(self.page_size);
        Settings {
            kind,
            page_size: self.page_size,
            cache_pages: cache_pages as u32,
            durability: Durability::NoSync,
            journal: Journal::Delete,
            exclusive: false,
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The tables.
    Times,
    /// Instructions per operation.
    Instructions,
    /// One row, once, for a tool that counts.
    Count,
    /// The write-behind layer.
    Latency,
    /// System calls alone.
    Calls,
    /// What is in memory with a cache of so many pages.
    Memory(u32),
}

/// What the command line asks for.
#[derive(Debug)]
pub struct Arguments {
    /// What is to be done.
    pub mode: Mode,
    /// Groups.
    pub groups: Vec<Group>,
    /// Rounds that count.
    pub rounds: usize,
    /// Names of the stores; `None` means all.
    pub stores: Option<Vec<String>>,
    /// Where the stores' files go.
    pub directory: PathBuf,
    /// GiB of memory to use once before.
    pub touch: usize,
    /// This program, to be run once more for a measurement; without it that is made here.
    pub program: Option<PathBuf>,
    /// Where the report goes, besides the standard output.
    pub docs: Option<PathBuf>,
}

/// The options as they were given.
#[derive(Default)]
struct Given {
    mode: Option<Mode>,
    groups: Option<Vec<String>>,
    rounds: Option<usize>,
    kinds: Option<Vec<KeyKind>>,
    stores: Option<Vec<String>>,
    rows: Option<Vec<String>>,
    entries: Option<usize>,
    value_size: Option<usize>,
    page_size: Option<u32>,
    directory: Option<PathBuf>,
    touch: Option<usize>,
    docs: Option<PathBuf>,
}

impl Arguments {
    /// Reads the command line; `None` if it asks for help.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>> {
        let mut given = Given::default();
        while let Some(option) = words.next() {
            match option.as_str() {
                "--help" | "-h" => return Ok(None),
                "--instructions" => given.mode = Some(Mode::Instructions),
                "--count" => given.mode = Some(Mode::Count),
                "--latency" => given.mode = Some(Mode::Latency),
                "--calls" => given.mode = Some(Mode::Calls),
                _ => {
                    let value = words.next();
                    let value = value.ok_or_else(|| Failure(format!("{option} needs a value")))?;
                    given.set(&option, &value)?;
                }
            }
        }
        given.resolve().map(Some)
    }
}

impl Given {
    fn set(&mut self, option: &str, value: &str) -> Result<()> {
        let list = || Some(value.split(',').map(str::to_string).collect());
        match option {
            "--groups" => self.groups = list(),
            "--stores" => self.stores = list(),
            "--rows" => self.rows = list(),
            "--rounds" => self.rounds = Some(number(option, value, 1..=1000)?),
            "--entries" => self.entries = Some(number(option, value, 10..=100_000_000)?),
            "--value" => self.value_size = Some(number(option, value, 1..=30_000)?),
            "--page" => self.page_size = Some(number(option, value, 512..=65_536)? as u32),
            "--dir" => self.directory = Some(value.into()),
            "--touch" => self.touch = Some(number(option, value, 1..=1000)?),
            "--docs" => self.docs = Some(value.into()),
            "--memory" => {
                let pages = number(option, value, 1..=u32::MAX as usize)?;
                self.mode = Some(Mode::Memory(pages as u32));
            }
            "--keys" => {
                self.kinds = Some(match value {
                    "int" => vec![KeyKind::Int],
                    "key" => vec![KeyKind::Key],
                    "both" => vec![KeyKind::Int, KeyKind::Key],
                    _ => return Err(Failure(format!("--keys: int, key or both, not {value}"))),
                });
            }
            _ => return Err(Failure(format!("unknown option {option}\n{USAGE}"))),
        }
        Ok(())
    }

    fn resolve(self) -> Result<Arguments> {
        let mode = self.mode.unwrap_or(Mode::Times);
        let mut groups = Vec::new();
        for mut group in self.chosen_groups(mode)? {
            if let Some(kinds) = &self.kinds {
                // A group that is about one kind only is not asked for the other.
                group.kinds = kinds.clone();
            }
            if let Some(rows) = &self.rows {
                group.rows = needed(&group.rows, rows);
            }
            group.entries = self.entries.map_or(group.entries, |entries| vec![entries]);
            group.value_size = self.value_size.unwrap_or(group.value_size);
            group.page_size = self.page_size.unwrap_or(group.page_size);
            if !group.rows.is_empty() {
                groups.push(group);
            }
        }
        if let Some(rows) = &self.rows {
            let is_known = |name: &String| {
                groups.iter().any(|group| group.rows.iter().any(|row| row.name() == *name))
            };
            if let Some(name) = rows.iter().find(|name| !is_known(name)) {
                return Err(Failure(format!("no row {name} in the chosen groups")));
            }
        }
        Ok(Arguments {
            mode,
            groups,
            rounds: self.rounds.unwrap_or(5),
            stores: self.stores,
            directory: self.directory.unwrap_or_else(default_directory),
            touch: self.touch.unwrap_or(0),
            program: std::env::current_exe().ok(),
            docs: self.docs,
        })
    }

    fn chosen_groups(&self, mode: Mode) -> Result<Vec<Group>> {
        let mut all = Group::all();
        let Some(names) = &self.groups else {
            let is_special = self.value_size.is_some() || self.page_size.is_some();
            all.truncate(if mode != Mode::Times || is_special { 1 } else { 5 });
            return Ok(all);
        };
        let find = |name: &String| {
            let group = all.iter().find(|group| group.name == *name).cloned();
            group.ok_or_else(|| Failure(format!("no group {name}\n{USAGE}")))
        };
        names.iter().map(find).collect()
    }
}

/// The rows with these names, and those that make the files which they read.
fn needed(rows: &[Workload], names: &[String]) -> Vec<Workload> {
    let is_named = |row: &Workload| names.contains(&row.name());
    let reads = |row: &Workload| match row {
        Workload::SequentialFileScan | Workload::SequentialFileGet => {
            Some(Workload::SequentialInsert)
        }
        Workload::SequentialInsert
        | Workload::Append
        | Workload::SpillInsert
        | Workload::RandomInsert
        | Workload::ReadOne
        | Workload::OpenGetClose
        | Workload::Commit(_) => None,
        _ => Some(Workload::RandomInsert),
    };
    let made: Vec<Workload> = rows.iter().filter(|row| is_named(row)).filter_map(reads).collect();
    rows.iter().copied().filter(|row| is_named(row) || made.contains(row)).collect()
}

fn number(option: &str, value: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize> {
    match value.replace('_', "").parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(Failure(format!("{option}: a number from {range:?}, not {value}"))),
    }
}

/// `bench-data` beside the folder of the build's profile, so on the disk the project is on.
fn default_directory() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.ancestors().nth(2).unwrap_or(Path::new("."));
    target.join("bench-data")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        let words = line.split_whitespace().map(str::to_string);
        Arguments::parse(words)?.ok_or_else(|| Failure("help".into()))
    }

    fn names(group: &Group) -> Vec<String> {
        group.rows.iter().map(|row| row.name()).collect()
    }

    #[test]
    fn memory_is_asked_for_by_pages_of_cache() {
        assert_eq!(parse("--memory 500 --keys int").expect("arguments").mode, Mode::Memory(500));
        assert!(parse("--memory 0").is_err());
    }

    #[test]
    fn without_options_five_groups_run() {
        let groups: Vec<_> = parse("").expect("arguments").groups;
        let names: Vec<_> = groups.iter().map(|group| group.name).collect();
        assert_eq!(names, ["100B", "5000B", "p1024", "txn", "commit"]);
    }

    #[test]
    fn a_row_brings_the_row_that_makes_its_file() {
        let arguments = parse("--groups 100B --rows get_cold --entries 1_000").expect("arguments");
        assert_eq!(names(&arguments.groups[0]), ["rnd_ins", "get_cold"]);
        assert_eq!(arguments.groups[0].entries, [1000]);
        let arguments = parse("--groups growth --rows get_rnd").expect("arguments");
        assert_eq!(names(&arguments.groups[0]), ["seq_ins", "get_rnd"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in ["--rows nonsense", "--groups x", "--keys x", "--rounds 0", "--rounds", "-x 1"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
