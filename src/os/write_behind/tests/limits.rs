//! Bounded queues, flushes that end early, and the end of the process.

use std::time::Duration;

use super::super::super::simulate::{OpKind, PlannedFault};
use super::*;

/// A307, A308: what goes beyond the limit is refused, or busy without a writer; the writes of a
/// rollback never are; one that is larger than the limit is let in alone.
#[test]
fn a_full_queue_refuses() {
    let bench = Bench::new();
    let mut file = bench.database("/f");
    bench.control.set_limit(10, LimitPolicy::Refuse);
    file.write_at(&[1; 20], 0).unwrap();
    assert_eq!(file.write_at(&[1], 0), Err(Error::Full));
    bench.flush();
    file.write_at(&[1; 6], 0).unwrap();
    assert_eq!(file.write_at(&[1; 5], 0), Err(Error::Full));
    file.write_at(&[1; 4], 0).unwrap();
    file.sync(SyncKind::Normal).unwrap();
    assert_eq!(bench.control.status().bytes, 10);
    bench.control.set_limit(10, LimitPolicy::Block);
    assert_eq!(file.write_at(&[1], 0), Err(Error::Busy));
    file.hint(Hint::Undoing(true));
    file.write_at(&[1; 50], 0).unwrap();
    file.hint(Hint::Undoing(false));
    bench.control.set_limit(10, LimitPolicy::Inline);
    bench.control.set_halt(Halt::Now);
    assert_eq!(file.write_at(&[1], 0), Err(Error::Busy));
    bench.control.set_halt(Halt::Never);
    file.write_at(&[1], 0).unwrap();
    assert!(bench.control.status().bytes <= 10);
    bench.control.set_limit(0, LimitPolicy::Block);
    file.write_at(&[1; 100], 0).unwrap();
    assert!(bench.control.statistics(None).waits >= 2);
}

/// A307: with a writer every write finds room, and the queue stays below the limit.
#[test]
fn a_full_queue_waits_for_the_writer() {
    let bench = Bench::new();
    bench.control.set_limit(4096, LimitPolicy::Block);
    bench.control.start().unwrap();
    let mut file = bench.database("/f");
    for at in 0..2000 {
        file.write_at(&[at as u8; 100], at * 100).unwrap();
    }
    bench.flush();
    assert!(bench.control.statistics(None).peak_bytes <= 4096);
    assert_eq!(bench.content("/f").unwrap().len(), 200_000);
}

/// 6.1: who waits for room is told at once when the writer is to end, though it has an operation
/// in hand, and when an operation fails.
#[test]
fn who_waits_for_room_is_told_what_becomes_of_the_writer() {
    let failed = Error::Io { call: IoCall::Write, errno: 0 };
    for (fails, error) in [(false, Error::Busy), (true, failed)] {
        let bench = Bench::new();
        bench.control.set_limit(10, LimitPolicy::Block);
        let mut file = bench.database("/f");
        file.write_at(&[1; 10], 0).unwrap();
        bench.knobs.stall(OpKind::Write, 60_000);
        bench.knobs.plan(OpKind::Write, u64::from(fails), PlannedFault::default());
        bench.control.start().unwrap();
        let waiting = std::thread::spawn(move || (file.write_at(&[2; 10], 0), file));
        while bench.control.shared().state().hurry == 0 {
            std::thread::yield_now();
        }
        if fails {
            bench.knobs.stall(OpKind::Write, 0);
        } else {
            bench.control.set_halt(Halt::Now);
        }
        let (result, file) = waiting.join().unwrap();
        assert_eq!(result, Err(error));
        assert_eq!(bench.control.status().ops, u64::from(!fails), "the write is in hand");
        bench.knobs.stall(OpKind::Write, 0);
        drop(file);
    }
}

/// 6.4: timeout, halted.
#[test]
fn a_flush_can_end_early() {
    let bench = Bench::new();
    let mut file = bench.database("/f");
    file.write_at(b"x", 0).unwrap();
    bench.control.set_halt(Halt::Now);
    assert_eq!(bench.control.flush(None, Durability::Written, None), Err(Error::State("halted")));
    bench.control.set_halt(Halt::Never);
    bench.knobs.stall(OpKind::Write, 200);
    bench.control.start().unwrap();
    let timeout = Some(Duration::from_millis(10));
    assert_eq!(
        bench.control.flush(None, Durability::Written, timeout),
        Err(Error::State("timeout"))
    );
    bench.flush();
}

/// A919, 6.10: the end of the process works off the queue whatever the halt says, and afterwards
/// every call does its work at once.
#[test]
fn an_exit_drains() {
    for (halt, runs) in [(Halt::Never, false), (Halt::Now, false), (Halt::Never, true)] {
        let bench = Bench::new();
        let mut file = bench.database("/f");
        file.write_at(b"kept", 0).unwrap();
        bench.control.set_delay_ms(60_000);
        bench.control.set_halt(halt);
        if runs {
            bench.control.start().unwrap();
        }
        assert_eq!(bench.control.exit(), ExitReport::default());
        assert_eq!(bench.content("/f").unwrap(), b"kept");
        file.write_at(b"more", 4).unwrap();
        assert_eq!(bench.content("/f").unwrap(), b"keptmore");
        let mut direct = bench.database("/g");
        assert_eq!(bench.control.status().files, 1, "a new file is none of the queue");
        direct.write_at(b"x", 0).unwrap();
        assert_eq!(bench.content("/g").unwrap(), b"x");
        drop((file, direct));
        assert_eq!(bench.control.status().ops, 0);
    }
}

/// 6.10: `discard` loses the queue; a disk that hangs does not keep the process.
#[test]
fn an_exit_is_bounded() {
    let bench = Bench::new();
    let mut file = bench.database("/f");
    file.write_at(b"lost", 0).unwrap();
    bench.control.set_on_exit(OnExit::Discard);
    bench.control.exit();
    assert_eq!(bench.content("/f").unwrap(), b"");
    let bench = Bench::new();
    let mut file = bench.database("/f");
    file.write_at(b"slow", 0).unwrap();
    file.sync(SyncKind::Normal).unwrap();
    bench.knobs.stall(OpKind::Write, 500);
    bench.control.set_exit_timeout_ms(20);
    assert_eq!(bench.control.exit().lost_operations, 2);
}

/// 6.10: the last close of a database waits, if that is wanted.
#[test]
fn the_last_close_can_wait() {
    let bench = Bench::new();
    bench.control.set_on_close(Durability::Durable);
    let mut file = bench.database("/f");
    let other = bench.database("/f");
    file.write_at(b"x", 0).unwrap();
    drop(file);
    assert_eq!(bench.content("/f").unwrap(), b"");
    drop(other);
    assert_eq!(bench.content("/f").unwrap(), b"x");
    assert_eq!(bench.control.status().ops, 0);
}

/// 6.6: nothing waits longer for company than it may.
#[test]
fn lag_is_bounded() {
    let bench = Bench::new();
    bench.control.set_max_lag_ms(50);
    bench.control.start().unwrap();
    let mut file = bench.database("/f");
    file.write_at(b"1", 0).unwrap();
    let began = std::time::Instant::now();
    while bench.control.status().ops > 0 {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
    assert!(began.elapsed() >= Duration::from_millis(40));
    bench.control.set_max_lag_ms(600_000);
    file.write_at(b"2", 0).unwrap();
    bench.flush();
    assert!(began.elapsed() < Duration::from_secs(60));
}
