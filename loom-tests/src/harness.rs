//! The channel layer in small: the order of steps of `src/channel`, without names, segments and statistics.
//!
//! | here | there |
//! |---|---|
//! | [`Sender::reserve`], [`Sender::commit`] | `Sender::room`, `wait_for_room`, `published` in `sender.rs`; `publish_one` in `reservation.rs` |
//! | [`Sender::offer`], [`Sender::wait_until_taken`] | `Reservation::offer` in `reservation.rs`, `wait_until_taken` in `receipt.rs` |
//! | [`Sender::batch`] | `Batch::take`, `commit` in `batch.rs` |
//! | [`Sender::close`], [`Receiver::close`] | `Drop` of `Sender` and `Listening`, then of `Attachment` in `attach.rs` |
//! | [`Ring::take`] | `take` in `attach.rs` |
//! | [`Ring::bury_sender`] | `keep` in `vigil.rs`, once it has the proof |
//! | [`Receiver::receive`] and what it calls | `Receiver::next`, `wait_for_message`, `release` in `receiver.rs`; `impl Listening` in `receiver/listening.rs` |
//!
//! A process is dead once its thread has stopped for good and [`Ring::bury_sender`] was called: that is the kernel's proof.

mod ground;
mod receiver;
mod sender;

pub(crate) use ground::Ground;
pub(crate) use receiver::{End, Message, Receiver};
pub(crate) use sender::{NotSent, Sender};

use crate::{
    ring::{
        claim::{self, Claim, Owner},
        elastic::Elastic,
        memory::Memory,
        mpsc,
        offer::Offer,
        position::{Geometry, Position, UNIT},
        receive::{Consumer, Record},
        recovery::{self, Pending},
        reserve::{Need, Produce, Reserved},
        spsc,
    },
    sync::{AtomicU32, AtomicU64, Ordering::*},
    sys::{
        clock::Deadline,
        futex::{self, Scope},
    },
    wait::{Bell, CLOSED, Due, Look, News, Sleeper, Spin, Usher, WaitStrategy, Waker},
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
/// Units of a chunk of an elastic ring.
pub(crate) const CHUNK: u64 = CAPACITY / 4;
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
    may_borrow: bool,
    /// Bit n: process n is dead, and everybody has the proof.
    dead: Arc<Flags>,
    /// Who is told of a death.
    told: Told,
    /// Of an elastic ring.
    ground: Option<Arc<Ground>>,
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
        Self::on(None, single, slots, start)
    }

    fn on(ground: Option<Arc<Ground>>, single: bool, slots: u8, start: u64) -> Self {
        let geometry = Geometry::new(CAPACITY * UNIT, ground.is_some());
        #[allow(
            clippy::arc_with_non_send_sync,
            reason = "loom checks itself that its cells are not raced for"
        )]
        let memory = Arc::new(match &ground {
            None => Memory::new(geometry, KEY, slots, Position::new(start)),
            Some(ground) => {
                let elastic = Elastic::new(CHUNK * UNIT, ground.pages());
                let memory = Memory::new(geometry, KEY, slots, Position::new(start)).with_elastic(elastic);
                memory.start_at(Position::new(start));
                memory
            }
        });
        if let Some(ground) = &ground {
            ground.belongs_to(&memory);
            assert!(memory.elastic().is_some_and(|elastic| elastic.begin(&memory)));
        }
        let dead = Arc::new(Flags::new(0));
        Self { memory, single, may_go_bare: false, may_borrow: false, dead, told: Arc::default(), ground }
    }

    /// Elastic, for one sender.
    pub(crate) fn elastic_single() -> Self {
        Self::on(Some(Ground::new()), true, 1, 0)
    }

    /// Elastic, for many senders.
    pub(crate) fn elastic_many(slots: u8) -> Self {
        Self::on(Some(Ground::new()), false, slots, 0)
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

    /// Whose senders borrow the tail: the first reserves, and has it from then on.
    pub(crate) fn lending(self) -> Self {
        Self { may_borrow: true, ..self }
    }

    /// How many chunks of an elastic ring have memory.
    pub(crate) fn size(&self) -> usize {
        self.ground.as_ref().map_or(0, |ground| ground.size())
    }

    /// Somebody uses so many units of the data area, which must have memory.
    fn step_on(&self, position: Position, units: u64) {
        if let Some(ground) = &self.ground {
            ground.step_on(self.memory.geometry().offset(position), units * UNIT);
        }
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
        let producer = spsc::Producer::attach(Arc::clone(&self.memory), taken == Taken::FromTheDead, false);
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
                    let memory = Arc::clone(&self.memory);
                    let producer = mpsc::Producer::attach(memory, number, self.may_borrow);
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
        let (usher, news) = (Usher::new(self.waker(), Scope::Shared), self.news_for(Side::Receiver));
        let (fallen, ended) = (Vec::new(), None);
        Ok(Receiver { ring: self.clone(), consumer, owner, usher, news, fallen, ended })
    }
}

/// Sleeps at once: the polling before it has no part in the protocol.
pub(crate) fn at_once() -> Spin {
    Spin::new(WaitStrategy::Sleep, false)
}

fn in_a_while() -> Option<Deadline> {
    Some(Deadline::after(Duration::MAX))
}
