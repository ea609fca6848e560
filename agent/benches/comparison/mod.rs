//! An encoder of ours beside serde_json: instructions of a record by each, for the same bytes.

pub(crate) mod derived;
#[path = "../instructions/mod.rs"]
mod instructions;
#[path = "../outcome/mod.rs"]
mod outcome;
mod samples;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail};
use conntally::{model::Record, sinks::json::EncodeContext};
use serde::Serialize;

/// How many times as much serde_json must take.
const TIMES: f64 = 4.0;

/// Records of which the count is made; they differ in their digits.
const RECORDS: u64 = 512;

/// What is compared.
pub(crate) struct Comparison {
    pub(crate) bench: &'static str,
    /// Instructions of a record at most, its Community ID included.
    pub(crate) limit: u64,
    /// Proves that both write the same, byte for byte; returns how long the first one is.
    pub(crate) same: fn(&[Record]) -> Result<usize>,
    /// Encodes by ours, into a buffer that is as big as it will be.
    pub(crate) own: fn(&[Record]) -> Result<()>,
    /// Encodes by serde_json.
    pub(crate) serde_json: fn(&[Record]) -> Result<()>,
}

/// One line of the result.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    record: &'static str,
    /// Of the first record of that kind.
    bytes: usize,
    instructions: u64,
    limit: u64,
    serde_json: u64,
    times: f64,
    at_least: f64,
    ok: bool,
}

impl Comparison {
    /// Measures each kind of record.
    pub(crate) fn run(&self) -> ExitCode {
        outcome::exit_code(self.all())
    }

    fn all(&self) -> Result<bool> {
        if instructions::answer(|what, repetitions| self.work(what, repetitions))? {
            return Ok(true);
        }
        let mut all_ok = true;
        for &kind in samples::KINDS {
            let line = self.measure(kind)?;
            println!("{}", serde_json::to_string(&line)?);
            all_ok &= line.ok;
        }
        Ok(all_ok)
    }

    fn measure(&self, kind: &'static str) -> Result<Line> {
        let bytes = (self.same)(&samples::of(kind, RECORDS)?)?;
        let count = |encoder| {
            instructions::per_repetition(&format!("{kind} {encoder}"), RECORDS, 2 * RECORDS, || Ok(()))
        };
        let (own, serde_json) = (count("own")?, count("serde_json")?);
        let times = serde_json as f64 / own.max(1) as f64;
        Ok(Line {
            bench: self.bench,
            record: kind,
            bytes,
            instructions: own,
            limit: self.limit,
            serde_json,
            times: (times * 100.0).round() / 100.0,
            at_least: TIMES,
            ok: own <= self.limit && times >= TIMES,
        })
    }

    /// The work that is counted: so many records.
    fn work(&self, what: &str, repetitions: u64) -> Result<()> {
        let Some((kind, encoder)) = what.split_once(' ') else { bail!("no such work: {what}") };
        let records = samples::of(kind, 2 * RECORDS)?;
        let records =
            records.get(..usize::try_from(repetitions)?).context("more repetitions than records")?;
        if encoder == "own" { (self.own)(records) } else { (self.serde_json)(records) }
    }
}

/// What the encoders have to know.
pub(crate) fn context() -> EncodeContext {
    let name: Arc<str> = Arc::from("customer-17");
    EncodeContext {
        host: "gw1.example.net".to_owned(),
        netns_name: Box::new(move |_| Some(Arc::clone(&name))),
        networks: Arc::default(),
    }
}

/// A buffer that never has to grow.
pub(crate) fn buffer() -> Vec<u8> {
    Vec::with_capacity(1024 * 1024)
}
