//! What the executor may do to the order of the queue, and what it must never do; pure.
//!
//! *D* is a database, *J* a log (a journal or super-journal), *T* a temporary file. A *unit* is
//! what commits together: one ordering group. What holds the promise of a committed prefix is that
//! J has the old content of a page before D may lose it, that D has the new content before the
//! commit point, and that all of a unit stays in one order.
//!
//! | rule | | what it says | by |
//! | --- | --- | --- | --- |
//! | L1 | may | join writes that continue one another, in their order | [`Rule::Join`] |
//! | L2 | may | leave out bytes of D that are overwritten in the same run | [`Rule::Sort`] |
//! | L3 | may | sort a run on D | [`Rule::Sort`] |
//! | L4 | never | absorb or reorder writes of J | [`Forbidden::LogReversed`] |
//! | L5 | may | leave out a page of D that the same transaction writes again | [`Rule::Cover`] |
//! | L6 | never | the same across a commit point | [`Forbidden::AbsorbedAcrossCommit`] |
//! | L7 | may | skip the sync of what is synced and was kept from others since | [`Rule::SkipSync`] |
//! | L8 | never | drop another sync, or make one of those of two transactions | [`Forbidden::DataNotSynced`] … |
//! | L9 | never | move D before J or behind the commit point, or that before D's sync | [`Forbidden::DataBeforeLog`] … |
//! | L10 | may | not make a J that is deleted before it had to protect anything | [`Rule::Stillborn`] |
//! | L11 | may | keep T in memory, and drop what nobody can read any more | [`Rule::Invisible`] |
//! | L12 | never | cancel the deletion of J because it is made again, or reuse it | [`Forbidden::DeletionCancelled`] … |
//! | L13 | never | move a write across a truncation | a run ends there |
//! | L14 | never | a queue for each database of a unit | [`Forbidden::SeparateQueues`] |
//! | L15 | never | begin what follows a run before all of the run is done | one batch at a time |

#[cfg(doc)]
use super::Forbidden;
use super::settings::Coalesce;

/// A rule that the executor may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum Rule {
    /// L1: writes of a run that continue one another become one call.
    Join,
    /// L2, L3: a run on a database is absorbed and sorted.
    Sort,
    /// L7: a needless sync is skipped.
    SkipSync,
    /// L5: a page that is written again in the same transaction is written once.
    Cover,
    /// L10: a journal that protects nothing is not made.
    Stillborn,
    /// L11: a temporary file is kept in memory while there is room, and not written any more once
    /// nobody can read it.
    Invisible,
}

/// The rules that are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    coalesce: Coalesce,
    only: Option<Rule>,
}

impl Rules {
    /// Every operation is a call of its own.
    pub(super) const NONE: Rules = Rules { coalesce: Coalesce::Off, only: None };

    /// Those of a setting, or with `only` that one by itself.
    pub(super) fn new(coalesce: Coalesce, only: Option<Rule>) -> Rules {
        Rules { coalesce, only }
    }

    /// Whether `rule` is in force.
    pub(super) fn allow(self, rule: Rule) -> bool {
        if let Some(only) = self.only {
            return only == rule;
        }
        match rule {
            Rule::Join | Rule::Sort | Rule::SkipSync => self.coalesce != Coalesce::Off,
            Rule::Cover | Rule::Stillborn | Rule::Invisible => self.coalesce == Coalesce::Full,
        }
    }
}
