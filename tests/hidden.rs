//! What a filter must not tell of rows that whoever asks may not read.

use serde_json::{Value, json};

use crate::support::relay::token;
use crate::support::{Client, Cluster, Relay};

#[tokio::test]
async fn a_filter_tells_nothing_of_rows_that_nobody_can_judge() {
    let database = Cluster::shared().database().await.with_roles().await;
    database
        .execute(
            "create table open (id int primary key);
             create table keyless (a int);
         alter table keyless enable row level security;
         create policy small on keyless for select to anon using (a < 5);
         grant select on keyless to anon;
         create table locked (id int primary key, a int);
         alter table locked enable row level security;
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
    let mut spy = anon(json!([
        element("keyless", Some("a=gt.5")),
        element("locked", Some("a=gt.5")),
        element("open", None)
    ]))
    .await;
    let mut told = anon(json!([element("keyless", None), element("locked", None)])).await;
    database.execute("insert into keyless values (10)").await;
    database.execute("insert into locked values (1, 10)").await;
    database.execute("insert into open values (1)").await;
    let data = told.change().await;
    assert_eq!(data["errors"], json!(["Error 400: Bad Request, no primary key"]));
    assert_eq!(told.change().await["errors"], json!(["Error 401: Unauthorized"]));
    assert_eq!(spy.change().await["table"], "open");
    assert!(spy.flush().await.is_empty());
}
