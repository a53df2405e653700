//! The table of commands: name, number of words, usage, what it does, and the function.
//!
//! The usage of a command of 2006 is the one that it had then, also where it does not tell the
//! whole truth: scripts compare whole messages.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

use super::command::{ANY, Command};
use crate::os::Vfs;

mod backup;
mod cursor;
mod entry;
mod help;
mod inspect;
mod open;
mod os;
pub(super) mod pager;
mod record;
mod settings;
mod shared;
mod simulate;
mod table;
mod transaction;
mod varint;
mod write_behind;

pub(super) use backup::BACKUP;
pub(super) use os::OsFile;
pub(super) use shared::new_client;

/// Every table of commands with its title, in the order in which they are shown.
pub(super) fn tables() -> impl Iterator<Item = &'static (&'static str, &'static [Command])> {
    TABLES.iter().chain(&write_behind::TABLES)
}

/// Every command.
pub(super) fn all() -> impl Iterator<Item = &'static Command> {
    tables().flat_map(|(_, commands)| *commands)
}

/// Every linked variable: its name, and the integer behind it.
pub(super) fn linked_variables() -> impl Iterator<Item = (&'static CStr, &'static AtomicI32)> {
    simulate::variables().chain([write_behind::variable()]).chain(pager::variables())
}

/// The file system behind `-vfs memory` of a new interpreter.
pub(super) fn memory_disk() -> Arc<dyn Vfs> {
    simulate::memory_disk()
}

/// The process ends: works off what is queued. Does nothing the second time.
pub(super) fn exit() {
    write_behind::exit();
}

const TABLES: [(&str, &[Command]); 11] = [
    ("Databases", DATABASES),
    ("Transactions", TRANSACTIONS),
    ("Tables and the header of the file", TREES),
    ("Cursors and entries", CURSORS),
    ("Settings", SETTINGS),
    ("Several users", shared::COMMANDS),
    ("Looking inside", DIAGNOSTICS),
    ("Rows as SQL stores them", RECORDS),
    ("Files of any kind, page by page", pager::COMMANDS),
    ("Disks that fail", DISKS),
    ("Files through the OS layer", os::FILES),
];

const DATABASES: &[Command] = &[
    Command::new(
        c"btree_open",
        2..=9,
        c"FILENAME NCACHE FLAGS",
        "opens a database; options -vfs NAME, -vfsflags LIST, -db NAME",
        open::open,
    ),
    Command::new(c"btree_close", 1..=1, c"ID", "closes a database and its cursors", open::close),
    Command::new(
        c"btree_from_db",
        1..=2,
        c"DB-HANDLE",
        "handle of the N-th database of a client or of an SQL connection",
        open::from_db,
    ),
    Command::new(c"btree_ismemdb", 1..=1, c"ID", "whether it is :memory:", open::is_memory),
    Command::new(
        c"btree_is_temporary",
        1..=1,
        c"ID",
        "whether it is in no named file",
        open::is_temporary,
    ),
    Command::new(c"btree_get_filename", 1..=1, c"ID", "absolute path of the file", open::filename),
    Command::new(
        c"btree_get_journalname",
        1..=1,
        c"ID",
        "absolute path of the journal",
        open::journal_name,
    ),
    Command::new(
        c"btree_backup",
        3..=3,
        c"CMD DST SRC",
        "begins to copy SRC into DST and makes CMD: step N, remaining, pagecount, finish",
        backup::start,
    ),
    Command::new(
        c"btree_is_in_backup",
        1..=1,
        c"ID",
        "whether a backup reads from it",
        backup::is_source,
    ),
    Command::new(
        c"pager_backup_ptr",
        1..=1,
        c"ID",
        "names of the backups that read from it",
        backup::names,
    ),
    Command::new(
        c"btree_copy_file",
        2..=2,
        c"TO FROM",
        "makes a database an exact copy of another and commits it",
        backup::copy_file,
    ),
];

const TRANSACTIONS: &[Command] = &[
    Command::new(
        c"btree_begin_transaction",
        1..=1,
        c"ID",
        "begins a write transaction",
        transaction::begin_transaction,
    ),
    Command::new(
        c"btree_begin_trans",
        2..=2,
        c"ID 0|1|2",
        "begins a transaction: read, write, exclusive",
        transaction::begin,
    ),
    Command::new(c"btree_commit", 1..=1, c"ID", "commits the transaction", transaction::commit),
    Command::new(
        c"btree_commit_phase_one",
        1..=2,
        c"ID ?SUPER?",
        "makes the transaction durable but not final",
        transaction::commit_phase_one,
    ),
    Command::new(
        c"btree_commit_phase_two",
        1..=1,
        c"ID",
        "makes the transaction final",
        transaction::commit_phase_two,
    ),
    Command::new(c"btree_rollback", 1..=1, c"ID", "undoes the transaction", transaction::rollback),
    Command::new(
        c"btree_is_in_trans",
        1..=1,
        c"ID",
        "whether a write transaction is open",
        transaction::is_writing,
    ),
    Command::new(
        c"btree_is_in_read_trans",
        1..=1,
        c"ID",
        "whether any transaction is open",
        transaction::is_reading,
    ),
    Command::new(
        c"btree_begin_statement",
        1..=1,
        c"ID",
        "opens the statement, a savepoint",
        transaction::begin_statement,
    ),
    Command::new(
        c"btree_commit_statement",
        1..=1,
        c"ID",
        "ends the statement, keeping its changes",
        transaction::commit_statement,
    ),
    Command::new(
        c"btree_rollback_statement",
        1..=1,
        c"ID",
        "ends the statement, undoing its changes",
        transaction::rollback_statement,
    ),
    Command::new(
        c"btree_begin_stmt",
        2..=2,
        c"ID N",
        "opens savepoints until there are N",
        transaction::begin_savepoints,
    ),
    Command::new(
        c"btree_savepoint",
        3..=3,
        c"ID release|rollback INDEX",
        "releases or rolls back a savepoint",
        transaction::savepoint,
    ),
];

const TREES: &[Command] = &[
    Command::new(c"btree_create_table", 2..=2, c"ID FLAGS", "makes a tree", table::create),
    Command::new(
        c"btree_drop_table",
        2..=3,
        c"ID TABLENUM",
        "removes a tree; a variable gets the root that was moved",
        table::drop,
    ),
    Command::new(
        c"btree_clear_table",
        2..=3,
        c"ID TABLENUM",
        "empties a tree; a variable is raised by the number of a table's entries",
        table::clear,
    ),
    Command::new(c"btree_get_meta", 1..=2, c"ID", "all meta values, or one", table::get_meta),
    Command::new(
        c"btree_update_meta",
        1..=ANY,
        c"ID METADATA...",
        "sets the meta values, or one: ID IDX VALUE",
        table::update_meta,
    )
    .with_tail("\" (METADATA is 10 integers)"),
    Command::new(
        c"btree_incr_vacuum",
        1..=1,
        c"ID",
        "gives one free page back: SQLITE_OK, or SQLITE_DONE if there is none",
        table::incremental_vacuum,
    ),
];

const CURSORS: &[Command] = &[
    Command::new(
        c"btree_cursor",
        3..=5,
        c"ID TABLENUM WRITEABLE",
        "opens a cursor; option -keyinfo LIST for an index of records",
        cursor::open,
    ),
    Command::new(c"btree_close_cursor", 1..=1, c"ID", "closes a cursor", cursor::close),
    Command::new(c"btree_first", 1..=1, c"ID", "moves to the first entry", cursor::first),
    Command::new(c"btree_last", 1..=1, c"ID", "moves to the last entry", cursor::last),
    Command::new(c"btree_next", 1..=1, c"ID", "moves to the next entry", cursor::next),
    Command::new(c"btree_prev", 1..=1, c"ID", "moves to the previous entry", cursor::previous),
    Command::new(c"btree_move_to", 2..=2, c"ID KEY", "moves to a key or near it", cursor::move_to),
    Command::new(
        c"btree_moveto_unpacked",
        2..=ANY,
        c"ID KEY ?-bias B? ?-ignorerowid? ?-incrkey? ?-prefixmatch? ?-prefixsearch VAR?",
        "moves to a key, an integer or a list of fields, or near it",
        cursor::move_to_unpacked,
    ),
    Command::new(c"btree_eof", 1..=1, c"ID", "whether it is on no entry", cursor::eof),
    Command::new(c"btree_count", 1..=1, c"ID", "number of entries of its tree", cursor::count),
    Command::new(c"btree_clear_cursor", 1..=1, c"ID", "forgets the position", cursor::clear),
    Command::new(
        c"btree_cursor_has_moved",
        1..=1,
        c"ID",
        "whether its entry has gone from under it",
        cursor::has_moved,
    ),
    Command::new(
        c"btree_trip_all_cursors",
        2..=2,
        c"ID CODE",
        "makes every cursor fail with a code from now on",
        cursor::trip_all,
    ),
    Command::new(
        c"btree_set_cached_rowid",
        2..=2,
        c"ID ROWID",
        "keeps a number with all cursors on its tree",
        cursor::set_cached_rowid,
    ),
    Command::new(
        c"btree_get_cached_rowid",
        1..=1,
        c"ID",
        "the number kept with the cursors on its tree",
        cursor::cached_rowid,
    ),
    Command::new(c"btree_cursor_size", 0..=0, c"", "bytes of memory for a cursor", cursor::size),
    Command::new(
        c"btree_insert",
        3..=8,
        c"ID KEY DATA",
        "inserts or replaces an entry; NZERO zero bytes may follow DATA",
        entry::insert,
    ),
    Command::new(
        c"btree_put_data",
        3..=3,
        c"ID OFFSET DATA",
        "overwrites a part of the data of the entry",
        entry::put_data,
    ),
    Command::new(c"btree_delete", 1..=1, c"ID", "deletes the entry", entry::delete),
    Command::new(c"btree_key", 1..=3, c"ID", "key of the entry, or a part of it", entry::key),
    Command::new(c"btree_keysize", 1..=1, c"ID", "bytes of the key", entry::key_size),
    Command::new(c"btree_data", 1..=3, c"ID", "data of the entry, or a part of it", entry::data),
    Command::new(c"btree_data_size", 1..=1, c"ID", "bytes of the data", entry::data_size),
    Command::new(c"btree_payload_size", 1..=1, c"ID", "bytes of key and data", entry::payload_size),
    Command::new(
        c"btree_fetch_key",
        2..=2,
        c"ID AMT",
        "key bytes on the page itself",
        entry::fetch_key,
    ),
    Command::new(
        c"btree_fetch_data",
        2..=2,
        c"ID AMT",
        "data bytes on the page itself",
        entry::fetch_data,
    ),
];

const SETTINGS: &[Command] = &[
    Command::new(
        c"btree_set_cache_size",
        2..=2,
        c"BT NCACHE",
        "sets the number of cached pages",
        settings::set_cache_size,
    ),
    Command::new(
        c"btree_get_cache_size",
        1..=1,
        c"ID",
        "number of cached pages as it was set",
        settings::cache_size,
    ),
    Command::new(
        c"btree_set_page_size",
        2..=4,
        c"ID N ?RES? ?FIX?",
        "sets page size and reserved bytes of a new database",
        settings::set_page_size,
    ),
    Command::new(c"btree_get_page_size", 1..=1, c"ID", "page size", settings::page_size),
    Command::new(
        c"btree_get_reserve",
        1..=1,
        c"ID",
        "reserved bytes of each page",
        settings::reserved,
    ),
    Command::new(
        c"btree_set_auto_vacuum",
        2..=2,
        c"ID 0|1|2",
        "sets auto-vacuum: none, full, incremental",
        settings::set_auto_vacuum,
    ),
    Command::new(
        c"btree_get_auto_vacuum",
        1..=1,
        c"ID",
        "kind of auto-vacuum",
        settings::auto_vacuum,
    ),
    Command::new(
        c"btree_max_page_count",
        1..=2,
        c"ID ?N?",
        "largest number of pages",
        settings::page_limit,
    ),
    Command::new(
        c"btree_set_safety_level",
        2..=3,
        c"ID off|normal|full|extra ?FULLSYNC?",
        "sets how much is synced",
        settings::set_safety_level,
    ),
    Command::new(
        c"btree_get_safety_level",
        1..=1,
        c"ID",
        "how much is synced",
        settings::safety_level,
    ),
    Command::new(
        c"btree_sync_disabled",
        1..=1,
        c"ID",
        "whether nothing is synced",
        settings::is_sync_disabled,
    ),
    Command::new(
        c"btree_set_codec",
        2..=2,
        c"ID xor:N|none",
        "sets what stands between pages and files",
        settings::set_codec,
    ),
    Command::new(
        c"btree_cursor_locks",
        1..=2,
        c"ID ?BOOL?",
        "whether read cursors keep writers out",
        settings::cursor_locks,
    ),
    Command::new(
        c"pager_journal_mode",
        1..=2,
        c"ID ?MODE?",
        "what becomes of the journal",
        settings::journal_mode,
    ),
    Command::new(
        c"pager_locking_mode",
        1..=2,
        c"ID ?MODE?",
        "whether locks are kept",
        settings::locking_mode,
    ),
    Command::new(
        c"pager_journal_size_limit",
        1..=2,
        c"ID ?N?",
        "largest size of the journal in bytes",
        settings::journal_size_limit,
    ),
];

const DIAGNOSTICS: &[Command] = &[
    Command::new(c"btree_pager_stats", 1..=1, c"ID", "counters of the pager", inspect::stats),
    Command::new(
        c"btree_cursor_info",
        1..=2,
        c"ID ?UP-CNT?",
        "ten numbers about a cursor's page",
        inspect::cursor_info,
    ),
    Command::new(
        c"btree_integrity_check",
        2..=ANY,
        c"ID ROOT ...",
        "what is wrong with the database",
        inspect::integrity_check,
    ),
    Command::new(c"btree_page_dump", 2..=2, c"ID", "prints a page", inspect::page_dump),
    Command::new(c"btree_tree_dump", 2..=2, c"ID", "prints a tree", inspect::tree_dump),
    Command::new(
        c"btree_pager_ref_dump",
        1..=1,
        c"ID",
        "prints the pinned pages",
        inspect::pinned_pages,
    ),
    Command::new(c"btree_cursor_list", 1..=1, c"ID", "prints the cursors", inspect::cursor_list),
    Command::new(
        c"btree_ovfl_info",
        2..=2,
        c"BTREE CURSOR",
        "overflow pages of the entry",
        inspect::overflow_pages,
    )
    .with_tail(""),
    Command::new(
        c"btree_page_info",
        2..=2,
        c"ID PGNO",
        "a page, decoded to a dictionary",
        inspect::page_info,
    ),
    Command::new(
        c"btree_ptrmap",
        2..=2,
        c"ID PGNO",
        "type and parent in the pointer map",
        inspect::pointer_map_entry,
    ),
    Command::new(c"btree_freelist", 1..=1, c"ID", "numbers of the free pages", inspect::free_pages),
    Command::new(
        c"btree_varint_test",
        4..=4,
        c"START MULTIPLIER COUNT INCREMENT",
        "tries the variable-length integer",
        varint::test,
    ),
    Command::new(
        c"btree_breakpoint",
        0..=ANY,
        c"?ARG ...?",
        "does nothing, for debuggers",
        help::breakpoint,
    ),
    Command::new(
        c"btree_help",
        0..=1,
        c"?NAME?",
        "lists the commands, or tells about one",
        help::help,
    ),
];

const RECORDS: &[Command] = &[
    Command::new(
        c"btree_make_record",
        0..=ANY,
        c"?-format N? VALUE...",
        "encodes values as a record",
        record::make,
    ),
    Command::new(c"btree_parse_record", 1..=1, c"BYTES", "decodes a record", record::parse),
];

const DISKS: &[Command] = &[
    Command::new(
        c"fake_big_file",
        2..=2,
        c"N-MEGABYTES FILE",
        "writes a few bytes so many megabytes behind the start of a file",
        os::fake_big_file,
    ),
    Command::new(
        c"sqlite3_test_control_pending_byte",
        1..=1,
        c"PENDING-BYTE",
        "sets the position of the lock bytes, unless it is 0; returns the one before",
        simulate::set_pending_byte,
    ),
    Command::new(
        c"sqlite3_release_memory",
        1..=1,
        c"N",
        "gives about N bytes of unused pages back, and returns how many",
        simulate::release_memory,
    ),
    Command::new(
        c"sqlite3_config_alt_pcache",
        3..=3,
        c"INSTALL CHANCE SEED",
        "databases opened later drop unused pages at random, with so many percent",
        simulate::random_discard,
    ),
    Command::new(
        c"sqlite3_memdebug_fail",
        1..=3,
        c"N ?-repeat N?",
        "makes the N-th next allocation fail, or so many from it on; 0 ends it",
        simulate::fail_allocation,
    ),
    Command::new(
        c"os_log",
        0..=1,
        c"?on|off|get|clear?",
        "the calls to the disk: {OP FILE ARGUMENTS THREAD ERROR} each",
        os::log,
    ),
    Command::new(
        c"os_fail",
        2..=6,
        c"OP N ?-persist? ?-torn? ?-code CODE?",
        "makes the N-th next call to the disk fail; 0 ends it",
        os::fail,
    ),
    Command::new(
        c"os_stall",
        2..=2,
        c"OP MS",
        "makes calls to the disk slow; 0 ends it",
        os::stall,
    ),
    Command::new(
        c"os_crash",
        1..=3,
        c"N ?-unsynced keep|lose|part?",
        "ends the process at the N-th next call to the disk",
        os::crash,
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_command_is_there_once() {
        let mut seen = HashSet::new();
        for command in all() {
            assert!(seen.insert(command.name), "{:?} twice", command.name);
            assert!(!command.help.is_empty() && !command.help.ends_with('.'));
            assert!(command.words.start() <= command.words.end());
        }
        let known = |name: &str| seen.iter().any(|seen| seen.to_bytes() == name.as_bytes());
        for name in HISTORIC {
            assert!(known(&format!("btree_{name}")), "btree_{name}");
        }
        assert_eq!(HISTORIC.len(), 42);
    }

    /// The commands of the original, without their prefix.
    const HISTORIC: &[&str] = &[
        "begin_statement",
        "begin_transaction",
        "breakpoint",
        "clear_table",
        "close",
        "close_cursor",
        "commit",
        "commit_statement",
        "create_table",
        "cursor",
        "cursor_info",
        "cursor_list",
        "data",
        "delete",
        "drop_table",
        "eof",
        "fetch_data",
        "fetch_key",
        "first",
        "from_db",
        "get_meta",
        "insert",
        "integrity_check",
        "ismemdb",
        "key",
        "keysize",
        "last",
        "move_to",
        "next",
        "open",
        "ovfl_info",
        "page_dump",
        "pager_ref_dump",
        "pager_stats",
        "payload_size",
        "prev",
        "rollback",
        "rollback_statement",
        "set_cache_size",
        "tree_dump",
        "update_meta",
        "varint_test",
    ];
}
