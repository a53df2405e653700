//! Errors as a script sees them: the result of the failed command, and `errorCode`.

use crate::error::{Error, IoCall, ReadOnlyReason};

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The engine refused: the result is the name of the code, `errorCode` is
    /// `SQLITE CODE extended-code text`.
    Engine(Error),
    /// A message of the command itself, with the words of `errorCode`.
    Message {
        /// The result.
        text: String,
        /// The words of `errorCode`.
        code: Vec<String>,
    },
    /// The number of words is wrong.
    WrongArgumentCount,
    /// Tcl has left result and `errorCode` in the interpreter already.
    Raised,
}

/// An error with the code of this name, told in the words `what` where it has words of its own.
/// `None` if there is no such code, or it stands for success.
pub(super) fn error_named(name: &str, what: &'static str) -> Option<Error> {
    let known = [
        Error::State(what),
        Error::Internal(what),
        Error::Permission,
        Error::Abort(what),
        Error::Busy,
        Error::Locked,
        Error::LockedSharedCache,
        Error::NoMemory,
        Error::ReadOnly(ReadOnlyReason::File),
        Error::Io { call: IoCall::Open, errno: 0 },
        Error::corrupt(what),
        Error::Full,
        Error::CannotOpen(what),
        Error::Protocol,
        Error::Empty,
        Error::Constraint(what),
        Error::Misuse(what),
        Error::NotADatabase(what),
    ];
    known.into_iter().find(|error| error.code().name == name)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Engine(error)
    }
}

impl Failure {
    /// A message of the command itself; `code` are the words of `errorCode`.
    pub(super) fn message(text: impl Into<String>, code: &[&str]) -> Failure {
        let code = code.iter().map(|&word| word.to_owned()).collect();
        Failure::Message { text: text.into(), code }
    }

    /// An integer that the command cannot take, in Tcl's own words for it.
    pub(super) fn too_large() -> Failure {
        let text = "integer value too large to represent";
        Failure::message(text, &["ARITH", "IOVERFLOW", text])
    }

    /// A panic stopped at the boundary: a defect of ours, never a way of reporting errors.
    pub(super) fn panicked(message: &str) -> Failure {
        let text = format!("internal error: {message}");
        Failure::message("SQLITE_INTERNAL", &["SQLITE", "SQLITE_INTERNAL", "2", &text])
    }

    /// The result of the command and the words of `errorCode`; `None` where Tcl makes them.
    pub(super) fn report(self) -> Option<(String, Vec<String>)> {
        match self {
            Failure::Engine(error) => {
                let code = error.code();
                let (extended, text) = (code.extended.to_string(), error.to_string());
                let words = ["SQLITE", code.name, &extended, &text].map(str::to_owned);
                Some((code.name.to_owned(), words.into()))
            }
            Failure::Message { text, code } => Some((text, code)),
            Failure::WrongArgumentCount | Failure::Raised => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_error_is_its_name_and_four_words() {
        let (text, code) = Failure::from(Error::Busy).report().unwrap();
        assert_eq!(text, "SQLITE_BUSY");
        assert_eq!(code, ["SQLITE", "SQLITE_BUSY", "5", "database is locked"]);
        let (text, code) = Failure::from(Error::BusyRecovery).report().unwrap();
        assert_eq!((text.as_str(), code[2].as_str()), ("SQLITE_BUSY", "261"));
    }
}
