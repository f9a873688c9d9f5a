//! Planting one fault, and trying everything about it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::scene::{self, readable, write};
use super::{Fault, Occupied, Server};
use crate::cli::report::{self, Fact, Verdict};
use crate::cli::{PROGRAM, configure, unconfigure};
use crate::support::cluster::command as of_postgres;
use crate::support::relay::get;
use crate::support::{Cluster, Database, PATIENCE, free_port, until};

/// Beginnings of statements about the whole server, which are not run: other cases share it.
const OF_SERVER: [&str; 3] =
    ["alter system", "select pg_reload_conf", "select pg_drop_replication_slot"];

/// The servers that the cases need.
pub(super) struct Servers {
    bare: Option<Cluster>,
    tight: Option<Cluster>,
}

/// A fault, planted.
pub(super) struct Planted {
    fault: Fault,
    database: Database,
    login: String,
    port: u16,
    directory: tempfile::TempDir,
    /// What another program occupies while the fault is tried.
    _occupied: Option<Program>,
}

/// Another program, which ends with the case.
enum Program {
    ListensOnPort { _listener: TcpListener },
    ReadsSlot { _process: Process },
}

/// A process that is killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Servers {
    pub(super) fn start(cases: &[Fault]) -> Self {
        let is_needed = |server| cases.iter().any(|fault| fault.server == server);
        let bare = is_needed(Server::Bare).then(|| {
            Cluster::start(&[
                ("wal_level", "replica"),
                ("max_replication_slots", "0"),
                ("max_wal_senders", "0"),
            ])
        });
        let tight = is_needed(Server::Tight).then(|| {
            let cluster = Cluster::start(&[("max_slot_wal_keep_size", "1MB")]);
            secure(&cluster);
            cluster
        });
        Self { bare, tight }
    }

    fn of(&self, server: Server) -> &Cluster {
        match server {
            Server::Shared => Cluster::shared(),
            Server::Bare => self.bare.as_ref().unwrap(),
            Server::Tight => self.tight.as_ref().unwrap(),
        }
    }
}

/// Turns TLS on, with a certificate that nobody signed but itself.
fn secure(cluster: &Cluster) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    for (name, text) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
        let script = r#"umask 077; cat > "$0""#;
        let path = cluster.data().join(name);
        let mut file =
            of_postgres("sh").args(["-c", script]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
        file.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(file.wait().unwrap().success());
    }
    let settings = cluster.data().join("postgresql.auto.conf");
    let mut settings = std::fs::OpenOptions::new().append(true).open(settings).unwrap();
    writeln!(settings, "ssl = on").unwrap();
    cluster.reload();
}

impl Planted {
    /// Plants it and tries everything; the error says what was not as the case expects.
    pub(super) async fn try_it(fault: Fault, servers: &Servers) -> Result<(), String> {
        let cluster = servers.of(fault.server);
        let database = scene::set(cluster).await;
        let version = database.text("select current_setting('server_version_num')").await;
        if version.parse::<u32>().unwrap() < fault.since {
            return Ok(());
        }
        let planted = Self::plant(fault, database, cluster).await;
        let outcome = planted.judge().await;
        let after = planted.filled(&planted.fault.after);
        planted.database.execute(&after).await;
        outcome
    }

    async fn plant(fault: Fault, database: Database, cluster: &Cluster) -> Self {
        let login =
            if fault.has_own_login { format!("login_{}", database.name) } else { "relay".into() };
        let directory = tempfile::tempdir().unwrap();
        let mut planted =
            Self { fault, database, login, port: free_port(), directory, _occupied: None };
        let database = &planted.database;
        if planted.fault.has_own_login {
            database
                .execute(&planted.filled(
                    "create role {login} login replication noinherit;
                     grant anon, authenticated, service_role to {login}",
                ))
                .await;
        }
        if planted.fault.has_chat {
            database.execute(include_str!("../../../sql/ENABLE_REALTIME_CHAT.sql")).await;
        }
        if planted.fault.has_realtime {
            database.with_realtime_again();
        }
        let elsewhere = planted.filled(&planted.fault.elsewhere);
        if !elsewhere.is_empty() {
            let url = cluster.url("postgres", "postgres");
            crate::support::database::connect(&url).await.batch_execute(&elsewhere).await.unwrap();
        }
        // One by one: some may not run in a transaction with others.
        for statement in planted.filled(&planted.fault.plant).split(";;") {
            database.execute(statement).await;
        }
        if !planted.fault.hba.is_empty() {
            let path = cluster.data().join("pg_hba.conf");
            let rules = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, format!("{}\n{rules}", planted.filled(&planted.fault.hba)))
                .unwrap();
            cluster.reload();
        }
        planted._occupied = match planted.fault.occupied {
            Some(Occupied::Port) => {
                let listener = TcpListener::bind(("127.0.0.1", planted.port)).unwrap();
                Some(Program::ListensOnPort { _listener: listener })
            }
            Some(Occupied::Slot) => {
                Some(Program::ReadsSlot { _process: planted.read_slot().await })
            }
            None => None,
        };
        planted
    }

    /// A program that reads the slot and does not call itself a relay.
    async fn read_slot(&self) -> Process {
        let slot = self.database.slot();
        let url = format!("{}?application_name=warehouse", self.database.url_as("relay"));
        let child = self
            .command(&["run"])
            .env("RELAY_POSTGRES__URL", url)
            .env("RELAY_LOG__DIR", self.directory.path().join("of-the-warehouse"))
            .env("RELAY_HTTP__LISTEN", format!("127.0.0.1:{}", free_port()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let active =
            format!("select active::text from pg_replication_slots where slot_name = '{slot}'");
        until("the slot to be read", || async {
            (self.database.text(&active).await == "true").then_some(())
        })
        .await;
        Process(child)
    }

    /// `{db}`, `{login}`, `{slot}`, `{directory}`, `{port}` and `{server}` (its port) replaced.
    fn filled(&self, text: &str) -> String {
        let server = self.database.url.split(':').nth(2).and_then(|rest| rest.split('/').next());
        text.replace("{db}", &self.database.name)
            .replace("{login}", &self.login)
            .replace("{slot}", &self.database.slot())
            .replace("{directory}", &self.directory.path().display().to_string())
            .replace("{port}", &self.port.to_string())
            .replace("{server}", server.unwrap_or_default())
    }

    fn command(&self, verb: &[&str]) -> Command {
        let shell = self.filled(&self.fault.shell);
        let mut command = if shell.is_empty() {
            Command::new(PROGRAM)
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{shell}; exec \"$0\" \"$@\""), PROGRAM]);
            command
        };
        unconfigure(&mut command);
        configure(&mut command, &self.database, self.port);
        command
            .args(verb)
            .current_dir(self.directory.path())
            .env("RELAY_POSTGRES__URL", self.database.url_as(&self.login))
            .env("RELAY_LOG__DIR", self.directory.path().join("log"));
        command.envs(self.fault.env.iter().map(|(name, value)| (name, self.filled(value))));
        command
    }

    async fn check(&self) -> Result<Vec<Fact>, String> {
        let mut command = self.command(&["check", "--json"]);
        command.args(self.fault.claims.iter().flat_map(|claims| ["--claims", claims]));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        report::facts(&output)
    }

    async fn judge(&self) -> Result<(), String> {
        let facts = self.check().await?;
        let fact = self.find(&facts)?;
        let sql: Vec<_> = self.fault.sql.iter().map(|sql| self.filled(sql)).collect();
        if fact.sql != sql {
            return Err(format!("prints {:?} instead of {sql:?}", fact.sql));
        }
        let words = fact.words.join("\n");
        if let Some(word) =
            self.fault.words.iter().map(|word| self.filled(word)).find(|word| !words.contains(word))
        {
            return Err(format!("does not advise {word:?}: {words:?}"));
        }
        self.run().await?;
        self.mend(&facts, &fact.about).await
    }

    fn find(&self, facts: &[Fact]) -> Result<Fact, String> {
        let about = self.filled(&self.fault.about);
        let verdict = self.fault.verdict;
        let says: Vec<_> = self.fault.says.iter().map(|words| self.filled(words)).collect();
        let is_it = |fact: &&Fact| {
            fact.about == about
                && fact.verdict == verdict
                && says.iter().all(|words| fact.says.contains(words))
        };
        let found = facts.iter().find(is_it).cloned();
        found.ok_or_else(|| {
            let others: Vec<_> = facts.iter().filter(|fact| fact.verdict != Verdict::Ok).collect();
            format!("no {verdict:?} about {about:?} says {says:?}; there are {others:?}")
        })
    }

    /// Runs everything that is printed, and looks what came of it.
    async fn mend(&self, facts: &[Fact], about: &str) -> Result<(), String> {
        let is_tried = |sql: &&String| !OF_SERVER.iter().any(|begin| sql.starts_with(begin));
        let statements: Vec<_> = facts.iter().flat_map(|fact| &fact.sql).filter(is_tried).collect();
        if statements.is_empty() || !self.fault.untried.is_empty() {
            return Ok(());
        }
        let before = readable(&self.database).await;
        for statement in &statements {
            let done = self.database.client().batch_execute(statement).await;
            done.map_err(|error| format!("{statement} fails: {:?}", error.as_db_error()))?;
        }
        write(&self.database).await.map_err(|why| format!("after {statements:?}: {why}"))?;
        let named = about.strip_prefix("table ").unwrap_or_default();
        let named = named.strip_prefix("public.").unwrap_or(named);
        for (key, seen) in readable(&self.database).await {
            let then = before.get(&key).map_or("", String::as_str);
            if key.1 != named && then != seen {
                return Err(format!("after {statements:?} {key:?} reads {seen}, before {then}"));
            }
        }
        let known: BTreeSet<_> = facts.iter().map(|fact| (&fact.about, &fact.says)).collect();
        let again = self.check().await?;
        let left = again.iter().find(|fact| {
            let is_new = !known.contains(&(&fact.about, &fact.says));
            fact.verdict == Verdict::Fault
                && (is_new || (fact.about == about && !fact.sql.is_empty()))
        });
        left.map_or(Ok(()), |left| Err(format!("after {statements:?}: {left:?}")))
    }

    /// What `relay run` says: in its log, at `/readyz`, or when it ends.
    async fn run(&self) -> Result<(), String> {
        let wanted = self.filled(&self.fault.run);
        let path = self.directory.path().join("said");
        let file = || std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let mut command = self.command(&["run"]);
        let mut relay = Process(command.stdout(file()).stderr(file()).spawn().unwrap());
        let said = || std::fs::read_to_string(&path).unwrap_or_default();
        let port = self.port;
        let is_own_port = self.fault.occupied != Some(Occupied::Port);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is_over = relay.0.try_wait().unwrap().is_some();
            let ready = if is_own_port { get(port, "/readyz") } else { None };
            let text = said();
            if text.contains(&wanted)
                || ready.as_ref().is_some_and(|(_, body)| body.contains(&wanted))
            {
                return Ok(());
            }
            if is_over || deadline < Instant::now() {
                return Err(format!("`relay run` does not say {wanted:?}: {ready:?}\n{text}"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
