//! Attacks that one address can make, and what others notice of them.
//!
//! Each attack has a short form, which is part of every test run and asserts nothing about time: rows come to whoever means
//! no harm, during the attack and after it, whoever attacks is refused, and nothing of theirs is left. The long form
//! (`ATTACK=long`, which `make attack` sets; `ONLY=name` takes one) measures, one attack after another on a relay of its own,
//! and prints one table. What is promised, and which promises do not hold yet, is in `expected`.
//!
//! Attackers come from another address than everybody else, and give way to the relay on the processors: they would be on
//! another machine.

mod attackers;
mod attacks;
mod background;
mod expected;
mod probes;
mod report;
mod socket;
mod stage;
mod subscriber;

use std::time::Duration;

use self::attackers::Form;
use self::attacks::{ALL, Attack, named};
use self::expected::{Promise, is_asserted};
use self::probes::{Probes, is_healthy, resident};
use self::report::{Measured, table};
use self::stage::Stage;
use crate::support::until;

/// How long the long form looks at the relay before an attack, during it, and after it.
const PHASE_DURATIONS: [Duration; 3] =
    [Duration::from_secs(4), Duration::from_secs(12), Duration::from_secs(5)];

/// The short form.
async fn harms_nobody(name: &str) {
    let attack = named(name);
    let stage = Stage::set(&attack, Form::Short).await;
    let port = stage.relay.port();
    let target = stage.target(Form::Short);
    let attackers = attackers::start(attack.run, &target);
    until("the attack to be under way", || std::future::ready(target.is_under_way().then_some(())))
        .await;
    stage.subscriber.is_served(20).await;
    if is_asserted(name, Promise::Refused) {
        until("the attacker to be refused", || {
            std::future::ready((!target.refusals().is_empty()).then_some(()))
        })
        .await;
    }
    if is_asserted(name, Promise::Bystander) {
        until("a bystander to be served", || attack.bystander.attempt(port)).await;
    }
    assert!(is_healthy(port).await.is_some(), "{name}: the relay does not answer");
    drop(attackers);
    stage.is_left().await;
    stage.subscriber.is_served(5).await;
    let log = stage.relay.log_text();
    let panic = log.lines().find(|line| line.contains("panicked"));
    assert_eq!(panic, None, "{name}: a task of the relay");
}

#[tokio::test]
async fn unfinished_frames_harm_nobody() {
    harms_nobody("unfinished frames").await;
}

#[tokio::test]
async fn presences_harm_nobody() {
    harms_nobody("presences").await;
}

#[tokio::test]
async fn filters_harm_nobody() {
    harms_nobody("wishes").await;
}

#[tokio::test]
async fn match_patterns_harm_nobody() {
    harms_nobody("match patterns").await;
}

#[tokio::test]
async fn like_filters_harm_nobody() {
    harms_nobody("like filters").await;
}

#[tokio::test]
async fn tokens_of_one_user_harm_nobody() {
    harms_nobody("tokens of one user").await;
}

#[tokio::test]
async fn regexps_at_joins_harm_nobody() {
    harms_nobody("regexps at joins").await;
}

#[tokio::test]
async fn snapshots_harm_nobody() {
    harms_nobody("snapshots").await;
}

#[tokio::test]
async fn silent_connections_harm_nobody() {
    harms_nobody("silent connections").await;
}

#[tokio::test]
async fn slow_bodies_harm_nobody() {
    harms_nobody("slow bodies").await;
}

#[tokio::test]
async fn broadcasts_by_http_harm_nobody() {
    harms_nobody("broadcasts by HTTP").await;
}

#[tokio::test]
async fn unauthenticated_chat_sockets_harm_nobody() {
    harms_nobody("strangers in the chat").await;
}

#[tokio::test]
async fn junk_frames_harm_nobody() {
    harms_nobody("junk frames").await;
}

#[tokio::test]
async fn heartbeats_harm_nobody() {
    harms_nobody("heartbeats").await;
}

#[tokio::test]
async fn refused_joins_harm_nobody() {
    harms_nobody("refused joins").await;
}

/// One attack in its long form. The phases are measured for as long as they last, so time itself is meant by each sleep.
async fn measure(attack: Attack, [idle, attacked, after]: [Duration; 3], form: Form) -> Measured {
    eprintln!("attack: {}", attack.name);
    let stage = Stage::set(&attack, form).await;
    let probes = Probes::start(stage.relay.port(), stage.relay.pid(), attack.bystander);
    // What came while it was set up is of no account.
    stage.subscriber.times(Duration::ZERO).await;
    probes.phase();
    tokio::time::sleep(idle).await;
    let idle = (stage.subscriber.times(Duration::from_secs(1)).await, probes.phase());
    let (target, lines) = (stage.target(form), stage.log_lines());
    let attackers = attackers::start(attack.run, &target);
    tokio::time::sleep(attacked).await;
    let log_lines_a_second = (stage.log_lines() - lines) as f64 / attacked.as_secs_f64();
    if expected::MAX_LOG_LINES_PER_SECOND < log_lines_a_second {
        let log = stage.relay.log_text();
        log.lines().skip(lines).take(3).for_each(|line| eprintln!("attack: logged: {line}"));
    }
    // Rows that are late by more than this are missing; they count with the time they have waited.
    let attacked = (stage.subscriber.times(Duration::from_secs(5)).await, probes.phase());
    drop(attackers);
    tokio::time::sleep(after).await;
    let after = resident(stage.relay.pid());
    Measured { attack, idle, attacked, after, log_lines_a_second, refusals: target.refusals() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table() {
    let is_long = std::env::var("ATTACK").is_ok_and(|form| form == "long");
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut measured = Vec::new();
    if is_long {
        for attack in ALL.iter().filter(|attack| attack.name.contains(&only)) {
            measured.push(measure(*attack, PHASE_DURATIONS, Form::Long).await);
        }
    } else {
        // That it can be measured and written at all.
        let short = [Duration::from_millis(500); 3];
        measured.push(measure(named("junk frames"), short, Form::Short).await);
    }
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    eprintln!(
        "\nattack: {build} build, {cores} processors; times in ms, memory in MiB\n\n{}",
        table(&measured)
    );
    if is_long {
        let faults = measured.iter().filter(|one| !one.faults().is_empty());
        let faults: Vec<_> = faults.map(|one| (one.attack.name, one.faults())).collect();
        assert!(faults.is_empty(), "promises that do not hold: {faults:?}");
    }
}
