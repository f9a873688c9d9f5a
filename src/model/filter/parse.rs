//! Reads the `filter` string of a subscription: segments, operators, quotes.
//!
//! The grammar, exactly as supabase-js clients rely on it:
//!
//! ```text
//! filter  := "" | blank | segment ("," segment)*         all of them must hold
//! segment := column "=" ["not."] operator "." value      first "=" ends the column, first "." the operator
//! value   := anything | "quoted" | "(" list ")" for `in`
//! ```
//!
//! Never panics, whatever the input. Operands are left as written, except that quotes are taken off and the
//! parentheses of `in` become the braces of a Postgres array literal; what the text means is for Postgres to say.

use std::fmt;

use super::{Operand, Operator, Predicate, inspect};

/// Why a filter cannot be read; prints as the protocol's error text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// A segment without `=`, an operator without `.`, or an unknown operator: the pieces that were found.
    Pieces(Vec<String>),
    /// Nothing between two commas.
    EmptySegment,
    /// The value of `in` has no parentheses around it.
    NoParentheses,
    /// More conditions than [`MOST_CONDITIONS`].
    TooMany,
}

/// Conditions of one filter; each is matched against every change of its table.
pub const MOST_CONDITIONS: usize = 100;

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Error parsing `filter` params: ")?;
        match self {
            Self::Pieces(pieces) => f.write_str(&inspect::strings(pieces)),
            Self::EmptySegment => {
                f.write_str("filter must not contain empty segments (check for extra commas)")
            }
            Self::NoParentheses => f.write_str("`in` filter value must be wrapped by parentheses"),
            Self::TooMany => write!(f, "too many conditions. Maximum {MOST_CONDITIONS}"),
        }
    }
}

impl std::error::Error for FilterError {}

/// Reads a filter; blank means none.
///
/// # Errors
/// See [`FilterError`].
pub fn parse(filter: &str) -> Result<Vec<Predicate>, FilterError> {
    if filter.trim().is_empty() {
        return Ok(Vec::new());
    }
    let segments = segments(filter);
    if MOST_CONDITIONS < segments.len() {
        return Err(FilterError::TooMany);
    }
    segments.into_iter().map(|segment| predicate(segment.trim())).collect()
}

/// Splits at commas outside parentheses and quotes. A quote opens only after `.`, `(` or `,`; a closing parenthesis
/// too many is an ordinary character.
fn segments(filter: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut depth = 0_usize;
    let mut is_quoted = false;
    let mut previous = None;
    let mut characters = filter.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '\\' if is_quoted => {
                characters.next();
            }
            '"' if is_quoted => is_quoted = false,
            _ if is_quoted => (),
            '"' => is_quoted = matches!(previous, Some('.' | '(' | ',')),
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.push(filter.get(start..place).unwrap_or_default());
                start = place + 1;
            }
            _ => (),
        }
        previous = Some(character);
    }
    found.push(filter.get(start..).unwrap_or_default());
    found
}

fn predicate(segment: &str) -> Result<Predicate, FilterError> {
    if segment.is_empty() {
        return Err(FilterError::EmptySegment);
    }
    let pieces = |pieces: &[&str]| {
        FilterError::Pieces(pieces.iter().map(|&piece| piece.to_owned()).collect())
    };
    let (column, rest) = segment.split_once('=').ok_or_else(|| pieces(&[segment]))?;
    let (negated, rest) = match rest.strip_prefix("not.") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let (word, value) = rest.split_once('.').ok_or_else(|| pieces(&[rest]))?;
    let operator = Operator::from_word(word).ok_or_else(|| pieces(&[word, value]))?;
    let operand = match operator {
        Operator::In => array_literal(value)?,
        _ => unquoted(value),
    };
    Ok(Predicate { column: column.into(), negated, operator, operand: Operand::Text(operand) })
}

/// The list of `in` as an array literal: its outer parentheses become braces.
fn array_literal(value: &str) -> Result<Box<str>, FilterError> {
    let inner = value.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    inner.map(|inner| format!("{{{inner}}}").into()).ok_or(FilterError::NoParentheses)
}

/// Takes off the quotes of a value that is quoted from its first to its last character; any other stays as it is.
fn unquoted(value: &str) -> Box<str> {
    let Some(inner) = value.strip_prefix('"') else { return value.into() };
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(protected) => text.push(protected),
                None => return value.into(),
            },
            '"' if characters.as_str().is_empty() => return text.into(),
            '"' => return value.into(),
            _ => text.push(character),
        }
    }
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(filter: &str) -> Result<Vec<(String, bool, &'static str, String)>, String> {
        let shown = |predicate: Predicate| {
            let Operand::Text(value) = predicate.operand else {
                panic!("parsed operands are text")
            };
            (predicate.column.into(), predicate.negated, predicate.operator.word(), value.into())
        };
        let parsed = parse(filter).map_err(|error| error.to_string())?;
        Ok(parsed.into_iter().map(shown).collect())
    }

    #[track_caller]
    fn check(filter: &str, expected: &[(&str, bool, &str, &str)]) {
        let found = read(filter).expect("a good filter");
        let found: Vec<_> = found.iter().map(|(c, n, o, v)| (&**c, *n, *o, &**v)).collect();
        assert_eq!(found, expected, "{filter}");
    }

    #[track_caller]
    fn refused(filter: &str, tail: &str) {
        let expected = format!("Error parsing `filter` params: {tail}");
        assert_eq!(read(filter), Err(expected), "{filter}");
    }

    #[test]
    fn a_filter_has_at_most_a_hundred_conditions() {
        let filter = |count: usize| vec!["a=in.(1,2,3)"; count].join(",");
        assert_eq!(parse(&filter(100)).map(|found| found.len()), Ok(100));
        refused(&filter(101), "too many conditions. Maximum 100");
        // Commas inside lists and quotes part no conditions.
        let list = vec!["1"; 500].join(",");
        assert_eq!(
            parse(&format!("a=in.({list}),b=eq.\"{list}\"")).map(|found| found.len()),
            Ok(2)
        );
    }

    #[test]
    fn reads_every_operator_with_and_without_not() {
        for operator in Operator::ALL {
            let word = operator.word();
            let (value, operand) =
                if operator == Operator::In { ("(1,2)", "{1,2}") } else { ("1,x=eq.2", "1") };
            let second: &[_] =
                if operator == Operator::In { &[] } else { &[("x", false, "eq", "2")] };
            let plain = [&[("a", false, word, operand)][..], second].concat();
            check(&format!("a={word}.{value}"), &plain);
            let negated = [&[("a", true, word, operand)][..], second].concat();
            check(&format!("a=not.{word}.{value}"), &negated);
        }
    }

    #[test]
    fn blank_means_none() {
        for filter in ["", " ", "\t\n "] {
            check(filter, &[]);
        }
    }

    #[test]
    fn quotes_protect_commas_only_where_they_may_open() {
        check(
            r#"name=eq."a,b",id=gt.0"#,
            &[("name", false, "eq", "a,b"), ("id", false, "gt", "0")],
        );
        check(r#"a=eq."she said \"hi\"""#, &[("a", false, "eq", r#"she said "hi""#)]);
        check(r#"a=eq."C:\\tmp""#, &[("a", false, "eq", r"C:\tmp")]);
        check(r#"a=eq."C:\new""#, &[("a", false, "eq", "C:new")]);
        check(r#"a=eq."open,b=eq.1"#, &[("a", false, "eq", r#""open,b=eq.1"#)]);
        check(
            r#"a=eq."in"out,b=eq.1"#,
            &[("a", false, "eq", r#""in"out"#), ("b", false, "eq", "1")],
        );
        check(
            r#"desc=eq.5" tall,id=gt.0"#,
            &[("desc", false, "eq", r#"5" tall"#), ("id", false, "gt", "0")],
        );
        check(r#"a=eq."\",b=eq.1"#, &[("a", false, "eq", r#""\",b=eq.1"#)]);
        check(r#"a=eq."""#, &[("a", false, "eq", "")]);
        check(r#"a=eq.""#, &[("a", false, "eq", "\"")]);
        check(r#"a=eq." x ""#, &[("a", false, "eq", " x ")]);
    }

    #[test]
    fn parentheses_protect_commas_and_never_go_below_zero() {
        check(
            "a=eq.x),b=eq.y),c=eq.z",
            &[("a", false, "eq", "x)"), ("b", false, "eq", "y)"), ("c", false, "eq", "z")],
        );
        check("a=eq.(x,b=eq.y", &[("a", false, "eq", "(x,b=eq.y")]);
        check("a=in.(1,2),b=eq.3", &[("a", false, "in", "{1,2}"), ("b", false, "eq", "3")]);
        check(r#"a=in.("a,b",c)"#, &[("a", false, "in", r#"{"a,b",c}"#)]);
        check(r#"a=in.("x)",y)"#, &[("a", false, "in", r#"{"x)",y}"#)]);
        check("a=in.()", &[("a", false, "in", "{}")]);
    }

    #[test]
    fn only_the_first_separators_separate() {
        check("a=eq.b=c.d", &[("a", false, "eq", "b=c.d")]);
        check(" a b =eq. x ", &[("a b ", false, "eq", " x")]);
        check("=eq.", &[("", false, "eq", "")]);
        check("a=not.eq.not.eq.x", &[("a", true, "eq", "not.eq.x")]);
    }

    #[test]
    fn what_the_builder_of_supabase_js_writes_is_read_as_meant() {
        check(
            r#"a=eq."x,y",b=not.in.(p,"q(r")"#,
            &[("a", false, "eq", "x,y"), ("b", true, "in", r#"{p,"q(r"}"#)],
        );
        check(
            r#"a=like."a\\b%",b=is.null,c=not.is.true,d=isdistinct." x","#.trim_end_matches(','),
            &[
                ("a", false, "like", r"a\b%"),
                ("b", false, "is", "null"),
                ("c", true, "is", "true"),
                ("d", false, "isdistinct", " x"),
            ],
        );
    }

    #[test]
    fn refusals_name_the_pieces() {
        refused("wrong", r#"["wrong"]"#);
        refused("undefined", r#"["undefined"]"#);
        refused("subject=foo.hey", r#"["foo", "hey"]"#);
        refused("subject=EQ.hey", r#"["EQ", "hey"]"#);
        refused("a=eq", r#"["eq"]"#);
        refused("a=not.eq", r#"["eq"]"#);
        refused("a=not.not.eq.1", r#"["not", "eq.1"]"#);
        refused(r#"a=x.y"z\"#, r#"["x", "y\"z\\"]"#);
        refused("id=in.1,2", "`in` filter value must be wrapped by parentheses");
        refused("id=in.(1,2", "`in` filter value must be wrapped by parentheses");
        refused("id=in.(", "`in` filter value must be wrapped by parentheses");
        for filter in [",", "a=eq.1,", ",a=eq.1", "a=eq.1,,b=eq.2", "a=eq.1, ,b=eq.2"] {
            refused(filter, "filter must not contain empty segments (check for extra commas)");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(filter in r#"([a-z]=|not\.|eq\.|in\.|[(),".\\= é]|\PC){0,24}"#) {
            let _ = parse(&filter);
        }

        #[test]
        fn a_quoted_value_comes_back_whole(value in "\\PC{0,20}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let parsed = parse(&format!("a=eq.\"{quoted}\",b=eq.1")).expect("a good filter");
            prop_assert_eq!(parsed.len(), 2);
            prop_assert_eq!(&parsed[0].operand, &Operand::Text(value.into()));
        }
    }
}
