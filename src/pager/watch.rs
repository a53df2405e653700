//! Following changes: who reads a database page by page, over many transactions, learns which of
//! the pages that it has read are not what they were.
//!
//! Marks are set where pages are written to the file; without a watch nothing is done there. The
//! reader asks for them when it goes on.

use super::page_set::PageSet;
use super::{PageInfo, Pager};
use crate::error::Result;
use crate::memory;

/// Names a watch of one pager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchId(u64);

/// What one reader has to be told.
#[derive(Debug)]
pub(super) struct Watch {
    id: u64,
    /// Pages below this number were read.
    next: u32,
    /// Pages below `next` that were written since.
    changed: PageSet,
    /// All pages may have changed.
    replaced: bool,
}

/// Watches.
impl<X: PageInfo> Pager<X> {
    /// Begins to watch; no page was read yet.
    ///
    /// # Errors
    /// [`NoMemory`](crate::Error::NoMemory).
    pub fn watch(&mut self) -> Result<WatchId> {
        memory::reserve(&mut self.watches, 1)?;
        self.next_watch += 1;
        let id = self.next_watch;
        let changed = PageSet::default();
        self.watches.push(Watch { id, next: 1, changed, replaced: false });
        Ok(WatchId(id))
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, id: WatchId) {
        self.watches.retain(|watch| watch.id != id.0);
    }

    /// Number of watches.
    #[cfg(test)]
    pub fn watch_count(&self) -> usize {
        self.watches.len()
    }

    /// The pages below `next` were read.
    pub fn has_read(&mut self, id: WatchId, next: u32) {
        if let Some(watch) = self.watches.iter_mut().find(|watch| watch.id == id.0) {
            watch.next = next;
        }
    }

    /// Whether all that was read must be read again, because the file was changed from outside,
    /// has other pages now, or the marks found no room. Told once. Also if there is no such watch.
    pub fn take_replaced(&mut self, id: WatchId) -> bool {
        let Some(watch) = self.watches.iter_mut().find(|watch| watch.id == id.0) else {
            return true;
        };
        if watch.replaced {
            watch.changed.clear();
            watch.next = 1;
        }
        std::mem::take(&mut watch.replaced)
    }

    /// The first page from `from` on that was read and has changed since.
    pub fn next_changed(&self, id: WatchId, from: u32) -> Option<u32> {
        self.watches.iter().find(|watch| watch.id == id.0)?.changed.next_from(from)
    }

    /// The page was read again.
    pub fn has_reread(&mut self, id: WatchId, page: u32) {
        if let Some(watch) = self.watches.iter_mut().find(|watch| watch.id == id.0) {
            watch.changed.remove(page);
        }
    }

    /// `count` pages from `first` on were written to the file.
    pub(super) fn note_written(&mut self, first: u32, count: u32) {
        for watch in &mut self.watches {
            for page in first..first.saturating_add(count).min(watch.next) {
                watch.replaced |= watch.changed.insert(page).is_err();
            }
        }
    }

    /// Nothing is known about the file any more.
    pub(super) fn note_replaced(&mut self) {
        for watch in &mut self.watches {
            watch.replaced = true;
        }
    }
}
