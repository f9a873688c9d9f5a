//! Writers that keep a rate: one row, one transaction, at its time, whether or not the one before is done.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep_until};

use super::stand::{Stamps, Stand, failed};
use crate::error::Error;
use crate::postgres::Sql;

/// What writes one row of the bench's table.
pub(super) const INSERT: &str = include_str!("../../../sql/queries/bench_insert.sql");

/// Connections that share the rate, so that a slow commit does not hold up the next.
const CONNECTIONS: u64 = 4;

/// Writes `count` rows from `first` on with the statement `text` at `rate` per second, marking each just before its COMMIT is sent. Returns the
/// time it took.
///
/// # Errors
/// What Postgres answered.
pub(super) async fn write(
    stand: &Stand,
    stamps: &Arc<Stamps>,
    text: &str,
    (first, count): (u64, u64),
    rate: u32,
) -> Result<Duration, Error> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(stand.writer().await?);
    }
    let start = Instant::now();
    let interval = Duration::from_secs(1) / rate.max(1);
    let tasks = connections.into_iter().zip(0..).map(|(sql, lane): (Sql, u64)| {
        let owner = stand.owner.clone();
        let stamps = Arc::clone(stamps);
        async move {
            let insert = sql.client.prepare(text).await.map_err(failed)?;
            for place in (lane..count).step_by(usize::try_from(CONNECTIONS).unwrap_or(1)) {
                let id = first + place;
                let due = interval.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX));
                sleep_until(start + due).await;
                let key = i64::try_from(id).unwrap_or(i64::MAX);
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                    [&key, &owner, &0_i32];
                // Both are on their way before the first is answered.
                let (begun, written) = tokio::join!(
                    sql.client.batch_execute("begin"),
                    sql.client.execute(&insert, &values)
                );
                begun.map_err(failed)?;
                written.map_err(failed)?;
                stamps.mark(id);
                sql.client.batch_execute("commit").await.map_err(failed)?;
            }
            Ok::<_, Error>(())
        }
    });
    try_join_all(tasks).await?;
    Ok(start.elapsed())
}
