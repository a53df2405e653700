//! What is done, in which order, and what goes along with what.

use super::super::super::simulate::{Arguments, OpKind, PlannedFault};
use super::*;

/// The changing calls at the disk beneath: kind and offset.
fn changes(bench: &Bench) -> Vec<(OpKind, u64)> {
    let log = bench.knobs.log().into_iter();
    let kinds = [
        OpKind::Write,
        OpKind::Sync,
        OpKind::Truncate,
        OpKind::Delete,
        OpKind::OpenDirectory,
        OpKind::SyncDirectory,
        OpKind::Open,
    ];
    log.filter(|call| kinds.contains(&call.kind))
        .map(|call| match call.arguments {
            Arguments::Range { offset, .. } => (call.kind, offset),
            _ => (call.kind, 0),
        })
        .collect()
}

/// A301: without coalescing, the calls beneath have the order of the calls above.
#[test]
fn everything_is_done_in_the_order_of_the_calls() {
    for coalesce in [Coalesce::Off, Coalesce::Safe] {
        let bench = Bench::new();
        bench.control.set_coalesce(coalesce);
        let mut one = bench.database("/a");
        let mut two = bench.database("/b");
        bench.knobs.set_logging(true);
        one.write_at(b"1", 10).unwrap();
        two.write_at(b"2", 20).unwrap();
        bench.vfs.delete(Path::new("/x"), false).unwrap();
        one.sync(SyncKind::Normal).unwrap();
        let mut journal = bench.journal("/a-journal");
        journal.write_at(b"3", 30).unwrap();
        journal.truncate(5).unwrap();
        bench.vfs.sync_directory(Path::new("/a-journal")).unwrap();
        let queued = ["WRITE", "WRITE", "DELETE", "SYNC", "OPENEX", "WRITE", "TRUNCATE", "SYNCDIR"];
        assert_eq!(bench.names(), queued);
        bench.flush();
        let wanted = [
            (OpKind::Write, 10),
            (OpKind::Write, 20),
            (OpKind::Delete, 0),
            (OpKind::Sync, 0),
            (OpKind::Open, 0),
            (OpKind::Write, 30),
            (OpKind::Truncate, 0),
            (OpKind::SyncDirectory, 0),
        ];
        // Whether a journal is there already is asked before it is queued, and is no change.
        assert_eq!(changes(&bench), wanted);
    }
}

/// A931: a step is one operation, whatever coalescing would join.
#[test]
fn steps_are_single() {
    let bench = Bench::new();
    let mut file = bench.database("/f");
    for at in 0..5 {
        file.write_at(b"x", at).unwrap();
    }
    bench.control.set_halt(Halt::Now);
    for left in (0..5).rev() {
        assert_eq!(bench.control.step(1).unwrap(), 1);
        assert_eq!(bench.control.status().ops, left);
        bench.check_statistics();
    }
    assert_eq!(bench.control.step(7).unwrap(), 0);
}

/// A933, L1 to L3: a database's run is absorbed and sorted; a log's is joined where it
/// continues and stays in order; nothing crosses another operation of the group.
#[test]
fn runs_are_joined_as_far_as_is_legal() {
    let bench = Bench::new();
    let mut database = bench.database("/f");
    let mut other = bench.database("/g");
    let mut log = bench.journal("/f-journal");
    bench.flush();
    bench.knobs.set_logging(true);
    database.write_at(b"bb", 2).unwrap();
    other.write_at(b"other", 0).unwrap();
    database.write_at(b"aa", 0).unwrap();
    database.write_at(b"BB", 2).unwrap();
    database.write_at(b"z", 100).unwrap();
    log.write_at(b"01", 0).unwrap();
    log.write_at(b"23", 2).unwrap();
    log.write_at(b"H", 0).unwrap();
    database.write_at(b"c", 0).unwrap();
    bench.flush();
    let wanted: Vec<(OpKind, u64)> = [0, 100, 0, 0, 0, 0].map(|at| (OpKind::Write, at)).to_vec();
    assert_eq!(changes(&bench), wanted);
    assert_eq!(bench.content("/f").unwrap()[..4], *b"caBB");
    assert_eq!(bench.content("/f-journal").unwrap(), b"H123");
    let statistics = bench.control.statistics(None);
    assert_eq!((statistics.merged, statistics.elided), (2, 1));
    assert_eq!(statistics.write_calls, 6);
}

/// L7: a sync of what is synced is left out only while nobody else can have written.
#[test]
fn a_needless_sync_is_left_out_under_a_lock() {
    let bench = Bench::new();
    let mut file = bench.database("/f");
    file.write_at(b"x", 0).unwrap();
    file.sync(SyncKind::Normal).unwrap();
    file.sync(SyncKind::Normal).unwrap();
    bench.flush();
    assert_eq!(bench.control.statistics(None).syncs_skipped, 0);
    file.lock(LockLevel::Shared).unwrap();
    file.lock(LockLevel::Reserved).unwrap();
    file.sync(SyncKind::Normal).unwrap();
    file.sync(SyncKind::Normal).unwrap();
    bench.flush();
    assert_eq!(bench.control.statistics(None).syncs_skipped, 1);
    file.sync(SyncKind::Full).unwrap();
    bench.flush();
    assert_eq!(bench.control.statistics(None).syncs_skipped, 1);
    file.unlock(LockLevel::None).unwrap();
    file.lock(LockLevel::Shared).unwrap();
    file.lock(LockLevel::Reserved).unwrap();
    file.sync(SyncKind::Full).unwrap();
    bench.flush();
    assert_eq!(bench.control.statistics(None).syncs_skipped, 1);
}

/// A404, A407, A408: the flags of a handle travel in the queue; a missing directory is nobody's
/// error.
#[test]
fn hints_are_queued() {
    let bench = Bench::new();
    let mut file = bench.database("/f");
    file.open_directory(Path::new("/f")).unwrap();
    file.hint(Hint::FullSync(true));
    file.sync(SyncKind::Normal).unwrap();
    assert_eq!(bench.names(), ["OPENDIR", "SETFULLSYNC", "SYNC"]);
    bench.knobs.set_logging(true);
    bench.flush();
    let wanted = [OpKind::OpenDirectory, OpKind::Sync, OpKind::SyncDirectory];
    assert_eq!(changes(&bench), wanted.map(|kind| (kind, 0)));
    assert_eq!(bench.knobs.fullsync_count.load(std::sync::atomic::Ordering::Relaxed), 1);
    // One that cannot be opened is not synced along, and nothing is latched.
    bench.knobs.plan(OpKind::OpenDirectory, 1, PlannedFault::default());
    file.open_directory(Path::new("/f")).unwrap();
    file.sync(SyncKind::Normal).unwrap();
    bench.knobs.clear_log();
    bench.flush();
    assert_eq!(changes(&bench), [(OpKind::OpenDirectory, 0), (OpKind::Sync, 0)]);
    assert_eq!(bench.control.statistics(None).errors, 1);
    assert_eq!(bench.control.error(None), None);
}

/// A401: the numbers and names of the operations, the original's ten and ours.
#[test]
fn operations_have_their_numbers_and_names() {
    let bench = Bench::new();
    let mut failed = bench.database("/e");
    failed.write_at(b"1", 0).unwrap();
    failed.sync(SyncKind::Normal).unwrap();
    bench.knobs.plan(OpKind::Write, 1, PlannedFault::default());
    bench.control.step(1).unwrap();
    let mut file = bench.database("/f");
    file.lock(LockLevel::Shared).unwrap();
    file.lock(LockLevel::Exclusive).unwrap();
    file.write_at(b"1", 0).unwrap();
    file.sync(SyncKind::Normal).unwrap();
    file.truncate(0).unwrap();
    file.open_directory(Path::new("/f")).unwrap();
    file.hint(Hint::FullSync(true));
    bench.vfs.delete(Path::new("/f-journal"), false).unwrap();
    let journal = bench.journal("/f-journal");
    bench.vfs.sync_directory(Path::new("/f-journal")).unwrap();
    file.unlock(LockLevel::None).unwrap();
    let late = Some(std::time::Duration::ZERO);
    assert!(bench.control.flush(None, Durability::Written, late).is_err());
    drop((file, journal));
    let queue = bench.control.queue();
    let mut found: Vec<_> = queue.iter().map(|op| (op.code, op.name)).collect();
    found.sort_unstable();
    found.dedup();
    let wanted = [
        "NOOP",
        "WRITE",
        "SYNC",
        "TRUNCATE",
        "CLOSE",
        "OPENDIR",
        "SETFULLSYNC",
        "DELETE",
        "OPENEX",
        "SYNCDIR",
        "UNLOCK",
        "BARRIER",
    ];
    assert_eq!(found, (0..).zip(wanted).collect::<Vec<_>>());
}

/// A930: a durable flush syncs what was written, closed or not, journals first, and then the
/// directory; a second one finds nothing to do.
#[test]
fn a_durable_flush_syncs_what_was_not() {
    let bench = Bench::new();
    let mut database = bench.database("/f");
    let mut closed = bench.database("/g");
    let mut journal = bench.journal("/f-journal");
    database.write_at(b"d", 0).unwrap();
    closed.write_at(b"g", 0).unwrap();
    journal.write_at(b"j", 0).unwrap();
    drop(closed);
    bench.knobs.set_logging(true);
    bench.control.flush(None, Durability::Durable, None).unwrap();
    let syncs: Vec<_> = bench
        .knobs
        .log()
        .into_iter()
        .filter(|call| matches!(call.kind, OpKind::Sync | OpKind::SyncDirectory))
        .map(|call| (call.kind, call.path.unwrap()))
        .collect();
    let wanted = [
        (OpKind::Sync, path("/f-journal")),
        (OpKind::Sync, path("/f")),
        (OpKind::Sync, path("/g")),
        (OpKind::SyncDirectory, path("/f-journal")),
    ];
    assert_eq!(syncs, wanted);
    bench.knobs.clear_log();
    bench.control.flush(None, Durability::Durable, None).unwrap();
    assert!(bench.knobs.log().is_empty());
}

/// A930: the flush of one file stops behind the last operation of its group.
#[test]
fn a_flush_of_one_group_does_not_wait_for_later_work() {
    let bench = Bench::new();
    let mut one = bench.database("/a");
    let mut two = bench.database("/b");
    one.write_at(b"1", 0).unwrap();
    two.write_at(b"2", 0).unwrap();
    bench.control.flush(Some(Path::new("/a")), Durability::Written, None).unwrap();
    assert_eq!(bench.names(), ["WRITE"]);
    assert_eq!(bench.content("/b").unwrap(), b"");
}

/// The traces of A917 that come from files and from the writer.
#[test]
fn events_are_traced() {
    let bench = Bench::new();
    let lines = Arc::new(parking_lot::Mutex::new(Vec::<String>::new()));
    let sink = Arc::clone(&lines);
    bench.control.set_trace(Some(Arc::new(move |line| sink.lock().push(line.to_owned()))));
    let mut file = bench.database("/f");
    file.write_at(b"x", 1 << 20).unwrap();
    drop(file);
    bench.flush();
    let lines = lines.lock().join("\n");
    for wanted in ["PUSH (WRITE /f 1048576)", "WRITE /f 1 bytes at 1048576", "CLOSE /f"] {
        assert!(lines.contains(wanted), "{lines}");
    }
}
