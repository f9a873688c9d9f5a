//! A configuration that cannot be meant says which key, why, and what to write instead.

use std::path::Path;
use std::process::{Command, Output};

use relay::config::{Config, Deletes, JwksSource, Origin};

const SECRET: &str = "a-secret-for-tests-of-at-least-thirty-two-bytes";
const URL: &str = "postgres://relay@127.0.0.1/app";

/// A file that can be meant, with a line more in a section.
fn with(section: &str, line: &str) -> String {
    let mut text = String::new();
    for (name, lines) in [
        ("http", String::new()),
        ("log", String::new()),
        ("postgres", format!("url = \"{URL}\"\n")),
        ("auth", format!("jwt_secret = \"{SECRET}\"\n")),
        ("realtime", String::new()),
        ("limits", String::new()),
        ("chat", "preset = \"gre\"\n".to_owned()),
    ] {
        let further = if name == section { line } else { "" };
        // A line for a key that is there replaces it.
        let key = further.split(" = ").next().unwrap();
        let lines = if lines.starts_with(key) && !key.is_empty() { String::new() } else { lines };
        text.push_str(&format!("[{name}]\n{lines}{further}\n"));
    }
    text
}

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.toml");
    std::fs::write(&path, text).unwrap();
    load_file(&path, variables)
}

fn load_file(path: &Path, variables: &[(&str, &str)]) -> Result<Config, String> {
    let env = |name: &str| {
        variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    };
    match Config::load(Some(path), &env) {
        Ok((config, _)) => Ok(config),
        Err(faults) => {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Err(lines.join("\n"))
        }
    }
}

#[test]
fn each_contradiction_names_its_key_and_the_fix() {
    let same = "api_secret = \"a-secret-for-tests-of-at-least-thirty-two-bytes\"";
    let inline = "jwks = '[{\"kty\":\"oct\"}]'";
    for (section, line, key, fix) in [
        ("http", "listen = \"4000\"", "http.listen", "127.0.0.1:4000"),
        ("http", "listen = \"localhost:4000\"", "http.listen", "127.0.0.1:4000"),
        ("http", "admin_listen = \"9464\"", "http.admin_listen", "or \"off\""),
        ("http", "drain = \"2h\"", "http.drain", "use 0ms to 1h"),
        ("postgres", "url = \"\"", "postgres.url", "fill it"),
        ("postgres", "slot = \"My-Slot\"", "postgres.slot", "lower-case letters"),
        ("postgres", "slot = \"\"", "postgres.slot", "1 to 63 bytes"),
        ("postgres", "publication = \"\"", "postgres.publication", "1 to 63 bytes"),
        ("postgres", "pool = 0", "postgres.pool", "use 1 to 1000"),
        ("postgres", "check_timeout = \"1ms\"", "postgres.check_timeout", "use 10ms to 10m"),
        ("postgres", "wal_sender_timeout = \"1s\"", "postgres.wal_sender_timeout", "use 2s"),
        ("postgres", "heartbeat = \"10ms\"", "postgres.heartbeat", "0s for none"),
        ("postgres", "heartbeat = \"2h\"", "postgres.heartbeat", "use 1s to 1h"),
        ("postgres", "max_transaction = \"1 kB\"", "postgres.max_transaction", "at least 1 MiB"),
        ("postgres", "url_file = \"x\"", "postgres.url", "remove one"),
        ("log", "dir = \"\"", "log.dir", "--ephemeral"),
        ("log", "retain_bytes = \"1 MiB\"", "log.retain_bytes", "at least 64 MiB"),
        ("log", "retain_age = \"1s\"", "log.retain_age", "use 1m to"),
        ("log", "level = \"inof\"", "log.level", "did you mean \"info\"?"),
        ("log", "level = \"info,relay::x=loud\"", "log.level", "cannot be read"),
        ("auth", "jwt_secret = \"short\"", "auth.jwt_secret", "openssl rand"),
        ("auth", "jwt_secret_file = \"x\"", "auth.jwt_secret", "remove one"),
        ("auth", "roles = []", "auth.roles", "name the Postgres roles"),
        ("auth", "roles = [\"none\"]", "auth.roles", "a word of SQL"),
        ("auth", "roles = [\"\"]", "auth.roles", "1 to 63 bytes"),
        ("auth", inline, "auth.jwks", "{\"keys\": […]}"),
        ("auth", "jwks = \"http://example.org/keys\"", "auth.jwks", "use https://"),
        ("auth", "jwks = \"http://127.0.0.1.example.org/\"", "auth.jwks", "use https://"),
        ("auth", "jwks = \"https://a:b@example.org/\"", "auth.jwks", "remove it"),
        ("auth", "jwks = \"ftp://example.org/\"", "auth.jwks", "https://"),
        ("auth", "issuer = \"\"", "auth.issuer", "remove it"),
        ("realtime", "presence_grace = \"2h\"", "realtime.presence_grace", "use 0ms to 1h"),
        ("limits", "presence_calls = 0", "limits.presence_calls", "use at least 1"),
        ("realtime", "deletes = \"strct\"", "realtime.deletes", "did you mean \"strict\"?"),
        (
            "realtime",
            "deletes = \"all\"",
            "realtime.deletes",
            "\"authorised\", \"strict\", \"supabase\"",
        ),
        ("limits", "connections = 0", "limits.connections", "use 1 to"),
        ("limits", "subject_connections = 0", "limits.subject_connections", "use 1 to"),
        ("limits", "broadcast_payload = \"1 B\"", "limits.broadcast_payload", "at least 1 KiB"),
        ("limits", "frame = \"1 B\"", "limits.frame", "at least 16 KiB"),
        ("limits", "idle = \"1s\"", "limits.idle", "use 5s to 1d"),
        (
            "limits",
            "broadcast_payload = \"6 MB\"",
            "limits.broadcast_payload",
            "raise limits.frame",
        ),
        ("limits", "presence_payload = \"6 MB\"", "limits.presence_payload", "raise limits.frame"),
        ("limits", "outbox = \"1 GiB\"", "limits.outbox", "raise limits.outboxes"),
        ("auth", same, "auth.api_secret", "every client could act"),
        ("postgres", "url = \"mysql://u:canary@h/d\"", "postgres.url", "mysql:// is not Postgres"),
        ("postgres", "url = \"jdbc:postgresql://h/d\"", "postgres.url", "is for Java"),
        ("http", "pages = \"nowhere\"", "http.pages", "build the pages"),
        ("chat", "preset = \"suport\"", "chat.preset", "did you mean \"support\"?"),
        ("chat", "pool = 0", "chat.pool", "use 1 to 1000"),
        ("chat", "requests_per_second = 0", "chat.requests_per_second", "at least 1"),
        ("chat", "body = \"1 B\"", "chat.body", "at least 1 KiB"),
        ("chat", "sessions = \"a.\"", "chat.sessions", "1 to 63 bytes"),
        (
            "chat",
            "session_columns = [\"visitr=x\"]",
            "chat.session_columns",
            "did you mean visitor?",
        ),
        ("chat", "session_columns = [\"x\"]", "chat.session_columns", "meaning=name"),
        ("chat", "message_columns = [\"body=\"]", "chat.message_columns", "cannot do without body"),
        ("chat", "words = [\"actve=x\"]", "chat.words", "did you mean active?"),
        ("chat", "times = \"mine\"", "chat.times", "\"database\", \"relay\""),
    ] {
        assert_refused(section, line, key, fix);
    }
    for key in [
        "joins_per_second",
        "messages_per_second",
        "http_messages_per_second",
        "connection_joins_per_second",
        "subject_joins_per_second",
        "subject_messages_per_second",
        "presence_messages_per_second",
        "subject_presence_messages_per_second",
    ] {
        assert_refused("limits", &format!("{key} = 0"), &format!("limits.{key}"), "at least 1");
    }
}

/// Asserts that a line is refused in one line that names the key and says what to write instead.
#[track_caller]
fn assert_refused(section: &str, line: &str, key: &str, fix: &str) {
    let told = load(&with(section, line), &[]).expect_err(line);
    assert!(told.starts_with(&format!("{key}: ")), "{line}: {told}");
    assert!(told.contains(fix), "{line}: {told}");
    assert_eq!(told.lines().count(), 1, "{line}: {told}");
    assert!(!told.contains("canary"), "{line}: {told}");
}

#[test]
fn a_configuration_without_keys_or_postgres_says_both_at_once() {
    let told = load("", &[]).unwrap_err();
    assert!(told.contains("postgres.url: nothing to read from"), "{told}");
    assert!(told.contains("auth.jwt_secret: no token could be verified"), "{told}");
}

#[test]
fn a_faulty_variable_is_named() {
    let told = load(&with("", ""), &[("RELAY_HTTP__DRAIN", "10")]).unwrap_err();
    assert!(told.starts_with("RELAY_HTTP__DRAIN: expected a time"), "{told}");
    let told = load(&with("", ""), &[("RELAY_HTTP__LISTEN", "here")]).unwrap_err();
    assert!(told.starts_with("http.listen (RELAY_HTTP__LISTEN): \"here\""), "{told}");
}

#[test]
fn a_default_gives_way_to_a_smaller_limit_that_was_written() {
    let limits = load(&with("limits", "frame = \"1 MB\""), &[]).unwrap().limits;
    assert_eq!((limits.frame, limits.broadcast_payload), (1_000_000, 1_000_000));
}

#[test]
fn what_is_rarely_meant_is_doubted() {
    let doubts = |line: &str, files| {
        let config = load(&with("limits", line), &[]).unwrap();
        config.doubts(files).into_iter().map(|doubt| doubt.key).collect::<Vec<_>>()
    };
    assert_eq!(doubts("", Some(1 << 20)), [""; 0]);
    assert_eq!(doubts("", None), [""; 0]);
    assert_eq!(doubts("idle = \"30s\"", None), ["limits.idle"]);
    assert_eq!(doubts("connections = 1000", Some(1024)), ["limits.connections"]);
}

#[test]
fn a_missing_file_is_a_fault() {
    let told = load_file(Path::new("/nowhere/relay.toml"), &[]).unwrap_err();
    assert!(told.starts_with("/nowhere/relay.toml: the file cannot be read"), "{told}");
}

#[test]
fn the_environment_stands_above_the_file_and_the_file_above_the_defaults() {
    let text = with("postgres", "slot = \"from_file\"\npool = 9");
    let config = load(&text, &[("RELAY_POSTGRES__SLOT", "from_env")]).unwrap();
    assert_eq!(config.postgres.slot, "from_env");
    assert_eq!(config.postgres.pool, 9);
    assert_eq!(config.postgres.publication, "supabase_realtime");
    assert_eq!(config.realtime.deletes, Deletes::Authorised);
    assert_eq!(config.limits.frame, 5_000_000);
}

#[test]
fn secrets_are_read_from_files_and_the_line_end_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.toml");
    std::fs::write(directory.path().join("secret"), format!("{SECRET}\n")).unwrap();
    std::fs::write(directory.path().join("url"), format!("{URL}\r\n")).unwrap();
    let text =
        "[postgres]\nurl_file = \"url\"\n[auth]\njwt_secret_file = \"secret\"\njwks = \"keys\"\n";
    std::fs::write(&path, text).unwrap();
    let config = load_file(&path, &[]).unwrap();
    assert_eq!(config.postgres.url.reveal(), URL);
    assert_eq!(config.auth.jwt_secret.unwrap().reveal(), SECRET);
    assert_eq!(config.auth.jwks, Some(JwksSource::File(directory.path().join("keys"))));

    let other = "another-secret-that-is-long-enough-for-this";
    let config = load_file(&path, &[("RELAY_AUTH__JWT_SECRET", other)]).unwrap();
    assert_eq!(config.auth.jwt_secret.unwrap().reveal(), other);
    let missing = directory.path().join("missing").display().to_string();
    let told = load_file(&path, &[("RELAY_AUTH__JWT_SECRET_FILE", &missing)]).unwrap_err();
    let start = format!("auth.jwt_secret_file (RELAY_AUTH__JWT_SECRET_FILE): {missing}: ");
    assert!(told.starts_with(&start), "{told}");
}

#[test]
fn memory_that_leaves_a_client_less_than_one_frame_is_refused() {
    let told = load(&with("limits", "memory = \"64 MiB\""), &[]).unwrap_err();
    let reason = "limits.memory: 64 MiB leaves a client less than one message of limits.frame (5 MB); use at least 104 \
                  MiB, or smaller frames";
    assert_eq!(told, reason);
    let frames = "memory = \"64 MiB\"\nframe = \"2 MB\"\nbroadcast_payload = \"1 MB\"";
    assert_eq!(load(&with("limits", frames), &[]).unwrap().limits.memory, 64 << 20);
}

#[test]
fn a_jwks_is_a_path_an_address_or_the_set_itself() {
    let jwks =
        |text: &str| load(&with("auth", &format!("jwks = '{text}'")), &[]).unwrap().auth.jwks;
    let set = "{\"keys\": []}";
    assert_eq!(jwks(set), Some(JwksSource::Inline(set.to_owned())));
    for url in [
        "https://example.org/keys",
        "http://127.0.0.1:9/k",
        "http://[::1]:9/",
        "http://localhost/k",
    ] {
        assert_eq!(jwks(url), Some(JwksSource::Url(url.to_owned())));
    }
}

#[test]
fn origins_say_who_decided() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.toml");
    std::fs::write(&path, with("http", "drain = \"1s\"")).unwrap();
    let env = |name: &str| (name == "DATABASE_URL").then(|| "ignored".to_owned());
    let (_, origins) = Config::load(Some(&path), &env).unwrap();
    assert_eq!(origins.of("http.drain"), &Origin::File);
    assert_eq!(origins.of("postgres.url"), &Origin::File);
    assert_eq!(origins.of("http.listen"), &Origin::Default);
}

fn relay(directory: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command.args(args).current_dir(directory).env_clear().envs(variables.iter().copied());
    command.output().unwrap()
}

#[test]
fn config_show_tells_value_and_origin_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("relay.toml"), with("http", "drain = \"1s\"")).unwrap();
    let variables = [("RELAY_POSTGRES__SLOT", "other")];
    let output = relay(directory.path(), &["config", "show"], &variables);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let line = |key: &str| {
        text.lines()
            .find(|line| line.starts_with(key))
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
    };
    assert_eq!(line("http.drain"), ["http.drain", "1s", "file"]);
    assert_eq!(line("postgres.slot"), ["postgres.slot", "other", "RELAY_POSTGRES__SLOT"]);
    assert_eq!(line("postgres.pool"), ["postgres.pool", "4", "default"]);
    assert_eq!(line("auth.jwt_secret "), ["auth.jwt_secret", "‹set›", "file"]);
    assert!(!text.contains(SECRET) && !text.contains(URL), "{text}");
}

#[test]
fn config_defaults_prints_the_manual() {
    let directory = tempfile::tempdir().unwrap();
    let output = relay(directory.path(), &["config", "defaults"], &[]);
    let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("relay.toml"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), manual.unwrap());
}

#[test]
fn a_faulty_configuration_ends_with_code_2_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.toml");
    for (text, variables, expected) in [
        ("[auth]\njwt_secret = \"canary\"\n", &[][..], "auth.jwt_secret: 6 bytes"),
        ("[auth]\njwt_secrte = \"canary\"\n", &[], "did you mean `jwt_secret`?"),
        ("auth = \"canary\"\n", &[], "line 1, column 8"),
        ("", &[("RELAY_AUTH__JWT_SECRTE", "canary")], "did you mean RELAY_AUTH__JWT_SECRET?"),
        ("", &[("RELAY_AUTH_JWT_SECRET", "canary")], "did you mean RELAY_AUTH__JWT_SECRET?"),
        ("", &[("RELAY_AUTH__JWKS", "[canary]")], "auth.jwks (RELAY_AUTH__JWKS)"),
    ] {
        std::fs::write(&path, text).unwrap();
        for args in [&["config", "show"][..], &["run"], &["token", "mint", "--role", "anon"]] {
            let output = relay(directory.path(), args, variables);
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
            assert!(told.contains(expected), "{args:?}: {told}");
            assert!(!told.contains("canary"), "{args:?}: {told}");
        }
    }
}
