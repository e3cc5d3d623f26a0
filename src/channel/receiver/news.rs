//! What a receiver tells of its senders.

use crate::channel::message::SenderId;
use std::time::Duration;

/// A sender that died without closing. From [`Receiver::next_death`](crate::Receiver::next_death).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Death {
    /// Who died.
    pub sender: SenderId,
    /// Bytes of the ring, header included, that it had reserved and not committed, and that were passed over so far.
    pub unfinished: u64,
}

/// A reservation that holds up the ring. From [`Receiver::stalled`](crate::Receiver::stalled).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// Whose it is. The process lives: perhaps it was stopped, or waits for something else before it commits.
    pub sender: SenderId,
    /// How long this receiver has stood before it. The reservation is at least as old.
    pub age: Duration,
}
