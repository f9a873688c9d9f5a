//! Startup and authentication of a replication connection.
//!
//! tokio-postgres cannot ask for `replication=database` nor stream afterwards, so this one is ours: cleartext, md5,
//! SCRAM-SHA-256 and, over TLS, SCRAM-SHA-256-PLUS. `channel_binding=require` accepts the last only. GSSAPI and SSPI
//! are not spoken.

use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding as Binding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use tokio_postgres::fallible_iterator::FallibleIterator;

use super::failure::{Failure, Refused};
use super::session;
use super::stream;
use super::target::{ChannelBinding, Host, Target, Wanted};
use super::wire::{Frame, Wire};
use crate::error::{Error, ErrorKind};
use crate::secret::Secret;

/// A connection that was let in, and to which of the hosts.
#[derive(Debug)]
pub(crate) struct Replication {
    /// The connection, ready for a command.
    pub(crate) wire: Wire,
    /// The same target, only the host that let us in.
    pub(crate) target: Target,
}

/// Opens a replication connection to the first host that is there and is what `target_session_attrs` wants.
/// `settings` are session settings on top of the pinned ones.
///
/// # Errors
/// `SourceUnreachable` when no host could be reached; `SourceRejected` from the first that refused us.
pub(crate) async fn replication(
    target: &Target,
    application: &str,
    settings: &[(&str, &str)],
) -> Result<Replication, Error> {
    let mut failures = Failures::default();
    for host in &target.hosts {
        let opening = open(target, host, application, settings);
        if let Some(wire) = failures.judge(host, target, opening).await? {
            return Ok(Replication { wire, target: target.only(host) });
        }
    }
    Err(failures.into_error())
}

/// What became of the hosts so far.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<Error>);

impl Failures {
    /// Bounds one host's attempt by connect_timeout. `Ok(None)` means that the next host is to be tried; a refusal
    /// ends the search, as it does in libpq, because the next host would refuse too.
    pub(super) async fn judge<T>(
        &mut self,
        host: &Host,
        target: &Target,
        attempt: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, Error> {
        let result = match target.connect_timeout {
            None => attempt.await,
            // The socket and the handshake have each their own time before the login's.
            Some(patience) => {
                tokio::time::timeout(patience * 4, attempt).await.unwrap_or_else(|_| {
                    Err(Error::new(
                        ErrorKind::SourceUnreachable,
                        format!("{host} took too long to let us in (connect_timeout)"),
                    ))
                })
            }
        };
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::SourceUnreachable => {
                self.0.push(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn into_error(mut self) -> Error {
        if self.0.len() == 1
            && let Some(only) = self.0.pop()
        {
            return only;
        }
        let each: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        Error::new(ErrorKind::SourceUnreachable, "could not connect to any host")
            .because(each.join("; "))
    }
}

/// Bounds a login by connect_timeout. A server that is frozen accepts connections all the same, because its kernel does.
pub(super) async fn in_time<T>(
    host: &Host,
    target: &Target,
    login: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let Some(patience) = target.connect_timeout else { return login.await };
    tokio::time::timeout(patience, login).await.unwrap_or_else(|_| {
        let patience = patience.as_secs();
        let text = format!(
            "{host} accepts connections and says nothing for {patience} s (connect_timeout)"
        );
        Err(Error::new(ErrorKind::SourceUnreachable, text))
    })
}

/// The error for a host that is there but is not what `target_session_attrs` wants.
pub(super) fn unwanted(host: &Host, target: &Target) -> Error {
    let wanted = if target.wanted == Wanted::Primary { "primary" } else { "read-write" };
    Error::new(
        ErrorKind::SourceUnreachable,
        format!("{host} is not {wanted}, which target_session_attrs asks for"),
    )
}

/// The question that tells whether a host is what is wanted; it answers `t` when it is not.
pub(super) const fn question(wanted: Wanted) -> Option<&'static str> {
    match wanted {
        Wanted::Any => None,
        Wanted::Primary => Some("select pg_catalog.pg_is_in_recovery()"),
        Wanted::ReadWrite => {
            Some("select pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool")
        }
    }
}

async fn open(
    target: &Target,
    host: &Host,
    application: &str,
    settings: &[(&str, &str)],
) -> Result<Wire, Error> {
    let mut wire = Wire::new(stream::open(target, host).await?);
    let options = session::pinned(target.options.as_deref(), settings);
    let parameters = [
        ("user", &*target.user),
        ("database", &*target.database),
        ("replication", "database"),
        ("application_name", target.application.as_deref().unwrap_or(application)),
        ("client_encoding", "UTF8"),
        ("options", &options),
    ];
    let failed = |failure: Failure| {
        failure.because_of(format!("could not log in to {host} as {}", target.user))
    };
    let login = async { log_in(&mut wire, target, parameters).await.map_err(failed) };
    in_time(host, target, login).await?;
    wire.trust();
    if let Some(question) = question(target.wanted) {
        let rows = simple_query(&mut wire, question).await.map_err(failed)?;
        let answer = rows.first().and_then(|row| row.first()?.as_deref());
        if answer != Some("f") {
            return Err(unwanted(host, target));
        }
    }
    Ok(wire)
}

async fn log_in(
    wire: &mut Wire,
    target: &Target,
    parameters: [(&str, &str); 6],
) -> Result<(), Failure> {
    frontend::startup_message(parameters, wire.output())?;
    match message(wire).await? {
        Message::AuthenticationOk => may_skip_binding(target)?,
        Message::AuthenticationCleartextPassword => {
            may_skip_binding(target)?;
            frontend::password_message(password(target)?.reveal().as_bytes(), wire.output())?;
            expect_ok(wire).await?;
        }
        Message::AuthenticationMd5Password(body) => {
            may_skip_binding(target)?;
            let hash = md5_hash(
                target.user.as_bytes(),
                password(target)?.reveal().as_bytes(),
                body.salt(),
            );
            frontend::password_message(hash.as_bytes(), wire.output())?;
            expect_ok(wire).await?;
        }
        Message::AuthenticationSasl(body) => sasl(wire, target, &body).await?,
        _ => {
            return Err(local(
                "the server asks for a login method the relay does not speak; it speaks scram-sha-256, md5, password, cert and trust",
            ));
        }
    }
    match message(wire).await? {
        Message::ReadyForQuery(_) => Ok(()),
        _ => Err(Failure::OutOfPlace("not ready after the login")),
    }
}

async fn sasl(
    wire: &mut Wire,
    target: &Target,
    body: &AuthenticationSaslBody,
) -> Result<(), Failure> {
    let offered: Vec<&str> = body.mechanisms().collect()?;
    let end_point = match target.channel_binding {
        ChannelBinding::Disable => None,
        ChannelBinding::Prefer | ChannelBinding::Require => wire.stream().end_point(),
    };
    let (mechanism, binding) = match end_point {
        Some(hash) if offered.contains(&SCRAM_SHA_256_PLUS) => {
            (SCRAM_SHA_256_PLUS, Binding::tls_server_end_point(hash.into_vec()))
        }
        // Saying that we could have bound lets the server notice that its offer was cut off on the way.
        Some(_) if offered.contains(&SCRAM_SHA_256) => (SCRAM_SHA_256, Binding::unrequested()),
        None if offered.contains(&SCRAM_SHA_256) => (SCRAM_SHA_256, Binding::unsupported()),
        _ => return Err(local("the server offers no SASL mechanism the relay speaks")),
    };
    if mechanism != SCRAM_SHA_256_PLUS {
        may_skip_binding(target)?;
    }
    let mut scram = ScramSha256::new(password(target)?.reveal().as_bytes(), binding);
    frontend::sasl_initial_response(mechanism, scram.message(), wire.output())?;
    match message(wire).await? {
        Message::AuthenticationSaslContinue(body) => scram.update(body.data()).map_err(forged)?,
        _ => return Err(Failure::OutOfPlace("no SASL challenge")),
    }
    frontend::sasl_response(scram.message(), wire.output())?;
    match message(wire).await? {
        Message::AuthenticationSaslFinal(body) => scram.finish(body.data()).map_err(forged)?,
        _ => return Err(Failure::OutOfPlace("no SASL outcome")),
    }
    expect_ok(wire).await
}

fn may_skip_binding(target: &Target) -> Result<(), Failure> {
    match target.channel_binding {
        ChannelBinding::Disable | ChannelBinding::Prefer => Ok(()),
        ChannelBinding::Require => Err(local(
            "channel_binding=require, but the server did not offer SCRAM-SHA-256-PLUS over TLS",
        )),
    }
}

fn password(target: &Target) -> Result<Arc<Secret<String>>, Failure> {
    target
        .password
        .get()
        .ok_or_else(|| local("the server asks for a password, and postgres.url has none"))
}

/// A refusal of ours, during a login.
fn local(message: &str) -> Failure {
    Failure::Refused(Refused { code: "28000".into(), message: message.into() })
}

/// The server could not prove that it knows the password, or its proof was malformed.
fn forged(error: std::io::Error) -> Failure {
    local(&format!("the server's side of the SCRAM exchange is wrong: {error}"))
}

async fn expect_ok(wire: &mut Wire) -> Result<(), Failure> {
    match message(wire).await? {
        Message::AuthenticationOk => Ok(()),
        _ => Err(Failure::OutOfPlace("the login was not confirmed")),
    }
}

/// The next message that is neither an error nor part of a stream.
async fn message(wire: &mut Wire) -> Result<Message, Failure> {
    wire.flush().await?;
    match wire.read().await? {
        Frame::Message(Message::ErrorResponse(body)) => {
            Err(Failure::Refused(Refused::from_body(&body)))
        }
        Frame::Message(message) => Ok(message),
        Frame::Copy(_) | Frame::CopyBoth => Err(Failure::OutOfPlace("a stream")),
    }
}

/// Sends one simple query (the only kind a walsender takes) and collects its rows as text.
pub(crate) async fn simple_query(
    wire: &mut Wire,
    sql: &str,
) -> Result<Vec<Vec<Option<String>>>, Failure> {
    let mut query = BytesMut::new();
    frontend::query(sql, &mut query)?;
    wire.output().extend_from_slice(&query);
    let mut rows = Vec::new();
    let mut refused = None;
    loop {
        match message(wire).await {
            Ok(Message::DataRow(body)) => {
                let cell = |range: Option<std::ops::Range<usize>>| {
                    let bytes = body.buffer().get(range?)?;
                    Some(String::from_utf8_lossy(bytes).into_owned())
                };
                rows.push(body.ranges().map(|range| Ok(cell(range))).collect()?);
            }
            Ok(Message::ReadyForQuery(_)) => return refused.map_or(Ok(rows), Err),
            Ok(_) => {}
            // After an error the server says ReadyForQuery, unless it hangs up.
            Err(failure @ Failure::Refused(_)) => refused = Some(failure),
            Err(failure) => return Err(refused.unwrap_or(failure)),
        }
    }
}
