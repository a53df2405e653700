//! `os_*`: watching the calls to the disk, and making single ones slow, fail or end the process.

use super::super::command::{Call, Outcome};
use super::super::result_code::Failure;
use super::super::value::Obj;
use super::simulate;
use crate::error::{Error, IoCall, ReadOnlyReason};
use crate::os::simulate::{Arguments, LoggedCall, OpKind, PlannedFault, Unsynced};
use crate::os::{Access, LockLevel, OpenKind, OpenRequest, SyncKind};

mod file;

pub(super) use file::COMMANDS as FILES;
pub(in super::super) use file::OsFile;

/// `os_log ?on|off|get|clear?`: the calls made so far, or switches their recording.
pub(super) fn log(call: &mut Call<'_>) -> Outcome {
    match if call.has(1) { call.string(1)? } else { "get".to_owned() }.as_str() {
        "on" => simulate::knobs().set_logging(true),
        "off" => simulate::knobs().set_logging(false),
        "clear" => simulate::knobs().clear_log(),
        "get" => return Ok(Obj::list(simulate::knobs().log().iter().map(logged)).into()),
        _ => return Err(Error::Misuse("os_log takes on, off, get or clear").into()),
    }
    Ok(().into())
}

/// `os_fail OP N ?-persist? ?-torn? ?-code CODE?`: the N-th next call of that kind fails.
pub(super) fn fail(call: &mut Call<'_>) -> Outcome {
    let kind = operation(call)?;
    let nth = count(call)?;
    let mut fault = PlannedFault::default();
    let mut at = 3;
    while call.has(at) {
        match call.string(at)?.as_str() {
            "-persist" => fault.persist = true,
            "-torn" => fault.torn = true,
            "-code" => {
                at += 1;
                fault.error = error_of(&call.string(at)?)?;
            }
            _ => return Err(Failure::WrongArgumentCount),
        }
        at += 1;
    }
    simulate::knobs().plan(kind, nth, fault);
    Ok(().into())
}

/// `os_stall OP MS`: every call of that kind takes so much longer.
pub(super) fn stall(call: &mut Call<'_>) -> Outcome {
    let kind = operation(call)?;
    let milliseconds = u32::try_from(count(call)?).map_err(|_| Failure::too_large())?;
    simulate::knobs().stall(kind, milliseconds);
    Ok(().into())
}

/// `os_crash N ?-unsynced keep|lose|part?`: the process ends at the N-th next call. Without more it
/// does so as if killed, and what was written stays; else as if the power had failed, and what was
/// written from now on and not synced is lost, or some sectors of it, other ones for another N.
pub(super) fn crash(call: &mut Call<'_>) -> Outcome {
    let nth = u64::try_from(call.wide(1)?).map_err(|_| NEGATIVE)?;
    let unsynced = match call.count() {
        1 => Unsynced::Keep,
        3 if call.string(2)? == "-unsynced" => match call.string(3)?.as_str() {
            "keep" => Unsynced::Keep,
            "lose" => Unsynced::Lose,
            "part" => Unsynced::Part { seed: nth },
            _ => return Err(Error::Misuse("no such fate of what is not synced").into()),
        },
        _ => return Err(Failure::WrongArgumentCount),
    };
    simulate::knobs().end_process_at(nth, unsynced);
    Ok(().into())
}

/// `fake_big_file N-MEGABYTES FILE`
pub(super) fn fake_big_file(call: &mut Call<'_>) -> Outcome {
    const MEGABYTE: u64 = 1 << 20;
    let megabytes = call.magnitude_of_32_bits(1)?;
    let path = call.path(2)?;
    let failed = |what: &str, error: Error| {
        let code = error.code();
        let text = format!("{what} failed: {}", code.name);
        let (extended, reason) = (code.extended.to_string(), error.to_string());
        Failure::message(text, &["SQLITE", code.name, &extended, &reason])
    };
    let request = OpenRequest {
        kind: OpenKind::Plain,
        access: Access::Create,
        exclusive: false,
        delete_on_close: false,
        lock_offset: simulate::lock_offset(),
    };
    let vfs = simulate::disk();
    let opened = vfs.full_path(&path).and_then(|path| vfs.open(Some(&path), request));
    let mut opened = opened.map_err(|error| failed("open", error))?;
    let Ok(megabytes) = u64::try_from(megabytes) else {
        return Err(failed("seek", Error::Io { call: IoCall::Write, errno: 0 }));
    };
    let offset = megabytes * MEGABYTE;
    simulate::knobs().seek(offset).map_err(|error| failed("seek", error))?;
    if opened.read_only {
        return Err(failed("write", Error::Full));
    }
    let written = opened.file.write_at(b"Hello, World!\0", offset);
    written.map_err(|error| failed("write", error))?;
    Ok(().into())
}

const NEGATIVE: Error = Error::Misuse("negative number");

/// The kind of call in word 1.
fn operation(call: &mut Call<'_>) -> Result<OpKind, Failure> {
    let name = call.string(1)?;
    OpKind::from_name(&name).ok_or_else(|| {
        let known = OpKind::ALL.map(OpKind::name).join(", ");
        let text = format!("bad operation \"{name}\": must be one of {known}");
        Failure::message(text, &["TCL", "LOOKUP", "INDEX", "operation", &name])
    })
}

/// The number in word 2.
fn count(call: &mut Call<'_>) -> Result<u64, Failure> {
    Ok(u64::try_from(call.wide(2)?).map_err(|_| NEGATIVE)?)
}

/// The error behind the name of a code; `None` for `SQLITE_IOERR`, which suits every call.
fn error_of(name: &str) -> Result<Option<Error>, Failure> {
    const SIMULATED: &str = "simulated";
    let known = [
        Error::Full,
        Error::Busy,
        Error::NoMemory,
        Error::Permission,
        Error::Protocol,
        Error::Locked,
        Error::CannotOpen(SIMULATED),
        Error::ReadOnly(ReadOnlyReason::File),
        Error::State(SIMULATED),
        Error::corrupt(SIMULATED),
    ];
    if name == "SQLITE_IOERR" {
        return Ok(None);
    }
    match known.into_iter().find(|error| error.code().name == name) {
        Some(error) => Ok(Some(error)),
        None => Err(Error::Misuse("no such code for a call to fail with").into()),
    }
}

/// A logged call: operation, file, arguments, thread, and the error that was simulated.
fn logged(call: &LoggedCall) -> Obj {
    let path = call.path.as_ref().map_or(String::new(), |path| path.to_string_lossy().into_owned());
    let thread = format!("{:?}", call.thread);
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    let fault = call.fault.map_or("", |error| error.code().name);
    Obj::list([call.kind.name().into(), path.into(), arguments(call), thread.into(), fault.into()])
}

fn arguments(call: &LoggedCall) -> Obj {
    match call.arguments {
        Arguments::None => Obj::list([]),
        Arguments::Range { offset, length } => Obj::list([offset.into(), length.into()]),
        Arguments::Size(size) => Obj::list([size.into()]),
        Arguments::Level(level) => Obj::text(match level {
            LockLevel::None => "none",
            LockLevel::Shared => "shared",
            LockLevel::Reserved => "reserved",
            LockLevel::Pending => "pending",
            LockLevel::Exclusive => "exclusive",
        }),
        Arguments::Sync(SyncKind::Normal) => Obj::text("normal"),
        Arguments::Sync(SyncKind::Full) => Obj::text("full"),
        Arguments::Open(request) => {
            let access: &[&str] = match request.access {
                Access::ReadOnly => &["READONLY"],
                Access::ReadWrite => &["READWRITE"],
                Access::Create => &["READWRITE", "CREATE"],
            };
            let exclusive = request.exclusive.then_some("EXCLUSIVE");
            let delete = request.delete_on_close.then_some("DELETEONCLOSE");
            let kind = match request.kind {
                OpenKind::Database => "MAIN_DB",
                OpenKind::Journal => "MAIN_JOURNAL",
                OpenKind::SuperJournal => "SUPER_JOURNAL",
                OpenKind::TemporaryDatabase => "TEMP_DB",
                OpenKind::TemporaryJournal => "TEMP_JOURNAL",
                OpenKind::SubJournal => "SUBJOURNAL",
                OpenKind::Plain => "PLAIN",
            };
            let words = access.iter().copied().chain(exclusive).chain(delete).chain([kind]);
            Obj::list(words.map(Obj::text))
        }
    }
}
