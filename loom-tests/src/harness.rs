//! The channel layer in small: the order of steps of `src/channel`, without names, segments and statistics.
//!
//! | here | there |
//! |---|---|
//! | [`Sender::reserve`], [`Sender::commit`] | `Sender::room`, `wait_for_room`, `published` in `sender.rs`; `publish_one` in `reservation.rs` |
//! | [`Sender::batch`] | `Batch::take`, `commit` in `batch.rs` |
//! | [`Sender::close`], [`Receiver::close`] | `Drop` of `Sender` and `Listening`, then of `Attachment` in `attach.rs` |
//! | [`Ring::take`] | `take` in `attach.rs` |
//! | [`Ring::bury_sender`] | `keep` in `vigil.rs`, once it has the proof |
//! | [`Receiver::receive`] and what it calls | `Receiver::next`, `wait_for_message`, `release` and `impl Listening` in `receiver.rs` |
//!
//! A process is dead once its thread has stopped for good and [`Ring::bury_sender`] was called: that is the kernel's proof.

use crate::{
    ring::{
        claim::{self, Claim, Owner},
        memory::Memory,
        mpsc,
        position::{Geometry, Position, UNIT},
        receive::{Consumer, Record},
        recovery::{self, Pending},
        reserve::{Full, Produce, Reserved},
        spsc,
    },
    sync::{AtomicU32, AtomicU64, Ordering::*},
    sys::{
        clock::Deadline,
        futex::{self, Scope},
    },
    wait::{Bell, CLOSED, Look, News, Sleeper, Spin, WaitStrategy, Waker},
};
use loom::sync::atomic::AtomicU32 as Flags;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Units of the data area: the smallest there is.
pub(crate) const CAPACITY: u64 = 8;
/// A payload of two units: its record takes half of the ring, so the third record lies where the first one did.
pub(crate) const HALF: u32 = 16;
/// Units of that record.
pub(crate) const HALF_UNITS: u64 = CAPACITY / 2;
/// A payload of one unit.
pub(crate) const SHORT: u32 = 8;
/// Units of a record's header.
pub(crate) const HEADER: u64 = 2;

/// What tells tags from stale words.
const KEY: u64 = 0x5a5a_0000_0000_0000;

/// At which end a handle is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Sender,
    Receiver,
}

/// Who is to be told of a death, and how.
type Told = Arc<Mutex<Vec<(Side, Arc<News>)>>>;

/// One ring, as every process sees it.
#[derive(Clone)]
pub(crate) struct Ring {
    pub(crate) memory: Arc<Memory>,
    single: bool,
    may_go_bare: bool,
    /// Bit n: process n is dead, and everybody has the proof.
    dead: Arc<Flags>,
    /// Who is told of a death.
    told: Told,
}

/// The process `number`.
pub(crate) fn process(number: u32) -> Owner {
    Owner::new(number, 1)
}

/// Why a place could not be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// Somebody lives in it.
    Attached,
    /// Something of its last owner is left in the ring.
    NotSpent,
}

/// How a place was got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    InOrder,
    FromTheDead,
}

impl Ring {
    fn new(single: bool, slots: u8, start: u64) -> Self {
        let geometry = Geometry::new(CAPACITY * UNIT, false);
        #[allow(
            clippy::arc_with_non_send_sync,
            reason = "loom checks itself that its cells are not raced for"
        )]
        let memory = Arc::new(Memory::new(geometry, KEY, slots, Position::new(start)));
        Self { memory, single, may_go_bare: false, dead: Arc::new(Flags::new(0)), told: Arc::default() }
    }

    /// For one sender.
    pub(crate) fn single() -> Self {
        Self::single_at(0)
    }

    /// For one sender, its first record at `start`.
    pub(crate) fn single_at(start: u64) -> Self {
        Self::new(true, 1, start)
    }

    /// For many senders.
    pub(crate) fn many(slots: u8) -> Self {
        Self::many_at(slots, 0)
    }

    /// For many senders, its first record at `start`.
    pub(crate) fn many_at(slots: u8, start: u64) -> Self {
        Self::new(false, slots, start)
    }

    /// Whose wakers leave the fence out when nobody had to be woken for a while.
    pub(crate) fn asymmetric(self) -> Self {
        Self { may_go_bare: true, ..self }
    }

    pub(crate) fn bell_of_receiver(&self) -> Bell<'_> {
        Bell::of_receiver(&self.memory, Scope::Shared)
    }

    pub(crate) fn bell_of_senders(&self) -> Bell<'_> {
        Bell::of_senders(&self.memory, Scope::Shared)
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker::new(self.may_go_bare)
    }

    fn news_for(&self, side: Side) -> Arc<News> {
        let news = Arc::default();
        self.told.lock().unwrap().push((side, Arc::clone(&news)));
        news
    }

    /// The process has stopped for good, and the kernel says so from now on. Nobody is woken.
    pub(crate) fn bury_quietly(&self, owner: Owner) {
        self.dead.fetch_or(1 << owner.pid(), Release);
    }

    /// The same for a sender: the receiver is told.
    pub(crate) fn bury_sender(&self, owner: Owner) {
        self.bury_quietly(owner);
        self.tell(Side::Receiver, &self.memory.senders().granted);
    }

    /// The same for the receiver: the senders are told.
    pub(crate) fn bury_receiver(&self, owner: Owner) {
        self.bury_quietly(owner);
        self.tell(Side::Sender, &self.memory.receiver().granted);
    }

    fn tell(&self, side: Side, granted: &AtomicU32) {
        let told = self.told.lock().unwrap().clone();
        for (_, news) in told.into_iter().filter(|(whose, _)| *whose == side) {
            news.tell();
            futex::wake_while(granted, move || news.unheard());
        }
    }

    fn is_dead(&self, owner: Owner) -> bool {
        // A change that changes nothing sees the latest, as a question to the kernel does.
        self.dead.fetch_or(0, Acquire) & 1 << owner.pid() != 0
    }

    fn anybody_died(&self) -> bool {
        self.dead.fetch_or(0, Acquire) != 0
    }

    fn died_in(&self, claim: &AtomicU64) -> Option<Owner> {
        match claim::read(claim) {
            Claim::Attached(owner) if self.is_dead(owner) => Some(owner),
            _ => None,
        }
    }

    pub(crate) fn take(
        &self,
        word: &AtomicU64,
        owner: Owner,
        spent: impl Fn() -> bool,
    ) -> Result<Taken, Refused> {
        loop {
            let seen = claim::seen(word);
            let taken = match seen.claim() {
                Claim::Never => Taken::InOrder,
                Claim::Closed(_) if spent() => Taken::InOrder,
                Claim::Attached(other) if !self.is_dead(other) => return Err(Refused::Attached),
                Claim::Attached(_) if spent() => Taken::FromTheDead,
                Claim::Closed(_) | Claim::Attached(_) => return Err(Refused::NotSpent),
            };
            if claim::take(word, seen, owner) {
                return Ok(taken);
            }
        }
    }

    /// Attaches as the only sender.
    pub(crate) fn sender(&self, owner: Owner) -> Result<Sender<spsc::Producer>, Refused> {
        let before = claim::seen(&self.memory.receiver().claim);
        let taken = self.take(&self.memory.slot(spsc::SLOT).unwrap().claim, owner, || true)?;
        let producer = spsc::Producer::attach(Arc::clone(&self.memory), taken == Taken::FromTheDead);
        Ok(self.sender_of(producer, owner, before))
    }

    fn sender_of<P: Produce>(&self, producer: P, owner: Owner, before: claim::Seen) -> Sender<P> {
        let (waker, news) = (self.waker(), self.news_for(Side::Sender));
        Sender { ring: self.clone(), producer, owner, before, waker, news }
    }

    /// Attaches as one of many senders, in the first slot that can be had.
    pub(crate) fn multi_sender(&self, owner: Owner) -> Result<Sender<mpsc::Producer>, Refused> {
        let before = claim::seen(&self.memory.receiver().claim);
        let mut refused = Refused::Attached;
        for (number, slot) in self.memory.all_slots() {
            match self.take(&slot.claim, owner, || claim::slot_is_spent(&self.memory, slot)) {
                Ok(_) => {
                    let producer = mpsc::Producer::attach(Arc::clone(&self.memory), number);
                    return Ok(self.sender_of(producer, owner, before));
                }
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }

    /// Attaches as the receiver.
    pub(crate) fn receiver(&self, owner: Owner) -> Result<Receiver, Refused> {
        let area = self.memory.receiver();
        self.take(&area.claim, owner, || true)?;
        area.attention.fetch_and(!CLOSED, Relaxed);
        let consumer = Consumer::attach(Arc::clone(&self.memory));
        let (waker, news) = (self.waker(), self.news_for(Side::Receiver));
        Ok(Receiver { ring: self.clone(), consumer, owner, waker, news, ended: false })
    }
}

/// Sleeps at once: the polling before it has no part in the protocol.
pub(crate) fn at_once() -> Spin {
    Spin::new(WaitStrategy::Sleep, 1)
}

fn in_a_while() -> Option<Deadline> {
    Some(Deadline::after(Duration::MAX))
}

/// Why nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotSent {
    Full,
    TimedOut,
    Disconnected,
    PeerDied(u32),
}

pub(crate) struct Sender<P: Produce> {
    ring: Ring,
    producer: P,
    owner: Owner,
    /// The receiver's claim when this sender came.
    before: claim::Seen,
    waker: Waker,
    news: Arc<News>,
}

/// Whether a receiver has closed, other than one that had done so `before`.
fn has_closed(claim: &AtomicU64, before: claim::Seen) -> bool {
    let seen = claim::seen(claim);
    seen != before && matches!(seen.claim(), Claim::Closed(_))
}

impl<P: Produce> Sender<P> {
    pub(crate) fn slot(&self) -> u8 {
        self.producer.slot()
    }

    /// Room, if there is any now.
    pub(crate) fn try_reserve(&mut self, length: u32) -> Result<Reserved, NotSent> {
        self.room(|producer| producer.reserve(length))?.ok_or(NotSent::Full)
    }

    /// Room for a batch, if there is any now.
    pub(crate) fn try_reserve_units(&mut self, units: u64) -> Result<Reserved, NotSent> {
        self.room(|producer| producer.reserve_units(units))?.ok_or(NotSent::Full)
    }

    /// Room; sleeps while there is none.
    pub(crate) fn reserve(&mut self, length: u32) -> Result<Reserved, NotSent> {
        self.room_within(None, |producer| producer.reserve(length))
    }

    fn room(
        &mut self,
        reserve: impl Fn(&mut P) -> Result<Reserved, Full>,
    ) -> Result<Option<Reserved>, NotSent> {
        let closed = self.ring.bell_of_receiver().attention() & CLOSED != 0;
        if closed && has_closed(&self.ring.memory.receiver().claim, self.before) {
            return Err(NotSent::Disconnected);
        }
        Ok(reserve(&mut self.producer).ok())
    }

    fn room_within(
        &mut self,
        deadline: Option<Deadline>,
        reserve: impl Fn(&mut P) -> Result<Reserved, Full>,
    ) -> Result<Reserved, NotSent> {
        if let Some(reserved) = self.room(&reserve)? {
            return Ok(reserved);
        }
        let (ring, before, producer) = (&self.ring, self.before, &mut self.producer);
        producer.show_tail();
        let (claim, bell) = (&ring.memory.receiver().claim, ring.bell_of_receiver());
        let sleeper = Sleeper {
            bell: ring.bell_of_senders(),
            news: &self.news,
            counts: &ring.memory.slot(producer.slot()).unwrap().counts,
            eager_after: Some(Duration::ZERO),
            slice: None,
        };
        let found = sleeper.until(&mut at_once(), deadline, |look| {
            if bell.attention() & CLOSED != 0 && has_closed(claim, before) {
                return Some(Err(NotSent::Disconnected));
            }
            if let Ok(reserved) = reserve(producer) {
                return Some(Ok(reserved));
            }
            if look == Look::Spinning {
                None
            } else {
                ring.died_in(claim).map(|dead| Err(NotSent::PeerDied(dead.pid())))
            }
        });
        found.unwrap_or(Err(NotSent::TimedOut))
    }

    /// Writes and publishes what was reserved.
    pub(crate) fn commit(&mut self, reserved: Reserved, length: u32, value: u64) {
        self.ring.memory.write_payload(reserved.start, length, value);
        reserved.place(&self.ring.memory, reserved.start, length, value as u16);
        self.producer.publish(reserved, reserved.end());
        self.wake_receiver();
    }

    /// Publishes only the first `used` bytes of what was reserved.
    pub(crate) fn commit_shortened(&mut self, reserved: Reserved, length: u32, used: u32, value: u64) {
        let memory = &self.ring.memory;
        memory.write_payload(reserved.start, used, value);
        memory.shorten(reserved.start, length, used);
        reserved.place(memory, reserved.start, used, value as u16);
        let end = reserved.start.plus(memory.geometry().size_units(reserved.start, used as u64));
        self.producer.publish(reserved, end);
        self.wake_receiver();
    }

    /// Gives up what is reserved.
    pub(crate) fn discard(&mut self) {
        if self.producer.abandon() {
            self.wake_receiver();
        }
    }

    /// Goes bare, where it may: as after many messages that had to wake nobody.
    pub(crate) fn calm(&mut self) {
        for _ in 0..2 {
            self.wake_receiver();
        }
    }

    fn wake_receiver(&mut self) {
        self.ring.bell_of_receiver().ring(&mut self.waker, |_| true);
    }

    /// Sends; sleeps while the ring is full.
    pub(crate) fn send(&mut self, length: u32, value: u64) -> Result<(), NotSent> {
        let reserved = self.reserve(length)?;
        self.commit(reserved, length, value);
        Ok(())
    }

    /// Sends; sleeps while the ring is full until the clock ticks.
    pub(crate) fn send_for_a_while(&mut self, length: u32, value: u64) -> Result<(), NotSent> {
        let reserved = self.room_within(in_a_while(), |producer| producer.reserve(length))?;
        self.commit(reserved, length, value);
        Ok(())
    }

    /// Sends, if there is room now.
    pub(crate) fn try_send(&mut self, length: u32, value: u64) -> Result<(), NotSent> {
        let reserved = self.try_reserve(length)?;
        self.commit(reserved, length, value);
        Ok(())
    }

    /// Sends messages without payload all at once, in room for `units`. The kind is the value.
    pub(crate) fn batch(&mut self, units: u64, values: &[u64]) -> Result<(), NotSent> {
        let reserved = self.room_within(None, |producer| producer.reserve_units(units))?;
        let mut next = reserved.start;
        for value in values {
            reserved.place(&self.ring.memory, next, 0, *value as u16);
            next = next.plus(HEADER);
        }
        self.producer.publish(reserved, next);
        self.wake_receiver();
        Ok(())
    }

    /// The orderly end.
    pub(crate) fn close(mut self) {
        self.discard();
        self.ring.bell_of_receiver().cover(&mut self.waker);
        let memory = &self.ring.memory;
        memory.senders().closings.fetch_add(1, Release);
        claim::close(&memory.slot(self.producer.slot()).unwrap().claim);
        self.ring.bell_of_receiver().ring(&mut Waker::new(false), |_| true);
    }
}

/// A message as it was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) value: u64,
    /// Slot of its sender.
    pub(crate) slot: u8,
}

/// Why nothing was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Empty,
    TimedOut,
    Disconnected,
    PeerDied(u32),
}

pub(crate) struct Receiver {
    ring: Ring,
    pub(crate) consumer: Consumer,
    owner: Owner,
    waker: Waker,
    news: Arc<News>,
    ended: bool,
}

impl Receiver {
    /// The next message; sleeps while there is none.
    pub(crate) fn receive(&mut self) -> Result<Message, End> {
        self.receive_within(None)
    }

    /// The next message; sleeps while there is none until the clock ticks.
    pub(crate) fn receive_for_a_while(&mut self) -> Result<Message, End> {
        self.receive_within(in_a_while())
    }

    fn receive_within(&mut self, deadline: Option<Deadline>) -> Result<Message, End> {
        let record = match self.consumer.look().unwrap() {
            Some(record) => record,
            None => {
                let (ring, news) = (self.ring.clone(), Arc::clone(&self.news));
                let (bell, counts) = (ring.bell_of_receiver(), &ring.memory.receiver().counts);
                let sleeper = Sleeper { bell, news: &news, counts, eager_after: None, slice: None };
                sleeper.until(&mut at_once(), deadline, |why| self.look(why)).unwrap_or(Err(End::TimedOut))?
            }
        };
        Ok(self.take(record))
    }

    /// The next message, if there is one now.
    pub(crate) fn try_receive(&mut self) -> Result<Message, End> {
        let record = self.peek()?;
        Ok(self.take(record))
    }

    /// The next message, which stays in the ring.
    pub(crate) fn peek(&mut self) -> Result<Record, End> {
        match self.consumer.look().unwrap() {
            Some(record) => Ok(record),
            None => self.look(Look::BeforeSleep).unwrap_or(Err(End::Empty)),
        }
    }

    /// Whether there is a message at the head; nothing else is looked at.
    pub(crate) fn sees_a_message(&mut self) -> bool {
        self.consumer.look().unwrap().is_some()
    }

    pub(crate) fn read(&self, record: Record) -> Message {
        let value = match record.length() {
            0 => record.info.kind() as u64,
            length => self.ring.memory.read_payload(record.position, length),
        };
        assert_eq!(record.info.kind() as u64, value, "header and payload are of one message");
        Message { value, slot: record.info.owner() }
    }

    fn take(&mut self, record: Record) -> Message {
        let message = self.read(record);
        self.release(record.end);
        message
    }

    pub(crate) fn release(&mut self, end: Position) {
        self.consumer.release(end);
        self.offer_room(false);
    }

    /// Goes bare, where it may: as after many releases that had to wake nobody.
    pub(crate) fn calm(&mut self) {
        for _ in 0..2 {
            self.offer_room(false);
        }
    }

    fn look(&mut self, why: Look) -> Option<Result<Record, End>> {
        match self.consumer.look().unwrap() {
            Some(record) => return Some(Ok(record)),
            None if why == Look::Spinning => return None,
            None => {}
        }
        let suspicious = why == Look::Idle || self.ring.anybody_died();
        let died = if suspicious { self.look_for_the_dead() } else { None };
        self.offer_room(true);
        let ended = if died.is_none() { self.has_ended() } else { None };
        let looked = self.consumer.look().unwrap();
        match looked {
            Some(record) => Some(Ok(record)),
            None => match (died, ended) {
                (Some(pid), _) => Some(Err(End::PeerDied(pid))),
                (None, Some(closings)) => Some(Err(self.report_end(closings))),
                (None, None) => None,
            },
        }
    }

    fn offer_room(&mut self, empty: bool) {
        let memory = self.consumer.memory();
        Bell::of_senders(memory, Scope::Shared).ring(&mut self.waker, |eager| {
            let tail = Position::split(memory.senders().tail.load(Relaxed)).0;
            let used = tail.since(self.consumer.head());
            eager || empty || used <= memory.geometry().capacity_units() / 2
        });
    }

    fn has_ended(&mut self) -> Option<u32> {
        let memory = &self.ring.memory;
        let closings = memory.senders().closings.load(Acquire);
        if !self.ended && closings == memory.receiver().closings_seen.load(Relaxed) {
            return None;
        }
        let attached =
            memory.all_slots().any(|(_, slot)| matches!(claim::read(&slot.claim), Claim::Attached(_)));
        if attached {
            self.ended = false;
        }
        (!attached).then_some(closings)
    }

    fn report_end(&mut self, closings: u32) -> End {
        self.ring.memory.receiver().closings_seen.store(closings, Relaxed);
        self.ended = true;
        End::Disconnected
    }

    fn look_for_the_dead(&mut self) -> Option<u32> {
        if !self.ring.single {
            while let Pending::PassedOver { .. } = self.resolve() {}
        }
        let mut last = None;
        for (_, slot) in self.ring.memory.all_slots() {
            if let Claim::Attached(owner) = claim::read(&slot.claim) {
                last = Some(owner.pid()).filter(|_| self.ring.is_dead(owner));
                last?;
            }
        }
        last
    }

    /// Finds out why there is no message, and passes over what a dead sender left.
    pub(crate) fn resolve(&mut self) -> Pending {
        let ring = self.ring.clone();
        recovery::resolve(&mut self.consumer, |owner| ring.is_dead(owner))
    }

    /// The orderly end.
    pub(crate) fn close(mut self) {
        self.ring.bell_of_senders().cover(&mut self.waker);
        let area = self.ring.memory.receiver();
        area.attention.fetch_or(CLOSED, Relaxed);
        claim::close(&area.claim);
        self.ring.bell_of_senders().ring(&mut Waker::new(false), |_| true);
    }
}
