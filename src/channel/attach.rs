//! Taking a sender slot or the receiver's place, and giving it back.

use super::{
    ring::Inner,
    vigil::{Arrival, Vigil},
};
use crate::{
    error::OpenError,
    header::Kind,
    layout::{ReceiverArea, Slot},
    ring::{
        broadcast::{Reader, Start},
        claim::{self, Claim, Owner, Seen},
        memory::Memory,
        spsc,
    },
    sync::{AtomicU64, Ordering::*},
    sys::{
        fork::Generation,
        peer::{self, Identity, Life},
    },
    wait::{CLOSED, Due, Waker},
};
use std::sync::Arc;

/// Which place is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Receiver,
    Slot(u8),
    /// A slot of a mailbox, whose holders send and receive.
    Seat(u8),
}

impl Place {
    /// Who holds it. `None` for a slot that the ring has not.
    pub(super) fn claim(self, memory: &Memory) -> Option<&AtomicU64> {
        match self {
            Place::Receiver => Some(&memory.receiver().claim),
            Place::Slot(number) | Place::Seat(number) => memory.slot(number).map(|slot| &slot.claim),
        }
    }

    /// Who is about to take it.
    pub(super) fn coming(self, memory: &Memory) -> Option<&AtomicU64> {
        match self {
            Place::Receiver => Some(&memory.receiver().coming),
            Place::Slot(number) | Place::Seat(number) => memory.slot(number).map(|slot| &slot.coming),
        }
    }
}

/// A held place. Dropping it closes it and wakes whoever waits for that, unless this is a forked child of the holder.
pub struct Attachment {
    /// Before the mapping in which its words lie: fields are dropped in order.
    pub(crate) vigil: Vigil,
    pub(crate) inner: Arc<Inner>,
    place: Place,
    /// Told apart from a forked child of the holder.
    generation: Generation,
}

pub(crate) fn this_process() -> Owner {
    let Identity { pid, start_ticks } = peer::this_process();
    Owner::new(pid, start_ticks)
}

/// Whether the process is gone, by proof.
pub(crate) fn is_dead(owner: Owner) -> bool {
    peer::life(Identity { pid: owner.pid(), start_ticks: owner.start_ticks() }) == Life::Dead
}

/// How the place of which there is one stood when somebody came, to whom an end from before is none.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    claim: Seen,
    /// What those had counted who came to the place.
    comings: u32,
}

impl Before {
    /// When nobody had been there.
    pub(super) const NOBODY: Self = Self { claim: Seen::NEVER, comings: 0 };

    pub(super) fn now(area: &ReceiverArea) -> Self {
        // ORDERING: Acquire; pairs with the AcqRel in `Arrival::tell`: the claim that is read next is at least as new as the last of those
        // who had come and told of it by then; whoever takes the place later counts later.
        let comings = area.attachments.load(Acquire);
        Self { claim: claim::seen(&area.claim), comings }
    }

    /// The claim.
    pub(super) fn claim(self) -> Claim {
        self.claim.claim()
    }

    /// Whether nobody has had the place in between. One process can have had it 64 times: then the claim is the same, and each time two
    /// were counted. (Who is killed before it has the place has counted one.)
    pub(super) fn is_the_same_as(self, later: Self) -> bool {
        later.claim == self.claim && later.comings.wrapping_sub(self.comings) < 64
    }
}

/// Whether who held the place of which there is one has closed, other than one that had done so `before`.
#[cold]
pub(super) fn has_closed(area: &ReceiverArea, before: Before) -> bool {
    let now = Before::now(area);
    matches!(now.claim(), Claim::Closed(_)) && !before.is_the_same_as(now)
}

/// How a place was got.
pub(super) enum Taken {
    /// From nobody, or from somebody who had closed.
    InOrder,
    /// From a process that died in it.
    FromTheDead,
}

/// How often a place may change hands while it is being taken. Only a hostile process makes it more than a few times.
const HANDS: u32 = 100;

/// Takes a place, by its claim, whose last owner is closed or dead, if `spent` then agrees.
pub(super) fn take(word: &AtomicU64, owner: Owner, spent: impl Fn() -> bool) -> Result<Taken, Option<Owner>> {
    let mut last = None;
    for _ in 0..HANDS {
        let seen = claim::seen(word);
        let taken = match seen.claim() {
            Claim::Never => Taken::InOrder,
            Claim::Closed(_) if spent() => Taken::InOrder,
            Claim::Attached(other) if !is_dead(other) => return Err(Some(other)),
            Claim::Attached(_) if spent() => Taken::FromTheDead,
            Claim::Closed(_) | Claim::Attached(_) => return Err(None),
        };
        if claim::take(word, seen, owner) {
            return Ok(taken);
        }
        last = seen.claim().owner();
    }
    Err(last)
}

/// Takes a place and tells those at the other end, who know how to watch this process when the result is dropped. The
/// error names who holds it, if that is why.
fn come(
    memory: &Arc<Memory>,
    place: Place,
    spent: impl Fn() -> bool,
) -> Result<(Taken, Arrival), Option<Owner>> {
    let claim = place.claim(memory).ok_or(None)?;
    match claim::read(claim) {
        Claim::Attached(other) if !is_dead(other) => return Err(Some(other)),
        Claim::Closed(_) | Claim::Attached(_) if !spent() => return Err(None),
        _ => {}
    }
    let owner = this_process();
    let arrival = Arrival::begin(memory, place, owner)?;
    Ok((take(claim, owner, spent)?, arrival))
}

impl Attachment {
    /// Takes the receiver's place.
    pub(crate) fn receiver(inner: Arc<Inner>) -> Result<Self, OpenError> {
        if let kind @ (Kind::Broadcast(_) | Kind::Mailbox { .. }) = inner.header.kind {
            return Err(wrong_kind(kind, "one receiver"));
        }
        let taken = Self::the_one(inner);
        let (attachment, _) = taken.map_err(|pid| OpenError::ReceiverAttached { pid })?;
        Ok(attachment)
    }

    /// Takes the place of the sender to many readers. True when its last owner died in it.
    pub(crate) fn publisher(inner: Arc<Inner>) -> Result<(Self, bool), OpenError> {
        let Kind::Broadcast(_) = inner.header.kind else {
            return Err(wrong_kind(inner.header.kind, "many readers"));
        };
        let (attachment, taken) = Self::the_one(inner).map_err(|pid| OpenError::SenderAttached { pid })?;
        Ok((attachment, matches!(taken, Taken::FromTheDead)))
    }

    /// Takes the place of which there is one, or tells the process that has it.
    fn the_one(inner: Arc<Inner>) -> Result<(Self, Taken), u32> {
        let (taken, _arrival) =
            come(&inner.memory, Place::Receiver, || true).map_err(|other| other.map_or(0, Owner::pid))?;
        // ORDERING: Relaxed; whoever still sees the flag takes the ring for closed, which it was.
        inner.memory.receiver().attention.fetch_and(!CLOSED, Relaxed);
        Ok((Self::armed(inner, Place::Receiver), taken))
    }

    /// Takes a slot of one of many readers, and begins to read.
    pub(crate) fn reader(inner: Arc<Inner>, start: Start) -> Result<(Self, Reader), OpenError> {
        let Kind::Broadcast(most) = inner.header.kind else {
            return Err(wrong_kind(inner.header.kind, "many readers"));
        };
        let memory = &inner.memory;
        let free = memory.all_slots().find_map(|(number, _)| {
            let (_, arrival) = come(memory, Place::Slot(number), || true).ok()?;
            Some((number, arrival))
        });
        let Some((number, _arrival)) = free else {
            return Err(OpenError::TooManyReaders { most });
        };
        let reader = Reader::join(Arc::clone(memory), number, start);
        let attachment = Self::armed(inner, Place::Slot(number));
        // A sender that waits for room has perhaps waited to see where this one begins.
        attachment.inner.bell_of_receiver().ring(&mut Waker::new(false), |_| Due::All);
        Ok((attachment, reader))
    }

    /// Takes the only sender slot. True when its last owner died in it.
    pub(crate) fn single(inner: Arc<Inner>) -> Result<(Self, bool), OpenError> {
        let Kind::Single = inner.header.kind else {
            return Err(wrong_kind(inner.header.kind, "one sender"));
        };
        let place = Place::Slot(spsc::SLOT);
        let (taken, _arrival) = come(&inner.memory, place, || true)
            .map_err(|other| OpenError::SenderAttached { pid: other.map_or(0, Owner::pid) })?;
        Ok((Self::armed(inner, place), matches!(taken, Taken::FromTheDead)))
    }

    /// Takes one of many sender slots.
    pub(crate) fn many(inner: Arc<Inner>) -> Result<Self, OpenError> {
        let Kind::Many(most) = inner.header.kind else {
            return Err(wrong_kind(inner.header.kind, "many senders"));
        };
        let memory = &inner.memory;
        let free = memory.all_slots().find_map(|(number, slot)| {
            let place = Place::Slot(number);
            let (_, arrival) = come(memory, place, || claim::slot_is_spent(memory, slot)).ok()?;
            Some((place, arrival))
        });
        match free {
            Some((place, _arrival)) => Ok(Self::armed(Arc::clone(&inner), place)),
            None => {
                // The receiver may have looked while the tail was called back: then it has not passed over what keeps a slot.
                inner.bell_of_receiver().ring(&mut Waker::new(false), |_| Due::All);
                Err(OpenError::TooManySenders { most })
            }
        }
    }

    /// Takes a seat, if it is a mailbox that has such, after what dead holders of seats have left there was put in order.
    pub(crate) fn seat(
        inner: Arc<Inner>,
        recover: impl Fn(u8, &AtomicU64, claim::Seen),
    ) -> Result<Self, OpenError> {
        let memory = &inner.memory;
        for (number, slot) in memory.all_slots() {
            bury_dead(slot, |seen| recover(number, &slot.claim, seen), is_dead);
        }
        let free = memory.all_slots().find_map(|(number, slot)| {
            let place = Place::Seat(number);
            let put_in_order = || {
                bury_dead(slot, |seen| recover(number, &slot.claim, seen), is_dead);
                true
            };
            let (_, arrival) = come(memory, place, put_in_order).ok()?;
            Some((place, arrival))
        });
        match free {
            Some((place, _arrival)) => Ok(Self::armed(Arc::clone(&inner), place)),
            None => Err(OpenError::TooManySeats { most: inner.header.kind.slots() }),
        }
    }

    fn armed(inner: Arc<Inner>, place: Place) -> Self {
        // SAFETY: both go into one value, and the vigil is dropped first.
        let vigil = unsafe { Vigil::begin(&inner, place) };
        Self { vigil, inner, place, generation: Generation::current() }
    }

    /// Number of the slot; 0 for the receiver.
    pub(crate) fn slot(&self) -> u8 {
        match self.place {
            Place::Receiver => 0,
            Place::Slot(number) | Place::Seat(number) => number,
        }
    }
}

/// Closes the seat for its holder if that one is dead, after `recover` has put in order what it has left.
pub(super) fn bury_dead(slot: &Slot, recover: impl FnOnce(claim::Seen), is_dead: impl FnOnce(Owner) -> bool) {
    let seen = claim::seen(&slot.claim);
    if let Claim::Attached(owner) = seen.claim()
        && is_dead(owner)
    {
        recover(seen);
        claim::bury(&slot.claim, seen);
    }
}

pub(super) fn wrong_kind(found: Kind, expected: &str) -> OpenError {
    let found = match found {
        Kind::Single => "one sender",
        Kind::Many(_) => "many senders",
        Kind::Broadcast(_) => "one sender, many readers",
        Kind::Mailbox { .. } => "a mailbox",
    };
    OpenError::Mismatch { what: "kind of ring", found: found.into(), expected: expected.into() }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if !self.generation.lasts() {
            return;
        }
        // The sleep of a future that was leaked may end later: it would end that of who has the place then.
        self.vigil.deaths.take_back();
        let memory = &self.inner.memory;
        let mut waker = Waker::new(false);
        match self.place {
            Place::Receiver => {
                // The flag first: a successor that takes the closed place clears it.
                // ORDERING: Relaxed; released with the claim (K1), and the bell's fence F2 orders it before the look at
                // who sleeps.
                memory.receiver().attention.fetch_or(CLOSED, Relaxed);
                claim::close(&memory.receiver().claim);
                let bell = self.inner.bell_of_senders();
                if !bell.ring(&mut waker, |_| Due::All) {
                    // Nobody has announced a sleep since one was woken, and the others left asleep.
                    bell.wake_everybody();
                }
            }
            Place::Seat(number) => {
                if let Some(slot) = memory.slot(number) {
                    claim::close(&slot.claim);
                }
            }
            Place::Slot(number) => {
                // ORDERING: Release E1; pairs with Acquire E2 in `Listening::has_ended`.
                memory.senders().closings.fetch_add(1, Release);
                if let Some(slot) = memory.slot(number) {
                    claim::close(&slot.claim);
                }
                self.inner.bell_of_receiver().ring(&mut waker, |_| Due::All);
            }
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_place_that_changes_hands_all_the_time_is_not_waited_for() {
        let (word, hands) = (AtomicU64::new(0), Cell::new(1));
        let close_as = |pid| {
            word.store(0, Relaxed);
            assert!(claim::take(&word, claim::seen(&word), Owner::new(pid, 1)));
            claim::close(&word);
        };
        close_as(hands.get());
        let taken = take(&word, Owner::new(7, 7), || {
            hands.set(hands.get() + 1);
            close_as(hands.get());
            true
        });
        assert_eq!(taken.err(), Some(Some(Owner::new(hands.get() - 1, 1))));
    }
}
