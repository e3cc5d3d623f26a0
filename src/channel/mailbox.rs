//! Mailboxes: any number of senders and receivers, and each message for exactly one of them.

mod desk;
mod fate;
mod letter;
mod notify;
mod picking;
pub mod posix;
pub mod sysv;

pub use fate::{Fate, Sent};
pub use letter::{Blank, Letter, Mail};
pub use picking::Picking;

use super::{
    attach::{self, Attachment},
    patience::Patience,
    ring::Inner,
    trust::{Trust, Untrusted},
};
use crate::{
    error::{OpenError, RecvError, SendError},
    ring::{
        claim::{self, Seen},
        mailbox::{
            self, Area, Clerk, Held, Label, Phase, Pick,
            notice::{self, There},
        },
    },
    wait::{Look, Sleeper, Spin, WaitStrategy},
};
use desk::{ANY_ROOM, Desk, IS_TOLD, MUCH_ROOM};
use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a sender sleeps for a quarter of the cells to be freed, before it asks to be woken for the next one.
const PATIENCE: Duration = Duration::from_millis(2);

/// A receiver that may wait looks once in so many messages whether it has caught up with a stream, and should keep off.
const BEAT: u64 = 64;

/// How often a message is looked for anew because another took what was found.
const ROUNDS: u32 = 1 << 12;

/// What a message is, beside its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Envelope {
    /// The user's kind of message, by which receivers pick.
    pub kind: u16,
    /// From 0; higher ones are received first.
    pub priority: u8,
}

impl From<u16> for Envelope {
    /// Of this kind, with priority 0.
    fn from(kind: u16) -> Self {
        Self { kind, priority: 0 }
    }
}

/// How full a mailbox is. A look at many words, one after the other: exact while nobody is at work.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Occupancy {
    /// Most messages.
    pub capacity: u32,
    /// Messages that can be taken.
    pub waiting: u32,
    /// Bytes of them.
    pub waiting_bytes: u64,
    /// Messages that receivers hold.
    pub held: u32,
    /// The process of each seat that is held, this one's among them: one that has taken several is there as often.
    pub processes: Vec<u32>,
}

/// A seat at a mailbox: sends, and receives.
///
/// Each message is received by exactly one of all who receive, the highest priority first and in that the oldest first;
/// by [`Pick`] also from the middle. Several can be held at a time and dropped in any order. What a process holds when it
/// dies can be received anew, at its old place; what it had not sent yet is gone. Nobody is ever locked out by another: each
/// step is one atomic change of one word, and a process that stops holds up only what it holds.
///
/// Made with [`Builder::mailbox`](crate::Builder::mailbox) and [`Ring::mailbox`](crate::Ring::mailbox), or by [`mailbox`].
///
/// ```
/// use ringpost::{Envelope, Pick};
/// let ring = ringpost::unnamed().mailbox(64).priorities(2).memfd()?; // or a name, between processes
/// let (mut boss, mut worker) = (ring.mailbox()?, ring.mailbox()?);
/// boss.send(7, b"one")?;
/// boss.send(8, b"two")?;
/// boss.send(Envelope { kind: 7, priority: 1 }, b"urgent")?;
/// assert_eq!(worker.recv(Pick::Any)?.to_vec(), b"urgent");
/// let two = worker.recv(Pick::Kind(8))?; // held in place until it is dropped
/// assert_eq!(worker.recv(Pick::Any)?.to_vec(), b"one");
/// assert_eq!(two.to_vec(), b"two");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mailbox<P: Trust = Untrusted> {
    desk: Arc<Desk>,
    /// That of the blank that was sent last, for the next one: counting it anew is an access that waits for all stores before it.
    of_the_last: Option<Arc<Desk>>,
    clerk: Clerk,
    spin: Spin,
    /// Whether somebody sleeps for this handle, who takes no message himself.
    is_slept_for: bool,
    trust: PhantomData<P>,
}

/// Takes a seat at the mailbox `name`, which is made, for 256 messages of up to 8192 bytes, when it does not exist.
///
/// # Errors
/// As [`Builder::open_or_create`](crate::Builder::open_or_create) and [`Ring::mailbox`](crate::Ring::mailbox).
pub fn mailbox(name: &str) -> Result<Mailbox, OpenError> {
    let builder = super::builder(name);
    builder.open_or(|| builder.clone().mailbox(256).create())?.mailbox()
}

impl<P: Trust> Mailbox<P> {
    pub(super) fn attach(inner: Arc<Inner>) -> Result<Self, OpenError> {
        let Some(shape) = inner.header.shape() else {
            return Err(attach::wrong_kind(inner.header.kind, "a mailbox"));
        };
        let area = Area::new(Arc::clone(&inner.memory), shape);
        let (spin, called) = (inner.spin(), Cell::new(false));
        let recover = |number, claim: &_, seen| {
            called.set(called.get() || area.memory().slot(number).is_some_and(desk::was_called));
            mailbox::recover(&area, number, claim, seen);
        };
        let attachment = Attachment::seat(inner, recover)?;
        let number = attachment.slot();
        let claim = attachment.inner.memory.slot(number).map_or(Seen::NEVER, |slot| claim::seen(&slot.claim));
        let clerk = Clerk::new(&area, number, claim);
        let desk = Desk::new(attachment, area, clerk.seat);
        mailbox::get_up(&desk.area, desk.seat);
        desk.call_for_the_dead(called.get());
        Ok(Self {
            desk: Arc::new(desk),
            of_the_last: None,
            clerk,
            spin,
            is_slept_for: false,
            trust: PhantomData,
        })
    }

    /// Takes another seat, for another thread.
    ///
    /// # Errors
    /// [`OpenError::TooManySeats`].
    pub fn try_clone(&self) -> Result<Self, OpenError> {
        Self::attach(Arc::clone(&self.desk.attachment.inner))
    }

    /// Sends a copy of `message`; waits while the mailbox is full. A system call only when a receiver sleeps, or to wait.
    ///
    /// # Errors
    /// [`SendError::TooLong`], [`SendError::NoSuchPriority`], [`SendError::Forked`], [`SendError::Corrupt`];
    /// [`SendError::Disconnected`] when the mailbox was [closed for all](Mailbox::close_for_all).
    pub fn send(&mut self, envelope: impl Into<Envelope>, message: &[u8]) -> Result<Sent, SendError> {
        self.send_by(envelope.into(), message, Patience::Endless)
    }

    /// As [`send`](Mailbox::send), but never waits. Lock-free, except when another process at the mailbox has just died: then it takes a
    /// lock of this process for a moment.
    ///
    /// # Errors
    /// Also [`SendError::Full`].
    pub fn try_send(&mut self, envelope: impl Into<Envelope>, message: &[u8]) -> Result<Sent, SendError> {
        self.send_by(envelope.into(), message, Patience::None)
    }

    /// As [`send`](Mailbox::send), but waits at most `timeout`.
    ///
    /// # Errors
    /// Also [`SendError::TimedOut`].
    pub fn send_timeout(
        &mut self,
        envelope: impl Into<Envelope>,
        message: &[u8],
        timeout: Duration,
    ) -> Result<Sent, SendError> {
        self.send_by(envelope.into(), message, Patience::For(timeout))
    }

    /// As [`send`](Mailbox::send), but waits at most until `deadline`.
    ///
    /// # Errors
    /// Also [`SendError::TimedOut`].
    pub fn send_deadline(
        &mut self,
        envelope: impl Into<Envelope>,
        message: &[u8],
        deadline: Instant,
    ) -> Result<Sent, SendError> {
        self.send_by(envelope.into(), message, Patience::Until(deadline))
    }

    /// Room for a message of `length` bytes, in place; waits while the mailbox is full. Several can be open at a time.
    ///
    /// # Errors
    /// As [`send`](Mailbox::send).
    pub fn reserve(&mut self, length: usize) -> Result<Blank<P>, SendError> {
        self.blank(length, Patience::Endless)
    }

    /// As [`reserve`](Mailbox::reserve), but never waits.
    ///
    /// # Errors
    /// Also [`SendError::Full`].
    pub fn try_reserve(&mut self, length: usize) -> Result<Blank<P>, SendError> {
        self.blank(length, Patience::None)
    }

    /// Sends what was written in place. A system call only when a receiver sleeps.
    ///
    /// # Errors
    /// [`SendError::NoSuchPriority`], [`SendError::Disconnected`] and [`SendError::Forked`], with which the message is gone;
    /// [`SendError::Corrupt`].
    ///
    /// # Panics
    /// When `blank` is of another handle.
    pub fn commit(&mut self, envelope: impl Into<Envelope>, blank: Blank<P>) -> Result<Sent, SendError> {
        assert!(Arc::ptr_eq(&self.desk, blank.desk()), "it was reserved by another handle");
        let envelope = self.checked(envelope.into())?;
        if !self.desk.is_ours() {
            return Err(SendError::Forked);
        }
        let length = blank.len();
        let (desk, held) = blank.into_parts();
        self.of_the_last = desk;
        self.post(envelope, held, length)
    }

    #[inline]
    fn blank(&mut self, length: usize, patience: Patience) -> Result<Blank<P>, SendError> {
        let held = self.room(length, patience)?;
        let desk = self.of_the_last.take().unwrap_or_else(|| Arc::clone(&self.desk));
        Ok(Blank::new(desk, held, length))
    }

    fn send_by(&mut self, envelope: Envelope, message: &[u8], patience: Patience) -> Result<Sent, SendError> {
        let envelope = self.checked(envelope)?;
        let held = self.room(message.len(), patience)?;
        letter::write(&self.desk.area, held, 0, message);
        self.post(envelope, held, message.len())
    }

    fn checked(&self, envelope: Envelope) -> Result<Envelope, SendError> {
        let highest = self.desk.area.shape().levels - 1;
        match envelope.priority {
            priority if priority > highest => Err(SendError::NoSuchPriority { priority, highest }),
            _ => Ok(envelope),
        }
    }

    #[inline]
    fn post(
        &mut self,
        Envelope { kind, priority }: Envelope,
        held: Held,
        length: usize,
    ) -> Result<Sent, SendError> {
        let (desk, label) = (&self.desk, Label { length: length as u32, kind, level: priority });
        let Some(state) = self.clerk.send(&desk.area, held, label) else { return Err(SendError::Corrupt) };
        let counts = desk.slot().map(|slot| &slot.counts);
        if let Some(counts) = counts {
            counts.messages.add(1);
            counts.bytes.add(length as u64);
        }
        let woken = desk.receivers().wake_one(desk.seat.number, |pick| desk::takes(pick, kind));
        if notice::is_anybody_registered(&desk.area) {
            desk.tell_of(There { cell: held.cell, state }, woken);
        }
        if let Some(counts) = counts {
            counts.wakes.add(woken.into());
        }
        let sent = Sent { mailbox: desk.instance(), cell: held.cell, state };
        // Whoever has found it closed may have looked before.
        if !(mailbox::is_closed(&desk.area) && self.take_away(&sent)) {
            return Ok(sent);
        }
        if let Some(counts) = self.desk.slot().map(|slot| &slot.counts) {
            counts.messages.add(1_u64.wrapping_neg());
            counts.bytes.add((length as u64).wrapping_neg());
        }
        Err(SendError::Disconnected)
    }

    /// A cell to be filled.
    #[inline]
    fn room(&mut self, length: usize, patience: Patience) -> Result<Held, SendError> {
        let longest = self.desk.area.shape().longest as usize;
        if length > longest {
            return Err(SendError::TooLong { length, longest });
        }
        if !self.desk.is_ours() {
            return Err(SendError::Forked);
        }
        if mailbox::is_closed(&self.desk.area) {
            return Err(SendError::Disconnected);
        }
        match self.clerk.fill(&self.desk.area) {
            Some(held) => Ok(held),
            None => self.wait_for_room(patience),
        }
    }

    #[cold]
    fn wait_for_room(&mut self, patience: Patience) -> Result<Held, SendError> {
        let Self { desk, clerk, spin, .. } = self;
        let Some(slot) = desk.slot() else { return Err(SendError::Full) };
        slot.counts.refused.add(1);
        let mut slept = false;
        let mut look = |look: Look| {
            if look != Look::Spinning {
                slept = true;
                desk.hear();
            }
            match mailbox::is_closed(&desk.area) {
                true => Some(Err(SendError::Disconnected)),
                false => clerk.fill(&desk.area).map(Ok),
            }
        };
        if !patience.waits() {
            return look(Look::Idle).unwrap_or(Err(SendError::Full));
        }
        let deadline = patience.deadline();
        spin.step_back_from_backlog(desk.area.shape().length());
        let wanted = (MUCH_ROOM, ANY_ROOM);
        let sleeper = Sleeper {
            eager_after: Some(PATIENCE),
            ..desk.sleeper(desk.senders(), slot, &slot.counts, wanted)
        };
        let found = sleeper.until(spin, deadline, look);
        if slept {
            desk.pass_room_on();
        }
        found.unwrap_or(Err(SendError::TimedOut))
    }

    /// The message that `pick` takes first; waits while there is none. It is done with when it is dropped.
    ///
    /// # Errors
    /// [`RecvError::NotTheReceiver`], [`RecvError::Forked`]; [`RecvError::Disconnected`] when the mailbox was
    /// [closed for all](Mailbox::close_for_all) and nothing is left. The death of others is no error: others may come.
    pub fn recv(&mut self, pick: Pick) -> Result<Letter<P>, RecvError> {
        self.recv_by(pick, Patience::Endless)
    }

    /// As [`recv`](Mailbox::recv), but never waits. Lock-free, except when another process at the mailbox has just died: then it takes a
    /// lock of this process for a moment.
    ///
    /// # Errors
    /// Also [`RecvError::Empty`].
    pub fn try_recv(&mut self, pick: Pick) -> Result<Letter<P>, RecvError> {
        self.recv_by(pick, Patience::None)
    }

    /// As [`recv`](Mailbox::recv), but waits at most `timeout`.
    ///
    /// # Errors
    /// Also [`RecvError::TimedOut`].
    pub fn recv_timeout(&mut self, pick: Pick, timeout: Duration) -> Result<Letter<P>, RecvError> {
        self.recv_by(pick, Patience::For(timeout))
    }

    /// As [`recv`](Mailbox::recv), but waits at most until `deadline`.
    ///
    /// # Errors
    /// Also [`RecvError::TimedOut`].
    pub fn recv_deadline(&mut self, pick: Pick, deadline: Instant) -> Result<Letter<P>, RecvError> {
        self.recv_by(pick, Patience::Until(deadline))
    }

    #[inline]
    fn recv_by(&mut self, pick: Pick, patience: Patience) -> Result<Letter<P>, RecvError> {
        self.recv_up_to(u32::MAX, pick, patience)
    }

    /// As [`recv`](Mailbox::recv). A message of more than `most` bytes is left where it is, and its length the error.
    #[inline]
    fn recv_up_to(&mut self, most: u32, pick: Pick, patience: Patience) -> Result<Letter<P>, RecvError> {
        if !self.desk.is_ours() {
            return Err(RecvError::Forked);
        }
        // What the dead held may come before all that is there.
        self.desk.hear();
        let taken = self.allowed().and_then(|()| {
            let taken = take(&mut self.clerk, &self.desk, most, pick);
            taken.unwrap_or_else(|| self.wait_for_message(most, pick, patience))
        });
        if self.is_slept_for {
            // It may have been called for what it does not ask for here, or may not receive.
            pass_on(&self.desk, &mut self.clerk);
            if taken.is_err() {
                leave_in_vain(&self.desk, &mut self.clerk, pick);
            }
        }
        let held = taken?;
        let letter = Letter::new(Arc::clone(&self.desk), held);
        if let Some(slot) = self.desk.slot() {
            slot.received.messages.add(1);
            slot.received.bytes.add(letter.len() as u64);
            let received = slot.received.messages.get();
            if received.is_multiple_of(BEAT)
                && patience.waits()
                && self.clerk.has_caught_up(&self.desk.area, held)
            {
                self.spin.keep_off_stream(received);
            }
        }
        Ok(letter)
    }

    fn allowed(&self) -> Result<(), RecvError> {
        let other = || mailbox::only_receiver(&self.desk.area).filter(|&only| only != self.desk.seat);
        if other().is_none() {
            return Ok(());
        }
        // It may have died.
        self.desk.hear();
        other().map_or(Ok(()), |only| Err(RecvError::NotTheReceiver { pid: self.desk.process_at(only) }))
    }

    #[cold]
    fn wait_for_message(&mut self, most: u32, pick: Pick, patience: Patience) -> Result<Held, RecvError> {
        let Self { desk, clerk, spin, .. } = self;
        let Some(slot) = desk.slot() else { return Err(RecvError::Empty) };
        slot.received.refused.add(1);
        // There is room, for whoever waits until much of it is there.
        desk.senders().wake_one(desk.seat.number, |_| true);
        let mut slept = false;
        let mut look = |look: Look| {
            if look != Look::Spinning {
                slept = true;
                desk.hear();
            }
            let closed = mailbox::is_closed(&desk.area);
            take(clerk, desk, most, pick).or(closed.then_some(Err(RecvError::Disconnected)))
        };
        if !patience.waits() {
            return look(Look::Idle).unwrap_or(Err(RecvError::Empty));
        }
        let deadline = patience.deadline();
        spin.step_back_from_stream(slot.received.messages.get());
        let wanted = pick.encode();
        let sleeper = desk.sleeper(desk.receivers(), slot, &slot.received, (wanted, wanted));
        let found = sleeper.until(spin, deadline, look);
        if slept {
            pass_on(desk, clerk);
        }
        if slept && !matches!(found, Some(Ok(_))) {
            leave_in_vain(desk, clerk, pick);
        }
        found.unwrap_or(Err(RecvError::TimedOut))
    }

    /// From now on only this handle receives, until it is dropped or its process dies; the others get
    /// [`RecvError::NotTheReceiver`]. Those that wait already may still take one message each.
    ///
    /// # Errors
    /// [`RecvError::NotTheReceiver`] when another one has said so, [`RecvError::Forked`].
    pub fn receive_alone(&mut self) -> Result<(), RecvError> {
        if !self.desk.is_ours() {
            return Err(RecvError::Forked);
        }
        self.allowed()?;
        if mailbox::close_to_others(&self.desk.area, self.desk.seat) { Ok(()) } else { self.allowed() }
    }

    /// Closes the mailbox for all who have it open: nobody sends to it any more, and who waits for room gets
    /// [`SendError::Disconnected`]; what is in it can still be received, then comes [`RecvError::Disconnected`]. The name stays:
    /// [`Ring::unlink`](crate::Ring::unlink) takes it away. In a forked child nothing happens.
    pub fn close_for_all(&self) {
        if self.desk.is_ours() {
            mailbox::close(&self.desk.area);
            self.desk.receivers().wake_all();
            self.desk.senders().wake_all();
        }
    }

    /// How full it is, and who is there.
    pub fn occupancy(&self) -> Occupancy {
        self.desk.hear();
        let (area, memory) = (&self.desk.area, &self.desk.inner().memory);
        let mut occupancy = Occupancy {
            capacity: area.shape().cells,
            waiting: 0,
            waiting_bytes: 0,
            held: 0,
            processes: Vec::new(),
        };
        for cell in area.cells() {
            let state = area.state(cell);
            match state.phase() {
                // What a sender has died with before it was sent is none.
                Phase::Ready if mailbox::is_ready(area, cell, state) => {
                    occupancy.waiting += 1;
                    occupancy.waiting_bytes += u64::from(area.label(cell).length);
                }
                Phase::Taken => occupancy.held += 1,
                Phase::Free | Phase::Filling | Phase::Ready => {}
            }
        }
        for (_, slot) in memory.all_slots() {
            if let claim::Claim::Attached(owner) = claim::read(&slot.claim) {
                occupancy.processes.push(owner.pid());
            }
        }
        occupancy
    }

    /// How this handle waits from now on.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.spin = Inner::spin_as(strategy);
    }

    /// Bytes of the longest message.
    pub fn longest_message(&self) -> usize {
        self.desk.area.shape().longest as usize
    }
}

/// Wakes each who sleeps for something that is there. Due from who was called: it may have been called for another message than
/// the one that it took, or leave without one.
#[cold]
fn pass_on(desk: &Desk, clerk: &mut Clerk) {
    let mut is_there = |pick| clerk.find(&desk.area, Pick::decode(pick)).is_some();
    desk.receivers().wake_each(|pick| pick & IS_TOLD == 0 && is_there(pick));
}

/// Due from who was, or may have been, called for what `pick` takes, does not sleep any more, and has taken nothing: whatever is there is
/// another's, or told of. Who has called it late, having seen it asleep, had sent before [`pass_on`] has looked.
#[cold]
fn leave_in_vain(desk: &Desk, clerk: &mut Clerk, pick: Pick) {
    if notice::is_anybody_registered(&desk.area) && clerk.find(&desk.area, pick).is_some() {
        desk.call_again();
    }
}

/// Takes what `pick` takes first, unless it has more than `most` bytes.
#[inline]
fn take(clerk: &mut Clerk, desk: &Desk, most: u32, pick: Pick) -> Option<Result<Held, RecvError>> {
    for _ in 0..ROUNDS {
        let found = clerk.find(&desk.area, pick)?;
        let length = if most == u32::MAX { 0 } else { desk.label(found.cell).length };
        if length <= most {
            if let Some(held) = clerk.take(&desk.area, found) {
                return Some(Ok(held));
            }
        } else if desk.area.is_still(found.cell, found.state) {
            return Some(Err(RecvError::BufferTooSmall { length: length as usize }));
        }
    }
    None
}

impl<P: Trust> Drop for Mailbox<P> {
    fn drop(&mut self) {
        if !self.desk.is_ours() {
            return;
        }
        mailbox::open_to_all(&self.desk.area, self.desk.seat);
        if self.is_slept_for {
            // It may have been called for a message that it has not asked for.
            self.pass_on(Pick::Any);
        }
    }
}

impl<P: Trust> fmt::Debug for Mailbox<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("seat", &self.desk.seat.number).finish()
    }
}
