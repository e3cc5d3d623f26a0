//! Goal: one sender and one receiver, on a ring that holds two records of half its size, or four empty ones.
//!
//! Legal outcomes: every message once, in order, whole; `Full` and `Empty` only while the other side has not got there;
//! a batch whole or not at all; what was discarded never. A successor goes on where the last one stopped.

use crate::{
    explore::{explore, explore_each, explore_every_kill},
    harness::*,
    mortal::killed_at,
    ring::{recovery, reserve::Produce},
};
use loom::thread;

/// What is there now, released one by one.
fn drain(receiver: &mut Receiver) -> Vec<u64> {
    std::iter::from_fn(|| receiver.try_receive().ok()).map(|message| message.value).collect()
}

#[test]
fn what_is_sent_is_received() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(2)).unwrap();
        let sending = thread::spawn(move || sender.try_send(HALF, 7).unwrap());
        match receiver.try_receive() {
            Ok(message) => assert_eq!(message, Message { value: 7, slot: 1 }),
            Err(end) => assert_eq!(end, End::Empty),
        }
        sending.join().unwrap();
    });
}

#[test]
fn what_is_before_a_shown_tail_is_there() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let receiver = ring.receiver(process(2)).unwrap();
        let sending = thread::spawn(move || {
            // Before any bell is rung, which has a fence.
            let reserved = sender.try_reserve(HALF).unwrap();
            reserved.place(
                sender.producer.memory(),
                reserved.start,
                reserved.info_at(reserved.start, HALF, 0),
            );
            sender.producer.publish(reserved, reserved.end());
            sender.producer.show_tail();
        });
        assert_eq!(recovery::hidden(&receiver.consumer), None);
        sending.join().unwrap();
        assert_eq!(recovery::hidden(&receiver.consumer), None);
    });
}

#[test]
fn the_third_message_overwrites_the_first_only_after_it_was_read() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(2)).unwrap();
        sender.try_send(HALF, 1).unwrap();
        sender.try_send(HALF, 2).unwrap();
        let sending = thread::spawn(move || sender.try_send(HALF, 3));
        assert_eq!(receiver.try_receive().unwrap().value, 1);
        let sent = sending.join().unwrap();
        let rest: &[u64] = if sent.is_ok() { &[2, 3] } else { &[2] };
        assert_eq!(drain(&mut receiver), rest);
    });
}

#[test]
fn a_message_that_is_held_is_not_overwritten() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(2)).unwrap();
        sender.try_send(HALF, 1).unwrap();
        sender.try_send(HALF, 2).unwrap();
        let held = receiver.peek().unwrap();
        let sending = thread::spawn(move || sender.try_send(HALF, 3));
        assert_eq!(receiver.read(held).value, 1);
        assert_eq!(sending.join().unwrap(), Err(NotSent::Full));
        receiver.release(held.end);
    });
}

#[test]
fn a_full_ring_refuses_and_loses_nothing() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(2)).unwrap();
        let sending = thread::spawn(move || {
            let sent: Vec<u64> = (1..=3).filter(|value| sender.try_send(HALF, *value).is_ok()).collect();
            assert!(sent.starts_with(&[1, 2]));
            sent
        });
        let mut received = drain(&mut receiver);
        let sent = sending.join().unwrap();
        received.extend(drain(&mut receiver));
        assert_eq!(received, sent);
    });
}

#[test]
fn records_cross_the_end_of_the_area_at_every_unit() {
    explore_each(0..CAPACITY, |start| {
        let ring = Ring::single_at(start);
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(2)).unwrap();
        let sending = thread::spawn(move || {
            sender.try_send(HALF, 1).unwrap();
            sender.try_send(SHORT, 2).unwrap();
        });
        let mut received = drain(&mut receiver);
        sending.join().unwrap();
        received.extend(drain(&mut receiver));
        assert_eq!(received, [1, 2]);
    });
}

#[test]
fn positions_that_wrap_are_like_any_other() {
    explore(|| {
        let ring = Ring::single_at((1 << 56) - 5);
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(2)).unwrap();
        sender.try_send(HALF, 1).unwrap();
        let sending = thread::spawn(move || {
            let sent = [2, 3].map(|value| sender.try_send(SHORT, value).is_ok());
            assert!(sent[0]);
            sent[1]
        });
        let mut received = drain(&mut receiver);
        let third = sending.join().unwrap();
        received.extend(drain(&mut receiver));
        assert_eq!(received, if third { &[1, 2, 3][..] } else { &[1, 2] });
    });
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(2)).unwrap();
        let sending = thread::spawn(move || sender.batch(3 * HEADER, &[1, 2, 3]).unwrap());
        let received = drain(&mut receiver);
        assert!(received.is_empty() || received == [1, 2, 3], "{received:?}");
        sending.join().unwrap();
    });
}

#[test]
fn room_that_a_batch_does_not_use_is_there_for_the_next_message() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(2)).unwrap();
        let sending = thread::spawn(move || {
            sender.batch(CAPACITY, &[1, 2]).unwrap();
            sender.try_send(HALF, 3).unwrap();
        });
        let mut received = drain(&mut receiver);
        sending.join().unwrap();
        received.extend(drain(&mut receiver));
        assert_eq!(received, [1, 2, 3]);
    });
}

#[test]
fn what_was_discarded_is_passed_over() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(2)).unwrap();
        let sending = thread::spawn(move || {
            sender.try_reserve(HALF).unwrap();
            sender.discard();
            sender.try_send(HALF, 2).unwrap();
        });
        let mut received = drain(&mut receiver);
        sending.join().unwrap();
        received.extend(drain(&mut receiver));
        assert_eq!(received, [2]);
    });
}

#[test]
fn a_leaked_reservation_is_discarded_by_the_next_one() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(2)).unwrap();
        let sending = thread::spawn(move || {
            sender.try_reserve(SHORT).unwrap();
            sender.try_send(SHORT, 2).unwrap();
        });
        let mut received = drain(&mut receiver);
        sending.join().unwrap();
        received.extend(drain(&mut receiver));
        assert_eq!(received, [2]);
    });
}

#[test]
fn a_shortened_message_gives_the_rest_back() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(2)).unwrap();
        let sending = thread::spawn(move || {
            let reserved = sender.try_reserve(HALF).unwrap();
            sender.commit_shortened(reserved, HALF, SHORT, 1);
            sender.try_send(SHORT, 2).unwrap();
        });
        let mut received = drain(&mut receiver);
        sending.join().unwrap();
        received.extend(drain(&mut receiver));
        assert_eq!(received, [1, 2]);
    });
}

#[test]
fn a_successor_goes_on_behind_the_last_message_while_the_receiver_runs() {
    explore(|| {
        let ring = Ring::single();
        let mut receiver = ring.receiver(process(3)).unwrap();
        let mut first = ring.sender(process(1)).unwrap();
        let from_first = ring.clone();
        let sending = thread::spawn(move || {
            first.try_send(SHORT, 1).unwrap();
            first.close();
            let mut second = from_first.sender(process(2)).unwrap();
            second.try_send(SHORT, 2).unwrap();
        });
        let mut received = drain(&mut receiver);
        sending.join().unwrap();
        received.extend(drain(&mut receiver));
        assert_eq!(received, [1, 2]);
    });
}

#[test]
fn a_successor_goes_on_after_a_kill_at_every_access() {
    explore_every_kill(|accesses| {
        let ring = Ring::single();
        let mut receiver = ring.receiver(process(3)).unwrap();
        let mut first = ring.sender(process(1)).unwrap();
        let heir = ring.clone();
        let sending = thread::spawn(move || {
            let killed = killed_at(accesses, || {
                first.try_send(0, 1).unwrap();
                first.batch(2 * HEADER, &[2, 3]).unwrap();
            });
            heir.bury_quietly(process(1));
            heir.sender(process(2)).unwrap().try_send(0, 4).unwrap();
            killed
        });
        let mut received = drain(&mut receiver);
        let killed = sending.join().unwrap();
        received.extend(drain(&mut receiver));
        let legal: [&[u64]; 3] = [&[4], &[1, 4], &[1, 2, 3, 4]];
        assert!(legal.contains(&&received[..]), "{received:?}");
        killed
    });
}

#[test]
fn a_killed_batch_leaves_no_tag_that_a_later_lap_takes_for_a_message() {
    explore_every_kill(|accesses| {
        let ring = Ring::single();
        let mut receiver = ring.receiver(process(3)).unwrap();
        let mut first = ring.sender(process(1)).unwrap();
        let killed = killed_at(accesses, || first.batch(3 * HEADER, &[1, 2, 3]).unwrap());
        ring.bury_quietly(process(1));
        let mut second = ring.sender(process(2)).unwrap();
        // Up to where the second record of the batch has its tag.
        let sending = thread::spawn(move || second.try_send(0, 4).unwrap());
        let mut received = drain(&mut receiver);
        sending.join().unwrap();
        received.extend(drain(&mut receiver));
        assert!(received == [4] || received == [1, 2, 3, 4], "{received:?}");
        killed
    });
}

#[test]
fn a_new_receiver_gets_what_the_last_one_did_not_release() {
    explore_every_kill(|accesses| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut first = ring.receiver(process(2)).unwrap();
        sender.try_send(HALF, 1).unwrap();
        sender.try_send(HALF, 2).unwrap();
        let heir = ring.clone();
        let receiving = thread::spawn(move || {
            let mut read = 0;
            let killed = killed_at(accesses, || {
                for value in 1..=2 {
                    let record = first.peek().unwrap();
                    assert_eq!(first.read(record).value, value);
                    read = value;
                    first.release(record.end);
                }
            });
            heir.bury_quietly(process(2));
            match heir.receiver(process(3)).unwrap().try_receive() {
                Ok(Message { value, .. }) => {
                    assert!(value == read || value == read + 1, "{value} after {read}")
                }
                Err(end) => assert_eq!((read, end), (2, End::Empty)),
            }
            killed
        });
        let third = sender.try_send(HALF, 3);
        assert!(matches!(third, Ok(()) | Err(NotSent::Full)));
        receiving.join().unwrap()
    });
}
