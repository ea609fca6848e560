//! Adds up the records of a sink by groups, and keeps which series it has over a restart.

use super::filtering::{netns_name, networks};
use super::series_file::SeriesFile;
use crate::config::Config;
use crate::model::Record;
use crate::pipeline::aggregate::{AggregateConfig, Aggregator, Restored};
use crate::pipeline::{Fold, Point};
use anyhow::Context as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The sums of a sink.
#[derive(Debug)]
pub(super) struct Groups {
    aggregator: Aggregator,
    sink: String,
    /// Where its series are kept: in the state directory, if there is one.
    file: Option<SeriesFile>,
    has_failed: bool,
}

impl Groups {
    /// Begins at `now_ns` of the wall clock, with the series of an agent before.
    pub(super) fn open(
        config: &Config,
        sink: &str,
        aggregate: &AggregateConfig,
        now_ns: i64,
    ) -> anyhow::Result<Self> {
        let (networks, most) = (networks(config)?, config.flow.max_flows as usize);
        let mut aggregator = Aggregator::new(aggregate, networks, netns_name(), most, now_ns);
        let file = config.state_dir.as_ref().map(|dir| dir.join(format!("series-{sink}")));
        let file = file.map(SeriesFile::new);
        if let Some(file) = &file {
            restore(&mut aggregator, file.path(), sink)?;
        }
        Ok(Self { aggregator, sink: sink.to_owned(), file, has_failed: false })
    }

    /// Keeps which series there are before their points are on their way, so that a restart does not begin to count
    /// them anew.
    fn keep(&mut self, has_points: bool) {
        let Some(file) = self.file.as_mut().filter(|_| has_points) else { return };
        match file.keep(&mut self.aggregator) {
            Ok(()) => self.has_failed = false,
            Err(error) => {
                // Told once, until it works again.
                if !std::mem::replace(&mut self.has_failed, true) {
                    let path = file.path().display();
                    tracing::warn!(
                        "sink {}: cannot keep its series in {path}: {error}; after a restart max_series counts anew",
                        self.sink
                    );
                }
            }
        }
    }
}

impl Fold for Groups {
    type Item = Point;

    fn take(&mut self, records: &[Record], out: &mut Vec<Point>) {
        self.aggregator.take(records, out);
        self.keep(!out.is_empty());
    }

    fn meet(&mut self, living: &Record) {
        self.aggregator.meet(living);
    }

    fn advance(&mut self, now_ns: i64, out: &mut Vec<Point>) {
        self.aggregator.advance(now_ns, out);
        self.keep(!out.is_empty());
    }

    fn finish(mut self, now_ns: i64, out: &mut Vec<Point>) {
        self.keep(true);
        self.aggregator.finish(now_ns, out);
    }
}

fn restore(aggregator: &mut Aggregator, file: &Path, sink: &str) -> anyhow::Result<()> {
    match fs::read(file) {
        Ok(bytes) => {
            let path = file.display();
            match aggregator.restore_series(&bytes) {
                Ok(Restored::All) => {}
                Ok(Restored::Part) => tracing::warn!(
                    "sink {sink}: {path} is damaged: max_series does not count what an earlier agent noted last"
                ),
                Err(error) => {
                    tracing::warn!("sink {sink}: {path} is not used: {error}; max_series counts anew")
                }
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::samples::{SECOND, TEN_O_CLOCK, end_of_tcp, ping};

    fn groups(config: &Config, max_series: u32) -> Groups {
        let aggregate = AggregateConfig { max_series, ..AggregateConfig::default_for(false) };
        Groups::open(config, "live", &aggregate, TEN_O_CLOCK).unwrap()
    }

    #[test]
    fn series_outlive_the_agent_and_a_damaged_file_does_not_stop_it() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: Some(dir.path().to_owned()), ..Config::default() };
        let (mut groups_now, mut out) = (groups(&config, 9), Vec::new());
        let before = groups_now.aggregator.charged();
        groups_now.take(&[end_of_tcp()], &mut out);
        groups_now.advance(TEN_O_CLOCK + 10 * SECOND, &mut out);
        assert_eq!(out.len(), 1);
        assert!(groups_now.aggregator.charged() > before);
        let (after, charged) = (groups(&config, 9), groups_now.aggregator.charged());
        assert_eq!(after.aggregator.charged(), charged);
        groups_now.take(&[ping()], &mut out);
        groups_now.finish(TEN_O_CLOCK + 11 * SECOND, &mut out);
        assert_eq!(groups(&config, 9).aggregator.charged(), charged + 1, "those of the last points, too");
        fs::write(dir.path().join("series-live"), "nothing").unwrap();
        assert_eq!(groups(&config, 9).aggregator.charged(), before);
    }
}
