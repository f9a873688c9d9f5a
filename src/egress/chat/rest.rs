//! `/chat/v1`: sessions, messages, and who answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use serde::Deserialize;

use super::Chat;
use super::caller::Caller;
use super::calls::{Opening, Page, Saying, Which};
use super::problem::Problem;
use super::shown::shows_anything;
use super::wire::{Asked, Given, Json, Named, around, no_method, nowhere};
use crate::config::Preset;

/// What the routes are.
const DESCRIPTION: &str = include_str!("openapi.json");

/// Rows of one page.
const MOST: u32 = 200;

/// The routes, below their prefix.
pub(super) fn routes(chat: &Arc<Chat>) -> Router {
    Router::new()
        .route("/openapi.json", get(description))
        .route("/sessions", get(list).post(open))
        .route("/sessions/{id}", get(session))
        .route("/sessions/{id}/messages", get(history).post(say))
        .route("/sessions/{id}/assign", post(assign))
        .route("/sessions/{id}/close", post(close))
        .route("/sessions/{id}/rating", post(rate))
        .route("/sessions/{id}/read", post(read))
        .route("/agents", get(agents))
        .fallback(nowhere)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::clone(chat), around))
        .with_state(Arc::clone(chat))
}

async fn description(State(chat): State<Arc<Chat>>) -> Json {
    std::future::ready(Json::ok(chat.description.clone())).await
}

/// The description of what a preset has.
pub(super) fn describe(preset: Preset) -> String {
    let further = match preset {
        Preset::Support => return DESCRIPTION.to_owned(),
        Preset::Gre => include_str!("gre.json"),
        Preset::Unified => include_str!("unified.json"),
    };
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    let (mut whole, further) = (read(DESCRIPTION), read(further));
    for (place, part) in [("/paths", "paths"), ("/components/schemas", "schemas")] {
        let members = further.get(part).and_then(serde_json::Value::as_object).cloned();
        let place = whole.pointer_mut(place).and_then(serde_json::Value::as_object_mut);
        if let (Some(place), Some(members)) = (place, members) {
            place.extend(members);
        }
    }
    whole.to_string()
}

#[derive(Debug, Deserialize)]
pub(super) struct NewSession {
    id: Option<String>,
    name: Option<String>,
    email: Option<String>,
    subject: Option<String>,
}

async fn open(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Given(new): Given<NewSession>,
) -> Result<Json, Problem> {
    let id = new.id.unwrap_or_else(|| chat.new_id());
    let opening = Opening {
        id: &id,
        name: new.name.as_deref(),
        email: new.email.as_deref(),
        subject: new.subject.as_deref(),
        ..Opening::default()
    };
    chat.calls.open(caller.as_caller(), opening).await.map(Json::stored)
}

#[derive(Debug, Deserialize)]
struct Listed {
    status: Option<String>,
    #[serde(flatten)]
    page: Paged,
}

/// A page as it is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Paged {
    limit: Option<String>,
    before: Option<String>,
}

impl Paged {
    /// How many rows, as a number in text.
    pub(super) fn limit(&self, usual: u32) -> Result<String, Problem> {
        let Some(limit) = &self.limit else { return Ok(usual.to_string()) };
        match limit.parse::<u32>() {
            // `parse` would take a sign as well.
            Ok(1..=MOST) if limit.bytes().all(|byte| byte.is_ascii_digit()) => Ok(limit.clone()),
            _ => Err(Problem::invalid(format!("`limit` is a number from 1 to {MOST}."))),
        }
    }

    /// The page, with its limit in text.
    pub(super) fn page<'a>(&'a self, limit: &'a str) -> Page<'a> {
        Page { limit, before: self.before.as_deref() }
    }
}

async fn list(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Asked(listed): Asked<Listed>,
) -> Result<Json, Problem> {
    let which = match listed.status.as_deref() {
        None | Some("open") => Which::Open,
        Some("all") => Which::All,
        Some("waiting") => Which::Only("waiting"),
        Some("active") => Which::Only("active"),
        Some("closed") => Which::Only("closed"),
        Some(_) => {
            let detail = "`status` is one of open, waiting, active, closed, all.";
            return Err(Problem::invalid(detail));
        }
    };
    let limit = listed.page.limit(MOST)?;
    chat.calls.sessions(caller.as_caller(), which, listed.page.page(&limit)).await.map(Json::ok)
}

async fn session(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Json, Problem> {
    chat.calls.session(caller.as_caller(), &id).await.map(Json::ok)
}

async fn history(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Named(id): Named,
    Asked(paged): Asked<Paged>,
) -> Result<Json, Problem> {
    let limit = paged.limit(50)?;
    chat.calls.history(caller.as_caller(), &id, paged.page(&limit)).await.map(Json::ok)
}

#[derive(Debug, Deserialize)]
pub(super) struct NewMessage {
    id: Option<String>,
    body: String,
    sender_name: Option<String>,
}

async fn say(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Named(session): Named,
    Given(new): Given<NewMessage>,
) -> Result<Json, Problem> {
    let id = new.id.unwrap_or_else(|| chat.new_id());
    let saying = Saying { id: &id, body: said(&new.body)?, name: new.sender_name.as_deref() };
    chat.calls.say(caller.as_caller(), &session, saying).await.map(Json::stored)
}

/// A body that shows something.
pub(super) fn said(body: &str) -> Result<&str, Problem> {
    if !shows_anything(body) {
        return Err(Problem::invalid("The message is empty."));
    }
    Ok(body)
}

async fn assign(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Json, Problem> {
    chat.calls.assign(caller.as_caller(), &id).await.map(Json::ok)
}

async fn close(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Json, Problem> {
    chat.calls.close(caller.as_caller(), &id).await.map(Json::ok)
}

#[derive(Debug, Deserialize)]
pub(super) struct NewRating {
    rating: u8,
    feedback: Option<String>,
}

async fn rate(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Named(id): Named,
    Given(new): Given<NewRating>,
) -> Result<Json, Problem> {
    if !(1..=5).contains(&new.rating) {
        return Err(Problem::invalid("`rating` is a number from 1 to 5."));
    }
    let rating = new.rating.to_string();
    let feedback = new.feedback.as_deref();
    chat.calls.rate(caller.as_caller(), &id, &rating, feedback).await.map(Json::ok)
}

async fn read(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Named(id): Named,
) -> Result<StatusCode, Problem> {
    chat.calls.read(caller.as_caller(), &id).await.map(|()| StatusCode::NO_CONTENT)
}

async fn agents(State(chat): State<Arc<Chat>>, caller: Caller) -> Result<Json, Problem> {
    chat.calls.agents(caller.as_caller()).await.map(Json::ok)
}
