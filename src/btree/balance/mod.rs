//! Which balance is due: the loop that decides, and nothing else decides.
//!
//! | situation | what is done | file |
//! | --- | --- | --- |
//! | root is overfull | its content moves to a new child, which is then balanced | `root` |
//! | root has no cells but a child | the child's content moves into the root, if it fits | `root` |
//! | right-most table leaf, overfull by one cell at its end | the cell gets a page of its own | `append` |
//! | any other page that is overfull, or more than two thirds empty | its cells are spread again over it and its neighbours | `siblings` |
//!
//! Balancing a page changes its parent, so the parent is looked at next, up to the root.

use crate::error::{Error, Result};

use super::cursor::{DEPTH_MAX, Level};
use super::store::Store;

mod append;
mod distribute;
mod list;
mod root;
mod siblings;

pub(super) use siblings::Workspace;

/// Balances the last page of `path` and then its ancestors, as far as needed. Every level of the
/// path names a page and, but for the last, the index of the child that leads on.
///
/// Returns the number of levels of the path that were not looked at: all pages from there on
/// down are in balance.
///
/// # Errors
/// [`Error::Corrupt`], [`Error::Full`] and errors of the pager. Pages may then be half-way
/// rearranged: the transaction, or a savepoint, must be rolled back.
pub(super) fn balance(store: &mut Store, path: &[Level]) -> Result<usize> {
    let mut path = path;
    let mut deeper;
    // Each round ends at the root, goes one level up, or makes the tree deeper by one; a root
    // that stays overfull for ever would be an error of ours.
    for _ in 0..4 * DEPTH_MAX {
        let Some((level, above)) = path.split_last() else {
            return Err(Error::Internal("empty path"));
        };
        let node = store.node(level.page);
        let overfull = node.parked_count() > 0;
        let Some(parent) = above.last() else {
            if overfull {
                let child = root::deepen(store, level.page)?;
                deeper = [level.page, child].map(|page| Level { page, index: 0 });
                path = &deeper;
                continue;
            }
            if node.cell_count() == 0 && !node.is_leaf() {
                root::make_shallower(store, level.page)?;
            }
            return Ok(0);
        };
        if !overfull && node.free_bytes()? * 3 <= store.format.usable * 2 {
            return Ok(above.len());
        }
        if append::applies(store, level.page, parent.page)? {
            append::append_leaf(store, level.page, parent.page)?;
        } else {
            siblings::rebalance(store, level.page, parent.page, parent.index)?;
        }
        path = above;
    }
    Err(Error::corrupt("balancing does not come to an end"))
}
