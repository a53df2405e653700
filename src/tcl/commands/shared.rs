//! Page caches that several connections share: clients, advisory locks, waiting, mutexes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::command::{Call, Command, Outcome};
use super::super::handle::{Client, Database};
use super::super::mailbox::Mailbox;
use super::super::result_code::Failure;
use super::super::value::Obj;
use crate::btree::{self, CacheRegistry, Schema};
use crate::error::Error;
use crate::memory;
use crate::os::PerProcess;

/// The page caches that the connections of this process share.
static CACHES: PerProcess<CacheRegistry> = PerProcess::new();
/// Whether databases opened from now on share their page caches.
static ENABLED: AtomicBool = AtomicBool::new(false);
/// Largest block of client memory on a page cache.
const SCHEMA_MAX: usize = i32::MAX as usize;

/// A new client of the page caches.
pub(in crate::tcl) fn new_client() -> btree::Client {
    CACHES.get().client()
}

/// Whether databases opened now share their page caches.
pub(super) fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        c"sqlite3_enable_shared_cache",
        0..=1,
        c"?BOOL?",
        "whether databases opened from now on share page caches; returns what was set before",
        enable,
    ),
    Command::new(
        c"btree_lock_table",
        3..=3,
        c"ID TABLENUM WRITE",
        "locks a tree for reading or writing among the connections of a page cache",
        lock_table,
    ),
    Command::new(
        c"btree_schema_locked",
        1..=1,
        c"ID",
        "SQLITE_LOCKED_SHAREDCACHE if another connection has locked table 1 for writing",
        schema_locked,
    ),
    Command::new(
        c"btree_schema",
        1..=3,
        c"ID ?SIZE? ?DESTRUCTOR?",
        "memory of the caller's own on the page cache; DESTRUCTOR runs when it goes",
        schema,
    ),
    Command::new(
        c"btree_schema_bytes",
        1..=2,
        c"ID ?BYTES?",
        "the content of that memory; BYTES are written to its start",
        schema_bytes,
    ),
    Command::new(
        c"btree_read_uncommitted",
        1..=2,
        c"ID ?BOOL?",
        "whether the client reads what others have not committed",
        read_uncommitted,
    ),
    Command::new(
        c"btree_unlock_notify",
        2..=2,
        c"ID SCRIPT",
        "runs a script once, when the transaction has ended that was in the way",
        unlock_notify,
    ),
    Command::new(
        c"btree_busy_handler",
        2..=2,
        c"ID SCRIPT",
        "sets what is asked, with the number of tries, when the file is locked",
        busy_handler,
    ),
    Command::new(
        c"btree_client_savepoints",
        2..=2,
        c"CLIENT N",
        "savepoints that write transactions of a client open at once",
        client_savepoints,
    ),
    Command::new(
        c"btree_temp_store",
        2..=2,
        c"CLIENT file|memory",
        "where a client keeps what its savepoints need",
        temp_store,
    ),
    Command::new(c"btree_enter", 1..=1, c"ID", "takes the mutex of the page cache", enter),
    Command::new(c"btree_leave", 1..=1, c"ID", "gives it back once", leave),
    Command::new(
        c"btree_enter_cursor",
        1..=1,
        c"ID",
        "takes the mutex of the cursor's page cache",
        enter_cursor,
    ),
    Command::new(c"btree_leave_cursor", 1..=1, c"ID", "gives it back once", leave_cursor),
    Command::new(
        c"btree_enter_all",
        1..=1,
        c"CLIENT",
        "takes the mutexes of all page caches of a client",
        enter_all,
    ),
    Command::new(c"btree_leave_all", 1..=1, c"CLIENT", "gives them back once", leave_all),
    Command::new(
        c"btree_mutex_array_insert",
        2..=2,
        c"ARRAY ID",
        "adds a connection to a list, made if there is none",
        array_insert,
    ),
    Command::new(
        c"btree_mutex_array_list",
        1..=1,
        c"ARRAY",
        "the connections of a list, in the order of taking",
        array_list,
    ),
    Command::new(
        c"btree_mutex_array_enter",
        1..=1,
        c"ARRAY",
        "takes the mutexes of a list",
        array_enter,
    ),
    Command::new(c"btree_mutex_array_leave", 1..=1, c"ARRAY", "gives them back once", array_leave),
];

/// `sqlite3_enable_shared_cache ?BOOL?`
fn enable(call: &mut Call<'_>) -> Outcome {
    if !call.has(1) {
        return Ok(is_enabled().into());
    }
    let on = call.boolean(1)?;
    Ok(ENABLED.swap(on, Ordering::Relaxed).into())
}

/// `btree_lock_table ID TABLENUM WRITE`
fn lock_table(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let root = call.page_number(2)?;
    let for_writing = call.boolean(3)?;
    Ok(database.enter()?.lock_table(root, for_writing)?.into())
}

/// `btree_schema_locked ID`: the code is a result, no error.
fn schema_locked(call: &mut Call<'_>) -> Outcome {
    let is_locked = call.database(1)?.enter()?.is_schema_locked();
    let code = if is_locked { Error::LockedSharedCache.code().name } else { "SQLITE_OK" };
    Ok(code.into())
}

/// Client memory on a page cache (D240). Dropping it makes its destructor due.
struct Memory {
    token: String,
    bytes: Vec<u8>,
    destructor: Option<(Arc<Mailbox>, String)>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some((mailbox, script)) = self.destructor.take() {
            mailbox.post(script);
        }
    }
}

/// `btree_schema ID ?SIZE? ?DESTRUCTOR?`
fn schema(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let size = if call.has(2) { call.wide(2)? } else { 0 };
    let size = usize::try_from(size).ok().filter(|&size| size <= SCHEMA_MAX);
    let size = size.ok_or(Error::Misuse("size is not from 0 to 2147483647"))?;
    let script = if call.has(3) { call.string(3)? } else { String::new() };
    let mut in_use = database.enter()?;
    if size == 0 {
        let memory = in_use.schema().and_then(memory_of);
        return Ok(memory.map_or("", |memory| &memory.token).into());
    }
    let mut bytes = Vec::new();
    memory::reserve_exact(&mut bytes, size)?;
    bytes.resize(size, 0);
    let mailbox = call.session.mailbox();
    let block = in_use.schema_or_insert(|| {
        let destructor = (!script.is_empty()).then(|| (Arc::clone(mailbox), script));
        Box::new(Memory { token: call.session.new_token("schema"), bytes, destructor })
    });
    Ok(memory_of(block).map_or("", |memory| &memory.token).into())
}

/// `btree_schema_bytes ID ?BYTES?`
fn schema_bytes(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let mut in_use = database.enter()?;
    let memory = in_use.schema().and_then(memory_of);
    let memory = memory.ok_or(Error::State("the page cache has no schema memory"))?;
    if call.has(2) {
        let bytes = call.word(2)?.bytes(&mut call.interp)?;
        let room = memory.bytes.get_mut(..bytes.len());
        room.ok_or(Error::Misuse("more bytes than the memory has"))?.copy_from_slice(bytes);
    }
    Ok(Obj::bytes(&memory.bytes)?.into())
}

/// What we have hung on the page cache.
fn memory_of(schema: &mut Schema) -> Option<&mut Memory> {
    schema.downcast_mut()
}

/// `btree_read_uncommitted ID ?BOOL?`
fn read_uncommitted(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    if !call.has(2) {
        return Ok(database.client.reads_uncommitted().into());
    }
    let on = call.boolean(2)?;
    call.session.change_client(&database.client, |client| client.set_reads_uncommitted(on));
    Ok(().into())
}

/// `btree_unlock_notify ID SCRIPT`: an empty script takes the one before back.
fn unlock_notify(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let script = call.string(2)?;
    let client = &database.client.engine;
    if script.is_empty() {
        client.cancel_on_unlock();
        return Ok(().into());
    }
    let mailbox = Arc::clone(call.session.mailbox());
    client.on_unlock(Box::new(move || mailbox.post(script)))?;
    Ok(().into())
}

/// `btree_busy_handler ID SCRIPT`: an empty script takes the one before back.
fn busy_handler(call: &mut Call<'_>) -> Outcome {
    let database = call.database(1)?;
    let script = call.string(2)?;
    call.session.change_client(&database.client, |client| client.set_busy_handler(script));
    Ok(().into())
}

/// `btree_client_savepoints CLIENT N`
fn client_savepoints(call: &mut Call<'_>) -> Outcome {
    let client = call.client(1)?;
    let count = usize::try_from(call.int(2)?);
    let count = count.map_err(|_| Error::Misuse("negative number of savepoints"))?;
    call.session.change_client(&client, |client| client.set_savepoints(count));
    Ok(().into())
}

/// `btree_temp_store CLIENT file|memory`: from its next write transaction on.
fn temp_store(call: &mut Call<'_>) -> Outcome {
    let client = call.client(1)?;
    let in_memory = match call.string(2)?.as_str() {
        "file" => false,
        "memory" => true,
        _ => return Err(Error::Misuse("temporary data are kept in a file or in memory").into()),
    };
    call.session.change_client(&client, |client| client.set_undo_in_memory(in_memory));
    Ok(().into())
}

/// `btree_enter ID`
fn enter(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.hold()?.into())
}

/// `btree_leave ID`
fn leave(call: &mut Call<'_>) -> Outcome {
    Ok(call.database(1)?.let_go()?.into())
}

/// `btree_enter_cursor ID`
fn enter_cursor(call: &mut Call<'_>) -> Outcome {
    Ok(call.cursor(1)?.database.hold()?.into())
}

/// `btree_leave_cursor ID`
fn leave_cursor(call: &mut Call<'_>) -> Outcome {
    Ok(call.cursor(1)?.database.let_go()?.into())
}

/// `btree_enter_all CLIENT`
fn enter_all(call: &mut Call<'_>) -> Outcome {
    let client = call.client(1)?;
    Ok(hold_all(&in_order(call, &client))?.into())
}

/// `btree_leave_all CLIENT`
fn leave_all(call: &mut Call<'_>) -> Outcome {
    let client = call.client(1)?;
    Ok(let_all_go(&in_order(call, &client))?.into())
}

/// The databases of a client in the order in which their mutexes are taken (D247).
fn in_order(call: &Call<'_>, client: &Client) -> Vec<std::rc::Rc<Database>> {
    let mut databases = call.session.databases_of(client);
    databases.sort_by_key(|database| database.shared().map(btree::SharedConnection::cache_number));
    databases
}

/// Takes all mutexes, or none.
fn hold_all(databases: &[impl std::ops::Deref<Target = Database>]) -> Result<(), Error> {
    for (taken, database) in databases.iter().enumerate() {
        if let Err(error) = database.hold() {
            let_all_go(databases.get(..taken).unwrap_or_default())?;
            return Err(error);
        }
    }
    Ok(())
}

/// Gives all mutexes back that were taken; that one was not is told afterwards.
fn let_all_go(databases: &[impl std::ops::Deref<Target = Database>]) -> Result<(), Error> {
    databases.iter().map(|database| database.let_go()).fold(Ok(()), Result::and)
}

/// `btree_mutex_array_insert ARRAY ID`
fn array_insert(call: &mut Call<'_>) -> Outcome {
    let name = call.string(1)?;
    let database = call.database(2)?;
    call.session.insert_in_mutex_array(name, &database);
    Ok(().into())
}

/// `btree_mutex_array_list ARRAY`
fn array_list(call: &mut Call<'_>) -> Outcome {
    let databases = named_array(call)?;
    Ok(Obj::list(databases.iter().map(|database| Obj::text(&database.handle()))).into())
}

/// `btree_mutex_array_enter ARRAY`
fn array_enter(call: &mut Call<'_>) -> Outcome {
    Ok(hold_all(&named_array(call)?)?.into())
}

/// `btree_mutex_array_leave ARRAY`
fn array_leave(call: &mut Call<'_>) -> Outcome {
    Ok(let_all_go(&named_array(call)?)?.into())
}

fn named_array(call: &mut Call<'_>) -> Result<Vec<std::rc::Rc<Database>>, Failure> {
    let name = call.string(1)?;
    call.session.mutex_array(&name)
}
