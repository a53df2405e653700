//! What is queued already is not stored once more.
//!
//! ```text
//!   commit 1   J: page 7 as it was      D: page 7 ─┐
//!                                          ▲       │ is the same
//!   commit 2   J: page 7 as it was ────────┼───────┘
//!              D: page 7 ──────────────────┘ but for a few blocks
//! ```
//!
//! What is pending is only looked at to find bytes to compare with. Those never change, and what
//! is not equal to them is copied: so nothing depends on what becomes of the earlier write, which
//! may be done, or covered by another one, before the comparison is over.

use std::ops::Range;

use super::entry::FileId;
use super::groups::database_of;
use super::shared::Shared;
use super::state::State;
use crate::error::{Error, Result};
use crate::memory::{self, Bytes};

/// Bytes of a record ahead of the page.
const NUMBER_SIZE: usize = 4;

/// Bytes of a record beside the page.
const RECORD_EXTRA: usize = 8;

/// Where in a journal the records of pages are, and how long the pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageRecords {
    pub(super) start: u64,
    pub(super) page_size: u32,
}

impl PageRecords {
    /// The pages in `bytes`, which are written at `offset`: where each lies in them, and where in
    /// the database.
    fn pages(self, bytes: &[u8], offset: u64) -> impl Iterator<Item = (Range<usize>, Range<u64>)> {
        let page_size = self.page_size as usize;
        let step = page_size + RECORD_EXTRA;
        // Nobody writes from the middle of a record on.
        let first = usize::try_from(self.start.saturating_sub(offset)).unwrap_or(usize::MAX);
        let records = bytes.get(first..).unwrap_or_default().chunks_exact(step).enumerate();
        records.filter_map(move |(index, record)| {
            let number = u32::from_be_bytes(*record.first_chunk::<NUMBER_SIZE>()?);
            let start = first + index * step + NUMBER_SIZE;
            let size = u64::from(self.page_size);
            let there = u64::from(number).checked_sub(1)? * size;
            Some((start..start + page_size, there..there + size))
        })
    }
}

impl Shared {
    /// A copy of `bytes`, which are to be written to a file at `offset`. What a record of a page
    /// or an earlier version has in memory is shared.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(super) fn copy(
        &self,
        file: FileId,
        records: Option<PageRecords>,
        bytes: &[u8],
        offset: u64,
    ) -> Result<Bytes> {
        if self.fails_copy() {
            return Err(Error::NoMemory);
        }
        if let Some(records) = records {
            let pending = self.pending_pages(file, records, bytes, offset)?;
            return copy_around(bytes, pending);
        }
        let range = offset..offset.saturating_add(bytes.len() as u64);
        let state = self.enter()?;
        let before = state.files.get(&file).and_then(|file| file.overlay.piece(range));
        drop(state);
        match before {
            Some(before) => Bytes::copy_beside(bytes, &before),
            None => Bytes::copy_of(bytes),
        }
    }

    /// What is pending on the pages of these records, which may be something else than they have.
    fn pending_pages(
        &self,
        journal: FileId,
        records: PageRecords,
        bytes: &[u8],
        offset: u64,
    ) -> Result<Vec<(Range<usize>, Bytes)>> {
        let mut pending = Vec::new();
        let state = self.enter()?;
        let Some(database) = state.database_of_journal(journal) else { return Ok(pending) };
        let database = state.files.get(&database);
        let piece = |range| database.and_then(|file| file.overlay.piece(range));
        for (here, there) in records.pages(bytes, offset) {
            if let Some(page) = piece(there) {
                memory::reserve(&mut pending, 1)?;
                pending.push((here, page));
            }
        }
        Ok(pending)
    }
}

impl State {
    fn database_of_journal(&self, journal: FileId) -> Option<FileId> {
        let path = self.files.get(&journal)?.path.as_deref()?;
        self.by_path.get(database_of(path)?).copied()
    }
}

/// A copy of `bytes` in which the pages that equal what is pending are not stored again.
fn copy_around(bytes: &[u8], mut pending: Vec<(Range<usize>, Bytes)>) -> Result<Bytes> {
    pending.retain(|(here, page)| bytes.get(here.clone()).is_some_and(|bytes| *page == *bytes));
    if pending.is_empty() {
        return Bytes::copy_of(bytes);
    }
    let shared: usize = pending.iter().map(|(here, _)| here.len()).sum();
    let (mut own, mut parts) = (Vec::new(), Vec::new());
    memory::reserve_exact(&mut own, bytes.len() - shared)?;
    memory::reserve_exact(&mut parts, 2 * pending.len() + 1)?;
    let mut at = 0;
    for (here, _) in &pending {
        own.extend_from_slice(bytes.get(at..here.start).unwrap_or_default());
        at = here.end;
    }
    own.extend_from_slice(bytes.get(at..).unwrap_or_default());
    let own = Bytes::from(own);
    let (mut at, mut at_own) = (0, 0);
    for (here, page) in pending {
        let end = at_own + (here.start - at);
        parts.extend([own.slice(at_own..end), page]);
        (at, at_own) = (here.end, end);
    }
    parts.push(own.slice(at_own..usize::MAX));
    Ok(Bytes::join(parts))
}
