//! One transaction over several databases: all of it is committed, or nothing.
//!
//! ```text
//!   lock all ─ super-journal made ─ phase one of all ─ super-journal deleted ─ phase two of all
//!              lists the journals   each names it      ═ the commit point
//! ```
//!
//! A crash before the commit point leaves journals that name a super-journal which is there: each
//! is rolled back by whoever opens its database, in any order, and the last one deletes the
//! super-journal. After it the journals name a file that is gone, and are only removed.

use std::path::{Path, PathBuf};

use super::Btree;
use crate::error::{Error, Result};

impl Btree {
    /// Commits the transactions of all `databases` as one. Databases without a write transaction
    /// take no part. All are on one disk. What has no journal file (in memory, temporary, journal
    /// mode memory or off, safety level off) is committed with the others, but a crash can part it
    /// from them; if only one database is left then, there is no super-journal.
    ///
    /// # Errors
    /// [`Busy`](Error::Busy): a lock cannot be had; all transactions are still open and the call
    /// can be repeated. Any other error: all transactions were rolled back, but for those without
    /// a journal file whose turn was over.
    #[doc(alias = "vdbeCommit")]
    pub fn commit_all(databases: &mut [&mut Btree]) -> Result<()> {
        let result = lock_all(databases).and_then(|()| reach_commit_point(databases));
        match result {
            Ok(()) => finish_all(databases),
            Err(Error::Busy) => Err(Error::Busy),
            Err(error) => {
                roll_back_all(databases);
                Err(error)
            }
        }
    }

    /// The journal through which the open transaction can join others.
    fn joining_journal(&self) -> Option<&Path> {
        self.store.pager.journal_to_join()
    }
}

/// Takes every lock first: nothing has happened yet if one of them cannot be had.
fn lock_all(databases: &mut [&mut Btree]) -> Result<()> {
    for db in databases.iter_mut().filter(|db| db.is_writing()) {
        db.check_not_failed()?;
        db.store.pager.lock_for_commit()?;
    }
    Ok(())
}

/// Everything up to the commit point, if there is one for all.
fn reach_commit_point(databases: &mut [&mut Btree]) -> Result<()> {
    let journals = databases.iter().filter_map(|db| db.joining_journal().map(Path::to_owned));
    let journals: Vec<PathBuf> = journals.collect();
    let first = databases.iter().position(|db| db.joining_journal().is_some());
    let Some(first) = first.filter(|_| journals.len() > 1) else {
        return databases.iter_mut().try_for_each(|db| db.commit_phase_one(None));
    };
    let path = databases[first].store.pager.create_super_journal(&journals)?;
    let result = commit_by(databases, first, &path);
    // As long as a journal that names it has to be played back the super-journal stays: without it
    // that journal would count as committed. One that nobody names is harmless.
    if result.is_err() && roll_back_all(databases) {
        let _ = databases[first].store.pager.delete_super_journal(&path);
    }
    result
}

fn commit_by(databases: &mut [&mut Btree], first: usize, super_journal: &Path) -> Result<()> {
    for db in databases.iter_mut() {
        let joins = db.joining_journal().is_some();
        // All locks are held, so this cannot be busy and worth a second try.
        db.commit_phase_one(joins.then_some(super_journal)).map_err(|error| match error {
            Error::Busy => Error::Internal("a lock was lost"),
            other => other,
        })?;
    }
    let pager = &databases[first].store.pager;
    pager.delete_super_journal(super_journal)?;
    for db in databases.iter_mut() {
        db.store.pager.note_super_journal_deleted();
    }
    Ok(())
}

/// Behind the commit point: the journals go. What named the super-journal is committed even if
/// its journal cannot be ended; only others can fail here.
fn finish_all(databases: &mut [&mut Btree]) -> Result<()> {
    let mut result = Ok(());
    for db in databases.iter_mut() {
        let ended = db.commit_phase_two();
        if ended.is_err() && db.is_writing() {
            let _ = db.rollback();
        }
        result = result.and(ended);
    }
    result
}

/// Rolls every database back; what fails here the next one to open it finishes. Whether none did.
fn roll_back_all(databases: &mut [&mut Btree]) -> bool {
    let mut undone = true;
    for db in databases.iter_mut().filter(|db| db.is_writing()) {
        undone &= db.rollback().is_ok();
    }
    undone
}
