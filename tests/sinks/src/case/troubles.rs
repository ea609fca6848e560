//! One trouble after the other, met by one agent that follows live flows: what is stored and what it says was lost are
//! what moved, whatever it does with what its queue has no room for.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::audit::{expect_sum, lost};
use super::live::in_turn;
use super::names::Names;
use crate::agent::Agent;
use crate::live::{ADDRESSES, Live};
use crate::proxy::{Certificate, Fault};
use crate::scene::Scene;

/// More flows than wait for a sink, also where it gets only their ends; and a few.
const MANY: u16 = 1_600;
const FEW: u16 = 20;

/// Something else moves beside what a case is about.
const BRIEFLY: Duration = Duration::from_millis(300);

/// A date that has passed asks for no pause.
const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// Why a server takes nothing for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Nothing listens.
    Away,
    /// It is killed with a request in its hands.
    Killed,
    /// It stored a request and did not answer any more.
    CutOff,
    /// It has too much to do, and says when to come back.
    Storm,
    /// It takes no request, however small.
    TooLarge,
    /// Its name is not known.
    NoSuchName,
    /// It does not know who writes.
    WrongToken,
    /// Its certificate was not renewed.
    Expired,
    /// Its indices refuse to be written to.
    Blocked,
    /// What it stored without an answer is in an index that is not written to any more when it comes again.
    RolledOver,
}

const TROUBLES: [Trouble; 10] = [
    Trouble::Away,
    Trouble::Killed,
    Trouble::CutOff,
    Trouble::Blocked,
    Trouble::RolledOver,
    Trouble::Storm,
    Trouble::TooLarge,
    Trouble::NoSuchName,
    Trouble::WrongToken,
    Trouble::Expired,
];

pub(super) fn spool(scene: &mut Scene<'_>) -> Result<()> {
    play(scene, "spool")
}

pub(super) fn coalesce(scene: &mut Scene<'_>) -> Result<()> {
    play(scene, "coalesce")
}

pub(super) fn drop_newest(scene: &mut Scene<'_>) -> Result<()> {
    play(scene, "drop_newest")
}

fn play(scene: &mut Scene<'_>, policy: &str) -> Result<()> {
    scene.secure(Certificate::Right)?;
    scene.point_at(scene.proxy()?.url_by_name());
    in_turn(scene, |scene, live| meet_all(scene, live, policy))
}

fn meet_all(scene: &mut Scene<'_>, live: &mut Live, policy: &str) -> Result<()> {
    let names = Names::replace(scene.folder())?;
    let apart = scene.subject().apart();
    // All ends of a crowd come at once, and what has a spool is not to lose any.
    let queue = if policy == "spool" { 16_384 } else { 1_024 };
    let lines = format!(
        "queue_records = {queue}\nbatch_records = 50\nwhen_full = \"{policy}\"\n{apart}include = [\"{ADDRESSES}\"]\n\
         [source]\nrate_curve = [{{ age = \"0s\", every = \"1s\" }}]"
    );
    let agent = scene.follow(&lines)?;
    live.begin()?;
    live.crowd(FEW)?;
    // Some sinks get nothing else than ends.
    live.scatter()?;
    scene.until("something is stored", &agent, || Ok(scene.stored()? != Default::default()))?;
    for trouble in TROUBLES {
        if trouble.can_happen(scene) {
            meet(scene, live, &agent, &names, trouble).with_context(|| format!("{trouble:?}"))?;
        }
    }
    let ledger = live.end()?;
    scene.until_still(ledger)?;
    let ended = scene.stop(agent)?;
    let lost = lost(&ended.log);
    let loses = policy != "spool";
    ensure!((lost.bytes > 0) == loses, "it lost {lost} of {ledger}; its log:\n{}", ended.log);
    expect_sum(scene, lost, ledger, &ended)?;
    if loses { Ok(()) } else { scene.expect_stored(ledger, &ended) }
}

/// More flows begin and end than the queue holds; the agent says why nothing goes on, and goes on when somebody has mended
/// that.
fn meet(
    scene: &mut Scene<'_>,
    live: &mut Live,
    agent: &Agent,
    names: &Names,
    trouble: Trouble,
) -> Result<()> {
    let (said, seen) = (agent.log().len(), scene.proxy()?.seen().len());
    trouble.begin(scene, names)?;
    live.crowd(MANY)?;
    live.move_for(BRIEFLY)?;
    live.scatter()?;
    for words in trouble.told() {
        scene.until(&format!("its log says \"{words}\""), agent, || {
            Ok(agent.log().get(said..).unwrap_or_default().contains(words))
        })?;
    }
    if trouble.leaves_doubt() {
        let is_in_doubt = || Ok(scene.proxy()?.seen().iter().skip(seen).any(|one| one.fault.leaves_doubt()));
        scene.until("the server has stored what it did not answer", agent, is_in_doubt)?;
    }
    let seen = scene.proxy()?.seen().len();
    trouble.end(scene, names)?;
    live.crowd(FEW)?;
    let passes = || Ok(scene.proxy()?.seen().iter().skip(seen).any(|one| one.fault == Fault::Pass));
    scene.until("a request passes again", agent, passes)
}

impl Trouble {
    fn begin(self, scene: &mut Scene<'_>, names: &Names) -> Result<()> {
        if self == Self::Killed {
            // What comes gets as far as the machine, and its server does nothing with it.
            return scene.server()?.freeze();
        }
        let proxy = scene.proxy()?;
        match self {
            Self::Killed => {}
            Self::Away => proxy.go_away()?,
            Self::CutOff | Self::RolledOver => {
                proxy.insist(Fault::ResetRequest);
                proxy.order([Fault::ResetAnswer]);
            }
            Self::Storm => {
                let late = Fault::AnswerLate { status: 503, retry_after: Some("0".into()) };
                proxy.order([Fault::busy(429, "0"), late, Fault::busy(503, LONG_AGO)]);
                proxy.insist(Fault::busy(429, "1"));
            }
            Self::TooLarge => proxy.insist(Fault::Answer { status: 413, retry_after: None, body: "" }),
            Self::NoSuchName => names.know(false)?,
            Self::WrongToken => proxy.insist(Fault::status(401)),
            Self::Expired => proxy.show(Certificate::Expired)?,
            Self::Blocked => indices(scene)?.block(&scene.target(), true)?,
        }
        Ok(())
    }

    fn end(self, scene: &mut Scene<'_>, names: &Names) -> Result<()> {
        match self {
            Self::Killed => {
                scene.server()?.kill()?;
                scene.server()?.resume()?;
            }
            Self::Away => scene.proxy()?.come_back()?,
            Self::CutOff => {
                // What was under way is over before it is there again.
                scene.proxy()?.go_away()?;
                scene.proxy()?.behave();
                scene.proxy()?.come_back()?;
            }
            Self::RolledOver => {
                indices(scene)?.roll_over(&scene.target())?;
                scene.proxy()?.behave();
            }
            Self::Storm | Self::TooLarge | Self::WrongToken => scene.proxy()?.behave(),
            Self::NoSuchName => names.know(true)?,
            Self::Expired => scene.proxy()?.show(Certificate::Right)?,
            Self::Blocked => indices(scene)?.block(&scene.target(), false)?,
        }
        Ok(())
    }

    /// What the agent has to say, so that a person knows what to mend.
    const fn told(self) -> &'static [&'static str] {
        match self {
            Self::Away => &["nothing listens there: is the server running"],
            Self::Killed | Self::CutOff | Self::RolledOver => &["retrying"],
            Self::Storm => &["429"],
            Self::TooLarge => &["413", "see to the server's limits"],
            Self::NoSuchName => &["check the name in the url"],
            Self::WrongToken => &["401", "; check "],
            Self::Expired => &["the server's certificate is out of date: renew it"],
            Self::Blocked => &["the index is blocked for writing: see its index.blocks settings"],
        }
    }

    /// Whether the server can be brought into it, and keeps what it has said to be stored.
    fn can_happen(self, scene: &Scene<'_>) -> bool {
        match self {
            Self::Blocked | Self::RolledOver => scene.subject().indices().is_some(),
            Self::Killed => scene.subject().lacks("restart", "").is_none(),
            _ => true,
        }
    }

    const fn leaves_doubt(self) -> bool {
        matches!(self, Self::CutOff | Self::RolledOver | Self::Storm)
    }
}

fn indices<'a>(scene: &Scene<'a>) -> Result<&'static dyn crate::subject::Indices> {
    scene.subject().indices().context("its server has no indices")
}
