//! Files both ways: made here and read by stock SQLite, made by stock SQLite and changed here.
//!
//! `TCLBTREE_TRANSACTIONS` sets the transactions per setting (40; 1000 with `TCLBTREE_LONG=1`,
//! which also adds the file of 100 MB), `TCLBTREE_SEED` the first seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rusqlite::Connection;
use support::book::{Book, Change, Content, Form, schema_roots};
use support::random::Random;
use support::record::{Field, blob, bytes, decode, encode, integer};
use support::{Directory, is_long, number_from, skipped, stock};
use tclbtree::format::{AutoVacuum, PageNumber};
use tclbtree::{Btree, Key, Options, TransactionKind, UnixVfs};

const VACUUMS: [AutoVacuum; 3] = [AutoVacuum::None, AutoVacuum::Full, AutoVacuum::Incremental];

fn open_here(path: &Path) -> Btree {
    Btree::open(Arc::new(UnixVfs::new()), path, &Options::default()).unwrap()
}

#[test]
fn files_made_here_are_sound_to_stock() {
    let usual = if is_long() { 1000 } else { 40 };
    let transactions = number_from("TCLBTREE_TRANSACTIONS", usual);
    let seed = number_from("TCLBTREE_SEED", 1);
    for bits in 9..=16 {
        for auto_vacuum in VACUUMS {
            for reserved in [0, 32] {
                let form = Form { page_size: 1 << bits, reserved, auto_vacuum };
                let mut random =
                    Random::new(seed ^ u64::from(form.page_size + u32::from(reserved)));
                exchange(form, transactions, &mut random);
            }
        }
    }
}

/// Transactions of this engine, now and then one of stock SQLite, both reading after each.
fn exchange(form: Form, transactions: u64, random: &mut Random) {
    let directory = Directory::new("interop");
    let path = directory.file("t.db");
    let cache = random.pick(&[10, 200]);
    let mut book =
        Book::create(form.open(Arc::new(UnixVfs::new()), &path, cache).unwrap()).unwrap();
    let mut content = Content::default();
    for number in 0..transactions {
        let mut expected = content.clone();
        let changes: Vec<_> = (0..random.between(1, 25))
            .map(|_| {
                let change = Change::random(random, &expected, form.page_size as usize);
                change.expect(&mut expected);
                change
            })
            .collect();
        match random.below(10) {
            0..7 => {
                book.commit(&changes).unwrap();
                content = expected;
            }
            7 => {
                book.db.begin(TransactionKind::Write).unwrap();
                changes.iter().for_each(|change| book.apply(change).unwrap());
                book.db.rollback().unwrap();
            }
            _ => {
                change_by_stock(&path, &changes);
                content = expected;
            }
        }
        let context = format!("{form:?}, transaction {number}");
        assert_same(&path, &mut book, &content, &context);
    }
    assert_eq!(book.db.stats().pinned, 0, "{form:?}");
}

fn assert_same(path: &Path, book: &mut Book, content: &Content, context: &str) {
    let connection = stock::open(path);
    assert_eq!(stock::integrity(&connection), "ok", "{context}");
    assert!(Content::by_stock(&connection).unwrap() == *content, "stock's view: {context}");
    drop(connection);
    let here = book.checked_content().unwrap();
    assert!(here == *content, "our view: {}, {context}", here.summary());
}

fn change_by_stock(path: &Path, changes: &[Change]) {
    let mut connection = stock::open(path);
    let transaction = connection.transaction().unwrap();
    for change in changes {
        match change {
            Change::Put(a, b) => {
                transaction.execute("INSERT OR REPLACE INTO t VALUES(?, ?)", (a, b))
            }
            Change::Remove(a) => transaction.execute("DELETE FROM t WHERE a = ?", [a]),
            Change::AddKey(key) => transaction.execute("INSERT OR IGNORE INTO w VALUES(?)", [key]),
            Change::RemoveKey(key) => transaction.execute("DELETE FROM w WHERE k = ?", [key]),
        }
        .unwrap();
    }
    transaction.commit().unwrap();
}

/// Tables, an index, WITHOUT ROWID, overflow, free pages, fragments, dropped tables.
const STOCK_SCRIPT: &str = "
    CREATE TABLE dropped(x);
    CREATE TABLE plain(a INTEGER PRIMARY KEY, b BLOB);
    CREATE TABLE x(a INTEGER PRIMARY KEY, b TEXT);
    CREATE INDEX xb ON x(b);
    CREATE TABLE w(k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID;
    CREATE TABLE small(k PRIMARY KEY) WITHOUT ROWID;
    INSERT INTO small VALUES(0), (1), (''), (x'');
    WITH RECURSIVE n(i) AS (VALUES(2) UNION ALL SELECT i + 1 FROM n WHERE i < :rows)
        INSERT INTO plain SELECT i, randomblob(abs(random()) % 300) FROM n;
    WITH RECURSIVE n(i) AS (VALUES(2) UNION ALL SELECT i + 1 FROM n WHERE i < :rows)
        INSERT INTO x SELECT i, hex(randomblob(abs(random()) % 60)) FROM n;
    WITH RECURSIVE n(i) AS (VALUES(2) UNION ALL SELECT i + 1 FROM n WHERE i < :rows)
        INSERT OR IGNORE INTO w SELECT 'key ' || (i * 7919 % 100003), randomblob(i % 90) FROM n;
    INSERT INTO plain VALUES(-1, randomblob(70000)), (9223372036854775807, randomblob(9000)),
        (-9223372036854775808, randomblob(5000));
    UPDATE w SET v = randomblob(20000) WHERE k LIKE '%77';
    DROP TABLE dropped;
    DELETE FROM plain WHERE a % 5 = 0;
    UPDATE plain SET b = randomblob(a % 400) WHERE a % 3 = 0;
    UPDATE x SET b = b || hex(randomblob(30)) WHERE a % 4 = 0;
    DELETE FROM w WHERE k LIKE '%3';
";

fn make_by_stock(path: &Path, page_size: u32, auto_vacuum: u32, rows: u64) {
    let connection = stock::open(path);
    connection.pragma_update(None, "page_size", page_size).unwrap();
    connection.pragma_update(None, "auto_vacuum", auto_vacuum).unwrap();
    connection.pragma_update(None, "synchronous", 0).unwrap();
    let script = STOCK_SCRIPT.replace(":rows", &rows.to_string());
    connection.execute_batch(&format!("BEGIN; {script} COMMIT;")).unwrap();
}

#[test]
fn files_made_by_stock_are_changed_here_and_handed_back() {
    let seed = number_from("TCLBTREE_SEED", 1);
    for page_size in [512, 1024, 4096, 32768, 65536] {
        for auto_vacuum in 0..=2 {
            let directory = Directory::new("stock");
            let path = directory.file("t.db");
            make_by_stock(&path, page_size, auto_vacuum, 700);
            let mut random = Random::new(seed + u64::from(page_size + auto_vacuum));
            change_and_hand_back(&path, &mut random, &format!("{page_size}/{auto_vacuum}"));
        }
    }
}

#[test]
fn a_file_of_100_megabytes_is_changed_here_and_handed_back() {
    if !is_long() {
        return skipped("the file of 100 MB", "long form only (TCLBTREE_LONG=1)");
    }
    let directory = Directory::new("large");
    let path = directory.file("t.db");
    make_by_stock(&path, 4096, 0, 400_000);
    let filler = stock::open(&path);
    filler.execute_batch("INSERT INTO plain(b) SELECT randomblob(900) FROM w LIMIT 60000").unwrap();
    drop(filler);
    assert!(std::fs::metadata(&path).unwrap().len() > 100_000_000);
    change_and_hand_back(&path, &mut Random::new(1), "large");
}

#[test]
fn a_file_with_reserved_bytes_made_by_the_program_is_changed_here() {
    if !stock::has_program() {
        return skipped("reserved bytes by the sqlite3 program", "there is no sqlite3");
    }
    for (page_size, reserved) in [(512, 32), (1024, 1), (4096, 12), (4096, 255), (65536, 32)] {
        let directory = Directory::new("reserved");
        let path = directory.file("t.db");
        let script = STOCK_SCRIPT.replace(":rows", "300");
        let output = Command::new("sqlite3")
            .arg(&path)
            .args([&format!("PRAGMA page_size={page_size}"), "PRAGMA synchronous=0"])
            .args([&format!(".filectrl reserve_bytes {reserved}"), "BEGIN", &script, "COMMIT"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read(&path).unwrap()[20], reserved);
        let context = format!("{page_size} with {reserved} reserved");
        change_and_hand_back(&path, &mut Random::new(7), &context);
    }
}

fn count_by_stock(connection: &Connection, table: &str) -> u64 {
    let count: i64 = connection
        .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
        .unwrap();
    count as u64
}

/// Walks and checks a file of `STOCK_SCRIPT`, changes it, and lets stock judge the result.
fn change_and_hand_back(path: &Path, random: &mut Random, context: &str) {
    let connection = stock::open(path);
    let counts = ["plain", "x", "w", "small"].map(|table| count_by_stock(&connection, table));
    drop(connection);
    let mut db = open_here(path);
    let roots = check_all(&mut db, context);
    let root = |name: &str| roots.iter().find(|(tree, _)| tree == name).unwrap().1;
    for (name, expected) in [("plain", counts[0]), ("x", counts[1]), ("xb", counts[1])]
        .into_iter()
        .chain([("w", counts[2]), ("small", counts[3])])
    {
        assert_eq!(walk(&mut db, root(name)), expected, "entries of {name}: {context}");
    }
    db.begin(TransactionKind::Write).unwrap();
    let (added, removed) = change_plain(&mut db, root("plain"), random);
    let unindexed = remove_indexed(&mut db, root("x"), root("xb"), random);
    let keys = remove_somewhere(&mut db, root("w"), 15, random);
    db.commit().unwrap();
    check_all(&mut db, context);
    db.close();

    let connection = stock::open(path);
    assert_eq!(stock::integrity(&connection), "ok", "{context}");
    assert_eq!(count_by_stock(&connection, "plain"), counts[0] + added - removed, "{context}");
    assert_eq!(count_by_stock(&connection, "x"), counts[1] - unindexed, "{context}");
    assert_eq!(count_by_stock(&connection, "w"), counts[2] - keys.len() as u64, "{context}");
    for key in keys {
        let query = "SELECT count(*) FROM w WHERE k = CAST(? AS TEXT)";
        let left: i64 = connection.query_row(query, [&key], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{context}: key {key:?}");
    }
    let more = "DELETE FROM plain WHERE a % 7 = 1; DELETE FROM x WHERE b LIKE '%A%';
        INSERT INTO w SELECT 'again ' || a, b FROM plain WHERE a BETWEEN 0 AND 200;";
    connection.execute_batch(more).unwrap();
    assert_eq!(stock::integrity(&connection), "ok", "{context}");
    drop(connection);
    check_all(&mut open_here(path), context);
}

fn check_all(db: &mut Btree, context: &str) -> Vec<(String, PageNumber)> {
    db.begin(TransactionKind::Read).unwrap();
    let roots = schema_roots(db).unwrap();
    let mut numbers = vec![1];
    numbers.extend(roots.iter().map(|(_, root)| i64::from(root.get())));
    let lines = db.integrity_check(&numbers, 20).unwrap();
    assert!(lines.is_empty(), "{context}: {lines:?}");
    db.commit().unwrap();
    assert_eq!(db.stats().pinned, 0, "{context}");
    roots
}

/// Walks the tree both ways and returns the number of entries.
fn walk(db: &mut Btree, root: PageNumber) -> u64 {
    let cursor = db.open_cursor(root, false).unwrap();
    let integers = db.has_integer_keys(cursor).unwrap();
    let (mut forward, mut backward) = (0, 0);
    let mut more = db.first(cursor).unwrap();
    while more {
        forward += 1;
        let record = if integers { db.data(cursor) } else { db.key(cursor) };
        assert!(!decode(&record.unwrap()).is_empty());
        more = db.next(cursor).unwrap();
    }
    more = db.last(cursor).unwrap();
    while more {
        backward += 1;
        more = db.previous(cursor).unwrap();
    }
    assert_eq!(forward, backward);
    db.first(cursor).unwrap();
    assert_eq!(db.count(cursor).unwrap(), forward);
    db.close_cursor(cursor);
    forward
}

/// Adds rows above the present ones and removes some; how many of each.
fn change_plain(db: &mut Btree, root: PageNumber, random: &mut Random) -> (u64, u64) {
    let cursor = db.open_cursor(root, true).unwrap();
    let page = db.page_size().bytes().min(20_000);
    for number in 0..60 {
        let longest = if number % 10 == 0 { 3 * page } else { 200 };
        let length = random.below(longest);
        let row = encode(&[Field::Null, blob(&random.bytes(length))]);
        db.insert(cursor, Key::Integer(10_000_000 + number * 3), &row, 0).unwrap();
    }
    let mut removed = 0;
    for key in (2..400).chain([-1, i64::MIN, i64::MAX]) {
        if random.percent(60) && db.seek(cursor, Key::Integer(key)).unwrap().is_eq() {
            db.delete(cursor).unwrap();
            removed += 1;
        }
    }
    db.close_cursor(cursor);
    (60, removed)
}

/// Removes rows with their index entries, which are found by walking: stock orders an index by
/// values, not by bytes.
fn remove_indexed(db: &mut Btree, x: PageNumber, xb: PageNumber, random: &mut Random) -> u64 {
    let rows = db.open_cursor(x, true).unwrap();
    let entries = db.open_cursor(xb, true).unwrap();
    let mut removed = 0;
    for _ in 0..25 {
        let wanted = random.between(2, 290) as i64;
        if db.seek(rows, Key::Integer(wanted)).unwrap().is_ne() {
            continue;
        }
        db.delete(rows).unwrap();
        let mut more = db.first(entries).unwrap();
        loop {
            assert!(more, "row {wanted} has no index entry");
            let fields = decode(&db.key(entries).unwrap());
            if integer(fields.last().unwrap()) == wanted {
                break;
            }
            more = db.next(entries).unwrap();
        }
        db.delete(entries).unwrap();
        removed += 1;
    }
    db.close_cursor(rows);
    db.close_cursor(entries);
    removed
}

/// Removes `count` entries wherever a walk of random length ends; returns their first columns.
fn remove_somewhere(
    db: &mut Btree,
    root: PageNumber,
    count: usize,
    random: &mut Random,
) -> Vec<Vec<u8>> {
    let cursor = db.open_cursor(root, true).unwrap();
    let mut keys = Vec::new();
    for _ in 0..count {
        assert!(db.first(cursor).unwrap());
        for _ in 0..random.below(150) {
            assert!(db.next(cursor).unwrap());
        }
        keys.push(bytes(&decode(&db.key(cursor).unwrap())[0]));
        db.delete(cursor).unwrap();
    }
    db.close_cursor(cursor);
    keys
}
