//! Goal: in an elastic ring memory is never taken from under somebody who uses it, nor used before it was put there.
//!
//! Legal outcomes: as in any other ring; whoever reads or writes finds memory there, and nobody takes it meanwhile; what an
//! empty ring has are two chunks at most. A receiver that is killed at any access leaves a ring that its successor goes on
//! with; a sender that comes while memory is being taken goes on behind the last message.

use crate::{
    explore::{explore, explore_every_kill},
    harness::*,
    mortal::killed_at,
};
use loom::thread;

/// Most chunks that an empty ring has: that of the receiver's position and the one behind.
const EMPTY: usize = 2;

#[test]
fn memory_is_taken_only_after_it_was_read_and_used_again_only_after_it_was_taken() {
    explore(|| {
        let ring = Ring::elastic_single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        (1..=2).for_each(|value| sender.try_send(SHORT, value).unwrap());
        let sending = thread::spawn(move || sender.try_send(SHORT, 3).is_ok());
        let mut values: Vec<_> = (0..2).map(|_| receiver.try_receive().unwrap().value).collect();
        let sent = sending.join().unwrap();
        values.extend(std::iter::from_fn(|| receiver.try_receive().ok()).map(|message| message.value));
        assert_eq!(values, if sent { vec![1, 2, 3] } else { vec![1, 2] });
        assert!(ring.size() <= EMPTY);
    });
}

#[test]
fn memory_is_there_for_each_of_two_senders_and_the_header_behind_them() {
    explore(|| {
        let ring = Ring::elastic_many(2);
        let senders = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        let sending = senders.map(|mut sender| {
            thread::spawn(move || {
                let value = sender.slot() as u64;
                sender.try_send(SHORT, value).is_ok()
            })
        });
        let mut values: Vec<_> = receiver.try_receive().into_iter().map(|message| message.value).collect();
        let sent = sending.map(|thread| thread.join().unwrap());
        values.extend(std::iter::from_fn(|| receiver.try_receive().ok()).map(|message| message.value));
        assert_eq!(values.len(), sent.iter().filter(|&&sent| sent).count());
    });
}

#[test]
fn a_receiver_that_is_killed_at_every_access_leaves_all_that_it_had_not_released() {
    explore_every_kill(|accesses| {
        let ring = Ring::elastic_single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        (1..=2).for_each(|value| sender.try_send(SHORT, value).unwrap());
        let theirs = ring.clone();
        let receiving = thread::spawn(move || {
            let killed = killed_at(accesses, || _ = receiver.try_receive());
            theirs.bury_quietly(process(3));
            killed
        });
        let sent = sender.try_send(SHORT, 3).is_ok();
        let killed = receiving.join().unwrap();
        let mut successor = ring.receiver(process(4)).unwrap();
        let values: Vec<_> =
            std::iter::from_fn(|| successor.try_receive().ok()).map(|message| message.value).collect();
        let all: &[u64] = if sent { &[1, 2, 3] } else { &[1, 2] };
        assert!(values == all || values == all[1..], "{values:?}");
        assert!(ring.size() <= EMPTY);
        assert!(sender.try_send(SHORT, 4).is_ok(), "there is room again");
        killed
    });
}

#[test]
fn a_sender_that_comes_while_memory_is_taken_goes_on_behind_the_last_message() {
    explore(|| {
        let ring = Ring::elastic_single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        (1..=2).for_each(|value| sender.try_send(SHORT, value).unwrap());
        sender.close();
        let theirs = ring.clone();
        let sending = thread::spawn(move || theirs.sender(process(2)).unwrap().try_send(0, 3).is_ok());
        // Takes the memory of the first header.
        assert_eq!(receiver.try_receive().unwrap().value, 1);
        let sent = sending.join().unwrap();
        let values: Vec<_> =
            std::iter::from_fn(|| receiver.try_receive().ok()).map(|message| message.value).collect();
        assert_eq!(values, if sent { vec![2, 3] } else { vec![2] });
    });
}
