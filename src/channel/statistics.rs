//! What a ring has done. Counted by each participant on cache lines of its own.

use super::attach;
use crate::{
    header::{Header, Kind},
    layout::{Counts, Slot},
    ring::{
        claim::{self, Claim},
        mailbox::{self, Area},
        memory::Memory,
    },
    sync::AtomicU64,
};
use std::sync::Arc;

/// Counts of one ring. Exact while nobody is at work; a participant that was killed may have left its last
/// step out (a sender of a rendezvous, or of a mailbox that is closed for all: have counted one that it had just taken back).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Statistics {
    /// The receiver's side. Where every reader gets every message: nobody's, as if it had received all. Of a mailbox: all that was
    /// received from it.
    pub receiver: ParticipantStatistics,
    /// Each sender slot that was ever used. Where every reader gets every message: the sender, in slot 0. Of a mailbox: what the
    /// holders of each seat have sent.
    pub senders: Vec<ParticipantStatistics>,
    /// Where every reader gets every message: each reader's slot that was ever used. Of a mailbox: what the holders of each seat
    /// have received.
    pub readers: Vec<ParticipantStatistics>,
    /// Of a mailbox: messages that lie there, and their bytes. One that came again was received twice, and one that was deleted
    /// never.
    lying: Option<(u64, u64)>,
}

impl Statistics {
    /// Messages sent and not yet released by a receiver. 0 where every reader gets every message: there
    /// [`Publisher::slowest`](crate::Sender::slowest) tells who is behind.
    pub fn pending_messages(&self) -> u64 {
        let counted = || self.sum(|sender| sender.messages).saturating_sub(self.receiver.messages);
        self.lying.map_or_else(counted, |(messages, _)| messages)
    }

    /// Messages ever sent; of a rendezvous, also what is on offer.
    pub fn sent(&self) -> u64 {
        self.sum(|sender| sender.messages)
    }

    /// Most bytes seen in use, headers included. Sampled whenever a sender looks up the receiver's position, at least once
    /// a lap. Of a mailbox: whole cells, whenever a sender finds none that is free, and by each in one of 16 laps over them.
    pub fn high_water_bytes(&self) -> u64 {
        self.senders.iter().map(|sender| sender.high_water_bytes).max().unwrap_or(0)
    }

    /// Bytes of the messages that were sent and not yet released by a receiver.
    pub fn pending_bytes(&self) -> u64 {
        let counted = || self.sum(|sender| sender.bytes).saturating_sub(self.receiver.bytes);
        self.lying.map_or_else(counted, |(_, bytes)| bytes)
    }

    pub(super) fn anybody_attached(&self) -> bool {
        [&self.receiver].into_iter().chain(&self.senders).chain(&self.readers).any(|one| one.attached)
    }

    fn sum(&self, of: impl Fn(&ParticipantStatistics) -> u64) -> u64 {
        // A hostile sender counts what it likes.
        self.senders.iter().map(of).fold(0, u64::saturating_add)
    }

    pub(super) fn read(memory: &Arc<Memory>, header: &Header) -> Self {
        let receiver = memory.receiver();
        let slots = memory
            .all_slots()
            .map(|(number, slot)| ParticipantStatistics::read(number, &slot.claim, &slot.counts))
            .filter(|one| one.pid.is_some())
            .collect();
        let one = ParticipantStatistics::read(0, &receiver.claim, &receiver.counts);
        let nobody = ParticipantStatistics { pid: None, attached: false, died: false, ..one };
        let lying = header.shape().map(|shape| lying(&Area::new(Arc::clone(memory), shape)));
        match header.kind {
            Kind::Single | Kind::Many(_) => Self { receiver: one, senders: slots, readers: vec![], lying },
            Kind::Broadcast(_) => {
                let senders = one.pid.is_some().then_some(one).into_iter().collect();
                Self { receiver: nobody, senders, readers: slots, lying }
            }
            Kind::Mailbox { .. } => {
                let received = |(number, slot): (u8, &Slot)| {
                    ParticipantStatistics::read(number, &slot.claim, &slot.received)
                };
                let readers: Vec<_> =
                    memory.all_slots().map(received).filter(|one| one.pid.is_some()).collect();
                let messages = readers.iter().map(|reader| reader.messages).fold(0, u64::saturating_add);
                let bytes = readers.iter().map(|reader| reader.bytes).fold(0, u64::saturating_add);
                Self {
                    receiver: ParticipantStatistics { messages, bytes, ..nobody },
                    senders: slots,
                    readers,
                    lying,
                }
            }
        }
    }
}

/// Messages that can be taken, or are held, and their bytes. What a sender has died with before it was sent is none, also where nobody
/// has put that in order yet.
fn lying(area: &Area) -> (u64, u64) {
    let there = area.cells().filter(|&cell| mailbox::lies_in(area, cell));
    there.fold((0, 0), |(messages, bytes), cell| (messages + 1, bytes + u64::from(area.label(cell).length)))
}

/// Counts of one place in a ring, added up over all processes that held it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ParticipantStatistics {
    /// Slot number of a sender; 0 for the receiver.
    pub slot: u8,
    /// The process that holds the place, or held it last; `None` when nobody ever did.
    pub pid: Option<u32>,
    /// Whether that process holds it now and lives.
    pub attached: bool,
    /// Whether that process died without closing.
    pub died: bool,
    /// Messages sent or received.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Times that the ring was found full (by a sender) or empty (by the receiver).
    pub refused: u64,
    /// Blocking calls that had to wait.
    pub blocked: u64,
    /// Times that a wait went to sleep.
    pub sleeps: u64,
    /// Times that the other side was woken by a system call.
    pub wakes: u64,
    /// Most bytes seen in use (senders only).
    pub high_water_bytes: u64,
}

impl ParticipantStatistics {
    fn read(slot: u8, claim: &AtomicU64, counts: &Counts) -> Self {
        let claim = claim::read(claim);
        let held = matches!(claim, Claim::Attached(_));
        let dead = held && claim.owner().is_some_and(attach::is_dead);
        Self {
            slot,
            pid: claim.owner().map(|owner| owner.pid()),
            attached: held && !dead,
            died: dead,
            messages: counts.messages.get(),
            bytes: counts.bytes.get(),
            refused: counts.refused.get(),
            blocked: counts.blocked.get(),
            sleeps: counts.sleeps.get(),
            wakes: counts.wakes.get(),
            high_water_bytes: counts.high_water.get(),
        }
    }
}
