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
    /// Of a record that fills it. Of several: of an empty one.
    pub(crate) info: Info,
}

/// Longest payload, in bytes, of a record that prefetches: behind longer ones the processor sees the pattern by itself.
const PREFETCH_UP_TO: u32 = 1024;
/// Units from a record to the line that it prefetches: 16 lines.
const PREFETCH_AHEAD: u64 = 128;

/// How much is to be reserved. Both of one width: such a value travels in registers.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Room for a record with a payload of so many bytes, at most the ring's longest.
    Record(u64),
    /// So many units, from 2 to the ring's capacity, for records to be placed one behind the other.
    Units(u64),
}

impl Need {
    /// Units that this is at a position.
    #[inline(always)]
    pub(super) fn units_at(self, memory: &Memory, position: Position) -> u64 {
        match self {
            Self::Record(length) => memory.geometry().size_units(position, length),
            Self::Units(units) => units,
        }
    }

    /// What was found for it: `units` at `start`.
    #[inline(always)]
    pub(super) fn met(self, start: Position, units: u64, owner: u8, previous: u8) -> Reserved {
        let room = match self {
            Self::Record(length) => length as u32,
            Self::Units(_) => 0,
        };
        Reserved { start, units, info: Info::new(room, 0, owner, previous) }
    }
}

/// The ring has no room for a reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl Reserved {
    /// No stretch.
    pub(crate) const NONE: Self = Self { start: Position::new(0), units: 0, info: Info::new(0, 0, 0, 0) };

    #[inline]
    pub(crate) fn end(&self) -> Position {
        self.start.plus(self.units)
    }

    /// What the header of a record at `at` says: the sender before the first record of the stretch is another, before the
    /// others it is this one.
    #[inline]
    pub(crate) fn info_at(&self, at: Position, length: u32, kind: u16) -> Info {
        let owner = self.info.owner();
        let previous = if at == self.start { self.info.previous() } else { owner };
        Info::new(length, kind, owner, previous)
    }

    /// Writes the header of a record at `at`, inside the stretch. The first record stays invisible, and so do the ones
    /// behind it, until [`Reserved::publish`].
    #[inline]
    pub(crate) fn place(&self, memory: &Memory, at: Position, info: Info) {
        memory.set_info(at, info);
        if at != self.start {
            memory.set_state(at, State::Committed);
        }
        if info.length() <= PREFETCH_UP_TO {
            memory.prefetch_to_write(at.plus(PREFETCH_AHEAD));
        }
    }

    /// Shows the receiver all records of the stretch at once.
    #[inline(always)]
    pub(super) fn publish(&self, memory: &Memory) {
        memory.set_state(self.start, State::Committed);
    }

    /// The receiver passes over what is behind `used`, as soon as it comes there.
    #[cold]
    pub(super) fn leave_out(&self, memory: &Memory, used: Position) {
        let rest = self.end().since(used);
        memory.discard(used, self.info_at(used, rest as u32, 0));
    }

    /// Gives the whole stretch up: the receiver passes over it.
    pub(super) fn abandon(&self, memory: &Memory) {
        memory.discard(self.start, self.info_at(self.start, self.units as u32, 0));
    }
}

/// A sender of either kind. At most one reservation is open at a time: one that was leaked must be abandoned before the
/// next.
pub trait Produce {
    /// Reserves room, while nothing is reserved. Lock-free; never blocks.
    fn reserve(&mut self, need: Need) -> Result<Reserved, Full>;

    /// What is reserved.
    fn open(&self) -> Reserved;

    /// Publishes what was placed, up to `used`.
    fn publish(&mut self, reserved: Reserved, used: Position);

    /// Gives up what is reserved, if anything is. True when the receiver may have waited for it.
    fn abandon(&mut self) -> bool;

    /// That of the ring.
    fn memory(&self) -> &Memory;

    /// Shows the receiver up to where the ring is in use: it wakes a sender that waits for room when half of it is free.
    fn show_tail(&self);

    /// Asked when there is no room: whether the receiver must be woken, if it sleeps. It may have looked where it could not see what it
    /// has to pass over.
    fn has_to_remind(&mut self) -> bool {
        false
    }

    /// Whether the last reservation failed because the system gives no memory.
    fn is_starved(&self) -> bool {
        false
    }

    /// Slot number of this sender.
    fn slot(&self) -> u8;

    /// False as long as it has taken none: then it finds no room.
    fn has_slot(&self) -> bool {
        true
    }
}
