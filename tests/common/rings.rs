//! Rings that a test shares with its children.

use super::{Child, FAR, Line, Name};
use ringpost::{
    Builder, Many, OpenError, Receiver, RecvError, Ring, Sender, SenderKind, Single, Statistics, Trust,
    Trusted, Untrusted,
};
use std::{
    fs::File,
    io::{Read, pipe},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    thread,
    time::Duration,
};

/// How a process gets at a ring.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Name,
    Inherit,
    Pass,
}

/// How a child is told of a ring. The descriptor stays open until the child has it.
pub struct Invitation {
    pub word: String,
    pub inherited: Option<OwnedFd>,
}

/// A ring for the test, and what ends with it.
pub struct Shared {
    pub ring: Ring,
    way: Way,
    _name: Name,
}

impl Shared {
    pub fn new(way: Way, set: impl Fn(Builder) -> Builder) -> Self {
        let name = Name::new();
        let builder = set(ringpost::builder(&*name));
        let ring = if way == Way::Name { builder.create() } else { builder.memfd() };
        Self { ring: ring.unwrap(), way, _name: name }
    }

    pub fn invite(&self) -> Invitation {
        match self.way {
            Way::Name => Invitation { word: format!("name:{}", &*self._name), inherited: None },
            Way::Inherit => {
                let fd = self.ring.inheritable_fd().unwrap();
                Invitation { word: format!("fd:{}", fd.as_raw_fd()), inherited: Some(fd) }
            }
            Way::Pass => Invitation { word: "pass".into(), inherited: None },
        }
    }

    /// Passes the descriptor to a child that was invited so.
    pub fn hand_to(&self, child: &Child) {
        if self.way == Way::Pass {
            child.pass(self.ring.fd().unwrap());
        }
    }
}

/// Opens the ring of an invitation, in the child.
pub fn open(word: &str, line: &Line) -> Ring {
    match word.split_once(':') {
        Some(("name", name)) => ringpost::builder(name).open(),
        // SAFETY: the parent has left this descriptor open for us, and nobody else here knows of it.
        Some(("fd", fd)) => ringpost::unnamed().from_fd(unsafe { OwnedFd::from_raw_fd(fd.parse().unwrap()) }),
        _ => ringpost::unnamed().from_fd(line.take()),
    }
    .unwrap()
}

/// A small ring of each way and kind.
pub fn small_rings() -> impl Iterator<Item = (Shared, &'static str)> {
    [(Way::Name, "one"), (Way::Name, "many"), (Way::Pass, "one"), (Way::Inherit, "many")].into_iter().map(
        |(way, kind)| {
            let set = |builder: Builder| builder.capacity(1 << 16).longest_message(4096);
            let many = |builder: Builder| set(builder).many_senders(16);
            (if kind == "many" { Shared::new(way, many) } else { Shared::new(way, set) }, kind)
        },
    )
}

/// A child with a role at this ring: `words` around the way to the ring.
pub fn child_at(ring: &Shared, before: &str, after: &str) -> Child {
    let invitation = ring.invite();
    let child = Child::start(&format!("{before} {} {after}", invitation.word));
    ring.hand_to(&child);
    child
}

/// A child with a pipe on which it acknowledges.
pub fn acknowledging(ring: &Shared, before: &str, after: &str) -> (Child, File) {
    let child = child_at(ring, before, after);
    let (ours, theirs) = pipe().unwrap();
    child.pass(theirs.as_fd());
    (child, OwnedFd::from(ours).into())
}

/// All numbers that a killed child has acknowledged.
pub fn all_acknowledged(mut acknowledged: File) -> Vec<u64> {
    let mut bytes = Vec::new();
    acknowledged.read_to_end(&mut bytes).unwrap();
    bytes.as_chunks().0.iter().map(|&number| u64::from_ne_bytes(number)).collect()
}

/// Receives a message, which begins with its number and must be all that `payload` gives for that.
pub fn received_number(receiver: &mut Receiver, payload: impl Fn(u64) -> Vec<u8>) -> Result<u64, RecvError> {
    let message = match receiver.recv_timeout(FAR) {
        Err(RecvError::TimedOut) => panic!("only the deadline ended the wait"),
        message => message?,
    };
    let bytes = message.to_vec();
    let number = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == payload(number), "message {number} is not what was sent");
    Ok(number)
}

/// A ring inside this process, and its sender.
pub fn local() -> (Ring<Trusted>, Sender<Trusted>) {
    let ring = ringpost::unnamed().capacity(1 << 16).in_process().unwrap();
    let sender = ring.sender().unwrap();
    (ring, sender)
}

/// Attaching, whichever kind of sender it is.
pub trait Attach: SenderKind + Sized {
    fn attach<P: Trust>(ring: &Ring<P>) -> Result<Sender<P, Self>, OpenError>;
}

impl Attach for Single {
    fn attach<P: Trust>(ring: &Ring<P>) -> Result<Sender<P>, OpenError> {
        ring.sender()
    }
}

impl Attach for Many {
    fn attach<P: Trust>(ring: &Ring<P>) -> Result<Sender<P, Many>, OpenError> {
        ring.multi_sender()
    }
}

/// Attaches as a sender, as soon as the receiver has passed what a dead one has left in its slot.
pub fn attach_when_free<K: Attach>(ring: &Ring) -> Sender<Untrusted, K> {
    loop {
        match K::attach(ring) {
            Err(OpenError::TooManySenders { .. }) => thread::yield_now(),
            other => break other.unwrap(),
        }
    }
}

/// Waits until somebody at the ring has gone to sleep, and a little longer: it has found everybody alive.
pub fn until_it_sleeps(ring: &Ring) {
    let sleeps = |statistics: Statistics| {
        statistics.receiver.sleeps + statistics.senders.iter().map(|sender| sender.sleeps).sum::<u64>()
    };
    while sleeps(ring.statistics()) == 0 {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(10));
}
