//! The meta values in the file header.
//!
//! Value k is the word at byte 36 + 4·k of page 1. Values 0 (free pages), 4 (largest root) and 7
//! (incremental vacuum) belong to the engine; the others are the caller's.

use crate::error::{Error, ReadOnlyReason, Result};
use crate::format::bytes::u32_at;
use crate::format::{FileHeader, PageNumber};

use super::transaction::Transaction;
use super::{Btree, TransactionKind};

/// The value that holds the largest root page.
const LARGEST_ROOT: usize = 4;
/// The value that holds the incremental-vacuum flag.
const INCREMENTAL_VACUUM: usize = 7;

impl Btree {
    /// Meta value `slot`, 0 to 15. Without a transaction one is opened for the call; whether the
    /// file is a database at all is not checked then. All are 0 in a database without pages.
    ///
    /// # Errors
    /// [`Misuse`](Error::Misuse) for another slot; [`Busy`](Error::Busy), [`Io`](Error::Io);
    /// [`LockedSharedCache`](Error::LockedSharedCache) as for [`Btree::begin`].
    #[doc(alias = "sqlite3BtreeGetMeta")]
    pub fn meta(&mut self, slot: usize) -> Result<u32> {
        if slot > 15 {
            return Err(Error::Misuse("meta values are numbered 0 to 15"));
        }
        self.with_header(|header| u32_at(header, FileHeader::meta_offset(slot)))
    }

    /// Meta values 0 to 9, as the historic command lists them.
    ///
    /// # Errors
    /// As [`Btree::meta`].
    pub fn meta_list(&mut self) -> Result<[u32; 10]> {
        self.with_header(|header| {
            let mut values = [0; 10];
            for (slot, value) in values.iter_mut().enumerate() {
                *value = u32_at(header, FileHeader::meta_offset(slot))?;
            }
            Ok(values)
        })
    }

    fn with_header<T: Default>(&mut self, read: impl Fn(&[u8]) -> Result<T>) -> Result<T> {
        let mut implicit = self.session.transaction == Transaction::None;
        if implicit {
            self.check_others_allow(TransactionKind::Read)?;
            implicit = !self.is_another_in_transaction();
        }
        if implicit {
            self.store.pager.begin_read()?;
        }
        let pager = &mut self.store.pager;
        let mark = pager.mark();
        let result = if pager.page_count() == 0 {
            Ok(T::default())
        } else {
            pager.fetch(PageNumber::ONE).and_then(|page| read(pager.bytes(page)))
        };
        pager.release(mark);
        if implicit {
            pager.end_read();
        }
        result
    }

    /// Sets meta value `slot`, 0 to 7. The present value may always be written again.
    ///
    /// # Errors
    /// [`Misuse`](Error::Misuse) for another slot, and for a vacuum flag that is not 0 or 1 or
    /// does not fit the database; [`ReadOnly`](Error::ReadOnly) for another value in slots 0 and
    /// 4; [`State`](Error::State) without a write transaction; errors of the pager.
    #[doc(alias = "sqlite3BtreeUpdateMeta")]
    pub fn set_meta(&mut self, slot: usize, value: u32) -> Result<()> {
        self.check_may_change()?;
        if slot > 7 {
            return Err(Error::Misuse("meta values are numbered 0 to 7"));
        }
        if self.meta(slot)? == value {
            return Ok(());
        }
        let capable = self.meta(LARGEST_ROOT)? != 0;
        match slot {
            0 | LARGEST_ROOT => return Err(Error::ReadOnly(ReadOnlyReason::Fixed)),
            INCREMENTAL_VACUUM if value > 1 || !capable => {
                return Err(Error::Misuse("not a vacuum flag that fits the database"));
            }
            _ => {}
        }
        self.store_meta(slot, value)
    }

    /// Sets meta values 1 to 9 as given, as the historic command does. Only the largest root is
    /// protected, once the database has more than page 1.
    ///
    /// # Errors
    /// As [`Btree::set_meta`].
    pub fn set_meta_list(&mut self, values: &[u32; 9]) -> Result<()> {
        self.check_may_change()?;
        let largest_root = self.meta(LARGEST_ROOT)?;
        if values[LARGEST_ROOT - 1] != largest_root && self.page_count() > 1 {
            return Err(Error::ReadOnly(ReadOnlyReason::Fixed));
        }
        for (index, &value) in values.iter().enumerate() {
            let slot = index + 1;
            if self.meta(slot)? != value {
                self.store_meta(slot, value)?;
            }
        }
        Ok(())
    }

    fn store_meta(&mut self, slot: usize, value: u32) -> Result<()> {
        self.change(|btree| {
            btree.store.set_header_word(FileHeader::meta_offset(slot), value)?;
            if matches!(slot, LARGEST_ROOT | INCREMENTAL_VACUUM) {
                btree.vacuum_choice = None; // The later word counts.
                btree.refresh_auto_vacuum()?;
            }
            Ok(())
        })
    }
}
