//! Stock SQLite's own system calls, with a look at the files before each one that changes them.
//!
//! SQLite lets its calls be replaced for tests. A process that is killed leaves what its calls
//! have done so far, so what the files hold before the n-th change is what a kill leaves there,
//! at any call up to that one: reads, locks and syncs change nothing. A write is made in two
//! parts, with a look in between.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::sync::Once;

use rusqlite::ffi;
pub(crate) use tclbtree::os::simulate::DiskImage;

use crate::support::random::Random;

/// What a kill leaves.
pub(crate) struct Cut {
    /// The call before which it came.
    pub(crate) at: String,
    /// The files.
    pub(crate) image: DiskImage,
}

struct Watch {
    directory: PathBuf,
    random: Random,
    cuts: Vec<Cut>,
}

thread_local! {
    /// What the calls of this thread are watched for.
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// The files of `directory`, by name.
pub(crate) fn image_of(directory: &Path) -> DiskImage {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = PathBuf::from(entry.file_name());
        files.insert(name, std::fs::read(entry.path()).unwrap());
    }
    DiskImage::new(files)
}

/// Runs `work`, in which stock SQLite changes files of `directory`, and returns what a kill would
/// have left at each place, the end included.
///
/// To look at a file closes it, which takes the locks of the process off it. Nobody else is there
/// to miss them.
pub(crate) fn cuts(directory: &Path, seed: u64, work: impl FnOnce()) -> Vec<Cut> {
    replace_calls();
    let watch =
        Watch { directory: directory.to_owned(), random: Random::new(seed), cuts: Vec::new() };
    WATCH.set(Some(watch));
    work();
    look(|| "the end".to_owned());
    WATCH.take().unwrap().cuts
}

/// Notes what the files hold, if this thread is watched.
fn look(at: impl FnOnce() -> String) {
    WATCH.with_borrow_mut(|watch| {
        if let Some(watch) = watch {
            let image = image_of(&watch.directory);
            if watch.cuts.last().is_none_or(|last| last.image != image) {
                watch.cuts.push(Cut { at: at(), image });
            }
        }
    });
}

/// Where a write of `length` bytes is interrupted: 0 for not at all.
fn interruption(length: usize) -> usize {
    WATCH.with_borrow_mut(|watch| watch.as_mut().map_or(0, |watch| watch.random.below(length)))
}

/// Makes a write in two parts by `write`, which is given the range of bytes.
fn in_two_parts(length: usize, name: &str, mut write: impl FnMut(usize, usize) -> isize) -> isize {
    look(|| format!("{name} of {length} bytes"));
    let middle = interruption(length);
    if middle == 0 {
        return write(0, length);
    }
    let first = write(0, middle);
    if first != middle as isize {
        return first;
    }
    look(|| format!("byte {middle} of {length} in {name}"));
    match write(middle, length) {
        error if error < 0 => error,
        rest => first + rest,
    }
}

unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    if flags & libc::O_CREAT != 0 {
        look(|| "open".to_owned());
    }
    // SAFETY: the path is SQLite's, and NUL-terminated.
    unsafe { libc::open(path, flags, mode as c_uint) }
}

unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    look(|| "unlink".to_owned());
    // SAFETY: the path is SQLite's, and NUL-terminated.
    unsafe { libc::unlink(path) }
}

unsafe extern "C" fn ftruncate(file: c_int, size: libc::off_t) -> c_int {
    look(|| format!("ftruncate to {size}"));
    // SAFETY: no memory is involved.
    unsafe { libc::ftruncate(file, size) }
}

unsafe extern "C" fn write(file: c_int, bytes: *const c_void, length: usize) -> isize {
    // SAFETY: SQLite's buffer has `length` bytes, and the range is within it.
    in_two_parts(length, "write", |from, to| unsafe {
        libc::write(file, bytes.byte_add(from), to - from)
    })
}

unsafe extern "C" fn pwrite(
    file: c_int,
    bytes: *const c_void,
    length: usize,
    offset: libc::off_t,
) -> isize {
    // SAFETY: SQLite's buffer has `length` bytes, and the range is within it.
    in_two_parts(length, "pwrite", |from, to| unsafe {
        libc::pwrite(file, bytes.byte_add(from), to - from, offset + from as libc::off_t)
    })
}

/// Puts the functions above in the place of SQLite's calls, for the whole process, before the
/// first connection that is watched. The others of this program are on the same thread.
fn replace_calls() {
    static ONCE: Once = Once::new();
    // SAFETY: the functions have the signatures with which SQLite calls what has these names, and
    // the names are NUL-terminated.
    ONCE.call_once(|| unsafe {
        let vfs = ffi::sqlite3_vfs_find(std::ptr::null());
        let set = (*vfs).xSetSystemCall.unwrap();
        let replace = |name: &std::ffi::CStr, function: *const ()| {
            let function: unsafe extern "C" fn() = std::mem::transmute(function);
            set(vfs, name.as_ptr(), Some(function))
        };
        for (name, function) in [
            (c"open", open as *const ()),
            (c"unlink", unlink as *const ()),
            (c"ftruncate", ftruncate as *const ()),
            (c"write", write as *const ()),
        ] {
            assert_eq!(replace(name, function), ffi::SQLITE_OK, "{name:?}");
        }
        // The machine has the one or the other.
        let wide = replace(c"pwrite64", pwrite as *const ());
        let plain = replace(c"pwrite", pwrite as *const ());
        assert!([wide, plain].contains(&ffi::SQLITE_OK));
    });
}
