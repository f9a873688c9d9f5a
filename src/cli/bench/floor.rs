//! The floor: a reader of the same slot output that does nothing with it.
//!
//! It speaks just enough of the replication protocol to be sent `CopyData`, over the cluster's local socket, and
//! shares no code with the relay, so that what it costs is what Postgres costs.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::cli::cluster::SUPERUSER;
use crate::error::{Error, ErrorKind};

/// The reader's buffer, as large as the relay's own need be.
const BUFFER: usize = 64 << 10;

/// A connection that streams a slot.
#[derive(Debug)]
pub(super) struct Floor {
    stream: BufReader<UnixStream>,
    body: Vec<u8>,
}

impl Floor {
    /// Connects to the server at `socket` and starts to stream `publication` from `slot`.
    ///
    /// # Errors
    /// `SourceUnreachable`.
    pub(super) async fn start(socket: &Path, slot: &str, publication: &str) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket).await.map_err(failed)?;
        let mut floor = Self { stream: BufReader::with_capacity(BUFFER, stream), body: Vec::new() };
        let parameters =
            format!("user\0{SUPERUSER}\0database\0postgres\0replication\0database\0\0");
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        startup.extend_from_slice(parameters.as_bytes());
        floor.send(None, &startup).await?;
        floor.wait_for(b'Z').await?;
        let query = format!(
            "START_REPLICATION SLOT \"{slot}\" LOGICAL 0/0 \
             (proto_version '1', publication_names '{publication}')\0"
        );
        floor.send(Some(b'Q'), query.as_bytes()).await?;
        floor.wait_for(b'W').await?;
        Ok(floor)
    }

    /// The next message of the output plugin, from its first byte on.
    ///
    /// # Errors
    /// `SourceUnreachable`.
    pub(super) async fn next(&mut self) -> Result<&[u8], Error> {
        loop {
            let kind = self.read().await?;
            // XLogData: a tag, two positions and a time come before what the plugin wrote.
            if kind == b'd' && self.body.first() == Some(&b'w') {
                break;
            }
            // A keepalive that asks for an answer; nothing is confirmed, the slot is dropped later.
            if kind == b'd' && self.body.first() == Some(&b'k') && self.body.get(17) == Some(&1) {
                let mut status = vec![b'r'];
                status.resize(34, 0);
                self.send(Some(b'd'), &status).await?;
            }
        }
        Ok(self.body.get(25..).unwrap_or_default())
    }

    async fn wait_for(&mut self, wanted: u8) -> Result<(), Error> {
        loop {
            let kind = self.read().await?;
            if kind == wanted {
                return Ok(());
            }
            if kind == b'E' {
                let words = String::from_utf8_lossy(&self.body).replace('\0', " ");
                return Err(failed(std::io::Error::other(words)));
            }
        }
    }

    /// Reads one message into `body` and returns its type.
    async fn read(&mut self) -> Result<u8, Error> {
        let kind = self.stream.read_u8().await.map_err(failed)?;
        let length = self.stream.read_u32().await.map_err(failed)?;
        let length = usize::try_from(length).unwrap_or_default().saturating_sub(4);
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).await.map_err(failed)?;
        Ok(kind)
    }

    async fn send(&mut self, kind: Option<u8>, body: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        let mut message: Vec<u8> = kind.into_iter().collect();
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message).await.map_err(failed)
    }
}

/// The first column of an inserted row, which is its id.
pub(super) fn inserted_id(message: &[u8]) -> Option<u64> {
    // 'I', the relation's oid, 'N', the number of columns, 't', the value's length, the value.
    let (head, rest) = message.split_at_checked(13)?;
    let length = head.get(9..13)?.try_into().ok().map(u32::from_be_bytes)?;
    if head.first() != Some(&b'I') || head.get(5) != Some(&b'N') || head.get(8) != Some(&b't') {
        return None;
    }
    let value = rest.get(..usize::try_from(length).ok()?)?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::SourceUnreachable, "could not read the slot without the relay")
        .because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_id_of_an_insert_and_in_nothing_else() {
        let mut message = b"I\0\0\x40\x01N\0\x02t\0\0\0\x0242t\0\0\0\x01x".to_vec();
        assert_eq!(inserted_id(&message), Some(42));
        for end in 0..15 {
            assert_eq!(inserted_id(message.get(..end).unwrap()), None, "{end}");
        }
        *message.first_mut().unwrap() = b'U';
        assert_eq!(inserted_id(&message), None);
    }
}
