//! `like` and `ilike`: `%` is any run of characters, `_` any one, a backslash protects the next.
//!
//! Promises: the time spent follows the length of the text. A pattern that needs more than that is given up, not
//! followed: whoever waits for the answer waits for every client's changes.

/// Steps per byte of text; ordinary patterns need about one.
const STEPS_PER_BYTE: usize = 8;
/// Steps that any pattern may take, however short the text is.
const STEPS_AT_LEAST: usize = 4096;

/// Whether `text` matches `pattern` whole, and the steps it took; `None` when that would take too many to find out. A
/// backslash at the very end, which Postgres refuses, matches nothing.
pub(super) fn matches(text: &str, pattern: &str, fold: Fold) -> (Option<bool>, usize) {
    let most = text.len().saturating_mul(STEPS_PER_BYTE).saturating_add(STEPS_AT_LEAST);
    let mut steps = 0;
    let found = follow(text, pattern, fold, || {
        steps += 1;
        steps <= most
    });
    (found, steps)
}

/// `None` when `step` said no.
fn follow(
    mut text: &str,
    mut pattern: &str,
    fold: Fold,
    mut step: impl FnMut() -> bool,
) -> Option<bool> {
    // Where to go on when the current attempt fails: after the last `%`, one character further in the text.
    let mut retry: Option<(&str, &str)> = None;
    while step() {
        let mut rest = pattern.chars();
        let is_step = match rest.next() {
            Some('%') => {
                pattern = rest.as_str();
                if pattern.is_empty() {
                    return Some(true);
                }
                retry = Some((text, pattern));
                continue;
            }
            None => text.is_empty(),
            Some('_') => skip(&mut text, |_| true),
            Some('\\') => match rest.next() {
                Some(literal) => skip(&mut text, |found| fold.is_same(found, literal)),
                None => return Some(false),
            },
            Some(literal) => skip(&mut text, |found| fold.is_same(found, literal)),
        };
        if is_step {
            if pattern.is_empty() {
                return Some(true);
            }
            pattern = rest.as_str();
            continue;
        }
        let Some((from, after)) = retry else { return Some(false) };
        let mut from = from;
        if !skip(&mut from, |_| true) {
            return Some(false);
        }
        retry = Some((from, after));
        (text, pattern) = (from, after);
    }
    None
}

/// How letters compare.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    /// As they are.
    Exact,
    /// ASCII letters without regard to case.
    AsciiCase,
}

impl Fold {
    fn is_same(self, left: char, right: char) -> bool {
        left == right || (self == Self::AsciiCase && left.eq_ignore_ascii_case(&right))
    }
}

fn skip(text: &mut &str, accept: impl FnOnce(char) -> bool) -> bool {
    let mut rest = text.chars();
    let is_accepted = rest.next().is_some_and(accept);
    if is_accepted {
        *text = rest.as_str();
    }
    is_accepted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, pattern: &str, fold: Fold) -> Option<bool> {
        matches(text, pattern, fold).0
    }

    #[test]
    fn patterns_match_whole_texts() {
        for (text, pattern, expected) in [
            ("", "", true),
            ("", "%", true),
            ("", "_", false),
            ("a", "", false),
            ("abc", "abc", true),
            ("abc", "a%", true),
            ("abc", "%c", true),
            ("abc", "%b%", true),
            ("abc", "a_c", true),
            ("abc", "a_", false),
            ("aXbXc", "a%X%c", true),
            ("aaab", "%aab", true),
            ("aaab", "%a_b%", true),
            ("abcabd", "%abd", true),
            ("é", "_", true),
            ("日本語", "日%語", true),
            ("a%b", r"a\%b", true),
            ("axb", r"a\%b", false),
            (r"a\b", r"a\\b", true),
            ("a", r"a\", false),
            ("ABC", "abc", false),
            ("ab", "%%b%%", true),
        ] {
            assert_eq!(found(text, pattern, Fold::Exact), Some(expected), "{text:?} {pattern:?}");
        }
        assert_eq!(found("AbC", "%bC", Fold::AsciiCase), Some(true));
    }

    #[test]
    fn many_wildcards_do_not_explode() {
        let (text, pattern) = ("a".repeat(5_000), "%a".repeat(500) + "%b");
        assert_eq!(found(&text, &pattern, Fold::Exact), Some(false));
    }

    #[test]
    fn a_pattern_that_looks_far_from_everywhere_is_given_up() {
        let text = "a".repeat(16_000);
        let far = format!("%{}Z", "_".repeat(8_000));
        assert_eq!(found(&text, &far, Fold::Exact), None);
        assert_eq!(found(&text, &far, Fold::AsciiCase), None);
        // Ordinary patterns are decided, however long the text.
        for (pattern, expected) in [("%aab%", false), ("a%a", true), ("%b", false), ("%", true)] {
            assert_eq!(found(&text, pattern, Fold::Exact), Some(expected), "{pattern}");
        }
        assert_eq!(found(&text, &text, Fold::Exact), Some(true));
        // So is any pattern on a short text.
        assert_eq!(
            found(&"a".repeat(60), &format!("%{}Z", "_".repeat(60)), Fold::Exact),
            Some(false)
        );
    }
}
