//! Rings with a checksum behind each message. Who sends is another process; what is damaged, is so by this one, between commit and
//! receive, through the file.

mod common;

use common::{
    Child, FAR, Line,
    damage::{Bytes, HEADER_BITS, next_of},
    place::Place,
    rings::{Attach, Shared, Way, child_at, open},
};
use ringpost::{
    Builder, Lanes, LanesError, Many, OpenError, Receiver, RecvError, Ring, Select, Sender, SignalSender,
    Single, Source,
};
use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["one", ring, way] => say_all::<Single>(ring, way, &line),
        ["many", ring, way] => say_all::<Many>(ring, way, &line),
        _ => panic!("no such role: {words:?}"),
    });
}

/// Sends a message of each length that it hears, and answers.
fn say_all<K: Attach + ringpost::OneReceiver>(ring: &str, way: &str, line: &Line) {
    let mut sender: Sender<_, K> = K::attach(&open(ring, line)).unwrap();
    line.tell(sender.longest_message() as u64);
    while let Some(length) = line.next() {
        let message = message(length as usize);
        match way {
            "send" => sender.send(&message).unwrap(),
            "place" => {
                // Cut to what is needed.
                let room = (message.len() + 100).min(sender.longest_message());
                let mut reservation = sender.reserve(room).unwrap();
                reservation.write_at(0, &message);
                reservation.truncate(message.len());
                reservation.commit();
            }
            "acknowledge" => {
                let receipt = sender.send_acknowledged(&message).unwrap();
                line.tell(0);
                receipt.wait_timeout(FAR).unwrap();
            }
            "batch" => {
                let room = 3 * ringpost::record_size(message.len() + 4);
                let mut batch = sender.batch(room).unwrap();
                (0..3).for_each(|kind| batch.push(kind, &message).unwrap());
                batch.commit();
            }
            "handle" => {
                let handler = SignalSender::new(sender).unwrap();
                handler.try_send(0, &message).unwrap();
                sender = handler.take().unwrap();
            }
            _ => panic!("no such way: {way}"),
        }
        line.tell(0);
    }
}

/// Each byte depends on where it stands, and on the length.
fn message(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + length) as u8).collect()
}

fn guarded(builder: Builder) -> Builder {
    builder.capacity(1 << 16).checksummed()
}

/// A ring of each kind, and which sender it is for.
fn guarded_rings() -> [(Shared, &'static str); 3] {
    [
        (Shared::new(Way::Name, guarded), "one"),
        (Shared::new(Way::Pass, |builder| guarded(builder).many_senders(3)), "many"),
        (Shared::new(Way::Inherit, |builder| guarded(builder).elastic(1 << 18)), "one"),
    ]
}

fn sending(ring: &Shared, kind: &str, way: &str) -> (Child, usize) {
    let child = child_at(ring, kind, way);
    let longest = child.hear() as usize;
    (child, longest)
}

/// The bytes of a ring, who sends to it, and its receiver.
fn at_both_ends(ring: &Shared, kind: &str) -> (Bytes, Child, Receiver) {
    let (child, _) = sending(ring, kind, "send");
    (Bytes::of(&ring.ring), child, ring.ring.receiver().unwrap())
}

/// Has a message of this length sent.
fn say(child: &Child, length: u64) {
    child.tell(length);
    child.hear();
}

#[test]
fn messages_of_all_lengths_arrive_whole_however_they_are_sent_and_received() {
    for way in ["send", "place", "acknowledge", "batch", "handle"] {
        for (ring, kind) in guarded_rings() {
            if way == "handle" && ring.ring.info().elastic {
                continue;
            }
            let (child, longest) = sending(&ring, kind, way);
            let mut receiver = ring.ring.receiver().unwrap();
            let (mut count, mut bytes) = (0, 0);
            let few = [0, 1, 3, 4, 5, 7, 8, 9, 511, 512, 513, 1024, 5000];
            let lengths = few.into_iter().chain([longest].into_iter().filter(|_| way != "batch"));
            for length in lengths {
                child.tell(length as u64);
                child.hear();
                let copies = if way == "batch" { 3 } else { 1 };
                if length % 2 == 0 {
                    let messages = receiver.recv_many(9).unwrap();
                    assert_eq!(messages.iter().count(), copies);
                    assert!(messages.iter().all(|found| found.to_vec() == message(length)));
                } else {
                    let mut buffer = vec![0; length];
                    for _ in 1..copies {
                        assert_eq!(receiver.recv_into(&mut buffer), Ok(length));
                        assert_eq!(buffer, message(length));
                    }
                    let found = receiver.recv_timeout(FAR).unwrap();
                    assert_eq!((found.len(), found.to_vec()), (length, message(length)));
                }
                if way == "acknowledge" {
                    child.hear();
                }
                (count, bytes) = (count + copies, bytes + copies * length);
            }
            let statistics = ring.ring.statistics();
            assert_eq!((statistics.pending_messages(), statistics.pending_bytes()), (0, 0));
            let received = &statistics.receiver;
            assert_eq!((received.messages, received.bytes), (count as u64, bytes as u64), "{way}");
            child.hang_up();
            child.finish();
        }
    }
}

#[test]
fn each_bit_of_a_message_and_of_its_checksum_is_guarded_and_the_next_message_comes() {
    for (ring, kind) in guarded_rings() {
        let (bytes, child, mut receiver) = at_both_ends(&ring, kind);
        let say = |length| say(&child, length);
        for (length, bits) in [(0, 0..32), (1, 0..40), (21, 0..25 * 8), (600, 590 * 8..604 * 8)] {
            for bit in bits {
                let sequence = next_of(&mut receiver);
                say(length);
                bytes.flip(sequence, HEADER_BITS + bit);
                say(2);
                assert_eq!(receiver.recv().unwrap_err(), RecvError::Damaged { sequence }, "bit {bit}");
                assert_eq!(receiver.recv().unwrap().to_vec(), message(2));
            }
        }
        let statistics = ring.ring.statistics();
        assert_eq!((statistics.pending_messages(), statistics.pending_bytes()), (0, 0), "it was counted");
    }
}

#[test]
fn every_way_to_receive_tells_of_a_damaged_message_and_goes_on() {
    let ring = Shared::new(Way::Name, guarded);
    let (bytes, child, mut receiver) = at_both_ends(&ring, "one");
    // Three messages, of which the one in the middle is damaged: gives its number.
    let three = |receiver: &mut Receiver| {
        let sequence = next_of(receiver) + 4;
        [10, 11, 12].into_iter().for_each(|length| say(&child, length));
        bytes.flip(sequence, HEADER_BITS + 3);
        sequence
    };

    let sequence = three(&mut receiver);
    assert_eq!(receiver.recv_many(9).unwrap().iter().count(), 1);
    assert_eq!(receiver.try_recv_many(9).unwrap_err(), RecvError::Damaged { sequence });
    assert_eq!(receiver.recv_many(9).unwrap().iter().next().unwrap().to_vec(), message(12));

    let sequence = three(&mut receiver);
    let mut buffer = [0; 12];
    assert_eq!(receiver.recv_into(&mut buffer), Ok(10));
    assert_eq!(receiver.recv_into(&mut buffer), Err(RecvError::Damaged { sequence }));
    assert_eq!(receiver.recv_into(&mut buffer[..3]), Err(RecvError::BufferTooSmall { length: 12 }));
    assert_eq!(receiver.recv_into(&mut buffer), Ok(12));

    let sequence = three(&mut receiver);
    assert_eq!(receiver.try_iter().map(|message| message.len()).collect::<Vec<_>>(), [10]);
    // The iterator has ended at it, and it was told of there.
    let _ = sequence;
    assert_eq!(receiver.try_iter().map(|message| message.len()).collect::<Vec<_>>(), [12]);

    let sequence = three(&mut receiver);
    assert_eq!(received(&mut receiver), Ok(10));
    assert_eq!(received(&mut receiver), Err(RecvError::Damaged { sequence }));
    assert_eq!(received(&mut receiver), Ok(12));

    let sequence = three(&mut receiver);
    let mut select = Select::new();
    let key = select.add(receiver).unwrap();
    for expected in [Ok(10), Err(RecvError::Damaged { sequence }), Ok(12)] {
        assert_eq!(select.wait_timeout(FAR), Ok(key.id()));
        assert_eq!(select[key].try_recv().map(|message| message.len()), expected);
    }

    let mut receiver = select.remove(key).unwrap();
    let sequence = three(&mut receiver);
    let mut lanes = Lanes::new();
    let lane = lanes.add(receiver).unwrap();
    for expected in [Ok(10), Err(LanesError::Damaged { lane, sequence }), Ok(12)] {
        assert_eq!(lanes.recv_timeout(FAR).map(|(_, message)| message.len()), expected);
    }
    let mut receiver = lanes.remove(lane).unwrap();
    let sequence = three(&mut receiver);
    let lane = lanes.add(receiver).unwrap();
    for expected in [Ok(10), Err(LanesError::Damaged { lane, sequence }), Ok(12)] {
        assert_eq!(lanes.recv_from(lane).map(|message| message.len()), expected);
    }
}

#[test]
fn what_is_damaged_while_several_are_held_is_not_given_and_told_of_by_the_next_call() {
    for (ring, kind) in guarded_rings() {
        let (bytes, child, mut receiver) = at_both_ends(&ring, kind);
        for (damaged, bit) in
            (0..2).flat_map(|damaged| (0..HEADER_BITS + 14 * 8).map(move |bit| (damaged, bit)))
        {
            let sequence = next_of(&mut receiver) + 4 * damaged;
            [10, 11, 12].into_iter().for_each(|length| say(&child, length));
            let several = receiver.recv_many(9).unwrap();
            bytes.flip(sequence, bit);
            assert_eq!(several.iter().count() as u64, damaged, "bit {bit} of {damaged}");
            drop(several);
            assert_eq!(
                receiver.recv().unwrap_err(),
                RecvError::Damaged { sequence },
                "bit {bit} of {damaged}"
            );
            for length in (11 + damaged as usize)..13 {
                assert_eq!(receiver.recv().unwrap().to_vec(), message(length));
            }
        }
    }
}

#[test]
fn a_message_of_a_lap_before_whose_tag_is_damaged_into_that_of_this_lap_is_none() {
    for (ring, kind) in guarded_rings() {
        let (bytes, child, mut receiver) = at_both_ends(&ring, kind);
        let say = || say(&child, 10);
        let (first, lap) = (next_of(&mut receiver), ring.ring.info().capacity / 8);
        say();
        assert_eq!(receiver.recv().unwrap().to_vec(), message(10));
        // The bit of the position that counts laps.
        bytes.flip(first, 8 + u64::from(lap.ilog2()));
        while next_of(&mut receiver) != first + lap {
            say();
            assert_eq!(receiver.recv().unwrap().to_vec(), message(10));
        }
        assert!(receiver.is_empty());
        assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)).unwrap_err(), RecvError::TimedOut);
        say();
        assert_eq!(receiver.recv().unwrap().to_vec(), message(10));
        assert_eq!(ring.ring.statistics().pending_messages(), 0);
    }
}

/// What a future gives that is ready.
fn received(receiver: &mut Receiver) -> Result<usize, RecvError> {
    let mut receiving = receiver.received();
    match Future::poll(Pin::new(&mut receiving), &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(message) => message.map(|message| message.len()),
        Poll::Pending => panic!("there is a message"),
    }
}

#[test]
fn a_ring_without_checksums_tells_of_no_damage() {
    let ring = Shared::new(Way::Name, |builder| builder);
    let (bytes, child, mut receiver) = at_both_ends(&ring, "one");
    let sequence = next_of(&mut receiver);
    child.tell(8);
    child.hear();
    bytes.flip(sequence, HEADER_BITS);
    assert_ne!(receiver.recv().unwrap().to_vec(), message(8));
}

#[test]
fn the_checksum_lies_behind_the_message_as_the_document_says() {
    let ring = guarded(ringpost::unnamed()).memfd().unwrap();
    let bytes = Bytes::of(&ring);
    let mut receiver = ring.receiver().unwrap();
    let sequence = next_of(&mut receiver);
    ring.sender().unwrap().send(b"123456789").unwrap();
    let mut record = [0; 32];
    bytes.read_record(sequence, &mut record);
    assert_eq!(record[12..16], 13u32.to_le_bytes(), "both count");
    assert_eq!(record[16..25], *b"123456789");
    assert_eq!(crc_32c(b"123456789"), 0xe306_9283, "its check value");
    let covered = [&record[16..25], &record[8..16], &sequence.to_le_bytes()].concat();
    assert_eq!(
        record[25..29],
        crc_32c(&covered).to_le_bytes(),
        "the message, then the second word of its header, then its number"
    );
    assert_eq!(bytes.flags() & 16, 16);
}

/// Bit by bit.
fn crc_32c(bytes: &[u8]) -> u32 {
    let shift = |sum: u32, _| sum >> 1 ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(!0, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), shift))
}

#[test]
fn the_longest_message_leaves_room_for_its_checksum() {
    let plain = ringpost::unnamed().capacity(4096).memfd().unwrap().info();
    let ring = ringpost::unnamed().capacity(4096).checksummed().memfd().unwrap();
    assert!(ring.info().checksummed && !plain.checksummed);
    assert_eq!(ring.info().longest_message + 4, plain.longest_message);
    let asked = plain.longest_message as u64;
    let refused = ringpost::unnamed().capacity(4096).checksummed().longest_message(asked).memfd();
    assert!(
        matches!(refused, Err(OpenError::Setting { given, most, .. }) if given == asked && most == asked - 4)
    );
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    for _ in 0..3 {
        sender.try_send(&message(asked as usize - 4)).unwrap();
        assert_eq!(receiver.recv().unwrap().to_vec(), message(asked as usize - 4));
    }
}

#[test]
fn who_asks_for_checksums_gets_them_or_is_refused() {
    let refused = |ring: Result<Ring, OpenError>| {
        let error = ring.expect_err("it can't have checksums");
        assert!(
            matches!(error, OpenError::Mismatch { .. }) && error.to_string().contains("checksum"),
            "{error}"
        );
    };
    let guarded = || ringpost::unnamed().capacity(1 << 16).checksummed();
    refused(guarded().broadcast(2).memfd());
    refused(ringpost::unnamed().mailbox(2).checksummed().memfd());
    refused(guarded().rendezvous().memfd());
    assert!(guarded().in_process().err().unwrap().to_string().contains("checksum"));
    let place = Place::new();
    assert!(guarded().listen(&*place).err().unwrap().to_string().contains("checksum"));

    let plain = Shared::new(Way::Name, |builder| builder);
    let with = Shared::new(Way::Name, |builder| builder.checksummed());
    let name = |ring: &Shared| ring.invite().word.split_once(':').unwrap().1.to_owned();
    refused(ringpost::builder(name(&plain)).checksummed().open());
    assert!(ringpost::builder(name(&with)).checksummed().open().is_ok());
    assert!(ringpost::builder(name(&with)).open().unwrap().info().checksummed);
}
