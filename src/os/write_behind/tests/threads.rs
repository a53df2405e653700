//! Several threads and the writer at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::super::super::simulate::OpKind;
use super::room::in_time;
use super::*;

/// A903, A914: a thousand times, nothing is left behind and nobody hangs.
#[test]
fn start_and_wait_miss_nothing() {
    let bench = Bench::new();
    let mut file = bench.database("/f");
    assert_eq!(bench.control.wait(), Err(Error::State("would block forever")));
    for round in 0..1000 {
        file.write_at(&[round as u8; 8], 8 * round).unwrap();
        bench.control.set_halt(Halt::Idle);
        bench.control.start().unwrap();
        bench.control.wait().unwrap();
        assert_eq!(bench.control.status().ops, 0);
        bench.control.set_halt(Halt::Never);
        bench.control.start().unwrap();
        bench.control.start().unwrap();
        bench.control.set_halt(Halt::Idle);
        bench.control.wait().unwrap();
    }
    assert_eq!(bench.content("/f").unwrap().len(), 8000);
}

/// A914: who waits wakes the writer, even if nobody else has told it of the halt.
#[test]
fn a_wait_wakes_a_sleeping_writer() {
    in_time(|| {
        let bench = Bench::new();
        let (idle, told) = std::sync::mpsc::channel();
        bench.control.set_trace(Some(Arc::new(move |line: &str| {
            if line == "IDLE" {
                let _ = idle.send(std::fs::read_link("/proc/thread-self").unwrap());
            }
        })));
        bench.control.start().unwrap();
        let writer = Path::new("/proc").join(told.recv().unwrap()).join("stat");
        while !std::fs::read_to_string(&writer).unwrap().contains(") S ") {
            std::thread::yield_now();
        }
        bench.control.shared().state().halt = Halt::Idle;
        bench.control.wait().unwrap();
        bench.control.set_halt(Halt::Never);
    });
}

/// A905, A909, A912, defects 6 and 7: `now` stops an idle writer too; a queue under `now` stays.
#[test]
fn now_stops_at_once() {
    let bench = Bench::new();
    bench.control.start().unwrap();
    bench.control.set_halt(Halt::Now);
    bench.control.wait().unwrap();
    let mut file = bench.database("/f");
    file.write_at(b"x", 0).unwrap();
    bench.control.start().unwrap();
    bench.control.wait().unwrap();
    assert_eq!(bench.control.status().ops, 1);
    bench.control.set_halt(Halt::Never);
    bench.control.start().unwrap();
    assert!(bench.control.status().running);
    assert_eq!(bench.control.step(1), Err(Error::Busy));
    bench.stop();
    assert_eq!(bench.control.status().ops, 0);
}

/// A504: one block, always of one digit. A read beneath is interrupted by a write: that tears the
/// block for every reader that trusts what it found, see [`a_read_that_looks_once_is_torn`].
fn torn_reads(looks_once: bool, two_handles: bool, time: Duration) -> usize {
    let memory = MemoryVfs::new();
    let control = WriteBehind::new();
    control.set_two_handles(two_handles);
    control.set_looks_once(looks_once);
    let meeting = Arc::new(Meeting::default());
    let vfs = WriteBehindVfs::new(Arc::new(Slow(memory, Arc::clone(&meeting))), &control);
    let open = || {
        let request = request(OpenKind::Database, Access::Create);
        vfs.open(Some(Path::new("/f")), request).unwrap().file
    };
    let (mut writer, reader) = (open(), open());
    writer.write_at(&[b'0'; 1000], 0).unwrap();
    control.start().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let (is_done, queue) = (Arc::clone(&done), control.clone());
    let rewriting = std::thread::spawn(move || {
        let mut digit = 0u8;
        while !is_done.load(Ordering::Relaxed) {
            digit = (digit + 1) % 10;
            writer.write_at(&[b'0' + digit; 1000], 0).unwrap();
            // Every other time the disk alone has the block, and is being read.
            if digit.is_multiple_of(2) {
                wait_while(Duration::from_secs(1), || queue.status().ops > 0);
                wait_while(PAUSE, || !meeting.is_reading.load(Ordering::Relaxed));
            }
        }
    });
    let (began, mut torn, mut reads) = (Instant::now(), 0, 0);
    while began.elapsed() < time && torn == 0 {
        let block = read(&*reader, 0, 1000);
        assert_eq!(block.len(), 1000);
        torn += usize::from(block.iter().any(|&byte| byte != block[0]));
        reads += 1;
    }
    done.store(true, Ordering::Relaxed);
    rewriting.join().unwrap();
    drop(reader);
    control.set_halt(Halt::Idle);
    control.wait().unwrap();
    assert!(reads > 0);
    torn
}

/// A504.
#[test]
fn reads_are_of_one_moment() {
    for two_handles in [true, false] {
        assert_eq!(torn_reads(false, two_handles, Duration::from_millis(700)), 0);
    }
}

/// The test above sees what it is there to see.
#[test]
fn a_read_that_looks_once_is_torn() {
    assert_ne!(torn_reads(true, true, Duration::from_secs(20)), 0);
}

/// How long a read is held up for a write to come between, and a write for a read.
const PAUSE: Duration = Duration::from_millis(10);

fn wait_while(limit: Duration, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while holds() && began.elapsed() < limit {
        std::thread::yield_now();
    }
}

/// Where readers and writers of a disk meet.
#[derive(Debug, Default)]
struct Meeting {
    is_reading: AtomicBool,
    writes: AtomicU64,
}

/// A disk whose files are read in two pieces, with time for a write between. A608: no two threads
/// use one of its handles at a time.
#[derive(Debug)]
struct Slow(MemoryVfs, Arc<Meeting>);

#[derive(Debug)]
struct SlowFile(Box<dyn File>, Arc<Meeting>, InUse);

/// Whether a call on the handle is under way.
#[derive(Debug, Default)]
struct InUse(AtomicBool);

impl InUse {
    fn alone<T>(&self, call: impl FnOnce() -> T) -> T {
        assert!(!self.0.swap(true, Ordering::Acquire), "two threads on one base handle");
        let result = call();
        self.0.store(false, Ordering::Release);
        result
    }
}

impl Vfs for Slow {
    fn open(
        &self,
        path: Option<&Path>,
        request: OpenRequest,
    ) -> crate::Result<super::super::super::Opened> {
        let mut opened = self.0.open(path, request)?;
        opened.file = Box::new(SlowFile(opened.file, Arc::clone(&self.1), InUse::default()));
        Ok(opened)
    }
    fn delete(&self, path: &Path, sync: bool) -> crate::Result<()> {
        self.0.delete(path, sync)
    }
    fn exists(&self, path: &Path) -> crate::Result<bool> {
        self.0.exists(path)
    }
    fn sync_directory(&self, path: &Path) -> crate::Result<()> {
        self.0.sync_directory(path)
    }
    fn full_path(&self, name: &Path) -> crate::Result<PathBuf> {
        self.0.full_path(name)
    }
    fn random(&self) -> u32 {
        self.0.random()
    }
}

impl File for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> crate::Result<usize> {
        let middle = buffer.len() / 2;
        let (left, right) = buffer.split_at_mut(middle);
        let meeting = &self.1;
        self.2.alone(|| {
            let writes = meeting.writes.load(Ordering::Relaxed);
            let count = self.0.read_at(left, offset)?;
            meeting.is_reading.store(true, Ordering::Relaxed);
            wait_while(PAUSE, || meeting.writes.load(Ordering::Relaxed) == writes);
            meeting.is_reading.store(false, Ordering::Relaxed);
            Ok(count + self.0.read_at(right, offset + middle as u64)?)
        })
    }
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> crate::Result<()> {
        let (left, right) = bytes.split_at(bytes.len() / 3);
        self.2.alone(|| {
            self.0.write_at(left, offset)?;
            std::thread::yield_now();
            self.0.write_at(right, offset + left.len() as u64)
        })?;
        self.1.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn truncate(&mut self, size: u64) -> crate::Result<()> {
        self.2.alone(|| self.0.truncate(size))
    }
    fn sync(&mut self, kind: SyncKind) -> crate::Result<()> {
        self.2.alone(|| self.0.sync(kind))
    }
    fn size(&self) -> crate::Result<u64> {
        self.2.alone(|| self.0.size())
    }
    fn lock(&mut self, level: LockLevel) -> crate::Result<()> {
        self.0.lock(level)
    }
    fn unlock(&mut self, level: LockLevel) -> crate::Result<()> {
        self.0.unlock(level)
    }
    fn lock_level(&self) -> LockLevel {
        self.0.lock_level()
    }
    fn check_reserved_lock(&self) -> crate::Result<bool> {
        self.0.check_reserved_lock()
    }
    fn identity(&self) -> Option<(u64, u64)> {
        self.0.identity()
    }
}

/// A918, A932: four threads on files of their own, a fifth that halts and starts; every file is
/// what its thread wrote, and the books are right at every moment. `WRITE_BEHIND_SECONDS` sets
/// for how long.
#[test]
fn threads_do_not_disturb_each_other() {
    let seconds = std::env::var("WRITE_BEHIND_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(10));
    let bench = Bench::new();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4u64)
            .map(|worker| {
                let bench = &bench;
                scope.spawn(move || work(bench, worker, time))
            })
            .collect();
        let (control, is_ended) = (&bench.control, &ended);
        let halting = scope.spawn(move || {
            let halts = [Halt::Idle, Halt::Now, Halt::Never];
            for round in 0.. {
                if is_ended.load(Ordering::Relaxed) {
                    break;
                }
                control.start().unwrap();
                control.set_halt(halts[round % 3]);
                if round % 3 != 2 {
                    control.wait().unwrap();
                }
                let s = control.statistics(None);
                let sum = s.executed + s.merged + s.elided + s.dropped + s.queued_ops;
                assert_eq!(s.pushed, sum);
            }
        });
        let wanted: Vec<Vec<u8>> =
            workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        ended.store(true, Ordering::Relaxed);
        halting.join().unwrap();
        bench.control.set_halt(Halt::Never);
        bench.flush();
        for (worker, wanted) in wanted.into_iter().enumerate() {
            assert_eq!(bench.content(&format!("/f{worker}")), Some(wanted));
        }
    });
}

/// Operations in the queue, at most, before everybody waits until it is empty: else a writer that
/// is slower than four threads would leave more behind than the memory holds.
const BACKLOG_MAX: u64 = 5000;

/// Writes, cuts, reads back, closes and opens a file and its journal, and knows what it did.
fn work(bench: &Bench, worker: u64, time: Duration) -> Vec<u8> {
    let name = format!("/f{worker}");
    let began = Instant::now();
    let mut file = bench.database(&name);
    let mut model = Vec::new();
    let mut seed = worker + 1;
    while began.elapsed() < time {
        if bench.control.status().ops > BACKLOG_MAX {
            let rest = time.saturating_sub(began.elapsed());
            wait_while(rest, || bench.control.status().ops > 0);
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (seed >> 33) as usize % 8192;
        let length = (seed >> 20) as usize % 600;
        match (seed >> 50) % 16 {
            0 => {
                file.truncate(at as u64).unwrap();
                model.resize(at, 0);
            }
            1 => {
                drop(file);
                file = bench.database(&name);
            }
            2 => {
                let mut journal = bench.journal(&format!("{name}-journal"));
                journal.write_at(&[7; 40], 0).unwrap();
                assert_eq!(read(&*journal, 0, 50), [7; 40]);
                drop(journal);
                bench.vfs.delete(Path::new(&format!("{name}-journal")), false).unwrap();
            }
            3..=8 => {
                if length > 0 && model.len() < at + length {
                    model.resize(at + length, 0);
                }
                if length > 0 {
                    model[at..at + length].fill(seed as u8);
                }
                file.write_at(&vec![seed as u8; length], at as u64).unwrap();
            }
            _ => {
                let wanted = &model
                    [at.min(model.len())..(at + length).min(model.len()).max(at.min(model.len()))];
                assert_eq!(read(&*file, at as u64, length), wanted);
                let size = file.size().unwrap();
                assert_eq!(size, if model.len() == 1 { 0 } else { model.len() as u64 });
            }
        }
    }
    model
}

/// A607, defect 22: a slow write keeps nobody who does not need that very handle.
#[test]
fn a_slow_write_stalls_only_its_own_handle() {
    let bench = Bench::new();
    bench.memory.put("/f", vec![1; 100]);
    bench.memory.put("/g", vec![2; 100]);
    let mut file = bench.database("/f");
    let mut other = bench.database("/g");
    // Longer than the test may take: only what waits for the write would reach the end of it.
    bench.knobs.stall(OpKind::Write, 60_000);
    bench.control.start().unwrap();
    file.write_at(b"x", 0).unwrap();
    while bench.knobs.calls(OpKind::Write) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(read(&*file, 50, 1), [1]);
    assert_eq!(read(&*file, 0, 1), b"x");
    assert_eq!(read(&*other, 0, 1), [2]);
    other.write_at(b"y", 0).unwrap();
    assert_eq!(bench.control.status().ops, 2, "the write is still in hand");
    bench.knobs.stall(OpKind::Write, 0);
}
