//! Many senders in one total order: space is checked before a CAS on the tail reserves it, and an intent stored before
//! the CAS names the owner of the reservation from its first moment.
//!
//! A sender that has reserved for a while with nobody in between takes the tail as a loan ([`super::loan`]), and needs no CAS until
//! another one reserves.

use super::{
    elastic::Shortage,
    loan,
    memory::Memory,
    offer::Offer,
    position::{Position, UNIT},
    record::State,
    reserve::{Full, Need, Produce, Reserved},
};
use crate::{layout::Slot, sync::Ordering::*, sys::barrier};
use std::sync::Arc;

/// Reservations with nobody in between before the first loan.
const CALM: u32 = if cfg!(ringpost_loom) { 0 } else { 64 };
/// The same, after many loans that were called back: longer than a call takes.
const CALMEST: u32 = if cfg!(ringpost_loom) { 1 } else { CALM << 10 };

/// Most loans that one reservation calls back: between two of them their borrowers have sent for a while.
const RECALLS: u32 = 100;

/// One of the sending ends of a ring with many senders.
pub struct Producer {
    memory: Arc<Memory>,
    slot: u8,
    /// The receiver's position, as last seen. Elastic: earlier, so that what is free has memory.
    head: Position,
    starved: bool,
    /// What this sender's slot says as long as the tail is lent to it; 0 when it is not.
    loan: u64,
    /// Where the tail is then.
    tail: Position,
    /// Reservations since another sender had one in between.
    alone: u32,
    /// More than so many of these make it borrow. Doubled when a loan is called back, which can cost microseconds.
    patience: u32,
    /// Where the receiver was when it was last reminded, and no tail called back since.
    reminded: Option<Position>,
    /// Empty when there is none.
    open: Reserved,
}

impl Producer {
    /// The caller must hold the claim of `slot`, which exists. `may_borrow` where everybody has registered for the heavy fences of
    /// others.
    pub(crate) fn attach(memory: Arc<Memory>, slot: u8, may_borrow: bool) -> Self {
        assert!(memory.slot(slot).is_some());
        let mut head = memory.head();
        if memory.elastic().is_some() {
            // What has memory is found out with the first reservation: no tail is so far behind.
            head = head.back(memory.geometry().capacity_units());
        }
        Self::new(memory, slot, head, if may_borrow { CALM } else { u32::MAX })
    }

    /// One that has no slot yet, and finds no room.
    pub(crate) fn unused(memory: Arc<Memory>) -> Self {
        let head = memory.head();
        Self::new(memory, 0, head, u32::MAX)
    }

    fn new(memory: Arc<Memory>, slot: u8, head: Position, patience: u32) -> Self {
        Self {
            memory,
            slot,
            head,
            starved: false,
            loan: 0,
            tail: head,
            alone: 0,
            patience,
            reminded: None,
            open: Reserved::NONE,
        }
    }

    /// Whether there is room for so many units at `tail`, as far as is known.
    #[inline(always)]
    fn has_room(&self, tail: Position, units: u64) -> bool {
        tail.since(self.head) + units <= self.memory.geometry().capacity_units()
    }

    /// Looks at the receiver's position. False when it has passed this tail, which is stale: or a hostile position, then the ring is
    /// full.
    #[cold]
    fn look_for_room(&mut self, tail: Position, units: u64) -> Result<bool, Full> {
        let memory = &*self.memory;
        let Some(mine) = memory.slot(self.slot) else { return Err(Full) };
        let capacity = memory.geometry().capacity_units();
        self.starved = false;
        let head = memory.room_from();
        let used = tail.since(head);
        if used > capacity {
            return Ok(false);
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
        Ok(true)
    }

    /// Reserves as borrower. `None` when the tail is not lent to this sender, or not any more, and when there is no room as far as
    /// is known.
    #[inline(always)]
    fn reserve_borrowed(&mut self, need: Need) -> Option<Reserved> {
        let tail = self.tail;
        let units = need.units_at(&self.memory, tail);
        if self.loan == 0 || !self.has_room(tail, units) {
            return None;
        }
        let mine = self.memory.slot(self.slot)?;
        let end = tail.plus(units);
        // Where it begins first: until the end is stored, which is the tail, nothing is reserved.
        // ORDERING: Release I1; pairs with Acquire I2 in `recovery`: whoever sees this intent sees the record that this sender
        // committed before.
        mine.intent_tail.store(tail.with_low_byte(self.slot), Release);
        // ORDERING: Release I3; pairs with Acquire I4 in `loan`: whoever sees the end sees where the intent begins.
        mine.intent_end.store(end.units(), Release);
        // ORDERING: F6, compiler fence; pairs with the `membarrier` F5 in `loan::recall`.
        barrier::light();
        if !self.is_lent(mine) {
            return None;
        }
        self.tail = end;
        Some(self.reserved(need, tail, units, self.slot))
    }

    /// Whether the tail is still lent.
    #[inline(always)]
    fn is_lent(&self, mine: &Slot) -> bool {
        // ORDERING: Relaxed; ordered after the end of the intent by F6.
        mine.loan.load(Relaxed) == self.loan
    }

    #[inline(always)]
    fn reserved(&mut self, need: Need, start: Position, units: u64, previous: u8) -> Reserved {
        let reserved = need.met(start, units, self.slot, previous);
        self.open = reserved;
        reserved
    }

    /// A borrower that has found no room, or its loan called back: looks at the receiver's position, and reserves; or gives the loan
    /// back, which decides whether what it has just said to reserve is its own. `None`: from now on it is one of many.
    #[cold]
    fn reserve_or_give_back(&mut self, need: Need) -> Option<Result<(), Full>> {
        let tail = self.tail;
        let units = need.units_at(&self.memory, tail);
        let mut has_said = self.has_room(tail, units);
        if !has_said && self.look_for_room(tail, units) == Ok(true) {
            if self.reserve_borrowed(need).is_some() {
                return Some(Ok(()));
            }
            has_said = true;
        }
        if !has_said && self.memory.slot(self.slot).is_some_and(|mine| self.is_lent(mine)) {
            return Some(Err(Full));
        }
        let end = if has_said { tail.plus(units) } else { tail };
        let returned = loan::give_back(&self.memory, self.slot, self.loan, end);
        self.loan = 0;
        self.alone = 0;
        self.patience = self.patience.saturating_mul(2).min(CALMEST);
        let is_own = has_said && returned == Some(end);
        is_own.then(|| {
            self.reserved(need, tail, units, self.slot);
            Ok(())
        })
    }

    /// Reserves as one of many, or as borrower who does not get on. What is reserved is open then.
    #[inline(always)]
    fn reserve_anew(&mut self, need: Need) -> Result<(), Full> {
        if self.loan != 0
            && let Some(done) = self.reserve_or_give_back(need)
        {
            return done;
        }
        if !self.has_slot() {
            return Err(Full);
        }
        // ORDERING: Relaxed; a stale tail makes the CAS fail, and the space is acquired with the head (S1).
        let mut seen = self.memory.senders().tail.load(Relaxed);
        let mut recalls = 0;
        loop {
            if loan::borrower(seen).is_some() {
                loan::recall(&self.memory, seen);
                self.reminded = None;
                // ORDERING: Relaxed, as above.
                let now = self.memory.senders().tail.load(Relaxed);
                recalls += 1;
                if now == seen || recalls > RECALLS {
                    // A hostile process keeps it lent, or nobody can call it back: then the ring is full.
                    return Err(Full);
                }
                seen = now;
                continue;
            }
            let (tail, previous) = Position::split(seen);
            let units = need.units_at(&self.memory, tail);
            if !self.has_room(tail, units) && !self.look_for_room(tail, units)? {
                // ORDERING: Relaxed, as above.
                let again = self.memory.senders().tail.load(Relaxed);
                if again == seen {
                    return Err(Full);
                }
                seen = again;
                continue;
            }
            let Some(mine) = self.memory.slot(self.slot) else { return Err(Full) };
            let end = tail.plus(units);
            // The end first: it must never be before the end of anything that this sender has reserved.
            // ORDERING: Relaxed; released with the intent's tail below.
            mine.intent_end.store(end.units(), Relaxed);
            // ORDERING: Release I1; pairs with Acquire I2 in `recovery`: whoever sees this intent sees its end, and the
            // record that this sender committed before.
            mine.intent_tail.store(seen, Release);
            self.alone = if previous == self.slot { self.alone.saturating_add(1) } else { 0 };
            let borrows = self.alone > self.patience;
            let (loan, next) = match borrows {
                true => (loan::standing(end), loan::lent_tail(self.slot, end)),
                false => (0, end.with_low_byte(self.slot)),
            };
            if borrows {
                // ORDERING: Release D1; pairs with Acquire D2 in `loan`: whoever sees this loan sees that the one before is over.
                mine.loan.store(loan, Release);
            }
            // ORDERING: Release T1; pairs with Acquire T2 in `recovery`: whoever sees the tail past a reservation sees the
            // intent of its owner. Relaxed on failure: only compared again.
            match self.memory.senders().tail.compare_exchange_weak(seen, next, Release, Relaxed) {
                Ok(_) => {
                    (self.loan, self.tail) = (loan, end);
                    self.reserved(need, tail, units, previous);
                    return Ok(());
                }
                Err(now) => seen = now,
            }
        }
    }
}

impl Produce for Producer {
    #[inline(always)]
    fn reserve(&mut self, need: Need) -> Result<Reserved, Full> {
        debug_assert!(self.open.units == 0);
        if let Some(reserved) = self.reserve_borrowed(need) {
            return Ok(reserved);
        }
        self.reserve_anew(need)?;
        Ok(self.open)
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

    /// Once for each place where the receiver is: it looks at the tail that is called back as at an empty ring, and is told of nothing
    /// when that is over.
    fn has_to_remind(&mut self) -> bool {
        let head = self.memory.head();
        self.reminded.replace(head) != Some(head)
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
