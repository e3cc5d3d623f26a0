//! A reader of a broadcast for which the sender waits.

use super::{
    attach::{Attachment, Before},
    message::{Delivery, OwnedMessage, View},
    patience::Patience,
    receiver::corrupt,
    ring::Inner,
    select::Berth,
    trust::{Trust, Untrusted},
};
use crate::{
    error::{OpenError, RecvError},
    ring::{
        broadcast::{Reader, Start},
        claim::{self, Claim},
        memory::Memory,
        position::{Position, UNIT},
        receive::{Record, Violation},
    },
    sys::{fork::Generation, futex::Scope},
    wait::{Bell, Due, Look, Spin, WaitStrategy, Waker},
};
use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

/// A reader that gets every message from when it came, in order, each once. The sender writes over none that it has not
/// released. Dropping it gives its slot back, and with it what it had not read.
pub struct Subscriber<P: Trust = Untrusted> {
    ring: Subscribed,
    attachment: Attachment,
    spin: Spin,
    /// One thread at a time; and the trust.
    marker: PhantomData<(Cell<()>, P)>,
}

/// The reader without its way of waiting.
struct Subscribed {
    reader: Reader,
    /// An end that is of no interest, as the sender's place says it.
    before: Before,
    waker: Waker,
    scope: Scope,
    generation: Generation,
    slot: u8,
}

impl<P: Trust> Subscriber<P> {
    pub(super) fn attach(inner: Arc<Inner>, start: Start) -> Result<Self, OpenError> {
        let before = end_of_no_interest(&inner.memory, start);
        let (attachment, reader) = Attachment::reader(inner, start)?;
        let inner = &attachment.inner;
        let (waker, scope, spin) = (Waker::new(inner.header.asymmetric), inner.scope, inner.spin());
        let (generation, slot) = (Generation::current(), attachment.slot());
        let ring = Subscribed { reader, before, waker, scope, generation, slot };
        Ok(Self { ring, attachment, spin, marker: PhantomData })
    }

    /// The next message; waits while there is none.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] when the sender has closed and all its messages were received;
    /// [`RecvError::PeerDied`] when it died instead, until another one has come; [`RecvError::Corrupt`], [`RecvError::Forked`].
    #[inline]
    pub fn recv(&mut self) -> Result<Delivery<'_, P>, RecvError> {
        self.recv_within(Patience::Endless)
    }

    /// The next message if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`RecvError::Empty`], and those of [`recv`](Subscriber::recv).
    #[inline]
    pub fn try_recv(&mut self) -> Result<Delivery<'_, P>, RecvError> {
        self.recv_within(Patience::None)
    }

    /// The next message; waits at most `timeout` while there is none.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](Subscriber::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Delivery<'_, P>, RecvError> {
        self.recv_within(Patience::For(timeout))
    }

    /// The next message; waits until `deadline` at most while there is none.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](Subscriber::recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Delivery<'_, P>, RecvError> {
        self.recv_within(Patience::Until(deadline))
    }

    #[inline]
    fn recv_within(&mut self, patience: Patience) -> Result<Delivery<'_, P>, RecvError> {
        let record = self.next(patience)?;
        Ok(Delivery::new(self, record))
    }

    /// Copies of the messages until the end; blocks while there is none. Ends when `recv` would give an error:
    /// [`Subscriber::recv`] tells which.
    pub fn iter(&mut self) -> SubscriberIter<'_, P> {
        SubscriberIter { subscriber: self }
    }

    /// Bytes of the ring, headers included, that were sent and that this reader has not released.
    pub fn lag(&self) -> u64 {
        self.ring.reader.behind() * UNIT
    }

    /// After [`RecvError::Disconnected`] or [`RecvError::PeerDied`]: waits for another sender from now on, instead of giving that
    /// error until one has come. What that one sends is received from its first message on.
    pub fn reopen(&mut self) {
        let Self { ring, attachment, .. } = self;
        if !ring.generation.lasts() {
            // What is known of deaths may be locked there for ever.
            return;
        }
        if let Some(end) = present_end(ring.reader.memory(), |owner| attachment.vigil.is_dead(owner)) {
            ring.before = end;
        }
    }

    /// How this handle waits from now on, instead of what its ring was built with.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.spin = Inner::spin_as(strategy);
    }

    /// Number of its slot, from 1.
    pub fn slot(&self) -> u8 {
        self.ring.slot
    }

    /// Whether there is something now: the next call of [`try_recv`](Subscriber::try_recv) gives it.
    pub(super) fn is_ready(&mut self, why: Look) -> bool {
        self.ring.look(&self.attachment, why).is_some()
    }

    /// What it sleeps by.
    pub(super) fn berth(&self) -> Berth {
        Berth::of(&self.attachment, self.ring.generation)
    }

    #[inline]
    pub(super) fn view(&self, record: Record) -> View<'_> {
        View::of(self.ring.reader.memory(), &self.attachment.inner, record)
    }

    #[inline]
    pub(super) fn next(&mut self, patience: Patience) -> Result<Record, RecvError> {
        if !self.ring.generation.lasts() {
            return Err(RecvError::Forked);
        }
        match self.ring.first() {
            Ok(Some(record)) => Ok(record),
            Ok(None) => self.wait_for_message(patience),
            Err(violation) => Err(corrupt(violation)),
        }
    }

    #[cold]
    fn wait_for_message(&mut self, patience: Patience) -> Result<Record, RecvError> {
        let Self { ring, attachment, spin, .. } = self;
        let attachment = &*attachment;
        let Attachment { inner, vigil, .. } = attachment;
        let Some(slot) = inner.memory.slot(ring.slot) else { return Err(RecvError::Empty) };
        slot.counts.refused.add(1);
        let mut look = |why| ring.look(attachment, why);
        let found = if patience.waits() {
            let deadline = patience.deadline();
            let sleeper = vigil.sleeper(inner.bell_of_senders(), &slot.counts);
            spin.step_back_from_stream(slot.counts.messages.get());
            sleeper.until(spin, deadline, look).unwrap_or(Err(RecvError::TimedOut))
        } else {
            look(Look::BeforeSleep).unwrap_or(Err(RecvError::Empty))
        };
        vigil.bury(std::iter::once(&inner.memory.receiver().claim));
        found
    }

    #[inline]
    pub(super) fn release(&mut self, record: Record) {
        let ring = &mut self.ring;
        if !ring.generation.lasts() {
            // A forked child drops what its parent holds.
            return;
        }
        ring.reader.release(record.end);
        if let Some(slot) = ring.reader.memory().slot(ring.slot) {
            slot.counts.messages.add(1);
            slot.counts.bytes.add(record.length().into());
        }
        if !Bell::of_receiver(ring.reader.memory(), ring.scope).may_be_left(&ring.waker) {
            ring.offer_room(false);
        }
    }
}

impl Subscribed {
    /// The first message. The room of what it passes over on its way there is offered at once: the message may be held for long.
    #[inline]
    fn first(&mut self) -> Result<Option<Record>, Violation> {
        let before = self.reader.position();
        let found = self.reader.look();
        if self.reader.position() != before {
            self.offer_room(matches!(found, Ok(None)));
        }
        found
    }

    /// A message, the end, or nothing yet.
    fn look(&mut self, attachment: &Attachment, why: Look) -> Option<Result<Record, RecvError>> {
        match self.first() {
            Ok(Some(record)) => return Some(Ok(record)),
            Err(violation) => return Some(Err(corrupt(violation))),
            Ok(None) if why == Look::Spinning => return None,
            Ok(None) => {}
        }
        self.offer_room(true);
        let ended = end(self.reader.memory(), self.before, |owner| attachment.vigil.is_dead(owner));
        // What a sender that is gone has committed is visible now.
        match self.first() {
            Ok(Some(record)) => Some(Ok(record)),
            Err(violation) => Some(Err(corrupt(violation))),
            Ok(None) => ended.map(Err),
        }
    }

    /// Wakes the sender if it waits for room: when half of the ring is free, when it asked for any, or when this reader has
    /// read all.
    #[cold]
    fn offer_room(&mut self, empty: bool) {
        let (reader, memory) = (&self.reader, self.reader.memory());
        let woken = Bell::of_receiver(memory, self.scope).ring(&mut self.waker, |eager| {
            let due = eager || empty || reader.half_is_free();
            if due { Due::All } else { Due::Nobody }
        });
        if let Some(slot) = memory.slot(self.slot).filter(|_| woken) {
            slot.counts.wakes.add(1);
        }
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        if self.generation.lasts() {
            Bell::of_receiver(self.reader.memory(), self.scope).cover(&mut self.waker);
        }
    }
}

/// The sender's place as it must not stand any more to be an end: who begins at the next message is not told that a former
/// sender has closed.
pub(super) fn end_of_no_interest(memory: &Memory, start: Start) -> Before {
    match start {
        Start::Now => present_end(memory, |_| false).unwrap_or(Before::NOBODY),
        _ => Before::NOBODY,
    }
}

/// The sender's place, if the sender has closed or is dead.
pub(super) fn present_end(memory: &Memory, is_dead: impl Fn(claim::Owner) -> bool) -> Option<Before> {
    let now = Before::now(memory.receiver());
    let has_ended = match now.claim() {
        Claim::Attached(owner) => is_dead(owner),
        Claim::Closed(_) => true,
        Claim::Never => false,
    };
    has_ended.then_some(now)
}

/// Why no message will come, unless another sender does; nothing when it is the end that was there `before`.
pub(super) fn end(
    memory: &Memory,
    before: Before,
    is_dead: impl Fn(claim::Owner) -> bool,
) -> Option<RecvError> {
    let end = present_end(memory, is_dead).filter(|&end| !before.is_the_same_as(end))?;
    Some(match end.claim() {
        Claim::Attached(owner) => RecvError::PeerDied { pid: owner.pid(), unfinished: 0 },
        Claim::Closed(_) | Claim::Never => RecvError::Disconnected,
    })
}

/// Copies of the messages until the end. From [`Subscriber::iter`].
#[derive(Debug)]
pub struct SubscriberIter<'a, P: Trust = Untrusted> {
    subscriber: &'a mut Subscriber<P>,
}

impl<P: Trust> Iterator for SubscriberIter<'_, P> {
    type Item = OwnedMessage;

    fn next(&mut self) -> Option<OwnedMessage> {
        let record = self.subscriber.next(Patience::Endless).ok()?;
        let message = self.subscriber.view(record).to_owned();
        self.subscriber.release(record);
        Some(message)
    }
}

impl<P: Trust> fmt::Debug for Subscriber<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = Position::units(self.ring.reader.position());
        f.debug_struct("Subscriber").field("slot", &self.ring.slot).field("next", &next).finish()
    }
}
