//! Looking inside: counters, decoded pages, listings, the integrity check.

use std::fmt::Write as _;

use super::super::command::{Call, Outcome};
use super::super::result_code::Failure;
use super::super::value::Obj;
use super::pager;
use crate::btree::CellDetails;
use crate::error::Error;
use crate::format::PageNumber;

/// Most lines that an integrity check reports: enough for people, and bounded for a file that is
/// broken throughout.
const PROBLEMS_MAX: usize = 10_000;

/// `btree_pager_stats ID`
pub(super) fn stats(call: &mut Call<'_>) -> Outcome {
    let stats = call.database(1)?.enter()?.stats();
    let later = [("read", stats.reads.into()), ("write", stats.writes.into())];
    Ok(Obj::pairs(pager::counters(&stats).into_iter().chain(later)).into())
}

/// `btree_cursor_info ID ?UP-CNT?`
pub(super) fn cursor_info(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    let up = call.optional_int(2)?.unwrap_or(0);
    let up = u32::try_from(up).map_err(|_| Error::State("negative number of levels"))?;
    let info = cursor.enter()?.cursor_info(cursor.id, up)?;
    let numbers = [
        info.page,
        info.index,
        info.cells,
        info.cell_size,
        info.free_bytes,
        info.free_blocks,
        info.data_size,
        info.header_size,
        info.local_size,
        info.parent,
    ];
    Ok(Obj::list(numbers.map(Obj::from)).into())
}

/// `btree_integrity_check ID ROOT ...`
pub(super) fn integrity_check(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let mut roots = Vec::with_capacity(call.count());
    for word in call.rest(2) {
        roots.push(word.wide(&mut call.interp)?);
    }
    let problems = database.enter()?.integrity_check(&roots, PROBLEMS_MAX)?;
    Ok(problems.join("\n").into())
}

/// `btree_page_dump ID PAGENUM`
pub(super) fn page_dump(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let page = page_in_file(call, 2)?;
    let mut listing = String::new();
    database.enter()?.dump_page(page, &mut listing)?;
    call.interp.print(&listing);
    Ok(().into())
}

/// `btree_tree_dump ID PAGENUM`
pub(super) fn tree_dump(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let root = page_in_file(call, 2)?;
    let mut listing = String::new();
    database.enter()?.dump_tree(root, &mut listing)?;
    call.interp.print(&listing);
    Ok(().into())
}

/// `btree_pager_ref_dump ID`. In place of an address in memory, which would mean nothing, stands
/// the one in the file.
pub(super) fn pinned_pages(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let mut listing = String::new();
    {
        let database = database.enter()?;
        let size = database.page_size();
        for (page, pins) in database.pinned_pages() {
            let address = page.offset(size);
            // Writing to a string cannot fail.
            let _ = writeln!(listing, "PAGE {:3} addr={address:#x} nRef={pins}", page.get());
        }
    }
    call.interp.print(&listing);
    Ok(().into())
}

/// `btree_cursor_list ID`. The name of a cursor is its handle.
pub(super) fn cursor_list(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let cursors = database.enter()?.cursors();
    let mut listing = String::new();
    for cursor in cursors {
        let handle = call.session.cursor_handle(&database, cursor.id).unwrap_or_default();
        let mode = if cursor.writable { "rw" } else { "ro" };
        let (root, page, index) = (cursor.root.get(), cursor.page, cursor.index);
        let end = if cursor.at_end { " eof" } else { "" };
        let _ = writeln!(
            listing,
            "CURSOR {handle} rooted at {root:4}({mode}) currently at {page}.{index}{end}"
        );
    }
    call.interp.print(&listing);
    Ok(().into())
}

/// `btree_ovfl_info BTREE CURSOR`
pub(super) fn overflow_pages(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let cursor = call.cursor(2)?;
    if !cursor.database.is(&database) {
        let (database, cursor) = (call.string(1)?, call.string(2)?);
        let text = format!("Cursor {cursor} does not belong to btree {database}");
        return Err(Failure::message(text, &["TCL", "LOOKUP", "CURSOR", &cursor]));
    }
    let mut database = database.enter()?;
    // A cursor that a rollback made useless says so here.
    database.key_size(cursor.id)?;
    if database.is_at_end(cursor.id) {
        return Ok(().into());
    }
    let mut pages = Vec::new();
    match (database.list_overflow_pages(cursor.id, &mut pages), pages.last()) {
        (Ok(()), _) => Ok(Obj::list(pages.iter().map(|page| page.get().into())).into()),
        (Err(error @ Error::Corrupt { page: page @ 1.., .. }), _) => Err(unreadable(page, error)),
        (Err(error @ Error::Io { .. }), Some(page)) => Err(unreadable(page.get(), error)),
        (Err(error), _) => Err(error.into()),
    }
}

/// The historic message about a page of a chain that cannot be had; signed, as ever.
fn unreadable(page: u32, error: Error) -> Failure {
    let code = error.code();
    let (extended, text) = (code.extended.to_string(), error.to_string());
    let words = ["SQLITE", code.name, &extended, &text];
    Failure::message(format!("unable to get page {}", page as i32), &words)
}

/// `btree_page_info ID PGNO`
pub(super) fn page_info(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let page = page_in_file(call, 2)?;
    let details = database.enter()?.page_details(page)?;
    Ok(Obj::pairs([
        ("type", u32::from(details.kind).into()),
        ("ncell", (details.cells.len() as u64).into()),
        ("freeblock", details.first_free_block.into()),
        ("content", details.content.into()),
        ("frag", details.fragments.into()),
        ("right", details.right_child.into()),
        ("free", details.free_bytes.into()),
        ("cells", Obj::list(details.cells.iter().map(cell_info))),
    ])
    .into())
}

fn cell_info(cell: &CellDetails) -> Obj {
    Obj::pairs([
        ("offset", cell.offset.into()),
        ("size", cell.size.into()),
        ("child", cell.child.into()),
        ("key", cell.key.into()),
        ("payload", cell.payload.into()),
        ("local", cell.local.into()),
        ("overflow", cell.overflow.into()),
    ])
}

/// `btree_ptrmap ID PGNO`
pub(super) fn pointer_map_entry(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let page = page_in_file(call, 2)?;
    let (kind, parent) = database.enter()?.pointer_map_entry(page)?;
    Ok(Obj::list([u32::from(kind).into(), parent.into()]).into())
}

/// `btree_freelist ID`
pub(super) fn free_pages(call: &mut Call<'_>) -> Outcome {
    let pages = call.database(1)?.enter()?.free_pages()?;
    Ok(Obj::list(pages.iter().map(|page| page.get().into())).into())
}

/// The page number in word `index`.
fn page_in_file(call: &mut Call<'_>, index: usize) -> Result<PageNumber, Failure> {
    let number = call.page_number(index)?;
    PageNumber::new(number).ok_or_else(|| Error::corrupt("impossible page number").into())
}
