//! What is refused of HTTP before anybody looks at a request, and what every answer says.

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use axum::response::IntoResponse as _;

/// The answer to a request that is not as HTTP/1.1 (RFC 9112) or the WebSocket protocol (RFC 6455) want it: without a
/// host or with several, or a handshake by another method or an older version.
pub(super) fn refuse<B>(request: &Request<B>) -> Option<Response<Body>> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let is_old = request.version() < Version::HTTP_11;
    let fault = if 1 < hosts || hosts == 0 && !is_old {
        "a request has one Host\n"
    } else if wants_socket(request) && (is_old || request.method() != Method::GET) {
        "a WebSocket begins with GET and HTTP/1.1\n"
    } else {
        return None;
    };
    Some((StatusCode::BAD_REQUEST, fault).into_response())
}

/// Whether a request asks to become a WebSocket.
fn wants_socket<B>(request: &Request<B>) -> bool {
    let values = request.headers().get_all(header::UPGRADE).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|text| text.trim().eq_ignore_ascii_case("websocket"))
}

/// Browsers take no answer for something that it does not say it is.
pub(super) fn seal(response: &mut Response<Body>) {
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
}
