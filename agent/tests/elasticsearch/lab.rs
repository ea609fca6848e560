//! A server, and sinks that write there, each test to a data stream of its own.

use conntally::config::Secret;
use conntally::sinks::elasticsearch::setup::{Report, SetupError, install};
use conntally::sinks::elasticsearch::{DataStream, Elasticsearch, Login, Options};
use conntally::sinks::http::Endpoint;
use conntally::sinks::json::EncodeContext;
use conntally_servers::{Answer, Request, Server};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Lab {
    server: Server,
}

impl Lab {
    pub(crate) const fn new(server: Server) -> Self {
        Self { server }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.server.kind().name()
    }

    /// Whether it is the real distribution, with users and all modules.
    pub(crate) fn is_complete(&self) -> bool {
        self.server.access().contains_key("user")
    }

    /// Says what cannot be tried with this server, and why; it would look as if it had passed.
    pub(crate) fn leaves_out(&self, what: &str, why: &str) {
        println!("{}: not applicable: {what}: {why}", self.name());
    }

    pub(crate) fn options(&self, namespace: &str) -> Options {
        let access = self.server.access();
        let mut options = Options::new(vec![Endpoint::parse(&access["url"]).unwrap()]);
        options.stream = DataStream::of(namespace);
        options.retention = Some(Duration::from_secs(7 * 86_400));
        if let Some(key) = access.get("api_key") {
            options.login = Login::ApiKey(Secret::of(key));
        }
        options
    }

    pub(crate) async fn install(&self, namespace: &str) -> Result<Report, SetupError> {
        install(&self.options(namespace), TIMEOUT).await
    }

    pub(crate) fn sink(&self, options: &Options) -> Elasticsearch {
        let context = EncodeContext {
            host: "gw1".into(),
            netns_name: Box::new(|_| None),
            networks: Default::default(),
        };
        Elasticsearch::new("archive", options, TIMEOUT, context).unwrap()
    }

    /// A data stream that is set up, and a sink that writes there.
    pub(crate) async fn prepared(&self, namespace: &str) -> (Elasticsearch, Options) {
        self.install(namespace).await.unwrap();
        let options = self.options(namespace);
        (self.sink(&options), options)
    }

    /// Asks as someone who may do everything, and takes any answer.
    pub(crate) fn ask(&self, method: &'static str, path: &str, body: Option<&Value>) -> Answer {
        let access = self.server.access();
        let mut request = Request::new(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let (Some(user), Some(password)) = (access.get("user"), access.get("password")) {
            request = request.login(user, password);
        }
        request.send(self.server.place().address(0)).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, None);
        assert!(answer.is_success(), "{path}: {}", answer.text());
        answer.json().unwrap()
    }

    pub(crate) fn put(&self, path: &str, body: &Value) {
        let answer = self.ask("PUT", path, Some(body));
        assert!(answer.is_success(), "{path}: {}", answer.text());
    }

    pub(crate) fn roll_over(&self, stream: &DataStream) {
        let answer = self.ask("POST", &format!("/{stream}/_rollover"), None);
        assert!(answer.is_success(), "{}", answer.text());
    }

    /// Lets searches see all that is stored.
    pub(crate) fn refresh(&self, stream: &DataStream) {
        let answer = self.ask("POST", &format!("/{stream}/_refresh"), None);
        assert!(answer.is_success(), "{}", answer.text());
    }

    /// Searches what is stored, the newest included.
    pub(crate) fn search(&self, stream: &DataStream, body: &Value) -> Value {
        self.refresh(stream);
        let answer = self.ask("POST", &format!("/{stream}/_search"), Some(body));
        assert!(answer.is_success(), "{}", answer.text());
        answer.json().unwrap()
    }

    /// Documents, and the sum of what their sources sent.
    pub(crate) fn stored(&self, stream: &DataStream) -> (u64, u64) {
        let sum = json!({ "bytes": { "sum": { "field": "source.bytes" } } });
        let found = self.search(stream, &json!({ "size": 0, "track_total_hits": true, "aggs": sum }));
        let bytes = found["aggregations"]["bytes"]["value"].as_f64().unwrap();
        (found["hits"]["total"]["value"].as_u64().unwrap(), bytes as u64)
    }

    pub(crate) fn indices(&self, stream: &DataStream) -> Vec<String> {
        let resolved = self.get(&format!("/_resolve/index/{stream}"));
        let names = resolved["data_streams"][0]["backing_indices"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }
}
