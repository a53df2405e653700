//! Free space inside a page: free blocks, allocation, defragmentation.
//!
//! A free block is two 16-bit integers, the position of the next block (0 at the end) and its own
//! size, and whatever else it covers. Free pieces of less than four bytes cannot be blocks; their
//! sum is the header's fragment count. Source: SQLite file format, "B-tree Pages".

use super::header::{content_start, field};
use super::{NodeMut, cell};
use crate::error::{Error, Result};
use crate::format::bytes::{put_u8, put_u16, slice, slice_mut, u8_at, u16_at};

/// A free block needs this many bytes; what is smaller is a fragment.
pub(crate) const BLOCK_MIN: usize = 4;

/// With more fragmented bytes than this no further fragment is made, so that they stay below the
/// 60 that the format allows.
const FRAGMENTS_MAX: u8 = 57;

const BROKEN_CHAIN: Error = Error::corrupt("free block outside of its place");

/// One free block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// Where it begins.
    pub(super) start: usize,
    /// Where it ends.
    pub(super) end: usize,
    /// Where the next one begins, 0 for the last.
    pub(super) next: usize,
}

impl Block {
    /// Reads the block at `start` and checks it against N2.
    fn read(bytes: &[u8], start: usize, usable: usize) -> Result<Block> {
        let block = Block::read_loosely(bytes, start)?;
        if block.size() < BLOCK_MIN || block.end > usable {
            return Err(BROKEN_CHAIN);
        }
        Ok(block)
    }

    /// Reads the block at `start` and makes sure only that the next one lies behind it.
    fn read_loosely(bytes: &[u8], start: usize) -> Result<Block> {
        let next = usize::from(u16_at(bytes, start)?);
        let end = start + usize::from(u16_at(bytes, start + 2)?);
        if next != 0 && next < end + BLOCK_MIN {
            return Err(BROKEN_CHAIN);
        }
        Ok(Block { start, end, next })
    }

    pub(super) fn size(&self) -> usize {
        self.end - self.start
    }
}

/// The free blocks in ascending order; stops behind the first error. Without the usable size of the
/// page, the size of a block is not judged.
pub(super) fn blocks(
    bytes: &[u8],
    header: usize,
    usable: Option<usize>,
) -> impl Iterator<Item = Result<Block>> {
    let mut next = u16_at(bytes, header + field::FIRST_FREE).map(usize::from);
    std::iter::from_fn(move || {
        let start = match next {
            Ok(0) => return None,
            Ok(start) => start,
            Err(error) => {
                next = Ok(0);
                return Some(Err(error));
            }
        };
        let block = match usable {
            Some(usable) => Block::read(bytes, start, usable),
            None => Block::read_loosely(bytes, start),
        };
        // Ends, because N2 makes each block begin behind the one before.
        next = Ok(block.map_or(0, |block| block.next));
        Some(block)
    })
}

/// Validates content start and free blocks (N1, N2) and counts the free bytes (N3). A `loose`
/// look minds only that free blocks ascend; where they end is left to the integrity check.
pub(super) fn measure(
    bytes: &[u8],
    header: usize,
    pointers_end: usize,
    usable: usize,
    loose: bool,
) -> Result<usize> {
    let content = content_start(bytes, header)?;
    if content < pointers_end || content > usable {
        return Err(Error::corrupt("cell content overlaps the cell pointers or the page's end"));
    }
    let mut free = content - pointers_end;
    free += usize::from(u8_at(bytes, header + field::FRAGMENTS)?);
    for block in blocks(bytes, header, if loose { None } else { Some(usable) }) {
        let block = block?;
        if block.start < content {
            return Err(BROKEN_CHAIN);
        }
        free += block.size();
    }
    if free > usable - pointers_end {
        return Err(Error::corrupt("more free bytes than the page has"));
    }
    Ok(free)
}

impl NodeMut<'_> {
    /// Takes `size` bytes out of the free space, leaving two for a cell pointer, and returns where
    /// they begin. The caller keeps count (N3) and has made sure that there are `size + 2`.
    pub(super) fn allocate(&mut self, size: usize) -> Result<usize> {
        if let Some(at) = self.find_room(size, self.info.pointers_end() + 2)? {
            return Ok(at);
        }
        self.defragment()?;
        let room = self.find_room(size, self.info.pointers_end() + 2)?;
        room.ok_or(Error::corrupt("free bytes are miscounted"))
    }

    /// The same behind `pointers_end`, where the cell pointers are going to end; `None` if there is
    /// no such room in one piece.
    pub(super) fn find_room(&mut self, size: usize, pointers_end: usize) -> Result<Option<usize>> {
        let content = self.info.content as usize;
        if content < pointers_end {
            return Ok(None);
        }
        if u16_at(self.bytes, self.info.header() + field::FIRST_FREE)? != 0
            && let Some(at) = self.take_block(size)?
        {
            return Ok(Some(at));
        }
        if content - pointers_end < size {
            return Ok(None);
        }
        self.set_content(content - size)?;
        Ok(Some(content - size))
    }

    /// Takes `size` bytes from the first free block that has as many: from its end, or the whole
    /// block if the rest were too small to be one.
    fn take_block(&mut self, size: usize) -> Result<Option<usize>> {
        let header = self.info.header();
        let mut link = header + field::FIRST_FREE;
        let mut next = usize::from(u16_at(self.bytes, link)?);
        while next != 0 {
            let block = Block::read(self.bytes, next, self.format.usable)?;
            if block.size() >= size {
                let rest = block.size() - size;
                if rest >= BLOCK_MIN {
                    put_u16(self.bytes, block.start + 2, rest as u16)?;
                    return Ok(Some(block.start + rest));
                }
                let fragments = u8_at(self.bytes, header + field::FRAGMENTS)?;
                if fragments > FRAGMENTS_MAX {
                    return Ok(None);
                }
                put_u16(self.bytes, link, block.next as u16)?;
                put_u8(self.bytes, header + field::FRAGMENTS, fragments + rest as u8)?;
                return Ok(Some(block.start));
            }
            link = block.start;
            next = block.next;
        }
        Ok(None)
    }

    /// Gives back the bytes from `start` to `end`: merged with what is free within three bytes on
    /// either side, listed as a block, or added to the gap if they are the first of the content.
    pub(super) fn release(&mut self, start: usize, end: usize) -> Result<()> {
        let header = self.info.header();
        let first = header + field::FIRST_FREE;
        let content = content_start(self.bytes, header)?;
        if start < content || end > self.format.usable {
            return Err(Error::corrupt("cell outside of the content area"));
        }
        let (mut start, mut end) = (start, end);
        let (mut link, mut before) = (first, None);
        let mut next = usize::from(u16_at(self.bytes, first)?);
        while next != 0 && next < start {
            let block = Block::read(self.bytes, next, self.format.usable)?;
            before = Some((link, block));
            (link, next) = (block.start, block.next);
        }
        let mut absorbed = 0;
        if next != 0 {
            let gap = next.checked_sub(end).ok_or(BROKEN_CHAIN)?;
            if gap < BLOCK_MIN {
                let block = Block::read(self.bytes, next, self.format.usable)?;
                absorbed += gap;
                (end, next) = (block.end, block.next);
            }
        }
        if let Some((link_before, block)) = before {
            let gap = start.checked_sub(block.end).ok_or(BROKEN_CHAIN)?;
            if gap < BLOCK_MIN {
                absorbed += gap;
                (start, link) = (block.start, link_before);
            }
        }
        if absorbed > 0 {
            let fragments = usize::from(u8_at(self.bytes, header + field::FRAGMENTS)?);
            let left = fragments.checked_sub(absorbed);
            let left = left.ok_or(Error::corrupt("fragmented bytes are miscounted"))?;
            put_u8(self.bytes, header + field::FRAGMENTS, left as u8)?;
        }
        if start == content {
            put_u16(self.bytes, first, next as u16)?;
            return self.set_content(end);
        }
        put_u16(self.bytes, link, start as u16)?;
        put_u16(self.bytes, start, next as u16)?;
        put_u16(self.bytes, start + 2, (end - start) as u16)
    }

    /// Moves all cells to the end of the page, cell 0 last, so that all that is free is one gap.
    /// The page is as before if it fails.
    fn defragment(&mut self) -> Result<()> {
        let content = content_start(self.bytes, self.info.header())?;
        let usable = self.format.usable;
        let from = usize::from(self.info.pointers);
        let mut saved = Vec::new();
        crate::memory::reserve_exact(&mut saved, usable - from)?;
        saved.extend_from_slice(slice(self.bytes, from, usable - from)?);
        let packed = self.pack(&saved, content);
        if packed.is_err() {
            slice_mut(self.bytes, from, saved.len())?.copy_from_slice(&saved);
        }
        packed
    }

    /// Writes the cells found in `saved`, a copy of the page from its cell pointers on, packed to
    /// the end of the page; none of them may begin before `content`.
    fn pack(&mut self, saved: &[u8], content: usize) -> Result<()> {
        let header = self.info.header();
        let origin = usize::from(self.info.pointers);
        let pointers_end = self.info.pointers_end();
        let mut end = self.format.usable;
        for index in 0..usize::from(self.info.cells) {
            let at = usize::from(u16_at(saved, 2 * index)?);
            if at < content {
                return Err(Error::corrupt("cell outside of the content area"));
            }
            let tail = saved.get(at.saturating_sub(origin)..).unwrap_or_default();
            let size = cell::size(tail, self.info.layout, self.format)?;
            let start = end.checked_sub(size).filter(|&start| start >= pointers_end);
            end = start.ok_or(Error::corrupt("cells overlap"))?;
            slice_mut(self.bytes, end, size)?.copy_from_slice(slice(tail, 0, size)?);
            put_u16(self.bytes, self.info.pointer_position(index), end as u16)?;
        }
        if end - pointers_end != self.info.free as usize {
            return Err(Error::corrupt("free bytes are miscounted"));
        }
        put_u16(self.bytes, header + field::FIRST_FREE, 0)?;
        put_u8(self.bytes, header + field::FRAGMENTS, 0)?;
        self.set_content(end)
    }

    /// Stores where the cell content begins; 65536 wraps to the 0 that stands for it.
    pub(super) fn set_content(&mut self, content: usize) -> Result<()> {
        self.info.content = content as u32;
        put_u16(self.bytes, self.info.header() + field::CONTENT, content as u16)
    }
}
