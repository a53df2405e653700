//! Bytes that are shared and never change.

use std::ops::{Deref, Range};
use std::sync::Arc;

use super::copy_of;
use crate::error::Result;

/// Bytes that never change. Clones and slices are the same memory.
#[derive(Debug, Clone)]
pub(crate) struct Bytes {
    whole: Arc<Vec<u8>>,
    /// The part that these are, within the whole.
    part: Range<usize>,
}

impl Bytes {
    /// A copy of `bytes`.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory).
    pub(crate) fn copy_of(bytes: &[u8]) -> Result<Bytes> {
        let whole = Arc::new(copy_of(bytes)?);
        Ok(Bytes { part: 0..whole.len(), whole })
    }

    /// A part of them; what `range` has beyond the end is left out.
    pub(crate) fn slice(&self, range: Range<usize>) -> Bytes {
        let end = self.part.start.saturating_add(range.end).min(self.part.end);
        let start = self.part.start.saturating_add(range.start).min(end);
        Bytes { whole: Arc::clone(&self.whole), part: start..end }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.whole.get(self.part.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_stay_within_the_bytes_they_are_of() {
        let bytes = Bytes::copy_of(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        let middle = bytes.slice(2..6);
        drop(bytes);
        assert_eq!(*middle, [2, 3, 4, 5]);
        assert_eq!(*middle.slice(1..3), [3, 4]);
        assert_eq!(*middle.slice(3..usize::MAX), [5]);
        assert_eq!(*middle.slice(7..9), []);
    }
}
