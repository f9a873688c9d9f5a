//! Waiting for an answer of Postgres, and not for ever: a server that stopped, or a proxy before one, keeps its connections.

use std::time::Duration;

use tokio::time::timeout;

use crate::error::{Error, ErrorKind};

/// The answer, if it comes within `limit`.
///
/// # Errors
/// `SourceUnreachable` when none came, or what `asking` came to.
pub(super) async fn within<T>(
    limit: Duration,
    asking: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit, asking).await.unwrap_or_else(|_| {
        let what = format!("no answer for {} s", limit.as_secs());
        Err(Error::new(ErrorKind::SourceUnreachable, what))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_an_unreachable_server() {
        let limit = Duration::from_secs(5);
        let silence = std::future::pending::<Result<(), Error>>();
        let error = within(limit, silence).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceUnreachable);
        assert!(error.to_string().contains("no answer for 5 s"), "{error}");
        assert_eq!(within(limit, async { Ok(1) }).await.unwrap(), 1);
    }
}
