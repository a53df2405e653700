//! The Tcl extension: the commands, and how they get at the engine.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `sys` | the raw C API: slots of Tcl's stub table |
//! | `value` | `Value` and `Obj`: what a command takes and gives |
//! | `interp` | `Interp`, the token that says: Tcl may be called now |
//! | `command` | `Command`, an entry of the table, and `Call`, one call of it |
//! | `boundary` | every `extern "C"` function; panics stop there |
//! | `handle` | handles and what they stand for, by interpreter |
//! | `mailbox` | scripts that are due, left by whoever knows it |
//! | `result_code` | errors as a script sees them |
//! | `commands` | the commands, one file for each subject |
//!
//! `unsafe` is allowed in the first three and in `boundary`, and nowhere else in this layer.

#[allow(unsafe_code)]
mod boundary;
mod command;
mod commands;
mod handle;
#[allow(unsafe_code)]
mod interp;
mod mailbox;
mod result_code;
#[allow(unsafe_code)]
mod sys;
#[allow(unsafe_code)]
mod value;
