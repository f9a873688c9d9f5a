//! From a GET to a socket: who asks, and whether there is room.
//!
//! The query string carries the token: nothing here logs it, or the address it is part of.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Response, StatusCode, header};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::desk::Desk;
use super::dialect::Phoenix;
use super::frame::Vsn;
use super::offered;
use super::rest;
use super::resuming::MAX_ID;
use super::socket::{self, Client};
use super::wire::Wire;
use crate::egress::network_of;
use crate::egress::patient::Patient;
use crate::egress::unfinished::Unfinished;
use crate::memory::Kind;
use crate::model::CallerIdentity;
use crate::rowjson::push_string;

/// Where clients connect, with and without a gateway's prefix.
pub const PATHS: [&str; 2] = ["/realtime/v1/websocket", "/socket/websocket"];

/// Bytes that may come with the handshake. A client has to wait for the answer first; what comes early is not counted.
const MAX_EARLY: usize = 4 * 1024;

/// The routes of the protocol.
pub fn routes(desk: &Arc<Desk>) -> Router {
    let router =
        PATHS.into_iter().fold(Router::new(), |router, path| router.route(path, get(open)));
    router.with_state(Arc::clone(desk)).merge(rest::routes(desk))
}

async fn open(State(desk): State<Arc<Desk>>, mut request: Request) -> Response<Body> {
    let Some(vsn) = vsn(request.uri().query()) else {
        desk.refused("BadVsn");
        return answer(StatusCode::FORBIDDEN, Body::empty());
    };
    let Some(credential) = credential(request.headers(), request.uri().query()) else {
        desk.refused("ApiKeyMissing");
        return refusal(401, "API key is missing");
    };
    let verified = match desk.tokens.verify(&credential, (desk.clock)()).await {
        Ok(verified) => verified,
        Err(refused) => {
            desk.refused(refused.code());
            let (status, text) = refused.on_connect();
            return refusal(status, &text);
        }
    };
    let resume = match parameter(request.uri().query(), "resume").map(str::to_owned) {
        Some(id) if MAX_ID < id.len() => {
            desk.refused("ResumeIdTooLong");
            return refusal(400, "The resume id may have 128 bytes");
        }
        id => id.filter(|id| !id.is_empty()),
    };
    let key = match websocket_key(request.headers()) {
        Ok(key) => key,
        Err(refused) => return refused,
    };
    let network = network_of(request.extensions());
    let caller = CallerIdentity::of(&verified.principal, network);
    let seat = match desk.seats.take(&caller) {
        Ok(seat) => seat,
        Err(code) => {
            desk.refused(code);
            return refusal(429, "Too many connected users");
        }
    };
    if desk.has_no_joins() {
        desk.refused("ClientJoinRateLimitReached");
        return refusal(429, "Too many joins per second");
    }
    let has_phoenix = offered::has_phoenix(request.headers());
    let headers = as_json(request.headers(), |name| name.starts_with("x-"));
    let kept = headers.len() + credential.len();
    let held = match desk.hub.memory().reserve(Kind::Sockets, &caller, kept) {
        Ok(held) => held,
        Err(full) => {
            desk.refused(full.code);
            return refusal(429, "Too many connected users");
        }
    };
    let upgrade = hyper::upgrade::on(&mut request);
    drop(request);
    let runner = Arc::clone(&desk);
    desk.stage.spawn(async move {
        let limits = &runner.limits;
        let memory = runner.hub.memory().clone();
        let unfinished = Unfinished::new(memory, caller, limits.frame_time);
        if let Some(wire) = take_over(&runner, upgrade, unfinished).await {
            let client = Client { credential, headers, network, resume, held };
            socket::run(runner, seat, wire, Phoenix::of(vsn), client).await;
        }
    });
    let mut response = answer(StatusCode::SWITCHING_PROTOCOLS, Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    if has_phoenix {
        let phoenix = header::HeaderValue::from_static(offered::PHOENIX);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, phoenix);
    }
    if let Ok(accept) = derive_accept_key(key.as_bytes()).parse() {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// Gets the stream back from HTTP, whose buffers are let go. Who sends much before it has the answer is hung up on.
async fn take_over(
    desk: &Desk,
    upgrade: hyper::upgrade::OnUpgrade,
    unfinished: Unfinished,
) -> Option<Wire> {
    let upgraded = upgrade.await.ok()?;
    let parts = upgraded.downcast::<TokioIo<Patient>>().ok()?;
    if MAX_EARLY < parts.read_buf.len() {
        desk.refused("DataBeforeHandshake");
        return None;
    }
    let early = parts.read_buf.to_vec();
    drop(parts.read_buf);
    Some(Wire::open(parts.io.into_inner().into_inner(), early, desk.limits.frame, unfinished).await)
}

/// The serializer asked for; none when it is not one of ours.
fn vsn(query: Option<&str>) -> Option<Vsn> {
    let Some(version) = parameter(query, "vsn") else { return Some(Vsn::V1) };
    let (family, patch) = version.rsplit_once('.')?;
    if patch.is_empty() || !patch.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match family {
        "1.0" => Some(Vsn::V1),
        "2.0" => Some(Vsn::V2),
        _ => None,
    }
}

/// The token of the connection: the `x-api-key` header, or else the `apikey` parameter, or else what is offered as a token
/// in `Sec-WebSocket-Protocol`.
fn credential(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let from_header = headers.get("x-api-key").map(|value| {
        // What is not text is no token, and is refused as such.
        value.to_str().unwrap_or("?").to_owned()
    });
    let from_query = || parameter(query, "apikey").map(|value| value.replace('+', " "));
    let named = from_header.or_else(from_query).filter(|token| !token.trim().is_empty());
    named.or_else(|| offered::token(headers))
}

/// Headers as a JSON object, for policies. The last of equal names counts.
pub(super) fn as_json(headers: &HeaderMap, is_shown: impl Fn(&str) -> bool) -> Arc<str> {
    let shown = headers.iter().filter(|(name, _)| is_shown(name.as_str()));
    let shown = shown.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let object: serde_json::Map<String, serde_json::Value> =
        shown.map(|(name, value)| (name.to_owned(), value.into())).collect();
    serde_json::Value::Object(object).to_string().into()
}

/// The last value of a query parameter, still percent-encoded.
pub(super) fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next_back()
}

/// The client's key, if this is a WebSocket handshake as RFC 6455 wants it.
#[allow(clippy::result_large_err, reason = "made once per connection, on its way out")]
fn websocket_key(headers: &HeaderMap) -> Result<String, Response<Body>> {
    let has = |name: HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let wants_upgrade = has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket");
    if !wants_upgrade || !has(header::SEC_WEBSOCKET_VERSION, "13") {
        let text = "this is a WebSocket: connect with ws:// or wss://, version 13\n";
        let mut response = answer(StatusCode::UPGRADE_REQUIRED, Body::from(text));
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, header::HeaderValue::from_static("13"));
        return Err(response);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let is_key = |key: &&str| STANDARD.decode(key.trim()).is_ok_and(|bytes| bytes.len() == 16);
    key.filter(is_key).map(|key| key.trim().to_owned()).ok_or_else(|| {
        let text = "Sec-WebSocket-Key must be 16 bytes in base64\n";
        answer(StatusCode::BAD_REQUEST, Body::from(text))
    })
}

/// `{"error":…}`
fn refusal(status: u16, text: &str) -> Response<Body> {
    let mut body = String::from(r#"{"error":"#);
    push_string(&mut body, text);
    body.push('}');
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(status, Body::from(body));
    let json = header::HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn answer(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_serializer_from_vsn() {
        for (query, expected) in [
            (None, Some(Vsn::V1)),
            (Some("apikey=x&log_level=warn"), Some(Vsn::V1)),
            (Some("vsn=1.0.0"), Some(Vsn::V1)),
            (Some("vsn=1.0.5"), Some(Vsn::V1)),
            (Some("apikey=x&vsn=2.0.0&other"), Some(Vsn::V2)),
            (Some("vsn=2.1.0"), None),
            (Some("vsn=3.0.0"), None),
            (Some("vsn=2.0."), None),
            (Some("vsn="), None),
            (Some("vsn"), None),
        ] {
            assert_eq!(vsn(query), expected, "{query:?}");
        }
    }

    #[test]
    fn prefers_the_header_to_the_parameter() {
        let mut headers = HeaderMap::new();
        let token = |headers: &HeaderMap, query| credential(headers, query);
        assert_eq!(token(&headers, None), None);
        assert_eq!(token(&headers, Some("apikey=")), None);
        assert_eq!(token(&headers, Some("apikey=a+b%20c")).as_deref(), Some("a b%20c"));
        headers.insert("x-api-key", header::HeaderValue::from_static("own"));
        assert_eq!(token(&headers, Some("apikey=a")).as_deref(), Some("own"));
    }
}
