//! One case, over TCP: every byte of it is sent as it says, whatever has come back meanwhile.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::cases::{Case, Chop, End, Step};

/// The mask of every frame.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The opcode of a close_frame.
const CLOSE: u8 = 0x88;

/// A frame that came: its first byte, and its payload.
type Came = (u8, Vec<u8>);

/// Sends the case and compares what comes.
///
/// # Errors
/// What was wrong.
pub(super) async fn talk(stream: TcpStream, case: &Case) -> Result<(), String> {
    stream.set_nodelay(true).unwrap();
    let (read, write) = stream.into_split();
    let (count, counted) = watch::channel(0);
    let expected = case.expected.len();
    let send = async {
        let mut write = write;
        // Whoever was sent away does not take the rest.
        let _ = send(&mut write, case, counted).await;
        write
    };
    let receive = receive(read, expected, &count);
    let (write, (came, code)) = tokio::join!(send, receive);
    drop(write);
    for (place, (came, expected)) in came.iter().zip(&case.expected).enumerate() {
        if came != expected {
            return Err(format!("frame {place} is {}, not {}", shown(came), shown(expected)));
        }
    }
    if came.len() != expected {
        return Err(format!("{} frames of {expected}, closed with {code:?}", came.len()));
    }
    let codes = match &case.end {
        End::Ours => &[1000][..],
        End::Theirs(codes) => codes,
    };
    // A close without a code is answered in kind.
    if codes.contains(&code.unwrap_or(1005)) {
        Ok(())
    } else {
        Err(format!("closed with {code:?}"))
    }
}

async fn send(
    write: &mut OwnedWriteHalf,
    case: &Case,
    mut came: watch::Receiver<usize>,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for step in &case.steps {
        match step {
            Step::Frame(first, payload) => push(&mut bytes, *first, payload),
            Step::Await(frames) => {
                flush(write, &mut bytes, case.chop).await?;
                // It ends when there is nobody who reads any more.
                let _ = came.wait_for(|count| frames <= count).await;
            }
        }
        if case.chop == Chop::Frames {
            flush(write, &mut bytes, Chop::Frames).await?;
        }
    }
    flush(write, &mut bytes, case.chop).await?;
    if matches!(case.end, End::Ours) {
        let _ = came.wait_for(|count| case.expected.len() <= *count).await;
        push(&mut bytes, CLOSE, &1000_u16.to_be_bytes());
        flush(write, &mut bytes, Chop::Whole).await?;
    }
    Ok(())
}

async fn flush(write: &mut OwnedWriteHalf, bytes: &mut Vec<u8>, chop: Chop) -> std::io::Result<()> {
    match chop {
        Chop::Whole | Chop::Frames => write.write_all(bytes).await?,
        Chop::Octets(octets) => {
            for part in bytes.chunks(octets) {
                write.write_all(part).await?;
            }
        }
    }
    bytes.clear();
    Ok(())
}

fn push(bytes: &mut Vec<u8>, first: u8, payload: &[u8]) {
    bytes.push(first);
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        middle @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend(u64::try_from(long).unwrap().to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Everything that comes up to the close_frame, and its code; no more than one frame over what is expected.
async fn receive(
    read: OwnedReadHalf,
    expected: usize,
    count: &watch::Sender<usize>,
) -> (Vec<Came>, Option<u16>) {
    let mut read = BufReader::new(read);
    let (mut came, mut code) = (Vec::new(), None);
    while let Ok(frame) = next(&mut read).await {
        if frame.0 == CLOSE {
            code = frame.1.first_chunk::<2>().map(|code| u16::from_be_bytes(*code)).or(Some(1005));
            break;
        }
        came.push(frame);
        count.send_replace(came.len());
        if came.len() > expected {
            break;
        }
    }
    // Nobody waits for more.
    count.send_replace(usize::MAX);
    (came, code)
}

async fn next(read: &mut BufReader<OwnedReadHalf>) -> std::io::Result<Came> {
    let first = read.read_u8().await?;
    let length = match read.read_u8().await? {
        126 => u64::from(read.read_u16().await?),
        127 => read.read_u64().await?,
        short => u64::from(short),
    };
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    read.read_exact(&mut payload).await?;
    Ok((first, payload))
}

fn shown((first, payload): &Came) -> String {
    let some = payload.get(..payload.len().min(40)).unwrap_or_default();
    format!("{first:#x} of {} bytes, {}", payload.len(), some.escape_ascii())
}
