//! Room in the ring is given to who waits for it as soon as it is there, whatever lay in it, and whatever its receiver does next.

mod common;

use common::{
    FAR,
    rings::{Shared, Way, child_at, open},
};
use ringpost::{
    Broadcast, Many, OneReceiver, Receiver, RecvError, Ring, SendError, Sender, SenderKind, Single, Trust,
    Untrusted, unnamed,
};
use std::{sync::mpsc, thread};

const CAPACITY: u64 = 4096;
/// Two don't fit into the ring.
const LARGE: usize = 3000;

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["reserve", ring] => {
            let mut sender = open(ring, &line).multi_sender().unwrap();
            std::mem::forget(sender.reserve(LARGE).unwrap());
            line.tell(0);
            line.hear();
        }
        _ => panic!("no such role: {words:?}"),
    });
}

/// The sender gives up a large message, sends what `between` sends, and waits for room for another large one, until it sleeps
/// and wants any. `pass_over` then brings the receiver behind what was given up, and may hold what it finds there: `waits` becomes
/// false when the sender has its room, true when it still waits long after that.
fn after_a_discarded_message<K: SenderKind>(
    ring: &Ring,
    mut sender: Sender<Untrusted, K>,
    between: &[&[u8]],
    pass_over: impl FnOnce(&dyn Fn() -> bool),
) {
    drop(sender.reserve(LARGE).unwrap());
    between.iter().for_each(|message| sender.send(message).unwrap());
    while_it_waits(ring, sender, pass_over);
}

/// The sender waits for room for a large message; once it wants any, `go_on` is called, which can ask whether it still waits long
/// after that.
fn while_it_waits<K: SenderKind>(
    ring: &Ring,
    mut sender: Sender<Untrusted, K>,
    go_on: impl FnOnce(&dyn Fn() -> bool),
) {
    let (sent, has_sent) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            sender.send(&[0; LARGE]).unwrap();
            sent.send(()).unwrap();
        });
        // From its second sleep on it wants to be woken as soon as there is any room.
        while ring.statistics().senders[0].sleeps < 2 {
            thread::yield_now();
        }
        go_on(&|| has_sent.recv_timeout(FAR / 6).is_err());
    });
}

/// A ring, and its ends.
fn with_one_receiver<K: OneReceiver>(
    ring: Ring,
    sender: impl FnOnce(&Ring) -> Sender<Untrusted, K>,
    between: &[&[u8]],
    pass_over: impl FnOnce(&mut Receiver, &dyn Fn() -> bool),
) {
    let (sender, mut receiver) = (sender(&ring), ring.receiver().unwrap());
    after_a_discarded_message(&ring, sender, between, |waits| pass_over(&mut receiver, waits));
}

fn of_one(between: &[&[u8]], pass_over: impl FnOnce(&mut Receiver, &dyn Fn() -> bool)) {
    let ring = unnamed().capacity(CAPACITY).memfd().unwrap();
    with_one_receiver::<Single>(ring, |ring| ring.sender().unwrap(), between, pass_over);
}

fn of_many(between: &[&[u8]], pass_over: impl FnOnce(&mut Receiver, &dyn Fn() -> bool)) {
    let ring = unnamed().capacity(CAPACITY).many_senders(2).memfd().unwrap();
    with_one_receiver::<Many>(ring, |ring| ring.multi_sender().unwrap(), between, pass_over);
}

/// Receives what lies behind, and holds it.
fn hold(receiver: &mut Receiver, waits: &dyn Fn() -> bool) {
    let message = receiver.recv().unwrap();
    let waited = waits();
    assert_eq!(message.to_vec(), b"behind");
    drop(message);
    assert!(!waited, "a sender waits for room that is there");
}

/// Only asks whether there is a message.
fn ask(receiver: &mut Receiver, waits: &dyn Fn() -> bool) {
    assert!(receiver.is_empty());
    let waited = waits();
    if waited {
        assert!(receiver.try_recv().is_err());
    }
    assert!(!waited, "a sender waits for room that is there");
}

#[test]
fn the_room_of_a_discarded_message_is_given_although_the_one_behind_it_is_held() {
    of_one(&[b"behind"], hold);
    of_many(&[b"behind"], hold);
}

#[test]
fn the_room_of_a_discarded_message_is_given_by_a_look_whether_the_ring_is_empty() {
    of_one(&[], ask);
    of_many(&[], ask);
}

#[test]
fn a_reader_that_holds_the_message_behind_a_discarded_one_holds_up_nobody_for_that() {
    let ring = unnamed().capacity(CAPACITY).broadcast(1).memfd().unwrap();
    let publisher: Sender<Untrusted, Broadcast> = ring.publisher().unwrap();
    let mut reader = ring.subscriber().unwrap();
    after_a_discarded_message(&ring, publisher, &[b"behind"], |waits| {
        let message = reader.recv().unwrap();
        let waited = waits();
        assert_eq!(message.to_vec(), b"behind");
        drop(message);
        assert!(!waited, "the sender waits for room that is there");
    });
}

#[test]
fn the_room_of_a_dead_sender_is_given_by_who_only_asks_who_has_died() {
    let shared = Shared::new(Way::Name, |builder| builder.capacity(CAPACITY).many_senders(2));
    let (ring, mut receiver) = (&shared.ring, shared.ring.receiver().unwrap());
    let sender = ring.multi_sender().unwrap();
    let mut child = child_at(&shared, "reserve", "");
    child.hear();
    while_it_waits(ring, sender, |waits| {
        child.kill();
        while receiver.next_death().is_none() {
            thread::yield_now();
        }
        let waited = waits();
        if waited {
            assert!(receiver.try_recv().is_err());
        }
        assert!(!waited, "a sender waits for room that is there");
    });
}

#[test]
fn a_leaked_reservation_is_given_up_although_the_receiver_has_closed() {
    let ring = unnamed().capacity(CAPACITY).many_senders(2).memfd().unwrap();
    let receiver = ring.receiver().unwrap();
    let mut careless = ring.multi_sender().unwrap();
    std::mem::forget(careless.reserve(8).unwrap());
    drop(receiver);
    assert!(matches!(careless.try_send(b"nobody"), Err(SendError::Disconnected)));
    let mut receiver = ring.receiver().unwrap();
    ring.multi_sender().unwrap().send(b"behind").unwrap();
    assert_eq!(receiver.try_recv().unwrap().to_vec(), b"behind");
}

#[test]
fn a_ring_with_a_message_behind_a_discarded_one_is_not_counted_as_found_empty() {
    let ring = unnamed().capacity(CAPACITY).memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    drop(sender.reserve(8).unwrap());
    sender.send(b"behind").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"behind");
    let found = ring.statistics().receiver;
    assert_eq!((found.refused, found.blocked), (0, 0));
}

/// A sender has waited for room and has got it. Whoever finds the ring empty then looks for others who were left asleep, once.
fn a_receiver_that_finds_nothing_wakes_nobody<P: Trust>(ring: &Ring<P>) {
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    // One that has slept for long asks for any room, and is woken with all others.
    let mut was_woken_in_time = false;
    while !was_woken_in_time {
        let mut there = 1;
        while sender.try_send(&[0; LARGE / 3]).is_ok() {
            there += 1;
        }
        let sleeps = ring.statistics().senders[0].sleeps;
        thread::scope(|scope| {
            scope.spawn(|| sender.send(&[0; LARGE / 3]).unwrap());
            while ring.statistics().senders[0].sleeps == sleeps {
                thread::yield_now();
            }
            (0..there).for_each(|_| drop(receiver.recv().unwrap()));
        });
        was_woken_in_time = ring.statistics().senders[0].sleeps == sleeps + 1;
    }
    let wakes = || ring.statistics().receiver.wakes;
    let before = wakes();
    for _ in 0..100 {
        assert_eq!(receiver.try_recv().err(), Some(RecvError::Empty));
    }
    assert!(wakes() <= before + 1, "{} wakes of nobody", wakes() - before);
}

#[test]
fn a_receiver_that_finds_nothing_wakes_nobody_between_processes_and_inside_one() {
    a_receiver_that_finds_nothing_wakes_nobody(&unnamed().capacity(CAPACITY).memfd().unwrap());
    a_receiver_that_finds_nothing_wakes_nobody(&unnamed().capacity(CAPACITY).in_process().unwrap());
}
