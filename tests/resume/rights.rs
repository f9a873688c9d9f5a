//! What a client was away from is judged by the rights there are when it joins, not by those of a second before.

use serde_json::{Value, json};

use super::{ids, insert, prepare, until, until_row, wishes};
use crate::support::relay::token;
use crate::support::{Client, Relay};

#[tokio::test(flavor = "multi_thread")]
async fn rights_taken_away_just_before_a_join_count_for_what_it_is_shown() {
    let database = prepare().await;
    database
        .execute(
            "alter table notes enable row level security;
             create policy own on notes for select to authenticated using (true)",
        )
        .await;
    let relay = Relay::start(&database).await;
    let ann = token("authenticated", &json!({ "sub": "ann" }));
    let mut watcher = Client::connect(&relay, &ann).await;
    watcher.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 1..=5).await;
    let since = until_row(&mut watcher, 5).await[0]["id"].clone();
    let everywhere = json!([{ "event": "*", "schema": "public", "since": since }]);
    let named = wishes(&since);
    // What is asked for, what is taken away, what is given back, and what a select shows meanwhile.
    let policy =
        ["alter policy own on notes using (id > 3)", "alter policy own on notes using (true)"];
    let grant =
        ["revoke select on notes from authenticated", "grant select on notes to authenticated"];
    for (round, (wish, [take, give], expected)) in [
        (&named, policy, vec![4, 5]),
        (&everywhere, policy, vec![4, 5]),
        (&named, grant, vec![]),
        (&everywhere, grant, vec![]),
        (&named, policy, vec![4, 5]),
        (&everywhere, policy, vec![4, 5]),
    ]
    .into_iter()
    .enumerate()
    {
        // Everything is known, and in use, as it was.
        let mut before = Client::connect(&relay, &ann).await;
        before.subscribe("before", wish.clone()).await;
        assert_eq!(ids(&until_row(&mut before, 5).await), [2, 3, 4, 5], "{round}");
        let mut client = Client::connect(&relay, &ann).await;
        let caught_up = relay.metric("relay_caught_up_total");
        database.execute(take).await;
        client.subscribe("after", wish.clone()).await;
        until("it to have caught up", || async {
            (caught_up < relay.metric("relay_caught_up_total")).then_some(())
        })
        .await;
        let received = client.flush().await;
        let rows: Vec<_> = received
            .iter()
            .filter(|message| message.event == "postgres_changes")
            // A change without a readable key comes without its row.
            .filter_map(|message| message.payload["data"]["record"]["id"].as_i64())
            .collect();
        assert_eq!(rows, expected, "{take} {wish}");
        database.execute(give).await;
    }
}
