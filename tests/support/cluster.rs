//! A throwaway Postgres server.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use super::{Database, free_port, unique, until};

/// The superuser of every cluster.
pub const SUPERUSER: &str = "postgres";

/// A server of the test's own, stopped and removed when dropped or when the test process dies.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    port: u16,
    keeper: Mutex<Child>,
}

/// Where the server programs are: `PGBIN`, the PATH, or Debian's place (newest first).
pub fn bin_dir() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        if let Some(dir) = std::env::var_os("PGBIN") {
            return PathBuf::from(dir);
        }
        let mut debian: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
            .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
            .unwrap_or_default();
        debian.sort();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path);
        let mut places = debian.into_iter().rev().chain(on_path);
        places
            .find(|dir| dir.join("initdb").exists())
            .expect("no Postgres server programs; run `make setup`")
    };
    FOUND.get_or_init(find).clone()
}

/// The unprivileged user Postgres runs as when the tests run as root: (uid, gid).
fn unprivileged() -> Option<(u32, u32)> {
    let me = Command::new("id").arg("-u").output().unwrap();
    if String::from_utf8_lossy(&me.stdout).trim() != "0" {
        return None;
    }
    let number = |flag: &str, user: &str| -> Option<u32> {
        let output = Command::new("id").args([flag, user]).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    let user = if number("-u", "postgres").is_some() { "postgres" } else { "nobody" };
    Some((number("-u", user).unwrap(), number("-g", user).unwrap()))
}

/// A command run as the server's user.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = unprivileged() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").env("LC_ALL", "C.UTF-8");
    command
}

impl Cluster {
    /// The cluster most tests share; each takes a [`Database`] of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// Starts a cluster of the test's own, with `settings` on top of the usual ones.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let dir = std::env::temp_dir().join(unique(&format!("relay-test-{}", std::process::id())));
        std::fs::create_dir_all(&dir).unwrap();
        if let Some((uid, gid)) = unprivileged() {
            std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).unwrap();
        }
        let bin = bin_dir();
        let data = dir.join("data");
        let init = command(bin.join("initdb"))
            .args([
                "--no-sync",
                "-A",
                "trust",
                "-U",
                SUPERUSER,
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "-D",
            ])
            .arg(&data)
            .output()
            .unwrap();
        assert!(init.status.success(), "initdb: {}", String::from_utf8_lossy(&init.stderr));
        let port = free_port();
        let mut lines = vec![
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("port = {port}"),
            format!("unix_socket_directories = '{}'", dir.display()),
            "wal_level = logical\nfsync = off\nmax_connections = 300".to_owned(),
            "max_replication_slots = 2000\nmax_wal_senders = 100\nshared_buffers = 64MB".to_owned(),
            "timezone = 'UTC'\nlog_timezone = 'UTC'\nlogging_collector = off".to_owned(),
        ];
        lines.extend(settings.iter().map(|(name, value)| format!("{name} = '{value}'")));
        std::fs::write(data.join("postgresql.auto.conf"), lines.join("\n") + "\n").unwrap();
        let keeper = keep(&bin, &dir);
        let cluster = Self { dir, port, keeper: Mutex::new(keeper) };
        cluster.ctl(&["start", "-w", "-t", "60", "-l", &cluster.log().display().to_string()]);
        cluster
    }

    /// Its TCP port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The directory with its data directory (`data`), socket and log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The server's log file.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// A connection string for `user` and `database`.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// A database nobody else uses, empty.
    pub async fn database(&self) -> Database {
        Database::create(self).await
    }

    /// Stops the server (`fast`, `immediate`) and waits for it.
    pub fn stop(&self, mode: &str) {
        self.ctl(&["stop", "-w", "-t", "60", "-m", mode]);
    }

    /// Starts it again and waits until it accepts connections.
    pub fn start_again(&self) {
        self.ctl(&["start", "-w", "-t", "60", "-l", &self.log().display().to_string()]);
    }

    /// Stops and starts it.
    pub fn restart(&self, mode: &str) {
        self.stop(mode);
        self.start_again();
    }

    /// Lets no commit be visible until [`Self::release_commits`], though it is streamed: they wait for a synchronous
    /// standby that does not exist. Returns a connection to write with.
    pub async fn hold_commits(&self, database: &Database) -> tokio_postgres::Client {
        database.execute("alter system set synchronous_standby_names = 'ghost'").await;
        self.reload();
        // Not the setting that a session shows decides, but that the checkpointer has seen it: so commits are tried until
        // one waits. They write nothing that anybody reads, but they write: else there is nothing to wait for.
        let (probe, watcher) = (database.connect().await, database.connect().await);
        let pid: i32 = probe.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        let commits = tokio::spawn(async move {
            let write = "select pg_logical_emit_message(true, 'probe', '')";
            while probe.query(write, &[]).await.is_ok() {}
        });
        until("a commit to wait for the standby", || async {
            let waits = "select from pg_stat_activity where pid = $1 and wait_event = 'SyncRep'";
            (!watcher.query(waits, &[&pid]).await.unwrap().is_empty()).then_some(())
        })
        .await;
        commits.abort();
        watcher.query("select pg_terminate_backend($1, 10000)", &[&pid]).await.unwrap();
        database.connect().await
    }

    /// Lets commits through that [`Self::hold_commits`] held back.
    pub async fn release_commits(&self, database: &Database) {
        database.execute("alter system reset synchronous_standby_names").await;
        self.reload();
    }

    /// Re-reads the configuration files.
    pub fn reload(&self) {
        self.ctl(&["reload"]);
    }

    fn ctl(&self, arguments: &[&str]) {
        let status = command(bin_dir().join("pg_ctl"))
            .arg("-D")
            .arg(self.data())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
        assert!(status.success(), "pg_ctl {arguments:?}: {}", log());
    }
}

/// A shell that stops the server and removes its directory once its input closes, however this process ends.
fn keep(bin: &Path, dir: &Path) -> Child {
    let script = r#"trap '' INT TERM HUP; cat >/dev/null; "$0/pg_ctl" -D "$1/data" -m immediate stop; rm -rf "$1""#;
    command("sh")
        .args(["-c", script])
        .arg(bin)
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap();
        drop(keeper.stdin.take());
        let _ = keeper.wait();
    }
}
