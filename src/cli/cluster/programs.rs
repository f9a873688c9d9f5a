//! Finds the Postgres server programs, and the user they may run as.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, ErrorKind};

/// What a throwaway cluster needs.
const NEEDED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// Where the server programs are: `PGBIN`, the PATH, the usual places (newest first), or `pg_config --bindir`.
///
/// # Errors
/// `Misconfigured`, naming the package to install.
pub(crate) fn find() -> Result<PathBuf, Error> {
    if let Some(dir) = std::env::var_os("PGBIN").map(PathBuf::from) {
        if is_complete(&dir) {
            return Ok(dir);
        }
        let text = format!("PGBIN is {}, which has no initdb, pg_ctl and postgres", dir.display());
        return Err(Error::new(ErrorKind::Misconfigured, text));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(usual_places());
    places.extend(told_by_pg_config());
    places.into_iter().find(|dir| is_complete(dir)).ok_or_else(|| {
        let text = format!(
            "could not find the Postgres server programs (initdb, pg_ctl, postgres); install them with `{}`, \
             or set PGBIN to their directory",
            package(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
        );
        Error::new(ErrorKind::Misconfigured, text)
    })
}

/// The user and group to run Postgres as, when this process is root: Postgres refuses to run as root.
///
/// # Errors
/// `Misconfigured` when there is neither a user `postgres` nor `nobody`.
pub(crate) fn unprivileged() -> Result<Option<(u32, u32)>, Error> {
    if own_uid() != Some(0) {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = ["postgres", "nobody"].into_iter().find_map(|name| ids(&users, name));
    found.map(Some).ok_or_else(|| {
        let text = "Postgres refuses to run as root, and there is no user postgres or nobody to run it as; \
                    run this as an ordinary user";
        Error::new(ErrorKind::Misconfigured, text)
    })
}

/// This process' user.
pub(crate) fn own_uid() -> Option<u32> {
    let home = || std::env::var_os("HOME").and_then(|home| std::fs::metadata(home).ok());
    std::fs::metadata("/proc/self").ok().or_else(home).map(|found| found.uid())
}

fn is_complete(dir: &Path) -> bool {
    NEEDED.iter().all(|program| dir.join(program).is_file())
}

fn usual_places() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (parent, prefix, rest) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ] {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        let mut versions: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| (number_in(&entry.file_name()), entry.path().join(rest)))
            .collect();
        versions.sort();
        found.extend(versions.into_iter().rev().map(|(_, place)| place));
    }
    found.extend(["/opt/homebrew/bin", "/usr/local/pgsql/bin"].map(PathBuf::from));
    found
}

fn number_in(name: &OsStr) -> u32 {
    let text = name.to_string_lossy();
    let digits = text.chars().skip_while(|c| !c.is_ascii_digit());
    digits.take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

fn told_by_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

/// The user's and group's numbers from the text of `/etc/passwd`.
fn ids(users: &str, name: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The command that installs a Postgres server, by the text of `/etc/os-release`.
fn package(os_release: &str) -> &'static str {
    let is_like = |name: &str| {
        os_release.lines().filter_map(|line| line.split_once('=')).any(|(key, value)| {
            matches!(key, "ID" | "ID_LIKE")
                && value.trim_matches('"').split(' ').any(|word| word == name)
        })
    };
    match () {
        () if is_like("debian") => "sudo apt-get install postgresql",
        () if is_like("fedora") || is_like("rhel") => "sudo dnf install postgresql-server",
        () if is_like("alpine") => "sudo apk add postgresql",
        () if is_like("arch") => "sudo pacman -S postgresql",
        () if is_like("suse") => "sudo zypper install postgresql-server",
        () if cfg!(target_os = "macos") => "brew install postgresql@17",
        () => "your package manager (the package is called postgresql or postgresql-server)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_package_of_the_system() {
        assert_eq!(package("ID=ubuntu\nID_LIKE=debian\n"), "sudo apt-get install postgresql");
        assert_eq!(package("ID=\"debian\"\n"), "sudo apt-get install postgresql");
        assert_eq!(
            package("ID=\"rocky\"\nID_LIKE=\"rhel fedora\""),
            "sudo dnf install postgresql-server"
        );
    }

    #[test]
    fn reads_numbers_of_users() {
        let users = "root:x:0:0::/root:/bin/sh\npostgres:x:70:71::/:/bin/sh\nbroken:x\n";
        assert_eq!(ids(users, "postgres"), Some((70, 71)));
        assert_eq!(ids(users, "broken"), None);
        assert_eq!(ids(users, "nobody"), None);
    }

    #[test]
    fn finds_the_version_in_a_directory_name() {
        assert_eq!(number_in(OsStr::new("pgsql-16")), 16);
        assert_eq!(number_in(OsStr::new("postgresql@17")), 17);
        assert_eq!(number_in(OsStr::new("latest")), 0);
    }
}
