//! The receiving end: the same for one sender and for many.

use super::{
    elastic::GivenBack,
    loan::Tail,
    memory::Memory,
    offer,
    position::{Geometry, HEADER_UNITS, Position},
    record::{Info, State},
};
use crate::sync::Ordering::*;
use std::sync::Arc;

/// Units of a cache line.
const LINE: u64 = 8;
/// Units from a message to the first line ahead that is asked for: about as much is read while that line comes.
const ASK_AHEAD: u64 = 64 * LINE;
/// Lines of the longest message all of whose lines are asked for. In a longer one the processor sees the pattern by itself.
const ASK_ALL: u64 = 32;
/// How far ahead it looks for messages, in units: 512 KiB. What was written so long ago has left the near cache of its writer's core. In a
/// smaller ring it finds none.
const VIEW: u64 = 8192 * LINE;
/// Who keeps its distance looks at the tail once in so many units: 32 KiB.
const BEAT: u64 = 512 * LINE;
/// Who has less than this before it, in units, has caught up: 16 KiB. It takes the lines that senders are about to write to, and they take
/// them back, each message anew.
const NEAR: u64 = 256 * LINE;
/// Units of a message, or of all that was released at once, to which that matters. More has enough lines for itself.
const SHORT: u64 = 4 * LINE;
/// Units of the longest message whose last line is asked for while there is nothing.
const FEW_LINES: u64 = 4 * LINE;

/// A record that is there to be delivered. Private copy of its header, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub(crate) position: Position,
    /// Position behind it.
    pub(crate) end: Position,
    /// Its length is at most the longest payload.
    pub(crate) info: Info,
}

impl Record {
    /// Bytes of the payload.
    #[inline]
    pub(crate) fn length(&self) -> u32 {
        self.info.length()
    }
}

/// What stands at a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// A message.
    Message(Record),
    /// Nothing up to the position behind: go on there.
    Nothing(Position),
    /// No valid header: the end of the ring, or a reservation that is not finished.
    Empty,
}

/// A valid header says what no sender of ours writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Violation {
    pub(crate) position: Position,
    /// What its length field says.
    pub(crate) length: u32,
}

/// Reads the header at `position`. Each shared word is read once, checked, and only the copy is used.
#[inline]
pub(crate) fn look_at(memory: &Memory, position: Position) -> Result<Look, Violation> {
    let Some(state) = memory.state(position) else { return Ok(Look::Empty) };
    understand(memory.geometry(), position, state, || memory.info(position))
}

/// The message at `position`.
#[inline(always)]
fn message_at(memory: &Memory, position: Position) -> Option<Record> {
    if !memory.is_committed(position) {
        return None;
    }
    let (geometry, info) = (memory.geometry(), memory.info(position));
    let length = info.length() as u64;
    let end = position.plus(geometry.size_units(position, length));
    (length <= geometry.longest_payload()).then_some(Record { position, end, info })
}

/// As [`look_at`], beside a sender that may be writing a payload over it, by plain stores.
pub(super) fn look_beside(memory: &Memory, position: Position) -> Result<Look, Violation> {
    if cfg!(miri) {
        // To Miri it is a race only where there is one.
        return look_at(memory, position);
    }
    let Some((state, info)) = memory.header_if_any(position) else { return Ok(Look::Empty) };
    understand(memory.geometry(), position, state, || info)
}

/// What a valid header at `position` says; `info` reads its second word.
#[inline]
pub(super) fn understand(
    geometry: Geometry,
    position: Position,
    state: State,
    info: impl FnOnce() -> Info,
) -> Result<Look, Violation> {
    if state == State::Filler {
        return Ok(Look::Nothing(position.plus(1)));
    }
    let info = info();
    let length = info.length();
    if state == State::Committed && length as u64 <= geometry.longest_payload() {
        let end = position.plus(geometry.size_units(position, length as u64));
        Ok(Look::Message(Record { position, end, info }))
    } else if state == State::Discarded
        && (HEADER_UNITS..=geometry.capacity_units()).contains(&(length as u64))
    {
        Ok(Look::Nothing(position.plus(length as u64)))
    } else {
        Err(Violation { position, length })
    }
}

/// As [`look_at`], for who takes what is on offer for a message, and leaves it there.
fn peek_at(memory: &Memory, position: Position) -> Result<Look, Violation> {
    look_at(memory, position).or_else(|violation| offer::peek(memory, position).ok_or(violation))
}

/// The position behind the last valid record of those that stand one behind the other from `first` on, at most one capacity from `head`.
pub(super) fn end_of_records(memory: &Memory, head: Position, first: Position) -> Position {
    walk(memory.geometry(), head, first, |at| peek_at(memory, at))
}

/// The same where `look_at` says what stands.
pub(super) fn walk(
    geometry: Geometry,
    head: Position,
    first: Position,
    mut look_at: impl FnMut(Position) -> Result<Look, Violation>,
) -> Position {
    let mut end = first;
    while let Ok(Look::Message(Record { end: next, .. }) | Look::Nothing(next)) = look_at(end) {
        if next.since(head) > geometry.capacity_units() {
            break;
        }
        end = next;
    }
    end
}

/// What becomes of a message that is on offer, see `offer.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Offers {
    /// There are none: it is damage.
    Damage,
    /// It is seen, and stays on offer.
    Seen,
    /// It is accepted.
    Accepted,
}

/// The receiving end of a ring.
pub(crate) struct Consumer {
    memory: Arc<Memory>,
    /// Position of the first record that is not released.
    head: Position,
    /// Position of what was released last.
    last: Position,
    /// Up to here messages have come, or are on their way, as far as it has seen.
    written: Position,
    /// From here on it looks how far messages have come.
    next_view: Position,
    /// Whether the tail says how far senders have come: the only one hides it.
    sees_tail: bool,
    offers: Offers,
    /// `None` in a ring whose memory stays.
    given_back: Option<GivenBack>,
}

impl Consumer {
    /// Goes on at the first record that the last receiver did not release.
    ///
    /// The caller must hold the receiver's claim.
    pub(crate) fn attach(memory: Arc<Memory>) -> Self {
        let head = memory.head();
        let given_back = GivenBack::attach(&memory, head);
        let (last, written, next_view) = (head, head, head.plus(VIEW));
        let sees_tail = false;
        Self { memory, head, last, written, next_view, sees_tail, offers: Offers::Damage, given_back }
    }

    /// From now on it accepts what is offered. Only where this process can write to the data area; elsewhere an offer looks like
    /// damage.
    pub(crate) fn accept_offers(&mut self) {
        self.offers = Offers::Accepted;
    }

    /// From now on it looks at the tail. Only where senders show it with each reservation.
    pub(crate) fn see_tail(&mut self) {
        self.sees_tail = true;
        self.next_view = self.head;
    }

    /// Whether it accepts what is offered.
    #[inline]
    pub(crate) fn accepts_offers(&self) -> bool {
        self.offers == Offers::Accepted
    }

    /// Whether what is offered only counts as a message from now on, and stays on offer.
    pub(crate) fn leave_offers(&mut self, leave: bool) {
        self.offers = match self.offers {
            Offers::Damage => Offers::Damage,
            Offers::Seen | Offers::Accepted if leave => Offers::Seen,
            Offers::Seen | Offers::Accepted => Offers::Accepted,
        };
    }

    /// The message at `position`, where [`look`](Self::look) has seen one; `None` when it was on offer, and was taken back.
    pub(crate) fn take(&self, position: Position) -> Result<Option<Record>, Violation> {
        match self.take_at(position)? {
            Look::Message(record) => Ok(Some(record)),
            Look::Nothing(_) | Look::Empty => Ok(None),
        }
    }

    /// As [`look_at`], and sees or accepts what is offered there.
    #[inline]
    fn take_at(&self, position: Position) -> Result<Look, Violation> {
        look_at(&self.memory, position).or_else(|violation| {
            let offered = match self.offers {
                Offers::Damage => None,
                Offers::Seen => offer::peek(&self.memory, position),
                Offers::Accepted => offer::accept(&self.memory, position),
            };
            offered.ok_or(violation)
        })
    }

    /// The message that stands at the very position up to which all is released. Looks no further, and accepts nothing.
    #[inline(always)]
    pub(crate) fn first(&self) -> Option<Record> {
        self.message_at(self.head)
    }

    /// The message that stands at `position`.
    #[inline(always)]
    pub(crate) fn message_at(&self, position: Position) -> Option<Record> {
        message_at(&self.memory, position)
    }

    /// Whether `end` lies at most one capacity behind what is released.
    #[inline(always)]
    pub(crate) fn reaches(&self, end: Position) -> bool {
        end.since(self.head) <= self.memory.geometry().capacity_units()
    }

    /// Whether there is no valid header at the position up to which all is released.
    #[inline(always)]
    pub(crate) fn stands_before_nothing(&self) -> bool {
        self.memory.state(self.head).is_none()
    }

    /// Asks for as many lines ahead as there were in what was released last. True when it is time for a [`view`](Self::view).
    #[inline(always)]
    pub(crate) fn ask_ahead(&self) -> bool {
        if self.head.has_reached(self.next_view) {
            return true;
        }
        // It was far behind when it looked last.
        if self.written.has_reached(self.next_view) {
            self.ask_ahead_of(self.head, self.head.since(self.last));
        }
        false
    }

    /// Asks for lines ahead of a record that stands at `position` and ends at `end`, for who receives many: far ahead, if messages have come
    /// so far and it is not long, else for the header of the eighth from `end` on, and what is behind that, if all are equally long.
    #[inline(always)]
    pub(crate) fn ask_for_many(&self, position: Position, end: Position) {
        let units = end.since(position);
        if !self.ask_ahead_of(position, units) {
            self.ask_for(end.plus(8 * units), units);
        }
    }

    /// Asks for as many lines ahead of `position` as a message of so many units has, if it is not long, and messages have come so far:
    /// whether it did. What senders wrote long ago lies in no cache that is near; but a line that they write to now must stay theirs.
    #[inline(always)]
    fn ask_ahead_of(&self, position: Position, units: u64) -> bool {
        let ahead = position.plus(ASK_AHEAD);
        let asks = units / LINE <= ASK_ALL && self.written.has_reached(ahead);
        if asks {
            self.ask_for(ahead, units);
        }
        asks
    }

    /// Asks for as many lines as so many units fill; if these are many, only for the first.
    #[inline(always)]
    fn ask_for(&self, position: Position, units: u64) {
        self.memory.prefetch_to_read(position);
        let lines = units / LINE;
        if lines <= ASK_ALL {
            (1..lines).for_each(|line| self.memory.prefetch_to_read(position.plus(line * LINE)));
        }
    }

    /// Looks how far messages have come. True where it has caught up with senders of short messages that show their tail: it looks for
    /// that `often`, or only now and then.
    pub(crate) fn view(&mut self, often: bool) -> bool {
        let before = if self.sees_tail { self.before_tail() } else { self.before_guess() };
        let may_be_near = self.sees_tail && self.head.since(self.last) <= SHORT;
        let (seen, pause) = match before {
            VIEW.. => (VIEW, VIEW - ASK_AHEAD),
            _ if may_be_near && often => (0, BEAT),
            _ => (0, VIEW),
        };
        (self.written, self.next_view) = (self.head.plus(seen), self.head.plus(pause));
        may_be_near && before < NEAR
    }

    /// Units before it that senders have reserved.
    fn before_tail(&self) -> u64 {
        Tail::hint(&self.memory).map_or(0, |tail| tail.since(self.head))
    }

    /// As far as it looks ahead, if a message stands there where one would if all were as long as the last; else nothing.
    fn before_guess(&self) -> u64 {
        let length = self.head.since(self.last).max(1);
        let there = self.head.plus((VIEW / length).max(1) * length);
        // Elastic: there may be no memory, and a look would take some.
        let come = self.memory.elastic().is_none() && self.memory.seems_committed(there);
        if come { VIEW } else { 0 }
    }

    /// Where there is nothing: asks for the next line, and for the one in which a message as long as the last one would end. Not for
    /// that of a long one: then the processor sees the pattern by itself.
    #[inline(always)]
    pub(crate) fn ask_for_one_more(&self) {
        self.memory.prefetch_to_read(self.head.plus(LINE));
        let last_unit = self.head.since(self.last).saturating_sub(1);
        if (LINE..=FEW_LINES).contains(&last_unit) {
            self.memory.prefetch_to_read(self.head.plus(last_unit));
        }
    }

    /// The first message that is not released, or `None`. Wait-free: it passes over at most one capacity of discarded
    /// records.
    #[inline]
    pub(crate) fn look(&mut self) -> Result<Option<Record>, Violation> {
        match self.take_at(self.head)? {
            Look::Message(record) => Ok(Some(record)),
            Look::Empty => Ok(None),
            Look::Nothing(behind) => self.pass_over(behind),
        }
    }

    #[cold]
    fn pass_over(&mut self, behind: Position) -> Result<Option<Record>, Violation> {
        let mut at = behind;
        let found = loop {
            if !self.reaches(at) {
                break None;
            }
            match self.take_at(at)? {
                Look::Message(record) => break Some(record),
                Look::Empty => break None,
                Look::Nothing(behind) => at = behind,
            }
        };
        self.release(at);
        Ok(found)
    }

    /// Gives everything before `end` back to the senders.
    #[inline(always)]
    pub(crate) fn release(&mut self, end: Position) {
        self.step_to(end);
        self.give_back();
    }

    /// Everything before `end` is released. [`give_back`](Self::give_back) must follow.
    #[inline(always)]
    pub(crate) fn step_to(&mut self, end: Position) {
        self.last = self.head;
        self.head = end;
        // ORDERING: Release R1; pairs with Acquire S1 in `Memory::head`: the payloads were read before.
        self.memory.receiver().position.store(end.units(), Release);
    }

    /// Gives back the memory of what is released, in a ring from which memory goes.
    #[inline(always)]
    pub(crate) fn give_back(&mut self) {
        if let Some(given_back) = &mut self.given_back {
            given_back.up_to(&self.memory, self.head);
        }
    }

    /// Position of the first record that is not released.
    pub(crate) fn head(&self) -> Position {
        self.head
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }
}
