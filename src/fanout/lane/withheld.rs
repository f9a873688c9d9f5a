//! Changes that cannot be judged: counted, and told to whoever asked for them.

use std::sync::Arc;

use super::Lanes;
use crate::auth::visibility::Trouble;
use crate::fanout::sighting::Sighting;
use crate::hub::{Member, Notice};
use crate::log_rate::admit;
use crate::metrics::reason;
use crate::model::{Relation, Table};

impl Lanes {
    /// Tells members that changes of a table are withheld that cannot be looked at any more.
    pub(in crate::fanout) fn withhold_gone(&self, relation: &Relation, members: &[Arc<Member>]) {
        let Relation { schema, name, .. } = relation;
        self.fanout.metrics.withheld.get_or_create(&reason("table_gone")).inc();
        for member in members.iter().filter(|member| member.is_new_trouble()) {
            let message = format!("Changes of {schema}.{name} are withheld: the table is gone");
            self.way.tell(member, &Notice::of_changes(false, message));
        }
    }

    /// Withholds a change from members of whom it cannot be said whether they asked for it.
    pub(in crate::fanout) fn withhold_of(
        &self,
        sighting: &Sighting,
        members: impl IntoIterator<Item = Arc<Member>>,
        trouble: &Trouble,
    ) {
        for member in members {
            self.withhold(sighting, &member, trouble);
        }
    }

    /// Counts a row that could not be judged and tells the member, once until it is served again.
    pub(super) fn withhold(&self, sighting: &Sighting, member: &Arc<Member>, trouble: &Trouble) {
        let (word, text) = match trouble {
            Trouble::Failed { code, .. } => {
                ("check_failed", format!("the row check failed with SQLSTATE {code}"))
            }
            Trouble::TimedOut => ("check_timed_out", "the row check took too long".to_owned()),
            Trouble::Unavailable | Trouble::RightsChanged => {
                ("check_unavailable", "the database could not be asked".to_owned())
            }
            Trouble::TableGone => ("table_gone", "the table is gone".to_owned()),
            Trouble::Incomplete => (
                "row_incomplete",
                "the log does not have every value that is needed, and the row has changed since"
                    .to_owned(),
            ),
        };
        self.fanout.metrics.withheld.get_or_create(&reason(word)).inc();
        if member.is_new_trouble() {
            let table = sighting.table();
            Self::note(table, member.principal().role(), word, trouble);
            let message =
                format!("Changes of {}.{} are withheld: {text}", table.schema, table.name);
            self.way.tell(member, &Notice::of_changes(false, message));
        }
    }

    /// Logs why rows are withheld.
    fn note(table: &Table, role: &str, reason: &str, trouble: &Trouble) {
        let (sqlstate, error) = match trouble {
            Trouble::Failed { code, message } => (Some(&**code), Some(&**message)),
            _ => (None, None),
        };
        let cause =
            ["withheld", &*table.schema, &*table.name, role, reason, sqlstate.unwrap_or_default()];
        if let Some(left_out) = admit(&cause) {
            let (schema, table) = (&*table.schema, &*table.name);
            tracing::warn!(schema, table, role, reason, sqlstate, error, left_out, "withheld rows");
        }
    }
}
