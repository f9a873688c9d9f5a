//! `relay tail`: a client that joins and prints what arrives.
//!
//! It joins again after every failure and says so, because what committed meanwhile was not shown. What it is told
//! besides changes goes to standard error, so standard output holds changes only. A subscription that the relay refuses ends
//! it; messages about an accepted one (rows that are withheld, gaps, a table that is out of the publication for a while) do not.

mod line;

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::token::mint;
use super::client::{Address, Client};
use super::demo::state::Demo;
use super::{Globals, environment, print, random};
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::secret::Secret;

/// How long a minted token lives; a new one is minted at each connection.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// What `relay tail` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  relay tail chat_messages
  relay tail chat_messages --role authenticated --sub 8c5f2f0a-0000-4000-8000-000000000001
  relay tail public.chat_messages --event INSERT --filter session_id=eq.7
  relay tail chat_messages --url ws://relay.example:4000 --token \"$TOKEN\"

Without a configuration it connects to a running `relay demo`.")]
pub(crate) struct Args {
    /// The table, with its schema unless that is `public`; `*` is every table
    pub(crate) table: String,
    /// The schema of the table, if it is not part of the name
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) schema: Option<String>,
    /// Which changes: INSERT, UPDATE, DELETE or *
    #[arg(long, default_value = "*", value_name = "EVENT")]
    pub(crate) event: String,
    /// Only rows that match, e.g. `status=in.(waiting,active)`
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// The relay to join [default: the configured one, a running demo, or ws://127.0.0.1:4000]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The token to join with [default: one minted with the configured secret]
    #[arg(long, env = "RELAY_TOKEN", hide_env_values = true, value_name = "JWT")]
    pub(crate) token: Option<String>,
    /// The role of the minted token
    #[arg(long, default_value = "service_role", value_name = "ROLE")]
    pub(crate) role: String,
    /// The user (`sub`) of the minted token
    #[arg(long, value_name = "USER")]
    pub(crate) sub: Option<String>,
    /// Print each change as the relay sent it, one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whose rights to join with.
pub(crate) enum Credential {
    /// A token.
    Given(String),
    /// Tokens minted when they are needed.
    Minted {
        /// What they are signed with.
        secret: Secret<String>,
    },
}

impl Credential {
    /// The token given, or one for this role and user.
    ///
    /// # Errors
    /// `Bug`: it cannot be signed.
    pub(crate) fn token(&self, role: &str, sub: Option<&str>) -> Result<String, Error> {
        match self {
            Self::Given(token) => Ok(token.clone()),
            Self::Minted { secret } => mint(secret, role, sub, TOKEN_LIFETIME),
        }
    }
}

/// Does it.
///
/// # Errors
/// `Misconfigured` when there is no token to join with or the wish cannot be meant; `SourceRejected` when the relay
/// refuses the token. A relay that cannot be reached is tried again.
pub(crate) async fn run(args: Args, globals: &Globals) -> Result<(), Error> {
    tokio::select! {
        ended = follow(&args, globals) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn follow(args: &Args, globals: &Globals) -> Result<(), Error> {
    let (address, credential) = whereto(args.url.as_deref(), args.token.as_deref(), globals)?;
    let wish = wish(args);
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
    loop {
        let token = credential.token(&args.role, args.sub.as_deref())?;
        match watch(args, &address, &token, &wish, &mut backoff).await {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::PeerUnreachable => {
                let wait = backoff.wait(random::number());
                print::remark(&format!("{error}; joining again in {:.1} s", wait.as_secs_f32()));
                tokio::time::sleep(wait).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Joins once and prints until the socket ends; `Ok` when nobody reads the output any more.
async fn watch(
    args: &Args,
    address: &Address,
    token: &str,
    wish: &Value,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    let mut client = Client::connect(address, token).await?;
    client.join("relay-tail", std::slice::from_ref(wish)).await?;
    backoff.reset();
    print::remark(&format!("joined {address}; watching {}", described(wish)));
    let stdout = std::io::stdout();
    let is_coloured = stdout.is_terminal() && environment("NO_COLOR").is_none();
    let mut is_subscribed = false;
    loop {
        let heard = client.hear().await?;
        match heard.event.as_str() {
            "postgres_changes" => {
                let Some(data) = heard.payload.get("data") else { continue };
                let text =
                    if args.json { data.to_string() } else { line::render(data, is_coloured) };
                if !print::offer(&text)? {
                    return Ok(());
                }
            }
            "system" => report(&heard.payload, &mut is_subscribed)?,
            "phx_close" => {
                let context = "the relay closed the channel";
                return Err(Error::new(ErrorKind::PeerUnreachable, context));
            }
            _ => {}
        }
    }
}

/// Prints a `system` message. Before the subscription is accepted an error of it ends the watching; afterwards none does.
fn report(payload: &Value, is_subscribed: &mut bool) -> Result<(), Error> {
    let text = |key: &str| payload.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("extension") == "postgres_changes" {
        if text("status") == "ok" {
            *is_subscribed = true;
        } else if !*is_subscribed {
            return Err(Error::new(ErrorKind::Misconfigured, text("message")));
        }
    }
    let hint = if text("message").contains("SQLSTATE") { "; see `relay check`" } else { "" };
    print::remark(&format!("{}: {}{hint}", text("extension"), text("message")));
    Ok(())
}

fn wish(args: &Args) -> Value {
    let (schema, table) = match (&args.schema, args.table.split_once('.')) {
        (Some(schema), _) => (schema.as_str(), args.table.as_str()),
        (None, Some((schema, table))) => (schema, table),
        (None, None) => ("public", args.table.as_str()),
    };
    let mut wish = json!({ "event": args.event, "schema": schema, "table": table });
    if let (Some(filter), Some(map)) = (&args.filter, wish.as_object_mut()) {
        map.insert("filter".to_owned(), filter.as_str().into());
    }
    wish
}

fn described(wish: &Value) -> String {
    let text = |key: &str| wish.get(key).and_then(Value::as_str).unwrap_or_default();
    let filter = if text("filter").is_empty() { "" } else { " where " };
    format!("{}.{} {}{filter}{}", text("schema"), text("table"), text("event"), text("filter"))
}

/// The relay to join and the rights to join with: what was asked for, else the configuration, else a running demo.
///
/// # Errors
/// `Misconfigured`: an address that cannot be read, or no token to be had.
pub(crate) fn whereto(
    url: Option<&str>,
    token: Option<&str>,
    globals: &Globals,
) -> Result<(Address, Credential), Error> {
    let given = url.map(Address::parse).transpose()?;
    let secret = globals.effective()?.auth().ok().and_then(|auth| auth.jwt_secret);
    let demo = if secret.is_none() { Demo::find() } else { None };
    let address = match (given, &demo) {
        (Some(address), _) => address,
        (None, Some(demo)) => Address::parse(&demo.address)?,
        // Watching needs no Postgres, so a configuration without one will do.
        (None, None) => match globals.load() {
            Ok(config) => Address::parse(&format!("ws://{}", reachable(config.http.listen)))?,
            Err(_) => Address::parse("ws://127.0.0.1:4000")?,
        },
    };
    let minted = |secret| Credential::Minted { secret };
    let credential = match token {
        Some(token) => Some(Credential::Given(token.to_owned())),
        None => secret.or(demo.map(|demo| Secret::new(demo.jwt_secret))).map(minted),
    };
    let credential = credential.ok_or_else(|| {
        let context = "there is no token to join with: no running `relay demo`, no auth.jwt_secret to mint one with; \
                       pass --token";
        Error::new(ErrorKind::Misconfigured, context)
    })?;
    Ok((address, credential))
}

/// Where to reach a listener: the loopback address when it listens on all.
pub(crate) fn reachable(listen: std::net::SocketAddr) -> std::net::SocketAddr {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(match listen {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes_on(status: &str, is_subscribed: &mut bool) -> bool {
        let payload = json!({ "extension": "postgres_changes", "status": status, "message": "x" });
        report(&payload, is_subscribed).is_ok()
    }

    #[test]
    fn only_a_refused_subscription_ends_the_watching() {
        let mut is_subscribed = false;
        assert!(!goes_on("error", &mut is_subscribed));
        assert!(goes_on("ok", &mut is_subscribed));
        assert!(goes_on("error", &mut is_subscribed));
    }
}
