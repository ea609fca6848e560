//! Takes over the programs that an earlier agent left in the kernel, and leaves them for a later one.

use std::io;

use anyhow::{Context, bail};

use super::{
    KernelSide, KernelSideOptions, StartError,
    announce::Announcer,
    attaching::Attached,
    hooks::HookKind,
    loader::{self, Constants, Link, LoadedObject, object_digest},
    pins::{Board, Description, PinDirectory, PinError, Place, constants_digest},
    replaced::{self, Remains},
};
use crate::kernel::{btf::Btf, module};

/// Where the programs outlive this process.
pub(super) struct Pinned {
    directory: PinDirectory,
    board: Board,
    /// Whether an earlier agent attached them.
    were_taken_over: bool,
    /// Whether something may be there of programs that these replace.
    may_have_retired: bool,
}

impl Pinned {
    /// Removes what replaced programs left.
    pub(super) fn forget_retired(&mut self) {
        if std::mem::take(&mut self.may_have_retired)
            && let Err(error) = self.directory.forget_retired()
        {
            tracing::error!("what was read of earlier programs will be read again: {error}");
        }
    }
}

impl KernelSide {
    /// Whether the programs are those of an earlier agent, which saw all that happened meanwhile.
    #[must_use]
    pub fn was_taken_over(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.were_taken_over)
    }

    /// Whether the programs outlive this process.
    #[must_use]
    pub const fn is_pinned(&self) -> bool {
        self.pinned.is_some()
    }

    /// Notes that everything counted so far was told, for a later agent.
    pub fn note_told(&mut self) {
        let told = self.counted_ever();
        if let Some(pinned) = &mut self.pinned {
            pinned.board.note(&told);
        }
    }

    /// Takes over the programs that are pinned, if they are those that are wanted; else removes them, keeps what they
    /// still had to say, and starts anew.
    pub(super) fn start_pinned(
        place: &Place,
        constants: &Constants,
        options: &KernelSideOptions,
        btf: &Btf,
    ) -> Result<Self, StartError> {
        let directory = match PinDirectory::make(place) {
            Ok(directory) => directory,
            Err(error) => {
                tell_unpinned(&error.into());
                return Self::start_anew(constants, options, btf);
            }
        };
        if replaced::are_outdated(&directory, place.fed_since_ns) {
            tracing::warn!(
                "the kernel programs that an earlier agent left are removed: what they tell has been told by another \
                 source since"
            );
            directory.clear().and_then(|_| directory.forget_retired()).map_err(StartError::of)?;
        }
        let found = match Self::take_over(&directory, place, constants, options) {
            Ok(found) => found,
            Err(reason) => {
                tracing::info!("the kernel programs that an earlier agent left are replaced: {reason:#}");
                replaced::retire(&directory);
                None
            }
        };
        if found.is_none() {
            replaced::detach(&directory).map_err(StartError::of)?;
        }
        let Remains { events, untold } = replaced::read(&directory);
        let mut side = match found {
            Some((mut side, board)) => {
                side.pinned =
                    Some(Pinned { directory, board, were_taken_over: true, may_have_retired: true });
                side
            }
            None => {
                // What cannot be told now waits for an agent that can attach its programs.
                let mut side = Self::start_anew(constants, options, btf)?;
                side.pin(directory, place, constants, options);
                side
            }
        };
        side.set_aside_first(events);
        side.untold = untold;
        Ok(side)
    }

    /// The programs that are pinned, and where is noted what of their counters was told; `None` when there are none.
    fn take_over(
        directory: &PinDirectory,
        place: &Place,
        constants: &Constants,
        options: &KernelSideOptions,
    ) -> anyhow::Result<Option<(Self, Board)>> {
        let Some(found) = Description::read(directory)? else { return Ok(None) };
        let digest = constants_digest(constants, options);
        if let Some(difference) = found.difference(constants, options.hook, &digest, module::incarnation()) {
            bail!(difference);
        }
        let constants = Constants { bucket_bits: found.bucket_bits, ..*constants };
        let object = LoadedObject::load_onto(&constants, &|map| directory.map(map))?;
        let mut side = Self::on(object, &constants, options)?;
        side.adopt(&found, directory)?;
        side.configure(0)?;
        Description { process: std::process::id(), state_dir: shown(place), ..found }.write(directory)?;
        let board = Board::open(directory)?;
        side.told = board.read();
        side.find_ended_before();
        Ok(Some((side, board)))
    }

    /// Takes the links, and what was found out when the programs were attached.
    fn adopt(&mut self, found: &Description, directory: &PinDirectory) -> anyhow::Result<()> {
        self.attached = found.open_links(directory)?;
        if found.hooks == HookKind::Kprobe {
            self.announcer = Some(Announcer::load(&self.object)?);
        }
        self.kind = found.hooks;
        self.ticks_per_second = found.ticks_per_second;
        self.attached_boot_ns = found.attached_boot_ns;
        self.passed_over.clone_from(&found.passed_over);
        self.proven = found.unproven.clone().map_or(Ok(()), Err);
        Ok(())
    }

    /// Has the programs outlive this process. Where that is not possible, they go with it.
    fn pin(
        &mut self,
        directory: PinDirectory,
        place: &Place,
        constants: &Constants,
        options: &KernelSideOptions,
    ) {
        let description = Description {
            object: object_digest().to_owned(),
            constants: constants_digest(constants, options),
            bucket_bits: constants.bucket_bits,
            module: module::incarnation(),
            hooks: self.kind,
            attached: self.attached.iter().map(|each| (each.role, each.function.clone())).collect(),
            passed_over: self.passed_over.clone(),
            unproven: self.proven.clone().err(),
            ticks_per_second: self.ticks_per_second,
            attached_boot_ns: self.attached_boot_ns,
            skipped: None,
            state_dir: shown(place),
            process: std::process::id(),
        };
        match self.pin_all(&directory, &description) {
            Ok(board) => {
                self.pinned =
                    Some(Pinned { directory, board, were_taken_over: false, may_have_retired: true });
            }
            Err(error) => {
                tell_unpinned(&error);
                if let Err(error) = directory.remove() {
                    tracing::error!("what was pinned already stays: {error}; `conntally detach` removes it");
                }
            }
        }
    }

    fn pin_all(&self, directory: &PinDirectory, description: &Description) -> anyhow::Result<Board> {
        for Attached { role, link, .. } in &self.attached {
            let program = role.program(self.kind);
            link.pin(&directory.link(program)).with_context(|| format!("program {program}"))?;
        }
        for (name, map) in self.object.maps.to_pin() {
            loader::pin(map, &directory.map(name)).with_context(|| format!("map {name}"))?;
        }
        let mut board = Board::open(directory)?;
        board.note(&self.told);
        description.write(directory)?;
        Ok(board)
    }

    /// Removes the pins, if there are any.
    pub(super) fn unpin(&mut self) {
        let Some(pinned) = self.pinned.take() else { return };
        if let Err(error) = pinned.directory.remove() {
            tracing::error!("kernel programs stay attached: {error}; `conntally detach` removes them");
        }
    }
}

impl Description {
    /// The programs of a directory, attached.
    pub(super) fn open_links(&self, directory: &PinDirectory) -> anyhow::Result<Vec<Attached>> {
        let attached = self.attached.iter().map(|(role, function)| {
            let program = role.program(self.hooks);
            let opened = Link::open(&directory.link(program));
            let (program, link) =
                opened.with_context(|| format!("the link of {program} cannot be opened"))?;
            Ok(Attached { role: *role, function: function.clone(), program, link })
        });
        attached.collect()
    }
}

fn shown(place: &Place) -> String {
    place.state_dir.to_string_lossy().into_owned()
}

/// Without pins, ends between two agents are not seen.
fn tell_unpinned(error: &anyhow::Error) {
    let is_old = error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::Unsupported)
    });
    let what =
        "the kernel programs end with this agent: flows that end before the next one runs will end as missed";
    if is_old || matches!(error.downcast_ref(), Some(PinError::NoFileSystem)) {
        tracing::warn!("{what} ({error:#})");
    } else {
        tracing::error!("{what} ({error:#})");
    }
}
