//! One small message to everyone in a public topic.
//!
//! Each message is 64 bytes of JSON, said by subscribers in turn; everyone receives it. Deliveries per second of the
//! relay's processor time is the figure, because the clients share the machine. Three loads:
//!
//! - at half of what one core should deliver: latency, from just before a message is written until each reader has read it;
//! - one message on its way at a time: nothing can share a write, so this is the price of single messages;
//! - sixteen on their way: what does share a write.
//!
//! The floor is a bare server with as many sockets, under the same loads.

mod bare;
mod ears;
pub(super) mod socket;
mod speaker;

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use bare::Bare;
use ears::{Ears, Heard, Pace};
use socket::join;
use speaker::Speaker;

use super::report::{NO_FLOOR, Report};
use super::samples::rate;
use super::stand::Stand;
use crate::cli::process::Process;
use crate::error::{Error, ErrorKind};

/// Deliveries per second while latency is measured: half of what one core should do.
const LOAD: u64 = 100_000;

/// Messages on their way when they may share writes.
const WINDOW: u64 = 16;

/// Deliveries that warm up each kind of socket, and are not counted.
const WARM_UP: u64 = 50_000;

/// The loads as rows name them.
const PACED: &str = "100,000 deliveries/s asked for";
const ALONE: &str = "one message at a time";
const SHARED: &str = "sixteen messages at a time";
const BY_HTTP: &str = "100,000 deliveries/s asked for, said by HTTP";

/// Subscribers that say something.
const SPEAKERS: usize = 8;

/// A load.
#[derive(Clone, Copy, Debug)]
struct Load {
    name: &'static str,
    messages: u64,
    pace: Pace,
}

/// Measures with `clients`, each load for about `seconds`.
///
/// # Errors
/// What failed to start, or a client that was closed.
pub(super) async fn run(clients: usize, seconds: u32, report: &mut Report) -> Result<(), Error> {
    let stand = Stand::build(false).await?;
    report.about(&stand.version().await?);
    let relay = stand.relay().await?;
    let token = stand.token()?;
    let loads = loads(u64::try_from(clients).unwrap_or(u64::MAX), u64::from(seconds));
    // This thread is the load from here on; the relay is another process.
    let measured = tokio::task::block_in_place(|| {
        let floor = floor(clients, &loads)?;
        let relay = through(clients, &loads, &relay, &token)?;
        Ok::<_, io::Error>((floor, relay))
    });
    relay.stop().await;
    stand.tear_down().await;
    let (floor, through) = measured.map_err(|error| {
        Error::new(ErrorKind::PeerUnreachable, "the bench lost a connection").because(error)
    })?;
    tell(clients, &loads, floor, through, report);
    Ok(())
}

/// The loads of one run.
fn loads(clients: u64, seconds: u64) -> [Load; 3] {
    let paced = Pace::Every(Duration::from_nanos(1_000_000_000 * clients / LOAD));
    [
        Load { name: PACED, messages: LOAD * seconds / clients, pace: paced },
        Load { name: ALONE, messages: 2 * LOAD * seconds / clients, pace: Pace::Window(1) },
        Load { name: SHARED, messages: 3 * LOAD * seconds / clients, pace: Pace::Window(WINDOW) },
    ]
}

/// What a bare server does.
fn floor(clients: usize, loads: &[Load]) -> io::Result<Vec<Measured>> {
    let (bare, asking, streams) = Bare::start(clients)?;
    let mut ears = Ears::new(streams)?;
    let mut speaker = Speaker::Bare(asking);
    measure(&mut ears, &mut speaker, loads, || bare.cpu())
}

/// What the relay does; the last one is the first load again, said by HTTP.
fn through(
    clients: usize,
    loads: &[Load],
    relay: &Process,
    token: &str,
) -> io::Result<Vec<Measured>> {
    let streams: Vec<_> =
        (0..clients).map(|_| join(relay.address(), token)).collect::<io::Result<_>>()?;
    let speakers: Vec<_> =
        streams.iter().take(SPEAKERS).map(TcpStream::try_clone).collect::<io::Result<_>>()?;
    let mut ears = Ears::new(streams)?;
    ears.wake()?;
    let mut measured =
        measure(&mut ears, &mut Speaker::Subscribers(speakers), loads, || relay.cpu())?;
    ears.wake()?;
    let mut http = Speaker::http(relay.address(), token)?;
    let first = loads.get(..1).unwrap_or_default();
    measured.extend(measure(&mut ears, &mut http, first, || relay.cpu())?);
    Ok(measured)
}

/// A load and what came of it.
struct Measured {
    heard: Heard,
    cpu: Duration,
}

fn measure(
    ears: &mut Ears,
    speaker: &mut Speaker,
    loads: &[Load],
    cpu: impl Fn() -> Option<Duration>,
) -> io::Result<Vec<Measured>> {
    ears.listen(speaker, WARM_UP / ears.count().max(1), Pace::Window(1))?;
    let mut measured = Vec::new();
    for load in loads {
        let before = cpu().unwrap_or_default();
        let heard = ears.listen(speaker, load.messages, load.pace)?;
        measured.push(Measured { heard, cpu: cpu().unwrap_or_default().saturating_sub(before) });
    }
    Ok(measured)
}

impl Measured {
    fn per_cpu(&self) -> String {
        rate(self.heard.deliveries, self.cpu)
    }
}

fn tell(
    clients: usize,
    loads: &[Load],
    floor: Vec<Measured>,
    through: Vec<Measured>,
    report: &mut Report,
) {
    let names = loads.iter().map(|load| load.name).chain([BY_HTTP]);
    let mut floor = floor.into_iter();
    for (name, mut relay) in names.zip(through) {
        let mut below = floor.next();
        let mut row = |what: &str, figure: fn(&mut Measured) -> String| {
            let under = below.as_mut().map_or_else(|| NO_FLOOR.to_owned(), figure);
            report.row(
                &format!("broadcast to {clients}, {name}: {what}"),
                &figure(&mut relay),
                &under,
            );
        };
        row("deliveries per second of processor time", |measured| measured.per_cpu());
        row("latency", |measured| measured.heard.latency.describe());
        report.note(&format!(
            "broadcast to {clients}, {name}: {} of {} lost; {} by the clock",
            relay.heard.lost,
            relay.heard.lost + relay.heard.deliveries,
            rate(relay.heard.deliveries, relay.heard.took)
        ));
    }
}
