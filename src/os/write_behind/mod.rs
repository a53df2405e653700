//! Write-behind: a disk whose calls return at once and whose work is done later, in order.
//!
//! ```text
//!   pager ──write, sync, delete──► WriteBehindVfs ──push──► queue ──► writer ──► the disk beneath
//!     ▲                                 │                     │
//!     └────── read, size, exists ◄──────┴─ what is pending ◄──┘
//! ```
//!
//! A commit returns before anything is on disk. A crash may lose commits that had returned, but
//! always the latest ones: the disk is in a state that the same program without the queue could
//! have left, a little earlier. [`WriteBehind::flush`] waits until that no longer matters.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `vfs`, `file` | the two contracts of the OS layer, met through the queue |
//! | `sharing` | copies of what is written that have memory in common |
//! | `entry`, `queue` | operations, and their order |
//! | `state`, `groups`, `map` | the books: files, names, ordering groups, latched errors |
//! | `rules` | what may be done to the order of the queue, and what must not |
//! | `batch`, `coalesce`, `forego` | taking the head of the queue, with what goes along or need not be done |
//! | `perform`, `finish`, `failure` | doing it, and the books afterwards |
//! | `writer`, `flush` | the thread, and those who work or wait in its place |
//! | `locks` | what other handles see, and what other processes still see |
//!
//! # Errors
//!
//! What fails in the writer has no caller any more. It is *latched* for its ordering group: a
//! database, its journals, and the databases that commit together with it. Until the last handle
//! of the database is closed, every call on it that reads or changes something reports the
//! error; what was queued behind is given up. Opening it again recovers as after a crash.

mod batch;
mod coalesce;
mod control;
mod entry;
mod failure;
mod file;
mod finish;
mod flush;
mod forbidden;
mod forego;
mod groups;
mod locks;
mod map;
mod perform;
mod queue;
mod rules;
mod settings;
mod shared;
mod sharing;
mod state;
mod stats;
mod sync;
mod vfs;
mod writer;

pub use control::{QueuedOperation, Status, WriteBehind};
pub use failure::ErrorReport;
pub use flush::ExitReport;
#[doc(hidden)]
pub use forbidden::Forbidden;
#[doc(hidden)]
pub use rules::Rule;
pub use settings::{Coalesce, Durability, Halt, LimitPolicy, OnExit};
pub use shared::Trace;
pub use stats::Statistics;
pub use vfs::WriteBehindVfs;

#[cfg(test)]
mod tests;
