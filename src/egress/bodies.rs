//! Bodies of requests, read within their size, their time, and what their sender may hold.
//!
//! Memory is taken as the body arrives, not as it is announced. A body that comes too slowly is given up, so nobody holds
//! memory by sending next to nothing.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use tokio::time::{timeout, timeout_at};

use super::pace::Pace;
use crate::memory::{Full, Kind, Memory, MemoryReservation, PIECE};
use crate::model::CallerIdentity;

/// How long a body may take to arrive, however fast it comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a body over the limit that are read, so that its sender hears the answer.
const MAX_DISCARDED: usize = 32_000_000;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is larger than it may be.
    TooLarge,
    /// There is no memory for it.
    Full(Full),
    /// It did not arrive in time, or too slowly.
    Late,
    /// It did not arrive whole.
    Broken,
}

/// Reads a body of `most` bytes. Its memory is held for as long as what is returned beside it.
///
/// # Errors
/// Why it was not read whole.
pub(super) async fn read(
    memory: &Memory,
    caller: &CallerIdentity,
    most: usize,
    mut body: Body,
) -> Result<(Bytes, MemoryReservation), Fault> {
    let pace = Pace::begin(PATIENCE);
    let mut held = memory.reserve(Kind::Bodies, caller, 0).map_err(Fault::Full)?;
    let mut whole = Vec::new();
    loop {
        let frame = timeout_at(pace.due(whole.len()), body.frame()).await;
        let Some(frame) = frame.map_err(|_| Fault::Late)? else { break };
        let Ok(bytes) = frame.map_err(|_| Fault::Broken)?.into_data() else { continue };
        let length = whole.len() + bytes.len();
        if most < length {
            drop((whole, held));
            // It had its time already; what is left is read for a moment only.
            let _ = timeout(PATIENCE, discard(body)).await;
            return Err(Fault::TooLarge);
        }
        held.resize(length.next_multiple_of(PIECE)).map_err(Fault::Full)?;
        whole.extend_from_slice(&bytes);
    }
    Ok((whole.into(), held))
}

async fn discard(mut body: Body) {
    let mut discarded = 0;
    while let Some(Ok(frame)) = body.frame().await {
        discarded += frame.data_ref().map_or(0, Bytes::len);
        if MAX_DISCARDED < discarded {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::metrics::Metrics;

    /// One byte, each second.
    fn trickle() -> Body {
        Body::from_stream(stream::unfold((), |()| async {
            sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
        }))
    }

    async fn read_of(
        name: &str,
        memory: &Memory,
        body: Body,
    ) -> Result<(Bytes, MemoryReservation), Fault> {
        read(memory, &CallerIdentity::Subject(name.into()), 1 << 20, body).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_within_its_size_its_time_and_its_memory() {
        // A caller may hold 384 KiB.
        let memory = Memory::new(8 << 20, &Metrics::new());
        let (bytes, held) = read_of("ann", &memory, Body::from(vec![7; 300 << 10])).await.unwrap();
        assert_eq!((bytes.len(), memory.held(Kind::Bodies)), (300 << 10, 320 << 10));
        let full = read_of("ann", &memory, Body::from(vec![7; 100 << 10])).await.unwrap_err();
        assert!(matches!(full, Fault::Full(full) if full.is_of_caller));
        assert!(read_of("bob", &memory, Body::from(vec![7; 100 << 10])).await.is_ok());
        drop(held);
        assert!(read_of("ann", &memory, Body::from(vec![7; 100 << 10])).await.is_ok());
        let large = read_of("ann", &memory, Body::from(vec![7; (1 << 20) + 1])).await;
        assert_eq!(large.unwrap_err(), Fault::TooLarge);
        let began = Instant::now();
        assert_eq!(read_of("ann", &memory, trickle()).await.unwrap_err(), Fault::Late);
        assert_eq!(began.elapsed(), Duration::from_secs(10));
        assert_eq!(memory.held(Kind::Bodies), 0);
    }
}
