//! The queue's core under a model checker: every interleaving of two threads and the writer, as
//! far as it takes no more than [`PREEMPTIONS`] preemptions (switches away from a thread that
//! could go on; those at a wait are not counted). A deadlock or a lost wake-up fails as well.
//!
//! Built with `--cfg loom` only: `make loom`.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::super::super::simulate::{OpKind, PlannedFault};
use super::*;

/// Preemptions of one execution, at most; `LOOM_MAX_PREEMPTIONS` sets another bound.
const PREEMPTIONS: usize = 2;

const PAGE: usize = 8;

/// Runs `body` in every interleaving, with a running writer that ends afterwards.
fn check(name: &str, body: impl Fn(&Bench) + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    let bound = *builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.max_branches = 100_000;
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        let bench = Bench::new();
        body(&bench);
        bench.control.set_halt(Halt::Idle);
        bench.control.wait().unwrap();
    });
    println!("{name}: {} executions, at most {bound} preemptions", executions.load(Relaxed));
}

fn page(byte: u8) -> [u8; PAGE] {
    [byte; PAGE]
}

/// A reader sees all of a write or nothing, and never less than before; the writer of it sees it.
#[test]
fn push_and_read() {
    check("push and read", |bench| {
        let (mut file, other) = (bench.database("/f"), bench.database("/f"));
        bench.control.start().unwrap();
        let reader = loom::thread::spawn(move || {
            let first = read(&*other, 0, PAGE);
            let second = read(&*other, 0, PAGE);
            assert!(first.is_empty() || first == page(1));
            assert!(second == page(1) || first.is_empty() && second.is_empty());
        });
        file.write_at(&page(1), 0).unwrap();
        assert_eq!(read(&*file, 0, PAGE), page(1));
        reader.join().unwrap();
    });
}

/// A file that the writer is making has what was written to it: before, while and after that
/// (defect 15).
#[test]
fn open_and_read() {
    check("open and read", |bench| {
        let database = bench.database("/f");
        let (mut journal, other) = (bench.journal("/f-journal"), bench.journal("/f-journal"));
        journal.write_at(&page(1), 0).unwrap();
        let reader = loom::thread::spawn(move || assert_eq!(read(&*other, 0, PAGE), page(1)));
        bench.control.start().unwrap();
        assert_eq!(read(&*journal, 0, PAGE), page(1));
        reader.join().unwrap();
        drop((database, journal));
    });
}

/// A truncation hides what was there at once, on disk or not.
#[test]
fn truncate() {
    check("truncate", |bench| {
        let (mut file, other) = (bench.database("/f"), bench.database("/f"));
        file.write_at(&page(1), 0).unwrap();
        bench.control.start().unwrap();
        let reader = loom::thread::spawn(move || {
            let size = other.size().unwrap();
            assert!([4, PAGE as u64].contains(&size), "{size}");
        });
        file.truncate(4).unwrap();
        assert_eq!(file.size(), Ok(4));
        reader.join().unwrap();
    });
}

/// After a flush the disk has what was written before, whoever else flushes.
#[test]
fn flush() {
    check("flush", |bench| {
        let mut file = bench.database("/f");
        bench.control.start().unwrap();
        let control = bench.control.clone();
        let other = loom::thread::spawn(move || {
            control.flush(None, Durability::Durable, None).unwrap();
        });
        file.write_at(&page(1), 0).unwrap();
        bench.control.flush(None, Durability::Written, None).unwrap();
        assert_eq!(bench.content("/f").unwrap(), page(1));
        other.join().unwrap();
    });
}

/// Without a writer, two flushes do the work in each other's place.
#[test]
fn flush_in_place() {
    check("flush in place", |bench| {
        let mut file = bench.database("/f");
        file.write_at(&page(1), 0).unwrap();
        let control = bench.control.clone();
        let other = loom::thread::spawn(move || {
            control.flush(None, Durability::Written, None).unwrap();
        });
        bench.control.flush(None, Durability::Written, None).unwrap();
        assert_eq!(bench.content("/f").unwrap(), page(1));
        other.join().unwrap();
    });
}

/// Who flushes hears it when the writer is told to stop, now or when idle; who goes on is served.
#[test]
fn halt() {
    for halt in [Halt::Now, Halt::Idle] {
        check(&format!("halt {halt:?}"), move |bench| {
            let mut file = bench.database("/f");
            bench.control.start().unwrap();
            let control = bench.control.clone();
            let other = loom::thread::spawn(move || {
                control.set_halt(halt);
                control.wait().unwrap();
            });
            file.write_at(&page(1), 0).unwrap();
            let flushed = bench.control.flush(None, Durability::Written, None);
            let is_written = bench.content("/f").unwrap() == page(1);
            match flushed {
                Ok(()) => assert!(is_written),
                Err(error) => assert_eq!((error, halt), (Error::State("halted"), Halt::Now)),
            }
            other.join().unwrap();
            assert!(!bench.control.status().running);
        });
    }
}

/// `never` takes back an `idle`: who flushes is served, by the writer or in its place.
#[test]
fn halt_never() {
    check("halt Never", |bench| {
        let mut file = bench.database("/f");
        bench.control.set_halt(Halt::Idle);
        bench.control.start().unwrap();
        let control = bench.control.clone();
        let other = loom::thread::spawn(move || control.set_halt(Halt::Never));
        file.write_at(&page(1), 0).unwrap();
        bench.control.flush(None, Durability::Written, None).unwrap();
        assert_eq!(bench.content("/f").unwrap(), page(1));
        other.join().unwrap();
        assert_eq!(bench.control.halt(), Halt::Never);
    });
}

/// A writer that is started twice at once is one.
#[test]
fn start() {
    check("start", |bench| {
        let mut file = bench.database("/f");
        file.write_at(&page(1), 0).unwrap();
        let control = bench.control.clone();
        let other = loom::thread::spawn(move || control.start().unwrap());
        bench.control.start().unwrap();
        other.join().unwrap();
    });
}

/// Everybody who relies on a write that fails hears of it.
#[test]
fn error() {
    check("error", |bench| {
        let mut file = bench.database("/f");
        bench.knobs.plan(OpKind::Write, 1, PlannedFault::default());
        bench.control.start().unwrap();
        file.write_at(&page(1), 0).unwrap();
        let control = bench.control.clone();
        let other = loom::thread::spawn(move || {
            control.flush(None, Durability::Written, None).unwrap_err();
        });
        bench.control.flush(None, Durability::Written, None).unwrap_err();
        assert!(file.write_at(&page(2), 0).is_err());
        other.join().unwrap();
    });
}

/// What is pushed beside a failure is refused or given up: it does not reach the disk (defect 14).
#[test]
fn error_beside_a_push() {
    check("error beside a push", |bench| {
        let (mut file, mut other) = (bench.database("/f"), bench.database("/f"));
        bench.knobs.plan(OpKind::Write, 1, PlannedFault::default());
        file.write_at(&page(1), 0).unwrap();
        let pushing = loom::thread::spawn(move || {
            let _ = other.write_at(&page(2), PAGE as u64);
            other
        });
        bench.control.start().unwrap();
        let other = pushing.join().unwrap();
        bench.control.flush(None, Durability::Written, None).unwrap_err();
        assert_eq!(bench.content("/f").unwrap(), b"");
        drop((file, other));
    });
}

/// A handle that is closed takes nothing with it that another one still needs.
#[test]
fn close() {
    check("close", |bench| {
        let (mut file, other) = (bench.database("/f"), bench.database("/f"));
        bench.control.start().unwrap();
        file.write_at(&page(1), 0).unwrap();
        let reader = loom::thread::spawn(move || assert_eq!(read(&*other, 0, PAGE), page(1)));
        drop(file);
        reader.join().unwrap();
        bench.flush();
        assert_eq!(bench.content("/f").unwrap(), page(1));
    });
}

/// Who waits for room gets it, or hears that there will be none.
#[test]
fn room() {
    check("room", |bench| {
        let mut file = bench.database("/f");
        bench.control.set_limit(PAGE as u64, LimitPolicy::Block);
        bench.control.start().unwrap();
        let control = bench.control.clone();
        let other = loom::thread::spawn(move || control.set_halt(Halt::Now));
        let first = file.write_at(&page(1), 0);
        let second = file.write_at(&page(2), 0);
        assert_eq!(first, Ok(()));
        assert!(matches!(second, Ok(()) | Err(Error::Busy)), "{second:?}");
        other.join().unwrap();
    });
}
