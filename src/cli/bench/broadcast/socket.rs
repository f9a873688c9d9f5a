//! A subscriber's socket without a codec: what it sends is written here, what it reads is cut into frames here.
//!
//! As little as possible is done per frame, because the clients share the machine with the relay. Masks are zero,
//! which the protocol allows and which leaves payloads as they are.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The topic all are in, and the event that is broadcast.
pub(in crate::cli::bench) const TOPIC: &str = "realtime:bench";
pub(in crate::cli::bench) const EVENT: &str = "bench";

/// The first id; with it every id has as many digits.
pub(in crate::cli::bench) const FIRST_ID: u64 = 1_000_000_000;

/// What comes before the id in a payload.
const BEFORE_ID: &str = r#"{"id":"#;

/// Bytes of a payload.
const PAYLOAD: usize = 64;

/// Digits of an id.
const DIGITS: usize = 10;

/// How long the relay may take to answer a handshake or a join.
const PATIENCE: Duration = Duration::from_secs(15);

/// One frame that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::bench) enum Item {
    /// A broadcast with this id.
    Broadcast(u64),
    /// Anything else in text.
    Text,
    /// Anything else.
    Other,
}

/// The payload of message `id`: [`PAYLOAD`] bytes of JSON.
pub(in crate::cli::bench) fn payload(id: u64) -> String {
    format!(r#"{BEFORE_ID}{id},"text":"hello to all of you who listen in now"}}"#)
}

/// The push of message `id`, as its sender writes it.
pub(in crate::cli::bench) fn push(id: u64) -> Vec<u8> {
    let payload = payload(id);
    let lengths = [1, 0, TOPIC.len(), EVENT.len(), 0, 1];
    let mut frame = vec![3];
    frame.extend(lengths.map(|length| u8::try_from(length).unwrap_or(u8::MAX)));
    for part in ["1", TOPIC, EVENT, &payload] {
        frame.extend_from_slice(part.as_bytes());
    }
    masked(0x82, &frame)
}

/// Message `id` as a receiver reads it, with the frame around it.
pub(in crate::cli::bench) fn ready_made(id: u64) -> Vec<u8> {
    let payload = payload(id);
    let lengths = [TOPIC.len(), EVENT.len(), 0, 1];
    let length = 1 + lengths.len() + TOPIC.len() + EVENT.len() + payload.len();
    let mut frame = vec![0x82, u8::try_from(length).unwrap_or(0), 4];
    frame.extend(lengths.map(|length| u8::try_from(length).unwrap_or(u8::MAX)));
    for part in [TOPIC, EVENT, &payload] {
        frame.extend_from_slice(part.as_bytes());
    }
    frame
}

/// A heartbeat.
pub(in crate::cli::bench) fn heartbeat() -> Vec<u8> {
    masked(0x81, br#"[null,"h","phoenix","heartbeat",{}]"#)
}

/// A frame of a client, of fewer than 64 KiB.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut frame = vec![opcode];
    match u8::try_from(length) {
        Ok(short) if short < 126 => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// The first whole frame in `bytes`, and what comes after it.
pub(in crate::cli::bench) fn cut(bytes: &[u8]) -> Option<(Item, &[u8])> {
    let (head, rest) = bytes.split_at_checked(2)?;
    let (length, rest) = match *head.get(1)? {
        126 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (u64::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*length), rest)
        }
        short => (u64::from(short), rest),
    };
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let frame = match head.first()? & 0x0f {
        1 => id_in_text(payload).map_or(Item::Text, Item::Broadcast),
        2 => id(payload).map_or(Item::Other, Item::Broadcast),
        _ => Item::Other,
    };
    Some((frame, rest))
}

/// The id in a broadcast.
fn id(frame: &[u8]) -> Option<u64> {
    let (&[4, topic, event, meta, _], rest) = frame.split_first_chunk::<5>()? else { return None };
    let before = [topic, event, meta].into_iter().map(usize::from).sum::<usize>();
    number(rest.get(before..)?)
}

/// The id in a broadcast in text, as one by HTTP is.
fn id_in_text(frame: &[u8]) -> Option<u64> {
    let message = frame.strip_suffix(br#","type":"broadcast"}]"#)?;
    number(message.get(message.len().checked_sub(PAYLOAD)?..)?)
}

fn number(payload: &[u8]) -> Option<u64> {
    let rest = payload.get(BEFORE_ID.len()..)?;
    // As Postgres writes it, with a space.
    let digits = rest.strip_prefix(b" ").unwrap_or(rest).get(..DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Opens a socket and joins [`TOPIC`], with its own broadcasts sent back to it.
///
/// # Errors
/// What the relay answered instead.
pub(in crate::cli::bench) fn join(address: SocketAddr, token: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "GET /realtime/v1/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: {address}\r\nx-api-key: {token}\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let head = read_until(&mut stream, b"\r\n\r\n")?;
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
    }
    let join = format!(
        r#"["1","1","{TOPIC}","phx_join",{{"config":{{"broadcast":{{"self":true}},"presence":{{"enabled":false}}}}}}]"#
    );
    stream.write_all(&masked(0x81, join.as_bytes()))?;
    let answer = read_until(&mut stream, b"\"status\":\"")?;
    let mut status = [0; 2];
    stream.read_exact(&mut status)?;
    if &status != b"ok" {
        return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
    }
    // What is left of the answer ends with the frame.
    read_until(&mut stream, b"}]")?;
    stream.set_read_timeout(None)?;
    Ok(stream)
}

/// Reads up to and including `end`, and nothing after it.
fn read_until(stream: &mut TcpStream, end: &[u8]) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(end) {
        stream.read_exact(&mut byte)?;
        read.extend_from_slice(&byte);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_made_frame_is_read_as_its_message() {
        let mut bytes = ready_made(FIRST_ID + 7);
        bytes.extend_from_slice(b"\x81\x02[]");
        let (first, rest) = cut(&bytes).unwrap();
        assert_eq!(first, Item::Broadcast(FIRST_ID + 7));
        assert_eq!(cut(rest), Some((Item::Text, &b""[..])));
    }

    #[test]
    fn a_message_by_http_is_read_as_what_it_says() {
        let payload = payload(FIRST_ID + 3);
        let text = format!(
            r#"[null,null,"{TOPIC}","broadcast",{{"event":"{EVENT}","payload":{payload},"type":"broadcast"}}]"#
        );
        let frame = [&[0x81, 126, 0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        assert_eq!(cut(&frame), Some((Item::Broadcast(FIRST_ID + 3), &b""[..])));
    }

    #[test]
    fn part_of_a_frame_is_none() {
        let bytes = ready_made(FIRST_ID);
        for end in 0..bytes.len() {
            assert_eq!(cut(bytes.get(..end).unwrap()), None, "{end}");
        }
        assert_eq!(payload(FIRST_ID).len(), PAYLOAD);
    }
}
