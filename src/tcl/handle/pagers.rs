//! Pagers and their pages: `pager7`, `page12`.
//!
//! A page has one handle for as long as it is held, however many references there are (P2), and
//! another one when it is got again.
//!
//! Invariants:
//!
//! H4. A page is in the table exactly while its pager holds it, and the pager knows its handle.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::super::commands::pager::RawPager;
use super::super::result_code::Failure;
use super::{Guarded, NEXT, Session, Use, no_such, number_of};
use crate::error::Error;

const PAGER_PREFIX: &[u8] = b"pager";
const PAGE_PREFIX: &[u8] = b"page";

/// A pager that a script has open.
#[derive(Debug)]
pub(in crate::tcl) struct OpenPager {
    number: u64,
    pager: Guarded<RawPager>,
    /// The number in the handle of each held page, by page number.
    handles: RefCell<HashMap<u32, u64>>,
}

/// A page that a script holds.
#[derive(Debug)]
pub(in crate::tcl) struct Page {
    number: u64,
    /// The pager it is of.
    pub(in crate::tcl) pager: Rc<OpenPager>,
    /// Its page number.
    pub(in crate::tcl) page: u32,
}

impl Session {
    /// Takes a new pager in and returns its handle.
    pub(in crate::tcl) fn add_pager(&self, pager: RawPager) -> String {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pager = Guarded::new(pager);
        let pager = OpenPager { number, pager, handles: RefCell::default() };
        self.pagers.borrow_mut().insert(number, Rc::new(pager));
        format!("pager{number}")
    }

    /// The pager with this handle.
    ///
    /// # Errors
    /// `no such pager: "X"`.
    pub(in crate::tcl) fn pager(&self, handle: &[u8]) -> Result<Rc<OpenPager>, Failure> {
        let pagers = self.pagers.borrow();
        let found = number_of(handle, PAGER_PREFIX).and_then(|number| pagers.get(&number));
        found.cloned().ok_or_else(|| no_such("pager", handle))
    }

    /// Closes a pager; the handles of its pages are dead from here on.
    pub(in crate::tcl) fn close_pager(&self, pager: &OpenPager) {
        let number = pager.number;
        self.pages.borrow_mut().retain(|_, page| page.pager.number != number);
        self.pagers.borrow_mut().remove(&number);
        pager.close();
    }

    /// The handle of a page that `pager` holds, made with the first reference to it.
    pub(in crate::tcl) fn page_handle(&self, pager: &Rc<OpenPager>, page: u32) -> String {
        let mut handles = pager.handles.borrow_mut();
        let number = handles.entry(page).or_insert_with(|| {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let held = Page { number, pager: Rc::clone(pager), page };
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
        page.pager.handles.borrow_mut().remove(&page.page);
    }

    /// Closes all pagers; open transactions are rolled back (C3).
    pub(super) fn close_all_pagers(&self) {
        self.pages.borrow_mut().clear();
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
