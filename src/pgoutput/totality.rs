//! No input can panic: real streams cut, bent, shuffled, and noise.

use bytes::Bytes;
use proptest::prelude::*;

use crate::model::{Cell, ChangeKind, OldRow, Row, Transaction};
use crate::pgoutput::message::Message;
use crate::pgoutput::reader::Reader;
use crate::pgoutput::{Assembler, Envelope, golden};

/// Pushes until the first refusal, as a session does, and looks at whatever comes out.
fn run(messages: impl IntoIterator<Item = Bytes>) {
    let mut assembler = Assembler::new(1 << 16, 0);
    for message in messages {
        match assembler.push(message) {
            Ok(Some(transaction)) => every_text_is_text(&transaction),
            Ok(None) => (),
            Err(_) => break,
        }
    }
}

fn every_text_is_text(transaction: &Transaction) {
    let check = |row: &Row| {
        assert!(
            row.cells.iter().all(|cell| !matches!(cell, Cell::Text(_)) || cell.text().is_some())
        );
    };
    let check_old = |old: &OldRow| {
        if let OldRow::Key(row) | OldRow::Full(row) = old {
            check(row);
        }
    };
    for change in &transaction.changes {
        match &change.kind {
            ChangeKind::Insert { new } => check(new),
            ChangeKind::Update { old, new } => {
                check_old(old);
                check(new);
            }
            ChangeKind::Delete { old } => check_old(old),
            ChangeKind::Truncate => (),
        }
    }
}

fn bent(message: &Bytes, at: usize, byte: u8) -> Bytes {
    let mut bytes = message.to_vec();
    bytes[at] = byte;
    Bytes::from(bytes)
}

#[test]
fn every_prefix_of_a_real_message_is_refused() {
    for message in golden::all().iter().flat_map(|golden| &golden.messages) {
        for len in 0..message.len() {
            let prefix = message.slice(..len);
            assert!(Message::decode(&mut Reader::new(prefix)).is_err(), "{message:x} cut to {len}");
        }
    }
}

#[test]
fn any_byte_of_a_real_message_can_be_any_other() {
    for message in golden::all().iter().flat_map(|golden| &golden.messages) {
        for (at, good) in message.iter().enumerate() {
            for flip in 1..=255 {
                let _ = Message::decode(&mut Reader::new(bent(message, at, good ^ flip)));
            }
        }
    }
}

#[test]
fn any_bit_of_a_real_stream_can_flip() {
    for golden in golden::all() {
        for (index, message) in golden.messages.iter().enumerate() {
            for (at, good) in message.iter().enumerate() {
                for bit in 0..8 {
                    let mut messages = golden.messages.clone();
                    messages[index] = bent(message, at, good ^ (1 << bit));
                    run(messages);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn real_messages_can_come_in_any_order(picks in prop::collection::vec(any::<prop::sample::Index>(), 1..60)) {
        let messages: Vec<Bytes> = golden::all().into_iter().flat_map(|golden| golden.messages).collect();
        let mut assembler = Assembler::new(1 << 16, 0);
        for pick in picks {
            if let Ok(Some(transaction)) = assembler.push(pick.get(&messages).clone()) {
                every_text_is_text(&transaction);
            }
        }
    }

    #[test]
    fn noise_is_refused_or_understood(
        tag in prop::sample::select(b"BCORYIUDTMSEcAbPKrp\0".to_vec()),
        noise in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(b'N'), Just(b't'), any::<u8>()], 0..200),
    ) {
        let message = Bytes::from([&[tag], noise.as_slice()].concat());
        run([message]);
        for tag in *b"wk?" {
            let _ = Envelope::decode(Bytes::from([&[tag], noise.as_slice()].concat()));
        }
    }
}
