//! HTTP as every sink speaks it: one call, one answer, no retries; secrets never appear in what is said about it.

mod answer;
mod authorization;
mod client;
mod endpoint;
mod failure;
mod gzip;
mod options;
mod retry_after;
mod tls;

#[cfg(test)]
pub(crate) mod double;
#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use authorization::{authorization, basic, hide};
pub use client::{Call, Client};
pub use endpoint::{Endpoint, EndpointError};
pub use failure::Failure;
pub(super) use failure::{explain, with_advice};
pub use options::{HttpOptions, TlsFiles};
pub use reqwest::{Method, Url, header};
pub use retry_after::retry_after;
pub use tls::TlsError;
