//! The oldest record that is still whole, in a ring for many readers: the sender raises it *before* it writes over a
//! record. So whoever has copied one and then finds the floor at or before it has copied it whole.

use super::{
    memory::Memory,
    position::Position,
    receive::{self, Look},
};
use crate::sync::{Ordering::*, fence, spin_loop};

/// How often a floor that changes is read again. Only a hostile sender changes it so fast.
const READS: u32 = if cfg!(ringpost_loom) { 3 } else { 1 << 16 };

/// A record, and how many messages were before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Floor {
    pub(crate) position: Position,
    pub(crate) number: u64,
}

impl Floor {
    pub(crate) fn read(memory: &Memory) -> Self {
        let words = &memory.receiver().floor;
        let mut floor = Self { position: Position::new(0), number: 0 };
        for _ in 0..READS {
            // ORDERING: Acquire L2; pairs with Release L1 in `show`: the entry that stands is whole.
            let index = words.index.load(Acquire);
            let entry = &words.entries[index as usize & 1];
            // ORDERING: Relaxed; L2 before, O2 behind.
            let (position, number) = (entry.position.load(Relaxed), entry.number.load(Relaxed));
            floor = Self { position: Position::new(position), number };
            // ORDERING: O2, Acquire fence; pairs with O1 in `show`: who has read an entry that was being written finds another
            // index than it had read. And with O1 in `Producer::look_for_room`: so does who has read, before this call, what
            // was being written over.
            fence(Acquire);
            // ORDERING: Relaxed; O2.
            if words.index.load(Relaxed) == index {
                break;
            }
            spin_loop();
        }
        floor
    }

    /// Makes it the floor that stands. The caller is the only sender; before it writes over anything, J1 must follow.
    fn show(self, memory: &Memory) {
        let words = &memory.receiver().floor;
        // ORDERING: Relaxed; only the sender writes it, and it holds the claim.
        let index = words.index.load(Relaxed).wrapping_add(1);
        let entry = &words.entries[index as usize & 1];
        // ORDERING: O1, Release fence; pairs with O2 in `read`: the other entry stands since before this one is written.
        fence(Release);
        // ORDERING: Relaxed; O1 before, L1 behind.
        entry.position.store(self.position.units(), Relaxed);
        // ORDERING: as above.
        entry.number.store(self.number, Relaxed);
        // ORDERING: Release L1; pairs with Acquire L2 in `read`.
        words.index.store(index, Release);
    }

    /// Passes over records until at most `goal` units from the floor to `tail` are left, or `least` would not be any
    /// more.
    pub(super) fn raise(&mut self, memory: &Memory, tail: Position, goal: u64, least: u64) {
        let before = self.position;
        while tail.since(self.position) > goal.max(least) {
            let (end, messages) = match receive::look_at(memory, self.position) {
                Ok(Look::Message(record)) => (record.end, 1),
                Ok(Look::Nothing(behind)) => (behind, 0),
                // A reader has damaged the ring.
                Ok(Look::Empty) | Err(_) => (tail.back(least), 0),
            };
            let left = tail.since(end);
            if left < least {
                break;
            }
            let is_sound = left < tail.since(self.position);
            self.position = if is_sound { end } else { tail.back(least) };
            self.number = self.number.wrapping_add(messages);
        }
        if self.position != before {
            self.show(memory);
        }
    }
}
