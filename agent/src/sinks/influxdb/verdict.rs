//! What an answer to a write means: pure decisions.

use std::collections::HashSet;

use serde_json::Value;

use super::super::http::Answer;
use crate::pipeline::{GivenUp, Outcome};

/// How the servers begin what they say of a line that they cannot read; the line follows, then `': ` and the reason.
const UNREADABLE: &str = "unable to parse '";

/// How they say that all else is stored.
const PARTIAL: &str = "partial write";

/// What is to be done after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This became of the lines.
    Known(Outcome),
    /// The server refuses some line, and does not say which in a way that is understood.
    Search {
        /// The server's words.
        reason: String,
    },
}

/// Decides what became of `lines`. `hide` takes secrets out of what the server says; `who` is what to check when it does
/// not know who wrote.
///
/// Version 2 drops a whole request for a line that it cannot read, version 1 stores the others and says `partial write`,
/// as both do where points do not fit the database: a field of another type, a time beyond the retention.
pub(super) fn verdict(
    answer: &Answer,
    lines: &[&[u8]],
    hide: impl Fn(&str) -> String,
    who: &'static str,
) -> Verdict {
    // What has stored lines has no more to say: success with words is from somebody else on the way, or a broken server.
    if answer.is_success() && answer.body.is_empty() {
        return Verdict::Known(Outcome::Delivered);
    }
    let told = told(answer);
    let reason = answer.said(&hide(&told));
    match answer.status {
        413 => Verdict::Known(Outcome::TooLarge { reason }),
        400 | 422 if told.contains(PARTIAL) => partial(&told, lines, reason),
        400 | 422 if told.contains(UNREADABLE) => whole(&told, lines, reason),
        status => Verdict::Known(Outcome::NotNow {
            reason: match if status == 401 { who } else { advice(status) } {
                "" => reason,
                advice => format!("{reason}; {advice}"),
            },
            retry_after: answer.retry_after(),
            // A proxy that lost sight of the server, or nonsense.
            in_doubt: matches!(status, 200..=299 | 502 | 504),
        }),
    }
}

/// What the server says, out of its JSON.
fn told(answer: &Answer) -> String {
    let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let message = json.as_ref().and_then(|json| json.get("message").or_else(|| json.get("error")));
    match message.and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => answer.text().into_owned(),
    }
}

/// What a person can do.
const fn advice(status: u16) -> &'static str {
    match status {
        200..=299 => "InfluxDB says nothing when lines are stored: does the url lead to it?",
        300..=399 => "the server is elsewhere: correct the url",
        400 => "does the url lead to InfluxDB, and to the version that is set?",
        403 => "the token or user must be allowed to write there",
        404 => "make the bucket or database, set create = true, or correct its name",
        429 | 503 => "the server is busy",
        _ => "",
    }
}

/// All is stored but some: those that are named, and as many others as were dropped. These can only be those that are
/// oldest: beyond the retention, or in a shard whose fields are of another type.
fn partial(told: &str, lines: &[&[u8]], reason: String) -> Verdict {
    let mut refused = named(told, lines);
    let dropped = dropped(told).unwrap_or_default();
    if refused.is_empty() && dropped == 0 {
        return Verdict::Search { reason };
    }
    let mut others: Vec<usize> = (0..lines.len()).filter(|at| !refused.contains(at)).collect();
    others.sort_by_key(|&at| lines.get(at).map(|line| stamp(line)));
    refused.extend(others.into_iter().take(dropped));
    Verdict::Known(outcome(Vec::new(), refused, &reason))
}

/// Nothing is stored: the lines that are not named are to be sent again.
fn whole(told: &str, lines: &[&[u8]], reason: String) -> Verdict {
    let refused = named(told, lines);
    if refused.is_empty() {
        return Verdict::Search { reason };
    }
    let again = (0..lines.len()).filter(|at| !refused.contains(at)).collect();
    Verdict::Known(outcome(again, refused, &reason))
}

fn outcome(again: Vec<usize>, mut refused: Vec<usize>, reason: &str) -> Outcome {
    refused.sort_unstable();
    let given_up = |position| GivenUp { position, reason: reason.to_owned() };
    let given_up = refused.into_iter().map(given_up).collect();
    Outcome::Partly { again, reason: reason.to_owned(), given_up, retry_after: None }
}

/// Positions of the lines that the server says it cannot read.
fn named(told: &str, lines: &[&[u8]]) -> Vec<usize> {
    let quoted = |rest: &str| rest.split_once("': ").map(|(line, _)| line.trim_end().to_owned());
    let refused: HashSet<String> = told.split(UNREADABLE).skip(1).filter_map(quoted).collect();
    let is_refused = |line: &[u8]| refused.contains(String::from_utf8_lossy(line).trim_end());
    lines.iter().enumerate().filter(|(_, line)| is_refused(line)).map(|(at, _)| at).collect()
}

/// How many points the server says it dropped.
fn dropped(told: &str) -> Option<usize> {
    let digits = told.rsplit_once("dropped=")?.1;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The timestamp of a line.
fn stamp(line: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(line);
    let last = text.trim_end().rsplit(' ').next();
    last.and_then(|stamp| stamp.parse().ok()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sinks::http::header::{HeaderMap, RETRY_AFTER};

    const LINES: [&[u8]; 4] = [b"m n=1i 40\n", b"m n=2i 10\n", b"m x 30\n", b"m n=4i 20\n"];

    fn decided(status: u16, body: &str) -> Verdict {
        let answer = Answer { status, body: body.as_bytes().to_vec(), ..Answer::default() };
        verdict(&answer, &LINES, |told| told.replace("hunter2", "***"), "check token_file")
    }

    fn partly(status: u16, body: &str) -> (Vec<usize>, Vec<usize>) {
        match decided(status, body) {
            Verdict::Known(Outcome::Partly { again, given_up, .. }) => {
                (again, given_up.into_iter().map(|gone| gone.position).collect())
            }
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn a_whole_request_that_was_dropped_for_a_line_goes_again_without_it() {
        let body = r#"{"code":"invalid","message":"unable to parse 'm x 30': missing fields"}"#;
        assert_eq!(partly(400, body), (vec![0, 1, 3], vec![2]));
        let two = "unable to parse 'm x 30': missing fields\\nunable to parse 'm n=4i 20': bad timestamp";
        assert_eq!(
            partly(400, &format!(r#"{{"code":"invalid","message":"{two}"}}"#)),
            (vec![0, 1], vec![2, 3])
        );
    }

    #[test]
    fn a_line_that_cannot_be_made_out_is_searched_for() {
        for body in [
            r#"{"code":"invalid","message":"unable to parse 'm x"}"#,
            r#"{"error":"unable to parse 'another line': missing fields"}"#,
            r#"{"error":"partly told: partial write: something dropped=0"}"#,
        ] {
            assert!(matches!(decided(400, body), Verdict::Search { .. }), "{body}");
        }
    }

    #[test]
    fn what_a_partial_write_stored_is_not_sent_again() {
        let conflict = r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict: input field \"n\" on measurement \"m\" is type float, already exists as type integer dropped=2"}"#;
        assert_eq!(partly(422, conflict), (vec![], vec![1, 3]), "the oldest");
        let old = r#"{"error":"partial write: points beyond retention policy dropped=1"}"#;
        assert_eq!(partly(400, old), (vec![], vec![1]));
        let line = r#"{"error":"partial write: unable to parse 'm x 30': missing fields dropped=0"}"#;
        assert_eq!(partly(400, line), (vec![], vec![2]));
        let both = r#"{"error":"partial write: unable to parse 'm x 30': missing fields dropped=1"}"#;
        assert_eq!(partly(400, both), (vec![], vec![1, 2]));
        let all = r#"{"error":"partial write: points beyond retention policy dropped=99"}"#;
        assert_eq!(partly(400, all), (vec![], vec![0, 1, 2, 3]));
    }

    #[test]
    fn what_a_person_can_mend_is_tried_again_and_said_how() {
        for (status, body, part) in [
            (401, r#"{"code":"unauthorized","message":"unauthorized access"}"#, "check token_file"),
            (401, r#"{"error":"unable to parse authentication credentials"}"#, "check token_file"),
            (
                403,
                r#"{"code":"forbidden","message":"insufficient permissions for write"}"#,
                "must be allowed",
            ),
            (404, r#"{"code":"not found","message":"bucket \"none\" not found"}"#, "create = true"),
            (400, "<html>The plain HTTP request was sent to HTTPS port</html>", "does the url lead"),
            (400, r#"{"code":"invalid","message":"invalid precision"}"#, "invalid precision"),
            (500, r#"{"code":"internal error","message":"cache-max-memory-size exceeded"}"#, "cache-max"),
            (302, "", "correct the url"),
            (503, "for hunter2", "for ***; the server is busy"),
        ] {
            match decided(status, body) {
                Verdict::Known(Outcome::NotNow { reason, in_doubt, .. }) => {
                    assert!(reason.contains(part) && !in_doubt, "{reason}");
                }
                other => panic!("{status} {body}: {other:?}"),
            }
        }
    }

    #[test]
    fn success_size_and_the_wish_to_be_left_alone_are_understood() {
        assert_eq!(decided(204, ""), Verdict::Known(Outcome::Delivered));
        assert!(matches!(decided(413, ""), Verdict::Known(Outcome::TooLarge { .. })));
        let headers = HeaderMap::from_iter([(RETRY_AFTER, "9".parse().unwrap())]);
        let answer = Answer { status: 429, headers, ..Answer::default() };
        let Verdict::Known(Outcome::NotNow { retry_after, .. }) = verdict(&answer, &LINES, str::to_owned, "")
        else {
            panic!("not tried again")
        };
        assert_eq!(retry_after, Some(Duration::from_secs(9)));
        for (status, body) in [(504, ""), (200, "<html>Log in to this network</html>")] {
            let verdict = decided(status, body);
            assert!(matches!(verdict, Verdict::Known(Outcome::NotNow { in_doubt: true, .. })), "{verdict:?}");
        }
    }
}
