//! Pages and trees as text, for people and tests.
//!
//! Any page may be asked for, whatever is on it: every position is checked, and what does not fit
//! on the page is shown as an error line. Each line ends with a newline.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::collections::HashSet;
use std::fmt::Write;

use super::node::{Node, NodeKind, content_start, field, header_start};
use super::store::{PageFormat, Store};
use super::{CellDetails, PageDetails};
use crate::error::Result;
use crate::format::PageNumber;
use crate::format::bytes::{slice, u8_at, u16_at, u32_at};

/// Payload bytes that are shown.
const SHOWN: usize = 19;

/// Levels of the deepest tree that is followed.
const LEVELS_MAX: usize = 20;

impl Store {
    /// Appends a listing of one page.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for the lock page; those of the pager.
    pub(crate) fn dump_page(&mut self, page: PageNumber, out: &mut String) -> Result<()> {
        self.dump_with_children(page, 0, out).map(|_| ())
    }

    /// Appends a listing of a page and of everything below it: the page, its left children in the
    /// order of the cells, the right child. No page is shown twice, and none that the
    /// database does not have.
    ///
    /// # Errors
    /// As [`Store::dump_page`], for the first page.
    pub(crate) fn dump_tree(&mut self, root: PageNumber, out: &mut String) -> Result<()> {
        let mut seen = HashSet::new();
        self.dump_below(root, 0, 1, &mut seen, out)
    }

    fn dump_below(
        &mut self,
        page: PageNumber,
        parent: u32,
        level: usize,
        seen: &mut HashSet<PageNumber>,
        out: &mut String,
    ) -> Result<()> {
        seen.insert(page);
        let children = self.dump_with_children(page, parent, out)?;
        for child in children {
            let Ok(child) = self.checked_number(child) else { continue };
            let shown = self.format.lock_page.is(child.get()) || seen.contains(&child);
            if !shown && level < LEVELS_MAX {
                self.dump_below(child, page.get(), level + 1, seen, out)?;
            }
        }
        Ok(())
    }

    /// Appends a listing of one page, and returns its children.
    fn dump_with_children(
        &mut self,
        page: PageNumber,
        parent: u32,
        out: &mut String,
    ) -> Result<Vec<u32>> {
        let mark = self.pager.mark();
        let fetched = self.pager.fetch(page)?;
        let bytes = self.pager.bytes(fetched);
        let children = list_page(page, parent, bytes, &self.format, out);
        self.pager.release(mark);
        children
    }

    /// A b-tree page, decoded.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the page is no b-tree page or does not exist; those of the pager.
    pub(crate) fn page_details(&mut self, page: PageNumber) -> Result<PageDetails> {
        let number = self.checked_number(page.get())?;
        let mark = self.pager.mark();
        let fetched = self.fetch_node(number)?;
        let node = self.node(fetched);
        let bytes = self.pager.bytes(fetched);
        let details = details_of(number, bytes, node).map_err(|error| error.on_page(page.get()));
        self.pager.release(mark);
        details
    }
}

fn details_of(number: PageNumber, bytes: &[u8], node: Node<'_>) -> Result<PageDetails> {
    let header = header_start(number);
    let mut cells = Vec::new();
    crate::memory::reserve_exact(&mut cells, node.cell_count())?;
    for index in 0..node.cell_count() {
        let cell = node.cell(index)?;
        cells.push(CellDetails {
            offset: node.cell_position(index)? as u32,
            size: cell.size as u32,
            child: cell.child,
            key: cell.key,
            payload: cell.payload,
            local: cell.local.len() as u32,
            overflow: cell.overflow,
        });
    }
    let right = header + field::RIGHT_CHILD;
    Ok(PageDetails {
        kind: node.kind().byte(),
        first_free_block: u32::from(u16_at(bytes, header + field::FIRST_FREE)?),
        content: content_start(bytes, header)? as u32,
        fragments: u32::from(u8_at(bytes, header + field::FRAGMENTS)?),
        right_child: if node.is_leaf() { 0 } else { u32_at(bytes, right)? },
        free_bytes: node.free_bytes()? as u32,
        cells,
    })
}

/// Appends the listing of a page to `out` and returns its children, the right one last.
fn list_page(
    number: PageNumber,
    parent: u32,
    bytes: &[u8],
    format: &PageFormat,
    out: &mut String,
) -> Result<Vec<u32>> {
    let header = header_start(number);
    let flags = u8_at(bytes, header)?;
    let fragments = u8_at(bytes, header + field::FRAGMENTS)?;
    line(
        out,
        format_args!("PAGE {number}:  flags=0x{flags:02x}  frag={fragments}   parent={parent}"),
    );
    let kind = NodeKind::new(flags & 15).unwrap_or_default();
    let mut children = Vec::new();
    let pointers = header + kind.header_length();
    for index in 0..usize::from(u16_at(bytes, header + field::CELL_COUNT)?) {
        let pointer = pointers + 2 * index;
        if pointer + 2 > format.usable {
            line(out, format_args!("ERROR: cell index out of range: {index}"));
            break;
        }
        let start = usize::from(u16_at(bytes, pointer)?);
        let tail = bytes.get(start..format.usable).unwrap_or_default();
        match Node::decode_cell(tail, kind, format) {
            Ok(cell) => {
                let range = format!("{start}..{}", start + cell.size - 1);
                let payload: String =
                    cell.local.iter().take(SHOWN).map(|&byte| printable(byte)).collect();
                line(
                    out,
                    format_args!(
                        "cell {index:2}: i={range:<10} chld={:<4} nk={:<4} nd={:<4} \
                         payload={payload}",
                        cell.child as i32, cell.key, cell.data as i32
                    ),
                );
                if !kind.is_leaf() {
                    children.push(cell.child);
                }
            }
            Err(_) => line(out, format_args!("ERROR: cell {index} out of range: {start}")),
        }
    }
    if !kind.is_leaf() {
        let right = u32_at(bytes, header + field::RIGHT_CHILD)?;
        line(out, format_args!("right_child: {}", right as i32));
        children.push(right);
    }
    list_free_blocks(header, bytes, format, out)?;
    Ok(children)
}

fn list_free_blocks(
    header: usize,
    bytes: &[u8],
    format: &PageFormat,
    out: &mut String,
) -> Result<()> {
    let (mut total, mut index) = (0, 0);
    let mut last = 0;
    let mut start = usize::from(u16_at(bytes, header + field::FIRST_FREE)?);
    // A chain that goes backwards would never end.
    while start > last && slice(bytes, start, 4).is_ok() && start < format.usable {
        let size = usize::from(u16_at(bytes, start + 2)?);
        let range = format!("{start}..{}", (start + size).saturating_sub(1));
        total += size;
        line(out, format_args!("freeblock {index:2}: i={range:<10} size={size:<4} total={total}"));
        (last, index) = (start, index + 1);
        start = usize::from(u16_at(bytes, start)?);
    }
    if start != 0 {
        line(out, format_args!("ERROR: next freeblock index out of range: {start}"));
    }
    Ok(())
}

/// The byte as it is shown: itself, or a dot.
fn printable(byte: u8) -> char {
    if (0x20..=0x7f).contains(&byte) { char::from(byte) } else { '.' }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use crate::btree::node::{NodeInfo, NodeMut};
    use crate::format::{LockPage, PageSize};

    fn format() -> PageFormat {
        let size = PageSize::new(1024).unwrap();
        PageFormat::new(size, 0, LockPage::STANDARD_OFFSET).unwrap()
    }

    fn listing(number: u32, bytes: &[u8]) -> (String, Vec<u32>) {
        let mut out = String::new();
        let number = PageNumber::new(number).unwrap();
        let children = list_page(number, 7, bytes, &format(), &mut out).unwrap();
        (out, children)
    }

    #[test]
    fn a_leaf_and_its_free_blocks_are_listed() {
        let format = format();
        let (mut bytes, mut info) = (vec![0; 1024], NodeInfo::default());
        let mut node = NodeMut::new(&mut bytes, &mut info, &format);
        node.initialize(PageNumber::new(3).unwrap(), NodeKind::new(8).unwrap());
        for (index, key) in [b"ab", b"c\x01"].iter().enumerate() {
            node.insert(index, &[&[3, 2], key.as_slice(), b"xyz"].concat()).unwrap();
        }
        node.insert(2, &[&[40, 1, b'k'][..], &[b'v'; 40]].concat()).unwrap();
        node.remove(1).unwrap();
        assert_eq!(
            listing(3, &bytes).0,
            "PAGE 3:  flags=0x08  frag=0   parent=7\n\
             cell  0: i=1017..1023 chld=0    nk=2    nd=3    payload=abxyz\n\
             cell  1: i=967..1009  chld=0    nk=1    nd=40   payload=kvvvvvvvvvvvvvvvvvv\n\
             freeblock  0: i=1010..1016 size=7    total=7\n"
        );
    }

    #[test]
    fn a_page_of_zeros_is_an_interior_page_without_cells() {
        let (text, children) = listing(99, &[0; 1024]);
        assert_eq!(text, "PAGE 99:  flags=0x00  frag=0   parent=7\nright_child: 0\n");
        assert_eq!(children, [0]);
    }

    /// C10: whatever is on the page.
    #[test]
    fn any_bytes_can_be_listed() {
        let mut seed = 1u32;
        for _ in 0..2000 {
            let mut bytes = vec![0u8; 1024];
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed >> 16
            };
            let scale = next() % 3;
            for byte in &mut bytes {
                *byte = if scale == 0 || next() % 4 < scale { next() as u8 } else { 0 };
            }
            let (text, _) = listing(1 + next() % 2, &bytes);
            assert!(text.len() < 1024 * 600);
        }
    }
}
