//! A record that is being written in place.

use super::{
    copy,
    receipt::Receipt,
    sender::{OneReceiver, Sender, SenderKind, Single},
    trust::{Trust, Trusted, Untrusted},
};
use crate::ring::{
    memory::Memory,
    offer::Offer,
    position::Position,
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
#[must_use = "a reservation that is dropped is discarded: commit it"]
pub struct Reservation<'a, P: Trust = Untrusted, K: SenderKind = Single> {
    sender: &'a mut Sender<P, K>,
    reserved: Reserved,
    /// Bytes reserved.
    room: u32,
    /// Bytes of the message.
    length: u32,
    kind: u16,
    trust: PhantomData<P>,
}

impl<'a, P: Trust, K: SenderKind> Reservation<'a, P, K> {
    #[inline]
    pub(super) fn new(sender: &'a mut Sender<P, K>, reserved: Reserved, length: u32) -> Self {
        Self { sender, reserved, room: length, length, kind: 0, trust: PhantomData }
    }

    /// Bytes of the message.
    #[inline]
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether the message has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Sets the user's kind of message; 0 unless set.
    #[inline]
    pub fn set_kind(&mut self, kind: u16) {
        self.kind = kind;
    }

    /// Shortens the message to its first `length` bytes; does nothing when it is not longer.
    #[inline]
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(u32::try_from(length).unwrap_or(u32::MAX));
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
    /// the receiver sleeps.
    ///
    /// Gives the message's sequence number. In a forked child, whose parent's the reservation is, nothing happens. (Its bytes
    /// are the parent's memory all the same: write none there.)
    #[inline]
    pub fn commit(self) -> u64 {
        let (reserved, room, length, kind) = (self.reserved, self.room, self.length, self.kind);
        let sequence = reserved.start;
        self.sender.publish_one(reserved, room, length, kind);
        core::mem::forget(self);
        Position::units(sequence)
    }

    /// As [`commit`](Reservation::commit), and gives a receipt that tells when the receiver has taken the message.
    pub fn commit_acknowledged(self) -> Receipt
    where
        K: OneReceiver,
    {
        let at = self.reserved.start;
        let geometry = self.sender.memory().geometry();
        let receipt = Receipt::new(
            self.sender,
            at.plus(geometry.size_units(at, (self.length + self.sender.trailer) as u64)),
        );
        self.commit();
        receipt
    }

    /// Shows the receiver the message until it is taken back, and wakes it if it sleeps. Gives where it stands and where it
    /// ends.
    pub(super) fn offer(self) -> (Position, Position)
    where
        K: OneReceiver,
    {
        let reserved = self.reserved;
        reserved.place(self.sender.memory(), reserved.start, self.room, self.kind);
        if let Some(producer) = &mut self.sender.producer {
            producer.offer(reserved);
        }
        self.sender.published(0, 0);
        core::mem::forget(self);
        (reserved.start, reserved.end())
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        self.sender.memory().payload(self.reserved.start, self.room).as_ptr()
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
        // SAFETY: the payload belongs to this sender until it commits; no other process reads or writes there
        // (`trust_peers`).
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
        f.debug_struct("Reservation").field("len", &self.length).field("kind", &self.kind).finish()
    }
}

/// Publishes one record that was reserved with room for `room` bytes.
#[inline]
pub(super) fn publish_one<R: Produce>(
    producer: &mut R,
    reserved: Reserved,
    room: u32,
    length: u32,
    kind: u16,
) {
    let memory = producer.memory();
    let used = if length == room { reserved.end() } else { shorten(memory, reserved, room, length) };
    reserved.place(memory, reserved.start, length, kind);
    producer.publish(reserved, used);
}

/// Where the record ends when only `length` bytes of its `room` are used.
#[cold]
fn shorten(memory: &Memory, reserved: Reserved, room: u32, length: u32) -> Position {
    memory.shorten(reserved.start, room, length);
    reserved.start.plus(memory.geometry().size_units(reserved.start, length as u64))
}
