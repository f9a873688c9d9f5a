//! Probes and metrics: what `/healthz`, `/readyz` and `/metrics` answer, and the listener that has nothing else.
//!
//! Promises: that listener shares no limit with clients, so whatever they do, a probe is answered; and it goes on while
//! they are sent away. The address of clients has the probes as well, but the metrics only when the operator gives both one
//! address: some figures move when a row is judged that row security then hides, so whoever reads them while writing
//! rows learns of hidden ones. Not here: who may read them. That is a matter of the address, which is loopback unless it
//! is configured.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

use super::anywhere;
use crate::changelog::Trouble;
use crate::egress::patient::{Meter, Patient};
use crate::egress::seats::Seats;
use crate::metrics::Metrics;
use crate::shutdown::Stage;
use crate::source::SourceState;

/// How long a request may take to arrive, a connection may wait for the next one, and an answer may stand still.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections at once; those over it wait in the kernel's queue until one of these is done or was silent for too long.
const MOST: usize = 256;

/// The pause after the system could not accept: usually it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is answered to any other path.
const HINT: &str = "this is relay's address for probes and metrics: /healthz, /readyz, /metrics\n";

/// What probes and metrics are read from.
#[derive(Clone, Debug)]
pub struct Status {
    /// What the source is doing.
    pub source: watch::Receiver<SourceState>,
    /// What is wrong with the change log.
    pub log: watch::Receiver<Trouble>,
    /// Whether clients are being sent away.
    pub seats: Arc<Seats>,
    /// The figures.
    pub metrics: Metrics,
}

/// Where the metrics are, for whoever asks at the address of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figures {
    /// At that address.
    Here,
    /// At an address of their own.
    Elsewhere,
    /// Nowhere.
    Off,
}

/// The routes for the address of clients.
pub fn beside_clients(status: Status, figures: Figures) -> Router {
    let text = match figures {
        Figures::Here => return everything(status),
        Figures::Elsewhere => {
            "metrics are not served here but at http.admin_listen, 127.0.0.1:9464 unless it is set\n"
        }
        Figures::Off => "metrics are not served: http.admin_listen is off, or was in use\n",
    };
    let elsewhere = get(move || std::future::ready((StatusCode::NOT_FOUND, text)));
    probes().with_state(status).route("/metrics", elsewhere)
}

/// The routes for an address of their own.
pub fn alone(status: Status) -> Router {
    everything(status).fallback(|| std::future::ready((StatusCode::NOT_FOUND, HINT)))
}

fn everything(status: Status) -> Router {
    probes().route("/metrics", get(metrics)).with_state(status)
}

fn probes() -> Router<Status> {
    Router::new()
        .route("/healthz", get(|| std::future::ready(anywhere("ok"))))
        // The original's name for it.
        .route("/healthcheck", get(|| std::future::ready(anywhere("ok"))))
        .route("/readyz", get(readyz))
}

async fn readyz(State(status): State<Status>) -> Response {
    let trouble = match &*status.source.borrow() {
        SourceState::Streaming { .. } if status.seats.departure.is_on() => {
            Some("clients are being sent away".to_owned())
        }
        SourceState::Streaming { .. } => status.log.borrow().as_deref().map(str::to_owned),
        SourceState::Connecting { reason: None } => Some("connecting to Postgres".to_owned()),
        SourceState::Standby { reason } => Some(format!("standby: {reason}")),
        SourceState::Connecting { reason: Some(reason) } | SourceState::Blocked { reason } => {
            Some(reason.clone())
        }
    };
    let (code, text) = match trouble {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, trouble),
    };
    (code, anywhere(text)).into_response()
}

async fn metrics(State(status): State<Status>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    // Counting open files takes a while when they are many, and must not hold up a thread that serves sockets.
    match tokio::task::spawn_blocking(move || status.metrics.render()).await {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Accepts connections at the address of their own and serves them until the stage stops.
///
/// # Errors
/// Never while running; the listener stays open.
pub async fn run(listener: TcpListener, routes: Router, stage: Stage) -> io::Result<()> {
    let seats = Arc::new(Semaphore::new(MOST));
    let mut stopping = pin!(stage.stopping());
    loop {
        let accepting = async {
            let seat = Arc::clone(&seats).acquire_owned().await.map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            Ok::<_, io::Error>((stream, seat))
        };
        let accepted = tokio::select! {
            () = &mut stopping => return Ok(()),
            accepted = accepting => accepted,
        };
        match accepted {
            Ok((stream, seat)) => {
                drop(stage.spawn(serve(stream, routes.clone(), seat, stage.clone())));
            }
            Err(error) => {
                warn!(error = %error, "could not accept a connection for probes and metrics");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, routes: Router, seat: OwnedSemaphorePermit, stage: Stage) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(
            TokioIo::new(Patient::new(stream, PATIENCE, Meter::default())),
            TowerToHyperService::new(routes),
        );
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = stage.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(error = %error, "a connection for probes and metrics ended early");
    }
    drop(seat);
}
