//! SQLite's storage engine: OS layer, pager with rollback journal, b-tree.
//!
//! | layer | what it knows | may use |
//! | --- | --- | --- |
//! | [`error`] | result codes | |
//! | [`memory`] | allocations that may fail | error |
//! | [`format`](mod@format) | bytes of the file format, no I/O | error |
//! | [`os`] | files and locks | error |
//! | [`pager`] | pages, journal, atomic commit | error, format, os |
//! | [`btree`] | nodes, cursors, balance | error, format, pager |
//! | `tcl` | the commands of the Tcl extension | error, format, btree, os to build a disk |
//!
//! Calls go down and results come up; no layer keeps a reference to the one above it.
//!
//! ```
//! use tclbtree::{Btree, Key, MemoryVfs, Options, TransactionKind, TABLE};
//! use std::sync::Arc;
//!
//! # fn main() -> tclbtree::Result<()> {
//! let mut db = Btree::open(Arc::new(MemoryVfs::new()), "example.db", &Options::default())?;
//! db.begin(TransactionKind::Write)?;
//! let root = db.create_table(TABLE)?;
//! let cursor = db.open_cursor(root, true)?;
//! db.insert(cursor, Key::Integer(7), b"seven", 0)?;
//! db.commit()?;
//! assert!(db.seek(cursor, Key::Integer(7))?.is_eq());
//! assert_eq!(db.data(cursor)?, b"seven");
//! # Ok(())
//! # }
//! ```

pub mod btree;
pub mod error;
pub mod format;
pub mod memory;
pub mod os;
pub mod pager;
#[cfg(feature = "tcl")]
mod tcl;

pub use btree::{Btree, CacheRegistry, Client, CursorId, INDEX, Key, KeyInfo, LockedCursor};
pub use btree::{Options, SharedConnection, TABLE, TransactionKind};
pub use error::{Error, Result};
pub use os::{MemoryVfs, UnixVfs, WriteBehind, WriteBehindVfs};

/// The Rust example of the README is compiled with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
