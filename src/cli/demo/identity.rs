//! Who somebody is in a demo: tokens for whoever asks, and an agent's for whoever knows the access code.
//!
//! Only `relay demo` has this route. It knows nobody: a browser says which session is its own, and the user is made from that.
//! Pages of other origins cannot ask, because nothing tells their browser that they may.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use serde_json::json;

use crate::cli::client::token::mint;
use crate::cli::random;
use crate::error::Error;
use crate::postgres::{Target, connect};
use crate::secret::Secret;
use crate::shutdown::Stage;

/// Wrong codes in one window; then even the right one has to wait.
const WRONG: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);

/// Bytes of a request.
const BODY: usize = 4096;

/// Characters of an agent's name.
const NAME: usize = 200;

/// What tokens are made with.
pub(super) struct Identity {
    pub(super) secret: Secret<String>,
    /// What an agent must know.
    pub(super) code: Secret<String>,
    pub(super) lifetime: Duration,
    /// The database, as somebody who may name agents.
    pub(super) target: Target,
    pub(super) stage: Stage,
    pub(super) wrong: Mutex<Option<(Instant, u32)>>,
}

#[derive(Deserialize)]
struct Request {
    role: Role,
    session: String,
    code: Option<String>,
    name: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Visitor,
    Agent,
}

type Problem = (StatusCode, String);

impl Identity {
    /// `POST /demo/token`.
    pub(super) fn routes(self) -> Router {
        Router::new()
            .route("/demo/token", post(grant))
            .layer(DefaultBodyLimit::max(BODY))
            .with_state(Arc::new(self))
    }

    async fn grant(&self, request: &Request) -> Result<serde_json::Value, Problem> {
        if !is_uuid(&request.session) {
            let detail = "`session` is a UUID that the browser keeps.";
            return Err((StatusCode::UNPROCESSABLE_ENTITY, detail.to_owned()));
        }
        let user = self.user(request.role, &request.session);
        if request.role == Role::Agent {
            self.check(request.code.as_deref().unwrap_or_default())?;
            let name = request.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
            let name: String = name.unwrap_or("Agent").chars().take(NAME).collect();
            self.introduce(&user, &name).await.map_err(|error| {
                tracing::warn!(%error, "an agent could not be entered");
                let detail = "The database cannot be reached.";
                (StatusCode::SERVICE_UNAVAILABLE, detail.to_owned())
            })?;
        }
        let mint = |role, sub| {
            mint(&self.secret, role, sub, self.lifetime)
                .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
        };
        Ok(json!({
            "token": mint("authenticated", Some(&user))?,
            "expires_in": self.lifetime.as_secs(),
            "anon_key": mint("anon", None)?,
        }))
    }

    /// The user behind a browser's session. Nobody can ask for a user whose id they saw: it cannot be told from the session
    /// without the secret, nor the session from it.
    fn user(&self, role: Role, session: &str) -> String {
        let role = match role {
            Role::Visitor => "visitor",
            Role::Agent => "agent",
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.reveal().as_bytes());
        let text = format!("demo user:{role}:{}", session.to_ascii_lowercase());
        let tag = hmac::sign(&key, text.as_bytes());
        let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        random::uuid_of(&digits)
    }

    /// Whether this is the access code.
    fn check(&self, code: &str) -> Result<(), Problem> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (since, count) = wrong.filter(|(since, _)| now < *since + WINDOW).unwrap_or((now, 0));
        if WRONG <= count {
            let detail = "Too many wrong access codes; wait a minute.";
            return Err((StatusCode::TOO_MANY_REQUESTS, detail.to_owned()));
        }
        let (given, expected) = (code.as_bytes(), self.code.reveal().as_bytes());
        if aws_lc_rs::constant_time::verify_slices_are_equal(given, expected).is_ok() {
            return Ok(());
        }
        *wrong = Some((since, count + 1));
        Err((StatusCode::UNAUTHORIZED, "The access code is not right.".to_owned()))
    }

    async fn introduce(&self, user: &str, name: &str) -> Result<(), Error> {
        let sql = connect(&self.target, "relay-demo", &[], &self.stage).await?;
        let text = include_str!("../../../sql/queries/demo_agent.sql");
        let entered = sql.client.execute(text, &[&user, &name]).await;
        entered.map(drop).map_err(super::talk::failed)
    }
}

async fn grant(State(identity): State<Arc<Identity>>, headers: HeaderMap, body: Bytes) -> Response {
    // Anything else could be sent by a form of any page.
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_json = kind.is_some_and(|kind| kind.trim_start().starts_with("application/json"));
    let granted = if is_json {
        match serde_json::from_slice::<Request>(&body) {
            Ok(request) => identity.grant(&request).await,
            Err(error) => Err((
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("The body cannot be read: {error}."),
            )),
        }
    } else {
        let detail = "The body must be JSON: `Content-Type: application/json`.";
        Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, detail.to_owned()))
    };
    let answer = |status: StatusCode, kind: &'static str, body: serde_json::Value| {
        let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")];
        (status, headers, body.to_string()).into_response()
    };
    match granted {
        Ok(grant) => answer(StatusCode::OK, "application/json", grant),
        Err((status, detail)) => {
            let title = status.canonical_reason().unwrap_or_default();
            let status_number = status.as_u16();
            let problem = json!({ "type": "about:blank", "title": title, "status": status_number, "detail": detail });
            answer(status, "application/problem+json", problem)
        }
    }
}

/// Whether a text is a UUID as browsers write it.
fn is_uuid(text: &str) -> bool {
    let mut parts = text.split('-').map(str::len);
    text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        && [8, 4, 4, 4, 12].into_iter().all(|length| parts.next() == Some(length))
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            secret: Secret::new("s".repeat(32)),
            code: Secret::new("1234".to_owned()),
            lifetime: Duration::from_secs(60),
            target: Target::parse("postgres://u@127.0.0.1/x").unwrap(),
            stage: Stage::new(),
            wrong: Mutex::new(None),
        }
    }

    #[test]
    fn the_access_code_cannot_be_guessed_for_long() {
        let identity = identity();
        assert!(identity.check("1234").is_ok());
        for guess in 0..WRONG {
            let refused = identity.check(&format!("x{guess}")).unwrap_err();
            assert_eq!(refused.0, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(identity.check("1234").unwrap_err().0, StatusCode::TOO_MANY_REQUESTS);
    }

    #[test]
    fn a_user_cannot_be_asked_for_by_its_id() {
        let identity = identity();
        let session = "0f1e0000-0000-4000-8000-00000000000a";
        let agent = identity.user(Role::Agent, session);
        assert!(is_uuid(&agent));
        assert_eq!(agent, identity.user(Role::Agent, &session.to_uppercase()));
        assert_ne!(agent, identity.user(Role::Visitor, session));
        assert_ne!(agent, identity.user(Role::Visitor, &agent));
    }

    #[test]
    fn a_user_is_a_uuid() {
        assert!(is_uuid("0f1e0000-0000-4000-8000-00000000000A"));
        for text in
            ["", "me", "0f1e0000000040008000000000000000", "0f1e0000-0000-4000-8000-00000000000g"]
        {
            assert!(!is_uuid(text), "{text}");
        }
    }
}
