//! Who holds a sender slot, or the receiver's place. One word, one CAS: never an owner without a name.
//!
//! ```text
//! claim   start time of the process, in clock ticks since boot : 34 | pid : 22 | times taken : 6 | state : 2
//! ```

use crate::{
    layout::{Slot, TURNS},
    ring::{loan::Tail, memory::Memory, position::Position, spsc},
    sync::{AtomicU64, Ordering::*},
};

/// A process as a claim names it: `start time : 34 | pid : 22`. Never reused while the machine is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Owner(u64);

impl Owner {
    /// `pid` below 2^22 (the kernel's limit); the start time is taken modulo 2^34 (five years of ticks).
    pub(crate) const fn new(pid: u32, start_ticks: u64) -> Self {
        Self((start_ticks & ((1 << 34) - 1)) << 22 | (pid as u64 & ((1 << 22) - 1)))
    }

    pub(crate) const fn pid(self) -> u32 {
        (self.0 & ((1 << 22) - 1)) as u32
    }

    /// Short for this process: another one has the same only if its id is the same and its start a multiple of 1024 ticks
    /// away.
    pub(crate) const fn mark(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn start_ticks(self) -> u64 {
        self.0 >> 22
    }
}

/// What a claim says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claim {
    /// Nobody ever held it.
    Never,
    /// Held by this process, or by a process that died without closing.
    Attached(Owner),
    /// Closed in order by this process.
    Closed(Owner),
}

impl Claim {
    /// Who holds it now, or held it last.
    pub(crate) const fn owner(self) -> Option<Owner> {
        match self {
            Claim::Never => None,
            Claim::Attached(owner) | Claim::Closed(owner) => Some(owner),
        }
    }
}

/// A claim word as it was read. It is never the same again once somebody else has held the place, or the same process
/// once more (until it has done so 64 times).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen(u64);

impl Seen {
    /// Nobody ever held the place.
    pub(crate) const NEVER: Self = Self(0);

    const ATTACHED: u64 = 1;
    const CLOSED: u64 = 2;
    const STATE: u64 = 3;
    const TAKES: u64 = 0xfc;

    pub(crate) const fn claim(self) -> Claim {
        let owner = Owner(self.0 >> 8);
        match self.0 & Self::STATE {
            Self::ATTACHED => Claim::Attached(owner),
            Self::CLOSED => Claim::Closed(owner),
            _ => Claim::Never,
        }
    }

    /// How often the place was taken by then, modulo 64.
    pub(crate) const fn takes(self) -> u8 {
        (self.0 & Self::TAKES) as u8 / (Self::STATE + 1) as u8
    }

    /// The word itself, to be read again with [`Seen::of`].
    pub(crate) const fn word(self) -> u64 {
        self.0
    }

    /// What a word says, wherever it was kept.
    pub(crate) const fn of(word: u64) -> Self {
        Self(word)
    }

    /// The word when `owner` takes the place.
    const fn taken_by(self, owner: Owner) -> u64 {
        owner.0 << 8 | self.0.wrapping_add(Self::STATE + 1) & Self::TAKES | Self::ATTACHED
    }
}

/// Reads a claim word, to [`take`] the place or to see later whether it is still held so.
pub(crate) fn seen(claim: &AtomicU64) -> Seen {
    // ORDERING: Acquire K2; pairs with Release K1 in `close` and `take`: whoever sees a slot closed sees its last record.
    Seen(claim.load(Acquire))
}

/// Reads a claim.
pub(crate) fn read(claim: &AtomicU64) -> Claim {
    seen(claim).claim()
}

/// Takes a place whose claim still stands as `seen`; false when somebody else was first.
pub(crate) fn take(claim: &AtomicU64, seen: Seen, owner: Owner) -> bool {
    // ORDERING: AcqRel K1/K2; the new owner goes on where the old one's last stores stand, and shows its own in turn.
    claim.compare_exchange(seen.0, seen.taken_by(owner), AcqRel, Relaxed).is_ok()
}

/// Gives a place back in order. The caller holds it.
pub(crate) fn close(claim: &AtomicU64) {
    // ORDERING: Relaxed; only the caller changes it.
    let held = claim.load(Relaxed);
    // ORDERING: Release K1; pairs with Acquire K2 in `seen`: all that this owner has written comes before.
    claim.store(held & !Seen::STATE | Seen::CLOSED, Release);
}

/// Gives a place back for its holder, who is dead by proof and was `seen` in it; false when another has done so. All that it
/// left must be in order.
pub(crate) fn bury(claim: &AtomicU64, seen: Seen) -> bool {
    let closed = seen.0 & !Seen::STATE | Seen::CLOSED;
    // ORDERING: Release K1; pairs with Acquire K2 in `seen`: what was put in order comes before.
    claim.compare_exchange(seen.0, closed, Release, Relaxed).is_ok()
}

/// Set in what a record says of its sender in a ring with one: the rest is that sender's turn, not a slot.
const TURN: u8 = 0x80;

/// Notes who has taken the place of the only sender, and gives what its records say of it. The caller holds the claim.
pub(crate) fn begin_turn(memory: &Memory, claim: &AtomicU64) -> u8 {
    // ORDERING: Relaxed; only the caller changes it.
    let held = Seen(claim.load(Relaxed));
    // ORDERING: Relaxed; released with each record of this turn (P1).
    memory.senders().turns[held.takes() as usize % TURNS].store(held.0, Relaxed);
    TURN | held.takes()
}

/// The turn that a record names, in a ring with one sender.
fn turn(memory: &Memory, name: u8) -> Option<u8> {
    (memory.slots() == spsc::SLOT && name & TURN != 0).then_some(name & !TURN)
}

/// Slot of the sender that a record names.
#[inline]
pub(crate) fn slot_of_sender(memory: &Memory, name: u8) -> u8 {
    turn(memory, name).map_or(name, |_| spsc::SLOT)
}

/// The sender that a record names; `None` when a single sender's turn is so long ago that it is forgotten, and when a
/// hostile sender has made up the name.
pub(crate) fn sender(memory: &Memory, name: u8) -> Option<Owner> {
    match turn(memory, name) {
        Some(_) => only_sender(memory, name),
        None => read(&memory.slot(name)?.claim).owner(),
    }
}

/// The sender that a record names, in a ring with one sender, whoever reads there.
pub(crate) fn only_sender(memory: &Memory, name: u8) -> Option<Owner> {
    let turn = name & !TURN;
    // ORDERING: Relaxed; the record was acquired (C1).
    let noted = Seen(memory.senders().turns[turn as usize % TURNS].load(Relaxed));
    noted.claim().owner().filter(|_| noted.takes() == turn)
}

/// Whether a new owner may take the `slot` of a ring with many senders: nothing that the former one has reserved is left
/// in the ring. The former owner must be closed, or dead by a proof that came *before* this call.
///
/// The end of its intent is never before the end of anything that it has reserved. Or the ring is drained: then what the
/// former owner was about to reserve when it died was never reserved.
pub(crate) fn slot_is_spent(memory: &Memory, slot: &Slot) -> bool {
    // ORDERING: Relaxed; the former owner writes no more, and reading its claim (K2) or the proof of its death came first.
    let end = Position::new(slot.intent_end.load(Relaxed));
    // The head is read after it, so that a head at this tail means that everything before was passed (T2).
    let tail = Tail::settled(memory).position();
    let head = memory.head();
    head.has_reached(end) || tail == Some(head)
}

#[cfg(all(test, not(ringpost_loom)))]
mod tests {
    use super::*;

    #[test]
    fn claims_survive_the_round_trip() {
        let owner = Owner::new(4_194_303, (1 << 34) - 2);
        assert_eq!((owner.pid(), owner.start_ticks()), (4_194_303, (1 << 34) - 2));
        let word = AtomicU64::new(0);
        assert_eq!(read(&word), Claim::Never);
        assert!(take(&word, seen(&word), owner));
        assert_eq!(read(&word), Claim::Attached(owner));
        close(&word);
        assert_eq!(read(&word), Claim::Closed(owner));
    }

    #[test]
    fn a_place_that_was_held_again_by_the_same_process_can_not_be_taken_as_seen_before() {
        let (word, owner) = (AtomicU64::new(0), Owner::new(7, 7));
        assert!(take(&word, seen(&word), owner));
        close(&word);
        let before = seen(&word);
        assert!(take(&word, before, owner));
        close(&word);
        assert_eq!(read(&word), before.claim());
        assert!(!take(&word, before, Owner::new(8, 8)));
    }

    #[test]
    fn one_of_two_takes_it() {
        let word = AtomicU64::new(0);
        let before = seen(&word);
        assert!(take(&word, before, Owner::new(1, 1)));
        assert!(!take(&word, before, Owner::new(2, 2)));
        assert_eq!(read(&word), Claim::Attached(Owner::new(1, 1)));
    }
}
