//! What must hold for every board; queries are run by the tests with real servers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use conntally::sinks::influxdb::schema::{GAUGES, LOSS_FIELDS, STATUS_FIELDS};
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
        used.retain(|name| !["timeFilter", "__interval", "__interval_ms"].contains(&name.as_str()));
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
            for field in STATUS_FIELDS.iter().chain(&LOSS_FIELDS).chain(&GAUGES) {
                assert!(!query.contains(&format!("sum(\"{field}\")")), "{name}: {}: {field}", panel["title"]);
            }
            for metric in target["metrics"].as_array().into_iter().flatten() {
                let field = metric["field"].as_str().unwrap_or_default();
                let is_stated = field.starts_with("conntally.audit") || field.starts_with("conntally.loss");
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
