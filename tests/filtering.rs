//! Filters and names, seen from outside: what they let through, and what a bad one does.

use serde_json::{Value, json};

use crate::support::relay::token;
use crate::support::{Client, Cluster, Database, Relay};

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database
        .execute(
            "create table items (id int primary key, name varchar(40), rank numeric, code char(5), raw bytea);
             create table whole (id int primary key, name text);
             alter table whole replica identity full;
             create table a_b (id int primary key);
             create table axb (id int primary key);
             create table unpublished (id int primary key);
             alter publication supabase_realtime add table items, whole, a_b, axb;",
        )
        .await;
    database
}

fn on(table: &str, filter: &str) -> Value {
    json!({ "event": "*", "schema": "public", "table": table, "filter": filter })
}

async fn anon(relay: &Relay) -> Client {
    Client::connect(relay, &token("anon", &json!({}))).await
}

#[tokio::test]
async fn each_client_gets_what_its_own_filter_lets_through() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let filters = [
        "id=eq.2",
        "rank=eq.1.5",
        "name=like.b%",
        "id=in.(1,3)",
        "id=not.in.(1,3)",
        "code=eq.cow",
        "raw=eq.0102",
    ];
    let expected: [&[i32]; 7] = [&[2], &[1, 2], &[2], &[1, 3], &[2, 4], &[3], &[4]];
    let mut client = anon(&relay).await;
    for (place, filter) in filters.iter().enumerate() {
        client.subscribe(&format!("room-{place}"), json!([on("items", filter)])).await;
    }
    client.subscribe("all", json!([on("items", "")])).await;
    database
        .execute(
            r"insert into items values
              (1, 'abc', 1.50, 'cat', '\x01'), (2, 'bcd', 1.5, 'dog', null), (3, null, 2, 'cow', null),
              (4, 'xyz', null, 'c', '\x0102')",
        )
        .await;
    let mut seen = vec![Vec::new(); filters.len()];
    let mut total = 0;
    while total < 4 {
        let received = client.expect("postgres_changes").await;
        let id = i32::try_from(received.payload["data"]["record"]["id"].as_i64().unwrap()).unwrap();
        match received.topic.strip_prefix("realtime:room-") {
            Some(place) => seen[place.parse::<usize>().unwrap()].push(id),
            None => total += 1,
        }
    }
    for received in client.flush().await {
        let place: usize = received.topic.strip_prefix("realtime:room-").unwrap().parse().unwrap();
        seen[place].push(
            i32::try_from(received.payload["data"]["record"]["id"].as_i64().unwrap()).unwrap(),
        );
    }
    for (place, ids) in seen.iter().enumerate() {
        assert_eq!(ids, expected[place], "{}", filters[place]);
    }
}

#[tokio::test]
async fn an_update_is_told_when_it_enters_a_filter_and_not_when_it_leaves() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut client = anon(&relay).await;
    client.subscribe("room", json!([on("whole", "name=eq.in")])).await;
    database.execute("insert into whole values (1, 'out')").await;
    database.execute("update whole set name = 'in'").await;
    database.execute("update whole set name = 'out'").await;
    database.execute("update whole set name = 'in', id = 2").await;
    let data = client.change().await;
    assert_eq!((&data["type"], &data["record"]["id"]), (&json!("UPDATE"), &json!(1)));
    assert_eq!(client.change().await["record"]["id"], 2);
}

#[tokio::test]
async fn a_delete_is_filtered_on_what_the_old_row_tells() {
    let database = database().await;
    database.execute("insert into items values (1, 'x'), (2, 'y'); insert into whole values (1, 'x'), (2, 'y')").await;
    let relay = Relay::start(&database).await;
    let mut client = anon(&relay).await;
    let wishes =
        json!([on("items", "id=eq.1"), on("items", "name=is.null"), on("whole", "name=eq.y")]);
    client.subscribe("room", wishes).await;
    database.execute("delete from items; delete from whole").await;
    assert_eq!(client.change().await["old_record"], json!({ "id": 1 }));
    assert_eq!(client.change().await["old_record"], json!({ "id": 2, "name": "y" }));
    assert!(client.flush().await.is_empty());
}

/// What each filter on `table` lets through of `statements`, as (event, id) in order.
async fn told(
    database: &Database,
    filters: &[String],
    table: &str,
    statements: &[&str],
) -> Vec<Vec<(String, i64)>> {
    let relay = Relay::start(database).await;
    let mut client = anon(&relay).await;
    for (place, filter) in filters.iter().enumerate() {
        // A channel's changes are in order; what one has to wait for, another has not.
        client.subscribe(&place.to_string(), json!([on(table, filter), on("whole", "")])).await;
    }
    for statement in statements {
        database.execute(statement).await;
    }
    database.execute("insert into whole values (1)").await;
    let mut told = vec![Vec::new(); filters.len()];
    let mut left = filters.len();
    while left != 0 {
        let received = client.expect("postgres_changes").await;
        let topic = received.topic.strip_prefix("realtime:").unwrap();
        let data = &received.payload["data"];
        if data["table"] == "whole" {
            left -= 1;
            continue;
        }
        let row = if data["type"] == "DELETE" { &data["old_record"] } else { &data["record"] };
        let event = data["type"].as_str().unwrap().to_owned();
        told[topic.parse::<usize>().unwrap()].push((event, row["id"].as_i64().unwrap()));
    }
    told
}

#[tokio::test]
async fn every_operator_acts_on_inserts_updates_and_deletes() {
    let database = database().await;
    database
        .execute(
            "create table ops (id int primary key, n int, word text, ok bool, more int);
             alter table ops replica identity full;
             alter publication supabase_realtime add table ops;",
        )
        .await;
    let insert = "insert into ops values
        (1, 10, 'apple', true), (2, 20, 'Banana', false), (3, 30, 'cherry', null), (4, null, null, true)";
    let cases = [
        ("n", "eq.10", "n = 10"),
        ("n", "neq.10", "n <> 10"),
        ("n", "lt.20", "n < 20"),
        ("n", "lte.20", "n <= 20"),
        ("n", "gt.20", "n > 20"),
        ("n", "gte.20", "n >= 20"),
        ("n", "in.(10,30)", "n in (10, 30)"),
        ("word", "like.%an%", "word like '%an%'"),
        ("word", "ilike.B%", "word ilike 'B%'"),
        ("ok", "is.true", "ok is true"),
        ("word", "match.^[a-c]", "word ~ '^[a-c]'"),
        ("word", "imatch.^[a-b]", "word ~* '^[a-b]'"),
        ("n", "isdistinct.10", "n is distinct from 10"),
    ];
    let (mut filters, mut conditions) = (Vec::new(), Vec::new());
    for (column, condition, sql) in cases {
        filters.extend([format!("{column}={condition}"), format!("{column}=not.{condition}")]);
        conditions.extend([sql.to_owned(), format!("not ({sql})")]);
    }
    // The judge has rows of its own, so that the relay is told of all of them.
    database.execute("create table judge (like ops)").await;
    database.execute(&insert.replace("ops", "judge")).await;
    let statements = [insert, "update ops set more = 1", "delete from ops"];
    let told = told(&database, &filters, "ops", &statements).await;
    for ((filter, condition), told) in filters.iter().zip(conditions).zip(told) {
        let sql = format!("select id from judge where {condition} order by id");
        let ids: Vec<i32> = database.query(&sql).await.iter().map(|row| row.get(0)).collect();
        assert!(!ids.is_empty() && ids.len() < 4, "{filter}: {ids:?}");
        let events = ["INSERT", "UPDATE", "DELETE"];
        let expected: Vec<_> = events
            .iter()
            .flat_map(|event| ids.iter().map(|id| ((*event).to_owned(), i64::from(*id))))
            .collect();
        assert_eq!(told, expected, "{filter}");
    }
}

#[tokio::test]
async fn who_filters_by_a_generated_column_that_cannot_be_computed_is_told() {
    let database = Cluster::shared().database().await.with_roles().await;
    let sql = "create function twice(a int) returns int immutable language plpgsql as $$ begin
           if session_user = 'relay' then raise exception 'not for relays'; end if;
           return a * 2;
         end $$;
         create table sums (id int primary key, a int, twice int generated always as (twice(a)) stored);
         alter publication supabase_realtime add table sums;";
    database.execute(sql).await;
    let relay = Relay::start(&database).await;
    let mut by_twice = anon(&relay).await;
    let mut by_a = anon(&relay).await;
    by_twice.subscribe("room", json!([on("sums", "twice=gte.4")])).await;
    by_a.subscribe("room", json!([on("sums", "a=gte.2")])).await;
    database.execute("insert into sums values (2, 2)").await;
    assert_eq!(by_a.change().await["record"], json!({ "id": 2, "a": 2 }));
    let told = by_twice.expect("system").await;
    assert_eq!(told.payload["status"], "error");
    let message = told.payload["message"].as_str().unwrap();
    assert!(message.starts_with("Changes of public.sums are withheld"), "{message}");
    assert!(by_a.flush().await.is_empty(), "it has what it asked for");
    assert!(relay.metric("relay_withheld_total{reason=\"check_failed\"}") >= 1.0);
}

#[tokio::test]
async fn null_passes_only_what_asks_for_it_and_all_conditions_must_hold() {
    let database = database().await;
    let cases: [(&str, &[i64]); 15] = [
        ("name=eq.abc", &[1]),
        ("name=neq.abc", &[]),
        ("name=not.eq.abc", &[]),
        ("name=isdistinct.abc", &[2]),
        ("name=not.isdistinct.abc", &[1]),
        ("name=is.null", &[2]),
        ("name=not.is.null", &[1]),
        ("name=in.(abc,NULL)", &[1]),
        ("name=not.in.(xyz)", &[1]),
        ("name=not.in.(xyz,NULL)", &[]),
        ("name=in.()", &[]),
        ("id=gt.0,name=like.a%", &[1]),
        ("id=gt.1,name=like.a%", &[]),
        ("id=gt.1,name=is.null,id=lt.3", &[2]),
        (r#"name=eq."abc",id=in.(1,2)"#, &[1]),
    ];
    let filters = cases.map(|(filter, _)| filter.to_owned());
    let insert = "insert into items values (1, 'abc'), (2, null)";
    let told = told(&database, &filters, "items", &[insert]).await;
    for ((filter, ids), told) in cases.into_iter().zip(told) {
        let expected: Vec<_> = ids.iter().map(|id| ("INSERT".to_owned(), *id)).collect();
        assert_eq!(told, expected, "{filter}");
    }
}

#[tokio::test]
async fn a_pattern_that_costs_too_much_to_follow_means_what_it_means_to_postgres() {
    let database = database().await;
    database
        .execute(
            "create table texts (id int primary key, name text);
             alter publication supabase_realtime add table texts;",
        )
        .await;
    let far = |last: &str| format!("%{}{last}%", "_".repeat(3_000));
    let cases: [(String, &[i64]); 6] = [
        (format!("name=like.{}", far("Z")), &[2]),
        (format!("name=not.like.{}", far("Z")), &[1]),
        (format!("name=ilike.{}", far("z")), &[2]),
        (format!("name=like.{}", far("b")), &[]),
        ("name=match.(a|b)*a(a|b){90}Z$".to_owned(), &[2]),
        ("name=not.imatch.(a|b)*a(a|b){90}z$".to_owned(), &[1]),
    ];
    let filters = cases.clone().map(|(filter, _)| filter);
    let insert = "insert into texts values
                  (1, repeat('a', 8000)), (2, repeat('a', 8000) || 'Z'), (3, null)";
    let told = told(&database, &filters, "texts", &[insert]).await;
    for ((filter, ids), told) in cases.into_iter().zip(told) {
        let expected: Vec<_> = ids.iter().map(|id| ("INSERT".to_owned(), *id)).collect();
        assert_eq!(told, expected, "{filter}");
    }
}

async fn refusal(client: &mut Client, wishes: Value) -> String {
    let reply = client.join("refused", json!({ "config": { "postgres_changes": wishes } })).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    let system = client.expect("system").await;
    assert_eq!(system.payload["status"], "error");
    assert_eq!(system.payload["extension"], "postgres_changes");
    assert_eq!(system.payload["channel"], "refused");
    system.payload["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_bad_wish_is_told_once_disables_its_channel_and_nothing_else() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut client = anon(&relay).await;
    client.subscribe("good", json!([on("items", "")])).await;
    let cases = [
        (on("items", "nothere=eq.1"), "invalid column for filter nothere"),
        (on("items", "id=eq.hey"), "22P02 (invalid_text_representation)"),
        (on("items", "id=foo.hey"), r#"Error parsing `filter` params: ["foo", "hey"]"#),
        (on("items", "id=is.maybe"), "must be null, true, false, or unknown"),
        (on("items", "name=match.("), "invalid regular expression"),
        (
            on("unpublished", ""),
            "Please check Realtime is enabled for the given connect parameters: [event: *, schema: public, table: unpublished, filters: [], select: nil]",
        ),
        (on("a%", ""), "Please check Realtime is enabled"),
        (
            json!({ "event": "*", "schema": "public", "table": "items", "select": ["nothere"] }),
            "invalid column for select nothere",
        ),
        (
            json!({ "event": "*", "schema": "public", "table": "items", "select": "id" }),
            r#"Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]"#,
        ),
        (
            json!({ "event": "*", "schema": "public", "select": ["id"] }),
            "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name.",
        ),
        (json!({ "event": "*" }), "No subscription params provided"),
    ];
    for (wish, text) in cases {
        let said = refusal(&mut client, json!([wish.clone(), on("items", "")])).await;
        assert!(said.contains(text), "{wish}: {said}");
    }
    database.execute("insert into items values (1)").await;
    let received = client.expect("postgres_changes").await;
    assert_eq!(received.topic, "realtime:good");
    // Each join replaced the one before it, which was told so.
    assert!(client.flush().await.iter().all(|received| received.event == "phx_close"));
}

#[tokio::test]
async fn table_names_are_exact() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut client = anon(&relay).await;
    client.subscribe("room", json!([on("a_b", "")])).await;
    database.execute("insert into axb values (1); insert into a_b values (2)").await;
    assert_eq!(client.change().await["table"], "a_b");
    assert!(client.flush().await.is_empty());
}

#[tokio::test]
async fn a_filter_that_stops_applying_harms_only_itself() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut client = anon(&relay).await;
    client.subscribe("filtered", json!([on("whole", "name=gt.a")])).await;
    client.subscribe("open", json!([on("whole", "")])).await;
    database.execute("alter table whole alter name type jsonb using to_jsonb(name)").await;
    database.execute("insert into whole values (1, '{}')").await;
    let received = client.find("the open channel's row", |m| {
        m.event == "postgres_changes" && m.topic == "realtime:open"
    });
    assert_eq!(received.await.payload["data"]["record"]["id"], 1);
    let told = client
        .find("word on the filter", |m| m.event == "system" && m.topic == "realtime:filtered");
    assert_eq!(told.await.payload["status"], "error");
}
