//! Who is to be told that a message has come to the mailbox while it was empty.
//!
//! A seat that is registered has a word that says how far it is, and a bit by which others find it. A message that somebody holds is
//! still there.
//!
//! ```text
//! register   word: waits; bit; fence; was it empty? armed
//! free       cell: taken -> free; fence; a bit? was it empty? each that waits, or was passed over: armed
//! send       the message; fence; a bit? each that is armed: told, or passed over when a receiver was called for the message
//! ```
//!
//! The fences make pairs: whoever registers sees the cell free, or whoever frees it sees the bit; whoever arms looks once more for a
//! message, or its sender sees that it is armed. Each step is a CAS of the word, which counts them: nobody does by a late look what is
//! right no more. So an armed seat has been empty since it was registered, at an instant that was seen for certain, and no message that
//! is there was told of since.

use super::{Area, Label, Phase, ROUNDS, Seat, State, is_ready, lies_in};
use crate::sync::{AtomicU64, Ordering::*, fence};

/// How far a registration is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// There is none; or it has happened.
    Over,
    /// Until the mailbox is seen empty.
    Waits,
    /// The next message is told of.
    Armed,
    /// A message came, and a receiver was called for it. The next one is told of after the mailbox was empty again.
    PassedOver,
}

/// The word of a seat: how often it was changed << 2 | the step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Notice(u64);

impl Notice {
    fn step(self) -> Step {
        [Step::Over, Step::Waits, Step::Armed, Step::PassedOver][(self.0 & 3) as usize]
    }

    /// The next one.
    fn with(self, step: Step) -> Self {
        Self((self.0 >> 2).wrapping_add(1) << 2 | step as u64)
    }
}

/// How often it is looked anew whether the mailbox is empty, because messages came meanwhile.
const LOOKS: u32 = 16;

/// A message that is there, and that nobody holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct There {
    pub(crate) cell: u16,
    pub(crate) state: State,
}

fn word(area: &Area, number: u8) -> Option<&AtomicU64> {
    area.memory().slot(number).map(|slot| &slot.notice)
}

fn read(word: &AtomicU64) -> Notice {
    // ORDERING: Acquire H2; pairs with the AcqRel H1 in `change`: whoever sees a seat armed sees all that came before it was empty.
    Notice(word.load(Acquire))
}

/// Changes the word as long as it is `from`.
fn change(word: &AtomicU64, from: Notice, to: Step) -> bool {
    // ORDERING: AcqRel H1; pairs with H2 and with itself.
    word.compare_exchange(from.0, from.with(to).0, AcqRel, Relaxed).is_ok()
}

/// Whether anybody may be registered. To be asked behind the fence that follows what was done (G2).
#[inline]
pub(crate) fn is_anybody_registered(area: &Area) -> bool {
    // ORDERING: Relaxed; ordered by G2, and who sees the bit reads the word for itself.
    area.common().registered.load(Relaxed) != 0
}

/// The words of those who may be registered.
fn registered(area: &Area) -> impl Iterator<Item = &AtomicU64> {
    // ORDERING: Relaxed; as above, and so is the word: the fence of one of the two comes first, and the other sees both.
    let bits = area.common().registered.load(Relaxed);
    (1..64).filter(move |number| bits >> number & 1 != 0).filter_map(|number| word(area, number))
}

/// Registers the holder of the seat. [`arm`] must follow.
pub(crate) fn register(area: &Area, seat: Seat) {
    end(area, seat);
    if let Some(word) = word(area, seat.number) {
        change(word, read(word), Step::Waits);
    }
    // ORDERING: Relaxed; ordered by the fence G1 in `arm`.
    area.common().registered.fetch_or(seat.bit(), Relaxed);
}

/// Takes the registration of the seat back, also that of its last holder. False when there is none: it has happened.
pub(crate) fn end(area: &Area, seat: Seat) -> bool {
    let Some(word) = word(area, seat.number) else { return false };
    let ended = (0..ROUNDS).find_map(|_| {
        let now = read(word);
        let is_over = now.step() == Step::Over;
        (is_over || change(word, now, Step::Over)).then_some(!is_over)
    });
    // ORDERING: Relaxed; who still sees the bit reads the word.
    area.common().registered.fetch_and(!seat.bit(), Relaxed);
    ended == Some(true)
}

/// Takes back the registration of a seat whose holder is dead, as long as it is `still_its`. The bit is left to who takes the seat: taken
/// late, it would be that one's.
pub(super) fn end_for_the_dead(area: &Area, seat: Seat, still_its: impl Fn() -> bool) {
    let Some(word) = word(area, seat.number) else { return };
    for _ in 0..ROUNDS {
        let now = read(word);
        // Whoever takes the seat does so before it changes the word.
        if now.step() == Step::Over || !still_its() || change(word, now, Step::Over) {
            break;
        }
    }
}

/// Whether the registration of the seat has happened, or was taken back.
pub(crate) fn is_over(area: &Area, seat: Seat) -> bool {
    word(area, seat.number).is_none_or(|word| read(word).step() == Step::Over)
}

/// Arms those who are registered if the mailbox was empty at an instant within this call; gives a message that has come since, to be
/// called for and [told](tell) of. Due from who has freed a cell, or has registered.
#[cold]
pub(crate) fn arm(area: &Area) -> Option<There> {
    // ORDERING: G1, for who has registered: either this look sees the cell free, or who frees it sees the bit, behind G2.
    fence(SeqCst);
    // Before the look: who registers later looks for himself.
    let due = |step| matches!(step, Step::Waits | Step::PassedOver);
    let waiting: Vec<_> =
        registered(area).map(|word| (word, read(word))).filter(|(_, now)| due(now.step())).collect();
    if waiting.is_empty() || !was_empty(area) {
        return None;
    }
    waiting.into_iter().for_each(|(word, now)| {
        change(word, now, Step::Armed);
    });
    // ORDERING: G1; either the sender of the next message sees that they are armed, behind its G2, or this look sees the message.
    fence(SeqCst);
    first(area)
}

/// Tells those who are armed of a message, or passes them over because a receiver was `called` for it. True when somebody is told, and is
/// to be woken.
#[cold]
pub(crate) fn tell(area: &Area, message: There, called: bool) -> bool {
    let mut told = false;
    for word in registered(area) {
        let now = read(word);
        // One that has gone may have come, and gone, before the mailbox was empty.
        match now.step() {
            Step::Armed if is_still(area, message) => {
                told |= change(word, now, if called { Step::PassedOver } else { Step::Over }) && !called;
            }
            // Whoever is about to arm it has seen the mailbox empty before: the receiver does so again.
            step @ (Step::Waits | Step::PassedOver) if called => {
                change(word, now, step);
            }
            _ => {}
        }
    }
    told
}

/// For who was called for a message and has gone without it, or is dead: gives a message that is still there, and arms again those who
/// were passed over for it.
#[cold]
pub(crate) fn call_again(area: &Area) -> Option<There> {
    let message = first(area)?;
    for word in registered(area) {
        let now = read(word);
        if now.step() == Step::PassedOver {
            change(word, now, Step::Armed);
        }
    }
    Some(message)
}

/// A message that is there, when somebody is armed: who has sent it may have died before he told of it.
pub(crate) fn first_for_the_armed(area: &Area) -> Option<There> {
    registered(area).any(|word| read(word).step() == Step::Armed).then(|| first(area)).flatten()
}

/// The kind of a message that is there.
pub(crate) fn kind(area: &Area, message: There) -> u16 {
    let Label { kind, .. } = area.label(message.cell);
    kind
}

/// Whether the message lies in its cell, held by somebody or not.
fn is_still(area: &Area, message: There) -> bool {
    let now = area.state(message.cell);
    matches!(now.phase(), Phase::Ready | Phase::Taken) && now.is_of_same(message.state)
}

/// Whether there was no message at all at an instant within this call.
fn was_empty(area: &Area) -> bool {
    for _ in 0..LOOKS {
        let before = arrivals(area);
        if area.cells().any(|cell| lies_in(area, cell)) {
            return false;
        }
        // Messages only went meanwhile.
        if arrivals(area) == before {
            return true;
        }
    }
    false
}

/// A message that nobody holds.
fn first(area: &Area) -> Option<There> {
    let there = |cell| Some(There { cell, state: area.state(cell) });
    area.cells().filter_map(there).find(|&There { cell, state }| is_ready(area, cell, state))
}

/// How many messages were ever sent: it grows with each.
fn arrivals(area: &Area) -> u64 {
    let end_of = |level| {
        // ORDERING: Acquire H4; pairs with Release H3 in `Clerk::send`: what is counted here is found in its cell. Of the entries behind it,
        // M4 says so.
        let tail = area.level(level).tail.load(Acquire);
        let entries = area.shape().entries();
        (0..entries)
            .map(|n| tail.wrapping_add(n))
            .find(|&ticket| area.entry(level, ticket).turn() != area.turn(ticket))
            .unwrap_or(tail.wrapping_add(entries))
    };
    (0..area.shape().levels).map(end_of).fold(0, u64::wrapping_add)
}
