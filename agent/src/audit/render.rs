//! An audit for people and for programs.

use std::fmt;

use serde_json::{Map, Value, json};

use super::completeness::{Completeness, Figures};
use super::evidence::Doubt;
use super::statement::{Loss, Statement};
use super::window::Window;
use crate::model::{Sum, Waiting};

/// The completeness, the identity in each figure, and the reasons.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "completeness of {}; ", self.completeness)?;
        self.identity(f, "bytes", |sum| sum.bytes)?;
        self.identity(f, "packets", |sum| sum.packets)?;
        self.identity(f, "flows", |sum| sum.flows)?;
        reasons(f, self.losses(), &self.doubts)?;
        for (sink, Waiting { records, moved, oldest }) in self.waiting() {
            let (bytes, seconds) = (moved.bytes, oldest.as_secs());
            write!(
                f,
                "; waiting for {sink}: {records} records of {bytes} bytes, the oldest for {seconds} s"
            )?;
        }
        Ok(())
    }
}

/// The completeness and the reasons.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "completeness of {}", self.completeness)?;
        reasons(f, self.lost.iter(), &self.doubts)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, packets, bytes } = self;
        write!(f, "bytes {bytes}, packets {packets}, flows {flows}")
    }
}

fn reasons<'a>(
    f: &mut fmt::Formatter<'_>,
    losses: impl Iterator<Item = &'a Loss>,
    doubts: &[Doubt],
) -> fmt::Result {
    for (reason, Sum { flows, packets, bytes }) in losses {
        write!(f, "; lost by {reason}: {bytes} bytes, {packets} packets, {flows} flows")?;
    }
    for (reason, count) in doubts {
        write!(f, "; of unknown amount: {reason} {count}")?;
    }
    Ok(())
}

impl Statement {
    fn identity(&self, f: &mut fmt::Formatter<'_>, name: &str, figure: fn(Sum) -> u64) -> fmt::Result {
        let separator = if name == "bytes" { "" } else { "; " };
        let Self { ended, living, baseline, delivered, not_yet_due, filtered, .. } = *self;
        let [ended, living, baseline] = [ended, living, baseline].map(figure);
        let [delivered, not_yet_due, filtered, lost] =
            [delivered, not_yet_due, filtered, self.lost_sum()].map(figure);
        let sign = if self.balances() { '=' } else { '≠' };
        write!(
            f,
            "{separator}{name}: ended {ended} + living {living} - baseline {baseline} {sign} delivered {delivered} + \
             not yet due {not_yet_due} + filtered {filtered} + lost {lost}"
        )
    }

    /// One JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let waiting: Map<_, _> =
            self.waiting.iter().map(|(sink, waiting)| ((*sink).to_owned(), waits(waiting))).collect();
        json!({
            "ended": sum(self.ended),
            "living": sum(self.living),
            "baseline": sum(self.baseline),
            "delivered": sum(self.delivered),
            "not_yet_due": sum(self.not_yet_due),
            "filtered": sum(self.filtered),
            "lost": lost(self.losses()),
            "unknown": unknown(&self.doubts),
            "waiting": waiting,
            "balances": self.balances(),
            "completeness": self.completeness.to_json(),
        })
    }
}

impl Window {
    /// One JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "lost": lost(self.lost.iter()),
            "unknown": unknown(&self.doubts),
            "completeness": self.completeness.to_json(),
        })
    }
}

impl Figures {
    /// One JSON object: `exact` or `at_most` for each figure.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let figure = |completeness| match completeness {
            Completeness::Exact(part) => json!({ "exact": part }),
            Completeness::AtMost(part) => json!({ "at_most": part }),
        };
        json!({
            "bytes": figure(self.bytes),
            "packets": figure(self.packets),
            "flows": figure(self.flows),
        })
    }
}

fn lost<'a>(losses: impl Iterator<Item = &'a Loss>) -> Map<String, Value> {
    losses.map(|(reason, lost)| ((*reason).to_owned(), sum(*lost))).collect()
}

fn unknown(doubts: &[Doubt]) -> Map<String, Value> {
    doubts.iter().map(|(reason, count)| ((*reason).to_owned(), json!(count))).collect()
}

fn sum(sum: Sum) -> Value {
    let Sum { flows, packets, bytes } = sum;
    json!({ "flows": flows, "packets": packets, "bytes": bytes })
}

fn waits(waiting: &Waiting) -> Value {
    let Waiting { records, moved: Sum { flows, packets, bytes }, .. } = *waiting;
    let oldest_ms = waiting.oldest_ms();
    json!({ "records": records, "flows": flows, "packets": packets, "bytes": bytes, "oldest_ms": oldest_ms })
}
