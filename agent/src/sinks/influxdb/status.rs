//! How complete the accounting is, as lines.

use super::super::draft::Line;
use super::encode::{Series, ToLine};
use super::line::{Key, append};
use super::schema::{LOSS, STATUS, WAITING};
use crate::model::{Sum, Waiting};
use crate::pipeline::{Stated, Status, Whole};

/// What separates the fields of a figure, with their names.
type Keys = [&'static str; 3];

const COUNTED: Keys = [" counted_bytes=", ",counted_flows=", ",counted_packets="];
const DELIVERED: Keys = [",delivered_bytes=", ",delivered_flows=", ",delivered_packets="];
const FILTERED: Keys = [",filtered_bytes=", ",filtered_flows=", ",filtered_packets="];
const LOST: Keys = [",lost_bytes=", ",lost_flows=", ",lost_packets="];
const NOT_YET_DUE: Keys = [",not_yet_due_bytes=", ",not_yet_due_flows=", ",not_yet_due_packets="];
const WAITS: Keys = [",waiting_bytes=", ",waiting_flows=", ",waiting_packets="];
const LOST_FIRST: Keys = [" lost_bytes=", ",lost_flows=", ",lost_packets="];

impl ToLine for Status {
    fn to_line(&self, series: &Series, out: &mut Vec<u8>) {
        append(out, |line| {
            match self.stated {
                Stated::Whole(whole) => {
                    line.raw(STATUS);
                    line.said(&series.host);
                    fields(line, &whole);
                }
                Stated::Loss { reason, lost, unknown } => {
                    line.raw(LOSS);
                    line.said(&series.host);
                    line.tag(const { Key::new(",reason=") }, reason);
                    figure(line, LOST_FIRST, lost);
                    line.field(",unknown=", unknown);
                }
                Stated::Waiting { sink, waiting } => {
                    let Waiting { records, moved, .. } = waiting;
                    line.raw(WAITING);
                    line.said(&series.host);
                    line.tag(const { Key::new(",sink=") }, sink);
                    line.field(" oldest_ms=", waiting.oldest_ms());
                    figure(line, WAITS, moved);
                    line.field(",waiting_records=", records);
                }
            }
            line.timestamp(self.real_ns);
        });
    }
}

/// In the order of their names.
fn fields(line: &mut Line<'_>, whole: &Whole) {
    figure(line, COUNTED, whole.counted);
    figure(line, DELIVERED, whole.delivered);
    line.field(",doubts=", whole.doubts);
    figure(line, FILTERED, whole.filtered);
    line.field(",live_flows=", whole.live_flows);
    figure(line, LOST, whole.lost);
    figure(line, NOT_YET_DUE, whole.not_yet_due);
}

fn figure(line: &mut Line<'_>, [bytes, flows, packets]: Keys, sum: Sum) {
    line.field(bytes, sum.bytes);
    line.field(flows, sum.flows);
    line.field(packets, sum.packets);
}
