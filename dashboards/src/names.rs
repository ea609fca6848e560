//! Names that queries may have: those that the agent writes.

use conntally::sinks::elasticsearch::setup;
use conntally::sinks::influxdb::schema::{
    DELTAS, GAUGES, HOST, LOSS_FIELDS, REASON, SINK, STATUS_FIELDS, TAGS, WAITING_FIELDS,
};

/// A field of points of groups that may be summed.
pub(crate) fn delta(name: &'static str) -> &'static str {
    known(name, &DELTAS)
}

/// A field of points of groups that may not be summed over time.
pub(crate) fn gauge(name: &'static str) -> &'static str {
    known(name, &GAUGES)
}

/// A tag of points of groups.
pub(crate) fn tag(name: &'static str) -> &'static str {
    known(name, &TAGS)
}

/// A tag of points that tell of the accounting.
pub(crate) fn status_tag(name: &'static str) -> &'static str {
    known(name, &[HOST, REASON, SINK])
}

/// A field of points that tell how complete the accounting is.
pub(crate) fn status(name: &'static str) -> &'static str {
    known(name, &STATUS_FIELDS)
}

/// A field of points that tell what was lost for a reason.
pub(crate) fn loss(name: &'static str) -> &'static str {
    known(name, &LOSS_FIELDS)
}

/// A field of points that tell what waits for a sink.
pub(crate) fn waiting(name: &'static str) -> &'static str {
    known(name, &WAITING_FIELDS)
}

/// A field of documents.
pub(crate) fn document(name: &'static str) -> &'static str {
    let fields: Vec<_> = setup::fields().collect();
    known(name, &fields)
}

/// Boards are made and tested by developers, who have to see at once which name is gone.
fn known(name: &'static str, names: &[&str]) -> &'static str {
    assert!(names.contains(&name), "the agent writes no {name}, but {}", names.join(", "));
    name
}
