//! Kinds of failure of our own, and the remedy for each.
//!
//! An [`Error`] is opaque: a kind, what could not be done, and the cause. Loops act on [`ErrorKind::remedy`],
//! never on kinds. A client being told *no* is not an error; that is a refusal, and lives with its protocol.

use std::error::Error as StdError;
use std::fmt;

/// Where the operator must look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Postgres could not be reached, or hung up.
    SourceUnreachable,
    /// Postgres answered no: credentials, privileges, settings.
    SourceRejected,
    /// The slot lost WAL it needs, or is gone, or is not the one we left.
    SlotInvalidated,
    /// Another connection holds the slot.
    SlotInUse,
    /// Another process uses the change log.
    LogInUse,
    /// The configuration cannot be meant.
    Misconfigured,
    /// Bytes that break their format.
    Malformed,
    /// A row check took too long.
    CheckTimedOut,
    /// Another service (a JWKS address) could not be reached.
    PeerUnreachable,
    /// A promise of ours was broken.
    Bug,
}

/// What a loop does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Wait and try again; it heals by itself.
    Retry,
    /// Keep trying slowly and say what a person must do.
    AskOperator(&'static str),
    /// Another does the work; take over when it stops.
    StandBy,
    /// Stop the process.
    Exit,
}

impl ErrorKind {
    /// The one table that turns a kind into policy.
    pub const fn remedy(self) -> Remedy {
        match self {
            Self::SourceUnreachable | Self::CheckTimedOut | Self::PeerUnreachable => Remedy::Retry,
            Self::SlotInUse | Self::LogInUse => Remedy::StandBy,
            Self::SourceRejected => {
                Remedy::AskOperator("run `relay check`; it prints the SQL that mends it")
            }
            Self::SlotInvalidated => {
                Remedy::AskOperator("run `relay slot drop`, then restart; clients must re-read")
            }
            Self::Malformed => {
                Remedy::AskOperator("report it, with the relay's version and Postgres'")
            }
            Self::Misconfigured | Self::Bug => Remedy::Exit,
        }
    }

    /// The process' exit code when this kind ends it (sysexits where one fits).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Misconfigured => 2,
            Self::SourceUnreachable
            | Self::SourceRejected
            | Self::SlotInvalidated
            | Self::SlotInUse
            | Self::LogInUse
            | Self::PeerUnreachable
            | Self::CheckTimedOut => 69,
            Self::Malformed | Self::Bug => 70,
        }
    }
}

/// A failure of ours: what could not be done, and why. Carries no cell values, tokens or secrets.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    context: Box<str>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// `context` is lower-case, without a full stop, and names the thing: `could not open slot "relay"`.
    pub fn new(kind: ErrorKind, context: impl Into<Box<str>>) -> Self {
        Self { kind, context: context.into(), cause: None }
    }

    /// Attaches the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Where the operator must look.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    /// The context and the whole chain of causes, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            // One of ours printed its own causes just now.
            cause = if error.is::<Self>() { None } else { error.source() };
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_chain_once_on_one_line() {
        let inner =
            Error::new(ErrorKind::SourceUnreachable, "could not connect").because("refused");
        let outer = Error::new(ErrorKind::SourceUnreachable, "could not open slot").because(inner);
        assert_eq!(outer.kind(), ErrorKind::SourceUnreachable);
        assert_eq!(outer.to_string(), "could not open slot: could not connect: refused");
    }
}
