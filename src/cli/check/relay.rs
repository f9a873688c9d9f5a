//! Facts about the relay itself, when it runs.

use std::net::SocketAddr;

use super::fact::Facts;
use crate::cli::get::get;

/// The facts about the relay listening at `address`, whose figures are at `figures`.
pub(super) async fn judge(address: SocketAddr, figures: Option<SocketAddr>, facts: &mut Facts) {
    let about = "relay";
    match get(address, "/readyz").await {
        Err(error) => {
            facts
                .odd(about, format!("nothing answers at {address} ({error}); that is well if it is not started yet"))
                .also("start it with `relay run`");
            return;
        }
        Ok((200, _)) => facts.good(about, format!("streams, at {address}")),
        Ok((503, body)) if body.starts_with("standby: ") => {
            return facts.good(about, format!("stands by, at {address}: {}", body.trim()));
        }
        Ok((503, body)) => {
            facts
                .bad(about, format!("answers at {address} and does not stream: {}", body.trim()))
                .also("mend the faults above; it tries again by itself");
        }
        Ok((status, _)) => {
            facts
                .bad(about, format!("something else answers at {address} (/readyz says {status})"))
                .also("choose another http.listen, or stop that program");
            return;
        }
    }
    if let Some(figures) = figures
        && let Ok((200, metrics)) = get(figures, "/metrics").await
    {
        judge_checks(&metrics, facts);
    }
}

/// Slow policies are the usual reason for late changes.
fn judge_checks(metrics: &str, facts: &mut Facts) {
    let (Some(seconds), Some(rounds)) =
        (value(metrics, "relay_check_seconds_sum"), value(metrics, "relay_check_seconds_count"))
    else {
        return;
    };
    if rounds < 1.0 {
        return;
    }
    let average_ms = seconds / rounds * 1000.0;
    let says = format!("a row check took {average_ms:.1} ms on average, of {rounds:.0}");
    if average_ms > 50.0 {
        facts
            .odd("relay checks", format!("{says}: policies are slow"))
            .also("give the tables that policies read an index on the columns they compare");
    } else {
        facts.good("relay checks", says);
    }
}

fn value(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_metric() {
        let text = "# HELP relay_check_seconds x\nrelay_check_seconds_sum 1.5\nrelay_check_seconds_count 3\n";
        assert_eq!(value(text, "relay_check_seconds_sum"), Some(1.5));
        assert_eq!(value(text, "relay_nothing"), None);
    }
}
