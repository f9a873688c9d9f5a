//! A disk for tests that can be full, refuse to sync, lose power, and rot.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::medium::{Medium, Segment};

/// What a power failure keeps or loses as a whole.
const PAGE: usize = 64;

/// A directory in memory that knows what would survive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flaky(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    /// As it is seen now.
    files: BTreeMap<String, Arc<Mutex<Content>>>,
    /// Names that survive.
    names: BTreeMap<String, Arc<Mutex<Content>>>,
    /// Bytes that can still be written.
    space: Option<usize>,
    refuses_sync: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug)]
struct File {
    content: Arc<Mutex<Content>>,
    disk: Flaky,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flaky {
    /// Only so many bytes can be written from now on.
    pub(crate) fn leave(&self, space: Option<usize>) {
        lock(&self.0).space = space;
    }

    /// Whether fsync fails from now on.
    pub(crate) fn refuse_sync(&self, refuses: bool) {
        lock(&self.0).refuses_sync = refuses;
    }

    /// What is there after a power failure: what was synced, and of the rest whatever `chance` lets through.
    pub(crate) fn after_power_failure(&self, mut chance: impl FnMut() -> bool) -> Self {
        let disk = lock(&self.0);
        let mut files = BTreeMap::new();
        let names = disk.names.iter().chain(&disk.files);
        for (name, content) in names {
            let is_certain = disk.names.contains_key(name);
            if files.contains_key(name) || !is_certain && chance() {
                continue;
            }
            // Removed, but the removal was not made to last.
            let is_gone = !disk.files.contains_key(name);
            if is_gone && chance() {
                continue;
            }
            let content = lock(content).clone();
            let length = if chance() { content.synced.len() } else { content.written.len() };
            let mut survived = vec![0; length];
            for (at, page) in survived.chunks_mut(PAGE).enumerate() {
                let at = at * PAGE;
                let synced = content.synced.get(at..).unwrap_or_default();
                let written = content.written.get(at..).unwrap_or_default();
                let is_same = synced.iter().zip(written).take(page.len()).all(|(a, b)| a == b)
                    && synced.len() >= page.len();
                let from = if is_same || chance() { written } else { synced };
                for (byte, from) in page.iter_mut().zip(from) {
                    *byte = *from;
                }
            }
            let content = Content { written: survived.clone(), synced: survived };
            files.insert(name.clone(), Arc::new(Mutex::new(content)));
        }
        let names = files.clone();
        Self(Arc::new(Mutex::new(Disk { files, names, space: None, refuses_sync: false })))
    }

    /// What is there after the process was killed: everything that was written.
    pub(crate) fn after_kill(&self) -> Self {
        let disk = lock(&self.0);
        let copy = |content: &Arc<Mutex<Content>>| Arc::new(Mutex::new(lock(content).clone()));
        let files: BTreeMap<_, _> =
            disk.files.iter().map(|(name, content)| (name.clone(), copy(content))).collect();
        let names =
            disk.names.keys().filter_map(|name| Some((name.clone(), Arc::clone(files.get(name)?))));
        let names = names.collect();
        Self(Arc::new(Mutex::new(Disk { files, names, space: None, refuses_sync: false })))
    }

    /// The files and their lengths.
    pub(crate) fn lengths(&self) -> Vec<(String, usize)> {
        let disk = lock(&self.0);
        disk.files
            .iter()
            .map(|(name, content)| (name.clone(), lock(content).written.len()))
            .collect()
    }

    /// Changes a file behind the log's back.
    pub(crate) fn bend(&self, name: &str, bend: impl FnOnce(&mut Vec<u8>)) {
        let disk = lock(&self.0);
        let mut content = lock(disk.files.get(name).expect("no such file"));
        bend(&mut content.written);
        content.synced = content.written.clone();
    }
}

impl Medium for Flaky {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.0).files.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<Arc<dyn Segment>> {
        let content = Arc::new(Mutex::new(Content::default()));
        let file = File { content: Arc::clone(&content), disk: self.clone() };
        file.write(bytes, 0)?;
        file.sync()?;
        lock(&self.0).files.insert(name.to_owned(), content);
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        let content = lock(&self.0).files.get(name).cloned();
        let content = content.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(File { content, disk: self.clone() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.0).files.remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = lock(&self.0);
        if disk.refuses_sync {
            return Err(io::Error::other("the directory was not synced"));
        }
        disk.names = disk.files.clone();
        Ok(())
    }
}

impl Segment for File {
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = lock(&self.disk.0);
        let fits = bytes.len().min(disk.space.unwrap_or(usize::MAX));
        disk.space = disk.space.map(|space| space - fits);
        let offset = usize::try_from(offset).unwrap();
        let mut content = lock(&self.content);
        let end = offset + fits;
        if content.written.len() < end {
            content.written.resize(end, 0);
        }
        content.written[offset..end].copy_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = lock(&self.content);
        let rest = content.written.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        if lock(&self.disk.0).refuses_sync {
            return Err(io::Error::other("the file was not synced"));
        }
        let mut content = lock(&self.content);
        content.synced = content.written.clone();
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        lock(&self.content).written.truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.content).written.len() as u64)
    }
}
