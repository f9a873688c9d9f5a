//! What the running relay counted that somebody should know: rows that it withheld, gaps that it announced, and slow checks.

use super::fact::Facts;

/// The facts in the text of `/metrics`.
pub(super) fn judge(metrics: &str, facts: &mut Facts) {
    judge_checks(metrics, facts);
    judge_reasons(
        (metrics, "relay_withheld_total"),
        ("relay withheld", "rows were withheld since it started", withheld),
        facts,
    );
    judge_reasons(
        (metrics, "relay_gaps_total"),
        ("relay gaps", "gaps were told to channels since it started", gap),
        facts,
    );
}

/// A counter with reasons: nothing, or each reason that counted and what to do about it.
fn judge_reasons(
    (metrics, counter): (&str, &str),
    (about, what, advice): (&str, &str, fn(&str) -> &'static str),
    facts: &mut Facts,
) {
    let counted: Vec<_> =
        reasons(metrics, counter).into_iter().filter(|(_, count)| *count > 0.0).collect();
    if counted.is_empty() {
        return facts.good(about, format!("no {what}"));
    }
    let list: Vec<_> =
        counted.iter().map(|(reason, count)| format!("{reason} {count:.0}")).collect();
    let fact = facts.odd(about, format!("{what}: {}", list.join(", ")));
    for (reason, _) in counted {
        fact.also(format!("{reason}: {}", advice(reason)));
    }
}

/// What to do about rows that were withheld.
fn withheld(reason: &str) -> &'static str {
    match reason {
        "check_failed" => {
            "a policy raised an error: see which under the tables above, or in the relay's log"
        }
        "check_timed_out" => {
            "policies took longer than postgres.check_timeout: give the tables they read an index on what they compare"
        }
        "check_unavailable" => {
            "Postgres could not be asked in time: see its log, and whether connections are left"
        }
        "table_gone" => "a table was dropped while its last changes were on their way",
        "row_incomplete" => {
            "an update left a large value alone that a policy reads: replica identity full puts it into the log, where the table can have it"
        }
        _ => "see the relay's log",
    }
}

/// What to do about gaps.
fn gap(reason: &str) -> &'static str {
    match reason {
        "retention" => {
            "clients were away for longer than the log goes back: raise log.retain_age and log.retain_bytes"
        }
        "transaction_too_large" => {
            "a transaction was larger than log.retain_bytes (with --ephemeral: postgres.max_transaction)"
        }
        "slot_given_up" => {
            "the relay was behind by postgres.max_slot_lag: see why (CPU, network, slow policies)"
        }
        "slot_lost" => "Postgres took WAL from the slot: raise max_slot_wal_keep_size",
        "row_checks_behind" | "fan_out_behind" | "catch_up_behind" | "too_many_catching_up" => {
            "there was more to do than could be held: see CPU, and slow policies"
        }
        _ => "clients were told to read their tables again; the relay's log says when",
    }
}

/// Slow policies are the usual reason for late changes.
fn judge_checks(metrics: &str, facts: &mut Facts) {
    let (Some(seconds), Some(checks)) =
        (value(metrics, "relay_check_seconds_sum"), value(metrics, "relay_check_seconds_count"))
    else {
        return;
    };
    if checks < 1.0 {
        return;
    }
    let average_ms = seconds / checks * 1000.0;
    let says = format!("a row check took {average_ms:.1} ms on average, of {checks:.0}");
    if average_ms > 50.0 {
        facts
            .odd("relay checks", format!("{says}: policies are slow"))
            .also("give the tables that policies read an index on the columns they compare");
    } else {
        facts.good("relay checks", says);
    }
}

/// The value of a metric without labels.
pub(super) fn value(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// The values of a counter by its label `reason`.
fn reasons<'a>(metrics: &'a str, name: &str) -> Vec<(&'a str, f64)> {
    let sample = |line: &'a str| {
        let labels = line.strip_prefix(name)?.strip_prefix("{reason=\"")?;
        let (reason, rest) = labels.split_once('"')?;
        Some((reason, rest.rsplit(' ').next()?.parse().ok()?))
    };
    metrics.lines().filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_metric() {
        let text = "# HELP relay_check_seconds x\nrelay_check_seconds_sum 1.5\nrelay_check_seconds_count 3\n";
        assert_eq!(value(text, "relay_check_seconds_sum"), Some(1.5));
        assert_eq!(value(text, "relay_nothing"), None);
        assert_eq!(value(text, "relay_check_seconds"), None);
    }

    #[test]
    fn each_reason_that_counted_is_reported() {
        let text = "relay_withheld_total{reason=\"check_failed\"} 3\nrelay_withheld_total{reason=\"table_gone\"} 0\n";
        let mut facts = Facts::default();
        judge(text, &mut facts);
        let lines: Vec<_> = facts.iter().map(|fact| fact.lines(false).join("\n")).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].contains("check_failed 3") && !lines[0].contains("table_gone"),
            "{lines:?}"
        );
        assert!(lines[1].contains("no gaps"), "{lines:?}");
    }
}
