//! `relay check` on schema `realtime`.

use crate::cli::{check, faults, healthy, on};
use crate::support::Database;

#[tokio::test]
async fn check_names_what_schema_realtime_lacks_and_what_mends_it() {
    let database = healthy().await;
    check(on(&database, &["check"]), 0, &["! realtime ", "no schema realtime", "relay migrate"]);
    let database = database.with_realtime();
    let good = ["✓ realtime ", "✓ realtime.messages", "✓ realtime.grants"];
    check(on(&database, &["check"]), 0, &good);

    let today = "to_char(timezone('utc', now()), 'YYYY_MM_DD')";
    let drop_today =
        format!("do $$ begin execute 'drop table realtime.messages_' || {today}; end $$");
    for (about, breaking) in [
        ("realtime.messages", &*drop_today),
        ("realtime.messages", "alter table realtime.messages disable row level security"),
        ("realtime.grants", "revoke usage on schema realtime from relay"),
        ("realtime.grants", "revoke execute on function realtime.probe from relay"),
        ("realtime.grants", "revoke insert on realtime.messages from authenticated"),
        ("realtime.grants", "revoke usage on schema realtime from anon"),
    ] {
        database.execute(breaking).await;
        let found = faults(on(&database, &["check", "--json"]));
        assert!(!found.is_empty(), "{breaking}");
        for (name, sql) in &found {
            assert_eq!(name, about, "{breaking}");
            database.execute(&sql.join("\n")).await;
        }
        assert_eq!(faults(on(&database, &["check", "--json"])), [], "{breaking}");
    }
    // What only an owner can make is made by migrating.
    for (breaking, words) in [
        ("drop function realtime.replay", "✗ realtime               lacks replay("),
        ("drop publication supabase_realtime_messages_publication", "is not published"),
        ("drop table realtime.messages cascade", "no partitioned table realtime.messages"),
    ] {
        database.execute(breaking).await;
        let words = [words, "relay migrate", "“private channel is refused”: see realtime"];
        check(on(&database, &["check"]), 69, &words);
        let database = Database::with_realtime_again(&database);
        check(on(database, &["check"]), 0, &good);
    }
    let older = "create or replace function realtime.topic() returns text language sql stable as 'select null'";
    database.execute(older).await;
    check(on(&database, &["check"]), 0, &["! realtime ", "of an earlier version: topic()"]);
    check(on(Database::with_realtime_again(&database), &["check"]), 0, &good);
    // Somebody else's function is theirs.
    database.execute(&format!("{older}; comment on function realtime.topic is null")).await;
    check(on(&database, &["check"]), 0, &good);
}
