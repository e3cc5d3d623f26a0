//! Why nothing was waited for.

use super::SourceId;
use std::{fmt, io};

/// Why [`Select`](super::Select) named no source, or took none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SelectError {
    /// No source has anything now. Only from [`Select::try_wait`](super::Select::try_wait).
    Empty,
    /// No source had anything until the deadline.
    TimedOut,
    /// There is no source.
    NoSources,
    /// There are as many rings as can be waited for at once.
    TooMany {
        /// How many that are.
        most: usize,
    },
    /// A message of this source was damaged after it was committed: it was released, and the source goes on behind it. Only from a
    /// [`Dispatcher`](super::Dispatcher), and of a ring [with checksums](crate::Builder::checksummed).
    Damaged {
        /// Whose it was.
        source: SourceId,
        /// Its sequence number.
        sequence: u64,
    },
    /// A source belongs to the process that this one was forked from.
    Forked,
    /// The system refuses.
    System {
        /// Its error number.
        code: i32,
    },
}

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("no source has anything"),
            Self::TimedOut => f.write_str("no source had anything until the deadline"),
            Self::NoSources => f.write_str("there is no source to wait for: add one first"),
            Self::TooMany { most } => write!(f, "there are {most} rings already, and one wait takes no more"),
            Self::Damaged { source, sequence } => {
                write!(f, "the message at {sequence} of {source:?} was damaged after it was committed")
            }
            Self::Forked => f.write_str("a source is the parent process's: attach anew after a fork"),
            Self::System { code } => {
                write!(f, "the system can't wait for descriptors: {}", io::Error::from_raw_os_error(code))
            }
        }
    }
}

impl std::error::Error for SelectError {}

impl From<io::Error> for SelectError {
    fn from(error: io::Error) -> Self {
        Self::System { code: error.raw_os_error().unwrap_or(0) }
    }
}

impl From<SelectError> for io::Error {
    fn from(error: SelectError) -> Self {
        let kind = match error {
            SelectError::Empty => io::ErrorKind::WouldBlock,
            SelectError::TimedOut => io::ErrorKind::TimedOut,
            SelectError::NoSources => io::ErrorKind::NotConnected,
            SelectError::TooMany { .. } => io::ErrorKind::ResourceBusy,
            SelectError::Damaged { .. } => io::ErrorKind::InvalidData,
            SelectError::Forked => io::ErrorKind::Unsupported,
            SelectError::System { code } => return io::Error::from_raw_os_error(code),
        };
        io::Error::new(kind, error)
    }
}
