//! Open databases and what is done with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tclbtree::TransactionKind;
use tclbtree::os::{Access, OpenKind, OpenRequest, SyncKind, Vfs};
use tclbtree::pager::SafetyLevel;

use crate::stream::{Kind, Setting};
use crate::support::book::{Book, Change, Content};
use crate::support::random::Random;

/// Savepoints in each other, at most.
const SAVEPOINTS_MAX: usize = 4;

/// Open databases, and what is in them.
pub(crate) struct Work {
    vfs: Arc<dyn Vfs>,
    paths: Vec<PathBuf>,
    books: Vec<Book>,
    pub(crate) contents: Vec<Content>,
    /// A temporary database, and what is in it.
    scratch: Option<(Book, Content)>,
    setting: Setting,
}

impl Work {
    /// New databases at `paths`, each with empty trees.
    pub(crate) fn create(setting: Setting, paths: Vec<PathBuf>, vfs: &Arc<dyn Vfs>) -> Work {
        let open = |path: &PathBuf| {
            let mut db = setting.form().open(Arc::clone(vfs), path, 10).unwrap();
            db.set_safety_level(setting.level, false);
            db.set_journal_mode(setting.mode).unwrap();
            db.set_locking_mode(setting.locking);
            Book::create(db).unwrap()
        };
        let books: Vec<Book> = paths.iter().map(open).collect();
        let contents = vec![Content::default(); books.len()];
        Work { vfs: Arc::clone(vfs), paths, books, contents, scratch: None, setting }
    }

    /// Makes about `length` changes in each database, in a transaction that stays open.
    pub(crate) fn change(&mut self, random: &mut Random, length: usize) {
        for at in 0..self.books.len() {
            self.books[at].db.begin(TransactionKind::Write).unwrap();
            match self.setting.kind {
                Kind::Savepoints => self.change_in_savepoints(at, random, length),
                _ => self.apply(at, random, length),
            }
            if self.setting.form().auto_vacuum != tclbtree::format::AutoVacuum::None {
                self.vacuum(at, random);
            }
        }
        if self.setting.kind == Kind::Temporary {
            self.use_scratch(random, length);
        }
    }

    fn apply(&mut self, at: usize, random: &mut Random, length: usize) {
        let page_size = self.setting.form().page_size as usize;
        let (book, content) = (&mut self.books[at], &mut self.contents[at]);
        for _ in 0..length {
            let mut change = Change::random(random, content, page_size);
            if let Change::Put(_, payload) = &mut change
                && self.setting.sparse
            {
                let last = payload.len().saturating_sub(1);
                payload.iter_mut().take(last).for_each(|byte| *byte = 0);
            }
            change.expect(content);
            book.apply(&change).unwrap();
        }
    }

    fn change_in_savepoints(&mut self, at: usize, random: &mut Random, length: usize) {
        let mut saved: Vec<Content> = Vec::new();
        for _ in 0..length.div_ceil(4) {
            match random.below(5) {
                0 | 1 if saved.len() < SAVEPOINTS_MAX => {
                    self.books[at].db.open_savepoints(saved.len() + 1).unwrap();
                    saved.push(self.contents[at].clone());
                }
                2 if !saved.is_empty() => {
                    let index = random.below(saved.len());
                    self.books[at].db.rollback_savepoint(Some(index)).unwrap();
                    self.contents[at] = saved[index].clone();
                    saved.truncate(index + 1);
                }
                3 if !saved.is_empty() => {
                    let index = random.below(saved.len());
                    self.books[at].db.release_savepoint(index).unwrap();
                    saved.truncate(index);
                }
                _ => {}
            }
            self.apply(at, random, 4);
        }
    }

    /// Now and then half of the rows go, and with incremental vacuum some of the free pages.
    fn vacuum(&mut self, at: usize, random: &mut Random) {
        let (book, content) = (&mut self.books[at], &mut self.contents[at]);
        if random.percent(40) {
            let every_second: Vec<i64> = content.rows.keys().step_by(2).copied().collect();
            for a in every_second {
                let change = Change::Remove(a);
                change.expect(content);
                book.apply(&change).unwrap();
            }
        }
        if self.setting.kind == Kind::Incremental {
            for _ in 0..random.below(30) {
                if !book.db.incremental_vacuum().unwrap() {
                    break;
                }
            }
        }
    }

    /// Uses the temporary database, or a new one.
    fn use_scratch(&mut self, random: &mut Random, length: usize) {
        if self.scratch.is_none() || random.percent(30) {
            self.check_scratch();
            let form = self.setting.form();
            let db = form.open(Arc::clone(&self.vfs), Path::new(""), 10).unwrap();
            self.scratch = Some((Book::create(db).unwrap(), Content::default()));
        }
        let Some((book, content)) = &mut self.scratch else { return };
        let changes = (0..length).map(|_| {
            let change = Change::random(random, content, 512);
            change.expect(content);
            change
        });
        let changes: Vec<Change> = changes.collect();
        book.commit(&changes).unwrap();
    }

    fn check_scratch(&mut self) {
        if let Some((book, content)) = &mut self.scratch {
            assert!(book.checked_content().unwrap() == *content, "{:?}", self.setting);
        }
    }

    /// Changes, and commits: several databases together with a super-journal.
    pub(crate) fn transaction(&mut self, random: &mut Random, length: usize) {
        self.change(random, length);
        if let [book] = self.books.as_mut_slice() {
            return book.db.commit().unwrap();
        }
        let name = format!("{}-mj{:06X}9{:02X}", self.paths[0].display(), random.below(1 << 24), 1);
        let super_journal = PathBuf::from(name);
        let request = OpenRequest {
            kind: OpenKind::SuperJournal,
            access: Access::Create,
            exclusive: true,
            delete_on_close: false,
            lock_offset: 0x4000_0000,
        };
        let mut file = self.vfs.open(Some(&super_journal), request).unwrap().file;
        let journals = self.paths.iter().map(|path| format!("{}-journal\0", path.display()));
        file.write_at(journals.collect::<String>().as_bytes(), 0).unwrap();
        if self.setting.level != SafetyLevel::Off {
            file.sync(SyncKind::Normal).unwrap();
            self.vfs.sync_directory(&super_journal).unwrap();
        }
        for book in &mut self.books {
            book.db.commit_phase_one(Some(&super_journal)).unwrap();
        }
        drop(file);
        self.vfs.delete(&super_journal, true).unwrap();
        for book in &mut self.books {
            book.db.commit_phase_two().unwrap();
        }
    }

    /// Rolls back to `contents`.
    pub(crate) fn roll_back(&mut self, contents: &[Content]) {
        self.books.iter_mut().for_each(|book| book.db.rollback().unwrap());
        self.contents = contents.to_vec();
    }

    /// Everything is as it should be, read through the queue.
    pub(crate) fn check(&mut self) {
        for (book, content) in self.books.iter_mut().zip(&self.contents) {
            assert!(book.checked_content().unwrap() == *content, "{:?}", self.setting);
        }
        self.check_scratch();
    }

    /// Closes all databases.
    pub(crate) fn close(&mut self) {
        self.books.clear();
        self.scratch = None;
    }
}
