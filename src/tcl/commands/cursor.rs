//! Cursors: opening, moving, asking where they are.

use std::cmp::Ordering;

use super::super::command::{Call, Outcome, Reply};
use super::super::result_code::{Failure, error_named};
use super::super::value::Value;
use super::record;
use crate::btree::{Btree, Collation, Direction, Key, KeyInfo, SearchMode, TextEncoding};
use crate::error::Error;
use crate::format::PageNumber;
use crate::format::record::IntegerForms;

/// The meta value that holds the encoding of texts.
const TEXT_ENCODING: usize = 5;

/// `btree_cursor ID TABLENUM WRITEABLE ?-keyinfo LIST?`
pub(super) fn open(call: &mut Call<'_>) -> Outcome {
    let described = call.has(4);
    if described && (!call.has(5) || call.string(4)? != "-keyinfo") {
        return Err(Failure::WrongArgumentCount);
    }
    let database = call.database(1)?;
    let root = call.page_number(2)?;
    let writable = call.boolean(3)?;
    // No database has a page of this number, so the engine refuses it when its turn has come.
    let root = PageNumber::new(root).unwrap_or(NO_PAGE);
    let id = if described {
        let info = key_info(call, call.word(5)?)?;
        let mut database = database.enter()?;
        // If it cannot be read, the cursor cannot be opened, and that error is the better one.
        let encoding = TextEncoding::from_number(database.meta(TEXT_ENCODING).unwrap_or(0));
        database.open_index_cursor(root, writable, info.in_encoding(encoding))?
    } else {
        database.enter()?.open_cursor(root, writable)?
    };
    Ok(call.session.add_cursor(database, id).into())
}

/// A description of keys: a list with `binary`, `nocase` or `rtrim` for each field, `-desc` behind
/// it for a descending one.
fn key_info(call: &mut Call<'_>, words: &Value) -> Result<KeyInfo, Failure> {
    let mut info = KeyInfo::new();
    for word in words.list(&mut call.interp)? {
        let word = word.string(&mut call.interp);
        let (name, direction) = match word.strip_suffix("-desc") {
            Some(name) => (name, Direction::Descending),
            None => (word.as_str(), Direction::Ascending),
        };
        let collation = match name {
            "binary" => Collation::Binary,
            "nocase" => Collation::NoCase,
            "rtrim" => Collation::RTrim,
            _ => {
                let text = format!("no such collation: {word}");
                return Err(Failure::message(text, &["SQLITE", "SQLITE_ERROR", "1", &word]));
            }
        };
        info = info.with(collation, direction);
    }
    Ok(info)
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
    Ok(sign(order))
}

fn sign(order: Ordering) -> Reply {
    (order as i32).into()
}

/// The options of `btree_moveto_unpacked`.
#[derive(Default)]
struct SearchOptions<'a> {
    mode: SearchMode,
    /// The variable for the rowid that a prefix search reports.
    rowid: Option<&'a Value>,
}

/// `btree_moveto_unpacked CUR KEY ?-bias B? ?-ignorerowid? ?-incrkey? ?-prefixmatch?
/// ?-prefixsearch VAR?`: as `btree_move_to`, for KEY an integer or a list of fields
///
/// The bias is checked and not needed: a search in a table begins at the right-hand end anyway.
pub(super) fn move_to_unpacked(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    let options = search_options(call)?;
    let key = call.word(2)?;
    let has_mode = options.mode != SearchMode::default();
    let mut database = cursor.enter()?;
    let (order, rowid) = if database.has_integer_keys(cursor.id)? {
        if has_mode {
            return Err(Error::Misuse("search modes are for indexes").into());
        }
        (database.seek(cursor.id, Key::Integer(key.key(&mut call.interp)?))?, None)
    } else {
        let fields = record::fields(&key.list(&mut call.interp)?, &mut call.interp)?;
        if has_mode || database.has_records(cursor.id)? {
            database.seek_fields(cursor.id, &fields, options.mode)?
        } else {
            let bytes = crate::format::record::encode(&fields, IntegerForms::All);
            (database.seek(cursor.id, Key::Bytes(&bytes))?, None)
        }
    };
    drop(database);
    if let Some(variable) = options.rowid {
        let rowid = rowid.map_or_else(|| "".into(), Into::into);
        call.interp.set_variable(variable, &rowid)?;
    }
    Ok(sign(order))
}

fn search_options<'a>(call: &mut Call<'a>) -> Result<SearchOptions<'a>, Failure> {
    let mut options = SearchOptions::default();
    let mut at = 3;
    while call.has(at) {
        match call.string(at)?.as_str() {
            "-ignorerowid" => options.mode.ignore_rowid = true,
            "-incrkey" => options.mode.increment_key = true,
            "-prefixmatch" => options.mode.prefix_match = true,
            "-bias" => {
                at += 1;
                call.int(at)?;
            }
            "-prefixsearch" => {
                at += 1;
                options.mode.prefix_search = true;
                options.rowid = Some(call.word(at)?);
            }
            _ => return Err(Failure::WrongArgumentCount),
        }
        at += 1;
    }
    Ok(options)
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

/// `btree_cursor_size`: bytes of memory for a cursor
pub(super) fn size(_call: &mut Call<'_>) -> Outcome {
    Ok((Btree::cursor_size() as u64).into())
}

/// `btree_get_cached_rowid CUR`
pub(super) fn cached_rowid(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    Ok(cursor.enter()?.cached_rowid(cursor.id)?.into())
}

/// `btree_set_cached_rowid CUR ROWID`
pub(super) fn set_cached_rowid(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    let rowid = call.wide(2)?;
    Ok(cursor.enter()?.set_cached_rowid(cursor.id, rowid)?.into())
}

/// `btree_trip_all_cursors ID CODE`
pub(super) fn trip_all(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let error = error_named(&call.string(2)?, "the cursor was tripped")
        .ok_or(Error::Misuse("no code that a call can fail with"))?;
    database.enter()?.trip_all_cursors(error);
    Ok(().into())
}
