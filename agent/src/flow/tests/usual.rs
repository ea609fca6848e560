//! The short way of a usual update and the long way of everything give the same.

use proptest::prelude::*;

use super::*;
use crate::model::EndReason;

/// Sights by the kernel programs of a few flows at a few addresses, in any order and with any figures. Address and birth
/// mean one flow, of which some have a start stamp.
fn any_sight() -> impl Strategy<Value = Observation> {
    use ObservationKind::{End, Existing, Gone, New, Update};
    let kind =
        prop_oneof![8 => Just(Update), 1 => Just(New), 1 => Just(Existing), 1 => Just(End), 1 => Just(Gone)];
    let who = (1u16..3, 1u64..4, 1u64..4);
    (kind, who, 0u64..2_500, 0u64..6, any::<[bool; 3]>(), 0u32..2).prop_map(
        |(kind, (port, conntrack, born), at, n, [has_counters, back, replied], mark)| {
            let conntrack = 10 * conntrack + u64::from(port);
            let start_ns =
                if (conntrack + born) % 2 == 0 { EPOCH + SINCE + 100 * conntrack + born } else { 0 };
            let known = hooked(kind, port, conntrack, born * SECOND, at * 2_000_000, n);
            let mut totals = known.totals;
            totals.reply.packets += u64::from(back);
            Observation {
                start_ns,
                has_counters,
                mark,
                status: Status(known.status.0 | (u32::from(replied) * Status::SEEN_REPLY)),
                totals,
                end_reason: matches!(kind, End | Gone).then_some(EndReason::Timeout),
                ..known
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn both_ways_tell_the_same_records(sights in prop::collection::vec(any_sight(), 1..60), wanted: [bool; 2]) {
        let wanted = Wanted { new: wanted[0], update: wanted[1] };
        let (mut short, mut long) = (FlowTable::new(options(3).with_wanted(wanted)), FlowTable::new(options(3).with_wanted(wanted)));
        let (mut told_short, mut told_long) = (Vec::new(), Vec::new());
        let observations = sights.clone();
        short.apply(&Batch { observations, settled: false, look: None }, &mut told_short);
        for o in &sights {
            long.observe(o, long.flows.hash(o), &mut told_long);
        }
        prop_assert_eq!(told_short, told_long);
        prop_assert_eq!(short.books(), long.books());
        prop_assert_eq!(short.stats(), long.stats());
        prop_assert_eq!(short.losses(), long.losses());
        prop_assert!(short.books().balance());
    }
}
