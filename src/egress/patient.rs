//! A client's stream on which a write does not wait for ever: who asks and never reads gives its seat back.
//!
//! A socket has patience of its own, and takes the bare stream; one that stays here has what it sends counted by a
//! [`Meter`], which whoever reads its messages sets and tells what became one.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::unfinished::Unfinished;

/// What has arrived of the message of one stream, once the stream carries messages. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Mutex<Option<Unfinished>>>);

impl Meter {
    /// From now on what arrives is part of a message.
    pub(super) fn set(&self, unfinished: Unfinished) {
        *self.lock() = Some(unfinished);
    }

    /// Does something with what is unfinished, if messages are counted.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Unfinished) -> T) -> Option<T> {
        self.lock().as_mut().map(act)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Unfinished>> {
        // Nothing panics while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream, and how long a write to it may stand still.
#[derive(Debug)]
pub struct Patient {
    stream: TcpStream,
    patience: Duration,
    /// Runs while a write waits.
    stall: Option<Pin<Box<Sleep>>>,
    meter: Meter,
}

impl Patient {
    /// Nothing waits yet.
    pub const fn new(stream: TcpStream, patience: Duration, meter: Meter) -> Self {
        Self { stream, patience, stall: None, meter }
    }

    /// The bare stream.
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// Passes on what a write came to, unless it has stood still for too long.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let patience = self.patience;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stall.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if Pin::new(&mut self.stream).poll_read(context, buffer)?.is_pending() {
            let late = self.meter.with(|unfinished| unfinished.poll_late(context));
            return late.unwrap_or(Poll::Pending).map(Err);
        }
        let bytes = buffer.filled().len() - before;
        let arrived = self.meter.with(|unfinished| unfinished.arrived(bytes));
        Poll::Ready(arrived.filter(|_| 0 < bytes).unwrap_or(Ok(())))
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_write_that_nobody_reads_ends_and_one_that_is_read_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = Patient::new(stream, Duration::from_secs(60), Meter::default());
        let much = vec![0; 32 << 20];
        let mut back = vec![0; much.len()];
        let (written, read) = tokio::join!(stream.write_all(&much), client.read_exact(&mut back));
        written.unwrap();
        assert_eq!(read.unwrap(), much.len());
        // From here on a minute passes as soon as there is nothing to do.
        tokio::time::pause();
        let error = stream.write_all(&much).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
