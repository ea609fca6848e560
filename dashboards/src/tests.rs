//! What must hold for every board; queries are run by the tests with real servers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use conntally::sinks::influxdb::schema::{GAUGES, LOSS_FIELDS, STATUS_FIELDS, WAITING_FIELDS};
use serde_json::Value;

use super::boards;

fn panels(board: &Value) -> &Vec<Value> {
    board["panels"].as_array().unwrap()
}

fn targets(board: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    let all = panels(board).iter().filter(|panel| panel["type"] != "row");
    all.flat_map(|panel| panel["targets"].as_array().unwrap().iter().map(move |target| (panel, target)))
}

/// Names behind `$`, with and without braces.
fn variables_in(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| {
        rest.trim_start_matches('{').chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    text.split('$').skip(1).map(name).filter(|name: &String| !name.is_empty()).collect()
}

#[test]
fn the_committed_files_are_what_the_names_of_today_give() {
    for (name, board) in boards() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let committed: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        assert!(committed == board, "{name} is out of date; run `cargo xtask dashboards`");
    }
}

#[test]
fn every_variable_that_is_used_is_there_and_every_one_that_is_there_is_used() {
    for (name, board) in boards() {
        let list = board["templating"]["list"].as_array().unwrap();
        let there: BTreeSet<_> = list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        let text: String = targets(&board).map(|(_, target)| target.to_string()).collect();
        let queries: String = list.iter().map(|one| one["query"].to_string()).collect();
        let mut used = variables_in(&(text + &queries));
        used.retain(|name| !["timeFilter", "__interval", "__interval_ms", "__to"].contains(&name.as_str()));
        used.retain(|name| !name.starts_with("tag_"));
        assert_eq!(used, there, "{name}");
    }
}

#[test]
fn every_board_tells_whether_anything_is_missing_and_leads_to_the_other() {
    let uids: Vec<_> = boards().iter().map(|(_, board)| board["uid"].clone()).collect();
    for (name, board) in boards() {
        assert!(panels(&board).iter().any(|panel| panel["title"] == "Completeness by agent"), "{name}");
        let others = uids.iter().filter(|uid| **uid != board["uid"]);
        for uid in others {
            let way = format!("/d/{}", uid.as_str().unwrap());
            assert!(board["links"].to_string().contains(&way), "{name} has no way to {way}");
        }
    }
}

#[test]
fn nothing_that_counts_from_a_start_on_is_summed() {
    for (name, board) in boards() {
        for (panel, target) in targets(&board) {
            let query = target["query"].as_str().unwrap();
            for field in STATUS_FIELDS.iter().chain(&LOSS_FIELDS).chain(&GAUGES).chain(&WAITING_FIELDS) {
                assert!(!query.contains(&format!("sum(\"{field}\")")), "{name}: {}: {field}", panel["title"]);
            }
            for metric in target["metrics"].as_array().into_iter().flatten() {
                let field = metric["field"].as_str().unwrap_or_default();
                let is_stated = field.starts_with("conntally.audit")
                    || field.starts_with("conntally.loss")
                    || field.starts_with("conntally.waiting");
                assert!(metric["type"] != "sum" || !is_stated, "{name}: {}: {field}", panel["title"]);
                if metric["type"] == "sum" {
                    // Totals are summed of last records, or where documents hold what is new.
                    assert!(query.contains("flow.final:true"), "{name}: {}", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn panels_without_data_say_what_is_not_there_and_not_that_nothing_was_lost() {
    for (name, board) in boards() {
        for (panel, _) in targets(&board) {
            let empty = panel["fieldConfig"]["defaults"]["noValue"].as_str().unwrap_or_default();
            assert!(empty.starts_with("no"), "{name}: {}: {empty:?}", panel["title"]);
        }
    }
}

/// The properties of a column or series with its own, or else of the panel.
fn properties<'a>(panel: &'a Value, column: &str) -> Vec<(&'a str, &'a Value)> {
    let overrides = panel["fieldConfig"]["overrides"].as_array().unwrap().iter();
    let own = overrides.filter(|one| one["matcher"]["options"] == column);
    let own = own.flat_map(|one| one["properties"].as_array().unwrap());
    let own = own.map(|property| (property["id"].as_str().unwrap(), &property["value"]));
    let defaults = panel["fieldConfig"]["defaults"].as_object().unwrap();
    defaults.iter().map(|(id, value)| (id.as_str(), value)).chain(own).collect()
}

fn property<'a>(panel: &'a Value, column: &str, id: &str) -> Option<&'a Value> {
    properties(panel, column).into_iter().rfind(|(known, _)| *known == id).map(|(_, value)| value)
}

#[test]
fn what_is_not_complete_is_not_rounded_to_100_percent_and_what_is_unknown_is_not_green() {
    let mut parts = 0;
    for (name, board) in boards() {
        for panel in panels(&board).iter().filter(|panel| panel["type"] != "row") {
            let columns: &[&str] = if panel["type"] == "stat" {
                &["exact", "unknown, at most"]
            } else {
                &["Bytes", "Packets", "Flows"]
            };
            for column in columns {
                if property(panel, column, "unit") != Some(&Value::from("percentunit")) {
                    continue;
                }
                parts += 1;
                let at = format!("{name}: {}: {column}", panel["title"]);
                let digits = property(panel, column, "decimals").unwrap().as_u64().unwrap();
                let range = &property(panel, column, "mappings").unwrap()[0]["options"];
                let (from, to) = (range["from"].as_f64().unwrap(), range["to"].as_f64().unwrap());
                let shown = |part: f64| format!("{:.*}", usize::try_from(digits).unwrap(), 100.0 * part);
                assert!(!shown(from).starts_with("100") && to < 1.0 && shown(to).starts_with("100"), "{at}");
                assert!(1.0 - to < 2e-15, "{at}");
                assert_eq!(range["result"]["text"], "< 100 %", "{at}");
                let steps = property(panel, column, "thresholds").unwrap()["steps"].as_array().unwrap();
                let best = match *column {
                    "exact" => "green",
                    "unknown, at most" => "yellow",
                    _ => "text",
                };
                let colors: Vec<_> =
                    steps.iter().map(|step| (step["value"].as_f64(), step["color"].as_str())).collect();
                assert_eq!(colors, [(None, Some("red")), (Some(1.0), Some(best))], "{at}");
            }
        }
    }
    assert_eq!(parts, 2 + 3 + 3);
}

#[test]
fn what_a_server_does_not_take_is_not_green_for_long() {
    let mut places = 0;
    for (name, board) in boards() {
        for panel in panels(&board).iter().filter(|panel| panel["type"] != "row") {
            for column in ["oldest", "Oldest", "Longest"] {
                if property(panel, column, "unit") != Some(&Value::from("ms")) {
                    continue;
                }
                places += 1;
                let steps = property(panel, column, "thresholds").unwrap()["steps"].as_array().unwrap();
                let at = |ms: f64| {
                    let mut passed =
                        steps.iter().filter(|step| step["value"].as_f64().is_none_or(|from| from <= ms));
                    passed.next_back().unwrap()["color"].clone()
                };
                assert_eq!(
                    (at(600.0), at(10_000.0), at(60_000.0)),
                    ("green".into(), "yellow".into(), "red".into())
                );
                assert_eq!(at(f64::MAX), "red", "{name}: {}", panel["title"]);
            }
        }
    }
    // Panels without columns have it by any name.
    assert_eq!(places, 3 + 1 + 3 + 1 + 3);
}

#[test]
fn boards_that_tell_how_complete_they_are_tell_what_waits_too() {
    for (name, board) in boards() {
        let described: Vec<_> = panels(&board)
            .iter()
            .filter(|panel| panel["title"].as_str().unwrap().starts_with("Completeness"))
            .map(|panel| panel["description"].as_str().unwrap())
            .collect();
        assert!(described.iter().all(|text| text.contains("What waits for a server is not lost")), "{name}");
        assert!(panels(&board).iter().any(|panel| panel["title"] == "Waiting to be delivered"), "{name}");
    }
}

/// Of a grouping there may be as many series as `max_series` says.
#[test]
fn series_of_groups_are_as_many_as_are_wanted_and_the_rest_is_one() {
    let (_, board) = boards().into_iter().find(|(name, _)| *name == "conntally-live.json").unwrap();
    let mut split = 0;
    for panel in panels(&board).iter().filter(|panel| panel["type"] == "timeseries") {
        let queries: Vec<_> =
            panel["targets"].as_array().unwrap().iter().map(|one| one["query"].as_str().unwrap()).collect();
        let by_tag = |query: &str| {
            let (_, by) = query.rsplit_once("GROUP BY").unwrap();
            ["src", "dst", "proto", "port"].into_iter().find(|tag| by.contains(&format!("\"{tag}\"")))
        };
        if let Some(tag) = queries.iter().find_map(|query| by_tag(query)) {
            split += 1;
            let [of_top, of_rest] = queries.as_slice() else { panic!("{queries:?}") };
            assert!(of_top.contains(&format!("\"{tag}\" =~ /^$top_")), "{of_top}");
            assert!(
                of_rest.contains(&format!("\"{tag}\" !~ /^$top_")) && by_tag(of_rest).is_none(),
                "{of_rest}"
            );
            assert_eq!(
                of_top.replacen("=~", "!~", 1).replace(&format!(", \"{tag}\" fill"), " fill"),
                *of_rest
            );
        }
    }
    assert_eq!(split, 5);
}

#[test]
fn tables_of_agents_say_whether_their_figures_are_exact_and_how_old_they_are() {
    for (name, board) in boards() {
        let panel = panels(&board).iter().find(|panel| panel["title"] == "Completeness by agent").unwrap();
        let mappings = property(panel, "Parts are", "mappings").unwrap();
        let shown = |at: usize, of: &str| mappings[at]["options"][of].clone();
        assert_eq!((shown(0, "from"), shown(0, "to")), (0.into(), 0.into()), "{name}");
        assert_eq!((shown(1, "from"), shown(1, "to")), (1.into(), Value::Null), "{name}");
        assert_eq!(shown(0, "result")["text"], "exact", "{name}");
        assert_eq!(
            (&shown(1, "result")["text"], &shown(1, "result")["color"]),
            (&"at most".into(), &"yellow".into())
        );
        assert_eq!(property(panel, "Told", "unit"), Some(&"dateTimeFromNow".into()), "{name}");
    }
}

#[test]
fn the_columns_of_tables_fit_into_the_panel() {
    for (name, board) in boards() {
        for panel in panels(&board).iter().filter(|panel| panel["type"] == "table") {
            let least = panel["fieldConfig"]["defaults"]["custom"]["minWidth"].as_u64().unwrap();
            // Of a narrow screen; the columns of the widest table are the longest there are.
            let width = panel["gridPos"]["w"].as_u64().unwrap() * 48;
            let names = panel["transformations"][0]["options"]["renameByName"].as_object();
            let columns = names.map_or(0, |names| names.len() as u64);
            assert!(panel["title"] == "Flows" || columns * least <= width, "{name}: {}", panel["title"]);
        }
    }
}

/// What a panel says when it is empty is said by its cells, too, unless they have words of their own.
#[test]
fn empty_cells_do_not_say_that_the_table_is_empty() {
    for (name, board) in boards() {
        for panel in panels(&board).iter().filter(|panel| panel["type"] == "table") {
            let of_all = &panel["fieldConfig"]["overrides"][0];
            assert_eq!(of_all["matcher"]["options"], "/.*/", "{name}: {}", panel["title"]);
            assert_eq!(of_all["properties"][0]["value"], "–", "{name}: {}", panel["title"]);
        }
    }
}

#[test]
fn panels_have_titles_units_and_places_of_their_own() {
    for (name, board) in boards() {
        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in panels(&board) {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}");
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(x < 24 && cells.insert((x, y)), "{name}: {} covers another", panel["title"]);
                }
            }
            let has_unit = panel["fieldConfig"]["defaults"]["unit"].is_string();
            assert!(panel["type"] == "row" || has_unit, "{name}: {}", panel["title"]);
        }
        let titles: BTreeSet<_> = panels(&board).iter().map(|panel| panel["title"].to_string()).collect();
        assert_eq!(titles.len(), panels(&board).len(), "{name}: titles are what tests know panels by");
    }
}
