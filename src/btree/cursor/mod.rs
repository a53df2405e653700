//! Cursors.

/// Names an open cursor of a [`Btree`](super::Btree); never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CursorId(pub(super) u64);

impl CursorId {
    /// A number that is unique within the connection.
    pub fn get(self) -> u64 {
        self.0
    }
}
