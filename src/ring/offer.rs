//! Offers: messages that their sender can take back until the receiver has accepted them. The tag says which it is, and one
//! CAS on it decides.
//!
//! ```text
//! sender     Offered -> Withdrawn
//! receiver   Offered -> Committed
//! ```
//!
//! Only the receiver of a ring that was made for it accepts offers, because in any other it writes nothing to the data area.

use super::{
    memory::Memory,
    position::Position,
    receive::{Look, Record},
    record::State,
    reserve::{Produce, Reserved},
};

/// A sender that can offer.
pub trait Offer: Produce {
    /// Shows the receiver the record that was placed in all of what was reserved, until it is withdrawn.
    fn offer(&mut self, reserved: Reserved);
}

/// Takes an offer back. False when the receiver was first: it has the message.
pub(crate) fn withdraw(memory: &Memory, position: Position) -> bool {
    memory.change_state(position, State::Offered, State::Withdrawn)
}

/// The record that is, or was, on offer at `position`, and what it is now. One that the receiver has accepted since the caller
/// looked is as good.
fn look_at(memory: &Memory, position: Position) -> Option<(Record, State)> {
    let state = memory.state(position)?;
    let (info, geometry) = (memory.info(position), memory.geometry());
    let length = info.length() as u64;
    let possible = matches!(state, State::Offered | State::Withdrawn | State::Committed);
    let end = position.plus(geometry.size_units(position, length));
    (possible && length <= geometry.longest_payload()).then_some((Record { position, end, info }, state))
}

/// Accepts what is on offer at `position`: it is a message from then on, also for a successor of this receiver. `None` where
/// nothing is, or was, on offer.
#[cold]
pub(super) fn accept(memory: &Memory, position: Position) -> Option<Look> {
    let (record, state) = look_at(memory, position)?;
    let accepted = state == State::Offered && memory.change_state(position, State::Offered, State::Committed);
    Some(if accepted { Look::Message(record) } else { Look::Nothing(record.end) })
}

/// What [`accept`] would find, without accepting it.
pub(super) fn peek(memory: &Memory, position: Position) -> Option<Look> {
    let (record, state) = look_at(memory, position)?;
    Some(if state == State::Withdrawn { Look::Nothing(record.end) } else { Look::Message(record) })
}
