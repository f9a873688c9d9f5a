//! One replication connection: commands first, then the stream.
//!
//! Reading may be cancelled and loses nothing; status updates are queued and go out with the next read or flush, so
//! they never wait behind the processing of what was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::messages;
use super::progress::Progress;
use crate::error::{Error, ErrorKind};
use crate::model::Lsn;
use crate::model::time::PgTime;
use crate::pgoutput::status_update;
use crate::postgres::{self, Failure, Frame, Refused, Target, Wire};

/// Who the server is, and where its WAL ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) system: Box<str>,
    pub(super) timeline: Box<str>,
    pub(super) position: Lsn,
}

/// What a stream carries besides row changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// What the database broadcasts: the second publication.
    pub(super) broadcasts: bool,
    /// What `pg_logical_emit_message` writes.
    pub(super) heartbeats: bool,
}

/// A replication connection to one server.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    slot: Box<str>,
    publication: Box<str>,
    target: Target,
    refuses_messages: Arc<AtomicBool>,
}

impl Connection {
    /// Connects. `wal_sender_timeout` becomes the setting of this connection's walsender: how soon Postgres lets go of
    /// the slot, and of a shutdown, when we hang.
    pub(super) async fn open(
        target: &Target,
        slot: &str,
        publication: &str,
        wal_sender_timeout: Duration,
    ) -> Result<Self, Error> {
        let timeout = format!("{}ms", wal_sender_timeout.as_millis());
        let settings = [("wal_sender_timeout", timeout.as_str())];
        let opened = postgres::replication(target, "relay-source", &settings).await?;
        Ok(Self {
            wire: opened.wire,
            slot: slot.into(),
            publication: publication.into(),
            target: opened.target,
            refuses_messages: Arc::default(),
        })
    }

    /// Becomes true when the stream broke because of the publication of messages. Outlives the connection.
    pub(super) fn refuses_messages(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.refuses_messages)
    }

    /// The server this is connected to, for a second connection to the same one.
    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    /// Runs one command. `what` says what could not be done if it fails.
    pub(super) async fn query(
        &mut self,
        command: &str,
        what: &str,
    ) -> Result<Vec<Vec<Option<String>>>, Error> {
        let result = postgres::simple_query(&mut self.wire, command).await;
        result.map_err(|failure| self.explain(failure, what))
    }

    /// Asks the server who it is.
    pub(super) async fn identify(&mut self) -> Result<Identity, Error> {
        let what = "could not identify the server";
        let rows = self.query("IDENTIFY_SYSTEM", what).await?;
        let mut cells = rows.into_iter().next().unwrap_or_default().into_iter().flatten();
        let (system, timeline, position) = (cells.next(), cells.next(), cells.next());
        let position = position.and_then(|text| text.parse().ok());
        match (system, timeline, position) {
            (Some(system), Some(timeline), Some(position)) => {
                Ok(Identity { system: system.into(), timeline: timeline.into(), position })
            }
            _ => Err(Error::new(ErrorKind::Malformed, what).because("the answer is too short")),
        }
    }

    /// Attaches to the slot: from now on, only [`Connection::read`], [`Connection::buffered`] and status updates.
    ///
    /// No position is asked for: Postgres starts where the slot stands. Asking for a later one would make it skip,
    /// silently; what it repeats is recognised and dropped by the log.
    pub(super) async fn start(&mut self, wanted: Wanted) -> Result<(), Error> {
        let mut names = quoted(&self.publication, '"');
        if wanted.broadcasts {
            names.push(',');
            names.push_str(&quoted(messages::PUBLICATION, '"'));
        }
        let names = quoted(&names, '\'');
        let beats = wanted.heartbeats;
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {names}, messages '{beats}')",
            quoted(&self.slot, '"')
        );
        let what = format!("could not attach to slot {:?}", self.slot);
        let sent = frontend::query(&command, self.wire.output()).map_err(Failure::Broken);
        sent.map_err(|failure| self.explain(failure, &what))?;
        match self.wire.read().await {
            Ok(Frame::CopyBoth) => Ok(()),
            Ok(Frame::Message(Message::ErrorResponse(body))) => {
                Err(self.explain(Failure::Refused(Refused::from_body(&body)), &what))
            }
            Ok(_) => Err(self.explain(Failure::OutOfPlace("not a stream"), &what)),
            Err(error) => Err(self.explain(error.into(), &what)),
        }
    }

    /// The next payload of the stream. Sends queued status updates meanwhile.
    pub(super) async fn read(&mut self) -> Result<Bytes, Error> {
        let frame = self.wire.read().await;
        let frame = frame.map_err(|error| self.explain(error.into(), "the stream broke"))?;
        self.payload(frame)
    }

    /// The next payload that was already read, without waiting.
    pub(super) fn buffered(&mut self) -> Result<Option<Bytes>, Error> {
        let frame = self.wire.buffered();
        let frame = frame.map_err(|error| self.explain(error.into(), "the stream broke"))?;
        frame.map(|frame| self.payload(frame)).transpose()
    }

    /// Queues a status update; `wants_reply` asks the server to answer, which is how a dead one is noticed.
    pub(super) fn report(&mut self, progress: &Progress, now: PgTime, wants_reply: bool) {
        let confirmed = progress.confirmed();
        let update = status_update(progress.received().max(confirmed), confirmed, confirmed, now);
        let output = self.wire.output();
        output.put_u8(b'd');
        output.put_u32(4 + u32::try_from(update.len()).unwrap_or(0));
        output.extend_from_slice(&update);
        if wants_reply && let Some(reply) = output.last_mut() {
            // The update's last byte asks for a reply.
            *reply = 1;
        }
    }

    /// Sends what was queued.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        let sent = self.wire.flush().await;
        sent.map_err(|error| self.explain(error.into(), "could not report progress"))
    }

    /// Sends what was queued and says goodbye, so that Postgres frees the slot at once.
    pub(super) async fn close(mut self) -> Result<(), Error> {
        frontend::terminate(self.wire.output());
        self.flush().await
    }

    fn payload(&self, frame: Frame) -> Result<Bytes, Error> {
        let what = "the stream ended";
        match frame {
            Frame::Copy(payload) => Ok(payload),
            Frame::Message(Message::ErrorResponse(body)) => {
                Err(self.explain(Failure::Refused(Refused::from_body(&body)), what))
            }
            Frame::Message(Message::CopyDone | Message::CommandComplete(_)) => Err(Error::new(
                ErrorKind::SourceUnreachable,
                "Postgres ended the stream; it is shutting down",
            )),
            Frame::Message(_) | Frame::CopyBoth => {
                Err(self.explain(Failure::OutOfPlace("not part of a stream"), what))
            }
        }
    }

    /// Widens a failure; on this connection some SQLSTATEs say more than elsewhere.
    fn explain(&self, failure: Failure, what: &str) -> Error {
        let Failure::Refused(refused) = &failure else { return failure.because_of(what) };
        let about = |thing: &str| refused.message.contains(thing);
        let (kind, hint) = match &*refused.code {
            "55000" if about("replication slot") => (ErrorKind::SlotInvalidated, ""),
            // It was there a moment ago: look again.
            "42704" if about("replication slot") => (ErrorKind::SourceUnreachable, ""),
            "42704" if about(messages::PUBLICATION) => {
                self.refuses_messages.store(true, Ordering::Relaxed);
                (
                    ErrorKind::SourceUnreachable,
                    "; going on without the database's broadcasts for now",
                )
            }
            "42704" if about("publication") => (
                ErrorKind::SlotInvalidated,
                "; it was dropped, or the slot is older than the publication, which was made again",
            ),
            _ => return failure.because_of(what),
        };
        Error::new(kind, what).because(format!("{refused}{hint}"))
    }
}

/// `text` between `quote`s, with those inside doubled: an identifier or a literal of the replication grammar.
pub(super) fn quoted(text: &str, quote: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for char in text.chars() {
        if char == quote {
            quoted.push(quote);
        }
        quoted.push(char);
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_both_grammars() {
        assert_eq!(quoted(r#"a"b'c"#, '"'), r#""a""b'c""#);
        assert_eq!(quoted(&quoted(r#"a"b'c"#, '"'), '\''), r#"'"a""b''c"'"#);
    }
}
