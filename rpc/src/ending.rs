//! How a server comes to its end.

use ringpost::{Incoming, Listener, OpenError};
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{Shutdown, SocketFlags, accept_with, shutdown},
};
use std::{
    fmt, process,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::*},
    },
    time::Duration,
};

/// How often who waits for a client looks whether the server ends; and how long it waits for room to say so.
pub(crate) const LOOK_AFTER: Duration = Duration::from_millis(100);

/// Ends [`Server::serve`](crate::Server::serve), from a method or from any thread. From
/// [`Server::with_stop`](crate::Server::with_stop).
#[derive(Clone)]
pub struct Stop {
    ending: Arc<Ending>,
    listener: Weak<Listener>,
}

impl Stop {
    pub(crate) fn of(ending: &Arc<Ending>, listener: &Arc<Listener>) -> Self {
        Self { ending: Arc::clone(ending), listener: Arc::downgrade(listener) }
    }

    /// From now on the server takes nobody in, and begins no call: who calls goes to its successor, or is told that there is none.
    /// Calls that it is in are answered. Never blocks. In a forked child it does nothing: the server is its parent's.
    pub fn stop(&self) {
        if !self.ending.is_ours() {
            return;
        }
        // ORDERING: Release, of one process; pairs with the Acquire in `Ending::is_said`.
        self.ending.said.store(true, Release);
        if let Some(listener) = self.listener.upgrade() {
            // Whoever waits for a client wakes up, and who connects finds nobody. It fails when that was said before.
            let _ = shutdown(&*listener, Shutdown::Read);
        }
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("said", &self.ending.is_said()).finish()
    }
}

/// Whether a server is to end.
pub(crate) struct Ending {
    said: AtomicBool,
    /// That it is an ending of.
    process: u32,
    /// Held by the one thread that waits for clients: a socket that was shut down tells who waits, and keeps who accepts busy.
    door: Mutex<()>,
}

impl Ending {
    pub(crate) fn new() -> Self {
        Self { said: AtomicBool::new(false), process: process::id(), door: Mutex::default() }
    }

    fn is_ours(&self) -> bool {
        self.process == process::id()
    }

    #[inline]
    pub(crate) fn is_said(&self) -> bool {
        // ORDERING: Acquire, of one process; pairs with the Release in `Stop::stop`.
        self.said.load(Acquire)
    }

    /// Attempts something that waits for a client, for so long at a time as it is told, until that does not time out; and when the server
    /// is to end, once more. Where nobody can say so it waits without end.
    #[inline]
    pub(crate) fn persist<E>(
        ending: Option<&Self>,
        has_timed_out: impl Fn(&E) -> bool,
        mut attempt: impl FnMut(Option<Duration>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let is_last = ending.is_none_or(Self::is_said);
            match attempt(ending.map(|_| LOOK_AFTER)) {
                Err(error) if !is_last && has_timed_out(&error) => {}
                done => return done,
            }
        }
    }

    /// The next client; `None` when the server is to end.
    pub(crate) fn incoming(&self, listener: &Listener) -> Option<Result<Incoming, OpenError>> {
        if !self.is_ours() {
            // It says so.
            return Some(listener.incoming());
        }
        let _alone = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        // It is interrupted at worst.
        while poll(&mut [PollFd::new(listener, PollFlags::IN)], None).is_err() {}
        if !self.is_said() {
            return Some(listener.incoming());
        }
        // Whoever has come meanwhile learns at once that it is not taken in, and not when the listener is gone.
        while accept_with(listener, SocketFlags::CLOEXEC).is_ok() {}
        None
    }
}
