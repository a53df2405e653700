use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::in_child;
use super::super::mapping::tests::{forget_handler, while_blocked};
use super::super::tests::{Scratch, request};
use super::super::{Access, OpenKind, UnixVfs, Vfs};
use super::*;
use crate::os::File;

/// A place for a file, if files are mapped there: faults can be caught on this machine, and the
/// file system of the tests is one of those. What is not mapped is read by calls, which other
/// tests look at.
fn place() -> Option<(Scratch, PathBuf)> {
    let scratch = Scratch::new();
    let path = scratch.path("t");
    numbered(&path, 1);
    let file = read_often(UnixVfs::new(), &path, OpenKind::Database);
    let can_map = is_mapped(&path);
    drop(file);
    if !can_map {
        eprintln!("SKIPPED: files are not mapped here");
    }
    can_map.then_some((scratch, path))
}

/// The file, opened and read as often as it takes until it is mapped.
fn read_often(vfs: UnixVfs, path: &Path, kind: OpenKind) -> Box<dyn File> {
    let file = vfs.open(Some(path), request(kind, Access::ReadWrite)).unwrap().file;
    for _ in 0..CALLS_BEFORE_LOOK {
        file.read_at(&mut [0; 16], 0).unwrap();
    }
    file
}

fn is_mapped(path: &Path) -> bool {
    let path = path.to_str().unwrap();
    fs::read_to_string("/proc/self/maps").unwrap().lines().any(|line| line.ends_with(path))
}

/// What the file has from `at` on, up to a unit: what was there, and that the rest is zeros.
fn read(file: &dyn File, at: u64) -> Vec<u8> {
    let mut buffer = vec![0xee; UNIT as usize];
    let there = file.read_at(&mut buffer, at).unwrap();
    assert!(buffer[there..].iter().all(|&byte| byte == 0));
    buffer.truncate(there);
    buffer
}

/// A file of `units`, of which each has its own number everywhere.
fn numbered(path: &Path, units: u64) {
    let content: Vec<u8> = (0..units).flat_map(|unit| [unit as u8 + 1; UNIT as usize]).collect();
    fs::write(path, content).unwrap();
}

#[test]
fn databases_are_mapped_when_they_are_read_often_and_unmapped_when_closed() {
    let Some((_scratch, path)) = place() else { return };
    numbered(&path, 3);
    for kind in [OpenKind::Journal, OpenKind::SuperJournal, OpenKind::SubJournal, OpenKind::Plain] {
        let file = read_often(UnixVfs::new(), &path, kind);
        assert!(!is_mapped(&path), "{kind:?}");
        drop(file);
    }
    let file = read_often(UnixVfs::unmapped(), &path, OpenKind::Database);
    assert!(!is_mapped(&path));
    drop(file);
    let file = read_often(UnixVfs::new(), &path, OpenKind::Database);
    assert!(is_mapped(&path));
    drop(file);
    assert!(!is_mapped(&path));
}

#[test]
fn what_is_written_is_read_whoever_wrote_it() {
    let Some((_scratch, path)) = place() else { return };
    numbered(&path, 8);
    let mut file = read_often(UnixVfs::new(), &path, OpenKind::Database);
    let other = OpenOptions::new().write(true).open(&path).unwrap();
    for unit in 0..8 {
        assert_eq!(read(&*file, unit * UNIT), [unit as u8 + 1; UNIT as usize]);
        file.write_at(&[100 + unit as u8; UNIT as usize], unit * UNIT).unwrap();
        assert_eq!(read(&*file, unit * UNIT), [100 + unit as u8; UNIT as usize]);
        other.write_all_at(&[200 + unit as u8; 100], unit * UNIT + 50).unwrap();
        let found = read(&*file, unit * UNIT);
        assert_eq!(found[..50], [100 + unit as u8; 50]);
        assert_eq!(found[50..150], [200 + unit as u8; 100]);
    }
}

/// Cut by its owner or by somebody else, to any length, and made longer again, the file is what
/// reads by calls say it is, but that zeros may come from beyond the end of its last unit.
#[test]
fn a_file_that_is_cut_is_no_danger() {
    let Some((_scratch, path)) = place() else { return };
    for by_owner in [false, true] {
        for size in [0, 1, 100, UNIT - 1, UNIT, UNIT + 1, 5 * UNIT + 512, 8 * UNIT - 1] {
            numbered(&path, 8);
            let mut mapped = read_often(UnixVfs::new(), &path, OpenKind::Database);
            let called = read_often(UnixVfs::unmapped(), &path, OpenKind::Database);
            assert!(is_mapped(&path));
            if by_owner {
                mapped.truncate(size).unwrap();
            } else {
                OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
            }
            for at in [0, 10, UNIT, 2 * UNIT + 7, 5 * UNIT, 7 * UNIT, 8 * UNIT] {
                let (found, expected) = (read(&*mapped, at), read(&*called, at));
                assert!(found.starts_with(&expected), "{size} {at}");
                assert!(found[expected.len()..].iter().all(|&byte| byte == 0));
                if by_owner || size % UNIT == 0 {
                    assert_eq!(found.len(), expected.len(), "{size} {at}");
                }
            }
            numbered(&path, 9);
            for _ in 0..2 * CALLS_BEFORE_LOOK {
                for unit in [8, 0, 4] {
                    assert_eq!(read(&*mapped, unit * UNIT), [unit as u8 + 1; UNIT as usize]);
                }
            }
        }
    }
}

#[test]
fn a_look_at_the_size_takes_back_what_was_known() {
    let Some((_scratch, path)) = place() else { return };
    numbered(&path, 8);
    let file = read_often(UnixVfs::new(), &path, OpenKind::Database);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(4 * UNIT + 512).unwrap();
    assert_eq!(file.size().unwrap(), 4 * UNIT + 512);
    assert_eq!(read(&*file, 4 * UNIT), [5; 512]);
    assert_eq!(read(&*file, 4 * UNIT + 512), []);
    assert_eq!(read(&*file, 3 * UNIT), [4; UNIT as usize]);
}

#[test]
fn a_file_may_grow_beyond_its_mapping() {
    let Some((_scratch, path)) = place() else { return };
    numbered(&path, 1);
    let mut file = read_often(UnixVfs::new(), &path, OpenKind::Database);
    // Some of them beyond what is mapped at first, and at the next look.
    for place in [1, LENGTH_MIN / UNIT - 1, LENGTH_MIN / UNIT, 5 * LENGTH_MIN / UNIT] {
        let content = [place as u8 ^ 0x5a; UNIT as usize];
        file.write_at(&content, place * UNIT).unwrap();
        for _ in 0..2 * CALLS_BEFORE_LOOK {
            assert_eq!(read(&*file, place * UNIT), content);
            assert_eq!(read(&*file, place * UNIT + 1)[..], content[1..]);
            assert_eq!(read(&*file, 0), [1; UNIT as usize]);
        }
    }
}

/// A mapped file that is cut is read by calls where a fault would end the process, be it that the
/// signal is handled otherwise since, or that this thread does not take it.
#[test]
fn a_mapping_is_given_up_when_faults_are_not_caught_any_more() {
    let Some((_scratch, path)) = place() else { return };
    let cut = || OpenOptions::new().write(true).open(&path).unwrap().set_len(UNIT).unwrap();
    let is_read = |file: &dyn File, times| (0..times).all(|_| read(file, 0).len() == 4096);

    numbered(&path, 8);
    let answer = in_child(|| {
        let file = read_often(UnixVfs::new(), &path, OpenKind::Database);
        let was_mapped = is_mapped(&path);
        forget_handler();
        let is_right = is_read(&*file, READS_BEFORE_CHECK) && was_mapped && !is_mapped(&path);
        cut();
        i32::from(!is_right || !read(&*file, 7 * UNIT).is_empty())
    });
    assert_eq!(answer, Some(0));

    numbered(&path, 8);
    let file = read_often(UnixVfs::new(), &path, OpenKind::Database);
    assert!(is_read(&*file, 1) && is_mapped(&path));
    let elsewhere = move || {
        while_blocked(|| {
            cut();
            assert_eq!(read(&*file, 7 * UNIT), [0; 0]);
        });
    };
    std::thread::scope(|scope| scope.spawn(elsewhere).join().unwrap());
    assert!(!is_mapped(&path));
}
