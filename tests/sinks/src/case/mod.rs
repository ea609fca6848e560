//! What every sink must do: one table, played with each.

mod answers;
mod audit;
mod basics;
mod breaks;
mod disks;
mod keys;
mod limits;
mod limits_of_servers;
mod live;
mod names;
mod outages;
mod refusals;
mod secure;
mod soon;
mod spools;
mod storms;
mod troubles;

use anyhow::Result;

use crate::scene::Scene;

/// One behaviour.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What must be.
    pub must: &'static str,
    /// Whether it takes a server, and a proxy before it.
    pub needs_server: bool,
    /// Whether it takes root: for network namespaces and an agent that follows their flows.
    pub needs_root: bool,
    /// Whether nothing else may be played meanwhile: it measures time.
    pub is_alone: bool,
    /// The sinks with which it is played each time, where these are not all; others play it when asked to.
    pub usual: Option<&'static [&'static str]>,
    /// The server that it takes where a sink's usual ones lack something: it is played with that one each time, too.
    pub also: Option<&'static str>,
    play: fn(&mut Scene<'_>) -> Result<()>,
}

impl Case {
    /// Plays it.
    ///
    /// # Errors
    /// When the sink does not do what it must, with all that helps to see why.
    pub fn play(&self, scene: &mut Scene<'_>) -> Result<()> {
        (self.play)(scene)
    }
}

const fn case(name: &'static str, must: &'static str, play: fn(&mut Scene<'_>) -> Result<()>) -> Case {
    Case { name, must, needs_server: true, needs_root: false, is_alone: false, usual: None, also: None, play }
}

const fn local(name: &'static str, must: &'static str, play: fn(&mut Scene<'_>) -> Result<()>) -> Case {
    Case {
        name,
        must,
        needs_server: false,
        needs_root: false,
        is_alone: false,
        usual: None,
        also: None,
        play,
    }
}

const fn root(name: &'static str, must: &'static str, play: fn(&mut Scene<'_>) -> Result<()>) -> Case {
    Case { name, must, needs_server: true, needs_root: true, is_alone: false, usual: None, also: None, play }
}

const fn alone(case: Case) -> Case {
    Case { is_alone: true, ..case }
}

/// It takes long, so only some sinks play it each time.
const fn with(usual: &'static [&'static str], case: Case) -> Case {
    Case { usual: Some(usual), ..case }
}

/// The usual servers of a sink lack what it is about.
const fn also(server: &'static str, case: Case) -> Case {
    Case { also: Some(server), ..case }
}

/// All of them.
pub const ALL: &[Case] = &[
    alone(case("soon", "a record can be found within 3 s after it was made", soon::is_found)),
    alone(root("soon-live", "the same by the clock on the wall", soon::is_found_in_time)),
    local("accounts", "says in the end that nothing was lost", basics::accounts),
    local("delivers", "every flow arrives once, to the byte", basics::delivers),
    case("clock-step", "a wall clock that is set back or forth costs nothing", basics::clock_step),
    case("batches", "many records travel in few requests", basics::batches),
    case("keeps-limits", "no request is larger than it may be", limits::keeps_limits),
    case("halves", "a request that is too large for the server is sent in parts", limits::halves),
    case("retries", "each passing failure of a server is tried again", answers::retries),
    case("retry-after", "a server that asks for a pause gets it", answers::obeys_retry_after),
    case("storm", "a server that refuses for a while has everything afterwards", storms::passes),
    with(
        &["influxdb-1", "influxdb-telegraf"],
        case(
            "own-limits",
            "what a server itself finds too large or too much is stored",
            limits_of_servers::are_kept,
        ),
    ),
    case("wrong-token", "what a person can mend is waited for, loudly", answers::waits_for_a_person),
    also(
        "elasticsearch-8",
        case(
            "real-token",
            "a server's own refusal of a key ends when its file is mended",
            keys::are_read_again,
        ),
    ),
    case("reset-request", "a request that was reset is sent again", breaks::reset_request),
    case("reset-answer", "what may be stored already is not stored twice", breaks::reset_answer),
    case("truncated", "the same where the answer is cut off", breaks::truncated),
    case("scrambled", "the same where the answer makes no sense", breaks::scrambled),
    case("garbage", "an answer that is not HTTP is a failed try", breaks::garbage),
    case("half-closed", "a connection that closes half is a failed try", breaks::half_closed),
    case("silence", "a server that never answers is not waited for", breaks::silence),
    case("slow-loris", "the same where it answers byte by byte", breaks::slow_loris),
    case("away", "a server that is away at the start is waited for", outages::away),
    case("restart", "a server that is killed and comes back has everything", outages::restart),
    case("spool-outage", "what waits on disk is delivered by the next agent", spools::outage),
    case("spool-kills", "agents that are killed lose nothing and store nothing twice", spools::kills),
    root("kills-live", "agents that are killed while flows move bill each byte once", live::kills),
    root(
        "lost-coalesce",
        "what a full queue that coalesces loses is counted to the byte",
        live::loses_coalesced,
    ),
    root("lost-drop-newest", "the same where it drops", live::loses_newest),
    with(
        &["influxdb-2"],
        root("disk-full", "what a full disk has no room for is counted to the byte", disks::is_full),
    ),
    with(
        &["influxdb-2", "elasticsearch"],
        root("troubles-spool", "with a spool no trouble of a server costs anything", troubles::spool),
    ),
    with(
        &["influxdb-2"],
        root("troubles-coalesce", "without one, what each costs is counted to the byte", troubles::coalesce),
    ),
    with(&[], root("troubles-drop-newest", "the same where the queue drops", troubles::drop_newest)),
    case(
        "gives-up-loudly",
        "what the server refuses for ever is counted and named",
        refusals::gives_up_loudly,
    ),
    case("counts", "what cannot be delivered before the end is counted to the byte", refusals::counts),
    case("no-such-name", "a name that nobody knows is told, and what is lost by it", refusals::no_such_name),
    case("tls", "the right certificate is taken", secure::takes_the_right),
    case("wrong-certificates", "no other is, and the log says why", secure::refuses_wrong_ones),
];
