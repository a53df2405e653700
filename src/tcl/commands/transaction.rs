//! Transactions, statements and savepoints.

use super::super::command::{Call, Outcome};
use super::super::handle::{Database, InUse};
use super::super::result_code::Failure;
use super::write_behind;
use crate::btree::TransactionKind;
use crate::error::{Error, Result};

/// `btree_begin_transaction ID`
pub(super) fn begin_transaction(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.enter()?.begin(TransactionKind::Write)?.into())
}

/// `btree_begin_trans ID 0|1|2`
pub(super) fn begin(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let kind = match call.int(2)? {
        0 => TransactionKind::Read,
        1 => TransactionKind::Write,
        2 => TransactionKind::Exclusive,
        _ => return Err(Error::Misuse("kind of transaction is not 0, 1 or 2").into()),
    };
    Ok(database.enter()?.begin(kind)?.into())
}

/// `btree_commit ID`
pub(super) fn commit(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    Ok(finish(&database, |database| database.commit())?.into())
}

/// `btree_commit_phase_one ID ?SUPER?`
pub(super) fn commit_phase_one(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let super_journal = if call.has(2) { Some(call.path(2)?) } else { None };
    Ok(database.enter()?.commit_phase_one(super_journal.as_deref())?.into())
}

/// `btree_commit_phase_two ID`
pub(super) fn commit_phase_two(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    Ok(finish(&database, |database| database.commit_phase_two())?.into())
}

/// Commits, and waits for as much as the database wants of a commit (A934).
pub(super) fn finish(
    database: &Database,
    commit: impl FnOnce(&mut InUse<'_>) -> Result<()>,
) -> std::result::Result<(), Failure> {
    let mut in_use = database.enter()?;
    let has_written = in_use.is_writing();
    commit(&mut in_use)?;
    if has_written {
        write_behind::commit_durability(database, in_use.path())?;
    }
    Ok(())
}

/// `btree_rollback ID`
pub(super) fn rollback(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.enter()?.rollback()?.into())
}

/// `btree_is_in_trans ID`
pub(super) fn is_writing(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.enter()?.is_writing().into())
}

/// `btree_is_in_read_trans ID`
pub(super) fn is_reading(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let database = database.enter()?;
    Ok((database.is_reading() || database.is_writing()).into())
}

/// `btree_begin_statement ID`
pub(super) fn begin_statement(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.enter()?.begin_statement()?.into())
}

/// `btree_commit_statement ID`
pub(super) fn commit_statement(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.enter()?.commit_statement()?.into())
}

/// `btree_rollback_statement ID`
pub(super) fn rollback_statement(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.enter()?.rollback_statement()?.into())
}

/// `btree_begin_stmt ID N`
pub(super) fn begin_savepoints(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    // The engine refuses a number that is not above the present one, so 0 stands for less.
    let count = usize::try_from(call.int(2)?).unwrap_or(0);
    Ok(database.enter()?.open_savepoints(count)?.into())
}

/// `btree_savepoint ID release|rollback INDEX`; index -1 is the start of the transaction.
pub(super) fn savepoint(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let index = call.int(3)?;
    let operation = call.string(2)?;
    let index = match index {
        -1 => None,
        index => Some(usize::try_from(index).map_err(|_| Error::Misuse("index below -1"))?),
    };
    let mut database = database.enter()?;
    match (operation.as_str(), index) {
        ("release", Some(index)) => database.release_savepoint(index)?,
        ("release", None) => return Err(Error::Misuse("no savepoint to release").into()),
        ("rollback", index) => database.rollback_savepoint(index)?,
        _ => return Err(Error::Misuse("savepoint operation is not release or rollback").into()),
    }
    Ok(().into())
}
