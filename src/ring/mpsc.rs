//! Many senders in one total order: space is checked before a CAS on the tail reserves it, and an intent stored before
//! the CAS names the owner of the reservation from its first moment.

use super::{
    elastic::Shortage,
    memory::Memory,
    offer::Offer,
    position::{Position, UNIT},
    record::State,
    reserve::{Full, Need, Produce, Reserved},
};
use crate::sync::Ordering::*;
use std::sync::Arc;

/// One of the sending ends of a ring with many senders.
pub struct Producer {
    memory: Arc<Memory>,
    slot: u8,
    /// The receiver's position, as last seen. Elastic: earlier, so that what is free has memory.
    head: Position,
    starved: bool,
    /// Empty when there is none.
    open: Reserved,
}

impl Producer {
    /// The caller must hold the claim of `slot`, which exists.
    pub(crate) fn attach(memory: Arc<Memory>, slot: u8) -> Self {
        assert!(memory.slot(slot).is_some());
        let mut head = memory.head();
        if memory.elastic().is_some() {
            // What has memory is found out with the first reservation: no tail is so far behind.
            head = head.back(memory.geometry().capacity_units());
        }
        Self { memory, slot, head, starved: false, open: Reserved::NONE }
    }

    /// One that has no slot yet, and finds no room.
    pub(crate) fn unused(memory: Arc<Memory>) -> Self {
        // No tail is so far behind: it has to look for room.
        let head = memory.head().back(memory.geometry().capacity_units());
        Self { memory, slot: 0, head, starved: false, open: Reserved::NONE }
    }

    /// Whether there is room for so many units at the tail, which was `seen`. Gives the tail with which to go on.
    #[cold]
    fn look_for_room(&mut self, seen: u64, units: u64) -> Result<u64, Full> {
        let memory = &*self.memory;
        let Some(mine) = memory.slot(self.slot) else { return Err(Full) };
        let capacity = memory.geometry().capacity_units();
        let (tail, _) = Position::split(seen);
        self.starved = false;
        let head = memory.room_from();
        let used = tail.since(head);
        if used > capacity {
            // The receiver has passed this tail: it is stale. (Or a hostile position: then the ring is full.)
            // ORDERING: Relaxed, as in `reserve`.
            let again = memory.senders().tail.load(Relaxed);
            return if again == seen { Err(Full) } else { Ok(again) };
        }
        mine.counts.high_water.raise_to(used * UNIT);
        if used + units > capacity {
            return Err(Full);
        }
        self.head = match memory.elastic() {
            None => head,
            Some(elastic) => {
                // Before the CAS: whoever finds the tail there, and the receiver, look at the header behind it.
                let backed = elastic.back(memory, head, tail, units);
                self.starved = backed == Err(Shortage::Memory);
                backed.map_err(|_| Full)?
            }
        };
        Ok(seen)
    }
}

impl Produce for Producer {
    #[inline(always)]
    fn reserve(&mut self, need: Need) -> Result<Reserved, Full> {
        debug_assert!(self.open.units == 0);
        // ORDERING: Relaxed; a stale tail makes the CAS fail, and the space is acquired with the head (S1).
        let mut seen = self.memory.senders().tail.load(Relaxed);
        loop {
            let (tail, previous) = Position::split(seen);
            let units = need.units_at(&self.memory, tail);
            if tail.since(self.head) + units > self.memory.geometry().capacity_units() {
                let now = self.look_for_room(seen, units)?;
                if now != seen {
                    seen = now;
                    continue;
                }
            }
            let Some(mine) = self.memory.slot(self.slot) else { return Err(Full) };
            let end = tail.plus(units);
            // The end first: it must never be before the end of anything that this sender has reserved.
            // ORDERING: Relaxed; released with the intent's tail below.
            mine.intent_end.store(end.units(), Relaxed);
            // ORDERING: Release I1; pairs with Acquire I2 in `recovery`: whoever sees this intent sees its end, and the
            // record that this sender committed before.
            mine.intent_tail.store(seen, Release);
            let next = end.with_low_byte(self.slot);
            // ORDERING: Release T1; pairs with Acquire T2 in `recovery`: whoever sees the tail past a reservation sees the
            // intent of its owner. Relaxed on failure: only compared again.
            match self.memory.senders().tail.compare_exchange_weak(seen, next, Release, Relaxed) {
                Ok(_) => {
                    let reserved = need.met(tail, units, self.slot, previous);
                    self.open = reserved;
                    return Ok(reserved);
                }
                Err(now) => seen = now,
            }
        }
    }

    #[inline(always)]
    fn open(&self) -> Reserved {
        self.open
    }

    #[inline(always)]
    fn publish(&mut self, reserved: Reserved, used: Position) {
        if used != reserved.end() {
            reserved.leave_out(&self.memory, used);
        }
        reserved.publish(&self.memory);
        self.open.units = 0;
    }

    fn abandon(&mut self) -> bool {
        if self.open.units == 0 {
            return false;
        }
        self.open.abandon(&self.memory);
        self.open.units = 0;
        true
    }

    /// They share the tail anyway.
    fn show_tail(&self) {}

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn is_starved(&self) -> bool {
        self.starved
    }

    fn slot(&self) -> u8 {
        self.slot
    }

    fn has_slot(&self) -> bool {
        self.slot != 0
    }
}

impl Offer for Producer {
    fn offer(&mut self, reserved: Reserved) {
        self.memory.set_state(reserved.start, State::Offered);
        self.open.units = 0;
    }
}
