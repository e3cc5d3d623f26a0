//! The connection of a link in both directions stays open, for the descriptors of regions: what no ring can carry.

use super::handshake::{Step, hear, say};
use crate::{
    error::{LinkError, OpenError, RegionError},
    sys::{clock::Deadline, fork::Generation, socket::Connection},
};
use std::{
    os::fd::{BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// More than a socket can hold.
const MOST_SKIPPED: u64 = 1 << 16;

/// The connection, and how many descriptors have gone over it in either direction: a descriptor's number is how many have
/// gone before it.
#[derive(Debug)]
pub(in super::super) struct Wire {
    connection: Arc<Connection>,
    /// A forked child has the same connection, and counts for itself: what it took would be missing here.
    generation: Generation,
    sent: Mutex<u64>,
    heard: Mutex<u64>,
}

impl Wire {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        let (sent, heard) = (Mutex::new(0), Mutex::new(0));
        Self { connection, generation: Generation::current(), sent, heard }
    }

    /// Whether a descriptor can be passed; waits for that until `deadline`. True, too, when the other side has hung up.
    pub(in super::super) fn has_room(&self, deadline: Deadline) -> Result<bool, LinkError> {
        self.connection.has_room(deadline)
    }

    /// Passes a descriptor, for which there is room, and gives its number.
    pub(in super::super) fn pass(&self, fd: BorrowedFd<'_>) -> Result<u64, OpenError> {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *sent;
        say(&self.connection, Step::Region, number as u32, Some(fd), Deadline::after(Duration::ZERO))?;
        *sent += 1;
        Ok(number)
    }

    /// Takes the descriptor of this number, which has been passed already; those before it that nobody took are closed.
    pub(in super::super) fn take(&self, number: u64) -> Result<OwnedFd, RegionError> {
        if !self.generation.lasts() {
            return Err(RegionError::Forked);
        }
        let missing = || Err(LinkError::Malformed { why: "a region is missing" }.into());
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match number.checked_sub(*heard) {
            None => return Err(RegionError::Taken),
            Some(MOST_SKIPPED..) => return missing(),
            Some(_) => {}
        }
        loop {
            let next = hear(&self.connection, Step::Region, Deadline::after(Duration::ZERO));
            if let Err(OpenError::Link(LinkError::TimedOut { .. } | LinkError::HungUp { .. })) = next {
                return missing();
            }
            if let Err(OpenError::Link(error @ LinkError::Os { .. })) = next {
                // The system has refused to look: the descriptor is still there, to be taken or passed over later.
                return Err(error.into());
            }
            let at = *heard;
            *heard += 1;
            if at == number {
                let next = next?;
                return if next.detail == number as u32 { Ok(next.fd()?) } else { missing() };
            }
        }
    }
}
