//! The cursors that an interpreter has open, by the numbers in their handles.

use std::rc::Rc;

use super::{CURSOR_PREFIX, Cursor, Table, number_of};

/// The longest handle that is kept as it is: prefix and any number.
const HANDLE_MAX: usize = 25;

/// The open cursors. The one that was named last is found by its handle as it stands: a script
/// names one cursor many times. A scan by three commands for each entry takes an eighth less time.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    table: Table<Cursor>,
    recent: Option<Recent>,
}

/// The cursor that was named last.
#[derive(Debug)]
struct Recent {
    handle: [u8; HANDLE_MAX],
    length: usize,
    cursor: Rc<Cursor>,
}

impl Cursors {
    /// The cursor with this handle, if it was also the last one asked for.
    #[inline]
    pub(super) fn recent(&self, handle: &[u8]) -> Option<&Rc<Cursor>> {
        let recent = self.recent.as_ref()?;
        (recent.handle.get(..recent.length)? == handle).then_some(&recent.cursor)
    }

    /// The cursor with this handle.
    #[inline(never)]
    pub(super) fn find(&mut self, handle: &[u8]) -> Option<Rc<Cursor>> {
        let cursor = Rc::clone(self.table.get(&number_of(handle, CURSOR_PREFIX)?)?);
        let mut recent =
            Recent { handle: [0; HANDLE_MAX], length: handle.len(), cursor: Rc::clone(&cursor) };
        if let Some(place) = recent.handle.get_mut(..handle.len()) {
            place.copy_from_slice(handle);
            self.recent = Some(recent);
        }
        Some(cursor)
    }

    /// Takes a cursor in.
    pub(super) fn insert(&mut self, number: u64, cursor: Rc<Cursor>) {
        self.table.insert(number, cursor);
    }

    /// Takes a cursor out.
    pub(super) fn remove(&mut self, number: u64) {
        self.recent = None;
        self.table.remove(&number);
    }

    /// Takes out all but those of which `keep` holds.
    pub(super) fn retain(&mut self, keep: impl Fn(&Cursor) -> bool) {
        self.recent = None;
        self.table.retain(|_, cursor| keep(cursor));
    }

    /// All cursors, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<Cursor>> {
        self.table.values()
    }
}
