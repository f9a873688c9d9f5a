//! What joins are read as.

use super::*;

fn join(config: &str) -> Result<Join, String> {
    parse_join(&format!(r#"{{"config":{config}}}"#))
}

fn check_echo(changes: &str, expected: &[&str]) {
    let join = join(&format!(r#"{{"postgres_changes":{changes}}}"#)).unwrap();
    let ids = &join.ids;
    let elements: Vec<_> = expected
        .iter()
        .zip(ids)
        .map(|(element, id)| element.replace("ID", &id.to_string()))
        .collect();
    assert_eq!(join.echo, format!("[{}]", elements.join(",")));
    assert_eq!((ids.len(), join.wishes.len()), (expected.len(), expected.len()));
    assert!(ids.iter().all(|id| (1..=MAX_ID).contains(id)), "{ids:?}");
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len());
}

#[test]
fn echoes_elements_as_they_are_with_an_id_at_the_end() {
    check_echo("null", &[]);
    check_echo("[null]", &[]);
    check_echo(r#""nonsense""#, &[]);
    check_echo("[{}, { }]", &[r#"{"id":ID}"#, r#"{"id":ID}"#]);
    check_echo(
        r#"[{"event":"*","schema":"public","table":"t"}, null, {"event":"insert", "filter":null,"id":"own","new":{"a":[1]} }]"#,
        &[
            r#"{"event":"*","schema":"public","table":"t","id":ID}"#,
            r#"{"event":"insert", "filter":null,"id":"own","new":{"a":[1]},"id":ID}"#,
        ],
    );
}

#[test]
fn equal_terms_share_ids_between_channels_and_never_within_one() {
    let ids = |changes: &str| join(&format!(r#"{{"postgres_changes":{changes}}}"#)).unwrap().ids;
    let insert = r#"{"event":"INSERT","table":"t","filter":"a=eq.1"}"#;
    let update = r#"{"event":"UPDATE","table":"t","filter":"a=eq.1"}"#;
    let spaced = r#"{ "filter":"a=eq.1", "table":"t", "event":"insert", "more":1}"#;
    let first = ids(&format!("[{insert}]"));
    assert_eq!(ids(&format!("[{spaced}]")), first);
    let both = ids(&format!("[{update},{insert}]"));
    assert_eq!(both[1], first[0]);
    assert_ne!(both[0], both[1]);
    let twice = ids(&format!("[{insert},{insert}]"));
    assert_eq!(twice, [first[0], first[0] % MAX_ID + 1]);
}

#[test]
fn reads_wishes() {
    let changes = r#"[{"event":"*","schema":"s","table":"t","filter":"a=eq.\"x\"","select":["a",1,"b"]},
        {"select":[]},{"select":"a"},{"select":null,"schema":null}]"#;
    let join = join(&format!(r#"{{"postgres_changes":{changes}}}"#)).unwrap();
    let own = |text: &str| Some(text.to_owned());
    assert_eq!(
        join.wishes,
        [
            Wish {
                event: own("*"),
                schema: own("s"),
                table: own("t"),
                filter: own("a=eq.\"x\""),
                select: Some(Ok(vec!["a".to_owned(), "b".to_owned()])),
            },
            Wish::default(),
            Wish { select: Some(Err(())), ..Wish::default() },
            Wish::default(),
        ]
    );
}

#[test]
fn reads_booleans_as_words_in_any_letter_case() {
    for (config, expected) in [
        (r#"{}"#, [false, false, false]),
        ("null", [false, false, false]),
        (r#"{"private":null,"broadcast":null}"#, [false, false, false]),
        (r#"{"private":"TRUE","broadcast":{"ack":"True","self":false}}"#, [true, true, false]),
        (r#"{"broadcast":{"self":"tRue"}}"#, [false, false, true]),
        (r#"{"private":"False","broadcast":{"ack":"perhaps","self":1}}"#, [false; 3]),
    ] {
        let join = join(config).unwrap();
        assert_eq!([join.is_private, join.wants_ack, join.wants_own], expected, "{config}");
        assert!(!join.is_legacy);
    }
}

#[test]
fn refuses_what_would_be_dangerous_to_guess() {
    for (config, reason) in [
        (r#"{"private":"yes"}"#, "config.private: unable to parse, expected boolean"),
        (r#"{"private":1}"#, "config.private: unable to parse, expected boolean"),
        ("[]", "config: unable to parse, expected a map"),
        (r#"{"broadcast":"all"}"#, "config.broadcast: unable to parse, expected a map"),
        (
            r#"{"postgres_changes":[7]}"#,
            "config.postgres_changes[0]: unable to parse, expected a map",
        ),
        (
            r#"{"postgres_changes":[{"filter":7}]}"#,
            "config.postgres_changes[0].filter: unable to parse, expected string",
        ),
    ] {
        assert_eq!(join(config), Err(format!("InvalidJoinPayload: {reason}")));
    }
    let replay = join(r#"{"broadcast":{"replay":null}}"#).unwrap_err();
    assert_eq!(replay, "UnableToReplayMessages: Replay is not allowed for public channels");
    let many = vec!["{}"; MAX_WISHES + 1].join(",");
    assert!(join(&format!(r#"{{"postgres_changes":[{many}]}}"#)).is_err());
}

#[test]
fn reads_as_whom_a_channel_is_present() {
    for (config, expected) in [
        ("{}", (false, None)),
        (r#"{"presence":null}"#, (false, None)),
        (r#"{"presence":{"enabled":"True","key":"me"}}"#, (true, Some("me"))),
        (r#"{"presence":{"enabled":true,"key":""}}"#, (true, None)),
        (r#"{"presence":{"enabled":7,"key":null}}"#, (false, None)),
        (r#"{"presence":{"key":42}}"#, (false, Some("42"))),
        (r#"{"presence":{"key":false}}"#, (false, Some("false"))),
        (r#"{"presence":{"key":{"a":1}}}"#, (false, None)),
        (r#"{"presence":{"key":"[1]"}}"#, (false, Some("[1]"))),
    ] {
        let join = join(config).unwrap();
        assert_eq!((join.wants_presence, join.presence_key.as_deref()), expected, "{config}");
    }
    let key = "x".repeat(MAX_KEY + 1);
    assert!(join(&format!(r#"{{"presence":{{"key":"{key}"}}}}"#)).is_err());
}

#[test]
fn chooses_the_token() {
    for (payload, token) in [
        (r#"{"access_token":"a"}"#, Some("a")),
        (r#"{"access_token":"a","user_token":"u"}"#, Some("u")),
        (r#"{"access_token":"a","user_token":7}"#, Some("a")),
        (r#"{"access_token":"sb_publishable_x"}"#, None),
        (r#"{"access_token":""}"#, Some("")),
        (r#"{"access_token":null}"#, None),
        ("null", None),
    ] {
        assert_eq!(parse_join(payload).unwrap().token.as_deref(), token, "{payload}");
    }
    assert_eq!(parse_access_token(r#"{"access_token":"a"}"#).as_deref(), Some("a"));
    assert_eq!(parse_access_token(r#"{"access_token":"sb_x"}"#), None);
    assert_eq!(parse_access_token(r#"["a"]"#), None);
}

#[test]
fn knows_a_payload_without_config() {
    assert!(parse_join("{}").unwrap().is_legacy);
    assert!(parse_join("null").unwrap().is_legacy);
    assert!(!parse_join(r#"{"config":null}"#).unwrap().is_legacy);
}
