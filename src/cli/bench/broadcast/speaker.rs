//! Who says the messages: subscribers in turn, an HTTP client, or the floor's asker.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::socket::{EVENT, TOPIC, payload, push};

/// Who says the messages.
#[derive(Debug)]
pub(super) enum Speaker {
    /// Subscribers in turn, so that none is over the rate that one may send at.
    Subscribers(Vec<TcpStream>),
    /// One connection that posts batches of one.
    Http {
        /// The connection.
        stream: TcpStream,
        /// The request but for its body.
        head: String,
    },
    /// Whoever asks the bare server.
    Bare(TcpStream),
}

impl Speaker {
    /// A speaker by HTTP.
    ///
    /// # Errors
    /// The relay does not listen.
    pub(super) fn http(address: SocketAddr, token: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let length = body(super::socket::FIRST_ID).len();
        let head = format!(
            "POST /api/broadcast HTTP/1.1\r\nhost: {address}\r\napikey: {token}\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        Ok(Self::Http { stream, head })
    }

    /// Says message `id`.
    ///
    /// # Errors
    /// The connection ended, or the message was refused.
    pub(super) fn say(&mut self, id: u64) -> io::Result<()> {
        match self {
            Self::Subscribers(streams) => {
                let turn = usize::try_from(id).unwrap_or(0) % streams.len().max(1);
                streams.get_mut(turn).map_or(Ok(()), |stream| stream.write_all(&push(id)))
            }
            Self::Http { stream, head } => {
                stream.write_all(format!("{head}{}", body(id)).as_bytes())?;
                let mut answer = [0; 1024];
                let length = stream.read(&mut answer)?;
                let answer = answer.get(..length).unwrap_or_default();
                if answer.starts_with(b"HTTP/1.1 202") {
                    return Ok(());
                }
                Err(io::Error::other(String::from_utf8_lossy(answer).into_owned()))
            }
            Self::Bare(stream) => stream.write_all(id.to_string().as_bytes()),
        }
    }
}

fn body(id: u64) -> String {
    let topic = TOPIC.strip_prefix("realtime:").unwrap_or(TOPIC);
    format!(r#"{{"messages":[{{"topic":"{topic}","event":"{EVENT}","payload":{}}}]}}"#, payload(id))
}
