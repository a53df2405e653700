//! The pager's share in a transaction of several databases.
//!
//! The super-journal lists the journals of all of them and each journal names it, so that all
//! commit at one moment: when the super-journal is deleted. See the layer above for the order.

use std::path::{Path, PathBuf};

use super::journal::encode_journal_list;
use super::{PageInfo, Pager, SafetyLevel};
use crate::error::{Error, IoCall, Result};
use crate::os::{Access, OpenKind, OpenRequest};

/// Names that are tried for a super-journal before giving up.
const TRIES: usize = 32;

/// The super-journal of a transaction.
#[derive(Debug, Default)]
pub(super) enum SuperJournal {
    /// There is none.
    #[default]
    None,
    /// The journal names this one.
    Named(PathBuf),
    /// The one that the journal names was deleted.
    Gone,
}

/// Several databases in one transaction.
impl<X: PageInfo> Pager<X> {
    /// The journal through which the open transaction can commit together with others; `None` if
    /// nothing was changed, or if there is no journal file that outlives a crash.
    pub fn journal_to_join(&self) -> Option<&Path> {
        let joins = self.is_changed()
            && self.is_file()
            && self.keeps_journal_file()
            && self.safety != SafetyLevel::Off;
        self.journal_path.as_deref().filter(|_| joins)
    }

    /// Makes a super-journal beside this database that lists `journals`, and makes it durable.
    /// Returns its absolute path.
    ///
    /// # Errors
    /// [`CannotOpen`](crate::Error::CannotOpen), [`Full`](crate::Error::Full),
    /// [`Io`](crate::Error::Io), [`NoMemory`](crate::Error::NoMemory): it is not left behind, if
    /// it can be deleted.
    pub fn create_super_journal(&self, journals: &[PathBuf]) -> Result<PathBuf> {
        self.file.check_process()?;
        let list = encode_journal_list(journals)?;
        let mut last = Error::CannotOpen("no name for a super-journal");
        for _ in 0..TRIES {
            let path = self.super_journal_name()?;
            if self.vfs.exists(&path)? {
                continue;
            }
            match self.write_super_journal(&path, &list) {
                Ok(()) => return Ok(path),
                Err(error @ Error::CannotOpen(_)) => last = error, // An empty file of that name.
                Err(error) => {
                    let _ = self.vfs.delete(&path, false);
                    return Err(error);
                }
            }
        }
        Err(last)
    }

    fn super_journal_name(&self) -> Result<PathBuf> {
        let database = self.database_path().ok_or(Error::Misuse("the database has no file"))?;
        let random = self.vfs.random();
        let mut name = database.as_os_str().to_owned();
        name.push(format!("-mj{:06X}9{:02X}", random >> 8, random & 0xff));
        Ok(PathBuf::from(name))
    }

    fn write_super_journal(&self, path: &Path, list: &[u8]) -> Result<()> {
        let request = OpenRequest {
            kind: OpenKind::SuperJournal,
            access: Access::Create,
            exclusive: true,
            delete_on_close: false,
            lock_offset: self.lock_offset,
        };
        let mut file = self.vfs.open(Some(path), request)?.file;
        let written = file
            .write_at(list, 0)
            .and_then(|()| file.sync(self.sync_kind()))
            .and_then(|()| self.vfs.sync_directory(path));
        // An error here is not one of opening, whatever the directory says.
        written.map_err(|error| match error {
            Error::CannotOpen(_) => Error::Io { call: IoCall::SyncDirectory, errno: 0 },
            other => other,
        })
    }

    /// Deletes a super-journal: the commit point of all that name it. If the deletion cannot be
    /// made durable that is no error, since nobody can go back behind it.
    ///
    /// # Errors
    /// Those of deleting: as far as can be told the file is still there.
    pub fn delete_super_journal(&self, path: &Path) -> Result<()> {
        self.file.check_process()?;
        let Err(error) = self.vfs.delete(path, true) else { return Ok(()) };
        let is_gone = match self.vfs.exists(path) {
            Ok(exists) => !exists,
            Err(_) => matches!(error, Error::Io { call: IoCall::SyncDirectory, .. }),
        };
        if is_gone { Ok(()) } else { Err(error) }
    }

    /// The super-journal that the open transaction has named was deleted: the transaction is
    /// committed, whatever becomes of its journal. Without such a name nothing happens.
    pub fn note_super_journal_deleted(&mut self) {
        if let SuperJournal::Named(_) = self.transaction.super_journal {
            self.transaction.super_journal = SuperJournal::Gone;
        }
    }

    /// Whether the super-journal that the open transaction has named is gone.
    pub(super) fn is_committed_elsewhere(&self) -> Result<bool> {
        match &self.transaction.super_journal {
            SuperJournal::None => Ok(false),
            SuperJournal::Named(path) => Ok(!self.vfs.exists(path)?),
            SuperJournal::Gone => Ok(true),
        }
    }
}
