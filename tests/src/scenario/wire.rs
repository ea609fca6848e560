//! Scenarios about what is on the wire: protocols, numbers of flows, bulk, translation, zones.

use anyhow::Result;

use super::{Outcome, Settings, Stage};
use crate::lab::{FAMILIES, Family, Lab, TRANSLATED_BOTH, TRANSLATED_DESTINATION};
use crate::traffic::{self, Ending, Exchange, Path, Sent};

/// Every protocol, IPv4 and IPv6, both directions.
pub(super) fn protocols(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    let mut flows = 0;
    for family in FAMILIES {
        let sent = every_protocol(&stage.lab.path(family)?)?;
        flows += sent.len();
        sent.into_iter().for_each(|sent| stage.lab.promise(sent));
    }
    // Both ends track.
    stage.finish(2 * flows)
}

/// One or more flows of each protocol.
fn every_protocol(path: &Path<'_>) -> Result<Vec<Sent>> {
    Ok(vec![
        traffic::exchange(path, 20_001, 7001, &[0, 1, 512, 1400], &[100, 1400])?,
        traffic::exchange(path, 20_002, 7001, &[33], &[])?,
        traffic::udplite(path, 20_003, 7002, &[10, 500], &[600])?,
        traffic::echo(path, 4711, &[0, 56, 1000])?,
        traffic::echo(path, 4712, &[8])?,
        traffic::gre(path, &[100, 200], &[300])?,
        traffic::experiment(path, &[10, 1000], &[20])?,
        traffic::association(path, 20_004, 7003, &[10, 500, 1001])?,
        traffic::transfer(path, 20_005, 7004, (10_000, 20_000), Ending::Close)?,
        traffic::transfer(path, 20_006, 7004, (100, 0), Ending::Reset)?,
    ])
}

/// Thousands of one-packet flows.
pub(super) fn short(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    for (family, ports) in [(Family::V4, 20_000..22_000), (Family::V6, 20_000..20_500)] {
        let sent = traffic::burst(&stage.lab.path(family)?, ports, 7001)?;
        sent.into_iter().for_each(|sent| stage.lab.promise(sent));
    }
    stage.finish(2 * 2500)
}

/// Bulk both ways, empty connections, closes and resets.
pub(super) fn tcp(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    for family in FAMILIES {
        let path = stage.lab.path(family)?;
        let sent = [
            traffic::transfer(&path, 20_001, 7001, (1 << 21, 1 << 20), Ending::Close)?,
            traffic::transfer(&path, 20_002, 7002, (1000, 1000), Ending::Reset)?,
            traffic::transfer(&path, 20_003, 7003, (0, 0), Ending::Close)?,
            traffic::transfer(&path, 20_004, 7003, (0, 300_000), Ending::Close)?,
        ];
        sent.into_iter().for_each(|sent| stage.lab.promise(sent));
    }
    stage.finish(2 * 8)
}

/// Source, destination and both translated, beside each other.
pub(super) fn nat(settings: &Settings) -> Result<Outcome> {
    let lab = Lab::routed()?;
    lab.translate()?;
    let mut stage = Stage::open(settings, lab)?;
    for family in FAMILIES {
        let path = stage.lab.path(family)?;
        let translated = stage.lab.translated_path(family)?;
        let sent = [
            traffic::exchange(&path, 20_001, 7001, &[10, 20], &[30])?,
            traffic::transfer(&path, 20_002, 7002, (50_000, 50_000), Ending::Close)?,
            traffic::exchange(&translated, 20_003, TRANSLATED_DESTINATION, &[10], &[30])?,
            traffic::transfer(&translated, 20_004, TRANSLATED_DESTINATION, (1000, 1000), Ending::Close)?,
            traffic::exchange(&translated, 20_005, TRANSLATED_BOTH, &[10], &[30])?,
            traffic::transfer(&translated, 20_006, TRANSLATED_BOTH, (1000, 1000), Ending::Reset)?,
        ];
        sent.into_iter().for_each(|sent| stage.lab.promise(sent));
    }
    stage.finish(12)
}

/// The same tuple in two zones: two flows at the same time, and what moves in one zone is not in the other's.
pub(super) fn zones(settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::open(settings, Lab::direct()?)?;
    let mut exchanges = Vec::new();
    for family in FAMILIES {
        exchanges.push(Exchange::open(&stage.lab.path(family)?, 20_001, 7001)?);
    }
    for (zone, size) in [(1, 100), (2, 300), (1, 500), (2, 700)] {
        stage.lab.enter_zone(zone)?;
        for exchange in &mut exchanges {
            exchange.ask(size)?;
            exchange.answer(size + 1)?;
        }
    }
    for exchange in exchanges {
        // Its totals are those of both zones together.
        stage.lab.promise(Sent { totals: None, ..exchange.sent()? });
    }
    stage.finish(2 * 2 * 2)
}
