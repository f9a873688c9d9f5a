//! Facts about this machine: whether `log.dir` can be written, and whether as many sockets can be open as are let in.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::fact::Facts;
use crate::config::Config;
use crate::metrics::process::most_files;

/// What facts about the directory are about.
const ABOUT: &str = "log.dir";

/// What is written to try the directory: enough that the write fails on a full disk.
static PROBE: [u8; 64 << 10] = [0; 64 << 10];

/// Files that are open besides sockets.
const OTHER_FILES: u64 = 200;

/// The facts.
pub(super) fn judge(config: &Config, facts: &mut Facts) {
    judge_directory(&config.log.dir, facts);
    judge_files(config.limits.connections, facts);
}

fn judge_directory(dir: &Path, facts: &mut Facts) {
    let shown = dir.display();
    let found = match fs::metadata(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return judge_parent(dir, facts);
        }
        Err(error) => {
            facts
                .bad(ABOUT, format!("{shown} cannot be looked at: {error}"))
                .also("correct log.dir, or the permissions of the directories above it");
            return;
        }
    };
    if !found.is_dir() {
        facts
            .bad(ABOUT, format!("{shown} is not a directory"))
            .also("name a directory in log.dir; it is made when it is absent");
        return;
    }
    let is_ours = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == found.uid());
    match probe(dir) {
        // Whether the directory's owner may write to it, only a check run by that user can tell.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_ours => {
            judge_foreign_owner(found.uid(), dir, facts);
        }
        Err(error) => {
            facts.bad(ABOUT, format!("{shown} cannot be written: {error}")).also(
                "give it to the user that the relay runs as, on a disk with room that is not mounted read-only",
            );
        }
        Ok(me) if me != found.uid() => judge_foreign_owner(found.uid(), dir, facts),
        Ok(_) => facts.good(ABOUT, format!("{shown} can be written")),
    }
}

/// The directory belongs to `owner`, who is another user than the one who runs the check.
fn judge_foreign_owner(owner: u32, dir: &Path, facts: &mut Facts) {
    let shown = dir.display();
    facts
        .odd(ABOUT, format!("{shown} belongs to user {owner}, who is not the one who runs this"))
        .also("run the check as the user that the relay runs as; then it tells whether that one may write");
}

/// The directory is absent: whether it can be made in the nearest directory above it that exists.
fn judge_parent(dir: &Path, facts: &mut Facts) {
    let there =
        dir.ancestors().skip(1).find(|above| above.as_os_str().is_empty() || above.exists());
    let above = match there {
        Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
        _ => PathBuf::from("."),
    };
    match probe(&above) {
        Ok(_) => facts.good(ABOUT, format!("{} is made when the relay starts", dir.display())),
        Err(error) => {
            facts
                .bad(
                    ABOUT,
                    format!("{} cannot be made in {}: {error}", dir.display(), above.display()),
                )
                .also("name a directory in log.dir that the user of the relay may make or write");
        }
    }
}

/// Writes a file to the directory, removes it, and returns the user it belonged to.
fn probe(dir: &Path) -> io::Result<u32> {
    let path = dir.join(format!(".relay-check-{}", std::process::id()));
    let written =
        fs::OpenOptions::new().write(true).create_new(true).open(&path).and_then(|mut file| {
            file.write_all(&PROBE)?;
            file.sync_all()?;
            Ok(file.metadata()?.uid())
        });
    // A file that could not be written to its end is there all the same.
    let _ = fs::remove_file(&path);
    written
}

fn judge_files(connections: usize, facts: &mut Facts) {
    let Some(limit) = most_files() else { return };
    let needed = (connections as u64).saturating_add(OTHER_FILES);
    if limit < needed {
        facts
            .odd("limits", format!("this user may have {limit} files open, and limits.connections is {connections}"))
            .also(format!(
                "start the relay under `ulimit -n {needed}` (systemd: LimitNOFILE={needed}), or lower limits.connections"
            ));
    } else {
        facts.good("limits", format!("{limit} files may be open, for {connections} connections"));
    }
}
