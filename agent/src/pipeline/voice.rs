//! What a sink says in the log: at once when something fails, and not again and again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time between two lines about the same failure, at first.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The same where the reason is another one.
const SAY_NEWS_EVERY: Duration = Duration::from_secs(1);

/// Time between two lines about a failure that goes on for long.
const SAY_AT_LEAST_EVERY: Duration = Duration::from_secs(300);

/// A failure that goes on for so long is somebody's to mend.
const PATIENCE: Duration = Duration::from_secs(30);

/// What goes to the same server beside records is not said to fail before that: the records may be about to.
const GRACE: Duration = Duration::from_secs(10);

/// So many reasons of a failure are remembered.
const REASONS: usize = 16;

/// As much of an item that is given up is shown.
const SHOWN: usize = 200;

/// What all that goes to one server has to know of it.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Why records do not get there at present: what goes there beside them has no need to say the same.
    reasons: Mutex<Vec<String>>,
    /// It asked to be left alone until then.
    rests_until: Mutex<Option<Instant>>,
}

impl Trouble {
    /// The server asked that nothing comes before that moment.
    pub(super) fn let_rest(&self, until: Instant) {
        let mut rests_until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        *rests_until = (*rests_until).max(Some(until));
    }

    /// Until when nothing may come, if that is not over.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| *until > Instant::now())
    }

    fn note(&self, reason: &str) {
        let mut reasons = self.reasons();
        if reasons.len() < REASONS && !reasons.iter().any(|known| known == reason) {
            reasons.push(reason.to_owned());
        }
    }

    fn is_over(&self) {
        self.reasons().clear();
    }

    fn has(&self, reason: &str) -> bool {
        self.reasons().iter().any(|known| known == reason)
    }

    fn reasons(&self) -> MutexGuard<'_, Vec<String>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Debug(String),
    Warn(String),
    Error(String),
}

impl Line {
    pub(super) fn log(&self) {
        match self {
            Self::Debug(text) => tracing::debug!("{text}"),
            Self::Warn(text) => tracing::warn!("{text}"),
            Self::Error(text) => tracing::error!("{text}"),
        }
    }
}

/// What one sink has said.
#[derive(Debug)]
pub(super) struct Voice {
    name: String,
    trouble: Arc<Trouble>,
    /// It goes beside records, which say what is wrong with the server.
    is_beside: bool,
    failing: Option<Failing>,
    gave_up: Option<GaveUp>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    tries: u64,
    /// Since when records do not fail for the reason that was met last.
    alone_since: Option<Instant>,
    was_told: bool,
    say_again: Instant,
    /// What was said last, and when.
    said: (String, Instant),
}

#[derive(Debug)]
struct GaveUp {
    say_again: Instant,
    unsaid: u64,
}

impl Voice {
    pub(super) fn new(name: &str) -> Self {
        let trouble = Arc::default();
        Self { name: name.to_owned(), trouble, is_beside: false, failing: None, gave_up: None }
    }

    /// Of what goes to the server of a sink beside its records.
    pub(super) fn beside(name: &str, trouble: &Arc<Trouble>) -> Self {
        Self { trouble: Arc::clone(trouble), is_beside: true, ..Self::new(name) }
    }

    /// What others that go to the same server have to know.
    pub(super) fn trouble(&self) -> Arc<Trouble> {
        Arc::clone(&self.trouble)
    }

    /// The sink's.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A try failed. `waiting`: records that are not delivered.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        reason: &str,
        pause: Duration,
        waiting: u64,
    ) -> Option<Line> {
        let failing = self.failing.get_or_insert_with(|| Failing::from(now));
        failing.tries += 1;
        if !self.is_beside {
            self.trouble.note(reason);
        } else if !failing.is_alone(now, self.trouble.has(reason)) {
            let name = &self.name;
            return Some(Line::Debug(format!("sink {name}: {reason}; retrying in {}", seconds(pause))));
        }
        let is_news = failing.said.0 != reason && now >= failing.said.1 + SAY_NEWS_EVERY;
        if now < failing.say_again && !is_news {
            return None;
        }
        failing.was_told = true;
        failing.said = (reason.to_owned(), now);
        let lasted = now - failing.since;
        failing.say_again = now + (lasted / 2).clamp(SAY_EVERY, SAY_AT_LEAST_EVERY);
        let (name, records) = (&self.name, plural(waiting, "record waits", "records wait"));
        let line = format!("sink {name}: {reason}; retrying in {}; {records}", seconds(pause));
        Some(if lasted < PATIENCE { Line::Warn(line) } else { Line::Error(line) })
    }

    /// A try succeeded. Whoever was told of the failure is told of its end.
    pub(super) fn delivered(&mut self, now: Instant) -> Option<Line> {
        if !self.is_beside {
            self.trouble.is_over();
        }
        let Failing { since, tries, was_told, .. } = self.failing.take()?;
        let (name, tries) = (&self.name, plural(tries, "failed try", "failed tries"));
        let line = format!("sink {name}: delivers again, after {} and {tries}", seconds(now - since));
        Some(if was_told { Line::Warn(line) } else { Line::Debug(line) })
    }

    /// Items will never be delivered; one of them as it was to be sent, and why.
    pub(super) fn gave_up(&mut self, now: Instant, items: u64, reason: &str, piece: &[u8]) -> Option<Line> {
        let gave_up = self.gave_up.get_or_insert(GaveUp { say_again: now, unsaid: 0 });
        gave_up.unsaid += items;
        if now < gave_up.say_again {
            return None;
        }
        gave_up.say_again = now + SAY_EVERY;
        let items = plural(std::mem::take(&mut gave_up.unsaid), "record", "records");
        let (name, piece) = (&self.name, shown(piece));
        Some(Line::Error(format!("sink {name}: gave up {items}, the last because {reason}: {piece}")))
    }

    /// What was given up and not said yet.
    pub(super) fn conclude(&mut self) -> Option<Line> {
        let unsaid = self.gave_up.take()?.unsaid;
        let name = &self.name;
        (unsaid > 0).then(|| {
            Line::Error(format!("sink {name}: gave up {} more", plural(unsaid, "record", "records")))
        })
    }
}

impl Failing {
    const fn from(now: Instant) -> Self {
        let said = (String::new(), now);
        Self { since: now, tries: 0, alone_since: None, was_told: false, say_again: now, said }
    }

    /// Whether this has been failing for a while for reasons that no records meet.
    fn is_alone(&mut self, now: Instant, records_fail: bool) -> bool {
        if records_fail {
            self.alone_since = None;
            return false;
        }
        now >= *self.alone_since.get_or_insert(now) + GRACE
    }
}

/// The beginning of an item, on one line.
fn shown(piece: &[u8]) -> String {
    let head = piece.get(..SHOWN).unwrap_or(piece);
    let rest = if head.len() < piece.len() { "…" } else { "" };
    format!("{}{rest}", String::from_utf8_lossy(head).trim_end().escape_debug())
}

/// `1,234 records wait`
fn plural(count: u64, one: &str, more: &str) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} {}", if count == 1 { one } else { more })
}

/// `4 s`, `0.3 s`
fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_failure_is_told_at_once_then_seldom_and_louder_and_its_end_once() {
        let (mut voice, start) = (Voice::new("archive"), Instant::now());
        let pause = Duration::from_secs(4);
        let mut failed = |at| voice.failed(after(start, at), "no route to host", pause, 1_234);
        let line = "sink archive: no route to host; retrying in 4.0 s; 1,234 records wait".to_owned();
        assert_eq!(failed(0), Some(Line::Warn(line.clone())));
        assert_eq!((failed(4), failed(9)), (None, None));
        assert_eq!(failed(10), Some(Line::Warn(line.clone())));
        assert_eq!(failed(40), Some(Line::Error(line.clone())));
        assert_eq!(failed(55), None, "half of how long it lasted");
        assert_eq!(failed(60), Some(Line::Error(line)));
        let again = "sink archive: delivers again, after 61 s and 7 failed tries".to_owned();
        assert_eq!(voice.delivered(after(start, 61)), Some(Line::Warn(again)));
        assert_eq!(voice.delivered(after(start, 62)), None);
    }

    /// `archive`, and what goes to its server beside its records.
    fn two() -> (Voice, Voice) {
        let archive = Voice::new("archive");
        let status = Voice::beside("archive.status", &archive.trouble());
        (archive, status)
    }

    fn is_told(line: Option<Line>) -> bool {
        !matches!(line, None | Some(Line::Debug(_)))
    }

    #[test]
    fn a_server_that_is_away_is_told_once_whoever_notices_first() {
        let ((mut archive, mut status), start) = (two(), Instant::now());
        let failed = |voice: &mut Voice, at| {
            is_told(voice.failed(after(start, at), "no route to host", Duration::from_secs(4), 1))
        };
        assert!(!failed(&mut status, 0), "records may meet the same");
        assert!(failed(&mut archive, 1));
        for at in 2..100 {
            assert!(!failed(&mut status, at), "{at}");
        }
        assert!(is_told(archive.delivered(after(start, 101))));
        assert!(!failed(&mut status, 101), "it had been sent before");
        assert_eq!(
            status.delivered(after(start, 102)),
            Some(Line::Debug("sink archive.status: delivers again, after 102 s and 100 failed tries".into()))
        );
    }

    #[test]
    fn what_fails_for_a_reason_of_its_own_is_told_and_so_is_its_end() {
        let ((mut archive, mut status), start) = (two(), Instant::now());
        let failed = |voice: &mut Voice, at, reason| {
            is_told(voice.failed(after(start, at), reason, Duration::from_secs(4), 0))
        };
        assert!(failed(&mut archive, 0, "no route to host"));
        assert!(!failed(&mut status, 0, "forbidden"));
        assert!(!failed(&mut status, 9, "forbidden"));
        assert!(failed(&mut status, 10, "forbidden"));
        assert!(is_told(archive.delivered(after(start, 11))));
        assert!(failed(&mut status, 20, "forbidden"));
        assert!(is_told(status.delivered(after(start, 21))));
    }

    #[test]
    fn another_reason_is_told_without_delay() {
        let (mut voice, start) = (Voice::new("a"), Instant::now());
        assert!(voice.failed(start, "away", Duration::ZERO, 1).is_some());
        let line = voice.failed(after(start, 2), "wrong token", Duration::ZERO, 1);
        assert_eq!(line, Some(Line::Warn("sink a: wrong token; retrying in 0.0 s; 1 record waits".into())));
    }

    #[test]
    fn what_is_given_up_is_told_with_a_piece_and_counted_meanwhile() {
        let (mut voice, start) = (Voice::new("a"), Instant::now());
        let line = voice.gave_up(start, 2, "field type conflict", b"flows x=1i\n");
        let text = "sink a: gave up 2 records, the last because field type conflict: flows x=1i";
        assert_eq!(line, Some(Line::Error(text.into())));
        assert_eq!(voice.gave_up(after(start, 5), 3, "x", b""), None);
        let Some(Line::Error(line)) = voice.gave_up(after(start, 10), 1, "x", &[b'y'; 500]) else { panic!() };
        assert!(line.starts_with("sink a: gave up 4 records") && line.ends_with("yy…"), "{line}");
        assert_eq!(voice.gave_up(after(start, 11), 1, "x", b""), None);
        assert_eq!(voice.conclude(), Some(Line::Error("sink a: gave up 1 record more".into())));
        assert_eq!(voice.conclude(), None);
    }
}
