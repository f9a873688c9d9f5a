//! Names and fixed words as SQL text. Values never become text; they are parameters.

/// A name, quoted.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name as a string constant, right whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// `template` without its comments and with each `{name}` replaced. What is put in is not looked at again.
pub fn fill(template: &str, places: &[(&str, &str)]) -> String {
    let mut sql = String::with_capacity(template.len() + 256);
    for line in template.lines().filter(|line| !line.trim_start().starts_with("--")) {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('{') {
            sql.push_str(before);
            let Some((name, tail)) = after.split_once('}') else { break };
            let value = places.iter().find(|(place, _)| *place == name);
            sql.push_str(value.map_or("", |(_, value)| value));
            rest = tail;
        }
        sql.push_str(rest);
        sql.push('\n');
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_end_their_quotes() {
        assert_eq!(identifier(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal(r"it's\"), r" E'it''s\\'");
        assert_eq!(literal("plain"), "'plain'");
    }

    #[test]
    fn what_is_put_in_is_not_a_template() {
        let template = "-- {a} is a comment\nselect {a}, {b} from {c}";
        assert_eq!(
            fill(template, &[("a", "'{b}'"), ("b", "2"), ("c", "t")]),
            "select '{b}', 2 from t\n"
        );
    }
}
