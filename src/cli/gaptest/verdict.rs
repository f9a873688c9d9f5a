//! What clients were given against what they should have been. Pure.

use std::collections::HashSet;

use crate::model::Position;

/// One change that came.
#[derive(Clone, Debug)]
pub(super) struct Came {
    /// What it is known by: its mark, or its id.
    pub(super) key: String,
    /// Its id, if it has one.
    pub(super) id: Option<Position>,
    /// On which of the client's connections, from 1.
    pub(super) connection: u32,
}

/// All that came to one client.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// What it is called.
    pub(super) name: String,
    /// Changes, as they came.
    pub(super) came: Vec<Came>,
    /// Notices of gaps and other errors.
    pub(super) told: Vec<String>,
    /// How often it joined.
    pub(super) connections: u32,
}

impl Log {
    /// Nothing has come.
    pub(super) const fn new(name: String) -> Self {
        Self { name, came: Vec::new(), told: Vec::new(), connections: 0 }
    }

    /// What came after the first so many, once each.
    pub(super) fn keys_from(&self, first: usize) -> HashSet<String> {
        self.came.iter().skip(first).map(|came| came.key.clone()).collect()
    }
}

/// How one client fared.
#[derive(Debug, PartialEq, Eq)]
struct Fate {
    name: String,
    connections: u32,
    received: usize,
    repeated: usize,
    lost: usize,
    reordered: usize,
    told: Vec<String>,
}

/// How all fared.
#[derive(Debug)]
pub(super) struct Verdict {
    due: usize,
    is_written_here: bool,
    fates: Vec<Fate>,
}

impl Verdict {
    /// Compares.
    pub(super) fn of(due: &HashSet<String>, is_written_here: bool, logs: Vec<Log>) -> Self {
        let fates = logs.into_iter().map(|log| fate(due, log)).collect();
        Self { due: due.len(), is_written_here, fates }
    }

    /// How many changes are missing, over all clients.
    pub(super) fn lost(&self) -> usize {
        self.fates.iter().map(|fate| fate.lost).sum()
    }

    /// One line per client and one in all, to be read and pasted.
    pub(super) fn lines(&self) -> Vec<String> {
        let whence = if self.is_written_here { "written" } else { "seen by the client that stays" };
        let mut lines = vec![
            format!("relay {} gaptest: {} changes {whence}", env!("CARGO_PKG_VERSION"), self.due),
            "client        joins   received   again   lost   reordered   told".to_owned(),
        ];
        for fate in &self.fates {
            let Fate { name, connections, received, repeated, lost, reordered, told } = fate;
            lines.push(format!(
                "{name:12} {connections:6} {received:10} {repeated:7} {lost:6} {reordered:11} {:6}",
                told.len()
            ));
        }
        let told: HashSet<&String> = self.fates.iter().flat_map(|fate| &fate.told).collect();
        let mut told: Vec<_> = told.into_iter().map(|text| format!("told: {text}")).collect();
        told.sort_unstable();
        told.truncate(10);
        lines.extend(told);
        if self.failure().is_none() {
            lines.push("nothing was lost, nothing came in another order".to_owned());
        }
        lines
    }

    /// What is wrong, if anything is.
    pub(super) fn failure(&self) -> Option<String> {
        let reordered: usize = self.fates.iter().map(|fate| fate.reordered).sum();
        let silent = self.fates.iter().filter(|fate| fate.lost > 0 && fate.told.is_empty()).count();
        match (self.lost(), reordered) {
            (0, 0) => None,
            (0, reordered) => Some(format!("{reordered} changes came in another order")),
            (lost, _) => Some(format!(
                "{lost} changes were lost, by {silent} clients without being told of a gap"
            )),
        }
    }
}

fn fate(due: &HashSet<String>, log: Log) -> Fate {
    let Log { name, came, told, connections } = log;
    let mut had: HashSet<&str> = HashSet::with_capacity(came.len());
    let (mut repeated, mut reordered) = (0, 0);
    let mut before: Option<&Came> = None;
    for one in &came {
        repeated += usize::from(!had.insert(&one.key));
        if let (Some(id), Some((earlier, connection))) =
            (one.id, before.and_then(|before| Some((before.id?, before.connection))))
        {
            let is_lower = (id.commit_lsn, id.index) < (earlier.commit_lsn, earlier.index);
            let is_follower = connection == one.connection && earlier.epoch == id.epoch;
            reordered += usize::from(is_follower && is_lower);
        }
        before = Some(one);
    }
    let received = due.iter().filter(|key| had.contains(key.as_str())).count();
    Fate { name, connections, received, repeated, lost: due.len() - received, reordered, told }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(came: &[(&str, &str, u32)]) -> Log {
        let came = came.iter().map(|(key, id, connection)| Came {
            key: (*key).to_owned(),
            id: id.parse().ok(),
            connection: *connection,
        });
        Log { came: came.collect(), ..Log::new("a".to_owned()) }
    }

    fn verdict(came: &[(&str, &str, u32)]) -> Verdict {
        let due = ["x", "y"].map(str::to_owned).into();
        Verdict::of(&due, true, vec![log(came)])
    }

    #[test]
    fn everything_in_order_is_fine_also_when_some_comes_again_after_a_break() {
        let all =
            verdict(&[("x", "1:1:0", 1), ("y", "1:2:0", 1), ("x", "1:1:0", 2), ("y", "1:2:0", 2)]);
        assert_eq!(all.failure(), None);
        assert_eq!(all.fates[0].repeated, 2);
        assert!(all.lines().last().unwrap().starts_with("nothing was lost"));
    }

    #[test]
    fn what_is_missing_or_out_of_order_is_said() {
        let lost = verdict(&[("x", "1:1:0", 1)]);
        assert_eq!(lost.lost(), 1);
        assert!(lost.failure().unwrap().contains("1 clients without being told"));
        let reordered = verdict(&[("y", "1:2:0", 1), ("x", "1:1:0", 1)]);
        assert!(reordered.failure().unwrap().contains("another order"));
    }

    #[test]
    fn changes_without_ids_are_compared_by_their_marks() {
        assert_eq!(verdict(&[("y", "", 1), ("x", "", 1)]).failure(), None);
    }
}
