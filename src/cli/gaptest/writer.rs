//! Writes rows that can be told from all others, and knows which were committed.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::cli::{about_flag, print};
use crate::error::{Error, ErrorKind};
use crate::postgres::{Sql, Target, connect, refusal};
use crate::shutdown::Stage;

/// What a row's mark stands for in the statement.
const PLACE: &str = "{mark}";

/// How long is waited before Postgres is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Writer {
    target: Target,
    sql: Sql,
    insert: String,
    prefix: String,
    stage: Stage,
    committed: HashSet<String>,
}

impl Writer {
    /// Connects, and writes a first row to see that it can.
    ///
    /// # Errors
    /// `Misconfigured`: a statement without a place for the mark; else what Postgres answered.
    pub(super) async fn open(
        url: &str,
        insert: &str,
        prefix: &str,
        stage: &Stage,
    ) -> Result<Self, Error> {
        if !insert.contains(PLACE) {
            let words = format!("--insert has no {PLACE}, by which its rows would be known");
            return Err(Error::new(ErrorKind::Misconfigured, words));
        }
        let target = Target::parse(url).map_err(|error| about_flag("--writer", &error))?;
        let sql = connect(&target, "relay-gaptest", &[], stage).await?;
        let (insert, prefix) = (insert.to_owned(), prefix.to_owned());
        let (stage, committed) = (stage.clone(), HashSet::new());
        let writer = Self { target, sql, insert, prefix, stage, committed };
        // Before anybody listens: nobody is to have it.
        writer.insert("first").await.map_err(|error| refusal(&error, "could not write a row"))?;
        Ok(writer)
    }

    /// Writes until `end`; the marks of what was committed. Rows whose fate Postgres did not tell are not among them.
    pub(super) async fn write(mut self, rate: u32, end: Instant) -> HashSet<String> {
        let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0_u64;
        while Instant::now() < end {
            ticks.tick().await;
            number += 1;
            let name = number.to_string();
            match self.insert(&name).await {
                Ok(()) => {
                    self.committed.insert(format!("{}{name}", self.prefix));
                }
                Err(error) => {
                    print::remark(&refusal(&error, "a row could not be written").to_string());
                    self.connect_again(end).await;
                }
            }
        }
        self.committed
    }

    async fn connect_again(&mut self, end: Instant) {
        while self.sql.client.is_closed() && Instant::now() < end {
            sleep(RETRY).await;
            if let Ok(sql) = connect(&self.target, "relay-gaptest", &[], &self.stage).await {
                self.sql = sql;
            }
        }
    }

    async fn insert(&self, name: &str) -> Result<(), tokio_postgres::Error> {
        // A mark is made of letters, digits and dashes, so it is safe within quotes.
        let text = self.insert.replace(PLACE, &format!("{}{name}", self.prefix));
        self.sql.client.batch_execute(&text).await
    }
}
