//! The one table of `make attack`.

use std::fmt::Write as _;
use std::time::Duration;

use super::attacks::Attack;
use super::expected::{self, Promise, is_asserted};
use super::probes::Phase;
use super::subscriber::Times;

/// What was measured of one attack.
#[derive(Debug)]
pub struct Measured {
    pub attack: Attack,
    pub idle: (Times, Phase),
    pub attacked: (Times, Phase),
    /// The relay's memory some seconds after the attack, in MiB.
    pub after: u64,
    pub log_lines_a_second: f64,
    pub refusals: Vec<(String, usize)>,
}

impl Measured {
    /// The promises that did not hold.
    pub fn broken(&self) -> Vec<Promise> {
        let ((idle, before), (attacked, during)) = (&self.idle, &self.attacked);
        let health = during.health.percentile(95);
        let is_kept = |promise: &Promise| match promise {
            // Of the short form.
            Promise::Refused => true,
            Promise::Bystander => expected::bystander_is_served(&before.attempts, &during.attempts),
            Promise::Rows => expected::rows_come_in_time(idle, attacked),
            Promise::Memory => during.peak <= expected::MAX_MEMORY_MIB,
            Promise::Health => {
                during.health.missing == 0
                    && health.is_some_and(|most| most <= expected::MAX_HEALTH_TIME)
            }
            Promise::Log => self.log_lines_a_second <= expected::MAX_LOG_LINES_PER_SECOND,
        };
        expected::PROMISES.iter().copied().filter(|promise| !is_kept(promise)).collect()
    }

    /// The promises that did not hold although they are asserted.
    pub fn faults(&self) -> Vec<Promise> {
        let asserted = |promise: &Promise| is_asserted(self.attack.name, *promise);
        self.broken().into_iter().filter(asserted).collect()
    }

    fn verdict(&self) -> String {
        let faults = self.faults();
        let words = self.broken().into_iter().map(|promise| {
            let mark = if faults.contains(&promise) { "FAULT" } else { "wanted" };
            format!("{mark} {promise:?}")
        });
        let words: Vec<_> = words.collect();
        if words.is_empty() { "ok".to_owned() } else { words.join(", ") }
    }
}

/// Writes the table: times in milliseconds, memory in MiB.
pub fn table(all: &[Measured]) -> String {
    let head = [
        "attack",
        "rows idle p50/p95",
        "attacked p50/p95",
        "ratio",
        "missing",
        "RSS idle/peak/after",
        "healthz p95",
        "bystander idle/attacked p95",
        "failed",
        "log/s",
        "refused",
        "verdict",
    ];
    let rows = all.iter().map(|one| {
        let ((idle, before), (attacked, during)) = (&one.idle, &one.attacked);
        let attempts = during.attempts.sorted.len();
        let refused = one
            .refusals
            .first()
            .map_or("-".to_owned(), |(words, count)| format!("{count} × {words}"));
        [
            one.attack.name.to_owned(),
            format!("{} / {}", ms(idle, 50), ms(idle, 95)),
            format!("{} / {}", ms(attacked, 50), ms(attacked, 95)),
            ratio(idle.percentile(95), attacked.percentile(95)),
            format!("{} of {}", attacked.missing, attacked.sorted.len()),
            format!("{} / {} / {}", before.peak, during.peak, one.after),
            ms(&during.health, 95),
            format!(
                "{:?} {} / {}",
                one.attack.bystander,
                ms(&before.attempts, 95),
                ms(&during.attempts, 95)
            ),
            format!("{} of {attempts}", during.attempts.missing),
            format!("{:.0}", one.log_lines_a_second),
            refused,
            one.verdict(),
        ]
    });
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut table = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(table, "| {cell:width$} ");
        }
        table.push_str("|\n");
    }
    table
}

fn ms(times: &Times, percent: usize) -> String {
    times.percentile(percent).map_or("-".to_owned(), milliseconds)
}

fn milliseconds(time: Duration) -> String {
    let time = time.as_secs_f64() * 1000.0;
    if time < 10.0 { format!("{time:.1}") } else { format!("{time:.0}") }
}

fn ratio(idle: Option<Duration>, attacked: Option<Duration>) -> String {
    let (Some(idle), Some(attacked)) = (idle, attacked) else { return "-".to_owned() };
    format!("{:.1}", attacked.as_secs_f64() / idle.as_secs_f64().max(1e-6))
}
