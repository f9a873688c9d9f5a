//! The suite's list: what each case sends, what must come back, and how it must end.

mod closing;
mod utf8;

/// How many there are.
pub(super) const COUNT: usize = 301;

/// First bytes of frames: whole ones, and beginnings of longer messages.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const TEXT_BEGINS: u8 = 0x01;
const BINARY_BEGINS: u8 = 0x02;
const GOES_ON: u8 = 0x00;
const LAST: u8 = 0x80;

/// Bytes that are no text.
const NO_TEXT: &[u8] = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";

/// Codes of a close_frame.
const BROKEN: &[u16] = &[1002];
const NO_UTF8: &[u16] = &[1007];
const TOO_LONG: &[u16] = &[1009];

/// One thing that is sent.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A frame: its first byte and its payload.
    Frame(u8, Vec<u8>),
    /// Nothing, until so many frames have come.
    Await(usize),
}

/// How the bytes are cut for the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chop {
    /// Not at all.
    Whole,
    /// A write for each frame.
    Frames,
    /// A write for so many bytes.
    Octets(usize),
}

/// How it ends.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// With our close_frame after all that is expected, which is answered.
    Ours,
    /// With a close_frame of one of these codes.
    Theirs(Vec<u16>),
}

/// One case.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Its number in the suite.
    pub(super) id: String,
    pub(super) steps: Vec<Step>,
    pub(super) chop: Chop,
    /// Frames that must come back, in order.
    pub(super) expected: Vec<(u8, Vec<u8>)>,
    pub(super) end: End,
}

impl Case {
    /// A case that sends nothing yet, and ends with our close_frame.
    fn new(id: impl Into<String>) -> Self {
        let (steps, expected) = (Vec::new(), Vec::new());
        Self { id: id.into(), steps, chop: Chop::Whole, expected, end: End::Ours }
    }

    fn send(mut self, first: u8, payload: impl AsRef<[u8]>) -> Self {
        self.steps.push(Step::Frame(first, payload.as_ref().to_vec()));
        self
    }

    /// A message in frames of so many bytes.
    fn send_in(self, begins: u8, payload: &[u8], size: usize) -> Self {
        let count = payload.len().div_ceil(size);
        let parts = payload.chunks(size).enumerate();
        parts.fold(self, |case, (place, part)| {
            let opcode = if place == 0 { begins } else { GOES_ON };
            let last = if place + 1 == count { LAST } else { 0 };
            case.send(opcode | last, part)
        })
    }

    fn wait(mut self, frames: usize) -> Self {
        self.steps.push(Step::Await(frames));
        self
    }

    fn chopped(mut self, chop: Chop) -> Self {
        self.chop = chop;
        self
    }

    fn comes(mut self, first: u8, payload: impl AsRef<[u8]>) -> Self {
        self.expected.push((first, payload.as_ref().to_vec()));
        self
    }

    fn ends(mut self, codes: &[u16]) -> Self {
        self.end = End::Theirs(codes.to_vec());
        self
    }
}

/// All of them.
pub(super) fn all() -> Vec<Case> {
    let parts =
        [framing(), pings(), bits(), opcodes(), fragments(), utf8::cases(), closing::cases()];
    parts.into_iter().flatten().chain(limits()).collect()
}

/// 1.*: messages of every kind of length.
fn framing() -> Vec<Case> {
    let mut cases = Vec::new();
    for (group, first, byte) in [(1, TEXT, b'*'), (2, BINARY, 0xfe)] {
        for (place, length) in
            [0, 125, 126, 127, 128, 65_535, 65_536, 65_536].into_iter().enumerate()
        {
            let chop = if place == 7 { Chop::Octets(997) } else { Chop::Whole };
            let payload = vec![byte; length];
            let case = Case::new(format!("1.{group}.{}", place + 1)).chopped(chop);
            cases.push(case.send(first, &payload).comes(first, payload));
        }
    }
    cases
}

/// 2.*: pings, and pongs that nobody asked for.
fn pings() -> Vec<Case> {
    let ping = |id: &str, payload: &[u8]| Case::new(id).send(PING, payload).comes(PONG, payload);
    let ten = |id: &str, chop: Chop| {
        (0..10).fold(Case::new(id).chopped(chop), |case, number| {
            let payload = format!("payload-{number}");
            case.send(PING, &payload).comes(PONG, payload)
        })
    };
    vec![
        ping("2.1", b""),
        ping("2.2", b"Hello, world!"),
        ping("2.3", NO_TEXT),
        ping("2.4", &[0xfe; 125]),
        Case::new("2.5").send(PING, [0xfe; 126]).ends(BROKEN),
        ping("2.6", &[0xfe; 125]).chopped(Chop::Octets(1)),
        Case::new("2.7").send(PONG, ""),
        Case::new("2.8").send(PONG, "unsolicited pong payload"),
        Case::new("2.9")
            .send(PONG, "unsolicited pong payload")
            .send(PING, "ping payload")
            .comes(PONG, "ping payload"),
        ten("2.10", Chop::Whole),
        ten("2.11", Chop::Octets(1)),
    ]
}

/// A message, something that may not be, and a ping that is not answered any more.
fn broken_after(id: &str, chop: Chop, first: u8, payload: &str) -> Case {
    let hello = "Hello, world!";
    let case = Case::new(id).chopped(chop).send(TEXT, hello).comes(TEXT, hello);
    case.send(first, payload).send(PING, "").ends(BROKEN)
}

/// 3.*: reserved bits.
fn bits() -> Vec<Case> {
    let hello = "Hello, world!";
    vec![
        Case::new("3.1").send(TEXT | 0x10, hello).ends(BROKEN),
        broken_after("3.2", Chop::Whole, TEXT | 0x20, hello),
        broken_after("3.3", Chop::Frames, TEXT | 0x30, hello),
        broken_after("3.4", Chop::Octets(1), TEXT | 0x40, hello),
        Case::new("3.5").send(BINARY | 0x50, NO_TEXT).ends(BROKEN),
        Case::new("3.6").send(BINARY | 0x60, hello).ends(BROKEN),
        Case::new("3.7").send(CLOSE | 0x70, "").ends(BROKEN),
    ]
}

/// 4.*: opcodes that mean nothing.
fn opcodes() -> Vec<Case> {
    let hello = "Hello, world!";
    let mut cases = Vec::new();
    for (group, base) in [(1, 3), (2, 11)] {
        let id = |place: u8| format!("4.{group}.{place}");
        cases.push(Case::new(id(1)).send(LAST | base, "").ends(BROKEN));
        cases
            .push(Case::new(id(2)).send(LAST | (base + 1), "reserved opcode payload").ends(BROKEN));
        cases.push(broken_after(&id(3), Chop::Whole, LAST | (base + 2), ""));
        cases.push(broken_after(&id(4), Chop::Whole, LAST | (base + 3), hello));
        cases.push(broken_after(&id(5), Chop::Octets(1), LAST | (base + 4), hello));
    }
    cases
}

/// 5.*: messages in pieces, and pieces of nothing.
fn fragments() -> Vec<Case> {
    let (one, two) = ("fragment1", "fragment2");
    let both = "fragment1fragment2";
    let chops = [Chop::Whole, Chop::Frames, Chop::Octets(1)];
    let mut cases = vec![
        Case::new("5.1").send(PING & !LAST, one).send(LAST, two).ends(BROKEN),
        Case::new("5.2").send(PONG & !LAST, one).send(LAST, two).ends(BROKEN),
    ];
    for (place, chop) in chops.into_iter().enumerate() {
        let begun = |first: usize| Case::new(format!("5.{}", first + place)).chopped(chop);
        cases.push(begun(3).send(TEXT_BEGINS, one).send(LAST, two).comes(TEXT, both));
        let pinged = begun(6).send(TEXT_BEGINS, one).send(PING, "ping payload").send(LAST, two);
        cases.push(pinged.comes(PONG, "ping payload").comes(TEXT, both));
        let nothing = "non-continuation payload";
        cases.push(begun(9).send(LAST, nothing).send(TEXT, "Hello, world!").ends(BROKEN));
        cases.push(begun(12).send(GOES_ON, nothing).send(TEXT, "Hello, world!").ends(BROKEN));
    }
    let case = Case::new("5.15").send(TEXT_BEGINS, one).send(LAST, two).comes(TEXT, both);
    cases.push(case.send(GOES_ON, "fragment3").send(TEXT, "fragment4").ends(BROKEN));
    for (id, first) in [("5.16", GOES_ON), ("5.17", LAST)] {
        let round =
            |case: Case| case.send(first, one).send(TEXT_BEGINS, two).send(LAST, "fragment3");
        cases.push(round(round(Case::new(id))).ends(BROKEN));
    }
    cases.push(Case::new("5.18").send(TEXT_BEGINS, one).send(TEXT, two).ends(BROKEN));
    for (id, chop) in [("5.19", Chop::Whole), ("5.20", Chop::Frames)] {
        let begun = Case::new(id).chopped(chop).send(TEXT_BEGINS, one).send(GOES_ON, two);
        let pinged = begun.send(PING, "pongme 1!").comes(PONG, "pongme 1!").wait(1);
        let more = pinged.send(GOES_ON, "fragment3").send(GOES_ON, "fragment4");
        let pinged = more.send(PING, "pongme 2!").comes(PONG, "pongme 2!").send(LAST, "fragment5");
        cases.push(pinged.comes(TEXT, "fragment1fragment2fragment3fragment4fragment5"));
    }
    cases
}

/// 9.* and 10.*: long messages, whole, in frames, and in small writes; and many short ones, one after another.
fn limits() -> Vec<Case> {
    const KIB: usize = 1024;
    let mut cases = Vec::new();
    for (group, first, begins, bytes) in [
        (0, TEXT, TEXT_BEGINS, &b"BAsd7&jh23"[..]),
        (1, BINARY, BINARY_BEGINS, b"\x00\xfe\x23\xfa\xf0"),
    ] {
        let of = |length: usize| bytes.iter().copied().cycle().take(length).collect::<Vec<u8>>();
        let id = |number: usize, place: usize| format!("9.{}.{}", number + group, place + 1);
        for (place, kib) in [64, 256, 1024, 4096, 8192, 16_384].into_iter().enumerate() {
            let (case, payload) = (Case::new(id(1, place)), of(kib * KIB));
            let is_long = super::LIMIT < payload.len();
            let case = case.send(first, &payload);
            cases.push(if is_long { case.ends(TOO_LONG) } else { case.comes(first, payload) });
        }
        for (place, size) in [64, 256, 1024, 4096, 16_384, 65_536, 262_144].into_iter().enumerate()
        {
            let payload = of(512 * KIB);
            let case = Case::new(id(3, place)).send_in(begins, &payload, size);
            cases.push(case.comes(first, payload));
        }
        for (place, size) in [(7, 1024 * KIB), (8, 4096 * KIB)] {
            let payload = of(4096 * KIB);
            let case = Case::new(id(3, place)).send_in(begins, &payload, size);
            cases.push(case.comes(first, payload));
        }
        for (place, octets) in [64, 128, 256, 512, 1024, 2048].into_iter().enumerate() {
            let payload = of(128 * KIB);
            let case = Case::new(id(5, place)).chopped(Chop::Octets(octets)).send(first, &payload);
            cases.push(case.comes(first, payload));
        }
        for (place, length) in [0, 16, 64, 256, 1024, 4096].into_iter().enumerate() {
            let payload = of(length);
            cases.push((1..=100).fold(Case::new(id(7, place)), |case, number| {
                case.send(first, &payload).comes(first, &payload).wait(number)
            }));
        }
    }
    let payload = [b'*'; 65_536];
    let case = Case::new("10.1.1").send_in(TEXT_BEGINS, &payload, 1300);
    cases.push(case.comes(TEXT, payload));
    cases
}
