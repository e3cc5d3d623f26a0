//! Goal: a sender of several stops for good at any access to the ring; the receiver finds out whose the unfinished record
//! is, and passes over it when its owner is dead by proof.
//!
//! Legal outcomes: what was committed is received, in order, once; exactly what the dead had reserved and not committed
//! is passed over; the reservation of a sender that lives is never passed over; one call of `resolve` ends it when the
//! owner was dead before and nothing moves.

use crate::{
    explore::{explore, explore_every_kill},
    harness::*,
    mortal::killed_at,
    ring::recovery::Pending,
    sys::clock,
};
use loom::thread;

/// Receives and passes over until nothing is reserved any more.
fn drain(receiver: &mut Receiver) -> Vec<u64> {
    let mut received = Vec::new();
    loop {
        received.extend(std::iter::from_fn(|| receiver.try_receive().ok()).map(|message| message.value));
        match receiver.resolve() {
            Pending::Empty => return received,
            Pending::PassedOver { .. } => {}
            // Committed between the last look and this one.
            Pending::LookAgain if receiver.sees_a_message() => {}
            stuck => panic!("{stuck:?} after {received:?}"),
        }
    }
}

/// `received` in order without the ones that a kill may have prevented.
fn assert_all_but(received: &[u64], prevented: &[u64], all: &[&[u64]]) {
    let without = |value: &&u64| !prevented.contains(value) || received.contains(value);
    let legal = all.iter().any(|order| order.iter().filter(without).eq(received));
    assert!(legal, "{received:?}");
}

#[test]
fn a_kill_at_every_access_loses_nothing_of_another_sender() {
    explore_every_kill(|accesses| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        let undertaker = ring.clone();
        let dying = thread::spawn(move || {
            let killed = killed_at(accesses, || one.try_send(SHORT, 1).unwrap());
            undertaker.bury_quietly(process(1));
            killed
        });
        two.try_send(SHORT, 2).unwrap();
        let killed = dying.join().unwrap();
        assert_all_but(&drain(&mut receiver), &[1], &[&[1, 2], &[2, 1]]);
        killed
    });
}

#[test]
fn a_kill_at_every_access_of_a_batch_shows_it_whole_or_not_at_all() {
    explore_every_kill(|accesses| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        let undertaker = ring.clone();
        let dying = thread::spawn(move || {
            let killed = killed_at(accesses, || one.batch(3 * HEADER, &[1, 2]).unwrap());
            undertaker.bury_quietly(process(1));
            killed
        });
        two.try_send(0, 3).unwrap();
        let killed = dying.join().unwrap();
        let received = drain(&mut receiver);
        let legal: [&[u64]; 3] = [&[3], &[1, 2, 3], &[3, 1, 2]];
        assert!(legal.contains(&&received[..]), "{received:?}");
        killed
    });
}

#[test]
fn the_receiver_recovers_while_the_sender_is_killed_at_every_access() {
    explore_every_kill(|accesses| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        let undertaker = ring.clone();
        let dying = thread::spawn(move || {
            let killed = killed_at(accesses, || one.try_send(SHORT, 1).unwrap());
            undertaker.bury_quietly(process(1));
            two.try_send(SHORT, 2).unwrap();
            killed
        });
        let mut received = Vec::new();
        for _ in 0..2 {
            received.extend(receiver.try_receive().map(|message| message.value));
            receiver.resolve();
        }
        let killed = dying.join().unwrap();
        received.extend(drain(&mut receiver));
        assert_all_but(&received, &[1], &[&[1, 2]]);
        killed
    });
}

#[test]
fn two_that_are_killed_at_the_same_access_are_both_passed_over() {
    explore_every_kill(|accesses| {
        let ring = Ring::many(2);
        let mut receiver = ring.receiver(process(3)).unwrap();
        let dying = [1, 2].map(|number| {
            let mut sender = ring.multi_sender(process(number)).unwrap();
            let undertaker = ring.clone();
            thread::spawn(move || {
                let killed = killed_at(accesses, || sender.try_send(SHORT, number as u64).unwrap());
                undertaker.bury_quietly(process(number));
                killed
            })
        });
        let killed = dying.map(|thread| thread.join().unwrap());
        assert_all_but(&drain(&mut receiver), &[1, 2], &[&[1, 2], &[2, 1]]);
        killed[0] || killed[1]
    });
}

#[test]
fn a_dead_one_behind_a_dead_one_is_passed_over_as_well() {
    explore_every_kill(|accesses| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        one.try_reserve(SHORT).unwrap();
        ring.bury_quietly(process(1));
        let undertaker = ring.clone();
        let dying = thread::spawn(move || {
            let killed = killed_at(accesses, || two.try_send(SHORT, 2).unwrap());
            undertaker.bury_quietly(process(2));
            killed
        });
        while let Pending::PassedOver { .. } = receiver.resolve() {}
        let mut received: Vec<u64> =
            receiver.try_receive().map(|message| message.value).into_iter().collect();
        let killed = dying.join().unwrap();
        received.extend(drain(&mut receiver));
        assert_all_but(&received, &[2], &[&[2]]);
        killed
    });
}

#[test]
fn a_kill_at_every_access_on_the_second_lap_is_passed_over() {
    explore_every_kill(|accesses| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(4)).unwrap();
        one.try_send(HALF, 1).unwrap();
        two.try_send(HALF, 2).unwrap();
        let undertaker = ring.clone();
        let dying = thread::spawn(move || {
            let mut sent = false;
            let killed = killed_at(accesses, || sent = one.try_send(HALF, 3).is_ok());
            undertaker.bury_quietly(process(1));
            (killed, sent)
        });
        let mut received: Vec<u64> =
            receiver.try_receive().map(|message| message.value).into_iter().collect();
        let (killed, sent) = dying.join().unwrap();
        received.extend(drain(&mut receiver));
        assert!(received == [1, 2] && !sent || received == [1, 2, 3], "{received:?}");
        killed
    });
}

#[test]
fn a_sender_that_lives_is_never_passed_over() {
    explore(|| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        let reserved = one.try_reserve(SHORT).unwrap();
        // It dies, and it may have had the same tail in mind.
        let undertaker = ring.clone();
        let behind = thread::spawn(move || {
            two.try_send(SHORT, 2).unwrap();
            undertaker.bury_quietly(process(2));
        });
        let pending = receiver.resolve();
        assert!(matches!(pending, Pending::Unfinished { .. }), "{pending:?}");
        one.commit(reserved, SHORT, 1);
        behind.join().unwrap();
        assert_eq!(drain(&mut receiver), [1, 2]);
    });
}

#[test]
fn a_successor_in_the_slot_of_a_dead_one_is_never_passed_over() {
    explore(|| {
        let ring = Ring::many(1);
        ring.multi_sender(process(1)).unwrap();
        ring.bury_quietly(process(1));
        let mut receiver = ring.receiver(process(3)).unwrap();
        let heir = ring.clone();
        let sending = thread::spawn(move || {
            let mut second = heir.multi_sender(process(2)).unwrap();
            let reserved = second.try_reserve(SHORT).unwrap();
            (second, reserved)
        });
        let pending = receiver.resolve();
        assert!(!matches!(pending, Pending::PassedOver { .. }), "{pending:?}");
        let (mut second, reserved) = sending.join().unwrap();
        second.commit(reserved, SHORT, 2);
        assert_eq!(drain(&mut receiver), [2]);
    });
}

#[test]
fn a_dead_sender_that_lost_the_race_for_the_tail_owns_nothing() {
    explore_every_kill(|accesses| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        let undertaker = ring.clone();
        let dying = thread::spawn(move || {
            let killed = killed_at(accesses, || _ = one.try_reserve(SHORT).unwrap());
            undertaker.bury_quietly(process(1));
            killed
        });
        let reserved = two.try_reserve(SHORT).unwrap();
        let passed_over = receiver.resolve();
        let first = reserved.start.units() == 0;
        assert!(!first || !matches!(passed_over, Pending::PassedOver { .. }), "{passed_over:?}");
        two.commit(reserved, SHORT, 2);
        let killed = dying.join().unwrap();
        let last = [passed_over].into_iter().chain(std::iter::repeat_with(|| receiver.resolve()));
        let _ = last.take_while(|pending| matches!(pending, Pending::PassedOver { .. })).count();
        assert_eq!(drain(&mut receiver), [2]);
        killed
    });
}

#[test]
fn a_tail_behind_the_head_names_who_is_there() {
    explore(|| {
        let ring = Ring::many(1);
        let mut one = ring.multi_sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        let sending = thread::spawn(move || _ = one.try_reserve(SHORT).unwrap());
        let pending = receiver.resolve();
        assert!([Pending::Empty, Pending::Unfinished { slot: 1 }].contains(&pending), "{pending:?}");
        sending.join().unwrap();
    });
}

#[test]
fn a_dead_owner_is_known_by_who_reserves_behind_it() {
    explore(|| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        one.try_reserve(SHORT).unwrap();
        ring.bury_quietly(process(1));
        let sending = thread::spawn(move || _ = two.try_reserve(SHORT).unwrap());
        assert_eq!(receiver.resolve(), Pending::PassedOver { slot: 1, units: 3 });
        sending.join().unwrap();
    });
}

#[test]
fn a_dead_owner_is_known_by_the_record_behind_it() {
    explore(|| {
        let ring = Ring::many(2).asymmetric();
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        one.try_reserve(0).unwrap();
        ring.bury_quietly(process(1));
        // Bare: no fence stands between its commit and its next intent.
        two.calm();
        let sending = thread::spawn(move || {
            two.try_send(0, 2).unwrap();
            two.try_reserve(0).unwrap();
        });
        assert_eq!(receiver.resolve(), Pending::PassedOver { slot: 1, units: HEADER });
        sending.join().unwrap();
    });
}

#[test]
fn what_the_dead_had_committed_is_delivered() {
    explore(|| {
        let ring = Ring::many(1);
        let mut one = ring.multi_sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        let undertaker = ring.clone();
        let dying = thread::spawn(move || {
            one.try_send(SHORT, 1).unwrap();
            undertaker.bury_quietly(process(1));
        });
        let pending = receiver.resolve();
        assert!(!matches!(pending, Pending::PassedOver { .. }), "{pending:?}");
        dying.join().unwrap();
        assert_eq!(drain(&mut receiver), [1]);
    });
}

#[test]
fn a_recovery_that_is_killed_at_every_access_is_done_again() {
    explore_every_kill(|accesses| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut first = ring.receiver(process(3)).unwrap();
        one.try_reserve(SHORT).unwrap();
        ring.bury_quietly(process(1));
        let undertaker = ring.clone();
        let recovering = thread::spawn(move || {
            let killed = killed_at(accesses, || {
                first.resolve();
                first.resolve();
            });
            undertaker.bury_quietly(process(3));
            killed
        });
        two.try_send(SHORT, 2).unwrap();
        let killed = recovering.join().unwrap();
        let mut second = ring.receiver(process(4)).unwrap();
        assert_eq!(drain(&mut second), [2]);
        killed
    });
}

#[test]
fn a_sleeping_receiver_learns_of_the_death_of_the_only_sender_at_every_access() {
    explore_every_kill(|accesses| {
        let ring = Ring::single();
        let mut one = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        clock::start();
        let undertaker = ring.clone();
        let dying = thread::spawn(move || {
            let killed = killed_at(accesses, || one.try_send(SHORT, 1).unwrap());
            undertaker.bury_sender(process(1));
            killed
        });
        match receiver.receive() {
            Ok(message) => {
                assert_eq!(message.value, 1);
                assert_eq!(receiver.receive(), Err(End::PeerDied(1)));
            }
            Err(end) => assert_eq!(end, End::PeerDied(1)),
        }
        dying.join().unwrap()
    });
}

#[test]
fn a_sleeping_receiver_gets_the_message_behind_a_dead_one() {
    explore(|| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        one.try_reserve(SHORT).unwrap();
        two.try_send(SHORT, 2).unwrap();
        clock::start();
        let undertaker = ring.clone();
        let dying = thread::spawn(move || undertaker.bury_sender(process(1)));
        assert_eq!(receiver.receive().unwrap().value, 2);
        dying.join().unwrap();
    });
}

#[test]
fn a_sleeping_sender_gets_the_room_of_a_dead_one() {
    explore(|| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        one.try_reserve_units(CAPACITY).unwrap();
        let sending = thread::spawn(move || two.send(HALF, 2).unwrap());
        let undertaker = ring.clone();
        let dying = thread::spawn(move || undertaker.bury_sender(process(1)));
        assert_eq!(receiver.receive().unwrap().value, 2);
        sending.join().unwrap();
        dying.join().unwrap();
    });
}

#[test]
fn a_sleeping_sender_learns_of_the_death_of_the_receiver_at_every_access() {
    explore_every_kill(|accesses| {
        let ring = Ring::single();
        let mut one = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        one.try_send(HALF, 1).unwrap();
        one.try_send(HALF, 2).unwrap();
        clock::start();
        let undertaker = ring.clone();
        let dying = thread::spawn(move || {
            let killed = killed_at(accesses, || _ = receiver.try_receive().unwrap());
            undertaker.bury_receiver(process(3));
            killed
        });
        match one.send(HALF, 3) {
            Ok(()) => assert_eq!(one.send(HALF, 4), Err(NotSent::PeerDied(3))),
            Err(why) => assert_eq!(why, NotSent::PeerDied(3)),
        }
        dying.join().unwrap()
    });
}
