//! Sleeping and waking without a lost wake, and without a system call while nobody sleeps.
//!
//! A [`Bell`] is one direction of it. The side that may sleep says in its own area up to which number it wants to be
//! woken (`wanted`), the other side says in *its* area which number it has granted (`granted`, the futex word). Somebody
//! sleeps exactly while the two differ. Nobody writes the other side's area.
//!
//! ```text
//! sleeper   g = granted;  wanted: g -> g + 1;  heavy fence (F1);  look again;  futex_wait(granted, g)
//! waker     publish;  light fence (F2);  w = wanted;  w != granted?  granted: -> w;  futex_wake(granted)
//! ```
//!
//! F1 and F2 are the two halves of one handshake: either the waker's load sees the announcement, or the sleeper's second
//! look sees what was published. The waker is on the path of every message, so where the kernel offers
//! `membarrier(GLOBAL_EXPEDITED)` the sleeper pays for both.

use crate::{
    layout::Counts,
    ring::memory::Memory,
    sync::{AtomicU32, AtomicU64, Ordering::*, fence, spin_loop},
    sys::{
        clock::Deadline,
        futex::{self, Scope},
    },
};
use std::time::{Duration, Instant};

/// In the receiver's attention word: it has closed.
pub(crate) const CLOSED: u64 = 1 << 32;
/// In the senders' attention word: wake at the next release, not only when half of the ring is free.
const EAGER: u64 = 1 << 33;

/// How the two fences of the handshake are made. One choice for all who use a ring, in its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fences {
    /// Two full fences.
    Full,
    /// `membarrier` by the sleeper, nothing but a compiler fence by the waker. Every process must have registered.
    Asymmetric,
}

impl Fences {
    #[inline]
    fn light(self) {
        match self {
            // ORDERING: F2, SeqCst fence; pairs with F1 in `heavy`.
            Fences::Full => fence(SeqCst),
            // ORDERING: F2, compiler only; the sleeper's membarrier makes the processor's order a full fence's.
            #[cfg(not(ringpost_loom))]
            Fences::Asymmetric => crate::sync::compiler_fence(SeqCst),
            #[cfg(ringpost_loom)]
            Fences::Asymmetric => fence(SeqCst),
        }
    }

    fn heavy(self) {
        match self {
            // ORDERING: F1, SeqCst fence; pairs with F2 in `light`.
            Fences::Full => fence(SeqCst),
            #[cfg(not(ringpost_loom))]
            Fences::Asymmetric => crate::sys::barrier::heavy(),
            #[cfg(ringpost_loom)]
            Fences::Asymmetric => fence(SeqCst),
        }
    }
}

/// One direction of waking.
#[derive(Clone, Copy)]
pub(crate) struct Bell<'m> {
    /// In the sleepers' area: `flag << 32 | wanted`.
    attention: &'m AtomicU64,
    /// In the wakers' area.
    granted: &'m AtomicU32,
    fences: Fences,
    scope: Scope,
}

impl<'m> Bell<'m> {
    /// Rung by senders when there is a message, or one of them has closed.
    #[inline]
    pub(crate) fn of_receiver(memory: &'m Memory, fences: Fences, scope: Scope) -> Self {
        let attention = &memory.receiver().attention;
        Self { attention, granted: &memory.senders().granted, fences, scope }
    }

    /// Rung by the receiver when there is room, or it has closed.
    #[inline]
    pub(crate) fn of_senders(memory: &'m Memory, fences: Fences, scope: Scope) -> Self {
        let attention = &memory.senders().attention;
        Self { attention, granted: &memory.receiver().granted, fences, scope }
    }

    /// The sleepers' attention word, to be looked at without waking.
    #[inline]
    pub(crate) fn attention(&self) -> u64 {
        // ORDERING: Relaxed; a hint before an operation, decided again by the handshake after it.
        self.attention.load(Relaxed)
    }

    /// Waker: call after publishing. One load and one comparison while nobody sleeps. `quiet` is the caller's copy of the
    /// attention word in which nobody slept; `due` is asked when somebody sleeps, with true when it wants to be woken as
    /// soon as anything changes. True when a system call has woken somebody.
    #[inline]
    pub(crate) fn ring(&self, quiet: &mut u64, due: impl FnOnce(bool) -> bool) -> bool {
        self.fences.light();
        // ORDERING: Relaxed; ordered after the publication by F2.
        let attention = self.attention.load(Relaxed);
        attention != *quiet && self.ring_for(attention, quiet, due)
    }

    #[cold]
    fn ring_for(&self, attention: u64, quiet: &mut u64, due: impl FnOnce(bool) -> bool) -> bool {
        let wanted = attention as u32;
        // ORDERING: Relaxed; the CAS below decides.
        let granted = self.granted.load(Relaxed);
        if wanted == granted {
            *quiet = attention;
            return false;
        }
        if !due(attention & EAGER != 0) {
            return false;
        }
        // ORDERING: Relaxed; the futex orders the wake, and the sleeper looks at the record's own words. One waker wins.
        let won = self.granted.compare_exchange(granted, wanted, Relaxed, Relaxed).is_ok();
        if won {
            futex::wake_all(self.granted, self.scope);
        }
        won
    }

    /// Sleeper: says that it wants to be woken, and gives the number to sleep on; `None` when the words moved meanwhile:
    /// look again. A look must follow before sleeping.
    fn announce(&self, eager: bool) -> Option<u32> {
        // ORDERING: Relaxed; if it is stale, the futex refuses to sleep on it.
        let granted = self.granted.load(Relaxed);
        // ORDERING: Relaxed; the CAS decides.
        let attention = self.attention.load(Relaxed);
        let wanted = granted.wrapping_add(1);
        let announced = if attention as u32 == wanted {
            attention | if eager { EAGER } else { 0 }
        } else {
            // ORDERING: Relaxed; unchanged since before `attention` was read, so that nobody else's announcement of a later
            // number is taken back.
            if self.granted.load(Relaxed) != granted {
                return None;
            }
            wanted as u64 | if eager { EAGER } else { 0 }
        };
        if announced != attention {
            // ORDERING: Relaxed; F1 orders it before the second look. A CAS because several senders announce here.
            self.attention.compare_exchange(attention, announced, Relaxed, Relaxed).ok()?;
        }
        self.fences.heavy();
        Some(granted)
    }

    /// Sleeps on an announced number, until it is granted, something that is watched changes, or a signal comes.
    fn sleep(&self, ticket: u32, watched: &Watched<'_>, deadline: Option<Deadline>) {
        let slice = |slice: Option<Duration>| match (slice.map(Deadline::after), deadline) {
            (Some(slice), Some(deadline)) => Some(slice.min(deadline)),
            (one, other) => one.or(other),
        };
        if watched.words.is_empty() {
            futex::wait(self.granted, ticket, slice(watched.slice), self.scope);
        } else if !futex::wait_any(self.granted, ticket, &watched.words, slice(watched.slice)) {
            // No such call: look at the other side's life again and again.
            futex::wait(self.granted, ticket, slice(Some(UNWATCHED)), self.scope);
        }
    }
}

/// How long a wait sleeps before it looks at what only time can change: whether the other side still lives, and whether a
/// sender should ask for the next release instead of half of the ring.
const FIRST_SLEEP: Duration = Duration::from_millis(2);

/// How long a wait sleeps at most when nothing would wake it at the other side's death.
pub(crate) const UNWATCHED: Duration = Duration::from_millis(100);

/// Why a look is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// Again and again while spinning: look at nothing but the ring.
    Spinning,
    /// About to sleep, announced: look at everything that rings the bell.
    BeforeSleep,
    /// Nothing has come for a while: look also at who lives.
    Idle,
}

/// Words that change when the other side dies, with their values, for a long sleep to watch besides the bell.
#[derive(Default)]
pub(crate) struct Watched<'a> {
    /// At most [`futex::MOST_WATCHED`] less one.
    pub(crate) words: Vec<(&'a core::sync::atomic::AtomicU32, u32)>,
    /// How long to sleep at most where there is something that no word tells.
    pub(crate) slice: Option<Duration>,
}

/// Waits until `look` gives something: spins as `spin` says, then sleeps on the bell. `None` at the deadline.
///
/// Once nothing has come for a while it also watches what `watched` names: read before the look that it is to protect.
///
/// Mesa semantics: a wake only means that it is worth looking again.
pub(crate) fn until<'w, T>(
    bell: Bell<'_>,
    spin: &mut Spin,
    deadline: Option<Deadline>,
    counts: &Counts,
    watched: impl Fn() -> Watched<'w>,
    mut look: impl FnMut(Look) -> Option<T>,
) -> Option<T> {
    counts.blocked.add(1);
    if let Some(found) = spin.until(deadline, &mut || look(Look::Spinning)) {
        return Some(found);
    }
    let mut idle = false;
    loop {
        let watched = if idle { watched() } else { Watched { slice: Some(FIRST_SLEEP), ..Watched::default() } };
        let ticket = bell.announce(idle);
        if let Some(found) = look(if idle { Look::Idle } else { Look::BeforeSleep }) {
            return Some(found);
        }
        if deadline.is_some_and(Deadline::passed) {
            return None;
        }
        let Some(ticket) = ticket else { continue };
        counts.sleeps.add(1);
        bell.sleep(ticket, &watched, deadline);
        // ORDERING: Relaxed; what the waker published is looked at for itself.
        idle = bell.granted.load(Relaxed) == ticket;
        if let Some(found) = look(Look::Spinning) {
            return Some(found);
        }
    }
}

/// What a wait does before it sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Polls for a bounded time (at most 50 µs, less when polling was in vain lately, not at all on one processor), then
    /// sleeps. No processor time while idle.
    #[default]
    SpinThenSleep,
    /// Sleeps at once. For many more processes than processors.
    Sleep,
    /// Polls for ever. Lowest latency; burns a whole processor while it waits.
    Spin,
}

/// The polling half of a wait, with its memory of how often polling paid.
#[derive(Debug)]
pub(crate) struct Spin {
    strategy: WaitStrategy,
    budget: Duration,
}

impl Spin {
    const MOST: Duration = Duration::from_micros(50);
    const LEAST: Duration = Duration::from_micros(3);
    /// Polls between two looks at the clock.
    const POLLS: u32 = 64;

    pub(crate) fn new(strategy: WaitStrategy, processors: usize) -> Self {
        let strategy = match strategy {
            WaitStrategy::SpinThenSleep if processors < 2 => WaitStrategy::Sleep,
            other => other,
        };
        Self { strategy, budget: Self::MOST }
    }

    fn until<T>(&mut self, deadline: Option<Deadline>, look: &mut impl FnMut() -> Option<T>) -> Option<T> {
        if self.strategy == WaitStrategy::Sleep {
            return None;
        }
        let start = Instant::now();
        loop {
            for _ in 0..Self::POLLS {
                if let Some(found) = look() {
                    self.budget = Self::MOST;
                    return Some(found);
                }
                spin_loop();
            }
            let spent = self.strategy == WaitStrategy::SpinThenSleep && start.elapsed() >= self.budget;
            if spent {
                self.budget = (self.budget / 2).max(Self::LEAST);
                return None;
            }
            if deadline.is_some_and(Deadline::passed) {
                return None;
            }
        }
    }
}
