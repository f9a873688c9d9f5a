//! `relay gaptest`: clients whose connections break on purpose, against any deployment, and whether they missed anything.
//!
//! One client stays; the others leave and come back, half of them saying after which change they continue, half with a
//! `resume` id only. Rows are written by this process, each with a mark of its own, or by whoever else writes: then what
//! the client that stays was given is what the others must have. It drops nothing and changes no setting.

mod verdict;
mod watcher;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::tail::whereto;
use super::{Globals, print, random};
use crate::error::{Error, ErrorKind};
use crate::shutdown::Stage;
use verdict::{Log, Verdict};
use watcher::{Breaks, Memory, Watcher};
use writer::Writer;

/// How often it is looked whether everybody has everything.
const LOOK: Duration = Duration::from_millis(50);

/// How long after the last join changes begin to count that somebody else writes.
const SETTLING: Duration = Duration::from_secs(1);

/// What `relay gaptest` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  relay gaptest chat_messages --writer \"$DATABASE_URL\" \\
      --insert \"insert into chat_messages (session_id, sender_type, body) values ('8c5f…', 'visitor', '{mark}')\"
  relay gaptest orders --url wss://relay.example --token \"$TOKEN\"      rows are written by somebody else

Restart, kill or cut off whatever you like meanwhile. Exit code 0: nothing was lost; 70: something was.
Rows that it wrote stay; `{mark}` becomes gaptest-<run>-<number>, by which they can be found.")]
pub(crate) struct Args {
    /// The table, with its schema unless that is `public`
    table: String,
    /// The relay [default: the configured one, a running demo, or ws://127.0.0.1:4000]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The token to join with [default: one minted with the configured secret]
    #[arg(long, env = "RELAY_TOKEN", hide_env_values = true, value_name = "JWT")]
    token: Option<String>,
    /// The role of the minted token
    #[arg(long, default_value = "service_role", value_name = "ROLE")]
    role: String,
    /// The user (`sub`) of the minted token
    #[arg(long, value_name = "USER")]
    sub: Option<String>,
    /// Clients whose connections break
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    clients: usize,
    /// For how long
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    seconds: u64,
    /// How long a connection lasts, more or less
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    break_every: f64,
    /// How long a client stays away at most
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    away: f64,
    /// Where rows are written [default: nowhere, somebody else writes]
    #[arg(
        long,
        requires = "insert",
        env = "GAPTEST_WRITER",
        hide_env_values = true,
        value_name = "POSTGRES_URL"
    )]
    writer: Option<String>,
    /// The statement that writes one row, with {mark} inside a text value
    #[arg(long, requires = "writer", value_name = "SQL")]
    insert: Option<String>,
    /// Rows per second
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "ROWS")]
    rate: u32,
    /// How long is waited for what has not come at the end
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    patience: u64,
}

/// Does it.
///
/// # Errors
/// `Bug` when a change was lost, came in another order or without having been written; otherwise what kept it from
/// finding out.
pub(crate) async fn run(args: Args, globals: &Globals) -> Result<(), Error> {
    let stage = Stage::new();
    let done = test(&args, globals, &stage).await;
    stage.stop(Duration::from_secs(2)).await;
    let verdict = done?;
    for line in verdict.lines() {
        print::line(&line)?;
    }
    match verdict.failure() {
        None => Ok(()),
        Some(words) => Err(Error::new(ErrorKind::Bug, words)),
    }
}

async fn test(args: &Args, globals: &Globals, stage: &Stage) -> Result<Verdict, Error> {
    let (address, credential) = whereto(args.url.as_deref(), args.token.as_deref(), globals)?;
    let token = credential.token(&args.role, args.sub.as_deref())?;
    let run = random::hex(4);
    let prefix = format!("gaptest-{run}-");
    let writer = match (&args.writer, &args.insert) {
        (Some(url), Some(insert)) => Some(Writer::open(url, insert, &prefix, stage).await?),
        _ => None,
    };
    let (schema, table) = args.table.split_once('.').unwrap_or(("public", &args.table));
    let wish = json!({ "event": "*", "schema": schema, "table": table });
    let second =
        |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(1));
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut logs: Vec<Arc<Mutex<Log>>> = Vec::new();
    for number in 0..=args.clients {
        let (name, memory, breaks) = match number {
            0 => ("stays".to_owned(), Memory::Since(None), None),
            _ => {
                let breaks = Some(Breaks {
                    every: second(args.break_every),
                    away: second(args.away),
                    until: end,
                });
                let is_known = number % 2 == 0;
                let id = format!("{prefix}{number}");
                let memory = if is_known { Memory::Resume(id) } else { Memory::Since(None) };
                let kind = if is_known { "resume" } else { "since" };
                (format!("{kind} {number}"), memory, breaks)
            }
        };
        let log = Arc::new(Mutex::new(Log::new(name)));
        let prefix = writer.is_some().then(|| prefix.clone());
        let (address, token) = (address.clone(), token.clone());
        let watcher = Watcher {
            address,
            token,
            wish: wish.clone(),
            memory,
            breaks,
            prefix,
            log: Arc::clone(&log),
        };
        let mut client = watcher.join().await?;
        stage.spawn(async move { watcher.watch(&mut client).await });
        logs.push(log);
    }
    print::remark(&format!(
        "joined {address} {} times; {} s of breaking connections begin",
        logs.len(),
        args.seconds
    ));
    let look = || -> Vec<Log> {
        logs.iter().map(|log| log.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    };
    let is_written_here = writer.is_some();
    let due = if let Some(writer) = writer {
        writer.write(args.rate, end).await
    } else {
        // What was under way when the last one joined is not everybody's.
        sleep(SETTLING.min(Duration::from_secs(args.seconds))).await;
        let known = look().first().map_or(0, |log| log.came.len());
        sleep_until(end).await;
        look().first().map(|log| log.keys_from(known)).unwrap_or_default()
    };
    let patience = end + Duration::from_secs(args.patience);
    loop {
        let verdict = Verdict::of(&due, is_written_here, look());
        if due.is_empty() {
            let words = "no change was seen or written, so nothing can be said; give --writer and --insert, or see that \
                         the table is published and changes meanwhile";
            return Err(Error::new(ErrorKind::Misconfigured, words));
        }
        if verdict.lost() == 0 || patience < Instant::now() {
            return Ok(verdict);
        }
        sleep(LOOK).await;
    }
}
