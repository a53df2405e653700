//! Locks between handles of one process and of two. The second process is this test binary
//! again, which then runs [`second_process`] alone and is told what to do line by line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::super::super::{Access, File, LockLevel, MemoryVfs, OpenKind, OpenRequest, Vfs};
use super::super::UnixVfs;
use super::super::tests::{Scratch, request};
use super::super::{in_child, in_unannounced_child, is_run_alone};
use crate::error::Error;
use crate::os::simulate::scramble;

const STOCK_VARIABLE: &str = "TCLBTREE_TEST_STOCK_ON";
const CHILD_VARIABLE: &str = "TCLBTREE_TEST_LOCKS_OF";
const LEVELS: [LockLevel; 5] = [
    LockLevel::None,
    LockLevel::Shared,
    LockLevel::Reserved,
    LockLevel::Pending,
    LockLevel::Exclusive,
];

fn create() -> OpenRequest {
    request(OpenKind::Database, Access::Create)
}

/// A handle, here or in the other process.
trait Party {
    /// Whether the lock was had, and the level afterwards.
    fn raise(&mut self, level: LockLevel) -> (bool, LockLevel);
    fn lower(&mut self, level: LockLevel);
    fn sees_reserved(&mut self) -> bool;
    /// Which of the two processes it lives in.
    fn process(&self) -> usize;
}

impl Party for Box<dyn File> {
    fn raise(&mut self, level: LockLevel) -> (bool, LockLevel) {
        let had = match self.lock(level) {
            Ok(()) => true,
            Err(Error::Busy) => false,
            Err(other) => panic!("{other}"),
        };
        (had, self.lock_level())
    }

    fn lower(&mut self, level: LockLevel) {
        self.unlock(level).unwrap();
        assert_eq!(self.lock_level(), level);
    }

    fn sees_reserved(&mut self) -> bool {
        self.check_reserved_lock().unwrap()
    }

    fn process(&self) -> usize {
        0
    }
}

/// A process that has the file open twice and does as it is told.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(path: &Path) -> Process {
        Process::start_test("second_process", CHILD_VARIABLE, path)
    }

    fn start_test(name: &str, variable: &str, path: &Path) -> Process {
        let name = format!("os::unix::lock::tests::{name}");
        let mut child = Command::new("/proc/self/exe")
            .args([&name, "--exact", "--nocapture"])
            .env(variable, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Process { child, input, output }
    }

    fn ask(&mut self, question: &str) -> (bool, LockLevel) {
        writeln!(self.input, "{question}").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the second process died");
            // Behind what the test harness prints of its own accord.
            if let Some((_, answer)) = line.split_once("answer ") {
                let (had, level) = answer.trim().split_once(' ').unwrap();
                return (had == "true", LEVELS[level.parse::<usize>().unwrap()]);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of the two handles of the other process.
struct Remote<'a>(&'a std::cell::RefCell<Process>, usize);

impl Party for Remote<'_> {
    fn raise(&mut self, level: LockLevel) -> (bool, LockLevel) {
        self.0.borrow_mut().ask(&format!("{} lock {}", self.1, level as usize))
    }

    fn lower(&mut self, level: LockLevel) {
        let answer = self.0.borrow_mut().ask(&format!("{} unlock {}", self.1, level as usize));
        assert_eq!(answer, (true, level));
    }

    fn sees_reserved(&mut self) -> bool {
        self.0.borrow_mut().ask(&format!("{} reserved 0", self.1)).0
    }

    fn process(&self) -> usize {
        1
    }
}

/// Not a test of its own: what the second process runs.
#[test]
fn second_process() {
    let Some(path) = std::env::var_os(CHILD_VARIABLE) else { return };
    let open = || UnixVfs::new().open(Some(Path::new(&path)), create()).unwrap().file;
    let mut handles = [open(), open()];
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let file = &mut handles[words[0].parse::<usize>().unwrap()];
        let level = LEVELS[words[2].parse::<usize>().unwrap()];
        let had = match words[1] {
            "lock" => file.raise(level).0,
            "unlock" => file.unlock(level).is_ok(),
            "reserved" => file.check_reserved_lock().unwrap(),
            other => panic!("{other}"),
        };
        println!("answer {had} {}", file.lock_level() as usize);
    }
}

/// Takes `party` to `level`, with the help of a reader in its way for `Pending`.
fn bring(party: &mut dyn Party, level: LockLevel, reader: &mut dyn Party) {
    if level == LockLevel::Pending {
        assert!(reader.raise(LockLevel::Shared).0);
    }
    for step in [LockLevel::Shared, LockLevel::Reserved, LockLevel::Exclusive] {
        if step <= level || level == LockLevel::Pending {
            party.raise(step);
        }
    }
    assert_eq!(party.raise(LockLevel::None).1, level);
    reader.lower(LockLevel::None);
}

/// The table of file format 5.2: what `b` may have while `a` holds something; `c` is a reader.
fn check_matrix(a: &mut dyn Party, b: &mut dyn Party, c: &mut dyn Party) {
    use LockLevel::{Exclusive, None, Pending, Reserved, Shared};
    for held in LEVELS {
        bring(a, held, c);
        assert_eq!(b.sees_reserved(), held > Shared, "{held:?}");
        assert_eq!(b.raise(Shared), if held < Pending { (true, Shared) } else { (false, None) });
        if held < Pending {
            let expected = if held < Reserved { (true, Reserved) } else { (false, Shared) };
            assert_eq!(b.raise(Reserved), expected, "{held:?}");
        }
        if held < Reserved {
            let expected = if held < Shared { (true, Exclusive) } else { (false, Pending) };
            assert_eq!(b.raise(Exclusive), expected, "{held:?}");
        }
        if held == Shared {
            // The writer waits: no new reader, and the old one may not become a writer. But a
            // process that reads already joins its own lock without asking the system.
            let joins = c.process() == a.process() && c.process() != b.process();
            assert_eq!(c.raise(Shared), if joins { (true, Shared) } else { (false, None) });
            c.lower(None);
            assert_eq!(a.raise(Reserved), (false, Shared));
            a.lower(None);
            assert_eq!(b.raise(Exclusive), (true, Exclusive));
        }
        b.lower(None);
        if held > Reserved {
            a.lower(Reserved);
            assert!(b.sees_reserved());
            assert_eq!(b.raise(Shared), (true, Shared));
            assert_eq!(b.raise(Reserved), (false, Shared));
            b.lower(None);
        }
        if held > Shared {
            a.lower(Shared);
            assert!(!b.sees_reserved());
            assert_eq!(b.raise(Shared), (true, Shared));
            b.lower(None);
        }
        a.lower(None);
        assert!(!b.sees_reserved());
    }
}

/// Random steps of four handles; each outcome follows from the levels of the others alone.
fn check_random_steps(parties: &mut [&mut dyn Party], steps: u64) {
    use LockLevel::{Exclusive, None, Pending, Reserved, Shared};
    let mut levels = vec![None; parties.len()];
    let mut recovered = vec![false; parties.len()];
    for step in 0..steps {
        let random = scramble(step) as usize;
        let who = random % parties.len();
        let others = |test: &dyn Fn(LockLevel) -> bool| {
            levels.iter().enumerate().any(|(i, &level)| i != who && test(level))
        };
        let held = levels[who];
        let home = parties[who].process();
        let strongest_at_home =
            (0..levels.len()).filter(|&i| parties[i].process() == home).map(|i| levels[i]).max();
        let joins = matches!(strongest_at_home, Some(Shared | Reserved));
        let choice = random / 16 % 8;
        if choice < 2 {
            let wanted = [None, Shared][choice].min(held);
            parties[who].lower(wanted);
            levels[who] = wanted;
            recovered[who] = false;
        } else if choice == 2 {
            if !recovered.contains(&true) {
                let expected = levels.iter().any(|&level| level > Shared);
                assert_eq!(parties[who].sees_reserved(), expected, "step {step}");
            }
        } else {
            let (wanted, expected) = match held {
                None if joins => (Shared, (true, Shared)),
                None if others(&|level| level >= Pending) => (Shared, (false, None)),
                None => (Shared, (true, Shared)),
                Shared if choice == 3 && others(&|level| level >= Shared) => {
                    (Exclusive, (false, Shared))
                }
                Shared if choice == 3 => (Exclusive, (true, Exclusive)),
                Shared if others(&|level| level > Shared) => (Reserved, (false, Shared)),
                Shared => (Reserved, (true, Reserved)),
                _ if others(&|level| level >= Shared) && held < Exclusive => {
                    (Exclusive, (false, Pending))
                }
                _ => (Exclusive, (true, Exclusive)),
            };
            let outcome = parties[who].raise(wanted);
            assert_eq!(outcome, expected, "step {step}: {who} from {held:?}, {levels:?}");
            recovered[who] |= held == Shared && outcome.1 == Exclusive;
            levels[who] = outcome.1;
        }
    }
}

fn handles(vfs: &dyn Vfs, path: &Path) -> [Box<dyn File>; 4] {
    std::array::from_fn(|_| vfs.open(Some(path), create()).unwrap().file)
}

// D537
#[test]
fn matrix_of_handles_in_one_process() {
    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    let disks: [&dyn Vfs; 2] = [&UnixVfs::new(), &MemoryVfs::new()];
    for vfs in disks {
        let [mut a, mut b, mut c, mut d] = handles(vfs, &path);
        check_matrix(&mut a, &mut b, &mut c);
        check_random_steps(&mut [&mut a, &mut b, &mut c, &mut d], 20_000);
    }
}

// D537
#[test]
fn matrix_of_handles_in_two_processes() {
    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    let [mut a, mut b, ..] = handles(&UnixVfs::new(), &path);
    let process = std::cell::RefCell::new(Process::start(&path));
    let (mut c, mut d) = (Remote(&process, 0), Remote(&process, 1));
    check_matrix(&mut a, &mut c, &mut b);
    check_matrix(&mut a, &mut c, &mut d);
    check_matrix(&mut c, &mut a, &mut d);
    check_matrix(&mut c, &mut a, &mut b);
    check_random_steps(&mut [&mut a, &mut b, &mut c, &mut d], 5_000);
}

// Recovery is exclusive without ever having been reserved.
#[test]
fn recovery_can_go_on_as_a_writer_that_lets_readers_in() {
    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    let [mut ours, ..] = handles(&UnixVfs::new(), &path);
    let process = std::cell::RefCell::new(Process::start(&path));
    let mut other = Remote(&process, 0);
    ours.raise(LockLevel::Shared);
    assert_eq!(ours.raise(LockLevel::Exclusive), (true, LockLevel::Exclusive));
    assert!(!other.sees_reserved());
    ours.lower(LockLevel::Reserved);
    assert!(other.sees_reserved());
    assert_eq!(other.raise(LockLevel::Shared), (true, LockLevel::Shared));
    assert_eq!(other.raise(LockLevel::Reserved), (false, LockLevel::Shared));
    assert_eq!(ours.raise(LockLevel::Exclusive), (false, LockLevel::Pending));
    other.lower(LockLevel::None);
    assert_eq!(ours.raise(LockLevel::Exclusive), (true, LockLevel::Exclusive));
}

// Rule 5 of the contract; format 5.3.
#[test]
fn closing_a_handle_drops_its_own_locks_only() {
    let scratch = Scratch::new();
    let (vfs, path) = (UnixVfs::new(), scratch.path("t.db"));
    let process = std::cell::RefCell::new(Process::start(&path));
    let mut other = Remote(&process, 0);
    let [mut holder, mut closing, idle, _] = handles(&vfs, &path);
    assert!(holder.raise(LockLevel::Shared).0);
    assert!(closing.raise(LockLevel::Shared).0);
    assert!(closing.raise(LockLevel::Reserved).0);
    assert!(other.sees_reserved());
    drop(closing);
    drop(idle);
    assert!(!other.sees_reserved(), "the reserved lock went with its handle");
    assert!(other.raise(LockLevel::Shared).0);
    assert!(other.raise(LockLevel::Reserved).0);
    assert_eq!(other.raise(LockLevel::Exclusive), (false, LockLevel::Pending));
    drop(holder);
    assert_eq!(other.raise(LockLevel::Exclusive), (true, LockLevel::Exclusive));
    drop(process);
}

// D537, across threads.
#[test]
fn a_writer_is_alone_also_among_threads() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    let (readers, writers, turns) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let threads = [0, 1, 2, 3u64].map(|thread| {
            let (readers, writers, turns, path) = (&readers, &writers, &turns, &path);
            scope.spawn(move || {
                for round in 0..2_000u64 {
                    // Opened anew each time, so that closing takes part.
                    let mut file = UnixVfs::new().open(Some(path), create()).unwrap().file;
                    if file.lock(LockLevel::Shared).is_err() {
                        continue;
                    }
                    readers.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(writers.load(Ordering::SeqCst), 0);
                    let write = scramble(round * 4 + thread) & 1 == 0;
                    if write && file.lock(LockLevel::Reserved).is_ok() {
                        readers.fetch_sub(1, Ordering::SeqCst);
                        if file.lock(LockLevel::Exclusive).is_ok() {
                            assert_eq!(writers.fetch_add(1, Ordering::SeqCst), 0);
                            assert_eq!(readers.load(Ordering::SeqCst), 0);
                            turns.fetch_add(1, Ordering::SeqCst);
                            writers.fetch_sub(1, Ordering::SeqCst);
                        }
                    } else {
                        readers.fetch_sub(1, Ordering::SeqCst);
                    }
                    // Half of the locks fall with the handle.
                    if round % 2 == 0 {
                        file.unlock(LockLevel::None).unwrap();
                    }
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert!(turns.load(std::sync::atomic::Ordering::SeqCst) > 0);
}

#[test]
fn steps_outside_of_the_diagram_are_refused() {
    let scratch = Scratch::new();
    let mut file = UnixVfs::new().open(Some(&scratch.path("t")), create()).unwrap().file;
    for level in [LockLevel::Reserved, LockLevel::Pending, LockLevel::Exclusive] {
        assert!(matches!(file.lock(level), Err(Error::Misuse(_))));
        assert!(matches!(file.unlock(level), Err(Error::Misuse(_))));
    }
    assert_eq!(file.lock_level(), LockLevel::None);
}

/// Not a test of its own: stock SQLite in the second process, told statements line by line.
#[test]
fn stock_process() {
    let Some(path) = std::env::var_os(STOCK_VARIABLE) else { return };
    let stock = rusqlite::Connection::open(path).unwrap();
    stock.busy_timeout(std::time::Duration::ZERO).unwrap();
    for statement in std::io::stdin().lines() {
        let done = stock.execute_batch(&statement.unwrap()).is_ok();
        println!("answer {done} 0");
    }
}

// Format 5.1, 5.2: the bytes mean the same to stock SQLite.
#[test]
fn stock_sqlite_sees_our_locks_and_we_see_its() {
    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    let mut process = Process::start_test("stock_process", STOCK_VARIABLE, &path);
    let mut stock = |statement: &str| process.ask(statement).0;
    assert!(stock("CREATE TABLE t(a)"));
    let [mut ours, mut reader, ..] = handles(&UnixVfs::new(), &path);

    assert!(stock("BEGIN IMMEDIATE; INSERT INTO t VALUES(1)"));
    assert!(ours.sees_reserved());
    assert_eq!(ours.raise(LockLevel::Shared), (true, LockLevel::Shared));
    assert_eq!(ours.raise(LockLevel::Reserved), (false, LockLevel::Shared));
    assert!(!stock("COMMIT"), "a reader of ours is in the way");
    assert_eq!(reader.raise(LockLevel::Shared), (true, LockLevel::Shared), "joins");
    reader.lower(LockLevel::None);
    ours.lower(LockLevel::None);
    assert_eq!(ours.raise(LockLevel::Shared), (false, LockLevel::None), "its pending lock");
    assert!(stock("COMMIT"));
    assert!(stock("BEGIN EXCLUSIVE"));
    assert_eq!(ours.raise(LockLevel::Shared), (false, LockLevel::None));
    assert!(stock("COMMIT"));

    for level in LEVELS {
        bring(&mut ours, level, &mut reader);
        assert_eq!(stock("SELECT * FROM t"), level < LockLevel::Pending, "{level:?}");
        assert_eq!(stock("BEGIN IMMEDIATE; ROLLBACK"), level < LockLevel::Reserved, "{level:?}");
        assert_eq!(stock("BEGIN EXCLUSIVE; ROLLBACK"), level < LockLevel::Shared, "{level:?}");
        if level > LockLevel::Reserved {
            ours.lower(LockLevel::Reserved);
            assert!(stock("SELECT * FROM t"));
            assert!(!stock("BEGIN IMMEDIATE; ROLLBACK"));
        }
        ours.lower(LockLevel::None);
    }
}

/// Whether the system knows of a lock of this process on the file. What it tells is read in pieces,
/// and while others lock and unlock a line may be in neither; so it is asked often.
fn has_system_lock(path: &Path) -> bool {
    let (process, inode) = (std::process::id(), std::fs::metadata(path).unwrap().ino());
    let (process, file) = (process.to_string(), format!(":{inode}"));
    let is_ours = |line: &str| {
        let mut words = line.split_whitespace();
        words.any(|word| word == process) && words.any(|word| word.ends_with(&file))
    };
    (0..1000).any(|_| std::fs::read_to_string("/proc/locks").unwrap().lines().any(is_ours))
}

/// What its parent has locked a forked child has not: it asks the system itself. In a process of
/// its own, because any handle, and any queue, that was made before could have made the difference.
#[test]
fn a_forked_child_takes_locks_of_its_own() {
    if is_run_alone("os::unix::lock::tests::a_forked_child_takes_locks_of_its_own") {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    let open = || UnixVfs::new().open(Some(&path), create()).unwrap().file;
    let mut parents = open();
    parents.lock(LockLevel::Shared).unwrap();
    assert!(has_system_lock(&path));
    let answer = in_child(|| {
        let mut own = open();
        own.lock(LockLevel::Shared).unwrap();
        i32::from(!has_system_lock(&path))
    });
    assert_eq!(answer, Some(0));
    assert!(has_system_lock(&path));
}

/// However many forks lie behind, announced or not: each process takes its own locks.
#[test]
fn each_of_many_generations_takes_locks_of_its_own() {
    fn descend(path: &Path, depth: u32) -> i32 {
        let open = || UnixVfs::new().open(Some(path), create()).unwrap().file;
        let mut inherited = open();
        inherited.lock(LockLevel::Shared).unwrap();
        if depth == 0 || !has_system_lock(path) {
            return depth as i32;
        }
        let go_on = || {
            let mut own = open();
            own.lock(LockLevel::Shared).unwrap();
            let before = has_system_lock(path);
            let answers = [inherited.unlock(LockLevel::None), inherited.lock(LockLevel::Reserved)];
            drop(inherited);
            let is_right = before
                && has_system_lock(path)
                && answers.iter().all(|answer| matches!(answer, Err(Error::Misuse(_))));
            drop(own);
            if is_right { descend(path, depth - 1) } else { 50 }
        };
        let answer =
            if depth.is_multiple_of(3) { in_unannounced_child(go_on) } else { in_child(go_on) };
        answer.unwrap_or(60)
    }
    if is_run_alone("os::unix::lock::tests::each_of_many_generations_takes_locks_of_its_own") {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("t.db");
    assert_eq!(descend(&path, 7), 0);
}
