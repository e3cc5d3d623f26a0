//! Receiving from many rings at once.

use super::{
    message::Message,
    receiver::Receiver,
    ring::Inner,
    trust::{Trust, Untrusted},
};
use crate::{
    error::RecvError,
    ring::receive::Record,
    sys::clock::Deadline,
    wait::{self, Look, MOST_BELLS, Spin, WaitStrategy},
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
    /// A lane belongs to the process that this one was forked from.
    Forked,
}

impl fmt::Display for LanesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("all lanes are empty"),
            Self::TimedOut => f.write_str("all lanes stayed empty until the deadline"),
            Self::NoLanes => f.write_str("there is no lane to receive from: add one first"),
            Self::TooMany { most } => write!(f, "there are {most} lanes already, and one wait takes no more"),
            Self::Ended { lane: LaneId(lane), error } => write!(f, "lane {lane} has ended: {error}"),
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
            LanesError::NoLanes => io::ErrorKind::NotConnected,
            LanesError::TooMany { .. } => io::ErrorKind::ResourceBusy,
            LanesError::Ended { error, .. } => return error.into(),
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
    lanes: Vec<Lane<P>>,
    /// The lane that is looked at first.
    next: usize,
    made: u64,
    spin: Spin,
}

struct Lane<P: Trust> {
    id: LaneId,
    receiver: Receiver<P>,
    /// How often it was passed over since more than its ring was looked at.
    passed_over: u32,
}

/// How often a lane is passed over before its end is looked for: others that always have messages must not hide it.
const PASSES: u32 = 64;

/// What a look at the lanes has found: which lane, and what.
type Found = (usize, Result<Record, RecvError>);

impl<P: Trust> Lanes<P> {
    /// No lanes yet.
    pub fn new() -> Self {
        Self { lanes: Vec::new(), next: 0, made: 0, spin: Inner::spin_as(WaitStrategy::default()) }
    }

    /// Adds a lane, at most 127 at a time.
    ///
    /// # Errors
    /// [`LanesError::TooMany`]; the receiver is closed then.
    pub fn add(&mut self, receiver: Receiver<P>) -> Result<LaneId, LanesError> {
        if self.lanes.len() == MOST_BELLS {
            return Err(LanesError::TooMany { most: MOST_BELLS });
        }
        let id = LaneId(self.made);
        self.made += 1;
        self.lanes.push(Lane { id, receiver, passed_over: 0 });
        Ok(id)
    }

    /// Takes a lane out; `None` when it has ended, or is no lane of this value.
    pub fn remove(&mut self, lane: LaneId) -> Option<Receiver<P>> {
        let index = self.lanes.iter().position(|other| other.id == lane)?;
        Some(self.take_out(index).receiver)
    }

    /// How many lanes there are.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether there is no lane.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// How this handle waits from now on. Default [`WaitStrategy::SpinThenSleep`], whatever the lanes were built with.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.spin = Inner::spin_as(strategy);
    }

    /// The next message of any lane; waits while there is none.
    ///
    /// # Errors
    /// [`LanesError::Ended`] when a lane has ended: its sender closed or died, or damaged the ring. It is told once, and
    /// the lane is gone by then. [`LanesError::NoLanes`] when there is none.
    pub fn recv(&mut self) -> Result<(LaneId, Message<'_, P>), LanesError> {
        self.recv_within(None)
    }

    /// The next message of any lane if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`LanesError::Empty`], and those of [`recv`](Lanes::recv).
    pub fn try_recv(&mut self) -> Result<(LaneId, Message<'_, P>), LanesError> {
        let found = match self.sweep(Look::Spinning)? {
            Some(found) => found,
            None => self.sweep(Look::BeforeSleep)?.ok_or(LanesError::Empty)?,
        };
        self.give(found)
    }

    /// The next message of any lane; waits at most `timeout` while there is none.
    ///
    /// # Errors
    /// [`LanesError::TimedOut`], and those of [`recv`](Lanes::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<(LaneId, Message<'_, P>), LanesError> {
        self.recv_within(Some(Deadline::after(timeout)))
    }

    /// The next message of any lane; waits until `deadline` at most while there is none.
    ///
    /// # Errors
    /// [`LanesError::TimedOut`], and those of [`recv`](Lanes::recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<(LaneId, Message<'_, P>), LanesError> {
        self.recv_within(Some(Deadline::at(deadline)))
    }

    fn recv_within(&mut self, deadline: Option<Deadline>) -> Result<(LaneId, Message<'_, P>), LanesError> {
        let found = match self.sweep(Look::Spinning)? {
            Some(found) => found,
            None => self.wait(deadline).ok_or(LanesError::TimedOut)?,
        };
        self.give(found)
    }

    /// Looks at each lane once, from the one behind that which was served last.
    fn sweep(&mut self, why: Look) -> Result<Option<Found>, LanesError> {
        if self.lanes.is_empty() {
            return Err(LanesError::NoLanes);
        }
        for index in round(self.next, self.lanes.len()) {
            let lane = &mut self.lanes[index];
            if !lane.receiver.is_own() {
                return Err(LanesError::Forked);
            }
            lane.passed_over += 1;
            let thorough = lane.passed_over > PASSES;
            if let Some(found) = lane.receiver.look(if thorough { Look::BeforeSleep } else { why }) {
                lane.passed_over = 0;
                return Ok(Some((index, found)));
            }
            if thorough {
                lane.passed_over = 0;
            }
        }
        Ok(None)
    }

    #[cold]
    fn wait(&mut self, deadline: Option<Deadline>) -> Option<Found> {
        let Self { lanes, next, spin, .. } = self;
        let (mut watches, sleepers): (Vec<_>, Vec<_>) =
            lanes.iter_mut().map(|lane| lane.receiver.parts()).unzip();
        wait::until_any(&sleepers, spin, deadline, |why| {
            round(*next, watches.len()).find_map(|index| Some((index, watches[index].look(why)?)))
        })
    }

    fn give(&mut self, (index, found): Found) -> Result<(LaneId, Message<'_, P>), LanesError> {
        match found {
            Ok(record) => {
                self.next = index + 1;
                let Lane { id, receiver, .. } = &mut self.lanes[index];
                Ok((*id, Message::new(receiver, record)))
            }
            Err(error) => Err(LanesError::Ended { lane: self.take_out(index).id, error }),
        }
    }

    fn take_out(&mut self, index: usize) -> Lane<P> {
        if index < self.next {
            self.next -= 1;
        }
        self.lanes.remove(index)
    }
}

/// All numbers below `count`, from `first` on.
fn round(first: usize, count: usize) -> impl Iterator<Item = usize> {
    (first..first + count).map(move |number| number % count)
}

impl<P: Trust> Default for Lanes<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Trust> fmt::Debug for Lanes<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.lanes.iter().map(|lane| (lane.id, &lane.receiver))).finish()
    }
}
