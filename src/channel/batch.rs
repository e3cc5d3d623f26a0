//! Several messages that are published at once.

use super::{
    checksum, copy,
    patience::Patience,
    receipt::Receipt,
    sender::{OneReceiver, Sender, SenderKind, Single},
    trust::{Trust, Trusted, Untrusted},
};
use crate::{
    error::SendError,
    ring::{
        memory::Memory,
        position::{Position, UNIT},
        reserve::{Need, Reserved},
    },
    sys::fork::Generation,
};
use core::{fmt, slice};
use std::time::{Duration, Instant};

/// Room for several messages. Dropping it discards them; [`commit`](Batch::commit) publishes them all at once: the
/// receiver sees all of them or none, also when the sender is killed.
#[must_use = "a batch that is dropped is discarded: commit it"]
pub struct Batch<'a, P: Trust = Untrusted, K: SenderKind = Single> {
    sender: &'a mut Sender<P, K>,
    reserved: Reserved,
    /// Where the next message goes.
    next: Position,
    messages: u64,
    bytes: u64,
    /// The sender's: at hand for each message.
    generation: Generation,
}

impl<P: Trust, K: SenderKind> Sender<P, K> {
    /// Room for several messages that are published at once; waits while the ring is full. Each message takes
    /// [`record_size`](crate::record_size) bytes of it; in a ring inside a process or a hosted one the room must also hold
    /// the longest of them once more, for the gap at the end of the ring. Room that is not used is given back.
    ///
    /// # Errors
    /// As for [`send`](Sender::send); [`SendError::TooLong`] when the ring is smaller than the batch, or the batch
    /// larger than 32 GiB.
    pub fn batch(&mut self, bytes: usize) -> Result<Batch<'_, P, K>, SendError> {
        self.batch_within(bytes, Patience::Endless)
    }

    /// Room for several messages if there is any now. Never blocks.
    ///
    /// # Errors
    /// [`SendError::Full`], and those of [`batch`](Sender::batch).
    pub fn try_batch(&mut self, bytes: usize) -> Result<Batch<'_, P, K>, SendError> {
        self.batch_within(bytes, Patience::None)
    }

    /// Room for several messages; waits at most `timeout` while the ring is full.
    ///
    /// # Errors
    /// [`SendError::TimedOut`], and those of [`batch`](Sender::batch).
    pub fn batch_timeout(&mut self, bytes: usize, timeout: Duration) -> Result<Batch<'_, P, K>, SendError> {
        self.batch_within(bytes, Patience::For(timeout))
    }

    /// Room for several messages; waits until `deadline` at most while the ring is full.
    ///
    /// # Errors
    /// [`SendError::TimedOut`], and those of [`batch`](Sender::batch).
    pub fn batch_deadline(&mut self, bytes: usize, deadline: Instant) -> Result<Batch<'_, P, K>, SendError> {
        self.batch_within(bytes, Patience::Until(deadline))
    }

    fn batch_within(&mut self, bytes: usize, patience: Patience) -> Result<Batch<'_, P, K>, SendError> {
        let units = units_of(self.memory(), bytes)?;
        let reserved = self.room(&patience, Need::Units(units))?;
        Ok(Batch::new(self, reserved))
    }
}

impl<'a, P: Trust, K: SenderKind> Batch<'a, P, K> {
    fn new(sender: &'a mut Sender<P, K>, reserved: Reserved) -> Self {
        let generation = sender.generation;
        Self { sender, reserved, next: reserved.start, messages: 0, bytes: 0, generation }
    }

    /// Messages in the batch so far.
    pub fn len(&self) -> usize {
        self.messages as usize
    }

    /// Whether there is no message in the batch yet.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Bytes of the batch's room that are left, of which a message takes 16 and its length, rounded up to 8; and 4 more in a ring with
    /// checksums.
    pub fn room(&self) -> usize {
        ((self.reserved.units - self.next.since(self.reserved.start)) * UNIT) as usize
    }

    /// Adds a message.
    ///
    /// # Errors
    /// [`SendError::Full`] when the batch has no room for it, [`SendError::TooLong`], [`SendError::Forked`];
    /// [`SendError::WrongLength`] where all messages have one type. The batch is as before.
    #[inline]
    pub fn push(&mut self, kind: u16, message: &[u8]) -> Result<(), SendError> {
        let (at, length) = self.place(message.len())?;
        // SAFETY: the payload lies in the reservation, which is this sender's alone and which no slice of ours overlaps.
        unsafe { copy::into_shared(message, self.sender.memory().payload(at, length).as_ptr()) };
        self.take(at, length, kind);
        Ok(())
    }

    /// The place for a message of `length` bytes, if it fits.
    #[inline]
    fn place(&self, length: usize) -> Result<(Position, u32), SendError> {
        let length = self.sender.check_length(length)?;
        // What a forked child adds here would be received with what its parent publishes.
        if !self.generation.lasts() {
            return Err(SendError::Forked);
        }
        let bytes = length + self.sender.trailer;
        let units = self.sender.memory().geometry().size_units(self.next, bytes as u64);
        let left = self.reserved.units - self.next.since(self.reserved.start);
        if units > left { Err(SendError::Full) } else { Ok((self.next, length)) }
    }

    #[inline]
    fn take(&mut self, at: Position, length: u32, kind: u16) {
        let (memory, trailer) = (self.sender.memory(), self.sender.trailer);
        let info = self.reserved.info_at(at, length + trailer, kind);
        if trailer != 0 {
            checksum::write(memory, at, info);
        }
        self.reserved.place(memory, at, info);
        self.next = at.plus(memory.geometry().size_units(at, (length + trailer) as u64));
        self.messages += 1;
        self.bytes += length as u64;
    }

    /// Publishes all messages, and wakes the receiver if it sleeps. An empty batch is discarded. Wait-free; a system call
    /// only as for [`Reservation::commit`](crate::Reservation::commit).
    #[inline]
    pub fn commit(self) {
        if self.messages == 0 {
            return;
        }
        let (reserved, used, messages, bytes) = (self.reserved, self.next, self.messages, self.bytes);
        self.sender.publish_all(reserved, used, messages, bytes);
        core::mem::forget(self);
    }

    /// As [`commit`](Batch::commit), and gives a receipt that tells when the receiver has taken the last message, and with it
    /// all of them. That of an empty batch tells of what was sent before.
    pub fn commit_acknowledged(self) -> Receipt
    where
        K: OneReceiver,
    {
        let receipt = Receipt::new(self.sender, self.next);
        self.commit();
        receipt
    }
}

impl<K: SenderKind> Batch<'_, Trusted, K> {
    /// Adds a message of `length` bytes that `write` fills in place. The bytes are what the ring held there before.
    ///
    /// # Errors
    /// [`SendError::Full`] when the batch has no room for it, [`SendError::TooLong`], [`SendError::Forked`];
    /// [`SendError::WrongLength`] where all messages have one type. The batch is as before.
    #[inline]
    pub fn push_with(
        &mut self,
        kind: u16,
        length: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        let (at, length) = self.place(length)?;
        let start = self.sender.memory().payload(at, length).as_ptr();
        // SAFETY: the payload lies in the reservation, which is this sender's alone; no other process reads or writes
        // there (`trust_peers`).
        write(unsafe { slice::from_raw_parts_mut(start, length as usize) });
        self.take(at, length, kind);
        Ok(())
    }
}

impl<P: Trust, K: SenderKind> Drop for Batch<'_, P, K> {
    fn drop(&mut self) {
        self.sender.discard();
    }
}

impl<P: Trust, K: SenderKind> fmt::Debug for Batch<'_, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.messages).field("room", &self.room()).finish()
    }
}

/// Bytes of a batch's room that a message of `length` bytes takes: its 16-byte header and its length, rounded up to 8. In a ring
/// with checksums it takes as much as one that is 4 bytes longer. `usize::MAX` when that is more than can be said: no ring has room for
/// it.
pub const fn record_size(length: usize) -> usize {
    match length.checked_add(16 + 7) {
        Some(size) => size & !7,
        None => usize::MAX,
    }
}

const _: () =
    assert!(record_size(0) == 16 && record_size(1) == 24 && record_size(8) == 24 && record_size(9) == 32);
const _: () =
    assert!(record_size(usize::MAX - 23) == usize::MAX - 7 && record_size(usize::MAX) == usize::MAX);

/// Units that a batch of `bytes` takes, at least one empty message.
fn units_of(memory: &Memory, bytes: usize) -> Result<u64, SendError> {
    let units = (bytes as u64).div_ceil(UNIT).max(2);
    // What is not used goes into one discarded record, whose length has 32 bits.
    let most = memory.most_units().min(u32::MAX.into());
    if units > most {
        return Err(SendError::TooLong { length: bytes, longest: (most * UNIT) as usize });
    }
    Ok(units)
}
