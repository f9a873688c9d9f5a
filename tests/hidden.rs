//! What a filter must not tell of rows that whoever asks may not read.

use serde_json::{Value, json};

use crate::support::relay::token;
use crate::support::{Client, Cluster, Relay};

#[tokio::test]
async fn a_row_that_cannot_be_shown_is_told_to_those_who_may_read_it() {
    let database = Cluster::shared().database().await.with_roles().await;
    database
        .execute(
            "create table open (id int primary key);
             create table keyless (a int);
         alter table keyless enable row level security;
         create policy small on keyless for select to anon using (a < 15);
         grant select on keyless to anon;
         create table locked (id int primary key, a int);
         alter table locked enable row level security;
         create policy small on locked for select to anon using (a < 15);
         revoke all on locked from anon;
         grant select (a) on locked to anon;
         alter publication supabase_realtime add table open, keyless, locked;",
        )
        .await;
    let relay = Relay::start(&database).await;
    let element = |table: &str, filter: Option<&str>| {
        let mut element = json!({ "event": "*", "schema": "public", "table": table });
        element["filter"] = filter.map_or(Value::Null, Value::from);
        element
    };
    let anon = async |elements: Value| {
        let mut client = Client::connect(&relay, &token("anon", &json!({}))).await;
        client.subscribe("room", elements).await;
        client
    };
    let mut filtered = anon(json!([
        element("keyless", Some("a=gt.5")),
        element("locked", Some("a=gt.5")),
        element("open", None)
    ]))
    .await;
    let all = [element("keyless", None), element("locked", None), element("open", None)];
    let mut told = anon(json!(all)).await;
    // That a row which may be read cannot be shown is told; of a hidden one nothing is.
    for (a, is_readable) in [(10, true), (20, false), (30, false)] {
        database.execute(&format!("insert into keyless values ({a})")).await;
        database.execute(&format!("insert into locked values ({a}, {a})")).await;
        database.execute(&format!("insert into open values ({a})")).await;
        for client in [&mut filtered, &mut told] {
            if is_readable {
                let data = client.change().await;
                assert_eq!(data["errors"], json!(["Error 400: Bad Request, no primary key"]));
                assert_eq!(client.change().await["errors"], json!(["Error 401: Unauthorized"]));
            }
            assert_eq!(client.change().await["table"], "open");
            assert!(client.flush().await.is_empty());
        }
    }
}
