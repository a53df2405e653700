//! `Interp`, the token that says: Tcl may be called now.
//!
//! There is one for each entry from Tcl, borrowed from the frame that entered; it is neither
//! copied nor kept. What may change a value or run a script takes it mutably.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::AtomicI32;

use super::result_code::Failure;
use super::sys::{self, TclInterp};
use super::value::{Obj, Value, raised_unless_ok};

/// Makes the thread of an interpreter look into its mailbox, when it handles events.
#[derive(Debug)]
pub(super) struct Bell {
    thread: sys::Opaque,
    number: u64,
}

// SAFETY: the thread is named, not used: Tcl looks the name up in its list of threads, under a
// lock, and takes it from any thread.
unsafe impl Send for Bell {}
// SAFETY: as above.
unsafe impl Sync for Bell {}

/// What lies in Tcl's queue: Tcl's own two fields, then ours. It belongs to Tcl, which frees it.
#[repr(C)]
pub(super) struct Event {
    head: sys::TclEvent,
    /// The number of the mailbox.
    pub(super) number: u64,
}

impl Bell {
    /// Queues the event. Without memory it is left out: the mailbox is looked into with the next
    /// command of the interpreter anyway.
    pub(super) fn ring(&self) {
        if self.thread.is_null() {
            return;
        }
        let head = sys::TclEvent::new(super::boundary::letters_have_come);
        let event = Event { head, number: self.number };
        // SAFETY: the stubs were found before there could be a bell. The memory is large enough,
        // aligned for anything, and handed over to Tcl; a thread that is gone is ignored.
        unsafe {
            let memory = sys::attempt_alloc(size_of::<Event>() as isize).cast::<Event>();
            if !memory.is_null() {
                memory.write(event);
                sys::thread_queue_event(self.thread, memory.cast(), sys::TCL_QUEUE_TAIL);
                sys::thread_alert(self.thread);
            }
        }
    }

    /// One that nobody hears.
    #[cfg(test)]
    pub(super) fn mute() -> Bell {
        Bell { thread: ptr::null_mut(), number: 0 }
    }
}

/// The interpreter that runs the present command.
#[derive(Debug)]
pub(super) struct Interp<'a> {
    raw: *mut TclInterp,
    frame: PhantomData<&'a mut TclInterp>,
}

impl Interp<'_> {
    /// The token for this interpreter.
    ///
    /// # Safety
    /// `raw` is valid as long as the token, we run on its thread, and [`sys::attach`] succeeded.
    pub(super) unsafe fn from_raw(raw: *mut TclInterp) -> Self {
        Interp { raw, frame: PhantomData }
    }

    /// The interpreter as Tcl takes it.
    pub(super) fn raw(&self) -> *mut TclInterp {
        self.raw
    }

    /// Sets the result of the command.
    pub(super) fn set_result(&mut self, value: &Value) {
        // SAFETY: both are valid; Tcl takes a count of its own.
        unsafe { sys::set_result(self.raw, value.raw()) };
    }

    /// The result of the last script.
    pub(super) fn result(&mut self) -> Obj {
        // SAFETY: the interpreter is valid and always has a result.
        unsafe { Obj::from_raw(sys::get_result(self.raw)) }
    }

    /// Sets `errorCode`.
    pub(super) fn set_error_code<'w>(&mut self, words: impl IntoIterator<Item = &'w str>) {
        let code = Obj::list(words.into_iter().map(Obj::text));
        // SAFETY: both are valid; Tcl takes a count of its own.
        unsafe { sys::set_error_code(self.raw, code.raw()) };
    }

    /// Leaves Tcl's message about a wrong number of words, with `name` as it was typed.
    pub(super) fn wrong_argument_count(&mut self, name: &Value, usage: &CStr) {
        let words = [name.raw()];
        // SAFETY: one valid word and a text ended by a zero byte.
        unsafe { sys::wrong_num_args(self.raw, 1, words.as_ptr(), usage.as_ptr()) };
    }

    /// Evaluates `script`, a list of words, and returns its result. The interpreter's result is
    /// empty afterwards. No borrow of an object of ours may be alive.
    ///
    /// # Errors
    /// [`Failure::Raised`].
    pub(super) fn eval(&mut self, script: &Obj) -> Result<Obj, Failure> {
        // SAFETY: both are valid; the script has a count of ours while it runs.
        let status = unsafe { sys::eval(self.raw, script.raw(), 0) };
        raised_unless_ok(status)?;
        let result = self.result();
        self.reset_result();
        Ok(result)
    }

    /// Evaluates a script that was left to be run later, as if at the top level. Otherwise as
    /// [`Interp::eval`].
    ///
    /// # Errors
    /// [`Failure::Raised`].
    pub(super) fn eval_at_top(&mut self, script: &Obj) -> Result<Obj, Failure> {
        // SAFETY: both are valid; the script has a count of ours while it runs.
        let status = unsafe { sys::eval(self.raw, script.raw(), sys::TCL_EVAL_GLOBAL) };
        raised_unless_ok(status)?;
        let result = self.result();
        self.reset_result();
        Ok(result)
    }

    /// Reports that a script which nobody waits for has failed.
    pub(super) fn report_in_background(&mut self) {
        // SAFETY: a valid interpreter, which holds the error.
        unsafe { sys::background_exception(self.raw, sys::TCL_ERROR) };
    }

    /// What makes the thread of this interpreter look into the mailbox `number`.
    pub(super) fn bell(&mut self, number: u64) -> Bell {
        // SAFETY: the stubs were found.
        Bell { thread: unsafe { sys::current_thread() }, number }
    }

    /// Forgets result and error.
    pub(super) fn reset_result(&mut self) {
        // SAFETY: the interpreter is valid.
        unsafe { sys::reset_result(self.raw) };
    }

    /// Whether a command of this name can be seen.
    pub(super) fn has_command(&mut self, name: &Value) -> bool {
        let name = name.c_text(self);
        // SAFETY: a valid interpreter, a text ended by a zero byte; a null namespace is the
        // present one.
        unsafe { !sys::find_command(self.raw, name, ptr::null_mut(), 0).is_null() }
    }

    /// The value of a variable, `None` if there is none.
    pub(super) fn variable(&mut self, name: &Value) -> Option<Obj> {
        let name = name.c_text(self);
        // SAFETY: a valid interpreter and a text ended by a zero byte.
        let value = unsafe { sys::get_var(self.raw, name, ptr::null(), 0) };
        // SAFETY: a value that is not null is valid.
        (!value.is_null()).then(|| unsafe { Obj::from_raw(value) })
    }

    /// Sets a variable, which may run a trace. No borrow of an object of ours may be alive.
    ///
    /// # Errors
    /// [`Failure::Raised`] if there can be no such variable.
    pub(super) fn set_variable(&mut self, name: &Value, value: &Obj) -> Result<(), Failure> {
        let name = name.c_text(self);
        let flags = sys::TCL_LEAVE_ERR_MSG;
        // SAFETY: a valid interpreter, a text ended by a zero byte, a valid value.
        let set = unsafe { sys::set_var(self.raw, name, ptr::null(), value.raw(), flags) };
        if set.is_null() { Err(Failure::Raised) } else { Ok(()) }
    }

    /// Writes to Tcl's standard output and flushes it. An output that is closed or fails is no
    /// failure of the command that prints (C30).
    pub(super) fn print(&mut self, text: &str) {
        // SAFETY: the kind is one that exists.
        let channel = unsafe { sys::get_std_channel(sys::TCL_STDOUT) };
        if channel.is_null() {
            return;
        }
        let text = Obj::text(text);
        let bytes = text.text(self);
        let length = bytes.len().min(i32::MAX as usize) as isize;
        // SAFETY: an open channel and `length` bytes of text.
        unsafe {
            sys::write_chars(channel, bytes.as_ptr().cast(), length);
            sys::flush(channel);
        }
    }

    /// Links a global variable to `target`. A link of the same name is replaced.
    ///
    /// # Errors
    /// [`Failure::Raised`].
    pub(super) fn link(&mut self, name: &CStr, target: &'static AtomicI32) -> Result<(), Failure> {
        // SAFETY: Tcl reads and writes an aligned integer that lives for ever, with plain loads
        // and stores of four bytes on this thread; we derive nothing from it but its value.
        let status = unsafe {
            sys::unlink_var(self.raw, name.as_ptr());
            sys::link_var(self.raw, name.as_ptr(), target.as_ptr().cast(), sys::TCL_LINK_INT)
        };
        raised_unless_ok(status)
    }

    /// Provides a package.
    ///
    /// # Errors
    /// [`Failure::Raised`] if another version is there.
    pub(super) fn provide(&mut self, package: &CStr, version: &CStr) -> Result<(), Failure> {
        // SAFETY: a valid interpreter and texts ended by a zero byte.
        let status =
            unsafe { sys::pkg_provide(self.raw, package.as_ptr(), version.as_ptr(), ptr::null()) };
        raised_unless_ok(status)
    }

    /// Asks for a version of Tcl itself, such as `8.6-`.
    ///
    /// # Errors
    /// [`Failure::Raised`] if this one is too old.
    pub(super) fn require_tcl(&mut self, version: &CStr) -> Result<(), Failure> {
        // SAFETY: as above; the data pointer may be null.
        let found = unsafe {
            sys::pkg_require(self.raw, c"Tcl".as_ptr(), version.as_ptr(), 0, ptr::null_mut())
        };
        if found.is_null() { Err(Failure::Raised) } else { Ok(()) }
    }

    /// Reports a failed command.
    pub(super) fn report(&mut self, failure: Failure) {
        if let Some((text, code)) = failure.report() {
            self.set_result(&Obj::text(&text));
            self.set_error_code(code.iter().map(String::as_str));
        }
    }
}
