//! Many senders: who owns a reservation that was never finished, and passing over it when its owner is dead.
//!
//! `docs/PROTOCOL.md` has the rule and `tests/protocol_model.rs` its exhaustive check.

use super::{
    memory::Memory,
    position::{HEADER_UNITS, Position},
    receive::Consumer,
    record::State,
};
use crate::sync::Ordering::*;

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
/// `is_dead` must answer true only by proof: the process that holds the slot can't run any more.
pub(crate) fn resolve(consumer: &mut Consumer, mut is_dead: impl FnMut(u8) -> bool) -> Pending {
    let head = consumer.head();
    // ORDERING: Acquire T2; pairs with Release T1: a tail past the head shows the intent of whoever is there.
    let tail = consumer.memory().senders().tail.load(Acquire);
    if Position::split(tail).0 == head {
        return Pending::Empty;
    }
    let mut unfinished = None;
    for slot in 1..=consumer.memory().slots() {
        let Some((at, _)) = intent(consumer.memory(), slot) else { continue };
        if at != head {
            continue;
        }
        if !is_dead(slot) {
            unfinished = Some(slot);
            continue;
        }
        // The proof has come: from here on the intent of `slot` does not change.
        let Some((at, units)) = intent(consumer.memory(), slot) else { continue };
        if at == head && owns(consumer.memory(), slot, head, units) {
            if consumer.memory().state(head).is_some() {
                return Pending::LookAgain;
            }
            consumer.release(head.plus(units));
            return Pending::PassedOver { slot, units };
        }
    }
    match unfinished {
        Some(slot) => Pending::Unfinished { slot },
        None => Pending::LookAgain,
    }
}

/// Where `slot` was about to reserve, and how many units; `None` when its words say what no sender of ours writes.
fn intent(memory: &Memory, slot: u8) -> Option<(Position, u64)> {
    let slot = memory.slot(slot)?;
    // ORDERING: Acquire I2; pairs with Release I1: the length belongs to this tail or to a later one, and what the
    // sender committed before is visible.
    let (at, _) = Position::split(slot.intent_tail.load(Acquire));
    // ORDERING: Relaxed; of a dead sender it can't be a later one.
    let units = slot.intent_units.load(Relaxed);
    (HEADER_UNITS..=memory.geometry().capacity_units()).contains(&units).then_some((at, units))
}

/// Whether `slot`, whose intent is at `head` with `units`, really reserved there. Tail, intents, header: in this order.
fn owns(memory: &Memory, slot: u8, head: Position, units: u64) -> bool {
    let end = head.plus(units);
    let named = end.with_low_byte(slot);
    // ORDERING: Acquire T2; pairs with Release T1: if the tail is past `end`, the intent of whoever is there is visible,
    // or a later one of the same sender.
    if memory.senders().tail.load(Acquire) == named {
        return true;
    }
    // ORDERING: Acquire I2; pairs with Release I1: a later intent shows the header that its sender committed at `end`.
    if memory.all_slots().any(|(_, other)| other.intent_tail.load(Acquire) == named) {
        return true;
    }
    // The header at `end` may lie in the middle of a payload when `slot` does not own `head`; then its word is not a
    // tag for `end`, which only who reserves there can write.
    matches!(memory.state(end), Some(State::Committed | State::Discarded)) && memory.info(end).previous() == slot
}
