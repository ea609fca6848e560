//! InfluxDB 2 and 1, built from their Go modules; the query language Flux is a library in Rust that is built first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::go::{checkout, go, module};
use crate::http::Request;
use crate::kind::{Access, Kind, Place, access};
use crate::shell::program;
use crate::workshop::Workshop;

const FLUX: &str = "github.com/influxdata/flux";

/// Words that stand in no other text, so that a test can look for them in logs.
const TOKEN: &str = "token-of-the-test-servers";
const PASSWORD: &str = "password-of-the-test-servers";

/// InfluxDB 2.7: organisations, buckets, tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InfluxDb2;

/// InfluxDB 1.12: databases, InfluxQL, line protocol by UDP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InfluxDb1;

impl Kind for InfluxDb2 {
    fn name(&self) -> &'static str {
        "influxdb-2"
    }

    fn release(&self) -> &'static str {
        "influxdb-2.7.12"
    }

    fn purpose(&self) -> &'static str {
        "v2 HTTP with tokens, Flux, InfluxQL"
    }

    fn build(&self, shop: &Workshop) -> Result<()> {
        build(shop, "github.com/influxdata/influxdb/v2", "2.7.12")
    }

    fn ports(&self) -> u16 {
        1
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let below = |name: &str| place.home.join(name);
        let mut command = program(place.installed.join("influxd"));
        command.arg("--bolt-path").arg(below("meta.bolt")).arg("--sqlite-path").arg(below("meta.sqlite"));
        command.arg("--engine-path").arg(below("engine"));
        command.args(["--http-bind-address", &place.address(0).to_string()]);
        command.args(["--reporting-disabled", "--log-level", "error"]);
        command.args(place.settings.iter().map(|setting| format!("--{setting}")));
        Ok(command)
    }

    fn is_ready(&self, place: &Place) -> bool {
        Request::new("GET", "/health").send(place.address(0)).is_ok_and(|answer| answer.is_success())
    }

    fn prepare(&self, place: &Place) -> Result<Access> {
        let account = json!({
            "username": "admin", "password": PASSWORD, "org": "o", "bucket": "flows",
            "token": TOKEN, "retentionPeriodSeconds": 0,
        });
        Request::new("POST", "/api/v2/setup").json(&account).expect_success(place.address(0))?;
        let [org, bucket, token] = ["o", "flows", TOKEN].map(str::to_owned);
        Ok(access([("url", place.url(0)), ("org", org), ("bucket", bucket), ("token", token)]))
    }
}

impl Kind for InfluxDb1 {
    fn name(&self) -> &'static str {
        "influxdb-1"
    }

    fn release(&self) -> &'static str {
        "influxdb-1.12.4"
    }

    fn purpose(&self) -> &'static str {
        "v1 HTTP with a user, InfluxQL, line protocol by UDP"
    }

    fn build(&self, shop: &Workshop) -> Result<()> {
        build(shop, "github.com/influxdata/influxdb", "1.12.4")
    }

    /// HTTP, UDP, and the remote procedure calls of its backup.
    fn ports(&self) -> u16 {
        3
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let file = place.home.join("influxd.conf");
        fs::write(&file, configuration(place)).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = program(place.installed.join("influxd"));
        command.arg("-config").arg(file);
        Ok(command)
    }

    fn is_ready(&self, place: &Place) -> bool {
        Request::new("GET", "/ping").send(place.address(0)).is_ok_and(|answer| answer.is_success())
    }

    fn prepare(&self, place: &Place) -> Result<Access> {
        // The first user is made before there is anybody to ask for a password.
        ask(place, &format!("CREATE USER admin WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES"))?;
        for database in ["flows", "udp"] {
            ask(place, &format!("CREATE DATABASE {database}"))?;
        }
        let [database, user, password] = ["flows", "admin", PASSWORD].map(str::to_owned);
        let udp = format!("udp://{}", place.address(1));
        Ok(access([
            ("url", place.url(0)),
            ("database", database),
            ("user", user),
            ("password", password),
            ("udp", udp),
            ("udp_database", "udp".to_owned()),
        ]))
    }
}

fn ask(place: &Place, query: &str) -> Result<()> {
    let form = format!("q={}", query.replace(' ', "+").replace('\'', "%27"));
    let request = Request::new("POST", "/query").login("admin", PASSWORD);
    request.body("application/x-www-form-urlencoded", form).expect_success(place.address(0))?;
    Ok(())
}

/// Settings of ours go into the section `[http]`.
fn configuration(place: &Place) -> String {
    let home = place.home.display();
    let settings: String = place.settings.iter().map(|setting| format!("  {setting}\n")).collect();
    format!(
        r#"reporting-disabled = true
bind-address = "{rpc}"
[meta]
  dir = "{home}/meta"
[data]
  dir = "{home}/data"
  wal-dir = "{home}/wal"
  index-version = "tsi1"
  query-log-enabled = false
[http]
  bind-address = "{http}"
  auth-enabled = true
  flux-enabled = true
  log-enabled = false
{settings}[[udp]]
  enabled = true
  bind-address = "{udp}"
  database = "udp"
  batch-size = 1
[monitor]
  store-enabled = false
"#,
        rpc = place.address(2),
        http = place.address(0),
        udp = place.address(1),
    )
}

fn build(shop: &Workshop, name: &str, version: &str) -> Result<()> {
    let source = checkout(shop, name, &format!("v{version}"))?;
    let flux = shop.output(go(shop, &source).args(["list", "-m", "-f", "{{.Version}}", FLUX]))?;
    let library = flux_library(shop, flux.trim())?;
    let named = format!("-s -w -X main.version={version}");
    shop.run(
        go(shop, &source)
            .env("PKG_CONFIG_PATH", library)
            .args(["build", "-tags", "sqlite_foreign_keys,sqlite_json", "-ldflags", &named, "-o"])
            .arg(shop.result.join("influxd"))
            .arg("./cmd/influxd"),
    )
}

/// The folder of the library that a version of the Go module links with; built once for all servers that share it.
fn flux_library(shop: &Workshop, version: &str) -> Result<PathBuf> {
    let folder = shop.shared.join(format!("libflux-{version}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let source = shop.copy(&module(shop, FLUX, version)?, "flux")?;
    // It asks for an old toolchain.
    drop(fs::remove_file(source.join("rust-toolchain.toml")));
    let target = shop.scratch.join("target");
    shop.run(
        program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(source.join("libflux"))
            // It makes warnings errors, and a newer compiler has more of them.
            .env("RUSTFLAGS", "--cap-lints allow")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_TARGET_DIR", &target)
            .args(["build", "--quiet", "--release", "--locked", "--package", "flux", "--lib"]),
    )?;
    let work = shop.scratch.join("libflux");
    fs::create_dir_all(&work)?;
    shop.run(program("cp").arg("-r").arg(source.join("libflux/include")).arg(&work))?;
    fs::copy(target.join("release/libflux.a"), work.join("libflux.a")).context("there is no libflux.a")?;
    fs::write(work.join("flux.pc"), description(version))?;
    put(&work, &folder)?;
    Ok(folder)
}

/// What pkg-config tells of it.
fn description(version: &str) -> String {
    format!(
        "here=${{pcfiledir}}\nName: Flux\nDescription: static libflux\nVersion: {}\n\
         Libs: -L${{here}} -lflux -ldl -lm -lpthread\nCflags: -I${{here}}/include\n",
        version.trim_start_matches('v')
    )
}

fn put(work: &Path, folder: &Path) -> Result<()> {
    fs::rename(work, folder).with_context(|| format!("cannot make {}", folder.display()))
}
