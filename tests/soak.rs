//! Very many messages through one ring, every byte of each compared, with all counters starting just below their wrap.
//!
//! Short form: 200,000 messages of each kind of ring. Long form: 1,000,000,000.
//!
//! ```text
//! RINGPOST_LONG=1 cargo test --release --package ringpost --test soak -- --nocapture --test-threads=1
//! ```

mod common;

use common::{
    Child, FAR, Line,
    rings::{Attach, Shared, Way, child_at, open},
    stream::Stream,
};
use ringpost::{Builder, Many, Ring, Single};
use std::{collections::HashMap, fs::File, os::unix::fs::FileExt, time::Instant};

const LONGEST: usize = 4096;

#[test]
fn child_process() {
    common::play_role(act);
}

fn act(words: &[&str], line: Line) {
    let ["send", ring, number, messages] = *words else { panic!("no such role: {words:?}") };
    let (ring, number, messages) = (open(ring, &line), number.parse().unwrap(), messages.parse().unwrap());
    match ring.info().many_senders {
        None => send::<Single>(ring, number, messages),
        Some(_) => send::<Many>(ring, number, messages),
    }
}

fn send<K: Attach>(ring: Ring, number: u64, messages: u64) {
    // SAFETY: all processes of this test use the ring only through ringpost once they have attached.
    let mut sender = K::attach(&unsafe { ring.trust_peers() }).unwrap();
    let stream = Stream::new(LONGEST);
    for message in 0..messages {
        let letter = stream.letter(number, message);
        let mut reservation = sender.reserve(letter.bytes.len()).unwrap();
        reservation.copy_from_slice(letter.bytes);
        reservation.set_kind(letter.kind);
        reservation.commit();
    }
}

/// Sets the numbers that have no setting of their own: whom to wake, how many have closed, how often somebody has come.
fn just_below_their_wrap(ring: &Ring) {
    const BELOW: [u8; 4] = (u32::MAX - 20).to_ne_bytes();
    let file = File::from(ring.fd().unwrap().try_clone_to_owned().unwrap());
    for area in [4096, 8192] {
        // Wanted, granted, closings (or those seen), attachments.
        for word in [128, 136, 140, 144] {
            file.write_all_at(&BELOW, area + word).unwrap();
        }
    }
}

fn soak(senders: u64) {
    let all: u64 = if common::long() { 1_000_000_000 } else { 200_000 };
    let set = |builder: Builder| builder.longest_message(LONGEST as u64).start_position((1 << 56) - 1000);
    let ring = match senders {
        1 => Shared::new(Way::Inherit, set),
        _ => Shared::new(Way::Inherit, |builder| set(builder).many_senders(senders as u8)),
    };
    just_below_their_wrap(&ring.ring);
    // SAFETY: as in `send`.
    let mut receiver = unsafe { ring.ring.clone().trust_peers() }.receiver().unwrap();
    let start = Instant::now();
    let children: Vec<_> =
        (0..senders).map(|number| child_at(&ring, "send", &format!("{number} {}", all / senders))).collect();
    let numbers: HashMap<u32, u64> = children.iter().map(Child::id).zip(0..).collect();
    let (stream, mut next) = (Stream::new(LONGEST), vec![0; senders as usize]);
    for _ in 0..all {
        let message = receiver.recv_timeout(FAR).unwrap();
        let number = numbers[&message.sender().pid];
        let expected = stream.letter(number, next[number as usize]);
        assert_eq!((message.kind(), message.len()), (expected.kind, expected.bytes.len()));
        assert!(*message == *expected.bytes, "message {} of sender {number}", next[number as usize]);
        next[number as usize] += 1;
    }
    assert!(next.iter().all(|&count| count == all / senders));
    children.into_iter().for_each(Child::finish);
    println!("{all} messages of {senders} senders in {:.0} s", start.elapsed().as_secs_f64());
}

#[test]
fn every_message_of_one_sender_arrives_however_many() {
    soak(1);
}

#[test]
fn every_message_of_four_senders_arrives_however_many() {
    soak(4);
}
