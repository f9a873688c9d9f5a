//! What Postgres says, without the values it quotes.

use tokio_postgres::error::DbError;

/// Where a value may begin, in the languages that Postgres speaks.
const QUOTES: [char; 9] = [':', '"', '«', '»', '„', '“', '”', '‘', '‚'];

/// The message of an error about data (class 22) up to the value it is about, which may be one that whoever asked may
/// not read: policies and triggers cast columns. `invalid input syntax for type uuid: "…"` ends before the colon.
pub fn without_values(error: &DbError) -> String {
    cut(error.message())
}

fn cut(message: &str) -> String {
    let start = message.split(QUOTES).next().unwrap_or_default().trim();
    // Some begin with it: `value "…" is out of range for type integer`.
    let is_whole = start.len() == message.trim().len() || start.contains(' ');
    if is_whole { start } else { "a value does not fit" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_told() {
        for (said, told) in [
            ("division by zero", "division by zero"),
            (
                "invalid input syntax for type uuid: \"secret\"",
                "invalid input syntax for type uuid",
            ),
            (
                "invalid input value for enum state: \"secret\"",
                "invalid input value for enum state",
            ),
            ("invalid value \"secret\" for \"YYYY\"", "invalid value"),
            ("value \"secret\" is out of range for type integer", "a value does not fit"),
            ("Wert »secret« ist außerhalb des gültigen Bereichs", "a value does not fit"),
            ("la valeur « secret » est en dehors des limites", "la valeur"),
            ("\"secret\" is not a number", "a value does not fit"),
            ("", ""),
        ] {
            assert_eq!(cut(said), told);
        }
    }
}
