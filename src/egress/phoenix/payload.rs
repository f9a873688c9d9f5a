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

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::value::RawValue;

use super::frame::NULL;
use crate::auth::token::bounded;
use crate::catalog::bind::Wish;
use crate::model::{FirstRead, Since};

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
    /// A message is wanted once the database's messages are streamed.
    pub wants_messages: bool,
    /// What is wanted of the past.
    pub replay: Option<Replay>,
    /// The row changes wanted, in order.
    pub wishes: Vec<Wish>,
    /// The ids of the wishes, unique in the channel.
    pub ids: Vec<u64>,
    /// For the wishes that continue, by id: after what.
    pub since: Vec<(u64, Since)>,
    /// For the wishes whose rows are read first, by id: which rows.
    pub firsts: Vec<(u64, FirstRead)>,
    /// The wishes as the reply echoes them: a JSON array.
    pub echo: String,
}

/// What a private channel wants to hear of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Since when, in Unix milliseconds.
    pub since: i64,
    /// How many messages at most.
    pub limit: Option<i64>,
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
keys!(Past { since, limit });
keys!(Element { event, schema, table, filter, select, since, snapshot });
keys!(First { limit, order });

/// As [`keys`], but one of them is a word of Rust.
#[derive(Deserialize)]
struct Broadcast<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    ack: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", rename = "self")]
    own: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    replay: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    replication_ready: Option<&'a RawValue>,
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
    let token = token.filter(|token| !token.starts_with("sb_")).map(bounded);
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
        join.replay = broadcast.replay.map(past).transpose()?;
        join.wants_messages =
            some(broadcast.replication_ready).is_some_and(|value| value.get() != "false");
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

fn past(replay: &RawValue) -> Result<Replay, String> {
    let integer = |value: &RawValue| serde_json::from_str::<i64>(value.get()).ok();
    let read = || {
        let past: Past<'_> = object("", replay.get()).ok()?;
        let limit = some(past.limit).map(|limit| integer(limit).ok_or(()));
        Some(Replay { since: integer(past.since?)?, limit: limit.transpose().ok()? })
    };
    read().ok_or_else(|| "UnableToReplayMessages: Replay params are not valid".to_owned())
}

/// The token of an `access_token` message, when there is one to look at.
pub fn parse_access_token(payload: &str) -> Option<String> {
    let payload: Payload<'_> = object("payload", payload).ok()?;
    payload.access_token.and_then(string).filter(|token| !token.starts_with("sb_")).map(bounded)
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
        let (wish, since) = read_wish(&format!("{key}[{place}]"), element.get())?;
        let id = unused_id(&wish, &join.ids);
        join.since.extend(since.map(|since| (id, since)));
        join.firsts.extend(wish.first.clone().map(|first| (id, first)));
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

/// A wish, and after what it continues. What is there and no position is told after the join.
fn read_wish(key: &str, element: &str) -> Result<(Wish, Option<Since>), String> {
    let element: Element<'_> = object(key, element)?;
    let text = |name: &str, value: Option<&RawValue>| match some(value) {
        None => Ok(None),
        Some(value) => {
            string(value).map(Some).ok_or_else(|| invalid(&format!("{key}.{name}"), "string"))
        }
    };
    let since = some(element.since)
        .map(|since| string(since).map_or(Since::Unreadable, |since| Since::parse(&since)));
    let wish = Wish {
        event: text("event", element.event)?,
        schema: text("schema", element.schema)?,
        table: text("table", element.table)?,
        filter: text("filter", element.filter)?,
        select: some(element.select).and_then(columns),
        first: some(element.snapshot).map(|first| read_first(key, first)).transpose()?,
    };
    Ok((wish, since))
}

/// A `snapshot`. What it may not mean is refused, because rows would be missing.
fn read_first(key: &str, first: &RawValue) -> Result<FirstRead, String> {
    let key = format!("{key}.snapshot");
    let First { limit, order } = object(&key, first.get())?;
    let limit = some(limit).and_then(|limit| serde_json::from_str::<u32>(limit.get()).ok());
    let limit = limit.filter(|limit| 0 < *limit);
    let limit = limit.ok_or_else(|| invalid(&format!("{key}.limit"), "a number of rows from 1"))?;
    let order = match some(order) {
        None => Some(Box::default()),
        Some(order) => string(order).as_deref().and_then(FirstRead::parse_order),
    };
    let expected = "column[.asc|.desc][.nullsfirst|.nullslast], several by comma";
    let order = order.ok_or_else(|| invalid(&format!("{key}.order"), expected))?;
    Ok(FirstRead { limit, order })
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
