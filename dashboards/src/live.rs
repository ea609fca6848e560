//! The board of what flows now, from InfluxDB.

use conntally::sinks::influxdb::schema::MEASUREMENT;
use serde_json::{Value, json};

use crate::board::{Board, choice, constant, source};
use crate::influxql::{
    Known, flows_in_all, flows_over_time, gauge_over_time, last, losses_now, part, per_second, rows, series,
    stated, status_least, status_now, status_oldest, status_over_time, sum,
};
use crate::names::{delta, status, status_tag, tag};
use crate::panel::{AGE, Panel};

/// What panels say where no agent said how complete it is.
const NO_STATUS: &str = "no status in this time";

/// What panels say where no point came.
const NO_POINTS: &str = "no points in this time";

/// How what a value names is looked for in the archive.
const ARCHIVE: &str = "/d/conntally-archive?${__url_time_range}";

fn moved() -> [&'static str; 2] {
    [delta("source_bytes"), delta("destination_bytes")]
}

/// What a completeness is called that is an upper bound.
const AT_MOST: &str = "unknown, at most";

/// The board.
pub(crate) fn board() -> Value {
    let board = Board::new(
        "conntally-live",
        "conntally: live flows",
        "What flows now, by networks, protocols and services. Sums are exact: every point says what is new.",
    );
    let board = variables(board).link("Archive: finished flows", "conntally-archive").empty(NO_POINTS);
    let board = completeness(board.row("Is anything missing?"));
    let board = traffic(board.row("Traffic"));
    let board = flows(board.row("How many flows"));
    talkers(board.row("Who and what")).json()
}

fn variables(board: Board) -> Board {
    let values = |tags: &[&'static str]| {
        let tags: Vec<_> = tags.iter().map(|name| format!("\"{}\"", tag(name))).collect();
        json!(format!("SHOW TAG VALUES FROM \"$measurement\" WITH KEY IN ({})", tags.join(", ")))
    };
    let choice = |name, label, tags| choice(name, label, "influxdb", &values(tags), ".*");
    board
        .variable(source("influxdb"))
        .variable(constant("measurement", MEASUREMENT, "The measurement that the sink is configured with"))
        .variable(choice("host", "Agent", &["host"]))
        .variable(choice("network", "Network", &["src", "dst"]))
        .variable(choice("proto", "Protocol", &["proto"]))
        .variable(choice("port", "Port or service", &["port"]))
}

fn completeness(board: Board) -> Board {
    let parts = [
        (part("lost_bytes", "counted_bytes"), "Bytes"),
        (part("lost_packets", "counted_packets"), "Packets"),
        (part("lost_flows", "counted_flows"), "Flows"),
        (stated("lost_bytes"), "Lost"),
        (stated("doubts"), "Parts are"),
        (stated("live_flows"), "Open flows"),
    ];
    let least = |known, alias| {
        let query = status_least(&part("lost_bytes", "counted_bytes"), known);
        series(query, alias)
    };
    let agents = Panel::table("Completeness by agent", vec![rows(status_now(&parts))])
        .says(
            "Since the start of each agent: which part of what the kernel counted was delivered, or will be when it \
             is due. \"at most\": something of unknown amount was lost, too. An agent without a row has told nothing \
             in this time.",
        )
        .size(24, 5)
        .empty(NO_STATUS)
        .renamed(&[(status_tag("host"), "Agent"), ("Time", "Told")])
        .column("Told", &[("unit", json!(AGE)), ("custom.minWidth", json!(110))])
        .parts(&["Bytes", "Packets", "Flows"])
        .doubts("Parts are");
    let lost = vec![(format!("non_negative_difference({})", last(status("lost_bytes"))), "lost")];
    board
        .panel(
            Panel::number(
                "Completeness",
                "percentunit",
                vec![least(Known::Exactly, "exact"), least(Known::AtMost, AT_MOST)],
            )
            .says(
                "The least complete agent, in bytes. Red as soon as a byte is missing; yellow, and an upper bound, where \
                 an agent lost something of unknown amount. Of agents that told something in the last five minutes.",
            )
            .size(4, 5)
            .part(4)
            .named()
            .red_below(1.0)
            .yellow_at_best(AT_MOST, 1.0)
            .empty("no status for 5 min"),
        )
        .panel(
            Panel::number("Last status", AGE, vec![rows(status_oldest())])
                .says("Of the agent that has been silent for longest. Agents tell every ten seconds how complete they are.")
                .size(4, 5)
                .age()
                .empty("none"),
        )
        .panel(
            Panel::table("Lost, by reason", vec![rows(losses_now())])
                .says(
                    "Since the start of each agent that said something in the last 5 minutes. Zeros and no other row: nothing \
                     was lost. \"Times\" counts losses of unknown amount.",
                )
                .size(16, 5)
                .empty(NO_STATUS)
                .blank("Reason", "in all")
                .renamed(&[(status_tag("reason"), "Reason"), (status_tag("host"), "Agent")])
                .hidden("Time")
                .column_unit("Bytes", "bytes"),
        )
        .panel(agents.column_unit("Lost", "bytes"))
        .panel(
            Panel::bars("Lost within each interval", "bytes", vec![series(status_over_time(&lost), "$tag_host")])
                .says("What was lost since the interval before. The first interval of the time shown has none before.")
                .empty("no two statuses in this time")
                .size(24, 5),
        )
}

fn traffic(board: Board) -> Board {
    let bits = per_second(&moved(), 8);
    let by = |title, name: &'static str, alias| {
        let query = flows_over_time(&[(bits.clone(), "bits")], &[name]);
        Panel::areas(title, "bps", vec![series(query, alias)])
    };
    let one = |field, alias| {
        let query = flows_over_time(&[(per_second(&[delta(field)], 8), "bits")], &[]);
        series(query, alias)
    };
    let packets = |field, alias| {
        let query = flows_over_time(&[(per_second(&[delta(field)], 1), "packets")], &[]);
        series(query, alias)
    };
    board
        .panel(
            by("Throughput by network that opened", "src", "$tag_src")
                .says("Both directions of the flows that this network opened."),
        )
        .panel(
            by("Throughput by network that answered", "dst", "$tag_dst")
                .says("Both directions of the flows that were opened to this network."),
        )
        .panel(Panel::lines(
            "Throughput by direction",
            "bps",
            vec![one("source_bytes", "from openers"), one("destination_bytes", "to openers")],
        ))
        .panel(Panel::lines(
            "Packets by direction",
            "pps",
            vec![packets("source_packets", "from openers"), packets("destination_packets", "to openers")],
        ))
        .panel(
            by("Throughput by service", "port", "$tag_port")
                .says("By the port that answered. Flows without ports have no name."),
        )
        .panel(by("Throughput by protocol", "proto", "$tag_proto"))
}

fn flows(board: Board) -> Board {
    let rate = |field, alias| {
        let query = flows_over_time(&[(per_second(&[delta(field)], 1), "flows")], &[]);
        series(query, alias)
    };
    let live = status_over_time(&[(last(status("live_flows")), "flows")]);
    board
        .panel(
            Panel::lines(
                "Flows per second",
                "suffix: flows/s",
                vec![rate("flows_started", "started"), rate("flows_ended", "ended")],
            )
            .says("Flows that the agent met in the middle of their life end without having started."),
        )
        .panel(
            Panel::lines("Open flows by agent", "short", vec![series(live, "$tag_host")])
                .says("All flows in the agent's table, whatever the variables choose but the agent."),
        )
        .panel(
            Panel::areas(
                "Open flows by network that opened",
                "short",
                vec![series(gauge_over_time("open_flows", "src"), "$tag_src")],
            )
            .says("How many were open at the end of each interval.")
            .size(24, 8),
        )
}

fn talkers(board: Board) -> Board {
    let columns = [
        (sum(&moved()), "Bytes"),
        (sum(&[delta("source_packets"), delta("destination_packets")]), "Packets"),
        (sum(&[delta("flows_started")]), "Started"),
        (sum(&[delta("flows_ended")]), "Ended"),
    ];
    let names = [("src", "Opened"), ("dst", "Answered"), ("proto", "Protocol"), ("port", "Service")];
    let names = names.map(|(name, shown)| (tag(name), shown));
    let table = |title, by: &[&'static str]| {
        Panel::table(title, vec![rows(flows_in_all(&columns, by))])
            .sorted("Bytes")
            .renamed(&names)
            .hidden("Time")
            .column_unit("Bytes", "bytes")
    };
    let archived = |panel: Panel, column: &str| {
        // What the groups are of is not known here: names from [networks], or prefixes.
        let link = json!([
            {
                "title": "Finished flows of the network ${__value.text}",
                "url": format!("{ARCHIVE}&var-network=${{__value.text}}"),
            },
            {
                "title": "Finished flows of the prefix ${__value.text}",
                "url": format!("{ARCHIVE}&var-address=${{__value.text}}"),
            },
        ]);
        panel.column(column, &[("links", link)])
    };
    let (src, dst) = ("Opened", "Answered");
    let talkers = archived(archived(table("Top talkers", &["src", "dst"]), src), dst);
    let groups = archived(archived(table("Flows by group", &["src", "dst", "proto", "port"]), src), dst);
    board
        .panel(
            talkers
                .limited(20)
                .says("Pairs of networks that moved most. A click on one shows its finished flows in the archive."),
        )
        .panel(table("Ports and services", &["proto", "port"]).limited(50))
        .panel(
            groups
                .says(
                    "Every group that moved something. \"other\" is the sum of all that have no series of their own. A \
                     click on a network shows its finished flows in the archive, one by one.",
                )
                .size(24, 10),
        )
}
