//! A checksum behind each message.
//!
//! It stands in the four bytes behind the message's own, and counts to the payload of its record: the protocol of the ring knows
//! nothing of it. The sender writes it when it commits. The receiver verifies it before it gives the message, without it.

use super::{builder::Builder, copy, receiver::Receiver, trust::Trust};
use crate::{
    error::{OpenError, RecvError},
    header::{CHECKSUM_LENGTH, Header, Kind, mismatch},
    ring::{memory::Memory, position::Position, receive::Record, record::Info},
};

/// Bytes that are looked at in one go: by copying, since another process may write to them.
const CHUNK: u32 = 512;

impl Builder {
    /// A ring that guards each message with a checksum (CRC-32C of its bytes) against accidents in memory: a process that writes
    /// where it should not, a bit that flips. The receiver gets [`RecvError::Damaged`] instead of a message that is not what was
    /// committed. A message takes 4 bytes more, and each side reads it once more. When a ring is opened: what it must be; who
    /// opens it without saying so uses it all the same.
    ///
    /// Not for many readers, mailboxes, rendezvous and links, nor inside a process or hosted.
    pub fn checksummed(mut self) -> Self {
        self.checksummed = true;
        self
    }
}

/// Whether such a ring can have checksums.
pub(super) fn check(kind: Kind, mirrored: bool, rendezvous: bool) -> Result<(), OpenError> {
    let other = match kind {
        Kind::Broadcast(_) => "a broadcast",
        Kind::Mailbox { .. } => "a mailbox",
        Kind::Single | Kind::Many(_) if rendezvous => "a rendezvous",
        Kind::Single | Kind::Many(_) if !mirrored => "inside a process, or hosted",
        Kind::Single | Kind::Many(_) => return Ok(()),
    };
    Err(mismatch("ring with checksums", other, "one between processes, to one receiver, with a buffer"))
}

/// Bytes behind each message of the ring.
pub(super) fn trailer(header: &Header) -> u32 {
    if header.checksummed { CHECKSUM_LENGTH } else { 0 }
}

/// Writes the checksum of the `length` bytes at `position` behind them. The caller has reserved room for both.
#[cold]
pub(super) fn write(memory: &Memory, position: Position, length: u32) {
    let sum = sum(memory, position, length).to_le_bytes();
    let start = memory.payload(position, length + CHECKSUM_LENGTH);
    // SAFETY: the payload of the reservation is `length` and these four bytes long, and no slice of ours overlaps them.
    unsafe { copy::into_shared(&sum, start.add(length as usize).as_ptr()) };
}

/// The record of the message alone; `None` when its bytes are not those that were committed.
#[cold]
fn verify(memory: &Memory, record: Record) -> Option<Record> {
    let alone = without(record)?;
    let (length, mut found) = (alone.length(), [0; CHECKSUM_LENGTH as usize]);
    let start = memory.payload(record.position, record.length());
    // SAFETY: the payload lies in the ring, is `length` and these four bytes long, and no slice of ours overlaps it.
    unsafe { copy::out_of_shared(start.add(length as usize).as_ptr(), &mut found) };
    (u32::from_le_bytes(found) == sum(memory, record.position, length)).then_some(alone)
}

/// The record without the checksum; `None` when it has none.
fn without(record: Record) -> Option<Record> {
    let Record { position, end, info } = record;
    let length = info.length().checked_sub(CHECKSUM_LENGTH)?;
    let info = Info::new(length, info.kind(), info.owner(), info.previous());
    Some(Record { position, end, info })
}

/// CRC-32C of the first `length` bytes of a payload that has four more.
fn sum(memory: &Memory, position: Position, length: u32) -> u32 {
    let start = memory.payload(position, length + CHECKSUM_LENGTH);
    let mut chunk = [0; CHUNK as usize];
    (0..length).step_by(CHUNK as usize).fold(0, |sum, at| {
        let part = &mut chunk[..(length - at).min(CHUNK) as usize];
        // SAFETY: the payload is `length` bytes long and lies in the ring, which no slice of ours overlaps.
        unsafe { copy::out_of_shared(start.add(at as usize).as_ptr(), part) };
        crc32c::crc32c_append(sum, part)
    })
}

impl<P: Trust> Receiver<P> {
    /// The record as it is given, once it is verified. A damaged one is released.
    #[cold]
    pub(super) fn verified(&mut self, record: Record) -> Result<Record, RecvError> {
        verify(self.memory(), record).ok_or_else(|| {
            self.release(record.end, 1, record.length().saturating_sub(CHECKSUM_LENGTH).into());
            RecvError::Damaged { sequence: record.position.units() }
        })
    }

    /// The record as it would be given as the next one; `None` when it is damaged.
    pub(super) fn opened(&self, record: Record) -> Option<Record> {
        if self.inner().header.checksummed { verify(self.memory(), record) } else { Some(record) }
    }

    /// What was opened before, anew.
    pub(super) fn reopened(&self, record: Record) -> Option<Record> {
        if self.inner().header.checksummed { without(record) } else { Some(record) }
    }
}
