//! Finding the configuration file, reading it, and putting environment and flags over it.

use super::{Config, Document, Place, Problems, environment, validate};
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Name of the file in each directory that is searched.
pub const FILE_NAME: &str = "conntally.toml";

/// Larger than any configuration, smaller than what hurts.
const MAX_BYTES: u64 = 4 << 20;

/// A flag that stands for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The flag as it is typed, as in `--hook`.
    pub flag: &'static str,
    /// The key, as in `["source", "hook"]`.
    pub key: &'static [&'static str],
    /// Its value.
    pub value: String,
}

/// What to load.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The file to read; without it the usual places are searched.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags, which win.
    pub overrides: Vec<Override>,
    /// Whether what a service manager hands to its service alone may be missing.
    pub outside_service: bool,
}

/// A configuration and where it comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What was configured.
    pub config: Config,
    /// The file that was read; `None` when there is none.
    pub file: Option<PathBuf>,
    /// Variables with our prefix that name no key.
    pub unknown_variables: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// What was read is wrong.
    #[error(transparent)]
    Invalid(#[from] Problems),
}

/// Loads the configuration: defaults < file < environment < flags.
///
/// # Errors
/// When the file cannot be read, or with every problem of all layers.
pub fn load(request: &Request) -> Result<Loaded, LoadError> {
    let (file, mut document) = match read_first(request)? {
        Some((path, text)) => {
            let document = Document::parse(&text, &path)?;
            (Some(path), document)
        }
        None => (None, Document::default()),
    };
    // A name or value that is no UTF-8 is no key of ours.
    let variables = request
        .environment
        .iter()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned())));
    let unknown_variables = environment::apply(&mut document, variables, validate::is_top_level_key);
    for flag in &request.overrides {
        document.set(flag.key, Place::Flag(flag.flag), flag.value.clone());
    }
    let config = validate(&document)?;
    config.check_secrets(request.outside_service).into_result(())?;
    Ok(Loaded { config, file, unknown_variables })
}

fn read_first(request: &Request) -> Result<Option<(PathBuf, String)>, LoadError> {
    if let Some(path) = &request.file {
        let text = read(path).map_err(|cause| LoadError::Unreadable { path: path.clone(), cause })?;
        return Ok(Some((path.clone(), text)));
    }
    for path in candidates(&request.environment) {
        match read(&path) {
            Ok(text) => return Ok(Some((path, text))),
            Err(error) if is_absent(&error) => {}
            Err(cause) => return Err(LoadError::Unreadable { path, cause }),
        }
    }
    Ok(None)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The usual places, the first wins.
fn candidates(environment: &[(OsString, OsString)]) -> Vec<PathBuf> {
    let variable = |wanted: &str| {
        let found = environment.iter().find(|(name, value)| name == wanted && !value.is_empty());
        found.map(|(_, value)| PathBuf::from(value))
    };
    let home = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    let mut places = vec![PathBuf::from(FILE_NAME)];
    places.extend(home.map(|home| home.join("conntally").join(FILE_NAME)));
    places.push(Path::new("/etc/conntally").join(FILE_NAME));
    places
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than 4 MiB; is it the right file?"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8 text"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Hook, SourceKind};

    fn request(
        text: &str,
        environment: &[(&str, &str)],
        overrides: Vec<Override>,
    ) -> (tempfile::TempDir, Request) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        (dir, Request { file: Some(file), environment, overrides, outside_service: false })
    }

    fn hook_flag(value: &str) -> Override {
        Override { flag: "--hook", key: &["source", "hook"], value: value.into() }
    }

    #[test]
    fn flags_cover_the_environment_and_that_the_file() {
        let text = "[source]\nhook = \"kprobe\"\nkind = \"bpf\"\nmanage_sysctls = false\n";
        let variables = [("CONNTALLY_SOURCE__HOOK", "kprobe"), ("CONNTALLY_SOURCE__KIND", "netlink")];
        let (_dir, request) = request(text, &variables, vec![hook_flag("fentry")]);
        let config = load(&request).unwrap().config;
        assert_eq!(config.source.hook, Hook::Fentry);
        assert_eq!(config.source.kind, SourceKind::Netlink);
        assert!(!config.source.manage_sysctls);
    }

    #[test]
    fn problems_of_all_layers_are_reported_at_once_each_with_its_place() {
        let variables = [("CONNTALLY_SOURCE__KNID", "bpf"), ("CONNTALLY_FLOW__MAX_FLOWS", "many")];
        let (_dir, request) = request("[log]\nlevel = 3\n", &variables, vec![hook_flag("uprobe")]);
        let text = load(&request).unwrap_err().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[0]
                .ends_with("c.toml:2: log.level: must be one of error, warn, info, debug, trace, but is 3")
        );
        assert!(
            text.contains(
                "environment variable CONNTALLY_SOURCE__KNID: source.knid: unknown key; did you mean"
            )
        );
        assert!(
            text.contains("environment variable CONNTALLY_FLOW__MAX_FLOWS: flow.max_flows: must be a number")
        );
        assert!(text.contains(
            "flag --hook: source.hook: \"uprobe\" is not one of auto, fentry, kprobe; did you mean"
        ));
    }

    #[test]
    fn every_type_can_be_given_in_the_environment() {
        let variables = [
            ("CONNTALLY_RUN_DIR", "/tmp/run"),
            ("CONNTALLY_SHUTDOWN_TIMEOUT", "3s"),
            ("CONNTALLY_SOURCE__MANAGE_SYSCTLS", "false"),
            ("CONNTALLY_SOURCE__SLOTS", "2048"),
            ("CONNTALLY_SOURCE__RING_BYTES", "1MiB"),
            ("CONNTALLY_SOURCE__RATE_CURVE", "[{ age = \"0s\", every = \"1s\" }]"),
            ("CONNTALLY_PORT", "tcp://10.0.0.1:80"),
        ];
        let (_dir, request) = request("", &variables, Vec::new());
        let Loaded { config, unknown_variables, .. } = load(&request).unwrap();
        assert_eq!(config.run_dir, Path::new("/tmp/run"));
        assert_eq!(config.shutdown_timeout.as_secs(), 3);
        assert!(!config.source.manage_sysctls);
        assert_eq!(config.source.slots, crate::config::Slots::Count(2_048));
        assert_eq!(config.source.ring_bytes, 1 << 20);
        assert_eq!(config.source.rate_curve, [crate::config::RateStep::seconds(0, 1)]);
        assert_eq!(unknown_variables, ["CONNTALLY_PORT"]);
    }

    #[test]
    fn a_named_file_that_is_missing_is_an_error() {
        let request = Request { file: Some("/nonexistent/c.toml".into()), ..Request::default() };
        let text = load(&request).unwrap_err().to_string();
        assert!(
            text.starts_with("/nonexistent/c.toml: cannot read the configuration: No such file"),
            "{text}"
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, b"a = 1\nb = \"\xff\"\n").unwrap();
        let text = load(&Request { file: Some(file), ..Request::default() }).unwrap_err().to_string();
        assert!(text.ends_with("line 2 is not UTF-8 text"), "{text}");
    }

    #[test]
    fn the_usual_places_are_the_directory_the_users_and_the_machines() {
        let home = [("HOME".into(), "/home/a".into())];
        let places = candidates(&home);
        let expected =
            ["conntally.toml", "/home/a/.config/conntally/conntally.toml", "/etc/conntally/conntally.toml"];
        assert_eq!(places, expected.map(PathBuf::from));
        let xdg = [("HOME".into(), "/home/a".into()), ("XDG_CONFIG_HOME".into(), "/x".into())];
        assert_eq!(candidates(&xdg).get(1), Some(&PathBuf::from("/x/conntally/conntally.toml")));
    }
}
