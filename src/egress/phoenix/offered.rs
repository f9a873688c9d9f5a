//! What a handshake offers in `Sec-WebSocket-Protocol`, beside the protocol itself.
//!
//! Phoenix' own client, since 1.8, offers `phoenix` and, with an `authToken`, that token as a second name, because a
//! browser's WebSocket can send no other header; it and other strict clients fail when nothing they offered is selected.
//! So `phoenix` is selected where it is offered. The name with the token in it never is: it would repeat the token.
//! Names of other protocols are not selected, because they are not spoken here, and keep nobody out, because Supabase
//! Realtime does not look at them.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The name of the protocol spoken here.
pub(super) const PHOENIX: &str = "phoenix";

/// What the name with a token in it begins with.
const BEARER: &str = "base64url.bearer.phx.";

/// Whether the protocol spoken here is among what is offered.
pub(super) fn has_phoenix(headers: &HeaderMap) -> bool {
    names(headers).any(|name| name == PHOENIX)
}

/// The token that is offered, if there is exactly one. What is no token is refused as one.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    let mut tokens = names(headers).filter_map(|name| name.strip_prefix(BEARER));
    let (Some(encoded), None) = (tokens.next(), tokens.next()) else { return None };
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    // The name says the one alphabet, the client writes the other.
    let engines = [STANDARD, URL_SAFE].map(|alphabet| GeneralPurpose::new(&alphabet, config));
    let decoded = engines.iter().find_map(|engine| engine.decode(encoded).ok());
    let token = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    Some(token.filter(|token| !token.trim().is_empty()).unwrap_or_else(|| "?".to_owned()))
}

fn names(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
}
