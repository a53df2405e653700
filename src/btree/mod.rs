//! B-trees over the pages of a database: the format's nodes, cursors, and balancing.
//!
//! One [`Btree`] is one connection to one database. Entries are reached through cursors, which
//! live in a table inside the `Btree` and are named by [`CursorId`]; no cursor points back at its
//! tree, so saving all cursors before a change is a loop. Several connections, from several
//! threads, can share one: see [`CacheRegistry`].

use crate::format::{LockPage, PageNumber, PageSize};
use crate::os::Access;

mod backup;
mod balance;
mod check;
mod connection;
mod cursor;
mod delete;
mod dump;
mod freelist;
mod insert;
mod meta;
mod node;
mod overflow;
mod page_access;
mod pointer_map;
mod put_data;
mod schema;
mod session;
mod shared;
mod store;
mod sync;
mod table;
mod table_lock;
mod together;
mod transaction;
mod turn;
mod vacuum;
mod waiting;

pub use crate::format::record::{Collation, Direction, KeyInfo, SearchMode, TextEncoding};
pub use crate::pager::{
    BusyHandler, JournalMode, LockingMode, PageCodec, PagerStats, SafetyLevel, Xor,
};
pub use backup::Backup;
pub use connection::Btree;
pub use cursor::{CursorId, LockedCursor};
pub use schema::Schema;
pub use shared::{CacheRegistry, Client, Entered, SharedConnection, UnlockCallback};

/// Flags of [`Btree::create_table`]: a table b-tree, 64-bit integer keys with data on the leaves.
pub const TABLE: u8 = 5;
/// Flags of [`Btree::create_table`]: an index b-tree, byte-string keys without data.
pub const INDEX: u8 = 2;

/// What a connection is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Page size of a new database; an existing one decides for itself.
    pub page_size: PageSize,
    /// Wanted number of cached pages; below 11 means 10.
    pub cache_size: i32,
    /// Temporary databases only: no journal at all.
    pub omit_journal: bool,
    /// Files only: lock nothing for reading.
    pub no_read_lock: bool,
    /// How the file is opened.
    pub access: Access,
    /// Fail if the file exists already; it is made.
    pub exclusive: bool,
    /// The file has no name any more once it is open, and goes when it is closed.
    pub delete_on_close: bool,
    /// Position of the first lock byte; differs from the standard in tests only.
    pub lock_offset: u32,
    /// A write refuses with `Locked` while a read-only cursor of this connection is open on the
    /// table, as the commands of 2006 did.
    pub cursor_locks: bool,
    /// A write transaction makes its journal when it begins, not at the first changed page.
    pub journal_at_begin: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            page_size: PageSize::DEFAULT,
            cache_size: 2000,
            omit_journal: false,
            no_read_lock: false,
            access: Access::Create,
            exclusive: false,
            delete_on_close: false,
            lock_offset: LockPage::STANDARD_OFFSET,
            cursor_locks: false,
            journal_at_begin: false,
        }
    }
}

/// How a transaction is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionKind {
    /// For reading.
    Read,
    /// For reading and writing; others may go on reading until the commit.
    Write,
    /// For reading and writing, everybody else kept out at once.
    Exclusive,
}

/// A key to search for or to insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// Key of a tree with integer keys.
    Integer(i64),
    /// Key of a tree with byte-string keys; compared byte by byte, a shorter prefix first.
    Bytes(&'a [u8]),
}

/// What the caller of [`Btree::insert_with_hints`] knows about the place of the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InsertHints {
    /// The key is probably larger than all others.
    #[doc(alias = "appendBias")]
    pub behind_all: bool,
    /// A search for the key has left the cursor where it is, with this result.
    #[doc(alias = "seekResult")]
    pub sought: Option<std::cmp::Ordering>,
}

/// What `btree_cursor_info` tells about a cursor; see tcl-commands "cursor_info" in the docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CursorInfo {
    /// Number of the page.
    pub page: u32,
    /// Index of the cell; the number of cells for the right-most child or past the end.
    pub index: u32,
    /// Number of cells on the page.
    pub cells: u32,
    /// Bytes of the cell on this page, at least 4; 0 if there is no such cell (as all below but
    /// the free bytes and blocks).
    pub cell_size: u32,
    /// Free bytes on the page: gap, free blocks and fragments.
    pub free_bytes: u32,
    /// Number of free blocks.
    pub free_blocks: u32,
    /// Data bytes of the entry, key not counted, overflow counted.
    pub data_size: u32,
    /// Bytes of the cell's header: child pointer and integers.
    pub header_size: u32,
    /// Payload bytes on this page, key counted.
    pub local_size: u32,
    /// Number of the parent page; 0 for a root and for the child of a page 1 without cells.
    pub parent: u32,
}

/// One open cursor, for listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorSummary {
    /// The cursor.
    pub id: CursorId,
    /// Its tree.
    pub root: PageNumber,
    /// Opened for writing.
    pub writable: bool,
    /// The page it is on.
    pub page: u32,
    /// The cell it is on.
    pub index: u32,
    /// It is on no entry.
    pub at_end: bool,
}

/// A decoded page, for people and tests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageDetails {
    /// The page's type byte.
    pub kind: u8,
    /// Offset of the first free block, 0 if there is none.
    pub first_free_block: u32,
    /// Where the cell content begins, 65536 included.
    pub content: u32,
    /// Fragmented free bytes.
    pub fragments: u32,
    /// Right-most child; 0 on leaves.
    pub right_child: u32,
    /// Free bytes in all.
    pub free_bytes: u32,
    /// The cells in key order.
    pub cells: Vec<CellDetails>,
}

/// A decoded cell, for people and tests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CellDetails {
    /// Where the cell starts on the page.
    pub offset: u32,
    /// Bytes it takes there.
    pub size: u32,
    /// Left child; 0 on leaves.
    pub child: u32,
    /// The integer key, or the length of the key.
    pub key: i64,
    /// Payload bytes in all.
    pub payload: u32,
    /// Payload bytes on the page.
    pub local: u32,
    /// First overflow page, or 0.
    pub overflow: u32,
}
