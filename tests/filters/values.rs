//! Values of every type worth comparing: the odd ones by hand, the rest at random.

/// A small generator, so that a failure can be run again from its seed.
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap() % limit
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub fn word(&mut self, alphabet: &[&str], most: usize) -> String {
        (0..=self.below(most + 1)).skip(1).map(|_| *self.pick(alphabet)).collect()
    }
}

/// How to fill a column and what may be asked of it.
pub struct Column {
    pub name: &'static str,
    /// Its declaration.
    pub declared: &'static str,
    /// The type literals are cast to.
    pub literal: &'static str,
    pub family: Family,
    /// Every comparison is decided here, never by Postgres.
    pub is_total: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Plain,
    Text,
    CaseBlind,
    Bytes,
    Bool,
    Array,
}

const fn column(
    name: &'static str,
    declared: &'static str,
    literal: &'static str,
    family: Family,
    is_total: bool,
) -> Column {
    Column { name, declared, literal, family, is_total }
}

pub const COLUMNS: &[Column] = &[
    column("i2", "int2", "int2", Family::Plain, true),
    column("i4", "int4", "int4", Family::Plain, true),
    column("i8", "int8", "int8", Family::Plain, true),
    column("num", "numeric", "numeric", Family::Plain, true),
    column("fixed", "numeric(12,2)", "numeric", Family::Plain, true),
    column("f4", "float4", "float4", Family::Plain, true),
    column("f8", "float8", "float8", Family::Plain, true),
    column("body", "text", "text", Family::Text, false),
    column("plain", "text collate \"C\"", "text", Family::Text, true),
    column("tag", "varchar(20)", "varchar", Family::Text, false),
    column("ctag", "varchar(20) collate \"C\"", "varchar", Family::Text, true),
    column("code", "char(6)", "bpchar", Family::Text, false),
    column("ccode", "char(6) collate \"C\"", "bpchar", Family::Text, true),
    column("who", "name", "name", Family::Text, true),
    column("dom", "short", "varchar", Family::Text, false),
    column("key", "uuid", "uuid", Family::Plain, true),
    column("ok", "boolean", "boolean", Family::Bool, true),
    column("day", "date", "date", Family::Plain, true),
    column("ts", "timestamp", "timestamp", Family::Plain, true),
    column("tz", "timestamptz", "timestamptz", Family::Plain, true),
    column("feeling", "mood", "mood", Family::Plain, true),
    column("raw", "bytea", "bytea", Family::Bytes, true),
    column("doc", "jsonb", "jsonb", Family::Plain, false),
    column("labels", "text[]", "text[]", Family::Array, false),
    column("numbers", "int4[]", "int4[]", Family::Array, false),
    column("prices", "numeric[]", "numeric[]", Family::Array, false),
    column("clock", "time", "time", Family::Plain, false),
    column("span", "interval", "interval", Family::Plain, false),
    column("addr", "inet", "inet", Family::Plain, false),
    column("num_oid", "oid", "oid", Family::Plain, false),
    column("bits", "varbit", "varbit", Family::Plain, false),
    column("pair", "pair", "pair", Family::Plain, false),
    column("reach", "int4range", "int4range", Family::Plain, false),
];

/// Columns of types that a server may lack: ICU collations, citext.
pub const OPTIONAL: &[(&str, Column)] = &[
    (
        "create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        column("lax", "text collate loose", "text", Family::Text, false),
    ),
    (
        "create collation turkish (provider = icu, locale = 'tr-TR')",
        column("dotted", "text collate turkish", "text", Family::Text, false),
    ),
    (
        "create collation english (provider = icu, locale = 'en-US')",
        column("english", "text collate english", "text", Family::Text, false),
    ),
    (
        "create schema extensions; grant usage on schema extensions to anon;
         create extension citext with schema extensions",
        column("ci", "extensions.citext", "extensions.citext", Family::CaseBlind, false),
    ),
];

const LETTERS: &[&str] = &[
    "a", "b", "A", "B", "i", "I", "é", "É", "ß", "日", "😀", " ", "%", "_", "\\", "\"", ",", "(",
    ")", "'", ".", "1", "{", "}", "\t", "\n",
];

/// Values a column's rows and operands are taken from.
pub fn pool(column: &Column, random: &mut Random) -> Vec<String> {
    let mut values: Vec<String> = by_hand(column.name).iter().map(|&value| value.into()).collect();
    for _ in 0..12 {
        values.push(at_random(column.name, random));
    }
    if values.iter().any(String::is_empty) && column.name == "dom" {
        values.retain(|value| !value.is_empty());
    }
    values
}

fn by_hand(name: &str) -> &'static [&'static str] {
    match name {
        "i2" => &["0", "-1", "32767", "-32768", "7"],
        "i4" => &["0", "-1", "2147483647", "-2147483648", "7"],
        "i8" => &["0", "9007199254740993", "9223372036854775807", "-9223372036854775808"],
        "num" => &[
            "0",
            "-0.00",
            "1.0",
            "1.00",
            "1",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e50",
            "1e-50",
            "-12345678901234567890.123",
            "99.9",
        ],
        "fixed" => &["0", "1", "1.5", "NaN", "-9999999999.99", "9999999999.99"],
        "f4" | "f8" => &["0", "-0", "NaN", "Infinity", "-Infinity", "1e-30", "-1e30", "0.1", "1.5"],
        "key" => &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
        "ok" => &["t", "f", "t", "f"],
        "day" => &[
            "infinity",
            "-infinity",
            "0044-03-15 BC",
            "4713-11-24 BC",
            "5874897-12-31",
            "2024-02-29",
        ],
        "ts" => &[
            "infinity",
            "-infinity",
            "0044-03-15 01:02:03 BC",
            "294276-12-31 23:59:59.999999",
            "2024-01-01",
        ],
        "tz" => &[
            "infinity",
            "-infinity",
            "0044-03-15 01:02:03+00 BC",
            "2024-01-01 02:00+02",
            "2024-01-01 00:00+00",
        ],
        "feeling" => &["sad", "ok", "happy", "Ok"],
        "raw" => &["", "00", "0102", "01", "ff", "0102ff"],
        "doc" => &[
            "{}",
            "[]",
            "null",
            "1",
            "1.0",
            "1.00",
            "\"1\"",
            "{\"a\":1}",
            "{\"a\":1.0}",
            "{\"b\":1,\"a\":[1,2]}",
        ],
        "labels" => &[
            "{}",
            "{a}",
            "{a,NULL}",
            "{\"a b\",\"\"}",
            "{{a,b},{c,d}}",
            "[2:3]={a,b}",
            "{\"NULL\"}",
        ],
        "numbers" => &["{}", "{1}", "{1,NULL}", "{1,2}", "[0:1]={1,2}"],
        "prices" => &["{1}", "{1.0}", "{NaN}", "{}"],
        "clock" => &["00:00", "24:00", "12:30:00.5"],
        "span" => &["1 mon", "30 days", "720 hours", "-1 day", "0"],
        "addr" => &["10.0.0.1", "10.0.0.1/32", "10.0.0.0/8", "::1"],
        "num_oid" => &["0", "1", "4294967295"],
        "bits" => &["", "0", "00", "101"],
        "pair" => &["(1,a)", "(1,)", "(,)", "(2,b)"],
        "reach" => &["empty", "[1,2]", "[1,3)", "(,5)", "[1,)"],
        "code" | "ccode" => &["", "cat", "cat  ", "cow", "Cat", " cat", "c%", "é"],
        "who" => &["", "a", "ab", "A", "é"],
        _ => &[
            "", "abc", "ABC", "Abc", "abcd", "a%c", "a_c", "a\\c", "ı", "İ", "I", "i", "Iı", " x ",
            "null",
        ],
    }
}

fn at_random(name: &str, random: &mut Random) -> String {
    let bits = random.next();
    match name {
        "i2" => (bits as i16).to_string(),
        "i4" => (bits as i32).to_string(),
        "i8" => (bits as i64).to_string(),
        "num" => {
            let digits: String =
                (0..=random.below(40)).map(|_| *random.pick(&["0", "1", "9"])).collect();
            let place = random.below(digits.len() + 1);
            let sign = random.pick(&["", "-"]);
            let (whole, fraction) = digits.split_at(place);
            format!("{sign}0{whole}.{fraction}0")
        }
        "fixed" => format!("{}.{}", (bits as i32) / 1000, bits % 100),
        "f4" => {
            let value = f32::from_bits(bits as u32);
            if value.is_nan() { "NaN".to_owned() } else { value.to_string() }
        }
        "f8" => {
            let value = f64::from_bits(bits);
            if value.is_nan() { "NaN".to_owned() } else { value.to_string() }
        }
        "key" => {
            let text = format!("{bits:016x}{:016x}", random.next());
            format!(
                "{}-{}-{}-{}-{}",
                &text[..8],
                &text[8..12],
                &text[12..16],
                &text[16..20],
                &text[20..]
            )
        }
        "ok" => (*random.pick(&["t", "f"])).to_owned(),
        "day" => format!(
            "{:04}-{:02}-{:02}",
            1 + bits % 12000,
            1 + random.below(12),
            1 + random.below(28)
        ),
        "ts" => format!(
            "{:04}-{:02}-03 04:05:{:02}.{:06}",
            1 + bits % 9999,
            1 + random.below(12),
            random.below(60),
            random.below(1_000_000)
        ),
        "tz" => format!(
            "{:04}-{:02}-03 04:05:06.{}{:+03}",
            1 + bits % 9999,
            1 + random.below(12),
            random.below(1000),
            (bits % 25) as i64 - 12
        ),
        "feeling" => (*random.pick(&["sad", "ok", "happy", "Ok"])).to_owned(),
        "raw" => (0..random.below(5)).map(|_| format!("{:02x}", random.next() % 256)).collect(),
        "doc" => format!(
            "{{\"{}\":{}}}",
            random.pick(&["a", "b"]),
            random.pick(&["1", "1.0", "[1,2]", "\"x.y\"", "null"])
        ),
        "labels" => format!(
            "{{{},{}}}",
            random.pick(&["a", "b", "\"A,b\"", "NULL"]),
            random.pick(&["a", "é", "\"\\\"\""])
        ),
        "numbers" => format!("{{{},{}}}", bits as i32, random.below(3)),
        "prices" => format!("{{{}.{}0}}", random.below(3), random.below(3)),
        "clock" => {
            format!("{:02}:{:02}:{:02}", random.below(24), random.below(60), random.below(60))
        }
        "span" => format!("{} days {} hours", random.below(3), random.below(30)),
        "addr" => format!("10.0.{}.{}", random.below(2), random.below(3)),
        "num_oid" => (bits as u32).to_string(),
        "bits" => random.word(&["0", "1"], 4),
        "pair" => format!("({},{})", random.below(3), random.pick(&["a", "b", ""])),
        "reach" => format!("[{},{}]", random.below(3), 3 + random.below(3)),
        "code" | "ccode" | "who" => random.word(&LETTERS[..12], 6),
        _ => random.word(LETTERS, 6),
    }
}

/// Patterns for `like` and `ilike`.
pub fn like_patterns(random: &mut Random) -> Vec<String> {
    let mut patterns: Vec<String> = [
        "", "%", "_", "a%", "%c", "A%", "a\\%c", "a\\\\c", "a_c", "%b%", "cat", "c__", "%é%", "i",
        "I", "0%", "%F%",
    ]
    .map(str::to_owned)
    .to_vec();
    for _ in 0..8 {
        let pattern = random.word(&["a", "B", "i", "é", "%", "_", "\\%", "\\\\", "c"], 5);
        patterns.push(pattern);
    }
    patterns
}

/// Patterns for `match` and `imatch`: of both kinds, those Rust decides and those it leaves.
pub fn expressions(random: &mut Random) -> Vec<String> {
    let mut patterns: Vec<String> = [
        "",
        "^a",
        "c$",
        "a.c",
        "^[a-c]+$",
        "^[^0-9]*$",
        "(cat|cow)",
        "^(?:a|b|A)+$",
        "a{1,2}b?",
        r"^\w+$",
        r"\d",
        r"\s",
        r"a\.c",
        "^$",
        "é",
        "[[:alpha:]]+",
        "(?i)abc",
        r"(a)\1",
        "a*?b",
        r"\mA",
        "^i",
        "I$",
        "[éß]",
        ".",
        "^.$",
        "[a-c-]",
        "x|",
        "(?=a)",
        r"[\d]",
        r"\u0061",
    ]
    .map(str::to_owned)
    .to_vec();
    for _ in 0..8 {
        let pattern = random.word(&["a", "B", "[ab]", "[A-C]?", ".", "c*", "(a|b)", "i", "\\."], 4);
        patterns.push(format!("{}{pattern}{}", random.pick(&["", "^"]), random.pick(&["", "$"])));
    }
    patterns
}
