//! `like` and `ilike`: `%` is any run of characters, `_` any one, a backslash protects the next.

/// Whether `text` matches `pattern` whole. A backslash at the very end, which Postgres refuses, matches nothing.
pub(super) fn matches(text: &str, pattern: &str, fold: Fold) -> bool {
    let (mut text, mut pattern) = (text, pattern);
    // Where to go on when the current attempt fails: after the last `%`, one character further in the text.
    let mut retry: Option<(&str, &str)> = None;
    loop {
        let mut rest = pattern.chars();
        let is_step = match rest.next() {
            Some('%') => {
                pattern = rest.as_str();
                retry = Some((text, pattern));
                continue;
            }
            None => text.is_empty(),
            Some('_') => skip(&mut text, |_| true),
            Some('\\') => match rest.next() {
                Some(literal) => skip(&mut text, |found| fold.is_same(found, literal)),
                None => return false,
            },
            Some(literal) => skip(&mut text, |found| fold.is_same(found, literal)),
        };
        if is_step {
            if pattern.is_empty() {
                return true;
            }
            pattern = rest.as_str();
            continue;
        }
        let Some((from, after)) = retry else { return false };
        let mut from = from;
        if !skip(&mut from, |_| true) {
            return false;
        }
        retry = Some((from, after));
        (text, pattern) = (from, after);
    }
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
            assert_eq!(matches(text, pattern, Fold::Exact), expected, "{text:?} {pattern:?}");
        }
        assert!(matches("AbC", "%bC", Fold::AsciiCase));
    }

    #[test]
    fn many_wildcards_do_not_explode() {
        let (text, pattern) = ("a".repeat(5_000), "%a".repeat(500) + "%b");
        assert!(!matches(&text, &pattern, Fold::Exact));
    }
}
