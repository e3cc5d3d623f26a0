//! One sender, many readers, and every reader gets every message.
//!
//! The roles are turned round: the sender holds the one place (`layout::ReceiverArea`), each reader a slot. The sender
//! writes records as the only sender of any ring does, shows its tail after each, and writes over those only that every
//! reader has released. Who only looks on (`onlooker.rs`) holds nobody back.

use super::{
    claim::{self, Claim, Owner, Seen},
    floor::Floor,
    memory::Memory,
    position::{Position, UNIT},
    receive::{self, Look, Record, Violation},
    reserve::{Full, Need, Produce, Reserved},
};
use crate::{
    layout::Slot,
    sync::{Ordering::*, fence},
};
use std::sync::Arc;

/// The floor is raised by this part of the capacity, so that readers seldom see it change.
const STEPS_OF_THE_FLOOR: u64 = 16;

/// How often a reader that joins at the floor looks for it anew. It holds the sender back meanwhile, so that once is enough
/// unless the ring is damaged.
const ROUNDS: u32 = 100;

/// The sending end.
pub struct Producer {
    memory: Arc<Memory>,
    /// What its records say of their sender.
    name: u8,
    tail: Position,
    /// What lies before may be written over, when it was last looked up.
    head: Position,
    floor: Floor,
    /// Claims of readers that died holding them.
    fallen: Vec<Seen>,
    /// Up to where tags are gone that a crashed sender may have left.
    wiped: Position,
    /// Up to where it may have left any.
    unclean: Position,
    /// Empty when there is none.
    open: Reserved,
}

/// How far behind a reader is.
struct Hold {
    slot: u8,
    owner: Owner,
    /// Units to the tail; `None` of one that is about to join, and where nonsense stands.
    behind: Option<u64>,
}

impl Producer {
    /// Goes on where the last sender stopped: behind the last valid record. `crashed` when that one did not close.
    ///
    /// The caller must hold the claim of the only sender.
    pub(crate) fn attach(memory: Arc<Memory>, crashed: bool) -> Self {
        let capacity = memory.geometry().capacity_units();
        let shown = memory.head();
        let tail = receive::end_of_records(&memory, shown, shown);
        let mut floor = Floor::read(&memory);
        if tail.since(floor.position) > capacity {
            // A reader has damaged the ring.
            floor.position = tail;
        }
        let name = claim::begin_turn(&memory, &memory.receiver().claim);
        // Nothing may be written over before it was looked up.
        let head = tail.back(capacity);
        let unclean = unclean_up_to(&memory, tail, crashed);
        let (fallen, open) = (Vec::with_capacity(memory.slots().into()), Reserved::NONE);
        let producer = Self { memory, name, tail, head, floor, fallen, wiped: tail, unclean, open };
        producer.store_tail();
        producer
    }

    /// From now on readers that died hold nobody back: those of whom it is said now, and those of whom it was said before.
    pub(crate) fn pass_over(&mut self, is_dead: impl Fn(Owner) -> bool) {
        let Self { memory, fallen, .. } = self;
        let claims = || memory.all_slots().map(|(_, slot)| claim::seen(&slot.claim));
        fallen.retain(|before| claims().any(|seen| seen == *before));
        for seen in claims() {
            if !fallen.contains(&seen) && matches!(seen.claim(), Claim::Attached(owner) if is_dead(owner)) {
                fallen.push(seen);
            }
        }
    }

    /// Number of the slot of the reader who is farthest behind and not dead, who it is, and by how many bytes.
    pub(crate) fn slowest(&self, is_dead: impl Fn(Owner) -> bool) -> Option<(u8, Owner, u64)> {
        let capacity = self.memory.geometry().capacity_units();
        let lag = |hold: Hold| (hold.slot, hold.owner, hold.behind.unwrap_or(capacity) * UNIT);
        self.holds().filter(|hold| !is_dead(hold.owner)).map(lag).max_by_key(|&(_, _, bytes)| bytes)
    }

    fn holds(&self) -> impl Iterator<Item = Hold> {
        let capacity = self.memory.geometry().capacity_units();
        self.memory.all_slots().filter_map(move |(number, slot)| {
            let seen = claim::seen(&slot.claim);
            let Claim::Attached(owner) = seen.claim() else { return None };
            if self.fallen.contains(&seen) {
                return None;
            }
            // ORDERING: Acquire S1; pairs with Release R1 in `Reader::release`: a record is written over only after it was
            // read.
            let (position, takes) = Position::split(slot.position.load(Acquire));
            let behind = self.tail.since(position);
            let is_known = takes == seen.takes() && behind <= capacity;
            Some(Hold { slot: number, owner, behind: is_known.then_some(behind) })
        })
    }

    /// Units from the reader who is farthest behind to the tail.
    fn most_behind(&self) -> Result<u64, Full> {
        self.holds().try_fold(0, |most, hold| Ok(hold.behind.ok_or(Full)?.max(most)))
    }

    fn store_tail(&self) {
        // ORDERING: Release R1; pairs with Acquire S1 in `Memory::head`: whoever joins there looks for a tag where a payload of the lap
        // before may lie, which was written by then. J1 orders it before the look at the readers.
        self.memory.receiver().position.store(self.tail.units(), Release);
    }

    #[cold]
    fn look_for_room(&mut self, units: u64) -> Result<(), Full> {
        let capacity = self.memory.geometry().capacity_units();
        let step = capacity / STEPS_OF_THE_FLOOR;
        let goal = self.tail.since(self.floor.position).saturating_sub(step).min(capacity - units);
        let least = self.most_behind();
        if let Ok(least) = least
            && least <= capacity - units
        {
            self.floor.raise(&self.memory, self.tail, goal, least);
        }
        // ORDERING: J1, SeqCst fence; pairs with J2 in `Reader::join`: either the look at the readers that follows finds the
        // one that joins, or that one finds the tail and the floor as they were shown before. And O1, which pairs with O2 in
        // `Floor::read`: the floor is raised before anything is written over.
        fence(SeqCst);
        let behind = self.most_behind()?;
        // A reader may have come to what was the floor until just now.
        let used = self.tail.since(self.floor.position).max(behind);
        self.head = self.tail.back(used);
        self.memory.receiver().counts.high_water.raise_to(behind * UNIT);
        // Also where it is too little now: less may be asked for next.
        self.wipe();
        if used + units > capacity { Err(Full) } else { Ok(()) }
    }

    /// Makes tags that a crashed sender may have left invalid, as far as nobody needs what lies there.
    fn wipe(&mut self) {
        let free = self.head.plus(self.memory.geometry().capacity_units());
        let end = if free.has_reached(self.unclean) { self.unclean } else { free };
        if !self.wiped.has_reached(end) {
            self.memory.wipe(self.wiped, end.since(self.wiped));
            self.wiped = end;
        }
        // A reader that the crashed one knew to be dead, and this one does not yet, ends the room where that one wrote on. A
        // tag of this turn there is no record that anybody needs: the floor was raised past the one before it.
        if end != self.unclean && self.memory.state(end).is_some() {
            self.memory.wipe(end, 1);
        }
    }
}

/// Up to where a sender that crashed may have left tags, and notes it for the next one.
fn unclean_up_to(memory: &Memory, tail: Position, crashed: bool) -> Position {
    let (word, capacity) = (&memory.receiver().unclean, memory.geometry().capacity_units());
    // ORDERING: Relaxed; written by senders only, and this one has taken the place of those before.
    let noted = Position::new(word.load(Relaxed));
    let unclean = match crashed {
        true => tail.plus(capacity),
        false if noted.since(tail) <= capacity => noted,
        false => tail,
    };
    // ORDERING: as above.
    word.store(unclean.units(), Relaxed);
    unclean
}

impl Produce for Producer {
    #[inline(always)]
    fn reserve(&mut self, need: Need) -> Result<Reserved, Full> {
        debug_assert!(self.open.units == 0);
        let units = need.units_at(&self.memory, self.tail);
        if self.tail.since(self.head) + units > self.memory.geometry().capacity_units() {
            self.look_for_room(units)?;
        }
        let reserved = need.met(self.tail, units, self.name, 0);
        self.open = reserved;
        Ok(reserved)
    }

    #[inline(always)]
    fn open(&self) -> Reserved {
        self.open
    }

    #[inline(always)]
    fn publish(&mut self, reserved: Reserved, used: Position) {
        reserved.publish(&self.memory);
        self.tail = used;
        self.open.units = 0;
        self.store_tail();
    }

    fn abandon(&mut self) -> bool {
        if self.open.units == 0 {
            return false;
        }
        // A batch may have placed valid tags: pass over them rather than write over them.
        self.open.abandon(&self.memory);
        self.tail = self.open.end();
        self.open.units = 0;
        self.store_tail();
        true
    }

    fn show_tail(&self) {}

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn slot(&self) -> u8 {
        0
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Start {
    /// At the next message that is sent.
    #[default]
    Now,
    /// At the last so many messages, or as many of them as are still in the ring.
    Last(u64),
    /// At the oldest message that is still in the ring.
    Oldest,
}

/// A reader that the sender waits for.
pub(crate) struct Reader {
    memory: Arc<Memory>,
    slot: u8,
    /// How often the slot was taken, as the claim says.
    takes: u8,
    /// Position of the first record that is not released.
    head: Position,
}

impl Reader {
    /// Begins to hold the sender back. Until then its position is not of this taking, and whoever sees the claim waits.
    ///
    /// The caller must hold the claim of the slot.
    pub(crate) fn join(memory: Arc<Memory>, slot: u8, start: Start) -> Self {
        let takes = memory.slot(slot).map_or(0, |slot| claim::seen(&slot.claim).takes());
        let head = memory.head();
        let mut reader = Self { memory, slot, takes, head };
        match start {
            Start::Now => reader.join_at_the_tail(),
            Start::Oldest => reader.join_at_the_floor(),
            Start::Last(most) => {
                reader.join_at_the_floor();
                reader.pass_over_all_but(most);
            }
        }
        reader
    }

    fn join_at_the_tail(&mut self) {
        // ORDERING: J2, SeqCst fence; pairs with J1 in `Producer::look_for_room`: a sender that did not see the claim had
        // shown the tail by then, and writes over nothing behind it.
        fence(SeqCst);
        self.release(self.memory.head());
    }

    fn join_at_the_floor(&mut self) {
        for _ in 0..ROUNDS {
            let floor = Floor::read(&self.memory).position;
            self.release(floor);
            // ORDERING: J2, SeqCst fence; pairs with J1 in `Producer::look_for_room`: a sender that did not see the position
            // had shown by then how far it writes over records.
            fence(SeqCst);
            if Floor::read(&self.memory).position == floor {
                return;
            }
        }
        self.join_at_the_tail();
    }

    fn pass_over_all_but(&mut self, most: u64) {
        let (start, capacity) = (self.head, self.memory.geometry().capacity_units());
        let messages = |memory: &Memory, mut count: u64| {
            let mut at = start;
            let mut passed = 0;
            while count > 0 {
                let (end, message) = match receive::look_at(memory, at) {
                    Ok(Look::Message(record)) => (record.end, 1),
                    Ok(Look::Nothing(behind)) => (behind, 0),
                    Ok(Look::Empty) | Err(_) => break,
                };
                if end.since(start) > capacity {
                    break;
                }
                (at, passed, count) = (end, passed + message, count - message);
            }
            (at, passed)
        };
        let (_, all) = messages(&self.memory, u64::MAX);
        let (at, _) = messages(&self.memory, all.saturating_sub(most));
        self.release(at);
    }

    fn own(&self) -> Option<&Slot> {
        self.memory.slot(self.slot)
    }

    /// The first message that is not released, or `None`. Wait-free: it passes over at most one capacity of discarded
    /// records.
    #[inline]
    pub(crate) fn look(&mut self) -> Result<Option<Record>, Violation> {
        let start = self.head;
        loop {
            match receive::look_at(&self.memory, self.head)? {
                Look::Message(record) => return Ok(Some(record)),
                Look::Empty => return Ok(None),
                Look::Nothing(behind) => self.release(behind),
            }
            if self.head.since(start) > self.memory.geometry().capacity_units() {
                return Ok(None);
            }
        }
    }

    /// Gives everything before `end` back to the sender, as far as this reader is concerned.
    #[inline]
    pub(crate) fn release(&mut self, end: Position) {
        self.head = end;
        if let Some(slot) = self.own() {
            // ORDERING: Release R1; pairs with Acquire S1 in `Producer::holds`: the payloads were read before.
            slot.position.store(end.with_low_byte(self.takes), Release);
        }
    }

    /// Units to the tail.
    pub(crate) fn behind(&self) -> u64 {
        let behind = self.memory.head().since(self.head);
        // The tail is shown a moment after the record.
        if behind <= self.memory.geometry().capacity_units() { behind } else { 0 }
    }

    /// Whether half of the ring is free, as far as readers tell.
    pub(crate) fn half_is_free(&self) -> bool {
        let tail = self.memory.head();
        let half = self.memory.geometry().capacity_units() / 2;
        self.memory.all_slots().all(|(_, slot)| {
            // ORDERING: Relaxed; only compared. By an old position less is free: the next release asks again, and the sender looks
            // itself after a while.
            let (position, _) = Position::split(slot.position.load(Relaxed));
            !matches!(claim::read(&slot.claim), Claim::Attached(_)) || tail.since(position) <= half
        })
    }

    pub(crate) fn position(&self) -> Position {
        self.head
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }
}
