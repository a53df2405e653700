//! The workloads, each written once for all stores.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::data::{Data, Entry, sum_words};
use crate::store::{Failure, KeyKind, Result, Settings, Store};

/// One row of the report. Rows that need the file of an earlier row come after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// Put all entries in key order into an empty file.
    SequentialInsert,
    /// Put all entries in random order into an empty file, which the rows below use.
    RandomInsert,
    /// Get all entries in random order, in one read transaction.
    RandomGet,
    /// Visit all entries forward, reading key and value.
    ForwardScan,
    /// The same backward.
    BackwardScan,
    /// Get all entries in key order.
    SequentialGet,
    /// Get keys that are not there, in random order; byte-string keys only.
    MissingGet,
    /// Find a random entry and read ten from there on.
    Range,
    /// Replace every value by one of the same length, in random order.
    Overwrite,
    /// Delete half of the entries, in random order.
    DeleteHalf,
}

/// Entries that [`Workload::Range`] reads each time.
const RANGE_LENGTH: usize = 10;

impl Workload {
    /// All rows in the order in which they must run.
    pub const ALL: [Workload; 10] = [
        Workload::SequentialInsert,
        Workload::RandomInsert,
        Workload::RandomGet,
        Workload::ForwardScan,
        Workload::BackwardScan,
        Workload::SequentialGet,
        Workload::MissingGet,
        Workload::Range,
        Workload::Overwrite,
        Workload::DeleteHalf,
    ];

    /// Whether the row makes sense for these keys.
    pub fn is_for(self, kind: KeyKind) -> bool {
        match self {
            Workload::MissingGet => kind == KeyKind::Key,
            // Our entries of byte-string trees are all key: another value is another entry.
            Workload::Overwrite => kind == KeyKind::Int,
            _ => true,
        }
    }

    /// The row's name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Workload::SequentialInsert => "seq_ins",
            Workload::RandomInsert => "rnd_ins",
            Workload::RandomGet => "get_hot",
            Workload::ForwardScan => "scan_fwd",
            Workload::BackwardScan => "scan_back",
            Workload::SequentialGet => "get_seq",
            Workload::MissingGet => "get_miss",
            Workload::Range => "range10",
            Workload::Overwrite => "overwrite",
            Workload::DeleteHalf => "del_half",
        }
    }
}

/// What all stores work on.
#[derive(Debug)]
pub struct Plan {
    /// The entries.
    pub data: Data,
    /// How files are opened.
    pub settings: Settings,
    /// The order of random inserts.
    pub insert_order: Vec<u32>,
    /// The order of random gets.
    pub get_order: Vec<u32>,
    /// The row whose instructions are to be counted: only its timed part goes through
    /// [`measured`], by whose name the counting tool knows it.
    pub counted: Option<Workload>,
}

impl Plan {
    /// The plan for these entries.
    pub fn new(data: Data, settings: Settings) -> Plan {
        let (insert_order, get_order) = (data.shuffled(0x5eed_0001), data.shuffled(0x5eed_0002));
        Plan { data, settings, insert_order, get_order, counted: None }
    }

    /// Times `work`, which returns the number of its operations and the sum of what it read.
    fn time(
        &self,
        workload: Workload,
        work: impl FnOnce() -> Result<(usize, u64)>,
    ) -> Result<Sample> {
        let clock = Clock::start();
        let (operations, sum) =
            if self.counted == Some(workload) { measured(work)? } else { work()? };
        clock.stop(operations, sum)
    }
}

/// What one run of one row gave.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Time on the clock.
    pub wall: Duration,
    /// Processor time of all threads.
    pub cpu: Duration,
    /// Operations done within it.
    pub operations: u64,
    /// Sum of all that was read: equal for all stores, or one of them read something else.
    pub sum: u64,
    /// Size of the file afterwards, in bytes.
    pub file_size: u64,
}

/// One store's part in a comparison, whatever its type.
pub trait Contender {
    /// The store's name.
    fn name(&self) -> &'static str;
    /// Runs one row.
    fn run(&mut self, workload: Workload, plan: &Plan) -> Result<Sample>;
    /// Closes what is open.
    fn finish(&mut self) -> Result<()>;
    /// The file of the random inserts.
    fn file(&self) -> &Path;
    /// Opens another contender's file and checks all of it: the integrity check, and the sum of
    /// keys and values.
    fn verify(&self, file: &Path, plan: &Plan) -> Result<()>;
}

/// A store and its files.
pub struct Lane<S> {
    store: Option<S>,
    sequential: PathBuf,
    random: PathBuf,
}

impl<S: Store> Lane<S> {
    /// A lane with its files in this directory.
    pub fn new(directory: &Path) -> Lane<S> {
        let file = |kind: &str| directory.join(format!("{}-{kind}.db", S::NAME));
        Lane { store: None, sequential: file("sequential"), random: file("random") }
    }

    fn create(&mut self, path: &Path, plan: &Plan) -> Result<&mut S> {
        self.finish()?;
        remove_database(path)?;
        Ok(self.store.insert(S::open(path, &plan.settings)?))
    }

    fn hot(&mut self, plan: &Plan) -> Result<&mut S> {
        if self.store.is_none() {
            self.store = Some(S::open(&self.random, &plan.settings)?);
        }
        let store = self.store.as_mut().ok_or_else(|| Failure("nothing is open".into()))?;
        store.begin_read()?;
        store.scan(|_, value| {
            black_box(value);
        })?;
        store.commit()?;
        Ok(store)
    }

    fn sequential_insert(&mut self, plan: &Plan) -> Result<Sample> {
        let path = self.sequential.clone();
        let store = self.create(&path, plan)?;
        let sample = insert_all(Workload::SequentialInsert, store, plan, 0..plan.data.len())?;
        self.finish()?;
        Ok(Sample { file_size: path.metadata()?.len(), ..sample })
    }

    fn random_insert(&mut self, plan: &Plan) -> Result<Sample> {
        let path = self.random.clone();
        let store = self.create(&path, plan)?;
        let order = plan.insert_order.iter().map(|&index| index as usize);
        let sample = insert_all(Workload::RandomInsert, store, plan, order)?;
        Ok(Sample { file_size: path.metadata()?.len(), ..sample })
    }

    fn random_get(&mut self, plan: &Plan) -> Result<Sample> {
        let store = self.hot(plan)?;
        let entries = plan.get_order.iter().map(|&index| plan.data.entry(index as usize, 0));
        get_all(Workload::RandomGet, store, plan, entries)
    }

    fn scan(&mut self, workload: Workload, plan: &Plan) -> Result<Sample> {
        let store = self.hot(plan)?;
        plan.time(workload, || {
            let (mut sum, mut entries) = (0u64, 0);
            let read = |key: u64, value: &[u8]| {
                sum = sum.wrapping_add(key).wrapping_add(sum_words(value));
                entries += 1;
            };
            store.begin_read()?;
            match workload {
                Workload::BackwardScan => store.scan_back(read)?,
                _ => store.scan(read)?,
            }
            store.commit()?;
            Ok((entries, sum))
        })
    }

    fn sequential_get(&mut self, plan: &Plan) -> Result<Sample> {
        let store = self.hot(plan)?;
        let entries = (0..plan.data.len()).map(|index| plan.data.entry(index, 0));
        get_all(Workload::SequentialGet, store, plan, entries)
    }

    fn missing_get(&mut self, plan: &Plan) -> Result<Sample> {
        let store = self.hot(plan)?;
        let flipped = |&index: &u32| {
            let mut key = *plan.data.entry(index as usize, 0).key;
            key[key.len() - 1] ^= 1;
            key
        };
        let keys: Vec<_> = plan.get_order.iter().map(flipped).collect();
        plan.time(Workload::MissingGet, || {
            store.begin_read()?;
            let of_present = plan.get_order.iter().map(|&index| plan.data.entry(index as usize, 0));
            let entries = of_present.zip(&keys).map(|(entry, key)| Entry { key, ..entry });
            let found = store.get_each(entries, |_| ())?;
            store.commit()?;
            Ok((plan.get_order.len(), found))
        })
    }

    fn range(&mut self, plan: &Plan) -> Result<Sample> {
        let store = self.hot(plan)?;
        plan.time(Workload::Range, || {
            let mut sum = 0u64;
            let starts = &plan.get_order[..plan.get_order.len().div_ceil(5)];
            store.begin_read()?;
            for &index in starts {
                let entry = plan.data.entry(index as usize, 0);
                store.range(&entry, RANGE_LENGTH, |key, value| {
                    sum = sum.wrapping_add(key).wrapping_add(sum_words(value));
                })?;
            }
            store.commit()?;
            Ok((starts.len(), sum))
        })
    }

    /// Changes the file of random inserts, so on a copy of it.
    fn change(&mut self, workload: Workload, plan: &Plan) -> Result<Sample> {
        self.finish()?;
        remove_database(&self.sequential)?;
        std::fs::copy(&self.random, &self.sequential)?;
        let mut store = S::open(&self.sequential, &plan.settings)?;
        store.begin_read()?;
        store.scan(|_, value| {
            black_box(value);
        })?;
        store.commit()?;
        let sample = plan.time(workload, || {
            let count = match workload {
                Workload::DeleteHalf => plan.get_order.len().div_ceil(2),
                _ => plan.get_order.len(),
            };
            store.begin_write()?;
            for &index in &plan.get_order[..count] {
                match workload {
                    Workload::DeleteHalf => store.delete(&plan.data.entry(index as usize, 0))?,
                    _ => store.put(&plan.data.entry(index as usize, 1))?,
                }
            }
            store.commit()?;
            Ok((count, 0))
        })?;
        store.check()?;
        store.close()?;
        Ok(Sample { file_size: self.sequential.metadata()?.len(), ..sample })
    }
}

/// Puts these entries in one transaction; opening and creating are outside of the clock.
fn insert_all<S: Store>(
    workload: Workload,
    store: &mut S,
    plan: &Plan,
    order: impl Iterator<Item = usize>,
) -> Result<Sample> {
    plan.time(workload, || {
        let mut operations = 0;
        store.begin_write()?;
        for index in order {
            store.put(&plan.data.entry(index, 0))?;
            operations += 1;
        }
        store.commit()?;
        Ok((operations, 0))
    })
}

/// Gets these entries, which all exist, in one transaction.
fn get_all<'e, S: Store>(
    workload: Workload,
    store: &mut S,
    plan: &Plan,
    entries: impl ExactSizeIterator<Item = Entry<'e>>,
) -> Result<Sample> {
    plan.time(workload, || {
        let (mut sum, count) = (0u64, entries.len());
        store.begin_read()?;
        let found = store.get_each(entries, |value| sum = sum.wrapping_add(sum_words(value)))?;
        store.commit()?;
        match found == count as u64 {
            true => Ok((count, sum)),
            false => Err(Failure(format!("{found} of {count} entries were found"))),
        }
    })
}

impl<S: Store> Contender for Lane<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn run(&mut self, workload: Workload, plan: &Plan) -> Result<Sample> {
        let sample = match workload {
            Workload::SequentialInsert => self.sequential_insert(plan),
            Workload::RandomInsert => self.random_insert(plan),
            Workload::RandomGet => self.random_get(plan),
            Workload::ForwardScan | Workload::BackwardScan => self.scan(workload, plan),
            Workload::SequentialGet => self.sequential_get(plan),
            Workload::MissingGet => self.missing_get(plan),
            Workload::Range => self.range(plan),
            Workload::Overwrite | Workload::DeleteHalf => self.change(workload, plan),
        };
        sample.map_err(|Failure(text)| Failure(format!("{} {}: {text}", S::NAME, workload.name())))
    }

    fn finish(&mut self) -> Result<()> {
        self.store.take().map_or(Ok(()), S::close)
    }

    fn file(&self) -> &Path {
        &self.random
    }

    fn verify(&self, file: &Path, plan: &Plan) -> Result<()> {
        let mut store = S::open(file, &plan.settings)?;
        store.check()?;
        let (mut sum, mut entries) = (0u64, 0);
        store.begin_read()?;
        store.scan(|key, value| {
            sum = sum.wrapping_add(key).wrapping_add(sum_words(value));
            entries += 1;
        })?;
        store.commit()?;
        store.close()?;
        if entries != plan.data.len() || sum != plan.data.scan_sum(plan.settings.kind) {
            return Err(Failure(format!("{entries} entries with sum {sum:#x}")));
        }
        Ok(())
    }
}

/// What `valgrind --toggle-collect` is told to look at.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    work()
}

fn remove_database(path: &Path) -> Result<()> {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    for file in [path, Path::new(&journal)] {
        if file.exists() {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

struct Clock {
    wall: Instant,
    cpu: Duration,
}

impl Clock {
    fn start() -> Clock {
        Clock { cpu: processor_time(), wall: Instant::now() }
    }

    fn stop(self, operations: usize, sum: u64) -> Result<Sample> {
        let wall = self.wall.elapsed();
        let cpu = processor_time().saturating_sub(self.cpu);
        match operations {
            0 => Err(Failure("nothing was done".into())),
            _ => Ok(Sample { wall, cpu, operations: operations as u64, sum, file_size: 0 }),
        }
    }
}

/// Processor time of this process so far, all threads, user and system.
#[allow(unsafe_code)]
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Linux, and the call fills in the struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
