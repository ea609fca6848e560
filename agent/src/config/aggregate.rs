//! How a sink's records are added up: `group_by`, `interval`, `max_series`, `series_window`.

use super::Choice;
use super::reader::Section;
use crate::pipeline::aggregate::{AddressBy, AggregateConfig, Ends, Grouping, PortBy};
use std::time::Duration;

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3_600);
const LONGEST_WINDOW: Duration = Duration::from_secs(31 * 86_400);
const MOST_SERIES: u32 = 1_000_000;

impl Choice for PortBy {
    const ALL: &'static [(&'static str, Self)] = &[("number", Self::Number), ("service", Self::Service)];
}

/// Reads the keys of a sink; what is absent is as in `default`.
pub(crate) fn read(section: &mut Section<'_>, default: AggregateConfig) -> AggregateConfig {
    let is_there = section.place("group_by").is_some();
    let read = section.section("group_by", grouping);
    let grouping = if is_there { read } else { default.grouping };
    let interval = section.duration("interval", default.interval, LONGEST_INTERVAL);
    if interval < SHORTEST_INTERVAL {
        section.problem_at("interval", "is too short; the least is 1s");
    }
    let series_window = section.duration("series_window", default.series_window, LONGEST_WINDOW);
    if series_window < interval {
        section.problem_at("series_window", "is shorter than the interval; the default is 24h");
    }
    let max_series = section.count("max_series", default.max_series, 1..=MOST_SERIES);
    AggregateConfig { grouping, interval, max_series, series_window }
}

fn grouping(section: &mut Section<'_>) -> Grouping {
    let [src, dst, local, remote] = ["src", "dst", "local", "remote"].map(|key| address(section, key));
    let by_opener = src.is_some() || dst.is_some();
    if by_opener && (local.is_some() || remote.is_some()) {
        let message =
            "cannot stand beside src or dst: ends are told apart by who opened, or by which is internal";
        section.problem_at(if local.is_some() { "local" } else { "remote" }, message);
    }
    let ends = if local.is_some() || remote.is_some() {
        Ends::Internal { local, remote }
    } else {
        Ends::Opened { src, dst }
    };
    Grouping {
        ends,
        port: port(section),
        proto: section.boolean("proto", false),
        direction: section.boolean("direction", false),
        mark: section.boolean("mark", false),
        zone: section.boolean("zone", false),
        netns: section.boolean("netns", false),
    }
}

fn port(section: &mut Section<'_>) -> Option<PortBy> {
    let is_there = section.place("port").is_some();
    let by = section.choice("port", PortBy::Service);
    is_there.then_some(by)
}

fn address(section: &mut Section<'_>, key: &'static str) -> Option<AddressBy> {
    let (texts, _) = section.placed_texts(key, "\"address\", \"network\" or a prefix length like \"/24\"");
    let (text, place) = texts.into_iter().next()?;
    AddressBy::parse(&text).map_err(|message| section.problem(key, &place, message)).ok()
}
