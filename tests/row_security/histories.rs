//! Random histories against a running relay: what a select shows right after a commit is what arrives, for everybody.
//!
//! A history is a random table with random policies, and transactions with several changes each. For every change and
//! every principal Postgres itself is asked what a select shows, and the subscriber's stream is compared with that:
//! delivered with the exact row, or not delivered, or withheld where the image of the row cannot answer, told and counted.
//!
//! `RIGHTS_SEED=n` repeats one history. A history is a function of its seed and of the Postgres version alone. All faults
//! of a run are kept under `target/histories`.

mod causes;
mod compare;
mod drafts;
mod expect;
pub mod history;
mod late;
mod oracle;
mod rules;
mod shape;
mod shifts;
mod tables;
mod tally;
mod transactions;
mod world;

use std::ops::Range;

use self::history::History;
use self::tally::Tally;
use self::world::{WORLDS, World};
use crate::support::Cluster;

/// Worlds under way at once: each is a relay.
const AT_ONCE: u64 = 2;

/// How many histories every run of the tests plays.
const HISTORIES: u64 = 500;

/// At most one change of so many that are delivered is judged by rights of before.
const LATE: u64 = 50;

/// How many faults are written out in full.
const SHOWN: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_select_shows_is_what_arrives() {
    play(0..HISTORIES).await;
}

/// Plays the histories with these seeds, or the one that is asked for.
pub async fn play(seeds: Range<u64>) {
    let one = std::env::var("RIGHTS_SEED")
        .ok()
        .map(|text| text.parse().expect("RIGHTS_SEED is a number"));
    let seeds = one.map_or(seeds, |one: u64| one..one + 1);
    let cluster = std::sync::Arc::new(Cluster::start(&[]));
    let mut players = Vec::new();
    for first in 0..AT_ONCE {
        let (cluster, seeds) = (std::sync::Arc::clone(&cluster), seeds.clone());
        players.push(tokio::spawn(async move {
            let mut tally = Tally::default();
            for number in (first..WORLDS).step_by(usize::try_from(AT_ONCE).unwrap()) {
                let mut own = seeds.clone().filter(|seed| seed % WORLDS == number).peekable();
                if own.peek().is_none() {
                    continue;
                }
                let mut world = World::start(&cluster, number).await;
                for seed in own {
                    let played = History::new(&mut world, seed).run().await;
                    let is_stalled =
                        played.faults.iter().any(|fault| fault.class == compare::Class::Stalled);
                    tally.add(played);
                    if is_stalled {
                        // What was late would be taken for the next history's.
                        world = World::start(&cluster, number).await;
                    }
                }
            }
            tally
        }));
    }
    let mut tally = Tally::default();
    for player in players {
        tally.add(player.await.unwrap());
    }
    eprintln!("histories: {}", tally.report());
    let rare = tally.rare();
    assert!(tally.histories < 500 || rare.is_empty(), "occurred too rarely: {}", rare.join(", "));
    // Of a few histories, one that is about such rights is many.
    let is_often = tally.delivered < tally.late * LATE;
    assert!(tally.histories < 100 || !is_often, "{} of {} are late", tally.late, tally.delivered);
    if tally.faults.is_empty() {
        return;
    }
    let evidence = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/histories");
    std::fs::create_dir_all(&evidence).unwrap();
    let all: Vec<String> = tally.faults.iter().map(ToString::to_string).collect();
    std::fs::write(evidence.join(format!("faults-{}", seeds.start)), all.join("\n\n")).unwrap();
    let mut shown = Vec::new();
    for fault in &tally.faults {
        if shown.len() < SHOWN && !shown.contains(&fault.class) || one.is_some() {
            eprintln!("histories: {fault}\n");
            shown.push(fault.class);
        }
    }
    panic!("{} faults{}", tally.faults.len(), tally.found());
}
