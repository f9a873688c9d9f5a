//! Planted faults: what `relay check` says of each, what it prints to mend it, and what `relay run` says.
//!
//! The cases are data, in `faults.toml`, which also says how to read them. Of every case the same is asserted: the fact is
//! there with its verdict, its words and exactly its SQL. What is printed is then run, and after it every published table
//! can be written, no role reads a row more of any table but the one the fact is about, and a second check finds neither
//! the fault nor a new one.

mod plant;
mod scene;

use std::collections::BTreeMap;

use futures_util::StreamExt;
use serde::Deserialize;

use plant::Planted;

use super::report::Verdict;

/// How many cases are tried at the same time: they wait for Postgres and for processes most of the time.
const AT_ONCE: usize = 6;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    name: String,
    #[serde(default)]
    server: Server,
    #[serde(default)]
    has_own_login: bool,
    #[serde(default)]
    has_chat: bool,
    #[serde(default)]
    has_realtime: bool,
    #[serde(default)]
    since: u32,
    #[serde(default)]
    plant: String,
    #[serde(default)]
    elsewhere: String,
    #[serde(default)]
    after: String,
    #[serde(default)]
    hba: String,
    #[serde(default)]
    occupied: Option<Occupied>,
    #[serde(default)]
    shell: String,
    #[serde(default)]
    claims: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    about: String,
    #[serde(default)]
    verdict: Verdict,
    says: Vec<String>,
    #[serde(default)]
    sql: Vec<String>,
    #[serde(default)]
    words: Vec<String>,
    #[serde(default)]
    untried: String,
    run: String,
}

/// Which server it is planted in.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Server {
    /// That of most tests.
    #[default]
    Shared,
    /// One without logical replication.
    Bare,
    /// One that keeps little WAL, speaks TLS, and whose roles are nobody else's.
    Tight,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Occupied {
    /// Another program reads the slot.
    Slot,
    /// Another program listens at `http.listen`, and says nothing.
    Port,
}

#[derive(Deserialize)]
struct File {
    fault: Vec<Fault>,
}

fn cases() -> Vec<Fault> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/faults.toml");
    toml::from_str::<File>(&std::fs::read_to_string(path).unwrap()).unwrap().fault
}

/// `FAULT=name` tries one alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_planted_fault_is_named_and_what_is_printed_mends_it() {
    let only = std::env::var("FAULT").ok();
    let cases: Vec<_> = cases()
        .into_iter()
        .filter(|fault| only.as_ref().is_none_or(|only| *only == fault.name))
        .collect();
    assert!(!cases.is_empty());
    let servers = plant::Servers::start(&cases);
    let servers = &servers;
    let failures: Vec<String> = futures_util::stream::iter(cases)
        .map(|fault| async move {
            let name = fault.name.clone();
            Planted::try_it(fault, servers).await.err().map(|why| format!("{name}: {why}"))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
}

#[test]
fn there_are_many_of_them_and_no_two_have_one_name() {
    let cases = cases();
    let names: std::collections::BTreeSet<_> = cases.iter().map(|fault| &fault.name).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.len() >= 40, "{}", cases.len());
}
