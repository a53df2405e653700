//! What names a cached page: [`PageRef`] for reading, [`PageMut`] for changing.
//!
//! Both are plain frame numbers. The bytes stay with the cache, so a page is reached through the
//! pager only, and a page that was not made writable cannot be changed.

/// What the layer above keeps beside each cached page; the pager only stores and resets it.
pub trait PageInfo: Default + Send {
    /// Forgets everything: the bytes of the page were replaced from below.
    fn reset(&mut self);
}

impl PageInfo for () {
    fn reset(&mut self) {}
}

/// A page in the cache. Valid while the page is pinned; see [`Pager::mark`](super::Pager::mark)
/// and [`Pager::pin`](super::Pager::pin).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "PgHdr", alias = "DbPage")]
pub struct PageRef {
    pub(super) frame: u32,
}

/// A page that may be changed: its original is in the journal. Comes from
/// [`Pager::make_writable`](super::Pager::make_writable) only, and is good until the end of the
/// call that asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageMut {
    pub(super) frame: u32,
}

impl From<PageMut> for PageRef {
    fn from(page: PageMut) -> PageRef {
        PageRef { frame: page.frame }
    }
}

/// A point in the stack of transient pins.
#[derive(Debug, Clone, Copy)]
#[must_use = "pins taken after the mark are released only by Pager::release"]
pub struct PinMark(pub(super) usize);
