//! Bytes that are shared and never change.
//!
//! A page is written again and again with a few bytes changed, and a journal repeats what was
//! written before. Such bytes need not be stored once more:
//!
//! | whole | what it is |
//! | --- | --- |
//! | plain | bytes of its own |
//! | changed | the bytes of another whole, but for some blocks of its own |
//! | joined | parts of others, one behind the other |
//!
//! # Invariants
//!
//! 1. A whole never changes, and keeps alive what it refers to. So it does not matter who else has
//!    that, or for how long.
//! 2. What is changed is a plain whole of the same length, and a quarter of it at most. Thus,
//!    however often that is repeated, bytes keep no more memory than they are long, and a quarter.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::{LINE, copy_of, reserve_exact};
use crate::error::Result;

/// Bytes that never change. Clones and slices are the same memory.
#[derive(Debug, Clone)]
pub(crate) struct Bytes {
    whole: Arc<Whole>,
    /// The part that these are, within the whole.
    part: Range<usize>,
}

#[derive(Debug)]
enum Whole {
    Plain(Box<[u8]>),
    Changed {
        base: Arc<Whole>,
        /// Which blocks are others than those of the base, the first one lowest.
        changed: u64,
        /// Those blocks, one behind the other.
        own: Box<[u8]>,
    },
    Joined(Box<[Bytes]>),
}

impl Bytes {
    /// A copy of `bytes`.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory).
    pub(crate) fn copy_of(bytes: &[u8]) -> Result<Bytes> {
        Ok(Bytes::from(copy_of(bytes)?))
    }

    /// The same, for which only what differs from `other` is stored if that is little.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory).
    pub(crate) fn copy_beside(bytes: &[u8], other: &Bytes) -> Result<Bytes> {
        let Some(base) = other.base() else { return Bytes::copy_of(bytes) };
        let Some(changed) = few_changes(base.plain(), bytes) else { return Bytes::copy_of(bytes) };
        let block = block_size(bytes.len());
        let mut own = Vec::new();
        reserve_exact(&mut own, block * changed.count_ones() as usize)?;
        for (index, bytes) in bytes.chunks(block).enumerate() {
            if changed >> index & 1 == 1 {
                own.extend_from_slice(bytes);
            }
        }
        let (base, own) = (Arc::clone(base), own.into_boxed_slice());
        Ok(Bytes::all_of(Whole::Changed { base, changed, own }, bytes.len()))
    }

    /// One behind the other.
    pub(crate) fn join(parts: Vec<Bytes>) -> Bytes {
        let length = parts.iter().map(Bytes::len).sum();
        Bytes::all_of(Whole::Joined(parts.into_boxed_slice()), length)
    }

    fn all_of(whole: Whole, length: usize) -> Bytes {
        Bytes { whole: Arc::new(whole), part: 0..length }
    }

    /// What a copy of similar bytes can refer to.
    fn base(&self) -> Option<&Arc<Whole>> {
        let base = match &*self.whole {
            Whole::Plain(_) => &self.whole,
            Whole::Changed { base, .. } => base,
            Whole::Joined(_) => return None,
        };
        (self.part == (0..base.plain().len())).then_some(base)
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.part.len()
    }

    /// A part of them; what `range` has beyond the end is left out.
    pub(crate) fn slice(&self, range: Range<usize>) -> Bytes {
        let end = self.part.start.saturating_add(range.end).min(self.part.end);
        let start = self.part.start.saturating_add(range.start).min(end);
        Bytes { whole: Arc::clone(&self.whole), part: start..end }
    }

    /// Shows all of them, from first to last, in as many pieces as they are stored in.
    pub(crate) fn visit<'a>(&'a self, mut show: impl FnMut(&'a [u8])) {
        self.whole.show(&self.part, &mut show);
    }

    /// Copies them to `target`, as far as there is room.
    pub(crate) fn copy_to(&self, target: &mut [u8]) {
        let mut rest = target;
        self.visit(|piece| {
            let count = piece.len().min(rest.len());
            let (to, behind) = std::mem::take(&mut rest).split_at_mut(count);
            to.copy_from_slice(piece.get(..count).unwrap_or_default());
            rest = behind;
        });
    }

    /// All of them in one piece.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory) if they are not stored so.
    pub(crate) fn contiguous(&self) -> Result<Cow<'_, [u8]>> {
        if let Whole::Plain(bytes) = &*self.whole {
            return Ok(Cow::Borrowed(bytes.get(self.part.clone()).unwrap_or_default()));
        }
        let mut copy = Vec::new();
        reserve_exact(&mut copy, self.len())?;
        self.visit(|piece| copy.extend_from_slice(piece));
        Ok(Cow::Owned(copy))
    }

    /// Notes what is stored, in bytes, by where it is.
    #[cfg(test)]
    pub(crate) fn note_memory(&self, by_place: &mut std::collections::HashMap<usize, usize>) {
        self.whole.note_memory(by_place);
    }

    /// The first one.
    pub(crate) fn first(&self) -> Option<u8> {
        let mut first = None;
        self.visit(|piece| first = first.or(piece.first().copied()));
        first
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        let length = bytes.len();
        Bytes::all_of(Whole::Plain(bytes.into_boxed_slice()), length)
    }
}

impl PartialEq<[u8]> for Bytes {
    fn eq(&self, other: &[u8]) -> bool {
        let (mut at, mut are_equal) = (0, self.len() == other.len());
        self.visit(|piece| {
            are_equal = are_equal && other.get(at..at + piece.len()) == Some(piece);
            at += piece.len();
        });
        are_equal
    }
}

impl Whole {
    fn plain(&self) -> &[u8] {
        match self {
            Whole::Plain(bytes) => bytes,
            Whole::Changed { .. } | Whole::Joined(_) => &[],
        }
    }

    #[cfg(test)]
    fn note_memory(&self, by_place: &mut std::collections::HashMap<usize, usize>) {
        let stored = match self {
            Whole::Plain(bytes) => bytes,
            Whole::Changed { base, own, .. } => {
                base.note_memory(by_place);
                own
            }
            Whole::Joined(parts) => {
                return parts.iter().for_each(|bytes| bytes.note_memory(by_place));
            }
        };
        by_place.insert(stored.as_ptr().addr(), stored.len());
    }

    /// Shows a part, from first to last.
    fn show<'a>(&'a self, part: &Range<usize>, show: &mut dyn FnMut(&'a [u8])) {
        match self {
            Whole::Plain(bytes) => show(bytes.get(part.clone()).unwrap_or_default()),
            Whole::Changed { base, changed, own } => {
                let base = base.plain();
                let block = block_size(base.len());
                let (mut at, mut at_own, mut left) = (0, 0, *changed);
                while at < part.end {
                    let is_own = left & 1 == 1;
                    let count = if is_own { left.trailing_ones() } else { left.trailing_zeros() };
                    left = left.checked_shr(count).unwrap_or(0);
                    let length = block * count as usize;
                    let here = inside(part, at..at + length);
                    let (bytes, from) = if is_own { (&**own, at_own) } else { (base, at) };
                    show(bytes.get(from + here.start..from + here.end).unwrap_or_default());
                    at_own += if is_own { length } else { 0 };
                    at += length;
                }
            }
            Whole::Joined(parts) => {
                let mut at = 0;
                for bytes in parts {
                    let here = inside(part, at..at + bytes.len());
                    let start = bytes.part.start;
                    bytes.whole.show(&(start + here.start..start + here.end), show);
                    at += bytes.len();
                }
            }
        }
    }
}

/// What `part` has of `range`, counted from its start.
fn inside(part: &Range<usize>, range: Range<usize>) -> Range<usize> {
    let start = part.start.clamp(range.start, range.end);
    let end = part.end.clamp(start, range.end);
    start - range.start..end - range.start
}

/// Bytes of a block: a line of memory, or what makes 64 blocks of all.
fn block_size(length: usize) -> usize {
    length.div_ceil(64).next_multiple_of(LINE).max(LINE)
}

/// Which blocks of `bytes` are others than those of `base`, if they are as long and those few.
fn few_changes(base: &[u8], bytes: &[u8]) -> Option<u64> {
    let (lines, rest) = bytes.as_chunks::<LINE>();
    if base.len() != bytes.len() || !rest.is_empty() || lines.is_empty() {
        return None;
    }
    let lines_of_block = block_size(bytes.len()) / LINE;
    let mut changed = 0;
    for (index, (line, other)) in lines.iter().zip(base.as_chunks::<LINE>().0).enumerate() {
        changed |= u64::from(line != other) << (index / lines_of_block);
    }
    let own_lines = changed.count_ones() as usize * lines_of_block;
    (own_lines * 4 <= lines.len()).then_some(changed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &Bytes) -> Vec<u8> {
        let copy = bytes.contiguous().unwrap().into_owned();
        let mut room = vec![0xee; bytes.len() + 3];
        bytes.copy_to(&mut room);
        assert_eq!(room, [&copy[..], &[0xee; 3]].concat());
        let mut little = vec![0xee; bytes.len() / 2];
        bytes.copy_to(&mut little);
        assert_eq!(little, copy[..bytes.len() / 2]);
        assert_eq!(bytes.first(), copy.first().copied());
        assert!(*bytes == copy[..] && *bytes != [&copy[..], &[0]].concat()[..]);
        if let Some((last, rest)) = copy.split_last() {
            assert!(*bytes != [rest, &[!last]].concat()[..] && *bytes != *rest);
        }
        copy
    }

    #[test]
    fn slices_stay_within_the_bytes_they_are_of() {
        let bytes = Bytes::copy_of(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        let middle = bytes.slice(2..6);
        drop(bytes);
        assert_eq!(read(&middle), [2, 3, 4, 5]);
        assert_eq!(read(&middle.slice(1..3)), [3, 4]);
        assert_eq!(read(&middle.slice(3..usize::MAX)), [5]);
        assert_eq!(read(&middle.slice(7..9)), []);
    }

    /// Invariant 2: 16 of 64 blocks, the last of which is short, are more than a quarter.
    #[test]
    fn what_is_changed_is_a_quarter_at_most() {
        for length in (1..200).map(|lines| lines * LINE) {
            let before = Bytes::copy_of(&vec![0; length]).unwrap();
            for changed in 0..=length / LINE {
                let mut bytes = vec![0; length];
                bytes[..changed * LINE].fill(1);
                let mut kept = std::collections::HashMap::new();
                Bytes::copy_beside(&bytes, &before).unwrap().note_memory(&mut kept);
                assert!(kept.values().sum::<usize>() * 4 <= length * 5, "{changed} of {length}");
            }
        }
    }

    /// Of the same length or not, whole blocks or not, with few and with many changes.
    fn versions() -> impl Strategy<Value = Vec<Vec<u8>>> {
        const LENGTHS: &[usize] = &[1, 64, 100, 512, 1024, 4096, 4160, 6400, 8128, 8192, 65536];
        let changes = proptest::collection::vec((any::<usize>(), 1usize..700, any::<u8>()), 0..4);
        let lengths = (proptest::sample::select(LENGTHS), proptest::bool::weighted(0.1));
        proptest::collection::vec((lengths, changes), 1..8).prop_map(|steps| {
            let mut bytes = vec![0; steps[0].0.0];
            let mut versions = Vec::new();
            for ((length, resizes), changes) in steps {
                bytes.resize(if resizes { length } else { bytes.len() }, 1);
                for (at, count, with) in changes {
                    let at = at % bytes.len();
                    bytes[at..].iter_mut().take(count).for_each(|byte| *byte = with);
                }
                versions.push(bytes.clone());
            }
            versions
        })
    }

    proptest! {
        /// Each version beside the one before, cut, joined, and its predecessors gone.
        #[test]
        fn what_is_shared_reads_like_a_copy(
            versions in versions(),
            cuts in proptest::collection::vec((any::<usize>(), any::<usize>()), 8),
        ) {
            let mut before = Bytes::copy_of(&[]).unwrap();
            let (mut joined, mut wanted) = (Vec::new(), Vec::new());
            for (version, &(start, end)) in versions.iter().zip(&cuts) {
                let bytes = Bytes::copy_beside(version, &before).unwrap();
                before = bytes.clone();
                prop_assert_eq!(&read(&bytes), version);
                let start = start % (version.len() + 1);
                let end = start + end % (version.len() + 1 - start);
                let slice = bytes.slice(start..end);
                prop_assert_eq!(&read(&slice), &version[start..end]);
                joined.push(slice);
                wanted.extend_from_slice(&version[start..end]);
                let mut kept = std::collections::HashMap::new();
                bytes.note_memory(&mut kept);
                prop_assert!(kept.values().sum::<usize>() * 4 <= version.len() * 5, "invariant 2");
            }
            drop(before);
            let joined = Bytes::join(joined);
            prop_assert_eq!(&read(&joined), &wanted);
            let (start, end) = (wanted.len() / 3, wanted.len() - wanted.len() / 4);
            prop_assert_eq!(&read(&joined.slice(start..end)), &wanted[start..end]);
        }
    }
}
