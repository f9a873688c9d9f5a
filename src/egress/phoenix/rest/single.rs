//! One message: topic and event in the path, the payload as it is in the body.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response, Uri, header};

use super::super::binary::{MAX_EVENT, MAX_SUBTOPIC as MAX_SUBTOPIC_OF_BYTES};
use super::super::desk::Desk;
use super::super::json;
use super::super::session::MAX_SUBTOPIC;
use super::super::talk::pieces;
use super::answer::Answer;
use super::batch::{TOO_LARGE, too_long};
use super::{Sender, admit, rate_of, read};
use crate::auth::denial::Denial;
use crate::hub::{Broadcast, Namespace, RoomName};

/// To a sender over its rate.
const TOO_MANY: &str = "You have exceeded your rate limit";

/// What is said of a `private` that is neither `true` nor `false`.
const NO_BOOLEAN: &str = "must be true or false";

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Bytes,
    /// No kind was given; the body counts for nothing.
    Nothing,
}

/// Takes a message.
pub(super) async fn say(
    State(desk): State<Arc<Desk>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let sender = admit(&desk, &head).await;
    let answer = match &sender {
        Ok(sender) => {
            let taken = take(&desk, sender, path, (head, body)).await;
            taken.unwrap_or_else(|refused| refused)
        }
        Err(refused) => refused.clone(),
    };
    answer.respond(rate_of(&desk, sender.as_ref().ok()))
}

async fn take(
    desk: &Desk,
    sender: &Sender,
    path: Result<Path<(String, String)>, PathRejection>,
    (head, body): (Parts, Body),
) -> Result<Answer, Answer> {
    sender.may_begin(desk)?;
    let Path((topic, event)) = path.map_err(|_| Answer::told(400, "Bad Request"))?;
    let kind = kind(&head.headers).ok_or_else(|| {
        let text = "Unsupported Media Type. Use application/json or application/octet-stream";
        Answer::error(415, text)
    })?;
    for (key, text, longest) in [("topic", &topic, MAX_SUBTOPIC), ("event", &event, MAX_EVENT)] {
        if longest < text.len() {
            return Err(Answer::invalid(key, &too_long(longest)));
        }
    }
    if kind == Kind::Bytes && MAX_SUBTOPIC_OF_BYTES < topic.len() {
        let text = format!("{} when the payload is bytes", too_long(MAX_SUBTOPIC_OF_BYTES));
        return Err(Answer::invalid("topic", &text));
    }
    let is_private = is_private(&head.uri)
        .ok_or_else(|| Answer { status: 400, ..Answer::invalid("private", NO_BOOLEAN) })?;
    // Asking Postgres costs, whatever the answer is.
    let asked = u32::from(is_private);
    sender.pay(desk, asked, TOO_MANY)?;
    if is_private && !sender.may_send(desk, &topic).await.map_err(denied)? {
        desk.refused("Unauthorized");
        return Err(Answer::told(403, "Unauthorized"));
    }
    let (body, _held) = read(desk, sender, body).await?;
    if desk.limits.broadcast_payload < body.len() {
        desk.refused("PayloadSizeExceeded");
        return Err(Answer::invalid("payload", TOO_LARGE));
    }
    let count = pieces(body.len());
    let broadcast = match kind {
        Kind::Bytes => Broadcast::binary(event, body),
        Kind::Nothing => Broadcast::json(event, "{}"),
        Kind::Json => Broadcast::json(event, payload(&body)?),
    };
    sender.pay(desk, count.saturating_sub(asked), TOO_MANY)?;
    let namespace = if is_private { Namespace::Private } else { Namespace::Public };
    let room = RoomName { namespace, topic: topic.into() };
    desk.broadcast(&room, None, &broadcast);
    Ok(Answer::accepted())
}

/// The answer when it cannot be found out who may send.
fn denied(denial: Denial) -> Answer {
    match denial {
        Denial::Failed => Answer::told(422, "RLS policy error"),
        Denial::Cancelled => Answer::told(422, "Query canceled"),
        Denial::NoPartition => Answer::told(422, "Missing messages partition"),
        Denial::Unavailable | Denial::Unreachable => {
            Answer::told(422, "Tenant database unavailable")
        }
        Denial::Full => Answer::told(422, "Tenant database has too many connections"),
        Denial::Starting => Answer::told(422, "Tenant database initializing"),
        Denial::Busy => Answer::told(429, "Connection pool exhausted"),
    }
}

/// Whether `private` is `true`; none when it is anything but `true` or `false`, or when it is written in another letter
/// case, as a list, or twice and differently: somebody meant a private topic, who must not speak in a public one.
fn is_private(uri: &Uri) -> Option<bool> {
    let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    let is_meant = |name: &str| {
        let name = name.trim().split('[').next().unwrap_or_default();
        name.eq_ignore_ascii_case("private")
    };
    let mut found = None;
    for (name, value) in parameters.iter().filter(|(name, _)| is_meant(name)) {
        let value = match (name.as_str(), value.as_str()) {
            ("private", "true") => true,
            ("private", "false") => false,
            _ => return None,
        };
        if found.is_some_and(|before| before != value) {
            return None;
        }
        found = Some(value);
    }
    Some(found.unwrap_or(false))
}

/// What the body is by its `Content-Type`; none when it is of no use here.
fn kind(headers: &HeaderMap) -> Option<Kind> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Some(Kind::Nothing) };
    let given = given.to_str().ok()?.split(';').next().unwrap_or_default().trim();
    let is = |known: &str| given.eq_ignore_ascii_case(known);
    if is("application/json") {
        return Some(Kind::Json);
    }
    is("application/octet-stream").then_some(Kind::Bytes)
}

/// The payload in a body of JSON: an object as it is, anything else in one.
fn payload(body: &[u8]) -> Result<String, Answer> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok("{}".to_owned());
    }
    let text = json::read(body).ok_or_else(|| Answer::told(400, "Bad Request"))?;
    let is_object = json::is_object(text);
    Ok(if is_object { text.to_owned() } else { format!(r#"{{"_json":{text}}}"#) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_kind_of_a_body() {
        let mut headers = HeaderMap::new();
        assert_eq!(kind(&headers), Some(Kind::Nothing));
        for (given, expected) in [
            ("application/json", Some(Kind::Json)),
            ("Application/JSON; charset=utf-8", Some(Kind::Json)),
            ("application/octet-stream", Some(Kind::Bytes)),
            ("text/plain", None),
            ("application/json-seq", None),
            ("", None),
        ] {
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(given));
            assert_eq!(kind(&headers), expected, "{given}");
        }
    }

    #[test]
    fn each_denial_has_the_answer_clients_know() {
        for (denial, status, text) in [
            (Denial::Failed, 422, "RLS policy error"),
            (Denial::Cancelled, 422, "Query canceled"),
            (Denial::NoPartition, 422, "Missing messages partition"),
            (Denial::Unavailable, 422, "Tenant database unavailable"),
            (Denial::Unreachable, 422, "Tenant database unavailable"),
            (Denial::Full, 422, "Tenant database has too many connections"),
            (Denial::Starting, 422, "Tenant database initializing"),
            (Denial::Busy, 429, "Connection pool exhausted"),
        ] {
            assert_eq!(denied(denial), Answer::told(status, text), "{denial:?}");
        }
    }

    #[test]
    fn wraps_what_is_no_object() {
        for (body, expected) in [
            ("", "{}"),
            (" ", "{}"),
            (r#"{"a": 1}"#, r#"{"a": 1}"#),
            ("[1]", r#"{"_json":[1]}"#),
            ("null", r#"{"_json":null}"#),
            (r#""a""#, r#"{"_json":"a"}"#),
        ] {
            assert_eq!(payload(body.as_bytes()).as_deref(), Ok(expected), "{body}");
        }
        assert_eq!(payload(b"{").map_err(|answer| answer.status), Err(400));
    }
}
