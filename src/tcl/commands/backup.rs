//! Copies of whole databases: `btree_backup` and the commands it makes, `btree_copy_file`.

use super::super::boundary;
use super::super::command::{Call, Command, Outcome};
use super::super::handle::{Database, OpenBackup};
use super::super::result_code::Failure;
use super::super::value::Obj;
use crate::error::{Error, Result};

/// What a command made by `btree_backup` does; its name is the script's choice.
pub(in crate::tcl) const BACKUP: Command = Command::new(
    c"",
    1..=2,
    c"step N|remaining|pagecount|finish",
    "goes on with a backup, tells how far it is, or ends it",
    run,
);

/// `btree_backup CMD DST SRC`
pub(super) fn start(call: &mut Call<'_>) -> Outcome {
    let name = call.string(1)?;
    let (destination, source) = (call.database(2)?, call.database(3)?);
    if destination.is(&source) {
        return Err(Error::State("a database cannot be copied into itself").into());
    }
    let backup = OpenBackup::start(call.session, &name, destination, source)?;
    let word = call.word(1)?;
    boundary::make_backup_command(&mut call.interp, word, backup);
    Ok(().into())
}

/// `CMD step N`, `CMD remaining`, `CMD pagecount`, `CMD finish`. What a step or the end comes to
/// is the result, also if it is the name of an error.
fn run(call: &mut Call<'_>) -> Outcome {
    let backup = call.backup.clone().ok_or(Error::Internal("a backup without its object"))?;
    let operation = call.string(1)?;
    match (operation.as_str(), call.count()) {
        ("step", 2) => {
            let pages = u32::try_from(call.int(2)?).ok(); // A negative number means all.
            Ok(code_name(backup.step(pages).map(|done| done.then_some("SQLITE_DONE"))).into())
        }
        ("remaining", 1) => Ok(i64::from(backup.progress()?.0).into()),
        ("pagecount", 1) => Ok(i64::from(backup.progress()?.1).into()),
        ("finish", 1) => {
            let ended = code_name(backup.finish(call.session).map(|()| None));
            let command = Obj::list(["rename", &backup.command(), ""].map(Obj::text));
            // A script may have renamed the command: then it stays, and has nothing to do.
            let _ = call.interp.eval(&command);
            call.interp.reset_result();
            Ok(ended.into())
        }
        ("step" | "remaining" | "pagecount" | "finish", _) => Err(Failure::WrongArgumentCount),
        _ => {
            let text = format!(
                "bad option \"{operation}\": must be step, remaining, pagecount, or finish"
            );
            Err(Failure::message(text, &["TCL", "LOOKUP", "INDEX", "option", &operation]))
        }
    }
}

fn code_name(result: Result<Option<&'static str>>) -> &'static str {
    match result {
        Ok(name) => name.unwrap_or("SQLITE_OK"),
        Err(error) => error.code().name,
    }
}

/// `btree_is_in_backup ID`
pub(super) fn is_source(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.enter()?.is_in_backup().into())
}

/// `pager_backup_ptr ID`: the names of the backups that read from a database.
pub(super) fn names(call: &mut Call<'_>) -> Outcome {
    let database = call.database_of_pager(1)?;
    let names = call.session.backups_reading(&database);
    Ok(Obj::list(names.iter().map(|name| Obj::text(name))).into())
}

/// `btree_copy_file TO FROM`
pub(super) fn copy_file(call: &mut Call<'_>) -> Outcome {
    let (to, from) = (call.database(1)?, call.database(2)?);
    if to.is(&from) {
        return Err(Error::State("a database cannot be copied into itself").into());
    }
    let (mut to, mut from) = Database::enter_both(&to, &from)?;
    Ok(to.copy_from(&mut from)?.into())
}
