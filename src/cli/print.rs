//! Writing to standard output: what a verb found, as opposed to what it logs; and remarks beside it.
//!
//! A reader that went away (`relay tail … | head`) is no failure, on standard output and on standard error.

use std::io::Write;

use crate::error::{Error, ErrorKind};

/// Prints one line.
///
/// # Errors
/// `Bug`: standard output cannot be written, for another reason than that nobody reads it any more.
pub(crate) fn line(text: &str) -> Result<(), Error> {
    offer(text).map(|_| ())
}

/// Prints one line; false when nobody reads standard output any more.
///
/// # Errors
/// As [`line()`].
pub(crate) fn offer(text: &str) -> Result<bool, Error> {
    let mut out = std::io::stdout().lock();
    let done = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
    match done.and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            Err(Error::new(ErrorKind::Bug, "could not write to standard output").because(error))
        }
        Ok(()) => Ok(true),
    }
}

/// Writes a remark to standard error. A failure is ignored: it means that nobody reads there.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
