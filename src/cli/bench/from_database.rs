//! From COMMIT of a `realtime.send` to the subscriber, at a steady rate.
//!
//! Measured as in `latency`: from just before the writer sends COMMIT until the client has read the frame. The floor is
//! the same messages, until their `CopyData` has been read.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::broadcast::socket::{FIRST_ID, Item, cut, join};
use super::latency::joined;
use super::report::Report;
use super::samples::{Samples, rate};
use super::stand::{Stamps, Stand};
use super::writer;
use crate::cli::process::Process;
use crate::error::{Error, ErrorKind};

/// Messages of each run that are not counted: caches and plans are cold.
const WARM_UP: u64 = 200;

/// What writes one.
const SEND: &str = include_str!("../../../sql/queries/bench_send.sql");

/// Where the messages are published.
const PUBLICATION: &str = "supabase_realtime_messages_publication";

/// Measures `rate` messages per second.
///
/// # Errors
/// What failed to start or to be written.
pub(super) async fn run(per_second: u32, seconds: u32, report: &mut Report) -> Result<(), Error> {
    let stand = Stand::build(false).await?;
    report.about(&stand.version().await?);
    stand.migrate().await?;
    let count = u64::from(per_second) * u64::from(seconds) + WARM_UP;
    let mut floor = below(&stand, per_second, count).await?;
    let relay = stand.relay().await?;
    let before = relay.cpu();
    let (mut through, took) = through(&stand, &relay, per_second, count).await?;
    let cpu = relay.cpu().zip(before).map(|(after, before)| after.saturating_sub(before));
    report.row(
        &format!("broadcast from the database at {per_second}/s: commit → client"),
        &through.describe(),
        &floor.describe(),
    );
    report.note(&format!(
        "{count} sent at {}; {} lost; relay's processor time {:.1} % of one core",
        rate(count, took),
        count - WARM_UP - u64::try_from(through.count()).unwrap_or(0),
        cpu.unwrap_or_default().as_secs_f64() / took.as_secs_f64() * 100.0
    ));
    relay.stop().await;
    stand.tear_down().await;
    Ok(())
}

/// The floor: COMMIT until the message's `CopyData` is read.
async fn below(stand: &Stand, per_second: u32, count: u64) -> Result<Samples, Error> {
    stand.prepare_floor().await?;
    let mut floor = stand.floor(PUBLICATION).await?;
    let stamps = Arc::new(Stamps::new(FIRST_ID, usize::try_from(count).unwrap_or(0)));
    let marks = Arc::clone(&stamps);
    let reading = stand.stage.spawn(async move {
        let mut samples = Samples::default();
        let mut seen = 0;
        while seen < count {
            let Some(id) = id(floor.next().await?) else { continue };
            seen += 1;
            if let Some(latency) = marks.since(id).filter(|_| id >= FIRST_ID + WARM_UP) {
                samples.add(latency);
            }
        }
        Ok::<_, Error>(samples)
    });
    writer::write(stand, &stamps, SEND, (FIRST_ID, count), per_second).await?;
    let samples = joined(reading).await?;
    stand.drop_floor().await?;
    Ok(samples)
}

/// Through the relay: COMMIT until the client has read the frame.
async fn through(
    stand: &Stand,
    relay: &Process,
    per_second: u32,
    count: u64,
) -> Result<(Samples, Duration), Error> {
    let lost = |error| {
        Error::new(ErrorKind::PeerUnreachable, "the bench lost its connection").because(error)
    };
    let stream = join(relay.address(), &stand.token()?).map_err(lost)?;
    stream.set_nonblocking(true).map_err(lost)?;
    let mut stream = TcpStream::from_std(stream).map_err(lost)?;
    let stamps = Arc::new(Stamps::new(FIRST_ID, usize::try_from(count).unwrap_or(0)));
    let marks = Arc::clone(&stamps);
    let reading = stand.stage.spawn(async move {
        let mut samples = Samples::default();
        let mut seen = 0;
        let mut read = Vec::new();
        while seen < count {
            if stream.read_buf(&mut read).await.map_err(lost)? == 0 {
                return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let mut left = read.as_slice();
            while let Some((item, rest)) = cut(left) {
                left = rest;
                let Item::Broadcast(id) = item else { continue };
                seen += 1;
                if let Some(latency) = marks.since(id).filter(|_| id >= FIRST_ID + WARM_UP) {
                    samples.add(latency);
                }
            }
            read.drain(..read.len() - left.len());
        }
        Ok::<_, Error>(samples)
    });
    let took = writer::write(stand, &stamps, SEND, (FIRST_ID, count), per_second).await?;
    Ok((joined(reading).await?, took))
}

/// The id in the payload of a row of `realtime.messages`.
fn id(message: &[u8]) -> Option<u64> {
    const BEFORE: &[u8] = br#"{"id": "#;
    let place = message.windows(BEFORE.len()).position(|part| part == BEFORE)?;
    let digits = message.get(place + BEFORE.len()..)?.get(..10)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_id_of_a_message_and_in_nothing_else() {
        let message = br#"t{"id": 1000000007, "room": 0, "text": "x"}"#;
        assert_eq!(id(message), Some(FIRST_ID + 7));
        assert_eq!(id(message.get(..15).unwrap()), None);
        assert_eq!(id(b"B"), None);
    }
}
