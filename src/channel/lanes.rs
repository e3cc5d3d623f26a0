//! Receiving from many rings at once.

use super::{
    message::Message,
    patience::Patience,
    receiver::Receiver,
    select::{Refusal, Round},
    trust::{Trust, Untrusted},
};
use crate::{
    error::RecvError,
    ring::receive::Record,
    sys::socket::PeerCredentials,
    wait::{Look, MOST_BELLS, WaitStrategy},
};
use std::{
    fmt, io,
    time::{Duration, Instant},
};

/// Which lane of a [`Lanes`] something came from. Never used again for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneId(u64);

/// Why [`Lanes`] gave no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LanesError {
    /// No lane has a message now. Only from [`Lanes::try_recv`].
    Empty,
    /// No lane had a message until the deadline.
    TimedOut,
    /// There is no lane.
    NoLanes,
    /// The lane has ended before, or is no lane of this value. Only where one is named.
    NoSuchLane {
        /// Which.
        lane: LaneId,
    },
    /// There are as many lanes as can be waited for at once.
    TooMany {
        /// How many that are.
        most: usize,
    },
    /// A lane has ended, and is no more. The others go on.
    Ended {
        /// Which.
        lane: LaneId,
        /// As from [`Receiver::recv`].
        error: RecvError,
    },
    /// A message of a lane was damaged and is gone: [`RecvError::Damaged`]. The lane goes on.
    Damaged {
        /// Which.
        lane: LaneId,
        /// Sequence number of the message.
        sequence: u64,
    },
    /// A lane belongs to the process that this one was forked from.
    Forked,
}

impl fmt::Display for LanesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("all lanes are empty"),
            Self::TimedOut => f.write_str("all lanes stayed empty until the deadline"),
            Self::NoLanes => f.write_str("there is no lane to receive from: add one first"),
            Self::NoSuchLane { lane: LaneId(lane) } => write!(f, "there is no lane {lane} (any more)"),
            Self::TooMany { most } => write!(f, "there are {most} lanes already, and one wait takes no more"),
            Self::Ended { lane: LaneId(lane), error } => write!(f, "lane {lane} has ended: {error}"),
            Self::Damaged { lane: LaneId(lane), sequence } => {
                write!(f, "lane {lane}: {}", RecvError::Damaged { sequence: *sequence })
            }
            Self::Forked => f.write_str("a lane is the parent process's: attach anew after a fork"),
        }
    }
}

impl std::error::Error for LanesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Ended { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<LanesError> for io::Error {
    fn from(error: LanesError) -> Self {
        let kind = match error {
            LanesError::Empty => io::ErrorKind::WouldBlock,
            LanesError::TimedOut => io::ErrorKind::TimedOut,
            LanesError::NoLanes | LanesError::NoSuchLane { .. } => io::ErrorKind::NotConnected,
            LanesError::TooMany { .. } => io::ErrorKind::ResourceBusy,
            LanesError::Ended { error, .. } => return error.into(),
            LanesError::Damaged { .. } => io::ErrorKind::InvalidData,
            LanesError::Forked => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, error)
    }
}

/// The receivers of many rings, as one: gives the next message of any of them, and sleeps on all of them at once.
///
/// Its lanes have nothing in common but this value. So senders that don't trust each other get a link each
/// ([`Listener`](crate::Listener)): whatever one of them does to its own memory, the others go on. There is no order between
/// the messages of two lanes; a lane that has messages is served once in a round.
///
/// ```
/// let (one, two) = (ringpost::unnamed().in_process()?, ringpost::unnamed().in_process()?);
/// let mut lanes = ringpost::Lanes::new();
/// let (first, second) = (lanes.add(one.receiver()?)?, lanes.add(two.receiver()?)?);
///
/// two.sender()?.send(b"hi")?; // and closes
/// let (lane, message) = lanes.recv()?;
/// assert!(lane == second && &*message == b"hi");
/// drop(message);
/// let end = lanes.recv().unwrap_err();
/// assert!(matches!(end, ringpost::LanesError::Ended { lane, .. } if lane == second));
/// # assert_eq!(lanes.len(), 1);
/// # let _ = first;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lanes<P: Trust = Untrusted> {
    round: Round<Receiver<P>>,
}

/// What a look at the lanes has found: which lane, and what.
type Found = (usize, Result<Record, RecvError>);

impl<P: Trust> Lanes<P> {
    /// No lanes yet.
    pub fn new() -> Self {
        Self { round: Round::new() }
    }

    /// Adds a lane, at most 127 at a time.
    ///
    /// # Errors
    /// [`LanesError::TooMany`], [`LanesError::Forked`]; the receiver is closed then.
    pub fn add(&mut self, receiver: Receiver<P>) -> Result<LaneId, LanesError> {
        let berth = receiver.berth();
        self.round.add(|_| receiver, Some(berth)).map(LaneId).map_err(|refusal| match refusal {
            Refusal::TooMany => LanesError::TooMany { most: MOST_BELLS },
            Refusal::Forked => LanesError::Forked,
        })
    }

    /// Takes a lane out; `None` when it has ended, or is no lane of this value.
    pub fn remove(&mut self, lane: LaneId) -> Option<Receiver<P>> {
        let index = self.round.index_of(lane.0)?;
        Some(self.round.take_out(index).1)
    }

    /// The lanes, and who is at the other end of each: `None` where that is no link.
    pub fn peers(&self) -> impl Iterator<Item = (LaneId, Option<PeerCredentials>)> {
        self.round.sources().map(|(id, receiver)| (LaneId(id), receiver.peer()))
    }

    /// How many lanes there are.
    pub fn len(&self) -> usize {
        self.round.len()
    }

    /// Whether there is no lane.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How this handle waits from now on. Default [`WaitStrategy::SpinThenSleep`], whatever the lanes were built with.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.round.set_wait(strategy);
    }

    /// The next message of any lane; waits while there is none.
    ///
    /// # Errors
    /// [`LanesError::Ended`] when a lane has ended: its sender closed or died, or damaged the ring. It is told once, and
    /// the lane is gone by then. [`LanesError::NoLanes`] when there is none.
    #[inline]
    pub fn recv(&mut self) -> Result<(LaneId, Message<'_, P>), LanesError> {
        self.recv_within(Patience::Endless)
    }

    /// The next message of any lane if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`LanesError::Empty`], and those of [`recv`](Lanes::recv).
    #[inline]
    pub fn try_recv(&mut self) -> Result<(LaneId, Message<'_, P>), LanesError> {
        self.recv_within(Patience::None)
    }

    /// The next message of any lane; waits at most `timeout` while there is none.
    ///
    /// # Errors
    /// [`LanesError::TimedOut`], and those of [`recv`](Lanes::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<(LaneId, Message<'_, P>), LanesError> {
        self.recv_within(Patience::For(timeout))
    }

    /// The next message of any lane; waits until `deadline` at most while there is none.
    ///
    /// # Errors
    /// [`LanesError::TimedOut`], and those of [`recv`](Lanes::recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<(LaneId, Message<'_, P>), LanesError> {
        self.recv_within(Patience::Until(deadline))
    }

    /// The next message of this lane, whatever the others have, of which none is lost; waits while there is none.
    ///
    /// # Errors
    /// [`LanesError::NoSuchLane`], and [`LanesError::Ended`] of this lane.
    pub fn recv_from(&mut self, lane: LaneId) -> Result<Message<'_, P>, LanesError> {
        self.recv_from_within(lane, Patience::Endless)
    }

    /// The next message of this lane if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`LanesError::Empty`], and those of [`recv_from`](Lanes::recv_from).
    pub fn try_recv_from(&mut self, lane: LaneId) -> Result<Message<'_, P>, LanesError> {
        self.recv_from_within(lane, Patience::None)
    }

    /// The next message of this lane; waits at most `timeout` while there is none.
    ///
    /// # Errors
    /// [`LanesError::TimedOut`], and those of [`recv_from`](Lanes::recv_from).
    pub fn recv_from_timeout(
        &mut self,
        lane: LaneId,
        timeout: Duration,
    ) -> Result<Message<'_, P>, LanesError> {
        self.recv_from_within(lane, Patience::For(timeout))
    }

    /// The next message of this lane; waits until `deadline` at most while there is none.
    ///
    /// # Errors
    /// [`LanesError::TimedOut`], and those of [`recv_from`](Lanes::recv_from).
    pub fn recv_from_deadline(
        &mut self,
        lane: LaneId,
        deadline: Instant,
    ) -> Result<Message<'_, P>, LanesError> {
        self.recv_from_within(lane, Patience::Until(deadline))
    }

    fn recv_from_within(&mut self, lane: LaneId, patience: Patience) -> Result<Message<'_, P>, LanesError> {
        let index = self.round.index_of(lane.0).ok_or(LanesError::NoSuchLane { lane })?;
        match self.round.source(index).1.next(&patience) {
            Ok(record) => Ok(Message::new(self.round.source(index).1, record.info)),
            Err(RecvError::Empty) => Err(LanesError::Empty),
            Err(RecvError::TimedOut) => Err(LanesError::TimedOut),
            Err(RecvError::Forked) => Err(LanesError::Forked),
            Err(error) => Err(self.end(index, error)),
        }
    }

    #[inline(always)]
    fn recv_within(&mut self, patience: Patience) -> Result<(LaneId, Message<'_, P>), LanesError> {
        // Found is found in registers, also after a wait (see `Sender::room`).
        let at_sight = if self.round.is_own() { self.round.at_sight(Receiver::glance) } else { None };
        let index = match at_sight {
            Some(index) => index,
            None => self.wait(patience)?,
        };
        self.round.served(index);
        let found = self.round.source(index).1.found();
        match found {
            Ok(record) => {
                let (id, receiver) = self.round.source(index);
                Ok((LaneId(id), Message::new(receiver, record.info)))
            }
            Err(error) => Err(self.end(index, error)),
        }
    }

    /// The lane that has a message.
    #[cold]
    fn wait(&mut self, patience: Patience) -> Result<usize, LanesError> {
        let (index, found) = match (self.sweep(Look::Spinning)?, patience) {
            (Some(found), _) => found,
            (None, Patience::None) => self.sweep(Look::BeforeSleep)?.ok_or(LanesError::Empty)?,
            (None, patience) => {
                let waited = self.round.wait_on_bells(patience.deadline(), Receiver::look);
                waited.ok_or(LanesError::TimedOut)?
            }
        };
        match found {
            Ok(_) => Ok(index),
            Err(error) => {
                self.round.served(index);
                Err(self.end(index, error))
            }
        }
    }

    /// Looks at each lane once, from the one behind that which was served last.
    fn sweep(&mut self, why: Look) -> Result<Option<Found>, LanesError> {
        if self.is_empty() {
            return Err(LanesError::NoLanes);
        }
        if !self.round.is_own() {
            return Err(LanesError::Forked);
        }
        Ok(self.round.sweep(why, Receiver::look))
    }

    /// What is told of an error of a lane. But for damage that is its end.
    #[cold]
    fn end(&mut self, index: usize, error: RecvError) -> LanesError {
        match error {
            RecvError::Damaged { sequence } => {
                LanesError::Damaged { lane: LaneId(self.round.source(index).0), sequence }
            }
            error => LanesError::Ended { lane: LaneId(self.round.take_out(index).0), error },
        }
    }
}

impl<P: Trust> Default for Lanes<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Trust> fmt::Debug for Lanes<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.round.sources().map(|(id, receiver)| (LaneId(id), receiver))).finish()
    }
}
