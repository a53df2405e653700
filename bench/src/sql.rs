//! SQLite through SQL, with statements that are prepared once.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Statement, ToSql};

use crate::data::{Entry, Piece, sum_words};
use crate::lent::Lent;
use crate::store::{Durability, Failure, KeyKind, Result, Settings, Store};

/// The statements, each prepared when it is first used.
const TEXTS: [&str; 9] = [
    "BEGIN",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "INSERT OR REPLACE INTO t VALUES (?1, ?2)",
    "SELECT v FROM t WHERE k = ?1",
    "SELECT k, v FROM t ORDER BY k",
    "SELECT k, v FROM t ORDER BY k DESC",
    "SELECT k, v FROM t WHERE k >= ?1 ORDER BY k LIMIT ?2",
    "DELETE FROM t WHERE k = ?1",
];
const BEGIN: usize = 0;
const BEGIN_IMMEDIATE: usize = 1;
const COMMIT: usize = 2;
const PUT: usize = 3;
const GET: usize = 4;
const SCAN: usize = 5;
const SCAN_BACK: usize = 6;
const RANGE: usize = 7;
const DELETE: usize = 8;

/// SQL through `rusqlite`. Fields are dropped in this order (L1 of `lent.rs`).
pub struct Sql {
    statements: [Option<Statement<'static>>; TEXTS.len()],
    kind: KeyKind,
    connection: Lent<Connection>,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Failure {
        Failure(format!("SQL: {error}"))
    }
}

fn blob(value: ValueRef<'_>) -> Result<&[u8]> {
    match value {
        ValueRef::Blob(bytes) => Ok(bytes),
        _ => Err(Failure("SQL: not a blob".into())),
    }
}

fn number(key: ValueRef<'_>) -> Result<u64> {
    match key {
        ValueRef::Integer(key) => Ok(key as u64),
        other => blob(other).map(sum_words),
    }
}

impl Sql {
    #[inline]
    fn statement(&mut self, which: usize) -> Result<&mut Statement<'static>> {
        let slot = &mut self.statements[which];
        if slot.is_none() {
            *slot = Some(self.connection.borrow().prepare(TEXTS[which])?);
        }
        slot.as_mut().ok_or_else(|| Failure("no statement".into()))
    }

    fn read_all(
        &mut self,
        which: usize,
        parameters: &[&dyn ToSql],
        mut each: impl FnMut(u64, Piece<'_>),
    ) -> Result<()> {
        let mut rows = self.statement(which)?.query(parameters)?;
        while let Some(row) = rows.next()? {
            each(number(row.get_ref(0)?)?, Piece::whole(blob(row.get_ref(1)?)?));
        }
        Ok(())
    }

    /// Runs a statement with the entry's key as its first parameter; the number of rows changed.
    #[inline]
    fn change(&mut self, which: usize, entry: &Entry<'_>) -> Result<usize> {
        let kind = self.kind;
        let statement = self.statement(which)?;
        Ok(match (kind, which) {
            (KeyKind::Int, PUT) => statement.execute((entry.rowid, entry.value))?,
            (KeyKind::Key, PUT) => statement.execute((&entry.key[..], entry.value))?,
            (KeyKind::Int, _) => statement.execute((entry.rowid,))?,
            (KeyKind::Key, _) => statement.execute((&entry.key[..],))?,
        })
    }
}

impl Store for Sql {
    const NAME: &'static str = "sql";

    fn suits(_: &Settings) -> bool {
        true
    }

    fn open(path: &Path, settings: &Settings, is_new: bool) -> Result<Sql> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        flags.set(OpenFlags::SQLITE_OPEN_CREATE, is_new);
        let connection = Connection::open_with_flags(path, flags)?;
        let synchronous = match settings.durability {
            Durability::NoSync => "OFF",
            Durability::Durable => "FULL",
        };
        let locking = if settings.exclusive { "EXCLUSIVE" } else { "NORMAL" };
        let mut script = format!(
            "PRAGMA page_size = {}; PRAGMA cache_size = {}; PRAGMA synchronous = {synchronous};",
            settings.page_size, settings.cache_pages,
        );
        script += &format!("PRAGMA locking_mode = {locking};");
        if settings.journal != crate::store::Journal::Delete {
            script += &format!("PRAGMA journal_mode = {};", settings.journal.word());
        }
        if is_new {
            script += match settings.kind {
                KeyKind::Int => "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB);",
                KeyKind::Key => "CREATE TABLE t(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID;",
            };
        }
        connection.execute_batch(&script)?;
        let statements = [const { None }; TEXTS.len()];
        Ok(Sql { statements, kind: settings.kind, connection: Lent::new(connection) })
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn begin_read(&mut self) -> Result<()> {
        self.statement(BEGIN)?.execute(())?;
        Ok(())
    }

    fn begin_write(&mut self) -> Result<()> {
        self.statement(BEGIN_IMMEDIATE)?.execute(())?;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.statement(COMMIT)?.execute(())?;
        Ok(())
    }

    #[inline]
    fn put(&mut self, entry: &Entry<'_>) -> Result<()> {
        self.change(PUT, entry).map(drop)
    }

    #[inline]
    fn get(&mut self, entry: &Entry<'_>, mut read: impl FnMut(Piece<'_>)) -> Result<bool> {
        let kind = self.kind;
        let statement = self.statement(GET)?;
        let mut rows = match kind {
            KeyKind::Int => statement.query((entry.rowid,))?,
            KeyKind::Key => statement.query((&entry.key[..],))?,
        };
        let Some(row) = rows.next()? else { return Ok(false) };
        read(Piece::whole(blob(row.get_ref(0)?)?));
        Ok(true)
    }

    fn scan(&mut self, each: impl FnMut(u64, Piece<'_>)) -> Result<()> {
        self.read_all(SCAN, &[], each)
    }

    fn scan_back(&mut self, each: impl FnMut(u64, Piece<'_>)) -> Result<()> {
        self.read_all(SCAN_BACK, &[], each)
    }

    fn range(
        &mut self,
        start: &Entry<'_>,
        count: usize,
        each: impl FnMut(u64, Piece<'_>),
    ) -> Result<()> {
        let count = count as i64;
        match self.kind {
            KeyKind::Int => self.read_all(RANGE, &[&start.rowid, &count], each),
            KeyKind::Key => self.read_all(RANGE, &[&&start.key[..], &count], each),
        }
    }

    fn delete(&mut self, entry: &Entry<'_>) -> Result<()> {
        match self.change(DELETE, entry)? {
            1 => Ok(()),
            _ => Err(Failure("the entry to delete was not found".into())),
        }
    }

    fn check(&mut self) -> Result<()> {
        let connection = self.connection.borrow();
        let verdict: String =
            connection.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
        if verdict == "ok" { Ok(()) } else { Err(Failure(verdict)) }
    }
}
