//! A WebSocket client that reads like a script: join, write, expect.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{PATIENCE, Relay};

/// Connects to a port of this machine from one of its addresses.
pub async fn dial(from: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect((Ipv4Addr::LOCALHOST, port).into()).await
}

/// One message from the relay, whatever the serializer.
#[derive(Clone, Debug)]
pub struct Received {
    /// `join_ref`; null on vsn 1.
    pub join_ref: Value,
    /// `ref`.
    pub reference: Value,
    /// The topic.
    pub topic: String,
    /// The event.
    pub event: String,
    /// The payload.
    pub payload: Value,
}

/// A client on vsn 2.0.0 or 1.0.0.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    version: &'static str,
    next_ref: u64,
    joins: HashMap<String, Value>,
    waiting: VecDeque<Received>,
}

impl Client {
    /// Connects with `token`, vsn 2.0.0.
    pub async fn connect(relay: &Relay, token: &str) -> Self {
        Self::connect_as(relay, token, "2.0.0").await
    }

    /// Connects with a serializer of choice.
    pub async fn connect_as(relay: &Relay, token: &str, version: &'static str) -> Self {
        Self::try_connect(relay, &format!("apikey={token}&vsn={version}"), version).await.unwrap()
    }

    /// Connects with a query string of one's own.
    pub async fn try_connect(
        relay: &Relay,
        query: &str,
        version: &'static str,
    ) -> Result<Self, tungstenite::Error> {
        Self::try_connect_with(relay, query, version, &[]).await
    }

    /// The same with headers of one's own.
    pub async fn try_connect_with(
        relay: &Relay,
        query: &str,
        version: &'static str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        Self::open(relay, Ipv4Addr::LOCALHOST, query, version, headers).await
    }

    /// Connects with `token`, vsn 2.0.0, from another address of this machine, such as `127.0.0.2`.
    pub async fn connect_from(relay: &Relay, address: &str, token: &str) -> Self {
        Self::try_connect_from(relay, address, token).await.unwrap()
    }

    /// The same when it may be refused.
    pub async fn try_connect_from(
        relay: &Relay,
        address: &str,
        token: &str,
    ) -> Result<Self, tungstenite::Error> {
        Self::try_connect_from_with(relay, address, token, &[]).await
    }

    /// The same with headers of one's own.
    pub async fn try_connect_from_with(
        relay: &Relay,
        address: &str,
        token: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        let query = format!("apikey={token}&vsn=2.0.0");
        Self::open(relay, address.parse().unwrap(), &query, "2.0.0", headers).await
    }

    async fn open(
        relay: &Relay,
        from: Ipv4Addr,
        query: &str,
        version: &'static str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        let url = format!("ws://127.0.0.1:{}/realtime/v1/websocket?{query}", relay.port());
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = MaybeTlsStream::Plain(dial(from, relay.port()).await?);
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        Ok(Self { socket, version, next_ref: 1, joins: HashMap::new(), waiting: VecDeque::new() })
    }

    /// Sends any WebSocket message, unless the relay closed the connection.
    pub async fn try_send(&mut self, message: Message) -> bool {
        self.socket.send(message).await.is_ok()
    }

    /// Writes bytes past the codec, such as a part of a frame. False when the relay closed the connection.
    pub async fn write_raw(&mut self, bytes: &[u8]) -> bool {
        let MaybeTlsStream::Plain(stream) = self.socket.get_mut() else { panic!("TLS") };
        stream.write_all(bytes).await.is_ok()
    }

    /// Sends a message and returns its ref.
    pub async fn push(
        &mut self,
        join_ref: &Value,
        topic: &str,
        event: &str,
        payload: Value,
    ) -> String {
        self.try_push(join_ref, topic, event, payload).await.unwrap()
    }

    /// The same on a socket that may be closed.
    pub async fn try_push(
        &mut self,
        join_ref: &Value,
        topic: &str,
        event: &str,
        payload: Value,
    ) -> Result<String, tungstenite::Error> {
        let reference = self.next_ref.to_string();
        self.next_ref += 1;
        let text = if self.version == "1.0.0" {
            json!({ "topic": topic, "event": event, "payload": payload, "ref": reference, "join_ref": join_ref })
        } else {
            json!([join_ref, reference, topic, event, payload])
        };
        self.socket.send(Message::Text(text.to_string().into())).await?;
        Ok(reference)
    }

    /// Sends a text frame as it is.
    pub async fn send_text(&mut self, text: &str) {
        self.send(Message::Text(text.into())).await;
    }

    /// Sends any WebSocket message.
    pub async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Joins `realtime:{name}` with these `postgres_changes`, waits for the ok reply and for "Subscribed to
    /// PostgreSQL", and returns the reply's `postgres_changes`.
    pub async fn subscribe(&mut self, name: &str, wishes: Value) -> Value {
        let bindings = self.join(name, json!({ "config": { "postgres_changes": wishes } })).await;
        assert_eq!(bindings["status"], "ok", "{bindings}");
        let system = self.expect("system").await;
        assert_eq!(system.payload["status"], "ok", "{system:?}");
        bindings["response"]["postgres_changes"].clone()
    }

    /// Joins `realtime:{name}` and returns the reply's payload.
    pub async fn join(&mut self, name: &str, payload: Value) -> Value {
        let topic = format!("realtime:{name}");
        let join_ref = json!(self.next_ref.to_string());
        self.joins.insert(name.to_owned(), join_ref.clone());
        let reference = self.push(&join_ref, &topic, "phx_join", payload).await;
        self.reply(&reference).await.payload
    }

    /// Leaves `realtime:{name}` and waits for the reply.
    pub async fn leave(&mut self, name: &str) {
        let join_ref = self.joins.remove(name).unwrap();
        let reference =
            self.push(&join_ref, &format!("realtime:{name}"), "phx_leave", json!({})).await;
        self.reply(&reference).await;
    }

    /// The reply to `reference`.
    pub async fn reply(&mut self, reference: &str) -> Received {
        self.find(&format!("the reply to {reference}"), |received| {
            received.event == "phx_reply" && received.reference == *reference
        })
        .await
    }

    /// The next message with this event; others wait their turn.
    pub async fn expect(&mut self, event: &str) -> Received {
        self.find(event, |received| received.event == event).await
    }

    /// The next row change: the payload's `data`.
    pub async fn change(&mut self) -> Value {
        self.expect("postgres_changes").await.payload["data"].take()
    }

    /// The next message that fits; messages before it wait their turn.
    pub async fn find(&mut self, what: &str, fits: impl Fn(&Received) -> bool) -> Received {
        if let Some(place) = self.waiting.iter().position(&fits) {
            return self.waiting.remove(place).unwrap();
        }
        loop {
            let next = tokio::time::timeout(PATIENCE, self.receive()).await;
            let Ok(Some(received)) = next else {
                panic!("waited in vain for {what}: {next:?}; had {:?}", self.waiting);
            };
            if fits(&received) {
                return received;
            }
            self.waiting.push_back(received);
        }
    }

    /// Everything that arrives until a heartbeat sent now is answered: what was on its way before.
    pub async fn flush(&mut self) -> Vec<Received> {
        let reference = self.push(&Value::Null, "phoenix", "heartbeat", json!({})).await;
        self.reply(&reference).await;
        self.waiting.drain(..).collect()
    }

    /// The next message, or the close code at the end.
    pub async fn receive_or_close(&mut self) -> Result<Received, Option<u16>> {
        if let Some(waiting) = self.waiting.pop_front() {
            return Ok(waiting);
        }
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(self.parse(&text)),
                    Some(Ok(Message::Close(frame))) => {
                        return Err(frame.map(|frame| frame.code.into()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(None),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("neither a message nor an end")
    }

    /// The close code, reading past everything else; `None` when the connection just ended.
    pub async fn closed(&mut self) -> Option<u16> {
        let closing = async {
            while let Some(Ok(message)) = self.socket.next().await {
                if let Message::Close(frame) = message {
                    return frame.map(|frame| frame.code.into());
                }
            }
            None
        };
        tokio::time::timeout(PATIENCE, closing).await.expect("the socket stays open")
    }

    /// The next message; `None` at the end. Cancel-safe.
    pub async fn receive(&mut self) -> Option<Received> {
        loop {
            match self
                .socket
                .next()
                .await?
                .inspect_err(|error| eprintln!("socket: {error}"))
                .ok()?
            {
                Message::Text(text) => return Some(self.parse(&text)),
                Message::Close(frame) => {
                    eprintln!("socket closed: {frame:?}");
                    return None;
                }
                Message::Binary(bytes) => return Some(self.parse_binary(&bytes)),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// A broadcast in a binary frame, as supabase-js shows it; bytes become `{"bytes":[…]}`.
    fn parse_binary(&self, frame: &[u8]) -> Received {
        assert_eq!(self.version, "2.0.0");
        // Clients of this protocol fail on any other kind of binary frame.
        let [4, topic, event, meta, encoding, rest @ ..] = frame else { panic!("{frame:?}") };
        let (topic, rest) = rest.split_at((*topic).into());
        let (event, rest) = rest.split_at((*event).into());
        let (meta, rest) = rest.split_at((*meta).into());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let payload = match encoding {
            0 => json!({ "bytes": rest }),
            1 => serde_json::from_slice(rest).unwrap(),
            other => panic!("encoding {other}"),
        };
        let mut payload = json!({ "type": "broadcast", "event": text(event), "payload": payload });
        if !meta.is_empty() {
            payload["meta"] = serde_json::from_slice(meta).unwrap();
        }
        Received {
            join_ref: Value::Null,
            reference: Value::Null,
            topic: text(topic),
            event: "broadcast".to_owned(),
            payload,
        }
    }

    /// Sends a broadcast in a binary frame, on vsn 2.0.0, and returns its ref.
    pub async fn push_binary(
        &mut self,
        name: &str,
        event: &str,
        encoding: u8,
        payload: &[u8],
    ) -> String {
        let reference = self.next_ref.to_string();
        self.next_ref += 1;
        let (join_ref, topic) = (self.joins[name].as_str().unwrap(), format!("realtime:{name}"));
        let parts = [join_ref, &reference, &topic, event, ""];
        let mut frame = vec![3];
        frame.extend(parts.map(|part| u8::try_from(part.len()).unwrap()));
        frame.push(encoding);
        frame.extend(parts.iter().flat_map(|part| part.bytes()));
        frame.extend_from_slice(payload);
        self.send(Message::Binary(frame.into())).await;
        reference
    }

    fn parse(&self, text: &str) -> Received {
        let mut value: Value = serde_json::from_str(text).unwrap();
        let text_of = |value: &Value| value.as_str().unwrap().to_owned();
        let received = if self.version == "1.0.0" {
            let keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, ["event", "payload", "ref", "topic"]);
            Received {
                join_ref: Value::Null,
                reference: value["ref"].take(),
                topic: text_of(&value["topic"]),
                event: text_of(&value["event"]),
                payload: value["payload"].take(),
            }
        } else {
            assert_eq!(value.as_array().map(Vec::len), Some(5), "{text}");
            Received {
                join_ref: value[0].take(),
                reference: value[1].take(),
                topic: text_of(&value[2]),
                event: text_of(&value[3]),
                payload: value[4].take(),
            }
        };
        // Clients read into payloads without looking.
        assert!(received.payload.is_object(), "{text}");
        received
    }
}
