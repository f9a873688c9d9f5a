//! A network that misbehaves: a relay of bytes with latency, slices, a narrow pipe, silence and resets.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How bytes pass, for all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Each piece waits so long.
    pub latency: Duration,
    /// Pieces are at most so long.
    pub slice: usize,
    /// Bytes a second and direction.
    pub bandwidth: usize,
    /// Nothing passes, and nobody is told.
    pub silent: bool,
    /// New connections are refused.
    pub shut: bool,
    /// Counts resets: each one ends every connection there is with RST.
    resets: u32,
}

impl Weather {
    pub const FAIR: Self = Self {
        latency: Duration::ZERO,
        slice: 64 * 1024,
        bandwidth: usize::MAX,
        silent: false,
        shut: false,
        resets: 0,
    };
}

/// See the module.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    weather: Arc<watch::Sender<Weather>>,
}

impl Proxy {
    /// Listens, and passes on to `to` on this machine.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let weather = Arc::new(watch::channel(Weather::FAIR).0);
        let watching = Arc::downgrade(&weather);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Some(weather) = watching.upgrade().map(|weather| weather.subscribe()) else {
                    return;
                };
                if weather.borrow().shut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
                tokio::spawn(carry(client, server, weather));
            }
        });
        Self { port, weather }
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Changes how bytes pass from now on.
    pub fn turn(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }

    /// Ends every connection there is with RST.
    pub fn reset(&self) {
        self.turn(|weather| weather.resets += 1);
    }
}

async fn carry(client: TcpStream, server: TcpStream, mut weather: watch::Receiver<Weather>) {
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_zero_linger();
    }
    let now = weather.borrow_and_update().resets;
    let resets = weather.clone();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = pipe(from_client, to_server, weather.clone());
    let down = pipe(from_server, to_client, weather.clone());
    tokio::pin!(up, down);
    let ended = tokio::select! {
        ended = async { tokio::join!(&mut up, &mut down) } => Some(ended),
        // The proxy is gone, or resets: what is open is closed at once.
        _ = async { let mut resets = resets; resets.wait_for(|weather| weather.resets != now).await.map(|_| ()) } => None,
    };
    if let Some(((from, to), (back, forth))) = ended {
        drop((from, to, back, forth));
    }
}

/// Moves bytes until one side ends; the halves stay open until both directions ended.
async fn pipe(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
) -> (OwnedReadHalf, OwnedWriteHalf) {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let Weather { latency, slice, bandwidth, silent, .. } = *weather.borrow_and_update();
        if silent {
            if weather.changed().await.is_err() {
                break;
            }
            continue;
        }
        let read = tokio::select! {
            read = from.read(&mut chunk[..slice]) => read.unwrap_or(0),
            changed = weather.changed() => match changed {
                Ok(()) => continue,
                Err(_) => break,
            },
        };
        if read == 0 {
            break;
        }
        let takes = Duration::from_secs_f64(read as f64 / bandwidth as f64);
        tokio::time::sleep(latency + takes).await;
        // What was on its way when the line fell silent stays there.
        if weather.wait_for(|weather| !weather.silent).await.is_err()
            || to.write_all(&chunk[..read]).await.is_err()
        {
            break;
        }
    }
    let _ = to.shutdown().await;
    (from, to)
}
