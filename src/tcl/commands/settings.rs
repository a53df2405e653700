//! Settings of a database and of its pager.

use std::sync::Arc;

use super::super::command::{Call, Outcome};
use super::super::handle::AnyPager;
use super::super::result_code::Failure;
use crate::btree::{JournalMode, LockingMode, PageCodec, SafetyLevel, Xor};
use crate::error::Error;
use crate::format::{AutoVacuum, PageSize};

const JOURNAL_MODES: [(&str, JournalMode); 5] = [
    ("delete", JournalMode::Delete),
    ("truncate", JournalMode::Truncate),
    ("persist", JournalMode::Persist),
    ("memory", JournalMode::Memory),
    ("off", JournalMode::Off),
];

const LOCKING_MODES: [(&str, LockingMode); 2] =
    [("normal", LockingMode::Normal), ("exclusive", LockingMode::Exclusive)];

/// Later rows are other spellings of earlier ones (D232; numbers as the C function had them).
const SAFETY_LEVELS: [(&str, SafetyLevel); 9] = [
    ("off", SafetyLevel::Off),
    ("normal", SafetyLevel::Normal),
    ("full", SafetyLevel::Full),
    ("extra", SafetyLevel::Extra),
    ("none", SafetyLevel::Off),
    ("1", SafetyLevel::Off),
    ("2", SafetyLevel::Normal),
    ("3", SafetyLevel::Full),
    ("4", SafetyLevel::Extra),
];

const AUTO_VACUUMS: [(i32, AutoVacuum); 3] =
    [(0, AutoVacuum::None), (1, AutoVacuum::Full), (2, AutoVacuum::Incremental)];

/// The value that a word stands for.
fn value_of<T: Copy>(table: &[(&str, T)], word: &str, wrong: &'static str) -> Result<T, Error> {
    let found = table.iter().find(|(known, _)| *known == word);
    found.map(|&(_, value)| value).ok_or(Error::Misuse(wrong))
}

/// The first word for a value.
fn word_for<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table.iter().find(|(_, known)| known == value).map_or("", |&(word, _)| word)
}

/// `btree_set_cache_size BT NCACHE`
pub(super) fn set_cache_size(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let pages = call.int(2)?;
    database.enter()?.set_cache_size(pages);
    Ok(().into())
}

/// `btree_get_cache_size ID`
pub(super) fn cache_size(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.enter()?.cache_size().into())
}

/// `btree_set_page_size ID N ?RES? ?FIX?`: a size that is none leaves the size as it is (D136).
pub(super) fn set_page_size(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let size = u32::try_from(call.wide(2)?).ok().and_then(PageSize::new);
    let reserved = match call.optional_int(3)? {
        None | Some(-1) => None,
        Some(bytes) => Some(
            u8::try_from(bytes)
                .map_err(|_| Error::Misuse("number of reserved bytes is not from -1 to 255"))?,
        ),
    };
    let fix = call.has(4) && call.boolean(4)?;
    Ok(database.enter()?.set_page_size(size, reserved, fix)?.into())
}

/// `btree_get_page_size ID`
pub(super) fn page_size(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.enter()?.page_size().get().into())
}

/// `btree_get_reserve ID`
pub(super) fn reserved(call: &mut Call<'_>) -> Outcome {
    Ok(u32::from(call.database(1)?.enter()?.reserved()).into())
}

/// `btree_set_auto_vacuum ID 0|1|2`
pub(super) fn set_auto_vacuum(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let number = call.int(2)?;
    let found = AUTO_VACUUMS.iter().find(|(known, _)| *known == number);
    let &(_, mode) = found.ok_or(Error::Misuse("kind of auto-vacuum is not 0, 1 or 2"))?;
    Ok(database.enter()?.set_auto_vacuum(mode)?.into())
}

/// `btree_get_auto_vacuum ID`
pub(super) fn auto_vacuum(call: &mut Call<'_>) -> Outcome {
    let mode = call.database(1)?.enter()?.auto_vacuum();
    let found = AUTO_VACUUMS.iter().find(|(_, known)| *known == mode);
    Ok(found.map_or(0, |&(number, _)| number).into())
}

/// `btree_max_page_count ID ?N?`: sets if positive, returns the limit in force.
pub(super) fn page_limit(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let wanted = call.optional_int(2)?.and_then(|pages| u32::try_from(pages).ok());
    let mut database = database.enter()?;
    Ok(match wanted {
        None | Some(0) => database.page_limit(),
        Some(pages) => database.set_page_limit(pages),
    }
    .into())
}

/// `btree_set_safety_level ID LEVEL ?FULLSYNC?`
pub(super) fn set_safety_level(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let level = call.string(2)?;
    let full_sync = call.has(3) && call.boolean(3)?;
    let level = value_of(&SAFETY_LEVELS, &level, "no such safety level")?;
    database.enter()?.set_safety_level(level, full_sync);
    Ok(().into())
}

/// `btree_get_safety_level ID`
pub(super) fn safety_level(call: &mut Call<'_>) -> Outcome {
    Ok(word_for(&SAFETY_LEVELS, &call.database(1)?.enter()?.safety_level()).into())
}

/// `btree_sync_disabled ID`
pub(super) fn is_sync_disabled(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.enter()?.is_sync_disabled().into())
}

/// `btree_cursor_locks ID ?BOOL?`
pub(super) fn cursor_locks(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    if !call.has(2) {
        return Ok(database.enter()?.cursor_locks().into());
    }
    let on = call.boolean(2)?;
    database.enter()?.set_cursor_locks(on);
    Ok(().into())
}

/// `pager_journal_mode ID ?MODE?`: the mode in force
pub(super) fn journal_mode(call: &mut Call<'_>) -> Outcome {
    let pager = call.pager(1)?;
    let mode = match call.has(2) {
        true => Some(value_of(&JOURNAL_MODES, &call.string(2)?, "no such journal mode")?),
        false => None,
    };
    let mode = match (&pager, mode) {
        (AnyPager::Own(pager), Some(mode)) => pager.enter()?.set_journal_mode(mode)?,
        (AnyPager::Own(pager), None) => pager.enter()?.journal_mode(),
        (AnyPager::Below(database), Some(mode)) => database.enter()?.set_journal_mode(mode)?,
        (AnyPager::Below(database), None) => database.enter()?.journal_mode(),
    };
    Ok(word_for(&JOURNAL_MODES, &mode).into())
}

/// `pager_locking_mode ID ?MODE?`: the mode in force
pub(super) fn locking_mode(call: &mut Call<'_>) -> Outcome {
    let pager = call.pager(1)?;
    let mode = match call.has(2) {
        true => Some(value_of(&LOCKING_MODES, &call.string(2)?, "no such locking mode")?),
        false => None,
    };
    let mode = match (&pager, mode) {
        (AnyPager::Own(pager), Some(mode)) => pager.enter()?.set_locking_mode(mode),
        (AnyPager::Own(pager), None) => pager.enter()?.locking_mode(),
        (AnyPager::Below(database), Some(mode)) => database.enter()?.set_locking_mode(mode),
        (AnyPager::Below(database), None) => database.enter()?.locking_mode(),
    };
    Ok(word_for(&LOCKING_MODES, &mode).into())
}

/// `pager_journal_size_limit ID ?N?`: the limit in force
pub(super) fn journal_size_limit(call: &mut Call<'_>) -> Outcome {
    let pager = call.pager(1)?;
    let limit = if call.has(2) { Some(call.wide(2)?) } else { None };
    match &pager {
        AnyPager::Own(pager) => {
            let mut pager = pager.enter()?;
            limit.into_iter().for_each(|bytes| pager.set_journal_size_limit(bytes));
            Ok(pager.journal_size_limit().into())
        }
        AnyPager::Below(database) => {
            let mut database = database.enter()?;
            limit.into_iter().for_each(|bytes| database.set_journal_size_limit(bytes));
            Ok(database.journal_size_limit().into())
        }
    }
}

/// `btree_set_codec ID SPEC`: `xor:N` combines every byte in files with N, `none` ends that.
pub(super) fn set_codec(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let spec = call.string(2)?;
    let codec: Option<Arc<dyn PageCodec>> = match spec.strip_prefix("xor:").map(str::parse) {
        Some(Ok(byte)) => Some(Arc::new(Xor(byte))),
        None if spec == "none" => None,
        _ => {
            let text = format!("no such codec: {spec}");
            return Err(Failure::message(text, &["TCL", "LOOKUP", "CODEC", &spec]));
        }
    };
    Ok(database.enter()?.set_codec(codec)?.into())
}
