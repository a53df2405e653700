//! Cursors: opening, moving, asking where they are.

use std::cmp::Ordering;

use super::super::command::{Call, Outcome};
use crate::btree::Key;
use crate::format::PageNumber;

/// `btree_cursor ID TABLENUM WRITEABLE`
pub(super) fn open(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let root = call.page_number(2)?;
    let writable = call.boolean(3)?;
    // No database has a page of this number, so the engine refuses it when its turn has come.
    let root = PageNumber::new(root).unwrap_or(NO_PAGE);
    let id = database.enter()?.open_cursor(root, writable)?;
    Ok(call.session.add_cursor(database, id).into())
}

/// The largest page number there is, one more than a database may have.
const NO_PAGE: PageNumber = match PageNumber::new(u32::MAX) {
    Some(page) => page,
    None => PageNumber::ONE,
};

/// `btree_close_cursor ID`
pub(super) fn close(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    call.session.remove_cursor(&cursor);
    // Closing never fails; a broken database takes its cursors along when it is closed.
    if let Ok(mut database) = cursor.enter() {
        database.close_cursor(cursor.id);
    }
    Ok(().into())
}

/// `btree_first ID`: 0, or 1 if the tree is empty
pub(super) fn first(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    let found = cursor.enter()?.first(cursor.id)?;
    Ok((!found).into())
}

/// `btree_last ID`: 0, or 1 if the tree is empty
pub(super) fn last(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    let found = cursor.enter()?.last(cursor.id)?;
    Ok((!found).into())
}

/// `btree_next ID`: 0, or 1 if there is no next entry
pub(super) fn next(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    let found = cursor.enter()?.next(cursor.id)?;
    Ok((!found).into())
}

/// `btree_prev ID`: 0, or 1 if there is no previous entry
pub(super) fn previous(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    let found = cursor.enter()?.previous(cursor.id)?;
    Ok((!found).into())
}

/// `btree_move_to ID KEY`: how the entry reached compares with KEY; -1 also in an empty tree
pub(super) fn move_to(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    let mut database = cursor.enter()?;
    let word = call.word(2)?;
    let order = if database.has_integer_keys(cursor.id)? {
        database.seek(cursor.id, Key::Integer(word.key(&mut call.interp)?))?
    } else {
        database.seek(cursor.id, Key::Bytes(word.bytes(&mut call.interp)?))?
    };
    Ok(match order {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }
    .into())
}

/// `btree_eof ID`
pub(super) fn eof(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    Ok(cursor.enter()?.is_at_end(cursor.id).into())
}

/// `btree_count ID`
pub(super) fn count(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    Ok(cursor.enter()?.count(cursor.id)?.into())
}

/// `btree_clear_cursor ID`
pub(super) fn clear(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    let mut database = cursor.enter()?;
    // Of a cursor that a rollback made useless, only closing and asking for the end are left.
    database.has_integer_keys(cursor.id)?;
    database.clear_cursor(cursor.id);
    Ok(().into())
}

/// `btree_cursor_has_moved ID`
pub(super) fn has_moved(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    Ok(cursor.enter()?.cursor_has_moved(cursor.id)?.into())
}
