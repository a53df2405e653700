use std::sync::atomic::AtomicI32;

use super::super::Unsynced;
use super::*;
use crate::error::{Error, IoCall};
use crate::format::LockPage;
use crate::os::{Access, MemoryVfs, OpenKind};

const CREATE: OpenRequest = OpenRequest {
    kind: OpenKind::Database,
    access: Access::Create,
    exclusive: false,
    delete_on_close: false,
    lock_offset: LockPage::STANDARD_OFFSET,
};

fn disk() -> (FaultVfs, Arc<FaultKnobs>) {
    let knobs = Arc::new(FaultKnobs::new());
    (FaultVfs::new(Arc::new(MemoryVfs::new()), Arc::clone(&knobs)), knobs)
}

fn get(knob: &AtomicI32) -> i32 {
    knob.load(Relaxed)
}

/// One call of each kind, with its result. The row in which `run` makes them.
const ROW: [OpKind; 15] = [
    OpKind::Open,
    OpKind::Lock,
    OpKind::CheckReservedLock,
    OpKind::Write,
    OpKind::Read,
    OpKind::Truncate,
    OpKind::Size,
    OpKind::Sync,
    OpKind::OpenDirectory,
    OpKind::Unlock,
    OpKind::Close,
    OpKind::Exists,
    OpKind::SyncDirectory,
    OpKind::Delete,
    OpKind::SyncDirectory,
];

/// Makes all calls of [`ROW`] whatever they report; the kinds and errors of those that failed.
fn run(vfs: &FaultVfs) -> Vec<(OpKind, Error)> {
    let path = Path::new("/t.db");
    let mut failed = Vec::new();
    let mut note = |kind: OpKind, result: Result<()>| {
        failed.extend(result.err().map(|error| (kind, error)));
    };
    match vfs.open(Some(path), CREATE) {
        Err(error) => note(OpKind::Open, Err(error)),
        Ok(Opened { mut file, .. }) => {
            note(OpKind::Lock, file.lock(LockLevel::Shared));
            note(OpKind::CheckReservedLock, file.check_reserved_lock().map(drop));
            note(OpKind::Write, file.write_at(b"01234567", 0));
            note(OpKind::Read, file.read_at(&mut [0; 4], 0).map(drop));
            note(OpKind::Truncate, file.truncate(6));
            note(OpKind::Size, file.size().map(drop));
            note(OpKind::Sync, file.sync(SyncKind::Full));
            note(OpKind::OpenDirectory, file.open_directory(path));
            note(OpKind::Unlock, file.unlock(LockLevel::None));
        }
    }
    note(OpKind::Exists, vfs.exists(path).map(drop));
    note(OpKind::SyncDirectory, vfs.sync_directory(path));
    note(OpKind::Delete, vfs.delete(path, true));
    failed
}

#[test]
fn a_disk_without_faults_lets_everything_through() {
    let (vfs, knobs) = disk();
    knobs.set_logging(true);
    assert_eq!(run(&vfs), []);
    let logged: Vec<OpKind> = knobs.log().iter().map(|call| call.kind).collect();
    assert_eq!(logged, ROW);
    assert_eq!(knobs.calls(OpKind::Any), ROW.len() as u64);
    assert_eq!(knobs.calls(OpKind::SyncDirectory), 2);
    assert_eq!((get(&knobs.sync_count), get(&knobs.fullsync_count)), (3, 1));
    let write = knobs.log()[3].clone();
    assert_eq!(write.path.as_deref(), Some(Path::new("/t.db")));
    assert_eq!(write.arguments, Arguments::Range { offset: 0, length: 8 });
    assert_eq!(write.thread, std::thread::current().id());
    knobs.clear_log();
    assert_eq!(knobs.log(), []);
}

// D538: `sqlite_io_error_pending` N fails the N-th counted call, once, and only counted calls.
#[test]
fn io_errors_count_down_over_the_calls_that_count() {
    let counted: Vec<OpKind> = [
        OpKind::Write,
        OpKind::Read,
        OpKind::Truncate,
        OpKind::Size,
        OpKind::Sync,
        OpKind::SyncDirectory,
        OpKind::Delete, // Its directory sync.
    ]
    .into();
    for n in 1..=counted.len() + 2 {
        for persist in [false, true] {
            let (vfs, knobs) = disk();
            knobs.io_error_pending.store(n as i32, Relaxed);
            knobs.io_error_persist.store(persist.into(), Relaxed);
            let failed: Vec<OpKind> = run(&vfs).into_iter().map(|(kind, _)| kind).collect();
            let expected = match counted.get(n - 1..) {
                None | Some([]) => &[],
                Some(rest) if persist => rest,
                Some(rest) => &rest[..1],
            };
            assert_eq!(failed, expected, "{n} {persist}");
            assert_eq!(get(&knobs.io_error_hit), (!expected.is_empty()).into());
            assert_eq!(get(&knobs.io_error_hardhit), expected.len() as i32);
            let left = n.saturating_sub(counted.len()) as i32;
            assert_eq!(get(&knobs.io_error_pending), left);
        }
    }
}

#[test]
fn suspended_io_errors_neither_count_nor_strike() {
    let (vfs, knobs) = disk();
    knobs.io_error_pending.store(1, Relaxed);
    let (outer, inner) = (knobs.suspend(), knobs.suspend());
    assert_eq!(run(&vfs), []);
    drop(outer);
    assert_eq!(run(&vfs), []);
    drop(inner);
    assert_eq!(get(&knobs.io_error_pending), 1);
    assert_eq!(run(&vfs), [(OpKind::Write, Error::Io { call: IoCall::Write, errno: 0 })]);
}

// D538: counts at each write and each seek to a place other than 0, and stays at 1.
#[test]
fn a_full_disk_stays_full() {
    let (vfs, knobs) = disk();
    let mut file = vfs.open(None, CREATE).unwrap().file;
    knobs.diskfull_pending.store(5, Relaxed);
    file.write_at(b"x", 0).unwrap();
    file.write_at(b"x", 1).unwrap();
    knobs.seek(0).unwrap();
    knobs.seek(9).unwrap();
    assert_eq!((get(&knobs.diskfull_pending), get(&knobs.diskfull)), (1, 0));
    for offset in [0, 1] {
        assert_eq!(file.write_at(b"x", offset), Err(Error::Full));
        assert_eq!((get(&knobs.diskfull_pending), get(&knobs.diskfull)), (1, 1));
    }
    assert_eq!(knobs.seek(9), Err(Error::Full));
    assert_eq!(get(&knobs.io_error_hit), 1);
    file.read_at(&mut [0; 1], 1).unwrap();
    knobs.diskfull_pending.store(0, Relaxed);
    file.write_at(b"x", 1).unwrap();
}

#[test]
fn open_and_temporary_files_are_counted() {
    static KNOBS: FaultKnobs = FaultKnobs::new();
    let vfs = FaultVfs::new(Arc::new(MemoryVfs::new()), &KNOBS);
    let named = vfs.open(Some(Path::new("/t")), CREATE).unwrap();
    let unnamed = vfs.open(None, CREATE).unwrap();
    let missing = OpenRequest { access: Access::ReadOnly, ..CREATE };
    assert!(vfs.open(Some(Path::new("/missing")), missing).is_err());
    assert_eq!((get(&KNOBS.open_file_count), get(&KNOBS.opentemp_count)), (2, 1));
    drop((named, unnamed));
    assert_eq!((get(&KNOBS.open_file_count), get(&KNOBS.opentemp_count)), (0, 1));
}

#[test]
fn a_plan_fails_the_nth_call_of_its_kind() {
    for kind in OpKind::ALL {
        assert_eq!(OpKind::from_name(kind.name()), Some(kind));
        for (n, persist) in [(1, false), (2, false), (1, true), (2, true)] {
            let (vfs, knobs) = disk();
            let fault = PlannedFault { error: Some(Error::NoMemory), persist, torn: false };
            knobs.plan(kind, n, fault);
            // Two rounds: in each, the failing calls are those of the kind.
            let mut struck = Vec::new();
            for _ in 0..2 {
                knobs.set_logging(true);
                run(&vfs);
            }
            struck.extend(knobs.log().iter().filter(|call| call.fault.is_some()).cloned());
            assert!(!struck.is_empty(), "{kind:?} {n}");
            assert!(persist || struck.len() == 1);
            assert!(kind == OpKind::Any || struck.iter().all(|call| call.kind == kind));
            let index = knobs.log().iter().position(|call| call.fault.is_some()).unwrap();
            let before = knobs.log()[..index].to_vec();
            let of_kind = |call: &&LoggedCall| kind == OpKind::Any || call.kind == kind;
            assert_eq!(before.iter().filter(of_kind).count() as u64, n - 1);
            knobs.clear_plans();
            assert_eq!(run(&vfs), []);
        }
    }
}

// The sweep that engine tests make: fail call n for every n, until the run is clean.
#[test]
fn a_sweep_over_all_calls_ends() {
    let mut n = 0;
    loop {
        n += 1;
        let (vfs, knobs) = disk();
        knobs.plan(OpKind::Any, n, PlannedFault::default());
        let failed = run(&vfs);
        if knobs.calls(OpKind::Any) < n {
            break;
        }
        let kind = ROW[n as usize - 1];
        let reported = if n as usize == ROW.len() { OpKind::Delete } else { kind };
        match kind {
            OpKind::Close | OpKind::OpenDirectory => assert_eq!(failed, []),
            _ => assert_eq!(failed, [(reported, failed[0].1)]),
        }
        assert_eq!(get(&knobs.open_file_count), 0);
    }
    assert_eq!(n as usize, ROW.len() + 1);
}

#[test]
fn a_torn_write_leaves_its_first_half() {
    let torn = PlannedFault { error: Some(Error::Full), persist: false, torn: true };
    let (vfs, knobs) = disk();
    let mut file = vfs.open(None, CREATE).unwrap().file;
    let mut buffer = [0; 8];
    knobs.plan(OpKind::Write, 1, torn);
    assert_eq!(file.write_at(b"abcdefg", 0), Err(Error::Full));
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 3);
    assert_eq!(&buffer[..3], b"abc");

    knobs.plan(OpKind::Write, 1, torn);
    let pieces = [b"AB".as_slice(), b"", b"CD", b"EF", b"GH"].map(IoSlice::new);
    assert_eq!(file.write_vectored_at(&pieces, 1), Err(Error::Full));
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 5);
    assert_eq!(&buffer[..5], b"aABCD");
    file.write_vectored_at(&pieces, 0).unwrap();
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 8);
    assert_eq!(&buffer, b"ABCDEFGH");
}

#[test]
fn stalled_calls_take_their_time() {
    let (vfs, knobs) = disk();
    knobs.stall(OpKind::Exists, 20);
    let start = std::time::Instant::now();
    vfs.exists(Path::new("/t")).unwrap();
    assert!(start.elapsed() >= std::time::Duration::from_millis(20));
    knobs.clear_plans();
}

/// A delay that is taken back ends for the call in hand as well.
#[test]
fn a_stall_that_is_taken_back_lets_go() {
    let (vfs, knobs) = disk();
    knobs.stall(OpKind::Exists, 60_000);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| vfs.exists(Path::new("/t")));
        while knobs.calls(OpKind::Exists) == 0 {
            std::thread::yield_now();
        }
        knobs.stall(OpKind::Exists, 0);
        assert_eq!(call.join().unwrap(), Ok(false));
    });
}

const DEATH_VARIABLE: &str = "TCLBTREE_TEST_DEATH";

// D152: what was called before is there, the deadly call and all behind it are not. The process
// that dies is this test program again.
#[test]
fn the_process_ends_in_place_of_the_deadly_call() {
    if let Some(path) = std::env::var_os(DEATH_VARIABLE) {
        let (path, knobs) = (PathBuf::from(path), Arc::new(FaultKnobs::new()));
        let vfs = FaultVfs::new(Arc::new(crate::os::UnixVfs::new()), Arc::clone(&knobs));
        let mut file = vfs.open(Some(&path), CREATE).unwrap().file;
        let nth = std::fs::read_to_string(path.with_extension("nth")).unwrap().parse().unwrap();
        knobs.end_process_at(nth, Unsynced::Keep);
        for offset in 0..4 {
            file.write_at(b"x", offset).unwrap();
        }
        return;
    }
    let path = std::env::temp_dir().join(format!("tclbtree-death-{}", std::process::id()));
    for nth in 0..7 {
        let _ = std::fs::remove_file(&path);
        std::fs::write(path.with_extension("nth"), nth.to_string()).unwrap();
        let name = "os::simulate::fault::tests::the_process_ends_in_place_of_the_deadly_call";
        let output = std::process::Command::new("/proc/self/exe")
            .args([name, "--exact"])
            .env(DEATH_VARIABLE, &path)
            .output()
            .unwrap();
        // Call 5 is the closing of the file.
        let survives = nth == 0 || nth > 5;
        assert_eq!(output.status.success(), survives, "{nth}");
        let written = if nth == 0 { 4 } else { (nth - 1).min(4) };
        assert_eq!(std::fs::read(&path).unwrap().len(), written);
    }
    std::fs::remove_file(path.with_extension("nth")).unwrap();
    std::fs::remove_file(path).unwrap();
}
