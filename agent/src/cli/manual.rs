//! What stands behind the options in `--help` and in the manual page, from the same lists.

use std::fmt::Write;

/// Exit codes, and when they come.
const EXIT_CODES: [(&str, &str); 5] = [
    ("0", "done, stopped by a signal in good order, or the reader of the output has gone"),
    ("1", "it could not start, or could not go on, or did not finish its shutdown in time"),
    ("2", "the command line is wrong"),
    ("3", "`check`: it works, with the limits that the warnings tell; `check --live`: something is missing"),
    ("129, 130, 143", "a second SIGHUP, SIGINT or SIGTERM ended it at once"),
];

/// Variables, and what they are for.
const ENVIRONMENT: [(&str, &str); 5] = [
    (
        "CONNTALLY_KEY, CONNTALLY_TABLE__KEY",
        "A key of the configuration, as in CONNTALLY_SOURCE__HOOK=kprobe. Flags win over the environment, the \
         environment over the file.",
    ),
    ("XDG_CONFIG_HOME, HOME", "Where the user's configuration is looked for; see FILES."),
    (
        "CREDENTIALS_DIRECTORY",
        "The directory that systemd makes of LoadCredential=NAME; the configuration may name a file of secrets in it \
         as $CREDENTIALS_DIRECTORY/NAME.",
    ),
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        "By these systemd is told when the agent is ready (Type=notify) and that it goes on (WatchdogSec=).",
    ),
    ("NO_COLOR", "If it is set, log lines on a terminal have no colors."),
];

/// Files, and what is in them.
const FILES: [(&str, &str); 4] = [
    (
        "./conntally.toml, $XDG_CONFIG_HOME/conntally/conntally.toml, /etc/conntally/conntally.toml",
        "The configuration: the first of these that is there, or the FILE of --config. None is needed. `conntally \
         config default` prints every option with its explanation, `conntally config schema` the same for editors.",
    ),
    (
        "/run/conntally",
        "Old values of what agents change on the machine, and how each agent that runs is doing (run_dir).",
    ),
    ("STATE_DIR", "Flows and records that the next agent goes on with (state_dir, --state-dir)."),
    ("/sys/fs/bpf/conntally", "Kernel programs that outlive an agent with a state directory."),
];

/// Command lines, and what they do.
const EXAMPLES: [(&str, &str); 3] = [
    ("conntally", "show live flows on the terminal"),
    ("conntally run --output json | jq .", "the same as JSON lines"),
    ("conntally check", "what is missing on this machine, and how to mend it"),
];

/// A section of the manual page: its heading, and pairs of a term and its explanation.
type Section = (&'static str, &'static [(&'static str, &'static str)]);

const SECTIONS: [Section; 4] =
    [("EXIT STATUS", &EXIT_CODES), ("ENVIRONMENT", &ENVIRONMENT), ("FILES", &FILES), ("EXAMPLES", &EXAMPLES)];

/// What `--help` ends with.
pub(super) fn help() -> String {
    let mut text = "Exit codes:\n".to_owned();
    for (code, when) in EXIT_CODES {
        // A long one has a line of its own.
        let head = if code.len() < 5 { format!("  {code:<5}") } else { format!("  {code}\n       ") };
        text.push_str(&format!("{head}{when}\n"));
    }
    text.push_str(
        "\n\
Configuration:
  The first of ./conntally.toml, $XDG_CONFIG_HOME/conntally/conntally.toml and
  /etc/conntally/conntally.toml is read, or FILE; none is needed. Each key can be set in the
  environment (CONNTALLY_SOURCE__HOOK=kprobe); flags win over the environment, it over the file.
  `conntally config default` prints every option with its explanation, `config schema` the same
  for editors. As a service of systemd it tells when it is ready (Type=notify, WatchdogSec=), and
  files of secrets may be named as $CREDENTIALS_DIRECTORY/NAME (LoadCredential=NAME).

Examples:",
    );
    for (line, what) in EXAMPLES {
        text.push_str(&format!("\n  {line:<42}{what}"));
    }
    text
}

/// The sections of the manual page that are not about commands and options, as roff.
pub(super) fn sections() -> String {
    let mut roff = String::new();
    for (heading, paragraphs) in SECTIONS {
        // Writing to a string cannot fail.
        let _ = writeln!(roff, ".SH \"{heading}\"");
        for (term, text) in paragraphs {
            let _ = writeln!(roff, ".TP\n{}\n{}", bold(term), plain(text));
        }
    }
    roff
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escaped(text))
}

/// A line of text that no character at its beginning makes a request.
fn plain(text: &str) -> String {
    format!("\\&{}", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('`', "\\(ga")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_has_a_line_for_each_exit_code() {
        let help = help();
        assert!(help.starts_with("Exit codes:\n  0    done, stopped"), "{help}");
        assert!(help.contains("\n  129, 130, 143\n       a second SIGHUP"), "{help}");
        assert!(help.contains("\n\nConfiguration:\n  The first of"), "{help}");
        assert!(help.ends_with("what is missing on this machine, and how to mend it"), "{help}");
    }

    #[test]
    fn every_paragraph_of_the_manual_has_its_tag() {
        let roff = sections();
        for heading in ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"] {
            assert!(roff.contains(&format!(".SH \"{heading}\"\n.TP\n\\fB")), "{roff}");
        }
        assert_eq!(roff.matches(".TP\n").count(), SECTIONS.iter().map(|(_, all)| all.len()).sum::<usize>());
        assert!(roff.contains(".TP\n\\fB3\\fR\n\\&\\(gacheck\\(ga: it works"), "{roff}");
        let requests = [".SH", ".TP"];
        for line in roff.lines().filter(|line| line.starts_with(['.', '\''])) {
            assert!(requests.iter().any(|request| line.starts_with(request)), "{line}");
        }
    }
}
