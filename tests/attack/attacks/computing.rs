//! What makes the relay or Postgres compute.

use std::time::Duration;

use serde_json::json;

use super::super::attackers::{Attacking, Member, Target, public_key};
use super::super::socket::{Reader, join, message};
use super::memory::{joins_with_filters, send_and_listen};
use crate::support::relay::{now, token};

/// A regular expression that only Postgres understands, and that takes it seconds on a long row of one letter.
const SLOW: &str = "body=match.^(a+)(a+)(a+)\\1\\2\\3b$";

/// The pause between leaving and joining again: the pace of the attack, so time itself is meant.
const REJOIN_INTERVAL: Duration = Duration::from_millis(50);

/// A user other than the subscriber's.
const MALLORY: &str = "00000000-0000-4000-8000-0000000000bb";

/// One socket with as many filters as it may have, each of which takes every step that a filter may take on a long row.
pub fn likes(target: Target) -> Attacking {
    // A build without optimisation takes as long for a tenth.
    let channels = if cfg!(debug_assertions) { 10 } else { 100 };
    let (channels, filters) = target.size((2, 50), (channels, 100));
    Box::pin(target.crowd(1, move |member, _| {
        let filter = |number| format!("body=like.%aaaaaaaaaaaaaaaa{number}%");
        send_and_listen(member, joins_with_filters(channels, filters, filter), public_key())
    }))
}

/// One user with many tokens, each with a slow filter on rows that the user may read.
pub fn tokens(target: Target) -> Attacking {
    let tokens = target.size(2, 30);
    Box::pin(target.crowd(tokens, move |member, number| {
        let claims = json!({ "sub": MALLORY, "iat": now() - u64::try_from(number).unwrap() });
        let wish = json!([{ "event": "*", "schema": "public", "table": "notes", "filter": SLOW }]);
        send_and_listen(member, vec![join(1, "slow", &wish)], token("authenticated", &claims))
    }))
}

/// Sockets with the public key that join with a hundred regular expressions, leave, and join again.
pub fn joins(target: Target) -> Attacking {
    let sockets = target.size(2, 16);
    Box::pin(target.crowd(sockets, move |mut member, socket| async move {
        let (mut reader, mut writer) = member.target.open().await?;
        for number in 0.. {
            let filter = |pattern| format!("body=match.^(x+)y{socket}z{number}-{pattern}\\1$");
            for text in joins_with_filters(1, 100, filter) {
                writer.text(&text).await?;
            }
            reply(&mut member, &mut reader).await?;
            writer.text(&message(7, "many-0", "phx_leave", &json!({}))).await?;
            tokio::time::sleep(REJOIN_INTERVAL).await;
        }
        Some(())
    }))
}

/// Waits until a join was answered.
async fn reply(member: &mut Member, reader: &mut Reader) -> Option<()> {
    loop {
        let reply = member.message(reader, &["phx_reply"]).await?;
        if reply[1] == "7" {
            continue;
        }
        member.ready();
        if let Some(reason) = reply[4]["response"]["reason"].as_str() {
            member.target.refused(reason);
        }
        return Some(());
    }
}

/// One user on two sockets, each with snapshots of a large table without an index for what is asked.
pub fn snapshots(target: Target) -> Attacking {
    let channels = target.size(2, 50);
    Box::pin(target.crowd(2, move |member, _| {
        let wish = json!([{ "event": "*", "schema": "public", "table": "archive",
                            "filter": "body=match.^(x+)(x+)\\1\\2y$", "snapshot": { "limit": 10 } }]);
        let joins = (0..channels).map(|channel| join(channel, &format!("all-{channel}"), &wish));
        send_and_listen(member, joins.collect(), token("authenticated", &json!({ "sub": MALLORY })))
    }))
}
