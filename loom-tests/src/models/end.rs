//! Goal: the orderly end. The protocol of `Listening::has_ended` and `report_end` in `src/channel/receiver/listening.rs` and of
//! `Attachment::drop` in `src/channel/attach.rs`, in the harness's few lines.
//!
//! Legal outcomes: everything that was sent before the end is received before it; the end is reported only when nobody is
//! attached who had been; a ring whose end was reported is like new to the next receiver.

use crate::{explore::explore, harness::*};
use loom::thread;

#[test]
fn the_end_comes_after_the_last_message() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        let sending = thread::spawn(move || {
            sender.try_send(SHORT, 1).unwrap();
            sender.close();
        });
        assert_eq!(receiver.receive().unwrap().value, 1);
        assert_eq!(receiver.receive(), Err(End::Disconnected));
        sending.join().unwrap();
    });
}

#[test]
fn the_end_comes_when_the_last_of_two_has_closed() {
    explore(|| {
        let ring = Ring::many(2);
        let mut receiver = ring.receiver(process(3)).unwrap();
        let closing = [1, 2].map(|number| {
            let mut sender = ring.multi_sender(process(number)).unwrap();
            sender.try_send(0, number as u64).unwrap();
            thread::spawn(move || sender.close())
        });
        for number in 1..=2 {
            assert_eq!(receiver.receive().unwrap().value, number);
        }
        // Once, and again to who asks again.
        for _ in 0..2 {
            assert_eq!(receiver.receive(), Err(End::Disconnected));
        }
        for thread in closing {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_sender_that_stays_keeps_the_end_away() {
    explore(|| {
        let ring = Ring::many(2);
        let mut receiver = ring.receiver(process(3)).unwrap();
        let [one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let closing = thread::spawn(move || one.close());
        let sending = thread::spawn(move || {
            two.try_send(SHORT, 2).unwrap();
            two
        });
        assert_eq!(receiver.receive().unwrap().value, 2);
        let two = sending.join().unwrap();
        closing.join().unwrap();
        assert_eq!(receiver.try_receive(), Err(End::Empty));
        two.close();
        assert_eq!(receiver.try_receive(), Err(End::Disconnected));
    });
}

#[test]
fn a_sender_that_comes_at_the_end_is_heard() {
    explore(|| {
        let ring = Ring::single();
        let first = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        let heir = ring.clone();
        let sending = thread::spawn(move || {
            first.close();
            let mut second = heir.sender(process(2)).unwrap();
            second.try_send(SHORT, 2).unwrap();
            second.close();
        });
        let first = receiver.receive();
        sending.join().unwrap();
        if first == Err(End::Disconnected) {
            // Between the two.
            assert_eq!(receiver.receive().unwrap().value, 2);
        } else {
            assert_eq!(first.unwrap().value, 2);
        }
        assert_eq!(receiver.receive(), Err(End::Disconnected));
    });
}

#[test]
fn what_was_sent_before_the_receiver_came_is_received_and_then_the_end() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let sending = thread::spawn(move || {
            sender.try_send(SHORT, 1).unwrap();
            sender.close();
        });
        let mut receiver = ring.receiver(process(3)).unwrap();
        assert_eq!(receiver.receive().unwrap().value, 1);
        assert_eq!(receiver.receive(), Err(End::Disconnected));
        sending.join().unwrap();
    });
}

#[test]
fn an_end_that_was_reported_is_not_reported_to_the_next_receiver() {
    explore(|| {
        let ring = Ring::single();
        ring.sender(process(1)).unwrap().close();
        let mut first = ring.receiver(process(2)).unwrap();
        let receiving = thread::spawn(move || {
            assert_eq!(first.try_receive(), Err(End::Disconnected));
            first.close();
        });
        if let Ok(mut second) = ring.receiver(process(3)) {
            assert_eq!(second.try_receive(), Err(End::Empty));
        }
        receiving.join().unwrap();
    });
}

#[test]
fn a_sender_sees_that_the_receiver_has_closed_and_a_new_one_has_come() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let first = ring.receiver(process(2)).unwrap();
        let heir = ring.clone();
        let receiving = thread::spawn(move || {
            first.close();
            heir.receiver(process(3)).unwrap()
        });
        let sent = sender.try_send(SHORT, 1);
        assert!([Ok(()), Err(NotSent::Disconnected)].contains(&sent));
        let mut second = receiving.join().unwrap();
        assert_eq!(sender.try_send(SHORT, 2), Ok(()));
        let first = if sent.is_ok() { 1 } else { 2 };
        assert_eq!(second.try_receive().unwrap().value, first);
    });
}

#[test]
fn an_end_is_not_taken_for_reported_while_a_message_before_it_was_not_seen() {
    explore(|| {
        let ring = Ring::single().asymmetric();
        ring.sender(process(1)).unwrap().close();
        let mut first = ring.receiver(process(3)).unwrap();
        let heir = ring.clone();
        let sending = thread::spawn(move || {
            let mut second = heir.sender(process(2)).unwrap();
            // Bare: no fence stands between its commit and its closing.
            second.calm();
            second.try_send(SHORT, 2).unwrap();
            second.close();
        });
        let seen = first.try_receive();
        ring.bury_quietly(process(3));
        sending.join().unwrap();
        let mut next = ring.receiver(process(4)).unwrap();
        if seen.is_err() {
            assert_eq!(next.try_receive().unwrap().value, 2);
        }
        assert_eq!(next.try_receive(), Err(End::Disconnected));
    });
}
