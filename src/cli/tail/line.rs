//! One change as one readable line: time, what happened, the key, what changed.

use serde_json::{Map, Value};

/// Longer values are cut, so that a change stays a line.
const WIDEST: usize = 60;

/// Renders the `data` of a `postgres_changes` message.
pub(super) fn render(data: &Value, is_coloured: bool) -> String {
    let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
    let empty = Map::new();
    let row = |key: &str| data.get(key).and_then(Value::as_object).unwrap_or(&empty);
    let (new, old) = (row("record"), row("old_record"));
    let happened = text("type");
    let shown = if happened == "DELETE" { old } else { new };
    let key = key_of(shown, old, happened == "UPDATE");
    let mut parts = vec![
        paint(is_coloured, "2", clock(text("commit_timestamp"))),
        paint(is_coloured, colour(happened), &format!("{happened:6}")),
        format!("{}.{}", text("schema"), text("table")),
    ];
    if let Some((name, value)) = &key {
        parts.push(paint(is_coloured, "1", &format!("{name}={}", short(value))));
    }
    let key = key.map(|(name, _)| name);
    let rest = shown.iter().filter(|(name, _)| Some(name.as_str()) != key);
    // With the whole old row an update shows what became of what; without it, everything.
    let is_compared = happened == "UPDATE" && old.len() > 1;
    parts.extend(rest.filter_map(|(name, value)| match old.get(name) {
        Some(before) if is_compared => {
            (before != value).then(|| format!("{name}: {} → {}", short(before), short(value)))
        }
        _ if value.is_null() => None,
        _ => Some(format!("{name}={}", short(value))),
    }));
    if let Some(errors) = data.get("errors").and_then(Value::as_array) {
        let words: Vec<_> = errors.iter().filter_map(Value::as_str).collect();
        parts.push(paint(is_coloured, "31", &words.join("; ")));
    }
    parts.join("  ")
}

/// The key as far as a client can tell: the only column of an old row, else `id`, else the first column.
fn key_of<'a>(
    shown: &'a Map<String, Value>,
    old: &'a Map<String, Value>,
    is_update: bool,
) -> Option<(&'a str, &'a Value)> {
    let only = (is_update && old.len() == 1).then(|| old.keys().next()).flatten();
    let name = only.map(String::as_str).filter(|name| shown.contains_key(*name));
    let id = || shown.get_key_value("id");
    let first = || shown.iter().next();
    name.and_then(|name| shown.get_key_value(name))
        .or_else(id)
        .or_else(first)
        .map(|(name, value)| (name.as_str(), value))
}

fn clock(timestamp: &str) -> &str {
    timestamp.split_once('T').map_or(timestamp, |(_, time)| time.trim_end_matches('Z'))
}

fn colour(happened: &str) -> &'static str {
    match happened {
        "INSERT" => "32",
        "DELETE" => "31",
        _ => "33",
    }
}

fn paint(is_coloured: bool, code: &str, text: &str) -> String {
    if is_coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// A value cut to a readable length; control characters cannot reach the terminal, as JSON escapes them.
fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    };
    // C1 controls and the like are not escaped by JSON, but some terminals obey them.
    let safe = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut cut: String = safe.take(WIDEST).collect();
    if cut.len() < text.len() && text.chars().count() > WIDEST {
        cut.push('…');
    }
    cut
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:+".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_line(mut data: Value, expected: &str) {
        let head = json!({ "schema": "public", "table": "t", "commit_timestamp": "2026-01-02T03:04:05.678Z" });
        data.as_object_mut().unwrap().extend(head.as_object().unwrap().clone());
        assert_eq!(render(&data, false), format!("03:04:05.678  {expected}"));
    }

    #[test]
    fn an_insert_shows_its_values() {
        check_line(
            json!({ "type": "INSERT", "record": { "body": "Hello support", "id": 7, "read_at": null } }),
            r#"INSERT  public.t  id=7  body="Hello support""#,
        );
    }

    #[test]
    fn an_update_with_its_old_row_shows_what_changed() {
        check_line(
            json!({ "type": "UPDATE",
                "record": { "id": 7, "status": "active", "rating": null },
                "old_record": { "id": 7, "status": "waiting", "rating": null } }),
            "UPDATE  public.t  id=7  status: waiting → active",
        );
    }

    #[test]
    fn an_update_without_its_old_row_shows_all() {
        check_line(
            json!({ "type": "UPDATE", "record": { "code": "a", "n": 1 }, "old_record": { "code": "a" } }),
            "UPDATE  public.t  code=a  n=1",
        );
    }

    #[test]
    fn a_delete_shows_the_key() {
        check_line(
            json!({ "type": "DELETE", "old_record": { "id": 7 } }),
            "DELETE  public.t  id=7",
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let data = json!({ "type": "INSERT", "record": { "id": "\u{1b}[2J\u{9b}31m" } });
        assert!(!render(&data, false).chars().any(char::is_control));
    }

    #[test]
    fn long_values_are_cut() {
        let data = json!({ "type": "INSERT", "record": { "id": "é".repeat(500) } });
        assert!(render(&data, false).chars().count() < 120);
    }
}
