//! Pages that a caller holds by their numbers, over any number of calls and transactions.

use std::collections::BTreeMap;

use super::{PageInfo, PageRef, Pager};

/// Held pages with their numbers of references.
///
/// Invariant HP1: a page in here has one pin, however many references there are to it.
#[derive(Debug, Default)]
pub struct HeldPages {
    pages: BTreeMap<u32, Held>,
}

#[derive(Debug)]
struct Held {
    page: PageRef,
    references: u32,
}

impl HeldPages {
    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The page `number`, if it is held.
    pub fn find(&self, number: u32) -> Option<PageRef> {
        self.pages.get(&number).map(|held| held.page)
    }

    /// Adds a reference to `page`, which has a pin that is not one of these.
    pub fn hold<X: PageInfo>(&mut self, pager: &mut Pager<X>, page: PageRef) {
        let number = pager.number(page).get();
        let held = self.pages.entry(number).or_insert(Held { page, references: 0 });
        if held.references == 0 {
            pager.cache.pin_by_number(page.frame);
        }
        held.references = held.references.saturating_add(1);
    }

    /// Takes one reference to page `number` back; whether none is left.
    pub fn let_go<X: PageInfo>(&mut self, pager: &mut Pager<X>, number: u32) -> bool {
        let Some(held) = self.pages.get_mut(&number) else { return true };
        held.references = held.references.saturating_sub(1);
        if held.references > 0 {
            return false;
        }
        pager.cache.unpin_by_number(held.page.frame);
        self.pages.remove(&number);
        true
    }

    /// Takes all references back.
    pub fn let_all_go<X: PageInfo>(&mut self, pager: &mut Pager<X>) {
        for held in std::mem::take(&mut self.pages).into_values() {
            pager.cache.unpin_by_number(held.page.frame);
        }
    }
}
