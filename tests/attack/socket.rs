//! Connections as an attacker makes them: from an address of one's own, and every byte as one likes.
//!
//! Not here: anything polite. No heartbeats, no answers to pings, no check of what the server writes beyond what is needed
//! to tell one frame from the next.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::support::client;

/// Where everybody comes from who means no harm.
pub const BYSTANDER: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Where the attack comes from: all of it, so that an address can be told from others.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// The first byte of a whole text.
pub const TEXT: u8 = 0x81;

/// The first byte of a whole binary message.
pub const BINARY: u8 = 0x82;

/// Connects to the relay on `port` from an address; what is written is sent at once.
pub async fn dial(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let stream = client::dial(from, port).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The head of a frame of a client, masked with zeros, so that payloads are written as they are.
pub fn head(first: u8, length: usize) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..=125 => head.push(0x80 | u8::try_from(length).unwrap()),
        126..=0xffff => {
            head.push(0x80 | 126);
            head.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend(u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    head.extend([0; 4]);
    head
}

/// A whole frame of a client.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len());
    frame.extend_from_slice(payload);
    frame
}

/// A message of vsn 2.0.0 on a channel, whose join is `1`.
pub fn message(reference: usize, channel: &str, event: &str, payload: &Value) -> String {
    json!(["1", reference.to_string(), format!("realtime:{channel}"), event, payload]).to_string()
}

/// A join with these `postgres_changes`.
pub fn join(reference: usize, channel: &str, subscriptions: &Value) -> String {
    message(
        reference,
        channel,
        "phx_join",
        &json!({ "config": { "postgres_changes": subscriptions } }),
    )
}

/// What the server wrote.
#[derive(Debug)]
pub enum Received {
    /// A text.
    Text(String),
    /// Anything else, its close frame included.
    Other,
}

/// The half of a WebSocket that writes.
#[derive(Debug)]
pub struct Writer(OwnedWriteHalf);

/// The half of a WebSocket that reads.
#[derive(Debug)]
pub struct Reader {
    stream: BufReader<OwnedReadHalf>,
    /// The code of the server's close frame.
    pub close_code: Option<u16>,
}

/// Why there is no socket: the status, or none when the connection was not answered.
pub type Unopened = Option<u16>;

/// Opens a socket of the realtime protocol with a token, vsn 2.0.0.
pub async fn open(from: Ipv4Addr, port: u16, token: &str) -> Result<(Reader, Writer), Unopened> {
    open_at(from, port, &format!("/realtime/v1/websocket?apikey={token}&vsn=2.0.0")).await
}

/// Opens a WebSocket.
pub async fn open_at(from: Ipv4Addr, port: u16, path: &str) -> Result<(Reader, Writer), Unopened> {
    let mut stream = dial(from, port).await.map_err(|_| None)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|_| None)?;
    let (read, write) = stream.into_split();
    let mut read = BufReader::new(read);
    match answer(&mut read).await {
        Ok(101) => Ok((Reader { stream: read, close_code: None }, Writer(write))),
        Ok(status) => Err(Some(status)),
        Err(_) => Err(None),
    }
}

/// The status of an answer, read up to the end of its head.
pub async fn answer(read: &mut (impl io::AsyncBufRead + Unpin)) -> io::Result<u16> {
    use io::AsyncBufReadExt as _;
    let (mut status, mut line) = (None, String::new());
    while line != "\r\n" {
        line.clear();
        if read.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        status = status.or_else(|| line.get(9..12)?.parse().ok());
    }
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl Writer {
    /// Writes bytes as they are; none when the connection is gone.
    pub async fn raw(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.write_all(bytes).await.ok()
    }

    /// Writes a text.
    pub async fn text(&mut self, text: &str) -> Option<()> {
        self.raw(&frame(TEXT, text.as_bytes())).await
    }
}

impl Reader {
    /// What comes next; none when the connection is gone.
    pub async fn next(&mut self) -> Option<Received> {
        let first = self.stream.read_u8().await.ok()?;
        let length = match self.stream.read_u8().await.ok()? {
            126 => u64::from(self.stream.read_u16().await.ok()?),
            127 => self.stream.read_u64().await.ok()?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).ok()?];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(match first & 0x0f {
            1 => Received::Text(String::from_utf8(payload).ok()?),
            8 => {
                let code = payload.first_chunk::<2>();
                self.close_code = Some(code.map_or(1005, |code| u16::from_be_bytes(*code)));
                Received::Other
            }
            _ => Received::Other,
        })
    }

    /// The next message of vsn 2.0.0 with one of these events; none when the connection is gone.
    pub async fn message(&mut self, events: &[&str]) -> Option<Value> {
        loop {
            let Received::Text(text) = self.next().await? else { continue };
            let message: Value = serde_json::from_str(&text).ok()?;
            if events.iter().any(|event| message[3] == *event) {
                return Some(message);
            }
        }
    }
}
