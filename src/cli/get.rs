//! One HTTP GET to a relay on this machine, for its health and metrics.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The most of an answer that is read.
const MOST: u64 = 1 << 20;

/// Status and body of `path`.
///
/// # Errors
/// Nobody answers there in time, or not in HTTP.
pub(crate) async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MOST).read_to_end(&mut answer).await?;
        parse(&String::from_utf8_lossy(&answer))
            .ok_or_else(|| std::io::Error::other("the answer is not HTTP"))
    };
    tokio::time::timeout(Duration::from_secs(5), asking).await?
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let status = answer.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_status_and_body() {
        assert_eq!(parse("HTTP/1.1 503 No\r\na: b\r\n\r\nwhy"), Some((503, "why".to_owned())));
        assert_eq!(parse("SSH-2.0-x"), None);
    }
}
