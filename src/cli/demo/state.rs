//! Where a running demo can be found: a small file that only its user can read, gone when the demo is.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::cli::cluster::programs::own_uid;
use crate::error::{Error, ErrorKind};

/// What another command needs to join a demo.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Demo {
    /// `ws://…`
    pub(crate) address: String,
    /// The secret that signs its tokens.
    pub(crate) jwt_secret: String,
    /// A token that may read everything.
    pub(crate) token: String,
    /// Its database, as a superuser.
    pub(crate) database_url: String,
}

/// The file of a running demo; removed when dropped, and by a shell when the demo is killed.
#[derive(Debug)]
pub(crate) struct Announced {
    keeper: Child,
}

impl Demo {
    /// The running demo of this user, if there is one.
    pub(crate) fn find() -> Option<Self> {
        let path = path();
        let found = std::fs::symlink_metadata(&path).ok()?;
        // In a shared directory anybody may leave a file under this name; only our own is believed.
        if !found.is_file() || own_uid() != Some(found.uid()) || found.mode() & 0o077 != 0 {
            return None;
        }
        let value: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            address: text("address")?,
            jwt_secret: text("jwt_secret")?,
            token: text("token")?,
            database_url: text("database_url")?,
        })
    }

    /// Writes the file, in place of one that a killed demo left.
    ///
    /// # Errors
    /// `Misconfigured`, naming the file.
    pub(crate) fn announce(&self) -> Result<Announced, Error> {
        let path = path();
        let failed = |error: std::io::Error| {
            let context = format!("could not write {}", path.display());
            Error::new(ErrorKind::Misconfigured, context).because(error)
        };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let announced = Announced { keeper: keep(&path).map_err(failed)? };
        let value = json!({
            "address": self.address,
            "jwt_secret": self.jwt_secret,
            "token": self.token,
            "database_url": self.database_url,
        });
        writeln!(file, "{value}").map_err(failed)?;
        Ok(announced)
    }
}

impl std::fmt::Debug for Demo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Demo").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // The shell ends in any case, and there is nobody left to tell.
        let _ = self.keeper.wait();
    }
}

/// The shell that removes the file once its input closes.
fn keep(path: &Path) -> std::io::Result<Child> {
    Command::new("sh")
        .args(["-c", "trap '' INT TERM HUP; cat >/dev/null; rm -f \"$0\""])
        .arg(path)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// `$XDG_RUNTIME_DIR/relay-demo.json`, or a file of the user's own in the temporary directory.
fn path() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir()) {
        Some(dir) => dir.join("relay-demo.json"),
        None => {
            std::env::temp_dir().join(format!("relay-demo-{}.json", own_uid().unwrap_or_default()))
        }
    }
}
