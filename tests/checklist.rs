//! The protocol's checklist: every item is shown by a test that exists. So is everything that may be handed in wrong.
//!
//! `checklist.txt` is the data: number, weight, tests, what is demanded; one line each, tabs between. `MUST-C`: an
//! unmodified client misbehaves otherwise. `MUST-S`: behaviour of Supabase Realtime that can be seen. `MAY`: a quirk
//! of it, kept or not by choice, and the note says which. A test is named by its module and function, as `cargo test`
//! names it.

use std::path::{Path, PathBuf};

/// The last item of each chapter.
pub const CHAPTERS: [(&str, usize); 11] = [
    ("Connecting", 23),
    ("Frames", 36),
    ("Joining", 59),
    ("Leaving, heartbeats, tokens", 71),
    ("Row changes", 104),
    ("Filters", 131),
    ("Row security", 139),
    ("Broadcast", 159),
    ("Presence", 170),
    ("Private channels", 178),
    ("Limits and faults", 185),
];

/// What is wrong, and the tests that show its message and that nobody else is harmed.
const BAD_INPUT: &[(&str, &[&str])] = &[
    (
        "unknown key",
        &[
            "cli::an_unknown_setting_ends_with_code_2_and_its_name",
            "config::file::an_unknown_key_is_pointed_at_and_the_valid_ones_are_named",
            "config::env::a_variable_that_is_no_setting_is_noticed_and_what_was_meant_is_named",
        ],
    ),
    (
        "contradictory setting",
        &[
            "cli::a_contradiction_ends_with_code_2_and_names_its_key",
            "config::each_contradiction_names_its_key_and_the_fix",
        ],
    ),
    (
        "wrong token",
        &[
            "protocol::a_refused_connection_is_told_why",
            "protocol::a_join_that_cannot_be_granted_says_so_and_touches_no_other",
            "tokens::corpus::no_bad_token_is_believed_and_each_is_told_why",
        ],
    ),
    (
        "wrong topic",
        &[
            "protocol::references_come_back_as_they_were_sent",
            "protocol::a_join_that_cannot_be_granted_says_so_and_touches_no_other",
        ],
    ),
    (
        "wrong filter, table outside the publication",
        &[
            "filtering::a_bad_wish_is_told_once_disables_its_channel_and_nothing_else",
            "filters::binding::refusals_have_their_known_texts",
            "filters::binding::only_published_tables_can_be_asked_for",
        ],
    ),
    (
        "malformed frame, binary kinds nobody sends, topic over 255 bytes",
        &[
            "protocol::frames_that_mean_nothing_cost_nothing",
            "floods::a_flood_of_anything_harms_nobody_but_its_sender",
            "egress::phoenix::binary::refuses_other_kinds_and_every_part_of_a_head",
            "egress::phoenix::session_tests::talk::speaks_in_a_topic_that_no_binary_frame_can_name",
        ],
    ),
    (
        "broadcast that is no JSON, null, or no object",
        &[
            "broadcast::what_is_no_json_reaches_nobody_and_its_sender_is_told",
            "floods::a_flood_of_anything_harms_nobody_but_its_sender",
        ],
    ),
    (
        "replay of a public channel, or with nonsense for since",
        &["private::channels::a_replay_that_cannot_be_is_refused_in_the_original_s_words"],
    ),
    (
        "flood of messages, joins, tokens, presence, heartbeats",
        &[
            "floods::a_flood_of_anything_harms_nobody_but_its_sender",
            "broadcast::a_sender_over_its_rate_is_told_and_its_listeners_stay",
            "limits::a_subject_over_its_rate_is_refused_on_every_socket_and_by_http_and_others_are_not",
        ],
    ),
    (
        "frame of 5 MB",
        &[
            "limits::a_frame_over_the_limit_closes_its_socket_and_no_other",
            "egress::phoenix::wire::names_why_a_frame_broke_it_even_when_most_of_the_frame_is_unread",
        ],
    ),
    (
        "presence that is no object, too large or too often",
        &[
            "presence::each_presence_message_is_answered",
            "presence::what_is_too_large_to_track_closes_its_channel",
            "presence::a_sixth_presence_message_in_a_window_closes_its_channel_and_no_other",
        ],
    ),
    (
        "role that does not exist",
        &[
            "rights::a_role_that_does_not_exist_is_named_with_the_fix_and_harms_nobody_else",
            "filters::binding::a_role_that_does_not_exist_is_named",
            "cli::check_names_each_fault_and_its_sql_mends_it",
        ],
    ),
    (
        "Postgres down at the start",
        &[
            "ordering::a_relay_started_before_postgres_waits_for_it",
            "source::interruption::a_server_that_is_down_at_the_start_is_waited_for",
            "cli::check_says_that_postgres_cannot_be_reached",
        ],
    ),
    (
        "Postgres restarted",
        &[
            "ordering::a_restart_of_postgres_loses_and_repeats_nothing",
            "source::interruption::a_fast_restart_loses_and_repeats_nothing",
            "protocol::heartbeats_and_joins_are_answered_while_postgres_is_away",
        ],
    ),
];

/// One demand of the protocol.
#[derive(Debug)]
pub struct Item<'a> {
    pub number: usize,
    pub weight: &'a str,
    pub tests: &'a str,
    pub note: &'a str,
}

/// All of them.
pub fn items() -> Vec<Item<'static>> {
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
pub fn files(module: &str) -> Vec<PathBuf> {
    let path = module.replace("::", "/");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["tests", "src"]
        .iter()
        .flat_map(|place| [format!("{place}/{path}.rs"), format!("{place}/{path}/mod.rs")])
        .map(|file| root.join(file))
        .filter(|file| file.exists())
        .collect()
}

/// Whether a test of this module and name exists.
pub fn is_there(test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").unwrap();
    files(module).iter().any(|file| has_test(&std::fs::read_to_string(file).unwrap(), name))
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
    assert_eq!(numbers, (1..=CHAPTERS[10].1).collect::<Vec<_>>());
    for Item { number, weight, tests, note } in items() {
        assert!(["MUST-C", "MUST-S", "MAY"].contains(&weight), "{number}: {weight}");
        assert!(!note.is_empty(), "{number} says nothing");
        assert!(!tests.is_empty(), "{number} is shown by nothing");
        assert!(weight != "MAY" || note.contains("chosen:"), "{number}: {note}");
    }
}

#[test]
fn every_named_test_exists() {
    let items = items();
    let mut missing: Vec<_> = items
        .iter()
        .flat_map(|item| item.tests.split(' '))
        .chain(BAD_INPUT.iter().flat_map(|(_, tests)| tests.iter().copied()))
        .filter(|test| !is_there(test))
        .collect();
    missing.dedup();
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
    assert!(BAD_INPUT.iter().all(|(_, tests)| !tests.is_empty()));
}

#[test]
fn a_test_is_a_marked_function() {
    assert!(has_test("#[test]\nfn is_one() {\n", "is_one"));
    assert!(has_test("    #[tokio::test]\n    async fn is_one() {\n", "is_one"));
    assert!(!has_test("#[test]\nfn is_one() {}\n\nfn is_none() {}\n", "is_none"));
    assert!(!has_test("#[test]\nfn is_one_more() {}\n", "is_one"));
    assert!(!has_test("// fn is_one() {}\n", "is_one"));
}
