//! The rows of the report: what each of them does, in words and as data. `lane.rs` does it.

use std::time::{Duration, Instant};

use crate::data::Data;
use crate::store::{Durability, Failure, Journal, KeyKind, Result, Settings};

/// One row of the report. Rows that need the file of an earlier row come after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Put all entries in key order into an empty file.
    SequentialInsert,
    /// Visit all entries of that file forward, reading key and value.
    SequentialFileScan,
    /// Get all entries of that file in random order.
    SequentialFileGet,
    /// Put all entries in key order into an empty file, telling the store that they come last.
    Append,
    /// Put all entries in random order into an empty file, with a cache far smaller than that.
    SpillInsert,
    /// Put all entries in random order into an empty file, which the rows below use.
    RandomInsert,
    /// Get all entries in random order, in one read transaction.
    RandomGet,
    /// Get all entries in key order.
    SequentialGet,
    /// Get keys that are not there, in random order; byte-string keys only.
    MissingGet,
    /// Find a random entry and read ten from there on.
    Range,
    /// Visit all entries forward, reading key and value.
    ForwardScan,
    /// The same backward.
    BackwardScan,
    /// Replace every value by one of the same length, in random order.
    Overwrite,
    /// Get entries in random order, with a cache far smaller than the file.
    ColdGet,
    /// Visit all entries with such a cache.
    ColdScan,
    /// Delete half of the entries, in random order.
    DeleteHalf,
    /// A read transaction with one random get.
    ReadOne,
    /// Open the file, get one entry, close.
    OpenGetClose,
    /// A write transaction that puts new entries at random places.
    Commit(CommitRow),
}

/// What is particular to a row of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitRow {
    /// Entries per transaction.
    pub entries: usize,
    /// Transactions in a row.
    pub transactions: usize,
    /// Whether each is durable before the next begins.
    pub durability: Durability,
    /// What protects it.
    pub journal: Journal,
    /// Whether locks are kept in between.
    pub exclusive: bool,
}

/// The rows that fill, read and change one file.
pub const BULK: [Workload; 15] = [
    Workload::SequentialInsert,
    Workload::SequentialFileScan,
    Workload::Append,
    Workload::SpillInsert,
    Workload::RandomInsert,
    Workload::RandomGet,
    Workload::SequentialGet,
    Workload::MissingGet,
    Workload::Range,
    Workload::ForwardScan,
    Workload::BackwardScan,
    Workload::Overwrite,
    Workload::ColdGet,
    Workload::ColdScan,
    Workload::DeleteHalf,
];

/// The rows that are repeated with ever more entries.
pub const GROWTH: [Workload; 3] =
    [Workload::SequentialInsert, Workload::SequentialFileGet, Workload::SequentialFileScan];

/// The rows of small transactions.
pub const TRANSACTIONS: [Workload; 2] = [Workload::ReadOne, Workload::OpenGetClose];

/// The rows of commits.
pub fn commits() -> Vec<Workload> {
    use Durability::{Durable, NoSync};
    use Journal::{Delete, Memory, Persist, Truncate, Wal};
    let row = |entries, transactions, durability, journal, exclusive| {
        Workload::Commit(CommitRow { entries, transactions, durability, journal, exclusive })
    };
    let mut rows = Vec::new();
    for journal in [Delete, Truncate, Persist, Memory] {
        rows.push(row(1, 200, Durable, journal, false));
    }
    rows.push(row(1, 200, Durable, Persist, true));
    rows.push(row(1, 200, Durable, Wal, false));
    for journal in [Delete, Persist, Wal] {
        rows.push(row(100, 200, Durable, journal, false));
    }
    for journal in [Delete, Truncate, Persist, Memory] {
        rows.push(row(1, 5000, NoSync, journal, false));
    }
    for journal in [Persist, Memory] {
        rows.push(row(1, 5000, NoSync, journal, true));
    }
    rows.push(row(1, 5000, NoSync, Wal, false));
    rows
}

impl CommitRow {
    /// New entries that one run needs.
    pub fn new_entries(self) -> usize {
        self.entries * self.transactions
    }

    fn name(self) -> String {
        let kind = match self.durability {
            Durability::Durable => "durable",
            Durability::NoSync => "nosync",
        };
        let exclusive = if self.exclusive { "-excl" } else { "" };
        format!("commit/{kind}{}/{}{exclusive}", self.entries, self.journal.word())
    }
}

impl Workload {
    /// Whether the row makes sense for these keys.
    pub fn is_for(self, kind: KeyKind) -> bool {
        self != Workload::MissingGet || kind == KeyKind::Key
    }

    /// The row's name in the tables.
    pub fn name(self) -> String {
        let name = match self {
            Workload::SequentialInsert => "seq_ins",
            Workload::SequentialFileScan => "scan_seq",
            Workload::SequentialFileGet => "get_rnd",
            Workload::Append => "append",
            Workload::SpillInsert => "rnd_ins_spill",
            Workload::RandomInsert => "rnd_ins",
            Workload::RandomGet => "get_hot",
            Workload::SequentialGet => "get_seq",
            Workload::MissingGet => "get_miss",
            Workload::Range => "range10",
            Workload::ForwardScan => "scan_fwd",
            Workload::BackwardScan => "scan_back",
            Workload::Overwrite => "overwrite",
            Workload::ColdGet => "get_cold",
            Workload::ColdScan => "scan_cold",
            Workload::DeleteHalf => "del_half",
            Workload::ReadOne => "txn/read1",
            Workload::OpenGetClose => "txn/open_get_close",
            Workload::Commit(row) => return row.name(),
        };
        name.into()
    }

    /// The settings of a row, given those of its group.
    pub fn settings(self, group: &Settings, cold_pages: u32) -> Settings {
        match self {
            Workload::SpillInsert | Workload::ColdGet | Workload::ColdScan => {
                Settings { cache_pages: cold_pages, ..*group }
            }
            Workload::Commit(row) => Settings {
                durability: row.durability,
                journal: row.journal,
                exclusive: row.exclusive,
                ..*group
            },
            _ => *group,
        }
    }
}

/// What all stores work on.
#[derive(Debug)]
pub struct Plan {
    /// The entries.
    pub data: Data,
    /// How files are opened, unless the row says otherwise.
    pub settings: Settings,
    /// Pages of the cache where it is to be small.
    pub cold_pages: u32,
    /// The rows, in the order in which they run.
    pub workloads: Vec<Workload>,
    /// Entries that a file of commits begins with: the first of `insert_order`.
    pub preloaded: usize,
    /// The order of random inserts.
    pub insert_order: Vec<u32>,
    /// The order of random gets.
    pub get_order: Vec<u32>,
    /// Bytes of memory that are used and given back before each row.
    pub touched: usize,
    /// Counts the instructions of the last row: only its timed part goes through [`measured`], by
    /// whose name the counting tool knows it.
    pub counting: bool,
}

impl Plan {
    /// The plan for `count` entries and what the rows of commits add to them.
    pub fn new(
        count: usize,
        value_size: usize,
        settings: Settings,
        workloads: &[Workload],
    ) -> Plan {
        let new_entries = |row: &Workload| match row {
            Workload::Commit(row) => row.new_entries(),
            _ => 0,
        };
        let more = workloads.iter().map(new_entries).max().unwrap_or(0);
        let data = Data::new(count + more, value_size);
        let (insert_order, mut get_order) =
            (data.shuffled(0x5eed_0001), data.shuffled(0x5eed_0002));
        if more > 0 {
            // Only entries that are there from the beginning are read.
            get_order.clear();
            get_order.extend(&insert_order[..count]);
        }
        let is_for = |row: &Workload| row.is_for(settings.kind);
        Plan {
            data,
            settings,
            cold_pages: if value_size <= 100 && count <= 100_000 { 500 } else { 2000 },
            workloads: workloads.iter().copied().filter(is_for).collect(),
            preloaded: count,
            insert_order,
            get_order,
            touched: 0,
            counting: false,
        }
    }

    /// The settings of a row.
    pub fn settings_of(&self, workload: Workload) -> Settings {
        workload.settings(&self.settings, self.cold_pages)
    }

    /// Entries that the row which deletes some of them deletes: the first of `get_order`.
    pub fn half(&self) -> usize {
        self.get_order.len().div_ceil(2)
    }

    /// What is left in the file of random inserts when all rows have run: the entries, in
    /// `get_order`, and the generation of their values.
    pub fn survivors(&self) -> (&[u32], u64) {
        let has = |row| self.workloads.contains(&row);
        let gone = if has(Workload::DeleteHalf) { self.half() } else { 0 };
        (&self.get_order[gone..], u64::from(has(Workload::Overwrite)))
    }

    /// Times `work`, which returns the number of its operations and the sum of what it read.
    pub fn time(
        &self,
        workload: Workload,
        work: impl FnOnce() -> Result<(usize, u64)>,
    ) -> Result<Sample> {
        let counted = self.counting && self.workloads.last() == Some(&workload);
        let clock = Clock::start();
        let (operations, sum) = if counted { measured(work)? } else { work()? };
        let sample = clock.stop(operations, sum)?;
        if counted {
            println!("operations: {operations}");
        }
        Ok(sample)
    }
}

/// What one run of one row gave.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Time on the clock.
    pub wall: Duration,
    /// Processor time of all threads.
    pub cpu: Duration,
    /// Operations done within it.
    pub operations: u64,
    /// Sum of all that was read: equal for all stores, or one of them read something else.
    pub sum: u64,
    /// Size of the file afterwards, in bytes; 0 where it is not of interest.
    pub file_size: u64,
    /// The time that half of the operations and 99 of 100 kept below, where each was timed.
    pub percentiles: Option<(Duration, Duration)>,
}

/// What `valgrind --toggle-collect` is told to look at.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    work()
}

struct Clock {
    wall: Instant,
    cpu: Duration,
}

impl Clock {
    fn start() -> Clock {
        Clock { cpu: time_on(libc::CLOCK_PROCESS_CPUTIME_ID), wall: Instant::now() }
    }

    fn stop(self, operations: usize, sum: u64) -> Result<Sample> {
        let wall = self.wall.elapsed();
        let cpu = time_on(libc::CLOCK_PROCESS_CPUTIME_ID).saturating_sub(self.cpu);
        match operations {
            0 => Err(Failure("nothing was done".into())),
            _ => Ok(Sample { wall, cpu, operations: operations as u64, sum, ..Sample::default() }),
        }
    }
}

/// What a clock of the system shows: those of this thread and of this process, all threads, count
/// processor time, user and system.
#[allow(unsafe_code)]
pub fn time_on(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a clock that does not exist is an error that leaves the struct as it is, and any
    // other call fills it in.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
