//! The routes of the unified chat.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::Chat;
use super::caller::Caller;
use super::calls::Side;
use super::player::{Telling, answered, history};
use super::problem::Problem;
use super::wire::{Given, Json, around, no_method};

/// The routes.
pub(super) fn routes(chat: &Arc<Chat>) -> Router {
    Router::new()
        .route("/api/unified-chat/send", post(request))
        .route("/api/player-chat-integration/send", post(send))
        .route("/api/player-chat-integration/messages/{player}", get(history))
        .route("/api/chat-history/{player}", get(history))
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::clone(chat), around))
        .with_state(Arc::clone(chat))
}

/// A player writes; the first message is a request.
async fn request(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Given(telling): Given<Telling>,
) -> Result<Json, Problem> {
    let side = telling.side(&chat)?.unwrap_or(Side::Visitor);
    chat.tell(&caller, &telling, Some(side)).await.map(answered)
}

/// Either side writes: who is not the player is staff.
async fn send(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Given(telling): Given<Telling>,
) -> Result<Json, Problem> {
    let side = telling.side(&chat)?;
    chat.tell(&caller, &telling, side).await.map(answered)
}
