//! What both kinds of sender do with a stretch of the ring once it is theirs.

use super::{
    memory::Memory,
    position::Position,
    record::{Info, State},
};

/// A stretch of the ring that belongs to one sender until it is published or discarded.
#[derive(Clone, Copy, Debug)]
pub struct Reserved {
    pub(crate) start: Position,
    /// Units up to its end.
    pub(crate) units: u64,
    /// `owner << 8 | previous`, as in the info word. A whole word, so that copies of it are never partial loads.
    pub(super) names: u64,
}

/// Longest payload, in bytes, of a record that prefetches: behind longer ones the processor sees the pattern by itself.
const PREFETCH_UP_TO: u32 = 1024;
/// Units from a record to the line that it prefetches: 6 lines.
const PREFETCH_AHEAD: u64 = 48;

/// The ring has no room for a reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl Reserved {
    /// No stretch.
    pub(super) const NONE: Self = Self { start: Position::new(0), units: 0, names: 0 };

    #[inline]
    pub(super) fn new(start: Position, units: u64, owner: u8, previous: u8) -> Self {
        Self { start, units, names: (owner as u64) << 8 | previous as u64 }
    }

    #[inline]
    pub(crate) fn end(&self) -> Position {
        self.start.plus(self.units)
    }

    /// What the header at `at` says: the sender before the first record of the stretch is another, before the others it
    /// is this one.
    #[inline]
    fn info(&self, at: Position, length: u32, kind: u16) -> Info {
        let owner = (self.names >> 8) as u8;
        let previous = if at == self.start { self.names as u8 } else { owner };
        Info::new(length, kind, owner, previous)
    }

    /// Writes the header of a record at `at`, inside the stretch. The first record stays invisible, and so do the ones
    /// behind it, until [`Reserved::publish`].
    #[inline]
    pub(crate) fn place(&self, memory: &Memory, at: Position, length: u32, kind: u16) {
        memory.set_info(at, self.info(at, length, kind));
        if at != self.start {
            memory.set_state(at, State::Committed);
        }
        if length <= PREFETCH_UP_TO {
            memory.prefetch_to_write(at.plus(PREFETCH_AHEAD));
        }
    }

    /// Shows the receiver all records of the stretch at once. They end at `used`; what is behind is passed over.
    #[inline]
    pub(super) fn publish(&self, memory: &Memory, used: Position) {
        let rest = self.end().since(used);
        if rest != 0 {
            memory.discard(used, self.info(used, rest as u32, 0));
        }
        memory.set_state(self.start, State::Committed);
    }

    /// Gives the whole stretch up: the receiver passes over it.
    pub(super) fn abandon(&self, memory: &Memory) {
        memory.discard(self.start, self.info(self.start, self.units as u32, 0));
    }
}

/// A sender of either kind. At most one reservation is open at a time: one that was leaked is abandoned by the next
/// call.
pub trait Produce {
    /// Reserves room for a record with a payload of `length` bytes (at most the ring's longest). Lock-free; never blocks.
    fn reserve(&mut self, length: u32) -> Result<Reserved, Full>;

    /// Reserves `units` (from 2 to the ring's capacity) for records to be placed one behind the other.
    fn reserve_units(&mut self, units: u64) -> Result<Reserved, Full>;

    /// Publishes what was placed, up to `used`.
    fn publish(&mut self, reserved: Reserved, used: Position);

    /// Gives up an open reservation, also one that was leaked. True when the receiver may have waited for it.
    fn abandon(&mut self) -> bool;

    /// Bytes in use as of the last look at the receiver's position.
    fn memory(&self) -> &Memory;

    /// Shows the receiver up to where the ring is in use: it wakes a sender that waits for room when half of it is free.
    fn show_tail(&self);

    /// Whether the last reservation failed because the system gives no memory.
    fn is_starved(&self) -> bool {
        false
    }

    /// Slot number of this sender.
    fn slot(&self) -> u8;
}
