//! What readers see while things are queued.

use super::*;

/// A501, A303: the queued bytes lie over those of the file, later ones over earlier.
#[test]
fn reads_see_the_queue() {
    let bench = Bench::new();
    bench.memory.put("/f", b"0123456789".to_vec());
    let mut file = bench.database("/f");
    file.write_at(b"AB", 2).unwrap();
    file.write_at(b"xyz", 3).unwrap();
    file.write_at(b"Q", 9).unwrap();
    assert_eq!(read(&*file, 0, 10), b"01Axyz678Q");
    assert_eq!(bench.content("/f").unwrap(), b"0123456789");
    bench.flush();
    assert_eq!(bench.content("/f").unwrap(), b"01Axyz678Q");
    assert_eq!(read(&*file, 0, 10), b"01Axyz678Q");
}

/// A505, A507, A509, defects 16 to 18: truncations count, in reads and in sizes.
#[test]
fn truncations_cut_and_extend() {
    let bench = Bench::new();
    bench.memory.put("/f", b"0123456789".to_vec());
    let mut file = bench.database("/f");
    file.write_at(b"abcde", 20).unwrap();
    assert_eq!(file.size().unwrap(), 25);
    file.truncate(8).unwrap();
    assert_eq!(file.size().unwrap(), 8);
    file.write_at(b"X", 8).unwrap();
    assert_eq!(file.size().unwrap(), 9);
    file.truncate(4).unwrap();
    assert_eq!(read(&*file, 0, 10), b"0123");
    file.write_at(b"Y", 8).unwrap();
    assert_eq!(read(&*file, 0, 10), b"0123\0\0\0\0Y");
    file.truncate(20).unwrap();
    assert_eq!(file.size().unwrap(), 20);
    for _ in 0..6 {
        assert_eq!(file.size().unwrap(), 20);
        assert_eq!(read(&*file, 0, 10), b"0123\0\0\0\0Y\0");
        assert_eq!(bench.control.step(1).unwrap(), 1);
    }
    assert_eq!(bench.content("/f").unwrap().len(), 20);
}

/// A506, defect 1: every handle sees what any of them has queued, also after closing.
#[test]
fn other_handles_see_the_queue() {
    let bench = Bench::new();
    let mut one = bench.database("/f");
    let two = bench.database("/f");
    one.write_at(b"new", 0).unwrap();
    assert_eq!(read(&*two, 0, 3), b"new");
    drop((one, two));
    let three = bench.database("/f");
    assert_eq!(read(&*three, 0, 3), b"new");
    assert_eq!(three.size().unwrap(), 3);
}

/// A502, A514, A601, A602: a file that the writer will make is there for everybody, but not on
/// disk.
#[test]
fn a_journal_is_made_by_the_writer() {
    let bench = Bench::new();
    let database = bench.database("/f");
    let mut journal = bench.journal("/f-journal");
    journal.write_at(b"head", 0).unwrap();
    assert_eq!(bench.content("/f-journal"), None);
    assert_eq!(journal.descriptor(), None);
    assert!(bench.vfs.exists(Path::new("/f-journal")).unwrap());
    assert_eq!(read(&*journal, 0, 9), b"head");
    // V6: a second handle on it.
    let other = bench.open_kind("/f-journal", OpenKind::Journal, Access::ReadOnly);
    assert_eq!(read(&*other, 1, 2), b"ea");
    let exclusive = OpenRequest { exclusive: true, ..request(OpenKind::Journal, Access::Create) };
    let refused = bench.vfs.open(Some(Path::new("/f-journal")), exclusive);
    assert_eq!(refused.err().map(|error| error.code().primary), Some(14));
    bench.flush();
    assert_eq!(bench.content("/f-journal").unwrap(), b"head");
    assert_eq!(read(&*other, 0, 4), b"head");
    drop((database, journal, other));
    bench.flush();
    assert_eq!(bench.control.status().files, 0);
    assert_eq!(bench.knobs.open_file_count.load(std::sync::atomic::Ordering::Relaxed), 0);
}

/// A510, defects 23 and 24: the newest queued change of a name decides, for opening too.
#[test]
fn names_are_those_of_the_newest_change() {
    let bench = Bench::new();
    bench.memory.put("/j-journal", b"x".to_vec());
    let name = Path::new("/j-journal");
    assert!(bench.vfs.exists(name).unwrap());
    bench.vfs.delete(name, false).unwrap();
    assert!(!bench.vfs.exists(name).unwrap());
    let missing = bench.vfs.open(Some(name), request(OpenKind::Journal, Access::ReadOnly));
    assert_eq!(missing.err().map(|error| error.code().primary), Some(14));
    let journal = bench.journal("/j-journal");
    assert!(bench.vfs.exists(name).unwrap());
    assert_eq!(journal.size().unwrap(), 0);
    bench.vfs.delete(name, false).unwrap();
    assert!(!bench.vfs.exists(name).unwrap());
    drop(journal);
    bench.flush();
    assert_eq!(bench.content("/j-journal"), None);
    // A database that is to be deleted must go before it can be made anew.
    let mut file = bench.database("/d");
    file.write_at(b"old", 0).unwrap();
    drop(file);
    bench.vfs.delete(Path::new("/d"), false).unwrap();
    let file = bench.database("/d");
    assert_eq!(file.size().unwrap(), 0);
}

/// A302: what the caller does with its bytes afterwards is its own business. A305: and without
/// memory for the copy nothing is queued. A306: closing needs none.
#[test]
fn bytes_are_copied() {
    let bench = Bench::new();
    let mut file = bench.database("/f");
    let mut bytes = *b"abc";
    file.write_at(&bytes, 0).unwrap();
    bytes.fill(b'-');
    bench.control.fail_copy_after(Some(0));
    assert_eq!(file.write_at(&bytes, 0), Err(Error::NoMemory));
    assert_eq!(bench.control.status().ops, 1);
    drop(file);
    bench.flush();
    assert_eq!(bench.content("/f").unwrap(), b"abc");
}

/// A604 to A606: two base handles, or one by choice; none is left when the second fails.
#[test]
fn base_handles_are_counted() {
    let bench = Bench::new();
    let count = || bench.knobs.open_file_count.load(std::sync::atomic::Ordering::Relaxed);
    let file = bench.database("/f");
    assert_eq!(count(), 2);
    let reader = bench.open_kind("/f", OpenKind::Database, Access::ReadOnly);
    assert_eq!(count(), 3);
    bench.control.set_two_handles(false);
    let single = bench.database("/f");
    assert_eq!(count(), 4);
    drop((file, reader, single));
    assert_eq!((bench.control.status().files, count()), (0, 4));
    bench.flush();
    assert_eq!(count(), 0);
}
