//! A descriptor for somebody else's event loop.

use super::{
    berth::{Berth, Post},
    source::Source,
};
use crate::{
    error::OpenError,
    sys::{
        clock::Deadline,
        poll::Signal,
        porter::{self, Armed},
    },
    wait,
};
use std::{
    fmt, io,
    ops::{Deref, DerefMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::Arc,
};

/// A [`Receiver`](crate::Receiver), [`Subscriber`](crate::Subscriber) or [`Mailbox`](crate::Mailbox) with a descriptor that becomes
/// readable when there is something for it: for `poll`, `epoll`, and what is built on them (mio, Tokio's `AsyncFd`).
///
/// Only once, and only after [`arm`](Readiness::arm). Whoever sends knows nothing of descriptors: a thread of this process, one for all
/// values of this type, sleeps for those that are armed. While this is not armed, it costs nothing.
///
/// It is used like the receiver itself (`readable.try_recv()`); any use that may change that disarms it. Readable means
/// that it is worth looking, not that there is something.
///
/// ```
/// use rustix::event::{PollFd, PollFlags, poll};
///
/// let ring = ringpost::unnamed().memfd()?;
/// let mut receiver = ringpost::Readiness::new(ring.receiver()?)?;
/// let mut sender = ring.sender()?;
/// sender.send(b"hi")?;
///
/// loop {
///     match receiver.try_recv() {
///         Ok(message) => break assert_eq!(message.to_vec(), b"hi"),
///         Err(ringpost::RecvError::Empty) => {}
///         Err(end) => return Err(end.into()),
///     }
///     receiver.arm()?;
///     poll(&mut [PollFd::new(&receiver, PollFlags::IN)], None)?; // with any others
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Readiness<S: Source> {
    /// Before the source: what a porter watches is of no use any more when that has gone.
    state: State,
    source: S,
    berth: Arc<Berth>,
    signal: Arc<Signal>,
}

/// What makes the descriptor readable.
enum State {
    Idle,
    /// It is readable.
    Ready,
    Armed {
        _armed: Armed,
    },
}

impl<S: Source> Readiness<S> {
    /// Takes a descriptor for the source, and starts the thread that sleeps if this process has none yet.
    ///
    /// # Errors
    /// When no descriptor is left, or the thread is refused. The source is closed then.
    pub fn new(source: S) -> io::Result<Self> {
        porter::start()?;
        let (berth, signal) = (Arc::new(source.berth()), Arc::new(Signal::new()?));
        Ok(Self { state: State::Idle, source, berth, signal })
    }

    /// From now on the descriptor becomes readable when there is something, which may be a message, the end, or a false alarm. True
    /// when there is something already: then it is readable. Never blocks.
    ///
    /// # Errors
    /// When more than 127 are armed at once, and another thread was refused. And in a forked child, whose descriptor is its
    /// parent's.
    pub fn arm(&mut self) -> io::Result<bool> {
        // Another one may have been put in the source's place.
        let now = self.source.berth();
        if !self.berth.is_own() || !now.is_own() {
            let what = "to wait for what is the parent process's: attach anew after a fork";
            return Err(io::Error::new(io::ErrorKind::Unsupported, OpenError::Unsupported { what }));
        }
        self.stand_down();
        let Self { state, source, berth, signal } = self;
        *berth = Arc::new(now);
        berth.take_back();
        let sleeper = berth.sleeper();
        let Some(ticket) = wait::arm(&sleeper, |why| source.is_ready(why)) else {
            signal.raise();
            *state = State::Ready;
            return Ok(true);
        };
        // Where nobody tells of a death, the next call looks for it.
        let until = sleeper.slice.map(Deadline::after);
        let post = Post { berth: Arc::clone(berth), ticket };
        match porter::watch(vec![Box::new(post)], until, signal) {
            Ok(armed) => *state = State::Armed { _armed: armed },
            Err(error) => {
                sleeper.is_back();
                return Err(error);
            }
        }
        Ok(false)
    }

    /// The descriptor is not readable any more, and does not become so. At a mailbox, another receiver is called if this one was. Never
    /// blocks.
    pub fn disarm(&mut self) {
        self.stand_down();
        self.source.leave();
    }

    fn stand_down(&mut self) {
        if let State::Ready = std::mem::replace(&mut self.state, State::Idle)
            && self.berth.is_own()
        {
            self.signal.clear();
        }
    }

    /// The source alone.
    pub fn into_inner(mut self) -> S {
        self.disarm();
        self.source
    }
}

impl<S: Source> Deref for Readiness<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.source
    }
}

impl<S: Source> DerefMut for Readiness<S> {
    /// Disarms it.
    fn deref_mut(&mut self) -> &mut S {
        self.stand_down();
        &mut self.source
    }
}

impl<S: Source> AsFd for Readiness<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        Signal::as_fd(&self.signal)
    }
}

impl<S: Source> AsRawFd for Readiness<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<S: Source + fmt::Debug> fmt::Debug for Readiness<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("source", &self.source).field("fd", &self.as_raw_fd()).finish()
    }
}
