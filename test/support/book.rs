//! A database that this engine and stock SQLite both understand, and its expected content.
//!
//! Two trees with schema rows: the table `t(a INTEGER PRIMARY KEY, b BLOB)`, kind 5, and the
//! index tree `w(k BLOB PRIMARY KEY) WITHOUT ROWID`, kind 2. This engine orders keys of kind 2
//! byte by byte and stock orders them as records; both agree here, because every key starts with
//! its length and a record's header grows with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tclbtree::format::{AutoVacuum, PageNumber, PageSize};
use tclbtree::os::Vfs;
use tclbtree::{Btree, CursorId, Key, Options, Result, TABLE, TransactionKind};

use super::random::Random;
use super::record::{Field, blob, bytes, decode, encode, integer, text};

/// What the schema table says.
const SCHEMA: [(&str, &str); 2] = [
    ("t", "CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)"),
    ("w", "CREATE TABLE w(k BLOB PRIMARY KEY) WITHOUT ROWID"),
];

/// The form of a database file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// Page size in bytes.
    pub(crate) page_size: u32,
    /// Reserved bytes per page.
    pub(crate) reserved: u8,
    /// How free pages leave.
    pub(crate) auto_vacuum: AutoVacuum,
}

impl Form {
    /// A plain file with pages of that many bytes.
    pub(crate) fn plain(page_size: u32) -> Form {
        Form { page_size, reserved: 0, auto_vacuum: AutoVacuum::None }
    }

    /// Options to open a database with.
    pub(crate) fn options(self, cache_size: i32) -> Options {
        let page_size = PageSize::new(self.page_size).expect("page size");
        Options { page_size, cache_size, ..Options::default() }
    }

    /// Opens a new database of this form.
    pub(crate) fn open(self, vfs: Arc<dyn Vfs>, path: &Path, cache_size: i32) -> Result<Btree> {
        let mut db = Btree::open(vfs, path, &self.options(cache_size))?;
        let page_size = PageSize::new(self.page_size);
        db.set_page_size(page_size, Some(self.reserved), false)?;
        db.set_auto_vacuum(self.auto_vacuum)?;
        Ok(db)
    }
}

/// The rows of `t` and the keys of `w`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// `t`: b by a.
    pub(crate) rows: BTreeMap<i64, Vec<u8>>,
    /// `w`: every k.
    pub(crate) keys: BTreeSet<Vec<u8>>,
}

impl Content {
    /// The content as stock SQLite reads it.
    pub(crate) fn by_stock(connection: &Connection) -> rusqlite::Result<Content> {
        let mut rows = connection.prepare("SELECT a, b FROM t ORDER BY a")?;
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows = rows.collect::<rusqlite::Result<_>>()?;
        let mut keys = connection.prepare("SELECT k FROM w ORDER BY k")?;
        let keys = keys.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(Content { rows, keys })
    }

    /// In few words, for messages of failing tests.
    pub(crate) fn summary(&self) -> String {
        format!("{} rows, {} keys", self.rows.len(), self.keys.len())
    }
}

/// One change of the content.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A row comes or gets a new b.
    Put(i64, Vec<u8>),
    /// A row goes, if it is there.
    Remove(i64),
    /// A key comes.
    AddKey(Vec<u8>),
    /// A key goes, if it is there.
    RemoveKey(Vec<u8>),
}

impl Change {
    /// A random change near `content`; payloads up to three pages now and then.
    pub(crate) fn random(random: &mut Random, content: &Content, page_size: usize) -> Change {
        let a = random.below(400) as i64 - 30;
        match random.below(100) {
            0..30 => Change::Put(a, random_payload(random, page_size)),
            30..50 => match content.rows.range(a..).next() {
                Some((&a, _)) => Change::Remove(a),
                None => Change::Remove(a),
            },
            50..80 => Change::AddKey(random_key(random, page_size)),
            _ => {
                let from = random_key(random, page_size);
                let key = content.keys.range(from.clone()..).next().cloned();
                Change::RemoveKey(key.unwrap_or(from))
            }
        }
    }

    /// Applies the change to what is expected.
    pub(crate) fn expect(&self, content: &mut Content) {
        match self {
            Change::Put(a, b) => drop(content.rows.insert(*a, b.clone())),
            Change::Remove(a) => drop(content.rows.remove(a)),
            Change::AddKey(key) => drop(content.keys.insert(key.clone())),
            Change::RemoveKey(key) => drop(content.keys.remove(key)),
        }
    }
}

/// A payload length around the bounds that decide where bytes go.
fn random_payload(random: &mut Random, page_size: usize) -> Vec<u8> {
    let length = match random.below(20) {
        0 => random.below(3 * page_size.min(20_000)),
        1..4 => page_size.saturating_sub(random.below(60)),
        4..7 => page_size / 4 + random.below(page_size / 8),
        _ => random.below(120),
    };
    random.bytes(length)
}

/// A key that starts with its own length; see the head of this file.
fn random_key(random: &mut Random, page_size: usize) -> Vec<u8> {
    let longest = match random.below(30) {
        0 => 2 * page_size.min(20_000),
        1..6 => page_size / 4,
        _ => 60,
    };
    let length = 12 + random.below(longest);
    let id = random.below(40) as u32;
    let mut key = (length as u32).to_be_bytes().to_vec();
    key.extend(id.to_be_bytes());
    key.resize(length, b'k');
    key
}

/// The record that stands for key `key` in tree `w`.
pub(crate) fn key_record(key: &[u8]) -> Vec<u8> {
    encode(&[blob(key)])
}

/// The open database and the roots of its trees.
#[derive(Debug)]
pub(crate) struct Book {
    /// The connection.
    pub(crate) db: Btree,
    /// Root of `t`.
    pub(crate) rows: PageNumber,
    /// Root of `w`.
    pub(crate) keys: PageNumber,
}

impl Book {
    /// Lays out the trees and their schema rows in a new database, in one transaction.
    pub(crate) fn create(mut db: Btree) -> Result<Book> {
        db.begin(TransactionKind::Write)?;
        let rows = db.create_table(TABLE)?;
        let keys = db.create_table(tclbtree::btree::INDEX)?;
        let schema = db.open_cursor(PageNumber::ONE, true)?;
        for (index, ((name, sql), root)) in SCHEMA.iter().zip([rows, keys]).enumerate() {
            let row = encode(&[
                text("table"),
                text(name),
                text(name),
                Field::Integer(i64::from(root.get())),
                text(sql),
            ]);
            db.insert(schema, Key::Integer(index as i64 + 1), &row, 0)?;
        }
        db.close_cursor(schema);
        for (slot, value) in [(1, 1), (2, 4), (5, 1)] {
            db.set_meta(slot, value)?;
        }
        db.commit()?;
        Ok(Book { db, rows, keys })
    }

    /// Finds the trees of an existing database by its schema.
    pub(crate) fn attach(mut db: Btree) -> Result<Book> {
        db.begin(TransactionKind::Read)?;
        let roots = schema_roots(&mut db)?;
        let root =
            |wanted: &str| roots.iter().find(|(name, _)| name == wanted).map(|&(_, root)| root);
        let missing = tclbtree::Error::Corrupt { page: 1, what: "schema row missing" };
        let (rows, keys) = (root("t").ok_or(missing)?, root("w").ok_or(missing)?);
        db.commit()?;
        Ok(Book { db, rows, keys })
    }

    /// Makes one change.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<()> {
        let root = match change {
            Change::Put(..) | Change::Remove(_) => self.rows,
            Change::AddKey(_) | Change::RemoveKey(_) => self.keys,
        };
        with_cursor(&mut self.db, root, true, |db, cursor| match change {
            Change::Put(a, b) => {
                let row = encode(&[Field::Null, blob(b)]);
                db.insert(cursor, Key::Integer(*a), &row, 0)
            }
            Change::Remove(a) if db.seek(cursor, Key::Integer(*a))?.is_eq() => {
                if db.is_at_end(cursor) { Ok(()) } else { db.delete(cursor) }
            }
            Change::AddKey(key) => db.insert(cursor, Key::Bytes(&key_record(key)), b"", 0),
            Change::RemoveKey(key) if db.seek(cursor, Key::Bytes(&key_record(key)))?.is_eq() => {
                db.delete(cursor)
            }
            Change::Remove(_) | Change::RemoveKey(_) => Ok(()),
        })
    }

    /// Makes changes in one transaction and commits it.
    pub(crate) fn commit(&mut self, changes: &[Change]) -> Result<()> {
        self.db.begin(TransactionKind::Write)?;
        for change in changes {
            self.apply(change)?;
        }
        self.db.commit()
    }

    /// The content, walked forward.
    pub(crate) fn content(&mut self) -> Result<Content> {
        let mut content = Content::default();
        walk(&mut self.db, self.rows, |db, cursor| {
            let a = db.integer_key(cursor)?;
            let b = bytes(&decode(&db.data(cursor)?)[1]);
            assert!(content.rows.insert(a, b).is_none(), "row {a} twice");
            Ok(())
        })?;
        walk(&mut self.db, self.keys, |db, cursor| {
            let key = bytes(&decode(&db.key(cursor)?)[0]);
            assert!(content.keys.insert(key), "a key twice");
            Ok(())
        })?;
        Ok(content)
    }

    /// What the integrity checker of this engine says; empty if all is well.
    pub(crate) fn check(&mut self) -> Result<Vec<String>> {
        let roots = [1, i64::from(self.rows.get()), i64::from(self.keys.get())];
        self.db.integrity_check(&roots, 10)
    }

    /// The content, after the checker has found nothing wrong.
    pub(crate) fn checked_content(&mut self) -> Result<Content> {
        let lines = self.check()?;
        assert!(lines.is_empty(), "integrity check: {lines:?}");
        self.content()
    }
}

/// Name and root page of every tree that the schema table lists.
pub(crate) fn schema_roots(db: &mut Btree) -> Result<Vec<(String, PageNumber)>> {
    let mut roots = Vec::new();
    walk(db, PageNumber::ONE, |db, schema| {
        let fields = decode(&db.data(schema)?);
        let name = String::from_utf8_lossy(&bytes(&fields[1])).into_owned();
        let number = integer(&fields[3]) as u32;
        roots.extend(PageNumber::new(number).map(|root| (name, root)));
        Ok(())
    })?;
    Ok(roots)
}

/// Opens a cursor for `use_it` and closes it again, whatever happens.
pub(crate) fn with_cursor<T>(
    db: &mut Btree,
    root: PageNumber,
    writable: bool,
    use_it: impl FnOnce(&mut Btree, CursorId) -> Result<T>,
) -> Result<T> {
    let cursor = db.open_cursor(root, writable)?;
    let result = use_it(db, cursor);
    db.close_cursor(cursor);
    result
}

/// Visits every entry of the tree in key order.
fn walk(
    db: &mut Btree,
    root: PageNumber,
    mut visit: impl FnMut(&mut Btree, CursorId) -> Result<()>,
) -> Result<()> {
    with_cursor(db, root, false, |db, cursor| {
        let mut more = db.first(cursor)?;
        while more {
            visit(db, cursor)?;
            more = db.next(cursor)?;
        }
        Ok(())
    })
}
