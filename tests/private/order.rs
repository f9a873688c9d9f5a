//! In which order a topic's past is told: as it was sent.

use serde_json::json;

use crate::support::relay::token_of;
use crate::support::{Client, Cluster, Database, Relay};

const OPEN: &str = "create policy r on realtime.messages for select to authenticated using (true)";

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await.with_realtime();
    database.execute(OPEN).await;
    database
}

/// The events of a topic's past.
async fn past(relay: &Relay, topic: &str, limit: u32) -> Vec<String> {
    let mut client = Client::connect(relay, &token_of("ann")).await;
    let replay = json!({ "since": 0, "limit": limit });
    let config = json!({ "private": true, "broadcast": { "replay": replay } });
    let reply = client.join(topic, json!({ "config": config })).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    let heard = client.flush().await;
    // What is still on its way from the log is told as what is live.
    let replayed = heard.iter().filter(|received| received.payload["meta"]["replayed"] == true);
    replayed.map(|received| received.payload["event"].as_str().unwrap().to_owned()).collect()
}

fn numbers(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Everything that puts messages there, one after the other.
const SENT: &str = "
    select realtime.send('{}', '1', 'room');
    select realtime.send_binary('\\x01', '2', 'room');
    insert into realtime.messages (topic, extension, event, payload, private)
      values ('room', 'broadcast', '3', '{}', true);
    do $$ begin
      perform realtime.send(jsonb_build_object('long', repeat(md5('4'), 200)), '4', 'room');
      perform realtime.send_binary(decode(repeat(md5('5'), 100), 'hex'), '5', 'room');
    end $$;
    insert into things select generate_series(6, 12);
    savepoint s;
    select realtime.send('{}', 'undone', 'room');
    rollback to s;
    select realtime.send('{}', n::text, 'room') from generate_series(13, 20) n;
    insert into realtime.messages (topic, extension, event, payload, private)
      select 'room', 'broadcast', n::text, '{}', true from generate_series(21, 24) n;
    select realtime.send('{}', '25', 'room');";

const THINGS: &str = "
    create table things (id int primary key);
    create function announce() returns trigger language plpgsql as $$
    begin
      perform realtime.broadcast_changes('room', new.id::text, tg_op, tg_table_name, tg_table_schema, new, old);
      return null;
    end $$;
    create trigger announce after insert on things for each row execute function announce();";

#[tokio::test]
async fn messages_of_one_transaction_come_as_they_were_sent() {
    let database = database().await;
    database.execute(THINGS).await;
    let relay = Relay::start(&database).await;
    database.execute(&format!("begin; {SENT} commit")).await;
    for (limit, expected) in [(25, numbers(1..=25)), (5, numbers(21..=25)), (13, numbers(13..=25))]
    {
        assert_eq!(past(&relay, "room", limit).await, expected, "{limit}");
    }
    // Transactions that began one after the other.
    database.execute("begin; select realtime.send('{}', '26', 'room'); commit").await;
    assert_eq!(past(&relay, "room", 3).await, numbers(24..=26));
}

#[tokio::test]
async fn what_postgres_had_room_for_elsewhere_changes_no_order() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let fill = "insert into realtime.messages (topic, extension, event, payload, private)
                select 'other', 'broadcast', 'x', '{}', true from generate_series(1, 5000)";
    // Room in the middle of the table, of which new rows may take some.
    database.execute(&format!("{fill}; begin; {fill}; rollback; {fill}")).await;
    database.execute("vacuum realtime.messages").await;
    database
        .execute(
            "begin;
             select realtime.send(jsonb_build_object('a', repeat(md5(n::text), n * n % 60)), n::text, 'room')
             from generate_series(1, 60) n;
             commit",
        )
        .await;
    assert_eq!(past(&relay, "room", 25).await, numbers(36..=60));
}

#[tokio::test]
async fn transactions_side_by_side_keep_each_their_own_order() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let (one, other) = (database.connect().await, database.connect().await);
    one.batch_execute("begin; select realtime.send('{}', 'a1', 'room')").await.unwrap();
    other.batch_execute("begin; select realtime.send('{}', 'b1', 'room')").await.unwrap();
    other.batch_execute("select realtime.send('{}', 'b2', 'room'); commit").await.unwrap();
    one.batch_execute("select realtime.send('{}', 'a2', 'room'); commit").await.unwrap();
    // The transaction that began first comes first, whole.
    assert_eq!(past(&relay, "room", 25).await, ["a1", "a2", "b1", "b2"]);
}

/// What `relay migrate` made before.
const OLDER: &str = "
    create or replace function realtime.replay(of_topic text, since timestamp, at_most integer)
    returns table (id uuid, event text, payload jsonb, binary_payload bytea)
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as $function$
      select found.id, found.event, found.payload, found.binary_payload
      from (
        select m.id, m.event, m.payload, m.binary_payload, m.inserted_at
        from realtime.messages m
        where m.topic = of_topic and m.private and m.extension = 'broadcast'
          and m.inserted_at >= since and m.inserted_at < timezone('utc', now()) + interval '1 minute'
        order by m.inserted_at desc, m.id desc
        limit at_most
      ) as found
      order by found.inserted_at, found.id
    $function$";

#[tokio::test]
async fn a_database_that_was_migrated_before_is_mended_while_it_is_written_to() {
    let database = database().await;
    database.execute(OLDER).await;
    let relay = Relay::start(&database).await;
    let send = "select realtime.send('{}', n::text, 'room') from generate_series(1, 12) n";
    database.execute(send).await;
    let writer = database.connect().await;
    writer.batch_execute("begin; select realtime.send('{}', '13', 'room')").await.unwrap();
    database.with_realtime_again();
    writer.batch_execute("commit").await.unwrap();
    // What was sent before is in order as well.
    assert_eq!(past(&relay, "room", 25).await, numbers(1..=13));
}
