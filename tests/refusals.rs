//! What clients are refused with, text by text: each is Supabase Realtime's own and shown by a test that has it word for
//! word, or cannot occur here.
//!
//! `refusals.txt` is the data: where it is told, the text, the tests; one line each, tabs between. `…` stands for what
//! differs from case to case. `not here:` and a reason instead of tests: nothing of this relay could mean that.

use crate::checklist::{files, is_there};

/// One text.
#[derive(Debug)]
pub struct Refusal<'a> {
    pub door: &'a str,
    pub text: &'a str,
    pub shown: Result<Vec<&'a str>, &'a str>,
}

/// All of them.
pub fn refusals() -> Vec<Refusal<'static>> {
    let lines = include_str!("refusals.txt").lines();
    lines
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let [door, text, shown] = fields[..] else { panic!("three fields: {line:?}") };
            let shown = match shown.strip_prefix("not here: ") {
                Some(reason) => Err(reason),
                None => Ok(shown.split(' ').collect()),
            };
            Refusal { door, text, shown }
        })
        .collect()
}

/// A source file as its string literals are meant: without escapes and without line ends inside.
fn unescaped(test: &str) -> String {
    let (module, _) = test.rsplit_once("::").unwrap();
    let text: Vec<_> =
        files(module).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    text.concat().replace('\\', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn each_is_told_at_a_known_door_and_once() {
    let mut seen = std::collections::HashSet::new();
    for Refusal { door, text, shown } in refusals() {
        let doors = ["join", "channel", "reply", "connect", "change", "http"];
        assert!(doors.contains(&door), "{door}: {text}");
        assert!(seen.insert((door, text)), "{door}: {text} is there twice");
        assert!(shown.map_or_else(|reason| reason.len() > 10, |tests| !tests.is_empty()), "{text}");
    }
}

#[test]
fn each_is_shown_word_for_word_by_a_test_that_exists() {
    for Refusal { text, shown, .. } in refusals() {
        let Ok(tests) = shown else { continue };
        for test in &tests {
            assert!(is_there(test), "{text}: there is no {test}");
        }
        let has_it = |test: &str| {
            let source = unescaped(test);
            text.split('…').all(|piece| source.contains(piece.trim()))
        };
        assert!(tests.iter().any(|test| has_it(test)), "{text}: not in {tests:?}");
    }
}

#[test]
fn what_cannot_occur_is_nowhere_in_the_program() {
    let mut sources = Vec::new();
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                sources.push(std::fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    for Refusal { text, .. } in refusals().iter().filter(|refusal| refusal.shown.is_err()) {
        let piece = format!("\"{}", text.split('…').next().unwrap());
        assert!(sources.iter().all(|source| !source.contains(&piece)), "{text} can occur");
    }
}
