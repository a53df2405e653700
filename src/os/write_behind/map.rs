//! Maps whose keys are our own numbers, or names of files: nobody chooses them to collide, and a
//! queued operation looks up a dozen.

use std::collections::HashMap;
use std::ffi::OsString;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::{Path, PathBuf};

/// A hash map with a quick hash.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

/// What is known by full path. Full paths are equal if their bytes are, which takes a fraction of
/// the time that looking at their parts does.
#[derive(Debug)]
pub(super) struct Names<V>(Map<OsString, V>);

impl<V> Default for Names<V> {
    fn default() -> Names<V> {
        Names(Map::default())
    }
}

impl<V> Names<V> {
    pub(super) fn get(&self, path: &Path) -> Option<&V> {
        self.0.get(path.as_os_str())
    }

    pub(super) fn get_mut(&mut self, path: &Path) -> Option<&mut V> {
        self.0.get_mut(path.as_os_str())
    }

    pub(super) fn get_or_default(&mut self, path: &Path) -> &mut V
    where
        V: Default,
    {
        self.0.entry(path.as_os_str().to_owned()).or_default()
    }

    pub(super) fn insert(&mut self, path: PathBuf, value: V) {
        self.0.insert(path.into_os_string(), value);
    }

    pub(super) fn remove(&mut self, path: &Path) -> Option<V> {
        self.0.remove(path.as_os_str())
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, &V)> {
        self.0.iter().map(|(path, value)| (Path::new(path), value))
    }

    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&Path, &V) -> bool) {
        self.0.retain(|path, value| keeps(Path::new(path), value));
    }
}

/// An odd number without pattern.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies and folds eight bytes at a time.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Quick(u64);

impl Quick {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.add(u64::from_le_bytes(*word)));
        let mut last = rest.len() as u64;
        rest.iter().for_each(|&byte| last = last << 8 | u64::from(byte));
        self.add(last);
    }

    fn write_u8(&mut self, number: u8) {
        self.add(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    /// The map takes the place from the low bits, which a product mixes least.
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
