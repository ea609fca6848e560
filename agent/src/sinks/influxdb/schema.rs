//! The names of all that points are made of: one list for the encoders, the boards and their tests.
//!
//! The encoders have them as pieces of lines; a test compares what they write with this list.

/// What the points of flows are of where the configuration says nothing else.
pub const MEASUREMENT: &str = "flows";

/// What the points are of that tell how complete the accounting is.
pub const STATUS: &str = "conntally_status";

/// What the points are of that tell what was lost, by reason.
pub const LOSS: &str = "conntally_loss";

/// What the points are of that tell what waits to be delivered, by sink.
pub const WAITING: &str = "conntally_waiting";

/// The tag that every point has.
pub const HOST: &str = "host";

/// The tag of [`LOSS`].
pub const REASON: &str = "reason";

/// The tag of [`WAITING`].
pub const SINK: &str = "sink";

/// The tags of points of groups, as they are grouped when nothing is said.
pub const TAGS: [&str; 5] = ["dst", HOST, "port", "proto", "src"];

/// Fields of points of groups that are what is new: they may be summed.
pub const DELTAS: [&str; 7] = [
    "destination_bytes",
    "destination_packets",
    "source_bytes",
    "source_packets",
    "flows_ended",
    "flows_started",
    "connection_time_ns",
];

/// Fields of points of groups that say how things stand at the interval's end: they may not be summed over time.
pub const GAUGES: [&str; 1] = ["open_flows"];

/// Fields of [`STATUS`]: all count from the agent's start on, but `live_flows`, which is a gauge, and `doubts`.
pub const STATUS_FIELDS: [&str; 17] = [
    "counted_bytes",
    "counted_flows",
    "counted_packets",
    "delivered_bytes",
    "delivered_flows",
    "delivered_packets",
    "doubts",
    "filtered_bytes",
    "filtered_flows",
    "filtered_packets",
    "live_flows",
    "lost_bytes",
    "lost_flows",
    "lost_packets",
    "not_yet_due_bytes",
    "not_yet_due_flows",
    "not_yet_due_packets",
];

/// Fields of [`LOSS`], from the agent's start on.
pub const LOSS_FIELDS: [&str; 4] = ["lost_bytes", "lost_flows", "lost_packets", "unknown"];

/// Fields of [`WAITING`]: all are gauges; an age in milliseconds, then what waits.
pub const WAITING_FIELDS: [&str; 5] =
    ["oldest_ms", "waiting_bytes", "waiting_flows", "waiting_packets", "waiting_records"];
