//! Goal: two or three senders and one receiver, on a ring that holds two records of half its size, or four empty ones.
//!
//! Legal outcomes: every message once, in one total order that is the order of each sender; nobody reserves room that
//! somebody else has; a batch stands together; what was discarded or given back is passed over; an unfinished record
//! holds back those behind it and no other.

use crate::{
    explore::explore,
    harness::*,
    ring::{mpsc, recovery},
};
use loom::thread;

type MultiSender = Sender<mpsc::Producer>;

/// What is there now, released one by one.
fn drain(receiver: &mut Receiver) -> Vec<Message> {
    std::iter::from_fn(|| receiver.try_receive().ok()).collect()
}

fn values(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.value).collect()
}

/// Two senders do as told while the receiver receives: all messages, in the order in which they came.
fn two_senders(
    ring: Ring,
    first: impl FnOnce(MultiSender) + 'static,
    second: impl FnOnce(MultiSender) + 'static,
) -> Vec<Message> {
    let senders = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
    let mut receiver = ring.receiver(process(3)).unwrap();
    let [one, two] = senders;
    let sending = [thread::spawn(move || first(one)), thread::spawn(move || second(two))];
    let mut received = drain(&mut receiver);
    for thread in sending {
        thread.join().unwrap();
    }
    received.extend(drain(&mut receiver));
    received
}

#[test]
fn two_messages_come_each_once_from_who_sent_them() {
    explore(|| {
        let received = two_senders(
            Ring::many(2),
            |mut one| one.try_send(HALF, 1).unwrap(),
            |mut two| two.try_send(HALF, 2).unwrap(),
        );
        let (first, second) = (Message { value: 1, slot: 1 }, Message { value: 2, slot: 2 });
        assert!(received == [first, second] || received == [second, first], "{received:?}");
    });
}

#[test]
fn three_senders_have_one_order() {
    explore(|| {
        let ring = Ring::many(3);
        let mut receiver = ring.receiver(process(4)).unwrap();
        let mut senders = [1, 2, 3].map(|number| ring.multi_sender(process(number)).unwrap());
        senders[2].try_send(0, 3).unwrap();
        let [mut one, mut two, _three] = senders;
        let first = thread::spawn(move || one.try_send(0, 1).unwrap());
        let second = thread::spawn(move || two.try_send(0, 2).unwrap());
        let mut received = values(&drain(&mut receiver));
        first.join().unwrap();
        second.join().unwrap();
        received.extend(values(&drain(&mut receiver)));
        assert!(received == [3, 1, 2] || received == [3, 2, 1], "{received:?}");
    });
}

#[test]
fn the_order_of_each_sender_is_kept() {
    explore(|| {
        let received = two_senders(
            Ring::many(2),
            |mut one| (1..=2).for_each(|value| one.try_send(0, value).unwrap()),
            |mut two| two.try_send(0, 3).unwrap(),
        );
        let received = values(&received);
        let legal: [&[u64]; 3] = [&[1, 2, 3], &[1, 3, 2], &[3, 1, 2]];
        assert!(legal.contains(&&received[..]), "{received:?}");
    });
}

#[test]
fn room_for_one_is_given_to_one() {
    explore(|| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        one.try_send(HALF, 1).unwrap();
        let first = thread::spawn(move || one.try_send(HALF, 2).is_ok());
        let second = thread::spawn(move || two.try_send(HALF, 3).is_ok());
        let sent = [first.join().unwrap(), second.join().unwrap()];
        assert_eq!(sent.into_iter().filter(|sent| *sent).count(), 1);
        let mut receiver = ring.receiver(process(3)).unwrap();
        assert_eq!(values(&drain(&mut receiver)), [1, if sent[0] { 2 } else { 3 }]);
    });
}

#[test]
fn room_that_the_receiver_gives_back_is_given_to_one() {
    explore(|| {
        let ring = Ring::many(2);
        let mut receiver = ring.receiver(process(3)).unwrap();
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        one.try_send(HALF, 1).unwrap();
        two.try_send(HALF, 2).unwrap();
        let first = thread::spawn(move || one.try_send(HALF, 3).is_ok());
        let second = thread::spawn(move || two.try_send(HALF, 4).is_ok());
        assert_eq!(receiver.try_receive().unwrap().value, 1);
        let sent = [first.join().unwrap(), second.join().unwrap()];
        let received = values(&drain(&mut receiver));
        match sent {
            [false, false] => assert_eq!(received, [2]),
            [true, false] => assert_eq!(received, [2, 3]),
            [false, true] => assert_eq!(received, [2, 4]),
            [true, true] => panic!("two records in the room of one"),
        }
    });
}

#[test]
fn a_sender_that_knows_of_free_room_is_never_refused() {
    explore(|| {
        let ring = Ring::many(2);
        let mut receiver = ring.receiver(process(3)).unwrap();
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        one.try_send(HALF, 1).unwrap();
        one.try_send(HALF, 2).unwrap();
        let memory = ring.memory.clone();
        let first = thread::spawn(move || one.try_send(HALF, 3).is_ok());
        let second = thread::spawn(move || {
            let all_received = memory.head().units() == 3 * HALF_UNITS;
            // Its tail may be older than the position that it has seen.
            if all_received {
                two.try_send(HALF, 4).unwrap();
            }
            all_received
        });
        let mut received = values(&drain(&mut receiver));
        let third = first.join().unwrap();
        let fourth = second.join().unwrap();
        received.extend(values(&drain(&mut receiver)));
        assert_eq!(received.len(), 2 + usize::from(third) + usize::from(fourth), "{received:?}");
        assert!([1, 2, 3, 4].starts_with(&received), "{received:?}");
    });
}

#[test]
fn the_third_message_overwrites_the_first_only_after_it_was_read() {
    explore(|| {
        let ring = Ring::many(2);
        let mut receiver = ring.receiver(process(3)).unwrap();
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        one.try_send(HALF, 1).unwrap();
        one.try_send(HALF, 2).unwrap();
        let sending = thread::spawn(move || two.try_send(HALF, 3).is_ok());
        assert_eq!(receiver.try_receive().unwrap().value, 1);
        let sent = sending.join().unwrap();
        let rest: &[u64] = if sent { &[2, 3] } else { &[2] };
        assert_eq!(values(&drain(&mut receiver)), rest);
    });
}

#[test]
fn room_for_two_that_comes_bit_by_bit_is_given_to_two_at_most() {
    explore(|| {
        let ring = Ring::many(2);
        let mut receiver = ring.receiver(process(3)).unwrap();
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        one.try_send(HALF, 1).unwrap();
        one.try_send(HALF, 2).unwrap();
        let receiving = thread::spawn(move || [(); 2].map(|()| receiver.try_receive().unwrap().value));
        let other = thread::spawn(move || two.try_send(HALF, 3).is_ok());
        let sent = one.try_send(HALF, 4).is_ok();
        assert_eq!(receiving.join().unwrap(), [1, 2]);
        let others = other.join().unwrap();
        let reserved = ring.memory.senders().tail.peek() >> 8;
        assert_eq!(reserved, (2 + u64::from(sent) + u64::from(others)) * HALF_UNITS);
    });
}

#[test]
fn a_batch_stands_together() {
    explore(|| {
        let received = two_senders(
            Ring::many(2),
            |mut one| one.batch(3 * HEADER, &[1, 2, 3]).unwrap(),
            |mut two| two.try_send(0, 4).unwrap(),
        );
        let received = values(&received);
        assert!(received == [1, 2, 3, 4] || received == [4, 1, 2, 3], "{received:?}");
    });
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    explore(|| {
        let ring = Ring::many(2);
        let mut receiver = ring.receiver(process(3)).unwrap();
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        two.try_send(0, 4).unwrap();
        let sending = thread::spawn(move || one.batch(3 * HEADER, &[1, 2, 3]).unwrap());
        let received = values(&drain(&mut receiver));
        assert!(received == [4] || received == [4, 1, 2, 3], "{received:?}");
        sending.join().unwrap();
    });
}

#[test]
fn room_that_a_batch_does_not_use_is_passed_over() {
    explore(|| {
        let received = two_senders(
            Ring::many(2),
            |mut one| one.batch(3 * HEADER, &[1]).unwrap(),
            |mut two| two.try_send(0, 2).unwrap(),
        );
        let received = values(&received);
        assert!(received == [1, 2] || received == [2, 1], "{received:?}");
    });
}

#[test]
fn what_was_discarded_is_passed_over() {
    explore(|| {
        let received = two_senders(
            Ring::many(2),
            |mut one| {
                one.try_reserve(SHORT).unwrap();
                one.discard();
            },
            |mut two| two.try_send(SHORT, 2).unwrap(),
        );
        assert_eq!(values(&received), [2]);
    });
}

#[test]
fn one_unit_that_is_given_back_is_passed_over() {
    explore(|| {
        let received = two_senders(
            Ring::many(2),
            |mut one| {
                let reserved = one.try_reserve(SHORT).unwrap();
                one.commit_shortened(reserved, SHORT, 0, 1);
            },
            |mut two| two.try_send(SHORT, 2).unwrap(),
        );
        let received = values(&received);
        assert!(received == [1, 2] || received == [2, 1], "{received:?}");
    });
}

#[test]
fn a_leaked_reservation_is_discarded_by_the_next_one() {
    explore(|| {
        let received = two_senders(
            Ring::many(2),
            |mut one| {
                one.try_reserve(0).unwrap();
                one.try_send(0, 1).unwrap();
            },
            |mut two| two.try_send(0, 2).unwrap(),
        );
        let received = values(&received);
        assert!(received == [1, 2] || received == [2, 1], "{received:?}");
    });
}

#[test]
fn an_unfinished_record_holds_back_what_is_behind_it() {
    explore(|| {
        let ring = Ring::many(2);
        let mut receiver = ring.receiver(process(3)).unwrap();
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let reserved = one.try_reserve(HALF).unwrap();
        let behind = thread::spawn(move || two.try_send(HALF, 2).unwrap());
        assert_eq!(receiver.try_receive(), Err(End::Empty));
        one.commit(reserved, HALF, 1);
        let mut received = values(&drain(&mut receiver));
        behind.join().unwrap();
        received.extend(values(&drain(&mut receiver)));
        assert_eq!(received, [1, 2]);
    });
}

#[test]
fn positions_that_wrap_are_like_any_other() {
    explore(|| {
        let received = two_senders(
            Ring::many_at(2, (1 << 56) - 2),
            |mut one| one.try_send(SHORT, 1).unwrap(),
            |mut two| two.try_send(HALF, 2).unwrap(),
        );
        let received = values(&received);
        assert!(received == [1, 2] || received == [2, 1], "{received:?}");
    });
}

#[test]
fn nothing_is_taken_for_hidden_that_is_only_not_there_yet() {
    explore(|| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        let first = thread::spawn(move || {
            one.try_send(0, 1).unwrap();
            one.try_send(0, 2).unwrap();
            one.close();
        });
        let second = thread::spawn(move || two.try_send(0, 3).unwrap());
        assert_eq!(recovery::hidden(&receiver.consumer), None);
        while receiver.try_receive().is_ok() {}
        assert_eq!(recovery::hidden(&receiver.consumer), None);
        first.join().unwrap();
        second.join().unwrap();
    });
}
