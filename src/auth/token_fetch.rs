//! Reading the text of a key set: from a file when it changed, or from the one address in the configuration.
//!
//! No redirect is followed and nothing of a token enters the request, so a token cannot choose whom the relay talks
//! to. An answer is bounded in size and in time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::error::{Error, ErrorKind};

/// A set of hundreds of RSA keys fits.
const LARGEST_SET: usize = 256 * 1024;
/// Connecting, asking and reading the answer, together.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the text of a key set is read from.
#[derive(Debug)]
pub(super) enum Source {
    /// A file.
    File(File),
    /// An address.
    Address(Address),
}

/// A file, and what it looked like when it was read.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
}

/// An address, and a client for it alone.
#[derive(Debug)]
pub(super) struct Address {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Source {
    /// The address, if it is one.
    pub(super) fn address(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Address(address) => Some(address.uri.to_string()),
        }
    }

    /// The text, or `None` when it did not change since the last call.
    ///
    /// # Errors
    /// `Misconfigured` for a file, `PeerUnreachable` for an address.
    pub(super) async fn load(&mut self) -> Result<Option<String>, Error> {
        match self {
            Self::File(file) => file.load(),
            Self::Address(address) => address.load().await.map(Some),
        }
    }
}

impl File {
    /// A file that was not read yet.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: None }
    }

    /// The text, or `None` when neither its time nor its size changed. A few hundred kilobytes on a local disk do
    /// not hold the runtime up.
    ///
    /// # Errors
    /// `Misconfigured`: the file cannot be read or is too large.
    pub(super) fn load(&mut self) -> Result<Option<String>, Error> {
        let fault = |cause: std::io::Error| {
            let context = format!("could not read the key set {}", self.path.display());
            Error::new(ErrorKind::Misconfigured, context).because(cause)
        };
        let metadata = std::fs::metadata(&self.path).map_err(fault)?;
        let look = (metadata.modified().map_err(fault)?, metadata.len());
        if self.seen == Some(look) {
            return Ok(None);
        }
        if LARGEST_SET < usize::try_from(look.1).unwrap_or(usize::MAX) {
            return Err(fault(std::io::Error::other("it is larger than 256 KiB")));
        }
        let text = std::fs::read_to_string(&self.path).map_err(fault)?;
        self.seen = Some(look);
        Ok(Some(text))
    }
}

impl Address {
    /// A client for `url`, which the configuration has checked: https, or http on this machine.
    ///
    /// # Errors
    /// `Misconfigured`: the address cannot be parsed, or an https address without any trusted certificate.
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let misconfigured = |context: String| Error::new(ErrorKind::Misconfigured, context);
        let uri: Uri = url.parse().map_err(|cause| {
            misconfigured("could not parse the address in auth.jwks".to_owned()).because(cause)
        })?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() && uri.scheme_str() == Some("https") {
            let context = "no trusted certificates on this machine for auth.jwks; install \
                           ca-certificates or set SSL_CERT_FILE";
            return Err(misconfigured(context.to_owned()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| misconfigured("could not set TLS up".to_owned()).because(cause))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(PATIENCE));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .http1_max_buf_size(64 * 1024)
            .build(https);
        Ok(Self { uri, client })
    }

    async fn load(&self) -> Result<String, Error> {
        let host = self.uri.host().unwrap_or_default();
        let unreachable = |why: &str| {
            let context = format!("could not fetch the key set from {host}: {why}");
            Error::new(ErrorKind::PeerUnreachable, context)
        };
        match tokio::time::timeout(PATIENCE, self.fetch()).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(why)) => Err(unreachable(&why)),
            Err(_) => Err(unreachable("no answer within 5 s")),
        }
    }

    async fn fetch(&self) -> Result<String, String> {
        let answer = self.client.get(self.uri.clone()).await.map_err(|error| chain(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("it answered {}; redirects are not followed", answer.status()));
        }
        let body = Limited::new(answer.into_body(), LARGEST_SET).collect().await;
        let bytes = body.map_err(|error| chain(&*error))?.to_bytes();
        String::from_utf8(bytes.into()).map_err(|_| "the answer is not UTF-8".to_owned())
    }
}

/// An error and its causes: hyper alone says no more than "client error".
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
