//! redb, a copy-on-write tree in Rust.

use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageBackend, Table,
    TableDefinition, WriteTransaction,
};

use crate::data::{Entry, KEY_SIZE, Piece, sum_words};
use crate::lent::Lent;
use crate::store::{Durability, Failure, Result, Settings, Store};

/// A type of key, and how entries have it.
pub trait RedbKey: redb::Key + 'static {
    /// The key of an entry.
    fn of<'a>(entry: &Entry<'a>) -> Self::SelfType<'a>;
    /// The key as [`Store::scan`] hands it out.
    fn number(key: Self::SelfType<'_>) -> u64;
}

impl RedbKey for u64 {
    #[inline]
    fn of<'a>(entry: &Entry<'a>) -> Self::SelfType<'a> {
        entry.rowid as u64
    }

    #[inline]
    fn number(key: Self::SelfType<'_>) -> u64 {
        key
    }
}

impl RedbKey for &'static [u8; KEY_SIZE] {
    #[inline]
    fn of<'a>(entry: &Entry<'a>) -> Self::SelfType<'a> {
        entry.key
    }

    #[inline]
    fn number(key: Self::SelfType<'_>) -> u64 {
        sum_words(key)
    }
}

/// redb with keys of type `K`. Fields are dropped in this order (L1 of `lent.rs`).
pub struct Redb<K: RedbKey> {
    transaction: Transaction<K>,
    database: Database,
}

enum Transaction<K: RedbKey> {
    None,
    Read(ReadOnlyTable<K, &'static [u8]>),
    Write(Table<'static, K, &'static [u8]>, Lent<WriteTransaction>),
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure(format!("redb: {error}"))
}

fn no_transaction() -> Failure {
    Failure("no transaction".into())
}

fn tree<K: RedbKey>() -> TableDefinition<'static, K, &'static [u8]> {
    TableDefinition::new("t")
}

/// A file whose syncs do nothing: what the other stores' no-sync settings amount to.
#[derive(Debug)]
struct Unsynced(FileBackend);

impl StorageBackend for Unsynced {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(offset, bytes)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

impl<K: RedbKey> Store for Redb<K> {
    const NAME: &'static str = "redb";

    fn suits(settings: &Settings) -> bool {
        settings.are_plain()
    }

    fn open(path: &Path, settings: &Settings, is_new: bool) -> Result<Self> {
        let mut builder = Builder::new();
        builder.set_cache_size(settings.cache_pages as usize * settings.page_size as usize);
        let file = OpenOptions::new().read(true).write(true).create(is_new).open(path)?;
        let backend = FileBackend::new(file).map_err(failed)?;
        let database = match settings.durability {
            Durability::NoSync => builder.create_with_backend(Unsynced(backend)),
            Durability::Durable => builder.create_with_backend(backend),
        };
        Ok(Redb { transaction: Transaction::None, database: database.map_err(failed)? })
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn begin_read(&mut self) -> Result<()> {
        let transaction = self.database.begin_read().map_err(failed)?;
        self.transaction = Transaction::Read(transaction.open_table(tree()).map_err(failed)?);
        Ok(())
    }

    fn begin_write(&mut self) -> Result<()> {
        let transaction = Lent::new(self.database.begin_write().map_err(failed)?);
        let table = transaction.borrow().open_table(tree()).map_err(failed)?;
        self.transaction = Transaction::Write(table, transaction);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.transaction, Transaction::None) {
            Transaction::None => Err(no_transaction()),
            Transaction::Read(_) => Ok(()),
            Transaction::Write(table, transaction) => {
                drop(table);
                transaction.take().commit().map_err(failed)
            }
        }
    }

    #[inline]
    fn put(&mut self, entry: &Entry<'_>) -> Result<()> {
        let Transaction::Write(table, _) = &mut self.transaction else {
            return Err(no_transaction());
        };
        table.insert(K::of(entry), entry.value).map_err(failed).map(drop)
    }

    #[inline]
    fn get(&mut self, entry: &Entry<'_>, mut read: impl FnMut(Piece<'_>)) -> Result<bool> {
        let Transaction::Read(table) = &self.transaction else { return Err(no_transaction()) };
        let value = table.get(K::of(entry)).map_err(failed)?;
        if let Some(value) = &value {
            read(Piece::whole(value.value()));
        }
        Ok(value.is_some())
    }

    fn scan(&mut self, mut each: impl FnMut(u64, Piece<'_>)) -> Result<()> {
        let Transaction::Read(table) = &self.transaction else { return Err(no_transaction()) };
        for entry in table.iter().map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            each(K::number(key.value()), Piece::whole(value.value()));
        }
        Ok(())
    }

    fn scan_back(&mut self, mut each: impl FnMut(u64, Piece<'_>)) -> Result<()> {
        let Transaction::Read(table) = &self.transaction else { return Err(no_transaction()) };
        for entry in table.iter().map_err(failed)?.rev() {
            let (key, value) = entry.map_err(failed)?;
            each(K::number(key.value()), Piece::whole(value.value()));
        }
        Ok(())
    }

    fn range(
        &mut self,
        start: &Entry<'_>,
        count: usize,
        mut each: impl FnMut(u64, Piece<'_>),
    ) -> Result<()> {
        let Transaction::Read(table) = &self.transaction else { return Err(no_transaction()) };
        let range = (Bound::Included(K::of(start)), Bound::Unbounded);
        for entry in table.range::<K::SelfType<'_>>(range).map_err(failed)?.take(count) {
            let (key, value) = entry.map_err(failed)?;
            each(K::number(key.value()), Piece::whole(value.value()));
        }
        Ok(())
    }

    fn delete(&mut self, entry: &Entry<'_>) -> Result<()> {
        let Transaction::Write(table, _) = &mut self.transaction else {
            return Err(no_transaction());
        };
        match table.remove(K::of(entry)).map_err(failed)? {
            Some(_) => Ok(()),
            None => Err(Failure("the entry to delete was not found".into())),
        }
    }

    fn check(&mut self) -> Result<()> {
        match self.database.check_integrity().map_err(failed)? {
            true => Ok(()),
            false => Err(Failure("redb: damaged".into())),
        }
    }
}
