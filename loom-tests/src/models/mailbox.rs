//! Goal: a mailbox of two cells, which any number of seats send to and receive from.
//!
//! Legal outcomes: each message is received by exactly one, whole; a kill loses nothing that was sent, and what the killed one
//! held comes again; nobody sleeps while there is what it sleeps for.

use crate::{
    explore::{explore, explore_every_kill, explore_large},
    harness::{at_once, process},
    mortal::killed_at,
    ring::{
        claim,
        mailbox::{self, Area, Clerk, Held, Label, Phase, Pick, Shape, State},
        memory::Memory,
        position::{Geometry, Position},
    },
    sys::futex::Scope,
    wait::{Bed, Call, Dormitory, Look, News, Sleeper},
};
use loom::thread;
use std::sync::Arc;

const CELLS: u32 = 2;

/// A mailbox as every process sees it.
#[derive(Clone)]
pub(super) struct Office {
    memory: Arc<Memory>,
    pub(super) area: Arc<Area>,
}

/// Who has a seat there.
pub(super) struct Party {
    pub(super) office: Office,
    pub(super) clerk: Clerk,
    number: u8,
    news: Arc<News>,
}

#[allow(clippy::arc_with_non_send_sync, reason = "loom checks itself that its cells are not raced for")]
impl Office {
    pub(super) fn new(levels: u8) -> Self {
        let memory = Arc::new(Memory::new(Geometry::new(64, false), 0, 3, Position::new(0)));
        let shape = Shape { cells: CELLS, levels, longest: 8 };
        Self { area: Arc::new(Area::new(Arc::clone(&memory), shape)), memory }
    }

    pub(super) fn party(&self, number: u8) -> Party {
        let claim = &self.memory.slot(number).unwrap().claim;
        assert!(claim::take(claim, claim::seen(claim), process(number.into())));
        let clerk = Clerk::new(&self.area, number, claim::seen(claim));
        Party { office: self.clone(), clerk, number, news: Arc::default() }
    }

    /// What whoever learns of the death does.
    pub(super) fn bury(&self, number: u8) {
        self.bury_as(number, self.seen(number));
    }

    pub(super) fn seen(&self, number: u8) -> claim::Seen {
        claim::seen(&self.memory.slot(number).unwrap().claim)
    }

    /// The same, of whose death there was proof when its claim was `seen`.
    pub(super) fn bury_as(&self, number: u8, seen: claim::Seen) {
        let claim = &self.memory.slot(number).unwrap().claim;
        if let claim::Claim::Attached(_) = seen.claim() {
            mailbox::recover(&self.area, number, claim, seen);
            claim::bury(claim, seen);
        }
    }

    fn receivers(&self) -> Dormitory<'_> {
        let (memory, mask) = (&*self.memory, &self.area.common().receivers);
        Dormitory { memory, mask, scope: Scope::Shared }
    }

    fn senders(&self) -> Dormitory<'_> {
        Dormitory { mask: &self.area.common().senders, ..self.receivers() }
    }

    fn free_cells(&self) -> usize {
        self.area.cells().filter(|&cell| self.area.state(cell).phase() == Phase::Free).count()
    }

    /// All that can be taken now, in order.
    fn drain(&self, number: u8) -> Vec<u64> {
        let mut party = self.party(number);
        std::iter::from_fn(|| party.receive(Pick::Any)).collect()
    }
}

impl Party {
    /// Sends message `value`, of kind `value`; false when there is no room.
    fn send(&mut self, value: u64) -> bool {
        self.send_at(0, value).is_some()
    }

    fn send_at(&mut self, level: u8, value: u64) -> Option<State> {
        self.send_to(level, value).map(|(_, state)| state)
    }

    /// Gives the cell as well.
    pub(super) fn send_to_cell(&mut self, value: u64) -> Option<(u16, State)> {
        self.send_to(0, value)
    }

    fn send_to(&mut self, level: u8, value: u64) -> Option<(u16, State)> {
        let area = &self.office.area;
        let held = self.clerk.fill(area)?;
        area.write_payload(held.cell, value);
        let state = self.clerk.send(area, held, Label { length: 8, kind: value as u16, level });
        self.office.receivers().wake_one(self.number, |pick| Pick::decode(pick).takes(value as u16));
        Some((held.cell, state.unwrap()))
    }

    fn take(&mut self, pick: Pick) -> Option<Held> {
        let area = &self.office.area;
        while let Some(found) = self.clerk.find(area, pick) {
            if let Some(held) = self.clerk.take(area, found) {
                return Some(held);
            }
        }
        None
    }

    fn release(&self, held: Held) -> u64 {
        let area = &self.office.area;
        let value = area.read_payload(held.cell);
        assert_eq!(u64::from(area.label(held.cell).kind), value);
        mailbox::free(area, held);
        self.office.senders().wake_one(self.number, |_| true);
        value
    }

    pub(super) fn receive(&mut self, pick: Pick) -> Option<u64> {
        let held = self.take(pick)?;
        Some(self.release(held))
    }

    fn sleeper<'a>(
        &self,
        office: &'a Office,
        news: &'a News,
        dormitory: Dormitory<'a>,
        pick: u64,
    ) -> Sleeper<'a> {
        let slot = office.memory.slot(self.number).unwrap();
        let bed = Bed { dormitory, slot, bit: self.clerk.seat.bit(), pick, eager_pick: pick };
        Sleeper { call: Call::Bed(bed), news, counts: &slot.counts, eager_after: None, slice: None }
    }

    /// Receives, asleep while there is nothing.
    fn wait_for(&mut self, pick: Pick) -> u64 {
        let (office, news) = (self.office.clone(), Arc::clone(&self.news));
        let sleeper = self.sleeper(&office, &news, office.receivers(), pick.encode());
        let mut slept = false;
        let held = sleeper.until(&mut at_once(), None, |why| {
            slept |= why != Look::Spinning;
            self.take(pick)
        });
        if slept {
            let (clerk, area) = (&mut self.clerk, &office.area);
            office.receivers().wake_each(|wanted| clerk.find(area, Pick::decode(wanted)).is_some());
        }
        self.release(held.unwrap())
    }

    /// Sends, asleep while there is no room.
    fn wait_to_send(&mut self, value: u64) {
        let (office, news) = (self.office.clone(), Arc::clone(&self.news));
        let sleeper = self.sleeper(&office, &news, office.senders(), 0);
        let sent = sleeper.until(&mut at_once(), None, |_| self.send(value).then_some(()));
        sent.unwrap();
    }
}

#[test]
fn one_of_two_receivers_gets_a_message_and_gets_it_whole() {
    explore(|| {
        let office = Office::new(1);
        let (mut sender, mut one, mut two) = (office.party(1), office.party(2), office.party(3));
        let sending = thread::spawn(move || assert!(sender.send(7)));
        let other = thread::spawn(move || two.receive(Pick::Any));
        let got = [one.receive(Pick::Any), other.join().unwrap()];
        sending.join().unwrap();
        let rest = one.receive(Pick::Any);
        let all: Vec<_> = got.into_iter().chain([rest]).flatten().collect();
        assert_eq!(all, [7]);
        assert_eq!(office.free_cells(), 2);
    });
}

#[test]
fn two_senders_send_at_once_and_each_ones_messages_come_in_order() {
    explore_large(|| {
        let office = Office::new(1);
        let (mut one, mut two, mut receiver) = (office.party(1), office.party(2), office.party(3));
        let sending = thread::spawn(move || (1..=2).take_while(|&value| one.send(value)).count() as u64);
        let other = thread::spawn(move || (11..=12).take_while(|&value| two.send(value)).count() as u64);
        let mut got: Vec<_> = receiver.receive(Pick::Any).into_iter().collect();
        let (first, second) = (sending.join().unwrap(), other.join().unwrap());
        got.extend(std::iter::from_fn(|| receiver.receive(Pick::Any)));
        let of = |low: u64| got.iter().copied().filter(|value| value / 10 == low).collect::<Vec<_>>();
        assert_eq!(of(0), (1..=first).collect::<Vec<_>>());
        assert_eq!(of(1), (11..11 + second).collect::<Vec<_>>());
        assert_eq!(got.len() as u64, first + second);
    });
}

#[test]
fn a_cell_that_is_used_again_is_not_taken_for_what_it_held_before() {
    explore(|| {
        let office = Office::new(1);
        let (mut sender, mut one, mut two) = (office.party(1), office.party(2), office.party(3));
        assert!(sender.send(1));
        let sending = thread::spawn(move || (2..=5).filter(|&value| sender.send(value)).collect::<Vec<_>>());
        let other = thread::spawn(move || two.receive(Pick::Any));
        let mut got: Vec<_> = one.receive(Pick::Any).into_iter().collect();
        got.extend(other.join().unwrap());
        let mut sent = sending.join().unwrap();
        got.extend(std::iter::from_fn(|| one.receive(Pick::Any)));
        sent.insert(0, 1);
        got.sort_unstable();
        assert_eq!(got, sent);
    });
}

#[test]
fn a_sender_that_is_killed_at_every_access_loses_nothing_of_another() {
    explore_every_kill(|accesses| {
        let office = Office::new(1);
        let (mut dying, mut other) = (office.party(1), office.party(2));
        let elsewhere = office.clone();
        let sending = thread::spawn(move || other.send(11));
        let killed = killed_at(accesses, || {
            dying.send(1);
        });
        let sent = sending.join().unwrap();
        elsewhere.bury(1);
        let got = elsewhere.drain(3);
        assert_eq!(got.contains(&11), sent);
        assert!(got.len() <= 2 && got.iter().all(|value| [1, 11].contains(value)), "{got:?}");
        assert!(killed || got.contains(&1) || !sent);
        assert_eq!(elsewhere.free_cells(), 2);
        killed
    });
}

#[test]
fn what_a_receiver_held_that_is_killed_at_every_access_comes_again_and_is_never_lost() {
    explore_every_kill(|accesses| {
        let office = Office::new(1);
        let (mut sender, mut dying) = (office.party(1), office.party(2));
        (1..=2).for_each(|value| assert!(sender.send(value)));
        let mut done = 0;
        let killed = killed_at(accesses, || {
            for expected in 1..=2 {
                let held = dying.take(Pick::Any).unwrap();
                assert_eq!(office.area.read_payload(held.cell), expected);
                // From here on it may count as done with.
                done = expected;
                mailbox::free(&office.area, held);
            }
        });
        // Two learn of the death at once.
        let other = office.clone();
        let burying = thread::spawn(move || other.bury(2));
        office.bury(2);
        burying.join().unwrap();
        let got = office.drain(3);
        let legal = [(done + 1..=2).collect::<Vec<_>>(), (done.max(1)..=2).collect()];
        assert!(legal.contains(&got), "{got:?} after {done}");
        assert_eq!(office.free_cells(), 2);
        killed
    });
}

#[test]
fn a_message_that_is_laid_aside_at_every_kill_is_found_and_stands_where_it_stood() {
    explore_every_kill(|accesses| {
        let office = Office::new(1);
        let (mut dying, mut receiver) = (office.party(1), office.party(2));
        assert!(dying.send(1));
        // An order of four: the fifth finds it full of what is stale, but for the first.
        let killed = killed_at(accesses, || {
            for value in 2..=6 {
                assert!(dying.send(value));
                assert_eq!(receiver.receive(Pick::Kind(value as u16)), Some(value));
            }
        });
        office.bury(1);
        office.bury(2);
        let got = office.drain(3);
        assert_eq!(got[0], 1);
        assert!(got.len() <= 2, "{got:?}");
        assert_eq!(office.free_cells(), 2);
        killed
    });
}

#[test]
fn a_message_that_is_laid_aside_while_another_looks_is_found() {
    explore(|| {
        let office = Office::new(1);
        let (mut sender, mut receiver, mut other) = (office.party(1), office.party(2), office.party(3));
        assert!(sender.send(1));
        for value in 2..=4 {
            assert!(sender.send(value));
            assert_eq!(receiver.receive(Pick::Kind(value as u16)), Some(value));
        }
        // Its order is full but for what is stale behind the first.
        let sending = thread::spawn(move || assert!(sender.send(5)));
        let first = other.receive(Pick::UpTo(1));
        sending.join().unwrap();
        assert_eq!(first, Some(1));
        assert_eq!(receiver.receive(Pick::Any), Some(5));
    });
}

#[test]
fn a_message_is_found_although_a_stream_writes_over_the_entries_before_it_meanwhile() {
    explore(|| {
        let office = Office::new(1);
        let (mut sender, mut receiver, mut other) = (office.party(1), office.party(2), office.party(3));
        assert!(sender.send(1) && sender.send(2));
        assert_eq!(receiver.receive(Pick::Any), Some(1));
        let stream = thread::spawn(move || {
            // The last one's entry takes the place of the first one's, of four.
            for value in 3..=5 {
                assert!(sender.send(value));
                assert_eq!(receiver.receive(Pick::Kind(value as u16)), Some(value));
            }
        });
        assert_eq!(other.receive(Pick::Kind(2)), Some(2));
        stream.join().unwrap();
    });
}

#[test]
fn a_message_that_is_laid_aside_while_another_deletes_it_is_deleted() {
    explore(|| {
        let office = Office::new(1);
        let (mut sender, mut receiver, other) = (office.party(1), office.party(2), office.party(3));
        let (cell, state) = sender.send_to_cell(1).unwrap();
        for value in 2..=4 {
            assert!(sender.send(value));
            assert_eq!(receiver.receive(Pick::Kind(value as u16)), Some(value));
        }
        // Its order is full but for what is stale behind the first.
        let sending = thread::spawn(move || assert!(sender.send(5)));
        let held = other.clerk.take_same(&office.area, cell, state);
        sending.join().unwrap();
        assert_eq!(held.map(|held| other.release(held)), Some(1));
        assert_eq!(receiver.receive(Pick::Any), Some(5));
    });
}

#[test]
fn a_message_given_back_beside_a_look_is_found_by_the_next() {
    explore(|| {
        let office = Office::new(1);
        let (mut sender, mut one, mut two) = (office.party(1), office.party(2), office.party(3));
        assert!(sender.send(1) && sender.send(2));
        let held = one.take(Pick::Any).unwrap();
        let other = office.clone();
        let giving = thread::spawn(move || mailbox::give_back(&other.area, held));
        let first = two.receive(Pick::Any).unwrap();
        giving.join().unwrap();
        let rest: Vec<_> = std::iter::from_fn(|| two.receive(Pick::Any)).collect();
        assert_eq!(rest, [3 - first]);
    });
}

/// The cell held a message of another kind before, and the one who looks knows already that something may lie aside.
#[test]
fn a_message_that_lies_aside_is_picked_by_its_own_kind() {
    explore(|| {
        let office = Office::new(1);
        let (mut sender, mut one, mut two) = (office.party(1), office.party(2), office.party(3));
        assert!(sender.send(1) && sender.send(2));
        let held = one.take(Pick::Kind(1)).unwrap();
        mailbox::give_back(&office.area, held);
        assert_eq!(two.receive(Pick::Kind(1)), Some(1));
        let giving = thread::spawn(move || {
            assert!(sender.send(3));
            let held = one.take(Pick::Kind(3)).unwrap();
            mailbox::give_back(&one.office.area, held);
        });
        assert_eq!(two.receive(Pick::Kind(1)), None);
        giving.join().unwrap();
        assert_eq!((two.receive(Pick::Kind(3)), two.receive(Pick::Any)), (Some(3), Some(2)));
    });
}

#[test]
fn what_is_laid_aside_while_another_finds_nothing_there_is_found_by_who_has_passed_its_entry() {
    explore(|| {
        let office = Office::new(1);
        let (mut sender, mut one, mut two) = (office.party(1), office.party(2), office.party(3));
        // It was laid aside, and is gone.
        assert!(sender.send(1));
        let held = one.take(Pick::Any).unwrap();
        mailbox::give_back(&office.area, held);
        assert_eq!(two.receive(Pick::Any), Some(1));
        assert!(sender.send(2));
        let laying = thread::spawn(move || {
            let held = one.take(Pick::Any).unwrap();
            assert_eq!(sender.receive(Pick::Any), None);
            mailbox::give_back(&one.office.area, held);
            sender
        });
        assert_eq!(two.receive(Pick::Kind(1)), None);
        assert_eq!(laying.join().unwrap().receive(Pick::Any), Some(2));
    });
}

#[test]
fn the_highest_priority_comes_first_and_in_that_the_oldest() {
    explore(|| {
        let office = Office::new(2);
        let (mut sender, mut receiver) = (office.party(1), office.party(2));
        assert!(sender.send_at(0, 1).is_some());
        let sending = thread::spawn(move || sender.send_at(1, 2));
        let first = receiver.receive(Pick::Any).unwrap();
        sending.join().unwrap().unwrap();
        assert_eq!(receiver.receive(Pick::Any), Some(3 - first));
    });
}

/// Both levels come to the same ticket in the same cell.
#[test]
fn a_message_is_not_taken_by_the_entry_of_another_priority() {
    explore(|| {
        let office = Office::new(2);
        let (mut sender, mut one, mut two) = (office.party(1), office.party(2), office.party(3));
        assert!(sender.send_at(1, 7).is_some() && sender.send_at(1, 9).is_some());
        assert_eq!(one.receive(Pick::Kind(7)), Some(7));
        let sending = thread::spawn(move || assert!(sender.send_at(0, 8).is_some()));
        assert_eq!(two.receive(Pick::Kind(7)), None);
        sending.join().unwrap();
        assert_eq!((two.receive(Pick::Kind(7)), two.receive(Pick::Kind(8))), (None, Some(8)));
        assert_eq!(one.receive(Pick::Any), Some(9));
    });
}

#[test]
fn a_receiver_that_sleeps_is_woken_by_its_message() {
    explore(|| {
        let office = Office::new(1);
        let (mut sender, mut receiver) = (office.party(1), office.party(2));
        let receiving = thread::spawn(move || receiver.wait_for(Pick::Kind(2)));
        assert!(sender.send(1) && sender.send(2));
        assert_eq!(receiving.join().unwrap(), 2);
    });
}

#[test]
fn two_receivers_that_sleep_get_a_message_each() {
    explore_large(|| {
        let office = Office::new(1);
        let (mut sender, mut one, mut two) = (office.party(1), office.party(2), office.party(3));
        let first = thread::spawn(move || one.wait_for(Pick::Any));
        let second = thread::spawn(move || two.wait_for(Pick::Any));
        assert!(sender.send(1) && sender.send(2));
        assert_eq!(first.join().unwrap() + second.join().unwrap(), 3);
    });
}

#[test]
fn a_message_wakes_the_one_that_wants_it() {
    explore(|| {
        let office = Office::new(1);
        let (mut sender, mut one, mut two) = (office.party(1), office.party(2), office.party(3));
        let first = thread::spawn(move || one.wait_for(Pick::Kind(1)));
        let second = thread::spawn(move || two.wait_for(Pick::Kind(2)));
        assert!(sender.send(2));
        assert_eq!(second.join().unwrap(), 2);
        assert!(sender.send(1));
        assert_eq!(first.join().unwrap(), 1);
    });
}

/// One takes any, another only the second: woken for the first, it may find that the other has it already.
#[test]
fn who_takes_another_message_than_it_was_woken_for_wakes_who_wants_that() {
    explore(|| {
        let office = Office::new(2);
        let (mut sender, mut any, mut picky) = (office.party(1), office.party(2), office.party(3));
        let first = thread::spawn(move || any.wait_for(Pick::Any));
        let second = thread::spawn(move || picky.wait_for(Pick::Kind(1)));
        assert!(sender.send_at(0, 1).is_some() && sender.send_at(1, 2).is_some());
        let got = sender.office.clone();
        match first.join().unwrap() {
            2 => assert_eq!(second.join().unwrap(), 1),
            taken => {
                // The one that the second waits for is gone: it gets the next.
                assert_eq!((taken, got.drain_level()), (1, vec![2]));
                assert!(sender.send(1));
                assert_eq!(second.join().unwrap(), 1);
            }
        }
    });
}

impl Office {
    /// The values of what can be taken, left where they are.
    fn drain_level(&self) -> Vec<u64> {
        let ready = self.area.cells().filter(|&cell| self.area.state(cell).phase() == Phase::Ready);
        ready.map(|cell| u64::from(self.area.label(cell).kind)).collect()
    }
}

#[test]
fn a_waker_that_is_killed_at_every_access_leaves_its_wake_to_the_next() {
    explore_every_kill(|accesses| {
        let office = Office::new(1);
        let (mut dying, mut sender, mut receiver) = (office.party(1), office.party(2), office.party(3));
        let receiving = thread::spawn(move || receiver.wait_for(Pick::Any));
        let killed = killed_at(accesses, || assert!(dying.send(1)));
        assert!(sender.send(2));
        assert!([1, 2].contains(&receiving.join().unwrap()));
        killed
    });
}

#[test]
fn a_sender_that_sleeps_is_woken_by_room() {
    explore(|| {
        let office = Office::new(1);
        let (mut sender, mut receiver) = (office.party(1), office.party(2));
        assert!(sender.send(1) && sender.send(2));
        let sending = thread::spawn(move || sender.wait_to_send(3));
        assert_eq!(receiver.receive(Pick::Any), Some(1));
        sending.join().unwrap();
        assert_eq!((receiver.receive(Pick::Any), receiver.receive(Pick::Any)), (Some(2), Some(3)));
    });
}

#[test]
fn the_death_of_a_holder_wakes_who_sleeps_for_what_it_held() {
    explore_every_kill(|accesses| {
        let office = Office::new(1);
        let (mut sender, mut dying, mut receiver) = (office.party(1), office.party(2), office.party(3));
        assert!(sender.send(1));
        let (news, other) = (Arc::clone(&receiver.news), office.clone());
        let held = dying.take(Pick::Any).unwrap();
        let receiving = thread::spawn(move || {
            let (office, own) = (receiver.office.clone(), Arc::clone(&receiver.news));
            let sleeper = receiver.sleeper(&office, &own, office.receivers(), 0);
            let held = sleeper.until(&mut at_once(), None, |_| {
                office.bury_if_dead(2);
                receiver.take(Pick::Any)
            });
            receiver.release(held.unwrap())
        });
        let killed = killed_at(accesses, || mailbox::give_back(&other.area, held));
        other.die(2);
        news.tell();
        crate::sys::futex::wake_while(&office.memory.slot(3).unwrap().bed, move || news.unheard());
        assert_eq!(receiving.join().unwrap(), 1);
        killed
    });
}

impl Office {
    /// In the models the alarm of a seat says that its holder is dead.
    fn die(&self, number: u8) {
        let alarm = &self.memory.slot(number).unwrap().alarm.0;
        alarm.store(1, core::sync::atomic::Ordering::SeqCst);
    }

    fn bury_if_dead(&self, number: u8) {
        if self.memory.slot(number).unwrap().alarm.0.load(core::sync::atomic::Ordering::SeqCst) != 0 {
            self.bury(number);
        }
    }
}
