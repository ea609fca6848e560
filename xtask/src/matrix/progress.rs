//! Which combinations are done, so that a run that was broken off goes on where it was.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{plan::Piece, report::CaseResult};

/// Results of earlier runs of the same programs, in a file.
pub(crate) struct Progress {
    file: PathBuf,
    kept: Kept,
}

#[derive(Default, Deserialize, Serialize)]
struct Kept {
    /// What the results are results of.
    programs: String,
    /// By the name of the piece.
    done: BTreeMap<String, CaseResult>,
}

impl Progress {
    /// What is done with these programs. A file of other programs' results is begun anew.
    pub(crate) fn open(file: PathBuf, programs: &[PathBuf]) -> Result<Self> {
        let programs = fingerprint(programs)?;
        let kept = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        let kept = kept.filter(|kept| kept.programs == programs);
        Ok(Self { file, kept: kept.unwrap_or(Kept { programs, done: BTreeMap::new() }) })
    }

    /// The piece's result, if all of it was exact before.
    pub(crate) fn done(&self, piece: &Piece) -> Option<CaseResult> {
        self.kept.done.get(&name(piece)).cloned()
    }

    /// Keeps a result. One with a failure is not done.
    pub(crate) fn keep(&mut self, piece: &Piece, result: &CaseResult) -> Result<()> {
        if result.tally().failed > 0 {
            return Ok(());
        }
        self.kept.done.insert(name(piece), result.clone());
        let new = self.file.with_extension("new");
        fs::write(&new, serde_json::to_vec(&self.kept)?)
            .and_then(|()| fs::rename(&new, &self.file))
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}

fn name(piece: &Piece) -> String {
    let amounts = if piece.full { " full" } else { "" };
    format!("{}{amounts} {}", piece.case.folder(), piece.scenarios.join(","))
}

fn fingerprint(programs: &[PathBuf]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for program in programs {
        hasher.write(&read(program)?);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn read(program: &Path) -> Result<Vec<u8>> {
    fs::read(program).with_context(|| format!("cannot read {}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{
        plan::{Updates, all},
        report::ScenarioResult,
    };

    fn piece() -> Piece {
        all(&["6.12".parse().unwrap()], &[Updates::Packet], &[], false).remove(0)
    }

    fn result(verdict: &str) -> CaseResult {
        let mut result = CaseResult::new(&piece().case);
        let line = format!(r#"{{"scenario":"tcp","verdict":"{verdict}"}}"#);
        result.scenarios.extend(ScenarioResult::parse(&line));
        result
    }

    fn open(folder: &Path, program: &str) -> Progress {
        fs::write(folder.join("program"), program).unwrap();
        Progress::open(folder.join("state.json"), &[folder.join("program")]).unwrap()
    }

    #[test]
    fn an_exact_piece_is_not_run_again_by_the_same_programs() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), "a").keep(&piece(), &result("exact")).unwrap();
        assert_eq!(open(folder.path(), "a").done(&piece()).unwrap().tally().passed, 1);
        assert!(open(folder.path(), "b").done(&piece()).is_none());
    }

    #[test]
    fn a_failed_piece_is_run_again() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), "a").keep(&piece(), &result("failed")).unwrap();
        assert!(open(folder.path(), "a").done(&piece()).is_none());
    }
}
