//! What to do after a try: a pure decision. Time passes and chance is drawn elsewhere.

use std::time::Duration;

use super::{GivenUp, Outcome};

/// The pause after a first failure at most.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What a server may ask for by Retry-After at most, unless the longest pause is longer.
const LONGEST_WISH: Duration = Duration::from_secs(300);

/// A request that a server is too slow for is sent in parts, which have at least so many of its items: one that
/// answers nothing at all must not split everything into single ones.
const LEAST_OF_SLOW: usize = 16;

/// A server that calls a record of so few bytes too large takes nothing at all until somebody mends it.
const NEVER_TOO_LARGE: usize = 4 << 10;

/// What is decided from, beside the outcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// Items in the request.
    pub items: usize,
    /// Bytes of it.
    pub bytes: usize,
    /// Tries before this one.
    pub attempt: u32,
    /// The longest pause between two tries.
    pub retry_max: Duration,
    /// A random number, at least 0 and below 1.
    pub chance: f64,
}

/// What to do next with a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Nothing: each item is stored or given up.
    Done,
    /// Send all of it again.
    All {
        /// How long to wait before.
        pause: Duration,
        /// Why.
        reason: String,
        /// The server may have stored them.
        in_doubt: bool,
    },
    /// Send some of it again.
    These {
        /// Their positions, ascending, each once.
        positions: Vec<usize>,
        /// How long to wait before.
        pause: Duration,
        /// Why.
        reason: String,
    },
    /// Send both halves, one after the other, at once.
    Halves {
        /// Why.
        reason: String,
    },
    /// Send both halves, one after the other; the server may have stored any of it.
    SlowHalves {
        /// How long to wait before.
        pause: Duration,
        /// Why.
        reason: String,
    },
}

impl Next {
    /// How long to wait before the next try, if there is one that waits.
    pub(super) const fn pause(&self) -> Option<Duration> {
        match self {
            Self::All { pause, .. } | Self::These { pause, .. } | Self::SlowHalves { pause, .. } => {
                Some(*pause)
            }
            Self::Done | Self::Halves { .. } => None,
        }
    }
}

/// What to do next, and which items never to send again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decision {
    /// What to do with the rest.
    pub next: Next,
    /// By ascending position, each at most once.
    pub given_up: Vec<GivenUp>,
}

impl Decision {
    const fn only(next: Next) -> Self {
        Self { next, given_up: Vec::new() }
    }
}

/// Decides. Nothing is given up unless the server says that it can never store it, or it is a single item and too
/// large.
#[must_use]
pub(super) fn decide(outcome: Outcome, at: Circumstances) -> Decision {
    match outcome {
        Outcome::Delivered => Decision::only(Next::Done),
        Outcome::NotNow { reason, retry_after, in_doubt } => {
            Decision::only(Next::All { pause: pause(retry_after, at), reason, in_doubt })
        }
        // Once may be chance.
        Outcome::NoAnswer { reason } if at.attempt > 0 && at.items >= 2 * LEAST_OF_SLOW => {
            Decision::only(Next::SlowHalves { pause: pause(None, at), reason })
        }
        Outcome::NoAnswer { reason } => {
            Decision::only(Next::All { pause: pause(None, at), reason, in_doubt: true })
        }
        Outcome::TooLarge { reason } if at.items > 1 => Decision::only(Next::Halves { reason }),
        Outcome::TooLarge { reason } if at.bytes <= NEVER_TOO_LARGE => {
            let reason = format!("{reason}, to a request of {} bytes: see to the server's limits", at.bytes);
            Decision::only(Next::All { pause: pause(None, at), reason, in_doubt: false })
        }
        Outcome::TooLarge { reason } => {
            let reason = format!("a single record is too large for the server: {reason}");
            Decision { next: Next::Done, given_up: vec![GivenUp { position: 0, reason }] }
        }
        Outcome::Partly { again, reason, given_up, retry_after } => {
            let (positions, given_up) = apart(again, given_up, at.items);
            let pause = pause(retry_after, at);
            let next =
                if positions.is_empty() { Next::Done } else { Next::These { positions, pause, reason } };
            Decision { next, given_up }
        }
    }
}

/// What is to be sent again, ascending, and what never. A server that names an item twice, or one that is not there,
/// must not have anything sent or counted twice.
fn apart(mut again: Vec<usize>, mut given_up: Vec<GivenUp>, items: usize) -> (Vec<usize>, Vec<GivenUp>) {
    given_up.sort_by_key(|item| item.position);
    given_up.dedup_by_key(|item| item.position);
    given_up.retain(|item| item.position < items);
    again.sort_unstable();
    again.dedup();
    let is_given_up = |position| given_up.binary_search_by_key(&position, |item| item.position).is_ok();
    again.retain(|position| *position < items && !is_given_up(*position));
    (again, given_up)
}

/// Exponential with full jitter and a cap. What the server asks for is a lower bound, so that many agents do not come
/// back at the same moment either.
fn pause(retry_after: Option<Duration>, at: Circumstances) -> Duration {
    if let Some(wish) = retry_after {
        return wish.min(LONGEST_WISH.max(at.retry_max)) + FIRST_PAUSE.mul_f64(at.chance);
    }
    let doublings = at.attempt.min(31);
    let most = FIRST_PAUSE.saturating_mul(1 << doublings).min(at.retry_max);
    most.mul_f64(at.chance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAP: Duration = Duration::from_secs(60);

    /// A request of four items, tried for the first time, chance in the middle.
    const FIRST: Circumstances =
        Circumstances { items: 4, bytes: 5_000, attempt: 0, retry_max: CAP, chance: 0.5 };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn not_now(retry_after: Option<Duration>, in_doubt: bool) -> Outcome {
        Outcome::NotNow { reason: "away".into(), retry_after, in_doubt }
    }

    fn gone(position: usize) -> GivenUp {
        GivenUp { position, reason: "bad".into() }
    }

    fn partly(again: &[usize], given_up: &[usize], retry_after: Option<Duration>) -> Outcome {
        let given_up = given_up.iter().map(|position| gone(*position)).collect();
        Outcome::Partly { again: again.to_vec(), reason: "full".into(), given_up, retry_after }
    }

    fn all(pause: Duration, in_doubt: bool) -> Next {
        Next::All { pause, reason: "away".into(), in_doubt }
    }

    fn these(positions: &[usize], pause: Duration) -> Next {
        Next::These { positions: positions.to_vec(), pause, reason: "full".into() }
    }

    #[test]
    fn each_outcome_has_its_answer() {
        let too_large = || Outcome::TooLarge { reason: "10 MB".into() };
        let slow = || Outcome::NoAnswer { reason: "away".into() };
        let later = Circumstances { attempt: 3, ..FIRST };
        let many = Circumstances { items: 2 * LEAST_OF_SLOW, ..later };
        let late = Circumstances { attempt: 1000, ..FIRST };
        let patient = Circumstances { retry_max: ms(3_600_000), ..FIRST };
        let wish = Some(ms(7_000));
        let table = [
            (Outcome::Delivered, FIRST, Next::Done, &[][..]),
            (not_now(None, false), FIRST, all(ms(500), false), &[]),
            (not_now(None, true), later, all(ms(4_000), true), &[]),
            (not_now(None, false), late, all(ms(30_000), false), &[]),
            (not_now(wish, false), late, all(ms(7_500), false), &[]),
            (not_now(Some(ms(7_200_000)), false), FIRST, all(ms(300_500), false), &[]),
            (not_now(Some(ms(7_200_000)), false), patient, all(ms(3_600_500), false), &[]),
            (partly(&[], &[], None), FIRST, Next::Done, &[]),
            (partly(&[2, 0], &[], None), later, these(&[0, 2], ms(4_000)), &[]),
            (partly(&[1], &[3], wish), FIRST, these(&[1], ms(7_500)), &[3]),
            (partly(&[], &[3, 0], wish), FIRST, Next::Done, &[0, 3]),
            (partly(&[9, 1, 1, 3], &[9, 3, 3], None), FIRST, these(&[1], ms(500)), &[3]),
            (too_large(), FIRST, Next::Halves { reason: "10 MB".into() }, &[]),
            (slow(), FIRST, all(ms(500), true), &[]),
            (slow(), later, all(ms(4_000), true), &[]),
            (slow(), many, Next::SlowHalves { pause: ms(4_000), reason: "away".into() }, &[]),
            (slow(), Circumstances { attempt: 0, ..many }, all(ms(500), true), &[]),
        ];
        for (outcome, at, next, given_up) in table {
            let decision = decide(outcome.clone(), at);
            let given_up: Vec<_> = given_up.iter().map(|position| gone(*position)).collect();
            assert_eq!(decision, Decision { next, given_up }, "{outcome:?} {at:?}");
        }
        let alone = decide(too_large(), Circumstances { items: 1, ..FIRST });
        assert_eq!((alone.next, alone.given_up.len()), (Next::Done, 1));
        assert!(alone.given_up[0].reason.contains("10 MB"));
        let small = decide(too_large(), Circumstances { items: 1, bytes: 300, ..later });
        assert!(
            matches!(&small.next, Next::All { in_doubt: false, reason, .. } if reason.contains("300 bytes"))
        );
        assert_eq!(small.given_up, []);
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        let wish = || prop::option::of((0_u64..=u64::MAX).prop_map(Duration::from_millis));
        let positions = || prop::collection::vec(0_usize..12, 0..12);
        prop_oneof![
            Just(Outcome::Delivered),
            (wish(), any::<bool>()).prop_map(|(wish, doubt)| not_now(wish, doubt)),
            (positions(), positions(), wish()).prop_map(|(a, b, wish)| partly(&a, &b, wish)),
            Just(Outcome::TooLarge { reason: String::new() }),
            Just(Outcome::NoAnswer { reason: String::new() }),
        ]
    }

    proptest! {
        #[test]
        fn every_pause_is_bounded_and_no_item_has_two_fates(
            outcome in outcomes(),
            (items, bytes, attempt, chance) in (1_usize..10, 0_usize..9_000, any::<u32>(), 0.0..1.0_f64),
        ) {
            let at = Circumstances { items, bytes, attempt, retry_max: CAP, chance };
            let Decision { next, given_up } = decide(outcome, at);
            let again = match &next {
                Next::Done => Vec::new(),
                Next::Halves { .. } | Next::SlowHalves { .. } | Next::All { .. } => (0..items).collect(),
                Next::These { positions, .. } => positions.clone(),
            };
            if let Next::All { pause, .. } | Next::SlowHalves { pause, .. } | Next::These { pause, .. } = next {
                prop_assert!(pause <= LONGEST_WISH + FIRST_PAUSE);
            }
            prop_assert!(again.is_sorted_by(|a, b| a < b) && again.iter().all(|position| *position < items));
            prop_assert!(given_up.iter().all(|item| item.position < items && !again.contains(&item.position)));
        }
    }
}
