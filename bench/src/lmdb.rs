//! LMDB, which maps its file into memory and copies every page it changes.
#![allow(unsafe_code)]

use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{
    CommitOrAbort, Database, DatabaseFlags, Env, EnvFlags, EnvOpenOptions, PutFlags, RoTxn, RwTxn,
    WithTls,
};

use crate::data::{Entry, Piece, sum_words};
use crate::lent::Lent;
use crate::store::{Durability, Failure, KeyKind, Result, Settings, Store};

/// Address space for the file: no file of the workloads is longer.
const MAP_SIZE: usize = 16 << 30;

type Tree = Database<'static, Bytes, Bytes>;

/// LMDB through `heed`. Fields are dropped in this order (L1 of `lent.rs`).
pub struct Lmdb {
    transaction: Transaction,
    tree: Tree,
    kind: KeyKind,
    environment: Lent<Env<WithTls>>,
}

enum Transaction {
    None,
    Read(RoTxn<'static, WithTls>),
    Write(RwTxn<'static>),
}

impl From<heed::Error> for Failure {
    fn from(error: heed::Error) -> Failure {
        Failure(format!("LMDB: {error}"))
    }
}

fn no_transaction() -> Failure {
    Failure("no transaction".into())
}

#[allow(deprecated, reason = "a comparator in the type would make two types of one tree")]
fn flags(kind: KeyKind) -> DatabaseFlags {
    match kind {
        KeyKind::Int => DatabaseFlags::INTEGER_KEY,
        KeyKind::Key => DatabaseFlags::empty(),
    }
}

/// Makes the tree, or opens it in a transaction for reading.
fn open_tree(environment: &'static Env<WithTls>, kind: KeyKind, is_new: bool) -> Result<Tree> {
    let opened: CommitOrAbort<Option<Tree>, ()> = if is_new {
        environment.create_databases_and_commit(environment.write_txn()?, |opener, txn| {
            let mut options = opener.database_options().types::<Bytes, Bytes>();
            let tree = options.flags(flags(kind)).create(txn)?;
            Ok::<_, heed::Error>(CommitOrAbort::Commit(Some(tree)))
        })?
    } else {
        environment.open_databases_and_commit(environment.read_txn()?, |opener, txn| {
            let mut options = opener.database_options().types::<Bytes, Bytes>();
            let tree = options.flags(flags(kind)).open(txn)?;
            Ok::<_, heed::Error>(CommitOrAbort::Commit(tree))
        })?
    };
    opened.commit().flatten().ok_or_else(|| Failure("LMDB: no tree".into()))
}

/// Bytes of a key as LMDB wants them: an integer in the machine's order.
#[inline]
fn with_key<T>(kind: KeyKind, entry: &Entry<'_>, work: impl FnOnce(&[u8]) -> T) -> T {
    match kind {
        KeyKind::Int => work(&(entry.rowid as u64).to_ne_bytes()),
        KeyKind::Key => work(entry.key),
    }
}

#[inline]
fn number(kind: KeyKind, key: &[u8]) -> u64 {
    match kind {
        KeyKind::Int => key.try_into().map_or(0, u64::from_ne_bytes),
        KeyKind::Key => sum_words(key),
    }
}

impl Lmdb {
    #[inline]
    fn reader(&self) -> Result<&RoTxn<'static>> {
        match &self.transaction {
            Transaction::None => Err(no_transaction()),
            Transaction::Read(txn) => Ok(txn),
            Transaction::Write(txn) => Ok(txn),
        }
    }

    #[inline]
    fn writer(&mut self) -> Result<(&Tree, &mut RwTxn<'static>)> {
        match &mut self.transaction {
            Transaction::Write(txn) => Ok((&self.tree, txn)),
            _ => Err(no_transaction()),
        }
    }
}

impl Store for Lmdb {
    const NAME: &'static str = "lmdb";

    fn suits(settings: &Settings) -> bool {
        settings.are_plain()
    }

    fn open(path: &Path, settings: &Settings, is_new: bool) -> Result<Lmdb> {
        let mut flags = EnvFlags::NO_SUB_DIR;
        if settings.durability == Durability::NoSync {
            flags |= EnvFlags::NO_SYNC;
        }
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_SIZE);
        // SAFETY: the harness alone uses the file, through this handle alone, and without a sync
        // only a loss of power could damage it.
        let environment = Lent::new(unsafe { options.flags(flags).open(path)? });
        let tree = open_tree(environment.borrow(), settings.kind, is_new)?;
        Ok(Lmdb { transaction: Transaction::None, tree, kind: settings.kind, environment })
    }

    fn close(self) -> Result<()> {
        let Lmdb { transaction, environment, .. } = self;
        drop(transaction);
        environment.take().prepare_for_closing().wait();
        Ok(())
    }

    fn begin_read(&mut self) -> Result<()> {
        self.transaction = Transaction::Read(self.environment.borrow().read_txn()?);
        Ok(())
    }

    fn begin_write(&mut self) -> Result<()> {
        self.transaction = Transaction::Write(self.environment.borrow().write_txn()?);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.transaction, Transaction::None) {
            Transaction::None => Err(no_transaction()),
            Transaction::Read(_) => Ok(()),
            Transaction::Write(txn) => Ok(txn.commit()?),
        }
    }

    #[inline]
    fn put(&mut self, entry: &Entry<'_>) -> Result<()> {
        let kind = self.kind;
        let (tree, txn) = self.writer()?;
        Ok(with_key(kind, entry, |key| tree.put(txn, key, entry.value))?)
    }

    #[inline]
    fn append(&mut self, entry: &Entry<'_>) -> Result<()> {
        let kind = self.kind;
        let (tree, txn) = self.writer()?;
        let put = |key: &[u8]| tree.put_with_flags(txn, PutFlags::APPEND, key, entry.value);
        Ok(with_key(kind, entry, put)?)
    }

    #[inline]
    fn get(&mut self, entry: &Entry<'_>, mut read: impl FnMut(Piece<'_>)) -> Result<bool> {
        let txn = self.reader()?;
        let value = with_key(self.kind, entry, |key| self.tree.get(txn, key))?;
        if let Some(value) = value {
            read(Piece::whole(value));
        }
        Ok(value.is_some())
    }

    fn scan(&mut self, mut each: impl FnMut(u64, Piece<'_>)) -> Result<()> {
        for entry in self.tree.iter(self.reader()?)? {
            let (key, value) = entry?;
            each(number(self.kind, key), Piece::whole(value));
        }
        Ok(())
    }

    fn scan_back(&mut self, mut each: impl FnMut(u64, Piece<'_>)) -> Result<()> {
        for entry in self.tree.rev_iter(self.reader()?)? {
            let (key, value) = entry?;
            each(number(self.kind, key), Piece::whole(value));
        }
        Ok(())
    }

    fn range(
        &mut self,
        start: &Entry<'_>,
        count: usize,
        mut each: impl FnMut(u64, Piece<'_>),
    ) -> Result<()> {
        let txn = self.reader()?;
        let entries = with_key(self.kind, start, |key| {
            let range: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(key), Bound::Unbounded);
            self.tree.range(txn, &range)
        })?;
        for entry in entries.take(count) {
            let (key, value) = entry?;
            each(number(self.kind, key), Piece::whole(value));
        }
        Ok(())
    }

    fn delete(&mut self, entry: &Entry<'_>) -> Result<()> {
        let kind = self.kind;
        let (tree, txn) = self.writer()?;
        match with_key(kind, entry, |key| tree.delete(txn, key))? {
            true => Ok(()),
            false => Err(Failure("the entry to delete was not found".into())),
        }
    }

    fn check(&mut self) -> Result<()> {
        Ok(())
    }
}
