//! The spool against processes that die at any byte, and against files that were damaged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::format::{FRAME_BYTES, HEADER_BYTES};
use super::reader::{SegmentReader, Step};
use super::segment::Segment;
use super::{Recovered, Refused, SpoolError, Store, Ticket};
use crate::config::{Fsync, SpoolConfig};
use crate::model::Sum;
use crate::pipeline::{Request, Weight};

const BOOT: [u8; 16] = [7; 16];

fn config(dir: &TempDir) -> SpoolConfig {
    let dir = dir.path().join("spool");
    SpoolConfig { segment_bytes: 600, max_bytes: 100_000, fsync: Fsync::Never, ..SpoolConfig::in_dir(dir) }
}

fn open(dir: &TempDir) -> Store {
    Store::open(&config(dir), "null", BOOT).unwrap()
}

/// One that is told from the others by a bit of its records.
fn request(number: usize) -> Request {
    let mut request = Request::default();
    for piece in 0..1 + number % 3 {
        request.body.extend(format!("piece {piece} of {number}\n").into_bytes());
        let records = if piece == 0 { 1 << number } else { 0 };
        let moved = Sum { flows: 0, packets: 2, bytes: 1_000_000 };
        request.items.push((request.body.len() as u32, Weight { records, ends: 0, moved }));
    }
    request
}

fn fill(store: &mut Store, numbers: std::ops::Range<usize>) {
    numbers.for_each(|number| store.append(&request(number)).unwrap());
}

/// Which one it is; that it is whole.
fn number(request: &Request) -> usize {
    let number = request.weight().records.trailing_zeros() as usize;
    assert_eq!((&request.body, &request.items), (&self::request(number).body, &self::request(number).items));
    number
}

fn take(store: &mut Store) -> Option<(Ticket, Request)> {
    store.take().unwrap()
}

fn take_all(store: &mut Store) -> Vec<(usize, bool, Ticket)> {
    let one = |(ticket, request): (Ticket, Request)| (number(&request), request.in_doubt, ticket);
    std::iter::from_fn(|| take(store).map(one)).collect()
}

fn numbers(store: &mut Store) -> Vec<usize> {
    take_all(store).into_iter().map(|(number, ..)| number).collect()
}

fn segments(dir: &TempDir) -> Vec<PathBuf> {
    let files = fs::read_dir(config(dir).dir).unwrap().map(|entry| entry.unwrap().path());
    let number = |path: &PathBuf| path.extension()?.to_str()?.parse::<u64>().ok();
    let mut segments: Vec<_> = files.filter(|path| number(path).is_some()).collect();
    segments.sort_by_key(number);
    segments
}

/// Where each frame begins and ends.
fn frames(path: &Path) -> Vec<std::ops::Range<u64>> {
    let segment = Segment::open(path, 0).unwrap();
    let mut reader: SegmentReader = segment.scan();
    let mut frames = Vec::new();
    while let Step::Frame(head) = reader.step(segment.bytes).unwrap() {
        let begin = reader.offset;
        reader.pass(&head);
        frames.push(begin..reader.offset);
    }
    frames
}

#[test]
fn requests_come_out_in_their_order_and_their_files_go_when_they_are_done() {
    let dir = TempDir::new().unwrap();
    let mut store = open(&dir);
    fill(&mut store, 0..20);
    assert!(segments(&dir).len() > 3);
    let taken = take_all(&mut store);
    assert_eq!(taken.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert!(taken.iter().all(|(_, in_doubt, _)| !in_doubt));
    assert!(!store.is_idle());
    taken.into_iter().for_each(|(.., ticket)| store.done(ticket).unwrap());
    assert!(store.is_idle());
    assert_eq!(segments(&dir).len(), 1, "the one that is being written");
    fill(&mut store, 20..22);
    assert_eq!(numbers(&mut store), [20, 21]);
}

#[test]
fn a_restart_finds_what_was_not_done_and_doubts_what_was_begun() {
    let dir = TempDir::new().unwrap();
    let mut store = open(&dir);
    fill(&mut store, 0..10);
    for place in 0..6 {
        let (ticket, _) = take(&mut store).unwrap();
        if [0, 1, 2, 4].contains(&place) {
            store.done(ticket).unwrap();
        }
    }
    drop(store);
    let mut store = open(&dir);
    let found = store.recovered();
    assert_eq!((found.requests, found.weight.records), (6, 0b11_1110_1000));
    let taken = take_all(&mut store);
    let seen: Vec<_> = taken.iter().map(|(number, in_doubt, _)| (*number, *in_doubt)).collect();
    assert_eq!(seen, [(3, true), (5, true), (6, false), (7, false), (8, false), (9, false)]);
    drop((store, taken));
    let elsewhere = Store::open(&config(&dir), "null", [8; 16]).unwrap();
    assert_eq!(elsewhere.recovered().missing, 0, "files may go in the middle, and nothing is missing");
}

#[test]
fn after_a_reboot_all_is_in_doubt() {
    let dir = TempDir::new().unwrap();
    fill(&mut open(&dir), 0..3);
    let mut store = Store::open(&config(&dir), "null", [8; 16]).unwrap();
    assert!(take_all(&mut store).iter().all(|(_, in_doubt, _)| *in_doubt));
}

#[test]
fn a_request_that_was_in_doubt_before_stays_so() {
    let dir = TempDir::new().unwrap();
    let mut store = open(&dir);
    store.append(&Request { in_doubt: true, ..request(1) }).unwrap();
    assert!(take(&mut store).unwrap().1.in_doubt);
}

#[test]
fn a_directory_that_is_in_use_or_another_sinks_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut store = open(&dir);
    fill(&mut store, 0..1);
    let refused = Store::open(&config(&dir), "null", BOOT).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains(&format!("by process {}", std::process::id())), "{said}");
    drop(store);
    let other = Store::open(&config(&dir), "influxdb", BOOT).unwrap_err();
    assert!(matches!(&other, SpoolError::OtherSink { found, .. } if found == "null"), "{other}");
    assert_eq!(numbers(&mut open(&dir)), [0]);
}

#[test]
fn a_full_spool_refuses_the_newest_and_takes_more_when_there_is_room() {
    let dir = TempDir::new().unwrap();
    let config = SpoolConfig { max_bytes: 3_000, ..config(&dir) };
    let mut store = Store::open(&config, "null", BOOT).unwrap();
    let taken_in = (0..60).take_while(|number| store.append(&request(*number)).is_ok()).count();
    assert!((10..30).contains(&taken_in), "{taken_in}");
    assert!(matches!(store.append(&request(60)), Err(Refused::Full)));
    let bytes: u64 = segments(&dir).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes <= 3_000 && bytes == store.bytes(), "{bytes}");
    let taken = take_all(&mut store);
    assert_eq!(taken.len(), taken_in);
    taken.into_iter().for_each(|(.., ticket)| store.done(ticket).unwrap());
    // What the segment that is being written holds stays as long as it is used.
    let again = (0..taken_in).take_while(|number| store.append(&request(*number)).is_ok()).count();
    assert!(again + 4 > taken_in, "the room is free again: {again} of {taken_in}");
    let large =
        Request { body: vec![0; 4_000], items: vec![(4_000, Weight::default())], ..Request::default() };
    assert!(matches!(store.append(&large), Err(Refused::TooLarge)));
}

#[test]
fn a_disk_that_takes_nothing_is_told_and_survived() {
    let dir = TempDir::new().unwrap();
    let mut store = open(&dir);
    fill(&mut store, 0..3);
    let (place, aside) = (config(&dir).dir, dir.path().join("aside"));
    fs::rename(&place, &aside).unwrap();
    let refused =
        (3..20).find_map(|number| store.append(&request(number)).err().map(|error| (number, error)));
    let (number, error) = refused.unwrap();
    assert!(matches!(error, Refused::Disk(_)), "{error}");
    fs::rename(&aside, &place).unwrap();
    fill(&mut store, number..number + 5);
    assert_eq!(numbers(&mut store), (0..number + 5).collect::<Vec<_>>());
    drop(store);
    assert_eq!(open(&dir).recovered().missing, 0);
}

#[test]
fn a_segment_of_another_version_is_set_aside() {
    let dir = TempDir::new().unwrap();
    fill(&mut open(&dir), 0..20);
    let first = segments(&dir).remove(0);
    let lost = frames(&first).len();
    let mut bytes = fs::read(&first).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
    bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    fs::write(&first, bytes).unwrap();
    let mut store = open(&dir);
    assert_eq!(store.recovered().missing, 1, "files, as nobody can look into them");
    assert_eq!(numbers(&mut store), (lost..20).collect::<Vec<_>>());
    assert!(config(&dir).dir.join("segment.0.version9").exists());
}

#[test]
fn what_is_no_segment_is_set_aside_and_moves_no_number() {
    let dir = TempDir::new().unwrap();
    fill(&mut open(&dir), 0..20);
    let place = |name: &str| config(&dir).dir.join(name);
    let (strange, late) = ("a note of the operator", "x".repeat(5_000));
    fs::write(place("segment.3"), strange).unwrap();
    fs::write(place("segment.4000000000"), &late).unwrap();
    let mut store = open(&dir);
    assert_eq!(store.recovered().missing, 1, "behind the last one there may have been requests");
    fill(&mut store, 20..22);
    assert_eq!(numbers(&mut store), (0..22).collect::<Vec<_>>());
    assert_eq!(fs::read_to_string(place("segment.3.unreadable")).unwrap(), strange);
    assert_eq!(fs::read_to_string(place("segment.4000000000.unreadable")).unwrap(), late);
    drop(store);
    assert_eq!(open(&dir).recovered().missing, 0, "it is told once");
}

#[test]
fn a_segment_that_is_damaged_throughout_is_set_aside_and_the_next_one_tells_what_is_missing() {
    let dir = TempDir::new().unwrap();
    fill(&mut open(&dir), 0..20);
    let second = segments(&dir).remove(1);
    let lost = frames(&second).len();
    let bytes = fs::read(&second).unwrap();
    fs::write(&second, bytes.iter().map(|byte| !byte).collect::<Vec<_>>()).unwrap();
    let mut store = open(&dir);
    assert_eq!(store.recovered().missing, lost as u64);
    assert_eq!(numbers(&mut store).len(), 20 - lost);
    assert!(PathBuf::from(format!("{}.unreadable", second.display())).exists() && !second.exists());
}

#[test]
fn a_length_that_lies_takes_no_memory() {
    let dir = TempDir::new().unwrap();
    fill(&mut open(&dir), 0..3);
    let path = segments(&dir).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let begin = HEADER_BYTES;
    bytes[begin + 4..begin + 8].copy_from_slice(&(250_u32 << 20).to_le_bytes());
    let crc = crc32c::crc32c(&bytes[begin..begin + 68]);
    let crc = crc32c::crc32c_append(crc, &(begin as u64).to_le_bytes());
    bytes[begin + 68..begin + 72].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let mut store = open(&dir);
    let found = store.recovered();
    assert_eq!((found.torn.records, found.requests), (1, 0), "it says that it is longer than its file");
    assert_eq!(take(&mut store).map(|_| ()), None);
}

#[test]
fn a_process_that_is_killed_at_any_byte_loses_only_what_it_was_writing() {
    let dir = TempDir::new().unwrap();
    fill(&mut open(&dir), 0..4);
    let path = segments(&dir).remove(0);
    let (bytes, frames) = (fs::read(&path).unwrap(), frames(&path));
    for length in 0..bytes.len() {
        let dir = TempDir::new().unwrap();
        fs::create_dir(config(&dir).dir).unwrap();
        fs::write(config(&dir).dir.join("segment.0"), &bytes[..length]).unwrap();
        let mut store = open(&dir);
        let whole = frames.iter().filter(|frame| frame.end as usize <= length).count();
        let begun = frames.get(whole).map_or(0, |frame| length.saturating_sub(frame.start as usize));
        let Recovered { missing, damaged, torn, .. } = store.recovered();
        let torn_bit = if begun >= FRAME_BYTES - 8 { 1 << whole } else { 0 };
        assert_eq!((missing, damaged.records, torn.records), (0, 0, torn_bit), "{length}");
        store.append(&request(10)).unwrap();
        let expected: Vec<_> = (0..whole).chain([10]).collect();
        assert_eq!(numbers(&mut store), expected, "{length}");
        drop(store);
        let mut next = open(&dir);
        assert_eq!((next.recovered().missing, next.recovered().damaged.records), (0, 0), "{length}");
        assert_eq!(numbers(&mut next), expected, "{length}");
    }
}

/// What happens to a file: at a place (as a share of its length), over so many bytes.
#[derive(Clone, Debug)]
enum Harm {
    Flip(u8),
    Zero(usize),
    Cut,
}

fn harms() -> impl Strategy<Value = Vec<(usize, f64, Harm)>> {
    let harm = prop_oneof![
        4 => (1..=u8::MAX).prop_map(Harm::Flip),
        2 => (1..400_usize).prop_map(Harm::Zero),
        1 => Just(Harm::Cut),
    ];
    prop::collection::vec((any::<usize>(), 0.0..1.0_f64, harm), 1..4)
}

fn hurt(path: &Path, share: f64, harm: &Harm) -> std::ops::Range<u64> {
    let mut bytes = fs::read(path).unwrap();
    let place = (bytes.len() as f64 * share) as usize;
    let length = bytes.len();
    let end = match harm {
        Harm::Flip(_) => place + 1,
        Harm::Zero(count) => (place + count).min(length),
        Harm::Cut => length,
    };
    match harm {
        Harm::Flip(bits) if place < length => bytes[place] ^= bits,
        Harm::Zero(_) => bytes[place.min(end)..end].fill(0),
        _ => bytes.truncate(place),
    }
    fs::write(path, bytes).unwrap();
    place as u64..end as u64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn what_is_intact_is_replayed_in_order_and_what_is_not_is_counted(
        harms in harms(),
        count in 1..25_usize,
        done in prop::collection::btree_set(0..25_usize, 0..10),
    ) {
        let dir = TempDir::new().unwrap();
        let mut store = open(&dir);
        fill(&mut store, 0..count);
        let tickets: Vec<_> = (0..count).map(|_| take(&mut store).unwrap().0).collect();
        let done: BTreeSet<_> = done.into_iter().filter(|number| *number < count).collect();
        let finished = tickets.into_iter().enumerate().filter(|(number, _)| done.contains(number));
        finished.for_each(|(_, ticket)| store.done(ticket).unwrap());
        drop(store);
        let files = segments(&dir);
        let of = |path: &PathBuf| frames(path).into_iter().map(|frame| (path.clone(), frame)).collect::<Vec<_>>();
        let frames: Vec<_> = files.iter().flat_map(of).collect();
        // Segments of which all was done are gone from the front.
        let first = count - frames.len();
        let mut hit = BTreeSet::new();
        let mut last_was_cut = false;
        for (file, share, harm) in harms {
            let path = &files[file % files.len()];
            let range = hurt(path, share, &harm);
            last_was_cut |= matches!(harm, Harm::Cut) && Some(path) == files.last();
            let is_hit = |(of, frame): &(PathBuf, std::ops::Range<u64>)| {
                of == path && frame.start < range.end && range.start < frame.end
            };
            hit.extend(frames.iter().enumerate().filter(|(_, frame)| is_hit(frame)).map(|(n, _)| first + n));
        }
        // The type of the sink, or the version, cannot change without the checksum.
        let mut store = open(&dir);
        let found = store.recovered();
        let replayed = numbers(&mut store);
        prop_assert!(replayed.is_sorted_by(|a, b| a < b), "{:?}", replayed);
        let mut uncounted = 0;
        let damaged = store.take_damaged().weight.records | found.damaged.records | found.torn.records;
        for number in first..count {
            let is_there = replayed.contains(&number);
            let is_known = damaged & (1 << number) != 0;
            if !hit.contains(&number) {
                prop_assert_eq!(is_there, !done.contains(&number), "{} is intact", number);
                prop_assert!(!is_known);
            } else if !is_there && !is_known && !done.contains(&number) {
                uncounted += 1;
            }
        }
        // Of what was cut off at the very end nobody can know, and of what is damaged there it is not known how many.
        let ends_damaged = hit.contains(&(count - 1)) && found.missing > 0;
        let is_excused = last_was_cut || ends_damaged;
        prop_assert!(uncounted <= found.missing || is_excused, "{} {:?}", uncounted, found);
        prop_assert!(hit.is_empty() <= (found.missing == 0 && damaged == 0));
    }
}

/// What is done with a spool that keeps sets.
#[derive(Clone, Debug)]
enum Act {
    Append,
    Seal,
    Take,
    /// The next process opens it.
    Kill,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![6 => Just(Act::Append), 3 => Just(Act::Seal), 3 => Just(Act::Take), 2 => Just(Act::Kill)]
}

fn open_sets(dir: &TempDir) -> Store {
    let mut store = open(dir);
    store.keep_sets().unwrap();
    store
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn sets_are_there_as_a_whole_or_not_at_all(acts in prop::collection::vec(act(), 0..50)) {
        let dir = TempDir::new().unwrap();
        let mut store = open_sets(&dir);
        let (mut next, mut sealed, mut waiting, mut through) = (0, Vec::new(), Vec::new(), None);
        for act in acts {
            match act {
                Act::Append if next < 60 => {
                    store.append(&request(next)).unwrap();
                    waiting.push(next);
                    next += 1;
                }
                Act::Append => {}
                Act::Seal => {
                    sealed.append(&mut waiting);
                    through = Some(next as u64);
                    store.seal(through).unwrap();
                }
                Act::Take if sealed.is_empty() => prop_assert!(take(&mut store).is_none()),
                Act::Take => {
                    let (ticket, request) = take(&mut store).unwrap();
                    prop_assert_eq!(number(&request), sealed.remove(0));
                    store.done(ticket).unwrap();
                }
                Act::Kill => {
                    drop(store);
                    store = open_sets(&dir);
                    let found = store.recovered();
                    prop_assert_eq!((found.requests, found.missing), (sealed.len() as u64, 0));
                    let torn = waiting.drain(..).fold(0, |torn: u64, number| torn | 1 << number);
                    prop_assert_eq!((found.torn.records, found.damaged.records), (torn, 0));
                    prop_assert_eq!(store.sealed_through(), through);
                }
            }
        }
    }

    #[test]
    fn no_damage_to_a_spool_with_sets_makes_it_panic(
        harms in harms(),
        acts in prop::collection::vec(any::<bool>(), 1..25),
    ) {
        let dir = TempDir::new().unwrap();
        let mut store = open_sets(&dir);
        for (number, is_sealed) in acts.iter().enumerate() {
            store.append(&request(number)).unwrap();
            if *is_sealed {
                store.seal(Some(number as u64)).unwrap();
            }
        }
        drop(store);
        let mut files = segments(&dir);
        files.push(config(&dir).dir.join("sealed"));
        for (file, share, harm) in harms {
            hurt(&files[file % files.len()], share, &harm);
        }
        let mut store = open_sets(&dir);
        let taken = numbers(&mut store);
        prop_assert!(taken.is_sorted_by(|a, b| a < b), "{:?}", taken);
        store.append(&request(30)).unwrap();
        store.seal(Some(30)).unwrap();
        prop_assert_eq!(numbers(&mut store), [30]);
    }
}

#[test]
fn a_set_that_fills_the_spool_is_let_go() {
    let dir = TempDir::new().unwrap();
    let config = SpoolConfig { max_bytes: 2_000, ..config(&dir) };
    let mut store = Store::open(&config, "null", BOOT).unwrap();
    store.keep_sets().unwrap();
    let refused = (0..60).find(|number| store.append(&request(*number)).is_err()).unwrap();
    assert_eq!(numbers(&mut store), (0..refused).collect::<Vec<_>>());
    assert_eq!(store.sealed_through(), None);
}
