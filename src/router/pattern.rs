//! `match` and `imatch`, for regular expressions that mean the same in Postgres and here.
//!
//! A pattern is taken only when every part of it is known to agree: literals, escaped punctuation, `.`, `^`, `$`,
//! groups, alternatives, the quantifiers `* + ? {m,n}`, classes of letters, digits and common punctuation, and
//! `\d \w \s` over ASCII text. Whatever else Postgres accepts (look-ahead, back references, options, character
//! names, …) is left to Postgres.

use regex::bytes::{Regex, RegexBuilder};

/// Memory one compiled pattern may take; a bigger one is left to Postgres.
const SIZE_LIMIT_BYTES: usize = 1 << 16;

/// Steps one text may cost; a text and a pattern that may need more are left to Postgres. At worst a step is taken for
/// every byte and every place in the pattern, and whoever waits for the answer waits for every client's changes.
const STEPS: usize = 1 << 18;

/// Bytes that any compiled pattern takes, and that each place in it adds. Measured with seven kinds of patterns that two
/// threads searched with: 19 to 29 kB.
const BYTES: usize = 28 * 1024;
const BYTES_OF_PLACE: usize = 64;

/// Places of an atom that stands for characters of any length.
const ANY_PLACES: usize = 8;

/// The largest repetition Postgres allows.
const REPEAT_LIMIT: u32 = 255;

/// A pattern both sides agree on.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// It agrees over ASCII text only.
    needs_ascii: bool,
    /// Places in it, repetitions written out.
    places: usize,
}

impl Pattern {
    /// Translates a pattern that Postgres found good; `None` when the two might not agree.
    pub(super) fn compile(pattern: &str, ignores_case: bool) -> Option<Self> {
        let mut translation = Translation {
            rest: pattern,
            regex: String::new(),
            needs_ascii: ignores_case,
            places: 0,
        };
        if ignores_case && !pattern.is_ascii() {
            return None;
        }
        translation.alternatives(0)?;
        if !translation.rest.is_empty() {
            return None;
        }
        let regex = RegexBuilder::new(&translation.regex)
            .unicode(!ignores_case)
            .case_insensitive(ignores_case)
            .dot_matches_new_line(true)
            .size_limit(SIZE_LIMIT_BYTES)
            .dfa_size_limit(SIZE_LIMIT_BYTES)
            .build()
            .ok()?;
        let Translation { needs_ascii, places, .. } = translation;
        Some(Self { regex, needs_ascii, places })
    }

    /// Bytes it takes, what it keeps of its searches included: an estimate from above.
    pub(super) const fn bytes(&self) -> usize {
        BYTES.saturating_add(BYTES_OF_PLACE.saturating_mul(self.places))
    }

    /// Steps that the text may cost.
    pub(super) fn steps(&self, text: &str) -> usize {
        text.len().saturating_mul(self.places)
    }

    /// Whether the text contains a match; `None` when only Postgres knows.
    pub(super) fn is_match(&self, text: &str) -> Option<bool> {
        let may_differ = self.needs_ascii && !text.is_ascii();
        let is_costly = STEPS < self.steps(text);
        if may_differ || is_costly { None } else { Some(self.regex.is_match(text.as_bytes())) }
    }
}

struct Translation<'a> {
    rest: &'a str,
    regex: String,
    needs_ascii: bool,
    places: usize,
}

/// Groups may nest this deep.
const DEPTH_LIMIT: usize = 16;

impl Translation<'_> {
    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next()?;
        self.rest = characters.as_str();
        Some(character)
    }

    fn take(&mut self, expected: char) -> bool {
        let rest = self.rest.strip_prefix(expected);
        if let Some(rest) = rest {
            self.rest = rest;
        }
        rest.is_some()
    }

    /// One or more non-empty branches, up to the end or a closing parenthesis.
    fn alternatives(&mut self, depth: usize) -> Option<()> {
        loop {
            let before = self.rest.len();
            while !self.rest.is_empty() && !self.rest.starts_with(['|', ')']) {
                self.piece(depth)?;
            }
            if self.rest.len() == before {
                return None;
            }
            if !self.take('|') {
                return Some(());
            }
            self.regex.push('|');
        }
    }

    /// An atom and at most one quantifier.
    fn piece(&mut self, depth: usize) -> Option<()> {
        let before = std::mem::replace(&mut self.places, 1);
        match self.next()? {
            '*' | '+' | '?' | '{' | '}' | ')' | ']' => return None,
            anchor @ ('^' | '$') => {
                self.regex.push(anchor);
                self.places = self.places.saturating_add(before);
                // A quantified anchor is an error there and none here.
                return if self.rest.starts_with(['*', '+', '?', '{']) { None } else { Some(()) };
            }
            '.' => {
                self.places = ANY_PLACES;
                self.regex.push('.');
            }
            '[' => self.class()?,
            '(' => self.group(depth)?,
            '\\' => self.escape()?,
            literal => self.literal(literal),
        }
        let times = self.quantifier()?;
        self.places = self.places.saturating_mul(times).saturating_add(before);
        Some(())
    }

    fn literal(&mut self, literal: char) {
        let mut buffer = [0; 4];
        self.regex.push_str(&regex::escape(literal.encode_utf8(&mut buffer)));
    }

    fn group(&mut self, depth: usize) -> Option<()> {
        if depth == DEPTH_LIMIT {
            return None;
        }
        if self.take('?') && !self.take(':') {
            return None;
        }
        self.regex.push_str("(?:");
        self.alternatives(depth + 1)?;
        self.regex.push(')');
        self.take(')').then_some(())
    }

    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            'd' => self.ascii_class("[0-9]"),
            'w' => self.ascii_class("[0-9A-Za-z_]"),
            's' => self.ascii_class("[\\t-\\r ]"),
            punctuation if punctuation.is_ascii_punctuation() => self.literal(punctuation),
            _ => return None,
        }
        Some(())
    }

    fn ascii_class(&mut self, class: &str) {
        self.needs_ascii = true;
        self.regex.push_str(class);
    }

    /// `[abc]`, `[^a-z0-9_]`, over ASCII members without escapes or names.
    fn class(&mut self) -> Option<()> {
        self.regex.push('[');
        if self.take('^') {
            self.places = ANY_PLACES;
            self.regex.push('^');
        }
        let mut is_empty = true;
        loop {
            let member = self.next()?;
            match member {
                ']' if !is_empty => break,
                '0'..='9' | 'a'..='z' | 'A'..='Z' => {
                    self.regex.push(member);
                    if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                        self.next()?;
                        let last = self.next()?;
                        let is_range = member <= last
                            && last.is_ascii_alphanumeric()
                            && member.is_ascii_digit() == last.is_ascii_digit()
                            && member.is_ascii_lowercase() == last.is_ascii_lowercase();
                        if !is_range {
                            return None;
                        }
                        self.regex.push('-');
                        self.regex.push(last);
                    }
                }
                '-' if !self.rest.starts_with(']') => return None,
                '_' | ' ' | '.' | ',' | '@' | '%' | '+' | '/' | '!' | '#' | '(' | ')' | '-' => {
                    if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                        return None;
                    }
                    self.literal(member);
                }
                _ => return None,
            }
            is_empty = false;
        }
        self.regex.push(']');
        Some(())
    }

    /// How often the atom before is written out. Greediness does not change whether there is a match, so only plain
    /// quantifiers are taken.
    fn quantifier(&mut self) -> Option<usize> {
        let mut times = 1;
        if self.take('*') {
            self.regex.push('*');
        } else if self.take('+') {
            self.regex.push('+');
        } else if self.take('?') {
            self.regex.push('?');
        } else if self.take('{') {
            let (bounds, rest) = self.rest.split_once('}')?;
            let bound = |text: &str| -> Option<u32> {
                let is_number =
                    (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
                if is_number {
                    text.parse().ok().filter(|&count| count <= REPEAT_LIMIT)
                } else {
                    None
                }
            };
            let most = match bounds.split_once(',') {
                None => bound(bounds)?,
                Some((least, "")) => bound(least)?.max(1),
                Some((least, most)) if bound(least)? <= bound(most)? => bound(most)?,
                Some(_) => return None,
            };
            times = most.max(1) as usize;
            self.regex.push_str(&format!("{{{bounds}}}"));
            self.rest = rest;
        }
        let is_doubled = self.rest.starts_with(['*', '+', '?', '{']);
        if is_doubled { None } else { Some(times) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(pattern: &str, text: &str) -> Option<bool> {
        Pattern::compile(pattern, false)?.is_match(text)
    }

    #[test]
    fn simple_patterns_are_decided() {
        for (pattern, text, expected) in [
            ("abc", "xabcx", true),
            ("^abc$", "abc", true),
            ("^abc$", "abc\n", false),
            ("a.c", "a\nc", true),
            ("^(cat|dog)s?$", "dogs", true),
            ("^[a-c_]{2,3}$", "ab_", true),
            ("^[^0-9]+$", "ab1", false),
            (r"^\d+\.\d+$", "12.5", true),
            (r"a\$b", "a$b", true),
            ("é+", "caféé", true),
            ("^[a-z.-]+$", "a.b-c", true),
            ("^$", "", true),
        ] {
            assert_eq!(verdict(pattern, text), Some(expected), "{pattern} {text:?}");
        }
        let folded = Pattern::compile("^AB[c-d]$", true).expect("a simple pattern");
        assert_eq!(folded.is_match("abD"), Some(true));
        assert_eq!(folded.is_match("abé"), None);
    }

    #[test]
    fn anything_else_is_left_to_postgres() {
        for pattern in [
            "",
            "(?i)a",
            "***=a",
            "(?=a)",
            r"(a)\1",
            r"\ma",
            r"\y",
            "[[:alpha:]]",
            "[a-Z]",
            "[é]",
            r"[\d]",
            "a*?",
            "a**",
            "^*",
            "a||b",
            "()",
            "a{2",
            "a{3,2}",
            "a{256}",
            "a{,2}",
            ")",
            "a]",
            "a|",
            "é(",
            "[a&&b]",
        ] {
            assert!(Pattern::compile(pattern, false).is_none(), "{pattern}");
        }
        assert!(Pattern::compile("é", true).is_none());
        assert_eq!(verdict(r"\d", "é"), None);
        assert!(Pattern::compile(&"(a{255}){9}".repeat(40), false).is_none());
    }

    #[test]
    fn a_text_too_long_for_its_pattern_is_left_to_postgres() {
        let places = |pattern| Pattern::compile(pattern, false).map(|pattern| pattern.places);
        for (pattern, expected) in [
            ("abc", 3),
            ("^a$", 3),
            ("a{10}", 10),
            ("a{2,9}b", 10),
            ("a{3,}", 3),
            ("a{0,}", 1),
            ("a{0}", 1),
            (".[^a]", 16),
        ] {
            assert_eq!(places(pattern), Some(expected), "{pattern}");
        }
        let text = "a".repeat(16_000);
        assert_eq!(verdict("^(a|b)*a(a|b){100}c", &text), None);
        assert_eq!(verdict("^(a|b)*a(a|b){100}c", "abc"), Some(false));
        assert_eq!(verdict("^[^@]+@example[.]com$", &text[..8_000]), Some(false));
    }
}
