//! What costs a little, as often as it can be sent.

use serde_json::{Value, json};

use super::super::attackers::{Attacking, Member, Target, then_wait};
use super::super::socket::{TEXT, frame, message};

/// Frames that are written at once.
const BATCH: usize = 1_000;

/// Texts that are no messages.
pub fn junk(target: Target) -> Attacking {
    flood(target, frame(TEXT, b"[null"))
}

/// Heartbeats, each of which is answered.
pub fn heartbeats(target: Target) -> Attacking {
    let heartbeat = json!([null, "1", "phoenix", "heartbeat", {}]).to_string();
    flood(target, frame(TEXT, heartbeat.as_bytes()))
}

/// Four sockets write the same frame as fast as it is taken.
fn flood(target: Target, frame: Vec<u8>) -> Attacking {
    let batches = target.size(20, usize::MAX);
    let frames = frame.repeat(BATCH);
    Box::pin(target.crowd(4, move |mut member, _| {
        let frames = frames.clone();
        async move {
            let (mut reader, mut writer) = member.target.open().await?;
            let send = async {
                for _ in 0..batches {
                    writer.raw(&frames).await?;
                }
                Some(())
            };
            tokio::select! {
                end = then_wait(send) => end,
                end = member.listen(&mut reader, 0) => end,
            }
        }
    }))
}

/// Four sockets that join private channels they may not join, as often as joins are taken.
pub fn refused_joins(target: Target) -> Attacking {
    let joins = target.size(50, usize::MAX);
    Box::pin(target.crowd(4, move |mut member, _| async move {
        let (mut reader, mut writer) = member.target.open().await?;
        for number in 0..joins {
            let name = format!("private-{number}");
            let payload = json!({ "config": { "private": true } });
            writer.text(&message(number, &name, "phx_join", &payload)).await?;
            let reply = member.message(&mut reader, &["phx_reply", "phx_close"]).await?;
            refused(&mut member, &reply);
        }
        member.listen(&mut reader, 0).await
    }))
}

/// Counts what a join was refused with.
fn refused(member: &mut Member, reply: &Value) {
    member.ready();
    if let Some(reason) = reply[4]["response"]["reason"].as_str() {
        member.target.refused(reason);
    }
}
