//! The receiving end.

mod fallen;
mod listening;
mod news;

pub use news::{Death, Stall};

use super::{
    attach::Attachment,
    checksum,
    iter::{Iter, TryIter},
    message::{Message, Messages, OwnedMessage, View},
    patience::Patience,
    ring::Inner,
    select::{Berth, Sight},
    trust::{Trust, Untrusted},
};
use crate::{
    error::RecvError,
    ring::{
        memory::Memory,
        position::Position,
        receive::{Consumer, Record, Violation},
        record::Info,
    },
    wait::{Look, Spin, WaitStrategy},
};
use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use listening::Listening;

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

impl<P: Trust> Receiver<P> {
    pub(super) fn new(attachment: Attachment) -> Self {
        let (ring, spin) = (Listening::new(&attachment.inner), attachment.inner.spin());
        Self { ring, attachment, spin, marker: PhantomData }
    }

    /// The next message; waits while the ring is empty.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] when all senders have closed and all their messages were received;
    /// [`RecvError::PeerDied`] when the last one died instead; [`RecvError::Corrupt`], [`RecvError::Forked`]; in a ring
    /// [with checksums](crate::Builder::checksummed) [`RecvError::Damaged`], behind which the next call goes on.
    #[inline]
    pub fn recv(&mut self) -> Result<Message<'_, P>, RecvError> {
        self.recv_within(&Patience::Endless)
    }

    /// The next message if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`RecvError::Empty`], and those of [`recv`](Receiver::recv).
    #[inline]
    pub fn try_recv(&mut self) -> Result<Message<'_, P>, RecvError> {
        self.recv_within(&Patience::None)
    }

    /// The next message; waits at most `timeout` while the ring is empty.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](Receiver::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message<'_, P>, RecvError> {
        self.recv_within(&Patience::For(timeout))
    }

    /// The next message; waits until `deadline` at most while the ring is empty.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](Receiver::recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Message<'_, P>, RecvError> {
        self.recv_within(&Patience::Until(deadline))
    }

    #[inline(always)]
    fn recv_within(&mut self, patience: &Patience) -> Result<Message<'_, P>, RecvError> {
        let record = self.next(patience)?;
        Ok(Message::new(self, record.info))
    }

    /// The messages that are there, at most `most` (and at least one: waits while the ring is empty). Those that
    /// [`iter`](Messages::iter) gives are released together, when [`Messages`] is dropped. Until then senders don't have their room: let `most`
    /// be a small part of the ring.
    ///
    /// # Errors
    /// As for [`recv`](Receiver::recv).
    pub fn recv_many(&mut self, most: usize) -> Result<Messages<'_, P>, RecvError> {
        self.recv_many_within(most, &Patience::Endless)
    }

    /// As [`recv_many`](Receiver::recv_many); waits at most `timeout` while the ring is empty.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](Receiver::recv).
    pub fn recv_many_timeout(
        &mut self,
        most: usize,
        timeout: Duration,
    ) -> Result<Messages<'_, P>, RecvError> {
        self.recv_many_within(most, &Patience::For(timeout))
    }

    /// As [`recv_many`](Receiver::recv_many); waits until `deadline` at most while the ring is empty.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](Receiver::recv).
    pub fn recv_many_deadline(
        &mut self,
        most: usize,
        deadline: Instant,
    ) -> Result<Messages<'_, P>, RecvError> {
        self.recv_many_within(most, &Patience::Until(deadline))
    }

    /// As [`recv_many`](Receiver::recv_many), if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`RecvError::Empty`], and those of [`recv`](Receiver::recv).
    pub fn try_recv_many(&mut self, most: usize) -> Result<Messages<'_, P>, RecvError> {
        self.recv_many_within(most, &Patience::None)
    }

    fn recv_many_within(&mut self, most: usize, patience: &Patience) -> Result<Messages<'_, P>, RecvError> {
        self.next(patience)?;
        Ok(Messages::new(self, most))
    }

    /// Copies the next message into `buffer` and releases it; waits while the ring is empty. Gives its length.
    ///
    /// # Errors
    /// [`RecvError::BufferTooSmall`], with the message left where it is, in a rendezvous on offer; and those of
    /// [`recv`](Receiver::recv).
    #[inline]
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let record = match self.ring.consumer.accepts_offers() {
            false => self.next(&Patience::Endless)?,
            true => self.next_that_fits(buffer.len())?,
        };
        let length = record.length() as usize;
        let Some(target) = buffer.get_mut(..length) else { return Err(RecvError::BufferTooSmall { length }) };
        View::new(self, record).read_at(0, target);
        self.release(record.end, 1, record.length() as u64);
        Ok(length)
    }

    /// The next message of a rendezvous. One that is longer than `most` bytes is not accepted.
    #[cold]
    fn next_that_fits(&mut self, most: usize) -> Result<Record, RecvError> {
        loop {
            if !self.ring.generation.lasts() {
                return Err(RecvError::Forked);
            }
            self.ring.consumer.leave_offers(true);
            let seen = self.seek(&Patience::Endless);
            self.ring.consumer.leave_offers(false);
            let seen = seen?;
            if seen.length() as usize > most {
                return Ok(seen);
            }
            // Its sender may have taken it back meanwhile.
            if let Some(record) = self.ring.consumer.take(seen.position).map_err(corrupt)? {
                return Ok(record);
            }
        }
    }

    /// Copies of the messages until the end; blocks while the ring is empty. Ends when `recv` would give an error:
    /// [`Receiver::recv`] tells which, unless that was [`RecvError::Damaged`], whose message is gone.
    pub fn iter(&mut self) -> Iter<'_, P> {
        Iter { receiver: self }
    }

    /// Copies of the messages that are there now. Never blocks.
    pub fn try_iter(&mut self) -> TryIter<'_, P> {
        TryIter { receiver: self }
    }

    /// After [`RecvError::Disconnected`] or [`RecvError::PeerDied`]: waits for another sender from now on, instead of giving
    /// that error until one has come. Of no use at a link, to which no other sender comes.
    pub fn reopen(&mut self) {
        self.ring.ended = None;
    }

    /// How this handle waits from now on, instead of what its ring was built with.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.spin = Inner::spin_as(strategy);
    }

    /// Whether there is no message now. True in a forked child, which can't receive.
    pub fn is_empty(&mut self) -> bool {
        !self.ring.generation.lasts() || !self.ring.has_message()
    }

    /// Bytes of the longest message.
    pub fn longest_message(&self) -> usize {
        self.inner().header.longest as usize
    }

    /// Bytes of the ring's data area.
    pub fn capacity(&self) -> u64 {
        self.inner().header.geometry.capacity()
    }

    /// Whether this process has attached, and not the one from which it was forked.
    pub(super) fn is_own(&self) -> bool {
        self.ring.generation.lasts()
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.attachment.inner
    }

    #[inline]
    pub(super) fn consumer(&self) -> &Consumer {
        &self.ring.consumer
    }

    #[inline]
    pub(super) fn memory(&self) -> &Memory {
        self.ring.consumer.memory()
    }

    pub(super) fn owned(&mut self, patience: &Patience) -> Result<OwnedMessage, RecvError> {
        let record = self.next(patience)?;
        let message = View::new(self, record).to_owned();
        self.release(record.end, 1, record.length() as u64);
        Ok(message)
    }

    #[inline(always)]
    pub(super) fn next(&mut self, patience: &Patience) -> Result<Record, RecvError> {
        if !self.ring.generation.lasts() {
            return Err(RecvError::Forked);
        }
        // Found is found in registers, also after a wait (see `Sender::room`).
        if let Some(record) = self.ring.consumer.first() {
            if self.ring.consumer.ask_ahead() {
                self.look_around(patience.waits());
            }
            if !self.is_guarded() {
                return Ok(record);
            }
        } else if patience.waits()
            && let Some(record) = self.poll()
            && !self.is_guarded()
        {
            return Ok(record);
        }
        self.seek(patience)?;
        self.found()
    }

    /// What was found just now, and is whole.
    #[inline(always)]
    pub(super) fn found(&self) -> Result<Record, RecvError> {
        let first = self.ring.consumer.first().and_then(|record| self.unguarded(record));
        // It was taken away, against the protocol.
        first.ok_or_else(|| corrupt(Violation { position: self.ring.consumer.head(), length: 0 }))
    }

    /// Whether it stands before a message that it gives as it is.
    #[inline(always)]
    pub(super) fn glance(&self) -> Sight {
        match &self.ring.consumer {
            consumer if !self.is_guarded() && consumer.first().is_some() => Sight::Something,
            consumer if consumer.stands_before_nothing() => Sight::Nothing,
            _ => Sight::Unclear,
        }
    }

    /// Whether each message has a checksum.
    #[inline(always)]
    pub(super) fn is_guarded(&self) -> bool {
        self.ring.trailer != 0
    }

    /// The first record, as soon as it comes; polls for a moment, where polling is likely to pay.
    #[inline(always)]
    fn poll(&mut self) -> Option<Record> {
        let Self { ring, attachment, spin, .. } = self;
        if !ring.consumer.stands_before_nothing() {
            return None;
        }
        let (consumer, counts) = (&mut ring.consumer, &attachment.inner.memory.receiver().counts);
        spin.briefly(counts, || match consumer.first() {
            None if consumer.stands_before_nothing() => {
                consumer.ask_for_one_more();
                ControlFlow::Continue(())
            }
            found => ControlFlow::Break(found),
        })
    }

    /// Looks how far messages have come, now and then. Keeps its distance from senders that it has caught up with, where it polls and
    /// has time to wait: a wait would make it step back as well, but it finds each message just in time, and never waits.
    #[cold]
    fn look_around(&mut self, waits: bool) {
        let Self { ring, attachment, spin, .. } = self;
        let keeps_off = waits && spin.polls();
        if ring.consumer.view(keeps_off) && keeps_off {
            spin.keep_off_stream(attachment.inner.memory.receiver().counts.messages.get());
        }
    }

    /// The first record, whose message has this info.
    #[inline(always)]
    pub(super) fn first_with(&self, info: Info) -> Record {
        let (consumer, length) = (&self.ring.consumer, info.length() + self.ring.trailer);
        let (position, geometry) = (consumer.head(), consumer.memory().geometry());
        Record { position, end: position.plus(geometry.size_units(position, length.into())), info }
    }

    /// The first message, which is whole; waits for it.
    #[cold]
    fn seek(&mut self, patience: &Patience) -> Result<Record, RecvError> {
        let guarded = self.ring.consumer.first().filter(|_| self.is_guarded());
        if let Some(record) = guarded.and_then(|record| checksum::verify(self.memory(), record)) {
            return Ok(record);
        }
        let found = match self.ring.first() {
            Ok(Some(record)) => Ok(record),
            Ok(None) => self.wait_for_message(patience),
            Err(violation) => Err(corrupt(violation)),
        };
        if self.is_guarded() { self.verified(found) } else { found }
    }

    /// What there is now: a message, the end, or nothing yet. For who receives from several.
    #[inline]
    pub(super) fn look(&mut self, why: Look) -> Option<Result<Record, RecvError>> {
        self.ring.note_where_it_stands(self.attachment.inner.header.kind, why);
        let found = self.ring.look(&self.attachment, why)?;
        Some(if self.is_guarded() { self.verified(found) } else { found })
    }

    /// Whether there is something now: the next call of [`try_recv`](Receiver::try_recv) gives it.
    pub(super) fn is_ready(&mut self, why: Look) -> bool {
        self.ring.note_where_it_stands(self.attachment.inner.header.kind, why);
        self.ring.consumer.leave_offers(true);
        let found = self.ring.find(&self.attachment, why).is_some();
        self.ring.consumer.leave_offers(false);
        found
    }

    pub(super) fn berth(&self) -> Berth {
        Berth::of(&self.attachment, self.ring.generation)
    }

    fn wait_for_message(&mut self, patience: &Patience) -> Result<Record, RecvError> {
        let Self { ring, attachment, spin, .. } = self;
        let attachment = &*attachment;
        let Attachment { inner, vigil, .. } = attachment;
        let counts = &inner.memory.receiver().counts;
        counts.refused.add(1);
        if !patience.waits() {
            return ring.look(attachment, Look::BeforeSleep).unwrap_or(Err(RecvError::Empty));
        }
        let deadline = patience.deadline();
        spin.step_back_from_stream(counts.messages.get());
        let sleeper = vigil.sleeper(inner.bell_of_receiver(), counts);
        let found = sleeper.until(spin, deadline, |why| {
            ring.note_where_it_stands(inner.header.kind, why);
            ring.look(attachment, why)
        });
        found.unwrap_or(Err(RecvError::TimedOut))
    }

    #[inline(always)]
    pub(super) fn release(&mut self, end: Position, messages: u64, bytes: u64) {
        if !self.ring.generation.lasts() {
            // A forked child drops what its parent holds.
            return;
        }
        self.ring.consumer.step_to(end);
        let counts = &self.ring.consumer.memory().receiver().counts;
        counts.messages.add(messages);
        counts.bytes.add(bytes);
        // Takes long: whoever is killed in it has counted.
        self.ring.consumer.give_back();
        self.ring.offer_released();
    }
}

pub(super) fn corrupt(Violation { position, length }: Violation) -> RecvError {
    RecvError::Corrupt { sequence: position.units(), length }
}

impl<P: Trust> fmt::Debug for Receiver<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("next", &self.ring.consumer.head().units()).finish()
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::{
        super::{
            builder::{Builder, unnamed},
            ring::Ring,
            sender::{Sender, SenderKind},
        },
        *,
    };

    fn ends<K: SenderKind>(
        builder: Builder,
        sender: impl FnOnce(&Ring) -> Sender<Untrusted, K>,
    ) -> (Sender<Untrusted, K>, Receiver) {
        let ring = builder.memfd().unwrap();
        (sender(&ring), ring.receiver().unwrap())
    }

    /// Has so many KiB come before the receiver, in messages of 256 bytes with their headers.
    fn fill<K: SenderKind>(sender: &mut Sender<Untrusted, K>, kib: usize) {
        (0..4 * kib).for_each(|_| sender.send(&[0; 256 - 16]).unwrap());
    }

    #[test]
    fn a_receiver_knows_when_it_has_caught_up_with_many_senders() {
        let (mut sender, mut receiver) = ends(unnamed().many_senders(2), |ring| ring.multi_sender().unwrap());
        for (kib, near) in [(15, true), (1, false), (495, false)] {
            fill(&mut sender, kib);
            assert!(receiver.ring.consumer.ask_ahead() || kib != 15, "the first message is a reason to look");
            assert_eq!(receiver.ring.consumer.view(true), near, "{kib} KiB more");
            assert_eq!(receiver.ring.consumer.view(true), near, "and it is told again");
        }
        // 511 KiB are not far yet, 512 are: until it has come near the end of them it asks ahead, and does not look.
        assert!(!receiver.ring.consumer.view(true));
        for _ in 0..4 * 32 {
            assert!(!receiver.ring.consumer.ask_ahead());
            drop(receiver.recv().unwrap());
        }
        assert!(receiver.ring.consumer.ask_ahead(), "after 32 KiB it looks again");
        fill(&mut sender, 33);
        assert!(!receiver.ring.consumer.view(true));
        // It asks for what lies 4 KiB ahead.
        for _ in 0..4 * (512 - 4) {
            assert!(!receiver.ring.consumer.ask_ahead());
            drop(receiver.recv().unwrap());
        }
        assert!(receiver.ring.consumer.ask_ahead());
    }

    #[test]
    fn who_receives_long_messages_need_not_keep_off() {
        let (mut sender, mut receiver) = ends(unnamed().many_senders(2), |ring| ring.multi_sender().unwrap());
        for (length, near) in [(256 - 16, true), (256 - 8, false), (1000, false)] {
            sender.send(&vec![0; length]).unwrap();
            drop(receiver.recv().unwrap());
            assert_eq!(receiver.ring.consumer.view(true), near, "{length}");
        }
    }

    #[test]
    fn the_only_sender_hides_its_tail_and_is_never_caught_up_with() {
        let (mut sender, mut receiver) = ends(unnamed(), |ring| ring.sender().unwrap());
        fill(&mut sender, 1);
        assert!(!receiver.ring.consumer.view(true));
    }
}
