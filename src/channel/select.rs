//! Waiting for many things at once: rings, and descriptors.

mod berth;
mod dispatcher;
mod error;
mod readiness;
mod round;
mod source;

pub(crate) use berth::{Berth, Post};
pub use dispatcher::{Dispatcher, Stop};
pub use error::SelectError;
pub use readiness::Readiness;
pub(super) use round::{Refusal, Round, Sight};
pub(super) use source::Insider;
pub use source::Source;

use crate::{
    sys::{
        clock::Deadline,
        poll::{self, Interest, Signal},
        porter::{self, Watched},
    },
    wait::{BLIND, Look, MOST_BELLS, WaitStrategy, Word},
};
use source::Wait;
use std::{
    any::Any,
    cell::Cell,
    collections::BTreeMap,
    fmt, io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

/// Which source of a [`Select`] has something. Never used again in this process, by this value or another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceId(u64);

/// A source of a [`Select`], and of which type it is.
pub struct Key<S> {
    id: SourceId,
    source: PhantomData<fn() -> S>,
}

impl<S> Key<S> {
    /// As [`Select::wait`] names it.
    pub fn id(self) -> SourceId {
        self.id
    }
}

impl<S> Clone for Key<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Key<S> {}

impl<S> PartialEq<Key<S>> for SourceId {
    fn eq(&self, key: &Key<S>) -> bool {
        *self == key.id
    }
}

impl<S> fmt::Debug for Key<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.id.0).finish()
    }
}

/// Waits for any of many sources at once: receivers and subscribers of whatever rings, mailboxes, and descriptors.
///
/// It tells *which* has something; what, the source itself is asked for. A source that is ready is named once in a round,
/// and again and again until it was asked. One that has ended stays ready: take it out.
///
/// ```
/// use ringpost::{Interest, Select};
///
/// let (ring, prices) = (ringpost::unnamed().in_process()?, ringpost::unnamed().broadcast(4).in_process()?);
/// let (mut sender, mut publisher) = (ring.sender()?, prices.publisher()?);
/// let mut select = Select::new();
/// let orders = select.add(ring.receiver()?)?;
/// let prices = select.add(prices.subscriber()?)?;
/// let input = select.add_fd(std::io::stdin(), Interest::Readable)?;
///
/// sender.send(b"buy")?;
/// publisher.send(b"42")?;
/// for _ in 0..2 {
///     match select.wait()? {
///         ready if ready == orders => assert_eq!(*select[orders].try_recv()?, *b"buy"),
///         ready if ready == prices => assert_eq!(*select[prices].try_recv()?, *b"42"),
///         ready => assert!(ready == input), // read a line of it
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It sleeps on the rings alone (`futex_waitv`) while it has no descriptor. With one, it sleeps on the descriptors
/// (`poll`), and the thread of [`Readiness`] on the rings: then a wake takes a switch to that thread more, and each round one
/// system call.
#[derive(Default)]
pub struct Select {
    round: Round<Entry>,
    descriptors: BTreeMap<u64, Descriptor>,
    /// Raised by the thread that sleeps for this one. There is one as soon as there is a descriptor.
    signal: Option<Arc<Signal>>,
    /// Until so many sources were served, no descriptor is looked at anew.
    turns: usize,
    /// Whether the user has had a source in hand since it was last asked where it sleeps: another may stand in its place.
    had_in_hand: bool,
}

enum Entry {
    Ring(Box<dyn Ring>),
    /// See [`Select::descriptors`].
    Descriptor(u64),
}

/// A source of some type.
trait Ring: Wait + Any {}
impl<S: Wait + Any> Ring for S {}

/// A descriptor of some type.
trait AnyFd: AsFd + Any + Send {}
impl<F: AsFd + Any + Send> AnyFd for F {}

struct Descriptor {
    fd: Box<dyn AnyFd>,
    interest: Interest,
    /// It was, the last time somebody looked, and was not named since.
    ready: Cell<bool>,
}

impl Entry {
    fn is_ready(&mut self, why: Look, descriptors: &BTreeMap<u64, Descriptor>) -> Option<()> {
        let ready = match self {
            Self::Ring(ring) => ring.is_ready(why),
            Self::Descriptor(id) => descriptors.get(id).is_some_and(|descriptor| descriptor.ready.take()),
        };
        ready.then_some(())
    }
}

impl Select {
    /// No sources yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a receiver, subscriber or mailbox, at most 127 at a time.
    ///
    /// # Errors
    /// [`SelectError::TooMany`], [`SelectError::Forked`]; the source is closed then.
    pub fn add<S: Source>(&mut self, source: S) -> Result<Key<S>, SelectError> {
        self.add_ring(source)
    }

    fn add_ring<S: Wait + 'static>(&mut self, source: S) -> Result<Key<S>, SelectError> {
        let berth = source.berth();
        let id =
            self.round.add(|_| Entry::Ring(Box::new(source)), Some(berth)).map_err(
                |refusal| match refusal {
                    Refusal::TooMany => SelectError::TooMany { most: MOST_BELLS },
                    Refusal::Forked => SelectError::Forked,
                },
            )?;
        Ok(Key { id: SourceId(id), source: PhantomData })
    }

    /// Adds a descriptor; it is ready as `poll` says. What is behind it may be gone again when it is named, if somebody else
    /// reads there: a descriptor that does not block is safe.
    ///
    /// # Errors
    /// [`SelectError::System`] when no descriptor is left for the first of them, [`SelectError::Forked`].
    pub fn add_fd<F: AsFd + Send + 'static>(
        &mut self,
        fd: F,
        interest: Interest,
    ) -> Result<Key<F>, SelectError> {
        if self.descriptors.is_empty() {
            // A new one: an empty value may have come from the process from which this one was forked, whose wakes are its own.
            self.signal = Some(Arc::new(Signal::new()?));
        }
        let id = self.round.add(Entry::Descriptor, None).map_err(|_| SelectError::Forked)?;
        self.descriptors.insert(id, Descriptor { fd: Box::new(fd), interest, ready: Cell::new(false) });
        Ok(Key { id: SourceId(id), source: PhantomData })
    }

    /// Takes a source out; `None` when it is no source of this value (any more).
    pub fn remove<S: 'static>(&mut self, key: Key<S>) -> Option<S> {
        self.get_mut(key)?;
        let (id, entry) = self.round.take_out(self.round.index_of(key.id.0)?);
        let source: Box<dyn Any> = match entry {
            Entry::Ring(ring) => ring,
            Entry::Descriptor(_) => self.descriptors.remove(&id)?.fd,
        };
        source.downcast().ok().map(|source| *source)
    }

    /// A source; `None` when it is no source of this value (any more).
    pub fn get_mut<S: 'static>(&mut self, key: Key<S>) -> Option<&mut S> {
        let index = self.round.index_of(key.id.0)?;
        self.had_in_hand = true;
        let (id, entry) = self.round.source(index);
        let source: &mut dyn Any = match entry {
            Entry::Ring(ring) => &mut **ring,
            Entry::Descriptor(_) => &mut *self.descriptors.get_mut(&id)?.fd,
        };
        source.downcast_mut()
    }

    /// How many sources there are.
    pub fn len(&self) -> usize {
        self.round.len()
    }

    /// Whether there is no source.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How this handle waits from now on. Default [`WaitStrategy::SpinThenSleep`], whatever the rings were built with.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.round.set_wait(strategy);
    }

    /// The next source that has something; waits while there is none.
    ///
    /// # Errors
    /// [`SelectError::NoSources`], [`SelectError::Forked`], [`SelectError::System`].
    pub fn wait(&mut self) -> Result<SourceId, SelectError> {
        self.wait_within(None)
    }

    /// The next source that has something, if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`SelectError::Empty`], and those of [`wait`](Select::wait).
    pub fn try_wait(&mut self) -> Result<SourceId, SelectError> {
        let found = match self.find(Look::Spinning)? {
            Some(index) => index,
            None => self.find(Look::BeforeSleep)?.ok_or(SelectError::Empty)?,
        };
        Ok(self.name(found))
    }

    /// The next source that has something; waits at most `timeout` while there is none.
    ///
    /// # Errors
    /// [`SelectError::TimedOut`], and those of [`wait`](Select::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<SourceId, SelectError> {
        self.wait_within(Some(Deadline::after(timeout)))
    }

    /// The next source that has something; waits until `deadline` at most while there is none.
    ///
    /// # Errors
    /// [`SelectError::TimedOut`], and those of [`wait`](Select::wait).
    pub fn wait_deadline(&mut self, deadline: Instant) -> Result<SourceId, SelectError> {
        self.wait_within(Some(Deadline::at(deadline)))
    }

    fn wait_within(&mut self, deadline: Option<Deadline>) -> Result<SourceId, SelectError> {
        let found = match self.find(Look::Spinning)? {
            Some(index) => index,
            None => {
                let found = self.sleep(deadline);
                self.leave_all_but(found.ok().flatten());
                found?.ok_or(SelectError::TimedOut)?
            }
        };
        Ok(self.name(found))
    }

    fn name(&mut self, index: usize) -> SourceId {
        self.round.served(index);
        SourceId(self.round.source(index).0)
    }

    /// Looks at each source once.
    fn find(&mut self, why: Look) -> Result<Option<usize>, SelectError> {
        if self.is_empty() {
            return Err(SelectError::NoSources);
        }
        if !self.round.is_own() {
            return Err(SelectError::Forked);
        }
        // Those that are ready are named before the descriptors are looked at anew.
        let in_turn = self.turns > 0;
        if !in_turn {
            self.look_at_descriptors()?;
        }
        self.turns = self.turns.saturating_sub(1);
        let found = self.sweep(why);
        if found.is_some() || !in_turn {
            return Ok(found);
        }
        self.look_at_descriptors()?;
        Ok(self.sweep(why))
    }

    fn sweep(&mut self, why: Look) -> Option<usize> {
        let Self { round, descriptors, .. } = self;
        round.sweep(why, |entry, why| entry.is_ready(why, descriptors)).map(|(index, ())| index)
    }

    /// A new round.
    fn look_at_descriptors(&mut self) -> io::Result<()> {
        self.turns = self.len();
        if self.descriptors.is_empty() {
            return Ok(());
        }
        wait_for(&self.descriptors, None, Some(Deadline::after(Duration::ZERO)))
    }

    /// Waits until a source is ready.
    #[cold]
    fn sleep(&mut self, deadline: Option<Deadline>) -> Result<Option<usize>, SelectError> {
        let Self { round, descriptors, signal, had_in_hand, .. } = self;
        if *had_in_hand {
            round.ask_for_berths(|entry| match entry {
                Entry::Ring(ring) => Some(ring.berth()),
                Entry::Descriptor(_) => None,
            });
            if !round.berths().all(|berth| berth.is_own()) {
                return Err(SelectError::Forked);
            }
            *had_in_hand = false;
        }
        let berths: Vec<_> = round.berths().cloned().collect();
        let Some(signal) = signal.as_ref().filter(|_| !descriptors.is_empty()) else {
            let found = round.wait_on_bells(deadline, |entry, why| entry.is_ready(why, descriptors));
            return Ok(found.map(|(index, ())| index));
        };
        if round.never_sleeps() {
            return self.find_until(deadline);
        }
        let failure = Cell::new(None);
        let look = |entry: &mut Entry, why| match failure.take() {
            Some(error) => Some(Err(error)),
            None => entry.is_ready(why, descriptors).map(Ok),
        };
        let found = round.wait(deadline, look, |words: &[Word<'_>], end| {
            let posts = berths.iter().zip(words).map(|(berth, &(_, ticket, _))| {
                Box::new(Post { berth: Arc::clone(berth), ticket }) as Box<dyn Watched>
            });
            let posts: Vec<_> = posts.collect();
            let armed =
                if posts.is_empty() { Ok(None) } else { porter::watch(posts, None, signal).map(Some) };
            // Where no thread is to be had, somebody has to look.
            let soon = armed.is_err().then(|| Deadline::after(BLIND));
            let end = soon.map_or(end, |soon| Some(end.map_or(soon, |end| end.min(soon))));
            failure.set(wait_for(descriptors, Some(signal.as_fd()), end).err());
        });
        Ok(match found {
            Some((index, found)) => found.map(|()| Some(index))?,
            None => None,
        })
    }

    /// Others are called for what the sources that are not named were called for: who knows when they are asked.
    fn leave_all_but(&mut self, named: Option<usize>) {
        for index in (0..self.len()).filter(|&index| named != Some(index)) {
            if let (_, Entry::Ring(ring)) = self.round.source(index) {
                ring.leave();
            }
        }
    }

    /// Looks again and again.
    fn find_until(&mut self, deadline: Option<Deadline>) -> Result<Option<usize>, SelectError> {
        loop {
            let found = self.find(Look::BeforeSleep)?;
            if found.is_some() || deadline.is_some_and(Deadline::passed) {
                return Ok(found);
            }
        }
    }
}

/// Sleeps until one of the descriptors, or `signal`, is ready, or until `deadline`, and notes which are.
fn wait_for(
    descriptors: &BTreeMap<u64, Descriptor>,
    signal: Option<BorrowedFd<'_>>,
    deadline: Option<Deadline>,
) -> io::Result<()> {
    let all: Vec<_> = descriptors.values().collect();
    let signal = signal.map(|signal| (signal, Interest::Readable));
    let fds = all.iter().map(|descriptor| ((*descriptor.fd).as_fd(), descriptor.interest));
    for index in poll::wait(&fds.chain(signal).collect::<Vec<_>>(), deadline)? {
        if let Some(descriptor) = all.get(index) {
            descriptor.ready.set(true);
        }
    }
    Ok(())
}

impl<S: 'static> std::ops::Index<Key<S>> for Select {
    type Output = S;

    /// # Panics
    /// When it is no source of this value (any more).
    fn index(&self, key: Key<S>) -> &S {
        let entry = self.round.sources().find(|&(id, _)| id == key.id.0).map(|(_, entry)| entry);
        let source: Option<&dyn Any> = entry.and_then(|entry| match entry {
            Entry::Ring(ring) => Some(&**ring as &dyn Any),
            Entry::Descriptor(id) => self.descriptors.get(id).map(|descriptor| &*descriptor.fd as &dyn Any),
        });
        source.and_then(|source| source.downcast_ref()).expect("it was taken out, or is of another select")
    }
}

impl<S: 'static> std::ops::IndexMut<Key<S>> for Select {
    /// # Panics
    /// When it is no source of this value (any more).
    fn index_mut(&mut self, key: Key<S>) -> &mut S {
        self.get_mut(key).expect("it was taken out, or is of another select")
    }
}

impl fmt::Debug for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.round.sources().map(|(id, _)| SourceId(id))).finish()
    }
}
