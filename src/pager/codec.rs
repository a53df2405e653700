//! Pages in another guise: a transform between the cache and the files.
//!
//! Database and journal hold encoded pages, the cache plain ones. Playing a journal back moves
//! pages from file to file and needs no codec, so whoever recovers a database need not have it.

use std::fmt;
use std::sync::Arc;

use super::state::State;
use super::{PageInfo, Pager};
use crate::error::{Error, Result};
use crate::memory;

/// A reversible transform of pages.
pub trait PageCodec: fmt::Debug + Send + Sync {
    /// Turns the plain bytes of page `number` into what files hold.
    fn encode(&self, number: u32, bytes: &mut [u8]);

    /// The reverse. The first 100 bytes of page 1 can be decoded by themselves.
    fn decode(&self, number: u32, bytes: &mut [u8]);
}

/// Every byte combined with one and the same: for tests, not for secrets.
#[derive(Debug, Clone, Copy)]
pub struct Xor(pub u8);

impl PageCodec for Xor {
    fn encode(&self, _number: u32, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte ^= self.0);
    }

    fn decode(&self, number: u32, bytes: &mut [u8]) {
        self.encode(number, bytes);
    }
}

/// The codec.
impl<X: PageInfo> Pager<X> {
    /// Sets or removes the codec. What is cached is forgotten.
    ///
    /// # Errors
    /// [`Misuse`](crate::Error::Misuse) in a transaction.
    pub fn set_codec(&mut self, codec: Option<Arc<dyn PageCodec>>) -> Result<()> {
        if self.state != State::Open || self.cache.pinned() > 0 {
            return Err(Error::Misuse("codec changed in a transaction"));
        }
        self.note_replaced();
        self.drop_unpinned();
        self.codec = codec;
        Ok(())
    }

    /// Whether pages in files are not what they are here.
    pub fn has_codec(&self) -> bool {
        self.codec.is_some()
    }

    /// Puts what files are to hold for a page into `coded`; `false` if that is the page itself.
    pub(super) fn encode(&mut self, frame: u32) -> Result<bool> {
        let Some(codec) = &self.codec else { return Ok(false) };
        let bytes = self.cache.parts(frame).0;
        self.coded.clear();
        memory::reserve_exact(&mut self.coded, bytes.len())?;
        self.coded.extend_from_slice(bytes);
        codec.encode(self.cache.frame(frame).number, &mut self.coded);
        Ok(true)
    }

    /// Writes entries `start..start + length` of `order` encoded, one by one.
    pub(super) fn write_encoded(&mut self, start: usize, length: usize) -> Result<()> {
        for at in start..start + length {
            let (number, frame) = self.order[at];
            self.encode(frame)?;
            let offset = u64::from(number.saturating_sub(1)) * u64::from(self.page_size.get());
            self.file.write_at(&self.coded, offset)?;
        }
        Ok(())
    }
}
