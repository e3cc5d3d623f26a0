//! One sender: the tail is private, the tag alone publishes.

use super::{
    claim,
    elastic::{self, Shortage},
    memory::Memory,
    offer::Offer,
    position::{Position, UNIT},
    receive,
    record::State,
    recovery,
    reserve::{Full, Need, Produce, Reserved},
};
use crate::sync::Ordering::*;
use std::sync::Arc;

/// The slot of the only sender.
pub(crate) const SLOT: u8 = 1;

/// The sending end of a ring with one sender.
pub struct Producer {
    memory: Arc<Memory>,
    /// What its records say of their sender.
    name: u8,
    tail: Position,
    /// The receiver's position, as last seen. Elastic: earlier, so that what is free has memory.
    head: Position,
    starved: bool,
    /// Empty when there is none.
    open: Reserved,
}

impl Producer {
    /// Goes on where the last sender stopped: behind the last valid record. `crashed` when that sender did not close: a
    /// batch that it was placing may have left valid tags further on. `guarded` when senders show their tail whenever they have
    /// published: all before it was committed, also where a header was damaged since.
    ///
    /// The caller must hold the claim of the only slot.
    pub(crate) fn attach(memory: Arc<Memory>, crashed: bool, guarded: bool) -> Self {
        let mut head = memory.head();
        let first = |head| match guarded {
            true => recovery::shown_ahead(&memory, head).unwrap_or(head),
            false => head,
        };
        let tail = match memory.elastic() {
            None => receive::end_of_records(&memory, head, first(head)),
            Some(elastic) => elastic::end_of_records(&memory, elastic, first),
        };
        let capacity = memory.geometry().capacity_units();
        match memory.elastic() {
            None if crashed => memory.wipe(tail, capacity - tail.since(head)),
            Some(elastic) if crashed => elastic.wipe(&memory, tail),
            _ => {}
        }
        if memory.elastic().is_some() {
            // What has memory is found out with the first reservation.
            head = tail.back(capacity);
        }
        let name = memory.slot(SLOT).map_or(0, |slot| claim::begin_turn(&memory, &slot.claim));
        Self { memory, name, tail, head, starved: false, open: Reserved::NONE }
    }

    #[cold]
    fn look_for_room(&mut self, units: u64) -> Result<(), Full> {
        if let Some(elastic) = self.memory.elastic() {
            let freed = self.memory.room_from();
            self.note_use(self.tail.since(freed));
            let backed = elastic.back(&self.memory, freed, self.tail, units);
            self.starved = backed == Err(Shortage::Memory);
            self.head = backed.map_err(|_| Full)?;
            return Ok(());
        }
        let capacity = self.memory.geometry().capacity_units();
        let head = self.memory.head();
        // A position that is not between the old one and the tail is not the receiver's doing: it counts as no progress.
        if head.since(self.head) <= self.tail.since(self.head) {
            self.head = head;
        }
        let used = self.tail.since(self.head);
        self.note_use(used);
        if used + units > capacity { Err(Full) } else { Ok(()) }
    }

    fn note_use(&self, used: u64) {
        if let Some(slot) = self.memory.slot(SLOT) {
            let capacity = self.memory.geometry().capacity_units();
            slot.counts.high_water.raise_to(used.min(capacity) * UNIT);
        }
    }
}

impl Produce for Producer {
    #[inline(always)]
    fn reserve(&mut self, need: Need) -> Result<Reserved, Full> {
        debug_assert!(self.open.units == 0);
        let units = need.units_at(&self.memory, self.tail);
        if self.tail.since(self.head) + units > self.memory.geometry().capacity_units() {
            self.look_for_room(units)?;
        }
        let reserved = need.met(self.tail, units, self.name, 0);
        self.open = reserved;
        Ok(reserved)
    }

    #[inline(always)]
    fn open(&self) -> Reserved {
        self.open
    }

    #[inline(always)]
    fn publish(&mut self, reserved: Reserved, used: Position) {
        // The end of the stretch was never anybody else's: the tail goes back to what was used.
        reserved.publish(&self.memory);
        self.tail = used;
        self.open.units = 0;
    }

    fn abandon(&mut self) -> bool {
        if self.open.units == 0 {
            return false;
        }
        // A batch may have placed valid tags: pass over them rather than write over them.
        self.open.abandon(&self.memory);
        self.tail = self.open.end();
        self.open.units = 0;
        true
    }

    fn show_tail(&self) {
        // ORDERING: Release T1; pairs with Acquire T2 in `recovery::tail`: what is before it was published. For the receiver that
        // offers room, F1 of the wait that follows orders it.
        self.memory.senders().tail.store(self.tail.with_low_byte(SLOT), Release);
    }

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn is_starved(&self) -> bool {
        self.starved
    }

    fn slot(&self) -> u8 {
        SLOT
    }
}

impl Offer for Producer {
    fn offer(&mut self, reserved: Reserved) {
        self.memory.set_state(reserved.start, State::Offered);
        self.tail = reserved.end();
        self.open.units = 0;
    }
}
