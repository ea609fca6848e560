//! Queries in InfluxQL, which InfluxDB 1 and 2 answer alike.

use conntally::pipeline::networks::OTHER;
use conntally::sinks::influxdb::schema::{LOSS, STATUS, STATUS_FIELDS, WAITING, WAITING_FIELDS};
use serde_json::{Value, json};

use crate::names::{gauge, loss, status, status_tag, tag, waiting};

/// The measurement is a constant of the board, as the agent's configuration may name another.
const FLOWS: &str = "$measurement";

/// A statement that is older says nothing of the present. Agents make one every ten seconds.
const RECENT: &str = "5m";

/// Which points of groups are meant, by the board's variables. A tag that a point lacks is empty, which `.*` matches.
fn of_flows() -> String {
    let [host, src, dst, proto, port] = ["host", "src", "dst", "proto", "port"].map(tag);
    format!(
        "\"{host}\" =~ /^$host$/ AND (\"{src}\" =~ /^$network$/ OR \"{dst}\" =~ /^$network$/) \
         AND \"{proto}\" =~ /^$proto$/ AND \"{port}\" =~ /^$port$/ AND $timeFilter"
    )
}

/// Which statements are meant.
fn of_agents() -> String {
    format!("\"{}\" =~ /^$host$/ AND $timeFilter", status_tag("host"))
}

/// Which points tell of the present.
fn recent() -> String {
    format!("time > ${{__to}}ms - {RECENT}")
}

fn tags(names: &[&'static str]) -> String {
    names.iter().map(|name| format!(", \"{name}\"")).collect()
}

/// The sum of fields, as text.
pub(crate) fn sum(fields: &[&'static str]) -> String {
    let sums: Vec<_> = fields.iter().map(|field| format!("sum(\"{field}\")")).collect();
    if sums.len() == 1 { sums.concat() } else { format!("({})", sums.join(" + ")) }
}

/// A sum per second, times a factor. The interval is a whole number of milliseconds.
pub(crate) fn per_second(fields: &[&'static str], factor: u32) -> String {
    format!("{} * {} / $__interval_ms", sum(fields), 1_000 * factor)
}

/// The greatest values of a tag, which a variable of the board has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Top {
    /// The variable.
    pub(crate) variable: &'static str,
    /// The tag.
    pub(crate) by: &'static str,
}

impl Top {
    /// The values that moved most. Points without the tag have none: they are among the rest.
    pub(crate) fn of_sums(self, fields: &[&'static str]) -> String {
        let by = tag(self.by);
        let sums = format!(
            "SELECT {} AS \"sum\" FROM \"{FLOWS}\" WHERE \"{by}\" != '' AND {} GROUP BY \"{by}\"",
            sum(fields),
            of_flows()
        );
        format!("SELECT \"{by}\" FROM (SELECT top(\"sum\", \"{by}\", $top) FROM ({sums}))")
    }

    /// The values of which a gauge was highest: of each series its most, summed over series.
    pub(crate) fn of_gauge(self, field: &'static str) -> String {
        let (by, field) = (tag(self.by), gauge(field));
        let most = format!(
            "SELECT max(\"{field}\") AS \"most\" FROM \"{FLOWS}\" WHERE \"{by}\" != '' AND {} GROUP BY *",
            of_flows()
        );
        let sums = format!("SELECT sum(\"most\") AS \"sum\" FROM ({most}) GROUP BY \"{by}\"");
        format!("SELECT \"{by}\" FROM (SELECT top(\"sum\", \"{by}\", $top) FROM ({sums}))")
    }

    fn is(self) -> String {
        format!("\"{}\" =~ /^${}$/", tag(self.by), self.variable)
    }

    fn is_not(self) -> String {
        format!("\"{}\" !~ /^${}$/", tag(self.by), self.variable)
    }
}

/// Sums of points of groups over time; intervals in which nothing moved are zero.
pub(crate) fn flows_over_time(what: &[(String, &str)]) -> String {
    sums_over_time(what, "", &[])
}

/// The same of the greatest values of a tag, and of all others together.
pub(crate) fn top_over_time(what: &[(String, &str)], top: Top) -> [String; 2] {
    let [of_top, of_rest] = [top.is(), top.is_not()].map(|which| format!("{which} AND "));
    [sums_over_time(what, &of_top, &[tag(top.by)]), sums_over_time(what, &of_rest, &[])]
}

fn sums_over_time(what: &[(String, &str)], which: &str, by: &[&'static str]) -> String {
    format!(
        "SELECT {} FROM \"{FLOWS}\" WHERE {which}{} GROUP BY time($__interval){} fill(0)",
        columns(what),
        of_flows(),
        tags(by)
    )
}

/// Sums of points of groups over the whole time.
pub(crate) fn flows_in_all(what: &[(String, &str)], by: &[&'static str]) -> String {
    let by: Vec<_> = by.iter().map(|name| format!("\"{}\"", tag(name))).collect();
    format!("SELECT {} FROM \"{FLOWS}\" WHERE {} GROUP BY {}", columns(what), of_flows(), by.join(", "))
}

/// The groups that have series of their own: sums over the whole time. Names of tags are text columns here, so that one may
/// be there twice, to be shown and to be looked for.
pub(crate) fn groups_in_all(
    what: &[(String, &str)],
    by: &[&'static str],
    named: &[(&'static str, &str)],
) -> String {
    let sums = format!("{} FROM \"{FLOWS}\" WHERE {} AND {}", columns(what), of_group(false), of_flows());
    let by: Vec<_> = by.iter().map(|name| format!("\"{}\"", tag(name))).collect();
    let shown = what.iter().map(|(_, name)| format!("\"{name}\""));
    let named = named.iter().map(|(name, shown)| format!("\"{}\" AS \"{shown}\"", tag(name)));
    let shown: Vec<_> = named.chain(shown).collect();
    format!("SELECT {} FROM (SELECT {sums} GROUP BY {}) WHERE $timeFilter", shown.join(", "), by.join(", "))
}

/// The same of all that have none, together.
pub(crate) fn others_in_all(what: &[(String, &str)]) -> String {
    format!("SELECT {} FROM \"{FLOWS}\" WHERE {} AND {}", columns(what), of_group(true), of_flows())
}

/// Which points are of the group of all that have no series of their own: each of its tags says so.
fn of_group(of_others: bool) -> String {
    let is = if of_others { "=" } else { "!=" };
    format!("\"{}\" {is} '{OTHER}'", tag("src"))
}

/// A gauge of points of groups over time: the last of each series in each interval, summed over series; of the greatest
/// values of a tag, and of all others together.
pub(crate) fn top_gauge_over_time(field: &'static str, top: Top) -> [String; 2] {
    let field = gauge(field);
    let over_time = |which: &str, by: &[&'static str]| {
        format!(
            "SELECT sum(\"last\") FROM (SELECT last(\"{field}\") AS \"last\" FROM \"{FLOWS}\" WHERE {which} AND {} \
             GROUP BY time($__interval), *) WHERE $timeFilter GROUP BY time($__interval){} fill(none)",
            of_flows(),
            tags(by)
        )
    };
    [over_time(&top.is(), &[tag(top.by)]), over_time(&top.is_not(), &[])]
}

/// What statements said last, of each agent, and when.
pub(crate) fn status_now(what: &[(String, &str)]) -> String {
    format!(
        "SELECT {} FROM ({}) WHERE $timeFilter GROUP BY \"{}\"",
        columns(what),
        last_statements(""),
        status_tag("host")
    )
}

/// The last statement of each agent, whole: its fields are of one moment, which is the time of the row.
fn last_statements(more: &str) -> String {
    let [first, rest @ ..] = STATUS_FIELDS;
    let rest: String = rest.iter().map(|field| format!(", \"{field}\"")).collect();
    format!(
        "SELECT last(\"{first}\") AS \"{first}\"{rest} FROM \"{STATUS}\" WHERE {}{more} GROUP BY \"{}\"",
        of_agents(),
        status_tag("host")
    )
}

/// What statements said over time.
pub(crate) fn status_over_time(what: &[(String, &str)]) -> String {
    format!(
        "SELECT {} FROM \"{STATUS}\" WHERE {} GROUP BY time($__interval), \"{}\" fill(none)",
        columns(what),
        of_agents(),
        status_tag("host")
    )
}

/// Whether figures are to be told that are known, or that are bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Known {
    /// No agent lost anything of unknown amount.
    Exactly,
    /// One of them did.
    AtMost,
}

/// The least of something over all agents that said something within the last minutes of the time shown, if it is
/// as well known as that.
pub(crate) fn status_least(what: &str, known: Known) -> String {
    let doubts = status("doubts");
    let is_known = match known {
        Known::Exactly => "= 0",
        Known::AtMost => "> 0",
    };
    let of_each = format!(
        "SELECT {what} AS \"part\", \"{doubts}\" FROM ({}) WHERE $timeFilter GROUP BY \"{}\"",
        last_statements(&format!(" AND {}", recent())),
        status_tag("host")
    );
    format!(
        "SELECT \"part\" FROM (SELECT min(\"part\") AS \"part\", max(\"{doubts}\") AS \"{doubts}\" \
         FROM ({of_each}) WHERE $timeFilter) WHERE \"{doubts}\" {is_known} AND $timeFilter"
    )
}

/// The last statement of the agent that has been silent for longest: its time is what matters.
pub(crate) fn status_oldest() -> String {
    let [first, ..] = STATUS_FIELDS;
    format!("SELECT first(\"{first}\") AS \"told\" FROM ({}) WHERE $timeFilter", last_statements(""))
}

/// What statements said last of what waits, of each agent and sink, and when.
pub(crate) fn waiting_now(what: &[(String, &str)]) -> String {
    let [host, sink] = ["host", "sink"].map(status_tag);
    let of_each = last_waiting("");
    format!("SELECT {} FROM ({of_each}) WHERE $timeFilter GROUP BY \"{host}\", \"{sink}\"", columns(what))
}

/// For how long the oldest waits of all that agents told of within the last minutes of the time shown.
pub(crate) fn waiting_longest() -> String {
    let oldest = waiting("oldest_ms");
    let of_each = last_waiting(&format!(" AND {}", recent()));
    format!("SELECT max(\"{oldest}\") AS \"oldest\" FROM ({of_each}) WHERE $timeFilter")
}

/// For how long the oldest waited over time.
pub(crate) fn waiting_over_time() -> String {
    let [host, sink] = ["host", "sink"].map(status_tag);
    format!(
        "SELECT max(\"{}\") AS \"oldest\" FROM \"{WAITING}\" WHERE {} \
         GROUP BY time($__interval), \"{host}\", \"{sink}\" fill(none)",
        waiting("oldest_ms"),
        of_agents()
    )
}

/// The last that was told of each agent and sink; its fields are of one moment.
fn last_waiting(more: &str) -> String {
    let [first, rest @ ..] = WAITING_FIELDS;
    let rest: String = rest.iter().map(|field| format!(", \"{field}\"")).collect();
    let [host, sink] = ["host", "sink"].map(status_tag);
    format!(
        "SELECT last(\"{first}\") AS \"{first}\"{rest} FROM \"{WAITING}\" WHERE {}{more} \
         GROUP BY \"{host}\", \"{sink}\"",
        of_agents()
    )
}

/// What was lost by reason and agent; and in all, without a reason, of every agent that said something: where nothing
/// was lost, zeros. Only of the last minutes of the time shown: an agent that was started again says nothing more of what
/// was lost before.
pub(crate) fn losses_now() -> String {
    let what =
        [("lost_bytes", "Bytes"), ("lost_packets", "Packets"), ("lost_flows", "Flows"), ("unknown", "Times")];
    let what = what.map(|(field, name)| (last(loss(field)), name));
    format!(
        "SELECT {} FROM \"{LOSS}\", \"{STATUS}\" WHERE {} AND {} GROUP BY \"{}\", \"{}\"",
        columns(&what),
        of_agents(),
        recent(),
        status_tag("reason"),
        status_tag("host")
    )
}

/// The last value of a field.
pub(crate) fn last(field: &'static str) -> String {
    format!("last(\"{field}\")")
}

/// A field of a whole statement.
pub(crate) fn stated(field: &'static str) -> String {
    format!("\"{}\"", status(field))
}

/// A field of what waits.
pub(crate) fn waits(field: &'static str) -> String {
    format!("\"{}\"", waiting(field))
}

/// Which part of a figure of a whole statement is not lost.
pub(crate) fn part(lost: &'static str, counted: &'static str) -> String {
    // Of fields as they are, and not of their sums, a quotient of integers is an integer.
    format!("1.0 - {} * 1.0 / {}", stated(lost), stated(counted))
}

fn columns(what: &[(String, &str)]) -> String {
    let columns: Vec<_> = what.iter().map(|(what, name)| format!("{what} AS \"{name}\"")).collect();
    columns.join(", ")
}

/// What a panel asks: series over time, called by `alias`.
pub(crate) fn series(query: String, alias: &str) -> Value {
    json!({
        "refId": "A",
        "datasource": { "type": "influxdb", "uid": "${datasource}" },
        "rawQuery": true,
        "query": query,
        "resultFormat": "time_series",
        "alias": alias,
    })
}

/// What a panel asks: rows.
pub(crate) fn rows(query: String) -> Value {
    let mut target = series(query, "");
    if let Some(format) = target.get_mut("resultFormat") {
        *format = "table".into();
    }
    target
}
