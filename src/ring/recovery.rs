//! Many senders: who owns a reservation that was never finished, and passing over it when its owner is dead.
//!
//! `docs/PROTOCOL.md` has the rule and `tests/protocol_model.rs` its exhaustive check.

use super::{
    claim::{self, Claim, Owner},
    loan::Tail,
    memory::Memory,
    position::{HEADER_UNITS, Position},
    receive::{Consumer, Violation},
    record::{Info, State},
};
use crate::{layout::Slot, sync::Ordering::*};

/// Why there is nothing to deliver at the receiver's position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pending {
    /// Nothing is reserved.
    Empty,
    /// Something has changed meanwhile: look again.
    LookAgain,
    /// The sender in this slot lives and has not finished its record.
    Unfinished { slot: u8 },
    /// The sender in this slot died; its record was passed over.
    PassedOver { slot: u8, units: u64 },
}

/// Finds out why there is no valid header at the receiver's position, and passes over what a dead sender left there.
///
/// `is_dead` must answer true only by proof: the process can't run any more.
pub(crate) fn resolve(consumer: &mut Consumer, is_dead: impl Fn(Owner) -> bool) -> Pending {
    let head = consumer.head();
    // A tail past the head shows the intent of whoever is there (T2).
    match Tail::of(consumer.memory()) {
        Tail::At(tail) if Position::split(tail).0 == head => return Pending::Empty,
        // At the head nobody has reserved but the borrower, perhaps. If it lives it makes itself heard. If it is dead, there is nothing
        // to pass over until another sender comes, and that decides where the tail is.
        Tail::Recalled(start) if head.has_reached(Position::split(start).0) => return Pending::Empty,
        Tail::At(_) | Tail::Recalled(_) => {}
        Tail::Moving => return Pending::LookAgain,
    }
    let mut unfinished = None;
    for number in 1..=consumer.memory().slots() {
        let memory = consumer.memory();
        let Some(slot) = memory.slot(number) else { continue };
        // Who has closed has left nothing unfinished.
        let seen = claim::seen(&slot.claim);
        let Claim::Attached(owner) = seen.claim() else { continue };
        if intent(memory, slot).is_none_or(|(at, _)| at != head) {
            continue;
        }
        let dead = is_dead(owner);
        // When the proof has come, the intent of this owner does not change any more. So it is read once more.
        let owned = intent(memory, slot).filter(|&(at, end)| at == head && owns(memory, number, end));
        let Some((_, end)) = owned else { continue };
        if !dead {
            unfinished = Some(number);
            continue;
        }
        // And all of it was this owner's, not a successor's who lives.
        if claim::seen(&slot.claim) != seen || memory.state(head).is_some() {
            return Pending::LookAgain;
        }
        consumer.release(end);
        return Pending::PassedOver { slot: number, units: end.since(head) };
    }
    match unfinished {
        Some(slot) => Pending::Unfinished { slot },
        None => Pending::LookAgain,
    }
}

/// What was committed at the receiver's position although no header is valid there: something has damaged its tag. For rings whose
/// senders show their tail whenever they have published (`Produce::show_tail`).
///
/// The senders' claims say whose reservation may still be open: one whose holder has died is passed over first ([`resolve`]).
pub(crate) fn hidden(consumer: &Consumer) -> Option<Violation> {
    let (memory, head) = (consumer.memory(), consumer.head());
    let may_be_open = |slot: &Slot| {
        // ORDERING: Acquire I2; pairs with Release I1: who has another intent by now had committed before.
        let at = Position::split(slot.intent_tail.load(Acquire)).0;
        // ORDERING: Relaxed; where it ends where it begins nothing was reserved yet.
        let is_one = Position::new(slot.intent_end.load(Relaxed)) != at;
        matches!(claim::read(&slot.claim), Claim::Attached(_)) && is_one && at == head
    };
    // Whoever has closed had committed before.
    let hidden = shown_ahead(memory, head).is_some()
        && !memory.all_slots().any(|(_, slot)| may_be_open(slot))
        && memory.state(head).is_none();
    hidden.then(|| Violation { position: head, length: memory.info(head).length() })
}

/// The tail, when it is ahead of the receiver's position and can be: where senders show it whenever they have published, all before it
/// was committed.
pub(crate) fn shown_ahead(memory: &Memory, head: Position) -> Option<Position> {
    // What a single sender has published up to there is visible; of many, the intent of whoever is there (T2).
    let tail = Tail::of(memory).position()?;
    (1..=memory.geometry().capacity_units()).contains(&tail.since(head)).then_some(tail)
}

/// The header at `position`, or where it was, and where the record may end at most, as far as is known: behind what its sender has
/// reserved. For who finds it damaged.
pub(crate) fn remains(memory: &Memory, position: Position) -> (Info, Option<Position>) {
    let is_sound =
        |tail: &Position| (HEADER_UNITS..=memory.geometry().capacity_units()).contains(&tail.since(position));
    (memory.info(position), Tail::of(memory).position().filter(is_sound))
}

/// The position before this one, if the record that was passed over there is a filler: or a message whose tag was damaged so that it
/// looks like one.
pub(crate) fn filler_before(memory: &Memory, position: Position) -> Option<Position> {
    Some(position.back(1)).filter(|&before| memory.state(before) == Some(State::Filler))
}

/// Whether a record can end here, in a ring in use up to `tail`: another one begins, or nothing.
pub(crate) fn may_end_at(memory: &Memory, end: Position, tail: Position) -> bool {
    end == tail || memory.state(end).is_some()
}

/// Where the sender was about to reserve, and up to where; `None` when that is nothing, or what no sender of ours writes.
fn intent(memory: &Memory, slot: &Slot) -> Option<(Position, Position)> {
    // ORDERING: Acquire I2; pairs with Release I1: the end belongs to this tail or to a later one (a borrower's also to the one before:
    // then this is nothing yet), and what the sender committed before is visible.
    let (at, _) = Position::split(slot.intent_tail.load(Acquire));
    // ORDERING: Relaxed; of a dead sender it can't be a later one, unless it died between the two stores: then nothing
    // names it at that end.
    let end = Position::new(slot.intent_end.load(Relaxed));
    (HEADER_UNITS..=memory.geometry().capacity_units()).contains(&end.since(at)).then_some((at, end))
}

/// Whether the sender `number`, which is dead and whose intent ends at `end`, really reserved up to there.
fn owns(memory: &Memory, number: u8, end: Position) -> bool {
    let named = end.with_low_byte(number);
    // If the tail is past `end`, the intent of whoever is there is visible, or a later one of the same sender (T2).
    if let Tail::At(tail) | Tail::Recalled(tail) = Tail::of(memory)
        && tail == named
    {
        return true;
    }
    // ORDERING: Acquire I2; pairs with Release I1: a later intent shows the header that its sender committed at `end`.
    if memory.all_slots().any(|(_, other)| other.intent_tail.load(Acquire) == named) {
        return true;
    }
    // The header at `end` may lie in the middle of a payload when the sender does not own the head, perhaps of one that is written
    // now; then its word is not a tag for `end`, which only who reserves there can write. A filler has no info, and is never first
    // in a stretch.
    let behind = memory.header_if_any(end);
    behind.is_some_and(|(state, info)| state != State::Filler && info.previous() == number)
}
