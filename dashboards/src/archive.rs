//! The board of finished flows, from Elasticsearch or OpenSearch.

use conntally::model::EndReason;
use conntally::sinks::names::{FIRST_SEEN_MIDLIFE, NO_COUNTERS};
use serde_json::{Value, json};

use crate::board::{Board, choice, source, text};
use crate::lucene::{Metric, every, largest, newest, of_agents, of_ends, of_flows, of_waiting, over_time};
use crate::names::document;
use crate::panel::{AGE, Panel};

/// How an address is looked for on this same board.
const HERE: &str = "/d/conntally-archive?${__url_time_range}&var-address=${__value.text}";

/// Flows in the table.
const ROWS: usize = 500;

/// The board.
pub(crate) fn board() -> Value {
    let board = Board::new(
        "conntally-archive",
        "conntally: finished flows",
        "Flows one by one, by the time at which they ended, with the totals of their life.",
    );
    let board = variables(board).link("Live flows", "conntally-live").empty("no flows in this time");
    let board = completeness(board.row("Is anything missing?"));
    let board = traffic(board.row("What ended when"));
    let board = talkers(board.row("Who and what"));
    flows(board.row("Flow by flow")).json()
}

fn variables(board: Board) -> Board {
    let choice = |name, label, field: &'static str| {
        let query = json!(json!({ "find": "terms", "field": document(field), "size": 500 }).to_string());
        choice(name, label, "elasticsearch", &query, &every(field))
    };
    board
        .variable(source("elasticsearch"))
        .variable(choice("host", "Agent", "host.name"))
        .variable(text(
            "address",
            "Address or prefix",
            "::/0",
            "Flows of which either end, or an address that one was translated to, lies there; ::/0 is everything, \
             also IPv4",
        ))
        .variable(choice("network", "Network", "conntally.network.source"))
        .variable(choice("proto", "Protocol", "network.transport"))
        .variable(choice("port", "Port", "destination.port"))
        .variable(text(
            "filter",
            "Filter",
            "*",
            "Flows that this query in Lucene finds, too, as in source.port:53; * is everything. Links of the live board \
             fill it in",
        ))
}

fn completeness(board: Board) -> Board {
    let number = |title, filter: &str| {
        let target = over_time(&of_ends(filter), Metric::Count, &[]);
        Panel::number(title, "short", vec![target]).size(8, 4)
    };
    let number = |title, filter: String| number(title, &format!(" AND {filter}")).sums();
    let [reason, flags] = ["conntally.end_reason", "conntally.flags"].map(document);
    let metrics = [
        Metric::Min("conntally.audit.completeness.bytes"),
        Metric::Min("conntally.audit.completeness.packets"),
        Metric::Min("conntally.audit.completeness.flows"),
        Metric::Max("conntally.audit.lost.bytes"),
        Metric::Max("conntally.audit.doubts"),
        Metric::Max("@timestamp"),
    ];
    let agents = Panel::table("Completeness by agent", vec![largest(&of_agents(), &metrics, &["host.name"], 100)])
        .says(
            "The least that each agent told in this time: which part of what the kernel counted since its start was \
             delivered, or will be when it is due. \"at most\": something of unknown amount was lost, too. What waits \
             for a server is not lost: it is below. An agent without a row has told nothing in this time.",
        )
        .size(24, 5)
        .empty("no status in this time")
        .renamed(&[
            ("host.name", "Agent"),
            ("Min conntally.audit.completeness.bytes", "Bytes"),
            ("Min conntally.audit.completeness.packets", "Packets"),
            ("Min conntally.audit.completeness.flows", "Flows"),
            ("Max conntally.audit.lost.bytes", "Lost"),
            ("Max conntally.audit.doubts", "Parts are"),
            ("Max @timestamp", "Told"),
        ])
        .parts(&["Bytes", "Packets", "Flows"])
        .doubts("Parts are")
        .column_unit("Told", AGE);
    waiting(board.panel(agents.column_unit("Lost", "bytes")))
        .panel(
            number("Ends that were missed", format!("{reason}:{}", EndReason::Missed.name()))
                .red_from(1.0)
                .says("Flows that were found gone: what they moved last may be missing. 0 also where no flow came."),
        )
        .panel(
            number("Flows without counters", format!("{flags}:{NO_COUNTERS}"))
                .red_from(1.0)
                .says("They began while accounting was off: nothing is known of what they moved. 0 also where no flow came."),
        )
        .panel(
            number("Met in mid-life", format!("{flags}:{FIRST_SEEN_MIDLIFE}"))
                .says("They were there before the agent. Their totals are the kernel's and complete. 0 also where no flow came."),
        )
}

/// What sinks have taken in and their servers have not.
fn waiting(board: Board) -> Board {
    let waits = [
        Metric::Max("conntally.waiting.oldest_ms"),
        Metric::Max("conntally.waiting.records"),
        Metric::Max("conntally.waiting.bytes"),
        Metric::Max("@timestamp"),
    ];
    let by = ["host.name", "conntally.waiting.sink"];
    let table = Panel::table("Waiting to be delivered", vec![largest(&of_waiting(), &waits, &by, 100)])
        .says(
            "The most that each agent told in this time of what a sink has taken in and its server has not, in the queue or \
             in the spool. It is not lost, and counts as delivered until it is. \"Longest\" is yellow from 10 s on, \
             red from 1 min; of what an earlier agent left in a spool it is the time since the start of the one that told.",
        )
        .size(12, 6)
        .empty("no status in this time")
        .renamed(&[
            ("host.name", "Agent"),
            ("conntally.waiting.sink", "Sink"),
            ("Max conntally.waiting.records", "Records"),
            ("Max conntally.waiting.bytes", "Bytes"),
            ("Max conntally.waiting.oldest_ms", "Longest"),
            ("Max @timestamp", "Told"),
        ])
        .column_unit("Bytes", "bytes")
        .waits_in("Longest")
        .column("Told", &[("unit", json!(AGE)), ("custom.width", json!(150))]);
    board
        .panel(table)
        .panel(
            Panel::lines("Age of the oldest that waits", "ms", vec![over_time(
                &of_waiting(),
                Metric::Max("conntally.waiting.oldest_ms"),
                &["host.name", "conntally.waiting.sink"],
            )])
            .says(
                "By agent and sink, the highest of each interval. It grows while a server takes nothing, and falls when it \
                 takes all. What this server did not take is told when it takes something again.",
            )
            .size(12, 6)
            .waits()
            .with_lines()
            .empty("no status in this time"),
        )
}

fn traffic(board: Board) -> Board {
    let bytes = Metric::Sum("network.bytes");
    board
        .panel(
            Panel::bars("Bytes of finished flows, by protocol", "bytes", vec![over_time(
                &of_flows(),
                bytes,
                &["network.transport"],
            )])
            .says(
                "All that a flow moved in its life counts when it ends: this is no throughput. That is on the live board.",
            ),
        )
        .panel(Panel::bars("Flows that ended, by reason", "short", vec![over_time(
            &of_ends(""),
            Metric::Count,
            &["conntally.end_reason"],
        )]))
}

fn talkers(board: Board) -> Board {
    let metrics = [Metric::Sum("network.bytes"), Metric::Sum("network.packets"), Metric::Count];
    let table = |title, by: &[&'static str], size, names: &[(&str, &str)]| {
        let sums = [("Sum network.bytes", "Bytes"), ("Sum network.packets", "Packets"), ("Count", "Records")];
        Panel::table(title, vec![largest(&of_flows(), &metrics, by, size)])
            .renamed(&[names, &sums].concat())
            .column_unit("Bytes", "bytes")
            .size(8, 9)
    };
    let opener = table("Top openers", &["source.ip"], 20, &[("source.ip", "Opener")]);
    let answerer = table("Top answerers", &["destination.ip"], 20, &[("destination.ip", "Answerer")]);
    let names = [("network.transport", "Protocol"), ("destination.port", "Port")];
    board.panel(here(opener, "Opener")).panel(here(answerer, "Answerer")).panel(
        table("Ports", &["network.transport", "destination.port"], 50, &names)
            .column_unit("Port", "none")
            .says("Port 0 stands for flows without ports."),
    )
}

fn flows(board: Board) -> Board {
    let table = Panel::table("Flows", vec![newest(&of_ends(""), ROWS)])
        .says("The newest 500. Narrow time and variables for others. A click on an address shows all of its flows.")
        .size(24, 14)
        .columns(&[
            ("@timestamp", "Ended"),
            ("host.name", "Agent"),
            ("network.transport", "Protocol"),
            ("source.ip", "Opener"),
            ("source.port", "From port"),
            ("destination.ip", "Answerer"),
            ("destination.port", "Port"),
            ("source.nat.ip", "Opener seen as"),
            ("destination.nat.ip", "Answerer seen as"),
            ("source.bytes", "Bytes out"),
            ("destination.bytes", "Bytes back"),
            ("source.packets", "Packets out"),
            ("destination.packets", "Packets back"),
            ("event.duration", "Duration"),
            ("conntally.end_reason", "End"),
            ("conntally.flags", "Flags"),
            ("flow.id", "Flow"),
        ])
        .widths(&[
            ("Ended", 180),
            ("Agent", 100),
            ("Protocol", 95),
            ("Opener", 140),
            ("From port", 105),
            ("Answerer", 140),
            ("Port", 65),
            ("Opener seen as", 145),
            ("Answerer seen as", 155),
            ("Bytes out", 105),
            ("Bytes back", 110),
            ("Packets out", 120),
            ("Packets back", 130),
            ("Duration", 105),
            ("End", 80),
        ])
        // What follows them is text.
        .at_left(&["From port", "Port", "Duration"])
        .column_unit("From port", "none")
        .column_unit("Port", "none")
        .column_unit("Bytes out", "bytes")
        .column_unit("Bytes back", "bytes")
        .column_unit("Duration", "ns");
    board.panel(here(here(table, "Opener"), "Answerer"))
}

fn here(panel: Panel, column: &str) -> Panel {
    let link = json!([{ "title": "All flows of ${__value.text}", "url": HERE }]);
    panel.column(column, &[("links", link)])
}
