//! The workloads as they run, each written once for all stores.

use std::ffi::OsString;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::data::{Entry, Piece, WordSum};
use crate::memory::resident_bytes;
use crate::store::{Failure, Result, Settings, Store};
use crate::workloads::{CommitRow, Plan, Sample, Workload};

/// Entries that [`Workload::Range`] reads each time.
const RANGE_LENGTH: usize = 10;
/// Most entries that [`Workload::ColdGet`] gets.
const COLD_GETS: usize = 200_000;
/// Transactions of [`Workload::ReadOne`], and files opened by [`Workload::OpenGetClose`].
const READ_TRANSACTIONS: usize = 20_000;
const OPENS: usize = 1000;
/// Values of a file that are compared byte for byte in the end.
const COMPARED: usize = 2000;

/// One store's part in a comparison, whatever its type.
pub trait Contender {
    /// The store's name.
    fn name(&self) -> &'static str;
    /// Whether the store can run the row at all.
    fn suits(&self, settings: &Settings) -> bool;
    /// Runs one row.
    fn run(&mut self, workload: Workload, plan: &Plan) -> Result<Sample>;
    /// Closes what is open.
    fn finish(&mut self) -> Result<()>;
    /// The file of the random inserts.
    fn file(&self) -> &Path;
    /// Whether the file has the format that others with this mark read.
    fn is_bare_sqlite(&self) -> bool;
    /// Opens a file, its own or another contender's, and checks all of it: the integrity check,
    /// the sum of keys and values, and some of the values byte for byte.
    fn verify(&self, file: &Path, plan: &Plan) -> Result<()>;
    /// Bytes by which memory in use grows as the file is opened like this and scanned.
    fn memory(&self, settings: &Settings) -> Result<u64>;
    /// Deletes the files.
    fn clean_up(&self) -> Result<()>;
}

/// A store and its files.
pub struct Lane<S> {
    store: Option<S>,
    sequential: PathBuf,
    random: PathBuf,
    other: PathBuf,
    preload: PathBuf,
    preloaded: bool,
}

impl<S: Store> Lane<S> {
    /// A lane with its files in this directory.
    pub fn new(directory: &Path) -> Lane<S> {
        let file = |kind: &str| directory.join(format!("{}-{kind}.db", S::NAME));
        Lane {
            store: None,
            sequential: file("sequential"),
            random: file("random"),
            other: file("other"),
            preload: file("preload"),
            preloaded: false,
        }
    }

    fn run_row(&mut self, workload: Workload, plan: &Plan) -> Result<Sample> {
        match workload {
            Workload::SequentialInsert => self.insert(workload, plan, &self.sequential.clone()),
            Workload::RandomInsert => self.insert(workload, plan, &self.random.clone()),
            Workload::Append | Workload::SpillInsert => {
                self.insert(workload, plan, &self.other.clone())
            }
            Workload::SequentialFileScan => {
                self.on_sequential_file(|lane| lane.scan(workload, plan))
            }
            Workload::SequentialFileGet => {
                self.on_sequential_file(|lane| lane.gets(workload, plan))
            }
            Workload::RandomGet | Workload::SequentialGet | Workload::ColdGet => {
                self.gets(workload, plan)
            }
            Workload::ForwardScan | Workload::BackwardScan | Workload::ColdScan => {
                self.scan(workload, plan)
            }
            Workload::MissingGet => self.missing_gets(plan),
            Workload::Range => self.ranges(plan),
            Workload::Overwrite | Workload::DeleteHalf => self.change(workload, plan),
            Workload::ReadOne => self.read_transactions(plan),
            Workload::OpenGetClose => self.opens(plan),
            Workload::Commit(row) => self.commits(workload, row, plan),
        }
    }

    // ---- opening

    /// Lets go of the file of random inserts for as long as `work` reads the other one.
    fn on_sequential_file<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.finish()?;
        std::mem::swap(&mut self.sequential, &mut self.random);
        let result = work(self).and_then(|done| self.finish().map(|()| done));
        std::mem::swap(&mut self.sequential, &mut self.random);
        result
    }

    /// The file of random inserts with every page in the cache that has room there.
    fn hot(&mut self, plan: &Plan) -> Result<&mut S> {
        if self.store.is_none() {
            self.store = Some(S::open(&self.random, &plan.settings, false)?);
        }
        let store = self.store.as_mut().ok_or_else(|| Failure("nothing is open".into()))?;
        read_through(store)?;
        Ok(store)
    }

    /// The file of random inserts as this row wants it.
    fn opened(&mut self, workload: Workload, plan: &Plan) -> Result<&mut S> {
        match workload {
            Workload::ColdGet | Workload::ColdScan => {
                self.finish()?;
                let store = S::open(&self.random, &plan.settings_of(workload), false)?;
                Ok(self.store.insert(store))
            }
            _ => self.hot(plan),
        }
    }

    /// A fresh file with the entries that rows of transactions begin with, all of it durable, so
    /// that no commit has to pay for it.
    fn transactional(&mut self, plan: &Plan) -> Result<()> {
        self.finish()?;
        if !self.preloaded {
            remove_database(&self.preload)?;
            let mut store = S::open(&self.preload, &plan.settings, true)?;
            store.begin_write()?;
            for &index in &plan.insert_order[..plan.preloaded] {
                store.put(&plan.data.entry(index as usize, 0))?;
            }
            store.commit()?;
            store.close()?;
            self.preloaded = true;
        }
        remove_database(&self.other)?;
        copy_by_pages(&self.preload, &self.other, plan.settings.page_size as usize)?;
        std::fs::File::open(&self.other)?.sync_all()?;
        Ok(())
    }

    // ---- rows of many entries

    /// Puts all entries in one transaction; opening and creating are outside of the clock.
    fn insert(&mut self, workload: Workload, plan: &Plan, path: &Path) -> Result<Sample> {
        self.finish()?;
        remove_database(path)?;
        let mut store = S::open(path, &plan.settings_of(workload), true)?;
        let sample = plan.time(workload, || {
            store.begin_write()?;
            match workload {
                Workload::SequentialInsert => {
                    for index in 0..plan.data.len() {
                        store.put(&plan.data.entry(index, 0))?;
                    }
                }
                Workload::Append => {
                    for index in 0..plan.data.len() {
                        store.append(&plan.data.entry(index, 0))?;
                    }
                }
                _ => {
                    for &index in &plan.insert_order {
                        store.put(&plan.data.entry(index as usize, 0))?;
                    }
                }
            }
            store.commit()?;
            Ok((plan.data.len(), 0))
        })?;
        if workload == Workload::RandomInsert {
            self.store = Some(store);
        } else {
            store.close()?;
        }
        Ok(Sample { file_size: path.metadata()?.len(), ..sample })
    }

    fn gets(&mut self, workload: Workload, plan: &Plan) -> Result<Sample> {
        let store = self.opened(workload, plan)?;
        let most = if workload == Workload::ColdGet { COLD_GETS } else { usize::MAX };
        let count = plan.get_order.len().min(most);
        let entry = |index: usize| plan.data.entry(index, 0);
        let sample = plan.time(workload, || {
            let mut sum = WordSum::default();
            let read = |value: Piece<'_>| sum.add(value);
            store.begin_read()?;
            let found = if workload == Workload::SequentialGet {
                store.get_each((0..count).map(entry), read)?
            } else {
                let order = plan.get_order[..count].iter();
                store.get_each(order.map(|&index| entry(index as usize)), read)?
            };
            store.commit()?;
            Ok((found as usize, sum.sum))
        })?;
        match count as u64 - sample.operations {
            0 => Ok(sample),
            missing => Err(Failure(format!("{missing} entries were not found"))),
        }
    }

    fn scan(&mut self, workload: Workload, plan: &Plan) -> Result<Sample> {
        let store = self.opened(workload, plan)?;
        plan.time(workload, || {
            let (mut sum, mut keys, mut entries) = (WordSum::default(), 0u64, 0);
            let read = |key: u64, value: Piece<'_>| {
                keys = keys.wrapping_add(key);
                sum.add(value);
                entries += usize::from(value.is_last);
            };
            store.begin_read()?;
            match workload {
                Workload::BackwardScan => store.scan_back(read)?,
                _ => store.scan(read)?,
            }
            store.commit()?;
            Ok((entries, keys.wrapping_add(sum.sum)))
        })
    }

    fn missing_gets(&mut self, plan: &Plan) -> Result<Sample> {
        let store = self.hot(plan)?;
        let flipped = |&index: &u32| {
            let mut key = *plan.data.entry(index as usize, 0).key;
            key[key.len() - 1] ^= 1;
            key
        };
        let keys: Vec<_> = plan.get_order.iter().map(flipped).collect();
        plan.time(Workload::MissingGet, || {
            let of_present = plan.get_order.iter().map(|&index| plan.data.entry(index as usize, 0));
            let entries = of_present.zip(&keys).map(|(entry, key)| Entry { key, ..entry });
            store.begin_read()?;
            let found = store.get_each(entries, |_| ())?;
            store.commit()?;
            Ok((plan.get_order.len(), found))
        })
    }

    fn ranges(&mut self, plan: &Plan) -> Result<Sample> {
        let store = self.hot(plan)?;
        plan.time(Workload::Range, || {
            let (mut sum, mut keys) = (WordSum::default(), 0u64);
            let starts = &plan.get_order[..plan.get_order.len().div_ceil(5)];
            store.begin_read()?;
            for &index in starts {
                let entry = plan.data.entry(index as usize, 0);
                store.range(&entry, RANGE_LENGTH, |key, value| {
                    keys = keys.wrapping_add(key);
                    sum.add(value);
                })?;
            }
            store.commit()?;
            Ok((starts.len(), keys.wrapping_add(sum.sum)))
        })
    }

    fn change(&mut self, workload: Workload, plan: &Plan) -> Result<Sample> {
        if workload == Workload::DeleteHalf {
            self.finish()?; // The rows before had a small cache.
        }
        let store = self.hot(plan)?;
        let count = match workload {
            Workload::DeleteHalf => plan.half(),
            _ => plan.get_order.len(),
        };
        let sample = plan.time(workload, || {
            store.begin_write()?;
            for &index in &plan.get_order[..count] {
                match workload {
                    Workload::DeleteHalf => store.delete(&plan.data.entry(index as usize, 0))?,
                    _ => store.replace(&plan.data.entry(index as usize, 1))?,
                }
            }
            store.commit()?;
            Ok((count, 0))
        })?;
        Ok(Sample { file_size: self.random.metadata()?.len(), ..sample })
    }

    // ---- rows of many transactions

    fn read_transactions(&mut self, plan: &Plan) -> Result<Sample> {
        self.transactional(plan)?;
        let mut store = S::open(&self.other, &plan.settings, false)?;
        read_through(&mut store)?;
        let count = READ_TRANSACTIONS.min(plan.get_order.len());
        let sample = plan.time(Workload::ReadOne, || {
            let mut sum = 0u64;
            for &index in &plan.get_order[..count] {
                sum = sum.wrapping_add(get_alone(&mut store, plan, index)?);
            }
            Ok((count, sum))
        })?;
        store.close()?;
        Ok(sample)
    }

    fn opens(&mut self, plan: &Plan) -> Result<Sample> {
        self.transactional(plan)?;
        let count = OPENS.min(plan.get_order.len());
        plan.time(Workload::OpenGetClose, || {
            let mut sum = 0u64;
            for &index in &plan.get_order[..count] {
                let mut store = S::open(&self.other, &plan.settings, false)?;
                sum = sum.wrapping_add(get_alone(&mut store, plan, index)?);
                store.close()?;
            }
            Ok((count, sum))
        })
    }

    fn commits(&mut self, workload: Workload, row: CommitRow, plan: &Plan) -> Result<Sample> {
        self.transactional(plan)?;
        let mut store = S::open(&self.other, &plan.settings_of(workload), false)?;
        read_through(&mut store)?;
        let new = &plan.insert_order[plan.preloaded..][..row.new_entries()];
        let mut times = Vec::with_capacity(row.transactions);
        let sample = plan.time(workload, || {
            let mut began = Instant::now();
            for entries in new.chunks(row.entries) {
                store.begin_write()?;
                for &index in entries {
                    store.put(&plan.data.entry(index as usize, 0))?;
                }
                store.commit()?;
                let now = Instant::now();
                times.push(now - began);
                began = now;
            }
            Ok((times.len(), 0))
        })?;
        // All of it is there, and nothing else.
        let (sum, entries) = sum_of(&mut store)?;
        if entries != plan.preloaded + new.len() {
            return Err(Failure(format!("{entries} entries after the commits")));
        }
        store.check()?;
        store.close()?;
        times.sort();
        let percentiles = Some((at(&times, 0.5), at(&times, 0.99)));
        Ok(Sample { sum, percentiles, ..sample })
    }
}

impl<S: Store> Contender for Lane<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn suits(&self, settings: &Settings) -> bool {
        S::suits(settings)
    }

    fn run(&mut self, workload: Workload, plan: &Plan) -> Result<Sample> {
        self.run_row(workload, plan)
            .map_err(|Failure(text)| Failure(format!("{} {}: {text}", S::NAME, workload.name())))
    }

    fn finish(&mut self) -> Result<()> {
        self.store.take().map_or(Ok(()), S::close)
    }

    fn file(&self) -> &Path {
        &self.random
    }

    fn is_bare_sqlite(&self) -> bool {
        S::IS_BARE_SQLITE
    }

    fn verify(&self, file: &Path, plan: &Plan) -> Result<()> {
        let mut store = S::open(file, &plan.settings, false)?;
        store.check()?;
        let (survivors, generation) = plan.survivors();
        let (sum, entries) = sum_of(&mut store)?;
        let expected = plan.data.scan_sum(plan.settings.kind, survivors, generation);
        if entries != survivors.len() || sum != expected {
            return Err(Failure(format!("{entries} entries with sum {sum:#x}")));
        }
        store.begin_read()?;
        let step = survivors.len().div_ceil(COMPARED).max(1);
        for &index in survivors.iter().step_by(step) {
            let entry = plan.data.entry(index as usize, generation);
            let mut value = Vec::new();
            store.get(&entry, |piece| value.extend_from_slice(piece.bytes))?;
            if value != entry.value {
                return Err(Failure(format!("entry {index} has another value")));
            }
        }
        store.commit()?;
        store.close()
    }

    fn memory(&self, settings: &Settings) -> Result<u64> {
        let before = resident_bytes()?;
        let mut store = S::open(&self.random, settings, false)?;
        read_through(&mut store)?;
        let bytes = resident_bytes()?.saturating_sub(before);
        store.close()?;
        Ok(bytes)
    }

    fn clean_up(&self) -> Result<()> {
        for path in [&self.sequential, &self.random, &self.other, &self.preload] {
            remove_database(path)?;
        }
        Ok(())
    }
}

fn read_through<S: Store>(store: &mut S) -> Result<()> {
    store.begin_read()?;
    store.scan(|_, value| {
        black_box(value);
    })?;
    store.commit()
}

/// The sum of all keys and values, and their number.
fn sum_of<S: Store>(store: &mut S) -> Result<(u64, usize)> {
    let (mut sum, mut keys, mut entries) = (WordSum::default(), 0u64, 0);
    store.begin_read()?;
    store.scan(|key, value| {
        keys = keys.wrapping_add(key);
        sum.add(value);
        entries += usize::from(value.is_last);
    })?;
    store.commit()?;
    Ok((keys.wrapping_add(sum.sum), entries))
}

/// A transaction that gets one entry; the sum of its value.
#[inline]
fn get_alone<S: Store>(store: &mut S, plan: &Plan, index: u32) -> Result<u64> {
    let mut sum = WordSum::default();
    store.begin_read()?;
    let found = store.get(&plan.data.entry(index as usize, 0), |value| sum.add(value))?;
    store.commit()?;
    if found { Ok(sum.sum) } else { Err(Failure(format!("entry {index} was not found"))) }
}

/// The value below which this part of the rising times is.
fn at(times: &[Duration], part: f64) -> Duration {
    let index = times.len().saturating_sub(1) as f64 * part;
    times.get(index.round() as usize).copied().unwrap_or_default()
}

/// Copies a file as a database writes one, page by page. What is written at once, the system may
/// keep as one piece of memory, and then every page that is written into it takes up to eight times
/// as long, whoever writes it.
fn copy_by_pages(from: &Path, to: &Path, page_size: usize) -> Result<()> {
    let bytes = std::fs::read(from)?;
    let mut copy = std::fs::File::create(to)?;
    for page in bytes.chunks(page_size) {
        copy.write_all(page)?;
    }
    Ok(())
}

/// Deletes a database and what may lie beside it.
///
/// # Errors
/// Something is there and cannot be deleted.
pub fn remove_database(path: &Path) -> Result<()> {
    for suffix in ["", "-journal", "-wal", "-shm", "-lock"] {
        let mut name: OsString = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
