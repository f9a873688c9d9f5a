//! Reaching Postgres: connection strings, TLS, and ordinary SQL connections.

use crate::error::Error;

/// Where and how to connect: a parsed connection string (`postgres://…` or `key=value …`), several hosts, every
/// sslmode.
#[derive(Clone, Debug)]
pub struct Target {}

impl Target {
    /// Parses a connection string. Keys it does not know are named in the error; the password never is.
    ///
    /// # Errors
    /// The kind is `Misconfigured`.
    pub fn parse(_text: &str) -> Result<Self, Error> {
        todo!()
    }
}

/// An ordinary SQL connection with the relay's session settings. The task that drives it is spawned by the caller
/// through the returned future's completion; see [`connect`].
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
    _target: &Target,
    _application: &str,
    _options: &[(&str, &str)],
    _stage: &crate::shutdown::Stage,
) -> Result<Sql, Error> {
    todo!()
}
