//! What takes connections and requests that others need.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::super::attackers::{Attacking, TRICKLE_INTERVAL, Target, public_key};
use super::super::probes::request;
use super::super::socket::{ATTACKER, answer, dial};

/// Connections that never say anything.
pub fn silent(target: Target) -> Attacking {
    let connections = target.size(200, 8_000);
    Box::pin(target.crowd(connections, move |mut member, _| async move {
        let mut stream = dial(ATTACKER, member.target.port).await.ok()?;
        member.ready();
        // It is closed, or there is an answer and then it is.
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        let words = if read.is_ok() && answer.is_empty() { "closed" } else { "reset or answered" };
        member.target.refused(words);
        Some(())
    }))
}

/// Requests whose bodies come slowly, together as large as bodies may be: short ones take what the long ones left.
pub fn bodies(target: Target) -> Attacking {
    let (long, short, length) = target.size((8, 2, 100_000), (143, 40, 1_900_000));
    Box::pin(target.crowd(long + short, move |mut member, number| async move {
        let length = if number < long {
            length
        } else {
            member.target.are_ready(long).await;
            50_000
        };
        let stream = dial(ATTACKER, member.target.port).await.ok()?;
        let (read, mut write) = stream.into_split();
        let send = async {
            write.write_all(request(&public_key(), 7_900_000, "close").as_bytes()).await.ok()?;
            write.write_all(&vec![b' '; length]).await.ok()?;
            member.ready();
            loop {
                write.write_all(b" ").await.ok()?;
                tokio::time::sleep(TRICKLE_INTERVAL).await;
            }
        };
        let mut read = BufReader::new(read);
        let status = tokio::select! {
            end = send => return end,
            status = answer(&mut read) => status,
        };
        member.target.refused(&status.map_or("closed".to_owned(), |status| status.to_string()));
        Some(())
    }))
}

/// Broadcasts with the public key, as fast as they are answered.
pub fn broadcasts(target: Target) -> Attacking {
    let connections = target.size(2, 8);
    Box::pin(target.crowd(connections, move |mut member, _| async move {
        let message = json!({ "topic": "flood", "event": "e", "payload": {} });
        let body = json!({ "messages": vec![message; 50] }).to_string();
        let stream = dial(ATTACKER, member.target.port).await.ok()?;
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        loop {
            let head = request(&public_key(), body.len(), "keep-alive");
            write.write_all(format!("{head}{body}").as_bytes()).await.ok()?;
            let status = status_and_body(&mut read).await?;
            member.ready();
            if status != 202 {
                member.target.refused(&status.to_string());
            }
        }
    }))
}

/// The status of an answer on a connection that goes on.
async fn status_and_body(read: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<u16> {
    use tokio::io::AsyncBufReadExt as _;
    let (mut status, mut length, mut line) = (None, 0, String::new());
    while line != "\r\n" {
        line.clear();
        if read.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        status = status.or_else(|| line.get(9..12)?.parse().ok());
        let value = line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned);
        length = value.and_then(|value| value.trim().parse().ok()).unwrap_or(length);
    }
    let mut body = vec![0; length];
    read.read_exact(&mut body).await.ok()?;
    status
}

/// Sockets of the chat that do not say who they are.
pub fn unauthenticated(target: Target) -> Attacking {
    let sockets = target.size(20, 1_100);
    Box::pin(target.crowd(sockets, move |mut member, _| async move {
        let (mut reader, _writer) = member.target.open_at("/api/gre-chat/ws").await?;
        member.listen(&mut reader, 0).await
    }))
}
