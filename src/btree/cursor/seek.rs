//! Binary search from the root, one page after the other.
//!
//! Where a search without a match ends can be observed, so the probes are fixed: on each page the
//! middle one of the cells that are left; in a tree with integer keys the last one instead, as
//! long as no probe of this search has hit a larger key.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::format::varint;
use crate::pager::PageRef;

use super::super::Key;
use super::super::node::{head_of_bytes, head_of_integer, place_of};
use super::super::store::Store;
use super::{Cursor, Position};

/// Where a search ends that finds no match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// On the cell that the probes described above have met last.
    Fixed,
    /// On either neighbour of the place: the caller shows nobody which.
    Any,
}

impl Cursor {
    /// Goes to the entry with `key`, or to a neighbour of its place on the leaf where it would be.
    /// Tells how the entry compares with the key; `Less` also if the tree is empty.
    ///
    /// # Errors
    /// [`Error::Misuse`] if the tree has keys of the other type; the cursor is then where it was.
    /// [`Error::Corrupt`] and errors of the pager leave it on no entry.
    pub(in crate::btree) fn seek(&mut self, store: &mut Store, key: Key<'_>) -> Result<Ordering> {
        self.seek_from_here(store, key, End::Fixed)
    }

    fn seek_from_here(&mut self, store: &mut Store, key: Key<'_>, end: End) -> Result<Ordering> {
        self.check_key(store, key)?;
        if self.has_records() {
            return self.seek_record(store, key);
        }
        if let (Key::Integer(wanted), Position::OnEntry) = (key, &self.position)
            && let Some(found) = self.seek_shortcut(store, wanted)?
        {
            return Ok(found);
        }
        self.seek_from_root(store, key, end)
    }

    /// As [`Cursor::seek`], and asks for the memory of the entry that was found, or of those around
    /// the place: one of them is looked at next.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    pub(super) fn seek_to_read(&mut self, store: &mut Store, key: Key<'_>) -> Result<Ordering> {
        let found = self.seek(store, key)?;
        self.prefetch_found(store, found);
        Ok(found)
    }

    /// As [`Cursor::seek_to_read`] for [`Cursor::seek_anew`].
    pub(super) fn seek_anew_to_read(
        &mut self,
        store: &mut Store,
        key: Key<'_>,
    ) -> Result<Ordering> {
        let found = self.seek_anew(store, key)?;
        self.prefetch_found(store, found);
        Ok(found)
    }

    #[inline]
    fn prefetch_found(&self, store: &Store, found: Ordering) {
        if let Some(level) = self.path.last() {
            let node = store.node(level.page);
            node.prefetch_cell(level.index);
            node.prefetch_long_cell(level.index);
            if found.is_ne() {
                node.prefetch_cell(level.index + 1);
            }
        }
    }

    /// As [`Cursor::seek`], for a key that is known not to be near, and of the right type.
    pub(super) fn seek_anew(&mut self, store: &mut Store, key: Key<'_>) -> Result<Ordering> {
        self.seek_from_root(store, key, End::Fixed)
    }

    fn seek_from_root(&mut self, store: &mut Store, key: Key<'_>, end: End) -> Result<Ordering> {
        let result = match key {
            Key::Integer(wanted) => self.seek_integer(store, wanted, end),
            Key::Bytes(wanted) => self.seek_bytes(store, wanted, end),
        };
        if result.is_err() {
            self.forget(store);
        }
        result
    }

    /// As [`Cursor::seek`], for an insert: after one behind the last entry the next is expected
    /// there, too, and one comparison with the last entry takes the place of the search. Without a
    /// match it ends on either neighbour of the place.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    pub(in crate::btree) fn seek_to_insert(
        &mut self,
        store: &mut Store,
        key: Key<'_>,
    ) -> Result<Ordering> {
        if self.appending {
            self.check_key(store, key)?;
            if self.has_records() {
                return self.seek_record_to_append(store, key);
            }
            match self.seek_end(store, key) {
                Ok(true) => return Ok(Ordering::Less),
                Ok(false) => {}
                Err(error) => {
                    self.forget(store);
                    return Err(error);
                }
            }
        }
        let found = self.seek_from_here(store, key, End::Any)?;
        self.note_insert_place(store, found);
        Ok(found)
    }

    /// Remembers for the next insert whether the search for this one has ended behind all entries.
    pub(in crate::btree) fn note_insert_place(&mut self, store: &Store, found: Ordering) {
        self.appending = found.is_lt() && self.is_on_last(store);
    }

    /// The right-most leaf, if it is known without a search that an entry with `key` and `payload`
    /// bytes goes behind all others there, and fits. Not pinned if it is writable already: good
    /// until the next page is fetched.
    ///
    /// As long as the shape of the trees is the same as at the last append, the leaf it went to is
    /// the right-most one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and errors of the pager.
    pub(in crate::btree) fn leaf_to_append(
        &self,
        store: &mut Store,
        key: Key<'_>,
        payload: usize,
    ) -> Result<Option<PageRef>> {
        let Some((number, shape)) = self.appended_to.filter(|_| self.appending) else {
            return Ok(None);
        };
        if shape != store.shape {
            return Ok(None);
        }
        let page = match store.pager.peek_writable(number) {
            Some(page) if store.pager.info(page).is_ready() => page,
            _ => store.fetch_node(number)?,
        };
        let node = store.node(page);
        let is_local = store.format.local_size(payload, node.kind().is_leaf_data()) == payload;
        let fits = node.free_bytes()? >= payload + 2 * varint::MAX_LENGTH + 2;
        let (is_leaf, count) = (node.is_leaf(), node.cell_count());
        if !(is_local && fits && is_leaf && count > 0) {
            return Ok(None);
        }
        let is_last = match key {
            Key::Integer(wanted) if node.kind().has_integer_keys() => {
                node.integer_key(count - 1)? < wanted
            }
            Key::Bytes(wanted) if !node.kind().has_integer_keys() => {
                match node.quick_payload(count - 1).filter(|_| !node.kind().has_data()) {
                    Some(last) if !self.has_records() => last < wanted,
                    _ => {
                        // Overflow pages may be read, for which this one could go.
                        let page = store.fetch_node(number)?;
                        match self.has_records() {
                            true => self.is_record_before(store, page, count - 1, wanted)?,
                            false => store.compare_key(page, count - 1, wanted)?.is_lt(),
                        }
                    }
                }
            }
            _ => false,
        };
        Ok(is_last.then_some(page))
    }

    /// Goes to the last entry; tells whether it is smaller than `key`.
    fn seek_end(&mut self, store: &mut Store, key: Key<'_>) -> Result<bool> {
        if !self.last(store)? {
            return Ok(false);
        }
        let level = self.level()?;
        match key {
            Key::Integer(wanted) => Ok(store.node(level.page).integer_key(level.index)? < wanted),
            Key::Bytes(wanted) => Ok(store.compare_key(level.page, level.index, wanted)?.is_lt()),
        }
    }

    /// Whether the cursor can be used to search for this key.
    pub(super) fn check_key(&mut self, store: &mut Store, key: Key<'_>) -> Result<()> {
        if let Position::Fault(error) = self.position {
            return Err(error);
        }
        if self.path.is_empty() {
            self.hold_root(store)?;
        }
        let integer_keys = self.kind(store)?.has_integer_keys();
        if integer_keys != matches!(key, Key::Integer(_)) {
            return Err(Error::Misuse("key of the wrong type"));
        }
        Ok(())
    }

    /// Answers without a search if the cursor is on the wanted entry already, or on the one ahead
    /// of it on the same page, or on the last one with a larger key wanted.
    #[inline]
    fn seek_shortcut(&mut self, store: &Store, wanted: i64) -> Result<Option<Ordering>> {
        let level = self.level()?;
        let node = store.node(level.page);
        if !node.is_leaf() {
            return Ok(None);
        }
        let here = match node.quick_entry(level.index) {
            Some(entry) => entry.key,
            None => node.integer_key(level.index)?,
        };
        match here.cmp(&wanted) {
            Ordering::Equal => Ok(Some(Ordering::Equal)),
            // In order: the next entry is looked at only if the wanted one may well be that.
            Ordering::Less if level.index + 1 < node.cell_count() => {
                if here.checked_add(1) != Some(wanted) {
                    return Ok(None);
                }
                let Some(next) = node.quick_entry(level.index + 1) else { return Ok(None) };
                if next.key != wanted {
                    return Ok(None);
                }
                self.settle_on(level.index + 1);
                Ok(Some(Ordering::Equal))
            }
            Ordering::Less if self.is_on_last(store) => Ok(Some(Ordering::Less)),
            _ => Ok(None),
        }
    }

    /// Whether the cursor is on the last entry of its tree.
    fn is_on_last(&self, store: &Store) -> bool {
        self.path.iter().all(|level| {
            let node = store.node(level.page);
            level.index + usize::from(node.is_leaf()) >= node.cell_count()
        })
    }

    fn seek_integer(&mut self, store: &mut Store, wanted: i64, end: End) -> Result<Ordering> {
        self.start_move(store)?;
        let mut rightmost_first = true;
        let head = head_of_integer(wanted);
        loop {
            let page = self.level()?.page;
            store.make_heads(page);
            let node = store.node(page);
            let heads = node.heads();
            if end == End::Any && node.is_leaf() {
                node.prefetch_room();
            }
            if let Some(&last) = heads.last().filter(|_| node.kind().is_leaf_data()) {
                // The head is the key. Without branches on what a probe finds; but where a search
                // that ends without a match has probed last matters, so that goes the long way.
                let low = place_of(head, heads);
                if !node.is_leaf() {
                    rightmost_first &= last <= head;
                    self.descend_at(store, low)?;
                    continue;
                }
                if heads.get(low) == Some(&head) {
                    self.settle_on(low);
                    return Ok(Ordering::Equal);
                }
                if end == End::Any {
                    return Ok(self.settle_beside(low, heads.len()));
                }
            }
            let (mut low, mut high) = (0usize, node.cell_count());
            let mut probe = 0;
            let mut found = Ordering::Less;
            while low < high {
                probe = if rightmost_first { high - 1 } else { (low + high - 1) / 2 };
                found = match heads.get(probe) {
                    Some(probed) => probed.cmp(&head),
                    None => node.integer_key(probe)?.cmp(&wanted),
                };
                match found {
                    Ordering::Less => low = probe + 1,
                    Ordering::Greater => {
                        high = probe;
                        rightmost_first = false;
                    }
                    Ordering::Equal => {
                        low = probe;
                        break;
                    }
                }
            }
            let arrived = node.is_leaf() || found.is_eq() && !node.kind().is_leaf_data();
            if let Some(done) = self.settle_or_descend(store, arrived, probe, low, found)? {
                return Ok(done);
            }
        }
    }

    fn seek_bytes(&mut self, store: &mut Store, wanted: &[u8], end: End) -> Result<Ordering> {
        self.start_move(store)?;
        let head = head_of_bytes(wanted);
        loop {
            let page = self.level()?.page;
            store.make_heads(page);
            let node = store.node(page);
            let is_leaf = node.is_leaf();
            let heads = node.heads();
            if end == End::Any && is_leaf {
                node.prefetch_room();
            }
            if (!is_leaf || end == End::Any) && !heads.is_empty() {
                let low = place_of(head, heads);
                if heads.get(low) != Some(&head) {
                    if is_leaf {
                        return Ok(self.settle_beside(low, heads.len()));
                    }
                    self.descend_at(store, low)?;
                    continue;
                }
            }
            let (mut low, mut high) = (0usize, node.cell_count());
            let mut probe = 0;
            let mut found = Ordering::Less;
            while low < high {
                probe = (low + high - 1) / 2;
                let probed = store.node(page).heads().get(probe).copied();
                found = match probed.map_or(Ordering::Equal, |probed| probed.cmp(&head)) {
                    Ordering::Equal => store.compare_key(page, probe, wanted)?,
                    decided => decided,
                };
                match found {
                    Ordering::Less => low = probe + 1,
                    Ordering::Greater => high = probe,
                    Ordering::Equal => break,
                }
            }
            let arrived = is_leaf || found.is_eq();
            if let Some(done) = self.settle_or_descend(store, arrived, probe, low, found)? {
                return Ok(done);
            }
        }
    }

    /// Goes down left of cell `low` of an interior page.
    #[inline]
    fn descend_at(&mut self, store: &mut Store, low: usize) -> Result<()> {
        let level = self.path.last_mut().ok_or(Error::Internal("cursor without a path"))?;
        level.index = low;
        let child = store.node(level.page).child(low)?;
        self.descend(store, child)
    }

    /// Ends the search on cell `index` of the present page.
    #[inline]
    fn settle_on(&mut self, index: usize) {
        if let Some(level) = self.path.last_mut() {
            level.index = index;
            self.position = Position::OnEntry;
        }
    }

    /// Ends the search beside place `place` among the `count` cells of the present page, and tells
    /// which neighbour it is.
    #[inline]
    fn settle_beside(&mut self, place: usize, count: usize) -> Ordering {
        if place < count {
            self.settle_on(place);
            return Ordering::Greater;
        }
        self.settle_on(count.saturating_sub(1));
        Ordering::Less
    }

    /// Ends the search on the cell probed last, or goes down left of cell `low`.
    #[inline]
    pub(super) fn settle_or_descend(
        &mut self,
        store: &mut Store,
        arrived: bool,
        probe: usize,
        low: usize,
        found: Ordering,
    ) -> Result<Option<Ordering>> {
        let level = self.path.last_mut().ok_or(Error::Internal("cursor without a path"))?;
        let node = store.node(level.page);
        if arrived {
            level.index = probe;
            if node.cell_count() > 0 {
                self.position = Position::OnEntry;
            }
            return Ok(Some(found));
        }
        self.descend_at(store, low)?;
        Ok(None)
    }
}

impl Store {
    /// Makes the heads of a node if it has been searched often enough.
    #[inline]
    fn make_heads(&mut self, page: PageRef) {
        if self.pager.parts_info_mut(page).1.wants_heads() {
            self.make_wanted_heads(page);
        }
    }

    #[cold]
    fn make_wanted_heads(&mut self, page: PageRef) {
        let mut heads = self.pager.parts_info_mut(page).1.take_heads();
        self.node(page).make_heads(&mut heads);
        let count = self.node(page).cell_count();
        self.pager.parts_info_mut(page).1.set_heads(heads, count);
    }

    /// Compares the byte-string key of cell `index` with `wanted`, reading overflow pages only if
    /// the bytes on the page do not decide.
    #[inline]
    pub(super) fn compare_key(
        &mut self,
        page: PageRef,
        index: usize,
        wanted: &[u8],
    ) -> Result<Ordering> {
        let node = self.node(page);
        if let Some(key) = node.quick_payload(index).filter(|_| !node.kind().has_data()) {
            return Ok(key.cmp(wanted));
        }
        self.compare_key_slowly(page, index, wanted)
    }

    fn compare_key_slowly(
        &mut self,
        page: PageRef,
        index: usize,
        wanted: &[u8],
    ) -> Result<Ordering> {
        let cell = self.node(page).cell(index)?;
        let key_size = cell.key as usize;
        let local = cell.local.get(..key_size).unwrap_or(cell.local);
        let common = local.len().min(wanted.len());
        match local[..common].cmp(&wanted[..common]) {
            Ordering::Equal => {}
            decided => return Ok(decided),
        }
        if common == wanted.len() || local.len() == key_size {
            return Ok(key_size.cmp(&wanted.len()));
        }
        let (overflow, local_size) = (cell.overflow, local.len());
        self.compare_overflow(overflow, key_size - local_size, &wanted[common..])
    }

    /// Compares the rest of a key, `size` bytes on the chain at `first`, with `wanted`.
    #[cold]
    fn compare_overflow(&mut self, first: u32, size: usize, wanted: &[u8]) -> Result<Ordering> {
        let mut rest = wanted;
        let decided = self.visit_overflow(first, size.min(wanted.len()), |piece| {
            let (ours, theirs) = rest.split_at_checked(piece.len()).unwrap_or((rest, &[]));
            rest = theirs;
            Ok(match piece.cmp(ours) {
                Ordering::Equal => ControlFlow::Continue(()),
                decided => ControlFlow::Break(decided),
            })
        })?;
        Ok(decided.unwrap_or_else(|| size.cmp(&wanted.len())))
    }
}
