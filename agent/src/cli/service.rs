//! What the service manager is told: that the agent is ready, alive, how it is doing, and that it ends. Without one,
//! nothing; see `sd_notify(3)`.

use crate::audit::Statement;
use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// Says that everything is in place.
pub(super) fn ready() {
    notify(NotifyState::Ready);
}

/// Says that the end has begun.
pub(super) fn stopping() {
    notify(NotifyState::Stopping);
}

/// Says how it is doing, for `systemctl status`.
pub(super) fn status(live_flows: usize, statement: &Statement) {
    notify(NotifyState::Status(&status_text(live_flows, statement)));
}

/// A moment's batch waits all the time, and is not worth a word.
const WORTH_A_WORD: Duration = Duration::from_secs(10);

fn status_text(live_flows: usize, statement: &Statement) -> String {
    let mut text = format!("{live_flows} live flows; completeness of {}", statement.completeness);
    for (sink, waiting) in statement.waiting().filter(|(_, waiting)| waiting.oldest >= WORTH_A_WORD) {
        let (records, seconds) = (waiting.records, waiting.oldest.as_secs());
        text.push_str(&format!("; {records} records wait for {sink}, the oldest for {seconds} s"));
    }
    text
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::debug!("cannot notify the service manager: {error}");
    }
}

/// Signs of life, where the service manager ends a service that gives none (`WatchdogSec=`).
#[derive(Debug)]
pub(super) struct Pulse {
    every: Option<Duration>,
    last: Instant,
}

impl Pulse {
    /// As often as the environment asks for.
    pub(super) fn as_asked() -> Self {
        let mut within_us = 0;
        let is_asked = sd_notify::watchdog_enabled(false, &mut within_us);
        Self::new(is_asked.then_some(Duration::from_micros(within_us)))
    }

    /// Twice within the time after which a service without them is ended.
    fn new(within: Option<Duration>) -> Self {
        Self { every: within.map(|within| within / 2), last: Instant::now() }
    }

    /// Gives one if it is time. To be called by the main loop each time it comes around.
    pub(super) fn beat(&mut self) {
        if self.is_due(Instant::now()) {
            notify(NotifyState::Watchdog);
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.every.is_some_and(|every| now.saturating_duration_since(self.last) >= every);
        if is_due {
            self.last = now;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Auditor, Evidence};
    use crate::model::Waiting;

    #[test]
    fn sinks_that_take_nothing_are_told_beside_the_completeness() {
        let waiting =
            |seconds| Waiting { records: 7, oldest: Duration::from_secs(seconds), ..Waiting::default() };
        let evidence =
            Evidence { waiting: vec![("live", waiting(9)), ("archive", waiting(61))], ..Evidence::default() };
        let text = status_text(12, &Auditor::default().audit(&evidence));
        assert_eq!(
            text,
            "12 live flows; completeness of bytes 100 %, packets 100 %, flows 100 %; 7 records wait for archive, the \
             oldest for 61 s"
        );
    }

    #[test]
    fn signs_of_life_come_twice_as_often_as_asked_for() {
        let mut pulse = Pulse::new(Some(Duration::from_secs(10)));
        let start = pulse.last;
        let due: Vec<_> =
            (0..=10).filter(|after| pulse.is_due(start + Duration::from_secs(*after))).collect();
        assert_eq!(due, [5, 10]);
    }

    #[test]
    fn who_asks_for_no_signs_of_life_gets_none() {
        let mut pulse = Pulse::new(None);
        assert!(!pulse.is_due(pulse.last + Duration::from_secs(3_600)));
    }
}
