//! The sending end.

use super::{
    attach::{Attachment, Before, has_closed},
    checksum,
    crowd::Crowd,
    patience::Patience,
    reservation::{self, Reservation},
    ring::Inner,
    trust::{Trust, Untrusted},
    vigil::Vigil,
};
use crate::{
    error::{OpenError, SendError},
    layout::Counts,
    ring::{
        claim,
        loan::Tail,
        memory::Memory,
        mpsc,
        offer::Offer,
        position::{Position, UNIT},
        record::Info,
        reserve::{Full, Need, Produce, Reserved},
        spsc,
    },
    sys::{fork::Generation, futex::Scope},
    wait::{Bell, CLOSED, Due, Look, Sleeper, Spin, WaitStrategy, Waker},
};
use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

pub(super) mod sealed {
    use super::{
        Arc, Attachment, Before, Bell, Counts, Inner, Memory, OpenError, Produce, Reserved, Scope, SendError,
        Tail, UNIT, Vigil, has_closed,
    };

    pub trait Sealed {
        type Producer: Produce + Send;

        /// Takes a slot of the ring.
        fn join(inner: Arc<Inner>) -> Result<(Attachment, Self::Producer), OpenError>;

        /// Goes on in a slot that this process holds and nobody uses any more.
        fn go_on(attachment: &Attachment) -> Self::Producer;

        /// Rung when there is a message.
        #[inline]
        fn bell_of_takers(memory: &Memory, scope: Scope) -> Bell<'_> {
            Bell::of_receiver(memory, scope)
        }

        /// Slept on while there is no room.
        fn bell_of_givers(memory: &Memory, scope: Scope) -> Bell<'_> {
            Bell::of_senders(memory, scope)
        }

        #[inline]
        fn counts(memory: &Memory, slot: u8) -> Option<&Counts> {
            Some(&memory.slot(slot)?.counts)
        }

        /// Whether nobody receives any more: a receiver has closed, other than one that had done so `before`.
        #[inline]
        fn is_disconnected(memory: &Memory, scope: Scope, before: Before) -> bool {
            let bell = Self::bell_of_takers(memory, scope);
            bell.attention() & super::CLOSED != 0 && has_closed(memory.receiver(), before)
        }

        /// Whether another sender has reserved since this one did so before.
        #[inline(always)]
        fn met_another(_reserved: &Reserved) -> bool {
            false
        }

        /// What the producer does on the news of a death; the error when nobody is left to send to.
        fn hear(producer: &mut Self::Producer, vigil: &Vigil) -> Option<SendError> {
            let memory = producer.memory();
            let dead = vigil.died_in(&memory.receiver().claim)?;
            let used = Tail::settled(memory).position().map_or(0, |tail| tail.since(memory.head()));
            let unreceived = (used * UNIT).min(memory.geometry().capacity());
            Some(SendError::PeerDied { pid: dead.pid(), unreceived })
        }

        /// Forgets the dead whose places others have taken.
        fn bury(memory: &Memory, vigil: &Vigil) {
            vigil.bury(std::iter::once(&memory.receiver().claim));
        }
    }
}

/// [`Single`], [`Many`] or [`Broadcast`](super::Broadcast): for how many senders a ring is.
pub trait SenderKind: sealed::Sealed + 'static {}

/// The ring has one sender at a time.
#[derive(Clone, Copy, Debug)]
pub enum Single {}

/// The ring has many senders at a time, in one total order.
#[derive(Clone, Copy, Debug)]
pub enum Many {}

impl sealed::Sealed for Single {
    type Producer = spsc::Producer;

    fn join(inner: Arc<Inner>) -> Result<(Attachment, Self::Producer), OpenError> {
        let (attachment, crashed) = Attachment::single(inner)?;
        let producer = producer_of_one(&attachment, crashed);
        Ok((attachment, producer))
    }

    fn go_on(attachment: &Attachment) -> Self::Producer {
        producer_of_one(attachment, false)
    }
}

fn producer_of_one(Attachment { inner, .. }: &Attachment, crashed: bool) -> spsc::Producer {
    spsc::Producer::attach(Arc::clone(&inner.memory), crashed, inner.header.checksummed)
}

impl sealed::Sealed for Many {
    type Producer = mpsc::Producer;

    fn join(inner: Arc<Inner>) -> Result<(Attachment, Self::Producer), OpenError> {
        let attachment = Attachment::many(inner)?;
        let producer = producer_of_many(&attachment);
        Ok((attachment, producer))
    }

    fn go_on(attachment: &Attachment) -> Self::Producer {
        producer_of_many(attachment)
    }

    #[inline(always)]
    fn met_another(reserved: &Reserved) -> bool {
        reserved.info.previous() != reserved.info.owner()
    }
}

fn producer_of_many(attachment: &Attachment) -> mpsc::Producer {
    let Attachment { inner, .. } = attachment;
    // Where a message costs a checksum, or memory from the kernel, a CAS is nothing: and there the receiver asks where the tail is.
    let may_borrow = inner.header.asymmetric && !inner.header.checksummed && inner.memory.elastic().is_none();
    mpsc::Producer::attach(Arc::clone(&inner.memory), attachment.slot(), may_borrow)
}

/// [`Single`] or [`Many`]: the ring has one receiver.
pub trait OneReceiver: SenderKind + sealed::Sealed<Producer: Offer> {}

impl OneReceiver for Single {}
impl OneReceiver for Many {}

impl SenderKind for Single {}
impl SenderKind for Many {}

/// One of many sending ends of a ring. Can be cloned: each clone has a slot of its own, which it takes when it is first
/// used.
pub type MultiSender<P = Untrusted> = Sender<P, Many>;

/// A sending end of a ring. Dropping it closes it.
///
/// All messages of one sender arrive in the order in which they were committed. Every function says whether it may block;
/// those that don't are lock-free (with one sender: wait-free), except where there is no room and the receiver has died: then they
/// take a lock of this process for a moment.
pub struct Sender<P: Trust = Untrusted, K: SenderKind = Single> {
    /// In a clone that was not used yet, one that finds no room.
    pub(super) producer: K::Producer,
    /// Of this handle, or of the one it was cloned from.
    pub(super) attachment: Arc<Attachment>,
    /// The receiver's place when this sender came.
    pub(super) before: Before,
    pub(super) waker: Waker,
    // What each message needs of the ring, without a detour.
    longest: u32,
    /// How much shorter than the longest a message may be: nothing, where all have one type.
    slack: u32,
    /// Bytes behind each message that guard it.
    pub(super) trailer: u32,
    pub(super) scope: Scope,
    pub(super) generation: Generation,
    pub(super) spin: Spin,
    crowd: Crowd,
    /// One thread at a time; and the trust.
    marker: PhantomData<(Cell<()>, P)>,
}

/// How long a sender sleeps until half of the ring is free, before it asks to be woken at the next release; and how long at most
/// when that woke another. Longer than a receiver waits for a processor that others use: who asks for the next release gets room for
/// a message or two, and is soon back.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);

impl<P: Trust, K: SenderKind> Sender<P, K> {
    pub(super) fn attach(inner: Arc<Inner>) -> Result<Self, OpenError> {
        let before = match inner.peer {
            None => Before::now(inner.memory.receiver()),
            // There is no receiver of a link before or after the one.
            Some(_) => Before::NOBODY,
        };
        let (attachment, producer) = K::join(inner)?;
        Ok(Self::new(Arc::new(attachment), producer, before))
    }

    fn new(attachment: Arc<Attachment>, producer: K::Producer, before: Before) -> Self {
        let inner = &attachment.inner;
        let (scope, spin) = (inner.scope, inner.spin());
        let longest = inner.header.item.map_or(inner.header.longest, |item| item.size);
        let slack = if inner.header.item.is_some() { 0 } else { longest };
        let waker = Waker::new(inner.header.asymmetric);
        let (generation, trailer) = (Generation::current(), checksum::trailer(&inner.header));
        let crowd = Crowd::new(inner.memory.head());
        let marker = PhantomData;
        Self {
            producer,
            attachment,
            before,
            waker,
            longest,
            slack,
            trailer,
            scope,
            generation,
            spin,
            crowd,
            marker,
        }
    }

    /// Sends a copy of `message`; waits while the ring is full.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] when the receiver has closed, [`SendError::PeerDied`] when it has died and the ring is full,
    /// [`SendError::TooLong`], [`SendError::Forked`]; [`SendError::WrongLength`] where all messages have one type,
    /// [`SendError::NoMemory`] in an elastic ring, [`SendError::TooManySenders`] of a clone. The message was not sent then.
    ///
    /// In an elastic ring [`SendError::AtCeiling`] stands for the `Full` and the `TimedOut` of the other forms.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_within(0, message, &Patience::Endless)
    }

    /// Sends a copy of `message` with the user's `kind`; waits while the ring is full. Without waiting, or with a time-out:
    /// [`try_reserve`](Sender::try_reserve) or [`reserve_timeout`](Sender::reserve_timeout), then
    /// [`set_kind`](Reservation::set_kind).
    ///
    /// # Errors
    /// As for [`send`](Sender::send).
    #[inline]
    pub fn send_kind(&mut self, kind: u16, message: &[u8]) -> Result<(), SendError> {
        self.send_within(kind, message, &Patience::Endless)
    }

    /// Sends a copy of `message` if there is room now. Never blocks.
    ///
    /// # Errors
    /// [`SendError::Full`], and those of [`send`](Sender::send).
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_within(0, message, &Patience::None)
    }

    /// Sends a copy of `message`; waits at most `timeout` while the ring is full.
    ///
    /// # Errors
    /// [`SendError::TimedOut`], and those of [`send`](Sender::send).
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_within(0, message, &Patience::For(timeout))
    }

    /// Sends a copy of `message`; waits until `deadline` at most while the ring is full.
    ///
    /// # Errors
    /// [`SendError::TimedOut`], and those of [`send`](Sender::send).
    pub fn send_deadline(&mut self, message: &[u8], deadline: Instant) -> Result<(), SendError> {
        self.send_within(0, message, &Patience::Until(deadline))
    }

    #[inline]
    fn send_within(&mut self, kind: u16, message: &[u8], patience: &Patience) -> Result<(), SendError> {
        let mut reservation = self.reserve_within(message.len(), patience)?;
        reservation.write_at(0, message);
        reservation.set_kind(kind);
        reservation.commit();
        Ok(())
    }

    /// Room for a message of `length` bytes; waits while the ring is full.
    ///
    /// # Errors
    /// As for [`send`](Sender::send).
    #[inline]
    pub fn reserve(&mut self, length: usize) -> Result<Reservation<'_, P, K>, SendError> {
        self.reserve_within(length, &Patience::Endless)
    }

    /// Room for a message of `length` bytes if there is any now. Never blocks.
    ///
    /// # Errors
    /// [`SendError::Full`], and those of [`send`](Sender::send).
    #[inline]
    pub fn try_reserve(&mut self, length: usize) -> Result<Reservation<'_, P, K>, SendError> {
        self.reserve_within(length, &Patience::None)
    }

    /// Room for a message of `length` bytes; waits at most `timeout` while the ring is full.
    ///
    /// # Errors
    /// [`SendError::TimedOut`], and those of [`send`](Sender::send).
    pub fn reserve_timeout(
        &mut self,
        length: usize,
        timeout: Duration,
    ) -> Result<Reservation<'_, P, K>, SendError> {
        self.reserve_within(length, &Patience::For(timeout))
    }

    /// Room for a message of `length` bytes; waits until `deadline` at most while the ring is full.
    ///
    /// # Errors
    /// [`SendError::TimedOut`], and those of [`send`](Sender::send).
    pub fn reserve_deadline(
        &mut self,
        length: usize,
        deadline: Instant,
    ) -> Result<Reservation<'_, P, K>, SendError> {
        self.reserve_within(length, &Patience::Until(deadline))
    }

    #[inline(always)]
    pub(super) fn reserve_within(
        &mut self,
        length: usize,
        patience: &Patience,
    ) -> Result<Reservation<'_, P, K>, SendError> {
        let length = self.check_length(length)?;
        let reserved = self.room_for(length, patience)?;
        Ok(Reservation::new(self, reserved))
    }

    /// Room for a message of this length, which was checked, and what guards it.
    #[inline(always)]
    pub(super) fn room_for(&mut self, length: u32, patience: &Patience) -> Result<Reserved, SendError> {
        self.room(patience, Need::Record((length + self.trailer).into()))
    }

    /// How this handle waits from now on, instead of what its ring was built with.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.spin = Inner::spin_as(strategy);
    }

    /// Whether a receiver has closed since this sender came. A ring whose receiver is still to come is not closed.
    pub fn is_disconnected(&self) -> bool {
        K::is_disconnected(self.memory(), self.scope, self.before)
    }

    /// Bytes of the longest message.
    pub fn longest_message(&self) -> usize {
        self.longest as usize
    }

    /// Bytes of the ring's data area.
    pub fn capacity(&self) -> u64 {
        self.attachment.inner.header.geometry.capacity()
    }

    #[inline]
    pub(super) fn check_length(&self, length: usize) -> Result<u32, SendError> {
        let longest = self.longest;
        match u32::try_from(length) {
            // A longer one wraps to more than there is slack.
            Ok(short) if longest.wrapping_sub(short) <= self.slack => Ok(short),
            _ => Err(self.wrong_length(length)),
        }
    }

    #[cold]
    fn wrong_length(&self, length: usize) -> SendError {
        match self.longest as usize {
            longest if length > longest => SendError::TooLong { length, longest },
            only => SendError::WrongLength { length, only },
        }
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.attachment.inner
    }

    #[inline]
    pub(super) fn memory(&self) -> &Memory {
        self.producer.memory()
    }

    /// What is reserved.
    #[inline(always)]
    pub(super) fn open(&self) -> Reserved {
        self.producer.open()
    }

    /// First use of a clone: the slot of the handle it was cloned from is held until here, so that the receiver never
    /// sees the last sender go in between.
    #[cold]
    pub(super) fn join(&mut self) -> Result<(), SendError> {
        if let Some(attachment) = Arc::get_mut(&mut self.attachment) {
            // The last handle on that slot: it is this one's.
            self.producer = K::go_on(attachment);
            return Ok(());
        }
        let inner = Arc::clone(&self.attachment.inner);
        let most = inner.header.slots();
        let (attachment, producer) = K::join(inner).map_err(|_| SendError::TooManySenders { most })?;
        self.attachment = Arc::new(attachment);
        self.producer = producer;
        Ok(())
    }

    /// Room in the ring; waits for it.
    #[inline(always)]
    pub(super) fn room(&mut self, patience: &Patience, need: Need) -> Result<Reserved, SendError> {
        self.discard_leaked();
        if self.is_disconnected() {
            return Err(SendError::Disconnected);
        }
        if !self.generation.lasts() {
            return Err(SendError::Forked);
        }
        // What is reserved stays in registers, also behind a wait. On a way through memory it would be stored in parts and loaded as
        // a whole: which waits until all that was stored before, the last message, has left the processor.
        if let Ok(reserved) = self.producer.reserve(need) {
            let may_step_aside = patience.waits() && !self.spin.never_ends();
            if K::met_another(&reserved) && may_step_aside && self.crowd.meet() {
                // So that its publication takes the long way, on which it steps aside.
                self.waker.look_once();
            }
            return Ok(reserved);
        }
        self.wait_for_room(patience, need)?;
        Ok(self.open())
    }

    /// Waits until there is room, and reserves it. The first use of a clone comes here as well.
    #[cold]
    fn wait_for_room(&mut self, patience: &Patience, need: Need) -> Result<(), SendError> {
        if !self.producer.has_slot() {
            self.join()?;
            if self.producer.reserve(need).is_ok() {
                return Ok(());
            }
        }
        let (inner, before, producer) = (&self.attachment.inner, self.before, &mut self.producer);
        let Some(counts) = K::counts(&inner.memory, producer.slot()) else { return Err(SendError::Full) };
        counts.refused.add(1);
        if producer.is_starved() {
            return Err(SendError::NoMemory);
        }
        let (vigil, memory) = (&self.attachment.vigil, &inner.memory);
        let reserve = |producer: &mut K::Producer| match producer.reserve(need) {
            Ok(_) => Some(Ok(())),
            Err(Full) => producer.is_starved().then_some(Err(SendError::NoMemory)),
        };
        producer.show_tail();
        inner.remind(producer);
        // Whoever has died may have been who held the room.
        let hear_and_try_again = |producer: &mut K::Producer| match K::hear(producer, vigil) {
            Some(error) => Some(Err(error)),
            None => reserve(producer),
        };
        if !patience.waits() {
            let heard = vigil.has_news().then(|| hear_and_try_again(producer)).flatten();
            return heard.unwrap_or(Err(inner.no_room(false)));
        }
        let deadline = patience.deadline();
        self.spin.step_back_from_backlog(memory.geometry().capacity());
        let sleeper = Sleeper {
            eager_after: Some(PATIENCE),
            ..vigil.sleeper(K::bell_of_givers(memory, inner.scope), counts)
        };
        let found = sleeper.until(&mut self.spin, deadline, |look| {
            if K::is_disconnected(memory, inner.scope, before) {
                return Some(Err(SendError::Disconnected));
            }
            if let Some(found) = reserve(producer) {
                return Some(found);
            }
            if look == Look::Spinning {
                return None;
            }
            let found = hear_and_try_again(producer);
            inner.remind(producer);
            found
        });
        K::bury(memory, vigil);
        found.unwrap_or_else(|| Err(self.attachment.inner.no_room(true)))
    }

    #[inline(always)]
    pub(super) fn publish_one(&mut self, info: Info) {
        if !self.generation.lasts() {
            return;
        }
        match self.trailer {
            0 => reservation::publish_one(&mut self.producer, info),
            trailer => checksum::publish_one(&mut self.producer, info.with_length(info.length() + trailer)),
        }
        self.published(1, info.length().into());
    }

    #[inline]
    pub(super) fn publish_all(&mut self, reserved: Reserved, used: Position, messages: u64, bytes: u64) {
        if !self.generation.lasts() {
            return;
        }
        self.producer.publish(reserved, used);
        if self.trailer != 0 {
            self.producer.show_tail();
        }
        self.published(messages, bytes);
    }

    #[inline]
    pub(super) fn published(&mut self, messages: u64, bytes: u64) {
        self.count(messages, bytes);
        if !K::bell_of_takers(self.memory(), self.scope).may_be_left(&self.waker) {
            self.wake_takers();
        }
    }

    #[cold]
    fn wake_takers(&mut self) {
        let memory = self.producer.memory();
        let woken = K::bell_of_takers(memory, self.scope).ring(&mut self.waker, |_| Due::All);
        if let Some(counts) = K::counts(memory, self.producer.slot()).filter(|_| woken) {
            counts.wakes.add(1);
        }
        if self.crowd.is_due() {
            self.crowd.step_aside(memory.head());
        }
    }

    /// Counts messages that were published.
    #[inline]
    pub(super) fn count(&self, messages: u64, bytes: u64) {
        let Some(counts) = K::counts(self.memory(), self.producer.slot()) else { return };
        counts.messages.add(messages);
        counts.bytes.add(bytes);
    }

    /// Gives up a reservation that was leaked: the receiver, or the next one, may wait for what is behind it.
    #[inline(always)]
    pub(super) fn discard_leaked(&mut self) {
        if self.open().units != 0 {
            self.discard();
        }
    }

    /// Gives up what is reserved; others may wait behind it.
    #[cold]
    pub(super) fn discard(&mut self) {
        self.crowd.forget();
        if self.generation.lasts() && self.producer.abandon() {
            K::bell_of_takers(&self.attachment.inner.memory, self.scope).ring(&mut self.waker, |_| Due::All);
        }
    }
}

impl<P: Trust> Clone for Sender<P, Many> {
    /// A handle for another thread. It takes a slot when it is first used; [`SendError::TooManySenders`] then says that
    /// there is none.
    fn clone(&self) -> Self {
        let unused = mpsc::Producer::unused(Arc::clone(&self.attachment.inner.memory));
        let mut clone = Self::new(Arc::clone(&self.attachment), unused, self.before);
        // A forked child has none of its own by cloning its parent's.
        clone.generation = self.generation;
        clone
    }
}

impl<P: Trust, K: SenderKind> Drop for Sender<P, K> {
    fn drop(&mut self) {
        self.discard();
        if self.generation.lasts() {
            K::bell_of_takers(&self.attachment.inner.memory, self.scope).cover(&mut self.waker);
        }
    }
}

impl<P: Trust, K: SenderKind> fmt::Debug for Sender<P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.producer.slot();
        let claim = self.memory().slot(slot).map(|slot| claim::read(&slot.claim));
        f.debug_struct("Sender").field("slot", &slot).field("claim", &claim).finish()
    }
}
