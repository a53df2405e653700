//! The rollback journal as a file: one or more segments of records, each with its header.
//!
//! ```text
//!   ┌────────┬────────┬────────┬─···─┬────────┬────────┬─···─┬──────────────┐
//!   │ header │ record │ record │     │ header │ record │     │ super-journal│
//!   └────────┴────────┴────────┴─···─┴────────┴────────┴─···─┴──────────────┘
//!   0        sector                  next multiple of the sector size
//! ```
//!
//! The journal knows neither cache nor pager: it is given numbers and bytes, and gives them back.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod gather;
mod reader;
mod record;
mod super_journal;
mod writer;

pub(super) use gather::GatheredFile;
pub(super) use reader::{HotJournal, RecordRange, read_record};
pub(super) use record::RECORD_EXTRA;
pub(super) use super_journal::{
    encode_journal_list, is_super_journal_name, listed_journals, read_super_name,
};
pub(super) use writer::{SyncRule, Syncs};

use crate::format::{LockPage, PageSize};

/// What a journal is written with.
#[derive(Debug, Clone, Copy)]
pub(super) struct JournalSetup {
    pub(super) page_size: PageSize,
    pub(super) lock_page: LockPage,
    /// Sector size in bytes.
    pub(super) sector: u32,
    /// Length of the database file in pages.
    pub(super) original_pages: u32,
    /// One segment that holds whatever records are there: nothing has to be sealed.
    pub(super) endless: bool,
    /// Largest length of the file in bytes.
    pub(super) limit: Option<u64>,
    /// The file is one in memory, which nobody but this transaction ever reads.
    pub(super) in_memory: bool,
    /// The directory entry of the file is known to be durable. That the file was there before
    /// does not say so: who made it may have died, or rolled back, before syncing it.
    pub(super) name_durable: bool,
}

/// An open rollback journal.
#[derive(Debug)]
pub(super) struct Journal {
    out: GatheredFile,
    setup: JournalSetup,
    /// The segment that records are added to.
    segment: Option<Segment>,
    /// The segments that are sealed and synced.
    sealed: Vec<Segment>,
    directory_synced: bool,
    names_super_journal: bool,
    /// The transaction is being rolled back.
    undoes: bool,
    /// Ending it was begun, and may have failed half-way.
    ending: bool,
}

/// A header with its records.
#[derive(Debug, Clone, Copy)]
struct Segment {
    /// Where the header starts.
    at: u64,
    nonce: u32,
    records: u32,
}
