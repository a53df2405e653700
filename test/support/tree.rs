//! What a tree of any kind should hold.

use std::collections::BTreeMap;

use tclbtree::Key;
use tclbtree::format::PageNumber;

/// Kinds of tree with a layout of their own (4 and 6 are 5 and 7 under another name).
pub(crate) const KINDS: [u8; 6] = [0, 1, 2, 3, 5, 7];

/// A key of either type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OwnedKey {
    Integer(i64),
    Bytes(Vec<u8>),
}

impl OwnedKey {
    pub(crate) fn as_key(&self) -> Key<'_> {
        match self {
            OwnedKey::Integer(key) => Key::Integer(*key),
            OwnedKey::Bytes(key) => Key::Bytes(key),
        }
    }
}

/// A tree, and its entries as a map.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) kind: u8,
    pub(crate) root: PageNumber,
    pub(crate) entries: BTreeMap<OwnedKey, Vec<u8>>,
}

impl Tree {
    pub(crate) fn has_integer_keys(&self) -> bool {
        self.kind & 5 != 0
    }

    pub(crate) fn has_data(&self) -> bool {
        self.kind & 2 == 0
    }
}
