//! README's five minutes, as a DBA who is new to it goes through them on a Postgres just made.

use std::process::{Command, Stdio};

use crate::cli::running::of_relay;
use crate::cli::{check, on, relay};
use crate::support::cluster::bin_dir;
use crate::support::{Cluster, Database, Relay};

/// Runs a shipped file as its reader does: through psql.
fn psql(database: &Database, file: &str) {
    let path = format!("{}/sql/{file}", env!("CARGO_MANIFEST_DIR"));
    let own = bin_dir().join("psql");
    let program = if own.exists() { own } else { "psql".into() };
    let done = Command::new(program)
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &database.url, "-f", &path])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(done.status.success(), "{file}: {}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn a_perfect_install_is_green_though_nobody_is_an_agent_yet() {
    let cluster = Cluster::start(&[]);
    let database = cluster.database().await;
    for file in ["SUPABASE_COMPAT.sql", "ENABLE_REALTIME_CHAT.sql", "RELAY_ROLE.sql"] {
        psql(&database, file);
    }
    let words = [
        "✓ login relay",
        "✓ role anon",
        "✓ role authenticated",
        "✓ role service_role",
        "✓ publication supabase_realtime",
        "✓ table public.chat_messages",
        "! agents",
        "insert into public.support_agents",
        "“messages do not appear”: perhaps relay; if not, watch the table with `relay tail <table>`",
        "“agent sees no chats”: perhaps agents",
    ];
    check(on(&database, &["check"]), 0, &words);
    check(relay(&["migrate", "--url", &database.url]), 0, &[]);
    check(
        on(&database, &["check"]),
        0,
        &["✓ realtime ", "✓ realtime.messages", "✓ realtime.grants"],
    );
    // Then it runs, on a server that was set up for nothing else: the one thing left is a limit for its slot.
    let running = Relay::start(&database).await;
    let words = [
        "✓ relay",
        "✓ relay withheld",
        "! postgres.keep_size",
        "      alter system set max_slot_wal_keep_size = '15360MB';",
        "“messages do not appear”: nothing above explains it; watch the table with `relay tail <table>`",
    ];
    check(of_relay(&database, &running), 0, &words);
}
