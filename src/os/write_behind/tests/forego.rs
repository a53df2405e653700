//! `coalesce full`: what is left out, and what must not be (L5, L10, L11).

use super::super::super::simulate::OpKind;
use super::*;

const PAGE: usize = 16;

fn full() -> Bench {
    let bench = Bench::new();
    bench.control.set_coalesce(Coalesce::Full);
    bench
}

fn page(byte: u8) -> [u8; PAGE] {
    [byte; PAGE]
}

/// Queues a page, what `between` does, and the page again. Returns how many writes of the
/// database were left out.
fn elided_across(between: impl FnOnce(&Bench, &mut dyn File, &mut dyn File)) -> u64 {
    let bench = full();
    let mut database = bench.database("/f");
    let mut journal = bench.journal("/f-journal");
    bench.flush();
    bench.control.reset_statistics(None);
    database.write_at(&page(1), 0).unwrap();
    journal.write_at(&[0xd9; 40], 512).unwrap();
    between(&bench, &mut *database, &mut *journal);
    database.write_at(&page(2), 0).unwrap();
    bench.flush();
    assert_eq!(bench.content("/f").unwrap()[..PAGE], page(2));
    let elided = bench.control.statistics(None).elided;
    assert!(elided <= 1);
    elided
}

/// L5: journal writes and syncs may stand between; nothing else may, above all no commit point
/// (L6).
#[test]
fn a_page_written_again_in_the_transaction_is_written_once() {
    assert_eq!(elided_across(|_, _, _| ()), 1);
    assert_eq!(elided_across(|_, _, journal| journal.sync(SyncKind::Normal).unwrap()), 1);
    let header = [0xd9; 12];
    assert_eq!(elided_across(|_, _, journal| journal.write_at(&header, 0).unwrap()), 1);
    let zeros = [0; 28];
    assert_eq!(elided_across(|_, _, journal| journal.write_at(&zeros, 0).unwrap()), 0);
    assert_eq!(elided_across(|_, _, journal| journal.truncate(0).unwrap()), 0);
    assert_eq!(elided_across(|_, database, _| database.sync(SyncKind::Normal).unwrap()), 0);
    assert_eq!(elided_across(|_, database, _| database.truncate(64).unwrap()), 0);
    assert_eq!(elided_across(|bench, _, _| bench.vfs.delete(&path("/g"), false).unwrap()), 1);
    let delete = |bench: &Bench, _: &mut dyn File, _: &mut dyn File| {
        bench.vfs.delete(&path("/f-journal"), false).unwrap();
    };
    assert_eq!(elided_across(delete), 0);
    let sync = |bench: &Bench, _: &mut dyn File, _: &mut dyn File| {
        bench.vfs.sync_directory(&path("/f")).unwrap();
    };
    assert_eq!(elided_across(sync), 0);
    let unlock = |_: &Bench, database: &mut dyn File, _: &mut dyn File| {
        for level in [LockLevel::Shared, LockLevel::Reserved, LockLevel::Exclusive] {
            database.lock(level).unwrap();
        }
        database.unlock(LockLevel::None).unwrap();
    };
    assert_eq!(elided_across(unlock), 0);
    let barrier = |bench: &Bench, _: &mut dyn File, _: &mut dyn File| {
        bench.control.shared().state().push_barrier(None, false).unwrap();
    };
    assert_eq!(elided_across(barrier), 0);
}

/// L5: a page that is covered in part only is written.
#[test]
fn a_page_covered_in_part_is_written() {
    let bench = full();
    let mut database = bench.database("/f");
    let mut journal = bench.journal("/f-journal");
    database.write_at(&page(1), 0).unwrap();
    journal.write_at(&[0xd9; 40], 512).unwrap();
    database.write_at(&page(2)[1..], 0).unwrap();
    bench.flush();
    assert_eq!(bench.content("/f").unwrap()[PAGE - 2..], [2, 1]);
    assert_eq!(bench.control.statistics(None).elided, 0);
}

/// A journal with two records, closed and deleted; `between` comes before the closing.
fn journal_calls(between: impl FnOnce(&Bench, &mut dyn File)) -> (u64, u64) {
    let bench = full();
    let mut database = bench.database("/f");
    let mut other = bench.database("/other");
    let before = bench.knobs.calls(OpKind::Open);
    let mut journal = bench.journal("/f-journal");
    journal.write_at(&[1; 40], 0).unwrap();
    journal.write_at(&[1; 40], 512).unwrap();
    journal.sync(SyncKind::Normal).unwrap();
    other.write_at(&page(3), 0).unwrap();
    between(&bench, &mut *database);
    drop(journal);
    bench.vfs.delete(&path("/f-journal"), true).unwrap();
    bench.flush();
    assert_eq!(bench.content("/f-journal"), None);
    assert_eq!(bench.content("/other").unwrap(), page(3));
    assert!(!bench.vfs.exists(&path("/f-journal")).unwrap());
    (bench.knobs.calls(OpKind::Open) - before, bench.control.statistics(None).elided)
}

/// L10: a journal that protected nothing is not made; one that did is.
#[test]
fn a_stillborn_journal_is_not_made() {
    assert_eq!(journal_calls(|_, _| ()), (0, 5));
    assert_eq!(journal_calls(|_, database| database.write_at(&page(1), 0).unwrap()), (1, 0));
    assert_eq!(journal_calls(|_, database| database.truncate(0).unwrap()), (1, 0));
    assert_eq!(journal_calls(|bench, _| assert_eq!(bench.control.step(1), Ok(1))).0, 1);
}

/// L10: a file that somebody else put there meanwhile is deleted as without the rule.
#[test]
fn a_stillborn_journal_whose_name_is_taken_is_made() {
    let bench = full();
    let _database = bench.database("/f");
    drop(bench.journal("/f-journal"));
    bench.vfs.delete(&path("/f-journal"), false).unwrap();
    let request = request(OpenKind::Plain, Access::Create);
    let mut foreign = bench.memory.open(Some(&path("/f-journal")), request).unwrap().file;
    foreign.write_at(b"foreign", 0).unwrap();
    bench.flush();
    assert_eq!(bench.content("/f-journal"), None);
    assert_eq!(bench.control.statistics(None).elided, 0);
}

/// L10: nor is one left out that somebody else has open, and still reads.
#[test]
fn a_journal_that_is_open_elsewhere_is_made() {
    let bench = full();
    let _database = bench.database("/f");
    let mut journal = bench.journal("/f-journal");
    let other = bench.open_kind("/f-journal", OpenKind::Journal, Access::ReadOnly);
    journal.write_at(b"record", 0).unwrap();
    drop(journal);
    bench.vfs.delete(&path("/f-journal"), false).unwrap();
    assert_eq!(read(&*other, 0, 9), b"record");
    bench.flush();
    assert_eq!(read(&*other, 0, 9), b"record");
    assert_eq!(bench.content("/f-journal"), None);
}

/// L11: a temporary file that was closed before its turn never reaches the disk.
#[test]
fn a_closed_temporary_file_is_not_made() {
    for is_started in [false, true] {
        let bench = full();
        let mut request = request(OpenKind::TemporaryDatabase, Access::Create);
        request.delete_on_close = true;
        let opens = bench.knobs.calls(OpKind::Open);
        let mut file = bench.vfs.open(None, request).unwrap().file;
        file.write_at(&page(1), 0).unwrap();
        if is_started {
            assert_eq!(bench.control.step(1), Ok(1));
        }
        file.write_at(&page(2), 64).unwrap();
        assert_eq!(read(&*file, 0, 4), [1; 4]);
        drop(file);
        bench.flush();
        assert_eq!(bench.knobs.calls(OpKind::Open) - opens, u64::from(is_started));
        assert_eq!(bench.knobs.calls(OpKind::Write), 0);
        assert_eq!(bench.control.statistics(None).elided, 3 - u64::from(is_started));
        assert_eq!(bench.control.status().bytes, 0);
    }
}

/// A file without a name.
fn temporary(bench: &Bench) -> Box<dyn File> {
    let mut request = request(OpenKind::TemporaryDatabase, Access::Create);
    request.delete_on_close = true;
    bench.vfs.open(None, request).unwrap().file
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "never: {what}");
        std::thread::yield_now();
    }
}

/// L11: a running writer passes over a temporary file, and does nothing of it if it is closed.
#[test]
fn a_temporary_file_is_kept_in_memory() {
    let bench = full();
    let mut database = bench.database("/f");
    let mut file = temporary(&bench);
    let opens = bench.knobs.calls(OpKind::Open);
    file.write_at(&page(1), 0).unwrap();
    file.truncate(8).unwrap();
    bench.control.start().unwrap();
    database.write_at(&page(2), 0).unwrap();
    wait_until("written", || bench.control.status().ops == 3);
    assert_eq!(bench.content("/f").unwrap(), page(2));
    assert_eq!((read(&*file, 0, 16), file.size()), (vec![1; 8], Ok(8)));
    drop(file);
    wait_until("closed", || bench.control.status().ops == 0);
    assert_eq!(bench.knobs.calls(OpKind::Open), opens);
    assert_eq!((bench.knobs.calls(OpKind::Write), bench.knobs.calls(OpKind::Truncate)), (1, 0));
    assert_eq!(bench.control.statistics(None).elided, 3);
}

/// L11, 6.1: it is written as soon as its room is wanted, or somebody waits for all of the queue.
#[test]
fn a_temporary_file_is_written_when_it_is_in_the_way() {
    let ends: [fn(&Bench); 4] = [
        |bench| {
            let mut database = bench.database("/f");
            database.write_at(&[2; 60], 0).unwrap();
            wait_until("room", || bench.content("/f").is_some_and(|content| content == [2; 60]));
            assert!(bench.control.status().bytes <= 1);
            bench.flush();
        },
        |bench| bench.control.flush(None, Durability::Written, None).unwrap(),
        |bench| bench.control.set_coalesce(Coalesce::Safe),
        |bench| bench.stop(),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let bench = full();
        bench.control.set_limit(64, LimitPolicy::Block);
        bench.control.start().unwrap();
        let mut file = temporary(&bench);
        file.write_at(&[1; 60], 0).unwrap();
        let mut other =
            bench.vfs.open(None, request(OpenKind::SubJournal, Access::Create)).unwrap();
        other.file.write_at(b"x", 0).unwrap();
        assert_eq!(bench.control.status().ops, 4, "{number}");
        end(&bench);
        wait_until(&format!("end {number}"), || bench.control.status().ops == 0);
        assert_eq!(read(&*file, 0, 60), [1; 60]);
        assert_eq!(read(&*other.file, 0, 4), b"x");
    }
}

/// L11: up to a limit.
#[test]
fn a_large_temporary_file_is_written() {
    let bench = full();
    bench.control.start().unwrap();
    let mut file = temporary(&bench);
    for at in 0..5 << 6 {
        file.write_at(&[at as u8; 1 << 14], at << 14).unwrap();
    }
    wait_until("written", || bench.knobs.calls(OpKind::Write) > 0);
    assert_eq!(read(&*file, 5 << 14, 4), [5; 4]);
    drop(file);
    wait_until("closed", || bench.control.status().ops == 0);
}
