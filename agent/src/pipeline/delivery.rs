//! One request until each of its items is stored or given up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::guard::Guarded;
use super::queue::Held;
use super::retry::{Circumstances, Decision, FIRST_PAUSE, Next, decide};
use super::shared::Shared;
use super::size::Size;
use super::spool::Spool;
use super::voice::{Line, Trouble, Voice};
use super::{GivenUp, Item, Outcome, Report, Request, Sink, Weight};
use crate::config::DeliveryConfig;

/// A request with which the sink panicked so often is given up.
const PANICS: u32 = 3;

/// How much longer than it may take a try is waited for: the sink's own client gives up before that, and knows which
/// server it was.
const GRACE: Duration = Duration::from_secs(1);

/// The longest pause once somebody waits for the end.
const LAST_PAUSES: Duration = Duration::from_secs(1);

/// Where a request is as long as it is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nowhere else.
    Memory,
    /// In the spool.
    Spool,
    /// In the spool, too; an agent before this one had taken the records in.
    EarlierAgent,
}

/// What all deliveries of a sink share.
pub(super) struct Delivery<S: Sink> {
    pub(super) sink: S,
    pub(super) shared: Arc<Shared<S::Item>>,
    pub(super) config: DeliveryConfig,
    /// Through which all requests go, if there is one.
    pub(super) spool: Option<Arc<Spool>>,
    voice: Mutex<Voice>,
    trouble: Arc<Trouble>,
    size: Mutex<Size>,
}

impl<S: Sink> Delivery<S> {
    pub(super) fn new(
        voice: Voice,
        sink: S,
        shared: Arc<Shared<S::Item>>,
        config: &DeliveryConfig,
        spool: Option<Arc<Spool>>,
    ) -> Self {
        let size = Mutex::new(Size::new(config.batch_bytes as usize));
        let trouble = voice.trouble();
        Self { sink, shared, config: config.clone(), spool, voice: Mutex::new(voice), trouble, size }
    }

    /// Bytes of the next request at most.
    pub(super) fn most_bytes(&self) -> usize {
        self.size().most()
    }

    /// Delivers all of a request, however long it takes. `held` is of what it holds something first.
    pub(super) async fn deliver(self: Arc<Self>, request: Request, held: Option<Held>) {
        self.deliver_all(request, Origin::Memory).await;
        held.into_iter().for_each(|held| self.shared.release(held));
    }

    /// Delivers all of a request, however long it takes.
    pub(super) async fn deliver_all(&self, request: Request, origin: Origin) {
        // Parts of it are delivered in their order, so that later records of a flow stay later.
        let mut parts = VecDeque::from([request]);
        let mut panics = 0;
        while let Some(request) = parts.pop_front() {
            self.let_server_rest().await;
            let outcome = self.try_once(&request, &mut panics).await;
            let is_asked_to_wait = outcome.retry_after().is_some();
            let at = Circumstances {
                items: request.items.len(),
                bytes: request.body.len(),
                attempt: request.attempt,
                retry_max: self.config.retry_max,
                chance: chance(),
            };
            let decision = decide(outcome, at);
            if is_asked_to_wait && let Some(pause) = decision.next.pause() {
                self.trouble.let_rest(Instant::now() + pause);
            }
            let given_up = self.give_up(&request, &decision.given_up);
            if origin == Origin::EarlierAgent {
                self.shared.count_inherited(given_up);
            }
            self.follow(decision, request, &mut parts, origin).await;
        }
    }

    /// Waits until the server wants to be asked again, whoever it told that. Not all come back at the same moment.
    async fn let_server_rest(&self) {
        while let Some(until) = self.trouble.rests_until().filter(|_| !self.shared.is_hurried()) {
            tokio::select! {
                () = sleep_until(until + FIRST_PAUSE.mul_f64(chance())) => {}
                () = self.shared.hurried() => {}
            }
        }
    }

    async fn try_once(&self, request: &Request, panics: &mut u32) -> Outcome {
        self.shared.count_try();
        let begin = Instant::now();
        match timeout(self.config.timeout + GRACE, Guarded::new(self.sink.deliver(request))).await {
            Ok(Ok(Outcome::NotNow { reason, in_doubt: true, .. }))
                if begin.elapsed() >= self.config.timeout =>
            {
                Outcome::NoAnswer { reason }
            }
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panicked)) => {
                self.shared.count_panic();
                *panics += 1;
                after_panic(request, *panics, &panicked)
            }
            Err(_) => Outcome::NoAnswer { reason: format!("no answer within {:?}", self.config.timeout) },
        }
    }

    /// Does what was decided; what is left of the request goes back to the front of `parts`.
    async fn follow(
        &self,
        decision: Decision,
        mut request: Request,
        parts: &mut VecDeque<Request>,
        origin: Origin,
    ) {
        let Decision { next, given_up } = decision;
        let is_given_up = |position| is_among(&given_up, position);
        request.attempt += 1;
        match next {
            Next::Done => {
                self.size().taken();
                self.count_delivered(&request, |position| !is_given_up(position));
            }
            Next::All { pause, reason, in_doubt } => {
                request.in_doubt |= in_doubt;
                self.pause(pause, &reason, origin).await;
                parts.push_front(request);
            }
            Next::These { positions, pause, reason } => {
                let is_left = |position| positions.binary_search(&position).is_ok();
                self.count_delivered(&request, |position| !is_left(position) && !is_given_up(position));
                // Without their number, as what changes is news each time.
                let reason = format!("some records of a request are not stored: {reason}");
                self.pause(pause, &reason, origin).await;
                parts.push_front(request.only(&positions));
            }
            Next::Halves { reason } => {
                self.learn_size(&request, &reason);
                in_halves(&request, parts);
            }
            Next::SlowHalves { pause, reason } => {
                request.in_doubt = true;
                self.pause(pause, &format!("{reason}, now sent in halves"), origin).await;
                in_halves(&request, parts);
            }
        }
    }

    fn count_delivered(&self, request: &Request, is_delivered: impl Fn(usize) -> bool) {
        let weight = request.weight_where(&is_delivered);
        self.shared.count_delivered(weight);
        self.count_out_of_spool(weight);
        // Not every item stands for a record.
        if (0..request.items.len()).any(is_delivered) {
            say(self.voice().delivered(Instant::now()));
        }
    }

    fn count_out_of_spool(&self, weight: Weight) {
        if self.spool.is_some() {
            self.shared.count_unspooled(weight);
        }
    }

    /// Returns what it weighs.
    fn give_up(&self, request: &Request, given_up: &[GivenUp]) -> Weight {
        let Some(last) = given_up.last() else { return Weight::default() };
        let weight = request.weight_where(|position| is_among(given_up, position));
        self.shared.count_given_up(weight);
        self.count_out_of_spool(weight);
        let piece = request.piece(last.position).unwrap_or_default();
        say(self.voice().gave_up(Instant::now(), given_up.len() as u64, &last.reason, piece));
        weight
    }

    /// An item cannot even be encoded.
    pub(super) fn refuse(&self, item: &S::Item, reason: &str) {
        self.shared.count_panic();
        self.shared.count_given_up(item.weight());
        say(self.voice().gave_up(Instant::now(), 1, &format!("it cannot be encoded: {reason}"), b""));
    }

    /// Nothing is under way any more.
    pub(super) fn conclude(&self) {
        say(self.voice().conclude());
        let name = self.voice().name().to_owned();
        let report = self.shared.report();
        let Report { delivered, merged, tries, spooled, .. } = report;
        if spooled.records > 0 || report.unwritten().records > 0 {
            return;
        }
        tracing::info!(records = delivered.records, merged, tries, "sink {name}: all is delivered");
    }

    /// Waits until the next try, which comes sooner when somebody waits for the end.
    async fn pause(&self, pause: Duration, reason: &str, origin: Origin) {
        let report = self.shared.report();
        let waiting = report.unwritten().records.saturating_add(report.spooled.records);
        let is_hurried = self.shared.is_hurried();
        let pause = if is_hurried { pause.min(LAST_PAUSES) } else { pause };
        say(self.voice().failed(Instant::now(), reason, pause, waiting));
        if is_hurried && origin != Origin::Memory {
            // The next agent tries again.
            self.shared.leave();
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.shared.hurried(), if !is_hurried => {}
        }
    }

    fn learn_size(&self, request: &Request, reason: &str) {
        let bytes = request.body.len();
        let learned = self.size().refused(bytes);
        if let Some(most) = learned {
            let name = self.voice().name().to_owned();
            tracing::warn!(
                "sink {name}: a request of {bytes} bytes is too large for the server ({reason}): at most {most} for a \
                 while; set batch_bytes"
            );
        }
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn voice(&self) -> MutexGuard<'_, Voice> {
        self.voice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_halves(request: &Request, parts: &mut VecDeque<Request>) {
    let [first, second] = request.halves();
    parts.push_front(second);
    parts.push_front(first);
}

/// They are in ascending order.
fn is_among(given_up: &[GivenUp], position: usize) -> bool {
    given_up.binary_search_by_key(&position, |item| item.position).is_ok()
}

fn after_panic(request: &Request, panics: u32, panicked: &str) -> Outcome {
    if panics < PANICS {
        let reason = format!("it panicked: {panicked}");
        return Outcome::NotNow { reason, retry_after: None, in_doubt: true };
    }
    let reason = format!("it panicked {panics} times: {panicked}");
    let given_up = (0..request.items.len()).map(|position| GivenUp { position, reason: reason.clone() });
    Outcome::Partly {
        again: Vec::new(),
        reason: String::new(),
        given_up: given_up.collect(),
        retry_after: None,
    }
}

fn say(line: Option<Line>) {
    line.iter().for_each(Line::log);
}

/// At least 0 and below 1. What hash maps are seeded with is chance enough to keep agents apart.
fn chance() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_within_its_range_and_varies() {
        let drawn: Vec<_> = (0..100).map(|_| chance()).collect();
        assert!(drawn.iter().all(|chance| (0.0..1.0).contains(chance)));
        assert!(drawn.iter().any(|chance| *chance < 0.5) && drawn.iter().any(|chance| *chance >= 0.5));
    }
}
