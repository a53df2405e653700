//! The speed harness: this engine and SQLite's own b-tree side by side, doing the same work on
//! the same page size, cache and durability, in one process.
//!
//! `store.rs` says what a store must do, one file each implements it; `data.rs` has the entries,
//! `workloads.rs` the rows, `rounds.rs` the order of runs, `report.rs` the tables. `latency.rs` is
//! about the write-behind layer and stands alone.

mod data;
mod latency;
mod report;
mod rounds;
mod sqlite_btree;
mod store;
mod tclbtree;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use data::Data;
use store::{Durability, Failure, KeyKind, Result, Settings, Store};
use workloads::{Contender, Lane, Plan, Workload};

const USAGE: &str = "\
usage: tclbtree-bench [--rows N] [--value BYTES] [--page BYTES] [--rounds N]
                      [--keys int|key|both] [--dir PATH] [--count ROW] [--store NAME]
                      [--latency]

Compares this engine with SQLite's own b-tree and prints Markdown tables: nanoseconds per
operation (median of the rounds; ~ marks a spread of 10 % or more), in parentheses the ratio to
SQLite. Files go to PATH, which should be on a real disk.

For counting instructions: --count runs the rows up to ROW once and only its timed part within
a function named `measured`, --store leaves out the other store.

With --latency: what the write-behind layer changes, instead.
";

/// What the command line asks for.
struct Arguments {
    rows: usize,
    value_size: usize,
    page_size: u32,
    rounds: usize,
    kinds: Vec<KeyKind>,
    directory: PathBuf,
    counted: Option<Workload>,
    store: Option<String>,
    latency: bool,
}

impl Arguments {
    /// Reads the command line; `None` if it asks for help.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>> {
        let mut arguments = Arguments {
            rows: 100_000,
            value_size: 100,
            page_size: 4096,
            rounds: 5,
            kinds: vec![KeyKind::Int, KeyKind::Key],
            directory: default_directory(),
            counted: None,
            store: None,
            latency: false,
        };
        while let Some(option) = words.next() {
            if option == "--help" || option == "-h" {
                return Ok(None);
            }
            if option == "--latency" {
                arguments.latency = true;
                continue;
            }
            let value = words.next().ok_or_else(|| Failure(format!("{option} needs a value")))?;
            arguments.set(&option, &value)?;
        }
        Ok(Some(arguments))
    }

    fn set(&mut self, option: &str, value: &str) -> Result<()> {
        match option {
            "--rows" => self.rows = number(option, value, 1..=100_000_000)?,
            "--value" => self.value_size = number(option, value, 1..=30_000)?,
            "--page" => self.page_size = number(option, value, 512..=65_536)? as u32,
            "--rounds" => self.rounds = number(option, value, 1..=1000)?,
            "--dir" => self.directory = value.into(),
            "--store" => self.store = Some(value.into()),
            "--count" => {
                let row = Workload::ALL.into_iter().find(|row| row.name() == value);
                self.counted = Some(row.ok_or_else(|| Failure(format!("no row {value}")))?);
                self.rounds = 0;
            }
            "--keys" => {
                self.kinds = match value {
                    "int" => vec![KeyKind::Int],
                    "key" => vec![KeyKind::Key],
                    "both" => vec![KeyKind::Int, KeyKind::Key],
                    _ => return Err(Failure(format!("--keys: int, key or both, not {value}"))),
                }
            }
            _ => return Err(Failure(format!("unknown option {option}\n{USAGE}"))),
        }
        Ok(())
    }

    fn settings(&self, kind: KeyKind) -> Settings {
        // As many pages as 4 GiB hold: no file of these workloads is larger.
        let cache_pages = (4u64 << 30) / u64::from(self.page_size);
        Settings {
            kind,
            page_size: self.page_size,
            cache_pages: cache_pages as u32,
            durability: Durability::NoSync,
        }
    }
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

/// Memory-backed file systems say nothing about disks: warns about one.
#[allow(unsafe_code)]
fn warn_about_memory(directory: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(directory.as_os_str().as_bytes())
        .map_err(|_| Failure("a path with a zero byte".into()))?;
    // SAFETY: an all-zero statfs is a valid value, and the call fills it in.
    let kind = unsafe {
        let mut facts: libc::statfs = std::mem::zeroed();
        libc::statfs(path.as_ptr(), &mut facts);
        facts.f_type
    };
    if kind == libc::TMPFS_MAGIC || kind == 0x8584_58f6 {
        let shown = directory.display();
        eprintln!("warning: {shown} is in memory, figures would mislead; give --dir PATH");
    }
    Ok(())
}

fn contenders(directory: &Path) -> Vec<Box<dyn Contender>> {
    // The first one is the reference of all ratios.
    vec![
        Box::new(Lane::<sqlite_btree::SqliteBtree>::new(directory)),
        Box::new(Lane::<tclbtree::Tclbtree>::new(directory)),
    ]
}

fn count_word(count: usize) -> String {
    match count {
        n if n % 1_000_000 == 0 => format!("{}M", n / 1_000_000),
        n if n % 1000 == 0 => format!("{}k", n / 1000),
        n => n.to_string(),
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    std::fs::create_dir_all(&arguments.directory)?;
    warn_about_memory(&arguments.directory)?;
    if arguments.latency {
        return latency::run(&arguments.directory);
    }
    let names = [sqlite_btree::SqliteBtree::NAME, tclbtree::Tclbtree::NAME];
    let (mut walls, mut cpus, mut sizes) = (String::new(), String::new(), String::new());
    for &kind in &arguments.kinds {
        let data = Data::new(arguments.rows, arguments.value_size);
        let mut plan = Plan::new(data, arguments.settings(kind));
        plan.counted = arguments.counted;
        let mut contenders = contenders(&arguments.directory);
        if let Some(name) = &arguments.store {
            contenders.retain(|contender| contender.name() == name);
        }
        let rows = rounds::run(&mut contenders, &plan, arguments.rounds)?;
        if plan.counted.is_some() {
            continue;
        }
        let (value, page) = (arguments.value_size, arguments.page_size);
        let count = count_word(arguments.rows);
        let setting = format!("{}/{value}B/p{page}/{count}", kind.word());
        walls.push_str(&report::times(&setting, &rows, |sample| sample.wall));
        cpus.push_str(&report::times(&setting, &rows, |sample| sample.cpu));
        sizes.push_str(&report::sizes(&setting, &rows));
    }
    if arguments.counted.is_some() {
        return Ok(());
    }
    let (head, rounds) = (report::head(&names), arguments.rounds);
    let version = sqlite_btree::version();
    println!("SQLite {version}; files in {}\n", arguments.directory.display());
    println!("### Time, ns per operation ({rounds} rounds)\n\n{head}\n{walls}");
    println!("### Processor time of all threads, ns per operation\n\n{head}\n{cpus}");
    println!("### File size, MB\n\n{head}\n{sizes}");
    Ok(())
}

fn main() -> ExitCode {
    let outcome = Arguments::parse(std::env::args().skip(1));
    match outcome.and_then(|arguments| arguments.as_ref().map_or_else(help, run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> Result<()> {
    print!("{USAGE}");
    Ok(())
}
