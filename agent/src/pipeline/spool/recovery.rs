//! What an earlier process has left in a spool: counted frame by frame, without reading what was sent.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::SpoolError;
use super::format::{FRAME_BYTES, Header, HeaderError, SEQUENCES, sink_type};
use super::reader::Step;
use super::segment::Segment;
use crate::pipeline::Weight;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// All segments that can be read.
    pub(super) segments: VecDeque<Segment>,
    pub(super) next_sequence: u64,
    /// Requests that wait and cannot be read.
    pub(super) damaged: Weight,
    /// Requests that are missing, of unknown weight.
    pub(super) missing: u64,
    /// What was being written when the process was killed.
    pub(super) torn: Weight,
}

/// The name of a segment.
pub(super) fn name(number: u64) -> String {
    format!("segment.{number}")
}

/// Counts what there is.
pub(super) fn recover(dir: &Path, boot_id: [u8; 16], wanted: &str) -> Result<Found, SpoolError> {
    let failed = |what, path: &Path, cause| SpoolError::Directory { what, path: path.to_path_buf(), cause };
    let numbers = numbers(dir).map_err(|cause| failed("cannot read the spool", dir, cause))?;
    let mut recovery = Recovery { found: Found::default(), expected: None, torn: None };
    let last = numbers.last().copied();
    for number in numbers {
        let (path, is_last) = (dir.join(name(number)), Some(number) == last);
        let cannot = |cause| failed("cannot read", &path, cause);
        let mut segment = Segment::open(&path, number).map_err(cannot)?;
        match segment.scan().header().map_err(cannot)? {
            Ok(header) if header.sink_type != sink_type(wanted) => {
                return Err(other_sink(path, &header, wanted));
            }
            Ok(header) if header.boot_id != boot_id => segment.doubt(),
            Ok(_) => {}
            Err(HeaderError::Version(version)) => {
                let why = "has a version that this agent cannot read; let the agent that wrote it deliver it";
                set_aside(&path, &format!("version{version}"), why).map_err(cannot)?;
                recovery.found.missing = recovery.found.missing.saturating_add(1);
                recovery.expected = None;
                continue;
            }
            Err(HeaderError::Damaged) if segment.is_unreadable().map_err(cannot)? => {
                let why = "holds nothing that can be read as requests; remove it if it is not of this spool";
                set_aside(&path, "unreadable", why).map_err(cannot)?;
                recovery.pass_unreadable(number, is_last);
                continue;
            }
            Err(HeaderError::Damaged | HeaderError::Torn) => segment.doubt(),
        }
        recovery.expect(number);
        recovery.scan(&mut segment, is_last).map_err(cannot)?;
        recovery.found.segments.push_back(segment);
    }
    Ok(recovery.finish())
}

struct Recovery {
    found: Found,
    /// The sequence number of the next frame.
    expected: Option<u64>,
    /// A frame that was cut off, and its number: if the next one has it, too, this one was never taken in.
    torn: Option<(u64, Weight)>,
}

impl Recovery {
    /// Counts what is missing before the frame of this number.
    fn expect(&mut self, sequence: u64) {
        if let Some((torn, weight)) = self.torn.take().filter(|(torn, _)| *torn < sequence) {
            self.found.damaged += weight;
            self.expected = Some(torn.saturating_add(1));
        }
        if let Some(expected) = self.expected {
            self.found.missing = self.found.missing.saturating_add(sequence.saturating_sub(expected));
        }
        self.expected = Some(sequence);
    }

    /// Goes past a segment in which nothing can be read: the next one tells by its name how many are missing, and behind
    /// the last one it is one at least.
    fn pass_unreadable(&mut self, number: u64, is_last: bool) {
        if is_last {
            self.found.missing = self.found.missing.saturating_add(1);
        } else {
            self.expected.get_or_insert(number);
        }
    }

    fn scan(&mut self, segment: &mut Segment, is_last: bool) -> io::Result<()> {
        let mut reader = segment.scan();
        let mut ends_in_gap = false;
        loop {
            match reader.step(segment.bytes)? {
                Step::Frame(head) => {
                    self.expect(head.sequence);
                    self.expected = Some(head.sequence.saturating_add(1));
                    if !head.is_done {
                        segment.count(head.weight);
                    }
                    reader.pass(&head);
                    ends_in_gap = false;
                }
                Step::Torn(head) => {
                    self.expect(head.sequence);
                    self.torn = Some((head.sequence, head.weight));
                    return Ok(());
                }
                // What is left of a head that was being written.
                Step::Gap(bytes) => ends_in_gap = bytes >= FRAME_BYTES as u64,
                Step::End => break,
            }
        }
        // Else the next segment tells how many are missing.
        if ends_in_gap && is_last {
            self.found.missing = self.found.missing.saturating_add(1);
            // Its number is not given to another.
            self.expected = self.expected.map(|expected| expected.saturating_add(1));
        }
        Ok(())
    }

    fn finish(mut self) -> Found {
        self.found.next_sequence = self.expected.unwrap_or(0);
        self.found.torn = self.torn.map_or_else(Weight::default, |(_, weight)| weight);
        self.found
    }
}

fn numbers(dir: &Path) -> io::Result<BTreeSet<u64>> {
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_prefix("segment.")?.parse().ok());
        let Some(number) = number.filter(|number| name.to_str() == Some(&self::name(*number))) else {
            continue;
        };
        if number < SEQUENCES {
            numbers.insert(number);
        } else {
            tracing::warn!("{} is of no spool, and is left alone", dir.join(name).display());
        }
    }
    Ok(numbers)
}

fn other_sink(path: PathBuf, header: &Header, wanted: &str) -> SpoolError {
    let found = String::from_utf8_lossy(&header.sink_type).trim_end_matches('\0').escape_debug().to_string();
    SpoolError::OtherSink { path, found, wanted: wanted.to_owned() }
}

/// Renames a segment, so that it is read by nobody and lost to nobody.
fn set_aside(path: &Path, as_what: &str, why: &str) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{as_what}"));
    fs::rename(path, &aside)?;
    tracing::error!("{}, now {}, {why}", path.display(), PathBuf::from(&aside).display());
    Ok(())
}
