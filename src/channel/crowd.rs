//! A sender that sends at the same time as others.

use crate::ring::position::Position;
use std::{mem, thread};

/// Remembers how often it has met others, and where the receiver was.
///
/// Where there are fewer processors than senders and receiver, a sender may be on the receiver's, and have it for a slice of the kernel's
/// (some milliseconds). The others don't fill the ring in that time and go to sleep, since each message costs them a transfer of the tail's
/// line: they only keep each other busy. So who has met others so often, and finds the receiver where it was, lets it run.
#[derive(Debug)]
pub(super) struct Crowd {
    met: u32,
    receiver: Position,
}

impl Crowd {
    /// Meetings from one look at the receiver to the next: some microseconds, where all send all the time.
    const MEETINGS: u32 = 64;

    pub(super) fn new(receiver: Position) -> Self {
        Self { met: 0, receiver }
    }

    /// Another has reserved since this one did so. True when it is time to look where the receiver is.
    #[inline(always)]
    pub(super) fn meet(&mut self) -> bool {
        self.met = self.met.saturating_add(1);
        self.is_due()
    }

    /// Whether it is time to look where the receiver is.
    #[inline(always)]
    pub(super) fn is_due(&self) -> bool {
        self.met >= Self::MEETINGS
    }

    /// Nothing is published, behind which it could step aside.
    pub(super) fn forget(&mut self) {
        self.met = 0;
    }

    /// Gives the processor up for once if the receiver is where it was. Not while this handle has anything reserved: others would wait for
    /// that.
    pub(super) fn step_aside(&mut self, receiver: Position) {
        self.met = 0;
        if mem::replace(&mut self.receiver, receiver) == receiver {
            thread::yield_now();
        }
    }
}
