//! Broadcast by HTTP, for servers and for clients that did not join.
//!
//! A request is looked at in this order: who asks, whether there is room, what it says. So nobody's body is read
//! before their token is believed, and no sender takes more memory for bodies than its share.
//!
//! ```text
//! POST /api/broadcast                           {"messages":[{topic, event, payload, private, id}, …]}
//! POST /api/broadcast/{topic}/events/{event}    the payload itself: JSON, or bytes
//! ```
//!
//! Pages of any origin may ask: what counts is the token, which no browser sends by itself. Policies say who may send
//! to a private topic.

mod answer;
mod batch;
mod rates;
mod single;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response, header};
use axum::routing::post;

use self::answer::Answer;
use self::rates::{Poster, Rate};
use super::desk::Desk;
use super::upgrade::as_json;
use crate::auth::denial::Denial;
use crate::auth::policy::{Asking, Extension};
use crate::auth::token::TokenRefusal;
use crate::egress::bodies::{self, Fault};
use crate::egress::network_of;
use crate::egress::subject::{Subject, Use};
use crate::memory::MemoryReservation;
use crate::model::{CallerIdentity, Principal};

pub(super) use self::rates::Rates;

/// Where broadcasts are posted, with and without a gateway's prefix.
const PATHS: [&str; 2] = ["/realtime/v1/api/broadcast", "/api/broadcast"];

/// Bytes of one body.
const MAX_BODY: usize = 8_000_000;

/// The routes.
pub(super) fn routes(desk: &Arc<Desk>) -> Router {
    let router = PATHS.into_iter().fold(Router::new(), |router, path| {
        let single = format!("{path}/{{topic}}/events/{{event}}");
        router
            .route(path, post(batch::say).options(preflight))
            .route(&single, post(single::say).options(preflight))
    });
    router.with_state(Arc::clone(desk))
}

/// The answer to a browser that asks whether it may post.
async fn preflight(headers: HeaderMap) -> Response<Body> {
    std::future::ready(answer::preflight(&headers)).await
}

/// Who sends.
#[derive(Debug)]
struct Sender {
    principal: Arc<Principal>,
    caller: CallerIdentity,
    /// Headers of the request, as policies see them: a JSON object.
    headers: Arc<str>,
    subject: Arc<Subject>,
    poster: Poster,
}

/// Believes the sender and finds it within its rate, or says what to answer.
async fn admit(desk: &Desk, request: &Parts) -> Result<Sender, Answer> {
    let headers = &request.headers;
    if !accepts_json(headers) {
        return Err(Answer::told(406, "Not Acceptable"));
    }
    let Some(token) = token(headers) else {
        desk.refused("ApiKeyMissing");
        return Err(Answer::told(401, "Unauthorized"));
    };
    let verified = desk.tokens.verify(token, (desk.clock)()).await.map_err(|refused| {
        desk.refused(refused.code());
        match refused {
            // The one fault that a good token can have.
            TokenRefusal::TooLong => Answer::told(401, &refused.on_connect().1),
            _ => Answer::told(401, "Unauthorized"),
        }
    })?;
    let caller = CallerIdentity::of(&verified.principal, network_of(&request.extensions));
    let subject = desk.seats.subject(&caller);
    let poster = Poster::of(&verified.principal);
    let headers = as_json(headers, |_| true);
    Ok(Sender { poster, principal: verified.principal, headers, subject, caller })
}

impl Sender {
    /// Refuses a sender that has nothing left, before its body is read.
    fn may_begin(&self, desk: &Desk) -> Result<(), Answer> {
        if 0 < rate_of(desk, Some(self)).left {
            return Ok(());
        }
        desk.refused("MessageRateLimitReached");
        Err(Answer::told(429, "Too many requests"))
    }

    /// Whether it may broadcast to a private topic.
    async fn may_send(&self, desk: &Desk, topic: &str) -> Result<bool, Denial> {
        let Self { principal, caller, headers, .. } = self;
        let asking = Asking { principal, topic, headers, caller };
        let may = desk.policies.may_write(asking, &[Extension::Broadcast]).await?;
        Ok(may == [true])
    }

    /// Takes so many messages from its subject and from all requests, or says what to answer.
    fn pay(&self, desk: &Desk, count: u32, text: &str) -> Result<(), Answer> {
        let at = desk.now().at;
        if !self.subject.take(Use::Message, count, at) {
            desk.refused("SubjectMessageRateLimitReached");
            return Err(Answer::told(429, text));
        }
        if self.poster == Poster::Other && !self.subject.post(count, at) {
            desk.refused("SubjectHttpMessageRateLimitReached");
            return Err(Answer::told(429, text));
        }
        desk.http_rates.take(self.poster, count, at).map_err(|code| {
            desk.refused(code);
            Answer::told(429, text)
        })
    }
}

/// What is told of the rate of whoever asked, who may not have been believed.
fn rate_of(desk: &Desk, sender: Option<&Sender>) -> Rate {
    let poster = sender.map_or(Poster::Other, |sender| sender.poster);
    desk.http_rates.rate(poster, sender.map(|sender| &*sender.subject), desk.now().at)
}

/// The token: of `Authorization: Bearer`, or else the header `apikey`.
fn token(headers: &HeaderMap) -> Option<&str> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let given = text(header::AUTHORIZATION).filter(|given| !given.trim().is_empty());
    match given {
        Some(given) => {
            let (scheme, token) = given.trim().split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        }
        None => text(header::HeaderName::from_static("apikey")),
    }
    .filter(|token| !token.trim().is_empty())
}

/// Whether an answer in JSON is of use.
fn accepts_json(headers: &HeaderMap) -> bool {
    let given = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let mut kinds = given.flat_map(|value| value.split(',')).peekable();
    kinds.peek().is_none()
        || kinds.any(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            ["*/*", "application/*", "application/json"]
                .iter()
                .any(|known| kind.eq_ignore_ascii_case(known))
        })
}

/// Reads a body within the limits. What is returned beside it holds its memory.
async fn read(
    desk: &Desk,
    sender: &Sender,
    body: Body,
) -> Result<(Bytes, MemoryReservation), Answer> {
    let read = bodies::read(desk.hub.memory(), &sender.caller, MAX_BODY, body).await;
    read.map_err(|fault| match fault {
        Fault::TooLarge => Answer::told(413, "Request Entity Too Large"),
        Fault::Late => Answer::told(408, "Request Timeout"),
        Fault::Broken => Answer::told(400, "Bad Request"),
        Fault::Full(full) => {
            desk.refused(full.code);
            Answer::told(503, "Service Unavailable")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        given
            .iter()
            .map(|(name, value)| {
                let value = header::HeaderValue::from_static(value);
                (header::HeaderName::from_static(name), value)
            })
            .collect()
    }

    #[test]
    fn takes_the_token_from_authorization_or_else_from_apikey() {
        for (given, expected) in [
            (&[][..], None),
            (&[("authorization", "Bearer a")], Some("a")),
            (&[("authorization", "bEARER  a ")], Some("a")),
            (&[("authorization", "Bearer a"), ("apikey", "b")], Some("a")),
            (&[("authorization", ""), ("apikey", "b")], Some("b")),
            (&[("apikey", "b")], Some("b")),
            (&[("apikey", "")], None),
            (&[("authorization", "Basic a")], None),
            (&[("authorization", "a"), ("apikey", "b")], None),
            (&[("authorization", "Bearer "), ("apikey", "b")], None),
        ] {
            assert_eq!(token(&headers(given)), expected, "{given:?}");
        }
    }

    #[test]
    fn knows_who_can_read_json() {
        for (given, expected) in [
            (&[][..], true),
            (&[("accept", "*/*")], true),
            (&[("accept", "text/html, application/JSON;q=0.9")], true),
            (&[("accept", "application/*")], true),
            (&[("accept", "text/html")], false),
            (&[("accept", "application/jsonp")], false),
        ] {
            assert_eq!(accepts_json(&headers(given)), expected, "{given:?}");
        }
    }
}
