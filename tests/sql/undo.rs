//! What the files make, their undo files take back, and nothing else: `pg_dump --schema-only` and the catalog are after
//! the undo what they were before, on plain Postgres and on a database where everything was there already.

use std::process::Command;

use super::{psql, psql_file};
use crate::support::Cluster;
use crate::support::cluster::{SUPERUSER, bin_dir};

/// Each file with the one that takes it back, in the order in which they stand on each other.
const FILES: [(&str, &str); 4] = [
    ("sql/SUPABASE_COMPAT.sql", "sql/UNDO_SUPABASE_COMPAT.sql"),
    ("sql/RELAY_ROLE.sql", "sql/UNDO_RELAY_ROLE.sql"),
    ("sql/ENABLE_REALTIME_CHAT.sql", "sql/UNDO_ENABLE_REALTIME_CHAT.sql"),
    (":migrate", ":undo_migrate"),
];

#[test]
fn on_plain_postgres_nothing_is_left() {
    there_and_back(&Cluster::start(&[]));
}

/// Roles, schemas, functions, tables, identities, publications and grants of somebody else, complete and in part.
#[test]
fn on_a_supabase_database_nothing_of_its_own_is_gone() {
    let cluster = Cluster::start(&[]);
    let printed = psql_file(&cluster, "postgres", "sql/tests/fixtures/supabase_in_use.sql");
    assert_eq!(printed, "");
    there_and_back(&cluster);
    // The role was there before, so it is the administrator who drops it: nothing that was granted to it is in the way.
    let printed = psql(&cluster, "postgres", "drop role relay;\n");
    assert_eq!(printed, "");
}

/// DISABLE alone gives back identities, membership in publications and indexes.
#[test]
fn disable_gives_back_what_was_there_but_for_the_tables() {
    let cluster = Cluster::start(&[]);
    psql_file(&cluster, "postgres", "sql/tests/fixtures/supabase_in_use.sql");
    let before = catalog(&cluster);
    for _ in 0..2 {
        run(&cluster, "sql/ENABLE_REALTIME_CHAT.sql");
        assert_ne!(catalog(&cluster), before);
        run(&cluster, "sql/DISABLE_REALTIME_CHAT.sql");
    }
    let after = catalog(&cluster);
    let after: Vec<&str> =
        after.lines().filter(|line| !line.contains("realtime_chat_undo")).collect();
    assert_same(&before, &(after.join("\n") + "\n"), "DISABLE, after ENABLE");
}

/// What was noted of a table is not done to another that has its name now.
#[test]
fn a_table_that_is_made_again_keeps_its_own_identity() {
    let cluster = Cluster::start(&[]);
    for file in ["sql/SUPABASE_COMPAT.sql", "sql/ENABLE_REALTIME_CHAT.sql"] {
        run(&cluster, file);
    }
    let anew = "drop table chat_messages;
        create table chat_messages (id int primary key, session_id uuid);
        alter table chat_messages replica identity full;\n";
    assert_eq!(psql(&cluster, "postgres", anew), "");
    for file in ["sql/ENABLE_REALTIME_CHAT.sql", "sql/DISABLE_REALTIME_CHAT.sql"] {
        run(&cluster, file);
        assert!(
            catalog(&cluster).contains("relation public.chat_messages (r) of postgres, identity f")
        );
    }
}

/// What goes with a table is never dropped unseen, and each thing that the errors advise lets the next run through.
#[test]
fn nothing_that_stands_on_it_is_dropped() {
    let cluster = Cluster::start(&[]);
    let before = state(&cluster);
    for (file, _) in FILES {
        run(&cluster, file);
    }
    let made = state(&cluster);
    let in_the_way = [
        (
            ":undo_migrate",
            "create policy \"a b\" on realtime.messages using (true)",
            "drop policy \"a b\" on realtime.messages",
        ),
        (
            ":undo_migrate",
            "create function tells() returns trigger language plpgsql as \
             'begin perform realtime.broadcast_changes(null, null, null, null, null, new, old); return new; end'",
            "drop function tells()",
        ),
        (":undo_migrate", "create view asks as select realtime.topic()", "drop view asks"),
        (
            "sql/UNDO_ENABLE_REALTIME_CHAT.sql",
            "insert into live_chat_sessions (visitor_id) values (gen_random_uuid())",
            "truncate public.chat_messages, public.live_chat_sessions, public.support_agents",
        ),
        (
            "sql/UNDO_ENABLE_REALTIME_CHAT.sql",
            "create view reads as select * from chat_messages",
            "drop view reads",
        ),
        (
            "sql/UNDO_ENABLE_REALTIME_CHAT.sql",
            "create function asks() returns boolean language sql as 'select public.is_support_agent()'",
            "drop function asks()",
        ),
        (
            "sql/UNDO_SUPABASE_COMPAT.sql",
            "create function asks() returns uuid language sql as 'select auth.uid()'",
            "drop function asks()",
        ),
        (
            "sql/UNDO_SUPABASE_COMPAT.sql",
            "create table auth.of_them (id int)",
            "drop table auth.of_them",
        ),
    ];
    for (undo, stands, mended) in in_the_way {
        assert_eq!(psql(&cluster, "postgres", &format!("{stands};\n")), "", "{stands}");
        let with_it = state(&cluster);
        let printed = psql_file(&cluster, "postgres", undo);
        assert!(printed.contains("ERROR:"), "{undo} with {stands}: {printed}");
        assert_eq!(state(&cluster), with_it, "{undo} with {stands}");
        if mended.starts_with("truncate") || mended.starts_with("drop policy") {
            assert!(printed.contains(mended), "{printed}");
        }
        assert_eq!(psql(&cluster, "postgres", &format!("{mended};\n")), "", "{mended}");
        assert_eq!(state(&cluster), made, "{mended}");
    }
    for (_, undo) in FILES.into_iter().rev() {
        run(&cluster, undo);
    }
    assert_eq!(state(&cluster), before);
}

/// A role in use is not taken away from under the relay.
#[tokio::test]
async fn while_the_relay_is_connected_its_role_stays() {
    let cluster = Cluster::start(&[]);
    let database = cluster.database().await;
    for (file, _) in FILES {
        psql_file(&cluster, &database.name, file);
    }
    let relay = database.connect_as("relay").await;
    let at_work = cluster_state(&cluster, &database.name);
    for undo in [":undo_migrate", "sql/UNDO_RELAY_ROLE.sql"] {
        let printed = psql_file(&cluster, &database.name, undo);
        assert!(
            printed.contains("is connected") && printed.contains("Stop the relay"),
            "{printed}"
        );
    }
    assert_eq!(cluster_state(&cluster, &database.name), at_work);
    drop(relay);
    crate::support::until("the relay to be gone", || async {
        let query = "select from pg_stat_activity where usename = 'relay'";
        database.query(query).await.is_empty().then_some(())
    })
    .await;
    for (_, undo) in FILES.into_iter().rev() {
        let printed = psql_file(&cluster, &database.name, undo);
        assert!(!printed.contains("ERROR:"), "{printed}");
    }
    assert_eq!(database.text("select count(*)::text from pg_roles where oid >= 16384").await, "0");
}

/// Runs every file twice, then every undo file twice, and compares before and after each.
fn there_and_back(cluster: &Cluster) {
    let mut states = vec![state(cluster)];
    for (file, _) in FILES {
        run(cluster, file);
        states.push(state(cluster));
        run(cluster, file);
        let (once, again) = (states.last().unwrap(), state(cluster));
        assert_same(once, &again, &format!("{file}, run again"));
    }
    for (_, undo) in FILES.into_iter().rev() {
        let made = states.pop().unwrap();
        let before = states.last().unwrap();
        let dry = format!("begin;\n\\i {undo}\nrollback;\n");
        psql(cluster, "postgres", &dry);
        assert_same(&made, &state(cluster), &format!("{undo}, rolled back"));
        for _ in 0..2 {
            run(cluster, undo);
            assert_same(before, &state(cluster), undo);
        }
    }
}

fn run(cluster: &Cluster, file: &str) {
    let printed = psql_file(cluster, "postgres", file);
    assert!(!printed.contains("ERROR:"), "{file}: {printed}");
}

/// Everything that a file could leave behind or take away.
fn state(cluster: &Cluster) -> String {
    cluster_state(cluster, "postgres")
}

fn cluster_state(cluster: &Cluster, database: &str) -> String {
    let dumps = [
        dump(cluster, database, "pg_dump", &["--schema-only"]),
        dump(cluster, database, "pg_dumpall", &["--globals-only"]),
    ];
    dumps.concat() + &psql_file(cluster, database, "sql/tests/fixtures/catalog.sql")
}

fn catalog(cluster: &Cluster) -> String {
    psql_file(cluster, "postgres", "sql/tests/fixtures/catalog.sql")
}

/// What `program` prints; nothing where it is older than the server, which it then refuses: the catalog is compared all
/// the same.
fn dump(cluster: &Cluster, database: &str, program: &str, arguments: &[&str]) -> String {
    let own = bin_dir().join(program);
    let output = Command::new(if own.exists() { own } else { program.into() })
        .args(arguments)
        .args(["-d", &cluster.url(SUPERUSER, database)])
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() || complaint.contains("server version mismatch"),
        "{complaint}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    // \restrict and \unrestrict carry a random word.
    let lines = text.lines().filter(|line| !line.contains("restrict "));
    lines.map(|line| format!("{line}\n")).collect()
}

#[track_caller]
fn assert_same(before: &str, after: &str, what: &str) {
    let gone: Vec<&str> = before.lines().filter(|line| !after.contains(line)).collect();
    let new: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
    assert!(before == after, "{what}\ngone: {gone:#?}\nnew: {new:#?}");
}
