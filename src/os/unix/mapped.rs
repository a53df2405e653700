//! Which reads of a file go through its mapping, and when there is one.
//!
//! A read goes through the mapping if all of it lies in what the file is known to have, in whole
//! units: behind the end, the last unit of a mapping has zeros, where a read by a call falls short.
//! So what is known never exceeds what a look at the file's size, or a write, has told last.
//! Other processes that cut the file, as they may while no lock is held, are seen by the next
//! look at the size; a read before that faults, or has the zeros with which it would have
//! been filled up.

use super::mapping::{Mapping, UNIT, faults_are_caught, thread_mark};
use super::sys::{self, Descriptor};

/// So many reads by a call come before a look whether mapping is worth its while: it costs about
/// as much as these.
const CALLS_BEFORE_LOOK: u32 = 32;

/// Reads through the mapping between two looks whether faults are still caught: a look takes as
/// long as a read by a call.
const READS_BEFORE_CHECK: u32 = 128;

/// Beyond the file as much again is mapped, so that it may grow, but not more than this.
const ROOM_MAX: u64 = 64 << 20;

/// Least part of a file that is mapped, in bytes: addresses cost nothing.
const LENGTH_MIN: u64 = 16 << 20;

/// The file systems on which a mapping is known to show at once what a write by a call has
/// written, by their numbers in `statfs`. An overlay is none: there a file may become another one
/// beneath the mapping, when it is first written to.
const COHERENT: [u32; 6] = [
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0xf2f5_2010, // F2FS
    0xca45_1a4e, // bcachefs
    0x0102_1994, // tmpfs
];

/// A file's mapping, if it has one.
#[derive(Debug, Default)]
pub(super) struct MappedReads {
    mapping: Option<Mapping>,
    /// Bytes from the start that the file is known to have, whole units, all mapped.
    known: u64,
    /// Reads by a call since the last look.
    calls: u32,
    /// Reads through the mapping until the next look whether faults are caught, and the thread that
    /// the last one was made on.
    reads_left: u32,
    thread: usize,
    /// Nothing is mapped: this kind of file is not, or the system refused.
    refused: bool,
}

impl MappedReads {
    /// Of a file that is never mapped.
    pub(super) fn never() -> MappedReads {
        MappedReads { refused: true, ..MappedReads::default() }
    }

    /// Reads through the mapping if that is possible; otherwise a call has to do it.
    pub(super) fn read(&mut self, buffer: &mut [u8], offset: u64) -> bool {
        let end = offset.saturating_add(buffer.len() as u64);
        if self.mapping.is_none() || end > self.known {
            return false;
        }
        let thread = thread_mark();
        if self.reads_left == 0 || thread != self.thread {
            if !faults_are_caught() {
                *self = MappedReads::never();
                return false;
            }
            (self.reads_left, self.thread) = (READS_BEFORE_CHECK, thread);
        }
        self.reads_left -= 1;
        let Some(mapping) = &self.mapping else { return false };
        let is_read = mapping.read(buffer, offset);
        if !is_read {
            // The file is shorter than was known, or the disk failed: the call will tell.
            self.known = 0;
            self.calls = 0;
        }
        is_read
    }

    /// Asks for the memory of what will be read, if it is mapped.
    pub(super) fn will_read(&self, offset: u64, length: usize) {
        if let Some(mapping) = &self.mapping
            && offset.saturating_add(length as u64) <= self.known
        {
            mapping.prefetch(offset, length);
        }
    }

    /// A read was made by a call: looks at the file after so many of them.
    pub(super) fn note_call(&mut self, file: Descriptor) {
        if self.refused {
            return;
        }
        self.calls += 1;
        if self.calls >= CALLS_BEFORE_LOOK {
            self.calls = 0;
            self.look(file);
        }
    }

    /// The file was written up to `end`.
    pub(super) fn note_write(&mut self, end: u64) {
        if let Some(mapping) = &self.mapping {
            self.known = self.known.max(whole(end).min(mapping.length()));
        }
    }

    /// The file has, or is about to have, `size` bytes and no more.
    pub(super) fn note_size(&mut self, size: u64) {
        self.known = self.known.min(whole(size));
    }

    fn look(&mut self, file: Descriptor) {
        let Ok(status) = sys::status(file) else { return };
        let size = whole(status.size);
        if size == 0 {
            return;
        }
        if self.mapping.as_ref().is_none_or(|mapping| mapping.length() < size) {
            self.known = 0;
            // The old one goes first: the system may have addresses for one of the two only.
            self.mapping = None;
            let wanted = size.saturating_add(size.min(ROOM_MAX)).max(LENGTH_MIN);
            let is_coherent = sys::file_system(file).is_ok_and(|kind| COHERENT.contains(&kind));
            self.mapping = is_coherent.then(|| Mapping::new(file, wanted)).flatten();
            self.refused = self.mapping.is_none();
        }
        if self.mapping.is_some() {
            self.known = size;
        }
    }
}

/// What of `size` bytes is in whole units.
fn whole(size: u64) -> u64 {
    size - size % UNIT
}

#[cfg(test)]
mod tests;
