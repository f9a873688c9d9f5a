//! Which transactions a query saw: Postgres' `pg_snapshot`.

use std::str::FromStr;

/// A snapshot in the words of `pg_current_snapshot()`: `xmin:xmax:xip,xip,…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// In progress, sorted.
    running: Box<[u64]>,
}

/// The text is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseSnapshotError;

impl Snapshot {
    /// Whether a query with this snapshot saw what the transaction did, if it committed. `xid` is as the WAL has it,
    /// without its upper half; it is taken to be the nearest such transaction.
    pub fn sees(&self, xid: u32) -> bool {
        const HALF: u64 = 1 << 31;
        let near = self.xmax & !u64::from(u32::MAX) | u64::from(xid);
        let full = if self.xmax + HALF <= near {
            near.saturating_sub(1 << 32)
        } else if near + HALF < self.xmax {
            near + (1 << 32)
        } else {
            near
        };
        full < self.xmin || full < self.xmax && self.running.binary_search(&full).is_err()
    }
}

impl FromStr for Snapshot {
    type Err = ParseSnapshotError;

    fn from_str(text: &str) -> Result<Self, ParseSnapshotError> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| ParseSnapshotError);
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(running), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ParseSnapshotError);
        };
        let running = running.split(',').filter(|xid| !xid.is_empty()).map(number);
        let mut running = running.collect::<Result<Vec<_>, _>>()?;
        running.sort_unstable();
        Ok(Self { xmin: number(xmin)?, xmax: number(xmax)?, running: running.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_what_had_committed() {
        let snapshot: Snapshot = "10:20:12,15".parse().unwrap();
        for (xid, seen) in [(3, true), (9, true), (10, true), (12, false), (13, true), (20, false)]
        {
            assert_eq!(snapshot.sees(xid), seen, "{xid}");
        }
        assert!("10:10:".parse::<Snapshot>().unwrap().sees(9));
    }

    #[test]
    fn the_upper_half_of_a_transaction_id_is_that_of_its_neighbours() {
        let turn = 1u64 << 32;
        let snapshot: Snapshot = format!("{}:{}:", turn - 5, turn + 5).parse().unwrap();
        assert!(snapshot.sees(u32::MAX - 10) && snapshot.sees(u32::MAX) && snapshot.sees(4));
        assert!(!snapshot.sees(5) && !snapshot.sees(1000));
        let before: Snapshot = format!("{}:{}:", turn - 10, turn - 5).parse().unwrap();
        assert!(!before.sees(3), "a transaction after the turn");
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in ["", "1:2", "1:2:3:4", "a:2:", "1:2:x", "-1:2:"] {
            assert_eq!(text.parse::<Snapshot>(), Err(ParseSnapshotError), "{text}");
        }
    }
}
