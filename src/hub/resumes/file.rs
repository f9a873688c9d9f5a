//! The file in which places outlive the process: records of one size, the last of a key counts.
//!
//! ```text
//! record   key 16 · epoch u64 · commit u64 · index u32 · minute u32 · crc32c u32
//! ```
//!
//! Numbers are little-endian. The highest bit of the minute says that the client may not know that it is new. A record
//! whose checksum is wrong is passed over: it was being written when the process ended, and the one before it delivers
//! more, not less.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{Found, Key, Saved};
use crate::changelog::disk::PRIVATE_MODE;
use crate::model::{Epoch, Lsn, Position};

const NAME: &str = "resumes";
const RECORD: usize = 44;
const SUMMED: usize = 40;

/// A minute of a client that may not know that it is new.
const NEW: u32 = 1 << 31;

/// An open file.
#[derive(Debug)]
pub struct ResumeFile {
    path: PathBuf,
    file: File,
    records: usize,
}

impl ResumeFile {
    /// Opens the file in `directory`, and reads what is there.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn open(directory: &Path) -> io::Result<(Self, Vec<Saved>)> {
        let path = directory.join(NAME);
        let mut file = options().read(true).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (records, rest) = bytes.as_chunks::<RECORD>();
        if !rest.is_empty() {
            file.set_len((records.len() * RECORD) as u64)?;
        }
        let saved = records.iter().filter_map(decode).collect();
        Ok((Self { path, file, records: records.len() }, saved))
    }

    /// How many records it has, those that count no more included.
    pub const fn records(&self) -> usize {
        self.records
    }

    /// Adds records, and returns when they are on disk.
    ///
    /// # Errors
    /// They may not be.
    pub fn append(&mut self, saved: &[Saved]) -> io::Result<()> {
        let bytes: Vec<u8> = saved.iter().flat_map(encode).collect();
        self.file.write_all(&bytes)?;
        self.records += saved.len();
        self.file.sync_data()
    }

    /// Replaces everything at once.
    ///
    /// # Errors
    /// The old file is still there.
    pub fn replace(&mut self, saved: &[Saved]) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = options().open(&fresh)?;
        file.set_len(0)?;
        let bytes: Vec<u8> = saved.iter().flat_map(encode).collect();
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.path)?;
        (self.file, self.records) = (file, saved.len());
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(PRIVATE_MODE);
    options
}

fn encode(saved: &Saved) -> [u8; RECORD] {
    let Saved { key, found: Found { position, is_new }, minute } = saved;
    let minute = if *is_new { minute | NEW } else { minute & !NEW };
    let mut bytes = Vec::with_capacity(RECORD);
    bytes.extend_from_slice(&key.0);
    bytes.extend_from_slice(&position.epoch.number().to_le_bytes());
    bytes.extend_from_slice(&position.commit_lsn.bytes().to_le_bytes());
    bytes.extend_from_slice(&position.index.to_le_bytes());
    bytes.extend_from_slice(&minute.to_le_bytes());
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes.try_into().unwrap_or([0; RECORD])
}

fn decode(record: &[u8; RECORD]) -> Option<Saved> {
    let (body, sum) = record.split_at(SUMMED);
    if u32::from_le_bytes(sum.try_into().ok()?) != crc32c::crc32c(body) {
        return None;
    }
    let number = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
    let small = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let position = Position {
        epoch: Epoch::new(number(16)?),
        commit_lsn: Lsn::new(number(24)?),
        index: small(32)?,
    };
    let minute = small(36)?;
    let found = Found { position, is_new: minute & NEW != 0 };
    Some(Saved { key: Key(body.get(..16)?.try_into().ok()?), found, minute: minute & !NEW })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(key: u8, commit: u64) -> Saved {
        let position = Position { epoch: Epoch::new(7), commit_lsn: Lsn::new(commit), index: 2 };
        let found = Found { position, is_new: key == 1 };
        Saved { key: Key([key; 16]), found, minute: 9 }
    }

    #[test]
    fn what_was_saved_is_there_again_and_half_a_record_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        let (mut file, before) = ResumeFile::open(directory.path()).unwrap();
        assert!(before.is_empty());
        file.append(&[saved(1, 10), saved(2, 20)]).unwrap();
        file.append(&[saved(1, 30)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let (mut file, before) = ResumeFile::open(directory.path()).unwrap();
        assert_eq!(before, [saved(1, 10), saved(2, 20)]);
        file.append(&[saved(3, 40)]).unwrap();
        let (mut file, before) = ResumeFile::open(directory.path()).unwrap();
        assert_eq!((before.len(), before[2]), (3, saved(3, 40)));
        file.replace(&[saved(3, 40)]).unwrap();
        file.append(&[saved(4, 50)]).unwrap();
        let (file, before) = ResumeFile::open(directory.path()).unwrap();
        assert_eq!((file.records(), &before[..]), (2, &[saved(3, 40), saved(4, 50)][..]));
    }

    #[test]
    fn a_damaged_record_is_passed_over() {
        let record = encode(&saved(1, 10));
        assert_eq!(decode(&record), Some(saved(1, 10)));
        for at in 0..RECORD {
            let mut damaged = record;
            damaged[at] ^= 0x10;
            assert_eq!(decode(&damaged), None, "{at}");
        }
    }
}
