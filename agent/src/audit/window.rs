//! What an audit says of the time since the one before.

use super::completeness::Figures;
use super::evidence::Doubt;
use super::statement::{Loss, Statement};

/// What became of what was counted in a window of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// What part of it is there.
    pub completeness: Figures,
    /// Lost in it, by reason; what each configured sink has lost stands beside what the other ones have.
    pub lost: Vec<Loss>,
    /// Why more may be missing.
    pub doubts: Vec<Doubt>,
}

impl Window {
    /// Between the statement before and the present one.
    pub(super) fn between(before: &Statement, now: &Statement) -> Self {
        let grown = |(reason, sum): &Loss| {
            let known = before.losses().find(|(known, _)| known == reason).map(|(_, known)| *known);
            (*reason, sum.beyond(known.unwrap_or_default()))
        };
        let risen = |(reason, count): &Doubt| {
            let known =
                before.doubts.iter().find(|(known, _)| known == reason).map_or(0, |(_, known)| *known);
            (*reason, count.saturating_sub(known))
        };
        Self {
            completeness: Figures::of(
                now.lost_sum().beyond(before.lost_sum()),
                now.counted().beyond(before.counted()),
                now.doubts == before.doubts,
            ),
            lost: now.losses().map(grown).filter(|(_, sum)| !sum.is_zero()).collect(),
            doubts: now.doubts.iter().map(risen).filter(|(_, count)| *count > 0).collect(),
        }
    }
}
