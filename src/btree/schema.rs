//! A block of the caller's own that hangs on a page cache and is shared by its connections: what
//! they have read of the schema, for example. A write lock on table 1 is what protects it.

use std::any::Any;

use super::Btree;

/// A value of the caller's choice.
pub type Schema = Box<dyn Any + Send>;

impl Btree {
    /// The value that hangs on the page cache, if there is one.
    #[doc(alias = "sqlite3BtreeSchema")]
    pub fn schema(&mut self) -> Option<&mut Schema> {
        self.schema.as_mut()
    }

    /// The same; if there is none, what `make` makes. It is dropped when the last connection to the
    /// page cache closes, just before the cache goes.
    pub fn schema_or_insert(&mut self, make: impl FnOnce() -> Schema) -> &mut Schema {
        self.schema.get_or_insert_with(make)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use crate::btree::{CacheRegistry, Options};
    use crate::os::MemoryVfs;

    /// Counts how often it was dropped.
    struct Counted(Arc<AtomicU32>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// D240, D272: one value for all connections, dropped with the last.
    #[test]
    fn the_schema_goes_with_the_last_connection() {
        let (registry, disk) = (CacheRegistry::new(), Arc::new(MemoryVfs::new()));
        let open = || registry.client().open(disk.clone(), "x", &Options::default()).unwrap();
        let (a, b) = (open(), open());
        let dropped = Arc::new(AtomicU32::new(0));
        assert!(a.enter().unwrap().schema().is_none());
        a.enter().unwrap().schema_or_insert(|| Box::new(Counted(Arc::clone(&dropped))));
        b.enter().unwrap().schema_or_insert(|| unreachable!("there is one"));
        assert!(b.enter().unwrap().schema().is_some_and(|schema| schema.is::<Counted>()));
        drop(a);
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        drop(b);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }
}
