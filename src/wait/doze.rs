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

use super::{Look, News, Spin};
use crate::{
    layout::{Counts, Slot},
    ring::memory::Memory,
    sync::{AtomicU64, Ordering::*, fence},
    sys::{
        clock::Deadline,
        futex::{self, Scope},
    },
};
use std::time::Duration;

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
        // ORDERING: G2, SeqCst fence; pairs with G1 in `SeatedSleeper::sleep_until`.
        fence(SeqCst);
        // ORDERING: Relaxed; ordered after the publication by G2.
        let mask = self.mask.load(Relaxed);
        mask != 0 && self.wake_of(mask, after, wants)
    }

    #[cold]
    fn wake_of(&self, mask: u64, after: u8, wants: impl Fn(u64) -> bool) -> bool {
        let mut not_up = None;
        for number in (after..64).chain(0..after).filter(|number| mask >> number & 1 != 0) {
            let Some(slot) = self.memory.slot(number) else { continue };
            // ORDERING: Relaxed; written before the bit, which G1 and G2 order.
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
        // ORDERING: Relaxed; as there.
        let mask = self.mask.load(Relaxed);
        for number in (0..64).filter(|number| mask >> number & 1 != 0) {
            let Some(slot) = self.memory.slot(number) else { continue };
            // ORDERING: Relaxed; as there.
            if wants(slot.pick.load(Relaxed)) && !self.grant(slot) {
                futex::wake_all(&slot.bed, self.scope);
            }
        }
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

/// Who waits at a seat, and for what.
pub(crate) struct SeatedSleeper<'a> {
    pub(crate) dormitory: Dormitory<'a>,
    pub(crate) slot: &'a Slot,
    /// The bit of the seat.
    pub(crate) bit: u64,
    /// What it wants, as wakers ask.
    pub(crate) pick: u64,
    /// What it wants once it has slept in vain for `eager_after`.
    pub(crate) eager_pick: u64,
    pub(crate) eager_after: Option<Duration>,
    pub(crate) news: &'a News,
    pub(crate) counts: &'a Counts,
    /// How long a sleep lasts at most before a look at what nobody tells.
    pub(crate) slice: Option<Duration>,
}

impl SeatedSleeper<'_> {
    /// Waits until `look` gives something: spins as `spin` says, then sleeps. `None` at the deadline. Also says whether it has
    /// slept.
    pub(crate) fn until<T>(
        &self,
        spin: &mut Spin,
        deadline: Option<Deadline>,
        mut look: impl FnMut(Look) -> Option<T>,
    ) -> (Option<T>, bool) {
        self.counts.blocked.add(1);
        if let Some(found) = spin.until(deadline, &mut look) {
            return (Some(found), false);
        }
        let found = self.sleep_until(deadline, look);
        // ORDERING: Relaxed; who still sees the bit makes one system call too many.
        self.dormitory.mask.fetch_and(!self.bit, Relaxed);
        (found, true)
    }

    fn sleep_until<T>(
        &self,
        deadline: Option<Deadline>,
        mut look: impl FnMut(Look) -> Option<T>,
    ) -> Option<T> {
        let Self { slot, news, counts, .. } = self;
        let (mut eager, mut idle) = (false, false);
        loop {
            news.hear();
            // ORDERING: Relaxed; before the bit, which G1 orders.
            slot.pick.store(if eager { self.eager_pick } else { self.pick }, Relaxed);
            // ORDERING: Relaxed; it is odd only as long as its holder wants it, and wakers make it even.
            let bed = slot.bed.load(Relaxed) | 1;
            // ORDERING: Relaxed; as above.
            slot.bed.store(bed, Relaxed);
            // ORDERING: Relaxed; ordered by G1.
            self.dormitory.mask.fetch_or(self.bit, Relaxed);
            // ORDERING: G1, SeqCst fence; pairs with G2 in `Dormitory::wake_one`.
            fence(SeqCst);
            if let Some(found) = look(if idle { Look::Idle } else { Look::BeforeSleep }) {
                return Some(found);
            }
            if deadline.is_some_and(Deadline::passed) {
                return None;
            }
            counts.sleeps.add(1);
            let slice = self.eager_after.filter(|_| !eager).or(self.slice).map(Deadline::after);
            let end = match (slice, deadline) {
                (Some(slice), Some(deadline)) => Some(slice.min(deadline)),
                (one, other) => one.or(other),
            };
            news.sleep(|| {
                futex::wait(&slot.bed, bed, end, self.dormitory.scope);
            });
            // ORDERING: Relaxed; what was published is looked at for itself.
            idle = slot.bed.load(Relaxed) == bed;
            eager |= idle;
        }
    }
}
