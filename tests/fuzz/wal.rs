//! The WAL: messages of pgoutput in their envelopes, put together to transactions.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use relay::pgoutput::{Assembler, Envelope, emitted};

use super::runner::{outcome, words};

/// The golden streams, each message with its length before it.
pub fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pgoutput");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| stream(&fs::read_to_string(path).unwrap())).collect()
}

fn stream(text: &str) -> Vec<u8> {
    let mut messages = Vec::<Vec<u8>>::new();
    let lines = text.lines().take_while(|line| *line != "----");
    for line in lines.filter(|line| !line.starts_with('#')) {
        let hex = line.trim_start().split("  ").next().unwrap_or_default();
        let bytes = hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap());
        match messages.last_mut() {
            Some(message) if line.starts_with("  ") => message.extend(bytes),
            _ => messages.push(bytes.collect()),
        }
    }
    let mut stream = Vec::new();
    for message in messages {
        stream.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        stream.extend(message);
    }
    stream
}

/// Reads messages until one is refused, as the source does.
pub fn read(input: &[u8]) -> u64 {
    let mut assembler = Assembler::new(1 << 16, 0);
    let (mut rest, mut kinds) = (input, Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (message, after) = after.split_at(length);
        rest = after;
        let message = Bytes::copy_from_slice(message);
        kinds.push(message.first().copied());
        let _ = emitted(&message, "relay");
        for tag in *b"wk" {
            let _ = Envelope::decode(Bytes::from([&[tag], &message[..]].concat()));
        }
        match assembler.push(message) {
            Ok(Some(transaction)) => {
                // What comes out can be looked at.
                let _ = format!("{transaction:?}");
            }
            Ok(None) => {}
            Err(error) => return outcome((words(&error.to_string()), kinds.len().min(8))),
        }
    }
    kinds.dedup();
    outcome(kinds.iter().take(8).collect::<Vec<_>>())
}
