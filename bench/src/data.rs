//! The entries: what is stored under which key, and in which order it is visited.
//!
//! Everything follows from entry numbers and fixed seeds, so two stores get the same work and two
//! runs can be compared. Making an entry copies nothing: values are windows into a pool of bytes.

use crate::store::KeyKind;

/// Bytes of a key of [`KeyKind::Key`].
pub const KEY_SIZE: usize = 16;
const POOL_SIZE: usize = 64 * 1024;

/// One entry, borrowed from the data set.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The integer key.
    pub rowid: i64,
    /// The byte-string key.
    pub key: &'a [u8; KEY_SIZE],
    /// The value.
    pub value: &'a [u8],
}

/// `count` entries with values of `value_size` bytes.
#[derive(Debug)]
pub struct Data {
    pool: Vec<u8>,
    keys: Vec<[u8; KEY_SIZE]>,
    value_size: usize,
}

impl Data {
    /// The data set. Only [`KeyKind::Key`] needs keys other than numbers, but all have them.
    pub fn new(count: usize, value_size: usize) -> Data {
        let pool = (0..POOL_SIZE as u64 / 8).flat_map(|i| split_mix(!i).to_le_bytes());
        // SQLite's integrity check takes the first byte of a payload for the size of a record's
        // header, which is at least 2.
        let pool = pool.map(|byte| byte.max(2)).collect();
        let mut keys: Vec<_> = (0..count as u64).map(key_at).collect();
        keys.sort_unstable();
        Data { pool, keys, value_size: value_size.min(POOL_SIZE / 2) }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Entry `index` in key order, counted from 0. The value depends on the generation as well.
    #[inline(always)]
    pub fn entry(&self, index: usize, generation: u64) -> Entry<'_> {
        let room = POOL_SIZE - self.value_size;
        let start = split_mix(index as u64 ^ generation << 48) as usize % room;
        Entry {
            rowid: index as i64 + 1,
            key: &self.keys[index],
            value: &self.pool[start..start + self.value_size],
        }
    }

    /// All entry numbers in a random order that depends on the seed alone.
    pub fn shuffled(&self, seed: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        let mut state = seed;
        for i in (1..order.len()).rev() {
            state = state.wrapping_add(1);
            order.swap(i, (split_mix(state) % (i as u64 + 1)) as usize);
        }
        order
    }

    /// What a full scan of these entries must sum up to, keys included as
    /// [`crate::store::Store`]'s `scan` hands them out.
    pub fn scan_sum(&self, kind: KeyKind, entries: &[u32], generation: u64) -> u64 {
        let sum_of = |&index: &u32| {
            let entry = self.entry(index as usize, generation);
            let key = match kind {
                KeyKind::Int => entry.rowid as u64,
                KeyKind::Key => sum_words(entry.key),
            };
            key.wrapping_add(sum_words(entry.value))
        };
        entries.iter().map(sum_of).fold(0, u64::wrapping_add)
    }
}

fn key_at(index: u64) -> [u8; KEY_SIZE] {
    let words = [split_mix(2 * index), split_mix(2 * index + 1)];
    let mut key = [0; KEY_SIZE];
    key[..8].copy_from_slice(&words[0].to_be_bytes());
    key[8..].copy_from_slice(&words[1].to_be_bytes());
    key
}

/// The splitmix64 generator's output for this state.
#[inline]
fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// A value, or a part of one that a store does not keep in one piece.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'v> {
    pub bytes: &'v [u8],
    /// Whether the value ends here.
    pub is_last: bool,
}

impl<'v> Piece<'v> {
    /// All of a value.
    #[inline(always)]
    pub fn whole(bytes: &'v [u8]) -> Piece<'v> {
        Piece { bytes, is_last: true }
    }
}

/// The sum of all 64-bit words, a shorter last one filled up with zeros: what the harness does to
/// read a value.
#[inline]
pub fn sum_words(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    sum.wrapping_add(u64::from_le_bytes(last))
}

/// The sum of the words of one value after the other, each read in pieces.
#[derive(Debug, Default)]
pub struct WordSum {
    /// So far, without what is carried.
    pub sum: u64,
    /// The bytes of a word that the next piece completes, and how many they are.
    carried: ([u8; 8], usize),
}

impl WordSum {
    /// Adds a value, or the next piece of one.
    #[inline(always)]
    pub fn add(&mut self, piece: Piece<'_>) {
        if piece.is_last && self.carried.1 == 0 {
            self.sum = self.sum.wrapping_add(sum_words(piece.bytes));
        } else {
            self.add_part(piece);
        }
    }

    fn add_part(&mut self, piece: Piece<'_>) {
        let (word, carried) = &mut self.carried;
        let (front, rest) = piece.bytes.split_at(piece.bytes.len().min((8 - *carried) % 8));
        word[*carried..*carried + front.len()].copy_from_slice(front);
        *carried += front.len();
        if *carried == 8 {
            self.sum = self.sum.wrapping_add(u64::from_le_bytes(std::mem::take(word)));
            *carried = 0;
        }
        let whole = rest.len() - rest.len() % 8;
        self.sum = self.sum.wrapping_add(sum_words(&rest[..whole]));
        if whole < rest.len() {
            *carried = rest.len() - whole;
            word[..*carried].copy_from_slice(&rest[whole..]);
        }
        if piece.is_last {
            self.sum = self.sum.wrapping_add(u64::from_le_bytes(*word));
            self.carried = Default::default();
        }
    }
}

/// Builds the records of [`KeyKind::Key`]: header, key, value, as SQLite encodes a row of two
/// blobs.
///
/// All records of one data set have the same header, so comparing them byte by byte orders them
/// by key.
#[derive(Debug, Default)]
pub struct RecordBuffer {
    bytes: Vec<u8>,
}

impl RecordBuffer {
    /// Header and key: what every record with this key begins with.
    pub fn prefix(&mut self, entry: &Entry<'_>) -> &[u8] {
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0, 12 + 2 * KEY_SIZE as u8]);
        push_varint(&mut self.bytes, 12 + 2 * entry.value.len() as u64);
        self.bytes[0] = self.bytes.len() as u8;
        self.bytes.extend_from_slice(entry.key);
        &self.bytes
    }

    /// The record.
    pub fn record(&mut self, entry: &Entry<'_>) -> &[u8] {
        self.prefix(entry);
        self.bytes.extend_from_slice(entry.value);
        &self.bytes
    }
}

/// Key and value of a record that [`RecordBuffer`] built.
#[inline]
pub fn split_record(record: &[u8]) -> (&[u8], &[u8]) {
    let header = record.first().map_or(0, |&size| size as usize);
    record.get(header..).and_then(|body| body.split_at_checked(KEY_SIZE)).unwrap_or((&[], &[]))
}

fn push_varint(out: &mut Vec<u8>, value: u64) {
    let groups = (64 - value.max(1).leading_zeros()).div_ceil(7).min(8);
    for group in (0..groups).rev() {
        let more = if group > 0 { 0x80 } else { 0 };
        out.push((value >> (7 * group)) as u8 & 0x7f | more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_split_into_key_and_value_and_sort_by_key() {
        let data = Data::new(300, 130);
        let mut buffer = RecordBuffer::default();
        let mut last = Vec::new();
        for index in 0..data.len() {
            let entry = data.entry(index, 1);
            let record = buffer.record(&entry).to_vec();
            assert_eq!(split_record(&record), (&entry.key[..], entry.value));
            assert!(record.starts_with(buffer.prefix(&entry)));
            assert!(last < record);
            last = record;
        }
        // Header of 4 bytes, a 16-byte blob, a 130-byte blob.
        assert_eq!(&last[..4], &[4, 44, 0x82, 0x10]);
    }

    #[test]
    fn damaged_records_split_into_nothing() {
        for record in [&[][..], &[200], &[2, 44, 1, 2, 3]] {
            assert_eq!(split_record(record), (&[][..], &[][..]));
        }
    }

    #[test]
    fn an_order_is_a_permutation_and_depends_on_the_seed() {
        let data = Data::new(1000, 8);
        let mut order = data.shuffled(1);
        assert_ne!(order, data.shuffled(2));
        assert_eq!(order, data.shuffled(1));
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1000));
    }

    #[test]
    fn every_byte_of_a_sum_counts() {
        let bytes: Vec<u8> = (1..=11).collect();
        for index in 0..bytes.len() {
            let mut other = bytes.clone();
            other[index] ^= 0x40;
            assert_ne!(sum_words(&bytes), sum_words(&other), "byte {index}");
        }
    }

    #[test]
    fn pieces_sum_up_to_the_whole() {
        let bytes: Vec<u8> = (1..=41).collect();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut sum = WordSum::default();
                for _ in 0..2 {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    for (index, bytes) in pieces.into_iter().enumerate() {
                        sum.add(Piece { bytes, is_last: index == 2 });
                    }
                }
                assert_eq!(sum.sum, sum_words(&bytes).wrapping_mul(2), "{first} {second}");
            }
        }
    }
}
