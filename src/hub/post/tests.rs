use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::hub::{Backlog, Closed, Undelivered};

/// Passes frames on while it is open, and keeps nothing.
#[derive(Debug)]
struct Hatch {
    passed: mpsc::Sender<Frame>,
    is_open: Arc<AtomicBool>,
}

impl Door for Hatch {
    fn put(&mut self, frames: &mut Vec<Frame>, _scratch: &mut Vec<u8>) -> bool {
        for frame in frames.drain(..) {
            self.passed.try_send(frame).unwrap();
        }
        self.is_open.load(Ordering::Relaxed)
    }
}

/// An outbox with a hatch, as it is once its owner looked at it.
fn outbox(post: &Arc<Post>) -> (Arc<Outbox>, mpsc::Receiver<Frame>, Arc<AtomicBool>) {
    let outbox = Arc::new(Outbox::new(1 << 20, Arc::new(Backlog::new(1 << 30))));
    let (passed, frames) = mpsc::channel(1000);
    let is_open = Arc::new(AtomicBool::new(true));
    let hatch = Hatch { passed, is_open: Arc::clone(&is_open) };
    outbox.open(Arc::clone(post), Box::new(hatch));
    assert_eq!(outbox.take(&mut Vec::new()), None);
    (outbox, frames, is_open)
}

fn frame(number: u8) -> Frame {
    Frame::Binary(Bytes::from(vec![number]))
}

#[tokio::test]
async fn carries_what_is_offered_in_order_to_everyone_it_was_offered_to() {
    let stage = Stage::new();
    let post = Post::start(&stage);
    let mut ends: Vec<_> = (0..100).map(|_| outbox(&post)).collect();
    for number in 0..20 {
        for (outbox, ..) in &ends {
            outbox.offer(frame(number)).unwrap();
        }
        tokio::task::yield_now().await;
    }
    for (_, frames, _) in &mut ends {
        for number in 0..20 {
            assert_eq!(frames.recv().await, Some(frame(number)));
        }
    }
}

#[tokio::test]
async fn leaves_an_outbox_to_its_owner_when_the_door_is_stuck_until_nothing_is_left() {
    let stage = Stage::new();
    let (outbox, mut frames, is_open) = outbox(&Post::start(&stage));
    is_open.store(false, Ordering::Relaxed);
    outbox.offer(frame(1)).unwrap();
    let mut taken = Vec::new();
    assert_eq!(outbox.drain(&mut taken).await, Ok(()));
    assert!(taken.is_empty());
    assert_eq!(frames.recv().await, Some(frame(1)));
    outbox.offer(frame(2)).unwrap();
    assert_eq!(outbox.drain(&mut taken).await, Ok(()));
    assert_eq!(taken, [frame(2)]);
    is_open.store(true, Ordering::Relaxed);
    assert_eq!(outbox.take(&mut taken), None);
    outbox.offer(frame(3)).unwrap();
    assert_eq!(frames.recv().await, Some(frame(3)));
}

#[tokio::test]
async fn an_owner_that_takes_over_gets_what_was_not_carried_and_the_post_comes_no_more() {
    let stage = Stage::new();
    let (outbox, mut frames, _) = outbox(&Post::start(&stage));
    outbox.offer(frame(1)).unwrap();
    outbox.close(Closed::Drain);
    outbox.take_over().await;
    let mut taken = Vec::new();
    assert_eq!(outbox.take(&mut taken), Some(Ok(())));
    assert_eq!(outbox.take(&mut taken), Some(Err(Closed::Drain)));
    assert_eq!(taken, [frame(1)]);
    // The hatch is gone.
    assert_eq!(frames.recv().await, None);
}

#[tokio::test]
async fn what_is_on_its_way_is_carried_before_a_close_is_told() {
    let stage = Stage::new();
    let (outbox, mut frames, _) = outbox(&Post::start(&stage));
    outbox.offer(frame(1)).unwrap();
    outbox.close(Closed::Drain);
    assert_eq!(outbox.drain(&mut Vec::new()).await, Err(Closed::Drain));
    assert_eq!(frames.try_recv(), Ok(frame(1)));
}

#[tokio::test]
async fn owners_write_themselves_once_the_stage_stops() {
    let stage = Stage::new();
    let (outbox, _frames, _) = outbox(&Post::start(&stage));
    assert!(stage.stop(Duration::from_secs(5)).await);
    outbox.offer(frame(1)).unwrap();
    let mut taken = Vec::new();
    assert_eq!(outbox.drain(&mut taken).await, Ok(()));
    assert_eq!(taken, [frame(1)]);
}

#[tokio::test]
async fn a_sealed_outbox_lets_its_door_go_and_takes_nothing() {
    let stage = Stage::new();
    let (outbox, mut frames, _) = outbox(&Post::start(&stage));
    outbox.offer(frame(1)).unwrap();
    outbox.seal();
    assert_eq!(outbox.offer(frame(2)), Err(Undelivered::Gone));
    assert_eq!(frames.recv().await, None);
}

#[tokio::test]
async fn a_paused_outbox_keeps_what_it_is_offered_until_it_goes_on() {
    let stage = Stage::new();
    let post = Post::start(&stage);
    let (paused, mut frames, _) = outbox(&post);
    let (other, mut others, _) = outbox(&post);
    paused.pause();
    paused.offer(frame(1)).unwrap();
    other.offer(frame(9)).unwrap();
    assert_eq!(others.recv().await, Some(frame(9)), "a round was made");
    assert!(frames.try_recv().is_err());
    paused.offer(frame(2)).unwrap();
    paused.resume();
    assert_eq!((frames.recv().await, frames.recv().await), (Some(frame(1)), Some(frame(2))));
    paused.offer(frame(3)).unwrap();
    assert_eq!(frames.recv().await, Some(frame(3)));
}
