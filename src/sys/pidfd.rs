//! A process to which this one is connected, by its pidfd: proof of its death that needs no process id.
//!
//! It holds in every PID and time namespace, whatever the process writes, and whoever else has inherited what it had.

use core::sync::atomic::{AtomicU32, Ordering::*};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::process::{Pid, getpid};

use super::futex::{self, Scope};
use super::peer::{self, Identity};

/// A process that was at the other end of a socket when it was connected.
#[derive(Debug)]
pub(crate) struct Peer {
    pidfd: OwnedFd,
    pid: Option<Pid>,
}

impl Peer {
    /// `pid` as this PID namespace names it; `None` where it does not.
    pub(super) fn new(pidfd: OwnedFd, pid: Option<Pid>) -> Self {
        Self { pidfd, pid }
    }

    /// As this namespace sees it: zeros where it does not.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            pid: self.pid.map_or(0, |pid| pid.as_raw_nonzero().get() as u32),
            start_ticks: self.pid.and_then(peer::start_ticks).unwrap_or(0),
        }
    }

    /// Whether no thread of it will ever run its program again, by proof.
    ///
    /// Its id may be another process's by now when all of *that* one's threads are exiting; but then it has ended, too.
    pub(crate) fn is_dead(&self) -> bool {
        peer::is_over(self.pidfd.as_fd()) || self.pid.is_some_and(peer::is_exiting)
    }
}

/// A thread that sleeps until a peer has ended. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Knell {
    struck: Arc<AtomicU32>,
    quit: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    process: Pid,
}

impl Knell {
    /// `None` when the thread, or a descriptor to end it by, is refused: then nobody is told.
    pub(crate) fn of(peer: &Arc<Peer>) -> Option<Self> {
        let quit = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).ok()?);
        let struck = Arc::new(AtomicU32::new(0));
        let (strike, peer, end) = (Arc::clone(&struck), Arc::clone(peer), Arc::clone(&quit));
        let watch = move || await_end(&peer, &end, &strike);
        let builder = thread::Builder::new().name("ringpost-knell".into()).stack_size(128 << 10);
        let thread = Some(builder.spawn(watch).ok()?);
        Some(Self { struck, quit, thread, process: getpid() })
    }

    /// A futex word that is 1 as soon as the peer has ended.
    pub(crate) fn struck(&self) -> &Arc<AtomicU32> {
        &self.struck
    }
}

fn await_end(peer: &Peer, quit: &OwnedFd, struck: &AtomicU32) {
    // The signals of the process are for its own threads.
    let _ = nix::sys::signal::SigSet::all().thread_block();
    loop {
        let mut events = [PollFd::new(quit, PollFlags::IN), PollFd::new(&peer.pidfd, PollFlags::IN)];
        if poll(&mut events, None).is_err() {
            // No memory for the moment, say.
            thread::sleep(super::watch::Bed::BLIND);
            continue;
        }
        if events[0].revents().is_empty() {
            // ORDERING: Release, of one process; pairs with the Acquire of whoever is woken.
            struck.store(1, Release);
            futex::wake_all(struck, Scope::Shared);
        }
        return;
    }
}

impl Drop for Knell {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if getpid() != self.process {
            // A forked child has the handle, but not the thread; and the descriptor is the parent's, too.
            core::mem::forget(thread);
            return;
        }
        // A counter that takes its first number never blocks.
        let _ = rustix::io::write(&self.quit, &1_u64.to_ne_bytes());
        let _ = thread.join();
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use rustix::process::{PidfdFlags, pidfd_open};
    use std::process::Command;

    fn sleeper() -> (std::process::Child, Arc<Peer>) {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let peer = Peer::new(pidfd_open(pid, PidfdFlags::empty()).unwrap(), Some(pid));
        (child, Arc::new(peer))
    }

    #[test]
    fn the_knell_strikes_when_the_peer_has_ended_and_not_before() {
        let (mut child, peer) = sleeper();
        let knell = Knell::of(&peer).unwrap();
        assert!(!peer.is_dead());
        assert_eq!(knell.struck().load(Acquire), 0);
        child.kill().unwrap();
        while knell.struck().load(Acquire) == 0 {
            futex::wait(knell.struck(), 0, None, Scope::Shared);
        }
        assert!(peer.is_dead(), "nobody has waited for it yet");
        child.wait().unwrap();
        assert!(peer.is_dead(), "its id is free");
    }

    #[test]
    fn a_peer_without_a_process_id_is_proven_dead_as_well() {
        let (mut child, peer) = sleeper();
        let unseen = Peer::new(peer.pidfd.try_clone().unwrap(), None);
        assert_eq!(unseen.identity(), Identity { pid: 0, start_ticks: 0 });
        assert!(!unseen.is_dead());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(unseen.is_dead());
    }

    #[test]
    fn a_dropped_knell_ends_its_thread_while_the_peer_lives() {
        let (mut child, peer) = sleeper();
        drop(Knell::of(&peer).unwrap());
        assert_eq!(Arc::strong_count(&peer), 1, "the thread is gone, and what it held");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
