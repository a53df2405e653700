//! Facts about the SQLite file format that need no I/O.
//!
//! Sources: the published SQLite file-format document; section numbers in comments of the form
//! "format 2.4" refer to the topics listed in the README, "Reading the source".

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub(crate) mod bytes;
mod file_header;
mod page_number;
pub mod record;
pub mod varint;

pub use file_header::{AutoVacuum, FileHeader, HEADER_SIZE, LIBRARY_VERSION, MAGIC};
pub use page_number::{LockPage, PageNumber, PageSize};
