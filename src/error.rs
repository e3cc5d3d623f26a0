//! What can go wrong, by operation.

use std::{fmt, io};

pub use crate::sys::{segment::SegmentError, socket::LinkError};

/// What differs in the [`OpenError::Mismatch`] of a ring that was made before the machine last started.
pub(crate) const BOOT: &str = "boot";

/// Why a ring could not be made, opened or attached to.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The name can't be a ring's.
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A setting is outside what is possible.
    Setting {
        /// Which one.
        what: &'static str,
        /// What was asked for.
        given: u64,
        /// The least that is possible.
        least: u64,
        /// The most that is possible.
        most: u64,
    },
    /// The permission bits can't be a ring's.
    Mode {
        /// As given.
        bits: u32,
    },
    /// The segment could not be made, found, trusted or mapped.
    Segment(SegmentError),
    /// The two processes of a link did not come to terms.
    Link(LinkError),
    /// What was opened is not a ring of ringpost.
    NotARing {
        /// What tells so.
        why: &'static str,
    },
    /// What was opened is a ring, but not the one that was asked for, or not one that this process can use.
    Mismatch {
        /// What differs.
        what: &'static str,
        /// What the segment has.
        found: String,
        /// What was asked for, or what this process has.
        expected: String,
    },
    /// Another receiver is attached, and lives.
    ReceiverAttached {
        /// Its process.
        pid: u32,
    },
    /// Another sender is attached to a ring for one, and lives.
    SenderAttached {
        /// Its process.
        pid: u32,
    },
    /// Every sender slot is taken, or still has messages of its former owner in the ring.
    TooManySenders {
        /// Number of slots.
        most: u8,
    },
    /// Every reader's slot of a ring for many readers is taken.
    TooManyReaders {
        /// Number of slots.
        most: u8,
    },
    /// All seats of the mailbox are taken.
    TooManySeats {
        /// How many there are.
        most: u8,
    },
    /// The kernel refuses something that all users of this ring rely on.
    Unsupported {
        /// What it refuses.
        what: &'static str,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name, why } => write!(f, "{name:?} can't be the name of a ring: {why}"),
            Self::Setting { what, given, least, most } => {
                write!(f, "{what} is {given} and must be from {least} to {most}")
            }
            Self::Mode { bits } => write!(
                f,
                "mode {bits:04o} can't be a ring's: its owner must read and write it, others must not write it, and \
                 there are no special bits (0600 is usual, 0660 lets a group in)"
            ),
            Self::Segment(error) => error.fmt(f),
            Self::Link(error) => error.fmt(f),
            Self::NotARing { why } => write!(f, "this is not a ring: {why}"),
            Self::Mismatch { what, found, expected } => {
                write!(f, "{what}: the ring has {found}, expected was {expected}")?;
                if *what == BOOT {
                    f.write_str(
                        ": it was made before the machine last started, or on another one; `ringpost clean` or \
                         `Builder::unlink` takes it away",
                    )?;
                }
                Ok(())
            }
            Self::ReceiverAttached { pid } => {
                write!(f, "the ring has a receiver already (process {pid}), and takes one at a time")
            }
            Self::SenderAttached { pid } => write!(
                f,
                "the ring has a sender already (process {pid}), and takes one at a time; a ring for one \
                 receiver that is made with `many_senders` takes several"
            ),
            Self::TooManySenders { most } => write!(
                f,
                "all {most} sender slots are taken, or wait until the receiver has passed what their former owners sent"
            ),
            Self::TooManyReaders { most } => write!(f, "all {most} slots of readers are taken"),
            Self::TooManySeats { most } => write!(f, "all {most} seats of the mailbox are taken"),
            Self::Unsupported { what } => {
                write!(f, "the kernel refuses {what}, which all users of this ring rely on")
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Their own words are in ours already.
            Self::Segment(error) => error.source(),
            Self::Link(error) => error.source(),
            _ => None,
        }
    }
}

impl From<SegmentError> for OpenError {
    fn from(error: SegmentError) -> Self {
        Self::Segment(error)
    }
}

impl From<LinkError> for OpenError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        let kind = match &error {
            OpenError::Segment(SegmentError::NotFound { .. }) => io::ErrorKind::NotFound,
            OpenError::Segment(SegmentError::AlreadyExists { .. }) => io::ErrorKind::AlreadyExists,
            OpenError::Segment(SegmentError::PermissionDenied { .. }) => io::ErrorKind::PermissionDenied,
            OpenError::Segment(SegmentError::InUse { .. } | SegmentError::BeingRemoved { .. }) => {
                io::ErrorKind::ResourceBusy
            }
            OpenError::Segment(SegmentError::NoSpace { .. }) => io::ErrorKind::StorageFull,
            OpenError::Segment(_) => io::ErrorKind::Other,
            OpenError::Link(error) => match error {
                LinkError::NotListening { .. } => io::ErrorKind::ConnectionRefused,
                LinkError::InUse { .. } => io::ErrorKind::AddrInUse,
                LinkError::NotAccepted { .. }
                | LinkError::WrongListener { .. }
                | LinkError::PermissionDenied { .. } => io::ErrorKind::PermissionDenied,
                LinkError::Refused { .. } => io::ErrorKind::ConnectionRefused,
                LinkError::TimedOut { .. } | LinkError::TooSlow => io::ErrorKind::TimedOut,
                LinkError::HungUp { .. } => io::ErrorKind::UnexpectedEof,
                LinkError::Malformed { .. } => io::ErrorKind::InvalidData,
                LinkError::PathTooLong { .. }
                | LinkError::NotASocket { .. }
                | LinkError::OneWay
                | LinkError::BothWays => io::ErrorKind::InvalidInput,
                _ => io::ErrorKind::Other,
            },
            OpenError::Name { .. } | OpenError::Setting { .. } | OpenError::Mode { .. } => {
                io::ErrorKind::InvalidInput
            }
            OpenError::NotARing { .. } | OpenError::Mismatch { .. } => io::ErrorKind::InvalidData,
            OpenError::ReceiverAttached { .. }
            | OpenError::SenderAttached { .. }
            | OpenError::TooManySenders { .. }
            | OpenError::TooManyReaders { .. }
            | OpenError::TooManySeats { .. } => io::ErrorKind::ResourceBusy,
            OpenError::Unsupported { .. } => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, error)
    }
}

/// Why a message was not sent. The message is still the caller's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[repr(u64)]
pub enum SendError {
    /// There is no room now. Only from the `try_` functions and from batches.
    Full,
    /// There was no room until the deadline; in a rendezvous, or nobody had received the message, and it was taken back.
    TimedOut,
    /// The message is longer than the ring, or the mailbox, takes.
    TooLong {
        /// Bytes that were to be sent.
        length: usize,
        /// Most bytes that a message may have there.
        longest: usize,
    },
    /// All messages of the ring have one type, and the message is shorter than its values.
    WrongLength {
        /// Bytes that were to be sent.
        length: usize,
        /// Bytes of each message of this ring.
        only: usize,
    },
    /// The receiver has closed; or the mailbox was closed for all.
    Disconnected,
    /// The receiver died without closing.
    PeerDied {
        /// Its process; 0 for one at the other end of a link that this PID namespace does not see.
        pid: u32,
        /// Bytes of the ring, headers included, that were sent and that it had not released. They wait for its successor.
        unreceived: u64,
    },
    /// The backlog of an elastic ring has reached its ceiling: [`Full`](SendError::Full) or [`TimedOut`](SendError::TimedOut)
    /// of such a ring.
    AtCeiling {
        /// Bytes that the ring may have.
        ceiling: u64,
        /// Whether it stayed so until the deadline.
        timed_out: bool,
    },
    /// An elastic ring needs more memory, and the system, or the file system, has none left. Nothing tells when there is some.
    NoMemory,
    /// Only from a rendezvous: the receiver had the message in hand, and had not released it by the deadline, or when it
    /// closed. It can't be taken back any more: it is released later, or comes again to that receiver's successor.
    InHand,
    /// This handle belongs to the process that this one was forked from. Attach anew after the fork.
    Forked,
    /// Only from a [`SignalSender`](crate::SignalSender): this call has interrupted another one, or another thread is in one. That
    /// one goes on.
    Busy,
    /// This handle was cloned, and there is no slot left for it.
    TooManySenders {
        /// Number of slots.
        most: u8,
    },
    /// The mailbox has not so many priorities.
    NoSuchPriority {
        /// What was asked for.
        priority: u8,
        /// The highest there is.
        highest: u8,
    },
    /// Another process has damaged the mailbox: nothing more can be sent.
    Corrupt,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("there is no room for the message"),
            Self::TimedOut => f.write_str(
                "there was no room for the message until the deadline, or, in a rendezvous, nobody took it",
            ),
            Self::TooLong { length, longest } => {
                write!(f, "a message of {length} bytes is too long: {longest} are taken at most")
            }
            Self::WrongLength { length, only } => write!(
                f,
                "a message of {length} bytes is no value of the ring's type: each of its messages has {only}"
            ),
            Self::Disconnected => f.write_str("the receiver has closed, or the mailbox was closed"),
            Self::PeerDied { pid, unreceived } => {
                write!(f, "the receiver (process {pid}) died and left {unreceived} bytes in the ring")
            }
            Self::AtCeiling { ceiling, timed_out: false } => {
                write!(f, "the backlog has reached the ceiling of {ceiling} bytes")
            }
            Self::AtCeiling { ceiling, timed_out: true } => {
                write!(f, "the backlog stayed at the ceiling of {ceiling} bytes until the deadline")
            }
            Self::NoMemory => f.write_str("the ring needs more memory, and there is none left"),
            Self::InHand => f.write_str("the receiver has the message in hand, and has not released it"),
            Self::Forked => f.write_str("this handle is the parent process's: attach anew after a fork"),
            Self::Busy => f.write_str("somebody is in the middle of sending with this handle"),
            Self::TooManySenders { most } => write!(f, "all {most} sender slots of the ring are taken"),
            Self::NoSuchPriority { priority, highest } => write!(
                f,
                "there is no priority {priority}: the mailbox has 0 to {highest}; make it with more `priorities`"
            ),
            Self::Corrupt => {
                f.write_str("the mailbox is damaged: another process has written into its memory")
            }
        }
    }
}

impl std::error::Error for SendError {}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        let kind = match error {
            SendError::Full | SendError::Busy | SendError::AtCeiling { timed_out: false, .. } => {
                io::ErrorKind::WouldBlock
            }
            SendError::AtCeiling { timed_out: true, .. } => io::ErrorKind::TimedOut,
            SendError::NoMemory => io::ErrorKind::OutOfMemory,
            SendError::TimedOut | SendError::InHand => io::ErrorKind::TimedOut,
            SendError::TooLong { .. } | SendError::WrongLength { .. } | SendError::NoSuchPriority { .. } => {
                io::ErrorKind::InvalidInput
            }
            SendError::Corrupt => io::ErrorKind::InvalidData,
            SendError::Disconnected | SendError::PeerDied { .. } => io::ErrorKind::BrokenPipe,
            SendError::TooManySenders { .. } => io::ErrorKind::ResourceBusy,
            SendError::Forked => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, error)
    }
}

/// Why a region was not sent, or not received.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegionError {
    /// The message that names it was not sent; nor was the region.
    Send(SendError),
    /// Its memory could not be had, sealed or mapped; or what came is not memory that nobody writes to any more.
    Segment(SegmentError),
    /// Its descriptor did not get through: the other end has hung up, or says what no ringpost says.
    Link(LinkError),
    /// This ring has no way for a descriptor: only a link in both directions has.
    NotDuplex,
    /// The message names no region.
    NotARegion,
    /// The region, or one that was sent later, was taken out already.
    Taken,
    /// The message was received by the process that this one was forked from, which alone can take its region.
    Forked,
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(error) => error.fmt(f),
            Self::Segment(error) => error.fmt(f),
            Self::Link(error) => error.fmt(f),
            Self::NotDuplex => f.write_str(
                "this ring has no way for a region: use a link in both directions (`connect_duplex`, `accept_duplex`)",
            ),
            Self::NotARegion => f.write_str("the message names no region (`Region::KIND`)"),
            Self::Forked => f.write_str("this message is the parent process's, which alone can take its region"),
            Self::Taken => f.write_str("this region, or a later one, was taken out already: take each once, in order"),
        }
    }
}

impl std::error::Error for RegionError {}

impl From<SendError> for RegionError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<SegmentError> for RegionError {
    fn from(error: SegmentError) -> Self {
        Self::Segment(error)
    }
}

impl From<LinkError> for RegionError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<OpenError> for RegionError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Link(error) => Self::Link(error),
            OpenError::Segment(error) => Self::Segment(error),
            _ => Self::Link(LinkError::Malformed { why: "a region is of another version" }),
        }
    }
}

impl From<RegionError> for io::Error {
    fn from(error: RegionError) -> Self {
        match error {
            RegionError::Send(error) => error.into(),
            RegionError::Segment(error) => OpenError::from(error).into(),
            RegionError::Link(error) => OpenError::from(error).into(),
            RegionError::NotDuplex | RegionError::NotARegion | RegionError::Taken => {
                io::Error::new(io::ErrorKind::InvalidInput, error)
            }
            RegionError::Forked => io::Error::new(io::ErrorKind::Unsupported, error),
        }
    }
}

/// Why a message that was sent is not known to be taken. It is in the ring, and may still be: [`Receipt`](crate::Receipt)
/// says whether it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NotTaken {
    /// The receiver had not released it by the deadline.
    TimedOut,
    /// The receiver has closed without releasing it. The next one that comes gets it.
    Disconnected,
    /// The receiver died and had not released it, although it may have seen it. Its successor gets it, perhaps again.
    PeerDied {
        /// Its process; 0 for one at the other end of a link that this PID namespace does not see.
        pid: u32,
    },
    /// This receipt belongs to the process that this one was forked from, which alone can wait for it.
    Forked,
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => {
                f.write_str("the receiver had not taken the message by the deadline, and still may")
            }
            Self::Disconnected => f.write_str("the receiver has closed without taking the message"),
            Self::PeerDied { pid } => {
                write!(
                    f,
                    "the receiver (process {pid}) died before it had taken the message; its successor may take it"
                )
            }
            Self::Forked => f.write_str("this receipt is the parent process's"),
        }
    }
}

impl std::error::Error for NotTaken {}

impl From<NotTaken> for io::Error {
    fn from(error: NotTaken) -> Self {
        let kind = match error {
            NotTaken::TimedOut => io::ErrorKind::TimedOut,
            NotTaken::Disconnected | NotTaken::PeerDied { .. } => io::ErrorKind::BrokenPipe,
            NotTaken::Forked => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, error)
    }
}

/// Why no message was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[repr(u64)]
pub enum RecvError {
    /// There is no message now. Only from the `try_` functions.
    Empty,
    /// There was no message until the deadline.
    TimedOut,
    /// Every sender has closed, and all that they sent was received. A sender that attaches later ends this state. Of a mailbox:
    /// it was closed for all, and nothing is left.
    Disconnected,
    /// No sender is left, and this one died without closing; all that it had committed was received. Each that died is
    /// named once, the last one again until another sender attaches.
    PeerDied {
        /// Its process; 0 for one at the other end of a link that this PID namespace does not see.
        pid: u32,
        /// Bytes of the ring, header included, that it had reserved and not committed, and that were passed over. Always 0
        /// with a single sender, whose open reservation nobody sees.
        unfinished: u64,
    },
    /// So many messages were written over before this reader got to them. It goes on at the oldest that is still there. Only
    /// from a [`Watcher`](crate::Watcher), for which nobody waits.
    Missed {
        /// How many, exactly.
        count: u64,
    },
    /// Another process has said that it alone receives from this mailbox.
    NotTheReceiver {
        /// Which.
        pid: u32,
    },
    /// This handle belongs to the process that this one was forked from. Attach anew after the fork.
    Forked,
    /// The message is longer than the caller's buffer. It is still the next message.
    BufferTooSmall {
        /// Bytes of the message.
        length: usize,
    },
    /// The bytes of the message are no value of the receiver's type. It was released.
    NotAValue,
    /// The message is not as it was committed: its bytes, its length, its kind or its sender do not fit its checksum, or it could be found
    /// by its checksum alone. It was released, and counts as received; the next call goes on behind it. Only from a ring
    /// [with checksums](crate::Builder::checksummed).
    Damaged {
        /// Its sequence number.
        sequence: u64,
    },
    /// A sender wrote what no sender of ringpost writes; or, in a ring with checksums, a record was damaged so that nothing tells how
    /// long it is. Nothing more can be received from this ring, and each call says so.
    Corrupt {
        /// Sequence number where it stands.
        sequence: u64,
        /// The length that it claims.
        length: u32,
    },
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no message"),
            Self::TimedOut => f.write_str("there was no message until the deadline"),
            Self::Disconnected => f.write_str("every sender has closed, or the mailbox was closed"),
            Self::PeerDied { pid, unfinished: 0 } => write!(f, "the sender (process {pid}) died"),
            Self::PeerDied { pid, unfinished } => {
                write!(f, "the sender (process {pid}) died and left {unfinished} bytes unfinished")
            }
            Self::Missed { count } => {
                write!(f, "{count} messages were written over before this reader got to them")
            }
            Self::NotTheReceiver { pid } => {
                write!(f, "process {pid} alone receives from this mailbox, until it closes or ends")
            }
            Self::Forked => f.write_str("this handle is the parent process's: attach anew after a fork"),
            Self::BufferTooSmall { length } => {
                write!(f, "the next message has {length} bytes, more than the buffer")
            }
            Self::NotAValue => f.write_str("the message is no value of the receiver's type"),
            Self::Damaged { sequence } => {
                write!(
                    f,
                    "the message at {sequence} was damaged after it was committed: its checksum differs"
                )
            }
            Self::Corrupt { sequence, length } => {
                write!(
                    f,
                    "the record at {sequence} claims an impossible length of {length}: the ring is damaged there"
                )
            }
        }
    }
}

impl std::error::Error for RecvError {}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        let kind = match error {
            RecvError::Empty => io::ErrorKind::WouldBlock,
            RecvError::TimedOut => io::ErrorKind::TimedOut,
            RecvError::Disconnected => io::ErrorKind::UnexpectedEof,
            RecvError::PeerDied { .. } => io::ErrorKind::ConnectionAborted,
            RecvError::BufferTooSmall { .. } => io::ErrorKind::InvalidInput,
            RecvError::Forked => io::ErrorKind::Unsupported,
            RecvError::NotTheReceiver { .. } => io::ErrorKind::PermissionDenied,
            RecvError::Missed { .. }
            | RecvError::NotAValue
            | RecvError::Damaged { .. }
            | RecvError::Corrupt { .. } => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}
