//! How often everything occurred, and what was found.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::causes;
use super::compare::{Class, Fault};

/// What one history of a hundred has at least.
const DIMENSIONS: &[&str] = &[
    "Default",
    "Full",
    "Index",
    "Nothing",
    "LongText",
    "long-code",
    "out-of-line",
    "many-generated",
    "domain-generated",
    "domain-not-null",
    "domain-not-valid",
    "hidden-type",
    "HiddenFunction",
    "relay-may-use",
    "JsonNull",
    "PlainNull",
    "TableOid",
    "WholeRow",
    "column-list",
    "partitioned",
    "shift-of-parent",
    "LeavesShut",
    "recreated",
    "recreated-with-rows",
    "UsageRevoked",
    "MembershipLost",
    "BypassLost",
    "FunctionReplaced",
    "SelectRevoked",
    "RestrictiveAdded",
    "LeavesSetting",
    "since",
    "since-shift",
    "odd-name",
];

#[derive(Debug, Default)]
pub struct Tally {
    pub histories: u64,
    pub changes: u64,
    pub delivered: u64,
    pub hidden: u64,
    /// Judged by rights of before, as may be for about a second where nothing is asked of Postgres.
    pub late: u64,
    pub withheld: BTreeMap<&'static str, u64>,
    pub withheld_without: u64,
    /// Histories by what they are about.
    pub about: BTreeMap<String, u64>,
    pub faults: Vec<Fault>,
    /// How long each history took, by its seed.
    pub took: Vec<(Duration, u64)>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.histories += other.histories;
        self.changes += other.changes;
        self.delivered += other.delivered;
        self.hidden += other.hidden;
        self.late += other.late;
        self.withheld_without += other.withheld_without;
        for (excuse, count) in other.withheld {
            *self.withheld.entry(excuse).or_default() += count;
        }
        for (tag, count) in other.about {
            *self.about.entry(tag).or_default() += count;
        }
        self.faults.extend(other.faults);
        self.took.extend(other.took);
    }

    /// Dimensions that occurred too rarely for so many histories.
    pub fn rare(&self) -> Vec<String> {
        let least = self.histories / 100;
        let count = |tag: &str| self.about.get(tag).copied().unwrap_or_default();
        let rare = DIMENSIONS.iter().filter(|tag| count(tag) < least);
        rare.map(|tag| format!("{tag} {}", count(tag))).collect()
    }

    /// All of it, for people.
    pub fn report(&self) -> String {
        let mut text = format!(
            "{} histories, {} changes: {} delivered, {} hidden, {} late, {} withheld for a reason, {} without",
            self.histories,
            self.changes,
            self.delivered,
            self.hidden,
            self.late,
            self.withheld.values().sum::<u64>(),
            self.withheld_without
        );
        for (excuse, count) in &self.withheld {
            write!(text, "\n  withheld {count}: {excuse}").unwrap();
        }
        let mut took = self.took.clone();
        took.sort_by_key(|one| std::cmp::Reverse(*one));
        let slowest =
            took.iter().take(5).map(|(took, seed)| format!("{seed} {} ms", took.as_millis()));
        let slowest: Vec<String> = slowest.collect();
        let middle = took.get(took.len() / 2).map_or(0, |(took, _)| took.as_millis());
        let total = took.iter().map(|(took, _)| *took).sum::<Duration>();
        write!(
            text,
            "\n  took {} s, the middle one {middle} ms, most of all {}",
            total.as_secs(),
            slowest.join(", ")
        )
        .unwrap();
        let about: Vec<String> =
            self.about.iter().map(|(tag, count)| format!("{tag} {count}")).collect();
        write!(text, "\n  about: {}", about.join(", ")).unwrap();
        text
    }

    /// The faults by class and by what they may come of, and which histories show them.
    pub fn found(&self) -> String {
        let mut alike: BTreeMap<(Class, String), Vec<u64>> = BTreeMap::new();
        for fault in &self.faults {
            let causes = causes::of(fault);
            let name =
                if causes.is_empty() { "nothing known".to_owned() } else { causes.join(" + ") };
            alike.entry((fault.class, name)).or_default().push(fault.seed);
        }
        let mut text = String::new();
        for ((class, causes), mut seeds) in alike {
            let count = seeds.len();
            seeds.sort_unstable();
            seeds.dedup();
            let some: Vec<String> = seeds.iter().take(8).map(u64::to_string).collect();
            write!(text, "\n{class:?} {count} in {}: {causes} ({})", seeds.len(), some.join(" "))
                .unwrap();
        }
        text
    }
}
