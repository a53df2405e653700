//! Backups: each is a command of the name that the script gave it.
//!
//! Invariants:
//!
//! H5. A backup is in the table of its session exactly while it can go on. Closing one of its two
//!     databases, finishing it or deleting its command takes it out and ends it first.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::super::result_code::Failure;
use super::{Database, NEXT, Session};
use crate::btree::Backup;
use crate::error::{Error, Result};

/// A backup that a script has begun.
#[derive(Debug)]
pub(in crate::tcl) struct OpenBackup {
    number: u64,
    /// The name of its command.
    name: String,
    destination: Rc<Database>,
    source: Rc<Database>,
    /// `None` once it has ended.
    backup: RefCell<Option<Backup>>,
}

impl OpenBackup {
    /// Begins to copy `source` into `destination`.
    ///
    /// # Errors
    /// Those of [`Backup::start`].
    pub(in crate::tcl) fn start(
        session: &Session,
        name: &str,
        destination: Rc<Database>,
        source: Rc<Database>,
    ) -> Result<Rc<OpenBackup>, Failure> {
        let backup = Backup::start(&mut *destination.enter()?, &mut *source.enter()?)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (name, backup) = (name.to_owned(), RefCell::new(Some(backup)));
        let opened = Rc::new(OpenBackup { number, name, destination, source, backup });
        session.backups.borrow_mut().insert(number, Rc::clone(&opened));
        Ok(opened)
    }

    /// See [`Backup::step`].
    ///
    /// # Errors
    /// As there; [`Error::Misuse`] once it has ended.
    pub(in crate::tcl) fn step(&self, pages: Option<u32>) -> Result<bool> {
        let mut backup = self.backup.try_borrow_mut().map_err(|_| IN_USE)?;
        let backup = backup.as_mut().ok_or(ENDED)?;
        backup.step(&mut *self.destination.enter()?, &mut *self.source.enter()?, pages)
    }

    /// Pages that are left, and pages of the source, as of the last step.
    ///
    /// # Errors
    /// [`Error::Misuse`] once it has ended.
    pub(in crate::tcl) fn progress(&self) -> Result<(u32, u32)> {
        let backup = self.backup.try_borrow().map_err(|_| IN_USE)?;
        let backup = backup.as_ref().ok_or(ENDED)?;
        Ok((backup.remaining(), backup.page_count()))
    }

    /// Ends the backup. Nothing happens the second time.
    ///
    /// # Errors
    /// Those of [`Backup::finish`].
    pub(in crate::tcl) fn finish(&self, session: &Session) -> Result<()> {
        session.backups.borrow_mut().remove(&self.number);
        let backup = self.backup.try_borrow_mut().map_err(|_| IN_USE)?.take();
        let Some(backup) = backup else { return Ok(()) };
        backup.finish(&mut *self.destination.enter()?, &mut *self.source.enter()?)
    }

    /// The name of its command, from the root of all names.
    pub(in crate::tcl) fn command(&self) -> String {
        if self.name.starts_with("::") { self.name.clone() } else { format!("::{}", self.name) }
    }
}

const IN_USE: Error = Error::Internal("the backup is in use");
const ENDED: Error = Error::Misuse("the backup has ended");

impl Session {
    /// Ends the backups that read from a database or write into it.
    pub(super) fn finish_backups_of(&self, database: &Database) {
        let mut ending = Vec::new();
        for backup in self.backups.borrow().values() {
            if backup.destination.is(database) || backup.source.is(database) {
                ending.push(Rc::clone(backup));
            }
        }
        for backup in ending {
            let _ = backup.finish(self); // The destination is rolled back, or will be at close.
        }
    }

    /// Names of the commands of the backups that read from a database, oldest first.
    pub(in crate::tcl) fn backups_reading(&self, database: &Database) -> Vec<String> {
        let backups = self.backups.borrow();
        let mut reading: Vec<_> =
            backups.values().filter(|backup| backup.source.is(database)).collect();
        reading.sort_unstable_by_key(|backup| backup.number);
        reading.into_iter().map(|backup| backup.name.clone()).collect()
    }
}
