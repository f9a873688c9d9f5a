//! The routes of the guest relations chat. What happens meanwhile is told by its socket.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::Chat;
use super::caller::Caller;
use super::calls::{Page, Side, Which};
use super::player::{Telling, answered, history, succeeded};
use super::problem::Problem;
use super::rest::Paged;
use super::socket;
use super::wire::{Asked, Given, Json, Named, around, no_method, nowhere};
use crate::source::SourceState;

/// The routes.
pub(super) fn routes(chat: &Arc<Chat>) -> Router {
    let routes = Router::new()
        .route("/ws", get(socket::open))
        .route("/send", post(send))
        .route("/messages/{player}", get(history))
        .route("/send-to-player", post(send_to_player))
        .route("/close-session/{player}", post(close))
        .route("/requests", get(requests))
        .route("/health", get(health))
        .route("/debug/{player}", get(debug))
        .fallback(nowhere)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::clone(chat), around))
        .with_state(Arc::clone(chat));
    Router::new().nest("/api/gre-chat", routes)
}

async fn send(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Given(telling): Given<Telling>,
) -> Result<Json, Problem> {
    chat.tell(&caller, &telling, Some(Side::Visitor)).await.map(answered)
}

async fn send_to_player(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Given(telling): Given<Telling>,
) -> Result<Json, Problem> {
    chat.tell(&caller, &telling, Some(Side::Agent)).await.map(answered)
}

/// Closes whatever the player has open; doing it again closes nothing.
async fn close(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Named(player): Named,
) -> Result<Json, Problem> {
    let closed = chat.calls.close_all(caller.as_caller(), &player).await?;
    Ok(Json::ok(succeeded("closed", &closed.to_string())))
}

/// Sessions that are not closed.
async fn requests(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Asked(paged): Asked<Paged>,
) -> Result<Json, Problem> {
    let limit = paged.limit(200)?;
    let page: Page<'_> = paged.page(&limit);
    let sessions = chat.calls.sessions(caller.as_caller(), Which::Open, page).await?;
    Ok(Json::ok(succeeded("requests", &sessions)))
}

/// Whether what is written is also told.
async fn health(State(chat): State<Arc<Chat>>) -> Json {
    let is_streaming = matches!(&*chat.source.borrow(), SourceState::Streaming { .. });
    let answer = if is_streaming {
        Json::ok(r#"{"success":true,"status":"ok"}"#.to_owned())
    } else {
        let body = r#"{"success":false,"status":"not connected to the database"}"#;
        Json(StatusCode::SERVICE_UNAVAILABLE, body.to_owned())
    };
    std::future::ready(answer).await
}

/// What the database has of a player, to be compared with what a client shows.
async fn debug(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Named(player): Named,
) -> Result<Json, Problem> {
    let counts = chat.calls.counts(caller.as_caller(), &player).await?;
    Ok(Json::ok(succeeded("stored", &counts)))
}
