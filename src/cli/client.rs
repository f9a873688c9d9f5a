//! A client of the relay's own protocol (vsn 2.0.0): connect, join, hear.
//!
//! It keeps the socket alive with heartbeats while it listens. Joining again after a failure is its user's affair,
//! because only the user knows what to say meanwhile.

pub(crate) mod address;
pub(crate) mod token;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

pub(crate) use address::Address;

use crate::error::{Error, ErrorKind};

/// How often a heartbeat is sent, and how long its answer may take. The SDKs use the same.
const HEARTBEAT: Duration = Duration::from_secs(25);

/// How long connecting or joining may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// One socket with at most one joined channel.
pub(crate) struct Client {
    socket: WebSocketStream<Box<dyn address::Transport>>,
    topic: String,
    next_ref: u64,
    heartbeat: Interval,
    unanswered: Option<String>,
}

/// One message of the joined channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    /// `postgres_changes`, `system`, `phx_close` and so on.
    pub(crate) event: String,
    /// The payload.
    pub(crate) payload: Value,
    /// The ref it answers, if any.
    pub(crate) reference: Option<String>,
}

impl Client {
    /// Opens a socket and presents `token`.
    ///
    /// # Errors
    /// `PeerUnreachable`, with the relay's words when it refused.
    pub(crate) async fn connect(address: &Address, token: &str) -> Result<Self, Error> {
        Self::connect_as(address, token, None).await
    }

    /// The same under an id by which the relay knows where this client continues.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub(crate) async fn connect_as(
        address: &Address,
        token: &str,
        resume: Option<&str>,
    ) -> Result<Self, Error> {
        let connecting = async {
            let transport = address.open().await?;
            // Most of the memory of ten thousand clients in one process would be the default 128 KiB buffers.
            let sizes = WebSocketConfig::default().read_buffer_size(8 << 10).write_buffer_size(0);
            let uri = address.websocket(token, resume);
            tokio_tungstenite::client_async_with_config(uri, transport, Some(sizes))
                .await
                .map_err(|error| address.refused(error))
        };
        let (socket, _) = tokio::time::timeout(PATIENCE, connecting)
            .await
            .map_err(|_| unreachable(format!("{address} did not answer")))??;
        let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { socket, topic: String::new(), next_ref: 1, heartbeat, unanswered: None })
    }

    /// Joins `realtime:{name}` with these `postgres_changes` and waits for the reply.
    ///
    /// # Errors
    /// `PeerUnreachable`, with the relay's reason when it refused.
    pub(crate) async fn join(&mut self, name: &str, wishes: &[Value]) -> Result<(), Error> {
        self.topic = format!("realtime:{name}");
        let topic = self.topic.clone();
        let payload = json!({ "config": { "postgres_changes": wishes } });
        let join_ref = self.next_ref.to_string();
        let reference = self.push(Some(&join_ref), &topic, "phx_join", &payload).await?;
        let answer = async {
            loop {
                let heard = self.hear().await?;
                if heard.event == "phx_reply" && heard.reference.as_deref() == Some(&reference) {
                    return Ok::<_, Error>(heard.payload);
                }
            }
        };
        let payload = tokio::time::timeout(PATIENCE, answer)
            .await
            .map_err(|_| unreachable("the relay did not answer the join".to_owned()))??;
        if payload.get("status").and_then(Value::as_str) == Some("ok") {
            return Ok(());
        }
        let reason = payload.pointer("/response/reason").and_then(Value::as_str);
        let context =
            format!("the relay refused the join: {}", reason.unwrap_or("no reason given"));
        Err(Error::new(ErrorKind::SourceRejected, context))
    }

    /// The next message of the channel.
    ///
    /// # Errors
    /// `PeerUnreachable` when the socket ended or heartbeats are no longer answered.
    pub(crate) async fn hear(&mut self) -> Result<Heard, Error> {
        loop {
            let text = self.hear_text().await?;
            let Some((topic, heard)) = parse(&text) else {
                return Err(unreachable("the relay sent what is not its protocol".to_owned()));
            };
            if topic == self.topic {
                return Ok(heard);
            }
        }
    }

    /// The next message as it came, whatever its topic; answers to heartbeats are taken out.
    ///
    /// # Errors
    /// As [`Client::hear`].
    pub(crate) async fn hear_text(&mut self) -> Result<Utf8Bytes, Error> {
        loop {
            tokio::select! {
                _ = self.heartbeat.tick() => self.beat().await?,
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        if !self.is_heartbeat_answer(&text) {
                            return Ok(text);
                        }
                        self.unanswered = None;
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let reason = frame.map_or_else(String::new, |frame| {
                            format!(" ({} {})", u16::from(frame.code), frame.reason)
                        });
                        return Err(unreachable(format!("the relay closed the socket{reason}")));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        return Err(unreachable("the socket broke".to_owned()).because(error));
                    }
                    None => return Err(unreachable("the socket ended".to_owned())),
                }
            }
        }
    }

    fn is_heartbeat_answer(&self, text: &str) -> bool {
        self.unanswered.as_ref().is_some_and(|reference| {
            text.strip_prefix("[null,\"")
                .and_then(|rest| rest.strip_prefix(reference.as_str()))
                .is_some_and(|rest| rest.starts_with("\",\"phoenix\""))
        })
    }

    async fn beat(&mut self) -> Result<(), Error> {
        if self.unanswered.is_some() {
            return Err(unreachable("a heartbeat was not answered".to_owned()));
        }
        let reference = self.push(None, "phoenix", "heartbeat", &json!({})).await?;
        self.unanswered = Some(reference);
        Ok(())
    }

    async fn push(
        &mut self,
        join_ref: Option<&str>,
        topic: &str,
        event: &str,
        payload: &Value,
    ) -> Result<String, Error> {
        let reference = self.next_ref.to_string();
        self.next_ref += 1;
        let text = json!([join_ref, reference, topic, event, payload]).to_string();
        self.socket
            .send(Message::text(text))
            .await
            .map_err(|error| unreachable("the socket broke".to_owned()).because(error))?;
        Ok(reference)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Topic and message of a vsn 2.0.0 text frame.
fn parse(text: &str) -> Option<(String, Heard)> {
    let (_, reference, topic, event, payload) =
        serde_json::from_str::<(Value, Option<String>, String, String, Value)>(text).ok()?;
    Some((topic, Heard { event, payload, reference }))
}

fn unreachable(context: String) -> Error {
    Error::new(ErrorKind::PeerUnreachable, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_frame() {
        let (topic, heard) =
            parse(r#"["1","2","realtime:a","phx_reply",{"status":"ok"}]"#).unwrap();
        assert_eq!(topic, "realtime:a");
        assert_eq!(heard.event, "phx_reply");
        assert_eq!(heard.reference.as_deref(), Some("2"));
        assert_eq!(heard.payload, json!({ "status": "ok" }));
    }

    #[test]
    fn a_frame_of_another_shape_is_not_read() {
        for text in ["", "{}", "[]", "[null,null,1,2,3]", r#"["1","2","t","e"]"#] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
