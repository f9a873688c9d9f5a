//! Policies and operands are evaluated under the settings of the role in its database, values rendered under ours.

use serde_json::json;

use super::{ANN, Stand};
use crate::support::Client;
use crate::support::relay::token;

/// The database is in New York, reads dates day first, and shows little of floats.
const ELSEWHERE: &str = "
    do $$ begin
        execute format('alter database %I set timezone = %L', current_database(), 'America/New_York');
        execute format('alter database %I set datestyle = %L', current_database(), 'SQL, DMY');
        execute format('alter database %I set intervalstyle = %L', current_database(), 'sql_standard');
        execute format('alter database %I set extra_float_digits = %L', current_database(), '-12');
        execute format('alter database %I set bytea_output = %L', current_database(), 'escape');
    end $$;;";

#[tokio::test]
async fn a_policy_reads_the_clock_of_the_database() {
    let stand = Stand::new(&format!(
        "{ELSEWHERE}
         create table shifts (id int primary key, starts timestamptz);
         alter table shifts enable row level security;
         create policy mornings on shifts using (extract(hour from starts) < 12);
         alter publication supabase_realtime add table shifts"
    ))
    .await;
    let mut ann = stand.ann().await;
    stand
        .execute("insert into shifts values (1, '2026-05-01 08:00-05'), (2, '2026-05-01 20:00-05')")
        .await;
    let [seen] = stand.seen([&mut ann]).await;
    assert_eq!(seen.ids(), [1]);
    // Rendered as everywhere.
    assert_eq!(seen.values("starts"), [json!("2026-05-01T13:00:00+00:00")]);
}

#[tokio::test]
async fn every_setting_that_policies_can_see_is_the_databases() {
    let conditions = [
        ("starts::date = '2026-04-30'", true),
        ("starts::text like '30/04/2026 20:30:00 %'", true),
        ("'02/01/2026'::text::date = '2026-01-02'::date", true),
        ("ratio::text = '0.333'", true),
        ("span::text = '1 2:00:00'", true),
        ("raw::text = 'a\\000'", true),
        ("current_setting('TimeZone') = 'America/New_York'", true),
        ("extract(hour from starts) = 0", false),
    ];
    let mut tables = String::new();
    for (number, (condition, _)) in conditions.iter().enumerate() {
        tables.push_str(&format!(
            "create table t{number} (id int primary key, starts timestamptz, ratio float8, span interval, raw bytea);
             alter table t{number} enable row level security;
             create policy p on t{number} using ({condition});
             alter publication supabase_realtime add table t{number};"
        ));
    }
    let stand = Stand::new(&format!("{ELSEWHERE}{tables}")).await;
    let mut ann = stand.ann().await;
    for number in 0..conditions.len() {
        stand
            .execute(&format!(
                "insert into t{number} values ({number}, '2026-05-01 00:30+00', 1/3.0, '1 day 2 hours', 'a\\000')"
            ))
            .await;
    }
    let [seen] = stand.seen([&mut ann]).await;
    let expected: Vec<i64> =
        (0..).zip(conditions).filter(|(_, (_, is_shown))| *is_shown).map(|(at, _)| at).collect();
    assert_eq!(seen.ids(), expected);
    assert_eq!(seen.changes[0]["record"]["ratio"], json!(1.0 / 3.0));
}

#[tokio::test]
async fn the_most_specific_setting_counts_and_a_new_one_is_noticed() {
    let stand = Stand::new(&format!(
        "{ELSEWHERE}
         create table shifts (id int primary key, zone text);
         alter table shifts enable row level security;
         create policy here on shifts using (current_setting('TimeZone') = zone);
         alter publication supabase_realtime add table shifts"
    ))
    .await;
    let mut ann = stand.ann().await;
    let all = |first: i32| {
        format!(
            "insert into shifts values ({first}, 'America/New_York'), ({}, 'Asia/Tokyo'), ({}, 'Europe/Oslo')",
            first + 1,
            first + 2
        )
    };
    stand.execute(&all(1)).await;
    assert_eq!(stand.seen([&mut ann]).await[0].ids(), [1]);
    let set = "do $$ begin execute format('alter role authenticated in database %I set timezone = %L', current_database(), 'Europe/Oslo'); end $$";
    stand.execute(set).await;
    stand.execute(&all(11)).await;
    assert_eq!(stand.seen([&mut ann]).await[0].ids(), [13]);
}

#[tokio::test]
async fn a_snapshot_is_filtered_under_their_settings_and_rendered_under_ours() {
    let stand = Stand::new(&format!(
        "{ELSEWHERE}
         create table shifts (id int primary key, starts timestamptz, ratio float8, raw bytea);
         alter table shifts enable row level security;
         create policy mornings on shifts using (extract(hour from starts) < 12 and starts::text like '01/05/2026 %');
         insert into shifts select n, '2026-05-01 00:00-04'::timestamptz + n * interval '1 hour', 1/3.0, 'a\\000'
         from generate_series(0, 23) as n;
         alter publication supabase_realtime add table shifts"
    ))
    .await;
    let mut ann =
        Client::connect(&stand.relay, &token("authenticated", &json!({ "sub": ANN }))).await;
    let snapshot = json!({ "limit": 100, "order": "id" });
    ann.subscribe("room", json!([{ "event": "*", "schema": "public", "table": "shifts", "snapshot": snapshot }, { "event": "*", "schema": "public", "table": "marker" }])).await;
    ann.find("the end of the snapshot", |received| received.payload.get("snapshot").is_some())
        .await;
    let [seen] = stand.seen([&mut ann]).await;
    assert_eq!(seen.ids(), (0..12).collect::<Vec<_>>());
    for (hour, data) in seen.changes.iter().enumerate() {
        let record = &data["record"];
        assert_eq!(record["starts"], json!(format!("2026-05-01T{:02}:00:00+00:00", hour + 4)));
        assert_eq!((&record["ratio"], &record["raw"]), (&json!(1.0 / 3.0), &json!("6100")));
    }
}

#[tokio::test]
async fn what_a_policy_leaves_behind_is_gone_for_the_next_judgement() {
    let stand = Stand::new(
        "create function seen_before() returns boolean language plpgsql as $$
         declare is_first boolean := coalesce(current_setting('app.seen', true), '') = '';
         begin
             perform set_config('app.seen', 'yes', false);
             perform pg_advisory_lock(7);
             return is_first;
         end $$;
         create table notes (id int primary key);
         alter table notes enable row level security;
         create policy first on notes using ((select seen_before()));
         alter publication supabase_realtime add table notes",
    )
    .await;
    let (mut ann, mut bob) = (stand.ann().await, stand.bob().await);
    for id in 1..=8 {
        stand.execute(&format!("insert into notes values ({id})")).await;
        let [of_ann, of_bob] = stand.seen([&mut ann, &mut bob]).await;
        assert_eq!((of_ann.ids(), of_bob.ids()), (vec![id], vec![id]));
    }
    let locks =
        "select count(*)::text from pg_locks as l join pg_database as d on d.oid = l.database
        where l.locktype = 'advisory' and d.datname = current_database() and l.objid = 7";
    assert_eq!(stand.database.text(locks).await, "0");
}
