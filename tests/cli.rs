//! The program as its user meets it: what each verb prints, with what exit code, and what it leaves behind.

mod faults;
mod five_minutes;
mod output;
mod policies;
mod report;
mod running;
mod slot;
mod tail;
mod types;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use report::Verdict;

use crate::support::relay::SECRET;
use crate::support::{Cluster, Database, Relay, free_port, until};

/// The built program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_relay");

/// The built program, with nothing configured.
fn relay(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    unconfigure(&mut command);
    command.args(arguments);
    command
}

/// Keeps the settings of this process from a command.
fn unconfigure(command: &mut Command) {
    let settings = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("RELAY_"));
    for name in settings.chain(["DATABASE_URL", "RUST_LOG", "XDG_RUNTIME_DIR"].map(str::to_owned)) {
        command.env_remove(name);
    }
    command.current_dir(std::env::temp_dir()).stdin(Stdio::null());
}

/// The program, configured for a database and a relay that listens nowhere.
pub(crate) fn on(database: &Database, arguments: &[&str]) -> Command {
    let mut command = relay(arguments);
    configure(&mut command, database, free_port());
    command
}

/// Configures a command for a database and a relay that listens on this port.
fn configure(command: &mut Command, database: &Database, port: u16) {
    command
        .env("RELAY_POSTGRES__URL", database.url_as("relay"))
        .env("RELAY_POSTGRES__SLOT", database.slot())
        .env("RELAY_AUTH__JWT_SECRET", SECRET)
        .env("RELAY_HTTP__LISTEN", format!("127.0.0.1:{port}"));
}

fn output(mut command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Runs the program and expects an exit code and words in what it prints.
pub(crate) fn check(command: Command, code: i32, words: &[&str]) {
    let (status, stdout, stderr) = output(command);
    let all = format!("{stdout}{stderr}");
    assert_eq!(status, Some(code), "{all}");
    for word in words {
        assert!(all.contains(word), "{word:?} is not in:\n{all}");
    }
}

/// The facts of `relay check` that are faults: what each is about, and its SQL.
pub(crate) fn faults(mut command: Command) -> Vec<(String, Vec<String>)> {
    let facts = report::facts(&command.output().unwrap()).unwrap().into_iter();
    let faults = facts.filter(|fact| fact.verdict == Verdict::Fault);
    faults.map(|fact| (fact.about, fact.sql)).collect()
}

/// A database where everything is as it should be, with one table clients may watch.
pub(crate) async fn healthy() -> Database {
    healthy_in(Cluster::shared()).await
}

/// The same in a cluster.
pub(crate) async fn healthy_in(cluster: &Cluster) -> Database {
    let database = cluster.database().await.with_roles().await;
    database
        .execute(
            "create table orders (id int primary key, owner uuid, body text);
             alter table orders enable row level security, replica identity full;
             create policy own on orders for select to authenticated using (owner = (select auth.uid()));
             alter publication supabase_realtime add table orders;",
        )
        .await;
    database
}

#[test]
fn every_verb_explains_itself() {
    for verb in ["run", "demo", "check", "migrate", "config", "token", "tail", "bench", "slot"] {
        check(relay(&[verb, "--help"]), 0, &[&format!("Usage: relay {verb}")]);
    }
    for verb in ["latency", "throughput", "fanout", "filters", "memory", "all"] {
        check(relay(&["bench", verb, "--help"]), 0, &[&format!("Usage: relay bench {verb}")]);
    }
}

#[test]
fn an_unknown_setting_ends_with_code_2_and_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("relay.toml");
    std::fs::write(&file, "[postgres]\nurl = \"postgres://a@b/c\"\nslott = \"x\"\n").unwrap();
    check(relay(&["run", "--config", file.to_str().unwrap()]), 2, &["slott", "slot"]);
    let mut command = relay(&["run"]);
    command.env("RELAY_POSTGRES__SLOTT", "x");
    check(command, 2, &["RELAY_POSTGRES__SLOTT", "RELAY_POSTGRES__SLOT"]);
}

#[test]
fn a_contradiction_ends_with_code_2_and_names_its_key() {
    let mut command = relay(&["run"]);
    command
        .env("RELAY_POSTGRES__URL", "postgres://a@b/c")
        .env("RELAY_AUTH__JWT_SECRET", SECRET)
        .env("RELAY_AUTH__JWT_SECRET_FILE", "/etc/hostname");
    check(command, 2, &["auth.jwt_secret", "auth.jwt_secret_file"]);
}

#[test]
fn check_says_that_the_configuration_cannot_be_meant() {
    check(relay(&["check"]), 2, &["✗ config", "postgres.url", "see config"]);
}

#[test]
fn check_says_that_postgres_cannot_be_reached() {
    let port = free_port();
    let mut command = relay(&["check"]);
    command
        .env("RELAY_POSTGRES__URL", format!("postgres://relay@127.0.0.1:{port}/app"))
        .env("RELAY_AUTH__JWT_SECRET", SECRET);
    check(command, 69, &["✗ postgres.reachable", &port.to_string()]);
}

#[tokio::test]
async fn check_finds_nothing_wrong_where_nothing_is() {
    let database = healthy().await;
    let words = [
        "✓ postgres.wal_level",
        "✓ login relay",
        "✓ role authenticated",
        "✓ publication supabase_realtime",
        "✓ table public.orders",
        "messages do not appear",
        "agent sees no chats",
        "delayed 2-3 s",
        "connection lost stays",
    ];
    check(on(&database, &["check"]), 0, &words);
}

#[tokio::test]
async fn check_sees_the_relay_that_runs() {
    let database = healthy().await;
    let relay = Relay::start(&database).await;
    let mut command = on(&database, &["check"]);
    command.env("RELAY_HTTP__LISTEN", format!("127.0.0.1:{}", relay.port()));
    check(command, 0, &["✓ relay", "read by pid"]);
}

#[tokio::test]
async fn check_names_each_fault_and_its_sql_mends_it() {
    let database = healthy().await;
    let other = format!("other_{}", database.name);
    let cases = [
        (
            "publication supabase_realtime",
            "drop publication supabase_realtime; create table public.chat_messages (id int primary key)",
        ),
        (
            "publication supabase_realtime",
            "alter publication supabase_realtime drop table chat_messages",
        ),
        ("table public.orders", "alter table orders replica identity nothing"),
        ("table public.orders", "revoke all on orders from anon, authenticated, service_role"),
        ("table public.orders", "revoke select on orders from authenticated"),
        // A grant on the schema is printed where it opens nothing else.
        (
            "table public.orders",
            "drop table chat_messages; revoke usage on schema public from authenticated, public",
        ),
    ];
    // The first case empties the publication; it is to be about orders again afterwards.
    for (about, breaking) in cases {
        database.execute(breaking).await;
        let found = faults(on(&database, &["check", "--json"]));
        let fault = found.iter().find(|(name, _)| name == about);
        let (_, sql) = fault.unwrap_or_else(|| panic!("{breaking}: {found:?}"));
        assert!(!sql.is_empty(), "{breaking}: nothing mends it");
        for (_, statements) in &found {
            database.execute(&statements.join("\n")).await;
        }
        let left = faults(on(&database, &["check", "--json"]));
        assert!(left.is_empty(), "{breaking}: still {left:?}");
        let published =
            "select count(*)::text from pg_publication_tables where tablename = 'orders'";
        if database.text(published).await == "0" {
            database.execute("alter publication supabase_realtime add table orders").await;
        }
    }
    let mut command = on(&database, &["check", "--json"]);
    command.env("RELAY_AUTH__ROLES", format!("anon,authenticated,{other}"));
    let found = faults(command);
    assert_eq!(
        found.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
        [format!("role {other}")]
    );
    let mut command = on(&database, &["check"]);
    command.env("RELAY_AUTH__ROLES", format!("anon,authenticated,{other}"));
    let named = format!("✗ role {other}");
    check(command, 69, &[&named, "does not exist", "or take it out of auth.roles"]);
    database.execute(&found[0].1.join("\n")).await;
    let mut command = on(&database, &["check", "--json"]);
    command.env("RELAY_AUTH__ROLES", format!("anon,authenticated,{other}"));
    assert_eq!(faults(command), []);
    database.execute(&format!("drop role {other}")).await;
}

#[tokio::test]
async fn check_names_a_policy_that_lets_nobody_read() {
    let database = healthy().await;
    database.execute("drop policy own on orders").await;
    check(on(&database, &["check"]), 69, &["✗ table public.orders", "no policy", "create policy"]);
}

#[tokio::test]
async fn check_names_a_login_that_may_not_replicate_or_set_roles() {
    let database = healthy().await;
    let login = format!("login_{}", database.name);
    database.execute(&format!("create role {login} login")).await;
    let command = |arguments: &[&str]| {
        let mut command = on(&database, arguments);
        command.env("RELAY_POSTGRES__URL", database.url_as(&login));
        command
    };
    let found = faults(command(&["check", "--json"]));
    let about: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        about,
        [&format!("login {login}"), "role anon", "role authenticated", "role service_role"]
    );
    for (_, statements) in &found {
        database.execute(&statements.join("\n")).await;
    }
    assert_eq!(faults(command(&["check", "--json"])), []);
    database.execute(&format!("drop role {login}")).await;
}

#[tokio::test]
async fn check_names_an_agents_table_without_agents() {
    let database = healthy().await;
    database.execute(include_str!("../sql/ENABLE_REALTIME_CHAT.sql")).await;
    check(on(&database, &["check"]), 0, &["! agents", "“agent sees no chats”: perhaps agents"]);
    database
        .execute(
            "insert into support_agents (user_id, display_name) values (gen_random_uuid(), 'Ann')",
        )
        .await;
    check(on(&database, &["check"]), 0, &["✓ agents"]);
}

#[tokio::test]
async fn check_names_a_wal_level_and_its_sql_and_a_restart_mend_it() {
    let cluster = Cluster::start(&[("wal_level", "replica")]);
    let database = cluster.database().await.with_roles().await;
    database
        .execute(
            "create table orders (id int primary key);
             alter publication supabase_realtime add table orders",
        )
        .await;
    let found = faults(on(&database, &["check", "--json"]));
    assert_eq!(
        found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["postgres.wal_level"]
    );
    database.execute(&found[0].1.join("\n")).await;
    cluster.restart("fast");
    assert_eq!(faults(on(&database, &["check", "--json"])), []);
}

#[tokio::test]
async fn tail_refuses_what_the_relay_refuses() {
    let database = healthy().await;
    let relay_process = Relay::start(&database).await;
    let url = format!("ws://127.0.0.1:{}", relay_process.port());
    let tail = |arguments: &[&str]| {
        let mut command = on(&database, &["tail", "--url", &url]);
        command.args(arguments);
        command
    };
    check(tail(&["nowhere"]), 2, &["nowhere"]);
    check(tail(&["orders", "--filter", "body=like"]), 2, &["filter"]);
    check(tail(&["orders", "--token", "nonsense"]), 69, &["refused"]);
    check(tail(&["orders", "--role", "postgres"]), 69, &["refused", "postgres"]);
    check(relay(&["tail", "orders", "--url", "ftp://x"]), 2, &["ftp://x", "ws"]);
}

/// A directory for a demo: its temporary directory and its runtime directory, which Postgres' user must be able to
/// pass through.
pub(crate) fn place() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path(), &directory.path().join("tmp"), &directory.path().join("run")] {
        std::fs::create_dir_all(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    directory
}

pub(crate) fn demo(place: &Path, port: u16, arguments: &[&str]) -> Command {
    let mut command = relay(&["demo", "--listen", &format!("127.0.0.1:{port}")]);
    command
        .args(arguments)
        .env("TMPDIR", place.join("tmp"))
        .env("XDG_RUNTIME_DIR", place.join("run"));
    command
}

pub(crate) fn left_behind(place: &Path) -> Vec<String> {
    let list = |name: &str| {
        let entries = std::fs::read_dir(place.join(name)).unwrap();
        entries.map(|entry| entry.unwrap().path().display().to_string()).collect::<Vec<_>>()
    };
    [list("tmp"), list("run")].concat()
}

/// A demo that has started, and its output from there on.
fn started(place: &Path, port: u16) -> (Child, impl BufRead) {
    let mut demo =
        demo(place, port, &["--talk", "--pace", "0.1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("Ctrl-C") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the demo ended before it started");
    }
    (demo, lines)
}

pub(crate) fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

#[test]
fn a_demo_talks_once_and_leaves_nothing_behind() {
    let place = place();
    let command = demo(place.path(), free_port(), &["--once", "--pace", "0.01"]);
    check(
        command,
        0,
        &["relay tail chat_messages", "Hello support", "rates it", "nothing is left"],
    );
    assert_eq!(left_behind(place.path()), Vec::<String>::new());
}

#[test]
fn tail_shows_the_conversation_of_a_running_demo() {
    let place = place();
    let (mut demo, mut lines) = started(place.path(), free_port());
    let mut tail = relay(&["tail", "chat_messages", "--event", "INSERT"])
        .env("TMPDIR", place.path().join("tmp"))
        .env("XDG_RUNTIME_DIR", place.path().join("run"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut shown = BufReader::new(tail.stdout.take().unwrap());
    let mut line = String::new();
    shown.read_line(&mut line).unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(line.contains("INSERT") && line.contains("public.chat_messages"), "{line}");
    signal(&demo, "TERM");
    assert_eq!(demo.wait().unwrap().code(), Some(0));
    lines.read_to_string(&mut line).unwrap();
    assert!(line.contains("nothing is left behind"), "{line}");
    assert_eq!(left_behind(place.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_killed_demo_is_cleaned_up_after() {
    let place = place();
    let (mut demo, _lines) = started(place.path(), free_port());
    assert!(!left_behind(place.path()).is_empty());
    demo.kill().unwrap();
    demo.wait().unwrap();
    until("the demo's remains to go", || {
        std::future::ready(left_behind(place.path()).is_empty().then_some(()))
    })
    .await;
}

#[test]
fn a_demo_says_that_its_address_is_taken_before_it_starts_anything() {
    let place = place();
    let port = free_port();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let command = demo(place.path(), port, &[]);
    check(command, 2, &[&format!("127.0.0.1:{port}"), "--listen"]);
    assert_eq!(left_behind(place.path()), Vec::<String>::new());
}

#[test]
fn a_demo_without_postgres_names_the_package_to_install() {
    let place = place();
    let mut command = demo(place.path(), free_port(), &[]);
    command.env("PGBIN", place.path());
    check(command, 2, &["PGBIN", "initdb"]);
    assert_eq!(left_behind(place.path()), Vec::<String>::new());
}
