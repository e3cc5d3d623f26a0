//! What the product has of the operating system, for the models: a futex, a clock, and the asymmetric fence.
//!
//! The futex looks at its word and goes to sleep in one step, so a wake that is lost leaves a thread asleep for ever, which
//! loom reports as a deadlock. Time stands still until a model calls [`clock::start`]: a wait with a deadline then times
//! out, before that it sleeps as one without.

use core::sync::atomic::AtomicUsize;
use loom::sync::{
    Condvar, Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering::*},
};

/// Most threads that loom runs.
const THREADS: usize = loom::MAX_THREADS;

#[derive(Default)]
struct Sleepers {
    /// Word and ticket. Whoever isn't here any more was woken.
    asleep: Vec<(usize, u32)>,
    tickets: u32,
    /// Words whose sleepers are woken again and again as long as this is true.
    nags: Vec<(usize, Box<dyn Fn() -> bool + Send>)>,
}

impl Sleepers {
    fn are_nagged_at(&self, address: usize) -> bool {
        self.nags.iter().any(|(other, nag)| *other == address && nag())
    }
}

struct Kernel {
    sleepers: Mutex<Sleepers>,
    changed: Condvar,
    clock_runs: AtomicBool,
    /// One word a thread: where its light fences meet the heavy ones of the others.
    fences: [AtomicU32; THREADS],
    threads: AtomicUsize,
}

loom::lazy_static! {
    static ref KERNEL: Kernel = Kernel {
        sleepers: Mutex::new(Sleepers::default()),
        changed: Condvar::new(),
        clock_runs: AtomicBool::new(false),
        fences: core::array::from_fn(|_| AtomicU32::new(0)),
        threads: AtomicUsize::new(0),
    };
}

/// Called first in every model: what it makes must not be made by one thread before another.
pub(crate) fn prepare() {
    drop(KERNEL.sleepers.lock());
}

pub(crate) mod futex {
    use super::{KERNEL, clock::Deadline};
    use crate::{mortal::live_on, sync::AtomicU32};
    use core::ptr;

    /// As in the product; the models have one kind only.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Scope {
        Shared,
    }

    pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Option<Deadline>, _: Scope) {
        live_on();
        let mut sleepers = KERNEL.sleepers.lock().unwrap();
        let address = ptr::from_ref(word).addr();
        if word.peek() != expected || sleepers.are_nagged_at(address) {
            return;
        }
        if deadline.is_some_and(Deadline::passed) {
            drop(sleepers);
            return loom::thread::yield_now();
        }
        sleepers.tickets += 1;
        let me = (address, sleepers.tickets);
        sleepers.asleep.push(me);
        while sleepers.asleep.contains(&me) && !deadline.is_some_and(Deadline::passed) {
            sleepers = KERNEL.changed.wait(sleepers).unwrap();
        }
        sleepers.asleep.retain(|other| *other != me);
    }

    /// As in the product; a sleeper on several words is one on each, and woken by any of them.
    pub(crate) fn wait_for_any(words: &[(&AtomicU32, u32, Scope)], deadline: Option<Deadline>) -> bool {
        live_on();
        let mut sleepers = KERNEL.sleepers.lock().unwrap();
        let stirs = |(word, expected, _): &(&AtomicU32, u32, Scope)| {
            word.peek() != *expected || sleepers.are_nagged_at(ptr::from_ref(*word).addr())
        };
        if words.iter().any(stirs) {
            return true;
        }
        if deadline.is_some_and(Deadline::passed) {
            drop(sleepers);
            loom::thread::yield_now();
            return true;
        }
        sleepers.tickets += 1;
        let ticket = sleepers.tickets;
        let mine = words.iter().map(|(word, ..)| (ptr::from_ref(*word).addr(), ticket));
        sleepers.asleep.extend(mine);
        let all_asleep = |sleepers: &super::Sleepers| {
            sleepers.asleep.iter().filter(|(_, other)| *other == ticket).count() == words.len()
        };
        while all_asleep(&sleepers) && !deadline.is_some_and(Deadline::passed) {
            sleepers = KERNEL.changed.wait(sleepers).unwrap();
        }
        sleepers.asleep.retain(|(_, other)| *other != ticket);
        true
    }

    /// Wakes who sleeps on the word, now and later, as long as `nag` is true: as the watching thread of a handle does.
    pub(crate) fn wake_while(word: &AtomicU32, nag: impl Fn() -> bool + Send + 'static) {
        let address = ptr::from_ref(word).addr();
        KERNEL.sleepers.lock().unwrap().nags.push((address, Box::new(nag)));
        wake_all(word, Scope::Shared);
    }

    /// Somebody sleeps on the word who never looks again: it takes the place of one who is woken.
    pub(crate) fn oversleep(word: &AtomicU32) {
        KERNEL.sleepers.lock().unwrap().asleep.push((ptr::from_ref(word).addr(), 0));
    }

    /// Wakes the first of those who sleep on the word.
    pub(crate) fn wake_one(word: &AtomicU32, _: Scope) -> bool {
        live_on();
        let word = ptr::from_ref(word).addr();
        let mut sleepers = KERNEL.sleepers.lock().unwrap();
        let first = sleepers.asleep.iter().position(|(other, _)| *other == word);
        if let Some(first) = first {
            sleepers.asleep.remove(first);
        }
        KERNEL.changed.notify_all();
        first.is_some()
    }

    pub(crate) fn wake_all(word: &AtomicU32, _: Scope) {
        live_on();
        let word = ptr::from_ref(word).addr();
        KERNEL.sleepers.lock().unwrap().asleep.retain(|(other, _)| *other != word);
        KERNEL.changed.notify_all();
    }
}

pub(crate) mod clock {
    use super::{KERNEL, Relaxed};
    use std::time::Duration;

    /// Passes when the clock runs, however far ahead it is.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
    pub(crate) struct Deadline;

    impl Deadline {
        pub(crate) fn after(_: Duration) -> Self {
            Self
        }

        pub(crate) fn passed(self) -> bool {
            KERNEL.clock_runs.load(Relaxed)
        }
    }

    /// From now on no wait with a deadline lasts.
    pub(crate) fn start() {
        let _sleepers = KERNEL.sleepers.lock().unwrap();
        KERNEL.clock_runs.store(true, Relaxed);
        KERNEL.changed.notify_all();
    }
}

/// `membarrier`: a light fence is none by itself, it meets the heavy fences of other threads only, one before or after the
/// other. So a light fence that has no heavy one to meet is found out.
pub(crate) mod barrier {
    use super::{AcqRel, KERNEL, SeqCst};
    use crate::sync::fence;
    use core::sync::atomic::Ordering::Relaxed;

    loom::thread_local! {
        static MINE: usize = KERNEL.threads.fetch_add(1, Relaxed);
    }

    pub(crate) fn light() {
        let mine = MINE.with(|mine| *mine);
        KERNEL.fences[mine].fetch_add(1, AcqRel);
    }

    pub(crate) fn heavy() -> bool {
        fence(SeqCst);
        for thread in &KERNEL.fences {
            thread.fetch_add(1, AcqRel);
        }
        fence(SeqCst);
        true
    }
}
