//! Setting a cluster up: the index template, the data stream, how long documents are kept.
//!
//! Everything may be done again at any time, also by several agents at once.

mod api;
mod ism;
mod retention;
#[cfg(test)]
mod retention_tests;
mod status;
mod template;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::{Map, Value, json};

use self::api::{Api, Method, refused};
use self::template::{Lifecycle, VERSION, installed_version, template};
use super::{DataStream, Options};

/// Why a cluster is not set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The options cannot be used.
    #[error("{0}")]
    Options(String),
    /// No node answered.
    #[error("{0}")]
    Unreachable(String),
    /// The server says no.
    #[error("{path}: {told}")]
    Refused {
        /// What was asked.
        path: String,
        /// What it said.
        told: String,
    },
    /// The retention does not hold for some indices.
    #[error(
        "{path}: the retention does not hold for {failed}; mend what is told (an index in transition needs some \
             minutes), then set up again"
    )]
    Unkept {
        /// What was asked.
        path: String,
        /// Which ones, and why.
        failed: String,
    },
    /// There is something else of this name.
    #[error(
        "{0} is an index of its own, not a data stream: it was made before the template; move its documents \
             elsewhere (_reindex) and delete it, then set up again"
    )]
    NoStream(String),
}

/// What was done, in sentences for a person.
#[derive(Debug, Default)]
pub struct Report(Vec<String>);

impl Report {
    fn add(&mut self, sentence: String) {
        self.0.push(sentence);
    }

    /// The sentences, in the order of what was done.
    pub fn sentences(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// The names of all fields that documents may have: one list for the encoders' tests, the templates and the boards.
pub fn fields() -> impl Iterator<Item = &'static str> {
    template::FIELDS.iter().chain(status::FIELDS).map(|(name, _)| *name)
}

/// Installs what is missing or older than this agent. What a newer agent installed stays, as do the retention that an
/// earlier set-up gave if these options have none, and all that belongs to other namespaces.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn install(options: &Options, timeout: Duration) -> Result<Report, SetupError> {
    let api = Api::new(options, timeout)?;
    let mut report = Report::default();
    let is_elasticsearch = identify(&api, &mut report).await?;
    let stream = &options.stream;
    let path = format!("_index_template/{stream}");
    let said = api.ask(Method::Get, &path, None).await?;
    if !said.is_success() && said.status != 404 {
        return Err(refused(&path, &said));
    }
    let installed = installed_version(&said.body);
    if let Some(newer) = installed.filter(|version| *version > VERSION) {
        report.add(format!(
            "the template {stream} has version {newer}, this agent has {VERSION}: left as it is"
        ));
        return Ok(report);
    }
    let lifecycle = match options.retention {
        Some(kept) if is_elasticsearch => Lifecycle::DataStream(retention::written(kept)),
        Some(_) => Lifecycle::None,
        None => Lifecycle::installed(&said.body),
    };
    let (lifecycle, has_constants) =
        install_template(&api, options, lifecycle, is_elasticsearch, &mut report).await?;
    if options.retention.is_none() {
        report_earlier(&lifecycle, &mut report);
    }
    let mut streams = vec![stream.clone()];
    if options.status {
        let status = stream.of_status();
        install_status(&api, &status, &lifecycle, has_constants, &mut report).await?;
        if let Some(found) = resolve(&api, &status).await? {
            found.lead_on(&api, status::VERSION, status::properties(), &mut report).await?;
        }
        streams.push(status);
    }
    prepare_stream(&api, stream, &mut report).await?;
    if let Some(kept) = options.retention {
        if is_elasticsearch {
            apply_lifecycle(&api, &lifecycle, &streams, &mut report).await?;
        } else {
            ism::keep(&api, kept, &streams, &mut report).await?;
        }
    }
    Ok(report)
}

async fn identify(api: &Api, report: &mut Report) -> Result<bool, SetupError> {
    let path = "_nodes/_local?filter_path=nodes.*.version";
    let said = api.ask(Method::Get, path, None).await?;
    if !said.is_success() {
        return Err(refused(path, &said));
    }
    let nodes = said.body.get("nodes").and_then(Value::as_object);
    let version = nodes.and_then(|nodes| nodes.values().next()?.get("version")?.as_str());
    let name = if said.is_elasticsearch { "Elasticsearch" } else { "OpenSearch" };
    report.add(format!("the server is {name} {}", version.unwrap_or("of an unknown version")));
    Ok(said.is_elasticsearch)
}

async fn install_template(
    api: &Api,
    options: &Options,
    mut lifecycle: Lifecycle,
    is_elasticsearch: bool,
    report: &mut Report,
) -> Result<(Lifecycle, bool), SetupError> {
    let stream = &options.stream;
    let path = format!("_index_template/{stream}");
    // OpenSearch wants the value in the template.
    let mut has_constants = is_elasticsearch;
    loop {
        let wanted = template(stream, &lifecycle, has_constants);
        let said = api.ask(Method::Put, &path, Some(&wanted)).await?;
        if said.is_success() {
            report.add(format!("the template {stream} is installed in version {VERSION}"));
            return Ok((lifecycle, has_constants));
        }
        if has_constants && said.refusal.contains("constant_keyword") {
            has_constants = false;
        } else if let (Lifecycle::DataStream(_), Some(kept)) = (&lifecycle, options.retention)
            && retention::lacks_own_lifecycle(&said)
        {
            lifecycle = retention::by_policy(api, kept, stream, report).await?;
        } else {
            return Err(refused(&path, &said));
        }
    }
}

fn report_earlier(lifecycle: &Lifecycle, report: &mut Report) {
    let by = match lifecycle {
        Lifecycle::None => return,
        Lifecycle::DataStream(kept) => format!("documents are deleted after {kept}"),
        Lifecycle::Policy(name) => format!("the policy {name} deletes documents"),
    };
    report.add(format!("no retention is given: {by}, as an earlier set-up said"));
}

/// The template of what tells how complete the accounting is; its data stream is made by the first document.
async fn install_status(
    api: &Api,
    stream: &DataStream,
    lifecycle: &Lifecycle,
    has_constants: bool,
    report: &mut Report,
) -> Result<(), SetupError> {
    let path = format!("_index_template/{stream}");
    let installed = installed_version(&api.ask(Method::Get, &path, None).await?.body);
    if installed.is_some_and(|version| version > status::VERSION) {
        return Ok(());
    }
    api.demand(Method::Put, &path, Some(&status::template(stream, lifecycle, has_constants))).await?;
    report.add(format!("the template {stream} is installed in version {}", status::VERSION));
    Ok(())
}

/// Makes the data stream, or leads one that is there on to what the template says now.
async fn prepare_stream(api: &Api, stream: &DataStream, report: &mut Report) -> Result<(), SetupError> {
    if let Some(found) = resolve(api, stream).await? {
        return found.lead_on(api, VERSION, template::properties(false), report).await;
    }
    let path = format!("_data_stream/{stream}");
    let said = api.ask(Method::Put, &path, None).await?;
    let is_there = said.refusal.contains("already exists");
    if said.lacks_interface() {
        report.add(format!("the data stream {stream} will be made by the first document"));
    } else if said.is_success() || is_there {
        report.add(format!("the data stream {stream} is made"));
    } else {
        return Err(refused(&path, &said));
    }
    Ok(())
}

/// A data stream that is there.
struct Found<'a> {
    stream: &'a DataStream,
    /// The index to which documents go: the last one.
    write_index: String,
}

/// The data stream, if it is there.
async fn resolve<'a>(api: &Api, stream: &'a DataStream) -> Result<Option<Found<'a>>, SetupError> {
    let known = api.ask(Method::Get, &format!("_resolve/index/{stream}"), None).await?;
    let first = |kind| known.body.get(kind).and_then(|found| found.get(0));
    if first("indices").is_some() {
        return Err(SetupError::NoStream(stream.to_string()));
    }
    Ok(first("data_streams").map(|found| {
        let indices = found.get("backing_indices");
        let last = indices.and_then(|indices| indices.as_array()?.last().or(Some(indices))?.as_str());
        Found { stream, write_index: last.unwrap_or(stream.name()).to_owned() }
    }))
}

impl Found<'_> {
    /// New fields become known in the indices that are there, as far as these allow, and the next index has all of them:
    /// unless the one that is written to was made by a template of this version. What the template says is no measure,
    /// as an agent may have installed it and got no further.
    async fn lead_on(
        &self,
        api: &Api,
        version: u64,
        properties: Map<String, Value>,
        report: &mut Report,
    ) -> Result<(), SetupError> {
        let Self { stream, write_index } = self;
        let answer = api.demand(Method::Get, &format!("{write_index}/_mapping"), None).await?;
        let mapping = answer.as_object().and_then(|indices| indices.values().next());
        let made_by = mapping.and_then(|index| index.pointer("/mappings/_meta/conntally/version")?.as_u64());
        if made_by.is_some_and(|made_by| made_by >= version) {
            return Ok(());
        }
        let fields = json!({ "properties": properties });
        let mapped = api.ask(Method::Put, &format!("{stream}/_mapping"), Some(&fields)).await?;
        if !mapped.is_success() {
            report.add(format!("older indices of {stream} keep their fields: {}", mapped.refusal));
        }
        api.demand(Method::Post, &format!("{stream}/_rollover"), None).await?;
        report.add(format!("{stream} is rolled over to an index with the template's fields"));
        Ok(())
    }
}

/// For data streams that are there already; others have it from the template.
async fn apply_lifecycle(
    api: &Api,
    lifecycle: &Lifecycle,
    streams: &[DataStream],
    report: &mut Report,
) -> Result<(), SetupError> {
    if let Lifecycle::DataStream(kept) = lifecycle {
        let Some(stream) = streams.first() else { return Ok(()) };
        if !keeps_lifecycle(api, stream).await? {
            return Ok(());
        }
        report.add(format!("documents are deleted after {kept} by the data stream's lifecycle"));
    }
    for stream in streams {
        let (path, body) = match lifecycle {
            Lifecycle::None => return Ok(()),
            Lifecycle::Policy(name) => {
                (format!("{stream}/_settings"), json!({ "index.lifecycle.name": name }))
            }
            Lifecycle::DataStream(kept) => {
                (format!("_data_stream/{stream}/_lifecycle"), json!({ "data_retention": kept }))
            }
        };
        let said = api.ask(Method::Put, &path, Some(&body)).await?;
        // It may be made by the first document only.
        if !said.is_success() && !said.lacks_interface() && said.status != 404 {
            return Err(refused(&path, &said));
        }
    }
    Ok(())
}

/// Whether the server took the lifecycle for more than an unknown field of the template.
async fn keeps_lifecycle(api: &Api, stream: &DataStream) -> Result<bool, SetupError> {
    let installed = api.demand(Method::Get, &format!("_index_template/{stream}"), None).await?;
    Ok(installed.pointer("/index_templates/0/index_template/template/lifecycle").is_some())
}
