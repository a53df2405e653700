//! What a queue in front of the disk changes: how long a small durable commit takes its caller,
//! how many calls the disk gets, and what reading and committing costs with a long queue. Every
//! ratio is printed with the bound that it has to keep.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tclbtree::format::{PageNumber, PageSize};
use tclbtree::os::write_behind::{Coalesce, Durability, Halt, WriteBehind};
use tclbtree::os::{Access, OpenKind, OpenRequest};
use tclbtree::os::{File, Vfs};
use tclbtree::pager::SafetyLevel;
use tclbtree::{Btree, Key, Options, TABLE, TransactionKind, UnixVfs, WriteBehindVfs};

use crate::store::{Failure, Result};
use crate::workloads::time_on;

/// Commits that are timed, each way.
const COMMITS: i64 = 2000;

/// Rows of the bulk load, and of one transaction of it.
const BULK_ROWS: i64 = 200_000;
const BULK_STEP: i64 = 20_000;

/// Bytes of a page.
const PAGE: usize = 4096;

/// Pages that are read through the queue, and how often.
const READ_PAGES: u64 = 100;
const READ_ROUNDS: usize = 200;

/// Commits without a writer, few and many, and how often that is measured; the median counts.
const BACKLOGS: [i64; 2] = [1000, 8000];
const BACKLOG_ROUNDS: usize = 5;

/// Measures and prints all of it.
pub fn run(directory: &Path) -> Result<()> {
    println!("Files in {}. Command: `make bench ARGS=--latency`\n", directory.display());
    commits(directory)?;
    bulk_load(directory)?;
    reads(directory)?;
    backlog(directory)
}

// ---- commits

fn commits(directory: &Path) -> Result<()> {
    let path = fresh(directory, "latency")?;
    let direct = times_of_commits(&mut Table::create(Arc::new(UnixVfs::new()), &path, 2000)?)?;
    let path = fresh(directory, "latency")?;
    let (queue, vfs) = queued();
    queue.start()?;
    let mut table = Table::create(vfs, &path, 2000)?;
    let layered = times_of_commits(&mut table)?;
    queue.flush(None, Durability::Durable, None)?;
    stop(&queue)?;
    println!("### One row per commit, page 4096, delete mode, FULL ({COMMITS} commits)\n");
    println!("| | direct | write-behind, writer running | ratio | bound |");
    println!("|---|---:|---:|---:|---:|");
    for (name, part) in [("median", 0.5), ("99th percentile", 0.99)] {
        let (one, other) = (at(&direct, part), at(&layered, part));
        let ratio = times(one, other);
        println!("| {name} | {} | {} | {ratio:.1} | > 1 |", micros(one), micros(other));
    }
    println!();
    Ok(())
}

/// Times of commits, rising.
fn times_of_commits(table: &mut Table) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for row in 0..COMMITS {
        let began = Instant::now();
        table.insert(row..row + 1)?;
        times.push(began.elapsed());
    }
    times.sort();
    Ok(times)
}

// ---- bulk load

fn bulk_load(directory: &Path) -> Result<()> {
    println!(
        "### Bulk load of {BULK_ROWS} rows, {BULK_STEP} per transaction, cache of 200 pages\n"
    );
    println!("| coalesce | writes pushed | write calls at the disk | ratio | bound |");
    println!("|---|---:|---:|---:|---:|");
    let settings = [("off", Coalesce::Off, "1"), ("safe", Coalesce::Safe, ">= 10")];
    for (name, coalesce, bound) in settings {
        let path = fresh(directory, "bulk")?;
        let (queue, vfs) = queued();
        queue.set_coalesce(coalesce);
        // A small cache, so that transactions spill in the middle.
        let mut table = Table::create(vfs, &path, 200)?;
        queue.flush(None, Durability::Written, None)?;
        queue.reset_statistics(None);
        queue.start()?;
        for row in (0..BULK_ROWS).step_by(BULK_STEP as usize) {
            table.insert(row..row + BULK_STEP)?;
        }
        queue.flush(None, Durability::Written, None)?;
        let statistics = queue.statistics(None);
        stop(&queue)?;
        let (pushed, calls) = (statistics.writes, statistics.write_calls);
        let ratio = pushed as f64 / calls as f64;
        println!("| {name} | {pushed} | {calls} | {ratio:.1} | {bound} |");
    }
    println!();
    Ok(())
}

// ---- reading through the queue

fn reads(directory: &Path) -> Result<()> {
    let short = time_of_reads(directory, 100)?;
    let long = time_of_reads(directory, 100_000)?;
    println!("### Reading {READ_PAGES} pages, by the number of queued writes\n");
    println!("| queued writes | time | ratio | bound |\n|---:|---:|---:|---:|");
    println!("| 100 | {} | 1.00 | |", micros(short));
    println!("| 100000 | {} | {:.2} | <= 1.5 |\n", micros(long), times(long, short));
    Ok(())
}

/// Median time of reading the first pages while so many writes, of these pages first, are queued.
fn time_of_reads(directory: &Path, queued_writes: u64) -> Result<Duration> {
    let path = fresh(directory, "reads")?;
    let (_queue, vfs) = queued();
    let request = OpenRequest {
        kind: OpenKind::Database,
        access: Access::Create,
        exclusive: false,
        delete_on_close: false,
        lock_offset: 1 << 30,
    };
    let mut file: Box<dyn File> = vfs.open(Some(&path), request)?.file;
    for page in 0..queued_writes {
        file.write_at(&[page as u8; PAGE], page * PAGE as u64)?;
    }
    let mut times = Vec::new();
    let mut buffer = [0; PAGE];
    for _ in 0..READ_ROUNDS {
        let began = Instant::now();
        for page in 0..READ_PAGES {
            file.read_at(&mut buffer, page * PAGE as u64)?;
        }
        times.push(began.elapsed());
    }
    times.sort();
    Ok(at(&times, 0.5))
}

// ---- commits without a writer

/// Times of the caller's thread on a processor: what the machine does besides is not in them.
///
/// The few commits are the first of the many. Measured by themselves, they would find the memory
/// that an earlier queue gave back, all of it in the processor's caches, as no long queue can; the
/// ratio would tell of the machine's memory and not of what a commit has to do.
fn backlog(directory: &Path) -> Result<()> {
    let [few, many] = BACKLOGS;
    let mut commits = [Vec::new(), Vec::new()];
    let mut drains = [Vec::new(), Vec::new()];
    for _ in 0..BACKLOG_ROUNDS {
        let [_, _, drain] = times_of_backlog(directory, few, few)?;
        drains[0].push(drain);
        let [first, all, drain] = times_of_backlog(directory, few, many)?;
        commits[0].push(first);
        commits[1].push(all);
        drains[1].push(drain);
    }
    println!("### Commits of one row without a writer, and working them off\n");
    println!("| | {few} | {many} | ratio | bound |\n|---|---:|---:|---:|---:|");
    for (name, times_of) in [("commit", &mut commits), ("work off", &mut drains)] {
        times_of.iter_mut().for_each(|times| times.sort());
        let [few, many] = [at(&times_of[0], 0.5), at(&times_of[1], 0.5)];
        let ratio = times(many, few);
        println!("| {name} | {} | {} | {ratio:.1} | < 10 |", micros(few), micros(many));
    }
    Ok(())
}

/// What the first commits cost, then all of them, and then the flush.
fn times_of_backlog(directory: &Path, first: i64, count: i64) -> Result<[Duration; 3]> {
    let path = fresh(directory, "backlog")?;
    let (queue, vfs) = queued();
    let mut table = Table::create(vfs, &path, 2000)?;
    let began = on_processor();
    for row in 0..first {
        table.insert(row..row + 1)?;
    }
    let at_first = on_processor();
    for row in first..count {
        table.insert(row..row + 1)?;
    }
    let at_all = on_processor();
    queue.flush(None, Durability::Written, None)?;
    let times = [at_first.saturating_sub(began), at_all.saturating_sub(began)];
    Ok([times[0], times[1], on_processor().saturating_sub(at_all)])
}

/// How long this thread has been on a processor. The same number in `/proc` will not do: it is as
/// old as the scheduler's last tick, and a thousand commits take about one.
fn on_processor() -> Duration {
    time_on(libc::CLOCK_THREAD_CPUTIME_ID)
}

// ---- what they share

/// An open database with one table.
struct Table {
    btree: Btree,
    root: PageNumber,
}

impl Table {
    fn create(vfs: Arc<dyn Vfs>, path: &Path, cache_size: i32) -> Result<Table> {
        let page_size = PageSize::new(PAGE as u32).ok_or_else(|| Failure("page size".into()))?;
        let options = Options { page_size, cache_size, ..Options::default() };
        let mut btree = Btree::open(vfs, path, &options)?;
        btree.set_safety_level(SafetyLevel::Full, false);
        btree.begin(TransactionKind::Write)?;
        let root = btree.create_table(TABLE)?;
        btree.commit()?;
        Ok(Table { btree, root })
    }

    /// Inserts rows of 100 bytes and commits.
    fn insert(&mut self, rows: std::ops::Range<i64>) -> Result<()> {
        self.btree.begin(TransactionKind::Write)?;
        let cursor = self.btree.open_cursor(self.root, true)?;
        for row in rows {
            self.btree.insert(cursor, Key::Integer(row), &[row as u8; 100], 0)?;
        }
        self.btree.close_cursor(cursor);
        Ok(self.btree.commit()?)
    }
}

fn queued() -> (WriteBehind, Arc<WriteBehindVfs>) {
    let queue = WriteBehind::new();
    let vfs = Arc::new(WriteBehindVfs::new(Arc::new(UnixVfs::new()), &queue));
    (queue, vfs)
}

fn stop(queue: &WriteBehind) -> Result<()> {
    queue.set_halt(Halt::Idle);
    Ok(queue.wait()?)
}

/// A path at which nothing is.
fn fresh(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(format!("{name}.db"));
    for path in [path.clone(), path.with_extension("db-journal")] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(path)
}

/// How many times the other one it is.
fn times(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

/// The value below which this part of the rising times is.
fn at(times: &[Duration], part: f64) -> Duration {
    let index = times.len().saturating_sub(1) as f64 * part;
    times.get(index.round() as usize).copied().unwrap_or_default()
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}
