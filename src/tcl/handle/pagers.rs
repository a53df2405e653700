//! Pagers and their pages: `pager7`, `page12`.
//!
//! The pager of the database `btree7` has the handle `pager7`, and so has that of every database
//! that joins its page cache: numbers never repeat, so no pager by itself can have it. A page has
//! one handle for as long as it is held, however many references there are (P2), and another one
//! when it is got again.
//!
//! Invariants:
//!
//! H4. A page is in the table exactly while its pager holds it. `page_numbers` leads from pager and
//!     page number to the number in its handle.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::super::commands::pager::RawPager;
use super::super::result_code::Failure;
use super::{
    Connection, DATABASE_PREFIX, Database, Guarded, NEXT, Session, Table, Use, no_such, number_of,
};
use crate::error::Error;

const PAGER_PREFIX: &[u8] = b"pager";
const PAGE_PREFIX: &[u8] = b"page";

/// A pager that a script has open.
#[derive(Debug)]
pub(in crate::tcl) struct OpenPager {
    number: u64,
    pager: Guarded<RawPager>,
}

/// What a script means by a pager.
#[derive(Debug, Clone)]
pub(in crate::tcl) enum AnyPager {
    /// One by itself, from `pager_open`.
    Own(Rc<OpenPager>),
    /// The one below the trees of a database.
    Below(Rc<Database>),
}

impl AnyPager {
    /// The number of the pager or of the database; no other object has it.
    pub(in crate::tcl) fn number(&self) -> u64 {
        match self {
            AnyPager::Own(pager) => pager.number,
            AnyPager::Below(database) => database.number,
        }
    }
}

/// A page that a script holds.
#[derive(Debug)]
pub(in crate::tcl) struct Page {
    number: u64,
    /// The pager it is of.
    pub(in crate::tcl) pager: AnyPager,
    /// Its page number.
    pub(in crate::tcl) page: u32,
}

impl Session {
    /// Takes a new pager in and returns its handle.
    pub(in crate::tcl) fn add_pager(&self, pager: RawPager) -> String {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pager = OpenPager { number, pager: Guarded::new(pager) };
        self.pagers.borrow_mut().insert(number, Rc::new(pager));
        format!("pager{number}")
    }

    /// The pager with this handle, be it that of a pager or of a database.
    ///
    /// # Errors
    /// `no such pager: "X"`.
    pub(in crate::tcl) fn pager(&self, handle: &[u8]) -> Result<AnyPager, Failure> {
        let databases = self.databases.borrow();
        let found = match number_of(handle, PAGER_PREFIX) {
            Some(number) => match self.pagers.borrow().get(&number) {
                Some(own) => Some(AnyPager::Own(Rc::clone(own))),
                None => first_on_cache(&databases, number).map(AnyPager::Below),
            },
            None => number_of(handle, DATABASE_PREFIX)
                .and_then(|number| databases.get(&number).cloned())
                .map(AnyPager::Below),
        };
        found.ok_or_else(|| no_such("pager", handle))
    }

    /// The handle of the pager below the trees of a database.
    pub(in crate::tcl) fn pager_handle(&self, database: &Database) -> String {
        format!("pager{}", database.pager)
    }

    /// The number in the pager's handle of the databases that share a page cache with `joining`.
    pub(super) fn pager_of_cache(&self, joining: &Connection) -> Option<u64> {
        let Connection::Shared(joining) = joining else { return None };
        let databases = self.databases.borrow();
        let on_cache = databases.values().find(|database| {
            database.shared().is_some_and(|other| other.cache_number() == joining.cache_number())
        });
        on_cache.map(|database| database.pager)
    }

    /// Closes a pager; the handles of its pages are dead from here on.
    pub(in crate::tcl) fn close_pager(&self, pager: &OpenPager) {
        self.forget_pages(pager.number);
        self.pagers.borrow_mut().remove(&pager.number);
        pager.close();
    }

    /// The handles of the pages of a pager that is being closed are dead from here on.
    pub(super) fn forget_pages(&self, pager: u64) {
        self.pages.borrow_mut().retain(|_, page| page.pager.number() != pager);
        self.page_numbers.borrow_mut().retain(|&(known, _), _| known != pager);
        self.files.borrow_mut().retain(|_, file| file.pager() != Some(pager));
    }

    /// The handles of all pages are dead from here on.
    pub(super) fn forget_all_pages(&self) {
        self.pages.borrow_mut().clear();
        self.page_numbers.borrow_mut().clear();
        self.files.borrow_mut().retain(|_, file| file.pager().is_none());
    }

    /// The handle of a page that `pager` holds, made with the first reference to it.
    pub(in crate::tcl) fn page_handle(&self, pager: &AnyPager, page: u32) -> String {
        let mut numbers = self.page_numbers.borrow_mut();
        let number = numbers.entry((pager.number(), page)).or_insert_with(|| {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let held = Page { number, pager: pager.clone(), page };
            self.pages.borrow_mut().insert(number, Rc::new(held));
            number
        });
        format!("page{number}")
    }

    /// The page with this handle.
    ///
    /// # Errors
    /// `no such page: "X"`.
    pub(in crate::tcl) fn page(&self, handle: &[u8]) -> Result<Rc<Page>, Failure> {
        let pages = self.pages.borrow();
        let found = number_of(handle, PAGE_PREFIX).and_then(|number| pages.get(&number));
        found.cloned().ok_or_else(|| no_such("page", handle))
    }

    /// Takes a page out that is not held any more; its handle is dead from here on.
    pub(in crate::tcl) fn remove_page(&self, page: &Page) {
        self.pages.borrow_mut().remove(&page.number);
        self.page_numbers.borrow_mut().remove(&(page.pager.number(), page.page));
    }

    /// Closes all pagers; open transactions are rolled back (C3).
    pub(super) fn close_all_pagers(&self) {
        let pagers = self.pagers.take();
        for pager in pagers.values() {
            pager.close();
        }
    }
}

impl OpenPager {
    /// Takes the pager into use.
    ///
    /// # Errors
    /// As [`Guarded::enter`].
    pub(in crate::tcl) fn enter(&self) -> Result<Use<'_, RawPager>, Error> {
        self.pager.enter()
    }

    fn close(&self) {
        self.pager.end(RawPager::close);
    }
}

/// The first of the open databases whose pager has this number in its handle.
fn first_on_cache(databases: &Table<Database>, pager: u64) -> Option<Rc<Database>> {
    let on_cache = databases.values().filter(|database| database.pager == pager);
    on_cache.min_by_key(|database| database.number).cloned()
}
