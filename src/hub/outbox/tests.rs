use super::*;

fn outbox(limit_bytes: usize) -> Arc<Outbox> {
    Arc::new(Outbox::new(limit_bytes, Arc::new(Backlog::new(1_000_000))))
}

fn frame(bytes: usize) -> Frame {
    Frame::Binary(Bytes::from(vec![0; bytes]))
}

#[tokio::test(start_paused = true)]
async fn closes_as_slow_when_it_is_full_and_stands_still() {
    let outbox = outbox(1000);
    assert_eq!(outbox.offer(frame(900)), Ok(()));
    assert_eq!(outbox.offer(frame(900)), Ok(()));
    tokio::time::advance(STANDSTILL).await;
    assert_eq!(outbox.offer(frame(900)), Err(Undelivered::Slow));
    assert_eq!(outbox.offer(frame(1)), Err(Undelivered::Gone));
    assert_eq!(outbox.take(&mut Vec::new()), Some(Err(Closed::Slow)));
}

#[tokio::test(start_paused = true)]
async fn survives_a_burst_while_it_moves() {
    let outbox = outbox(BATCH_BYTES);
    for _ in 0..10 {
        assert_eq!(outbox.offer(frame(BATCH_BYTES)), Ok(()));
        tokio::time::advance(STANDSTILL / 2).await;
        assert_eq!(outbox.offer(frame(BATCH_BYTES / 2)), Ok(()));
        assert_eq!(outbox.take(&mut Vec::new()), Some(Ok(())));
    }
}

#[test]
fn closes_as_slow_over_its_limit_while_all_together_are_over_theirs() {
    let backlog = Arc::new(Backlog::new(10_000));
    let [one, two] = [1000, 1000].map(|limit| Arc::new(Outbox::new(limit, Arc::clone(&backlog))));
    while one.offer(frame(900)) == Ok(()) {}
    assert!(one.is_slow() && backlog.bytes() == 0);
    for _ in 0..5 {
        one.offer(frame(900)).unwrap_err();
        two.offer(frame(900)).unwrap();
    }
    two.take(&mut Vec::new()).unwrap().unwrap();
    drop(two);
    assert_eq!(backlog.bytes(), 0);
}

#[test]
fn lets_one_large_frame_through_an_empty_queue() {
    let outbox = outbox(1000);
    assert_eq!(outbox.offer(frame(5000)), Ok(()));
    let mut frames = Vec::new();
    assert_eq!(outbox.take(&mut frames), Some(Ok(())));
    assert_eq!(frames.len(), 1);
}

#[tokio::test]
async fn hands_out_what_was_queued_before_it_closed() {
    let outbox = outbox(1000);
    outbox.offer(frame(1)).unwrap();
    outbox.close(Closed::Drain);
    let mut frames = Vec::new();
    assert_eq!(outbox.drain(&mut frames).await, Ok(()));
    assert_eq!(frames.len(), 1);
    assert_eq!(outbox.drain(&mut frames).await, Err(Closed::Drain));
}

#[tokio::test]
async fn wakes_the_drainer() {
    let outbox = outbox(1000);
    let drainer = Arc::clone(&outbox);
    let waiting = async move {
        let mut frames = Vec::new();
        drainer.drain(&mut frames).await.map(|()| frames.len())
    };
    let (drained, offered) = tokio::join!(waiting, async { outbox.offer(frame(1)) });
    assert_eq!((drained, offered), (Ok(1), Ok(())));
}
