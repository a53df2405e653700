//! The pager's counters.

/// A plain copy of the pager's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PagerStats {
    /// Distinct pages pinned.
    pub pinned: u32,
    /// Pages in the cache.
    pub pages: u32,
    /// Cache limit in pages.
    pub limit: u32,
    /// Size of the database in pages, if it is known at the moment.
    pub size: Option<u32>,
    /// 0 unlocked, 1 shared, 2 reserved, 4 exclusive, 5 all written but not finished.
    pub state: u32,
    /// Number of the lasting error, or 0.
    pub error: u32,
    /// Requests served from the cache.
    pub hits: u64,
    /// Requests that needed a frame.
    pub misses: u64,
    /// Frames recycled because the cache was full.
    pub recycled: u64,
    /// Pages read from the database file.
    pub reads: u64,
    /// Pages written to the database file by commit or by spilling.
    pub writes: u64,
}

/// The counters that only grow.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) recycled: u64,
    pub(super) reads: u64,
    pub(super) writes: u64,
}
