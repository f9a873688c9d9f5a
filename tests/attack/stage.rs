//! One attack's stage: a database, a relay under its default limits, somebody who means no harm, and an application that
//! writes long rows all the while.

use std::time::Duration;

use super::attackers::{Form, Target};
use super::attacks::Attack;
use super::subscriber::Subscriber;
use crate::support::database::connect;
use crate::support::{Cluster, Database, Relay, until};

/// The pause between two long rows: the pace of the application, so time itself is meant.
const LONG_ROW_INTERVAL: Duration = Duration::from_millis(500);

/// Bytes of a long row, and of every fourth one.
const LONG: (i32, i32) = (7_999, 59_999);

/// Everything that is there before the attack begins.
#[derive(Debug)]
pub struct Stage {
    pub subscriber: Subscriber,
    pub relay: Relay,
    pub database: Database,
    application: tokio::task::JoinHandle<()>,
}

impl Stage {
    pub async fn set(attack: &Attack, form: Form) -> Self {
        let database = Cluster::shared().database().await.with_roles().await;
        database.execute(include_str!("tables.sql")).await;
        let database = if attack.has_private { database.with_realtime() } else { database };
        database.execute(attack.tables).await;
        let mut settings = vec![("RUST_LOG", "info")];
        settings.extend(attack.settings);
        if form == Form::Short {
            settings.extend(attack.short_settings);
        }
        let relay = Relay::start_with(&database, &settings).await;
        let subscriber = Subscriber::start(relay.port(), &database.url).await;
        let application = tokio::spawn(write(database.url.clone()));
        Self { subscriber, relay, database, application }
    }

    /// The attack, not begun.
    pub fn target(&self, form: Form) -> Target {
        Target::new(self.relay.port(), form)
    }

    /// Lines that the relay has logged.
    pub fn log_lines(&self) -> usize {
        self.relay.log_text().lines().count()
    }

    /// Waits until nobody is connected but the subscriber.
    pub async fn is_left(&self) {
        until("the attackers' sockets to be gone", || async {
            (self.relay.metric("relay_connections") < 1.5).then_some(())
        })
        .await;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.application.abort();
    }
}

/// Writes long rows for ever.
async fn write(url: String) {
    let sql = connect(&url).await;
    // An odd number of one letter, then another: what costs a regular expression with references back the most.
    let insert = "insert into notes (body) values (repeat('a', $1) || 'b')";
    for number in 1_u64.. {
        let length = if number.is_multiple_of(4) { LONG.1 } else { LONG.0 };
        // Away only once the database is.
        if sql.execute(insert, &[&length]).await.is_err() {
            return;
        }
        tokio::time::sleep(LONG_ROW_INTERVAL).await;
    }
}
