//! The cases of the Autobahn test suite that concern a server without extensions, against an echo on a client's wire.
//!
//! `cases` is the suite's list as data, numbered as there; `talk` sends a case byte by byte over TCP and reads what comes.
//! Sizes are bounded so that all of it takes seconds, and what is longer than the limit of a message must be refused. Not
//! here: compression (12.*, 13.*), which is never agreed on; sending without end (9.9, 9.10); the time that anything takes.

mod cases;
mod talk;

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::net::{TcpListener, TcpStream};

use self::cases::Case;
use super::wire::{Incoming, Wire};
use crate::egress::unfinished::Unfinished;
use crate::hub::Frame;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::model::{CallerIdentity, Network};

/// The default of `limits.frame`.
const LIMIT: usize = 5_000_000;

/// How long anything may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// Says everything again, as a socket would answer: until the client is gone or has broken the protocol.
async fn echo(stream: TcpStream) {
    let memory = Memory::new(1 << 30, &Metrics::new());
    let caller = CallerIdentity::Stranger(Network::UNKNOWN);
    let unfinished = Unfinished::new(memory, caller, PATIENCE);
    let mut wire = Wire::open(stream, Vec::new(), LIMIT, unfinished).await;
    loop {
        let frame = match wire.next().await {
            Incoming::Text(text) => Frame::Text(text),
            Incoming::Binary(bytes) => Frame::Binary(bytes),
            Incoming::Pong(_) | Incoming::Alive => continue,
            Incoming::Ended => return,
            Incoming::Broken(code, reason) => return wire.close(code, reason).await,
            Incoming::Faulty(fault) => panic!("{fault:?}"),
        };
        if wire.send(&mut vec![frame], PATIENCE, || false).await.is_err() {
            return;
        }
    }
}

/// What was wrong, if anything.
async fn failure(case: Case) -> Option<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async { echo(listener.accept().await.unwrap().0).await };
    let talk = async {
        let stream = TcpStream::connect(address).await.unwrap();
        talk::talk(stream, &case).await
    };
    let both = async { tokio::join!(serve, talk).1 };
    match tokio::time::timeout(PATIENCE, both).await {
        Ok(Ok(())) => None,
        Ok(Err(what)) => Some(format!("{}: {what}", case.id)),
        Err(_) => Some(format!("{}: stuck", case.id)),
    }
}

#[tokio::test]
async fn the_cases_of_the_autobahn_suite_pass() {
    let cases = cases::all();
    assert_eq!(cases.len(), cases::COUNT);
    let failures = futures_util::stream::iter(cases).map(failure).buffer_unordered(8);
    let failures: Vec<String> = failures.filter_map(std::future::ready).collect().await;
    assert!(failures.is_empty(), "{failures:#?}");
}
