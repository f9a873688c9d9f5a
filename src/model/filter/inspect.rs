//! Terms printed the way Elixir inspects them, because clients and their tests know the error texts that quote them.

use std::fmt::Write as _;

use super::{Operand, Predicate};

/// A string: `"a\"b"`.
pub fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{7f}' => out.push_str("\\d"),
            '#' if characters.peek() == Some(&'{') => out.push_str("\\#"),
            // Writing to a String cannot fail.
            control if control.is_control() => {
                let _ = write!(out, "\\x{{{:X}}}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

/// A list of strings: `["a", "b"]`.
pub fn strings<S: AsRef<str>>(texts: &[S]) -> String {
    let shown: Vec<_> = texts.iter().map(|text| string(text.as_ref())).collect();
    format!("[{}]", shown.join(", "))
}

/// Predicates: `[{"id", "eq", "1", false}]`, the last member telling whether it was negated.
pub fn predicates(predicates: &[Predicate]) -> String {
    let shown = |predicate: &Predicate| {
        let value = match &predicate.operand {
            Operand::Text(text) => string(text),
            Operand::Keyword(keyword) => string(keyword.word()),
            Operand::List(elements) => {
                let element = |element: &Option<Box<str>>| {
                    element.as_deref().map_or_else(|| "nil".to_owned(), string)
                };
                format!("[{}]", elements.iter().map(element).collect::<Vec<_>>().join(", "))
            }
        };
        let (column, word) = (string(&predicate.column), string(predicate.operator.word()));
        format!("{{{column}, {word}, {value}, {}}}", predicate.negated)
    };
    format!("[{}]", predicates.iter().map(shown).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::filter::parse;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(string("a\"\\\n\u{1}#{x}#é"), r#""a\"\\\n\x{1}\#{x}#é""#);
        assert_eq!(strings(&["a", "b"]), r#"["a", "b"]"#);
        assert_eq!(strings::<&str>(&[]), "[]");
    }

    #[test]
    fn predicates_are_four_tuples() {
        let parsed = parse("notacolumn=eq.123,b=not.in.(1,2)").expect("a good filter");
        assert_eq!(
            predicates(&parsed),
            r#"[{"notacolumn", "eq", "123", false}, {"b", "in", "{1,2}", true}]"#
        );
    }
}
