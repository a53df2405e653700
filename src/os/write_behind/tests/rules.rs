//! One test for each rule of `rules.rs` that the executor keeps; those of what is left out (L5,
//! L10, L11) are in `forego.rs`, that of needless syncs (L7) in `order.rs`.

use super::super::super::simulate::{Arguments, OpKind, PlannedFault};
use super::*;

/// A database, its journal, and what was done at the disk beneath, in words.
struct Unit {
    bench: Bench,
    database: Box<dyn File>,
    journal: Box<dyn File>,
}

impl Unit {
    /// Everything that may be joined or left out is.
    fn new() -> Unit {
        let bench = Bench::new();
        bench.control.set_coalesce(Coalesce::Full);
        let (database, journal) = (bench.database("/d"), bench.journal("/d-journal"));
        bench.flush();
        bench.knobs.set_logging(true);
        Unit { bench, database, journal }
    }

    fn only(rule: Rule) -> Unit {
        let unit = Unit::new();
        unit.bench.control.follow_only(Some(rule));
        unit
    }

    fn data(&mut self, bytes: &[u8], offset: u64) {
        self.database.write_at(bytes, offset).unwrap();
    }

    fn log(&mut self, bytes: &[u8], offset: u64) {
        self.journal.write_at(bytes, offset).unwrap();
    }

    fn sync_data(&mut self) {
        self.database.sync(SyncKind::Normal).unwrap();
    }

    fn sync_log(&mut self) {
        self.journal.sync(SyncKind::Normal).unwrap();
    }

    /// Works off the queue. Returns the calls beneath: `D` or `J`, and offset and end of a write,
    /// the new size of a truncation, or a word.
    fn done(&self) -> Vec<String> {
        let _ = self.bench.control.flush(None, Durability::Written, None);
        let calls = self.bench.knobs.log().into_iter().filter_map(|call| {
            let is_log = call.path?.to_string_lossy().ends_with("-journal");
            let what = match (call.kind, call.arguments) {
                (OpKind::Write, Arguments::Range { offset, length }) => {
                    format!("{offset}..{}", offset + length)
                }
                (OpKind::Truncate, Arguments::Size(size)) => format!("={size}"),
                (OpKind::Sync, _) => " sync".to_owned(),
                (OpKind::Delete, _) => " delete".to_owned(),
                (OpKind::Open, _) => " open".to_owned(),
                _ => return None,
            };
            Some(format!("{}{what}", if is_log { "J" } else { "D" }))
        });
        calls.collect()
    }
}

/// L1: writes that continue one another are one call, of a log as of a database.
#[test]
fn l1_contiguous_writes_are_joined() {
    let mut unit = Unit::only(Rule::Join);
    (0..4).for_each(|at| unit.log(&[b'j'; 8], 8 * at));
    (0..4).for_each(|at| unit.data(&[b'd'; 8], 8 * at));
    unit.data(b"gap", 100);
    unit.data(b"back", 0);
    assert_eq!(unit.done(), ["J0..32", "D0..32", "D100..103", "D0..4"]);
    let statistics = unit.bench.control.statistics(None);
    assert_eq!((statistics.merged, statistics.elided), (6, 0));
    assert_eq!(unit.bench.content("/d").unwrap()[..8], *b"backdddd");
}

/// L2: bytes of a database that are overwritten in the same run are written once.
#[test]
fn l2_overwritten_bytes_of_a_database_are_absorbed() {
    let mut unit = Unit::only(Rule::Sort);
    unit.bench.control.reset_statistics(None);
    for byte in b"abc" {
        unit.data(&[*byte; 8], 16);
    }
    unit.data(b"zz", 20);
    assert_eq!(unit.done(), ["D16..24"]);
    let statistics = unit.bench.control.statistics(None);
    assert_eq!((statistics.elided, statistics.bytes_written), (2, 8));
    assert_eq!(unit.bench.content("/d").unwrap()[16..], *b"cccczzcc");
}

/// L3: a run on a database is sorted.
#[test]
fn l3_a_run_on_a_database_is_sorted() {
    let mut unit = Unit::only(Rule::Sort);
    for at in [5, 1, 3, 0, 4] {
        unit.data(&[at as u8; 8], 8 * at);
    }
    assert_eq!(unit.done(), ["D0..16", "D24..48"]);
}

/// L4: a log is neither sorted nor absorbed.
#[test]
fn l4_a_log_keeps_its_order_and_all_its_bytes() {
    let mut unit = Unit::new();
    unit.log(&[0; 28], 0);
    unit.log(&[1; 28], 0);
    unit.log(&[2; 40], 552);
    unit.log(&[2; 40], 512);
    unit.log(&[3; 12], 0);
    assert_eq!(unit.done(), ["J0..28", "J0..28", "J552..592", "J512..552", "J0..12"]);
    assert_eq!(unit.bench.control.statistics(None).elided, 0);
}

/// L6: what was committed is written, though the next transaction writes it again.
#[test]
fn l6_nothing_is_absorbed_across_a_commit_point() {
    let ends: [fn(&mut Unit); 3] = [
        |unit| unit.bench.vfs.delete(Path::new("/d-journal"), false).unwrap(),
        |unit| unit.journal.truncate(0).unwrap(),
        |unit| unit.log(&[0; 28], 0),
    ];
    for (end, word) in ends.into_iter().zip(["J delete", "J=0", "J0..28"]) {
        let mut unit = Unit::new();
        unit.data(b"first", 0);
        end(&mut unit);
        unit.data(b"other", 0);
        assert_eq!(unit.done(), ["D0..5", word, "D0..5"]);
    }
}

/// L8: no sync is dropped, nor one made of those of two transactions.
#[test]
fn l8_every_sync_is_done() {
    let mut unit = Unit::new();
    for _ in 0..2 {
        unit.log(b"records", 512);
        unit.sync_log();
        unit.log(b"header", 0);
        unit.sync_log();
        unit.data(b"page", 0);
        unit.sync_data();
        unit.journal.truncate(0).unwrap();
        unit.sync_log();
    }
    let transaction =
        ["J512..519", "J sync", "J0..6", "J sync", "D0..4", "D sync", "J=0", "J sync"];
    assert_eq!(unit.done(), transaction.repeat(2));
    assert_eq!(unit.bench.control.statistics(None).syncs_skipped, 0);
}

/// L9: a database's writes stay between the sync of the journal and the commit point.
#[test]
fn l9_databases_and_logs_do_not_pass_one_another() {
    let mut unit = Unit::new();
    unit.log(b"1", 0);
    unit.data(b"1", 0);
    unit.log(b"2", 1);
    unit.sync_log();
    unit.data(b"2", 1);
    unit.log(b"3", 2);
    unit.sync_data();
    unit.bench.vfs.delete(Path::new("/d-journal"), false).unwrap();
    unit.data(b"3", 2);
    let wanted =
        ["J0..1", "D0..1", "J1..2", "J sync", "D1..2", "J2..3", "D sync", "J delete", "D2..3"];
    assert_eq!(unit.done(), wanted);
}

/// L12: a journal that is deleted and made again is deleted and made again.
#[test]
fn l12_a_deletion_is_not_cancelled() {
    let Unit { bench, database, journal } = Unit::new();
    drop(journal);
    bench.vfs.delete(Path::new("/d-journal"), false).unwrap();
    let journal = bench.journal("/d-journal");
    let mut unit = Unit { bench, database, journal };
    unit.log(b"new", 0);
    unit.data(b"page", 0);
    assert_eq!(unit.done(), ["J delete", "J open", "J0..3", "D0..4"]);
}

/// L13: a write does not pass a truncation, cut off or not.
#[test]
fn l13_nothing_passes_a_truncation() {
    let mut unit = Unit::new();
    unit.data(&[1; 16], 0);
    unit.database.truncate(8).unwrap();
    unit.data(&[2; 4], 12);
    unit.data(&[3; 4], 0);
    unit.database.truncate(20).unwrap();
    assert_eq!(unit.done(), ["D0..16", "D=8", "D0..4", "D12..16", "D=20"]);
    let wanted = [3, 3, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0];
    assert_eq!(unit.bench.content("/d").unwrap(), wanted);
}

/// L14: one queue for all: neither the databases of a unit nor strangers pass one another; but
/// strangers between the writes of a run may wait for its end (1.3).
#[test]
fn l14_one_queue_serves_all_databases() {
    let mut unit = Unit::new();
    let mut stranger = unit.bench.journal("/s-journal");
    let mut partner = unit.bench.database("/p");
    let name = Path::new("/m-mj");
    unit.database.hint(Hint::JoinSuperJournal(name));
    partner.hint(Hint::JoinSuperJournal(name));
    unit.bench.flush();
    unit.bench.knobs.clear_log();
    unit.data(b"1", 0);
    partner.write_at(b"22", 0).unwrap();
    unit.data(b"1", 1);
    stranger.write_at(b"333", 0).unwrap();
    unit.data(b"1", 2);
    assert_eq!(unit.done(), ["D0..1", "D0..2", "D1..3", "J0..3"]);
}

/// L15: what follows a run waits for all of it: if a part fails, nothing of the unit comes after.
#[test]
fn l15_a_run_is_over_before_the_next_begins() {
    let mut unit = Unit::new();
    (0..3).for_each(|at| unit.data(&[1; 8], 100 * at));
    unit.sync_data();
    unit.bench.vfs.delete(Path::new("/d-journal"), false).unwrap();
    unit.bench.knobs.plan(OpKind::Write, 2, PlannedFault::default());
    assert_eq!(unit.done(), ["D0..8", "D100..108"]);
    assert!(unit.bench.control.error(Some(Path::new("/d"))).is_some());
}
