//! Queries in InfluxQL as Grafana sends them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use conntally_servers::{Access, Request, Server};
use serde_json::Value;

use super::Reader;
use super::answer::{Answer, Series};
use super::board::{Fill, Panel, Target, Variable, text_of};

/// InfluxDB 1, or 2 by what it has of version 1: the bucket's name is that of the database.
pub(super) struct Database {
    access: Access,
    address: SocketAddr,
}

impl Database {
    pub(super) fn of(server: &Server) -> Result<Self> {
        let access = server.access().clone();
        let url = access.get("url").context("it has no address")?;
        let address = url.rsplit('/').next().unwrap_or_default().parse()?;
        Ok(Self { access, address })
    }

    fn query(&self, query: &str) -> Result<Vec<Value>> {
        let access = |name: &str| self.access.get(name).map_or("", String::as_str);
        let database = if access("database").is_empty() { access("bucket") } else { access("database") };
        let form = format!("db={database}&epoch=ms&q={}", percent_encoded(query));
        let request = Request::new("POST", "/query").body("application/x-www-form-urlencoded", form);
        let request = match access("token") {
            "" => request.login(access("user"), access("password")),
            token => request.header("Authorization", &format!("Token {token}")),
        };
        let answer = request.expect_success(self.address).with_context(|| query.to_owned())?.json()?;
        let result = answer.pointer("/results/0").context("there is no result")?;
        if let Some(error) = result.get("error") {
            bail!("{error} for {query}");
        }
        Ok(result.get("series").and_then(Value::as_array).cloned().unwrap_or_default())
    }
}

impl Reader for Database {
    fn raw(&self, target: &Target, fill: &Fill) -> Result<Value> {
        self.query(&filled(&text_of(&target.0, "query"), fill)).map(Value::Array)
    }

    fn ask(&self, _: &Panel, target: &Target, fill: &Fill) -> Result<Answer> {
        let series = self.raw(target, fill)?;
        let series = series.as_array().context("there is no list of series")?;
        series.iter().map(one_series).collect::<Option<Vec<_>>>().map(Answer).context("it has another shape")
    }

    fn values(&self, variable: &Variable, fill: &Fill) -> Result<Vec<String>> {
        let series = self.query(&filled(&variable.query(), fill))?;
        let rows = series.iter().filter_map(|one| one.get("values")?.as_array()).flatten();
        let mut values: Vec<_> = rows.filter_map(|row| Some(row.get(1)?.as_str()?.to_owned())).collect();
        values.sort();
        values.dedup();
        Ok(values)
    }

    fn chosen(&self, values: &[String]) -> String {
        let escape = |c| ["\\^$*+?.()|[]{}/".contains(c).then_some('\\'), Some(c)];
        let escaped = |value: &String| value.chars().flat_map(escape).flatten().collect::<String>();
        format!("({})", values.iter().map(escaped).collect::<Vec<_>>().join("|"))
    }
}

/// What stands for time and interval goes first, as variables may begin like them.
fn filled(query: &str, fill: &Fill) -> String {
    let query = query
        .replace("$__interval_ms", &fill.interval_ms.to_string())
        .replace("$__interval", &format!("{}ms", fill.interval_ms))
        .replace("$timeFilter", &format!("time >= {}ms and time <= {}ms", fill.from, fill.to));
    fill.fill(&query)
}

fn one_series(series: &Value) -> Option<Series> {
    let columns: Vec<_> = series.get("columns")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let tags = series.get("tags").and_then(Value::as_object).into_iter().flatten();
    let tags = tags.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
    let row = |row: &Value| {
        let mut cells = columns.iter().zip(row.as_array()?);
        let time = cells.next()?.1.as_i64()?;
        let numbers: BTreeMap<_, _> =
            cells.filter_map(|(name, cell)| Some(((*name).to_owned(), cell.as_f64()?))).collect();
        Some((time, numbers))
    };
    let rows = series.get("values")?.as_array()?.iter().map(row).collect::<Option<_>>()?;
    Some(Series { tags: tags.collect(), rows })
}

/// RFC 3986, section 2.1.
fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(byte).collect()
}
