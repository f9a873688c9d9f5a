//! Whether a text shows anything to whoever reads it.
//!
//! A message of nothing but such characters looks like an empty one. Within a text they have their meaning (they join
//! emoji and Persian words, and turn the direction of writing), so none is taken out: what shows anything is kept as it
//! is written. A combining mark alone is shown, on a dotted circle or without, and so are the few format characters that
//! are signs, as U+0600.

/// Whether any character of a text is to be seen.
pub(super) fn shows_anything(text: &str) -> bool {
    text.chars().any(|c| !(c.is_whitespace() || c.is_control() || is_invisible(c)))
}

/// Unicode's default ignorable characters (Unicode 16, `DerivedCoreProperties.txt`), and those that are drawn as nothing.
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        // Soft hyphen, grapheme joiner, Arabic letter mark, Hangul fillers, Khmer inherent vowels.
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
        // Mongolian selectors and vowel separator.
        | '\u{180B}'..='\u{180F}'
        // Zero width, bidirectional controls, invisible operators, deprecated formats.
        | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        // The other Hangul fillers, variation selectors, byte order mark.
        | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}'
        // Shorthand and musical formats; tags and further variation selectors.
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}'
        // Drawn as nothing: the empty braille pattern, annotation marks, hieroglyph joiners, the null notehead.
        | '\u{2800}' | '\u{FFF9}'..='\u{FFFB}' | '\u{13430}'..='\u{13440}' | '\u{1D159}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_nothing_is_empty() {
        for text in [
            "",
            " \t\r\n\u{85}\u{A0}\u{2003}\u{2028}\u{3000}",
            "\u{200B}",
            "\u{200C}\u{200D}",
            "\u{FEFF}",
            "\u{2060}\u{2063}",
            "\u{202E}\u{202C}\u{2066}\u{2069}\u{200E}\u{61C}",
            "\u{FE0F}",
            "\u{E0100}\u{E01EF}",
            "\u{E0067}\u{E007F}",
            "\u{115F}\u{1160}",
            "\u{3164}",
            "\u{FFA0}",
            "\u{2800}\u{2800}",
            "\u{180E}",
            "\u{AD}",
            "\u{34F}",
            "\u{0}\u{7}\u{7F}",
            "\u{FFF9}\u{FFFB}",
            " \u{200B} \u{3164}\n",
        ] {
            assert!(!shows_anything(text), "{text:?}");
        }
    }

    #[test]
    fn what_shows_anything_is_not() {
        for text in [
            "a",
            ".",
            "\u{200B}a\u{200B}",
            "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}",
            "\u{2764}\u{FE0F}",
            "1\u{FE0F}\u{20E3}",
            "\u{1F3F4}\u{E0067}\u{E0062}\u{E007F}",
            "\u{645}\u{6CC}\u{200C}\u{62E}\u{648}\u{627}\u{647}\u{645}",
            "\u{200F}\u{5E9}\u{5DC}\u{5D5}\u{5DD}\u{200E}",
            "\u{D55C}\u{AE00}",
            "\u{1100}\u{1161}",
            "\u{2801}",
            "\u{301}",
            "\u{600}",
            "\u{FFFC}",
            "\u{FFFD}",
        ] {
            assert!(shows_anything(text), "{text:?}");
        }
    }
}
