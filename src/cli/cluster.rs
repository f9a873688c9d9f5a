//! A throwaway Postgres server in a temporary directory, for `demo` and `bench`.
//!
//! It promises to be gone afterwards, however this process ends: a shell of its own process group holds the other
//! end of a pipe and, once the pipe closes, stops the server and removes the directory. Local sockets need no
//! password because the directory is closed to other users; TCP connections do.

pub(crate) mod programs;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tokio::process::Command;

use super::random;
use crate::error::{Error, ErrorKind};
use crate::postgres::Sql;

/// The superuser of the cluster.
pub(crate) const SUPERUSER: &str = "postgres";

/// A running throwaway server. Dropping it stops the server and removes its directory.
#[derive(Debug)]
pub(crate) struct Cluster {
    dir: PathBuf,
    port: u16,
    keeper: Child,
}

impl Cluster {
    /// Creates and starts a server, with `settings` (`name = value`) on top of the usual ones.
    ///
    /// # Errors
    /// `Misconfigured` when there are no server programs; `SourceUnreachable` with the server's own words.
    pub(crate) async fn start(purpose: &str, settings: &[&str]) -> Result<Self, Error> {
        let bin = programs::find()?;
        let user = programs::unprivileged()?;
        let dir = std::env::temp_dir().join(format!("relay-{purpose}-{}", random::hex(6)));
        make_private(&dir, user)
            .map_err(|error| failed(&format!("create {}", dir.display()), "").because(error))?;
        let keeper = keep(&bin, &dir, user)
            .map_err(|error| failed("start the shell that cleans up", "").because(error))?;
        let port = free_port()?;
        let cluster = Self { dir, port, keeper };
        let mut init = command(&bin.join("initdb"), user);
        init.args(["--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "-D"])
            .arg(cluster.data());
        let output =
            init.output().await.map_err(|error| failed("run initdb", "").because(error))?;
        if !output.status.success() {
            return Err(failed("run initdb", &String::from_utf8_lossy(&output.stderr)));
        }
        cluster.configure(settings).map_err(|e| failed("configure Postgres", "").because(e))?;
        let mut start = command(&bin.join("pg_ctl"), user);
        start
            .args(["start", "-w", "-t", "60", "-D"])
            .arg(cluster.data())
            .arg("-l")
            .arg(cluster.dir.join("log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status =
            start.status().await.map_err(|error| failed("run pg_ctl", "").because(error))?;
        if !status.success() {
            let log = std::fs::read_to_string(cluster.dir.join("log")).unwrap_or_default();
            return Err(failed("start Postgres", &log));
        }
        Ok(cluster)
    }

    /// A connection string through the local socket.
    pub(crate) fn local_url(&self, user: &str) -> String {
        format!("postgres:///postgres?host={}&port={}&user={user}", self.dir.display(), self.port)
    }

    /// A connection string over TCP.
    pub(crate) fn tcp_url(&self, user: &str, password: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// The directory that holds everything.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of the server's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join(format!(".s.PGSQL.{}", self.port))
    }

    /// Stops the server and removes the directory, waiting until both are done.
    pub(crate) fn stop(mut self) {
        self.release();
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn configure(&self, settings: &[&str]) -> std::io::Result<()> {
        let mut lines = vec![
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("port = {}", self.port),
            format!("unix_socket_directories = '{}'", self.dir.display()),
            "wal_level = logical\nfsync = off\nmax_wal_senders = 10".to_owned(),
            "max_replication_slots = 10\nlogging_collector = off".to_owned(),
        ];
        lines.extend(settings.iter().map(|&line| line.to_owned()));
        // The file is rewritten in place, so it keeps the owner initdb gave it.
        std::fs::write(self.data().join("postgresql.auto.conf"), lines.join("\n") + "\n")
    }

    fn release(&mut self) {
        drop(self.keeper.stdin.take());
        // The shell ends in any case, and there is nobody left to tell.
        let _ = self.keeper.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.release();
    }
}

/// Runs one of the shipped SQL files.
///
/// # Errors
/// `SourceRejected`: what Postgres answered.
pub(crate) async fn migrate(sql: &Sql, text: &str) -> Result<(), Error> {
    sql.client.batch_execute(text).await.map_err(|error| {
        Error::new(ErrorKind::SourceRejected, "could not prepare the database").because(error)
    })
}

/// Sets a role's password.
///
/// # Errors
/// As [`migrate`]; the password is in none of them.
pub(crate) async fn set_password(sql: &Sql, role: &str, password: &str) -> Result<(), Error> {
    let failed =
        || Error::new(ErrorKind::SourceRejected, format!("could not set {role}'s password"));
    let text = include_str!("../../sql/queries/set_password.sql");
    let row = sql.client.query_one(text, &[&role, &password]).await.map_err(|_| failed())?;
    sql.client.batch_execute(row.get("statement")).await.map_err(|_| failed())
}

/// A port of the loopback interface nobody listens on.
///
/// # Errors
/// `SourceUnreachable` when the system has none.
pub(crate) fn free_port() -> Result<u16, Error> {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| failed("find a free port", "").because(error))
}

fn make_private(dir: &Path, user: Option<(u32, u32)>) -> std::io::Result<()> {
    std::fs::create_dir(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    match user {
        Some((uid, gid)) => std::os::unix::fs::chown(dir, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

fn command(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The shell that stops the server and removes its directory once its input closes.
fn keep(bin: &Path, dir: &Path, user: Option<(u32, u32)>) -> std::io::Result<Child> {
    let script = "trap '' INT TERM HUP; cat >/dev/null; \
                  \"$0/pg_ctl\" -D \"$1/data\" -m immediate stop; \
                  rm -rf \"$1\" || { sleep 1; rm -rf \"$1\"; }";
    let mut command = std::process::Command::new("sh");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
        .args(["-c", script])
        .arg(bin)
        .arg(dir)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// The last words of a program that failed are the useful ones.
fn failed(what: &str, words: &str) -> Error {
    let error = Error::new(ErrorKind::SourceUnreachable, format!("could not {what}"));
    let mut lines: Vec<_> =
        words.lines().rev().filter(|line| !line.trim().is_empty()).take(4).collect();
    lines.reverse();
    if lines.is_empty() { error } else { error.because(lines.join("; ")) }
}
