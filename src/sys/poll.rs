//! Waiting for descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::Waker;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::{clock::Deadline, porter};

/// What is waited for at a descriptor. An error or a hang-up there ends either wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Interest {
    /// There is something to read, or the end.
    Readable,
    /// There is room to write.
    Writable,
}

impl Interest {
    fn flags(self) -> PollFlags {
        match self {
            Self::Readable => PollFlags::IN,
            Self::Writable => PollFlags::OUT,
        }
    }
}

/// Sleeps until one of the descriptors is as it should be, or until `deadline`; may return early. Gives the indices of
/// those that are.
pub(crate) fn wait(
    descriptors: &[(BorrowedFd<'_>, Interest)],
    deadline: Option<Deadline>,
) -> io::Result<Vec<usize>> {
    let events = descriptors.iter().map(|&(fd, interest)| PollFd::from_borrowed_fd(fd, interest.flags()));
    let mut events: Vec<_> = events.collect();
    let timeout = deadline.map(|deadline| {
        let left = deadline.remaining();
        Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() }
    });
    match poll(&mut events, timeout.as_ref()) {
        Ok(_) => Ok((0..events.len()).filter(|&index| !events[index].revents().is_empty()).collect()),
        Err(Errno::INTR) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// A descriptor that is readable from when it is raised until it is cleared.
#[derive(Debug)]
pub(crate) struct Signal(OwnedFd);

impl Signal {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn raise(&self) {
        // It refuses only where it would count past 2^64 - 2, and is readable then.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        // It refuses where nothing has raised it.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl porter::Signal for Signal {
    fn raise(&self) -> Option<Waker> {
        self.raise();
        None
    }

    fn clear(&self) {
        self.clear();
    }
}
