//! Rings inside one process, between its threads: what Miri and ThreadSanitizer look at, because they can't follow a
//! mapping that two processes share. The proof between processes is in `processes.rs`.
//!
//! ```text
//! just miri
//! just tsan
//! ```
//!
//! Each message is a stretch of one byte value that its number decides: a race on a payload shows as a torn message even
//! where no tool looks.

mod common;

use common::{rings::Attach, stream::scatter};
use ringpost::{Builder, Many, RecvError, Ring, SendError, Single, Start, Trusted, WaitStrategy};
use std::{mem, thread};

/// Messages of each sender.
const MESSAGES: u64 = match () {
    () if cfg!(miri) => 40,
    () => 20_000,
};

const STRATEGIES: [WaitStrategy; 3] = [WaitStrategy::SpinThenSleep, WaitStrategy::Sleep, WaitStrategy::Spin];

/// Least capacity: the ring is full and empty all the time.
fn small(senders: u64) -> Ring<Trusted> {
    let builder = |builder: Builder| if senders > 1 { builder.many_senders(senders as u8) } else { builder };
    builder(ringpost::unnamed().capacity(4096)).in_process().unwrap()
}

/// Message `number` of `sender`: it begins with both, and goes on with one byte.
fn payload(sender: u64, number: u64) -> Vec<u8> {
    let mut bytes = vec![number as u8; 8 + (scatter(number) % 500) as usize];
    bytes[..8].copy_from_slice(&(sender << 32 | number).to_ne_bytes());
    bytes
}

/// Sends all messages of one sender, in each way that there is.
fn send_all<K: Attach>(ring: &Ring<Trusted>, number_of_sender: u64, wait: WaitStrategy) {
    let mut sender = K::attach(ring).unwrap();
    sender.set_wait(wait);
    let mut number = 0;
    while number < MESSAGES {
        let bytes = payload(number_of_sender, number);
        match scatter(number) >> 32 & 7 {
            0 => {
                mem::forget(sender.reserve(100).unwrap());
                let mut reservation = sender.reserve(bytes.len()).unwrap();
                reservation.copy_from_slice(&bytes);
                reservation.commit();
            }
            1 => {
                let mut reservation = sender.reserve(600).unwrap();
                reservation[..bytes.len()].copy_from_slice(&bytes);
                reservation.truncate(bytes.len());
                drop(reservation);
                sender.send(&bytes).unwrap();
            }
            2 => {
                let mut reservation = sender.reserve(600).unwrap();
                reservation[..bytes.len()].copy_from_slice(&bytes);
                reservation.truncate(bytes.len());
                reservation.commit();
            }
            3 => {
                let mut batch = sender.batch(1800).unwrap();
                while number < MESSAGES && batch.push(0, &payload(number_of_sender, number)).is_ok() {
                    number += 1;
                }
                batch.commit();
                continue;
            }
            _ => sender.send(&bytes).unwrap(),
        }
        number += 1;
    }
}

/// Receives all messages of all senders, one or several at a time.
fn receive_all(ring: &Ring<Trusted>, senders: u64, wait: WaitStrategy) {
    let mut receiver = ring.receiver().unwrap();
    receiver.set_wait(wait);
    let mut next = vec![0; senders as usize];
    let mut check = |bytes: &[u8]| {
        let head = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
        let (sender, number) = (head >> 32, head & 0xffff_ffff);
        assert_eq!(number, next[sender as usize], "of sender {sender}");
        assert_eq!(bytes, payload(sender, number));
        next[sender as usize] += 1;
    };
    let mut received = 0;
    while received < senders * MESSAGES {
        if received % 3 == 0 {
            match receiver.recv_many(4) {
                Ok(messages) => {
                    let count = messages.iter().inspect(|message| check(message)).count();
                    assert!(count > 0);
                    received += count as u64;
                }
                // The next sender has not attached yet.
                Err(error) => assert_eq!(error, RecvError::Disconnected),
            }
        } else {
            match receiver.recv() {
                Ok(message) => {
                    check(&message);
                    received += 1;
                }
                Err(error) => assert_eq!(error, RecvError::Disconnected),
            }
        }
    }
    drop(receiver);
}

fn stress<K: Attach>(senders: u64) {
    for wait in STRATEGIES {
        let ring = small(senders);
        thread::scope(|threads| {
            for sender in 0..senders {
                let ring = &ring;
                threads.spawn(move || send_all::<K>(ring, sender, wait));
            }
            receive_all(&ring, senders, wait);
        });
        assert_eq!(ring.statistics().sent(), senders * MESSAGES);
    }
}

#[test]
fn one_sender_blocks_and_is_blocked_upon() {
    stress::<Single>(1);
}

#[test]
fn two_senders_block_and_are_blocked_upon() {
    stress::<Many>(2);
}

#[test]
fn four_senders_block_and_are_blocked_upon() {
    stress::<Many>(if cfg!(miri) { 3 } else { 4 });
}

#[test]
fn each_message_is_answered_before_the_next() {
    let (there, back) = (small(1), small(2));
    thread::scope(|threads| {
        threads.spawn(|| {
            let (mut receiver, mut sender) = (there.receiver().unwrap(), back.multi_sender().unwrap());
            for _ in 0..MESSAGES {
                let bytes = receiver.recv().unwrap().to_vec();
                sender.send(&bytes).unwrap();
            }
        });
        let (mut sender, mut receiver) = (there.sender().unwrap(), back.receiver().unwrap());
        for number in 0..MESSAGES {
            sender.send(&payload(1, number)).unwrap();
            assert_eq!(*receiver.recv().unwrap(), payload(1, number));
        }
    });
}

#[test]
fn a_sender_that_waits_for_room_learns_that_the_receiver_has_closed() {
    for wait in STRATEGIES {
        let ring = small(1);
        let (mut sender, receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
        sender.set_wait(wait);
        thread::scope(|threads| {
            let end = threads.spawn(move || (0..).find_map(|n| sender.send(&payload(0, n)).err()));
            while ring.statistics().senders[0].blocked == 0 {
                thread::yield_now();
            }
            drop(receiver);
            assert_eq!(end.join().unwrap(), Some(SendError::Disconnected));
        });
    }
}

#[test]
fn senders_come_and_go_while_the_receiver_goes_on() {
    let ring = small(2);
    let rounds = if cfg!(miri) { 6 } else { 300 };
    thread::scope(|threads| {
        for side in 0..2 {
            let ring = &ring;
            threads.spawn(move || {
                for number in 0..rounds {
                    // The slot that was left comes free when the receiver has passed what it sent.
                    let mut sender =
                        std::iter::from_fn(|| Some(ring.multi_sender())).find_map(Result::ok).unwrap();
                    sender.send(&payload(side, number)).unwrap();
                }
            });
        }
        let mut receiver = ring.receiver().unwrap();
        let mut next = [0; 2];
        while next.iter().sum::<u64>() < 2 * rounds {
            let Ok(message) = receiver.recv() else { continue };
            let head = u64::from_ne_bytes(message[..8].try_into().unwrap());
            let next = &mut next[(head >> 32) as usize];
            assert_eq!(*message, payload(head >> 32, *next));
            *next += 1;
        }
    });
}

#[test]
fn readers_join_and_look_on_while_the_sender_writes_in_place() {
    let ring = ringpost::unnamed().capacity(4096).broadcast(2).in_process().unwrap();
    // Who is overtaken reads in a race, to Miri: the kernel's pages have none.
    let mut watcher = (!cfg!(miri)).then(|| ring.watcher(Start::Oldest).unwrap());
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut publisher = ring.publisher().unwrap();
            for number in 0..MESSAGES {
                let bytes = payload(0, number);
                let mut reservation = publisher.reserve(bytes.len()).unwrap();
                reservation.copy_from_slice(&bytes);
                reservation.commit();
            }
        });
        threads.spawn(|| {
            for start in [Start::Now, Start::Oldest, Start::Last(3)].into_iter().cycle().take(if cfg!(miri) {
                6
            } else {
                300
            }) {
                let mut reader = ring.subscriber_from(start).unwrap();
                if let Ok(message) = reader.try_recv() {
                    assert_eq!(*message, payload(0, u64::from_ne_bytes(message[..8].try_into().unwrap())));
                }
            }
        });
        let Some(watcher) = &mut watcher else { return };
        let mut number = 0;
        loop {
            match watcher.recv() {
                Ok(message) => assert_eq!(*message, payload(0, number)),
                Err(RecvError::Missed { count }) => {
                    number += count;
                    continue;
                }
                Err(end) => break assert_eq!((end, number), (RecvError::Disconnected, MESSAGES)),
            }
            number += 1;
        }
    });
}
