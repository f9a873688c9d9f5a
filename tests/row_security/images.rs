//! What is judged is the row the WAL told of, not what became of it; and what a row image cannot answer is read by key.

use std::sync::Arc;

use relay::auth::requester::Requester;
use relay::auth::visibility::{Asked, Question, Trouble, Verdict};
use relay::model::table::Rows;
use relay::model::{Principal, Table};

use super::scene::{Scene, user};

const ANN: &str = "00000000-0000-4000-8000-00000000000a";

async fn verdict(
    scene: &Scene,
    principal: &Principal,
    table: &Arc<Table>,
    asked: Asked,
) -> Verdict {
    let Rows::Policy(policy) = &table.access[principal.role()].rows else {
        panic!("no policy applies to {principal:?}")
    };
    let question = Question::Readable {
        table: Arc::clone(table),
        policy: Arc::clone(policy),
        rows: vec![asked],
    };
    scene
        .visibility
        .judge(&Requester::of(principal), principal, &[], vec![question])
        .await
        .remove(0)
        .unwrap()[0]
}

async fn judge_one(scene: &Scene, principal: &Principal, table: &Arc<Table>, image: &str) -> bool {
    let asked = Asked { image: image.to_owned(), is_partial: false };
    verdict(scene, principal, table, asked).await == Verdict::Yes
}

#[tokio::test]
async fn a_row_that_is_gone_or_changed_is_judged_as_it_was() {
    let scene = Scene::new().await;
    scene
        .db
        .execute(
            "create table notes (id int primary key, owner uuid, body text);
             alter table notes enable row level security;
             create policy own on notes using (owner = auth.uid())",
        )
        .await;
    let notes = scene.table("notes").await;
    let ann = user("authenticated", ANN);
    let gone = format!(r#"{{"id":"1","owner":"{ANN}","body":"x"}}"#);
    assert!(judge_one(&scene, &ann, &notes, &gone).await);

    // Hers now, but not when this was written.
    scene.db.execute(&format!("insert into notes values (2, '{ANN}', 'redacted')")).await;
    let before = r#"{"id":"2","owner":null,"body":"TOP SECRET"}"#;
    assert!(!judge_one(&scene, &ann, &notes, before).await);
}

#[tokio::test]
async fn a_policy_on_system_columns_reads_the_stored_row_and_only_the_same_row() {
    let scene = Scene::new().await;
    scene
        .db
        .execute(&format!(
            "create table notes (id int primary key, owner uuid, body text, hidden text, plain json);
             alter table notes enable row level security;
             create policy own on notes using (owner = auth.uid() and xmin is not null);
             revoke select on notes from authenticated;
             grant select (id, owner, body, plain) on notes to authenticated;
             insert into notes values (1, '{ANN}', 'now', 'h', 'null'), (2, null, 'now', 'h', '{{\"a\": 1}}')"
        ))
        .await;
    let notes = scene.table("notes").await;
    let ann = user("authenticated", ANN);
    let Rows::Policy(policy) = &notes.access["authenticated"].rows else { panic!("no policy") };
    assert!(policy.reads.stored);
    for (id, owner, body, plain, expected) in [
        (1, Some(ANN), "now", "null", Verdict::Yes),
        (1, Some(ANN), "secret once", "null", Verdict::RowChanged),
        (1, Some(ANN), "now", "{}", Verdict::RowChanged),
        (2, None, "now", r#"{"a": 1}"#, Verdict::No),
        (3, Some(ANN), "now", "null", Verdict::RowChanged),
    ] {
        // Columns that the role may not read are not compared.
        let hidden = if id == 1 { "other" } else { "h" };
        let image = serde_json::json!({
            "id": id.to_string(), "owner": owner, "body": body, "hidden": hidden, "plain": plain,
        });
        let asked = Asked { image: image.to_string(), is_partial: false };
        assert_eq!(verdict(&scene, &ann, &notes, asked).await, expected, "{image}");
    }
}

#[tokio::test]
async fn a_row_with_missing_values_is_read_by_its_key() {
    let scene = Scene::new().await;
    scene
        .db
        .execute(&format!(
            "create table notes (id int, part text, long text, body text, primary key (part, id));
             alter table notes enable row level security;
             create policy own on notes using (long like (auth.jwt() ->> 'sub') || '%');
             insert into notes values (1, 'a', '{ANN} and more', 'x'), (2, 'a', 'someone else''s', 'x')"
        ))
        .await;
    let notes = scene.table("notes").await;
    let ann = user("authenticated", ANN);
    let partial = |image: &str| Asked { image: image.to_owned(), is_partial: true };
    for (image, expected) in [
        (r#"{"id":"1","part":"a","body":"x"}"#, Verdict::Yes),
        (r#"{"id":"1","part":"a","body":"y"}"#, Verdict::RowChanged),
        (r#"{"id":"2","part":"a","body":"x"}"#, Verdict::No),
    ] {
        assert_eq!(verdict(&scene, &ann, &notes, partial(image)).await, expected, "{image}");
    }

    // Mixed with whole images, answers keep their places.
    let Rows::Policy(policy) = &notes.access["authenticated"].rows else { panic!("no policy") };
    let whole = |long: &str| Asked {
        image: format!(r#"{{"id":"9","part":"b","body":"z","long":"{long}"}}"#),
        is_partial: false,
    };
    let rows = vec![
        whole(ANN),
        partial(r#"{"id":"2","part":"a","body":"x"}"#),
        whole("b"),
        partial(r#"{"id":"1","part":"a","body":"x"}"#),
    ];
    let question =
        Question::Readable { table: Arc::clone(&notes), policy: Arc::clone(policy), rows };
    let verdicts =
        scene.visibility.judge(&Requester::of(&ann), &ann, &[], vec![question]).await.remove(0);
    let [yes, no] = [Verdict::Yes, Verdict::No];
    assert_eq!(verdicts, Ok(vec![yes, no, no, yes]));
}

#[tokio::test]
async fn a_stored_row_without_a_key_is_a_failure_and_not_a_denial() {
    let scene = Scene::new().await;
    scene
        .db
        .execute(
            "create table notes (body text); alter table notes enable row level security;
             create policy own on notes using (ctid is not null)",
        )
        .await;
    let notes = scene.table("notes").await;
    let answer = scene
        .judge(&user("authenticated", ANN), &notes, &[], vec![r#"{"body":"x"}"#.to_owned()])
        .await;
    let Err(Trouble::Failed { code, message }) = answer else { panic!("{answer:?}") };
    assert_eq!(code, "0A000");
    assert!(message.contains("primary key"), "{message}");
}

#[tokio::test]
async fn a_column_left_out_of_the_publication_is_read_where_a_policy_needs_it() {
    let scene = Scene::new().await;
    scene
        .db
        .execute(&format!(
            "create table notes (id int primary key, owner uuid, body text);
             alter table notes enable row level security;
             create policy unowned on notes using (owner is null);
             alter publication supabase_realtime add table notes (id, body);
             insert into notes values (1, '{ANN}', 'x'), (2, null, 'x')"
        ))
        .await;
    let notes = scene.table("notes").await;
    let anyone = Principal::new("anon", "{}");
    for (id, expected) in [(1, Verdict::No), (2, Verdict::Yes)] {
        let image = format!(r#"{{"id":"{id}","body":"x"}}"#);
        let asked = Asked { image, is_partial: true };
        assert_eq!(verdict(&scene, &anyone, &notes, asked).await, expected, "{id}");
    }
}

#[tokio::test]
async fn policies_read_generated_columns_that_the_image_lacks() {
    let scene = Scene::new().await;
    scene
        .db
        .execute(
            r#"create table notes (id int primary key, a int, b text,
                 twice int generated always as (a * 2) stored,
                 rounded smallint generated always as (a * 1.3) stored,
                 is_big boolean generated always as (a > 10) stored,
                 padded char(4) generated always as (b) stored,
                 doc jsonb generated always as (('{"b": "' || b || '"}')::jsonb) stored);
             alter table notes enable row level security;
             create policy few on notes using (twice > 4 and is_big is false and padded = 'x' and rounded = 4 and doc ->> 'b' = 'x')"#,
        )
        .await;
    let notes = scene.table("notes").await;
    let anyone = Principal::new("anon", "{}");
    let image = |a: i32, b: &str| format!(r#"{{"id":"1","a":"{a}","b":"{b}"}}"#);
    assert!(judge_one(&scene, &anyone, &notes, &image(3, "x")).await);
    assert!(!judge_one(&scene, &anyone, &notes, &image(2, "x")).await);
    assert!(!judge_one(&scene, &anyone, &notes, &image(30, "x")).await);
    let images = vec![image(3, "x"), image(30, "x"), image(3, "y"), image(3, "x")];
    assert_eq!(scene.judge(&anyone, &notes, &[], images).await, Ok(vec![true, false, false, true]));

    let generated: Vec<usize> =
        (0..notes.columns.len()).filter(|at| notes.columns[*at].generated.is_some()).collect();
    let images = vec![image(30, "x"), r#"{"id":"2","a":null,"b":null}"#.to_owned()];
    let values = scene.visibility.generate(&notes, &generated, images).await.unwrap();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(values[0], [text("60"), text("39"), text("t"), text("x   "), text(r#"{"b": "x"}"#)]);
    assert_eq!(values[1], [None, None, None, None, None]);
}

#[tokio::test]
async fn a_partition_is_judged_by_the_table_it_is_seen_through() {
    let scene = Scene::new().await;
    scene
        .db
        .execute(
            "create table log (id int, day date, owner uuid, primary key (id, day)) partition by range (day);
             create table log_2026 (owner uuid, day date not null, id int not null);
             alter table log attach partition log_2026 for values from ('2026-01-01') to ('2027-01-01');
             alter table log enable row level security;
             create policy own on log using (owner = auth.uid());
             alter table log_2026 enable row level security;
             create policy everyone on log_2026 using (log_2026.id > 0);
             alter publication supabase_realtime add table log",
        )
        .await;
    let (parent, leaf) = (scene.table("log").await, scene.table("log_2026").await);
    assert_eq!(&*leaf.ancestors, [parent.oid]);
    assert!(parent.is_published && leaf.is_published);
    let ann = user("authenticated", ANN);
    let image = r#"{"owner":null,"day":"2026-05-01","id":"1"}"#;
    assert!(judge_one(&scene, &ann, &leaf, image).await);
    assert!(!judge_one(&scene, &ann, &parent, image).await);
}

#[tokio::test]
async fn functions_find_what_their_search_path_finds_and_schemas_need_no_usage() {
    let scene = Scene::new().await;
    scene
        .db
        .execute(&format!(
            "create schema hidden;
             create table members (who uuid);
             insert into members values ('{ANN}');
             create function is_member() returns boolean language sql stable security definer as
                 $$ select exists (select from members where who = auth.uid()) $$;
             create function hidden.is_member() returns boolean language sql stable security definer as
                 $$ select exists (select from public.members where who = auth.uid()) $$;
             create table open_notes (id int primary key);
             create table shut_notes (id int primary key);
             insert into shut_notes values (1);
             alter table open_notes enable row level security;
             alter table shut_notes enable row level security;
             create policy members on open_notes using (is_member());
             create policy members on shut_notes using (hidden.is_member())"
        ))
        .await;
    let (ann, nobody) = (user("authenticated", ANN), Principal::new("anon", "{}"));
    for name in ["open_notes", "shut_notes"] {
        let table = scene.table(name).await;
        assert!(judge_one(&scene, &ann, &table, r#"{"id":"1"}"#).await, "{name}");
        assert!(!judge_one(&scene, &nobody, &table, r#"{"id":"1"}"#).await, "{name}");
    }
}
