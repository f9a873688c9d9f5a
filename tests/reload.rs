//! SIGHUP: the configuration is read again and nobody notices but those whom it concerns.

use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use crate::support::relay::{SECRET, now, sign_with};
use crate::support::{Client, Cluster, Database, Relay, until};

const OTHER: &str = "another-secret-for-tests-of-at-least-thirty-two";

async fn database(cluster: &Cluster) -> Database {
    let columns = "id bigint primary key, body text";
    cluster.database().await.with_roles().await.with_table("notes", columns).await
}

fn token(secret: &str) -> String {
    sign_with(secret, &json!({ "role": "anon", "exp": now() + 3600 }))
}

fn write(directory: &Path, secret: &str, channels: u32, further: &str) {
    std::fs::write(directory.join("secret"), secret).unwrap();
    let text =
        format!("auth.jwt_secret_file = \"secret\"\nlimits.channels = {channels}\n{further}\n");
    std::fs::write(directory.join("relay.toml"), text).unwrap();
}

/// A relay that is configured by a file, as far as the tests change it.
async fn start(database: &Database, directory: &Path) -> Relay {
    let file = directory.join("relay.toml").display().to_string();
    let variables = [("RELAY_CONFIG", &*file), ("RELAY_AUTH__JWT_SECRET", ""), ("RUST_LOG", "")];
    Relay::start_with(database, &variables).await
}

/// Sends SIGHUP and returns the lines that are logged until `word` is among them.
async fn reload(relay: &Relay, word: &str) -> String {
    let before = relay.log_text().len();
    relay.signal("HUP");
    until("the reload to be logged", || async {
        let text = relay.log_text();
        let news = text[before..].to_owned();
        // Whole lines only, of which the last says what needs a restart.
        (news.contains(word) && news.ends_with('\n')).then_some(news)
    })
    .await
}

async fn believes(relay: &Relay, secret: &str) -> bool {
    let query = format!("apikey={}&vsn=2.0.0", token(secret));
    Client::try_connect(relay, &query, "2.0.0").await.is_ok()
}

#[tokio::test]
async fn what_can_change_changes_and_nobody_is_dropped() {
    let (database, directory) = (database(Cluster::shared()).await, tempfile::tempdir().unwrap());
    write(directory.path(), SECRET, 1, "");
    let relay = start(&database, directory.path()).await;
    let mut client = Client::connect(&relay, &token(SECRET)).await;
    let wishes = json!([{ "event": "*", "schema": "public", "table": "notes" }]);
    client.subscribe("room", wishes).await;
    assert_eq!(client.join("second", json!({ "config": {} })).await["status"], "error");
    assert!(!believes(&relay, OTHER).await);
    assert!(!relay.log_text().contains("DEBUG"));

    let further = "log.level = \"info,relay=debug\"\npostgres.pool = 7\nlimits.record = \"2 MiB\"";
    write(directory.path(), OTHER, 2, further);
    let told = reload(&relay, "need a restart").await;
    let line = |word: &str| told.lines().find(|line| line.contains(word)).unwrap().to_owned();
    let live = line("the configuration was reloaded");
    for key in ["auth.jwt_secret_file", "limits.channels", "log.level"] {
        assert!(live.contains(key), "{key}: {live}");
    }
    let restart = line("need a restart");
    assert!(restart.contains("postgres.pool") && restart.contains("limits.record"), "{restart}");
    assert!(!live.contains("postgres.pool") && !told.contains(OTHER), "{told}");

    assert!(believes(&relay, OTHER).await && !believes(&relay, SECRET).await);
    let mut other = Client::connect(&relay, &token(OTHER)).await;
    for name in ["first", "second"] {
        assert_eq!(other.join(name, json!({ "config": {} })).await["status"], "ok", "{name}");
    }
    // Who was here is still here, as it came.
    database.execute("insert into notes values (1, 'x')").await;
    assert_eq!(client.change().await["record"]["id"], 1);
    assert_eq!(client.join("second", json!({ "config": {} })).await["status"], "error");
    until("more to be logged", || async {
        // What is no request is news to nobody but who debugs.
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", relay.admin_port())).unwrap();
        stream.write_all(b"nonsense\r\n\r\n").unwrap();
        relay.log_text().contains("DEBUG").then_some(())
    })
    .await;
    assert!(relay.metric("relay_config_reloads_total{reason=\"done\"}") > 0.5);
    assert!(relay.metric("relay_config_last_reload_successful") > 0.5);
    let at = relay.metric("relay_config_last_reload_success_timestamp_seconds");
    assert!((now() as f64 - 3600.0..now() as f64 + 60.0).contains(&at), "{at}");

    // What needs a restart is named until there was one; what is in force is no news.
    let told = reload(&relay, "need a restart").await;
    assert!(told.contains("postgres.pool") && !told.contains("limits.channels"), "{told}");
}

#[tokio::test]
async fn a_fault_changes_nothing() {
    let (database, directory) = (database(Cluster::shared()).await, tempfile::tempdir().unwrap());
    write(directory.path(), SECRET, 1, "");
    let mut relay = start(&database, directory.path()).await;
    for (secret, further, fault) in [
        ("short", "", "auth.jwt_secret"),
        (OTHER, "limits.idel = \"9s\"", "did you mean `idle`"),
        (OTHER, "auth.jwks = \"nowhere.json\"", "nowhere.json"),
        (OTHER, "postgres.pool = \"many\"", "line 3"),
    ] {
        write(directory.path(), secret, 2, further);
        let told = reload(&relay, "was not reloaded").await;
        assert!(told.contains("ERROR") && told.contains(fault), "{told}");
        assert!(believes(&relay, SECRET).await && !believes(&relay, OTHER).await, "{fault}");
        let mut client = Client::connect(&relay, &token(SECRET)).await;
        assert_eq!(client.join("one", json!({ "config": {} })).await["status"], "ok");
        assert_eq!(client.join("two", json!({ "config": {} })).await["status"], "error");
    }
    assert!((relay.metric("relay_config_reloads_total{reason=\"refused\"}") - 4.0).abs() < 0.1);
    assert!(relay.metric("relay_config_last_reload_successful") < 0.5);
    write(directory.path(), OTHER, 2, "");
    reload(&relay, "the configuration was reloaded").await;
    assert!(relay.metric("relay_config_last_reload_successful") > 0.5);
    assert!(believes(&relay, OTHER).await);
    assert_eq!(relay.terminate().await, Some(0));
}

#[tokio::test]
async fn a_new_password_of_postgres_is_used_by_every_new_connection() {
    let cluster = Cluster::start(&[]);
    let database = database(&cluster).await;
    database.execute("alter role relay password 'one'").await;
    let hba = "host all relay all scram-sha-256\nlocal all all trust\nhost all all all trust\n";
    std::fs::write(cluster.data().join("pg_hba.conf"), hba).unwrap();
    cluster.reload();
    let directory = tempfile::tempdir().unwrap();
    let url = |password: &str, further: &str| {
        let (port, name) = (cluster.port(), &database.name);
        let url = format!("postgres://relay:{password}@127.0.0.1:{port}/{name}{further}");
        std::fs::write(directory.path().join("url"), url).unwrap();
    };
    url("one", "");
    write(directory.path(), SECRET, 9, "postgres.url_file = \"url\"");
    let file = directory.path().join("relay.toml").display().to_string();
    let variables =
        [("RELAY_CONFIG", &*file), ("RELAY_AUTH__JWT_SECRET", ""), ("RELAY_POSTGRES__URL", "")];
    let relay = Relay::start_with(&database, &variables).await;
    let mut client = Client::connect(&relay, &token(SECRET)).await;
    let wishes = json!([{ "event": "*", "schema": "public", "table": "notes" }]);
    client.subscribe("room", wishes.clone()).await;

    database.execute("alter role relay password 'two'").await;
    url("two", "");
    let told = reload(&relay, "the configuration was reloaded").await;
    assert!(told.contains("postgres.url (its password)") && !told.contains("two"), "{told}");
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'relay'";
    database.execute(end).await;
    database.execute("insert into notes values (1, 'x')").await;
    assert_eq!(client.change().await["record"]["id"], 1);
    let mut other = Client::connect(&relay, &token(SECRET)).await;
    other.subscribe("room", wishes).await;

    url("two", "?application_name=other");
    let told = reload(&relay, "need a restart").await;
    assert!(told.contains("postgres.url") && !told.contains("its password"), "{told}");
}
