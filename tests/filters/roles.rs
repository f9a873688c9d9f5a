//! A filter's value is read as its client's role would read it, and kept in the text the stream has.

use relay::catalog::bind::{Unbound, Wish};
use relay::model::Principal;
use relay::model::filter::Operand;

use super::{bind_as, catalog_of, wish};
use crate::support::{Cluster, Database, unique};

const ROLES: [&str; 3] = ["anon", "authenticated", "service_role"];

async fn database(sql: &str) -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    let name = &database.name;
    database.execute(&sql.replace("this_database", name)).await;
    database
}

/// What a role's filters on `events` become, or why not; asked through the relay's own login role.
async fn bound(database: &Database, role: &str, filters: &[&str]) -> Result<Vec<String>, String> {
    let roles = [&ROLES[..], &[role]].concat();
    let catalog = catalog_of(&database.url_as("relay"), &roles);
    let wishes: Vec<Wish> = filters.iter().map(|filter| wish("events", filter)).collect();
    match bind_as(&catalog, &Principal::new(role, "{}"), &wishes).await {
        Ok(bound) => {
            let operands = bound.iter().flat_map(|wish| wish.filter.iter());
            let text = |operand: &Operand| match operand {
                Operand::Text(text) => text.to_string(),
                Operand::List(texts) => {
                    texts.iter().flatten().map(|text| &**text).collect::<Vec<_>>().join(" | ")
                }
                Operand::Keyword(_) => String::new(),
            };
            Ok(operands.map(|condition| text(&condition.predicate.operand)).collect())
        }
        Err(Unbound::Refused(text)) => Err(text),
        Err(Unbound::Unavailable(text)) => panic!("Postgres could not be asked: {text}"),
    }
}

#[tokio::test]
async fn an_operand_means_what_it_means_under_the_settings_of_its_role() {
    let database = database(
        r#"create table events (
               id int primary key, at timestamptz, day date, long interval, raw bytea, price float8,
               times timestamptz[]);
           alter publication supabase_realtime add table events;
           alter database this_database set timezone = 'America/New_York';
           alter role anon in database this_database set datestyle = 'SQL, DMY';
           alter role anon in database this_database set intervalstyle = 'sql_standard';
           alter role anon in database this_database set bytea_output = 'escape';
           alter role anon in database this_database set extra_float_digits = -5;
           alter role authenticated in database this_database set timezone = 'Asia/Tokyo'"#,
    )
    .await;
    let operands = bound(
        &database,
        "anon",
        &[
            "at=gte.2024-01-15 08:00",
            r#"at=in.("15/01/2024 08:00","2024-01-15 08:00+00")"#,
            "day=eq.01/02/2024",
            "long=lt.-1 12:00:00",
            "raw=eq.0aff",
            "price=eq.0.1000000000000000055",
            r#"times=eq.{"2024-01-15 08:00"}"#,
        ],
    )
    .await;
    assert_eq!(
        operands.unwrap(),
        [
            "2024-01-15 13:00:00+00",
            "2024-01-15 13:00:00+00 | 2024-01-15 08:00:00+00",
            "2024-02-01",
            "-1 days -12:00:00",
            r"\x0aff",
            "0.1",
            r#"{"2024-01-15 13:00:00+00"}"#,
        ]
    );
    let operands = bound(&database, "authenticated", &["at=gte.2024-01-15 08:00"]).await;
    assert_eq!(operands.unwrap(), ["2024-01-14 23:00:00+00"]);
    // Who has no settings of its own has the database's.
    let operands = bound(&database, "service_role", &["at=gte.2024-01-15 08:00"]).await;
    assert_eq!(operands.unwrap(), ["2024-01-15 13:00:00+00"]);
}

#[tokio::test]
async fn a_type_needs_to_be_usable_by_the_clients_role_only() {
    let database = database(
        "create schema hidden;
         create type hidden.mood as enum ('sad', 'happy');
         create domain hidden.moods as hidden.mood[];
         create table events (id int primary key, feeling hidden.mood, feelings hidden.moods);
         alter publication supabase_realtime add table events;
         grant usage on schema hidden to anon",
    )
    .await;
    let filters = ["feeling=eq.sad", "feeling=in.(sad,happy)", "feelings=eq.{sad}"];
    let operands = bound(&database, "anon", &filters).await;
    assert_eq!(operands.unwrap(), ["sad", "sad | happy", "{sad}"]);
    for filter in filters {
        let text = bound(&database, "authenticated", &[filter]).await.unwrap_err();
        assert!(text.contains("ERROR 42501 (insufficient_privilege)"), "{text}");
        assert!(text.contains("grant usage on schema hidden to authenticated"), "{text}");
    }
}

#[tokio::test]
async fn a_role_that_the_relay_may_not_act_as_is_refused_with_the_grant() {
    let role = unique("Unheard of");
    let database = database(&format!(
        "create role \"{role}\"; grant usage on schema public to \"{role}\";
         create table events (id int primary key); grant select on events to \"{role}\";
         alter publication supabase_realtime add table events"
    ))
    .await;
    let text = bound(&database, &role, &["id=eq.1"]).await.unwrap_err();
    assert!(text.contains("ERROR 42501"), "{text}");
    assert!(text.ends_with(&format!("grant \"{role}\" to relay")), "{text}");
    database.execute(&format!("grant \"{role}\" to relay")).await;
    assert_eq!(bound(&database, &role, &["id=eq.01"]).await.unwrap(), ["1"]);
}

#[tokio::test]
async fn settings_that_change_count_for_the_next_filter() {
    let database = database(
        "create table events (id int primary key, at timestamptz);
         alter publication supabase_realtime add table events",
    )
    .await;
    let catalog = catalog_of(&database.url_as("relay"), &ROLES);
    let anon = Principal::new("anon", "{}");
    for (zone, expected) in [("UTC", "08"), ("Asia/Tokyo", "23"), ("America/New_York", "13")] {
        let name = &database.name;
        database
            .execute(&format!("alter role anon in database {name} set timezone = '{zone}'"))
            .await;
        for _ in 0..3 {
            let bound = bind_as(&catalog, &anon, &[wish("events", "at=gt.2024-01-15 08:00")]).await;
            let Operand::Text(text) = &bound.unwrap()[0].filter[0].predicate.operand else {
                panic!("no text");
            };
            assert!(text.contains(&format!(" {expected}:00:00+00")), "{zone}: {text}");
        }
    }
}
