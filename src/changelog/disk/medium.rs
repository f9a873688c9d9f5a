//! Where segments are kept: a directory of its own, locked while a relay uses it.
//!
//! Everything the log does to a disk goes through these two traits, so that tests can take the disk away.

use std::fmt::Debug;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::privacy::{self, PRIVATE_MODE};
use crate::error::{Error, ErrorKind};

/// A directory of segments.
pub(crate) trait Medium: Debug + Send + Sync {
    /// The names of everything in it.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A file that holds `bytes` and is on disk before it has its name. One that had the name is replaced by it.
    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<Arc<dyn Segment>>;
    /// A file that is there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Segment>>;
    /// Removes a file; one that is not there is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations and removals last.
    fn sync(&self) -> io::Result<()>;
}

/// One file.
pub(crate) trait Segment: Debug + Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads up to `buffer`'s length at `offset`; fewer bytes only at the end.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes what was written last. After an error, what was written since the last success is not to be relied on.
    fn sync(&self) -> io::Result<()>;
    /// Cuts it.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// How long it is.
    fn length(&self) -> io::Result<u64>;
}

/// A directory of the file system, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// The lock goes with the file.
    _lock: fs::File,
}

/// The file whose lock says that a relay uses the directory.
const LOCK: &str = "lock";
/// What a segment is called until it is on disk.
const UNFINISHED: &str = "unfinished";

impl Directory {
    /// Makes the directory if it is not there, closes it to other users, and locks it.
    ///
    /// # Errors
    /// It cannot be written to, is not the relay's own, or another process uses it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let cannot = |cause: io::Error| {
            let text = format!(
                "could not use log.dir {}; make it writable for the relay, or choose another",
                path.display()
            );
            Error::new(ErrorKind::Misconfigured, text).because(cause)
        };
        privacy::claim(path)?;
        let mut options = OpenOptions::new();
        options.create(true).read(true).append(true).mode(PRIVATE_MODE);
        let mut lock = options.open(path.join(LOCK)).map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => {
                privacy::close_files(path)?;
                // Who has it is for people only: a disk that is full must not matter.
                let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
                Ok(Self { path: path.to_owned(), _lock: lock })
            }
            Err(TryLockError::Error(cause)) => Err(cannot(cause)),
            Err(TryLockError::WouldBlock) => {
                let text = format!("log.dir {} is in use by {}", path.display(), user(lock));
                Err(Error::new(ErrorKind::LogInUse, text))
            }
        }
    }
}

/// Who has the lock, as far as its file tells.
fn user(lock: fs::File) -> String {
    let mut said = String::new();
    // More than a number was not written by us.
    let read = lock.take(20).read_to_string(&mut said);
    match (read, said.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

impl Medium for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name()));
        let names: Vec<_> = names.collect::<io::Result<_>>()?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<Arc<dyn Segment>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(PRIVATE_MODE);
        let unfinished = self.path.join(UNFINISHED);
        let file = options.open(&unfinished)?;
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        fs::rename(unfinished, self.path.join(name))?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.path.join(name))?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }
}

impl Segment for fs::File {
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
