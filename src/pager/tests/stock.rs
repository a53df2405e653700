//! The same files in the hands of stock SQLite.

use super::*;
use crate::os::UnixVfs;
use rusqlite::Connection;

/// A directory of its own that vanishes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("tclbtree-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path.canonicalize().unwrap())
    }

    /// Copies database and journal to another name, as they are at this moment.
    fn copy(&self, from: &str, to: &str) {
        for suffix in ["", "-journal"] {
            let source = self.0.join(format!("{from}{suffix}"));
            if source.exists() {
                std::fs::copy(source, self.0.join(format!("{to}{suffix}"))).unwrap();
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Sum of the column of all rows, after the integrity check.
fn sum(path: &Path) -> i64 {
    let stock = Connection::open(path).unwrap();
    let check: String = stock.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    stock.query_row("SELECT sum(length(a) + substr(a, 1, 1)) FROM t", [], |row| row.get(0)).unwrap()
}

fn create_stock(path: &Path) {
    let stock = Connection::open(path).unwrap();
    stock
        .execute_batch(
            "PRAGMA page_size=512; CREATE TABLE t(a);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200)
             INSERT INTO t SELECT '1' || hex(zeroblob(40)) FROM n;",
        )
        .unwrap();
}

fn open_unix(path: &Path) -> Pager<()> {
    let vfs: Arc<dyn Vfs> = Arc::new(UnixVfs::new());
    open_on(&vfs, &Storage::File(path.to_owned()), 10)
}

#[test]
fn stock_sqlite_recovers_our_journals_and_reads_our_commits() {
    let directory = Directory::new("ours");
    let path = directory.0.join("t.db");
    create_stock(&path);
    let old = sum(&path);
    for mode in [JournalMode::Delete, JournalMode::Truncate, JournalMode::Persist] {
        directory.copy("t.db", "work.db");
        let work = directory.0.join("work.db");
        let mut pager = open_unix(&work);
        pager.set_journal_mode(mode).unwrap();
        begin(&mut pager).unwrap();
        // The first byte of each value becomes 2 on every leaf: same structure, new content.
        for number in 3..=pager.page_count() {
            let mark = pager.mark();
            let at = pager.fetch(page(number)).unwrap();
            if pager.bytes(at)[0] == 13 {
                let at = pager.make_writable(at).unwrap();
                let bytes = pager.bytes_mut(at);
                for start in 0..bytes.len() - 5 {
                    if bytes[start..].starts_with(b"10000") {
                        bytes[start] = b'2';
                    }
                }
            }
            pager.release(mark);
        }
        assert!(pager.stats().writes > 0, "spilled");
        directory.copy("work.db", "spilled.db");
        pager.commit_phase_one(None).unwrap();
        directory.copy("work.db", "phase-one.db");
        pager.commit_phase_two().unwrap();
        pager.close();
        assert_eq!(sum(&directory.0.join("spilled.db")), old, "{mode:?}");
        assert_eq!(sum(&directory.0.join("phase-one.db")), old, "{mode:?}");
        assert_eq!(sum(&work), old + 200, "{mode:?}");
    }
}

#[test]
fn we_recover_the_journals_of_stock_sqlite() {
    let directory = Directory::new("theirs");
    let path = directory.0.join("t.db");
    create_stock(&path);
    let before = std::fs::read(&path).unwrap();
    let stock = Connection::open(&path).unwrap();
    stock.execute_batch("PRAGMA cache_size=5; BEGIN; UPDATE t SET a = '9' || a;").unwrap();
    directory.copy("t.db", "hot.db");
    stock.execute_batch("ROLLBACK").unwrap();
    let hot = directory.0.join("hot.db");
    assert_ne!(std::fs::read(&hot).unwrap(), before, "spilled");
    let mut pager = open_unix(&hot);
    pager.begin_read().unwrap();
    pager.close();
    assert_eq!(std::fs::read(&hot).unwrap(), before);
    assert!(!directory.0.join("hot.db-journal").exists());
}
