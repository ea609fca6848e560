//! What an audit says.

use super::completeness::Figures;
use super::evidence::{Awaited, Doubt, Evidence};
use crate::model::Sum;

/// So much was lost for this reason.
pub type Loss = (&'static str, Sum);

/// What is called so was not written because who read it has gone; of a sink the sink's name stands before it.
pub const READER_GONE: &str = "reader_gone";

/// The same of the output that needs no sink.
pub const OUTPUT_READER_GONE: &str = "output_reader_gone";

/// Whether that is why something was not written: no error, as a reader may have seen enough.
#[must_use]
pub fn is_of_reader(reason: &str) -> bool {
    reason == OUTPUT_READER_GONE || reason.rsplit_once('.').is_some_and(|(_, what)| what == READER_GONE)
}

/// The identity, figure by figure, and what follows from it. All sums since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statement {
    /// Flows that ended, with their final totals, delivered or not; and what is lost of what an earlier agent left in a
    /// spool.
    pub ended: Sum,
    /// Flows that live, with the highest totals known.
    pub living: Sum,
    /// What flows had moved before the accounting began; flows are those that an earlier agent told of.
    pub baseline: Sum,
    /// Delivered: written by the output, or in its queue.
    pub delivered: Sum,
    /// Will be delivered: ends on their way, what a walk saw beyond the last record of each flow, and what is held
    /// back until a record is wanted.
    pub not_yet_due: Sum,
    /// The user does not want it.
    pub filtered: Sum,
    /// Lost, by reason; reasons that cost nothing are left out.
    pub lost: Vec<Loss>,
    /// What each configured sink has lost beyond that. What one lost another may have, so that these do not add up: as
    /// lost counts what is missing where the most is.
    pub sinks: Vec<Vec<Loss>>,
    /// What waits for each configured sink. It counts as delivered, and is not lost.
    pub waiting: Vec<Awaited>,
    /// Why more may be missing than is counted.
    pub doubts: Vec<Doubt>,
    /// What part is there.
    pub completeness: Figures,
}

impl Statement {
    /// Draws it up. `overdue`: the part of what is on its way that should have come by now.
    pub(super) fn of(evidence: &Evidence, overdue: Sum) -> Self {
        let Evidence { books, filtered, dropped, unwritten, sinks, inherited, .. } = evidence;
        let ends = Ends::of(evidence);
        let overdue = if evidence.is_final { ends.under_way } else { overdue };
        // Some of it may have come since.
        let overdue = overdue - overdue.beyond(ends.under_way);
        let mut lost = vec![
            ("end_lost", ends.lost),
            ("missed", ends.forgone),
            ("output_queue_full", *dropped),
            (if evidence.reader_gone { OUTPUT_READER_GONE } else { "output_unwritten" }, *unwritten),
            ("unexplained", overdue),
        ];
        lost.retain(|(_, sum)| !sum.is_zero());
        let mut sinks = sinks.clone();
        sinks.iter_mut().for_each(|lost| lost.retain(|(_, sum)| !sum.is_zero()));
        let doubts = ends.doubts(evidence);
        let mut statement = Self {
            ended: ends.all + books.reset + *inherited,
            living: books.live - ends.unassigned,
            baseline: books.baseline,
            delivered: (books.delivered + *inherited)
                .beyond(*filtered + *dropped + *unwritten + worst(&sinks)),
            not_yet_due: books.held + books.ahead + ends.under_way.beyond(overdue),
            filtered: *filtered,
            lost,
            sinks,
            waiting: evidence.waiting.clone(),
            doubts,
            completeness: Figures::default(),
        };
        statement.completeness =
            Figures::of(statement.lost_sum(), statement.counted(), statement.doubts.is_empty());
        statement
    }

    /// Everything that was to be delivered.
    #[must_use]
    pub fn counted(&self) -> Sum {
        self.delivered + self.not_yet_due + self.filtered + self.lost_sum()
    }

    /// Everything that was lost and counted; of sinks, what is missing where the most is.
    #[must_use]
    pub fn lost_sum(&self) -> Sum {
        total(&self.lost) + worst(&self.sinks)
    }

    /// What was lost by reason, by each configured sink, too.
    pub(super) fn losses(&self) -> impl Iterator<Item = &Loss> {
        self.lost.iter().chain(self.sinks.iter().flatten())
    }

    /// What waits for sinks that have something.
    pub fn waiting(&self) -> impl Iterator<Item = &Awaited> {
        self.waiting.iter().filter(|(_, waiting)| waiting.records > 0)
    }

    /// Whether something was lost, and all of it because readers have gone, which may go.
    #[must_use]
    pub fn lacks_only_readers(&self) -> bool {
        let mut lost = self.losses().peekable();
        lost.peek().is_some() && self.doubts.is_empty() && lost.all(|(reason, _)| is_of_reader(reason))
    }

    /// Whether ended + living − baseline is what the other side adds up to. Where it is not, and there is no doubt
    /// either, the accounting itself is wrong.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.ended + self.living - self.baseline == self.counted()
    }
}

fn total(lost: &[Loss]) -> Sum {
    lost.iter().fold(Sum::default(), |sum, (_, lost)| sum + *lost)
}

/// The highest of each figure.
fn worst(sinks: &[Vec<Loss>]) -> Sum {
    sinks.iter().map(|lost| total(lost)).fold(Sum::default(), |worst, lost| worst + lost.beyond(worst))
}

/// Ends as the kernel side counted them, and the table.
struct Ends {
    /// All of them.
    all: Sum,
    /// Lost, less what was delivered of their flows before.
    lost: Sum,
    /// How much less that is at most, because the table still takes flows for living of which the end was lost.
    unassigned: Sum,
    /// What a walk had seen of flows that were then found gone, beyond what was delivered, where no end that was
    /// lost accounts for it.
    forgone: Sum,
    /// Neither lost nor told until now.
    under_way: Sum,
    /// Flows that were found gone although no end was lost.
    unseen: u64,
    /// Told although nobody counted them.
    uncounted: Sum,
}

impl Ends {
    fn of(evidence: &Evidence) -> Self {
        let books = &evidence.books;
        let Some(counted) = &evidence.counted else { return Self::of_table_alone(evidence) };
        let unseen = books.missed.flows.saturating_sub(counted.ends_lost.flows);
        let told = books.ended + counted.ends_lost;
        // What is missed beyond the ends that were lost is in no sum of the kernel side.
        let beyond = books.missed.beyond(counted.ends_lost);
        let forgone = if unseen > 0 { books.forgone } else { Sum::default() };
        let lost = counted.ends_lost.beyond(books.missed);
        let is_open = counted.owes_looks && lost.flows > 0;
        let unassigned = if is_open { lost - lost.beyond(books.live) } else { Sum::default() };
        Self {
            all: counted.ended + told.beyond(counted.ended) + beyond + forgone,
            lost: lost - unassigned,
            unassigned,
            forgone,
            under_way: counted.ended.beyond(told),
            unseen,
            uncounted: told.beyond(counted.ended),
        }
    }

    /// Without sums of the kernel side all that is known of ends is what was told of them.
    fn of_table_alone(evidence: &Evidence) -> Self {
        let books = &evidence.books;
        Self {
            all: books.ended + books.missed + books.forgone,
            lost: Sum::default(),
            unassigned: Sum::default(),
            forgone: books.forgone,
            under_way: Sum::default(),
            unseen: books.missed.flows,
            uncounted: Sum::default(),
        }
    }

    fn doubts(&self, evidence: &Evidence) -> Vec<Doubt> {
        let mut doubts = evidence.doubts.clone();
        let skipped = evidence.counted.as_ref().map_or(0, |counted| counted.ends_skipped);
        if !doubts.iter().any(|(reason, _)| *reason == "hook_skipped") {
            doubts.push(("hook_skipped", skipped));
        }
        doubts.push(("ended_unseen", self.unseen));
        doubts.push(("end_lost_unassigned", self.unassigned.flows));
        doubts.push(("ends_uncounted", self.uncounted.flows));
        doubts.retain(|(_, count)| *count > 0);
        doubts
    }
}
