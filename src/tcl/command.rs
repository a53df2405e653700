//! `Command`, an entry of the table of commands, and `Call`, one call of it.

use std::ffi::CStr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::rc::Rc;

use super::commands::OsFile;
use super::handle::{AnyPager, Client, Cursor, Database, OpenBackup, OpenPager, Page, Session};
use super::interp::Interp;
use super::result_code::Failure;
use super::value::{Obj, Value};
use crate::error::Error;

/// No upper limit on the number of words.
pub(super) const ANY: usize = usize::MAX;

/// What a command does.
pub(super) type Run = fn(&mut Call<'_>) -> Outcome;

/// What becomes of a command.
pub(super) type Outcome = Result<Reply, Failure>;

/// One command.
#[derive(Debug)]
pub(super) struct Command {
    /// Its name.
    pub(super) name: &'static CStr,
    /// How many words may follow the name.
    pub(super) words: RangeInclusive<usize>,
    /// The words as the message about a wrong number shows them.
    pub(super) usage: &'static CStr,
    /// What the message has in place of the closing quote; two historic ones differ there.
    pub(super) tail: &'static str,
    /// What it does, in one line.
    pub(super) help: &'static str,
    /// Does it.
    pub(super) run: Run,
}

impl Command {
    /// A command of the table.
    pub(super) const fn new(
        name: &'static CStr,
        words: RangeInclusive<usize>,
        usage: &'static CStr,
        help: &'static str,
        run: Run,
    ) -> Command {
        Command { name, words, usage, tail: "\"", help, run }
    }

    /// The same with another end of the message about a wrong number of words.
    pub(super) const fn with_tail(mut self, tail: &'static str) -> Command {
        self.tail = tail;
        self
    }

    /// Runs the command, its number of words checked. [`Command::review`] completes the outcome.
    #[inline]
    pub(super) fn call(&self, call: &mut Call<'_>) -> Outcome {
        if self.words.contains(&call.count()) {
            (self.run)(call)
        } else {
            Err(Failure::WrongArgumentCount)
        }
    }

    /// Asks the busy handler of the database, if the command was refused because a file is locked,
    /// whether to run it again; words the message about a wrong number of words.
    #[inline]
    pub(super) fn review(&self, call: &mut Call<'_>, outcome: &mut Outcome) {
        if call.session.has_asked() {
            self.ask_and_repeat(call, outcome);
        }
        if matches!(outcome, Err(Failure::WrongArgumentCount)) {
            self.explain_words(call, outcome);
        }
    }

    #[cold]
    fn explain_words(&self, call: &mut Call<'_>, outcome: &mut Outcome) {
        *outcome = Err(self.wrong_argument_count(call));
    }

    /// Asks the busy handler, and again after each repetition that is refused. A command that is
    /// refused has changed nothing that its repetition would mind.
    #[cold]
    fn ask_and_repeat(&self, call: &mut Call<'_>, outcome: &mut Outcome) {
        let mut tries = 0u32;
        while let Some(script) = call.session.take_busy_handler_asked()
            && matches!(outcome, Err(Failure::Engine(Error::Busy | Error::BusyRecovery)))
        {
            let answer = call.interp.eval_at_top(&Obj::text(&format!("{script} {tries}")));
            match answer.and_then(|answer| answer.boolean(&mut call.interp)) {
                Ok(true) => {
                    tries = tries.saturating_add(1);
                    *outcome = (self.run)(call);
                }
                Ok(false) => return,
                Err(failure) => {
                    *outcome = Err(failure);
                    return;
                }
            }
        }
    }

    /// `wrong # args: should be "NAME ARGS"`, NAME as it was typed.
    fn wrong_argument_count(&self, call: &mut Call<'_>) -> Failure {
        let Some(name) = call.words.first() else { return Failure::WrongArgumentCount };
        if self.tail == "\"" {
            call.interp.wrong_argument_count(name, self.usage);
            return Failure::Raised;
        }
        let name = name.string(&mut call.interp);
        let (usage, tail) = (self.usage.to_string_lossy(), self.tail);
        let text = format!("wrong # args: should be \"{name} {usage}{tail}");
        Failure::message(text, &["TCL", "WRONGARGS"])
    }
}

/// The result of a command that succeeded.
#[derive(Debug)]
pub(super) struct Reply(pub(super) Option<Obj>);

impl From<()> for Reply {
    fn from((): ()) -> Reply {
        Reply(None)
    }
}

impl<T> From<T> for Reply
where
    Obj: From<T>,
{
    fn from(value: T) -> Reply {
        Reply(Some(Obj::from(value)))
    }
}

/// One call of a command. Words count from 1; 0 is the name.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// The interpreter.
    pub(super) interp: Interp<'a>,
    /// What the interpreter has open.
    pub(super) session: &'a Session,
    /// What the command was made for, if it is one of a backup.
    pub(super) backup: Option<Rc<OpenBackup>>,
    words: &'a [Value],
}

impl<'a> Call<'a> {
    /// A call with these words.
    pub(super) fn new(interp: Interp<'a>, session: &'a Session, words: &'a [Value]) -> Call<'a> {
        Call { interp, session, backup: None, words }
    }

    /// Number of words behind the name.
    pub(super) fn count(&self) -> usize {
        self.words.len().saturating_sub(1)
    }

    /// Whether there is a word `index`.
    pub(super) fn has(&self, index: usize) -> bool {
        index <= self.count()
    }

    /// The words from `index` on.
    pub(super) fn rest(&self, index: usize) -> &'a [Value] {
        self.words.get(index..).unwrap_or_default()
    }

    /// Word `index`.
    ///
    /// # Errors
    /// [`Failure::WrongArgumentCount`] if there is none, as for all methods below.
    #[inline]
    pub(super) fn word(&self, index: usize) -> Result<&'a Value, Failure> {
        self.words.get(index).ok_or(Failure::WrongArgumentCount)
    }

    /// The database named by word `index`.
    ///
    /// # Errors
    /// `no such btree: "X"`.
    pub(super) fn database(&mut self, index: usize) -> Result<Rc<Database>, Failure> {
        self.session.database(self.word(index)?.text(&mut self.interp))
    }

    /// The client named by word `index`, or whose database it is.
    ///
    /// # Errors
    /// `no such client: "X"`.
    pub(super) fn client(&mut self, index: usize) -> Result<Rc<Client>, Failure> {
        self.session.client_named(self.word(index)?.text(&mut self.interp))
    }

    /// The cursor named by word `index`.
    ///
    /// # Errors
    /// `no such cursor: "X"`.
    #[inline]
    pub(super) fn cursor(&mut self, index: usize) -> Result<Rc<Cursor>, Failure> {
        self.session.cursor(self.word(index)?.text(&mut self.interp))
    }

    /// The file named by word `index`.
    ///
    /// # Errors
    /// `no such file: "X"`.
    pub(super) fn file(&mut self, index: usize) -> Result<Rc<OsFile>, Failure> {
        self.session.file(self.word(index)?.text(&mut self.interp))
    }

    /// The pager named by word `index`, which may be that of a database.
    ///
    /// # Errors
    /// `no such pager: "X"`.
    pub(super) fn pager(&mut self, index: usize) -> Result<AnyPager, Failure> {
        self.session.pager(self.word(index)?.text(&mut self.interp))
    }

    /// The pager by itself that is named by word `index`.
    ///
    /// # Errors
    /// `no such pager: "X"`; [`Error::Misuse`] for the pager of a database (P9).
    pub(super) fn own_pager(&mut self, index: usize) -> Result<Rc<OpenPager>, Failure> {
        match self.pager(index)? {
            AnyPager::Own(pager) => Ok(pager),
            AnyPager::Below(_) => Err(Error::Misuse("the pager of a database").into()),
        }
    }

    /// The database whose pager is named by word `index`.
    ///
    /// # Errors
    /// `no such pager: "X"`; [`Error::Misuse`] for a pager by itself.
    pub(super) fn database_of_pager(&mut self, index: usize) -> Result<Rc<Database>, Failure> {
        match self.pager(index)? {
            AnyPager::Below(database) => Ok(database),
            AnyPager::Own(_) => Err(Error::Misuse("a pager without a database").into()),
        }
    }

    /// The page named by word `index`.
    ///
    /// # Errors
    /// `no such page: "X"`.
    pub(super) fn page(&mut self, index: usize) -> Result<Rc<Page>, Failure> {
        self.session.page(self.word(index)?.text(&mut self.interp))
    }

    /// See [`Value::int`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn int(&mut self, index: usize) -> Result<i32, Failure> {
        self.word(index)?.int(&mut self.interp)
    }

    /// [`Value::int`] of an optional word.
    ///
    /// # Errors
    /// As there.
    pub(super) fn optional_int(&mut self, index: usize) -> Result<Option<i32>, Failure> {
        if self.has(index) { self.int(index).map(Some) } else { Ok(None) }
    }

    /// See [`Value::wide`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn wide(&mut self, index: usize) -> Result<i64, Failure> {
        self.word(index)?.wide(&mut self.interp)
    }

    /// See [`Value::bits`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn bits(&mut self, index: usize) -> Result<u32, Failure> {
        self.word(index)?.bits(&mut self.interp)
    }

    /// See [`Value::boolean`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn boolean(&mut self, index: usize) -> Result<bool, Failure> {
        self.word(index)?.boolean(&mut self.interp)
    }

    /// See [`Value::string`].
    ///
    /// # Errors
    /// [`Failure::WrongArgumentCount`].
    pub(super) fn string(&mut self, index: usize) -> Result<String, Failure> {
        Ok(self.word(index)?.string(&mut self.interp))
    }

    /// See [`Value::path`].
    ///
    /// # Errors
    /// [`Failure::WrongArgumentCount`].
    pub(super) fn path(&mut self, index: usize) -> Result<PathBuf, Failure> {
        Ok(self.word(index)?.path(&mut self.interp))
    }

    /// A page number: any integer is one to the command, and what the file format cannot have
    /// becomes 0, which the engine refuses with `SQLITE_CORRUPT` when its turn has come.
    ///
    /// # Errors
    /// As [`Value::wide`].
    pub(super) fn page_number(&mut self, index: usize) -> Result<u32, Failure> {
        let number = u32::try_from(self.wide(index)?).unwrap_or(0);
        Ok(if number <= i32::MAX as u32 { number } else { 0 })
    }

    /// An integer as the pager commands take it: up to 4294967295 in magnitude.
    ///
    /// # Errors
    /// As [`Value::wide`].
    pub(super) fn magnitude_of_32_bits(&mut self, index: usize) -> Result<i64, Failure> {
        let value = self.wide(index)?;
        let fits = value.unsigned_abs() <= u64::from(u32::MAX);
        if fits { Ok(value) } else { Err(Failure::too_large()) }
    }
}
