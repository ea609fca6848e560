//! The board of what flows now, from InfluxDB.

use conntally::sinks::influxdb::schema::MEASUREMENT;
use serde_json::{Value, json};

use crate::board::{Board, choice, constant, found, one_of, source};
use crate::influxql::{
    Known, Top, flows_in_all, flows_over_time, groups_in_all, last, losses_now, others_in_all, part,
    per_second, rows, series, stated, status_least, status_now, status_oldest, status_over_time, sum,
    top_gauge_over_time, top_over_time, waiting_longest, waiting_now, waiting_over_time, waits,
};
use crate::lucene::End;
use crate::names::{delta, status, status_tag, tag};
use crate::panel::{AGE, Panel};

/// What panels say where no agent said how complete it is.
const NO_STATUS: &str = "no status in this time";

/// What panels say where no point came.
const NO_POINTS: &str = "no points in this time";

/// How what a hidden column says is looked for in the archive.
const ARCHIVE: &str = "/d/conntally-archive?${__url_time_range}&${host:queryparam}&var-filter=";

/// What everything is called that is not among the greatest.
const REST: &str = "all the rest";

const TOP_SRC: Top = Top { variable: "top_src", by: "src" };
const TOP_DST: Top = Top { variable: "top_dst", by: "dst" };
const TOP_PORT: Top = Top { variable: "top_port", by: "port" };
const TOP_PROTO: Top = Top { variable: "top_proto", by: "proto" };
const TOP_OPEN: Top = Top { variable: "top_open", by: "src" };

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
    let tops = [TOP_SRC, TOP_DST, TOP_PORT, TOP_PROTO].map(|top| (top, top.of_sums(&moved())));
    let tops = tops.into_iter().chain([(TOP_OPEN, TOP_OPEN.of_gauge("open_flows"))]);
    let board = board
        .variable(source("influxdb"))
        .variable(constant("measurement", MEASUREMENT, "The measurement that the sink is configured with"))
        .variable(choice("host", "Agent", &["host"]))
        .variable(choice("network", "Network", &["src", "dst"]))
        .variable(choice("proto", "Protocol", &["proto"]))
        .variable(choice("port", "Port or service", &["port"]))
        .variable(one_of(
            "top",
            "Series",
            &["5", "10", "20", "50"],
            "10",
            "As many are shown by themselves where there is one of each network or service, and the rest as one more",
        ));
    tops.fold(board, |board, (Top { variable, .. }, query)| {
        board.variable(found(variable, "influxdb", &query, "The greatest of the time shown"))
    })
}

fn completeness(board: Board) -> Board {
    let least = |known, alias| {
        let query = status_least(&part("lost_bytes", "counted_bytes"), known);
        series(query, alias)
    };
    let board = board
        .panel(
            Panel::number(
                "Completeness",
                "percentunit",
                vec![least(Known::Exactly, "exact"), least(Known::AtMost, AT_MOST)],
            )
            .says(
                "The least complete agent, in bytes. Red as soon as a byte is missing; yellow, and an upper bound, where \
                 an agent lost something of unknown amount. What waits for a server is not lost: see the longest wait. \
                 Of agents that told something in the last five minutes.",
            )
            .size(4, 5)
            .part(4)
            .named()
            .red_below(1.0)
            .yellow_at_best(AT_MOST, 1.0)
            .empty("no status for 5 min"),
        )
        .panel(
            Panel::number("Longest wait", "ms", vec![series(waiting_longest(), "oldest")])
                .says(
                    "For how long the oldest record has waited that a sink has not delivered. Yellow from 10 s on, red from \
                     1 min: a server takes nothing, or not enough. Of agents that told something in the last five minutes.",
                )
                .size(4, 5)
                .waits()
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
                .size(12, 5)
                .empty(NO_STATUS)
                .blank("Reason", "in all")
                .renamed(&[(status_tag("reason"), "Reason"), (status_tag("host"), "Agent")])
                .hidden("Time")
                .column_unit("Bytes", "bytes"),
        )
        .panel(by_agent());
    let lost = vec![(format!("non_negative_difference({})", last(status("lost_bytes"))), "lost")];
    waiting(board)
        .panel(
            Panel::bars("Lost within each interval", "bytes", vec![series(status_over_time(&lost), "$tag_host")])
                .says("What was lost since the interval before. The first interval of the time shown has none before.")
                .empty("no two statuses in this time")
                .size(24, 5),
        )
}

fn by_agent() -> Panel {
    let parts = [
        (part("lost_bytes", "counted_bytes"), "Bytes"),
        (part("lost_packets", "counted_packets"), "Packets"),
        (part("lost_flows", "counted_flows"), "Flows"),
        (stated("lost_bytes"), "Lost"),
        (stated("doubts"), "Parts are"),
        (stated("live_flows"), "Open flows"),
    ];
    Panel::table("Completeness by agent", vec![rows(status_now(&parts))])
        .says(
            "Since the start of each agent: which part of what the kernel counted was delivered, or will be when it \
             is due. \"at most\": something of unknown amount was lost, too. What waits for a server is not lost: \
             it is below. An agent without a row has told nothing in this time.",
        )
        .size(24, 5)
        .empty(NO_STATUS)
        .renamed(&[(status_tag("host"), "Agent"), ("Time", "Told")])
        .column("Told", &[("unit", json!(AGE)), ("custom.minWidth", json!(110))])
        .parts(&["Bytes", "Packets", "Flows"])
        .doubts("Parts are")
        .column_unit("Lost", "bytes")
}

/// What sinks have taken in and their servers have not.
fn waiting(board: Board) -> Board {
    let columns = [
        (waits("waiting_records"), "Records"),
        (waits("waiting_bytes"), "Bytes"),
        (waits("oldest_ms"), "Oldest"),
    ];
    board
        .panel(
            Panel::table("Waiting to be delivered", vec![rows(waiting_now(&columns))])
                .says(
                    "What each sink has taken in and its server has not, in the queue or in the spool, as told last. It is \
                     not lost, and counts as delivered until it is. \"Oldest\" is yellow from 10 s on, red from 1 min; \
                     of what an earlier agent left in a spool it is the time since this one's start. Sums of an interval \
                     that is not over wait nowhere yet.",
                )
                .size(12, 6)
                .empty(NO_STATUS)
                .sorted("Oldest")
                .renamed(&[(status_tag("host"), "Agent"), (status_tag("sink"), "Sink"), ("Time", "Told")])
                .column("Told", &[("unit", json!(AGE)), ("custom.width", json!(150))])
                .column_unit("Bytes", "bytes")
                .waits_in("Oldest"),
        )
        .panel(
            Panel::lines("Age of the oldest that waits", "ms", vec![series(
                waiting_over_time(),
                "$tag_host: $tag_sink",
            )])
            .says("The highest of each interval. It grows while a server takes nothing, and falls when it takes all.")
            .size(12, 6)
            .waits()
            .with_lines()
            .empty(NO_STATUS),
        )
}

fn traffic(board: Board) -> Board {
    let bits = per_second(&moved(), 8);
    let by = |title, top, alias| {
        let [of_top, of_rest] = top_over_time(&[(bits.clone(), "bits")], top);
        Panel::areas(title, "bps", vec![series(of_top, alias), series(of_rest, REST)]).gray(REST)
    };
    let one = |field, alias| {
        let query = flows_over_time(&[(per_second(&[delta(field)], 8), "bits")]);
        series(query, alias)
    };
    let packets = |field, alias| {
        let query = flows_over_time(&[(per_second(&[delta(field)], 1), "packets")]);
        series(query, alias)
    };
    board
        .panel(
            by("Throughput by network that opened", TOP_SRC, "$tag_src")
                .says("Both directions of the flows that this network opened. The $top that moved most, and the rest."),
        )
        .panel(
            by("Throughput by network that answered", TOP_DST, "$tag_dst").says(
                "Both directions of the flows that were opened to this network. The $top that moved most, and the rest.",
            ),
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
            by("Throughput by service", TOP_PORT, "$tag_port")
                .says("By the port that answered. The $top that moved most, and the rest, with flows that have no port."),
        )
        .panel(
            by("Throughput by protocol", TOP_PROTO, "$tag_proto").says("The $top that moved most, and the rest."),
        )
}

fn flows(board: Board) -> Board {
    let rate = |field, alias| {
        let query = flows_over_time(&[(per_second(&[delta(field)], 1), "flows")]);
        series(query, alias)
    };
    let [of_top, of_rest] = top_gauge_over_time("open_flows", TOP_OPEN);
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
                vec![series(of_top, "$tag_src"), series(of_rest, REST)],
            )
            .gray(REST)
            .says("How many were open at the end of each interval. The $top that had most at a time, and the rest.")
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
    let names = [("proto", "Protocol"), ("port", "Service")].map(|(name, shown)| (tag(name), shown));
    let summed = |panel: Panel| panel.hidden("Time").column_unit("Bytes", "bytes");
    let ports = Panel::table("Ports and services", vec![rows(flows_in_all(&columns, &["proto", "port"]))]);
    let others = Panel::table("Groups without series of their own", vec![rows(others_in_all(&columns))]);
    let talkers = Panel::table("Top talkers", vec![rows(groups_in_all(&columns, &["src", "dst"], &ENDS))]);
    let by = ["src", "dst", "proto", "port"];
    let groups = Panel::table(
        "Flows by group",
        vec![rows(groups_in_all(&columns, &by, &[&ENDS[..], &names].concat()))],
    );
    board
        .panel(
            archived(summed(talkers.sorted("Bytes")))
                .limited(20)
                .says("Pairs of networks that moved most. A click on one shows the finished flows in the archive that it opened, or that were opened to it."),
        )
        .panel(summed(ports.sorted("Bytes").renamed(&names)).limited(50))
        .panel(
            archived(summed(groups.sorted("Bytes")))
                .says(
                    "Every group that moved something and has a series of its own. A click on a network shows the finished \
                     flows in the archive, one by one, that it opened, or that were opened to it.",
                )
                .size(24, 10),
        )
        .panel(
            summed(others)
                .says(
                    "What moved in groups for which there is no series (max_series), called \"other\" everywhere else. Which \
                     they are is not known here; the archive has their flows.",
                )
                .size(24, 3)
                .empty("no such groups in this time"),
        )
}

/// The ends of groups: as they are shown, and hidden as what the archive is asked for.
const ENDS: [(&str, &str); 4] =
    [("src", "Opened"), ("dst", "Answered"), ("src", "opened_query"), ("dst", "answered_query")];

/// A click on an end leads to its flows in the archive.
fn archived(panel: Panel) -> Panel {
    let sides = [
        ("Opened", "opened_query", End::Opener, "Finished flows that ${__value.text} opened"),
        ("Answered", "answered_query", End::Answerer, "Finished flows that were opened to ${__value.text}"),
    ];
    sides.into_iter().fold(panel, |panel, (shown, hidden, end, title)| {
        let url = format!("{ARCHIVE}${{__data.fields.{hidden}.text:percentencode}}");
        panel
            .column(shown, &[("links", json!([{ "title": title, "url": url }]))])
            .column(hidden, &[("mappings", end.mappings()), ("custom.hidden", json!(true))])
    })
}
