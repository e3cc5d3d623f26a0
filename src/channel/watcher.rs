//! A reader of a broadcast for which nobody waits.

use super::{
    attach::{self, Before},
    builder::Builder,
    message::{OwnedMessage, View},
    patience::Patience,
    receiver::corrupt,
    ring::{Home, Inner},
    subscriber,
    vigil::Asked,
};
use crate::{
    error::{OpenError, RecvError},
    header::Kind,
    layout::Counts,
    ring::{
        broadcast::Start,
        onlooker::{NoMessage, Onlooker},
        position::{Position, UNIT},
        receive::Record,
    },
    sys::{clock::Deadline, futex::Scope, segment::Segment, watch::Bed},
    wait::{Look, News, Sleeper, Spin},
};
use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How often a watcher that can't announce its sleep looks for a message.
const LOOK: Duration = Duration::from_millis(1);

/// A reader for which nobody waits: the sender writes over the oldest messages under it when it is too slow, and then it is told
/// exactly how many it missed ([`RecvError::Missed`]). What it gives is whole, always. It takes no slot, and any number of
/// them costs the sender nothing.
///
/// Messages are copies. The death of the sender is looked for every 100 ms while there is no message.
pub struct Watcher {
    onlooker: Onlooker,
    inner: Arc<Inner>,
    /// An end that is of no interest, as the sender's place says it.
    before: Before,
    /// Whether it can tell that it sleeps.
    can_write: bool,
    /// Whether the sender is dead.
    asked: Asked,
    counts: Counts,
    news: News,
    spin: Spin,
    /// One thread at a time.
    marker: PhantomData<Cell<()>>,
}

impl Builder {
    /// Opens the named ring of a broadcast to look on from `start`, and needs no permission but to read it (a ring of mode 0644
    /// and another user's, with [`owner`](Builder::owner)). It is mapped read-only. While there is no message it looks every
    /// millisecond; [`Ring::watcher`](crate::Ring::watcher) sleeps instead.
    ///
    /// # Errors
    /// Those of [`open`](Builder::open); [`OpenError::Mismatch`] unless the ring was made with
    /// [`broadcast`](Builder::broadcast).
    pub fn watch(&self, start: Start) -> Result<Watcher, OpenError> {
        let path = self.path()?;
        let segment = Segment::open_to_read(&path, self.expected_owner())?;
        let (header, memory) = self.check_to_read(&segment)?;
        let inner = self.inner(memory, header, Home::Named { segment, path }, Scope::Shared);
        Watcher::new(Arc::new(inner), start, false)
    }
}

impl Watcher {
    pub(super) fn new(inner: Arc<Inner>, start: Start, can_write: bool) -> Result<Self, OpenError> {
        let Kind::Broadcast(_) = inner.header.kind else {
            return Err(attach::wrong_kind(inner.header.kind, "many readers"));
        };
        let before = subscriber::end_of_no_interest(&inner.memory, start);
        let onlooker = Onlooker::new(Arc::clone(&inner.memory), start);
        let spin = inner.spin();
        let (counts, news) = (Counts::default(), News::default());
        let asked = Asked::now_and_then();
        Ok(Self { onlooker, inner, before, can_write, asked, counts, news, spin, marker: PhantomData })
    }

    /// A copy of the next message; waits while there is none.
    ///
    /// # Errors
    /// [`RecvError::Missed`]: the next call goes on at the oldest message that is still there.
    /// [`RecvError::Disconnected`] when the sender has closed and all its messages were received;
    /// [`RecvError::PeerDied`] when it died instead, until another one has come; [`RecvError::Corrupt`].
    pub fn recv(&mut self) -> Result<OwnedMessage, RecvError> {
        self.owned(Patience::Endless)
    }

    /// A copy of the next message if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`RecvError::Empty`], and those of [`recv`](Watcher::recv).
    pub fn try_recv(&mut self) -> Result<OwnedMessage, RecvError> {
        self.owned(Patience::None)
    }

    /// A copy of the next message; waits at most `timeout` while there is none.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](Watcher::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<OwnedMessage, RecvError> {
        self.owned(Patience::For(timeout))
    }

    /// A copy of the next message; waits until `deadline` at most while there is none.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](Watcher::recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<OwnedMessage, RecvError> {
        self.owned(Patience::Until(deadline))
    }

    /// Copies the next message into `buffer`; waits while there is none. Gives its length. After an error there may be
    /// anything in the buffer.
    ///
    /// # Errors
    /// [`RecvError::BufferTooSmall`], and the message is still the next; and those of [`recv`](Watcher::recv).
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.within(Patience::Endless, |view, record| {
            let length = record.length() as usize;
            let target = buffer.get_mut(..length).ok_or(RecvError::BufferTooSmall { length })?;
            view.read_at(0, target);
            Ok(length)
        })
    }

    /// Bytes of the ring, headers included, that were sent since the next message of this reader. More than the capacity once
    /// it was overtaken.
    pub fn lag(&self) -> u64 {
        self.onlooker.behind() * UNIT
    }

    /// After [`RecvError::Disconnected`] or [`RecvError::PeerDied`]: waits for another sender from now on, instead of giving that
    /// error until one has come. What that one sends counts as what this reader missed or gets.
    pub fn reopen(&mut self) {
        let is_dead = |owner| self.asked.is_dead(owner, || attach::is_dead(owner));
        if let Some(end) = subscriber::present_end(&self.inner.memory, is_dead) {
            self.before = end;
        }
    }

    fn owned(&mut self, patience: Patience) -> Result<OwnedMessage, RecvError> {
        self.within(patience, |view, _| Ok(view.to_owned()))
    }

    fn within<T>(
        &mut self,
        patience: Patience,
        mut copy: impl FnMut(View<'_>, Record) -> Result<T, RecvError>,
    ) -> Result<T, RecvError> {
        let Self { onlooker, inner, before, asked, spin, .. } = self;
        let memory = &inner.memory;
        let mut next = |onlooker: &mut Onlooker| {
            let found = onlooker.next(|record| copy(View::of(memory, inner, record), record));
            match found {
                Ok(message) => Some(Ok(message)),
                Err(NoMessage::Empty) => None,
                Err(NoMessage::Missed(count)) => Some(Err(RecvError::Missed { count })),
                Err(NoMessage::Refused(error)) => Some(Err(error)),
                Err(NoMessage::Damaged(violation)) => Some(Err(corrupt(violation))),
            }
        };
        if let Some(found) = next(onlooker) {
            return found;
        }
        let mut look = |why| {
            let found = next(onlooker);
            if found.is_some() || why == Look::Spinning {
                return found;
            }
            let ended =
                subscriber::end(memory, *before, |owner| asked.is_dead(owner, || attach::is_dead(owner)))?;
            // What a sender that is gone has committed is visible now.
            Some(next(onlooker).unwrap_or(Err(ended)))
        };
        if !patience.waits() {
            return look(Look::BeforeSleep).unwrap_or(Err(RecvError::Empty));
        }
        let deadline = patience.deadline();
        if self.can_write {
            let sleeper = Sleeper {
                call: inner.bell_of_senders().into(),
                news: &self.news,
                counts: &self.counts,
                eager_after: None,
                slice: Some(Bed::BLIND),
            };
            return sleeper.until(spin, deadline, look).unwrap_or(Err(RecvError::TimedOut));
        }
        let mut looks = 0_u32;
        loop {
            // The end is looked for as seldom as by one that sleeps.
            looks = (looks + 1) % 100;
            let why = if looks == 0 { Look::Idle } else { Look::Spinning };
            if let Some(found) = look(why) {
                return found;
            }
            if deadline.is_some_and(Deadline::passed) {
                return look(Look::BeforeSleep).unwrap_or(Err(RecvError::TimedOut));
            }
            thread::sleep(LOOK);
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("next", &Position::units(self.onlooker.position())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::builder;

    #[test]
    fn who_begins_beside_a_sender_that_always_has_more_comes_to_an_end() {
        let ring = builder::unnamed().capacity(4096).broadcast(1).in_process().unwrap();
        let mut publisher = ring.publisher().unwrap();
        let memory = Arc::clone(&publisher.inner().memory);
        let mut onlooker = Onlooker::new(Arc::clone(&memory), Start::Oldest);
        onlooker.pass_over_until(|at, _| {
            if at == memory.head() {
                // Nearly a whole ring in which nothing is to be received, and one message.
                (0..250).for_each(|_| drop(publisher.reserve(0).unwrap()));
                publisher.send(b"").unwrap();
            }
            false
        });
        let laps = onlooker.position().units() / memory.geometry().capacity_units();
        assert!(laps <= 4, "it went on for {laps} laps");
    }
}
