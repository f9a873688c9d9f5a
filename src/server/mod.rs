//! The listener for clients: its accept loop, and the routes of the protocols, of probes and of tools.
//!
//! Connections are bounded in every direction: how long a request may take to arrive, how large its head may be,
//! how many may be on their way to becoming a socket, of all and of one address (`acceptor`).

mod acceptor;
pub mod admin;
mod pages;
mod strict;
mod tenant;
mod trusted_proxies;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{self, State};
use axum::http::{Method, Request, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use crate::egress::patient::{Meter, Patient};
use crate::egress::phoenix;
use crate::shutdown::Stage;
use crate::source::SourceState;

use acceptor::AcceptPermit;
pub use acceptor::{Acceptor, bind};
use pages::Pages;
pub use tenant::Tenant;
pub use trusted_proxies::TrustedProxies;

/// How long an answer may stand still because the client does not read it.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a request may take, its body included. A socket is a request that was answered.
const REQUEST_PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of a request's head. A token has up to 16 KiB, and supabase-js sends it three times with a broadcast: in the
/// query, as `apikey` and as `Authorization`.
const MAX_HEAD: usize = 64 * 1024;

/// The pause after the system could not accept: usually it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// All routes: those of the protocols and tools, of probes, further ones, and the files of the pages.
pub fn routes(
    desk: &Arc<phoenix::Desk>,
    tenant: Tenant,
    probes: Router,
    (further, pages): (Router, Option<PathBuf>),
) -> Router {
    let pages = pages.map(Pages::new);
    probes
        .merge(phoenix::routes(desk).layer(from_fn_with_state(Arc::clone(desk), only_if_it_reads)))
        .merge(tenant.routes())
        .merge(further)
        .fallback(move |method, uri| otherwise(pages.clone(), method, uri))
        .layer(from_fn(in_time))
}

/// A page, or what somebody who looks with a browser should know.
async fn otherwise(pages: Option<Pages>, method: Method, uri: Uri) -> Response {
    if let Some(pages) = pages
        && let Some(page) = pages.answer(&method, &uri).await
    {
        return page;
    }
    match (uri.path(), method) {
        ("/", Method::GET | Method::HEAD) => HINT.into_response(),
        ("/", _) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        _ => (StatusCode::NOT_FOUND, HINT).into_response(),
    }
}

/// What somebody who looks with a browser should know.
const HINT: &str = "this is relay: WebSocket at /realtime/v1/websocket or /socket/websocket, \
                    broadcast at /realtime/v1/api/broadcast or /api/broadcast, \
                    health at /healthz and /readyz\n";

/// Accepts connections and serves them until the stage stops.
///
/// # Errors
/// Never while running; the listener stays open.
pub async fn run(
    listener: TcpListener,
    acceptor: Arc<Acceptor>,
    routes: Router,
    stage: Stage,
) -> io::Result<()> {
    let mut stopping = pin!(stage.stopping());
    loop {
        let accepted = tokio::select! {
            () = &mut stopping => return Ok(()),
            accepted = acceptor.accept(&listener) => accepted,
        };
        match accepted {
            Ok(accepted) => {
                let serving = serve(accepted, Arc::clone(&acceptor), routes.clone(), stage.clone());
                drop(stage.spawn(serving));
            }
            // The client left before it was let in.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(error = %error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends, becomes a socket, or the stage stops.
async fn serve(
    (stream, peer, permit): (TcpStream, SocketAddr, AcceptPermit),
    acceptor: Arc<Acceptor>,
    routes: Router,
    stage: Stage,
) {
    // It only makes answers wait for others.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, error = %error, "a connection waits with small writes");
    }
    let routes = TowerToHyperService::new(routes);
    let meter = Meter::default();
    let metered = meter.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let refused = strict::refuse(&request);
        let network = acceptor.proxies.of(peer.ip(), request.headers());
        request.extensions_mut().insert(network);
        request.extensions_mut().insert(metered.clone());
        let routes = routes.clone();
        async move {
            let mut response = match refused {
                Some(refused) => refused,
                None => routes.call(request).await?,
            };
            strict::seal(&mut response);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(permit.head_patience)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Patient::new(stream, WRITE_PATIENCE, meter)), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = stage.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        // The error names the reason; the request, whose query carries a token, is not part of it.
        debug!(%peer, error = %error, "a connection ended early");
    }
    drop(permit);
}

/// Refuses clients while another relay reads the slot: they would get nothing here, and nobody would hear them. Clients
/// try again by themselves, and reach the other one through whatever balances between them.
async fn only_if_it_reads(
    State(desk): State<Arc<phoenix::Desk>>,
    request: extract::Request,
    next: Next,
) -> Response {
    // Who came in while the last one is still sent away would be sent away, too.
    let stands_by = matches!(&*desk.source.borrow(), SourceState::Standby { .. })
        || desk.seats.departure.is_on();
    if !stands_by || request.method() == Method::OPTIONS {
        return next.run(request).await;
    }
    desk.refused("Standby");
    let text = r#"{"error":"this relay stands by for another one; try again"}"#;
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::RETRY_AFTER, "1"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response()
}

/// Ends a request whose body does not come.
async fn in_time(request: extract::Request, next: Next) -> Response {
    let answer = tokio::time::timeout(REQUEST_PATIENCE, next.run(request)).await;
    answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
}

/// An answer that pages of any origin may read.
fn anywhere(text: impl IntoResponse) -> impl IntoResponse {
    ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], text)
}
