//! What can go wrong, by operation.

use crate::semantics::Semantics;
use ringpost::{LinkError, OpenError, RegionError, SendError};
use std::{fmt, io};

/// Bytes that are no value of the type they should be, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// Whether the server has done what was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// It has not, and won't.
    No,
    /// It may have, or still do so.
    Perhaps,
    /// It has.
    Yes,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "the call was not done",
            Self::Perhaps => "the call may have been done",
            Self::Yes => "the call was done",
        })
    }
}

/// Why the server did not do what was asked for. Nothing was done by this server (but perhaps by one that was lost in the same
/// call), except by a method that [panicked](Refusal::Panicked), and, where the state is not a durable one, by a method whose
/// answer is too long or can't be written or sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// The interface has no such method.
    NoSuchMethod,
    /// The arguments, or the answer, are none of the interface.
    Malformed,
    /// The method panicked. In a durable service nothing was done.
    Panicked,
    /// The answer is longer than the link takes; or than a durable service remembers, which is no region either.
    AnswerTooLong,
    /// A durable service remembers as many sessions as it can: all of them have a link, or had one a short time ago, and their
    /// processes live. It may have room later ([`Durable::forget_after`](crate::Durable::forget_after)).
    TooManySessions,
    /// A later call of this session was done already.
    Stale,
    /// The server has no descriptor or no memory left for a region of the arguments or of the answer. It may have later.
    Shortage,
    /// The call was sent before, and its session had no link for so long that the server has forgotten it: whether it was done
    /// then, nobody can tell.
    Forgotten,
}

impl Refusal {
    pub(crate) const ALL: [Self; 8] = [
        Self::NoSuchMethod,
        Self::Malformed,
        Self::Panicked,
        Self::AnswerTooLong,
        Self::TooManySessions,
        Self::Stale,
        Self::Shortage,
        Self::Forgotten,
    ];

    /// As [`CallError::done`].
    fn done(self) -> Done {
        match self {
            Self::NoSuchMethod | Self::TooManySessions => Done::No,
            _ => Done::Perhaps,
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchMethod => "the interface has no such method",
            Self::Malformed => "the server can't read the arguments, or write the answer",
            Self::Panicked => "the method panicked",
            Self::AnswerTooLong => "the answer is too long",
            Self::TooManySessions => "the server remembers as many sessions as it can",
            Self::Stale => "a later call of this session was done already",
            Self::Shortage => "the server has no descriptor or no memory left for a region",
            Self::Forgotten => {
                "the server has forgotten the session meanwhile: the call may have been done when it was sent before"
            }
        })
    }
}

impl std::error::Error for Refusal {}

/// Why a call gave no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The server died or closed. Only with [`Semantics::AtMostOnce`]: the others go on with its successor.
    Lost {
        /// Whether it was done.
        done: Done,
    },
    /// The deadline has passed.
    TimedOut {
        /// Whether it was done.
        done: Done,
    },
    /// The server refused.
    Refused(Refusal),
    /// There is no server to call. Nothing was done.
    Unbound(BindError),
    /// The arguments are longer than the link takes. Nothing was done.
    TooLong {
        /// Bytes of the arguments, with their header.
        length: usize,
        /// Most bytes that a message of this link may have.
        longest: usize,
    },
    /// This process, or the system, has no descriptor or no memory left for a region of the arguments or of the answer. The link
    /// goes on: close something, and call again.
    Shortage {
        /// Whether the call was done.
        done: Done,
        /// What there was too little of.
        error: RegionError,
    },
    /// An argument can't be written. Nothing was done.
    Argument(Malformed),
    /// The answer can't be read. It was done.
    Answer(Malformed),
    /// This client belongs to the process that this one was forked from. Nothing was done.
    Forked,
    /// The call may have been done: by a server that was lost, whose successor could not be asked or did not take it; or by one
    /// whose answer is none. This came instead of an answer.
    Unclear(Box<CallError>),
}

impl CallError {
    /// Whether the call was done, as far as can be told.
    pub fn done(&self) -> Done {
        match self {
            Self::Lost { done } | Self::TimedOut { done } | Self::Shortage { done, .. } => *done,
            Self::Refused(refusal) => refusal.done(),
            Self::Unbound(_) | Self::TooLong { .. } | Self::Argument(_) | Self::Forked => Done::No,
            Self::Answer(_) => Done::Yes,
            Self::Unclear(_) => Done::Perhaps,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { done } => write!(f, "the server was lost: {done}"),
            Self::TimedOut { done } => write!(f, "the deadline has passed: {done}"),
            Self::Refused(refusal) => write!(f, "the server refused: {refusal}"),
            Self::Unbound(error) => error.fmt(f),
            Self::TooLong { length, longest } => {
                write!(f, "a call of {length} bytes is too long for this link, which takes up to {longest}")
            }
            Self::Shortage { done, error } => write!(f, "a region can't be had: {done}: {error}"),
            Self::Argument(malformed) => write!(f, "an argument can't be written: {malformed}"),
            Self::Answer(malformed) => write!(f, "the answer can't be read: {malformed}"),
            Self::Forked => f.write_str("this client is the parent process's: bind anew after a fork"),
            Self::Unclear(error) => write!(f, "{}: {error}", self.done()),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Unbound(error) => Some(error),
            Self::Shortage { error, .. } => Some(error),
            Self::Argument(malformed) | Self::Answer(malformed) => Some(malformed),
            Self::Unclear(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a client could not bind to a server, or a server to a name.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// The name can't be a service's.
    Name {
        /// As given.
        name: String,
    },
    /// The directory of the registry can't be had or is not safe.
    Registry(io::Error),
    /// Nobody listens there, or the link could not be made.
    Open(OpenError),
    /// The server was lost before it had agreed, each time it was tried.
    Lost,
    /// The server has not answered in time.
    TimedOut,
    /// The server is of another interface, or of another version of it.
    Interface {
        /// In words, on this side.
        ours: String,
        /// In words, on the other side.
        theirs: String,
    },
    /// The server can't promise what was asked for.
    Semantics {
        /// What was asked for.
        asked: Semantics,
    },
    /// The server speaks another version of the protocol.
    Version {
        /// Of this side.
        ours: u32,
        /// Of the other side.
        theirs: u32,
    },
    /// What the other side says is nothing of this protocol.
    Protocol,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name } => write!(
                f,
                "{name:?} can't be the name of a service: take up to 64 letters, digits, `-`, `_` and `.`, no `.` first"
            ),
            Self::Registry(error) => write!(f, "the registry can't be used: {error}"),
            Self::Open(error) => error.fmt(f),
            Self::Lost => f.write_str("the server was lost while binding to it"),
            Self::TimedOut => f.write_str("the server has not answered in time"),
            Self::Interface { ours, theirs } => {
                write!(f, "the server has another interface.\nThis side: {ours}Other side: {theirs}")
            }
            Self::Semantics { asked } => {
                write!(f, "the server can't promise {asked}: its state would have to be durable")
            }
            Self::Version { ours, theirs } => write!(
                f,
                "the server speaks version {theirs} of ringpost-rpc, and this side version {ours}: build both from one version"
            ),
            Self::Protocol => f.write_str("the other side does not speak ringpost-rpc"),
        }
    }
}

impl BindError {
    /// Whether the server may be there, and just too busy, or this side too slow for it: then it is tried again.
    pub(crate) fn is_haste(&self) -> bool {
        matches!(
            self,
            Self::Lost
                | Self::Open(OpenError::Link(
                    LinkError::TooSlow | LinkError::TimedOut { .. } | LinkError::HungUp { .. }
                ))
        )
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Registry(error) => Some(error),
            Self::Open(error) => Some(error),
            _ => None,
        }
    }
}

impl From<OpenError> for BindError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<SendError> for BindError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::TimedOut => Self::TimedOut,
            SendError::TooLong { .. } => Self::Protocol,
            _ => Self::Lost,
        }
    }
}
