//! The relay is killed, frozen, stopped.

use std::time::{Duration, Instant};

use super::arena::{Arena, Plan, Resync, size};

/// Middle and worst of some times, for people.
pub fn figures(what: &str, mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let (Some(middle), Some(worst)) = (times.get(times.len() / 2), times.last()) else {
        return format!("{what}: none");
    };
    format!(
        "{what} p50 {} ms, worst {} ms of {}",
        middle.as_millis(),
        worst.as_millis(),
        times.len()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_again_and_again_loses_nothing() {
    let plan = Plan::new((8, 100), (49, 500)).with_sdk();
    let mut arena = Arena::start("relay killed", plan).await;
    let (mut ready, mut reached) = (Vec::new(), Vec::new());
    for round in 0..size(3, 100) {
        tokio::time::sleep(arena.dice.millis(size(100, 1000), size(1500, 5000))).await;
        arena.relay.kill();
        let start = Instant::now();
        arena.relay.launch();
        arena.relay.ready().await;
        ready.push(start.elapsed());
        // The SDK's own schedule is slower than the others'.
        if round % 10 == 0
            && let Some(took) = arena.reach_since(start).await
        {
            reached.push(took);
        }
    }
    arena.figures.push(figures("streaming again", ready));
    arena.figures.push(figures("a new row at every client, from its launch", reached));
    arena.verdict(Resync::None).await;
}
