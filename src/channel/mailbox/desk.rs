//! What a handle, and all that it holds, have of a mailbox.

use crate::{
    channel::{
        attach::{self, Attachment},
        ring::Inner,
    },
    layout::{Counts, Slot},
    ring::{
        claim,
        mailbox::{
            self, Area, Held, Label, Phase, Pick, Seat,
            notice::{self, There},
        },
    },
    sync::{AtomicU64, Ordering::*, fence},
    sys::fork::Generation,
    wait::{Bed, Call, Dormitory, Sleeper},
};

/// What a sender sleeps for, as it stands in the slot's word.
pub(super) const MUCH_ROOM: u64 = 0;
pub(super) const ANY_ROOM: u64 = 1;
/// Of who sleeps to be told, and takes nothing.
pub(super) const IS_TOLD: u64 = 1 << 32;

/// Whether who sleeps for this takes messages of this kind.
pub(super) fn takes(pick: u64, kind: u16) -> bool {
    pick & IS_TOLD == 0 && Pick::decode(pick).takes(kind)
}

/// A seat that is held, and its share of the mailbox: lives until the handle and all that it holds are dropped.
pub(super) struct Desk {
    pub(super) attachment: Attachment,
    pub(super) area: Area,
    pub(super) seat: Seat,
    pub(in crate::channel) generation: Generation,
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

    /// Tells the mailbox from every other.
    pub(super) fn instance(&self) -> u64 {
        self.inner().header.instance
    }

    pub(super) fn slot(&self) -> Option<&Slot> {
        self.inner().memory.slot(self.seat.number)
    }

    pub(super) fn dormitory<'m>(&'m self, mask: &'m AtomicU64) -> Dormitory<'m> {
        Dormitory { memory: &self.inner().memory, mask, scope: self.inner().scope }
    }

    pub(super) fn receivers(&self) -> Dormitory<'_> {
        self.dormitory(&self.area.common().receivers)
    }

    pub(super) fn senders(&self) -> Dormitory<'_> {
        self.dormitory(&self.area.common().senders)
    }

    /// The cell is free again: wakes a sender, if enough of them are.
    pub(super) fn free(&self, held: Held) {
        if self.generation.lasts() {
            mailbox::free(&self.area, held);
            let a_quarter = u32::from(held.cell) % (self.area.shape().cells / 4).max(1) == 0;
            self.senders().wake_one(self.seat.number, |pick| a_quarter || pick == ANY_ROOM);
            if notice::is_anybody_registered(&self.area) {
                self.look_whether_empty();
            }
        }
    }

    /// Due from who has freed a cell, or has registered to be told.
    #[cold]
    pub(super) fn look_whether_empty(&self) {
        if let Some(message) = notice::arm(&self.area) {
            self.call_for(message);
        }
    }

    /// A receiver is called for the message; or who is to be told of it, is told.
    fn call_for(&self, message: There) {
        let kind = notice::kind(&self.area, message);
        let called = self.receivers().wake_one(self.seat.number, |pick| takes(pick, kind));
        self.tell_of(message, called);
    }

    /// Tells who is to be told of a message, unless a receiver was `called` for it.
    #[cold]
    pub(super) fn tell_of(&self, message: There, called: bool) {
        if notice::tell(&self.area, message, called) {
            self.receivers().wake_each(|pick| pick & IS_TOLD != 0);
        }
    }

    /// Who was called for a message has not taken it.
    #[cold]
    pub(super) fn call_again(&self) {
        if notice::is_anybody_registered(&self.area)
            && let Some(message) = notice::call_again(&self.area)
        {
            self.call_for(message);
        }
    }

    /// The message can be taken anew.
    pub(super) fn give_back(&self, held: Held) {
        if self.generation.lasts() {
            mailbox::give_back(&self.area, held);
            let kind = self.area.label(held.cell).kind;
            self.receivers().wake_one(self.seat.number, |pick| takes(pick, kind));
        }
    }

    /// Puts in order what those have left of whose death there is news, and wakes everybody for it.
    #[inline]
    pub(super) fn hear(&self) {
        if self.attachment.vigil.has_news() && self.is_ours() {
            self.bury_all();
        }
    }

    #[cold]
    fn bury_all(&self) {
        let (vigil, memory) = (&self.attachment.vigil, &self.inner().memory);
        let (mut buried, mut called) = (false, false);
        for (number, slot) in memory.all_slots().filter(|(number, _)| *number != self.seat.number) {
            let recover = |seen| {
                called |= was_called(slot);
                mailbox::recover(&self.area, number, &slot.claim, seen);
                buried = true;
            };
            attach::bury_dead(slot, recover, |owner| vigil.is_dead(owner));
        }
        vigil.bury(memory.all_slots().map(|(_, slot)| &slot.claim));
        if buried {
            self.call_for_the_dead(called);
        }
    }

    /// For what dead holders of seats have left, of whom one was `called` for a message, or none.
    pub(super) fn call_for_the_dead(&self, called: bool) {
        self.receivers().wake_all();
        self.senders().wake_all();
        // It may have died before it called anybody for what it had sent.
        if called {
            self.call_again();
        } else if let Some(message) = notice::first_for_the_armed(&self.area) {
            self.call_for(message);
        }
    }

    /// Who sleeps at this seat for what `pick` says, and, once it is eager, for what `eager_pick` says.
    pub(super) fn sleeper<'a>(
        &'a self,
        dormitory: Dormitory<'a>,
        slot: &'a Slot,
        counts: &'a Counts,
        (pick, eager_pick): (u64, u64),
    ) -> Sleeper<'a> {
        let bed = Bed { dormitory, slot, bit: self.seat.bit(), pick, eager_pick };
        self.attachment.vigil.sleeper(Call::Bed(bed), counts)
    }

    /// For another sender, when this one was called for room and leaves: it may have been called for more than it took.
    pub(super) fn pass_room_on(&self) {
        // ORDERING: G1, as the second look of a sleeper: either who frees a cell sees that this one is up, or this look sees it free.
        fence(SeqCst);
        if self.area.cells().any(|cell| self.area.state(cell).phase() == Phase::Free) {
            self.senders().wake_one(self.seat.number, |_| true);
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

/// Whether the one at this seat, who is dead, was called since it last lay down to sleep: it may have left since, in vain.
pub(super) fn was_called(slot: &Slot) -> bool {
    // ORDERING: Relaxed; written by one that is dead by proof, and by who has called it, which nobody waits for.
    let bed = slot.bed.load(Relaxed);
    bed != 0 && bed & 1 == 0
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::Pick;
    use crate::channel::builder;

    #[test]
    fn who_has_half_of_a_small_mailbox_before_it_has_not_caught_up() {
        let ring = builder::unnamed().mailbox(16).memfd().unwrap();
        let [mut sender, mut receiver] = [(); 2].map(|()| ring.mailbox().unwrap());
        let mut caught_up = || {
            let area = &receiver.desk.area;
            let found = receiver.clerk.find(area, Pick::Any).unwrap();
            let taken = receiver.clerk.take(area, found).unwrap();
            let caught_up = receiver.clerk.has_caught_up(area, taken);
            receiver.desk.free(taken);
            caught_up
        };
        // Also in the second lap, over the entries of the first.
        for _ in 0..5 {
            for _ in 0..11 {
                sender.send(0, b"").unwrap();
            }
            // 10 and 9 and 8 are left behind it, then 7.
            assert_eq!([(); 4].map(|()| caught_up()), [false, false, false, true]);
            assert!((0..7).all(|_| caught_up()));
        }
    }
}
