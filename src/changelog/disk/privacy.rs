//! Who may read what is kept: nobody but the user that the relay runs as.
//!
//! The log has rows as Postgres wrote them, those included that row security hides, so whoever reads its files is past
//! every policy. The directory is 0700 and its files are 0600, from their creation on and whatever the umask. What an earlier
//! version left open is closed at the start, with a line in the log. What cannot be closed, because it belongs to
//! somebody else or because other things are in it, is refused: the modes of a directory that is not the relay's own are
//! never changed. A directory of root's that a volume is mounted on stays as it is, unless everybody may write there.

use std::fs::{self, DirBuilder, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use super::segment::number_of;
use crate::error::{Error, ErrorKind};

/// The mode of the directory.
const CLOSED: u32 = 0o700;
/// The mode of every file in it.
pub const PRIVATE_MODE: u32 = 0o600;
/// The bits that let others in.
const OTHERS: u32 = 0o077;
/// The bit that lets everybody make, rename and remove files.
const ANYBODY_WRITES: u32 = 0o002;
/// The user that reads everything, whatever the modes.
const ROOT: u32 = 0;
/// The bit of a directory that users share, such as /tmp.
const SHARED: u32 = 0o1000;

/// The file by which the relay that uses the directory is asked to forget what came before now.
pub const REQUEST: &str = "forget";

/// Files of the relay that are no segments, and what the system puts into a disk of its own.
const NAMES: [&str; 6] = ["lock", "unfinished", "resumes", "resumes.new", REQUEST, "lost+found"];

/// Asks the relay that uses the directory to forget; it removes the file when it has.
///
/// # Errors
/// The file cannot be made.
pub fn ask_to_forget(dir: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).mode(PRIVATE_MODE).open(dir.join(REQUEST)).map(drop)
}

/// Makes the directory, or sees to it that one that is there is closed to others.
///
/// # Errors
/// `Misconfigured`: it cannot be made or closed, or is not the relay's own.
pub(super) fn claim(path: &Path) -> Result<(), Error> {
    let unusable = |cause| {
        let text = format!(
            "could not use log.dir {}; make it writable for the relay, or choose another",
            path.display()
        );
        Error::new(ErrorKind::Misconfigured, text).because(cause)
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), fs::create_dir_all).map_err(unusable)?;
            return DirBuilder::new().mode(CLOSED).create(path).map_err(unusable);
        }
        Err(error) => return Err(unusable(error)),
        Ok(found) if !found.is_dir() => {
            return Err(unusable(io::ErrorKind::NotADirectory.into()));
        }
        Ok(found) => {
            let mode = found.mode();
            let is_lent = is_lent(found.uid(), mode, own_user());
            if !is_lent {
                is_own(path, &found)?;
            }
            if mode & OTHERS == 0 {
                return Ok(());
            }
            is_of_the_log(path, mode, &names(path).map_err(unusable)?)?;
            if is_lent {
                // Only root could close it. Who can look into it finds the names of closed files.
                return Ok(());
            }
            fs::set_permissions(path, Permissions::from_mode(CLOSED)).map_err(unusable)?;
            tell(path, &fs::metadata(path).map_err(unusable)?, mode);
        }
    }
    Ok(())
}

/// Closes the files of an earlier process to others. The directory is locked: nobody else makes or removes any.
///
/// # Errors
/// `Misconfigured`: a file that cannot be closed, or is not the relay's own.
pub(super) fn close_files(path: &Path) -> Result<(), Error> {
    let unusable = |file: &Path, cause: io::Error| {
        let text = format!("could not use {} in log.dir", file.display());
        Error::new(ErrorKind::Misconfigured, text).because(cause)
    };
    let mut closed = 0_u32;
    for name in names(path).map_err(|cause| unusable(path, cause))? {
        if !is_known(&name) || name == "lost+found" {
            continue;
        }
        let file = path.join(&name);
        // Of a link, not of what it leads to.
        let found = fs::symlink_metadata(&file).map_err(|cause| unusable(&file, cause))?;
        if !found.is_file() {
            return Err(unusable(&file, io::Error::other("it is no plain file; remove it")));
        }
        is_own(&file, &found)?;
        if found.mode() & OTHERS != 0 {
            fs::set_permissions(&file, Permissions::from_mode(PRIVATE_MODE))
                .map_err(|cause| unusable(&file, cause))?;
            closed += 1;
        }
    }
    if 0 < closed {
        tracing::warn!(dir = %path.display(), files = closed, "files of the change log had modes for other users; they are 0600 now");
    }
    Ok(())
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    let names =
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

fn is_known(name: &str) -> bool {
    NAMES.contains(&name) || number_of(name).is_some()
}

/// Whether a directory is root's, who can read everything anyway, and nobody can put files into it but root and a group: as
/// a volume is that an orchestrator mounts for the group of the relay.
fn is_lent(owner: u32, mode: u32, own: Option<u32>) -> bool {
    owner == ROOT && own.is_some_and(|own| own != ROOT) && mode & ANYBODY_WRITES == 0
}

/// Whoever owns something can open it again at any time.
fn is_own(path: &Path, found: &Metadata) -> Result<(), Error> {
    let Some(own) = own_user().filter(|own| *own != found.uid()) else { return Ok(()) };
    let text = format!(
        "{} in log.dir belongs to user {} and the relay runs as user {own}: its owner could read rows that row security \
         hides; give it to user {own}, or name another directory (one that is not there yet is made)",
        path.display(),
        found.uid()
    );
    Err(Error::new(ErrorKind::Misconfigured, text))
}

/// Other things in it say that the directory is open for a reason.
fn is_of_the_log(path: &Path, mode: u32, names: &[String]) -> Result<(), Error> {
    let stranger = names.iter().find(|name| !is_known(name));
    let why = match stranger {
        Some(name) => format!("has other things in it ({name})"),
        None if mode & SHARED != 0 => "is one that users share".to_owned(),
        None => return Ok(()),
    };
    let text = format!(
        "log.dir {} is open to other users (mode {:04o}) and {why}; name a directory of its own, such as {}",
        path.display(),
        mode & 0o7777,
        path.join("relay-log").display()
    );
    Err(Error::new(ErrorKind::Misconfigured, text))
}

fn tell(path: &Path, found: &Metadata, before: u32) {
    let (dir, before) = (path.display(), format!("{:04o}", before & 0o7777));
    if found.mode() & OTHERS == 0 {
        tracing::warn!(%dir, before, "log.dir was open to other users, who may have read rows; it is 0700 now");
    } else {
        tracing::warn!(%dir, before, "log.dir is open to other users, and its file system does not let it be closed");
    }
}

/// The user whose rights count for files, where the system says so.
fn own_user() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_directory_with_other_things_in_it_is_refused_and_left_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        for (mode, file) in [(0o755, Some("notes.txt")), (0o1777, None)] {
            let dir = place.path().join(format!("{mode:o}"));
            fs::create_dir(&dir).unwrap();
            fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
            if let Some(file) = file {
                fs::write(dir.join(file), "").unwrap();
            }
            let told = claim(&dir).unwrap_err().to_string();
            assert!(told.contains("name a directory of its own"), "{told}");
            assert_eq!(mode_of(&dir), mode);
            // Closed by whoever put them there, it is none of our business.
            fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
            claim(&dir).unwrap();
        }
    }

    #[test]
    fn a_volume_of_roots_that_a_group_may_write_is_as_good_as_ones_own() {
        for (owner, mode, own, expected) in [
            (0, 0o42775, Some(65_532), true),
            (0, 0o40770, Some(65_532), true),
            (0, 0o40777, Some(65_532), false),
            (0, 0o41777, Some(65_532), false),
            (1000, 0o42775, Some(65_532), false),
            (0, 0o42775, Some(0), false),
        ] {
            assert_eq!(is_lent(owner, mode, own), expected, "{owner} {mode:o} {own:?}");
        }
    }

    #[test]
    fn a_link_in_place_of_a_file_is_refused_and_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let (dir, other) = (place.path().join("log"), place.path().join("other"));
        claim(&dir).unwrap();
        fs::write(&other, "").unwrap();
        fs::set_permissions(&other, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&other, dir.join("resumes")).unwrap();
        assert!(close_files(&dir).unwrap_err().to_string().contains("no plain file"));
        assert_eq!(mode_of(&other), 0o644);
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("log");
        claim(&dir).unwrap();
        fs::write(dir.join("resumes"), "").unwrap();
        for path in [dir.join("resumes"), dir.clone()] {
            // Only root can give something away.
            if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
                return;
            }
            let told = claim(&dir).and_then(|()| close_files(&dir)).unwrap_err().to_string();
            assert!(told.contains("belongs to user 12345"), "{told}");
        }
    }
}
