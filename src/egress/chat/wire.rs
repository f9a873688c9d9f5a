//! Requests and answers: bodies within their limit, JSON, headers for pages of other origins, figures.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::Next;
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;

use super::Chat;
use super::calls::Stored;
use super::problem::Problem;
use crate::egress::bodies::{self, Fault};
use crate::egress::network_of;
use crate::memory::MemoryReservation;
use crate::model::CallerIdentity;

/// An answer in JSON.
#[derive(Debug)]
pub(super) struct Json(pub(super) StatusCode, pub(super) String);

impl Json {
    /// 200.
    pub(super) const fn ok(json: String) -> Self {
        Self(StatusCode::OK, json)
    }

    /// 201 when it was made just now, else 200.
    pub(super) fn stored(stored: Stored) -> Self {
        let status = if stored.is_new { StatusCode::CREATED } else { StatusCode::OK };
        Self(status, stored.json)
    }
}

impl IntoResponse for Json {
    fn into_response(self) -> Response<Body> {
        let kind = (header::CONTENT_TYPE, "application/json; charset=utf-8");
        (self.0, [kind], self.1).into_response()
    }
}

/// The body of a request, as JSON of this shape.
#[derive(Debug)]
pub(super) struct Given<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Chat>> for Given<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, chat: &Arc<Chat>) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "The body must be JSON: `Content-Type: application/json`.";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        // Its token is believed elsewhere; here it is the network that counts.
        let caller = CallerIdentity::Stranger(network_of(request.extensions()));
        let (body, _held) = read(chat, &caller, request.into_body()).await?;
        let body: &[u8] = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &body };
        let given = serde_json::from_slice(body);
        // What it says names a key and a place, and may quote a value; its sender knows it.
        given.map(Self).map_err(|error| {
            let detail = format!("The body cannot be read: {error}.");
            match error.classify() {
                serde_json::error::Category::Data => Problem::invalid(detail),
                _ => Problem::new(StatusCode::BAD_REQUEST, detail),
            }
        })
    }
}

async fn read(
    chat: &Chat,
    caller: &CallerIdentity,
    body: Body,
) -> Result<(Bytes, MemoryReservation), Problem> {
    let read = bodies::read(chat.hub.memory(), caller, chat.body, body).await;
    read.map_err(|fault| match fault {
        Fault::Late => {
            Problem::new(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time.")
        }
        Fault::TooLarge => {
            let detail = format!("The body is larger than {} bytes.", chat.body);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
                .with(header::CONNECTION, HeaderValue::from_static("close"))
        }
        Fault::Broken => Problem::new(StatusCode::BAD_REQUEST, "The body did not arrive whole."),
        Fault::Full(full) => {
            chat.refused(full.code);
            Problem::later("Too many bodies are on their way; try again.")
        }
    })
}

/// Whether a body is JSON, or says nothing of its kind.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// The one part of the path that is not fixed.
#[derive(Debug)]
pub(super) struct Named(pub(super) String);

impl FromRequestParts<Arc<Chat>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, chat: &Arc<Chat>) -> Result<Self, Problem> {
        let named: Result<Path<String>, PathRejection> =
            Path::from_request_parts(parts, chat).await;
        let Path(name) = named.map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "The id in the path is not UTF-8.")
        })?;
        Ok(Self(name))
    }
}

/// Parameters of the query.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Chat>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, chat: &Arc<Chat>) -> Result<Self, Problem> {
        let asked: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, chat).await;
        let Query(asked) = asked.map_err(|rejected| {
            let detail = format!("The query cannot be read: {}.", rejected.body_text());
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })?;
        Ok(Self(asked))
    }
}

/// Around every request: pages of any origin may ask, because what counts is the token, which no browser sends by itself.
pub(super) async fn around(
    State(chat): State<Arc<Chat>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    if request.method() == Method::OPTIONS {
        return preflight(request.headers());
    }
    let started = Instant::now();
    let mut response = next.run(request).await;
    chat.metrics.chat_seconds.observe(started.elapsed().as_secs_f64());
    let outcome = match response.status().as_u16() {
        ..400 => "done",
        400..500 => "refused",
        _ => "failed",
    };
    chat.metrics.chat_requests.get_or_create(&crate::metrics::reason(outcome)).inc();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANYWHERE);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const ANYWHERE: HeaderValue = HeaderValue::from_static("*");

/// The answer to a browser that asks whether it may ask.
fn preflight(asked: &HeaderMap) -> Response<Body> {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANYWHERE);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        (header::VARY, "access-control-request-headers"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let wanted: Option<HeaderValue> =
        asked.get(HeaderName::from_static("access-control-request-headers")).cloned();
    let usual = || HeaderValue::from_static("authorization, content-type");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.unwrap_or_else(usual));
    response
}

/// The answer where there is no route.
pub(super) async fn nowhere() -> Problem {
    std::future::ready(Problem::new(StatusCode::NOT_FOUND, "There is no such route.")).await
}

/// The answer to a method that a route does not have.
pub(super) async fn no_method() -> Problem {
    let detail = "This route does not have this method.";
    std::future::ready(Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)).await
}
