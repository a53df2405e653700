//! What an error in the writer stops, what it does not, and how it ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::super::simulate::{OpKind, PlannedFault};
use super::super::file::LOOKS_MAX;
use super::room::in_time;
use super::*;

const FAILED: Error = Error::Io { call: IoCall::Write, errno: 0 };

/// A801 to A804, A806, defect 10, A809: the group is latched, its queue becomes nothing; others
/// go on.
#[test]
fn an_error_stops_its_group_alone() {
    let bench = Bench::new();
    let mut one = bench.database("/a");
    let mut two = bench.database("/b");
    bench.knobs.plan(OpKind::Write, 1, PlannedFault::default());
    one.write_at(b"1", 0).unwrap();
    one.sync(SyncKind::Normal).unwrap();
    one.write_at(b"2", 0).unwrap();
    two.write_at(b"3", 0).unwrap();
    assert_eq!(bench.control.step(1).unwrap(), 1);
    assert_eq!(bench.names(), ["NOOP", "NOOP", "WRITE"]);
    assert_eq!(bench.control.error(Some(Path::new("/a"))), Some(FAILED));
    assert_eq!(bench.control.error(Some(Path::new("/a-journal"))), Some(FAILED));
    assert_eq!(bench.control.error(Some(Path::new("/b"))), None);
    assert_eq!(bench.control.status().error, Some(FAILED));
    assert_eq!(one.write_at(b"x", 0), Err(FAILED));
    assert_eq!(one.read_at(&mut [0], 0), Err(FAILED));
    assert_eq!(one.sync(SyncKind::Normal), Err(FAILED));
    assert_eq!(one.truncate(0), Err(FAILED));
    assert_eq!(bench.vfs.delete(Path::new("/a-journal"), false), Err(FAILED));
    assert_eq!(bench.vfs.sync_directory(Path::new("/a-journal")), Err(FAILED));
    let journal =
        bench.vfs.open(Some(Path::new("/a-journal")), request(OpenKind::Journal, Access::Create));
    assert_eq!(journal.err(), Some(FAILED));
    assert_eq!(bench.control.flush(None, Durability::Written, None), Err(FAILED));
    let file = Some(Path::new("/a"));
    assert_eq!(bench.control.flush(file, Durability::Written, None), Err(FAILED));
    let file = Some(Path::new("/b"));
    assert_eq!(bench.control.flush(file, Durability::Durable, None), Ok(()));
    assert_eq!(bench.content("/a").unwrap(), b"");
    assert_eq!(bench.content("/b").unwrap(), b"3");
    // A810: closing its handles ends it, whatever else is open.
    drop(one);
    assert_eq!(bench.control.error(None), None);
    let mut one = bench.database("/a");
    one.write_at(b"4", 0).unwrap();
    bench.flush();
    assert_eq!(bench.content("/a").unwrap(), b"4");
    let history = bench.control.take_history(file);
    assert!(history.is_empty());
    let history = bench.control.take_history(None);
    assert_eq!((history[0].error, history[0].operation), (FAILED, "WRITE"));
    assert_eq!(history[0].lost_operations, 2);
    assert!(bench.control.take_history(None).is_empty());
}

/// A811, defects 8, 9, 22: nothing of before the error is executed, and nothing of it is seen,
/// after closing and opening again, however far the writer got.
#[test]
fn nothing_old_comes_back() {
    for steps in 1..6 {
        let bench = Bench::new();
        bench.memory.put("/a", b"old".to_vec());
        let mut file = bench.database("/a");
        bench.knobs.plan(OpKind::Write, 1, PlannedFault::default());
        for _ in 0..3 {
            file.write_at(b"lost", 0).unwrap();
        }
        file.truncate(1).unwrap();
        bench.control.step(steps.min(4)).unwrap();
        drop(file);
        let mut file = bench.database("/a");
        assert_eq!(read(&*file, 0, 9), b"old");
        assert_eq!(file.size().unwrap(), 3);
        file.write_at(b"new", 0).unwrap();
        bench.control.step(steps).unwrap();
        assert_eq!(read(&*file, 0, 9), b"new");
        bench.flush();
        assert_eq!(bench.content("/a").unwrap(), b"new");
        assert_eq!(bench.control.error(None), None);
    }
}

/// 4.2: what is queued by a database that was closed and opened again meanwhile hangs on what was
/// queued before.
#[test]
fn an_error_of_before_reaches_what_was_built_on_it() {
    let bench = Bench::new();
    let mut file = bench.database("/a");
    file.write_at(b"first", 0).unwrap();
    drop(file);
    let mut file = bench.database("/a");
    file.write_at(b"second", 10).unwrap();
    bench.knobs.plan(OpKind::Write, 1, PlannedFault::default());
    assert_eq!(bench.control.flush(None, Durability::Written, None), Err(FAILED));
    assert_eq!(bench.content("/a").unwrap(), b"");
    assert_eq!(file.write_at(b"x", 0), Err(FAILED));
}

/// 4.2: a super-journal joins groups; each database leaves by itself.
#[test]
fn a_super_journal_joins_groups() {
    let bench = Bench::new();
    let mut one = bench.database("/a");
    let mut two = bench.database("/b");
    let name = Path::new("/a-mj1234");
    let kind = request(OpenKind::SuperJournal, Access::Create);
    let super_journal = bench.vfs.open(Some(name), kind).unwrap().file;
    one.hint(Hint::JoinSuperJournal(name));
    two.hint(Hint::JoinSuperJournal(name));
    one.write_at(b"1", 0).unwrap();
    two.write_at(b"2", 0).unwrap();
    bench.knobs.plan(OpKind::Open, 1, PlannedFault::default());
    let failed = bench.control.flush(None, Durability::Written, None).unwrap_err();
    assert_eq!(one.read_at(&mut [0], 0), Err(failed));
    assert_eq!(two.read_at(&mut [0], 0), Err(failed));
    assert_eq!(bench.vfs.delete(name, false), Err(failed));
    drop(one);
    let one = bench.database("/a");
    assert_eq!(one.read_at(&mut [0], 0), Ok(0));
    assert_eq!(two.read_at(&mut [0], 0), Err(failed));
    drop(super_journal);
}

/// 4.2: the error of a super-journal that nobody has joined yet lasts until its name is deleted.
#[test]
fn a_super_journal_that_never_was_fails_phase_one() {
    let bench = Bench::new();
    let mut one = bench.database("/a");
    let name = Path::new("/a-mj1234");
    let kind = request(OpenKind::SuperJournal, Access::Create);
    bench.knobs.plan(OpKind::Open, 1, PlannedFault::default());
    drop(bench.vfs.open(Some(name), kind).unwrap());
    assert!(bench.control.flush(None, Durability::Written, None).is_err());
    assert_eq!(one.write_at(b"1", 0), Ok(()));
    bench.vfs.delete(name, false).unwrap();
    bench.flush();
    let kind = request(OpenKind::SuperJournal, Access::Create);
    bench.knobs.plan(OpKind::Open, 1, PlannedFault::default());
    drop(bench.vfs.open(Some(name), kind).unwrap());
    assert!(bench.control.flush(None, Durability::Written, None).is_err());
    one.hint(Hint::JoinSuperJournal(name));
    assert!(one.write_at(b"1", 0).is_err());
}

/// A806: closing cannot fail; A807: but no memory can. A805: the last close of all clears.
#[test]
fn no_memory_in_the_writer_is_an_error_like_any_other() {
    let bench = Bench::new();
    let mut file = bench.open_kind("/plain", OpenKind::Plain, Access::Create);
    file.write_at(b"x", 0).unwrap();
    let fault = PlannedFault { error: Some(Error::NoMemory), ..PlannedFault::default() };
    bench.knobs.plan(OpKind::Write, 1, fault);
    assert_eq!(bench.control.flush(None, Durability::Written, None), Err(Error::NoMemory));
    bench.knobs.plan(OpKind::Close, 1, PlannedFault::default());
    drop(file);
    assert_eq!(bench.control.error(None), None);
    bench.flush();
}

/// 6.4: a failed sync reaches every flush that counts on it, and is final.
#[test]
fn a_failed_sync_is_final() {
    let bench = Bench::new();
    let mut file = bench.database("/a");
    file.write_at(b"x", 0).unwrap();
    bench.knobs.plan(OpKind::Sync, 1, PlannedFault::default());
    let failed = bench.control.flush(None, Durability::Durable, None).unwrap_err();
    assert_eq!(bench.control.flush(None, Durability::Durable, None), Err(failed));
    assert_eq!(file.sync(SyncKind::Normal), Err(failed));
}

/// 4.2 (c): commits that were reported as successful are counted, rolled-back ones are not.
#[test]
fn lost_commits_are_counted() {
    let bench = Bench::new();
    let mut file = bench.database("/a");
    let journal = bench.journal("/a-journal");
    file.write_at(b"1", 0).unwrap();
    drop(journal);
    bench.vfs.delete(Path::new("/a-journal"), false).unwrap();
    let journal = bench.journal("/a-journal");
    file.write_at(b"2", 0).unwrap();
    file.hint(Hint::Undoing(true));
    file.write_at(b"1", 0).unwrap();
    file.hint(Hint::Undoing(false));
    drop(journal);
    bench.vfs.delete(Path::new("/a-journal"), false).unwrap();
    bench.knobs.plan(OpKind::Open, 1, PlannedFault::default());
    assert!(bench.control.flush(None, Durability::Written, None).is_err());
    assert_eq!(bench.control.take_history(None)[0].lost_commits, 1);
}

/// 3.3: a disk that panics fails everybody, and closing clears it; start works again.
#[test]
fn a_panic_in_the_writer_is_told_to_all() {
    for runs in [true, false] {
        let memory = MemoryVfs::new();
        let control = WriteBehind::new();
        let vfs = WriteBehindVfs::new(Arc::new(Panicking(memory.clone(), None)), &control);
        let open = |path: &str| {
            vfs.open(Some(Path::new(path)), request(OpenKind::Database, Access::Create))
                .unwrap()
                .file
        };
        let mut one = open("/a");
        let other = open("/b");
        one.write_at(b"panic", 0).unwrap();
        if runs {
            control.start().unwrap();
        }
        let flushed = control.flush(None, Durability::Written, None);
        assert!(matches!(flushed, Err(Error::Internal(_))), "{flushed:?}");
        assert!(matches!(other.read_at(&mut [0], 0), Err(Error::Internal(_))));
        control.set_halt(Halt::Idle);
        control.wait().unwrap();
        assert!(!control.status().running);
        drop((one, other));
        assert_eq!(control.error(None), None);
        let mut one = open("/a");
        one.write_at(b"fine", 0).unwrap();
        control.start().unwrap();
        control.wait().unwrap();
        assert_eq!(memory.content(Path::new("/a")).unwrap(), b"fine");
    }
}

/// A reader that has asked the writer to wait, and dies, keeps nobody waiting.
#[test]
fn a_panic_in_a_reader_is_its_own() {
    in_time(|| {
        let (memory, control) = (MemoryVfs::new(), WriteBehind::new());
        let base = Panicking(memory, Some((control.clone(), Arc::default())));
        let vfs = WriteBehindVfs::new(Arc::new(base), &control);
        let request = request(OpenKind::Database, Access::Create);
        let mut file = vfs.open(Some(Path::new("/f")), request).unwrap().file;
        file.write_at(b"disk", 0).unwrap();
        assert_eq!(control.step(1), Ok(1));
        for at in 1..10 {
            file.write_at(b"more", 100 * at).unwrap();
        }
        let reading = AssertUnwindSafe(|| file.read_at(&mut [0; 4], 0));
        assert!(catch_unwind(reading).is_err());
        assert_eq!(control.status().ops, 9 - u64::from(LOOKS_MAX), "it was not urgent");
        control.flush(None, Durability::Written, None).unwrap();
        assert_eq!(read(&*file, 900, 4), b"more");
    });
}

/// A disk that panics when the word is written. With a queue, each read of it is followed by a
/// step of that, until the one for which the writer has to wait: that one panics.
#[derive(Debug)]
pub(super) struct Panicking(pub(super) MemoryVfs, pub(super) Option<(WriteBehind, Arc<AtomicU32>)>);

#[derive(Debug)]
struct PanickingFile(Box<dyn File>, Option<(WriteBehind, Arc<AtomicU32>)>);

impl Vfs for Panicking {
    fn open(
        &self,
        path: Option<&Path>,
        request: OpenRequest,
    ) -> crate::Result<super::super::super::Opened> {
        let mut opened = self.0.open(path, request)?;
        opened.file = Box::new(PanickingFile(opened.file, self.1.clone()));
        Ok(opened)
    }
    fn delete(&self, path: &Path, sync: bool) -> crate::Result<()> {
        self.0.delete(path, sync)
    }
    fn exists(&self, path: &Path) -> crate::Result<bool> {
        self.0.exists(path)
    }
    fn sync_directory(&self, path: &Path) -> crate::Result<()> {
        self.0.sync_directory(path)
    }
    fn full_path(&self, name: &Path) -> crate::Result<PathBuf> {
        self.0.full_path(name)
    }
    fn random(&self) -> u32 {
        self.0.random()
    }
}

impl File for PanickingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> crate::Result<usize> {
        if let Some((control, reads)) = &self.1 {
            assert_ne!(reads.fetch_add(1, Ordering::Relaxed), LOOKS_MAX);
            control.step(1)?;
        }
        self.0.read_at(buffer, offset)
    }
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> crate::Result<()> {
        assert_ne!(bytes, b"panic");
        self.0.write_at(bytes, offset)
    }
    fn truncate(&mut self, size: u64) -> crate::Result<()> {
        self.0.truncate(size)
    }
    fn sync(&mut self, kind: SyncKind) -> crate::Result<()> {
        self.0.sync(kind)
    }
    fn size(&self) -> crate::Result<u64> {
        self.0.size()
    }
    fn lock(&mut self, level: LockLevel) -> crate::Result<()> {
        self.0.lock(level)
    }
    fn unlock(&mut self, level: LockLevel) -> crate::Result<()> {
        self.0.unlock(level)
    }
    fn lock_level(&self) -> LockLevel {
        self.0.lock_level()
    }
    fn check_reserved_lock(&self) -> crate::Result<bool> {
        self.0.check_reserved_lock()
    }
}
