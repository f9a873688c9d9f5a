//! TLS to Postgres: what each sslmode verifies, and what a password exchange is bound to.
//!
//! `prefer` and `require` encrypt without asking who answers; `verify-ca` asks whether an authority we trust signed
//! the certificate; `verify-full` also whether it was signed for the host we meant. A certificate that is itself in
//! `sslrootcert` is trusted as it is, because that is how servers with a self-signed certificate are pinned.
//! Revocation lists are not read, and encrypted keys cannot be.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs as provider, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::target::{Roots, SslMode, Tls};
use crate::error::{Error, ErrorKind};

/// The TLS configuration for `tls`. Reads files, so it belongs on a thread that may block.
pub(super) fn configuration(tls: &Tls) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(provider::default_provider());
    let verifier = Verifier::new(tls, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Bug, "could not set up TLS").because(error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate, "sslcert")?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unusable("sslkey", key).because(error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                Error::new(ErrorKind::Misconfigured, "sslcert and sslkey do not fit together")
                    .because(error)
            })?
        }
    };
    Ok(Arc::new(config))
}

/// Why a handshake failed, without the names that the TLS library has for it.
pub(super) fn reason(error: &TlsError) -> String {
    let TlsError::InvalidCertificate(problem) = error else { return error.to_string() };
    match problem {
        CertificateError::UnknownIssuer => {
            "the server's certificate is signed by nobody who is trusted here, or by itself"
                .to_owned()
        }
        CertificateError::NotValidForName => {
            "the server's certificate was made for another name".to_owned()
        }
        CertificateError::Expired => "the server's certificate has expired".to_owned(),
        CertificateError::NotValidYet => "the server's certificate is not valid yet".to_owned(),
        CertificateError::BadSignature => {
            "the server's certificate has a signature that is not its issuer's".to_owned()
        }
        problem if is_authority(problem) => {
            "the server's certificate is an authority's own, signed by itself".to_owned()
        }
        // These have a text for people.
        CertificateError::NotValidForNameContext { .. }
        | CertificateError::ExpiredContext { .. } => problem.to_string(),
        problem => format!("the server's certificate is not accepted ({problem:?})"),
    }
}

/// An authority's certificate where a server's is expected. The library has no variant of its own for it.
fn is_authority(problem: &CertificateError) -> bool {
    matches!(problem, CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity"))
}

/// What to do about a failed handshake, for the operator.
pub(super) fn advice(error: &TlsError) -> Option<&'static str> {
    let TlsError::InvalidCertificate(problem) = error else { return None };
    match problem {
        problem if is_authority(problem) => Some(
            "make the server a certificate that is none of an authority (CA:FALSE) and name what signed it with sslrootcert, or \
             encrypt without verifying with sslmode=require",
        ),
        CertificateError::UnknownIssuer => Some(
            "name the file of the authority that signed the server's certificate with sslrootcert, \
             or encrypt without verifying with sslmode=require",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Some(
                "use the host name the certificate was made for (its subjectAltName), or sslmode=verify-ca",
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Some("renew the server's certificate")
        }
        _ => None,
    }
}

/// The `tls-server-end-point` of a server certificate (RFC 5929): its hash under its own signature's algorithm.
/// None where that is not defined (Ed25519) or would need the signature's parameters (RSA-PSS).
pub(super) fn end_point(certificate: &CertificateDer<'_>) -> Option<Box<[u8]>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.oid.to_string().as_str() {
        // RSA and ECDSA with MD5, SHA-1 (both taken as SHA-256 by the RFC) and SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().into())
}

#[derive(Debug)]
struct Verifier {
    checks_chain: bool,
    checks_name: bool,
    roots: RootCertStore,
    pinned: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(tls: &Tls, provider: &CryptoProvider) -> Result<Self, Error> {
        let checks_chain = matches!(tls.mode, SslMode::VerifyCa | SslMode::VerifyFull);
        let mut roots = RootCertStore::empty();
        let mut pinned = Vec::new();
        match &tls.roots {
            Roots::File(file) if checks_chain => {
                pinned = certificates(file, "sslrootcert")?;
                roots.add_parsable_certificates(pinned.iter().cloned());
            }
            Roots::System if checks_chain => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(Error::new(
                        ErrorKind::Misconfigured,
                        "the system has no trusted authorities; install ca-certificates or name a file with sslrootcert",
                    ));
                }
            }
            Roots::File(_) | Roots::System => {}
        }
        Ok(Self {
            checks_chain,
            checks_name: tls.mode == SslMode::VerifyFull,
            roots,
            pinned,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    fn check_pinned(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), TlsError> {
        let bad = |problem| TlsError::InvalidCertificate(problem);
        let parsed = Certificate::from_der(certificate)
            .map_err(|_| bad(CertificateError::BadEncoding))?
            .tbs_certificate;
        let now = now.as_secs();
        if now < parsed.validity.not_before.to_unix_duration().as_secs() {
            return Err(bad(CertificateError::NotValidYet));
        }
        if now > parsed.validity.not_after.to_unix_duration().as_secs() {
            return Err(bad(CertificateError::Expired));
        }
        Ok(())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if self.checks_chain {
            let parsed = ParsedCertificate::try_from(certificate)?;
            if self.pinned.iter().any(|pinned| pinned.as_ref() == certificate.as_ref()) {
                Self::check_pinned(certificate, now)?;
            } else {
                verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    &self.roots,
                    intermediates,
                    now,
                    self.algorithms.all,
                )?;
            }
            if self.checks_name {
                verify_server_name(&parsed, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    // The signature is verified even where the certificate is not: channel binding relies on the server holding the
    // key of the certificate it showed.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn certificates(file: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(key, file).because(error))?;
    if found.is_empty() {
        return Err(unusable(key, file).because("there is no certificate in it"));
    }
    Ok(found)
}

fn unusable(key: &str, file: &Path) -> Error {
    Error::new(ErrorKind::Misconfigured, format!("could not use {key} {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_point_is_the_hash_of_the_certificate_under_its_own_algorithm() {
        let made = |algorithm| {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
            params.self_signed(&key).unwrap().der().clone()
        };
        let p256 = made(&rcgen::PKCS_ECDSA_P256_SHA256);
        let expected = digest::digest(&digest::SHA256, &p256);
        assert_eq!(end_point(&p256).as_deref(), Some(expected.as_ref()));
        let p384 = made(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(end_point(&p384).map(|hash| hash.len()), Some(48));
        assert_eq!(end_point(&made(&rcgen::PKCS_ED25519)), None);
        assert_eq!(end_point(&CertificateDer::from_slice(b"no certificate")), None);
    }
}
