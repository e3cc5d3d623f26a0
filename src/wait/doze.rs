//! Sleeping and waking where any number sleep, and a wake is for one of them: the seats of a mailbox.
//!
//! Each seat has a *bed*, a futex word that is odd as long as its holder is to be woken, and a bit in the mask of those who
//! sleep.
//!
//! ```text
//! sleeper   bed: -> odd;  mask: + bit;  fence G1;  look again;  futex_wait(bed, odd)
//! waker     publish;  fence G2;  mask?  a bed that is odd and wants it: -> even;  futex_wake(bed)
//! ```
//!
//! G1 and G2 are one handshake, as F1 and F2 are: either the waker sees the sleeper, or the sleeper's second look sees what
//! was published. The sleeper takes its bit back when it is up. So a waker that finds nobody to be woken, but bits of those
//! who are not up yet, wakes one of them again: the waker before it may have been stopped before its system call.

use crate::{
    layout::Slot,
    ring::{
        claim::{self, Claim},
        memory::Memory,
    },
    sync::{AtomicU32, AtomicU64, Ordering::*, fence},
    sys::futex::{self, Scope},
};

/// Those who sleep for one thing: a message, or room.
#[derive(Clone, Copy)]
pub(crate) struct Dormitory<'m> {
    pub(crate) memory: &'m Memory,
    pub(crate) mask: &'m AtomicU64,
    pub(crate) scope: Scope,
}

impl Dormitory<'_> {
    /// Waker: call after publishing. Wakes one who sleeps for what `wants` says, the seats behind `after` first. One fence and
    /// one load while nobody sleeps. True when somebody was woken.
    #[inline]
    pub(crate) fn wake_one(&self, after: u8, wants: impl Fn(u64) -> bool) -> bool {
        // ORDERING: G2, SeqCst fence; pairs with G1 in `Call::announce`.
        fence(SeqCst);
        // ORDERING: Acquire G4; pairs with Release G3 in `Bed::lie_down`. Ordered after the publication by G2.
        let mask = self.mask.load(Acquire);
        mask != 0 && self.wake_of(mask, after, wants)
    }

    #[cold]
    fn wake_of(&self, mask: u64, after: u8, wants: impl Fn(u64) -> bool) -> bool {
        let mut not_up = None;
        for slot in (after..64).chain(0..after).filter_map(|number| self.asleep_at(mask, number)) {
            // ORDERING: Relaxed; written before the bit, which was acquired (G4).
            if !wants(slot.pick.load(Relaxed)) {
                continue;
            }
            if self.grant(slot) {
                return true;
            }
            not_up = Some(slot);
        }
        if let Some(slot) = not_up {
            futex::wake_all(&slot.bed, self.scope);
        }
        not_up.is_some()
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&self) {
        self.wake_each(|_| true);
    }

    /// Wakes each who sleeps for what `wants` says.
    pub(crate) fn wake_each(&self, mut wants: impl FnMut(u64) -> bool) {
        // ORDERING: G2, as in `wake_one`.
        fence(SeqCst);
        // ORDERING: Acquire G4; as there.
        let mask = self.mask.load(Acquire);
        for slot in (0..64).filter_map(|number| self.asleep_at(mask, number)) {
            // ORDERING: Relaxed; as there.
            if wants(slot.pick.load(Relaxed)) && !self.grant(slot) {
                futex::wake_all(&slot.bed, self.scope);
            }
        }
    }

    /// The slot of a seat whose holder sleeps. The bit of a holder who died stays until another takes the seat, which wakes all
    /// then; and so does whoever closes the seat for the dead.
    fn asleep_at(&self, mask: u64, number: u8) -> Option<&Slot> {
        let slot = self.memory.slot(number).filter(|_| mask >> number & 1 != 0)?;
        matches!(claim::read(&slot.claim), Claim::Attached(_)).then_some(slot)
    }

    fn grant(&self, slot: &Slot) -> bool {
        // ORDERING: Relaxed; the CAS decides.
        let bed = slot.bed.load(Relaxed);
        // ORDERING: Relaxed; the futex orders the wake, and the sleeper looks for itself. One waker wins.
        let granted =
            bed & 1 == 1 && slot.bed.compare_exchange(bed, bed.wrapping_add(1), Relaxed, Relaxed).is_ok();
        if granted {
            futex::wake_all(&slot.bed, self.scope);
        }
        granted
    }
}

/// Where the holder of a seat sleeps.
#[derive(Clone, Copy)]
pub struct Bed<'m> {
    pub(crate) dormitory: Dormitory<'m>,
    pub(crate) slot: &'m Slot,
    /// The bit of the seat.
    pub(crate) bit: u64,
    /// What it wants, as wakers ask.
    pub(crate) pick: u64,
    /// What it wants once it is eager.
    pub(crate) eager_pick: u64,
}

impl<'m> Bed<'m> {
    /// The announcement, which G1 must follow; gives the number to sleep on.
    pub(super) fn lie_down(&self, eager: bool) -> u32 {
        // ORDERING: Relaxed; before the bit (G3).
        self.slot.pick.store(if eager { self.eager_pick } else { self.pick }, Relaxed);
        // ORDERING: Relaxed; it is odd only as long as its holder wants it, and wakers make it even.
        let bed = self.slot.bed.load(Relaxed) | 1;
        // ORDERING: Relaxed; as above.
        self.slot.bed.store(bed, Relaxed);
        // ORDERING: Release G3; pairs with Acquire G4 in `Dormitory`: whoever sees the bit sees what its holder wants.
        self.dormitory.mask.fetch_or(self.bit, Release);
        bed
    }

    /// It has come back.
    pub(super) fn rise(&self) {
        // ORDERING: Relaxed; who still sees the bit makes one system call too many.
        self.dormitory.mask.fetch_and(!self.bit, Relaxed);
    }

    pub(super) fn word(&self) -> (&'m AtomicU32, Scope) {
        (&self.slot.bed, self.dormitory.scope)
    }
}
