//! Where a relay is: what people type, the socket to open, and the address to ask for.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite;

use crate::error::{Error, ErrorKind};

/// What a WebSocket runs on: TCP, or TLS over it.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A relay's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    is_tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl Address {
    /// Parses `ws://`, `wss://`, `http://`, `https://` or a bare `host:port`; a missing path is the relay's own, and
    /// a path without `/websocket` gets it, as in the SDKs.
    ///
    /// # Errors
    /// `Misconfigured`, naming what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |what: &str| {
            let context =
                format!("could not read the address {text:?}: {what}; e.g. ws://127.0.0.1:4000");
            Error::new(ErrorKind::Misconfigured, context)
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("ws", text));
        let is_tls = match scheme {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(wrong("the scheme is none of ws, wss, http, https")),
        };
        let (authority, path) = rest
            .find('/')
            .map_or((rest, ""), |slash| rest.split_at_checked(slash).unwrap_or_default());
        let path = path.split('?').next().unwrap_or_default();
        let bare = authority.ends_with(']') || !authority.contains(':');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !bare => {
                (host, port.parse().map_err(|_| wrong("the port is not a number"))?)
            }
            _ => (authority, if is_tls { 443 } else { 80 }),
        };
        if host.is_empty() {
            return Err(wrong("there is no host"));
        }
        let path = match path.trim_end_matches('/') {
            "" => "/realtime/v1/websocket".to_owned(),
            path if path.ends_with("/websocket") => path.to_owned(),
            path => format!("{path}/websocket"),
        };
        Ok(Self { is_tls, host: host.to_owned(), port, path })
    }

    /// Opens the socket.
    ///
    /// # Errors
    /// `PeerUnreachable`, naming the address.
    pub(crate) async fn open(&self) -> Result<Box<dyn Transport>, Error> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::PeerUnreachable, format!("could not reach the relay at {self}"))
                .because(error)
        };
        let host = self.host.trim_matches(['[', ']']).to_owned();
        let stream = TcpStream::connect((host.as_str(), self.port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        if !self.is_tls {
            return Ok(Box::new(stream));
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name =
            ServerName::try_from(host).map_err(|error| failed(std::io::Error::other(error)))?;
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
        Ok(Box::new(tls.connect(name, stream).await.map_err(failed)?))
    }

    /// The address of the WebSocket, with the token, and with the id that a client continues under if it has one.
    pub(crate) fn websocket(&self, token: &str, resume: Option<&str>) -> String {
        let scheme = if self.is_tls { "wss" } else { "ws" };
        let Self { host, port, path, .. } = self;
        let resume = resume.map_or_else(String::new, |id| format!("&resume={id}"));
        format!("{scheme}://{host}:{port}{path}?apikey={token}&vsn=2.0.0{resume}")
    }

    /// The error for a handshake that failed, with the relay's words when there are any.
    pub(crate) fn refused(&self, error: tungstenite::Error) -> Error {
        let context = format!("{self} refused the connection");
        match error {
            tungstenite::Error::Http(response) => {
                let body = response.body().as_deref().unwrap_or_default();
                let words = format!("{} {}", response.status(), String::from_utf8_lossy(body));
                // A refusal does not pass by itself, unlike an unreachable relay.
                let is_refusal = response.status().is_client_error();
                let kind =
                    if is_refusal { ErrorKind::SourceRejected } else { ErrorKind::PeerUnreachable };
                Error::new(kind, context).because(words.trim().to_owned())
            }
            other => Error::new(ErrorKind::PeerUnreachable, context).because(other),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_address(text: &str, expected: &str) {
        assert_eq!(Address::parse(text).unwrap().websocket("T", None), expected, "{text}");
    }

    #[test]
    fn fills_in_what_people_leave_out() {
        let usual = "ws://127.0.0.1:4000/realtime/v1/websocket?apikey=T&vsn=2.0.0";
        check_address("ws://127.0.0.1:4000", usual);
        check_address("127.0.0.1:4000", usual);
        check_address("http://127.0.0.1:4000/realtime/v1", usual);
        check_address("http://127.0.0.1:4000/realtime/v1/websocket?apikey=x", usual);
        check_address("[::1]:4000/socket", "ws://[::1]:4000/socket/websocket?apikey=T&vsn=2.0.0");
        check_address(
            "wss://relay.example",
            "wss://relay.example:443/realtime/v1/websocket?apikey=T&vsn=2.0.0",
        );
    }

    #[test]
    fn names_what_is_wrong() {
        for (text, part) in [("ftp://x", "scheme"), ("ws://:1", "no host"), ("ws://x:y", "port")] {
            assert!(Address::parse(text).unwrap_err().to_string().contains(part), "{text}");
        }
    }
}
