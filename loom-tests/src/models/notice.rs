//! Goal: who is registered at a mailbox is told of the first message that comes while it is empty.
//!
//! Legal outcomes: nobody is told as long as there always was a message; and everybody who was registered while it was empty is told of
//! the next one, or of one that came beside.

use super::mailbox::{Office, Party};
use crate::{
    explore::{explore, explore_every_kill},
    mortal::killed_at,
    ring::mailbox::{
        self, Pick,
        notice::{self, There},
    },
};
use loom::thread;

/// A message of each kind, which is its value.
const OLD: u64 = 1;
const NEW: u64 = 2;
const LAST: u64 = 3;

/// As `src/channel/mailbox/desk.rs` does it; nobody is blocked in receive.
impl Party {
    fn register(&self) {
        notice::register(&self.office.area, self.clerk.seat);
        self.look_whether_empty();
    }

    fn look_whether_empty(&self) {
        if let Some(message) = notice::arm(&self.office.area) {
            notice::tell(&self.office.area, message, false);
        }
    }

    fn is_told(&self) -> bool {
        notice::is_over(&self.office.area, self.clerk.seat)
    }

    fn say(&mut self, value: u64) {
        let (cell, state) = self.send_to_cell(value).unwrap();
        if notice::is_anybody_registered(&self.office.area) {
            notice::tell(&self.office.area, There { cell, state }, false);
        }
    }

    fn hear(&mut self, value: u64) {
        assert_eq!(self.receive(Pick::Kind(value as u16)), Some(value));
        if notice::is_anybody_registered(&self.office.area) {
            self.look_whether_empty();
        }
    }

    /// What is left is received, and then another comes: the one that is registered is told by then.
    fn end(&mut self, told: &Self, rest: &[u64]) {
        rest.iter().for_each(|&value| self.hear(value));
        self.say(LAST);
        assert!(told.is_told());
    }
}

fn parties() -> [Party; 3] {
    let office = Office::new(1);
    [1, 2, 3].map(|number| office.party(number))
}

#[test]
fn who_registers_while_the_last_message_goes_is_told_of_the_next() {
    explore(|| {
        let [told, mut one, _] = parties();
        one.say(OLD);
        let receiving = thread::spawn(move || {
            one.hear(OLD);
            one
        });
        told.register();
        let mut one = receiving.join().unwrap();
        assert!(!told.is_told());
        one.end(&told, &[]);
    });
}

#[test]
fn a_message_that_comes_while_the_last_one_goes_is_told_of_or_the_next_is() {
    explore(|| {
        let [told, mut one, mut two] = parties();
        one.say(OLD);
        told.register();
        let receiving = thread::spawn(move || one.hear(OLD));
        two.say(NEW);
        receiving.join().unwrap();
        if !told.is_told() {
            // It came before the last one had gone: the mailbox was not empty, and is not.
            two.say(OLD);
            assert!(!told.is_told());
            two.end(&told, &[NEW, OLD]);
        }
    });
}

#[test]
fn nobody_is_told_while_there_always_was_a_message() {
    explore(|| {
        let [told, mut one, mut two] = parties();
        // In the last cell, so that the next message is in the first.
        one.say(LAST);
        one.say(OLD);
        one.hear(LAST);
        let registering = thread::spawn(move || {
            told.register();
            told
        });
        one.say(NEW);
        one.hear(OLD);
        let told = registering.join().unwrap();
        assert!(!told.is_told());
        two.say(OLD);
        assert!(!told.is_told(), "nor was it taken for empty");
        two.hear(OLD);
        two.end(&told, &[NEW]);
    });
}

#[test]
fn of_two_messages_that_come_at_once_to_the_empty_mailbox_one_is_told_of() {
    explore(|| {
        let [told, mut one, mut two] = parties();
        told.register();
        let sending = thread::spawn(move || one.say(OLD));
        two.say(NEW);
        sending.join().unwrap();
        assert!(told.is_told());
    });
}

#[test]
fn a_message_that_comes_while_one_registers_at_the_empty_mailbox_or_the_next_is_told_of() {
    explore(|| {
        let [told, mut one, _] = parties();
        let sending = thread::spawn(move || {
            one.say(OLD);
            one
        });
        told.register();
        let mut one = sending.join().unwrap();
        one.end(&told, &[OLD]);
    });
}

/// Who sends goes on while what it has sent is received: its late look tells nobody of what came before.
#[test]
fn a_late_look_of_a_sender_tells_of_nothing_that_has_gone_before_the_registration() {
    explore(|| {
        let [told, mut one, mut two] = parties();
        let sending = thread::spawn(move || one.say(OLD));
        if two.receive(Pick::Any).is_some() {
            told.register();
            sending.join().unwrap();
            assert!(!told.is_told());
        } else {
            sending.join().unwrap();
        }
    });
}

#[test]
fn a_late_look_of_a_sender_tells_of_nothing_that_has_gone_before_the_mailbox_was_empty() {
    explore(|| {
        let [told, mut one, mut two] = parties();
        two.say(OLD);
        told.register();
        let sending = thread::spawn(move || one.say(NEW));
        let received = two.receive(Pick::Kind(NEW as u16)).is_some();
        if received {
            two.hear(OLD);
        }
        sending.join().unwrap();
        assert!(!told.is_told());
    });
}

#[test]
fn the_message_of_a_sender_that_is_killed_at_every_access_is_told_of_by_who_buries_it() {
    explore_every_kill(|accesses| {
        let [told, mut dying, mut other] = parties();
        told.register();
        let office = told.office.clone();
        let killed = killed_at(accesses, || dying.say(OLD));
        office.bury(2);
        if let Some(message) = notice::first_for_the_armed(&office.area) {
            notice::tell(&office.area, message, false);
        }
        let got = other.receive(Pick::Any);
        assert_eq!(told.is_told(), got.is_some());
        killed
    });
}

#[test]
fn a_receiver_that_is_killed_at_every_access_keeps_nobody_from_being_told_of_the_next() {
    explore_every_kill(|accesses| {
        let [told, mut dying, mut other] = parties();
        dying.say(OLD);
        told.register();
        let office = told.office.clone();
        let killed = killed_at(accesses, || dying.hear(OLD));
        office.bury(2);
        let again = other.receive(Pick::Any).is_some();
        assert!(again || !told.is_told());
        // As who buries does, and who receives.
        other.look_whether_empty();
        other.end(&told, &[]);
        killed
    });
}

/// Whoever buries the dead one late takes nothing from who has its seat since.
#[test]
fn who_takes_the_seat_of_one_that_died_registered_is_told_although_that_one_is_buried_by_two() {
    explore(|| {
        let [dead, mut one, _] = parties();
        dead.register();
        let office = dead.office.clone();
        let other = office.clone();
        let seen = office.seen(1);
        let burying = thread::spawn(move || other.bury_as(1, seen));
        office.bury_as(1, seen);
        assert!(dead.is_told(), "its registration is over");
        let told = office.party(1);
        mailbox::get_up(&office.area, told.clerk.seat);
        told.register();
        burying.join().unwrap();
        assert!(!told.is_told());
        one.end(&told, &[]);
    });
}
