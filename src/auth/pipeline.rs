//! Questions that are sent together with what ends them.

use std::future::poll_fn;
use std::pin::pin;

use tokio_postgres::Error;

/// What `asking` comes to. `end` is sent behind it and not waited for: what is asked next on the connection comes after it,
/// and a connection on which it fails is lost.
pub(super) async fn before_the_end<T>(
    asking: impl Future<Output = T>,
    end: impl Future<Output = Result<(), Error>>,
) -> T {
    let (mut asking, mut end, mut is_sent) = (pin!(asking), pin!(end), false);
    poll_fn(|context| {
        let asked = asking.as_mut().poll(context);
        if !is_sent {
            is_sent = true;
            // Its first poll sends it.
            let _ = end.as_mut().poll(context);
        }
        asked
    })
    .await
}
