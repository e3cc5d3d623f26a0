//! Goal: who holds a place, when several want it at once, and what the next one sees of the last one.
//!
//! Legal outcomes: a place has one holder at a time; the next holder goes on exactly where the last one stopped; while a
//! message is in the ring, its slot names its true sender.

use crate::{
    explore::explore,
    harness::*,
    ring::claim::{self, Claim},
};
use loom::thread;

#[test]
fn one_of_two_gets_the_only_slot() {
    explore(|| {
        let ring = Ring::single();
        let rival = ring.clone();
        let other = thread::spawn(move || rival.sender(process(1)).is_ok());
        let mine = ring.sender(process(2)).is_ok();
        assert!(mine ^ other.join().unwrap());
    });
}

#[test]
fn two_get_two_slots() {
    explore(|| {
        let ring = Ring::many(2);
        let rival = ring.clone();
        let other = thread::spawn(move || rival.multi_sender(process(1)).unwrap().slot());
        let mine = ring.multi_sender(process(2)).unwrap().slot();
        assert_eq!(mine + other.join().unwrap(), 1 + 2);
    });
}

#[test]
fn one_of_two_becomes_the_receiver() {
    explore(|| {
        let ring = Ring::many(1);
        let rival = ring.clone();
        let other = thread::spawn(move || rival.receiver(process(1)).is_ok());
        let mine = ring.receiver(process(2)).is_ok();
        assert!(mine ^ other.join().unwrap());
    });
}

#[test]
fn one_of_two_inherits_from_the_dead() {
    explore(|| {
        let ring = Ring::many(1);
        ring.multi_sender(process(1)).unwrap();
        let (undertaker, rival) = (ring.clone(), ring.clone());
        let death = thread::spawn(move || undertaker.bury_quietly(process(1)));
        let other = thread::spawn(move || rival.multi_sender(process(2)).is_ok());
        let mine = ring.multi_sender(process(3)).is_ok();
        let others = other.join().unwrap();
        assert!(!(mine && others));
        death.join().unwrap();
    });
}

#[test]
fn a_successor_sees_all_that_the_closed_sender_sent() {
    explore(|| {
        let ring = Ring::single().asymmetric();
        let mut first = ring.sender(process(1)).unwrap();
        // Bare: no fence stands between its commit and its claim.
        first.calm();
        let last = thread::spawn(move || {
            first.try_send(SHORT, 1).unwrap();
            first.close();
        });
        let next = ring.sender(process(2)).map(|mut second| second.try_send(SHORT, 2).unwrap());
        last.join().unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        assert_eq!(receiver.try_receive().unwrap().value, 1);
        assert_eq!(receiver.try_receive().is_ok(), next.is_ok());
    });
}

#[test]
fn two_threads_of_one_process_never_overwrite_each_other_in_one_slot() {
    explore(|| {
        let ring = Ring::single();
        ring.sender(process(1)).unwrap().close();
        let once = |ring: Ring, value| {
            let Ok(mut sender) = ring.sender(process(1)) else { return false };
            sender.try_send(SHORT, value).unwrap();
            sender.close();
            true
        };
        let rival = ring.clone();
        let other = thread::spawn(move || once(rival, 1));
        let sent = [once(ring.clone(), 2), other.join().unwrap()];
        let mut receiver = ring.receiver(process(3)).unwrap();
        for _ in sent.into_iter().filter(|sent| *sent) {
            receiver.try_receive().expect("no message was written over");
        }
    });
}

#[test]
fn a_new_receiver_goes_on_where_the_closed_one_stopped() {
    explore(|| {
        let ring = Ring::single().asymmetric();
        let mut sender = ring.sender(process(1)).unwrap();
        sender.try_send(SHORT, 1).unwrap();
        sender.try_send(SHORT, 2).unwrap();
        let mut first = ring.receiver(process(2)).unwrap();
        first.calm();
        let last = thread::spawn(move || {
            assert_eq!(first.try_receive().unwrap().value, 1);
            first.close();
        });
        if let Ok(mut second) = ring.receiver(process(3)) {
            assert_eq!(second.try_receive().unwrap().value, 2);
        }
        last.join().unwrap();
    });
}

#[test]
fn a_slot_is_not_taken_while_a_message_of_its_last_owner_is_in_the_ring() {
    explore(|| {
        let ring = Ring::many(1).asymmetric();
        let mut receiver = ring.receiver(process(3)).unwrap();
        let mut first = ring.multi_sender(process(1)).unwrap();
        // Bare: no fence stands between its intent, its commit and its claim.
        first.calm();
        let heir = ring.clone();
        let next = thread::spawn(move || {
            let attached = heir.multi_sender(process(2));
            attached.map(|mut second| second.try_send(SHORT, 2).unwrap()).is_ok()
        });
        first.try_send(SHORT, 1).unwrap();
        first.close();
        let mut received = Vec::new();
        let mut receive = |receiver: &mut Receiver| {
            while let Ok(record) = receiver.peek() {
                let Message { value, slot } = receiver.read(record);
                let named = claim::read(&ring.memory.slot(slot).unwrap().claim);
                assert_eq!(named.owner(), Some(process(value as u32)), "while its message is there");
                received.push(value);
                receiver.release(record.end);
            }
        };
        receive(&mut receiver);
        let attached = next.join().unwrap();
        receive(&mut receiver);
        assert_eq!(received, if attached { &[1, 2][..] } else { &[1] });
    });
}

#[test]
fn a_slot_whose_owner_died_with_a_reservation_is_not_taken_before_that_is_passed_over() {
    explore(|| {
        let ring = Ring::many(1);
        let mut receiver = ring.receiver(process(3)).unwrap();
        let mut first = ring.multi_sender(process(1)).unwrap();
        first.try_reserve(SHORT).unwrap();
        ring.bury_quietly(process(1));
        let heir = ring.clone();
        let next = thread::spawn(move || match heir.multi_sender(process(2)) {
            Ok(mut second) => {
                assert_eq!(heir.memory.head().units(), 3, "passed over before");
                second.try_send(SHORT, 2).unwrap();
            }
            Err(refused) => assert_eq!(refused, Refused::NotSpent),
        });
        receiver.resolve();
        next.join().unwrap();
    });
}

#[test]
fn a_slot_whose_owner_never_sent_is_taken_at_once() {
    explore(|| {
        let ring = Ring::many(2);
        ring.multi_sender(process(1)).unwrap().close();
        let mut other = ring.multi_sender(process(2)).unwrap();
        assert_eq!(claim::read(&ring.memory.slot(1).unwrap().claim), Claim::Attached(process(2)));
        let heir = ring.clone();
        let next = thread::spawn(move || heir.multi_sender(process(3)).is_ok());
        other.try_send(SHORT, 1).unwrap();
        assert!(next.join().unwrap());
    });
}

#[test]
fn racing_heirs_of_a_closed_slot_send_under_one_name_each() {
    explore(|| {
        let ring = Ring::many(2);
        ring.multi_sender(process(1)).unwrap().close();
        let send = |ring: Ring, number: u32| {
            let mut sender = ring.multi_sender(process(number)).unwrap();
            sender.try_send(SHORT, number as u64).unwrap();
        };
        let rival = ring.clone();
        let other = thread::spawn(move || send(rival, 2));
        send(ring.clone(), 3);
        other.join().unwrap();
        let mut receiver = ring.receiver(process(4)).unwrap();
        for _ in 0..2 {
            let Message { value, slot } = receiver.try_receive().unwrap();
            let named = claim::read(&ring.memory.slot(slot).unwrap().claim);
            assert_eq!(named, Claim::Attached(process(value as u32)));
        }
    });
}
