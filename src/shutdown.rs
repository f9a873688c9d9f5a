//! Stages that stop in order and wait for their tasks.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that stop together. Cloning shares the stage.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Stage {
    /// An empty, running stage.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` in this stage. The task watches [`Stage::stopping`] itself.
    #[allow(clippy::disallowed_methods, reason = "this is the tracked way to spawn")]
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tasks.track_future(task))
    }

    /// Completes when the stage is asked to stop.
    pub async fn stopping(&self) {
        self.token.cancelled().await;
    }

    /// Whether the stage was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Asks every task to stop, without waiting.
    pub fn ask(&self) {
        self.token.cancel();
    }

    /// Asks every task to stop and waits up to `patience`. True when all of them did.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.token.cancel();
        self.tasks.close();
        tokio::time::timeout(patience, self.tasks.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_its_tasks() {
        let stage = Stage::new();
        let inner = stage.clone();
        let task = stage.spawn(async move { inner.stopping().await });
        assert!(stage.stop(Duration::from_secs(5)).await);
        assert!(task.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_on_a_task_that_does_not_stop() {
        let stage = Stage::new();
        stage.spawn(std::future::pending::<()>());
        assert!(!stage.stop(Duration::from_secs(1)).await);
    }
}
