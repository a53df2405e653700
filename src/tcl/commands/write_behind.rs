//! `sqlite3async_*`: the write-behind layer, which this process has one of.
//!
//! Both families of commands of the original, that of 2006 and that of 2009, drive it; the
//! commands that are ours are in `ours`.
//!
//! ```text
//!   absent ──initialize "" 0──► by name ──enable 1──► default
//!     │  ▲                         │                     │ ▲
//!     │  └── enable 0, shutdown ───┴─────────────────────┘ │
//!     └────────── enable 1, initialize "" 1 ───────────────┘
//! ```
//!
//! The state says where later opens lead. What is open stays where it was opened, and the queue
//! outlives every change (A211, C21).

use std::ffi::CStr;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};

use super::super::command::{ANY, Call, Command, Outcome};
use super::super::result_code::Failure;
use super::simulate;
use crate::error::Error;
use crate::os::write_behind::{Halt, WriteBehind, WriteBehindVfs};
use crate::os::{PerProcess, Vfs};

mod ours;

pub(super) use ours::commit_durability;

/// Name of the layer for `-vfs`.
pub(super) const NAME: &str = "sqlite3async";

/// The commands of the original, and ours.
pub(super) const TABLES: [(&str, &[Command]); 3] = [
    ("Writing behind", OF_2006),
    ("Writing behind, as SQLite had it from 2009 on", OF_2009),
    ("Writing behind, beyond SQLite", ours::COMMANDS),
];

const OF_2006: &[Command] = &[
    Command::new(
        c"sqlite3async_enable",
        0..=1,
        c"?YES/NO?",
        "whether later opens are asynchronous, or makes them so",
        enable,
    ),
    Command::new(
        c"sqlite3async_halt",
        1..=1,
        c"\"now\"|\"idle\"|\"never\"",
        "sets when the writer ends",
        halt,
    ),
    Command::new(
        c"sqlite3async_delay",
        0..=1,
        c"?MS?",
        "pause of the writer after each operation, in milliseconds",
        delay,
    ),
    Command::new(c"sqlite3async_start", 0..=0, c"", "starts the writer", start),
    Command::new(c"sqlite3async_wait", 0..=0, c"", "waits until no writer runs", wait),
];

const OF_2009: &[Command] = &[
    Command::new(
        c"sqlite3async_initialize",
        2..=2,
        c"PARENT-VFS ISDEFAULT",
        "makes the file system sqlite3async, or with ISDEFAULT the one that is used unasked",
        initialize,
    ),
    Command::new(
        c"sqlite3async_shutdown",
        0..=ANY,
        c"",
        "removes the file system sqlite3async",
        shutdown,
    ),
    Command::new(
        c"sqlite3async_control",
        1..=2,
        c"OPTION ?VALUE?",
        "value of halt, delay or lockfiles, set before if one is given",
        control_option,
    ),
];

/// Nobody may open through the layer.
const ABSENT: u8 = 0;
/// Who names it opens through it.
const BY_NAME: u8 = 1;
/// So does who names nothing.
const DEFAULT: u8 = 2;

/// Not 0: a line per event on standard error.
static TRACE: AtomicI32 = AtomicI32::new(0);

/// The layer of a process. A forked child has nothing of its parent's: it begins with an empty
/// queue of its own, not in use.
#[derive(Debug)]
struct Layer {
    place: AtomicU8,
    control: WriteBehind,
    disk: Arc<dyn Vfs>,
    has_exited: AtomicBool,
}

static LAYER: PerProcess<Layer> = PerProcess::new();

impl Default for Layer {
    fn default() -> Layer {
        let control = WriteBehind::new();
        control.set_trace_switch(&TRACE);
        control.set_trace(Some(Arc::new(|line| {
            let thread = format!("{:?}", std::thread::current().id());
            let number: String = thread.chars().filter(char::is_ascii_digit).collect();
            // One call for the line, so that lines of two threads do not mix. A standard error
            // that is closed is no failure of the operation.
            let _ = std::io::stderr().write_all(format!("[{number}] {line}\n").as_bytes());
        })));
        let disk = Arc::new(WriteBehindVfs::new(simulate::disk(), &control));
        Layer { place: AtomicU8::new(ABSENT), control, disk, has_exited: AtomicBool::new(false) }
    }
}

/// The linked variable of the layer.
pub(super) fn variable() -> (&'static CStr, &'static AtomicI32) {
    (c"sqlite3async_trace", &TRACE)
}

/// The layer's queue and settings.
fn control() -> &'static WriteBehind {
    &LAYER.get().control
}

/// Where the layer is.
fn place() -> u8 {
    LAYER.get().place.load(Ordering::Relaxed)
}

/// Whether opens that name no file system are asynchronous.
pub(super) fn is_default() -> bool {
    place() == DEFAULT
}

/// The file system `sqlite3async`, `None` while there is none.
pub(super) fn disk() -> Option<Arc<dyn Vfs>> {
    (place() != ABSENT).then(|| Arc::clone(&LAYER.get().disk))
}

/// The file system for opens that name none.
pub(super) fn default_disk() -> Arc<dyn Vfs> {
    if is_default() { Arc::clone(&LAYER.get().disk) } else { simulate::disk() }
}

/// The process ends: the queue is worked off, and what was lost is told on standard error (A919).
/// Does nothing the second time.
pub(super) fn exit() {
    let Some(layer) = LAYER.peek() else { return };
    if layer.has_exited.swap(true, Ordering::Relaxed) {
        return;
    }
    let report = layer.control.exit();
    if report.lost_operations == 0 {
        return;
    }
    let reason = report.error.map_or("time was up", |error| error.code().name);
    let (operations, commits) = (report.lost_operations, report.lost_commits);
    let line = format!("tclbtree: {operations} operations, {commits} commits lost: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// `sqlite3async_enable ?YES/NO?`
fn enable(call: &mut Call<'_>) -> Outcome {
    if !call.has(1) {
        return Ok(is_default().into());
    }
    let place = if call.boolean(1)? { DEFAULT } else { ABSENT };
    LAYER.get().place.store(place, Ordering::Relaxed);
    Ok(().into())
}

/// `sqlite3async_halt "now"|"idle"|"never"`
fn halt(call: &mut Call<'_>) -> Outcome {
    let word = call.string(1)?;
    let found = HALTS.iter().find(|(known, _)| *known == word);
    let Some(&(_, halt)) = found else {
        let text = "should be one of: \"now\", \"idle\", or \"never\"";
        return Err(Failure::message(text, &["TCL", "LOOKUP", "INDEX", "halt", &word]));
    };
    control().set_halt(halt);
    Ok(().into())
}

/// `sqlite3async_delay ?MS?`
fn delay(call: &mut Call<'_>) -> Outcome {
    let Some(milliseconds) = call.optional_int(1)? else { return Ok(control().delay_ms().into()) };
    set_delay(milliseconds)?;
    Ok(().into())
}

/// `sqlite3async_start`
fn start(_call: &mut Call<'_>) -> Outcome {
    Ok(control().start().map_err(in_words)?.into())
}

/// `sqlite3async_wait`
fn wait(_call: &mut Call<'_>) -> Outcome {
    Ok(control().wait().map_err(in_words)?.into())
}

/// `sqlite3async_initialize PARENT-VFS ISDEFAULT`
fn initialize(call: &mut Call<'_>) -> Outcome {
    let parent = call.string(1)?;
    let place = if call.boolean(2)? { DEFAULT } else { BY_NAME };
    match parent.as_str() {
        "" | "unix" => {}
        // Each interpreter has a memory disk of its own, and the process one queue.
        "memory" => return Err(Error::Misuse("the queue is for the files of the machine").into()),
        _ => return Err(Error::State("no such parent").into()),
    }
    // A failed exchange is an initialization that was there already.
    let _ = LAYER.get().place.compare_exchange(ABSENT, place, Ordering::Relaxed, Ordering::Relaxed);
    Ok(().into())
}

/// `sqlite3async_shutdown`
fn shutdown(_call: &mut Call<'_>) -> Outcome {
    LAYER.get().place.store(ABSENT, Ordering::Relaxed);
    Ok(().into())
}

/// `sqlite3async_control OPTION ?VALUE?`
fn control_option(call: &mut Call<'_>) -> Outcome {
    const OPTIONS: [(&str, u8); 3] = [("halt", 0), ("delay", 1), ("lockfiles", 2)];
    let option = choice(&OPTIONS, "option", &call.string(1)?)?;
    match option {
        0 => {
            if call.has(2) {
                control().set_halt(choice(&HALTS, "value", &call.string(2)?)?);
            }
            Ok(word_for(&HALTS, control().halt()).into())
        }
        1 => {
            if let Some(milliseconds) = call.optional_int(2)? {
                set_delay(milliseconds)?;
            }
            Ok(control().delay_ms().into())
        }
        _ => {
            if call.has(2) {
                control().set_lock_files(call.boolean(2)?)?;
            }
            Ok(control().lock_files().into())
        }
    }
}

/// In the order in which messages list them.
const HALTS: [(&str, Halt); 3] = [("never", Halt::Never), ("now", Halt::Now), ("idle", Halt::Idle)];

fn set_delay(milliseconds: i32) -> Result<(), Error> {
    let delay = u64::try_from(milliseconds).map_err(|_| Error::Misuse("negative delay"))?;
    control().set_delay_ms(delay);
    Ok(())
}

/// The texts that the layer has for its callers are the message themselves (3.1 of the original's
/// manual); everything else is reported by its code.
fn in_words(error: Error) -> Failure {
    const WORDS: [&str; 4] =
        ["would block forever", "failed to create the thread", "halted", "timeout"];
    match error {
        Error::State(text) if WORDS.contains(&text) => {
            Failure::message(text, &["TCLBTREE", "WRITE-BEHIND", text])
        }
        error => error.into(),
    }
}

/// The value of a word or of an unambiguous beginning of it, with Tcl's messages for others.
fn choice<T: Copy>(table: &[(&str, T)], what: &str, word: &str) -> Result<T, Failure> {
    if let Some(&(_, value)) = table.iter().find(|(known, _)| *known == word) {
        return Ok(value);
    }
    let mut matching = table.iter().filter(|(known, _)| known.starts_with(word));
    let (first, second) = (matching.next(), matching.next());
    if let (Some(&(_, value)), None) = (first, second) {
        return Ok(value);
    }
    let kind = if second.is_some() { "ambiguous" } else { "bad" };
    let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    let list = match names.split_last() {
        Some((last, rest)) => format!("{}, or {last}", rest.join(", ")),
        None => String::new(),
    };
    let text = format!("{kind} {what} \"{word}\": must be {list}");
    Err(Failure::message(text, &["TCL", "LOOKUP", "INDEX", what, word]))
}

/// The word for a value.
fn word_for<T: PartialEq>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, known)| *known == value).map_or("", |&(word, _)| word)
}
