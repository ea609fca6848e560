//! The sink `elasticsearch` against real servers: setting up, and what becomes of requests there.
//!
//! `cargo xtask servers test` runs it; a plain `cargo test` does not, as it starts servers. `CONNTALLY_TEST_SERVERS`
//! names others than the usual ones, with commas.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed, and it says what it plays"
)]

mod flows;
mod installing;
mod lab;
mod logsdb;
mod storing;

use conntally_servers::{Cache, Server, find};
use lab::Lab;
use std::path::PathBuf;
use std::pin::Pin;

/// One of each kind that runs on the Java of Debian, and one with security; others are for `--full`. What these lack is
/// told as not applicable.
const USUAL: &str = "elasticsearch-small-8,elasticsearch-8,opensearch-2";

#[test]
fn every_server_is_set_up_and_stores_each_record_once() {
    let names = std::env::var("CONNTALLY_TEST_SERVERS").unwrap_or_else(|_| USUAL.to_owned());
    let cache = Cache::below(&cache_folder()).unwrap();
    for name in names.split(',') {
        let kind = find(name).unwrap_or_else(|| panic!("there is no server {name}"));
        let installed = cache.ensure(kind, |said| println!("{said}")).unwrap();
        let home = tempfile::tempdir().unwrap();
        let settings = ["http.max_content_length=4mb"];
        let server = Server::start(kind, &installed, &home.path().join("server"), &settings).unwrap();
        play(&Lab::new(server));
    }
}

type Step<'a> = (&'a str, Pin<Box<dyn Future<Output = ()> + 'a>>);

/// Each begins where the one before ended.
fn play(lab: &Lab) {
    let steps: Vec<Step<'_>> = vec![
        ("refuses an index in place of the stream", Box::pin(installing::refuses_an_index(lab))),
        ("installs what its documents need", Box::pin(installing::installs(lab))),
        ("leads an older data stream on", Box::pin(installing::leads_on(lab))),
        ("leaves what is newer", Box::pin(installing::leaves_newer(lab))),
        ("keeps documents by namespace", Box::pin(installing::keeps_by_namespace(lab))),
        ("stores every figure", Box::pin(storing::stores(lab))),
        ("stores once across a rollover", Box::pin(storing::once_across_a_rollover(lab))),
        ("finds what another process stored", Box::pin(storing::finds_in_all_indices(lab))),
        ("stores the same in the mode logsdb", Box::pin(logsdb::stores_in_logsdb(lab))),
        ("tells a stranger of the same id", Box::pin(storing::tells_duplicates(lab))),
        ("keeps what is refused", Box::pin(storing::keeps_refused(lab))),
        ("waits while the index is blocked", Box::pin(storing::waits_for_a_block(lab))),
        ("tells what is too large", Box::pin(storing::tells_too_large(lab))),
        ("needs no more rights than documented", Box::pin(storing::needs_few_rights(lab))),
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (what, work) in steps {
        println!("{}: {what}", lab.name());
        runtime.block_on(work);
    }
}

fn cache_folder() -> PathBuf {
    let home = || std::env::home_dir().unwrap().join(".cache");
    let set = std::env::var_os("XDG_CACHE_HOME").filter(|set| !set.is_empty()).map(PathBuf::from);
    set.unwrap_or_else(home).join("conntally")
}
