//! The one error type of the engine, and its mapping to SQLite's result codes.
//!
//! An [`Error`] carries what is known about the failure; [`Error::code`] is the only place that
//! turns it into the number and the name that SQLite and its scripts use.

use std::fmt;

/// Shorthand for results of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call makes no sense in the present state, for example a change without a transaction.
    #[error("{0}")]
    State(&'static str),
    /// The cursor or file was opened for reading only.
    #[error("access permission denied")]
    Permission,
    /// What the call refers to was undone by a rollback, or the cursor is on no entry.
    #[error("{0}")]
    Abort(&'static str),
    /// Another connection or process holds a conflicting file lock.
    #[error("database is locked")]
    Busy,
    /// A hot journal has to be rolled back, but somebody else is in the way.
    #[error("database is locked by another connection's recovery")]
    BusyRecovery,
    /// An open cursor of this connection stands in the way.
    #[error("database table is locked")]
    Locked,
    /// Another connection of the same shared cache stands in the way.
    #[error("database table is locked by another connection of the shared cache")]
    LockedSharedCache,
    /// An allocation failed.
    #[error("out of memory")]
    NoMemory,
    /// The database cannot be written.
    #[error("attempt to write a read-only database ({0})")]
    ReadOnly(ReadOnlyReason),
    /// The operating system failed a call.
    #[error("{call} failed (errno {errno})")]
    Io {
        /// Which call it was.
        call: IoCall,
        /// The system's error number; 0 where the failure is simulated or has no number.
        errno: i32,
    },
    /// Bytes in a file contradict the file format.
    #[error("page {page}: {what}")]
    Corrupt {
        /// The page in which the contradiction was met; 0 if it is not about one page.
        page: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The disk, or a limit set by the user, is full.
    #[error("database or disk is full")]
    Full,
    /// A file could not be opened or created.
    #[error("unable to open the file: {0}")]
    CannotOpen(&'static str),
    /// A locking protocol was violated.
    #[error("locking protocol")]
    Protocol,
    /// Table 1 of a database without pages.
    #[error("the database has no pages")]
    Empty,
    /// A rule on the arguments of two calls together was violated.
    #[error("{0}")]
    Constraint(&'static str),
    /// An argument is outside of what the function accepts.
    #[error("{0}")]
    Misuse(&'static str),
    /// The file is not a database, or one of a format that cannot be read.
    #[error("file is not a database: {0}")]
    NotADatabase(&'static str),
    /// The engine broke one of its own rules; the object at fault is unusable from here on.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// Why a database cannot be written; the extended codes of `SQLITE_READONLY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnlyReason {
    /// The file or the connection allows reading only.
    File,
    /// A hot journal must be rolled back first, which a read-only connection cannot do.
    Rollback,
    /// The path does not lead to the open file any more.
    Moved,
    /// The setting is fixed, because the database has pages already.
    Fixed,
    /// The cursor was opened for reading.
    Cursor,
}

impl fmt::Display for ReadOnlyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadOnlyReason::File => "file or connection is read-only",
            ReadOnlyReason::Rollback => "a hot journal must be rolled back first",
            ReadOnlyReason::Moved => "the file was moved",
            ReadOnlyReason::Fixed => "the setting is fixed",
            ReadOnlyReason::Cursor => "the cursor was opened for reading",
        })
    }
}

/// The kinds of system call that can fail with [`Error::Io`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the name of the call")]
pub enum IoCall {
    Read,
    ShortRead,
    Write,
    Sync,
    SyncDirectory,
    Truncate,
    Size,
    Lock,
    Unlock,
    CheckReservedLock,
    Close,
    Delete,
    Exists,
    Open,
}

impl fmt::Display for IoCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IoCall::Read => "read",
            IoCall::ShortRead => "read (short)",
            IoCall::Write => "write",
            IoCall::Sync => "sync",
            IoCall::SyncDirectory => "directory sync",
            IoCall::Truncate => "truncate",
            IoCall::Size => "size query",
            IoCall::Lock => "lock",
            IoCall::Unlock => "unlock",
            IoCall::CheckReservedLock => "lock query",
            IoCall::Close => "close",
            IoCall::Delete => "delete",
            IoCall::Exists => "existence query",
            IoCall::Open => "open",
        })
    }
}

/// An error in the terms of SQLite's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultCode {
    /// Name of the primary code, e.g. `SQLITE_BUSY`; of 262 the extended name.
    pub name: &'static str,
    /// The primary code.
    pub primary: u32,
    /// The extended code: `primary` + 256·k.
    pub extended: u32,
}

impl Error {
    /// The result code that SQLite's interface has for this error.
    pub fn code(&self) -> ResultCode {
        let (name, extended) = match *self {
            Error::State(_) => ("SQLITE_ERROR", 1),
            Error::Internal(_) => ("SQLITE_INTERNAL", 2),
            Error::Permission => ("SQLITE_PERM", 3),
            Error::Abort(_) => ("SQLITE_ABORT", 4),
            Error::Busy => ("SQLITE_BUSY", 5),
            Error::BusyRecovery => ("SQLITE_BUSY", 261),
            Error::Locked => ("SQLITE_LOCKED", 6),
            Error::LockedSharedCache => ("SQLITE_LOCKED_SHAREDCACHE", 262),
            Error::NoMemory => ("SQLITE_NOMEM", 7),
            Error::ReadOnly(reason) => {
                let extended = match reason {
                    ReadOnlyReason::File | ReadOnlyReason::Fixed | ReadOnlyReason::Cursor => 8,
                    ReadOnlyReason::Rollback => 776,
                    ReadOnlyReason::Moved => 1032,
                };
                ("SQLITE_READONLY", extended)
            }
            Error::Io { call, .. } => ("SQLITE_IOERR", 10 + 256 * call.extension()),
            Error::Corrupt { .. } => ("SQLITE_CORRUPT", 11),
            Error::Full => ("SQLITE_FULL", 13),
            Error::CannotOpen(_) => ("SQLITE_CANTOPEN", 14),
            Error::Protocol => ("SQLITE_PROTOCOL", 15),
            Error::Empty => ("SQLITE_EMPTY", 16),
            Error::Constraint(_) => ("SQLITE_CONSTRAINT", 19),
            Error::Misuse(_) => ("SQLITE_MISUSE", 21),
            Error::NotADatabase(_) => ("SQLITE_NOTADB", 26),
        };
        ResultCode { name, primary: extended & 0xff, extended }
    }

    /// The same error, with the page number filled in where a decoder did not know it.
    #[must_use]
    pub fn on_page(self, number: u32) -> Error {
        match self {
            Error::Corrupt { page: 0, what } => Error::Corrupt { page: number, what },
            other => other,
        }
    }

    /// A contradiction found by a decoder that does not know its page; see [`Error::on_page`].
    #[cold]
    pub const fn corrupt(what: &'static str) -> Error {
        Error::Corrupt { page: 0, what }
    }
}

impl IoCall {
    /// The k of the extended code 10 + 256·k.
    const fn extension(self) -> u32 {
        match self {
            IoCall::Read => 1,
            IoCall::ShortRead => 2,
            IoCall::Write => 3,
            IoCall::Sync => 4,
            IoCall::SyncDirectory => 5,
            IoCall::Truncate => 6,
            IoCall::Size => 7,
            IoCall::Unlock => 8,
            IoCall::Delete => 10,
            IoCall::Exists => 13,
            IoCall::CheckReservedLock => 14,
            IoCall::Lock => 15,
            IoCall::Close => 16,
            IoCall::Open => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_codes_keep_their_primary() {
        let short = Error::Io { call: IoCall::ShortRead, errno: 0 }.code();
        assert_eq!((short.name, short.primary, short.extended), ("SQLITE_IOERR", 10, 522));
        let delete = Error::Io { call: IoCall::Delete, errno: 5 }.code();
        assert_eq!((delete.primary, delete.extended), (10, 2570));
        assert_eq!(Error::LockedSharedCache.code().primary, 6);
        assert_eq!(Error::ReadOnly(ReadOnlyReason::Moved).code().extended, 1032);
    }

    #[test]
    fn a_page_number_is_filled_in_once() {
        let error = Error::corrupt("x").on_page(7);
        assert_eq!(error, Error::Corrupt { page: 7, what: "x" });
        assert_eq!(error.on_page(8), error);
        assert_eq!(Error::Busy.on_page(8), Error::Busy);
    }
}
