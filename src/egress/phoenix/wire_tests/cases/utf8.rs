//! 6.*: texts that are UTF-8, and those that are not.

use super::{Case, GOES_ON, LAST, NO_UTF8, TEXT, TEXT_BEGINS};

/// Greek.
const WORD: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";

/// Texts by their group, which are UTF-8.
const VALID: &[(usize, &[&[u8]])] = &[
    (
        5,
        &[
            b"hello\x24world",
            b"hello\xc2\xa2world",
            b"hello\xe2\x82\xacworld",
            b"hello\xf0\xa4\xad\xa2world",
            WORD,
        ],
    ),
    (7, &[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
    (9, &[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
    (11, &[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf"]),
    (
        23,
        &[
            b"\xef\xbf\xb9",
            b"\xef\xbf\xba",
            b"\xef\xbf\xbb",
            b"\xef\xbf\xbc",
            b"\xef\xbf\xbd",
            b"\xef\xbf\xbe",
            b"\xef\xbf\xbf",
        ],
    ),
];

/// Bytes by their group, which are not. Each but the last of a group that also has valid ones is numbered from one.
const INVALID: &[(usize, &[&[u8]])] = &[
    (8, &[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
    (10, &[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
    (15, &[MISSING_ALL]),
    (16, &[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
    (
        17,
        &[
            b"\xc0\xaf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xf8\x80\x80\x80\xaf",
            b"\xfc\x80\x80\x80\x80\xaf",
        ],
    ),
    (
        18,
        &[
            b"\xc1\xbf",
            b"\xe0\x9f\xbf",
            b"\xf0\x8f\xbf\xbf",
            b"\xf8\x87\xbf\xbf\xbf",
            b"\xfc\x83\xbf\xbf\xbf\xbf",
        ],
    ),
    (
        19,
        &[
            b"\xc0\x80",
            b"\xe0\x80\x80",
            b"\xf0\x80\x80\x80",
            b"\xf8\x80\x80\x80\x80",
            b"\xfc\x80\x80\x80\x80\x80",
        ],
    ),
    (
        20,
        &[
            b"\xed\xa0\x80",
            b"\xed\xad\xbf",
            b"\xed\xae\x80",
            b"\xed\xaf\xbf",
            b"\xed\xb0\x80",
            b"\xed\xbe\x80",
            b"\xed\xbf\xbf",
        ],
    ),
    (
        21,
        &[
            b"\xed\xa0\x80\xed\xb0\x80",
            b"\xed\xa0\x80\xed\xbf\xbf",
            b"\xed\xad\xbf\xed\xb0\x80",
            b"\xed\xad\xbf\xed\xbf\xbf",
            b"\xed\xae\x80\xed\xb0\x80",
            b"\xed\xae\x80\xed\xbf\xbf",
            b"\xed\xaf\xbf\xed\xb0\x80",
            b"\xed\xaf\xbf\xed\xbf\xbf",
        ],
    ),
];

/// Sequences without their last byte, and all of them together.
const MISSING: [&[u8]; 10] = [
    b"\xc0",
    b"\xe0\x80",
    b"\xf0\x80\x80",
    b"\xf8\x80\x80\x80",
    b"\xfc\x80\x80\x80\x80",
    b"\xdf",
    b"\xef\xbf",
    b"\xf7\xbf\xbf",
    b"\xfb\xbf\xbf\xbf",
    b"\xfd\xbf\xbf\xbf\xbf",
];
const MISSING_ALL: &[u8] =
    b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\xfb\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = whole();
    let mut number = |group: usize, texts: Vec<Vec<u8>>| {
        for (place, text) in texts.into_iter().enumerate() {
            cases.push(text_of(format!("6.{group}.{}", place + 1), &text));
        }
    };
    for (group, texts) in VALID.iter().chain(INVALID) {
        let invalid = (*group == 11).then(|| b"\xf4\x90\x80\x80".to_vec());
        number(*group, texts.iter().map(|text| text.to_vec()).chain(invalid).collect());
    }
    // Every beginning of a text.
    number(6, (1..=WORD.len()).map(|length| WORD[..length].to_vec()).collect());
    // Bytes that go on with nothing.
    let pair = b"\x80\xbf\x80\xbf\x80\xbf";
    let alone = [b"\x80".to_vec(), b"\xbf".to_vec()];
    let several = (2..=6).map(|length| pair[..length].to_vec());
    number(12, alone.into_iter().chain(several).chain([(0x80..0xbf).collect()]).collect());
    // Bytes that begin something, each before a blank.
    let begins = [(0xc0, 0xdf), (0xe0, 0xef), (0xf0, 0xf7), (0xf8, 0xfb), (0xfc, 0xfd)];
    number(
        13,
        begins.map(|(from, to)| (from..to).flat_map(|byte| [byte, b' ']).collect()).to_vec(),
    );
    number(14, MISSING.map(<[u8]>::to_vec).to_vec());
    number(22, non_characters());
    cases
}

/// A text that comes back if it is one.
fn text_of(id: String, text: &[u8]) -> Case {
    let case = Case::new(id).send(TEXT, text);
    if std::str::from_utf8(text).is_ok() { case.comes(TEXT, text) } else { case.ends(NO_UTF8) }
}

/// Code points that are no characters, which are UTF-8 all the same.
fn non_characters() -> Vec<Vec<u8>> {
    let mut texts = vec![b"\xef\xbf\xbe".to_vec(), b"\xef\xbf\xbf".to_vec()];
    let planes = (1..=16_u32).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    texts.extend(planes.map(|point| char::from_u32(point).unwrap().to_string().into_bytes()));
    texts
}

/// 6.1 to 6.4: texts in pieces.
fn whole() -> Vec<Case> {
    let hello = "Hello-µ@ßöäüàá-UTF-8!!";
    let (first, second) = ("Hello-µ@ßöä", "üàá-UTF-8!!");
    let middle = "middle frame payload";
    let surrogate = [WORD, b"\xed\xa0\x80edited"].concat();
    let too_high = b"\xf4\x90\x80\x80";
    let rest = [WORD, too_high, b"edited"].concat();
    let pieces = |id: &str, parts: [&str; 3]| {
        let case = Case::new(id).send(TEXT_BEGINS, parts[0]).send(GOES_ON, parts[1]);
        case.send(LAST, parts[2]).comes(TEXT, parts.concat())
    };
    vec![
        text_of("6.1.1".to_owned(), b""),
        pieces("6.1.2", ["", "", ""]),
        pieces("6.1.3", ["", middle, ""]),
        text_of("6.2.1".to_owned(), hello.as_bytes()),
        Case::new("6.2.2").send(TEXT_BEGINS, first).send(LAST, second).comes(TEXT, hello),
        Case::new("6.2.3").send_in(TEXT_BEGINS, hello.as_bytes(), 1).comes(TEXT, hello),
        Case::new("6.2.4").send_in(TEXT_BEGINS, WORD, 1).comes(TEXT, WORD),
        text_of("6.3.1".to_owned(), &surrogate),
        Case::new("6.3.2").send_in(TEXT_BEGINS, &surrogate, 1).ends(NO_UTF8),
        // It is refused by the frame that makes it wrong: the last one is not sent.
        Case::new("6.4.1").send(TEXT_BEGINS, WORD).send(GOES_ON, too_high).ends(NO_UTF8),
        Case::new("6.4.2")
            .send(TEXT_BEGINS, &rest[..12])
            .send(GOES_ON, &rest[12..13])
            .ends(NO_UTF8),
        // Within a frame it is refused at its end.
        text_of("6.4.3".to_owned(), &rest),
        text_of("6.4.4".to_owned(), &rest).chopped(super::Chop::Octets(12)),
    ]
}
