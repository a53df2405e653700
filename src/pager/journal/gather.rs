//! A file that is appended to in large pieces.

use crate::error::Result;
use crate::memory;
use crate::os::File;

/// Bytes that are gathered before they are written.
const GATHERED_MAX: usize = 128 << 10;

/// A file with a buffer for what is appended.
#[derive(Debug)]
pub(in crate::pager) struct GatheredFile {
    file: Box<dyn File>,
    buffer: Vec<u8>,
    /// Where the buffer belongs in the file.
    flushed: u64,
}

impl GatheredFile {
    /// Appends to `file` from offset 0 on, over what is there. `buffer` is an old one for reuse.
    pub(in crate::pager) fn new(file: Box<dyn File>, mut buffer: Vec<u8>) -> GatheredFile {
        buffer.clear();
        GatheredFile { file, buffer, flushed: 0 }
    }

    /// The offset at which the next byte goes.
    pub(in crate::pager) fn end(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// Appends `parts`, all or none.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; those of writing, when the buffer was full.
    pub(in crate::pager) fn append(&mut self, parts: &[&[u8]]) -> Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if self.buffer.len() + length > GATHERED_MAX {
            self.flush()?;
        }
        memory::reserve(&mut self.buffer, length)?;
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        Ok(())
    }

    /// Appends `length` bytes: `front` and zeros behind it.
    ///
    /// # Errors
    /// As [`GatheredFile::append`].
    pub(in crate::pager) fn append_padded(&mut self, front: &[u8], length: usize) -> Result<()> {
        if self.buffer.len() + length > GATHERED_MAX {
            self.flush()?;
        }
        memory::reserve(&mut self.buffer, length)?;
        let end = self.buffer.len() + length;
        self.buffer.extend_from_slice(front);
        self.buffer.resize(end, 0);
        Ok(())
    }

    /// Writes what was gathered. After an error the same can be tried again.
    ///
    /// # Errors
    /// Those of writing.
    pub(in crate::pager) fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_at(&self.buffer, self.flushed)?;
            self.flushed += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Writes what was gathered and moves the end to `offset`, which is not before it.
    ///
    /// # Errors
    /// Those of writing.
    pub(in crate::pager) fn skip_to(&mut self, offset: u64) -> Result<()> {
        self.flush()?;
        self.flushed = self.flushed.max(offset);
        Ok(())
    }

    /// Forgets everything and appends from offset 0 on.
    pub(in crate::pager) fn restart(&mut self) {
        self.buffer.clear();
        self.flushed = 0;
    }

    /// Closes the file and goes on with another one, which has the same bytes.
    pub(in crate::pager) fn replace_file(&mut self, file: Box<dyn File>) {
        self.file = file;
    }

    /// The file; what was gathered is not in it.
    pub(in crate::pager) fn file(&self) -> &dyn File {
        &*self.file
    }

    /// The file, for changing.
    pub(in crate::pager) fn file_mut(&mut self) -> &mut dyn File {
        &mut *self.file
    }

    /// The file, without what was gathered, and the buffer for reuse.
    pub(in crate::pager) fn into_parts(self) -> (Box<dyn File>, Vec<u8>) {
        (self.file, self.buffer)
    }
}
