//! A victim that is stepped through operations at rings, and what is counted of it.

use super::{
    common::{self, Child, stream::scatter},
    judge::{Dead, Shared},
    tracer::Traced,
};
use ringpost::Ring;
use std::collections::BTreeMap;

/// Instructions stopped at and states judged, by operation.
#[derive(Default)]
pub struct Tally(BTreeMap<String, (u64, u64)>);

impl Tally {
    fn count(&mut self, operation: &str, instructions: u64, states: u64) {
        let name = operation.split('(').next().unwrap().to_owned();
        let entry = self.0.entry(name).or_default();
        *entry = (entry.0 + instructions, entry.1 + states);
    }

    fn instructions(&self) -> u64 {
        self.0.values().map(|&(instructions, _)| instructions).sum()
    }

    fn print(&self, what: &str) {
        for (operation, (instructions, states)) in &self.0 {
            println!("{what}: {operation:<12} {instructions:>9} instructions {states:>7} states");
        }
        println!("{what}: {:<12} {:>9} instructions", "all", self.instructions());
    }
}

/// The bytes that a ring shares, as they were when they were last looked at.
struct Watched {
    shared: Shared,
    bytes: Vec<u8>,
    last: Vec<u8>,
}

impl Watched {
    fn new(ring: &Ring) -> Self {
        Self { shared: Shared::of(ring), bytes: Vec::new(), last: Vec::new() }
    }

    /// The bytes, if they have changed.
    fn change(&mut self) -> Option<&[u8]> {
        self.shared.copy_to(&mut self.bytes);
        if self.bytes == self.last {
            return None;
        }
        std::mem::swap(&mut self.bytes, &mut self.last);
        Some(&self.last)
    }
}

/// A victim, and what was seen of it. Dropping it kills the victim where it stands, and proves that it is gone.
pub struct Study {
    /// Dropped before its process.
    thread: Traced,
    child: Child,
    pub dead: Dead,
    tally: Tally,
    /// Whether a victim that was stopped has come to its mark.
    is_at_its_mark: bool,
}

impl Study {
    pub fn new(role: &str) -> Self {
        let child = Child::start(role);
        let thread = Traced::attach(child.hear());
        Self { thread, child, dead: Dead::new(), tally: Tally::default(), is_at_its_mark: false }
    }

    /// Lets the victim carry out an order at a ring, as far as its first mark; `meanwhile` happens when it is ready, if it says so.
    fn begin(&mut self, order: u64, ring: &Ring, meanwhile: Option<impl FnOnce()>) {
        self.child.tell(order);
        self.child.pass(ring.fd().unwrap());
        if let Some(meanwhile) = meanwhile {
            self.child.hear();
            meanwhile();
            self.child.tell(0);
        }
        self.thread.run_to_mark();
    }

    /// Steps the victim through what it was ordered to do at a ring. `judge` gets the bytes of the ring whenever they have
    /// changed, with the id of the victim and a dead process to put in its place. Gives what the victim says in the end.
    pub fn watch(
        &mut self,
        name: &str,
        order: u64,
        ring: &Ring,
        meanwhile: Option<impl FnOnce()>,
        mut judge: impl FnMut(&[u8], u32, &Dead),
    ) -> u64 {
        self.begin(order, ring, meanwhile);
        let Self { thread, child, dead, tally, .. } = self;
        let (pid, mut watched) = (child.id(), Watched::new(ring));
        let (mut instructions, mut states) = (0, 0);
        let mut look = || {
            if let Some(bytes) = watched.change() {
                states += 1;
                judge(bytes, pid, dead);
            }
        };
        look();
        thread.step_to_mark(|| {
            instructions += 1;
            look();
            true
        });
        look();
        tally.count(name, instructions, states);
        thread.go_on();
        child.hear()
    }

    /// As [`watch`](Self::watch), with two judges and what each of them remembers: for the first all are dead, for the second
    /// the victim alone.
    pub fn watch_for_two<P: Default>(
        &mut self,
        name: &str,
        order: u64,
        ring: &Ring,
        meanwhile: Option<impl FnOnce()>,
        mut judge: impl FnMut(&[u8], u32, &Dead, bool, &mut P),
    ) -> [P; 2] {
        let mut progress = [P::default(), P::default()];
        self.watch(name, order, ring, meanwhile, |bytes, victim, dead| {
            for (all, progress) in [true, false].into_iter().zip(&mut progress) {
                judge(bytes, victim, dead, all, progress);
            }
        });
        progress
    }

    /// Steps the victim, which says when it is ready, as far as its change number `nth`, counted from 0, and leaves it there.
    /// False when it has not so many, and stands at its mark.
    pub fn stop_at(&mut self, nth: u64, order: u64, ring: &Ring) -> bool {
        self.begin(order, ring, Some(|| {}));
        let (mut watched, mut left) = (Watched::new(ring), nth);
        watched.change();
        let go_on = || {
            left -= u64::from(watched.change().is_some());
            left > 0
        };
        self.is_at_its_mark = nth > 0 && self.thread.step_to_mark(go_on);
        !self.is_at_its_mark
    }

    /// Steps a victim that was stopped on by so many instructions. False when it has changed the ring by then, or come to its mark.
    pub fn step_on(&mut self, instructions: u64, ring: &Ring) -> bool {
        let (mut watched, mut left) = (Watched::new(ring), instructions);
        watched.change();
        let go_on = || {
            left -= 1;
            left > 0 && watched.change().is_none()
        };
        self.is_at_its_mark = instructions > 0 && self.thread.step_to_mark(go_on);
        !self.is_at_its_mark && left == 0
    }

    /// Lets a victim that was stopped so go on to its end, and gives what it says then.
    pub fn finish(&mut self) -> u64 {
        if !self.is_at_its_mark {
            self.thread.go_on();
            self.thread.run_to_mark();
        }
        self.thread.go_on();
        self.child.hear()
    }
}

/// Kills a victim behind each change that it makes at a ring, and one that makes no more: each time another one, at the ring of
/// what `prepare` gives. `look` gets that, the number of the change, and whether the victim was not through.
pub fn kill_at_each_change<C: AsRef<Ring>>(
    role: &str,
    order: u64,
    mut prepare: impl FnMut(u64, &Dead) -> C,
    mut look: impl FnMut(C, u64, bool),
) {
    for nth in 0.. {
        let mut study = Study::new(role);
        let cast = prepare(nth, &study.dead);
        let is_stopped = study.stop_at(nth, order, cast.as_ref());
        drop(study);
        look(cast, nth, is_stopped);
        if !is_stopped {
            break;
        }
    }
}

/// Does it once in the short form, and as often as makes so many million instructions in the long one.
pub fn study(what: &str, role: &str, millions: u64, mut round: impl FnMut(&mut Study, u64)) {
    let mut study = Study::new(role);
    let enough = if common::long() { millions * 1_000_000 } else { 1 };
    let mut number = 0;
    while study.tally.instructions() < enough {
        round(&mut study, scatter(number));
        number += 1;
    }
    study.tally.print(what);
}
