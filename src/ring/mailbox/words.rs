//! The words of a mailbox. Pure.
//!
//! ```text
//! state of a cell   ticket : 39 | level : 5 | tries : 5 | takes of the seat : 6 | seat : 6 | aside : 1 | phase : 2
//! entry of an order turn : 32 | cell : 16 | kind : 16
//! label of a cell   length : 32 | kind : 16 | level : 8
//! ```

use crate::ring::claim::Seen;

/// How far a cell is with its message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Nobody's. Seat and ticket tell of the message before: who took it last.
    Free,
    /// The seat writes a message into it.
    Filling,
    /// A message that the seat has sent, and that nobody holds. Sent is what an order names, or lies aside.
    Ready,
    /// The seat holds the message.
    Taken,
}

/// A seat at the mailbox, and which of its holders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seat {
    /// From 1.
    pub(crate) number: u8,
    /// How often it was taken by then, modulo 64.
    takes: u8,
}

impl Seat {
    /// The holder whose claim was seen.
    pub(crate) fn new(number: u8, claim: Seen) -> Self {
        Self { number: number & 0x3f, takes: claim.takes() & 0x3f }
    }

    /// Its bit where each seat has one.
    pub(crate) fn bit(self) -> u64 {
        1 << self.number
    }

    fn bits(self) -> u64 {
        u64::from(self.takes) << 6 | u64::from(self.number)
    }
}

/// The state of a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State(pub(super) u64);

impl State {
    const PHASE: u64 = 3;
    const ASIDE: u64 = 4;
    const SEAT: u32 = 3;
    const TRIES: u32 = 15;
    const LEVEL: u32 = 20;
    const TICKET: u32 = 25;
    /// Tickets are told apart modulo 2^39.
    const TICKETS: u64 = (1 << (64 - Self::TICKET)) - 1;

    pub(crate) fn new(phase: Phase, seat: Seat, level: u8, ticket: u64) -> Self {
        let level = u64::from(level & 0x1f) << Self::LEVEL;
        Self(ticket << Self::TICKET | level | seat.bits() << Self::SEAT | phase as u64)
    }

    /// Of a cell that the seat fills: no message's.
    pub(crate) fn filling(seat: Seat) -> Self {
        Self::new(Phase::Filling, seat, 0x1f, Self::TICKETS)
    }

    pub(crate) fn phase(self) -> Phase {
        [Phase::Free, Phase::Filling, Phase::Ready, Phase::Taken][(self.0 & Self::PHASE) as usize]
    }

    /// Whether the message need not be in its order any more: receivers look for it in the cells.
    pub(crate) fn is_aside(self) -> bool {
        self.0 & Self::ASIDE != 0
    }

    pub(crate) fn seat(self) -> Seat {
        let bits = self.0 >> Self::SEAT;
        Seat { number: (bits & 0x3f) as u8, takes: (bits >> 6 & 0x3f) as u8 }
    }

    /// How often the message was taken and given back, at most 31.
    pub(crate) fn tries(self) -> u8 {
        (self.0 >> Self::TRIES & 0x1f) as u8
    }

    pub(crate) fn ticket(self) -> u64 {
        self.0 >> Self::TICKET
    }

    /// The priority of the message.
    pub(crate) fn level(self) -> u8 {
        (self.0 >> Self::LEVEL & 0x1f) as u8
    }

    /// Whether both are states of the same message.
    pub(crate) fn is_of_same(self, other: Self) -> bool {
        (self.0 ^ other.0) >> Self::LEVEL == 0
    }

    /// Whether the message that this level's entry for this ticket names can be taken.
    pub(crate) fn is_here(self, level: u8, ticket: u64) -> bool {
        self.phase() == Phase::Ready && self.level() == level && self.ticket() == ticket & Self::TICKETS
    }

    /// The same message in another phase, at this seat.
    pub(crate) fn at(self, phase: Phase, seat: Seat) -> Self {
        let kept = self.0 & (Self::TICKETS << Self::TICKET | 0x1f << Self::LEVEL | 0x1f << Self::TRIES);
        Self(kept | seat.bits() << Self::SEAT | phase as u64)
    }

    /// The same message, out of its order.
    pub(crate) fn aside(self) -> Self {
        Self(self.0 | Self::ASIDE)
    }

    /// The message, given back by its holder: out of its order, and tried once more.
    pub(crate) fn given_back(self) -> Self {
        let once = if self.tries() < 0x1f { 1 << Self::TRIES } else { 0 };
        Self(self.at(Phase::Ready, self.seat()).0 + once).aside()
    }

    /// Whether its ticket is before the other's, when the two are less than 2^38 apart.
    pub(crate) fn is_before(self, other: Self) -> bool {
        let ticket = |state: Self| state.0 & Self::TICKETS << Self::TICKET;
        (ticket(self).wrapping_sub(ticket(other)) as i64) < 0
    }

    /// The ticket in full, which is less than 2^38 from this one.
    pub(crate) fn ticket_near(self, ticket: u64) -> u64 {
        let ahead = (self.ticket().wrapping_sub(ticket) << Self::TICKET) as i64 >> Self::TICKET;
        ticket.wrapping_add(ahead as u64)
    }
}

/// An entry of an order: which cell has the message with this entry's ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry(pub(super) u64);

impl Entry {
    pub(crate) fn new(turn: u32, cell: u16, kind: u16) -> Self {
        Self(u64::from(turn) << 32 | u64::from(cell) << 16 | u64::from(kind))
    }

    /// Which lap it was written in, from 1.
    pub(crate) fn turn(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn cell(self) -> u16 {
        (self.0 >> 16) as u16
    }

    pub(crate) fn kind(self) -> u16 {
        self.0 as u16
    }
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label {
    /// Bytes.
    pub(crate) length: u32,
    pub(crate) kind: u16,
    /// Its priority.
    pub(crate) level: u8,
}

impl Label {
    pub(super) fn encode(self) -> u64 {
        u64::from(self.length) << 32 | u64::from(self.kind) << 16 | u64::from(self.level)
    }

    pub(super) fn decode(word: u64) -> Self {
        Self { length: (word >> 32) as u32, kind: (word >> 16) as u16, level: word as u8 }
    }
}

/// Which messages of a mailbox a receiver takes. Among those: the highest priority first, and in that the oldest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Pick {
    /// Any.
    #[default]
    Any,
    /// Those of this kind.
    Kind(u16),
    /// All but those of this kind (`MSG_EXCEPT`).
    Except(u16),
    /// Those of the lowest kind that there is, up to this one; whatever their priority.
    UpTo(u16),
}

impl Pick {
    /// Whether it takes messages of this kind.
    pub fn takes(self, kind: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Kind(wanted) => kind == wanted,
            Self::Except(other) => kind != other,
            Self::UpTo(most) => kind <= most,
        }
    }

    /// In the two lowest of four 16 bits; [`decode`](Pick::decode) looks at no others.
    pub(crate) fn encode(self) -> u64 {
        match self {
            Self::Any => 0,
            Self::Kind(kind) => 1 << 16 | u64::from(kind),
            Self::Except(kind) => 2 << 16 | u64::from(kind),
            Self::UpTo(kind) => 3 << 16 | u64::from(kind),
        }
    }

    pub(crate) fn decode(word: u64) -> Self {
        match (word >> 16 & 3, word as u16) {
            (1, kind) => Self::Kind(kind),
            (2, kind) => Self::Except(kind),
            (3, kind) => Self::UpTo(kind),
            _ => Self::Any,
        }
    }
}

#[cfg(all(test, not(ringpost_loom)))]
mod tests {
    use super::*;

    const SEAT: Seat = Seat { number: 63, takes: 62 };
    const OTHER: Seat = Seat { number: 1, takes: 2 };

    #[test]
    fn words_survive_the_round_trip() {
        let state = State::new(Phase::Ready, SEAT, 31, (1 << 39) - 3);
        assert_eq!((state.phase(), state.seat(), state.ticket()), (Phase::Ready, SEAT, (1 << 39) - 3));
        assert!(state.is_here(31, (1 << 39) - 3) && !state.is_here(31, 3) && !state.is_aside());
        assert!(!state.is_here(30, (1 << 39) - 3) && state.level() == 31);
        let entry = Entry::new(u32::MAX, 0xfedc, 0x1234);
        assert_eq!((entry.turn(), entry.cell(), entry.kind()), (u32::MAX, 0xfedc, 0x1234));
        let label = Label { length: u32::MAX, kind: 9, level: 31 };
        assert_eq!(Label::decode(label.encode()), label);
        for pick in [Pick::Any, Pick::Kind(7), Pick::Except(0), Pick::UpTo(u16::MAX)] {
            assert_eq!(Pick::decode(pick.encode()), pick);
        }
    }

    #[test]
    fn a_message_that_is_given_back_keeps_its_ticket_and_counts_its_tries() {
        let mut state = State::new(Phase::Ready, SEAT, 3, 77);
        for tries in 1..40 {
            state = state.at(Phase::Taken, OTHER).given_back();
            assert_eq!((state.ticket(), state.level(), state.phase()), (77, 3, Phase::Ready));
            assert!(state.is_aside());
            assert_eq!(state.tries(), tries.min(31));
        }
    }

    #[test]
    fn tickets_tell_which_of_two_is_earlier_also_where_they_wrap() {
        let state = |ticket: u64| State::new(Phase::Ready, SEAT, 2, ticket);
        let wrap = 1 << 39;
        for (first, second) in [(5, 6), (0, 1), (wrap - 1, wrap), (wrap - 2, wrap + 3)] {
            assert!(state(first).is_before(state(second)) && !state(second).is_before(state(first)));
            assert!(!state(first).is_before(state(first)));
            assert_eq!((state(first).ticket_near(second), state(second).ticket_near(first)), (first, second));
        }
    }

    #[test]
    fn picks_take_what_they_say() {
        assert!(Pick::Any.takes(3) && Pick::Kind(3).takes(3) && !Pick::Kind(3).takes(4));
        assert!(!Pick::Except(3).takes(3) && Pick::Except(3).takes(4));
        assert!(Pick::UpTo(3).takes(3) && Pick::UpTo(3).takes(0) && !Pick::UpTo(3).takes(4));
    }
}
