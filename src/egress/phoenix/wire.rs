//! The WebSocket of one client: the only file that knows the codec.
//!
//! The codec reads, answers pings and closes. Everything else is written by the [`Pen`], past the codec: frames of a
//! server need none. Every buffer of the codec is set: its defaults cost 128 KiB a connection and let a peer announce
//! 64 MiB.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::pen::{Pen, PenDoor};
use crate::egress::unfinished::{ReadFault, Unfinished};
use crate::hub::{Door, Frame};

/// Allocated for every connection and zeroed at each read, so small; a heartbeat is 40 bytes.
const READ_BUFFER: usize = 2 * 1024;

/// Bytes of the head of a client's control frame, its mask included.
const CONTROL_HEAD: usize = 6;

/// How long a client may take to answer a close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// How often a blocked write is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What came from the client.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame.
    Binary(Bytes),
    /// The answer to a ping, with what the ping said.
    Pong(Bytes),
    /// A sign of life without meaning.
    Alive,
    /// The connection ended.
    Ended,
    /// It broke the protocol; close with this code.
    Broken(u16, &'static str),
    /// It sent more of a message than there is memory for, or too slowly.
    Faulty(ReadFault),
}

/// Why frames could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// The client does not read.
    Stalled,
    /// The connection ended.
    Ended,
}

/// The WebSocket of one client.
#[derive(Debug)]
pub(super) struct Wire {
    socket: WebSocketStream<Halves>,
    pen: Arc<Pen>,
    is_broken: bool,
}

/// A stream for the codec: it reads, counting, and writes with the pen.
#[derive(Debug)]
struct Halves {
    stream: OwnedReadHalf,
    /// Bytes read, so that silence can be told from slowness.
    read: u64,
    unfinished: Unfinished,
    pen: Arc<Pen>,
}

impl Wire {
    /// Takes over a stream after the handshake; `early` are bytes that came with it.
    pub(super) async fn open(
        stream: TcpStream,
        early: Vec<u8>,
        max_frame: usize,
        unfinished: Unfinished,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(max_frame))
            .max_frame_size(Some(max_frame));
        let (stream, write) = stream.into_split();
        let pen = Arc::new(Pen::new(write));
        let halves = Halves { stream, read: 0, unfinished, pen: Arc::clone(&pen) };
        let socket =
            WebSocketStream::from_partially_read(halves, early, Role::Server, Some(config)).await;
        Self { socket, pen, is_broken: false }
    }

    /// A way to write that needs no turn of the socket's own task.
    pub(super) fn door(&self) -> Box<dyn Door> {
        Box::new(PenDoor(Arc::clone(&self.pen)))
    }

    /// Bytes read so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.socket.get_ref().read
    }

    /// What comes next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Incoming {
        let incoming = self.read().await;
        self.is_broken |= matches!(incoming, Incoming::Broken(..) | Incoming::Faulty(_));
        incoming
    }

    async fn read(&mut self) -> Incoming {
        let read = self.socket.next().await;
        let unfinished = &mut self.socket.get_mut().unfinished;
        match &read {
            Some(Ok(Message::Text(_) | Message::Binary(_))) => unfinished.finished(),
            Some(Ok(Message::Ping(said) | Message::Pong(said))) => {
                unfinished.passed(CONTROL_HEAD + said.len());
            }
            _ => {}
        }
        match read {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(bytes))) => Incoming::Binary(bytes),
            Some(Ok(Message::Close(_))) => {
                self.pen.end();
                Incoming::Alive
            }
            Some(Ok(Message::Pong(said))) => Incoming::Pong(said),
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => Incoming::Alive,
            Some(Err(Error::Io(_))) if unfinished.fault().is_some() => {
                unfinished.fault().map_or(Incoming::Ended, Incoming::Faulty)
            }
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. }))) => {
                Incoming::Broken(CloseCode::Size.into(), "the message is too long")
            }
            Some(Err(Error::Utf8(_))) => {
                Incoming::Broken(CloseCode::Invalid.into(), "a text that is not UTF-8")
            }
            Some(Err(Error::Protocol(_))) => {
                Incoming::Broken(CloseCode::Protocol.into(), "not the WebSocket protocol")
            }
            Some(Err(_)) | None => Incoming::Ended,
        }
    }

    /// Writes all frames, and what was kept before them. Gives up when nothing moves for `stall`, or as soon as `is_hopeless`.
    ///
    /// # Errors
    /// Not everything was written; the connection is of no more use.
    pub(super) async fn send(
        &mut self,
        frames: &mut Vec<Frame>,
        stall: Duration,
        is_hopeless: impl Fn() -> bool,
    ) -> Result<(), Unwritten> {
        if self.pen.put(frames, &mut Vec::new()) {
            return Ok(());
        }
        let mut flushing = pin!(poll_fn(|cx| self.pen.poll_flush(cx)));
        let mut moved = (self.pen.written(), Instant::now());
        loop {
            if let Ok(sent) = timeout(LOOK.min(stall), &mut flushing).await {
                return sent.map_err(|_| Unwritten::Ended);
            }
            let written = self.pen.written();
            if written != moved.0 {
                moved = (written, Instant::now());
            }
            if moved.1.elapsed() >= stall || is_hopeless() {
                return Err(Unwritten::Stalled);
            }
        }
    }

    /// Says close_frame and waits a little for the client's answer, so that it reads the code before the connection ends.
    pub(super) async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: code.into(), reason: Utf8Bytes::from_static(reason) };
        let closing = async {
            self.socket.send(Message::Close(Some(frame))).await?;
            if self.is_broken {
                // The codec reads no further, but what is left unread would turn the close into a reset.
                self.pen.shut()?;
                let stream = &mut self.socket.get_mut().stream;
                let mut discarded = [0; 1024];
                while stream.read(&mut discarded).await? > 0 {}
            } else {
                while self.socket.next().await.transpose()?.is_some() {}
            }
            Ok::<_, Error>(())
        };
        // A client that does not listen learns it from the connection's end.
        let _ = timeout(CLOSE_PATIENCE, closing).await;
    }
}

impl AsyncRead for Halves {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if Pin::new(&mut self.stream).poll_read(cx, buffer)?.is_pending() {
            return self.unfinished.poll_late(cx).map(Err);
        }
        let bytes = buffer.filled().len() - before;
        self.read += u64::try_from(bytes).unwrap_or(0);
        Poll::Ready(if bytes == 0 { Ok(()) } else { self.unfinished.arrived(bytes) })
    }
}

impl AsyncWrite for Halves {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pen.poll_codec(cx, frames)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pen.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.pen.poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(self.pen.shut()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_tungstenite::client_async;

    use super::*;
    use crate::memory::Memory;
    use crate::metrics::Metrics;
    use crate::model::{CallerIdentity, Network};

    /// A client's socket, and the wire at the other end.
    async fn pair(max_frame: usize) -> (WebSocketStream<TcpStream>, Wire) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let accepted = tokio_tungstenite::accept_async(&mut stream).await.unwrap();
            drop(accepted);
            let memory = Memory::new(1 << 30, &Metrics::new());
            let caller = CallerIdentity::Stranger(Network::UNKNOWN);
            let unfinished = Unfinished::new(memory, caller, Duration::from_secs(60));
            Wire::open(stream, Vec::new(), max_frame, unfinished).await
        };
        let dial = async {
            let stream = TcpStream::connect(address).await.unwrap();
            client_async("ws://localhost/", stream).await.unwrap().0
        };
        tokio::join!(dial, serve)
    }

    /// Sends what the client says and closes as the wire says; the code the client reads.
    async fn check_broken(said: Message, code: u16) {
        let (mut client, mut wire) = pair(1000).await;
        let serve = async {
            let Incoming::Broken(code, reason) = wire.next().await else { panic!("not broken") };
            wire.close(code, reason).await;
        };
        let dial = async {
            client.send(said).await.unwrap();
            let read = client.next().await;
            drop(client);
            match read {
                Some(Ok(Message::Close(Some(frame)))) => u16::from(frame.code),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(tokio::join!(serve, dial).1, code);
    }

    #[tokio::test]
    async fn names_why_a_frame_broke_it_even_when_most_of_the_frame_is_unread() {
        check_broken(Message::Binary(vec![0; 1001].into()), 1009).await;
        check_broken(Message::Text("x".repeat(3_000_000).into()), 1009).await;
    }

    #[tokio::test]
    async fn takes_a_frame_as_long_as_the_limit() {
        let (mut client, mut wire) = pair(1000).await;
        client.send(Message::Binary(vec![0; 1000].into())).await.unwrap();
        assert!(matches!(wire.next().await, Incoming::Binary(bytes) if bytes.len() == 1000));
    }

    #[tokio::test]
    async fn writes_a_batch_in_order_and_gives_up_on_a_client_that_does_not_read() {
        let (mut client, mut wire) = pair(1000).await;
        let stall = Duration::from_millis(50);
        let mut few = vec![Frame::Text("a".into()), Frame::Text("b".into())];
        wire.send(&mut few, stall, || false).await.unwrap();
        for expected in ["a", "b"] {
            assert_eq!(client.next().await.unwrap().unwrap(), Message::Text(expected.into()));
        }
        let large = Frame::Binary(Bytes::from(vec![0; 1 << 20]));
        let mut many = vec![large; 64];
        assert_eq!(wire.send(&mut many, stall, || false).await, Err(Unwritten::Stalled));
    }

    #[tokio::test]
    async fn gives_up_at_once_when_it_is_hopeless() {
        let (_client, mut wire) = pair(1000).await;
        let large = Frame::Binary(Bytes::from(vec![0; 1 << 20]));
        let for_ever = Duration::from_secs(3600);
        let sent = wire.send(&mut vec![large; 64], for_ever, || true).await;
        assert_eq!(sent, Err(Unwritten::Stalled));
    }
}
