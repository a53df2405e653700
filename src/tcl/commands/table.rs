//! Trees and meta values.

use super::super::command::{Call, Outcome};
use super::super::result_code::Failure;
use super::super::value::Obj;
use crate::error::Error;
use crate::format::PageNumber;

/// Meta values that have a name of their own, see `btree_get_meta ID IDX`.
const META_COUNT: usize = 8;
/// Words of `btree_update_meta` behind the name: the handle and ten integers.
const META_LIST_WORDS: usize = 11;
/// Words of `btree_update_meta` behind the name: the handle, an index, a value.
const META_SINGLE_WORDS: usize = 3;
/// The bit of a page's type that says that its tree has integer keys.
const INTEGER_KEYS: u8 = 1;

/// `btree_create_table ID FLAGS`
pub(super) fn create(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    // Three bits are flags; the others never meant anything (C15).
    let flags = (call.int(2)? & 7) as u8;
    Ok(database.enter()?.create_table(flags)?.get().into())
}

/// `btree_drop_table ID TABLENUM ?MOVEDVAR?`
pub(super) fn drop(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let root = call.page_number(2)?;
    let moved = database.enter()?.drop_table(root)?;
    if call.has(3) {
        let moved = Obj::from(moved.map_or(0, PageNumber::get));
        call.interp.set_variable(call.word(3)?, &moved)?;
    }
    Ok(().into())
}

/// `btree_clear_table ID TABLENUM ?COUNTVAR?`: the entries of tables are counted (D333).
pub(super) fn clear(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let root = call.page_number(2)?;
    let before = match call.has(3) {
        true => call.interp.variable(call.word(3)?),
        false => None,
    };
    let before = before.map_or(Ok(0), |count| count.wide(&mut call.interp))?;
    let mut in_use = database.enter()?;
    let removed = in_use.clear_table(root)?;
    if call.has(3) {
        let is_table = match PageNumber::new(root) {
            Some(root) => in_use.page_details(root)?.kind & INTEGER_KEYS != 0,
            None => false,
        };
        std::mem::drop(in_use);
        let removed = if is_table { i64::try_from(removed).unwrap_or(i64::MAX) } else { 0 };
        let count = Obj::from(before.saturating_add(removed));
        call.interp.set_variable(call.word(3)?, &count)?;
    }
    Ok(().into())
}

/// `btree_get_meta ID ?IDX?`: the list is signed as in 2006, the single value unsigned (D181).
pub(super) fn get_meta(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    if call.has(2) {
        let slot = meta_slot(call)?;
        return Ok(database.enter()?.meta(slot)?.into());
    }
    let values = database.enter()?.meta_list()?;
    Ok(Obj::list(values.map(|value| Obj::from(value as i32))).into())
}

/// `btree_update_meta ID METADATA...`, or `btree_update_meta ID IDX VALUE`
pub(super) fn update_meta(call: &mut Call<'_>) -> Outcome {
    match call.count() {
        META_SINGLE_WORDS => {
            let database = call.database(1)?;
            call.wide(2)?;
            let value = call.bits(3)?;
            let slot = meta_slot(call)?;
            Ok(database.enter()?.set_meta(slot, value)?.into())
        }
        META_LIST_WORDS => {
            let database = call.database(1)?;
            let mut values = [0; 9];
            // Word 2 is the number of free pages, which belongs to the engine.
            for (value, word) in values.iter_mut().zip(3..) {
                *value = call.bits(word)?;
            }
            Ok(database.enter()?.set_meta_list(&values)?.into())
        }
        _ => Err(Failure::WrongArgumentCount),
    }
}

/// `btree_incr_vacuum ID`: that there is nothing left to do is a result, no error (D339).
pub(super) fn incremental_vacuum(call: &mut Call<'_>) -> Outcome {
    let worked = call.database(1)?.enter()?.incremental_vacuum()?;
    Ok(if worked { "SQLITE_OK" } else { "SQLITE_DONE" }.into())
}

/// The index of a meta value in word 2.
fn meta_slot(call: &mut Call<'_>) -> Result<usize, Failure> {
    let slot = usize::try_from(call.wide(2)?).unwrap_or(usize::MAX);
    if slot < META_COUNT {
        Ok(slot)
    } else {
        Err(Error::Misuse("index of a meta value is not from 0 to 7").into())
    }
}
