//! Values made of values: arrays, composites and hstore, from the literals Postgres writes.
//!
//! Each function gives up (`None`) at the first thing Postgres would not have written; the caller undoes what was
//! appended and falls back to a string.

use std::borrow::Cow;

use crate::model::SqlType;
use crate::rowjson::string::push_string;
use crate::rowjson::{Place, push_placed};

/// Postgres' own limit.
const MAX_DIMENSIONS: usize = 6;

/// Whether a quote inside quotes may be written twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotes {
    Escaped,
    Doubled,
}

/// `{1,NULL,"a b",{…}}`, with bounds before it when they do not start at 1: `[0:1]={…}`.
pub(super) fn array(
    out: &mut String,
    element: &SqlType,
    delimiter: char,
    text: &str,
) -> Option<()> {
    let mut rest = if text.starts_with('[') { text.split_once('=')?.1 } else { text };
    dimension(out, element, delimiter, &mut rest, MAX_DIMENSIONS)?;
    rest.is_empty().then_some(())
}

fn dimension(
    out: &mut String,
    element: &SqlType,
    delimiter: char,
    rest: &mut &str,
    deepest: usize,
) -> Option<()> {
    let deeper = deepest.checked_sub(1)?;
    *rest = rest.strip_prefix('{')?;
    out.push('[');
    if let Some(after) = rest.strip_prefix('}') {
        *rest = after;
        out.push(']');
        return Some(());
    }
    loop {
        if rest.starts_with('{') {
            dimension(out, element, delimiter, rest, deeper)?;
        } else if rest.starts_with('"') {
            push_placed(out, element, &quoted(rest, Quotes::Escaped)?, Place::Inside);
        } else {
            match bare(rest, &[delimiter, '}'], &['{', '"', '\\'])? {
                "" => return None,
                null if null.eq_ignore_ascii_case("null") => out.push_str("null"),
                item => push_placed(out, element, item, Place::Inside),
            }
        }
        if let Some(after) = rest.strip_prefix(delimiter) {
            *rest = after;
            out.push(',');
        } else {
            *rest = rest.strip_prefix('}')?;
            out.push(']');
            return Some(());
        }
    }
}

/// `(1,"a b",,"")`: an attribute of no characters is null, quoted it is empty.
pub(super) fn composite(
    out: &mut String,
    attributes: &[(Box<str>, SqlType)],
    text: &str,
) -> Option<()> {
    let mut rest = text.strip_prefix('(')?;
    out.push('{');
    for (index, (name, sql_type)) in attributes.iter().enumerate() {
        if 0 < index {
            rest = rest.strip_prefix(',')?;
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        if rest.starts_with('"') {
            push_placed(out, sql_type, &quoted(&mut rest, Quotes::Doubled)?, Place::Inside);
        } else {
            match bare(&mut rest, &[',', ')'], &['(', '"', '\\'])? {
                "" => out.push_str("null"),
                value => push_placed(out, sql_type, value, Place::Inside),
            }
        }
    }
    out.push('}');
    (rest == ")").then_some(())
}

/// `"a"=>"1", "b"=>NULL`: every value is a string or null.
pub(super) fn hstore(out: &mut String, text: &str) -> Option<()> {
    let mut rest = text;
    out.push('{');
    while !rest.is_empty() {
        push_string(out, &quoted(&mut rest, Quotes::Escaped)?);
        rest = rest.strip_prefix("=>")?;
        out.push(':');
        if let Some(after) = rest.strip_prefix("NULL") {
            rest = after;
            out.push_str("null");
        } else {
            push_string(out, &quoted(&mut rest, Quotes::Escaped)?);
        }
        if !rest.is_empty() {
            rest = rest.strip_prefix(", ").filter(|more| !more.is_empty())?;
            out.push(',');
        }
    }
    out.push('}');
    Some(())
}

/// Takes the text up to one of `ends`; what needs quotes cannot be in it.
fn bare<'a>(rest: &mut &'a str, ends: &[char], forbidden: &[char]) -> Option<&'a str> {
    let (item, after) = rest.split_at_checked(rest.find(ends)?)?;
    if item.contains(forbidden) {
        return None;
    }
    *rest = after;
    Some(item)
}

/// Takes a quoted text and undoes its escapes; copies only when there are any.
fn quoted<'a>(rest: &mut &'a str, quotes: Quotes) -> Option<Cow<'a, str>> {
    let mut tail = rest.strip_prefix('"')?;
    let mut unescaped = String::new();
    let mut is_escaped = false;
    loop {
        let (run, after) = tail.split_at_checked(tail.find(['"', '\\'])?)?;
        let mut following = after.chars();
        let literal = match following.next()? {
            '\\' => following.next()?,
            _ if quotes == Quotes::Doubled && following.as_str().starts_with('"') => {
                following.next()?
            }
            _ => {
                *rest = following.as_str();
                if !is_escaped {
                    return Some(Cow::Borrowed(run));
                }
                unescaped.push_str(run);
                return Some(Cow::Owned(unescaped));
            }
        };
        is_escaped = true;
        unescaped.push_str(run);
        unescaped.push(literal);
        tail = following.as_str();
    }
}
