//! The protocol's checklist: every item is shown by a test that exists, or says why it waits.
//!
//! `checklist.txt` is the data: number, weight, tests, what is demanded; one line each, tabs between. `MUST-C`: an
//! unmodified client misbehaves otherwise. `MUST-S`: behaviour of Supabase Realtime that can be seen. `MAY`: a quirk
//! of it, kept or not by choice, and the note says which. A test is named by its module and function, as `cargo test`
//! names it; `later` stands for those that need what is not built yet.

use std::path::{Path, PathBuf};

/// The items of the chapters that are built: connection, framing, channels, tokens, row changes, filters, rights.
const ITEMS: std::ops::RangeInclusive<usize> = 1..=139;

struct Item<'a> {
    number: usize,
    weight: &'a str,
    tests: &'a str,
    note: &'a str,
}

fn items() -> Vec<Item<'static>> {
    let lines = include_str!("checklist.txt").lines();
    lines
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let [number, weight, tests, note] = fields[..] else { panic!("four fields: {line:?}") };
            Item { number: number.parse().unwrap(), weight, tests, note }
        })
        .collect()
}

/// The file of a module, in the tests or beside the code; a name may stand for both.
fn files(module: &str) -> Vec<PathBuf> {
    let path = module.replace("::", "/");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["tests", "src"]
        .iter()
        .flat_map(|place| [format!("{place}/{path}.rs"), format!("{place}/{path}/mod.rs")])
        .map(|file| root.join(file))
        .filter(|file| file.exists())
        .collect()
}

/// Whether `name` is a function of the text that the test runner runs.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim_start).collect();
    let starts = [format!("fn {name}("), format!("async fn {name}(")];
    lines.iter().enumerate().any(|(place, line)| {
        let before = lines[..place].iter().rev().take_while(|line| !line.is_empty());
        starts.iter().any(|start| line.starts_with(start))
            && before.into_iter().any(|line| line.starts_with("#[") && line.contains("test"))
    })
}

#[test]
fn every_item_is_there_once_and_in_order() {
    let numbers: Vec<_> = items().iter().map(|item| item.number).collect();
    assert_eq!(numbers, ITEMS.collect::<Vec<_>>());
    for Item { number, weight, tests, note } in items() {
        assert!(["MUST-C", "MUST-S", "MAY"].contains(&weight), "{number}: {weight}");
        assert!(!note.is_empty(), "{number} says nothing");
        assert_eq!(tests == "later", note.contains("later:"), "{number}: {note}");
        assert!(weight != "MAY" || note.contains("chosen:"), "{number}: {note}");
    }
}

#[test]
fn every_named_test_exists() {
    let mut missing = Vec::new();
    for item in items().iter().filter(|item| item.tests != "later") {
        for test in item.tests.split(' ') {
            let (module, name) = test.rsplit_once("::").unwrap();
            let files = files(module);
            let is_there =
                files.iter().any(|file| has_test(&std::fs::read_to_string(file).unwrap(), name));
            if !is_there {
                missing.push(format!("{}: {test}", item.number));
            }
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
}

#[test]
fn a_test_is_a_marked_function() {
    assert!(has_test("#[test]\nfn is_one() {\n", "is_one"));
    assert!(has_test("    #[tokio::test]\n    async fn is_one() {\n", "is_one"));
    assert!(!has_test("#[test]\nfn is_one() {}\n\nfn is_none() {}\n", "is_none"));
    assert!(!has_test("#[test]\nfn is_one_more() {}\n", "is_one"));
    assert!(!has_test("// fn is_one() {}\n", "is_one"));
}
