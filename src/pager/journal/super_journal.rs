//! The super-journal: the file that makes one transaction of several databases.
//!
//! It lists the journals of all of them, each path followed by a zero byte. Each of these journals
//! names it in a record at its very end, so that it commits when the super-journal is deleted:
//!
//! | offset | length | field |
//! | --- | --- | --- |
//! | 0 | 4 | number of the lock page: no valid page record begins so |
//! | 4 | n | absolute path of the super-journal |
//! | 4 + n | 4 | n |
//! | 8 + n | 4 | sum of the bytes of the path, each taken as signed |
//! | 12 + n | 8 | magic |
//!
//! Source: SQLite file format, "The Rollback Journal"; SQLite "Atomic Commit", multi-file commit.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::record::MAGIC;
use crate::error::{Error, Result};
use crate::format::bytes::{slice, u32_at};
use crate::memory;
use crate::os::File;

/// Bytes of the record behind the path.
const TAIL: usize = 16;
/// Longest path that is believed.
const PATH_MAX: u32 = 4096;
/// Longest super-journal that is read.
const LIST_MAX: u64 = 1 << 20;

/// The record that names the super-journal `path`.
///
/// # Errors
/// [`Error::NoMemory`], [`Error::CannotOpen`] if the path is too long.
pub(super) fn encode_super_record(path: &[u8], lock_page: u32) -> Result<Vec<u8>> {
    let length = u32::try_from(path.len()).ok().filter(|length| (1..PATH_MAX).contains(length));
    let Some(length) = length else {
        return Err(Error::CannotOpen("the path of the super-journal is too long"));
    };
    let mut record = Vec::new();
    memory::reserve_exact(&mut record, 4 + path.len() + TAIL)?;
    record.extend_from_slice(&lock_page.to_be_bytes());
    record.extend_from_slice(path);
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(&signed_sum(path).to_be_bytes());
    record.extend_from_slice(&MAGIC);
    Ok(record)
}

/// The path of the super-journal that a journal names; `None` if it names none.
///
/// # Errors
/// [`Error::NoMemory`]; those of reading.
pub(in crate::pager) fn read_super_name(file: &dyn File) -> Result<Option<PathBuf>> {
    let size = file.size()?;
    let Some(tail_at) = size.checked_sub(TAIL as u64) else { return Ok(None) };
    let mut tail = [0; TAIL];
    file.read_at(&mut tail, tail_at)?;
    let length = u32_at(&tail, 0)?;
    let stored = u32_at(&tail, 4)?;
    if slice(&tail, 8, MAGIC.len())? != MAGIC || length == 0 || length >= PATH_MAX {
        return Ok(None);
    }
    let Some(at) = tail_at.checked_sub(u64::from(length)) else { return Ok(None) };
    let path = read_bytes(file, at, length as usize)?;
    // Where C's `char` is unsigned, so is the sum.
    let unsigned = path.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    let valid = (stored == signed_sum(&path) || stored == unsigned) && !path.contains(&0);
    Ok(valid.then(|| PathBuf::from(OsStr::from_bytes(&path))))
}

/// The content of a super-journal that lists `journals`.
///
/// # Errors
/// [`Error::NoMemory`].
pub(in crate::pager) fn encode_journal_list(journals: &[PathBuf]) -> Result<Vec<u8>> {
    let length = journals.iter().map(|path| path.as_os_str().len() + 1).sum();
    let mut list = Vec::new();
    memory::reserve_exact(&mut list, length)?;
    for path in journals {
        list.extend_from_slice(path.as_os_str().as_bytes());
        list.push(0);
    }
    Ok(list)
}

/// The journals that a super-journal lists.
///
/// # Errors
/// [`Error::NoMemory`]; those of reading.
pub(in crate::pager) fn listed_journals(file: &dyn File) -> Result<Vec<PathBuf>> {
    let size = file.size()?;
    if size > LIST_MAX {
        return Ok(Vec::new());
    }
    let bytes = read_bytes(file, 0, size as usize)?;
    let names = bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| PathBuf::from(OsStr::from_bytes(name))).collect())
}

/// Whether a path is of the form that super-journals have, `…-mjXXXXXX9XX` with upper-case
/// hexadecimal digits: nothing else is ever deleted as one.
pub(in crate::pager) fn is_super_journal_name(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let Some(at) = bytes.len().checked_sub(12) else { return false };
    let hex = |byte: &u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(byte);
    match bytes.get(at..) {
        Some([b'-', b'm', b'j', digits @ ..]) => {
            digits.iter().all(hex) && digits.get(6) == Some(&b'9')
        }
        _ => false,
    }
}

fn signed_sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, byte| sum.wrapping_add_signed(i32::from(byte.cast_signed())))
}

fn read_bytes(file: &dyn File, at: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    memory::reserve_exact(&mut bytes, length)?;
    bytes.resize(length, 0);
    file.read_at(&mut bytes, at)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::super::temporary::MemoryFile;
    use super::*;

    fn file_with(bytes: &[u8]) -> Box<dyn File> {
        let mut file = MemoryFile::boxed();
        file.write_at(bytes, 0).unwrap();
        file
    }

    #[test]
    fn the_record_has_the_bytes_of_the_format_and_is_found_again() {
        let path = "/tmp/\u{e9}-mj0123459AB";
        let record = encode_super_record(path.as_bytes(), 0x0010_0001).unwrap();
        let n = path.len();
        assert_eq!(record[..4], [0, 0x10, 0, 1]);
        assert_eq!(record[4..4 + n], *path.as_bytes());
        assert_eq!(record[4 + n..8 + n], (n as u32).to_be_bytes());
        let signed: i32 = path.bytes().map(|byte| i32::from(byte as i8)).sum();
        assert_eq!(record[8 + n..12 + n], signed.to_be_bytes());
        assert_eq!(record[12 + n..], MAGIC);

        let mut journal = vec![9; 700];
        journal.extend_from_slice(&record);
        assert_eq!(read_super_name(&*file_with(&journal)).unwrap(), Some(path.into()));
        // A sum over unsigned bytes is accepted, another one is not; nor is a cut record.
        let unsigned: u32 = path.bytes().map(u32::from).sum();
        let at = journal.len() - 12;
        journal[at..at + 4].copy_from_slice(&unsigned.to_be_bytes());
        assert!(read_super_name(&*file_with(&journal)).unwrap().is_some());
        journal[at] ^= 1;
        assert_eq!(read_super_name(&*file_with(&journal)).unwrap(), None);
        assert_eq!(read_super_name(&*file_with(&record[1..])).unwrap(), Some(path.into()));
        assert_eq!(read_super_name(&*file_with(&record[5..])).unwrap(), None);
        assert_eq!(read_super_name(&*file_with(&[])).unwrap(), None);
    }

    #[test]
    fn only_the_pattern_is_a_super_journal() {
        let is = |name: &str| is_super_journal_name(Path::new(name));
        assert!(is("/a/t.db-mj0123459AB"));
        for name in ["/a/t.db-mj0123458AB", "/a/t.db-mj01234g9AB", "/a/t.db", "", "/a/t.db-mj9AB"] {
            assert!(!is(name), "{name}");
        }
    }

    #[test]
    fn listed_names_end_with_a_zero_byte() {
        let listed = [PathBuf::from("/a-journal"), PathBuf::from("/b-journal")];
        let list = encode_journal_list(&listed).unwrap();
        assert_eq!(list, b"/a-journal\0/b-journal\0");
        assert_eq!(listed_journals(&*file_with(&list)).unwrap(), listed);
    }
}
