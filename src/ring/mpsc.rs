//! Many senders in one total order: space is checked before a CAS on the tail reserves it, and an intent stored before
//! the CAS names the owner of the reservation from its first moment.

use super::{
    elastic::Shortage,
    memory::Memory,
    offer::Offer,
    position::{Position, UNIT},
    record::State,
    reserve::{Full, Produce, Reserved},
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

    /// `units` tells how much is to be reserved at a given position.
    #[inline]
    fn take(&mut self, units: impl Fn(Position) -> u64) -> Result<Reserved, Full> {
        let memory = &*self.memory;
        let Some(mine) = memory.slot(self.slot) else { return Err(Full) };
        let capacity = memory.geometry().capacity_units();
        // ORDERING: Relaxed; a stale tail makes the CAS fail, and the space is acquired with the head (S1).
        let mut seen = memory.senders().tail.load(Relaxed);
        loop {
            let (tail, previous) = Position::split(seen);
            let units = units(tail);
            if tail.since(self.head) + units > capacity {
                self.starved = false;
                let head = memory.room_from();
                let used = tail.since(head);
                if used > capacity {
                    // The receiver has passed this tail: it is stale. (Or a hostile position: then the ring is full.)
                    // ORDERING: Relaxed, as above.
                    let again = memory.senders().tail.load(Relaxed);
                    if again == seen {
                        return Err(Full);
                    }
                    seen = again;
                    continue;
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
            }
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
            match memory.senders().tail.compare_exchange_weak(seen, next, Release, Relaxed) {
                Ok(_) => {
                    let reserved = Reserved::new(tail, units, self.slot, previous);
                    self.open = reserved;
                    return Ok(reserved);
                }
                Err(now) => seen = now,
            }
        }
    }
}

impl Produce for Producer {
    #[inline]
    fn reserve(&mut self, length: u32) -> Result<Reserved, Full> {
        self.abandon();
        let geometry = self.memory.geometry();
        self.take(|at| geometry.size_units(at, length as u64))
    }

    fn reserve_units(&mut self, units: u64) -> Result<Reserved, Full> {
        self.abandon();
        self.take(|_| units)
    }

    #[inline]
    fn publish(&mut self, reserved: Reserved, used: Position) {
        reserved.publish(&self.memory, used);
        self.open = Reserved::NONE;
    }

    #[inline]
    fn abandon(&mut self) -> bool {
        if self.open.units == 0 {
            return false;
        }
        self.open.abandon(&self.memory);
        self.open = Reserved::NONE;
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
}

impl Offer for Producer {
    fn offer(&mut self, reserved: Reserved) {
        self.memory.set_state(reserved.start, State::Offered);
        self.open = Reserved::NONE;
    }
}
