//! What a receiver is told of senders that have died, or that keep it waiting.

mod common;

use common::{
    Child, FAR,
    rings::{Shared, Way, child_at, open},
};
use ringpost::{Builder, RecvError, Ring, record_size};
use std::{
    thread,
    time::{Duration, Instant},
};

const LENGTH: usize = 100;

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["reserve", ring, length] => {
            let mut sender = open(ring, &line).multi_sender().unwrap();
            let reservation = sender.reserve(length.parse().unwrap()).unwrap();
            line.tell(0);
            line.hear();
            reservation.commit();
        }
        ["attach", ring] => {
            let _sender = open(ring, &line).multi_sender().unwrap();
            line.tell(0);
            line.hear();
        }
        ["crowd", ring, count] => {
            let ring = open(ring, &line);
            let _senders: Vec<_> =
                (0..count.parse::<u32>().unwrap()).map(|_| ring.multi_sender().unwrap()).collect();
            line.tell(0);
            line.hear();
        }
        _ => panic!("no such role: {words:?}"),
    });
}

fn many_senders() -> Shared {
    Shared::new(Way::Inherit, |builder: Builder| builder.capacity(1 << 16).many_senders(4))
}

/// A child that has a sender, in a reservation or not.
fn child(ring: &Shared, role: &str, length: impl ToString) -> Child {
    let child = child_at(ring, role, &length.to_string());
    child.hear();
    child
}

/// The bytes of the ring that a record takes.
fn bytes_of(length: usize) -> u64 {
    record_size(length) as u64
}

fn until_the_receiver_sleeps(ring: &Ring) {
    while ring.statistics().receiver.sleeps == 0 {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(10));
}

#[test]
fn each_sender_that_died_is_named_once_and_a_later_end_is_an_orderly_one() {
    let ring = many_senders();
    let mut receiver = ring.ring.receiver().unwrap();
    let mut dead = [child(&ring, "attach", ""), child(&ring, "reserve", LENGTH)];
    dead.iter_mut().for_each(Child::kill);
    let mut told: Vec<_> = (0..2).map(|_| receiver.recv_timeout(FAR).unwrap_err()).collect();
    let last = told[1];
    told.sort_by_key(|error| matches!(error, RecvError::PeerDied { unfinished: 1.., .. }));
    let [idle, reserving] = dead.each_ref().map(Child::id);
    let unfinished = bytes_of(LENGTH);
    assert_eq!(
        told,
        [
            RecvError::PeerDied { pid: idle, unfinished: 0 },
            RecvError::PeerDied { pid: reserving, unfinished }
        ]
    );
    assert_eq!(receiver.recv().unwrap_err(), last, "until another sender comes");

    let mut sender = ring.ring.multi_sender().unwrap();
    sender.send(b"new").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"new");
    let idle = receiver.recv_timeout(Duration::from_millis(5)).unwrap_err();
    assert_eq!(idle, RecvError::TimedOut);
    drop(sender);
    assert_eq!(receiver.recv_timeout(FAR).unwrap_err(), RecvError::Disconnected);
}

#[test]
fn a_death_is_told_of_while_others_live() {
    let ring = many_senders();
    let mut receiver = ring.ring.receiver().unwrap();
    let mut sender = ring.ring.multi_sender().unwrap();
    let mut child = child(&ring, "reserve", LENGTH);
    sender.send(b"behind it").unwrap();
    assert_eq!(receiver.next_death(), None);
    child.kill();
    let start = Instant::now();
    let death = loop {
        match receiver.next_death() {
            Some(death) => break death,
            None => assert!(start.elapsed() < FAR),
        }
    };
    assert_eq!((death.sender.pid, death.unfinished), (child.id(), bytes_of(LENGTH)));
    assert_eq!(receiver.next_death(), None);
    assert_eq!(receiver.recv().unwrap().to_vec(), b"behind it");
    drop(sender);
    assert_eq!(receiver.recv_timeout(FAR).unwrap_err(), RecvError::Disconnected);
}

#[test]
fn who_is_named_as_dead_while_nobody_else_lives_ends_the_wait_all_the_same() {
    let ring = many_senders();
    let mut receiver = ring.ring.receiver().unwrap();
    let mut child = child(&ring, "attach", "");
    child.kill();
    let start = Instant::now();
    while receiver.next_death().is_none() {
        assert!(start.elapsed() < FAR);
    }
    let died = RecvError::PeerDied { pid: child.id(), unfinished: 0 };
    assert_eq!(receiver.recv_timeout(FAR).unwrap_err(), died);
    assert_eq!(receiver.recv_timeout(FAR).unwrap_err(), died, "until another sender comes");
}

#[test]
fn an_orderly_end_is_no_death_of_somebody_before() {
    let ring = many_senders();
    let mut receiver = ring.ring.receiver().unwrap();
    let mut dead = child(&ring, "attach", "");
    dead.kill();
    let died = RecvError::PeerDied { pid: dead.id(), unfinished: 0 };
    assert_eq!(receiver.recv_timeout(FAR).unwrap_err(), died);
    // It comes, sends and goes before the receiver looks again.
    ring.ring.multi_sender().unwrap().send(b"in order").unwrap();
    assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), b"in order");
    assert_eq!(receiver.recv_timeout(FAR).unwrap_err(), RecvError::Disconnected);
    assert_eq!(receiver.recv_timeout(FAR).unwrap_err(), RecvError::Disconnected);
}

#[test]
fn a_receiver_that_comes_after_a_death_was_told_waits_for_the_next_sender() {
    let ring = many_senders();
    let mut dead = child(&ring, "reserve", LENGTH);
    dead.kill();
    let died = RecvError::PeerDied { pid: dead.id(), unfinished: bytes_of(LENGTH) };
    assert_eq!(ring.ring.receiver().unwrap().recv_timeout(FAR).unwrap_err(), died);
    let mut next = ring.ring.receiver().unwrap();
    assert_eq!(next.recv_timeout(Duration::from_millis(300)).unwrap_err(), RecvError::TimedOut);
    let mut again = child(&ring, "attach", "");
    again.kill();
    let died = RecvError::PeerDied { pid: again.id(), unfinished: 0 };
    assert_eq!(next.recv_timeout(FAR).unwrap_err(), died);
}

#[test]
fn a_stopped_sender_is_named_with_the_age_of_its_reservation() {
    let ring = many_senders();
    let mut receiver = ring.ring.receiver().unwrap();
    let mut sender = ring.ring.multi_sender().unwrap();
    assert_eq!(receiver.recv_timeout(Duration::ZERO).unwrap_err(), RecvError::TimedOut);
    assert_eq!(receiver.stalled(), None);
    let child = child(&ring, "reserve", LENGTH);
    sender.send(b"behind it").unwrap();
    child.stop();
    let mut age = Duration::ZERO;
    for _ in 0..3 {
        let wait = Duration::from_millis(20);
        assert_eq!(receiver.recv_timeout(wait).unwrap_err(), RecvError::TimedOut);
        let stall = receiver.stalled().unwrap();
        assert_eq!(stall.sender.pid, child.id());
        assert!(stall.age >= age + wait / 2, "{:?} after {age:?}", stall.age);
        age = stall.age;
    }
    child.resume();
    child.tell(0);
    assert_eq!(receiver.recv_timeout(FAR).unwrap().sender().pid, child.id());
    assert_eq!(receiver.stalled(), None);
    assert_eq!(receiver.recv().unwrap().to_vec(), b"behind it");
    child.finish();
}

#[test]
fn room_that_a_dead_sender_held_goes_to_whoever_waits_for_it() {
    let ring = many_senders();
    let (mut receiver, mut sender) = (ring.ring.receiver().unwrap(), ring.ring.multi_sender().unwrap());
    let mut child = child(&ring, "reserve", sender.longest_message());
    thread::scope(|threads| {
        threads.spawn(move || sender.send_timeout(b"at last", FAR).unwrap());
        let received = threads.spawn(move || receiver.recv_timeout(FAR).unwrap().to_vec());
        until_the_receiver_sleeps(&ring.ring);
        while ring.ring.statistics().senders.iter().all(|sender| sender.sleeps < 2) {
            thread::yield_now();
        }
        child.kill();
        assert_eq!(received.join().unwrap(), b"at last");
    });
}

/// More than a thread can sleep on at once: the rest it looks at from time to time.
#[test]
fn the_death_of_one_among_more_than_can_be_slept_on_is_learnt_of() {
    let ring = Shared::new(Way::Inherit, |builder: Builder| builder.capacity(1 << 16).many_senders(200));
    let mut receiver = ring.ring.receiver().unwrap();
    let crowd = child(&ring, "crowd", 150);
    let mut last = child(&ring, "attach", "");
    last.kill();
    let start = Instant::now();
    let death = loop {
        assert!(start.elapsed() < FAR, "nobody told of it");
        match receiver.next_death() {
            Some(death) => break death,
            None => thread::yield_now(),
        }
    };
    assert_eq!((death.sender.pid, death.sender.slot), (last.id(), 151));
    assert_eq!(receiver.next_death(), None);
    crowd.tell(0);
    crowd.finish();
    assert_eq!(receiver.recv_timeout(FAR).map(drop), Err(RecvError::Disconnected));
}
