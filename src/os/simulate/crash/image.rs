//! What a crash leaves of the recorded changes; pure.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::super::super::MemoryVfs;
use super::super::scramble;
use super::{Change, FileId, Record, directory_of};

/// The unit that is on the medium as a whole or not at all, in bytes.
const SECTOR: usize = 512;

/// The fate of what was not synced when the power failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// All of it is there.
    Keep,
    /// None of it is there, nor any name that was made, or gone any that was removed.
    Lose,
    /// Each sector, size and row of names has a version of its own, chosen by the seed.
    Part {
        /// Another seed, another choice.
        seed: u64,
    },
}

/// The files of a disk at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskImage {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl DiskImage {
    /// An image of these files.
    pub fn new(files: BTreeMap<PathBuf, Vec<u8>>) -> DiskImage {
        DiskImage { files }
    }

    /// All files, by path.
    pub fn files(&self) -> &BTreeMap<PathBuf, Vec<u8>> {
        &self.files
    }

    /// The content of one file, `None` if it is not there.
    pub fn content(&self, path: &Path) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// A disk in memory with these files.
    pub fn to_memory(&self) -> MemoryVfs {
        let disk = MemoryVfs::new();
        for (path, content) in &self.files {
            disk.put(path, content.clone());
        }
        disk
    }

    /// Writes the files below `directory`, which stands for the root; what is there already and
    /// not in the image stays.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_to(&self, directory: &Path) -> io::Result<()> {
        for (path, content) in &self.files {
            let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
            let path = directory.join(names.collect::<PathBuf>());
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, content)?;
        }
        Ok(())
    }
}

/// The changes up to `after`, each done as it was made.
pub(super) fn killed(record: &Record, after: usize, cut: Option<usize>) -> DiskImage {
    let (mut names, mut contents) = start(record);
    let changes = record.changes.get(..after).unwrap_or(&record.changes);
    for (index, change) in changes.iter().enumerate() {
        match change {
            Change::Create { path, file } => {
                names.insert(path.clone(), *file);
            }
            Change::Delete { path } => {
                names.remove(path);
            }
            Change::Write { file, offset, bytes } => {
                let cut = cut.filter(|_| index + 1 == changes.len()).unwrap_or(bytes.len());
                let bytes = bytes.get(..cut).unwrap_or(bytes);
                write(contents.entry(*file).or_default(), *offset, bytes);
            }
            Change::Truncate { file, size } => {
                contents.entry(*file).or_default().resize(position(*size), 0);
            }
            Change::Sync { .. } | Change::SyncDirectory { .. } => {}
        }
    }
    named(&names, |file| contents.get(&file).cloned().unwrap_or_default())
}

/// The changes up to `after`, as far as synced, and what `unsynced` leaves of the rest.
pub(super) fn power_lost(record: &Record, after: usize, unsynced: Unsynced) -> DiskImage {
    let (mut names, contents) = start(record);
    let changes = record.changes.get(..after).unwrap_or(&record.changes);
    let mut files: BTreeMap<FileId, History<'_>> = contents
        .into_iter()
        .map(|(file, synced)| (file, History { synced, since: Vec::new() }))
        .collect();
    let mut entries: BTreeMap<PathBuf, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        match change {
            Change::Create { path, .. } | Change::Delete { path } => {
                entries.entry(directory_of(path)).or_default().push(change);
            }
            Change::SyncDirectory { directory } => {
                for change in entries.remove(directory).unwrap_or_default() {
                    apply_name(&mut names, change);
                }
            }
            Change::Write { file, .. } | Change::Truncate { file, .. } => {
                files.entry(*file).or_default().since.push(change);
            }
            Change::Sync { file } => files.entry(*file).or_default().settle(),
        }
    }
    let mut choice = Choice { fate: unsynced, drawn: 0 };
    for row in entries.values() {
        // A directory is one list: what is undone is its end, the last change first.
        let kept = choice.among(row.len() + 1);
        for change in row.iter().take(kept) {
            apply_name(&mut names, change);
        }
    }
    named(&names, |file| {
        files.get(&file).map(|history| history.remains(&mut choice)).unwrap_or_default()
    })
}

type Names = BTreeMap<PathBuf, FileId>;

fn start(record: &Record) -> (Names, BTreeMap<FileId, Vec<u8>>) {
    let names = record.start.keys().cloned().zip(0..).collect();
    let contents = (0..).zip(record.start.values().cloned()).collect();
    (names, contents)
}

fn named(names: &Names, mut content: impl FnMut(FileId) -> Vec<u8>) -> DiskImage {
    DiskImage::new(names.iter().map(|(path, &file)| (path.clone(), content(file))).collect())
}

fn apply_name(names: &mut Names, change: &Change) {
    match change {
        Change::Create { path, file } => {
            names.insert(path.clone(), *file);
        }
        Change::Delete { path } => {
            names.remove(path);
        }
        _ => {}
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn write(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = position(offset);
    let end = start.saturating_add(bytes.len());
    if !bytes.is_empty() && content.len() < end {
        content.resize(end, 0);
    }
    if let Some(range) = content.get_mut(start..end) {
        range.copy_from_slice(bytes);
    }
}

/// Draws one of several versions, the first being the synced one and the last the latest.
struct Choice {
    fate: Unsynced,
    drawn: u64,
}

impl Choice {
    /// A number below `count`, which is at least 1.
    fn among(&mut self, count: usize) -> usize {
        match self.fate {
            Unsynced::Keep => count.saturating_sub(1),
            Unsynced::Lose => 0,
            Unsynced::Part { seed } => {
                self.drawn += 1;
                let random = scramble(scramble(seed).wrapping_add(self.drawn));
                (random % (count.max(1) as u64)) as usize
            }
        }
    }
}

/// One file: what is safe, and what happened since.
#[derive(Default)]
struct History<'a> {
    synced: Vec<u8>,
    /// Writes and truncations only.
    since: Vec<&'a Change>,
}

impl History<'_> {
    /// A sync: all that happened is safe.
    fn settle(&mut self) {
        for change in self.since.drain(..) {
            apply_content(&mut self.synced, change);
        }
    }

    fn remains(&self, choice: &mut Choice) -> Vec<u8> {
        let mut content = self.synced.clone();
        let mut sizes = vec![content.len()];
        // Of each sector touched since: its versions, the synced one left out.
        let mut sectors: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        for change in &self.since {
            let touched = apply_content(&mut content, change);
            sizes.push(content.len());
            if touched.is_empty() {
                continue;
            }
            for sector in touched.start / SECTOR..touched.end.div_ceil(SECTOR) {
                let start = (sector * SECTOR).min(content.len());
                let end = start.saturating_add(SECTOR).min(content.len());
                let version = content.get(start..end).unwrap_or_default().to_vec();
                sectors.entry(sector).or_default().push(version);
            }
        }
        if choice.fate == Unsynced::Keep {
            return content;
        }
        let size = sizes.get(choice.among(sizes.len())).copied().unwrap_or(0);
        let mut result = self.synced.clone();
        result.resize(size, 0);
        for (sector, versions) in sectors {
            let Some(chosen) = choice.among(versions.len() + 1).checked_sub(1) else { continue };
            let Some(version) = versions.get(chosen) else { continue };
            overwrite_sector(&mut result, sector * SECTOR, version);
        }
        result
    }
}

/// Puts a version of a sector into `content`, zeros where the version is shorter, and no more
/// than there is room for.
fn overwrite_sector(content: &mut [u8], start: usize, version: &[u8]) {
    let end = start.saturating_add(SECTOR).min(content.len());
    let Some(place) = content.get_mut(start..end) else { return };
    place.fill(0);
    for (to, from) in place.iter_mut().zip(version) {
        *to = *from;
    }
}

/// Makes a write or truncation. Returns the range of bytes that were written.
fn apply_content(content: &mut Vec<u8>, change: &Change) -> std::ops::Range<usize> {
    match change {
        Change::Write { offset, bytes, .. } => {
            write(content, *offset, bytes);
            let start = position(*offset);
            // A hole left behind the old end is zeros, which reading would give anyway.
            start..start.saturating_add(bytes.len())
        }
        Change::Truncate { size, .. } => {
            // A file system changes a size as a whole: bytes that were cut off come back with
            // it or not at all, and never as zeros.
            content.resize(position(*size), 0);
            0..0
        }
        _ => 0..0,
    }
}
