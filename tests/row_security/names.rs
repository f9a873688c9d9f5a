//! The text of a policy, parsed again, never means more than the policy does.

use relay::auth::visibility::Trouble;
use relay::model::Principal;

use super::scene::{Scene, Setup};
use crate::support::Cluster;

const NOTES: &str = "create table notes (id int primary key, readers text[]);
    insert into notes values (1, '{ann}');
    alter table notes enable row level security;";

/// Ann reads the note that is there, Eve does not; who reads an image that is not in the table is told.
async fn assert_only_ann_reads(scene: &Scene, reads_deleted: bool, why: &str) {
    let notes = scene.table("notes").await;
    for (sub, is_ann) in [("ann", true), ("eve", false)] {
        let principal = Principal::new("anon", format!(r#"{{"sub":"{sub}"}}"#));
        let there = vec![r#"{"id":"1","readers":"{ann}"}"#.to_owned()];
        let deleted = vec![r#"{"id":"2","readers":"{ann}"}"#.to_owned()];
        let there = scene.judge(&principal, &notes, &[], there).await;
        let deleted = scene.judge(&principal, &notes, &[], deleted).await;
        let of_deleted = if reads_deleted { Ok(vec![is_ann]) } else { Err(Trouble::Incomplete) };
        let expected = (Ok(vec![is_ann]), of_deleted);
        assert_eq!((there, deleted), expected, "{sub}: {why}");
    }
}

#[tokio::test]
async fn whoever_may_create_functions_changes_no_verdict() {
    let position = "create policy own on notes
        using (array_position(readers, auth.jwt() ->> 'sub') is not null)";
    let equal = "create policy own on notes using (readers = array[auth.jwt() ->> 'sub'])";
    let can = "create function can(readers anyarray) returns boolean language sql stable as
                   $$ select (auth.jwt() ->> 'sub') = any (readers) $$;
               create policy own on notes using (can(readers))";
    let ways = [
        (
            "a function that fits better than that of Postgres",
            position,
            "create function array_position(text[], text) returns int language sql stable return 1",
            false,
        ),
        (
            "an operator that fits better than that of Postgres",
            equal,
            "create function same(text[], text[]) returns boolean language sql stable return true;
             create operator = (leftarg = text[], rightarg = text[], function = same)",
            false,
        ),
        (
            "a function of somebody else that fits better than one of the schema",
            can,
            "create function can(readers text[]) returns boolean language sql stable return true;
             alter function can(text[]) owner to service_role",
            false,
        ),
        (
            "an overload of the same owner for something else",
            can,
            "create function can(readers text[], more int) returns boolean language sql stable return true",
            true,
        ),
        (
            "a function that fits the relay's own questions",
            position,
            "create function json_populate_record(notes, json) returns notes language sql stable
                 return row (1, '{eve}')::notes;
             create function array_agg_next(boolean[], boolean) returns boolean[] language sql return '{t}'::boolean[];
             create aggregate array_agg(boolean) (sfunc = array_agg_next, stype = boolean[])",
            true,
        ),
    ];
    for (why, policy, shadow, reads_deleted) in ways {
        for is_asked_before in [false, true] {
            let setup = Setup { pool: 1, ..Setup::default() };
            let scene = Scene::with(Cluster::shared(), setup).await;
            scene.db.execute("grant create on schema public to service_role").await;
            scene.db.execute(&format!("{NOTES} {policy}")).await;
            if is_asked_before {
                assert_only_ann_reads(&scene, true, "before").await;
            }
            scene.db.execute(shadow).await;
            assert_only_ann_reads(&scene, reads_deleted, why).await;
        }
    }
}
