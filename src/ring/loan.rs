//! Where the tail of a ring with many senders is, and its loan to one of them, which then reserves without a CAS.
//!
//! ```text
//! tail   position << 8 | slot of whoever reserved last
//!        stamp << 16 | slot << 8 | 0        lent to this slot: the tail is where the slot's intent ends
//! loan   position << 8 | state              in each slot. LENT, RECALLED: since that position. RETURNED: the tail is there
//! ```
//!
//! The borrower stores its intent, and looks whether the loan still stands. Whoever else wants to reserve marks the loan
//! `RECALLED`, makes everybody execute a full fence, and reads where the intent ends: the borrower has either seen the mark
//! behind its last store, or that store is read. The first to replace the mark by `RETURNED` and an end decides which of the
//! two. Nobody waits for anybody.
//!
//! `docs/PROTOCOL.md` has the rules and `tests/protocol_model.rs` their exhaustive check.

use super::{memory::Memory, position::Position};
use crate::{
    layout::Slot,
    sync::{AtomicU64, Ordering::*, fence},
    sys::barrier,
};

/// In the tail's low byte, where a slot number never is.
const LENT_TAIL: u8 = 0;

/// The tail word while it is lent to `slot` since `start`.
pub(super) fn lent_tail(slot: u8, start: Position) -> u64 {
    start.units() << 16 | (slot as u64) << 8 | LENT_TAIL as u64
}

/// To which slot the tail is lent that this word says; `None` when it is not.
#[inline]
pub(super) fn borrower(tail: u64) -> Option<u8> {
    (tail as u8 == LENT_TAIL).then_some((tail >> 8) as u8)
}

/// What a loan word says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loan {
    /// Since this position, which it does not say again before 2 PiB have passed; or it was about to be, and another was faster.
    Lent(Position),
    Recalled(Position),
    /// The tail is there.
    Returned(Position),
}

impl Loan {
    const LENT: u8 = 1;
    const RECALLED: u8 = 2;
    const RETURNED: u8 = 3;

    fn of(word: u64) -> Self {
        match Position::split(word) {
            (start, Self::LENT) => Self::Lent(start),
            (start, Self::RECALLED) => Self::Recalled(start),
            (end, _) => Self::Returned(end),
        }
    }

    fn word(self) -> u64 {
        match self {
            Self::Lent(start) => start.with_low_byte(Self::LENT),
            Self::Recalled(start) => start.with_low_byte(Self::RECALLED),
            Self::Returned(end) => end.with_low_byte(Self::RETURNED),
        }
    }
}

/// What the borrower's slot says while the loan stands that has begun at `start`.
pub(super) fn standing(start: Position) -> u64 {
    Loan::Lent(start).word()
}

fn read(slot: &Slot) -> Loan {
    // ORDERING: Acquire D2; pairs with Release D1 in `replace`: whoever sees where the tail was returned sees the intent that ends there.
    Loan::of(slot.loan.load(Acquire))
}

fn replace(slot: &Slot, from: Loan, to: Loan) {
    // ORDERING: Release D1; pairs with Acquire D2 in `read`. Relaxed on failure: another was first, and it is read again.
    let _ = slot.loan.compare_exchange(from.word(), to.word(), Release, Relaxed);
}

/// Where the intent of a borrower ends, and so the tail.
fn end(slot: &Slot) -> Position {
    // ORDERING: Acquire I4; pairs with Release I3 in `mpsc`: whoever sees the end sees the intent that ends there.
    Position::new(slot.intent_end.load(Acquire))
}

/// Puts the tail, as it was `lent`, back to where its loan has ended.
fn restore(tail: &AtomicU64, lent: u64, end: Position, borrower: u8) {
    // ORDERING: Release T1; pairs with Acquire T2: whoever sees this tail sees the intent that ends there, as who stores it did.
    let _ = tail.compare_exchange(lent, end.with_low_byte(borrower), Release, Relaxed);
}

/// How often a recall looks whether the borrower gives the tail back by itself, before it makes everybody execute a fence.
const GRACE: u32 = if cfg!(ringpost_loom) { 0 } else { 64 };

/// Most steps of a recall: an honest one takes four, since whoever is faster has made a step forward.
const STEPS: u32 = 8;

/// Whether a borrower who sends all the time finds the mark, and gives the tail back: some hundred nanoseconds, where the fence takes
/// microseconds.
fn gives_back(slot: &Slot) -> bool {
    (0..GRACE).any(|_| {
        core::hint::spin_loop();
        matches!(read(slot), Loan::Returned(_))
    })
}

/// Calls the tail back that was seen `lent`. Lock-free: nobody has to take part. From then on the tail is another word, unless a hostile
/// process writes what no borrower does, or the system refuses the fence.
#[cold]
pub(super) fn recall(memory: &Memory, lent: u64) {
    let Some((number, slot)) = borrower(lent).and_then(|number| Some((number, memory.slot(number)?))) else {
        return;
    };
    // ORDERING: T2, Acquire fence; pairs with Release T1: whoever sees the tail lent sees that loan, or what has become of it.
    fence(Acquire);
    for _ in 0..STEPS {
        match read(slot) {
            // A later one, and that tail is over: whoever acted on it could be late for the next that begins there.
            Loan::Lent(start) | Loan::Recalled(start) if lent_tail(number, start) != lent => return,
            Loan::Lent(start) => replace(slot, Loan::Lent(start), Loan::Recalled(start)),
            Loan::Recalled(_) if gives_back(slot) => {}
            Loan::Recalled(start) => {
                // ORDERING: F5, `membarrier`; pairs with the light fence F6 in `mpsc`, and F7: the borrower's next look sees the mark, or
                // this sees the end that it stored before that look.
                if !barrier::heavy() {
                    // Refused, as by a filter that came later: then the borrower alone can say where the tail is.
                    return;
                }
                replace(slot, Loan::Recalled(start), Loan::Returned(end(slot)));
            }
            Loan::Returned(end) => {
                return restore(&memory.senders().tail, lent, end, number);
            }
        }
    }
}

/// The borrower `number` has found that its loan is not `standing` any more. Its intent ends at `end`. Gives where the tail was
/// returned: there, or where that intent begins.
pub(super) fn give_back(memory: &Memory, number: u8, standing: u64, end: Position) -> Option<Position> {
    let slot = memory.slot(number)?;
    let (start, _) = Position::split(standing);
    replace(slot, Loan::Recalled(start), Loan::Returned(end));
    let Loan::Returned(returned) = read(slot) else {
        // Somebody hostile writes here.
        return None;
    };
    restore(&memory.senders().tail, lent_tail(number, start), returned, number);
    Some(returned)
}

/// Where the tail is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tail {
    /// `position << 8 | slot of whoever reserved last`.
    At(u64),
    /// It is called back. At least there, `position << 8 | slot` of the borrower, and behind that nobody else has reserved.
    Recalled(u64),
    /// Lent and called back again and again during this look.
    Moving,
}

impl Tail {
    /// Looks at most; a loan lasts for many messages.
    const LOOKS: u32 = 4;

    /// Reads it. Word by word where it is lent: as it was at a moment of this call.
    #[inline]
    pub(crate) fn of(memory: &Memory) -> Self {
        // ORDERING: Acquire T2; pairs with Release T1: whoever sees the tail past a reservation sees the intent of its owner.
        let word = memory.senders().tail.load(Acquire);
        match borrower(word) {
            None => Self::At(word),
            Some(_) => Self::lent(memory, word),
        }
    }

    #[cold]
    fn lent(memory: &Memory, mut word: u64) -> Self {
        for _ in 0..Self::LOOKS {
            let Some(number) = borrower(word) else { return Self::At(word) };
            let Some(slot) = memory.slot(number) else { return Self::Moving };
            let loan = read(slot);
            let at = match loan {
                Loan::Lent(_) => end(slot),
                Loan::Recalled(start) => return Self::Recalled(start.with_low_byte(number)),
                Loan::Returned(end) => end,
            };
            // What was stored after the mark may not count: then the mark is seen now.
            // ORDERING: F7; pairs with F5: whoever calls the tail back reads this end or a later one, or the mark is seen.
            fence(SeqCst);
            let stands = read(slot) == loan;
            // ORDERING: Acquire T2, as in `of`.
            let again = memory.senders().tail.load(Acquire);
            if stands && again == word {
                return Self::At(at.with_low_byte(number));
            }
            word = again;
        }
        Self::Moving
    }

    /// The same, after it was called back, if somebody has begun to. For who may write where senders do.
    pub(crate) fn settled(memory: &Memory) -> Self {
        let tail = Self::of(memory);
        if matches!(tail, Self::Recalled(_)) {
            // ORDERING: Relaxed; only compared.
            recall(memory, memory.senders().tail.load(Relaxed));
            return Self::of(memory);
        }
        tail
    }

    /// About where it is, for who asks all the time. While it is called back perhaps too far.
    #[inline]
    pub(crate) fn hint(memory: &Memory) -> Option<Position> {
        // ORDERING: Relaxed; a hint.
        let word = memory.senders().tail.load(Relaxed);
        match borrower(word) {
            None => Some(Position::split(word).0),
            // ORDERING: Relaxed; a hint.
            Some(number) => Some(Position::new(memory.slot(number)?.intent_end.load(Relaxed))),
        }
    }

    /// Whether somebody has reserved at `head`, as far as is known.
    pub(crate) fn is_past(self, head: Position) -> bool {
        match self {
            Self::At(tail) => Position::split(tail).0 != head,
            Self::Recalled(start) => !head.has_reached(Position::split(start).0),
            Self::Moving => false,
        }
    }

    /// Its position, if known.
    #[inline]
    pub(crate) fn position(self) -> Option<Position> {
        match self {
            Self::At(word) => Some(Position::split(word).0),
            Self::Recalled(_) | Self::Moving => None,
        }
    }
}
