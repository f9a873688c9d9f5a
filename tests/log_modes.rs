//! Who may read what the relay keeps on disk: nobody but its user, whatever the umask and whatever was there before.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::support::relay::token;
use crate::support::{Client, Cluster, Relay, until};

/// The modes of the directory (`.`) and of everything in it.
fn modes(relay: &Relay) -> BTreeMap<String, u32> {
    let directory = relay.directory();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let mut found = BTreeMap::from([(".".to_owned(), mode(directory))]);
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        found.insert(entry.file_name().into_string().unwrap(), mode(&entry.path()));
    }
    found
}

fn assert_closed(relay: &Relay) {
    let modes = modes(relay);
    assert!(modes.len() >= 4, "a lock, a segment and places of clients: {modes:?}");
    for (name, mode) in &modes {
        assert_eq!(*mode, if name == "." { 0o700 } else { 0o600 }, "{modes:?}");
    }
}

#[tokio::test]
async fn nobody_else_may_read_the_log_and_what_was_open_is_closed() {
    let database = Cluster::shared().database().await.with_roles().await;
    let database = database.with_table("notes", "id bigint primary key, body text").await;
    let mut relay = Relay::prepare(&database, &[]).careless();
    relay.launch();
    relay.ready().await;
    let query = format!("apikey={}&vsn=2.0.0&resume=tab-1", token("anon", &json!({ "sub": "a" })));
    let mut client = Client::try_connect(&relay, &query, "2.0.0").await.unwrap();
    let wishes = json!([{ "event": "*", "schema": "public", "table": "notes" }]);
    client.subscribe("room", wishes).await;
    database.execute("insert into notes values (1, 'for nobody else')").await;
    assert_eq!(client.change().await["record"]["id"], 1);
    let saving = async {
        until("its place to be saved", || async {
            (relay.metric("relay_places_saved_total") > 0.5).then_some(())
        })
        .await;
    };
    // It proves by its pongs what it has.
    let reading = async { while client.receive().await.is_some() {} };
    tokio::select! {
        () = saving => {}
        () = reading => panic!("the socket was closed"),
    }
    assert_closed(&relay);
    assert!(!relay.log_text().contains("open to other users"));

    // As an earlier version left it.
    relay.terminate().await;
    fs::set_permissions(relay.directory(), Permissions::from_mode(0o755)).unwrap();
    for name in modes(&relay).keys().filter(|name| *name != ".") {
        fs::set_permissions(relay.directory().join(name), Permissions::from_mode(0o644)).unwrap();
    }
    relay.launch();
    relay.ready().await;
    assert_closed(&relay);
    let log = relay.log_text();
    let line = log.lines().find(|line| line.contains("log.dir was open to other users")).unwrap();
    assert!(line.contains("WARN") && line.contains("0755"), "{line}");
    assert!(log.contains("they are 0600 now"), "{log}");

    relay.terminate().await;
    fs::write(relay.directory().join("notes.txt"), "").unwrap();
    fs::set_permissions(relay.directory(), Permissions::from_mode(0o755)).unwrap();
    relay.launch();
    assert_eq!(relay.exited().await, Some(2));
    assert!(relay.log_text().contains("name a directory of its own"), "{}", relay.log_text());
}
