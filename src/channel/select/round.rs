//! Several sources, looked at in turn and waited for together.

use super::{super::ring::Inner, berth::Berth};
use crate::{
    sys::{clock::Deadline, fork::Generation, process},
    wait::{self, Look, MOST_BELLS, Spin, WaitStrategy, Word},
};
use std::sync::Arc;

/// Several sources. One that has something is served once in a round.
pub(crate) struct Round<S> {
    seats: Vec<Seat<S>>,
    /// The seat that is looked at first.
    next: usize,
    spin: Spin,
    generation: Generation,
}

struct Seat<S> {
    id: u64,
    source: S,
    /// `None` where there is no bell.
    berth: Option<Arc<Berth>>,
    /// How often it was passed over since more than its ring was looked at.
    passed_over: u32,
}

/// How often a source is passed over before its end is looked for: others that always have messages must not hide it.
const PASSES: u32 = 64;

/// What can be seen of a source at a glance.
pub(crate) enum Sight {
    Something,
    Nothing,
    /// It must be looked at.
    Unclear,
}

/// Why a source is refused.
pub(crate) enum Refusal {
    TooMany,
    Forked,
}

impl<S> Round<S> {
    pub(crate) fn new() -> Self {
        let spin = Inner::spin_as(WaitStrategy::default());
        Self { seats: Vec::new(), next: 0, spin, generation: Generation::current() }
    }

    /// Adds a source that is made with its number, and gives that: no other of this process gets it, in whichever round.
    pub(crate) fn add(
        &mut self,
        source: impl FnOnce(u64) -> S,
        berth: Option<Berth>,
    ) -> Result<u64, Refusal> {
        if self.seats.is_empty() {
            self.generation = Generation::current();
        }
        if !self.is_own() || berth.as_ref().is_some_and(|berth| !berth.is_own()) {
            return Err(Refusal::Forked);
        }
        if berth.is_some() && self.berths().count() == MOST_BELLS {
            return Err(Refusal::TooMany);
        }
        let id = process::unique_number();
        self.seats.push(Seat { id, source: source(id), berth: berth.map(Arc::new), passed_over: 0 });
        Ok(id)
    }

    /// Whether this process has added the sources, and not the one from which it was forked.
    pub(crate) fn is_own(&self) -> bool {
        self.generation.lasts()
    }

    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(crate) fn index_of(&self, id: u64) -> Option<usize> {
        self.seats.iter().position(|seat| seat.id == id)
    }

    pub(crate) fn take_out(&mut self, index: usize) -> (u64, S) {
        if index < self.next {
            self.next -= 1;
        }
        let Seat { id, source, .. } = self.seats.remove(index);
        (id, source)
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = (u64, &S)> {
        self.seats.iter().map(|seat| (seat.id, &seat.source))
    }

    pub(crate) fn source(&mut self, index: usize) -> (u64, &mut S) {
        let Seat { id, source, .. } = &mut self.seats[index];
        (*id, source)
    }

    /// Where those that have a bell sleep, in their order.
    pub(crate) fn berths(&self) -> impl Iterator<Item = &Arc<Berth>> {
        self.seats.iter().filter_map(|seat| seat.berth.as_ref())
    }

    /// Asks each source anew where it sleeps: its user may have put another one in its place.
    pub(crate) fn ask_for_berths(&mut self, berth: impl Fn(&S) -> Option<Berth>) {
        self.seats.iter_mut().for_each(|seat| seat.berth = berth(&seat.source).map(Arc::new));
    }

    pub(crate) fn set_wait(&mut self, strategy: WaitStrategy) {
        self.spin = Inner::spin_as(strategy);
    }

    /// Whether a wait polls for ever.
    pub(crate) fn never_sleeps(&self) -> bool {
        self.spin.never_ends()
    }

    /// The source was served: the next one is looked at first.
    pub(crate) fn served(&mut self, index: usize) {
        self.next = index + 1;
    }

    /// The first source that has something, by a `glance` at each; `None` also where [`sweep`](Round::sweep) is to look at one before it,
    /// because a glance is not enough, or it was passed over too often.
    #[inline(always)]
    pub(crate) fn at_sight(&mut self, glance: impl Fn(&S) -> Sight) -> Option<usize> {
        for index in turns(self.next, self.seats.len()) {
            let seat = &mut self.seats[index];
            match glance(&seat.source) {
                Sight::Something => {
                    seat.passed_over = 0;
                    return Some(index);
                }
                Sight::Nothing if seat.passed_over < PASSES => seat.passed_over += 1,
                Sight::Nothing | Sight::Unclear => break,
            }
        }
        None
    }

    /// Looks at each source once, until one has something.
    pub(crate) fn sweep<T>(
        &mut self,
        why: Look,
        mut look: impl FnMut(&mut S, Look) -> Option<T>,
    ) -> Option<(usize, T)> {
        for index in turns(self.next, self.seats.len()) {
            let seat = &mut self.seats[index];
            seat.passed_over += 1;
            let thorough = seat.passed_over > PASSES;
            let found = look(&mut seat.source, if thorough { Look::BeforeSleep } else { why });
            if found.is_some() || thorough {
                seat.passed_over = 0;
            }
            if let Some(found) = found {
                return Some((index, found));
            }
        }
        None
    }

    /// Waits until one of the sources has something, all of which have bells.
    pub(crate) fn wait_on_bells<T>(
        &mut self,
        deadline: Option<Deadline>,
        look: impl FnMut(&mut S, Look) -> Option<T>,
    ) -> Option<(usize, T)> {
        self.wait(deadline, look, wait::sleep_on)
    }

    /// Waits until one of the sources has something, with a way to sleep on the words of [`berths`](Round::berths).
    #[cold]
    pub(crate) fn wait<T>(
        &mut self,
        deadline: Option<Deadline>,
        mut look: impl FnMut(&mut S, Look) -> Option<T>,
        sleep: impl FnMut(&[Word<'_>], Option<Deadline>),
    ) -> Option<(usize, T)> {
        self.berths().for_each(|berth| berth.take_back());
        let Self { seats, next, spin, .. } = self;
        let (mut sources, berths): (Vec<_>, Vec<_>) =
            seats.iter_mut().map(|seat| (&mut seat.source, seat.berth.as_deref())).unzip();
        let sleepers: Vec<_> = berths.into_iter().flatten().map(Berth::sleeper).collect();
        let mut look_around =
            |why| turns(*next, sources.len()).find_map(|index| Some((index, look(sources[index], why)?)));
        wait::until_any(&sleepers, spin, deadline, &mut look_around, sleep)
    }
}

impl<S> Default for Round<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// All numbers below `count`, from `first` on, which is at most `count`.
fn turns(first: usize, count: usize) -> impl Iterator<Item = usize> {
    (first..count).chain(0..first)
}
