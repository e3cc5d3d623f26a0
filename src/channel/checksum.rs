//! A checksum behind each message.
//!
//! It stands in the four bytes behind the message's own, and counts to the payload of its record: the protocol of the ring knows
//! nothing of it. The sender writes it when it commits. The receiver verifies it before it gives the message, without it.

use super::{
    builder::Builder,
    copy,
    receiver::{Receiver, corrupt},
    reservation,
    trust::Trust,
};
use crate::{
    error::{OpenError, RecvError},
    header::{CHECKSUM_LENGTH, Header, Kind, mismatch},
    ring::{
        memory::Memory,
        position::{HEADER_UNITS, Position, UNIT},
        receive::{Record, Violation},
        record::Info,
        recovery,
        reserve::Produce,
    },
};

/// Bytes that are looked at in one go, of a short message and of a long one: by copying, since another process may write to them.
const SHORT: usize = 64;
const LONG: usize = 1024;

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

/// Publishes the one record for which room is reserved, with its checksum, and shows the receiver up to where there are records:
/// so that one whose tag is damaged is missed.
#[cold]
pub(super) fn publish_one(producer: &mut impl Produce, info: Info) {
    write(producer.memory(), producer.open().start, info);
    reservation::publish_one(producer, info);
    producer.show_tail();
}

/// Writes the checksum of the record at `position` whose header will be `info`. The caller has reserved room for it.
#[cold]
pub(super) fn write(memory: &Memory, position: Position, info: Info) {
    let Some(length) = info.length().checked_sub(CHECKSUM_LENGTH) else { return };
    let sum = sum(memory, position, info, length).to_le_bytes();
    let start = memory.payload(position, info.length());
    // SAFETY: the payload of the reservation is `length` and these four bytes long, and no slice of ours overlaps them.
    unsafe { copy::into_shared(&sum, start.add(length as usize).as_ptr()) };
}

/// Whether the bytes of the record at `position`, which has this `info`, and its header are those that were committed.
#[cold]
fn is_whole(memory: &Memory, position: Position, info: Info) -> bool {
    let Some(length) = info.length().checked_sub(CHECKSUM_LENGTH) else { return false };
    let mut found = [0; CHECKSUM_LENGTH as usize];
    let start = memory.payload(position, info.length());
    // SAFETY: the payload lies in the ring, is `length` and these four bytes long, and no slice of ours overlaps it.
    unsafe { copy::out_of_shared(start.add(length as usize).as_ptr(), &mut found) };
    u32::from_le_bytes(found) == sum(memory, position, info, length)
}

/// The record of the message alone; `None` when it is damaged.
#[inline(always)]
pub(super) fn verify(memory: &Memory, record: Record) -> Option<Record> {
    if is_whole(memory, record.position, record.info) { without(record) } else { None }
}

/// The record without the checksum; `None` when it has none.
#[inline(always)]
fn without(record: Record) -> Option<Record> {
    let Record { position, end, info } = record;
    let info = info.with_length(info.length().checked_sub(CHECKSUM_LENGTH)?);
    Some(Record { position, end, info })
}

/// CRC-32C of the `length` bytes of a message, of its header, and of where it stands.
fn sum(memory: &Memory, position: Position, info: Info, length: u32) -> u32 {
    let message = if length as usize <= SHORT { sum_by::<SHORT> } else { sum_by::<LONG> };
    with_place(message(memory, position, info, length as usize), position, info)
}

/// The sum of a message, and of its header and where it stands: a message of a lap before whose tag was damaged is none of this one.
fn with_place(sum: u32, position: Position, info: Info) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &info.bytes()), &position.units().to_le_bytes())
}

/// Of the message alone, so many bytes at a time.
fn sum_by<const CHUNK: usize>(memory: &Memory, position: Position, info: Info, length: usize) -> u32 {
    let start = memory.payload(position, info.length());
    let mut chunk = [0; CHUNK];
    (0..length).step_by(CHUNK).fold(0, |sum, at| {
        let part = &mut chunk[..(length - at).min(CHUNK)];
        // SAFETY: the payload is at least `length` bytes long and lies in the ring, which no slice of ours overlaps.
        unsafe { copy::out_of_shared(start.add(at).as_ptr(), part) };
        crc32c::crc32c_append(sum, part)
    })
}

/// The record at `position` as it was committed, if nothing but its tag or its length was damaged since: of all lengths it has the one
/// with which the checksum is right, and the next record begins where it ends.
fn restored(memory: &Memory, position: Position) -> Option<Record> {
    let (geometry, (info, tail)) = (memory.geometry(), recovery::remains(memory, position));
    let tail = tail?;
    let room = (tail.since(position) - HEADER_UNITS) * UNIT;
    let most = room.min(geometry.longest_payload()) as u32;
    let mut bytes = vec![0; most as usize];
    // SAFETY: so many bytes can be the payload of a record at `position`, which no slice of ours overlaps.
    unsafe { copy::out_of_shared(memory.payload(position, most).as_ptr(), &mut bytes) };
    let mut sum = 0;
    for length in CHECKSUM_LENGTH..=most {
        let (message, found) = bytes[..length as usize].split_at((length - CHECKSUM_LENGTH) as usize);
        sum = message.last().map_or(sum, |&last| crc32c::crc32c_append(sum, &[last]));
        let (info, end) =
            (info.with_length(length), position.plus(geometry.size_units(position, length.into())));
        let is_right = with_place(sum, position, info).to_le_bytes() == *found;
        if is_right && recovery::may_end_at(memory, end, tail) {
            return Some(Record { position, end, info });
        }
    }
    None
}

/// What is left of the damaged record at `position`: where it ends, for who goes on behind it; `None` when that can't be told.
/// `claimed` is the record by its header, if that says anything that can be.
#[cold]
fn damaged(memory: &Memory, position: Position, claimed: Option<Record>) -> Option<Record> {
    let is_possible = |record: &Record| {
        let (_, tail) = recovery::remains(memory, position);
        tail.is_none_or(|tail| record.end.since(position) <= tail.since(position))
    };
    restored(memory, position)
        .or_else(|| recovery::filler_before(memory, position).and_then(|before| restored(memory, before)))
        .or_else(|| claimed.filter(is_possible))
}

impl<P: Trust> Receiver<P> {
    /// What was found as it is given, once it is verified. What is damaged is released, where it is known how long it is.
    #[cold]
    pub(super) fn verified(&mut self, found: Result<Record, RecvError>) -> Result<Record, RecvError> {
        let (position, claimed, error) = match found {
            Ok(record) => match verify(self.memory(), record) {
                Some(whole) => return Ok(whole),
                None => {
                    let (position, length) = (record.position, record.length());
                    (position, Some(record), corrupt(Violation { position, length }))
                }
            },
            Err(error @ RecvError::Corrupt { sequence, .. }) => (Position::new(sequence), None, error),
            Err(error) => return Err(error),
        };
        let record = damaged(self.memory(), position, claimed).ok_or(error)?;
        self.release(record.end, 1, record.length().saturating_sub(CHECKSUM_LENGTH).into());
        Err(RecvError::Damaged { sequence: record.position.units() })
    }

    /// Whether nothing says that the record is damaged.
    pub(super) fn is_whole(&self, record: Record) -> bool {
        !self.is_guarded() || verify(self.memory(), record).is_some()
    }

    /// The record of the message alone, which was whole.
    #[inline(always)]
    pub(super) fn unguarded(&self, record: Record) -> Option<Record> {
        if self.is_guarded() { without(record) } else { Some(record) }
    }
}
