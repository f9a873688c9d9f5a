//! Forgetting the change log when it is asked for: `relay log forget` puts a file into its directory.
//!
//! The directory is closed to everybody but the relay's user, so who may ask needs no further proof. The file is
//! removed when it is done, which is how the asker learns of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::changelog::DiskLog;
use crate::changelog::disk::REQUEST;
use crate::shutdown::Stage;

/// How often it is looked whether somebody asks.
const EVERY: Duration = Duration::from_secs(1);

/// Does what is asked until the stage stops.
pub(super) async fn run(log: Arc<DiskLog>, dir: PathBuf, stage: Stage) {
    let request = dir.join(REQUEST);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let heeding = async {
        loop {
            ticks.tick().await;
            if !tokio::fs::try_exists(&request).await.unwrap_or(false) {
                continue;
            }
            log.forget().await;
            tracing::info!(
                "the change log was told to forget: what was committed before is kept no more"
            );
            if let Err(error) = tokio::fs::remove_file(&request).await {
                tracing::error!(%error, "the request to forget cannot be removed, so it is done again");
            }
        }
    };
    tokio::select! {
        () = stage.stopping() => {}
        () = heeding => {}
    }
}
