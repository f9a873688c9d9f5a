//! Many subscribers, each with its own `eq` filter: what a change costs when one of them wants it.
//!
//! A backlog is drained twice: by one subscriber whose filter every row passes, and by many of which each row passes
//! one's. If filters are looked up and not tried one by one, the rates are the same.

use super::crowd::Crowd;
use super::report::{NO_FLOOR, Report};
use super::samples::rate;
use super::stand::Stand;
use super::throughput::{Backlog, drain};
use crate::error::Error;

/// Measures with `rows` transactions for one and for `clients` subscribers.
///
/// # Errors
/// What failed to start or to be written, or a client that was closed.
pub(super) async fn run(
    clients: usize,
    rows: u64,
    is_rls: bool,
    report: &mut Report,
) -> Result<(), Error> {
    let stand = Stand::build(is_rls).await?;
    report.about(&stand.version().await?);
    let rls = if is_rls { "with" } else { "without" };
    let mut first = 1;
    for many in [1, clients] {
        let relay = stand.relay().await?;
        let own = |number: usize| Some(format!("room=eq.{number}"));
        let crowd = Crowd::join(&stand, &relay, many, own).await?;
        let backlog = Backlog { first, rows, rooms: many, readers: 1 };
        let drained = drain(&stand, &relay, crowd, backlog).await?;
        first += rows;
        let who = match many {
            1 => "one subscriber with an `eq` filter".to_owned(),
            _ => format!("{many} subscribers, each with its own `eq` filter"),
        };
        report.row(
            &format!("changes/s with {who}, {rls} row level security"),
            &rate(rows - drained.missing, drained.took),
            NO_FLOOR,
        );
        report.note(&format!(
            "{who}: {} lost; {} by the relay's processor time",
            drained.missing,
            rate(rows, drained.cpu)
        ));
        relay.stop().await;
    }
    stand.tear_down().await;
    Ok(())
}
