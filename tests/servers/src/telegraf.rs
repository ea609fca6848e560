//! Telegraf as an independent reader of line protocol, and as another way into InfluxDB, each built with the few
//! plugins that it uses.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::go::{checkout, go};
use crate::http::Request;
use crate::kind::{Access, Kind, Place, access};
use crate::shell::program;
use crate::workshop::Workshop;

const PLUGINS: &str = "custom,inputs.socket_listener,inputs.influxdb_listener,inputs.influxdb_v2_listener,\
    outputs.file,parsers.influx,serializers.influx";

const WRITER_PLUGINS: &str =
    "custom,inputs.socket_listener,outputs.influxdb_v2,parsers.influx,serializers.influx";

/// Telegraf with five listeners and a file that tells what it understood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Telegraf;

impl Kind for Telegraf {
    fn name(&self) -> &'static str {
        "telegraf"
    }

    fn release(&self) -> &'static str {
        "telegraf-1.37.2"
    }

    fn purpose(&self) -> &'static str {
        "a second reader of line protocol, with 413 and 429 of its own"
    }

    fn build(&self, shop: &Workshop) -> Result<()> {
        build(shop, PLUGINS)
    }

    /// UDP, TCP, v2, v1, v2 with back-pressure.
    fn ports(&self) -> u16 {
        5
    }

    fn command(&self, place: &Place) -> Result<Command> {
        run_with(place, &configuration(place))
    }

    fn is_ready(&self, place: &Place) -> bool {
        Request::new("GET", "/ping").send(place.address(3)).is_ok_and(|answer| answer.is_success())
    }

    fn prepare(&self, place: &Place) -> Result<Access> {
        let output = place.home.join("out.lp").display().to_string();
        Ok(access([
            ("url", place.url(2)),
            ("token", "secret".to_owned()),
            ("udp", format!("udp://{}", place.address(0))),
            ("tcp", format!("tcp://{}", place.address(1))),
            ("v1_url", place.url(3)),
            ("busy_url", place.url(4)),
            ("output", output),
        ]))
    }
}

/// Telegraf that passes lines on to an InfluxDB, which its settings name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TelegrafWriter;

impl Kind for TelegrafWriter {
    fn name(&self) -> &'static str {
        "telegraf-writer"
    }

    fn release(&self) -> &'static str {
        "telegraf-writer-1.37.2"
    }

    fn purpose(&self) -> &'static str {
        "passes lines on to InfluxDB, for comparison"
    }

    fn build(&self, shop: &Workshop) -> Result<()> {
        build(shop, WRITER_PLUGINS)
    }

    fn ports(&self) -> u16 {
        1
    }

    /// Batches are those of the agent; the buffer holds whatever comes.
    fn command(&self, place: &Place) -> Result<Command> {
        let settings: String = place.settings.iter().map(|setting| format!("  {setting}\n")).collect();
        let text = format!(
            r#"[agent]
  interval = "1s"
  flush_interval = "500ms"
  flush_jitter = "0s"
  metric_batch_size = 5000
  metric_buffer_limit = 10000000
  omit_hostname = true
[[inputs.socket_listener]]
  service_address = "tcp://{}"
  data_format = "influx"
[[outputs.influxdb_v2]]
{settings}"#,
            place.address(0)
        );
        run_with(place, &text)
    }

    fn is_ready(&self, place: &Place) -> bool {
        TcpStream::connect(place.address(0)).is_ok()
    }

    fn prepare(&self, place: &Place) -> Result<Access> {
        Ok(access([("tcp", place.address(0).to_string())]))
    }
}

fn build(shop: &Workshop, plugins: &str) -> Result<()> {
    let source = checkout(shop, "github.com/influxdata/telegraf", "v1.37.2")?;
    let named = "-s -w -X github.com/influxdata/telegraf/internal.Version=1.37.2";
    shop.run(
        go(shop, &source)?
            .env("CGO_ENABLED", "0")
            .args(["build", "-tags", plugins, "-ldflags", named, "-o"])
            .arg(shop.result.join("telegraf"))
            .arg("./cmd/telegraf"),
    )
}

fn run_with(place: &Place, configuration: &str) -> Result<Command> {
    let file = place.home.join("telegraf.conf");
    fs::write(&file, configuration).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = program(place.installed.join("telegraf"));
    command.arg("--quiet").arg("--config").arg(file);
    Ok(command)
}

/// The listener of v1 takes 4 KiB a request; the last one answers 429 while more than five points wait to be written,
/// and 413 to more than five at once.
fn configuration(place: &Place) -> String {
    format!(
        r#"[agent]
  interval = "1s"
  flush_interval = "100ms"
  flush_jitter = "0s"
  omit_hostname = true
  skip_processors_after_aggregators = true
[[inputs.socket_listener]]
  service_address = "udp://{udp}"
  data_format = "influx"
[[inputs.socket_listener]]
  service_address = "tcp://{tcp}"
  data_format = "influx"
[[inputs.influxdb_v2_listener]]
  service_address = "{two}"
  token = "secret"
[[inputs.influxdb_listener]]
  service_address = "{one}"
  max_body_size = "4KiB"
[[inputs.influxdb_v2_listener]]
  service_address = "{busy}"
  token = "secret"
  max_undelivered_metrics = 5
  max_body_size = "4KiB"
[[outputs.file]]
  files = ["{home}/out.lp"]
  data_format = "influx"
  influx_uint_support = true
"#,
        udp = place.address(0),
        tcp = place.address(1),
        two = place.address(2),
        one = place.address(3),
        busy = place.address(4),
        home = place.home.display(),
    )
}
