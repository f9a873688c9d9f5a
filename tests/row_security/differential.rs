//! Random tables, policies, rows and principals: the relay's verdict on the image is what SELECT shows.

use std::collections::BTreeSet;

use relay::auth::visibility::Trouble;
use relay::model::table::{Names, Rows};
use relay::model::{Principal, Table};
use tokio_postgres::Client;

use super::scene::{Scene, Setup, shown, user};
use crate::support::{Cluster, unique};

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap()).unwrap()
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.roll(list.len())]
    }
}

const ALICE: &str = "00000000-0000-4000-8000-00000000000a";
const BOB: &str = "00000000-0000-4000-8000-00000000000b";

/// Conditions a policy may have. `{t}` is the table's own name.
const CONDITIONS: &[&str] = &[
    "true",
    "owner = auth.uid()",
    "owner is null or owner = (select auth.uid())",
    "auth.uid() is null",
    "(auth.jwt() ->> 'sub') is not null and flag",
    "team in (select m.team from members m where m.who = auth.uid())",
    "exists (select from members m where m.who = auth.uid() and m.team = {t}.team)",
    "not exists (select from members where members.team = {t}.team and members.who <> auth.uid())",
    "private.is_member(team)",
    "is_member(team)",
    "team = current_team()",
    "level > 'low'",
    "level = any (array['mid', 'high']::mood[])",
    "'red' = any (tags)",
    "meta ->> 'who' = auth.jwt() ->> 'sub'",
    "(meta -> 'open')::boolean",
    "price < 10.5 and price <> 'NaN'",
    "created > '2024-06-01 00:00+00'",
    "code = 'ab'",
    "body like 'a%' or body ~ '^[0-9]+$'",
    "octet_length(data) > 1",
    "(place).x > 1",
    "score between 2 and 5",
    "doubled > 4",
    "doubled is null and label = 'none'",
    "label <> 'none'",
    "whole({t})",
    "current_user = 'authenticated'",
    "owner = auth.uid() and current_setting('request.jwt.claim.role', true) = current_user",
    "auth.role() = 'anon' or flag is not true",
    "case when flag then owner = auth.uid() else team > 1 end",
    "xmin is not null and team = 1",
    "pg_catalog.pg_has_role(current_user, 'authenticated', 'member')",
    "(auth.jwt() ->> 'level')::int > team",
    "10 / team > 3",
    "team::text || body = '1a' or \"odd \"\"name\" > 0",
];

/// Everything the policies talk of, created once.
const WORLD: &str = r#"
create type mood as enum ('low', 'mid', 'high');
create type spot as (x int, y text);
create domain small as int check (value < 1000);
create schema private;
create table members (who uuid, team int);
insert into members values ('00000000-0000-4000-8000-00000000000a', 1), ('00000000-0000-4000-8000-00000000000a', 2),
    ('00000000-0000-4000-8000-00000000000b', 2);
create function private.is_member(wanted int) returns boolean language sql security definer stable as
$$ select exists (select from public.members where who = auth.uid() and team = wanted) $$;
create function is_member(wanted int) returns boolean language plpgsql security definer stable as
$$ begin return exists (select from members where who = auth.uid() and team = wanted); end $$;
create function current_team() returns int language plpgsql stable as
$$ begin return (select max(team) from members where who = auth.uid()); end $$;
"#;

/// A random table `t` with rows; returns its definition.
fn table(dice: &mut Dice, name: &str, roles: &[String]) -> String {
    let key = dice.pick(&["int", "text", "uuid", "numeric"]);
    let mut sql = format!(
        "create table {name} (
            id {key} primary key, owner uuid, team int, flag boolean, level mood, tags text[], meta jsonb, plain json,
            price numeric(8,2), created timestamptz, code char(4), body text, data bytea, place spot, score small,
            \"odd \"\"name\" int,
            doubled int generated always as (team * 2) stored,
            label text generated always as (coalesce(body, 'none')) stored
        );
        alter table {name} drop column plain, add column plain json;
        create or replace function whole({name}) returns boolean language sql stable as 'select $1.team > 1';
        grant select on {name} to {};",
        roles.join(", ")
    );
    for row in 1..=9 {
        let id = match key {
            "uuid" => format!("'00000000-0000-4000-8000-{row:012}'"),
            _ => format!("'{row}'"),
        };
        let owner = dice.pick(&[
            "null",
            "'00000000-0000-4000-8000-00000000000a'",
            "'00000000-0000-4000-8000-00000000000b'",
        ]);
        sql.push_str(&format!(
            "insert into {name} values ({id}, {owner}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {});",
            dice.pick(&["null", "1", "2", "3"]),
            dice.pick(&["null", "true", "false"]),
            dice.pick(&["null", "'low'", "'mid'", "'high'"]),
            dice.pick(&["null", "'{}'", "'{red,\"a \\\" b\",NULL}'", "'{blue}'"]),
            dice.pick(&["null", "'{\"who\":\"00000000-0000-4000-8000-00000000000a\",\"open\":true}'", "'{\"open\":false}'", "'[1]'"]),
            dice.pick(&["null", "10.5", "'NaN'", "3", "-7.25"]),
            dice.pick(&["null", "'2024-01-01 00:00+02'", "'infinity'", "'2025-01-01 00:00:00.123456+00'"]),
            dice.pick(&["null", "'ab'", "'abcd'"]),
            dice.pick(&["null", "'a'", "'42'", "'it''s \"q\" \\ \n é'", "''"]),
            dice.pick(&["null", "'\\x'", "'\\x0102ff'"]),
            dice.pick(&["null", "'(2,\"a b\")'", "'(,)'"]),
            dice.pick(&["null", "3", "7"]),
            dice.pick(&["null", "0", "5"]),
        ));
    }
    sql
}

/// Random row security on the table.
fn policies(dice: &mut Dice, name: &str, roles: &[String]) -> String {
    let mut sql = String::new();
    if dice.roll(10) > 0 {
        sql.push_str(&format!("alter table {name} enable row level security;"));
    }
    if dice.roll(4) == 0 {
        sql.push_str(&format!("alter table {name} force row level security;"));
    }
    for number in 0..=dice.roll(5) {
        let condition = dice.pick(CONDITIONS).replace("{t}", name);
        let kind = dice.pick(&["permissive", "permissive", "restrictive"]);
        let to = if dice.roll(2) == 0 { "public" } else { &*roles[dice.roll(roles.len())] };
        sql.push_str(&match dice.roll(8) {
            0 => format!("create policy p{number} on {name} as {kind} for insert to {to} with check ({condition});"),
            1 => format!("create policy p{number} on {name} as {kind} for all to {to} with check ({condition});"),
            2..5 => format!("create policy p{number} on {name} as {kind} for all to {to} using ({condition});"),
            _ => format!("create policy p{number} on {name} as {kind} for select to {to} using ({condition});"),
        });
    }
    sql
}

fn needs_stored_row(table: &Table, principal: &Principal) -> bool {
    let rows = &table.access[principal.role()].rows;
    matches!(rows, Rows::Policy(policy) if policy.reads.stored || policy.names == Names::Nobodys)
}

/// Whether one permissive policy, without the others, shows the row.
async fn is_shown_by_one(
    oracle: &mut Client,
    principal: &Principal,
    table: &Table,
    key: &str,
) -> bool {
    let permissive = oracle
        .query(
            "select polname::text from pg_policy where polrelid = $1 and polpermissive",
            &[&table.oid],
        )
        .await
        .unwrap();
    let names: Vec<String> = permissive.iter().map(|row| row.get(0)).collect();
    for one in &names {
        let mut before = format!("delete from {} where id <> '{key}'", table.name);
        for other in names.iter().filter(|other| *other != one) {
            before.push_str(&format!("; drop policy {other} on {}", table.name));
        }
        if shown(oracle, principal, table, &before, "true").await.is_ok_and(|s| !s.is_empty()) {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_on_an_image_is_what_select_shows() {
    let [team, member, loner, owner] =
        ["team", "member", "loner", "owner"].map(|role| unique(&format!("differential_{role}")));
    let created =
        [&team, &member, &loner, &owner].map(|role| format!("create role {role} noinherit"));
    let setup_db = Cluster::shared().database().await.with_roles().await;
    setup_db
        .execute(&format!(
            "{}; alter role {member} inherit; grant {team} to {member}, {loner}; \
             grant {team}, {member}, {loner}, {owner} to relay",
            created.join(";")
        ))
        .await;
    let mut setup = Setup::default();
    setup.roles.extend([&team, &member, &loner, &owner].map(String::clone));
    let roles = setup.roles.clone();
    let scene = Scene::with(Cluster::shared(), setup).await;
    scene.db.execute(WORLD).await;
    let all = roles.join(", ");
    scene
        .db
        .execute(&format!(
            "grant usage on schema public, auth to {all}; grant create on schema public to {owner}; grant select on members to {all}"
        ))
        .await;

    let principals: Vec<Principal> = [
        Principal::new("anon", r#"{"role":"anon"}"#),
        Principal::new("authenticated", r#"{"role":"authenticated","sub":null}"#),
        Principal::new("authenticated", r#"{"role":"authenticated","sub":"not a uuid"}"#),
        Principal::new(
            "authenticated",
            format!(r#"{{"role":"authenticated","sub":"{BOB}","level":2}}"#),
        ),
    ]
    .into_iter()
    .chain(roles.iter().filter(|role| *role != "anon").map(|role| user(role, ALICE)))
    .collect();

    let mut oracle = scene.db.connect().await;
    let mut dice = Dice(0x5eed_cafe_f00d_1234);
    let (mut cases, mut readable, mut raised) = (0, 0, 0);
    for round in 0..60 {
        let name = format!("t{round}");
        scene.db.execute(&table(&mut dice, &name, &roles)).await;
        let policies = policies(&mut dice, &name, &roles);
        scene.db.execute(&policies).await;
        if dice.roll(3) == 0 {
            scene.db.execute(&format!("alter table {name} owner to {owner}")).await;
        }
        let is_guarded = dice.roll(2) == 0;
        scene
            .db
            .execute(if is_guarded {
                "alter table members enable row level security; drop policy if exists own on members; create policy own on members using (who = auth.uid())"
            } else {
                "alter table members disable row level security"
            })
            .await;
        // Who can name what is in a private schema: nobody, or the login role alone.
        let verb =
            dice.pick(&["grant usage on schema private to", "revoke usage on schema private from"]);
        scene.db.execute(&format!("{verb} relay")).await;
        let known = scene.table(&name).await;
        let images = scene.images(&known, "true").await;
        for principal in &principals {
            let whole = shown(&mut oracle, principal, &known, "", "true").await;
            let together =
                scene.judge(principal, &known, &[], images.values().cloned().collect()).await;
            if let (Ok(shown), Ok(verdicts)) = (&whole, &together) {
                let shown: BTreeSet<&str> = shown.iter().map(String::as_str).collect();
                let judged: BTreeSet<&str> = images
                    .keys()
                    .zip(verdicts)
                    .filter(|(_, verdict)| **verdict)
                    .map(|(key, _)| key.as_str())
                    .collect();
                assert_eq!(judged, shown, "{principal:?} together\n{policies}\n{known:?}");
                readable += shown.len();
            }
            for (key, image) in &images {
                // Found by key, as one row: how many rows a plan expects decides which errors it meets.
                let others = format!(
                    "delete from {name} where id <> '{key}'; set local enable_seqscan = off"
                );
                let this = format!("id = '{key}'");
                let shown = match &whole {
                    Ok(shown) => Ok(shown.contains(key)),
                    Err(_) => shown(&mut oracle, principal, &known, &others, &this)
                        .await
                        .map(|shown| !shown.is_empty()),
                };
                let alone = scene.judge(principal, &known, &[], vec![image.clone()]).await;
                match (&alone, &shown) {
                    (Ok(verdicts), Ok(shown)) => {
                        assert_eq!(
                            *verdicts,
                            [*shown],
                            "{principal:?} {image}\n{policies}\n{known:?}"
                        );
                    }
                    (Err(Trouble::Failed { code, .. }), Err(raised_code)) => {
                        assert_eq!(code, raised_code, "{principal:?} {image}\n{policies}");
                        raised += 1;
                    }
                    // Postgres does not promise which side of an `and` or `or` it looks at first. A row that one side
                    // hides and the other raises for is not shown either way; one that is shown by one policy while
                    // another raises is shown by the first one alone.
                    (Ok(verdicts), Err(_)) if *verdicts == [false] => raised += 1,
                    (Err(Trouble::Failed { .. }), Ok(false)) => raised += 1,
                    // The stored row is looked for by Postgres' own row security, which may meet other rows first.
                    (Err(Trouble::Failed { .. }), Ok(true))
                        if whole.is_err() && needs_stored_row(&known, principal) =>
                    {
                        raised += 1;
                    }
                    (Ok(verdicts), Err(_))
                        if *verdicts == [true]
                            && is_shown_by_one(&mut oracle, principal, &known, key).await =>
                    {
                        raised += 1;
                    }
                    other => panic!("{other:?} for {principal:?} {image}\n{policies}\n{known:?}"),
                }
                cases += 1;
            }
        }
    }
    assert!(1_000 <= cases && 500 <= readable && 50 <= raised, "{cases} {readable} {raised}");
    eprintln!("{cases} cases, {readable} readable, {raised} raised");
}
