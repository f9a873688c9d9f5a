//! The write half of one client's socket: frames become bytes here, and go out whole and in order.
//!
//! Frames of a server are not masked, so the bytes are the same for every receiver; small ones are put together and
//! written at once. Two write: whoever has the outbox' turn, and the codec, which answers pings and closes. What the
//! socket does not take is kept, so that neither cuts the other's frames.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::net::tcp::OwnedWriteHalf;

use crate::hub::{Door, Frame};

/// Larger payloads are written from where they are; smaller ones are copied next to each other.
const SMALL: usize = 4 * 1024;

/// Small ones are put together up to here.
const GATHERED: usize = 64 * 1024;

/// The write half of one client's socket.
#[derive(Debug)]
pub(super) struct Pen {
    stream: OwnedWriteHalf,
    written: AtomicU64,
    kept: Mutex<Kept>,
}

/// What waits until the socket takes more.
#[derive(Debug, Default)]
struct Kept {
    bytes: VecDeque<Bytes>,
    /// Why nothing can be written any more.
    broken: Option<io::ErrorKind>,
    /// The client said close_frame; nothing but the codec's answer may follow.
    is_over: bool,
}

impl Pen {
    pub(super) fn new(stream: OwnedWriteHalf) -> Self {
        Self { stream, written: AtomicU64::new(0), kept: Mutex::default() }
    }

    /// Bytes written so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// The client said close_frame: frames are dropped from now on.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
    }

    /// Sends the end of the stream; reading goes on.
    pub(super) fn shut(&self) -> io::Result<()> {
        socket2::SockRef::from(self.stream.as_ref()).shutdown(std::net::Shutdown::Write)
    }

    /// Writes frames without waiting and keeps what does not go out. False when something was kept or the connection
    /// is broken.
    pub(super) fn put(&self, frames: &mut Vec<Frame>, scratch: &mut Vec<u8>) -> bool {
        let mut kept = self.lock();
        if kept.is_over {
            frames.clear();
        }
        self.write_kept(&mut kept);
        scratch.clear();
        for frame in frames.drain(..) {
            let (opcode, payload) = match frame {
                Frame::Text(text) => (0x81, Bytes::from(text)),
                Frame::Binary(bytes) => (0x82, bytes),
                Frame::Ping(bytes) => (0x89, bytes),
            };
            push_head(scratch, opcode, payload.len());
            if payload.len() <= SMALL {
                scratch.extend_from_slice(&payload);
                if scratch.len() < GATHERED {
                    continue;
                }
                self.write(&mut kept, scratch, Bytes::new());
            } else {
                self.write(&mut kept, scratch, payload);
            }
            scratch.clear();
        }
        self.write(&mut kept, scratch, Bytes::new());
        kept.bytes.is_empty() && kept.broken.is_none()
    }

    /// Waits until nothing is kept any more.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            {
                let mut kept = self.lock();
                self.write_kept(&mut kept);
                if let Some(kind) = kept.broken {
                    return Poll::Ready(Err(kind.into()));
                }
                if kept.bytes.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            match self.stream.as_ref().poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
    }

    /// Writes whole frames of the codec: all at once, or not yet.
    pub(super) fn poll_codec(
        &self,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        // What the socket does not take is kept, and flushed before anything else.
        self.write(&mut self.lock(), frames, Bytes::new());
        Poll::Ready(Ok(frames.len()))
    }

    fn write_kept(&self, kept: &mut Kept) {
        while let Some(first) = kept.bytes.front_mut() {
            match self.stream.try_write(first) {
                Ok(written) => {
                    self.count(written);
                    first.advance(written);
                    if first.is_empty() {
                        kept.bytes.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => kept.fail(&error),
            }
        }
    }

    /// Writes both, one after the other, or keeps what does not go out.
    fn write(&self, kept: &mut Kept, head: &[u8], payload: Bytes) {
        let length = head.len() + payload.len();
        if length == 0 || kept.broken.is_some() {
            return;
        }
        let mut written = 0;
        while kept.bytes.is_empty() && written < length {
            let tail = payload.get(written.saturating_sub(head.len())..).unwrap_or_default();
            let wrote = match head.get(written..) {
                Some(head) if tail.is_empty() => self.stream.try_write(head),
                Some(head) => {
                    self.stream.try_write_vectored(&[IoSlice::new(head), IoSlice::new(tail)])
                }
                None => self.stream.try_write(tail),
            };
            match wrote {
                Ok(wrote) => {
                    self.count(wrote);
                    written += wrote;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return kept.fail(&error),
            }
        }
        if let Some(head) = head.get(written..).filter(|head| !head.is_empty()) {
            kept.bytes.push_back(Bytes::copy_from_slice(head));
        }
        let mut payload = payload;
        payload.advance(written.saturating_sub(head.len()));
        if !payload.is_empty() {
            kept.bytes.push_back(payload);
        }
    }

    fn count(&self, bytes: usize) {
        self.written.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while holding the lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn fail(&mut self, error: &io::Error) {
        self.broken = Some(error.kind());
        self.bytes = VecDeque::new();
    }
}

/// A pen that is lent to an outbox.
#[derive(Debug)]
pub(super) struct PenDoor(pub(super) Arc<Pen>);

impl Door for PenDoor {
    fn put(&mut self, frames: &mut Vec<Frame>, scratch: &mut Vec<u8>) -> bool {
        self.0.put(frames, scratch)
    }
}

/// The head of an unmasked frame in one piece.
#[allow(clippy::cast_possible_truncation, reason = "each length was compared with what fits")]
fn push_head(bytes: &mut Vec<u8>, opcode: u8, length: usize) {
    bytes.push(opcode);
    if length < 126 {
        bytes.push(length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        bytes.push(126);
        bytes.extend_from_slice(&length.to_be_bytes());
    } else {
        bytes.push(127);
        bytes.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, Pen) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let dial = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(listener.accept(), dial);
        // The read half is not needed; dropping it closes nothing.
        (far.unwrap(), Pen::new(near.unwrap().0.into_split().1))
    }

    fn binary(bytes: usize) -> Frame {
        Frame::Binary(vec![7; bytes].into())
    }

    #[tokio::test]
    async fn writes_the_head_that_each_length_needs() {
        let (mut client, pen) = pair().await;
        let mut frames = vec![Frame::Text("a".into()), binary(126), binary(5000), binary(70_000)];
        pen.put(&mut frames, &mut Vec::new());
        let read = async {
            let mut bytes = vec![0; 3 + 4 + 126 + 4 + 5000 + 10 + 70_000];
            client.read_exact(&mut bytes).await.unwrap();
            bytes
        };
        let (bytes, flushed) = tokio::join!(read, poll_fn(|cx| pen.poll_flush(cx)));
        flushed.unwrap();
        assert!(frames.is_empty());
        assert_eq!(&bytes[..7], [0x81, 1, b'a', 0x82, 126, 0, 126]);
        assert_eq!(&bytes[133..137], [0x82, 126, 0x13, 0x88]);
        assert_eq!(&bytes[5137..5147], [0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    }

    #[tokio::test]
    async fn what_the_codec_says_comes_after_the_frame_that_is_on_its_way() {
        let (mut client, pen) = pair().await;
        let mut length = 0;
        while pen.put(&mut vec![binary(1 << 20)], &mut Vec::new()) {
            length += (1 << 20) + 10;
        }
        length += (1 << 20) + 10;
        assert!(!pen.put(&mut vec![binary(1)], &mut Vec::new()), "the second waits for the first");
        let write = async {
            let written = poll_fn(|cx| pen.poll_codec(cx, &[0x8a, 0])).await.unwrap();
            poll_fn(|cx| pen.poll_flush(cx)).await.unwrap();
            written
        };
        let read = async {
            let mut bytes = vec![0; length + 3 + 2];
            client.read_exact(&mut bytes).await.unwrap();
            bytes
        };
        let (written, bytes) = tokio::join!(write, read);
        assert_eq!(written, 2);
        assert_eq!(&bytes[length..], [0x82, 1, 7, 0x8a, 0]);
        assert_eq!(pen.written(), u64::try_from(bytes.len()).unwrap());
        assert!(pen.put(&mut vec![binary(1)], &mut Vec::new()));
    }

    #[tokio::test]
    async fn a_connection_that_broke_is_told_and_keeps_nothing() {
        let (client, pen) = pair().await;
        socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        poll_fn(|cx| pen.stream.as_ref().poll_read_ready(cx)).await.unwrap();
        while pen.put(&mut vec![binary(1 << 20)], &mut Vec::new()) {}
        poll_fn(|cx| pen.poll_flush(cx)).await.unwrap_err();
        assert!(pen.lock().bytes.is_empty());
    }

    #[tokio::test]
    async fn nothing_is_written_to_a_client_that_said_goodbye() {
        let (_client, pen) = pair().await;
        pen.end();
        assert!(pen.put(&mut vec![binary(1)], &mut Vec::new()));
        assert_eq!(pen.written(), 0);
    }
}
