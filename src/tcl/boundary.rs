//! Where Tcl enters: every `extern "C"` function of the extension. Panics stop here.
//!
//! A panic is a defect of ours. It becomes an error of the command, and the object that was in
//! use is broken from then on (see `handle`); the host goes on living.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use super::command::{Call, Command, Outcome, Reply};
use super::commands;
use super::handle::{OpenBackup, Session};
use super::interp::{Event, Interp};
use super::result_code::Failure;
use super::sys::{self, TclInterp, TclObj};
use super::value::{Obj, Value};

const PACKAGE: &CStr = c"tclbtree";
const VERSION: &CStr = c"1.0";
/// The name under which the session hangs on its interpreter.
const SESSION: &CStr = c"tclbtree";

thread_local! {
    /// The interpreters of this thread that have a session, by the number of its mailbox.
    static INTERPRETERS: RefCell<Vec<(u64, *mut TclInterp)>> = const { RefCell::new(Vec::new()) };
}

/// What Tcl keeps for each command of ours. It dies with the command, and the session with the
/// last of its commands and the interpreter's own reference.
struct Binding {
    command: &'static Command,
    session: Rc<Session>,
}

/// Entry of the package: `load libtclbtree.so`.
///
/// There is no entry for safe interpreters, which must not open files, and none for unloading:
/// callbacks into the library may stay registered until the process ends.
///
/// # Safety
/// Called by Tcl with a valid interpreter, on the interpreter's thread.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn Tclbtree_Init(interp: *mut TclInterp) -> c_int {
    // SAFETY: Tcl calls with a valid interpreter.
    if interp.is_null() || unsafe { sys::attach(interp) }.is_err() {
        // Without stubs there is no way to leave a message.
        return sys::TCL_ERROR;
    }
    // SAFETY: valid for this call, on its thread, and the stubs were found.
    let mut token = unsafe { Interp::from_raw(interp) };
    let outcome = caught(|| initialize(&mut token)).and_then(|outcome| outcome);
    finish(&mut token, &mut outcome.map(Reply::from))
}

fn initialize(interp: &mut Interp<'_>) -> Result<(), Failure> {
    interp.require_tcl(c"8.6-")?;
    let session = session_of(interp);
    for (name, target) in commands::linked_variables() {
        interp.link(name, target)?;
    }
    for command in commands::all() {
        let binding = Box::new(Binding { command, session: Rc::clone(&session) });
        let data = Box::into_raw(binding).cast();
        // SAFETY: a valid interpreter; `data` is what `run` and `forget` expect, and Tcl passes
        // it to `forget` exactly once.
        unsafe {
            let (name, delete) = (command.name.as_ptr(), Some(forget_command as sys::Callback));
            sys::create_command(interp.raw(), name, run_command, data, delete);
        }
    }
    register_exit_handlers();
    interp.provide(PACKAGE, VERSION)
}

/// The session of the interpreter, made if there is none.
fn session_of(interp: &mut Interp<'_>) -> Rc<Session> {
    let mut delete = None;
    // SAFETY: a valid interpreter; the pointer is to a live option.
    let data = unsafe { sys::get_assoc_data(interp.raw(), SESSION.as_ptr(), &mut delete) };
    let is_ours = delete
        .is_some_and(|found| std::ptr::fn_addr_eq(found, forget_session as sys::InterpCallback));
    if !data.is_null() && is_ours {
        let known = data.cast::<Session>().cast_const();
        // SAFETY: stored below by `Rc::into_raw`; the interpreter keeps its own reference.
        return unsafe {
            Rc::increment_strong_count(known);
            Rc::from_raw(known)
        };
    }
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    INTERPRETERS.with_borrow_mut(|known| known.push((number, interp.raw())));
    let session = Session::new(commands::memory_disk(), interp.bell(number));
    let data = Rc::into_raw(Rc::clone(&session)).cast_mut().cast();
    let delete = Some(forget_session as sys::InterpCallback);
    // SAFETY: a valid interpreter; `forget_session` takes the reference back exactly once.
    unsafe { sys::set_assoc_data(interp.raw(), SESSION.as_ptr(), delete, data) };
    session
}

/// Every command of ours.
unsafe extern "C" fn run_command(
    data: *mut c_void,
    interp: *mut TclInterp,
    count: c_int,
    words: *const *mut TclObj,
) -> c_int {
    // SAFETY: `data` is the binding of this command; it cannot die before the next call into Tcl,
    // and what is needed of it later is copied here.
    let binding = unsafe { &*data.cast::<Binding>() };
    let (command, session) = (binding.command, Rc::clone(&binding.session));
    // SAFETY: Tcl passes a valid interpreter and keeps it and the words alive during the call.
    let (token, words) = unsafe { (Interp::from_raw(interp), Value::slice(words, count)) };
    let mut call = Call::new(token, &session, words);
    guarded(&mut call, |call| {
        let mut outcome = command.call(call);
        command.review(call, &mut outcome);
        // If the result of the command is in place already, the event that is on its way will do.
        if session.mailbox().has_letters() && !matches!(outcome, Err(Failure::Raised)) {
            run_letters(&mut call.interp, &session);
        }
        finish(&mut call.interp, &mut outcome)
    })
}

/// Something has come to the mailbox of an interpreter of this thread; an event.
pub(super) unsafe extern "C" fn letters_have_come(event: *mut sys::TclEvent, _: c_int) -> c_int {
    // SAFETY: the procedure of events that are made by `Bell::ring`, and of no others.
    let number = unsafe { (*event.cast::<Event>()).number };
    swallowing(|| {
        let found = |known: &mut Vec<(u64, *mut TclInterp)>| {
            known.iter().find(|(other, _)| *other == number).map(|&(_, interp)| interp)
        };
        let Some(raw) = INTERPRETERS.with_borrow_mut(found) else { return };
        // SAFETY: it has not been deleted, since `forget_session` has not been called; what is
        // preserved stays valid until it is released. Its thread is this one.
        unsafe {
            sys::preserve(raw.cast());
            let mut interp = Interp::from_raw(raw);
            let session = session_of(&mut interp);
            run_letters(&mut interp, &session);
            sys::release(raw.cast());
        }
    });
    1
}

/// Runs the scripts that are due in the interpreter.
#[cold]
fn run_letters(interp: &mut Interp<'_>, session: &Session) {
    for script in session.mailbox().take() {
        if interp.eval_at_top(&Obj::text(&script)).is_err() {
            interp.report_in_background();
        }
        interp.reset_result();
    }
}

/// What Tcl keeps for the command of a backup.
struct BackupBinding {
    session: Rc<Session>,
    backup: Rc<OpenBackup>,
}

/// Makes the command of a backup, in place of any other of that name. The backup ends with it.
pub(super) fn make_backup_command(interp: &mut Interp<'_>, name: &Value, backup: Rc<OpenBackup>) {
    let binding = Box::new(BackupBinding { session: session_of(interp), backup });
    let data = Box::into_raw(binding).cast();
    let name = name.c_text(interp);
    // SAFETY: a valid interpreter and a text ended by a zero byte; `data` is what `run_backup` and
    // `forget_backup` expect, and Tcl passes it to `forget_backup` exactly once.
    unsafe {
        let delete = Some(forget_backup as sys::Callback);
        sys::create_command(interp.raw(), name, run_backup, data, delete);
    }
}

/// The commands of backups.
unsafe extern "C" fn run_backup(
    data: *mut c_void,
    interp: *mut TclInterp,
    count: c_int,
    words: *const *mut TclObj,
) -> c_int {
    // SAFETY: as in `run_command`.
    let binding = unsafe { &*data.cast::<BackupBinding>() };
    let (session, backup) = (Rc::clone(&binding.session), Rc::clone(&binding.backup));
    // SAFETY: as in `run_command`.
    let (token, words) = unsafe { (Interp::from_raw(interp), Value::slice(words, count)) };
    let mut call = Call::new(token, &session, words);
    call.backup = Some(backup);
    guarded(&mut call, |call| {
        let mut outcome = commands::BACKUP.call(call);
        commands::BACKUP.review(call, &mut outcome);
        finish(&mut call.interp, &mut outcome)
    })
}

/// The command of a backup was deleted.
unsafe extern "C" fn forget_backup(data: *mut c_void) {
    // SAFETY: made by `Box::into_raw` for this command; Tcl calls once.
    let binding = unsafe { Box::from_raw(data.cast::<BackupBinding>()) };
    swallowing(|| {
        // Nobody is left to be told.
        let _ = binding.backup.finish(&binding.session);
    });
    swallowing(|| drop(binding));
}

/// A command was deleted.
unsafe extern "C" fn forget_command(data: *mut c_void) {
    // SAFETY: made by `Box::into_raw` for this command; Tcl calls once.
    let binding = unsafe { Box::from_raw(data.cast::<Binding>()) };
    swallowing(|| drop(binding));
}

/// The interpreter is being deleted: all its databases are closed (C3).
unsafe extern "C" fn forget_session(data: *mut c_void, interp: *mut TclInterp) {
    let _ = INTERPRETERS.try_with(|known| known.borrow_mut().retain(|(_, raw)| *raw != interp));
    // SAFETY: made by `Rc::into_raw` for this interpreter; Tcl calls once.
    let session = unsafe { Rc::from_raw(data.cast::<Session>().cast_const()) };
    swallowing(|| session.close_all());
    swallowing(|| drop(session));
}

/// The end of the process, told by Tcl.
unsafe extern "C" fn exit_of_tcl(_data: *mut c_void) {
    end_process();
}

/// The end of the process, told by the C library.
extern "C" fn exit_of_process() {
    end_process();
}

/// Closes what the calling thread has open, then works off what is queued.
fn end_process() {
    swallowing(Session::close_all_of_thread);
    swallowing(commands::exit);
}

/// Registers for the end of the process, with Tcl and with the C library, because hosts end both
/// ways. Whoever comes first does the work. Interpreters are not deleted at exit.
fn register_exit_handlers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: both handlers stay in memory, since the library is never unloaded.
        unsafe {
            sys::create_exit_handler(exit_of_tcl, std::ptr::null_mut());
            sys::at_exit(exit_of_process);
        }
    });
}

/// Leaves the outcome in the interpreter. Takes it where it stands: to move it takes as long as
/// many a command.
#[inline]
fn finish(interp: &mut Interp<'_>, outcome: &mut Outcome) -> c_int {
    match outcome {
        Ok(Reply(None)) => sys::TCL_OK,
        Ok(Reply(Some(value))) => {
            interp.set_result(value);
            sys::TCL_OK
        }
        Err(failure) => {
            interp.report(std::mem::replace(failure, Failure::Raised));
            sys::TCL_ERROR
        }
    }
}

/// Runs `body`, which leaves the outcome of the call in the interpreter; a panic in it becomes a
/// failure. Only a number comes out of it: handing an outcome on takes longer than many a command.
#[inline]
fn guarded<'a>(call: &mut Call<'a>, body: impl FnOnce(&mut Call<'a>) -> c_int) -> c_int {
    match caught(|| body(call)) {
        Ok(code) => code,
        Err(failure) => finish(&mut call.interp, &mut Err(failure)),
    }
}

/// Runs `body`; a panic in it becomes a failure.
#[inline]
fn caught<T>(body: impl FnOnce() -> T) -> Result<T, Failure> {
    let panicked = |payload| Failure::panicked(&message_of(payload));
    catch_unwind(AssertUnwindSafe(body)).map_err(panicked)
}

/// Runs `body` where nobody can be told of a panic but standard error, which has been.
fn swallowing(body: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(body)) {
        // A payload whose own drop panics must not reach C either.
        std::mem::forget(payload);
    }
}

fn message_of(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    std::mem::forget(payload);
    text.unwrap_or_else(|| "panic".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_failure() {
        for body in [|| panic!("boom"), || panic!("{}", "boom")] as [fn(); 2] {
            let (text, code) = caught(body).unwrap_err().report().unwrap();
            assert_eq!(text, "SQLITE_INTERNAL");
            assert_eq!(code[3], "internal error: boom");
        }
        swallowing(|| panic!("boom"));
    }
}
