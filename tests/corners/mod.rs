//! The right rows where it is not obvious: settings, values that the log lacks, tables made again, generated columns,
//! deletions, and what the time or the number of messages would tell.
//!
//! In each, what is delivered is what a select right after the commit shows, or it is told that something was withheld.

mod acting;
mod deletions;
mod generated;
mod hidden;
mod incomplete;
mod recreated;
mod rights;
mod settings;

use serde_json::{Value, json};

use crate::support::relay::token;
use crate::support::{Client, Cluster, Database, Relay};

const ANN: &str = "00000000-0000-4000-8000-00000000000a";
const BOB: &str = "00000000-0000-4000-8000-00000000000b";

/// A relay on a database of its own.
struct Stand {
    database: Database,
    relay: Relay,
}

/// What a client saw up to a marker.
#[derive(Debug, Default)]
struct Seen {
    /// Its changes, without the marker.
    changes: Vec<Value>,
    /// Texts of the `system` messages with an error.
    troubles: Vec<String>,
}

impl Stand {
    /// Prepares the database with `sql`, in which tables are put into `supabase_realtime`, then starts a relay.
    async fn new(sql: &str) -> Self {
        Self::with(sql, |_| Vec::new()).await
    }

    /// The same, with variables for the relay.
    async fn with(
        sql: &str,
        variables: impl FnOnce(&Database) -> Vec<(&'static str, String)>,
    ) -> Self {
        let database = Cluster::shared().database().await.with_roles().await;
        database
            .execute(
                "create table marker (id int primary key);
                 alter publication supabase_realtime add table marker",
            )
            .await;
        for statement in sql.split(";;") {
            database.execute(statement).await;
        }
        let variables = variables(&database);
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, &**value)).collect();
        let relay = Relay::start_with(&database, &variables).await;
        Self { database, relay }
    }

    /// Somebody who asks for everything in `public`.
    async fn watch(&self, role: &str, claims: &Value) -> Client {
        self.watch_with(role, claims, json!([{ "event": "*", "schema": "public" }])).await
    }

    async fn ann(&self) -> Client {
        self.watch("authenticated", &json!({ "sub": ANN })).await
    }

    async fn bob(&self) -> Client {
        self.watch("authenticated", &json!({ "sub": BOB })).await
    }

    async fn watch_with(&self, role: &str, claims: &Value, wishes: Value) -> Client {
        let mut client = Client::connect(&self.relay, &token(role, claims)).await;
        client.subscribe("room", wishes).await;
        client
    }

    async fn execute(&self, sql: &str) {
        self.database.execute(sql).await;
    }

    /// Everything each client was told before a row that everybody sees.
    async fn seen<const N: usize>(&self, clients: [&mut Client; N]) -> [Seen; N] {
        let next = "select (coalesce(max(id), 0) + 1)::text from marker";
        let id: i64 = self.database.text(next).await.parse().unwrap();
        self.execute(&format!("insert into marker values ({id})")).await;
        let mut all = Vec::new();
        for client in clients {
            let mut seen = Seen::default();
            loop {
                let next = client.find("anything", |_| true).await;
                match &*next.event {
                    "postgres_changes" => {
                        let data = next.payload["data"].clone();
                        if data["table"] == "marker" && data["record"]["id"] == id {
                            break;
                        }
                        seen.changes.push(data);
                    }
                    "system" if next.payload["status"] == "error" => {
                        seen.troubles.push(next.payload["message"].as_str().unwrap().to_owned());
                    }
                    _ => {}
                }
            }
            all.push(seen);
        }
        all.try_into().unwrap()
    }
}

impl Seen {
    /// `column` of each new row.
    fn values(&self, column: &str) -> Vec<Value> {
        self.changes.iter().map(|data| data["record"][column].clone()).collect()
    }

    /// Ids of new rows, when nothing was withheld.
    fn ids(&self) -> Vec<i64> {
        assert!(self.troubles.is_empty(), "{self:?}");
        self.values("id").iter().map(|id| id.as_i64().unwrap()).collect()
    }

    fn assert_nothing(&self) {
        assert!(self.changes.is_empty() && self.troubles.is_empty(), "{self:?}");
    }
}
