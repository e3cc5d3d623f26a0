//! The receiving end.

use super::{
    attach::Attachment,
    message::{Message, Messages, OwnedMessage, View},
    ring::Inner,
    trust::{Trust, Untrusted},
};
use crate::{
    error::RecvError,
    header::Kind,
    ring::{
        claim::{self, Claim},
        memory::Memory,
        position::Position,
        receive::{Consumer, Record, Violation},
        recovery::{self, Pending},
    },
    sync::Ordering::*,
    sys::{clock::Deadline, fork::Generation, futex::Scope},
    wait::{Bell, Look, Sleeper, Spin, WaitStrategy, Waker},
};
use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

/// The receiving end of a ring. Dropping it closes it: senders then get [`SendError::Disconnected`](crate::SendError).
///
/// Messages come in the order in which they were reserved, each once; a message that a receiver had not released when it
/// died comes again to its successor, with the same sequence number.
pub struct Receiver<P: Trust = Untrusted> {
    ring: Listening,
    attachment: Attachment,
    spin: Spin,
    /// One thread at a time; and the trust.
    marker: PhantomData<(Cell<()>, P)>,
}

/// The receiver without its way of waiting.
struct Listening {
    consumer: Consumer,
    waker: Waker,
    scope: Scope,
    generation: Generation,
    /// Messages received when the last wait began.
    received: u64,
    /// The end was reported, and no sender has attached since.
    ended: bool,
}

/// Messages between two waits from which on they count as a stream.
const STREAM: u64 = 64;

/// How long a call may wait for a message.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Option<Deadline>),
}

impl<P: Trust> Receiver<P> {
    pub(super) fn new(attachment: Attachment) -> Self {
        let inner = &attachment.inner;
        let (consumer, spin) = (Consumer::attach(Arc::clone(&inner.memory)), inner.spin());
        let (waker, scope) = (Waker::new(inner.header.asymmetric), inner.scope);
        let generation = Generation::current();
        let ring = Listening { consumer, waker, scope, generation, received: 0, ended: false };
        Self { ring, attachment, spin, marker: PhantomData }
    }

    /// The next message; waits while the ring is empty.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] when all senders have closed and all their messages were received;
    /// [`RecvError::PeerDied`] when the last one died instead; [`RecvError::Corrupt`].
    #[inline]
    pub fn recv(&mut self) -> Result<Message<'_, P>, RecvError> {
        self.recv_within(Patience::Until(None))
    }

    /// The next message if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`RecvError::Empty`], and those of [`recv`](Receiver::recv).
    #[inline]
    pub fn try_recv(&mut self) -> Result<Message<'_, P>, RecvError> {
        self.recv_within(Patience::None)
    }

    /// The next message; waits at most `timeout` while the ring is empty.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](Receiver::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message<'_, P>, RecvError> {
        self.recv_within(Patience::Until(Some(Deadline::after(timeout))))
    }

    /// The next message; waits until `deadline` at most while the ring is empty.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](Receiver::recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Message<'_, P>, RecvError> {
        self.recv_within(Patience::Until(Some(Deadline::at(deadline))))
    }

    #[inline]
    fn recv_within(&mut self, patience: Patience) -> Result<Message<'_, P>, RecvError> {
        let record = self.next(patience)?;
        Ok(Message::new(self, record))
    }

    /// All messages that are there, at most `most` (and at least one: waits while the ring is empty). They are released
    /// together.
    ///
    /// # Errors
    /// As for [`recv`](Receiver::recv).
    pub fn recv_many(&mut self, most: usize) -> Result<Messages<'_, P>, RecvError> {
        let first = self.next(Patience::Until(None))?;
        Ok(Messages::gather(self, first, most))
    }

    /// All messages that are there now, at most `most`. Never blocks.
    ///
    /// # Errors
    /// [`RecvError::Empty`], and those of [`recv`](Receiver::recv).
    pub fn try_recv_many(&mut self, most: usize) -> Result<Messages<'_, P>, RecvError> {
        let first = self.next(Patience::None)?;
        Ok(Messages::gather(self, first, most))
    }

    /// Copies the next message into `buffer` and releases it; waits while the ring is empty. Gives its length.
    ///
    /// # Errors
    /// [`RecvError::BufferTooSmall`], with the message left where it is; and those of [`recv`](Receiver::recv).
    #[inline]
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let record = self.next(Patience::Until(None))?;
        let length = record.length() as usize;
        let Some(target) = buffer.get_mut(..length) else { return Err(RecvError::BufferTooSmall { length }) };
        View::new(self.memory(), record).read_at(0, target);
        self.release(record.end, 1, record.length() as u64);
        Ok(length)
    }

    /// Copies of the messages until the end; blocks while the ring is empty. Ends when `recv` would give an error:
    /// [`Receiver::recv`] tells which.
    pub fn iter(&mut self) -> Iter<'_, P> {
        Iter { receiver: self }
    }

    /// Copies of the messages that are there now. Never blocks.
    pub fn try_iter(&mut self) -> TryIter<'_, P> {
        TryIter { receiver: self }
    }

    /// After [`RecvError::Disconnected`]: waits for another sender from now on, instead of giving that error until one
    /// has come.
    pub fn reopen(&mut self) {
        self.ring.ended = false;
    }

    /// How this handle waits from now on, instead of what its ring was built with.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.spin = Inner::spin_as(strategy);
    }

    /// Whether there is no message now. True in a forked child, which can't receive.
    pub fn is_empty(&mut self) -> bool {
        !self.ring.generation.lasts() || !matches!(self.ring.consumer.look(), Ok(Some(_)))
    }

    /// Bytes of the longest message.
    pub fn longest_message(&self) -> usize {
        self.inner().header.longest as usize
    }

    /// Bytes of the ring's data area.
    pub fn capacity(&self) -> u64 {
        self.inner().header.geometry.capacity()
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.attachment.inner
    }

    #[inline]
    pub(super) fn memory(&self) -> &Memory {
        self.ring.consumer.memory()
    }

    fn owned(&mut self, patience: Patience) -> Result<OwnedMessage, RecvError> {
        let record = self.next(patience)?;
        let message = View::new(self.memory(), record).to_owned();
        self.release(record.end, 1, record.length() as u64);
        Ok(message)
    }

    #[inline]
    fn next(&mut self, patience: Patience) -> Result<Record, RecvError> {
        if !self.ring.generation.lasts() {
            return Err(RecvError::Forked);
        }
        match self.ring.consumer.look() {
            Ok(Some(record)) => Ok(record),
            Ok(None) => self.wait_for_message(patience),
            Err(violation) => Err(corrupt(violation)),
        }
    }

    #[cold]
    fn wait_for_message(&mut self, patience: Patience) -> Result<Record, RecvError> {
        let Self { ring, attachment, spin, .. } = self;
        let Attachment { inner, vigil, .. } = &*attachment;
        let counts = &inner.memory.receiver().counts;
        counts.refused.add(1);
        match patience {
            Patience::None => ring.look(attachment, Look::BeforeSleep).unwrap_or(Err(RecvError::Empty)),
            Patience::Until(deadline) => {
                let received = counts.messages.get();
                if received.wrapping_sub(ring.received) >= STREAM {
                    spin.step_back();
                }
                ring.received = received;
                let sleeper = Sleeper {
                    bell: inner.bell_of_receiver(),
                    news: &vigil.deaths.news,
                    counts,
                    eager_after: None,
                    slice: vigil.slice(),
                };
                sleeper
                    .until(spin, deadline, |why| ring.look(attachment, why))
                    .unwrap_or(Err(RecvError::TimedOut))
            }
        }
    }

    #[inline]
    pub(super) fn release(&mut self, end: Position, messages: u64, bytes: u64) {
        if !self.ring.generation.lasts() {
            // A forked child drops what its parent holds.
            return;
        }
        self.ring.consumer.release(end);
        let counts = &self.ring.consumer.memory().receiver().counts;
        counts.messages.add(messages);
        counts.bytes.add(bytes);
        self.ring.offer_room(false);
    }
}

impl Listening {
    /// A message, the end, or nothing yet.
    fn look(&mut self, attachment: &Attachment, why: Look) -> Option<Result<Record, RecvError>> {
        match self.consumer.look() {
            Ok(Some(record)) => return Some(Ok(record)),
            Err(violation) => return Some(Err(corrupt(violation))),
            Ok(None) if why == Look::Spinning => {
                self.consumer.memory().prefetch_next_to_read(self.consumer.head());
                return None;
            }
            Ok(None) => {}
        }
        // Everything is released that can be: whoever waits for room need not wait for more.
        self.offer_room(true);
        let suspicious = why == Look::Idle || attachment.vigil.deaths.any();
        let died = if suspicious { self.look_for_the_dead(attachment) } else { None };
        let ended = if died.is_none() { self.has_ended() } else { None };
        // What the dead left unfinished is passed over, and what all who are gone have committed is visible now.
        match self.consumer.look() {
            Ok(Some(record)) => Some(Ok(record)),
            Err(violation) => Some(Err(corrupt(violation))),
            Ok(None) => match (died, ended) {
                (Some(pid), _) => Some(Err(RecvError::PeerDied { pid })),
                (None, Some(closings)) => Some(Err(self.report_end(closings))),
                (None, None) => None,
            },
        }
    }

    /// Wakes senders that wait for room: when half of the ring is free, when one of them asked for any, or when the ring
    /// is `empty`.
    #[inline]
    fn offer_room(&mut self, empty: bool) {
        let memory = self.consumer.memory();
        let woken = Bell::of_senders(memory, self.scope).ring(&mut self.waker, |eager| {
            // ORDERING: Relaxed; only compared, and ordered after the sleeper's announcement by F2.
            let tail = Position::split(memory.senders().tail.load(Relaxed)).0;
            let used = tail.since(self.consumer.head());
            eager || empty || used <= memory.geometry().capacity_units() / 2
        });
        if woken {
            memory.receiver().counts.wakes.add(1);
        }
    }

    /// The number of closings, when some sender has closed since the last report, or no other has come since, and none is
    /// attached.
    fn has_ended(&mut self) -> Option<u32> {
        let memory = self.consumer.memory();
        // First the closings, then the claims, then (by the caller) the ring once more.
        // ORDERING: Acquire E2; pairs with Release E1 in `Attachment::drop`: the claims are read after it.
        let closings = memory.senders().closings.load(Acquire);
        // ORDERING: Relaxed; written by receivers only, and this is the one.
        if !self.ended && closings == memory.receiver().closings_seen.load(Relaxed) {
            return None;
        }
        let attached =
            memory.all_slots().any(|(_, slot)| matches!(claim::read(&slot.claim), Claim::Attached(_)));
        if attached {
            self.ended = false;
        }
        (!attached).then_some(closings)
    }

    fn report_end(&mut self, closings: u32) -> RecvError {
        // ORDERING: Relaxed; read by later receivers, whose claim comes after ours.
        self.consumer.memory().receiver().closings_seen.store(closings, Relaxed);
        self.ended = true;
        RecvError::Disconnected
    }

    /// Passes over what dead senders have left unfinished. The process that died last, if no sender lives and no message
    /// is left.
    fn look_for_the_dead(&mut self, attachment: &Attachment) -> Option<u32> {
        let Attachment { inner, vigil, .. } = attachment;
        let memory = &inner.memory;
        if let Kind::Many(_) = inner.header.kind {
            // Each slot owns one reservation at most: what goes on longer is a hostile sender's doing.
            for _ in 0..memory.slots() {
                let found = recovery::resolve(&mut self.consumer, |owner| vigil.is_dead(owner));
                if !matches!(found, Pending::PassedOver { .. }) {
                    break;
                }
            }
        }
        vigil.bury(memory.all_slots().map(|(_, slot)| &slot.claim));
        let mut last = None;
        for (_, slot) in memory.all_slots() {
            if let Claim::Attached(owner) = claim::read(&slot.claim) {
                last = Some(owner.pid()).filter(|_| vigil.is_dead(owner));
                last?;
            }
        }
        last
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.generation.lasts() {
            Bell::of_senders(self.consumer.memory(), self.scope).cover(&mut self.waker);
        }
    }
}

fn corrupt(Violation { position, length }: Violation) -> RecvError {
    RecvError::Corrupt { sequence: position.units(), length }
}

impl<P: Trust> fmt::Debug for Receiver<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("next", &self.ring.consumer.head().units()).finish()
    }
}

/// Copies of the messages until the end. From [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, P: Trust = Untrusted> {
    receiver: &'a mut Receiver<P>,
}

impl<P: Trust> Iterator for Iter<'_, P> {
    type Item = OwnedMessage;

    fn next(&mut self) -> Option<OwnedMessage> {
        self.receiver.owned(Patience::Until(None)).ok()
    }
}

/// Copies of the messages that are there. From [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, P: Trust = Untrusted> {
    receiver: &'a mut Receiver<P>,
}

impl<P: Trust> Iterator for TryIter<'_, P> {
    type Item = OwnedMessage;

    fn next(&mut self) -> Option<OwnedMessage> {
        self.receiver.owned(Patience::None).ok()
    }
}

/// Copies of the messages until the end. From [`Receiver::into_iter`].
#[derive(Debug)]
pub struct IntoIter<P: Trust = Untrusted> {
    receiver: Receiver<P>,
}

impl<P: Trust> Iterator for IntoIter<P> {
    type Item = OwnedMessage;

    fn next(&mut self) -> Option<OwnedMessage> {
        self.receiver.owned(Patience::Until(None)).ok()
    }
}

impl<P: Trust> IntoIterator for Receiver<P> {
    type Item = OwnedMessage;
    type IntoIter = IntoIter<P>;

    fn into_iter(self) -> IntoIter<P> {
        IntoIter { receiver: self }
    }
}

impl<'a, P: Trust> IntoIterator for &'a mut Receiver<P> {
    type Item = OwnedMessage;
    type IntoIter = Iter<'a, P>;

    fn into_iter(self) -> Iter<'a, P> {
        self.iter()
    }
}
