//! Facts about the relay itself: whether it runs, what it withheld, and whether it could listen.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::counters;
use super::fact::Facts;
use crate::cli::get::get;
use crate::cli::tail::reachable;
use crate::config::Config;

/// What facts about the relay are about.
const ABOUT: &str = "relay";

/// How long a listener on this machine may take to accept.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a listener said.
enum Answer {
    /// Status and body of `/readyz`.
    Http(u16, String),
    /// Nobody listens, and why the connection failed.
    Nobody(String),
    /// A program accepts connections and does not answer in HTTP.
    NotHttp,
}

/// The facts about the relay of this configuration.
pub(super) async fn judge(config: &Config, facts: &mut Facts) {
    let address = reachable(config.http.listen);
    let metrics = metrics(config).await;
    match ask(address).await {
        Answer::Nobody(why) => return judge_listener(config.http.listen, &why, facts),
        Answer::NotHttp => {
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
            judge_unready(address, body.trim(), metrics.as_deref().ok(), facts);
        }
        Answer::Http(status, _) => {
            facts
                .bad(ABOUT, format!("something else answers at {address} (/readyz says {status})"))
                .also("choose another http.listen, or stop that program");
            return;
        }
    }
    match metrics {
        Ok(metrics) => counters::judge(&metrics, facts),
        Err(why) => {
            facts
                .odd(
                    "relay figures",
                    format!("what it withheld and which gaps it told is not known: {why}"),
                )
                .also("give http.admin_listen an address of its own that this machine may reach");
        }
    }
}

/// The running relay's metrics, or why they cannot be read.
async fn metrics(config: &Config) -> Result<String, String> {
    let Some(admin) = config.http.admin else {
        return Err("http.admin_listen is off".to_owned());
    };
    let address = reachable(admin.address);
    match get(address, "/metrics").await {
        Ok((200, text)) => Ok(text),
        Ok((status, _)) => Err(format!("{address} says {status} to /metrics")),
        Err(error) => Err(format!("{address}: {error}")),
    }
}

async fn ask(address: SocketAddr) -> Answer {
    match get(address, "/readyz").await {
        Ok((status, body)) => Answer::Http(status, body),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            Answer::Nobody(error.to_string())
        }
        // The listener accepted and was silent or did not speak HTTP, or it was not reached at all.
        Err(error) => match TcpStream::connect_timeout(&address, ACCEPT_TIMEOUT) {
            Ok(_) => Answer::NotHttp,
            Err(_) => Answer::Nobody(error.to_string()),
        },
    }
}

/// The relay answers and is not ready. While only its log cannot be written, it delivers all the same.
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

/// Nothing runs at the address: whether a relay could listen on it.
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
