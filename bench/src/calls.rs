//! What the system calls of some rows cost alone: a bound for whoever keeps SQLite's locks and
//! writes its files with `read` and `write`.
//!
//! Each row makes just the calls that pages take which are not in the cache, or that the protocol
//! asks of a transaction of one row, on a file of the same size: no tree, no cache, nothing that
//! balancing reads. Where SQLite's time is hardly more than theirs, a ratio much below one cannot
//! be had without mapping files into memory, or leaving out locks or syncs.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::arguments::{Arguments, Group};
use crate::lane::{Contender, Lane, remove_database};
use crate::report::{self, Summary};
use crate::sqlite_btree::SqliteBtree;
use crate::store::{Durability, Failure, Journal, KeyKind, Result, Store};
use crate::tclbtree::Tclbtree;
use crate::workloads::{CommitRow, Plan, Sample, Workload};

/// Bytes of a page, and pages of the file: as many as the rows of these groups have.
const PAGE: usize = 4096;
const PAGES: usize = 3100;

/// A page in memory. Where it begins matters: on some processors the system copies a page to an
/// address that lies a few bytes behind a multiple of its size in three times the time.
#[derive(Clone)]
#[repr(align(4096))]
struct Page([u8; PAGE]);

/// The header of a journal, and what a record has beside the page.
const JOURNAL_HEADER: usize = 512;
const RECORD: usize = PAGE + 8;

/// The bytes that locks are on.
const PENDING: i64 = 0x4000_0000;
const RESERVED: i64 = PENDING + 1;
const SHARED: i64 = PENDING + 2;
const SHARED_SIZE: i64 = 510;

/// Transactions that only read.
const READS: usize = 20_000;

/// The rows with a cache that is smaller than the file.
const COLD: [Workload; 3] = [Workload::SpillInsert, Workload::ColdGet, Workload::ColdScan];

/// Measures and prints all rows of one row each.
///
/// # Errors
/// Those of the files, or of a store.
pub fn run(arguments: &Arguments) -> Result<()> {
    let groups = Group::all();
    let group = groups.iter().find(|group| group.name == "commit");
    let group = group.ok_or_else(|| Failure("no such group".into()))?;
    let mut rows = COLD.to_vec();
    rows.push(Workload::ReadOne);
    rows.extend(group.rows.iter().filter(|row| is_measured(**row)));
    let plan = Plan::new(group.entries[0], group.value_size, group.settings(KeyKind::Int), &rows);
    let directory = &arguments.directory;
    let mut lanes: [Box<dyn Contender>; 2] =
        [Box::new(Lane::<SqliteBtree>::new(directory)), Box::new(Lane::<Tclbtree>::new(directory))];
    let mut calls = Calls::create(directory)?;
    for lane in &mut lanes {
        lane.run(Workload::RandomInsert, &plan)?; // Makes the file that is read.
    }
    let mut samples = vec![vec![Vec::new(); lanes.len() + 1]; rows.len()];
    for round in 0..=arguments.rounds {
        for (row, samples) in rows.iter().zip(&mut samples) {
            eprint!("\r  round {round} of {}: {:<24}", arguments.rounds, row.name());
            let of_calls = calls.run(*row, &plan)?;
            let of_lanes = lanes.iter_mut().map(|lane| lane.run(*row, &plan));
            let all = of_lanes.chain([Ok(of_calls)]).collect::<Result<Vec<Sample>>>()?;
            if round > 0 {
                samples.iter_mut().zip(all).for_each(|(samples, sample)| samples.push(sample));
            }
        }
    }
    eprint!("\r{:60}\r", "");
    println!("Files in {}. Command: `make bench ARGS=--calls`\n", directory.display());
    let lines = rows.iter().zip(&samples).map(|(row, samples)| report::Line {
        name: row.name(),
        cells: samples.iter().map(|samples| Summary::of(samples, |sample| sample.wall)).collect(),
    });
    let names = [SqliteBtree::NAME, Tclbtree::NAME, "the calls alone"];
    println!("{}", report::times(&names, &lines.collect::<Vec<_>>()));
    for lane in &mut lanes {
        lane.finish()?;
        lane.clean_up()?;
    }
    calls.clean_up()
}

/// Rows of one entry, in the modes that both stores have.
fn is_measured(row: Workload) -> bool {
    matches!(row, Workload::Commit(row) if row.entries == 1 && row.journal != Journal::Wal)
}

/// A file that looks like a database only from the outside.
struct Calls {
    database: File,
    path: PathBuf,
    journal_path: PathBuf,
    directory: PathBuf,
    /// Open between transactions in all modes but one.
    journal: Option<File>,
    /// What is written of the journal.
    bytes: Vec<u8>,
    /// The pages as a cache has them: reading and writing one copies memory that is not at hand.
    pages: Vec<Page>,
    state: u64,
}

impl Calls {
    fn create(directory: &Path) -> Result<Calls> {
        let path = directory.join("calls.db");
        remove_database(&path)?;
        let database =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let bytes = vec![1; JOURNAL_HEADER + 2 * RECORD];
        // Page by page, as the files of the stores.
        for page in 0..PAGES {
            database.write_all_at(&bytes[..PAGE], (page * PAGE) as u64)?;
        }
        let pages = vec![Page([1; PAGE]); PAGES];
        database.sync_all()?;
        let journal_path = directory.join("calls.db-journal");
        let directory = directory.to_owned();
        let (journal, state) = (None, 1);
        Ok(Calls { database, path, journal_path, directory, journal, bytes, pages, state })
    }

    fn clean_up(self) -> Result<()> {
        remove_database(&self.path)
    }

    /// Runs one row as often as the stores do.
    fn run(&mut self, row: Workload, plan: &Plan) -> Result<Sample> {
        self.journal = None;
        let sample = plan.time(row, || {
            let count = match row {
                Workload::Commit(row) => row.transactions,
                Workload::ReadOne => READS.min(plan.get_order.len()),
                _ => plan.get_order.len(),
            };
            let room = plan.cold_pages as usize;
            for done in 0..count {
                let page = self.next_page();
                match row {
                    Workload::Commit(row) => self.commit(row)?,
                    Workload::ReadOne => self.read_once()?,
                    // The file grows from nothing; the pages it begins with stand for the cache.
                    Workload::SpillInsert if page * done / count < room => {}
                    Workload::SpillInsert => self.miss(page * done / count, room, true)?,
                    Workload::ColdScan if done < PAGES => self.miss(page, room, false)?,
                    Workload::ColdGet if page >= room => self.miss(page, room, false)?,
                    _ => {}
                }
            }
            Ok((count, 0))
        })?;
        self.journal = None;
        remove_if_there(&self.journal_path)?;
        Ok(sample)
    }

    /// Reads a page into the cache, which has room for `room`. Before that, another one is written
    /// if all are `dirty`.
    fn miss(&mut self, number: usize, room: usize, dirty: bool) -> Result<()> {
        let frame = number % room;
        if dirty {
            let at = (self.next_page() * PAGE) as u64;
            self.database.write_all_at(&self.pages[frame].0, at)?;
        }
        self.database.read_exact_at(&mut self.pages[frame].0, (number * PAGE) as u64)?;
        Ok(())
    }

    /// The number of some page but the first, each time another one, counted from 0.
    fn next_page(&mut self) -> usize {
        self.state = self.state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        1 + (self.state >> 33) as usize % (PAGES - 1)
    }

    fn read_once(&mut self) -> Result<()> {
        self.begin()?;
        self.unlock()
    }

    /// The shared lock, and a look for a journal that has to be rolled back and at the change
    /// counter.
    fn begin(&mut self) -> Result<()> {
        self.fcntl(libc::F_GETLK, libc::F_RDLCK, PENDING, 1)?;
        self.fcntl(libc::F_SETLK, libc::F_RDLCK, SHARED, SHARED_SIZE)?;
        match std::fs::metadata(&self.journal_path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.database.read_exact_at(&mut self.bytes[..100], 0)?;
        Ok(())
    }

    fn unlock(&self) -> Result<()> {
        self.fcntl(libc::F_SETLK, libc::F_UNLCK, 0, 0)
    }

    /// One page changes; without exclusive locking also page 1, for the change counter.
    fn commit(&mut self, row: CommitRow) -> Result<()> {
        let pages = if row.exclusive { 1 } else { 2 };
        if !row.exclusive {
            self.begin()?;
            self.fcntl(libc::F_SETLK, libc::F_WRLCK, RESERVED, 1)?;
            self.fcntl(libc::F_SETLK, libc::F_WRLCK, PENDING, 2 + SHARED_SIZE)?;
        }
        let syncs = row.durability == Durability::Durable;
        if row.journal != Journal::Memory {
            self.write_journal(pages, syncs, row.journal == Journal::Delete)?;
        }
        if !row.exclusive {
            self.database.write_all_at(&self.bytes[..PAGE], 0)?;
        }
        let page = self.next_page();
        self.database.write_all_at(&self.pages[page].0, (page * PAGE) as u64)?;
        if syncs {
            self.database.sync_data()?;
        }
        self.end_journal(row.journal, syncs)?;
        if row.exclusive { Ok(()) } else { self.unlock() }
    }

    fn write_journal(&mut self, pages: usize, syncs: bool, names: bool) -> Result<()> {
        let journal = match self.journal.take() {
            Some(journal) => journal,
            None => OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&self.journal_path)?,
        };
        journal.write_all_at(&self.bytes[..JOURNAL_HEADER + pages * RECORD], 0)?;
        if syncs {
            journal.sync_data()?;
            if names {
                File::open(&self.directory)?.sync_all()?;
            }
            // The number of records is written when they are there.
            journal.write_all_at(&self.bytes[..12], 0)?;
            journal.sync_data()?;
        }
        self.journal = Some(journal);
        Ok(())
    }

    fn end_journal(&mut self, mode: Journal, syncs: bool) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        match mode {
            Journal::Delete => {
                self.journal = None;
                std::fs::remove_file(&self.journal_path)?;
                return Ok(());
            }
            Journal::Truncate => journal.set_len(0)?,
            _ => journal.write_all_at(&[0; 28], 0)?,
        }
        if syncs {
            journal.sync_data()?;
        }
        Ok(())
    }

    /// Sets, gives back or looks at a lock.
    #[allow(unsafe_code)]
    fn fcntl(&self, command: i32, kind: i32, start: i64, length: i64) -> Result<()> {
        // SAFETY: all-zero bytes are a valid lock; its fields are filled in below.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as i16;
        lock.l_whence = libc::SEEK_SET as i16;
        (lock.l_start, lock.l_len) = (start, length);
        // SAFETY: the descriptor is open, and these commands read and write one lock.
        match unsafe { libc::fcntl(self.database.as_raw_fd(), command, &mut lock) } {
            -1 => Err(std::io::Error::last_os_error().into()),
            _ => Ok(()),
        }
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
