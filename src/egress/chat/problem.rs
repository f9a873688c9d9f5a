//! What a caller is told when there is nothing else to tell: `application/problem+json`, with the cause in words.
//!
//! What Postgres says is passed on where it is about what the caller sent. Its details, which quote rows, are not, nor is
//! a value that could not be read as its type: it may be one that only a policy or a trigger reads.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::json;
use tokio_postgres::Error;

use crate::log_rate::admit;
use crate::postgres::without_values;

/// A refusal or a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) detail: String,
    /// The SQLSTATE, when Postgres said it.
    code: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// One in our own words.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), code: None, headers: Vec::new() }
    }

    /// The session is not there, or not for the caller.
    pub(super) fn no_chat() -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is no such chat.")
    }

    /// What was sent cannot be meant.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// Nothing was done; trying again soon will help.
    pub(super) fn later(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).after(1)
    }

    /// Postgres took too long.
    pub(super) fn too_slow() -> Self {
        let detail = "The database took too long. Whether anything was stored is not known; sending the same id \
                      again is safe.";
        Self::new(StatusCode::GATEWAY_TIMEOUT, detail)
    }

    /// When to try again.
    pub(super) fn after(self, seconds: u64) -> Self {
        self.with(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The same with a header more.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// What Postgres said.
    pub(super) fn of(error: &Error) -> Self {
        let Some(said) = error.as_db_error() else {
            return Self::later(
                "The connection to the database broke. Whether anything was stored is not known; sending the \
                 same id again is safe.",
            );
        };
        let (code, message) = (said.code().code(), said.message());
        let mut problem = match (code, code.get(..2).unwrap_or_default()) {
            ("57014", _) => Self::too_slow(),
            ("42501", _) => Self::new(StatusCode::FORBIDDEN, message),
            ("23505", _) => Self::new(StatusCode::CONFLICT, message),
            ("22021", _) => Self::invalid("A text has a character that the database cannot store."),
            (_, "22") => Self::invalid(without_values(said)),
            ("P0001", _) | (_, "23") => Self::invalid(message),
            ("25006", _) | (_, "08" | "40" | "53" | "55" | "57" | "58") => {
                Self::later("The database cannot answer now.")
            }
            ("42P01" | "42703" | "3F000" | "42883", _) => {
                if let Some(left_out) = admit(&["chat tables", code, message]) {
                    tracing::warn!(
                        code,
                        message,
                        left_out,
                        "the chat's tables are not as [chat] says"
                    );
                }
                Self::broken("The chat's tables are not as the server's configuration says.")
            }
            _ => {
                if let Some(left_out) = admit(&["chat", code]) {
                    tracing::warn!(code, left_out, "a request of the chat API failed in Postgres");
                }
                Self::broken("The database refused what the server asked.")
            }
        };
        problem.code = Some(code.to_owned());
        problem
    }

    /// Only an operator can mend it.
    pub(super) fn broken(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let (Some(code), Some(body)) = (self.code, body.as_object_mut()) {
            body.insert("code".to_owned(), code.into());
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.extend(self.headers);
        response
    }
}
