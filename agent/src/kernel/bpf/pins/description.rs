//! What is said of pinned programs, in maps of their own: which they are, and what of their counters was told.

use std::path::Path;

use anyhow::{Context, ensure};
use aya::maps::{Map, MapData};
use aya_obj::{
    EbpfSectionKind,
    generated::{BPF_F_MMAPABLE, bpf_map_type::BPF_MAP_TYPE_ARRAY},
    maps::{LegacyMap, PinningType, bpf_map_def},
};
use conntally_common::{EVENT_LAYOUT, LOSS_REASONS};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;
use zerocopy::IntoBytes;

use super::{PinDirectory, directory};
use crate::{
    kernel::bpf::{
        hooks::{HookKind, HookPreference, Role, Updates},
        loader::{self, Constants, object_digest},
        programs::KernelSideOptions,
        shared::Shared,
    },
    model::Sum,
};

/// Bytes of the description at most.
const BYTES: usize = 16 << 10;

/// What is said of it: which layout the events have, which whoever cannot read the rest has to know; the text's length;
/// the text.
type Text = [u8; BYTES];

/// A note of [`Told`]: its number, which is 0 while it is written; then, in this order, losses by reason, lost ends
/// (flows, packets, bytes), skipped ends, skipped notes of deletions and beginnings.
type Note = [u64; 1 + COUNTS];
const COUNTS: usize = LOSS_REASONS + 5;

/// There are two notes, of which the one with the higher number holds: whoever dies while he writes leaves the other.
const NOTES: usize = 2;

/// Which programs they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Description {
    /// Digest of the object.
    pub(in super::super) object: String,
    /// Digest of what was fixed when they were loaded, and of what decides which are attached.
    pub(in super::super) constants: String,
    /// Binary logarithm of the number of buckets in the slot table.
    pub(in super::super) bucket_bits: u32,
    /// Which load of the module they are attached to.
    pub(in super::super) module: Option<u64>,
    /// How.
    pub(in super::super) hooks: HookKind,
    /// Which programs, to which functions.
    pub(in super::super) attached: Vec<(Role, String)>,
    /// What was not used, and why.
    pub(in super::super) passed_over: Vec<String>,
    /// Why they could not be proven, if so.
    pub(in super::super) unproven: Option<String>,
    /// Jiffies per second.
    pub(in super::super) ticks_per_second: u32,
    /// When the programs were attached, `CLOCK_BOOTTIME` nanoseconds.
    pub(in super::super) attached_boot_ns: u64,
    /// How often the kernel had skipped programs that are replaced by now: ends, and notes.
    pub(in super::super) skipped: Option<[u64; 2]>,
    /// The state directory to which they belong.
    pub(in super::super) state_dir: String,
    /// The agent that uses them, or used them last.
    pub(in super::super) process: u32,
}

impl Description {
    /// Reads that of a directory; `None` when it has none.
    ///
    /// # Errors
    /// When it cannot be read or is that of an agent which wrote others.
    pub(in super::super) fn read(directory: &PinDirectory) -> anyhow::Result<Option<Self>> {
        Self::read_at(directory.path())
    }

    pub(in super::super) fn read_at(directory: &Path) -> anyhow::Result<Option<Self>> {
        text_at(directory)?.map(|text| decode(&text)).transpose()
    }

    /// Whether this agent can read events of the programs of a directory, whoever wrote the description.
    pub(in super::super) fn has_same_events(directory: &Path) -> bool {
        let text = text_at(directory).ok().flatten();
        text.is_some_and(|text| text.starts_with(&EVENT_LAYOUT.to_le_bytes()))
    }

    /// Pins it, in place of an earlier one.
    ///
    /// # Errors
    /// When that is not possible.
    pub(in super::super) fn write(&self, directory: &PinDirectory) -> anyhow::Result<()> {
        let text = encode(self)?;
        let path = directory::description(directory.path());
        let pinned = if path.exists() { open(&path)? } else { make("description", BYTES)? };
        if !path.exists() {
            let new = loader::descriptor(&pinned).context("no descriptor")?;
            // Empty for a moment, which is as good as none.
            loader::pin(new, &path).context("the description cannot be pinned")?;
        }
        loader::set_whole(&pinned, &text).context("the description cannot be written")
    }

    /// Why programs that are wanted now are not these; `None` when they are.
    pub(in super::super) fn difference(
        &self,
        wanted: &Constants,
        hook: HookPreference,
        digest: &str,
        module: Option<u64>,
    ) -> Option<&'static str> {
        // A table that is a little larger than need be does as well: the number of namespaces changes its size.
        let fits = (wanted.bucket_bits..=wanted.bucket_bits.saturating_add(1)).contains(&self.bucket_bits);
        if self.object != object_digest() {
            Some("they are of another version")
        } else if self.constants != digest || !fits {
            Some("the configuration or the kernel's types are others")
        } else if !hook.allows(self.hooks) {
            Some("other hooks are configured")
        } else if self.module != module {
            Some("nf_conntrack was loaded anew")
        } else {
            None
        }
    }
}

/// The digest of what programs depend on. The number of slots is told apart.
pub(in super::super) fn constants_digest(constants: &Constants, options: &KernelSideOptions) -> String {
    let sizes = [constants.rings.updates, constants.rings.ends, constants.rings.ends_overflow];
    let fixed = [constants.head_bytes, constants.tail_offset];
    let choices = [options.updates == Updates::Sweep, options.wanted.update].map(u32::from);
    let numbers = sizes.into_iter().chain(fixed).chain(choices).flat_map(u32::to_le_bytes);
    let bytes: Vec<u8> = constants.layout.as_bytes().iter().copied().chain(numbers).collect();
    format!("{:032x}", xxh3_128(&bytes))
}

/// What of the counters of pinned programs agents have told already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Told {
    /// By number of reason.
    pub(in super::super) losses: [u64; LOSS_REASONS],
    pub(in super::super) ends_lost: Sum,
    pub(in super::super) ends_skipped: u64,
    pub(in super::super) notes_skipped: u64,
}

impl Told {
    /// What was counted since then.
    pub(in super::super) fn since(&self, earlier: &Self) -> Self {
        let mut since = Self {
            losses: self.losses,
            ends_lost: self.ends_lost.beyond(earlier.ends_lost),
            ends_skipped: self.ends_skipped.saturating_sub(earlier.ends_skipped),
            notes_skipped: self.notes_skipped.saturating_sub(earlier.notes_skipped),
        };
        since.losses.iter_mut().zip(earlier.losses).for_each(|(now, then)| *now = now.saturating_sub(then));
        since
    }

    pub(in super::super) fn add(&mut self, other: &Self) {
        self.losses.iter_mut().zip(other.losses).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        self.ends_lost += other.ends_lost;
        self.ends_skipped = self.ends_skipped.saturating_add(other.ends_skipped);
        self.notes_skipped = self.notes_skipped.saturating_add(other.notes_skipped);
    }
}

/// Where it is noted.
pub(in super::super) struct Board(Shared<Note>);

impl Board {
    /// Opens that of a directory, or pins a new one.
    ///
    /// # Errors
    /// When that is not possible.
    pub(in super::super) fn open(directory: &PinDirectory) -> anyhow::Result<Self> {
        let path = directory::board(directory.path());
        if path.exists() {
            return Self::open_at(directory.path());
        }
        let map = make("told", NOTES * size_of::<Note>())?;
        loader::pin(loader::descriptor(&map).context("no descriptor")?, &path)?;
        Ok(Self(loader::shared(&map)?))
    }

    /// Opens one that is there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(in super::super) fn open_at(directory: &Path) -> anyhow::Result<Self> {
        let notes = loader::shared(&open(&directory::board(directory))?)?;
        ensure!(notes.len() == NOTES, "what was told is noted as another version does");
        Ok(Self(notes))
    }

    pub(in super::super) fn read(&self) -> Told {
        let [_, counts @ ..] = self.latest();
        let mut told = Told::default();
        let (losses, rest) = counts.split_at(LOSS_REASONS);
        told.losses.copy_from_slice(losses);
        if let [flows, packets, bytes, ends, notes] = *rest {
            told.ends_lost = Sum { flows, packets, bytes };
            (told.ends_skipped, told.notes_skipped) = (ends, notes);
        }
        told
    }

    pub(in super::super) fn note(&mut self, told: &Told) {
        let Told { losses, ends_lost: Sum { flows, packets, bytes }, ends_skipped, notes_skipped } = *told;
        let [number, ..] = self.latest();
        let all = [0].into_iter().chain(losses).chain([flows, packets, bytes, ends_skipped, notes_skipped]);
        let mut note = Note::default();
        note.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        let place = (number % NOTES as u64) as usize;
        self.0.set(place, note);
        note[0] = number + 1;
        self.0.set(place, note);
    }

    fn latest(&self) -> Note {
        let notes = (0..NOTES).filter_map(|place| self.0.get(place));
        notes.max_by_key(|[number, ..]| *number).unwrap_or_default()
    }
}

fn text_at(directory: &Path) -> anyhow::Result<Option<Text>> {
    let path = directory::description(directory);
    if !path.exists() {
        return Ok(None);
    }
    let shared = loader::shared(&open(&path)?).context("the description cannot be shared")?;
    shared.get(0).context("the description cannot be read").map(Some)
}

fn encode(description: &Description) -> anyhow::Result<Text> {
    let text = serde_json::to_vec(description)?;
    let front = [EVENT_LAYOUT, u32::try_from(text.len())?].map(u32::to_le_bytes).concat();
    let mut bytes = [0; BYTES];
    ensure!(front.len() + text.len() <= bytes.len(), "the description is too long");
    bytes.iter_mut().zip(front.into_iter().chain(text)).for_each(|(to, from)| *to = from);
    Ok(bytes)
}

fn decode(bytes: &Text) -> anyhow::Result<Description> {
    let (front, text) = bytes.split_at(8);
    let len = u32::from_le_bytes(front.split_at(4).1.try_into()?) as usize;
    let text = text.get(..len).context("the description has an impossible length")?;
    serde_json::from_slice(text).context("the description is of another version")
}

fn open(path: &Path) -> anyhow::Result<Map> {
    let failed = || format!("{} cannot be opened", path.display());
    let data = MapData::from_pin(path).with_context(failed)?;
    Map::from_map_data(data).with_context(failed)
}

/// Makes an array of one value of so many bytes.
fn make(name: &str, bytes: usize) -> anyhow::Result<Map> {
    let definition = bpf_map_def {
        map_type: BPF_MAP_TYPE_ARRAY as u32,
        key_size: 4,
        value_size: u32::try_from(bytes)?,
        max_entries: 1,
        map_flags: BPF_F_MMAPABLE,
        id: 0,
        pinning: PinningType::None,
    };
    let map = aya_obj::Map::Legacy(LegacyMap {
        def: definition,
        inner_def: None,
        section_index: 0,
        section_kind: EbpfSectionKind::Maps,
        symbol_index: None,
        data: Vec::new(),
    });
    Ok(Map::from_map_data(MapData::create(map, name, None)?)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use conntally_common::Layout;

    use super::*;
    use crate::kernel::bpf::{HookPreference, RingSizes, programs::Wanted};

    fn constants() -> Constants {
        Constants {
            layout: Layout::UNKNOWN,
            head_bytes: 200,
            tail_offset: 128,
            bucket_bits: 18,
            rings: RingSizes { updates: 1 << 16, ends: 1 << 17, ends_overflow: 77 },
            cpus: 6,
        }
    }

    fn options() -> KernelSideOptions {
        KernelSideOptions {
            hook: HookPreference::Auto,
            slots: 1,
            rings: constants().rings,
            rate_curve: Vec::new(),
            updates: Updates::Packet,
            wanted: Wanted::ALL,
            pins: None,
        }
    }

    fn description() -> Description {
        Description {
            object: object_digest().to_owned(),
            constants: constants_digest(&constants(), &options()),
            bucket_bits: 18,
            module: Some(7),
            hooks: HookKind::Kprobe,
            attached: vec![(Role::Destroy, "nf_ct_destroy".into())],
            passed_over: vec!["fentry: no".into()],
            unproven: None,
            ticks_per_second: 250,
            attached_boot_ns: 1,
            skipped: None,
            state_dir: "/var/lib/conntally".into(),
            process: 9,
        }
    }

    #[test]
    fn every_choice_and_every_constant_is_in_the_digest() {
        let digest = constants_digest(&constants(), &options());
        let others = [
            constants_digest(&Constants { head_bytes: 208, ..constants() }, &options()),
            constants_digest(&Constants { tail_offset: 120, ..constants() }, &options()),
            constants_digest(
                &Constants { layout: Layout { ext: 9, ..Layout::UNKNOWN }, ..constants() },
                &options(),
            ),
            constants_digest(&constants(), &KernelSideOptions { updates: Updates::Sweep, ..options() }),
            constants_digest(
                &constants(),
                &KernelSideOptions { wanted: Wanted { update: false, new: true }, ..options() },
            ),
        ];
        assert!(others.iter().all(|other| *other != digest));
        let told_anew = KernelSideOptions { wanted: Wanted { new: false, update: true }, ..options() };
        assert_eq!(
            constants_digest(&constants(), &told_anew),
            digest,
            "programs are told what they need not tell"
        );
        let other_hook = KernelSideOptions { hook: HookPreference::Kprobe, ..options() };
        assert_eq!(constants_digest(&constants(), &other_hook), digest, "which hooks they have is known");
    }

    #[test]
    fn only_the_same_programs_are_taken_over() {
        let digest = constants_digest(&constants(), &options());
        let differs = |found: &Description, wanted: &Constants, hook, digest: &str, module| {
            found.difference(wanted, hook, digest, module).is_some()
        };
        let (found, auto) = (description(), HookPreference::Auto);
        assert!(!differs(&found, &constants(), auto, &digest, Some(7)));
        assert!(!differs(&found, &constants(), HookPreference::Kprobe, &digest, Some(7)));
        assert!(differs(&found, &constants(), HookPreference::Fentry, &digest, Some(7)));
        assert!(!differs(&found, &Constants { bucket_bits: 17, ..constants() }, auto, &digest, Some(7)));
        assert!(differs(&found, &Constants { bucket_bits: 19, ..constants() }, auto, &digest, Some(7)));
        assert!(differs(&found, &constants(), auto, &digest, Some(8)));
        assert!(differs(&found, &constants(), auto, &digest, None));
        assert!(differs(&found, &constants(), auto, "", Some(7)));
        let newer = Description { object: "0".repeat(64), ..description() };
        assert!(differs(&newer, &constants(), auto, &digest, Some(7)));
    }

    /// A board whose memory another one can share.
    fn board(memory: &std::fs::File) -> Board {
        memory.set_len((NOTES * size_of::<Note>()) as u64).unwrap();
        Board(Shared::map(memory.as_fd(), NOTES).unwrap())
    }

    #[test]
    fn a_note_that_was_not_finished_leaves_the_one_before() {
        let memory = tempfile::tempfile().unwrap();
        assert_eq!(board(&memory).read(), Told::default());
        let told =
            |ends_skipped| Told { ends_skipped, losses: [ends_skipped; LOSS_REASONS], ..Told::default() };
        for number in 1..=5 {
            board(&memory).note(&told(number));
            assert_eq!(board(&memory).read(), told(number));
        }
        let mut torn = board(&memory);
        torn.0.set(1, [0; 1 + COUNTS]);
        assert_eq!(board(&memory).read(), told(5));
        torn.0.set(0, [0; 1 + COUNTS]);
        assert_eq!(board(&memory).read(), Told::default());
    }

    #[test]
    fn a_description_is_read_as_it_was_written() {
        assert_eq!(decode(&encode(&description()).unwrap()).unwrap(), description());
        let long = Description { passed_over: vec!["x".repeat(BYTES)], ..description() };
        assert!(encode(&long).is_err());
    }

    #[test]
    fn what_is_no_description_is_refused() {
        assert!(decode(&[0; BYTES]).is_err());
        assert!(decode(&[0xff; BYTES]).is_err());
    }
}
