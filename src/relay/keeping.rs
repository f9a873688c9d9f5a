//! What a relay keeps in `log.dir`: the change log, and the places of clients.
//!
//! One process uses the directory at a time. Another one with the same directory stands by until it is let go, as it
//! does for the slot; then it goes on with everything that was kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tracing::info;

use super::forgetting;
use super::places::Places;
use crate::changelog::DiskLog;
use crate::changelog::disk::Settings;
use crate::error::{Error, ErrorKind, Remedy};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::model::time::PgTime;
use crate::shutdown::Stage;
use crate::source::SourceState;

/// How often it is looked whether the directory was let go.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How to open what is kept.
#[derive(Clone, Debug)]
pub(super) struct Keeping {
    /// Where, and how much.
    pub(super) settings: Settings,
    /// Is told the places of clients, and asked for them.
    pub(super) hub: Arc<Hub>,
    /// The wall clock.
    pub(super) now: fn() -> PgTime,
    /// What is counted.
    pub(super) metrics: Metrics,
}

/// What is kept, open.
#[derive(Debug)]
pub(super) struct Kept {
    /// The change log.
    pub(super) log: Arc<DiskLog>,
    places: Arc<Places>,
    dir: PathBuf,
}

impl Keeping {
    /// Opens it; the inner error says who uses it already.
    pub(super) fn open(&self) -> Result<Result<Kept, Error>, Error> {
        let log = match DiskLog::open(&self.settings, self.metrics.clone()) {
            Ok(log) => Arc::new(log),
            Err(taken) if taken.kind().remedy() == Remedy::StandBy => {
                self.metrics.standby.set(1);
                return Ok(Err(taken));
            }
            Err(error) => return Err(error),
        };
        let (hub, metrics) = (Arc::clone(&self.hub), self.metrics.clone());
        let places = Places::open(&self.settings.dir, hub, self.now, metrics)?;
        Ok(Ok(Kept { log, places, dir: self.settings.dir.clone() }))
    }

    /// Stands by, saying so through `state`, until it can be opened; `None` when the stage stops.
    pub(super) async fn wait(
        self,
        taken: Error,
        state: &watch::Sender<SourceState>,
        stage: &Stage,
    ) -> Result<Option<Kept>, Error> {
        info!(reason = %taken, "standing by");
        loop {
            tokio::select! {
                () = stage.stopping() => return Ok(None),
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            let keeping = self.clone();
            let opened = spawn_blocking(move || keeping.open()).await;
            let opened = opened.map_err(|panic| {
                Error::new(ErrorKind::Bug, "opening the change log panicked").because(panic)
            })?;
            match opened? {
                Ok(kept) => {
                    info!(dir = %self.settings.dir.display(), "the change log was let go; taking over");
                    self.metrics.standby.set(0);
                    let reason = "the process before this one is gone; taking over".to_owned();
                    state.send_replace(SourceState::Standby { reason });
                    return Ok(Some(kept));
                }
                Err(taken) => {
                    let now = standing_by(&taken);
                    state.send_if_modified(|state| {
                        let is_news = *state != now;
                        *state = now;
                        is_news
                    });
                }
            }
        }
    }
}

impl Kept {
    /// Saves places now and then until the stage stops, and closes the log.
    pub(super) async fn keep(self, stage: Stage) {
        tokio::join!(
            Arc::clone(&self.places).run(stage.clone()),
            forgetting::run(Arc::clone(&self.log), self.dir.clone(), stage),
        );
        let (closed, closing) = oneshot::channel();
        // A thread of its own: a disk that hangs must not hold up the end of the process.
        std::thread::spawn(move || {
            self.places.save();
            self.log.close();
            let _ = closed.send(());
        });
        // It panicked if it says nothing: its panic was printed.
        let _ = closing.await;
    }
}

/// What is told while the directory is taken.
pub(super) fn standing_by(taken: &Error) -> SourceState {
    let reason = format!(
        "{taken}; this relay takes over when that one stops (a relay of another slot needs a log.dir of its own)"
    );
    SourceState::Standby { reason }
}
