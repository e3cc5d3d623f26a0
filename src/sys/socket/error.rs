//! What can go wrong between two processes that make a link.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use rustix::io::Errno;

/// Why a link was not made. Its text says what would be right.
#[derive(Debug)]
#[non_exhaustive]
pub enum LinkError {
    /// Nobody listens at the path: nothing stands there, or a socket whose listener is gone.
    NotListening {
        /// The path.
        path: PathBuf,
    },
    /// Somebody listens at the path already.
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// What stands at the path is no socket. It is left alone.
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The path is too long for a socket.
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// Another process keeps the directory of the path locked (`flock`), as a listener does while it begins.
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// The user of the process that connected is not accepted.
    NotAccepted {
        /// The process, as this PID namespace names it; 0 where it does not.
        pid: u32,
        /// Its user.
        uid: u32,
    },
    /// Another user listens than the one that was expected.
    WrongListener {
        /// The user who listens.
        found: u32,
        /// The user who should.
        expected: u32,
    },
    /// The listener has refused this process.
    Refused {
        /// Why.
        why: &'static str,
    },
    /// This side was too slow for the listener ([`Builder::handshake_timeout`](crate::Builder::handshake_timeout)), which has
    /// given it up. It may try again.
    TooSlow,
    /// The other side makes links in one direction only, and this side asked for both.
    OneWay,
    /// The other side makes links in both directions, and this side asked for one.
    BothWays,
    /// The other side was silent until the deadline.
    TimedOut {
        /// What was due.
        awaiting: &'static str,
    },
    /// The other side has hung up.
    HungUp {
        /// What was due.
        awaiting: &'static str,
    },
    /// The other side said what no ringpost says.
    Malformed {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The process at the other end can't be watched.
    Unwatchable {
        /// Why.
        why: &'static str,
    },
    /// This process has no file descriptor left.
    NoDescriptor {
        /// What was tried.
        operation: &'static str,
    },
    /// The permissions of the path don't allow the operation.
    PermissionDenied {
        /// What was tried.
        operation: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// This listener belongs to the process that this one was forked from.
    Forked,
    /// Anything else that the system refuses.
    Os {
        /// What was tried.
        operation: &'static str,
        /// What the system says, and of which path.
        error: io::Error,
    },
}

impl LinkError {
    pub(super) fn os(operation: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::MFILE | Errno::NFILE => Self::NoDescriptor { operation },
            _ => Self::Os { operation, error: errno.into() },
        }
    }

    pub(super) fn at(path: &Path, operation: &'static str, errno: Errno) -> Self {
        let path = path.to_path_buf();
        match errno {
            Errno::NAMETOOLONG => Self::PathTooLong { path },
            Errno::ACCESS | Errno::PERM => Self::PermissionDenied { operation, path },
            _ => match Self::os(operation, errno) {
                Self::Os { operation, error } => {
                    let error = io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                    Self::Os { operation, error }
                }
                other => other,
            },
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListening { path } => {
                write!(f, "nobody listens at {}: start the listener first", path.display())
            }
            Self::InUse { path } => {
                write!(
                    f,
                    "somebody listens at {} already: end that one, or choose another path",
                    path.display()
                )
            }
            Self::NotASocket { path } => write!(
                f,
                "{} is not a socket: it is left alone, remove it or choose another path",
                path.display()
            ),
            Self::PathTooLong { path } => {
                write!(f, "{} is too long: the path of a socket has at most 107 bytes", path.display())
            }
            Self::Locked { directory } => write!(
                f,
                "another process keeps {} locked: choose a directory of your own, as $XDG_RUNTIME_DIR",
                directory.display()
            ),
            Self::NotAccepted { pid, uid } => {
                write!(f, "process {pid} of user {uid} has connected, who is not accepted (`accept_if`)")
            }
            Self::WrongListener { found, expected } => {
                write!(f, "user {found} listens there, not user {expected} as expected")
            }
            Self::Refused { why } => write!(f, "the listener has refused: {why}"),
            Self::TooSlow => f.write_str(
                "the listener has given this process up, which was too slow for it: try again, or give it a longer \
                 `handshake_timeout`",
            ),
            Self::OneWay => f.write_str(
                "the other side makes links in one direction only: `connect` goes with `accept`, `connect_duplex` with \
                 `accept_duplex`",
            ),
            Self::BothWays => f.write_str(
                "the other side makes links in both directions: `connect_duplex` goes with `accept_duplex`, `connect` \
                 with `accept`",
            ),
            Self::TimedOut { awaiting } => write!(f, "the other side was silent, {awaiting} was due"),
            Self::HungUp { awaiting } => write!(f, "the other side has hung up, {awaiting} was due"),
            Self::Malformed { why } => write!(f, "the other side said what no ringpost says: {why}"),
            Self::Unwatchable { why } => {
                write!(f, "the death of the other process could not be noticed: {why}")
            }
            Self::NoDescriptor { operation } => write!(
                f,
                "can't {operation}: there is no file descriptor left: raise the limit (ulimit -n), or close some"
            ),
            Self::PermissionDenied { operation, path } => {
                write!(f, "may not {operation} {}: permission denied", path.display())
            }
            Self::Forked => f.write_str("this listener is the parent process's: listen anew after a fork"),
            Self::Os { operation, error } => write!(f, "can't {operation}: {error}"),
        }
    }
}

impl std::error::Error for LinkError {}
