//! Framing: bytes ⇄ messages on one connection whose socket is ours.
//!
//! Reading may be cancelled at any await and loses nothing; whoever reads also writes what was queued, so neither
//! direction can block the other. An announced length is held against a limit before memory is set aside for it.
//! Notices, parameter changes and notifications are skipped: nobody here asked for them.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::backend::{Header, Message};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::stream::Stream;

/// What the server may announce before it has let us in: nothing it says then is long.
const MOST_BEFORE_LOGIN: usize = 64 * 1024;
/// What it may announce afterwards: Postgres cannot make a message above 1 GiB.
const MOST: usize = 1 << 30;
/// How much is read at a time.
const CHUNK: usize = 128 * 1024;

/// One message from the server.
pub(crate) enum Frame {
    /// The payload of a CopyData.
    Copy(Bytes),
    /// CopyBothResponse: the stream begins.
    CopyBoth,
    /// Anything else that matters.
    Message(Message),
}

/// One connection to a server: the socket, what was read from it, and what is to be written.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    input: BytesMut,
    output: BytesMut,
    must_flush: bool,
    most: usize,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            must_flush: false,
            most: MOST_BEFORE_LOGIN,
        }
    }

    pub(super) const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The server let us in: it may send what it likes.
    pub(super) const fn trust(&mut self) {
        self.most = MOST;
    }

    /// Where messages to the server are put; [`Wire::flush`] or [`Wire::read`] sends them.
    pub(crate) const fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Sends what was queued. Cancelling it loses nothing.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// The next message that was already read, without waiting.
    pub(crate) fn buffered(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match self.parse()? {
                Parsed::Frame(frame) => return Ok(Some(frame)),
                Parsed::Skipped => {}
                Parsed::Missing(_) => return Ok(None),
            }
        }
    }

    /// The next message; sends what was queued meanwhile. Cancelling it loses nothing.
    pub(crate) async fn read(&mut self) -> io::Result<Frame> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Frame>> {
        if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
            // The server may have said why it hung up: that is read below, and better than a broken pipe.
            self.output.clear();
            self.must_flush = false;
        }
        loop {
            let missing = match self.parse()? {
                Parsed::Frame(frame) => return Poll::Ready(Ok(frame)),
                Parsed::Skipped => continue,
                Parsed::Missing(bytes) => bytes,
            };
            // Memory follows what arrives, not what was announced. Whoever keeps a message keeps the whole buffer it is in,
            // so a buffer is filled, by however many small reads, before there is another.
            let wanted = missing.clamp(CHUNK / 32, 8 * CHUNK);
            if self.input.capacity() - self.input.len() < wanted {
                self.input.reserve(wanted.max(CHUNK));
            }
            let read = ready!(pin!(self.stream.read_buf(&mut self.input)).poll(cx))?;
            if read == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.must_flush = true;
        }
        if self.must_flush {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.must_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn parse(&mut self) -> io::Result<Parsed> {
        let Some(header) = Header::parse(&self.input)? else {
            return Ok(Parsed::Missing(5 - self.input.len()));
        };
        // The length counts itself but not the tag, and `Header` refuses less than four.
        let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
        if length > self.most {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the server announced a message of {length} bytes"),
            ));
        }
        let whole = length + 1;
        if self.input.len() < whole {
            return Ok(Parsed::Missing(whole - self.input.len()));
        }
        let mut message = self.input.split_to(whole);
        Ok(match header.tag() {
            b'd' => Parsed::Frame(Frame::Copy(message.split_off(5).freeze())),
            b'W' => Parsed::Frame(Frame::CopyBoth),
            b'N' | b'S' | b'A' | b'K' | b'v' => Parsed::Skipped,
            _ => match Message::parse(&mut message)? {
                Some(message) => Parsed::Frame(Frame::Message(message)),
                None => return Err(io::ErrorKind::InvalidData.into()),
            },
        })
    }
}

enum Parsed {
    Frame(Frame),
    Skipped,
    Missing(usize),
}
