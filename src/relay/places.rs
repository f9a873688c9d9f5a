//! Keeps where clients with a `resume` id continue, in the directory of the change log.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::error::{Error, ErrorKind};
use crate::hub::Hub;
use crate::hub::resumes::file::ResumeFile;
use crate::metrics::Metrics;
use crate::model::time::PgTime;
use crate::shutdown::Stage;

/// What a killed relay had not saved is delivered again.
const EVERY: Duration = Duration::from_secs(1);

/// The file is written anew when it has this many times more records than count.
const WASTE: usize = 4;

/// Smaller files are left as they are.
const SMALL: usize = 10_000;

/// Places that were not used for this long are forgotten, in minutes.
const FORGET_AFTER: u32 = 30 * 24 * 60;

/// The keeper.
#[derive(Debug)]
pub(super) struct Places {
    hub: Arc<Hub>,
    file: Mutex<Book>,
    now: fn() -> PgTime,
    metrics: Metrics,
}

#[derive(Debug)]
struct Book {
    file: ResumeFile,
    /// The last attempt failed: what it should have saved is unknown.
    is_behind: bool,
}

impl Places {
    /// Opens the file in `directory` and gives the hub what is there.
    pub(super) fn open(
        directory: &Path,
        hub: Arc<Hub>,
        now: fn() -> PgTime,
        metrics: Metrics,
    ) -> Result<Arc<Self>, Error> {
        let (file, saved) = ResumeFile::open(directory).map_err(|cause| {
            let text = format!("could not open the places of clients in {}", directory.display());
            Error::new(ErrorKind::Misconfigured, text).because(cause)
        })?;
        hub.resumes().load(saved);
        let file = Mutex::new(Book { file, is_behind: false });
        Ok(Arc::new(Self { hub, file, now, metrics }))
    }

    /// Saves what changed, every second, until the stage stops.
    pub(super) async fn run(self: Arc<Self>, stage: Stage) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stage.stopping() => return,
                _ = ticks.tick() => {}
            }
            let places = Arc::clone(&self);
            // A panic there would be told by the next call.
            let _ = tokio::task::spawn_blocking(move || places.save()).await;
        }
    }

    /// Saves what changed; waits for the disk.
    pub(super) fn save(&self) {
        let mut book = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let minutes = (self.now)().unix_micros().div_euclid(60_000_000);
        let minute = u32::try_from(minutes).unwrap_or(0);
        let resumes = self.hub.resumes();
        let is_wasteful = book.file.records() > SMALL.max(WASTE * resumes.len());
        let (saved, result) = if book.is_behind || is_wasteful {
            let all = resumes.all(minute, minute.saturating_sub(FORGET_AFTER));
            (all.len(), book.file.replace(&all))
        } else {
            let changed = resumes.changed(minute);
            if changed.is_empty() {
                return;
            }
            (changed.len(), book.file.append(&changed))
        };
        match result {
            Ok(()) => {
                if std::mem::take(&mut book.is_behind) {
                    tracing::info!("the places of clients are saved again");
                }
                self.metrics.places_saved.inc_by(u64::try_from(saved).unwrap_or(0));
            }
            Err(error) => {
                if !std::mem::replace(&mut book.is_behind, true) {
                    tracing::error!(%error, "the places of clients cannot be saved; if the relay ends now, they are told of a gap or get more again");
                }
            }
        }
    }
}
