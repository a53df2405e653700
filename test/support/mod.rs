//! What the cross-layer tests share.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`random`] | repeatable random numbers |
//! | [`record`] | records for the schema table and for rows that stock SQLite reads |
//! | [`book`] | a database that this engine and stock SQLite both understand |
//! | [`cases`] | numbered cases that may panic or hang |
//! | [`tree`] | what a tree of any kind should hold |
//! | [`stock`] | stock SQLite, in this process and as the `sqlite3` program |
//!
//! What a run does beyond the normal one is said by the environment:
//!
//! | variable | used by | meaning |
//! | --- | --- | --- |
//! | `TCLBTREE_SEED` | all | first seed, or first case |
//! | `TCLBTREE_SEEDS` | those with `TCLBTREE_SECONDS` | how many seeds |
//! | `TCLBTREE_SECONDS` | model, limits, keys, tangled, crash, killed, shared | go on for so long |
//! | `TCLBTREE_OPERATIONS` | model, limits | operations for each seed |
//! | `TCLBTREE_TRANSACTIONS` | interop | transactions for each setting |
//! | `TCLBTREE_IMAGES` | crash | crashes for each stream of transactions |
//! | `TCLBTREE_STREAMS` | write_behind | streams for each setting |
//! | `TCLBTREE_CASES` | damage | damaged files |
//! | `TCLBTREE_LONG` | interop, killed, queue, write_behind | 1: also the file of 100 MB, every system call, 1 GiB through the queue, stock SQLite looks at every image |

#![allow(dead_code, reason = "every test binary compiles all of this and uses a part")]

pub(crate) mod book;
pub(crate) mod cases;
pub(crate) mod random;
pub(crate) mod record;
pub(crate) mod stock;
pub(crate) mod tree;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tclbtree::os::simulate::DiskImage;

/// A directory that goes away with the value.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// A new, empty directory; `name` makes it recognisable.
    pub(crate) fn new(name: &str) -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("tclbtree-{name}-{}-{number}", std::process::id());
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(unique);
        std::fs::create_dir_all(&path).expect("temporary directory");
        Directory { path }
    }

    /// The path of `name` in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Its own path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes all files in it.
    pub(crate) fn clear(&self) {
        for entry in std::fs::read_dir(&self.path).expect("directory").flatten() {
            std::fs::remove_file(entry.path()).expect("file of the directory");
        }
    }

    /// Makes the files of `image`, which has no directories, all there is in it.
    pub(crate) fn show(&self, image: &DiskImage) {
        self.clear();
        image.write_to(&self.path).expect("files of the image");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// The number in the environment variable `name`, else `default`.
pub(crate) fn number_from(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}

/// How long and from which seed a random test runs.
///
/// `TCLBTREE_SEED` starts at that seed and `TCLBTREE_SEEDS` sets how many there are; with
/// `TCLBTREE_SECONDS` the test goes on with further seeds for that long. The last seed is printed,
/// so a long run is resumed behind it.
#[derive(Debug)]
pub(crate) struct Seeds {
    next: u64,
    left: u64,
    until: Option<Instant>,
    started: Instant,
}

impl Seeds {
    /// `count` seeds from 1, unless the environment says otherwise.
    pub(crate) fn from_environment(count: u64) -> Seeds {
        let seconds = number_from("TCLBTREE_SECONDS", 0);
        let started = Instant::now();
        let until = (seconds > 0).then(|| started + Duration::from_secs(seconds));
        let left = number_from("TCLBTREE_SEEDS", count);
        Seeds { next: number_from("TCLBTREE_SEED", 1), left, until, started }
    }
}

impl Iterator for Seeds {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let go_on = match self.until {
            Some(until) => Instant::now() < until,
            None => self.left > 0,
        };
        if !go_on {
            println!("next seed: {} ({:?})", self.next, self.started.elapsed());
            return None;
        }
        let seed = self.next;
        self.next += 1;
        self.left = self.left.saturating_sub(1);
        if self.until.is_some() {
            println!("seed {seed}");
        }
        Some(seed)
    }
}

/// Whether the long form of the tests was asked for.
pub(crate) fn is_long() -> bool {
    number_from("TCLBTREE_LONG", 0) != 0
}

/// Tells by name that a test could not run.
pub(crate) fn skipped(test: &str, why: &str) {
    println!("SKIPPED {test}: {why}");
}
