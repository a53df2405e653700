//! What was written to files and not synced since, so that a process that ends can take it along
//! as a power failure would. Names are not taken along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::super::{Access, File, OpenKind, OpenRequest, Vfs};
use super::super::Unsynced;
use super::super::scramble;
use crate::error::Result;

/// The unit that is on the medium as a whole or not at all, in bytes.
const SECTOR: usize = 512;

/// A file before a write or a cut.
#[derive(Debug)]
struct Before {
    size: u64,
    offset: u64,
    /// What was there, as far as the change reaches.
    bytes: Vec<u8>,
}

/// The changes of one file since its last sync, in order.
#[derive(Debug)]
struct Changes {
    vfs: Arc<dyn Vfs>,
    list: Vec<Before>,
}

/// The changes of all files since their last sync, and what is to become of them.
#[derive(Debug)]
pub(super) struct Record {
    fate: Unsynced,
    files: BTreeMap<PathBuf, Changes>,
}

impl Record {
    pub(super) fn new(fate: Unsynced) -> Record {
        Record { fate, files: BTreeMap::new() }
    }

    /// Notes what `file` has in a range that is about to be changed, up to its end with `None`.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn note(
        &mut self,
        vfs: &Arc<dyn Vfs>,
        path: &Path,
        file: &dyn File,
        offset: u64,
        length: Option<u64>,
    ) -> Result<()> {
        let size = file.size()?;
        let end = length.map_or(size, |length| size.min(offset.saturating_add(length)));
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(offset)).unwrap_or(0)];
        file.read_at(&mut bytes, offset)?;
        let new = || Changes { vfs: Arc::clone(vfs), list: Vec::new() };
        let changes = self.files.entry(path.to_owned()).or_insert_with(new);
        changes.list.push(Before { size, offset, bytes });
        Ok(())
    }

    /// The file was synced, or has no name any more.
    pub(super) fn forget(&mut self, path: &Path) {
        self.files.remove(path);
    }

    /// Does to the files what their fate is. What fails stays as it was written.
    pub(super) fn carry_out(&mut self) {
        for (path, changes) in std::mem::take(&mut self.files) {
            let _ = changes.carry_out(&path, self.fate);
        }
    }
}

impl Changes {
    fn carry_out(&self, path: &Path, fate: Unsynced) -> Result<()> {
        let request = OpenRequest {
            kind: OpenKind::Plain,
            access: Access::ReadWrite,
            exclusive: false,
            delete_on_close: false,
            lock_offset: crate::format::LockPage::STANDARD_OFFSET,
        };
        let mut file = self.vfs.open(Some(path), request)?.file;
        let mut now = vec![0; usize::try_from(file.size()?).unwrap_or(0)];
        file.read_at(&mut now, 0)?;
        let content = survivor(now, &self.list, fate);
        file.write_at(&content, 0)?;
        file.truncate(content.len() as u64)
    }
}

/// What is left of a file that has `now` after `changes`.
fn survivor(now: Vec<u8>, changes: &[Before], fate: Unsynced) -> Vec<u8> {
    let mut old = now.clone();
    for before in changes.iter().rev() {
        let start = usize::try_from(before.offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(before.bytes.len());
        if old.len() < end {
            old.resize(end, 0);
        }
        if let Some(place) = old.get_mut(start..end) {
            place.copy_from_slice(&before.bytes);
        }
        old.resize(usize::try_from(before.size).unwrap_or(usize::MAX), 0);
    }
    match fate {
        Unsynced::Keep => now,
        Unsynced::Lose => old,
        Unsynced::Part { seed } => mix(now, old, seed),
    }
}

/// Of each sector, and of the size, one of the two versions.
fn mix(now: Vec<u8>, old: Vec<u8>, seed: u64) -> Vec<u8> {
    let is_old = |place: u64| scramble(scramble(seed).wrapping_add(place)) & 1 == 0;
    let size = if is_old(0) { old.len() } else { now.len() };
    let (mut content, mut older) = (now, old);
    content.resize(size, 0);
    older.resize(size, 0);
    let sectors = content.chunks_mut(SECTOR).zip(older.chunks(SECTOR));
    for (place, (sector, old)) in (1..).zip(sectors) {
        if is_old(place) {
            sector.copy_from_slice(old);
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(size: u64, offset: u64, bytes: &[u8]) -> Before {
        Before { size, offset, bytes: bytes.to_vec() }
    }

    #[test]
    fn what_is_lost_is_undone_from_the_end() {
        // "0123456789", then AB at 2, a cut to 5, a write of xyz at 6.
        let changes = [before(10, 2, b"23"), before(10, 5, b"56789"), before(5, 6, b"")];
        let now = b"01AB4\0xyz".to_vec();
        assert_eq!(survivor(now.clone(), &changes, Unsynced::Lose), b"0123456789");
        assert_eq!(survivor(now.clone(), &changes, Unsynced::Keep), now);
        assert_eq!(survivor(b"xy".to_vec(), &[before(0, 0, b"")], Unsynced::Lose), b"");
    }

    #[test]
    fn of_each_sector_a_part_has_one_version() {
        let (now, old) = (vec![b'n'; 4 * SECTOR], vec![b'o'; 2 * SECTOR]);
        let changes = [before(old.len() as u64, 0, &old)];
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let content = survivor(now.clone(), &changes, Unsynced::Part { seed });
            for sector in content.chunks(SECTOR) {
                assert!(sector.iter().all(|byte| byte == &sector[0]));
            }
            let firsts: Vec<u8> = content.chunks(SECTOR).map(|sector| sector[0]).collect();
            assert!(firsts.iter().skip(2).all(|&first| first == b'n' || first == 0));
            seen.insert(firsts);
        }
        assert_eq!(seen.len(), 4 + 16);
    }
}
