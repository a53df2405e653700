//! A sparse set of page numbers.

use crate::error::{Error, Result};
use crate::memory;

/// Pages per chunk.
const CHUNK_PAGES: usize = 4096;
const CHUNK_WORDS: usize = CHUNK_PAGES / 64;

/// Most chunks that are cleared for another set of pages.
const CHUNKS_KEPT: usize = 16;

/// A set of page numbers that costs memory only near its members.
#[derive(Debug, Default)]
pub(super) struct PageSet {
    chunks: Vec<Option<Box<[u64; CHUNK_WORDS]>>>,
}

impl PageSet {
    /// Whether `page` is a member.
    #[inline]
    pub(super) fn contains(&self, page: u32) -> bool {
        match self.chunks.get(page as usize / CHUNK_PAGES) {
            Some(Some(words)) => words[word_of(page)] & bit_of(page) != 0,
            _ => false,
        }
    }

    /// Makes sure that inserting `page` cannot fail.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(super) fn reserve(&mut self, page: u32) -> Result<()> {
        self.words(page).map(|_| ())
    }

    /// Adds `page`; `true` if it was not a member.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(super) fn insert(&mut self, page: u32) -> Result<bool> {
        let word = &mut self.words(page)?[word_of(page)];
        let fresh = *word & bit_of(page) == 0;
        *word |= bit_of(page);
        Ok(fresh)
    }

    /// The smallest member that is not below `page`.
    pub(super) fn next_from(&self, page: u32) -> Option<u32> {
        let first = page as usize / CHUNK_PAGES;
        for (at, words) in self.chunks.iter().enumerate().skip(first) {
            let Some(words) = words else { continue };
            let start = if at == first { word_of(page) } else { 0 };
            for (word, &bits) in words.iter().enumerate().skip(start) {
                let is_first = at == first && word == start;
                let bits = if is_first { bits & (u64::MAX << (page % 64)) } else { bits };
                if bits != 0 {
                    let member = at * CHUNK_PAGES + word * 64 + bits.trailing_zeros() as usize;
                    return u32::try_from(member).ok();
                }
            }
        }
        None
    }

    /// Takes `page` out.
    pub(super) fn remove(&mut self, page: u32) {
        if let Some(Some(words)) = self.chunks.get_mut(page as usize / CHUNK_PAGES) {
            words[word_of(page)] &= !bit_of(page);
        }
    }

    /// The set without its members, and with its memory for those of the next one, unless that is
    /// more than most will want.
    pub(super) fn recycled(mut self) -> PageSet {
        if self.chunks.len() > CHUNKS_KEPT {
            return PageSet::default();
        }
        self.clear();
        self
    }

    /// Takes all members out; the memory stays for those to come.
    pub(super) fn clear(&mut self) {
        for words in self.chunks.iter_mut().flatten() {
            words.fill(0);
        }
    }

    /// The chunk of `page`, made if absent.
    fn words(&mut self, page: u32) -> Result<&mut [u64; CHUNK_WORDS]> {
        let at = page as usize / CHUNK_PAGES;
        if at >= self.chunks.len() {
            let more = at + 1 - self.chunks.len();
            memory::reserve(&mut self.chunks, more)?;
            self.chunks.resize_with(at + 1, || None);
        }
        let slot = &mut self.chunks[at];
        if slot.is_none() {
            *slot = Some(filled(0)?);
        }
        slot.as_deref_mut().ok_or(Error::NoMemory)
    }
}

/// An array on the heap, every element `value`.
///
/// # Errors
/// [`Error::NoMemory`].
pub(super) fn filled<T: Copy, const N: usize>(value: T) -> Result<Box<[T; N]>> {
    let mut elements = Vec::new();
    memory::reserve_exact(&mut elements, N)?;
    elements.resize(N, value);
    elements.into_boxed_slice().try_into().map_err(|_| Error::NoMemory)
}

fn word_of(page: u32) -> usize {
    page as usize % CHUNK_PAGES / 64
}

fn bit_of(page: u32) -> u64 {
    1 << (page % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_a_set() {
        let (mut set, mut model) = (PageSet::default(), BTreeSet::new());
        let mut page = 1u32;
        for step in 0..4000u32 {
            page = page.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) % 100_000;
            if step % 3 > 0 {
                assert_eq!(set.insert(page).unwrap(), model.insert(page));
            }
            assert_eq!(set.contains(page), model.contains(&page));
            assert_eq!(set.contains(page + 1), model.contains(&(page + 1)));
            assert_eq!(set.next_from(page), model.range(page..).next().copied());
            if step % 5 == 0 {
                set.remove(page);
                model.remove(&page);
            }
        }
        assert!(set.insert(u32::MAX - 1).unwrap());
        assert!(set.contains(u32::MAX - 1) && !set.contains(u32::MAX));
    }
}
