//! What a `phx_join` asks for, read leniently where that is harmless and never where it is not.
//!
//! Flexible booleans, nulls and unknown keys are accepted as Supabase accepts them. A value of the wrong type that
//! would quietly widen what is asked for (`private`, or the schema, table or filter of a wish) is refused by name
//! instead of being replaced by its default.
//!
//! A payload without `config`, as clients sent before 2022, does not subscribe to the table its topic is named after:
//! the channel is joined and told in a `system` message what to send instead.
//!
//! The elements of `postgres_changes` are echoed as the client wrote them, with an `id` added at the end: an `id`
//! of the client's own is overruled, because JSON readers take the last of equal keys.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::value::RawValue;

use super::frame::NULL;
use crate::catalog::bind::Wish;

/// What a join asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Join {
    /// The token to use instead of the connection's.
    pub token: Option<String>,
    /// There is no `config`: a client from before 2022.
    pub is_legacy: bool,
    /// A private channel is wanted.
    pub is_private: bool,
    /// Its own broadcasts come back to it.
    pub wants_own: bool,
    /// Each broadcast wants a reply.
    pub wants_ack: bool,
    /// It wants to be told who is present.
    pub wants_presence: bool,
    /// As whom it tracks, when it said.
    pub presence_key: Option<String>,
    /// The row changes wanted, in order.
    pub wishes: Vec<Wish>,
    /// The ids of the wishes, unique in the channel.
    pub ids: Vec<u64>,
    /// The wishes as the reply echoes them: a JSON array.
    pub echo: String,
}

/// Ids fit into 31 bits, because some clients read them into an `int`.
pub const MAX_ID: u64 = 0x7fff_ffff;

/// Wishes of one channel; each is matched against every change of its table.
const MAX_WISHES: usize = 100;

/// Bytes of a presence key; it is repeated in every state and diff.
const MAX_KEY: usize = 1024;

/// Bytes of `postgres_changes`; they are kept for the life of the channel.
const MAX_WISHES_BYTES: usize = 64 * 1024;

/// The keys of an object, each as its JSON text. A key that is present and null is `Some("null")`.
macro_rules! keys {
    ($name:ident { $($key:ident),* }) => {
        #[derive(Deserialize)]
        struct $name<'a> {
            $(#[serde(borrow, default, deserialize_with = "present")] $key: Option<&'a RawValue>),*
        }
    };
}

keys!(Payload { access_token, user_token, config });
keys!(Config { private, broadcast, presence, postgres_changes });
keys!(Presence { enabled, key });
keys!(Element { event, schema, table, filter, select });

/// As [`keys`], but one of them is a word of Rust.
#[derive(Deserialize)]
struct Broadcast<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    ack: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", rename = "self")]
    own: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    replay: Option<&'a RawValue>,
}

pub(super) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads the payload of a `phx_join`.
///
/// # Errors
/// The `Code: text` the join is refused with.
pub fn parse_join(payload: &str) -> Result<Join, String> {
    if !is_object(payload) {
        return Ok(Join { is_legacy: true, echo: "[]".to_owned(), ..Join::default() });
    }
    let payload: Payload<'_> = object("payload", payload)?;
    let token =
        payload.user_token.and_then(string).or_else(|| payload.access_token.and_then(string));
    let token = token.filter(|token| !token.starts_with("sb_"));
    let mut join = Join { token, echo: "[]".to_owned(), ..Join::default() };
    let Some(config) = payload.config else {
        join.is_legacy = true;
        return Ok(join);
    };
    let Some(config) = some(Some(config)) else { return Ok(join) };
    let config: Config<'_> = object("config", config.get())?;
    join.is_private = flag(config.private).ok_or_else(|| invalid("config.private", "boolean"))?;
    if let Some(broadcast) = some(config.broadcast) {
        let broadcast: Broadcast<'_> = object("config.broadcast", broadcast.get())?;
        if broadcast.replay.is_some() && !join.is_private {
            let reason = "UnableToReplayMessages: Replay is not allowed for public channels";
            return Err(reason.to_owned());
        }
        join.wants_own = flag(broadcast.own).unwrap_or(false);
        join.wants_ack = flag(broadcast.ack).unwrap_or(false);
    }
    if let Some(presence) = some(config.presence) {
        let presence: Presence<'_> = object("config.presence", presence.get())?;
        join.wants_presence = flag(presence.enabled).unwrap_or(false);
        join.presence_key = read_key(presence.key)?;
    }
    if let Some(changes) = some(config.postgres_changes) {
        read_wishes(changes.get(), &mut join)?;
    }
    Ok(join)
}

/// The token of an `access_token` message, when there is one to look at.
pub fn parse_access_token(payload: &str) -> Option<String> {
    let payload: Payload<'_> = object("payload", payload).ok()?;
    payload.access_token.and_then(string).filter(|token| !token.starts_with("sb_"))
}

/// A presence key: a text as it is, a number or boolean as its text; nothing when it is absent, empty or of another
/// type.
fn read_key(key: Option<&RawValue>) -> Result<Option<String>, String> {
    let key = some(key).and_then(|key| {
        let is_nested = key.get().starts_with(['{', '[']);
        string(key).or_else(|| (!is_nested).then(|| key.get().to_owned()))
    });
    let Some(key) = key.filter(|key| !key.is_empty()) else { return Ok(None) };
    if MAX_KEY < key.len() {
        return Err(format!(
            "InvalidJoinPayload: config.presence.key: longer than {MAX_KEY} bytes"
        ));
    }
    Ok(Some(key))
}

fn read_wishes(changes: &str, join: &mut Join) -> Result<(), String> {
    let key = "config.postgres_changes";
    if changes.len() > MAX_WISHES_BYTES {
        return Err(format!("InvalidJoinPayload: {key}: longer than {MAX_WISHES_BYTES} bytes"));
    }
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(changes) else { return Ok(()) };
    let mut echo = String::with_capacity(changes.len() + elements.len() * 20);
    echo.push('[');
    for (place, element) in elements.into_iter().filter(|element| element.get() != NULL).enumerate()
    {
        if place == MAX_WISHES {
            return Err(format!("InvalidJoinPayload: {key}: more than {MAX_WISHES} elements"));
        }
        let wish = read_wish(&format!("{key}[{place}]"), element.get())?;
        let id = unused_id(&wish, &join.ids);
        if place > 0 {
            echo.push(',');
        }
        let open = element.get().strip_suffix('}').unwrap_or_default().trim_end();
        let separator = if open.ends_with('{') { "" } else { "," };
        echo.push_str(open);
        echo.push_str(separator);
        echo.push_str(&format!(r#""id":{id}}}"#));
        join.wishes.push(wish);
        join.ids.push(id);
    }
    echo.push(']');
    join.echo = echo;
    Ok(())
}

fn read_wish(key: &str, element: &str) -> Result<Wish, String> {
    let element: Element<'_> = object(key, element)?;
    let text = |name: &str, value: Option<&RawValue>| match some(value) {
        None => Ok(None),
        Some(value) => {
            string(value).map(Some).ok_or_else(|| invalid(&format!("{key}.{name}"), "string"))
        }
    };
    Ok(Wish {
        event: text("event", element.event)?,
        schema: text("schema", element.schema)?,
        table: text("table", element.table)?,
        filter: text("filter", element.filter)?,
        select: some(element.select).and_then(columns),
    })
}

/// A `select`: no strings in the list means all columns.
fn columns(select: &RawValue) -> Option<Result<Vec<String>, ()>> {
    let Ok(names) = serde_json::from_str::<Vec<&RawValue>>(select.get()) else {
        return Some(Err(()));
    };
    let names: Vec<_> = names.into_iter().filter_map(string).collect();
    (!names.is_empty()).then_some(Ok(names))
}

/// An id for a wish: equal wishes of different channels get equal ids, so that frames can be shared between them.
fn unused_id(wish: &Wish, used: &[u64]) -> u64 {
    let mut id = hash_of(wish) % MAX_ID + 1;
    while used.contains(&id) {
        id = id % MAX_ID + 1;
    }
    id
}

/// FNV-1a over the terms, the same in every process, so that ids survive a restart of the relay.
fn hash_of(wish: &Wish) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |text: &str| {
        // No UTF-8 text contains the byte that ends a term.
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    let event = wish.event.as_deref().unwrap_or("*").to_ascii_uppercase();
    add(&event);
    for term in [&wish.schema, &wish.table, &wish.filter] {
        add(term.as_deref().unwrap_or_default());
    }
    for column in wish.select.iter().flatten().flatten() {
        add(column);
    }
    hash ^ (hash >> 32)
}

fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{')
}

/// Reads the keys of an object.
fn object<'a, T: Deserialize<'a>>(key: &str, json: &'a str) -> Result<T, String> {
    if !is_object(json) {
        return Err(invalid(key, "a map"));
    }
    serde_json::from_str(json).map_err(|_| invalid(key, "a map with each key once"))
}

fn invalid(key: &str, expected: &str) -> String {
    format!("InvalidJoinPayload: {key}: unable to parse, expected {expected}")
}

/// Leaves out null.
fn some(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != NULL)
}

fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str::<Cow<'_, str>>(value.get()).ok().map(Cow::into_owned)
}

/// A boolean, or the word for one in any letter case; absent is false, anything else is `None`.
fn flag(value: Option<&RawValue>) -> Option<bool> {
    let Some(value) = some(value) else { return Some(false) };
    let text = string(value).unwrap_or_else(|| value.get().to_owned());
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("true") { Some(true) } else { is("false").then_some(false) }
}

#[cfg(test)]
mod tests {
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
        let ids =
            |changes: &str| join(&format!(r#"{{"postgres_changes":{changes}}}"#)).unwrap().ids;
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
}
