//! What a method can know of the call that it answers.

use crate::clock::Deadline;
use ringpost::{Duplex, PeerCredentials};
use std::{
    cell::{Cell, RefCell},
    fmt,
    time::Duration,
};

/// A client, across its links: it keeps this when it binds to a restarted server. 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session(pub(crate) [u8; 16]);

impl Session {
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            // It is interrupted at worst.
            filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .unwrap_or(0);
        }
        Self(bytes)
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({self})")
    }
}

/// One call, as the method that answers it sees it. A method gets it as its first argument when the interface says so
/// (`context: &Context`).
pub struct Context<'a> {
    pub(crate) link: RefCell<&'a mut Duplex>,
    pub(crate) deadline: Deadline,
    pub(crate) session: Session,
    pub(crate) number: u64,
    /// A death is told once: so this goes on from call to call.
    gone: &'a Cell<bool>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        link: &'a mut Duplex,
        gone: &'a Cell<bool>,
        deadline: Deadline,
        session: Session,
        number: u64,
    ) -> Self {
        Self { link: RefCell::new(link), deadline, session, number, gone }
    }

    /// Whether nobody waits for the answer any more: the client has died or closed, or the deadline has passed. Never blocks;
    /// a method that works for long asks now and then, and gives up.
    pub fn is_cancelled(&self) -> bool {
        self.deadline.passed() || self.client_is_gone()
    }

    /// Whether the client has died or closed. Never blocks.
    pub fn client_is_gone(&self) -> bool {
        if !self.gone.get() {
            let mut link = self.link.borrow_mut();
            self.gone.set(link.sender.is_disconnected() || link.receiver.next_death().is_some());
        }
        self.gone.get()
    }

    /// How long the client still waits; `None` when it has set no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.remaining()
    }

    /// The client's session.
    pub fn session(&self) -> Session {
        self.session
    }

    /// The number of this call in its session: it grows, and a call that is sent again keeps it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The client's process, as the kernel knows it.
    pub fn peer(&self) -> PeerCredentials {
        self.link.borrow().peer()
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("session", &self.session).field("number", &self.number).finish()
    }
}
