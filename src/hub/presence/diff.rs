//! Metas and diffs as values, and as the JSON every client of this protocol reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::memory::MemoryReservation;
use crate::rowjson::push_string;

/// What a member tracks: the text of a JSON object.
#[derive(Clone, Debug)]
pub struct Payload {
    json: Box<str>,
    /// The memory it takes, for as long as it is tracked or to be told.
    held: Option<Arc<MemoryReservation>>,
}

/// One tracked payload.
#[derive(Debug, PartialEq, Eq)]
pub struct Meta {
    /// What clients know it by.
    pub reference: Box<str>,
    /// What it was known by before its payload changed.
    pub previous: Option<Box<str>>,
    /// What is tracked.
    pub payload: Payload,
}

/// Who came and who went; an update is both.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Metas that are new, each with its key.
    pub joins: Vec<(Arc<str>, Arc<Meta>)>,
    /// Metas that are no more.
    pub leaves: Vec<(Arc<str>, Arc<Meta>)>,
}

impl Payload {
    /// The payload `json` is, unless it is no object.
    pub fn parse(json: &str) -> Option<Self> {
        // Parsed whole: what is told to everybody must be readable by everybody.
        serde_json::from_str::<Map<String, Value>>(json).ok()?;
        Some(Self { json: json.trim().into(), held: None })
    }

    /// The same, with the memory that was taken for it.
    pub fn holding(mut self, held: MemoryReservation) -> Self {
        self.held = Some(Arc::new(held));
        self
    }

    /// Its JSON text.
    pub const fn as_str(&self) -> &str {
        &self.json
    }
}

/// Equal payloads may be written differently: with other white space and escapes, and their keys in another order.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json || is_same(&self.json, &other.json)
    }
}

impl Eq for Payload {}

/// Whether two JSON texts mean the same. Numbers are compared as they are written: as floats, two that readers with larger
/// numbers tell apart would be one. Both were parsed whole, which bounds how deep they are.
fn is_same(one: &str, other: &str) -> bool {
    fn both<'a, T: Deserialize<'a>>(one: &'a str, other: &'a str) -> Option<(T, T)> {
        serde_json::from_str(one).ok().zip(serde_json::from_str(other).ok())
    }
    let same = |(one, other): (&&RawValue, &&RawValue)| is_same(one.get(), other.get());
    match (one.as_bytes().first(), other.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => {
            both::<BTreeMap<String, &RawValue>>(one, other).is_some_and(|(one, other)| {
                one.len() == other.len()
                    && one.keys().eq(other.keys())
                    && one.values().zip(other.values()).all(same)
            })
        }
        (Some(b'['), Some(b'[')) => {
            both::<Vec<&RawValue>>(one, other).is_some_and(|(one, other)| {
                one.len() == other.len() && one.iter().zip(&other).all(same)
            })
        }
        (Some(b'"'), Some(b'"')) => {
            both::<String>(one, other).is_some_and(|(one, other)| one == other)
        }
        _ => one == other,
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self { json: "{}".into(), held: None }
    }
}

impl Diff {
    /// Nothing happened.
    pub const fn new() -> Self {
        Self { joins: Vec::new(), leaves: Vec::new() }
    }

    /// Somebody came.
    pub(super) fn of_join(key: Arc<str>, meta: Arc<Meta>) -> Self {
        Self { joins: vec![(key, meta)], leaves: Vec::new() }
    }

    /// Whether nothing happened.
    pub const fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.leaves.is_empty()
    }

    /// A meta is no more. One that was never told is taken back instead.
    pub(super) fn leave(&mut self, key: Arc<str>, meta: Arc<Meta>, was_told: bool) {
        if was_told {
            self.leaves.push((key, meta));
        } else {
            self.joins.retain(|(_, join)| !Arc::ptr_eq(join, &meta));
        }
    }

    /// The payload of a `presence_diff`.
    pub fn to_json(&self) -> String {
        let object =
            |side: &[(Arc<str>, Arc<Meta>)]| to_json(side.iter().map(|(key, meta)| (key, meta)));
        format!(r#"{{"joins":{},"leaves":{}}}"#, object(&self.joins), object(&self.leaves))
    }
}

/// `{"key":{"metas":[…]},…}`.
pub(super) fn to_json<'a>(metas: impl Iterator<Item = (&'a Arc<str>, &'a Arc<Meta>)>) -> String {
    let mut keys: BTreeMap<&str, Vec<&Meta>> = BTreeMap::new();
    for (key, meta) in metas {
        keys.entry(key).or_default().push(meta);
    }
    let mut json = String::from("{");
    for (key, metas) in keys {
        separate(&mut json, '{');
        push_string(&mut json, key);
        json.push_str(r#":{"metas":["#);
        for meta in metas {
            separate(&mut json, '[');
            push_meta(&mut json, meta);
        }
        json.push_str("]}");
    }
    json.push('}');
    json
}

/// The payload with its references added at the end, where they overrule keys of the same name.
fn push_meta(json: &mut String, meta: &Meta) {
    let open = meta.payload.json.strip_suffix('}').unwrap_or("{").trim_end();
    json.push_str(open);
    let end = if open == "{" { "" } else { "," };
    json.push_str(end);
    json.push_str(r#""phx_ref":"#);
    push_string(json, &meta.reference);
    if let Some(previous) = &meta.previous {
        json.push_str(r#","phx_ref_prev":"#);
        push_string(json, previous);
    }
    json.push('}');
}

fn separate(json: &mut String, open: char) {
    if !json.ends_with(open) {
        json.push(',');
    }
}
