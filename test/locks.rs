//! Two processes, this engine and stock SQLite, on one file: nothing lost, nothing misread.
//!
//! The other process is this test program again, running [`stock_process`], which obeys one
//! command per line.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode};
use support::book::{Book, Form};
use support::record::{Field, decode, encode, integer};
use support::{Directory, stock};
use tclbtree::{Btree, Error, Key, Options, TransactionKind, UnixVfs};

/// Tells the re-executed program which file to work on.
const VARIABLE: &str = "TCLBTREE_LOCKS_FILE";

/// The counter starts here; 0 and 1 are stored without bytes.
const START: i64 = 0;

/// The other side of [`Other`]; nothing when it runs as a test.
#[test]
fn stock_process() {
    let Ok(path) = std::env::var(VARIABLE) else { return };
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let answer = match line.strip_prefix("increment ") {
            Some(times) => increment_by_stock(&connection, times.parse().unwrap()),
            None => match connection.execute_batch(&line) {
                Ok(()) => "ok".to_owned(),
                Err(error) if is_busy(&error) => "busy".to_owned(),
                Err(error) => format!("error {error}"),
            },
        };
        // The harness prints before the first answer; the mark tells them apart.
        println!("\n@{answer}");
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// Raises the counter that often, trying again when busy; answers how often it was.
fn increment_by_stock(connection: &Connection, times: u32) -> String {
    let mut busy = 0;
    let mut retry = |sql: &str| {
        loop {
            match connection.execute_batch(sql) {
                Ok(()) => return,
                Err(error) if is_busy(&error) => busy += 1,
                Err(error) => panic!("{sql}: {error}"),
            }
            std::thread::yield_now();
        }
    };
    for _ in 0..times {
        retry("BEGIN IMMEDIATE");
        retry("UPDATE t SET b = b + 1 WHERE a = 1");
        retry("COMMIT");
    }
    format!("busy {busy}")
}

/// Stock SQLite in a process of its own.
struct Other {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(path: &Path) -> Other {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stock_process", "--nocapture"])
            .env(VARIABLE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Other { child, commands, answers }
    }

    fn send(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    fn answer(&mut self) -> String {
        loop {
            let line = self.answers.next().expect("the other process is alive").unwrap();
            if let Some(answer) = line.strip_prefix('@') {
                return answer.to_owned();
            }
        }
    }

    fn run(&mut self, command: &str) -> String {
        self.send(command);
        self.answer()
    }

    fn must(&mut self, command: &str) {
        assert_eq!(self.run(command), "ok", "{command}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open_here(path: &Path) -> Book {
    let db = Btree::open(Arc::new(UnixVfs::new()), path, &Options::default()).unwrap();
    Book::attach(db).unwrap()
}

/// A database with the counter in row 1.
fn make(path: &Path) {
    let db = Form::plain(1024).open(Arc::new(UnixVfs::new()), path, 100).unwrap();
    let mut book = Book::create(db).unwrap();
    book.db.begin(TransactionKind::Write).unwrap();
    write_counter(&mut book, START).unwrap();
    book.db.commit().unwrap();
}

fn write_counter(book: &mut Book, value: i64) -> tclbtree::Result<()> {
    let cursor = book.db.open_cursor(book.rows, true)?;
    let row = encode(&[Field::Null, Field::Integer(value)]);
    let result = book.db.insert(cursor, Key::Integer(1), &row, 0);
    book.db.close_cursor(cursor);
    result
}

fn read_counter(book: &mut Book) -> tclbtree::Result<i64> {
    let cursor = book.db.open_cursor(book.rows, false)?;
    let found = book.db.seek(cursor, Key::Integer(1));
    let record = found.and_then(|_| book.db.data(cursor));
    book.db.close_cursor(cursor);
    Ok(integer(&decode(&record?)[1]))
}

/// One increment, tried until it succeeds; returns how often somebody stood in the way.
fn increment_here(book: &mut Book) -> u64 {
    let mut busy = 0;
    let mut wait = |error: Error| {
        assert!(matches!(error, Error::Busy | Error::BusyRecovery), "{error:?}");
        busy += 1;
        std::thread::yield_now();
    };
    loop {
        match book.db.begin(TransactionKind::Write) {
            Ok(()) => break,
            Err(error) => {
                wait(error);
                // A begin that failed must not keep the shared lock and starve the other.
                assert!(!book.db.is_reading(), "lock left behind by a refused begin");
            }
        }
    }
    let value = read_counter(book).unwrap();
    write_counter(book, value + 1).unwrap();
    while let Err(error) = book.db.commit() {
        wait(error);
    }
    busy
}

#[test]
fn five_hundred_increments_each_lose_nothing() {
    let directory = Directory::new("increments");
    let path = directory.file("t.db");
    make(&path);
    let mut other = Other::start(&path);
    let mut book = open_here(&path);
    other.send("increment 500");
    let busy: u64 = (0..500).map(|_| increment_here(&mut book)).sum();
    println!("here busy {busy}, stock {}", other.answer());
    assert_eq!(read_counter(&mut book).unwrap(), START + 1000);
    let connection = stock::open(&path);
    assert_eq!(stock::integrity(&connection), "ok");
    let query = "SELECT b FROM t WHERE a = 1";
    let counter: i64 = connection.query_row(query, [], |row| row.get(0)).unwrap();
    assert_eq!(counter, START + 1000);
}

#[test]
fn turns_that_alternate_see_each_other() {
    let directory = Directory::new("turns");
    let path = directory.file("t.db");
    make(&path);
    let mut other = Other::start(&path);
    let mut book = open_here(&path);
    for turn in 0..500 {
        assert_eq!(increment_here(&mut book), 0);
        assert_eq!(other.run("increment 1"), "busy 0");
        assert_eq!(read_counter(&mut book).unwrap(), START + 2 * turn + 2, "D177, turn {turn}");
    }
}

/// A lock that one side holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

/// What file-format 5.2 allows beside `held`: a new reader, a reserved lock, an exclusive one.
fn allowed(held: Held) -> [bool; 3] {
    match held {
        Held::Nothing => [true, true, true],
        Held::Shared => [true, true, false],
        Held::Reserved => [true, false, false],
        Held::Pending | Held::Exclusive => [false, false, false],
    }
}

const HELD: [Held; 5] =
    [Held::Nothing, Held::Shared, Held::Reserved, Held::Pending, Held::Exclusive];

/// Runs `case` with its own file and process.
fn with_files(case: impl Fn(&Path, &mut Other)) {
    let directory = Directory::new("matrix");
    let path = directory.file("t.db");
    make(&path);
    case(&path, &mut Other::start(&path));
}

#[test]
fn locks_of_stock_are_respected_here() {
    for held in HELD {
        with_files(|path, other| {
            // A reader in a third process makes the writer stop at PENDING.
            let mut reader = Other::start(path);
            match held {
                Held::Nothing => {}
                Held::Shared => other.must("BEGIN; SELECT * FROM t"),
                Held::Reserved => other.must("BEGIN IMMEDIATE"),
                Held::Exclusive => other.must("BEGIN EXCLUSIVE"),
                Held::Pending => {
                    reader.must("BEGIN; SELECT * FROM t");
                    other.must("BEGIN IMMEDIATE; INSERT INTO t VALUES(77, 'x')");
                    assert_eq!(other.run("COMMIT"), "busy");
                }
            }
            let kinds = [TransactionKind::Read, TransactionKind::Write, TransactionKind::Exclusive];
            for (kind, allowed) in kinds.into_iter().zip(allowed(held)) {
                let mut db =
                    Btree::open(Arc::new(UnixVfs::new()), path, &Options::default()).unwrap();
                match db.begin(kind) {
                    Ok(()) => assert!(allowed, "{kind:?} beside {held:?} of stock"),
                    Err(error) => {
                        assert_eq!(error, Error::Busy, "{kind:?} beside {held:?} of stock");
                        assert!(!allowed, "{kind:?} beside {held:?} of stock");
                    }
                }
                db.close();
            }
        });
    }
}

#[test]
fn locks_of_this_engine_are_respected_by_stock() {
    for held in HELD {
        with_files(|path, other| {
            let mut reader = Other::start(path);
            let mut book = open_here(path);
            match held {
                Held::Nothing => {}
                Held::Shared => book.db.begin(TransactionKind::Read).unwrap(),
                Held::Reserved => book.db.begin(TransactionKind::Write).unwrap(),
                Held::Exclusive => book.db.begin(TransactionKind::Exclusive).unwrap(),
                Held::Pending => {
                    reader.must("BEGIN; SELECT * FROM t");
                    book.db.begin(TransactionKind::Write).unwrap();
                    write_counter(&mut book, 5).unwrap();
                    assert_eq!(book.db.commit(), Err(Error::Busy));
                }
            }
            let commands = ["BEGIN; SELECT * FROM t", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"];
            for (command, allowed) in commands.into_iter().zip(allowed(held)) {
                let expected = if allowed { "ok" } else { "busy" };
                assert_eq!(other.run(command), expected, "{command} beside {held:?}");
                other.run("ROLLBACK");
            }
            if held == Held::Pending {
                // D174: the transaction stays open and succeeds when the reader has left.
                reader.must("COMMIT");
                book.db.commit().unwrap();
                assert_eq!(read_counter(&mut book).unwrap(), 5);
            }
        });
    }
}

/// D153: old content until the commit, and a reader keeps the writer from committing.
#[test]
fn a_reader_sees_one_state_and_holds_the_writer_up() {
    with_files(|path, other| {
        let mut book = open_here(path);
        book.db.begin(TransactionKind::Read).unwrap();
        let before = book.content().unwrap();
        other.must("BEGIN IMMEDIATE; UPDATE t SET b = 2000");
        assert_eq!(other.run("COMMIT"), "busy");
        assert!(book.content().unwrap() == before);
        book.db.commit().unwrap();
        other.must("COMMIT");
        assert_eq!(read_counter(&mut book).unwrap(), 2000);
    });
}
