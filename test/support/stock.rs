//! Stock SQLite: the library that rusqlite bundles, and the `sqlite3` program.

use std::path::Path;
use std::process::Command;

use rusqlite::Connection;

/// Opens a database in stock SQLite.
pub(crate) fn open(path: &Path) -> Connection {
    Connection::open(path).expect("stock SQLite opens a file")
}

/// What `PRAGMA integrity_check` says; `ok` if all is well, the error's text if it fails.
pub(crate) fn integrity(connection: &Connection) -> String {
    let lines = connection.prepare("PRAGMA integrity_check").and_then(|mut statement| {
        statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
    });
    match lines {
        Ok(lines) => lines.join("; "),
        Err(error) => error.to_string(),
    }
}

/// Whether the `sqlite3` program is there.
pub(crate) fn has_program() -> bool {
    Command::new("sqlite3").arg("-version").output().is_ok_and(|output| output.status.success())
}
