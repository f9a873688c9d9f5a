//! The conversation of a demo: a visitor and an agent write as their tokens would let them.

use std::time::Duration;

use serde_json::json;
use tokio_postgres::types::ToSql;

use crate::cli::{print, random};
use crate::error::{Error, ErrorKind};
use crate::postgres::Sql;

/// Between one conversation and the next, in paces.
const REST: u32 = 3;

/// Who talks.
#[derive(Debug)]
pub(super) struct People {
    /// The visitor's user.
    pub(super) visitor: String,
    /// The agent's user.
    pub(super) agent: String,
}

/// One conversation.
struct Script {
    visitor: &'static str,
    subject: &'static str,
    lines: &'static [(Side, &'static str)],
    rating: (i16, &'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Visitor,
    Agent,
}

const AGENT: &str = "Ann";

const SCRIPTS: [Script; 3] = [
    Script {
        visitor: "Vera",
        subject: "Where is my parcel?",
        lines: &[
            (Side::Visitor, "Hello support"),
            (Side::Visitor, "My parcel was due yesterday 📦"),
            (Side::Agent, "Hello Vera, let me look it up."),
            (Side::Agent, "It left the depot this morning and arrives today."),
            (Side::Visitor, "Great, thank you!"),
        ],
        rating: (5, "quick and friendly"),
    },
    Script {
        visitor: "Victor",
        subject: "Invoice for March",
        lines: &[
            (Side::Visitor, "Hi"),
            (Side::Agent, "Hi Victor, how can I help?"),
            (Side::Visitor, "I need the invoice for March once more"),
            (Side::Agent, "It is in your mailbox now."),
        ],
        rating: (4, ""),
    },
    Script {
        visitor: "Vida",
        subject: "Opening hours",
        lines: &[
            (Side::Visitor, "Are you open on Saturday?"),
            (Side::Agent, "Yes, from nine to one."),
            (Side::Visitor, "See you then 🙂"),
        ],
        rating: (5, "answered at once"),
    },
];

impl Side {
    const fn sender(self) -> &'static str {
        match self {
            Self::Visitor => "visitor",
            Self::Agent => "agent",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Visitor => Self::Agent,
            Self::Agent => Self::Visitor,
        }
    }
}

impl People {
    /// Two new users.
    pub(super) fn new() -> Self {
        Self { visitor: random::uuid(), agent: random::uuid() }
    }

    /// Makes the agent an agent.
    ///
    /// # Errors
    /// What Postgres answered.
    pub(super) async fn introduce(&self, sql: &Sql) -> Result<(), Error> {
        let text = include_str!("../../../sql/queries/demo_agent.sql");
        sql.client.execute(text, &[&self.agent, &AGENT]).await.map(|_| ()).map_err(failed)
    }

    /// Runs one statement as the user of one side.
    async fn write(
        &self,
        sql: &Sql,
        side: Side,
        text: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), Error> {
        let user = match side {
            Side::Visitor => &self.visitor,
            Side::Agent => &self.agent,
        };
        let claims = json!({ "role": "authenticated", "sub": user }).to_string();
        let act_as = include_str!("../../../sql/queries/demo_act_as.sql");
        sql.client.batch_execute("begin").await.map_err(failed)?;
        sql.client.query(act_as, &[&claims]).await.map_err(failed)?;
        sql.client.execute(text, parameters).await.map_err(failed)?;
        sql.client.batch_execute("commit").await.map_err(failed)
    }
}

/// Talks until stopped, or once.
///
/// # Errors
/// What Postgres answered.
pub(super) async fn run(
    sql: &Sql,
    people: &People,
    pace: Duration,
    is_quiet: bool,
    is_once: bool,
) -> Result<(), Error> {
    let say = |text: &str| if is_quiet { Ok(()) } else { print::line(text) };
    for script in SCRIPTS.iter().cycle() {
        converse(sql, people, script, pace, &say).await?;
        if is_once {
            break;
        }
        tokio::time::sleep(pace * REST).await;
        let forget = include_str!("../../../sql/queries/demo_forget.sql");
        sql.client.execute(forget, &[&people.visitor]).await.map_err(failed)?;
    }
    Ok(())
}

async fn converse(
    sql: &Sql,
    people: &People,
    script: &Script,
    pace: Duration,
    say: &(impl Fn(&str) -> Result<(), Error> + Sync),
) -> Result<(), Error> {
    let session = random::uuid();
    let open = include_str!("../../../sql/queries/demo_open_session.sql");
    let Script { visitor, subject, .. } = script;
    people.write(sql, Side::Visitor, open, &[&session, visitor, subject]).await?;
    say(&format!("  · {visitor} opens a chat: {subject}"))?;
    for &(side, body) in script.lines {
        tokio::time::sleep(pace).await;
        let name = if side == Side::Visitor { visitor } else { AGENT };
        let read = include_str!("../../../sql/queries/demo_read.sql");
        people.write(sql, side, read, &[&session, &side.other().sender()]).await?;
        let text = include_str!("../../../sql/queries/demo_say.sql");
        people.write(sql, side, text, &[&session, &side.sender(), &name, &body]).await?;
        say(&format!("  {name:>8}: {body}"))?;
    }
    tokio::time::sleep(pace).await;
    let close = include_str!("../../../sql/queries/demo_close.sql");
    people.write(sql, Side::Agent, close, &[&session]).await?;
    let (stars, why) = script.rating;
    let rate = include_str!("../../../sql/queries/demo_rate.sql");
    people.write(sql, Side::Visitor, rate, &[&session, &stars, &why]).await?;
    say(&format!("  · {AGENT} closes the chat; {visitor} rates it {stars} of 5"))
}

/// What a demo's own statement came to.
pub(super) fn failed(error: tokio_postgres::Error) -> Error {
    Error::new(ErrorKind::SourceRejected, "the demo could not write").because(error)
}
