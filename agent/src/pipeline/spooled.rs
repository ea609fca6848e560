//! The driver of a sink with a spool: every request goes through it, so that the order is kept without further ado and
//! nothing that was encoded is only in memory.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::batch::Batch;
use super::delivery::{Delivery, Origin};
use super::driver::Driver;
use super::spool::{Refused, Spool, Ticket};
use super::{Request, Sink};

impl<S: Sink> Driver<S> {
    /// Until the input has ended, and then as long as the server takes what is there.
    pub(super) async fn run_through(&mut self, spool: &Arc<Spool>) {
        let shared = Arc::clone(&self.delivery.shared);
        let draining = tokio::spawn(drain(Arc::clone(&self.delivery), Arc::clone(spool)));
        let mut unsealed = Vec::new();
        while let Some(Batch { request, held, since }) = self.gather().await {
            // What comes from here on is not in this request.
            let through = if self.hand.is_none() { shared.whole_through() } else { None };
            if !store(&self.delivery, spool, request, since.unwrap_or_else(Instant::now)).await {
                break;
            }
            // Until a set is whole, a later agent has to make it anew.
            unsealed.extend(held);
            let is_whole = match through {
                Some(through) => spool.seal(through).await,
                None => !spool.keeps_sets(),
            };
            if is_whole {
                unsealed.drain(..).for_each(|held| shared.release(held));
            }
        }
        spool.end();
        if let Err(fault) = draining.await {
            tracing::error!("a spool is not read any more ({fault}); what is in it stays for the next agent");
        }
        spool.close(shared.report().spooled).await;
    }
}

/// Puts a request into the spool, however long that takes; its oldest item came at `since`. Returns whether it is there,
/// or delivered.
async fn store<S: Sink>(
    delivery: &Delivery<S>,
    spool: &Arc<Spool>,
    mut request: Request,
    since: Instant,
) -> bool {
    let (shared, weight) = (&delivery.shared, request.weight());
    if request.items.is_empty() {
        return true;
    }
    loop {
        // Before it can be taken out.
        shared.count_spooled(weight, since);
        let Err((back, refused)) = spool.append(request).await else { return true };
        request = back;
        if spool.is_idle().await {
            tell(spool, &refused, "records go to the server without it, one request after the other");
            return deliver_past(delivery, request).await;
        }
        shared.count_refused(weight);
        tell(spool, &refused, "what comes waits in memory; what does not fit there is dropped and counted");
        tokio::select! {
            biased;
            () = shared.left() => return false,
            () = spool.room() => {}
        }
    }
}

fn tell(spool: &Spool, refused: &Refused, what_happens: &str) {
    spool.complain(&format!("it takes no more ({refused}): {what_happens}; {}", refused.advice()));
}

/// Delivers a request that follows nothing, as the spool is empty.
async fn deliver_past<S: Sink>(delivery: &Delivery<S>, request: Request) -> bool {
    let shared = &delivery.shared;
    let since = shared.begin_spooled(request.weight());
    tokio::select! {
        biased;
        () = delivery.deliver_all(request, Origin::Memory) => {
            shared.end_spooled(since);
            true
        }
        () = shared.left() => {
            // It is nowhere else.
            shared.count_unspooled(shared.report().spooled);
            false
        }
    }
}

/// Delivers what is in the spool.
async fn drain<S: Sink>(delivery: Arc<Delivery<S>>, spool: Arc<Spool>) {
    let shared = Arc::clone(&delivery.shared);
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() >= delivery.config.concurrency as usize {
            one_done(&mut under_way).await;
        }
        let (next, damaged) = tokio::select! {
            biased;
            () = shared.left() => break,
            next = spool.next() => next,
        };
        shared.count_damaged(&damaged);
        match next {
            Some((ticket, request)) => {
                let since = shared.begin_spooled(request.weight());
                let of = (ticket, since);
                under_way.spawn(deliver(Arc::clone(&delivery), Arc::clone(&spool), of, request));
            }
            None if spool.has_ended() && damaged.weight.records == 0 => break,
            None => {}
        }
    }
    while !under_way.is_empty() {
        one_done(&mut under_way).await;
    }
}

async fn one_done(under_way: &mut JoinSet<()>) {
    if let Some(Err(fault)) = under_way.join_next().await {
        tracing::error!("a delivery failed ({fault}); its records stay in the spool");
    }
}

/// What is left when the agent ends stays in the spool, in doubt.
async fn deliver<S: Sink>(
    delivery: Arc<Delivery<S>>,
    spool: Arc<Spool>,
    (ticket, since): (Ticket, Option<Instant>),
    request: Request,
) {
    let origin = if ticket.is_inherited { Origin::EarlierAgent } else { Origin::Spool };
    tokio::select! {
        biased;
        () = delivery.deliver_all(request, origin) => {
            delivery.shared.end_spooled(since);
            spool.done(ticket).await;
        }
        () = delivery.shared.left() => {}
    }
}
