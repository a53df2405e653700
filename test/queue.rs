//! The write-behind queue under load: its limit, its memory, its cost (A307, A308, 6.1, 6.2).
//!
//! `TCLBTREE_LONG=1`: 1 GiB instead of 64 MiB through the bounded queue, and 16 MiB instead of 1 if
//! the writer pauses after each operation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use support::book::{Book, Change, Content, Form};
use support::random::Random;
use support::{Directory, is_long};
use tclbtree::os::write_behind::{Durability, Halt, LimitPolicy, WriteBehind};
use tclbtree::os::{Access, MemoryVfs, OpenKind, OpenRequest, UnixVfs, Vfs, WriteBehindVfs};
use tclbtree::pager::JournalMode;
use tclbtree::{Btree, Error, Options, TransactionKind};

/// Memory and time are those of the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: u64 = 1 << 20;

/// Resident memory of the process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// A307: whatever goes through, memory stays bounded by the limit.
#[test]
fn much_goes_through_a_small_limit() {
    let _alone = ALONE.lock();
    goes_through_four_mib(if is_long() { 1024 * MIB } else { 64 * MIB }, 0);
}

/// A307: so it does if the writer is much slower than who pushes.
#[test]
fn much_goes_through_a_small_limit_slowly() {
    let _alone = ALONE.lock();
    goes_through_four_mib(if is_long() { 16 * MIB } else { 5 * MIB }, 1);
}

fn goes_through_four_mib(wanted: u64, delay_ms: u64) {
    let directory = Directory::new("queue");
    let control = WriteBehind::new();
    control.set_delay_ms(delay_ms);
    control.set_limit(4 * MIB, LimitPolicy::Block);
    control.start().unwrap();
    let vfs = Arc::new(WriteBehindVfs::new(Arc::new(UnixVfs::new()), &control));
    let db = Form::plain(4096).open(vfs, &directory.file("t.db"), 100).unwrap();
    let mut book = Book::create(db).unwrap();
    book.db.set_journal_mode(JournalMode::Truncate).unwrap();
    let start = resident();
    let (mut most, mut pushed, mut row) = (start, 0, 0);
    while pushed < wanted {
        let changes: Vec<Change> =
            (row..row + 100).map(|row| Change::Put(row % 20_000, vec![row as u8; 900])).collect();
        book.commit(&changes).unwrap();
        row += 100;
        most = most.max(resident());
        let statistics = control.statistics(None);
        pushed = statistics.bytes_written + statistics.queued_bytes;
        assert!(statistics.peak_bytes <= 4 * MIB, "{statistics:?}");
    }
    control.set_delay_ms(0);
    control.flush(None, Durability::Written, None).unwrap();
    let (grown, waits) = ((most - start) / MIB, control.statistics(None).waits);
    println!("{} MiB through 4 MiB: memory grew by {grown} MiB, {waits} waits", pushed / MIB);
    assert!(most - start <= 32 * MIB, "memory grew by {grown} MiB");
    assert!(book.check().unwrap().is_empty());
    control.set_halt(Halt::Idle);
    control.wait().unwrap();
}

/// A308: a queue that is full in the middle of a commit, refused or blocked without a writer:
/// the transaction can be rolled back, and the next one goes through.
#[test]
fn a_full_queue_in_the_middle_of_a_commit_can_be_rolled_back() {
    let _alone = ALONE.lock();
    let mut stops = 0;
    for (policy, error) in [(LimitPolicy::Refuse, Error::Full), (LimitPolicy::Block, Error::Busy)] {
        for mode in [JournalMode::Delete, JournalMode::Truncate, JournalMode::Persist] {
            for limit in (1..).map(|step| 700 * step) {
                if goes_through(policy, error, mode, limit) {
                    break;
                }
                stops += 1;
            }
        }
    }
    println!("{stops} commits stopped by a full queue and rolled back");
    assert!(stops > 20);
}

/// Whether a commit fits below the limit; if not, it is rolled back.
fn goes_through(policy: LimitPolicy, error: Error, mode: JournalMode, limit: u64) -> bool {
    let (disk, control) = (MemoryVfs::new(), WriteBehind::new());
    let vfs: Arc<dyn Vfs> = Arc::new(WriteBehindVfs::new(Arc::new(disk.clone()), &control));
    let form = Form::plain(512);
    let mut book = Book::create(form.open(vfs, Path::new("t.db"), 100).unwrap()).unwrap();
    book.db.set_journal_mode(mode).unwrap();
    let mut random = Random::new(3);
    let (before, changes) = grown(&Content::default(), &mut random, 30);
    book.commit(&changes).unwrap();
    let (after, changes) = grown(&before, &mut random, 30);
    control.flush(None, Durability::Written, None).unwrap();
    control.set_limit(limit, policy);
    book.db.begin(TransactionKind::Write).unwrap();
    let mut result = changes.iter().try_for_each(|change| book.apply(change));
    result = result.and_then(|()| book.db.commit());
    control.set_limit(0, policy);
    let is_through = result.is_ok();
    if !is_through {
        assert_eq!(result, Err(error), "{policy:?} {mode:?} {limit}");
        control.set_limit(limit, policy);
        book.db.rollback().unwrap();
        assert!(book.checked_content().unwrap() == before, "{policy:?} {mode:?} {limit}");
        control.set_limit(0, policy);
        book.commit(&changes).unwrap();
    }
    control.flush(None, Durability::Written, None).unwrap();
    drop(book);
    control.flush(None, Durability::Written, None).unwrap();
    let mut book =
        Book::attach(Btree::open(Arc::new(disk), "t.db", &Options::default()).unwrap()).unwrap();
    assert!(book.checked_content().unwrap() == after, "{policy:?} {mode:?} {limit}");
    is_through
}

fn grown(content: &Content, random: &mut Random, count: usize) -> (Content, Vec<Change>) {
    let mut content = content.clone();
    let changes: Vec<Change> = (0..count)
        .map(|_| {
            let change = Change::random(random, &content, 512);
            change.expect(&mut content);
            change
        })
        .collect();
    (content, changes)
}

/// Defect 20: without a writer the queue only grows; a commit costs the same for all that, and so
/// does working it off. 8 times as many shall cost less than 10 times as much, which the benchmark
/// shows on a quiet machine; the instructions are 8 times as many. Here it is enough that the time
/// is half of the 64 times of a quadratic cost at most: memory is slow for what the caches do not
/// hold, and slower beside others.
#[test]
fn many_small_commits_without_a_writer_cost_no_more_each() {
    let _alone = ALONE.lock();
    // The least of some: the first touch of so much memory would be most of a time, and others have
    // the processor for a part of some.
    let least_of = |count| (0..5).map(|_| time_of_commits(count)).reduce(least).unwrap();
    let (short, long) = (least_of(1000), least_of(8000));
    for (what, few, many) in [("commits", short.0, long.0), ("worked off", short.1, long.1)] {
        let ratio = many.as_secs_f64() / few.as_secs_f64();
        println!("{what}: 1 000 in {few:.0?}, 8 000 in {many:.0?}, {ratio:.1} times as much");
        assert!(ratio < 32.0, "{what}: {ratio:.1} times as much");
    }
}

/// 6.2: what a read costs does not depend on how much is queued, for the file or others. A hundred
/// pages are read beside a hundred queued writes, and beside a hundred thousand.
#[test]
fn a_read_costs_no_more_beside_a_long_queue() {
    let _alone = ALONE.lock();
    let ratio = || {
        let (few, many) = (time_of_reads(100), time_of_reads(100_000));
        let ratio = many.as_secs_f64() / few.as_secs_f64();
        println!("100 pages beside 100 writes {few:.1?}, beside 100 000 {many:.1?}: {ratio:.2}");
        ratio
    };
    // It should be 1, as the benchmark shows on a quiet machine; a list would make it hundreds.
    assert!((0..5).any(|_| ratio() < 8.0), "a read costs more beside a long queue");
}

/// What reading the same hundred pages takes beside so many queued writes.
fn time_of_reads(writes: u64) -> Duration {
    const PAGE: u64 = 512;
    let control = WriteBehind::new();
    let disk = MemoryVfs::new();
    disk.put("/f", vec![7; 200 * PAGE as usize]);
    let vfs = WriteBehindVfs::new(Arc::new(disk), &control);
    let request = OpenRequest {
        kind: OpenKind::Database,
        access: Access::Create,
        exclusive: false,
        delete_on_close: false,
        lock_offset: 0x4000_0000,
    };
    let mut file = vfs.open(Some(Path::new("/f")), request).unwrap().file;
    // Every second one of the pages that are read is queued.
    for number in 0..writes {
        let page = if number < 50 { 2 * number } else { 150 + number };
        file.write_at(&[1; PAGE as usize], page * PAGE).unwrap();
    }
    let mut buffer = [0; PAGE as usize];
    let mut read_all = || {
        let began = Instant::now();
        for _ in 0..2000 {
            for page in 0..100 {
                file.read_at(&mut buffer, page * PAGE).unwrap();
                assert_eq!(buffer[0], if page % 2 == 0 { 1 } else { 7 });
            }
        }
        began.elapsed()
    };
    (0..5).map(|_| read_all()).min().unwrap()
}

fn least(one: (Duration, Duration), other: (Duration, Duration)) -> (Duration, Duration) {
    (one.0.min(other.0), one.1.min(other.1))
}

/// What so many commits take, and what working them off does.
fn time_of_commits(count: i64) -> (Duration, Duration) {
    let control = WriteBehind::new();
    let vfs = Arc::new(WriteBehindVfs::new(Arc::new(MemoryVfs::new()), &control));
    let mut book =
        Book::create(Form::plain(1024).open(vfs, Path::new("t.db"), 100).unwrap()).unwrap();
    let began = Instant::now();
    for row in 0..count {
        book.commit(&[Change::Put(row, vec![1; 20])]).unwrap();
    }
    let committed = began.elapsed();
    assert_eq!(book.content().unwrap().rows.len(), count as usize);
    assert!(control.status().ops > count as u64);
    let flushing = Instant::now();
    control.flush(None, Durability::Written, None).unwrap();
    (committed, flushing.elapsed())
}
