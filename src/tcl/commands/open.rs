//! Opening and closing databases.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::command::{Call, Outcome};
use super::super::result_code::Failure;
use super::super::value::Obj;
use super::{shared, simulate, write_behind};
use crate::btree::{Btree, Options};
use crate::error::Error;
use crate::format::PageSize;
use crate::os::{Access, Vfs};

/// FLAGS of `btree_open`: no journal.
const OMIT_JOURNAL: i32 = 1;
/// FLAGS of `btree_open`: no lock for reading.
const NO_READ_LOCK: i32 = 2;

/// The options behind FLAGS.
#[derive(Default)]
struct Extras {
    vfs: Option<Place>,
    flags: OpenFlags,
    client: Option<String>,
}

/// What `-vfsflags` asks for.
#[derive(Default)]
struct OpenFlags {
    /// `None` if the list says nothing about it.
    access: Option<Access>,
    exclusive: bool,
    delete_on_close: bool,
}

/// Where `-vfs` leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Unix,
    UnmappedUnix,
    Memory,
    WriteBehind,
}

/// `btree_open FILENAME NCACHE ?FLAGS? ?-vfs NAME? ?-vfsflags LIST? ?-db NAME?`
pub(super) fn open(call: &mut Call<'_>) -> Outcome {
    let cache_size = call.int(2)?;
    let has_flags = call.has(3) && option_index(&call.string(3)?).is_none();
    let flags = if has_flags { call.int(3)? } else { 0 };
    let extras = extras(call, if has_flags { 4 } else { 3 })?;
    let place = extras.vfs.unwrap_or_else(default_place);
    let options = Options {
        cache_size,
        omit_journal: flags & OMIT_JOURNAL != 0,
        no_read_lock: flags & NO_READ_LOCK != 0,
        access: extras.flags.access.unwrap_or(Access::Create),
        exclusive: extras.flags.exclusive,
        delete_on_close: extras.flags.delete_on_close,
        ..historic_options()
    };
    let name = file_name(call, place)?;
    let vfs = match place {
        Place::Unix => simulate::disk(),
        Place::UnmappedUnix => simulate::unmapped_disk(),
        Place::Memory => call.session.memory(),
        Place::WriteBehind => {
            write_behind::disk().ok_or_else(|| no_such_vfs(write_behind::NAME))?
        }
    };
    let client = extras.client;
    open_with(call, vfs, name, &options, client, place == Place::WriteBehind)
}

/// `btree_close ID`
pub(super) fn close(call: &mut Call<'_>) -> Outcome {
    let _suspended = simulate::suspend();
    let database = call.database(1)?;
    call.session.close_database(database);
    Ok(().into())
}

/// `btree_from_db DB-HANDLE ?N?`
pub(super) fn from_db(call: &mut Call<'_>) -> Outcome {
    let name = call.string(1)?;
    let index = call.optional_int(2)?.unwrap_or(0);
    if let Some(client) = call.session.client_of_name(&name) {
        let known = call.session.database_of(&client, index);
        let database = known.ok_or(Error::State("the client has no such database"))?;
        return Ok(database.handle().into());
    }
    let path = file_of_connection(call, &name, index)?;
    let is_queued = write_behind::is_default();
    open_with(call, write_behind::default_disk(), path, &historic_options(), None, is_queued)
}

/// `btree_ismemdb ID`
pub(super) fn is_memory(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.enter()?.is_memory().into())
}

/// `btree_is_temporary ID`
pub(super) fn is_temporary(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.enter()?.is_temporary().into())
}

/// `btree_get_filename ID`
pub(super) fn filename(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let database = database.enter()?;
    Ok(database.path().map_or(String::new(), |path| path.to_string_lossy().into_owned()).into())
}

/// `btree_get_journalname ID`
pub(super) fn journal_name(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let database = database.enter()?;
    let path = database.journal_path();
    Ok(path.map_or(String::new(), |path| path.to_string_lossy().into_owned()).into())
}

/// What the commands of 2006 open with.
fn historic_options() -> Options {
    Options {
        page_size: PageSize::HISTORIC,
        lock_offset: simulate::lock_offset(),
        cursor_locks: true,
        journal_at_begin: true,
        ..Options::default()
    }
}

/// Opens and makes a handle. Looking at the header on the way counts no faults.
fn open_with(
    call: &Call<'_>,
    vfs: Arc<dyn Vfs>,
    name: PathBuf,
    options: &Options,
    client: Option<String>,
    is_queued: bool,
) -> Outcome {
    let _suspended = simulate::suspend();
    let (chance, seed) = simulate::discard();
    let client = call.session.client(client);
    let is_temporary = matches!(name.to_str(), Some("" | ":memory:"));
    if shared::is_enabled() && !is_temporary {
        let connection = client.engine.open(vfs, name, options)?;
        if chance > 0 {
            connection.enter()?.set_random_discard(chance, seed);
        }
        return Ok(call.session.add_shared_database(connection, client, is_queued).into());
    }
    let mut btree = Btree::open(vfs, name, options)?;
    btree.set_random_discard(chance, seed);
    Ok(call.session.add_database(btree, client, is_queued).into())
}

/// The name in word 1; the two special ones are left alone, and so are names in memory.
fn file_name(call: &mut Call<'_>, place: Place) -> Result<PathBuf, Failure> {
    let name = call.string(1)?;
    let is_special = name.is_empty() || name == ":memory:";
    if is_special || place == Place::Memory { Ok(name.into()) } else { call.path(1) }
}

/// What each option is called; they are not abbreviated, since FLAGS stands in the same place.
fn option_index(word: &str) -> Option<usize> {
    ["-vfs", "-vfsflags", "-db"].iter().position(|&option| option == word)
}

/// The options from word `start` on.
fn extras(call: &mut Call<'_>, start: usize) -> Result<Extras, Failure> {
    let mut extras = Extras::default();
    for at in (start..=call.count()).step_by(2) {
        let option = call.string(at)?;
        let Some(index) = option_index(&option) else {
            if at == call.count() || !option.starts_with('-') {
                return Err(Failure::WrongArgumentCount);
            }
            let text = format!("bad option \"{option}\": must be -vfs, -vfsflags, or -db");
            return Err(Failure::message(text, &["TCL", "LOOKUP", "INDEX", "option", &option]));
        };
        match index {
            0 => extras.vfs = Some(place(&call.string(at + 1)?)?),
            1 => extras.flags = open_flags(call, at + 1)?,
            _ => extras.client = Some(call.string(at + 1)?),
        }
    }
    Ok(extras)
}

fn place(name: &str) -> Result<Place, Failure> {
    match name {
        "unix" => Ok(Place::Unix),
        "unix-unmapped" => Ok(Place::UnmappedUnix),
        "memory" => Ok(Place::Memory),
        write_behind::NAME if write_behind::disk().is_some() => Ok(Place::WriteBehind),
        _ => Err(no_such_vfs(name)),
    }
}

/// Where opens lead that do not say.
fn default_place() -> Place {
    if write_behind::is_default() { Place::WriteBehind } else { Place::Unix }
}

fn no_such_vfs(name: &str) -> Failure {
    let text = format!("no such vfs: {name}");
    Failure::message(text, &["TCL", "LOOKUP", "VFS", name])
}

/// What a list of open flags asks for. Those that name a kind of file change nothing: it is that
/// of a database.
fn open_flags(call: &mut Call<'_>, index: usize) -> Result<OpenFlags, Failure> {
    let (mut read_only, mut read_write, mut create) = (false, false, false);
    let mut flags = OpenFlags::default();
    for flag in call.word(index)?.list(&mut call.interp)? {
        match flag.string(&mut call.interp).as_str() {
            "READONLY" => read_only = true,
            "READWRITE" => read_write = true,
            "CREATE" => create = true,
            "EXCLUSIVE" => flags.exclusive = true,
            "DELETEONCLOSE" => flags.delete_on_close = true,
            "MAIN_DB" | "TEMP_DB" | "TRANSIENT_DB" | "MAIN_JOURNAL" | "TEMP_JOURNAL"
            | "SUBJOURNAL" | "SUPER_JOURNAL" | "MASTER_JOURNAL" => {}
            unknown => {
                let text = format!("no such open flag: {unknown}");
                return Err(Failure::message(text, &["TCL", "LOOKUP", "FLAG", unknown]));
            }
        }
    }
    flags.access = match (read_only, read_write, create) {
        (false, false, false) => None,
        (true, false, false) => Some(Access::ReadOnly),
        (false, true, false) => Some(Access::ReadWrite),
        (false, true, true) => Some(Access::Create),
        _ => return Err(Error::Misuse("open flags that contradict each other").into()),
    };
    // A file that must not be made can neither be a new one nor one for this connection alone.
    let makes = matches!(flags.access, None | Some(Access::Create));
    if (flags.exclusive || flags.delete_on_close) && !makes {
        return Err(Error::Misuse("open flags that only a new file can have").into());
    }
    Ok(flags)
}

/// The file of the `index`-th database of a connection made by the stock `sqlite3` package, which
/// is asked for it (C26). Such a connection is a command; what answers otherwise is none.
fn file_of_connection(call: &mut Call<'_>, name: &str, index: i32) -> Result<PathBuf, Failure> {
    let not_found = || {
        let text = format!("No such db-handle: \"{name}\"");
        Failure::message(text, &["TCL", "LOOKUP", "DB-HANDLE", name])
    };
    if !call.interp.has_command(call.word(1)?) {
        return Err(not_found());
    }
    let script = Obj::list([name, "eval", "PRAGMA database_list"].map(Obj::text));
    let Ok(answer) = call.interp.eval(&script) else {
        call.interp.reset_result();
        return Err(not_found());
    };
    let Ok(words) = answer.list(&mut call.interp) else { return Err(not_found()) };
    if words.is_empty() || words.len() % 3 != 0 {
        return Err(not_found());
    }
    for row in words.chunks(3) {
        let [sequence, _, file] = row else { continue };
        if sequence.int(&mut call.interp).map_err(|_| not_found())? != index {
            continue;
        }
        if file.string(&mut call.interp).is_empty() {
            return Err(Error::Misuse("a database in memory has no file to open").into());
        }
        return Ok(file.path(&mut call.interp));
    }
    Err(Error::State("the connection has no such database").into())
}
