//! Ordinary SQL connections: tokio-postgres over a stream we negotiated ourselves, so that every sslmode is ours.

use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{ChannelBinding as TheirBinding, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding as Binding, TlsConnect, TlsStream};
use tokio_postgres::{AsyncMessage, Config, Connection, Error as Failed, NoTls};
use tracing::debug;

use super::failure::{self, Answered};
use super::session;
use super::startup::{Failures, in_time, question, unwanted};
use super::stream::{self, Stream};
use super::target::{ChannelBinding, Host, Target};
use crate::error::{Error, ErrorKind};
use crate::shutdown::Stage;

/// An ordinary SQL connection with the relay's session settings. Its driver task ends with it, or with its stage.
#[derive(Debug)]
pub struct Sql {
    /// The client. When it says closed, connect again.
    pub client: tokio_postgres::Client,
}

/// Opens an ordinary SQL connection named `application` (`relay-catalog`, `relay-check`), with the pinned session
/// settings (datestyle, intervalstyle, extra_float_digits, bytea_output, timezone) and `options` (`name=value`
/// pairs) on top. Its driver task lives in `stage`.
///
/// # Errors
/// `SourceUnreachable` or `SourceRejected`, naming host, port and what to do.
pub async fn connect(
    target: &Target,
    application: &str,
    options: &[(&str, &str)],
    stage: &Stage,
) -> Result<Sql, Error> {
    open_any(target, application, &session::pinned(target.options.as_deref(), options), stage).await
}

/// The same without the pinned settings: for what takes over those of roles, and renders nothing that depends on them.
///
/// # Errors
/// As [`connect`].
pub async fn connect_plain(
    target: &Target,
    application: &str,
    options: &[(&str, &str)],
    stage: &Stage,
) -> Result<Sql, Error> {
    open_any(target, application, &session::plain(target.options.as_deref(), options), stage).await
}

async fn open_any(
    target: &Target,
    application: &str,
    options: &str,
    stage: &Stage,
) -> Result<Sql, Error> {
    let mut failures = Failures::default();
    for host in &target.hosts {
        let opening = open(target, host, application, options, stage);
        if let Some(sql) = failures.judge(host, target, opening).await? {
            return Ok(sql);
        }
    }
    Err(failures.into_error())
}

async fn open(
    target: &Target,
    host: &Host,
    application: &str,
    options: &str,
    stage: &Stage,
) -> Result<Sql, Error> {
    let stream = stream::open(target, host).await?;
    let mut config = Config::new();
    config
        .user(&*target.user)
        .dbname(&*target.database)
        .application_name(target.application.as_deref().unwrap_or(application))
        .options(options)
        .channel_binding(match target.channel_binding {
            ChannelBinding::Disable => TheirBinding::Disable,
            ChannelBinding::Prefer => TheirBinding::Prefer,
            ChannelBinding::Require => TheirBinding::Require,
        });
    if let Some(password) = target.password.get() {
        config.password(password.reveal());
    }
    let failed = |error: tokio_postgres::Error| {
        refusal(&error, &format!("could not log in to {host} as {}", target.user))
    };
    let client = if stream.is_encrypted() {
        // "Direct" means that no request for TLS is sent: ours was, and was granted.
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        let login = async { config.connect_raw(stream, Negotiated).await.map_err(failed) };
        let (client, connection) = in_time(host, target, login).await?;
        drive(connection, stage);
        client
    } else {
        config.ssl_mode(SslMode::Disable);
        let login = async { config.connect_raw(stream, NoTls).await.map_err(failed) };
        let (client, connection) = in_time(host, target, login).await?;
        drive(connection, stage);
        client
    };
    if let Some(question) = question(target.wanted) {
        let row = client.query_one(question, &[]).await.map_err(failed)?;
        if row.try_get::<_, bool>(0).unwrap_or(true) {
            return Err(unwanted(host, target));
        }
    }
    Ok(Sql { client })
}

/// Reads what comes until the connection ends. A notice is what a function of the database's users says, with values of
/// rows as often as not: of it no more than its code is told.
async fn read<S, T>(mut connection: Connection<S, T>) -> Result<(), Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notice(notice) = message? {
            debug!(code = notice.code().code(), "Postgres sent a notice");
        }
    }
    Ok(())
}

fn drive<S, T>(connection: Connection<S, T>, stage: &Stage)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stopping = stage.clone();
    stage.spawn(async move {
        tokio::select! {
            () = stopping.stopping() => {}
            result = read(connection) => if let Err(error) = result {
                debug!(%error, "sql connection ended");
            },
        }
    });
}

/// Widens an error of tokio-postgres, saying what could not be done. Details, which may quote values, are left out.
pub fn refusal(error: &tokio_postgres::Error, what: &str) -> Error {
    let Some(said) = error.as_db_error() else {
        // Its own text names the step, the cause the reason: neither quotes what was sent.
        let cause =
            std::error::Error::source(error).map_or(String::new(), |cause| format!(": {cause}"));
        let kind = if error.is_closed() || is_io(error) {
            ErrorKind::SourceUnreachable
        } else {
            ErrorKind::SourceRejected
        };
        return Error::new(kind, what).because(format!("{error}{cause}"));
    };
    let code = said.code().code();
    Error::new(failure::kind(code), what).because(Answered::new(code, said.message()))
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<io::Error>)
}

/// The TLS "connector" for a stream whose handshake is over.
struct Negotiated;

impl TlsConnect<Stream> for Negotiated {
    type Stream = Secured;
    type Error = Infallible;
    type Future = Ready<Result<Secured, Infallible>>;

    fn connect(self, stream: Stream) -> Self::Future {
        ready(Ok(Secured(stream)))
    }
}

/// A stream that tells tokio-postgres what to bind the password exchange to.
struct Secured(Stream);

impl TlsStream for Secured {
    fn channel_binding(&self) -> Binding {
        match self.0.end_point() {
            Some(hash) => Binding::tls_server_end_point(hash.into_vec()),
            None => Binding::none(),
        }
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
