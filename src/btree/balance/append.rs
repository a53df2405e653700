//! The short cut for inserting at the far right of a table.
//!
//! ```text
//!      [ .. | x ]                         [ .. | x | k ]
//!         /   \                              /   |   \
//!     [ .. ] [ full, last key k | new ]  [ .. ] [ full ] [ new ]
//! ```
//!
//! Appending leaves full pages behind instead of half-full ones, and touches neither the full leaf
//! nor its neighbours.

use crate::error::Result;
use crate::format::{PageNumber, varint};
use crate::pager::PageRef;

use super::super::node::Span;
use super::super::pointer_map::Owner;
use super::super::store::Store;

/// Whether the leaf is overfull by just one cell behind all others, and is the right-most child of
/// a parent other than page 1 (there, as in SQLite, the cells are spread).
pub(super) fn applies(store: &Store, leaf: PageRef, parent: PageRef) -> Result<bool> {
    let node = store.node(leaf);
    Ok(node.is_parked_last_only()
        && node.is_leaf()
        && node.kind().is_leaf_data()
        && node.cell_count() > 0
        && store.pager.number(parent) != PageNumber::ONE
        && store.node(parent).right_child()? == store.pager.number(leaf).get())
}

/// Gives the parked cell of `leaf` a page of its own, right of it.
///
/// # Errors
/// Those of allocating and of making pages writable.
#[doc(alias = "balance_quick")]
pub(super) fn append_leaf(store: &mut Store, leaf: PageRef, parent: PageRef) -> Result<()> {
    let leaf_number = store.pager.number(leaf);
    let parent_number = store.pager.number(parent);
    let kind = store.node(leaf).kind();
    let writable_leaf = store.pager.make_writable(leaf)?;
    let parent = store.pager.make_writable(parent)?;
    let parked = store.node_mut(writable_leaf).take_parked();
    let (number, page) = store.allocate_page(None)?;
    let cell = parked.first().map_or(&[][..], |cell| &cell.bytes);
    let whole = Span { start: 0, size: cell.len() as u32 };
    store.node_mut(page).rebuild(number, kind, cell, &[whole])?;
    let node = store.node(leaf);
    let last_key = node.integer_key(node.cell_count() - 1)?;
    let mut divider = [0; 4 + varint::MAX_LENGTH];
    let (child, mut key) = (leaf_number.get().to_be_bytes(), [0; varint::MAX_LENGTH]);
    let length = 4 + varint::encode(last_key as u64, &mut key);
    divider[..4].copy_from_slice(&child);
    divider[4..].copy_from_slice(&key);
    let end = store.node(parent.into()).total_count();
    store.node_mut(parent).insert(end, &divider[..length])?;
    store.node_mut(parent).set_right_child(number)?;
    store.set_owner(number, Owner::Child(parent_number))?;
    store.claim_children(page.into())
}
