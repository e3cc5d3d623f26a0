//! Sleeping and waking without a lost wake, and without a system call while nobody sleeps.
//!
//! A [`Bell`] is one direction of it. The side that may sleep says in its own area up to which number it wants to be
//! woken (`wanted`), the other side says in *its* area which number it has granted (`granted`, the futex word). Somebody
//! sleeps exactly while the two differ. Nobody writes the other side's area.
//!
//! ```text
//! sleeper   g = granted;  wanted: g -> g + 1;  fence F1;  look again;  futex_wait(granted, g)
//! waker     publish;  fence F2;  w = wanted;  w != granted?  granted: -> w;  futex_wake(granted)
//! ```
//!
//! F1 and F2 are the two halves of one handshake: either the waker's load sees the announcement, or the sleeper's second
//! look sees what was published.
//!
//! F2 is on the path of every message, so a waker that has not woken anybody for a while leaves it out: it goes *bare*,
//! counts itself in `bare` of its area, and the sleeper that finds somebody bare after F1 makes up for it with
//! `membarrier(GLOBAL_EXPEDITED)`, a full fence in every process. A waker that has to wake goes back to fences. So a
//! stream of messages costs no fence, and a receiver that is woken for each message pays for no `membarrier`.

use crate::{
    layout::Counts,
    ring::memory::Memory,
    sync::{AtomicU32, AtomicU64, Ordering::*, fence},
    sys::{
        barrier,
        clock::Deadline,
        futex::{self, Scope},
    },
};
use std::time::Duration;

// The models include this file by its path, and its parts the same way.
#[path = "wait/any.rs"]
mod any;
#[path = "wait/doze.rs"]
mod doze;
#[path = "wait/spin.rs"]
mod spin;
#[path = "wait/usher.rs"]
mod usher;

#[cfg_attr(ringpost_loom, allow(unused_imports, reason = "the models need less"))]
pub(crate) use any::{BLIND, Word, arm, sleep_on, until_any};
pub(crate) use doze::{Bed, Dormitory};
pub(crate) use spin::Spin;
pub use spin::WaitStrategy;
pub(crate) use usher::Usher;

/// Most bells that can be slept on at once: the kernel takes one word more.
pub(crate) const MOST_BELLS: usize = 127;

/// In the receiver's attention word: it has closed.
pub(crate) const CLOSED: u64 = 1 << 32;
/// In the senders' attention word: wake at the next release, not only when half of the ring is free.
const EAGER: u64 = 1 << 33;
/// In the receiver's attention word: it has not come back since it announced its sleep.
const ASLEEP: u64 = 1 << 34;

/// What a waker remembers from one message to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waker {
    /// The attention word in which nobody slept.
    quiet: u64,
    /// The same, put aside by [`Waker::look_once`].
    aside: Option<u64>,
    /// Publications since somebody was woken; no longer counted once bare.
    calm: u32,
    bare: bool,
    /// Whether the last wake was for one alone: others may still be asleep.
    left_asleep: bool,
    /// Whether every process of the ring has registered for `membarrier`.
    may_go_bare: bool,
}

impl Waker {
    /// Publications without waking anybody after which a waker goes bare.
    const CALM: u32 = if cfg!(ringpost_loom) { 0 } else { 64 };

    pub(crate) fn new(may_go_bare: bool) -> Self {
        Self { quiet: u64::MAX, aside: None, calm: 0, bare: false, left_asleep: false, may_go_bare }
    }

    /// Whoever was not due yet is looked at anew.
    #[inline]
    fn ask_again(&mut self) {
        self.quiet = u64::MAX;
    }

    /// The next [`Bell::ring`] is not left out ([`Bell::may_be_left`]). It does what it would have done.
    #[inline]
    pub(crate) fn look_once(&mut self) {
        self.aside = self.aside.or(Some(self.quiet));
        self.quiet = u64::MAX;
    }
}

/// Who is to be woken, of those who sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    Nobody,
    /// Nobody, and it is not asked again before [`Waker::ask_again`], or somebody else announces a sleep.
    NotYet,
    /// The one who has slept longest; but all, when somebody asked to be woken as soon as anything changes. Who is left asleep
    /// is woken by [`Bell::ring_once_more`], or must have set itself a limit: nobody owes it a wake.
    One,
    All,
}

/// One direction of waking.
#[derive(Clone, Copy)]
pub struct Bell<'m> {
    /// In the sleepers' area: `flag << 32 | wanted`.
    attention: &'m AtomicU64,
    /// In the wakers' area.
    granted: &'m AtomicU32,
    /// In the wakers' area: how many of them are bare.
    bare: &'m AtomicU32,
    /// What the sleeper sets in its attention word as long as it has not come back: needed where there are many wakers.
    mark: u64,
    scope: Scope,
}

impl<'m> Bell<'m> {
    /// Rung by senders when there is a message, or one of them has closed.
    #[inline]
    pub(crate) fn of_receiver(memory: &'m Memory, scope: Scope) -> Self {
        let (receiver, senders) = (memory.receiver(), memory.senders());
        Self {
            attention: &receiver.attention,
            granted: &senders.granted,
            bare: &senders.bare,
            mark: ASLEEP,
            scope,
        }
    }

    /// Rung by the receiver when there is room, or it has closed.
    #[inline]
    pub(crate) fn of_senders(memory: &'m Memory, scope: Scope) -> Self {
        let (receiver, senders) = (memory.receiver(), memory.senders());
        Self {
            attention: &senders.attention,
            granted: &receiver.granted,
            bare: &receiver.bare,
            mark: 0,
            scope,
        }
    }

    /// Over three words of its own, and rung by any number of wakers.
    pub(crate) fn over(
        attention: &'m AtomicU64,
        granted: &'m AtomicU32,
        bare: &'m AtomicU32,
        scope: Scope,
    ) -> Self {
        let mark = ASLEEP;
        Self { attention, granted, bare, mark, scope }
    }

    /// The sleepers' attention word, to be looked at without waking.
    #[inline]
    pub(crate) fn attention(&self) -> u64 {
        // ORDERING: Relaxed; a hint before an operation, decided again by the handshake after it.
        self.attention.load(Relaxed)
    }

    /// Waker: whether [`Bell::ring`] would do nothing, after publishing. For who publishes all the time: one load and two
    /// comparisons, and the rest is called only where there is something to do.
    #[inline(always)]
    pub(crate) fn may_be_left(&self, waker: &Waker) -> bool {
        // ORDERING: F2 of a bare waker, compiler fence; pairs with the `membarrier` of F1 in `Call::announce`.
        barrier::light();
        // ORDERING: Relaxed; ordered after the publication by F2.
        waker.bare && self.attention.load(Relaxed) == waker.quiet
    }

    /// Waker: call after publishing. `due` is asked when somebody sleeps, with true when it wants to be woken as soon as
    /// anything changes. True when somebody was woken.
    pub(crate) fn ring(&self, waker: &mut Waker, due: impl FnOnce(bool) -> Due) -> bool {
        if self.may_be_left(waker) {
            return false;
        }
        waker.quiet = waker.aside.take().unwrap_or(waker.quiet);
        if !waker.bare {
            // ORDERING: F2, SeqCst fence; pairs with F1 in `Call::announce`.
            fence(SeqCst);
        }
        // ORDERING: Relaxed; ordered after the publication by F2.
        let attention = self.attention.load(Relaxed);
        if attention != waker.quiet {
            return self.ring_for(attention, waker, due);
        }
        if !waker.bare {
            self.stay_calm(waker);
        }
        false
    }

    #[cold]
    fn ring_for(self, attention: u64, waker: &mut Waker, due: impl FnOnce(bool) -> Due) -> bool {
        let wanted = attention as u32;
        // ORDERING: Relaxed; the CAS below decides.
        let granted = self.granted.load(Relaxed);
        // Another waker has granted it. It may have been stopped before its system call: then this one makes it.
        let stale = wanted == granted && attention & ASLEEP == 0;
        let due = if stale { Due::NotYet } else { due(attention & EAGER != 0) };
        if due == Due::NotYet {
            waker.quiet = attention;
        }
        if matches!(due, Due::Nobody | Due::NotYet) {
            return false;
        }
        self.cover(waker);
        // From the number before, so that a waker that comes late takes no other's grant back. One waker wins.
        // ORDERING: Relaxed; the futex orders the wake, and the sleeper looks at the record's own words.
        let _ = self.granted.compare_exchange(wanted.wrapping_sub(1), wanted, Relaxed, Relaxed);
        waker.quiet = attention;
        waker.left_asleep = due == Due::One && attention & EAGER == 0 && !self.has_changed_since(attention);
        if waker.left_asleep {
            futex::wake_one(self.granted, self.scope);
        } else {
            futex::wake_all(self.granted, self.scope);
        }
        true
    }

    /// Whether anybody has announced a sleep since this `attention` was read. Perhaps an eager one, even where the word does not say
    /// so any more: who announces the next number does not know that flag. Asked after the grant: who announces this number later does
    /// not sleep.
    fn has_changed_since(&self, attention: u64) -> bool {
        // ORDERING: F4, SeqCst fence; pairs with F1 in `Call::announce`: either this sees the announcement, or the futex of who
        // made it sees the grant.
        fence(SeqCst);
        // ORDERING: Relaxed; ordered after the grant by F4.
        self.attention.load(Relaxed) != attention
    }

    /// Waker: wakes one of those whom [`Due::One`] has left asleep. True when there was one.
    pub(crate) fn ring_once_more(&self, waker: &mut Waker) -> bool {
        waker.left_asleep = waker.left_asleep && futex::wake_one(self.granted, self.scope);
        waker.left_asleep
    }

    /// Wakes whoever sleeps, also whom [`Due::One`] has left asleep.
    pub(crate) fn wake_everybody(&self) {
        futex::wake_all(self.granted, self.scope);
    }

    /// Goes bare when nobody had to be woken for long enough.
    #[cold]
    fn stay_calm(&self, waker: &mut Waker) {
        // Where nobody may go bare it is never set back.
        waker.calm = waker.calm.wrapping_add(1);
        if waker.calm > Waker::CALM && waker.may_go_bare {
            waker.bare = true;
            // ORDERING: Relaxed; the fence below orders it before everything that is published bare.
            self.bare.fetch_add(1, Relaxed);
            // ORDERING: F3, SeqCst fence; pairs with F1: a sleeper whose F1 comes first has announced before our next
            // load of its word, one whose F1 comes later sees us counted.
            fence(SeqCst);
        }
    }

    /// Goes back to fences. Also called by a waker that leaves.
    pub(crate) fn cover(&self, waker: &mut Waker) {
        waker.calm = 0;
        if waker.bare {
            waker.bare = false;
            // ORDERING: Release B1; pairs with Acquire B2 in `has_bare_wakers`: a sleeper that no longer sees us counted sees
            // all that was published bare.
            self.bare.fetch_sub(1, Release);
        }
    }

    /// Whether somebody publishes without a fence. Asked after F1; if so, the heavy fence must follow.
    fn has_bare_wakers(&self) -> bool {
        // ORDERING: Acquire B2; pairs with Release B1 in `cover`.
        self.bare.load(Acquire) != 0
    }

    /// The announcement alone, which F1 must follow.
    fn raise(&self, eager: bool) -> Option<u32> {
        // ORDERING: Relaxed; if it is stale, the futex refuses to sleep on it.
        let granted = self.granted.load(Relaxed);
        // ORDERING: Acquire A2; pairs with Release A1 below: whoever sees another's announcement of a later number also sees,
        // in the next load of `granted`, the number that the other one saw.
        let attention = self.attention.load(Acquire);
        let wanted = granted.wrapping_add(1);
        let flags = self.mark | if eager { EAGER } else { 0 };
        let announced = if attention as u32 == wanted {
            attention | flags
        } else {
            // ORDERING: Relaxed; unchanged since before `attention` was read, so that nobody else's announcement of a later
            // number is taken back.
            if self.granted.load(Relaxed) != granted {
                return None;
            }
            wanted as u64 | flags
        };
        if announced != attention {
            // ORDERING: Release A1; pairs with Acquire A2 above. F1 orders it before the second look. A CAS because several
            // senders announce here.
            self.attention.compare_exchange(attention, announced, Release, Relaxed).ok()?;
        }
        Some(granted)
    }

    /// Sleeper: it has come back.
    fn awake(&self) {
        if self.mark != 0 {
            // ORDERING: Relaxed; a waker that still sees the mark makes one system call too many.
            self.attention.fetch_and(!self.mark, Relaxed);
        }
    }
}

/// By what a sleeper is called.
#[derive(Clone, Copy)]
pub(crate) enum Call<'m> {
    /// Of a ring: one bell for all who sleep at its end.
    Bell(Bell<'m>),
    /// Of a mailbox: a bed for each.
    Bed(Bed<'m>),
}

impl<'m> From<Bell<'m>> for Call<'m> {
    fn from(bell: Bell<'m>) -> Self {
        Self::Bell(bell)
    }
}

impl<'m> Call<'m> {
    /// Sleeper: says that it wants to be woken, and gives the number to sleep on; `None` when the words moved meanwhile:
    /// look again. A look must follow before sleeping.
    fn announce(&self, eager: bool) -> Option<u32> {
        let ticket = self.raise(eager)?;
        // ORDERING: F1, SeqCst fence; pairs with F2 in `Bell::ring` and F3 in `Bell::stay_calm`; and G1, which pairs with G2 in
        // `Dormitory::wake_one`.
        fence(SeqCst);
        if self.has_bare_wakers() {
            barrier::heavy();
        }
        Some(ticket)
    }

    /// The announcement alone, which F1 and G1 must follow.
    fn raise(&self, eager: bool) -> Option<u32> {
        match self {
            Self::Bell(bell) => bell.raise(eager),
            Self::Bed(bed) => Some(bed.lie_down(eager)),
        }
    }

    fn has_bare_wakers(&self) -> bool {
        match self {
            Self::Bell(bell) => bell.has_bare_wakers(),
            Self::Bed(_) => false,
        }
    }

    /// Sleeper: it has come back.
    fn awake(&self) {
        match self {
            Self::Bell(bell) => bell.awake(),
            Self::Bed(bed) => bed.rise(),
        }
    }

    /// The futex word.
    fn word(&self) -> (&'m AtomicU32, Scope) {
        match self {
            Self::Bell(bell) => (bell.granted, bell.scope),
            Self::Bed(bed) => bed.word(),
        }
    }
}

/// News of a death for a handle of this process, from the thread that watches for it.
#[derive(Default)]
pub(crate) struct News {
    /// 1 while there is something that the handle has not heard.
    fresh: core::sync::atomic::AtomicU32,
    /// 1 while the handle sleeps, or is about to.
    asleep: core::sync::atomic::AtomicU32,
}

impl News {
    /// The watching thread: there is news. It must go on to wake the handle's futex while this is [`News::unheard`].
    pub(crate) fn tell(&self) {
        // ORDERING: SeqCst, of one process; pairs with the load in `sleep`.
        self.fresh.store(1, core::sync::atomic::Ordering::SeqCst);
    }

    /// Whether the handle sleeps although there is news: it had looked just before, and will have to be woken.
    pub(crate) fn unheard(&self) -> bool {
        // ORDERING: SeqCst on both words, of one process; pairs with the store in `sleep`.
        let order = core::sync::atomic::Ordering::SeqCst;
        self.fresh.load(order) != 0 && self.asleep.load(order) != 0
    }

    /// The handle: hears what there is, and looks at it next.
    fn hear(&self) {
        // ORDERING: Acquire, of one process; what the news is about was found out before.
        self.fresh.swap(0, core::sync::atomic::Ordering::Acquire);
    }

    /// The handle: sleeps unless there is news.
    fn sleep(&self, sleep: impl FnOnce()) {
        if self.lie_down() {
            sleep();
        }
        self.rise();
    }

    /// The handle: is about to sleep; false when there is news.
    fn lie_down(&self) -> bool {
        // ORDERING: SeqCst on both words, of one process: either `unheard` sees the sleeper, or the sleeper sees the news.
        let order = core::sync::atomic::Ordering::SeqCst;
        self.asleep.store(1, order);
        self.fresh.load(order) == 0
    }

    /// The handle: has woken up.
    fn rise(&self) {
        // ORDERING: SeqCst, of one process, as in `lie_down`.
        self.asleep.store(0, core::sync::atomic::Ordering::SeqCst);
    }
}

/// Why a look is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// Again and again while spinning: look at nothing but the ring.
    Spinning,
    /// About to sleep, announced: look at everything that rings the bell, and at what there is news of.
    BeforeSleep,
    /// A slice of sleep has passed without a wake: look also at what nobody tells.
    Idle,
}

/// Who waits, and what for.
pub(crate) struct Sleeper<'a> {
    pub(crate) call: Call<'a>,
    pub(crate) news: &'a News,
    pub(crate) counts: &'a Counts,
    /// How long the first sleep lasts before the sleeper asks to be woken as soon as anything changes.
    pub(crate) eager_after: Option<Duration>,
    /// How long a sleep lasts at most before a look at what nobody tells.
    pub(crate) slice: Option<Duration>,
}

impl Sleeper<'_> {
    /// Waits until `look` gives something: spins as `spin` says, then sleeps on the bell. `None` at the deadline.
    ///
    /// Mesa semantics: a wake only means that it is worth looking again.
    pub(crate) fn until<T>(
        &self,
        spin: &mut Spin,
        deadline: Option<Deadline>,
        look: impl FnMut(Look) -> Option<T>,
    ) -> Option<T> {
        self.wait(false, spin, deadline, look)
    }

    /// The same for a sender that waits until what it sent was taken, not for room: it is woken at the next release.
    pub(crate) fn until_release<T>(
        &self,
        spin: &mut Spin,
        deadline: Option<Deadline>,
        look: impl FnMut(Look) -> Option<T>,
    ) -> Option<T> {
        self.wait(true, spin, deadline, look)
    }

    fn wait<T>(
        &self,
        eager: bool,
        spin: &mut Spin,
        deadline: Option<Deadline>,
        mut look: impl FnMut(Look) -> Option<T>,
    ) -> Option<T> {
        self.counts.blocked.add(1);
        if let Some(found) = spin.until(deadline, &mut look) {
            return Some(found);
        }
        let found = self.sleep_until(eager, deadline, look);
        self.call.awake();
        found
    }

    fn sleep_until<T>(
        &self,
        mut eager: bool,
        deadline: Option<Deadline>,
        mut look: impl FnMut(Look) -> Option<T>,
    ) -> Option<T> {
        let Self { call, news, counts, .. } = self;
        let (word, scope) = call.word();
        let mut idle = false;
        loop {
            news.hear();
            let ticket = call.announce(eager);
            if let Some(found) = look(if idle { Look::Idle } else { Look::BeforeSleep }) {
                return Some(found);
            }
            if deadline.is_some_and(Deadline::passed) {
                return None;
            }
            let Some(ticket) = ticket else { continue };
            counts.sleeps.add(1);
            let slice = self.eager_after.filter(|_| !eager).or(self.slice).map(Deadline::after);
            let end = match (slice, deadline) {
                (Some(slice), Some(deadline)) => Some(slice.min(deadline)),
                (one, other) => one.or(other),
            };
            news.sleep(|| {
                futex::wait(word, ticket, end, scope);
            });
            if let Some(found) = look(Look::Spinning) {
                return Some(found);
            }
            // ORDERING: Relaxed; what the waker published is looked at for itself.
            idle = word.load(Relaxed) == ticket;
            eager |= idle;
        }
    }
}

#[cfg(all(test, not(ringpost_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_waker_that_never_goes_bare_counts_on_beyond_the_largest_number() {
        let (attention, granted, bare) = (AtomicU64::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let bell = Bell::over(&attention, &granted, &bare, Scope::Private);
        let mut waker = Waker { calm: u32::MAX, quiet: 0, ..Waker::new(false) };
        assert!(!bell.ring(&mut waker, |_| Due::All));
    }

    #[test]
    fn a_waker_that_looks_once_wakes_nobody_whom_it_has_woken() {
        let (attention, granted, bare) = (AtomicU64::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let bell = Bell::over(&attention, &granted, &bare, Scope::Private);
        let mut waker = Waker::new(true);
        // It has gone bare, and woken one who is not up yet.
        (0..=Waker::CALM + 1).for_each(|_| assert!(!bell.ring(&mut waker, |_| Due::Nobody)));
        attention.store(ASLEEP | 1, Relaxed);
        assert!(bell.ring(&mut waker, |_| Due::All));
        for _ in 0..2 {
            waker.look_once();
            waker.look_once();
            assert!(!bell.may_be_left(&waker));
            assert!(!bell.ring(&mut waker, |_| panic!("it was asked about who was woken")));
        }
    }
}
