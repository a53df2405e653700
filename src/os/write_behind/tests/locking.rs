//! Locks between handles, and what other processes see of them.

use std::time::{Duration, Instant};

use super::super::super::simulate::OpKind;
use super::*;
use LockLevel::{Exclusive, None as Unlocked, Pending, Reserved, Shared};

/// A handle of another process: one that does not go through the layer.
fn foreign(bench: &Bench, path: &str) -> Box<dyn File> {
    let request = request(OpenKind::Database, Access::Create);
    bench.memory.open(Some(Path::new(path)), request).unwrap().file
}

fn climb(file: &mut dyn File, level: LockLevel) -> crate::Result<()> {
    for step in [Shared, Reserved, Exclusive] {
        if step <= level {
            file.lock(step)?;
        }
    }
    Ok(())
}

/// A701 to A705, D537: what two handles of one file may hold together.
#[test]
fn the_matrix_of_locks() {
    for lock_files in [true, false] {
        for held in [Unlocked, Shared, Reserved, Exclusive] {
            for wanted in [Shared, Reserved, Exclusive] {
                let bench = Bench::new();
                bench.control.set_lock_files(lock_files).unwrap();
                let (mut one, mut two) = (bench.database("/d/f"), bench.database("/d/f"));
                let mut elsewhere = bench.database("/e/f");
                climb(&mut *one, held).unwrap();
                climb(&mut *elsewhere, Exclusive).unwrap();
                assert_eq!(one.lock_level(), held);
                assert_eq!(two.check_reserved_lock().unwrap(), held >= Reserved);
                let fits = match wanted {
                    Shared => held < Exclusive,
                    Reserved => held < Reserved,
                    _ => held == Unlocked,
                };
                let result = climb(&mut *two, wanted);
                assert_eq!(result, if fits { Ok(()) } else { Err(Error::Busy) });
                // A reader that stands in the way leaves the other one pending.
                if wanted == Exclusive && held == Shared {
                    assert_eq!(two.lock_level(), Pending);
                }
                two.unlock(Unlocked).unwrap();
                assert_eq!(one.lock_level(), held);
                assert_eq!(one.check_reserved_lock().unwrap(), held >= Reserved);
            }
        }
    }
}

/// A706, defects 4 and V5: the real lock lasts until the last queued unlock.
#[test]
fn the_real_lock_lasts_until_the_queue_has_passed() {
    let bench = Bench::new();
    let mut file = bench.database("/f");
    let mut other = foreign(&bench, "/f");
    for byte in [b"1", b"2"] {
        climb(&mut *file, Exclusive).unwrap();
        file.write_at(byte, 0).unwrap();
        file.unlock(Unlocked).unwrap();
        assert_eq!(file.lock_level(), Unlocked);
        assert!(!file.check_reserved_lock().unwrap());
    }
    assert_eq!(bench.names(), ["WRITE", "UNLOCK", "WRITE", "UNLOCK"]);
    for _ in 0..4 {
        assert_eq!(other.lock(Shared), Err(Error::Busy));
        bench.control.step(1).unwrap();
    }
    other.lock(Shared).unwrap();
    assert_eq!(read(&*other, 0, 1), b"2");
    // Taken again before the unlock was reached: it stays.
    other.unlock(Unlocked).unwrap();
    climb(&mut *file, Exclusive).unwrap();
    file.write_at(b"3", 0).unwrap();
    file.unlock(Unlocked).unwrap();
    file.lock(Shared).unwrap();
    bench.flush();
    other.lock(Shared).unwrap();
    other.lock(Reserved).unwrap();
    assert_eq!(other.lock(Exclusive), Err(Error::Busy));
    // A703: a foreign lock counts.
    assert!(file.check_reserved_lock().unwrap());
    assert_eq!(file.lock(Reserved), Err(Error::Busy));
    assert_eq!(file.lock_level(), Shared);
}

/// A706: the next transaction holds no more than it asked for, once the queue has passed the one
/// before: others may read while it prepares to write.
#[test]
fn the_next_transaction_does_not_keep_the_lock_of_the_last() {
    for level in [Shared, Reserved] {
        let bench = Bench::new();
        let mut file = bench.database("/f");
        let mut other = foreign(&bench, "/f");
        climb(&mut *file, Exclusive).unwrap();
        file.write_at(b"1", 0).unwrap();
        file.unlock(Unlocked).unwrap();
        climb(&mut *file, level).unwrap();
        for _ in 0..2 {
            assert_eq!(other.lock(Shared), Err(Error::Busy));
            bench.control.step(1).unwrap();
        }
        other.lock(Shared).unwrap();
        assert_eq!(read(&*other, 0, 1), b"1");
        let expected = if level == Shared { Ok(()) } else { Err(Error::Busy) };
        assert_eq!(other.lock(Reserved), expected);
        other.unlock(Shared).unwrap();
        // It may go on only without the reader.
        climb(&mut *file, Reserved).unwrap();
        assert_eq!(file.lock(Exclusive), Err(Error::Busy));
        other.unlock(Unlocked).unwrap();
        file.lock(Exclusive).unwrap();
        file.write_at(b"2", 0).unwrap();
        file.unlock(Unlocked).unwrap();
        assert_eq!(other.lock(Shared), Err(Error::Busy));
        bench.flush();
        other.lock(Shared).unwrap();
        assert_eq!(read(&*other, 0, 1), b"2");
    }
}

/// V1: what could not be locked is not recorded; a second try does not succeed by itself.
#[test]
fn a_refused_lock_is_not_held() {
    let bench = Bench::new();
    let mut file = bench.database("/f");
    let mut other = foreign(&bench, "/f");
    climb(&mut *other, Exclusive).unwrap();
    for _ in 0..3 {
        assert_eq!(file.lock(Shared), Err(Error::Busy));
        assert_eq!(file.lock_level(), Unlocked);
    }
    other.unlock(Unlocked).unwrap();
    file.lock(Shared).unwrap();
    assert_eq!(climb(&mut *other, Exclusive), Err(Error::Busy));
}

/// A reader's unlock and one with nothing queued make no entry.
#[test]
fn an_unlock_that_protects_nothing_is_done_at_once() {
    let bench = Bench::new();
    let (mut writer, mut reader) = (bench.database("/f"), bench.database("/f"));
    let mut other = foreign(&bench, "/f");
    climb(&mut *writer, Reserved).unwrap();
    writer.unlock(Unlocked).unwrap();
    assert_eq!(bench.control.status().ops, 0);
    climb(&mut *other, Exclusive).unwrap();
    other.unlock(Unlocked).unwrap();
    climb(&mut *writer, Reserved).unwrap();
    writer.write_at(b"x", 0).unwrap();
    reader.lock(Shared).unwrap();
    reader.unlock(Unlocked).unwrap();
    assert_eq!(bench.names(), ["WRITE"]);
}

/// A707: without file locks nobody outside is kept out; the switch needs peace.
#[test]
fn file_locks_can_be_left_out() {
    let bench = Bench::new();
    let file = bench.database("/f");
    assert!(bench.control.set_lock_files(false).is_err());
    drop(file);
    assert!(bench.control.set_lock_files(false).is_err());
    bench.flush();
    bench.control.set_lock_files(false).unwrap();
    let mut file = bench.database("/f");
    let mut other = foreign(&bench, "/f");
    climb(&mut *file, Exclusive).unwrap();
    file.write_at(b"x", 0).unwrap();
    climb(&mut *other, Exclusive).unwrap();
    file.unlock(Unlocked).unwrap();
    assert_eq!(bench.names(), ["WRITE"]);
}

/// The lock of one handle does not go with the base handle of another.
#[test]
fn closing_one_handle_keeps_the_lock_of_another() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.database("/f"), bench.database("/f"));
    let mut other = foreign(&bench, "/f");
    one.lock(Shared).unwrap();
    two.lock(Shared).unwrap();
    drop(one);
    bench.flush();
    assert_eq!(climb(&mut *other, Exclusive), Err(Error::Busy));
    other.unlock(Unlocked).unwrap();
    // A read-only handle that holds the lock gives it to one that can write.
    two.unlock(Unlocked).unwrap();
    let mut reader = bench.open_kind("/f", OpenKind::Database, Access::ReadOnly);
    reader.lock(Shared).unwrap();
    climb(&mut *two, Reserved).unwrap();
    reader.unlock(Unlocked).unwrap();
    climb(&mut *two, Exclusive).unwrap();
    drop(two);
    bench.flush();
    climb(&mut *other, Exclusive).unwrap();
}

/// A935, 6.8: with `maxhold` the next transaction first lets the queue get to the release of the
/// lock, and stays away until another process has its turn; without, it goes on at once.
#[test]
fn a_lock_held_too_long_waits_for_its_turn() {
    const HOLD: Duration = Duration::from_millis(1);
    for gives_way in [false, true] {
        let mut turns = 0;
        // Whoever has the turn must take it in a tenth of a second.
        for _ in 0..if gives_way { 50 } else { 1 } {
            let bench = Bench::new();
            bench.control.set_max_hold_ms(if gives_way { HOLD.as_millis() as u64 } else { 0 });
            let mut file = bench.database("/f");
            let mut other = foreign(&bench, "/f");
            bench.knobs.stall(OpKind::Write, 60_000);
            bench.control.start().unwrap();
            climb(&mut *file, Exclusive).unwrap();
            let held = Instant::now();
            file.write_at(b"x", 0).unwrap();
            file.unlock(Unlocked).unwrap();
            while held.elapsed() <= HOLD {
                std::thread::yield_now();
            }
            let again = std::thread::spawn(move || (climb(&mut *file, Exclusive), file));
            // It waits, with the lock still there: its write is in hand.
            while !again.is_finished() && !bench.names().contains(&"BARRIER") {
                std::thread::yield_now();
            }
            if again.is_finished() == gives_way {
                bench.knobs.stall(OpKind::Write, 0);
                panic!("maxhold {gives_way}: it has waited, or not");
            }
            assert_eq!(other.lock(Shared), Err(Error::Busy));
            bench.knobs.stall(OpKind::Write, 0);
            while !again.is_finished() && climb(&mut *other, Exclusive).is_err() {
                other.unlock(Unlocked).unwrap();
            }
            let has_turn = other.lock_level() == Exclusive;
            let (result, file) = again.join().unwrap();
            if gives_way && has_turn {
                assert_eq!(result, Err(Error::Busy), "two at once");
                assert_eq!(read(&*other, 0, 1), b"x");
                turns += 1;
            } else {
                result.unwrap();
            }
            drop(file);
            if turns > 0 {
                break;
            }
        }
        assert_eq!(turns, usize::from(gives_way), "maxhold: {gives_way}");
    }
}

/// A935, 6.8: with `maxhold` a lock that lasted too long is given up for a while.
#[test]
fn the_real_lock_gives_way() {
    let bench = Bench::new();
    bench.control.set_max_hold_ms(5);
    bench.control.start().unwrap();
    let mut file = bench.database("/f");
    let mut other = foreign(&bench, "/f");
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_done = Arc::clone(&done);
    let writer = std::thread::spawn(move || {
        while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
            while climb(&mut *file, Exclusive).is_err() {
                file.unlock(Unlocked).unwrap();
            }
            file.write_at(b"x", 0).unwrap();
            file.unlock(Unlocked).unwrap();
        }
    });
    let began = Instant::now();
    while climb(&mut *other, Exclusive).is_err() {
        other.unlock(Unlocked).unwrap();
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
    other.unlock(Unlocked).unwrap();
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}
