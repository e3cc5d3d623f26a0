//! The receiving end.

mod fallen;
mod news;

pub use news::{Death, Stall};

use super::{
    attach::Attachment,
    checksum,
    iter::{Iter, TryIter},
    message::{Message, Messages, OwnedMessage, View},
    ring::Inner,
    select::Berth,
    trust::{Trust, Untrusted},
    vigil::Looks,
};
use crate::{
    error::RecvError,
    header::Kind,
    ring::{
        claim::{self, Claim, Owner},
        memory::Memory,
        position::{Position, UNIT},
        receive::{Consumer, Record, Violation},
        record::Info,
        recovery::{self, Pending},
        spsc,
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

use fallen::Fallen;

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
    /// Bytes of the checksum behind each message.
    trailer: u32,
    /// Senders that died, in slots that nobody has taken since.
    fallen: Vec<Fallen>,
    /// Somebody has died, and no end was reported since.
    end_is_owed: bool,
    /// What was reported when no sender was left, if none has attached since.
    ended: Option<RecvError>,
    /// A reservation that is not finished, and since when the receiver stands before it.
    standing: Option<(Position, Instant)>,
    /// At the senders, where nobody tells of a death.
    looks: Looks,
}

/// Units of a cache line.
const LINE: u64 = 8;

/// How long a call may wait for a message.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    None,
    Until(Option<Deadline>),
}

impl<P: Trust> Receiver<P> {
    pub(super) fn new(attachment: Attachment) -> Self {
        let inner = &attachment.inner;
        let (mut consumer, spin) = (Consumer::attach(Arc::clone(&inner.memory)), inner.spin());
        if inner.header.rendezvous {
            consumer.accept_offers();
        }
        let (waker, scope) = (Waker::new(inner.header.asymmetric), inner.scope);
        let generation = Generation::current();
        let ring = Listening {
            consumer,
            waker,
            scope,
            generation,
            trailer: checksum::trailer(&inner.header),
            fallen: Vec::new(),
            end_is_owed: false,
            ended: None,
            standing: None,
            looks: Looks::after(Duration::ZERO),
        };
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

    #[inline(always)]
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
        self.recv_many_within(most, Patience::Until(None))
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
        self.recv_many_within(most, Patience::Until(Some(Deadline::after(timeout))))
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
        self.recv_many_within(most, Patience::Until(Some(Deadline::at(deadline))))
    }

    /// All messages that are there now, at most `most`. Never blocks.
    ///
    /// # Errors
    /// [`RecvError::Empty`], and those of [`recv`](Receiver::recv).
    pub fn try_recv_many(&mut self, most: usize) -> Result<Messages<'_, P>, RecvError> {
        self.recv_many_within(most, Patience::None)
    }

    fn recv_many_within(&mut self, most: usize, patience: Patience) -> Result<Messages<'_, P>, RecvError> {
        let first = self.next(patience)?;
        Ok(Messages::gather(self, first, most))
    }

    /// Copies the next message into `buffer` and releases it; waits while the ring is empty. Gives its length.
    ///
    /// # Errors
    /// [`RecvError::BufferTooSmall`], with the message left where it is, in a rendezvous on offer; and those of
    /// [`recv`](Receiver::recv).
    #[inline]
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let record = match self.ring.consumer.accepts_offers() {
            false => self.next(Patience::Until(None))?,
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
            let seen = self.seek(Patience::Until(None));
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
        self.ring.ended = None;
    }

    /// How this handle waits from now on, instead of what its ring was built with.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.spin = Inner::spin_as(strategy);
    }

    /// Whether there is no message now. True in a forked child, which can't receive.
    pub fn is_empty(&mut self) -> bool {
        !self.ring.generation.lasts() || !self.ring.consumer.has_message()
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
    pub(super) fn memory(&self) -> &Memory {
        self.ring.consumer.memory()
    }

    pub(super) fn owned(&mut self, patience: Patience) -> Result<OwnedMessage, RecvError> {
        let record = self.next(patience)?;
        let message = View::new(self, record).to_owned();
        self.release(record.end, 1, record.length() as u64);
        Ok(message)
    }

    #[inline(always)]
    pub(super) fn next(&mut self, patience: Patience) -> Result<Record, RecvError> {
        if !self.ring.generation.lasts() {
            return Err(RecvError::Forked);
        }
        // Found is found in registers, also after a wait (see `Sender::room`).
        match self.ring.consumer.first() {
            Some(record) if self.ring.trailer == 0 => Ok(record),
            _ => {
                self.seek(patience)?;
                let first = self.ring.consumer.first().and_then(|record| self.reopened(record));
                // It was taken away, against the protocol.
                first.ok_or_else(|| corrupt(Violation { position: self.ring.consumer.head(), length: 0 }))
            }
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
    fn seek(&mut self, patience: Patience) -> Result<Record, RecvError> {
        let found = match self.ring.consumer.look() {
            Ok(Some(record)) => Ok(record),
            Ok(None) => self.wait_for_message(patience),
            Err(violation) => Err(corrupt(violation)),
        };
        if self.ring.trailer != 0 { self.verified(found) } else { found }
    }

    /// What there is now: a message, the end, or nothing yet. For who receives from several.
    #[inline]
    pub(super) fn look(&mut self, why: Look) -> Option<Result<Record, RecvError>> {
        self.ring.note_where_it_stands(self.attachment.inner.header.kind, why);
        let found = self.ring.look(&self.attachment, why)?;
        Some(if self.ring.trailer != 0 { self.verified(found) } else { found })
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

    fn wait_for_message(&mut self, patience: Patience) -> Result<Record, RecvError> {
        let Self { ring, attachment, spin, .. } = self;
        let counts = &attachment.inner.memory.receiver().counts;
        counts.refused.add(1);
        match patience {
            Patience::None => ring.look(attachment, Look::BeforeSleep).unwrap_or(Err(RecvError::Empty)),
            Patience::Until(deadline) => {
                spin.step_back_from_stream(counts.messages.get());
                sleeper(attachment)
                    .until(spin, deadline, |why| {
                        ring.note_where_it_stands(attachment.inner.header.kind, why);
                        ring.look(attachment, why)
                    })
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

/// How a receiver waits for a message.
fn sleeper(Attachment { inner, vigil, .. }: &Attachment) -> Sleeper<'_> {
    Sleeper {
        call: inner.bell_of_receiver().into(),
        news: &vigil.deaths.news,
        counts: &inner.memory.receiver().counts,
        eager_after: None,
        slice: vigil.slice(),
    }
}

/// Why there will be no message, not told yet.
enum End {
    Corrupt(Violation),
    /// Everybody has gone, with the number of closings.
    Closed(u32),
}

impl Listening {
    /// A message, the end, or nothing yet. The end is told by this.
    #[inline]
    fn look(&mut self, attachment: &Attachment, why: Look) -> Option<Result<Record, RecvError>> {
        Some(self.find(attachment, why)?.map_err(|end| match end {
            End::Corrupt(violation) => corrupt(violation),
            End::Closed(closings) => self.report_end(closings),
        }))
    }

    /// As `look`; tells nobody.
    #[inline]
    fn find(&mut self, attachment: &Attachment, why: Look) -> Option<Result<Record, End>> {
        match self.consumer.look() {
            Ok(Some(record)) => return Some(Ok(record)),
            Err(violation) => return Some(Err(End::Corrupt(violation))),
            Ok(None) if why == Look::Spinning => {
                self.consumer.memory().prefetch_to_read(self.consumer.head().plus(LINE));
                return None;
            }
            Ok(None) => {}
        }
        let vigil = &attachment.vigil;
        let nobody_tells = || vigil.slice().is_some();
        if why == Look::Idle || vigil.deaths.any() || nobody_tells() && self.looks.is_due(why) {
            self.pass_over_the_dead(attachment);
        }
        // Everything is released that can be: whoever waits for room need not wait for more.
        self.offer_room(true);
        let ended = self.has_ended(attachment);
        // What the dead left unfinished is passed over, and what all who are gone have committed is visible now.
        match self.consumer.look() {
            Ok(Some(record)) => Some(Ok(record)),
            Err(violation) => Some(Err(End::Corrupt(violation))),
            Ok(None) => match self.hidden() {
                Some(violation) => Some(Err(End::Corrupt(violation))),
                None => ended.map(|closings| Err(End::Closed(closings))),
            },
        }
    }

    /// In a ring with checksums: what was committed where nothing is to be seen, since its tag was damaged.
    fn hidden(&self) -> Option<Violation> {
        if self.trailer == 0 { None } else { recovery::hidden(&self.consumer) }
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

    /// Remembers since when there has been a reservation at the head that is not finished.
    #[inline]
    fn note_where_it_stands(&mut self, kind: Kind, why: Look) {
        if kind == Kind::Single || why == Look::Spinning {
            return;
        }
        let (head, memory) = (self.consumer.head(), self.consumer.memory());
        // ORDERING: Relaxed; only told.
        let tail = Position::split(memory.senders().tail.load(Relaxed)).0;
        if tail == head {
            self.standing = None;
        } else if self.standing.is_none_or(|(at, _)| at != head) {
            self.standing = Some((head, Instant::now()));
        }
    }

    /// The number of closings, when no sender is attached and one has closed, or died, that was not reported; or none has
    /// come since the last report.
    fn has_ended(&mut self, attachment: &Attachment) -> Option<u32> {
        let memory = self.consumer.memory();
        // First the closings, then the claims, then (by the caller) the ring once more.
        // ORDERING: Acquire E2; pairs with Release E1 in `Attachment::drop`: the claims are read after it.
        let closings = memory.senders().closings.load(Acquire);
        // ORDERING: Relaxed; written by receivers only, and this is the one.
        let seen = memory.receiver().closings_seen.load(Relaxed);
        if attachment.inner.peer.is_some() && !self.fallen.is_empty() {
            // Nobody comes after the other end of a link, whatever that has written.
            return Some(closings);
        }
        if self.ended.is_none() && closings == seen && !self.end_is_owed {
            return None;
        }
        let living = memory.all_slots().any(|(_, slot)| match claim::read(&slot.claim) {
            Claim::Attached(owner) => self.fallen.iter().all(|fallen| fallen.owner != owner),
            Claim::Closed(_) | Claim::Never => false,
        });
        if living {
            self.ended = None;
        }
        (!living).then_some(closings)
    }

    /// Everybody has gone: names the next of the dead, if there is one, and else the end.
    fn report_end(&mut self, closings: u32) -> RecvError {
        let area = self.consumer.memory().receiver();
        // ORDERING: Relaxed; written by receivers only, and this is the one.
        let closed = area.closings_seen.load(Relaxed) != closings;
        // ORDERING: Relaxed; read by later receivers, whose claim comes after ours.
        area.closings_seen.store(closings, Relaxed);
        let owed = std::mem::take(&mut self.end_is_owed);
        let untold = self.fallen.iter_mut().find(|fallen| !fallen.told).map(|fallen| fallen.tell(area));
        // Perhaps `next_death` has named the last one already.
        let again = || self.fallen.last().filter(|_| owed && !closed).map(Fallen::news);
        let before = self.ended.filter(|_| !closed);
        let error = untold.or_else(again).or(before).unwrap_or(RecvError::Disconnected);
        self.ended = Some(error);
        error
    }

    /// Passes over what dead senders have left unfinished, and notes who they are.
    fn pass_over_the_dead(&mut self, attachment: &Attachment) {
        let Attachment { inner, vigil, .. } = attachment;
        let memory = &inner.memory;
        let held = |slot: u8| memory.slot(slot).map(|slot| claim::read(&slot.claim));
        if inner.peer.is_some() {
            if let Some(owner) = vigil.dead_peer().filter(|_| !self.has_closed(held(spsc::SLOT))) {
                self.fallen_in(spsc::SLOT, owner);
            }
            return;
        }
        self.fallen.retain(|fallen| held(fallen.slot) == Some(Claim::Attached(fallen.owner)));
        for (number, slot) in memory.all_slots() {
            if let Some(owner) = vigil.died_in(&slot.claim) {
                self.fallen_in(number, owner);
            }
        }
        if let Kind::Many(_) = inner.header.kind {
            // Each slot owns one reservation at most: what goes on longer is a hostile sender's doing.
            for _ in 0..memory.slots() {
                let found = recovery::resolve(&mut self.consumer, |owner| vigil.is_dead(owner));
                let Pending::PassedOver { slot, units } = found else { break };
                if let Some(Claim::Attached(owner)) = held(slot) {
                    self.fallen_in(slot, owner).leaves(units * UNIT);
                }
            }
        }
        vigil.bury(memory.all_slots().map(|(_, slot)| &slot.claim));
    }

    /// Whether the other end of a link, which is dead, had closed in order, and that is or was reported.
    fn has_closed(&self, claim: Option<Claim>) -> bool {
        let memory = self.consumer.memory();
        // ORDERING: Relaxed; the proof of its death came first.
        let closings = memory.senders().closings.load(Relaxed);
        // ORDERING: Relaxed; written by receivers only, and this is the one.
        let told = self.ended.is_some() || closings != memory.receiver().closings_seen.load(Relaxed);
        told && matches!(claim, Some(Claim::Closed(_)))
    }

    fn fallen_in(&mut self, slot: u8, owner: Owner) -> &mut Fallen {
        let known = self.fallen.iter().position(|fallen| (fallen.slot, fallen.owner) == (slot, owner));
        let index = known.unwrap_or_else(|| {
            let fallen = Fallen::new(slot, owner, self.consumer.memory().receiver());
            self.end_is_owed |= !fallen.told;
            self.fallen.push(fallen);
            self.fallen.len() - 1
        });
        &mut self.fallen[index]
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.generation.lasts() {
            Bell::of_senders(self.consumer.memory(), self.scope).cover(&mut self.waker);
        }
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
