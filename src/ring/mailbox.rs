//! Any number of senders and receivers, and each message for exactly one of them.
//!
//! A message lies in a *cell* and stays there. The state word of the cell says who has it, so that each step from hand to
//! hand is one CAS of one word. Which message comes before which is said by *orders*, one for each priority: an entry
//! names a cell, and its position is the *ticket* that the state of the cell has as well. An entry is *stale* when the state is not
//! that of a message with its ticket: so whoever takes a message from the middle changes the state alone.
//!
//! ```text
//! send      cell: free -> filling; payload; state: ready, ticket t; entry t: -> cell (here it is sent); tail -> t + 1
//! receive   from head on: the first entry that is not stale and is wanted; its cell: ready -> taken
//! release   cell: taken -> free
//! ```
//!
//! A message that its holder gives back, or dies with, and one that holds up an order that is full, lies *aside*: it is
//! looked for in the cells, and its ticket says where it would stand.

mod area;
pub(crate) mod notice;
mod words;

pub(crate) use area::{Area, MOST_SEATS, Shape};
#[cfg(not(ringpost_loom))]
pub(crate) use area::{MOST_CELLS, MOST_LEVELS};
pub use words::Pick;
pub(crate) use words::{Label, Phase, Seat, State};

use super::claim::{self, Seen};
use crate::sync::{AtomicU64, Ordering::*, fence};
use words::Entry;

/// The cell so many after the one that is filled is fetched to be written.
const PREFETCH_AHEAD: u16 = 8;

/// Who has fewer messages before it, or less than half of the cells, has caught up.
const NEAR: u64 = 256;

/// How often a step is tried anew because another was first. Each time somebody else got on, unless memory is damaged.
const ROUNDS: u32 = 1 << 12;

/// A message that may be taken, as it was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) cell: u16,
    pub(crate) state: State,
    kind: u16,
    level: u8,
}

impl Found {
    /// Whether it is to be taken before the `other`.
    fn comes_before(&self, other: &Self, pick: Pick) -> bool {
        let kind = |found: &Self| if matches!(pick, Pick::UpTo(_)) { found.kind } else { 0 };
        let key = |found: &Self| (kind(found), u8::MAX - found.level);
        key(self) < key(other) || key(self) == key(other) && self.state.is_before(other.state)
    }
}

/// A message in hand: of who fills the cell, or of who has received it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) cell: u16,
    pub(crate) state: State,
}

/// One lap in so many counts the cells that are in use.
const LAPS: u32 = 16;

/// What one seat does at the mailbox.
pub(crate) struct Clerk {
    pub(crate) seat: Seat,
    /// The claim of the seat, for the messages that it sends.
    claim: u64,
    /// Where the next free cell is looked for first.
    next: u16,
    /// For each level: before this ticket all entries were stale; a message that was given back since lies aside.
    from: Vec<u64>,
    /// Times that it has begun again at the first cell.
    laps: u32,
}

impl Clerk {
    /// The caller must hold the seat, whose claim it has seen.
    pub(crate) fn new(area: &Area, number: u8, claim: Seen) -> Self {
        let seat = Seat::new(number, claim);
        // Seats begin far from each other, so that they don't meet in each cell.
        let next = (area.shape().cells / u32::from(MOST_SEATS + 1) * u32::from(number)) as u16;
        Self { seat, claim: claim.word(), next, from: vec![0; area.shape().levels.into()], laps: 0 }
    }

    /// A free cell to be filled; `None` when there is none.
    pub(crate) fn fill(&mut self, area: &Area) -> Option<Held> {
        let cells = area.shape().cells;
        for tried in 0..cells {
            let at = u32::from(self.next) + tried;
            let cell = (at & (cells - 1)) as u16;
            let free = area.cell(cell).state();
            let state = State::filling(self.seat);
            if free.phase() == Phase::Free && area.cell(cell).change(free, state) {
                // ORDERING: Release N1; pairs with Acquire N2 in `Area::is_still`: the state comes before what is written now.
                fence(Release);
                self.next = ((at + 1) & (cells - 1)) as u16;
                area.prefetch(cell, PREFETCH_AHEAD);
                if at + 1 >= cells {
                    self.take_stock(area);
                }
                return Some(Held { cell, state });
            }
        }
        self.note_in_use(area, cells);
        None
    }

    /// Counts the cells that are in use, now and then: each is a line that another process has written.
    #[cold]
    fn take_stock(&mut self, area: &Area) {
        if self.laps.is_multiple_of(LAPS) {
            let in_use = area.cells().filter(|&cell| area.state(cell).phase() != Phase::Free);
            self.note_in_use(area, in_use.count() as u32);
        }
        self.laps = self.laps.wrapping_add(1);
    }

    fn note_in_use(&self, area: &Area, cells: u32) {
        if let Some(slot) = area.memory().slot(self.seat.number) {
            slot.counts.high_water.raise_to(u64::from(cells) * area.shape().stride());
        }
    }

    /// Sends the message in a cell that was filled, and gives its state. `None` only when memory is damaged.
    pub(crate) fn send(&mut self, area: &Area, held: Held, label: Label) -> Option<State> {
        let (cell, level) = (area.cell(held.cell), area.level(label.level));
        cell.set_label(label.encode());
        mark_used(area, label.level);
        // ORDERING: Relaxed; released with the entry (M3).
        cell.sender.store(self.claim, Relaxed);
        let mut last = held.state;
        for _ in 0..ROUNDS {
            // ORDERING: Relaxed; only where to try first, the CAS on the entry decides.
            let ticket = level.tail.load(Relaxed);
            let before = area.entry(label.level, ticket);
            if before.turn() == area.turn(ticket) {
                // Another was first, and has not raised the tail yet.
                // ORDERING: Release H3, as below; the entry was acquired (M4).
                let _ = level.tail.compare_exchange(ticket, ticket.wrapping_add(1), Release, Relaxed);
                continue;
            }
            // ORDERING: Acquire M8; pairs with Release M7 in `pass`: what is written over is stale, or was told of.
            if ticket.wrapping_sub(level.head.load(Acquire)) >= area.shape().entries() {
                make_room(area, label.level);
                continue;
            }
            if before.turn() != area.turn(ticket).wrapping_sub(1) {
                // The tail was raised meanwhile.
                continue;
            }
            let state = State::new(Phase::Ready, self.seat, label.level, ticket);
            if !cell.change(last, state) {
                return None;
            }
            last = state;
            let entry = Entry::new(area.turn(ticket), held.cell, label.kind);
            if area.install(label.level, ticket, before, entry) {
                // ORDERING: Release H3; pairs with Acquire H4 in `notice::arrivals`: the message comes before it is counted.
                let _ = level.tail.compare_exchange(ticket, ticket.wrapping_add(1), Release, Relaxed);
                return Some(state);
            }
        }
        free(area, Held { cell: held.cell, state: last });
        None
    }

    /// The message that `pick` takes first.
    pub(crate) fn find(&mut self, area: &Area, pick: Pick) -> Option<Found> {
        for _ in 0..ROUNDS {
            let asides = asides(area);
            let found = self.find_once(area, pick, asides);
            // It may have been laid aside while it was looked for in its order.
            if found.is_some() || self::asides(area) / ASIDE == asides / ASIDE {
                return found;
            }
        }
        None
    }

    fn find_once(&mut self, area: &Area, pick: Pick, asides: u64) -> Option<Found> {
        let mut best = find_aside(area, pick, asides);
        // ORDERING: Relaxed; set before the entry is written, and who is to sleep looks behind G1.
        let used = area.common().used.load(Relaxed);
        let mut levels = used & (!0 >> (64 - area.shape().levels));
        while levels != 0 {
            let level = levels.ilog2() as u8;
            levels -= 1 << level;
            if let Some(found) = self.find_in(area, level, pick)
                && best.is_none_or(|best| found.comes_before(&best, pick))
            {
                best = Some(found);
            }
            if !matches!(pick, Pick::UpTo(_)) && best.is_some_and(|best| best.level >= level) {
                break;
            }
        }
        best
    }

    /// The same of one order.
    fn find_in(&mut self, area: &Area, level: u8, pick: Pick) -> Option<Found> {
        let mut best: Option<Found> = None;
        self.each_in(area, level, |found| {
            if pick.takes(found.kind) && best.is_none_or(|best| found.comes_before(&best, pick)) {
                best = Some(found);
            }
            best.is_none() || matches!(pick, Pick::UpTo(_))
        });
        best
    }

    /// Looks at the messages of one order, from the first, as long as `look` says; anew where it is overtaken on its way.
    #[inline]
    fn each_in(&mut self, area: &Area, level: u8, mut look: impl FnMut(Found) -> bool) {
        for _ in 0..ROUNDS {
            if self.walk(area, level, &mut look) {
                break;
            }
        }
    }

    /// The same, once; false where the order was written over meanwhile.
    #[inline(always)]
    fn walk(&mut self, area: &Area, level: u8, look: &mut impl FnMut(Found) -> bool) -> bool {
        let order = area.level(level);
        // ORDERING: Acquire M8; pairs with Release M7 in `pass`: who begins behind a message knows that it lies aside.
        let head = order.head.load(Acquire);
        let from = &mut self.from[usize::from(level)];
        if (head.wrapping_sub(*from) as i64) > 0 {
            *from = head;
        }
        let (mut all_stale, mut ticket) = (true, *from);
        for _ in 0..area.shape().entries() {
            let entry = area.entry(level, ticket);
            if entry.turn() != area.turn(ticket) {
                if is_overtaken(area, level, ticket, entry) {
                    return false;
                }
                // Behind the last one.
                break;
            }
            let (cell, kind) = (entry.cell(), entry.kind());
            let state = area.state(cell);
            if state.is_here(level, ticket) {
                all_stale = false;
                if !look(Found { cell, state, kind, level }) {
                    break;
                }
            }
            ticket = ticket.wrapping_add(1);
            if all_stale {
                *from = ticket;
            }
        }
        if from.wrapping_sub(head) >= area.shape().entries() / 4 {
            pass(area, level, head, *from);
        }
        true
    }

    /// Whether hardly any message comes behind the one that was taken: senders are about to write where receivers look next.
    pub(crate) fn has_caught_up(&self, area: &Area, taken: Held) -> bool {
        let level = taken.state.level();
        let Some(from) = self.from.get(usize::from(level)) else { return false };
        let ticket = from.wrapping_add(NEAR.min(area.shape().entries() / 4));
        area.entry(level, ticket).turn() != area.turn(ticket)
    }

    /// Takes what was found, unless another was first.
    pub(crate) fn take(&self, area: &Area, found: Found) -> Option<Held> {
        self.take_at(area, found.cell, found.state)
    }

    /// Takes the message that had this state in a cell, wherever it stands; `None` when somebody else has taken it.
    pub(crate) fn take_same(&self, area: &Area, cell: u16, message: State) -> Option<Held> {
        for _ in 0..ROUNDS {
            let state = area.state(cell);
            if state.phase() != Phase::Ready || !state.is_of_same(message) {
                break;
            }
            // It fails also when the message is laid aside meanwhile.
            if let Some(held) = self.take_at(area, cell, state) {
                return Some(held);
            }
        }
        None
    }

    /// Takes the message in a cell, as long as its state is this one.
    fn take_at(&self, area: &Area, cell: u16, state: State) -> Option<Held> {
        let taken = state.at(Phase::Taken, self.seat);
        area.cell(cell).change(state, taken).then_some(Held { cell, state: taken })
    }

    /// All messages that `pick` takes, with their states, in the order in which they would be taken.
    pub(crate) fn all(&mut self, area: &Area, pick: Pick) -> Vec<(u16, State)> {
        let mut found = Vec::new();
        for level in 0..area.shape().levels {
            self.each_in(area, level, |one| {
                found.push(one);
                true
            });
        }
        // After the orders: a message may be laid aside meanwhile, and never the other way.
        for aside in area.cells().filter_map(|cell| aside_in(area, cell)) {
            let same = |one: &Found| one.cell == aside.cell && one.state.is_of_same(aside.state);
            if !found.iter().any(same) {
                found.push(aside);
            }
        }
        found.retain(|one| pick.takes(one.kind));
        // ORDERING: Relaxed; only what tickets are counted from.
        let head = |level| area.level(level).head.load(Relaxed);
        let heads: Vec<_> = (0..area.shape().levels).map(head).collect();
        let kind = |found: &Found| if matches!(pick, Pick::UpTo(_)) { found.kind } else { 0 };
        found.sort_by_key(|one| {
            let head = heads[usize::from(one.level)];
            let place = one.state.ticket_near(head).wrapping_sub(head) as i64;
            (kind(one), u8::MAX - one.level, place)
        });
        found.into_iter().map(|found| (found.cell, found.state)).collect()
    }
}

/// Whether the `entry` for this ticket is one of a later lap: so many messages went and came meanwhile. All up to the ticket is stale
/// then, and the head behind it, unless memory is damaged.
#[cold]
fn is_overtaken(area: &Area, level: u8, ticket: u64, entry: Entry) -> bool {
    let laps = entry.turn().wrapping_sub(area.turn(ticket)) as i32;
    // ORDERING: Relaxed; the entry was acquired (M4), and who has written it had found the head there.
    laps > 0 && (area.level(level).head.load(Relaxed).wrapping_sub(ticket) as i64) > 0
}

/// Says that there may be messages at this level.
#[inline]
fn mark_used(area: &Area, level: u8) {
    let (used, bit) = (&area.common().used, 1 << level);
    // ORDERING: Relaxed; it is never taken back.
    if used.load(Relaxed) & bit == 0 {
        // ORDERING: Relaxed; before the entry, which is released (M3).
        used.fetch_or(bit, Relaxed);
    }
}

/// The cell is free: its message is done with, or was never sent.
pub(crate) fn free(area: &Area, held: Held) {
    // It fails for nobody who keeps to the protocol: only the holder changes it.
    area.cell(held.cell).change(held.state, held.state.at(Phase::Free, held.state.seat()));
}

/// The message can be taken anew.
pub(crate) fn give_back(area: &Area, held: Held) {
    if area.cell(held.cell).change(held.state, held.state.given_back()) {
        tell_of_asides(area);
    }
}

/// In the word of what lies aside: counts how often something was laid there.
const ASIDE: u64 = 1 << 32;

/// Says that messages may lie aside, after one was laid there.
fn tell_of_asides(area: &Area) {
    // ORDERING: Release M5; pairs with Acquire M6 in `asides`: whoever sees it finds the message.
    area.common().asides.fetch_add(ASIDE, Release);
}

/// How much was laid aside, and how much of it somebody found to be gone.
#[inline]
fn asides(area: &Area) -> u64 {
    // ORDERING: Acquire M6; pairs with Release M5 in `tell_of_asides`.
    area.common().asides.load(Acquire)
}

/// The message that `pick` takes first of those that lie aside, which may be there by this count.
fn find_aside(area: &Area, pick: Pick, asides: u64) -> Option<Found> {
    let (laid, missed) = (asides / ASIDE, asides % ASIDE);
    if laid == missed {
        return None;
    }
    let (mut none, mut best): (_, Option<Found>) = (true, None);
    for found in area.cells().filter_map(|cell| aside_in(area, cell)) {
        none = false;
        if pick.takes(found.kind) && best.is_none_or(|best| found.comes_before(&best, pick)) {
            best = Some(found);
        }
    }
    if none {
        // ORDERING: Relaxed; it fails when more was laid aside since.
        let _ = area.common().asides.compare_exchange(asides, laid * ASIDE + laid, Relaxed, Relaxed);
    }
    best
}

/// The message in a cell, if it lies aside.
fn aside_in(area: &Area, cell: u16) -> Option<Found> {
    let state = area.state(cell);
    let Label { kind, level, .. } = area.label(cell);
    (state.phase() == Phase::Ready && state.is_aside()).then_some(Found { cell, state, kind, level })
}

/// Raises the head of an order, behind entries that are all stale.
fn pass(area: &Area, level: u8, head: u64, to: u64) {
    // ORDERING: Release M7; pairs with Acquire M8 in `Clerk::send` and `Clerk::walk`: what lies aside was told of before.
    let _ = area.level(level).head.compare_exchange(head, to, Release, Relaxed);
}

/// Makes room in an order that is full: passes over what is stale, or lays the message at its head aside.
fn make_room(area: &Area, level: u8) {
    // ORDERING: Relaxed; the entries are looked at for themselves.
    let head = area.level(level).head.load(Relaxed);
    let may_pass = |ticket| {
        let entry = area.entry(level, ticket);
        let state = area.state(entry.cell());
        let is_known = entry.turn() == area.turn(ticket);
        if is_known && state.is_here(level, ticket) && state.is_aside() {
            // Nobody passes it who has not told of it: until then it is found by its entry.
            tell_of_asides(area);
        }
        is_known && (!state.is_here(level, ticket) || state.is_aside())
    };
    let passed = (0..area.shape().entries()).take_while(|&n| may_pass(head.wrapping_add(n))).count() as u64;
    if passed > 0 {
        pass(area, level, head, head.wrapping_add(passed));
        return;
    }
    let entry = area.entry(level, head);
    let cell = area.cell(entry.cell());
    let state = cell.state();
    if entry.turn() == area.turn(head) && state.is_here(level, head) {
        cell.change(state, state.aside());
    }
}

/// Undoes what a seat had begun when its holder, whose claim was `seen`, died: what it held can be taken anew, what it had not
/// sent is gone. May be done by many, and again.
///
/// The death must be proven.
pub(crate) fn recover(area: &Area, number: u8, claim: &AtomicU64, seen: Seen) {
    let dead = Seat::new(number, seen);
    for number in area.cells() {
        let cell = area.cell(number);
        for _ in 0..ROUNDS {
            let state = cell.state();
            let after = match state.phase() {
                _ if state.seat() != dead => break,
                Phase::Filling => state.at(Phase::Free, dead),
                Phase::Taken => state.given_back(),
                Phase::Ready if !state.is_aside() && !is_sent(area, number, state) => {
                    state.at(Phase::Free, dead)
                }
                Phase::Ready | Phase::Free => break,
            };
            // Others may have done all this by now, and the seat may be taken again.
            if claim::seen(claim) != seen || cell.change(state, after) {
                break;
            }
        }
    }
    // Also what it had laid aside itself, and not told of.
    tell_of_asides(area);
    notice::end_for_the_dead(area, dead, || claim::seen(claim) == seen);
    open_to_all(area, dead);
}

/// Takes back what the holder before may have left of its sleep, and its registration. Due from who has taken a seat, before it wakes all: a wake may have
/// gone to it meanwhile.
pub(crate) fn get_up(area: &Area, seat: Seat) {
    let common = area.common();
    for mask in [&common.receivers, &common.senders] {
        // ORDERING: Relaxed; the fence G2 of the wakes that follow orders it.
        mask.fetch_and(!seat.bit(), Relaxed);
    }
    notice::end(area, seat);
}

/// Whether the entry of a message that is ready was written.
fn is_sent(area: &Area, cell: u16, state: State) -> bool {
    let level = state.level();
    // ORDERING: Relaxed; only what the ticket is near to. Of a dead sender, the proof of that came first.
    let ticket = state.ticket_near(area.level(level).tail.load(Relaxed));
    let entry = area.entry(level, ticket);
    entry.turn() == area.turn(ticket) && entry.cell() == cell
}

/// Whether a message lies in the cell that was sent, and that nobody holds.
pub(crate) fn is_ready(area: &Area, cell: u16, state: State) -> bool {
    state.phase() == Phase::Ready && (state.is_aside() || is_sent(area, cell, state))
}

/// Whether a message lies in the cell that was sent, held by somebody or not.
pub(crate) fn lies_in(area: &Area, cell: u16) -> bool {
    let state = area.state(cell);
    state.phase() == Phase::Taken || is_ready(area, cell, state)
}

/// From now on only this seat may receive; false when another one has said so.
pub(crate) fn close_to_others(area: &Area, seat: Seat) -> bool {
    let word = State::new(Phase::Taken, seat, 0, 0).0;
    // ORDERING: Relaxed; it guards nothing but who looks.
    match area.common().only.compare_exchange(0, word, Relaxed, Relaxed) {
        Ok(_) => true,
        Err(other) => other == word,
    }
}

/// The other way round, if it was this seat.
pub(crate) fn open_to_all(area: &Area, seat: Seat) {
    let word = State::new(Phase::Taken, seat, 0, 0).0;
    // ORDERING: as above.
    let _ = area.common().only.compare_exchange(word, 0, Relaxed, Relaxed);
}

/// The seat that alone may receive.
pub(crate) fn only_receiver(area: &Area) -> Option<Seat> {
    // ORDERING: as above.
    Some(area.common().only.load(Relaxed)).filter(|&word| word != 0).map(|word| State(word).seat())
}

/// From now on nobody sends, and who finds nothing is told so. Who sleeps is to be woken.
pub(crate) fn close(area: &Area) {
    // ORDERING: Release N3; pairs with Acquire N4 in `is_closed`.
    area.common().closed.store(1, Release);
}

/// Whether somebody has said so. A look that follows finds all that is sent, and was not taken back by its sender, who asks this
/// behind a fence (G2) once it has sent.
#[inline]
pub(crate) fn is_closed(area: &Area) -> bool {
    // ORDERING: Acquire N4; pairs with Release N3 in `close`.
    let closed = area.common().closed.load(Acquire) != 0;
    if closed {
        // ORDERING: G1, as the second look of a sleeper: either the sender sees that it is closed, or the look that follows sees
        // what it has sent.
        fence(SeqCst);
    }
    closed
}
