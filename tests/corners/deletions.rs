//! Who learns of a deletion.

use serde_json::{Value, json};

use super::{ANN, BOB, Seen, Stand};

fn old(seen: &Seen) -> Vec<Value> {
    assert!(seen.troubles.is_empty(), "{seen:?}");
    seen.changes.iter().map(|data| data["old_record"].clone()).collect()
}

#[tokio::test]
async fn a_deletion_is_judged_on_what_the_log_has_of_the_row() {
    let stand = Stand::new(&format!(
        "create table whole (id int primary key, owner uuid);
         create table part (id int primary key, owner uuid);
         create table keyed (owner uuid, id int, primary key (owner, id));
         create table nobodys (id int primary key);
         create table members (id int primary key);
         alter table whole enable row level security, replica identity full;
         alter table part enable row level security;
         alter table keyed enable row level security;
         alter table nobodys enable row level security;
         alter table members enable row level security;
         create policy own on whole using (owner = auth.uid());
         create policy own on part using (owner = auth.uid());
         create policy own on keyed using (owner = auth.uid());
         create policy ann on members using (auth.uid() = '{ANN}');
         alter publication supabase_realtime add table whole, part, keyed, nobodys, members;;
         insert into whole values (1, '{ANN}');
         insert into part values (2, '{ANN}');
         insert into keyed values ('{ANN}', 3);
         insert into nobodys values (4);
         insert into members values (5)"
    ))
    .await;
    let (mut ann, mut bob) = (stand.ann().await, stand.bob().await);
    stand.execute("delete from whole; delete from part; delete from keyed; delete from nobodys; delete from members").await;
    let [of_ann, of_bob] = stand.seen([&mut ann, &mut bob]).await;
    let whole = json!({ "id": 1, "owner": ANN });
    let keyed = json!({ "owner": ANN, "id": 3 });
    assert_eq!(old(&of_ann), [whole, json!({ "id": 2 }), keyed, json!({ "id": 5 })]);
    // Only where the key does not say whose row it was, it is told to others.
    assert_eq!(old(&of_bob), [json!({ "id": 2 })]);
}

#[tokio::test]
async fn an_old_key_is_not_shown_of_a_row_that_could_not_be_read() {
    let stand = Stand::new(&format!(
        "create table notes (id int primary key, owner uuid);
         alter table notes enable row level security, replica identity full;
         create policy own on notes using (owner = auth.uid());
         alter publication supabase_realtime add table notes;;
         insert into notes values (1, '{BOB}')"
    ))
    .await;
    let mut ann = stand.ann().await;
    stand.execute(&format!("update notes set id = 7, owner = '{ANN}'")).await;
    stand.execute("update notes set id = 8").await;
    let [seen] = stand.seen([&mut ann]).await;
    assert_eq!(old(&seen), [json!({}), json!({ "id": 7, "owner": ANN })]);
    assert_eq!(seen.ids(), [7, 8]);
}
