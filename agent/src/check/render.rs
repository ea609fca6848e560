//! A verdict as a person reads it, and as a program does.

use std::fmt::Write;

use serde::Serialize;

use super::facts::Facts;
use super::verdict::{Level, Line, Outcome, Verdict};

/// Columns of a line, as most terminals and log viewers show it.
const WIDTH: usize = 100;

/// Columns before the detail: level and topic.
const INDENT: usize = 22;

/// The verdict as text: the sum, then a line for each topic with what mends it.
#[must_use]
pub fn text(verdict: &Verdict) -> String {
    let mut out = format!("{}\n\n", headline(verdict));
    verdict.lines.iter().for_each(|line| topic(&mut out, line));
    out
}

/// The verdict with the facts that it rests on, as one JSON object on one line.
///
/// | key | what |
/// |---|---|
/// | `outcome` | `works`, `degraded` or `cannot_account` |
/// | `exit_code` | that of `conntally check`: 0, 3 or 1 |
/// | `lines` | one for each topic: `level` (`ok`, `warn`, `fail`), `what`, `detail`; where there are any, `notes` and `mend` (lists) and `advice` (a text) |
/// | `facts` | the fields of [`Facts`] by their names; `layout` and `netlink` are of the form of [`Possibility`](super::facts::Possibility) |
///
/// # Errors
/// When it cannot be expressed, which would be a mistake of this program.
pub fn json(facts: &Facts, verdict: &Verdict) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Report<'a> {
        #[serde(flatten)]
        verdict: &'a Verdict,
        exit_code: u8,
        facts: &'a Facts,
    }
    serde_json::to_string(&Report { verdict, exit_code: verdict.outcome.exit_code(), facts })
}

fn headline(verdict: &Verdict) -> String {
    let warnings = plural(verdict.count(Level::Warn), "warning");
    match verdict.outcome {
        Outcome::Works => "conntally can account every flow here.".to_owned(),
        Outcome::Degraded => format!("conntally can account here, with limits: {warnings}."),
        Outcome::CannotAccount => {
            let problems = plural(verdict.count(Level::Fail), "problem");
            format!("conntally CANNOT account here: {problems}, {warnings}.")
        }
    }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn topic(out: &mut String, line: &Line) {
    let level = match line.level {
        Level::Ok => "ok",
        Level::Warn => "WARN",
        Level::Fail => "FAIL",
    };
    let head = format!("{level:<5} {:<16}", line.what);
    wrapped(out, &head, &line.detail);
    line.notes.iter().for_each(|note| wrapped(out, &format!("{:INDENT$}- ", ""), note));
    if let Some(advice) = &line.advice {
        wrapped(out, &format!("{:INDENT$}mend: ", ""), advice);
    }
    // Commands are never wrapped: they are there to be copied.
    for (index, command) in line.mend.iter().enumerate() {
        let label = if index == 0 && line.advice.is_none() { "mend:" } else { "" };
        push(out, &format!("{:INDENT$}{label:<5} {command}", ""));
    }
}

/// Text behind a head; what does not fit goes on below where it began.
fn wrapped(out: &mut String, head: &str, text: &str) {
    let mut line = head.to_owned();
    let mut is_fresh = true;
    for word in text.split_whitespace() {
        if !is_fresh && line.chars().count() + 1 + word.chars().count() > WIDTH {
            push(out, &line);
            line = " ".repeat(head.chars().count());
            is_fresh = true;
        }
        if !is_fresh {
            line.push(' ');
        }
        line.push_str(word);
        is_fresh = false;
    }
    push(out, &line);
}

fn push(out: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}", line.trim_end());
}
