//! Values of types that change, or that are written unusually, as subscribers get them.

use serde_json::{Value, json};

use crate::support::relay::token;
use crate::support::{Client, Cluster, Database, Relay};

async fn start(sql: &str) -> (Database, Relay, Client) {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(sql).await;
    let relay = Relay::start(&database).await;
    let client = watch(&relay, &Value::Null).await;
    (database, relay, client)
}

async fn watch(relay: &Relay, since: &Value) -> Client {
    let mut client = Client::connect(relay, &token("anon", &json!({}))).await;
    let mut wish = json!({ "event": "*", "schema": "public", "table": "places" });
    if !since.is_null() {
        wish["since"] = since.clone();
    }
    client.subscribe("room", json!([wish])).await;
    client
}

const COMPOSITES: &str = "
    create type spot as (name text, zone int);
    create domain address as spot;
    create table places (id int primary key, spot spot, more spot[], home address);
    alter publication supabase_realtime add table places;";

/// A row whose every value is this one.
fn insert(id: i32, spot: &str) -> String {
    format!("insert into places values ({id}, {spot}, array[{spot}::spot], {spot})")
}

fn row(id: i32, spot: &Value) -> Value {
    json!({ "id": id, "spot": spot, "more": [spot], "home": spot })
}

#[tokio::test]
async fn a_composite_that_was_altered_is_an_object_of_its_new_attributes_at_once() {
    let (database, relay, mut client) = start(COMPOSITES).await;
    let mut past = Value::Null;
    for (id, alter, spot, expected) in [
        (1, "", "row('x', 2)", json!({ "name": "x", "zone": 2 })),
        (
            2,
            "alter type spot add attribute phone text",
            "row('x', 2, '08')",
            json!({ "name": "x", "zone": 2, "phone": "08" }),
        ),
        (
            3,
            "alter type spot rename attribute zone to area",
            "row('x', 2, '08')",
            json!({ "name": "x", "area": 2, "phone": "08" }),
        ),
        (
            4,
            "alter type spot drop attribute area",
            "row('x', '08')",
            json!({ "name": "x", "phone": "08" }),
        ),
    ] {
        if !alter.is_empty() {
            database.execute(alter).await;
        }
        database.execute(&insert(id, spot)).await;
        let data = client.change().await;
        assert_eq!(data["record"], row(id, &expected), "{alter}");
        if id == 1 {
            past = data["id"].clone();
        }
    }
    // In the transaction of the row itself.
    database
        .execute(&format!(
            "begin; alter type spot rename attribute phone to fax; {}; commit",
            insert(5, "row('x', '08')")
        ))
        .await;
    let now = json!({ "name": "x", "fax": "08" });
    assert_eq!(client.change().await["record"], row(5, &now));
    // What is read from the past has the number of attributes it had.
    let mut late = watch(&relay, &past).await;
    let mut spots = Vec::new();
    for id in 2..=5 {
        let data = late.change().await;
        assert_eq!(data["record"]["id"], id);
        spots.push(data["record"]["spot"].clone());
    }
    assert_eq!(spots[0].as_object().map(serde_json::Map::len), Some(3), "{spots:?}");
    assert_eq!(spots[1], json!({ "name": "x", "area": 2, "phone": "08" }));
    assert_eq!(spots[2..], [now.clone(), now]);
}

#[tokio::test]
async fn a_composite_inside_another_table_s_row_type_is_known_through_both() {
    let (database, relay, mut client) = start(
        "create table spots (name text, zone int);
         create table places (id int, spot spots, primary key (id)) partition by range (id);
         create table near partition of places for values from (0) to (10);
         alter publication supabase_realtime add table places, spots;",
    )
    .await;
    let mut of_leaf = Client::connect(&relay, &token("anon", &json!({}))).await;
    of_leaf.subscribe("leaf", json!([{ "event": "*", "schema": "public", "table": "near" }])).await;
    database.execute("insert into places values (1, row('x', 2))").await;
    for client in [&mut client, &mut of_leaf] {
        assert_eq!(client.change().await["record"]["spot"], json!({ "name": "x", "zone": 2 }));
    }
    database.execute("alter table spots rename column zone to area").await;
    database.execute("insert into places values (2, row('x', 2))").await;
    for client in [&mut client, &mut of_leaf] {
        assert_eq!(client.change().await["record"]["spot"], json!({ "name": "x", "area": 2 }));
    }
}

#[tokio::test]
async fn arrays_are_split_where_their_type_says() {
    let (database, _relay, mut client) = start(
        "create type shape;
         create function shape_in(cstring) returns shape language internal immutable strict as 'textin';
         create function shape_out(shape) returns cstring language internal immutable strict as 'textout';
         create type shape (
             input = shape_in, output = shape_out, internallength = variable, storage = extended,
             delimiter = ':');
         create domain outline as shape;
         create type sketch as (name text, shapes shape[]);
         create table places (
             id int primary key, shapes shape[], outlines outline[], sketch sketch, boxes box[],
             sketches sketch[]);
         alter publication supabase_realtime add table places;",
    )
    .await;
    database
        .execute(
            "insert into places values (
                 1, '{0101AA:0101BB}', '{{a,b:c}:{\"d:e\":NULL}}', row('x', '{a:\"b,c\"}'),
                 '{(1,1),(0,0);(2,2),(1,1)}', array[row('y', '{{a}:{b}}')::sketch])",
        )
        .await;
    assert_eq!(
        client.change().await["record"],
        json!({
            "id": 1,
            "shapes": ["0101AA", "0101BB"],
            "outlines": [["a,b", "c"], ["d:e", null]],
            "sketch": { "name": "x", "shapes": ["a", "b,c"] },
            "boxes": ["(1,1),(0,0)", "(2,2),(1,1)"],
            "sketches": [{ "name": "y", "shapes": [["a"], ["b"]] }],
        })
    );
}
