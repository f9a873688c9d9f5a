//! Connecting to Postgres: both kinds of connection, every sslmode and login method, and what each refusal says.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use relay::error::ErrorKind;
use relay::postgres::{Target, connect};
use relay::shutdown::Stage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::source::{Wish, published};
use crate::support::{Cluster, Database, PATIENCE, database, free_port, until};

/// A password with everything a connection string can trip over.
const PASSWORD: &str = r"a b'c%/\@:ü";
/// The same, percent-encoded.
const ENCODED: &str = "a%20b'c%25%2F%5C%40%3A%C3%BC";

/// Who may log in how. The superuser, who sets things up, always may.
const HBA: &str = "
local   all postgres trust
host    all postgres all trust
local   all all scram-sha-256
hostssl all certified all cert
hostssl all encrypted all scram-sha-256
host    all md5 all md5
host    all clear all password
host    all scram all scram-sha-256
";

/// A server that asks for passwords and speaks TLS, and a directory with the files a client needs.
struct Guarded {
    cluster: Cluster,
    database: Database,
    files: tempfile::TempDir,
}

impl Guarded {
    async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let at = |name: &str| files.path().join(name);
        let (ca, other) = (authority("relay test"), authority("somebody else"));
        std::fs::write(at("ca.pem"), ca.pem()).unwrap();
        std::fs::write(at("other.pem"), other.pem()).unwrap();
        sign(&ca, "localhost", &at("server"));
        sign(&ca, "certified", &at("client"));

        let cluster = Cluster::start(&[]);
        for name in ["server.pem", "server.key", "ca.pem"] {
            give(&at(name), &cluster.data().join(name), &cluster.data());
        }
        std::fs::write(cluster.data().join("pg_hba.conf"), HBA).unwrap();
        let database = published(&cluster).await;
        for setting in [
            "ssl_cert_file = 'server.pem'",
            "ssl_key_file = 'server.key'",
            "ssl_ca_file = 'ca.pem'",
            "ssl = on",
        ] {
            database.execute(&format!("alter system set {setting}")).await;
        }
        let password = PASSWORD.replace('\'', "''");
        for role in ["scram", "encrypted", "clear", "md5"] {
            let method = if role == "md5" { "md5" } else { "scram-sha-256" };
            database
                .execute(&format!(
                    "set password_encryption = '{method}';
                     create role {role} login replication password '{password}'"
                ))
                .await;
        }
        database.execute("create role certified login replication").await;
        cluster.restart("fast");
        Self { cluster, database, files }
    }

    /// A connection string for `user` at `host`, with `parameters` after it.
    fn url(&self, user: &str, host: &str, parameters: &str) -> String {
        let (port, name) = (self.cluster.port(), &self.database.name);
        let login = if user == "certified" { user.to_owned() } else { format!("{user}:{ENCODED}") };
        format!("postgres://{login}@{host}:{port}/{name}?{parameters}")
    }

    fn file(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    /// Both kinds of connection come to be, and are encrypted or not.
    async fn lets_in(&self, url: &str, is_encrypted: bool) {
        let stage = Stage::new();
        let sql = connect(&Target::parse(url).unwrap(), "relay-check", &[], &stage).await;
        let sql = sql.unwrap_or_else(|error| panic!("{url}: {error}"));
        let ssl = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        let answer: bool = sql.client.query_one(ssl, &[]).await.unwrap().get(0);
        assert_eq!(answer, is_encrypted, "{url}");

        let mut reader = Wish { url: url.to_owned(), ..Wish::on(&self.database) }.read();
        reader.outcome().await.unwrap_or_else(|reason| panic!("{url}: {reason}"));
        let ssl = format!(
            "select ssl from pg_stat_ssl join pg_replication_slots on active_pid = pid where slot_name = '{}'",
            self.database.slot()
        );
        let admin = self.database.connect().await;
        let answer: bool = admin.query_one(&ssl, &[]).await.unwrap().get(0);
        assert_eq!(answer, is_encrypted, "{url}");
        reader.stop().await;
        assert!(stage.stop(PATIENCE).await);
    }

    /// Neither kind of connection comes to be; both say all of `words`, and not the password.
    async fn refuses(&self, url: &str, words: &[&str]) {
        let stage = Stage::new();
        let sql = connect(&Target::parse(url).unwrap(), "relay-check", &[], &stage).await;
        let error = sql.err().unwrap_or_else(|| panic!("{url} was let in"));
        let mut reader = Wish { url: url.to_owned(), ..Wish::on(&self.database) }.read();
        let reason = reader.outcome().await.expect_err(url);
        for text in [error.to_string(), reason] {
            for word in words {
                assert!(text.contains(word), "{url}: no {word:?} in {text}");
            }
            assert!(!text.contains(PASSWORD) && !text.contains(ENCODED), "{text}");
        }
        reader.stop().await;
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `path.pem` and `path.key`: a certificate for `name`, as host and as common name.
fn sign(issuer: &CertifiedIssuer<'static, KeyPair>, name: &str, path: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, issuer).unwrap();
    std::fs::write(path.with_extension("pem"), certificate.pem()).unwrap();
    std::fs::write(path.with_extension("key"), key.serialize_pem()).unwrap();
}

/// Copies a file for the server's eyes only.
fn give(from: &Path, to: &Path, like: &Path) {
    std::fs::copy(from, to).unwrap();
    std::fs::set_permissions(to, PermissionsExt::from_mode(0o600)).unwrap();
    let owner = std::fs::metadata(like).unwrap();
    chown(to, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[tokio::test]
async fn every_login_method_and_every_sslmode() {
    let server = Guarded::start().await;
    let ca = server.file("ca.pem");
    for user in ["scram", "md5", "clear"] {
        server.lets_in(&server.url(user, "127.0.0.1", "sslmode=disable"), false).await;
        server.lets_in(&server.url(user, "127.0.0.1", "sslmode=prefer"), true).await;
        server.lets_in(&server.url(user, "127.0.0.1", "sslmode=require"), true).await;
    }
    let verified = format!("sslmode=verify-full&sslrootcert={ca}");
    server.lets_in(&server.url("encrypted", "localhost", &verified), true).await;
    let chain = format!("sslmode=verify-ca&sslrootcert={ca}");
    server.lets_in(&server.url("encrypted", "127.0.0.1", &chain), true).await;

    // The same as key=value words, the server's own certificate pinned, and a certificate instead of a password.
    let words = format!(
        r"host=localhost port={} user=scram password='{}' dbname={} sslmode=verify-full sslrootcert={}",
        server.cluster.port(),
        PASSWORD.replace('\\', r"\\").replace('\'', r"\'"),
        server.database.name,
        server.file("server.pem")
    );
    server.lets_in(&words, true).await;
    let certified = format!(
        "sslmode=verify-full&sslrootcert={ca}&sslcert={}&sslkey={}",
        server.file("client.pem"),
        server.file("client.key")
    );
    server.lets_in(&server.url("certified", "localhost", &certified), true).await;
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let server = Guarded::start().await;
    let url = |user: &str, parameters: &str| server.url(user, "127.0.0.1", parameters);
    let wrong = url("scram", "").replace(ENCODED, "hunter2");
    server.refuses(&wrong, &["password authentication failed", "check user and password"]).await;
    server
        .refuses(&url("encrypted", "sslmode=disable"), &["pg_hba.conf", "allow the relay's host"])
        .await;
    let other = format!("sslmode=verify-ca&sslrootcert={}", server.file("other.pem"));
    server
        .refuses(&url("scram", &other), &["signed by nobody who is trusted here", "sslrootcert"])
        .await;
    let require = format!("sslmode=require&sslrootcert={}", server.file("other.pem"));
    server.refuses(&url("scram", &require), &["signed by nobody who is trusted here"]).await;
    let full = format!("sslmode=verify-full&sslrootcert={}", server.file("ca.pem"));
    server.refuses(&url("scram", &full), &["not valid for name", "subjectAltName"]).await;
    server.refuses(&url("certified", "sslmode=require"), &["certificate"]).await;
    let missing = url("scram", "").replace(&format!(":{ENCODED}"), "");
    server.refuses(&missing, &["password"]).await;
    let elsewhere = url("scram", "").replace(&server.database.name, "nowhere");
    server.refuses(&elsewhere, &["\"nowhere\" does not exist", "check the database"]).await;

    let nofile = url("scram", "sslmode=verify-ca&sslrootcert=/nowhere/ca.pem");
    let stage = Stage::new();
    let error = connect(&Target::parse(&nofile).unwrap(), "x", &[], &stage).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("sslrootcert /nowhere/ca.pem"), "{error}");
}

#[tokio::test]
async fn channel_binding_can_be_required() {
    let server = Guarded::start().await;
    let url = |user: &str, parameters: &str| server.url(user, "127.0.0.1", parameters);
    let required = "sslmode=require&channel_binding=require";
    server.lets_in(&url("scram", required), true).await;
    server.lets_in(&url("scram", "sslmode=require&channel_binding=disable"), true).await;
    server.refuses(&url("md5", required), &["binding"]).await;
    server.refuses(&url("clear", required), &["binding"]).await;
    let plain = "sslmode=disable&channel_binding=require";
    server.refuses(&url("scram", plain), &["binding"]).await;
}

#[tokio::test]
async fn a_unix_socket_serves_both_kinds_of_connection() {
    let server = Guarded::start().await;
    let (directory, port) = (server.cluster.dir().display().to_string(), server.cluster.port());
    let name = &server.database.name;
    let encoded = directory.replace('/', "%2F");
    let uri = format!("postgres://scram:{ENCODED}@{encoded}:{port}/{name}?sslmode=verify-full");
    server.lets_in(&uri, false).await;
    let query = format!("postgres://scram:{ENCODED}@/{name}?host={directory}&port={port}");
    server.lets_in(&query, false).await;
    let nowhere = uri.replace(&format!(":{port}"), ":1");
    server.refuses(&nowhere, &[".s.PGSQL.1"]).await;
}

#[tokio::test]
async fn a_server_without_tls_is_used_only_if_that_was_allowed() {
    let database = published(Cluster::shared()).await;
    let mut reader =
        Wish { url: format!("{}?sslmode=prefer", database.url), ..Wish::on(&database) }.read();
    assert!(reader.outcome().await.is_ok());
    reader.stop().await;
    let url = format!("{}?sslmode=require", database.url);
    let mut reader = Wish { url, ..Wish::on(&database) }.read();
    let reason = reader.outcome().await.unwrap_err();
    assert!(reason.contains("does not offer TLS"), "{reason}");
    reader.stop().await;
}

#[tokio::test]
async fn a_dead_first_host_is_passed_over() {
    let database = published(Cluster::shared()).await;
    let dead = format!("127.0.0.1:{}", free_port());
    let url = database.url.replace("@", &format!("@{dead},"));
    let mut reader = Wish { url: url.clone(), ..Wish::on(&database) }.read();
    assert!(reader.outcome().await.is_ok());
    let stage = Stage::new();
    connect(&Target::parse(&url).unwrap(), "relay-check", &[], &stage).await.unwrap();
    reader.stop().await;

    let both = format!("postgres://postgres@{dead},{dead}/x");
    let error = connect(&Target::parse(&both).unwrap(), "x", &[], &stage).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::SourceUnreachable);
    assert_eq!(error.to_string().matches(&dead).count(), 2, "{error}");
}

#[tokio::test]
async fn a_read_only_first_host_is_passed_over_when_asked() {
    let read_only = Cluster::start(&[]);
    let database = published(Cluster::shared()).await;
    let admin = database::connect(&read_only.url("postgres", "postgres")).await;
    admin.batch_execute(&format!("create database {}", database.name)).await.unwrap();
    admin.batch_execute("alter system set default_transaction_read_only = on").await.unwrap();
    read_only.reload();
    until("the first host to be read-only", || async {
        let fresh = database::connect(&read_only.url("postgres", "postgres")).await;
        let row = fresh.query_one("show transaction_read_only", &[]).await.unwrap();
        (row.get::<_, String>(0) == "on").then_some(())
    })
    .await;
    let first = format!("@127.0.0.1:{},", read_only.port());
    let url = format!("{}?target_session_attrs=read-write", database.url.replace('@', &first));
    let mut reader = Wish { url: url.clone(), ..Wish::on(&database) }.read();
    assert!(reader.outcome().await.is_ok());
    let stage = Stage::new();
    let sql = connect(&Target::parse(&url).unwrap(), "relay-check", &[], &stage).await.unwrap();
    let port: String = sql.client.query_one("show port", &[]).await.unwrap().get(0);
    assert_ne!(port, read_only.port().to_string());
    reader.stop().await;

    let alone =
        format!("{}?target_session_attrs=read-write", read_only.url("postgres", &database.name));
    let error = connect(&Target::parse(&alone).unwrap(), "x", &[], &stage).await.err().unwrap();
    assert!(error.to_string().contains("is not read-write"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_postgres_is_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // A tag, and the announcement of more than a gigabyte.
            socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 1024]).await;
                std::future::pending::<()>().await;
            });
        }
    });
    let database = published(Cluster::shared()).await;
    let url = format!("postgres://u@127.0.0.1:{port}/d?sslmode=disable");
    let mut reader = Wish { url, ..Wish::on(&database) }.read();
    let reason = reader.outcome().await.unwrap_err();
    assert!(reason.contains("announced a message of 1414811695 bytes"), "{reason}");
    reader.stop().await;
    let url = format!("postgres://u@127.0.0.1:{port}/d?sslmode=require");
    let mut reader = Wish { url, ..Wish::on(&database) }.read();
    let reason = reader.outcome().await.unwrap_err();
    assert!(reason.contains("was not Postgres'"), "{reason}");
    reader.stop().await;
}

#[tokio::test]
async fn session_settings_are_pinned_on_both_kinds_of_connection() {
    let database = published(Cluster::shared()).await;
    let name = &database.name;
    for setting in [
        "datestyle = 'German'",
        "intervalstyle = 'iso_8601'",
        "extra_float_digits = 0",
        "bytea_output = 'escape'",
        "timezone = 'Asia/Kolkata'",
    ] {
        database.execute(&format!("alter database {name} set {setting}")).await;
    }
    database
        .execute("alter table t add at timestamptz, add span interval, add f float8, add b bytea")
        .await;
    let url = format!("{}?options=-c%20datestyle%3DSQL", database.url);
    let mut reader = Wish { url: url.clone(), ..Wish::on(&database) }.read();
    assert!(reader.outcome().await.is_ok());
    let row =
        r"1, null, '2026-02-03 04:05:06.7+00', '1 mon 2 days 03:00', 0.1::float8 + 0.2, '\x00ff'";
    database.connect().await.batch_execute(&format!("insert into t values ({row})")).await.unwrap();
    let expected =
        ["2026-02-03 04:05:06.7+00", "1 mon 2 days 03:00:00", "0.30000000000000004", r"\x00ff"];
    let transactions = reader.next().await;
    let cells = &transactions[0].changes[0].subject().unwrap().cells;
    let streamed: Vec<_> = cells[2..].iter().map(|cell| cell.text().unwrap()).collect();
    assert_eq!(streamed, expected);
    let stage = Stage::new();
    let options = [("search_path", "a, b")];
    let sql =
        connect(&Target::parse(&url).unwrap(), "relay-check", &options, &stage).await.unwrap();
    let query = "select at::text, span::text, f::text, b::text, current_setting('search_path'),
                 current_setting('application_name') from public.t";
    let row = sql.client.query_one(query, &[]).await.unwrap();
    let selected: Vec<String> = (0..6).map(|column| row.get(column)).collect();
    assert_eq!(selected[..4], expected);
    assert_eq!(selected[4..], ["a, b", "relay-check"]);
    reader.stop().await;
}
