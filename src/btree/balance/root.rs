//! Pushing the root down; pulling a lone child up.

use crate::error::{Error, Result};
use crate::format::{HEADER_SIZE, PageNumber};
use crate::pager::PageRef;

use super::super::node::Span;
use super::super::pointer_map::Owner;
use super::super::store::Store;

/// Moves the content of an overfull root to a new page, which becomes its only child. Returns the
/// child, as overfull as the root was.
///
/// ```text
///    [ root: a b c d e | f ]               [ root:  ]
///        / / / / / /                             \
///                                          [ child: a b c d e | f ]
///                                              / / / / / /
/// ```
///
/// # Errors
/// Those of allocating and of making pages writable.
#[doc(alias = "balance_deeper")]
pub(super) fn deepen(store: &mut Store, root: PageRef) -> Result<PageRef> {
    let root_number = store.pager.number(root);
    let root = store.pager.make_writable(root)?;
    let (number, child) = store.allocate_page(Some(root_number))?;
    let kind = store.node(root.into()).kind();
    let parked = store.node_mut(root).take_parked();
    if root_number == PageNumber::ONE {
        // The child has no file header: its cells must be laid out anew.
        let (bytes, cells) = collect_cells(store, root.into())?;
        store.node_mut(child).rebuild(number, kind, &bytes, &cells)?;
        if !kind.is_leaf() {
            let right = store.checked_number(store.node(root.into()).right_child()?)?;
            store.node_mut(child).set_right_child(right)?;
        }
    } else {
        store.pager.copy_page(root.into(), child);
        store.fetch_node(number)?;
    }
    store.node_mut(child).put_parked(parked);
    store.claim_children(child.into())?;
    store.node_mut(root).initialize(root_number, kind.as_interior());
    store.node_mut(root).set_right_child(number)?;
    store.set_owner(number, Owner::Child(root_number))?;
    Ok(child.into())
}

/// Moves the content of the only child into a root without cells and frees the child. On page 1
/// the content may not fit beside the file header; then everything stays as it is.
///
/// # Errors
/// [`Error::Corrupt`]; those of making pages writable.
#[doc(alias = "balance_shallower")]
pub(super) fn make_shallower(store: &mut Store, root: PageRef) -> Result<()> {
    let root_number = store.pager.number(root);
    let child_number = store.checked_number(store.node(root).right_child()?)?;
    let child = store.fetch_node(child_number)?;
    if child == root {
        return Err(Error::corrupt("root is its own child").on_page(root_number.get()));
    }
    if store.node(child).kind().as_leaf() != store.node(root).kind().as_leaf() {
        return Err(Error::corrupt("child is of another kind").on_page(child_number.get()));
    }
    if root_number == PageNumber::ONE {
        if store.node(child).free_bytes()? < HEADER_SIZE {
            return Ok(());
        }
        let kind = store.node(child).kind();
        let (bytes, cells) = collect_cells(store, child)?;
        let right = if kind.is_leaf() { None } else { Some(store.node(child).right_child()?) };
        let page = store.pager.make_writable(root)?;
        store.node_mut(page).rebuild(root_number, kind, &bytes, &cells)?;
        if let Some(right) = right {
            let right = store.checked_number(right)?;
            store.node_mut(page).set_right_child(right)?;
        }
    } else {
        let page = store.pager.make_writable(root)?;
        store.pager.copy_page(child, page);
        store.fetch_node(root_number)?;
    }
    store.claim_children(root)?;
    store.free_page(child_number, Some(child))
}

/// A copy of all cells of a page, and where they are in it.
fn collect_cells(store: &Store, page: PageRef) -> Result<(Vec<u8>, Vec<Span>)> {
    let (mut bytes, mut cells) = (Vec::new(), Vec::new());
    store.node(page).gather(&mut bytes, &mut cells)?;
    Ok((bytes, cells))
}
