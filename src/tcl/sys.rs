//! The raw C API of Tcl, and nothing else: the slots of its stub table that we use.
//!
//! No Tcl library is linked and no header is read. An interpreter structure holds, in its fourth
//! field, a pointer to a table of function pointers; that position and the number of each slot
//! are promised by Tcl for good. The table begins with a magic number and a hooks pointer, so
//! slot n lies at word `2 + n`.
//!
//! One binary serves Tcl 8.6 and 9.0. Where the two differ in the type of a length, 9.0 has the
//! wider function in a slot of its own ([`is_nine`] tells which to call) or changed the type of a
//! length passed by value in place (both signatures are then declared for one slot).
//!
//! With the cargo feature `bindgen` every slot is compared, at compile time, with the header of
//! the installed Tcl.

use std::ffi::{c_char, c_double, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// `Tcl_Interp`; only the fields up to the stub table are known to us.
#[repr(C)]
pub(super) struct TclInterp {
    _result: *mut c_char,
    _free: *mut c_void,
    _line: c_int,
    stubs: *const StubHead,
}

/// The start of the stub table.
#[repr(C)]
struct StubHead {
    magic: u32,
    _hooks: *const c_void,
}

/// `Tcl_Obj`, up to the last field at which 8.6 and 9.0 agree. The reference count is a 32-bit
/// integer in the one and pointer-sized in the other, so it is changed through slots 19 and 20.
#[repr(C)]
pub(super) struct TclObj {
    _count: isize,
    /// The string form, null while the value has none.
    pub(super) text: *const c_char,
}

/// A `Tcl_Channel`, a `Tcl_Command` and the like: never looked into.
pub(super) type Opaque = *mut c_void;
/// Type of a command procedure; the same in both versions.
pub(super) type CommandProc =
    unsafe extern "C" fn(Opaque, *mut TclInterp, c_int, *const *mut TclObj) -> c_int;
/// Type of an exit handler and of a command's delete procedure.
pub(super) type Callback = unsafe extern "C" fn(Opaque);
/// Type of the delete procedure of an interpreter's associated data.
pub(super) type InterpCallback = unsafe extern "C" fn(Opaque, *mut TclInterp);

/// Type of the procedure of an event: 1 if it is done with.
pub(super) type EventProc = unsafe extern "C" fn(*mut TclEvent, c_int) -> c_int;

/// `Tcl_Event`, the head of what lies in a queue of events.
#[repr(C)]
pub(super) struct TclEvent {
    procedure: EventProc,
    _next: *mut TclEvent,
}

impl TclEvent {
    /// The head of an event that this procedure handles.
    pub(super) fn new(procedure: EventProc) -> TclEvent {
        TclEvent { procedure, _next: std::ptr::null_mut() }
    }
}

/// Success of a Tcl call or command.
pub(super) const TCL_OK: c_int = 0;
/// Failure; the message is the interpreter's result.
pub(super) const TCL_ERROR: c_int = 1;
/// Flag of variable access: leave a message on failure.
pub(super) const TCL_LEAVE_ERR_MSG: c_int = 0x200;
/// Type of a linked variable: a C `int`.
pub(super) const TCL_LINK_INT: c_int = 1;
/// Flag of evaluation: at the top level.
pub(super) const TCL_EVAL_GLOBAL: c_int = 0x2_0000;
/// Place of an event: behind all others.
pub(super) const TCL_QUEUE_TAIL: c_int = 0;
/// Standard output.
pub(super) const TCL_STDOUT: c_int = 1 << 2;

const MAGIC_8: u32 = 0xFCA3_BACF;
const MAGIC_9: u32 = 0xFCA3_BACB + size_of::<usize>() as u32;

/// The stub table. All interpreters and threads of a process share one, so they store one value.
static STUBS: AtomicPtr<usize> = AtomicPtr::new(std::ptr::null_mut());
static NINE: AtomicBool = AtomicBool::new(false);

/// Why no stub table was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoStubs;

/// Finds the stub table of `interp`; the other functions of this module work from then on.
///
/// # Safety
/// `interp` is a valid interpreter.
pub(super) unsafe fn attach(interp: *mut TclInterp) -> Result<(), NoStubs> {
    // SAFETY: every Tcl since 8.1 has the pointer to its stubs at this position.
    let head = unsafe { (*interp).stubs };
    if head.is_null() {
        return Err(NoStubs);
    }
    // SAFETY: a stub table of any version starts with its magic number.
    let magic = unsafe { (*head).magic };
    if magic != MAGIC_8 && magic != MAGIC_9 {
        return Err(NoStubs);
    }
    STUBS.store(head.cast_mut().cast(), Ordering::Relaxed);
    let (mut major, mut minor, mut patch, mut kind) = (0, 0, 0, 0);
    // SAFETY: slot 279 has this signature in every version; the pointers are to live integers.
    unsafe { get_version(&mut major, &mut minor, &mut patch, &mut kind) };
    NINE.store(major >= 9, Ordering::Relaxed);
    Ok(())
}

/// Whether the running Tcl is 9.0 or later: lengths are pointer-sized.
#[inline]
pub(super) fn is_nine() -> bool {
    NINE.load(Ordering::Relaxed)
}

/// The function in slot `number`.
///
/// # Safety
/// [`attach`] succeeded, and `F` is the type of the function pointer in that slot of the running
/// version.
#[inline]
unsafe fn slot<F: Copy>(number: usize) -> F {
    const { assert!(size_of::<F>() == size_of::<usize>()) };
    let table = STUBS.load(Ordering::Relaxed);
    // SAFETY: the table is longer than the highest slot we name, lives as long as the process,
    // and by the caller's promise holds an F there.
    unsafe { table.add(2 + number).cast::<F>().read() }
}

/// Compares a slot and the sizes of its arguments with the installed header, if that is one of the
/// version named.
#[cfg(feature = "bindgen")]
macro_rules! header_check {
    (eight, $($rest:tt)*) => { #[cfg(tcl_header = "8")] header_check!(both, $($rest)*); };
    (nine, $($rest:tt)*) => { #[cfg(tcl_header = "9")] header_check!(both, $($rest)*); };
    (both, $slot:literal, $field:ident, $ours:ty) => {
        const _: () = assert!(
            std::mem::offset_of!(header::TclStubs, $field) == (2 + $slot) * size_of::<usize>()
                && header::same_sizes::<$ours, _>(|stubs| &stubs.$field),
            stringify!($field)
        );
    };
}

/// Declares one function per slot. `in both`, `in eight` and `in nine` name the versions that have
/// the slot with this signature, and so the headers it is compared with.
macro_rules! slots {
    (in $version:ident; $($(#[$doc:meta])* $name:ident = $slot:literal $field:ident
        ($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// [`attach`] succeeded; the arguments are what Tcl's manual asks for.
            #[inline]
            pub(super) unsafe fn $name($($arg: $type),*) $(-> $result)? {
                type Function = unsafe extern "C" fn($($type),*) $(-> $result)?;
                // SAFETY: the slot has this signature in the versions it is called for.
                let function: Function = unsafe { slot($slot) };
                // SAFETY: by the caller's promise.
                unsafe { function($($arg),*) }
            }

            #[cfg(feature = "bindgen")]
            header_check!($version, $slot, $field,
                unsafe extern "C" fn($($type),*) $(-> $result)?);
        )*
    };
}

slots! {
    in both;
    /// Provides a package.
    pkg_provide = 0 tcl_PkgProvideEx(interp: *mut TclInterp, name: *const c_char,
        version: *const c_char, data: *const c_void) -> c_int;
    /// Requires a package; null with a message if that fails.
    pkg_require = 1 tcl_PkgRequireEx(interp: *mut TclInterp, name: *const c_char,
        version: *const c_char, exact: c_int, data: *mut c_void) -> *const c_char;
    /// Takes one reference away.
    decr_ref_count = 19 tcl_DbDecrRefCount(obj: *mut TclObj, file: *const c_char, line: c_int);
    /// Adds one reference.
    incr_ref_count = 20 tcl_DbIncrRefCount(obj: *mut TclObj, file: *const c_char, line: c_int);
    /// Reads a boolean.
    get_boolean = 32 tcl_GetBooleanFromObj(interp: *mut TclInterp, obj: *mut TclObj,
        out: *mut c_int) -> c_int;
    /// Reads a floating-point number.
    get_double = 35 tcl_GetDoubleFromObj(interp: *mut TclInterp, obj: *mut TclObj,
        out: *mut c_double) -> c_int;
    /// Appends to an unshared list.
    list_append = 44 tcl_ListObjAppendElement(interp: *mut TclInterp, list: *mut TclObj,
        element: *mut TclObj) -> c_int;
    /// A floating-point value.
    new_double = 51 tcl_NewDoubleObj(value: c_double) -> *mut TclObj;
    /// Registers a handler for the end of the process.
    create_exit_handler = 93 tcl_CreateExitHandler(handler: Callback, data: Opaque);
    /// Makes a command.
    create_command = 96 tcl_CreateObjCommand(interp: *mut TclInterp, name: *const c_char,
        run: CommandProc, data: Opaque, delete: Option<Callback>) -> Opaque;
    /// Flushes a channel.
    flush = 146 tcl_Flush(channel: Opaque) -> c_int;
    /// Data that an extension has hung on an interpreter.
    get_assoc_data = 150 tcl_GetAssocData(interp: *mut TclInterp, name: *const c_char,
        delete: *mut Option<InterpCallback>) -> Opaque;
    /// The interpreter's result.
    get_result = 166 tcl_GetObjResult(interp: *mut TclInterp) -> *mut TclObj;
    /// A standard channel, null if it is closed.
    get_std_channel = 173 tcl_GetStdChannel(kind: c_int) -> Opaque;
    /// Links a variable.
    link_var = 187 tcl_LinkVar(interp: *mut TclInterp, name: *const c_char,
        address: *mut c_char, kind: c_int) -> c_int;
    /// Empties the interpreter's result.
    reset_result = 217 tcl_ResetResult(interp: *mut TclInterp);
    /// Hangs data on an interpreter.
    set_assoc_data = 223 tcl_SetAssocData(interp: *mut TclInterp, name: *const c_char,
        delete: Option<InterpCallback>, data: Opaque);
    /// Sets `errorCode`.
    set_error_code = 234 tcl_SetObjErrorCode(interp: *mut TclInterp, code: *mut TclObj);
    /// Sets the interpreter's result.
    set_result = 235 tcl_SetObjResult(interp: *mut TclInterp, result: *mut TclObj);
    /// Unlinks a variable.
    unlink_var = 251 tcl_UnlinkVar(interp: *mut TclInterp, name: *const c_char);
    /// The version of the running Tcl.
    get_version = 279 tcl_GetVersion(major: *mut c_int, minor: *mut c_int, patch: *mut c_int,
        kind: *mut c_int);
    /// Evaluates a script.
    eval = 293 tcl_EvalObjEx(interp: *mut TclInterp, script: *mut TclObj, flags: c_int)
        -> c_int;
    /// Keeps an object of Tcl's from being freed.
    preserve = 201 tcl_Preserve(object: Opaque);
    /// Ends that.
    release = 216 tcl_Release(object: Opaque);
    /// The calling thread.
    current_thread = 300 tcl_GetCurrentThread() -> Opaque;
    /// Wakes a thread that waits for events.
    thread_alert = 318 tcl_ThreadAlert(thread: Opaque);
    /// Queues an event for a thread; memory of Tcl's that Tcl frees.
    thread_queue_event = 319 tcl_ThreadQueueEvent(thread: Opaque, event: *mut TclEvent,
        position: c_int);
    /// Reports an error where no command can return it.
    background_exception = 609 tcl_BackgroundException(interp: *mut TclInterp, code: c_int);
    /// Reads a variable, null if there is none.
    get_var = 306 tcl_GetVar2Ex(interp: *mut TclInterp, name: *const c_char,
        index: *const c_char, flags: c_int) -> *mut TclObj;
    /// Sets a variable, null if that fails.
    set_var = 317 tcl_SetVar2Ex(interp: *mut TclInterp, name: *const c_char,
        index: *const c_char, value: *mut TclObj, flags: c_int) -> *mut TclObj;
    /// The string form, ended by a zero byte.
    get_string = 340 tcl_GetString(obj: *mut TclObj) -> *const c_char;
    /// The name of a file as the system takes it, ended by a zero byte; belongs to the value.
    get_native_path = 469 tcl_FSGetNativePath(path: *mut TclObj) -> *const c_char;
    /// Reads a 64-bit integer; 8.6 wraps 2^63 to 2^64 − 1, 9.0 refuses them.
    get_wide = 487 tcl_GetWideIntFromObj(interp: *mut TclInterp, obj: *mut TclObj,
        out: *mut i64) -> c_int;
    /// A 64-bit integer.
    new_wide = 488 tcl_NewWideIntObj(value: i64) -> *mut TclObj;
    /// The command of this name, null if there is none.
    find_command = 515 tcl_FindCommand(interp: *mut TclInterp, name: *const c_char,
        namespace: Opaque, flags: c_int) -> Opaque;
}

slots! {
    in eight;
    /// 8.6: the bytes of a value; characters above U+00FF are cut.
    get_byte_array_8 = 33 tcl_GetByteArrayFromObj(obj: *mut TclObj, length: *mut c_int)
        -> *const u8;
    /// 8.6: the string form and its length.
    get_string_8 = 41 tcl_GetStringFromObj(obj: *mut TclObj, length: *mut c_int)
        -> *const c_char;
    /// 8.6: the elements of a list.
    list_elements_8 = 45 tcl_ListObjGetElements(interp: *mut TclInterp, list: *mut TclObj,
        count: *mut c_int, elements: *mut *const *mut TclObj) -> c_int;
}

slots! {
    in nine;
    /// 9.0: the bytes of a value, null if it has characters above U+00FF.
    get_bytes_9 = 650 tcl_GetBytesFromObj(interp: *mut TclInterp, obj: *mut TclObj,
        length: *mut isize) -> *const u8;
    /// 9.0: the string form and its length.
    get_string_9 = 651 tcl_GetStringFromObj(obj: *mut TclObj, length: *mut isize)
        -> *const c_char;
    /// 9.0: the elements of a list.
    list_elements_9 = 661 tcl_ListObjGetElements(interp: *mut TclInterp, list: *mut TclObj,
        count: *mut isize, elements: *mut *const *mut TclObj) -> c_int;
    /// 9.0: reads an unsigned 64-bit integer.
    get_wide_unsigned_9 = 684 tcl_GetWideUIntFromObj(interp: *mut TclInterp, obj: *mut TclObj,
        out: *mut u64) -> c_int;
}

/// Declares functions whose lengths are passed by value: `c_int` in 8.6, pointer-sized in 9.0.
macro_rules! sized_slots {
    ($($(#[$doc:meta])* $name:ident = $slot:literal $field:ident
        ($($before:ident: $before_type:ty,)* ; $length:ident
            $(; $($after:ident: $after_type:ty),*)?) $(-> $result:ty)?;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// [`attach`] succeeded; the length is at most `i32::MAX` on 8.6; the arguments are
            /// what Tcl's manual asks for.
            #[inline]
            pub(super) unsafe fn $name(
                $($before: $before_type,)* $length: isize $($(, $after: $after_type)*)?
            ) $(-> $result)? {
                if is_nine() {
                    type Nine = unsafe extern "C" fn(
                        $($before_type,)* isize $($(, $after_type)*)?) $(-> $result)?;
                    // SAFETY: the signature of 9.0.
                    let function: Nine = unsafe { slot($slot) };
                    // SAFETY: by the caller's promise.
                    unsafe { function($($before,)* $length $($(, $after)*)?) }
                } else {
                    type Eight = unsafe extern "C" fn(
                        $($before_type,)* c_int $($(, $after_type)*)?) $(-> $result)?;
                    // SAFETY: the signature of 8.6.
                    let function: Eight = unsafe { slot($slot) };
                    // SAFETY: by the caller's promise.
                    unsafe { function($($before,)* $length as c_int $($(, $after)*)?) }
                }
            }

            #[cfg(feature = "bindgen")]
            header_check!(eight, $slot, $field, unsafe extern "C" fn(
                $($before_type,)* c_int $($(, $after_type)*)?) $(-> $result)?);
            #[cfg(feature = "bindgen")]
            header_check!(nine, $slot, $field, unsafe extern "C" fn(
                $($before_type,)* isize $($(, $after_type)*)?) $(-> $result)?);
        )*
    };
}

sized_slots! {
    /// Memory of Tcl's, null if there is none.
    attempt_alloc = 428 tcl_AttemptAlloc(; size) -> *mut c_char;
    /// A value of these bytes.
    new_byte_array = 50 tcl_NewByteArrayObj(bytes: *const u8, ; length) -> *mut TclObj;
    /// A list.
    new_list = 53 tcl_NewListObj(; count; elements: *const *mut TclObj) -> *mut TclObj;
    /// A value with this string form.
    new_string = 56 tcl_NewStringObj(text: *const c_char, ; length) -> *mut TclObj;
    /// Leaves the message about a wrong number of arguments.
    wrong_num_args = 264 tcl_WrongNumArgs(interp: *mut TclInterp, ; count;
        words: *const *mut TclObj, usage: *const c_char);
    /// Writes to a channel.
    write_chars = 338 tcl_WriteChars(channel: Opaque, text: *const c_char, ; length);
}

/// `atexit` of the C library: a handler for hosts that end without Tcl's exit.
///
/// # Safety
/// `handler` stays in memory; the library is linked so that it is never unloaded.
pub(super) unsafe fn at_exit(handler: extern "C" fn()) {
    unsafe extern "C" {
        fn atexit(handler: extern "C" fn()) -> c_int;
    }
    // SAFETY: by the caller's promise. A full table leaves us without the handler, no worse than
    // a host that ends by a signal.
    unsafe { atexit(handler) };
}

/// What the installed `tcl.h` says; see `build.rs`.
#[cfg(feature = "bindgen")]
mod header {
    #![allow(non_camel_case_types, non_snake_case, non_upper_case_globals, unsafe_code)]
    #![allow(
        missing_docs,
        unreachable_pub,
        dead_code,
        clippy::all,
        clippy::undocumented_unsafe_blocks
    )]

    include!(concat!(env!("OUT_DIR"), "/tcl_stubs.rs"));

    /// A function type: the sizes of its result and arguments, in bytes.
    pub(super) trait Signature {
        const SIZES: &[usize];
    }

    macro_rules! signature {
        ($($argument:ident)*) => {
            impl<R, $($argument),*> Signature for unsafe extern "C" fn($($argument),*) -> R {
                const SIZES: &[usize] = &[size_of::<R>(), $(size_of::<$argument>()),*];
            }
        };
    }
    signature!();
    signature!(A);
    signature!(A B);
    signature!(A B C);
    signature!(A B C D);
    signature!(A B C D E);

    /// Whether our type of a function has the shape of the one in a field of the stub table. Where
    /// we declare no result, none is looked at.
    pub(super) const fn same_sizes<Ours: Signature, Theirs: Signature>(
        _: fn(&TclStubs) -> &Option<Theirs>,
    ) -> bool {
        let (ours, theirs) = (Ours::SIZES, Theirs::SIZES);
        let mut index = if ours[0] == 0 { 1 } else { 0 };
        while index < ours.len() && index < theirs.len() && ours[index] == theirs[index] {
            index += 1;
        }
        index == ours.len() && index == theirs.len()
    }

    const _: () = {
        assert!(std::mem::offset_of!(Tcl_Obj, bytes) == std::mem::offset_of!(super::TclObj, text));
        assert!(size_of::<Tcl_WideInt>() == 8);
        assert!(super::TCL_OK as u32 == TCL_OK && super::TCL_ERROR as u32 == TCL_ERROR);
        assert!(super::TCL_LEAVE_ERR_MSG as u32 == TCL_LEAVE_ERR_MSG);
        assert!(super::TCL_LINK_INT as u32 == TCL_LINK_INT);
        assert!(super::TCL_EVAL_GLOBAL as u32 == TCL_EVAL_GLOBAL);
        assert!(size_of::<Tcl_Event>() == size_of::<super::TclEvent>());
    };
}
