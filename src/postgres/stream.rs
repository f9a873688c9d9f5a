//! A byte stream to one host: TCP or Unix socket, with TLS negotiated as the sslmode says.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::warn;

use super::target::{Host, SslMode, Target};
use super::tls;
use crate::error::{Error, ErrorKind};

/// After this long without traffic the kernel asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A connected stream, whatever carries it.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether the bytes are encrypted.
    pub(super) const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What a password exchange over this stream can be bound to.
    pub(super) fn end_point(&self) -> Option<Box<[u8]>> {
        let Self::Tls(stream) = self else { return None };
        tls::end_point(stream.get_ref().1.peer_certificates()?.first()?)
    }
}

/// Opens a stream to `host`, encrypted as `target` wants it.
pub(super) async fn open(target: &Target, host: &Host) -> Result<Stream, Error> {
    let (name, port) = match host {
        Host::Tcp(name, port) => (name, *port),
        Host::Unix(directory, port) => return unix(directory, *port).await,
    };
    let stream = tcp(name, port, target.connect_timeout).await?;
    if target.tls.mode == SslMode::Disable {
        return Ok(Stream::Tcp(stream));
    }
    match secure(stream, target, host, name).await {
        Ok(stream) => Ok(stream),
        // Who says nothing at all will not say more without TLS.
        Err(error) if target.tls.mode == SslMode::Prefer && !is_silence(&error) => {
            warn!(%host, %error, "connecting without TLS, because sslmode is prefer");
            Ok(Stream::Tcp(tcp(name, port, target.connect_timeout).await?))
        }
        Err(error) => Err(error),
    }
}

/// Whether nothing was answered in time.
fn is_silence(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(<dyn std::error::Error>::downcast_ref);
    cause.is_some_and(|cause: &io::Error| cause.kind() == io::ErrorKind::TimedOut)
}

async fn unix(directory: &Path, port: u16) -> Result<Stream, Error> {
    let path = directory.join(format!(".s.PGSQL.{port}"));
    UnixStream::connect(&path).await.map(Stream::Unix).map_err(|error| {
        Error::new(ErrorKind::SourceUnreachable, format!("could not connect to {}", path.display()))
            .because(error)
    })
}

/// Tries every address of `name` in order, each for as long as `patience`.
async fn tcp(name: &str, port: u16, patience: Option<Duration>) -> Result<TcpStream, Error> {
    let unreachable = |problem: String, error: io::Error| {
        Error::new(ErrorKind::SourceUnreachable, problem).because(error)
    };
    let addresses = tokio::net::lookup_host((name, port))
        .await
        .map_err(|error| unreachable(format!("could not look up {name}"), error))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let attempt = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let keepalive =
                socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
            socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
            Ok(stream)
        };
        match within(patience, attempt).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(unreachable(format!("could not connect to {}", Host::Tcp(name.into(), port)), last))
}

/// Runs `attempt` for as long as `patience`, if that has an end.
pub(super) async fn within<T>(
    patience: Option<Duration>,
    attempt: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let Some(patience) = patience else { return attempt.await };
    tokio::time::timeout(patience, attempt).await.unwrap_or_else(|_| {
        let problem = format!("no answer in {} s (connect_timeout)", patience.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, problem))
    })
}

/// Asks for TLS and shakes hands.
async fn secure(
    mut stream: TcpStream,
    target: &Target,
    host: &Host,
    name: &str,
) -> Result<Stream, Error> {
    let settings = target.tls.clone();
    let config = tokio::task::spawn_blocking(move || tls::configuration(&settings))
        .await
        .map_err(|error| Error::new(ErrorKind::Bug, "could not set up TLS").because(error))??;
    let failed = |kind| Error::new(kind, format!("could not secure the connection to {host}"));
    let answer = within(target.connect_timeout, async {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        stream.write_all(&request).await?;
        // Exactly one byte: what follows it belongs to the handshake, never to the plain protocol.
        stream.read_u8().await
    });
    match answer.await {
        Ok(b'S') => {}
        Ok(b'N') if target.tls.mode == SslMode::Prefer => return Ok(Stream::Tcp(stream)),
        Ok(b'N') => {
            return Err(failed(ErrorKind::SourceRejected).because(
                "the server does not offer TLS; turn on its ssl setting, or use sslmode=prefer or disable",
            ));
        }
        Ok(_) => {
            return Err(failed(ErrorKind::SourceRejected)
                .because("the answer to the request for TLS was not Postgres'"));
        }
        Err(error) => return Err(failed(ErrorKind::SourceUnreachable).because(error)),
    }
    let server = ServerName::try_from(name.to_owned()).map_err(|_| {
        failed(ErrorKind::Misconfigured).because("the host is not a name TLS can use")
    })?;
    let handshake = TlsConnector::from(config).connect(server, stream);
    match within(target.connect_timeout, handshake).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(error) => match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            None => Err(failed(ErrorKind::SourceUnreachable).because(error)),
            Some(problem) => {
                let advice =
                    tls::advice(problem).map_or(String::new(), |advice| format!("; {advice}"));
                Err(failed(ErrorKind::SourceRejected)
                    .because(format!("{}{advice}", tls::reason(problem))))
            }
        },
    }
}

/// Forwards one poll to whichever stream it is.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Tcp(stream) => {
                let $inner = Pin::new(stream);
                $call
            }
            Stream::Unix(stream) => {
                let $inner = Pin::new(stream);
                $call
            }
            Stream::Tls(stream) => {
                let $inner = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
