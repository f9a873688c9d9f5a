//! The session settings that connections which render values pin, whatever the server, database or role would choose.
//!
//! The text of a value depends on them, and a value must read the same in the stream, in a first read and in a filter's
//! operand. They come after the operator's own `options`, so they win. Connections that act as somebody do not pin them
//! (see `acting`).

/// ISO dates, Postgres' intervals, hex bytes, UTC; and floats in the shortest form that reads back exactly, for
/// which every value above 0 will do: 3 is what Postgres' own subscribers send.
pub const PINNED: [(&str, &str); 5] = [
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("timezone", "UTC"),
];

/// What no connection takes from its login role or database: another role than the one that logged in, and limits that would
/// end what takes long by its nature, as the making of a slot does. What needs a limit sets its own.
const UNDISTURBED: [(&str, &str); 5] = [
    ("role", "none"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
];

/// The startup packet's `options`: the operator's own, the pinned ones, then `more`.
pub(super) fn pinned(own: Option<&str>, more: &[(&str, &str)]) -> String {
    plain(own, &[&PINNED, more].concat())
}

/// The same without the pinned ones.
pub(super) fn plain(own: Option<&str>, more: &[(&str, &str)]) -> String {
    let mut options = own.unwrap_or_default().to_owned();
    for (name, value) in UNDISTURBED.iter().chain(more) {
        if !options.is_empty() {
            options.push(' ');
        }
        options.push_str("-c ");
        options.push_str(name);
        options.push('=');
        for char in value.chars() {
            if char == '\\' || char.is_whitespace() {
                options.push('\\');
            }
            options.push(char);
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_come_last_and_blanks_are_escaped() {
        let options = pinned(Some("-c datestyle=German"), &[("search_path", r"a, b\c")]);
        assert!(options.starts_with("-c datestyle=German -c role=none "));
        assert!(options.ends_with(r" -c search_path=a,\ b\\c"));
    }
}
