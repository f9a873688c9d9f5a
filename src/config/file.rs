//! Reading `relay.toml`, and saying where it is wrong without repeating a secret.
//!
//! A fault names the line and column and points at it. The line itself is repeated only when its key is one whose
//! value is no secret: a misspelt `jwt_secret` or a value under the wrong key must not end up in a log.

use std::ops::Range;
use std::path::Path;

use super::Nonsense;
use super::keys::{KEYS, nearest};
use super::written::Written;

/// The file's settings, and the dotted names of the keys it gives.
pub(crate) struct Parsed {
    pub(crate) written: Written,
    pub(crate) given: Vec<String>,
}

/// Reads the file.
///
/// # Errors
/// It cannot be read, is not TOML, has an unknown key, or a value of the wrong type.
pub(crate) fn read(path: &Path) -> Result<Parsed, Nonsense> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&name, &text),
        Err(error) => {
            Err(Nonsense { key: name, reason: format!("the file cannot be read: {error}") })
        }
    }
}

/// Parses the text of the file called `name`.
fn parse(name: &str, text: &str) -> Result<Parsed, Nonsense> {
    let fault = |error: toml::de::Error| describe(name, text, error.message(), error.span());
    let written = toml::from_str(text).map_err(fault)?;
    let table: toml::Table = toml::from_str(text).map_err(fault)?;
    let mut given = Vec::new();
    for (section, keys) in &table {
        for key in keys.as_table().into_iter().flatten().map(|(key, _)| key) {
            given.push(format!("{section}.{key}"));
        }
    }
    Ok(Parsed { written, given })
}

/// The fault, with its place and what to do.
fn describe(name: &str, text: &str, message: &str, span: Option<Range<usize>>) -> Nonsense {
    let mut reason = without_values(message);
    if let Some(unknown) = quoted_after(message, "unknown field `") {
        reason.push_str(&suggestion(unknown));
    }
    let Some(place) = span.and_then(|span| Place::find(text, &span)) else {
        return Nonsense { key: name.to_owned(), reason };
    };
    let (row, column) = (place.row, place.column);
    match shown(place.line) {
        Some(line) if column <= line.chars().count() => {
            let marks = place.width.clamp(1, line.chars().count() + 1 - column);
            let caret = format!("{:1$}{2:^<3$}", "", column - 1, "", marks);
            reason = format!("{reason}\n{row:>6} | {line}\n       | {caret}");
        }
        Some(line) => reason = format!("{reason}\n{row:>6} | {line}"),
        None => reason.push_str(" (the line is not repeated: it may hold a secret)"),
    }
    Nonsense { key: format!("{name}, line {row}, column {column}"), reason }
}

/// Where a span lies; rows and columns count characters from one.
struct Place<'a> {
    row: usize,
    column: usize,
    width: usize,
    line: &'a str,
}

impl<'a> Place<'a> {
    fn find(text: &'a str, span: &Range<usize>) -> Option<Self> {
        let before = text.get(..span.start)?;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text.get(start..)?.lines().next().unwrap_or_default();
        let column = text.get(start..span.start)?.chars().count() + 1;
        let width = text.get(span.clone())?.lines().next().unwrap_or_default().chars().count();
        Some(Self { row: before.matches('\n').count() + 1, column, width, line })
    }
}

/// As much of a line as cannot be a secret: all of it under a plain key, the key under any other.
fn shown(line: &str) -> Option<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if line.trim_start().starts_with('[') {
        let end = line.rfind(']')? + 1;
        let head = line.get(..end)?;
        return head.chars().all(|c| is_name(c) || "[] ".contains(c)).then(|| head.to_owned());
    }
    let (key, value) = line.split_once('=')?;
    if !key.trim().chars().all(is_name) {
        return None;
    }
    let last = key.trim().rsplit('.').next().unwrap_or_default();
    let is_plain = KEYS.iter().any(|known| known.name == last && !known.is_secret);
    let holds_address = value.contains("://") || value.contains('@') || value.contains('{');
    Some(if is_plain && !holds_address { line.to_owned() } else { format!("{key}= …") })
}

/// The message without the text that was found where something else was expected.
fn without_values(message: &str) -> String {
    let found = message.find(": string \"").zip(message.rfind("\", expected"));
    match found {
        Some((start, end)) if start < end => {
            let head = message.get(..start).unwrap_or_default();
            format!("{head}: a string{}", message.get(end + 1..).unwrap_or_default())
        }
        _ => message.to_owned(),
    }
}

/// What the unknown key was probably meant to be.
fn suggestion(unknown: &str) -> String {
    if let Some(home) = KEYS.iter().find(|key| key.name == unknown) {
        return format!("; `{unknown}` belongs to [{}]", home.section);
    }
    let names = KEYS.iter().flat_map(|key| [key.section, key.name]);
    nearest(unknown, names).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

fn quoted_after<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.split('`').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        parse("relay.toml", text).err().expect("the text is faulty").to_string()
    }

    #[test]
    fn an_unknown_key_is_pointed_at_and_the_valid_ones_are_named() {
        assert_eq!(
            fault("[http]\ndrain = \"1s\"\n  lisen = \"127.0.0.1:1\"\n"),
            "relay.toml, line 3, column 3: unknown field `lisen`, expected one of `listen`, `admin_listen`, `trusted_proxies`, `drain`, `pages`; \
             did you mean `listen`?\n     3 |   lisen = …\n       |   ^^^^^"
        );
        assert!(fault("[http]\npool = 3\n").contains("`pool` belongs to [postgres]"));
        assert!(fault("[posgres]\n").contains("did you mean `postgres`?"));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_pointed_at() {
        let text = fault("[postgres]\npool = \"four\"\n");
        assert!(text.contains("line 2, column 8"), "{text}");
        assert!(text.contains("| pool = \"four\"\n       |        ^^^^^^"), "{text}");
        let text = fault("[http]\ndrain = 10\n");
        assert!(text.contains("expected a time such as \"250ms\""), "{text}");
        let text = fault("[http]\ndrain = \"10\"\n");
        assert!(text.contains("line 2, column 9: expected a time"), "{text}");
    }

    #[test]
    fn a_secret_is_never_repeated() {
        for text in [
            "[auth]\njwt_secrte = \"canary\"\n",
            "[auth]\njwt_secret = \"canary\n",
            "[auth]\njwt_secret = canary\n",
            "[auth]\njwt_secret = [\"canary\"]\n",
            "[auth]\njwt_secret = \"\"\"\ncanary\n\\q\"\"\"\n",
            "[auth]\njwt_secret = \"canary\"\njwt_secret = \"canary\"\n",
            "[auth]\njwt_secret = \"canary\" x\n",
            "[auth]\n\"jwt_secret\" = \"canary\" x\n",
            "auth = \"canary\"\n",
            "auth = { jwt_secret = \"canary\", x = 1 }\n",
            "auth.jwt_secret = \"canary\" \"\n",
            "postgres = \"postgres://relay:canary@db/app\"\n",
            "[postgres]\nurl = \"postgres://relay:canary@db/app\n",
            "[postgres]\npublication = postgres://relay:canary@db/app\n",
            "[postgres]\npool = \"host=db password=canary user=relay dbname=app user=x@y\"\n",
            "[auth]\njwks = { keys = [{ kty = \"oct\", k = \"canary\" }] }\n",
            "canary\n",
        ] {
            let told = fault(text);
            assert!(!told.contains("canary"), "{text}\n{told}");
        }
    }

    #[test]
    fn bytes_that_are_not_toml_are_a_fault_and_never_a_panic() {
        for text in [
            "[",
            "=",
            "\u{0}",
            "[http",
            "é = ",
            "[é]\n",
            "a.b.c",
            "[http]\nlisten = \"é",
            "[[http]]\n",
        ] {
            assert!(fault(text).starts_with("relay.toml"), "{text:?}");
        }
    }

    #[test]
    fn the_given_keys_are_known() {
        let parsed =
            parse("relay.toml", "http.drain = \"1s\"\n[postgres]\npool = 2\n").ok().unwrap();
        assert_eq!(parsed.given, ["http.drain", "postgres.pool"]);
        assert_eq!(parsed.written.postgres.pool, 2);
    }
}
