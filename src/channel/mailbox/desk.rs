//! What a handle, and all that it holds, have of a mailbox.

use crate::{
    channel::{
        attach::{self, Attachment},
        ring::Inner,
    },
    layout::{Counts, Slot},
    ring::{
        claim,
        mailbox::{self, Area, Held, Label, Pick, Seat},
    },
    sync::AtomicU64,
    sys::fork::Generation,
    wait::{Dormitory, SeatedSleeper},
};

/// What a sender sleeps for, as it stands in the slot's word.
pub(super) const MUCH_ROOM: u64 = 0;
pub(super) const ANY_ROOM: u64 = 1;

/// A seat that is held, and its share of the mailbox: lives until the handle and all that it holds are dropped.
pub(super) struct Desk {
    pub(super) attachment: Attachment,
    pub(super) area: Area,
    pub(super) seat: Seat,
    generation: Generation,
}

impl Desk {
    pub(super) fn new(attachment: Attachment, area: Area, seat: Seat) -> Self {
        Self { attachment, area, seat, generation: Generation::current() }
    }

    /// Whether this is the process that took the seat, and not a forked child.
    #[inline]
    pub(super) fn is_ours(&self) -> bool {
        self.generation.lasts()
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.attachment.inner
    }

    pub(super) fn slot(&self) -> Option<&Slot> {
        self.inner().memory.slot(self.seat.number)
    }

    pub(super) fn dormitory<'m>(&'m self, mask: &'m AtomicU64) -> Dormitory<'m> {
        Dormitory { memory: &self.inner().memory, mask, scope: self.inner().scope }
    }

    pub(super) fn receivers(&self) -> Dormitory<'_> {
        self.dormitory(&self.area.desk().receivers)
    }

    pub(super) fn senders(&self) -> Dormitory<'_> {
        self.dormitory(&self.area.desk().senders)
    }

    /// The cell is free again: wakes a sender, if enough of them are.
    pub(super) fn free(&self, held: Held) {
        if self.generation.lasts() {
            mailbox::free(&self.area, held);
            let a_quarter = u32::from(held.cell) % (self.area.shape().cells / 4).max(1) == 0;
            self.senders().wake_one(self.seat.number, |pick| a_quarter || pick == ANY_ROOM);
        }
    }

    /// The message can be taken anew.
    pub(super) fn give_back(&self, held: Held) {
        if self.generation.lasts() {
            mailbox::give_back(&self.area, held);
            let kind = self.area.label(held.cell).kind;
            self.receivers().wake_one(self.seat.number, |pick| Pick::decode(pick).takes(kind));
        }
    }

    /// Puts in order what those have left of whose death there is news, and wakes everybody for it.
    pub(super) fn hear(&self) {
        let (vigil, memory) = (&self.attachment.vigil, &self.inner().memory);
        if !vigil.has_news() {
            return;
        }
        let mut buried = false;
        for (number, slot) in memory.all_slots().filter(|(number, _)| *number != self.seat.number) {
            let recover = |seen| {
                mailbox::recover(&self.area, Seat::new(number, seen));
                buried = true;
            };
            attach::bury_dead(slot, recover, |owner| vigil.is_dead(owner));
        }
        vigil.bury(memory.all_slots().map(|(_, slot)| &slot.claim));
        if buried {
            self.receivers().wake_all();
            self.senders().wake_all();
        }
    }

    pub(super) fn sleeper<'a>(
        &'a self,
        dormitory: Dormitory<'a>,
        slot: &'a Slot,
        counts: &'a Counts,
        pick: u64,
    ) -> SeatedSleeper<'a> {
        let vigil = &self.attachment.vigil;
        SeatedSleeper {
            dormitory,
            slot,
            bit: self.seat.bit(),
            pick,
            eager_pick: pick,
            eager_after: None,
            news: &vigil.deaths.news,
            counts,
            slice: vigil.slice(),
        }
    }

    /// Who held this seat when the state was written; 0 when another one has it since.
    pub(super) fn process_at(&self, seat: Seat) -> u32 {
        let seen = self.inner().memory.slot(seat.number).map(|slot| claim::seen(&slot.claim));
        let same = seen.filter(|&seen| Seat::new(seat.number, seen) == seat);
        same.and_then(|seen| seen.claim().owner()).map_or(0, |owner| owner.pid())
    }

    pub(super) fn label(&self, cell: u16) -> Label {
        self.area.label(cell)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if self.generation.lasts() {
            mailbox::open_to_all(&self.area, self.seat);
        }
    }
}
