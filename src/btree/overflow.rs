//! Reading, writing and freeing overflow chains.
use super::store::Store;
use crate::error::Result;
use crate::format::PageNumber;

impl Store {
    /// Allocates and fills the chain for the tail of a payload: the parts of `pieces`, one behind
    /// the other, without their first `skip` bytes, then `zeros` zero bytes. Returns the first
    /// page. The pointer-map entry of the first page is left to the caller (its owner is not
    /// known yet); entries of later pages (4, previous) are written. Nothing is left allocated
    /// if it fails only because the transaction is to be rolled back (C28).
    pub(crate) fn write_overflow(
        &mut self,
        pieces: &[&[u8]],
        skip: usize,
        zeros: usize,
    ) -> Result<PageNumber> {
        let _ = (pieces, skip, zeros);
        todo!()
    }
    /// Reads `out.len()` bytes from byte `offset` of the chain that begins at `first`.
    pub(crate) fn read_overflow(
        &mut self,
        first: PageNumber,
        offset: usize,
        out: &mut [u8],
    ) -> Result<()> {
        let _ = (first, offset, out);
        todo!()
    }
    /// The numbers of the pages of the chain for a tail of `length` bytes.
    pub(crate) fn overflow_chain(
        &mut self,
        first: PageNumber,
        length: usize,
    ) -> Result<Vec<PageNumber>> {
        let _ = (first, length);
        todo!()
    }
    /// Frees the chain for a tail of `length` bytes (D420, D424: never reads the last page; with a
    /// pointer map guesses that the next page follows and confirms it by the map).
    pub(crate) fn free_overflow(&mut self, first: PageNumber, length: usize) -> Result<()> {
        let _ = (first, length);
        todo!()
    }
}
