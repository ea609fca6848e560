//! Guests at once, as many as this machine has room for.

use std::{
    collections::BTreeMap,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread,
};

use super::{
    plan::Piece,
    report::{CaseResult, Report},
};

/// Each has 1.5 GiB of memory.
const MOST: usize = 6;

/// For how many CPUs of guests this machine has room. Half of the time a scenario waits, so that there are more than
/// the machine has itself; with one alone there is no such half.
pub(super) fn room() -> usize {
    room_of(thread::available_parallelism().map_or(1, NonZero::get))
}

fn room_of(cpus: usize) -> usize {
    (cpus + cpus / 2).min(MOST)
}

/// Does the work of every piece, of several at once as far as their CPUs fit in. `so_far` gets the results in the order
/// of the pieces each time that there is one more, and at the end they are returned.
pub(super) fn run(
    pieces: &[Piece],
    room: usize,
    work: impl Fn(&Piece) -> CaseResult + Sync,
    mut so_far: impl FnMut(&Report),
) -> Report {
    let need = |piece: &Piece| (piece.case.cpus as usize).clamp(1, room);
    let mut waiting: Vec<(usize, &Piece)> = pieces.iter().enumerate().collect();
    // What comes last should leave little room empty.
    waiting.sort_by_key(|(_, piece)| std::cmp::Reverse(need(piece)));
    let mut found: BTreeMap<usize, CaseResult> = BTreeMap::new();
    let (mut free, work) = (room, &work);
    let (finished, results) = mpsc::channel();
    thread::scope(|scope| {
        while found.len() < pieces.len() {
            while let Some(next) = waiting.iter().position(|(_, piece)| need(piece) <= free) {
                let (place, piece) = waiting.remove(next);
                free -= need(piece);
                let finished = finished.clone();
                scope.spawn(move || {
                    let result = catch_unwind(AssertUnwindSafe(|| work(piece)));
                    // Whoever listens does so until all are done.
                    let _ = finished.send((place, piece, result));
                });
            }
            let Ok((place, piece, result)) = results.recv() else { break };
            free += need(piece);
            let panicked = |_| CaseResult::failed(&piece.case, "its thread panicked".to_owned());
            found.insert(place, result.unwrap_or_else(panicked));
            so_far(&Report { cases: found.values().cloned().collect() });
        }
    });
    Report { cases: found.into_values().collect() }
}

#[cfg(test)]
mod tests {
    use super::super::{
        plan::{MODES, selection},
        supported,
    };
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn all_guests_run_and_never_more_than_there_is_room_for() {
        let pieces = selection(&supported(), MODES, &[]);
        for room in [room_of(1), room_of(2), room_of(64)] {
            let (now, most) = (Mutex::new(0), Mutex::new(0));
            let work = |piece: &Piece| {
                let cpus = (piece.case.cpus as usize).min(room);
                *now.lock().unwrap() += cpus;
                let (highest, crowd) = (&mut *most.lock().unwrap(), *now.lock().unwrap());
                *highest = crowd.max(*highest);
                thread::yield_now();
                *now.lock().unwrap() -= cpus;
                CaseResult::new(&piece.case)
            };
            let mut told = 0;
            let report = run(&pieces, room, work, |_| told += 1);
            let cases: Vec<_> = report.cases.iter().map(CaseResult::column).collect();
            assert_eq!(
                cases,
                pieces.iter().map(|piece| CaseResult::new(&piece.case).column()).collect::<Vec<_>>()
            );
            assert_eq!(told, pieces.len());
            assert!(*most.lock().unwrap() <= room);
        }
    }

    #[test]
    fn a_guest_that_panics_has_failed_and_the_others_go_on() {
        let pieces = selection(&supported(), MODES, &[]);
        let work = |piece: &Piece| {
            assert!(piece.case.cpus > 1, "as planned");
            CaseResult::new(&piece.case)
        };
        let report = run(&pieces, 3, work, |_| ());
        let failed: Vec<_> = report.cases.iter().map(|case| case.error.is_some()).collect();
        assert_eq!(failed, pieces.iter().map(|piece| piece.case.cpus == 1).collect::<Vec<_>>());
    }
}
