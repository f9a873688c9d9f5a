//! First reads: rows of the tables a member asked for, shown before what is live, and joined to it without a seam.
//!
//! The member has arrived at a place of the log, and what follows waits at its gate. The rows are read under one
//! snapshot that sees every transaction handed out up to that place; then the gate opens, and what the snapshot saw is
//! not given again. A read stands apart from the fan-out and holds up nobody but its member.
//!
//! Where it cannot be read, the member is told, and goes live.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Fanout;
use super::held::Held;
use super::pass::{AHEAD, LOOK, PATIENCE};
use super::render::{OldShown, Rendered, Shown};
use super::sighting::{Layout, Mask, Sighting};
use crate::auth::first::{FirstRows, MOST_BYTES, Reading, Unread};
use crate::auth::requester::Requester;
use crate::auth::visibility::Trouble;
use crate::changelog::Place;
use crate::hub::{FirstShown, Hole, Member, Notice, Seen};
use crate::log_rate::admit;
use crate::metrics::reason;
use crate::model::{
    Column, Event, FirstRead, OldRow, Position, Relation, Row, Snapshot, Subscription, Table,
    Target,
};

/// Bytes of rows that may wait for slow members; above it nobody is waited for.
const HELD_LIMIT: usize = 256 << 20;

/// Rows rendered before others have their turn.
const STRIDE: usize = 64;

/// What the catalog knows may be so old.
const CATALOG_AGE: Duration = Duration::from_millis(2500);

/// A wish whose rows are read first, with its id in the member's eyes.
pub(super) type Asked = (u64, Arc<Subscription>, FirstRead);

/// A member that has arrived and is to be shown rows.
#[derive(Debug)]
pub(super) struct Job {
    /// Who.
    pub(super) member: Arc<Member>,
    /// What.
    pub(super) asked: Vec<Asked>,
    /// Everything up to here was handed out without it.
    pub(super) at: Position,
    /// What was handed out up to there and may not be visible yet.
    pub(super) unseen: Arc<[u32]>,
}

/// How the rows of one wish are shown.
struct View {
    layout: Arc<Layout>,
    mask: Mask,
}

/// Why nothing is shown: a word for metrics and programs, and words for people.
struct Failure(&'static str, String);

/// Shows a member its rows and lets it go live.
pub(super) async fn show(fanout: &Fanout, held: &Held, job: Job) {
    let Job { member, asked, at, unseen } = job;
    let started = Instant::now();
    let (mut last_words, mut seen) = (None, None);
    if !member.is_gone() {
        match read(fanout, &member, &asked, &unseen).await {
            Ok((views, rows)) => {
                fanout.metrics.snapshots.inc();
                fanout.metrics.snapshot_seconds.observe(started.elapsed().as_secs_f64());
                let FirstRows { snapshot, until, rows } = rows;
                seen = Some(Seen { until, snapshot });
                let count: usize = rows.iter().map(Vec::len).sum();
                deliver(fanout, held, &member, &asked, views, rows, at).await;
                let position = at.to_string().into();
                let shown = FirstShown { rows: count, position };
                last_words = Some(Notice::of_first_read("Snapshot complete".to_owned(), shown));
            }
            Err(Failure(why, words)) => {
                note(&asked, member.principal().role(), why, &words);
                let message = format!(
                    "The snapshot could not be read: {words}. Please read the table yourself."
                );
                last_words = Some(hole(fanout, at, why, message));
            }
        }
    }
    if let Some(notice) = last_words {
        // A member that cannot be told is being closed, and begins anew.
        let _ = member.finish_first(Place::from(at), &notice);
    }
    if !member.open(seen) {
        let words = "Changes may be missing: too much happened while the snapshot was read. Please read the table again.";
        let _ = member.notify(&hole(fanout, at, "snapshot_behind", words.to_owned()));
    }
}

/// Logs why rows could not be read.
fn note(asked: &[Asked], role: &str, reason: &str, words: &str) {
    let tables = asked.iter().filter_map(|(_, wish, _)| match &wish.target {
        Target::Table { schema, table } => Some(format!("{schema}.{table}")),
        Target::Schema(_) | Target::All => None,
    });
    let tables = tables.collect::<Vec<_>>().join(", ");
    if let Some(left_out) = admit(&["snapshot", &tables, role, reason, words]) {
        tracing::warn!(
            tables,
            role,
            reason,
            error = words,
            left_out,
            "a snapshot could not be read; its channel was told"
        );
    }
}

fn hole(fanout: &Fanout, at: Position, why: &'static str, message: String) -> Notice {
    fanout.metrics.gaps.get_or_create(&reason(why)).inc();
    let to = Some(at.to_string().into());
    Notice::of_hole(message, Hole { from: None, to, reason: why })
}

async fn read(
    fanout: &Fanout,
    member: &Member,
    asked: &[Asked],
    unseen: &[u32],
) -> Result<(Vec<View>, FirstRows), Failure> {
    let is_early = |snapshot: &Snapshot| {
        let is_early = unseen.iter().any(|xid| !snapshot.sees(*xid));
        fanout.told.seen(snapshot);
        is_early
    };
    let mut may_be_old = true;
    loop {
        let principal = member.principal();
        let (mut views, mut readings) = (Vec::new(), Vec::new());
        for (_, wish, first) in asked {
            let (view, reading) = prepare(fanout, principal.role(), wish, first).await?;
            views.push(view);
            readings.push(reading);
        }
        let requester = Requester::Caller(member.caller());
        let read = fanout.visibility.read_first(&requester, &principal, &readings, &is_early).await;
        match read {
            Ok(rows) => return Ok((views, rows)),
            // The table may have changed in a moment the catalog does not know of yet.
            Err(Unread::Trouble(Trouble::Failed { code, .. }))
                if may_be_old && code.starts_with("42") =>
            {
                may_be_old = false;
                sleep(CATALOG_AGE).await;
            }
            Err(unread) => return Err(failure(unread)),
        }
    }
}

fn failure(unread: Unread) -> Failure {
    match unread {
        Unread::Early => {
            let words = "commits are not visible to queries yet; is a synchronous standby missing";
            Failure("snapshot_early", words.to_owned())
        }
        Unread::TooLarge => {
            let words = format!("its rows have more than {} MiB; ask for fewer", MOST_BYTES >> 20);
            Failure("snapshot_too_large", words)
        }
        Unread::Trouble(Trouble::Failed { code, message }) => {
            Failure("snapshot_failed", format!("SQLSTATE {code}, {message}"))
        }
        Unread::Trouble(Trouble::TimedOut) => {
            Failure("snapshot_timed_out", "it took too long; is there an index for it".to_owned())
        }
        Unread::Trouble(_) => {
            Failure("snapshot_unavailable", "the database could not be asked".to_owned())
        }
    }
}

/// How a wish is read and shown, by what the catalog says now.
async fn prepare(
    fanout: &Fanout,
    role: &str,
    wish: &Subscription,
    first: &FirstRead,
) -> Result<(View, Reading), Failure> {
    let failed = |words: &str| Failure("snapshot_failed", words.to_owned());
    let Target::Table { schema, table } = &wish.target else {
        return Err(failed("it needs one table"));
    };
    let found = fanout.catalog.find(schema, table).await;
    let found = found.map_err(|_| failure(Unread::Trouble(Trouble::Unavailable)))?;
    let table = found.ok_or_else(|| failed("the table is gone"))?;
    let layout = Arc::new(Layout::new(&relation(&table), Arc::clone(&table)));
    let mask = layout.mask(role, &wish.select);
    let mut keys = table.columns.iter().zip(mask.iter()).filter(|(key, _)| key.is_primary_key);
    if !table.has_primary_key() || keys.any(|(_, is_shown)| !is_shown) {
        return Err(failed("the table has no primary key that may be read"));
    }
    let columns = mask.iter().enumerate().filter(|(_, is_shown)| **is_shown).map(|(at, _)| at);
    let (columns, filter) = (columns.collect(), Arc::clone(&wish.filter));
    let reading = Reading { table, columns, filter, first: first.clone() };
    Ok((View { layout, mask }, reading))
}

/// A table's own rows, as if the WAL had described them.
fn relation(table: &Table) -> Arc<Relation> {
    let columns = table.columns.iter().map(|column| Column {
        name: Arc::clone(&column.name),
        type_oid: column.sql_type.oid,
        typmod: -1,
        is_key: column.is_primary_key,
    });
    Arc::new(Relation {
        oid: table.oid,
        generation: 0,
        schema: Arc::clone(&table.schema),
        name: Arc::clone(&table.name),
        identity: table.identity,
        columns: columns.collect(),
    })
}

/// Gives a member its rows, each wish's oldest first. Their ids count down over all of them.
async fn deliver(
    fanout: &Fanout,
    held: &Held,
    member: &Member,
    asked: &[Asked],
    views: Vec<View>,
    rows: Vec<Vec<Row>>,
    at: Position,
) {
    let committed_at = (fanout.now)();
    let _held = held.more(rows.iter().flatten().map(Row::size).sum());
    let mut follow: usize = rows.iter().map(Vec::len).sum();
    let mut waited = Duration::ZERO;
    for (((id, _, first), View { layout, mask }), mut rows) in asked.iter().zip(views).zip(rows) {
        if first.is_newest_first() {
            rows.reverse();
        }
        let shown = Shown::Row(mask, OldShown::Key);
        for row in rows {
            follow -= 1;
            let sighting = Sighting {
                id: at,
                first: Some(follow),
                xid: 0,
                committed_at,
                event: Event::Insert,
                new: Some(row),
                old: OldRow::Absent,
                layout: Arc::clone(&layout),
                rendered: Rendered::default(),
            };
            let data = sighting.data(&shown, fanout.record_limit);
            let frame = data.frame(member.dialect, &member.topic, &[*id]);
            while AHEAD < member.outbox.bytes()
                && !member.is_gone()
                && waited < PATIENCE
                && held.total() < HELD_LIMIT
            {
                sleep(LOOK).await;
                waited += LOOK;
            }
            if member.offer(frame).is_err() {
                return;
            }
            fanout.metrics.deliveries.inc();
            if follow.is_multiple_of(STRIDE) {
                tokio::task::yield_now().await;
            }
        }
    }
}
