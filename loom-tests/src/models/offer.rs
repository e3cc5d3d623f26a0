//! Goal: who waits until its message was taken is woken when it was; and what is on offer is received, or taken back, never
//! both.
//!
//! Legal outcomes: a wait ends as soon as the message was released, however full the ring stays, or its receiver has gone. Of
//! a withdrawal and a receiver that looks, one wins; the message is whole for whoever receives it, also for a successor of who
//! had accepted it.

use crate::{
    explore::{explore, explore_every_kill},
    harness::*,
    mortal::killed_at,
    ring::offer,
};
use loom::thread;

/// Fills the ring; gives the end of the first message, which takes a quarter of it.
fn fill<P: crate::ring::reserve::Produce>(sender: &mut Sender<P>) -> crate::ring::position::Position {
    let first = sender.try_reserve(0).unwrap();
    let end = first.end();
    sender.commit(first, 0, 0);
    (1..=2).for_each(|value| sender.try_send(SHORT, value).unwrap());
    end
}

#[test]
fn a_release_wakes_who_waits_until_its_message_was_taken() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        let end = fill(&mut sender);
        let waiting = thread::spawn(move || sender.wait_until_taken(end));
        assert_eq!(receiver.try_receive().unwrap().value, 0);
        assert_eq!(waiting.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_release_of_a_bare_receiver_wakes_who_waits_until_its_message_was_taken() {
    explore(|| {
        let ring = Ring::many(1).asymmetric();
        let mut sender = ring.multi_sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        receiver.calm();
        let end = fill(&mut sender);
        let waiting = thread::spawn(move || sender.wait_until_taken(end));
        assert_eq!(receiver.try_receive().unwrap().value, 0);
        assert_eq!(waiting.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_release_wakes_both_who_wait_for_room_and_who_wait_until_theirs_was_taken() {
    explore(|| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        let end = fill(&mut one);
        let waiting = thread::spawn(move || one.wait_until_taken(end));
        let sending = thread::spawn(move || two.send(0, 4));
        for value in 0..=2 {
            assert_eq!(receiver.try_receive().unwrap().value, value);
        }
        assert_eq!((waiting.join().unwrap(), sending.join().unwrap()), (Ok(()), Ok(())));
    });
}

#[test]
fn the_end_of_the_receiver_ends_the_wait_unless_it_had_taken_the_message() {
    explore_every_kill(|accesses| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        let end = fill(&mut sender);
        let theirs = ring.clone();
        let receiving = thread::spawn(move || {
            let killed = killed_at(accesses, || _ = receiver.try_receive());
            theirs.bury_receiver(process(3));
            killed
        });
        let outcome = sender.wait_until_taken(end);
        let killed = receiving.join().unwrap();
        let taken = ring.memory.head().has_reached(end);
        assert_eq!(outcome, if taken { Ok(()) } else { Err(NotSent::PeerDied(3)) });
        killed
    });
}

#[test]
fn what_is_on_offer_is_received_or_taken_back() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        receiver.consumer.accept_offers();
        let receiving = thread::spawn(move || {
            let received = receiver.try_receive().ok().map(|message| message.value);
            (received, receiver)
        });
        let reserved = sender.try_reserve(HALF).unwrap();
        let end = sender.offer(reserved, HALF, 7);
        let withdrawn = offer::withdraw(&ring.memory, reserved.start);
        let (received, mut receiver) = receiving.join().unwrap();
        let (then, seen) = (receiver.try_receive().ok().map(|message| message.value), received.is_some());
        assert_eq!(received.or(then), (!withdrawn).then_some(7), "received at once: {seen}");
        assert!(received.is_none() || then.is_none(), "once");
        assert!(ring.memory.head().has_reached(end), "it is passed over when it was taken back");
    });
}

#[test]
fn a_receiver_that_is_killed_at_every_access_leaves_what_it_had_accepted_to_its_successor() {
    explore_every_kill(|accesses| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        receiver.consumer.accept_offers();
        let reserved = sender.try_reserve(HALF).unwrap();
        let end = sender.offer(reserved, HALF, 7);
        let theirs = ring.clone();
        let receiving = thread::spawn(move || {
            let killed = killed_at(accesses, || _ = receiver.peek());
            theirs.bury_quietly(process(3));
            killed
        });
        let withdrawn = offer::withdraw(&ring.memory, reserved.start);
        let killed = receiving.join().unwrap();
        let mut successor = ring.receiver(process(4)).unwrap();
        successor.consumer.accept_offers();
        let received = successor.try_receive().ok().map(|message| message.value);
        assert_eq!(received, (!withdrawn).then_some(7));
        assert!(ring.memory.head().has_reached(end));
        killed
    });
}

#[test]
fn the_successor_of_who_had_offered_goes_on_behind_it() {
    for withdraw in [false, true] {
        explore(move || {
            let ring = Ring::single();
            let mut sender = ring.sender(process(1)).unwrap();
            let mut receiver = ring.receiver(process(3)).unwrap();
            receiver.consumer.accept_offers();
            let reserved = sender.try_reserve(SHORT).unwrap();
            sender.offer(reserved, SHORT, 7);
            if withdraw {
                assert!(offer::withdraw(&ring.memory, reserved.start));
            }
            sender.close();
            let theirs = ring.clone();
            let sending =
                thread::spawn(move || theirs.sender(process(2)).unwrap().try_send(SHORT, 8).unwrap());
            let mut received: Vec<_> = receiver.try_receive().ok().into_iter().collect();
            sending.join().unwrap();
            received.extend(std::iter::from_fn(|| receiver.try_receive().ok()));
            let values: Vec<_> = received.iter().map(|message| message.value).collect();
            assert_eq!(values, if withdraw { vec![8] } else { vec![7, 8] });
        });
    }
}
