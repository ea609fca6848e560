//! What is so on this machine, as plain values: everything that a verdict rests on.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// Everything that is known before anything is judged.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// `uname -m`.
    pub machine: String,
    /// Types of the kernel image.
    pub btf_vmlinux: Presence,
    /// Types of the module `nf_conntrack`.
    pub btf_module: Presence,
    /// Whether conntrack entries can be read by these types; else what is missing.
    pub layout: Possibility,
    /// What the kernel keeps even root from doing.
    pub lockdown: Lockdown,
    /// `net.core.bpf_jit_enable`: typed hooks (fentry) need the compiler. `None` when it cannot be read.
    pub jit: Option<bool>,
    /// `kernel.ftrace_enabled`: hooks at the entry of a function need it. `None` when the kernel has no switch.
    pub ftrace: Option<bool>,
    /// Whether this process is root, with or without all that root may.
    pub is_root: bool,
    /// Capabilities of which the agent makes use and that this process lacks, as `CAP_…`.
    pub missing_capabilities: Vec<&'static str>,
    /// Where conntrack is.
    pub conntrack: ConntrackState,
    /// The functions that the agent hooks, as this kernel has them.
    pub functions: Vec<FunctionFact>,
    /// Whether kernel programs work here.
    pub tracing: TracingSupport,
    /// Whether conntrack answers by netlink; else what it said.
    pub netlink: Possibility,
    /// What new network namespaces start with.
    pub new_namespaces: NewNamespaces,
    /// Every network namespace that can be reached.
    pub namespaces: Vec<NamespaceFact>,
    /// Kernel programs that outlive their agent, or would.
    pub pinned: Vec<PinnedFact>,
}

impl Facts {
    /// Whether conntrack is not in the kernel: what depends on it cannot be told until it is.
    #[must_use]
    pub const fn lacks_conntrack(&self) -> bool {
        self.conntrack.is_absent()
    }

    /// Whether this process may not change the network, which asking conntrack or nftables takes.
    #[must_use]
    pub fn lacks_net_admin(&self) -> bool {
        self.missing_capabilities.contains(&"CAP_NET_ADMIN")
    }
}

/// Whether something is possible here. In JSON an object: `{"possible":true}`, or `{"possible":false,"reason":"…"}`,
/// or, where it was not found out, `{"possible":null,"reason":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Possibility {
    /// It is.
    Yes,
    /// It is not; says why.
    No(String),
    /// It was not tried; says why.
    Untried(String),
}

impl Serialize for Possibility {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (possible, reason) = match self {
            Self::Yes => (Some(true), None),
            Self::No(why) => (Some(false), Some(why)),
            Self::Untried(why) => (None, Some(why)),
        };
        let mut fields = serializer.serialize_struct("Possibility", 1 + usize::from(reason.is_some()))?;
        fields.serialize_field("possible", &possible)?;
        if let Some(reason) = reason {
            fields.serialize_field("reason", reason)?;
        }
        fields.end()
    }
}

/// Kernel programs with a name in the bpf file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PinnedFact {
    /// The state directory of their agent, if they tell it.
    pub state_dir: Option<String>,
    /// Whether an agent uses them now.
    pub in_use: bool,
}

/// Whether something is there and makes sense.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// There and readable.
    Present,
    /// Not there.
    Absent,
    /// There, but not readable; says why.
    Broken(String),
}

/// The kernel's lockdown mode.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/security.h#L88>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lockdown {
    /// Nothing is locked.
    None,
    /// Root cannot change the kernel; reading is allowed.
    Integrity,
    /// Root cannot read the kernel's memory either: no tracing programs.
    Confidentiality,
    /// The kernel does not say: it has no lockdown, or securityfs is not mounted.
    Unknown,
}

/// Where conntrack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConntrackState {
    /// Part of the kernel image.
    BuiltIn,
    /// A loaded module.
    Loaded,
    /// A module that is there and not loaded.
    Loadable,
    /// Neither in the kernel nor among its modules.
    Missing,
    /// The symbol table cannot be read.
    Unknown,
}

impl ConntrackState {
    /// Whether it is not in the kernel, for now or for good.
    #[must_use]
    pub const fn is_absent(self) -> bool {
        matches!(self, Self::Loadable | Self::Missing)
    }
}

/// A function that the agent hooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionFact {
    /// Its name in the kernel's source.
    pub name: &'static str,
    /// Whether the kernel has it under that name.
    pub present: bool,
    /// Parts and clones of it that the compiler made.
    pub variants: Vec<String>,
}

/// Whether kernel programs work here, as trying it showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TracingSupport {
    /// They do; these hooks would be used.
    Works(HookPlan),
    /// The kernel or its policy refuses them; says what it said.
    NotPermitted(String),
    /// They are allowed, and still do not work; says why.
    Failed(String),
    /// It was not tried; says why.
    Untried(String),
}

/// The hooks that the agent would use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookPlan {
    /// `fentry` or `kprobe`.
    pub kind: &'static str,
    /// Functions that are hooked for each packet.
    pub packet: Vec<String>,
    /// Functions that are hooked for the life of flows.
    pub life: Vec<String>,
    /// What is not used, and why.
    pub passed_over: Vec<String>,
    /// Why it could not be tried whether packets of the agent's own are each seen exactly once; `None` when they were.
    pub unproven: Option<String>,
}

/// What new network namespaces start with: the parameters of the module; `None` where there is none to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NewNamespaces {
    /// Whether flows are counted.
    pub acct: Option<bool>,
    /// Whether the start of a flow is kept.
    pub timestamp: Option<bool>,
}

/// One network namespace. Values are `None` where the kernel has no such sysctl there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamespaceFact {
    /// Its number.
    pub inode: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What to put before a command to run it inside; empty in the caller's own namespace, `None` when no way is
    /// known.
    pub enter: Option<String>,
    /// Why it could not be looked at.
    pub error: Option<String>,
    /// `nf_conntrack_acct`.
    pub acct: Option<bool>,
    /// `nf_conntrack_timestamp`.
    pub timestamp: Option<bool>,
    /// `nf_conntrack_max`: entries at most.
    pub max: Option<u64>,
    /// `nf_conntrack_count`: entries now.
    pub count: Option<u64>,
    /// Whether anything makes it track connections.
    pub tracking: Tracking,
    /// Its flowtables; `None` when they could not be listed.
    pub flowtables: Option<Vec<Flowtable>>,
    /// Why they could not be.
    pub unlisted: Option<Unlisted>,
}

/// Why the rules of a namespace could not be listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// There is no program `nft`.
    NoNft,
    /// It failed; its words.
    Refused(String),
}

/// Whether a namespace tracks connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tracking {
    /// It has entries, or rules that need conntrack.
    Active,
    /// Nothing there asks for it.
    Idle,
    /// It has no entries now, and its rules could not be listed.
    Unknown,
}

/// A flowtable: packets of its flows bypass the firewall, and conntrack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flowtable {
    /// Address family of its table: `ip`, `ip6` or `inet`.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Whether its packets are counted for their conntrack entries.
    pub counter: bool,
}

impl NamespaceFact {
    /// Its name, else its number, as a person would say it.
    #[must_use]
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("net:[{}]", self.inode))
    }
}
