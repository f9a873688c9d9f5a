//! `relay token`: a token for testing, and what the relay makes of one.

use std::io::Read;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value};

use crate::auth::token::{Tokens, Verified};
use crate::config::parse_time;
use crate::error::{Error, ErrorKind};
use crate::model::time::PgTime;
use crate::secret::Secret;
use crate::shutdown::Stage;

use super::{Globals, misconfigured, now, print};

/// What `relay token` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print a token signed with auth.jwt_secret (HS256)
    Mint(Mint),
    /// Say what the relay makes of a token: its role, claims and end, or why it is refused
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  relay token mint --role service_role
  relay token mint --role authenticated --sub 6f1c7f0e-0d0b-4d2c-9c3e-1f2a3b4c5d6e --expires 10m
  relay token mint --role authenticated --claim tenant=7 --claim 'app_metadata={\"team\":\"red\"}'")]
struct Mint {
    /// The Postgres role it names
    #[arg(long, default_value = "authenticated", value_name = "ROLE")]
    role: String,
    /// The user it names, which is auth.uid() in policies
    #[arg(long, value_name = "UUID")]
    sub: Option<String>,
    /// A further claim; the value is JSON if it reads as JSON, else a string
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// How long it is good
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = parse_time)]
    expires: Duration,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  relay token verify \"$TOKEN\"
  pbpaste | relay token verify -

A refused token ends with exit code 2.")]
struct Verify {
    /// The token; `-` reads it from standard input
    token: String,
}

/// Does it.
///
/// # Errors
/// `Misconfigured`: no secret to sign with, or the token is refused.
pub(crate) async fn run(args: Args, globals: &Globals) -> Result<(), Error> {
    let auth = globals.effective()?.auth().map_err(|faults| misconfigured(&faults))?;
    match args.verb {
        Verb::Mint(wish) => {
            if !auth.roles.contains(&wish.role) {
                tracing::warn!(role = wish.role, "the relay refuses this role; see auth.roles");
            }
            let secret = auth.jwt_secret.as_ref().ok_or_else(|| {
                let context = "could not sign: auth.jwt_secret is not set, and the keys of \
                               auth.jwks only verify";
                Error::new(ErrorKind::Misconfigured, context)
            })?;
            print::line(&mint(secret, &wish.claims(now()))?)
        }
        Verb::Verify(wish) => {
            let token = if wish.token == "-" { standard_input()? } else { wish.token };
            let stage = Stage::new();
            let verdict = Tokens::new(&auth, &stage)?.verify(&token, now()).await;
            stage.ask();
            let verified = verdict.map_err(|refusal| {
                let context = format!("the token is refused: {}", refusal.on_join());
                Error::new(ErrorKind::Misconfigured, context)
            })?;
            print::line(&described(&verified))
        }
    }
}

/// A token with these claims, signed with HS256.
///
/// # Errors
/// `Bug`: the claims cannot be signed.
pub(crate) fn mint(secret: &Secret<String>, claims: &Map<String, Value>) -> Result<String, Error> {
    let key = EncodingKey::from_secret(secret.reveal().as_bytes());
    jsonwebtoken::encode(&Header::default(), claims, &key)
        .map_err(|cause| Error::new(ErrorKind::Bug, "could not sign a token").because(cause))
}

impl Mint {
    fn claims(&self, now: i64) -> Map<String, Value> {
        let lifetime = i64::try_from(self.expires.as_secs()).unwrap_or(i64::MAX);
        let mut claims = Map::new();
        claims.insert("role".to_owned(), self.role.clone().into());
        claims.insert("iat".to_owned(), now.into());
        claims.insert("exp".to_owned(), now.saturating_add(lifetime).into());
        claims.extend(self.sub.clone().map(|sub| ("sub".to_owned(), sub.into())));
        claims.extend(self.claims.iter().cloned());
        claims
    }
}

fn described(verified: &Verified) -> String {
    let until = PgTime::from_unix_micros(verified.expires_at.saturating_mul(1_000_000));
    let principal = &verified.principal;
    format!("role     {}\nexpires  {until}\nclaims   {}", principal.role(), principal.claims())
}

/// `name=value`.
fn claim(text: &str) -> Result<(String, Value), &'static str> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

fn standard_input() -> Result<String, Error> {
    let mut token = String::new();
    // One byte more than the relay accepts is enough to be refused.
    let read = std::io::stdin().take(16 * 1024).read_to_string(&mut token);
    read.map_err(|cause| {
        Error::new(ErrorKind::Misconfigured, "could not read the token").because(cause)
    })?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_json_if_it_reads_as_json() {
        assert_eq!(claim("tenant=7"), Ok(("tenant".to_owned(), json!(7))));
        assert_eq!(claim("team=red"), Ok(("team".to_owned(), json!("red"))));
        assert_eq!(claim("m={\"a\":[1]}"), Ok(("m".to_owned(), json!({"a": [1]}))));
        assert_eq!(claim("eq=a=b"), Ok(("eq".to_owned(), json!("a=b"))));
        assert_eq!(claim("nothing"), Err("expected NAME=VALUE"));
    }
}
