//! A database with settings of its own, a relay on it, and one subscriber for each principal.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::shape::{ALICE, BOB};
use crate::support::client::Received;
use crate::support::relay::{now, sign};
use crate::support::{Client, Cluster, Database, Relay};
use relay::postgres::quote::{identifier as quoted, literal};

/// How long a row that everybody may see can take before the relay counts as stalled.
const STALLED: Duration = Duration::from_secs(25);

/// Sets of settings, of the database and of its roles.
pub const WORLDS: u64 = 8;

/// The roles of one database, as SQL names them.
#[derive(Clone, Debug)]
pub struct Roles {
    pub guest: String,
    pub user: String,
    /// Bypasses row security.
    pub power: String,
    /// Has rights only as a member of the group.
    pub staff: String,
    pub group: String,
}

impl Roles {
    /// Those that clients have, separated by commas.
    pub fn all(&self) -> String {
        [&self.guest, &self.user, &self.power, &self.staff].map(String::as_str).join(", ")
    }
}

/// One subscriber.
#[derive(Debug)]
pub struct Eye {
    pub name: &'static str,
    /// Who it is, as the oracle takes it.
    pub who: Value,
    pub socket: Client,
    heard: HashMap<String, Vec<Heard>>,
    last_place: Option<Value>,
}

/// What a subscriber got in a channel.
#[derive(Clone, Debug)]
pub enum Heard {
    Change(Value),
    /// It was told that changes are withheld or missing.
    Told(String),
}

/// Everything that histories share.
#[derive(Debug)]
pub struct World {
    pub number: u64,
    pub database: Database,
    pub relay: Relay,
    pub writer: tokio_postgres::Client,
    pub version: u32,
    pub roles: Roles,
    pub eyes: Vec<Eye>,
    marker: u64,
    /// The id of the last marker, which is a place in the log.
    pub place: Value,
}

/// The channel that hears of every table under its own name.
pub const EVERYTHING: &str = "everything";

/// What a world's database and roles have set. The names are those of the database and of the roles. What only the relay's
/// own role has is in force for everybody who has nothing more specific, so that role has nothing that the database lacks.
fn settings(number: u64, database: &str, roles: &Roles) -> String {
    let of_database = |setting: &str| format!("alter database {database} set {setting};");
    let of_role = |role: &str, setting: &str| format!("alter role {role} set {setting};");
    let of_both = |role: &str, setting: &str| {
        format!("alter role {role} in database {database} set {setting};")
    };
    let (user, guest) = (&*roles.user, &*roles.guest);
    match number {
        1 => of_database("timezone = 'America/New_York'"),
        2 => of_database("datestyle = 'SQL, DMY'") + &of_database("intervalstyle = 'iso_8601'"),
        3 => {
            of_role(user, "timezone = 'Asia/Tokyo'")
                + &of_both(guest, "timezone = 'America/Los_Angeles'")
        }
        4 => of_database("extra_float_digits = 0") + &of_database("bytea_output = 'escape'"),
        5 => {
            of_database("search_path = app, public")
                + &of_both(&roles.staff, "search_path = public")
                + &of_both(user, "datestyle = 'Postgres, DMY'")
        }
        6 => {
            of_both(user, "app.tenant = '1'")
                + &of_database("app.tenant = '2'")
                + &of_both("relay", "app.tenant = '3'")
        }
        7 => {
            of_database("timezone = 'Australia/Sydney'")
                + &of_role(user, "datestyle = 'German'")
                + &of_role(guest, "intervalstyle = 'sql_standard'")
                + &of_both(user, "extra_float_digits = '-3'")
        }
        _ => String::new(),
    }
}

impl World {
    pub async fn start(cluster: &Cluster, number: u64) -> Self {
        let database = cluster.database().await.with_roles().await;
        let raw = |role: &str| match number {
            2 => format!("{} {role}", database.name.to_uppercase()),
            _ => format!("{}_{role}", database.name),
        };
        let named = |role: &str| quoted(&raw(role));
        let roles = Roles {
            guest: named("guest"),
            user: named("user"),
            power: named("power"),
            staff: named("staff"),
            group: named("group"),
        };
        let everybody = roles.all();
        let Roles { guest, user, power, staff, group } = &roles;
        database
            .execute(&format!(
                "create role {guest} login noinherit; create role {user} login noinherit;
                 create role {power} login noinherit bypassrls; create role {staff} login inherit;
                 create role {group}; grant {group} to {staff}; grant {everybody} to relay;
                 create schema app; grant usage on schema public, app, auth to {everybody}, {group};
                 create table public.ends (no bigint primary key); grant select on public.ends to {everybody};
                 alter publication supabase_realtime add table public.ends;
                 {}",
                settings(number, &database.name, &roles)
            ))
            .await;
        database.execute(include_str!("oracle.sql")).await;
        let writer = database.connect().await;
        writer
            .batch_execute(
                "set timezone = 'UTC'; set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres';
                 set extra_float_digits = 1; set bytea_output = 'hex'; set search_path = public",
            )
            .await
            .unwrap();
        let shown = writer.query_one("show server_version_num", &[]).await.unwrap();
        let version = shown.get::<_, &str>(0).parse::<u32>().unwrap() / 10_000;
        let allowed = ["guest", "user", "power", "staff"].map(raw).join(",");
        let relay = Relay::start_with(
            &database,
            &[
                ("RELAY_AUTH__ROLES", &*allowed),
                ("RELAY_LIMITS__JOINS_PER_SECOND", "10000"),
                ("RELAY_LIMITS__SUBJECT_JOINS_PER_SECOND", "10000"),
                ("RELAY_LIMITS__CONNECTION_JOINS_PER_SECOND", "10000"),
                ("RELAY_LIMITS__IDLE", "1h"),
                ("RUST_LOG", "warn"),
            ],
        )
        .await;
        let mut eyes = Vec::new();
        for (name, role, sub) in [
            ("guest", "guest", None),
            ("alice", "user", Some(ALICE)),
            ("bob", "user", Some(BOB)),
            ("power", "power", Some(BOB)),
            ("staff", "staff", Some(ALICE)),
        ] {
            eyes.push(Eye::open(&database, &relay, name, &raw(role), sub).await);
        }
        let (marker, place) = (0, Value::Null);
        let mut world =
            Self { number, database, relay, writer, version, roles, eyes, marker, place };
        // So that there is a place before the first history.
        world.mark(&[EVERYTHING.to_owned()]).await.unwrap();
        world
    }

    /// How many rows were withheld, whatever the reason.
    pub fn withheld(&self) -> u64 {
        let text = self.relay.metrics();
        let lines = text.lines().filter(|line| line.starts_with("relay_withheld_total"));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.map(|value| value as u64).sum()
    }

    /// Writes a row that everybody may see, and waits until it is in each of the channels of everybody. What came before
    /// it can be taken then. Who did not get it is named.
    pub async fn mark(&mut self, channels: &[String]) -> Result<(), String> {
        self.marker += 1;
        let sql = format!("insert into public.ends values ({})", self.marker);
        self.writer.batch_execute(&sql).await.unwrap();
        for eye in &mut self.eyes {
            eye.read(self.marker, channels).await?;
        }
        if let Some(place) = self.eyes[0].last_place.take() {
            self.place = place;
        }
        Ok(())
    }

    /// The same for one subscriber alone.
    pub async fn mark_for(&mut self, at: usize, channel: &str) -> Result<(), String> {
        self.marker += 1;
        let sql = format!("insert into public.ends values ({})", self.marker);
        self.writer.batch_execute(&sql).await.unwrap();
        self.eyes[at].read(self.marker, &[channel.to_owned()]).await
    }
}

impl Eye {
    async fn open(
        database: &Database,
        relay: &Relay,
        name: &'static str,
        role: &str,
        sub: Option<&str>,
    ) -> Self {
        let mut claims = json!({ "role": role, "exp": now() + 86_400 });
        if let Some(sub) = sub {
            claims["sub"] = sub.into();
        }
        let mut socket = Client::connect(relay, &sign(&claims)).await;
        socket.subscribe(EVERYTHING, json!([{ "event": "*", "schema": "*" }])).await;
        let settings = settings_of(database, role).await;
        let who = json!({
            "role": role, "sub": sub.unwrap_or_default(), "claims": claims.to_string(), "settings": settings,
        });
        Self { name, who, socket, heard: HashMap::new(), last_place: None }
    }

    /// Subscribes to one table, and to the markers, in a channel of its own.
    pub async fn join(&mut self, channel: &str, schema: &str, table: &str) {
        let wishes = json!([
            { "event": "*", "schema": schema, "table": table },
            { "event": "*", "schema": "public", "table": "ends" },
        ]);
        self.subscribe(channel, wishes).await;
    }

    /// Subscribes to everything after a place, or to one table by its name, and to the markers.
    pub async fn join_since(&mut self, channel: &str, place: &Value, named: Option<(&str, &str)>) {
        let wishes = match named {
            Some((schema, table)) => json!([
                { "event": "*", "schema": schema, "table": table, "since": place },
                { "event": "*", "schema": "public", "table": "ends", "since": place },
            ]),
            None => json!([{ "event": "*", "schema": "*", "since": place }]),
        };
        self.subscribe(channel, wishes).await;
    }

    /// Joins, and waits until it is said to be in force; what is said in other channels meanwhile is kept.
    async fn subscribe(&mut self, channel: &str, wishes: Value) {
        let payload = json!({ "config": { "postgres_changes": wishes } });
        let reply = self.socket.join(channel, payload).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        let topic = format!("realtime:{channel}");
        let said = |received: &Received| received.event == "system" && received.topic == topic;
        let system = self.socket.find("the subscription to be in force", said).await;
        assert_eq!(system.payload["status"], "ok", "{system:?}");
    }

    /// What came in a channel since it was taken last.
    pub fn take(&mut self, channel: &str) -> Vec<Heard> {
        self.heard.remove(channel).unwrap_or_default()
    }

    async fn read(&mut self, marker: u64, channels: &[String]) -> Result<(), String> {
        let mut missing: Vec<&String> = channels.iter().collect();
        let deadline = tokio::time::Instant::now() + STALLED;
        while !missing.is_empty() {
            let next = tokio::time::timeout_at(deadline, self.socket.receive_or_close()).await;
            let received = match next {
                Ok(Ok(received)) => received,
                Ok(Err(code)) => return Err(format!("{} was closed with {code:?}", self.name)),
                Err(_) => return Err(format!("{} waits in vain in {missing:?}", self.name)),
            };
            let channel = received.topic.trim_start_matches("realtime:").to_owned();
            let mut payload = received.payload;
            let heard = match &*received.event {
                "postgres_changes" => {
                    let data = payload["data"].take();
                    if data["table"] == "ends" {
                        if data["record"]["no"] == marker {
                            missing.retain(|missing| **missing != channel);
                            self.last_place = Some(data["id"].clone());
                        }
                        continue;
                    }
                    Heard::Change(data)
                }
                "system" if payload["status"] == "error" => {
                    let message = payload["message"].as_str().unwrap_or_default();
                    // That a table is gone says nothing of the changes it had.
                    if !message.contains("withheld") && !message.contains("missing") {
                        continue;
                    }
                    Heard::Told(message.to_owned())
                }
                _ => continue,
            };
            self.heard.entry(channel).or_default().push(heard);
        }
        Ok(())
    }
}

/// What a session of the role itself has set in the database.
async fn settings_of(database: &Database, role: &str) -> Value {
    let url = database.url_as(&role.replace(' ', "%20"));
    let client = crate::support::database::connect(&url).await;
    let names = [
        "timezone",
        "datestyle",
        "intervalstyle",
        "extra_float_digits",
        "bytea_output",
        "search_path",
    ];
    let mut settings = serde_json::Map::new();
    for name in names.iter().chain(&["app.tenant"]) {
        let sql = format!("select current_setting({}, true)", literal(name));
        let value: Option<String> = client.query_one(&sql, &[]).await.unwrap().get(0);
        if let Some(value) = value {
            settings.insert((*name).to_owned(), value.into());
        }
    }
    Value::Object(settings)
}
