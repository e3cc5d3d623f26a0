//! Who holds a sender slot, or the receiver's place. One word, one CAS: never an owner without a name.
//!
//! ```text
//! claim   start time of the process, in clock ticks since boot : 34 | pid : 22 | state : 8
//! ```

use crate::{
    layout::Slot,
    ring::{memory::Memory, position::Position},
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

    pub(crate) const fn start_ticks(self) -> u64 {
        self.0 >> 22
    }
}

/// A claim word, unpacked.
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
    const ATTACHED: u64 = 1;
    const CLOSED: u64 = 2;

    const fn pack(self) -> u64 {
        match self {
            Claim::Never => 0,
            Claim::Attached(owner) => owner.0 << 8 | Self::ATTACHED,
            Claim::Closed(owner) => owner.0 << 8 | Self::CLOSED,
        }
    }

    /// Any other state byte reads as `Never`: nobody's.
    const fn unpack(word: u64) -> Self {
        match word & 0xff {
            Self::ATTACHED => Claim::Attached(Owner(word >> 8)),
            Self::CLOSED => Claim::Closed(Owner(word >> 8)),
            _ => Claim::Never,
        }
    }

    /// Who holds it now, or held it last.
    pub(crate) const fn owner(self) -> Option<Owner> {
        match self {
            Claim::Never => None,
            Claim::Attached(owner) | Claim::Closed(owner) => Some(owner),
        }
    }
}

/// Reads a claim.
pub(crate) fn read(claim: &AtomicU64) -> Claim {
    // ORDERING: Acquire K2; pairs with Release K1 in `close` and `take`: whoever sees a slot closed sees its last record.
    Claim::unpack(claim.load(Acquire))
}

/// Takes a claim that still stands as `seen`; false when somebody else was first.
pub(crate) fn take(claim: &AtomicU64, seen: Claim, owner: Owner) -> bool {
    // ORDERING: AcqRel K1/K2; the new owner goes on where the old one's last stores stand, and shows its own in turn.
    claim.compare_exchange(seen.pack(), Claim::Attached(owner).pack(), AcqRel, Relaxed).is_ok()
}

/// Gives a claim back in order.
pub(crate) fn close(claim: &AtomicU64, owner: Owner) {
    // ORDERING: Release K1; pairs with Acquire K2 in `read`: all that this owner has written comes before.
    claim.store(Claim::Closed(owner).pack(), Release);
}

/// Whether a new owner may take the slot `seen` of a ring with many senders: nothing of the former one is left in the
/// ring. The former owner must be closed, or dead by a proof that came *before* this call.
pub(crate) fn slot_is_spent(memory: &Memory, slot: &Slot) -> bool {
    // ORDERING: Relaxed; the former owner writes no more, and reading its claim (K2) or the proof of its death came first.
    let (intent, _) = Position::split(slot.intent_tail.load(Relaxed));
    let head = memory.head();
    // ORDERING: Relaxed; only compared. A tail that moved meanwhile was moved by somebody else: the former owner can't.
    let (tail, _) = Position::split(memory.senders().tail.load(Relaxed));
    let passed = head.since(intent);
    passed == 0 && tail == intent || passed != 0 && passed <= tail.since(intent)
}

#[cfg(all(test, not(ringpost_loom)))]
mod tests {
    use super::*;

    #[test]
    fn claims_survive_the_round_trip() {
        let owner = Owner::new(4_194_303, (1 << 34) - 2);
        assert_eq!((owner.pid(), owner.start_ticks()), (4_194_303, (1 << 34) - 2));
        for claim in [Claim::Never, Claim::Attached(owner), Claim::Closed(owner)] {
            assert_eq!(Claim::unpack(claim.pack()), claim);
        }
        assert_eq!(Claim::unpack(0xffff_ffff_ffff_ff07), Claim::Never);
    }

    #[test]
    fn one_of_two_takes_it() {
        let word = AtomicU64::new(0);
        assert!(take(&word, Claim::Never, Owner::new(1, 1)));
        assert!(!take(&word, Claim::Never, Owner::new(2, 2)));
        assert_eq!(read(&word), Claim::Attached(Owner::new(1, 1)));
    }
}
