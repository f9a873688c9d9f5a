//! The runner: picks an input, bends it, has it read, and keeps it when the outcome is new.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::chaos::dice::{Dice, seed};

/// Inputs of a target in every test run. Few, because it is not optimised.
const SHORT: usize = 2_000;

/// Inputs that are kept; more replace others.
const KEPT: usize = 4_096;

/// Bytes of an input.
const LONGEST: usize = 64 * 1024;

/// Reading one input may take so long in `make fuzz`; whatever is slower holds up more than itself.
const SLOWEST: Duration = Duration::from_secs(5);

/// Where bytes from outside are read.
#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    /// Good inputs, and those that were not good once.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Words that mean something there.
    pub dictionary: &'static [&'static str],
    /// Reads an input; what came of it, roughly, is the same for inputs that were taken in the same way.
    pub read: fn(&[u8]) -> u64,
}

/// A number for an outcome.
pub fn outcome(outcome: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    outcome.hash(&mut hasher);
    hasher.finish()
}

/// The words of a text without what is quoted and counted in it.
pub fn words(text: &str) -> String {
    let mut is_quoted = false;
    let plain = text.chars().filter(|c| {
        is_quoted ^= matches!(c, '"' | '`');
        !is_quoted && !c.is_ascii_digit()
    });
    plain.take(60).collect()
}

/// Runs a target for `FUZZ_SECONDS`, or for a moment that is the same each time.
pub fn run(target: &Target) {
    let seconds =
        std::env::var("FUZZ_SECONDS").ok().map(|text| text.parse().expect("FUZZ_SECONDS"));
    let seed = if seconds.is_some() || std::env::var("SEED").is_ok() { seed() } else { 1 };
    let (name, until) = (target.name, seconds.map(|s| Instant::now() + Duration::from_secs(s)));
    let mut kept = (target.corpus)();
    let good = kept.len();
    let mut seen = HashSet::new();
    for (index, input) in kept.iter().enumerate() {
        seen.insert(read(target, input, seed, index, until.is_some()));
    }
    let (mut dice, mut count) = (Dice::new(seed), good);
    while until.map_or(count < SHORT, |until| Instant::now() < until) {
        count += 1;
        let input = bend(&kept, target.dictionary, &mut dice);
        if seen.insert(read(target, &input, seed, count, until.is_some())) {
            if kept.len() < KEPT {
                kept.push(input);
            } else {
                let index = good + below(&mut dice, KEPT - good);
                kept[index] = input;
            }
        }
    }
    eprintln!("fuzz: {name}: SEED={seed}, {count} inputs, {} outcomes, nothing failed", seen.len());
}

/// Has one input read, and says which it was when that fails.
fn read(target: &Target, input: &[u8], seed: u64, count: usize, is_timed: bool) -> u64 {
    let began = Instant::now();
    let read = catch_unwind(AssertUnwindSafe(|| (target.read)(input)));
    let is_slow = is_timed && SLOWEST < began.elapsed();
    match read {
        Ok(outcome) if !is_slow => outcome,
        failed => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
            std::fs::create_dir_all(&folder).unwrap();
            let file = folder.join(format!("{}-{seed}-{count}", target.name));
            std::fs::write(&file, input).unwrap();
            let what = if failed.is_err() { "panicked" } else { "took too long" };
            panic!(
                "fuzz: {}: SEED={seed}, input {count} {what}: {}\n{}",
                target.name,
                file.display(),
                input.escape_ascii()
            );
        }
    }
}

fn below(dice: &mut Dice, below: usize) -> usize {
    usize::try_from(dice.below(u64::try_from(below.max(1)).unwrap())).unwrap()
}

/// An input made of those that are kept.
fn bend(kept: &[Vec<u8>], dictionary: &[&str], dice: &mut Dice) -> Vec<u8> {
    /// Bytes that are borders somewhere.
    const BORDERS: [u8; 16] =
        [0, 1, 2, 9, 10, 0x1f, 0x20, 0x22, 0x2c, 0x5c, 0x7f, 0x80, 0xc0, 0xed, 0xf4, 0xff];
    let mut input = kept[below(dice, kept.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = below(dice, input.len() + 1);
        let end = at + below(dice, (input.len() - at).min(32) + 1);
        match dice.below(10) {
            0 if at < input.len() => input[at] ^= 1 << dice.below(8),
            1 if at < input.len() => input[at] = BORDERS[below(dice, BORDERS.len())],
            2 => input.insert(at, BORDERS[below(dice, BORDERS.len())]),
            3 => drop(input.drain(at..end)),
            4 => {
                let part = input[at..end].to_vec();
                let to = below(dice, input.len() + 1);
                input.splice(to..to, part);
            }
            5 => input.truncate(at),
            6 if !dictionary.is_empty() => {
                let word = dictionary[below(dice, dictionary.len())];
                let to = if dice.chance(50) { at } else { end };
                input.splice(at..to, word.bytes());
            }
            7 => {
                // The end of another one.
                let other = &kept[below(dice, kept.len())];
                let from = below(dice, other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            8 => {
                // Much of the same, for what nests and what counts.
                let part = input[at..end].to_vec();
                let many = part.repeat(1 + below(dice, 200));
                input.splice(at..at, many);
            }
            _ => {
                let noise = (0..dice.below(8)).map(|_| dice.below(256).to_be_bytes()[7]);
                let noise: Vec<u8> = noise.collect();
                input.splice(at..at, noise);
            }
        }
        input.truncate(LONGEST);
    }
    input
}

#[test]
fn an_input_that_panics_is_named() {
    let read = |input: &[u8]| if input.starts_with(b"ab") { panic!("bad") } else { 0 };
    let target = Target { name: "itself", corpus: Vec::new, dictionary: &[], read };
    assert_eq!(super::runner::read(&target, b"b", 1, 1, false), 0);
    let failed = catch_unwind(|| super::runner::read(&target, b"abc", 1, 2, false));
    let text = *failed.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("SEED=1, input 2 panicked") && text.ends_with("abc"), "{text}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz/itself-1-2");
    assert_eq!(std::fs::read(&file).unwrap(), b"abc");
    std::fs::remove_file(file).unwrap();
}
