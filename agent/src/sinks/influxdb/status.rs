//! How complete the accounting is, as lines.

use super::encode::{Series, ToLine};
use super::line::Line;
use super::schema::{LOSS, STATUS};
use crate::model::Sum;
use crate::pipeline::{Stated, Status, Whole};

/// What separates the fields of a figure, with their names.
type Keys = [&'static [u8]; 3];

const COUNTED: Keys = [b" counted_bytes=", b",counted_flows=", b",counted_packets="];
const DELIVERED: Keys = [b",delivered_bytes=", b",delivered_flows=", b",delivered_packets="];
const FILTERED: Keys = [b",filtered_bytes=", b",filtered_flows=", b",filtered_packets="];
const LOST: Keys = [b",lost_bytes=", b",lost_flows=", b",lost_packets="];
const NOT_YET_DUE: Keys = [b",not_yet_due_bytes=", b",not_yet_due_flows=", b",not_yet_due_packets="];
const LOST_FIRST: Keys = [b" lost_bytes=", b",lost_flows=", b",lost_packets="];

impl ToLine for Status {
    fn to_line(&self, series: &Series, out: &mut Vec<u8>) {
        let mut line = Line::new(out);
        match self.stated {
            Stated::Whole(whole) => {
                line.raw(STATUS.as_bytes());
                line.raw(&series.host);
                fields(&mut line, &whole);
            }
            Stated::Loss { reason, lost, unknown } => {
                line.raw(LOSS.as_bytes());
                line.raw(&series.host);
                line.tag(b",reason=", reason);
                figure(&mut line, LOST_FIRST, lost);
                line.field(b",unknown=", unknown);
            }
        }
        line.finish(self.real_ns);
    }
}

/// In the order of their names.
fn fields(line: &mut Line<'_>, whole: &Whole) {
    figure(line, COUNTED, whole.counted);
    figure(line, DELIVERED, whole.delivered);
    line.field(b",doubts=", whole.doubts);
    figure(line, FILTERED, whole.filtered);
    line.field(b",live_flows=", whole.live_flows);
    figure(line, LOST, whole.lost);
    figure(line, NOT_YET_DUE, whole.not_yet_due);
}

fn figure(line: &mut Line<'_>, [bytes, flows, packets]: Keys, sum: Sum) {
    line.field(bytes, sum.bytes);
    line.field(flows, sum.flows);
    line.field(packets, sum.packets);
}
