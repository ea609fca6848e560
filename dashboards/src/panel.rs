//! Panels: how what a query returns is shown.

use serde_json::{Map, Value, json};

use crate::names::document;

/// A panel that is being put together.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    title: &'static str,
    kind: &'static str,
    description: &'static str,
    unit: &'static str,
    width: u32,
    height: u32,
    targets: Vec<Value>,
    defaults: Map<String, Value>,
    overrides: Vec<Value>,
    options: Value,
    transformations: Vec<Value>,
    interval: Option<&'static str>,
}

/// How wide a board is.
pub(crate) const WHOLE: u32 = 24;

/// The unit of moments that are shown as ages: "3 minutes ago".
pub(crate) const AGE: &str = "dateTimeFromNow";

/// Digits after the point of percentages in tables.
const TABLE_DIGITS: u32 = 6;

/// All but one byte of a petabyte; no number with more nines is read back from JSON as it was written.
const ALL_BUT_A_BIT: f64 = 0.999_999_999_999_999;

/// What waits for so long, in milliseconds, is more than a batch that a server takes its time for.
const SLOW_MS: u32 = 10_000;

/// From then on the server takes nothing.
const AWAY_MS: u32 = 60_000;

fn waiting_steps() -> Value {
    json!([
        { "color": "green", "value": null },
        { "color": "yellow", "value": SLOW_MS },
        { "color": "red", "value": AWAY_MS },
    ])
}

/// What is shown of a part between all and the last value that so many digits after the point tell from all.
fn less_than_all(digits: u32) -> Value {
    let from = 1.0 - 0.01 / 10_f64.powi(digits.cast_signed());
    json!([{
        "type": "range",
        "options": { "from": from, "to": ALL_BUT_A_BIT, "result": { "text": "< 100 %", "color": "red", "index": 0 } },
    }])
}

impl Panel {
    fn new(kind: &'static str, title: &'static str, unit: &'static str, targets: Vec<Value>) -> Self {
        Self {
            title,
            kind,
            description: "",
            unit,
            width: WHOLE / 2,
            height: 8,
            targets,
            defaults: Map::new(),
            overrides: Vec::new(),
            options: json!({}),
            transformations: Vec::new(),
            interval: None,
        }
    }

    /// Lines over time. No interval is shorter than 10 seconds: points of sums are further apart than a pixel.
    pub(crate) fn lines(title: &'static str, unit: &'static str, targets: Vec<Value>) -> Self {
        let legend = json!({
            "displayMode": "table", "placement": "right", "showLegend": true,
            "calcs": ["lastNotNull", "mean", "max"], "sortBy": "Mean", "sortDesc": true,
        });
        let tooltip = json!({ "mode": "multi", "sort": "desc" });
        let mut panel = Self::new("timeseries", title, unit, targets)
            .options(json!({ "legend": legend, "tooltip": tooltip }))
            .default(
                "custom",
                json!({
                    "drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "auto",
                    "spanNulls": false, "axisSoftMin": 0, "stacking": { "mode": "none", "group": "A" },
                }),
            );
        panel.interval = Some("10s");
        panel
    }

    /// Areas over time, on top of each other: their sum is to be seen.
    pub(crate) fn areas(title: &'static str, unit: &'static str, targets: Vec<Value>) -> Self {
        Self::lines(title, unit, targets)
            .custom("stacking", json!({ "mode": "normal", "group": "A" }))
            .custom("fillOpacity", json!(40))
    }

    /// Bars over time: what came within each interval.
    pub(crate) fn bars(title: &'static str, unit: &'static str, targets: Vec<Value>) -> Self {
        let panel = Self::areas(title, unit, targets)
            .custom("drawStyle", json!("bars"))
            .custom("fillOpacity", json!(70));
        panel.option(
            "legend",
            json!({
                "displayMode": "table", "placement": "right", "showLegend": true,
                "calcs": ["sum"], "sortBy": "Total", "sortDesc": true,
            }),
        )
    }

    /// Rows.
    pub(crate) fn table(title: &'static str, targets: Vec<Value>) -> Self {
        let mut panel = Self::new("table", title, "short", targets)
            .options(json!({ "showHeader": true, "cellHeight": "sm", "footer": { "show": false } }))
            // Else a column takes 150 pixels, and the last ones are cut off.
            .default("custom", json!({ "align": "auto", "filterable": true, "minWidth": 70 }));
        // What a table without rows says would stand in each empty cell, too.
        panel.overrides.push(json!({
            "matcher": { "id": "byRegexp", "options": "/.*/" },
            "properties": [{ "id": "noValue", "value": "–" }],
        }));
        panel
    }

    /// One number, of the first query that returns one.
    pub(crate) fn number(title: &'static str, unit: &'static str, targets: Vec<Value>) -> Self {
        Self::new("stat", title, unit, targets).options(json!({
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            "colorMode": "background", "graphMode": "none", "justifyMode": "auto", "textMode": "auto",
        }))
    }

    /// What the reader has to know, also when it is empty.
    pub(crate) const fn says(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Columns of 24, and rows.
    pub(crate) const fn size(mut self, width: u32, height: u32) -> Self {
        (self.width, self.height) = (width, height);
        self
    }

    /// What stands in place of numbers and rows that are not there.
    pub(crate) fn empty(self, text: &str) -> Self {
        self.default("noValue", json!(text))
    }

    /// The same, unless the panel has its own words.
    pub(crate) fn else_empty(self, text: &str) -> Self {
        if self.defaults.contains_key("noValue") { self } else { self.empty(text) }
    }

    /// Red below a value, green from it on.
    pub(crate) fn red_below(self, value: f64) -> Self {
        let steps = json!([{ "color": "red", "value": null }, { "color": "green", "value": value }]);
        self.default("thresholds", json!({ "mode": "absolute", "steps": steps }))
    }

    /// Green below a value, red from it on.
    pub(crate) fn red_from(self, value: f64) -> Self {
        let steps = json!([{ "color": "green", "value": null }, { "color": "red", "value": value }]);
        self.default("thresholds", json!({ "mode": "absolute", "steps": steps }))
    }

    /// A number of milliseconds for which something waits: nothing to worry about, to be looked at, or an outage.
    pub(crate) fn waits(self) -> Self {
        self.default("thresholds", json!({ "mode": "absolute", "steps": waiting_steps() }))
    }

    /// A column of such numbers.
    pub(crate) fn waits_in(self, column: &str) -> Self {
        let thresholds = json!({ "mode": "absolute", "steps": waiting_steps() });
        let cell = json!({ "type": "color-text" });
        let properties = [("unit", json!("ms")), ("thresholds", thresholds), ("custom.cellOptions", cell)];
        self.column(column, &properties)
    }

    /// Lines at the thresholds.
    pub(crate) fn with_lines(self) -> Self {
        self.custom("thresholdsStyle", json!({ "mode": "dashed" }))
    }

    /// A series in gray, as it is no single thing.
    pub(crate) fn gray(self, series: &str) -> Self {
        self.column(series, &[("color", json!({ "mode": "fixed", "fixedColor": "#8e8e8e" }))])
    }

    /// A fixed number of digits after the point.
    pub(crate) fn decimals(self, digits: u32) -> Self {
        self.default("decimals", json!(digits))
    }

    /// A number is shown with the name of its series.
    pub(crate) fn named(self) -> Self {
        self.option("textMode", json!("value_and_name"))
    }

    /// The time of the point that a query returns, and not its value, as an age.
    pub(crate) fn age(self) -> Self {
        let options = json!({ "calcs": ["lastNotNull"], "fields": "/^Time$/", "values": false });
        self.option("reduceOptions", options)
            .option("colorMode", json!("none"))
            .column("Time", &[("unit", json!(AGE))])
    }

    /// A series that is red below a value, yellow from it on: it is a bound and nothing to be glad of.
    pub(crate) fn yellow_at_best(self, series: &str, value: f64) -> Self {
        let steps = json!([{ "color": "red", "value": null }, { "color": "yellow", "value": value }]);
        self.column(series, &[("thresholds", json!({ "mode": "absolute", "steps": steps }))])
    }

    /// A part of a whole: what is just less than all is not rounded to all.
    pub(crate) fn part(self, digits: u32) -> Self {
        self.decimals(digits).default("mappings", less_than_all(digits))
    }

    /// Columns with parts of a whole; red where something is missing.
    pub(crate) fn parts(self, columns: &[&str]) -> Self {
        let steps = json!([{ "color": "red", "value": null }, { "color": "text", "value": 1.0 }]);
        columns.iter().fold(self, |panel, column| {
            panel.column(
                column,
                &[
                    ("unit", json!("percentunit")),
                    ("decimals", json!(TABLE_DIGITS)),
                    ("mappings", less_than_all(TABLE_DIGITS)),
                    ("thresholds", json!({ "mode": "absolute", "steps": steps })),
                    ("custom.cellOptions", json!({ "type": "color-text" })),
                ],
            )
        })
    }

    /// The column that says for how many reasons more may be missing than is counted, and so whether the other figures
    /// are exact or bounds.
    pub(crate) fn doubts(self, column: &str) -> Self {
        let range = |from, to: Option<u32>, text, color| {
            json!({
                "type": "range",
                "options": { "from": from, "to": to, "result": { "text": text, "color": color, "index": from } },
            })
        };
        let mappings = [range(0, Some(0), "exact", "text"), range(1, None, "at most", "yellow")];
        self.column(
            column,
            &[
                ("mappings", json!(mappings)),
                ("custom.cellOptions", json!({ "type": "color-text" })),
                ("custom.align", json!("left")),
            ],
        )
    }

    /// What stands in cells of a column that are empty.
    pub(crate) fn blank(self, column: &str, text: &str) -> Self {
        let options = json!({ "match": "empty", "result": { "text": text, "index": 0 } });
        self.column(column, &[("mappings", json!([{ "type": "special", "options": options }]))])
    }

    /// How wide columns are, in pixels.
    pub(crate) fn widths(self, columns: &[(&str, u32)]) -> Self {
        columns
            .iter()
            .fold(self, |panel, (column, width)| panel.column(column, &[("custom.width", json!(width))]))
    }

    /// Numbers at the left edge of their column: text follows in the next one.
    pub(crate) fn at_left(self, columns: &[&str]) -> Self {
        columns.iter().fold(self, |panel, column| panel.column(column, &[("custom.align", json!("left"))]))
    }

    /// Properties of one column.
    pub(crate) fn column(mut self, name: &str, properties: &[(&str, Value)]) -> Self {
        let properties: Vec<_> =
            properties.iter().map(|(id, value)| json!({ "id": id, "value": value })).collect();
        let matcher = json!({ "id": "byName", "options": name });
        self.overrides.push(json!({ "matcher": matcher, "properties": properties }));
        self
    }

    /// The unit of one column.
    pub(crate) fn column_unit(self, name: &str, unit: &str) -> Self {
        self.column(name, &[("unit", json!(unit))])
    }

    /// A column that is not shown.
    pub(crate) fn hidden(self, name: &str) -> Self {
        self.column(name, &[("custom.hidden", json!(true))])
    }

    /// Other names for columns, in this order.
    pub(crate) fn renamed(self, names: &[(&str, &str)]) -> Self {
        let order: Map<_, _> =
            names.iter().enumerate().map(|(at, (from, _))| ((*from).to_owned(), json!(at))).collect();
        let names: Map<_, _> = names.iter().map(|(from, to)| ((*from).to_owned(), json!(to))).collect();
        let options = json!({ "renameByName": names, "excludeByName": {}, "indexByName": order });
        self.transformed("organize", options)
    }

    /// These fields of documents and no others, in this order, by other names.
    pub(crate) fn columns(self, fields: &[(&'static str, &str)]) -> Self {
        let names: Vec<_> = fields.iter().map(|(field, _)| json!(document(field))).collect();
        self.transformed("filterFieldsByName", json!({ "include": { "names": names } })).renamed(fields)
    }

    /// A number that is the sum over the time shown, not the last one.
    pub(crate) fn sums(self) -> Self {
        self.option("reduceOptions", json!({ "calcs": ["sum"], "fields": "", "values": false }))
    }

    /// The largest ones of a column first.
    pub(crate) fn sorted(self, by: &str) -> Self {
        self.transformed("sortBy", json!({ "fields": {}, "sort": [{ "field": by, "desc": true }] }))
    }

    /// No more rows than that.
    pub(crate) fn limited(self, rows: u32) -> Self {
        self.transformed("limit", json!({ "limitField": rows }))
    }

    fn transformed(mut self, id: &str, options: Value) -> Self {
        self.transformations.push(json!({ "id": id, "options": options }));
        self
    }

    fn default(mut self, name: &str, value: Value) -> Self {
        self.defaults.insert(name.to_owned(), value);
        self
    }

    fn custom(mut self, name: &str, value: Value) -> Self {
        if let Some(custom) = self.defaults.get_mut("custom").and_then(Value::as_object_mut) {
            custom.insert(name.to_owned(), value);
        }
        self
    }

    fn options(mut self, options: Value) -> Self {
        self.options = options;
        self
    }

    fn option(mut self, name: &str, value: Value) -> Self {
        if let Some(options) = self.options.as_object_mut() {
            options.insert(name.to_owned(), value);
        }
        self
    }

    pub(crate) const fn place(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// The panel as Grafana keeps it.
    pub(crate) fn json(mut self, id: u32, (x, y): (u32, u32)) -> Value {
        self.defaults.insert("unit".into(), json!(self.unit));
        for (target, id) in self.targets.iter_mut().zip('A'..) {
            if let Some(place) = target.get_mut("refId") {
                *place = json!(id.to_string());
            }
        }
        let datasource = self.targets.first().and_then(|target| target.get("datasource")).cloned();
        let mut panel = json!({
            "id": id,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": datasource,
            "gridPos": { "x": x, "y": y, "w": self.width, "h": self.height },
            "targets": self.targets,
            "fieldConfig": { "defaults": self.defaults, "overrides": self.overrides },
            "options": self.options,
            "transformations": self.transformations,
        });
        if let (Some(interval), Some(panel)) = (self.interval, panel.as_object_mut()) {
            panel.insert("interval".into(), json!(interval));
        }
        panel
    }
}
