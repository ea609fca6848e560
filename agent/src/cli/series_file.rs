//! The file that keeps the series of a sink over a restart: changes are appended, and when these are more than all of it,
//! it is written anew.

use crate::folder;
use crate::pipeline::aggregate::Aggregator;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Changes that are appended at least before the file is written anew, in bytes.
const LEAST: usize = 1 << 16;

/// The file.
#[derive(Debug)]
pub(super) struct SeriesFile {
    path: PathBuf,
    /// `None` when it has to be written anew: at first, and when something could not be written.
    list: Option<List>,
}

#[derive(Debug)]
struct List {
    file: File,
    /// Bytes of it when it was written.
    whole: usize,
    /// Bytes that were appended since.
    appended: usize,
}

impl SeriesFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, list: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what changed, before it is acted upon.
    pub(super) fn keep(&mut self, aggregator: &mut Aggregator) -> io::Result<()> {
        if let Some(mut list) = self.list.take()
            && let Some(changes) = aggregator.series_changes()
            && list.appended + changes.len() <= list.whole.max(LEAST)
        {
            list.file.write_all(&changes)?;
            list.appended += changes.len();
            self.list = Some(list);
            return Ok(());
        }
        self.list = Some(List::replace(&self.path, &aggregator.all_series())?);
        Ok(())
    }
}

impl List {
    /// A crash leaves the old one or the new one.
    fn replace(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let unfinished = path.with_extension("new");
        let mut file = folder::private().write(true).create(true).truncate(true).open(&unfinished)?;
        file.write_all(bytes)?;
        fs::rename(unfinished, path)?;
        Ok(Self { file, whole: bytes.len(), appended: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Record;
    use crate::pipeline::aggregate::{AddressBy, AggregateConfig, Ends, Grouping};
    use crate::sinks::samples::{SECOND, TEN_O_CLOCK, end_of_tcp};
    use std::sync::Arc;
    use std::time::Duration;

    const INTERVAL: i64 = 2 * SECOND;

    /// Bytes of a series in the file.
    const ROW: usize = 72;

    fn aggregator(max_series: u32, series_window: Duration) -> Aggregator {
        let ends = Ends::Opened { src: Some(AddressBy::ADDRESS), dst: None };
        let grouping = Grouping { ends, ..Grouping::default() };
        let config =
            AggregateConfig { grouping, max_series, series_window, ..AggregateConfig::default_for(false) };
        Aggregator::new(&config, Arc::default(), Arc::new(|_| None), 1_000, TEN_O_CLOCK)
    }

    fn from(source: u32) -> Record {
        let mut record = end_of_tcp();
        record.original.src[..4].copy_from_slice(&source.to_be_bytes());
        record
    }

    /// Plays intervals in each of which `new` groups come; calls back after each.
    fn churn(
        aggregator: &mut Aggregator,
        file: &mut SeriesFile,
        intervals: u32,
        new: u32,
        mut each: impl FnMut(&SeriesFile),
    ) {
        let mut points = Vec::new();
        for interval in 0..intervals {
            let records: Vec<_> = (interval * new..(interval + 1) * new).map(from).collect();
            aggregator.take(&records, &mut points);
            aggregator.advance(TEN_O_CLOCK + i64::from(interval + 1) * INTERVAL, &mut points);
            points.clear();
            file.keep(aggregator).unwrap();
            each(file);
        }
    }

    #[test]
    fn what_is_written_follows_the_changes_and_the_file_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = SeriesFile::new(dir.path().join("series"));
        // Each counts for a hundred intervals, in each of which a hundred come and, in the end, a hundred go.
        let mut aggregator = aggregator(20_000, Duration::from_secs(200));
        let (mut written, mut largest, mut size) = (0, 0, 0);
        churn(&mut aggregator, &mut file, 300, 100, |file| {
            let list = file.list.as_ref().unwrap();
            let now = list.whole + list.appended;
            written += if list.appended > 0 { now - size } else { now };
            size = now;
            largest = largest.max(now);
            assert_eq!(fs::metadata(&file.path).unwrap().len() as usize, now);
        });
        let (changed, counting) = ((300 + 200) * 100 * ROW, 10_000 * ROW);
        assert!(written <= changed * 3, "{written} bytes for {changed}");
        assert!(largest <= 2 * counting + 2 * LEAST, "{largest} bytes");
    }

    #[test]
    fn after_an_error_everything_is_written_as_soon_as_that_works() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = SeriesFile::new(dir.path().join("away/series"));
        let mut now = aggregator(100, Duration::from_secs(3_600));
        now.take(&[from(1)], &mut Vec::new());
        assert!(file.keep(&mut now).is_err());
        fs::create_dir(dir.path().join("away")).unwrap();
        file.keep(&mut now).unwrap();
        // As if the disk were full.
        file.list.as_mut().unwrap().file = File::open(&file.path).unwrap();
        now.take(&[from(2)], &mut Vec::new());
        assert!(file.keep(&mut now).is_err());
        file.keep(&mut now).unwrap();
        let mut later = aggregator(100, Duration::from_secs(3_600));
        let _ = later.restore_series(&fs::read(&file.path).unwrap()).unwrap();
        assert_eq!(later.charged(), now.charged());
    }
}
