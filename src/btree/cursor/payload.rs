//! Key, data and size of the entry at the cursor.

use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::format::PageNumber;

use super::super::node::{Cell, NodeKind};
use super::super::store::Store;
use super::{Cursor, Position};

/// Which part of a payload: the key of a byte-string tree comes first, data behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Data,
}

/// A part of a payload, as offsets into it.
#[derive(Debug, Clone, Copy)]
struct Extent {
    start: usize,
    end: usize,
}

impl Extent {
    /// Where `part` of the payload of `cell` lies.
    fn of(part: Part, cell: &Cell<'_>) -> Extent {
        let payload = cell.payload as usize;
        let key = payload - (cell.data as usize).min(payload);
        match part {
            Part::Key => Extent { start: 0, end: key },
            Part::Data => Extent { start: key, end: payload },
        }
    }
}

impl Cursor {
    /// The cell the cursor is on, decoded.
    ///
    /// # Errors
    /// [`Error::Abort`] if it is on none; [`Error::Corrupt`].
    #[inline]
    pub(in crate::btree) fn cell<'s>(&self, store: &'s Store) -> Result<Cell<'s>> {
        if !self.is_on_cell(store) {
            return Err(Error::Abort("the cursor is on no entry"));
        }
        let level = self.level()?;
        store
            .node(level.page)
            .cell(level.index)
            .map_err(|error| error.on_page(store.pager.number(level.page).get()))
    }

    /// The payload of the usual entry: all of it on the page. `None` for others, on a divider, and
    /// on no entry.
    #[inline]
    pub(super) fn quick_payload<'s>(&self, store: &'s Store) -> Option<&'s [u8]> {
        match (&self.position, self.path.last()) {
            (Position::OnEntry, Some(level)) => store.node(level.page).quick_payload(level.index),
            _ => None,
        }
    }

    /// Key and payload of the usual entry, as [`Cursor::quick_payload`]; the key is 0 in
    /// byte-string trees.
    #[inline]
    pub(super) fn quick_entry<'s>(&self, store: &'s Store) -> Option<(i64, &'s [u8])> {
        match (&self.position, self.path.last()) {
            (Position::OnEntry, Some(level)) => {
                let node = store.node(level.page);
                node.quick_entry(level.index).map(|entry| (entry.key, node.payload_of(entry)))
            }
            _ => None,
        }
    }

    /// See [`Btree::usual_row`](crate::btree::Btree).
    #[inline]
    pub(super) fn usual_row<'s>(&self, store: &'s Store) -> Option<(i64, &'s [u8])> {
        let kind = store.node(self.path.last()?.page).kind();
        if kind == NodeKind::TABLE_LEAF { self.quick_entry(store) } else { None }
    }

    /// The integer key of the entry; 0 on no entry, and in byte-string trees.
    #[inline]
    pub(super) fn integer_key(&self, store: &Store) -> Result<i64> {
        if !self.is_on_cell(store) {
            return Ok(0);
        }
        let level = self.level()?;
        let node = store.node(level.page);
        if node.kind().has_integer_keys() { node.integer_key(level.index) } else { Ok(0) }
    }

    /// Bytes of payload of the entry; 0 on no entry.
    #[inline]
    pub(super) fn payload_size(&self, store: &Store) -> Result<u32> {
        if !self.is_on_cell(store) {
            return Ok(0);
        }
        match self.quick_payload(store) {
            Some(payload) => Ok(payload.len() as u32),
            None => Ok(self.cell(store)?.payload),
        }
    }

    /// What [`Btree::local_entry`](crate::btree::Btree::local_entry) tells, of any entry.
    #[inline(never)]
    pub(super) fn local_entry<'s>(&self, store: &'s Store) -> Result<Option<(i64, &'s [u8])>> {
        let cell = self.cell(store)?;
        let key = if self.kind(store)?.has_integer_keys() { cell.key } else { 0 };
        Ok((cell.overflow == 0).then_some((key, cell.local)))
    }

    /// Whether the cursor is on a divider, a copy of a key that is no entry: parked on the root
    /// of a tree of several levels that keeps data on leaves only.
    pub(in crate::btree) fn is_on_divider(&self, store: &Store) -> bool {
        matches!(self.position, Position::Parked)
            && self.path.last().is_some_and(|level| {
                let node = store.node(level.page);
                !node.is_leaf() && node.kind().is_leaf_data()
            })
    }

    /// Length of `part` in bytes.
    pub(super) fn part_size(&self, store: &Store, part: Part) -> Result<usize> {
        let extent = Extent::of(part, &self.cell(store)?);
        Ok(extent.end - extent.start)
    }

    /// The bytes of `part` that are on the page itself.
    pub(super) fn local_part<'s>(&self, store: &'s Store, part: Part) -> Result<&'s [u8]> {
        let cell = self.cell(store)?;
        let extent = Extent::of(part, &cell);
        let end = extent.end.min(cell.local.len());
        Ok(cell.local.get(extent.start..end).unwrap_or_default())
    }

    /// Fills `out` with the bytes of `part` from `offset` on.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the part is too short for that.
    pub(super) fn read_part(
        &self,
        store: &mut Store,
        part: Part,
        offset: usize,
        out: &mut [u8],
    ) -> Result<()> {
        let cell = self.cell(store)?;
        let extent = Extent::of(part, &cell);
        let start = extent.start.saturating_add(offset);
        if start.saturating_add(out.len()) > extent.end {
            return Err(Error::corrupt("range beyond the end of the payload"));
        }
        let local = cell.local.get(start..).unwrap_or_default();
        let (on_page, beyond) = out.split_at_mut(local.len().min(out.len()));
        on_page.copy_from_slice(&local[..on_page.len()]);
        if beyond.is_empty() {
            return Ok(());
        }
        let skip = (start + on_page.len()) - cell.local.len();
        let overflow = cell.overflow;
        let first = store.checked_number(overflow)?;
        store.read_overflow(first, skip, beyond)
    }

    /// Shows the whole payload to `visit`, piece by piece where it lies.
    ///
    /// # Errors
    /// [`Error::Abort`] on no entry; [`Error::Corrupt`] and errors of the pager.
    pub(super) fn visit_payload<T>(
        &self,
        store: &mut Store,
        mut visit: impl FnMut(&[u8]) -> ControlFlow<T>,
    ) -> Result<Option<T>> {
        let cell = self.cell(store)?;
        let (overflow, beyond) = (cell.overflow, cell.payload as usize - cell.local.len());
        // In an index what is on the leaf may be looked at only to see that it is another entry.
        if beyond > 0 && self.kind(store)?.has_integer_keys() {
            store.prefetch_page(overflow);
        }
        match visit(cell.local) {
            ControlFlow::Break(answer) => Ok(Some(answer)),
            ControlFlow::Continue(()) if beyond == 0 => Ok(None),
            ControlFlow::Continue(()) => {
                store.visit_overflow(overflow, beyond, |piece| Ok(visit(piece)))
            }
        }
    }

    /// All bytes of `part`.
    pub(super) fn read_whole(&self, store: &mut Store, part: Part) -> Result<Vec<u8>> {
        let size = self.part_size(store, part)?;
        if self.local_part(store, part)?.len() < size {
            self.check_payload_fits(store)?;
        }
        let mut out = Vec::new();
        crate::memory::reserve_exact(&mut out, size)?;
        out.extend_from_slice(self.local_part(store, part)?);
        let on_page = out.len();
        if on_page < size {
            out.resize(size, 0);
            self.read_part(store, part, on_page, &mut out[on_page..])?;
        }
        Ok(out)
    }

    /// A length from a damaged file must not make us allocate more than the file can hold.
    fn check_payload_fits(&self, store: &Store) -> Result<()> {
        let pages = u64::from(store.pager.page_count());
        let cell = self.cell(store)?;
        if u64::from(cell.payload) > pages.saturating_mul(store.format.usable as u64) {
            return Err(Error::corrupt("payload is longer than the database"));
        }
        Ok(())
    }

    /// The whole key of a byte-string tree.
    pub(super) fn read_whole_key(&self, store: &mut Store) -> Result<Vec<u8>> {
        self.read_whole(store, Part::Key)
    }

    /// Appends the overflow pages of the entry to `pages`, in chain order.
    pub(super) fn overflow_pages(
        &self,
        store: &mut Store,
        pages: &mut Vec<PageNumber>,
    ) -> Result<()> {
        let cell = self.cell(store)?;
        let (first, length) = (cell.overflow, cell.payload as usize - cell.local.len());
        if first == 0 {
            return Ok(());
        }
        self.check_payload_fits(store)?;
        let first = store.checked_number(first)?;
        store.list_overflow_chain(first, length, pages)
    }
}
