//! A record that is being written in place.

use super::{
    copy,
    receipt::Receipt,
    sender::{OneReceiver, Sender, SenderKind, Single},
    trust::{Trust, Trusted, Untrusted},
};
use crate::ring::{
    offer::Offer,
    position::Position,
    record::Info,
    reserve::{Produce, Reserved},
};
use core::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    slice,
};

/// Room for one message, in place in the ring. Dropping it discards the message; [`commit`](Reservation::commit)
/// publishes it.
///
/// The bytes are what the ring held there before: write all of them, or [`truncate`](Reservation::truncate). Leaking it
/// with [`mem::forget`](std::mem::forget) discards it when the sender is used or dropped next; until then the messages
/// of other senders behind it wait.
///
/// A receiver that polls looks at the line that holds the header and the first bytes, 48 at most. A message of up to 128 bytes
/// arrives soonest when these are written last, as [`write_at`](Reservation::write_at) does on x86-64: 0.95 of the time at 64 bytes.
#[must_use = "a reservation that is dropped is discarded: commit it"]
pub struct Reservation<'a, P: Trust = Untrusted, K: SenderKind = Single> {
    // Two words, which travel in registers; what is reserved, the sender knows. A longer value is stored in parts and loaded in
    // other parts on its way to `commit`, and such a load waits until all stores before it, those of the last message too, have
    // left the processor.
    sender: &'a mut Sender<P, K>,
    /// What the header will say of it.
    info: Info,
    trust: PhantomData<P>,
}

impl<'a, P: Trust, K: SenderKind> Reservation<'a, P, K> {
    #[inline]
    pub(super) fn new(sender: &'a mut Sender<P, K>, reserved: Reserved) -> Self {
        let length = reserved.info.length() - sender.trailer;
        Self { sender, info: reserved.info.with_length(length), trust: PhantomData }
    }

    /// Bytes of the message.
    #[inline]
    pub fn len(&self) -> usize {
        self.info.length() as usize
    }

    /// Whether the message has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.info.length() == 0
    }

    /// Sets the user's kind of message; 0 unless set.
    #[inline]
    pub fn set_kind(&mut self, kind: u16) {
        self.info = self.info.with_kind(kind);
    }

    /// Shortens the message to its first `length` bytes; does nothing when it is not longer, or the ring's messages all have
    /// one type.
    #[inline]
    pub fn truncate(&mut self, length: usize) {
        if let Ok(length) = self.sender.check_length(length.min(self.len())) {
            self.info = self.info.with_length(length);
        }
    }

    /// Copies `bytes` into the message from byte `offset` on.
    ///
    /// # Panics
    /// When they don't fit into the message.
    #[inline]
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(
            end.is_some_and(|end| end <= self.len()),
            "{} bytes at {offset} of {}",
            bytes.len(),
            self.len()
        );
        // SAFETY: the payload is `length` bytes long and lies in the ring, which no slice of ours overlaps.
        unsafe { copy::into_shared(bytes, self.start().add(offset)) };
    }

    /// The message will stand here: publishes it, and wakes the receiver if it sleeps. Wait-free; a system call only when
    /// the receiver sleeps, or, where a call that may wait has reserved between the messages of others, to let a receiver run that stands still
    /// (never with [`WaitStrategy::Spin`](crate::WaitStrategy::Spin)).
    ///
    /// Gives the message's sequence number. In a forked child, whose parent's the reservation is, nothing happens. (Its bytes
    /// are the parent's memory all the same: write none there.)
    #[inline(always)]
    pub fn commit(self) -> u64 {
        let sequence = self.sender.open().start;
        self.sender.publish_one(self.info);
        core::mem::forget(self);
        Position::units(sequence)
    }

    /// As [`commit`](Reservation::commit), and gives a receipt that tells when the receiver has taken the message.
    pub fn commit_acknowledged(self) -> Receipt
    where
        K: OneReceiver,
    {
        let at = self.sender.open().start;
        let geometry = self.sender.memory().geometry();
        let length = self.info.length() + self.sender.trailer;
        let receipt = Receipt::new(self.sender, at.plus(geometry.size_units(at, length as u64)));
        self.commit();
        receipt
    }

    /// Shows the receiver the message until it is taken back, and wakes it if it sleeps. Gives where it stands and where it
    /// ends.
    pub(super) fn offer(self) -> (Position, Position)
    where
        K: OneReceiver,
    {
        let reserved = self.sender.open();
        reserved.place(self.sender.memory(), reserved.start, reserved.info.with_kind(self.info.kind()));
        self.sender.producer.offer(reserved);
        // Before the wait for the receiver: the message is received also when this process is killed in it.
        self.sender.published(1, self.info.length().into());
        core::mem::forget(self);
        (reserved.start, reserved.end())
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        let reserved = self.sender.open();
        self.sender.memory().payload(reserved.start, reserved.info.length()).as_ptr()
    }
}

impl<K: SenderKind> Deref for Reservation<'_, Trusted, K> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the payload belongs to this sender until it commits; no other process writes there (`trust_peers`).
        unsafe { slice::from_raw_parts(self.start(), self.len()) }
    }
}

impl<K: SenderKind> DerefMut for Reservation<'_, Trusted, K> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the payload belongs to this sender until it commits; no other process reads there, but for a
        // glimpse at a word (`Memory::glimpse`), or writes (`trust_peers`).
        unsafe { slice::from_raw_parts_mut(self.start(), self.len()) }
    }
}

impl<P: Trust, K: SenderKind> Drop for Reservation<'_, P, K> {
    fn drop(&mut self) {
        self.sender.discard();
    }
}

impl<P: Trust, K: SenderKind> fmt::Debug for Reservation<'_, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("len", &self.len()).field("kind", &self.info.kind()).finish()
    }
}

/// Publishes the one record for which room is reserved.
#[inline(always)]
pub(super) fn publish_one(producer: &mut impl Produce, info: Info) {
    let reserved = producer.open();
    if info.length() != reserved.info.length() {
        return publish_shortened(producer, info);
    }
    reserved.place(producer.memory(), reserved.start, info);
    producer.publish(reserved, reserved.end());
}

/// The same for a record that is shorter than the room that was reserved for it.
#[cold]
fn publish_shortened(producer: &mut impl Produce, info: Info) {
    let (memory, reserved) = (producer.memory(), producer.open());
    memory.shorten(reserved.start, reserved.info.length(), info.length());
    reserved.place(memory, reserved.start, info);
    let units = memory.geometry().size_units(reserved.start, info.length() as u64);
    producer.publish(reserved, reserved.start.plus(units));
}
