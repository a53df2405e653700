//! The speed harness: this engine, SQLite's own b-tree and other stores side by side, doing the
//! same work on the same page size, cache and durability, in one process.
//!
//! | file | what it has |
//! | --- | --- |
//! | `arguments` | the command line, the groups of rows |
//! | `workloads`, `lane` | the rows: what they are, how they run on any store |
//! | `store` | what a store must do; one file each does it |
//! | `data` | the entries |
//! | `rounds` | whose turn it is |
//! | `report`, `chart` | tables and pictures |
//! | `instructions` | counting instead of timing |
//! | `memory` | what the stores keep in memory |
//! | `latency` | the write-behind layer; stands alone |
//! | `calls` | the system calls of a row without an engine |

mod arguments;
mod calls;
mod chart;
mod data;
mod instructions;
mod lane;
mod latency;
mod lent;
mod lmdb;
mod memory;
mod plot;
mod redb;
mod report;
mod rounds;
mod sql;
mod sqlite_btree;
mod store;
mod tclbtree;
mod workloads;

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use arguments::{Arguments, Group, Mode, USAGE};
use data::KEY_SIZE;
use lane::{Contender, Lane};
use plot::Panel;
use report::{Summary, TextLine};
use rounds::Row;
use store::{Failure, KeyKind, Result, Store};
use workloads::{Plan, Sample, Workload};

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

/// All stores that were asked for, and can at all run a group with this page size.
fn contenders(arguments: &Arguments, group: &Group, kind: KeyKind) -> Vec<Box<dyn Contender>> {
    let directory = &arguments.directory;
    let redb: Box<dyn Contender> = match kind {
        KeyKind::Int => Box::new(Lane::<redb::Redb<u64>>::new(directory)),
        KeyKind::Key => Box::new(Lane::<redb::Redb<&'static [u8; KEY_SIZE]>>::new(directory)),
    };
    // The first one is the reference of all ratios.
    let mut all: Vec<Box<dyn Contender>> = vec![
        Box::new(Lane::<sqlite_btree::SqliteBtree>::new(directory)),
        Box::new(Lane::<tclbtree::Tclbtree>::new(directory)),
        Box::new(Lane::<lmdb::Lmdb>::new(directory)),
        redb,
        Box::new(Lane::<sql::Sql>::new(directory)),
    ];
    let settings = group.settings(kind);
    all.retain(|contender| {
        let is_wanted = |names: &Vec<String>| names.iter().any(|name| name == contender.name());
        contender.suits(&settings) && arguments.stores.as_ref().is_none_or(is_wanted)
    });
    all
}

fn count_word(count: usize) -> String {
    match count {
        n if n % 1_000_000 == 0 => format!("{}M", n / 1_000_000),
        n if n % 1000 == 0 => format!("{}k", n / 1000),
        n => n.to_string(),
    }
}

/// What a group gave.
#[derive(Default)]
struct Outcome {
    stores: Vec<&'static str>,
    walls: Vec<report::Line>,
    cpus: Vec<report::Line>,
    percentiles: Vec<TextLine>,
    sizes: Vec<TextLine>,
    memory: Vec<TextLine>,
    /// The times against the number of entries.
    panels: Vec<Panel>,
}

impl Outcome {
    /// The picture: bars, or lines if there are several numbers of entries.
    fn picture(&self, group: &Group) -> String {
        match group.entries.as_slice() {
            [_] => chart::draw(group.title, &self.stores, &self.walls),
            _ => plot::draw(group.title, &self.stores, &self.panels),
        }
    }

    /// Adds the times of some rows with so many entries to their panels.
    fn plot(&mut self, setting: &str, entries: usize, rows: &[Row]) {
        for row in rows {
            let title = format!("{setting}/{}", row.workload.name());
            let median = |samples: &Vec<_>| Summary::of(samples, |s: &Sample| s.wall);
            let times: Vec<_> = row.samples.iter().map(|s| median(s).map(|s| s.median)).collect();
            match self.panels.iter_mut().find(|panel| panel.title == title) {
                Some(panel) => panel.points.push((entries, times)),
                None => self.panels.push(Panel { title, points: vec![(entries, times)] }),
            }
        }
    }

    /// The tables, under a heading.
    fn markdown(&self, group: &Group, rounds: usize) -> String {
        let mut text = format!("## {}\n\n", group.title);
        let mut section = |title: &str, table: &str| {
            if !table.is_empty() {
                let _ = write!(text, "### {title}\n\n{table}\n");
            }
        };
        let of = |lines: &[TextLine]| report::table(&self.stores, lines.iter().cloned());
        let times = report::times(&self.stores, &self.walls);
        section(&format!("Time, ns per operation ({rounds} rounds)"), &times);
        section("Time of single commits, µs: half / 99 of 100 below", &of(&self.percentiles));
        let cpus = report::times(&self.stores, &self.cpus);
        section("Processor time of all threads, ns per operation", &cpus);
        section("File size, MB", &of(&self.sizes));
        section("Memory after a scan, kB, by the pages of cache allowed", &of(&self.memory));
        text
    }
}

/// A file, its journal and a cache of all its pages, and as much again.
const COPIES_TOUCHED: usize = 6;

fn run_group(arguments: &Arguments, group: &Group) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for &entries in &group.entries {
        for &kind in &group.kinds {
            let mut contenders = contenders(arguments, group, kind);
            let mut plan = Plan::new(entries, group.value_size, group.settings(kind), &group.rows);
            plan.counting = arguments.mode == Mode::Count;
            if arguments.touch > 0 {
                plan.touched = COPIES_TOUCHED * entries * group.value_size;
            }
            let rounds = if plan.counting { 0 } else { arguments.rounds };
            let rows = rounds::run(&mut contenders, &plan, rounds)?;
            outcome.stores = contenders.iter().map(|contender| contender.name()).collect();
            let (value, page) = (group.value_size, group.page_size);
            let setting = format!("{}/{value}B/p{page}/{}", kind.word(), count_word(entries));
            outcome.plot(&format!("{}/{value}B/p{page}", kind.word()), entries, &rows);
            outcome.walls.extend(report::lines(&setting, &rows, |sample| sample.wall));
            outcome.cpus.extend(report::lines(&setting, &rows, |sample| sample.cpu));
            outcome.percentiles.extend(report::percentiles(&setting, &rows));
            outcome.sizes.extend(report::sizes(&setting, &rows));
            if !plan.counting && plan.workloads.contains(&Workload::RandomInsert) {
                let caches = [plan.cold_pages, plan.settings.cache_pages];
                let lines = memory::compare(arguments, group, kind, &contenders, caches, &setting)?;
                outcome.memory.extend(lines);
            }
            for contender in contenders {
                contender.clean_up()?;
            }
        }
    }
    Ok(outcome)
}

fn run(arguments: &Arguments) -> Result<()> {
    std::fs::create_dir_all(&arguments.directory)?;
    warn_about_memory(&arguments.directory)?;
    rounds::touch_memory(arguments.touch << 30);
    match arguments.mode {
        Mode::Latency => return latency::run(&arguments.directory),
        Mode::Calls => return calls::run(arguments),
        Mode::Instructions => return instructions::run(arguments),
        Mode::Memory(pages) => {
            let group = arguments.groups.first().ok_or_else(|| Failure("no group".into()))?;
            let kind = group.kinds.first().ok_or_else(|| Failure("no kind of key".into()))?;
            return memory::answer(group, &contenders(arguments, group, *kind), pages);
        }
        Mode::Times | Mode::Count => {}
    }
    let head = format!(
        "SQLite {}. In parentheses the ratio to its b-tree, the column {}.\n",
        sqlite_btree::version(),
        sqlite_btree::SqliteBtree::NAME
    );
    // A page for all that is usually run, and one for each group run by itself.
    let (page, how) = match arguments.groups.as_slice() {
        [only] => (format!("bench-{}.md", only.name), format!(" ARGS=\"--groups {}\"", only.name)),
        _ => ("benchmarks.md".to_string(), String::new()),
    };
    let mut document = format!("# Benchmarks\n\nMade by `make bench{how}`. {head}\n");
    if arguments.mode == Mode::Times {
        println!("{head}Files in {}.\n", arguments.directory.display());
    }
    for group in &arguments.groups {
        let outcome = run_group(arguments, group)?;
        if arguments.mode == Mode::Count {
            continue;
        }
        let text = outcome.markdown(group, arguments.rounds);
        println!("{text}");
        if let Some(docs) = &arguments.docs {
            let name = format!("bench-{}.svg", group.name);
            std::fs::write(docs.join(&name), outcome.picture(group))?;
            let _ = write!(document, "{text}![{}]({name})\n\n", group.title);
            std::fs::write(docs.join(&page), document.trim_end().to_string() + "\n")?;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Durability, Journal};
    use workloads::{BULK, CommitRow, GROWTH, TRANSACTIONS};

    /// Every row on every store, on little data: they read the same and accept their files.
    #[test]
    fn all_stores_agree() {
        let directory = std::env::temp_dir().join(format!("tclbtree-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let commit = |durability, journal, exclusive| {
            let (entries, transactions) = (2, 3);
            Workload::Commit(CommitRow { entries, transactions, durability, journal, exclusive })
        };
        let mut small = TRANSACTIONS.to_vec();
        use Journal::{Delete, Memory, Persist, Truncate, Wal};
        for journal in [Delete, Truncate, Persist, Memory, Wal] {
            small.push(commit(Durability::NoSync, journal, false));
            small.push(commit(Durability::NoSync, journal, true));
        }
        small.push(commit(Durability::Durable, Delete, false));
        let rows: [(usize, u32, &[Workload]); 4] =
            [(100, 4096, &BULK), (5000, 4096, &BULK), (100, 1024, &GROWTH), (100, 4096, &small)];
        for (value_size, page_size, rows) in rows {
            let group = Group {
                name: "test",
                title: "Test",
                entries: vec![300],
                value_size,
                page_size,
                kinds: vec![KeyKind::Int, KeyKind::Key],
                rows: rows.to_vec(),
            };
            let arguments = Arguments {
                mode: Mode::Times,
                groups: Vec::new(),
                rounds: 1,
                stores: None,
                directory: directory.clone(),
                touch: 0,
                program: None,
                docs: None,
            };
            let outcome = run_group(&arguments, &group).expect("an outcome");
            assert_eq!(outcome.stores.len(), if page_size == 4096 { 5 } else { 3 });
            let cells = outcome.walls.iter().flat_map(|line| &line.cells);
            assert!(cells.flatten().all(|cell| cell.median > 0.0));
        }
        std::fs::remove_dir(&directory).expect("all files are deleted in the end");
    }
}
