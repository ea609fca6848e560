//! Which kernel functions are hooked, by which programs, and how that is told to a person.

use serde::{Deserialize, Serialize};

use super::loader::Position;

/// How a program is attached to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// A typed trampoline (fentry, fexit): needs BTF of the function.
    Fentry,
    /// A breakpoint or ftrace probe by symbol name: works everywhere, costs more per call.
    Kprobe,
}

impl HookKind {
    /// The name in logs and configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        }
    }
}

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookPreference {
    /// fentry where the kernel offers it, else kprobes.
    #[default]
    Auto,
    /// Only fentry.
    Fentry,
    /// Only kprobes.
    Kprobe,
}

impl HookPreference {
    /// Whether hooks of this kind will do.
    pub(super) fn allows(self, kind: HookKind) -> bool {
        match self {
            Self::Auto => true,
            Self::Fentry => kind == HookKind::Fentry,
            Self::Kprobe => kind == HookKind::Kprobe,
        }
    }
}

/// By which way updates of living flows come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Updates {
    /// With the packet that makes a flow due; a sweep follows up on flows that went quiet.
    #[default]
    Packet,
    /// By sweeps alone: no packet is hooked.
    Sweep,
}

/// What a hook is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// The entry is destroyed.
    Destroy,
    /// Someone deletes the entry: tells why it ends.
    Delete,
    /// A flow is inserted through netlink.
    Insert,
    /// A flow is confirmed by its first packet.
    Confirm,
    /// A packet is accounted.
    AcctAdd,
    /// A packet is accounted, on kernels where that function swallowed the other.
    RefreshAcct,
}

impl Role {
    /// Attached always, ends first: a slot must never be given before it can be freed.
    pub(super) const LIFE: [Self; 4] = [Self::Destroy, Self::Delete, Self::Insert, Self::Confirm];

    /// All of them.
    pub(super) const ALL: [Self; 6] =
        [Self::Destroy, Self::Delete, Self::Insert, Self::Confirm, Self::AcctAdd, Self::RefreshAcct];

    /// The kernel functions that can play it, the best first.
    ///
    /// Where the compiler split `nf_ct_delete` (5.10), the kernel's own callers skip its head and call the part.
    pub(super) const fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Destroy => &["nf_ct_destroy", "destroy_conntrack"],
            Self::Delete => &["nf_ct_delete.part.0", "nf_ct_delete"],
            Self::Insert => &["nf_conntrack_hash_check_insert"],
            Self::Confirm => &["__nf_conntrack_confirm"],
            Self::AcctAdd => &["nf_ct_acct_add"],
            Self::RefreshAcct => &["__nf_ct_refresh_acct"],
        }
    }

    /// What a person is told that is hooked.
    pub(super) fn name(self) -> String {
        self.functions().join(" or ")
    }

    /// Whether accounting is impossible without it.
    pub(super) const fn is_required(self) -> bool {
        matches!(self, Self::Destroy | Self::Confirm)
    }

    /// Name of the typed program.
    pub(super) const fn typed_program(self) -> &'static str {
        match self {
            Self::Destroy => "destroy",
            Self::Delete => "delete",
            Self::Insert => "insert",
            Self::Confirm => "confirm",
            Self::AcctAdd => "acct_add",
            Self::RefreshAcct => "refresh_acct",
        }
    }

    /// Name of the kprobe program.
    pub(super) const fn kprobe_program(self) -> &'static str {
        match self {
            Self::Destroy => "destroy_kprobe",
            Self::Delete => "delete_kprobe",
            Self::Insert => "insert_kprobe",
            Self::Confirm => "confirm_kprobe",
            Self::AcctAdd => "acct_add_kprobe",
            Self::RefreshAcct => "refresh_acct_kprobe",
        }
    }

    /// Name of its program of that kind.
    pub(super) const fn program(self, kind: HookKind) -> &'static str {
        match kind {
            HookKind::Fentry => self.typed_program(),
            HookKind::Kprobe => self.kprobe_program(),
        }
    }

    /// Where the typed program sits.
    pub(super) const fn position(self) -> Position {
        match self {
            Self::Insert | Self::Confirm => Position::Exit,
            Self::Destroy | Self::Delete | Self::AcctAdd | Self::RefreshAcct => Position::Entry,
        }
    }
}

/// Which hooks are in place and why: for the start-up log, `check` and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookReport {
    /// How the programs are attached.
    pub kind: HookKind,
    /// Functions that are hooked for the life of flows.
    pub life: Vec<String>,
    /// Functions that are hooked for each packet.
    pub packet: Vec<String>,
    /// By which way updates come.
    pub updates: Updates,
    /// What was not used, and why.
    pub passed_over: Vec<String>,
    /// Whether packets of the agent's own proved that each is seen exactly once; if not, why that could not be
    /// tried.
    pub proven: Result<(), String>,
}

impl HookReport {
    /// What updates come by: functions joined by `+`, or `sweep`, or `none`.
    #[must_use]
    pub fn packet_way(&self) -> String {
        match (self.packet.is_empty(), self.updates) {
            (false, _) => self.packet.join("+"),
            (true, Updates::Sweep) => "sweep".to_owned(),
            (true, Updates::Packet) => "none".to_owned(),
        }
    }
}

impl std::fmt::Display for HookReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, way, life) = (self.kind.name(), self.packet_way(), self.life.join("+"));
        if self.packet.is_empty() {
            write!(f, "{kind} on {life} per flow, {way} for updates")
        } else {
            write!(f, "{kind} on {way} per packet, {life} per flow")
        }
    }
}
