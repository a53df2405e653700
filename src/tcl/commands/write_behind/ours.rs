//! What the original had no command for: looking at the queue, limits, flushes, single steps,
//! and how sure a commit wants to be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::super::command::{Call, Command, Outcome};
use super::super::super::handle::Database;
use super::super::super::result_code::Failure;
use super::super::super::value::Obj;
use super::super::simulate;
use super::{HALTS, choice, control, in_words, word_for};
use crate::error::Error;
use crate::os::write_behind::{
    Coalesce, Durability, ErrorReport, LimitPolicy, OnExit, QueuedOperation, Statistics,
};

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        c"sqlite3async_status",
        0..=0,
        c"",
        "a dictionary: running halt delay files ops bytes error",
        status,
    ),
    Command::new(
        c"sqlite3async_queue",
        0..=0,
        c"",
        "the queued operations: {OP FILE OFFSET NBYTE} each",
        queue,
    ),
    Command::new(
        c"sqlite3async_limit",
        0..=2,
        c"?BYTES ?block|refuse|inline??",
        "the most bytes queued, 0 for any number, and what becomes of a write beyond",
        limit,
    ),
    Command::new(
        c"sqlite3async_error",
        0..=2,
        c"?-history? ?FILE?",
        "the error that has stopped a database, or those since this was last asked",
        error,
    ),
    Command::new(
        c"sqlite3async_lockfiles",
        0..=1,
        c"?BOOL?",
        "whether other processes see the locks",
        lock_files,
    ),
    Command::new(
        c"sqlite3async_two_handles",
        0..=1,
        c"?BOOL?",
        "whether a file opened from now on has a second handle for the writer",
        two_handles,
    ),
    Command::new(
        c"sqlite3async_flush",
        0..=4,
        c"?-written|-durable? ?-timeout MS? ?FILE?",
        "waits until what is queued by now is written, and synced",
        flush,
    ),
    Command::new(
        c"sqlite3async_step",
        0..=1,
        c"?N?",
        "carries out the next operations here; how many there were",
        step,
    ),
    Command::new(
        c"sqlite3async_stats",
        0..=2,
        c"?-reset? ?FILE?",
        "the counters, as a dictionary",
        stats,
    ),
    Command::new(
        c"sqlite3async_config",
        0..=2,
        c"?OPTION ?VALUE??",
        "coalesce, maxlag, maxhold, onexit, exittimeout, onclose",
        config,
    ),
    Command::new(
        c"btree_commit_durability",
        1..=2,
        c"ID ?off|written|durable?",
        "what a commit through the queue waits for",
        durability,
    ),
];

const POLICIES: [(&str, LimitPolicy); 3] = [
    ("block", LimitPolicy::Block),
    ("refuse", LimitPolicy::Refuse),
    ("inline", LimitPolicy::Inline),
];

const COALESCES: [(&str, Coalesce); 3] =
    [("off", Coalesce::Off), ("safe", Coalesce::Safe), ("full", Coalesce::Full)];

const ON_EXITS: [(&str, OnExit); 2] = [("drain", OnExit::Drain), ("discard", OnExit::Discard)];

const ON_CLOSES: [(&str, Durability); 3] = [
    ("none", Durability::None),
    ("written", Durability::Written),
    ("durable", Durability::Durable),
];

const DURABILITIES: [(&str, Durability); 3] =
    [("off", Durability::None), ("written", Durability::Written), ("durable", Durability::Durable)];

/// `sqlite3async_status`
fn status(_call: &mut Call<'_>) -> Outcome {
    let status = control().status();
    let pairs = [
        ("running", status.running.into()),
        ("halt", word_for(&HALTS, status.halt).into()),
        ("delay", status.delay_ms.into()),
        ("files", status.files.into()),
        ("ops", status.ops.into()),
        ("bytes", status.bytes.into()),
        ("error", code_of(status.error).into()),
    ];
    Ok(Obj::pairs(pairs).into())
}

/// `sqlite3async_queue`
fn queue(_call: &mut Call<'_>) -> Outcome {
    let describe = |operation: &QueuedOperation| {
        let file = name_of(operation.file.as_deref());
        let (offset, bytes) = (operation.offset.into(), operation.bytes.into());
        Obj::list([operation.name.into(), file, offset, bytes])
    };
    Ok(Obj::list(control().queue().iter().map(describe)).into())
}

/// `sqlite3async_limit ?BYTES ?block|refuse|inline??`
fn limit(call: &mut Call<'_>) -> Outcome {
    let (bytes, policy) = control().limit();
    if !call.has(1) {
        return Ok(Obj::list([bytes.into(), word_for(&POLICIES, policy).into()]).into());
    }
    let bytes = number(call, 1)?;
    let policy = if call.has(2) { choice(&POLICIES, "policy", &call.string(2)?)? } else { policy };
    control().set_limit(bytes, policy);
    Ok(().into())
}

/// `sqlite3async_error ?-history? ?FILE?`: reading the history empties it.
fn error(call: &mut Call<'_>) -> Outcome {
    let (has_history, file) = option_and_file(call, "-history")?;
    if !has_history {
        return Ok(code_of(control().error(file.as_deref())).into());
    }
    let describe = |report: &ErrorReport| {
        Obj::pairs([
            ("error", report.error.code().name.into()),
            ("operation", report.operation.into()),
            ("file", name_of(report.file.as_deref())),
            ("position", report.position.into()),
            ("lost_operations", report.lost_operations.into()),
            ("lost_commits", report.lost_commits.into()),
        ])
    };
    Ok(Obj::list(control().take_history(file.as_deref()).iter().map(describe)).into())
}

/// `sqlite3async_lockfiles ?BOOL?`
fn lock_files(call: &mut Call<'_>) -> Outcome {
    if !call.has(1) {
        return Ok(control().lock_files().into());
    }
    let is_on = call.boolean(1)?;
    Ok(control().set_lock_files(is_on)?.into())
}

/// `sqlite3async_two_handles ?BOOL?`
fn two_handles(call: &mut Call<'_>) -> Outcome {
    if !call.has(1) {
        return Ok(control().two_handles().into());
    }
    control().set_two_handles(call.boolean(1)?);
    Ok(().into())
}

/// `sqlite3async_flush ?-written|-durable? ?-timeout MS? ?FILE?`
fn flush(call: &mut Call<'_>) -> Outcome {
    let (mut how, mut timeout, mut file) = (Durability::Durable, None, None);
    let mut at = 1;
    while call.has(at) {
        match call.string(at)?.as_str() {
            "-written" => how = Durability::Written,
            "-durable" => how = Durability::Durable,
            "-timeout" => {
                at += 1;
                timeout = Some(Duration::from_millis(number(call, at)?));
            }
            _ if at == call.count() => file = Some(full_path(call, at)?),
            _ => return Err(Failure::WrongArgumentCount),
        }
        at += 1;
    }
    Ok(control().flush(file.as_deref(), how, timeout).map_err(in_words)?.into())
}

/// `sqlite3async_step ?N?`
fn step(call: &mut Call<'_>) -> Outcome {
    let count = if call.has(1) { number(call, 1)? } else { 1 };
    Ok(control().step(count)?.into())
}

/// `sqlite3async_stats ?-reset? ?FILE?`
fn stats(call: &mut Call<'_>) -> Outcome {
    let (resets, file) = option_and_file(call, "-reset")?;
    let file = file.as_deref();
    let stats = if resets { control().reset_statistics(file) } else { control().statistics(file) };
    Ok(statistics(&stats).into())
}

fn statistics(stats: &Statistics) -> Obj {
    Obj::pairs([
        ("queued_ops", stats.queued_ops.into()),
        ("queued_bytes", stats.queued_bytes.into()),
        ("peak_bytes", stats.peak_bytes.into()),
        ("oldest_age_ms", stats.oldest_age_ms.into()),
        ("pushed", stats.pushed.into()),
        ("executed", stats.executed.into()),
        ("merged", stats.merged.into()),
        ("elided", stats.elided.into()),
        ("dropped", stats.dropped.into()),
        ("writes", stats.writes.into()),
        ("write_calls", stats.write_calls.into()),
        ("bytes_written", stats.bytes_written.into()),
        ("syncs", stats.syncs.into()),
        ("syncs_skipped", stats.syncs_skipped.into()),
        ("overlay_reads", stats.overlay_reads.into()),
        ("base_reads", stats.base_reads.into()),
        ("waits", stats.waits.into()),
        ("wait_ms", stats.wait_ms.into()),
        ("errors", stats.errors.into()),
    ])
}

/// An option of `sqlite3async_config`.
#[derive(Clone, Copy)]
enum Setting {
    Coalesce,
    MaxLag,
    MaxHold,
    OnExit,
    ExitTimeout,
    OnClose,
}

const SETTINGS: [(&str, Setting); 6] = [
    ("coalesce", Setting::Coalesce),
    ("maxlag", Setting::MaxLag),
    ("maxhold", Setting::MaxHold),
    ("onexit", Setting::OnExit),
    ("exittimeout", Setting::ExitTimeout),
    ("onclose", Setting::OnClose),
];

impl Setting {
    fn value(self) -> Obj {
        match self {
            Setting::Coalesce => word_for(&COALESCES, control().coalesce()).into(),
            Setting::MaxLag => control().max_lag_ms().into(),
            Setting::MaxHold => control().max_hold_ms().into(),
            Setting::OnExit => word_for(&ON_EXITS, control().on_exit()).into(),
            Setting::ExitTimeout => control().exit_timeout_ms().into(),
            Setting::OnClose => word_for(&ON_CLOSES, control().on_close()).into(),
        }
    }

    /// Sets it to word `index`.
    fn set(self, call: &mut Call<'_>, index: usize) -> Result<(), Failure> {
        let word = call.string(index)?;
        match self {
            Setting::Coalesce => control().set_coalesce(choice(&COALESCES, "value", &word)?),
            Setting::MaxLag => control().set_max_lag_ms(number(call, index)?),
            Setting::MaxHold => control().set_max_hold_ms(number(call, index)?),
            Setting::OnExit => control().set_on_exit(choice(&ON_EXITS, "value", &word)?),
            Setting::ExitTimeout => control().set_exit_timeout_ms(number(call, index)?),
            Setting::OnClose => control().set_on_close(choice(&ON_CLOSES, "value", &word)?),
        }
        Ok(())
    }
}

/// `sqlite3async_config ?OPTION ?VALUE??`
fn config(call: &mut Call<'_>) -> Outcome {
    if !call.has(1) {
        return Ok(Obj::pairs(SETTINGS.map(|(name, setting)| (name, setting.value()))).into());
    }
    let setting = choice(&SETTINGS, "option", &call.string(1)?)?;
    if !call.has(2) {
        return Ok(setting.value().into());
    }
    Ok(setting.set(call, 2)?.into())
}

/// `btree_commit_durability ID ?off|written|durable?`: the mode in force.
fn durability(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    if call.has(2) {
        database.durability.set(choice(&DURABILITIES, "durability", &call.string(2)?)?);
    }
    Ok(word_for(&DURABILITIES, database.durability.get()).into())
}

/// Waits for what `database` wants of a commit, which has just been queued. `path` is that of
/// its file; who has none, or opened it past the queue, waits for nothing (A934).
///
/// # Errors
/// As [`WriteBehind::flush`](crate::os::WriteBehind::flush). The commit stands nevertheless.
pub(in super::super) fn commit_durability(
    database: &Database,
    path: Option<&Path>,
) -> Result<(), Failure> {
    let how = database.durability.get();
    match path {
        Some(path) if database.is_queued && how != Durability::None => {
            control().flush(Some(path), how, None).map_err(in_words)
        }
        _ => Ok(()),
    }
}

/// The words of a command that takes one option and a file.
fn option_and_file(call: &mut Call<'_>, option: &str) -> Result<(bool, Option<PathBuf>), Failure> {
    let has_option = call.has(1) && call.string(1)? == option;
    let at = if has_option { 2 } else { 1 };
    match call.count().checked_sub(at) {
        None => Ok((has_option, None)),
        Some(0) => Ok((has_option, Some(full_path(call, at)?))),
        Some(_) => Err(Failure::WrongArgumentCount),
    }
}

/// The path under which the layer knows the file in word `index`.
fn full_path(call: &mut Call<'_>, index: usize) -> Result<PathBuf, Failure> {
    Ok(simulate::disk().full_path(&call.path(index)?)?)
}

/// The number in word `index`, which must not be negative.
fn number(call: &mut Call<'_>, index: usize) -> Result<u64, Failure> {
    Ok(u64::try_from(call.wide(index)?).map_err(|_| Error::Misuse("negative number"))?)
}

fn code_of(error: Option<Error>) -> &'static str {
    error.map_or("SQLITE_OK", |error| error.code().name)
}

fn name_of(path: Option<&Path>) -> Obj {
    path.map_or(String::new(), |path| path.to_string_lossy().into_owned()).into()
}
