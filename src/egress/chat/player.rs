//! What the two older chats have in common: they speak of players, not of sessions.
//!
//! A player has one open session at most; the first message opens it. Names are taken as both of their clients write them,
//! `playerId` or `player_id`. Who may act for a player is the policies' to say.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;

use super::Chat;
use super::caller::Caller;
use super::calls::{Opening, Saying, Side, Stored};
use super::problem::Problem;
use super::rest::{Paged, said};
use super::wire::{Asked, Json, Named};

/// A message to be stored.
#[derive(Debug, Deserialize)]
pub(super) struct Telling {
    /// Chosen by a client that may send twice.
    id: Option<String>,
    #[serde(alias = "playerId")]
    player_id: Option<String>,
    #[serde(alias = "playerName")]
    player_name: Option<String>,
    #[serde(alias = "senderName")]
    sender_name: Option<String>,
    /// The word for the side it is from.
    sender: Option<String>,
    #[serde(alias = "message_text", alias = "text")]
    message: String,
}

impl Telling {
    /// The side it says it is from.
    pub(super) fn side(&self, chat: &Chat) -> Result<Option<Side>, Problem> {
        let Some(sender) = self.sender.as_deref() else { return Ok(None) };
        let [visitor, agent] = [Side::Visitor, Side::Agent].map(|side| chat.calls.side(side));
        if sender == visitor {
            Ok(Some(Side::Visitor))
        } else if sender == agent {
            Ok(Some(Side::Agent))
        } else {
            Err(Problem::invalid(format!("`sender` is \"{visitor}\" or \"{agent}\".")))
        }
    }
}

impl Chat {
    /// Stores a message from one side; without a side, from the player when the caller is one.
    pub(super) async fn tell(
        &self,
        caller: &Caller,
        telling: &Telling,
        side: Option<Side>,
    ) -> Result<Stored, Problem> {
        let player = match telling.player_id.as_deref() {
            Some(player) if !player.is_empty() => player,
            _ if !caller.sub.is_empty() => &caller.sub,
            _ => {
                return Err(Problem::invalid("`playerId` is missing, and the token has no `sub`."));
            }
        };
        let own = if player == caller.sub { Side::Visitor } else { Side::Agent };
        let side = side.unwrap_or(own);
        let (id, session) = (telling.id.clone().unwrap_or_else(|| self.new_id()), self.new_id());
        let player_name = telling.player_name.as_deref();
        let name = telling.sender_name.as_deref().or(match side {
            Side::Visitor => player_name,
            Side::Agent => None,
        });
        let saying = Saying { id: &id, body: said(&telling.message)?, name };
        let opening = Opening { id: &session, name: player_name, ..Opening::default() };
        self.calls.say_to(caller.as_caller(), player, side, opening, saying).await
    }
}

/// A stored message as it is answered.
pub(super) fn answered(stored: Stored) -> Json {
    let Stored { json, is_new } = stored;
    Json::stored(Stored { json: succeeded("message", &json), is_new })
}

/// A player's messages over all sessions, oldest first.
pub(super) async fn history(
    State(chat): State<Arc<Chat>>,
    caller: Caller,
    Named(player): Named,
    Asked(paged): Asked<Paged>,
) -> Result<Json, Problem> {
    let limit = paged.limit(50)?;
    let page = paged.page(&limit);
    let messages = chat.calls.history_of(caller.as_caller(), &player, page).await?;
    Ok(Json::ok(succeeded("messages", &messages)))
}

/// `{"success":true,name:json}`
pub(super) fn succeeded(name: &str, json: &str) -> String {
    format!(r#"{{"success":true,"{name}":{json}}}"#)
}
