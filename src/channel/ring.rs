//! A ring that is mapped into this process.

use super::{
    Receiver, Statistics,
    attach::Attachment,
    link::Peer,
    mailbox::Mailbox,
    publisher::Publisher,
    rendezvous::RendezvousSender,
    sender::{Many, MultiSender, Sender},
    subscriber::Subscriber,
    trust::{Trust, Trusted, Untrusted},
    watcher::Watcher,
};
use crate::{
    error::{OpenError, SendError},
    header::{Header, Kind, mismatch},
    ring::{broadcast::Start, memory::Memory, reserve::Produce},
    sys::{fork::Generation, futex::Scope, peer, process, segment::Segment},
    wait::{Bell, Due, Spin, WaitStrategy, Waker},
};
use std::{
    fmt,
    marker::PhantomData,
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// Where a ring's memory comes from.
pub(super) enum Home {
    /// A file with a name, and the name.
    Named { segment: Segment, path: PathBuf },
    /// A sealed memfd.
    Unnamed(Segment),
    /// Memory of this process, or of a segment that the program has from elsewhere.
    Elsewhere,
}

/// One mapping of a ring, shared by all handles that this process got from it.
pub struct Inner {
    pub(crate) memory: Arc<Memory>,
    pub(crate) header: Header,
    pub(super) home: Home,
    /// Set where the name goes when this mapping goes: the process that made the ring.
    pub(super) owned_by: Option<Generation>,
    pub(super) scope: Scope,
    pub(super) wait: WaitStrategy,
    /// The process at the other end of a link: the only one there ever is.
    pub(super) peer: Option<Arc<Peer>>,
    /// What receipts have learned of polling, which wait once each.
    pub(super) spin_of_receipts: Mutex<Spin>,
}

impl Inner {
    #[inline]
    pub(crate) fn bell_of_receiver(&self) -> Bell<'_> {
        Bell::of_receiver(&self.memory, self.scope)
    }

    /// Wakes the receiver where a sender that has found no room has to.
    pub(super) fn remind(&self, producer: &mut impl Produce) {
        if producer.has_to_remind() {
            self.bell_of_receiver().ring(&mut Waker::new(false), |_| Due::All);
        }
    }

    #[inline]
    pub(crate) fn bell_of_senders(&self) -> Bell<'_> {
        Bell::of_senders(&self.memory, self.scope)
    }

    /// What a sender is told that found no room.
    pub(super) fn no_room(&self, timed_out: bool) -> SendError {
        match (self.header.elastic, timed_out) {
            (true, _) => SendError::AtCeiling { ceiling: self.header.geometry.capacity(), timed_out },
            (false, true) => SendError::TimedOut,
            (false, false) => SendError::Full,
        }
    }

    /// Bytes of the type of every message, when it has one.
    pub(super) fn item_size(&self) -> Option<usize> {
        self.header.item.map(|item| item.size as usize)
    }

    /// What receipts have learned of polling; nothing, where another thread is at it: in a forked child for ever.
    pub(super) fn spin_of_receipts(&self) -> Spin {
        self.spin_of_receipts.try_lock().map_or_else(|_| self.spin(), |spin| *spin)
    }

    /// What one more has learned, unless another thread is at it.
    pub(super) fn keep_spin_of_receipts(&self, spin: Spin) {
        if let Ok(mut kept) = self.spin_of_receipts.try_lock() {
            *kept = spin;
        }
    }

    pub(super) fn spin(&self) -> Spin {
        Self::spin_as(self.wait)
    }

    pub(super) fn spin_as(strategy: WaitStrategy) -> Spin {
        Spin::new(strategy, peer::processors_are_several())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Home::Named { segment, path } = &self.home else { return };
        if self.owned_by.is_some_and(Generation::lasts) {
            // Nobody is left to tell when it fails; `ringpost ls` shows what stays.
            let _ = segment.unlink(path);
        }
    }
}

/// A ring that is mapped into this process. Cheap to clone; the mapping lives until the last handle is dropped.
///
/// Made or opened by a [`Builder`](crate::Builder). Attach to it as [`sender`](Ring::sender),
/// [`multi_sender`](Ring::multi_sender) or [`receiver`](Ring::receiver); or by the methods for the other kinds of ring.
pub struct Ring<P: Trust = Untrusted> {
    inner: Arc<Inner>,
    trust: PhantomData<P>,
}

impl<P: Trust> Clone for Ring<P> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.inner))
    }
}

impl<P: Trust> fmt::Debug for Ring<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("path", &self.path()).field("info", &self.info()).finish()
    }
}

/// What a ring was made with.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RingInfo {
    /// Bytes of the data area. Each message takes 16 bytes more than its length, rounded up to 8.
    pub capacity: u64,
    /// Bytes of the longest message.
    pub longest_message: usize,
    /// Number of sender slots; `None` when the ring is for one sender.
    pub many_senders: Option<u8>,
    /// Number of readers' slots where every reader gets every message; `None` in any other ring.
    pub broadcast: Option<u8>,
    /// What it was made for, when it is a mailbox.
    pub mailbox: Option<MailboxInfo>,
    /// Whether a sender waits until its message was taken.
    pub rendezvous: bool,
    /// Whether its memory grows with the backlog; the capacity is the ceiling then.
    pub elastic: bool,
    /// Whether each message is guarded by a checksum.
    pub checksummed: bool,
    /// Size in bytes of the type of every message, when it has one.
    pub item_size: Option<usize>,
    /// The process that made it.
    pub creator: u32,
    /// When it was made, in nanoseconds since 1970.
    pub created_ns: u64,
    /// Random number that tells it from another ring of the same name.
    pub instance: u64,
    /// Whether waking costs a sender no fence (`membarrier`).
    pub asymmetric_fences: bool,
}

/// What a mailbox was made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MailboxInfo {
    /// Most messages.
    pub messages: u32,
    /// Number of priorities.
    pub priorities: u8,
    /// How many handles may be attached at a time.
    pub seats: u8,
}

impl<P: Trust> Ring<P> {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, trust: PhantomData }
    }

    /// Says that every process that can write to this ring keeps to the protocol. Messages and reservations of what is
    /// attached from now on are byte slices in place.
    ///
    /// # Safety
    /// As long as any message, reservation or batch of the result lives, no process may write to the ring's memory
    /// except through ringpost. With a ring of mode 0600 that means: all processes of this user.
    pub unsafe fn trust_peers(self) -> Ring<Trusted> {
        Ring::new(self.inner)
    }

    /// Attaches as the only sender. Goes on behind the last message when an earlier sender has closed or died.
    ///
    /// # Errors
    /// [`OpenError::SenderAttached`] when another one lives, [`OpenError::Mismatch`] on any other ring than one for one sender.
    pub fn sender(&self) -> Result<Sender<P>, OpenError> {
        self.buffers()?;
        Sender::attach(Arc::clone(&self.inner))
    }

    /// Attaches as one of many senders.
    ///
    /// # Errors
    /// [`OpenError::TooManySenders`] when no slot is free, [`OpenError::Mismatch`] on any other ring than one for many senders.
    pub fn multi_sender(&self) -> Result<MultiSender<P>, OpenError> {
        self.buffers()?;
        Sender::attach(Arc::clone(&self.inner))
    }

    /// Attaches as the only sender of a rendezvous ([`Builder::rendezvous`](crate::Builder::rendezvous)).
    ///
    /// # Errors
    /// [`OpenError::SenderAttached`] when another one lives, [`OpenError::Mismatch`] on any other ring.
    pub fn rendezvous_sender(&self) -> Result<RendezvousSender<P>, OpenError> {
        RendezvousSender::attach(Arc::clone(&self.inner))
    }

    /// Attaches as one of many senders of a rendezvous ([`Builder::rendezvous`](crate::Builder::rendezvous)).
    ///
    /// # Errors
    /// [`OpenError::TooManySenders`] when no slot is free, [`OpenError::Mismatch`] on any other ring.
    pub fn rendezvous_multi_sender(&self) -> Result<RendezvousSender<P, Many>, OpenError> {
        RendezvousSender::attach(Arc::clone(&self.inner))
    }

    fn buffers(&self) -> Result<(), OpenError> {
        match self.inner.header.rendezvous {
            false => Ok(()),
            true => Err(mismatch("how messages are handed over", "in a rendezvous", "through a buffer")),
        }
    }

    /// Attaches as the receiver. Goes on at the first message that an earlier receiver has not released.
    ///
    /// # Errors
    /// [`OpenError::ReceiverAttached`] when another one lives, [`OpenError::Mismatch`] on a broadcast and on a mailbox.
    pub fn receiver(&self) -> Result<Receiver<P>, OpenError> {
        Ok(Receiver::new(Attachment::receiver(Arc::clone(&self.inner))?))
    }

    /// Attaches as the sender to all readers. Goes on behind the last message when an earlier one has closed or died. It needs
    /// no reader.
    ///
    /// # Errors
    /// [`OpenError::SenderAttached`] when another one lives, [`OpenError::Mismatch`] unless the ring was made with
    /// [`broadcast`](crate::Builder::broadcast).
    pub fn publisher(&self) -> Result<Publisher<P>, OpenError> {
        Sender::attach(Arc::clone(&self.inner))
    }

    /// Attaches as a reader for which the sender waits, from the next message on.
    ///
    /// # Errors
    /// [`OpenError::TooManyReaders`] when no slot is free, [`OpenError::Mismatch`] unless the ring was made with
    /// [`broadcast`](crate::Builder::broadcast).
    pub fn subscriber(&self) -> Result<Subscriber<P>, OpenError> {
        self.subscriber_from(Start::Now)
    }

    /// Attaches as a reader for which the sender waits, from `start` on.
    ///
    /// # Errors
    /// As for [`subscriber`](Ring::subscriber).
    pub fn subscriber_from(&self, start: Start) -> Result<Subscriber<P>, OpenError> {
        Subscriber::attach(Arc::clone(&self.inner), start)
    }

    /// A reader from `start` on for which nobody waits, and which takes no slot. See [`Builder::watch`](crate::Builder::watch)
    /// for one that needs no permission to write.
    ///
    /// # Errors
    /// [`OpenError::Mismatch`] unless the ring was made with [`broadcast`](crate::Builder::broadcast).
    pub fn watcher(&self, start: Start) -> Result<Watcher, OpenError> {
        Watcher::new(Arc::clone(&self.inner), start, true)
    }

    /// Takes a seat at a mailbox.
    ///
    /// # Errors
    /// [`OpenError::TooManySeats`] when no seat is free, [`OpenError::Mismatch`] unless the ring was made with
    /// [`mailbox`](crate::Builder::mailbox).
    pub fn mailbox(&self) -> Result<Mailbox<P>, OpenError> {
        Mailbox::attach(Arc::clone(&self.inner))
    }

    /// What the ring was made with.
    pub fn info(&self) -> RingInfo {
        let header = &self.inner.header;
        RingInfo {
            capacity: header.geometry.capacity(),
            longest_message: header.longest as usize,
            many_senders: match header.kind {
                Kind::Many(slots) => Some(slots),
                _ => None,
            },
            broadcast: match header.kind {
                Kind::Broadcast(slots) => Some(slots),
                _ => None,
            },
            mailbox: match header.kind {
                Kind::Mailbox { seats, levels, cells } => {
                    Some(MailboxInfo { messages: cells, priorities: levels, seats })
                }
                _ => None,
            },
            rendezvous: header.rendezvous,
            elastic: header.elastic,
            checksummed: header.checksummed,
            item_size: self.inner.item_size(),
            creator: header.creator,
            created_ns: header.created_ns,
            instance: header.instance,
            asymmetric_fences: header.asymmetric,
        }
    }

    /// What the ring has done so far. Reads other processes' words; disturbs nobody.
    pub fn statistics(&self) -> Statistics {
        Statistics::read(&self.inner.memory, &self.inner.header)
    }

    /// Path of a named ring.
    pub fn path(&self) -> Option<&Path> {
        match &self.inner.home {
            Home::Named { path, .. } => Some(path),
            Home::Unnamed(_) | Home::Elsewhere => None,
        }
    }

    /// Whether the name still stands for this ring: nobody has unlinked it, or made another one there. Always true of
    /// a ring without a name.
    pub fn is_current(&self) -> bool {
        match &self.inner.home {
            Home::Named { segment, path } => segment.is_at(path),
            Home::Unnamed(_) | Home::Elsewhere => true,
        }
    }

    /// Takes the name away. Whoever has the ring open goes on using it; a ring that was made anew under the same name is
    /// left alone.
    ///
    /// # Errors
    /// [`OpenError::Segment`] when the name is gone, is another ring's by now, or may not be removed.
    pub fn unlink(&self) -> Result<(), OpenError> {
        match &self.inner.home {
            Home::Named { segment, path } => Ok(segment.unlink(path)?),
            Home::Unnamed(_) | Home::Elsewhere => {
                Err(OpenError::Name { name: String::new(), why: "this ring has no name" })
            }
        }
    }

    /// The descriptor of a named ring or of a memfd, to be passed to another process.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.inner.home {
            Home::Named { segment, .. } | Home::Unnamed(segment) => Some(segment.fd()),
            Home::Elsewhere => None,
        }
    }

    /// A copy of the descriptor that a child process inherits (without close-on-exec).
    ///
    /// # Errors
    /// [`OpenError::Segment`] when no descriptor is left, [`OpenError::Unsupported`] when the ring has none.
    pub fn inheritable_fd(&self) -> Result<OwnedFd, OpenError> {
        let fd = self.fd().ok_or(OpenError::Unsupported { what: "to pass a ring without a descriptor" })?;
        Ok(process::inheritable(fd)?)
    }
}
