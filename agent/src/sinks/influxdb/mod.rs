//! InfluxDB: points of groups, or records of flows, as line protocol; by the HTTP interface of version 2 or 1, or by UDP.
//!
//! Items enter, requests leave, answers become outcomes. Knows no queue and repeats nothing but what it takes to find a
//! line that the server cannot read.

mod options;

mod line;

pub mod schema;

mod status;

mod encode;

mod verdict;

mod write;

mod udp;

mod login;

mod prepare;

mod api;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod schema_tests;

#[cfg(test)]
mod wire_tests;

#[cfg(test)]
mod real_tests;

use std::marker::PhantomData;
use std::time::Duration;

pub use encode::{Series, ToLine};
pub use options::{Options, Shape, Target};

use self::udp::Datagrams;
use self::write::Writer;
use super::http::TlsError;
use crate::pipeline::{Outcome, Request, Sink};

/// The sink, for records or for points.
#[derive(Debug)]
pub struct InfluxDb<I> {
    series: Series,
    wire: Wire,
    items: PhantomData<fn(I)>,
}

/// How lines get there.
#[derive(Debug)]
enum Wire {
    Http(Box<Writer>),
    Udp(Datagrams),
}

impl<I: ToLine> InfluxDb<I> {
    /// Makes the sink; opens no connection. `name` is its name in the configuration; a try may take `timeout`.
    ///
    /// # Errors
    /// When certificates cannot be used.
    pub fn new(name: &str, options: &Options, timeout: Duration, series: Series) -> Result<Self, TlsError> {
        let wire = match (Writer::new(name, options, timeout)?, &options.target) {
            (None, Target::Udp { address, payload }) => Wire::Udp(Datagrams::new(address, *payload)),
            (Some(writer), _) => Wire::Http(Box::new(writer)),
            (None, _) => return Err(TlsError::Refused("this target has no address".into())),
        };
        Ok(Self { series, wire, items: PhantomData })
    }

    /// Beside another sink to the same server, which says which server that is.
    #[must_use]
    pub fn beside_another(mut self) -> Self {
        if let Wire::Http(writer) = &mut self.wire {
            writer.be_quiet();
        }
        self
    }
}

impl<I: ToLine> Sink for InfluxDb<I> {
    type Item = I;

    fn encode(&self, item: &I, out: &mut Vec<u8>) {
        item.to_line(&self.series, out);
    }

    async fn deliver(&self, request: &Request) -> Outcome {
        match &self.wire {
            Wire::Http(writer) => writer.deliver(request).await,
            Wire::Udp(datagrams) => datagrams.deliver(request).await,
        }
    }
}
