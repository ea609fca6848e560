//! The board of finished flows, from Elasticsearch or OpenSearch.

use serde_json::{Value, json};

use crate::board::{Board, choice, source, text};
use crate::lucene::{Metric, every, largest, newest, of_agents, of_ends, of_flows, over_time};
use crate::names::document;
use crate::panel::Panel;

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
    let board = variables(board).link("Live flows", "conntally-live");
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
}

fn completeness(board: Board) -> Board {
    let number = |title, filter: &str| {
        let target = over_time(&of_ends(filter), Metric::Count, None);
        Panel::number(title, "short", target).size(3, 6).empty("0")
    };
    let number = |title, filter: String| number(title, &format!(" AND {filter}")).sums().red_from(1.0);
    let [reason, flags] = ["conntally.end_reason", "conntally.flags"].map(document);
    let metrics = [
        Metric::Min("conntally.audit.completeness.bytes"),
        Metric::Min("conntally.audit.completeness.packets"),
        Metric::Min("conntally.audit.completeness.flows"),
        Metric::Max("conntally.audit.lost.bytes"),
        Metric::Max("conntally.audit.doubts"),
    ];
    let agents = Panel::table("Completeness by agent", vec![largest(&of_agents(), &metrics, &["host.name"], 100)])
        .says(
            "The least that each agent told in this time: which part of what the kernel counted since its start was \
             delivered, or will be when it is due. With losses of unknown amount the parts are upper bounds. An agent \
             without a row has told nothing in this time.",
        )
        .size(15, 6)
        .renamed(&[
            ("host.name", "Agent"),
            ("Min conntally.audit.completeness.bytes", "Bytes"),
            ("Min conntally.audit.completeness.packets", "Packets"),
            ("Min conntally.audit.completeness.flows", "Flows"),
            ("Max conntally.audit.lost.bytes", "Lost"),
            ("Max conntally.audit.doubts", "Of unknown amount"),
        ]);
    let agents = ["Bytes", "Packets", "Flows"].into_iter().fold(agents, |agents, name| {
        agents.column(name, &[("unit", json!("percentunit")), ("decimals", json!(6))])
    });
    board
        .panel(agents.column_unit("Lost", "bytes"))
        .panel(
            number("Ends that were missed", format!("{reason}:missed"))
                .says("Flows that were found gone: what they moved last may be missing."),
        )
        .panel(
            number("Flows without counters", format!("{flags}:no_counters"))
                .says("They began while accounting was off: nothing is known of what they moved."),
        )
        .panel(
            number("Met in mid-life", format!("{flags}:first_seen_midlife"))
                .says("They were there before the agent. Their totals are the kernel's and complete."),
        )
}

fn traffic(board: Board) -> Board {
    let bytes = Metric::Sum("network.bytes");
    board
        .panel(
            Panel::bars("Bytes of finished flows, by protocol", "bytes", vec![over_time(
                &of_flows(),
                bytes,
                Some("network.transport"),
            )])
            .says(
                "All that a flow moved in its life counts when it ends: this is no throughput. That is on the live board.",
            ),
        )
        .panel(Panel::bars("Flows that ended, by reason", "short", vec![over_time(
            &of_ends(""),
            Metric::Count,
            Some("conntally.end_reason"),
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
        .column("Ended", &[("custom.width", json!(190))])
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
