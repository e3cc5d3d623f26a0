//! The messages between client and server.
//!
//! The kind of a ringpost message says what it is: below `CONTROL` a call's is the number of its method, an answer's what
//! became of the call.

use crate::{clock::Deadline, codec::MOST_REGIONS, error::Refusal, semantics::Semantics};
use ringpost::{LinkError, Message, Region, RegionError, SegmentError, SendError, Sender};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// From here on: messages about the link itself.
const CONTROL: u16 = 0xff00;
/// From the client, first of all: [`Hello`].
pub(crate) const HELLO: u16 = CONTROL;
/// From the client, last of all: its session ends.
pub(crate) const GOODBYE: u16 = CONTROL + 1;
/// From the server: the client may call.
pub(crate) const WELCOME: u16 = CONTROL + 2;
/// From the server: its interface is another, described in the message.
pub(crate) const OTHER_INTERFACE: u16 = CONTROL + 3;
/// From the server: it can't promise these semantics.
pub(crate) const NO_SUCH_PROMISE: u16 = CONTROL + 4;

/// From the server: it speaks the version of this protocol that the message names (u32), and that is another.
pub(crate) const OTHER_VERSION: u16 = CONTROL + 5;
/// From the client, ahead of a call that it has sent before, over a link that was lost: [`Again`].
pub(crate) const AGAIN: u16 = CONTROL + 6;
/// From the server, last of all: it ends, and begins no call that it has not answered.
pub(crate) const CLOSING: u16 = CONTROL + 7;

/// In an answer: what was asked for was done.
pub(crate) const DONE: u16 = 0;
/// In an answer: the deadline had passed before the call was looked at.
pub(crate) const TOO_LATE: u16 = 1;
/// In an answer: the first refusal.
const REFUSED: u16 = 2;

/// Of this protocol.
pub(crate) const VERSION: u32 = 1;

/// What a client says when it binds. The version comes first in each of them.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) semantics: u32,
    pub(crate) interface: u64,
    pub(crate) session: [u8; 16],
}

impl Hello {
    pub(crate) fn asks_for(&self) -> Option<Semantics> {
        [Semantics::AtMostOnce, Semantics::AtLeastOnce, Semantics::ExactlyOnce]
            .into_iter()
            .find(|&semantics| semantics as u32 == self.semantics)
    }
}

/// What precedes the arguments.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
pub(crate) struct CallHeader {
    /// Of the session: one more than that of the call before.
    pub(crate) number: u64,
    /// [`Deadline`].
    pub(crate) deadline_ns: u64,
    /// How many regions, of those that came before, are arguments: the last ones.
    pub(crate) regions: u64,
}

impl CallHeader {
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::from_ns(self.deadline_ns)
    }
}

/// What is said of a call that is repeated.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
pub(crate) struct Again {
    /// Of the call.
    pub(crate) number: u64,
    /// How long ago it was sent for the first time, at most, in nanoseconds; the most there can be when a call of the session was
    /// answered before, so that the server must know it. It is no point of time: the clock of another time namespace may be ahead.
    pub(crate) age_ns: u64,
}

impl Again {
    pub(crate) fn age(&self) -> Duration {
        Duration::from_nanos(self.age_ns)
    }
}

/// What precedes the result.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
pub(crate) struct AnswerHeader {
    /// Of the call.
    pub(crate) number: u64,
    /// As in the call.
    pub(crate) regions: u64,
}

impl Refusal {
    pub(crate) fn code(self) -> u16 {
        REFUSED + self as u16
    }

    pub(crate) fn from_code(code: u16) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(REFUSED)?)).copied()
    }
}

/// Regions that have come ahead of a call, or of an answer; those among them that could not be had are named by the error.
#[derive(Debug, Default)]
pub(crate) struct Luggage(Vec<Result<Region, RegionError>>);

/// Why a call or an answer has not got its regions.
#[derive(Debug)]
pub(crate) enum Unclaimed {
    /// There are not so many.
    Nonsense,
    /// There was no descriptor or no memory left for one of them.
    Shortage(RegionError),
}

impl Luggage {
    /// Takes up the region that the message names. `None` when it is nonsense.
    #[cold]
    pub(crate) fn take(&mut self, message: &Message<'_>) -> Option<()> {
        if self.0.len() == 2 * MOST_REGIONS {
            // More are of calls that were given up.
            self.0.drain(..MOST_REGIONS);
        }
        let region = message.region();
        if region.as_ref().is_err_and(|error| !is_shortage(error)) {
            return None;
        }
        self.0.push(region);
        Some(())
    }

    /// Forgets what has come: nobody wants it any more.
    #[cold]
    pub(crate) fn leave(&mut self) {
        self.0.clear();
    }

    /// Gives the last `count`, and forgets the others, which were of calls that were given up.
    #[inline]
    pub(crate) fn claim(&mut self, count: u64, regions: &mut Vec<Region>) -> Result<(), Unclaimed> {
        let others = usize::try_from(count).ok().and_then(|count| self.0.len().checked_sub(count));
        let claimed = self.0.drain(..).skip(others.ok_or(Unclaimed::Nonsense)?);
        regions.clear();
        for region in claimed {
            regions.push(region.map_err(Unclaimed::Shortage)?);
        }
        Ok(())
    }
}

/// Whether a region could not be sent, or taken, because this process or the system has too little of something.
pub(crate) fn is_shortage(error: &RegionError) -> bool {
    matches!(
        error,
        RegionError::Link(LinkError::NoDescriptor { .. } | LinkError::Os { .. })
            | RegionError::Segment(
                SegmentError::NoDescriptor { .. }
                    | SegmentError::NoDescriptorInSystem { .. }
                    | SegmentError::NoMemory { .. }
                    | SegmentError::Os { .. }
            )
    )
}

/// Sends what goes ahead of a call or of an answer.
#[cold]
pub(crate) fn send_regions(
    sender: &mut Sender,
    regions: &[Region],
    deadline: Deadline,
) -> Result<(), RegionError> {
    regions.iter().try_for_each(|region| match deadline.instant() {
        None => sender.send_region(region),
        Some(instant) => sender.send_region_deadline(region, instant),
    })
}

/// What became of a message, if not for want of something, when its regions could not be sent.
pub(crate) fn as_message(error: RegionError) -> SendError {
    match error {
        RegionError::Send(error) => error,
        // The other end has hung up.
        _ => SendError::Disconnected,
    }
}

/// Takes a message apart: a copy of its header, and of what follows.
#[inline]
pub(crate) fn open<H: FromBytes + IntoBytes>(message: &Message<'_>, body: &mut Vec<u8>) -> Option<H> {
    let length = message.len().checked_sub(size_of::<H>())?;
    let mut header = H::new_zeroed();
    message.read_at(0, header.as_mut_bytes());
    body.resize(length, 0);
    message.read_at(size_of::<H>(), body);
    Some(header)
}
