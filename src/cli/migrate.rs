//! `relay migrate`: schema `realtime`, as users of Supabase Realtime write SQL against it.
//!
//! One statement each way, making it and taking it back (`--undo`): all or nothing, part of the caller's transaction
//! when pasted into one, and repeatable. It needs an owner's rights, which the relay's own role has not and should not
//! have; so the address is given for this one run, and the relay never keeps it.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::{Globals, about_flag, print};
use crate::error::{Error, ErrorKind};
use crate::postgres::{Target, connect, refusal};
use crate::secret::Secret;
use crate::shutdown::Stage;

/// The parts between `begin.sql` and `end.sql`, in the order they need each other: blocks of one `do` statement.
const FILES: [&str; 11] = [
    include_str!("../../sql/realtime/schema.sql"),
    include_str!("../../sql/realtime/messages.sql"),
    include_str!("../../sql/realtime/topic.sql"),
    include_str!("../../sql/realtime/send.sql"),
    include_str!("../../sql/realtime/send_binary.sql"),
    include_str!("../../sql/realtime/broadcast_changes.sql"),
    include_str!("../../sql/realtime/keep_partitions.sql"),
    include_str!("../../sql/realtime/probe.sql"),
    include_str!("../../sql/realtime/replay.sql"),
    include_str!("../../sql/realtime/publication.sql"),
    include_str!("../../sql/realtime/relay_role.sql"),
];

/// How `begin.sql` and `undo.sql` name the role until they are told another.
const ROLE: &str = "constant text := E'relay';";

/// The functions the relay itself calls.
pub(super) const CALLED: [&str; 3] = [
    "keep_partitions()",
    "probe(text, text[])",
    "replay(text, timestamp without time zone, integer)",
];

/// The functions that are made, as `name(types)`, each with its body.
pub(super) fn functions() -> Vec<(String, &'static str)> {
    FILES.into_iter().filter_map(function).collect()
}

fn function(file: &'static str) -> Option<(String, &'static str)> {
    let (_, after) = file.split_once("to_regprocedure('realtime.")?;
    let (signature, _) = after.split_once("')")?;
    let (_, after) = file.split_once("$function$")?;
    let (body, _) = after.split_once("$function$")?;
    Some((signature.replace("timestamp", "timestamp without time zone"), body))
}

/// What `relay migrate` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It makes schema realtime with the table messages, the functions send, send_binary, broadcast_changes and topic, the \
publication supabase_realtime_messages_publication, and three functions that only the relay may call. What is there \
already stays, but for functions that an earlier version of this command made. One transaction: all or nothing; run \
again, it changes nothing. It locks no table but realtime.messages, and waits for that at most 5 seconds.

With --undo it takes back what it made and leaves what was there before; messages that are in realtime.messages go \
with the table. Stop the relay first. It changes nothing, and says why, while policies, views or functions stand on \
what would go. It locks realtime.messages against everybody else, and waits for that at most 5 seconds.")]
pub(crate) struct Args {
    /// Where and as whom: the owner of schema realtime, or a superuser
    #[arg(long, env = "RELAY_MIGRATE_URL", hide_env_values = true, value_name = "URL", value_parser = secret)]
    url: Option<Secret<String>>,
    /// The role the relay logs in as [default: the user of postgres.url, else relay]
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Take it back instead
    #[arg(long)]
    undo: bool,
    /// Print the SQL and connect to nothing
    #[arg(long)]
    dry_run: bool,
}

/// Makes it or takes it back, or prints how.
///
/// # Errors
/// `Misconfigured` without an address; what Postgres answered otherwise.
pub(crate) async fn run(args: Args, globals: &Globals) -> Result<(), Error> {
    let role = args.role.clone().unwrap_or_else(|| own_role(globals));
    let sql = if args.undo { undo_script(&role) } else { script(&role) };
    if args.dry_run {
        return print::line(sql.trim_end());
    }
    let Some(url) = args.url else {
        let context = "whose rights may be used? give --url or RELAY_MIGRATE_URL: the owner of schema realtime, or a superuser";
        return Err(Error::new(ErrorKind::Misconfigured, context));
    };
    let about_url = |error| about_flag("--url", &error);
    let target = Target::parse(url.reveal()).map_err(about_url)?;
    let stage = Stage::new();
    let opened = connect(&target, "relay-migrate", &[], &stage).await.map_err(about_url)?;
    let (what, state) = if args.undo {
        ("could not undo; nothing was changed", include_str!("../../sql/realtime/undone.sql"))
    } else {
        ("could not migrate; nothing was changed", include_str!("../../sql/realtime/result.sql"))
    };
    if let Some(named) = args.role {
        refuse_missing(&opened.client, &named).await?;
    }
    let done = match opened.client.batch_execute(&sql).await {
        Ok(()) => opened.client.simple_query(state).await,
        Err(error) => Err(error),
    };
    drop(opened);
    stage.stop(Duration::from_secs(1)).await;
    for message in done.map_err(|error| failed(&error, what))? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        if args.undo {
            let text = |at| row.get(at).unwrap_or_default();
            print::line(&format!("{:<40} {}", text(0), text(1)))?;
            continue;
        }
        for (at, column) in row.columns().iter().enumerate() {
            let value = match row.get(at).unwrap_or_default() {
                "t" => "yes",
                "f" => "no",
                value => value,
            };
            print::line(&format!("{:<20} {value}", column.name()))?;
        }
    }
    Ok(())
}

/// A role that somebody names is one that is there: a misspelt one would be granted nothing, and nobody would notice.
async fn refuse_missing(client: &tokio_postgres::Client, role: &str) -> Result<(), Error> {
    let query = include_str!("../../sql/queries/role_exists.sql");
    let found = client.query_opt(query, &[&role]).await;
    if found.map_err(|error| failed(&error, "could not look for the role"))?.is_some() {
        return Ok(());
    }
    let context = format!(
        "there is no role {role:?}, and nothing was changed; correct --role, or run RELAY_ROLE.sql first"
    );
    Err(Error::new(ErrorKind::Misconfigured, context))
}

/// What Postgres said, and what to do about it.
fn failed(error: &tokio_postgres::Error, what: &str) -> Error {
    let Some(said) = error.as_db_error() else { return refusal(error, what) };
    let advice = match said.code().code() {
        "42501" => {
            "use a superuser, or the owner of schema realtime and its table who may also create in the database"
        }
        "25006" => "this is a standby, or read-only by a setting: give the address of the primary",
        "55P03" => {
            "somebody holds realtime.messages: end what runs long on it, then run this again"
        }
        "42809" => "rename it, then run this again",
        // Something stands on what would go, or the relay is connected. The hint of this command's own SQL says what to
        // do; that of Postgres itself is to drop what stands there, too, which this must not advise.
        "2BP01" | "55006" => match said.hint() {
            Some(hint) if hint.ends_with("this again.") => hint,
            _ => "drop or change that, then run this again",
        },
        _ => return refusal(error, what),
    };
    let detail = said.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    let said = format!("{}{detail} ({}); {advice}", said.message(), said.code().code());
    Error::new(ErrorKind::SourceRejected, what).because(said)
}

/// The SQL that makes it, as one statement, for one relay.
pub(crate) fn script(role: &str) -> String {
    let mut sql = naming(role, include_str!("../../sql/realtime/begin.sql"));
    for file in FILES {
        sql.push('\n');
        sql.push_str(file);
    }
    sql.push('\n');
    sql.push_str(include_str!("../../sql/realtime/end.sql"));
    sql
}

/// The SQL that takes it back, as one statement.
fn undo_script(role: &str) -> String {
    naming(role, include_str!("../../sql/realtime/undo.sql"))
}

/// `sql` with the role that the relay logs in as.
fn naming(role: &str, sql: &str) -> String {
    // An escape string reads the same whatever standard_conforming_strings says, and has no dollar sign that could end
    // the body of the statement.
    let quoted = role.replace('\\', r"\\").replace('\'', "''").replace('$', r"\x24");
    sql.replacen(ROLE, &format!("constant text := E'{quoted}';"), 1)
}

/// Whom `postgres.url` names. Nothing else of the configuration matters here, so nothing else is complained of.
fn own_role(globals: &Globals) -> String {
    let own = globals.effective().ok().and_then(|effective| effective.check().ok());
    let target = own.and_then(|config| Target::parse(config.postgres.url.reveal()).ok());
    target.map_or_else(|| "relay".to_owned(), |target| target.user().to_owned())
}

#[allow(clippy::unnecessary_wraps, reason = "the shape that clap asks for")]
fn secret(text: &str) -> Result<Secret<String>, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_cannot_end_its_quotes() {
        for sql in [script(r"o'r\$migrate$"), undo_script(r"o'r\$migrate$")] {
            assert!(sql.contains(r"constant text := E'o''r\\\x24migrate\x24';"), "{sql}");
        }
        assert!(script("relay").contains(ROLE) && undo_script("relay").contains(ROLE));
    }

    #[test]
    fn the_functions_are_found_in_the_files() {
        let functions = functions();
        let names: Vec<&str> = functions.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), 7, "{names:?}");
        assert!(names.contains(&"topic()") && CALLED.iter().all(|name| names.contains(name)));
        let all = FILES.concat();
        assert_eq!(all.matches("create or replace function").count(), 7);
        assert!(functions.iter().all(|(_, body)| !body.trim().is_empty()));
    }

    #[test]
    fn every_file_is_applied() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/realtime");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let is_result = path.ends_with("result.sql") || path.ends_with("undone.sql");
            let is_run = script("relay").contains(&text) || undo_script("relay") == text;
            assert!(is_result || is_run, "{}", path.display());
        }
    }
}
