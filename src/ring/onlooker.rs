//! A reader for which nobody waits. It copies each record, then looks whether it was still whole, and else knows exactly how
//! many messages it has missed.

use super::{
    broadcast::Start,
    floor::Floor,
    memory::Memory,
    position::Position,
    receive::{self, Look, Record, Violation},
};
use std::sync::Arc;

/// A reader that only reads.
pub(crate) struct Onlooker {
    memory: Arc<Memory>,
    at: Position,
    /// Messages before that position.
    number: u64,
}

/// Why there is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoMessage<E> {
    /// Nothing there yet.
    Empty,
    /// So many messages were written over. The next look goes on at the oldest that is whole.
    Missed(u64),
    /// The copy was refused, and the message is still the next.
    Refused(E),
    /// A valid header says what no sender of ours writes.
    Damaged(Violation),
}

impl Onlooker {
    pub(crate) fn new(memory: Arc<Memory>, start: Start) -> Self {
        let end = memory.head();
        let Floor { position, number } = Floor::read(&memory);
        let mut onlooker = Self { memory, at: position, number };
        if start != Start::Oldest {
            onlooker.pass_over_until(|at, _| at.has_reached(end));
        }
        if let Start::Last(most) = start {
            let first = onlooker.number.saturating_sub(most);
            (onlooker.at, onlooker.number) = (position, number);
            onlooker.pass_over_until(|_, number| number >= first);
        }
        onlooker
    }

    /// Goes on until `is_there` says so of where it is, or there is nothing.
    pub(crate) fn pass_over_until(&mut self, mut is_there: impl FnMut(Position, u64) -> bool) {
        // Twice through the whole ring, since it may have been overtaken once: only a lying sender makes it more.
        for _ in 0..2 * self.memory.geometry().capacity_units() {
            if is_there(self.at, self.number) {
                break;
            }
            match self.step(&mut |_| Ok::<_, ()>(())) {
                None | Some(Ok(()) | Err(NoMessage::Missed(_))) => {}
                Some(Err(_)) => break,
            }
        }
    }

    /// The next message as `copy` copies it; what that gives counts only when the record was whole.
    pub(crate) fn next<T, E>(
        &mut self,
        mut copy: impl FnMut(Record) -> Result<T, E>,
    ) -> Result<T, NoMessage<E>> {
        let mut steps = 0..=self.memory.geometry().capacity_units();
        steps.find_map(|_| self.step(&mut copy)).unwrap_or(Err(NoMessage::Empty))
    }

    /// What stands where it is; `None` when that is nothing, and it has gone on behind it.
    fn step<T, E>(
        &mut self,
        copy: &mut impl FnMut(Record) -> Result<T, E>,
    ) -> Option<Result<T, NoMessage<E>>> {
        let look = receive::look_beside(&self.memory, self.at);
        let copied = match look {
            Ok(Look::Message(record)) => Some((record.end, copy(record))),
            _ => None,
        };
        // Whoever has read anything of what was written over finds the floor raised, behind the fence O2 in `Floor::read`.
        match self.rise() {
            None => {}
            // Only what nobody receives was written over.
            Some(0) => return None,
            Some(missed) => return Some(Err(NoMessage::Missed(missed))),
        }
        Some(match (look, copied) {
            (_, Some((end, Ok(copy)))) => {
                self.at = end;
                self.number = self.number.wrapping_add(1);
                Ok(copy)
            }
            (_, Some((_, Err(error)))) => Err(NoMessage::Refused(error)),
            (Ok(Look::Nothing(behind)), None) => {
                self.at = behind;
                return None;
            }
            (Err(violation), None) => Err(NoMessage::Damaged(violation)),
            (Ok(_), None) => Err(NoMessage::Empty),
        })
    }

    /// Goes to the floor when it has risen past, and gives how many messages were missed.
    fn rise(&mut self) -> Option<u64> {
        let floor = Floor::read(&self.memory);
        if self.at.has_reached(floor.position) {
            return None;
        }
        let missed = floor.number.wrapping_sub(self.number);
        (self.at, self.number) = (floor.position, floor.number);
        Some(missed)
    }

    /// Bytes to the tail, while this reader was not overtaken.
    pub(crate) fn behind(&self) -> u64 {
        let behind = self.memory.head().since(self.at);
        if behind >> 55 == 0 { behind } else { 0 }
    }

    pub(crate) fn position(&self) -> Position {
        self.at
    }
}
