//! The chat API: what each call does, for whom, and what each mistake is answered with.

mod bounds;
mod gre;
mod pages;
mod pool;
mod seats;
mod support;
mod unified;

use serde_json::{Value, json};

use crate::support::relay::{Answer, token_of};
use crate::support::{Cluster, Database, Relay};

/// Users. What their ids are is of no meaning.
pub(crate) const VERA: &str = "0a000000-0000-4000-8000-000000000001";
pub(crate) const MALLORY: &str = "0a000000-0000-4000-8000-000000000002";
pub(crate) const ANN: &str = "0a000000-0000-4000-8000-00000000000a";
pub(crate) const BEA: &str = "0a000000-0000-4000-8000-00000000000b";

/// Somebody with a token, in front of a relay.
#[derive(Clone)]
pub(crate) struct Person<'a> {
    relay: &'a Relay,
    token: String,
}

impl<'a> Person<'a> {
    pub(crate) fn new(relay: &'a Relay, sub: &str) -> Self {
        Self { relay, token: token_of(sub) }
    }

    pub(crate) fn with_token(relay: &'a Relay, token: String) -> Self {
        Self { relay, token }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.relay.request(method, path, &headers, body.as_bytes())
    }

    /// The JSON of an answer with this status.
    pub(crate) fn get(&self, path: &str, status: u16) -> Value {
        read(&self.ask("GET", path, &Value::Null), status)
    }

    /// The same of a POST.
    pub(crate) fn post(&self, path: &str, body: &Value, status: u16) -> Value {
        read(&self.ask("POST", path, body), status)
    }
}

pub(crate) fn read(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    if answer.body.is_empty() { Value::Null } else { serde_json::from_str(&answer.body).unwrap() }
}

/// A database with the tables of the support chat, where Ann and Bea answer.
pub(crate) async fn support_database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(include_str!("../sql/ENABLE_REALTIME_CHAT.sql")).await;
    database
        .execute(&format!(
            "insert into support_agents (user_id, display_name) values ('{ANN}', 'Ann'), ('{BEA}', 'Bea')"
        ))
        .await;
    database
}

/// A relay with one of the chats.
pub(crate) async fn relay(database: &Database, preset: &str, further: &[(&str, &str)]) -> Relay {
    let mut settings = vec![("RELAY_CHAT__PRESET", preset)];
    settings.extend(further);
    Relay::start_with(database, &settings).await
}

/// An id that nobody else has.
pub(crate) fn id(n: u32) -> String {
    format!("0b000000-0000-4000-8000-{n:012}")
}

/// `{"id":…}` and what comes with it.
pub(crate) fn with_id(n: u32, further: Value) -> Value {
    let mut body = json!({ "id": id(n) });
    body.as_object_mut().unwrap().extend(further.as_object().cloned().unwrap());
    body
}
