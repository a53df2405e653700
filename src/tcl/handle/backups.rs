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
    /// `None` once it has ended: it then keeps no database from being closed.
    running: RefCell<Option<Running>>,
}

/// A backup that can go on.
#[derive(Debug)]
struct Running {
    destination: Rc<Database>,
    source: Rc<Database>,
    backup: Backup,
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
        let backup = {
            let (mut to, mut from) = Database::enter_both(&destination, &source)?;
            Backup::start(&mut to, &mut from)?
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let running = RefCell::new(Some(Running { destination, source, backup }));
        let opened = Rc::new(OpenBackup { number, name: name.to_owned(), running });
        session.backups.borrow_mut().insert(number, Rc::clone(&opened));
        Ok(opened)
    }

    /// See [`Backup::step`].
    ///
    /// # Errors
    /// As there; [`Error::Misuse`] once it has ended.
    pub(in crate::tcl) fn step(&self, pages: Option<u32>) -> Result<bool> {
        let mut running = self.running.try_borrow_mut().map_err(|_| IN_USE)?;
        let Running { destination, source, backup } = running.as_mut().ok_or(ENDED)?;
        let (mut to, mut from) = Database::enter_both(destination, source)?;
        backup.step(&mut to, &mut from, pages)
    }

    /// Pages that are left, and pages of the source, as of the last step.
    ///
    /// # Errors
    /// [`Error::Misuse`] once it has ended.
    pub(in crate::tcl) fn progress(&self) -> Result<(u32, u32)> {
        let running = self.running.try_borrow().map_err(|_| IN_USE)?;
        let backup = &running.as_ref().ok_or(ENDED)?.backup;
        Ok((backup.remaining(), backup.page_count()))
    }

    /// Ends the backup. Nothing happens the second time.
    ///
    /// # Errors
    /// Those of [`Backup::finish`].
    pub(in crate::tcl) fn finish(&self, session: &Session) -> Result<()> {
        session.backups.borrow_mut().remove(&self.number);
        let running = self.running.try_borrow_mut().map_err(|_| IN_USE)?.take();
        let Some(Running { destination, source, backup }) = running else { return Ok(()) };
        let (mut to, mut from) = Database::enter_both(&destination, &source)?;
        backup.finish(&mut to, &mut from)
    }

    /// Whether it goes on between databases of which `is_it` is true.
    fn is_running(&self, is_it: impl FnOnce(&Running) -> bool) -> bool {
        self.running.try_borrow().is_ok_and(|running| running.as_ref().is_some_and(is_it))
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
            let involves =
                |running: &Running| running.source.is(database) || running.destination.is(database);
            if backup.is_running(involves) {
                ending.push(Rc::clone(backup));
            }
        }
        for backup in ending {
            let _ = backup.finish(self); // The destination is rolled back, or will be at close.
        }
    }

    /// Ends all backups.
    pub(super) fn finish_all_backups(&self) {
        let backups: Vec<_> = self.backups.borrow().values().cloned().collect();
        for backup in backups {
            let _ = backup.finish(self); // As above.
        }
    }

    /// Names of the commands of the backups that read from the page cache of a database, through
    /// whichever connection, oldest first.
    pub(in crate::tcl) fn backups_reading(&self, database: &Database) -> Vec<String> {
        let backups = self.backups.borrow();
        let reads = |running: &Running| running.source.pager == database.pager;
        let mut reading: Vec<_> =
            backups.values().filter(|backup| backup.is_running(reads)).collect();
        reading.sort_unstable_by_key(|backup| backup.number);
        reading.into_iter().map(|backup| backup.name.clone()).collect()
    }
}
