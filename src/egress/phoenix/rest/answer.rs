//! What is answered, in the shapes of Supabase Realtime.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::rates::Rate;
use crate::rowjson::push_string;

/// A status, and a body in JSON unless it is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Answer {
    /// Everything was passed on.
    pub(super) const fn accepted() -> Self {
        Self { status: 202, body: String::new() }
    }

    /// `{"message":…}`
    pub(super) fn told(status: u16, text: &str) -> Self {
        Self { status, body: object("message", text) }
    }

    /// `{"error":…}`
    pub(super) fn error(status: u16, text: &str) -> Self {
        Self { status, body: object("error", text) }
    }

    /// `{"errors":{key:[text]}}`
    pub(super) fn invalid(key: &str, text: &str) -> Self {
        let mut body = String::from(r#"{"errors":{"#);
        push_string(&mut body, key);
        body.push_str(":[");
        push_string(&mut body, text);
        body.push_str("]}}");
        Self { status: 422, body }
    }

    /// The response, with what was used of the rate and what is left.
    pub(super) fn respond(self, told: Rate) -> Response<Body> {
        let Rate { limit, most, left } = told;
        let mut response = response(self.status, self.body);
        let headers = response.headers_mut();
        for (name, value) in RATE.into_iter().zip(rate(limit, most, left)) {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
        let exposed = HeaderValue::from_static(EXPOSED);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        response
    }
}

const RATE: [&str; 3] = ["x-rate-rolling", "x-rate-limit", "x-rate-limit-remaining"];

/// Pages may read them.
const EXPOSED: &str = "x-rate-rolling, x-rate-limit, x-rate-limit-remaining";

/// Messages a second: the average of late, the limit, what remains; none remains exactly when the next is refused.
fn rate(limit: u64, most: u64, left: u64) -> [u64; 3] {
    let rolling = most.saturating_sub(left) * limit / most.max(1);
    [rolling, limit, limit.saturating_sub(rolling)]
}

/// The answer to a browser that asks whether it may post. Policies see every header of a request, so a page may send any.
pub(super) fn preflight(asked: &HeaderMap) -> Response<Body> {
    let mut response = response(204, String::new());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, OPTIONS"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        (header::VARY, "access-control-request-headers"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let usual = || HeaderValue::from_static("apikey, authorization, content-type, x-client-info");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.unwrap_or_else(usual));
    response
}

fn response(status: u16, body: String) -> Response<Body> {
    let is_empty = body.is_empty();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if !is_empty {
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, json);
    }
    response
}

fn object(key: &str, text: &str) -> String {
    let mut body = String::from("{");
    push_string(&mut body, key);
    body.push(':');
    push_string(&mut body, text);
    body.push('}');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_each_shape() {
        assert_eq!(Answer::told(401, "Unauthorized").body, r#"{"message":"Unauthorized"}"#);
        assert_eq!(Answer::error(415, "a \"b\"").body, r#"{"error":"a \"b\""}"#);
        assert_eq!(Answer::invalid("a", "b").body, r#"{"errors":{"a":["b"]}}"#);
        assert!(Answer::accepted().body.is_empty());
    }

    #[test]
    fn nothing_remains_exactly_when_the_next_is_refused() {
        assert_eq!(rate(1000, 5000, 5000), [0, 1000, 1000]);
        assert_eq!(rate(1000, 5000, 4999), [0, 1000, 1000]);
        assert_eq!(rate(1000, 5000, 2500), [500, 1000, 500]);
        assert_eq!(rate(1000, 5000, 1), [999, 1000, 1]);
        assert_eq!(rate(1000, 5000, 0), [1000, 1000, 0]);
        assert_eq!(rate(1, 5, 0), [1, 1, 0]);
    }
}
