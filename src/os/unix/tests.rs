use std::fs;
use std::io::IoSlice;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::format::LockPage;
use crate::os::{LockLevel, SyncKind};

/// A directory that vanishes with the test.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tclbtree-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Scratch(fs::canonicalize(path).unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Runs a test, named with its path, in a process of its own: in that of the others a thread may be
/// in the middle of anything as it forks, and an unannounced child finds the heap locked for ever.
/// `false` in that process, where the test is to be made.
pub(crate) fn is_run_alone(name: &str) -> bool {
    const VARIABLE: &str = "TCLBTREE_TEST_ALONE";
    if std::env::var_os(VARIABLE).is_some() {
        return false;
    }
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", name]).env(VARIABLE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    true
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn request(kind: OpenKind, access: Access) -> OpenRequest {
    let lock_offset = LockPage::STANDARD_OFFSET;
    OpenRequest { kind, access, exclusive: false, delete_on_close: false, lock_offset }
}

const CREATE: OpenRequest = OpenRequest {
    kind: OpenKind::Database,
    access: Access::Create,
    exclusive: false,
    delete_on_close: false,
    lock_offset: LockPage::STANDARD_OFFSET,
};

fn is_open_somewhere(path: &Path) -> bool {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(path)))
}

// D531, D532, D533, D534
#[test]
fn opening_creates_only_when_asked_to() {
    let scratch = Scratch::new();
    let (vfs, path) = (UnixVfs::new(), scratch.path("t.db"));
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let opened = vfs.open(Some(&path), request(OpenKind::Database, access));
        assert!(matches!(opened, Err(Error::CannotOpen(_))));
    }
    let mut opened = vfs.open(Some(&path), CREATE).unwrap();
    assert!(!opened.read_only);
    assert!(!vfs.exists(&path).unwrap(), "a file of no bytes counts as absent");
    opened.file.write_at(b"ab", 0).unwrap();
    assert!(vfs.exists(&path).unwrap());
    assert!(opened.file.descriptor().unwrap() > 2);

    let exclusive = OpenRequest { exclusive: true, ..CREATE };
    assert!(matches!(vfs.open(Some(&path), exclusive), Err(Error::CannotOpen(_))));
    let read_only = request(OpenKind::Database, Access::ReadOnly);
    let mut reader = vfs.open(Some(&path), read_only).unwrap();
    assert!(reader.read_only);
    assert!(matches!(reader.file.write_at(b"x", 0), Err(Error::Io { call: IoCall::Write, .. })));

    vfs.delete(&path, true).unwrap();
    vfs.delete(&path, true).unwrap();
    assert!(!vfs.exists(&path).unwrap());
    let nowhere = scratch.path("missing/t.db");
    assert!(matches!(vfs.sync_directory(&nowhere), Err(Error::CannotOpen(_))));
    assert!(matches!(vfs.open(Some(&nowhere), CREATE), Err(Error::CannotOpen(_))));
    vfs.delete(&nowhere, true).unwrap();
    assert!(!vfs.exists(&nowhere).unwrap());
}

// D531
#[test]
fn a_directory_is_never_opened() {
    let scratch = Scratch::new();
    for access in [Access::ReadOnly, Access::ReadWrite, Access::Create] {
        let opened = UnixVfs::new().open(Some(&scratch.0), request(OpenKind::Database, access));
        assert!(matches!(opened, Err(Error::CannotOpen(_))), "{access:?}");
    }
    assert!(!UnixVfs::new().exists(&scratch.0).unwrap());
    assert!(!is_open_somewhere(&scratch.0));
}

const NOBODY: u32 = 65534;
const FALLBACK_VARIABLE: &str = "TCLBTREE_TEST_FALL_BACK";

// D531. Nothing is refused to the superuser, who therefore has somebody else make this test.
#[test]
fn writing_falls_back_to_reading() {
    if let Some(path) = std::env::var_os(FALLBACK_VARIABLE) {
        return check_fall_back(Path::new(&path));
    }
    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    fs::write(&path, b"content").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o555)).unwrap();
    if !sys::is_superuser() {
        check_fall_back(&path);
        return fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let somebody_else = std::process::Command::new("/proc/self/exe")
        .args(["os::unix::tests::writing_falls_back_to_reading", "--exact"])
        .env(FALLBACK_VARIABLE, &path)
        .uid(NOBODY)
        .current_dir("/")
        .output();
    // Where the test program is out of everybody else's reach there is nothing to be shown.
    if let Ok(output) = somebody_else {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

fn check_fall_back(path: &Path) {
    let vfs = UnixVfs::new();
    let opened = vfs.open(Some(path), CREATE).unwrap();
    assert!(opened.read_only);
    assert_eq!(opened.file.size().unwrap(), 7);
    let exclusive = OpenRequest { exclusive: true, ..CREATE };
    for request in [CREATE, exclusive] {
        let missing = vfs.open(Some(&path.with_file_name("missing")), request);
        assert_eq!(missing.err(), Some(Error::CannotOpen("permission denied")));
    }
    let deleted = vfs.delete(path, false);
    assert_eq!(deleted, Err(Error::Io { call: IoCall::Delete, errno: libc::EACCES }));
}

// D535, D536
#[test]
fn content_is_read_back_and_zeros_beyond_the_end() {
    let scratch = Scratch::new();
    let mut file = UnixVfs::new().open(Some(&scratch.path("t")), CREATE).unwrap().file;
    file.write_at(b"0123456789", 0).unwrap();
    for offset in 0..14u64 {
        for length in 0..14usize {
            let mut buffer = vec![0xff; length];
            let there = (10usize.saturating_sub(offset as usize)).min(length);
            assert_eq!(file.read_at(&mut buffer, offset).unwrap(), there);
            let expected: Vec<u8> = (0..length)
                .map(|i| if i < there { b'0' + (offset as usize + i) as u8 } else { 0 })
                .collect();
            assert_eq!(buffer, expected);
        }
    }
    file.truncate(1).unwrap();
    assert_eq!(file.size().unwrap(), 0, "a file of one byte counts as empty");
    file.truncate(20).unwrap();
    assert_eq!(file.size().unwrap(), 20);
    file.sync(SyncKind::Normal).unwrap();
    file.sync(SyncKind::Full).unwrap();
    assert!(file.write_at(b"x", u64::MAX).is_err());
    assert!(file.truncate(u64::MAX).is_err());
    assert!(file.read_at(&mut [0], u64::MAX).is_err());
}

#[test]
fn a_full_device_is_reported_as_full() {
    let request = request(OpenKind::Database, Access::ReadWrite);
    let mut file = UnixVfs::new().open(Some(Path::new("/dev/full")), request).unwrap().file;
    assert_eq!(file.write_at(b"x", 0), Err(Error::Full));
    assert_eq!(file.write_vectored_at(&[IoSlice::new(b"x")], 0), Err(Error::Full));
}

#[test]
fn vectored_writes_put_the_pieces_in_a_row() {
    let scratch = Scratch::new();
    let mut file = UnixVfs::new().open(Some(&scratch.path("t")), CREATE).unwrap().file;
    // More pieces than one call of the system takes, empty ones among them.
    for count in [0, 1, 2, sys::PIECES_MAX, sys::PIECES_MAX + 1, 3 * sys::PIECES_MAX + 7] {
        let pieces: Vec<Vec<u8>> = (0..count).map(|i| vec![i as u8; i % 5]).collect();
        let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        file.truncate(0).unwrap();
        file.write_vectored_at(&slices, 3).unwrap();
        let expected = pieces.concat();
        let mut found = vec![0; expected.len() + 1];
        assert_eq!(file.read_at(&mut found, 3).unwrap(), expected.len());
        assert_eq!(found[..expected.len()], expected);
    }
}

#[test]
fn every_spelling_leads_to_one_path() {
    let scratch = Scratch::new();
    let vfs = UnixVfs::new();
    fs::create_dir(scratch.path("dir")).unwrap();
    symlink("dir", scratch.path("link")).unwrap();
    symlink("../t.db", scratch.path("dir/up")).unwrap();
    symlink("new.db", scratch.path("dangling")).unwrap();
    symlink("ring", scratch.path("ring")).unwrap();
    let full = scratch.path("t.db");
    for existing in [false, true] {
        if existing {
            fs::write(&full, b"x").unwrap();
        }
        for name in ["t.db", "./t.db", "dir/../t.db", "link/../t.db", "link/up", "dir//up"] {
            assert_eq!(vfs.full_path(&scratch.path(name)).unwrap(), full, "{name}");
        }
    }
    assert_eq!(vfs.full_path(&scratch.path("dangling")).unwrap(), scratch.path("new.db"));
    assert_eq!(vfs.full_path(&scratch.path("no/such")).unwrap(), scratch.path("no/such"));
    assert!(matches!(vfs.full_path(&scratch.path("ring")), Err(Error::CannotOpen(_))));
    let relative = vfs.full_path(Path::new("some.db")).unwrap();
    assert_eq!(relative, fs::canonicalize(".").unwrap().join("some.db"));
    // The journal's name and the closing NUL must fit as well.
    let longest = 4096 - 1 - "-journal".len();
    let spell = |length: usize| PathBuf::from(format!("/{}", "a".repeat(length - 1)));
    assert!(vfs.full_path(&spell(longest)).is_ok());
    assert!(matches!(vfs.full_path(&spell(longest + 1)), Err(Error::CannotOpen(_))));
}

#[test]
fn temporary_files_have_no_name() {
    let vfs = UnixVfs::new();
    let mut file = vfs.open(None, request(OpenKind::SubJournal, Access::Create)).unwrap().file;
    file.write_at(b"content", 0).unwrap();
    let link = format!("/proc/self/fd/{}", file.descriptor().unwrap());
    let metadata = fs::metadata(&link).unwrap();
    assert_eq!((metadata.nlink(), metadata.mode() & 0o777), (0, 0o600));
    assert!(!file.has_moved().unwrap());

    let scratch = Scratch::new();
    let path = scratch.path("t");
    let request = OpenRequest { exclusive: true, delete_on_close: true, ..CREATE };
    let file = vfs.open(Some(&path), request).unwrap().file;
    assert!(!path.exists());
    assert_eq!(file.size().unwrap(), 0);
}

#[test]
fn journals_take_after_their_database() {
    let scratch = Scratch::new();
    let vfs = UnixVfs::new();
    let (path, journal) = (scratch.path("t.db"), scratch.path("t.db-journal"));
    for mode in [0o640, 0o600, 0o666, 0o644] {
        fs::write(&path, b"x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        drop(vfs.open(Some(&journal), request(OpenKind::Journal, Access::Create)).unwrap());
        let metadata = fs::metadata(&journal).unwrap();
        assert_eq!(metadata.mode() & 0o777, mode);
        assert_eq!(metadata.uid(), fs::metadata(&path).unwrap().uid());
        vfs.delete(&journal, false).unwrap();
    }
    symlink("t.db", &journal).unwrap();
    let opened = vfs.open(Some(&journal), request(OpenKind::Journal, Access::Create));
    assert!(matches!(opened, Err(Error::CannotOpen(_))), "a journal is never a link");
}

#[test]
fn a_file_notices_that_its_name_leads_elsewhere() {
    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    let file = UnixVfs::new().open(Some(&path), CREATE).unwrap().file;
    assert!(!file.has_moved().unwrap());
    fs::rename(&path, scratch.path("elsewhere")).unwrap();
    assert!(file.has_moved().unwrap());
    fs::write(&path, b"another").unwrap();
    assert!(file.has_moved().unwrap());
    fs::rename(scratch.path("elsewhere"), &path).unwrap();
    assert!(!file.has_moved().unwrap());
}

// A filter of system calls that is older than `statx` refuses it; so does an old system.
#[test]
fn what_a_file_is_can_be_asked_where_the_newer_call_is_refused() {
    const IMPOSSIBLE: i32 = 42;
    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    fs::write(&path, b"0123456789").unwrap();
    let expected = sys::status_of(&path).unwrap();
    for errno in [libc::EPERM, libc::ENOSYS] {
        let answer = in_child(|| {
            if !sys::refuse_call(libc::SYS_statx, Errno(errno)) {
                return IMPOSSIBLE;
            }
            let by_path = sys::status_of(&path).unwrap();
            let opened = UnixVfs::new().open(Some(&path), CREATE).unwrap();
            let same = by_path.identity == expected.identity
                && (by_path.size, by_path.mode, by_path.owner)
                    == (expected.size, expected.mode, expected.owner)
                && (by_path.is_regular, by_path.is_directory) == (true, false)
                && opened.file.identity() == Some(expected.identity)
                && opened.file.size() == Ok(10)
                && opened.file.has_moved() == Ok(false)
                && UnixVfs::new().exists(&path) == Ok(true)
                && UnixVfs::new().exists(&scratch.0) == Ok(false)
                && UnixVfs::new().exists(&scratch.path("missing")) == Ok(false);
            i32::from(!same)
        });
        assert!(answer == Some(0) || answer == Some(IMPOSSIBLE), "{errno}: {answer:?}");
    }
}

// Rule 5.3: a descriptor is kept as long as locks of others depend on it, and no longer.
#[test]
fn closing_waits_for_the_locks_of_others() {
    let scratch = Scratch::new();
    let (vfs, path) = (UnixVfs::new(), scratch.path("t.db"));
    let mut holder = vfs.open(Some(&path), CREATE).unwrap().file;
    holder.lock(LockLevel::Shared).unwrap();
    let other = vfs.open(Some(&path), CREATE).unwrap().file;
    let parked = other.descriptor();
    drop(other);
    // Found by the next open, also by another name of the same file, but not for other access.
    let read_only = request(OpenKind::Database, Access::ReadOnly);
    let reader = vfs.open(Some(&path), read_only).unwrap().file;
    assert_ne!(reader.descriptor(), parked);
    fs::hard_link(&path, scratch.path("second")).unwrap();
    let again = vfs.open(Some(&scratch.path("second")), CREATE).unwrap().file;
    assert_eq!(again.descriptor(), parked);
    drop((again, reader));
    assert!(is_open_somewhere(&scratch.path("second")) || is_open_somewhere(&path));
    holder.unlock(LockLevel::None).unwrap();
    let only = holder.descriptor().unwrap();
    let open: Vec<PathBuf> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.starts_with(&scratch.0)))
        .map(|entry| entry.path())
        .collect();
    assert_eq!(open, [PathBuf::from(format!("/proc/self/fd/{only}"))]);
    drop(holder);
    assert!(!is_open_somewhere(&scratch.0));
}

#[test]
fn random_numbers_differ() {
    let vfs = UnixVfs::new();
    let drawn: std::collections::BTreeSet<u32> = (0..100).map(|_| vfs.random()).collect();
    assert!(drawn.len() > 95);
}

/// A forked child has its parent's connection, with a transaction open. Whatever it does with that,
/// and however it ends, the parent goes on as if it had not been there.
#[test]
fn a_connection_is_of_no_use_to_a_forked_child() {
    use crate::{Btree, Error, Key, Options, TABLE, TransactionKind};
    use std::sync::Arc;

    const ENTRIES: i64 = 3000;
    if is_run_alone("os::unix::tests::a_connection_is_of_no_use_to_a_forked_child") {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    let open = || Btree::open(Arc::new(UnixVfs::new()), &path, &Options::default()).unwrap();
    let is_refused = |result: Result<()>| matches!(result, Err(Error::Misuse(_)));
    // With a small cache pages reach the file before the commit, and so does the journal; with a
    // large one, on the first page of a tree or behind many, they do not.
    for (cache, entries_before_fork) in [(10, 2000), (2000, 0), (2000, 1), (2000, 2000)] {
        let all = ["end", "drop", "roll back", "insert", "commit"];
        for (what, is_announced) in all.into_iter().flat_map(|what| [(what, true), (what, false)]) {
            let _ = fs::remove_file(&path);
            let mut btree = open();
            btree.set_cache_size(cache);
            btree.begin(TransactionKind::Write).unwrap();
            let root = btree.create_table(TABLE).unwrap();
            btree.commit().unwrap();
            btree.begin(TransactionKind::Write).unwrap();
            let cursor = btree.open_cursor(root, true).unwrap();
            let insert = |btree: &mut Btree, key| {
                btree.insert(cursor, Key::Integer(key), &[key as u8; 200], 0)
            };
            (0..entries_before_fork).for_each(|key| insert(&mut btree, key).unwrap());
            let journal = scratch.path("t.db-journal");
            let had_journal = journal.exists();
            let mut inherited = Some(btree);
            let child = || {
                let mut btree = inherited.take().unwrap();
                match what {
                    "end" => std::mem::forget(btree),
                    "drop" => drop(btree),
                    "roll back" => {
                        return i32::from(!is_refused(btree.rollback()));
                    }
                    "insert" => {
                        let inserted: Result<()> =
                            (0..ENTRIES).try_for_each(|key| insert(&mut btree, -key));
                        return i32::from(!is_refused(inserted.and_then(|()| btree.commit())));
                    }
                    _ => {
                        // Without a change there is nothing to commit.
                        let refused = is_refused(btree.commit());
                        return i32::from(entries_before_fork > 0 && !refused);
                    }
                }
                0
            };
            let answer = match is_announced {
                true => in_child(child),
                false => in_unannounced_child(child),
            };
            assert_eq!(answer, Some(0), "{what}, {cache} pages");
            assert_eq!(journal.exists(), had_journal, "{what}, {cache} pages");
            let mut btree = inherited.unwrap();
            (entries_before_fork..ENTRIES).for_each(|key| insert(&mut btree, key).unwrap());
            btree.commit().unwrap();
            drop(btree);
            let mut btree = open();
            btree.begin(TransactionKind::Read).unwrap();
            let roots = [1, i64::from(root.get())];
            let complaints = btree.integrity_check(&roots, 10).unwrap();
            assert_eq!(complaints, [""; 0], "{what}, {cache} pages");
            let cursor = btree.open_cursor(root, false).unwrap();
            let mut keys = 0;
            let mut more = btree.first(cursor).unwrap();
            while more {
                assert_eq!(btree.integer_key(cursor).unwrap(), keys);
                keys += 1;
                more = btree.next(cursor).unwrap();
            }
            assert_eq!(keys, ENTRIES, "{what}, {cache} pages");
        }
    }
}

/// A child that is forked while its parent is inside of a shared page cache leaves that, whatever
/// another thread is doing with the turn at it.
#[test]
fn a_forked_child_leaves_a_shared_page_cache_without_waiting() {
    use crate::{CacheRegistry, Options};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    if is_run_alone("os::unix::tests::a_forked_child_leaves_a_shared_page_cache_without_waiting") {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    let (registry, disk) = (CacheRegistry::new(), Arc::new(UnixVfs::new()));
    let (one_client, other_client) = (registry.client(), registry.client());
    let open = |client: &crate::Client, path: &Path| {
        client.open(Arc::clone(&disk) as Arc<dyn Vfs>, path, &Options::default()).unwrap()
    };
    let (one, other) = (open(&one_client, &path), open(&other_client, &path));
    let mine = open(&other_client, &scratch.path("mine.db"));
    let is_over = AtomicBool::new(false);
    let answer = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    if other.hold_within(Duration::ZERO) {
                        other.let_go().unwrap();
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                mine.hold().and_then(|()| mine.let_go()).unwrap();
            }
        });
        let fork = || {
            let mut inherited = Some(one.enter().unwrap());
            in_child(|| {
                drop(inherited.take());
                // Through the client of a thread that is not there.
                let own = open(&other_client, &scratch.path("own.db"));
                i32::from((0..10).any(|_| own.hold().and_then(|()| own.let_go()).is_err()))
            })
        };
        let answer = (0..200).map(|_| fork()).find(|answer| *answer != Some(0));
        is_over.store(true, Ordering::Relaxed);
        answer
    });
    assert_eq!(answer, None, "a child hangs");
}

/// Two threads of a child hold two page caches in opposite order, opened through a client that the
/// child has inherited: the later cache is given back for the time of waiting there, too.
#[test]
fn threads_of_a_forked_child_do_not_wait_for_each_other() {
    use crate::{CacheRegistry, Options, SharedConnection};
    use std::sync::Arc;

    if cfg!(tsan) {
        eprintln!("SKIPPED threads of a forked child: ThreadSanitizer lets a child start none");
        return;
    }
    if is_run_alone("os::unix::tests::threads_of_a_forked_child_do_not_wait_for_each_other") {
        return;
    }
    let scratch = Scratch::new();
    let (registry, disk) = (CacheRegistry::new(), Arc::new(UnixVfs::new()));
    let client = registry.client();
    let open = |name: &str| {
        let disk = Arc::clone(&disk) as Arc<dyn Vfs>;
        client.open(disk, scratch.path(name), &Options::default()).unwrap()
    };
    let inherited = open("inherited.db");
    inherited.hold().unwrap();
    let answer = in_child(|| {
        let (one, other) = (open("one.db"), open("other.db"));
        let hold = |first: &SharedConnection, second: &SharedConnection| {
            for _ in 0..5000 {
                first.hold().and_then(|()| second.hold()).unwrap();
                second.let_go().and_then(|()| first.let_go()).unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| hold(&one, &other));
            scope.spawn(|| hold(&other, &one));
        });
        0
    });
    assert_eq!(answer, Some(0));
    inherited.let_go().unwrap();
}

/// A thread that is not there in a forked child is inside of a shared page cache: nobody waits for
/// it, and what the child opens itself it can use.
#[test]
fn a_forked_child_does_not_wait_for_a_shared_page_cache() {
    use crate::{CacheRegistry, Error, Key, Options, TABLE, TransactionKind};
    use std::sync::{Arc, Barrier};
    use std::time::Duration;

    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    let (registry, disk) = (CacheRegistry::new(), Arc::new(UnixVfs::new()));
    let client = registry.client();
    let open = |client: &crate::Client| {
        client.open(Arc::clone(&disk) as Arc<dyn Vfs>, &path, &Options::default()).unwrap()
    };
    let (one, other) = (open(&client), open(&registry.client()));
    let root = {
        let mut entered = one.enter().unwrap();
        entered.begin(TransactionKind::Write).unwrap();
        let root = entered.create_table(TABLE).unwrap();
        entered.commit().unwrap();
        root
    };
    let (inside, forked) = (Barrier::new(2), Barrier::new(2));
    let mut inherited = Some(other);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut entered = one.enter().unwrap();
            entered.begin(TransactionKind::Write).unwrap();
            inside.wait();
            forked.wait();
            let cursor = entered.open_cursor(root, true).unwrap();
            entered.insert(cursor, Key::Integer(1), b"one", 0).unwrap();
            entered.close_cursor(cursor);
            entered.commit().unwrap();
        });
        inside.wait();
        let answer = in_child(|| {
            let other = inherited.take().unwrap();
            let is_refused = matches!(other.hold(), Err(Error::Misuse(_)))
                && matches!(other.enter().map(drop), Err(Error::Misuse(_)))
                && matches!(other.let_go(), Err(Error::Misuse(_)))
                && !other.hold_within(Duration::from_secs(60));
            drop(other);
            let own = open(&client);
            let mut entered = own.enter().unwrap();
            // The parent has the reserved lock.
            let begun = entered.begin(TransactionKind::Read).is_ok()
                && matches!(entered.begin(TransactionKind::Write), Err(Error::Busy));
            drop(entered);
            i32::from(!is_refused) + 2 * i32::from(!begun)
        });
        forked.wait();
        assert_eq!(answer, Some(0));
    });
    let other = inherited.unwrap();
    let mut entered = other.enter().unwrap();
    entered.begin(TransactionKind::Read).unwrap();
    let cursor = entered.open_cursor(root, false).unwrap();
    assert!(entered.first(cursor).unwrap());
}
