//! The floor: a server that writes ready-made frames to as many sockets, one write for each, and does nothing else.
//!
//! One thread with blocking writes. Each message asked for is ten digits on its first connection; they are put into
//! the frame.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use super::socket::{FIRST_ID, ready_made};
use crate::metrics::process::cpu_of;

/// A server that is running; it ends with its first connection.
#[derive(Debug)]
pub(super) struct Bare {
    stat: PathBuf,
}

impl Bare {
    /// Starts it. Returns it with the connection to ask on, and `count` subscribers' connections.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) fn start(count: usize) -> io::Result<(Self, TcpStream, Vec<TcpStream>)> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = listener.local_addr()?;
        let connect = || {
            let near = TcpStream::connect(address)?;
            let (far, _) = listener.accept()?;
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            Ok::<_, io::Error>((near, far))
        };
        let (asking, asked) = connect()?;
        let pairs: Vec<_> = (0..count).map(|_| connect()).collect::<io::Result<_>>()?;
        let (near, far) = pairs.into_iter().unzip();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            // The sender is dropped unused where there is no /proc, and the error says so.
            if let Ok(thread) = std::fs::read_link("/proc/thread-self") {
                let _ = tell.send(PathBuf::from("/proc").join(thread).join("stat"));
            }
            serve(asked, far)
        });
        let stat = told.recv().map_err(io::Error::other)?;
        Ok((Self { stat }, asking, near))
    }

    /// Processor time its thread used so far.
    pub(super) fn cpu(&self) -> Option<Duration> {
        cpu_of(&self.stat)
    }
}

fn serve(mut asked: TcpStream, mut sockets: Vec<TcpStream>) -> io::Result<()> {
    let frame = ready_made(FIRST_ID);
    let mut digits = [0; 10];
    let place = frame.windows(digits.len()).position(|part| part == b"1000000000").unwrap_or(0);
    let mut frame = frame;
    loop {
        asked.read_exact(&mut digits)?;
        if let Some(part) = frame.get_mut(place..place + digits.len()) {
            part.copy_from_slice(&digits);
        }
        for socket in &mut sockets {
            socket.write_all(&frame)?;
        }
    }
}
