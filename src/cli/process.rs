//! A relay as a process of its own, so that its memory and processor time can be told from its client's.
//!
//! It runs under a shell that raises the limit of open files, and that kills it when this process is gone.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::get::get;
use crate::error::{Error, ErrorKind};
use crate::metrics::process;

/// How long a relay may take until it streams.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running relay. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    shell: Child,
    pid: u32,
    address: SocketAddr,
}

impl Process {
    /// Starts `relay run` with these flags and `variables`, and waits until it streams. Its log goes to `log`.
    ///
    /// # Errors
    /// `SourceUnreachable`, with the end of the log.
    pub(crate) async fn start(
        address: SocketAddr,
        flags: &[&str],
        variables: &[(&str, String)],
        log: &Path,
    ) -> Result<Self, Error> {
        let failed = |cause: String| {
            Error::new(ErrorKind::SourceUnreachable, "could not start a relay").because(cause)
        };
        let output = std::fs::File::create(log).map_err(|error| failed(error.to_string()))?;
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let script = "ulimit -n \"$(ulimit -Hn)\" 2>/dev/null; \
                      \"$0\" run \"$@\" >&2 & echo $!; exec >/dev/null; cat >/dev/null; kill -KILL $!";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .arg(program)
            .args(flags)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_LOG", "warn")
            .env("RELAY_HTTP__LISTEN", address.to_string())
            .env("RELAY_HTTP__ADMIN_LISTEN", "off")
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(output)
            .process_group(0)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let stdout = shell.stdout.take().ok_or_else(|| failed("no output".to_owned()))?;
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let pid = line.trim().parse().map_err(|_| failed("no process id".to_owned()))?;
        let process = Self { shell, pid, address };
        if tokio::time::timeout(PATIENCE, process.ready()).await.is_err() {
            let words = std::fs::read_to_string(log).unwrap_or_default();
            let tail: Vec<_> = words.lines().rev().take(5).collect();
            return Err(failed(tail.into_iter().rev().collect::<Vec<_>>().join("; ")));
        }
        Ok(process)
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        process::resident_bytes(Path::new(&format!("/proc/{}/status", self.pid)))
    }

    /// Processor time used so far.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        process::cpu_of(Path::new(&format!("/proc/{}/stat", self.pid)))
    }

    /// Ends it and waits until it is gone.
    pub(crate) async fn stop(mut self) {
        drop(self.shell.stdin.take());
        // The shell kills the relay and ends; there is nothing to be done if it does not.
        let _ = self.shell.wait().await;
    }

    async fn ready(&self) {
        while !matches!(get(self.address, "/readyz").await, Ok((200, _))) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
