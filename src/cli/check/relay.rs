//! Facts about the relay itself: whether it runs, what it withheld, and whether it could listen.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::counters;
use super::fact::Facts;
use crate::cli::get::get;
use crate::cli::tail::reachable;
use crate::config::Config;

/// Facts about it are called so.
const ABOUT: &str = "relay";

/// What a listener said.
enum Answer {
    /// Status and body of `/readyz`.
    Http(u16, String),
    /// Nobody listens.
    Nobody(String),
    /// Somebody listens, and says nothing that is HTTP.
    Stranger,
}

/// The facts about the relay of this configuration.
pub(super) async fn judge(config: &Config, facts: &mut Facts) {
    let address = reachable(config.http.listen);
    let metrics = match get(metrics_page(config), "/metrics").await {
        Ok((200, text)) => Some(text),
        _ => None,
    };
    match ask(address).await {
        Answer::Nobody(why) => return judge_listener(config.http.listen, &why, facts),
        Answer::Stranger => {
            facts
                .bad(
                    ABOUT,
                    format!(
                        "a program that is no relay holds {address}: it does not answer /readyz"
                    ),
                )
                .also("choose another http.listen, or stop that program");
            return;
        }
        Answer::Http(200, body) if body.trim() == "ok" => {
            facts.good(ABOUT, format!("streams, at {address}"));
        }
        Answer::Http(503, body) if body.starts_with("standby: ") => {
            facts.good(ABOUT, format!("stands by, at {address}: {}", body.trim()));
        }
        // The relay says why in plain words; a proxy that stands in front of nothing answers with a page.
        Answer::Http(503, body) if !body.contains('<') => {
            judge_unready(address, body.trim(), metrics.as_deref(), facts);
        }
        Answer::Http(status, _) => {
            facts
                .bad(ABOUT, format!("something else answers at {address} (/readyz says {status})"))
                .also("choose another http.listen, or stop that program");
            return;
        }
    }
    if let Some(metrics) = metrics {
        counters::judge(&metrics, facts);
    }
}

/// Where the running relay shows its metrics.
fn metrics_page(config: &Config) -> SocketAddr {
    reachable(config.http.listen)
}

async fn ask(address: SocketAddr) -> Answer {
    match get(address, "/readyz").await {
        Ok((status, body)) => Answer::Http(status, body),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            Answer::Nobody(error.to_string())
        }
        // Accepted and then silent, or not HTTP; or not reached at all.
        Err(error) => match std::net::TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => Answer::Stranger,
            Err(_) => Answer::Nobody(error.to_string()),
        },
    }
}

/// How long a listener on this machine may take to accept.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// It answers and is not ready. While only its log cannot be written, it delivers all the same.
fn judge_unready(address: SocketAddr, why: &str, metrics: Option<&str>, facts: &mut Facts) {
    let streams = metrics.and_then(|text| counters::value(text, "relay_source_streaming"));
    if streams == Some(1.0) {
        facts
            .bad(ABOUT, format!("streams, at {address}, and cannot keep what it streams: {why}"))
            .also(
                "changes are delivered and Postgres keeps their WAL meanwhile; mend the disk of log.dir, and it goes on by itself",
            );
    } else {
        facts
            .bad(ABOUT, format!("answers at {address} and does not stream: {why}"))
            .also("mend the faults above; it tries again by itself");
    }
}

/// Nothing runs there: could it?
fn judge_listener(listen: SocketAddr, why: &str, facts: &mut Facts) {
    let says = match TcpListener::bind(listen) {
        Ok(_) => {
            facts
                .odd(
                    ABOUT,
                    format!(
                        "nothing answers at {listen} ({why}); that is well if it is not started yet"
                    ),
                )
                .also("start it with `relay run`");
            return;
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            format!("another program holds {listen} and does not answer")
        }
        Err(error) => format!("{listen} cannot be listened on: {error}"),
    };
    facts.bad(ABOUT, says).also("choose another http.listen, or stop what holds the port");
}
