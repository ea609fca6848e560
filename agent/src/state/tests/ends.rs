//! Ends that may come again from programs that outlive the agent: each is billed once.

use super::*;

#[test]
fn what_a_killed_agent_had_read_may_come_again_and_is_billed_once() {
    for is_stamped in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut agent = Agent::fresh(&dir);
        let stamped = |o: Observation| if is_stamped { o } else { Observation { start_ns: 0, ..o } };
        let batch = || {
            let seen = [
                sight(New, 1, 2, 1),
                sight(New, 2, 2, 1),
                sight(Update, 1, 3, 4),
                sight(End, 2, 3, 5),
                sight(End, 3, 3, 7),
            ];
            seen.map(stamped).to_vec()
        };
        agent.see(batch());
        drop(agent);
        let mut next = after_with_programs(&dir, &past(&dir).unwrap());
        assert_eq!(next.see(batch()), [], "stamped: {is_stamped}");
        let books = next.table.books();
        assert!(books.balance() && books.ended.flows == 2, "{books:?}");
        // The next flow of a tuple and address is another one.
        let successor = Observation {
            born_ns: SINCE.boot_ns + 4 * SECOND,
            start_ns: SINCE.real_ns.unsigned_abs() + 4 * SECOND,
            ..sight(End, 3, 5, 2)
        };
        let told = next.see(vec![stamped(successor), stamped(sight(End, 1, 5, 6))]);
        let told: Vec<_> = told.iter().map(|record| (record.kind, record.delta.original.packets)).collect();
        assert_eq!(told, [(RecordKind::End, 2), (RecordKind::End, 2)], "stamped: {is_stamped}");
    }
}

fn ports(flows: &[SavedFlow]) -> Vec<u16> {
    let mut ports: Vec<_> = flows.iter().map(|flow| flow.original.src_port).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn ends_are_known_until_two_settled_batches_were_given_back_however_many_were_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    let ends = |ports: std::ops::Range<u16>| ports.map(|port| sight(End, port, 2, 1)).collect::<Vec<_>>();
    (0..100).for_each(|port| drop(agent.see(ends(port..port + 1))));
    assert_eq!(ports(&past_beside(&dir).ended), [98, 99]);
    agent.see(ends(100..200));
    assert_eq!(ports(&past_beside(&dir).ended), (99..200).collect::<Vec<_>>());
    for port in 200..205 {
        let observations = ends(port..port + 1);
        agent.take(Batch { observations, settled: false, look: None });
    }
    assert_eq!(ports(&past_beside(&dir).ended), (100..205).collect::<Vec<_>>());
    agent.state.begin_generation(&agent.table, &agent.backlog.batches()).unwrap();
    let remembered = agent.table.save(0..agent.table.places()).filter(|flow| flow.ended);
    assert_eq!(ports(&past_beside(&dir).ended), ports(&remembered.collect::<Vec<_>>()), "by the table");
    agent.see(ends(205..206));
    agent.see(ends(206..207));
    agent.see(ends(207..208));
    assert_eq!(ports(&past_beside(&dir).ended), [206, 207]);
}

#[test]
fn the_ends_of_more_flows_than_are_remembered_are_forgotten_and_counted() {
    let options = FlowTableOptions { max_ended: 3, ..FlowTableOptions::new(10, BOOT, SINCE) };
    let mut table = FlowTable::new(options);
    (0..5).for_each(|id| {
        table.restore_ended(&SavedFlow { flow_id: FlowId(id + 1), ended: true, ..SavedFlow::default() });
    });
    assert_eq!(
        (table.save(0..table.places()).count(), count(&table.losses(), "ended_flows_forgotten_early")),
        (3, 2)
    );
}

#[test]
fn an_agent_that_is_killed_before_it_reads_passes_on_which_ends_were_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::fresh(&dir);
    let read = || vec![sight(New, 1, 2, 1), sight(Update, 1, 3, 4), sight(End, 1, 3, 5), sight(End, 2, 3, 7)];
    agent.see(read());
    drop(agent);
    for _ in 0..3 {
        let next = after_with_programs(&dir, &past(&dir).unwrap());
        assert!(next.state.copy.is_none(), "its snapshot is whole, and the log with the ends is gone");
    }
    // Likewise where it has read, and not given back.
    for port in 3..6 {
        let mut next = after_with_programs(&dir, &past(&dir).unwrap());
        let more = (3..=port).map(|port| sight(End, port, 4, 1));
        let told = next.see(read().into_iter().chain(more).collect());
        assert_eq!(ports(next.table.journal()), [port], "{told:?}");
    }
}
