//! Entries: writing them, and reading the one that a cursor is on.

use super::super::command::{Call, Outcome};
use super::super::handle::InUse;
use super::super::result_code::Failure;
use super::super::value::{Obj, Value};
use crate::btree::{CursorId, InsertHints, Key};
use crate::error::{Error, Result};
use crate::memory;

/// One half of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Key,
    Data,
}

impl Part {
    /// Length of the part in bytes. On a tree with integer keys there is no key in bytes.
    fn size(self, database: &mut InUse<'_>, cursor: CursorId) -> Result<u64> {
        match self {
            Part::Key => database.key_size(cursor),
            Part::Data => database.data_size(cursor).map(u64::from),
        }
    }

    /// The bytes of the part that are on the page itself.
    fn local<'d>(self, database: &'d mut InUse<'_>, cursor: CursorId) -> Result<&'d [u8]> {
        match self {
            Part::Key => database.local_key(cursor),
            Part::Data => database.local_data(cursor),
        }
    }

    /// All bytes of the part.
    fn whole(self, database: &mut InUse<'_>, cursor: CursorId) -> Outcome {
        let size = self.size(database, cursor)?;
        let local = self.local(database, cursor)?;
        if local.len() as u64 == size {
            return Ok(Obj::bytes(local)?.into());
        }
        let bytes = match self {
            Part::Key => database.key(cursor)?,
            Part::Data => database.data(cursor)?,
        };
        Ok(Obj::bytes(&bytes)?.into())
    }

    /// `count` bytes from `offset` on, which must be there.
    fn range(self, database: &mut InUse<'_>, cursor: CursorId, range: Range) -> Outcome {
        let end = u64::from(range.offset) + u64::from(range.count);
        if end > self.size(database, cursor)? {
            return Err(Error::corrupt("range beyond the end of the entry").into());
        }
        let count = range.count as usize;
        let mut bytes = Vec::new();
        memory::reserve_exact(&mut bytes, count)?;
        bytes.resize(count, 0);
        match self {
            Part::Key => database.read_key(cursor, range.offset, &mut bytes)?,
            Part::Data => database.read_data(cursor, range.offset, &mut bytes)?,
        }
        Ok(Obj::bytes(&bytes)?.into())
    }
}

/// The part of a key or of data that was asked for, in bytes.
#[derive(Clone, Copy)]
struct Range {
    count: u32,
    offset: u32,
}

/// `btree_insert ID KEY DATA ?NZERO? ?-bias B? ?-seekresult R?`
///
/// Bias and seek result are hints that the engine checks, so a wrong one cannot do harm (D338).
pub(super) fn insert(call: &mut Call<'_>) -> Outcome {
    check_insert_words(call)?;
    let cursor = call.cursor(1)?;
    let (key, data) = (call.word(2)?, call.word(3)?);
    let mut database = cursor.enter()?;
    if database.has_integer_keys(cursor.id)? {
        let key = key.key(&mut call.interp)?;
        let (zeros, hints) = insert_options(call)?;
        let data = data.bytes(&mut call.interp)?;
        database.insert_with_hints(cursor.id, Key::Integer(key), data, zeros, hints)?;
    } else {
        let (zeros, hints) = insert_options(call)?;
        let (key, data) = Value::bytes_pair(key, data, &mut call.interp)?;
        database.insert_with_hints(cursor.id, Key::Bytes(key), data, zeros, hints)?;
    }
    Ok(().into())
}

/// Whether the word is an option of `btree_insert`.
fn is_insert_option(word: &str) -> bool {
    ["-bias", "-seekresult"].contains(&word)
}

/// Checks the number of words behind DATA, which comes before anything else: at most NZERO, then
/// pairs of an option and its value.
fn check_insert_words(call: &mut Call<'_>) -> Result<(), Failure> {
    let mut at = 4;
    if call.has(at) && !is_insert_option(&call.string(at)?) {
        at += 1;
    }
    while call.has(at) {
        if !call.has(at + 1) || !is_insert_option(&call.string(at)?) {
            return Err(Failure::WrongArgumentCount);
        }
        at += 2;
    }
    Ok(())
}

/// The words behind DATA: NZERO, and what the caller knows about the place. A seek result of 0 says
/// nothing.
fn insert_options(call: &mut Call<'_>) -> Result<(u32, InsertHints), Failure> {
    let (mut zeros, mut hints) = (0, InsertHints::default());
    let mut at = 4;
    if call.has(at) && !is_insert_option(&call.string(at)?) {
        zeros = call.int(at)?;
        at += 1;
    }
    while call.has(at) {
        let value = call.int(at + 1)?;
        match call.string(at)?.as_str() {
            "-bias" => hints.behind_all = value != 0,
            _ => hints.sought = (value != 0).then(|| value.cmp(&0)),
        }
        at += 2;
    }
    let zeros = u32::try_from(zeros).map_err(|_| Error::State("negative number of zero bytes"))?;
    Ok((zeros, hints))
}

/// `btree_put_data ID OFFSET DATA`
pub(super) fn put_data(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    let offset = call.int(2)?;
    let offset = u32::try_from(offset).map_err(|_| Error::State("negative offset"))?;
    let mut database = cursor.enter()?;
    let bytes = call.word(3)?.bytes(&mut call.interp)?;
    Ok(database.put_data(cursor.id, offset, bytes)?.into())
}

/// `btree_delete ID`
pub(super) fn delete(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    Ok(cursor.enter()?.delete(cursor.id)?.into())
}

/// `btree_key ID ?N? ?OFFSET?`
pub(super) fn key(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    let count = call.optional_int(2)?;
    let offset = call.optional_int(3)?;
    let mut database = cursor.enter()?;
    if count.is_none()
        && let Some((key, _)) = database.usual_row(cursor.id)
    {
        return Ok((key as u64).into());
    }
    if database.has_integer_keys(cursor.id)? {
        if count.is_some() {
            return Err(Error::Misuse("an integer key has no parts").into());
        }
        return Ok((database.integer_key(cursor.id)? as u64).into());
    }
    let Some(count) = count else {
        check_on_entry(&mut database, cursor.id)?;
        return Part::Key.whole(&mut database, cursor.id);
    };
    let range = range(count, offset.unwrap_or(0))?;
    check_on_entry(&mut database, cursor.id)?;
    Part::Key.range(&mut database, cursor.id, range)
}

/// `btree_data ID ?N? ?OFFSET?`
pub(super) fn data(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    let count = call.optional_int(2)?;
    let offset = call.optional_int(3)?;
    let mut database = cursor.enter()?;
    let Some(count) = count else {
        if let Some((_, data)) = database.usual_row(cursor.id) {
            return Ok(Obj::bytes(data)?.into());
        }
        check_on_entry(&mut database, cursor.id)?;
        return Part::Data.whole(&mut database, cursor.id);
    };
    let range = range(count, offset.unwrap_or(0))?;
    check_on_entry(&mut database, cursor.id)?;
    // Without an offset the command answers as in 2006.
    if offset.is_none() && range.count > database.data_size(cursor.id)? {
        return Err(Error::State("more bytes wanted than the entry has").into());
    }
    Part::Data.range(&mut database, cursor.id, range)
}

fn range(count: i32, offset: i32) -> Result<Range> {
    match (u32::try_from(count), u32::try_from(offset)) {
        (Ok(count), Ok(offset)) => Ok(Range { count, offset }),
        _ => Err(Error::State("negative count or offset")),
    }
}

fn check_on_entry(database: &mut InUse<'_>, cursor: CursorId) -> Result<()> {
    if !database.is_at_end(cursor) {
        return Ok(());
    }
    // A cursor that cannot say where it is says why.
    database.data_size(cursor)?;
    Err(Error::Abort("the cursor is on no entry"))
}

/// `btree_keysize ID`
pub(super) fn key_size(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    Ok(cursor.enter()?.key_size(cursor.id)?.into())
}

/// `btree_data_size ID`
pub(super) fn data_size(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    Ok(cursor.enter()?.data_size(cursor.id)?.into())
}

/// `btree_payload_size ID`
pub(super) fn payload_size(call: &mut Call<'_>) -> Outcome {
    let cursor = call.cursor(1)?;
    Ok(cursor.enter()?.payload_size(cursor.id)?.into())
}

/// `btree_fetch_key ID AMT`
pub(super) fn fetch_key(call: &mut Call<'_>) -> Outcome {
    fetch(call, Part::Key)
}

/// `btree_fetch_data ID AMT`
pub(super) fn fetch_data(call: &mut Call<'_>) -> Outcome {
    fetch(call, Part::Data)
}

/// The first AMT bytes of a part if the page itself has as many; for AMT ≤ 0 the whole part if
/// the page has all of it. Otherwise, and for integer keys, nothing (C12).
fn fetch(call: &mut Call<'_>, part: Part) -> Outcome {
    let cursor = call.cursor(1)?;
    let amount = call.int(2)?;
    let mut database = cursor.enter()?;
    let integer_keys = database.has_integer_keys(cursor.id)?;
    if database.is_at_end(cursor.id) || (part == Part::Key && integer_keys) {
        return Ok(().into());
    }
    let wanted = match u64::try_from(amount) {
        Ok(amount) if amount > 0 => amount,
        _ => part.size(&mut database, cursor.id)?,
    };
    let local = part.local(&mut database, cursor.id)?;
    match usize::try_from(wanted).ok().and_then(|wanted| local.get(..wanted)) {
        Some(bytes) => Ok(Obj::bytes(bytes)?.into()),
        None => Ok(().into()),
    }
}
