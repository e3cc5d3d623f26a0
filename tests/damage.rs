//! What becomes of a message in a ring with checksums whose header was damaged. Who sends is another process; this one damages, through
//! the file, what was committed.

mod common;

use common::{
    Child, FAR, Line,
    damage::{Bytes, next_of},
    rings::{Attach, Shared, Way, child_at, open},
};
use ringpost::{
    Builder, ByteReader, Dispatcher, Many, Receiver, RecvError, Ring, SelectError, Sender, Single,
};
use std::{
    cell::RefCell,
    io::{ErrorKind, Read},
    time::Duration,
};

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["one", ring] => say_all::<Single>(ring, &line),
        ["many", ring] => say_all::<Many>(ring, &line),
        _ => panic!("no such role: {words:?}"),
    });
}

/// Sends a message of each length that it hears, of the kind of its length, and answers.
fn say_all<K: Attach>(ring: &str, line: &Line) {
    let mut sender: Sender<_, K> = K::attach(&open(ring, line)).unwrap();
    while let Some(length) = line.next() {
        sender.send_kind(length as u16, &message(length as usize)).unwrap();
        line.tell(0);
    }
}

/// Each byte depends on where it stands, and on the length.
fn message(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + length) as u8).collect()
}

/// A ring with checksums, who sends there, and its file.
struct Scene {
    ring: Shared,
    child: Child,
    bytes: Bytes,
}

impl Scene {
    fn new(way: Way, kind: &str, set: impl Fn(Builder) -> Builder) -> Self {
        let ring = Shared::new(way, |builder| set(builder.capacity(1 << 16).checksummed()));
        let child = child_at(&ring, kind, "");
        let bytes = Bytes::of(&ring.ring);
        Self { ring, child, bytes }
    }

    fn of_one() -> Self {
        Self::new(Way::Name, "one", |builder| builder)
    }

    /// One of each kind, and whether it is for many senders.
    fn all() -> [(Self, bool); 3] {
        [
            (Self::of_one(), false),
            (Self::new(Way::Pass, "many", |builder| builder.many_senders(3)), true),
            (Self::new(Way::Inherit, "one", |builder| builder.elastic(1 << 18)), false),
        ]
    }

    fn ring(&self) -> &Ring {
        &self.ring.ring
    }

    fn say(&self, lengths: &[u64]) {
        for &length in lengths {
            self.child.tell(length);
            self.child.hear();
        }
    }
}

/// Where length, kind and sender stand in a record, in bits.
const INFO: std::ops::Range<u64> = 64..128;

#[track_caller]
fn expect(receiver: &mut Receiver, length: usize) {
    let found = receiver.recv_timeout(FAR).unwrap();
    assert_eq!((found.kind(), found.to_vec()), (length as u16, message(length)));
}

#[test]
fn a_bit_of_the_length_the_kind_or_the_sender_damages_that_message_alone() {
    for (scene, _) in Scene::all() {
        let mut receiver = scene.ring().receiver().unwrap();
        // As long as its neighbours, so that wrong lengths end where others begin; and the last one.
        for lengths in [[12, 12, 12, 12].as_slice(), &[0, 21, 3, 600], &[30]] {
            for bit in INFO {
                let sequence = next_of(&mut receiver);
                scene.say(lengths);
                scene.bytes.flip(sequence, bit);
                assert_eq!(receiver.recv().unwrap_err(), RecvError::Damaged { sequence }, "bit {bit}");
                lengths[1..].iter().for_each(|&length| expect(&mut receiver, length as usize));
                assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty, "bit {bit}");
            }
        }
        let statistics = scene.ring().statistics();
        assert_eq!((statistics.pending_messages(), statistics.pending_bytes()), (0, 0), "it was counted");
    }
}

#[test]
fn a_message_whose_tag_was_damaged_is_told_of_and_the_next_one_comes() {
    for (scene, many) in Scene::all() {
        let mut receiver = scene.ring().receiver().unwrap();
        for bit in 0..64 {
            let sequence = next_of(&mut receiver);
            scene.say(&[9]);
            scene.bytes.flip(sequence, bit);
            if many && ![1, 2].contains(&bit) {
                // It may not have been committed yet, as far as can be seen, until its sender has sent again.
                let moment = Duration::from_millis(1);
                assert_eq!(receiver.recv_timeout(moment).unwrap_err(), RecvError::TimedOut, "bit {bit}");
                assert_eq!(receiver.stalled().unwrap().sender.pid, scene.child.id());
            }
            scene.say(&[5]);
            let damaged = receiver.recv_timeout(FAR).unwrap_err();
            assert_eq!(damaged, RecvError::Damaged { sequence }, "bit {bit}");
            expect(&mut receiver, 5);
        }
    }
}

#[test]
fn nobody_takes_a_ring_for_empty_or_ended_in_which_a_message_lies_whose_tag_was_damaged() {
    for (scene, many) in Scene::all() {
        let mut receiver = scene.ring().receiver().unwrap();
        let sequence = next_of(&mut receiver);
        scene.say(&[9]);
        scene.bytes.flip(sequence, 20);
        if !many {
            assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Damaged { sequence });
            scene.say(&[9]);
            scene.bytes.flip(sequence + 4, 20);
        }
        scene.child.hang_up();
        scene.child.finish();
        assert!(matches!(receiver.recv().unwrap_err(), RecvError::Damaged { .. }));
        assert_eq!(receiver.recv().unwrap_err(), RecvError::Disconnected);
    }
}

#[test]
fn a_sender_that_comes_goes_on_behind_what_was_damaged() {
    // The tag, and the length, shorter and longer: a walk over the records would end there, or lead elsewhere.
    for (bit, killed) in [20, 99, 100].into_iter().flat_map(|bit| [(bit, false), (bit, true)]) {
        for (Scene { ring, mut child, bytes }, _) in Scene::all().into_iter().filter(|&(_, many)| !many) {
            let mut receiver = ring.ring.receiver().unwrap();
            let sequence = next_of(&mut receiver);
            for length in [9, 5] {
                child.tell(length);
                child.hear();
            }
            bytes.flip(sequence, bit);
            if killed {
                child.kill();
            } else {
                child.hang_up();
                child.finish();
            }
            let mut sender = ring.ring.sender().unwrap();
            for length in [7, 8] {
                sender.send_kind(length, &message(length.into())).unwrap();
            }
            let damaged = receiver.recv_timeout(FAR).unwrap_err();
            assert_eq!(damaged, RecvError::Damaged { sequence }, "bit {bit}");
            [5, 7, 8].into_iter().for_each(|length| expect(&mut receiver, length));
        }
    }
}

#[test]
fn where_nothing_tells_how_long_a_damaged_record_is_it_is_said_again_and_again() {
    let scene = Scene::of_one();
    let mut receiver = scene.ring().receiver().unwrap();
    let sequence = next_of(&mut receiver);
    scene.say(&[9, 5]);
    // The highest bit of the length that the ring takes, and the first one of the message.
    scene.bytes.flip(sequence, 96 + 14);
    scene.bytes.flip(sequence, 128);
    for _ in 0..3 {
        let corrupt = receiver.recv().unwrap_err();
        assert_eq!(corrupt, RecvError::Corrupt { sequence, length: 13 | 1 << 14 });
    }
}

#[test]
fn a_stream_verifies_each_message_once_before_its_first_byte() {
    let scene = Scene::of_one();
    let mut receiver = scene.ring().receiver().unwrap();
    let sequence = next_of(&mut receiver);
    scene.say(&[600, 7, 3]);
    let mut reader = ByteReader::new(receiver);
    let mut bytes = [0; 600];
    reader.read_exact(&mut bytes[..100]).unwrap();
    // Behind its back: it was verified.
    scene.bytes.flip(sequence, 128 + 8 * 500);
    reader.read_exact(&mut bytes[100..]).unwrap();
    bytes[500] ^= 1;
    assert_eq!(bytes, *message(600));

    let next = sequence + 2 + 604_u64.div_ceil(8);
    scene.bytes.flip(next, 128);
    assert_eq!(reader.read(&mut bytes).unwrap_err().kind(), ErrorKind::InvalidData);
    reader.read_exact(&mut bytes[..3]).unwrap();
    assert_eq!(bytes[..3], message(3));
}

#[test]
fn a_dispatcher_tells_of_a_damaged_message_and_goes_on_behind_it() {
    let scene = Scene::of_one();
    let mut receiver = scene.ring().receiver().unwrap();
    let sequence = next_of(&mut receiver);
    scene.say(&[9, 5, 6]);
    scene.bytes.flip(sequence + 4, 128);
    let (heard, ends) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let mut dispatcher = Dispatcher::new();
    let handler = |message: ringpost::Message<'_>| heard.borrow_mut().push(message.len());
    let key = dispatcher.add(receiver, handler, |_, error| ends.borrow_mut().push(error)).unwrap();
    let damaged = SelectError::Damaged { source: key.id(), sequence: sequence + 4 };
    assert_eq!(dispatcher.run(), Err(damaged));
    assert_eq!((&*heard.borrow(), ends.borrow().len()), (&vec![9], 0));
    scene.child.hang_up();
    assert_eq!(dispatcher.run(), Ok(()));
    assert_eq!((&*heard.borrow(), &*ends.borrow()), (&vec![9, 6], &vec![RecvError::Disconnected]));
}
