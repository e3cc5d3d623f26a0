//! A thread that sleeps on futex words for others, and raises a descriptor, or wakes a task, when one of the words calls.
//!
//! Who rings a bell in shared memory knows of words alone, and an event loop sleeps on descriptors alone, a task until its waker
//! is called. The porter stands between them: it is started when somebody first needs it, is the same for all of the process (one for every 127 words
//! that are slept on at a time), and sleeps without end while nobody does.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::*};
use std::{
    io,
    panic::{self, AssertUnwindSafe},
    ptr::NonNull,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    thread,
    time::Duration,
};

use super::{
    clock::Deadline,
    fork::Generation,
    futex::{self, Scope},
};

/// What a porter sleeps on for somebody.
pub(crate) trait Watched: Send + Sync {
    /// A word, and the value with which it is slept on.
    fn word(&self) -> (&AtomicU32, u32, Scope);

    /// Whether it calls. Looked at before each sleep, and whenever the word was woken.
    fn calls(&self) -> bool;

    /// It has called, and is no longer slept on.
    fn answered(&self);
}

/// How a porter says that something has called.
pub(crate) trait Signal: Send + Sync {
    /// Says so; or gives the task to be woken, which is done once nothing is locked: it may do anything.
    fn raise(&self) -> Option<Waker>;

    /// Nobody is interested any more.
    fn clear(&self);
}

/// Most words of one porter: it has one itself.
const MOST: usize = futex::MOST_WATCHED - 1;

/// How long a porter sleeps at most where it can't be woken by the words (before Linux 5.16).
const BLIND: Duration = Duration::from_millis(1);

/// What is slept on for one signal.
struct Watch {
    all: Vec<Box<dyn Watched>>,
    /// When to raise the signal although nothing has called.
    until: Option<Deadline>,
    signal: Arc<dyn Signal>,
}

impl Watch {
    fn is_due(&self) -> bool {
        self.all.iter().any(|watched| watched.calls()) || self.until.is_some_and(Deadline::passed)
    }
}

#[derive(Default)]
struct Porter {
    /// Counts what came and went.
    changes: AtomicU32,
    watches: Mutex<Vec<Arc<Watch>>>,
}

impl Porter {
    /// Its thread never ends.
    fn start() -> io::Result<Arc<Self>> {
        let porter = Arc::new(Self::default());
        let itself = Arc::clone(&porter);
        let thread = thread::Builder::new().name("ringpost-porter".into()).stack_size(128 << 10);
        thread.spawn(move || itself.keep_watch())?;
        Ok(porter)
    }

    fn keep_watch(&self) -> ! {
        // The signals of the process are for its own threads.
        let _ = nix::sys::signal::SigSet::all().thread_block();
        loop {
            // ORDERING: Acquire, of one process; pairs with the Release in `tell`: whoever has changed the list before is
            // seen below, and whoever changes it later changes this word, too.
            let seen = self.changes.load(Acquire);
            let watches = self.call();
            let others = watches.iter().flat_map(|watch| &watch.all).map(|watched| watched.word());
            let words: Vec<_> = [(&self.changes, seen, Scope::Private)].into_iter().chain(others).collect();
            let end = watches.iter().filter_map(|watch| watch.until).min();
            if !futex::wait_for_any(&words, end) {
                let soon = Deadline::after(BLIND);
                futex::wait(&self.changes, seen, Some(end.map_or(soon, |end| end.min(soon))), Scope::Private);
            }
        }
    }

    /// Raises the signals of all that call, and gives the others.
    fn call(&self) -> Vec<Arc<Watch>> {
        let (mut watches, mut tasks) = (self.lock(), Vec::new());
        watches.retain(|watch| {
            let due = watch.is_due();
            if due {
                watch.all.iter().for_each(|watched| watched.answered());
                tasks.extend(watch.signal.raise());
            }
            !due
        });
        let others = watches.clone();
        drop(watches);
        for task in tasks {
            // What an executor does wrong is told where it happens; the others are woken all the same.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| task.wake()));
        }
        others
    }

    /// Takes it on if there is room.
    fn take_on(&self, watch: &Arc<Watch>) -> bool {
        let mut watches = self.lock();
        let words: usize = watches.iter().map(|watch| watch.all.len()).sum();
        let room = words + watch.all.len() <= MOST;
        if room {
            watches.push(Arc::clone(watch));
            drop(watches);
            self.tell();
        }
        room
    }

    /// False when it has called before.
    fn let_go(&self, watch: &Arc<Watch>) -> bool {
        let mut watches = self.lock();
        let index = watches.iter().position(|other| Arc::ptr_eq(other, watch));
        if let Some(index) = index {
            watches.swap_remove(index);
            drop(watches);
            // So that it holds on to nothing.
            self.tell();
        }
        index.is_some()
    }

    fn tell(&self) {
        // ORDERING: Release, of one process; pairs with the Acquire in `keep_watch`.
        self.changes.fetch_add(1, Release);
        futex::wake_all(&self.changes, Scope::Private);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Watch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The porters of a process.
struct Lodge {
    generation: Generation,
    porters: Mutex<Vec<Arc<Porter>>>,
}

impl Lodge {
    /// That of this process: a forked child has none of its parent's threads, and their locks may be taken for ever.
    fn here() -> &'static Self {
        static HERE: AtomicPtr<Lodge> = AtomicPtr::new(core::ptr::null_mut());
        // ORDERING: Acquire, of one process; pairs with the AcqRel below.
        let mut there = HERE.load(Acquire);
        loop {
            // SAFETY: null, or one that was leaked below.
            let lodge = NonNull::new(there).map(|lodge| unsafe { lodge.as_ref() });
            if let Some(lodge) = lodge.filter(|lodge| lodge.generation.lasts()) {
                return lodge;
            }
            let new = Box::new(Lodge { generation: Generation::current(), porters: Mutex::default() });
            let new = Box::into_raw(new);
            // ORDERING: AcqRel, of one process; pairs with itself and with the load above: who finds it finds it made.
            match HERE.compare_exchange(there, new, AcqRel, Acquire) {
                // SAFETY: leaked just now, and never freed.
                Ok(_) => return unsafe { &*new },
                Err(other) => {
                    // SAFETY: made just now, and nobody else knows of it.
                    drop(unsafe { Box::from_raw(new) });
                    there = other;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Porter>>> {
        self.porters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the first porter of this process, if there is none.
pub(crate) fn start() -> io::Result<()> {
    let mut porters = Lodge::here().lock();
    if porters.is_empty() {
        porters.push(Porter::start()?);
    }
    Ok(())
}

/// Sleeps on `all` (127 at most) for the caller: raises the signal, once, when one of them calls, or at `until`. Never blocks.
///
/// An error when a thread was needed and refused.
pub(crate) fn watch(
    all: Vec<Box<dyn Watched>>,
    until: Option<Deadline>,
    signal: &Arc<impl Signal + 'static>,
) -> io::Result<Armed> {
    assert!(all.len() <= MOST, "{} words at once", all.len());
    let lodge = Lodge::here();
    let watch = Arc::new(Watch { all, until, signal: signal.clone() });
    let mut porters = lodge.lock();
    let porter = match porters.iter().find(|porter| porter.take_on(&watch)) {
        Some(porter) => Arc::clone(porter),
        None => {
            let porter = Porter::start()?;
            porter.take_on(&watch);
            porters.push(Arc::clone(&porter));
            porter
        }
    };
    Ok(Armed { porter, watch, generation: lodge.generation })
}

/// Something that a porter watches. Dropping it ends that, and clears the signal.
pub(crate) struct Armed {
    porter: Arc<Porter>,
    watch: Arc<Watch>,
    generation: Generation,
}

impl Armed {
    /// Whether this process has the thread, and not the one from which it was forked.
    pub(crate) fn is_own(&self) -> bool {
        self.generation.lasts()
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        // A forked child has neither the thread nor a descriptor of its own.
        if !self.is_own() {
            return;
        }
        if self.porter.let_go(&self.watch) {
            self.watch.all.iter().for_each(|watched| watched.answered());
        } else {
            self.watch.signal.clear();
        }
    }
}
