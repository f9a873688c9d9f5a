//! Tables that are dropped and made again under their name.

use serde_json::json;

use super::{ANN, Stand};

const NOTES: &str = "
    create table notes (id int primary key, owner uuid, twice int generated always as (id * 2) stored);
    alter table notes enable row level security;
    create policy own on notes using (owner = auth.uid() and twice > 0);
    alter publication supabase_realtime add table notes;";

#[tokio::test]
async fn rows_of_a_table_made_again_are_judged_and_hold_nothing_up() {
    let stand = Stand::new(&format!("create table other (id int primary key); alter publication supabase_realtime add table other; {NOTES}")).await;
    let (mut ann, mut bob) = (stand.ann().await, stand.bob().await);
    let mut expected = Vec::new();
    for round in 0..6 {
        let first = round * 10;
        for id in first..first + 4 {
            stand
                .execute(&format!(
                    "insert into notes values ({id}, '{ANN}'); insert into other values ({id})"
                ))
                .await;
            expected.push(i64::from(id));
        }
        let again = format!("drop table notes; {NOTES}");
        // In one transaction, and in two.
        let again = if round % 2 == 0 { format!("begin;{again}commit") } else { again };
        stand.execute(&again).await;
        let [of_ann, of_bob] = stand.seen([&mut ann, &mut bob]).await;
        let of = |table: &str| -> Vec<i64> {
            let own = of_ann.changes.iter().filter(|data| data["table"] == table);
            own.map(|data| data["record"]["id"].as_i64().unwrap()).collect()
        };
        assert_eq!(of("other"), expected[expected.len() - 4..]);
        // What a table held that is gone before it was judged may be told instead.
        let notes = of("notes");
        let is_told = !of_ann.troubles.is_empty();
        assert!(notes.iter().all(|id| i64::from(first) <= *id), "{notes:?}");
        assert!(is_told || expected.ends_with(&notes) && notes.len() + 1 >= 4, "{of_ann:?}");
        assert!(of_bob.changes.iter().all(|data| data["table"] == "other"), "{of_bob:?}");
        expected.clear();
    }
    // The table of now is judged as any other.
    stand.execute(&format!("insert into notes values (100, '{ANN}'), (0, '{ANN}')")).await;
    let [of_ann, of_bob] = stand.seen([&mut ann, &mut bob]).await;
    assert_eq!(of_ann.changes.len(), 1, "{of_ann:?}");
    assert_eq!(of_ann.changes[0]["record"], json!({ "id": 100, "owner": ANN, "twice": 200 }));
    of_bob.assert_nothing();
}

#[tokio::test]
async fn a_policy_on_the_whole_row_outlives_its_table() {
    let whole = "create table notes (id int primary key, owner uuid);
        create function sees(notes) returns boolean language sql stable as $$ select $1.owner = auth.uid() $$;
        alter table notes enable row level security;
        create policy own on notes using (sees(notes));
        alter publication supabase_realtime add table notes;";
    let stand = Stand::new(whole).await;
    let mut ann = stand.ann().await;
    for round in 1..=3 {
        stand.execute(&format!("insert into notes values ({round}, '{ANN}')")).await;
        let [seen] = stand.seen([&mut ann]).await;
        assert_eq!(seen.values("id"), [json!(round)], "{seen:?}");
        stand.execute(&format!("drop table notes cascade; {whole}")).await;
    }
}
