//! The messages between client and server.
//!
//! The kind of a ringpost message says what it is: below `CONTROL` a call's is the number of its method, an answer's what
//! became of the call.

use crate::{clock::Deadline, codec::MOST_REGIONS, error::Refusal, semantics::Semantics};
use ringpost::{Message, Region, RegionError, SendError, Sender};
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

/// In an answer: what was asked for was done.
pub(crate) const DONE: u16 = 0;
/// In an answer: the deadline had passed before the call was looked at.
pub(crate) const TOO_LATE: u16 = 1;
/// In an answer: the first refusal.
const REFUSED: u16 = 2;

/// Of this protocol.
pub(crate) const VERSION: u32 = 1;

/// What a client says when it binds.
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

/// Forgets all regions but the last `count`: the others were of a call that was given up. `None` when there are not so many.
pub(crate) fn keep_last(regions: &mut Vec<Region>, count: u64) -> Option<()> {
    let others = regions.len().checked_sub(usize::try_from(count).ok()?)?;
    regions.drain(..others);
    Some(())
}

/// Takes up a region for the call, or the answer, that comes behind it. `None` when it, or one more, can't be had.
#[cold]
pub(crate) fn take_region(message: &Message<'_>, regions: &mut Vec<Region>) -> Option<()> {
    if regions.len() == 2 * MOST_REGIONS {
        // More are of calls that were given up.
        regions.drain(..MOST_REGIONS);
    }
    regions.push(message.region().ok()?);
    Some(())
}

/// Sends what goes ahead of a call or of an answer.
#[cold]
pub(crate) fn send_regions(
    sender: &mut Sender,
    regions: &[Region],
    deadline: Deadline,
) -> Result<(), SendError> {
    for region in regions {
        let sent = match deadline.instant() {
            None => sender.send_region(region),
            Some(instant) => sender.send_region_deadline(region, instant),
        };
        sent.map_err(|error| match error {
            RegionError::Send(error) => error,
            // The other end has hung up.
            _ => SendError::Disconnected,
        })?;
    }
    Ok(())
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
