//! What a store must be able to do to take part.

use std::fmt;
use std::path::Path;

use crate::data::{Entry, Piece};

/// What went wrong, in words.
#[derive(Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure(error.to_string())
    }
}

/// The result of everything in the harness that can fail.
pub type Result<T> = std::result::Result<T, Failure>;

/// Which kind of keys the entries have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Rows of a table: a 64-bit integer key, the value as payload.
    Int,
    /// Records of an index: a 16-byte key and the value, encoded as SQLite encodes them.
    Key,
}

impl KeyKind {
    /// The word that names the kind in the tables.
    pub fn word(self) -> &'static str {
        match self {
            KeyKind::Int => "int",
            KeyKind::Key => "key",
        }
    }
}

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It hands everything to the operating system and returns.
    NoSync,
    /// It returns when nothing but a broken disk can undo it.
    Durable,
}

/// What protects a transaction. Stores with one way of their own take part under [`Delete`].
///
/// [`Delete`]: Journal::Delete
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// A rollback journal that is deleted.
    Delete,
    /// One that is cut to zero bytes.
    Truncate,
    /// One whose header is zeroed.
    Persist,
    /// A rollback journal in memory: safe until the process dies.
    Memory,
    /// SQLite's write-ahead log, which only the SQL layer of this harness reaches.
    Wal,
}

impl Journal {
    /// The word that names the mode in the tables and in SQLite's pragma.
    pub fn word(self) -> &'static str {
        match self {
            Journal::Delete => "delete",
            Journal::Truncate => "truncate",
            Journal::Persist => "persist",
            Journal::Memory => "memory",
            Journal::Wal => "wal",
        }
    }
}

/// What a store is opened with; the same for all stores of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Kind of keys.
    pub kind: KeyKind,
    /// Bytes per page.
    pub page_size: u32,
    /// Pages the store's cache may hold.
    pub cache_pages: u32,
    /// Whether commits are durable.
    pub durability: Durability,
    /// How transactions are protected.
    pub journal: Journal,
    /// Whether the file's locks are kept between transactions.
    pub exclusive: bool,
}

impl Settings {
    /// Whether these are the settings of a store that has no choice of page size, journal and
    /// locking.
    pub fn are_plain(&self) -> bool {
        self.page_size == 4096 && self.journal == Journal::Delete && !self.exclusive
    }
}

/// One store with one tree in one file.
///
/// The hot loops are generic over the store, so nothing is called through a table of functions
/// within them. `read` and `each` get bytes that are valid during the call only.
pub trait Store: Sized {
    /// The name in the tables.
    const NAME: &'static str;
    /// Whether the file is one that the other stores with this mark can read: a bare tree in
    /// SQLite's format.
    const IS_BARE_SQLITE: bool = false;

    /// Whether the store can be opened like that.
    fn suits(settings: &Settings) -> bool;
    /// Opens the file; one that is new gets its one tree.
    fn open(path: &Path, settings: &Settings, is_new: bool) -> Result<Self>;
    /// Closes the file.
    fn close(self) -> Result<()>;
    /// Begins a transaction for reading.
    fn begin_read(&mut self) -> Result<()>;
    /// Begins a transaction for writing.
    fn begin_write(&mut self) -> Result<()>;
    /// Ends the transaction.
    fn commit(&mut self) -> Result<()>;
    /// Stores an entry, or replaces the one with this key.
    fn put(&mut self, entry: &Entry<'_>) -> Result<()>;
    /// Replaces the value of this entry, which exists.
    fn replace(&mut self, entry: &Entry<'_>) -> Result<()> {
        self.put(entry)
    }
    /// Stores an entry behind all others, using what the store has for that.
    fn append(&mut self, entry: &Entry<'_>) -> Result<()> {
        self.put(entry)
    }
    /// Hands the value of this entry's key to `read`, as a whole or in pieces; `false` if there is
    /// none.
    fn get(&mut self, entry: &Entry<'_>, read: impl FnMut(Piece<'_>)) -> Result<bool>;
    /// The same for many entries, one after the other; returns how many were found. A store that can
    /// hold on to a cursor over many calls does so.
    fn get_each<'e>(
        &mut self,
        entries: impl Iterator<Item = Entry<'e>>,
        mut read: impl FnMut(Piece<'_>),
    ) -> Result<u64> {
        let mut found = 0;
        for entry in entries {
            found += u64::from(self.get(&entry, &mut read)?);
        }
        Ok(found)
    }
    /// Hands every value to `each` in key order, with its key: for integers the key itself, else
    /// the sum of the key's words. Where a value comes in pieces, all but the first come with 0.
    fn scan(&mut self, each: impl FnMut(u64, Piece<'_>)) -> Result<()>;
    /// The same in reverse order.
    fn scan_back(&mut self, each: impl FnMut(u64, Piece<'_>)) -> Result<()>;
    /// Hands `count` entries from this one on to `each`.
    fn range(
        &mut self,
        start: &Entry<'_>,
        count: usize,
        each: impl FnMut(u64, Piece<'_>),
    ) -> Result<()>;
    /// Deletes this entry, which exists.
    fn delete(&mut self, entry: &Entry<'_>) -> Result<()>;
    /// The store's own integrity check, if it has one.
    fn check(&mut self) -> Result<()>;
}
