//! What `relay check` found: facts, and what mends those that are wrong.

use serde_json::{Value, json};

/// How a fact is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// As it should be.
    Good,
    /// It works, and somebody may regret it.
    Odd,
    /// It does not work.
    Bad,
}

/// What to do about a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    /// A statement that can be run as it is, by a superuser or the owner.
    Sql(String),
    /// Anything else a person must do.
    Do(String),
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    /// What was looked at: `postgres.wal_level`, `table public.chat_messages`.
    pub(super) about: String,
    /// How it is meant.
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) says: String,
    /// What mends it, in order.
    pub(super) mends: Vec<Mend>,
}

/// Facts in the order they were found.
#[derive(Debug, Default)]
pub(super) struct Facts(Vec<Fact>);

impl Fact {
    /// Adds a statement that mends it.
    pub(super) fn sql(&mut self, statement: impl Into<String>) -> &mut Self {
        self.mends.push(Mend::Sql(statement.into()));
        self
    }

    /// Adds something a person must do.
    pub(super) fn also(&mut self, action: impl Into<String>) -> &mut Self {
        self.mends.push(Mend::Do(action.into()));
        self
    }

    /// The fact as lines of text, the first with its mark.
    pub(super) fn lines(&self, is_coloured: bool) -> Vec<String> {
        let (mark, colour) = match self.verdict {
            Verdict::Good => ("✓", "32"),
            Verdict::Odd => ("!", "33"),
            Verdict::Bad => ("✗", "31"),
        };
        let mark =
            if is_coloured { format!("\u{1b}[{colour}m{mark}\u{1b}[0m") } else { mark.to_owned() };
        let mut lines = vec![format!("{mark} {:22} {}", self.about, self.says)];
        lines.extend(self.mends.iter().map(|mend| match mend {
            Mend::Sql(statement) => format!("      {statement}"),
            Mend::Do(action) => format!("      → {action}"),
        }));
        lines
    }

    fn to_json(&self) -> Value {
        let verdict = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Odd => "warning",
            Verdict::Bad => "fault",
        };
        let sql: Vec<_> = self.mends.iter().filter_map(Mend::as_sql).collect();
        let actions: Vec<_> = self.mends.iter().filter_map(Mend::as_action).collect();
        json!({ "about": self.about, "verdict": verdict, "says": self.says, "sql": sql, "do": actions })
    }
}

impl Mend {
    fn as_sql(&self) -> Option<&str> {
        match self {
            Self::Sql(statement) => Some(statement),
            Self::Do(_) => None,
        }
    }

    fn as_action(&self) -> Option<&str> {
        match self {
            Self::Sql(_) => None,
            Self::Do(action) => Some(action),
        }
    }
}

impl Facts {
    /// Something as it should be.
    pub(super) fn good(&mut self, about: impl Into<String>, says: impl Into<String>) {
        self.add(about.into(), Verdict::Good, says.into());
    }

    /// Something that works and may be regretted.
    pub(super) fn odd(&mut self, about: impl Into<String>, says: impl Into<String>) -> &mut Fact {
        self.add(about.into(), Verdict::Odd, says.into())
    }

    /// Something that does not work.
    pub(super) fn bad(&mut self, about: impl Into<String>, says: impl Into<String>) -> &mut Fact {
        self.add(about.into(), Verdict::Bad, says.into())
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Fact> {
        self.0.iter()
    }

    /// How many have this verdict.
    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.iter().filter(|fact| fact.verdict == verdict).count()
    }

    /// All of them as JSON.
    pub(super) fn to_json(&self) -> Value {
        self.iter().map(Fact::to_json).collect()
    }

    #[allow(clippy::expect_used, reason = "a fact was pushed on the line before")]
    fn add(&mut self, about: String, verdict: Verdict, says: String) -> &mut Fact {
        self.0.push(Fact { about, verdict, says, mends: Vec::new() });
        self.0.last_mut().expect("a fact was just pushed")
    }
}
