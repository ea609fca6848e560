//! What a board is beside its panels: rows, variables, links.

use serde_json::{Value, json};

use crate::panel::{Panel, WHOLE};

/// The schema of boards that Grafana 11 writes; later ones read it and bring it up to date.
const SCHEMA_VERSION: u32 = 39;

/// A board that is being put together.
#[derive(Debug)]
pub(crate) struct Board {
    uid: &'static str,
    title: &'static str,
    description: &'static str,
    variables: Vec<Value>,
    links: Vec<Value>,
    panels: Vec<Value>,
    at: (u32, u32),
    row: u32,
    /// What stands in panels that say nothing of their own when they are empty.
    empty: &'static str,
}

impl Board {
    pub(crate) fn new(uid: &'static str, title: &'static str, description: &'static str) -> Self {
        let (variables, links, panels) = (Vec::new(), Vec::new(), Vec::new());
        Self { uid, title, description, variables, links, panels, at: (0, 0), row: 0, empty: "" }
    }

    /// What stands in panels that say nothing of their own when they are empty.
    pub(crate) const fn empty(mut self, text: &'static str) -> Self {
        self.empty = text;
        self
    }

    pub(crate) fn variable(mut self, variable: Value) -> Self {
        self.variables.push(variable);
        self
    }

    /// The way to another board, with time and variables.
    pub(crate) fn link(mut self, title: &str, uid: &str) -> Self {
        self.links.push(json!({
            "title": title, "type": "link", "url": format!("/d/{uid}"), "icon": "external link",
            "keepTime": true, "includeVars": false, "targetBlank": false, "asDropdown": false, "tags": [],
            "tooltip": "",
        }));
        self
    }

    /// Begins a row of panels.
    pub(crate) fn row(mut self, title: &str) -> Self {
        self.end_line();
        let (id, (_, y)) = (self.next_id(), self.at);
        self.panels.push(json!({
            "id": id, "type": "row", "title": title, "collapsed": false, "panels": [],
            "gridPos": { "x": 0, "y": y, "w": WHOLE, "h": 1 },
        }));
        self.at = (0, y + 1);
        self
    }

    /// Adds a panel beside the one before, or below where there is no room.
    pub(crate) fn panel(mut self, panel: Panel) -> Self {
        let (width, height) = panel.place();
        if self.at.0 + width > WHOLE {
            self.end_line();
        }
        let id = self.next_id();
        self.panels.push(panel.else_empty(self.empty).json(id, self.at));
        self.at.0 += width;
        self.row = self.row.max(height);
        self
    }

    fn end_line(&mut self) {
        self.at = (0, self.at.1 + self.row);
        self.row = 0;
    }

    fn next_id(&self) -> u32 {
        u32::try_from(self.panels.len()).unwrap_or(0) + 1
    }

    /// The board as Grafana keeps it.
    pub(crate) fn json(self) -> Value {
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["conntally"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": "10s",
            "time": { "from": "now-1h", "to": "now" },
            "templating": { "list": self.variables },
            "annotations": { "list": [] },
            "links": self.links,
            "panels": self.panels,
        })
    }
}

/// Which data source of a type the board reads.
pub(crate) fn source(kind: &str) -> Value {
    json!({
        "name": "datasource", "label": "Data source", "type": "datasource", "query": kind, "regex": "",
        "current": {}, "hide": 0, "includeAll": false, "multi": false, "options": [], "refresh": 1,
        "skipUrlSync": false,
    })
}

/// A choice of several values that a query returns; `every` is what stands for all of them.
pub(crate) fn choice(name: &str, label: &str, kind: &str, query: &Value, every: &str) -> Value {
    json!({
        "name": name, "label": label, "type": "query", "query": query,
        "datasource": { "type": kind, "uid": "${datasource}" },
        "multi": true, "includeAll": true, "allValue": every,
        "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
        "hide": 0, "options": [], "refresh": 2, "regex": "", "skipUrlSync": false, "sort": 3,
    })
}

/// What a query returns, all of it, for queries of panels: nobody has to choose.
pub(crate) fn found(name: &str, kind: &str, query: &str, description: &str) -> Value {
    json!({
        "name": name, "type": "query", "query": query, "description": description,
        "datasource": { "type": kind, "uid": "${datasource}" },
        "multi": true, "includeAll": true,
        "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
        "hide": 2, "options": [], "refresh": 2, "regex": "", "skipUrlSync": true, "sort": 0,
    })
}

/// A choice of one of some values.
pub(crate) fn one_of(name: &str, label: &str, values: &[&str], value: &str, description: &str) -> Value {
    let option = |one: &&str| json!({ "selected": *one == value, "text": one, "value": one });
    json!({
        "name": name, "label": label, "type": "custom", "query": values.join(","), "description": description,
        "multi": false, "includeAll": false,
        "current": { "selected": true, "text": value, "value": value },
        "hide": 0, "options": values.iter().map(option).collect::<Vec<_>>(), "skipUrlSync": false,
    })
}

/// A text.
pub(crate) fn text(name: &str, label: &str, value: &str, description: &str) -> Value {
    json!({
        "name": name, "label": label, "type": "textbox", "query": value, "description": description,
        "current": { "selected": true, "text": value, "value": value },
        "hide": 0, "options": [{ "selected": true, "text": value, "value": value }], "skipUrlSync": false,
    })
}

/// What is the same until somebody edits the board.
pub(crate) fn constant(name: &str, value: &str, description: &str) -> Value {
    json!({
        "name": name, "type": "constant", "query": value, "description": description,
        "current": { "selected": true, "text": value, "value": value },
        "hide": 2, "options": [], "skipUrlSync": true,
    })
}
