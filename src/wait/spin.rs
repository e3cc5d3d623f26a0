//! Polling before a sleep, as long as it pays.

use super::Look;
use crate::{layout::Counts, sync::spin_loop, sys::clock::Deadline};
use std::{
    ops::{ControlFlow, RangeInclusive},
    time::{Duration, Instant},
};

/// What a wait does before it sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Polls for a bounded time (at most 50 µs, less and less when polling is in vain, then once in 64 to 4096 waits, not at all
    /// on a machine with one processor), then sleeps. No processor time while idle.
    #[default]
    SpinThenSleep,
    /// Sleeps at once. For many more processes than processors.
    Sleep,
    /// Polls for ever. Lowest latency (in a stream of messages a receiver that has caught up keeps off for five to twelve microseconds, as
    /// by default); burns a whole processor while it waits. Never yields it: a sender of the other two does, when
    /// others send at the same time and the receiver stands still.
    Spin,
}

/// The polling half of a wait, with its memory of how often polling paid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spin {
    strategy: WaitStrategy,
    /// How long the next wait polls.
    budget: Duration,
    /// Without a budget: one wait in so many polls.
    retry: u32,
    /// Waits that have not polled since the last one that did.
    skipped: u32,
    /// Messages that were received before the last wait, or step back.
    received: u64,
}

impl Spin {
    const MOST: Duration = Duration::from_micros(50);
    /// A budget below this is none.
    const LEAST: Duration = Duration::from_micros(2);
    /// Without a budget, one wait in so many polls for the most, the time in which a sleeper is woken: the other side may have moved
    /// to another processor, or become faster. Half as many the next time, down to one in so many: it may have to run here.
    const RETRY: RangeInclusive<u32> = 64..=4096;
    /// Messages between two waits from which on they count as a stream.
    const STREAM: u64 = 64;
    /// Pauses that let a stream get ahead: five to twelve microseconds.
    const STEP_BACK: u32 = 256;
    /// For each so many bytes of a full ring one pause: a small part of the time in which they are read.
    const BACKLOG: u64 = 1024;
    /// Polls between two looks at the clock.
    const POLLS: u32 = 64;

    /// `several`: whether the machine has more than one processor.
    pub(crate) fn new(strategy: WaitStrategy, several: bool) -> Self {
        let strategy = match strategy {
            WaitStrategy::SpinThenSleep if !several => WaitStrategy::Sleep,
            other => other,
        };
        Self { strategy, budget: Self::MOST, retry: *Self::RETRY.start(), skipped: 0, received: 0 }
    }

    /// Whether a wait polls for ever.
    pub(crate) fn never_ends(&self) -> bool {
        self.strategy == WaitStrategy::Spin
    }

    /// Whether a wait ever polls.
    pub(crate) fn polls(&self) -> bool {
        self.strategy != WaitStrategy::Sleep
    }

    /// How long to poll now; `None` without end.
    fn budget(&mut self) -> Option<Duration> {
        match self.strategy {
            WaitStrategy::Spin => None,
            WaitStrategy::Sleep => Some(Duration::ZERO),
            WaitStrategy::SpinThenSleep if self.budget >= Self::LEAST => Some(self.budget),
            WaitStrategy::SpinThenSleep => {
                self.skipped += 1;
                if self.skipped < self.retry {
                    return Some(Duration::ZERO);
                }
                self.skipped = 0;
                self.retry = (self.retry * 2).min(*Self::RETRY.end());
                Some(Self::MOST)
            }
        }
    }

    /// Receiver: lets a stream of messages get ahead, if it has received one since its last wait, and so many in all. Whoever
    /// has caught up with a stream would fight for each line that is being written, and slow both sides down by half.
    pub(crate) fn step_back_from_stream(&mut self, received: u64) {
        self.keep_off_stream(received);
        self.received = received;
    }

    /// Receiver: the same for one that has caught up and need not wait, since it finds each message just in time.
    pub(crate) fn keep_off_stream(&mut self, received: u64) {
        if received.wrapping_sub(self.received) >= Self::STREAM {
            self.step_back(Self::STEP_BACK);
            self.received = received;
        }
    }

    /// Sender: lets the receiver read some of a ring of so many bytes, which is full, before it asks how far that one is. Whoever
    /// asks all the time fights for the word that says it.
    pub(crate) fn step_back_from_backlog(&self, capacity: u64) {
        self.step_back((capacity / Self::BACKLOG).min(Self::STEP_BACK.into()) as u32);
    }

    fn step_back(&self, pauses: u32) {
        if self.polls() {
            (0..pauses).for_each(|_| spin_loop());
        }
    }

    /// Receiver: polls for a moment before it waits in earnest, unless polling has not paid lately, or a stream of messages has
    /// run dry. What `look` finds comes back in registers; it ends with nothing where something has come that is not for it. Both
    /// count as a wait, since there was nothing before.
    #[inline(always)]
    pub(crate) fn briefly<T>(
        &mut self,
        counts: &Counts,
        mut look: impl FnMut() -> ControlFlow<Option<T>>,
    ) -> Option<T> {
        let received = counts.messages.get();
        let polls = self.polls() && self.budget >= Self::LEAST;
        if !polls || received.wrapping_sub(self.received) >= Self::STREAM {
            return None;
        }
        self.received = received;
        for _ in 0..Self::POLLS {
            if let ControlFlow::Break(found) = look() {
                counts.refused.add(1);
                counts.blocked.add(1);
                return found;
            }
            spin_loop();
        }
        None
    }

    pub(super) fn until<T>(
        &mut self,
        deadline: Option<Deadline>,
        look: &mut impl FnMut(Look) -> Option<T>,
    ) -> Option<T> {
        let budget = self.budget();
        if budget == Some(Duration::ZERO) {
            return None;
        }
        let start = Instant::now();
        loop {
            for _ in 0..Self::POLLS {
                if let Some(found) = look(Look::Spinning) {
                    self.budget = Self::MOST;
                    self.retry = *Self::RETRY.start();
                    return Some(found);
                }
                spin_loop();
            }
            // Whoever polls for ever must see the end and a death, too.
            if let Some(found) = budget.is_none().then(|| look(Look::BeforeSleep)).flatten() {
                return Some(found);
            }
            if budget.is_some_and(|budget| start.elapsed() >= budget) {
                self.budget /= 2;
                return None;
            }
            if deadline.is_some_and(Deadline::passed) {
                return None;
            }
        }
    }
}

#[cfg(all(test, not(ringpost_loom)))]
mod tests {
    use super::*;

    #[test]
    fn whatever_ends_a_brief_poll_counts_as_a_wait_and_what_never_comes_does_not() {
        let (mut spin, counts) = (Spin::new(WaitStrategy::SpinThenSleep, true), Counts::default());
        let mut after_two = |end| {
            let mut looks = 0;
            spin.briefly(&counts, || {
                looks += 1;
                if looks > 2 { end } else { ControlFlow::Continue(()) }
            })
        };
        assert_eq!(after_two(ControlFlow::Break(Some(7))), Some(7));
        assert_eq!(after_two(ControlFlow::Break(None)), None);
        assert_eq!(after_two(ControlFlow::Continue(())), None);
        assert_eq!((counts.refused.get(), counts.blocked.get()), (2, 2));
    }

    #[test]
    fn who_keeps_off_has_received_a_stream_since_it_waited_or_did_so() {
        let mut spin = Spin::new(WaitStrategy::Spin, true);
        // Few messages, often: they add up.
        for (received, before) in [(40, 0), (63, 0), (64, 64), (127, 64), (128, 128)] {
            spin.keep_off_stream(received);
            assert_eq!(spin.received, before);
        }
        spin.step_back_from_stream(130);
        assert_eq!(spin.received, 130);
    }

    /// How many of so many waits poll, when it is in vain.
    fn polls(spin: &mut Spin, waits: u32) -> usize {
        let polled = |_: &u32| {
            let mut polled = false;
            assert_eq!(
                spin.until(None, &mut |_| {
                    polled = true;
                    None::<()>
                }),
                None
            );
            polled
        };
        (0..waits).filter(polled).count()
    }

    #[test]
    fn polling_in_vain_becomes_rare_and_begins_again_once_it_has_paid() {
        let mut spin = Spin::new(WaitStrategy::SpinThenSleep, true);
        // 50, 25, 12, 6, 3 microseconds.
        assert_eq!(polls(&mut spin, 5 + 63), 5);
        // After 64, 128, 256, ... waits.
        assert_eq!(polls(&mut spin, 1), 1);
        assert_eq!(polls(&mut spin, 127), 0);
        assert_eq!(polls(&mut spin, 1 + 256 + 512 + 1024 + 2048), 5);
        assert_eq!(polls(&mut spin, 3 * 4096), 3);
        assert_eq!(polls(&mut spin, 4095), 0);
        assert_eq!(spin.until(None, &mut |_| Some(())), Some(()));
        assert_eq!(polls(&mut spin, 5 + 64), 6);
    }

    #[test]
    fn on_one_processor_nobody_polls() {
        assert_eq!(polls(&mut Spin::new(WaitStrategy::SpinThenSleep, false), 1000), 0);
        assert_eq!(polls(&mut Spin::new(WaitStrategy::Sleep, true), 1000), 0);
    }
}
