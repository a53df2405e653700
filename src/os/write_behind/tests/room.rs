//! Nobody who waits for room hangs, whatever becomes of the writer meanwhile (A307, A308, 6.1);
//! and a forked child of a process with a queue ends by itself (6.10).

use std::sync::mpsc;
use std::time::Duration;

use super::super::super::simulate::{OpKind, PlannedFault};
use super::super::super::unix::{in_child, in_unannounced_child, is_run_alone};
use super::errors::Panicking;
use super::*;

/// More than anything here takes; only a hanging thread reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `body` in another thread, and fails if that hangs.
pub(super) fn in_time<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(body()));
    receiver.recv_timeout(PATIENCE).expect("it hangs, or has failed")
}

/// A writer that comes and goes: every write is done, or busy and done again.
#[test]
fn a_pusher_outlives_a_writer_that_comes_and_goes() {
    let content = in_time(|| {
        let bench = Bench::new();
        bench.control.set_limit(64, LimitPolicy::Block);
        let mut file = bench.database("/f");
        let control = bench.control.clone();
        let (stop, stopped) = mpsc::channel::<()>();
        let switcher = std::thread::spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                for halt in [Halt::Never, Halt::Now, Halt::Idle] {
                    control.set_halt(halt);
                    control.start().unwrap();
                }
            }
            control.set_halt(Halt::Never);
        });
        for at in 0..5000 {
            while let Err(error) = file.write_at(&[at as u8; 16], 16 * at) {
                assert_eq!(error, Error::Busy);
            }
        }
        drop(stop);
        switcher.join().unwrap();
        assert!(bench.control.statistics(None).peak_bytes <= 64);
        bench.flush();
        bench.content("/f").unwrap()
    });
    assert!(content.chunks(16).enumerate().all(|(at, block)| block == [at as u8; 16]));
    assert_eq!(content.len(), 80_000);
}

/// An error while three wait for room: all of them hear it.
#[test]
fn a_latch_wakes_everybody() {
    let results = in_time(|| {
        let bench = Bench::new();
        bench.control.set_limit(16, LimitPolicy::Block);
        let mut first = bench.database("/f");
        first.write_at(&[0; 16], 0).unwrap();
        bench.knobs.stall(OpKind::Write, 60_000);
        bench.knobs.plan(OpKind::Write, 1, PlannedFault::default());
        bench.control.start().unwrap();
        let pushers: Vec<_> = (1..4)
            .map(|number| {
                let mut file = bench.database("/f");
                std::thread::spawn(move || (file.write_at(&[number; 16], 16), file))
            })
            .collect();
        while bench.control.shared().state().hurry < 3 {
            std::thread::yield_now();
        }
        bench.knobs.stall(OpKind::Write, 0);
        let ended = pushers.into_iter().map(|pusher| pusher.join().unwrap());
        // Closing the last handle would end the latch.
        let (results, files): (Vec<_>, Vec<_>) = ended.unzip();
        drop((first, files));
        results
    });
    assert_eq!(results, [Err(Error::Io { call: IoCall::Write, errno: 0 }); 3]);
}

/// A306: what closing pushes finds room that was there before, however many close; growing is
/// what could fail.
#[test]
fn closing_needs_no_more_room() {
    for count in 1..200 {
        let bench = Bench::new();
        let mut files: Vec<_> = (0..count).map(|_| bench.database("/f")).collect();
        for file in &mut files {
            file.lock(LockLevel::Shared).unwrap();
        }
        files[0].lock(LockLevel::Reserved).unwrap();
        files[0].write_at(b"x", 0).unwrap();
        let room = bench.control.shared().state().queue.entries().capacity();
        files[0].unlock(LockLevel::None).unwrap();
        drop(files);
        let state = bench.control.shared().state();
        assert_eq!(state.queue.entries().capacity(), room, "{count} handles");
        assert_eq!(state.queue.live(), count + 2);
    }
}

/// The writer dies of a panic while somebody waits.
#[test]
fn a_dying_writer_wakes_everybody() {
    let results = in_time(|| {
        let control = WriteBehind::new();
        control.set_limit(16, LimitPolicy::Block);
        let vfs = WriteBehindVfs::new(Arc::new(Panicking(MemoryVfs::new(), None)), &control);
        let open = || {
            let request = request(OpenKind::Database, Access::Create);
            vfs.open(Some(Path::new("/f")), request).unwrap().file
        };
        control.start().unwrap();
        let pushers: Vec<_> = (0..3)
            .map(|number| {
                let mut file = open();
                std::thread::spawn(move || {
                    let bytes: &[u8] = if number == 1 { b"panic" } else { b"other" };
                    (0..1000).try_for_each(|at| file.write_at(bytes, 8 * at))
                })
            })
            .collect();
        let results: Vec<_> = pushers.into_iter().map(|pusher| pusher.join().unwrap()).collect();
        control.set_halt(Halt::Idle);
        control.wait().unwrap();
        results
    });
    assert!(matches!(results[1], Err(Error::Internal(_) | Error::Busy)), "{results:?}");
}

/// 6.10: in a forked child every call on the queue and its files is refused at once, a disk of
/// its own works, and the child ends like any process; the parent goes on.
#[test]
fn a_forked_child_ends_by_itself() {
    if is_run_alone("os::write_behind::tests::room::a_forked_child_ends_by_itself") {
        return;
    }
    // With a writer at work only a `fork` that is announced leaves the child a heap.
    for (runs, is_announced) in [(false, true), (false, false), (true, true)] {
        let bench = Bench::new();
        let mut file = bench.database("/f");
        file.write_at(b"parent", 0).unwrap();
        file.lock(LockLevel::Shared).unwrap();
        if runs {
            bench.knobs.stall(OpKind::Write, 50);
            bench.control.start().unwrap();
        }
        let child = || {
            let mut own = bench.database("/own");
            let is_refused = |result: crate::Result<()>| matches!(result, Err(Error::Misuse(_)));
            let checks = [
                is_refused(file.write_at(b"child", 0)),
                is_refused(file.sync(SyncKind::Normal)),
                is_refused(file.read_at(&mut [0; 4], 0).map(drop)),
                is_refused(file.lock(LockLevel::Reserved)),
                is_refused(file.unlock(LockLevel::None)),
                is_refused(file.check_process()),
                file.identity().is_none() && file.descriptor().is_none(),
                is_refused(bench.control.start()),
                is_refused(bench.control.wait()),
                is_refused(bench.control.flush(None, Durability::Written, None)),
                bench.control.exit() == ExitReport::default(),
                !bench.control.status().running,
                own.write_at(b"own", 0).is_ok() && bench.content("/own").unwrap() == b"own",
            ];
            drop(file);
            i32::from(!checks.iter().all(|&is_fine| is_fine))
        };
        let code = if is_announced { in_child(child) } else { in_unannounced_child(child) };
        assert_eq!(code, Some(0), "with a writer: {runs}, announced: {is_announced}");
        bench.flush();
        assert_eq!(bench.content("/f").unwrap(), b"parent");
    }
}
