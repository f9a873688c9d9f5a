//! Points in time as Postgres counts them, and as clients read them.

use std::fmt;

/// Seconds between 1970-01-01 and 2000-01-01, where Postgres starts counting.
const POSTGRES_EPOCH_S: i64 = 946_684_800;

/// A moment in microseconds since 2000-01-01 00:00 UTC, as the WAL stores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTime(i64);

impl PgTime {
    /// A moment from Postgres' own count of microseconds.
    pub const fn from_pg_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// A moment from microseconds since 1970.
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros.saturating_sub(POSTGRES_EPOCH_S * 1_000_000))
    }

    /// Microseconds since 2000-01-01 UTC.
    pub const fn pg_micros(self) -> i64 {
        self.0
    }

    /// Microseconds since 1970-01-01 UTC.
    pub const fn unix_micros(self) -> i64 {
        self.0.saturating_add(POSTGRES_EPOCH_S * 1_000_000)
    }
}

/// `2026-11-20T22:07:06.925Z`: UTC, milliseconds, as Supabase writes `commit_timestamp`.
impl fmt::Display for PgTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.unix_micros().div_euclid(1000);
        let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(days);
        let (seconds, ms) = (of_day / 1000, of_day % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

/// The proleptic Gregorian date `days` after 1970-01-01 (era arithmetic over 400-year cycles).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_utc_milliseconds() {
        assert_eq!(PgTime::from_pg_micros(0).to_string(), "2000-01-01T00:00:00.000Z");
        assert_eq!(PgTime::from_unix_micros(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            PgTime::from_unix_micros(1_709_210_096_925_999).to_string(),
            "2024-02-29T12:34:56.925Z"
        );
        assert_eq!(PgTime::from_unix_micros(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }
}
