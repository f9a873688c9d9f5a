//! 7.*: goodbyes.

use super::{BROKEN, CLOSE, Case, LAST, PING, TEXT, TEXT_BEGINS};

/// Greek, a surrogate, and ASCII.
const NO_UTF8: &[u8] =
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64";

/// The payload of a close_frame.
fn close_frame(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

pub(super) fn cases() -> Vec<Case> {
    let normal = close_frame(1000, b"");
    let closed = |id: &str| Case::new(id).send(CLOSE, &normal);
    let hello = "Hello World!";
    let long = b"BAsd7&jh23".repeat(26_215);
    let mut cases = vec![
        Case::new("7.1.1").send(TEXT, hello).comes(TEXT, hello),
        closed("7.1.2").send(CLOSE, "").ends(&[1000]),
        closed("7.1.3").send(PING, "").ends(&[1000]),
        closed("7.1.4").send(TEXT, hello).ends(&[1000]),
        Case::new("7.1.5")
            .send(TEXT_BEGINS, "fragment1")
            .send(CLOSE, &normal)
            .send(LAST, "fragment2")
            .ends(&[1000]),
        Case::new("7.1.6")
            .send(TEXT, &long)
            .comes(TEXT, &long)
            .send(TEXT, hello)
            .comes(TEXT, hello)
            .send(CLOSE, &normal)
            .send(PING, "")
            .ends(&[1000]),
        // Without a code, it is answered with none.
        Case::new("7.3.1").send(CLOSE, "").ends(&[1000, 1005]),
        Case::new("7.3.2").send(CLOSE, "a").ends(BROKEN),
        closed("7.3.3").ends(&[1000]),
        Case::new("7.3.4").send(CLOSE, close_frame(1000, hello.as_bytes())).ends(&[1000]),
        Case::new("7.3.5").send(CLOSE, close_frame(1000, &[b'*'; 123])).ends(&[1000]),
        Case::new("7.3.6").send(CLOSE, close_frame(1000, &[b'*'; 124])).ends(BROKEN),
        Case::new("7.5.1").send(CLOSE, close_frame(1000, NO_UTF8)).ends(&[1002, 1007]),
    ];
    let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    for (place, code) in valid.into_iter().enumerate() {
        let case = Case::new(format!("7.7.{}", place + 1)).send(CLOSE, close_frame(code, b""));
        cases.push(case.ends(&[1000, code]));
    }
    for (place, code) in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999].into_iter().enumerate()
    {
        let case = Case::new(format!("7.9.{}", place + 1)).send(CLOSE, close_frame(code, b""));
        cases.push(case.ends(BROKEN));
    }
    // What happens is not defined, but something must.
    for (id, code) in [("7.13.1", 5000), ("7.13.2", u16::MAX)] {
        cases.push(Case::new(id).send(CLOSE, close_frame(code, b"")).ends(&[1000, 1002, code]));
    }
    cases
}
