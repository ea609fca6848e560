//! Instructions that one record takes from the flow table to a sum: a filter of ten terms and sums of 10,000 groups, both
//! of which look addresses up among 10,000 prefixes; each alone and, as the agent does it, all together.
#![expect(clippy::print_stdout, reason = "its result")]

#[path = "../instructions/mod.rs"]
mod instructions;
#[path = "../outcome/mod.rs"]
mod outcome;
mod samples;

use std::{hint::black_box, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Result, bail, ensure};
use conntally::model::Record;
use conntally::pipeline::aggregate::{AddressBy, AggregateConfig, Aggregator, Ends, Grouping, PortBy};
use conntally::pipeline::filter::{Filter, FilterLists, FilterSet};
use conntally::pipeline::networks::Networks;
use serde::Serialize;

/// Instructions of a record at most, all together.
const LIMIT: u64 = 2_500;

/// Records of which the count is made, and which come before so that all groups are known. Points of an interval are
/// taken each time that many came.
const RECORDS: u64 = 20_000;

/// Records that come at once.
const BATCH: usize = 256;

/// Every one is looked at for a record that is wanted.
const TERMS: &str = "src in {10.0.0.0/8, 2001:db8::/32} and not dst in {192.168.0.0/16, 172.16.0.0/12, fd00::/8} and dst_port in {443, 53} and \
     src_port != 1-1023 and proto in {tcp, udp} and direction = outbound and mark = 0x10/0xf0 and zone not in 100-200 \
     and not status = offloaded and flag != no_counters";

/// One line of the result.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    stage: &'static str,
    instructions: u64,
    limit: Option<u64>,
    ok: bool,
}

fn main() -> ExitCode {
    outcome::exit_code(run())
}

fn run() -> Result<bool> {
    if instructions::answer(work)? {
        return Ok(true);
    }
    does_what_it_says()?;
    let mut all_ok = true;
    for (stage, limit) in [("filter", None), ("networks", None), ("aggregate", None), ("all", Some(LIMIT))] {
        let instructions = instructions::per_repetition(stage, RECORDS, 2 * RECORDS, || Ok(()))?;
        let ok = limit.is_none_or(|limit| instructions <= limit);
        println!("{}", serde_json::to_string(&Line { bench: "pipeline", stage, instructions, limit, ok })?);
        all_ok &= ok;
    }
    Ok(all_ok)
}

/// The parts under count.
struct Pipeline {
    filter: FilterSet,
    networks: Arc<Networks>,
    aggregator: Aggregator,
}

impl Pipeline {
    fn new() -> Result<Self> {
        let Ok(networks) = Networks::new(&samples::networks()?).map(Arc::new) else {
            bail!("two networks have the same prefix")
        };
        let lists = FilterLists { include: vec![Filter::parse(TERMS)?], exclude: Vec::new() };
        let filter = FilterSet::new(&lists, Arc::clone(&networks), Arc::new(|_| None))?;
        let by = Some(AddressBy::Network);
        let grouping = Grouping {
            ends: Ends::Opened { src: by, dst: by },
            port: Some(PortBy::Service),
            proto: true,
            ..Grouping::default()
        };
        let config = AggregateConfig {
            grouping,
            interval: Duration::from_secs(2),
            max_series: 20_000,
            ..AggregateConfig::default_for(true)
        };
        let aggregator =
            Aggregator::new(&config, Arc::clone(&networks), Arc::new(|_| None), 1_000_000, samples::NOW);
        Ok(Self { filter, networks, aggregator })
    }
}

/// Every record is wanted, every end of it has a network, and there are as many groups as are said.
fn does_what_it_says() -> Result<()> {
    let mut pipeline = Pipeline::new()?;
    let records = samples::records(RECORDS);
    ensure!(records.iter().all(|record| pipeline.filter.wants(record)), "a record is not wanted");
    let mut points = Vec::new();
    pipeline.aggregator.take(&records, &mut points);
    pipeline.aggregator.advance(samples::NOW + 2_000_000_000, &mut points);
    ensure!(points.len() == samples::NETWORKS, "{} groups", points.len());
    ensure!(points.iter().all(|point| !point.group.is_other), "a group has no series");
    Ok(())
}

/// The work that is counted: that many records in batches, after all groups are known.
fn work(stage: &str, repetitions: u64) -> Result<()> {
    let mut pipeline = Pipeline::new()?;
    let records = samples::records(RECORDS);
    let mut points = Vec::with_capacity(4 * samples::NETWORKS);
    pipeline.aggregator.take(&records, &mut points);
    let mut now = samples::NOW;
    for _ in 0..repetitions / RECORDS {
        for batch in records.chunks(BATCH) {
            step(stage, &mut pipeline, black_box(batch), &mut points)?;
        }
        if matches!(stage, "aggregate" | "all") {
            now += 2_000_000_000;
            pipeline.aggregator.advance(now, &mut points);
            black_box(&points);
            points.clear();
        }
    }
    Ok(())
}

fn step(
    stage: &str,
    pipeline: &mut Pipeline,
    batch: &[Record],
    points: &mut Vec<conntally::pipeline::Point>,
) -> Result<()> {
    let Pipeline { filter, networks, aggregator } = pipeline;
    match stage {
        "filter" => {
            black_box(batch.iter().filter(|record| filter.wants(record)).count());
        }
        "networks" => {
            for record in batch {
                black_box(networks.find(record.original.source()));
                black_box(networks.find(record.original.destination()));
            }
        }
        "aggregate" => aggregator.take(batch, points),
        "all" => {
            let mut wanted = batch.to_vec();
            black_box(filter.retain(&mut wanted));
            aggregator.take(&wanted, points);
        }
        _ => bail!("no such stage: {stage}"),
    }
    Ok(())
}
