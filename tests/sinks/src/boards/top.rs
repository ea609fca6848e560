//! Of a grouping with many series the greatest are shown, as many as are wanted, and nothing is left out of the rest.

use anyhow::{Context as _, Result, ensure};

use super::answer::{Answer, Series};
use super::board::{Board, INTERVALS_MS, Panel};
use super::expected::{self, Expected};
use super::play::Played;
use super::{POINTS_BEHIND_MS, Reader, settled, together};

/// Tries panels that have a query for the greatest and one for the rest, with fewer than there are.
pub(super) fn try_top(board: &Board, reader: &dyn Reader, played: &Played) -> Result<()> {
    let [interval_ms, ..] = INTERVALS_MS;
    let [.., told_ms] = played.told_ms;
    let fill = board.everything(interval_ms).until(told_ms + POINTS_BEHIND_MS);
    let all = settled(board, reader, fill.clone().with("top", "50"))?;
    for panel in board.panels() {
        let Some([Expected::Together(expected)]) = expected::of(board, panel.title()) else { continue };
        let whole = ranked(&together(panel, reader, &all)?);
        for most in 1..=2 {
            let fill = settled(board, reader, fill.clone().with("top", &most.to_string()))?;
            let [top, rest] = panel.targets() else { continue };
            let [top, rest] = [top, rest].map(|target| reader.ask(panel, target, &fill));
            let (top, rest) = (top?, rest?);
            check(panel, &whole, most, &top, &rest).with_context(|| {
                format!("{:?} of the greatest {most}: {top:?} and {rest:?}", panel.title())
            })?;
            expected.check(panel, &Answer([top.0, rest.0].concat()), played, interval_ms)?;
        }
    }
    Ok(())
}

/// `whole`: all series with their names, the greatest first.
fn check(panel: &Panel, whole: &[(f64, String)], most: usize, top: &Answer, rest: &Answer) -> Result<()> {
    let shown = ranked(top);
    ensure!(shown.len() == most.min(whole.len()), "{} series", shown.len());
    // What was open at a time decides there, and not what adds up over time.
    if panel.unit("") == "bps" {
        ensure!(Some(shown.as_slice()) == whole.get(..shown.len()), "not the greatest of {whole:?}");
    }
    let left = rest.numbers(None).sum::<f64>() > 0.0;
    ensure!(left == (whole.len() > shown.len()), "the rest is not what is left");
    Ok(())
}

/// The series that have a name and moved something, by what they add up to.
fn ranked(answer: &Answer) -> Vec<(f64, String)> {
    let sum = |series: &Series| series.rows.iter().flat_map(|(_, row)| row.values()).sum::<f64>();
    let name = |series: &Series| series.tags.values().next().cloned().unwrap_or_default();
    let all = answer.0.iter().map(|series| (sum(series), name(series)));
    let mut all: Vec<_> = all.filter(|(sum, name)| *sum > 0.0 && !name.is_empty()).collect();
    all.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    all
}
